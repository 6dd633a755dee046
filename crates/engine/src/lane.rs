//! A lane: one thread that takes work, calls ONNX Runtime, and hands rows to whoever waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use headstart_telemetry::{Metrics, Outcome};

use crate::backbone::Model;
use crate::call::{self, Class, Entry, Input, Row, Scratch, Shape, Timing, Want};
use crate::error::EngineError;
use crate::schedule::{Scheduler, Side, Work};
use crate::step_back::step_back;

/// Starts one named thread per lane.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn start(
    scheduler: &Arc<Scheduler>,
    metrics: &Arc<Metrics>,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    metrics.lanes.set(scheduler.lanes() as i64);
    (0..scheduler.threads())
        .map(|lane| {
            let (scheduler, metrics) = (Arc::clone(scheduler), Arc::clone(metrics));
            std::thread::Builder::new()
                .name(format!("lane-{lane}"))
                .spawn(move || work(&scheduler, &metrics, lane))
        })
        .collect()
}

fn work(scheduler: &Scheduler, metrics: &Metrics, lane: usize) {
    if scheduler.side(lane) == Side::Back {
        step_back();
    }
    let mut scratch = Scratch::default();
    while let Some(work) = scheduler.next(lane) {
        run(scheduler, metrics, work, &mut scratch);
    }
}

/// Runs what the scheduler handed out and answers everyone in it.
pub(crate) fn run(scheduler: &Scheduler, metrics: &Metrics, mut work: Work, scratch: &mut Scratch) {
    let picked = std::mem::take(&mut work.picked);
    let model = &work.model;
    model.metrics.count(Outcome::Cancelled, picked.cancelled as u64);
    model.metrics.count(Outcome::Expired, items_of(&picked.expired));
    for entry in picked.expired {
        let _ = entry.reply.send(Err(EngineError::DeadlineExceeded));
    }
    let mut took = Duration::ZERO;
    if !picked.batch.is_empty() {
        let bulk = i64::from(work.class == Class::Bulk);
        observe_waits(model, work.class, &picked.batch);
        metrics.lanes_busy.inc();
        metrics.bulk_lanes_busy.add(bulk);
        took = run_batch(model, metrics, picked.batch, scratch);
        metrics.bulk_lanes_busy.sub(bulk);
        metrics.lanes_busy.dec();
    }
    scheduler.done(&work, took);
}

/// Each item waited once, rows of raw tensors too, and however often its call is made.
fn observe_waits(model: &Model, class: Class, batch: &[Entry]) {
    let waits = model.metrics.waits_of(class == Class::Bulk);
    for entry in batch {
        let waited = entry.queued_at.elapsed().as_secs_f64();
        (0..entry.input.items()).for_each(|_| waits.observe(waited));
    }
}

fn run_batch(model: &Model, metrics: &Metrics, batch: Vec<Entry>, scratch: &mut Scratch) -> Duration {
    let items: Vec<(&Input, Want)> = batch.iter().map(|entry| (&entry.input, entry.want)).collect();
    let shape = Shape::of(items.iter().map(|(input, _)| *input));
    let started = Instant::now();
    let result =
        catch_unwind(AssertUnwindSafe(|| call::run(&model.graph, model.readout.as_ref(), &items, scratch)))
            .unwrap_or_else(|_| {
                metrics.panics_total.inc();
                Err("the call panicked".into())
            });
    let took = started.elapsed();
    observe(model, shape, took);
    match result {
        Ok(rows) => answer(model, batch, rows, started, took),
        // One may be at fault (tensors, a token id without a row); the others must not fail with it.
        Err(_) if batch.len() > 1 => {
            let alone = batch.into_iter().map(|entry| run_batch(model, metrics, vec![entry], scratch));
            return took + alone.sum::<Duration>();
        }
        Err(message) => {
            // Of raw tensors it is what was sent that the graph cannot use; whoever sent it is told why.
            let outcome = if batch.iter().all(is_raw) { Outcome::Unsuited } else { Outcome::Failed };
            if outcome == Outcome::Failed {
                tracing::error!(model = %model.id, %message, items = items_of(&batch), "a call failed");
            }
            model.metrics.count(outcome, items_of(&batch));
            for entry in batch {
                let _ = entry
                    .reply
                    .send(Err(EngineError::Run { model: model.id.clone(), message: message.clone() }));
            }
        }
    }
    took
}

fn items_of(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.input.items() as u64).sum()
}

fn is_raw(entry: &Entry) -> bool {
    matches!(entry.input, Input::Tensors(_))
}

fn answer(model: &Model, batch: Vec<Entry>, rows: Vec<Row>, started: Instant, took: Duration) {
    let batch_items = items_of(&batch) as usize;
    // Counted before they are sent: who has an answer may look at the counters at once.
    let (waiting, gone): (Vec<_>, Vec<_>) = batch.iter().partition(|entry| !entry.reply.is_closed());
    model.metrics.count(Outcome::Answered, waiting.iter().map(|entry| entry.input.items() as u64).sum());
    model.metrics.count(Outcome::Cancelled, gone.iter().map(|entry| entry.input.items() as u64).sum());
    for (entry, mut row) in batch.into_iter().zip(rows) {
        let queue = started.saturating_duration_since(entry.queued_at);
        row.timing = Timing { queue, inference: took, batch_items };
        // The place first: who has the answer may ask again at once.
        drop(entry.permit);
        // The client may have hung up meanwhile; its answer is nobody's.
        let _ = entry.reply.send(Ok(row));
    }
}

fn observe(model: &Model, shape: Shape, took: Duration) {
    model.learn(shape, took);
    let metrics = &model.metrics;
    metrics.inference_seconds.observe(took.as_secs_f64());
    metrics.batch_items.observe(shape.items as f64);
    metrics.batch_cost.observe(shape.cost() as f64);
    if model.reads_tokens() {
        metrics.tokens_total.inc_by(shape.real_tokens as u64);
        metrics.padded_tokens_total.inc_by(shape.cost() as u64);
    }
}
