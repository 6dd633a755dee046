//! Backbones that jobs train: what answers, what is kept of it, and what a stop on the way changes.

use std::time::Duration;

use headstart::rollout::Rollout;
use headstart::worker::Workers;
use headstart_store::Scope;
use headstart_types::job::{Job, JobState};
use serde_json::{Value, json};

use crate::fine_tuning::{Lab, artifact, intents};
use crate::support::{TEXT, TEXT_INT8};

/// A few short passes, as many steps as there is time for in a test.
fn short() -> Value {
    json!({"epochs": 2, "batch_size": 8, "checkpoint_steps": 2, "learning_rate": 1e-3, "share": 1.0})
}

async fn report(lab: &Lab, job: &Job) -> Value {
    lab.service.get(&format!("/v1/fine_tuning/jobs/{}/report", job.id)).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tuned_backbone_answers_for_its_classifier_alone_and_its_report_weighs_it_against_the_frozen_one() {
    let lab = Lab::new().await;
    let file = lab.upload(&intents()).await;
    let rollout = Rollout::start(&lab.service.app).await.unwrap();
    let rollout = tokio::spawn(rollout.run());
    let workers = Workers::start(&lab.service.app).unwrap();
    let job = lab.ended(&lab.queue_with(&file, "full", short(), 1).await).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    let report = report(&lab, &job).await;
    assert_eq!((&report["run"]["method"], &report["run"]["backbone"]["id"]), (&json!("full"), &json!(TEXT)));
    let tuning = &report["tuning"];
    assert!(tuning["weights"].as_u64().unwrap() > 10_000_000, "{tuning}");
    assert_eq!(tuning["epochs"].as_array().unwrap().len(), 2);
    assert_eq!(tuning["mixtures"][0]["share"], 0.0);
    assert!(report["verdict"].as_str().unwrap().contains("Training the backbone"), "{}", report["verdict"]);

    let frozen = lab.ended(&lab.queue(&file, "linear_probe", 2).await).await;
    assert_eq!(frozen.state, JobState::Succeeded);
    let body = json!({"model": ["intents@1", "intents@2"], "input": ["where is my parcel", "thank you"]});
    let answer = lab.service.post("/v1/classify", &body).await.ok();
    let scores = |version: usize| answer["data"][version]["scores"].clone();
    assert_ne!(scores(0), scores(1), "{answer}");
    let said = |version: usize| &answer["data"][version];
    assert!(said(0).to_string().contains("delivery"), "{answer}");
    // It is no backbone that anybody lists, and its version names the one that it was made of.
    let models = lab.service.get("/v1/models").await.ok().to_string();
    assert!(!models.contains('+'), "{models}");
    let versions = lab.service.get("/v1/classifiers/intents").await.ok();
    let named: Vec<&Value> =
        versions["versions"].as_array().unwrap().iter().map(|version| &version["backbone"]).collect();
    assert_eq!(named, [TEXT, TEXT], "{versions}");
    rollout.abort();
    workers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backbone_of_low_precision_is_tuned_from_its_original() {
    let lab = Lab::new().await;
    let file = lab.upload(&intents()).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let job = lab.ended(&lab.queue_on(TEXT_INT8, &file, ("lora", short()), 1).await).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    let report = report(&lab, &job).await;
    assert_eq!(report["run"]["backbone"]["id"], TEXT);
    workers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tuning_that_is_stopped_at_any_step_ends_with_the_bytes_of_an_undisturbed_one() {
    let lab = Lab::new().await;
    let file = lab.upload(&intents()).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let method = |chance| lab.queue_with(&file, "partial", short(), chance);
    let undisturbed = lab.ended(&method(1).await).await;
    assert_eq!(undisturbed.state, JobState::Succeeded, "{:?}", undisturbed.error);
    workers.stop().await;
    let expected = artifact(&lab, &undisturbed).await;
    let id = method(2).await;
    let mut stops = 0u64;
    let disturbed = loop {
        let job = lab.store.job(Scope::All, &id).await.unwrap();
        if job.state.is_final() {
            break job;
        }
        let workers = Workers::start(&lab.service.app).unwrap();
        tokio::time::sleep(Duration::from_millis(150 + 150 * stops)).await;
        workers.stop().await;
        stops += 1;
    };
    assert_eq!(disturbed.state, JobState::Succeeded, "{:?}", disturbed.error);
    assert!(stops > 1, "it was never stopped on its way");
    assert!(artifact(&lab, &disturbed).await == expected, "other bytes after {stops} stops");
}
