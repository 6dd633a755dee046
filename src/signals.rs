//! The signals that ask the process to stop.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often SIGTERM and SIGINT came since they are listened to. Whoever waits is told, also of what came before.
#[derive(Clone)]
pub(crate) struct Signals(watch::Receiver<u32>);

impl Signals {
    /// # Errors
    /// When the system refuses a handler.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (told, count) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {},
                    _ = interrupt.recv() => {},
                }
                told.send_modify(|count| *count += 1);
            }
        });
        Ok(Self(count))
    }

    /// Waits until the process is asked to stop.
    pub(crate) async fn first(&self) {
        self.reach(1).await;
    }

    /// Waits until it is asked again: who asks twice waits for nothing more.
    pub(crate) async fn second(&self) {
        self.reach(2).await;
    }

    async fn reach(&self, number: u32) {
        let mut count = self.0.clone();
        if count.wait_for(|count| *count >= number).await.is_err() {
            // Nobody listens any more: the runtime ends.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whether a wait is over.
    async fn over(waiting: impl Future<Output = ()>) -> bool {
        tokio::time::timeout(Duration::from_millis(20), waiting).await.is_ok()
    }

    #[tokio::test]
    async fn who_waits_is_told_also_of_signals_that_came_before() {
        let (told, count) = watch::channel(0);
        let signals = Signals(count);
        assert!(!over(signals.first()).await);
        told.send_modify(|count| *count += 1);
        assert!(over(signals.first()).await && over(signals.first()).await, "whoever asks");
        assert!(!over(signals.second()).await);
        let elsewhere = signals.clone();
        let waiting = tokio::spawn(async move { elsewhere.second().await });
        told.send_modify(|count| *count += 1);
        assert!(waiting.await.is_ok() && over(signals.second()).await);
        drop(told);
        assert!(over(signals.second()).await && !over(signals.reach(3)).await);
    }
}
