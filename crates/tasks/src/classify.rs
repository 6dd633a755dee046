//! Classification, as `POST /v1/classify`: by name, version or alias, one classifier or many.

use std::fmt;

use headstart_methods::few_shot::Rung;
use headstart_types::Payload;
use headstart_types::payload::{Modality, Truncate};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::answer_size::AnswerSize;
use crate::classifiers::{Chosen, Described};
use crate::context::{Caller, TaskContext};
use crate::error::TaskError;
use crate::items::Timings;
use crate::scores::{HowToRead, Scored, Seen, choose, score, scores_of};
use crate::task::{Done, Task, required};
use crate::usage::Usage;
use crate::zero_shot::{Labelled, Ranking};

/// Most classifiers of one request.
const MOST_CLASSIFIERS: usize = 1000;

/// The task.
pub struct Classify;

/// Fields of a classify request.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(title = "ClassifyRequest")]
pub struct ClassifyParams {
    /// A classifier: `name`, `name@version`, `name@alias`, a job's checkpoint, where the key may ask it another key's as
    /// `owner/name`; or a list of them.
    #[schema(required = true, nullable = false, value_type = ModelNames)]
    pub model: Option<ModelNames>,
    /// What to classify.
    #[schema(required = true, nullable = false)]
    pub input: Option<Payload>,
    /// Most scores listed for an item. Default: all, up to 100.
    #[schema(minimum = 1)]
    pub top_k: Option<usize>,
    /// Below this best score the answer abstains; with several labels an item, labels from this score on are listed.
    #[schema(minimum = 0, maximum = 1)]
    pub threshold: Option<f32>,
    /// Who asks, in any words of yours: with a traffic split the same user gets the same version. For a request without it
    /// one is drawn.
    pub user: Option<String>,
    /// States the modality of plain strings; base64 pictures and sounds need it.
    pub modality: Option<Modality>,
    /// What happens to a text longer than the model takes. Default `end`: the first tokens stay.
    pub truncate: Option<Truncate>,
}

/// One name or several.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ModelNames {
    /// One classifier.
    One(String),
    /// Several, whose answers come one after the other.
    Several(Vec<String>),
}

impl<'de> Deserialize<'de> for ModelNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NamesVisitor)
    }
}

/// Keeps no more names than are taken: a long list of short ones would be many times its bytes.
struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = ModelNames;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a classifier's name or a list of names")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<ModelNames, E> {
        Ok(ModelNames::One(name.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ModelNames, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = list.next_element()? {
            if names.len() == MOST_CLASSIFIERS {
                let problem = format!("must name 1 to {MOST_CLASSIFIERS} classifiers");
                return Err(serde::de::Error::custom(problem));
            }
            names.push(name);
        }
        Ok(ModelNames::Several(names))
    }
}

/// Labels in the order of the input, and for each item in the order of the classifiers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClassifyAnswer {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// One entry an item and classifier.
    pub data: Vec<Classified>,
    /// The classifier, as it was asked for; several are joined by commas.
    pub model: String,
    /// Tokens used.
    pub usage: Usage,
}

/// One item as one classifier sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Classified {
    /// Label and scores.
    #[serde(flatten)]
    pub labelled: Labelled,
    /// Where several were asked: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classifier: Option<String>,
    /// For a classifier that no job made: what its answer rests on, `zero_shot`, `few_shot` or `prototype`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "few_shot")]
    pub rung: Option<Rung>,
}

impl Task for Classify {
    const NAME: &'static str = "classify";
    const SUMMARY: &'static str = "Classify texts, images or sounds with fine-tuned classifiers";
    const DESCRIPTION: &'static str = "One classifier by name, version or alias, or several at once: classifiers on one backbone share one pass \
         of it. Scores are calibrated on examples the classifier had not learnt from. The answer has the shape of zero-shot's.";
    const EXAMPLE: &'static str =
        r#"{"model": "intents", "input": ["I want my money back.", "Where is my parcel?"], "top_k": 2}"#;
    type Params = ClassifyParams;
    type Answer = ClassifyAnswer;

    fn input(params: &mut ClassifyParams) -> &mut Option<Payload> {
        &mut params.input
    }

    async fn run(
        cx: &TaskContext,
        mut params: ClassifyParams,
        caller: Caller,
    ) -> Result<Done<ClassifyAnswer>, TaskError> {
        let names = required(params.model.take(), "model")?;
        let user = params.user.take();
        let (names, several) = match names {
            ModelNames::One(name) => (vec![name], false),
            ModelNames::Several(names) => (names, true),
        };
        if names.is_empty() {
            return Err(TaskError::invalid(
                "model",
                format!("must name 1 to {MOST_CLASSIFIERS} classifiers"),
            ));
        }
        let question = Question::of(params)?;
        let chosen = choose(cx, &names, (caller, user.as_deref())).await?;
        let (data, usage, timings) = question.put(cx, &chosen, several, caller).await?;
        Ok(Done { answer: ClassifyAnswer { object: "list", data, model: names.join(","), usage }, timings })
    }
}

