//! Values of constants that lie in another file (ONNX, "External data").

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use prost::Message as _;

use crate::error::OnnxError;
use crate::proto::{Entry, Model, Tensor, element};

/// Where a constant's values are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file, from where the graph is.
    pub file: String,
    /// The first byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

impl Tensor {
    /// Where the values are, if they are in another file.
    ///
    /// # Errors
    /// [`OnnxError::Malformed`] for a place that is none, or of another size than the shape.
    pub fn place(&self) -> Result<Option<Place>, OnnxError> {
        if !self.is_external() {
            return Ok(None);
        }
        let wrong = |what: &str| {
            let name = self.name.as_deref().unwrap_or_default();
            OnnxError::Malformed(format!("the tensor `{name}` keeps its values in another file, {what}"))
        };
        let stated = |key: &str| {
            let entry = self.external_data.iter().find(|entry| entry.key.as_deref() == Some(key));
            entry.and_then(|entry| entry.value.as_deref())
        };
        let number = |key: &str| {
            let read = |text: &str| text.parse().map_err(|_| wrong(&format!("whose `{key}` is no number")));
            stated(key).map(read).transpose()
        };
        let file = stated("location").ok_or_else(|| wrong("which it does not name"))?.to_owned();
        let width = width(self.elements()).ok_or_else(|| wrong("of a type that is not known here"))?;
        let needed = (self.len()? as u64).saturating_mul(width);
        let length = number("length")?.unwrap_or(needed);
        if length != needed {
            return Err(wrong("of another size than its shape"));
        }
        Ok(Some(Place { file, offset: number("offset")?.unwrap_or(0), length }))
    }

    /// The same constant, whose values lie elsewhere.
    #[must_use]
    pub fn moved(&self, place: &Place) -> Self {
        let entry = |key: &str, value: String| Entry { key: Some(key.into()), value: Some(value) };
        Self {
            dims: self.dims.clone(),
            data_type: self.data_type,
            name: self.name.clone(),
            data_location: Some(1),
            external_data: vec![
                entry("location", place.file.clone()),
                entry("offset", place.offset.to_string()),
                entry("length", place.length.to_string()),
            ],
            ..Self::default()
        }
    }
}

/// Bytes of an element.
fn width(elements: i32) -> Option<u64> {
    match elements {
        element::FLOAT | element::INT32 => Some(4),
        element::INT64 | element::DOUBLE => Some(8),
        element::HALF | element::BFLOAT16 => Some(2),
        element::INT8 | element::UINT8 | element::BOOL => Some(1),
        _ => None,
    }
}

/// Brings the values of the graph's constants into the model. `read` gives the bytes at a place.
///
/// # Errors
/// What `read` says, and [`OnnxError::Malformed`] for a place that is none.
pub fn inline(
    model: &mut Model,
    mut read: impl FnMut(&Place) -> io::Result<Vec<u8>>,
) -> Result<(), OnnxError> {
    for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        let Some(place) = tensor.place()? else { continue };
        tensor.raw_data = Some(read(&place)?.into());
        tensor.external_data.clear();
        tensor.data_location = None;
    }
    Ok(())
}

/// A file with the values that its constants keep in files beside it, as one.
///
/// # Errors
/// [`OnnxError::Read`], and [`OnnxError::Malformed`] for a file that is no model or names a place that is none.
pub fn whole(path: &Path) -> Result<Vec<u8>, OnnxError> {
    let mut model = Model::decode(std::fs::read(path)?.as_slice())?;
    inline(&mut model, |place| {
        let mut file = File::open(path.with_file_name(&place.file))?;
        file.seek(SeekFrom::Start(place.offset))?;
        let mut bytes = vec![0; place.length as usize];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    })?;
    Ok(model.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Graph;

    #[test]
    fn values_that_went_elsewhere_come_back() {
        let whole = Tensor::floats("w", &[3], [1.0, -2.0, 0.5]);
        let place = Place { file: "weights.bin".into(), offset: 64, length: 12 };
        let moved = whole.moved(&place);
        assert_eq!((moved.place().unwrap().as_ref(), moved.raw_data.as_ref()), (Some(&place), None));
        let graph = Graph { initializer: vec![moved], ..Graph::default() };
        let mut model = Model { graph: Some(graph), ..Model::default() };
        inline(&mut model, |asked| {
            assert_eq!(*asked, place);
            Ok(whole.raw_data.clone().unwrap().to_vec())
        })
        .unwrap();
        assert_eq!(model.graph.unwrap().initializer, [whole]);
    }

    #[test]
    fn a_place_of_another_size_than_the_shape_is_refused() {
        let place = Place { file: "weights.bin".into(), offset: 0, length: 8 };
        let moved = Tensor::floats("w", &[3], [1.0, -2.0, 0.5]).moved(&place);
        assert!(moved.place().unwrap_err().to_string().contains("another size than its shape"));
    }
}
