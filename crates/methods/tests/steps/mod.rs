//! How far each weight goes in a step, when a run ends, and which matrices get factors.

use headstart_methods::data::Targets;
use headstart_methods::tune::{
    Choice, LowRank, OptimiserKind, Recipe, Role, Tunable, Tuned, What, Work, prepare, train,
};
use headstart_methods::{MethodError, Unattended};
use headstart_onnx::proto::{Model, Node, Tensor as Constant, ValueInfo};
use headstart_types::runner::Trained;
use prost::Message as _;

use crate::{ALL, CLASSES, Data, WIDTH, answers, deeper_classifier, drawn, recipe, with_layers, workbench};

/// The weights of the deeper classifier behind one step with these rates, and those before it.
fn one_step(head_rate: f32, layer_decay: f32, weight_decay: f32) -> (Vec<Trained>, Tunable) {
    let bench = workbench();
    let data = Data::new();
    let tunable = prepare(&deeper_classifier(), ("features", "logits"), &ALL, &bench, None).unwrap();
    let work = Work { tunable, ..data.work(&bench) };
    // All rows are one batch, the step is in full, and what is served is what it left.
    let recipe = Recipe {
        epochs: 1,
        batch_size: data.learn.len(),
        learning_rate: 0.1,
        optimiser: OptimiserKind::Sgd,
        warm_up: 0.0,
        share: Some(1.0),
        head_rate,
        layer_decay,
        weight_decay,
        ..recipe()
    };
    let tuned = train(&work, &recipe, &bench, &mut Unattended).unwrap();
    (tuned.weights, work.tunable)
}

#[test]
fn the_head_goes_farther_than_the_backbone_the_first_layer_least_far_and_matrices_alone_decay() {
    let (plain, before) = one_step(1.0, 1.0, 0.0);
    let (rated, _) = one_step(10.0, 0.5, 0.2);
    // Four weights of the backbone on a geometric line from a half to one, then the head's.
    let third = 0.5f64.powf(1.0 / 3.0);
    let shares = [0.5, 0.5 / third, third, 1.0, 10.0, 10.0];
    let names: Vec<&str> = before.weights.iter().map(|weight| weight.name.as_str()).collect();
    assert_eq!(names, ["first.weight", "first.bias", "layer.weight", "layer.bias", "rows", "bias"]);
    assert_eq!(before.roles[4..], [Role::Head, Role::Head]);
    for (((first, plain), rated), share) in before.weights.iter().zip(&plain).zip(&rated).zip(shares) {
        let decay = if first.name.ends_with("bias") { 0.0 } else { 0.1 * share * 0.2 };
        let mut farthest = 0.0f64;
        for ((first, plain), rated) in first.values.iter().zip(&plain.values).zip(&rated.values) {
            let (first, plain, rated) = (f64::from(*first), f64::from(*plain), f64::from(*rated));
            let step = first - plain;
            farthest = farthest.max(step.abs());
            let expected = first * (1.0 - decay) - share * step;
            assert!((rated - expected).abs() < 2e-6, "{rated}, not {expected}");
        }
        assert!(farthest > 1e-4, "{} hardly moved", plain.name);
    }
}

/// Accuracy and mean log loss of some rows by the weights that are served.
fn judged(work: &Work<'_>, data: &Data, weights: &[Trained], rows: &[usize]) -> (f64, f64) {
    let mut forward = Model::decode(work.tunable.graphs.forward.as_slice()).unwrap();
    let graph = forward.graph.as_mut().unwrap();
    for weight in weights {
        graph.input.retain(|input| input.name.as_ref() != Some(&weight.name));
        graph.initializer.push(Constant::floats(&weight.name, &weight.shape, weight.values.iter().copied()));
    }
    graph.output = vec![ValueInfo { name: Some("logits".to_owned()), ..ValueInfo::default() }];
    let logits = answers(&workbench(), &forward.encode_to_vec(), &data.points, "logits");
    let Targets::Single(labels) = &data.targets else { panic!() };
    let (mut right, mut loss) = (0, 0.0);
    for row in rows {
        let logits: Vec<f64> =
            logits[row * CLASSES..(row + 1) * CLASSES].iter().map(|logit| f64::from(*logit)).collect();
        let label = labels[*row] as usize;
        right += usize::from(logits.iter().all(|logit| *logit <= logits[label]));
        loss += logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[label];
    }
    (right as f64 / rows.len() as f64, loss / rows.len() as f64)
}

