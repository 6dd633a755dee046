//! What every method keeps: it learns, repeats to the byte, resumes, stops at once, and names wrong hyperparameters.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail here")]

mod support;

use std::collections::BTreeSet;

use headstart_methods::tune::{self, Goal, LowRank, What};
use headstart_methods::{
    FitData, Fitted, METHODS, MethodError, Unattended, artifact,
    data::{Examples, Targets},
    method, prototype,
};
use headstart_types::payload::Modality;
use ndarray::{Array2, s};
use serde_json::{Map, Value, json};
use support::{BACKBONE, Recorder, accuracy, blobs, examples, two_labels};

const NAMES: [&str; 4] = ["auto", "prototype", "linear_probe", "mlp"];

fn small(name: &str) -> Map<String, Value> {
    let given =
        if name == "mlp" { json!({"hidden": 32, "epochs": 25, "learning_rate": 0.01}) } else { json!({}) };
    given.as_object().unwrap().clone()
}

fn fit(name: &str, train: &Examples, threads: usize, control: &mut Recorder) -> Result<Fitted, MethodError> {
    let method = method(name).unwrap();
    let data = FitData { train, validation: None, backbone: BACKBONE(), threads };
    method.fit(&data, &method.check(&small(name)).unwrap(), 7, control)
}

fn bytes(fitted: &Fitted) -> Vec<u8> {
    artifact::save(&fitted.head).unwrap()
}

#[test]
fn every_method_learns_blobs_and_holds_its_own_rows_out() {
    let (train, test) = (blobs(240, 12, 4, 0.25, 1), blobs(400, 12, 4, 0.25, 2));
    for name in NAMES {
        let fitted = fit(name, &train, 2, &mut Recorder::default()).unwrap();
        let right = accuracy(&fitted.head, &test);
        assert!(right > 0.9, "{name}: {right}");
        let claimed = fitted.metrics["accuracy"];
        assert!((claimed - right).abs() < 0.07, "{name} says {claimed}, is {right}");
        let held_out = fitted.held_out.unwrap();
        assert!(held_out.rows.is_sorted_by(|a, b| a < b));
        assert_eq!(held_out.rows.len(), held_out.logits.nrows());
        assert!(fitted.summary.contains('%'), "{}", fitted.summary);
    }
}

#[test]
fn the_same_data_and_seed_give_the_same_bytes_on_one_thread_and_on_two() {
    let train = blobs(120, 8, 3, 0.5, 3);
    for name in NAMES {
        let one = fit(name, &train, 1, &mut Recorder::default()).unwrap();
        let two = fit(name, &train, 2, &mut Recorder::default()).unwrap();
        assert!(bytes(&one) == bytes(&two), "{name}");
        assert_eq!(one.summary, two.summary);
    }
}

#[test]
fn a_fit_resumed_from_any_checkpoint_ends_with_the_same_bytes() {
    let train = blobs(120, 8, 3, 0.5, 3);
    for name in ["linear_probe", "mlp", "auto"] {
        let mut whole = Recorder::default();
        let undisturbed = bytes(&fit(name, &train, 2, &mut whole).unwrap());
        assert!(whole.checkpoints.len() > 2, "{name}");
        for checkpoint in &whole.checkpoints {
            let mut second = Recorder { resume_from: Some(checkpoint.state.clone()), ..Recorder::default() };
            let resumed = fit(name, &train, 2, &mut second).unwrap();
            assert!(bytes(&resumed) == undisturbed, "{name} from step {}", checkpoint.step);
        }
    }
}

#[test]
fn a_state_of_another_fit_is_refused() {
    let (train, other) = (blobs(120, 8, 3, 0.5, 3), blobs(120, 5, 3, 0.5, 3));
    for name in ["linear_probe", "mlp"] {
        let mut whole = Recorder::default();
        fit(name, &train, 2, &mut whole).unwrap();
        for state in [whole.checkpoints[0].state.clone(), b"rubbish".to_vec(), Vec::new()] {
            let mut second = Recorder { resume_from: Some(state), ..Recorder::default() };
            assert!(matches!(fit(name, &other, 2, &mut second), Err(MethodError::Stored { .. })), "{name}");
        }
    }
}

