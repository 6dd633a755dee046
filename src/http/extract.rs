//! Any body to typed fields: JSON, multipart, or media with its fields in the query.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::multipart::MultipartError;
use axum::extract::{FromRequest as _, Multipart, Request};
use axum::http::{HeaderMap, header};
use headstart_engine::Class;
use headstart_tasks::{Caller, Task};
use headstart_types::{Media, Payload};
use http_body_util::BodyExt as _;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;
use tokio::sync::OwnedSemaphorePermit;

use crate::app::{App, BODY_UNIT};
use crate::auth::Identity;
use crate::http::error::ApiError;

/// Clients may ask for less time than the server gives.
const TIMEOUT_HEADER: &str = "x-request-timeout-ms";

/// `bulk` puts a request behind those that somebody waits for.
const PRIORITY_HEADER: &str = "x-priority";

/// What the headers say of the caller.
pub(crate) fn caller(app: &App, request: &Request) -> Result<Caller, ApiError> {
    let headers = request.headers();
    let key = request.extensions().get::<Identity>().map_or("", |identity| identity.key);
    let asked = match headers.get(TIMEOUT_HEADER) {
        None => app.request_timeout(),
        Some(value) => {
            let parsed = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
            let milliseconds = parsed.filter(|milliseconds| *milliseconds > 0);
            let problem = "`X-Request-Timeout-Ms` must be a whole number of milliseconds, at least 1";
            Duration::from_millis(
                milliseconds.ok_or_else(|| ApiError::invalid("X-Request-Timeout-Ms", problem))?,
            )
        }
    };
    let class = match headers.get(PRIORITY_HEADER).map(|value| value.as_bytes()) {
        None | Some(b"interactive") => Class::Interactive,
        Some(b"bulk") => Class::Bulk,
        Some(_) => {
            return Err(ApiError::invalid("X-Priority", "`X-Priority` must be `interactive` or `bulk`"));
        }
    };
    Ok(Caller { deadline: Some(Instant::now() + asked.min(app.request_timeout())), class, key })
}

/// Takes memory for a request's body, or waits for some: bodies are read before their items are counted, so many large
/// ones at once must not fill the machine. A body of unstated length counts as the largest.
pub(crate) async fn body_memory(app: &App, headers: &HeaderMap) -> Result<OwnedSemaphorePermit, ApiError> {
    let limit = app.config.max_body_bytes;
    let stated = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let bytes = stated.and_then(|text| text.parse::<usize>().ok()).unwrap_or(limit).min(limit);
    let units = u32::try_from(bytes.div_ceil(BODY_UNIT)).unwrap_or(u32::MAX);
    Arc::clone(&app.bodies).acquire_many_owned(units).await.map_err(|_| ApiError::internal())
}

/// Reads the fields of a task from whatever body came.
pub(crate) async fn params<T: Task>(app: &Arc<App>, request: Request) -> Result<T::Params, ApiError> {
    let limit = app.config.max_body_bytes;
    let content_type = content_type(request.headers());
    if !T::FORMS && (content_type == "multipart/form-data" || is_media(&content_type)) {
        return Err(ApiError::unsupported(format!(
            "the content type `{content_type}` is not taken here; send application/json"
        )));
    }
    let uri = request.uri().clone();
    match content_type.as_str() {
        "multipart/form-data" => {
            let (form, files) = read_multipart(request, limit).await?;
            let mut params: T::Params = from_form(&form)?;
            if !files.is_empty() {
                *T::input(&mut params) = Some(Payload::images(files));
            }
            Ok(params)
        }
        media if is_media(media) => {
            let mut params: T::Params = from_form(uri.query().unwrap_or_default())?;
            let bytes = read(request, limit).await?;
            *T::input(&mut params) = Some(Payload::images(vec![Media::Bytes(bytes)]));
            Ok(params)
        }
        _ => json(request, limit).await,
    }
}

/// Reads a JSON body.
pub(crate) async fn json<P: DeserializeOwned>(request: Request, limit: usize) -> Result<P, ApiError> {
    parse_json(&json_bytes(request, limit).await?)
}

/// Reads a body that is said to be JSON.
pub(crate) async fn json_bytes(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    let content_type = content_type(request.headers());
    let body = read(request, limit).await?;
    let looks_like_json = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    match content_type.as_str() {
        "application/json" | "" => {}
        other if other.ends_with("+json") => {}
        // What curl says when it is not told otherwise.
        "application/x-www-form-urlencoded" | "text/plain" if looks_like_json => {}
        other => {
            return Err(ApiError::unsupported(format!(
                "the content type `{other}` is not taken; send application/json, multipart/form-data or a picture"
            )));
        }
    }
    Ok(body)
}

/// Deepest nesting of a JSON body; fields that are skipped count too.
const DEEPEST: usize = 100;

/// Whether JSON is nested deeper than allowed. Looks at brackets outside strings only, so it needs no stack.
fn too_deep(body: &[u8]) -> bool {
    let (mut depth, mut at) = (0usize, 0);
    while let Some(&byte) = body.get(at) {
        at += 1;
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => at = after_string(body, at),
            _ => {}
        }
        if depth > DEEPEST {
            return true;
        }
    }
    false
}

/// The place behind the string that starts at `at`.
fn after_string(body: &[u8], mut at: usize) -> usize {
    while let Some(found) = body.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found + 1;
        if body[at - 1] == b'"' {
            return at;
        }
        // An escaped character may itself be a quote.
        at += 1;
    }
    body.len()
}

