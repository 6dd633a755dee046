//! What an operator is to its derivative.

use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

/// An operator with a derivative.
///
/// To add one:
/// 1. Write `ops/<operator>.rs`. Its header states the mathematics, the specification's address, shapes, the operator
///    sets it is read in, and what is emitted.
/// 2. Emit in [`Op::backward`], for each input that [`Emit::wants`], nodes that compute its gradient from `d`, the
///    gradient of the output, and [`Emit::give`] it. What is given has the shape of the input: [`Emit::sum_to`] undoes a
///    broadcast, [`Emit::reshape`] a change of shape. Sizes come of [`Site::input_fact`]; one that is `None` depends on
///    the inputs and is read at run time by [`Emit::sizes_of`].
/// 3. Add a line to [`OPS`](super::OPS), in alphabetical order, and a test of generated shapes under `tests/it/ops/`.
/// 4. Renew the table of operators: the test `the_table_of_operators_is_in_step` says how.
///
/// What an operator does not cover it refuses with [`Site::refuse`]; it never computes something else.
pub trait Op: Sync {
    /// The operator's name.
    fn name(&self) -> &'static str;

    /// The domain of its operator set; ONNX's own by default.
    fn set(&self) -> &'static str {
        ""
    }

    /// The operator set that brought it. What reaches a rule is written as operator set 18 has it, or a newer one.
    fn since(&self) -> i64 {
        1
    }

    /// What of it is covered, for the table of operators.
    fn covers(&self) -> &'static str {
        "all of it"
    }

    /// Emits the node's own computation, as it is unless the gradient wants more outputs or another form. The node's
    /// outputs must be made under their names. Gives the names of values that [`Op::backward`] then finds in
    /// [`Site::kept`].
    ///
    /// # Errors
    /// [`GradError::Unsupported`] for what it does not cover.
    fn forward(&self, site: &Site<'_>, emit: &mut Emit<'_>) -> Result<Vec<String>, GradError> {
        emit.push(site.node.clone());
        Ok(Vec::new())
    }

    /// Emits the gradients of what the node reads, from that of its first output.
    ///
    /// # Errors
    /// [`GradError::Unsupported`] for what it does not cover.
    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError>;

    /// The same for nodes of several outputs: `gradients` has one for each, nothing for those that the loss does not
    /// depend on.
    ///
    /// # Errors
    /// [`GradError::Unsupported`] for what it does not cover.
    fn backward_all(
        &self,
        site: &Site<'_>,
        gradients: &[Option<String>],
        emit: &mut Emit<'_>,
    ) -> Result<(), GradError> {
        if gradients.iter().skip(1).any(Option::is_some) {
            return Err(site.refuse("the loss depends on more than its first output"));
        }
        match gradients.first() {
            Some(Some(d)) => self.backward(site, d, emit),
            _ => Ok(()),
        }
    }
}
