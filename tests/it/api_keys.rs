//! Keys and scopes.

use axum::body::Body;
use axum::http::Request;
use headstart::auth::digest_of;
use headstart::clock::now_ms;
use headstart::rollout::Rollout;
use headstart_types::hex;
use headstart_types::ids::KeyId;
use headstart_types::key::{KeyLimits, KeyRow};
use serde_json::{Value, json};

use crate::support::training::{KEYS, request};
use crate::support::{Reply, TEXT, TestApp, until};

async fn models(service: &TestApp, authorization: Option<&str>) -> Reply {
    let mut request = Request::get("/v1/models");
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    service.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_key_opens_what_its_scopes_allow_and_nothing_else() {
    let service =
        TestApp::unready("api_keys = \"app:infer:key-of-app,job:train:key-of-job,ops:admin:key-of-ops\"");
    assert_eq!(models(&service, None).await.error().0, 401);
    let unknown = models(&service, Some("Bearer nobody-knows")).await;
    assert_eq!(unknown.error(), (401, "invalid_api_key".into(), None));
    assert_eq!(unknown.headers["www-authenticate"], "Bearer");
    assert_eq!(models(&service, Some("Basic key-of-app")).await.error().0, 401);
    assert_eq!(
        models(&service, Some("Bearer key-of-job")).await.error(),
        (403, "insufficient_scope".into(), None)
    );
    models(&service, Some("Bearer key-of-app")).await.ok();
    models(&service, Some("bearer key-of-ops")).await.ok();
    assert!(service.metric("headstart_rejections_total{reason=\"unauthorised\"}").await >= 4.0);
}

#[tokio::test]
async fn probes_metrics_and_pages_need_no_key() {
    let service = TestApp::unready("api_keys = \"app:infer:key-of-app\"");
    for path in ["/livez", "/metrics", "/openapi.json", "/docs/"] {
        assert_eq!(service.get(path).await.status.as_u16(), 200, "{path}");
    }
}

/// The row of a key whose secret is `key-of-SECRET`.
fn row(name: &str, secret: &str, scopes: &str) -> KeyRow {
    let digest = hex(&digest_of(&format!("key-of-{secret}")));
    KeyRow {
        id: KeyId::new(now_ms(), headstart::clock::chance().unwrap()),
        name: name.to_owned(),
        scopes: scopes.to_owned(),
        digest: digest.parse().unwrap(),
        limits: KeyLimits::default(),
        created_at: now_ms(),
        expires_at: None,
        revoked_at: None,
    }
}

/// Writes a key as the command would, in a process of its own.
async fn put(service: &TestApp, key: &KeyRow) {
    let store = service.app.store().unwrap();
    store.add_key(key, true, "headstart keys").await.unwrap();
    service.app.read_keys(store).await.unwrap();
}

/// Writes a key `key-of-NAME`.
async fn add(service: &TestApp, name: &str, scopes: &str, expires_at: Option<i64>) {
    put(service, &KeyRow { expires_at, ..row(name, name, scopes) }).await;
}

async fn revoke(service: &TestApp, which: &str) {
    let store = service.app.store().unwrap();
    store.revoke_keys(which, "headstart keys", now_ms()).await.unwrap();
    service.app.read_keys(store).await.unwrap();
}

/// The status of a list of models under a key.
async fn status(service: &TestApp, key: &str) -> u16 {
    service.ask(key, "GET", "/v1/models", Value::Null).await.status.as_u16()
}

#[tokio::test]
async fn a_key_of_the_store_is_taken_from_when_it_is_made_until_it_is_revoked() {
    let service = TestApp::with_store("").await;
    assert_eq!(service.get("/v1/models").await.status, 200);
    add(&service, "app", "infer", None).await;
    assert_eq!(service.get("/v1/models").await.error().0, 401);
    assert_eq!(status(&service, "app").await, 200);
    assert_eq!(service.ask("app", "GET", "/v1/files", Value::Null).await.error().0, 403);
    revoke(&service, "app").await;
    let refused = service.ask("app", "GET", "/v1/models", Value::Null).await;
    assert_eq!(refused.error(), (401, "invalid_api_key".into(), None));
    // The last key's end opens the service to nobody.
    assert_eq!(service.get("/v1/models").await.error().0, 401);
}

#[tokio::test]
async fn keys_of_the_store_stand_beside_those_of_the_options() {
    let service = TestApp::with_store(KEYS).await;
    add(&service, "carl", "train+infer", None).await;
    for key in ["anna", "carl", "root"] {
        assert_eq!(status(&service, key).await, 200, "{key}");
    }
    assert_eq!(service.metric("headstart_api_keys").await, 4.0);
    let file = service.file("carl", "{\"text\": \"a\", \"label\": \"b\"}\n").await;
    let path = format!("/v1/files/{}", file["id"].as_str().unwrap());
    assert_eq!(service.ask("anna", "GET", &path, Value::Null).await.error().0, 404);
    service.ask("root", "GET", &path, Value::Null).await.ok();
    // What it owned stays, for administrators and for whoever is given the name again.
    revoke(&service, "carl").await;
    service.ask("root", "GET", &path, Value::Null).await.ok();
    let again =
        KeyRow { name: "carl".into(), ..service.app.store().unwrap().keys().await.unwrap().remove(0) };
    let taken = service.app.store().unwrap().add_key(&again, false, "tests").await;
    assert!(taken.is_err());
}

#[tokio::test]
async fn a_key_with_the_name_of_an_option_but_other_scopes_is_not_taken() {
    let service = TestApp::with_store("api_keys = \"app:infer:another-secret\"").await;
    add(&service, "app", "admin", None).await;
    assert_eq!(status(&service, "app").await, 401);
}

#[tokio::test]
async fn a_key_ends_at_its_time() {
    let service = TestApp::with_store("").await;
    add(&service, "app", "infer", Some(now_ms() + 3_600_000)).await;
    assert_eq!(status(&service, "app").await, 200);
    let keys = service.app.store().unwrap().keys().await.unwrap();
    assert!(!keys[0].is_active(now_ms() + 3_600_000));
    add(&service, "brief", "infer", Some(now_ms() + 50)).await;
    until("the key ends", async || (status(&service, "brief").await != 200).then_some(())).await;
    let refused = service.ask("brief", "GET", "/v1/models", Value::Null).await;
    assert!(refused.message().contains("has expired"), "{}", refused.message());
}

#[tokio::test]
async fn the_audit_lists_what_was_done_by_whom_to_administrators() {
    let service = TestApp::with_store(KEYS).await;
    add(&service, "carl", "train", None).await;
    let file = service.file("anna", "{\"text\": \"a\", \"label\": \"b\"}\n").await;
    let id = file["id"].as_str().unwrap();
    service.ask("anna", "DELETE", &format!("/v1/files/{id}"), Value::Null).await.ok();
    let refused = service.ask("anna", "GET", "/v1/audit", Value::Null).await;
    assert_eq!(refused.error(), (403, "insufficient_scope".into(), None));
    let newest = service.ask("root", "GET", "/v1/audit?limit=1", Value::Null).await.ok();
    assert_eq!(newest["has_more"], true);
    let act = &newest["data"][0];
    assert_eq!((act["who"].as_str(), act["action"].as_str()), (Some("anna"), Some("file.delete")));
    assert_eq!(act["subject"], id);
    let next = format!("/v1/audit?after={}", newest["last_id"].as_str().unwrap());
    let rest = service.ask("root", "GET", &next, Value::Null).await.ok();
    assert_eq!(rest["data"][0]["action"], "key.add");
    assert_eq!(rest["data"][0]["details"]["scopes"], "train");
    assert!(!rest.to_string().contains("key-of"), "{rest}");
    let annas = service.ask("root", "GET", "/v1/audit?who=anna&order=asc", Value::Null).await.ok();
    assert_eq!(annas["data"].as_array().unwrap().len(), 1);
    let wrong = service.ask("root", "GET", "/v1/audit?after=7", Value::Null).await;
    assert_eq!(wrong.error(), (400, "invalid_value".into(), Some("after".into())));
}

/// The value of a header.
fn header<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap()
}

