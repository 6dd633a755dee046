//! Trains a backbone's own weights together with a head: the graph of a fitted classifier goes in, the weights that fit
//! better come out. Nothing here runs a graph: that is for the [`Runners`](headstart_types::runner::Runners) that are
//! given.
//!
//! The classifier starts from a head fitted on frozen features (Kumar et al., "Fine-tuning can distort pretrained features
//! and underperform out-of-distribution", ICLR 2022), so that the first steps do not undo what the backbone knows.

mod batches;
mod blocks;
mod choose;
mod delta;
mod graph;
mod initial;
mod low_rank;
mod methods;
mod parted;
mod prefix;
mod probe;
mod recipe;
mod requantise;
mod rounding;
mod schedule;
mod state;
mod train;

pub use batches::Feed;
pub use choose::{Choice, Goal, Role, What};
pub use delta::Delta;
pub use graph::{Tunable, prepare};
pub use initial::Initial;
pub use low_rank::LowRank;
pub use methods::{Full, Lora, Partial, Plan, SetFit, calibrated, named, tuned_head, uncalibrated, unjudged};
pub use parted::Parted;
pub use prefix::Prefix;
pub use probe::Asking;
pub use recipe::{OptimiserKind, Recipe};
pub use requantise::can_be_rounded;
pub use train::{Epoch, Mixed, Score, Tuned, Work, train};
