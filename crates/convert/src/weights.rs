//! Weights where they lie: names and shapes are read at once, values piece by piece.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Deserialize;

use crate::WEIGHTS;
use crate::error::ConvertError;

/// The first weight of every family, by which the common beginning of names is known.
const WORDS: &str = "embeddings.word_embeddings.weight";

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// Longest header of a file, as the format has it.
const LONGEST_HEADER: u64 = 100_000_000;

/// The weights of a folder.
#[derive(Debug)]
pub(crate) struct Weights {
    files: Vec<PathBuf>,
    /// File, place of the values in it, and what they are.
    tensors: HashMap<String, (usize, u64, TensorInfo)>,
    prefix: String,
}

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Form {
    /// In half precision.
    pub(crate) half: bool,
    /// What each is multiplied with.
    pub(crate) scale: f32,
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    pub(crate) fn open(folder: &Path) -> Result<Self, ConvertError> {
        let [one, index] = WEIGHTS.map(|name| folder.join(name));
        let files = if one.is_file() {
            vec![one]
        } else {
            let text = std::fs::read_to_string(&index).map_err(ConvertError::file(&index))?;
            let index: Index =
                serde_json::from_str(&text).map_err(|error| ConvertError::format(WEIGHTS[1], error))?;
            let mut names: Vec<&String> = index.weight_map.values().collect();
            names.sort_unstable();
            names.dedup();
            if let Some(outside) = names.iter().find(|name| name.contains(['/', '\\'])) {
                return Err(ConvertError::format(
                    WEIGHTS[1],
                    format!("`{outside}` is no file of the folder"),
                ));
            }
            names.into_iter().map(|name| folder.join(name)).collect()
        };
        let mut tensors = HashMap::new();
        for (file, path) in files.iter().enumerate() {
            let (begin, metadata) = header(path)?;
            for (name, info) in metadata.tensors() {
                tensors.insert(name, (file, begin, info.clone()));
            }
        }
        let prefix = tensors.keys().filter_map(|name| name.strip_suffix(WORDS)).min_by_key(|name| name.len());
        let prefix = prefix.ok_or_else(|| ConvertError::Missing(WORDS.to_owned()))?.to_owned();
        Ok(Self { files, tensors, prefix })
    }

    /// The full name of a weight of the encoder, by what follows the beginning that all have. Names of norms in old files
    /// are TensorFlow's.
    pub(crate) fn inside(&self, name: &str) -> String {
        let full = format!("{}{name}", self.prefix);
        if self.tensors.contains_key(&full) {
            return full;
        }
        let old = match full.rsplit_once('.') {
            Some((norm, "weight")) => format!("{norm}.gamma"),
            Some((norm, "bias")) => format!("{norm}.beta"),
            _ => return full,
        };
        if self.tensors.contains_key(&old) { old } else { full }
    }

    /// A weight's shape.
    pub(crate) fn shape(&self, name: &str) -> Result<&[usize], ConvertError> {
        let (_, _, info) = self.tensors.get(name).ok_or_else(|| ConvertError::Missing(name.to_owned()))?;
        Ok(&info.shape)
    }

    /// A small weight's values.
    pub(crate) fn values(&self, name: &str) -> Result<Vec<f32>, ConvertError> {
        let mut bytes = Vec::new();
        self.copy(name, Form { half: false, scale: 1.0 }, &mut bytes)?;
        Ok(bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect())
    }

    /// Writes a weight's values, little-endian.
    pub(crate) fn copy(&self, name: &str, form: Form, into: &mut dyn Write) -> Result<(), ConvertError> {
        let missing = || ConvertError::Missing(name.to_owned());
        let (file, begin, info) = self.tensors.get(name).ok_or_else(missing)?;
        let path = self.files.get(*file).ok_or_else(missing)?;
        let failed = |problem: String| ConvertError::Values { name: name.to_owned(), problem };
        let (start, end) = info.data_offsets;
        let read = |source| ConvertError::File { path: path.clone(), source };
        let mut source = File::open(path).map_err(read)?;
        source.seek(SeekFrom::Start(begin + start as u64)).map_err(read)?;
        let mut source = source.take((end - start) as u64);
        let (mut piece, mut out) = (vec![0; PIECE], Vec::with_capacity(2 * PIECE));
        let mut left = end - start;
        while left > 0 {
            let length = left.min(PIECE);
            let bytes = piece.get_mut(..length).unwrap_or_default();
            source.read_exact(bytes).map_err(read)?;
            left -= length;
            out.clear();
            narrow(&widen(bytes, info.dtype).map_err(failed)?, form, &mut out).map_err(failed)?;
            into.write_all(&out).map_err(|source| ConvertError::File { path: "the graph".into(), source })?;
        }
        Ok(())
    }
}

/// Where a file's values begin, and what they are.
fn header(path: &Path) -> Result<(u64, Metadata), ConvertError> {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let wrong = |problem: &dyn ToString| ConvertError::format(name.clone(), problem.to_string());
    let mut file = File::open(path).map_err(ConvertError::file(path))?;
    let bytes = file.metadata().map_err(ConvertError::file(path))?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| wrong(&"is no safetensors file"))?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER || length > bytes {
        return Err(wrong(&"is no safetensors file, or cut short"));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(ConvertError::file(path))?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| wrong(&error))?;
    let begin = 8 + length;
    for (tensor, info) in metadata.tensors() {
        let (start, end) = info.data_offsets;
        let elements = info.shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
        let size =
            elements.and_then(|elements| elements.checked_mul(info.dtype.bitsize())).map(|bits| bits / 8);
        let inside = begin.checked_add(end as u64).is_some_and(|last| last <= bytes);
        if start > end || size != Some(end - start) || !inside {
            return Err(wrong(&format!("`{tensor}` lies outside the file, which is cut short or damaged")));
        }
    }
    Ok((begin, metadata))
}

/// Values in single precision.
#[expect(clippy::wildcard_enum_match_arm, reason = "the format's list grows; other types hold no weights")]
fn widen(bytes: &[u8], dtype: Dtype) -> Result<Vec<f32>, String> {
    Ok(match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|value| f16::from_le_bytes(*value).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|value| bf16::from_le_bytes(*value).to_f32()).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|value| f64::from_le_bytes(*value) as f32).collect(),
        other => return Err(format!("is of type {other}; F16, BF16, F32 and F64 are read")),
    })
}

fn narrow(values: &[f32], form: Form, out: &mut Vec<u8>) -> Result<(), String> {
    for value in values {
        let value = value * form.scale;
        if !value.is_finite() {
            return Err("holds a value that is no number".to_owned());
        }
        if !form.half {
            out.extend_from_slice(&value.to_le_bytes());
            continue;
        }
        let half = f16::from_f32(value);
        if !half.is_finite() {
            return Err(format!("holds {value}, which half precision does not: convert in single precision"));
        }
        out.extend_from_slice(&half.to_le_bytes());
    }
    Ok(())
}
