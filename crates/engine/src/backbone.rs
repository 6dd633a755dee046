//! One loaded backbone: admission, submission, and what its calls are known to cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use headstart_telemetry::{Metrics, ModelMetrics};
use headstart_types::Manifest;
use headstart_types::tensor::{Tensor, Values};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use crate::batch::Limits;
use crate::call::{Class, Entry, Input, Readout, Row, Scratch, Shape, Timing, Want};
use crate::error::EngineError;
use crate::folder::Folder;
use crate::lane;
use crate::places::{Permit, Places};
use crate::reads::Reads;
use crate::schedule::{Scheduler, Side};
use crate::session::{Graph, Provider};
use crate::signature::Signature;
use crate::tensors::{Tensors, cost};
use crate::trial::Trial;

/// No call should hold a lane longer: a short item behind it would wait as long.
pub(crate) const LONGEST_CALL: Duration = Duration::from_millis(50);

/// The part of a backbone that lanes see.
pub(crate) struct Model {
    pub(crate) id: String,
    pub(crate) graph: Graph,
    /// Absent where the graph gives no features.
    pub(crate) readout: Option<Readout>,
    /// Lanes that one call occupies: its threads.
    pub(crate) slots: usize,
    pub(crate) max_running: usize,
    /// Whether bulk items run at the back: only calls of one CPU thread can be held back by the system.
    steps_back: bool,
    pub(crate) metrics: ModelMetrics,
    /// What is known of it with raw tensors.
    pub(crate) trial: Trial,
    limits: Limits,
    /// Nanoseconds of lane time per unit of cost, a moving average; the batcher's and admission's idea of speed.
    nanoseconds_per_unit: AtomicU64,
    nanoseconds_per_item: AtomicU64,
}

impl Model {
    pub(crate) fn new(
        id: String,
        graph: Graph,
        readout: Option<Readout>,
        limits: Limits,
        (slots, max_running): (usize, usize),
        steps_back: bool,
        metrics: ModelMetrics,
    ) -> Self {
        Self {
            id,
            graph,
            readout,
            slots,
            max_running,
            steps_back,
            metrics,
            trial: Trial::default(),
            limits,
            nanoseconds_per_unit: AtomicU64::new(0),
            nanoseconds_per_item: AtomicU64::new(0),
        }
    }

    pub(crate) fn reads_tokens(&self) -> bool {
        matches!(self.graph.reads(), Reads::Tokens(_))
    }

    /// Whether items of several requests may be computed in one call.
    pub(crate) fn shares_calls(&self) -> bool {
        self.limits.items > 1 && self.graph.batch() != Some(1)
    }

    /// The lanes that run its items of a class.
    pub(crate) fn side(&self, class: Class) -> Side {
        if self.steps_back && class == Class::Bulk { Side::Back } else { Side::Front }
    }

    /// The configured budget, tightened so that no call takes longer than [`LONGEST_CALL`] at the speed seen so far.
    pub(crate) fn limits(&self) -> Limits {
        let per_unit = self.nanoseconds_per_unit.load(Ordering::Relaxed).max(1);
        let by_time = (LONGEST_CALL.as_nanos() as u64 / per_unit).max(1) as usize;
        Limits {
            tokens: self.limits.tokens.min(by_time),
            long_tokens: self.limits.long_tokens.min(by_time),
            ..self.limits
        }
    }

    /// Learns from a finished call.
    pub(crate) fn learn(&self, shape: Shape, took: Duration) {
        let nanoseconds = took.as_nanos() as u64;
        blend(&self.nanoseconds_per_unit, nanoseconds / shape.cost().max(1) as u64);
        blend(&self.nanoseconds_per_item, nanoseconds / shape.items.max(1) as u64);
    }

    /// Expected lane time of a batch.
    pub(crate) fn estimate(&self, batch: &[Entry]) -> Duration {
        let shape = Shape::of(batch.iter().map(|entry| &entry.input));
        let per_unit = self.nanoseconds_per_unit.load(Ordering::Relaxed);
        Duration::from_nanos(per_unit.saturating_mul(shape.cost() as u64))
    }

    /// Whether a batch is soon done. While no call was seen nobody knows.
    fn is_short(&self, batch: &[Entry]) -> bool {
        self.nanoseconds_per_unit.load(Ordering::Relaxed) > 0 && self.estimate(batch) <= LONGEST_CALL
    }
}

/// Exponential moving average with a weight of one eighth on the new value. A lost update between two lanes is harmless.
fn blend(average: &AtomicU64, value: u64) {
    let old = average.load(Ordering::Relaxed);
    let new = if old == 0 { value } else { old - old / 8 + value / 8 };
    average.store(new.max(1), Ordering::Relaxed);
}

/// A loaded backbone.
pub struct Backbone {
    model: Arc<Model>,
    folder: Folder,
    labels: Vec<String>,
    scheduler: Arc<Scheduler>,
    metrics: Arc<Metrics>,
    places: Places,
    /// See [`Backbone::batch_invariance`].
    batch_invariance: Option<f32>,
}

