//! Serving: listen, load, become ready; on a stop signal become unready, answer what was accepted, end.

use std::io::Write as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use headstart_store::{Store, make_private};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_io_timeout::TimeoutWriter;

use crate::app::App;
use crate::audit::Audit;
use crate::config::Config;
use crate::http;
use crate::keys::Follow;
use crate::rollout::Rollout;
use crate::signals::Signals;
use crate::sweep::Sweep;
use crate::tls::Tls;
use crate::webhooks::Webhooks;
use crate::worker::Workers;

/// A client that takes longer to send its header, or to send another request, is cut off. Longer than balancers keep
/// their idle connections, which would otherwise meet a closed one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);

/// A client that takes nothing of what is written to it for so long is cut off: it would keep its connection, and its
/// answer in memory, for ever.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Calls at hand are given this long once the process was asked twice to stop.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// Serves until a stop signal.
///
/// # Errors
/// When the address cannot be bound, ONNX Runtime is missing, or the models folder is unusable.
pub fn serve(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.http_threads)
        .thread_name("http")
        .enable_all()
        .build()?;
    let served = runtime.block_on(run(config));
    // What is still blocked here was given its time in `drain`.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn run(config: Config) -> anyhow::Result<()> {
    let started = Instant::now();
    if !Store::is_in(&config.data) {
        config.check_exposure(!config.api_keys.is_empty())?;
    }
    make_private(&config.data)
        .with_context(|| format!("`data`: {} cannot be made", config.data.display()))?;
    let app = Arc::new(App::new(config)?);
    // Before anything is listened to: its keys decide who is answered.
    app.open_store().await?;
    app.config.check_exposure(app.keys.are_asked_for())?;
    let keys = Follow::start(&app);
    let audit = Audit::start(&app).await?;
    let listener = TcpListener::bind(app.config.listen)
        .await
        .with_context(|| format!("`listen`: {} cannot be bound", app.config.listen))?;
    let address = listener.local_addr()?;
    let tls = tls(&app)?;
    app.start_traces()?;
    announce(address, tls.is_some());

    // Signals first: one that comes during a load must not be lost.
    let signals = Signals::listen()?;
    let renewal = tls.as_ref().map(Tls::follow);
    let service = Served { router: http::router(Arc::clone(&app)), tls, write_timeout: WRITE_TIMEOUT };
    let serving = tokio::spawn(accept(listener, service, Arc::clone(&app), signals.clone()));
    // Nobody is let in any more where the backbones go.
    let listening = serving.abort_handle();
    tokio::select! {
        ended = until_stopped(&app, serving, address, started) => ended?,
        () = signals.second() => tracing::warn!("stopped a second time: requests and jobs are left as they are"),
    }
    listening.abort();
    if let Some(renewal) = renewal {
        renewal.abort();
    }
    if let Some(keys) = keys {
        keys.stop();
    }
    if let Some(audit) = audit {
        audit.stop().await;
    }
    unload(app, &signals).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Loads, serves until a stop signal, and sees to it that what was accepted comes to its end.
async fn until_stopped(
    app: &Arc<App>,
    serving: JoinHandle<()>,
    address: SocketAddr,
    started: Instant,
) -> anyhow::Result<()> {
    app.load().await?;
    let rollout = Rollout::start(app).await.map(|rollout| tokio::spawn(rollout.run()));
    app.finish_loading();
    tracing::info!(%address, milliseconds = started.elapsed().as_millis() as u64, "ready");
    let workers = Workers::start(app)?;
    let webhooks = Webhooks::start(app)?;
    let sweep = Sweep::start(app);
    serving.await?;
    end_jobs(app, workers, webhooks).await;
    if let Some(sweep) = sweep {
        sweep.stop().await;
    }
    if let Some(rollout) = rollout {
        rollout.abort();
    }
    if let Some(traces) = app.traces() {
        traces.flush().await;
    }
    Ok(())
}

/// Gives jobs back and tells webhooks that are under way, for as long as a drain may take.
async fn end_jobs(app: &App, workers: Workers, webhooks: Webhooks) {
    let patience = Duration::from_secs(app.config.drain_seconds);
    let stopping = async { tokio::join!(workers.stop(), webhooks.stop()) };
    if tokio::time::timeout(patience, stopping).await.is_err() {
        tracing::warn!("a job did not stop in time; it goes on from its last step when it is claimed again");
    }
}

/// Ends the engine after its calls at hand; who asks twice to stop does not wait long for these.
pub(crate) async fn unload(app: Arc<App>, signals: &Signals) -> anyhow::Result<()> {
    let unloading = tokio::task::spawn_blocking(move || app.unload_all());
    let hurried = async {
        signals.second().await;
        tokio::time::sleep(LAST_CALLS).await;
    };
    tokio::select! {
        unloaded = unloading => unloaded?,
        () = hurried => tracing::warn!("ended in the middle of a call"),
    }
    Ok(())
}

/// Tells whoever started the process where it listens: with port 0 nobody knows otherwise.
fn announce(address: SocketAddr, tls: bool) {
    let scheme = if tls { "https" } else { "http" };
    let _ = writeln!(std::io::stdout(), "listening on {scheme}://{address}");
}

/// What speaks TLS, where a certificate is given.
fn tls(app: &App) -> anyhow::Result<Option<Arc<Tls>>> {
    match (&app.config.tls_certificate, &app.config.tls_key) {
        (Some(certificate), Some(key)) => {
            let tls = Tls::load(certificate, key, &app.metrics).context("`tls-certificate`")?;
            Ok(Some(Arc::new(tls)))
        }
        _ => Ok(None),
    }
}

