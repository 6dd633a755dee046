//! Names of rows and blobs: prefixed, sortable by time, checked wherever they come from outside.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hex;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct IdError {
    /// What was given, cut to a readable length.
    pub text: String,
    /// What it should have been.
    pub expected: &'static str,
}

fn refuse(text: &str, expected: &'static str) -> IdError {
    IdError { text: text.chars().take(80).collect(), expected }
}

/// 32 hexadecimal digits: 48 bits of time in milliseconds, then 80 bits of chance, so that text order is time order.
fn sortable(now: i64, chance: [u8; 10]) -> String {
    format!("{:012x}{}", now.max(0).cast_unsigned() & 0xffff_ffff_ffff, hex(&chance))
}

fn is_tail(text: &str) -> bool {
    (1..=96).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// What every such id starts with.
            pub const PREFIX: &'static str = $prefix;

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// What follows the prefix.
            #[must_use]
            pub fn tail(&self) -> &str {
                self.0.strip_prefix(Self::PREFIX).unwrap_or(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                match text.strip_prefix(Self::PREFIX) {
                    Some(tail) if is_tail(tail) => Ok(Self(text.to_owned())),
                    Some(_) | None => Err(refuse(text, concat!("an id `", $prefix, "…`"))),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// An uploaded file.
    FileId,
    "file-"
);
id!(
    /// A fine-tuning job.
    JobId,
    "ftjob-"
);
id!(
    /// An event of a job; made of the job's id and the event's number within it.
    EventId,
    "ftevent-"
);
id!(
    /// A checkpoint of a job; made of the job's id and the checkpoint's step.
    CheckpointId,
    "ftckpt_"
);

id!(
    /// A purge.
    PurgeId,
    "purge-"
);

id!(
    /// An API key.
    KeyId,
    "key-"
);

impl KeyId {
    /// A new id: `now` in milliseconds since the epoch, `chance` random.
    #[must_use]
    pub fn new(now: i64, chance: [u8; 10]) -> Self {
        Self(format!("{}{}", Self::PREFIX, sortable(now, chance)))
    }
}

impl PurgeId {
    /// A new id: `now` in milliseconds since the epoch, `chance` random.
    #[must_use]
    pub fn new(now: i64, chance: [u8; 10]) -> Self {
        Self(format!("{}{}", Self::PREFIX, sortable(now, chance)))
    }
}

impl FileId {
    /// A new id: `now` in milliseconds since the epoch, `chance` random.
    #[must_use]
    pub fn new(now: i64, chance: [u8; 10]) -> Self {
        Self(format!("{}{}", Self::PREFIX, sortable(now, chance)))
    }
}

impl JobId {
    /// A new id: `now` in milliseconds since the epoch, `chance` random.
    #[must_use]
    pub fn new(now: i64, chance: [u8; 10]) -> Self {
        Self(format!("{}{}", Self::PREFIX, sortable(now, chance)))
    }
}

/// `<job's tail>-<number>`, the number in sixteen hexadecimal digits: text order is number order.
fn numbered(prefix: &str, job: &JobId, number: u64) -> String {
    format!("{prefix}{}-{number:016x}", job.tail())
}

fn number_of(tail: &str, job: &JobId) -> Option<u64> {
    let digits = tail.strip_prefix(job.tail())?.strip_prefix('-')?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

impl EventId {
    /// The id of the event with this number, counted from 1 within its job.
    #[must_use]
    pub fn of(job: &JobId, number: u64) -> Self {
        Self(numbered(Self::PREFIX, job, number))
    }

    /// The event's number, when it belongs to `job`.
    #[must_use]
    pub fn number(&self, job: &JobId) -> Option<u64> {
        number_of(self.tail(), job)
    }
}

impl CheckpointId {
    /// The id of a job's checkpoint after `step`.
    #[must_use]
    pub fn of(job: &JobId, step: u64) -> Self {
        Self(numbered(Self::PREFIX, job, step))
    }

    /// The checkpoint's step, when it belongs to `job`.
    #[must_use]
    pub fn step(&self, job: &JobId) -> Option<u64> {
        number_of(self.tail(), job)
    }
}

/// The SHA-256 of a blob's bytes, which is also the blob's name: 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(String);

impl Sha256 {
    /// From the digest's bytes.
    #[must_use]
    pub fn from_bytes(digest: [u8; 32]) -> Self {
        Self(hex(&digest))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Sha256 {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(refuse(text, "64 lower-case hexadecimal digits"))
        }
    }
}

impl TryFrom<String> for Sha256 {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(hash: Sha256) -> Self {
        hash.0
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_as_the_times_they_were_made_at() {
        let early = FileId::new(1_700_000_000_000, [255; 10]);
        let late = FileId::new(1_700_000_000_001, [0; 10]);
        assert!(early < late);
        assert_eq!(early.as_str().parse::<FileId>(), Ok(early.clone()));
    }

    #[test]
    fn an_id_of_another_kind_or_with_odd_letters_is_refused() {
        for text in ["", "file-", "ftjob-1", "file-a/b", "file-é", "xfile-1"] {
            assert!(text.parse::<FileId>().is_err(), "{text}");
        }
        let refused = serde_json::from_str::<FileId>("\"../etc\"").unwrap_err().to_string();
        assert!(refused.contains("is not an id `file-…`"), "{refused}");
    }

    #[test]
    fn events_sort_by_number_and_belong_to_one_job() {
        let (job, other) = (JobId::new(1, [1; 10]), JobId::new(1, [2; 10]));
        assert!(EventId::of(&job, 9) < EventId::of(&job, 10));
        assert_eq!(EventId::of(&job, 10).number(&job), Some(10));
        assert_eq!(EventId::of(&job, 10).number(&other), None);
        assert_eq!(CheckpointId::of(&job, 3).step(&job), Some(3));
    }

    #[test]
    fn a_hash_is_sixty_four_lower_case_digits() {
        let hash = Sha256::from_bytes([0xab; 32]);
        assert_eq!(hash.as_str().parse(), Ok(hash.clone()));
        assert!("AB".repeat(32).parse::<Sha256>().is_err());
        assert!("../".parse::<Sha256>().is_err());
    }
}
