//! Opus packets, which the container's reader hands on undecoded.
//!
//! More than two channels are several streams in one packet; each but the last says its own length, which takes more
//! bytes at places that depend on the kind of packet. Source: RFC 6716, §3 and appendix B; RFC 7845, §5.1.

use opus_decoder::OpusDecoder;

use super::SoundFormat;
use crate::MediaError;

/// Opus decodes to this whatever it was made of.
const RATE: u32 = 48_000;
/// Samples a channel of the longest packet: 120 ms.
const LONGEST: usize = 5_760;

/// A decoder for one sound's packets.
pub(super) struct Opus {
    format: SoundFormat,
    streams: Vec<Stream>,
    /// Stream and channel of it behind each channel of the sound; `None` is silence.
    channels: Vec<Option<(usize, usize)>>,
    gain: f32,
    samples: Vec<f32>,
}

/// One of the streams that a packet holds.
struct Stream {
    decoder: OpusDecoder,
    channels: usize,
    samples: Vec<f32>,
}

impl Opus {
    /// A decoder as the identification header says.
    ///
    /// # Errors
    /// [`MediaError::Undecodable`] or [`MediaError::Unsupported`] by what the header says.
    pub(super) fn new(format: SoundFormat, head: &[u8]) -> Result<Self, MediaError> {
        let wrong = || format.undecodable("its Opus header is wrong");
        let head = head.strip_prefix(b"OpusHead").ok_or_else(wrong)?;
        let fixed = head.first_chunk::<11>().ok_or_else(wrong)?;
        let channels = usize::from(fixed[1]);
        let (streams, coupled, mapping): (u8, u8, &[u8]) = match (fixed[10], channels) {
            (0, 1) => (1, 0, &[0]),
            (0, 2) => (1, 1, &[0, 1]),
            (1, _) => {
                let &[streams, coupled] = head.get(11..).and_then(<[u8]>::first_chunk).ok_or_else(wrong)?;
                (streams, coupled, head.get(13..13 + channels).ok_or_else(wrong)?)
            }
            (family, _) => {
                return Err(format.unsupported(format_args!("Opus, channel mapping family {family}")));
            }
        };
        let (streams, coupled) = (usize::from(streams), usize::from(coupled));
        if coupled > streams || streams == 0 || streams > channels {
            return Err(wrong());
        }
        let source = |slot: u8| match usize::from(slot) {
            255 => Some(None),
            slot if slot < 2 * coupled => Some(Some((slot / 2, slot % 2))),
            slot => Some(Some((slot - coupled, 0))).filter(|_| slot - coupled < streams),
        };
        let channels: Option<Vec<_>> = mapping.iter().copied().map(source).collect();
        let stream = |index: usize| {
            let channels = if index < coupled { 2 } else { 1 };
            let decoder = OpusDecoder::new(RATE, channels).map_err(|error| format.undecodable(error))?;
            Ok(Stream { decoder, channels, samples: vec![0.0; LONGEST * channels] })
        };
        // In 256ths of a decibel.
        let gain = f32::from(i16::from_le_bytes([fixed[8], fixed[9]]));
        Ok(Self {
            format,
            streams: (0..streams).map(stream).collect::<Result<_, MediaError>>()?,
            channels: channels.ok_or_else(wrong)?,
            gain: 10_f32.powf(gain / (20.0 * 256.0)),
            samples: Vec::new(),
        })
    }

    /// A packet's samples, interleaved, and the number of channels.
    ///
    /// # Errors
    /// [`MediaError::Undecodable`].
    pub(super) fn decode(&mut self, packet: &[u8]) -> Result<(&[f32], usize), MediaError> {
        self.samples.clear();
        if packet.is_empty() {
            return Ok((self.samples.as_slice(), self.channels.len()));
        }
        let wrong = || self.format.undecodable("a packet of Opus is wrong");
        let (mut rest, mut length) = (packet, None);
        let last = self.streams.len() - 1;
        for (index, stream) in self.streams.iter_mut().enumerate() {
            let own =
                if index == last { rest.to_vec() } else { first_packet(&mut rest).ok_or_else(wrong)? };
            let count = stream
                .decoder
                .decode_float(&own, &mut stream.samples, false)
                .map_err(|error| self.format.undecodable(error))?;
            if *length.get_or_insert(count) != count || count > LONGEST {
                return Err(wrong());
            }
        }
        for at in 0..length.unwrap_or(0) {
            self.samples.extend(self.channels.iter().map(|source| {
                source.map_or(0.0, |(stream, channel)| {
                    let stream = &self.streams[stream];
                    stream.samples[at * stream.channels + channel] * self.gain
                })
            }));
        }
        Ok((self.samples.as_slice(), self.channels.len()))
    }
}

/// Takes the packet that says its own length off the front, and writes it as one that stands alone. `None` where it is cut.
fn first_packet(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let head = take(bytes, 1)?.first().copied()?;
    let mut packet = vec![head];
    let (frames, padding) = match head & 3 {
        0 => (length(bytes)?.0, 0),
        1 => (2 * length(bytes)?.0, 0),
        2 => {
            let (first, written) = length(bytes)?;
            packet.extend(written);
            (first + length(bytes)?.0, 0)
        }
        _ => {
            let count = take(bytes, 1)?.first().copied()?;
            packet.push(count);
            let mut padding = 0;
            let mut padded = count & 0x40 != 0;
            while padded {
                let more = take(bytes, 1)?.first().copied()?;
                packet.push(more);
                padding += usize::from(more.min(254));
                padded = more == 255;
            }
            let frames = usize::from(count & 0x3F);
            let mut all = 0;
            if count & 0x80 == 0 {
                all = frames * length(bytes)?.0;
            } else {
                for _ in 1..frames {
                    let (frame, written) = length(bytes)?;
                    packet.extend(written);
                    all += frame;
                }
                all += length(bytes)?.0;
            }
            (all, padding)
        }
    };
    packet.extend(take(bytes, frames + padding)?);
    Some(packet)
}

/// A frame's length, and the one or two bytes that it is written in.
fn length<'a>(bytes: &mut &'a [u8]) -> Option<(usize, &'a [u8])> {
    let all = *bytes;
    match usize::from(take(bytes, 1)?.first().copied()?) {
        first if first < 252 => Some((first, all.get(..1)?)),
        first => {
            let second = take(bytes, 1)?.first().copied()?;
            Some((4 * usize::from(second) + first, all.get(..2)?))
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}
