//! Traces of requests for an OpenTelemetry collector: a span for the request, one for each of its stages. They are made
//! once a request is answered and sent by a thread of their own; a collector that is slow or gone costs traces, not time.

mod export;
mod stages;

use std::time::{Duration, Instant, SystemTime};

use axum::extract::Request;
use axum::http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::clock::chance;

pub(crate) use export::{Endpoint, Exporter};
pub(crate) use stages::{Stages, Watch};

/// Which requests are traced, and who sends their traces.
pub(crate) struct Traces {
    /// Of requests whose caller says nothing, how many of all.
    share: f64,
    exporter: Exporter,
}

/// A request that is being traced.
pub(crate) struct Trace {
    context: SpanContext,
    parent: Option<SpanId>,
    started: Instant,
    at: SystemTime,
}

/// What goes on to others whom a request leads to, as W3C's `traceparent` has it: the request's own span where it is traced,
/// else its caller's as it came.
#[derive(Debug, Clone)]
pub(crate) struct TraceParent(pub(crate) String);

impl TraceParent {
    /// The one that a layer has left with a request, else its caller's.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        let own = request.extensions().get::<Self>().cloned();
        own.or_else(|| Self::written(&caller(request.headers())))
    }

    fn written(context: &SpanContext) -> Option<Self> {
        let (id, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags());
        context.is_valid().then(|| Self(format!("00-{id}-{span}-{flags:02x}")))
    }
}

/// What a caller says of its trace; not valid where it says nothing.
fn caller(headers: &HeaderMap) -> SpanContext {
    TraceContextPropagator::new().extract(&HeaderExtractor(headers)).span().span_context().clone()
}

/// What is known of a request once it is answered.
pub(crate) struct Answered<'a> {
    pub(crate) method: &'static str,
    pub(crate) route: &'a str,
    pub(crate) status: u16,
    pub(crate) request_id: &'a str,
    pub(crate) stages: Option<Stages>,
}

impl Traces {
    pub(crate) fn new(share: f64, exporter: Exporter) -> Self {
        Self { share, exporter }
    }

    /// Begins a request's trace if it is to have one: as its `traceparent` says, else by lot.
    pub(crate) fn begin(&self, headers: &HeaderMap) -> Option<Trace> {
        let (started, at) = (Instant::now(), SystemTime::now());
        let caller = caller(headers);
        let own = SpanId::from_bytes(chance().ok()?);
        let flags = TraceFlags::SAMPLED;
        if caller.is_valid() {
            let state = caller.trace_state().clone();
            let context = SpanContext::new(caller.trace_id(), own, flags, false, state);
            let parent = Some(caller.span_id());
            return caller.is_sampled().then_some(Trace { context, parent, started, at });
        }
        let id: [u8; 16] = chance().ok()?;
        if !drawn(id, self.share) {
            return None;
        }
        let context = SpanContext::new(TraceId::from_bytes(id), own, flags, false, TraceState::default());
        Some(Trace { context, parent: None, started, at })
    }

    /// Hands an answered request's trace over; one too many is dropped and counted.
    pub(crate) fn end(&self, trace: &Trace, answered: &Answered<'_>) {
        self.exporter.send(trace.spans(answered));
    }

    /// Sends what waits, for a moment.
    pub(crate) async fn flush(&self) {
        self.exporter.flush().await;
    }
}

/// Whether a trace is among those that are kept: its id decides, so that every service decides alike.
fn drawn(id: [u8; 16], share: f64) -> bool {
    let mut tail = [0; 8];
    tail.copy_from_slice(&id[8..]);
    ((u64::from_be_bytes(tail) >> 11) as f64) < share * (1u64 << 53) as f64
}

impl Trace {
    /// Its id, for the log.
    pub(crate) fn id(&self) -> String {
        self.context.trace_id().to_string()
    }

    /// What goes on to others whom the request leads to.
    pub(crate) fn passed_on(&self) -> Option<TraceParent> {
        TraceParent::written(&self.context)
    }

    /// The request's span, then those of its stages.
    fn spans(&self, answered: &Answered<'_>) -> Vec<SpanData> {
        let mut root = self.span(
            self.context.span_id(),
            self.parent.unwrap_or(SpanId::INVALID),
            format!("{} {}", answered.method, answered.route),
            (Duration::ZERO, self.started.elapsed()),
        );
        root.span_kind = SpanKind::Server;
        root.parent_span_is_remote = self.parent.is_some();
        root.attributes = vec![
            KeyValue::new("http.request.method", answered.method),
            KeyValue::new("http.route", answered.route.to_owned()),
            KeyValue::new("http.response.status_code", i64::from(answered.status)),
            KeyValue::new("headstart.request_id", answered.request_id.to_owned()),
        ];
        if answered.status >= 500 {
            root.attributes.push(KeyValue::new("error.type", answered.status.to_string()));
            root.status = Status::error("");
        }
        let mut spans = vec![root];
        let Some(stages) = answered.stages else { return spans };
        let before = stages.started.saturating_duration_since(self.started);
        for (name, start, length) in stages.each() {
            // Without chance a stage would have no id; the request's span still tells of it.
            let Ok(id) = chance() else { break };
            let times = (before + start, length);
            spans.push(self.span(SpanId::from_bytes(id), self.context.span_id(), name.to_owned(), times));
        }
        spans
    }

    fn span(
        &self,
        id: SpanId,
        parent: SpanId,
        name: String,
        (start, length): (Duration, Duration),
    ) -> SpanData {
        let of = &self.context;
        let state = of.trace_state().clone();
        let start_time = self.at + start;
        SpanData {
            span_context: SpanContext::new(of.trace_id(), id, of.trace_flags(), false, state),
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time,
            end_time: start_time + length,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("headstart").build(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_the_share_asked_for_is_drawn() {
        let ids: Vec<[u8; 16]> = (0..4000u64)
            .map(|number| {
                let mut id = [0; 16];
                id[8..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
                id
            })
            .collect();
        let count = |share| ids.iter().filter(|id| drawn(**id, share)).count();
        assert_eq!((count(0.0), count(1.0)), (0, ids.len()));
        assert!((900..1100).contains(&count(0.25)), "{}", count(0.25));
        assert!(!drawn([255; 16], 0.999) && drawn([255; 16], 1.0));
    }
}
