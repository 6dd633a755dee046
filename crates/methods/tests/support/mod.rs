//! Small labelled features, and controls that record and break off.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test may fail here")]

use std::{ops::ControlFlow, sync::Arc};

use headstart_methods::{
    Checkpoint, Control,
    data::{Examples, Targets},
    head::{Backbone, Head},
    rng::Rng,
};
use ndarray::Array2;

/// Where the features are said to come from.
pub(crate) const BACKBONE: fn() -> Backbone = || Backbone { id: "test".to_owned(), sha256: "00".to_owned() };

pub(crate) fn examples(features: Array2<f32>, targets: Targets, classes: usize) -> Examples {
    let names: Arc<[String]> = (0..classes).map(|class| class.to_string()).collect();
    Examples::new(features, targets, names, None).unwrap()
}

/// `rows` points around one centre a class; a greater `spread` is harder.
pub(crate) fn blobs(rows: usize, dim: usize, classes: usize, spread: f64, seed: u64) -> Examples {
    let mut centres = Rng::new(77);
    let centres = Array2::from_shape_fn((classes, dim), |_| centres.unit() - 0.5);
    let mut rng = Rng::new(seed);
    let labels: Vec<u32> = (0..rows).map(|row| (row % classes) as u32).collect();
    let features = Array2::from_shape_fn((rows, dim), |(row, column)| {
        let noise = rng.unit() + rng.unit() + rng.unit() - 1.5;
        (centres[[row % classes, column]] + spread * noise) as f32
    });
    examples(features, Targets::Single(labels), classes)
}

/// The same with two labels: the blob, and whether the first feature is above its middle.
pub(crate) fn two_labels(rows: usize, seed: u64) -> Examples {
    let plain = blobs(rows, 6, 2, 0.3, seed);
    let features = plain.features();
    let labels = features.outer_iter().enumerate().map(|(row, x)| {
        let blob = plain.targets().of(row)[0];
        (0..3).filter(|&label| label == blob || (label == 2 && x[0] > 0.0)).collect()
    });
    examples(plain.features().to_owned(), Targets::Multi(labels.collect()), 3)
}

pub(crate) fn accuracy(head: &Head, on: &Examples) -> f64 {
    let logits = head.logits(on.features()).unwrap();
    let right = logits.outer_iter().enumerate().filter(|(row, z)| {
        let best = (0..z.len()).max_by(|&a, &b| z[a].total_cmp(&z[b])).unwrap();
        on.targets().of(*row).contains(&(best as u32))
    });
    right.count() as f64 / on.len() as f64
}

/// Keeps the last checkpoint and breaks off after so many calls.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) calls: usize,
    pub(crate) stop_after: Option<usize>,
    pub(crate) checkpoints: Vec<Checkpoint>,
    pub(crate) resume_from: Option<Vec<u8>>,
    pub(crate) largest_share: f64,
}

impl Control for Recorder {
    fn progress(&mut self, step: usize, total: usize, _: &[(&'static str, f64)]) -> ControlFlow<()> {
        self.calls += 1;
        self.largest_share = self.largest_share.max(step as f64 / total as f64);
        if self.stop_after == Some(self.calls) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn checkpoint(&mut self, checkpoint: Checkpoint) {
        self.checkpoints.push(checkpoint);
    }

    fn resume(&mut self) -> Option<Vec<u8>> {
        self.resume_from.take()
    }
}
