//! The walk of texts: token ids, cache, queue.

use std::sync::Arc;
use std::time::Instant;

use headstart_engine::{Input, Permit, Want};
use headstart_types::payload::{Datum, Truncate};

use super::{Item, Items, Reading, Timings, Walk, item_name};
use crate::cache::{Cached, Key, VectorCache};
use crate::catalog::{Encoder, Served};
use crate::compute::Compute;
use crate::context::{Caller, TaskContext};
use crate::error::TaskError;
use crate::reader::{Read, Reader};

/// Texts up to this many bytes are tokenised where they arrive: a hop to the pool would cost more.
const INLINE_BYTES: usize = 4096;

/// Takes texts that were admitted and that `read` tokenises, of so many bytes in all, to rows that hold what is wanted.
pub(crate) async fn compute_read(
    cx: &TaskContext,
    served: &Served,
    ((mut permit, bytes), want): ((Permit, usize), Want),
    read: impl FnOnce(&Reader) -> Result<Vec<Read>, TaskError> + Send + 'static,
    cache: &Arc<VectorCache>,
    caller: Caller,
) -> Result<Items, TaskError> {
    let Encoder::Text(encoder) = &served.encoder else {
        return Err(TaskError::Bug("texts reached a backbone that reads none"));
    };
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

impl Walk<'_> {
    pub(super) async fn texts(
        &self,
        encoder: &Arc<Reader>,
        data: Vec<Datum>,
        permit: &mut Permit,
    ) -> Result<Items, TaskError> {
        let started = Instant::now();
        let encoded = self.tokenise(encoder, data).await?;
        self.rows(encoded, started, permit).await
    }

    /// Token ids or words, made since `started`, to rows.
    async fn rows(
        &self,
        encoded: Vec<Read>,
        started: Instant,
        permit: &mut Permit,
    ) -> Result<Items, TaskError> {
        if let Compute::Table(backbone) = &self.served.compute {
            return self.means(backbone, encoded, started).await;
        }
        let mut timings = Timings { preprocess: started.elapsed(), ..Timings::default() };
        self.served.metrics().preprocess_seconds.observe(timings.preprocess.as_secs_f64());

        let counts: Vec<(usize, usize)> =
            encoded.iter().map(|text| (text.tokens, text.truncated_tokens)).collect();
        let keys: Vec<Key> = encoded.iter().map(|text| self.text_key(text)).collect();
        let found: Vec<Option<Cached>> = keys.iter().map(|key| self.cache.get(key)).collect();
        let missing: Vec<Input> = encoded
            .into_iter()
            .zip(&found)
            .filter(|(_, found)| found.is_none())
            .map(|(text, _)| Input::Tokens { ids: text.ids, type_ids: text.type_ids })
            .collect();
        let mut tickets = self.served.graph()?.submit(missing, permit, self.request())?.into_iter();

        let mut items = Vec::with_capacity(keys.len());
        for ((key, found), (tokens, truncated_tokens)) in keys.into_iter().zip(found).zip(counts) {
            let cached = match found {
                Some(cached) => cached,
                None => {
                    let ticket = tickets.next().ok_or(TaskError::Bug("fewer tickets than items"))?;
                    self.remember(key, ticket.row().await?, &mut timings)
                }
            };
            items.push(Item {
                features: cached.features,
                logits: cached.logits,
                tokens,
                truncated_tokens,
                unknown_words: 0,
            });
        }
        Ok(Items { items, timings })
    }

    async fn tokenise(&self, encoder: &Arc<Reader>, data: Vec<Datum>) -> Result<Vec<Read>, TaskError> {
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

    fn text_key(&self, text: &Read) -> Key {
        let bytes = |ids: &[u32]| ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>();
        let types = text.type_ids.as_deref().map(bytes).unwrap_or_default();
        self.key(&[&bytes(&text.ids), &types])
    }
}

fn datum_bytes(datum: &Datum) -> usize {
    match datum {
        Datum::Text(text) => text.len(),
        Datum::Tokens(ids) => ids.len() * size_of::<u32>(),
        Datum::Image(_) | Datum::Audio(_) => 0,
    }
}

fn tokenise_all(
    encoder: &Reader,
    data: Vec<Datum>,
    truncate: Truncate,
    prompt: Option<&str>,
    field: &str,
) -> Result<Vec<Read>, TaskError> {
    let count = data.len();
    data.into_iter()
        .enumerate()
        .map(|(index, datum)| {
            let encoded = match datum {
                Datum::Text(text) => encoder.encode(&text, prompt, truncate),
                Datum::Tokens(ids) => encoder.take_ids(&ids, truncate),
                Datum::Image(_) | Datum::Audio(_) => {
                    return Err(TaskError::Bug("what is no text reached the walk of texts"));
                }
            };
            encoded.map_err(|source| TaskError::Media { param: item_name(field, index, count), source })
        })
        .collect()
}
