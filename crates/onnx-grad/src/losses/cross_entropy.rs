//! Cross-entropy: `-Σ w·Σ t·ln p` over classes, `p = softmax z`, with `t` 1 for a row's class and 0 for others.
//! `dz = w·(p - t)`. Smoothing by `s` takes `s` of each row's mass and gives each class `s/C` (Szegedy et al. 2016).

use headstart_onnx::proto::{Attribute, element};

use super::{Emitted, Loss, leading, read, sum_all};
use crate::emit::Emit;
use crate::error::GradError;

/// Cross-entropy of rows that have one class each. Inputs: `labels`, int64 `[n]`, and `sample_weight`, `[n]`.
#[derive(Debug, Clone)]
pub struct CrossEntropy {
    /// The logits, `[n, classes]`.
    pub logits: String,
    /// How much of a row's mass goes to all classes alike, from 0 to below 1.
    pub smoothing: f64,
}

impl Loss for CrossEntropy {
    fn reads(&self) -> Vec<&str> {
        vec![&self.logits]
    }

    fn emit(&self, emit: &mut Emit<'_>) -> Result<Emitted, GradError> {
        over_last_axis(&self.logits, 2, self.smoothing, emit)
    }
}

/// The loss of logits of `rank` axes, whose classes are the last.
pub(super) fn over_last_axis(
    logits: &str,
    rank: usize,
    smoothing: f64,
    emit: &mut Emit<'_>,
) -> Result<Emitted, GradError> {
    let fact = read(logits, rank, emit)?;
    let reason = "the number of classes depends on the graph's inputs".to_owned();
    let unknown = GradError::Loss { value: logits.to_owned(), reason };
    let classes = fact.size(rank - 1).ok_or(unknown)?;
    let labels = emit.input("labels", element::INT64, leading(fact, rank - 1));
    let weight = emit.input("sample_weight", fact.elements, leading(fact, rank - 1));
    let last = emit.integers(&[-1]);
    let weights = emit.node("Unsqueeze", &[&weight, &last]);
    let target = one_hot(&labels, classes, logits, emit)?;
    let target = smooth(target, smoothing, classes, logits, emit)?;
    let target = emit.node("Mul", &[&target, &weights]);
    let log = emit.node_with("LogSoftmax", &[logits], vec![Attribute::int("axis", -1)]);
    let gain = emit.node("Mul", &[&log, &target]);
    let gain = sum_all(&gain, rank, emit);
    let loss = emit.node("Neg", &[&gain]);
    let share = emit.node("Exp", &[&log]);
    let share = emit.node("Mul", &[&share, &weights]);
    let gradient = emit.node("Sub", &[&share, &target]);
    Ok(Emitted { loss, gradients: vec![(logits.to_owned(), gradient)], inputs: vec![labels, weight] })
}

/// 1 at each row's class, else 0, with the classes as a new last axis.
fn one_hot(labels: &str, classes: usize, like: &str, emit: &mut Emit<'_>) -> Result<String, GradError> {
    let last = emit.integers(&[-1]);
    let column = emit.node("Unsqueeze", &[labels, &last]);
    let all: Vec<i64> = (0..classes as i64).collect();
    let all = emit.integers(&all);
    let equal = emit.node("Equal", &[&column, &all]);
    emit.cast(&equal, like)
}

fn smooth(
    target: String,
    smoothing: f64,
    classes: usize,
    like: &str,
    emit: &mut Emit<'_>,
) -> Result<String, GradError> {
    if smoothing == 0.0 {
        return Ok(target);
    }
    if !(0.0..1.0).contains(&smoothing) {
        let reason = format!("smoothing is from 0 to below 1, not {smoothing}");
        return Err(GradError::Loss { value: like.to_owned(), reason });
    }
    let (kept, spread) =
        (emit.number(1.0 - smoothing, like)?, emit.number(smoothing / classes as f64, like)?);
    let target = emit.node("Mul", &[&target, &kept]);
    Ok(emit.node("Add", &[&target, &spread]))
}
