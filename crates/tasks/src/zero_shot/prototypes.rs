//! Labels to prototypes: what a label looks like in the space where items are compared with it. Cached, since teams
//! ask with the same labels again and again.

use std::sync::Arc;

use headstart_engine::Want;
use headstart_types::Label;
use headstart_types::payload::{Datum, Truncate};

use crate::cache::{Cached, Key};
use crate::catalog::Served;
use crate::context::{Caller, TaskContext};
use crate::error::TaskError;
use crate::items::{self, Reading, Timings};

/// Label texts sent to the queue at a time, so that a thousand labels do not fill it.
const TEXTS_AT_ONCE: usize = 256;

/// Where a label goes in a template.
pub(super) const PLACE: &str = "{}";

/// Prototypes in the order of the labels, and what they cost.
pub(super) struct Prototypes {
    pub(super) vectors: Vec<Arc<[f32]>>,
    pub(super) tokens: usize,
    pub(super) timings: Timings,
}

/// How labels are read.
pub(super) struct Recipe<'a> {
    /// Names everything constant that prototypes depend on, in cache keys.
    pub(super) fingerprint: Key,
    pub(super) templates: &'a [String],
}

/// What a label's texts look like to the text backbone, unit vectors.
pub(super) struct LabelVectors<'a> {
    /// One for each template.
    pub(super) templated: &'a [Arc<[f32]>],
    /// Of the description.
    pub(super) description: Option<&'a [f32]>,
    /// One for each example.
    pub(super) examples: &'a [Arc<[f32]>],
}

/// Makes a prototype of every label. `combine` turns a label's vectors into its prototype.
pub(super) async fn prototypes(
    cx: &TaskContext,
    text: &Served,
    labels: &[Label],
    recipe: Recipe<'_>,
    caller: Caller,
    combine: impl Fn(&LabelVectors<'_>) -> Vec<f32>,
) -> Result<Prototypes, TaskError> {
    let keys: Vec<Key> = labels.iter().map(|label| key(&recipe, label)).collect();
    let mut vectors: Vec<Option<Arc<[f32]>>> =
        keys.iter().map(|key| cx.labels.get(key).map(|cached| cached.features)).collect();
    let missing: Vec<usize> = (0..labels.len()).filter(|index| vectors[*index].is_none()).collect();
    let texts: Vec<Vec<String>> = missing.iter().map(|index| texts(&recipe, &labels[*index])).collect();
    let (embedded, tokens, timings) =
        embed(cx, text, texts.iter().flatten().cloned().collect(), caller).await?;

    let mut rest = embedded.as_slice();
    for index in missing {
        let label = &labels[index];
        let (templated, after) = split(rest, recipe.templates.len())?;
        let (description, after) = split(after, usize::from(label.description.is_some()))?;
        let (examples, after) = split(after, label.examples.len())?;
        rest = after;
        let prototype: Arc<[f32]> = combine(&LabelVectors {
            templated,
            description: description.first().map(AsRef::as_ref),
            examples,
        })
        .into();
        cx.labels.put(keys[index], Cached { features: Arc::clone(&prototype), logits: Vec::new().into() });
        vectors[index] = Some(prototype);
    }
    let vectors =
        vectors.into_iter().collect::<Option<Vec<_>>>().ok_or(TaskError::Bug("a label without prototype"))?;
    Ok(Prototypes { vectors, tokens, timings })
}

type Vectors = [Arc<[f32]>];

fn split(vectors: &Vectors, count: usize) -> Result<(&Vectors, &Vectors), TaskError> {
    vectors.split_at_checked(count).ok_or(TaskError::Bug("fewer label vectors than label texts"))
}

/// The texts of a label in the order that [`prototypes`] takes them apart again.
fn texts(recipe: &Recipe<'_>, label: &Label) -> Vec<String> {
    let templated = recipe.templates.iter().map(|template| template.replacen(PLACE, &label.label, 1));
    templated.chain(label.description.clone()).chain(label.examples.iter().cloned()).collect()
}

fn key(recipe: &Recipe<'_>, label: &Label) -> Key {
    let mut parts: Vec<&[u8]> = vec![recipe.fingerprint.as_bytes()];
    parts.extend(recipe.templates.iter().map(String::as_bytes));
    parts.push(b"label");
    parts.push(label.label.as_bytes());
    parts.push(label.description.as_ref().map_or(b"", |text| text.as_bytes()));
    parts.extend(label.examples.iter().map(String::as_bytes));
    Key::of(&parts)
}

async fn embed(
    cx: &TaskContext,
    text: &Served,
    texts: Vec<String>,
    caller: Caller,
) -> Result<(Vec<Arc<[f32]>>, usize, Timings), TaskError> {
    let (mut vectors, mut tokens, mut timings) = (Vec::with_capacity(texts.len()), 0, Timings::default());
    for chunk in texts.chunks(TEXTS_AT_ONCE) {
        let data = chunk.iter().cloned().map(Datum::Text).collect();
        let reading = Reading {
            field: "labels",
            want: Want { features: true, logits: false },
            truncate: Truncate::End,
            prompt: None,
        };
        let items = items::compute(cx, text, data, reading, &cx.labels, caller).await?;
        tokens += items.tokens();
        timings = timings.beside(items.timings);
        vectors.extend(items.items.into_iter().map(|item| item.features));
    }
    Ok((vectors, tokens, timings))
}
