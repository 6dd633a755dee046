//! `Linear`, of this crate's own set: `Y = X·W + b` over the last axis of `X` `[…, k]`, `W` `[k, n]`, `b` `[n]`;
//! `dX = dY·Wᵀ`, `dW = Xᵀ·dY` and `db = Σ dY` over rows. It stands for a `MatMul` and the `Add` behind it.
//!
//! Emits forward `Reshape` to rows, `Gemm` with the bias, `Reshape` back; back what [`one_matrix`] emits, and `ReduceSum`.

use super::mat_mul::{one_matrix, rows_times_matrix};
use super::{OWN_SET, Op};
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct Linear;

impl Op for Linear {
    fn name(&self) -> &'static str {
        "Linear"
    }

    fn set(&self) -> &'static str {
        OWN_SET
    }

    fn since(&self) -> i64 {
        0
    }

    fn forward(&self, site: &Site<'_>, emit: &mut Emit<'_>) -> Result<Vec<String>, GradError> {
        rows_times_matrix(site, site.node.reads(2), emit)?;
        Ok(Vec::new())
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let bias = site.input(2)?;
        if emit.wants(bias) {
            let sum = emit.sum_to(d, site.output(0)?, bias)?;
            emit.give(bias, sum);
        }
        one_matrix(site, d, emit)
    }
}
