//! Features that do not tell where a row comes from: a head that guesses its domain learns, while the features are driven
//! the other way by [`reverse_gradient`](crate::Graph::reverse_gradient) before that head (Ganin & Lempitsky 2015, DANN).
//!
//! `loss = L_task + L_domain`; below the reversal the gradient is `dL_task - λ·dL_domain`.

use super::{CrossEntropy, Emitted, Loss, Total};
use crate::emit::Emit;
use crate::error::GradError;

/// A task's loss and the cross-entropy of the rows' domains. Inputs: the task's; then `labels` (numbered where the task has
/// such), int64 `[n]`, each row's domain, and its `sample_weight`, `[n]`. Rows without a label for the task have weight 0
/// there.
pub struct DomainConfusion {
    total: Total,
}

impl DomainConfusion {
    /// `domains` are the logits, `[n, domains]`, of a head behind a reversed gradient.
    #[must_use]
    pub fn new(task: Box<dyn Loss>, domains: &str) -> Self {
        let domain = CrossEntropy { logits: domains.to_owned(), smoothing: 0.0 };
        Self { total: Total { terms: vec![(1.0, task), (1.0, Box::new(domain))] } }
    }
}

impl Loss for DomainConfusion {
    fn reads(&self) -> Vec<&str> {
        self.total.reads()
    }

    fn emit(&self, emit: &mut Emit<'_>) -> Result<Emitted, GradError> {
        self.total.emit(emit)
    }
}
