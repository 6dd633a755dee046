//! Overload, deadlines, clients that leave: what the engine promises under pressure.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{TEXT, TEXT_INT8, TestApp, floats};

fn texts(count: usize, tag: usize) -> Value {
    let long = "a sentence that takes a while to compute because it has many words in it ".repeat(6);
    let texts: Vec<String> = (0..count).map(|number| format!("{tag} {number} {long}")).collect();
    json!({"model": TEXT, "input": texts})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_answers_429_says_when_to_retry_and_recovers() {
    let service = TestApp::start("queue_items = 8\nmax_items = 8\ncache_bytes = 0");
    let bodies: Vec<Value> = (0..12).map(|tag| texts(8, tag)).collect();
    let replies = join_all(bodies.iter().map(|body| service.post("/v1/embeddings", body))).await;
    let refused: Vec<_> = replies.iter().filter(|reply| reply.status == 429).collect();
    let answered = replies.iter().filter(|reply| reply.status == 200).count();
    assert!(!refused.is_empty() && answered >= 1 && answered + refused.len() == 12);
    for reply in &refused {
        assert_eq!(reply.error(), (429, "overloaded".into(), None));
        let seconds: u64 = reply.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=120).contains(&seconds));
    }
    service.post("/v1/embeddings", &texts(8, 99)).await.ok();
    let rejected = service.metric("headstart_rejections_total{reason=\"queue_full\"}").await;
    assert_eq!(rejected as usize, refused.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passed_deadline_answers_504_and_frees_the_queue() {
    let service = TestApp::start("cache_bytes = 0");
    let request = Request::post("/v1/embeddings")
        .header("content-type", "application/json")
        .header("x-request-timeout-ms", "5")
        .body(Body::from(texts(200, 0).to_string()))
        .unwrap();
    let reply = service.send(request).await;
    assert_eq!(reply.error(), (504, "deadline_exceeded".into(), None));
    assert_drained(&service).await;
    service.post("/v1/embeddings", &texts(1, 1)).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_frees_its_work() {
    let service = TestApp::start("cache_bytes = 0");
    let body = texts(400, 0);
    let under_way = async {
        while service.metric("headstart_lanes_busy").await == 0.0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        _ = service.post("/v1/embeddings", &body) => panic!("the request was answered before its client left"),
        () = under_way => {}
    }
    let series = |outcome: &str| format!("headstart_items_total{{model=\"{TEXT}\",outcome=\"{outcome}\"}}");
    let (mut cancelled, mut answered) = (0.0, 0.0);
    for _ in 0..500 {
        cancelled = service.metric(&series("cancelled")).await;
        answered = service.metric(&series("answered")).await;
        if cancelled + answered == 400.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(cancelled + answered == 400.0 && answered < 100.0, "{cancelled} cancelled, {answered} answered");
}

/// Waits until nothing is queued; far longer than computing all of it would be a failure.
async fn assert_drained(service: &TestApp) {
    for _ in 0..500 {
        if service.metric(&format!("headstart_queue_items{{model=\"{TEXT}\"}}")).await == 0.0
            && service.metric("headstart_lanes_busy").await == 0.0
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the queue still holds items");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_each_get_their_own_answer() {
    let service = TestApp::start("cache_bytes = 0");
    // One backbone has one session, the other two.
    for model in [TEXT, TEXT_INT8] {
        assert_own_answers(&service, model).await;
    }
}

/// Sixty-four clients at a time get bit for bit what each gets alone.
async fn assert_own_answers(service: &TestApp, model: &str) {
    let body = |number: usize| json!({"model": model, "input": format!("client number {number} {}", "word ".repeat(number % 9))});
    let mut alone = Vec::new();
    for number in 0..64 {
        alone.push(floats(&service.post("/v1/embeddings", &body(number)).await.ok()["data"][0]["embedding"]));
    }
    let bodies: Vec<Value> = (0..64).map(body).collect();
    let together = join_all(bodies.iter().map(|body| service.post("/v1/embeddings", body))).await;
    for (number, (reply, alone)) in together.into_iter().zip(alone).enumerate() {
        assert_eq!(floats(&reply.ok()["data"][0]["embedding"]), alone, "client {number} of {model}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interactive_requests_pass_bulk_ones() {
    let service = TestApp::start("cache_bytes = 0");
    let bulk = Request::post("/v1/embeddings")
        .header("content-type", "application/json")
        .header("x-priority", "bulk")
        .body(Body::from(texts(300, 0).to_string()))
        .unwrap();
    let bulk = service.send(bulk);
    let interactive = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        service.post("/v1/embeddings", &json!({"model": TEXT, "input": "quick"})).await.ok();
    };
    tokio::pin!(bulk);
    tokio::select! {
        _ = &mut bulk => panic!("the bulk request was answered first"),
        () = interactive => {}
    }
    bulk.await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_does_not_wait_for_the_bulk_call_at_hand() {
    let service = TestApp::start("cache_bytes = 0\nlanes = 1");
    let bulk = Request::post("/v1/embeddings")
        .header("content-type", "application/json")
        .header("x-priority", "bulk")
        .body(Body::from(texts(100, 0).to_string()))
        .unwrap();
    let (metrics, done) = (Arc::clone(&service.app.metrics), Arc::new(AtomicBool::new(false)));
    let over = Arc::clone(&done);
    // The most calls that ran at a time; a thread of its own, because a lone request runs on the task that sends it.
    let watching = std::thread::spawn(move || {
        let mut most = 0;
        while !over.load(Ordering::Relaxed) {
            most = most.max(metrics.lanes_busy.get());
            std::thread::sleep(Duration::from_micros(200));
        }
        most
    });
    let requests = async {
        while service.metric("headstart_lanes_busy").await == 0.0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for number in 0..20 {
            service.post("/v1/embeddings", &texts(1, number)).await.ok();
        }
    };
    let bulk = service.send(bulk);
    tokio::pin!(bulk);
    tokio::select! {
        _ = &mut bulk => panic!("the bulk request was answered first"),
        () = requests => done.store(true, Ordering::Relaxed),
    }
    assert_eq!(watching.join().unwrap(), 2, "on the one lane, a bulk call and a request beside it");
    bulk.await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_work_gets_a_turn_while_requests_for_the_same_backbone_fill_the_lanes() {
    assert_bulk_gets_a_turn(TestApp::start("cache_bytes = 0\nlanes = 1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_work_gets_a_turn_where_a_backbone_has_fewer_lanes_than_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let (bundled, own) =
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(TEXT), folder.path().join(TEXT));
    std::fs::create_dir(&own).unwrap();
    for entry in std::fs::read_dir(bundled).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), own.join(entry.file_name())).unwrap();
    }
    let manifest = std::fs::read_to_string(own.join("headstart.toml")).unwrap();
    std::fs::write(own.join("headstart.toml"), manifest + "\n[engine]\nlanes = 1\n").unwrap();
    let models = folder.path().display().to_string();
    let service = TestApp::start(&format!("cache_bytes = 0\nlanes = 2\nmodels = [{models:?}]"));
    assert_bulk_gets_a_turn(service).await;
}

/// A bulk item is answered while requests for the same backbone still wait.
async fn assert_bulk_gets_a_turn(service: TestApp) {
    let input =
        |tag: usize| (0..100).map(|number| format!("request {tag}, text {number}")).collect::<Vec<_>>();
    let bodies: Vec<Value> = (0..8).map(|tag| json!({"model": TEXT, "input": input(tag)})).collect();
    let flood = join_all(bodies.iter().map(|body| service.post("/v1/embeddings", body)));
    let bulk = async {
        while service.metric("headstart_lanes_busy").await == 0.0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let bulk = Request::post("/v1/embeddings")
            .header("content-type", "application/json")
            .header("x-priority", "bulk")
            .body(Body::from(json!({"model": TEXT, "input": "nobody waits for it"}).to_string()))
            .unwrap();
        service.send(bulk).await.ok();
    };
    tokio::pin!(flood);
    tokio::select! {
        _ = &mut flood => panic!("the bulk item waited until no request was left"),
        () = bulk => {}
    }
    flood.await.into_iter().for_each(|reply| drop(reply.ok()));
}

#[tokio::test]
async fn the_cache_answers_what_was_computed_before() {
    let service = TestApp::start("");
    let body = json!({"model": TEXT, "input": ["once", "twice"]});
    let first = service.post("/v1/embeddings", &body).await.ok();
    let second = service.post("/v1/embeddings", &body).await.ok();
    assert_eq!(first, second);
    assert_eq!(service.metric("headstart_cache_hits_total{cache=\"features\"}").await, 2.0);
    assert_eq!(
        service.metric(&format!("headstart_items_total{{model=\"{TEXT}\",outcome=\"answered\"}}")).await,
        2.0
    );
}
