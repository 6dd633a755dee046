//! Purges: a person's rows are taken out of files and classifiers, and what learned from them is named.

use std::collections::HashSet;

use axum::Json;
use axum::extract::Request;
use axum::http::Uri;
use axum::response::Response;
use headstart_datasets::Place;
use headstart_types::classifier::ClassifierId;
use headstart_types::file::FileRow;
use headstart_types::ids::{FileId, PurgeId};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::clock;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::idempotent::{Sent, once};
use crate::http::listing::{List, Query};
use crate::http::objects::file::FileObject;
use crate::http::objects::purge::PurgeObject;
use crate::http::openapi::RowErrors;
use crate::http::path::Path;
use crate::http::routes::tasks::within;
use crate::http::routes::upload;
use crate::http::visible::Visible;
use crate::http::{body_memory, extract};
use crate::purge::{Asked, Named};

/// Purges of a page.
const LIMITS: (u32, u32) = (20, 100);

/// Which rows are to go: `rows` of a `file`, those of a `group`, or those with a `text`.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(title = "NewPurge")]
pub(crate) struct PurgeRequest {
    /// The file that holds the rows; with `group` or `text`, the only one to look into. Files of the same bytes are taken
    /// along.
    file: Option<String>,
    /// Lines, from 1, of a text or a table, and paths in an archive.
    #[schema(example = json!([3, "train/ants/7.jpg"]))]
    rows: Option<Vec<RowName>>,
    /// The group whose rows are meant: in a table the cell of the column `group`, in an archive the folders above the class.
    #[schema(example = "person-17")]
    group: Option<String>,
    /// The text of the rows that are meant, letter for letter.
    text: Option<String>,
    /// Only tell what it would do. Default false.
    dry_run: Option<bool>,
}

/// A row's place.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a line's number, or a path in an archive")]
pub(crate) enum RowName {
    /// A line, from 1, of a text or a table.
    Line(u64),
    /// A path in an archive.
    #[schema(value_type = String)]
    Path(Box<str>),
}

impl PurgeRequest {
    /// What is named, if it is one thing.
    fn named(self) -> Result<Named, ApiError> {
        let file: Option<FileId> = match self.file {
            Some(id) => {
                let missing = |_| ApiError::not_found(format!("file `{id}` does not exist"));
                Some(id.parse().map_err(missing)?)
            }
            None => None,
        };
        match (self.rows, self.group, self.text) {
            (Some(rows), None, None) => {
                let file =
                    file.ok_or_else(|| ApiError::invalid("file", "`file` is missing: `rows` are of one"))?;
                if rows.is_empty() {
                    return Err(ApiError::invalid("rows", "`rows` is empty"));
                }
                let places: HashSet<Place> = rows
                    .into_iter()
                    .map(|row| match row {
                        RowName::Line(line) => Place::Line(line),
                        RowName::Path(path) => Place::Path(path),
                    })
                    .collect();
                Ok(Named::Rows { file, places })
            }
            (None, Some(group), None) if group.trim().is_empty() => {
                Err(ApiError::invalid("group", "`group` is empty"))
            }
            (None, Some(group), None) => Ok(Named::Group { group, file }),
            (None, None, Some(text)) if text.is_empty() => Err(ApiError::invalid("text", "`text` is empty")),
            (None, None, Some(text)) => Ok(Named::Text { text, file }),
            (None, None, None) => {
                Err(ApiError::invalid("rows", "one of `rows`, `group` and `text` must be given"))
            }
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                Err(ApiError::invalid("rows", "only one of `rows`, `group` and `text` may be given"))
            }
        }
    }
}

