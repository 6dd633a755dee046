//! Pictures: header, pixels, tensor.
#![no_main]

use headstart_media::{Limits, decode, preprocess, probe};
use headstart_types::manifest::{ChannelOrder, Filter, Fit, ImageSpec, Layout};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { max_pixels: 1 << 20, max_seconds: 1, max_bytes: 1 << 20 };

fuzz_target!(init: headstart_fuzz::watch_panics(), |file: &[u8]| {
    let header = probe(file, &LIMITS);
    let Ok(image) = decode(file, &LIMITS) else { return };
    assert!(header.is_ok(), "{header:?} of a picture that was decoded");
    assert!(u64::from(image.width()) * u64::from(image.height()) <= LIMITS.max_pixels);
    let spec = spec(file.len());
    let tensor = preprocess(&image, &spec);
    assert_eq!(tensor.len(), 3 * (spec.size * spec.size) as usize);
    assert!(tensor.iter().all(|value| value.is_finite()));
});

/// One of the ways in which a manifest may say that a picture becomes a tensor.
fn spec(choice: usize) -> ImageSpec {
    ImageSpec {
        size: 24,
        resize: 28,
        fit: if choice & 1 == 0 { Fit::Crop } else { Fit::Stretch },
        filter: [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos][choice / 2 % 3],
        scale: 1.0,
        mean: [127.0; 3],
        std: [128.0; 3],
        channel_order: if choice & 64 == 0 { ChannelOrder::Rgb } else { ChannelOrder::Bgr },
        layout: if choice & 128 == 0 { Layout::Nchw } else { Layout::Nhwc },
    }
}
