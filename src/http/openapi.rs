//! The OpenAPI document: generated from the code, served, committed, compared by a test.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use headstart_tasks::{Task, TaskVisitor, visit_all};
use headstart_types::report::Report;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, Ref, RefOr, Required, Schema};
use utoipa::{IntoResponses, OpenApi, PartialSchema as _, ToSchema};

use crate::http::describe;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::routes::{
    audit, classifiers, events, examples, exports, files, health, hugging_face, hugging_face_rerank,
    inference, jobs, loading, models, pointers, purges,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "headstart",
        description = "Pretrained backbones over REST: features, zero-shot labels and fine-tuned classifiers for texts, images and sounds. Bodies \
                       follow the OpenAI API where it has the route, so its official clients work unchanged. Errors are one \
                       object everywhere; a path that is not there is 404 `not_found`, a method that a path does not have 405 \
                       `method_not_allowed`. No body may be compressed."
    ),
    tags(
        (name = "Tasks", description = "Ask a model"),
        (name = "Other clients' bodies", description = "The same engine in the bodies of other APIs"),
        (name = "Tensors", description = "The open inference protocol, version 2: graphs as they are"),
        (name = "Models", description = "What can be asked"),
        (name = "Files", description = "Examples to learn from"),
        (name = "Fine-tuning", description = "Jobs that make classifiers"),
        (name = "Classifiers", description = "What jobs or a few examples made: versions, and which of them answers"),
        (name = "Purges", description = "A person's rows taken out of everything that is kept"),
        (name = "Operations", description = "For balancers and monitors"),
    ),
    paths(
        hugging_face::infer, hugging_face_rerank::rerank, models::list, models::retrieve, classifiers::delete_model,
        files::upload, files::list, files::retrieve, files::content, files::delete,
        jobs::create, jobs::list, jobs::retrieve, jobs::delete, jobs::cancel, jobs::pause, jobs::resume,
        events::events, events::checkpoints, jobs::report,
        classifiers::list, classifiers::retrieve, classifiers::delete, classifiers::delete_version,
        classifiers::report, exports::onnx, examples::create, examples::add, examples::forget,
        pointers::promote, pointers::rollback, pointers::traffic, pointers::set_shadow, pointers::set_alias,
        pointers::delete_alias, purges::create, purges::list, purges::retrieve,
        audit::list, health::live, health::ready, health::metrics, loading::load, loading::unload, inference::infer, inference::metadata, inference::model_ready, inference::configuration, inference::server, inference::live, inference::ready, inference::statistics, inference::model_statistics, inference::index, inference::load, inference::unload,
    ),
    components(schemas(ErrorBody, Report))
)]
struct Handwritten;

/// The document.
#[must_use]
pub fn document() -> Document {
    let mut document = Handwritten::openapi();
    document.info.version = env!("CARGO_PKG_VERSION").into();
    document.info.license = None;
    document.info.contact = None;
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("key", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    visit_all(&mut AddTask(&mut document));
    name_versions(&mut document);
    describe::complete(&mut document);
    document
}

/// The document as it is served and committed.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn document_json() -> anyhow::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(&document())?))
}

/// Every documented operation as route pattern and method.
pub(crate) fn operations() -> Vec<(String, &'static str)> {
    let methods = |item: &PathItem| {
        [
            (item.get.is_some(), "GET"),
            (item.post.is_some(), "POST"),
            (item.put.is_some(), "PUT"),
            (item.delete.is_some(), "DELETE"),
        ]
    };
    document()
        .paths
        .paths
        .iter()
        .flat_map(|(path, item)| {
            methods(item).into_iter().filter(|(there, _)| *there).map(|(_, method)| (path.clone(), method))
        })
        .collect()
}

