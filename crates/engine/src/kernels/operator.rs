//! Operators of one kind, as the runtime wants them: so many tensors of 32-bit floats in and out.
#![expect(unsafe_code, reason = "an output may lie where an input does, which references cannot say")]

use std::marker::PhantomData;

use ort::operator::{BoxedKernel, ComputeContext, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::{TensorElementType, ValueRef, ValueRefMut};
use ort::{Error, Result};

use super::product::Threads;

/// What is made of a node's attributes.
pub(super) type Make = for<'a> fn(&KernelContext<'a>, usize) -> Result<BoxedKernel<'a>>;

/// Which input may lie where an output does.
pub(super) trait Reuse: Send + Sync + 'static {
    const PAIRS: &'static [(u32, u32)];
}

/// None.
pub(super) struct Fresh;

impl Reuse for Fresh {
    const PAIRS: &'static [(u32, u32)] = &[];
}

/// The one at a place, for the first output.
pub(super) struct InPlaceOf<const INPUT: u32>;

impl<const INPUT: u32> Reuse for InPlaceOf<INPUT> {
    const PAIRS: &'static [(u32, u32)] = &[(INPUT, 0)];
}

/// An operator.
pub(super) struct Described<R> {
    pub(super) name: &'static str,
    /// Inputs that must be there, and those behind them that may be left out.
    pub(super) inputs: [usize; 2],
    /// Outputs likewise.
    pub(super) outputs: [usize; 2],
    pub(super) threads: usize,
    pub(super) make: Make,
    pub(super) reuse: PhantomData<R>,
}

impl<R: Reuse> Operator for Described<R> {
    type Kernel<'attr> = BoxedKernel<'attr>;

    const INPLACES: &[(u32, u32)] = R::PAIRS;

    fn name(&self) -> &str {
        self.name
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let [needed, more] = self.inputs;
        let needed = (0..needed).map(|_| OperatorInput::required(TensorElementType::Float32));
        needed.chain((0..more).map(|_| OperatorInput::optional(TensorElementType::Float32)))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        let [needed, more] = self.outputs;
        let needed = (0..needed).map(|_| OperatorOutput::required(TensorElementType::Float32));
        needed.chain((0..more).map(|_| OperatorOutput::optional(TensorElementType::Float32)))
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> Result<BoxedKernel<'attr>> {
        (self.make)(context, self.threads)
    }
}

/// The threads of the session that a kernel runs in.
pub(super) struct Pool<'a> {
    pub(super) context: &'a ComputeContext,
    pub(super) count: usize,
}

impl Threads for Pool<'_> {
    fn count(&self) -> usize {
        self.count
    }

    fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync)) {
        if parts < 2 {
            return (0..parts).for_each(part);
        }
        if self.context.par_for(parts, 0, part).is_err() {
            // The runtime has no threads to lend: the work is done all the same.
            (0..parts).for_each(part);
        }
    }
}

/// The tensors of one call.
pub(super) struct Call<'a> {
    pub(super) context: &'a ComputeContext,
}

/// A tensor that is read.
pub(super) struct Given<'a>(ValueRef<'a>);

impl Given<'_> {
    /// Its sizes.
    pub(super) fn shape(&self) -> Result<Vec<usize>> {
        Ok(self.0.try_extract_tensor::<f32>()?.0.iter().map(|size| *size as usize).collect())
    }

    /// Its elements.
    pub(super) fn values(&self) -> Result<&[f32]> {
        Ok(self.0.try_extract_tensor::<f32>()?.1)
    }
}

/// A tensor that is made.
pub(super) struct Made<'a>(ValueRefMut<'a>);

impl Made<'_> {
    /// Its elements.
    pub(super) fn values(&mut self) -> Result<&mut [f32]> {
        Ok(self.0.try_extract_tensor_mut::<f32>()?.1)
    }
}

impl<'a> Call<'a> {
    /// The input at a place.
    pub(super) fn input(&self, at: usize) -> Result<Given<'a>> {
        self.optional(at)?.ok_or_else(|| Error::new("an input is left out"))
    }

    /// The input at a place, where it is not left out.
    pub(super) fn optional(&self, at: usize) -> Result<Option<Given<'a>>> {
        if at >= self.context.num_inputs()? {
            return Ok(None);
        }
        Ok(self.context.input(at)?.map(Given))
    }

    /// The output at a place.
    pub(super) fn output(&self, at: usize, shape: &[usize]) -> Result<Made<'a>> {
        let shape: Vec<i64> = shape.iter().map(|size| *size as i64).collect();
        let made = self.context.output(at, shape)?;
        made.map(Made).ok_or_else(|| Error::new("an output is left out"))
    }

    /// The output at a place, where it is not left out.
    pub(super) fn optional_output(&self, at: usize, shape: &[usize]) -> Result<Option<Made<'a>>> {
        let there = at < self.context.num_outputs()?;
        there.then(|| self.output(at, shape)).transpose()
    }

    /// The first output, and an input of its shape that may lie in the same place: nothing where it does.
    pub(super) fn output_over(&self, input: usize) -> Result<(Made<'a>, Option<&'a [f32]>)> {
        let given = self.input(input)?;
        let (start, length) = (given.values()?.as_ptr(), given.values()?.len());
        let mut made = self.output(0, &given.shape()?)?;
        let there = std::ptr::eq(start, made.values()?.as_ptr());
        // SAFETY: the input's tensor outlives the call, and lies elsewhere than the output: the runtime gives an output an
        // input's place as a whole or not at all.
        Ok((made, (!there).then(|| unsafe { std::slice::from_raw_parts(start, length) })))
    }
}
