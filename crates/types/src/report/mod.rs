//! The report of a fine-tuning job: one versioned JSON document.

mod data;
mod document;
mod quality;
mod run;
mod transfer;
mod tuning;

pub use data::{DuplicatePair, Duplicates, Gap, GroupMetrics, Groups, Row, Suspicious, SuspiciousRow, Twin};
pub use document::{LeftOut, Note, Report, Stage, VERSION};
pub use quality::{
    BinaryCurves, Calibration, ClassMetrics, Confused, Confusion, Coverage, CoveragePoint, CoverageTarget,
    Estimate, LabelMetrics, Metrics, MultiLabelMetrics, PrecisionRecallPoint, Reliability, ReliabilityBin,
    RocPoint, SingleLabelMetrics, ThresholdPoint,
};
pub use run::{BackboneUsed, ClassCounts, DatasetUsed, Run};
pub use transfer::{Difference, LearningPoint, Quality, Transfer, Verdict};
pub use tuning::{FromRandom, Mixture, Pass, Tuning};
