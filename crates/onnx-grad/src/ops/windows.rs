//! What convolutions and poolings have in common: windows that slide over an image of one spatial axis or more.
//!
//! Along an axis, window `o` reads the places `o·stride + tap·dilation - before` for each tap of the kernel. What the last
//! window leaves over of the padded image is the slack; it is negative where the last window reaches beyond.

use headstart_onnx::proto::Attribute;

use crate::emit::Emit;
use crate::error::GradError;
use crate::probe::Fact;
use crate::site::Site;

/// Axes before the spatial ones: batch and channels.
pub(crate) const LEAD: usize = 2;

/// How windows slide; one number for each spatial axis.
pub(crate) struct Windows {
    pub(crate) kernel: Vec<i64>,
    pub(crate) strides: Vec<i64>,
    pub(crate) dilations: Vec<i64>,
    /// Padding before the image and behind it.
    pub(crate) pads: [Vec<i64>; 2],
    /// The slack; nothing where it depends on the graph's inputs.
    pub(super) slack: Vec<Option<i64>>,
}

impl Windows {
    /// Reads a node whose windows slide over its input: `strides`, `dilations`, `pads`, `auto_pad`.
    ///
    /// # Errors
    /// [`GradError::Unsupported`] where the padding depends on the graph's inputs.
    pub(crate) fn of(site: &Site<'_>, kernel: Vec<i64>) -> Result<Self, GradError> {
        let (image, windows) = (site.input_fact(0)?, site.output_fact(0)?);
        let spatial = image.rank().saturating_sub(LEAD);
        let mut read = Self {
            strides: numbers(site, "strides", spatial, 1)?,
            dilations: numbers(site, "dilations", spatial, 1)?,
            pads: [vec![0; spatial], vec![0; spatial]],
            slack: Vec::new(),
            kernel,
        };
        if read.kernel.len() != spatial || spatial == 0 {
            return Err(site.refuse("its kernel does not fit the image"));
        }
        read.pads = match site.node.text("auto_pad") {
            None | Some("" | "NOTSET") => stated(site, spatial)?,
            Some("VALID") => read.pads,
            Some(same @ ("SAME_UPPER" | "SAME_LOWER")) => {
                let total: Option<Vec<i64>> = (0..spatial).map(|axis| read.same(axis, image)).collect();
                let reason = || site.refuse("its `auto_pad` depends on the graph's inputs");
                shared(&total.ok_or_else(reason)?, same == "SAME_UPPER")
            }
            Some(other) => return Err(site.refuse(&format!("its `auto_pad` is `{other}`"))),
        };
        read.slack = (0..spatial).map(|axis| read.left_over(axis, image, windows)).collect();
        Ok(read)
    }

    /// How many elements of the image a window spans along an axis.
    pub(crate) fn extent(&self, axis: usize) -> i64 {
        (self.kernel[axis] - 1) * self.dilations[axis] + 1
    }

    /// The number of taps.
    pub(crate) fn taps(&self) -> i64 {
        self.kernel.iter().product()
    }

    /// The number of spatial axes.
    pub(crate) fn rank(&self) -> usize {
        self.kernel.len()
    }

    /// Both paddings in one list, as nodes are told them.
    pub(crate) fn padding(&self) -> Vec<i64> {
        self.pads.concat()
    }

    /// The padding by which as many windows begin as the image is long, over the stride.
    fn same(&self, axis: usize, image: &Fact) -> Option<i64> {
        let (stride, extent) = (self.strides[axis], self.extent(axis));
        if stride == 1 {
            return Some(extent - 1);
        }
        let size = image.size(axis + LEAD)? as i64;
        Some(((size + stride - 1) / stride * stride - stride + extent - size).max(0))
    }

    fn left_over(&self, axis: usize, image: &Fact, windows: &Fact) -> Option<i64> {
        if self.strides[axis] == 1 {
            return Some(0);
        }
        let (size, windows) = (image.size(axis + LEAD)? as i64, windows.size(axis + LEAD)? as i64);
        let padded = size + self.pads[0][axis] + self.pads[1][axis];
        Some(padded - (windows - 1) * self.strides[axis] - self.extent(axis))
    }

    /// Spreads values of the windows over an image, each times the kernel: the adjoint of a convolution. The image is
    /// shaped like the forward value `image`.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub(super) fn spread(
        &self,
        (value, weight, groups): (&str, &str, i64),
        image: &str,
        emit: &mut Emit<'_>,
    ) -> Result<String, GradError> {
        let (mut after, mut beyond) = (Vec::new(), Vec::new());
        for axis in 0..self.rank() {
            // Where the slack is not known it is less than a stride: too much is made, and cut.
            let missing = self.slack[axis].map_or(self.strides[axis] - 1, |slack| slack - self.pads[1][axis]);
            after.push((-missing).max(0));
            beyond.push(missing.max(0));
        }
        let told = vec![
            Attribute::int("group", groups),
            Attribute::ints("strides", self.strides.clone()),
            Attribute::ints("dilations", self.dilations.clone()),
            Attribute::ints("pads", [self.pads[0].clone(), after].concat()),
            Attribute::ints("output_padding", beyond),
        ];
        let spread = emit.node_with("ConvTranspose", &[value, weight], told);
        let cut: Vec<usize> =
            (0..self.rank()).filter(|&axis| self.slack[axis].is_none()).map(|axis| axis + LEAD).collect();
        if cut.is_empty() {
            return Ok(spread);
        }
        let ends = emit.sizes_of(image, &cut)?;
        let starts = emit.integers(&vec![0; cut.len()]);
        let axes = emit.integers(&cut.iter().map(|&axis| axis as i64).collect::<Vec<_>>());
        Ok(emit.node("Slice", &[&spread, &starts, &ends, &axes]))
    }
}

