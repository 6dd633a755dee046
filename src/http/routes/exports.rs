//! A version as one ONNX file, sent as it is put together.

use std::fs::File;
use std::io::SeekFrom;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, stream};
use headstart_onnx::Part;
use headstart_tasks::{Served, TaskError};
use headstart_types::classifier::Origin;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::export::{Exported, export};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract;
use crate::http::openapi::RowErrors;
use crate::http::path::Path;
use crate::http::routes::classifiers::number;
use crate::http::routes::tasks::within;
use crate::http::visible::Visible;
use crate::variants;

/// Bytes of the backbone's file handed on at a time.
const CHUNK: u64 = 256 * 1024;

/// A version's file.
#[utoipa::path(
    get,
    path = "/v1/classifiers/{name}/versions/{version}/onnx",
    operation_id = "classifier_version_onnx",
    tag = "Classifiers",
    summary = "A version as one ONNX file",
    description = "Backbone and fitted head in one graph, for ONNX Runtime alone: token ids or a preprocessed picture in, \
                   `probabilities` [items, classes], `logits` and `embedding` out. The file's metadata name classes, \
                   preprocessing and where it comes from, and hold the tokeniser. The same version gives the same bytes. \
                   409 where the backbone it was fitted on is not at hand, or it was made from labels and examples.",
    params(
        ("name" = String, Path, description = "The classifier's name"),
        ("version" = u32, Path, description = "The version's number"),
    ),
    responses(
        (
            status = 200, description = "The file.", body = String, content_type = "application/octet-stream",
            headers(("etag" = String, description = "Changes with the file; `If-None-Match` is heeded.")),
        ),
        (status = 304, description = "The file is the one that `If-None-Match` names."),
        (status = 504, description = "The backbone was not loaded, or the file not put together, within the request's time.", body = ErrorBody),
        RowErrors,
    ),
    security((), ("key" = []))
)]
pub(crate) async fn onnx(
    visible: Visible,
    Path((name, version)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let caller = extract::caller(&visible.app, &request)?;
    let number = number(&name, &version)?;
    let made = within(caller, async {
        let row = visible.store.version(&visible.classifier(&name)?, number).await?;
        let folder = match variants::base(&row.backbone) {
            // Its folder may have been removed, and is made again.
            Some(_) if row.origin == Origin::Job => {
                let variant = (row.backbone.as_str(), &row.artifact);
                Some(variants::in_folders(&visible.store, &visible.app.config, variant).await?)
            }
            Some(_) => None,
            None => {
                let served = if_there(visible.app.tasks.catalog.any(&row.backbone).await)?;
                served.map(|served| served.folder().clone())
            }
        };
        Ok(export(&visible.store, &row, folder).await?)
    });
    let Exported { composed, backbone, file_name } = made.await?;
    let etag = format!("\"{}\"", composed.fingerprint);
    let known =
        request.headers().get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let known = known
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim().trim_start_matches("W/") == etag || tag.trim() == "*");
    let etag = HeaderValue::try_from(etag).map_err(|_| ApiError::internal())?;
    if known {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{file_name}\""));
    let length = HeaderValue::from(composed.assembly.bytes());
    let mut response = Body::from_stream(bytes(composed.assembly.into_parts(), backbone)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, length);
    headers.insert(header::CONTENT_DISPOSITION, disposition.map_err(|_| ApiError::internal())?);
    headers.insert(header::ETAG, etag);
    Ok(response)
}

/// A backbone that is there, or will be when it is asked for again: for want of memory it is not gone.
pub(super) fn if_there(found: Result<Arc<Served>, TaskError>) -> Result<Option<Arc<Served>>, ApiError> {
    match found {
        Ok(served) => Ok(Some(served)),
        Err(
            TaskError::UnknownModel(_)
            | TaskError::Unloaded(_)
            | TaskError::BrokenModel { .. }
            | TaskError::TensorsOnly(_),
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The parts one after the other; of the backbone's file a chunk at a time is in memory.
fn bytes(parts: Vec<Part>, backbone: File) -> impl Stream<Item = std::io::Result<Vec<u8>>> {
    let parts = parts.into_iter();
    let state = (parts, tokio::fs::File::from_std(backbone), 0u64);
    stream::try_unfold(state, |(mut parts, mut file, mut left)| async move {
        while left == 0 {
            match parts.next() {
                None => return Ok(None),
                Some(Part::New(bytes)) => return Ok(Some((bytes, (parts, file, 0)))),
                Some(Part::Old(range)) => {
                    file.seek(SeekFrom::Start(range.start)).await?;
                    left = range.end - range.start;
                }
            }
        }
        let mut chunk = Vec::with_capacity(left.min(CHUNK) as usize);
        let read = (&mut file).take(left.min(CHUNK)).read_to_end(&mut chunk).await? as u64;
        if read == 0 {
            // The connection ends before the promised length: no client takes it for the whole file.
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some((chunk, (parts, file, left - read))))
    })
}
