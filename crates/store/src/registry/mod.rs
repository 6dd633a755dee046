//! The registry: classifiers, their immutable versions, and which version answers.

mod pointers;
mod publish;
mod rows;

pub use publish::{Ending, Expected, Published, When};

pub(crate) use rows::{check_name, named};
