//! What classifiers say of items: one pass of each backbone, every head in one product, and zero-shot labels where names
//! have a say.

use std::collections::BTreeMap;
use std::sync::Arc;

use headstart_engine::{Class, Want};
use headstart_methods::MethodError;
use headstart_methods::artifact::Artifact;
use headstart_methods::few_shot::{Rung, Wording};
use headstart_methods::head::Ask;
use headstart_types::Payload;
use headstart_types::payload::{Datum, Modality, Truncate};
use ndarray::Array2;

use crate::catalog::Served;
use crate::classifiers::{Chosen, Described, LiveVersion};
use crate::context::{Caller, Owed, TaskContext};
use crate::error::TaskError;
use crate::items::{self, Items, Lost, Reading, Timings};
use crate::zero_shot::{self, Judged, PRESENT, Question};

/// Products up to this many multiplications run where the request is; more go to the CPU pool.
const INLINE_PRODUCTS: usize = 1 << 20;

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
    /// What was seen of each item.
    pub(crate) items: Vec<Seen>,
    pub(crate) timings: Timings,
}

/// What backbones saw of an item: tokens in all, and what most of it was lost to one of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) tokens: usize,
    pub(crate) lost: Lost,
    pub(crate) modality: Modality,
}

/// The versions that names mean for one request of this caller.
pub(crate) async fn choose(
    cx: &TaskContext,
    names: &[String],
    (caller, user): (Caller, Option<&str>),
) -> Result<Vec<Chosen>, TaskError> {
    // A split gives each request that names no user a version by chance: a key's requests are not one user's.
    let drawn = if user.is_none() { uuid::Uuid::now_v7().simple().to_string() } else { String::new() };
    let chosen = cx.classifiers.choose(caller.key, names, user.unwrap_or(&drawn)).await;
    chosen.map_err(|error| {
        if let TaskError::UnknownModel(name) = &error
            && cx.catalog.named(name).is_some()
        {
            return TaskError::NotAClassifier(name.clone());
        }
        error
    })
}

/// Scores that are computed for each item, those of versions that score along among them.
pub(crate) fn scores_of(chosen: &[Chosen]) -> usize {
    let along = chosen.iter().filter_map(|chosen| chosen.shadow.as_ref().map(|(version, _)| version));
    let all = chosen.iter().map(|chosen| &chosen.version).chain(along);
    all.map(|version| version.artifact.labels().len()).sum()
}

/// The labels that a version gives items, sorted, as it would answer them; also one that does not answer requests.
///
/// # Errors
/// [`TaskError`] as for a request.
pub async fn labels_given(
    cx: &TaskContext,
    (name, artifact): (String, Arc<Artifact>),
    input: Payload,
    caller: Caller,
) -> Result<Vec<Vec<String>>, TaskError> {
    cx.check_items(input.len())?;
    let chosen = Chosen::alone(name, Arc::clone(&artifact))?;
    let scored = score(cx, &[chosen], input, HowToRead::default(), caller).await?;
    let labels = |scores: &Vec<f32>| verdict(&artifact, scores).into_iter().map(str::to_owned).collect();
    Ok(scored.scores.first().into_iter().flatten().map(labels).collect())
}

