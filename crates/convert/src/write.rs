//! The files of a plan: the graph with its weights, or beside them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use headstart_onnx::Streamed;
use headstart_onnx::proto::{Entry, Model, OperatorSet, Tensor, element};

use crate::builder::{Plan, Stored};
use crate::error::ConvertError;
use crate::weights::Weights;
use crate::{EXTERNAL, GRAPH};

/// Operator set 20 is the first with Gelu; version 9 of the format came with it.
const OPSET: i64 = 20;
const IR_VERSION: i64 = 9;

/// Weights in the other file begin at multiples of this, so that a runtime may map them.
const PAGE: u64 = 4096;

/// Writes the files; whether there are two.
pub(crate) fn write(
    plan: &Plan,
    weights: &Weights,
    into: &Path,
    most_bytes: u64,
) -> Result<bool, ConvertError> {
    let total: u64 = plan.stored.iter().map(Stored::bytes).sum();
    let external = total > most_bytes;
    let mut model = model(plan);
    let mut streamed = Vec::new();
    if external {
        let constants = beside(plan, weights, &into.join(EXTERNAL))?;
        if let Some(graph) = &mut model.graph {
            graph.initializer.extend(constants);
        }
    } else {
        streamed.extend(
            plan.stored.iter().map(|stored| Streamed { tensor: tensor(stored), bytes: stored.bytes() }),
        );
    }
    let path = into.join(GRAPH);
    let failed = |source| ConvertError::File { path: path.clone(), source };
    let file = File::create_new(&path).map_err(failed)?;
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    let written =
        headstart_onnx::write(&model, &streamed, &mut writer, |place, into| match plan.stored.get(place) {
            Some(stored) => weights.copy(&stored.source, stored.form, into).map_err(Failure::Weights),
            None => Ok(()),
        });
    match written {
        Ok(()) => finish(writer).map(|()| external).map_err(failed),
        Err(Failure::Weights(error)) => Err(error),
        Err(Failure::File(source)) => Err(failed(source)),
    }
}

/// What may go wrong while weights are copied.
enum Failure {
    Weights(ConvertError),
    File(std::io::Error),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::File(error)
    }
}

fn model(plan: &Plan) -> Model {
    Model {
        ir_version: Some(IR_VERSION),
        producer_name: Some("headstart".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        graph: Some(plan.graph.clone()),
        opset_import: vec![OperatorSet { domain: Some(String::new()), version: Some(OPSET) }],
        ..Model::default()
    }
}

/// Writes all weights into a file of their own; the constants that say where.
fn beside(plan: &Plan, weights: &Weights, path: &Path) -> Result<Vec<Tensor>, ConvertError> {
    let failed = |source| ConvertError::File { path: path.to_path_buf(), source };
    let mut writer = BufWriter::with_capacity(1 << 20, File::create_new(path).map_err(failed)?);
    let (mut at, mut constants) = (0, Vec::with_capacity(plan.stored.len()));
    for stored in &plan.stored {
        let begin = u64::next_multiple_of(at, PAGE);
        writer.write_all(&vec![0; (begin - at) as usize]).map_err(failed)?;
        weights.copy(&stored.source, stored.form, &mut writer)?;
        at = begin + stored.bytes();
        let entry = |key: &str, value: String| Entry { key: Some(key.to_owned()), value: Some(value) };
        constants.push(Tensor {
            external_data: vec![
                entry("location", EXTERNAL.to_owned()),
                entry("offset", begin.to_string()),
                entry("length", stored.bytes().to_string()),
            ],
            data_location: Some(1),
            ..tensor(stored)
        });
    }
    finish(writer).map_err(failed)?;
    Ok(constants)
}

/// A weight without its values.
fn tensor(stored: &Stored) -> Tensor {
    Tensor {
        dims: stored.dims.iter().map(|size| *size as i64).collect(),
        data_type: Some(if stored.form.half { element::HALF } else { element::FLOAT }),
        name: Some(stored.name.clone()),
        ..Tensor::default()
    }
}

fn finish(writer: BufWriter<File>) -> std::io::Result<()> {
    writer.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
}
