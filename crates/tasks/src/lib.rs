//! What clients ask for: features, zero-shot labels, similarity, reranking, decisions, classification, moderations, raw
//! tensors. Each task is one file or folder, listed in [`visit_all`]; none of them knows HTTP or the store.
//! `catalog.rs` has the backbones, `items/` the way of an item to its row.

mod answer_size;
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
mod fingerprint;
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

pub use answer_size::MOST_NUMBERS;
pub use catalog::{Catalog, Entry, Known, LoadError, Loader, Resident, Served, State};
pub use context::{Caller, Meter, TaskContext, TaskLimits};
pub use error::TaskError;
pub use examples::ExampleEncoder;
pub use headstart_types::Label;
pub use items::Timings;
pub use labels::{LabelForm, Labels, MOST_LABELS};
pub use scores::{labels_given, verdict};
pub use task::{Done, Task, TaskVisitor, required, visit_all};
pub use usage::Usage;
