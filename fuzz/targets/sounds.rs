//! Sounds: header, samples, frames.
#![no_main]

use std::sync::LazyLock;

use headstart_media::{Limits, SoundEncoder, decode_sound, probe_sound};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { max_pixels: 1, max_seconds: 2, max_bytes: 1 << 20 };

static ENCODER: LazyLock<SoundEncoder> = LazyLock::new(|| {
    let spec = "rate = 8000\nshortest = 400\nwindows = { of = \"frames\", length = 8, hop = 4, tail = \"pad\" }\n\
                mel = { n_fft = 256, hop = 80, bands = 20, log = { kind = \"natural\" } }";
    SoundEncoder::new(&toml::from_str(spec).expect("a good manifest"))
});

fuzz_target!(init: headstart_fuzz::watch_panics(), |file: &[u8]| {
    let header = probe_sound(file, &LIMITS);
    let Ok(sound) = decode_sound(file, ENCODER.rate(), &LIMITS) else { return };
    assert!(header.is_ok(), "{header:?} of a sound that was decoded");
    assert!(sound.seconds() <= f64::from(LIMITS.max_seconds));
    assert!(sound.samples.iter().all(|sample| sample.abs() <= 2.0));
    let rows = ENCODER.encode(sound);
    assert!(rows.values.len() >= rows.width && rows.values.iter().all(|value| value.is_finite()));
});