/// How a group of items is run.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// Outputs each row should hold.
    pub want: Want,
    /// Who is waiting.
    pub class: Class,
    /// Items not started by then are answered with [`EngineError::DeadlineExceeded`].
    pub deadline: Option<Instant>,
}

/// Most bytes that the outputs of one request may take: a few tokens become a thousand times their bytes.
const LARGEST_OUTPUTS: usize = 256 << 20;

/// A row to come. Dropping it cancels the item wherever it waits.
pub struct Ticket {
    receiver: oneshot::Receiver<Result<Row, EngineError>>,
    deadline: Option<Instant>,
}

impl Ticket {
    /// Waits for the row.
    ///
    /// # Errors
    /// What the engine answered, or [`EngineError::DeadlineExceeded`] when the deadline passes first.
    pub async fn row(self) -> Result<Row, EngineError> {
        let answer = match self.deadline {
            None => self.receiver.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), self.receiver)
                .await
                .map_err(|_| EngineError::DeadlineExceeded)?,
        };
        answer.map_err(|_| EngineError::Stopped)?
    }
}

/// Tensors to come. Dropping it cancels what still waits of them.
pub struct TensorTicket {
    /// One for each part that the rows were parted in.
    parts: Vec<Ticket>,
}

impl TensorTicket {
    /// Waits for the tensors, in the order of the outputs that were asked for. Times are those of the part that took
    /// longest.
    ///
    /// # Errors
    /// What the engine answered, or [`EngineError::DeadlineExceeded`] when the deadline passes first.
    pub async fn tensors(self) -> Result<(Vec<Tensor>, Timing), EngineError> {
        let mut timing = Timing::default();
        let mut outputs: Vec<Vec<Tensor>> = Vec::new();
        let mut bytes = 0;
        for part in self.parts {
            let row = part.row().await?;
            bytes += row.tensors.iter().map(|tensor| tensor.values.bytes()).sum::<usize>();
            // The parts that still wait go with their tickets.
            if bytes > LARGEST_OUTPUTS {
                return Err(EngineError::LargeOutputs { limit: LARGEST_OUTPUTS });
            }
            timing.queue = timing.queue.max(row.timing.queue);
            timing.inference = timing.inference.max(row.timing.inference);
            timing.batch_items = timing.batch_items.max(row.timing.batch_items);
            outputs.resize_with(row.tensors.len(), Vec::new);
            outputs.iter_mut().zip(row.tensors).for_each(|(output, tensor)| output.push(tensor));
        }
        let joined = outputs.into_iter().map(joined).collect::<Option<_>>();
        Ok((joined.ok_or(EngineError::Bug("parts of one output do not fit together"))?, timing))
    }
}

/// The parts one behind the other along the first dimension.
fn joined(parts: Vec<Tensor>) -> Option<Tensor> {
    let mut shape = parts.first()?.shape.clone();
    if parts.len() > 1 {
        *shape.first_mut()? = parts.iter().filter_map(|part| part.shape.first()).sum();
    }
    let values = Values::join(parts.into_iter().map(|part| part.values).collect())?;
    Some(Tensor { shape, values })
}

impl Backbone {
    pub(crate) fn new(
        model: Model,
        folder: Folder,
        labels: Vec<String>,
        (scheduler, metrics): (Arc<Scheduler>, Arc<Metrics>),
        queue_items: usize,
        batch_invariance: Option<f32>,
    ) -> Self {
        let model = Arc::new(model);
        scheduler.add(Arc::clone(&model));
        let places = Places::new(queue_items, model.metrics.clone());
        Self { model, folder, labels, scheduler, metrics, places, batch_invariance }
    }

