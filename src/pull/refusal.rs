//! Why the hub gave nothing, and whether asking again may help.

use std::time::Duration;

/// Longest wait that the hub may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The first wait between two attempts; each further one is twice as long, up to the second.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Most characters of what the hub says that are shown.
const SAID: usize = 300;

/// Why the hub gave nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum HubError {
    #[error("`{0}` is no endpoint of a hub, such as https://huggingface.co")]
    Endpoint(String),
    #[error("a token is not sent to {0}, which has no TLS")]
    Plain(String),
    #[error("{}", .0)]
    Client(#[from] ureq::Error),
    #[error("the connection broke: {0}")]
    Broke(#[source] std::io::Error),
    #[error("{}", refusal(.repository, *.status, .code, .said.as_deref()))]
    Refused { repository: String, status: u16, code: String, said: Option<String>, after: Option<u64> },
    #[error("the hub's listing is not understood: {0}")]
    Listing(String),
    #[error("{0}: the hub redirects without end, to nowhere, or away from TLS")]
    Redirect(String),
    #[error("the hub answers with another commit")]
    OtherCommit,
    #[error("the answer is not the part that was asked for")]
    Range,
    #[error("ended after {found} of {expected} bytes")]
    Short { found: u64, expected: u64 },
}

impl HubError {
    /// Whether the same request may be answered later.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Client(error) => passes(error),
            Self::Broke(_) | Self::Short { .. } => true,
            Self::Refused { status, .. } => matches!(status, 408 | 416 | 429 | 500 | 502 | 503 | 504),
            Self::Endpoint(_)
            | Self::Plain(_)
            | Self::Listing(_)
            | Self::Redirect(_)
            | Self::OtherCommit
            | Self::Range => false,
        }
    }

    /// How long the hub asks to be left alone.
    fn after(&self) -> Option<Duration> {
        match self {
            Self::Refused { after, .. } => after.map(Duration::from_secs),
            Self::Endpoint(_)
            | Self::Plain(_)
            | Self::Client(_)
            | Self::Broke(_)
            | Self::Listing(_)
            | Self::Redirect(_)
            | Self::OtherCommit
            | Self::Range
            | Self::Short { .. } => None,
        }
    }
}

/// Names that do not resolve, hosts that are not there and connections that break may do better the next time.
fn passes(error: &ureq::Error) -> bool {
    matches!(
        error,
        ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Protocol(_)
    )
}

fn refusal(repository: &str, status: u16, code: &str, said: Option<&str>) -> String {
    let what = match (status, code) {
        (_, "GatedRepo") => {
            "its terms must be accepted at the hub, by whose token (`HF_TOKEN`) it is asked for"
        }
        (401 | 403, _) => "is not there, or needs a token (`HF_TOKEN`) that may read it",
        (_, "RevisionNotFound") => "has no such revision",
        (_, "EntryNotFound") => "has no such file",
        (404, _) => "is not there",
        (429, _) => "too many requests",
        (500..=599, _) => "the hub is in trouble",
        _ => "the hub does not give it",
    };
    let said = said.map_or_else(String::new, |said| format!(": {said}"));
    format!("{repository}: {what} ({status}){said}")
}

/// What the hub says, as it may be shown on a terminal.
pub(super) fn shown(said: &str) -> String {
    said.chars().filter(|c| !c.is_control()).take(SAID).collect()
}

/// How often something was tried in vain, and how long to wait.
pub(super) struct Patience {
    attempts: u32,
    failed: u32,
}

impl Patience {
    /// Gives up after so many attempts in a row that brought nothing.
    pub(super) fn new(attempts: u32) -> Self {
        Self { attempts, failed: 0 }
    }

    /// Something came: failures are counted anew.
    pub(super) fn encouraged(&mut self) {
        self.failed = 0;
    }

    /// How long to wait before the next attempt; the error back where there is none.
    pub(super) fn after(&mut self, error: HubError) -> Result<Duration, HubError> {
        self.failed += 1;
        if !error.passes() || self.failed >= self.attempts {
            return Err(error);
        }
        let (first, most) = WAITS;
        let wait = first.saturating_mul(1 << (self.failed - 1).min(16)).min(most);
        let asked = error.after().unwrap_or_default();
        if asked > LONGEST_WAIT { Err(error) } else { Ok(wait.max(asked)) }
    }
}

/// Asks until there is an answer, or no more patience.
pub(super) fn patiently<T>(
    attempts: u32,
    mut ask: impl FnMut() -> Result<T, HubError>,
) -> Result<T, HubError> {
    let mut patience = Patience::new(attempts);
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) => std::thread::sleep(patience.after(error)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, after: Option<u64>) -> HubError {
        HubError::Refused { repository: "o/n".into(), status, code: String::new(), said: None, after }
    }

    #[test]
    fn waits_double_as_long_as_nothing_comes_and_last_as_long_as_the_hub_asks() {
        let mut patience = Patience::new(4);
        let mut next = |after| patience.after(refused(503, after)).map(|wait| wait.as_millis());
        assert_eq!(next(None).unwrap(), 500);
        assert_eq!(next(None).unwrap(), 1000);
        assert_eq!(next(Some(7)).unwrap(), 7000);
        next(None).unwrap_err();
        let mut patience = Patience::new(2);
        for _ in 0..9 {
            patience.after(refused(429, None)).unwrap();
            patience.encouraged();
        }
        patience.after(refused(429, Some(301))).unwrap_err();
    }

    #[test]
    fn what_no_time_mends_is_not_asked_again() {
        for status in [400, 401, 403, 404, 410, 451, 501] {
            Patience::new(9).after(refused(status, None)).unwrap_err();
        }
        assert_eq!(shown("a\x1b[31mb\n"), "a[31mb");
    }
}
