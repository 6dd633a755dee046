//! The zeroth point of the learning curve: what the backbone labels right by the names of the classes alone.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use headstart_datasets::{Limits, Place};
use headstart_methods::rng::Rng;
use headstart_tasks::zero_shot::{Labelled, ZeroShotLabels, ZeroShotParams};
use headstart_tasks::{Label, Labels, TaskContext, TaskError};
use headstart_types::Payload;
use headstart_types::report::LeftOut;
use ndarray::Array2;

use crate::worker::bulk;
use crate::worker::control::{Halt, Stop};
use crate::worker::fine_tune::Parts;
use crate::worker::pace::Pace;
use crate::worker::reading::{Upload, payload};
use crate::worker::table::Table;

/// Held-out rows that are labelled at most: at 1000 an accuracy is known to three points.
const ROWS: usize = 1000;

/// Words that number classes and say nothing of them.
const NUMBERING: [&str; 6] = ["class", "label", "category", "cls", "c", "id"];

/// Scores of held-out rows.
pub(super) struct Zeroth {
    /// Positions among the held-out rows, ascending.
    pub(super) rows: Vec<usize>,
    /// `rows × classes`.
    pub(super) scores: Array2<f32>,
}

/// What it is asked of.
pub(super) struct Question<'a> {
    pub(super) tasks: &'a TaskContext,
    pub(super) model: &'a str,
    pub(super) files: &'a [Upload],
    pub(super) limits: &'a Limits,
    pub(super) table: &'a Table,
    pub(super) parts: &'a Parts,
    pub(super) seed: u64,
    pub(super) until: Instant,
    pub(super) halt: &'a Halt,
    pub(super) pace: &'a Pace,
}

/// Zero-shot scores of the held-out rows, or of as many drawn ones as are labelled at most, and what is left out.
///
/// # Errors
/// The job's stop, or what broke.
pub(super) async fn measure(question: &Question<'_>) -> Result<(Option<Zeroth>, Vec<LeftOut>), Stop> {
    let left_out = |part: &str, reason: String| LeftOut { part: part.to_owned(), reason };
    let without = |reason: String| Ok((None, vec![left_out("zero-shot", reason)]));
    let labels = match labels(&question.table.head.classes) {
        Ok(labels) => labels,
        Err(reason) => return without(reason),
    };
    let scored = question.parts.score.len();
    let rows = drawn(scored, question.seed);
    let mut found: HashMap<usize, Vec<f32>> = HashMap::new();
    for number in 0..question.files.len() {
        match question.of_file(number, &rows, &labels, &mut found).await? {
            Asked::All => {}
            Asked::Refused(reason) => return without(reason),
        }
    }
    let classes = labels.len();
    let scores: Vec<f32> = rows.iter().filter_map(|row| found.remove(row)).flatten().collect();
    let scores = Array2::from_shape_vec((rows.len(), classes), scores)
        .map_err(|_| Stop::Broken("zero-shot left rows out".into()))?;
    let partly = (rows.len() < scored).then(|| {
        left_out("zero-shot on all held-out items", format!("{} of {scored} were drawn", rows.len()))
    });
    Ok((Some(Zeroth { rows, scores }), partly.into_iter().collect()))
}

/// How a file's rows fared.
enum Asked {
    All,
    Refused(String),
}

impl Question<'_> {
    async fn of_file(
        &self,
        number: usize,
        rows: &[usize],
        labels: &[String],
        found: &mut HashMap<usize, Vec<f32>>,
    ) -> Result<Asked, Stop> {
        let (of, places) = (self.table.of_file(number), &self.table.head.places);
        let wanted: HashMap<&Place, usize> = rows
            .iter()
            .filter_map(|row| Some((*row, *self.parts.score.get(*row)?)))
            .filter(|(_, row)| of.contains(row))
            .filter_map(|(at, row)| Some((places.get(row)?, at)))
            .collect();
        let Some(upload) = self.files.get(number).filter(|_| !wanted.is_empty()) else {
            return Ok(Asked::All);
        };
        let named: HashSet<Place> = wanted.keys().map(|place| (*place).clone()).collect();
        let mut reading = upload.read(self.limits, bulk::batch(self.tasks), Some(named));
        while let Some(batch) = reading.next().await? {
            if Instant::now() >= self.until {
                return Ok(Asked::Refused("the time for the report was spent".into()));
            }
            let at: Vec<Option<usize>> =
                batch.iter().map(|example| wanted.get(&example.place).copied()).collect();
            let input = payload(batch.into_iter().map(|example| example.content));
            let answer =
                bulk::ask::<ZeroShotLabels>(self.tasks, self.halt, || self.params(&input, labels)).await?;
            let labelled = match answer {
                Ok(answer) => answer.data,
                Err(TaskError::Engine(error)) => return Err(Stop::Broken(error.to_string())),
                Err(TaskError::Bug(what)) => return Err(Stop::Broken(what.to_owned())),
                // The backbone has no zero-shot, or what it leans on is not there.
                Err(error) => return Ok(Asked::Refused(error.to_string())),
            };
            found.extend(
                at.into_iter().zip(&labelled).filter_map(|(at, one)| Some((at?, by_class(one, labels)))),
            );
            self.pace.count(found.len(), rows.len());
        }
        Ok(Asked::All)
    }

    fn params(&self, input: &Payload, labels: &[String]) -> ZeroShotParams {
        ZeroShotParams {
            model: Some(self.model.to_owned()),
            input: Some(input.clone()),
            labels: Some(Labels::from(
                labels.iter().map(|label| Label::from(label.as_str())).collect::<Vec<_>>(),
            )),
            multi_label: Some(self.table.head.multi_label),
            top_k: Some(labels.len()),
            ..ZeroShotParams::default()
        }
    }
}

