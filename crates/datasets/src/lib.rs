//! An uploaded file in, labelled examples and all its problems out.
//!
//! [`inspect()`] reads a file whole and tells what is in it ([`Summary`]) and everything that is wrong with it, each
//! finding with its line or path. [`read()`] hands out the examples of a file
//! whose rows are right. [`write_without()`] writes a file again without the rows that [`find()`] found.
//!
//! # Formats
//! Told by content first, by name second:
//!
//! - JSON Lines: `{"text" | "image" | "audio", "label" | "labels", "group"?, "split"?, "id"?}`, images and sounds in base64
//!   or as data URL.
//! - CSV and TSV with a header of the same names; cells of `labels` are JSON lists, or names between `|` or `;`.
//! - Parquet with columns of the same names; labels may be numbers of Hugging Face's class names, images bytes or
//!   structures with `bytes`.
//! - zip, tar and tar.gz of class folders, with pictures, sounds or `.txt` files; `train/`, `val/`, `test/` and folders that
//!   become groups may stand above, and one folder around everything.
//!
//! JSON Lines, CSV and TSV may be packed with gzip.
//!
//! # Problems and warnings
//! A *problem* makes a file unusable, a *warning* does not; [`Code`] is the table, and [`Code::severity`] the column
//! that matters. Rows that cannot be read, classes that cannot be learned and whatever an honest archive does not do
//! are problems. Duplicates, near duplicates, contents with two labels and groups that cross splits are warnings: many
//! official data sets have some, and are used as they are; what they mean for a score, the report says.
//!
//! # Bounds
//! Nothing is written to disk, no more of a file is held than a batch of rows, and of each row its hashes stay, and
//! its path. What an archive may cost is judged from its directory before anything is unpacked, and again while
//! unpacking, since directories lie. Pictures are judged by their headers before they are decoded.
#![deny(missing_docs)]

mod code;
mod draft;
mod error;
mod example;
mod findings;
mod format;
mod inspect;
mod inspection;
mod limits;
mod plan;
mod read;
mod source;
mod without;

pub use code::{CODES, Code, Severity};
pub use error::DatasetError;
pub use example::{Content, Example, Place, Split};
pub use format::Format;
pub use inspect::{Part, Progress, inspect, inspect_together};
pub use inspection::{ClassCount, Duplicates, Finding, Inspection, OtherRow, SplitCounts, Summary};
pub use limits::Limits;
pub use plan::{HeldOut, SplitPlan, Tuning, Use};
pub use read::{Examples, read};
pub use source::{ReadSeek, Source};
pub use without::{Found, Wanted, find, write_without};
