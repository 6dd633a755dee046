//! Classifiers: listed, looked at with their versions, deleted.

use axum::Json;
use axum::http::HeaderMap;
use axum::http::Uri;
use axum::response::Response;
use headstart_store::{Expected, PageRequest, Store, StoreError};
use headstart_tasks::TaskError;
use headstart_types::classifier::{ClassifierId, Reason};

use crate::clock;
use crate::http::error::ApiError;
use crate::http::listing::{List, Query};
use crate::http::objects::classifier::{ClassifierObject, Deleted};
use crate::http::openapi::RowErrors;
use crate::http::path::Path;
use crate::http::routes::reports::{ReportAnswer, stored_report};
use crate::http::visible::Visible;

/// Classifiers of a page.
const LIMITS: (u32, u32) = (20, 100);
/// Versions and audit rows that one classifier's answer holds.
const LATEST: u32 = 100;

/// Lists classifiers.
#[utoipa::path(
    get,
    path = "/v1/classifiers",
    operation_id = "list_classifiers",
    tag = "Classifiers",
    summary = "List the classifiers",
    description = "By name, without versions and audit, which one classifier's answer has.",
    params(
        ("after" = Option<String>, Query, description = "Id of the last classifier of the page before"),
        ("limit" = Option<u32>, Query, description = "Most classifiers, 1 to 100; 20 unless given"),
    ),
    responses((status = 200, description = "A page of classifiers.", body = List<ClassifierObject>), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn list(visible: Visible, uri: Uri) -> Result<Json<List<ClassifierObject>>, ApiError> {
    let query = Query::of(&uri);
    let after = query.get("after").map(|id| visible.classifier(id)).transpose()?;
    let page = visible.store.classifiers(visible.scope(), after.as_ref(), query.limit(LIMITS)?).await?;
    let id = |id: &ClassifierId| visible.name_of(id);
    let object = |classifier: headstart_types::classifier::Classifier| {
        let counts = visible.shadow_counts(&classifier);
        ClassifierObject::brief(id(&classifier.id), classifier, counts)
    };
    Ok(Json(List::of(page, |classifier| id(&classifier.id), object)))
}

/// One classifier.
#[utoipa::path(
    get,
    path = "/v1/classifiers/{name}",
    operation_id = "retrieve_classifier",
    tag = "Classifiers",
    summary = "One classifier",
    params(("name" = String, Path, description = "The classifier's name")),
    responses(
        (status = 200, description = "The classifier, its versions and what was done to it.", body = ClassifierObject),
        RowErrors,
    ),
    security((), ("key" = []))
)]
pub(crate) async fn retrieve(
    visible: Visible,
    Path(name): Path<String>,
) -> Result<Json<ClassifierObject>, ApiError> {
    Ok(Json(whole(&visible, &visible.classifier(&name)?).await?))
}

/// A classifier with its versions and what was done to it.
pub(crate) async fn whole(visible: &Visible, id: &ClassifierId) -> Result<ClassifierObject, ApiError> {
    let store = &visible.store;
    let classifier = store.classifier(id).await?;
    let versions = store.versions(id, &PageRequest::newest(LATEST)).await?;
    let audits = store.audits(id, &PageRequest::newest(LATEST)).await?;
    let jobs = store.jobs_of(id).await?;
    let counts = visible.shadow_counts(&classifier);
    let versions = (versions.data, &jobs);
    Ok(ClassifierObject::new(visible.name_of(id), classifier, counts, versions, audits.data))
}

/// The number in a path.
pub(crate) fn number(name: &str, version: &str) -> Result<u32, ApiError> {
    version.parse().map_err(|_| ApiError::not_found(format!("version `{name}@{version}` does not exist")))
}

