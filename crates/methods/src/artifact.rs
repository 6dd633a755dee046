//! What makes a version answer, and a head as bytes: always the same for the same head, and refused when anything about
//! them is off.

use std::sync::Arc;

use headstart_types::hex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::{
    container::{Reader, Writer},
    error::MethodError,
    few_shot::{self, FewShot, Rung},
    head::{Backbone, Head, HeadParts, Tail},
};

/// What [`save`] writes and [`load`] reads. A change of meaning is a new number.
pub const FORMAT: u32 = 1;

const WHAT: &str = "head";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    method: String,
    hyperparameters: Map<String, Value>,
    backbone: Backbone,
    classes: Vec<String>,
    dim: usize,
    multi_label: bool,
    normalise: bool,
    tail: TailKind,
    temperature: f32,
    thresholds: Option<Vec<f32>>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum TailKind {
    Identity {},
    Layer {},
    Cache { scale: f32, alpha: f32, beta: f32 },
    Contrast {},
}

/// The head's bytes: a safetensors file with the matrices, and all else as JSON in its metadata.
///
/// # Errors
///
/// [`MethodError::Stored`] when the bytes cannot be built.
pub fn save(head: &Head) -> Result<Vec<u8>, MethodError> {
    let parts = head.parts();
    let mut writer = Writer::default();
    writer.matrix("rows", parts.rows.view());
    writer.floats("bias", &parts.bias);
    let tail = match &parts.tail {
        Tail::Identity => TailKind::Identity {},
        Tail::Layer { weights, bias } => {
            writer.matrix("tail.weights", weights.view());
            writer.floats("tail.bias", bias);
            TailKind::Layer {}
        }
        Tail::Cache { classes, scale, alpha, beta, mass } => {
            writer.floats("tail.mass", mass);
            writer.indices("tail.classes", classes);
            TailKind::Cache { scale: *scale, alpha: *alpha, beta: *beta }
        }
        Tail::Contrast { means, counts } => {
            writer.matrix("tail.means", means.view());
            writer.indices("tail.counts", counts);
            TailKind::Contrast {}
        }
    };
    let document = Document {
        format: FORMAT,
        method: parts.method.clone(),
        hyperparameters: parts.hyperparameters.clone(),
        backbone: parts.backbone.clone(),
        classes: parts.classes.to_vec(),
        dim: head.dim(),
        multi_label: parts.multi_label,
        normalise: parts.normalise,
        tail,
        temperature: parts.temperature,
        thresholds: parts.thresholds.clone(),
    };
    writer.finish(WHAT, &document)
}

/// The head behind bytes from anywhere.
///
/// # Errors
///
/// [`MethodError::Stored`] or [`MethodError::Head`] naming the first thing that does not fit.
pub fn load(bytes: &[u8]) -> Result<Head, MethodError> {
    let reader = Reader::new(WHAT, bytes)?;
    let document: Document = reader.document()?;
    if document.format != FORMAT {
        return Err(reader.error(format!("format {} is not {FORMAT}", document.format)));
    }
    let rows = reader.matrix("rows")?;
    if rows.ncols() != document.dim {
        return Err(reader.error(format!("rows of {} numbers, not {}", rows.ncols(), document.dim)));
    }
    let tail = match document.tail {
        TailKind::Identity {} => Tail::Identity,
        TailKind::Layer {} => {
            Tail::Layer { weights: reader.matrix("tail.weights")?, bias: reader.floats("tail.bias")? }
        }
        TailKind::Cache { scale, alpha, beta } => {
            let classes = reader.indices("tail.classes")?;
            Tail::Cache { classes, scale, alpha, beta, mass: reader.floats("tail.mass")? }
        }
        TailKind::Contrast {} => {
            Tail::Contrast { means: reader.matrix("tail.means")?, counts: reader.indices("tail.counts")? }
        }
    };
    Head::new(HeadParts {
        method: document.method,
        hyperparameters: document.hyperparameters,
        backbone: document.backbone,
        classes: document.classes.into(),
        multi_label: document.multi_label,
        normalise: document.normalise,
        rows: rows.into_shared(),
        bias: Arc::from(reader.floats("bias")?),
        tail,
        temperature: document.temperature,
        thresholds: document.thresholds,
    })
}

/// What [`save_tuned`] writes. A change of meaning is a new number.
const TUNED_FORMAT: u32 = 1;

