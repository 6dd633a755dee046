//! `Tile`: a value repeated along its axes; `dx` is `dy` summed over the repetitions.
//!
//! <https://onnx.ai/onnx/operators/onnx__Tile.html>, operator sets from 6. Emits `Reshape`, by which repetitions
//! become axes of their own, and `ReduceSum`; where only axes of one element are repeated, `ReduceSum` alone.

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Tile;

impl Op for Tile {
    fn name(&self) -> &'static str {
        "Tile"
    }

    fn since(&self) -> i64 {
        6
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, whole) = (site.input(0)?, site.input_fact(0)?);
        let known = site.fact(site.input(1)?)?.integers();
        let times = |axis: usize| known.as_ref().and_then(|known| known.get(axis).copied());
        let repeated: Vec<usize> = (0..whole.rank()).filter(|&axis| times(axis) != Some(1)).collect();
        if repeated.is_empty() {
            emit.give(x, d.to_owned());
            return Ok(());
        }
        if repeated.iter().all(|&axis| whole.size(axis) == Some(1)) {
            let axes: Vec<i64> = repeated.iter().map(|&axis| axis as i64).collect();
            let dx = emit.sum(d, &axes, true);
            emit.give(x, dx);
            return Ok(());
        }
        let (mut shape, mut axes) = (Vec::new(), Vec::new());
        for axis in 0..whole.rank() {
            if repeated.contains(&axis) {
                axes.push(shape.len() as i64);
                shape.push(match times(axis) {
                    Some(times) => emit.integers(&[times]),
                    None => emit.slice(site.input(1)?, 0, [axis as i64, axis as i64 + 1]),
                });
            }
            shape.push(emit.sizes_of(x, &[axis])?);
        }
        let shape = emit.list(&shape);
        let apart = emit.reshape_to(d, &shape);
        let dx = emit.sum(&apart, &axes, false);
        emit.give(x, dx);
        Ok(())
    }
}