/// Purges rows.
#[utoipa::path(
    post,
    path = "/v1/purges",
    operation_id = "create_purge",
    tag = "Purges",
    summary = "Take a person's rows out of everything that is kept",
    description = "Files are written again without the rows and classifiers made of single examples forget those of the same content, in every \
                   version; the old bytes are erased. Jobs on such files lose what they kept of the rows. Versions that were trained on the rows \
                   answer as before and are named. In JSON Lines, CSV and TSV the other rows keep their lines. Refused while a job that runs uses \
                   such a file. What is kept of a purge never repeats what was named.",
    request_body(content = PurgeRequest, example = json!({"group": "person-17", "dry_run": true})),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes sending again harmless")),
    responses(
        (status = 200, description = "What it did, or would do.", body = PurgeObject),
        (status = 413, description = "The body is larger than allowed.", body = ErrorBody),
        (status = 415, description = "The body is not JSON.", body = ErrorBody),
        (status = 504, description = "The body did not come within the request's time; nothing was begun.", body = ErrorBody),
        RowErrors,
    ),
    security((), ("key" = []))
)]
pub(crate) async fn create(visible: Visible, request: Request) -> Result<Response, ApiError> {
    let caller = extract::caller(&visible.app, &request)?;
    let headers = request.headers().clone();
    let (memory, body) = within(caller, async {
        let (request, memory) = body_memory::hold(&visible.app, request).await?;
        Ok((memory, extract::json_bytes(request, visible.app.config.max_body_bytes).await?))
    })
    .await?;
    let sent = Sent { headers: &headers, route: "POST /v1/purges", place: "", body: &body };
    let id = PurgeId::new(clock::now_ms(), upload::chance()?);
    let asked = body.clone();
    once(&visible, sent, id.into(), |visible, id| async move {
        let _memory = memory;
        let id: PurgeId = id.parse().map_err(|_| ApiError::internal())?;
        if let Ok(done) = visible.store.purge_row(visible.scope(), &id).await {
            // An earlier try was written, and was cut off before it could answer.
            visible.store.finish_purge(&id, clock::now_ms()).await?;
            return Ok(PurgeObject::new(visible.store.purge_row(visible.scope(), &done.id).await?));
        }
        let asked: PurgeRequest = extract::parse_json(&asked)?;
        let dry_run = asked.dry_run.unwrap_or(false);
        let named = asked.named()?;
        let name_of = |id: &ClassifierId| visible.name_of(id);
        let answer_of = |row: &FileRow| serde_json::to_string(&FileObject::new(row.clone()).ok()?).ok();
        let asked = Asked {
            app: &visible.app,
            store: &visible.store,
            scope: visible.scope(),
            who: visible.identity.key,
            named: &named,
            name_of: &name_of,
            answer_of: &answer_of,
        };
        if dry_run {
            return Ok(PurgeObject::told(visible.identity.key, asked.tell().await?));
        }
        Ok(PurgeObject::new(asked.carry_out(&id).await?))
    })
    .await
}

/// Lists purges.
#[utoipa::path(
    get,
    path = "/v1/purges",
    operation_id = "list_purges",
    tag = "Purges",
    summary = "List the purges",
    params(
        ("after" = Option<String>, Query, description = "Id of the last purge of the page before"),
        ("limit" = Option<u32>, Query, description = "Most purges, 1 to 100; 20 unless given"),
    ),
    responses((status = 200, description = "A page of purges, newest first.", body = List<PurgeObject>), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn list(visible: Visible, uri: Uri) -> Result<Json<List<PurgeObject>>, ApiError> {
    let page = Query::of(&uri).page(LIMITS)?;
    let found = visible.store.purges(visible.scope(), &page).await?;
    Ok(Json(List::of(found, |row| row.id.to_string(), PurgeObject::new)))
}

/// One purge.
#[utoipa::path(
    get,
    path = "/v1/purges/{purge}",
    operation_id = "retrieve_purge",
    tag = "Purges",
    summary = "One purge",
    params(("purge" = String, Path, description = "The purge's id")),
    responses((status = 200, description = "The purge.", body = PurgeObject), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn retrieve(
    visible: Visible,
    Path(id): Path<String>,
) -> Result<Json<PurgeObject>, ApiError> {
    let missing = |_| ApiError::not_found(format!("purge `{id}` does not exist"));
    let parsed: PurgeId = id.parse().map_err(missing)?;
    Ok(Json(PurgeObject::new(visible.store.purge_row(visible.scope(), &parsed).await?)))
}
