//! Rows taken once through the part of a backbone that is not trained; what comes of it lies in a file until the training
//! ends.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use headstart_methods::rng::Rng;
use headstart_methods::tune::{Feed, Prefix};
use headstart_methods::{Control, MethodError};
use headstart_types::runner::{Form, RunnerError, Runners};
use headstart_types::tensor::{DataType, Tensor, Values};

use crate::worker::examples::Examples;

/// Rows taken through at a time.
pub(super) const BATCH: usize = 32;

/// Rows as the rest of the graph takes them.
pub(super) struct Cached<'a> {
    examples: &'a Examples,
    prefix: &'a Prefix,
    /// Where each row's value lies in the file, in bytes, and its shape without the axis of rows.
    places: HashMap<usize, (u64, Vec<usize>)>,
    file: Mutex<File>,
}

impl<'a> Cached<'a> {
    /// Takes the rows through the prefix. Rows of one call are of one length: none is padded. Nothing where all of it would take
    /// more than half of the room on the disk.
    ///
    /// # Errors
    /// [`MethodError::Cancelled`], what the runtime refuses, and [`MethodError::NoRoom`] where the file finds no room.
    pub(super) fn fill(
        examples: &'a Examples,
        prefix: &'a Prefix,
        mut rows: Vec<usize>,
        runners: &dyn Runners,
        control: &mut dyn Control,
    ) -> Result<Option<Self>, MethodError> {
        let mut runner = runners.runner(&prefix.model, Form::Optimised).map_err(refused)?;
        let (mut file, mut places, mut end) = (examples.beside()?, HashMap::with_capacity(rows.len()), 0);
        rows.sort_by_key(|row| examples.length(*row));
        let room = examples.room()? / 2;
        let lengths: u64 = rows.iter().map(|row| examples.length(*row) as u64).sum();
        for like in rows.chunk_by(|one, other| examples.length(*one) == examples.length(*other)) {
            for some in like.chunks(BATCH) {
                // No step of the training is done yet.
                if control.progress(0, 1, &[]) == ControlFlow::Break(()) {
                    return Err(MethodError::Cancelled);
                }
                let inputs = examples.batch(some, None)?;
                let given: Vec<(&str, &Tensor)> =
                    inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
                let outputs = runner.run(&given, &[&prefix.value]).map_err(refused)?;
                let (shape, bytes) = outputs.first().and_then(of_floats).ok_or_else(unexpected)?;
                let own = prefix.of_a_row(shape, some.len()).ok_or_else(unexpected)?;
                let each = bytes.len() / some.len();
                // What a row takes grows with its length.
                let length = some.first().map_or(1, |row| examples.length(*row)).max(1) as u64;
                if (each as u64).div_ceil(length).saturating_mul(lengths) > room {
                    return Ok(None);
                }
                file.write_all(bytes).map_err(|error| Examples::unkept(&error))?;
                for row in some {
                    places.insert(*row, (end, own.clone()));
                    end += each as u64;
                }
            }
        }
        Ok(Some(Self { examples, prefix, places, file: Mutex::new(file) }))
    }

    fn read(&self, at: u64, count: usize) -> Result<Vec<u8>, MethodError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = vec![0; count];
        let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(|error| Examples::unkept(&error))?;
        Ok(bytes)
    }

    /// The rows' values as one tensor; shorter ones end in zeros.
    fn value(&self, rows: &[usize]) -> Result<Tensor, MethodError> {
        let places = rows.iter().map(|row| self.places.get(row).ok_or_else(unexpected));
        let places = places.collect::<Result<Vec<_>, _>>()?;
        let mut shape = places.first().map(|(_, shape)| shape.clone()).unwrap_or_default();
        for (_, other) in &places {
            shape.iter_mut().zip(other).for_each(|(most, size)| *most = (*most).max(*size));
        }
        let each = shape.iter().product::<usize>() * size_of::<f32>();
        let mut bytes = vec![0; each * rows.len()];
        for ((at, own), target) in places.into_iter().zip(bytes.chunks_exact_mut(each.max(1))) {
            let value = self.read(*at, own.iter().product::<usize>() * size_of::<f32>())?;
            place(&value, own, target, &shape);
        }
        let shape = self.prefix.of_rows(shape, rows.len());
        Ok(Tensor { shape, values: Values::Fixed { datatype: DataType::Fp32, bytes: bytes.into() } })
    }
}

impl Feed for Cached<'_> {
    fn length(&self, row: usize) -> usize {
        self.examples.length(row)
    }

    fn batch(&self, rows: &[usize], _: Option<&mut Rng>) -> Result<Vec<(String, Tensor)>, MethodError> {
        let mut inputs =
            if self.prefix.rest.is_empty() { Vec::new() } else { self.examples.batch(rows, None)? };
        inputs.retain(|(name, _)| self.prefix.rest.contains(name));
        inputs.push((self.prefix.value.clone(), self.value(rows)?));
        Ok(inputs)
    }
}

/// Copies a block into the corner of a larger one.
fn place(from: &[u8], from_shape: &[usize], to: &mut [u8], to_shape: &[usize]) {
    if from_shape.iter().skip(1).eq(to_shape.iter().skip(1)) || from_shape.len() < 2 {
        if let Some(to) = to.get_mut(..from.len()) {
            to.copy_from_slice(from);
        }
        return;
    }
    let parts = |shape: &[usize], bytes: usize| (bytes / shape.first().copied().unwrap_or(1).max(1)).max(1);
    let (each, room) = (parts(from_shape, from.len()), parts(to_shape, to.len()));
    for (from, to) in from.chunks_exact(each).zip(to.chunks_exact_mut(room)) {
        place(from, from_shape.get(1..).unwrap_or_default(), to, to_shape.get(1..).unwrap_or_default());
    }
}

fn of_floats(tensor: &Tensor) -> Option<(&[usize], &[u8])> {
    match &tensor.values {
        Values::Fixed { datatype: DataType::Fp32, bytes } => Some((&tensor.shape, bytes)),
        Values::Fixed { .. } | Values::Strings(_) => None,
    }
}

fn refused(error: RunnerError) -> MethodError {
    MethodError::Graph(error.to_string())
}

fn unexpected() -> MethodError {
    MethodError::Graph("the blocks that are not trained gave something else than a row's values".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_goes_into_the_corner_of_a_larger_one() {
        let mut whole = [0; 12];
        place(&[1, 2, 3, 4], &[2, 2], &mut whole, &[3, 4]);
        assert_eq!(whole, [1, 2, 0, 0, 3, 4, 0, 0, 0, 0, 0, 0]);
        let mut longer = [0; 8];
        place(&[1, 2, 3, 4], &[2, 2], &mut longer, &[4, 2]);
        assert_eq!(longer, [1, 2, 3, 4, 0, 0, 0, 0]);
        let mut deep = [0; 8];
        place(&[1, 2], &[2, 1, 1], &mut deep, &[2, 2, 2]);
        assert_eq!(deep, [1, 0, 0, 0, 2, 0, 0, 0]);
    }
}
