//! Any body to typed fields: JSON, multipart, or media with its fields in the query.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::extract::multipart::MultipartError;
use axum::http::{HeaderMap, header};
use headstart_engine::Class;
use headstart_tasks::{Caller, Task};
use headstart_types::wording::in_json;
use headstart_types::{Media, Payload};
use http_body_util::BodyExt as _;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_json::error::Category;
use serde_path_to_error::Segment;

use crate::app::App;
use crate::auth::Identity;
use crate::http::error::ApiError;
use crate::http::form;
use crate::http::parts::{self, Parts};

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

/// Reads the fields of a task from whatever body came.
pub(crate) async fn params<T: Task>(app: &Arc<App>, request: Request) -> Result<T::Params, ApiError> {
    let limit = app.config.max_body_bytes;
    let content_type = content_type(request.headers());
    if !T::FORMS && (content_type == "multipart/form-data" || is_media(&content_type)) {
        return Err(ApiError::unsupported(format!(
            "the content type `{content_type}` is not taken here; send application/json"
        )));
    }
    match content_type.as_str() {
        "multipart/form-data" => {
            let (fields, files) = read_multipart(request, limit).await?;
            let mut params: T::Params = form::read(form::fields(fields)?)?;
            if !files.is_empty() {
                carry::<T>(&mut params, files, "parts named `file`")?;
            }
            Ok(params)
        }
        media if is_media(media) => {
            let mut params: T::Params = form::read(form::query(request.uri().query().unwrap_or_default())?)?;
            let bytes = read(request, limit).await?;
            carry::<T>(&mut params, vec![Media::Bytes(bytes)], "the body")?;
            Ok(params)
        }
        _ => {
            let takes =
                if T::FORMS { "application/json, multipart/form-data, a picture or a sound" } else { JSON };
            parse_json(&bytes_of(request, limit, takes).await?)
        }
    }
}

/// Puts what a body carried in the place of the input, which must not be there as well.
fn carry<T: Task>(params: &mut T::Params, media: Vec<Media>, by: &str) -> Result<(), ApiError> {
    if T::input(params).replace(Payload::files(media)).is_some() {
        return Err(ApiError::invalid("input", format!("`input` is given beside {by}: send one of them")));
    }
    Ok(())
}

/// What bodies are unless a route takes others too.
const JSON: &str = "application/json";

/// Reads a JSON body.
pub(crate) async fn json<P: DeserializeOwned>(request: Request, limit: usize) -> Result<P, ApiError> {
    parse_json(&json_bytes(request, limit).await?)
}

/// Reads a body that is said to be JSON.
pub(crate) async fn json_bytes(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    bytes_of(request, limit, JSON).await
}

