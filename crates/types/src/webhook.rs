//! Telling somebody else that a job has ended.

use std::convert::Infallible;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::job::JobState;

/// The word that stands in place of a URL for the operator's own.
const DEFAULT: &str = "default";

/// Where a job's end is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Webhook {
    /// Where the operator says at the time of telling.
    Default,
    /// A URL of the job's own.
    Url(String),
}

impl Webhook {
    /// The form in rows.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Default => DEFAULT,
            Self::Url(url) => url,
        }
    }
}

impl FromStr for Webhook {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == DEFAULT { Self::Default } else { Self::Url(text.to_owned()) })
    }
}

/// A job's end on its way to somebody. Whatever is written of it names job and attempt; once another attempt has begun,
/// nothing is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The job.
    pub job: JobId,
    /// How it ended.
    pub state: JobState,
    /// Where that is told.
    pub webhook: Webhook,
    /// The trace of the request that made the job, as W3C's `traceparent` has it.
    pub traceparent: Option<String>,
    /// When it ended, milliseconds since the epoch.
    pub ended_at: i64,
    /// Which attempt this is, from 1.
    pub attempt: u32,
}
