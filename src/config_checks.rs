//! Options that are out of range, or contradict each other.

use headstart_tasks::MOST_LABELS;
use headstart_types::MOST_ITEMS;

use super::{Config, ConfigError, DeviceName};
use crate::traces::Endpoint;

impl Config {
    /// Whether values are in range and agree with each other.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |option, problem: &str| Err(ConfigError::Value { option, problem: problem.into() });
        for (option, value) in [
            ("lanes", self.lanes),
            ("http-threads", self.http_threads),
            ("queue-items", self.queue_items),
            ("max-items", self.max_items),
            ("max-labels", self.max_labels),
            ("max-text-bytes", self.max_text_bytes),
            ("max-body-bytes", self.max_body_bytes),
            ("max-connections", self.max_connections),
        ] {
            if value == 0 {
                return refuse(option, "must be at least 1");
            }
        }
        for (option, value, most) in [
            ("lanes", self.lanes, 1024),
            ("http-threads", self.http_threads, 1024),
            ("max-items", self.max_items, MOST_ITEMS),
            ("max-labels", self.max_labels, MOST_LABELS),
        ] {
            if value > most {
                return refuse(option, &format!("must be at most {most}"));
            }
        }
        if self.max_items > self.queue_items {
            // Otherwise a list could be refused for its size alone, however idle the server is.
            return refuse(
                "max-items",
                &format!("is {}; it must not exceed queue-items, {}", self.max_items, self.queue_items),
            );
        }
        if self.request_timeout_ms == 0 {
            return refuse("request-timeout-ms", "must be at least 1");
        }
        if !(1..=86_400).contains(&self.max_audio_seconds) {
            return refuse("max-audio-seconds", "must be between 1 and 86400");
        }
        if self.max_image_pixels == 0 {
            return refuse("max-image-pixels", "must be at least 1");
        }
        if !(1..=3600).contains(&self.lease_seconds) {
            return refuse("lease-seconds", "must be between 1 and 3600");
        }
        if !(1..=3600).contains(&self.sweep_seconds) {
            return refuse("sweep-seconds", "must be between 1 and 3600");
        }
        for (option, days) in [
            ("file-retention-days", self.file_retention_days),
            ("audit-retention-days", self.audit_retention_days),
        ] {
            if days > 36_500 {
                return refuse(option, "must be at most 36500");
            }
        }
        if self.workers > 64 {
            return refuse("workers", "must be at most 64");
        }
        if self.key_running_jobs == 0 {
            return refuse("key-running-jobs", "must be at least 1");
        }
        if self.require_cuda && self.device == DeviceName::Cpu {
            return refuse("require-cuda", "needs `device` to be cuda");
        }
        if !self.webhook_hosts.is_empty() && self.webhook_secret.is_empty() {
            return refuse("webhook-hosts", "needs a `webhook-secret`: nobody is told anything unsigned");
        }
        if let Some(url) = &self.webhook_url {
            self.webhook_hosts.target(url)?;
        }
        self.check_edges()
    }

    /// What is said of who may ask, over what, and who is told of it.
    fn check_edges(&self) -> Result<(), ConfigError> {
        let refuse = |option, problem: String| Err(ConfigError::Value { option, problem });
        match (&self.tls_certificate, &self.tls_key) {
            (Some(_), None) => return refuse("tls-certificate", "needs `tls-key`".into()),
            (None, Some(_)) => return refuse("tls-key", "needs `tls-certificate`".into()),
            (Some(_), Some(_)) | (None, None) => {}
        }
        if let Err(problem) = check_origins(&self.cors_origins) {
            return refuse("cors-origins", problem);
        }
        if let Some(Err(error)) = self.otlp_endpoint.as_deref().map(Endpoint::parse) {
            return refuse("otlp-endpoint", format!("{error}"));
        }
        for (option, share) in [("otlp-share", self.otlp_share), ("access-log", self.access_log)] {
            if !(0.0..=1.0).contains(&share) {
                return refuse(option, "must be between 0 and 1".into());
            }
        }
        Ok(())
    }

    /// Refuses to serve other machines without keys unless told to; only a server listens. `keys` says whether keys are
    /// asked for.
    ///
    /// # Errors
    /// [`ConfigError::Value`] naming the option.
    pub fn check_exposure(&self, keys: bool) -> Result<(), ConfigError> {
        if self.listen.ip().is_loopback() || keys || self.allow_unauthenticated {
            return Ok(());
        }
        let problem = format!(
            "is {}, which other machines can reach, and there is no key: make one with `headstart keys add`, set `api-keys`, \
             or `allow-unauthenticated` if anyone may use the service",
            self.listen
        );
        Err(ConfigError::Value { option: "listen", problem })
    }
}

/// Refuses what is no origin, with what is wrong.
fn check_origins(origins: &[String]) -> Result<(), String> {
    for origin in origins {
        if origin == "*" {
            if origins.len() > 1 {
                return Err("has `*` beside others".to_owned());
            }
            continue;
        }
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        if host.is_none_or(|host| host.is_empty() || !host.bytes().all(plain))
            || *origin != origin.to_lowercase()
        {
            return Err(format!(
                "`{origin}` is not `*` or an origin such as https://app.example.com, in lower case and without a path"
            ));
        }
    }
    Ok(())
}