    /// The name clients use.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.model.id
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        self.folder.manifest()
    }

    /// The folder it was loaded from.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Class names of the source head, in the order of its logits; empty without one.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    pub(crate) fn reads(&self) -> &Reads {
        self.model.graph.reads()
    }

    /// What its graph takes and gives.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        self.model.graph.signature()
    }

    /// How many items raw tensors of these shapes, one for each input, are: rows where the graph computes each row for
    /// itself or reads texts, pictures or sounds, else one.
    #[must_use]
    pub fn items_of(&self, shapes: &[&[usize]]) -> usize {
        self.rows_of(shapes).unwrap_or(1)
    }

    /// Whether all inputs of raw tensors must have as many rows: a row is a text, a picture or a sound there. What rows of
    /// other graphs are, nobody said.
    #[must_use]
    pub fn wants_equal_rows(&self) -> bool {
        self.model.graph.signature().batched && !matches!(self.reads(), Reads::Raw)
    }

    /// Most rows of raw tensors of several requests that share a call; `None` where rows depend on each other.
    #[must_use]
    pub fn rows_of_a_call(&self) -> Option<usize> {
        self.model.trial.joins.then_some(self.model.limits.items)
    }

    /// Most of its calls that run at a time.
    #[must_use]
    pub fn calls_at_a_time(&self) -> usize {
        self.model.max_running
    }

    fn rows_of(&self, shapes: &[&[usize]]) -> Option<usize> {
        let rows = *shapes.first()?.first()?;
        let same = shapes.iter().all(|shape| shape.first() == Some(&rows));
        (self.model.trial.by_row && same && rows > 0).then_some(rows)
    }

    /// Where it runs.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.model.graph.provider()
    }

    /// Its metrics.
    #[must_use]
    pub fn metrics(&self) -> &ModelMetrics {
        &self.model.metrics
    }

    /// Lowest cosine between an item alone and the same item in a padded batch, as measured at the start; `None`
    /// where nothing was measured.
    #[must_use]
    pub fn batch_invariance(&self) -> Option<f32> {
        self.batch_invariance
    }

    /// Most items that its queue holds.
    #[must_use]
    pub fn queue_items(&self) -> usize {
        self.places.items()
    }

    /// Takes places in the queue, or refuses at once.
    ///
    /// # Errors
    /// [`EngineError::QueueFull`] with a time to come back, from the speed seen lately.
    pub fn admit(&self, items: usize) -> Result<Permit, EngineError> {
        self.places.take(items).ok_or_else(|| EngineError::QueueFull {
            model: self.id().to_owned(),
            limit: self.places.items(),
            retry_after: self.retry_after(items),
        })
    }

    /// Queues items under a permit; tickets come back in their order. Items beyond the permit are refused.
    ///
    /// # Errors
    /// [`EngineError::Bug`] when the permit holds fewer places than there are items.
    pub fn submit(
        &self,
        inputs: Vec<Input>,
        permit: &mut Permit,
        request: Request,
    ) -> Result<Vec<Ticket>, EngineError> {
        let queued_at = Instant::now();
        let mut tickets = Vec::with_capacity(inputs.len());
        let mut entries = Vec::with_capacity(inputs.len());
        for input in inputs {
            let place = permit.take(input.items())?;
            let (reply, receiver) = oneshot::channel();
            tickets.push(Ticket { receiver, deadline: request.deadline });
            entries.push(Entry {
                input,
                want: request.want,
                deadline: request.deadline,
                queued_at,
                reply,
                permit: place,
            });
        }
        if !entries.is_empty() {
            // A thread that computes looks at no deadline and at no client that leaves: only what is soon done.
            let short = || self.model.is_short(&entries);
            let in_time = || request.deadline.is_none_or(|deadline| queued_at + LONGEST_CALL <= deadline);
            let here = request.class == Class::Interactive && may_block() && in_time() && short();
            if let Some(work) = self.scheduler.submit(&self.model, request.class, entries, here) {
                tokio::task::block_in_place(|| {
                    lane::run(&self.scheduler, &self.metrics, work, &mut Scratch::default());
                });
            }
        }
        Ok(tickets)
    }

    /// Queues raw tensors under a permit for as many items as they are: a tensor for each input, in the graph's order;
    /// `outputs` are places in the signature. Rows beyond what a call may hold run as calls of their own.
    ///
    /// # Errors
    /// [`EngineError::Bug`] when the permit holds fewer places than there are items.
    pub fn infer(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        permit: &mut Permit,
        request: Request,
    ) -> Result<TensorTicket, EngineError> {
        let graph = &self.model.graph;
        let outputs: Arc<[usize]> = outputs.into();
        let shapes: Vec<&[usize]> = inputs.iter().map(|tensor| tensor.shape.as_slice()).collect();
        let parts: Vec<Input> = match self.rows_of(&shapes) {
            None => vec![Input::Tensors(Tensors::of(graph, inputs, None, &outputs))],
            Some(rows) => {
                let joins = self.model.trial.joins;
                // Rows that depend on each other are parted in the same places at any speed: asked again, the answer is
                // the same.
                let limits = if joins { self.model.limits() } else { self.model.limits };
                let most = limits.most(cost(graph, &shapes, true));
                let part = |start| {
                    let part = Tensors::of(graph, inputs, Some((start, most.min(rows - start))), &outputs);
                    Input::Tensors(if joins { part } else { part.apart() })
                };
                (0..rows).step_by(most).map(part).collect()
            }
        };
        Ok(TensorTicket { parts: self.submit(parts, permit, request)? })
    }

    fn retry_after(&self, items: usize) -> Duration {
        let nanoseconds = self.model.nanoseconds_per_item.load(Ordering::Relaxed);
        self.places.retry_after(items, nanoseconds, self.model.max_running)
    }
}

/// Whether this thread may be kept busy for the length of a call: its runtime has others to take over its tasks.
fn may_block() -> bool {
    Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
}

impl Drop for Backbone {
    fn drop(&mut self) {
        self.scheduler.remove(&self.model);
    }
}