/// Probabilities of every classifier for every item, which have been counted: one pass for each backbone.
pub(crate) async fn score(
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
    let owed = Owed::of(input.len());
    let mut scored =
        Scored { scores: vec![Vec::new(); chosen.len()], items: Vec::new(), timings: Timings::default() };
    for (backbone, places) in by_backbone {
        let mut heads: Vec<Chosen> = places.iter().filter_map(|place| chosen.get(*place).cloned()).collect();
        let served = cx.catalog.of_version(&backbone).await;
        let served = served.map_err(|error| {
            let names: Vec<&str> = heads.iter().map(|one| one.name.as_str()).collect();
            error.behind(&names.join(","), "its backbone")
        })?;
        on_their_backbone(&served, &mut heads)?;
        let data = served.data(input.clone(), "input", reading.modality)?;
        let modalities: Vec<Modality> = data.iter().map(Datum::modality).collect();
        let along = heads.iter().filter_map(|chosen| chosen.shadow.as_ref().map(|(version, _)| version));
        let named = heads.iter().map(|chosen| &chosen.version).chain(along).any(asks_names);
        let logits = named && zero_shot::wants(&served)?.logits;
        let want = Want { features: true, logits };
        let reading = Reading { field: "input", want, truncate: reading.truncate, prompt: None };
        let admitted = items::admit(cx, &served, &data, reading.field)?;
        // Several backbones read the same items.
        cx.take_owed(&owed, caller)?;
        let items = items::compute(cx, &served, (data, admitted), reading, &cx.features, caller).await?;
        scored.timings = scored.timings.beside(items.timings);
        let unseen = |modality: &Modality| Seen { tokens: 0, lost: Lost::default(), modality: *modality };
        if scored.items.is_empty() {
            scored.items = modalities.iter().map(unseen).collect();
        }
        for (seen, item) in scored.items.iter_mut().zip(&items.items) {
            *seen = Seen { tokens: seen.tokens + item.tokens, lost: seen.lost.most(item.lost()), ..*seen };
        }
        let answers = apply(cx, &served, heads, &items, caller).await?;
        for (place, answers) in places.into_iter().zip(answers) {
            if let Some(slot) = scored.scores.get_mut(place) {
                *slot = answers;
            }
        }
    }
    Ok(scored)
}

/// Refuses versions that were fitted on another backbone than the one that has its name now, and lets none of these
/// score along: its features would mean something else. Heads of all that are left take its width, and lie in one stack.
fn on_their_backbone(served: &Served, heads: &mut [Chosen]) -> Result<(), TaskError> {
    for chosen in heads {
        if !fits(served, &chosen.version.artifact) {
            return Err(TaskError::other_backbone(&chosen.name));
        }
        chosen.shadow.take_if(|(shadow, _)| !fits(served, &shadow.artifact));
    }
    Ok(())
}

/// Whether a version was fitted on this backbone. What rests on names alone has learnt nothing of features.
fn fits(served: &Served, artifact: &Artifact) -> bool {
    let width = artifact.head().is_none_or(|head| head.dim() == served.manifest().dimension());
    artifact.rung() == Some(Rung::ZeroShot) || (width && served.is_the_one(artifact.backbone()))
}

impl Described {
    /// Whether it answers on this backbone, which has the name of the one that it was fitted on.
    #[must_use]
    pub fn answers_on(&self, served: &Served) -> bool {
        fits(served, &self.artifact)
    }
}

/// By item, then by class.
type Said = Vec<Vec<f32>>;

/// Whether zero-shot labels have a part in what a version says.
fn asks_names(version: &LiveVersion) -> bool {
    matches!(&*version.artifact, Artifact::FewShot(few_shot) if few_shot.weight() < 1.0)
}

/// Probabilities by classifier, then by item. Versions that score along are compared on the way.
async fn apply(
    cx: &TaskContext,
    served: &Served,
    chosen: Vec<Chosen>,
    items: &Items,
    caller: Caller,
) -> Result<Vec<Said>, TaskError> {
    // Those that are asked, then those that score along on the same features.
    let along = chosen.iter().filter_map(|chosen| chosen.shadow.as_ref().map(|(version, _)| version));
    let all: Vec<LiveVersion> = chosen.iter().map(|chosen| &chosen.version).chain(along).cloned().collect();
    let mut answers = heads_say(cx, &chosen, &all, items, caller.class).await?;
    for (version, said) in all.iter().zip(&mut answers) {
        if let Artifact::FewShot(few_shot) = &*version.artifact
            && asks_names(version)
        {
            let names = names_say(cx, served, few_shot.wording(), items, caller).await?;
            *said = names
                .iter()
                .enumerate()
                .map(|(item, names)| few_shot.pool(names, said.get(item).map_or(&[], Vec::as_slice)))
                .collect();
        }
    }
    let said = answers.split_off(chosen.len());
    compare(&chosen, &answers, &said);
    Ok(answers)
}

