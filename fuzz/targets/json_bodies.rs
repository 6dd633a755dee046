//! JSON bodies: the first line names method, path and query, the rest is the body.
#![no_main]

use headstart_fuzz::service::{Sent, ask};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: headstart_fuzz::watch_panics(), |data: &[u8]| {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let Ok(line) = std::str::from_utf8(&data[..end]) else { return };
    let Some((method, uri)) = line.split_once(' ') else { return };
    let sent = Sent { method, uri, content_type: "application/json", also: None, body: &data[end + 1..] };
    ask(&sent);
});
