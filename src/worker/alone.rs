//! `headstart worker`: jobs without serving.

use std::sync::Arc;

use anyhow::ensure;

use crate::app::App;
use crate::config::Config;
use crate::signals::Signals;
use crate::sweep::Sweep;
use crate::webhooks::Webhooks;
use crate::worker::Workers;

/// Does jobs of the data folder until a stop signal.
///
/// # Errors
/// When ONNX Runtime is missing, or the models or data folder is unusable.
pub fn work(config: Config) -> anyhow::Result<()> {
    ensure!(config.workers > 0, "`workers` is 0: nothing would be done");
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("worker").enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let app = Arc::new(App::new(config)?);
        app.open_store().await?;
        app.load().await?;
        let workers = Workers::start(&app)?;
        let webhooks = Webhooks::start(&app)?;
        let sweep = Sweep::start(&app);
        tracing::info!(workers = app.config.workers, "looking for jobs");
        signals.next().await;
        tracing::info!("stopping: unfinished jobs go back to the queue");
        tokio::join!(workers.stop(), webhooks.stop());
        if let Some(sweep) = sweep {
            sweep.stop().await;
        }
        tokio::task::spawn_blocking(move || app.unload_all()).await?;
        Ok(())
    })
}
