//! What a worker shows of itself where `worker-listen` says so: its metrics, and whether it lives and looks for jobs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::serve;

/// Monitors and probes are few.
const MAX_CONNECTIONS: usize = 64;

/// Answers monitors.
pub(crate) struct Monitored(JoinHandle<()>);

impl Monitored {
    /// Listens, before backbones are loaded; `None` where no address is given.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub(crate) async fn start(app: &Arc<App>) -> anyhow::Result<Option<Self>> {
        let Some(address) = app.config.worker_listen else { return Ok(None) };
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("`worker-listen`: {address} cannot be bound"))?;
        tracing::info!(address = %listener.local_addr()?, "metrics are shown");
        Ok(Some(Self(tokio::spawn(accept(listener, router(Arc::clone(app)))))))
    }

    pub(crate) fn stop(self) {
        self.0.abort();
    }
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(app)
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.is_ready() {
        return "ok".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "the worker starts or stops").into_response()
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    match app.metrics.render() {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn accept(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    // A broken connection is the monitor's business.
                    let stream = serve::cut_off(stream, serve::WRITE_TIMEOUT);
                    drop(serve::http1(TokioIo::new(stream), router).await);
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: without a pause this would spin.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;
    use crate::config::Config;
    use crate::config::Options;

    async fn asked(app: &Arc<App>, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = router(Arc::clone(app)).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_worker_shows_its_metrics_and_state_and_nothing_else() {
        let app = Arc::new(App::new(Config::resolve(Options::default()).unwrap()).unwrap());
        assert_eq!(asked(&app, "/livez").await.0, 200);
        assert_eq!(asked(&app, "/readyz").await.0, 503, "nothing is loaded yet");
        app.finish_loading();
        assert_eq!(asked(&app, "/readyz").await.0, 200);
        app.begin_stopping();
        assert_eq!(asked(&app, "/readyz").await.0, 503);
        app.metrics.end_job(headstart_telemetry::JobEnd::Broken);
        let (status, text) = asked(&app, "/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains("headstart_jobs_ended_total{outcome=\"broken\"} 1"), "{text}");
        for path in ["/v1/models", "/openapi.json", "/docs", "/"] {
            assert_eq!(asked(&app, path).await.0, 404, "{path}");
        }
    }

    #[tokio::test]
    async fn a_worker_listens_only_where_it_is_told_to() {
        let options = |worker_listen: Option<&str>| Options {
            worker_listen: worker_listen.map(|address| address.parse().unwrap()),
            ..Options::default()
        };
        let app = |listen| Arc::new(App::new(Config::resolve(options(listen)).unwrap()).unwrap());
        assert!(Monitored::start(&app(None)).await.unwrap().is_none());
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let refused = Monitored::start(&app(Some(&address))).await.err().unwrap();
        assert!(refused.to_string().starts_with("`worker-listen`: 127.0.0.1:"), "{refused}");
    }
}
