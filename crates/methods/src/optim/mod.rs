//! Minimisers: L-BFGS for smooth convex problems, AdamW for minibatches.

pub mod adamw;
pub mod lbfgs;
