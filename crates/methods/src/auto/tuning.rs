//! Whether the backbone is trained, and how: where the rows that nothing learned from could show a gain, and it is kept
//! where they do.

use headstart_types::payload::Modality;

use super::largest;
use crate::data::Targets;
use crate::evaluate::intervals::Discordance;
use crate::method::{Fitted, HeldOut, Method};
use crate::tune::{Lora, Partial, SetFit};

/// With fewer rows than this a class, texts are learnt from in pairs: of a handful of rows there are many.
const FEW_A_CLASS: usize = 16;

/// Of rows, the share that decides; of a handful a larger one, so that there are any.
const DECIDE: f64 = 0.1;
const DECIDE_OF_FEW: f64 = 0.25;

/// How likely the surplus of rows may be by chance that keeps a trained backbone.
const ALPHA: f64 = 0.05;

/// The method that trains the backbone for so many rows and classes, and the reason in words. Each costs least among those
/// that gained on such rows (docs/METHODS.md): factors of low rank on texts, the last blocks on pictures, whose first ones
/// are most of the work and are computed once.
pub fn choose(
    modality: Modality,
    (rows, classes): (usize, usize),
    multi_label: bool,
) -> (&'static dyn Method, String) {
    let has = format!("{rows} rows for {classes} classes");
    let few = rows < FEW_A_CLASS * classes;
    match modality {
        Modality::Text if few && !multi_label => (&SetFit, format!("{has} are few, and have many pairs")),
        Modality::Text => (&Lora, format!("texts, {has}")),
        Modality::Image | Modality::Audio | Modality::Tensor => (&Partial, format!("pictures, {has}")),
    }
}

/// Which rows are to decide.
#[derive(Debug, Clone, PartialEq)]
pub enum Deciding {
    /// Those, as places among the rows learnt from: the classifier on frozen features did not learn from them.
    Rows(Vec<usize>),
    /// A stratified share of all: each was held out from that classifier once.
    Share(f64),
}

/// Which of the `rows` learnt from are to decide between `frozen` and a training of so many classes.
pub fn deciding(frozen: &Fitted, rows: usize, classes: usize) -> Deciding {
    match &frozen.held_out {
        // Folds hold out every row but those of a class of one; a hidden layer some.
        Some(held_out) if held_out.rows.len() < rows / 2 => Deciding::Rows(held_out.rows.clone()),
        Some(_) | None if rows < FEW_A_CLASS * classes => Deciding::Share(DECIDE_OF_FEW),
        Some(_) | None => Deciding::Share(DECIDE),
    }
}

/// Whether a training that put all of the deciding `rows` right could show it.
///
/// # Errors
/// Why not, in words.
pub fn leaves_room(frozen: &Fitted, rows: &[usize], targets: &Targets) -> Result<(), String> {
    let right: Vec<bool> =
        rows.iter().filter_map(|row| right(frozen.held_out.as_ref(), *row, targets)).collect();
    let wrong = right.iter().filter(|right| !**right).count() as u64;
    if gained_by_chance(Discordance { first: 0, second: wrong }) < ALPHA {
        return Ok(());
    }
    Err(format!(
        "of {} held-out rows frozen features leave {wrong} wrong, and a gain could not be told from chance",
        right.len()
    ))
}

/// What the deciding rows say of a trained backbone beside a frozen one.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Whether the trained one is kept.
    pub kept: bool,
    /// The figures, in a sentence without its end.
    pub sentence: String,
}

/// Compares a trained backbone with a frozen one, row by row. The frozen one is simpler and is kept unless McNemar's test, by
/// its one-sided mid-p, speaks against it. `targets` are those of the rows learnt from, and of the validation rows behind them.
pub fn judge(frozen: &Fitted, tuned: &Fitted, targets: &Targets) -> Judged {
    let rows = tuned.held_out.as_ref().map_or(&[][..], |held_out| &held_out.rows);
    let answers = rows.iter().filter_map(|row| {
        let of = |fitted: &Fitted| right(fitted.held_out.as_ref(), *row, targets);
        Some((of(frozen)?, of(tuned)?))
    });
    let (first, second): (Vec<bool>, Vec<bool>) = answers.unzip();
    let all = first.len();
    let counts = Discordance::of(first, second);
    let p = gained_by_chance(counts);
    let shown = if p < 0.001 { "below 0.001".to_owned() } else { format!("= {p:.3}") };
    let (old, new) = (&frozen.head.parts().method, &tuned.head.parts().method);
    let sentence = format!(
        "of {all} held-out rows {} are right with {new} alone and {} with {old} alone (p {shown})",
        counts.second, counts.first
    );
    Judged { kept: p < ALPHA, sentence }
}

/// How likely as large a surplus of the second is between equally good ones.
fn gained_by_chance(counts: Discordance) -> f64 {
    1.0 - counts.second_worse_p()
}

