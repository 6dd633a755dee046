//! Files: uploaded, looked at, listed, handed back, deleted.

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, stream};
use headstart_store::{BlobReader, FileFilter, PageRequest};
use headstart_types::file::FileRow;
use headstart_types::ids::FileId;
use tokio::io::AsyncReadExt as _;
use utoipa::ToSchema;

use crate::clock;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::listing::{List, Query};
use crate::http::objects::file::{FileDeleted, FileObject};
use crate::http::openapi::RowErrors;
use crate::http::path::Path;
use crate::http::routes::upload;
use crate::http::visible::Visible;
use crate::sweep;

/// Files of a page: OpenAI's default, and ours where it allows more.
const LIMITS: (u32, u32) = (10_000, 10_000);
/// Most files that one page really holds; `has_more` tells of the others.
const PAGE: u32 = 1_000;
/// Bytes handed on at a time.
const CHUNK: usize = 64 * 1024;

/// An upload.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the parts are read one by one; this describes them")]
pub(crate) struct FileForm {
    /// The examples: JSON Lines, CSV, TSV, Parquet, or a zip or tar of class folders.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// Always `fine-tune`.
    #[schema(example = "fine-tune")]
    purpose: String,
    /// Always `created_at`.
    #[schema(rename = "expires_after[anchor]")]
    expires_after_anchor: Option<String>,
    /// When the file is deleted, in seconds from its upload; later, while a job that is not over uses it. Unless given, the
    /// server's own retention holds, which by default keeps it.
    #[schema(rename = "expires_after[seconds]", minimum = 3600, maximum = 2_592_000)]
    expires_after_seconds: Option<u32>,
    /// Only look at it: nothing is kept. Default false.
    validate_only: Option<bool>,
}

/// Uploads a file and looks at every row of it.
#[utoipa::path(
    post,
    path = "/v1/files",
    operation_id = "upload_file",
    tag = "Files",
    summary = "Upload examples",
    description = "Every row is looked at before the answer. A file that cannot be trained on has the status `error` \
                   and all its problems by line or path. Sent again with the same `Idempotency-Key`, bytes and fields, the answer \
                   is the first one's.",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes sending again harmless")),
    request_body(
        content = FileForm,
        content_type = "multipart/form-data",
        example = json!({
            "purpose": "fine-tune",
            "file": "{\"text\": \"I want my money back.\", \"label\": \"refund\"}\n{\"text\": \"Where is my parcel?\", \"label\": \"delivery\"}\n",
        }),
    ),
    responses(
        (status = 200, description = "The file, good or bad.", body = FileObject),
        (status = 413, description = "The file is larger than allowed, or the key's files are.", body = ErrorBody),
        (status = 415, description = "The body is not a form.", body = ErrorBody),
        (status = 504, description = "No byte came for as long as the server lets a request take.", body = ErrorBody),
        RowErrors,
        (status = 400, description = "A part is missing, wrong or given twice, and `param` names it; or the form cannot be read.", body = ErrorBody),
    ),
    security((), ("key" = []))
)]
pub(crate) async fn upload(visible: Visible, request: Request) -> Result<Response, ApiError> {
    upload::receive(&visible, request).await
}

/// Lists files.
#[utoipa::path(
    get,
    path = "/v1/files",
    operation_id = "list_files",
    tag = "Files",
    summary = "List the files",
    description = "Without classes, problems and warnings, which one file's answer has.",
    params(
        ("after" = Option<String>, Query, description = "Id of the last file of the page before"),
        ("limit" = Option<u32>, Query, description = "Most files, 1 to 10000; a page holds at most 1000"),
        ("order" = Option<String>, Query, description = "`asc` or `desc`, by time; `desc` unless given"),
        ("purpose" = Option<String>, Query, description = "Only files for this purpose"),
    ),
    responses((status = 200, description = "A page of files.", body = List<FileObject>), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn list(visible: Visible, uri: Uri) -> Result<Json<List<FileObject>>, ApiError> {
    let query = Query::of(&uri);
    let page = query.page::<FileId>(LIMITS)?;
    let page = PageRequest { limit: page.limit.min(PAGE), order: query.order()?, ..page };
    let filter = FileFilter { purpose: query.get("purpose").map(str::to_owned) };
    let found = visible.store.files(visible.scope(), &filter, &page).await?;
    let has_more = found.has_more;
    let data = found.data.into_iter().map(|row| Ok((row.id.to_string(), FileObject::brief(row)?)));
    let data = data.collect::<Result<Vec<_>, ApiError>>()?;
    let page = headstart_store::Page { data, has_more };
    Ok(Json(List::of(page, |(id, _)| id.clone(), |(_, object)| object)))
}

/// The row of a file that the caller may see.
pub(crate) async fn row(visible: &Visible, id: &str) -> Result<FileRow, ApiError> {
    let missing = |_| ApiError::not_found(format!("file `{id}` does not exist"));
    let parsed: FileId = id.parse().map_err(missing)?;
    Ok(visible.store.file(visible.scope(), &parsed).await?)
}

/// One file.
#[utoipa::path(
    get,
    path = "/v1/files/{file}",
    operation_id = "retrieve_file",
    tag = "Files",
    summary = "One file",
    params(("file" = String, Path, description = "The file's id")),
    responses((status = 200, description = "The file and what was found in it.", body = FileObject), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn retrieve(visible: Visible, Path(id): Path<String>) -> Result<Json<FileObject>, ApiError> {
    Ok(Json(FileObject::new(row(&visible, &id).await?)?))
}

/// A file's bytes.
#[utoipa::path(
    get,
    path = "/v1/files/{file}/content",
    operation_id = "file_content",
    tag = "Files",
    summary = "A file's bytes",
    params(("file" = String, Path, description = "The file's id")),
    responses(
        (status = 200, description = "The bytes as uploaded, without the rows that were purged since.", body = String, content_type = "application/octet-stream"),
        RowErrors,
    ),
    security((), ("key" = []))
)]
pub(crate) async fn content(visible: Visible, Path(id): Path<String>) -> Result<Response, ApiError> {
    let row = row(&visible, &id).await?;
    let reader = visible.store.blobs().open(&row.sha256).await?;
    let mut response = Body::from_stream(chunks(reader)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(row.bytes));
    // Whatever it holds, a browser must not show it.
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    Ok(response)
}

fn chunks(reader: BlobReader) -> impl Stream<Item = std::io::Result<Vec<u8>>> {
    stream::try_unfold(reader, |mut reader| async move {
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = (&mut reader).take(CHUNK as u64).read_to_end(&mut chunk).await?;
        Ok((read > 0).then_some((chunk, reader)))
    })
}

/// Deletes a file.
#[utoipa::path(
    delete,
    path = "/v1/files/{file}",
    operation_id = "delete_file",
    tag = "Files",
    summary = "Delete a file",
    description = "Refused while a job that is not over uses it. Versions that were trained on it, and checkpoints of jobs that were, stay and \
                   are named. Its bytes go at once where nothing else names them.",
    params(("file" = String, Path, description = "The file's id")),
    responses((status = 200, description = "It is gone.", body = FileDeleted), RowErrors),
    security((), ("key" = []))
)]
pub(crate) async fn delete(visible: Visible, Path(id): Path<String>) -> Result<Json<FileDeleted>, ApiError> {
    let row = row(&visible, &id).await?;
    let reason = visible.reason(None);
    let deleted = visible.store.delete_file(visible.scope(), &row.id, &reason, clock::now_ms()).await?;
    sweep::erase(&visible.store, &deleted.file).await;
    Ok(Json(FileDeleted::new(deleted)))
}
