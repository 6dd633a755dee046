//! The walk of files, whatever they hold: each by itself, decoded on the CPU pool.

use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use headstart_engine::{Class, Input, Permit};
use headstart_media::{Limits, MediaError};
use headstart_telemetry::ModelMetrics;
use headstart_types::payload::{Datum, Media};
use tokio::sync::Semaphore;

use super::{Item, Items, Timings, Walk, item_name, media_bytes};
use crate::cache::{Cached, Key, VectorCache};
use crate::context::TaskContext;
use crate::error::TaskError;

/// What turns files of one modality into inputs of a graph.
pub(super) trait Decoder: Clone + Send + Sync + 'static {
    /// Files of one request on their way at a time, so that a long list does not push everyone else back.
    const AT_ONCE: usize;

    /// Bounds what exists decoded at a time.
    fn places(cx: &TaskContext, class: Class) -> &Semaphore;

    /// A datum's file, where it is one of these.
    fn media(datum: Datum) -> Option<Media>;

    /// The input, and how much was decoded, in the unit of [`Decoder::count`].
    fn decode(&self, bytes: &[u8], limits: &Limits) -> Result<(Input, f64), MediaError>;

    /// Adds to the metric of what was decoded.
    fn count(metrics: &ModelMetrics, amount: f64);
}

impl Walk<'_> {
    pub(super) async fn files<D: Decoder>(
        &self,
        decoder: &D,
        data: Vec<Datum>,
        mut permit: Permit,
    ) -> Result<Items, TaskError> {
        let count = data.len();
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            places.push(permit.split(1).ok_or(TaskError::Bug("fewer permits than items"))?);
        }
        let walks = data.into_iter().zip(places).enumerate().map(|(index, (datum, place))| {
            self.file(decoder, datum, place, item_name(self.reading.field, index, count))
        });
        let results: Vec<(Item, Timings)> = stream::iter(walks).buffered(D::AT_ONCE).try_collect().await?;
        let mut all = Items::default();
        for (item, timings) in results {
            all.items.push(item);
            all.timings = all.timings.beside(timings);
        }
        Ok(all)
    }

    async fn file<D: Decoder>(
        &self,
        decoder: &D,
        datum: Datum,
        mut place: Permit,
        name: String,
    ) -> Result<(Item, Timings), TaskError> {
        let media = D::media(datum).ok_or(TaskError::Bug("a datum reached the walk of another modality"))?;
        // Held until the row is there.
        let decoded = D::places(self.cx, self.caller.class).acquire().await;
        let _decoded = decoded.map_err(|_| TaskError::Bug("the semaphore of decoded files was closed"))?;
        let (decoder, limits, cache) = (decoder.clone(), self.cx.limits.media, Arc::clone(self.cache));
        let fingerprint = self.key(&[]);
        let started = Instant::now();
        let offload = self.cx.offload(self.caller.class);
        let read = offload.run(move || read(media, &decoder, &limits, fingerprint, &cache));
        let found = read.await?.map_err(|source| TaskError::Media { param: name, source })?;
        let mut timings = Timings { preprocess: started.elapsed(), ..Timings::default() };
        let metrics = self.served.metrics();
        metrics.preprocess_seconds.observe(timings.preprocess.as_secs_f64());

        let cached = match found {
            Found::Known(cached) => cached,
            Found::Decoded { input, amount, key } => {
                D::count(metrics, amount);
                let tickets = self.served.graph()?.submit(vec![input], &mut place, self.request())?;
                let ticket = tickets.into_iter().next().ok_or(TaskError::Bug("no ticket for an item"))?;
                self.remember(key, ticket.row().await?, &mut timings)
            }
        };
        let item = Item {
            features: cached.features,
            logits: cached.logits,
            tokens: 0,
            truncated_tokens: 0,
            unknown_words: 0,
        };
        Ok((item, timings))
    }
}

enum Found {
    /// Computed before: the same bytes need no decoding.
    Known(Cached),
    Decoded {
        input: Input,
        amount: f64,
        key: Key,
    },
}

fn read<D: Decoder>(
    media: Media,
    decoder: &D,
    limits: &Limits,
    fingerprint: Key,
    cache: &VectorCache,
) -> Result<Found, MediaError> {
    let bytes = media_bytes(media, limits)?;
    let key = Key::of(&[fingerprint.as_bytes(), &bytes]);
    if let Some(cached) = cache.get(&key) {
        return Ok(Found::Known(cached));
    }
    let (input, amount) = decoder.decode(&bytes, limits)?;
    Ok(Found::Decoded { input, amount, key })
}
