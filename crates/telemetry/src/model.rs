//! The series of one backbone.

use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec,
};

use crate::labels::{BULK, INTERACTIVE, MODEL_STATES, Outcome};
use crate::metrics::{Family, SECONDS, options};

const ITEMS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
const COST: [f64; 11] = [1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0];

/// The series of one backbone.
#[derive(Debug, Clone)]
pub struct ModelMetrics {
    /// Seconds an item waited between its arrival in the queue and the start of its call, where somebody waits for it.
    pub queue_wait_seconds: Histogram,
    /// The same of bulk items, which are meant to wait.
    pub bulk_wait_seconds: Histogram,
    /// Seconds of decoding, resizing or tokenising, a request.
    pub preprocess_seconds: Histogram,
    /// Seconds of one call of ONNX Runtime.
    pub inference_seconds: Histogram,
    /// Items in one call.
    pub batch_items: Histogram,
    /// Padded tokens in one call; items of pictures, samples or frames of sounds, elements of raw tensors.
    pub batch_cost: Histogram,
    /// Tokens that carried meaning.
    pub tokens_total: IntCounter,
    /// Tokens computed, padding included.
    pub padded_tokens_total: IntCounter,
    /// Pixels decoded.
    pub pixels_total: IntCounter,
    /// Seconds of sound decoded.
    pub audio_seconds_total: Counter,
    /// Items waiting or being computed.
    pub queue_items: IntGauge,
    /// Items by how they left the engine.
    pub(crate) items_total: [IntCounter; 5],
    pub(crate) loaded: IntGauge,
    pub(crate) states: [IntGauge; 4],
    /// Bytes of memory that the backbone is counted with.
    pub memory_bytes: IntGauge,
    /// How often it was let go for others.
    pub evictions_total: IntCounter,
    /// Seconds its last load took.
    pub load_seconds: Gauge,
}

impl ModelMetrics {
    /// Where waits of items are observed, of bulk ones or of those that somebody waits for.
    #[must_use]
    pub fn waits_of(&self, bulk: bool) -> &Histogram {
        if bulk { &self.bulk_wait_seconds } else { &self.queue_wait_seconds }
    }

    /// Counts items by how they left the engine.
    pub fn count(&self, outcome: Outcome, items: u64) {
        self.items_total[outcome as usize].inc_by(items);
    }

    /// What was counted so far.
    #[must_use]
    pub fn totals(&self) -> ModelTotals {
        ModelTotals {
            items: std::array::from_fn(|place| self.items_total[place].get()),
            waits: self.queue_wait_seconds.get_sample_count() + self.bulk_wait_seconds.get_sample_count(),
            queue_wait_seconds: self.queue_wait_seconds.get_sample_sum()
                + self.bulk_wait_seconds.get_sample_sum(),
            calls: self.inference_seconds.get_sample_count(),
            inference_seconds: self.inference_seconds.get_sample_sum(),
        }
    }

    /// Says which of the states the backbone is in.
    pub fn set_state(&self, state: &str) {
        self.loaded.set(i64::from(state == "ready"));
        for (gauge, name) in self.states.iter().zip(MODEL_STATES) {
            gauge.set(i64::from(name == state));
        }
    }
}

/// What was counted of one backbone so far.
#[derive(Debug, Clone, Copy)]
pub struct ModelTotals {
    items: [u64; 5],
    /// Items that waited for a call.
    pub waits: u64,
    /// Seconds they waited in all.
    pub queue_wait_seconds: f64,
    /// Calls of ONNX Runtime.
    pub calls: u64,
    /// Seconds they took in all.
    pub inference_seconds: f64,
}

impl ModelTotals {
    /// Items that left the engine this way.
    #[must_use]
    pub fn items(&self, outcome: Outcome) -> u64 {
        self.items[outcome as usize]
    }
}

/// The families of all series that each backbone has one of.
#[derive(Debug, Clone)]
pub(crate) struct ModelFamilies {
    queue_wait_seconds: HistogramVec,
    preprocess_seconds: HistogramVec,
    inference_seconds: HistogramVec,
    batch_items: HistogramVec,
    batch_cost: HistogramVec,
    tokens_total: IntCounterVec,
    padded_tokens_total: IntCounterVec,
    pixels_total: IntCounterVec,
    audio_seconds_total: CounterVec,
    queue_items: IntGaugeVec,
    items_total: IntCounterVec,
    loaded: IntGaugeVec,
    state: IntGaugeVec,
    memory_bytes: IntGaugeVec,
    evictions_total: IntCounterVec,
    load_seconds: GaugeVec,
}