pub(crate) async fn serve() -> Result<Response, ApiError> {
    // It never changes while the process runs.
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let json = match DOCUMENT.get() {
        Some(json) => json.clone(),
        None => {
            let json = Bytes::from(document_json().map_err(|error| {
                tracing::error!(%error, "the OpenAPI document could not be written");
                ApiError::internal()
            })?);
            DOCUMENT.get_or_init(|| json).clone()
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// What the open inference protocol answers about a backbone it answers about its version as well, of which there is one.
fn name_versions(document: &mut Document) {
    let version = ParameterBuilder::new()
        .name("version")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(format!("`{}`; no backbone has another", inference::VERSION)))
        .schema(Some(String::schema()))
        .example(Some(inference::VERSION.into()))
        .build();
    let of_version = |(path, item): (&String, &PathItem)| {
        let rest = path.strip_prefix("/v2/models/{model}")?;
        let mut item = item.clone();
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            operation.operation_id = operation.operation_id.take().map(|id| format!("{id}_of_version"));
            operation.parameters.get_or_insert_default().push(RefOr::T(version.clone()));
        }
        Some((format!("/v2/models/{{model}}/versions/{{version}}{rest}"), item))
    };
    let named: Vec<_> = document.paths.paths.iter().filter_map(of_version).collect();
    document.paths.paths.extend(named);
}

/// Documents each task from its own types.
struct AddTask<'a>(&'a mut Document);

impl TaskVisitor for AddTask<'_> {
    fn visit<T: Task>(&mut self) {
        let components = self.0.components.get_or_insert_default();
        add_schema::<T::Params>(&mut components.schemas);
        add_schema::<T::Answer>(&mut components.schemas);
        let json = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(T::Params::name())))
            .example(serde_json::from_str(T::EXAMPLE).ok())
            .build();
        let mut body =
            RequestBodyBuilder::new().content("application/json", json).required(Some(Required::True));
        if T::FORMS {
            let form = ContentBuilder::new().schema(Some(form_of(&T::Params::schema()))).build();
            let picture = ContentBuilder::new().schema(Some(binary())).build();
            body = body
                .content("multipart/form-data", form)
                .content("image/*", picture.clone())
                .content("audio/*", picture);
        }
        let body = body.build();
        let answer = ContentBuilder::new().schema(Some(Ref::from_schema_name(T::Answer::name()))).build();
        let mut operation = OperationBuilder::new()
            .tag("Tasks")
            .operation_id(Some(T::NAME.replace('-', "_")))
            .summary(Some(T::SUMMARY))
            .description(Some(T::DESCRIPTION))
            .request_body(Some(body))
            .response(
                "200",
                ResponseBuilder::new().description("The answer.").content("application/json", answer),
            )
            .securities(Some([
                SecurityRequirement::default(),
                SecurityRequirement::new("key", Vec::<String>::new()),
            ]));
        if T::FORMS {
            let fields = describe::beside_a_picture(&T::Params::schema());
            operation = operation.parameters(Some(fields));
        }
        for (status, description) in TASK_ERRORS {
            operation = operation.response(status, error_response(description));
        }
        self.0.paths.add_path_operation(
            format!("/v1/{}", T::NAME),
            vec![HttpMethod::Post],
            operation.build(),
        );
    }
}

const TASK_ERRORS: [(&str, &str); 10] = [
    ("400", "A field is missing, wrong or too long; `param` names it."),
    ("401", "Missing or unknown key."),
    ("403", "The key lacks the scope, or no keys are asked for and a page of another origin sent it."),
    ("404", "No model of that name."),
    ("413", "The body, a picture or a sound is larger than allowed."),
    ("415", "The body's type, or the format of a picture or sound, is not taken."),
    ("429", "The model's queue is full; `Retry-After` says when to come back."),
    ("500", "Something broke; the log has the request's id."),
    ("503", "The server starts or stops, or the model is broken."),
    ("504", "The request's deadline passed."),
];

/// The errors of routes over stored rows.
pub(crate) struct RowErrors;

impl IntoResponses for RowErrors {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        ROW_ERRORS
            .iter()
            .map(|(status, description)| ((*status).to_owned(), error_response(description).build().into()))
            .collect()
    }
}

const ROW_ERRORS: [(&str, &str); 8] = [
    ("400", "A field is missing or wrong; `param` names it."),
    ("401", "Missing or unknown key."),
    ("403", "The key lacks the scope, or no keys are asked for and a page of another origin sent it."),
    ("404", "Nothing of that name for this key."),
    ("409", "The state does not allow it; asking again would not help."),
    ("429", "The key has as many as it may, or asks more than it may."),
    ("500", "Something broke; the log has the request's id."),
    ("503", "The server starts or stops, or the disk is full."),
];