/// Reads a body that is said to be JSON, where a route `takes` other bodies too.
pub(crate) async fn bytes_of(request: Request, limit: usize, takes: &str) -> Result<Bytes, ApiError> {
    let content_type = content_type(request.headers());
    let body = read(request, limit).await?;
    let looks_like_json = first_byte(&body) == Some(b'{');
    match content_type.as_str() {
        "application/json" | "" => {}
        other if other.ends_with("+json") => {}
        // What curl says when it is not told otherwise.
        "application/x-www-form-urlencoded" | "text/plain" if looks_like_json => {}
        other => {
            return Err(ApiError::unsupported(format!(
                "the content type `{other}` is not taken; send {takes}"
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

/// Parses a JSON object; the message names the field.
pub(crate) fn parse_json<P: DeserializeOwned>(body: &[u8]) -> Result<P, ApiError> {
    if too_deep(body) {
        return Err(ApiError::invalid_json(format!("the body is nested deeper than {DEEPEST}")));
    }
    let good_json = || serde_json::from_slice::<IgnoredAny>(body).is_ok();
    // A list would be taken for the fields in the order of their declaration.
    if first_byte(body) != Some(b'{') && good_json() {
        return Err(ApiError::invalid_json("the body must be a JSON object"));
    }
    // Keeping the path of what is read takes longer than reading it; whoever is refused waits for a second reading.
    if let Ok(parsed) = serde_json::from_slice(body) {
        return Ok(parsed);
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize::<_, P>(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.inner();
        match inner.classify() {
            Category::Data if path != "." => refused(&path, &inner.to_string()),
            // A number where a word of a fixed set belongs is reported as bad syntax though the body is good JSON.
            Category::Syntax if path != "." && good_json() => {
                let expected = choices::<P>(body, error.path());
                refused(&path, &expected.unwrap_or_else(|| inner.to_string()))
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

fn refused(path: &str, problem: &str) -> ApiError {
    ApiError::invalid(top_field(path), format!("`{path}`: {}", in_json(problem)))
}

fn first_byte(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

/// Bodies up to this many bytes are read a second time for a better message.
const SMALL_BODY: usize = 64 << 10;

/// What a field that takes one of some words says to a word that is none of them.
fn choices<P: DeserializeOwned>(body: &[u8], path: &serde_path_to_error::Path) -> Option<String> {
    // A body as a tree takes many times its bytes.
    if body.len() > SMALL_BODY {
        return None;
    }
    let mut value: Value = serde_json::from_slice(body).ok()?;
    let mut place = &mut value;
    for segment in path {
        place = match segment {
            Segment::Map { key } => place.get_mut(key)?,
            Segment::Seq { index } => place.get_mut(*index)?,
            Segment::Enum { .. } | Segment::Unknown => return None,
        };
    }
    *place = Value::String(String::new());
    let error = serde_path_to_error::deserialize::<_, P>(value).err()?;
    let said = error.inner().to_string();
    let (_, words) = said.split_once("expected ").filter(|_| error.path().to_string() == path.to_string())?;
    Some(format!("expected {words}"))
}

/// The field of the body in which a path ends.
pub(crate) fn top_field(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or(path)
}

/// Refuses a body that would have to be unpacked: its size would not be what the limits see.
pub(crate) fn uncompressed(headers: &HeaderMap) -> Result<(), ApiError> {
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    match encodings.map(|value| String::from_utf8_lossy(value.as_bytes())).find(|name| *name != "identity") {
        None => Ok(()),
        Some(name) => Err(ApiError::unsupported(format!(
            "the content encoding `{name}` is not taken; send the body as it is"
        ))),
    }
}

/// Reads the whole body, at most `limit` bytes.
pub(crate) async fn read(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    uncompressed(request.headers())?;
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

/// Parts named `file` as media, all others as names and values.
async fn read_multipart(
    request: Request,
    limit: usize,
) -> Result<(Vec<(String, String)>, Vec<Media>), ApiError> {
    uncompressed(request.headers())?;
    let (parts, body) = request.into_parts();
    let limited = Request::from_parts(parts, Body::new(http_body_util::Limited::new(body, limit)));
    let bad =
        |message: String| ApiError::invalid_json(format!("the multipart body could not be read: {message}"));
    let mut multipart = Parts::of(limited).await.map_err(|error| bad(error.body_text()))?;
    let mut fields = Vec::new();
    let mut files = Vec::new();
    loop {
        let too_large = |error: MultipartError| {
            let over = parts::cause::<http_body_util::LengthLimitError>(&error).is_some();
            if over { ApiError::body_too_large(limit) } else { bad(parts::problem(&error)) }
        };
        let Some(field) = multipart.next_field().await.map_err(too_large)? else { break };
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            files.push(Media::Bytes(field.bytes().await.map_err(too_large)?));
        } else {
            let media = field.content_type().is_some_and(is_picture_or_sound);
            let value = text_of(&name, field.bytes().await.map_err(too_large)?, media)?;
            fields.push((name, value));
        }
    }
    Ok((fields, files))
}

/// The text of a part. What is no text is not made one: its vector would be that of other words.
fn text_of(name: &str, bytes: Bytes, media: bool) -> Result<String, ApiError> {
    const FILES: &str = "a picture or a sound goes into a part named `file`";
    if media {
        return Err(ApiError::invalid(name, format!("`{name}` is a picture or a sound; {FILES}")));
    }
    let text = String::from_utf8(bytes.into())
        .map_err(|_| ApiError::invalid(name, format!("`{name}` is no text in UTF-8; {FILES}")))?;
    // The mark that some editors put at the start of a file.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The content type without its parameters, in lower case; empty when there is none.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a body of this type is a picture or a sound itself.
pub(crate) fn is_media(content_type: &str) -> bool {
    is_picture_or_sound(content_type)
        || matches!(content_type, "application/octet-stream" | "application/ogg" | "video/mp4")
}

/// Whether this type is one of pictures or of sounds by its name.
fn is_picture_or_sound(content_type: &str) -> bool {
    ["image/", "audio/"].iter().any(|kind| content_type.starts_with(kind))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Fields {
        #[serde(rename = "count")]
        _count: Option<u32>,
        #[serde(rename = "inner")]
        _inner: Option<Vec<Inner>>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[serde(rename = "truncate")]
        _truncate: headstart_types::payload::Truncate,
    }

    #[test]
    fn the_message_of_a_wrong_field_names_it() {
        let error = parse_json::<Fields>(br#"{"count": "x"}"#).unwrap_err();
        assert!(format!("{error:?}").contains("param: Some(\"count\")"), "{error:?}");
    }

    #[test]
    fn a_field_of_fixed_words_says_which_whatever_it_was_given() {
        for value in ["true", "1", "[]", "\"middle\""] {
            let body = format!("{{\"inner\": [{{\"truncate\": {value}}}]}}");
            let error = format!("{:?}", parse_json::<Fields>(body.as_bytes()).unwrap_err());
            assert!(error.contains("expected one of `none`, `start`, `end`"), "{error}");
        }
    }

    #[test]
    fn a_body_that_is_no_object_is_told_so() {
        for body in ["[3]", " 1", "null", "\"count\"", "[]"] {
            let error = format!("{:?}", parse_json::<Fields>(body.as_bytes()).unwrap_err());
            assert!(error.contains("must be a JSON object"), "{body}: {error}");
        }
    }

    #[test]
    fn a_part_that_is_no_text_is_named_and_the_mark_before_a_text_is_not_its_own() {
        let text = |bytes: &'static [u8], media| text_of("labels", Bytes::from_static(bytes), media);
        assert_eq!(text("\u{feff}café".as_bytes(), false).unwrap(), "café");
        for (bytes, media) in
            [(b"caf\xe9".as_slice(), false), (b"\xff\xfec\0".as_slice(), false), (b"ID3".as_slice(), true)]
        {
            let error = format!("{:?}", text(bytes, media).unwrap_err());
            assert!(error.contains("param: Some(\"labels\")") && error.contains("named `file`"), "{error}");
        }
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
