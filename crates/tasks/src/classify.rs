//! Classification by fitted heads, as `POST /v1/classify`: one pass of the backbone, then every head that was asked for
//! in one product.

use std::collections::BTreeMap;
use std::sync::Arc;

use headstart_engine::{Class, Want};
use headstart_methods::MethodError;
use headstart_methods::head::{Ask, Head};
use headstart_types::Payload;
use headstart_types::payload::{Modality, Truncate};
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::classifiers::{Chosen, LiveVersion};
use crate::context::{Caller, TaskContext};
use crate::error::TaskError;
use crate::items::{self, Items, Reading, Timings};
use crate::task::{Done, Task, required};
use crate::usage::Usage;
use crate::zero_shot::{Labelled, PRESENT, Ranking};

/// Products up to this many multiplications run where the request is; more go to the CPU pool.
const INLINE_PRODUCTS: usize = 1 << 20;

/// Most classifiers of one request.
const MOST_CLASSIFIERS: usize = 1000;

/// The task.
pub struct Classify;

/// Fields of a classify request.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(title = "ClassifyRequest")]
pub struct ClassifyParams {
    /// A classifier: `name`, `name@version`, `name@alias`, a job's checkpoint; or a list of them.
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
    /// Who asks, in any words of yours: with a traffic split the same user gets the same version.
    pub user: Option<String>,
    /// States the modality of plain strings; base64 pictures need it.
    pub modality: Option<Modality>,
    /// What happens to a text longer than the model takes. Default `end`: the first tokens stay.
    pub truncate: Option<Truncate>,
}

/// One name or several.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(expecting = "a classifier's name or a list of names", untagged)]
pub enum ModelNames {
    /// One classifier.
    One(String),
    /// Several, whose answers come one after the other.
    Several(Vec<String>),
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
}

impl Task for Classify {
    const NAME: &'static str = "classify";
    const SUMMARY: &'static str = "Classify texts or images with fine-tuned classifiers";
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
        params: ClassifyParams,
        caller: Caller,
    ) -> Result<Done<ClassifyAnswer>, TaskError> {
        let names = required(params.model, "model")?;
        let input = required(params.input, "input")?;
        let (names, several) = match names {
            ModelNames::One(name) => (vec![name], false),
            ModelNames::Several(names) => (names, true),
        };
        if names.is_empty() || names.len() > MOST_CLASSIFIERS {
            return Err(TaskError::invalid(
                "model",
                format!("must name 1 to {MOST_CLASSIFIERS} classifiers"),
            ));
        }
        let ranking =
            Ranking { multi_label: false, top_k: params.top_k, threshold: params.threshold }.check()?;
        let reading = HowToRead { modality: params.modality, truncate: params.truncate.unwrap_or_default() };
        let user = params.user.as_deref();
        let (chosen, Scored { scores, items, timings }) =
            scores(cx, &names, input, reading, (caller, user)).await?;

        let mut data = Vec::with_capacity(items.len() * chosen.len());
        for (index, (_, truncated_tokens)) in items.iter().copied().enumerate() {
            for (place, classifier) in chosen.iter().enumerate() {
                let parts = classifier.version.head.parts();
                let ranking = Ranking { multi_label: parts.multi_label, ..ranking };
                let scores = scores.get(place).and_then(|items| items.get(index));
                let scores = scores.ok_or(TaskError::Bug("a classifier without scores"))?;
                let thresholds = parts.thresholds.as_deref();
                data.push(Classified {
                    labelled: ranking.rank_by(index, &parts.classes, scores, truncated_tokens, thresholds),
                    classifier: several.then(|| classifier.name.clone()),
                });
            }
        }
        let usage = Usage::of(items.iter().map(|item| item.0).sum());
        Ok(Done { answer: ClassifyAnswer { object: "list", data, model: names.join(","), usage }, timings })
    }
}

/// How the items of a request are read.
#[derive(Clone, Copy, Default)]
pub(crate) struct HowToRead {
    pub(crate) modality: Option<Modality>,
    pub(crate) truncate: Truncate,
}

/// What classifiers say of items.
pub(crate) struct Scored {
    /// By classifier, then by item, then by class.
    pub(crate) scores: Vec<Vec<Vec<f32>>>,
    /// Tokens used and cut of each item, as the backbone that cut most saw it.
    pub(crate) items: Vec<(usize, usize)>,
    pub(crate) timings: Timings,
}

/// The versions that names mean for this caller, and what they say of the items.
pub(crate) async fn scores(
    cx: &TaskContext,
    names: &[String],
    input: Payload,
    reading: HowToRead,
    (caller, user): (Caller, Option<&str>),
) -> Result<(Vec<Chosen>, Scored), TaskError> {
    let chosen = cx.classifiers.choose(caller.key, names, user.unwrap_or(caller.key)).await?;
    let scored = score(cx, &chosen, input, reading, caller).await?;
    Ok((chosen, scored))
}

