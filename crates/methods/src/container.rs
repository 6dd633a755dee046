//! Named arrays and one JSON document as bytes: the safetensors format, always the same bytes for the same content.

use std::collections::{BTreeMap, HashMap};

use half::f16;
use ndarray::{Array2, ArrayView2};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Serialize, de::DeserializeOwned};

use crate::error::MethodError;

/// The only metadata key: with one key, the order of a hash map cannot show in the bytes.
const KEY: &str = "headstart";

#[derive(Debug)]
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Collects arrays for [`Writer::finish`].
#[derive(Debug, Default)]
pub(crate) struct Writer {
    arrays: BTreeMap<String, Stored>,
}

impl Writer {
    pub(crate) fn matrix(&mut self, name: &str, values: ArrayView2<'_, f32>) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let shape = values.shape().to_vec();
        self.arrays.insert(name.to_owned(), Stored { dtype: Dtype::F32, shape, bytes });
    }

    pub(crate) fn floats(&mut self, name: &str, values: &[f32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.arrays.insert(name.to_owned(), Stored { dtype: Dtype::F32, shape: vec![values.len()], bytes });
    }

    pub(crate) fn halves(&mut self, name: &str, values: &[f16]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.arrays.insert(name.to_owned(), Stored { dtype: Dtype::F16, shape: vec![values.len()], bytes });
    }

    pub(crate) fn doubles(&mut self, name: &str, values: &[f64]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.arrays.insert(name.to_owned(), Stored { dtype: Dtype::F64, shape: vec![values.len()], bytes });
    }

    pub(crate) fn indices(&mut self, name: &str, values: &[u32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.arrays.insert(name.to_owned(), Stored { dtype: Dtype::U32, shape: vec![values.len()], bytes });
    }

    pub(crate) fn bytes(&mut self, name: &str, values: &[u8]) {
        let stored = Stored { dtype: Dtype::U8, shape: vec![values.len()], bytes: values.to_vec() };
        self.arrays.insert(name.to_owned(), stored);
    }

    pub(crate) fn finish<T: Serialize>(
        self,
        what: &'static str,
        document: &T,
    ) -> Result<Vec<u8>, MethodError> {
        let stored = |problem: String| MethodError::Stored { what, problem };
        let document = serde_json::to_string(document).map_err(|error| stored(error.to_string()))?;
        let views = self.arrays.iter().map(|(name, array)| {
            TensorView::new(array.dtype, array.shape.clone(), &array.bytes).map(|view| (name.clone(), view))
        });
        let views = views.collect::<Result<Vec<_>, _>>().map_err(|error| stored(error.to_string()))?;
        let metadata = HashMap::from([(KEY.to_owned(), document)]);
        safetensors::serialize(views, Some(metadata)).map_err(|error| stored(error.to_string()))
    }
}

/// Reads what [`Writer`] wrote; every shape and type is checked, nothing is trusted.
pub(crate) struct Reader<'a> {
    what: &'static str,
    document: String,
    arrays: SafeTensors<'a>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Result<Self, MethodError> {
        let stored = |problem: String| MethodError::Stored { what, problem };
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| stored(error.to_string()))?;
        let document = metadata.metadata().as_ref().and_then(|fields| fields.get(KEY)).cloned();
        let document = document.ok_or_else(|| stored("no description inside".to_owned()))?;
        let arrays = SafeTensors::deserialize(bytes).map_err(|error| stored(error.to_string()))?;
        Ok(Self { what, document, arrays })
    }

    pub(crate) fn error(&self, problem: impl Into<String>) -> MethodError {
        MethodError::Stored { what: self.what, problem: problem.into() }
    }

    pub(crate) fn document<T: DeserializeOwned>(&self) -> Result<T, MethodError> {
        serde_json::from_str(&self.document).map_err(|error| self.error(error.to_string()))
    }

    fn array(&self, name: &str, dtype: Dtype, rank: usize) -> Result<TensorView<'_>, MethodError> {
        let view = self.arrays.tensor(name).map_err(|_| self.error(format!("no array `{name}`")))?;
        if view.dtype() != dtype || view.shape().len() != rank {
            return Err(self.error(format!("array `{name}` has the wrong type or rank")));
        }
        Ok(view)
    }

    pub(crate) fn matrix(&self, name: &str) -> Result<Array2<f32>, MethodError> {
        let view = self.array(name, Dtype::F32, 2)?;
        let values = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let [rows, columns] = view.shape() else { return Err(self.error("rank")) };
        Array2::from_shape_vec((*rows, *columns), values).map_err(|error| self.error(error.to_string()))
    }

    pub(crate) fn floats(&self, name: &str) -> Result<Vec<f32>, MethodError> {
        let view = self.array(name, Dtype::F32, 1)?;
        Ok(view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    pub(crate) fn halves(&self, name: &str) -> Result<Vec<f16>, MethodError> {
        let view = self.array(name, Dtype::F16, 1)?;
        Ok(view.data().as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes)).collect())
    }

    pub(crate) fn doubles(&self, name: &str) -> Result<Vec<f64>, MethodError> {
        let view = self.array(name, Dtype::F64, 1)?;
        Ok(view.data().as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
    }

    pub(crate) fn bytes(&self, name: &str) -> Result<&[u8], MethodError> {
        let view = self.arrays.tensor(name).map_err(|_| self.error(format!("no array `{name}`")))?;
        if view.dtype() != Dtype::U8 || view.shape().len() != 1 {
            return Err(self.error(format!("array `{name}` has the wrong type or rank")));
        }
        Ok(view.data())
    }

    pub(crate) fn indices(&self, name: &str) -> Result<Vec<u32>, MethodError> {
        let view = self.array(name, Dtype::U32, 1)?;
        Ok(view.data().as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())
    }
}
