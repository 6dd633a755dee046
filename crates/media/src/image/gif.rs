//! The first frame of a GIF on its screen, as Pillow places and fills it.

use super::{Format, Limits, RgbImage8};
use crate::MediaError;

type Decoder<'a> = gif::Decoder<&'a [u8]>;

/// Size of the canvas: the logical screen, grown where the first frame hangs over.
pub(super) fn size(bytes: &[u8]) -> Result<(u32, u32), MediaError> {
    let mut decoder = open(bytes, None)?;
    let frame = first_frame(&mut decoder)?;
    Ok(canvas(&decoder, &frame))
}

/// Decodes the first frame.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<RgbImage8, MediaError> {
    let mut decoder = open(bytes, Some(limits))?;
    let frame = first_frame(&mut decoder)?;
    let (width, height) = canvas(&decoder, &frame);
    let mut indices = vec![0; frame.width * frame.height];
    limits.allow_bytes(indices.len() as u64 + 3 * u64::from(width) * u64::from(height))?;
    decoder.read_into_buffer(&mut indices).map_err(|error| Format::Gif.undecodable(error))?;

    let colours = colours(frame.palette.as_deref().or_else(|| decoder.global_palette()));
    // Pillow shows the transparent colour around a frame that does not fill its screen, else the first one.
    let around = colours[usize::from(frame.transparent.unwrap_or(0))];
    let mut pixels = around.repeat(width as usize * height as usize);
    let rows = pixels.chunks_exact_mut(width as usize * 3).skip(frame.top);
    for (row, indices) in rows.zip(indices.chunks_exact(frame.width)) {
        let row = row.as_chunks_mut::<3>().0.iter_mut().skip(frame.left);
        for (pixel, &index) in row.zip(indices) {
            *pixel = colours[usize::from(index)];
        }
    }
    RgbImage8::new(width, height, pixels).ok_or_else(|| Format::Gif.undecodable("its canvas is empty"))
}

/// What is needed of the first frame's descriptor.
struct Frame {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    transparent: Option<u8>,
    palette: Option<Vec<u8>>,
}

fn open<'a>(bytes: &'a [u8], limits: Option<&Limits>) -> Result<Decoder<'a>, MediaError> {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::Indexed);
    if let Some(bytes) = limits.and_then(|limits| std::num::NonZeroU64::new(limits.decode_bytes())) {
        options.set_memory_limit(gif::MemoryLimit::Bytes(bytes));
    }
    options.read_info(bytes).map_err(|error| Format::Gif.undecodable(error))
}

fn first_frame(decoder: &mut Decoder<'_>) -> Result<Frame, MediaError> {
    let frame = decoder.next_frame_info().map_err(|error| Format::Gif.undecodable(error))?;
    let frame = frame.ok_or_else(|| Format::Gif.undecodable("it has no frame"))?;
    if frame.width == 0 || frame.height == 0 {
        return Err(Format::Gif.undecodable("its first frame is empty"));
    }
    Ok(Frame {
        left: frame.left.into(),
        top: frame.top.into(),
        width: frame.width.into(),
        height: frame.height.into(),
        transparent: frame.transparent,
        palette: frame.palette.clone(),
    })
}

fn canvas(decoder: &Decoder<'_>, frame: &Frame) -> (u32, u32) {
    let side = |screen: u16, from: usize, length: usize| u32::from(screen).max((from + length) as u32);
    (side(decoder.width(), frame.left, frame.width), side(decoder.height(), frame.top, frame.height))
}

/// All 256 colours: those of the table, and greys where it has none.
fn colours(table: Option<&[u8]>) -> Vec<[u8; 3]> {
    let mut colours: Vec<[u8; 3]> = table.unwrap_or_default().as_chunks::<3>().0.to_vec();
    colours.extend((colours.len()..256).map(|grey| [grey as u8; 3]));
    colours
}
