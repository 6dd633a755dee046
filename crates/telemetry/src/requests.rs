//! Requests: each is received once, and either answered or left by its client.

use std::time::Instant;

use prometheus::{HistogramVec, IntCounterVec, IntGauge};

use crate::metrics::{Family, SECONDS};

/// What becomes of requests. Those received are those answered, those cancelled and those in flight.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    received_total: IntCounterVec,
    cancelled_total: IntCounterVec,
    requests_total: IntCounterVec,
    duration_seconds: HistogramVec,
    in_flight: IntGauge,
}

/// A request that was received. Unless it is answered, its end is its client's leaving.
#[derive(Debug)]
#[must_use]
pub struct Underway<'a> {
    of: &'a RequestMetrics,
    route: &'a str,
    since: Instant,
    answered: bool,
}

impl RequestMetrics {
    pub(crate) fn new(family: &Family<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            received_total: family.counters(
                "requests_received_total",
                "Requests whose header was read, by route pattern.",
                &["route"],
            )?,
            cancelled_total: family.counters(
                "requests_cancelled_total",
                "Requests whose client left before there was an answer, by route pattern.",
                &["route"],
            )?,
            requests_total: family.counters(
                "requests_total",
                "Requests answered, by route pattern, method and status.",
                &["route", "method", "status"],
            )?,
            duration_seconds: family.histograms(
                "request_duration_seconds",
                "Seconds from the first byte of a request to its answer, by route pattern.",
                &["route"],
                &SECONDS,
            )?,
            in_flight: family.gauge("requests_in_flight", "Requests being answered.")?,
        })
    }

    /// Makes a route's series exist before its first request.
    pub fn register(&self, route: &str, method: &str) {
        // A rate cannot see a series' first count: those that alerts look at are there before it.
        for status in ["200", "500", "503", "504"] {
            self.requests_total.with_label_values(&[route, method, status]);
        }
        self.received_total.with_label_values(&[route]);
        self.cancelled_total.with_label_values(&[route]);
        self.duration_seconds.with_label_values(&[route]);
    }

    /// Counts a request that came. `route` is the pattern, never the path: paths are unbounded.
    pub fn begin<'a>(&'a self, route: &'a str, since: Instant) -> Underway<'a> {
        self.received_total.with_label_values(&[route]).inc();
        self.in_flight.inc();
        Underway { of: self, route, since, answered: false }
    }
}

impl Underway<'_> {
    /// Counts its answer.
    pub fn answer(mut self, method: &str, status: u16) {
        self.answered = true;
        self.of.requests_total.with_label_values(&[self.route, method, &status.to_string()]).inc();
        let seconds = self.since.elapsed().as_secs_f64();
        self.of.duration_seconds.with_label_values(&[self.route]).observe(seconds);
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.of.cancelled_total.with_label_values(&[self.route]).inc();
        }
        self.of.in_flight.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::Metrics;

    #[test]
    fn a_request_is_received_and_then_answered_or_cancelled() {
        let metrics = Metrics::new("0.0.0").unwrap();
        let begin = || metrics.requests.begin("/v1/embeddings", Instant::now());
        let underway = begin();
        begin().answer("POST", 429);
        begin().answer("POST", 200);
        drop(begin());
        let said = |line: &str| {
            let text = String::from_utf8(metrics.render().unwrap()).unwrap();
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        };
        said("headstart_requests_received_total{route=\"/v1/embeddings\"} 4");
        said("headstart_requests_cancelled_total{route=\"/v1/embeddings\"} 1");
        said("headstart_requests_total{method=\"POST\",route=\"/v1/embeddings\",status=\"200\"} 1");
        said("headstart_requests_total{method=\"POST\",route=\"/v1/embeddings\",status=\"429\"} 1");
        said("headstart_request_duration_seconds_count{route=\"/v1/embeddings\"} 2");
        said("headstart_requests_in_flight 1");
        drop(underway);
        said("headstart_requests_in_flight 0");
    }
}
