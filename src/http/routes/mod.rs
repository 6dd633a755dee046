//! One file per group of routes.

pub(crate) mod health;
pub(crate) mod hugging_face;
pub(crate) mod models;
pub(crate) mod tasks;
