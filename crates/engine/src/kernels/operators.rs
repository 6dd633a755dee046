//! The operators of [`DOMAIN`](super::DOMAIN).

use std::marker::PhantomData;
use std::ops::Range;

use ort::operator::{BoxedKernel, ComputeContext, Kernel as _, KernelContext, OperatorDomain};
use ort::{Error, Result};

use super::convolution::Convolution;
use super::curves;
use super::operand::Matrix;
use super::operator::{Call, Described, Fresh, InPlaceOf, Make, Pool, Reuse};
use super::product::Product;
use super::rows::{self, Norm};
use super::shared::{pairs, parts};
use super::windows::Sliding;

/// Numbers that a thread takes at a time of what is computed one by one.
const RUN: usize = 1 << 13;

/// All of them, for sessions of so many threads.
pub(super) fn domain(name: &str, threads: usize) -> Result<OperatorDomain> {
    fn described<R: Reuse>(
        name: &'static str,
        inputs: [usize; 2],
        outputs: [usize; 2],
        make: Make,
        threads: usize,
        reuse: PhantomData<R>,
    ) -> Described<R> {
        Described { name, inputs, outputs, threads, make, reuse }
    }
    let (fresh, first) = (PhantomData::<Fresh>, PhantomData::<InPlaceOf<0>>);
    let third = PhantomData::<InPlaceOf<2>>;
    OperatorDomain::new(name)?
        .add(described("Product", [2, 1], [1, 0], product, threads, third))?
        .add(described("Gelu", [1, 0], [1, 0], gelu, threads, fresh))?
        .add(described("GeluGradient", [2, 0], [1, 0], gelu_gradient, threads, first))?
        .add(described("ClipGradient", [2, 0], [1, 1], clip_gradient, threads, first))?
        .add(described("SoftmaxGradient", [2, 0], [1, 0], softmax_gradient, threads, first))?
        .add(described("LayerNormGradient", [5, 0], [3, 0], layer_norm_gradient, threads, first))?
        .add(described("Conv", [2, 1], [1, 0], conv, threads, fresh))?
        .add(described("ConvImageGradient", [2, 0], [1, 0], conv_image_gradient, threads, fresh))?
        .add(described("ConvWeightGradient", [2, 0], [1, 1], conv_weight_gradient, threads, fresh))
}

fn number<'a, T: ort::operator::FromKernelContext<'a>>(context: &KernelContext<'a>, name: &str) -> Result<T> {
    context.get(name).ok_or_else(|| Error::new(format!("`{name}` is not told")))
}

/// `Y = A'·B' + C`: `C` is a list added to each row, or as large as `Y`.
fn product<'a>(context: &KernelContext<'a>, threads: usize) -> Result<BoxedKernel<'a>> {
    let turned = [number::<i64>(context, "transA")? != 0, number::<i64>(context, "transB")? != 0];
    Ok(Box::new(move |context: &ComputeContext| {
        let call = Call { context };
        let (a, b, c) = (call.input(0)?, call.input(1)?, call.optional(2)?);
        let sizes = |shape: Vec<usize>| {
            <[usize; 2]>::try_from(shape).map_err(|_| Error::new("a side of a product is no matrix"))
        };
        let ([a_rows, a_width], [b_rows, b_width]) = (sizes(a.shape()?)?, sizes(b.shape()?)?);
        let (rows, depth) = if turned[0] { (a_width, a_rows) } else { (a_rows, a_width) };
        let (columns, deep) = if turned[1] { (b_rows, b_width) } else { (b_width, b_rows) };
        if depth != deep {
            return Err(Error::new("the sides of a product do not fit"));
        }
        let whole = match &c {
            Some(c) if c.shape()? == [rows, columns] && rows > 1 => true,
            Some(c) if c.values()?.len() != columns => return Err(Error::new("what is added does not fit")),
            _ => false,
        };
        let pool = Pool { context, count: threads };
        let mut y = if whole {
            let (mut y, elsewhere) = call.output_over(2)?;
            if let Some(c) = elsewhere {
                parts(&pool, y.values()?, RUN, |at, y| y.copy_from_slice(&c[at * RUN..][..y.len()]));
            }
            y
        } else {
            call.output(0, &[rows, columns])?
        };
        let bias = c.as_ref().filter(|_| !whole);
        let product = Product {
            left: &Matrix::new(a.values()?, a_width, turned[0]),
            right: &Matrix::new(b.values()?, b_width, !turned[1]),
            stack: 1,
            rows,
            columns,
            depth,
            by_row: None,
            by_column: bias.map(|bias| bias.values()).transpose()?,
            add: whole,
            bounds: None,
        };
        product.run(y.values()?, &pool);
        Ok(())
    }))
}

