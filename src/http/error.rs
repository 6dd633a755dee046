//! Every error a client can see, and the one place that gives it a status.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use headstart_engine::EngineError;
use headstart_media::MediaError;
use headstart_methods::MethodError;
use headstart_store::StoreError;
use headstart_tasks::TaskError;
use headstart_telemetry::Reason;
use headstart_types::gate::Comparison;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Scope;
use crate::export::CannotExport;
use crate::few_shot::FewShotError;
use crate::gate::GateError;
use crate::http::routes::inference::InferenceError;
use crate::intake::IntakeError;
use crate::keys::Refused;
use crate::purge::PurgeError;
use crate::variants::VariantError;

/// An error on its way to a client. The outermost layer writes its body, since it knows the request's id.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    kind: &'static str,
    code: &'static str,
    param: Option<String>,
    message: String,
    retry_after: Option<Duration>,
    gate: Option<Box<Comparison>>,
    pub(crate) reason: Option<Reason>,
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// What went wrong.
    error: ErrorObject,
}

/// What went wrong, in the shape clients of the OpenAI API read.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorObject {
    /// For people.
    #[schema(example = "`input` is empty")]
    message: String,
    /// The family of the error.
    #[serde(rename = "type")]
    #[schema(example = "invalid_request_error")]
    kind: &'static str,
    /// The field that is wrong, where there is one.
    #[schema(required = true, example = "input")]
    param: Option<String>,
    /// What programs switch on.
    #[schema(required = true, example = "invalid_value")]
    code: Option<&'static str>,
    /// The id that logs carry too; also in the header `x-request-id`.
    request_id: String,
    /// With code `gate_refused`: what the gate found.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Comparison>)]
    gate: Option<Box<Comparison>>,
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

/// After this long a disk that is full, or a database that others keep busy, is worth another try, and a request that could
/// not give its `Idempotency-Key` back meanwhile no longer holds it.
const STORED_AFTER: Duration = Duration::from_secs(60);

/// After this long another backbone may be idle.
const IDLE_AFTER: Duration = Duration::from_secs(5);

/// Longest name of a field, in characters: names may be the sender's own.
const PARAM: usize = 200;

/// Most characters that a message repeats of one value, and of everything.
const QUOTED: usize = 100;
const MESSAGE: usize = 1000;

