//! Items against labels: which method a backbone uses, and its scores as probabilities.

use std::sync::Arc;

use headstart_engine::{Folder, Want};
use headstart_types::Label;
use headstart_types::manifest::{
    CalibrationSpec, ConseSpec, LabelSpec, SimilaritySpec, TowersSpec, ZeroShotSpec,
};
use headstart_types::payload::{Datum, Truncate};

use crate::cache::Key;
use crate::catalog::{Encoder, Served};
use crate::context::{Caller, Owed, TaskContext};
use crate::error::TaskError;
use crate::items::{self, Item, Items, Lost, Reading, Timings};
use crate::npy::Table;
use crate::pairs::{self, Named};
use crate::zero_shot::conse;
use crate::zero_shot::entailment::{self, Entailment};
use crate::zero_shot::prototypes::{LabelVectors, PLACE, Prototypes, Recipe, check_room, prototypes};

/// Longest template in bytes: it is read once a label.
const TEMPLATE_BYTES: usize = 16 << 10;

/// Scores computed on the asynchronous thread; more go to the CPU pool.
const INLINE_PRODUCTS: usize = 1 << 18;

/// What zero-shot needs beside the graph, read and checked when the backbone loads.
pub(crate) struct ZeroShot {
    kind: Kind,
    fingerprint: Key,
}

enum Kind {
    /// Items and labels each have numbers of their own, which are compared.
    Compared(Arc<Method>),
    /// An item and a label are read together.
    Entailed(Entailment),
}

enum Method {
    /// Cosine of the item's and the label's embeddings.
    Similarity { spec: SimilaritySpec },
    /// The same where texts are read by the text tower.
    Towers { spec: TowersSpec },
    /// The source head's classes bridged to the labels by text vectors.
    Conse { spec: ConseSpec, classes: Table },
}

impl ZeroShot {
    /// Reads what the manifest's `[zero_shot]` names; `None` without one.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub(crate) fn load(folder: &Folder) -> Result<Option<Self>, String> {
        let Some(spec) = &folder.manifest().zero_shot else { return Ok(None) };
        let compared = |method| Kind::Compared(Arc::new(method));
        let (kind, file) = match spec {
            ZeroShotSpec::Similarity(spec) => {
                (compared(Method::Similarity { spec: spec.clone() }), Vec::new())
            }
            ZeroShotSpec::Towers(spec) => (compared(Method::Towers { spec: spec.clone() }), Vec::new()),
            ZeroShotSpec::Entailment(spec) => {
                let classes = folder.classes().map_err(|error| error.to_string())?;
                (Kind::Entailed(Entailment::new(spec, &classes)?), Vec::new())
            }
            ZeroShotSpec::Conse(spec) => {
                let bytes = folder.read(&spec.classes).map_err(|error| error.to_string())?;
                let classes =
                    Table::read(&bytes).map_err(|problem| format!("classes: {}: {problem}", spec.classes))?;
                (compared(Method::Conse { spec: spec.clone(), classes }), bytes)
            }
        };
        let constants = format!("{spec:?}");
        Ok(Some(Self { kind, fingerprint: Key::of(&[constants.as_bytes(), &file]) }))
    }
}

/// Labels to score items against.
pub(crate) struct Question<'a> {
    pub(crate) labels: &'a [Label],
    /// Replaces the model's own templates.
    pub(crate) template: Option<&'a str>,
    /// Whether labels are scored on their own, rather than against each other.
    pub(crate) independent: bool,
    /// What happens to a label, description or example longer than the text backbone takes.
    pub(crate) truncate: Truncate,
    /// What errors call the list of labels.
    pub(crate) field: &'a str,
}

/// Probabilities of the labels for each item, in the order of both.
pub(crate) struct Judged {
    pub(crate) probabilities: Vec<Vec<f32>>,
    /// What was not read of each item.
    pub(crate) lost: Vec<Lost>,
    /// Tokens beyond those of [`Observed::tokens`].
    pub(crate) tokens: usize,
    pub(crate) timings: Timings,
}

