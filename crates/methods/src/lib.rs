//! Classifier heads, and backbones trained with them: fitted, judged, stored and applied. Features or a graph in, head and what was
//! changed out; no files, no clock.

pub mod artifact;
pub mod auto;
pub mod calibrate;
mod container;
pub mod data;
mod error;
pub mod evaluate;
pub mod few_shot;
pub mod gate;
pub mod head;
pub mod linear_probe;
mod method;
pub mod mlp;
pub mod optim;
mod parallel;
pub mod prototype;
pub mod rng;
mod score;
pub mod split;
pub mod tune;

pub use error::MethodError;
pub use method::{
    Checkpoint, Control, FitData, Fitted, HeldOut, METHODS, Method, Needs, Params, Unattended, method,
};
