//! Every metric of the service: typed handles, base units last in the name, closed label sets, all present at zero.

use std::time::Duration;

use prometheus::{
    Counter, Encoder, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder, core::Collector,
};

use crate::edges::EdgeMetrics;
use crate::labels::{GATE_VERDICTS, JOB_STAGES, JOB_STATES, JobEnd, Reason, WebhookEnd};
use crate::model::{ModelFamilies, ModelMetrics};
use crate::process;
use crate::requests::RequestMetrics;
use crate::shadow::ShadowFamily;

/// Hits, misses and size of one cache.
#[derive(Debug, Clone)]
pub struct CacheMetrics {
    /// Look-ups answered from the cache.
    pub hits_total: IntCounter,
    /// Look-ups that were not.
    pub misses_total: IntCounter,
    /// Bytes held.
    pub bytes: IntGauge,
    /// Entries held.
    pub entries: IntGauge,
}

/// All series.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// What becomes of requests.
    pub requests: RequestMetrics,
    /// Panics caught in request handlers or lanes.
    pub panics_total: IntCounter,
    /// Who is let in, and over what.
    pub edges: EdgeMetrics,
    rejections_total: IntCounterVec,
    cache_hits_total: IntCounterVec,
    cache_misses_total: IntCounterVec,
    cache_bytes: IntGaugeVec,
    cache_entries: IntGaugeVec,
    /// Lanes that exist.
    pub lanes: IntGauge,
    /// Lanes inside a call, those of bulk work with them.
    pub lanes_busy: IntGauge,
    /// Of these, those of bulk work, which make way for the others.
    pub bulk_lanes_busy: IntGauge,
    /// One while the server takes work.
    pub ready: IntGauge,
    /// What the data folder holds, and who works on it.
    pub data: DataMetrics,
    /// What was removed because nobody needs it.
    pub sweep: SweepMetrics,
    jobs: IntGaugeVec,
    jobs_ended_total: IntCounterVec,
    gate_verdicts_total: IntCounterVec,
    job_stage_seconds: HistogramVec,
    shadow_items_total: IntCounterVec,
    model: ModelFamilies,
    process: ProcessGauges,
}

/// What the data folder holds, and who works on it.
#[derive(Debug, Clone)]
pub struct DataMetrics {
    /// Seconds the oldest queued job has waited.
    pub jobs_oldest_queued_seconds: Gauge,
    /// Running jobs whose worker gives no sign of life.
    pub jobs_stalled: IntGauge,
    /// Workers of this process.
    pub workers: IntGauge,
    /// Versions of classifiers that answer.
    pub classifier_versions: IntGauge,
    /// Classifiers of which something could not be loaded.
    pub classifiers_broken: IntGauge,
    /// Ends of jobs that are still to be told.
    pub webhooks_waiting: IntGauge,
    /// Seconds since the oldest of them happened.
    pub webhooks_oldest_waiting_seconds: Gauge,
    /// Ends of jobs that were given up.
    pub webhooks_given_up: IntGauge,
    webhook_attempts_total: IntCounterVec,
    /// Bytes left on the disk of the data folder.
    pub disk_free_bytes: IntGauge,
    /// Bytes of the disk of the data folder.
    pub disk_bytes: IntGauge,
}

/// What was removed because nobody needs it.
#[derive(Debug, Clone)]
pub struct SweepMetrics {
    /// Files whose time was over.
    pub files_total: IntCounter,
    /// Blobs that no row named.
    pub blobs_total: IntCounter,
    /// Bytes of those blobs.
    pub freed_bytes_total: IntCounter,
    /// Parts of a sweep that failed.
    pub errors_total: IntCounter,
    /// When a sweep last went well, in seconds since the epoch; before the first, when sweeping began.
    pub last_success_timestamp_seconds: IntGauge,
}

#[derive(Debug, Clone)]
struct ProcessGauges {
    resident_memory_bytes: IntGauge,
    peak_resident_memory_bytes: IntGauge,
    cpu_seconds_total: Counter,
    open_files: IntGauge,
    threads: IntGauge,
}