#[tokio::test]
async fn a_key_over_its_rate_is_told_when_to_come_again() {
    let service = TestApp::with_store(&format!("key_rate = 2\n{KEYS}")).await;
    let first = service.ask("anna", "GET", "/v1/models", Value::Null).await;
    assert_eq!(header(&first, "x-ratelimit-limit-requests"), "2");
    assert_eq!(header(&first, "x-ratelimit-remaining-requests"), "1");
    assert_eq!(header(&first, "x-ratelimit-reset-requests"), "30.000s");
    // An error of another kind tells what is left too.
    let missing = service.ask("anna", "GET", "/v1/models/none", Value::Null).await;
    assert_eq!(missing.error().0, 404);
    assert_eq!(header(&missing, "x-ratelimit-remaining-requests"), "0");
    let refused = service.ask("anna", "GET", "/v1/models", Value::Null).await;
    assert_eq!(refused.error(), (429, "rate_limit_exceeded".into(), None));
    let wait: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(header(&refused, "x-ratelimit-remaining-requests"), "0");
    // Others are not held back, and probes are nobody's.
    service.ask("root", "GET", "/v1/models", Value::Null).await.ok();
    assert_eq!(service.metric("headstart_rejections_total{reason=\"key_rate\"}").await, 1.0);
}

