//! Requests written out whole before the clock starts.

use crate::corpus::Photo;

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
