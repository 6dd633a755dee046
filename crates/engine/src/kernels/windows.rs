//! Windows that slide over images, and images' planes, as sides of products.

use std::cell::RefCell;
use std::ops::Range;

use super::machine::COLUMNS;
use super::operand::{Operand, Side, turn_all};
use super::simd::{LANES, Places, gather_rows};

/// How a kernel slides over images of `[batch, channels, height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sliding {
    pub(super) kernel: [usize; 2],
    pub(super) strides: [usize; 2],
    pub(super) dilations: [usize; 2],
    /// Padding above and at the left.
    pub(super) before: [usize; 2],
    /// Height and width of the image.
    pub(super) image: [usize; 2],
    /// Windows down and across.
    pub(super) windows: [usize; 2],
}

impl Sliding {
    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Pixels of an image.
    pub(super) fn pixels(&self) -> usize {
        self.image[0] * self.image[1]
    }

    /// Windows over an image.
    pub(super) fn count(&self) -> usize {
        self.windows[0] * self.windows[1]
    }

    /// Whether each window is one pixel, in their order.
    pub(super) fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.strides == [1, 1] && self.before == [0, 0] && self.image == self.windows
    }

    /// The windows whose tap lies inside, along one axis.
    pub(super) fn inside(&self, axis: usize, tap: usize) -> Range<usize> {
        let (offset, stride) = (tap * self.dilations[axis], self.strides[axis]);
        let first = self.before[axis].saturating_sub(offset).div_ceil(stride);
        let end = (self.image[axis] + self.before[axis]).saturating_sub(offset).div_ceil(stride);
        let end = end.min(self.windows[axis]);
        first.min(end)..end
    }

    /// The pixels that each tap meets from up to [`COLUMNS`] windows.
    fn places(&self, windows: Range<usize>) -> Vec<[Places; 2]> {
        // Far outside, for lanes that there are no windows for.
        let mut corners = [[i32::MIN / 2; COLUMNS]; 2];
        for (lane, window) in windows.clone().enumerate() {
            for (axis, at) in [window / self.windows[1], window % self.windows[1]].into_iter().enumerate() {
                corners[axis][lane] = (at * self.strides[axis]) as i32 - self.before[axis] as i32;
            }
        }
        let of = |tap: usize| {
            let down = (tap / self.kernel[1] * self.dilations[0]) as i32;
            let across = (tap % self.kernel[1] * self.dilations[1]) as i32;
            [0, LANES].map(|half| {
                let rows = std::array::from_fn(|lane| corners[0][half + lane] + down);
                let columns = std::array::from_fn(|lane| corners[1][half + lane] + across);
                Places::new(&rows, &columns, self.image, self.strides[1] == 1)
            })
        };
        (0..self.taps()).map(of).collect()
    }

    /// What one tap meets in a plane, window by window.
    fn gather(&self, plane: &[f32], tap: usize, windows: Range<usize>, out: &mut [f32]) {
        let [row_tap, column_tap] = [tap / self.kernel[1], tap % self.kernel[1]];
        let (rows, columns) = (self.inside(0, row_tap), self.inside(1, column_tap));
        let across = self.windows[1];
        let mut at = windows.start;
        let mut out = &mut out[..windows.len()];
        while at < windows.end {
            let (row, first) = (at / across, at % across);
            let count = (across - first).min(windows.end - at);
            let (part, rest) = std::mem::take(&mut out).split_at_mut(count);
            (out, at) = (rest, at + count);
            let (start, end) =
                (columns.start.clamp(first, first + count), columns.end.clamp(first, first + count));
            if !rows.contains(&row) || start >= end {
                part.fill(0.0);
                continue;
            }
            part[..start - first].fill(0.0);
            part[end - first..].fill(0.0);
            let y = row * self.strides[0] + row_tap * self.dilations[0] - self.before[0];
            let x = start * self.strides[1] + column_tap * self.dilations[1] - self.before[1];
            let source = &plane[y * self.image[1] + x..];
            let part = &mut part[start - first..end - first];
            if self.strides[1] == 1 {
                part.copy_from_slice(&source[..end - start]);
            } else {
                for (value, found) in part.iter_mut().zip(source.iter().step_by(self.strides[1])) {
                    *value = *found;
                }
            }
        }
    }
}

thread_local! {
    static GATHERED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// What windows meet: lanes are the windows of one image of the stack, depth is channels by taps.
pub(super) struct Windows<'a> {
    pub(super) images: &'a [f32],
    pub(super) channels: usize,
    pub(super) sliding: Sliding,
}

impl Windows<'_> {
    fn plane(&self, image: usize, channel: usize) -> &[f32] {
        let pixels = self.sliding.pixels();
        &self.images[(image * self.channels + channel) * pixels..][..pixels]
    }
}

