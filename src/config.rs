//! Every option of the service: its name, default, unit and limit. File < environment < flag; nothing else reads the
//! environment.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, ValueEnum};
use headstart_telemetry::LogFormat;
use serde::{Deserialize, Serialize};

use crate::auth::{ApiKey, KeyError};
use crate::options_file::{self, FileError};
use crate::webhooks::{HostError, Hosts, SecretError, Secrets, UrlError};

/// Prefix of the environment's names.
const PREFIX: &str = "HEADSTART_";

/// Names under the prefix that are not ours: the test suite's, and those that Kubernetes gives every pod beside a
/// service named headstart.
const FOREIGN: [&str; 3] = ["HEADSTART_TEST_", "HEADSTART_PORT", "HEADSTART_SERVICE_"];

/// Options as they are given: by file, environment or flag. Absent means the default.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Address to listen on [default: 127.0.0.1:8080]
    #[arg(long, env = "HEADSTART_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Address where `headstart worker` shows its metrics and whether it is ready
    #[arg(long, env = "HEADSTART_WORKER_LISTEN", value_name = "ADDR")]
    pub worker_listen: Option<SocketAddr>,
    /// Folder with one sub-folder per backbone; repeatable, in the environment separated by ':' [default: models]
    #[arg(long, env = "HEADSTART_MODELS", value_name = "DIR", value_delimiter = ':')]
    pub models: Option<Vec<PathBuf>>,
    /// Folder for what the service keeps [default: data]
    #[arg(long, env = "HEADSTART_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The ONNX Runtime library; by default beside the executable, then under vendor/
    #[arg(long, env = "HEADSTART_ONNXRUNTIME", value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
    /// Where backbones run [default: cpu]
    #[arg(long, env = "HEADSTART_DEVICE", value_name = "DEVICE")]
    pub device: Option<DeviceName>,
    /// Number of the GPU [default: 0]
    #[arg(long, env = "HEADSTART_CUDA_DEVICE", value_name = "N")]
    pub cuda_device: Option<i32>,
    /// Refuse to start when CUDA is not usable, instead of running on the CPU [default: false]
    #[arg(long, env = "HEADSTART_REQUIRE_CUDA", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub require_cuda: Option<bool>,
    /// Threads that run models [default: the cores the process may use]
    #[arg(long, env = "HEADSTART_LANES", value_name = "N")]
    pub lanes: Option<usize>,
    /// Threads that parse requests and write answers [default: half the cores]
    #[arg(long, env = "HEADSTART_HTTP_THREADS", value_name = "N")]
    pub http_threads: Option<usize>,
    /// Most items waiting or being computed, per backbone [default: 4096]
    #[arg(long, env = "HEADSTART_QUEUE_ITEMS", value_name = "N")]
    pub queue_items: Option<usize>,
    /// Most items in one request; at most queue-items [default: 2048]
    #[arg(long, env = "HEADSTART_MAX_ITEMS", value_name = "N")]
    pub max_items: Option<usize>,
    /// Most labels in one request [default: 1000]
    #[arg(long, env = "HEADSTART_MAX_LABELS", value_name = "N")]
    pub max_labels: Option<usize>,
    /// Longest text in bytes [default: 1048576]
    #[arg(long, env = "HEADSTART_MAX_TEXT_BYTES", value_name = "BYTES")]
    pub max_text_bytes: Option<usize>,
    /// Largest request body in bytes [default: 67108864]
    #[arg(long, env = "HEADSTART_MAX_BODY_BYTES", value_name = "BYTES")]
    pub max_body_bytes: Option<usize>,
    /// Largest picture in pixels, from its header [default: 50000000]
    #[arg(long, env = "HEADSTART_MAX_IMAGE_PIXELS", value_name = "PIXELS")]
    pub max_image_pixels: Option<u64>,
    /// Longest sound in seconds, from its header or while it is decoded [default: 60]
    #[arg(long, env = "HEADSTART_MAX_AUDIO_SECONDS", value_name = "SECONDS")]
    pub max_audio_seconds: Option<u32>,
    /// Most open connections [default: 4096]
    #[arg(long, env = "HEADSTART_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,
    /// Memory for computed vectors in bytes; 0 keeps none [default: 33554432]
    #[arg(long, env = "HEADSTART_CACHE_BYTES", value_name = "BYTES")]
    pub cache_bytes: Option<u64>,
    /// Memory for loaded backbones in bytes; those asked longest ago make room for others; 0 sets no limit [default: 0]
    #[arg(long, env = "HEADSTART_MODEL_MEMORY", value_name = "BYTES")]
    pub model_memory: Option<u64>,
    /// Fine-tuning jobs at a time in this process; 0 leaves them to others [default: 1]
    #[arg(long, env = "HEADSTART_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// Largest uploaded file in bytes [default: 1073741824]
    #[arg(long, env = "HEADSTART_MAX_FILE_BYTES", value_name = "BYTES")]
    pub max_file_bytes: Option<u64>,
    /// Bytes of files a key may keep [default: 10737418240]
    #[arg(long, env = "HEADSTART_KEY_FILE_BYTES", value_name = "BYTES")]
    pub key_file_bytes: Option<u64>,
    /// Days after which an uploaded file is deleted that names no time of its own; 0 keeps it [default: 0]
    #[arg(long, env = "HEADSTART_FILE_RETENTION_DAYS", value_name = "DAYS")]
    pub file_retention_days: Option<u32>,
    /// Days after which acts leave the audit; 0 keeps them [default: 0]
    #[arg(long, env = "HEADSTART_AUDIT_RETENTION_DAYS", value_name = "DAYS")]
    pub audit_retention_days: Option<u32>,
    /// Time between two looks for what nobody needs any more, in seconds [default: 600]
    #[arg(long, env = "HEADSTART_SWEEP_SECONDS", value_name = "S")]
    pub sweep_seconds: Option<u32>,
    /// Jobs of a key that may wait [default: 100]
    #[arg(long, env = "HEADSTART_KEY_QUEUED_JOBS", value_name = "N")]
    pub key_queued_jobs: Option<u32>,
    /// Jobs of a key that may run at a time [default: 4]
    #[arg(long, env = "HEADSTART_KEY_RUNNING_JOBS", value_name = "N")]
    pub key_running_jobs: Option<u32>,
    /// Requests of a key in a minute, unless the key has a rate of its own; 0 is without limit [default: 0]
    #[arg(long, env = "HEADSTART_KEY_RATE", value_name = "N")]
    pub key_rate: Option<u32>,
    /// Requests of a key at a time, unless the key has a number of its own; 0 is without limit [default: 0]
    #[arg(long, env = "HEADSTART_KEY_CONCURRENCY", value_name = "N")]
    pub key_concurrency: Option<u32>,
    /// Items of a key's requests in a minute, unless the key has a number of its own; 0 is without limit [default: 0]
    #[arg(long, env = "HEADSTART_KEY_ITEMS", value_name = "N")]
    pub key_items: Option<u32>,
    /// How long a worker keeps a job without a sign of life, in seconds [default: 30]
    #[arg(long, env = "HEADSTART_LEASE_SECONDS", value_name = "S")]
    pub lease_seconds: Option<u32>,
    /// Longest time for one request in milliseconds; X-Request-Timeout-Ms may ask for less [default: 60000]
    #[arg(long, env = "HEADSTART_REQUEST_TIMEOUT_MS", value_name = "MS")]
    pub request_timeout_ms: Option<u64>,
    /// Time accepted work is given after a stop signal, in seconds [default: 30]
    #[arg(long, env = "HEADSTART_DRAIN_SECONDS", value_name = "S")]
    pub drain_seconds: Option<u64>,
    /// Time after a stop signal in which new connections are still accepted, in milliseconds [default: 500]
    #[arg(long, env = "HEADSTART_DRAIN_NOTICE_MS", value_name = "MS")]
    pub drain_notice_ms: Option<u64>,
    /// Keys as name:scope[+scope]:key, separated by commas; scopes are infer, train, admin
    #[arg(long, env = "HEADSTART_API_KEYS", value_name = "KEYS", hide_env_values = true)]
    pub api_keys: Option<String>,
    /// Serve other machines without keys [default: false]
    #[arg(
        long,
        env = "HEADSTART_ALLOW_UNAUTHENTICATED",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub allow_unauthenticated: Option<bool>,
    /// Hosts that may be told of the ends of jobs, as host or host:port; repeatable, or separated by ','
    #[arg(long, env = "HEADSTART_WEBHOOK_HOSTS", value_name = "HOSTS", value_delimiter = ',')]
    pub webhook_hosts: Option<Vec<String>>,
    /// URL that is told of the ends of jobs that name none themselves
    #[arg(long, env = "HEADSTART_WEBHOOK_URL", value_name = "URL")]
    pub webhook_url: Option<String>,
    /// What webhooks are signed with: whsec_ and base64; two, separated by ',', while one replaces the other
    #[arg(long, env = "HEADSTART_WEBHOOK_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub webhook_secret: Option<String>,
    /// Certificate chain in PEM; with it the service speaks TLS
    #[arg(long, env = "HEADSTART_TLS_CERTIFICATE", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// Private key of the certificate in PEM
    #[arg(long, env = "HEADSTART_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Origins whose pages may ask, such as `https://app.example.com`, or `*`; repeatable, or separated by ','
    #[arg(long, env = "HEADSTART_CORS_ORIGINS", value_name = "ORIGINS", value_delimiter = ',')]
    pub cors_origins: Option<Vec<String>>,
    /// OpenTelemetry collector that gets traces by OTLP over HTTP, such as http://collector:4318
    #[arg(long, env = "HEADSTART_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Share of requests that are traced where the caller does not say, 0 to 1 [default: 1]
    #[arg(long, env = "HEADSTART_OTLP_SHARE", value_name = "SHARE")]
    pub otlp_share: Option<f64>,
    /// Share of answers that are logged, 0 to 1; above 0 errors and slow answers all are [default: 0]
    #[arg(long, env = "HEADSTART_ACCESS_LOG", value_name = "SHARE")]
    pub access_log: Option<f64>,
    /// From when on an answer is slow, in milliseconds [default: 1000]
    #[arg(long, env = "HEADSTART_SLOW_MS", value_name = "MS")]
    pub slow_ms: Option<u64>,
    /// Shape of log lines [default: text]
    #[arg(long, env = "HEADSTART_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormatName>,
    /// What is logged, such as `info` or `headstart=debug,info` [default: info,ort=warn]
    #[arg(long, env = "HEADSTART_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

