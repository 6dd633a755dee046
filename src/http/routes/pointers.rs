//! Which version of a classifier answers: promoted, rolled back, split, named.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::Response;
use headstart_store::{Expected, PageRequest, Store, StoreError};
use headstart_types::classifier::{Classifier, ClassifierId, Reason};
use headstart_types::gate::{Comparison, GateKind};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::clock;
use crate::gate;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract;
use crate::http::idempotent::{HEADER, Sent, once};
use crate::http::objects::classifier::ClassifierObject;
use crate::http::openapi::RowErrors;
use crate::http::path::Path;
use crate::http::routes::classifiers::number;
use crate::http::routes::exports::if_there;
use crate::http::routes::jobs::BODY_BYTES;
use crate::http::routes::tasks::within;
use crate::http::visible::Visible;

/// How a version is promoted. Everything may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(expecting = "an object")]
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
#[serde(expecting = "an object")]
pub(crate) struct Rollback {
    /// Why, for the audit.
    reason: Option<String>,
}

/// Which version an alias means.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(expecting = "an object")]
pub(crate) struct Aliased {
    /// The version's number.
    #[schema(value_type = u32, required = true, nullable = false)]
    version: Option<Value>,
}

/// Which version scores along.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(expecting = "an object")]
pub(crate) struct Shadowing {
    /// The version's number; null for none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, required = true)]
    version: Option<Value>,
}

/// A field as it is, null with it: a field that is forgotten or misspelt must not read as one.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The number of a version that a body names.
fn version_of(asked: &Value) -> Result<u32, ApiError> {
    let number = asked.as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| ApiError::invalid("version", "`version` must be a version's number"))
}

