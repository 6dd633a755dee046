//! Zero-shot labels: each item scored against labels that nobody trained on, as `POST /v1/zero-shot`.

mod conse;
mod entailment;
mod judge;
mod prototypes;

use headstart_types::Payload;
use headstart_types::payload::{Modality, Truncate};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer_size::AnswerSize;
use crate::context::{Caller, TaskContext};
use crate::error::TaskError;
use crate::features::is_zero;
use crate::labels::{LabelForm, Labels};
use crate::task::{Done, Task, required};
use crate::usage::Usage;

pub(crate) use judge::{
    Judged, Observed, Question, ZeroShot, check_independent, check_template, judge, judge_items, observe,
    wants,
};

/// Scores listed for an item unless `top_k` says otherwise.
const MOST_SCORES: usize = 100;

/// A label counts as there from this score on when labels are independent, unless `threshold` says otherwise.
pub(crate) const PRESENT: f32 = 0.5;

/// The task.
pub struct ZeroShotLabels;

/// Fields of a zero-shot request.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(title = "ZeroShotRequest")]
pub struct ZeroShotParams {
    /// The backbone.
    #[schema(required = true, nullable = false, example = "all-minilm-l6-v2")]
    pub model: Option<String>,
    /// What to label.
    #[schema(required = true, nullable = false)]
    pub input: Option<Payload>,
    /// The labels: words, or objects that say more about each.
    #[schema(required = true, nullable = false, value_type = Vec<LabelForm>, min_items = 1)]
    pub labels: Option<Labels>,
    /// A sentence with `{}` where the label goes; replaces the model's own. It is never cut, and must leave room for the labels.
    #[schema(example = "This text is about {}.")]
    pub template: Option<String>,
    /// Whether several labels can be right at once: scores are then independent. Default false.
    pub multi_label: Option<bool>,
    /// Most scores listed an item. Default 100.
    #[schema(minimum = 1)]
    pub top_k: Option<usize>,
    /// Below this best score the answer abstains; with `multi_label`, labels from it on are listed. Between 0 and 1.
    #[schema(minimum = 0, maximum = 1)]
    pub threshold: Option<f32>,
    /// States the modality of plain strings; base64 pictures need it.
    pub modality: Option<Modality>,
    /// What happens to a text, of the input or about a label, longer than the model takes. Default `end`: the first tokens stay.
    pub truncate: Option<Truncate>,
}

/// Labels in the order of the input.
#[derive(Debug, Serialize, ToSchema)]
pub struct ZeroShotAnswer {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// One entry an item.
    pub data: Vec<Labelled>,
    /// The backbone.
    pub model: String,
    /// Tokens of the input and of the texts about the labels.
    pub usage: Usage,
}

/// One item's labels.
#[derive(Debug, Serialize, ToSchema)]
pub struct Labelled {
    /// Position in the input.
    pub index: usize,
    /// The best label; null when the answer abstains.
    #[schema(required = true, example = "cat")]
    pub label: Option<String>,
    /// The best label's score, 0 to 1.
    pub score: f32,
    /// Scores, best first.
    pub scores: Vec<LabelScore>,
    /// True when the best score is below `threshold`; absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub abstained: bool,
    /// With `multi_label`: every label whose score reaches the threshold, best first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// Tokens that were cut; absent when nothing was.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub truncated_tokens: usize,
    /// Words that the model's table does not have; absent when there were none.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub unknown_words: usize,
}

/// A label's score.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LabelScore {
    /// The label.
    #[schema(example = "cat")]
    pub label: String,
    /// Its score, 0 to 1. Without `multi_label` the scores of all labels add up to 1.
    pub score: f32,
}

/// How scores become an answer; classifiers answer by the same rules.
#[derive(Debug, Clone, Copy)]
pub struct Ranking {
    /// Whether scores are independent.
    pub multi_label: bool,
    /// Most scores listed.
    pub top_k: Option<usize>,
    /// Where the answer abstains, or with `multi_label`, from where labels are listed.
    pub threshold: Option<f32>,
}

impl Ranking {
    pub(crate) fn check(self) -> Result<Self, TaskError> {
        if self.top_k == Some(0) {
            return Err(TaskError::invalid("top_k", "must be at least 1"));
        }
        match self.threshold {
            Some(threshold) if !(0.0..=1.0).contains(&threshold) => {
                Err(TaskError::invalid("threshold", format!("is {threshold}; it lies between 0 and 1")))
            }
            _ => Ok(self),
        }
    }

    /// Labels and scores that an item's entry has at most, where there are so many labels.
    pub(crate) fn written(self, labels: usize) -> usize {
        let listed = labels.min(self.top_k.unwrap_or(MOST_SCORES));
        1 + listed + if self.multi_label { labels } else { 0 }
    }

    /// Sorts, cuts and judges one item's scores, given in the order of `labels`.
    #[must_use]
    pub fn rank(self, index: usize, labels: &[String], scores: &[f32], truncated_tokens: usize) -> Labelled {
        self.rank_by(index, labels, scores, truncated_tokens, None)
    }

