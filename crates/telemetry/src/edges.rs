//! The service's edges: keys, TLS, traces.

use prometheus::{IntCounterVec, IntGauge};

use crate::labels::{Handshake, TraceEnd};
use crate::metrics::Family;

/// Who is let in, and over what.
#[derive(Debug, Clone)]
pub struct EdgeMetrics {
    /// Keys that are known.
    pub api_keys: IntGauge,
    tls_handshakes_total: IntCounterVec,
    tls_reloads_total: IntCounterVec,
    tls_refused: IntGauge,
    traces_total: IntCounterVec,
}

impl EdgeMetrics {
    pub(crate) fn new(family: &Family<'_>) -> prometheus::Result<Self> {
        let edges = Self {
            api_keys: family
                .gauge("api_keys", "Keys that are known, those of the options and those of the store.")?,
            tls_handshakes_total: family.counters(
                "tls_handshakes_total",
                "TLS handshakes, by how they ended.",
                &["outcome"],
            )?,
            tls_reloads_total: family.counters(
                "tls_reloads_total",
                "Changes of the TLS certificate or its key, by whether they could be used.",
                &["outcome"],
            )?,
            tls_refused: family.gauge(
                "tls_refused",
                "One while the files of the TLS certificate and its key cannot be used and the old certificate stays.",
            )?,
            traces_total: family.counters(
                "traces_total",
                "Traces of requests, by whether the collector got them.",
                &["outcome"],
            )?,
        };
        for outcome in Handshake::ALL {
            edges.tls_handshakes_total.with_label_values(&[outcome.as_str()]);
        }
        for outcome in [TAKEN, REFUSED] {
            edges.tls_reloads_total.with_label_values(&[outcome]);
        }
        for outcome in TraceEnd::ALL {
            edges.traces_total.with_label_values(&[outcome.as_str()]);
        }
        Ok(edges)
    }

    /// Counts a handshake.
    pub fn count_handshake(&self, outcome: Handshake) {
        self.tls_handshakes_total.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Counts a change of the certificate or its key.
    pub fn count_tls_reload(&self, taken: bool) {
        let outcome = if taken { TAKEN } else { REFUSED };
        self.tls_reloads_total.with_label_values(&[outcome]).inc();
        self.tls_refused.set(i64::from(!taken));
    }

    /// Counts traces.
    pub fn count_traces(&self, outcome: TraceEnd, traces: u64) {
        self.traces_total.with_label_values(&[outcome.as_str()]).inc_by(traces);
    }
}

const TAKEN: &str = "taken";
const REFUSED: &str = "refused";
