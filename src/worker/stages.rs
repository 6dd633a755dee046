//! What each stage of a job took: time, items, memory.

use std::time::{Duration, Instant};

use headstart_telemetry::{Metrics, resident_bytes};
use headstart_types::report::Stage;

/// How often memory is looked at. The kernel's own high-water mark cannot be had a stage: to reset it would falsify the
/// process's, which is a metric, and other jobs' stages.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The stages so far.
#[derive(Debug, Default)]
pub(super) struct Stages(Vec<Measured>);

#[derive(Debug)]
struct Measured {
    name: &'static str,
    took: Duration,
    items: u64,
    peak_bytes: u64,
}

impl Stages {
    pub(super) async fn measure<T>(
        &mut self,
        name: &'static str,
        items: u64,
        work: impl Future<Output = T>,
    ) -> T {
        let started = Instant::now();
        let mut work = std::pin::pin!(work);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut peak_bytes = 0;
        let value = loop {
            tokio::select! {
                value = &mut work => break value,
                _ = looks.tick() => peak_bytes = resident_bytes().max(peak_bytes),
            }
        };
        peak_bytes = resident_bytes().max(peak_bytes);
        self.0.push(Measured { name, took: started.elapsed(), items, peak_bytes });
        value
    }

    /// Says how many items a stage had, once that is known.
    pub(super) fn count(&mut self, name: &str, items: usize) {
        self.0.iter_mut().filter(|stage| stage.name == name).for_each(|stage| stage.items = items as u64);
    }

    pub(super) fn observe(&self, metrics: &Metrics) {
        self.0.iter().for_each(|stage| metrics.observe_stage(stage.name, stage.took));
    }

    pub(super) fn listed(&self) -> Vec<Stage> {
        let stage = |stage: &Measured| Stage {
            name: stage.name.to_owned(),
            seconds: stage.took.as_secs_f64(),
            items: stage.items,
            peak_bytes: Some(stage.peak_bytes).filter(|bytes| *bytes > 0),
        };
        self.0.iter().map(stage).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_that_is_held_and_given_back_within_a_stage_is_seen() {
        let mut stages = Stages::default();
        stages.measure("small", 1, async {}).await;
        let hold = async {
            let held = tokio::task::spawn_blocking(|| vec![1u8; 200 << 20]).await.unwrap();
            tokio::time::sleep(LOOK_EVERY * 5).await;
            drop(held);
        };
        stages.measure("large", 2, hold).await;
        let listed = stages.listed();
        let [small, large] = listed.as_slice() else { panic!("{listed:?}") };
        let grown = large.peak_bytes.unwrap() - small.peak_bytes.unwrap();
        assert!((190 << 20..400 << 20).contains(&grown), "{grown}");
        assert_eq!((large.items, large.seconds > 0.09), (2, true));
    }
}
