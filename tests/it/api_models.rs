//! Which models there are, and what happens to broken ones.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::training::request;
use crate::support::{IMAGE, TEXT, TEXT_INT8, TestApp};

#[tokio::test]
async fn the_bundled_backbones_are_listed_with_what_they_read_and_give() {
    let service = TestApp::shared();
    let list = service.get("/v1/models").await.ok();
    let ids: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [TEXT, TEXT_INT8, IMAGE]);
    let text = service.get(&format!("/v1/models/{TEXT}")).await.ok();
    assert_eq!(
        (&text["object"], &text["modality"], &text["dimension"]),
        (&json!("model"), &json!("text"), &json!(384))
    );
    let image = service.get(&format!("/v1/models/{IMAGE}")).await.ok();
    assert_eq!((&image["modality"], &image["dimension"]), (&json!("image"), &json!(1280)));
    let int8 = service.get(&format!("/v1/models/{TEXT_INT8}")).await.ok();
    assert_eq!(int8["original"], TEXT);
    assert_eq!(
        service.get("/v1/models/none").await.error(),
        (404, "model_not_found".into(), Some("model".into()))
    );
}

#[tokio::test]
async fn a_broken_backbone_is_listed_with_its_reason_and_the_others_answer() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("headstart.toml"), "version = 1\nnonsense = true\n").unwrap();
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let service = TestApp::start(&format!(
        "models = [{:?}, {:?}]",
        models.display().to_string(),
        folder.path().display().to_string()
    ));
    let entry = service.get("/v1/models/broken").await.ok();
    assert_eq!(entry["status"], "broken");
    let reason = entry["error"].as_str().unwrap();
    assert!(reason.contains("headstart.toml") && reason.contains("nonsense"), "{reason}");
    let reply = service.post("/v1/embeddings", &json!({"model": "broken", "input": "a"})).await;
    assert_eq!(reply.error(), (503, "not_ready".into(), Some("model".into())));
    for said in [reason, &reply.message()] {
        assert!(!said.contains(&folder.path().display().to_string()), "{said}");
    }
    service.post("/v1/embeddings", &json!({"model": TEXT, "input": "a"})).await.ok();
}

#[tokio::test]
async fn a_graph_that_is_not_the_manifests_is_refused_by_its_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(IMAGE);
    let copy = folder.path().join(IMAGE);
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(source).unwrap().flatten() {
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    // A sound one beside it: a server without any does not start.
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    std::os::unix::fs::symlink(models.join(TEXT), folder.path().join(TEXT)).unwrap();
    let graph = copy.join("model.onnx");
    let mut bytes = std::fs::read(&graph).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(graph, bytes).unwrap();
    let service = TestApp::start(&format!("models = [{:?}]", folder.path().display().to_string()));
    let entry = service.get(&format!("/v1/models/{IMAGE}")).await.ok();
    assert_eq!(entry["error"], "the sha-256 of model.onnx is not the manifest's");
}

#[tokio::test]
async fn a_load_that_outlasts_its_request_is_noted_in_the_audit_all_the_same() {
    let (models, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bundled = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    std::os::unix::fs::symlink(bundled.join(TEXT), models.path().join(TEXT)).unwrap();
    let paths = [models.path(), data.path()].map(|path| path.display().to_string());
    let service = TestApp::start(&format!("models = [{:?}]\ndata = {:?}", paths[0], paths[1]));
    service.app.open_store().await.unwrap();
    let mut asked = request("", "POST", &format!("/v1/models/{TEXT}/load"), &Value::Null);
    asked.headers_mut().insert("x-request-timeout-ms", "1".parse().unwrap());
    assert_eq!(service.send(asked).await.error().0, 504);
    let noted = async {
        loop {
            let acts = service.get("/v1/audit").await.ok()["data"].take();
            if acts != json!([]) {
                break acts;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let acts = tokio::time::timeout(Duration::from_secs(60), noted).await.expect("nothing is noted");
    assert_eq!((&acts[0]["action"], &acts[0]["subject"]), (&json!("backbone.load"), &json!(TEXT)));
    assert_eq!(service.get(&format!("/v1/models/{TEXT}")).await.ok()["status"], "ready");
}
