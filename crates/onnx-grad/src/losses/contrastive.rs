//! Pairs that are to be alike or not: `Σ w·(cos(a, b) - t)²` (Reimers & Gurevych 2019; as SetFit trains, Tunstall et al.
//! 2022). With rows of length 1, `n = x/|x|`: `dn_a = 2w·(n_a·n_b - t)·n_b` and the same for `b`, summed over the pairs a
//! row is in; `dx = (dn - n·(n·dn)) / |x|`.

use headstart_onnx::proto::{Attribute, Dimension, element};

use super::{Emitted, Loss, read, sum_all};
use crate::emit::Emit;
use crate::error::GradError;
use crate::ops::rows::Rows;

/// Squared errors of the cosines of pairs of rows. A row may be in many pairs and is computed once. Inputs: `left` and
/// `right`, int64 `[pairs]`, the places of a pair's rows; `targets`, `[pairs]`, 1 for rows of one class, 0 for others;
/// `sample_weight`, `[pairs]`.
#[derive(Debug, Clone)]
pub struct Contrastive {
    /// The features, `[n, d]`.
    pub features: String,
}

/// What the length of a row is at least taken for, so that a row of zeros has a direction.
const LENGTH_LEAST: f64 = 1e-12;

impl Loss for Contrastive {
    fn reads(&self) -> Vec<&str> {
        vec![&self.features]
    }

    fn emit(&self, emit: &mut Emit<'_>) -> Result<Emitted, GradError> {
        let x = self.features.as_str();
        let elements = read(x, 2, emit)?.elements;
        let pairs = || vec![Dimension::named("pairs")];
        let left = emit.input("left", element::INT64, pairs());
        let right = emit.input("right", element::INT64, pairs());
        let targets = emit.input("targets", elements, pairs());
        let weight = emit.input("sample_weight", elements, pairs());

        let last = emit.integers(&[1]);
        let length = emit.node_with("ReduceL2", &[x, &last], vec![Attribute::int("keepdims", 1)]);
        let least = emit.number(LENGTH_LEAST, x)?;
        let length = emit.node("Max", &[&length, &least]);
        let unit = emit.node("Div", &[x, &length]);
        let (a, b) = (emit.node("Gather", &[&unit, &left]), emit.node("Gather", &[&unit, &right]));
        let product = emit.node("Mul", &[&a, &b]);
        let cosine = emit.sum(&product, &[1], false);
        let off = emit.node("Sub", &[&cosine, &targets]);
        let weighted = emit.node("Mul", &[&off, &weight]);
        let terms = emit.node("Mul", &[&weighted, &off]);
        let loss = sum_all(&terms, 1, emit);

        let slope = emit.node("Add", &[&weighted, &weighted]);
        let slope = emit.node("Unsqueeze", &[&slope, &last]);
        let (da, db) = (emit.node("Mul", &[&slope, &b]), emit.node("Mul", &[&slope, &a]));
        let rows = Rows { count: emit.sizes_of(x, &[0])?, width: emit.sizes_of(x, &[1])?, elements };
        let behind = |parts: &[&str], emit: &mut Emit<'_>| {
            emit.node_with("Concat", parts, vec![Attribute::int("axis", 0)])
        };
        let (places, terms) = (behind(&[&left, &right], emit), behind(&[&da, &db], emit));
        // Of n rows there are some n²/2 pairs: each row is in so many that a product is quicker than to scatter them.
        let d_unit = rows.counted(&places, &terms, emit);
        let along = emit.node("Mul", &[&unit, &d_unit]);
        let along = emit.sum(&along, &[1], true);
        let along = emit.node("Mul", &[&unit, &along]);
        let across = emit.node("Sub", &[&d_unit, &along]);
        let gradient = emit.node("Div", &[&across, &length]);
        let inputs = vec![left, right, targets, weight];
        Ok(Emitted { loss, gradients: vec![(x.to_owned(), gradient)], inputs })
    }
}
