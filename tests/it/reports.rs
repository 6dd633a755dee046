//! What a job's report says beside the figures of its head.

use std::time::Duration;

use headstart::clock::now_ms;
use headstart::rollout::Rollout;
use headstart::worker::Workers;
use headstart_store::{Scope, Store};
use headstart_types::classifier::ClassifierId;
use headstart_types::job::JobState;
use serde_json::{Value, json};

use crate::support::training::questions;
use crate::support::{TEXT, TEXT_INT8, TestApp, until};

/// Two classes whose rows speak of them, twenty each; the last quarter is to be scored.
fn sports_and_food(names: [&str; 2]) -> String {
    let subjects = [
        [
            "the football match",
            "a tennis player",
            "the basketball team",
            "an Olympic runner",
            "the swimming race",
        ],
        ["a bowl of soup", "fresh bread", "the pizza recipe", "a chocolate cake", "fried rice"],
    ];
    let forms = ["I saw {} yesterday", "tell me about {}", "{} was wonderful", "{} is all I think of"];
    let mut lines = String::new();
    for (of_class, label) in subjects.iter().zip(names) {
        for (number, form) in forms.iter().enumerate() {
            let split = if number == 3 { "test" } else { "train" };
            for subject in of_class {
                let row = json!({"text": form.replace("{}", subject), "label": label, "split": split});
                lines.push_str(&format!("{row}\n"));
            }
        }
    }
    lines
}

async fn report_of(service: &TestApp, lines: &str, more: Value) -> Value {
    let file = service.file("", lines).await;
    let mut body =
        json!({"model": TEXT, "training_file": file["id"], "method": {"type": "linear_probe"}, "seed": 3});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let job = service.ask("", "POST", "/v1/fine_tuning/jobs", body).await.ok();
    let workers = Workers::start(&service.app).unwrap();
    let (report, _) = service.ended(&job).await;
    workers.stop().await;
    report
}

