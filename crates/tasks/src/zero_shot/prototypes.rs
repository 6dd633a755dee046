//! Labels to prototypes: what a label looks like in the space where items are compared with it. Cached, since teams
//! ask with the same labels again and again.

use std::sync::Arc;

use headstart_engine::Want;
use headstart_media::MediaError;
use headstart_types::Label;
use headstart_types::payload::Truncate;

use crate::cache::{Cached, Key};
use crate::catalog::Served;
use crate::context::{Caller, TaskContext};
use crate::error::TaskError;
use crate::items::{self, Timings};
use crate::reader::{Read, Reader};

/// Label texts sent to the queue at a time, so that a thousand labels do not fill it.
const TEXTS_AT_ONCE: usize = 256;

/// Where a label goes in a template.
pub(super) const PLACE: &str = "{}";

/// Prototypes in the order of the labels, and what they are made of.
pub(super) struct Prototypes {
    pub(super) vectors: Vec<Arc<[f32]>>,
    /// Tokens of the labels' texts, whether these were computed now or before.
    pub(super) tokens: usize,
    pub(super) timings: Timings,
}

/// How labels are read.
pub(super) struct Recipe<'a> {
    /// Names everything constant that prototypes depend on, in cache keys.
    pub(super) fingerprint: Key,
    pub(super) templates: &'a [String],
    /// Whether the template is the caller's, who can be told that it is too long.
    pub(super) own_template: bool,
    pub(super) truncate: Truncate,
    /// What errors call the list of labels.
    pub(super) field: &'a str,
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
    let mut found: Vec<Option<Cached>> = keys.iter().map(|key| cx.labels.get(key)).collect();
    let missing: Vec<usize> = (0..labels.len()).filter(|index| found[*index].is_none()).collect();
    let texts: Vec<LabelText> = missing
        .iter()
        .flat_map(|index| texts(&recipe, &labels[*index], &format!("{}[{index}]", recipe.field)))
        .collect();
    let (embedded, timings) = embed(cx, text, &texts, recipe.truncate, caller).await?;

    let mut rest = embedded.as_slice();
    for index in missing {
        let label = &labels[index];
        let (templated, after) = split(rest, recipe.templates.len())?;
        let (description, after) = split(after, usize::from(label.description.is_some()))?;
        let (examples, after) = split(after, label.examples.len())?;
        let tokens = rest.iter().take(rest.len() - after.len()).map(|(_, tokens)| tokens).sum();
        rest = after;
        let vectors = |of: &[Embedded]| of.iter().map(|(vector, _)| Arc::clone(vector)).collect::<Vec<_>>();
        let features = combine(&LabelVectors {
            templated: &vectors(templated),
            description: description.first().map(|(vector, _)| vector.as_ref()),
            examples: &vectors(examples),
        });
        let made = Cached { features: features.into(), logits: Vec::new().into(), tokens };
        cx.labels.put(keys[index], made.clone());
        found[index] = Some(made);
    }
    let found =
        found.into_iter().collect::<Option<Vec<_>>>().ok_or(TaskError::Bug("a label without prototype"))?;
    let tokens = found.iter().map(|cached| cached.tokens).sum();
    Ok(Prototypes { vectors: found.into_iter().map(|cached| cached.features).collect(), tokens, timings })
}

/// A label text's vector and its tokens.
type Embedded = (Arc<[f32]>, usize);

fn split(vectors: &[Embedded], count: usize) -> Result<(&[Embedded], &[Embedded]), TaskError> {
    vectors.split_at_checked(count).ok_or(TaskError::Bug("fewer label vectors than label texts"))
}

/// A label, its description or an example of it, with the words of a template around it.
#[derive(Debug, Clone)]
struct LabelText {
    before: String,
    text: String,
    after: String,
    /// What errors call the label.
    name: String,
    /// Whether the template is the caller's.
    own_template: bool,
}

