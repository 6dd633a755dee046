//! Which version of a classifier answers: promoted, rolled back, split, named.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Request};
use axum::response::Response;
use headstart_store::StoreError;
use headstart_types::classifier::{Classifier, ClassifierId, Reason};
use headstart_types::gate::{Comparison, GateKind};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::clock;
use crate::gate;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::idempotent::{Sent, once};
use crate::http::objects::classifier::ClassifierObject;
use crate::http::openapi::RowErrors;
use crate::http::routes::classifiers::number;
use crate::http::routes::jobs::BODY_BYTES;
use crate::http::visible::Visible;

/// How a version is promoted. Everything may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct Promotion {
    /// Why, for the audit.
    #[schema(example = "better on last week's questions")]
    reason: Option<String>,
    /// Only while this version is production.
    if_production: Option<u32>,
    /// A comparison with production that must not be lost: `true`, or the test and its level.
    #[schema(value_type = Option<GateRequest>, example = json!({"kind": "mcnemar", "alpha": 0.05}))]
    gate: Option<Value>,
}

/// What is asked of the gate: `true` for the usual test, or a test by name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(
    dead_code,
    reason = "what clients may send, for the document; it is read field by field, so that each error names its own"
)]
pub(crate) enum GateRequest {
    /// `true`: McNemar's test at 0.05. `false`: no gate.
    Switch(bool),
    /// A test by name.
    Test {
        /// The test.
        kind: GateKind,
        /// Below this p the version is worse; 0.05 unless given.
        #[schema(exclusive_minimum = 0, maximum = 0.5)]
        alpha: Option<f64>,
    },
}

/// Why a classifier is rolled back. Everything may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct Rollback {
    /// Why, for the audit.
    reason: Option<String>,
}

/// Which version an alias means.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Aliased {
    /// The version's number.
    version: u32,
}

/// Which version scores along.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Shadowing {
    /// The version's number; null for none.
    #[schema(required = true)]
    version: Option<u32>,
}

fn object(visible: &Visible, id: &ClassifierId, classifier: Classifier) -> ClassifierObject {
    ClassifierObject::brief(visible.name_of(id), classifier, visible.shadow_counts(id))
}

