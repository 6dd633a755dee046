//! File bytes → mono samples at one rate.

use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::packet::Packet;

use super::header::{Opened, guarded, recognise, refused};
use super::opus::Opus;
use super::{Resampler, SoundFormat};
use crate::{Limits, MediaError};

/// A sound as a backbone hears it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sound {
    /// Samples a second.
    pub rate: u32,
    /// Samples of −1…1, one channel; at least one.
    pub samples: Vec<f32>,
}

impl Sound {
    /// How long it lasts.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate)
    }
}

/// Decodes a sound, averages its channels and resamples it to `rate` samples a second.
///
/// # Errors
/// Those of [`super::probe_sound`]; [`MediaError::Undecodable`] for damaged and for cut files and those without a sample;
/// [`MediaError::SoundTooLong`] once more than `limits.max_seconds` came out.
pub fn decode_sound(bytes: &[u8], rate: u32, limits: &Limits) -> Result<Sound, MediaError> {
    let format = recognise(bytes)?;
    let samples = guarded(format, || stream(bytes, format, rate, limits))?;
    Ok(Sound { rate, samples })
}

fn stream(bytes: &[u8], format: SoundFormat, rate: u32, limits: &Limits) -> Result<Vec<f32>, MediaError> {
    let mut opened = Opened::new(bytes, format, limits)?;
    let mut codec = Codec::new(&opened, format)?;
    let mut mix = Mix {
        resampler: Resampler::new(opened.header.rate, rate),
        skip: opened.delay,
        left: opened.end.unwrap_or(u64::MAX),
        heard: 0,
        mono: Vec::new(),
        out: Vec::new(),
    };
    let most = limits.max_seconds as usize * rate as usize;
    while let Some(packet) = opened.reader.next_packet().map_err(|error| refused(format, &error))? {
        if packet.track_id != opened.track {
            continue;
        }
        codec.decode(format, &packet, opened.header.rate, &mut mix)?;
        if mix.out.len() > most {
            return Err(MediaError::SoundTooLong { max: limits.max_seconds });
        }
    }
    if opened.promised.is_some_and(|promised| mix.heard < promised) {
        return Err(format.undecodable("it ends too early"));
    }
    let Mix { resampler, mut out, .. } = mix;
    resampler.finish(&mut out);
    if out.is_empty() {
        return Err(format.undecodable("it has no samples"));
    }
    if out.len() > most {
        return Err(MediaError::SoundTooLong { max: limits.max_seconds });
    }
    out.iter_mut().for_each(|sample| *sample = sample.clamp(-1.0, 1.0));
    Ok(out)
}

/// Where decoded samples go.
struct Mix {
    resampler: Resampler,
    /// Samples a channel that are still to be left out.
    skip: u64,
    /// Samples a channel that are still wanted.
    left: u64,
    /// Samples a channel that came out of the decoder.
    heard: u64,
    mono: Vec<f32>,
    out: Vec<f32>,
}

impl Mix {
    /// Takes interleaved samples in.
    fn take(&mut self, format: SoundFormat, interleaved: &[f32], channels: usize) -> Result<(), MediaError> {
        let frames = interleaved.chunks_exact(channels.max(1));
        let count = frames.len() as u64;
        self.heard += count;
        let skipped = self.skip.min(count);
        self.skip -= skipped;
        let wanted = (count - skipped).min(self.left);
        self.left -= wanted;
        let share = 1.0 / channels.max(1) as f32;
        self.mono.clear();
        self.mono.extend(
            frames
                .skip(skipped as usize)
                .take(wanted as usize)
                .map(|frame| frame.iter().sum::<f32>() * share),
        );
        if self.mono.iter().any(|sample| !sample.is_finite()) {
            return Err(format.undecodable("it has samples that are not numbers"));
        }
        self.resampler.push(&self.mono, &mut self.out);
        Ok(())
    }
}

/// What turns packets into samples.
enum Codec {
    Library { decoder: Box<dyn AudioDecoder>, interleaved: Vec<f32> },
    Opus(Opus),
}

impl Codec {
    fn new(opened: &Opened<'_>, format: SoundFormat) -> Result<Self, MediaError> {
        if opened.params.codec == CODEC_ID_OPUS {
            let head = opened.params.extra_data.as_deref().unwrap_or_default();
            return Opus::new(format, head).map(Self::Opus);
        }
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(&opened.params, &AudioDecoderOptions::default())
            .map_err(|error| refused(format, &error))?;
        Ok(Self::Library { decoder, interleaved: Vec::new() })
    }

    fn decode(
        &mut self,
        format: SoundFormat,
        packet: &Packet,
        rate: u32,
        mix: &mut Mix,
    ) -> Result<(), MediaError> {
        match self {
            Self::Library { decoder, interleaved } => {
                let samples = decoder.decode(packet).map_err(|error| refused(format, &error))?;
                if samples.frames() == 0 {
                    return Ok(());
                }
                if samples.spec().rate() != rate {
                    return Err(format.unsupported("a sample rate that changes"));
                }
                let channels = samples.spec().channels().count();
                samples.copy_to_vec_interleaved(interleaved);
                mix.take(format, interleaved, channels)
            }
            Self::Opus(opus) => {
                let (samples, channels) = opus.decode(&packet.data)?;
                let trimmed = packet.trim_end.get() as usize * channels;
                mix.take(format, &samples[..samples.len().saturating_sub(trimmed)], channels)
            }
        }
    }
}
