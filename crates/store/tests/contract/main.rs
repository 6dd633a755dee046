//! What every back end must keep to: one suite, run for each of them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod acts;
mod backup;
mod blobs;
mod classifiers;
mod crash;
mod files;
mod idempotency;
mod jobs;
mod keys;
mod purges;
mod queue;
mod races;
mod states;
mod support;
mod webhooks;
mod workers;
