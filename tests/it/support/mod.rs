//! A service without a socket: router, engine and backbones in the test's own process.

pub(crate) mod training;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use headstart::app::App;
use headstart::config::{Config, Options};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

/// The bundled text backbone.
pub(crate) const TEXT: &str = "all-minilm-l6-v2";

/// The bundled quantised text backbone.
pub(crate) const TEXT_INT8: &str = "all-minilm-l6-v2-int8";

/// The bundled image backbone.
pub(crate) const IMAGE: &str = "efficientnet-lite0";

/// A service with loaded backbones.
pub(crate) struct TestApp {
    router: Router,
    pub(crate) app: Arc<App>,
    _data: Option<tempfile::TempDir>,
}

/// What came back.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The JSON of a successful answer.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        self.json()
    }

    /// Status, code and param of an error, whose body has all of OpenAI's keys and ours.
    pub(crate) fn error(&self) -> (u16, String, Option<String>) {
        let error = &self.json()["error"];
        for key in ["message", "type", "param", "code", "request_id"] {
            assert!(error.get(key).is_some(), "`{key}` is missing in {error}");
        }
        assert_eq!(error["request_id"], self.headers["x-request-id"].to_str().unwrap());
        let text = |key: &str| error[key].as_str().map(str::to_owned);
        (self.status.as_u16(), text("code").unwrap_or_default(), text("param"))
    }

    pub(crate) fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }
}

impl TestApp {
    /// The service with default options; one for all tests that change nothing.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<TestApp> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(""))
    }

    /// A service with options of its own, as TOML.
    pub(crate) fn start(options: &str) -> Self {
        let service = Self::unready(options);
        let engine = service.app.start_engine().unwrap();
        service.app.load_backbones(&engine).unwrap();
        service.app.attach(Arc::new(engine));
        service.app.finish_loading();
        service
    }

    /// A service that has not loaded its backbones yet.
    pub(crate) fn unready(options: &str) -> Self {
        let mut options: Options = toml::from_str(options).unwrap();
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        options.models = options.models.or(Some(vec![models]));
        let app = Arc::new(App::new(Config::resolve(options).unwrap()).unwrap());
        Self { router: headstart::http::router(Arc::clone(&app)), app, _data: None }
    }

    /// A service with a store of its own, as TOML; its backbones are those of [`TestApp::shared`].
    pub(crate) async fn with_store(options: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut service =
            Self::unready(&format!("data = {:?}\n{options}", data.path().display().to_string()));
        service.app.open_store().await.unwrap();
        for (id, known) in Self::shared().app.tasks.catalog.list() {
            service.app.tasks.catalog.insert(id, known.entry);
        }
        service.app.finish_loading();
        service._data = Some(data);
        service
    }

    /// An answer whose body is still to come.
    pub(crate) async fn open(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Reply { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, json: &Value) -> Reply {
        self.post_text(path, &json.to_string()).await
    }

    pub(crate) async fn post_text(&self, path: &str, body: &str) -> Reply {
        self.post_bytes(path, "application/json", body.to_owned()).await
    }

    pub(crate) async fn post_bytes(&self, path: &str, content_type: &str, body: impl Into<Body>) -> Reply {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::CONTENT_TYPE, content_type)
            .body(body.into())
            .unwrap();
        self.send(request).await
    }

    /// A metric's value, by its whole series name.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").await.text();
        let line =
            text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        let value =
            line.and_then(|line| line.rsplit(' ').next()).unwrap_or_else(|| panic!("no series {series}"));
        value.parse().unwrap()
    }
}

/// Looks again and again until something is there, and says what it looked for where it never comes.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    const LONGEST: Duration = Duration::from_secs(300);
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < LONGEST, "not within {} s: {what}", LONGEST.as_secs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The floats of an embedding.
pub(crate) fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

pub(crate) fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

/// The example photo of a cat, CC0.
pub(crate) fn cat() -> Vec<u8> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let cat = std::fs::read_dir(examples)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().ends_with("cat.jpg"));
    std::fs::read(cat.expect("examples/ has a photo of a cat")).unwrap()
}
