//! Uploaded archives: zip, tar, tar.gz.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: headstart_fuzz::watch_panics(), |file: &[u8]| {
    headstart_fuzz::upload(["upload.zip", "upload.tar", "upload.tar.gz"][file.len() % 3], file);
});
