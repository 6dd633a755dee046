//! Logistic regression against scikit-learn's numbers.
#![allow(clippy::unwrap_used, reason = "a test may fail here")]

mod support;

use headstart_methods::{FitData, Unattended, data::Targets, method};
use ndarray::Array2;
use serde_json::{Value, json};
use support::{BACKBONE, examples};

fn matrix(of: &Value) -> Array2<f64> {
    let rows: Vec<Vec<f64>> = serde_json::from_value(of.clone()).unwrap();
    let columns = rows[0].len();
    Array2::from_shape_vec((rows.len(), columns), rows.concat()).unwrap()
}

/// The largest difference.
fn apart(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    assert_eq!(a.dim(), b.dim());
    a.iter().zip(b).fold(0.0, |most, (a, b)| f64::max(most, (a - b).abs()))
}

#[test]
fn coefficients_and_probabilities_are_those_of_scikit_learn() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("golden/linear_probe.json")).unwrap();
    assert_eq!(cases.len(), 9);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let targets = match serde_json::from_value::<Vec<u32>>(case["targets"].clone()) {
            Ok(single) => Targets::Single(single),
            Err(_) => Targets::Multi(serde_json::from_value(case["targets"].clone()).unwrap()),
        };
        let features = matrix(&case["features"]);
        let train = examples(
            features.mapv(|value| value as f32),
            targets,
            case["classes"].as_u64().unwrap() as usize,
        );
        let method = method("linear_probe").unwrap();
        let given =
            json!({"c": case["c"], "class_weight": case["class_weight"], "tolerance": 1e-6, "folds": 2});
        let params = method.check(given.as_object().unwrap()).unwrap();
        let data = FitData { train: &train, validation: None, backbone: BACKBONE(), threads: 2 };
        let head = method.fit(&data, &params, 1, &mut Unattended).unwrap().head;
        let parts = head.parts();

        let mut rows = parts.rows.mapv(f64::from);
        let mut bias: Vec<f64> = parts.bias.iter().copied().map(f64::from).collect();
        if matrix(&case["coefficients"]).nrows() == 1 {
            // scikit-learn's one row is the difference of ours.
            let difference = &rows.row(1) - &rows.row(0);
            rows = difference.insert_axis(ndarray::Axis(0));
            bias = vec![bias[1] - bias[0]];
        }
        let off = apart(&rows, &matrix(&case["coefficients"]));
        assert!(off < 1e-4, "{name}: a coefficient is {off} off");
        let intercepts = serde_json::from_value(case["intercepts"].clone()).unwrap();
        let intercepts = Array2::from_shape_vec((1, bias.len()), intercepts).unwrap();
        // The intercepts of a softmax are known up to a common shift, which scikit-learn leaves at a mean of 0.
        let shift = if parts.multi_label || bias.len() == 1 {
            0.0
        } else {
            bias.iter().sum::<f64>() / bias.len() as f64
        };
        let bias = Array2::from_shape_vec((1, bias.len()), bias.iter().map(|b| b - shift).collect()).unwrap();
        let off = apart(&bias, &intercepts);
        assert!(off < 1e-4, "{name}: an intercept is {off} off");

        let plain = head.calibrated(1.0, None).unwrap();
        let probabilities = plain.probabilities(train.features()).unwrap().mapv(f64::from);
        let off = apart(&probabilities, &matrix(&case["probabilities"]));
        assert!(off < 1e-4, "{name}: a probability is {off} off");
    }
}
