//! Places in a backbone's queue: taken before any work is done, refused at once when there are none.

use std::sync::Arc;
use std::time::Duration;

use headstart_telemetry::ModelMetrics;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::EngineError;

/// Clients are told to come back within this.
const LONGEST_RETRY: u64 = 120;

/// The places of one backbone's queue.
#[derive(Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    items: usize,
    metrics: ModelMetrics,
}

/// Places in a backbone's queue, taken before any work is done for them.
#[derive(Debug)]
pub struct Permit {
    places: OwnedSemaphorePermit,
    metrics: ModelMetrics,
    items: i64,
}

impl Places {
    /// Places for `items`; those taken are shown by the metrics.
    #[must_use]
    pub fn new(items: usize, metrics: ModelMetrics) -> Self {
        Self { free: Arc::new(Semaphore::new(items)), items, metrics }
    }

    /// Most items that the queue holds.
    #[must_use]
    pub fn items(&self) -> usize {
        self.items
    }

    /// Takes places, or `None` when there are fewer.
    #[must_use]
    pub fn take(&self, items: usize) -> Option<Permit> {
        let count = u32::try_from(items).ok()?;
        let places = Arc::clone(&self.free).try_acquire_many_owned(count).ok()?;
        self.metrics.queue_items.add(i64::from(count));
        Some(Permit { places, metrics: self.metrics.clone(), items: i64::from(count) })
    }

    /// The metrics that show them.
    #[must_use]
    pub fn metrics(&self) -> &ModelMetrics {
        &self.metrics
    }

    /// When there are likely to be places for `items`, where an item takes so long and so many run at a time.
    #[must_use]
    pub fn retry_after(&self, items: usize, nanoseconds_per_item: u64, at_once: usize) -> Duration {
        let waiting = self.items - self.free.available_permits().min(self.items);
        let in_the_way = (waiting + items).saturating_sub(self.items).max(1) as u64;
        let nanoseconds = nanoseconds_per_item.saturating_mul(in_the_way) / at_once.max(1) as u64;
        Duration::from_secs(nanoseconds.div_ceil(1_000_000_000).clamp(1, LONGEST_RETRY))
    }
}

impl Permit {
    /// Parts with places for `items`, or `None` when it has fewer.
    #[must_use]
    pub fn split(&mut self, items: usize) -> Option<Self> {
        let places = self.places.split(items)?;
        self.items -= items as i64;
        Some(Self { places, metrics: self.metrics.clone(), items: items as i64 })
    }

    /// Places for `items` without their share in the gauge, which stays with this permit until it is dropped.
    pub(crate) fn take(&mut self, items: usize) -> Result<OwnedSemaphorePermit, EngineError> {
        self.places.split(items).ok_or(EngineError::Bug("more items than permits"))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.metrics.queue_items.sub(self.items);
    }
}

#[cfg(test)]
mod tests {
    use headstart_telemetry::Metrics;

    use super::*;

    #[test]
    fn places_are_taken_shown_and_given_back() {
        let metrics = Metrics::new("0").unwrap().for_model("m");
        let places = Places::new(3, metrics.clone());
        let mut two = places.take(2).unwrap();
        assert!(places.take(2).is_none());
        let one = two.split(1).unwrap();
        assert!(two.split(2).is_none());
        assert_eq!(metrics.queue_items.get(), 2);
        drop(one);
        assert_eq!(metrics.queue_items.get(), 1);
        assert!(places.take(2).is_some());
        drop(two);
        assert_eq!(metrics.queue_items.get(), 0);
        assert!(places.take(usize::MAX).is_none());
    }

    #[test]
    fn the_time_to_come_back_is_that_of_what_is_in_the_way() {
        let places = Places::new(10, Metrics::new("0").unwrap().for_model("m"));
        let _all = places.take(10).unwrap();
        let seconds = |items, each, at_once| places.retry_after(items, each, at_once).as_secs();
        assert_eq!(seconds(4, 3_000_000_000, 2), 6);
        assert_eq!(seconds(1, 10, 1), 1);
        assert_eq!(seconds(10, u64::MAX, 1), LONGEST_RETRY);
    }
}