fn by_class(one: &Labelled, labels: &[String]) -> Vec<f32> {
    let scores: HashMap<&str, f32> =
        one.scores.iter().map(|score| (score.label.as_str(), score.score)).collect();
    labels.iter().map(|label| scores.get(label.as_str()).copied().unwrap_or(0.0)).collect()
}

/// Positions among the held-out rows, ascending: all of them, or as many as are labelled at most.
pub(super) fn drawn(scored: usize, seed: u64) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..scored).collect();
    if scored > ROWS {
        Rng::new(seed).shuffle(&mut rows);
        rows.truncate(ROWS);
        rows.sort_unstable();
    }
    rows
}

/// The classes as labels that can be read, in their order.
///
/// # Errors
/// Why nothing can be labelled by these names.
fn labels(classes: &[String]) -> Result<Vec<String>, String> {
    let bare: Vec<&String> = classes.iter().filter(|class| says_nothing(class)).collect();
    if let Some(name) = bare.first().filter(|_| bare.len() * 2 >= classes.len()) {
        return Err(format!("class names like `{name}` say nothing of what they name"));
    }
    let mut seen = HashMap::new();
    let mut labels = Vec::with_capacity(classes.len());
    for class in classes {
        let words: Vec<&str> =
            class.split(|c: char| c == '_' || c.is_whitespace()).filter(|w| !w.is_empty()).collect();
        let label = if words.is_empty() { class.clone() } else { words.join(" ") };
        if let Some(other) = seen.insert(label.clone(), class) {
            return Err(format!("the class names `{other}` and `{class}` read alike"));
        }
        labels.push(label);
    }
    Ok(labels)
}

/// Whether a name only numbers its class: no letters, a single one of ASCII, or a word like `class` with a number.
fn says_nothing(name: &str) -> bool {
    let letters: String = name.chars().filter(|c| c.is_alphabetic()).collect::<String>().to_lowercase();
    let numbered = name.chars().any(|c| c.is_ascii_digit());
    letters.is_empty() || (letters.len() == 1) || (numbered && NUMBERING.contains(&letters.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(classes: &[&str]) -> Result<Vec<String>, String> {
        labels(&classes.iter().map(|class| (*class).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_become_words() {
        assert_eq!(named(&["card_arrival", "top  up"]).unwrap(), ["card arrival", "top up"]);
    }

    #[test]
    fn names_that_only_number_are_no_labels() {
        for classes in [["0", "1"], ["class_0", "class_1"], ["LABEL_0", "b"], ["-1", "refund"]] {
            assert!(named(&classes).unwrap_err().contains("say nothing"), "{classes:?}");
        }
        for classes in [["1 star", "5 stars"], ["label", "class"], ["好", "坏"]] {
            assert!(named(&classes).is_ok(), "{classes:?}");
        }
        assert!(named(&["404", "refund", "delivery"]).is_ok(), "one odd name among others");
        assert!(named(&["top_up", "top up"]).unwrap_err().contains("read alike"));
    }

    #[test]
    fn many_rows_are_drawn_by_the_seed() {
        assert_eq!(drawn(3, 1), [0, 1, 2]);
        let some = drawn(5000, 1);
        assert_eq!((some.len(), some.is_sorted()), (ROWS, true));
        assert_eq!(some, drawn(5000, 1));
        assert_ne!(some, drawn(5000, 2));
    }
}
