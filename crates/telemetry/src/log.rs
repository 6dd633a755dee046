//! Log set-up: readable lines or one JSON object a line, on standard error.

use std::io::IsTerminal as _;

use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For log collectors: one JSON object a line.
    Json,
}

/// Target of the lines that tell who changed what.
const AUDIT: &str = "audit";

/// The filter as it is given; what it does not name, the audit, is told whatever it says of the rest.
fn filter_of(filter: &str) -> Result<EnvFilter, String> {
    let named = filter.split(',').any(|part| part.trim().split(['=', '[']).next() == Some(AUDIT));
    let with_audit = if named { filter.to_owned() } else { format!("{filter},{AUDIT}=info") };
    EnvFilter::try_new(with_audit.trim_start_matches(',')).map_err(|error| error.to_string())
}

/// Starts logging with a filter such as `info` or `headstart=debug,info`. Lines of the audit pass unless it names `audit`.
///
/// # Errors
/// The filter's own message when it does not parse. A second call is ignored: tests start many servers in one process.
pub fn start(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = filter_of(filter)?;
    let layer = match format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(std::io::stderr)
            .boxed(),
    };
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::filter_of;

    #[test]
    fn the_audit_is_told_unless_the_filter_names_it() {
        let shown = |filter: &str| filter_of(filter).unwrap().to_string();
        assert!(shown("warn").contains("audit=info") && shown("warn").contains("warn"));
        assert!(shown("headstart=debug").contains("audit=info"));
        assert!(shown("").contains("audit=info"));
        assert!(!shown("info,audit=off").contains("audit=info"));
        assert!(filter_of("headstart=loud").is_err());
    }
}
