//! API keys that are kept, without their secrets, and what was done by whom.

use serde_json::Value;

use crate::ids::{KeyId, Sha256};

/// How much a key may ask; `None` leaves it to the service's options, zero is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyLimits {
    /// Requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// Requests at a time.
    pub concurrency: Option<u32>,
    /// Items of requests in a minute.
    pub items_per_minute: Option<u32>,
}

/// A key's row. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Its id: a name may have several keys, one after the other.
    pub id: KeyId,
    /// The name that owns what is made with it.
    pub name: String,
    /// What it may do, as `scope[+scope]`.
    pub scopes: String,
    /// SHA-256 of the secret.
    pub digest: Sha256,
    /// How much it may ask.
    pub limits: KeyLimits,
    /// When it was made.
    pub created_at: i64,
    /// When it stops being taken.
    pub expires_at: Option<i64>,
    /// Since when it is not taken any more.
    pub revoked_at: Option<i64>,
}

impl KeyRow {
    /// Whether it is taken at a time.
    #[must_use]
    pub fn is_active(&self, now: i64) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// Something that was done to the service or its registry.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAct {
    /// Name of the API key, or who else did it.
    pub who: String,
    /// What was done, such as `key.add`.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// More of it, as an object.
    pub details: Value,
}

/// An act as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct ActRow {
    /// From 1; grows with time and is never given twice.
    pub number: u64,
    /// When, in milliseconds since the epoch.
    pub created_at: i64,
    /// What was done by whom.
    pub act: NewAct,
}
