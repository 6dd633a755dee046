//! `[engine]`: overrides of what the engine chooses by itself.

use serde::{Deserialize, Serialize};

use super::{ManifestError, refuse};

/// Overrides of what the engine chooses by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSpec {
    /// Threads inside one call; a call with more than one occupies that many lanes.
    pub threads: Option<usize>,
    /// Most calls of this backbone at the same time.
    pub lanes: Option<usize>,
    /// Sessions on the CPU that its calls are spread over, each with weights and memory of its own; one when absent, and never
    /// more than calls at the same time.
    pub sessions: Option<usize>,
    /// Most items in one call.
    pub max_batch_items: Option<usize>,
    /// Most padded tokens in one call.
    pub max_batch_tokens: Option<usize>,
}

impl EngineSpec {
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        for (field, value) in [
            ("engine.threads", self.threads),
            ("engine.lanes", self.lanes),
            ("engine.sessions", self.sessions),
            ("engine.max_batch_items", self.max_batch_items),
            ("engine.max_batch_tokens", self.max_batch_tokens),
        ] {
            if value == Some(0) {
                return refuse(field, "must be at least 1");
            }
        }
        Ok(())
    }
}
