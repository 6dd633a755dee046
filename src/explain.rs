//! An error and its causes as one line, each said once.

/// The error, then its causes from the nearest on. Many libraries repeat their cause in their own text: such a cause
/// is left out.
#[must_use]
pub fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("`api-keys`: {0}")]
    struct Repeating(#[source] std::io::Error);

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        let cause = || std::io::Error::other("entry 1 is wrong");
        let repeated = anyhow::Error::new(Repeating(cause())).context("the start failed");
        assert_eq!(in_one_line(&repeated), "the start failed: `api-keys`: entry 1 is wrong");
        assert_eq!(in_one_line(&anyhow::Error::new(cause()).context("options")), "options: entry 1 is wrong");
    }
}
