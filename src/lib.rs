//! The service: edges and wiring. Mathematics and models live in the crates under `crates/`.

pub mod app;
pub mod auth;
pub mod backup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod disk;
pub mod embed;
pub mod explain;
pub mod export;
mod few_shot;
pub mod folders;
mod gate;
pub mod http;
mod intake;
pub mod models;
mod names;
pub mod options_file;
mod purge;
pub mod rollout;
pub mod serve;
mod signals;
pub mod sweep;
pub mod train;
pub mod webhooks;
pub mod worker;