fn left_out(report: &Value, part: &str) -> Option<String> {
    let parts = report["left_out"].as_array()?;
    let found = parts.iter().find(|left| left["part"].as_str().unwrap().starts_with(part))?;
    Some(found["reason"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_learning_curve_begins_with_what_the_names_of_the_classes_give() {
    let service = TestApp::with_store("workers = 1").await;
    let lines = sports_and_food(["sports", "food"]);
    let report = report_of(&service, &lines, json!({})).await;
    let zeroth = report["zero_shot"]["value"].as_f64().unwrap();
    let tests: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let tests: Vec<&Value> = tests.iter().filter(|row| row["split"] == "test").collect();
    let texts: Vec<&Value> = tests.iter().map(|row| &row["text"]).collect();
    let asked = json!({"model": TEXT, "input": texts, "labels": ["sports", "food"]});
    let answer = service.post("/v1/zero-shot", &asked).await.ok();
    let right = answer["data"].as_array().unwrap().iter().zip(&tests);
    let right = right.filter(|(said, row)| said["label"] == row["label"]).count();
    assert_eq!(zeroth, right as f64 / tests.len() as f64, "as a request would be answered");
    assert!(zeroth > 0.8, "{zeroth}");
    assert_eq!(left_out(&report, "zero-shot"), None);
    let stages: Vec<&str> =
        report["stages"].as_array().unwrap().iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert_eq!(stages, ["features", "compare", "fit", "zero_shot", "evaluate"]);
    for stage in report["stages"].as_array().unwrap() {
        assert!(stage["peak_bytes"].as_u64().unwrap() > 50 << 20, "the backbones alone are more: {stage}");
    }
    assert_eq!(report["stages"][3]["items"], 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_report_says_was_run_can_be_run_again() {
    let service = TestApp::with_store("workers = 1").await;
    let lines = sports_and_food(["sports", "food"]);
    let given = json!({"folds": 4, "class_weight": {"food": 0.3}});
    let method = json!({"type": "linear_probe", "linear_probe": {"hyperparameters": given}});
    let asked = json!({"method": method, "suffix": "again", "report": {"budget_seconds": 0}});
    let report = report_of(&service, &lines, asked).await;
    let run = &report["run"];
    assert_eq!(run["classifier"], "again");
    assert!(run["job"].as_str().unwrap().starts_with("ftjob-"), "{run}");
    assert!(run["onnxruntime"].as_str().unwrap().starts_with("1."), "{run}");
    let used = &run["hyperparameters"];
    assert_eq!((&used["c"], &used["class_weight"]), (&Value::Null, &json!({"food": 0.3})));
    assert_eq!((used["cs"].as_array().unwrap().len(), &used["folds"]), (10, &json!(4)));
    let c = run["chosen"]["c"].as_f64().unwrap();
    assert!(used["cs"].as_array().unwrap().contains(&json!(c)), "{run}");

    let method = json!({"type": run["method"], "linear_probe": {"hyperparameters": used}});
    let same =
        json!({"method": method, "seed": run["seed"], "suffix": "twin", "report": {"budget_seconds": 0}});
    let twin = report_of(&service, &lines, same).await;
    assert_eq!(twin["run"]["chosen"], run["chosen"]);
    assert_eq!(twin["metrics"], report["metrics"]);
    let artifact = async |name: &str| {
        let id = ClassifierId { key: String::new(), name: name.to_owned() };
        service.app.store().unwrap().version(&id, 1).await.unwrap().artifact
    };
    assert_eq!(artifact("again").await, artifact("twin").await, "the same bytes");

    let method = json!({"type": "prototype"});
    let more = json!({"method": method, "report": {"budget_seconds": 0}});
    let report = report_of(&service, &lines, more).await;
    for name in ["alpha", "beta"] {
        let value = report["run"]["chosen"][name].to_string();
        assert!(value.len() < 5, "{name} = {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_that_are_only_numbered_have_no_zeroth_point_and_no_time_no_curve() {
    let service = TestApp::with_store("workers = 1").await;
    let lines = sports_and_food(["0", "1"]);
    let report = report_of(&service, &lines, json!({"report": {"budget_seconds": 0}})).await;
    assert!(report.get("zero_shot").is_none());
    assert_eq!(left_out(&report, "zero-shot").unwrap(), "class names like `0` say nothing of what they name");
    assert!(report.get("transfer").is_none());
    assert_eq!(left_out(&report, "learning curve at 1 ").unwrap(), "the time for the report was spent");
    assert!(left_out(&report, "learning curve with all").is_some());
    let codes: Vec<&str> =
        report["warnings"].as_array().unwrap().iter().map(|note| note["code"].as_str().unwrap()).collect();
    assert!(codes.contains(&"transfer_not_measured"), "{codes:?}");
}

#[tokio::test]
async fn the_budget_of_a_report_is_kept_with_its_job() {
    let service = TestApp::with_store("").await;
    let file = service.file("", &questions(8)).await;
    let asked = async |report: Value| {
        let body = json!({"model": TEXT, "training_file": file["id"], "report": report});
        service.ask("", "POST", "/v1/fine_tuning/jobs", body).await
    };
    for (given, kept) in [(json!(null), 60), (json!({}), 60), (json!({"budget_seconds": 5}), 5)] {
        assert_eq!(asked(given).await.ok()["report"], json!({"budget_seconds": kept}));
    }
    for wrong in [-1, 3601] {
        let refused = asked(json!({"budget_seconds": wrong})).await;
        assert_eq!(refused.error(), (400, "invalid_value".into(), Some("report.budget_seconds".into())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_on_a_quantised_backbone_is_scored_as_it_answers() {
    let service = TestApp::with_store("workers = 1").await;
    // Some of it is labelled wrong, so that no head is sure.
    let wrong = sports_and_food(["food", "sports"]);
    let lines: String = sports_and_food(["sports", "food"])
        .lines()
        .zip(wrong.lines())
        .enumerate()
        .map(|(row, (right, wrong))| format!("{}\n", if row % 4 == 1 { wrong } else { right }))
        .collect();
    let rollout = tokio::spawn(Rollout::start(&service.app).await.unwrap().run());
    let report = report_of(&service, &lines, json!({"model": TEXT_INT8, "suffix": "small"})).await;
    let original = report_of(&service, &lines, json!({"suffix": "large"})).await;
    rollout.abort();
    assert_eq!(report["run"]["backbone"]["original"], TEXT);
    assert!(original["run"]["backbone"].get("original").is_none());
    assert_ne!(report["run"]["backbone"]["sha256"], original["run"]["backbone"]["sha256"]);
    assert!(report["warnings"].as_array().unwrap().iter().any(|note| note["code"] == "quantised"));

    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows: Vec<&Value> = rows.iter().filter(|row| row["split"] == "test").collect();
    let texts: Vec<&Value> = rows.iter().map(|row| &row["text"]).collect();
    let log_loss = async |name: &str| {
        let answer = service.post("/v1/classify", &json!({"model": name, "input": texts})).await.ok();
        let of = |(said, row): (&Value, &&Value)| {
            let scores = said["scores"].as_array().unwrap();
            -scores.iter().find(|one| one["label"] == row["label"]).unwrap()["score"].as_f64().unwrap().ln()
        };
        answer["data"].as_array().unwrap().iter().zip(&rows).map(of).sum::<f64>() / rows.len() as f64
    };
    let told = |report: &Value| report["metrics"]["log_loss"].as_f64().unwrap();
    let (small, large) = (log_loss("small@1").await, log_loss("large@1").await);
    assert!((small - told(&report)).abs() < 1e-5, "{small} {}", told(&report));
    assert!((large - told(&original)).abs() < 1e-5, "{large} {}", told(&original));
    assert!((small - large).abs() > 1e-4, "the two precisions would not be told apart: {small} {large}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_paused_or_cancelled_by_another_process_stops_long_before_its_next_heartbeat() {
    let service = TestApp::with_store("workers = 1\nlease_seconds = 600").await;
    let file = service.file("", &questions(6000)).await;
    let body = json!({"model": TEXT, "training_file": file["id"]});
    let job = service.ask("", "POST", "/v1/fine_tuning/jobs", body).await.ok();
    let id = job["id"].as_str().unwrap().parse().unwrap();
    let elsewhere = Store::open(service.app.store().unwrap().folder().unwrap()).await.unwrap();
    let workers = Workers::start(&service.app).unwrap();
    let ended = async |outcome: &str| {
        let series = format!("headstart_jobs_ended_total{{outcome=\"{outcome}\"}}");
        // Far less than the 200 s to the next heartbeat.
        for _ in 0..1500 {
            if service.metric(&series).await > 0.0 {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    };
    let done = async || {
        let progress = elsewhere.job(Scope::All, &id).await.unwrap().progress;
        progress.map_or(0.0, |progress| progress.step as f64 / progress.total as f64)
    };
    until("the job gets on", async || (done().await > 0.0).then_some(())).await;
    elsewhere.pause(Scope::All, &id, now_ms()).await.unwrap();
    assert!(ended("paused").await, "it goes on");
    assert!(done().await < 0.9, "it was done before it could be paused");
    elsewhere.resume(Scope::All, &id, u32::MAX, now_ms()).await.unwrap();
    until("the job goes on", async || {
        (elsewhere.job(Scope::All, &id).await.unwrap().state == JobState::Running).then_some(())
    })
    .await;
    elsewhere.cancel(Scope::All, &id, now_ms()).await.unwrap();
    assert!(ended("cancelled").await, "it goes on");
    workers.stop().await;
}
