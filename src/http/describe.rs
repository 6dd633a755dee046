//! What holds for many operations, written into the OpenAPI document in one place.

use axum::http::StatusCode;
use serde_json::{Value, json};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem,
};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{Components, OpenApi as Document, Ref, RefOr, Required, Response, Schema};

use crate::http::openapi::{error_response, plain_response};

/// Headers of answers, by their names among the components.
const REQUEST_ID: &str = "x-request-id";
const RETRY_AFTER: &str = "Retry-After";
/// Headers of requests.
const TIMEOUT: &str = "X-Request-Timeout-Ms";
const PRIORITY: &str = "X-Priority";
const IDEMPOTENCY: &str = "Idempotency-Key";

/// The operation whose pieces may each take the server's own time, which no header makes less.
const UPLOAD: &str = "upload_file";

/// Adds what every operation has: ids, examples of errors, headers; and the routes that are no API.
pub(crate) fn complete(document: &mut Document) {
    pages(document);
    let components = document.components.get_or_insert_default();
    shared(components);
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            let asks_a_model = is_task(operation) || path.starts_with("/hf/") || path.ends_with("/infer");
            let plain = path.starts_with("/v2");
            let parameters = operation.parameters.get_or_insert_default();
            let repeatable = in_common(parameters);
            let responses = &mut operation.responses.responses;
            if responses.contains_key("504") && operation.operation_id.as_deref() != Some(UPLOAD) {
                parameters.push(named(TIMEOUT));
            }
            if let Some(RefOr::T(conflict)) = responses.get_mut("409").filter(|_| repeatable) {
                conflict.description.push_str(UNDER_A_KEY);
            }
            if asks_a_model || path.contains("/examples") {
                parameters.push(named(PRIORITY));
            }
            if path == "/hf/{model}" {
                for body in ["HuggingFaceBody", "HuggingFaceParameters"] {
                    let fields = components.schemas.get(body).map(beside_a_picture).unwrap_or_default();
                    parameters.extend(fields.into_iter().map(RefOr::T));
                }
            }
            if parameters.is_empty() {
                operation.parameters = None;
            }
            refusals(operation, plain);
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response {
                    answer(response, status, method, asks_a_model);
                    if plain {
                        in_plain_text(response);
                    }
                }
            }
        }
    }
}

/// A parameter among the components.
fn named(name: &str) -> RefOr<Parameter> {
    RefOr::Ref(Ref::new(format!("#/components/parameters/{name}")))
}

/// What 409 says as well where a request may be sent again.
const UNDER_A_KEY: &str = " Or the `Idempotency-Key` came with another request before; or a request under it is still being \
                           worked on, which may be asked again.";

/// Gives parameters what they have in common wherever they stand; whether requests may be sent again under a key.
fn in_common(parameters: &mut [RefOr<Parameter>]) -> bool {
    let mut repeatable = false;
    for parameter in parameters {
        let RefOr::T(Parameter { name, schema, .. }) = parameter else { continue };
        if let ("limit", Some(RefOr::T(Schema::Object(number)))) = (name.as_str(), schema) {
            number.minimum = Some(1.into());
        } else if name == IDEMPOTENCY {
            *parameter = named(IDEMPOTENCY);
            repeatable = true;
        }
    }
    repeatable
}

/// What the layers and the reading of bodies refuse, wherever they stand before an operation.
fn refusals(operation: &mut Operation, plain: bool) {
    let keyed = operation.security.as_ref().is_some_and(|all| !all.is_empty());
    let body = operation.request_body.is_some();
    let refusals = [
        (keyed, "429", "The key asks more than it may; `Retry-After` says when to come back."),
        (body, "413", "The body is larger than allowed."),
        (body, "415", "The body is compressed, or of a type that is not taken."),
    ];
    for (_, status, says) in refusals.into_iter().filter(|(there, ..)| *there) {
        let refused = || if plain { plain_response(says) } else { error_response(says) };
        let responses = &mut operation.responses.responses;
        responses.entry(status.to_owned()).or_insert_with(|| refused().build().into());
    }
}

