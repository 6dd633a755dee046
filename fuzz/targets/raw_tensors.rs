//! Requests of the open inference protocol: the first line is the length of the JSON as a header says it, or empty; then
//! the JSON, and the bytes behind it.
#![no_main]

use headstart_fuzz::service::{Sent, TENSORS, ask};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: headstart_fuzz::watch_panics(), |data: &[u8]| {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let Ok(length) = std::str::from_utf8(&data[..end]) else { return };
    let also = (!length.is_empty()).then_some(("inference-header-content-length", length));
    let uri = format!("/v2/models/{TENSORS}/infer");
    let content_type = "application/octet-stream";
    ask(&Sent { method: "POST", uri: &uri, content_type, also, body: &data[end + 1..] });
});
