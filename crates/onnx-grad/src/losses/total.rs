//! Several losses at once: their weighted sum.

use super::{Emitted, Loss};
use crate::emit::Emit;
use crate::error::GradError;

/// The sum of some losses, each times a factor. Inputs: those of the losses, in their order; where two have an input of
/// one name, the later one's is numbered.
pub struct Total {
    /// Factors and losses.
    pub terms: Vec<(f64, Box<dyn Loss>)>,
}

impl Loss for Total {
    fn reads(&self) -> Vec<&str> {
        self.terms.iter().flat_map(|(_, loss)| loss.reads()).collect()
    }

    fn emit(&self, emit: &mut Emit<'_>) -> Result<Emitted, GradError> {
        let mut sum: Option<String> = None;
        let (mut gradients, mut inputs) = (Vec::new(), Vec::new());
        for (factor, loss) in &self.terms {
            let emitted = loss.emit(emit)?;
            let like = emitted.gradients.first().ok_or(GradError::Nothing)?.0.clone();
            let factor = emit.number(*factor, &like)?;
            let term = emit.node("Mul", &[&emitted.loss, &factor]);
            sum = Some(match sum {
                Some(sum) => emit.node("Add", &[&sum, &term]),
                None => term,
            });
            for (value, gradient) in emitted.gradients {
                gradients.push((value, emit.node("Mul", &[&gradient, &factor])));
            }
            inputs.extend(emitted.inputs);
        }
        Ok(Emitted { loss: sum.ok_or(GradError::Nothing)?, gradients, inputs })
    }
}