/// What a connection gets.
#[derive(Clone)]
struct Served {
    router: Router,
    tls: Option<Arc<Tls>>,
    write_timeout: Duration,
}

impl Served {
    /// Answers on a connection until it ends, or gracefully once `watcher` says so. A broken one is the client's business;
    /// its requests were cancelled with it.
    async fn connection<S>(self, stream: S, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + 'static,
    {
        // Beneath TLS, whose own buffers would count as read.
        let stream = cut_off(stream, self.write_timeout);
        match self.tls {
            None => drop(watcher.watch(http1(TokioIo::new(stream), self.router)).await),
            Some(tls) => {
                if let Some(stream) = tls.accept(stream).await {
                    drop(watcher.watch(http1(TokioIo::new(stream), self.router)).await);
                }
            }
        }
    }
}

/// A stream whose writes fail once nothing could be written for `longest`.
pub(crate) fn cut_off<S: AsyncWrite>(stream: S, longest: Duration) -> Pin<Box<TimeoutWriter<S>>> {
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(longest));
    Box::pin(stream)
}

/// A connection that is answered on.
pub(crate) fn http1<S>(stream: S, router: Router) -> http1::Connection<S, TowerToHyperService<Router>>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(stream, TowerToHyperService::new(router))
}

async fn accept(listener: TcpListener, service: Served, app: Arc<App>, signals: Signals) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(app.config.max_connections));
    let mut notice = Box::pin(notice(&app, &signals));
    loop {
        // Waiting for a place leaves further connections in the kernel's backlog.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = &mut notice => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut notice => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: without a pause this would spin.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let connection = service.clone().connection(stream, graceful.watcher());
        tokio::spawn(async move {
            connection.await;
            drop(place);
        });
    }
    drop(listener);
    drain(graceful, &app).await;
}

/// Waits for a stop signal, then stops being ready but goes on accepting for as long as balancers need to notice.
async fn notice(app: &App, signals: &Signals) {
    signals.first().await;
    app.begin_stopping();
    tracing::info!("stopping: no longer ready, answering what is accepted");
    tokio::time::sleep(Duration::from_millis(app.config.drain_notice_ms)).await;
}

/// Answers what was accepted, until the drain deadline.
async fn drain(graceful: GracefulShutdown, app: &App) {
    let limit = Duration::from_secs(app.config.drain_seconds);
    if tokio::time::timeout(limit, graceful.shutdown()).await.is_err() {
        tracing::warn!(seconds = limit.as_secs(), "the drain deadline passed with requests unanswered");
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};
    use axum::routing::get;
    use futures_util::stream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const WAIT: Duration = Duration::from_secs(1);
    const LONG: usize = 1 << 20;
    /// What the way to the client holds.
    const BUFFER: usize = 4096;

    /// A connection that is asked for `path`, and its client.
    async fn asked(path: &str, write_timeout: Duration) -> (JoinHandle<()>, DuplexStream) {
        let events = || async {
            let event = |left: u32| async move {
                tokio::time::sleep(WAIT / 10).await;
                Some((Ok::<_, std::io::Error>(Bytes::from("event")), left.checked_sub(1)?))
            };
            Body::from_stream(stream::unfold(4, event))
        };
        let router =
            Router::new().route("/long", get(|| async { vec![b'x'; LONG] })).route("/events", get(events));
        let (mut client, server) = duplex(BUFFER);
        let question = format!("GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n");
        client.write_all(question.as_bytes()).await.unwrap();
        let served = Served { router, tls: None, write_timeout };
        let graceful = GracefulShutdown::new();
        let connection = served.connection(server, graceful.watcher());
        let serving = tokio::spawn(async move {
            connection.await;
            drop(graceful);
        });
        (serving, client)
    }

    #[tokio::test]
    async fn a_connection_ends_whose_answer_nobody_reads() {
        let (serving, mut client) = asked("/long", WAIT / 10).await;
        tokio::time::timeout(HEADER_TIMEOUT / 2, serving).await.unwrap().unwrap();
        let mut sent = Vec::new();
        client.read_to_end(&mut sent).await.unwrap();
        assert!(sent.starts_with(b"HTTP/1.1 200") && sent.len() <= BUFFER, "{} bytes", sent.len());
    }

    #[tokio::test]
    async fn an_answer_that_is_read_slowly_comes_whole() {
        let begun = Instant::now();
        let (serving, mut client) = asked("/long", 5 * WAIT).await;
        let (mut sent, mut piece) = (0, vec![0; LONG / 32]);
        loop {
            let read = client.read(&mut piece).await.unwrap();
            if read == 0 {
                break;
            }
            let before = sent * 32 / LONG;
            sent += read;
            if sent * 32 / LONG > before {
                tokio::time::sleep(WAIT / 5).await;
            }
        }
        serving.await.unwrap();
        assert!(sent > LONG, "{sent} bytes");
        assert!(begun.elapsed() > 5 * WAIT, "the whole took longer than any write may");
    }

    #[tokio::test]
    async fn events_come_however_long_they_take() {
        let (serving, mut client) = asked("/events", WAIT / 20).await;
        let mut sent = Vec::new();
        client.read_to_end(&mut sent).await.unwrap();
        serving.await.unwrap();
        let sent = String::from_utf8(sent).unwrap();
        assert_eq!(sent.matches("event").count(), 4, "{sent}");
    }
}
