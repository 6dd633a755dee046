//! Convolutions of each channel alone. A plane is first laid out with its padding, and with each phase of the stride apart, so
//! that what a tap meets of a row lies side by side.

use std::cell::RefCell;

use multiversion::multiversion;

use super::convolution::Convolution;
use super::product::Threads;
use super::shared::parts;
use super::simd::LANES;
use super::windows::Sliding;

/// How a plane is laid out: `[rows][phases][pitch]`.
#[derive(Clone, Copy)]
struct Layout {
    rows: usize,
    phases: usize,
    pitch: usize,
}

impl Layout {
    fn of(sliding: &Sliding) -> Self {
        let reach = |axis: usize| (sliding.kernel[axis] - 1) * sliding.dilations[axis];
        let rows = (sliding.windows[0] - 1) * sliding.strides[0] + reach(0) + 1;
        let across = sliding.windows[1].next_multiple_of(LANES) + reach(1) / sliding.strides[1] + 1;
        Self { rows, phases: sliding.strides[1], pitch: across }
    }

    fn size(&self) -> usize {
        self.rows * self.phases * self.pitch
    }

    /// Where each tap of the window at the left end of row 0 lies.
    fn taps(&self, sliding: &Sliding) -> Vec<usize> {
        let place = |tap: usize| {
            let (row, column) = (
                tap / sliding.kernel[1] * sliding.dilations[0],
                tap % sliding.kernel[1] * sliding.dilations[1],
            );
            (row * self.phases + column % self.phases) * self.pitch + column / self.phases
        };
        (0..sliding.taps()).map(place).collect()
    }

    /// Distance from one row of windows to the next.
    fn step(&self, sliding: &Sliding) -> usize {
        sliding.strides[0] * self.phases * self.pitch
    }

    /// The pixels of a row that lie in a phase: the first, and its place in the phase.
    fn first(&self, sliding: &Sliding, phase: usize) -> (usize, usize) {
        let skipped = sliding.before[1].saturating_sub(phase).div_ceil(self.phases);
        (skipped * self.phases + phase - sliding.before[1], skipped)
    }

    /// Rows of the image that are laid out, by the row they are laid at.
    fn image_rows(&self, sliding: &Sliding) -> impl Iterator<Item = (usize, usize)> {
        let before = sliding.before[0];
        (before..self.rows.min(before + sliding.image[0])).map(move |row| (row, row - before))
    }

    /// Where the pixels at even places of a row lie, and those at odd ones, for two phases.
    fn halves<'a>(&self, sliding: &Sliding, row: &'a mut [f32]) -> (&'a mut [f32], &'a mut [f32]) {
        let (first, second) = row[..2 * self.pitch].split_at_mut(self.pitch);
        let places = [0, 1].map(|phase| self.first(sliding, phase));
        let (first, second) = (&mut first[places[0].1..], &mut second[places[1].1..]);
        if places[0].0 == 0 { (first, second) } else { (second, first) }
    }

    /// Lays out a plane; what is padding must be 0 already.
    fn lay(&self, sliding: &Sliding, plane: &[f32], out: &mut [f32]) {
        let across = sliding.image[1];
        for (to, from) in self.image_rows(sliding) {
            let row = &plane[from * across..][..across];
            if self.phases == 2 {
                let (even, odd) = self.halves(sliding, &mut out[2 * to * self.pitch..]);
                apart(row, even, odd);
                continue;
            }
            for phase in 0..self.phases {
                let (pixel, place) = self.first(sliding, phase);
                let out = &mut out[(to * self.phases + phase) * self.pitch..][place..self.pitch];
                match self.phases {
                    1 => {
                        let count = out.len().min(across - pixel.min(across));
                        out[..count].copy_from_slice(&row[pixel..pixel + count]);
                    }
                    _ => {
                        for (to, from) in out.iter_mut().zip(row.iter().skip(pixel).step_by(self.phases)) {
                            *to = *from;
                        }
                    }
                }
            }
        }
    }

    /// Takes a plane back out of its layout.
    fn take(&self, sliding: &Sliding, laid: &mut [f32], plane: &mut [f32]) {
        let across = sliding.image[1];
        plane.fill(0.0);
        for (from, to) in self.image_rows(sliding) {
            let row = &mut plane[to * across..][..across];
            if self.phases == 2 {
                let (even, odd) = self.halves(sliding, &mut laid[2 * from * self.pitch..]);
                together(even, odd, row);
                continue;
            }
            for phase in 0..self.phases {
                let (pixel, place) = self.first(sliding, phase);
                let laid = &laid[(from * self.phases + phase) * self.pitch..][place..self.pitch];
                for (to, from) in row.iter_mut().skip(pixel).step_by(self.phases).zip(laid) {
                    *to = *from;
                }
            }
        }
    }
}

