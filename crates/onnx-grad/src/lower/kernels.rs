//! Operators of the domain `headstart.kernels`, for runtimes that have them: one node where ordinary ones are several passes
//! over memory, and products and convolutions that do not depend on weights staying as they are.
//!
//! | operator | reads, is told | makes |
//! |---|---|---|
//! | `Product` | `A`, `B`, what is added (left out, a list, or as large as the result); `transA`, `transB` | `A'·B' + C` |
//! | `Gelu`, `GeluGradient` | `x`; `dy`, `x` | `y`; `dx` |
//! | `ClipGradient` | `dy`, `y`; `low`, `high` | `dx`: `dy` where `low < y < high`, else 0; where it is wanted, its sum over all axes but the second |
//! | `SoftmaxGradient` | `dy`, `y` | `dx`, along the last axis |
//! | `LayerNormGradient` | `dy`, `x`, scale, mean, inverse deviation | `dx`, and the gradients of scale and bias |
//! | `Conv` | `x`, `W`, bias; `strides`, `dilations`, `pads`; `low`, `high` where `y` is kept between them | `y` |
//! | `ConvImageGradient` | `dy`, `W`; these and `size`, the image's without the batch | `dx` |
//! | `ConvWeightGradient` | `dy`, `x`; these and `weight`, its shape | `dW`, and where it is wanted the gradient of the bias |
//!
//! All are of 32-bit floats; convolutions have two spatial axes, and one group or one for each channel.

use headstart_onnx::proto::{Attribute, element};

use super::{KERNELS, Lowering};
use crate::emit::Emit;
use crate::error::GradError;
use crate::graph::Graph;
use crate::ops::Op;
use crate::ops::conv::{give_bias, weight_sizes};
use crate::ops::layer_normalization::LayerNormalization;
use crate::ops::windows::{LEAD, Windows};
use crate::site::Site;

/// What a runtime with the operators of `headstart.kernels` runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kernels;

impl Lowering for Kernels {
    fn name(&self) -> &'static str {
        "kernels"
    }

    fn op(&self, site: &Site<'_>) -> Option<&'static dyn Op> {
        let single = |at: usize| site.input_fact(at).is_ok_and(|fact| fact.elements == element::FLOAT);
        if !single(0) {
            return None;
        }
        match (site.node.set(), site.node.op()) {
            ("" | "com.microsoft", "Gelu") if site.node.text("approximate") != Some("tanh") => Some(&Gelu),
            ("", "Relu") => Some(&Relu),
            ("", "Clip") if (1..3).all(|at| site.number(at).is_ok()) => Some(&Clip),
            ("", "Softmax") if is_last(site, -1) => Some(&Softmax),
            ("", "LayerNormalization") if is_plain_norm(site) => Some(&Norm),
            ("", "Conv") if is_plain_convolution(site) => Some(&Conv),
            _ => None,
        }
    }

    fn product(&self) -> (&'static str, &'static str) {
        (KERNELS, "Product")
    }

    fn fuse(&self, graph: &mut Graph) {
        super::fuse::fuse(graph);
    }
}

/// Whether the node works along the last axis.
fn is_last(site: &Site<'_>, usual: i64) -> bool {
    let rank = site.input_fact(0).map_or(0, |fact| fact.rank());
    let axis = site.node.int("axis").unwrap_or(usual);
    site.axis(axis, rank).is_ok_and(|axis| axis + 1 == rank)
}

fn is_plain_norm(site: &Site<'_>) -> bool {
    let Ok(fact) = site.input_fact(0) else { return false };
    let width = fact.rank().checked_sub(1).and_then(|last| fact.size(last));
    let lists = (1..3).all(|at| {
        let sizes = site.input_fact(at).ok().and_then(|fact| fact.sizes());
        width.is_some_and(|width| width > 0 && sizes == Some(vec![width]))
    });
    lists && is_last(site, -1)
}

fn is_plain_convolution(site: &Site<'_>) -> bool {
    let (Ok(image), Ok(weight)) = (site.input_fact(0), weight_sizes(site)) else { return false };
    let fixed = (1..image.rank()).all(|axis| image.size(axis).is_some_and(|size| size > 0));
    let groups = site.node.int("group").unwrap_or(1);
    let alone = groups > 1 && image.size(1).is_some_and(|size| size as i64 == groups);
    let alone = alone && weight.first() == Some(&groups) && weight.get(1) == Some(&1);
    let windows =
        site.output_fact(0).is_ok_and(|fact| (LEAD..fact.rank()).all(|axis| fact.size(axis) != Some(0)));
    image.rank() == 4
        && fixed
        && windows
        && (groups == 1 || alone)
        && Windows::of(site, weight[LEAD..].to_vec()).is_ok()
}

struct Gelu;

