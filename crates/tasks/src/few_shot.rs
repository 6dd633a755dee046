//! Classifiers without a job: labels are checked, and examples get the numbers that they are learned from.

use headstart_engine::Want;
use headstart_methods::few_shot::{Content, FewShot, Wording};
use headstart_methods::head::Backbone;
use headstart_types::Payload;
use headstart_types::payload::{Datum, Media, Truncate};

use crate::catalog::Served;
use crate::context::{Caller, TaskContext, TaskLimits};
use crate::error::TaskError;
use crate::items::{self, Reading};
use crate::labels::Labels;
use crate::scores::names_say;
use crate::zero_shot;

/// What a classifier is made of before it has examples.
#[derive(Debug)]
pub struct Words {
    /// The backbone.
    pub model: String,
    /// Its labels.
    pub labels: Labels,
    /// A sentence with `{}` where the label goes.
    pub template: Option<String>,
    /// Whether an item may have several labels.
    pub multi_label: bool,
}

/// An example as the service sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// As the backbone gives them.
    pub features: Vec<f32>,
    /// Probabilities of the labels by their names; nothing where no names are asked.
    pub zero_shot: Vec<f32>,
    /// What it is known by.
    pub content: Content,
}

/// A classifier that answers by its labels' names.
///
/// # Errors
/// [`TaskError`] naming the field.
pub async fn create(cx: &TaskContext, words: Words) -> Result<FewShot, TaskError> {
    let served = cx.catalog.get(&words.model).await?;
    zero_shot::wants(&served)?;
    if words.multi_label {
        zero_shot::check_independent(&served)?;
    }
    let labels = words.labels.check("labels", &cx.limits)?;
    if labels.len() < 2 && !words.multi_label {
        return Err(TaskError::invalid("labels", "has one label, which would always apply"));
    }
    if let Some(template) = &words.template {
        zero_shot::check_template(cx, &served, template, &labels).await?;
    }
    let backbone = backbone(&served);
    let wording = Wording { labels, template: words.template, multi_label: words.multi_label, backbone };
    Ok(FewShot::new(wording))
}

/// Looks at examples for a classifier on the backbone that it was `fitted_on`. Where `wording` is given, its labels' names are asked as well.
///
/// # Errors
/// [`TaskError`] naming the example.
pub async fn look_at(
    cx: &TaskContext,
    fitted_on: &Backbone,
    wording: Option<&Wording>,
    examples: Payload,
    caller: Caller,
) -> Result<Vec<Seen>, TaskError> {
    let served = cx.catalog.of_version(&fitted_on.id).await?;
    if !served.is_the_one(fitted_on) {
        return Err(TaskError::other_backbone(&fitted_on.id));
    }
    cx.check_items(examples.len())?;
    let data = served.data(examples, "examples", None)?;
    let admitted = items::admit(cx, &served, &data, "examples")?;
    let logits = match wording {
        Some(_) => zero_shot::wants(&served)?.logits,
        None => false,
    };
    cx.take_items(data.len(), caller)?;
    let (data, contents) = identified(cx, data, caller).await?;
    let want = Want { features: true, logits };
    let reading = Reading { field: "examples", want, truncate: Truncate::End, prompt: None };
    let items = items::compute(cx, &served, (data, admitted), reading, &cx.features, caller).await?;
    let names = match wording {
        Some(wording) => names_say(cx, &served, wording, &items, caller).await?,
        None => vec![Vec::new(); items.items.len()],
    };
    let seen = items.items.iter().zip(names).zip(contents);
    let seen = seen.map(|((item, zero_shot), content)| Seen {
        features: item.features.to_vec(),
        zero_shot,
        content,
    });
    Ok(seen.collect())
}

/// What examples are known by.
///
/// # Errors
/// [`TaskError`] naming the example that is of another modality or not base64.
pub async fn contents(
    cx: &TaskContext,
    model: &str,
    examples: Payload,
    caller: Caller,
) -> Result<Vec<Content>, TaskError> {
    let served = cx.catalog.of_version(model).await?;
    let data = served.data(examples, "examples", None)?;
    identified(cx, data, caller).await.map(|(_, contents)| contents)
}

/// Examples with what they are known by; pictures and sounds are files from here on, so that none is taken from base64 twice.
async fn identified(
    cx: &TaskContext,
    data: Vec<Datum>,
    caller: Caller,
) -> Result<(Vec<Datum>, Vec<Content>), TaskError> {
    let limits = cx.limits;
    let work = move || {
        let count = data.len();
        let data = data.into_iter().enumerate();
        data.map(|(index, datum)| identify(datum, &limits, items::item_name("examples", index, count)))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(cx.offload(caller.class).run(work).await??.into_iter().unzip())
}

/// What a text is known by.
#[must_use]
pub fn text_content(text: &str) -> Content {
    blake3::Hasher::new().update(b"text\0").update(text.as_bytes()).finalize().into()
}

/// What a picture's file is known by.
#[must_use]
pub fn image_content(bytes: &[u8]) -> Content {
    blake3::Hasher::new().update(b"image\0").update(bytes).finalize().into()
}

/// What a sound's file is known by.
#[must_use]
pub fn sound_content(bytes: &[u8]) -> Content {
    blake3::Hasher::new().update(b"audio\0").update(bytes).finalize().into()
}

fn identify(datum: Datum, limits: &TaskLimits, name: String) -> Result<(Datum, Content), TaskError> {
    match datum {
        Datum::Text(text) => {
            let content = text_content(&text);
            Ok((Datum::Text(text), content))
        }
        Datum::Tokens(_) => {
            Err(TaskError::invalid(name, "is tokens; examples are texts, pictures or sounds"))
        }
        Datum::Image(media) => {
            let bytes = items::media_bytes(media, &limits.media)
                .map_err(|source| TaskError::Media { param: name, source })?;
            let content = image_content(&bytes);
            Ok((Datum::Image(Media::Bytes(bytes)), content))
        }
        Datum::Audio(media) => {
            let bytes = items::media_bytes(media, &limits.media)
                .map_err(|source| TaskError::Media { param: name, source })?;
            let content = sound_content(&bytes);
            Ok((Datum::Audio(Media::Bytes(bytes)), content))
        }
    }
}

fn backbone(served: &Served) -> Backbone {
    let manifest = &served.manifest().backbone;
    Backbone { id: manifest.id.clone(), sha256: manifest.sha256.clone() }
}
