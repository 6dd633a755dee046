//! First calls before ready: they make the runtime allocate, teach the batcher its speed, and test one promise.
//!
//! An item's vector must not depend on what shares its batch. Graphs with activation scales taken over the whole batch
//! break that silently, so every graph whose items may share a call is tried with items alone and together.

use std::time::Instant;

use headstart_types::manifest::TextSpec;

use crate::backbone::Model;
use crate::call::{self, Input, Row, Scratch, Shape, Want};
use crate::reads::Reads;

/// Below this cosine a text's vector is said to depend on its batch.
pub(crate) const INVARIANT_COSINE: f32 = 0.9999;

/// How much of an input's range the pictures or sounds span that are tried together: a step taken over both would leave
/// little of the quiet one.
const LOUDNESS: [f32; 2] = [1.0, 0.05];

/// Runs the first calls. Where items may share a call, returns the lowest cosine between items alone and in one.
///
/// # Errors
/// ONNX Runtime's message when a call fails: such a backbone is not served.
pub(crate) fn warm_up(model: &Model, text: Option<&TextSpec>) -> Result<Option<f32>, String> {
    let items: Vec<Input> = match model.graph.reads() {
        Reads::Dense(input) => LOUDNESS.map(|loudness| input.sample(loudness)).into(),
        Reads::Signals(signals) => LOUDNESS.map(|loudness| signals.sample(loudness)).into(),
        // What is known of those is tried in `trial.rs`.
        Reads::Raw => return Ok(None),
        Reads::Tokens(_) => {
            let max_tokens = text.map_or(1, |text| text.max_tokens);
            // What knows one length only is never padded.
            let length = |usual: usize| match text.and_then(|text| text.padding) {
                Some(padding) => padding.length,
                None => usual.min(max_tokens),
            };
            [7, 11, 12].map(|usual| tokens(length(usual))).into()
        }
    };
    let mut scratch = Scratch::default();
    let mut alone = Vec::with_capacity(items.len());
    for item in &items {
        alone.extend(timed(model, &[item], &mut scratch)?);
    }
    if !model.shares_calls() {
        return Ok(None);
    }
    let together = timed(model, &items.iter().collect::<Vec<_>>(), &mut scratch)?;
    Ok(alone.iter().zip(&together).map(|(one, other)| cosine(one, other)).reduce(f32::min))
}

/// Makes a backbone's sessions give back the memory that their largest calls made them keep: the option works with a call, so
/// the smallest one is made in each.
pub(crate) fn give_memory_back(model: &Model) {
    let item = match model.graph.reads() {
        Reads::Dense(input) => input.sample(1.0),
        Reads::Signals(signals) => signals.sample(1.0),
        Reads::Tokens(_) => tokens(2),
        Reads::Raw => match &model.trial.example {
            Some(example) => Input::Tensors(example.clone()),
            // No call is known that it would survive.
            None => return,
        },
    };
    let want = Want { features: true, logits: false };
    let mut scratch = Scratch::default();
    scratch.give_back = true;
    // A session that is held is not entered by the next call, where there is another.
    let mut held = Vec::new();
    for _ in 0..model.graph.sessions() {
        if let Err(message) = call::run(&model.graph, model.readout.as_ref(), &[(&item, want)], &mut scratch)
        {
            tracing::warn!(model = %model.id, %message, "memory could not be given back");
            return;
        }
        held.push(model.graph.hold());
    }
}

/// Ids that every vocabulary has, changing along the sequence so that no two tokens are alike.
fn tokens(length: usize) -> Input {
    Input::Tokens {
        ids: (0..length as u32).map(|position| 100 + position * 7 % 400).collect(),
        type_ids: None,
    }
}

fn timed(model: &Model, items: &[&Input], scratch: &mut Scratch) -> Result<Vec<Vec<f32>>, String> {
    let want = Want { features: true, logits: true };
    let items: Vec<(&Input, Want)> = items.iter().map(|item| (*item, want)).collect();
    let started = Instant::now();
    let rows = call::run(&model.graph, model.readout.as_ref(), &items, scratch)?;
    model.learn(Shape::of(items.iter().map(|(input, _)| *input)), started.elapsed());
    let vector = |row: Row| if row.features.is_empty() { row.logits } else { row.features };
    Ok(rows.into_iter().map(vector).collect())
}

/// One for equal vectors, zeros too.
fn cosine(left: &[f32], right: &[f32]) -> f32 {
    if left == right {
        return 1.0;
    }
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    (dot(left, right) / (dot(left, left) * dot(right, right)).sqrt().max(f64::MIN_POSITIVE)) as f32
}

#[cfg(test)]
mod tests {
    use super::cosine;

    #[test]
    fn the_cosine_is_one_for_equal_and_zero_for_orthogonal_vectors() {
        assert_eq!(cosine(&[0.0, 0.0], &[0.0, 0.0]), 1.0);
        assert!((cosine(&[1.0, 2.0], &[2.0, 4.0]) - 1.0).abs() < 1e-6);
        assert!(cosine(&[1.0, 0.0], &[0.0, 1.0]).abs() < 1e-6);
    }
}
