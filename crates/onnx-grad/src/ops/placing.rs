//! What the operators that take a part of a value along an axis have in common: how the part's gradient is put back
//! where the part stood, zeros around it.

use headstart_onnx::proto::Attribute;

use crate::emit::Emit;
use crate::error::GradError;
use crate::parts::Part;
use crate::probe::{Tried, fixed};

/// Where a part begins, counted from the back where that is negative; it may lie outside, and is then moved to the end
/// that is nearer.
#[derive(Debug, Clone)]
pub(super) enum Start {
    /// There, whatever the graph's inputs.
    Known(i64),
    /// Where a list of one integer says.
    Read(String),
}

/// A part of a forward value along one axis.
pub(super) struct Place<'a> {
    /// The value.
    pub(super) value: &'a str,
    /// The axis.
    pub(super) axis: usize,
    /// Its first element.
    pub(super) start: Start,
    /// How far the next one is; backwards where negative, never 0.
    pub(super) step: i64,
    /// The size of the part in each run.
    pub(super) size: Tried,
}

impl Place<'_> {
    /// Gives the value the gradient `d` of its part.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub(super) fn give(self, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let fact = emit.fact(self.value)?;
        let known = self.known(emit)?;
        if let (Some([start, size, whole]), 1) = (known, self.step) {
            let (rank, axis) = (fact.rank(), self.axis);
            emit.give_part(self.value, Part { gradient: d.to_owned(), rank, axis, start, size, whole });
            return Ok(());
        }
        let d = self.put(d, emit)?;
        emit.give(self.value, d);
        Ok(())
    }

    /// The gradient `d` of the part with zeros around and between its elements: along the axis it then has the size of
    /// the value.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub(super) fn put(&self, d: &str, emit: &mut Emit<'_>) -> Result<String, GradError> {
        let (rank, axis) = (emit.fact(self.value)?.rank(), self.axis);
        let apart = self.step.unsigned_abs() as i64;
        let mut d = d.to_owned();
        if self.step < 0 {
            d = reverse(&d, axis, emit);
        }
        if let Some([start, size, whole]) = self.known(emit)?.map(|known| known.map(|size| size as i64)) {
            d = spread(&d, rank, axis, apart, Some(size), emit);
            return Ok(emit.pad(&d, rank, axis, [start, whole - start - size * apart]));
        }
        let size = shape_from(&d, axis, Some(axis + 1), emit);
        d = spread(&d, rank, axis, apart, None, emit);
        let whole = emit.sizes_of(self.value, &[axis])?;
        let apart = emit.integers(&[apart]);
        let spread = emit.node("Mul", &[&size, &apart]);
        let start = self.lowest(&size, &whole, emit);
        let after = emit.node("Sub", &[&whole, &start]);
        let after = emit.node("Sub", &[&after, &spread]);
        let zeros = |count: usize, emit: &mut Emit<'_>| emit.integers(&vec![0; count]);
        let mut pads = vec![(axis > 0).then(|| zeros(axis, emit)), Some(start)];
        pads.push((rank > 1).then(|| zeros(rank - 1, emit)));
        pads.push(Some(after));
        pads.push((axis + 1 < rank).then(|| zeros(rank - 1 - axis, emit)));
        let pads: Vec<String> = pads.into_iter().flatten().collect();
        let pads = emit.list(&pads);
        Ok(emit.node("Pad", &[&d, &pads]))
    }

    /// The part's lowest element, its size and that of the whole, where none of them depends on the graph's inputs.
    fn known(&self, emit: &Emit<'_>) -> Result<Option<[usize; 3]>, GradError> {
        let whole = emit.fact(self.value)?.size(self.axis);
        let size = fixed(self.size);
        let (&Start::Known(start), Some(whole), Some(size)) = (&self.start, whole, size) else {
            return Ok(None);
        };
        let most = if self.step > 0 { whole } else { whole.saturating_sub(1) } as i64;
        let first = if start < 0 { start.saturating_add(whole as i64) } else { start }.clamp(0, most);
        let lowest = if self.step > 0 || size == 0 { first } else { first + (size as i64 - 1) * self.step };
        Ok(Some([usize::try_from(lowest).unwrap_or_default(), size, whole]))
    }

    /// The part's lowest element as a list of one integer, given its size and that of the whole as such.
    fn lowest(&self, size: &str, whole: &str, emit: &mut Emit<'_>) -> String {
        let zero = emit.integers(&[0]);
        let one = emit.integers(&[1]);
        let from_back = |start: &str, emit: &mut Emit<'_>| {
            let sum = emit.node("Add", &[start, whole]);
            emit.node("Max", &[&sum, &zero])
        };
        let first = match &self.start {
            Start::Known(0) if self.step > 0 => return zero,
            Start::Known(start) => {
                let listed = emit.integers(&[*start]);
                if *start < 0 { from_back(&listed, emit) } else { listed }
            }
            Start::Read(start) => {
                let back = from_back(start, emit);
                let negative = emit.node("Less", &[start, &zero]);
                emit.node("Where", &[&negative, &back, start])
            }
        };
        if self.step > 0 {
            return emit.node("Min", &[&first, whole]);
        }
        let last = emit.node("Sub", &[whole, &one]);
        let first = emit.node("Min", &[&first, &last]);
        let step = emit.integers(&[self.step]);
        let steps = emit.node("Sub", &[size, &one]);
        let way = emit.node("Mul", &[&steps, &step]);
        let lowest = emit.node("Add", &[&first, &way]);
        // Of no elements none is the lowest; where it is said to be must lie inside all the same.
        let lowest = emit.node("Min", &[&lowest, whole]);
        emit.node("Max", &[&lowest, &zero])
    }
}

/// The sizes of the axes of a value of no matter what shape, from one of them to before another.
pub(super) fn shape_from(value: &str, start: usize, end: Option<usize>, emit: &mut Emit<'_>) -> String {
    let mut told = vec![Attribute::int("start", start as i64)];
    told.extend(end.map(|end| Attribute::int("end", end as i64)));
    emit.node_with("Shape", &[value], told)
}

/// A value backwards along an axis.
pub(super) fn reverse(value: &str, axis: usize, emit: &mut Emit<'_>) -> String {
    let inputs = [-1, i64::MIN, axis as i64, -1].map(|number| emit.integers(&[number]));
    let [start, end, axis, step] = inputs.each_ref().map(String::as_str);
    emit.node("Slice", &[value, start, end, axis, step])
}

/// A value with `apart - 1` zeros behind each of its elements along an axis, where it has `size` elements.
fn spread(
    value: &str,
    rank: usize,
    axis: usize,
    apart: i64,
    size: Option<i64>,
    emit: &mut Emit<'_>,
) -> String {
    if apart == 1 {
        return value.to_owned();
    }
    let behind = emit.integers(&[axis as i64 + 1]);
    let column = emit.node("Unsqueeze", &[value, &behind]);
    let column = emit.pad(&column, rank + 1, axis + 1, [0, apart - 1]);
    let long = match size {
        Some(size) => emit.integers(&[size * apart]),
        None => {
            let size = shape_from(value, axis, Some(axis + 1), emit);
            let apart = emit.integers(&[apart]);
            emit.node("Mul", &[&size, &apart])
        }
    };
    let mut shape = vec![(axis > 0).then(|| shape_from(value, 0, Some(axis), emit)), Some(long)];
    shape.push((axis + 1 < rank).then(|| shape_from(value, axis + 1, None, emit)));
    let shape: Vec<String> = shape.into_iter().flatten().collect();
    let shape = emit.list(&shape);
    emit.reshape_to(&column, &shape)
}
