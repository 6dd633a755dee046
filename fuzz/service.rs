//! The service in the target's own process: every route, a store, and three backbones too small to cost anything.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use headstart::app::App;
use headstart::config::Config;
use headstart::options_file;
use headstart_onnx::proto::{Dimension, Graph, Model, Node, OperatorSet, ValueInfo, element};
use headstart_types::hex;
use headstart_vectors::{Builder, INDEX, Precision, VECTORS};
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

/// A table of word vectors.
pub const WORDS: &str = "words";
/// A graph that reads pictures of 8 × 8.
pub const PICTURES: &str = "pictures";
/// A graph of raw tensors: `x` of `[n, 4]` numbers, `s` of `[n]` strings; each comes out as it went in.
pub const TENSORS: &str = "tensors";

/// ONNX's number for strings.
const STRING: i32 = 8;

/// What a store may take before a new one takes its place: targets must not slow down, nor fill a disk.
const REQUESTS: usize = 20_000;

/// A request as a target puts it together.
pub struct Sent<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path and query.
    pub uri: &'a str,
    /// Its content type.
    pub content_type: &'a str,
    /// A further header.
    pub also: Option<(&'static str, &'a str)>,
    /// Its body.
    pub body: &'a [u8],
}

struct Service {
    router: axum::Router,
    app: Arc<App>,
    runtime: Runtime,
    sent: usize,
    /// Goes last: what is in it is open until then.
    _folder: TempDir,
}

thread_local! {
    static SERVICE: RefCell<Option<Service>> = const { RefCell::new(None) };
}

/// Sends a request and reads its answer, which must not be the server's own fault and has a body that its type promises.
pub fn ask(sent: &Sent<'_>) {
    let Ok(uri) = sent.uri.parse::<Uri>() else { return };
    let Ok(content_type) = HeaderValue::from_str(sent.content_type) else { return };
    let mut request =
        Request::builder().method(sent.method).uri(uri).header(header::CONTENT_TYPE, content_type);
    if let Some((name, value)) = sent.also {
        let Ok(value) = HeaderValue::from_str(value) else { return };
        request = request.header(name, value);
    }
    let Ok(request) = request.body(Full::new(sent.body.to_vec().into())) else { return };
    SERVICE.with_borrow_mut(|kept| {
        if kept.as_ref().is_some_and(|service| service.sent >= REQUESTS) {
            *kept = None;
        }
        let service = kept.get_or_insert_with(Service::start);
        service.sent += 1;
        service.answer(request);
    });
}

impl Service {
    fn start() -> Self {
        let folder = crate::folder();
        let models = folder.path().join("models");
        words(&models.join(WORDS));
        graph(&models.join(PICTURES), PICTURES, &pictures(), PICTURES_MANIFEST);
        graph(&models.join(TENSORS), TENSORS, &tensors(), "modality = \"tensor\"\n");
        let data = folder.path().join("data");
        let options = format!("models = [{models:?}]\ndata = {data:?}\n{}", include_str!("service.toml"));
        let options = options_file::parse(&options).expect("good options");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let app = Arc::new(App::new(Config::resolve(options).expect("good options")).expect("an app"));
        runtime.block_on(app.open_store()).expect("a store");
        runtime.block_on(app.load()).expect("every backbone loads");
        app.finish_loading();
        let router = headstart::http::router(Arc::clone(&app));
        Self { router, app, runtime, sent: 0, _folder: folder }
    }

