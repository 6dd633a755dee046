//! Sounds: file bytes → mono samples at the rate a backbone reads → the rows its graph takes.
//!
//! - [`decode_sound`] streams: packet by packet a file is decoded, its channels are averaged, and what comes out is
//!   resampled, so that no more is held than the result and one packet. What lasts too long is refused by its header
//!   where that tells, else while it is decoded.
//! - Samples are numbers of −1…1; what goes beyond is clipped, as a file of 16 bits would have it. What encoders add
//!   before the first and behind the last sample is left out where the file says how much that is.
//! - Of damaged and of cut files no part is returned.
//! - [`SoundEncoder`] makes what `[audio]` of a manifest says of the samples.

mod decode;
mod encode;
mod format;
mod header;
mod mel;
mod mp4;
mod ogg;
mod opus;
mod resample;
mod sinc;

use headstart_types::Modality;

pub use decode::{Sound, decode_sound};
pub use encode::{SoundEncoder, SoundRows};
pub use format::SoundFormat;
pub use header::{SoundHeader, probe_sound};
pub use mel::MelFrontEnd;
pub use resample::Resampler;

use crate::modality::MediaKind;

/// Sounds, in the table of modalities.
pub(crate) const KIND: MediaKind = MediaKind {
    modality: Modality::Audio,
    media_types: &[
        "audio/wav",
        "audio/x-wav",
        "audio/wave",
        "audio/vnd.wave",
        "audio/flac",
        "audio/x-flac",
        "audio/mpeg",
        "audio/mp3",
        "audio/ogg",
        "audio/opus",
        "audio/mp4",
        "audio/m4a",
        "audio/x-m4a",
    ],
    recognise: |bytes| SoundFormat::recognise(bytes).map(SoundFormat::media_type),
};
