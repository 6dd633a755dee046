//! An upload on its way to a file's row: counted, stored, inspected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Bytes;
use axum::extract::Request;
use axum::extract::multipart::MultipartError;
use axum::http::HeaderMap;
use axum::response::Response;
use headstart_store::{BlobInfo, StoreError};
use headstart_types::ids::FileId;
use serde_json::json;

use crate::clock;
use crate::http::error::ApiError;
use crate::http::extract::uncompressed;
use crate::http::idempotent::{Sent, once};
use crate::http::objects::file::FileObject;
use crate::http::parts::{Field, Parts, problem};
use crate::http::visible::Visible;
use crate::intake::{self, Hold, PURPOSE, Upload};

/// Longest field beside the file, in bytes.
const FIELD_BYTES: usize = 1024;
/// Longest name kept of a file, in bytes.
const NAME_BYTES: usize = 255;
/// For how long a file may be kept, in seconds.
const EXPIRY: std::ops::RangeInclusive<i64> = 3600..=2_592_000;

/// What the parts of the form said.
#[derive(Default)]
struct Form {
    blob: Option<(BlobInfo, String)>,
    /// Keeps the blob until it has a row or goes.
    hold: Option<Hold>,
    /// Whether this upload wrote a row that names the blob.
    has_row: Arc<AtomicBool>,
    purpose: bool,
    anchor: bool,
    seconds: Option<i64>,
    validate_only: bool,
}

/// Takes an upload in.
pub(crate) async fn receive(visible: &Visible, request: Request) -> Result<Response, ApiError> {
    let headers = request.headers().clone();
    let mut form = Form::default();
    let answer = match read(visible, request, &mut form).await {
        Ok(()) => answer(visible, &headers, &form).await,
        Err(error) => Err(error),
    };
    if let Some(hold) = form.hold.filter(|_| !form.has_row.load(Ordering::Relaxed)) {
        hold.discard(&visible.store).await;
    }
    answer
}

/// Makes a file of what was stored, once for all requests of one `Idempotency-Key`.
async fn answer(visible: &Visible, headers: &HeaderMap, form: &Form) -> Result<Response, ApiError> {
    let missing = |name: &str| ApiError::invalid(name, format!("`{name}` is missing"));
    if !form.purpose {
        return Err(missing("purpose"));
    }
    if form.anchor && form.seconds.is_none() {
        return Err(missing("expires_after[seconds]"));
    }
    let (blob, filename) = form.blob.clone().ok_or_else(|| missing("file"))?;
    let held = form.hold.as_ref().ok_or_else(|| missing("file"))?;
    // What is only looked at is no file that could be made twice: its answer, which may be long, is not kept.
    let without_key = HeaderMap::new();
    let headers = if form.validate_only { &without_key } else { headers };
    // The digest stands for the bytes, which nobody holds whole.
    let said: Bytes = json!([blob.sha256, filename, form.seconds, form.validate_only]).to_string().into();
    let sent = Sent { headers, route: "POST /v1/files", place: "", body: &said };
    let id = FileId::new(clock::now_ms(), chance()?);
    // The work's own: whoever sent the form may leave before it is done.
    let hold = held.again(&blob);
    let (seconds, validate_only) = (form.seconds, form.validate_only);
    let has_row = Arc::clone(&form.has_row);
    once(visible, sent, id.into(), move |visible, id| async move {
        let id: FileId = id.parse().map_err(|_| ApiError::internal())?;
        let now = clock::now_ms();
        let expires_at = seconds.or(retention(&visible)).map(|seconds| now.saturating_add(seconds * 1000));
        let key = visible.identity.key.to_owned();
        let upload = Upload { id, key, filename, blob, created_at: now, expires_at };
        let kept = keep(&visible, upload, validate_only).await;
        if kept.is_ok() && !validate_only {
            has_row.store(true, Ordering::Relaxed);
        } else {
            hold.discard(&visible.store).await;
        }
        kept
    })
    .await
}

/// Looks at an upload and, unless it is to be looked at only, writes its row.
async fn keep(visible: &Visible, upload: Upload, validate_only: bool) -> Result<FileObject, ApiError> {
    let (row, _) = intake::file_row(&visible.app, &visible.store, upload).await?;
    if validate_only {
        return FileObject::looked_at(row);
    }
    match visible.store.create_file(&row, visible.app.config.key_file_bytes).await {
        Ok(()) => {}
        // An earlier try made the row, and was cut off before it could answer.
        Err(StoreError::Conflict(message)) => {
            let known = visible.store.file(visible.scope(), &row.id).await;
            return FileObject::new(known.map_err(|_| ApiError::conflict(message))?);
        }
        Err(error) => return Err(error.into()),
    }
    if visible.store.blobs().info(&row.sha256).await?.is_none() {
        // The same bytes lost their last row while these were looked at, or looking took longer than a sweep waits.
        let reason = visible.reason(Some("its bytes were erased while it was looked at".to_owned()));
        visible.store.delete_file(visible.scope(), &row.id, &reason, clock::now_ms()).await?;
        return Err(ApiError::conflict("the same bytes were erased meanwhile: send the file again"));
    }
    FileObject::new(row)
}

