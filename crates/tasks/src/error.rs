//! Why a task could not be done.

use std::time::Duration;

use headstart_engine::EngineError;
use headstart_media::MediaError;
use headstart_types::InputError;

/// Why a task could not be done.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// No backbone of that name.
    #[error("the model `{0}` does not exist")]
    UnknownModel(String),
    /// A backbone where a classifier was meant.
    #[error("the model `{0}` is a backbone, which gives features and zero-shot labels: name a classifier")]
    NotAClassifier(String),
    /// A classifier where a backbone was meant.
    #[error(
        "the model `{id}` is a classifier, which gives labels of its own: name a backbone, such as its own, `{backbone}`"
    )]
    NotABackbone {
        /// The classifier.
        id: String,
        /// What it rests on.
        backbone: String,
    },
    /// A backbone that reads neither texts nor pictures.
    #[error("the model `{0}` takes raw tensors only: ask it by /v2/models/{0}/infer")]
    TensorsOnly(String),
    /// A backbone that takes no raw tensors.
    #[error("the model `{0}` is a table of word vectors: it has no graph, and takes no raw tensors")]
    NoGraph(String),
    /// The backbone exists but could not be loaded.
    #[error("the model `{id}` is not available: {reason}")]
    BrokenModel {
        /// The backbone.
        id: String,
        /// Why it was refused at load.
        reason: String,
    },
    /// The backbone was unloaded.
    #[error("the model `{0}` is unloaded; POST /v1/models/{0}/load loads it")]
    Unloaded(String),
    /// The backbone does not fit beside those that are in use.
    #[error("the model `{id}` takes {needed} bytes of memory, which {limit} in all do not leave it now")]
    NoRoom {
        /// The backbone.
        id: String,
        /// Bytes that it is counted with.
        needed: u64,
        /// The configured maximum of all.
        limit: u64,
    },
    /// A field with a value that cannot be used.
    #[error("`{param}` {problem}")]
    Invalid {
        /// The field.
        param: String,
        /// What is wrong with it.
        problem: String,
    },
    /// More items than a request may have.
    #[error("the request has {items} items; at most {limit} are taken at once")]
    TooManyItems {
        /// Items of the request.
        items: usize,
        /// The configured maximum.
        limit: usize,
    },
    /// More items than the key may send now.
    #[error("the key may send {limit} items in a minute")]
    ItemRate {
        /// The key's limit.
        limit: usize,
        /// After this long so many may be sent.
        wait: Duration,
    },
    /// An item could not be decoded or tokenised.
    #[error("`{param}`: {source}")]
    Media {
        /// The field, with the item's index.
        param: String,
        /// What is wrong with the item.
        source: MediaError,
    },
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A state that cannot happen.
    #[error("impossible state: {0}")]
    Bug(&'static str),
}

impl TaskError {
    /// A field with a value that cannot be used.
    pub fn invalid(param: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { param: param.into(), problem: problem.into() }
    }

    /// A classifier, or its backbone, whose name on the disk other weights have now.
    pub(crate) fn other_backbone(id: &str) -> Self {
        let reason = "another backbone has its name now, whose features would not fit the classifier's";
        Self::BrokenModel { id: id.to_owned(), reason: reason.into() }
    }

    /// The same error of a model that the caller's model `id` leans on, as what ails the caller's: it exists. What goes
    /// by with time stays what it is.
    #[must_use]
    pub fn behind(self, id: &str, what: &str) -> Self {
        match self {
            Self::UnknownModel(_) | Self::BrokenModel { .. } | Self::Unloaded(_) => {
                Self::BrokenModel { id: id.to_owned(), reason: format!("{what}: {self}") }
            }
            other @ (Self::NotAClassifier(_)
            | Self::NotABackbone { .. }
            | Self::TensorsOnly(_)
            | Self::NoGraph(_)
            | Self::NoRoom { .. }
            | Self::Invalid { .. }
            | Self::TooManyItems { .. }
            | Self::ItemRate { .. }
            | Self::Media { .. }
            | Self::Engine(_)
            | Self::Bug(_)) => other,
        }
    }

    /// The same error where the list that it names an entry of is one value for the client.
    #[must_use]
    pub(crate) fn one_of(mut self, field: &str) -> Self {
        if let Self::Invalid { param, .. } | Self::Media { param, .. } = &mut self
            && param.strip_prefix(field) == Some("[0]")
        {
            field.clone_into(param);
        }
        self
    }

    /// The same error for a body whose fields have other names: pairs of ours and the client's.
    #[must_use]
    pub fn renamed(mut self, names: &[(&str, &str)]) -> Self {
        if let Self::Invalid { param, .. } | Self::Media { param, .. } = &mut self {
            let (field, place) = param.split_at(param.find(['[', '.']).unwrap_or(param.len()));
            if let Some((_, theirs)) = names.iter().find(|(ours, _)| *ours == field) {
                *param = format!("{theirs}{place}");
            }
        }
        self
    }
}

impl From<InputError> for TaskError {
    fn from(error: InputError) -> Self {
        Self::Invalid { param: error.field, problem: error.problem }
    }
}
