//! A few-shot classifier as bytes: wording, examples, and what was fitted on them.

use std::sync::Arc;

use headstart_types::Label;
use serde::{Deserialize, Serialize};

use super::{Content, FewShot, Rung, Said, Shown, Wording};
use crate::artifact;
use crate::container::{Reader, Writer};
use crate::error::MethodError;
use crate::head::Backbone;

const WHAT: &str = "few-shot classifier";

/// What [`save`] writes and [`load`] reads. A change of meaning is a new number.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    few_shot: u32,
    backbone: Backbone,
    labels: Vec<Label>,
    template: Option<String>,
    multi_label: bool,
    /// The labels of each example.
    examples: Vec<Vec<u32>>,
    said: Option<SaidDocument>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SaidDocument {
    labels: Vec<usize>,
    weight: f32,
    rung: Rung,
}

/// The classifier's bytes with its examples: a safetensors file, always the same for the same content.
///
/// # Errors
/// [`MethodError::Stored`] when the bytes cannot be built.
pub fn save(few_shot: &FewShot, shown: &Shown) -> Result<Vec<u8>, MethodError> {
    let wording = &few_shot.wording;
    let mut writer = Writer::default();
    writer.matrix("features", shown.features.view());
    writer.matrix("zero_shot", shown.zero_shot.view());
    writer.bytes("contents", shown.contents.as_flattened());
    let said = match &few_shot.said {
        Some(said) => {
            writer.bytes("head", &artifact::save(&said.head)?);
            Some(SaidDocument { labels: said.labels.clone(), weight: said.weight, rung: said.rung })
        }
        None => None,
    };
    let document = Document {
        few_shot: FORMAT,
        backbone: wording.backbone.clone(),
        labels: wording.labels.clone(),
        template: wording.template.clone(),
        multi_label: wording.multi_label,
        examples: shown.labels.clone(),
        said,
    };
    writer.finish(WHAT, &document)
}

/// The classifier and the examples behind bytes from anywhere.
///
/// # Errors
/// [`MethodError::Stored`] or [`MethodError::Head`] naming the first thing that does not fit.
pub fn load(bytes: &[u8]) -> Result<(FewShot, Shown), MethodError> {
    let reader = Reader::new(WHAT, bytes)?;
    let document: Document = reader.document()?;
    if document.few_shot != FORMAT {
        return Err(reader.error(format!("format {} is not {FORMAT}", document.few_shot)));
    }
    let (contents, rest) = reader.bytes("contents")?.as_chunks::<{ size_of::<Content>() }>();
    let shown = Shown {
        features: reader.matrix("features")?,
        zero_shot: reader.matrix("zero_shot")?,
        labels: document.examples,
        contents: contents.to_vec(),
    };
    let rows = shown.contents.len();
    let lengths = [shown.features.nrows(), shown.zero_shot.nrows(), shown.labels.len()];
    if !rest.is_empty() || lengths.iter().any(|length| *length != rows) {
        return Err(reader.error("examples of different numbers"));
    }
    let count = document.labels.len();
    let unknown = shown.labels.iter().flatten().any(|label| *label as usize >= count);
    if unknown || shown.zero_shot.ncols() != count {
        return Err(reader.error("examples of other labels"));
    }
    let said = match document.said {
        None => None,
        Some(SaidDocument { labels, weight, rung }) => {
            let head = artifact::load(reader.bytes("head")?)?;
            let fits = labels.len() == head.classes().len() && labels.iter().all(|label| *label < count);
            if !fits || !(0.0..=1.0).contains(&weight) {
                return Err(reader.error("a head of other labels"));
            }
            Some(Said { head: Arc::new(head), labels, weight, rung })
        }
    };
    let wording = Wording {
        labels: document.labels,
        template: document.template,
        multi_label: document.multi_label,
        backbone: document.backbone,
    };
    Ok((FewShot { said, ..FewShot::new(wording) }, shown))
}

/// Whether bytes are of this kind.
pub(crate) fn is(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Kind {
        few_shot: Option<u32>,
    }
    let kind = Reader::new(WHAT, bytes).and_then(|reader| reader.document::<Kind>());
    kind.is_ok_and(|kind| kind.few_shot.is_some())
}