impl Operand for Windows<'_> {
    fn pack(&self, stack: usize, lanes: Range<usize>, depth: Range<usize>, side: Side, out: &mut [f32]) {
        let taps = self.sliding.taps();
        match side {
            Side::ByDepth(COLUMNS) => {
                let places = self.sliding.places(lanes);
                let planes = &self.images[stack * self.channels * self.sliding.pixels()..];
                let (rows, _) = out.as_chunks_mut::<COLUMNS>();
                let (rows, rest) = rows.split_at_mut(depth.len());
                gather_rows(planes, self.sliding.pixels(), &places, depth.start, rows);
                rest.fill([0.0; COLUMNS]);
            }
            Side::ByDepth(width) => {
                for (k, row) in depth.clone().zip(out.chunks_exact_mut(width)) {
                    let (full, rest) = row.split_at_mut(lanes.len());
                    self.sliding.gather(self.plane(stack, k / taps), k % taps, lanes.clone(), full);
                    rest.fill(0.0);
                }
                out[depth.len() * width..].fill(0.0);
            }
            Side::ByLane(pitch) => GATHERED.with_borrow_mut(|rows| {
                rows.resize(rows.len().max(depth.len() * lanes.len()), 0.0);
                for (k, row) in depth.clone().zip(rows.chunks_exact_mut(lanes.len())) {
                    self.sliding.gather(self.plane(stack, k / taps), k % taps, lanes.clone(), row);
                }
                turn_all(rows, lanes.len(), [depth.len(), lanes.len()], pitch, out);
                out[lanes.len() * pitch..].fill(0.0);
            }),
        }
    }
}

/// The same with lanes and depth exchanged: lanes are channels by taps, depth is the windows of all images.
pub(super) struct Taps<'a>(pub(super) Windows<'a>);

impl Operand for Taps<'_> {
    fn pack(&self, _stack: usize, lanes: Range<usize>, depth: Range<usize>, side: Side, out: &mut [f32]) {
        let (sliding, taps) = (&self.0.sliding, self.0.sliding.taps());
        let gather = |lane: usize, row: &mut [f32]| {
            by_image(depth.clone(), sliding.count(), |image, windows, at| {
                let plane = self.0.plane(image, lane / taps);
                sliding.gather(plane, lane % taps, windows.clone(), &mut row[at..at + windows.len()]);
            });
        };
        pack_lanes(lanes, depth.len(), side, gather, out);
    }
}

/// Planes of images: lanes are channels, depth is the pixels of all images.
pub(super) struct Planes<'a> {
    pub(super) images: &'a [f32],
    pub(super) channels: usize,
    pub(super) pixels: usize,
}

impl Operand for Planes<'_> {
    fn pack(&self, _stack: usize, lanes: Range<usize>, depth: Range<usize>, side: Side, out: &mut [f32]) {
        let plane = |image: usize, lane: usize| &self.images[(image * self.channels + lane) * self.pixels..];
        if let Side::ByDepth(width) = side {
            // Turned from where they lie.
            by_image(depth.clone(), self.pixels, |image, pixels, at| {
                let rows = &plane(image, lanes.start)[pixels.start..];
                turn_all(rows, self.pixels, [lanes.len(), pixels.len()], width, &mut out[at * width..]);
            });
            return out[depth.len() * width..].fill(0.0);
        }
        let gather = |lane: usize, row: &mut [f32]| {
            by_image(depth.clone(), self.pixels, |image, pixels, at| {
                row[at..at + pixels.len()].copy_from_slice(&plane(image, lane)[pixels]);
            });
        };
        pack_lanes(lanes, depth.len(), side, gather, out);
    }
}

/// Cuts a run along all images into runs of one image: image, run in it, how much came before.
fn by_image(run: Range<usize>, each: usize, mut part: impl FnMut(usize, Range<usize>, usize)) {
    let mut at = run.start;
    while at < run.end {
        let (image, first) = (at / each, at % each);
        let count = (each - first).min(run.end - at);
        part(image, first..first + count, at - run.start);
        at += count;
    }
}

/// Packs lanes that are each gathered as one run.
fn pack_lanes(
    lanes: Range<usize>,
    depth: usize,
    side: Side,
    gather: impl Fn(usize, &mut [f32]),
    out: &mut [f32],
) {
    // Of no images.
    if depth == 0 {
        return out.fill(0.0);
    }
    match side {
        Side::ByLane(pitch) => {
            for (lane, row) in lanes.clone().zip(out.chunks_exact_mut(pitch)) {
                gather(lane, &mut row[..depth]);
                row[depth..].fill(0.0);
            }
            out[lanes.len() * pitch..].fill(0.0);
        }
        Side::ByDepth(width) => GATHERED.with_borrow_mut(|rows| {
            rows.resize(rows.len().max(depth * lanes.len()), 0.0);
            for (lane, row) in lanes.clone().zip(rows.chunks_exact_mut(depth)) {
                gather(lane, row);
            }
            turn_all(rows, depth, [lanes.len(), depth], width, out);
            out[depth * width..].fill(0.0);
        }),
    }
}

/// A weight `[outer, inner, taps]` for the gradient of an image: lanes are `inner`, depth is `outer` by taps in reverse.
pub(super) struct Turned<'a> {
    pub(super) weight: &'a [f32],
    pub(super) inner: usize,
    pub(super) taps: usize,
}

impl Operand for Turned<'_> {
    fn pack(&self, _stack: usize, lanes: Range<usize>, depth: Range<usize>, side: Side, out: &mut [f32]) {
        let gather = |lane: usize, row: &mut [f32]| {
            for (k, value) in depth.clone().zip(row) {
                let (outer, tap) = (k / self.taps, k % self.taps);
                *value = self.weight[(outer * self.inner + lane) * self.taps + self.taps - 1 - tap];
            }
        };
        pack_lanes(lanes, depth.len(), side, gather, out);
    }
}
