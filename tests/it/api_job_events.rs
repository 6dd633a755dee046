//! A job's events as pages and as a stream, and its checkpoints.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use headstart_types::job::NewEvent;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::training::KEYS;

fn path(job: &Value, tail: &str) -> String {
    format!("/v1/fine_tuning/jobs/{}/{tail}", job["id"].as_str().unwrap())
}

fn stream(job: &Value, last: Option<&str>) -> Request<Body> {
    let mut request = Request::get(path(job, "events")).header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    request.body(Body::empty()).unwrap()
}

/// The ids and messages of a stream's lines; `[DONE]` has no id.
fn read(text: &str) -> Vec<(String, String)> {
    let field = |block: &str, name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    let blocks = text.split("\n\n").filter(|block| block.contains("data:"));
    let message = |data: String| match serde_json::from_str::<Value>(&data) {
        Ok(event) => event["message"].as_str().unwrap().to_owned(),
        Err(_) => data,
    };
    blocks.map(|block| (field(block, "id:"), message(field(block, "data:")))).collect()
}

#[tokio::test]
async fn events_are_pages_newest_first() {
    let service = TestApp::with_store("").await;
    let job = service.job("", "support").await;
    for step in ["pause", "resume"] {
        service.ask("", "POST", &path(&job, step), Value::Null).await.ok();
    }
    let first = service.get(&path(&job, "events?limit=2")).await.ok();
    let messages = |page: &Value| -> Vec<String> {
        let data = page["data"].as_array().unwrap();
        data.iter().map(|event| event["message"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        (messages(&first), &first["has_more"]),
        (vec!["job resumed".into(), "job paused".into()], &json!(true))
    );
    let event = &first["data"][0];
    assert_eq!((&event["object"], &event["type"]), (&json!("fine_tuning.job.event"), &json!("message")));
    assert_eq!(event["level"], "info");
    let after = first["last_id"].as_str().unwrap();
    let second = service.get(&path(&job, &format!("events?limit=2&after={after}"))).await.ok();
    assert_eq!((messages(&second), &second["has_more"]), (vec!["job created".into()], &json!(false)));
}

#[tokio::test]
async fn a_stream_brings_events_as_they_come_and_ends_with_the_job() {
    let service = TestApp::with_store("").await;
    let job = service.job("", "support").await;
    let reply = service.open(stream(&job, None)).await;
    assert!(reply.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let mut body = reply.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(read(&String::from_utf8_lossy(&first))[0].1, "job created");
    let (lease, _) = service.claim().await;
    let event = NewEvent { data: Some(json!({"loss": 0.5})), ..NewEvent::info("half-way") };
    service.app.store().unwrap().add_event(&lease, &event, headstart::clock::now_ms()).await.unwrap();
    let second = tokio::time::timeout(Duration::from_secs(5), body.frame()).await.unwrap();
    let second = second.unwrap().unwrap().into_data().unwrap();
    let text = String::from_utf8_lossy(&second).into_owned();
    assert!(text.contains("half-way") && text.contains("\"type\":\"metrics\""), "{text}");
    service.finish(&lease).await;
    let rest =
        tokio::time::timeout(Duration::from_secs(5), body.collect()).await.unwrap().unwrap().to_bytes();
    let rest = read(&String::from_utf8_lossy(&rest));
    let messages: Vec<&str> = rest.iter().map(|(_, message)| message.as_str()).collect();
    assert_eq!(messages, ["job succeeded, its classifier is ready", "[DONE]"]);
}

#[tokio::test]
async fn a_stream_is_taken_up_behind_the_last_event_seen() {
    let service = TestApp::with_store("").await;
    let job = service.job("", "support").await;
    for step in ["pause", "resume", "cancel"] {
        service.ask("", "POST", &path(&job, step), Value::Null).await.ok();
    }
    let whole = read(&service.send(stream(&job, None)).await.text());
    let messages: Vec<&str> = whole.iter().map(|(_, message)| message.as_str()).collect();
    assert_eq!(messages, ["job created", "job paused", "job resumed", "job cancelled", "[DONE]"]);
    let rest = read(&service.send(stream(&job, Some(&whole[1].0))).await.text());
    assert_eq!(rest, whole[2..]);
    let other = service.job("", "other").await;
    let refused = service.send(stream(&other, Some(&whole[1].0))).await;
    assert_eq!(refused.error(), (400, "invalid_value".into(), Some("Last-Event-ID".into())));
}

#[tokio::test]
async fn a_stream_ends_without_its_last_line_when_the_server_stops() {
    let service = TestApp::with_store("").await;
    let job = service.job("", "support").await;
    service.app.begin_stopping();
    let text = service.send(stream(&job, None)).await.text();
    assert!(text.contains("job created") && !text.contains("[DONE]"), "{text}");
}

#[tokio::test]
async fn another_keys_stream_is_not_there() {
    let service = TestApp::with_store(KEYS).await;
    let job = service.job("anna", "support").await;
    let mut request = stream(&job, None);
    request.headers_mut().insert("authorization", "Bearer key-of-bert".parse().unwrap());
    assert_eq!(service.send(request).await.error(), (404, "not_found".into(), None));
}

#[tokio::test]
async fn checkpoints_are_pages_newest_first() {
    let service = TestApp::with_store("").await;
    let job = service.job("", "support").await;
    let (lease, _) = service.claim().await;
    let store = service.app.store().unwrap();
    let artifact = store.blobs().put(b"a head").await.unwrap().sha256;
    for step in 1..=3 {
        store.put_checkpoint(&lease, step, &artifact, &json!({"step": step}), 1_000).await.unwrap();
    }
    let first = service.get(&path(&job, "checkpoints?limit=2")).await.ok();
    assert_eq!((&first["has_more"], &first["data"][0]["step_number"]), (&json!(true), &json!(3)));
    assert_eq!(first["data"][0]["fine_tuning_job_id"], job["id"]);
    assert_eq!(first["first_id"], first["data"][0]["id"]);
    let after = first["last_id"].as_str().unwrap();
    let second = service.get(&path(&job, &format!("checkpoints?after={after}"))).await.ok();
    assert_eq!(second["data"][0]["metrics"], json!({"step": 1}));
}
