//! A bounded pool for work that keeps a CPU busy for more than a millisecond: decoding and long tokenisation.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::error::TaskError;

/// A bounded pool on the runtime's blocking threads.
#[derive(Debug, Clone)]
pub(crate) struct Offload {
    places: Arc<Semaphore>,
}

impl Offload {
    /// A pool that runs `threads` pieces of work at a time.
    #[must_use]
    pub(crate) fn new(threads: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(threads.max(1))) }
    }

    /// Runs `work` off the asynchronous threads. A caller that leaves before its turn takes no thread.
    ///
    /// # Errors
    /// [`TaskError::Bug`] when the work panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TaskError> {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| TaskError::Bug("the offload pool was closed"))?;
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop(place);
            result
        })
        .await
        .map_err(|_| TaskError::Bug("offloaded work panicked"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn no_more_work_than_places_runs_at_a_time() {
        let pool = Offload::new(2);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = (0..16).map(|_| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            pool.run(move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
            })
        });
        assert!(join_all(work).await.into_iter().all(|result| result.is_ok()));
        assert!(most.load(Ordering::SeqCst) <= 2);
    }

    #[tokio::test]
    async fn a_panic_fails_its_own_work_alone() {
        let pool = Offload::new(1);
        assert!(pool.run(|| panic!("on purpose")).await.is_err());
        assert_eq!(pool.run(|| 1).await.unwrap(), 1);
    }
}