impl ModelFamilies {
    pub(crate) fn new(family: &Family<'_>) -> prometheus::Result<Self> {
        let model = &["model"];
        Ok(Self {
            queue_wait_seconds: family.histograms(
                "queue_wait_seconds",
                "Seconds an item waited for its call to start, by whether somebody waits for it.",
                &["model", "class"],
                &SECONDS,
            )?,
            preprocess_seconds: family.histograms(
                "preprocess_seconds",
                "Seconds of tokenising a request's texts, or of decoding and preprocessing one picture or sound.",
                model,
                &SECONDS,
            )?,
            inference_seconds: family.histograms(
                "inference_seconds",
                "Seconds of one call of ONNX Runtime.",
                model,
                &SECONDS,
            )?,
            batch_items: family.histograms("batch_items", "Items in one call.", model, &ITEMS)?,
            batch_cost: family.histograms(
                "batch_cost",
                "Padded tokens in one call; items of pictures, samples or frames of sounds.",
                model,
                &COST,
            )?,
            tokens_total: family.counters("tokens_total", "Tokens computed that were not padding.", model)?,
            padded_tokens_total: family.counters(
                "padded_tokens_total",
                "Tokens computed, padding included: its ratio to tokens_total is the waste.",
                model,
            )?,
            pixels_total: family.counters("pixels_total", "Pixels decoded.", model)?,
            audio_seconds_total: family.add(CounterVec::new(
                options("audio_seconds_total", "Seconds of sound decoded."),
                model,
            ))?,
            queue_items: family.gauges("queue_items", "Items admitted and not yet answered.", model)?,
            items_total: family.counters(
                "items_total",
                "Items that left the engine, by outcome.",
                &["model", "outcome"],
            )?,
            loaded: family.gauges(
                "model_loaded",
                "One when the backbone answers, zero when it is not in memory.",
                model,
            )?,
            state: family.gauges(
                "model_state",
                "One for the state that the backbone is in, zero for the others.",
                &["model", "state"],
            )?,
            memory_bytes: family.gauges(
                "model_memory_bytes",
                "Bytes of memory that the backbone is counted with; zero when it is not in memory.",
                model,
            )?,
            evictions_total: family.counters(
                "model_evictions_total",
                "How often the backbone was let go to make room for another.",
                model,
            )?,
            load_seconds: family.add(GaugeVec::new(
                options("model_load_seconds", "Seconds the backbone's last load took, warm-up included."),
                model,
            ))?,
        })
    }

    /// The series of one backbone, at zero on the first call.
    #[must_use]
    pub(crate) fn of(&self, id: &str) -> ModelMetrics {
        ModelMetrics {
            queue_wait_seconds: self.queue_wait_seconds.with_label_values(&[id, INTERACTIVE]),
            bulk_wait_seconds: self.queue_wait_seconds.with_label_values(&[id, BULK]),
            preprocess_seconds: self.preprocess_seconds.with_label_values(&[id]),
            inference_seconds: self.inference_seconds.with_label_values(&[id]),
            batch_items: self.batch_items.with_label_values(&[id]),
            batch_cost: self.batch_cost.with_label_values(&[id]),
            tokens_total: self.tokens_total.with_label_values(&[id]),
            padded_tokens_total: self.padded_tokens_total.with_label_values(&[id]),
            pixels_total: self.pixels_total.with_label_values(&[id]),
            audio_seconds_total: self.audio_seconds_total.with_label_values(&[id]),
            queue_items: self.queue_items.with_label_values(&[id]),
            items_total: Outcome::ALL
                .map(|outcome| self.items_total.with_label_values(&[id, outcome.as_str()])),
            loaded: self.loaded.with_label_values(&[id]),
            states: MODEL_STATES.map(|state| self.state.with_label_values(&[id, state])),
            memory_bytes: self.memory_bytes.with_label_values(&[id]),
            evictions_total: self.evictions_total.with_label_values(&[id]),
            load_seconds: self.load_seconds.with_label_values(&[id]),
        }
    }

    /// Takes the series of a backbone away. Who still holds them goes on counting unseen.
    pub(crate) fn forget(&self, id: &str) {
        for class in [INTERACTIVE, BULK] {
            let _ = self.queue_wait_seconds.remove_label_values(&[id, class]);
        }
        for histogram in
            [&self.preprocess_seconds, &self.inference_seconds, &self.batch_items, &self.batch_cost]
        {
            let _ = histogram.remove_label_values(&[id]);
        }
        for counter in
            [&self.tokens_total, &self.padded_tokens_total, &self.pixels_total, &self.evictions_total]
        {
            let _ = counter.remove_label_values(&[id]);
        }
        for gauge in [&self.queue_items, &self.loaded, &self.memory_bytes] {
            let _ = gauge.remove_label_values(&[id]);
        }
        let _ = self.audio_seconds_total.remove_label_values(&[id]);
        let _ = self.load_seconds.remove_label_values(&[id]);
        for outcome in Outcome::ALL {
            let _ = self.items_total.remove_label_values(&[id, outcome.as_str()]);
        }
        for state in MODEL_STATES {
            let _ = self.state.remove_label_values(&[id, state]);
        }
    }
}
