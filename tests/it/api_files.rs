//! Files: uploaded in pieces, looked at row by row, listed, handed back, deleted; each key has its own.

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::support::training::{KEYS, form, questions, upload};
use crate::support::{TEXT, TestApp, until};

const PURPOSE: (&str, Option<&str>, &[u8]) = ("purpose", None, b"fine-tune");

#[tokio::test]
async fn a_good_file_is_processed_and_says_what_is_in_it() {
    let service = TestApp::with_store("").await;
    let lines = questions(8);
    let file = service.file("", &lines).await;
    assert_eq!((&file["object"], &file["status"]), (&json!("file"), &json!("processed")));
    assert_eq!((&file["purpose"], &file["filename"]), (&json!("fine-tune"), &json!("questions.jsonl")));
    assert_eq!((&file["bytes"], &file["examples"]), (&json!(lines.len()), &json!(8)));
    assert_eq!((&file["status_details"], &file["problems"]), (&Value::Null, &json!([])));
    assert_eq!(file["classes"][0]["label"], "delivery");
    assert_eq!((&file["classes"][0]["examples"], &file["splits"]["none"]), (&json!(4), &json!(8)));
    assert!(file["created_at"].as_i64().unwrap() < 100_000_000_000, "seconds, not milliseconds: {file}");
    let path = format!("/v1/files/{}", file["id"].as_str().unwrap());
    assert_eq!(service.get(&path).await.ok(), file);
    let content = service.get(&format!("{path}/content")).await;
    assert_eq!((content.status.as_u16(), content.text()), (200, lines));
    let list = service.get("/v1/files").await.ok();
    assert_eq!((&list["data"][0]["id"], &list["has_more"]), (&file["id"], &json!(false)));
}