/// Parses JSON; the message names the field.
pub(crate) fn parse_json<P: DeserializeOwned>(body: &[u8]) -> Result<P, ApiError> {
    if too_deep(body) {
        return Err(ApiError::invalid_json(format!("the body is nested deeper than {DEEPEST}")));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize::<_, P>(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.inner();
        // A number where a word of a fixed set belongs is reported as bad syntax though the body is good JSON.
        let good_json = || serde_json::from_slice::<IgnoredAny>(body).is_ok();
        match inner.classify() {
            Category::Data | Category::Syntax if path != "." && (inner.is_data() || good_json()) => {
                ApiError::invalid(top_field(&path), format!("`{path}`: {}", plain(&inner.to_string())))
            }
            Category::Data => ApiError::invalid_json(inner.to_string()),
            Category::Io | Category::Syntax | Category::Eof => {
                ApiError::invalid_json(format!("the body is not JSON: {inner}"))
            }
        }
    })?;
    reader.end().map_err(|error| ApiError::invalid_json(format!("the body is not JSON: {error}")))?;
    Ok(parsed)
}

/// A parser's message with the names of JSON in place of Rust's.
fn plain(message: &str) -> String {
    const NAMES: [(&str, &str); 8] = [
        ("expected usize", "expected a whole number of at least 0"),
        ("expected u64", "expected a whole number of at least 0"),
        ("expected u32", "expected a whole number of at least 0"),
        ("expected f32", "expected a number"),
        ("expected f64", "expected a number"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected an object"),
        ("invalid type: map", "invalid type: object"),
    ];
    NAMES
        .iter()
        .fold(message.replace("invalid type: sequence", "invalid type: list"), |text, (rust, json)| {
            text.replace(rust, json)
        })
}

fn top_field(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or(path)
}

/// Reads the whole body, at most `limit` bytes.
pub(crate) async fn read(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    let stated = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if stated.and_then(|text| text.parse::<usize>().ok()).is_some_and(|stated| stated > limit) {
        return Err(ApiError::body_too_large(limit));
    }
    match http_body_util::Limited::new(request.into_body(), limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(ApiError::body_too_large(limit)),
        Err(error) => Err(ApiError::invalid_json(format!("the body could not be read: {error}"))),
    }
}

/// Parts named `file` as media, all others as an URL-encoded form.
async fn read_multipart(request: Request, limit: usize) -> Result<(String, Vec<Media>), ApiError> {
    let (parts, body) = request.into_parts();
    let limited = Request::from_parts(parts, Body::new(http_body_util::Limited::new(body, limit)));
    let bad =
        |message: String| ApiError::invalid_json(format!("the multipart body could not be read: {message}"));
    let mut multipart =
        Multipart::from_request(limited, &()).await.map_err(|error| bad(error.body_text()))?;
    let mut fields = Vec::new();
    let mut files = Vec::new();
    loop {
        let too_large = |error: MultipartError| {
            if is_over_limit(&error) { ApiError::body_too_large(limit) } else { bad(error.body_text()) }
        };
        let Some(field) = multipart.next_field().await.map_err(too_large)? else { break };
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            files.push(Media::Bytes(field.bytes().await.map_err(too_large)?));
        } else {
            fields.push((name, field.text().await.map_err(too_large)?));
        }
    }
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    Ok((form, files))
}

/// Whether reading stopped at the body's limit, which the reader of parts wraps in errors of its own.
fn is_over_limit(error: &MultipartError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Typed fields from a query or form, where everything is text.
fn from_form<P: DeserializeOwned>(form: &str) -> Result<P, ApiError> {
    let reader = serde_html_form::Deserializer::new(form_urlencoded::parse(form.as_bytes()));
    serde_path_to_error::deserialize(reader).map_err(|error| {
        let path = error.path().to_string();
        ApiError::invalid(top_field(&path), format!("`{path}`: {}", plain(&error.inner().to_string())))
    })
}

/// The content type without its parameters, in lower case; empty when there is none.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a body of this type is a picture itself.
pub(crate) fn is_media(content_type: &str) -> bool {
    content_type.starts_with("image/") || content_type == "application/octet-stream"
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Fields {
        count: Option<u32>,
        names: Option<Vec<String>>,
    }

    #[test]
    fn a_form_gives_numbers_and_repeated_fields() {
        let fields: Fields = from_form("count=3&names=a&names=b&other=1").unwrap();
        assert_eq!((fields.count, fields.names.unwrap()), (Some(3), vec!["a".to_owned(), "b".to_owned()]));
        let error = from_form::<Fields>("count=many").unwrap_err();
        assert!(format!("{error:?}").contains("count"), "{error:?}");
    }

    #[test]
    fn the_message_of_a_wrong_field_names_it() {
        let error = parse_json::<Fields>(br#"{"count": "x"}"#).unwrap_err();
        assert!(format!("{error:?}").contains("param: Some(\"count\")"), "{error:?}");
    }

    #[test]
    fn nesting_counts_brackets_outside_strings() {
        assert!(too_deep("[".repeat(101).as_bytes()));
        assert!(!too_deep("[".repeat(100).as_bytes()));
        assert!(!too_deep(format!("\"{}\"", "[\\\"".repeat(200)).as_bytes()));
        assert!(!too_deep("[]".repeat(500).as_bytes()));
        assert!(!too_deep(b"\"cut short \\"));
    }
}
