//! The suites: one file each, each giving a section of Markdown.

pub(crate) mod classifiers;
pub(crate) mod eviction;
pub(crate) mod growth;
pub(crate) mod latency;
pub(crate) mod mixed;
pub(crate) mod overload;
pub(crate) mod startup;
pub(crate) mod tensors;
pub(crate) mod throughput;
pub(crate) mod training;
pub(crate) mod variants;

mod closed_rounds;
