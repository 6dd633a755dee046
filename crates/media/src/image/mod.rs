//! Pictures: file bytes → 8-bit RGB → the float tensor a backbone takes.
//!
//! The pixels follow Pillow, which is what nearly every backbone was trained through:
//!
//! - [`decode()`] is `ImageOps.exif_transpose(image).convert("RGB")`. Alpha is dropped, not composited: a transparent
//!   pixel shows the colour stored under it. Palettes are expanded, CMYK becomes RGB by Pillow's formula, of an
//!   animation the first frame is taken, and 16-bit samples keep their high byte. One case departs from Pillow:
//!   16-bit grey keeps its high byte too, where Pillow clips at 255 and turns photographs white. ICC profiles are
//!   not applied.
//! - [`preprocess()`] resizes with Pillow's fixed-point filters, byte for byte, and crops as torchvision does.
//! - [`vary()`] takes a part of a picture at random, for training.
//!
//! [`probe`] reads the header only and refuses before anything is expanded.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod decode;
mod directory;
mod format;
mod gif;
mod header;
mod jpeg;
mod pixels;
mod png;
mod preprocess;
mod resample;
mod rows;
mod taps;
mod tiff;
mod vary;
mod webp;

use headstart_types::Modality;

pub use decode::decode;
pub use format::Format;
pub(crate) use format::describe;
pub use header::{ImageHeader, Limits, probe};
pub use pixels::RgbImage8;
pub use preprocess::preprocess;
pub use vary::vary;

use crate::modality::MediaKind;

/// Pictures, in the table of modalities.
pub(crate) const KIND: MediaKind = MediaKind {
    modality: Modality::Image,
    media_types: &["image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff"],
    recognise: |bytes| Format::recognise(bytes).map(Format::media_type),
};
