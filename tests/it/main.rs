//! The service from outside: every test asks the router as a client would, with the bundled backbones behind it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod api_bodies;
mod api_classifiers;
mod api_embeddings;
mod api_errors;
mod api_files;
mod api_images;
mod api_job_events;
mod api_jobs;
mod api_keys;
mod api_models;
mod api_other_clients;
mod api_zero_shot;
mod classifiers_as_models;
mod engine_promises;
mod exports;
mod fine_tuning;
mod foreign_pages;
mod large_requests;
mod operations;
mod reports;
mod requantised;
mod resting;
mod rollout;
mod support;
mod tuning;
mod validation_files;