/// Where backbones run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DeviceName {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormatName {
    /// For people.
    Text,
    /// For log collectors.
    Json,
}

impl From<LogFormatName> for LogFormat {
    fn from(name: LogFormatName) -> Self {
        match name {
            LogFormatName::Text => Self::Text,
            LogFormatName::Json => Self::Json,
        }
    }
}

/// The options in force.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "each field is documented by the option of the same name")]
pub struct Config {
    pub listen: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_listen: Option<SocketAddr>,
    pub models: Vec<PathBuf>,
    pub data: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onnxruntime: Option<PathBuf>,
    pub device: DeviceName,
    pub cuda_device: i32,
    pub require_cuda: bool,
    pub lanes: usize,
    pub http_threads: usize,
    pub queue_items: usize,
    pub max_items: usize,
    pub max_labels: usize,
    pub max_text_bytes: usize,
    pub max_body_bytes: usize,
    pub max_image_pixels: u64,
    pub max_audio_seconds: u32,
    pub max_connections: usize,
    pub cache_bytes: u64,
    pub model_memory: u64,
    pub workers: usize,
    pub max_file_bytes: u64,
    pub key_file_bytes: u64,
    pub file_retention_days: u32,
    pub audit_retention_days: u32,
    pub sweep_seconds: u32,
    pub key_queued_jobs: u32,
    pub key_running_jobs: u32,
    pub key_rate: u32,
    pub key_concurrency: u32,
    pub key_items: u32,
    pub lease_seconds: u32,
    pub request_timeout_ms: u64,
    pub drain_seconds: u64,
    pub drain_notice_ms: u64,
    #[serde(skip)]
    pub api_keys: Vec<ApiKey>,
    pub allow_unauthenticated: bool,
    pub webhook_hosts: Hosts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
    #[serde(skip)]
    pub webhook_secret: Secrets,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    pub cors_origins: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    pub otlp_share: f64,
    pub access_log: f64,
    pub slow_ms: u64,
    pub log_format: LogFormatName,
    pub log: String,
}

