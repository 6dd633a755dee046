//! `Slice`: every so-many-th element between two ends of some axes; `dx` is `dy` where those stood, else 0.
//!
//! <https://onnx.ai/onnx/operators/onnx__Slice.html>, operator sets from 1; axes and steps may not depend on the
//! graph's inputs. Emits `Pad`; slices that cut a value up emit one `Concat` together. Before the `Pad` comes a
//! `Slice` for an axis that is read backwards, and `Unsqueeze`, `Pad`, `Reshape` for one of which elements are left
//! out. Where ends or sizes depend on the inputs, the zeros are counted at run time.

use super::Op;
use super::placing::{Place, Start};
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

/// Ends from here on mean the end of the axis.
const FAR: i64 = i32::MAX as i64;

pub(super) struct Slice;

impl Op for Slice {
    fn name(&self) -> &'static str {
        "Slice"
    }

    fn covers(&self) -> &'static str {
        "axes and steps that do not depend on the inputs"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, whole, part) = (site.input(0)?, site.input_fact(0)?, site.output_fact(0)?);
        let starts = site.input(1)?;
        let known = site.fact(starts)?.integers();
        let count = site.fact(starts)?.size(0).ok_or_else(|| site.refuse("its starts are no list"))?;
        let axes = site.integers(3)?.unwrap_or_else(|| (0..count as i64).collect());
        let steps = site.integers(4)?.unwrap_or_else(|| vec![1; count]);
        let ends = site.input_fact(2)?.integers();
        // An end that is a number may be behind an axis that is short, and not behind the same when it is longer.
        let far = |at: usize| ends.as_ref().is_none_or(|ends| ends.get(at) >= Some(&FAR));
        // So may a start that is counted from the back be before the first element.
        let from_first = |at: usize| known.as_ref().and_then(|known| known.get(at)) == Some(&0);
        let mut places = Vec::new();
        for (at, (axis, step)) in axes.into_iter().zip(steps).enumerate() {
            let axis = site.axis(axis, whole.rank())?;
            let size = part.tried(axis).unwrap_or_default();
            if whole.tried(axis) == Some(size)
                && step == 1
                && (whole.size(axis).is_some() || (from_first(at) && far(at)))
            {
                continue;
            }
            let start = match known.as_ref().and_then(|known| known.get(at)) {
                Some(&start) => Start::Known(start),
                None => Start::Read(emit.slice(starts, 0, [at as i64, at as i64 + 1])),
            };
            places.push(Place { value: x, axis, start, step, size });
        }
        let Some(last) = places.pop() else {
            emit.give(x, d.to_owned());
            return Ok(());
        };
        let mut d = d.to_owned();
        for place in places {
            d = place.put(&d, emit)?;
        }
        last.give(&d, emit)
    }
}
