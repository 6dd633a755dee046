//! What is done to graphs before gradients are taken, and what is refused.

use headstart_onnx::proto::{
    Attribute, Dimension, Graph as Nodes, Model, Node, OperatorSet, Tensor, ValueInfo, element,
};
use headstart_onnx_grad::losses::WeightedSum;
use headstart_onnx_grad::lower::Lowering;
use headstart_onnx_grad::ops::Op;
use headstart_onnx_grad::{Emit, GradError, Graph, Options, Site, TrainingGraph, differentiate, normalise};
use ort::session::builder::GraphOptimizationLevel;

use crate::support::check::alike;
use crate::support::data::{Chance, Data};
use crate::support::runtime::{Loaded, Runtime};

/// A model with the input `x` and the output `y`.
pub(crate) fn model(opset: i64, shape: &str, nodes: Vec<Node>, constants: Vec<Tensor>) -> Model {
    let dimension = |size: &str| size.parse().map_or_else(|_| Dimension::named(size), Dimension::of);
    let graph = Nodes {
        name: Some("graph".to_owned()),
        node: nodes,
        initializer: constants,
        input: vec![ValueInfo::tensor("x", element::FLOAT, shape.split(',').map(dimension).collect())],
        output: vec![ValueInfo { name: Some("y".to_owned()), ..ValueInfo::default() }],
        ..Nodes::default()
    };
    let opset_import = vec![OperatorSet { domain: None, version: Some(opset) }];
    Model { ir_version: Some(8), graph: Some(graph), opset_import, ..Model::default() }
}

pub(crate) fn drawn(name: &str, dims: &[usize]) -> Tensor {
    let mut chance = Chance::of(name);
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| chance.number() as f32).collect();
    Tensor::floats(name, dims, values)
}

pub(crate) fn number(name: &str, value: f32) -> Tensor {
    Tensor::floats(name, &[], [value])
}

pub(crate) fn draw(words: &str, shape: &[usize]) -> Data {
    let mut chance = Chance::of(words);
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| chance.number()).collect();
    Data::floats(shape, &values, element::FLOAT)
}

/// The output of a model.
pub(crate) fn output(model: &Model, x: &Data) -> Vec<f64> {
    let loaded = Loaded::at(model, GraphOptimizationLevel::Disable);
    loaded.unwrap().run(&[("x".to_owned(), x.clone())]).unwrap()[0].1.numbers()
}

pub(crate) fn normalised(model: &Model) -> Graph {
    let mut graph = Graph::new(model.clone()).unwrap();
    normalise(&mut graph).unwrap();
    graph
}

fn ops(graph: &Graph) -> Vec<&str> {
    graph.nodes().iter().map(Node::op).collect()
}

pub(crate) fn training(graph: &Graph, trainable: &[&str]) -> Result<TrainingGraph, GradError> {
    let loss = WeightedSum { values: vec!["y".to_owned()] };
    differentiate(graph, &loss, trainable, &Runtime, &Options::default())
}

/// Operators of a training graph.
fn emitted(training: &TrainingGraph) -> Vec<&str> {
    training.model.graph.as_ref().unwrap().node.iter().map(Node::op).collect()
}

#[test]
fn a_batch_normalisation_is_folded_into_the_convolution_before_it() {
    let constants = |bias: bool| {
        let positive = |name: &str| {
            let mut chance = Chance::of(name);
            Tensor::floats(name, &[4], (0..4).map(|_| chance.number() as f32 + 1.5).collect::<Vec<_>>())
        };
        let mut all = vec![drawn("w", &[4, 3, 2, 2]), positive("gain"), drawn("shift", &[4])];
        all.extend([drawn("mean", &[4]), positive("variance")]);
        all.extend(bias.then(|| drawn("b", &[4])));
        all
    };
    for bias in [false, true] {
        let inputs: &[&str] = if bias { &["x", "w", "b"] } else { &["x", "w"] };
        let nodes = vec![
            Node::new("Conv", inputs, &["c"], Vec::new()),
            Node::new(
                "BatchNormalization",
                &["c", "gain", "shift", "mean", "variance"],
                &["y"],
                vec![Attribute::number("epsilon", 1e-3)],
            ),
        ];
        let model = model(14, "N,3,5,5", nodes, constants(bias));
        let graph = normalised(&model);
        assert_eq!(ops(&graph), ["Conv"]);
        let x = draw("x", &[2, 3, 5, 5]);
        alike(&output(&graph.into_model(), &x), &output(&model, &x), 1e-6, "the folded convolution");
    }
}