/// Probabilities of every head: their first layers are one product. Nothing for versions without a head.
async fn heads_say(
    cx: &TaskContext,
    chosen: &[Chosen],
    all: &[LiveVersion],
    items: &Items,
    class: Class,
) -> Result<Vec<Said>, TaskError> {
    let count = items.items.len();
    let width = items.items.first().map_or(0, |item| item.features.len());
    let features: Vec<f32> = items.items.iter().flat_map(|item| item.features.iter().copied()).collect();
    let features = Array2::from_shape_vec((count, width), features)
        .map_err(|_| TaskError::Bug("features of different widths"))?;
    let ids: Vec<_> = all.iter().map(|version| version.id).collect();
    let rows: usize = all.iter().filter_map(|version| version.artifact.head()).map(|head| head.rows()).sum();
    // All were chosen of one snapshot and take features of this width, so that one stack has them all.
    let first = chosen.first().cloned();
    let work = move || -> Result<Vec<Said>, MethodError> {
        let asks = ids.iter().flatten().flat_map(|head| (0..count).map(|row| Ask { row, head: *head }));
        let asks: Vec<Ask> = asks.collect();
        let Some(stack) = first.as_ref().and_then(|first| first.stack(width)).filter(|_| !asks.is_empty())
        else {
            return Ok(vec![Vec::new(); ids.len()]);
        };
        let mut answers = stack.probabilities(features.view(), &asks)?.into_iter();
        let mut of = |id: &Option<_>| id.map(|_| answers.by_ref().take(count).collect()).unwrap_or_default();
        Ok(ids.iter().map(&mut of).collect())
    };
    let inline = count * width * rows <= INLINE_PRODUCTS;
    let answers = if inline { work() } else { cx.offload(class).run(work).await? };
    answers.map_err(|error| {
        tracing::error!(%error, "heads could not be applied");
        TaskError::Bug("heads could not be applied")
    })
}

/// Zero-shot probabilities of a classifier's labels for items whose features, and logits where they are wanted, are there.
pub(crate) async fn names_say(
    cx: &TaskContext,
    served: &Served,
    wording: &Wording,
    items: &Items,
    caller: Caller,
) -> Result<Said, TaskError> {
    let question = Question {
        labels: &wording.labels,
        template: wording.template.as_deref(),
        independent: wording.multi_label,
        // They are the classifier's own: whoever asks it can change nothing about them.
        truncate: Truncate::End,
        field: "labels",
    };
    let Judged { probabilities, .. } = zero_shot::judge_items(cx, served, items, question, caller).await?;
    Ok(probabilities)
}

/// Counts where versions that score along say something else than those that answer.
fn compare(heads: &[Chosen], answers: &[Vec<Vec<f32>>], said: &[Vec<Vec<f32>>]) {
    let shadowed = heads.iter().zip(answers).filter_map(|(chosen, answers)| {
        chosen.shadow.as_ref().map(|(version, metrics)| (&chosen.version, answers, version, metrics))
    });
    for ((version, answers, shadow, metrics), said) in shadowed.zip(said) {
        for (answer, said) in answers.iter().zip(said) {
            let same = verdict(&version.artifact, answer) == verdict(&shadow.artifact, said);
            if same { metrics.agreed.inc() } else { metrics.differed.inc() }
        }
    }
}

/// The labels that a version gives an item, sorted.
#[must_use]
pub fn verdict<'a>(artifact: &'a Artifact, scores: &[f32]) -> Vec<&'a str> {
    let named = artifact.labels().iter().map(String::as_str).zip(scores);
    if !artifact.multi_label() {
        let best = named.fold(None, |best: Option<(&str, f32)>, (name, score)| match best {
            Some((_, most)) if most >= *score => best,
            _ => Some((name, *score)),
        });
        return best.map(|(name, _)| name).into_iter().collect();
    }
    let own = |class: usize| artifact.thresholds().and_then(|all| all.get(class)).copied();
    let mut labels: Vec<&str> = named
        .enumerate()
        .filter(|(class, (_, score))| **score >= own(*class).unwrap_or(PRESENT))
        .map(|(_, (name, _))| name)
        .collect();
    labels.sort_unstable();
    labels
}
