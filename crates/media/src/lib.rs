//! Untrusted bytes in, tensors out: pictures become `[3, h, w]` floats, sounds samples or frames, texts token ids.
//!
//! Everything here is synchronous and bounded. What a decoder may spend is decided from the header, before
//! any pixel is expanded; nothing reads a file, a clock or the network, and no input panics.
//!
//! Errors say which rule was broken, not which status a service answers: [`MediaError`] documents the split.
#![deny(missing_docs)]

pub mod audio;
mod data_url;
mod error;
pub mod image;
mod modality;
pub mod text;

pub use audio::{Sound, SoundEncoder, SoundFormat, SoundHeader, decode_sound, probe_sound};
pub use data_url::{DataUrl, decode_base64, parse_data_url};
pub use error::MediaError;
pub use image::{Format, ImageHeader, Limits, RgbImage8, decode, preprocess, probe, vary};
pub use modality::{MediaKind, Sniffed, sniff};
pub use text::{Encoded, Shorter, TextEncoder, Truncate};

/// Every kind of data that can be told from its first bytes, asked in this order. A new modality is one module
/// and one line here.
pub static MODALITIES: &[MediaKind] = &[image::KIND, audio::KIND, text::KIND];