#[test]
fn a_fit_stops_at_the_step_where_it_is_told_to() {
    let train = blobs(120, 8, 3, 0.5, 3);
    for name in NAMES {
        for stop_after in [1, 4] {
            let mut control = Recorder { stop_after: Some(stop_after), ..Recorder::default() };
            assert!(matches!(fit(name, &train, 2, &mut control), Err(MethodError::Cancelled)), "{name}");
            assert_eq!(control.calls, stop_after, "{name}");
        }
    }
}

#[test]
fn progress_never_passes_its_total_and_checkpoints_of_a_hidden_layer_can_serve() {
    let (train, test) = (blobs(240, 12, 4, 0.25, 1), blobs(100, 12, 4, 0.25, 2));
    for name in NAMES {
        let mut control = Recorder::default();
        fit(name, &train, 2, &mut control).unwrap();
        assert!(control.largest_share <= 1.0, "{name}: {}", control.largest_share);
    }
    let mut control = Recorder::default();
    fit("mlp", &train, 2, &mut control).unwrap();
    let last = control.checkpoints.last().unwrap().head.as_ref().unwrap();
    assert!(accuracy(last, &test) > 0.9);
}

#[test]
fn several_labels_a_row_get_their_own_scores_and_thresholds() {
    let (train, test) = (two_labels(200, 1), two_labels(200, 2));
    for name in NAMES {
        let head = fit(name, &train, 2, &mut Recorder::default()).unwrap().head;
        let thresholds = head.parts().thresholds.clone().unwrap();
        let probabilities = head.probabilities(test.features()).unwrap();
        let right = probabilities.indexed_iter().filter(|((row, label), p)| {
            (**p >= thresholds[*label]) == test.targets().of(*row).contains(&(*label as u32))
        });
        let right = right.count() as f64 / probabilities.len() as f64;
        assert!(right > 0.85, "{name}: {right}");
    }
}

#[test]
fn few_rows_get_a_head_without_held_out_figures() {
    let train = blobs(6, 8, 3, 0.2, 5);
    for name in NAMES {
        let fitted = fit(name, &train, 2, &mut Recorder::default()).unwrap();
        assert!(fitted.held_out.is_none(), "{name}");
        assert!(accuracy(&fitted.head, &blobs(90, 8, 3, 0.2, 6)) > 0.8, "{name}");
    }
}

#[test]
fn a_hidden_layer_is_not_taken_where_nothing_speaks_for_it() {
    let train = blobs(1200, 8, 3, 0.05, 1);
    let fitted = fit("auto", &train, 2, &mut Recorder::default()).unwrap();
    assert_eq!((fitted.metrics["accuracy.mlp"], fitted.metrics["accuracy.linear_probe"]), (1.0, 1.0));
    assert_eq!(fitted.head.parts().method, "linear_probe", "{}", fitted.summary);
}

#[test]
fn what_folds_say_of_features_that_knew_their_labels_is_left_out() {
    let fitted = fit("linear_probe", &blobs(120, 8, 3, 0.5, 3), 2, &mut Recorder::default()).unwrap();
    let first = |temperature| fitted.head.clone().calibrated(temperature, None).unwrap();
    let (surer, less) = (first(0.3), first(3.0));
    let (logits, c) = (fitted.held_out.is_some(), fitted.metrics["c"]);
    let rows = fitted.head.parts().rows.clone();
    let doubted = tune::unjudged(fitted.clone(), &less).unwrap();
    let found = tune::unjudged(fitted, &surer).unwrap();
    assert!(logits && found.held_out.is_none());
    assert_eq!(found.metrics.into_iter().collect::<Vec<_>>(), [("c".to_owned(), c)]);
    assert_eq!((found.head.parts().temperature, &found.head.parts().rows), (1.0, &rows));
    assert_eq!(doubted.head.parts().temperature, 3.0);
}

