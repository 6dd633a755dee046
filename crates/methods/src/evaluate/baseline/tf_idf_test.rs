//! The matrix equals scikit-learn's, term by term.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::{TermWeights, count};

#[test]
fn rows_hold_the_same_terms_with_the_same_weights() {
    let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/evaluate.json")).unwrap();
    let golden = &golden["tf_idf"];
    let mut vocabulary = HashMap::new();
    let mut counts = |key: &str| -> Vec<_> {
        let texts = golden[key].as_array().unwrap();
        texts.iter().map(|text| count(text.as_str().unwrap(), &mut vocabulary)).collect()
    };
    let (train, held_out) = (counts("texts"), counts("held_out"));
    let weights = TermWeights::of(train.iter(), vocabulary.len());
    let mut names = vec![""; vocabulary.len()];
    for (term, id) in &vocabulary {
        if let Some((column, _)) = weights.columns[*id as usize] {
            names[column as usize] = term;
        }
    }
    for (texts, key) in [(train, "train_rows"), (held_out, "held_out_rows")] {
        let rows = weights.rows(texts.iter());
        for (row, expected) in golden[key].as_array().unwrap().iter().enumerate() {
            let found: BTreeMap<&str, f32> = rows.row(row).map(|(column, v)| (names[column], v)).collect();
            let expected: BTreeMap<&str, f64> = expected
                .as_object()
                .unwrap()
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_f64().unwrap()))
                .collect();
            assert!(found.keys().eq(expected.keys()), "{found:?} is not {expected:?}");
            for (term, value) in found {
                assert!((f64::from(value) - expected[term]).abs() < 1e-6, "{term}: {value}");
            }
        }
    }
}
