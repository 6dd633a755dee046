//! What the targets share: which panics count, folders to write in, and what is done to an uploaded file.

pub mod service;

use std::panic;
use std::path::Path;

use headstart_datasets::{Limits, Source, Wanted, find, inspect, read, write_without};
use tempfile::TempDir;

/// Makes every panic of our own code end the process, also where it would be caught. A panic of a library's that its
/// caller catches, as those of decoders are, is an answer like any other.
pub fn watch_panics() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let ours = panic.location().is_none_or(|place| !place.file().contains("/registry/"));
        if ours {
            tell(panic);
            std::process::abort();
        }
        // Should nobody catch it, this is what there is to know of it.
        eprintln!("a library panicked: {panic}");
    }));
}

/// A folder in memory where the machine has one.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder can be made")
}

/// An uploaded file: looked at, handed out, and written again without some of its rows.
///
/// What was found right must be handed out, and what was written again must have those rows less.
pub fn upload(name: &str, data: &[u8]) {
    let limits = Limits {
        max_unpacked_bytes: 16 << 20,
        max_entry_bytes: 1 << 20,
        max_line_bytes: 1 << 20,
        max_examples: 10_000,
        max_entries: 10_000,
        media: headstart_media::Limits { max_pixels: 1 << 18, max_seconds: 1, max_bytes: 1 << 20 },
        threads: 1,
        ..Limits::default()
    };
    let source = source(name, data.to_vec());
    let Ok(inspection) = inspect(&source, &limits, &mut |_| std::ops::ControlFlow::Continue(())) else {
        return;
    };
    if !inspection.is_readable() {
        return;
    }
    let examples: Vec<_> = read(&source, &inspection, &limits)
        .expect("a readable file opens")
        .collect::<Result<_, _>>()
        .expect("what was found right is handed out");
    assert_eq!(examples.len() as u64, inspection.summary.examples);
    let Some(first) = examples.first() else { return };
    let wanted = Wanted::Places([first.place.clone()].into());
    let found = find(&source, &wanted, &limits, &mut |_| {}).expect("a readable file is searched");
    let mut rest = Vec::new();
    if write_without(&source, &found, &limits, &mut rest).is_err() {
        return;
    }
    let left = inspect(&self::source(name, rest), &limits, &mut |_| std::ops::ControlFlow::Continue(()))
        .expect("what was written is looked at");
    assert_eq!(left.summary.examples + found.places.len() as u64, inspection.summary.examples);
}

fn source(name: &str, data: Vec<u8>) -> Source {
    Source::new(std::io::Cursor::new(data), name).expect("memory has a length")
}