#[test]
fn weights_that_were_equal_when_exported_are_trained_apart() {
    let nodes = vec![
        Node::new("Identity", &["b"], &["copy"], Vec::new()),
        Node::new("Add", &["x", "b"], &["h"], Vec::new()),
        Node::new("Mul", &["h", "copy"], &["y"], Vec::new()),
    ];
    let graph = normalised(&model(18, "N,3", nodes, vec![drawn("b", &[3])]));
    assert_eq!(ops(&graph), ["Add", "Mul"]);
    let training = training(&graph, &["b", "copy"]).unwrap();
    assert_eq!(training.gradients.len(), 2);
}

#[test]
fn weights_stored_in_16_bits_are_trained_in_32() {
    let bits = [0x3c00u16, 0xc000, 0x3555];
    let raw: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let mut stored = Tensor::floats("stored", &[3], []);
    (stored.data_type, stored.raw_data) = (Some(element::HALF), Some(raw.into()));
    let nodes = vec![
        Node::new("Cast", &["stored"], &["w"], vec![Attribute::int("to", 1)]),
        Node::new("Mul", &["x", "w"], &["y"], Vec::new()),
    ];
    let graph = normalised(&model(18, "N,3", nodes, vec![stored]));
    assert_eq!(graph.constant("w").unwrap().to_numbers().unwrap(), [1.0, -2.0, 0.333_251_953_125]);
    assert!(graph.constant("stored").is_none());
    assert!(training(&graph, &["w"]).is_ok());
}

#[test]
fn constant_nodes_and_dropouts_go() {
    let nodes = vec![
        Node::new("Constant", &[], &["two"], vec![Attribute::tensor("value", number("", 2.0))]),
        Node::new("Constant", &[], &["one"], vec![Attribute::number("value_float", 1.0)]),
        Node::new("Mul", &["x", "two"], &["h"], Vec::new()),
        Node::new("Dropout", &["h"], &["kept", "mask"], Vec::new()),
        Node::new("Add", &["kept", "one"], &["y"], Vec::new()),
    ];
    let model = model(13, "N,3", nodes, Vec::new());
    let graph = normalised(&model);
    assert_eq!(ops(&graph), ["Mul", "Add"]);
    let x = draw("x", &[2, 3]);
    alike(&output(&graph.into_model(), &x), &output(&model, &x), 0.0, "the graph without them");
}

#[test]
fn older_operator_sets_are_written_as_18_has_them() {
    let ints = |name: &str, values: &[i64]| Attribute::ints(name, values.to_vec());
    let unary = |op: &str, told: Vec<Attribute>| vec![Node::new(op, &["x"], &["y"], told)];
    let cases = [
        (9, unary("Clip", vec![Attribute::number("min", -0.5), Attribute::number("max", 0.25)])),
        (9, unary("Clip", vec![Attribute::number("max", 0.25)])),
        (9, unary("Slice", vec![ints("starts", &[0, 1]), ints("ends", &[9, 3]), ints("axes", &[0, 2])])),
        (9, unary("Slice", vec![ints("starts", &[1]), ints("ends", &[2])])),
        (10, unary("Pad", vec![ints("pads", &[0, 1, 0, 0, 0, 2]), Attribute::number("value", 0.5)])),
        (11, unary("Softmax", vec![Attribute::int("axis", 1)])),
        (11, unary("LogSoftmax", vec![Attribute::int("axis", 2)])),
        (12, unary("Softmax", Vec::new())),
        (11, unary("ReduceSum", vec![ints("axes", &[1]), Attribute::int("keepdims", 0)])),
        (13, unary("ReduceMean", vec![ints("axes", &[-1])])),
        (17, unary("ReduceMax", vec![ints("axes", &[0, 1])])),
        (11, unary("Unsqueeze", vec![ints("axes", &[0, 2])])),
        (
            12,
            vec![
                Node::new(
                    "Split",
                    &["x"],
                    &["a", "b"],
                    vec![Attribute::int("axis", 2), ints("split", &[1, 3])],
                ),
                Node::new("Add", &["a", "b"], &["y"], Vec::new()),
            ],
        ),
        (
            13,
            vec![
                Node::new("Split", &["x"], &["a", "b"], vec![Attribute::int("axis", 2)]),
                Node::new("Sub", &["a", "b"], &["y"], Vec::new()),
            ],
        ),
    ];
    for (opset, nodes) in cases {
        let op = nodes[0].op().to_owned();
        let model = model(opset, "2,3,4", nodes, Vec::new());
        let graph = normalised(&model);
        assert_eq!(graph.opset(), 18);
        let x = draw("x", &[2, 3, 4]);
        alike(&output(&graph.into_model(), &x), &output(&model, &x), 1e-7, &format!("{op} of {opset}"));
    }
}