/// Creates metrics under the project's prefix and registers them; a name used twice is a defect found by any start.
pub(crate) struct Family<'a>(&'a Registry);

impl Family<'_> {
    pub(crate) fn add<C: Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<C>,
    ) -> prometheus::Result<C> {
        let collector = made?;
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    pub(crate) fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(IntCounter::with_opts(options(name, help)))
    }

    pub(crate) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.add(IntCounterVec::new(options(name, help), labels))
    }

    pub(crate) fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(IntGauge::with_opts(options(name, help)))
    }

    pub(crate) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(options(name, help), labels))
    }

    pub(crate) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts::new(format!("headstart_{name}"), help).buckets(buckets.to_vec());
        self.add(HistogramVec::new(options, labels))
    }
}

pub(crate) fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("headstart_{name}"), help)
}

/// From a tenth of a millisecond to a minute, about two and a half buckets a decade.
pub(crate) const SECONDS: [f64; 17] =
    [1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
const STAGE_SECONDS: [f64; 9] = [0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0];

impl Metrics {
    /// Registers every family.
    ///
    /// # Errors
    /// When a name or label is invalid or used twice.
    pub fn new(version: &str) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let family = Family(&registry);
        let build = family.gauges("build_info", "One, labelled with the version that runs.", &["version"])?;
        build.with_label_values(&[version]).set(1);
        Ok(Self {
            requests: RequestMetrics::new(&family)?,
            panics_total: family.counter("panics_total", "Panics caught in request handlers or lanes.")?,
            edges: EdgeMetrics::new(&family)?,
            rejections_total: family.counters(
                "rejections_total",
                "Requests refused before they cost anything, by reason.",
                &["reason"],
            )?,
            cache_hits_total: family.counters(
                "cache_hits_total",
                "Look-ups answered from a cache.",
                &["cache"],
            )?,
            cache_misses_total: family.counters(
                "cache_misses_total",
                "Look-ups a cache did not have.",
                &["cache"],
            )?,
            cache_bytes: family.gauges("cache_bytes", "Bytes a cache holds.", &["cache"])?,
            cache_entries: family.gauges("cache_entries", "Entries a cache holds.", &["cache"])?,
            lanes: family.gauge("lanes", "Lanes that run models.")?,
            lanes_busy: family.gauge("lanes_busy", "Lanes inside a call of ONNX Runtime.")?,
            bulk_lanes_busy: family
                .gauge("bulk_lanes_busy", "Lanes inside a call of bulk work, which makes way for requests.")?,
            ready: family
                .gauge("ready", "One while the server takes work, zero while it starts or drains.")?,
            data: DataMetrics::new(&family)?,
            sweep: SweepMetrics::new(&family)?,
            jobs: family.gauges("jobs", "Jobs that are not over, by state.", &["state"])?,
            jobs_ended_total: family.counters(
                "jobs_ended_total",
                "Jobs that this process worked on, by how that ended.",
                &["outcome"],
            )?,
            gate_verdicts_total: family.counters(
                "gate_verdicts_total",
                "Versions that a gate compared with production, by what it found.",
                &["verdict"],
            )?,
            job_stage_seconds: family.histograms(
                "job_stage_seconds",
                "Seconds of one stage of a job.",
                &["stage"],
                &STAGE_SECONDS,
            )?,
            shadow_items_total: family.counters(
                "shadow_items_total",
                "Items that a shadow version scored along, by whether it said the same as the version that answered.",
                &["classifier", "outcome"],
            )?,
            model: ModelFamilies::new(&family)?,
            process: ProcessGauges::new(&family)?,
            registry,
        }
        .at_zero())
    }

    /// Closed sets of labels are there before anything is counted.
    fn at_zero(self) -> Self {
        for reason in Reason::ALL {
            self.rejections_total.with_label_values(&[reason.as_str()]);
        }
        for end in JobEnd::ALL {
            self.jobs_ended_total.with_label_values(&[end.as_str()]);
        }
        for end in WebhookEnd::ALL {
            self.data.webhook_attempts_total.with_label_values(&[end.as_str()]);
        }
        GATE_VERDICTS.iter().for_each(|verdict| drop(self.gate_verdicts_total.with_label_values(&[verdict])));
        JOB_STATES.iter().for_each(|state| drop(self.jobs.with_label_values(&[state])));
        JOB_STAGES.iter().for_each(|stage| drop(self.job_stage_seconds.with_label_values(&[stage])));
        self
    }

    /// The series of one backbone, at zero on the first call.
    #[must_use]
    pub fn for_model(&self, id: &str) -> ModelMetrics {
        self.model.of(id)
    }

    /// Takes the series of a backbone away. Who still holds [`Self::for_model`]'s goes on counting unseen.
    pub fn forget_model(&self, id: &str) {
        self.model.forget(id);
    }

    /// The series of one cache, at zero on the first call.
    #[must_use]
    pub fn for_cache(&self, cache: &str) -> CacheMetrics {
        CacheMetrics {
            hits_total: self.cache_hits_total.with_label_values(&[cache]),
            misses_total: self.cache_misses_total.with_label_values(&[cache]),
            bytes: self.cache_bytes.with_label_values(&[cache]),
            entries: self.cache_entries.with_label_values(&[cache]),
        }
    }

    /// Counts a refusal.
    pub fn reject(&self, reason: Reason) {
        self.rejections_total.with_label_values(&[reason.as_str()]).inc();
    }

    /// States the jobs that are not over; states that are not given have none.
    pub fn set_jobs(&self, counts: &[(&str, u64)]) {
        for state in JOB_STATES {
            let count = counts.iter().find(|(name, _)| *name == state).map_or(0, |(_, count)| *count);
            self.jobs.with_label_values(&[state]).set(count.cast_signed());
        }
    }

    /// Counts what a gate found: `not_worse`, `worse` or `not_enough_evidence`.
    pub fn count_gate(&self, verdict: &str) {
        self.gate_verdicts_total.with_label_values(&[verdict]).inc();
    }

    /// Counts the end of a worker's hold on a job.
    pub fn end_job(&self, end: JobEnd) {
        self.jobs_ended_total.with_label_values(&[end.as_str()]).inc();
    }

    /// Counts what came of an attempt to tell somebody of a job's end.
    pub fn count_webhook(&self, end: WebhookEnd) {
        self.data.webhook_attempts_total.with_label_values(&[end.as_str()]).inc();
    }

    /// The series of versions that score along.
    #[must_use]
    pub fn shadows(&self) -> ShadowFamily {
        ShadowFamily::new(self.shadow_items_total.clone())
    }

    /// Observes a stage of a job.
    pub fn observe_stage(&self, stage: &'static str, duration: Duration) {
        self.job_stage_seconds.with_label_values(&[stage]).observe(duration.as_secs_f64());
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// When a family cannot be encoded.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        self.process.refresh();
        let mut text = Vec::with_capacity(32 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl DataMetrics {
    fn new(family: &Family<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            jobs_oldest_queued_seconds: family.add(Gauge::with_opts(options(
                "jobs_oldest_queued_seconds",
                "Seconds the oldest queued job has waited; zero when none waits.",
            )))?,
            classifier_versions: family
                .gauge("classifier_versions", "Versions of classifiers that answer.")?,
            classifiers_broken: family
                .gauge("classifiers_broken", "Classifiers of which something could not be loaded.")?,
            jobs_stalled: family
                .gauge("jobs_stalled", "Running jobs whose worker has given no sign of life for a lease.")?,
            workers: family.gauge("workers", "Workers of this process.")?,
            webhooks_waiting: family
                .gauge("webhooks_waiting", "Ends of jobs that are still to be told to somebody.")?,
            webhooks_oldest_waiting_seconds: family.add(Gauge::with_opts(options(
                "webhooks_oldest_waiting_seconds",
                "Seconds since the oldest end that is still to be told; zero when none is.",
            )))?,
            webhooks_given_up: family
                .gauge("webhooks_given_up", "Ends of jobs that could not be told and are tried no more.")?,
            webhook_attempts_total: family.counters(
                "webhook_attempts_total",
                "Attempts of this process to tell somebody of a job's end, by what came of them.",
                &["outcome"],
            )?,
            disk_free_bytes: family
                .gauge("data_disk_free_bytes", "Bytes left on the disk of the data folder.")?,
            disk_bytes: family.gauge("data_disk_bytes", "Bytes of the disk of the data folder.")?,
        })
    }
}

impl SweepMetrics {
    fn new(family: &Family<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            files_total: family.counter("sweep_files_total", "Files deleted because their time was over.")?,
            blobs_total: family.counter("sweep_blobs_total", "Blobs removed because nothing named them.")?,
            freed_bytes_total: family
                .counter("sweep_freed_bytes_total", "Bytes of blobs that were removed.")?,
            errors_total: family.counter("sweep_errors_total", "Parts of a sweep that failed.")?,
            last_success_timestamp_seconds: family.gauge(
                "sweep_last_success_timestamp_seconds",
                "When a sweep last went well, in seconds since the epoch; before the first, when sweeping began.",
            )?,
        })
    }
}