/// Makes a version production.
#[utoipa::path(
    post,
    path = "/v1/classifiers/{name}/versions/{version}/promote",
    operation_id = "promote_classifier_version",
    tag = "Classifiers",
    summary = "Make a version production",
    description = "The bare name means it from now on; a traffic split ends. With `gate` only where held-out rows that \
                   neither version learned from show that it is not worse than production (McNemar's test): otherwise \
                   409, code `gate_refused`, with the counts in `error.gate` and a row in the audit.",
    params(
        ("name" = String, Path, description = "The classifier's name"),
        ("version" = u32, Path, description = "The version's number"),
    ),
    request_body(
        content = Promotion,
        example = json!({"reason": "better on last week's questions"}),
    ),
    responses((status = 200, description = "The classifier.", body = ClassifierObject), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn promote(
    visible: Visible,
    Path((name, version)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let headers = request.headers().clone();
    let body = extract::read(request, BODY_BYTES).await?;
    let place = format!("{name}@{version}");
    let route = "POST /v1/classifiers/{name}/versions/{version}/promote";
    let sent = Sent { headers: &headers, route, place: &place, body: &body };
    let (visible, body, name, version) = (&visible, &body, &name, &version);
    once(visible, sent, place.clone(), |_| async move {
        let asked: Promotion =
            if body.is_empty() { Promotion::default() } else { extract::parse_json(body)? };
        let alpha = level(asked.gate.as_ref())?;
        let id = visible.classifier(name)?;
        let number = number(name, version)?;
        let reason = visible.reason(asked.reason);
        let found = match alpha {
            Some(alpha) => gate::compare(&visible.store, &id, number, alpha).await?,
            None => None,
        };
        let Some(found) = found else {
            let now = clock::now_ms();
            let moved = visible.store.promote(&id, number, asked.if_production, &reason, now).await?;
            return Ok(object(visible, &id, moved));
        };
        let compared = asked.if_production.unwrap_or(found.production);
        if compared != found.production {
            return Err(StoreError::Conflict(format!("production of `{name}` has moved")).into());
        }
        let reason = Reason { gate: Some(json!(found)), ..reason };
        if !found.passes() {
            visible.store.refuse(&id, &reason, clock::now_ms()).await?;
            return Err(ApiError::refused(found));
        }
        let moved = visible.store.promote(&id, number, Some(compared), &reason, clock::now_ms()).await?;
        Ok(object(visible, &id, moved).with_gate(Some(found)))
    })
    .await
}

/// The level of the gate that is asked for; `None` where none is.
fn level(asked: Option<&Value>) -> Result<Option<f64>, ApiError> {
    let fields = match asked {
        None | Some(Value::Null | Value::Bool(false)) => return Ok(None),
        Some(Value::Bool(true)) => return Ok(Some(Comparison::ALPHA)),
        Some(Value::Object(fields)) => fields,
        Some(_) => return Err(ApiError::invalid("gate", "`gate` must be true, false or an object")),
    };
    if fields.get("kind").and_then(Value::as_str).and_then(GateKind::of).is_none() {
        return Err(ApiError::invalid("gate.kind", "`gate.kind` must be `mcnemar`"));
    }
    match fields.get("alpha") {
        None | Some(Value::Null) => Ok(Some(Comparison::ALPHA)),
        Some(alpha) => {
            let most = Comparison::MOST_ALPHA;
            let alpha = alpha.as_f64().filter(|alpha| *alpha > 0.0 && *alpha <= most);
            let problem = || format!("`gate.alpha` must be a number above 0 and at most {most}");
            alpha.map(Some).ok_or_else(|| ApiError::invalid("gate.alpha", problem()))
        }
    }
}

/// Makes the version production that was so before.
#[utoipa::path(
    post,
    path = "/v1/classifiers/{name}/rollback",
    operation_id = "rollback_classifier",
    tag = "Classifiers",
    summary = "Go back to the version before",
    description = "Asked again, to the one before that; a traffic split ends.",
    params(("name" = String, Path, description = "The classifier's name")),
    request_body(content = Rollback, example = json!({"reason": "complaints"})),
    responses((status = 200, description = "The classifier.", body = ClassifierObject), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn rollback(
    visible: Visible,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let headers = request.headers().clone();
    let body = extract::read(request, BODY_BYTES).await?;
    let route = "POST /v1/classifiers/{name}/rollback";
    let sent = Sent { headers: &headers, route, place: &name, body: &body };
    let (visible, body, name) = (&visible, &body, &name);
    once(visible, sent, name.clone(), |_| async move {
        let asked: Rollback = if body.is_empty() { Rollback::default() } else { extract::parse_json(body)? };
        let id = visible.classifier(name)?;
        let moved = visible.store.rollback(&id, &visible.reason(asked.reason), clock::now_ms()).await?;
        Ok(object(visible, &id, moved))
    })
    .await
}

/// Splits requests between versions.
#[utoipa::path(
    put,
    path = "/v1/classifiers/{name}/traffic",
    operation_id = "set_classifier_traffic",
    tag = "Classifiers",
    summary = "Split requests between versions",
    description = "Percents by version that sum to 100; an empty object gives all to production.",
    params(("name" = String, Path, description = "The classifier's name")),
    request_body(content = BTreeMap<String, u8>, example = json!({"1": 90, "2": 10})),
    responses((status = 200, description = "The classifier.", body = ClassifierObject), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn traffic(
    visible: Visible,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<ClassifierObject>, ApiError> {
    let asked: BTreeMap<String, u8> = extract::json(request, BODY_BYTES).await?;
    let mut split = BTreeMap::new();
    for (version, percent) in asked {
        let number: u32 = version
            .parse()
            .map_err(|_| ApiError::invalid("traffic", format!("`{version}` is no version's number")))?;
        split.insert(number, percent);
    }
    let id = visible.classifier(&name)?;
    let moved = visible.store.set_traffic(&id, &split, &visible.reason(None), clock::now_ms()).await?;
    Ok(Json(object(&visible, &id, moved)))
}

/// Lets a version score along.
#[utoipa::path(
    put,
    path = "/v1/classifiers/{name}/shadow",
    operation_id = "set_classifier_shadow",
    tag = "Classifiers",
    summary = "Let a version score along",
    description = "It scores the items of requests to the bare name on the same features, and where it says something \
                   else than the version that answers is counted; null ends it.",
    params(("name" = String, Path, description = "The classifier's name")),
    request_body(content = Shadowing, example = json!({"version": 2})),
    responses((status = 200, description = "The classifier.", body = ClassifierObject), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn set_shadow(
    visible: Visible,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<ClassifierObject>, ApiError> {
    let asked: Shadowing = extract::json(request, BODY_BYTES).await?;
    let id = visible.classifier(&name)?;
    if let (Some(shadow), Some(production)) = (asked.version, visible.store.classifier(&id).await?.production)
    {
        let shadow = visible.store.version(&id, shadow).await?;
        let production = visible.store.version(&id, production).await?;
        if shadow.backbone != production.backbone {
            let problem = format!(
                "`version`: it reads features of `{}`, production those of `{}`; only the same features are scored along",
                shadow.backbone, production.backbone
            );
            return Err(ApiError::invalid("version", problem));
        }
    }
    let reason = visible.reason(None);
    let moved = visible.store.set_shadow(&id, asked.version, &reason, clock::now_ms()).await?;
    Ok(Json(object(&visible, &id, moved)))
}

/// Names a version.
#[utoipa::path(
    put,
    path = "/v1/classifiers/{name}/aliases/{alias}",
    operation_id = "set_classifier_alias",
    tag = "Classifiers",
    summary = "Name a version",
    description = "Requests reach it as `name@alias`.",
    params(
        ("name" = String, Path, description = "The classifier's name"),
        ("alias" = String, Path, description = "The alias"),
    ),
    request_body(content = Aliased, example = json!({"version": 2})),
    responses((status = 200, description = "The classifier.", body = ClassifierObject), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn set_alias(
    visible: Visible,
    Path((name, alias)): Path<(String, String)>,
    request: Request,
) -> Result<Json<ClassifierObject>, ApiError> {
    let asked: Aliased = extract::json(request, BODY_BYTES).await?;
    alias_to(&visible, &name, &alias, Some(asked.version)).await
}

/// Takes a version's name away.
#[utoipa::path(
    delete,
    path = "/v1/classifiers/{name}/aliases/{alias}",
    operation_id = "delete_classifier_alias",
    tag = "Classifiers",
    summary = "Take a version's name away",
    params(
        ("name" = String, Path, description = "The classifier's name"),
        ("alias" = String, Path, description = "The alias"),
    ),
    responses((status = 200, description = "The classifier.", body = ClassifierObject), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn delete_alias(
    visible: Visible,
    Path((name, alias)): Path<(String, String)>,
) -> Result<Json<ClassifierObject>, ApiError> {
    alias_to(&visible, &name, &alias, None).await
}

async fn alias_to(
    visible: &Visible,
    name: &str,
    alias: &str,
    version: Option<u32>,
) -> Result<Json<ClassifierObject>, ApiError> {
    if alias == "production" {
        return Err(ApiError::invalid("alias", "`production` is what `promote` moves"));
    }
    let id = visible.classifier(name)?;
    let reason = visible.reason(None);
    let moved = visible.store.set_alias(&id, alias, version, &reason, clock::now_ms()).await?;
    Ok(Json(object(visible, &id, moved)))
}