#[tokio::test]
async fn an_answer_that_goes_on_takes_its_place_until_its_end() {
    let service = TestApp::with_store(&format!("key_concurrency = 1\n{KEYS}")).await;
    let job = service.job("anna", "intent").await;
    let path = format!("/v1/fine_tuning/jobs/{}/events", job["id"].as_str().unwrap());
    let mut stream = request("anna", "GET", &path, &Value::Null);
    stream.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    let open = service.open(stream).await;
    assert_eq!(open.status(), 200);
    let refused = service.ask("anna", "GET", "/v1/models", Value::Null).await;
    assert_eq!(refused.error(), (429, "rate_limit_exceeded".into(), None));
    assert_eq!(header(&refused, "retry-after"), "1");
    service.ask("root", "GET", "/v1/models", Value::Null).await.ok();
    drop(open);
    service.ask("anna", "GET", "/v1/models", Value::Null).await.ok();
    assert_eq!(service.metric("headstart_rejections_total{reason=\"key_concurrency\"}").await, 1.0);
}

#[tokio::test]
async fn a_refusal_tells_what_is_left_of_every_limit() {
    let options = format!("key_concurrency = 1\nkey_rate = 10\nkey_items = 5\n{KEYS}");
    let service = TestApp::with_store(&options).await;
    service.ask("anna", "POST", "/v1/embeddings", json!({"model": TEXT, "input": ["a", "b"]})).await.ok();
    let job = service.job("anna", "intent").await;
    let path = format!("/v1/fine_tuning/jobs/{}/events", job["id"].as_str().unwrap());
    let mut stream = request("anna", "GET", &path, &Value::Null);
    stream.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    let open = service.open(stream).await;
    let left = |reply: &Reply, of: &str| -> [u32; 2] {
        ["limit", "remaining"].map(|what| header(reply, &format!("x-ratelimit-{what}-{of}")).parse().unwrap())
    };
    let refused = service.ask("anna", "GET", "/v1/models", Value::Null).await;
    assert_eq!(refused.message(), "the key may ask 1 requests at a time");
    let [limit, remaining] = left(&refused, "requests");
    assert!(limit == 10 && remaining < 10, "{remaining} of {limit}");
    assert_eq!(left(&refused, "items"), [5, 3]);
    drop(open);
    for _ in 0..20 {
        let reply = service.ask("anna", "GET", "/v1/models", Value::Null).await;
        assert_eq!(left(&reply, "items"), [5, 3], "{}", reply.status);
        if reply.status == 429 {
            return assert_eq!(left(&reply, "requests"), [10, 0]);
        }
    }
    panic!("20 requests are more than a minute has");
}

