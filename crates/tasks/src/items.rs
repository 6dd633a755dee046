//! The walk every item takes: admission, then decoding or tokenising, cache, queue, and back as a row.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use headstart_engine::{Input, Permit, Request, Row, Want};
use headstart_media::{Encoded, TextEncoder};
use headstart_types::manifest::ImageSpec;
use headstart_types::payload::{Datum, Media, Truncate};

use crate::cache::{Cached, Key, VectorCache};
use crate::catalog::{Encoder, Served};
use crate::context::{Caller, TaskContext};
use crate::error::TaskError;

/// Texts up to this many bytes are tokenised where they arrive: a hop to the pool would cost more.
const INLINE_BYTES: usize = 4096;

/// Pictures of one request on their way at a time, so that a long list does not push everyone else back.
const PICTURES_AT_ONCE: usize = 8;

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

/// Takes data all the way to rows.
pub(crate) async fn compute(
    cx: &TaskContext,
    served: &Served,
    data: Vec<Datum>,
    reading: Reading<'_>,
    cache: &Arc<VectorCache>,
    caller: Caller,
) -> Result<Items, TaskError> {
    check_texts(cx, &data, reading.field)?;
    let mut permit = served.backbone.admit(data.len())?;
    let walk = Walk { cx, served, reading, cache, caller };
    match &served.encoder {
        Encoder::Text(encoder) => walk.texts(encoder, data, &mut permit).await,
        Encoder::Image(spec) => walk.images(spec, data, permit).await,
    }
}

/// Takes texts that `read` tokenises all the way to rows: as many as `size` says, and together of so many bytes.
pub(crate) async fn compute_read(
    cx: &TaskContext,
    served: &Served,
    (count, bytes): (usize, usize),
    read: impl FnOnce(&TextEncoder) -> Result<Vec<Encoded>, TaskError> + Send + 'static,
    cache: &Arc<VectorCache>,
    caller: Caller,
) -> Result<Items, TaskError> {
    let Encoder::Text(encoder) = &served.encoder else {
        return Err(TaskError::Bug("texts reached a backbone that reads none"));
    };
    let mut permit = served.backbone.admit(count)?;
    let want = Want { features: true, logits: false };
    let reading = Reading { field: "", want, truncate: Truncate::End, prompt: None };
    let walk = Walk { cx, served, reading, cache, caller };
    let started = Instant::now();
    let encoded = if bytes <= INLINE_BYTES {
        read(encoder)?
    } else {
        let encoder = Arc::clone(encoder);
        cx.offload(caller.class).run(move || read(&encoder)).await??
    };
    walk.rows(encoded, started, &mut permit).await
}