/// A task's fields as query parameters beside the bytes of a picture or sound.
pub(crate) fn beside_a_picture(fields: &RefOr<Schema>) -> Vec<Parameter> {
    let RefOr::T(Schema::Object(object)) = fields else { return Vec::new() };
    let properties = object.properties.iter();
    properties
        .filter(|(name, _)| !matches!(name.as_str(), "input" | "inputs" | "parameters"))
        .map(|(name, schema)| {
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .description(Some("As in a JSON body, for a body that is a picture or sound itself."))
                .schema(Some(schema.clone()))
                .build()
        })
        .collect()
}

fn is_task(operation: &Operation) -> bool {
    operation.tags.as_ref().is_some_and(|tags| tags.iter().any(|tag| tag == "Tasks"))
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [
        ("GET", &mut item.get),
        ("POST", &mut item.post),
        ("PUT", &mut item.put),
        ("DELETE", &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// What operations refer to.
fn shared(components: &mut Components) {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let whole = || ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    let header = |schema: Object, says: &str| {
        RefOr::T(HeaderBuilder::new().schema(Some(schema)).description(Some(says)).build())
    };
    let id = "The request's id: the one that was sent in this header, or a new one; logs carry it too.";
    components.headers.insert(REQUEST_ID.into(), header(text().build(), id));
    let wait = "Seconds after which another try is worth it, at most 120.";
    components.headers.insert(RETRY_AFTER.into(), header(whole().maximum(Some(120)).build(), wait));

    let parameter = |name: &str, schema: Object, says: &str| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(says))
            .schema(Some(schema))
            .build()
    };
    let less =
        "Milliseconds after which the answer is of no use: 504 then. The server's own limit holds as well.";
    let priority = text().enum_values(Some(["interactive", "bulk"])).build();
    let behind = "`bulk` waits behind requests that somebody waits for. Default `interactive`.";
    let token = text().min_length(Some(1)).max_length(Some(256)).build();
    let again = "Letters of the client's own, in ASCII. What is sent again under them within 24 hours, by the same API key and with the \
                 same body, is done once and answered as it was. What was refused may be put right and sent under them again.";
    let all = [(TIMEOUT, whole().build(), less), (PRIORITY, priority, behind), (IDEMPOTENCY, token, again)];
    for (name, schema, says) in all {
        components.parameters.insert(name.into(), parameter(name, schema, says).into());
    }

    let says =
        "Every path answers so to a method that it does not have; the header `Allow` has those that it does.";
    let mut wrong_method = error_response(says).build();
    answer(&mut wrong_method, "405", "GET", false);
    components.responses.insert("MethodNotAllowed".into(), wrong_method.into());
}

/// The document itself, and the pages that show it.
fn pages(document: &mut Document) {
    let says = "The document that these pages show, OpenAPI 3.1.";
    let schema = ObjectBuilder::new().schema_type(Type::Object).build();
    let json = ("application/json", RefOr::T(Schema::Object(schema)));
    let schema = ObjectBuilder::new().schema_type(Type::String).build();
    let html = ("text/html", RefOr::T(Schema::Object(schema)));
    for (path, id, summary, says, (media_type, schema)) in [
        ("/openapi.json", "openapi", "This document", says, json),
        (
            "/docs/",
            "docs",
            "This document as pages",
            "The first page; nothing is fetched from elsewhere.",
            html,
        ),
    ] {
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let operation = OperationBuilder::new()
            .tag("Operations")
            .operation_id(Some(id))
            .summary(Some(summary))
            .response("200", ResponseBuilder::new().description(says).content(media_type, content))
            .build();
        document.paths.add_path_operation(path, vec![HttpMethod::Get], operation);
    }
}

/// Headers, and for an error what it looks like.
fn answer(response: &mut Response, status: &str, method: &str, asks_a_model: bool) {
    let named = |name: &str| RefOr::Ref(Ref::new(format!("#/components/headers/{name}")));
    response.headers.insert(REQUEST_ID.into(), named(REQUEST_ID));
    if matches!(status, "429" | "503") {
        response.headers.insert(RETRY_AFTER.into(), named(RETRY_AFTER));
    }
    if let Some(RefOr::T(content)) = response.content.get_mut("application/json")
        && content.example.is_none()
    {
        content.example = status.parse().ok().and_then(|status| example(status, method, asks_a_model));
    }
}

/// An error under `/v2` has the text alone.
fn in_plain_text(response: &mut Response) {
    if let Some(RefOr::T(content)) = response.content.get_mut("application/json")
        && let Some(example) = &mut content.example
        && let Some(message) = example.pointer("/error/message").cloned()
    {
        *example = json!({"error": message});
    }
}

/// An error's body by its status.
fn example(status: StatusCode, method: &str, asks_a_model: bool) -> Option<Value> {
    const INVALID: &str = "invalid_request_error";
    const SERVER: &str = "server_error";
    let (kind, code, param, message) = match status.as_u16() {
        400 if method == "GET" => {
            (INVALID, "invalid_value", Some("limit"), "`limit` must be a whole number from 1 to 100")
        }
        400 => (INVALID, "invalid_value", Some("model"), "`model` is missing"),
        401 => (
            "authentication_error",
            "invalid_api_key",
            None,
            "no API key: send it as `Authorization: Bearer KEY`",
        ),
        403 => ("permission_error", "insufficient_scope", None, "the key lacks the scope `train`"),
        404 if asks_a_model => (INVALID, "model_not_found", Some("model"), "the model `none` does not exist"),
        404 => (INVALID, "not_found", None, "classifier `none` does not exist"),
        405 => (INVALID, "method_not_allowed", None, "/v1/embeddings does not take GET"),
        409 => ("conflict_error", "conflict", None, "the job is succeeded and cannot be cancelled"),
        413 => (INVALID, "body_too_large", None, "the body is larger than 67108864 bytes"),
        415 => (
            INVALID,
            "unsupported_media_type",
            None,
            "the content type `text/csv` is not taken; send application/json",
        ),
        429 if asks_a_model => {
            ("rate_limit_error", "overloaded", None, "the queue of `all-minilm-l6-v2` is full (4096 items)")
        }
        429 if method == "GET" => {
            ("rate_limit_error", "rate_limit_exceeded", None, "the key may ask 600 requests in a minute")
        }
        429 => (
            "rate_limit_error",
            "rate_limit_exceeded",
            None,
            "the key has 100 jobs that wait; it may have 100",
        ),
        500 => (SERVER, "internal_error", None, "internal error"),
        503 => (SERVER, "not_ready", None, "the server is not ready"),
        504 => (SERVER, "deadline_exceeded", None, "the request's deadline passed"),
        _ => return None,
    };
    let id = "019a5e0c1f7b7d0c9d3f6f5a4b3c2d1e";
    Some(json!({"error": {"message": message, "type": kind, "param": param, "code": code, "request_id": id}}))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn operations_name_the_headers_that_they_read_and_the_bounds_that_hold() {
        let document = serde_json::to_value(crate::http::openapi::document()).unwrap();
        let parameters = |operation: &Value| operation["parameters"].as_array().cloned().unwrap_or_default();
        let post = |path: &str| &document["paths"][path]["post"];
        let reads = |path: &str, name: &str| {
            let named = format!("#/components/parameters/{name}");
            parameters(post(path)).iter().any(|parameter| parameter["$ref"] == named)
        };
        for (path, deadline) in [("/v1/files", false), ("/v1/purges", true), ("/v1/fine_tuning/jobs", true)] {
            assert_eq!((reads(path, TIMEOUT), reads(path, IDEMPOTENCY)), (deadline, true), "{path}");
            assert!(post(path)["responses"]["504"].is_object(), "{path}");
            let conflict = &post(path)["responses"]["409"]["description"];
            assert!(conflict.as_str().unwrap().contains(IDEMPOTENCY), "{path}: {conflict}");
        }
        let conflict = &document["paths"]["/v1/files/{file}"]["delete"]["responses"]["409"]["description"];
        assert!(!conflict.as_str().unwrap().contains(IDEMPOTENCY), "{conflict}");
        let items = document["paths"].as_object().unwrap().values();
        let operations = items.flat_map(|item| item.as_object().unwrap().values());
        let bounds: Vec<Value> = operations
            .flat_map(parameters)
            .filter(|parameter| parameter["name"] == "limit")
            .map(|parameter| parameter["schema"]["minimum"].clone())
            .collect();
        assert!(bounds.len() > 5 && bounds.iter().all(|least| *least == 1), "{bounds:?}");
    }
}