#[tokio::test]
async fn a_minutes_items_are_counted_whatever_asks_for_them_and_told_in_headers() {
    let service = TestApp::with_store(&format!("key_items = 10\n{KEYS}")).await;
    let embed = |texts: usize| json!({"model": TEXT, "input": vec!["a"; texts]});
    let first = service.ask("anna", "POST", "/v1/embeddings", embed(4)).await;
    assert_eq!(
        (header(&first, "x-ratelimit-limit-items"), header(&first, "x-ratelimit-remaining-items")),
        ("10", "6")
    );
    let similar = json!({"model": TEXT, "input": "a", "candidates": ["b", "c", "d"]});
    service.ask("anna", "POST", "/v1/similarity", similar).await.ok();
    // What asks for nothing costs nothing.
    service.ask("anna", "GET", "/v1/models", Value::Null).await.ok();
    // Two are left, and another one every six seconds: this many not within 36.
    let refused = service.ask("anna", "POST", "/v1/embeddings", embed(8)).await;
    assert_eq!(refused.error(), (429, "rate_limit_exceeded".into(), None));
    assert_eq!(refused.message(), "the key may send 10 items in a minute");
    assert!((1..=60).contains(&header(&refused, "retry-after").parse::<u32>().unwrap()));
    // Six were left before the second request.
    let left: u32 = header(&refused, "x-ratelimit-remaining-items").parse().unwrap();
    assert!((2..6).contains(&left), "{left}");
    service.ask("anna", "POST", "/v1/embeddings", embed(2)).await.ok();
    let never = service.ask("anna", "POST", "/v1/embeddings", embed(11)).await;
    assert_eq!(never.error(), (400, "too_many_items".into(), None));
    service.ask("root", "POST", "/v1/embeddings", embed(10)).await.ok();
    assert_eq!(service.metric("headstart_rejections_total{reason=\"key_items\"}").await, 1.0);
}

/// A service with a short queue of its own, and a classifier of anna's.
async fn with_a_short_queue(data: &std::path::Path) -> TestApp {
    let folder = data.display().to_string();
    let service = TestApp::unready(&format!(
        "data = {folder:?}\nmax_items = 6\nqueue_items = 6\nkey_items = 100\n{KEYS}"
    ));
    service.app.open_store().await.unwrap();
    let engine = service.app.start_engine().unwrap();
    service.app.load_backbones(&engine).unwrap();
    service.app.attach(std::sync::Arc::new(engine));
    service.app.finish_loading();
    // Ends with the test's runtime.
    tokio::spawn(Rollout::start(&service.app).await.unwrap().run());
    let made = json!({"name": "mood", "model": TEXT, "labels": ["good", "bad"]});
    service.ask("anna", "POST", "/v1/classifiers", made).await.ok();
    service
}

/// A request of each kind that asks for items, with their number.
fn of_each_kind(text: &str) -> Vec<(&'static str, Value, u32)> {
    let question = json!({"type": "predicate", "name": "good", "instructions": "It is good."});
    vec![
        ("/v1/embeddings", json!({"model": TEXT, "input": [text, "b"]}), 2),
        ("/v1/similarity", json!({"model": TEXT, "input": "a", "candidates": ["b", text]}), 3),
        ("/v1/rerank", json!({"model": TEXT, "query": "a", "documents": [text, "b"]}), 3),
        ("/v1/zero-shot", json!({"model": TEXT, "input": text, "labels": ["good", "bad"]}), 1),
        ("/v1/classify", json!({"model": "anna/mood", "input": [text, "b"]}), 2),
        ("/v1/classifiers/anna%2Fmood/examples", json!({"examples": [{"text": text, "label": "good"}]}), 1),
        ("/v1/decisions", json!({"model": TEXT, "input": text, "questions": [question]}), 1),
    ]
}