const TUNED: &str = "tuned classifier";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TunedDocument {
    tuned_classifier: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    original: Option<Backbone>,
}

/// What makes of a backbone the one that a head was tuned with.
#[derive(Debug, Clone, PartialEq)]
pub struct Graft {
    /// The bytes of a [`Delta`](crate::tune::Delta).
    pub delta: Vec<u8>,
    /// What the delta is added to, where it is rounded for the head's backbone afterwards; that backbone itself otherwise.
    pub original: Option<Backbone>,
}

/// The bytes of a head together with what was tuned of its backbone: a safetensors file that holds the two files.
///
/// # Errors
///
/// [`MethodError::Stored`] when the bytes cannot be built.
pub fn save_tuned(head: &Head, graft: &Graft) -> Result<Vec<u8>, MethodError> {
    let mut writer = Writer::default();
    writer.bytes("head", &save(head)?);
    writer.bytes("delta", &graft.delta);
    writer.finish(TUNED, &TunedDocument { tuned_classifier: TUNED_FORMAT, original: graft.original.clone() })
}

/// The two that [`save_tuned`] wrote; nothing for a version whose backbone is as it came.
///
/// # Errors
///
/// [`MethodError::Stored`] naming what does not fit.
pub fn load_tuned(bytes: &[u8]) -> Result<Option<(Head, Graft)>, MethodError> {
    let Ok(reader) = Reader::new(TUNED, bytes) else { return Ok(None) };
    let Ok(document) = reader.document::<TunedDocument>() else { return Ok(None) };
    if document.tuned_classifier != TUNED_FORMAT {
        return Err(reader.error(format!("format {} is not {TUNED_FORMAT}", document.tuned_classifier)));
    }
    let delta = reader.bytes("delta")?.to_vec();
    Ok(Some((load(reader.bytes("head")?)?, Graft { delta, original: document.original })))
}

/// The content address of stored bytes: their SHA-256 in lower-case hexadecimal digits.
pub fn address(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// What makes a version answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Artifact {
    /// A fitted head.
    Head(Arc<Head>),
    /// Labels, and what a few examples say.
    FewShot(Arc<FewShot>),
}

impl Artifact {
    /// What a version's bytes hold.
    ///
    /// # Errors
    ///
    /// As [`load`] and [`few_shot::load`].
    pub fn load(bytes: &[u8]) -> Result<Self, MethodError> {
        if few_shot::stored::is(bytes) {
            return few_shot::load(bytes).map(|(few_shot, _)| Self::FewShot(Arc::new(few_shot)));
        }
        if let Some((head, _)) = load_tuned(bytes)? {
            return Ok(Self::Head(Arc::new(head)));
        }
        load(bytes).map(|head| Self::Head(Arc::new(head)))
    }

    /// The backbone it reads.
    pub fn backbone(&self) -> &Backbone {
        match self {
            Self::Head(head) => &head.parts().backbone,
            Self::FewShot(few_shot) => &few_shot.wording().backbone,
        }
    }

    /// The method that fitted it, or the rung of a few-shot classifier.
    pub fn method(&self) -> &str {
        match self {
            Self::Head(head) => &head.parts().method,
            Self::FewShot(few_shot) => few_shot.rung().as_str(),
        }
    }

    /// The labels' names, in the order of its probabilities.
    pub fn labels(&self) -> &Arc<[String]> {
        match self {
            Self::Head(head) => head.classes(),
            Self::FewShot(few_shot) => few_shot.names(),
        }
    }

    /// Whether an item may have several labels.
    pub fn multi_label(&self) -> bool {
        match self {
            Self::Head(head) => head.parts().multi_label,
            Self::FewShot(few_shot) => few_shot.wording().multi_label,
        }
    }

    /// The probability from which each label is said to apply, where they were fitted.
    pub fn thresholds(&self) -> Option<&[f32]> {
        match self {
            Self::Head(head) => head.parts().thresholds.as_deref(),
            Self::FewShot(few_shot) => few_shot.thresholds(),
        }
    }

    /// The head that is applied to features, where there is one.
    pub fn head(&self) -> Option<&Arc<Head>> {
        match self {
            Self::Head(head) => Some(head),
            Self::FewShot(few_shot) => few_shot.head(),
        }
    }

    /// What its answers rest on, where no job made it.
    pub fn rung(&self) -> Option<Rung> {
        match self {
            Self::Head(_) => None,
            Self::FewShot(few_shot) => Some(few_shot.rung()),
        }
    }
}
