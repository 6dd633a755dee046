//! The walk every item takes: admission, then decoding or tokenising, cache, queue, and back as a row. One file a modality.

mod audio;
mod file;
mod image;
mod text;
mod towers;
mod words;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headstart_engine::{Permit, Request, Row, Want};
use headstart_types::payload::{Datum, Media, Modality, Truncate};

use crate::cache::{Cached, Key, VectorCache};
use crate::catalog::{Encoder, Served};
use crate::context::{Caller, TaskContext};
use crate::error::TaskError;

pub(crate) use text::compute_read;

/// How a request's items are read.
#[derive(Debug, Clone)]
pub(crate) struct Reading<'a> {
    /// The field errors name.
    pub(crate) field: &'a str,
    pub(crate) want: Want,
    pub(crate) truncate: Truncate,
    /// A prefix from the manifest.
    pub(crate) prompt: Option<&'a str>,
}

/// One item's numbers.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) features: Arc<[f32]>,
    pub(crate) logits: Arc<[f32]>,
    pub(crate) tokens: usize,
    pub(crate) truncated_tokens: usize,
    /// Words that its table of word vectors does not have.
    pub(crate) unknown_words: usize,
}

/// What was not read of an item.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lost {
    pub(crate) truncated_tokens: usize,
    pub(crate) unknown_words: usize,
}

impl Lost {
    /// The larger of both numbers, where an item was read twice.
    pub(crate) fn most(self, other: Self) -> Self {
        Self {
            truncated_tokens: self.truncated_tokens.max(other.truncated_tokens),
            unknown_words: self.unknown_words.max(other.unknown_words),
        }
    }
}

impl Item {
    /// What was not read of it.
    pub(crate) fn lost(&self) -> Lost {
        Lost { truncated_tokens: self.truncated_tokens, unknown_words: self.unknown_words }
    }
}

/// Where a request's time went; parts that ran side by side count once, by their longest.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    /// Decoding or tokenising.
    pub preprocess: Duration,
    /// Waiting for a lane.
    pub queue: Duration,
    /// Inside ONNX Runtime.
    pub inference: Duration,
}

impl Timings {
    /// Both requests' times, side by side.
    #[must_use]
    pub fn beside(self, other: Self) -> Self {
        Self {
            preprocess: self.preprocess.max(other.preprocess),
            queue: self.queue.max(other.queue),
            inference: self.inference.max(other.inference),
        }
    }
}

/// A request's items, in order.
#[derive(Debug, Default)]
pub(crate) struct Items {
    pub(crate) items: Vec<Item>,
    pub(crate) timings: Timings,
}

impl Items {
    pub(crate) fn tokens(&self) -> usize {
        self.items.iter().map(|item| item.tokens).sum()
    }
}

/// Places in the queues of what will compute a request's data.
pub(crate) struct Admitted {
    own: Permit,
    /// Those of a text tower.
    texts: Option<Permit>,
}

/// Takes places for data, or refuses it before it costs anything.
pub(crate) fn admit(
    cx: &TaskContext,
    served: &Served,
    data: &[Datum],
    field: &str,
) -> Result<Admitted, TaskError> {
    check_texts(cx, data, field)?;
    served.check_features("model")?;
    let texts = match &served.text_tower {
        None => 0,
        Some(_) => data.iter().filter(|datum| datum.modality() == Modality::Text).count(),
    };
    let own = served.admit(data.len() - texts)?;
    let texts = served.text_tower.as_ref().map(|tower| tower.admit(texts)).transpose()?;
    Ok(Admitted { own, texts })
}

/// Takes data that was admitted all the way to rows.
pub(crate) async fn compute(
    cx: &TaskContext,
    served: &Served,
    (data, admitted): (Vec<Datum>, Admitted),
    reading: Reading<'_>,
    cache: &Arc<VectorCache>,
    caller: Caller,
) -> Result<Items, TaskError> {
    match (&served.text_tower, admitted) {
        (Some(tower), Admitted { own, texts: Some(texts) }) => {
            towers::compute(cx, ((served, own), (tower, texts)), data, reading, cache, caller).await
        }
        (_, Admitted { own, .. }) => one_graph(cx, served, (data, own), reading, cache, caller).await,
    }
}

/// Takes data of one modality through the backbone's own graph or table.
async fn one_graph(
    cx: &TaskContext,
    served: &Served,
    (data, mut permit): (Vec<Datum>, Permit),
    reading: Reading<'_>,
    cache: &Arc<VectorCache>,
    caller: Caller,
) -> Result<Items, TaskError> {
    let walk = Walk { cx, served, reading, cache, caller };
    match &served.encoder {
        Encoder::Text(encoder) => walk.texts(encoder, data, &mut permit).await,
        Encoder::Image(spec) => walk.files(spec, data, permit).await,
        Encoder::Audio(encoder) => walk.files(encoder, data, permit).await,
        Encoder::None => Err(TaskError::TensorsOnly(served.id().to_owned())),
    }
}

pub(crate) fn check_texts(cx: &TaskContext, data: &[Datum], field: &str) -> Result<(), TaskError> {
    for (index, datum) in data.iter().enumerate() {
        let limit = cx.limits.text_bytes;
        match datum {
            Datum::Text(text) if text.len() > limit => {
                let problem = format!("has {} bytes; at most {limit} are taken", text.len());
                return Err(TaskError::invalid(item_name(field, index, data.len()), problem));
            }
            Datum::Text(_) | Datum::Tokens(_) | Datum::Image(_) | Datum::Audio(_) => {}
        }
    }
    Ok(())
}

pub(crate) fn item_name(field: &str, index: usize, count: usize) -> String {
    if count == 1 { field.to_owned() } else { format!("{field}[{index}]") }
}

struct Walk<'a> {
    cx: &'a TaskContext,
    served: &'a Served,
    reading: Reading<'a>,
    cache: &'a Arc<VectorCache>,
    caller: Caller,
}

impl Walk<'_> {
    fn request(&self) -> Request {
        Request { want: self.reading.want, class: self.caller.class, deadline: self.caller.deadline }
    }

    fn key(&self, content: &[&[u8]]) -> Key {
        let Want { features, logits } = self.reading.want;
        let mut parts: Vec<&[u8]> =
            vec![self.served.fingerprint.as_bytes(), if features { b"f" } else { b"" }];
        parts.push(if logits { b"l" } else { b"" });
        parts.extend_from_slice(content);
        Key::of(&parts)
    }

    fn remember(&self, key: Key, row: Row, timings: &mut Timings) -> Cached {
        timings.queue = timings.queue.max(row.timing.queue);
        timings.inference = timings.inference.max(row.timing.inference);
        let cached = Cached { features: row.features.into(), logits: row.logits.into(), tokens: 0 };
        self.cache.put(key, cached.clone());
        cached
    }
}

/// A file's bytes, whatever way they came.
pub(crate) fn media_bytes(
    media: Media,
    limits: &headstart_media::Limits,
) -> Result<Bytes, headstart_media::MediaError> {
    match media {
        Media::Bytes(bytes) => Ok(bytes),
        Media::Base64(text) => headstart_media::decode_base64(&text, limits).map(Bytes::from),
    }
}
