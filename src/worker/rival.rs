//! What the version in production says of a job's held-out rows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use headstart_datasets::{Limits, Place};
use headstart_methods::MethodError;
use headstart_methods::artifact::Artifact;
use headstart_tasks::{TaskContext, TaskError, verdict};
use ndarray::{Array2, ArrayView1};

use crate::worker::control::{Halt, Stop};
use crate::worker::fine_tune::Parts;
use crate::worker::reading::{Upload, payload};
use crate::worker::table::Table;
use crate::worker::{bulk, zero_shot};

/// The labels of each row, ascending by number; nothing of rows that were not asked about.
pub(super) type Said = Vec<Option<Vec<u32>>>;

/// A job's held-out rows as they were uploaded.
pub(super) struct Rows {
    pub(super) files: Arc<[Upload]>,
    pub(super) limits: Limits,
    pub(super) table: Arc<Table>,
    pub(super) parts: Arc<Parts>,
    /// Their features, as the job's version reads them.
    pub(super) scored: Arc<Array2<f32>>,
    pub(super) seed: u64,
}

/// What a head gives rows by their features.
///
/// # Errors
/// [`MethodError`] for features of another width.
pub(super) fn by_features(
    version: &Artifact,
    features: &Array2<f32>,
) -> Result<Option<Vec<Vec<u32>>>, MethodError> {
    let Some(head) = version.head() else { return Ok(None) };
    let number = numbers(version);
    let probabilities = head.probabilities(features.view())?;
    let labels =
        |scores: ArrayView1<'_, f32>| numbered(&number, verdict(version, &scores.to_vec()).into_iter());
    Ok(Some(probabilities.outer_iter().map(labels).collect()))
}

impl Rows {
    /// What a version of any kind answers to the rows, or to as many drawn ones as zero-shot labels, on its own backbone.
    ///
    /// # Errors
    /// Outer error: the job's stop. Inner error: why it cannot be asked.
    pub(super) async fn ask(
        &self,
        tasks: &TaskContext,
        halt: &Halt,
        version: &(String, Arc<Artifact>),
    ) -> Result<Result<Said, TaskError>, Stop> {
        let number = numbers(&version.1);
        let mut said: Said = vec![None; self.parts.score.len()];
        let drawn = zero_shot::drawn(said.len(), self.seed);
        for (file, upload) in self.files.iter().enumerate() {
            let of = self.table.of_file(file);
            let wanted: HashMap<&Place, usize> = drawn
                .iter()
                .filter_map(|at| Some((*at, *self.parts.score.get(*at)?)))
                .filter(|(_, row)| of.contains(row))
                .filter_map(|(at, row)| Some((self.table.head.places.get(row)?, at)))
                .collect();
            if wanted.is_empty() {
                continue;
            }
            let named: HashSet<Place> = wanted.keys().map(|place| (*place).clone()).collect();
            let mut reading = upload.read(&self.limits, bulk::batch(tasks), Some(named));
            while let Some(batch) = reading.next().await? {
                let at: Vec<Option<usize>> =
                    batch.iter().map(|example| wanted.get(&example.place).copied()).collect();
                let input = payload(batch.into_iter().map(|example| example.content));
                let labels = match bulk::labels(tasks, halt, version, &input).await? {
                    Ok(labels) => labels,
                    Err(error) => return Ok(Err(error)),
                };
                for (at, labels) in at.into_iter().zip(labels) {
                    if let Some(slot) = at.and_then(|at| said.get_mut(at)) {
                        *slot = Some(numbered(&number, labels.iter().map(String::as_str)));
                    }
                }
            }
        }
        Ok(Ok(said))
    }
}

fn numbers(version: &Artifact) -> HashMap<&str, u32> {
    version.labels().iter().map(String::as_str).zip(0..).collect()
}

fn numbered<'a>(number: &HashMap<&str, u32>, labels: impl Iterator<Item = &'a str>) -> Vec<u32> {
    let mut labels: Vec<u32> = labels.filter_map(|label| number.get(label).copied()).collect();
    labels.sort_unstable();
    labels
}