/// Items as far as they can be read before there are labels.
pub(crate) enum Observed {
    /// Their numbers.
    Items(Items),
    /// Their texts, which are read together with each label, and what is owed for them until then.
    Texts(Vec<Named>, Owed),
}

impl Observed {
    /// Tokens used so far.
    pub(crate) fn tokens(&self) -> usize {
        match self {
            Self::Items(items) => items.tokens(),
            Self::Texts(..) => 0,
        }
    }

    /// Time used so far.
    pub(crate) fn timings(&self) -> Timings {
        match self {
            Self::Items(items) => items.timings,
            Self::Texts(..) => Timings::default(),
        }
    }
}

/// What an item must have so that labels can be compared with it: its features, or its source head's logits.
pub(crate) fn wants(served: &Served) -> Result<Want, TaskError> {
    Ok(match method(served)?.as_ref() {
        Method::Similarity { .. } | Method::Towers { .. } => Want { features: true, logits: false },
        Method::Conse { .. } => Want { features: false, logits: true },
    })
}

/// Refuses a template without a place for the label, or that leaves one of the labels no room.
pub(crate) async fn check_template(
    cx: &TaskContext,
    served: &Served,
    template: &str,
    labels: &[Label],
) -> Result<(), TaskError> {
    own_template(template)?;
    let method = method(served)?;
    let text = text_backbone(cx, served, &method).await?;
    let Encoder::Text(encoder) = &text.served(served).encoder else {
        return Err(TaskError::Bug("labels are read by a backbone that reads no texts"));
    };
    check_room(encoder, template, labels)
}

/// Takes the items of the key's minute and computes what labels will be compared with: an item's features, or its source
/// head's logits; or keeps its text.
pub(crate) async fn observe(
    cx: &TaskContext,
    served: &Served,
    field: &str,
    data: Vec<Datum>,
    truncate: Truncate,
    caller: Caller,
) -> Result<Observed, TaskError> {
    if let Kind::Entailed(_) = kind(served)? {
        let owed = Owed::of(data.len());
        return pairs::texts(cx, field, data).map(|texts| Observed::Texts(texts, owed));
    }
    let reading = Reading { field, want: wants(served)?, truncate, prompt: None };
    let admitted = items::admit(cx, served, &data, field)?;
    cx.take_items(data.len(), caller)?;
    let items = items::compute(cx, served, (data, admitted), reading, &cx.features, caller).await?;
    Ok(Observed::Items(items))
}

/// Scores observed items against labels.
pub(crate) async fn judge(
    cx: &TaskContext,
    served: &Served,
    observed: &Observed,
    question: Question<'_>,
    caller: Caller,
) -> Result<Judged, TaskError> {
    match (observed, kind(served)?) {
        (Observed::Items(items), Kind::Compared(_)) => judge_items(cx, served, items, question, caller).await,
        (Observed::Texts(texts, owed), Kind::Entailed(entailment)) => {
            let own_template = question.template.map(own_template).transpose()?;
            let question = (question, own_template.as_deref());
            entailment::judge(cx, served, entailment, (texts, owed), question, caller).await
        }
        (Observed::Items(_), Kind::Entailed(_)) | (Observed::Texts(..), Kind::Compared(_)) => {
            Err(TaskError::Bug("items were observed for another backbone"))
        }
    }
}

