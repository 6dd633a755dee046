//! The edit list of an MP4 file's sound: which of the decoded samples are the sound. The reader does not apply it.

/// What of a track is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edit {
    /// Where it begins, in the track's time.
    start: u64,
    /// How long it lasts, in the file's time.
    length: u64,
    /// The track's ticks a second.
    track_scale: u32,
    /// The file's ticks a second.
    file_scale: u32,
}

impl Edit {
    /// Decoded samples before the sound.
    pub(super) fn delay(self, rate: u32) -> u64 {
        scaled(self.start, rate, self.track_scale)
    }

    /// Samples of the sound, where the list says so. The file's time may be coarser than a sample: the next whole tick.
    pub(super) fn samples(self, rate: u32) -> Option<u64> {
        (self.length > 0).then(|| scaled(self.length, rate, self.file_scale))
    }
}

fn scaled(ticks: u64, rate: u32, scale: u32) -> u64 {
    let samples = u128::from(ticks) * u128::from(rate) / u128::from(scale.max(1));
    u64::try_from(samples).unwrap_or(u64::MAX)
}

/// The edit of the first track that is sound; `None` for a file without one, or with more than one piece.
/// Source: ISO/IEC 14496-12, §8.6.6.
pub(super) fn edit(bytes: &[u8]) -> Option<Edit> {
    let movie = find(bytes, *b"moov")?;
    let file_scale = time_scale(find(movie, *b"mvhd")?)?;
    let is_sound = |media: &&[u8]| find(media, *b"hdlr").is_some_and(|hdlr| hdlr.get(8..12) == Some(b"soun"));
    let (track, media) = boxes(movie)
        .filter(|(kind, _)| kind == b"trak")
        .find_map(|(_, track)| Some((track, find(track, *b"mdia").filter(is_sound)?)))?;
    let track_scale = time_scale(find(media, *b"mdhd")?)?;
    let list = find(find(track, *b"edts")?, *b"elst")?;
    let wide = *list.first()? == 1;
    let count = u32::from_be_bytes(*list.get(4..)?.first_chunk()?);
    let mut entries =
        list.get(8..)?.chunks_exact(if wide { 20 } else { 12 }).take(count as usize).map(|entry| {
            let number = |at: usize, size: usize| {
                entry[at..at + size].iter().fold(0_u64, |sum, b| sum << 8 | u64::from(*b))
            };
            if wide {
                (number(0, 8), number(8, 8).cast_signed())
            } else {
                (number(0, 4), i64::from(number(4, 4) as u32 as i32))
            }
        });
    // An entry that begins nowhere delays the sound against a picture.
    let shown: Vec<(u64, i64)> = entries.by_ref().filter(|(_, start)| *start >= 0).collect();
    let [(length, start)] = shown.as_slice() else { return None };
    Some(Edit { start: start.unsigned_abs(), length: *length, track_scale, file_scale })
}

/// Ticks a second of an `mvhd` or `mdhd`.
fn time_scale(head: &[u8]) -> Option<u32> {
    let at = if *head.first()? == 1 { 20 } else { 12 };
    Some(u32::from_be_bytes(*head.get(at..)?.first_chunk()?)).filter(|scale| *scale > 0)
}

fn find(bytes: &[u8], kind: [u8; 4]) -> Option<&[u8]> {
    boxes(bytes).find(|(found, _)| *found == kind).map(|(_, content)| content)
}

/// The boxes that stand side by side, as far as they are whole.
fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let size = u32::from_be_bytes(*bytes.first_chunk()?);
        let kind = *bytes.get(4..)?.first_chunk()?;
        let (head, size) = match size {
            0 => (8, bytes.len()),
            1 => (16, usize::try_from(u64::from_be_bytes(*bytes.get(8..)?.first_chunk()?)).ok()?),
            size => (8, size as usize),
        };
        let content = bytes.get(head..size)?;
        bytes = &bytes[size..];
        Some((kind, content))
    })
}