/// For how long a file is kept that does not say, in seconds; `None` for ever.
fn retention(visible: &Visible) -> Option<i64> {
    let days = i64::from(visible.app.config.file_retention_days);
    (days > 0).then_some(days * 24 * 60 * 60)
}

/// Random bytes of an id.
pub(crate) fn chance<const N: usize>() -> Result<[u8; N], ApiError> {
    clock::chance().map_err(|error| {
        tracing::error!(%error, "the system gives no random bytes");
        ApiError::internal()
    })
}

/// Reads the form part by part; what was stored stands in it also when a later part is wrong.
async fn read(visible: &Visible, request: Request, form: &mut Form) -> Result<(), ApiError> {
    uncompressed(request.headers())?;
    let mut parts = Parts::of(request).await.map_err(|rejection| {
        ApiError::unsupported(format!("send multipart/form-data: {}", rejection.body_text()))
    })?;
    while let Some(field) = in_time(visible, parts.next_field()).await? {
        let name = field.name().unwrap_or_default().to_owned();
        match name.as_str() {
            "file" if form.blob.is_some() => {
                return Err(ApiError::invalid("file", "`file` is given twice"));
            }
            "file" => {
                let (blob, hold, name) = store(visible, field).await?;
                form.hold = Some(hold);
                form.blob = Some((blob, name));
            }
            _ => {
                let text = text(visible, &name, field).await?;
                form.set(&name, text.trim())?;
            }
        }
    }
    Ok(())
}

impl Form {
    fn set(&mut self, name: &str, text: &str) -> Result<(), ApiError> {
        let refuse = |problem: &str| Err(ApiError::invalid(name, format!("`{name}` {problem}")));
        match name {
            "purpose" if text == PURPOSE => self.purpose = true,
            "purpose" => return refuse(&format!("must be `{PURPOSE}`")),
            "expires_after[anchor]" if text == "created_at" => self.anchor = true,
            "expires_after[anchor]" => return refuse("must be `created_at`"),
            "expires_after[seconds]" => match text.parse() {
                Ok(seconds) if EXPIRY.contains(&seconds) => self.seconds = Some(seconds),
                Ok(_) | Err(_) => return refuse("must be a whole number from 3600 to 2592000"),
            },
            "validate_only" => match text {
                "true" => self.validate_only = true,
                "false" | "" => self.validate_only = false,
                _ => return refuse("must be `true` or `false`"),
            },
            _ => {}
        }
        Ok(())
    }
}

/// The next part or piece; a client that sends nothing for too long is given up.
async fn in_time<T>(
    visible: &Visible,
    next: impl Future<Output = Result<Option<T>, MultipartError>>,
) -> Result<Option<T>, ApiError> {
    let next = tokio::time::timeout(visible.app.request_timeout(), next).await;
    next.map_err(|_| ApiError::deadline())?.map_err(|error| {
        ApiError::invalid_json(format!("the multipart body could not be read: {}", problem(&error)))
    })
}

async fn text(visible: &Visible, name: &str, mut field: Field<'_>) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(piece) = in_time(visible, field.chunk()).await? {
        if bytes.len() + piece.len() > FIELD_BYTES {
            return Err(ApiError::invalid(name, format!("`{name}` is longer than {FIELD_BYTES} bytes")));
        }
        bytes.extend_from_slice(&piece);
    }
    String::from_utf8(bytes).map_err(|_| ApiError::invalid(name, format!("`{name}` is not UTF-8")))
}

/// Writes a part to a blob, piece by piece as it comes.
async fn store(visible: &Visible, mut field: Field<'_>) -> Result<(BlobInfo, Hold, String), ApiError> {
    let config = &visible.app.config;
    let filename = filename(field.file_name());
    let used = visible.store.bytes_used(visible.identity.key).await?;
    let left = config.key_file_bytes.saturating_sub(used);
    let mut counted = visible.app.uploads.count(visible.identity.key);
    let mut writer = visible.store.blobs().begin().await?;
    let mut bytes = 0_u64;
    while let Some(piece) = in_time(visible, field.chunk()).await? {
        bytes += piece.len() as u64;
        if bytes > config.max_file_bytes {
            let limit = usize::try_from(config.max_file_bytes).unwrap_or(usize::MAX);
            return Err(ApiError::body_too_large(limit).about("file"));
        }
        if let Err(others) = counted.add(piece.len() as u64, left) {
            let (used, limit) = (used.saturating_add(others), config.key_file_bytes);
            return Err(StoreError::Quota { used, limit, needed: bytes }.into());
        }
        writer.write(&piece).await?;
    }
    let (blob, hold) = visible.app.uploads.finish(writer).await?;
    Ok((blob, hold.counting(counted), filename))
}

/// The last part of the name that came with a file, fit to be shown.
fn filename(given: Option<&str>) -> String {
    let last = given.unwrap_or_default().rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name: String = last.chars().filter(|c| !c.is_control()).collect();
    name.truncate(name.floor_char_boundary(NAME_BYTES));
    if name.is_empty() { "upload".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::filename;

    #[test]
    fn a_name_is_its_last_part_without_control_characters() {
        assert_eq!(filename(Some("C:\\data\\a\u{7}b.csv")), "ab.csv");
        assert_eq!(filename(Some("../../")), "upload");
        assert_eq!(filename(None), "upload");
        assert_eq!(filename(Some(&"é".repeat(200))).len(), 254);
    }
}