/// A message without the length of what was sent: values between quotation marks are cut, and so is what is long all the
/// same.
fn shortened(message: String) -> String {
    if message.len() <= 2 * QUOTED {
        return message;
    }
    let mut short = String::new();
    let mut rest = message.as_str();
    while let Some(open) = rest.find(['`', '"']) {
        let (before, quoted) = rest.split_at(open);
        let (mark, value) = quoted.split_at(1);
        let Some((value, after)) = value.split_once(mark) else { break };
        short.push_str(before);
        short.push_str(mark);
        match value.char_indices().nth(QUOTED) {
            Some((end, _)) => short.extend([&value[..end], "…"]),
            None => short.push_str(value),
        }
        short.push_str(mark);
        rest = after;
    }
    short.push_str(rest);
    match short.char_indices().nth(MESSAGE) {
        Some((end, _)) => format!("{}…", &short[..end]),
        None => short,
    }
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        let message = shortened(message.into());
        Self { status, kind, code, param: None, message, retry_after: None, gate: None, reason: None }
    }

    /// Names the field it is about.
    pub(crate) fn about(mut self, param: impl Into<String>) -> Self {
        let param: String = param.into();
        self.param = Some(param.chars().take(PARAM).collect());
        self
    }

    pub(crate) fn because(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    pub(crate) fn invalid_json(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, "invalid_json", message)
    }

    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, "invalid_value", message).about(param)
    }

    pub(crate) fn body_too_large(limit: usize) -> Self {
        let message = format!("the body is larger than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, "body_too_large", message)
            .because(Reason::BodyTooLarge)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID, "unsupported_media_type", message)
    }

    pub(crate) fn no_route(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, INVALID, "not_found", format!("there is nothing at {path}"))
    }

    pub(crate) fn wrong_method(method: &str, path: &str) -> Self {
        let message = format!("{path} does not take {method}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, "method_not_allowed", message)
    }

    pub(crate) fn unauthorised(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", "invalid_api_key", message)
            .because(Reason::Unauthorised)
    }

    pub(crate) fn forbidden(scope: Scope) -> Self {
        let message = format!("the key lacks the scope `{}`", scope.as_str());
        Self::new(StatusCode::FORBIDDEN, "permission_error", "insufficient_scope", message)
            .because(Reason::Unauthorised)
    }

    /// What a page of another origin asks where no key is; `header` shows that it does.
    pub(crate) fn foreign_page(header: &str, message: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", "origin_not_allowed", message)
            .about(header)
            .because(Reason::Unauthorised)
    }

    /// A state that does not allow it; asking again would not help.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict_error", "conflict", message)
    }

    /// A version that its gate keeps from production.
    pub(crate) fn refused(found: Comparison) -> Self {
        let refused =
            Self::new(StatusCode::CONFLICT, "conflict_error", "gate_refused", found.message.as_str());
        Self { gate: Some(Box::new(found)), ..refused.about("gate") }
    }

    /// A key that asks more than it may.
    pub(crate) fn over_limit(refused: &Refused) -> Self {
        let (message, wait, reason) = match refused {
            Refused::Rate { left, wait } => {
                let message = format!("the key may ask {} requests in a minute", left.limit);
                (message, *wait, Reason::KeyRate)
            }
            Refused::Concurrency { limit } => {
                let message = format!("the key may ask {limit} requests at a time");
                (message, Duration::from_secs(1), Reason::KeyConcurrency)
            }
        };
        Self::limited(message, wait, reason)
    }

    /// More than a key may for now.
    fn limited(message: String, wait: Duration, reason: Reason) -> Self {
        let code = "rate_limit_exceeded";
        let limited = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", code, message);
        // Whole seconds, and never too soon.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self { retry_after: Some(Duration::from_secs(seconds)), ..limited.because(reason) }
    }

    /// Nothing of that id for whoever asks.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, INVALID, "not_found", message)
    }

    pub(crate) fn not_ready() -> Self {
        let error =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, "not_ready", "the server is not ready");
        Self { retry_after: Some(Duration::from_secs(1)), ..error }
    }

    pub(crate) fn deadline() -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, SERVER, "deadline_exceeded", "the request's deadline passed")
    }

    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, "internal_error", "internal error")
    }

    /// The answer with its body; `plain` is the text alone, as the open inference protocol has it.
    pub(crate) fn render(self, request_id: &str, plain: bool) -> Response {
        let json = if plain {
            serde_json::to_vec(&InferenceError { error: self.message })
        } else {
            serde_json::to_vec(&ErrorBody {
                error: ErrorObject {
                    message: self.message,
                    kind: self.kind,
                    param: self.param,
                    code: Some(self.code),
                    request_id: request_id.to_owned(),
                    gate: self.gate,
                },
            })
        };
        let json = json.unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/json")], json).into_response();
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if self.status == StatusCode::CONFLICT {
            // The official client repeats a 409 unless it is told otherwise.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<TaskError> for ApiError {
    fn from(error: TaskError) -> Self {
        let message = error.to_string();
        match error {
            TaskError::UnknownModel(_) | TaskError::NotAClassifier(_) | TaskError::NotABackbone { .. } => {
                Self::new(StatusCode::NOT_FOUND, INVALID, "model_not_found", message).about("model")
            }
            TaskError::TensorsOnly(_) | TaskError::NoGraph(_) => Self::invalid("model", message),
            TaskError::BrokenModel { .. } | TaskError::Unloaded(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, "not_ready", message).about("model")
            }
            TaskError::NoRoom { .. } => {
                let full = Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, "not_ready", message);
                Self { retry_after: Some(IDLE_AFTER), ..full.about("model").because(Reason::ModelMemory) }
            }
            TaskError::Invalid { param, .. } => Self::invalid(param, message),
            TaskError::TooManyItems { .. } => {
                Self::new(StatusCode::BAD_REQUEST, INVALID, "too_many_items", message)
                    .because(Reason::TooManyItems)
            }
            TaskError::ItemRate { wait, .. } => Self::limited(message, wait, Reason::KeyItems),
            TaskError::Media { param, source } => from_media(&source, param, message),
            TaskError::Engine(source) => from_engine(&source),
            TaskError::Bug(what) => bug(what),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        if error.is_busy() {
            tracing::warn!(%message, "nothing could be written in time");
            let message = "other processes keep the store busy: try again";
            let busy = Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, "not_ready", message);
            return Self { retry_after: Some(STORED_AFTER), ..busy };
        }
        match error {
            StoreError::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, INVALID, "not_found", message),
            StoreError::Conflict(_) => Self::conflict(message),
            StoreError::TooMany { .. } => {
                let limited = Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "rate_limit_error",
                    "rate_limit_exceeded",
                    message,
                );
                Self { retry_after: Some(Duration::from_secs(30)), ..limited.because(Reason::KeyLimit) }
            }
            StoreError::Quota { .. } => {
                let large = Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, "body_too_large", message);
                large.about("file").because(Reason::Quota)
            }
            StoreError::Invalid { field, .. } => Self::invalid(field, message),
            StoreError::DiskFull => {
                tracing::error!(%message, "nothing more can be stored");
                let full = Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, "not_ready", message);
                Self { retry_after: Some(STORED_AFTER), ..full.because(Reason::DiskFull) }
            }
            StoreError::LeaseLost(_)
            | StoreError::Newer { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Database(_)
            | StoreError::Io { .. }
            | StoreError::Closed
            | StoreError::Bug(_) => {
                tracing::error!(%message, "the store failed");
                Self::internal()
            }
        }
    }
}

