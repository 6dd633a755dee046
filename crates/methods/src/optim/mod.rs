//! Minimisers: L-BFGS for smooth convex problems, AdamW for minibatches.

pub mod adamw;
pub mod fused;
pub mod lbfgs;