/// Padding parted between before and behind; the larger half lies behind where `upper` says so.
pub(super) fn shared(total: &[i64], upper: bool) -> [Vec<i64>; 2] {
    let (less, more): (Vec<i64>, Vec<i64>) = total.iter().map(|total| (total / 2, total - total / 2)).unzip();
    if upper { [less, more] } else { [more, less] }
}

/// The padding that a node states.
///
/// # Errors
/// [`GradError::Unsupported`] where it takes away from the image.
pub(super) fn stated(site: &Site<'_>, spatial: usize) -> Result<[Vec<i64>; 2], GradError> {
    let pads = numbers(site, "pads", 2 * spatial, 0)?;
    if pads.iter().any(|pad| *pad < 0) {
        return Err(site.refuse("its padding is negative"));
    }
    let (before, after) = pads.split_at(spatial);
    Ok([before.to_vec(), after.to_vec()])
}

/// What a node is told for each axis, or so many of what it means without being told.
///
/// # Errors
/// [`GradError::Unsupported`] where it is told another number of them.
pub(super) fn numbers(site: &Site<'_>, name: &str, count: usize, usual: i64) -> Result<Vec<i64>, GradError> {
    match site.node.ints(name).filter(|told| !told.is_empty()) {
        Some(told) if told.len() == count => Ok(told.to_vec()),
        Some(_) => Err(site.refuse(&format!("its `{name}` does not fit the image"))),
        None => Ok(vec![usual; count]),
    }
}

/// A piece of a shape.
#[derive(Clone, Copy)]
pub(super) enum Piece<'a> {
    /// That many.
    Fixed(i64),
    /// So many times the sizes of these axes of a forward value.
    Sizes(i64, &'a str, &'a [usize]),
}

/// A shape put together, as a list of integers.
///
/// # Errors
/// [`GradError::Unknown`].
pub(super) fn shape(pieces: &[Piece<'_>], emit: &mut Emit<'_>) -> Result<String, GradError> {
    let mut sizes = Vec::new();
    for piece in pieces {
        sizes.push(match piece {
            Piece::Fixed(size) => Some(*size),
            Piece::Sizes(times, value, axes) => {
                let fact = emit.fact(value)?;
                let fixed: Option<Vec<i64>> =
                    axes.iter().map(|&axis| fact.size(axis).map(|size| size as i64)).collect();
                fixed.map(|fixed| times * fixed.iter().product::<i64>())
            }
        });
    }
    if sizes.iter().filter(|size| size.is_none()).count() <= 1 {
        let sizes: Vec<i64> = sizes.into_iter().map(|size| size.unwrap_or(-1)).collect();
        return Ok(emit.integers(&sizes));
    }
    let mut lists = Vec::new();
    for (piece, size) in pieces.iter().zip(sizes) {
        lists.push(match (piece, size) {
            (Piece::Fixed(size), _) => emit.integers(&[*size]),
            (Piece::Sizes(..), Some(size)) => emit.integers(&[size]),
            (Piece::Sizes(times, value, axes), None) => {
                let sizes = emit.sizes_of(value, axes)?;
                let product = if axes.len() == 1 { sizes } else { emit.node("ReduceProd", &[&sizes]) };
                let times = emit.integers(&[*times]);
                emit.node("Mul", &[&product, &times])
            }
        });
    }
    let lists: Vec<&str> = lists.iter().map(String::as_str).collect();
    Ok(emit.node_with("Concat", &lists, vec![Attribute::int("axis", 0)]))
}

/// The number of elements along axes of a forward value, as a number like its elements.
///
/// # Errors
/// [`GradError::Unknown`].
pub(super) fn count(value: &str, axes: &[usize], emit: &mut Emit<'_>) -> Result<String, GradError> {
    let fact = emit.fact(value)?;
    let fixed: Option<Vec<usize>> = axes.iter().map(|&axis| fact.size(axis)).collect();
    if let Some(fixed) = fixed {
        return emit.number(fixed.iter().product::<usize>() as f64, value);
    }
    let sizes = emit.sizes_of(value, axes)?;
    let product = emit.node_with("ReduceProd", &[&sizes], vec![Attribute::int("keepdims", 0)]);
    emit.cast(&product, value)
}