/// Scores items whose numbers are there against labels.
pub(crate) async fn judge_items(
    cx: &TaskContext,
    served: &Served,
    items: &Items,
    question: Question<'_>,
    caller: Caller,
) -> Result<Judged, TaskError> {
    let method = method(served)?;
    let labels = method.labels();
    let calibration = method.calibration(served, question.independent)?;
    let own_template = question.template.map(own_template).transpose()?;
    let templates = own_template.as_ref().unwrap_or(&labels.templates);
    let text = text_backbone(cx, served, &method).await?;
    let fingerprint = served.zero_shot.as_ref().map(|zero_shot| zero_shot.fingerprint);
    let fingerprint = fingerprint.ok_or(TaskError::Bug("zero-shot without a method"))?;
    let recipe = Recipe {
        fingerprint: Key::of(&[fingerprint.as_bytes(), text.fingerprint().as_bytes()]),
        templates,
        own_template: own_template.is_some(),
        truncate: question.truncate,
        field: question.field,
    };
    let combine = |vectors: &LabelVectors<'_>| method.prototype(labels, vectors);
    let Prototypes { vectors, tokens, timings } =
        prototypes(cx, text.served(served), question.labels, recipe, caller, combine).await?;

    let evidence: Vec<Arc<[f32]>> = items
        .items
        .iter()
        .map(|item| Arc::clone(if item.logits.is_empty() { &item.features } else { &item.logits }))
        .collect();
    let products: usize = evidence.iter().map(|vector| vector.len()).sum::<usize>() * vectors.len();
    let independent = question.independent;
    let scoring = {
        let method = Arc::clone(&method);
        move || -> Vec<Vec<f32>> {
            let corrections = method.corrections(&vectors, independent);
            evidence
                .iter()
                .map(|item| {
                    let mut scores = method.scores(item, &vectors);
                    scores.iter_mut().zip(&corrections).for_each(|(score, correction)| *score -= correction);
                    calibrate(&scores, &calibration, independent)
                })
                .collect()
        }
    };
    let probabilities =
        if products <= INLINE_PRODUCTS { scoring() } else { cx.offload(caller.class).run(scoring).await? };
    let lost = items.items.iter().map(Item::lost).collect();
    Ok(Judged { probabilities, lost, tokens, timings })
}

fn kind(served: &Served) -> Result<&Kind, TaskError> {
    let zero_shot = served.zero_shot.as_ref().ok_or_else(|| {
        TaskError::invalid("model", format!("`{}` does not score labels that nobody trained on", served.id()))
    })?;
    Ok(&zero_shot.kind)
}

/// How numbers are compared, of a backbone that gives any.
fn method(served: &Served) -> Result<Arc<Method>, TaskError> {
    match kind(served)? {
        Kind::Compared(method) => Ok(Arc::clone(method)),
        Kind::Entailed(_) => {
            served.check_features("model")?;
            Err(TaskError::Bug("a backbone with features labels by entailment"))
        }
    }
}

fn own_template(template: &str) -> Result<Vec<String>, TaskError> {
    if template.len() > TEMPLATE_BYTES {
        let problem = format!("has {} bytes; at most {TEMPLATE_BYTES} are taken", template.len());
        Err(TaskError::invalid("template", problem))
    } else if template.matches(PLACE).count() == 1 {
        Ok(vec![template.to_owned()])
    } else {
        Err(TaskError::invalid("template", "must hold `{}` once, where the label goes"))
    }
}

/// The text backbone that reads labels: the backbone itself, or another one.
enum TextBackbone {
    Itself(Key),
    Other(Arc<Served>),
}

impl TextBackbone {
    fn fingerprint(&self) -> Key {
        match self {
            Self::Itself(key) => *key,
            Self::Other(other) => other.fingerprint,
        }
    }

    fn served<'a>(&'a self, itself: &'a Served) -> &'a Served {
        match self {
            Self::Itself(_) => itself,
            Self::Other(other) => other,
        }
    }
}

async fn text_backbone(
    cx: &TaskContext,
    served: &Served,
    method: &Method,
) -> Result<TextBackbone, TaskError> {
    match method {
        Method::Similarity { .. } => Ok(TextBackbone::Itself(served.fingerprint)),
        Method::Towers { .. } => {
            let tower = served.text_tower.as_ref().map(Arc::clone).map(TextBackbone::Other);
            tower.ok_or(TaskError::Bug("labels by towers without a text tower"))
        }
        Method::Conse { spec, .. } => {
            let text = cx.catalog.get(&spec.text_backbone).await;
            text.map(TextBackbone::Other).map_err(|error| error.behind(served.id(), "its text backbone"))
        }
    }
}

/// Refuses a backbone that only scores labels against each other.
pub(crate) fn check_independent(served: &Served) -> Result<(), TaskError> {
    match kind(served)? {
        Kind::Compared(method) => method.calibration(served, true).map(|_| ()),
        Kind::Entailed(_) => Ok(()),
    }
}

