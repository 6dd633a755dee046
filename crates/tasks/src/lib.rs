//! What clients ask for: features, zero-shot labels, similarity, reranking. Each task is one file; none of them knows HTTP.

mod cache;
mod catalog;
pub mod classifiers;
pub mod classify;
mod compute;
mod context;
mod decision_input;
pub mod decisions;
mod error;
mod examples;
pub mod features;
pub mod few_shot;
mod items;
mod labels;
pub mod moderations;
mod npy;
mod offload;
mod pairs;
mod reader;
pub mod rerank;
mod scores;
pub mod similarity;
mod task;
pub mod tensors;
mod usage;
pub mod zero_shot;

pub use catalog::{Catalog, Entry, Known, LoadError, Loader, Resident, Served, State};
pub use context::{Caller, Meter, TaskContext, TaskLimits};
pub use error::TaskError;
pub use headstart_types::Label;
pub use items::Timings;
pub use labels::{LabelForm, Labels, MOST_LABELS};
pub use scores::{labels_given, verdict};
pub use task::{Done, Task, TaskVisitor, required, visit_all};
pub use usage::Usage;