fn check_texts(cx: &TaskContext, data: &[Datum], field: &str) -> Result<(), TaskError> {
    for (index, datum) in data.iter().enumerate() {
        let limit = cx.limits.text_bytes;
        match datum {
            Datum::Text(text) if text.len() > limit => {
                let problem = format!("has {} bytes; at most {limit} are taken", text.len());
                return Err(TaskError::invalid(item_name(field, index, data.len()), problem));
            }
            Datum::Text(_) | Datum::Tokens(_) | Datum::Image(_) => {}
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

    async fn texts(
        &self,
        encoder: &Arc<TextEncoder>,
        data: Vec<Datum>,
        permit: &mut Permit,
    ) -> Result<Items, TaskError> {
        let started = Instant::now();
        let encoded = self.tokenise(encoder, data).await?;
        self.rows(encoded, started, permit).await
    }

    /// Token ids, made since `started`, to rows.
    async fn rows(
        &self,
        encoded: Vec<Encoded>,
        started: Instant,
        permit: &mut Permit,
    ) -> Result<Items, TaskError> {
        let mut timings = Timings { preprocess: started.elapsed(), ..Timings::default() };
        self.served.backbone.metrics().preprocess_seconds.observe(timings.preprocess.as_secs_f64());

        let counts: Vec<(usize, usize)> =
            encoded.iter().map(|text| (text.ids.len(), text.truncated_tokens)).collect();
        let keys: Vec<Key> = encoded.iter().map(|text| self.text_key(text)).collect();
        let found: Vec<Option<Cached>> = keys.iter().map(|key| self.cache.get(key)).collect();
        let missing: Vec<Input> = encoded
            .into_iter()
            .zip(&found)
            .filter(|(_, found)| found.is_none())
            .map(|(text, _)| Input::Tokens { ids: text.ids, type_ids: text.type_ids })
            .collect();
        let mut tickets = self.served.backbone.submit(missing, permit, self.request())?.into_iter();

        let mut items = Vec::with_capacity(keys.len());
        for ((key, found), (tokens, truncated_tokens)) in keys.into_iter().zip(found).zip(counts) {
            let cached = match found {
                Some(cached) => cached,
                None => {
                    let ticket = tickets.next().ok_or(TaskError::Bug("fewer tickets than items"))?;
                    self.remember(key, ticket.row().await?, &mut timings)
                }
            };
            items.push(Item { features: cached.features, logits: cached.logits, tokens, truncated_tokens });
        }
        Ok(Items { items, timings })
    }

    async fn tokenise(
        &self,
        encoder: &Arc<TextEncoder>,
        data: Vec<Datum>,
    ) -> Result<Vec<Encoded>, TaskError> {
        let bytes: usize = data.iter().map(datum_bytes).sum();
        let (truncate, field) = (self.reading.truncate, self.reading.field);
        if bytes <= INLINE_BYTES {
            return tokenise_all(encoder, data, truncate, self.reading.prompt, field);
        }
        let (encoder, field) = (Arc::clone(encoder), field.to_owned());
        let prompt = self.reading.prompt.map(str::to_owned);
        let offload = self.cx.offload(self.caller.class);
        offload.run(move || tokenise_all(&encoder, data, truncate, prompt.as_deref(), &field)).await?
    }

    fn text_key(&self, text: &Encoded) -> Key {
        let bytes = |ids: &[u32]| ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>();
        let types = text.type_ids.as_deref().map(bytes).unwrap_or_default();
        self.key(&[&bytes(&text.ids), &types])
    }

    async fn images(
        &self,
        spec: &ImageSpec,
        data: Vec<Datum>,
        mut permit: Permit,
    ) -> Result<Items, TaskError> {
        let count = data.len();
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            places.push(permit.split(1).ok_or(TaskError::Bug("fewer permits than items"))?);
        }
        let walks = data.into_iter().zip(places).enumerate().map(|(index, (datum, place))| {
            self.image(spec, datum, place, item_name(self.reading.field, index, count))
        });
        let results: Vec<(Item, Timings)> =
            stream::iter(walks).buffered(PICTURES_AT_ONCE).try_collect().await?;
        let mut all = Items::default();
        for (item, timings) in results {
            all.items.push(item);
            all.timings = all.timings.beside(timings);
        }
        Ok(all)
    }

    async fn image(
        &self,
        spec: &ImageSpec,
        datum: Datum,
        mut place: Permit,
        name: String,
    ) -> Result<(Item, Timings), TaskError> {
        let Datum::Image(media) = datum else { return Err(TaskError::Bug("a text reached the image walk")) };
        // Held until the row is there: it bounds the decoded pictures that exist at a time.
        let _decoded = self
            .cx
            .decoded
            .acquire()
            .await
            .map_err(|_| TaskError::Bug("the picture semaphore was closed"))?;
        let (spec, limits, cache) = (spec.clone(), self.cx.limits.image, Arc::clone(self.cache));
        let fingerprint = self.key(&[]);
        let started = Instant::now();
        let offload = self.cx.offload(self.caller.class);
        let read = offload.run(move || read_image(media, &spec, &limits, fingerprint, &cache));
        let picture = read.await?.map_err(|source| TaskError::Media { param: name, source })?;
        let mut timings = Timings { preprocess: started.elapsed(), ..Timings::default() };
        let metrics = self.served.backbone.metrics();
        metrics.preprocess_seconds.observe(timings.preprocess.as_secs_f64());

        let cached = match picture {
            Picture::Known(cached) => cached,
            Picture::Decoded { tensor, pixels, key } => {
                metrics.pixels_total.inc_by(pixels);
                let tickets =
                    self.served.backbone.submit(vec![Input::Dense(tensor)], &mut place, self.request())?;
                let ticket = tickets.into_iter().next().ok_or(TaskError::Bug("no ticket for an item"))?;
                self.remember(key, ticket.row().await?, &mut timings)
            }
        };
        let item = Item { features: cached.features, logits: cached.logits, tokens: 0, truncated_tokens: 0 };
        Ok((item, timings))
    }

    fn remember(&self, key: Key, row: Row, timings: &mut Timings) -> Cached {
        timings.queue = timings.queue.max(row.timing.queue);
        timings.inference = timings.inference.max(row.timing.inference);
        let cached = Cached { features: row.features.into(), logits: row.logits.into(), tokens: 0 };
        self.cache.put(key, cached.clone());
        cached
    }
}

fn datum_bytes(datum: &Datum) -> usize {
    match datum {
        Datum::Text(text) => text.len(),
        // No tokenising to do.
        Datum::Tokens(_) | Datum::Image(_) => 0,
    }
}

fn tokenise_all(
    encoder: &TextEncoder,
    data: Vec<Datum>,
    truncate: Truncate,
    prompt: Option<&str>,
    field: &str,
) -> Result<Vec<Encoded>, TaskError> {
    let count = data.len();
    data.into_iter()
        .enumerate()
        .map(|(index, datum)| {
            let encoded = match datum {
                Datum::Text(text) => encoder.encode(&text, prompt, truncate),
                Datum::Tokens(ids) => encoder.from_ids(&ids, truncate),
                Datum::Image(_) => return Err(TaskError::Bug("a picture reached the text walk")),
            };
            encoded.map_err(|source| TaskError::Media { param: item_name(field, index, count), source })
        })
        .collect()
}

enum Picture {
    /// Computed before: the same bytes need no decoding.
    Known(Cached),
    Decoded {
        tensor: Vec<f32>,
        pixels: u64,
        key: Key,
    },
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

fn read_image(
    media: Media,
    spec: &ImageSpec,
    limits: &headstart_media::Limits,
    fingerprint: Key,
    cache: &VectorCache,
) -> Result<Picture, headstart_media::MediaError> {
    let bytes = media_bytes(media, limits)?;
    let key = Key::of(&[fingerprint.as_bytes(), &bytes]);
    if let Some(cached) = cache.get(&key) {
        return Ok(Picture::Known(cached));
    }
    let picture = headstart_media::decode(&bytes, limits)?;
    let pixels = u64::from(picture.width()) * u64::from(picture.height());
    Ok(Picture::Decoded { tensor: headstart_media::preprocess(&picture, spec), pixels, key })
}
