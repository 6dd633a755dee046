//! Pictures in every way a body can carry them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::{IMAGE, TestApp, cat};

#[tokio::test]
async fn a_picture_gives_one_vector_however_it_is_carried() {
    let service = TestApp::shared();
    let photo = cat();
    let encoded = STANDARD.encode(&photo);
    let url = format!("data:image/jpeg;base64,{encoded}");
    let reference = service.post("/v1/embeddings", &json!({"model": IMAGE, "input": url})).await.ok();
    assert_eq!(reference["data"][0]["embedding"].as_array().unwrap().len(), 1280);
    assert_eq!(reference["usage"]["prompt_tokens"], 0);
    for body in [
        json!({"model": IMAGE, "input": {"image": encoded}}),
        json!({"model": IMAGE, "input": [{"image": url}]}),
        json!({"model": IMAGE, "input": encoded, "modality": "image"}),
        json!({"model": IMAGE, "input": [encoded], "modality": "image"}),
    ] {
        let answer = service.post("/v1/embeddings", &body).await.ok();
        assert_eq!(answer["data"], reference["data"]);
    }
    let raw =
        service.post_bytes(&format!("/v1/embeddings?model={IMAGE}"), "image/jpeg", photo.clone()).await.ok();
    assert_eq!(raw["data"], reference["data"]);
    let parts = multipart(&[
        ("model", None, IMAGE.as_bytes()),
        ("file", Some("cat.jpg"), &photo),
        ("file", Some("b"), &photo),
    ]);
    let two = service.post_bytes("/v1/embeddings", "multipart/form-data; boundary=edge", parts).await.ok();
    assert_eq!(two["data"].as_array().unwrap().len(), 2);
    assert_eq!(two["data"][1]["embedding"], reference["data"][0]["embedding"]);
}

#[tokio::test]
async fn fields_of_a_raw_or_multipart_body_are_typed_like_those_of_json() {
    let service = TestApp::shared();
    let photo = cat();
    let path = format!("/v1/embeddings?model={IMAGE}&dimensions=16");
    let raw = service.post_bytes(&path, "image/jpeg", photo.clone()).await.ok();
    assert_eq!(raw["data"][0]["embedding"].as_array().unwrap().len(), 16);
    let parts = multipart(&[
        ("model", None, IMAGE.as_bytes()),
        ("labels", None, b"[\"cat\", \"dog\"]"),
        ("top_k", None, b"1"),
        ("file", Some("cat.jpg"), &photo),
    ]);
    let labelled =
        service.post_bytes("/v1/zero-shot", "multipart/form-data; boundary=edge", parts).await.ok();
    assert_eq!(labelled["data"][0]["scores"].as_array().unwrap().len(), 1);
    let wrong = format!("/v1/embeddings?model={IMAGE}&dimensions=many");
    let reply = service.post_bytes(&wrong, "image/jpeg", photo).await;
    assert_eq!(reply.error(), (400, "invalid_value".into(), Some("dimensions".into())));
}

#[tokio::test]
async fn what_is_no_picture_is_refused_and_named() {
    let service = TestApp::shared();
    let photo = cat();
    let embed = |input: serde_json::Value| async move {
        TestApp::shared().post("/v1/embeddings", &json!({"model": IMAGE, "input": input})).await.error()
    };
    let data = |bytes: &[u8]| format!("data:image/png;base64,{}", STANDARD.encode(bytes));
    assert_eq!(
        embed(json!(data(b"not a picture"))).await,
        (415, "unsupported_media_type".into(), Some("input".into()))
    );
    let good = data(&photo);
    let cut = data(&photo[..photo.len() / 2]);
    assert_eq!(embed(json!([good, cut])).await, (400, "invalid_value".into(), Some("input[1]".into())));
    assert_eq!(embed(json!("data:image/png;base64,!!!")).await.0, 400);
    assert_eq!(
        embed(json!("https://pictures.example/cat.png")).await,
        (400, "invalid_value".into(), Some("input".into()))
    );
    let reply = service.post_bytes(&format!("/v1/embeddings?model={IMAGE}"), "image/jpeg", "").await;
    assert_eq!(reply.error(), (400, "invalid_value".into(), Some("input".into())));
}

#[tokio::test]
async fn a_header_that_claims_too_many_pixels_is_refused_before_they_are_made() {
    let reply = TestApp::shared()
        .post_bytes(&format!("/v1/embeddings?model={IMAGE}"), "image/png", png_header(20_000, 20_000))
        .await;
    assert_eq!(reply.error(), (413, "image_too_large".into(), Some("input".into())));
}

/// Signature and header of a PNG, nothing behind them.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 2, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    png.extend(&chunk);
    png.extend(crc32(&chunk).to_be_bytes());
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 },
        )
    })
}

fn multipart(parts: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, content) in parts {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        body.extend(
            format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").bytes(),
        );
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(b"--edge--\r\n");
    body
}
