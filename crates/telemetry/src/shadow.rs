//! Series of versions that score along with those that answer.

use prometheus::{IntCounter, IntCounterVec};

const AGREED: &str = "agreed";
const DIFFERED: &str = "differed";

/// What a version that scores along says beside the one that answers.
#[derive(Debug, Clone)]
pub struct ShadowMetrics {
    /// Items of which both say the same.
    pub agreed: IntCounter,
    /// Items of which they say different things.
    pub differed: IntCounter,
}

/// The series of all versions that score along.
#[derive(Debug, Clone)]
pub struct ShadowFamily(IntCounterVec);

impl ShadowFamily {
    pub(crate) fn new(series: IntCounterVec) -> Self {
        Self(series)
    }

    /// The series of one version, `name@version`.
    #[must_use]
    pub fn of(&self, version: &str) -> ShadowMetrics {
        let outcome = |outcome| self.0.with_label_values(&[version, outcome]);
        ShadowMetrics { agreed: outcome(AGREED), differed: outcome(DIFFERED) }
    }

    /// Takes the series of a version away. Who still holds them goes on counting unseen.
    pub fn forget(&self, version: &str) {
        for outcome in [AGREED, DIFFERED] {
            let _ = self.0.remove_label_values(&[version, outcome]);
        }
    }
}
