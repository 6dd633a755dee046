//! The golden files under `tests/golden`, as their index lists them.

use std::path::PathBuf;

use headstart_types::manifest::{ChannelOrder, Filter, ImageSpec, Layout};
use serde_json::Value;

/// A picture file and what the reference library makes of it.
pub(crate) struct Picture {
    pub(crate) file: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) rgb: Vec<u8>,
    /// Levels by which the decoders may differ, at most and on average.
    pub(crate) difference_max: u8,
    pub(crate) difference_mean: f64,
}

/// The index of the pictures, with the pixels it points into.
pub(crate) struct Golden {
    index: Value,
    pixels: Vec<u8>,
}

pub(crate) fn path(relative: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(relative)
}

pub(crate) fn read(relative: &str) -> Vec<u8> {
    let path = path(relative);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn number(value: &Value, key: &str) -> usize {
    value[key].as_u64().unwrap() as usize
}

pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

impl Golden {
    pub(crate) fn load() -> Self {
        let index = serde_json::from_slice(&read("tests/golden/images/index.json")).unwrap();
        Self { index, pixels: read("tests/golden/images/pixels.bin") }
    }

    pub(crate) fn pixels(&self, offset: usize, width: usize, height: usize) -> &[u8] {
        &self.pixels[offset..][..width * height * 3]
    }

    pub(crate) fn list(&self, key: &str) -> &[Value] {
        self.index[key].as_array().unwrap()
    }

    pub(crate) fn source(&self, name: &str) -> &Value {
        &self.index["sources"][name]
    }

    pub(crate) fn pictures(&self) -> Vec<Picture> {
        let picture = |entry: &Value| {
            let (width, height) = (number(entry, "width"), number(entry, "height"));
            let file = text(entry, "file").to_owned();
            Picture {
                bytes: read(&format!("tests/golden/images/{file}")),
                file,
                width: width as u32,
                height: height as u32,
                rgb: self.pixels(number(entry, "offset"), width, height).to_vec(),
                difference_max: number(entry, "difference_max") as u8,
                difference_mean: entry["difference_mean"].as_f64().unwrap(),
            }
        };
        self.list("pictures").iter().map(picture).collect()
    }
}

/// A specification whose tensor is the resized bytes themselves.
pub(crate) fn bytes_spec(size: u32, resize: u32, filter: Filter) -> ImageSpec {
    ImageSpec {
        fit: headstart_types::manifest::Fit::Crop,
        size,
        resize,
        filter,
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
        channel_order: ChannelOrder::Rgb,
        layout: Layout::Nhwc,
    }
}

/// xorshift64: the same damage on every run.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    /// The bytes with a few of them changed, gone or added.
    pub(crate) fn damage(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(8) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] = self.below(256) as u8,
                1 => bytes[at] ^= 1 << self.below(8),
                2 => drop(bytes.drain(at..(at + 1 + self.below(16)).min(bytes.len()))),
                _ => bytes.insert(at, 0xFF),
            }
            if bytes.is_empty() {
                break;
            }
        }
        bytes
    }
}
