//! Uploaded tables: JSON Lines, CSV, TSV, Parquet; each packed with gzip too.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: headstart_fuzz::watch_panics(), |file: &[u8]| {
    let names = ["upload.jsonl", "upload.csv", "upload.tsv", "upload.parquet", "upload.jsonl.gz", "upload.csv.gz"];
    headstart_fuzz::upload(names[file.len() % names.len()], file);
});