impl Method {
    fn labels(&self) -> &LabelSpec {
        match self {
            Self::Similarity { spec } => &spec.labels,
            Self::Towers { spec } => &spec.labels,
            Self::Conse { spec, .. } => &spec.labels,
        }
    }

    /// How scores become probabilities, of labels against each other or on their own.
    fn calibration(&self, served: &Served, independent: bool) -> Result<CalibrationSpec, TaskError> {
        match self {
            Self::Similarity { spec } => Ok(spec.calibration.clone()),
            Self::Conse { spec, .. } => Ok(spec.calibration.clone()),
            Self::Towers { spec: TowersSpec { logit_bias: None, .. } } if independent => {
                let problem = format!(
                    "`{}` scores labels against each other only: it was trained without a `logit_bias`",
                    served.id()
                );
                Err(TaskError::invalid("model", problem))
            }
            Self::Towers { spec } => Ok(CalibrationSpec {
                temperature: 1.0 / spec.logit_scale,
                slope: spec.logit_scale,
                intercept: spec.logit_bias.unwrap_or_default(),
            }),
        }
    }

    /// A label's prototype: the mean of its templated texts, with description and examples mixed in.
    fn prototype(&self, spec: &LabelSpec, vectors: &LabelVectors<'_>) -> Vec<f32> {
        let mut mixed = mean(vectors.templated);
        if let Some(description) = vectors.description {
            mixed = mix(&mixed, description, spec.description_weight);
        }
        if !vectors.examples.is_empty() {
            let count = vectors.examples.len() as f32;
            mixed = mix(&mixed, &mean(vectors.examples), count / (count + spec.example_prior));
        }
        match self {
            Self::Similarity { .. } | Self::Towers { .. } => unit(mixed),
            Self::Conse { spec, classes } => conse::class_weights(classes, &unit(mixed), spec.perplexity),
        }
    }

    /// One item's score of each prototype, before calibration.
    fn scores(&self, item: &[f32], prototypes: &[Arc<[f32]>]) -> Vec<f64> {
        match self {
            Self::Similarity { .. } | Self::Towers { .. } => {
                let item = unit(item.to_vec());
                prototypes.iter().map(|prototype| dot(&item, prototype)).collect()
            }
            Self::Conse { spec, .. } => {
                let classes = conse::class_probabilities(item, spec.class_temperature);
                prototypes.iter().map(|weights| conse::score(&classes, weights)).collect()
            }
        }
    }

    /// What is taken off each prototype's scores.
    fn corrections(&self, prototypes: &[Arc<[f32]>], independent: bool) -> Vec<f64> {
        match self {
            Self::Similarity { .. } | Self::Towers { .. } => vec![0.0; prototypes.len()],
            Self::Conse { spec, .. } => {
                let share = if independent { spec.independent_breadth } else { spec.breadth };
                prototypes.iter().map(|weights| share * conse::own_score(weights)).collect()
            }
        }
    }
}

/// Scores as probabilities: against each other by a softmax, or each on its own by a logistic curve (Platt 1999).
fn calibrate(scores: &[f64], calibration: &CalibrationSpec, independent: bool) -> Vec<f32> {
    if independent {
        let logistic =
            |score: &f64| 1.0 / (1.0 + (-(calibration.slope * score + calibration.intercept)).exp());
        return scores.iter().map(|score| logistic(score) as f32).collect();
    }
    conse::spread(scores, calibration.temperature).into_iter().map(|probability| probability as f32).collect()
}

fn mean(vectors: &[Arc<[f32]>]) -> Vec<f32> {
    let mut sum = vec![0.0; vectors.first().map_or(0, |vector| vector.len())];
    for vector in vectors {
        sum.iter_mut().zip(vector.iter()).for_each(|(sum, value)| *sum += value);
    }
    unit(sum)
}

fn mix(base: &[f32], other: &[f32], weight: f32) -> Vec<f32> {
    base.iter().zip(other).map(|(base, other)| (1.0 - weight) * base + weight * other).collect()
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = dot(&vector, &vector).sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) / norm) as f32);
    }
    vector
}

fn dot(left: &[f32], right: &[f32]) -> f64 {
    left.iter().zip(right).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}
