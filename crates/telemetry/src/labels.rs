//! The closed sets of words that stand as labels of metrics.

/// Why work was refused before it cost anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The model's queue is full.
    QueueFull,
    /// More items than a request may have.
    TooManyItems,
    /// A body over its limit.
    BodyTooLarge,
    /// A picture over its pixel limit.
    ImageTooLarge,
    /// A sound over its limit of seconds.
    AudioTooLong,
    /// A missing or wrong key, or a key without the scope.
    Unauthorised,
    /// The server is not ready or is draining.
    NotReady,
    /// The disk under the data folder is full.
    DiskFull,
    /// A key has as many jobs as it may.
    KeyLimit,
    /// A key has asked as much as it may in a minute.
    KeyRate,
    /// A key has as many requests open as it may.
    KeyConcurrency,
    /// A key has sent as many items as it may in a minute.
    KeyItems,
    /// A key's files take all the room it has.
    Quota,
    /// A backbone does not fit beside those that are in use.
    ModelMemory,
}

impl Reason {
    pub(crate) const ALL: [Self; 14] = [
        Self::QueueFull,
        Self::TooManyItems,
        Self::BodyTooLarge,
        Self::ImageTooLarge,
        Self::AudioTooLong,
        Self::Unauthorised,
        Self::NotReady,
        Self::DiskFull,
        Self::KeyLimit,
        Self::KeyRate,
        Self::KeyConcurrency,
        Self::KeyItems,
        Self::Quota,
        Self::ModelMemory,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::TooManyItems => "too_many_items",
            Self::BodyTooLarge => "body_too_large",
            Self::ImageTooLarge => "image_too_large",
            Self::AudioTooLong => "audio_too_long",
            Self::Unauthorised => "unauthorised",
            Self::NotReady => "not_ready",
            Self::DiskFull => "disk_full",
            Self::KeyLimit => "key_limit",
            Self::KeyRate => "key_rate",
            Self::KeyConcurrency => "key_concurrency",
            Self::KeyItems => "key_items",
            Self::Quota => "quota",
            Self::ModelMemory => "model_memory",
        }
    }
}

/// How an item that entered a queue left the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its result went to a waiting request.
    Answered,
    /// The call failed.
    Failed,
    /// The graph could not use the raw tensors that were sent.
    Unsuited,
    /// Nobody waited for it any more.
    Cancelled,
    /// Its deadline passed while it waited.
    Expired,
}

impl Outcome {
    pub(crate) const ALL: [Self; 5] =
        [Self::Answered, Self::Failed, Self::Unsuited, Self::Cancelled, Self::Expired];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Unsuited => "unsuited",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// How a worker's hold on a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEnd {
    /// Its classifier exists.
    Succeeded,
    /// It cannot succeed: its data or parameters are at fault.
    Failed,
    /// The service failed at it too often.
    Broken,
    /// It was given up unfinished: it cost too many workers.
    GivenUp,
    /// Its owner paused it.
    Paused,
    /// Its owner ended it.
    Cancelled,
    /// It went back to the queue: the process stops, or it is tried again.
    Released,
    /// It went back to the queue because the disk is full.
    NoRoom,
    /// Another worker has it.
    Lost,
}

impl JobEnd {
    pub(crate) const ALL: [Self; 9] = [
        Self::Succeeded,
        Self::Failed,
        Self::Broken,
        Self::GivenUp,
        Self::Paused,
        Self::Cancelled,
        Self::Released,
        Self::NoRoom,
        Self::Lost,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Broken => "broken",
            Self::GivenUp => "given_up",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Released => "released",
            Self::NoRoom => "no_room",
            Self::Lost => "lost",
        }
    }
}

/// What came of an attempt to tell somebody of a job's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookEnd {
    /// The receiver took it.
    Delivered,
    /// It is tried again later.
    PutOff,
    /// It is tried no more.
    GivenUp,
}

impl WebhookEnd {
    pub(crate) const ALL: [Self; 3] = [Self::Delivered, Self::PutOff, Self::GivenUp];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::PutOff => "put_off",
            Self::GivenUp => "given_up",
        }
    }
}

/// How the agreement on keys with a client ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// There is a connection.
    Agreed,
    /// The client does not trust the certificate, speaks something else, or left.
    Failed,
    /// The client took too long.
    TooSlow,
}

impl Handshake {
    pub(crate) const ALL: [Self; 3] = [Self::Agreed, Self::Failed, Self::TooSlow];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Agreed => "agreed",
            Self::Failed => "failed",
            Self::TooSlow => "too_slow",
        }
    }
}

/// What became of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceEnd {
    /// The collector took it.
    Exported,
    /// Too many wait already.
    QueueFull,
    /// The collector is not there or did not take it.
    Failed,
}

impl TraceEnd {
    pub(crate) const ALL: [Self; 3] = [Self::Exported, Self::QueueFull, Self::Failed];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Exported => "exported",
            Self::QueueFull => "queue_full",
            Self::Failed => "failed",
        }
    }
}

/// What a gate finds, as a label.
pub(crate) const GATE_VERDICTS: [&str; 3] = ["not_worse", "worse", "not_enough_evidence"];

/// Of items that somebody waits for.
pub(crate) const INTERACTIVE: &str = "interactive";

/// Of items that make way for others.
pub(crate) const BULK: &str = "bulk";

/// States of backbones.
pub(crate) const MODEL_STATES: [&str; 4] = ["unloaded", "loading", "ready", "broken"];

/// States of jobs that are not over, and stages of a job, as labels.
pub(crate) const JOB_STATES: [&str; 4] = ["validating_files", "queued", "running", "paused"];
pub(crate) const JOB_STAGES: [&str; 6] = ["features", "compare", "fit", "tune", "zero_shot", "evaluate"];