#[test]
fn pictures_are_enlarged_as_older_operator_sets_did_it() {
    for (opset, op) in [(9, "Upsample"), (10, "Resize")] {
        for mode in ["nearest", "linear"] {
            let told = vec![Attribute::string("mode", mode)];
            let nodes = vec![Node::new(op, &["x", "scales"], &["y"], told)];
            let scales = Tensor::floats("scales", &[4], [1.0, 1.0, 2.0, 1.5]);
            let model = model(opset, "1,2,4,4", nodes, vec![scales]);
            let graph = normalised(&model);
            let x = draw("x", &[1, 2, 4, 4]);
            alike(&output(&graph.into_model(), &x), &output(&model, &x), 1e-6, op);
        }
    }
}

#[test]
fn pictures_are_made_smaller_as_operator_set_10_did_it() {
    let resize = || {
        let told = vec![Attribute::string("mode", "nearest")];
        vec![Node::new("Resize", &["x", "scales"], &["y"], told)]
    };
    let made = |scales: [f32; 4]| {
        let scales = Tensor::floats("scales", &[4], scales);
        let held = Node::new("Constant", &[], &["scales"], vec![Attribute::tensor("value", scales.clone())]);
        let stored = model(10, "1,2,7,10", resize(), vec![scales]);
        let nodes = [vec![held], resize()].concat();
        [stored, model(10, "1,2,7,10", nodes, Vec::new())]
    };
    let x = draw("x", &[1, 2, 7, 10]);
    for scales in [[1.0, 1.0, 0.5, 0.3], [1.0, 1.0, 1.0, 0.7], [1.0, 1.0, 1.0, 1.5]] {
        for model in made(scales) {
            let graph = normalised(&model);
            alike(&output(&graph.into_model(), &x), &output(&model, &x), 0.0, &format!("{scales:?}"));
        }
    }
    for model in made([1.0, 1.0, 2.0, 0.5]) {
        let refused = normalise(&mut Graph::new(model).unwrap()).unwrap_err().to_string();
        assert!(refused.contains("one axis smaller and another larger"), "{refused}");
    }
}

#[test]
fn a_written_out_gelu_is_one_in_whatever_order_it_was_written() {
    let root = std::f32::consts::SQRT_2;
    let constants = || vec![number("root", root), number("one", 1.0), number("half", 0.5), drawn("b", &[3])];
    let two = |op: &str, a: &str, b: &str, y: &str| Node::new(op, &[a, b], &[y], Vec::new());
    let start = || {
        let erf = Node::new("Erf", &["s"], &["e"], Vec::new());
        vec![two("Add", "x", "b", "h"), two("Div", "h", "root", "s"), erf, two("Add", "e", "one", "a")]
    };
    let ends = [
        vec![two("Mul", "h", "a", "p"), two("Mul", "p", "half", "y")],
        vec![two("Mul", "half", "h", "p"), two("Mul", "p", "a", "y")],
        vec![two("Mul", "a", "half", "p"), two("Mul", "h", "p", "y")],
    ];
    for end in ends {
        let graph = normalised(&model(18, "N,3", start().into_iter().chain(end).collect(), constants()));
        let training = training(&graph, &["b"]).unwrap();
        assert_eq!(emitted(&training).iter().filter(|op| **op == "Erf").count(), 1);
        assert_eq!(
            emitted(&training).iter().filter(|op| **op == "Div").count(),
            0,
            "{:?}",
            emitted(&training)
        );
    }
}

