//! Room on the disk under a folder.

use std::io;
use std::path::{Path, PathBuf};

/// Room on a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What may still be written.
    pub free: i64,
    /// What the disk holds when it is empty.
    pub all: i64,
}

/// Room on the disk of a folder.
///
/// # Errors
/// What the system said.
pub async fn room(folder: PathBuf) -> io::Result<Room> {
    // A network's file system may not answer for a while.
    tokio::task::spawn_blocking(move || room_now(&folder)).await.map_err(io::Error::other)?
}

/// The same. Blocking.
///
/// # Errors
/// What the system said.
pub fn room_now(folder: &Path) -> io::Result<Room> {
    let found = rustix::fs::statvfs(folder)?;
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(found.f_frsize)).unwrap_or(i64::MAX);
    Ok(Room { free: bytes(found.f_bavail), all: bytes(found.f_blocks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_has_room_and_what_is_no_folder_has_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let room = room(folder.path().to_owned()).await.unwrap();
        assert!(room.all > 0 && room.free <= room.all, "{room:?}");
        assert!(super::room(folder.path().join("none")).await.is_err());
    }
}