fn gelu<'a>(_context: &KernelContext<'a>, threads: usize) -> Result<BoxedKernel<'a>> {
    Ok(Box::new(move |context: &ComputeContext| {
        let call = Call { context };
        let x = call.input(0)?;
        let mut y = call.output(0, &x.shape()?)?;
        let x = x.values()?;
        parts(&Pool { context, count: threads }, y.values()?, RUN, |at, y| {
            curves::gelu(&x[at * RUN..][..y.len()], y);
        });
        Ok(())
    }))
}

/// An operator whose first input is the gradient of what it stands for, in whose place the output is made; runs are of
/// `each` numbers of an output whose last axis is given.
fn backward<'a>(
    threads: usize,
    each: fn(usize) -> usize,
    work: impl Fn(&mut [f32], &[f32], usize) + Send + Sync + 'a,
) -> BoxedKernel<'a> {
    Box::new(move |context: &ComputeContext| {
        let call = Call { context };
        let other = call.input(1)?;
        let width = other.shape()?.last().copied().unwrap_or(1).max(1);
        let (mut dx, elsewhere) = call.output_over(0)?;
        let (other, each) = (other.values()?, each(width));
        if other.len() != dx.values()?.len() {
            return Err(Error::new("a gradient does not fit its value"));
        }
        parts(&Pool { context, count: threads }, dx.values()?, each, |at, dx| {
            let run = at * each..at * each + dx.len();
            if let Some(dy) = elsewhere {
                dx.copy_from_slice(&dy[run.clone()]);
            }
            work(dx, &other[run], width);
        });
        Ok(())
    })
}

fn gelu_gradient<'a>(_context: &KernelContext<'a>, threads: usize) -> Result<BoxedKernel<'a>> {
    Ok(backward(threads, |_| RUN, |dx, x, _| curves::gelu_slope(dx, x)))
}

/// Reads `dy` and `y`; makes `dx`, and where it is wanted the sum of each channel.
fn clip_gradient<'a>(context: &KernelContext<'a>, threads: usize) -> Result<BoxedKernel<'a>> {
    let bounds = [number(context, "low")?, number(context, "high")?];
    let mut alone = backward(threads, |_| RUN, move |dx, y, _| curves::within(dx, y, bounds));
    Ok(Box::new(move |context: &ComputeContext| {
        let call = Call { context };
        let y = call.input(1)?;
        let (shape, y) = (y.shape()?, y.values()?);
        let channels = shape.get(1).copied().unwrap_or(0);
        let Some(mut sums) = call.optional_output(1, &[channels])? else { return alone.compute(context) };
        let (mut dx, elsewhere) = call.output_over(0)?;
        let dx = dx.values()?;
        if y.len() != dx.len() {
            return Err(Error::new("a gradient does not fit its value"));
        }
        let plane = shape.iter().skip(2).product();
        let mut found = vec![0.0; shape.iter().take(2).product()];
        pairs(&Pool { context, count: threads }, (dx, plane), (&mut found, 1), |at, dx, found| {
            let run = at * plane..at * plane + dx.len();
            if let Some(dy) = elsewhere {
                dx.copy_from_slice(&dy[run.clone()]);
            }
            curves::within(dx, &y[run], bounds);
            found[0] = rows::total(dx);
        });
        let sums = sums.values()?;
        sums.fill(0.0);
        rows::add_rows(&found, sums);
        Ok(())
    }))
}