/// A version's report.
#[utoipa::path(
    get,
    path = "/v1/classifiers/{name}/versions/{version}/report",
    operation_id = "classifier_version_report",
    tag = "Classifiers",
    summary = "A version's report",
    params(
        ("name" = String, Path, description = "The classifier's name"),
        ("version" = u32, Path, description = "The version's number"),
    ),
    responses(ReportAnswer, RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn report(
    visible: Visible,
    headers: HeaderMap,
    Path((name, version)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let number = number(&name, &version)?;
    let row = visible.store.version(&visible.classifier(&name)?, number).await?;
    let report = (row.report.as_ref(), Some(format!("{}@{number}", visible.name_of(&row.classifier))));
    stored_report(&visible, &headers, report, || format!("version `{name}@{number}` has no report")).await
}

/// Deletes a version.
#[utoipa::path(
    delete,
    path = "/v1/classifiers/{name}/versions/{version}",
    operation_id = "delete_classifier_version",
    tag = "Classifiers",
    summary = "Delete a version",
    description = "Refused while production, traffic, shadow or an alias points to it.",
    params(
        ("name" = String, Path, description = "The classifier's name"),
        ("version" = u32, Path, description = "The version's number"),
    ),
    responses((status = 200, description = "It is gone.", body = Deleted), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn delete_version(
    visible: Visible,
    Path((name, version)): Path<(String, String)>,
) -> Result<Json<Deleted>, ApiError> {
    let number = number(&name, &version)?;
    let id = visible.classifier(&name)?;
    let reason = visible.reason(Some(format!("version {number}")));
    visible.store.delete_version(&id, number, &reason, clock::now_ms()).await?;
    Ok(Json(Deleted::new(format!("{name}@{number}"), "classifier.version")))
}

/// Deletes a classifier.
#[utoipa::path(
    delete,
    path = "/v1/classifiers/{name}",
    operation_id = "delete_classifier",
    tag = "Classifiers",
    summary = "Delete a classifier",
    description = "All its versions go, and the checkpoints of its jobs. A later classifier of that name goes on with new version numbers.",
    params(("name" = String, Path, description = "The classifier's name")),
    responses((status = 200, description = "It is gone.", body = Deleted), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn delete(visible: Visible, Path(name): Path<String>) -> Result<Json<Deleted>, ApiError> {
    let id = visible.classifier(&name)?;
    visible.store.delete_classifier(&id, Expected::Any, &visible.reason(None), clock::now_ms()).await?;
    Ok(Json(Deleted::new(name, "classifier")))
}

/// Deletes a fine-tuned model as the OpenAI API does.
#[utoipa::path(
    delete,
    path = "/v1/models/{id}",
    operation_id = "delete_model",
    tag = "Models",
    summary = "Delete a fine-tuned model",
    description = "A bare name deletes the classifier, `name@version` that version; its last version takes the \
                   classifier along. Backbones stay.",
    params(("id" = String, Path, description = "The model's name")),
    responses((status = 200, description = "It is gone.", body = Deleted), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn delete_model(
    visible: Visible,
    Path(model): Path<String>,
) -> Result<Json<Deleted>, ApiError> {
    if visible.app.tasks.catalog.named(&model).is_some() {
        return Err(ApiError::conflict(format!("`{model}` is a backbone, which cannot be deleted")));
    }
    let unknown = || ApiError::from(TaskError::UnknownModel(model.clone()));
    let (name, version) = match model.split_once('@') {
        None => (model.as_str(), None),
        Some((name, version)) => (name, Some(version)),
    };
    let id = visible.classifier(name).map_err(|_| unknown())?;
    let number: Option<u32> = version.map(str::parse).transpose().map_err(|_| unknown())?;
    let reason = visible.reason(number.map(|number| format!("version {number}")));
    let (store, now) = (&visible.store, clock::now_ms());
    let deleted = match number {
        None => store.delete_classifier(&id, Expected::Any, &reason, now).await,
        Some(number) => delete_numbered(store, &id, number, &reason, now).await,
    };
    match deleted {
        Ok(()) => Ok(Json(Deleted::new(model, "model"))),
        Err(StoreError::NotFound { .. }) => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}

/// Deletes a version, and where it is the last the classifier with it.
async fn delete_numbered(
    store: &Store,
    id: &ClassifierId,
    number: u32,
    reason: &Reason,
    now: i64,
) -> Result<(), StoreError> {
    // Before the versions: one that is published meanwhile must not go with this one.
    let seen = Expected::Revision(store.classifier(id).await?.revision);
    let versions = store.versions(id, &PageRequest::newest(2)).await?;
    if matches!(versions.data.as_slice(), [last] if last.number == number) {
        match store.delete_classifier(id, seen, reason, now).await {
            Err(StoreError::Conflict(_)) => {}
            done => return done,
        }
    }
    store.delete_version(id, number, reason, now).await.map(|_| ())
}
