//! Spans on their way to a collector: a bounded queue, a thread that sends what it holds, one try each.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use axum::body::Bytes;
use axum::http::{HeaderName, Request, Response, Uri, header};
use headstart_telemetry::{Metrics, TraceEnd};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::webhooks::{Client, Target};

/// Traces that may wait; those beyond are dropped.
const QUEUE: usize = 2048;

/// Traces in one message, and how long the first of them waits for others.
const BATCH: (usize, Duration) = (256, Duration::from_secs(1));

/// How long a collector may take.
const SEND: Duration = Duration::from_secs(5);

/// How long the end of the process waits for what is left.
const LAST: Duration = Duration::from_secs(2);

/// Why an endpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a URL such as http://collector:4318")]
pub(crate) struct EndpointError(String);

/// Where a collector listens.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    url: String,
    target: Target,
}

impl Endpoint {
    /// Reads a URL; one without a path gets that of OTLP.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn parse(text: &str) -> Result<Self, EndpointError> {
        let refused = || EndpointError(text.chars().take(200).collect());
        let uri: Uri = text.parse().map_err(|_| refused())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(refused()),
        };
        let authority =
            uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(refused)?;
        let path = match uri.path_and_query().map_or("/", |path| path.as_str()) {
            "/" => "/v1/traces",
            path => path,
        };
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let url = format!("{}://{authority}{path}", if tls { "https" } else { "http" });
        let target = Target::new((authority.host(), port), tls, authority.as_str(), path);
        Ok(Self { url, target })
    }
}

enum Message {
    Trace(Vec<SpanData>),
    Flush(oneshot::Sender<()>),
}

/// The queue, and the thread behind it, which ends with it.
pub(crate) struct Exporter {
    queue: mpsc::Sender<Message>,
    metrics: Arc<Metrics>,
}

impl Exporter {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there is no TLS, or no thread to be had.
    pub(crate) fn start(endpoint: Endpoint, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let post = Post { client: Client::new()?, target: endpoint.target };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(post)
            .with_endpoint(endpoint.url)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(SEND)
            .with_retry_policy(RetryPolicy::disabled())
            .build()?;
        let (queue, waiting) = mpsc::channel(QUEUE);
        let counted = Arc::clone(metrics);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("traces".into())
            .spawn(move || runtime.block_on(run(exporter, waiting, counted)))
            .context("no thread for traces")?;
        Ok(Self { queue, metrics: Arc::clone(metrics) })
    }

    /// Queues a trace, or drops and counts it.
    pub(crate) fn send(&self, spans: Vec<SpanData>) {
        if self.queue.try_send(Message::Trace(spans)).is_err() {
            self.metrics.edges.count_traces(TraceEnd::QueueFull, 1);
        }
    }

    /// Waits until what was queued before is sent or given up, for a moment at most.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let _ = timeout(LAST, async {
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                let _ = flushed.await;
            }
        })
        .await;
    }
}

async fn run(mut exporter: SpanExporter, mut waiting: mpsc::Receiver<Message>, metrics: Arc<Metrics>) {
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    exporter.set_resource(
        &Resource::builder_empty().with_service_name("headstart").with_attribute(version).build(),
    );
    let mut failing = false;
    while let Some(first) = waiting.recv().await {
        let (traces, flush) = batch(first, &mut waiting).await;
        let count = traces.len() as u64;
        if count > 0 {
            let sent = timeout(SEND, exporter.export(traces.into_iter().flatten().collect())).await;
            let problem = match sent {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {} s", SEND.as_secs())),
            };
            let end = if problem.is_none() { TraceEnd::Exported } else { TraceEnd::Failed };
            metrics.edges.count_traces(end, count);
            // A collector that is gone would fill the log.
            match problem {
                Some(problem) if !failing => {
                    failing = true;
                    tracing::warn!(%problem, "traces are not taken by their collector; told again when they are");
                }
                None if failing => {
                    failing = false;
                    tracing::info!("traces are taken by their collector again");
                }
                Some(_) | None => {}
            }
        }
        if let Some(done) = flush {
            let _ = done.send(());
        }
    }
}

/// Collects what comes within a moment, and whoever waits for it to be sent.
async fn batch(
    first: Message,
    waiting: &mut mpsc::Receiver<Message>,
) -> (Vec<Vec<SpanData>>, Option<oneshot::Sender<()>>) {
    let (most, patience) = BATCH;
    let until = Instant::now() + patience;
    let mut traces = Vec::new();
    let mut next = Some(first);
    while let Some(message) = next {
        match message {
            Message::Trace(spans) => traces.push(spans),
            Message::Flush(done) => return (traces, Some(done)),
        }
        next =
            if traces.len() < most { timeout_at(until, waiting.recv()).await.ok().flatten() } else { None };
    }
    (traces, None)
}

/// The client of webhooks as the exporter wants one.
struct Post {
    client: Client,
    target: Target,
}

impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Post").field("target", &self.target).finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let mut headers = Vec::new();
        // Who sends, and to where, is said by the client.
        let told = |name: &HeaderName| name != header::USER_AGENT && name != header::HOST;
        for (name, value) in parts.headers.iter().filter(|(name, _)| told(name)) {
            headers.push((name.as_str(), value.to_str()?.to_owned()));
        }
        let status = self.client.post(&self.target, &headers, body).await?;
        Ok(Response::builder().status(status).body(Bytes::new())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_without_a_path_gets_that_of_otlp() {
        let url = |text: &str| Endpoint::parse(text).unwrap().url;
        assert_eq!(url("http://collector:4318"), "http://collector:4318/v1/traces");
        assert_eq!(url("https://otel.example.com/in/v1/traces"), "https://otel.example.com/in/v1/traces");
        for wrong in ["collector:4318", "ftp://a", "http://", "http://user:word@a", ""] {
            assert!(Endpoint::parse(wrong).is_err(), "{wrong}");
        }
    }
}
