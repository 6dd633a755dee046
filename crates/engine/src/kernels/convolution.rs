//! Convolutions as products, without a copy of the image for each tap: panels are gathered from the image as they are packed.

use super::depthwise;
use super::operand::Matrix;
use super::product::{Product, Threads};
use super::rows::add_rows;
use super::shared::parts;
use super::windows::{Planes, Sliding, Taps, Turned, Windows};

/// A convolution `y[n, k, o] = Σ w[k, c, tap]·x[n, c, o·stride + tap·dilation - before] + b[k]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Convolution {
    pub(super) batch: usize,
    /// Channels of the image.
    pub(super) inner: usize,
    /// Channels of the windows.
    pub(super) outer: usize,
    /// Whether each channel is convolved alone, by a weight `[outer, 1, …]`; `outer` and `inner` are then the same.
    pub(super) alone: bool,
    pub(super) sliding: Sliding,
}

impl Convolution {
    /// The windows, `[batch, outer, …]`, kept between bounds where there are any.
    pub(super) fn forward(
        &self,
        x: &[f32],
        (weight, bias): (&[f32], Option<&[f32]>),
        bounds: Option<[f32; 2]>,
        y: &mut [f32],
        threads: &impl Threads,
    ) {
        let sliding = self.sliding;
        if self.alone {
            return depthwise::forward(self, x, (weight, bias), bounds, y, threads);
        }
        let depth = self.inner * sliding.taps();
        let product = Product {
            left: &Matrix::new(weight, depth, false),
            right: &Windows { images: x, channels: self.inner, sliding },
            stack: self.batch,
            rows: self.outer,
            columns: sliding.count(),
            depth,
            by_row: bias,
            by_column: None,
            add: false,
            bounds,
        };
        if sliding.is_pointwise() {
            let plane = Matrix::new(x, sliding.pixels(), true).stacked(self.inner * sliding.pixels());
            return Product { right: &plane, ..product }.run(y, threads);
        }
        product.run(y, threads);
    }

    /// The image's gradient. `scratch` holds products that are yet to be spread.
    pub(super) fn image_gradient(
        &self,
        dy: &[f32],
        weight: &[f32],
        dx: &mut [f32],
        scratch: &mut Vec<f32>,
        threads: &impl Threads,
    ) {
        let sliding = self.sliding;
        if self.alone {
            return depthwise::image_gradient(self, dy, weight, dx, threads);
        }
        let taps = sliding.taps();
        let windows = Matrix::new(dy, sliding.count(), true).stacked(self.outer * sliding.count());
        let product = Product {
            left: &Matrix::new(weight, self.inner * taps, true),
            right: &windows,
            stack: self.batch,
            rows: self.inner * taps,
            columns: sliding.count(),
            depth: self.outer,
            by_row: None,
            by_column: None,
            add: false,
            bounds: None,
        };
        if sliding.is_pointwise() {
            return product.run(dx, threads);
        }
        if let Some(back) = self.turned() {
            let product = Product {
                left: &Turned { weight, inner: self.inner, taps },
                right: &Windows { images: dy, channels: self.outer, sliding: back },
                rows: self.inner,
                columns: back.count(),
                depth: self.outer * taps,
                ..product
            };
            return product.run(dx, threads);
        }
        // One image's products at a time for each thread's worth: they are as large as all taps of the image.
        let (size, pixels) = (self.inner * taps * sliding.count(), self.inner * sliding.pixels());
        scratch.resize(scratch.len().max(size), 0.0);
        let products = &mut scratch[..size];
        for image in 0..self.batch {
            let dy = &dy[image * self.outer * sliding.count()..][..self.outer * sliding.count()];
            let right = Matrix::new(dy, sliding.count(), true);
            Product { right: &right, stack: 1, ..product }.run(products, threads);
            let dx = &mut dx[image * pixels..][..pixels];
            let (plane, each) = (sliding.pixels(), taps * sliding.count());
            parts(threads, dx, plane, |channel, dx| {
                sliding.spread(&products[channel * each..][..each], dx);
            });
        }
    }

    /// The convolution of `dy` that gives the image's gradient, where the stride is 1.
    pub(super) fn turned(&self) -> Option<Sliding> {
        let sliding = self.sliding;
        let before = |axis: usize| {
            ((sliding.kernel[axis] - 1) * sliding.dilations[axis]).checked_sub(sliding.before[axis])
        };
        let before = [before(0)?, before(1)?];
        let (image, windows) = (sliding.windows, sliding.image);
        (sliding.strides == [1, 1]).then_some(Sliding { before, image, windows, ..sliding })
    }

    /// The gradients of the weight, and of the bias where there is room for it.
    pub(super) fn weight_gradient(
        &self,
        dy: &[f32],
        x: &[f32],
        dw: &mut [f32],
        db: Option<&mut [f32]>,
        threads: &impl Threads,
    ) {
        let sliding = self.sliding;
        if let Some(db) = db {
            self.bias_gradient(dy, db, threads);
        }
        if self.alone {
            return depthwise::weight_gradient(self, dy, x, dw, threads);
        }
        let columns = self.inner * sliding.taps();
        let planes = Planes { images: x, channels: self.inner, pixels: sliding.pixels() };
        let taps = Taps(Windows { images: x, channels: self.inner, sliding });
        let product = Product {
            left: &Planes { images: dy, channels: self.outer, pixels: sliding.count() },
            right: if sliding.is_pointwise() { &planes } else { &taps },
            stack: 1,
            rows: self.outer,
            columns,
            depth: self.batch * sliding.count(),
            by_row: None,
            by_column: None,
            add: false,
            bounds: None,
        };
        product.run(dw, threads);
    }

    fn bias_gradient(&self, dy: &[f32], db: &mut [f32], threads: &impl Threads) {
        let count = self.sliding.count();
        parts(threads, db, 1, |channel, sum| {
            let mut lanes = [0.0; super::simd::LANES];
            let mut rest = 0.0;
            for image in 0..self.batch {
                let plane = &dy[(image * self.outer + channel) * count..][..count];
                add_rows(plane, &mut lanes);
                rest += plane[count - count % lanes.len()..].iter().sum::<f32>();
            }
            sum[0] = rest + lanes.iter().sum::<f32>();
        });
    }
}

impl Sliding {
    /// Adds what each tap made of each window, `[taps, windows]`, to the pixels of a plane that they met.
    fn spread(&self, products: &[f32], plane: &mut [f32]) {
        plane.fill(0.0);
        for (tap, products) in products.chunks_exact(self.count()).enumerate() {
            let [row_tap, column_tap] = [tap / self.kernel[1], tap % self.kernel[1]];
            let (rows, columns) = (self.inside(0, row_tap), self.inside(1, column_tap));
            if columns.is_empty() {
                continue;
            }
            for row in rows {
                let y = row * self.strides[0] + row_tap * self.dilations[0] - self.before[0];
                let x = columns.start * self.strides[1] + column_tap * self.dilations[1] - self.before[1];
                let to = plane[y * self.image[1] + x..].iter_mut().step_by(self.strides[1]);
                let from = &products[row * self.windows[1]..][columns.clone()];
                for (to, from) in to.zip(from) {
                    *to += from;
                }
            }
        }
    }
}