fn object(visible: &Visible, id: &ClassifierId, classifier: Classifier) -> ClassifierObject {
    let counts = visible.shadow_counts(&classifier);
    ClassifierObject::brief(visible.name_of(id), classifier, counts)
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
        ("Idempotency-Key" = Option<String>, Header, description = "Makes sending again harmless"),
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
    let asked = body.clone();
    once(&visible, sent, place.clone(), move |visible, _| async move {
        let asked: Promotion =
            if asked.is_empty() { Promotion::default() } else { extract::parse_json(&asked)? };
        let alpha = level(asked.gate.as_ref())?;
        let id = visible.classifier(&name)?;
        let number = number(&name, &version)?;
        let reason = visible.reason(asked.reason);
        let found = match alpha {
            Some(alpha) => gate::compare(&visible.store, &id, number, alpha).await?,
            None => None,
        };
        let Some(found) = found else {
            let now = clock::now_ms();
            // A gate that found no other version in production holds only while there is none.
            let compared = asked.if_production.or(alpha.map(|_| number));
            let moved = visible.store.promote(&id, number, compared, &reason, now).await?;
            return Ok(object(&visible, &id, moved));
        };
        visible.app.metrics.count_gate(found.verdict.as_str());
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
        Ok(object(&visible, &id, moved).with_gate(Some(found)))
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
    params(
        ("name" = String, Path, description = "The classifier's name"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes sending again harmless"),
    ),
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
    let (asked, of) = (body.clone(), name.clone());
    let now = Standing::of(&visible, &headers, &name).await?.to_string();
    once(&visible, sent, now.clone(), move |visible, from| async move {
        let asked: Rollback =
            if asked.is_empty() { Rollback::default() } else { extract::parse_json(&asked)? };
        let (id, reason) = (visible.classifier(&of)?, visible.reason(asked.reason));
        // Nobody has tried before: it is rolled back from wherever it stands.
        let from = if from == now { Standing(None) } else { Standing::parse(&from) };
        let moved = match visible.store.rollback(&id, from.expected(), &reason, clock::now_ms()).await {
            // An earlier try did it, and was cut off before it could answer.
            Err(StoreError::Conflict(_)) if from.was_left(&visible, &id, &reason).await? => {
                visible.store.classifier(&id).await?
            }
            moved => moved?,
        };
        Ok(object(&visible, &id, moved))
    })
    .await
}

/// Where a classifier stood when a rollback was first asked for under an `Idempotency-Key`: from there it is rolled back
/// once.
struct Standing(Option<(u64, i64)>);

impl Standing {
    /// Rollbacks looked at.
    const LATEST: u32 = 100;

    async fn of(visible: &Visible, headers: &HeaderMap, name: &str) -> Result<Self, StoreError> {
        match visible.classifier(name) {
            Ok(id) if headers.contains_key(HEADER) => Self::now(&visible.store, &id).await,
            Ok(_) | Err(_) => Ok(Self(None)),
        }
    }

    /// # Errors
    /// The store's: filed without its standing, the rollback would be done once more when it is asked for again.
    async fn now(store: &Store, id: &ClassifierId) -> Result<Self, StoreError> {
        match store.classifier(id).await {
            Ok(known) => Ok(Self(Some((known.revision, clock::now_ms())))),
            Err(StoreError::NotFound { .. }) => Ok(Self(None)),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Self {
        let numbers = text.split_once(' ');
        Self(numbers.and_then(|(revision, at)| Some((revision.parse().ok()?, at.parse().ok()?))))
    }

    fn expected(&self) -> Expected {
        self.0.map_or(Expected::Any, |(revision, _)| Expected::Revision(revision))
    }

    /// Whether who asks has rolled it back since.
    async fn was_left(
        &self,
        visible: &Visible,
        id: &ClassifierId,
        reason: &Reason,
    ) -> Result<bool, ApiError> {
        let Some((_, since)) = self.0 else { return Ok(false) };
        let audits = visible.store.audits(id, &PageRequest::newest(Self::LATEST)).await?.data;
        Ok(audits.iter().any(|row| {
            (row.action.as_str(), &row.who) == ("rollback", &reason.who) && row.created_at >= since
        }))
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |(revision, at)| write!(formatter, "{revision} {at}"))
    }
}

/// Splits requests between versions.
#[utoipa::path(
    put,
    path = "/v1/classifiers/{name}/traffic",
    operation_id = "set_classifier_traffic",
    tag = "Classifiers",
    summary = "Split requests between versions",
    description = "Percents by version that sum to 100; an empty object gives all to production. Requests with the same \
                   `user` get the same version as long as the split stays; for each one without it, as all by \
                   `POST /v1/moderations` and `/hf`, a version is drawn. The split is for the bare name: \
                   `name@production` stays production. Its versions read what production reads, all texts or all pictures.",
    params(("name" = String, Path, description = "The classifier's name")),
    request_body(content = BTreeMap<String, u8>, example = json!({"1": 90, "2": 10})),
    responses(
        (status = 200, description = "The classifier.", body = ClassifierObject),
        (status = 504, description = "A backbone was not loaded within the request's time; nothing has changed.", body = ErrorBody),
        RowErrors,
    ),
    security((), ("key" = []))
)]
pub(crate) async fn traffic(
    visible: Visible,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<ClassifierObject>, ApiError> {
    let caller = extract::caller(&visible.app, &request)?;
    let (id, split) = within(caller, async {
        let asked: Map<String, Value> = extract::json(request, BODY_BYTES).await?;
        let split = split(&asked)?;
        let id = visible.classifier(&name)?;
        check_modalities(&visible, &id, &split).await?;
        Ok((id, split))
    })
    .await?;
    let shares: Vec<String> =
        split.iter().map(|(version, percent)| format!("version {version}: {percent} %")).collect();
    let words = if shares.is_empty() { "all to production".to_owned() } else { shares.join(", ") };
    let reason = visible.reason(Some(words));
    let moved = visible.store.set_traffic(&id, &split, &reason, clock::now_ms()).await?;
    Ok(Json(object(&visible, &id, moved)))
}

/// Percents by version.
fn split(asked: &Map<String, Value>) -> Result<BTreeMap<u32, u8>, ApiError> {
    let refuse = |problem: String| ApiError::invalid("traffic", problem);
    let mut split = BTreeMap::new();
    for (version, percent) in asked {
        let number: u32 =
            version.parse().map_err(|_| refuse(format!("`{version}` is no version's number")))?;
        let percent = percent.as_u64().filter(|percent| *percent <= 100);
        let percent = percent.and_then(|percent| u8::try_from(percent).ok());
        let percent = percent.ok_or_else(|| {
            refuse(format!("the share of version {version} must be a whole number from 1 to 100"))
        })?;
        split.insert(number, percent);
    }
    Ok(split)
}

/// Whether the versions of a split read what production reads: requests to the bare name are of one kind.
async fn check_modalities(
    visible: &Visible,
    id: &ClassifierId,
    split: &BTreeMap<u32, u8>,
) -> Result<(), ApiError> {
    let store = &visible.store;
    let mut reads = Vec::new();
    let production = if split.is_empty() { None } else { store.classifier(id).await?.production };
    for number in production.into_iter().chain(split.keys().copied()) {
        let version = store.version(id, number).await?;
        // What a backbone reads that is not loaded nobody can tell, and it answers nothing.
        let found = visible.app.tasks.catalog.of_version(&version.backbone).await;
        if let Some(served) = if_there(found)? {
            reads.push((number, served.modality()));
        }
    }
    let Some((first, modality)) = reads.first() else { return Ok(()) };
    match reads.iter().find(|(_, other)| other != modality) {
        None => Ok(()),
        Some((number, other)) => {
            let (one, other) = (modality.as_str(), other.as_str());
            let problem =
                format!("version {first} reads {one}, version {number} {other}: they cannot share requests");
            Err(ApiError::invalid("traffic", problem))
        }
    }
}

/// Lets a version score along.
#[utoipa::path(
    put,
    path = "/v1/classifiers/{name}/shadow",
    operation_id = "set_classifier_shadow",
    tag = "Classifiers",
    summary = "Let a version score along",
    description = "It scores the items of requests to the bare name on the same features, and where it says something \
                   else than the version that answers is counted, by each process from when it became the shadow or the process \
                   started; null ends it.",
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
    let version = asked.version.ok_or_else(|| ApiError::invalid("version", "`version` is missing"))?;
    let asked = if version.is_null() { None } else { Some(version_of(&version)?) };
    let id = visible.classifier(&name)?;
    if let (Some(shadow), Some(production)) = (asked, visible.store.classifier(&id).await?.production) {
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
    let words = asked.map_or_else(
        || "nothing scores along".to_owned(),
        |version| format!("version {version} scores along"),
    );
    let reason = visible.reason(Some(words));
    let moved = visible.store.set_shadow(&id, asked, &reason, clock::now_ms()).await?;
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
    let version = asked.version.ok_or_else(|| ApiError::invalid("version", "`version` is missing"))?;
    alias_to(&visible, &name, &alias, Some(version_of(&version)?)).await
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
    // What is there already can be taken away.
    if version.is_some() && matches!(alias, "." | "..") {
        return Err(ApiError::invalid(
            "alias",
            format!("`{alias}` is a step in a path, which clients leave out"),
        ));
    }
    let id = visible.classifier(name)?;
    let reason = visible.reason(Some(match version {
        Some(version) => format!("`{alias}` means version {version}"),
        None => format!("`{alias}` means nothing"),
    }));
    let moved = visible.store.set_alias(&id, alias, version, &reason, clock::now_ms()).await?;
    Ok(Json(object(visible, &id, moved)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_rollback_is_not_filed_while_the_store_cannot_say_where_its_classifier_stands() {
        let id = ClassifierId { key: "anna".into(), name: "support".into() };
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        for file in ["store.db", "store.db-wal"] {
            let file = std::fs::File::options().write(true).open(folder.path().join(file)).unwrap();
            file.set_len(0).unwrap();
        }
        assert!(Standing::now(&store, &id).await.is_err(), "its pages are gone");

        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        assert!(Standing::now(&store, &id).await.unwrap().0.is_none(), "nobody knows it");
    }
}
