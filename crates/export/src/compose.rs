//! The whole graph: backbone, pooling, normalisation, head.

use std::io::{Read, Seek};

use headstart_methods::head::Head;
use headstart_onnx::proto::{Dimension, ValueInfo, element};
use headstart_onnx::{Assembly, Extension, Header, Outline, Part};
use headstart_types::{Manifest, hex};
use sha2::{Digest as _, Sha256};

use crate::describe::{Outputs, describe};
use crate::error::ExportError;
use crate::{head, pooling};

/// The input that says which tokens are real.
const MASK: &str = "attention_mask";

/// The oldest operator set that has all operators used here.
const LEAST_OPSET: i64 = 11;

/// What is exported.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The classifier's name.
    pub name: &'a str,
    /// The version's number.
    pub version: u32,
    /// The fitted head.
    pub head: &'a Head,
    /// The backbone that its features come from.
    pub manifest: &'a Manifest,
    /// The bytes of a text backbone's tokeniser.
    pub tokenizer: Option<&'a [u8]>,
    /// The version of this program.
    pub producer_version: &'a str,
}

/// An exported classifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    /// The file, over the backbone's.
    pub assembly: Assembly,
    /// Changes when a byte of the file does: SHA-256 over the new parts and the backbone's digest, in hexadecimal digits.
    pub fingerprint: String,
}

/// Puts a classifier's graph together. The same subject gives the same bytes.
///
/// `backbone` is the file that the manifest speaks of; whether its digest is right is the caller's to know.
///
/// # Errors
/// [`ExportError`] when head and graph do not fit or the file cannot be read.
pub fn compose(backbone: impl Read + Seek, subject: &Subject<'_>) -> Result<Composed, ExportError> {
    let spec = subject.manifest.output.features.as_ref();
    let spec = spec.ok_or(ExportError::Width { head: subject.head.dim(), backbone: 0 })?;
    if subject.head.dim() != spec.dimension {
        return Err(ExportError::Width { head: subject.head.dim(), backbone: spec.dimension });
    }
    if subject.manifest.audio.is_some() {
        return Err(ExportError::Sounds);
    }
    let outline = Outline::read(backbone)?;
    let output =
        outline.outputs().iter().find(|output| output.name.as_deref() == Some(&spec.tensor)).cloned();
    let mut graph = Extension::new(outline.up_to(&[&spec.tensor])?, "classifier/", LEAST_OPSET)?;
    let halves = output.as_ref().and_then(ValueInfo::elements) == Some(element::HALF);
    let tensor = if halves { pooling::single(&mut graph, &spec.tensor) } else { spec.tensor.clone() };
    let pooled = match &subject.manifest.image {
        Some(image) => {
            let shape = output.as_ref().and_then(ValueInfo::dimensions).unwrap_or_default();
            let shape: Vec<i64> = shape.iter().map(|dimension| dimension.dim_value.unwrap_or(-1)).collect();
            let form = spec.form(&shape, image.layout).map_err(ExportError::Output)?;
            if shape.len() == 2 { tensor } else { pooling::pool_places(&mut graph, &tensor, form, spec) }
        }
        None => {
            give_mask(&mut graph);
            pooling::pool(&mut graph, &tensor, MASK, spec.pooling)
        }
    };
    let batch = graph.batch();
    let shape = |columns: usize| vec![batch.clone(), Dimension::of(columns)];
    let vector = if spec.normalise { pooling::normalise(&mut graph, &pooled) } else { pooled };
    let outputs = head::add(&mut graph, subject.head, &vector, &shape);
    let embedding = ("embedding", element::FLOAT, shape(spec.dimension));
    let embedding = graph.add_output("Identity", &[&vector], vec![], embedding);
    let outputs = Outputs { embedding, ..outputs };
    let inputs: Vec<&ValueInfo> = graph.inputs().collect();
    let (doc_string, metadata) = describe(subject, spec, &inputs, &outputs)?;
    let assembly = graph.finish(Header {
        producer_name: "headstart".to_owned(),
        producer_version: subject.producer_version.to_owned(),
        model_version: i64::from(subject.version),
        doc_string,
        metadata,
    })?;
    let fingerprint = fingerprint(&assembly, &subject.manifest.backbone.sha256);
    Ok(Composed { assembly, fingerprint })
}

/// A graph without a mask does not know which tokens are real, but pooling must.
fn give_mask(graph: &mut Extension) {
    if graph.inputs().any(|input| input.name.as_deref() == Some(MASK)) {
        return;
    }
    let ids = graph.inputs().next().and_then(ValueInfo::dimensions).map(<[Dimension]>::to_vec);
    let shape = ids.unwrap_or_else(|| vec![Dimension::named("N"), Dimension::named("L")]);
    graph.add_input(ValueInfo::tensor(MASK, element::INT64, shape));
}

fn fingerprint(assembly: &Assembly, backbone_sha256: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(backbone_sha256.to_lowercase());
    for part in assembly.parts() {
        match part {
            Part::New(bytes) => {
                hash.update([0]);
                hash.update(part.bytes().to_le_bytes());
                hash.update(bytes);
            }
            Part::Old(range) => {
                hash.update([1]);
                hash.update(range.start.to_le_bytes());
                hash.update(range.end.to_le_bytes());
            }
        }
    }
    hex(&hash.finalize())
}
