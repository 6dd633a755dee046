//! A training and a validation file are looked at together, and what they have in common is told.

use headstart::worker::Workers;
use serde_json::{Value, json};

use crate::support::training::questions;
use crate::support::{TEXT, TestApp};

fn line(text: &str, label: &str) -> String {
    format!("{}\n", json!({"text": text, "label": label}))
}

async fn job_on(service: &TestApp, training: &Value, validation: Option<&Value>) -> Value {
    let validation = validation.map(|file| file["id"].clone());
    let body = json!({"model": TEXT, "training_file": training["id"], "validation_file": validation,
                      "method": {"type": "linear_probe"}, "seed": 1});
    service.ask("", "POST", "/v1/fine_tuning/jobs", body).await.ok()
}

#[tokio::test]
async fn a_validation_file_may_be_too_small_to_learn_from() {
    let service = TestApp::with_store("").await;
    let training = service.file("", &questions(8)).await;
    assert_eq!(training["usable_as"], json!(["training_file", "validation_file"]));
    let small = service.file("", &line("where is my parcel", "delivery")).await;
    assert_eq!((&small["status"], &small["usable_as"]), (&json!("error"), &json!(["validation_file"])));
    let job = job_on(&service, &training, Some(&small)).await;
    assert_eq!(job["validation_file"], small["id"]);

    let body = json!({"model": TEXT, "training_file": small["id"]});
    let refused = service.ask("", "POST", "/v1/fine_tuning/jobs", body).await;
    assert_eq!(refused.error(), (400, "invalid_value".into(), Some("training_file".into())));
    let wrong = service.file("", &line("", "delivery")).await;
    assert_eq!(wrong["usable_as"], json!([]));
    let body = json!({"model": TEXT, "training_file": training["id"], "validation_file": wrong["id"]});
    let refused = service.ask("", "POST", "/v1/fine_tuning/jobs", body).await;
    assert_eq!(refused.error(), (400, "invalid_value".into(), Some("validation_file".into())));
}

#[tokio::test]
async fn a_validation_label_that_is_not_trained_on_is_named_with_its_line() {
    let service = TestApp::with_store("").await;
    let training = service.file("", &questions(8)).await;
    let lines = [
        line("where is my parcel", "delivery"),
        line("I was charged twice", "billing"),
        line("and twice again", "billing"),
    ];
    let other = service.file("", &lines.concat()).await;
    let body = json!({"model": TEXT, "training_file": training["id"], "validation_file": other["id"]});
    let refused = service.ask("", "POST", "/v1/fine_tuning/jobs", body).await;
    assert_eq!(refused.error(), (400, "invalid_value".into(), Some("validation_file".into())));
    let message = refused.message();
    assert!(message.starts_with("`validation_file`, line 2: the label `billing`"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_both_files_are_counted_in_the_report_and_warned_of() {
    let service = TestApp::with_store("workers = 1").await;
    let training = service.file("", &questions(40)).await;
    let lines = line("Something else, in other words", "delivery")
        + &line("QUESTION number 0 about refund!", "refund");
    let validation = service.file("", &lines).await;
    let job = job_on(&service, &training, Some(&validation)).await;
    let workers = Workers::start(&service.app).unwrap();
    let (report, warnings) = service.ended(&job).await;
    workers.stop().await;
    let found = &report["duplicates"];
    assert_eq!((&found["across_splits"], &found["exact"]), (&json!(1), &json!(1)), "{found}");
    let pair = json!({"first": {"split": "train", "line": 1}, "second": {"split": "val", "line": 2}, "twin": "exact"});
    assert_eq!(found["pairs"], json!([pair]));
    let notes = report["warnings"].as_array().unwrap();
    assert!(notes.iter().any(|note| note["code"] == "leakage"), "{notes:?}");
    assert_eq!(warnings, ["1 rows to tune on or to score are also rows to learn from: the figures flatter"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_drawn_to_be_scored_count_as_a_split_of_their_own() {
    let service = TestApp::with_store("workers = 1").await;
    let training = service.file("", &questions(30).repeat(2)).await;
    let job = job_on(&service, &training, None).await;
    let workers = Workers::start(&service.app).unwrap();
    let (report, warnings) = service.ended(&job).await;
    workers.stop().await;
    let found = &report["duplicates"];
    let across = found["across_splits"].as_u64().unwrap();
    assert!((1..=12).contains(&across), "a fifth of sixty rows is scored: {found}");
    assert!(found["exact"].as_u64().unwrap() >= 30, "{found}");
    let pair = &found["pairs"][0];
    assert_eq!((&pair["first"]["split"], &pair["second"]["split"]), (&json!("train"), &json!("held_out")));
    let (first, second) = (&pair["first"]["line"], &pair["second"]["line"]);
    assert_eq!(first.as_u64().unwrap().abs_diff(second.as_u64().unwrap()), 30);
    assert_eq!(warnings.len(), 1);
}