/// The texts of a label in the order that [`prototypes`] takes them apart again.
fn texts(recipe: &Recipe<'_>, label: &Label, name: &str) -> Vec<LabelText> {
    let own = recipe.own_template;
    let templated = recipe.templates.iter().map(|template| LabelText::of(template, &label.label, name, own));
    let others = label.description.iter().chain(&label.examples);
    templated.chain(others.map(|other| LabelText::of(PLACE, other, name, false))).collect()
}

impl LabelText {
    fn of(template: &str, text: &str, name: &str, own_template: bool) -> Self {
        let (before, after) = template.split_once(PLACE).unwrap_or((template, ""));
        Self {
            before: before.to_owned(),
            text: text.to_owned(),
            after: after.to_owned(),
            name: name.to_owned(),
            own_template,
        }
    }

    fn bytes(&self) -> usize {
        self.before.len() + self.text.len() + self.after.len()
    }

    /// Its tokens. What is too long is cut as `truncate` says, but a label is never cut to make room for the caller's
    /// template.
    fn encode(&self, encoder: &Reader, truncate: Truncate) -> Result<Read, TaskError> {
        let around = (self.before.as_str(), self.after.as_str());
        let refused = |source, param: &str| Err(TaskError::Media { param: param.to_owned(), source });
        match encoder.encode_within(around, &self.text, Truncate::None) {
            Ok(whole) => Ok(whole),
            // The model's own templates are short; so it is the caller's.
            Err(source @ MediaError::NoRoom { .. }) => refused(source, "template"),
            Err(source @ MediaError::TooLong { .. }) => {
                if self.own_template && encoder.encode(&self.text, None, Truncate::None).is_ok() {
                    return refused(source, "template");
                }
                if truncate == Truncate::None {
                    return refused(source, &self.name);
                }
                let cut = encoder.encode_within(around, &self.text, truncate);
                cut.or_else(|source| refused(source, &self.name))
            }
            Err(source) => refused(source, &self.name),
        }
    }
}

/// Refuses a template of the caller's that leaves one of the labels no room.
pub(super) fn check_room(encoder: &Reader, template: &str, labels: &[Label]) -> Result<(), TaskError> {
    labels.iter().enumerate().try_for_each(|(index, label)| {
        let text = LabelText::of(template, &label.label, &format!("labels[{index}]"), true);
        text.encode(encoder, Truncate::End).map(|_| ())
    })
}

fn key(recipe: &Recipe<'_>, label: &Label) -> Key {
    // What was cut one way, or must not be cut, is not what was cut another way.
    let truncate: &[u8] = match recipe.truncate {
        Truncate::None => b"none",
        Truncate::Start => b"start",
        Truncate::End => b"end",
    };
    let own = [u8::from(recipe.own_template)];
    let mut parts: Vec<&[u8]> = vec![recipe.fingerprint.as_bytes(), truncate, &own];
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
    texts: &[LabelText],
    truncate: Truncate,
    caller: Caller,
) -> Result<(Vec<Embedded>, Timings), TaskError> {
    let (mut embedded, mut timings) = (Vec::with_capacity(texts.len()), Timings::default());
    // Half of a short queue: the other half is for those that ask at the same time.
    let at_once = TEXTS_AT_ONCE.min(text.queue_items().div_ceil(2));
    for chunk in texts.chunks(at_once) {
        let (permit, bytes) = (text.admit(chunk.len())?, chunk.iter().map(LabelText::bytes).sum());
        let chunk = chunk.to_vec();
        let read = move |encoder: &Reader| {
            chunk.iter().map(|text| text.encode(encoder, truncate)).collect::<Result<Vec<_>, _>>()
        };
        let want = Want { features: true, logits: false };
        let items = items::compute_read(cx, text, ((permit, bytes), want), read, &cx.labels, caller).await?;
        timings = timings.beside(items.timings);
        embedded.extend(items.items.into_iter().map(|item| (item.features, item.tokens)));
    }
    Ok((embedded, timings))
}