/// Whether a row's answer is right, all its labels where it has several; nothing of rows that were not held out.
fn right(held_out: Option<&HeldOut>, row: usize, targets: &Targets) -> Option<bool> {
    let held_out = held_out?;
    let place = held_out.rows.binary_search(&row).ok()?;
    let logits = held_out.logits.outer_iter().nth(place)?;
    let of = targets.of(row);
    if targets.is_multi() {
        let said = logits.iter().enumerate().filter(|(_, logit)| **logit > 0.0);
        return Some(said.map(|(class, _)| class as u32).eq(of.iter().copied()));
    }
    Some(of.contains(&(largest(logits) as u32)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use ndarray::Array2;

    use super::*;
    use crate::head::{Backbone, Head, HeadParts, Tail};

    /// Rows of two classes, all of the second, of which those named are said to be of the first.
    fn fitted(method: &str, rows: std::ops::Range<usize>, wrong: &[usize]) -> Fitted {
        let rows: Vec<usize> = rows.collect();
        let logits = Array2::from_shape_fn((rows.len(), 2), |(at, class)| {
            if (class == 0) == wrong.contains(&rows[at]) { 1.0 } else { -1.0 }
        });
        let head = Head::new(HeadParts {
            method: method.to_owned(),
            hyperparameters: serde_json::Map::new(),
            backbone: Backbone { id: "text".to_owned(), sha256: String::new() },
            classes: Arc::from(["a".to_owned(), "b".to_owned()]),
            multi_label: false,
            normalise: false,
            rows: ndarray::ArcArray2::zeros((2, 3)),
            bias: Arc::from([0.0, 0.0]),
            tail: Tail::Identity,
            temperature: 1.0,
            thresholds: None,
        });
        let held_out = Some(HeldOut { rows, logits });
        Fitted { head: head.unwrap(), held_out, summary: String::new(), metrics: BTreeMap::new() }
    }

    fn seconds(count: usize) -> Targets {
        Targets::Single(vec![1; count])
    }

    #[test]
    fn few_texts_a_class_are_paired_more_get_factors_and_pictures_their_last_blocks() {
        let name = |modality, rows, multi| choose(modality, (rows, 6), multi).0.name();
        assert_eq!(name(Modality::Text, 48, false), "setfit");
        assert_eq!(name(Modality::Text, 48, true), "lora");
        assert_eq!(name(Modality::Text, 96, false), "lora");
        assert_eq!(name(Modality::Image, 48, false), "partial");
    }

    #[test]
    fn rows_that_a_classifier_learned_from_do_not_decide_about_it() {
        let some = fitted("mlp", 5..20, &[]);
        assert_eq!(deciding(&some, 100, 2), Deciding::Rows((5..20).collect()));
        let all = fitted("linear_probe", 0..100, &[]);
        assert_eq!(deciding(&all, 100, 2), Deciding::Share(DECIDE));
        assert_eq!(deciding(&all, 100, 10), Deciding::Share(DECIDE_OF_FEW));
    }

    #[test]
    fn there_is_room_where_right_answers_alone_could_speak_for_a_training() {
        let rows: Vec<usize> = (0..10).collect();
        let room = |wrong: &[usize]| leaves_room(&fitted("linear_probe", 0..20, wrong), &rows, &seconds(20));
        // One half to the power of the wrong answers, and half of that for the mid-p.
        assert_eq!(room(&[0, 1, 2, 3]), Ok(()));
        let none = room(&[0, 1, 2, 15, 16]).unwrap_err();
        assert!(none.contains("of 10 held-out rows frozen features leave 3 wrong"), "{none}");
    }

    #[test]
    fn a_trained_backbone_is_kept_where_more_rows_speak_for_it_than_chance_makes() {
        let frozen = fitted("linear_probe", 0..40, &[0, 1, 2, 3, 4, 5]);
        let better = judge(&frozen, &fitted("lora", 20..40, &[]), &seconds(40));
        assert!(!better.kept, "no row that both were asked about differs: {}", better.sentence);
        let better = judge(&frozen, &fitted("lora", 0..20, &[]), &seconds(40));
        assert!(better.kept, "{}", better.sentence);
        let says =
            "of 20 held-out rows 6 are right with lora alone and 0 with linear_probe alone (p = 0.008)";
        assert_eq!(better.sentence, says);
        // Six won and three lost: as uneven by chance in one case of six.
        let unsure = judge(&frozen, &fitted("lora", 0..20, &[6, 7, 8]), &seconds(40));
        assert!(!unsure.kept, "{}", unsure.sentence);
        assert!(!judge(&frozen, &frozen.clone(), &seconds(40)).kept);
    }

    #[test]
    fn a_row_of_several_labels_is_right_where_all_are() {
        let targets = Targets::Multi(vec![vec![1], vec![0, 1]]);
        let one = fitted("lora", 0..2, &[]);
        let said = [0, 1].map(|row| right(one.held_out.as_ref(), row, &targets));
        assert_eq!(said, [Some(true), Some(false)]);
    }
}
