//! The report as one HTML page that needs nothing else: no script, no other address, light and dark.

mod charts;
mod frame;
mod sections;
mod words;

pub use sections::render;
