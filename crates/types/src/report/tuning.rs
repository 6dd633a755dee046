//! How the training of a backbone itself went.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::quality::Estimate;
use super::transfer::Difference;

/// What training the backbone itself did. Figures of rows that stopped the run chose among its weights and flatter a little;
/// `frozen` and `gain` are of the held-out items, which had no part in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tuning {
    /// Numbers that were trained, the head's included.
    #[schema(example = 10_620_000)]
    pub weights: u64,
    /// Bytes that the change of the backbone is stored in.
    pub stored_bytes: u64,
    /// Items learned from.
    pub learned_from: usize,
    /// Items that stopped the run and chose among its weights.
    pub stopped_by: usize,
    /// Every pass over the items, in order.
    pub epochs: Vec<Pass>,
    /// The pass whose weights were kept, from 1.
    pub kept_epoch: usize,
    /// What lies between the weights that the run began with and those that were kept; nothing where no item stopped it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mixtures: Vec<Mixture>,
    /// The share of the kept weights that is served; 0 is the linear probe on the backbone as it came.
    pub share: f64,
    /// Quality of the linear probe that the run began with, on the held-out items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Estimate>,
    /// What is served minus that linear probe, on the same held-out items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<Difference>,
    /// The same graph trained from random weights, where the job asked for it (`from_random`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_random: Option<FromRandom>,
}

/// Pretrained against random weights of the same graph, on the items that stop a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FromRandom {
    /// Shares of right answers from pretrained weights: before the first pass, and behind each.
    pub pretrained: Vec<f64>,
    /// The same from random ones.
    pub random: Vec<f64>,
    /// Before the first pass: pretrained minus random.
    pub start: f64,
    /// Over the first pass: what pretrained gain minus what random ones do.
    pub slope: f64,
    /// At the best pass of each: pretrained minus random.
    pub asymptote: f64,
    /// The same in words.
    pub sentence: String,
}

/// One pass over the items learned from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pass {
    /// Mean loss of the items learned from, as the weights moved.
    pub loss: f64,
    /// Share of the right answers on the items that stop the run, where there are such and the head is trained along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_accuracy: Option<f64>,
    /// Mean log loss on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_loss: Option<f64>,
}

/// Weights between those that a run began with and those it kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Mixture {
    /// The share of the kept ones.
    pub share: f64,
    /// Share of the right answers on the items that stop the run.
    pub held_out_accuracy: f64,
    /// Mean log loss on them.
    pub held_out_loss: f64,
}
