//! Requests written out whole before the clock starts.

use crate::corpus::Photo;
use crate::tensor::{self, Row};

/// Between the parts of an upload; no file that is sent holds it.
const BOUNDARY: &str = "7d9f2c61a5e84b30";

/// The bytes of one HTTP/1.1 request.
pub(crate) struct Request {
    pub(crate) bytes: Vec<u8>,
    /// Texts or photos in it.
    pub(crate) items: usize,
}

impl Request {
    /// Embeds texts; asks for base64, as the official OpenAI clients do. A single text goes as a string.
    pub(crate) fn texts(model: &str, texts: &[&str]) -> Self {
        let input = match texts {
            [one] => serde_json::json!(one),
            many => serde_json::json!(many),
        };
        let body =
            serde_json::json!({"model": model, "input": input, "encoding_format": "base64"}).to_string();
        Self { bytes: post("/v1/embeddings", "application/json", body.as_bytes()), items: texts.len() }
    }

    /// Embeds a photo sent as it is.
    pub(crate) fn photo(model: &str, photo: &Photo) -> Self {
        let path = format!("/v1/embeddings?model={model}&encoding_format=base64");
        Self { bytes: post(&path, photo.content_type, &photo.bytes), items: 1 }
    }

    /// Embeds a WAV file sent as it is.
    pub(crate) fn sound(model: &str, file: &[u8]) -> Self {
        let path = format!("/v1/embeddings?model={model}&encoding_format=base64");
        Self { bytes: post(&path, "audio/wav", file), items: 1 }
    }

    /// Asks a graph for one output of a row, bytes on both ways.
    pub(crate) fn infer(model: &str, row: &Row, output: &str) -> Self {
        let (body, json_length) = tensor::asked(row, output);
        let content_type =
            format!("application/octet-stream\r\nInference-Header-Content-Length: {json_length}");
        Self { bytes: post(&format!("/v2/models/{model}/infer"), &content_type, &body), items: 1 }
    }

    /// Asks a classifier for a text's best label.
    pub(crate) fn classify(classifier: &str, text: &str) -> Self {
        let body = serde_json::json!({"model": classifier, "input": text, "top_k": 1});
        Self::post_json("/v1/classify", &body)
    }

    /// Uploads a training file.
    pub(crate) fn upload(name: &str, bytes: &[u8]) -> Self {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nfine-tune\r\n--{BOUNDARY}\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let body = [head.as_bytes(), bytes, format!("\r\n--{BOUNDARY}--\r\n").as_bytes()].concat();
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        Self { bytes: post("/v1/files", &content_type, &body), items: 0 }
    }

    /// Posts a JSON body.
    pub(crate) fn post_json(path: &str, body: &serde_json::Value) -> Self {
        Self { bytes: post(path, "application/json", body.to_string().as_bytes()), items: 1 }
    }

    /// Asks for a resource.
    pub(crate) fn get(path: &str) -> Self {
        Self { bytes: format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes(), items: 0 }
    }
}

fn post(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_states_the_length_of_its_body() {
        let request = Request::texts("m", &["a \"b\"", "c"]);
        let text = String::from_utf8(request.bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["input"], serde_json::json!(["a \"b\"", "c"]));
        assert_eq!(request.items, 2);
    }
}
