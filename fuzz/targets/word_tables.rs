//! Tables of word vectors: an index of as many bytes as the first two say, and the vectors behind it.
#![no_main]

use std::fs;

use headstart_fuzz::service::{manifest, of_words};
use headstart_types::{Manifest, Truncate};
use headstart_vectors::{INDEX, Table, VECTORS};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static FOLDER: tempfile::TempDir = headstart_fuzz::folder();
}

fuzz_target!(init: headstart_fuzz::watch_panics(), |data: &[u8]| {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let Some((index, vectors)) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length))) else { return };
    let dimension = index.get(16..20).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
    // A table that knows how likely its words are is asked to weigh them.
    let likely = index.get(32..40).is_some_and(|bytes| bytes != [0; 8]);
    let sif = if likely { "[words.sif]\nsmoothing = 1e-3\n" } else { "" };
    let rest = of_words(dimension as usize) + sif;
    let Ok(manifest) = Manifest::parse(&manifest("words", INDEX, index, &rest)) else { return };
    FOLDER.with(|folder| {
        let folder = folder.path();
        // A file that is mapped is never written again: a new one takes its place.
        let _ = fs::remove_file(folder.join(VECTORS));
        fs::write(folder.join(INDEX), index).expect("an index is written");
        fs::write(folder.join(VECTORS), vectors).expect("vectors are written");
        let Ok(table) = Table::open(folder, &manifest) else { return };
        for text in ["the the cat doesn't sit 1999", "", "The_Cat SAT, on\u{301} a mat."] {
            let Ok(words) = table.read(text, Truncate::End) else { continue };
            if let Ok(vector) = table.embed(&words.rows) {
                assert_eq!(vector.len(), table.dimension());
            }
        }
    });
});
