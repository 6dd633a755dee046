//! What a request carries: data of any modality, not yet decoded.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The kind of data a backbone reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    /// Words, as a string or as the model's own token ids.
    Text,
    /// A still picture.
    Image,
    /// A sound.
    Audio,
    /// Tensors, as the graph takes them: nothing is preprocessed.
    Tensor,
}

impl Modality {
    /// The name used in manifests, answers and metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
            Self::Audio => "audio",
            Self::Tensor => "tensor",
        }
    }
}

/// What happens to a text longer than its model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Truncate {
    /// Refuse it.
    None,
    /// Cut the start: the last tokens stay.
    Start,
    /// Cut the end: the first tokens stay.
    #[default]
    End,
}

/// Encoded media as it arrived. Base64 stays base64 until the request has been admitted: decoding is work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Media {
    /// The bytes of a file.
    Bytes(Bytes),
    /// The bytes of a file in base64, or a whole `data:` URL.
    Base64(String),
}

/// One input of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datum {
    /// A text to be tokenised.
    Text(String),
    /// Token ids of the model's own vocabulary, special tokens included where they are wanted; not yet known to be in it.
    Tokens(Vec<i64>),
    /// A picture, still encoded.
    Image(Media),
    /// A sound, still encoded.
    Audio(Media),
}

impl Datum {
    /// The modality a backbone needs to read this datum.
    #[must_use]
    pub fn modality(&self) -> Modality {
        match self {
            Self::Text(_) | Self::Tokens(_) => Modality::Text,
            Self::Image(_) => Modality::Image,
            Self::Audio(_) => Modality::Audio,
        }
    }
}