    fn answer(&self, request: Request<Full<axum::body::Bytes>>) {
        let what = format!("{} {}", request.method(), request.uri());
        let (status, json, body) = self.runtime.block_on(async {
            let Ok(answer) = self.router.clone().oneshot(request).await;
            let json =
                answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
            let binary = answer.headers().contains_key("inference-header-content-length");
            let status = answer.status();
            let body = answer.into_body().collect().await.expect("an answer's body is read").to_bytes();
            (status, json && !binary, body)
        });
        let said = String::from_utf8_lossy(&body);
        // A full queue, an unloaded backbone and a passed deadline are answers; everything else above is a fault.
        let unavailable = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
        assert!(!status.is_server_error() || unavailable, "{what}: {status} {said}");
        if json {
            serde_json::from_slice::<IgnoredAny>(&body).expect("JSON is JSON");
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.app.unload_all();
    }
}

const PICTURES_MANIFEST: &str = "modality = \"image\"\n[image]\nsize = 8\nresize = 8\nfilter = \"bilinear\"\nscale = 1.0\n\
     mean = [0.0, 0.0, 0.0]\nstd = [255.0, 255.0, 255.0]\nchannel_order = \"rgb\"\nlayout = \"nchw\"\n[output.features]\n\
     tensor = \"vector\"\npooling = \"none\"\nnormalise = false\ndimension = 3\n";

/// A manifest's first lines, of a graph's file or a table's index.
pub fn manifest(id: &str, file: &str, bytes: &[u8], rest: &str) -> String {
    let digest = hex(&Sha256::digest(bytes));
    format!(
        "version = 1\n[backbone]\nid = \"{id}\"\nfile = \"{file}\"\nsha256 = \"{digest}\"\nlicence = \"CC0-1.0\"\n\
         source_task = \"none\"\n{rest}"
    )
}

/// What a manifest says of a table of word vectors.
pub fn of_words(dimension: usize) -> String {
    format!(
        "modality = \"text\"\n[words]\nvectors = \"{VECTORS}\"\nsplit = \"penn\"\ncase = \"lower\"\nphrase_words = 2\n\
         otherwise = [\"title\", \"upper\", \"hashes\"]\n[output.features]\ntensor = \"vector\"\npooling = \"none\"\n\
         normalise = true\ndimension = {dimension}\n[zero_shot]\nkind = \"similarity\"\n\
         labels = {{ templates = [\"a {{}}\"], description_weight = 0.5, example_prior = 5.0 }}\n\
         calibration = {{ temperature = 0.1, slope = 7.0, intercept = -1.0 }}\n"
    )
}

fn words(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder is made");
    let mut builder = Builder::create(&folder.join(VECTORS), 4, Precision::F32).expect("a table is begun");
    for (row, word) in
        ["the", "cat", "money", "back", "i", "want", "my", "a", "dog", "?"].into_iter().enumerate()
    {
        let vector = [row as f32, 1.0, -(row as f32), 0.5];
        builder.push(word, &vector).expect("a word is added");
    }
    let (index, _) = builder.finish().expect("a table is made").to_bytes();
    fs::write(folder.join(INDEX), &index).expect("an index is written");
    let text = manifest(WORDS, INDEX, &index, &of_words(4));
    fs::write(folder.join("headstart.toml"), text).expect("a manifest is written");
}

fn graph(folder: &Path, id: &str, graph: &Graph, rest: &str) {
    let opset = OperatorSet { domain: None, version: Some(17) };
    let model = Model {
        ir_version: Some(8),
        opset_import: vec![opset],
        graph: Some(graph.clone()),
        ..Model::default()
    };
    let bytes = model.encode_to_vec();
    fs::create_dir_all(folder).expect("a folder is made");
    fs::write(folder.join("model.onnx"), &bytes).expect("a graph is written");
    let text = manifest(id, "model.onnx", &bytes, rest);
    fs::write(folder.join("headstart.toml"), text).expect("a manifest is written");
}

/// The mean of each channel.
fn pictures() -> Graph {
    let (rows, side) = (Dimension::named("n"), Dimension::of(8));
    Graph {
        name: Some("pictures".into()),
        node: vec![node("GlobalAveragePool", "pixels", "means"), node("Flatten", "means", "vector")],
        input: vec![ValueInfo::tensor(
            "pixels",
            element::FLOAT,
            vec![rows.clone(), Dimension::of(3), side.clone(), side],
        )],
        output: vec![ValueInfo::tensor("vector", element::FLOAT, vec![rows, Dimension::of(3)])],
        ..Graph::default()
    }
}

/// Numbers and strings that come out as they go in.
fn tensors() -> Graph {
    let rows = || Dimension::named("n");
    let numbers = |name| ValueInfo::tensor(name, element::FLOAT, vec![rows(), Dimension::of(4)]);
    let strings = |name| ValueInfo::tensor(name, STRING, vec![rows()]);
    Graph {
        name: Some("tensors".into()),
        node: vec![node("Identity", "x", "y"), node("Identity", "s", "t")],
        input: vec![numbers("x"), strings("s")],
        output: vec![numbers("y"), strings("t")],
        ..Graph::default()
    }
}

fn node(operator: &str, input: &str, output: &str) -> Node {
    Node {
        op_type: Some(operator.into()),
        input: vec![input.into()],
        output: vec![output.into()],
        ..Node::default()
    }
}