fn softmax_gradient<'a>(_context: &KernelContext<'a>, threads: usize) -> Result<BoxedKernel<'a>> {
    let each = |width: usize| (RUN / width).max(1) * width;
    Ok(backward(threads, each, rows::softmax))
}

/// Reads `dy`, `x`, scale, means and inverse deviations; makes `dx` and the gradients of scale and bias.
fn layer_norm_gradient<'a>(_context: &KernelContext<'a>, threads: usize) -> Result<BoxedKernel<'a>> {
    Ok(Box::new(move |context: &ComputeContext| {
        let call = Call { context };
        let [x, scale, means, inverses] = [call.input(1)?, call.input(2)?, call.input(3)?, call.input(4)?];
        let (mut dx, elsewhere) = call.output_over(0)?;
        let (x, norm) = (
            x.values()?,
            Norm { scale: scale.values()?, means: means.values()?, inverses: inverses.values()? },
        );
        let width = norm.scale.len();
        let mut sums = [call.output(1, &[width])?, call.output(2, &[width])?];
        let dx = dx.values()?;
        if width == 0 || x.len() != dx.len() || norm.means.len().min(norm.inverses.len()) * width != x.len() {
            return Err(Error::new("a normalisation's gradient does not fit"));
        }
        let pool = Pool { context, count: threads };
        let each = rows::ROWS * width;
        let mut found = vec![0.0; dx.len().div_ceil(each) * 2 * width];
        pairs(&pool, (dx, each), (&mut found, 2 * width), |at, dx, found| {
            let run: Range<usize> = at * each..at * each + dx.len();
            if let Some(dy) = elsewhere {
                dx.copy_from_slice(&dy[run.clone()]);
            }
            let rows = at * rows::ROWS..at * rows::ROWS + dx.len() / width;
            let norm = Norm { means: &norm.means[rows.clone()], inverses: &norm.inverses[rows], ..norm };
            rows::layer_norm(dx, &x[run], norm, found.split_at_mut(width));
        });
        let mut both = vec![0.0; 2 * width];
        rows::add_rows(&found, &mut both);
        for (sum, found) in sums.iter_mut().zip(both.chunks_exact(width)) {
            sum.values()?.copy_from_slice(found);
        }
        Ok(())
    }))
}

/// How a convolution's kernel slides, as a node tells it.
struct Told {
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [usize; 4],
}

impl Told {
    fn read(context: &KernelContext<'_>) -> Result<Self> {
        fn sizes<const N: usize>(context: &KernelContext<'_>, name: &str) -> Result<[usize; N]> {
            let told: Vec<i64> = number(context, name)?;
            let told: Vec<usize> = told.into_iter().filter_map(|size| usize::try_from(size).ok()).collect();
            told.try_into().map_err(|_| Error::new(format!("`{name}` does not fit")))
        }
        Ok(Self {
            strides: sizes(context, "strides")?,
            dilations: sizes(context, "dilations")?,
            pads: sizes(context, "pads")?,
        })
    }

    /// The convolution of an image `[batch, inner, height, width]` by a weight.
    fn convolution(&self, image: &[usize], weight: &[usize]) -> Result<Convolution> {
        let unfit = || Error::new("a convolution's image and weight do not fit");
        let [batch, inner, height, width] = image.try_into().map_err(|_| unfit())?;
        let [outer, each, down, across]: [usize; 4] = weight.try_into().map_err(|_| unfit())?;
        let alone = each == 1 && inner == outer && inner > 1;
        let (image, kernel) = ([height, width], [down, across]);
        if !alone && each != inner || kernel.contains(&0) || self.strides.contains(&0) {
            return Err(unfit());
        }
        let mut windows = [0; 2];
        for axis in 0..2 {
            let extent = (kernel[axis] - 1) * self.dilations[axis] + 1;
            let padded = image[axis] + self.pads[axis] + self.pads[axis + 2];
            windows[axis] = padded.checked_sub(extent).ok_or_else(unfit)? / self.strides[axis] + 1;
        }
        let before = [self.pads[0], self.pads[1]];
        let (strides, dilations) = (self.strides, self.dilations);
        let sliding = Sliding { kernel, strides, dilations, before, image, windows };
        Ok(Convolution { batch, inner, outer, alone, sliding })
    }
}