/// Parts a row's pixels at even places from those at odd ones, as far as there is room.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn apart(row: &[f32], even: &mut [f32], odd: &mut [f32]) {
    let (pairs, even_chunks, odd_chunks) =
        (row.as_chunks::<{ 2 * LANES }>().0, even.as_chunks_mut::<LANES>().0, odd.as_chunks_mut::<LANES>().0);
    let whole = pairs.len().min(even_chunks.len()).min(odd_chunks.len());
    for ((pairs, even), odd) in pairs.iter().zip(even_chunks).zip(odd_chunks) {
        for lane in 0..LANES {
            (even[lane], odd[lane]) = (pairs[2 * lane], pairs[2 * lane + 1]);
        }
    }
    let rest = &row[whole * 2 * LANES..];
    for (at, pixel) in rest.iter().enumerate() {
        let half = if at % 2 == 0 { &mut *even } else { &mut *odd };
        if let Some(place) = half.get_mut(whole * LANES + at / 2) {
            *place = *pixel;
        }
    }
}

/// Undoes [`apart`]; what had no room stays as it is.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn together(even: &[f32], odd: &[f32], row: &mut [f32]) {
    let (pairs, even_chunks, odd_chunks) =
        (row.as_chunks_mut::<{ 2 * LANES }>().0, even.as_chunks::<LANES>().0, odd.as_chunks::<LANES>().0);
    let whole = pairs.len().min(even_chunks.len()).min(odd_chunks.len());
    for ((pairs, even), odd) in pairs.iter_mut().zip(even_chunks).zip(odd_chunks) {
        for lane in 0..LANES {
            (pairs[2 * lane], pairs[2 * lane + 1]) = (even[lane], odd[lane]);
        }
    }
    for (at, pixel) in row[whole * 2 * LANES..].iter_mut().enumerate() {
        let half = if at % 2 == 0 { even } else { odd };
        if let Some(value) = half.get(whole * LANES + at / 2) {
            *pixel = *value;
        }
    }
}

thread_local! {
    static LAID: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A layout's worth of zeros.
fn with_zeros<T>(layout: &Layout, work: impl FnOnce(&mut [f32]) -> T) -> T {
    LAID.with_borrow_mut(|laid| {
        laid.clear();
        laid.resize(layout.size(), 0.0);
        work(laid)
    })
}

/// See [`Convolution::forward`].
pub(super) fn forward(
    convolution: &Convolution,
    x: &[f32],
    (weight, bias): (&[f32], Option<&[f32]>),
    bounds: Option<[f32; 2]>,
    y: &mut [f32],
    threads: &impl Threads,
) {
    let sliding = &convolution.sliding;
    let (layout, taps) = (Layout::of(sliding), sliding.taps());
    let (places, step) = (layout.taps(sliding), layout.step(sliding));
    // Several planes at a time: what is padding is made once for all of them.
    let bounds = bounds.unwrap_or([f32::NEG_INFINITY, f32::INFINITY]);
    let planes = (convolution.batch * convolution.inner).div_ceil(threads.count().max(1) * 8);
    parts(threads, y, planes * sliding.count(), |part, y| {
        with_zeros(&layout, |laid| {
            for (plane, y) in y.chunks_exact_mut(sliding.count()).enumerate() {
                let at = part * planes + plane;
                let channel = at % convolution.inner;
                layout.lay(sliding, &x[at * sliding.pixels()..][..sliding.pixels()], laid);
                let start = bias.map_or(0.0, |bias| bias[channel]);
                let weight = &weight[channel * taps..][..taps];
                correlate(laid, weight, (&places, step), (start, bounds), (y, sliding.windows[1]));
            }
        });
    });
}

/// `y[row][column] = start + Σ weight[tap]·laid[row·step + place[tap] + column]`, between bounds.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn correlate(
    laid: &[f32],
    weight: &[f32],
    (places, step): (&[usize], usize),
    (start, [low, high]): (f32, [f32; 2]),
    (y, across): (&mut [f32], usize),
) {
    for (row, y) in y.chunks_exact_mut(across).enumerate() {
        for (chunk, y) in y.chunks_mut(LANES).enumerate() {
            let mut sums = [start; LANES];
            for (weight, place) in weight.iter().zip(places) {
                let met = &laid[row * step + place + chunk * LANES..][..LANES];
                for (sum, value) in sums.iter_mut().zip(met) {
                    *sum = weight.mul_add(*value, *sum);
                }
            }
            for sum in &mut sums {
                // What is no number stays so.
                *sum = if *sum < low { low } else { *sum };
                *sum = if *sum > high { high } else { *sum };
            }
            match <&mut [f32; LANES]>::try_from(&mut *y) {
                Ok(y) => *y = sums,
                Err(_) => y.copy_from_slice(&sums[..y.len()]),
            }
        }
    }
}