#[test]
fn a_run_ends_when_passes_get_no_better_and_serves_the_best_of_them() {
    let bench = workbench();
    let data = Data::new();
    // Few rows, long steps: they are soon known by heart.
    let work = Work { learn: &data.learn[..24], ..data.work(&bench) };
    let run = |patience| -> Tuned {
        let recipe =
            Recipe { epochs: 60, batch_size: 8, learning_rate: 0.1, patience, share: Some(1.0), ..recipe() };
        train(&work, &recipe, &bench, &mut Unattended).unwrap()
    };
    for patience in [1, 4] {
        let tuned = run(patience);
        let held_out: Vec<_> = tuned.epochs.iter().map(|epoch| epoch.held_out.unwrap()).collect();
        assert_eq!(held_out.len(), tuned.best + 1 + patience, "{held_out:?}");
        assert!(held_out.len() < 60, "it ends early");
        let rank = |at: usize| (held_out[at].accuracy, -held_out[at].log_loss);
        assert!(
            (0..held_out.len()).all(|at| at == tuned.best || rank(at) < rank(tuned.best)),
            "{held_out:?}"
        );
        let (right, loss) = judged(&work, &data, &tuned.weights, &data.tune);
        let (best, last) = (held_out[tuned.best], held_out.last().unwrap());
        assert!(
            (right - best.accuracy).abs() < 1e-9 && (loss - best.log_loss).abs() < 1e-4,
            "{right} {loss}"
        );
        assert!((loss - last.log_loss).abs() > 1e-3, "the last pass has other weights: {last:?}");
    }
}

/// What gets factors of a classifier whose first matrix an exporter numbered, by patterns; or what is refused.
fn with_factors(targets: &[&str]) -> Result<Vec<String>, MethodError> {
    let mut first = Node::new("MatMul", &["x", "onnx::MatMul_12"], &["first"], Vec::new());
    first.name = Some("/encoder/query/MatMul".to_owned());
    let weights = vec![Constant::floats("onnx::MatMul_12", &[WIDTH, WIDTH], drawn(5, WIDTH * WIDTH))];
    let tanh = Node::new("Tanh", &["first"], &["between"], Vec::new());
    let file = with_layers(vec![first, tanh], "between", weights);
    let targets = targets.iter().map(|&name| name.to_owned()).collect();
    let what = What::LowRank(LowRank { rank: 2, alpha: 4.0, targets, seed: 1 });
    let tunable = prepare(&file, ("features", "logits"), &Choice { what, ..ALL }, &workbench(), None)?;
    let of = |role: &Role| match role {
        Role::Down { of, .. } => Some(of.clone()),
        Role::Head | Role::Backbone(_) | Role::Up => None,
    };
    Ok(tunable.roles.iter().filter_map(of).collect())
}

#[test]
fn matrices_get_factors_by_parts_of_their_names_or_of_their_products_names() {
    let all = ["onnx::MatMul_12", "layer.weight"];
    for (targets, expected) in [
        (&[][..], &all[..]),
        (&["query"], &all[..1]),
        (&["MatMul_12"], &all[..1]),
        (&["encoder*/MatMul"], &all[..1]),
        (&["layer"], &all[1..]),
        (&["l*r.w*t"], &all[1..]),
        (&["layer", "query"], &all[..]),
    ] {
        assert_eq!(with_factors(targets).unwrap(), expected, "{targets:?}");
    }
}

#[test]
fn a_pattern_that_names_no_matrix_is_refused_beside_the_names_that_there_are() {
    for (targets, at) in [(&["key"][..], 0), (&["layer", "query*encoder"], 1), (&["rows"], 0)] {
        let refused = with_factors(targets).unwrap_err();
        let MethodError::Hyperparameter { path, problem } = &refused else { panic!("{refused}") };
        assert_eq!(
            path,
            &format!("hyperparameters.targets[{at}]"),
            "a head's matrix is none of the backbone's"
        );
        assert!(problem.contains("2 matrices"), "{problem}");
        assert!(
            problem.contains("`onnx::MatMul_12` (node `/encoder/query/MatMul`), `layer.weight`"),
            "{problem}"
        );
    }
}