impl From<FewShotError> for ApiError {
    fn from(error: FewShotError) -> Self {
        let message = error.to_string();
        match error {
            FewShotError::Closed { .. } | FewShotError::MeansOnly { .. } | FewShotError::NoProduction(_) => {
                Self::conflict(message)
            }
            FewShotError::UnknownLabel { place, .. } | FewShotError::Labels { place, .. } => {
                Self::invalid(format!("examples[{place}]"), message)
            }
            FewShotError::Method(MethodError::Unsuitable(_)) => Self::invalid("examples", message),
            FewShotError::Store(error) => error.into(),
            FewShotError::Method(_) | FewShotError::CutOff => {
                tracing::error!(%message, "examples could not be learned from");
                Self::internal()
            }
        }
    }
}

impl From<GateError> for ApiError {
    fn from(error: GateError) -> Self {
        match error {
            GateError::Store(error) => error.into(),
            GateError::Evidence { .. } | GateError::CutOff => {
                tracing::error!(%error, "versions could not be compared");
                Self::internal()
            }
        }
    }
}

impl From<IntakeError> for ApiError {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Store(error) => error.into(),
            IntakeError::Dataset(_) | IntakeError::Json(_) | IntakeError::Lost => {
                tracing::error!(%error, "an upload could not be looked at");
                Self::internal()
            }
        }
    }
}

impl From<PurgeError> for ApiError {
    fn from(error: PurgeError) -> Self {
        match error {
            PurgeError::CannotRewrite { .. } => Self::conflict(error.to_string()),
            PurgeError::Store(error) => error.into(),
            PurgeError::Intake(error) => error.into(),
            PurgeError::Dataset(_) | PurgeError::Method(_) | PurgeError::Report(_) | PurgeError::CutOff => {
                tracing::error!(%error, "rows could not be purged");
                Self::internal()
            }
        }
    }
}

impl From<CannotExport> for ApiError {
    fn from(error: CannotExport) -> Self {
        let message = error.to_string();
        match error {
            CannotExport::NoHead(_)
            | CannotExport::NoGraph { .. }
            | CannotExport::NoBackbone { .. }
            | CannotExport::OtherBackbone { .. }
            // The graph is of a kind that cannot be extended.
            | CannotExport::Compose(_) => {
                tracing::debug!(%message, "a version was not exported");
                Self::conflict(message)
            }
            // The files on the disk are not those that were loaded.
            CannotExport::Folder(error) => {
                tracing::warn!(%message, "a version was not exported");
                Self::conflict(error.reason())
            }
            CannotExport::Store(error) => error.into(),
            CannotExport::Head(_) | CannotExport::CutOff => {
                tracing::error!(%message, "a version could not be exported");
                Self::internal()
            }
        }
    }
}