#[test]
fn a_written_out_layer_normalisation_is_one() {
    let along = || vec![Attribute::ints("axes", vec![-1])];
    let nodes = vec![
        Node::new("ReduceMean", &["x"], &["mean"], along()),
        Node::new("Sub", &["x", "mean"], &["centred"], Vec::new()),
        Node::new("Pow", &["centred", "two"], &["square"], Vec::new()),
        Node::new("ReduceMean", &["square"], &["variance"], along()),
        Node::new("Add", &["variance", "epsilon"], &["sum"], Vec::new()),
        Node::new("Sqrt", &["sum"], &["root"], Vec::new()),
        Node::new("Div", &["centred", "root"], &["normal"], Vec::new()),
        Node::new("Mul", &["normal", "gain"], &["scaled"], Vec::new()),
        Node::new("Add", &["scaled", "shift"], &["y"], Vec::new()),
    ];
    let constants =
        vec![number("two", 2.0), number("epsilon", 1e-5), drawn("gain", &[6]), drawn("shift", &[6])];
    let model = model(13, "N,L,6", nodes, constants);
    let graph = normalised(&model);
    let training = training(&graph, &["x", "gain", "shift"]).unwrap();
    assert!(emitted(&training).contains(&"LayerNormalization"), "{:?}", emitted(&training));
    assert!(!emitted(&training).contains(&"Sqrt"));
}

#[test]
fn a_product_and_a_bias_are_one_gemm() {
    let nodes = vec![
        Node::new("MatMul", &["x", "w"], &["h"], Vec::new()),
        Node::new("Add", &["b", "h"], &["y"], Vec::new()),
    ];
    let graph = normalised(&model(18, "N,L,4", nodes, vec![drawn("w", &[4, 3]), drawn("b", &[3])]));
    let training = training(&graph, &["x", "w", "b"]).unwrap();
    let ops = emitted(&training);
    assert_eq!(ops.iter().filter(|op| **op == "Gemm").count(), 3, "{ops:?}");
    assert!(!ops.contains(&"MatMul") && !ops.contains(&"Add"), "{ops:?}");
    let x = draw("x", &[2, 5, 4]);
    let weights = draw("cotangent", &[2, 5, 3]);
    let of = |name: &str| draw(name, &graph.constant(name).unwrap().shape().unwrap());
    let given = [
        ("x", x.clone()),
        ("w", of("w")),
        ("b", of("b")),
        (training.loss_inputs[0].as_str(), weights.clone()),
    ];
    let given: Vec<(String, Data)> = given.into_iter().map(|(name, data)| (name.to_owned(), data)).collect();
    let outputs = Loaded::new(&training.model).unwrap().run(&given).unwrap();
    let gradient = outputs.iter().find(|(name, _)| *name == training.gradients["w"]).unwrap().1.numbers();
    let (x, weights) = (x.numbers(), weights.numbers());
    let product = |k: usize, n: usize| (0..10).map(|row| x[row * 4 + k] * weights[row * 3 + n]).sum::<f64>();
    let expected: Vec<f64> = (0..12).map(|at| product(at / 3, at % 3)).collect();
    alike(&gradient, &expected, 1e-6, "`w`");
}

#[test]
fn an_operator_without_a_derivative_is_refused_by_name_before_anything_is_trained() {
    let nodes = vec![
        Node::new("Mul", &["x", "w"], &["h"], Vec::new()),
        Node { name: Some("pick".to_owned()), ..Node::new("LpNormalization", &["h"], &["s"], Vec::new()) },
        Node { name: Some("turn".to_owned()), ..Node::new("Det", &["s"], &["y"], Vec::new()) },
    ];
    let graph = normalised(&model(18, "2,2", nodes, vec![drawn("w", &[2])]));
    let Err(GradError::Unsupported(found)) = training(&graph, &["w"]) else { panic!("it was not refused") };
    assert_eq!(found.iter().map(|one| one.op.as_str()).collect::<Vec<_>>(), ["LpNormalization", "Det"]);
    let message = GradError::Unsupported(found).to_string();
    assert_eq!(
        message,
        "the graph cannot be trained through `LpNormalization` (node `pick`, operator set 18): it has no derivative here, `Det` \
         (node `turn`, operator set 18): it has no derivative here; methods that fit a head on the features of the graph as \
         it is need no gradient"
    );
}

