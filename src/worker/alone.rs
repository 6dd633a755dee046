//! `headstart worker`: jobs without serving.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;

use crate::app::App;
use crate::config::Config;
use crate::monitored::Monitored;
use crate::serve;
use crate::signals::Signals;
use crate::sweep::Sweep;
use crate::webhooks::Webhooks;
use crate::worker::Workers;

/// Does jobs of the data folder until a stop signal.
///
/// # Errors
/// When ONNX Runtime is missing, the models or data folder is unusable, or the address cannot be bound.
pub fn work(config: Config) -> anyhow::Result<()> {
    ensure!(config.workers > 0, "`workers` is 0: nothing would be done");
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("worker").enable_all().build()?;
    let worked = runtime.block_on(run(config));
    // What is still blocked here was given its time.
    runtime.shutdown_timeout(Duration::from_secs(1));
    worked
}

async fn run(config: Config) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let app = Arc::new(App::new(config)?);
    app.open_store().await?;
    let monitored = Monitored::start(&app).await?;
    tokio::select! {
        ended = until_stopped(&app, &signals) => ended?,
        () = signals.second() => tracing::warn!("stopped a second time: jobs are left as they are"),
    }
    if let Some(monitored) = monitored {
        monitored.stop();
    }
    serve::unload(app, &signals).await
}

/// Does jobs until a stop signal, and gives them back.
async fn until_stopped(app: &Arc<App>, signals: &Signals) -> anyhow::Result<()> {
    app.load().await?;
    let workers = Workers::start(app)?;
    let webhooks = Webhooks::start(app)?;
    let sweep = Sweep::start(app);
    app.finish_loading();
    tracing::info!(workers = app.config.workers, "looking for jobs");
    signals.first().await;
    app.begin_stopping();
    tracing::info!("stopping: unfinished jobs go back to the queue");
    // Nothing else waits here, so a step may come to its end: a job that is given back has lost nothing.
    tokio::join!(workers.stop(), webhooks.stop());
    if let Some(sweep) = sweep {
        sweep.stop().await;
    }
    Ok(())
}