/// Why the options cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A name under the prefix that is no option.
    #[error("the environment variable `{0}` is not an option of headstart")]
    UnknownVariable(String),
    /// A value out of range, or two that contradict each other.
    #[error("`{option}` {problem}")]
    Value {
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The keys cannot be read.
    #[error("`api-keys`: {0}")]
    Keys(#[from] KeyError),
    /// An entry of the list is no host.
    #[error("`webhook-hosts`: {0}")]
    WebhookHosts(#[from] HostError),
    /// It leads to no host of the list.
    #[error("`webhook-url` {0}")]
    WebhookUrl(#[from] UrlError),
    /// It cannot be read.
    #[error("`webhook-secret` {0}")]
    WebhookSecret(#[from] SecretError),
}

impl Config {
    /// Joins flags and environment, which clap has already merged in that order, with the file below them.
    ///
    /// # Errors
    /// [`ConfigError`] naming the option.
    pub fn load(given: Options, file: Option<&Path>) -> Result<Self, ConfigError> {
        refuse_unknown_variables()?;
        let below = file.map(options_file::read).transpose()?.unwrap_or_default();
        Self::resolve(given.or(below))
    }

    /// Fills in defaults and checks limits.
    ///
    /// # Errors
    /// [`ConfigError`] naming the option.
    pub fn resolve(options: Options) -> Result<Self, ConfigError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let config = Self {
            listen: options.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080))),
            worker_listen: options.worker_listen,
            models: options.models.unwrap_or_else(|| vec!["models".into()]),
            data: options.data.unwrap_or_else(|| "data".into()),
            onnxruntime: options.onnxruntime,
            device: options.device.unwrap_or(DeviceName::Cpu),
            cuda_device: options.cuda_device.unwrap_or(0),
            require_cuda: options.require_cuda.unwrap_or(false),
            lanes: options.lanes.unwrap_or(cores),
            http_threads: options.http_threads.unwrap_or((cores / 2).max(1)),
            queue_items: options.queue_items.unwrap_or(4096),
            max_items: options.max_items.unwrap_or(2048),
            max_labels: options.max_labels.unwrap_or(1000),
            max_text_bytes: options.max_text_bytes.unwrap_or(1 << 20),
            max_body_bytes: options.max_body_bytes.unwrap_or(64 << 20),
            max_image_pixels: options.max_image_pixels.unwrap_or(50_000_000),
            max_audio_seconds: options.max_audio_seconds.unwrap_or(60),
            max_connections: options.max_connections.unwrap_or(4096),
            cache_bytes: options.cache_bytes.unwrap_or(32 << 20),
            model_memory: options.model_memory.unwrap_or(0),
            workers: options.workers.unwrap_or(1),
            max_file_bytes: options.max_file_bytes.unwrap_or(1 << 30),
            key_file_bytes: options.key_file_bytes.unwrap_or(10 << 30),
            file_retention_days: options.file_retention_days.unwrap_or(0),
            audit_retention_days: options.audit_retention_days.unwrap_or(0),
            sweep_seconds: options.sweep_seconds.unwrap_or(600),
            key_queued_jobs: options.key_queued_jobs.unwrap_or(100),
            key_running_jobs: options.key_running_jobs.unwrap_or(4),
            key_rate: options.key_rate.unwrap_or(0),
            key_concurrency: options.key_concurrency.unwrap_or(0),
            key_items: options.key_items.unwrap_or(0),
            lease_seconds: options.lease_seconds.unwrap_or(30),
            request_timeout_ms: options.request_timeout_ms.unwrap_or(60_000),
            drain_seconds: options.drain_seconds.unwrap_or(30),
            drain_notice_ms: options.drain_notice_ms.unwrap_or(500),
            api_keys: ApiKey::parse_list(options.api_keys.as_deref().unwrap_or_default())?,
            allow_unauthenticated: options.allow_unauthenticated.unwrap_or(false),
            webhook_hosts: Hosts::parse(&options.webhook_hosts.unwrap_or_default())?,
            webhook_url: options.webhook_url,
            webhook_secret: Secrets::parse_list(options.webhook_secret.as_deref().unwrap_or_default())?,
            tls_certificate: options.tls_certificate,
            tls_key: options.tls_key,
            cors_origins: options.cors_origins.unwrap_or_default(),
            otlp_endpoint: options.otlp_endpoint,
            otlp_share: options.otlp_share.unwrap_or(1.0),
            access_log: options.access_log.unwrap_or(0.0),
            slow_ms: options.slow_ms.unwrap_or(1000),
            log_format: options.log_format.unwrap_or(LogFormatName::Text),
            log: options.log.unwrap_or_else(|| "info,ort=warn".into()),
        };
        config.check()?;
        Ok(config)
    }

    /// The options in force as a file of options; secrets are left out, and a comment says of each that it is set.
    ///
    /// # Errors
    /// When a value has no TOML form.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let mut text = toml::to_string(self)?;
        let keys: Vec<String> = self.api_keys.iter().map(ApiKey::without_secret).collect();
        if !keys.is_empty() {
            text.push_str(&format!("# api_keys is set and not shown: {}\n", keys.join(", ")));
        }
        if !self.webhook_secret.is_empty() {
            text.push_str("# webhook_secret is set and not shown\n");
        }
        Ok(text)
    }
}

