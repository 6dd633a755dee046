//! The walk of texts through a table of word vectors: pieces of a request on the CPU pool, each row a mean.
//!
//! The cache is not asked: to look a text up there costs as much as to compute it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use headstart_engine::{Class, EngineError};
use headstart_telemetry::{ModelMetrics, Outcome};
use headstart_vectors::{Table, TableError};

use super::{Item, Items, Timings, Walk};
use crate::compute::TableBackbone;
use crate::error::TaskError;
use crate::reader::Read;

/// Texts that are computed in one go: between two pieces others have their turn, and a client that left is noticed.
const TEXTS_AT_ONCE: usize = 256;

/// Words up to this many are looked at where the request is: a hop to the pool would cost more.
const INLINE_WORDS: usize = 512;

impl Walk<'_> {
    /// Words, read since `started`, to rows.
    pub(super) async fn means(
        &self,
        backbone: &TableBackbone,
        read: Vec<Read>,
        started: Instant,
    ) -> Result<Items, TaskError> {
        let metrics = self.served.metrics();
        let preprocess = started.elapsed();
        metrics.preprocess_seconds.observe(preprocess.as_secs_f64());
        let words: usize = read.iter().map(|text| text.ids.len()).sum();
        let queued_at = Instant::now();
        let mut left = Left { metrics, items: read.len() as u64, outcome: Outcome::Cancelled };
        let mut texts = read.into_iter();
        let mut pieces = Vec::with_capacity(texts.len().div_ceil(TEXTS_AT_ONCE));
        while texts.len() > 0 {
            let piece: Vec<Read> = texts.by_ref().take(TEXTS_AT_ONCE).collect();
            let (table, metrics, pace) =
                (Arc::clone(&backbone.table), metrics.clone(), Arc::clone(&backbone.pace));
            let (deadline, class) = (self.caller.deadline, self.caller.class);
            pieces.push(move || {
                let begun = Instant::now();
                if deadline.is_some_and(|deadline| begun >= deadline) {
                    return Err(EngineError::DeadlineExceeded);
                }
                let queue = begun - queued_at;
                let waits = metrics.waits_of(class == Class::Bulk);
                (0..piece.len()).for_each(|_| waits.observe(queue.as_secs_f64()));
                let done = means_of(&table, piece, &metrics).map_err(|error| EngineError::Run {
                    model: "a table of word vectors".into(),
                    message: error.to_string(),
                })?;
                pace.learn(done.len(), begun.elapsed());
                Ok((done, queue, begun.elapsed()))
            });
        }
        let done: Result<Vec<Done>, TaskError> = if words <= INLINE_WORDS {
            pieces.into_iter().map(|piece| piece().map_err(TaskError::from)).collect()
        } else {
            let offload = self.cx.offload(self.caller.class);
            let runs =
                pieces.into_iter().map(|piece| async { Ok::<Done, TaskError>(offload.run(piece).await??) });
            try_join_all(runs).await
        };
        left.outcome = match &done {
            Ok(_) => Outcome::Answered,
            Err(TaskError::Engine(EngineError::DeadlineExceeded)) => Outcome::Expired,
            Err(_) => Outcome::Failed,
        };
        let mut all = Items { items: Vec::new(), timings: Timings { preprocess, ..Timings::default() } };
        for (items, queue, inference) in done? {
            all.items.extend(items);
            all.timings.queue = all.timings.queue.max(queue);
            all.timings.inference = all.timings.inference.max(inference);
        }
        Ok(all)
    }
}

/// A piece's rows, how long it waited and how long it took.
type Done = (Vec<Item>, Duration, Duration);

/// Counts a request's items when it ends, however it does: a client that leaves drops the walk where it stands.
struct Left<'a> {
    metrics: &'a ModelMetrics,
    items: u64,
    outcome: Outcome,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.metrics.count(self.outcome, self.items);
    }
}

fn means_of(table: &Table, texts: Vec<Read>, metrics: &ModelMetrics) -> Result<Vec<Item>, TableError> {
    let begun = Instant::now();
    let mut words = 0;
    let mut items = Vec::with_capacity(texts.len());
    for Read { ids, tokens, truncated_tokens, unknown_words, .. } in texts {
        words += ids.len() as u64;
        let features = table.embed(&ids)?;
        items.push(Item {
            features: features.into(),
            logits: Vec::new().into(),
            tokens,
            truncated_tokens,
            unknown_words,
        });
    }
    metrics.inference_seconds.observe(begun.elapsed().as_secs_f64());
    metrics.batch_items.observe(items.len() as f64);
    metrics.batch_cost.observe(words as f64);
    metrics.tokens_total.inc_by(words);
    metrics.padded_tokens_total.inc_by(words);
    Ok(items)
}