#[test]
fn a_refusal_names_the_operator_set_that_the_file_imports() {
    let nodes = || {
        let turn = Node { name: Some("turn".to_owned()), ..Node::new("Det", &["h"], &["y"], Vec::new()) };
        vec![Node::new("Mul", &["x", "w"], &["h"], Vec::new()), turn]
    };
    for opset in [11, 13, 17, 18, 21] {
        let graph = normalised(&model(opset, "2,2", nodes(), vec![drawn("w", &[2])]));
        assert_eq!((graph.opset(), graph.imported("")), (opset.max(18), opset));
        // Also once it has been taken apart and put together again.
        let again = graph.again(graph.clone().into_model()).unwrap();
        for graph in [graph, again] {
            let message = training(&graph, &["w"]).unwrap_err().to_string();
            let named = format!("`Det` (node `turn`, operator set {opset})");
            assert!(message.contains(&named), "{message}");
        }
    }
}

#[test]
fn what_is_off_a_gradients_way_may_be_of_any_operator() {
    let nodes = vec![
        Node::new("CumSum", &["x", "axis"], &["s"], Vec::new()),
        Node::new("Mul", &["s", "w"], &["y"], Vec::new()),
    ];
    let axis = Tensor::integers("axis", &[], [1]);
    let graph = normalised(&model(18, "N,2", nodes, vec![drawn("w", &[2]), axis]));
    assert!(training(&graph, &["w"]).is_ok());
}

#[test]
fn a_way_through_16_bit_floats_is_refused_and_not_cut() {
    let to = |kind: i32| vec![Attribute::int("to", i64::from(kind))];
    let nodes = vec![
        Node::new("Mul", &["x", "w"], &["h"], Vec::new()),
        Node::new("Cast", &["h"], &["short"], to(element::HALF)),
        Node::new("Cast", &["short"], &["long"], to(element::FLOAT)),
        Node::new("Add", &["long", "w"], &["y"], Vec::new()),
    ];
    let graph = normalised(&model(18, "N,2", nodes, vec![drawn("w", &[2])]));
    assert!(matches!(training(&graph, &["w"]), Err(GradError::Unsupported(_))));
}

#[test]
fn a_gradient_comes_back_through_casts_in_the_type_of_each_value() {
    let to = |kind: i32| vec![Attribute::int("to", i64::from(kind))];
    let nodes = vec![
        Node::new("Mul", &["x", "w"], &["h"], Vec::new()),
        Node::new("Cast", &["h"], &["long"], to(element::DOUBLE)),
        Node::new("Exp", &["long"], &["e"], Vec::new()),
        Node::new("Cast", &["e"], &["y"], to(element::FLOAT)),
    ];
    let graph = normalised(&model(18, "N,2", nodes, vec![drawn("w", &[2])]));
    let training = training(&graph, &["w"]).unwrap();
    let (x, w, d) = (draw("x", &[3, 2]), draw("w", &[2]), draw("cotangent", &[3, 2]));
    let given = [("x", x.clone()), ("w", w.clone()), (training.loss_inputs[0].as_str(), d.clone())];
    let given: Vec<(String, Data)> = given.into_iter().map(|(name, data)| (name.to_owned(), data)).collect();
    let outputs = Loaded::new(&training.model).unwrap().run(&given).unwrap();
    let gradient = outputs.iter().find(|(name, _)| *name == training.gradients["w"]).unwrap().1.numbers();
    let (x, w, d) = (x.numbers(), w.numbers(), d.numbers());
    let of = |column: usize, at: usize| d[at] * (x[at] * w[column]).exp() * x[at];
    let expected: Vec<f64> =
        (0..2).map(|column| (0..3).map(|row| of(column, 2 * row + column)).sum()).collect();
    alike(&gradient, &expected, 1e-6, "`w`");
}

