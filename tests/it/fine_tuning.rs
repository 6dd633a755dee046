//! A file becomes a job, a job a version, a version an answer.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use headstart::clock::now_ms;
use headstart::rollout::Rollout;
use headstart::worker::Workers;
use headstart_datasets::{Limits, Source, inspect};
use headstart_store::{Scope, Store};
use headstart_types::classifier::ClassifierId;
use headstart_types::file::{FileRow, FileState};
use headstart_types::ids::{FileId, JobId};
use headstart_types::job::{Job, JobParams, JobState, NewJob};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{TEXT, TestApp, until};

/// A service with a store of its own.
pub(crate) struct Lab {
    pub(crate) service: TestApp,
    pub(crate) store: Store,
    folder: Arc<TempDir>,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// One with options of its own, as TOML.
    pub(crate) async fn with(options: &str) -> Self {
        Self::on(Arc::new(tempfile::tempdir().unwrap()), options).await
    }

    /// Another service on the same data folder.
    pub(crate) async fn beside(&self) -> Self {
        self.beside_with("").await
    }

    /// The same with options of its own, as TOML.
    pub(crate) async fn beside_with(&self, options: &str) -> Self {
        Self::on(Arc::clone(&self.folder), options).await
    }

    async fn on(folder: Arc<TempDir>, options: &str) -> Self {
        let service = TestApp::start(&format!("data = {:?}\nworkers = 1\n{options}", folder.path()));
        service.app.open_store().await.unwrap();
        let store = service.app.store().unwrap().clone();
        Self { service, store, folder }
    }

