//! The walk of pictures: each by itself, decoded on the CPU pool.

use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use headstart_engine::{Input, Permit};
use headstart_types::manifest::ImageSpec;
use headstart_types::payload::{Datum, Media};

use super::{Item, Items, Timings, Walk, item_name, media_bytes};
use crate::cache::{Cached, Key, VectorCache};
use crate::error::TaskError;

/// Pictures of one request on their way at a time, so that a long list does not push everyone else back.
const PICTURES_AT_ONCE: usize = 8;

impl Walk<'_> {
    pub(super) async fn images(
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
        let (spec, limits, cache) = (spec.clone(), self.cx.limits.media, Arc::clone(self.cache));
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
