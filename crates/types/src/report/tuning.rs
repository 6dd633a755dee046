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
    /// What lies between the weights that the run began with and those that were kept.
    pub mixtures: Vec<Mixture>,
    /// The share of the kept weights that is served; 0 is the linear probe on the backbone as it came.
    pub share: f64,
    /// Quality of the linear probe that the run began with, on the held-out items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Estimate>,
    /// What is served minus that linear probe, on the same held-out items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<Difference>,
}

/// One pass over the items learned from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pass {
    /// Mean loss of the items learned from, as the weights moved.
    pub loss: f64,
    /// Share of the right answers on the items that stop the run.
    pub held_out_accuracy: f64,
    /// Mean log loss on them.
    pub held_out_loss: f64,
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
