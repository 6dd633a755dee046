//! The one place with `unsafe`: a file's bytes as memory.

use std::fs::File;
use std::path::Path;

use memmap2::{Advice, Mmap};

/// Opens a file for reading alone and maps it when it has exactly `length` bytes.
///
/// A file that is cut short while it is mapped ends the process with SIGBUS at the next read behind its new end: no
/// program can tell beforehand. So nothing here ever writes to a finished table: it is made under another name, its
/// files are set read-only, and it comes to its place by renaming, which leaves an old one whole for who has it mapped.
///
/// # Errors
/// The system's reason, or that the length is another.
pub(crate) fn map(path: &Path, length: u64) -> std::io::Result<Mmap> {
    let file = File::open(path)?;
    let found = file.metadata()?.len();
    if found != length {
        let problem = format!("it has {found} bytes, {length} were expected");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, problem));
    }
    #[expect(unsafe_code, reason = "a table of gigabytes must not be read to be opened (ADR 0018)")]
    // SAFETY: the map is private and read-only, and lives as long as the value returned. That nobody changes the file
    // under it is the one condition left, which is why finished tables are read-only and replaced by renaming alone.
    // Bytes are only ever read as bytes: any value is valid, and a damaged block is refused by its digest.
    let map = unsafe { Mmap::map(&file)? };
    // Words of a text lie far apart: what follows a row is not read next. The advice may be declined.
    let _ = map.advise(Advice::Random);
    Ok(map)
}
