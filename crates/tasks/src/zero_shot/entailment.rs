//! Labels by entailment: how much a cross-encoder trained on natural language inference believes that an item implies a
//! sentence about the label.
//!
//! Source: Yin, Hay & Roth 2019. The arithmetic is that of the zero-shot pipeline of Hugging Face's transformers: labels
//! that compete share a softmax over their logits of entailment; labels on their own have each a softmax over entailment
//! and contradiction, what is neutral being left out.

use headstart_media::Shorter;
use headstart_types::manifest::EntailmentSpec;

use crate::catalog::Served;
use crate::context::{Caller, Owed, TaskContext};
use crate::error::TaskError;
use crate::items::{Item, Lost};
use crate::pairs::{self, Named, Pairs};
use crate::zero_shot::conse::spread;
use crate::zero_shot::judge::{Judged, Question};
use crate::zero_shot::prototypes::PLACE;

/// How a backbone tells entailment.
pub(super) struct Entailment {
    templates: Vec<String>,
    /// Places of the two classes among the logits.
    entailment: usize,
    contradiction: usize,
}

/// What a pair's logits say.
#[derive(Debug, Clone, Copy, Default)]
struct Says {
    entailment: f64,
    contradiction: f64,
}

impl Entailment {
    /// Finds the classes that the manifest names among those of the source head.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub(super) fn new(spec: &EntailmentSpec, classes: &[String]) -> Result<Self, String> {
        let place = |field: &str, name: &str| {
            let found = classes.iter().position(|class| class.eq_ignore_ascii_case(name));
            found.ok_or_else(|| format!("{field}: `{name}` is none of the classes of `[output.logits]`"))
        };
        Ok(Self {
            templates: spec.templates.clone(),
            entailment: place("entailment", &spec.entailment)?,
            contradiction: place("contradiction", &spec.contradiction)?,
        })
    }

    fn says(&self, logits: &[f32]) -> Result<Says, TaskError> {
        let logit = |place: usize| logits.get(place).map(|logit| f64::from(*logit));
        match (logit(self.entailment), logit(self.contradiction)) {
            (Some(entailment), Some(contradiction)) => Ok(Says { entailment, contradiction }),
            _ => Err(TaskError::Bug("fewer logits than classes")),
        }
    }

    /// The sentences about the labels, with the place of their label.
    fn hypotheses(&self, question: &Question<'_>, own: Option<&[String]>) -> Vec<(usize, Named)> {
        let templates = own.unwrap_or(&self.templates);
        let labels = question.labels.iter().enumerate();
        let sentences = labels.flat_map(|(place, label)| {
            let field = format!("{}[{place}]", question.field);
            let name = if own.is_some() { "template".to_owned() } else { field.clone() };
            let templated = templates.iter().map(move |template| Named {
                name: name.clone(),
                text: template.replacen(PLACE, &label.label, 1),
            });
            let described =
                label.description.iter().map(move |text| Named { name: field.clone(), text: text.clone() });
            templated.chain(described).map(move |named| (place, named))
        });
        sentences.collect()
    }
}

/// Scores items, as texts, against labels: every item with every sentence about a label is a pair. Sentences are never
/// cut; items are.
pub(super) async fn judge(
    cx: &TaskContext,
    served: &Served,
    entailment: &Entailment,
    (premises, owed): (&[Named], &Owed),
    (question, own_template): (Question<'_>, Option<&[String]>),
    caller: Caller,
) -> Result<Judged, TaskError> {
    if let Some(place) = question.labels.iter().position(|label| !label.examples.is_empty()) {
        let problem =
            format!("has examples; `{}` reads labels as sentences, and learns from no examples", served.id());
        return Err(TaskError::invalid(format!("{}[{place}]", question.field), problem));
    }
    let (places, hypotheses): (Vec<usize>, Vec<Named>) =
        entailment.hypotheses(&question, own_template).into_iter().unzip();
    let pairs = Pairs {
        first: premises.to_vec(),
        second: hypotheses,
        shorter: Shorter::First,
        truncate: question.truncate,
    };
    let rows = pairs::compute(cx, served, pairs, owed, caller).await?;
    let mut judged = Judged {
        probabilities: Vec::with_capacity(premises.len()),
        lost: Vec::with_capacity(premises.len()),
        tokens: rows.tokens(),
        timings: rows.timings,
    };
    for of_one_item in rows.items.chunks(places.len().max(1)) {
        let mut said = vec![(Says::default(), 0.0); question.labels.len()];
        for (row, place) in of_one_item.iter().zip(&places) {
            let Says { entailment, contradiction } = entailment.says(&row.logits)?;
            if let Some((sum, count)) = said.get_mut(*place) {
                sum.entailment += entailment;
                sum.contradiction += contradiction;
                *count += 1.0;
            }
        }
        let said: Vec<Says> = said.into_iter().map(|(sum, count)| sum.divided(count)).collect();
        judged.probabilities.push(probabilities(&said, question.independent));
        judged.lost.push(of_one_item.iter().map(Item::lost).fold(Lost::default(), Lost::most));
    }
    Ok(judged)
}

impl Says {
    fn divided(self, count: f64) -> Self {
        Self { entailment: self.entailment / count, contradiction: self.contradiction / count }
    }
}

/// Probabilities of one item's labels. A single label has none to compete with, and stands on its own.
fn probabilities(said: &[Says], independent: bool) -> Vec<f32> {
    if independent || said.len() == 1 {
        let alone = |says: &Says| 1.0 / (1.0 + (says.contradiction - says.entailment).exp());
        return said.iter().map(|says| alone(says) as f32).collect();
    }
    let entailed: Vec<f64> = said.iter().map(|says| says.entailment).collect();
    spread(&entailed, 1.0).into_iter().map(|probability| probability as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: [Says; 2] =
        [Says { entailment: 2.0, contradiction: 1.0 }, Says { entailment: 1.0, contradiction: 3.0 }];

    #[test]
    fn competing_labels_share_a_softmax_and_independent_ones_weigh_contradiction() {
        let shared = probabilities(&SAID, false);
        assert!((shared[0] - 0.731_058_6).abs() < 1e-6 && (shared[0] + shared[1] - 1.0).abs() < 1e-6);
        let alone = probabilities(&SAID, true);
        assert!((alone[0] - 0.731_058_6).abs() < 1e-6 && (alone[1] - 0.119_202_92).abs() < 1e-6);
        assert_eq!(probabilities(&SAID[1..], false), probabilities(&SAID[1..], true));
    }

    #[test]
    fn classes_are_found_by_name_in_any_order_and_case() {
        let spec = EntailmentSpec {
            templates: vec!["It is {}.".into()],
            entailment: "entailment".into(),
            contradiction: "contradiction".into(),
        };
        let classes = ["CONTRADICTION", "neutral", "ENTAILMENT"].map(String::from);
        let found = Entailment::new(&spec, &classes).unwrap();
        assert_eq!((found.entailment, found.contradiction), (2, 0));
        assert!(Entailment::new(&spec, &classes[..2]).err().unwrap().contains("`entailment`"));
    }
}
