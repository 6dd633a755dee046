//! Looking at one row's content: is it whole, and what is it like.

use std::panic::{AssertUnwindSafe, catch_unwind};
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
    let looks = each(materials, limits.threads().min(pictures), |material| one(material, limits));
    // Decoders are guarded; should something fail all the same, that row is not taken for whole.
    let failed = || Err(Fault::new(Code::UndecodableMedia, "the decoder failed"));
    looks.into_iter().map(|look| look.unwrap_or_else(failed)).collect()
}

/// What `look` makes of every item, on so many threads, each in its item's place; `None` where it panicked.
fn each<T: Sync, R: Send>(items: &[T], threads: usize, look: impl Fn(&T) -> R + Sync) -> Vec<Option<R>> {
    let guarded = |item| catch_unwind(AssertUnwindSafe(|| look(item))).ok();
    if threads < 2 {
        return items.iter().map(guarded).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, guarded(item)));
        }
    };
    let mut looks: Vec<Option<R>> = items.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        for (index, look) in others.into_iter().filter_map(|thread| thread.join().ok()).flatten().chain(own) {
            looks[index] = look;
        }
    });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_panicked_over_is_missing_and_all_others_keep_their_own_answers() {
        let items: Vec<usize> = (0..100).collect();
        let look = |&item: &usize| if item == 1 { panic!("over this one") } else { 10 * item };
        let expected: Vec<Option<usize>> =
            items.iter().map(|&item| (item != 1).then_some(10 * item)).collect();
        for threads in [1, 2, 8] {
            assert_eq!(each(&items, threads, look), expected, "{threads} threads");
        }
    }
}