/// Of a tuned version whose backbone is to be put together; elsewhere that is a load.
impl From<VariantError> for ApiError {
    fn from(error: VariantError) -> Self {
        if error.is_full() {
            return StoreError::DiskFull.into();
        }
        match error {
            VariantError::Unknown
            | VariantError::OtherBackbone { .. }
            | VariantError::NoBackbone(_)
            | VariantError::Folder(_) => {
                tracing::warn!(%error, "a tuned backbone was not put together");
                Self::conflict(error.reason())
            }
            VariantError::Store(error) => error.into(),
            VariantError::Method(_) | VariantError::Write { .. } | VariantError::CutOff => {
                tracing::error!(%error, "a tuned backbone could not be put together");
                Self::internal()
            }
        }
    }
}

fn from_engine(error: &EngineError) -> ApiError {
    match error {
        EngineError::QueueFull { retry_after, .. } => {
            let full = ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                "overloaded",
                error.to_string(),
            );
            ApiError { retry_after: Some(*retry_after), ..full.because(Reason::QueueFull) }
        }
        EngineError::DeadlineExceeded => ApiError::deadline(),
        EngineError::Stopped => ApiError::not_ready(),
        EngineError::Bug(what) => bug(what),
        EngineError::Run { .. }
        // Raw tensors alone can be too large, and whoever sent them is told of the field.
        | EngineError::LargeOutputs { .. }
        | EngineError::Runtime(_)
        | EngineError::Folder(_)
        | EngineError::Graph(_)
        | EngineError::Cuda(_) => {
            tracing::error!(%error, "the engine failed");
            ApiError::internal()
        }
    }
}

fn bug(what: &str) -> ApiError {
    tracing::error!(what, "impossible state");
    ApiError::internal()
}

fn from_media(error: &MediaError, param: String, message: String) -> ApiError {
    match error {
        MediaError::Unsupported { .. } => ApiError::unsupported(message).about(param),
        MediaError::TooLarge { .. }
        | MediaError::SideTooLong { .. }
        | MediaError::TooManyBytes { .. }
        | MediaError::TooMuchMemory { .. } => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, "image_too_large", message)
                .about(param)
                .because(Reason::ImageTooLarge)
        }
        MediaError::SoundTooLong { .. } => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, "audio_too_long", message)
                .about(param)
                .because(Reason::AudioTooLong)
        }
        MediaError::TooLong { .. } => {
            ApiError::new(StatusCode::BAD_REQUEST, INVALID, "context_length_exceeded", message).about(param)
        }
        MediaError::Undecodable { .. }
        | MediaError::Empty { .. }
        | MediaError::Url
        | MediaError::NoRoom { .. }
        | MediaError::Base64(_)
        | MediaError::TokenId { .. }
        | MediaError::NoTokens => ApiError::invalid(param, message),
        MediaError::Tokenizer(_) => {
            tracing::error!(%error, "the tokenizer failed");
            ApiError::internal()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_repeats_no_more_than_the_beginning_of_what_was_sent() {
        let long = "é".repeat(1 << 20);
        let cut = "é".repeat(QUOTED);
        for mark in ["`", "\""] {
            let message = format!("`model` is {mark}{long}{mark}, expected `float` or `base64`");
            let wanted = format!("`model` is {mark}{cut}…{mark}, expected `float` or `base64`");
            assert_eq!(shortened(message), wanted);
        }
        assert_eq!(shortened(format!("no quotation marks: {long}")).chars().count(), MESSAGE + 1);
        assert_eq!(shortened(format!("`a`b`{long}")).chars().count(), MESSAGE + 1);
        let listed = format!("has {} names: {}", 40, "`name`, ".repeat(40));
        assert_eq!(shortened(listed.clone()), listed);
    }

    #[test]
    fn the_name_of_a_field_that_is_the_senders_own_is_cut() {
        let error = ApiError::invalid("x".repeat(1 << 20), "wrong");
        assert_eq!(error.param.map(|param| param.len()), Some(PARAM));
    }
}