    /// The same with a threshold of each label's own, which holds where the request states none.
    pub(crate) fn rank_by(
        self,
        index: usize,
        labels: &[String],
        scores: &[f32],
        truncated_tokens: usize,
        thresholds: Option<&[f32]>,
    ) -> Labelled {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        // Equal scores keep the caller's order, so that answers do not change between calls.
        order.sort_by(|left, right| scores[*right].total_cmp(&scores[*left]).then(left.cmp(right)));
        let best = order.first().copied();
        let score = best.map_or(0.0, |best| scores[best]);
        let abstained = !self.multi_label && self.threshold.is_some_and(|threshold| score < threshold);
        let present = self.multi_label.then(|| {
            let own = |label: usize| thresholds.and_then(|each| each.get(label).copied()).unwrap_or(PRESENT);
            order
                .iter()
                .filter(|label| scores[**label] >= self.threshold.unwrap_or_else(|| own(**label)))
                .map(|label| labels[*label].clone())
                .collect()
        });
        let listed = order.iter().take(self.top_k.unwrap_or(MOST_SCORES));
        Labelled {
            index,
            label: best.filter(|_| !abstained).map(|best| labels[best].clone()),
            score,
            scores: listed
                .map(|label| LabelScore { label: labels[*label].clone(), score: scores[*label] })
                .collect(),
            abstained,
            labels: present,
            truncated_tokens,
            unknown_words: 0,
        }
    }
}

impl Task for ZeroShotLabels {
    const NAME: &'static str = "zero-shot";
    const SUMMARY: &'static str = "Label texts or images with labels that nobody trained on";
    const DESCRIPTION: &'static str = "Scores each item against the labels of the request. Labels may say more about themselves: a description in \
         other words, or texts that have the label. Scores are probabilities, calibrated over several public data sets, not over yours.";
    const EXAMPLE: &'static str = r#"{"model": "all-minilm-l6-v2", "input": "I want my money back.", "labels": ["refund", "delivery", {"label": "praise", "description": "the customer is happy"}]}"#;
    type Params = ZeroShotParams;
    type Answer = ZeroShotAnswer;

    fn input(params: &mut ZeroShotParams) -> &mut Option<Payload> {
        &mut params.input
    }

    async fn run(
        cx: &TaskContext,
        params: ZeroShotParams,
        caller: Caller,
    ) -> Result<Done<ZeroShotAnswer>, TaskError> {
        let model = required(params.model, "model")?;
        let input = required(params.input, "input")?;
        let labels = required(params.labels, "labels")?.check("labels", &cx.limits)?;
        let ranking = Ranking {
            multi_label: params.multi_label.unwrap_or(false),
            top_k: params.top_k,
            threshold: params.threshold,
        }
        .check()?;
        let served = cx.catalog.get(&model).await?;
        cx.check_items(input.len())?;
        let size =
            AnswerSize { items: input.len(), computed: labels.len(), written: ranking.written(labels.len()) };
        let size = size.check("input")?;
        let data = served.data(input, "input", params.modality)?;
        let truncate = params.truncate.unwrap_or_default();
        let observed = observe(cx, &served, "input", data, truncate, caller).await?;
        let question = Question {
            labels: &labels,
            template: params.template.as_deref(),
            independent: ranking.multi_label,
            truncate,
            field: "labels",
        };
        let judged = judge(cx, &served, &observed, question, caller).await?;

        let names: Vec<String> = labels.into_iter().map(|label| label.label).collect();
        let usage = Usage::of(observed.tokens() + judged.tokens);
        let timings = observed.timings().beside(judged.timings);
        let Judged { probabilities, lost, .. } = judged;
        let say = move || -> Vec<Labelled> {
            let data = probabilities.iter().zip(&lost).enumerate();
            data.map(|(index, (scores, lost))| Labelled {
                unknown_words: lost.unknown_words,
                ..ranking.rank(index, &names, scores, lost.truncated_tokens)
            })
            .collect()
        };
        let data = size.build(cx, caller.class, say).await?;
        Ok(Done { answer: ZeroShotAnswer { object: "list", data, model, usage }, timings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(ranking: Ranking, scores: &[f32]) -> Labelled {
        let labels: Vec<String> = ["a", "b", "c"].map(String::from).into();
        ranking.rank(0, &labels, scores, 0)
    }

    const PLAIN: Ranking = Ranking { multi_label: false, top_k: None, threshold: None };

    #[test]
    fn scores_are_listed_best_first_and_cut_by_top_k() {
        let labelled = rank(Ranking { top_k: Some(2), ..PLAIN }, &[0.2, 0.5, 0.3]);
        assert_eq!(labelled.label.as_deref(), Some("b"));
        let listed: Vec<&str> = labelled.scores.iter().map(|score| score.label.as_str()).collect();
        assert_eq!(listed, ["b", "c"]);
        assert!(!labelled.abstained && labelled.labels.is_none());
    }

    #[test]
    fn below_the_threshold_the_answer_abstains_but_keeps_its_scores() {
        let labelled = rank(Ranking { threshold: Some(0.6), ..PLAIN }, &[0.2, 0.5, 0.3]);
        assert_eq!((labelled.label, labelled.abstained, labelled.scores.len()), (None, true, 3));
        assert!((labelled.score - 0.5).abs() < 1e-6);
    }

    #[test]
    fn independent_labels_are_all_listed_from_the_threshold_on() {
        let multi = Ranking { multi_label: true, ..PLAIN };
        assert_eq!(rank(multi, &[0.9, 0.4, 0.5]).labels.unwrap(), ["a", "c"]);
        let none = rank(Ranking { threshold: Some(0.95), ..multi }, &[0.9, 0.4, 0.5]);
        assert_eq!((none.labels.unwrap().len(), none.label.as_deref()), (0, Some("a")));
    }

    #[test]
    fn equal_scores_keep_the_order_of_the_labels() {
        let labelled = rank(PLAIN, &[0.3, 0.4, 0.4]);
        assert_eq!(labelled.label.as_deref(), Some("b"));
    }
}
