//! What nobody needs any more goes: files whose time is over, answers kept for those who ask twice, what purges left to be
//! erased, bytes that no row names. Several processes may sweep one data folder: each row goes once, and bytes are removed by one at a time.

use std::sync::Arc;
use std::time::Duration;

use headstart_store::{Store, StoreError};
use headstart_telemetry::SweepMetrics;
use headstart_types::file::FileRow;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::clock::{chance, now_ms};
use crate::purge;
use crate::variants;

/// Bytes without a row that are younger than this may be about to get one: an upload is stored before it is looked at.
const SAFE_AGE_MS: i64 = 60 * 60 * 1000;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The sweep of this process.
pub struct Sweep {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Sweep {
    /// Sweeps at once and from then on regularly; `None` for an app without a store.
    pub fn start(app: &Arc<App>) -> Option<Self> {
        let store = app.store()?.clone();
        let (stop, stopped) = watch::channel(false);
        // Else the first sweep, where it fails, would count as one that has failed since 1970.
        app.metrics.sweep.last_success_timestamp_seconds.set(now_ms() / 1000);
        let task = tokio::spawn(run(Arc::clone(app), store, stopped));
        Some(Self { stop, task })
    }

    /// Stops, also in the middle: whatever is left is found by the next sweep.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

async fn run(app: Arc<App>, store: Store, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = once(&app, &store) => {}
            _ = stop.changed() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(pause(app.config.sweep_seconds)) => {}
            _ = stop.changed() => return,
        }
    }
}

/// The pause between sweeps, up to a tenth longer or shorter, so that processes do not go on meeting.
fn pause(seconds: u32) -> Duration {
    let [chance] = chance().unwrap_or([128]);
    Duration::from_secs(u64::from(seconds)).mul_f64(0.9 + 0.2 * f64::from(chance) / 255.0)
}

/// Each part by itself: a full disk keeps rows from being deleted, and bytes that go make room. A part that had to wait, as
/// for a backup, is not done.
async fn once(app: &Arc<App>, store: &Store) {
    let metrics = &app.metrics.sweep;
    let parts = [
        ("files", files(store, metrics).await.map(|()| true)),
        ("requests", store.forget_requests(now_ms()).await.map(|()| true)),
        ("acts", acts(app, store).await.map(|()| true)),
        ("purges", purge::finish_all(store).await),
        ("blobs", blobs(store, metrics).await),
        ("variants", variants::sweep(app).await.map(|()| true).map_err(unswept)),
    ];
    let mut whole = true;
    for (part, outcome) in parts {
        whole &= matches!(outcome, Ok(true));
        if let Err(error) = outcome {
            metrics.errors_total.inc();
            tracing::error!(part, %error, "a sweep failed; the next one tries again");
        }
    }
    if whole {
        metrics.last_success_timestamp_seconds.set(now_ms() / 1000);
        tracing::debug!("swept");
    }
}

fn unswept(source: std::io::Error) -> StoreError {
    StoreError::Io { what: "sweeping tuned backbones".into(), source }
}

/// Forgets acts whose time is over; where none is set, they stay.
async fn acts(app: &App, store: &Store) -> Result<(), StoreError> {
    let days = i64::from(app.config.audit_retention_days);
    if days == 0 {
        return Ok(());
    }
    let forgotten = store.forget_acts(now_ms().saturating_sub(days * DAY_MS)).await?;
    if forgotten > 0 {
        tracing::info!(forgotten, "acts of the audit whose time is over are forgotten");
    }
    Ok(())
}

async fn files(store: &Store, metrics: &SweepMetrics) -> Result<(), StoreError> {
    loop {
        let deleted = store.delete_expired_files(now_ms()).await?;
        for id in &deleted {
            metrics.files_total.inc();
            tracing::info!(file.id = %id, "a file's time is over: it is deleted");
        }
        if deleted.is_empty() {
            return Ok(());
        }
    }
}

/// Removes the bytes of a deleted file at once, unless a row names them or the same bytes were sent again of late, and may be
/// about to get a row: then, and where it has to wait, a later sweep does it.
pub(crate) async fn erase(store: &Store, file: &FileRow) {
    let written_by = file.created_at.max(now_ms().saturating_sub(SAFE_AGE_MS));
    if let Err(error) = store.discard(&file.sha256, written_by).await {
        tracing::warn!(%error, file.id = %file.id, "the bytes of a deleted file stay until the next sweep");
    }
}

async fn blobs(store: &Store, metrics: &SweepMetrics) -> Result<bool, StoreError> {
    let steps = store.clear_steps().await?;
    let collected = store.collect_blobs(SAFE_AGE_MS, now_ms()).await?;
    let (blobs, bytes) = (steps.blobs + collected.blobs, steps.bytes + collected.bytes);
    metrics.blobs_total.inc_by(blobs);
    metrics.freed_bytes_total.inc_by(bytes);
    if blobs > 0 {
        tracing::info!(blobs, bytes, "bytes that nothing needs are removed");
    }
    Ok(!steps.deferred && !collected.deferred)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Options};

    #[tokio::test]
    async fn a_sweep_that_never_went_well_counts_from_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let config = Config::resolve(Options { data: Some(data.clone()), ..Options::default() }).unwrap();
        let app = Arc::new(App::new(config).unwrap());
        app.open_store().await.unwrap();
        // No sweep goes well where a file stands in the place of a folder.
        std::fs::create_dir_all(data.join("blobs")).unwrap();
        std::fs::write(data.join("blobs").join("00"), "no folder").unwrap();
        let before = now_ms() / 1000;
        let sweep = Sweep::start(&app).unwrap();
        let failed = async {
            while app.metrics.sweep.errors_total.get() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), failed).await.unwrap();
        sweep.stop().await;
        assert!((before..=now_ms() / 1000).contains(&app.metrics.sweep.last_success_timestamp_seconds.get()));
    }

    #[test]
    fn pauses_are_about_as_long_as_asked_for() {
        for _ in 0..100 {
            let pause = pause(600).as_secs_f64();
            assert!((540.0..=660.0).contains(&pause), "{pause}");
        }
    }
}
