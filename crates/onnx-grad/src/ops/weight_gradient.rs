//! The gradient of a convolution's weight: `dW[k, c, tap] = Σ d[n, k, o]·x[n, c, o·stride + tap·dilation - before]` over
//! batch and windows. `Conv` and `ConvTranspose` share it, with image and windows exchanged.
//!
//! Three forms, by measurement (ONNX Runtime 1.32, AVX-512, one thread, batch 8, in milliseconds). A product of several taps
//! is of all of them side by side, so many copies of the image: not worth their memory.
//!
//! | case | product | taps | convolution |
//! |---|---|---|---|
//! | 256 channels to 64, 56 × 56, kernel 1 | **14** | 31 | 81 |
//! | 64 to 64, 56 × 56, kernel 3 | 40 | **34** | 43 |
//! | 512 to 512, 7 × 7, kernel 3 | 34 | **19** | 30 |
//! | 12 to 64, 56 × 56, kernel 3 | 10 | 16 | **12** |
//! | 3 to 64, 224 × 224, kernel 7, stride 2 | 57 | 269 | **39** |
//! | 128 to 128 in 32 groups, 56 × 56, kernel 3 | - | 70 | **46** |
//! | 96 in 96 groups, 112 × 112, kernel 3, stride 2 (products by tap: 90) | - | 56 | **40** |

use headstart_onnx::proto::{Attribute, element};

use super::windows::{LEAD, Piece, Windows, shape};
use crate::emit::Emit;
use crate::error::GradError;

/// Channels of the image below which taps make products too thin.
const THIN: i64 = 16;

/// A convolution, as its weight's gradient sees it.
pub(super) struct Convolution<'a> {
    pub(super) windows: &'a Windows,
    pub(super) groups: i64,
    /// Channels of the windows, of all groups.
    pub(super) outer: i64,
    /// Channels of the image, of one group.
    pub(super) inner: i64,
    /// The image: a value, and the forward value that it is shaped like.
    pub(super) image: (&'a str, &'a str),
    /// The windows, likewise.
    pub(super) values: (&'a str, &'a str),
}

