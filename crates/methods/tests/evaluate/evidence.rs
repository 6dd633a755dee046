//! Evidence around some scores, the rest plain.

use std::collections::BTreeMap;

use headstart_methods::data::Targets;
use headstart_methods::evaluate::{EvaluateError, Evidence, HeldOut, evaluate};
use headstart_types::report::{BackboneUsed, DatasetUsed, Report, Run};
use ndarray::Array2;
use serde_json::{Map, json};

/// Scores and answers to be judged.
pub(crate) struct Case {
    pub(crate) logits: Array2<f32>,
    pub(crate) targets: Targets,
    pub(crate) classes: Vec<String>,
    pub(crate) train_counts: Vec<usize>,
    /// All rows in one group.
    pub(crate) one_group: Vec<Option<String>>,
}

impl Case {
    pub(crate) fn new(logits: Array2<f32>, targets: Targets) -> Self {
        let classes = (0..logits.ncols()).map(|class| format!("class {class}")).collect();
        let train_counts = vec![50; logits.ncols()];
        let one_group = vec![Some("all".to_owned()); logits.nrows()];
        Self { logits, targets, classes, train_counts, one_group }
    }

    /// The report, with what `change` adds to the evidence.
    pub(crate) fn report<'a>(&'a self, change: impl FnOnce(&mut Evidence<'a>)) -> Report {
        self.try_report(change).unwrap()
    }

    pub(crate) fn try_report<'a>(
        &'a self,
        change: impl FnOnce(&mut Evidence<'a>),
    ) -> Result<Report, EvaluateError> {
        let mut evidence = Evidence {
            run: run(),
            classes: &self.classes,
            train_counts: &self.train_counts,
            held_out: HeldOut {
                logits: self.logits.view(),
                targets: &self.targets,
                groups: None,
                zero_shot: None,
            },
            temperature: None,
            thresholds: None,
            out_of_sample: None,
            curve: None,
            tuning: None,
            duplicates: None,
            stages: Vec::new(),
            warnings: Vec::new(),
            left_out: Vec::new(),
        };
        change(&mut evidence);
        evaluate(evidence)
    }
}

fn run() -> Run {
    Run {
        job: Some("ftjob-1".to_owned()),
        classifier: Some("support".to_owned()),
        fine_tuned_model: None,
        backbone: BackboneUsed {
            id: "a-backbone".to_owned(),
            sha256: "00".repeat(32),
            source_task: None,
            original: None,
        },
        method: "linear_probe".to_owned(),
        method_reason: None,
        hyperparameters: Map::from_iter([
            ("c".to_owned(), json!(null)),
            ("folds".to_owned(), json!(5)),
            ("class_weight".to_owned(), json!({"class 0": 0.3})),
        ]),
        chosen: BTreeMap::from([("c".to_owned(), 10.0)]),
        seed: 7,
        software: "0.1.0".to_owned(),
        onnxruntime: Some("1.31.1".to_owned()),
        dataset: DatasetUsed {
            sha256: "11".repeat(32),
            validation_sha256: None,
            splits: BTreeMap::from([("train".to_owned(), 250)]),
            held_out: "test".to_owned(),
            classes: Vec::new(),
        },
    }
}
