//! Tables of word vectors: a text is split into words, each is looked up, and their vectors become one.
//!
//! A table is two files. `words.index` holds the words, what SIF needs, and the digest of every block of the other;
//! its own checksum stands in the manifest and is compared when the table is opened. `words.vectors` holds nothing but
//! the vectors, row after row, and is mapped: opening costs the same for a table of any size, and each block is
//! compared with its digest when it is first read. [`Table`] answers; [`Builder`] makes the files.
//!
//! Nothing here is asynchronous, and nothing knows a request.

mod builder;
mod error;
mod forms;
mod index;
mod map;
mod rows;
pub mod sif;
mod split;
mod table;

pub use builder::{Added, Builder};
pub use error::{InputError, TableError};
pub use index::Index;
pub use rows::Precision;
pub use table::{Table, Words};

/// The index's usual name.
pub const INDEX: &str = "words.index";

/// The usual name of the file with the vectors.
pub const VECTORS: &str = "words.vectors";
