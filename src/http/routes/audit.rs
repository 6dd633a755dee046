//! The audit: what was done by whom, for administrators.

use axum::Json;
use axum::http::Uri;
use headstart_store::PageRequest;

use crate::http::error::ApiError;
use crate::http::listing::{List, Query};
use crate::http::objects::act::{ActObject, PREFIX, id};
use crate::http::openapi::RowErrors;
use crate::http::visible::Visible;

/// Acts of a page.
const LIMITS: (u32, u32) = (20, 100);

/// Lists acts.
#[utoipa::path(
    get,
    path = "/v1/audit",
    operation_id = "list_acts",
    tag = "Operations",
    summary = "List what was done by whom",
    description = "Keys made and revoked, changes of classifiers and what answers, files and jobs deleted, purges, backbones loaded \
                   and unloaded by request. For keys with the scope `admin`.",
    params(
        ("after" = Option<String>, Query, description = "Id of the last act of the page before"),
        ("limit" = Option<u32>, Query, description = "Most acts, 1 to 100; 20 unless given"),
        ("order" = Option<String>, Query, description = "`desc`, the newest first, unless `asc` is given"),
        ("who" = Option<String>, Query, description = "Only acts of the key of this name"),
    ),
    responses((status = 200, description = "A page of acts.", body = List<ActObject>), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn list(visible: Visible, uri: Uri) -> Result<Json<List<ActObject>>, ApiError> {
    let query = Query::of(&uri);
    let after = query.get("after").map(|text| {
        let number = text.strip_prefix(PREFIX).and_then(|digits| digits.parse::<u64>().ok());
        number
            .ok_or_else(|| ApiError::invalid("after", format!("`after`: `{text}` is not an id `{PREFIX}…`")))
    });
    let page = PageRequest { after: after.transpose()?, limit: query.limit(LIMITS)?, order: query.order()? };
    let found = visible.store.acts(query.get("who"), &page).await?;
    Ok(Json(List::of(found, id, ActObject::new)))
}
