//! Forms and raw media: the first line names path and query, the second the content type, the rest is the body.
#![no_main]

use headstart_fuzz::service::{Sent, ask};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: headstart_fuzz::watch_panics(), |data: &[u8]| {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let (Some(uri), Some(content_type), Some(body)) = (lines.next(), lines.next(), lines.next()) else { return };
    let (Ok(uri), Ok(content_type)) = (std::str::from_utf8(uri), std::str::from_utf8(content_type)) else { return };
    ask(&Sent { method: "POST", uri, content_type, also: None, body });
});
