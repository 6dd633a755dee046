//! Tokeniser files, and texts read by what they say: a `tokenizer.json`, with a text behind a zero byte where there is one.
#![no_main]

use headstart_media::{Shorter, TextEncoder, Truncate};
use headstart_types::manifest::TextSpec;
use libfuzzer_sys::fuzz_target;

const MOST: usize = 12;

fuzz_target!(init: headstart_fuzz::watch_panics(), |data: &[u8]| {
    let parts = data.iter().rposition(|byte| *byte == 0).map(|at| (&data[..at], &data[at + 1..]));
    let (file, text) = parts.unwrap_or((data, b"The caf\xc3\xa9 of Z\xc3\xbcrich, 1999 \xe2\x82\xac!"));
    for pairs in ["", "pairs = true\n"] {
        let spec = format!("tokenizer = \"tokenizer.json\"\nmax_tokens = {MOST}\n{pairs}");
        let Ok(spec) = toml::from_str::<TextSpec>(&spec) else { continue };
        let Ok(encoder) = TextEncoder::load(file, &spec) else { continue };
        let text = String::from_utf8_lossy(text);
        for truncate in [Truncate::End, Truncate::Start, Truncate::None] {
            if let Ok(encoded) = encoder.encode(&text, None, truncate) {
                assert!(encoded.ids.len() <= MOST, "{} ids", encoded.ids.len());
            }
            if let Ok(ids) = encoder.content(&text)
                && let Ok(pair) = encoder.pair(&ids, &ids, Shorter::Longest, truncate)
            {
                assert!(pair.ids.len() <= MOST, "{} ids of a pair", pair.ids.len());
            }
        }
    }
});