/// Probabilities of every classifier for every item: one pass for each backbone.
async fn score(
    cx: &TaskContext,
    chosen: &[Chosen],
    input: Payload,
    reading: HowToRead,
    caller: Caller,
) -> Result<Scored, TaskError> {
    let mut by_backbone: BTreeMap<Arc<str>, Vec<usize>> = BTreeMap::new();
    for (place, classifier) in chosen.iter().enumerate() {
        by_backbone.entry(Arc::clone(&classifier.version.backbone)).or_default().push(place);
    }
    cx.check_items(input.len())?;
    let mut scored = Scored {
        scores: vec![Vec::new(); chosen.len()],
        items: vec![(0, 0); input.len()],
        timings: Timings::default(),
    };
    for (backbone, places) in by_backbone {
        let served = cx.catalog.get(&backbone).map_err(|error| TaskError::BrokenModel {
            id: chosen.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(","),
            reason: format!("its backbone: {error}"),
        })?;
        let data = input.clone().into_data("input", served.modality(), reading.modality)?;
        let want = Want { features: true, logits: false };
        let reading = Reading { field: "input", want, truncate: reading.truncate, prompt: None };
        let items = items::compute(cx, &served, data, reading, &cx.features, caller).await?;
        scored.timings = scored.timings.beside(items.timings);
        for (seen, item) in scored.items.iter_mut().zip(&items.items) {
            *seen = (seen.0 + item.tokens, seen.1.max(item.truncated_tokens));
        }
        let heads: Vec<Chosen> = places.iter().filter_map(|place| chosen.get(*place).cloned()).collect();
        let answers = apply(cx, heads, &items, caller.class).await?;
        for (place, answers) in places.into_iter().zip(answers) {
            if let Some(slot) = scored.scores.get_mut(place) {
                *slot = answers;
            }
        }
    }
    Ok(scored)
}

/// Probabilities by head, then by item: the heads' first layers are one product.
async fn apply(
    cx: &TaskContext,
    heads: Vec<Chosen>,
    items: &Items,
    class: Class,
) -> Result<Vec<Vec<Vec<f32>>>, TaskError> {
    let count = items.items.len();
    let width = items.items.first().map_or(0, |item| item.features.len());
    let features: Vec<f32> = items.items.iter().flat_map(|item| item.features.iter().copied()).collect();
    let features = Array2::from_shape_vec((count, width), features)
        .map_err(|_| TaskError::Bug("features of different widths"))?;
    // Heads that are asked, then those that score along on the same features.
    let along = heads.iter().filter_map(|chosen| chosen.shadow.as_ref().map(|(version, _)| version));
    let all: Vec<LiveVersion> = heads.iter().map(|chosen| &chosen.version).chain(along).cloned().collect();
    let rows: usize = all.iter().map(|version| version.head.rows()).sum();
    let work = move || -> Result<Vec<Vec<Vec<f32>>>, MethodError> {
        let asks = all.iter().flat_map(|version| (0..count).map(|row| Ask { row, head: version.id }));
        let asks: Vec<Ask> = asks.collect();
        let Some(stack) = heads.first().and_then(Chosen::stack) else { return Ok(Vec::new()) };
        let mut answers = stack.probabilities(features.view(), &asks)?.into_iter();
        let mut answers: Vec<Vec<_>> = all.iter().map(|_| answers.by_ref().take(count).collect()).collect();
        let said = answers.split_off(heads.len());
        compare(&heads, &answers, &said);
        Ok(answers)
    };
    let inline = count * width * rows <= INLINE_PRODUCTS;
    let answers = if inline { work() } else { cx.offload(class).run(work).await? };
    answers.map_err(|error| {
        tracing::error!(%error, "heads could not be applied");
        TaskError::Bug("heads could not be applied")
    })
}

/// Counts where versions that score along say something else than those that answer.
fn compare(heads: &[Chosen], answers: &[Vec<Vec<f32>>], said: &[Vec<Vec<f32>>]) {
    let shadowed = heads.iter().zip(answers).filter_map(|(chosen, answers)| {
        chosen.shadow.as_ref().map(|(version, metrics)| (&chosen.version.head, answers, version, metrics))
    });
    for ((head, answers, shadow, metrics), said) in shadowed.zip(said) {
        for (answer, said) in answers.iter().zip(said) {
            let same = verdict(head, answer) == verdict(&shadow.head, said);
            if same { metrics.agreed.inc() } else { metrics.differed.inc() }
        }
    }
}

/// The labels that a head gives an item, sorted.
fn verdict<'a>(head: &'a Head, scores: &[f32]) -> Vec<&'a str> {
    let parts = head.parts();
    let named = parts.classes.iter().map(String::as_str).zip(scores);
    if !parts.multi_label {
        let best = named.fold(None, |best: Option<(&str, f32)>, (name, score)| match best {
            Some((_, most)) if most >= *score => best,
            _ => Some((name, *score)),
        });
        return best.map(|(name, _)| name).into_iter().collect();
    }
    let own = |class: usize| parts.thresholds.as_ref().and_then(|all| all.get(class)).copied();
    let mut labels: Vec<&str> = named
        .enumerate()
        .filter(|(class, (_, score))| **score >= own(*class).unwrap_or(PRESENT))
        .map(|(_, (name, _))| name)
        .collect();
    labels.sort_unstable();
    labels
}