    pub(crate) async fn upload(&self, csv: &str) -> FileId {
        let blob = self.store.blobs().put(csv.as_bytes()).await.unwrap();
        let path = self.store.blobs().path(&blob.sha256).await.unwrap();
        let source = Source::new(std::fs::File::open(path).unwrap(), "intents.csv").unwrap();
        let inspection = inspect(&source, &Limits::default(), &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(inspection.is_usable(), "{:?}", inspection.problems);
        let id = FileId::new(1, [7; 10]);
        let file = FileRow {
            id: id.clone(),
            key: String::new(),
            filename: "intents.csv".into(),
            purpose: "fine-tune".into(),
            bytes: blob.bytes,
            sha256: blob.sha256,
            created_at: 1,
            expires_at: None,
            state: FileState::Processed,
            status_details: None,
            problems: json!([]),
            summary: serde_json::to_value(&inspection).unwrap(),
        };
        self.store.create_file(&file, u64::MAX).await.unwrap();
        id
    }

    pub(crate) async fn queue(&self, file: &FileId, method: &str, chance: u8) -> JobId {
        self.queue_with(file, method, json!({}), chance).await
    }

    pub(crate) async fn queue_with(&self, file: &FileId, method: &str, given: Value, chance: u8) -> JobId {
        self.queue_on(TEXT, file, (method, given), chance).await
    }

    pub(crate) async fn queue_on(
        &self,
        model: &str,
        file: &FileId,
        (method, given): (&str, Value),
        chance: u8,
    ) -> JobId {
        let new = NewJob {
            id: JobId::new(1, [chance; 10]),
            key: String::new(),
            model: model.into(),
            method: method.into(),
            classifier: "intents".into(),
            suffix: None,
            training_file: file.clone(),
            validation_file: None,
            seed: 7,
            metadata: Default::default(),
            params: JobParams { version: 1, value: given },
            webhook: None,
            traceparent: None,
            validate_first: false,
        };
        self.store.create_job(&new, 10, 1).await.unwrap().id
    }

    pub(crate) async fn ended(&self, id: &JobId) -> Job {
        until(&format!("{id} ends"), async || {
            let job = self.store.job(Scope::All, id).await.unwrap();
            job.state.is_final().then_some(job)
        })
        .await
    }
}

/// Three intents, fourteen sentences each, no two alike.
pub(crate) fn intents() -> String {
    let subjects = ["my order", "the parcel", "this jacket", "a lamp", "the phone", "our sofa", "the book"];
    let forms = [
        ("refund", ["I want my money back for {}", "please refund {}"]),
        ("delivery", ["when does {} arrive", "{} is still not here, where is it"]),
        ("praise", ["I am so happy with {}", "{} is wonderful, thank you"]),
    ];
    let mut csv = "text,label\n".to_owned();
    for (label, sentences) in forms {
        for (sentence, subject) in sentences.iter().flat_map(|one| subjects.map(|subject| (*one, subject))) {
            csv.push_str(&format!("\"{}\",{label}\n", sentence.replace("{}", subject)));
        }
    }
    csv
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_becomes_a_classifier_that_answers() {
    let lab = Lab::new().await;
    let file = lab.upload(&intents()).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let rollout = tokio::spawn(Rollout::start(&lab.service.app).await.unwrap().run());
    for (chance, method) in (1..).zip(["linear_probe", "prototype", "mlp", "auto"]) {
        let job = lab.ended(&lab.queue(&file, method, chance).await).await;
        assert_eq!(job.state, JobState::Succeeded, "{method}: {:?}", job.error);
        let name = job.fine_tuned_model.unwrap();
        let body = json!({"model": name, "input": ["Give me my money back!", "Where is my package?"]});
        // The version that a job names answers at once: the request waits until it is loaded.
        let answer = lab.service.post("/v1/classify", &body).await.ok();
        assert_eq!(answer["data"][0]["label"], "refund", "{method}: {answer}");
        assert_eq!(answer["data"][1]["label"], "delivery", "{method}: {answer}");
        let report = lab.store.blobs().read(&job.report.unwrap(), 1 << 20).await.unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        assert!(report["metrics"]["accuracy"]["value"].as_f64().unwrap() > 0.9, "{method}: {report}");
    }
    let all = json!({"model": ["intents", "intents@2", "intents@production"], "input": "Thanks, I love it"});
    let answer = lab.service.post("/v1/classify", &all).await.ok();
    let names: Vec<&str> =
        answer["data"].as_array().unwrap().iter().map(|one| one["classifier"].as_str().unwrap()).collect();
    assert_eq!(names, ["intents", "intents@2", "intents@production"]);
    assert_eq!(answer["data"][0]["scores"], answer["data"][2]["scores"], "the first version is production");
    let checkpoints = format!("/v1/fine_tuning/jobs/{}/checkpoints", JobId::new(1, [3; 10]));
    let checkpoints = lab.service.get(&checkpoints).await.ok();
    let newest = checkpoints["data"][0]["fine_tuned_model_checkpoint"].as_str().unwrap().to_owned();
    let metrics = &checkpoints["data"][0]["metrics"];
    assert_eq!(metrics["step"], checkpoints["data"][0]["step_number"]);
    for (name, ours) in [("valid_loss", "loss"), ("full_valid_mean_token_accuracy", "accuracy")] {
        assert!(metrics[name].is_number() && metrics[name] == metrics[ours], "{metrics}");
    }
    let both = json!({"model": [newest, "intents@3"], "input": "Thanks, I love it"});
    let answer = lab.service.post("/v1/classify", &both).await.ok();
    assert_eq!(answer["data"][0]["classifier"], newest.as_str());
    assert_eq!(answer["data"][0]["label"], answer["data"][1]["label"], "{answer}");
    let model = lab.service.get(&format!("/v1/models/{newest}")).await.ok();
    assert_eq!((model["id"].as_str(), &model["classifier"]["method"]), (Some(&*newest), &json!("mlp")));
    let none = newest.replace("ckpt-step-", "ckpt-step-9");
    let reply = lab.service.post("/v1/classify", &json!({"model": none, "input": "x"})).await;
    assert_eq!(reply.error(), (404, "model_not_found".into(), Some("model".into())));
    let moved =
        lab.service.ask("", "POST", "/v1/classifiers/intents/versions/2/promote", json!({})).await.ok();
    assert_eq!(moved["production"], 2);
    let asked = json!({"model": ["intents", "intents@2"], "input": "Thanks, I love it"});
    let answer = lab.service.post("/v1/classify", &asked).await.ok();
    assert_eq!(answer["data"][0]["scores"], answer["data"][1]["scores"], "a promotion is seen at once");
    a_shadow_is_counted(&lab).await;
    a_split_is_for_the_bare_name(&lab).await;
    let trained = lab.service.ask("", "DELETE", &format!("/v1/files/{file}"), Value::Null).await.ok();
    let trained = trained["trained_on"].as_array().unwrap().clone();
    assert!(trained.contains(&json!("intents@3")) && trained.contains(&json!(newest)), "{trained:?}");
    lab.service.ask("", "DELETE", "/v1/classifiers/intents", Value::Null).await.ok();
    let gone = lab.service.post("/v1/classify", &json!({"model": newest, "input": "x"})).await;
    assert_eq!(gone.error().0, 404, "{}", gone.text());
    workers.stop().await;
    rollout.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_rows_are_all_of_one_group_is_learned_from() {
    let lab = Lab::new().await;
    let rows = intents();
    let rows: Vec<String> = rows.lines().skip(1).map(|row| format!("{row},all")).collect();
    let file = lab.upload(&format!("text,label,group\n{}\n", rows.join("\n"))).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let job = lab.ended(&lab.queue(&file, "linear_probe", 1).await).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    workers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_file_a_purge_emptied_fails_at_once_and_names_it() {
    let lab = Lab::new().await;
    let file = lab.upload(&intents()).await;
    let job = lab.queue(&file, "linear_probe", 1).await;
    let rows: Vec<u32> = (2..=43).collect();
    let purged = lab.service.post("/v1/purges", &json!({"file": file, "rows": rows})).await.ok();
    assert_eq!(purged["rows"], 42);
    let workers = Workers::start(&lab.service.app).unwrap();
    let job = lab.ended(&job).await;
    let error = job.error.unwrap();
    assert_eq!((job.state, job.attempt), (JobState::Failed, 1));
    assert_eq!((error.code.as_str(), error.param.as_deref()), ("unsuitable_data", Some("training_file")));
    workers.stop().await;
}

/// Version 1 scores along while 2 is production.
async fn a_shadow_is_counted(lab: &Lab) {
    let classifier = "/v1/classifiers/intents";
    let put = async |version| {
        lab.service.ask("", "PUT", &format!("{classifier}/shadow"), json!({"version": version})).await
    };
    put(json!(1)).await.ok();
    // Half of it makes sense, so that the two may differ.
    let words =
        ["refund", "parcel", "love", "sofa", "blue", "seven", "quickly", "nothing", "where", "thanks"];
    let both = json!({"model": ["intents@1", "intents@2"], "input": words});
    let answer = lab.service.post("/v1/classify", &both).await.ok();
    let label = |at: usize| answer["data"][at]["label"].clone();
    let different = (0..words.len()).filter(|item| label(2 * item) != label(2 * item + 1)).count();
    lab.service.post("/v1/classify", &json!({"model": "intents", "input": words})).await.ok();
    let shadow = lab.service.get(classifier).await.ok()["shadow"].clone();
    assert_eq!(shadow, json!({"version": 1, "items": words.len(), "disagreements": different}), "{answer}");
    let metrics = lab.service.get("/metrics").await.text();
    let line =
        format!("headstart_shadow_items_total{{classifier=\"intents@1\",outcome=\"differed\"}} {different}");
    assert!(metrics.contains(&line), "{metrics}");
    assert_eq!(put(json!(9)).await.error().0, 404);
    let other = put(json!(3)).await.ok();
    assert_eq!(other["shadow"], json!({"version": 3, "items": 0, "disagreements": 0}), "of its own");
    assert_eq!(put(json!(null)).await.ok()["shadow"], json!(null));
}

/// Version 1 answers all requests to the bare name while 2 is production.
async fn a_split_is_for_the_bare_name(lab: &Lab) {
    let traffic = "/v1/classifiers/intents/traffic";
    lab.service.ask("", "PUT", traffic, json!({"1": 100})).await.ok();
    let names = ["intents", "intents@1", "intents@production", "intents@2"];
    let body = json!({"model": names, "input": "Thanks, I love it"});
    let answer = lab.service.post("/v1/classify", &body).await.ok();
    let scores = |place: usize| &answer["data"][place]["scores"];
    assert_eq!((scores(0), scores(2)), (scores(1), scores(3)), "{answer}");
    assert_ne!(scores(0), scores(2), "{answer}");
    lab.service.ask("", "PUT", traffic, json!({})).await.ok();
}

/// The artifact of a job's version.
pub(crate) async fn artifact(lab: &Lab, job: &Job) -> Vec<u8> {
    let id = ClassifierId { key: String::new(), name: job.classifier.clone() };
    let (_, number) = job.fine_tuned_model.as_ref().unwrap().split_once('@').unwrap();
    let version = lab.store.version(&id, number.parse().unwrap()).await.unwrap();
    lab.store.blobs().read(&version.artifact, 1 << 30).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_worker_is_stopped_at_any_step_ends_with_the_bytes_of_an_undisturbed_one() {
    let lab = Lab::new().await;
    let file = lab.upload(&intents()).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let undisturbed = lab.ended(&lab.queue(&file, "mlp", 1).await).await;
    workers.stop().await;
    let expected = artifact(&lab, &undisturbed).await;

    let id = lab.queue(&file, "mlp", 2).await;
    let (mut stops, mut told) = (0u64, 0);
    let disturbed = loop {
        let job = lab.store.job(Scope::All, &id).await.unwrap();
        if job.state.is_final() {
            break job;
        }
        if let Some(progress) = job.progress {
            assert!((told..progress.total).contains(&progress.step), "{progress:?} after {told}");
            told = progress.step;
        }
        let workers = Workers::start(&lab.service.app).unwrap();
        tokio::time::sleep(Duration::from_millis(5 + 23 * stops)).await;
        workers.stop().await;
        stops += 1;
    };
    assert_eq!(disturbed.state, JobState::Succeeded, "{:?}", disturbed.error);
    assert!(stops > 1, "it was never stopped on its way");
    assert!(artifact(&lab, &disturbed).await == expected, "other bytes after {stops} stops");
    let seen = lab.service.get(&format!("/v1/fine_tuning/jobs/{id}")).await.ok();
    assert_eq!(seen["progress"], json!({"step": 1000, "total": 1000, "eta_seconds": 0}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_paused_resumed_and_cancelled_while_it_runs() {
    let lab = Lab::new().await;
    let file = lab.upload(&intents()).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let id = lab.queue(&file, "auto", 1).await;
    let running = async |id: &JobId| {
        until(&format!("{id} runs"), async || {
            (lab.store.job(Scope::All, id).await.unwrap().state == JobState::Running).then_some(())
        })
        .await;
    };
    running(&id).await;
    assert_eq!(lab.store.pause(Scope::All, &id, now_ms()).await.unwrap().state, JobState::Paused);
    // The worker lets go of it and takes the next one.
    let other = lab.ended(&lab.queue(&file, "prototype", 2).await).await;
    assert_eq!(other.state, JobState::Succeeded);
    assert_eq!(lab.store.job(Scope::All, &id).await.unwrap().state, JobState::Paused);
    lab.store.resume(Scope::All, &id, u32::MAX, now_ms()).await.unwrap();
    assert_eq!(lab.ended(&id).await.state, JobState::Succeeded);

    let id = lab.queue(&file, "auto", 3).await;
    running(&id).await;
    lab.store.cancel(Scope::All, &id, now_ms()).await.unwrap();
    let after = lab.ended(&lab.queue(&file, "prototype", 4).await).await;
    assert_eq!(after.fine_tuned_model.as_deref(), Some("intents@3"), "a cancelled job makes no version");
    assert_eq!(lab.store.job(Scope::All, &id).await.unwrap().state, JobState::Cancelled);
    workers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_succeed_says_why_and_names_what_to_change() {
    let lab = Lab::new().await;
    let file = lab.upload("text,label\na cat,x\na dog,x\na car,y\na bus,y\n").await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let job = lab.ended(&lab.queue(&file, "no_such_method", 1).await).await;
    let error = job.error.unwrap();
    assert_eq!((job.state, error.param.as_deref()), (JobState::Failed, Some("method")));
    assert!(error.message.contains("linear_probe"), "{}", error.message);
    workers.stop().await;
}