#[test]
fn validation_rows_are_judged_on_and_never_learnt_from() {
    let (train, plain) = (blobs(90, 8, 3, 0.3, 1), blobs(60, 8, 3, 0.3, 2));
    let wrong: Vec<u32> = (0..60).map(|row| (row + 1) % 3).collect();
    let misled = examples(plain.features().to_owned(), Targets::Single(wrong), 3);
    for name in NAMES {
        let method = method(name).unwrap();
        let params = method.check(&small(name)).unwrap();
        let data = FitData { train: &train, validation: Some(&misled), backbone: BACKBONE(), threads: 2 };
        let fitted = method.fit(&data, &params, 7, &mut Unattended).unwrap();
        assert_eq!(fitted.held_out.unwrap().rows, (90..150).collect::<Vec<_>>(), "{name}");
        assert!(fitted.metrics["accuracy"] < 0.3, "{name}");
        // The hidden layer is stopped by these rows, early, but not taught by them.
        let least = if name == "mlp" { 0.25 } else { 0.6 };
        assert!(accuracy(&fitted.head, &plain) > least, "{name} learnt from validation rows");
    }
}

#[test]
fn a_wrong_hyperparameter_is_named() {
    let cases = [
        ("linear_probe", json!({"c": -1}), "hyperparameters.c"),
        ("linear_probe", json!({"c": "much"}), "hyperparameters.c"),
        ("linear_probe", json!({"cs": [1, "x"]}), "hyperparameters.cs[1]"),
        ("linear_probe", json!({"class_weight": {"a": 0}}), "hyperparameters.class_weight.a"),
        ("linear_probe", json!({"depth": 3}), "hyperparameters.depth"),
        ("mlp", json!({"dropout": 1.0}), "hyperparameters.dropout"),
        ("prototype", json!({"folds": 1}), "hyperparameters.folds"),
        ("supervised", json!({"n_epochs": 3}), "hyperparameters.n_epochs"),
    ];
    for (name, given, expected) in cases {
        match method(name).unwrap().check(given.as_object().unwrap()) {
            Err(MethodError::Hyperparameter { path, .. }) => assert_eq!(path, expected),
            other => panic!("{name} {given}: {other:?}"),
        }
    }
    let auto = json!({"n_epochs": "auto", "batch_size": "auto"});
    assert!(method("supervised").unwrap().check(auto.as_object().unwrap()).is_ok());
}

#[test]
fn resolved_hyperparameters_resolve_to_themselves() {
    let names: Vec<&str> = METHODS.iter().map(|method| method.name()).collect();
    assert_eq!(names, [&NAMES[..], &["full", "partial", "lora", "setfit"]].concat());
    for method in METHODS {
        let once = method.check(&Map::new()).unwrap();
        assert_eq!(method.check(once.as_map()).unwrap(), once);
    }
}

#[test]
fn what_is_not_given_depends_on_what_the_backbone_reads() {
    let method = method("partial").unwrap();
    let recipe = |reads, given: serde_json::Value| {
        let params = method.check_for(reads, given.as_object().unwrap()).unwrap();
        let recipe = method.plan(&params, 7).unwrap().unwrap().recipe;
        (recipe.epochs, recipe.learning_rate)
    };
    assert_eq!(recipe(Modality::Text, json!({})), (3, 5e-5));
    assert_eq!(recipe(Modality::Image, json!({"learning_rate": "auto"})), (20, 3e-4));
    assert_eq!(recipe(Modality::Image, json!({"epochs": 2})), (2, 3e-4));
}

