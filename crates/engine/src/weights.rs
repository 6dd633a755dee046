//! Weights that several sessions hold once, packed for their products once.
//!
//! ONNX Runtime takes a session's constants from outside, and keeps in a container what it makes of such constants for its
//! kernels (`AddInitializer`, `CreatePrepackedWeightsContainer`). All graphs whose weights lie in the same file get the same.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use half::f16;
use headstart_onnx::Place;
use headstart_onnx::proto::{Model, Tensor, element};
use ort::session::builder::{BuilderResult, PrepackedWeights, SessionBuilder};
use ort::value::DynValue;
use prost::Message as _;

use crate::folder::SharedWeights;

/// What sessions hold, by the digest of the file that the weights are from.
static HELD: Mutex<Vec<(String, Weak<Pool>)>> = Mutex::new(Vec::new());

/// Where a weight begins in its file, and its shape.
type Key = (u64, Vec<i64>);

/// The weights of one file that graphs have asked for.
struct Pool {
    values: Mutex<HashMap<Key, Arc<DynValue>>>,
    packed: PrepackedWeights,
}

/// Those of them that one graph reads. They stay for others as long as one graph that reads some lives.
pub(crate) struct Common {
    pool: Arc<Pool>,
    values: Vec<(String, Arc<DynValue>)>,
}

impl Pool {
    fn of(digest: &str) -> Arc<Self> {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(_, weights)| weights.strong_count() > 0);
        let known = held.iter().find(|(of, _)| of == digest).and_then(|(_, weights)| weights.upgrade());
        known.unwrap_or_else(|| {
            let made = Arc::new(Self { values: Mutex::default(), packed: PrepackedWeights::new() });
            held.push((digest.to_owned(), Arc::downgrade(&made)));
            made
        })
    }
}

impl Common {
    /// What a graph keeps in that file beside it. Values that no graph asked for yet are read.
    ///
    /// # Errors
    /// What is wrong with the graph, or a file's reason.
    pub(crate) fn of(graph: &Path, SharedWeights { file, sha256 }: &SharedWeights) -> Result<Self, String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let bytes = std::fs::read(graph).map_err(|error| text(&error))?;
        let model = Model::decode(bytes.as_slice()).map_err(|error| text(&error))?;
        let pool = Pool::of(sha256);
        let mut source = File::open(graph.with_file_name(file)).map_err(|error| text(&error))?;
        let mut values = Vec::new();
        for tensor in model.graph.iter().flat_map(|graph| &graph.initializer) {
            let Some(place) =
                tensor.place().map_err(|error| text(&error))?.filter(|place| place.file == *file)
            else {
                continue;
            };
            let mut known = pool.values.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (place.offset, tensor.dims.clone());
            let value = match known.get(&key) {
                Some(value) => Arc::clone(value),
                None => {
                    let bytes = read(&mut source, &place).map_err(|error| text(&error))?;
                    let Some(value) = value(tensor, &bytes)? else { continue };
                    known.insert(key, Arc::clone(&value));
                    value
                }
            };
            values.push((tensor.name.clone().unwrap_or_default(), value));
        }
        Ok(Self { pool, values })
    }

    /// A builder whose session holds none of these itself.
    ///
    /// # Errors
    /// ONNX Runtime's message.
    pub(crate) fn give(&self, builder: SessionBuilder) -> Result<SessionBuilder, String> {
        let step = |built: BuilderResult| built.map_err(|error| error.to_string());
        let mut builder = step(builder.with_prepacked_weights(&self.pool.packed))?;
        for (name, value) in &self.values {
            builder = step(builder.with_initializer(name, Arc::clone(value)))?;
        }
        Ok(builder)
    }
}

fn read(source: &mut File, place: &Place) -> io::Result<Vec<u8>> {
    source.seek(SeekFrom::Start(place.offset))?;
    let mut bytes = vec![0; place.length as usize];
    source.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A constant's values; none of a type that is left to each session.
fn value(tensor: &Tensor, bytes: &[u8]) -> Result<Option<Arc<DynValue>>, String> {
    let shape = tensor.shape().map_err(|error| error.to_string())?;
    let made = match tensor.elements() {
        element::FLOAT => ort::value::Tensor::from_array((shape, wide(bytes, f32::from_le_bytes)))
            .map(ort::value::Tensor::into_dyn),
        element::HALF => ort::value::Tensor::from_array((shape, wide(bytes, f16::from_le_bytes)))
            .map(ort::value::Tensor::into_dyn),
        element::INT8 => ort::value::Tensor::from_array((shape, wide(bytes, i8::from_le_bytes)))
            .map(ort::value::Tensor::into_dyn),
        element::UINT8 => {
            ort::value::Tensor::from_array((shape, bytes.to_vec())).map(ort::value::Tensor::into_dyn)
        }
        _ => return Ok(None),
    };
    made.map(|value| Some(Arc::new(value))).map_err(|error| error.to_string())
}

fn wide<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).collect()
}
