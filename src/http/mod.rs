//! The REST edge: bodies in, tasks asked, bodies out. The only place that knows status codes.

mod body_memory;
mod cors;
mod describe;
mod error;
mod extract;
mod foreign_pages;
mod form;
mod held;
mod idempotent;
mod layers;
mod linger;
mod listing;
mod objects;
pub mod openapi;
mod parts;
mod path;
mod router;
mod routes;
mod stalled;
mod visible;

pub use router::router;
