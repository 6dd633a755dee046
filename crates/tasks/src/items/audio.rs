//! The walk of sounds: each by itself, decoded on the CPU pool.

use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use headstart_engine::{Input, Permit};
use headstart_media::audio::SoundRows;
use headstart_media::{SoundEncoder, decode_sound};
use headstart_types::payload::{Datum, Media};

use super::{Item, Items, Timings, Walk, item_name, media_bytes};
use crate::cache::{Cached, Key, VectorCache};
use crate::error::TaskError;

/// Sounds of one request on their way at a time, so that a long list does not push everyone else back.
const SOUNDS_AT_ONCE: usize = 4;

impl Walk<'_> {
    pub(super) async fn sounds(
        &self,
        encoder: &Arc<SoundEncoder>,
        data: Vec<Datum>,
        mut permit: Permit,
    ) -> Result<Items, TaskError> {
        let count = data.len();
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            places.push(permit.split(1).ok_or(TaskError::Bug("fewer permits than items"))?);
        }
        let walks = data.into_iter().zip(places).enumerate().map(|(index, (datum, place))| {
            self.sound(encoder, datum, place, item_name(self.reading.field, index, count))
        });
        let results: Vec<(Item, Timings)> =
            stream::iter(walks).buffered(SOUNDS_AT_ONCE).try_collect().await?;
        let mut all = Items::default();
        for (item, timings) in results {
            all.items.push(item);
            all.timings = all.timings.beside(timings);
        }
        Ok(all)
    }

    async fn sound(
        &self,
        encoder: &Arc<SoundEncoder>,
        datum: Datum,
        mut place: Permit,
        name: String,
    ) -> Result<(Item, Timings), TaskError> {
        let Datum::Audio(media) = datum else {
            return Err(TaskError::Bug("what is no sound reached the walk of sounds"));
        };
        // Held until the row is there: it bounds the decoded sounds that exist at a time.
        let sounds = self.cx.decoded_sounds.acquire().await;
        let _decoded = sounds.map_err(|_| TaskError::Bug("the sound semaphore was closed"))?;
        let (encoder, limits, cache) = (Arc::clone(encoder), self.cx.limits.media, Arc::clone(self.cache));
        let fingerprint = self.key(&[]);
        let started = Instant::now();
        let offload = self.cx.offload(self.caller.class);
        let read = offload.run(move || read_sound(media, &encoder, &limits, fingerprint, &cache));
        let heard = read.await?.map_err(|source| TaskError::Media { param: name, source })?;
        let mut timings = Timings { preprocess: started.elapsed(), ..Timings::default() };
        let metrics = self.served.backbone.metrics();
        metrics.preprocess_seconds.observe(timings.preprocess.as_secs_f64());

        let cached = match heard {
            Heard::Known(cached) => cached,
            Heard::Decoded { rows, seconds, key } => {
                metrics.audio_seconds_total.inc_by(seconds);
                let input = Input::Signal { values: rows.values, width: rows.width };
                let tickets = self.served.backbone.submit(vec![input], &mut place, self.request())?;
                let ticket = tickets.into_iter().next().ok_or(TaskError::Bug("no ticket for an item"))?;
                self.remember(key, ticket.row().await?, &mut timings)
            }
        };
        let item = Item { features: cached.features, logits: cached.logits, tokens: 0, truncated_tokens: 0 };
        Ok((item, timings))
    }
}

enum Heard {
    /// Computed before: the same bytes need no decoding.
    Known(Cached),
    Decoded {
        rows: SoundRows,
        seconds: f64,
        key: Key,
    },
}

fn read_sound(
    media: Media,
    encoder: &SoundEncoder,
    limits: &headstart_media::Limits,
    fingerprint: Key,
    cache: &VectorCache,
) -> Result<Heard, headstart_media::MediaError> {
    let bytes = media_bytes(media, limits)?;
    let key = Key::of(&[fingerprint.as_bytes(), &bytes]);
    if let Some(cached) = cache.get(&key) {
        return Ok(Heard::Known(cached));
    }
    let sound = decode_sound(&bytes, encoder.rate(), limits)?;
    let seconds = sound.seconds();
    Ok(Heard::Decoded { rows: encoder.encode(sound), seconds, key })
}
