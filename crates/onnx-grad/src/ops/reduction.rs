//! What the reducing operators have in common: which axes, and how a result is brought back to the shape of `x`.

use headstart_onnx::proto::Attribute;

use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

/// The axes of a node that reduces its first input.
pub(super) struct Reduction {
    /// The axes, in order.
    pub(super) axes: Vec<usize>,
    /// Whether they stay as axes of one element.
    keeps: bool,
}

impl Reduction {
    /// Reads the node: axes as its second input, or as an attribute in older operator sets; all of them where none are
    /// given.
    ///
    /// # Errors
    /// [`GradError::Unsupported`] where the axes depend on the graph's inputs, and where there are none and the node's
    /// meaning is open.
    pub(super) fn of(site: &Site<'_>) -> Result<Self, GradError> {
        let rank = site.input_fact(0)?.rank();
        let given = site.integers(1)?.or_else(|| site.node.ints("axes").map(<[i64]>::to_vec));
        let mut axes = match given.filter(|axes| !axes.is_empty()) {
            Some(given) => {
                given.into_iter().map(|axis| site.axis(axis, rank)).collect::<Result<Vec<usize>, _>>()?
            }
            None if site.node.int("noop_with_empty_axes") == Some(1) => Vec::new(),
            None => (0..rank).collect(),
        };
        axes.sort_unstable();
        // Runtimes and the specification do not agree on what the others are without axes.
        let plain =
            ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"].contains(&site.node.op());
        if axes.is_empty() && !plain {
            return Err(site.refuse("it has no axes"));
        }
        Ok(Self { axes, keeps: site.node.int("keepdims") != Some(0) })
    }

    /// The axes, as nodes read them.
    pub(super) fn axes_as_integers(&self) -> Vec<i64> {
        self.axes.iter().map(|&axis| axis as i64).collect()
    }

    /// A value divided by the number of elements that became one.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub(super) fn over_count(
        &self,
        site: &Site<'_>,
        value: &str,
        emit: &mut Emit<'_>,
    ) -> Result<String, GradError> {
        let (x, fact) = (site.input(0)?, site.input_fact(0)?);
        let count: Option<usize> = self.axes.iter().map(|&axis| fact.size(axis)).product();
        if let Some(count) = count {
            let share = emit.number(1.0 / count as f64, x)?;
            return Ok(emit.node("Mul", &[value, &share]));
        }
        let sizes = emit.sizes_of(x, &self.axes)?;
        let count = emit.node_with("ReduceProd", &[&sizes], vec![Attribute::int("keepdims", 0)]);
        let count = emit.cast(&count, x)?;
        Ok(emit.node("Div", &[value, &count]))
    }

    /// A value shaped like the node's output, with the axes that were reduced as axes of one element.
    pub(super) fn restore(&self, value: &str, emit: &mut Emit<'_>) -> String {
        if self.keeps || self.axes.is_empty() {
            return value.to_owned();
        }
        let axes = emit.integers(&self.axes_as_integers());
        emit.node("Unsqueeze", &[value, &axes])
    }

    /// A value shaped like the node's output, repeated to the shape of its input.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub(super) fn expand(
        &self,
        site: &Site<'_>,
        value: &str,
        emit: &mut Emit<'_>,
    ) -> Result<String, GradError> {
        let value = self.restore(value, emit);
        if self.axes.is_empty() {
            return Ok(value);
        }
        let shape = emit.shape_of(site.input(0)?)?;
        Ok(emit.node("Expand", &[&value, &shape]))
    }
}