/// Reads `x`, the weight, and a bias where there is one.
fn conv<'a>(context: &KernelContext<'a>, threads: usize) -> Result<BoxedKernel<'a>> {
    let told = Told::read(context)?;
    let bounds = context.get("low").zip(context.get("high")).map(|(low, high)| [low, high]);
    Ok(Box::new(move |context: &ComputeContext| {
        let call = Call { context };
        let (x, weight, bias) = (call.input(0)?, call.input(1)?, call.optional(2)?);
        let convolution = told.convolution(&x.shape()?, &weight.shape()?)?;
        let [down, across] = convolution.sliding.windows;
        let mut y = call.output(0, &[convolution.batch, convolution.outer, down, across])?;
        let bias = bias.as_ref().map(|bias| bias.values()).transpose()?;
        let pool = Pool { context, count: threads };
        convolution.forward(x.values()?, (weight.values()?, bias), bounds, y.values()?, &pool);
        Ok(())
    }))
}

/// Reads `dy` and the weight; is told the image's size.
fn conv_image_gradient<'a>(context: &KernelContext<'a>, threads: usize) -> Result<BoxedKernel<'a>> {
    let (told, size) = (Told::read(context)?, number::<Vec<i64>>(context, "size")?);
    let size: Vec<usize> = size.into_iter().filter_map(|size| usize::try_from(size).ok()).collect();
    let mut scratch = Vec::new();
    Ok(Box::new(move |context: &ComputeContext| {
        let call = Call { context };
        let (dy, weight) = (call.input(0)?, call.input(1)?);
        let batch = dy.shape()?.first().copied().unwrap_or(0);
        let shape: Vec<usize> = std::iter::once(batch).chain(size.iter().copied()).collect();
        let convolution = told.convolution(&shape, &weight.shape()?)?;
        if dy.values()?.len() != batch * convolution.outer * convolution.sliding.count() {
            return Err(Error::new("a convolution's gradient does not fit"));
        }
        let mut dx = call.output(0, &shape)?;
        let pool = Pool { context, count: threads };
        convolution.image_gradient(dy.values()?, weight.values()?, dx.values()?, &mut scratch, &pool);
        Ok(())
    }))
}

/// Reads `dy` and `x`; is told the kernel's size. Makes the gradient of the weight, and of the bias where it is wanted.
fn conv_weight_gradient<'a>(context: &KernelContext<'a>, threads: usize) -> Result<BoxedKernel<'a>> {
    let (told, shape) = (Told::read(context)?, number::<Vec<i64>>(context, "weight")?);
    let shape: Vec<usize> = shape.into_iter().filter_map(|size| usize::try_from(size).ok()).collect();
    Ok(Box::new(move |context: &ComputeContext| {
        let call = Call { context };
        let (dy, x) = (call.input(0)?, call.input(1)?);
        let convolution = told.convolution(&x.shape()?, &shape)?;
        if dy.values()?.len() != convolution.batch * convolution.outer * convolution.sliding.count() {
            return Err(Error::new("a convolution's gradient does not fit"));
        }
        let mut dw = call.output(0, &shape)?;
        let mut db = call.optional_output(1, &[convolution.outer])?;
        let db = db.as_mut().map(|db| db.values()).transpose()?;
        let pool = Pool { context, count: threads };
        convolution.weight_gradient(dy.values()?, x.values()?, dw.values()?, db, &pool);
        Ok(())
    }))
}
