//! The baselines without transfer reach what scikit-learn reaches on the same data.

use headstart_methods::data::Targets;
use headstart_methods::evaluate::baseline::picture::{Descriptor, Pictures};
use headstart_methods::evaluate::baseline::tf_idf::Texts;
use headstart_methods::evaluate::metrics::{Tally, best_classes};

use crate::datasets;

/// Accuracy in percent of all training texts of a set.
fn accuracy_on(set: &str) -> Option<f64> {
    let folder = datasets::folder()?;
    let (train, train_labels) = datasets::texts(&folder, &format!("{set}_train.csv"));
    let (test, test_labels) = datasets::texts(&folder, &format!("{set}_test.csv"));
    let (classes, y, truth) = datasets::indexed(&train_labels, &test_labels);
    let texts = Texts::new(&train, &test);
    let rows: Vec<usize> = (0..train.len()).collect();
    let scores = texts.scores(&rows, &Targets::Single(y), classes.len(), 1);
    Some(Tally::of(&truth, &best_classes(scores.view()), classes.len()).accuracy() * 100.0)
}

fn assert_near(accuracy: Option<f64>, expected: f64, tolerance: f64) {
    if let Some(accuracy) = accuracy {
        println!("accuracy {accuracy:.2} %, expected {expected} %");
        assert!(
            (accuracy - expected).abs() <= tolerance,
            "accuracy {accuracy} is not {expected} ± {tolerance}"
        );
    }
}

#[test]
fn question_types() {
    assert_near(accuracy_on("trec6"), 88.2, 0.6);
}

#[test]
fn sentiment_of_sentences() {
    assert_near(accuracy_on("sst2"), 81.3, 0.3);
}

#[test]
fn intents_of_77_classes() {
    assert_near(accuracy_on("banking77"), 89.4, 0.3);
}

#[test]
fn ants_and_bees() {
    let Some(folder) = datasets::folder() else { return };
    let described = |split: &str| -> (Vec<Descriptor>, Vec<u32>) {
        let describe = |(bytes, class): (Vec<u8>, u32)| {
            let picture = image::load_from_memory(&bytes).unwrap().into_rgb8();
            let (width, height) = picture.dimensions();
            (Descriptor::of(picture.as_raw(), width as usize, height as usize).unwrap(), class)
        };
        datasets::insects(&folder, split).into_iter().map(describe).unzip()
    };
    let ((train, y), (test, truth)) = (described("train"), described("val"));
    let rows: Vec<usize> = (0..train.len()).collect();
    let scores = Pictures::new(train, test).scores(&rows, &Targets::Single(y), 2, 1);
    let accuracy = Tally::of(&truth, &best_classes(scores.view()), 2).accuracy() * 100.0;
    assert_near(Some(accuracy), 68.0, 4.0);
}
