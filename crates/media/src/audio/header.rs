//! Opening a sound, and refusing by its header what would cost too much.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::errors::Error;
use symphonia::core::formats::{FormatOptions, FormatReader, Track, TrackType};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::default::formats::{FlacReader, IsoMp4Reader, MpaReader, OggReader, WavReader};

use super::format::{SoundFormat, unsupported, without_tag};
use super::{mp4, ogg};
use crate::image::describe;
use crate::{Limits, MediaError};

/// Sample rates that are taken: resampling from others would cost more than any use of it.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=384_000;
/// Most channels.
const MOST_CHANNELS: usize = 32;

/// What a sound's header says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoundHeader {
    /// The file format.
    pub format: SoundFormat,
    /// Samples a second.
    pub rate: u32,
    /// Channels, of which the mean is taken.
    pub channels: usize,
    /// How long it lasts, where the header tells.
    pub seconds: Option<f64>,
}

/// Reads the header alone.
///
/// # Errors
/// [`MediaError::Empty`]; [`MediaError::Unsupported`] for bytes of no known format, for codecs, rates and numbers of
/// channels that are not decoded; [`MediaError::Undecodable`] for a damaged header; [`MediaError::SoundTooLong`] above
/// `limits.max_seconds`.
pub fn probe_sound(bytes: &[u8], limits: &Limits) -> Result<SoundHeader, MediaError> {
    let format = recognise(bytes)?;
    guarded(format, || Opened::new(bytes, format, limits).map(|opened| opened.header))
}

pub(super) fn recognise(bytes: &[u8]) -> Result<SoundFormat, MediaError> {
    if bytes.is_empty() {
        return Err(MediaError::Empty { kind: "sound" });
    }
    SoundFormat::recognise(bytes).ok_or_else(|| unsupported(describe(bytes).into()))
}

/// Runs a decoder. Should one panic, that is this sound's error alone.
pub(super) fn guarded<T>(
    format: SoundFormat,
    run: impl FnOnce() -> Result<T, MediaError>,
) -> Result<T, MediaError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(format.undecodable("the decoder failed")))
}

/// A sound whose header was read and allowed.
pub(super) struct Opened<'a> {
    pub(super) header: SoundHeader,
    pub(super) reader: Box<dyn FormatReader + 'a>,
    pub(super) track: u32,
    pub(super) params: AudioCodecParameters,
    /// Samples a channel that the file promises, where a promise is kept to the sample.
    pub(super) promised: Option<u64>,
    /// Decoded samples before the sound begins, where the decoder does not leave them out.
    pub(super) delay: u64,
    /// Samples a channel behind which the rest is what the encoder added.
    pub(super) end: Option<u64>,
}

impl<'a> Opened<'a> {
    pub(super) fn new(bytes: &'a [u8], format: SoundFormat, limits: &Limits) -> Result<Self, MediaError> {
        if format == SoundFormat::Ogg {
            ogg::check_whole(bytes)?;
        }
        let reader = open(bytes, format).map_err(|error| refused(format, &error))?;
        let track = reader
            .default_track(TrackType::Audio)
            .ok_or_else(|| format.unsupported("no sound that is known"))?;
        let Some(CodecParameters::Audio(params)) = track.codec_params.clone() else {
            return Err(format.unsupported("no sound that is known"));
        };
        let rate = params.sample_rate.ok_or_else(|| format.undecodable("it has no sample rate"))?;
        if !RATES.contains(&rate) {
            return Err(format.unsupported(format_args!("{rate} samples a second")));
        }
        // Some formats tell with the first packet only.
        let channels = params.channels.as_ref().map_or(1, |channels| channels.count());
        if channels == 0 || channels > MOST_CHANNELS {
            return Err(format.unsupported(format_args!("{channels} channels")));
        }
        let seconds = seconds(track, format, rate);
        if seconds.is_some_and(|seconds| seconds > f64::from(limits.max_seconds)) {
            return Err(MediaError::SoundTooLong { max: limits.max_seconds });
        }
        let edit = if format == SoundFormat::M4a { mp4::edit(bytes) } else { None };
        let delay = match edit {
            Some(edit) => edit.delay(rate),
            None if params.codec == CODEC_ID_OPUS => u64::from(track.delay.unwrap_or(0)),
            None => 0,
        };
        let promised = match format {
            SoundFormat::Wav | SoundFormat::Flac => track.num_frames,
            // Without an encoder's own tag the number is a guess from the bit rate.
            SoundFormat::Mp3 if track.delay.is_some() => track.num_frames,
            SoundFormat::Mp3 | SoundFormat::Ogg | SoundFormat::M4a => None,
        };
        Ok(Self {
            header: SoundHeader { format, rate, channels, seconds },
            track: track.id,
            promised,
            delay,
            end: edit.and_then(|edit| edit.samples(rate)),
            params,
            reader,
        })
    }
}

fn open(bytes: &[u8], format: SoundFormat) -> Result<Box<dyn FormatReader + '_>, Error> {
    let stream =
        |bytes| MediaSourceStream::new(Box::new(Cursor::new(bytes)), MediaSourceStreamOptions::default());
    let options = FormatOptions::default();
    Ok(match format {
        SoundFormat::Wav => Box::new(WavReader::try_new(stream(bytes), options)?),
        SoundFormat::Flac => Box::new(FlacReader::try_new(stream(without_tag(bytes)), options)?),
        SoundFormat::Mp3 => Box::new(MpaReader::try_new(stream(without_tag(bytes)), options)?),
        SoundFormat::Ogg => Box::new(OggReader::try_new(stream(bytes), options)?),
        SoundFormat::M4a => Box::new(IsoMp4Reader::try_new(stream(bytes), options)?),
    })
}

fn seconds(track: &Track, format: SoundFormat, rate: u32) -> Option<f64> {
    // See `promised`.
    if format == SoundFormat::Mp3 && track.delay.is_none() {
        return None;
    }
    let frames = track.num_frames.map(|frames| frames as f64 / f64::from(rate));
    let duration = || Some(track.time_base?.calc_duration(track.duration?)?.as_secs_f64());
    frames.or_else(duration)
}

/// What a reader or decoder of the library says, in our words.
pub(super) fn refused(format: SoundFormat, error: &Error) -> MediaError {
    if let Error::Unsupported(what) = error {
        return format.unsupported(what);
    }
    if matches!(error, Error::IoError(_)) {
        return format.undecodable("it ends too early");
    }
    if matches!(error, Error::ResetRequired) {
        return format.unsupported("several sounds in a row");
    }
    format.undecodable(error)
}