impl Options {
    /// Values of `self`, and where there are none, those of `below`.
    #[must_use]
    pub fn or(self, below: Self) -> Self {
        Self {
            listen: self.listen.or(below.listen),
            worker_listen: self.worker_listen.or(below.worker_listen),
            models: self.models.or(below.models),
            data: self.data.or(below.data),
            onnxruntime: self.onnxruntime.or(below.onnxruntime),
            device: self.device.or(below.device),
            cuda_device: self.cuda_device.or(below.cuda_device),
            require_cuda: self.require_cuda.or(below.require_cuda),
            lanes: self.lanes.or(below.lanes),
            http_threads: self.http_threads.or(below.http_threads),
            queue_items: self.queue_items.or(below.queue_items),
            max_items: self.max_items.or(below.max_items),
            max_labels: self.max_labels.or(below.max_labels),
            max_text_bytes: self.max_text_bytes.or(below.max_text_bytes),
            max_body_bytes: self.max_body_bytes.or(below.max_body_bytes),
            max_image_pixels: self.max_image_pixels.or(below.max_image_pixels),
            max_audio_seconds: self.max_audio_seconds.or(below.max_audio_seconds),
            max_connections: self.max_connections.or(below.max_connections),
            cache_bytes: self.cache_bytes.or(below.cache_bytes),
            model_memory: self.model_memory.or(below.model_memory),
            workers: self.workers.or(below.workers),
            max_file_bytes: self.max_file_bytes.or(below.max_file_bytes),
            key_file_bytes: self.key_file_bytes.or(below.key_file_bytes),
            file_retention_days: self.file_retention_days.or(below.file_retention_days),
            audit_retention_days: self.audit_retention_days.or(below.audit_retention_days),
            sweep_seconds: self.sweep_seconds.or(below.sweep_seconds),
            key_queued_jobs: self.key_queued_jobs.or(below.key_queued_jobs),
            key_running_jobs: self.key_running_jobs.or(below.key_running_jobs),
            key_rate: self.key_rate.or(below.key_rate),
            key_concurrency: self.key_concurrency.or(below.key_concurrency),
            key_items: self.key_items.or(below.key_items),
            lease_seconds: self.lease_seconds.or(below.lease_seconds),
            request_timeout_ms: self.request_timeout_ms.or(below.request_timeout_ms),
            drain_seconds: self.drain_seconds.or(below.drain_seconds),
            drain_notice_ms: self.drain_notice_ms.or(below.drain_notice_ms),
            api_keys: self.api_keys.or(below.api_keys),
            allow_unauthenticated: self.allow_unauthenticated.or(below.allow_unauthenticated),
            webhook_hosts: self.webhook_hosts.or(below.webhook_hosts),
            webhook_url: self.webhook_url.or(below.webhook_url),
            webhook_secret: self.webhook_secret.or(below.webhook_secret),
            tls_certificate: self.tls_certificate.or(below.tls_certificate),
            tls_key: self.tls_key.or(below.tls_key),
            cors_origins: self.cors_origins.or(below.cors_origins),
            otlp_endpoint: self.otlp_endpoint.or(below.otlp_endpoint),
            otlp_share: self.otlp_share.or(below.otlp_share),
            access_log: self.access_log.or(below.access_log),
            slow_ms: self.slow_ms.or(below.slow_ms),
            log_format: self.log_format.or(below.log_format),
            log: self.log.or(below.log),
        }
    }
}

/// Whether an option has this name in a file.
pub(crate) fn is_option(name: &str) -> bool {
    known_variables().contains(&format!("{PREFIX}{}", name.to_uppercase()))
}

fn refuse_unknown_variables() -> Result<(), ConfigError> {
    let known = known_variables();
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let foreign = FOREIGN.iter().any(|prefix| name.starts_with(prefix));
        if name.starts_with(PREFIX) && !foreign && !known.contains(name.as_ref()) {
            return Err(ConfigError::UnknownVariable(name.into_owned()));
        }
    }
    Ok(())
}

/// Every variable that some option of some command reads.
fn known_variables() -> BTreeSet<String> {
    let command = crate::cli::Cli::command();
    let mut known = BTreeSet::new();
    for command in std::iter::once(&command).chain(command.get_subcommands()) {
        known.extend(
            command
                .get_arguments()
                .filter_map(|arg| arg.get_env())
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    known
}

#[path = "config_checks.rs"]
mod checks;
#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