impl ProcessGauges {
    fn new(family: &Family<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            resident_memory_bytes: family
                .gauge("process_resident_memory_bytes", "Resident memory in bytes.")?,
            peak_resident_memory_bytes: family
                .gauge("process_peak_resident_memory_bytes", "Largest resident memory so far in bytes.")?,
            cpu_seconds_total: family.add(Counter::with_opts(options(
                "process_cpu_seconds_total",
                "CPU time used by all threads.",
            )))?,
            open_files: family.gauge("process_open_files", "Open file descriptors.")?,
            threads: family.gauge("process_threads", "Threads of the process.")?,
        })
    }

    fn refresh(&self) {
        self.resident_memory_bytes.set(process::resident_bytes().cast_signed());
        self.peak_resident_memory_bytes.set(process::peak_resident_bytes().cast_signed());
        let used = process::cpu_seconds() - self.cpu_seconds_total.get();
        self.cpu_seconds_total.inc_by(used.max(0.0));
        self.open_files.set(process::open_files().cast_signed());
        self.threads.set(process::threads().cast_signed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Outcome;

    #[test]
    fn every_series_is_there_at_zero_before_the_first_request() {
        let metrics = Metrics::new("0.0.0").unwrap();
        metrics.requests.register("/v1/embeddings", "POST");
        let _ = (metrics.for_model("m"), metrics.for_cache("features"));
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        for line in [
            "headstart_requests_total{method=\"POST\",route=\"/v1/embeddings\",status=\"200\"} 0",
            "headstart_rejections_total{reason=\"queue_full\"} 0",
            "headstart_items_total{model=\"m\",outcome=\"expired\"} 0",
            "headstart_cache_hits_total{cache=\"features\"} 0",
            "headstart_queue_items{model=\"m\"} 0",
            "headstart_queue_wait_seconds_count{class=\"interactive\",model=\"m\"} 0",
            "headstart_queue_wait_seconds_count{class=\"bulk\",model=\"m\"} 0",
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
        assert!(
            text.lines().filter(|line| !line.starts_with('#')).all(|line| line.starts_with("headstart_"))
        );
    }

    #[test]
    fn of_a_model_that_is_forgotten_no_series_stays() {
        let metrics = Metrics::new("0.0.0").unwrap();
        let _ = (metrics.for_model("gone"), metrics.for_model("there"));
        let told = |id: &str| {
            let text = String::from_utf8(metrics.render().unwrap()).unwrap();
            text.lines().filter(|line| line.contains(&format!("model=\"{id}\""))).count()
        };
        let all = told("there");
        assert!(all > 20 && told("gone") == all);
        metrics.forget_model("gone");
        assert_eq!((told("gone"), told("there")), (0, all));
    }

    #[test]
    fn outcomes_are_counted_under_their_own_label() {
        let metrics = Metrics::new("0.0.0").unwrap();
        let model = metrics.for_model("m");
        for (count, outcome) in (1..).zip(Outcome::ALL) {
            model.count(outcome, count);
        }
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        for (count, outcome) in (1..).zip(Outcome::ALL) {
            let line =
                format!("headstart_items_total{{model=\"m\",outcome=\"{}\"}} {count}", outcome.as_str());
            assert!(text.contains(&line), "{line} is missing");
        }
    }
}
