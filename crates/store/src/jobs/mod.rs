//! Jobs: the row is the queue entry. Who may move it where, who holds it, what it leaves behind.

mod checkpoints;
mod claim;
mod events;
mod outcome;
mod rows;
mod states;
mod steps;

pub use claim::{Beat, ClaimLimits};
pub use rows::{JobFilter, QueueSize};
pub use states::{Trigger, next};

pub(crate) use checkpoints::without_checkpoints;
pub(crate) use claim::{FENCE, fence};
pub(crate) use events::with_event;
pub(crate) use rows::TRIES;
