//! What tests of fine-tuning share: uploads, requests under a key, and a worker that only pretends.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, header};
use headstart_methods::artifact::{self, Artifact};
use headstart_methods::head::{Backbone, Head, HeadParts, Tail};
use headstart_store::{ClaimLimits, Scope};
use headstart_tasks::classifiers::{NewVersion as LiveVersion, Pointers};
use headstart_types::classifier::{NewVersion, Origin};
use headstart_types::job::{Job, Lease};
use serde_json::{Value, json};

use super::{Reply, TEXT, TestApp, until};

/// Two keys that train, and an administrator's.
pub(crate) const KEYS: &str =
    "api_keys = \"anna:train+infer:key-of-anna,bert:train:key-of-bert,root:admin:key-of-root\"";

const BOUNDARY: &str = "a-boundary-that-no-part-holds";

/// A request, under a key where one is named.
pub(crate) fn request(key: &str, method: &str, path: &str, body: &Value) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !key.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer key-of-{key}"));
    }
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    request.header(header::CONTENT_TYPE, "application/json").body(body).unwrap()
}

/// Parts of a form: name, file name, bytes.
pub(crate) fn form(parts: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, bytes) in parts {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        let head = format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

/// An upload of a form.
pub(crate) fn upload(key: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::post("/v1/files")
        .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"));
    if !key.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer key-of-{key}"));
    }
    request.body(body.into()).unwrap()
}

/// Lines of two classes, `rows` in all.
pub(crate) fn questions(rows: usize) -> String {
    let line = |row: usize| {
        let label = if row.is_multiple_of(2) { "refund" } else { "delivery" };
        format!("{}\n", json!({"text": format!("question number {row} about {label}"), "label": label}))
    };
    (0..rows).map(line).collect()
}

impl TestApp {
    pub(crate) async fn ask(&self, key: &str, method: &str, path: &str, body: Value) -> Reply {
        self.send(request(key, method, path, &body)).await
    }

    /// Uploads lines; the file's object.
    pub(crate) async fn file(&self, key: &str, lines: &str) -> Value {
        let purpose = ("purpose", None, b"fine-tune".as_slice());
        let parts = [purpose, ("file", Some("questions.jsonl"), lines.as_bytes())];
        self.send(upload(key, form(&parts))).await.ok()
    }

    /// Asks for a job on a fresh file; the job's object.
    pub(crate) async fn job(&self, key: &str, suffix: &str) -> Value {
        let file = self.file(key, &questions(8)).await;
        let body = json!({"model": TEXT, "training_file": file["id"], "suffix": suffix});
        self.ask(key, "POST", "/v1/fine_tuning/jobs", body).await.ok()
    }

    /// The report of a job that is worked on elsewhere, and the messages of its warnings.
    pub(crate) async fn ended(&self, job: &Value) -> (Value, Vec<String>) {
        let path = format!("/v1/fine_tuning/jobs/{}", job["id"].as_str().unwrap());
        until("the job succeeds", async || {
            let now = self.get(&path).await.ok();
            assert!(now["status"] != "failed", "{now}");
            (now["status"] == "succeeded").then_some(())
        })
        .await;
        let events = self.get(&format!("{path}/events?limit=100")).await.ok();
        let warnings = events["data"].as_array().unwrap().iter().filter(|event| event["level"] == "warn");
        let warnings = warnings.map(|event| event["message"].as_str().unwrap().to_owned()).collect();
        (self.get(&format!("{path}/report")).await.ok(), warnings)
    }

    /// Takes the next job as a worker would.
    pub(crate) async fn claim(&self) -> (Lease, Job) {
        let limits = ClaimLimits { lease_ms: 60_000, lost_max: 3, running_max: 10 };
        self.app
            .store()
            .unwrap()
            .claim("a worker", limits, headstart::clock::now_ms())
            .await
            .unwrap()
            .unwrap()
    }

    /// Ends a job as a worker would.
    pub(crate) async fn finish(&self, lease: &Lease) {
        let store = self.app.store().unwrap();
        let head = self.head(false);
        let artifact = store.blobs().put(&artifact::save(&head).unwrap()).await.unwrap().sha256;
        let report = store.blobs().put(b"{\"accuracy\":0.9}").await.unwrap().sha256;
        let backbone = &head.parts().backbone;
        let version = NewVersion {
            origin: Origin::Job,
            artifact,
            report: Some(report.clone()),
            evidence: None,
            metrics: json!({"accuracy": 0.9}),
            backbone: backbone.id.clone(),
            backbone_sha256: backbone.sha256.clone(),
        };
        store.finish(lease, &version, Some(&report), headstart::clock::now_ms()).await.unwrap();
    }

    /// A head of two classes that says `refund` of everything.
    fn head(&self, multi_label: bool) -> Head {
        self.head_that_gives(1.0, multi_label)
    }

    /// A head of two classes that gives `refund` this logit, and `delivery` none, whatever it sees.
    pub(crate) fn head_that_gives(&self, refund: f32, multi_label: bool) -> Head {
        let served = self.app.tasks.catalog.at_hand(TEXT).unwrap();
        let sha256 = served.manifest().backbone.sha256.clone();
        let head = Head::new(HeadParts {
            method: "linear_probe".to_owned(),
            hyperparameters: serde_json::Map::new(),
            backbone: Backbone { id: TEXT.to_owned(), sha256 },
            classes: Arc::from(["delivery".to_owned(), "refund".to_owned()]),
            multi_label,
            normalise: false,
            rows: ndarray::ArcArray2::zeros((2, 384)),
            bias: Arc::from([0.0, refund]),
            tail: Tail::Identity,
            temperature: 1.0,
            thresholds: None,
        });
        head.unwrap()
    }

    /// Lets a classifier of two classes answer, without a row.
    pub(crate) fn answering(&self, name: &str, multi_label: bool) {
        let version =
            LiveVersion { number: 1, artifact: Arc::new(Artifact::Head(Arc::new(self.head(multi_label)))) };
        let pointers = Pointers { production: Some(1), ..Pointers::default() };
        self.app.tasks.classifiers.set(("", name), &[], vec![version], pointers).unwrap();
    }

    /// A classifier with so many versions, each made by a job.
    pub(crate) async fn classifier(&self, key: &str, name: &str, versions: usize) -> Job {
        let mut last = None;
        for _ in 0..versions {
            self.job(key, name).await;
            let (lease, job) = self.claim().await;
            self.finish(&lease).await;
            last = Some(self.app.store().unwrap().job(Scope::All, &job.id).await.unwrap());
        }
        last.unwrap()
    }
}
