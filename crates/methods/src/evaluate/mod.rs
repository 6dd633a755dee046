//! How good a head is, in numbers: everything the report of a job says.

mod assemble;
pub mod baseline;
pub mod calibration;
pub mod curves;
pub mod groups;
pub mod intervals;
pub mod learning_curve;
pub mod metrics;
mod notes;
pub mod page;
mod quality;
pub mod suspicious;
pub mod transfer;
pub mod tuned;

pub use assemble::{EvaluateError, Evidence, Frozen, HeldOut, OutOfSample, ZeroShot, evaluate};