#[test]
fn methods_that_train_the_backbone_say_how_and_refuse_what_others_take() {
    let plan = |name: &str, given: serde_json::Value| {
        let method = method(name).unwrap();
        let params = method.check(given.as_object().unwrap()).unwrap();
        method.plan(&params, 7).unwrap()
    };
    assert!(plan("linear_probe", json!({})).is_none() && plan("auto", json!({})).is_none());
    let lora = plan("lora", json!({"rank": 4, "epochs": 9, "learning_rate": "auto"})).unwrap();
    assert_eq!(lora.what, What::LowRank(LowRank { rank: 4, alpha: 16.0, targets: Vec::new(), seed: 7 }));
    let some = plan("lora", json!({"targets": ["query", "layer.5.*"]})).unwrap();
    let targets = ["query", "layer.5.*"].map(str::to_owned).to_vec();
    assert_eq!(some.what, What::LowRank(LowRank { rank: 8, alpha: 16.0, targets, seed: 7 }));
    assert_eq!((lora.recipe.epochs, lora.recipe.learning_rate), (9, 5e-4));
    assert_eq!(plan("full", json!({})).unwrap().recipe.learning_rate, 5e-5);
    let partial = plan("partial", json!({"blocks": 2})).unwrap();
    assert_eq!((partial.choice(false).prefix, partial.what), (true, What::LastBlocks(2)));
    assert!(
        !plan("partial", json!({"augment": true})).unwrap().choice(false).prefix,
        "varied rows are not kept"
    );
    assert_eq!(plan("setfit", json!({})).unwrap().choice(true).goal, Goal::Pairs);
    assert_eq!(plan("setfit", json!({"batch_size": 8, "accumulate": 1})).unwrap().recipe.batch_size, 8);
    let smoothed = plan("full", json!({"label_smoothing": 0.25, "accumulate": 2, "batch_size": 2})).unwrap();
    assert_eq!(smoothed.choice(true).goal, Goal::Labels { smoothing: 0.25 });
    assert_eq!(smoothed.choice(false).goal, Goal::Classes { smoothing: 0.25 });
    for (name, given, path) in [
        ("full", json!({"rank": 4}), "hyperparameters.rank"),
        ("lora", json!({"rank": 0}), "hyperparameters.rank"),
        ("lora", json!({"blocks": 1}), "hyperparameters.blocks"),
        ("lora", json!({"targets": "query"}), "hyperparameters.targets"),
        ("lora", json!({"targets": ["query", 3]}), "hyperparameters.targets[1]"),
        ("lora", json!({"targets": ["query", ""]}), "hyperparameters.targets[1]"),
        ("lora", json!({"targets": ["**"]}), "hyperparameters.targets[0]"),
        ("lora", json!({"targets": vec!["query"; 257]}), "hyperparameters.targets"),
        ("full", json!({"targets": ["query"]}), "hyperparameters.targets"),
        ("partial", json!({"blocks": -1}), "hyperparameters.blocks"),
        ("setfit", json!({"optimiser": "lion"}), "hyperparameters.optimiser"),
        ("full", json!({"epochs": 0}), "hyperparameters.epochs"),
        ("setfit", json!({"from_random": true}), "hyperparameters.from_random"),
        ("setfit", json!({"accumulate": 2}), "hyperparameters.accumulate"),
        ("setfit", json!({"batch_size": 7}), "hyperparameters.batch_size"),
        ("setfit", json!({"label_smoothing": 0.1}), "hyperparameters.label_smoothing"),
    ] {
        match method(name).unwrap().check(given.as_object().unwrap()) {
            Err(MethodError::Hyperparameter { path: found, .. }) => assert_eq!(found, path),
            other => panic!("{name} {given}: {other:?}"),
        }
    }
}

#[test]
fn a_rehearsal_has_rows_of_all_parts_of_the_file_and_for_pairs_of_a_class_together() {
    let plan = |name: &str| {
        let method = method(name).unwrap();
        method.plan(&method.check(&Map::new()).unwrap(), 7).unwrap().unwrap()
    };
    let learn: Vec<usize> = (0..10_000).collect();
    let targets = Targets::Single((0..10_000).map(|row| row % 1000).collect());
    let some = plan("full").some(&learn, &targets, 4, 1);
    assert_eq!((some.len(), some.first(), some.last()), (128, Some(&0), Some(&(127 * 78))));
    assert_eq!(plan("full").some(&learn[..100], &targets, 4, 1), learn[..100]);
    let mut classes: Vec<usize> =
        plan("setfit").some(&learn, &targets, 4, 1).iter().map(|row| row % 1000).collect();
    assert!((48..=96).contains(&classes.len()), "{classes:?}");
    classes.dedup();
    assert!(classes.len() <= 24, "four rows of a class at most, and two at least: {classes:?}");
    // Ten rows a class are groups of four, four and two: six of them a step.
    assert_eq!(plan("setfit").steps(&learn, &targets, 0), 40.0 * 500.0);
}

