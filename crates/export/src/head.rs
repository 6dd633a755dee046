//! A head as nodes: `headstart_methods::head` says the same in arithmetic.

use headstart_methods::head::{Head, Tail};
use headstart_onnx::Extension;
use headstart_onnx::proto::{Attribute, Dimension, element};
use ndarray::s;

use crate::describe::Outputs;
use crate::pooling;

/// Adds a head that reads `features`, `[items, dimension]`; the names of its outputs, both `[items, classes]`.
///
/// `logits` are those after the temperature: their softmax, or sigmoid one by one, is `probabilities`.
pub(crate) fn add(
    graph: &mut Extension,
    head: &Head,
    features: &str,
    shape: &dyn Fn(usize) -> Vec<Dimension>,
) -> Outputs {
    let parts = head.parts();
    let classes = parts.classes.len();
    let given = if parts.normalise { pooling::normalise(graph, features) } else { features.to_owned() };
    let raw = match &parts.tail {
        Tail::Identity | Tail::Contrast { .. } => first_layer(graph, head, head.rows(), &given),
        Tail::Layer { weights, bias } => {
            let hidden = first_layer(graph, head, head.rows(), &given);
            let hidden = graph.add("Relu", &[&hidden], vec![]);
            let weights = graph.floats("weights", &[classes, head.rows()], weights.iter().copied());
            let bias = graph.floats("bias", &[classes], bias.iter().copied());
            layer(graph, &hidden, &weights, &bias)
        }
        Tail::Cache { classes: of, scale, alpha, beta, .. } => {
            cache(graph, head, &given, of, [*scale, *alpha, *beta])
        }
    };
    let temperature = graph.floats("temperature", &[], [parts.temperature]);
    let output = |name| (name, element::FLOAT, shape(classes));
    let logits = graph.add_output("Div", &[&raw, &temperature], vec![], output("logits"));
    let (op, attributes) =
        if parts.multi_label { ("Sigmoid", vec![]) } else { ("Softmax", vec![Attribute::int("axis", 1)]) };
    let probabilities = graph.add_output(op, &[&logits], attributes, output("probabilities"));
    Outputs { probabilities, logits, embedding: String::new() }
}

/// `features · rowsᵀ + bias` with the first `count` rows.
fn first_layer(graph: &mut Extension, head: &Head, count: usize, features: &str) -> String {
    let parts = head.parts();
    let rows = parts.rows.slice(s![..count, ..]);
    let rows = graph.floats("rows", &[count, head.dim()], rows.iter().copied());
    let bias = graph.floats("bias", &[count], parts.bias.iter().copied().take(count));
    layer(graph, features, &rows, &bias)
}

fn layer(graph: &mut Extension, given: &str, weights: &str, bias: &str) -> String {
    graph.add("Gemm", &[given, weights, bias], vec![Attribute::int("transB", 1)])
}

/// `scale · (cosine with the mean + alpha · Σ_{keys of the class} exp(beta · (cosine with the key − 1)))`.
fn cache(
    graph: &mut Extension,
    head: &Head,
    features: &str,
    of: &[u32],
    [scale, alpha, beta]: [f32; 3],
) -> String {
    let classes = head.classes().len();
    let scale = graph.floats("scale", &[], [scale]);
    if alpha <= 0.0 || of.is_empty() {
        let means = first_layer(graph, head, classes, features);
        return graph.add("Mul", &[&means, &scale], vec![]);
    }
    let cosines = first_layer(graph, head, head.rows(), features);
    let (start, middle) =
        (graph.integers("start", &[1], [0]), graph.integers("middle", &[1], [classes as i64]));
    let (end, axis) = (graph.integers("end", &[1], [head.rows() as i64]), graph.integers("axis", &[1], [1]));
    let means = graph.add("Slice", &[&cosines, &start, &middle, &axis], vec![]);
    let keys = graph.add("Slice", &[&cosines, &middle, &end, &axis], vec![]);
    let one = graph.floats("one", &[], [1.0]);
    let beta = graph.floats("beta", &[], [beta]);
    let distance = graph.add("Sub", &[&keys, &one], vec![]);
    let said = graph.add("Mul", &[&distance, &beta], vec![]);
    let said = graph.add("Exp", &[&said], vec![]);
    // Which key belongs to which class, `keys × classes`: kept as indices, spread out when the file is loaded.
    let indices = graph.integers("class", &[of.len()], of.iter().map(|&class| i64::from(class)));
    let depth = graph.integers("classes", &[1], [classes as i64]);
    let values = graph.floats("zero_one", &[2], [0.0, 1.0]);
    let members = graph.add("OneHot", &[&indices, &depth, &values], vec![]);
    let said = graph.add("MatMul", &[&said, &members], vec![]);
    let alpha = graph.floats("alpha", &[], [alpha]);
    let said = graph.add("Mul", &[&said, &alpha], vec![]);
    let sum = graph.add("Add", &[&means, &said], vec![]);
    graph.add("Mul", &[&sum, &scale], vec![])
}