impl Op for Gelu {
    fn name(&self) -> &'static str {
        "Gelu"
    }

    fn forward(&self, site: &Site<'_>, emit: &mut Emit<'_>) -> Result<Vec<String>, GradError> {
        let (x, y) = (site.input(0)?, site.output(0)?);
        emit.push(headstart_onnx::proto::Node::new("Gelu", &[x], &[y], Vec::new()).from_set(KERNELS));
        Ok(Vec::new())
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let [dx] = emit.node_from((KERNELS, "GeluGradient"), &[d, x], Vec::new());
        emit.give(x, dx);
        Ok(())
    }
}

/// Gives `x` the gradient where the output lies between bounds.
fn within(site: &Site<'_>, d: &str, bounds: [f32; 2], emit: &mut Emit<'_>) -> Result<(), GradError> {
    let (x, y) = (site.input(0)?, site.output(0)?);
    let told = vec![Attribute::number("low", bounds[0]), Attribute::number("high", bounds[1])];
    let [dx] = emit.node_from((KERNELS, "ClipGradient"), &[d, y], told);
    emit.give(x, dx);
    Ok(())
}

struct Relu;

impl Op for Relu {
    fn name(&self) -> &'static str {
        "Relu"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        within(site, d, [0.0, f32::INFINITY], emit)
    }
}

struct Clip;

impl Op for Clip {
    fn name(&self) -> &'static str {
        "Clip"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        if [1, 2].into_iter().filter_map(|at| site.node.reads(at)).any(|bound| emit.wants(bound)) {
            return Err(site.refuse("a bound of it is trained"));
        }
        let low = site.number(1)?.map_or(f32::NEG_INFINITY, |bound| bound as f32);
        let high = site.number(2)?.map_or(f32::INFINITY, |bound| bound as f32);
        within(site, d, [low, high], emit)
    }
}

struct Softmax;

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "Softmax"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, y) = (site.input(0)?, site.output(0)?);
        let [dx] = emit.node_from((KERNELS, "SoftmaxGradient"), &[d, y], Vec::new());
        emit.give(x, dx);
        Ok(())
    }
}

struct Norm;

impl Op for Norm {
    fn name(&self) -> &'static str {
        "LayerNormalization"
    }

    fn forward(&self, site: &Site<'_>, emit: &mut Emit<'_>) -> Result<Vec<String>, GradError> {
        LayerNormalization.forward(site, emit)
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let [x, scale, bias] = [site.input(0)?, site.input(1)?, site.input(2)?];
        let [mean, inverse] = site.kept.as_slice() else {
            return Err(site.refuse("its forward part was written by another"));
        };
        let node = (KERNELS, "LayerNormGradient");
        let [dx, scales, biases] = emit.node_from(node, &[d, x, scale, mean, inverse], Vec::new());
        emit.give(x, dx);
        emit.give(scale, scales);
        emit.give(bias, biases);
        Ok(())
    }
}

struct Conv;

impl Conv {
    /// What its nodes are told, and the weight's shape.
    fn told(site: &Site<'_>) -> Result<(Vec<Attribute>, Vec<i64>), GradError> {
        let weight = weight_sizes(site)?;
        let windows = Windows::of(site, weight.get(LEAD..).unwrap_or_default().to_vec())?;
        let told = vec![
            Attribute::ints("strides", windows.strides.clone()),
            Attribute::ints("dilations", windows.dilations.clone()),
            Attribute::ints("pads", windows.padding()),
        ];
        Ok((told, weight))
    }
}

impl Op for Conv {
    fn name(&self) -> &'static str {
        "Conv"
    }

    fn forward(&self, site: &Site<'_>, emit: &mut Emit<'_>) -> Result<Vec<String>, GradError> {
        let (told, _) = Self::told(site)?;
        let operands: Vec<&str> =
            [site.input(0)?, site.input(1)?].into_iter().chain(site.node.reads(2)).collect();
        let node = headstart_onnx::proto::Node::new("Conv", &operands, &[site.output(0)?], told);
        emit.push(node.from_set(KERNELS));
        Ok(Vec::new())
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let (x, weight, bias) = (site.input(0)?, site.input(1)?, site.node.reads(2));
        let (told, shape) = Self::told(site)?;
        if emit.wants(weight) {
            let mut told = told.clone();
            told.push(Attribute::ints("weight", shape));
            let [dw, db] = emit.node_from((KERNELS, "ConvWeightGradient"), &[d, x], told);
            emit.give(weight, dw);
            if let Some(bias) = bias {
                emit.give(bias, db);
            }
        } else if let Some(bias) = bias {
            give_bias(bias, d, site.input_fact(0)?.rank() - LEAD, emit);
        }
        if emit.wants(x) {
            let image = site.input_fact(0)?;
            let size: Option<Vec<i64>> =
                (1..image.rank()).map(|axis| image.size(axis).map(|size| size as i64)).collect();
            let size = size.ok_or_else(|| site.refuse("the image's size depends on the graph's inputs"))?;
            let mut told = told;
            told.push(Attribute::ints("size", size));
            let [dx] = emit.node_from((KERNELS, "ConvImageGradient"), &[d, weight], told);
            emit.give(x, dx);
        }
        Ok(())
    }
}
