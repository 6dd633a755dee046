//! Looking at one row's content: is it whole, and what is it like.

use std::sync::atomic::{AtomicUsize, Ordering};

use headstart_media::{MediaError, decode, decode_base64, decode_sound};
use headstart_types::Modality;

use super::text::Signature;
use super::{picture, text};
use crate::draft::{Fault, Material};
use crate::{Code, Limits};

/// What a content is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) modality: Modality,
    /// Equal for equal contents.
    pub(crate) key: u128,
    /// Alike for contents alike; `None` where it would say nothing.
    pub(crate) signature: Option<Signature>,
}

/// Looks at every material, pictures and sounds on several threads; the answers are in the order given.
pub(crate) fn all(materials: &[&Material], limits: &Limits) -> Vec<Result<Look, Fault>> {
    let pictures = materials.iter().filter(|material| !matches!(material, Material::Text(_))).count();
    let threads = limits.threads().min(pictures);
    if threads < 2 {
        return materials.iter().map(|material| one(material, limits)).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(material) = materials.get(index) else { return done };
            done.push((index, one(material, limits)));
        }
    };
    let mut done: Vec<(usize, Result<Look, Fault>)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        done.extend(others.into_iter().filter_map(|thread| thread.join().ok()).flatten());
        done
    });
    done.sort_by_key(|(index, _)| *index);
    let mut looks: Vec<_> = done.into_iter().map(|(_, look)| look).collect();
    // Decoders are guarded; should a thread die all the same, its rows are not taken for whole.
    looks.resize_with(materials.len(), || Err(Fault::new(Code::UndecodableMedia, "the decoder failed")));
    looks
}

fn one(material: &Material, limits: &Limits) -> Result<Look, Fault> {
    match material {
        Material::Text(text) => {
            let normal = text::normalised(text);
            Ok(Look {
                modality: Modality::Text,
                key: key(&[normal.as_bytes()]),
                signature: text::signature(&normal),
            })
        }
        Material::Base64(modality, text) => {
            let bytes = decode_base64(text, &limits.media).map_err(|error| fault(&error))?;
            if *modality == Modality::Audio { sound(&bytes, limits) } else { picture(&bytes, limits) }
        }
        Material::Image(bytes) => picture(bytes, limits),
        Material::Audio(bytes) => sound(bytes, limits),
    }
}

fn picture(bytes: &[u8], limits: &Limits) -> Result<Look, Fault> {
    if bytes.len() > limits.media.max_bytes {
        let message =
            format!("the picture has {} bytes; at most {} are taken", bytes.len(), limits.media.max_bytes);
        return Err(Fault::new(Code::MediaTooLarge, message));
    }
    let image = decode(bytes, &limits.media).map_err(|error| fault(&error))?;
    let size = [image.width().to_le_bytes(), image.height().to_le_bytes()].concat();
    Ok(Look {
        modality: Modality::Image,
        key: key(&[&size, &image.pixels()]),
        signature: picture::signature(&image),
    })
}

/// Sounds are the same when all samples are, at the rate that most models read.
fn sound(bytes: &[u8], limits: &Limits) -> Result<Look, Fault> {
    const RATE: u32 = 16_000;
    if bytes.len() > limits.media.max_bytes {
        let message =
            format!("the sound has {} bytes; at most {} are taken", bytes.len(), limits.media.max_bytes);
        return Err(Fault::new(Code::MediaTooLarge, message));
    }
    let sound = decode_sound(bytes, RATE, &limits.media).map_err(|error| fault(&error))?;
    let samples: Vec<u8> = sound.samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    Ok(Look { modality: Modality::Audio, key: key(&[b"audio", &samples]), signature: None })
}

/// The first half of a BLAKE3 hash: chance will not make two contents equal.
pub(crate) fn key(parts: &[&[u8]]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut half = [0; 16];
    hasher.finalize_xof().fill(&mut half);
    u128::from_le_bytes(half)
}

fn fault(error: &MediaError) -> Fault {
    let code = match error {
        MediaError::Unsupported { .. } => Code::UnsupportedMedia,
        MediaError::TooLarge { .. }
        | MediaError::SideTooLong { .. }
        | MediaError::SoundTooLong { .. }
        | MediaError::TooManyBytes { .. }
        | MediaError::TooMuchMemory { .. } => Code::MediaTooLarge,
        MediaError::Undecodable { .. }
        | MediaError::Empty { .. }
        | MediaError::Url
        | MediaError::Base64(_)
        | MediaError::TooLong { .. }
        | MediaError::NoRoom { .. }
        | MediaError::TokenId { .. }
        | MediaError::NoTokens
        | MediaError::Tokenizer(_) => Code::UndecodableMedia,
    };
    Fault::new(code, error.to_string())
}