/// The version that answers one request to a classifier: what was looked at is what answers, also where a split draws
/// one for each request, and whatever the name means by then.
pub struct Turn {
    model: String,
    chosen: Vec<Chosen>,
}

impl Turn {
    /// Chooses it for a request that names no user.
    ///
    /// # Errors
    /// [`TaskError::UnknownModel`], or [`TaskError::NotAClassifier`] for a backbone.
    pub async fn of(cx: &TaskContext, model: String, caller: Caller) -> Result<Self, TaskError> {
        let names = [model];
        let chosen = choose(cx, &names, (caller, None)).await?;
        let [model] = names;
        Ok(Self { model, chosen })
    }

    /// What is known of the version.
    ///
    /// # Errors
    /// [`TaskError::Bug`] for a name that no version was chosen for.
    pub fn described(&self) -> Result<Described, TaskError> {
        let chosen = self.chosen.first().ok_or(TaskError::Bug("a turn without a version"))?;
        Ok(chosen.described())
    }

    /// Lets it answer; `model` and `user` of the fields have been taken already.
    ///
    /// # Errors
    /// As [`Classify`] answers.
    pub async fn answer(
        self,
        cx: &TaskContext,
        params: ClassifyParams,
        caller: Caller,
    ) -> Result<Done<ClassifyAnswer>, TaskError> {
        let (data, usage, timings) = Question::of(params)?.put(cx, &self.chosen, false, caller).await?;
        Ok(Done { answer: ClassifyAnswer { object: "list", data, model: self.model, usage }, timings })
    }
}

/// What is asked of versions, its fields checked.
struct Question {
    input: Payload,
    ranking: Ranking,
    reading: HowToRead,
}

impl Question {
    fn of(params: ClassifyParams) -> Result<Self, TaskError> {
        let input = required(params.input, "input")?;
        let ranking =
            Ranking { multi_label: false, top_k: params.top_k, threshold: params.threshold }.check()?;
        let reading = HowToRead { modality: params.modality, truncate: params.truncate.unwrap_or_default() };
        Ok(Self { input, ranking, reading })
    }

    /// Answers by item and then by classifier; where `several` were asked, each says which it is.
    async fn put(
        self,
        cx: &TaskContext,
        chosen: &[Chosen],
        several: bool,
        caller: Caller,
    ) -> Result<(Vec<Classified>, Usage, Timings), TaskError> {
        let Self { input, ranking, reading } = self;
        cx.check_items(input.len())?;
        let written = |one: &Chosen| {
            let artifact = &one.version.artifact;
            Ranking { multi_label: artifact.multi_label(), ..ranking }.written(artifact.labels().len())
        };
        let size = AnswerSize {
            items: input.len(),
            computed: scores_of(chosen),
            written: chosen.iter().map(written).sum(),
        };
        let size = size.check(if several { "model" } else { "input" })?;
        let Scored { scores, items, timings } = score(cx, chosen, input, reading, caller).await?;
        let usage = Usage::of(items.iter().map(|item| item.tokens).sum());
        let named = Named { chosen: chosen.to_vec(), several, ranking };
        let data = size.build(cx, caller.class, move || named.say(&scores, &items)).await??;
        Ok((data, usage, timings))
    }
}

/// Classifiers whose scores become an answer.
struct Named {
    chosen: Vec<Chosen>,
    several: bool,
    ranking: Ranking,
}

impl Named {
    /// Entries by item and then by classifier, of scores by classifier and then by item.
    fn say(self, scores: &[Vec<Vec<f32>>], items: &[Seen]) -> Result<Vec<Classified>, TaskError> {
        let Self { chosen, several, ranking } = self;
        let mut data = Vec::with_capacity(items.len() * chosen.len());
        for (index, seen) in items.iter().enumerate() {
            for (place, classifier) in chosen.iter().enumerate() {
                let artifact = &classifier.version.artifact;
                let ranking = Ranking { multi_label: artifact.multi_label(), ..ranking };
                let scores = scores.get(place).and_then(|items| items.get(index));
                let scores = scores.ok_or(TaskError::Bug("a classifier without scores"))?;
                let (labels, thresholds) = (artifact.labels(), artifact.thresholds());
                data.push(Classified {
                    labelled: Labelled {
                        unknown_words: seen.lost.unknown_words,
                        ..ranking.rank_by(index, labels, scores, seen.lost.truncated_tokens, thresholds)
                    },
                    classifier: several.then(|| classifier.name.clone()),
                    rung: artifact.rung(),
                });
            }
        }
        Ok(data)
    }
}
