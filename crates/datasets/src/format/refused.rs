//! Telling apart, in an I/O error, what the file is to blame for and what the disk is.

use std::io;

use crate::draft::Fault;
use crate::{Code, DatasetError};

/// A reader's refusal to go on, carried through decoders as an I/O error.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Fault);

/// An error of the upload's own handle.
#[derive(Debug)]
pub(crate) struct HandleFailed(pub(crate) io::Error);

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0.message)
    }
}

impl std::error::Error for Refused {}

impl std::fmt::Display for HandleFailed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl std::error::Error for HandleFailed {}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        Self::other(Refused(fault))
    }
}

/// What an error of a decoding reader means for the file. Whatever neither a limit nor the handle raised, the
/// decoder did: the file is damaged.
///
/// # Errors
/// [`DatasetError::Io`] when the handle failed.
pub(crate) fn fault_of(error: io::Error) -> Result<Fault, DatasetError> {
    let text = error.to_string();
    let damaged = || Fault::new(Code::DamagedFile, text.to_ascii_lowercase());
    let Some(inner) = error.into_inner() else { return Ok(damaged()) };
    match inner.downcast::<HandleFailed>() {
        Ok(failed) => Err(DatasetError::Io(failed.0)),
        Err(other) => Ok(other.downcast::<Refused>().map_or_else(|_| damaged(), |refused| refused.0)),
    }
}