/// Writes a key of an administrator with so many items in a minute.
async fn add_with_items(service: &TestApp, name: &str, items: u32) {
    let limits = KeyLimits { items_per_minute: Some(items), ..KeyLimits::default() };
    put(service, &KeyRow { limits, ..row(name, name, "admin") }).await;
}

#[tokio::test]
async fn what_is_refused_before_it_is_computed_costs_a_key_none_of_its_items() {
    let data = tempfile::tempdir().unwrap();
    let service = with_a_short_queue(data.path()).await;
    add_with_items(&service, "app", 50).await;
    let left = |reply: &Reply| header(reply, "x-ratelimit-remaining-items").to_owned();
    let first = service.ask("app", "POST", "/v1/embeddings", json!({"model": TEXT, "input": "a"})).await;
    assert_eq!((first.status.as_u16(), left(&first).as_str()), (200, "49"));
    for (path, body, _) in of_each_kind("") {
        let reply = service.ask("app", "POST", path, body).await;
        assert_eq!((reply.error().0, left(&reply).as_str()), (400, "49"), "{path}: {}", reply.text());
    }
    let served = service.app.tasks.catalog.served(TEXT).await.unwrap();
    let _all = served.graph().unwrap().admit(6).unwrap();
    for (path, body, _) in of_each_kind("not yet seen") {
        let reply = service.ask("app", "POST", path, body).await;
        assert_eq!(reply.error().1, "overloaded", "{path}: {}", reply.text());
        assert_eq!(left(&reply), "49", "{path}");
    }
}

#[tokio::test]
async fn nothing_is_computed_for_a_key_that_is_over_its_items_whatever_it_asks_for() {
    let data = tempfile::tempdir().unwrap();
    let service = with_a_short_queue(data.path()).await;
    let answered = format!("headstart_items_total{{model=\"{TEXT}\",outcome=\"answered\"}}");
    let kinds = of_each_kind("seen once").into_iter().zip(of_each_kind("never seen"));
    for (place, ((path, body, items), (_, more, _))) in kinds.enumerate() {
        let name = format!("key-{place}");
        add_with_items(&service, &name, items).await;
        let reply = service.ask(&name, "POST", path, body).await;
        assert!(reply.status.is_success(), "{path}: {}", reply.text());
        assert_eq!(header(&reply, "x-ratelimit-remaining-items"), "0", "{path}");
        let before = service.metric(&answered).await;
        let refused = service.ask(&name, "POST", path, more).await;
        assert_eq!(refused.error(), (429, "rate_limit_exceeded".into(), None), "{path}");
        assert_eq!(service.metric(&answered).await, before, "{path}");
    }
    assert_eq!(service.metric(&format!("headstart_queue_items{{model=\"{TEXT}\"}}")).await, 0.0);
}

#[tokio::test]
async fn keys_of_one_name_are_counted_together_by_what_the_newest_may() {
    let service = TestApp::with_store("key_rate = 100").await;
    add(&service, "app", "infer", None).await;
    let limits = KeyLimits { requests_per_minute: Some(2), ..KeyLimits::default() };
    let newer = KeyRow { limits, created_at: now_ms() + 1, ..row("app", "newer", "infer") };
    put(&service, &KeyRow { id: KeyId::new(now_ms() + 1, [0; 10]), ..newer }).await;
    assert_eq!((status(&service, "app").await, status(&service, "newer").await), (200, 200));
    assert_eq!((status(&service, "app").await, status(&service, "newer").await), (429, 429));
}
