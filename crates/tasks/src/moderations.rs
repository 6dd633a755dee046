//! A multi-label classifier in the body of OpenAI's moderation endpoint, as `POST /v1/moderations`.

use std::collections::BTreeMap;
use std::sync::Arc;

use headstart_methods::artifact::Artifact;
use headstart_types::Payload;
use headstart_types::payload::{Modality, Truncate};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer_size::AnswerSize;
use crate::context::{Caller, TaskContext};
use crate::error::TaskError;
use crate::features::is_zero;
use crate::scores::{HowToRead, Scored, Seen, choose, score, scores_of};
use crate::task::{Done, Task, required};
use crate::zero_shot::PRESENT;

/// The task.
pub struct Moderations;

/// Fields of a moderation request.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(title = "ModerationRequest")]
pub struct ModerationParams {
    /// A classifier with several labels an item.
    #[schema(required = true, nullable = false, example = "policy")]
    pub model: Option<String>,
    /// What to judge.
    #[schema(required = true, nullable = false)]
    pub input: Option<Payload>,
    /// States the modality of plain strings; base64 pictures and sounds need it.
    pub modality: Option<Modality>,
    /// What happens to a text longer than the model takes. Default `end`: the first tokens stay.
    pub truncate: Option<Truncate>,
}

/// What a classifier says of each item.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModerationAnswer {
    /// An id of this answer.
    #[schema(example = "modr-019a5e0c1f7b7d0c9d3f6f5a4b3c2d1e")]
    pub id: String,
    /// The classifier, as it was asked for.
    pub model: String,
    /// One entry an item, in order.
    pub results: Vec<Moderated>,
}

/// One item.
#[derive(Debug, Serialize, ToSchema)]
pub struct Moderated {
    /// Whether any category applies.
    pub flagged: bool,
    /// Whether each category applies: its score reaches the classifier's threshold for it.
    #[schema(example = json!({"insult": true, "spam": false}))]
    pub categories: BTreeMap<String, bool>,
    /// Each category's calibrated probability.
    #[schema(example = json!({"insult": 0.91, "spam": 0.02}))]
    pub category_scores: BTreeMap<String, f32>,
    /// What of the item each score rests on: `text`, `image` or `audio`.
    #[schema(example = json!({"insult": ["text"], "spam": ["text"]}))]
    pub category_applied_input_types: BTreeMap<String, Vec<Modality>>,
    /// Tokens that were cut; absent when nothing was.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub truncated_tokens: usize,
    /// Words that the model's table does not have; absent when there were none.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub unknown_words: usize,
}

impl Task for Moderations {
    const NAME: &'static str = "moderations";
    const SUMMARY: &'static str = "Ask a classifier of several labels in the body of OpenAI's moderations";
    const DESCRIPTION: &'static str = "The categories are the classifier's labels. The classifier must have been made with several labels an item: \
         with one label an item, some label always applies, and everything would be flagged. With a traffic split a version is drawn for each request.";
    const EXAMPLE: &'static str =
        r#"{"model": "policy", "input": ["You are a fool.", "Buy now, only today!"]}"#;
    type Params = ModerationParams;
    type Answer = ModerationAnswer;

    fn input(params: &mut ModerationParams) -> &mut Option<Payload> {
        &mut params.input
    }

    async fn run(
        cx: &TaskContext,
        params: ModerationParams,
        caller: Caller,
    ) -> Result<Done<ModerationAnswer>, TaskError> {
        let model = required(params.model, "model")?;
        let input = required(params.input, "input")?;
        let reading = HowToRead { modality: params.modality, truncate: params.truncate.unwrap_or_default() };
        let names = [model];
        let chosen = choose(cx, &names, (caller, None)).await?;
        let [model] = names;
        let classifier = chosen.first().ok_or(TaskError::Bug("a name without a classifier"))?;
        let artifact = Arc::clone(&classifier.version.artifact);
        if !artifact.multi_label() {
            let problem = format!("`{model}` gives one label an item; moderations need several");
            return Err(TaskError::Invalid { param: "model".into(), problem });
        }
        cx.check_items(input.len())?;
        let size = AnswerSize {
            items: input.len(),
            computed: scores_of(&chosen),
            // Each label stands in three objects.
            written: 3 * artifact.labels().len(),
        };
        let size = size.check("input")?;
        let Scored { mut scores, items, timings } = score(cx, &chosen, input, reading, caller).await?;
        let scores = scores.pop().ok_or(TaskError::Bug("a classifier without scores"))?;
        let say = move || -> Vec<Moderated> {
            scores.iter().zip(&items).map(|(scores, seen)| moderated(&artifact, scores, seen)).collect()
        };
        let results = size.build(cx, caller.class, say).await?;
        let id = format!("modr-{}", uuid::Uuid::now_v7().simple());
        Ok(Done { answer: ModerationAnswer { id, model, results }, timings })
    }
}

/// What a classifier's scores say of an item.
fn moderated(artifact: &Artifact, scores: &[f32], seen: &Seen) -> Moderated {
    let (labels, thresholds) = (artifact.labels(), artifact.thresholds());
    let applies = |class: usize| {
        let own = thresholds.and_then(|each| each.get(class)).copied().unwrap_or(PRESENT);
        scores.get(class).is_some_and(|score| *score >= own)
    };
    let named = || labels.iter().cloned();
    Moderated {
        flagged: (0..labels.len()).any(applies),
        categories: named().enumerate().map(|(class, name)| (name, applies(class))).collect(),
        category_scores: named().zip(scores.iter().copied()).collect(),
        category_applied_input_types: named().map(|name| (name, vec![seen.modality])).collect(),
        truncated_tokens: seen.lost.truncated_tokens,
        unknown_words: seen.lost.unknown_words,
    }
}
