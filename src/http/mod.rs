//! The REST edge: bodies in, tasks asked, bodies out. The only place that knows status codes.

mod error;
mod extract;
mod layers;
pub mod openapi;
mod router;
mod routes;

pub use router::router;