#[test]
fn what_cannot_be_trained_is_told_apart() {
    let nodes = || {
        let rounded = Node::new("Round", &["h"], &["y"], Vec::new());
        vec![Node::new("Mul", &["x", "w"], &["h"], Vec::new()), rounded]
    };
    let graph =
        normalised(&model(18, "N,2", nodes(), vec![drawn("w", &[2]), Tensor::integers("i", &[1], [1])]));
    assert!(matches!(training(&graph, &["w"]), Err(GradError::Nothing)));
    assert!(matches!(training(&graph, &["v"]), Err(GradError::Missing { .. })));
    let old = Graph::new(model(13, "N,2", nodes(), vec![drawn("w", &[2])])).unwrap();
    assert!(matches!(training(&old, &["w"]), Err(GradError::Onnx(_))));
}

#[test]
fn nodes_in_any_order_are_put_in_one_and_a_circle_is_refused() {
    let add = |a: &str, b: &str, y: &str| Node::new("Add", &[a, b], &[y], Vec::new());
    let turned = vec![add("h", "x", "y"), add("x", "x", "h")];
    let graph = Graph::new(model(18, "2", turned, Vec::new())).unwrap();
    assert_eq!(graph.nodes()[0].makes(0), Some("h"));
    let circle = vec![add("x", "b", "a"), add("x", "a", "b")];
    assert!(matches!(Graph::new(model(18, "2", circle, Vec::new())), Err(GradError::Circle)));
}

/// A rule that writes a Relu's gradient with a comparison.
struct Compared;

impl Op for Compared {
    fn name(&self) -> &'static str {
        "Relu"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let x = site.input(0)?;
        let zero = emit.number(0.0, x)?;
        let above = emit.node("Greater", &[x, &zero]);
        let dx = emit.node("Where", &[&above, d, &zero]);
        emit.give(x, dx);
        Ok(())
    }
}

struct Comparing;

impl Lowering for Comparing {
    fn name(&self) -> &'static str {
        "comparing"
    }

    fn op(&self, site: &Site<'_>) -> Option<&'static dyn Op> {
        site.node.is("Relu").then_some(&Compared)
    }
}

#[test]
fn a_lowering_writes_single_nodes_its_own_way() {
    let graph =
        normalised(&model(18, "N,3", vec![Node::new("Relu", &["x"], &["y"], Vec::new())], Vec::new()));
    let loss = WeightedSum { values: vec!["y".to_owned()] };
    let options = Options { lowering: &Comparing, ..Options::default() };
    let own = differentiate(&graph, &loss, &["x"], &Runtime, &options).unwrap();
    let portable = training(&graph, &["x"]).unwrap();
    assert!(emitted(&own).contains(&"Where") && emitted(&portable).contains(&"Sign"));
    let run = |training: &TrainingGraph| {
        let given =
            [("x", draw("x", &[4, 3])), (training.loss_inputs[0].as_str(), draw("cotangent", &[4, 3]))];
        let given: Vec<(String, Data)> =
            given.into_iter().map(|(name, data)| (name.to_owned(), data)).collect();
        let outputs = Loaded::new(&training.model).unwrap().run(&given).unwrap();
        outputs.into_iter().find(|(name, _)| *name == training.gradients["x"]).unwrap().1
    };
    assert_eq!(run(&own), run(&portable));
}

#[test]
fn nodes_that_lack_inputs_and_outputs_are_refused_and_break_nothing() {
    let ops = "Identity Dropout Constant Cast Conv BatchNormalization Clip Softmax Pad Slice TopK Split Squeeze ReduceSum Upsample \
               Resize MatMul Add Erf ReduceMean Linear ReverseGradient";
    for op in ops.split_whitespace() {
        for opset in [9, 12, 18] {
            for set in ["", "headstart.grad"] {
                let node =
                    Node { input: Vec::new(), output: Vec::new(), ..Node::new(op, &[], &[], Vec::new()) };
                let sum = Node::new("Mul", &["x", "w"], &["y"], Vec::new());
                let model = model(opset, "N,2", vec![node.from_set(set), sum], vec![drawn("w", &[2])]);
                let made = Graph::new(model).and_then(|mut graph| {
                    normalise(&mut graph)?;
                    training(&graph, &["w"])
                });
                // What none of the outputs needs goes, if what it is can be told at all.
                assert!(made.is_ok() || matches!(made, Err(GradError::Unsupported(_))), "{op}: {made:?}");
            }
        }
    }
}
