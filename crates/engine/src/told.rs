//! What ONNX Runtime says, as lines of the log.

use std::sync::Arc;

use ort::logging::{LogLevel, LoggerFunction};

/// How a line begins that tells of an operator that failed in a call. The call's error says the same to whoever made it.
const FAILED_CALL: &str = "Non-zero status code returned while running";

/// What stands before the operator's own words, which may have values of a request in them.
const STATUS: &str = " Status Message:";

/// Passes lines on.
pub(crate) fn logger() -> LoggerFunction {
    Arc::new(|level: LogLevel, _: &str, _: &str, _: &str, message: &str| {
        let message = message.trim_end();
        match failed_call(message) {
            Some(operator) => tracing::debug!(target: "ort::logging", "{operator}"),
            None => pass(level, message),
        }
    })
}

fn pass(level: LogLevel, message: &str) {
    match level {
        LogLevel::Verbose => tracing::trace!(target: "ort::logging", "{message}"),
        LogLevel::Info => tracing::info!(target: "ort::logging", "{message}"),
        LogLevel::Warning => tracing::warn!(target: "ort::logging", "{message}"),
        LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "ort::logging", "{message}"),
    }
}

/// Which operator failed, where a line tells of a call: any client can make one fail, as often as it likes.
fn failed_call(message: &str) -> Option<&str> {
    message.starts_with(FAILED_CALL).then(|| message.split(STATUS).next().unwrap_or(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_failed_is_told_by_its_operator_and_without_what_was_in_it() {
        let line = "Non-zero status code returned while running Gather node. Name:'rows' Status Message: indices element \
                    out of data bounds, idx=999999";
        assert_eq!(
            failed_call(line),
            Some("Non-zero status code returned while running Gather node. Name:'rows'")
        );
        assert_eq!(failed_call("CUDA failure 2: out of memory"), None);
    }
}