/// An answer that is the error object.
pub(crate) fn error_response(description: &str) -> ResponseBuilder {
    answer_of::<ErrorBody>(description)
}

/// An answer that is an error under `/v2`.
pub(crate) fn plain_response(description: &str) -> ResponseBuilder {
    answer_of::<inference::InferenceError>(description)
}

fn answer_of<B: ToSchema>(description: &str) -> ResponseBuilder {
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name(B::name()))).build();
    ResponseBuilder::new().description(description).content("application/json", body)
}

fn add_schema<S: ToSchema>(schemas: &mut BTreeMap<String, RefOr<Schema>>) {
    let mut nested = Vec::new();
    S::schemas(&mut nested);
    schemas.insert(S::name().into_owned(), S::schema());
    schemas.extend(nested);
}

/// A task's fields as parts of a form.
fn form_of(fields: &RefOr<Schema>) -> RefOr<Schema> {
    let mut form = ObjectBuilder::new()
        .description(Some(
            "Pictures or sounds in parts named `file`, repeatable, in place of `input`; every other field as a part of its name, \
             lists and objects as JSON.",
        ))
        .property("file", binary())
        .required("file");
    if let RefOr::T(Schema::Object(object)) = fields {
        for (name, schema) in object.properties.iter().filter(|(name, _)| *name != "input") {
            form = form.property(name, schema.clone());
        }
        form = object
            .required
            .iter()
            .filter(|name| *name != "input")
            .fold(form, |form, name| form.required(name));
    }
    form.into()
}

fn binary() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::Binary)))
        .description(Some("The file of a picture or sound; the other fields are query parameters."))
        .into()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use serde_json::Value;

    #[test]
    fn the_committed_document_is_the_generated_one() {
        let committed = include_str!("../../openapi/openapi.json");
        let generated = super::document_json().unwrap();
        assert!(committed == generated, "openapi/openapi.json is out of step; `make openapi` mends it");
    }

    #[test]
    fn whatever_the_document_refers_to_is_in_it() {
        let document: Value = serde_json::from_str(&super::document_json().unwrap()).unwrap();
        let mut references = BTreeSet::new();
        collect(&document, &mut references);
        assert!(references.len() > 100, "{} references", references.len());
        let absent: Vec<&str> = references
            .into_iter()
            .filter(|reference| reference.strip_prefix('#').and_then(|at| document.pointer(at)).is_none())
            .collect();
        assert!(absent.is_empty(), "{absent:?}");
    }

    #[test]
    fn no_two_types_have_one_name_among_the_components() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut folders = vec![root.join("src"), root.join("crates")];
        let mut named = BTreeMap::<String, Vec<String>>::new();
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|ending| ending == "rs") {
                    for name in documented(&std::fs::read_to_string(&path).unwrap()) {
                        named.entry(name).or_default().push(path.display().to_string());
                    }
                }
            }
        }
        assert!(named.len() > 100, "{} types", named.len());
        named.retain(|_, places| places.len() > 1);
        assert!(
            named.is_empty(),
            "the document keeps one of each, give the other `#[schema(as = …)]`: {named:?}"
        );
    }

    /// Names that types of a file have among the components.
    fn documented(source: &str) -> Vec<String> {
        let (mut names, mut renamed, mut within) = (Vec::new(), None, false);
        for line in source.lines().map(str::trim) {
            within |= line.starts_with("#[derive(") && line.contains("ToSchema");
            if let Some((_, name)) = line.split_once("#[schema(as = ").filter(|_| within) {
                renamed = name.split([',', ')']).next().map(str::to_owned);
            }
            let declared = line.split_once("struct ").or_else(|| line.split_once("enum "));
            let declared = declared.filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
            if let Some((_, name)) = declared.filter(|_| within) {
                let own = || name.split(|letter: char| !letter.is_alphanumeric()).next().map(str::to_owned);
                names.extend(renamed.take().or_else(own));
                within = false;
            }
        }
        names
    }

    fn collect<'a>(value: &'a Value, references: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                references.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| collect(field, references));
            }
            Value::Array(list) => list.iter().for_each(|value| collect(value, references)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