/// See [`Convolution::image_gradient`].
pub(super) fn image_gradient(
    convolution: &Convolution,
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    threads: &impl Threads,
) {
    let sliding = &convolution.sliding;
    if let Some(back) = convolution.turned() {
        let reversed: Vec<f32> =
            weight.chunks_exact(sliding.taps()).flat_map(|taps| taps.iter().rev().copied()).collect();
        return forward(
            &Convolution { sliding: back, ..*convolution },
            dy,
            (&reversed, None),
            None,
            dx,
            threads,
        );
    }
    let (layout, taps) = (Layout::of(sliding), sliding.taps());
    let (places, step) = (layout.taps(sliding), layout.step(sliding));
    parts(threads, dx, sliding.pixels(), |at, dx| {
        let channel = at % convolution.inner;
        let dy = &dy[at * sliding.count()..][..sliding.count()];
        with_zeros(&layout, |laid| {
            spread(laid, &weight[channel * taps..][..taps], (&places, step), (dy, sliding.windows[1]));
            layout.take(sliding, laid, dx);
        });
    });
}

/// `laid[row·step + place[tap] + column] += weight[tap]·dy[row][column]`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn spread(
    laid: &mut [f32],
    weight: &[f32],
    (places, step): (&[usize], usize),
    (dy, across): (&[f32], usize),
) {
    for (row, dy) in dy.chunks_exact(across).enumerate() {
        for (weight, place) in weight.iter().zip(places) {
            let met = &mut laid[row * step + place..][..across];
            for (sum, value) in met.iter_mut().zip(dy) {
                *sum = weight.mul_add(*value, *sum);
            }
        }
    }
}

/// See [`Convolution::weight_gradient`].
pub(super) fn weight_gradient(
    convolution: &Convolution,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    threads: &impl Threads,
) {
    let sliding = &convolution.sliding;
    let layout = Layout::of(sliding);
    let (places, step) = (layout.taps(sliding), layout.step(sliding));
    parts(threads, dw, sliding.taps(), |channel, dw| {
        let mut sums = vec![[0.0f32; LANES]; dw.len()];
        with_zeros(&layout, |laid| {
            for image in 0..convolution.batch {
                let at = image * convolution.inner + channel;
                layout.lay(sliding, &x[at * sliding.pixels()..][..sliding.pixels()], laid);
                let dy = &dy[at * sliding.count()..][..sliding.count()];
                meet(laid, (dy, sliding.windows[1]), (&places, step), &mut sums);
            }
        });
        for (dw, sum) in dw.iter_mut().zip(&sums) {
            *dw = sum.iter().sum();
        }
    });
}

/// Adds `dy[row][column]·laid[row·step + place[tap] + column]` to the tap's sums, column by column.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn meet(
    laid: &[f32],
    (dy, across): (&[f32], usize),
    (places, step): (&[usize], usize),
    sums: &mut [[f32; LANES]],
) {
    for (row, dy) in dy.chunks_exact(across).enumerate() {
        for (chunk, dy) in dy.chunks(LANES).enumerate() {
            let mut values = [0.0; LANES];
            // Most are whole: two vector moves, and no call.
            match dy.first_chunk() {
                Some(whole) => values = *whole,
                None => values[..dy.len()].copy_from_slice(dy),
            }
            for (sum, place) in sums.iter_mut().zip(places) {
                let met = &laid[row * step + place + chunk * LANES..][..LANES];
                for ((sum, value), met) in sum.iter_mut().zip(&values).zip(met) {
                    *sum = value.mul_add(*met, *sum);
                }
            }
        }
    }
}
