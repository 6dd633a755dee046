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

/// What a backbone gets of so many lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Threads inside one call.
    pub threads: usize,
    /// Most calls at the same time.
    pub calls: usize,
    /// Sessions on the CPU that these are spread over.
    pub sessions: usize,
}

impl EngineSpec {
    /// What it comes to on so many lanes.
    #[must_use]
    pub fn on(&self, lanes: usize) -> Spread {
        let lanes = lanes.max(1);
        let threads = self.threads.unwrap_or(1).clamp(1, lanes);
        let calls = self.lanes.unwrap_or(lanes).clamp(1, lanes / threads);
        Spread { threads, calls, sessions: self.sessions.unwrap_or(1).clamp(1, calls) }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_sessions_than_calls_at_the_same_time() {
        let two = EngineSpec { sessions: Some(2), ..EngineSpec::default() };
        let sessions = |spec: &EngineSpec, lanes| spec.on(lanes).sessions;
        assert_eq!([1, 2, 8].map(|lanes| sessions(&two, lanes)), [1, 2, 2]);
        let narrow = EngineSpec { threads: Some(4), ..two.clone() };
        assert_eq!(narrow.on(4), Spread { threads: 4, calls: 1, sessions: 1 });
        let alone = EngineSpec { lanes: Some(1), ..two };
        assert_eq!(alone.on(8), Spread { threads: 1, calls: 1, sessions: 1 });
        assert_eq!(EngineSpec::default().on(3), Spread { threads: 1, calls: 3, sessions: 1 });
    }
}
