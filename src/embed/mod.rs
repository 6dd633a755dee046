//! `headstart embed`: a file of texts or a folder of images or sounds in, vectors out, with a progress bar; resumes.
//!
//! `source` reads items one at a time, `output` knows the files that vectors may go to and what is theirs already,
//! `record` is the side file that says what began an output, `sink` adds to it, `run` does the work.

mod output;
mod record;
mod run;
mod sink;
mod source;

pub use run::{EmbedArguments, run};