#[test]
fn the_page_about_methods_lists_every_hyperparameter_with_its_methods() {
    let (_, table) = include_str!("../../../docs/METHODS.md").split_once("### Hyperparameters").unwrap();
    let lines = table.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| `"));
    let words =
        |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let trains = ["full", "partial", "lora", "setfit"].map(str::to_owned);
    let (mut told, mut before) = (BTreeSet::new(), Vec::new());
    for line in lines {
        let cells: Vec<&str> = line.split(" | ").collect();
        let mut methods = words(cells[1]);
        if cells[1].starts_with("the same but") {
            methods = before.iter().filter(|method| !methods.contains(method)).cloned().collect();
        } else if cells[1] == "the same" {
            methods.clone_from(&before);
        } else if cells[1].contains("those that train the backbone") {
            methods.extend(trains.clone());
        }
        let named = words(cells[0].trim_start_matches("| "));
        told.extend(
            named.iter().flat_map(|name| methods.iter().map(move |method| (method.clone(), name.clone()))),
        );
        before = methods;
    }
    let known: BTreeSet<(String, String)> = METHODS
        .iter()
        .flat_map(|method| {
            let params = method.check(&Map::new()).unwrap();
            let names: Vec<String> = params.as_map().keys().cloned().collect();
            names.into_iter().map(|name| (method.name().to_owned(), name))
        })
        // It takes the word to say that it has none.
        .filter(|(method, name)| (method.as_str(), name.as_str()) != ("setfit", "from_random"))
        .collect();
    assert_eq!(told, known);
}

#[test]
fn examples_added_one_by_one_give_the_head_that_all_at_once_would() {
    let all = blobs(60, 8, 3, 0.3, 4);
    let (first, rest) = (all.select(&(0..9).collect::<Vec<_>>()), (9..60));
    let method = method("prototype").unwrap();
    let given = json!({"alpha": 1.0, "beta": 5.5, "cache_per_class": 100});
    let params = method.check(given.as_object().unwrap()).unwrap();
    let fit = |train: &Examples| {
        let data = FitData { train, validation: None, backbone: BACKBONE(), threads: 1 };
        method.fit(&data, &params, 1, &mut Unattended).unwrap().head
    };
    let mut grown = fit(&first);
    for row in rest {
        let one = all.features().slice_move(s![row..=row, ..]);
        grown = prototype::add_examples(&grown, one, &all.targets().select(&[row])).unwrap();
    }
    let whole = fit(&all);
    let off = &grown.logits(all.features()).unwrap() - &whole.logits(all.features()).unwrap();
    assert!(off.iter().all(|off| off.abs() < 1e-3), "{:?}", off.iter().copied().fold(0.0, f32::max));
}

#[test]
fn the_cache_says_what_tip_adapter_defines() {
    let train = blobs(12, 5, 3, 0.3, 4);
    let method = method("prototype").unwrap();
    let given = json!({"alpha": 2.0, "beta": 3.0, "scale": 10.0});
    let params = method.check(given.as_object().unwrap()).unwrap();
    let data = FitData { train: &train, validation: None, backbone: BACKBONE(), threads: 1 };
    let head = method.fit(&data, &params, 1, &mut Unattended).unwrap().head;
    let unit = |x: Vec<f64>| {
        let length = x.iter().map(|v| v * v).sum::<f64>().sqrt();
        x.into_iter().map(|v| v / length).collect::<Vec<f64>>()
    };
    let cosine = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let rows: Vec<Vec<f64>> =
        train.features().outer_iter().map(|x| unit(x.iter().map(|v| f64::from(*v)).collect())).collect();
    let logits: Array2<f32> = head.logits(train.features()).unwrap();
    for (row, x) in rows.iter().enumerate() {
        for class in 0..3 {
            let members: Vec<&Vec<f64>> = rows.iter().skip(class).step_by(3).collect();
            let mean = unit((0..5).map(|c| members.iter().map(|m| m[c]).sum()).collect());
            let cache: f64 = members.iter().map(|key| (-3.0 * (1.0 - cosine(x, key))).exp()).sum();
            let expected = 10.0 * (cosine(x, &mean) + 2.0 * cache);
            assert!((f64::from(logits[[row, class]]) - expected).abs() < 1e-3);
        }
    }
}
