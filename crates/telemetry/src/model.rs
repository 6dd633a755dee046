//! The series of one backbone.

use prometheus::{Counter, Gauge, Histogram, IntCounter, IntGauge};

use crate::labels::{MODEL_STATES, Outcome};

/// The series of one backbone.
#[derive(Debug, Clone)]
pub struct ModelMetrics {
    /// Seconds an item waited between its arrival in the queue and the start of its call.
    pub queue_wait_seconds: Histogram,
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
    /// Counts items by how they left the engine.
    pub fn count(&self, outcome: Outcome, items: u64) {
        self.items_total[outcome as usize].inc_by(items);
    }

    /// What was counted so far.
    #[must_use]
    pub fn totals(&self) -> ModelTotals {
        ModelTotals {
            items: std::array::from_fn(|place| self.items_total[place].get()),
            waits: self.queue_wait_seconds.get_sample_count(),
            queue_wait_seconds: self.queue_wait_seconds.get_sample_sum(),
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
