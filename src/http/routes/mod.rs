//! One file per group of routes.

pub(crate) mod audit;
pub(crate) mod classifiers;
pub(crate) mod events;
pub(crate) mod examples;
pub(crate) mod exports;
pub(crate) mod files;
pub(crate) mod health;
pub(crate) mod hugging_face;
pub(crate) mod hugging_face_inputs;
pub(crate) mod hugging_face_rerank;
pub(crate) mod inference;
mod job_request;
pub(crate) mod jobs;
pub(crate) mod loading;
pub(crate) mod models;
pub(crate) mod pointers;
pub(crate) mod purges;
pub(crate) mod reports;
pub(crate) mod tasks;
mod upload;
