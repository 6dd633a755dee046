//! Single numbers that are trained: what is written shorter for a number stays as it is.

use headstart_onnx::proto::{Attribute, Model, Node, Tensor};
use headstart_onnx_grad::losses::WeightedSum;
use headstart_onnx_grad::lower::{Kernels, Lowering, Portable};
use headstart_onnx_grad::{GradError, Options, differentiate};

use crate::graphs::{draw, drawn, model, normalised, number, output, training};
use crate::support::check::alike;
use crate::support::data::Data;
use crate::support::runtime::{Loaded, Runtime};

fn floats(shape: &[usize], values: &[f64]) -> Data {
    Data::floats(shape, values, headstart_onnx::proto::element::FLOAT)
}

/// The gradients of the constants of those names, which have these values, of a model whose output is weighted with `d`.
fn gradients(model: &Model, x: &Data, d: &Data, numbers: &[(&str, f64)]) -> Vec<f64> {
    let names: Vec<&str> = numbers.iter().map(|(name, _)| *name).collect();
    let graph = normalised(model);
    let training = training(&graph, &names).unwrap();
    let mut given = vec![("x".to_owned(), x.clone()), (training.loss_inputs[0].clone(), d.clone())];
    for (name, value) in numbers {
        let shape = graph.constant(name).unwrap().shape().unwrap();
        given.push(((*name).to_owned(), floats(&shape, &[*value])));
    }
    let outputs = Loaded::new(&training.model).unwrap().run(&given).unwrap();
    let of = |name: &&str| outputs.iter().find(|(found, _)| *found == training.gradients[*name]);
    names.iter().map(|name| of(name).unwrap().1.numbers()[0]).collect()
}

/// The same by central differences of the model.
fn differences(model: &Model, x: &Data, d: &Data, numbers: &[(&str, f64)], step: f64) -> Vec<f64> {
    let loss = |moved: &str, step: f64| {
        let mut model = model.clone();
        for (name, value) in numbers {
            let constants = &mut model.graph.as_mut().unwrap().initializer;
            let place = constants.iter_mut().find(|tensor| tensor.name.as_deref() == Some(name)).unwrap();
            let value = value + if *name == moved { step } else { 0.0 };
            *place = Tensor::floats(name, &place.shape().unwrap(), [value as f32]);
        }
        output(&model, x).iter().zip(d.numbers()).map(|(y, d)| y * d).sum::<f64>()
    };
    let slope = |(name, _): &(&str, f64)| (loss(name, step) - loss(name, -step)) / (2.0 * step);
    numbers.iter().map(slope).collect()
}

#[test]
fn a_trained_exponent_is_not_the_one_of_the_file() {
    let nodes = || vec![Node::new("Pow", &["x", "e"], &["y"], Vec::new())];
    let x = floats(&[4], &[0.5, 1.0, 1.5, 2.5]);
    let d = floats(&[4], &[1.0, -2.0, 0.5, 3.0]);
    for stored in [0.0, 0.5, 2.0, 3.0] {
        let graph = normalised(&model(18, "N", nodes(), vec![Tensor::floats("e", &[1], [stored])]));
        let training = training(&graph, &["x", "e"]).unwrap();
        let given = [
            ("x".to_owned(), x.clone()),
            ("e".to_owned(), floats(&[1], &[3.0])),
            (training.loss_inputs[0].clone(), d.clone()),
        ];
        let outputs = Loaded::new(&training.model).unwrap().run(&given).unwrap();
        let of = |name: &str| {
            outputs.iter().find(|(found, _)| *found == training.gradients[name]).unwrap().1.numbers()
        };
        // Of cubes: 3x², and x³·ln x.
        let pairs = || x.numbers().into_iter().zip(d.numbers());
        let expected: Vec<f64> = pairs().map(|(x, d)| d * 3.0 * x * x).collect();
        alike(&of("x"), &expected, 1e-6, &format!("`x`, the file's exponent being {stored}"));
        let expected: f64 = pairs().map(|(x, d)| d * x.powi(3) * x.ln()).sum();
        alike(&of("e"), &[expected], 1e-6, &format!("`e`, {stored} in the file"));
    }
}

#[test]
fn numbers_of_a_written_out_gelu_are_trained() {
    let two = |op: &str, a: &str, b: &str, y: &str| Node::new(op, &[a, b], &[y], Vec::new());
    let nodes = vec![
        two("Div", "x", "root", "s"),
        Node::new("Erf", &["s"], &["e"], Vec::new()),
        two("Add", "e", "one", "a"),
        two("Mul", "x", "a", "p"),
        two("Mul", "p", "half", "y"),
    ];
    let numbers = [("root", std::f64::consts::SQRT_2), ("one", 1.0), ("half", 0.5)];
    let constants = numbers.map(|(name, value)| number(name, value as f32)).to_vec();
    let model = model(18, "N,3", nodes, constants);
    let (x, d) = (draw("x", &[5, 3]), draw("cotangent", &[5, 3]));
    for numbers in [&numbers[..], &numbers[..1], &numbers[1..2], &numbers[2..]] {
        let found = gradients(&model, &x, &d, numbers);
        alike(&found, &differences(&model, &x, &d, numbers, 1e-2), 1e-3, &format!("{numbers:?}"));
    }
}

#[test]
fn what_keeps_a_written_out_layer_normalisation_from_dividing_by_zero_is_trained() {
    let along = || vec![Attribute::ints("axes", vec![-1])];
    let nodes = vec![
        Node::new("ReduceMean", &["x"], &["mean"], along()),
        Node::new("Sub", &["x", "mean"], &["centred"], Vec::new()),
        Node::new("Mul", &["centred", "centred"], &["square"], Vec::new()),
        Node::new("ReduceMean", &["square"], &["variance"], along()),
        Node::new("Add", &["variance", "epsilon"], &["sum"], Vec::new()),
        Node::new("Sqrt", &["sum"], &["root"], Vec::new()),
        Node::new("Div", &["centred", "root"], &["normal"], Vec::new()),
        Node::new("Mul", &["normal", "gain"], &["y"], Vec::new()),
    ];
    let model = model(13, "N,6", nodes, vec![number("epsilon", 0.5), drawn("gain", &[6])]);
    let (x, d) = (draw("x", &[4, 6]), draw("cotangent", &[4, 6]));
    let numbers = [("epsilon", 0.5)];
    let found = gradients(&model, &x, &d, &numbers);
    alike(&found, &differences(&model, &x, &d, &numbers, 1e-2), 2e-3, "`epsilon`");
}

#[test]
fn a_trained_bound_is_refused_however_the_gradient_is_written() {
    let nodes = vec![Node::new("Clip", &["x", "low", "high"], &["y"], Vec::new())];
    let graph = normalised(&model(18, "N,3", nodes, vec![number("low", 0.0), number("high", 6.0)]));
    let lowerings: [&'static dyn Lowering; 2] = [&Portable, &Kernels];
    for lowering in lowerings {
        for bound in ["low", "high"] {
            let loss = WeightedSum { values: vec!["y".to_owned()] };
            let options = Options { lowering, ..Options::default() };
            let made = differentiate(&graph, &loss, &["x", bound], &Runtime, &options);
            let Err(GradError::Unsupported(refused)) = made else { panic!("{}: {made:?}", lowering.name()) };
            assert_eq!(refused[0].reason, "a bound of it is trained");
        }
    }
}