impl Convolution<'_> {
    /// Emits the gradient, of shape `[outer, inner, kernel…]`.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub(super) fn weight_gradient(&self, emit: &mut Emit<'_>) -> Result<String, GradError> {
        if self.groups > 1 || (self.inner < THIN && self.windows.taps() > 1) {
            self.by_convolution(emit)
        } else if self.windows.taps() == 1 {
            self.by_product(emit)
        } else {
            self.by_taps(emit)
        }
    }

    /// One tap: `d·xᵀ` for each row of the batch, summed.
    fn by_product(&self, emit: &mut Emit<'_>) -> Result<String, GradError> {
        let (image, _) = self.image;
        let image = self.padded(image, LEAD, emit);
        let image = self.at_tap(&image, &vec![0; self.windows.rank()], LEAD, emit);
        let spatial: Vec<usize> = (LEAD..LEAD + self.windows.rank()).collect();
        let (values, windows) = self.values;
        let mut matrix = |value: &str, channels: i64| -> Result<String, GradError> {
            if spatial.len() == 1 {
                return Ok(value.to_owned());
            }
            let pieces =
                [Piece::Sizes(1, windows, &[0]), Piece::Fixed(channels), Piece::Sizes(1, windows, &spatial)];
            let shape = shape(&pieces, emit)?;
            Ok(emit.node("Reshape", &[value, &shape]))
        };
        let (values, image) = (matrix(values, self.outer)?, matrix(&image, self.inner)?);
        let product = emit.product((&values, false), (&image, true));
        let sum = emit.sum(&product, &[0], false);
        Ok(self.shaped(&sum, emit))
    }

    /// Channels last, one product for each tap.
    fn by_taps(&self, emit: &mut Emit<'_>) -> Result<String, GradError> {
        let rank = self.windows.rank() as i64;
        let last: Vec<i64> = std::iter::once(0).chain(2..rank + 2).chain([1]).collect();
        let mut turn = |value: &str| {
            let told = vec![Attribute::ints("perm", last.clone())];
            emit.once(format!("{value} channels last"), |emit| emit.node_with("Transpose", &[value], told))
        };
        let (image, values) = (turn(self.image.0), turn(self.values.0));
        let image = self.padded(&image, 1, emit);
        let rows = emit.integers(&[-1, self.outer]);
        let values = emit.node("Reshape", &[&values, &rows]);
        let rows = emit.integers(&[-1, self.inner]);
        let mut products = Vec::new();
        for tap in self.all_taps() {
            let part = self.at_tap(&image, &tap, 1, emit);
            let part = emit.node("Reshape", &[&part, &rows]);
            products.push(emit.node_with("Gemm", &[&values, &part], vec![Attribute::int("transA", 1)]));
        }
        let products: Vec<&str> = products.iter().map(String::as_str).collect();
        let all = emit.node_with("Concat", &products, vec![Attribute::int("axis", 1)]);
        let stacked = emit.integers(&[self.outer, self.windows.taps(), self.inner]);
        let all = emit.node("Reshape", &[&all, &stacked]);
        let all = emit.node_with("Transpose", &[&all], vec![Attribute::ints("perm", vec![0, 2, 1])]);
        Ok(self.shaped(&all, emit))
    }

    /// A convolution of the image by the windows, batch and channels exchanged: strides and dilations change places.
    fn by_convolution(&self, emit: &mut Emit<'_>) -> Result<String, GradError> {
        let (spatial, windows) = (2..self.windows.rank() as i64 + 2, self.windows);
        let exchange: Vec<i64> = [1, 0].into_iter().chain(spatial.clone()).collect();
        let exchange = || vec![Attribute::ints("perm", exchange.clone())];
        let image = self.image_by_groups(emit)?;
        let image = self.never_empty(&image, self.groups, emit)?;
        let values = emit.node_with("Transpose", &[self.values.0], exchange());
        let values = self.never_empty(&values, 1, emit)?;
        let told = vec![
            Attribute::int("group", self.groups),
            Attribute::ints("strides", windows.dilations.clone()),
            Attribute::ints("dilations", windows.strides.clone()),
            Attribute::ints("pads", windows.padding()),
        ];
        let mut sums = emit.node_with("Conv", &[&image, &values], told);
        // A slack that is not known is less than a stride.
        let most = |axis: usize| windows.slack[axis].unwrap_or(windows.strides[axis] - 1);
        if (0..windows.rank()).any(|axis| most(axis) >= windows.dilations[axis]) {
            let starts = emit.integers(&vec![0; windows.rank()]);
            let ends = emit.integers(&windows.kernel);
            let axes = emit.integers(&spatial.collect::<Vec<_>>());
            sums = emit.node("Slice", &[&sums, &starts, &ends, &axes]);
        }
        Ok(emit.node_with("Transpose", &[&sums], exchange()))
    }

    /// The image as one of `inner` rows whose channels are groups times the batch.
    fn image_by_groups(&self, emit: &mut Emit<'_>) -> Result<String, GradError> {
        let (image, like) = self.image;
        let spatial = LEAD..LEAD + self.windows.rank();
        let axes: Vec<[usize; 1]> = spatial.clone().map(|axis| [axis]).collect();
        let tail: Vec<Piece<'_>> = axes.iter().map(|axis| Piece::Sizes(1, like, axis)).collect();
        let turn = |lead: &[i64], by: usize| {
            let order = lead.iter().copied().chain(spatial.clone().map(|axis| (axis + by) as i64));
            vec![Attribute::ints("perm", order.collect())]
        };
        if self.groups == 1 {
            return Ok(emit.node_with("Transpose", &[image], turn(&[1, 0], 0)));
        }
        let turned = if self.inner == 1 {
            emit.node_with("Transpose", &[image], turn(&[1, 0], 0))
        } else {
            let lead = [Piece::Sizes(1, like, &[0]), Piece::Fixed(self.groups), Piece::Fixed(self.inner)];
            let parted = shape(&[&lead, tail.as_slice()].concat(), emit)?;
            let parted = emit.node("Reshape", &[image, &parted]);
            emit.node_with("Transpose", &[&parted], turn(&[2, 1, 0], 1))
        };
        let lead = [Piece::Fixed(self.inner), Piece::Sizes(self.groups, like, &[0])];
        let joined = shape(&[&lead, tail.as_slice()].concat(), emit)?;
        // An empty batch makes a 0 that means none, not a size to be copied.
        let told = vec![Attribute::int("allowzero", 1)];
        Ok(emit.node_with("Reshape", &[&turned, &joined], told))
    }

    /// A value with so many channels of zeros more where the batch is empty: the runtime never comes to the end of a
    /// convolution without channels.
    fn never_empty(&self, value: &str, more: i64, emit: &mut Emit<'_>) -> Result<String, GradError> {
        let like = self.image.1;
        if emit.fact(like)?.size(0).is_some() {
            return Ok(value.to_owned());
        }
        let rank = self.windows.rank() + LEAD;
        let batch = emit.sizes_of(like, &[0])?;
        let [none, more] = [0, more].map(|number| emit.integers(&[number]));
        let pads = emit.once(format!("{more} channels of {rank} axes for an empty {batch}"), |emit| {
            let empty = emit.node("Equal", &[&batch, &none]);
            let empty =
                emit.node_with("Cast", &[&empty], vec![Attribute::int("to", i64::from(element::INT64))]);
            let count = emit.node("Mul", &[&empty, &more]);
            let (before, behind) = (emit.integers(&vec![0; rank + 1]), emit.integers(&vec![0; rank - LEAD]));
            emit.node_with("Concat", &[&before, &count, &behind], vec![Attribute::int("axis", 0)])
        });
        Ok(emit.node("Pad", &[value, &pads]))
    }

    /// The image padded, its spatial axes beginning at `first`.
    fn padded(&self, image: &str, first: usize, emit: &mut Emit<'_>) -> String {
        let pads = &self.windows.pads;
        if pads.iter().flatten().all(|pad| *pad == 0) {
            return image.to_owned();
        }
        let rank = self.windows.rank() + LEAD;
        let mut all = vec![0; 2 * rank];
        for axis in 0..self.windows.rank() {
            all[first + axis] = pads[0][axis];
            all[rank + first + axis] = pads[1][axis];
        }
        let pads = emit.integers(&all);
        emit.once(format!("{image} padded by {pads}"), |emit| emit.node("Pad", &[image, &pads]))
    }

    /// The elements of the padded image that one tap meets, window by window.
    fn at_tap(&self, image: &str, tap: &[i64], first: usize, emit: &mut Emit<'_>) -> String {
        let windows = self.windows;
        let [mut starts, mut ends, mut axes, mut steps] = [const { Vec::new() }; 4];
        for (axis, &tap) in tap.iter().enumerate() {
            let (dilation, stride) = (windows.dilations[axis], windows.strides[axis]);
            let end = (windows.kernel[axis] - 1 - tap) * dilation;
            if (tap, end, stride) != (0, 0, 1) {
                starts.push(tap * dilation);
                ends.push(if end == 0 { i64::MAX } else { -end });
                axes.push((axis + first) as i64);
                steps.push(stride);
            }
        }
        if axes.is_empty() {
            return image.to_owned();
        }
        let [starts, ends, axes, steps] = [starts, ends, axes, steps].map(|values| emit.integers(&values));
        emit.node("Slice", &[image, &starts, &ends, &axes, &steps])
    }

    /// Every tap's place in the kernel, the last axis fastest.
    fn all_taps(&self) -> Vec<Vec<i64>> {
        let longer = |taps: Vec<Vec<i64>>, size: &i64| {
            let next =
                |tap: &Vec<i64>| (0..*size).map(|at| [tap.as_slice(), &[at]].concat()).collect::<Vec<_>>();
            taps.iter().flat_map(next).collect()
        };
        self.windows.kernel.iter().fold(vec![Vec::new()], longer)
    }

    fn shaped(&self, gradient: &str, emit: &mut Emit<'_>) -> String {
        let shape = emit.integers(&[&[self.outer, self.inner], self.windows.kernel.as_slice()].concat());
        emit.node("Reshape", &[gradient, &shape])
    }
}