#[tokio::test]
async fn a_dirty_file_lists_all_its_problems_by_line() {
    let service = TestApp::with_store("").await;
    let dirty =
        format!("{}not json\n{{\"text\": \"\", \"label\": \"refund\"}}\n{{\"text\": \"a\"}}\n", questions(6));
    let file = service.file("", &dirty).await;
    assert_eq!(file["status"], "error");
    let details = file["status_details"].as_str().unwrap();
    assert!(details.contains("not_json") && !details.contains('\n'), "{details}");
    let problems: Vec<(u64, &str)> = file["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| (problem["line"].as_u64().unwrap(), problem["code"].as_str().unwrap()))
        .collect();
    assert_eq!(problems, [(7, "not_json"), (8, "empty_text"), (9, "no_label")]);
    assert!(file["problems"][0]["message"].is_string());
    assert_eq!(file["problem_counts"], json!({"not_json": 1, "empty_text": 1, "no_label": 1}));
    let body = json!({"model": TEXT, "training_file": file["id"]});
    let refused = service.ask("", "POST", "/v1/fine_tuning/jobs", body).await;
    assert_eq!(refused.error(), (400, "invalid_value".into(), Some("training_file".into())));
    assert!(refused.message().contains("not_json"), "{}", refused.message());
}

#[tokio::test]
async fn a_listed_file_is_told_without_classes_problems_and_warnings() {
    let service = TestApp::with_store("").await;
    let mut file = service.file("", &format!("{}not json\n", questions(6))).await;
    assert_eq!(file["problem_counts"], json!({"not_json": 1}));
    for field in ["classes", "problems", "warnings"] {
        assert!(file.as_object_mut().unwrap().remove(field).is_some(), "{field}");
    }
    assert_eq!(service.get("/v1/files").await.ok()["data"], json!([file]));
}

#[tokio::test]
async fn an_upload_in_small_pieces_may_be_larger_than_any_other_body() {
    let service = TestApp::with_store("max_body_bytes = 10000").await;
    let lines = questions(40_000);
    assert!(lines.len() > 2_500_000);
    let body = form(&[("file", Some("many.jsonl"), lines.as_bytes()), PURPOSE]);
    let pieces: Vec<_> = body.chunks(1500).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    let file = service.send(upload("", Body::from_stream(futures_util::stream::iter(pieces)))).await.ok();
    assert_eq!((&file["status"], &file["examples"]), (&json!("processed"), &json!(40_000)));
    let content = service.get(&format!("/v1/files/{}/content", file["id"].as_str().unwrap())).await;
    assert_eq!(content.headers["content-length"], lines.len().to_string().as_str());
    assert!(content.body == lines.as_bytes());
}

#[tokio::test]
async fn a_file_over_the_limit_or_the_quota_is_refused() {
    let lines = questions(100);
    let body = || form(&[PURPOSE, ("file", Some("a.jsonl"), lines.as_bytes())]);
    let service = TestApp::with_store("max_file_bytes = 5000").await;
    let refused = service.send(upload("", body())).await;
    assert_eq!(refused.error(), (413, "body_too_large".into(), Some("file".into())));
    let service = TestApp::with_store("key_file_bytes = 10000").await;
    service.send(upload("", body())).await.ok();
    let refused = service.send(upload("", body())).await;
    assert_eq!(refused.error(), (413, "body_too_large".into(), Some("file".into())));
    assert!(refused.message().contains("10000"), "{}", refused.message());
    assert_eq!(service.get("/v1/files").await.ok()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_found_in_a_file_counts_against_the_quota() {
    // Short rows of many classes: what is told of them is longer than they are.
    let rows: String = (0..400).map(|row| format!("{row},l{}\n", row / 2)).collect();
    let rows = format!("text,label\n{rows}");
    let body = || form(&[PURPOSE, ("file", Some("a.csv"), rows.as_bytes())]);
    let service = TestApp::with_store("").await;
    service.send(upload("", body())).await.ok();
    let takes = service.app.store().unwrap().bytes_used("").await.unwrap();
    assert!(takes > 4 * rows.len() as u64, "{takes}");
    let service = TestApp::with_store(&format!("key_file_bytes = {}", takes * 3 / 2)).await;
    service.send(upload("", body())).await.ok();
    let refused = service.send(upload("", body())).await;
    assert_eq!(refused.error(), (413, "body_too_large".into(), Some("file".into())));
    assert_eq!(service.get("/v1/files").await.ok()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn uploads_under_way_count_against_the_quota_until_they_end() {
    let lines = questions(400);
    let service = TestApp::with_store(&format!("key_file_bytes = {}", lines.len() * 5 / 3)).await;
    let file: (&str, Option<&str>, &[u8]) = ("file", Some("a.jsonl"), lines.as_bytes());
    let whole = form(&[PURPOSE, file]);
    let most = whole.len() - 20;
    let (go_on, waits) = tokio::sync::oneshot::channel::<()>();
    let (first, rest) = (whole[..most].to_vec(), whole[most..].to_vec());
    let rest = stream::once(async move {
        let _ = waits.await;
        Ok::<_, std::io::Error>(rest)
    });
    let slow = service.send(upload("", Body::from_stream(stream::iter([Ok(first)]).chain(rest))));
    let looked_at = form(&[PURPOSE, ("validate_only", None, b"true".as_slice()), file]);
    let beside = async {
        let refused = until("what has come of the first upload counts", async || {
            let reply = service.send(upload("", looked_at.clone())).await;
            (reply.status != 200).then_some(reply)
        })
        .await;
        assert_eq!(refused.error(), (413, "body_too_large".into(), Some("file".into())));
        go_on.send(()).unwrap();
    };
    let (slow, ()) = tokio::join!(slow, beside);
    let path = format!("/v1/files/{}", slow.ok()["id"].as_str().unwrap());
    service.ask("", "DELETE", &path, Value::Null).await.ok();
    service.send(upload("", looked_at)).await.ok();
}

#[tokio::test]
async fn a_file_that_is_only_validated_is_not_kept() {
    let service = TestApp::with_store("").await;
    let parts = [PURPOSE, ("validate_only", None, b"true"), ("file", Some("a.jsonl"), b"{\"text\": 1}\n")];
    let file = service.send(upload("", form(&parts))).await.ok();
    assert_eq!((&file["id"], &file["status"]), (&Value::Null, &json!("error")));
    assert!(!file["problems"].as_array().unwrap().is_empty());
    assert_eq!(service.get("/v1/files").await.ok()["data"], json!([]));
}

#[tokio::test]
async fn an_upload_that_is_only_validated_leaves_its_idempotency_key_free() {
    let service = TestApp::with_store("").await;
    let lines = questions(8);
    let file: (&str, Option<&str>, &[u8]) = ("file", Some("a.jsonl"), lines.as_bytes());
    let send = async |more: &[(&str, Option<&str>, &[u8])]| {
        let mut request = upload("", form(&[more, &[PURPOSE, file]].concat()));
        request.headers_mut().insert("idempotency-key", HeaderValue::from_static("first"));
        service.send(request).await.ok()
    };
    let only: (&str, Option<&str>, &[u8]) = ("validate_only", None, b"true");
    assert_eq!(send(&[only]).await["id"], Value::Null);
    let kept = send(&[]).await;
    assert!(kept["id"].is_string(), "{kept}");
    assert_eq!(send(&[only]).await["id"], Value::Null);
    assert_eq!(send(&[]).await, kept);
    assert_eq!(service.get("/v1/files").await.ok()["data"].as_array().unwrap().len(), 1);
}

/// The blobs of a service's store.
async fn blobs(service: &TestApp) -> usize {
    let store = service.app.store().unwrap();
    let mut count = 0;
    for first in 0..=u8::MAX {
        count += store.blobs().list(first).await.unwrap().len();
    }
    count
}

#[tokio::test]
async fn an_upload_sent_again_under_its_key_is_one_file() {
    let service = TestApp::with_store("").await;
    let send = async |lines: &str, more: &[(&str, Option<&str>, &[u8])]| {
        let file: (&str, Option<&str>, &[u8]) = ("file", Some("a.jsonl"), lines.as_bytes());
        let mut request = upload("", form(&[more, &[PURPOSE, file]].concat()));
        request.headers_mut().insert("idempotency-key", HeaderValue::from_static("first"));
        service.send(request).await
    };
    let file = send(&questions(8), &[]).await.ok();
    assert_eq!(send(&questions(8), &[]).await.ok(), file);
    let hour: (&str, Option<&str>, &[u8]) = ("expires_after[seconds]", None, b"3600");
    for (lines, more) in [(questions(10), vec![]), (questions(8), vec![hour])] {
        let refused = send(&lines, &more).await;
        assert_eq!(refused.error(), (409, "conflict".into(), None), "{}", refused.text());
    }
    let list = service.get("/v1/files").await.ok();
    assert_eq!((list["data"].as_array().unwrap().len(), &list["data"][0]["id"]), (1, &file["id"]));
    assert_eq!(blobs(&service).await, 1, "what was refused is not kept");
    // Without a key, the same bytes are another file.
    assert_ne!(service.file("", &questions(8)).await["id"], file["id"]);
}

#[tokio::test]
async fn an_upload_sent_again_after_a_purge_is_answered_with_what_is_left_of_it() {
    let service = TestApp::with_store("").await;
    let send = async || {
        let lines = questions(8);
        let file: (&str, Option<&str>, &[u8]) = ("file", Some("a.jsonl"), lines.as_bytes());
        let mut request = upload("", form(&[PURPOSE, file]));
        request.headers_mut().insert("idempotency-key", HeaderValue::from_static("first"));
        service.send(request).await.ok()
    };
    let file = send().await;
    let purge = json!({"file": file["id"], "rows": [1]});
    assert_eq!(service.post("/v1/purges", &purge).await.ok()["rows"], 1);
    let left = service.get(&format!("/v1/files/{}", file["id"].as_str().unwrap())).await.ok();
    assert_eq!(send().await, left);
    assert_ne!(left["bytes"], file["bytes"]);
    assert_eq!(service.get("/v1/files").await.ok()["data"].as_array().unwrap().len(), 1);
    assert_eq!(blobs(&service).await, 1, "the old rows do not come back");
}

#[tokio::test]
async fn bytes_without_a_file_go_with_the_answer() {
    let service = TestApp::with_store("").await;
    let lines = questions(8);
    let file: (&str, Option<&str>, &[u8]) = ("file", Some("a.jsonl"), lines.as_bytes());
    let batch: (&str, Option<&str>, &[u8]) = ("purpose", None, b"batch");
    for (parts, status) in [
        (vec![file, ("validate_only", None, b"true".as_slice()), PURPOSE], 200),
        (vec![file], 400),
        (vec![file, batch], 400),
        (vec![file, PURPOSE, file], 400),
    ] {
        let reply = service.send(upload("", form(&parts))).await;
        assert_eq!((reply.status.as_u16(), blobs(&service).await), (status, 0), "{}", reply.text());
    }
    let cut = form(&[file, PURPOSE]);
    assert_eq!(service.send(upload("", cut[..cut.len() - 20].to_vec())).await.error().0, 400);
    assert_eq!(blobs(&service).await, 0);
    let (one, other) = (service.file("", &lines).await, service.file("", &lines).await);
    for (file, left) in [(other, 1), (one, 0)] {
        assert_eq!(service.get("/v1/files").await.ok()["data"].as_array().unwrap().len(), left + 1);
        let path = format!("/v1/files/{}", file["id"].as_str().unwrap());
        service.ask("", "DELETE", &path, Value::Null).await.ok();
        // Bytes that were sent again after the last file's row are the sweep's.
        if left > 0 {
            assert_eq!(blobs(&service).await, 1, "another file's bytes stay");
        }
    }
    assert_eq!(service.send(upload("", form(&[file, PURPOSE]))).await.ok()["examples"], 8);
    let id = service.get("/v1/files").await.ok()["data"][0]["id"].as_str().unwrap().to_owned();
    service.ask("", "DELETE", &format!("/v1/files/{id}"), Value::Null).await.ok();
    assert_eq!(blobs(&service).await, 0, "the last file's bytes go with it");
}

#[tokio::test]
async fn an_upload_keeps_its_bytes_while_another_of_the_same_is_only_looked_at() {
    let service = TestApp::with_store("").await;
    let lines = questions(8);
    let file: (&str, Option<&str>, &[u8]) = ("file", Some("a.jsonl"), lines.as_bytes());
    let whole = form(&[file, PURPOSE]);
    let half = whole.len() - 20;
    let (go_on, waits) = tokio::sync::oneshot::channel::<()>();
    let (first, rest) = (whole[..half].to_vec(), whole[half..].to_vec());
    let rest = stream::once(async move {
        let _ = waits.await;
        Ok::<_, std::io::Error>(rest)
    });
    let slow = service.send(upload("", Body::from_stream(stream::iter([Ok(first)]).chain(rest))));
    let beside = async {
        until("the bytes are kept", async || (blobs(&service).await > 0).then_some(())).await;
        let looked_at = form(&[file, PURPOSE, ("validate_only", None, b"true".as_slice())]);
        service.send(upload("", looked_at)).await.ok();
        go_on.send(()).unwrap();
    };
    let (slow, ()) = tokio::join!(slow, beside);
    let id = slow.ok()["id"].as_str().unwrap().to_owned();
    assert_eq!(service.get(&format!("/v1/files/{id}/content")).await.text(), lines);
}

#[tokio::test]
async fn a_wrong_form_is_refused_with_the_field_that_is_wrong() {
    let service = TestApp::with_store("").await;
    let file: (&str, Option<&str>, &[u8]) = ("file", Some("a.jsonl"), b"{}\n");
    let anchor: (&str, Option<&str>, &[u8]) = ("expires_after[anchor]", None, b"created_at");
    for (parts, field) in [
        (vec![file], "purpose"),
        (vec![PURPOSE], "file"),
        (vec![PURPOSE, file, file], "file"),
        (vec![("purpose", None, b"batch".as_slice()), file], "purpose"),
        (vec![PURPOSE, file, anchor], "expires_after[seconds]"),
        (vec![PURPOSE, file, anchor, ("expires_after[seconds]", None, b"60")], "expires_after[seconds]"),
        (vec![PURPOSE, file, ("expires_after[anchor]", None, b"now")], "expires_after[anchor]"),
        (vec![PURPOSE, file, ("validate_only", None, b"perhaps")], "validate_only"),
    ] {
        let reply = service.send(upload("", form(&parts))).await;
        assert_eq!(reply.error(), (400, "invalid_value".into(), Some(field.into())), "{}", reply.text());
    }
    let reply = service.post("/v1/files", &json!({"purpose": "fine-tune"})).await;
    assert_eq!(reply.error().0, 415);
    let whole = form(&[PURPOSE, file]);
    let cut = service.send(upload("", whole[..whole.len() - 20].to_vec())).await;
    assert_eq!(cut.error(), (400, "invalid_json".into(), None));
    assert_eq!(service.get("/v1/files").await.ok()["data"], json!([]), "nothing refused was kept");
    let parts = [PURPOSE, anchor, ("expires_after[seconds]", None, b"3600"), file];
    let kept = service.send(upload("", form(&parts))).await.ok();
    let lasts = kept["expires_at"].as_i64().unwrap() - kept["created_at"].as_i64().unwrap();
    assert_eq!(lasts, 3600);
}

#[tokio::test]
async fn files_are_listed_in_pages_either_way() {
    let service = TestApp::with_store("").await;
    let mut ids = Vec::new();
    for rows in [6, 8, 10] {
        ids.push(service.file("", &questions(rows)).await["id"].as_str().unwrap().to_owned());
    }
    // Files of one millisecond have no order among them.
    ids.sort();
    let page = service.get("/v1/files?limit=2&order=asc").await.ok();
    assert_eq!(page["has_more"], true);
    assert_eq!((page["data"][0]["id"].as_str(), page["last_id"].as_str()), (Some(&*ids[0]), Some(&*ids[1])));
    let rest = service.get(&format!("/v1/files?limit=2&order=asc&after={}", ids[1])).await.ok();
    assert_eq!((rest["data"][0]["id"].as_str(), &rest["has_more"]), (Some(&*ids[2]), &json!(false)));
    let newest = service.get("/v1/files?limit=1").await.ok();
    assert_eq!(newest["data"][0]["id"], *ids[2]);
    assert_eq!(service.get("/v1/files?purpose=batch").await.ok()["data"], json!([]));
    for (query, field) in [("limit=0", "limit"), ("order=up", "order"), ("after=x", "after")] {
        let reply = service.get(&format!("/v1/files?{query}")).await;
        assert_eq!(reply.error(), (400, "invalid_value".into(), Some(field.into())));
    }
}

#[tokio::test]
async fn a_file_stays_while_a_job_uses_it_and_then_names_what_it_trained() {
    let service = TestApp::with_store("").await;
    let job = service.job("", "support").await;
    let path = format!("/v1/files/{}", job["training_file"].as_str().unwrap());
    let refused = service.ask("", "DELETE", &path, Value::Null).await;
    assert_eq!(refused.error(), (409, "conflict".into(), None));
    assert_eq!(refused.headers["x-should-retry"], "false");
    let (lease, _) = service.claim().await;
    service.finish(&lease).await;
    let deleted = service.ask("", "DELETE", &path, Value::Null).await.ok();
    assert_eq!(
        deleted,
        json!({"id": job["training_file"], "object": "file", "deleted": true, "trained_on": ["support@1"]})
    );
    assert_eq!(service.get(&path).await.error().0, 404);
}

#[tokio::test]
async fn another_keys_file_is_not_there_and_the_administrator_sees_it() {
    let service = TestApp::with_store(KEYS).await;
    let file = service.file("anna", &questions(8)).await;
    let path = format!("/v1/files/{}", file["id"].as_str().unwrap());
    for (method, path) in
        [("GET", path.clone()), ("GET", format!("{path}/content")), ("DELETE", path.clone())]
    {
        let reply = service.ask("bert", method, &path, Value::Null).await;
        assert_eq!(reply.error(), (404, "not_found".into(), None), "{method} {path}");
    }
    assert_eq!(service.ask("bert", "GET", "/v1/files", Value::Null).await.ok()["data"], json!([]));
    let body = json!({"model": TEXT, "training_file": file["id"]});
    let refused = service.ask("bert", "POST", "/v1/fine_tuning/jobs", body).await;
    assert_eq!(refused.error(), (404, "not_found".into(), Some("training_file".into())));
    assert_eq!(service.ask("root", "GET", &path, Value::Null).await.ok(), file);
    assert_eq!(service.ask("", "GET", &path, Value::Null).await.error().0, 401);
}

#[tokio::test]
async fn without_a_store_files_are_not_ready() {
    let service = TestApp::unready("");
    let request = Request::get("/v1/files").body(Body::empty()).unwrap();
    assert_eq!(service.send(request).await.error(), (503, "not_ready".into(), None));
}
