//! Raw tensors: what a graph reads and gives, in the names of the open inference protocol.

use std::fmt;

use bytes::Bytes;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it all")]
pub enum DataType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Fp32,
    Fp64,
    /// Strings; ONNX knows no other elements of varying length.
    Bytes,
}

impl DataType {
    const ALL: [Self; 13] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// The protocol's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|datatype| datatype.as_str() == name)
    }

    /// Bytes of one element; strings have no fixed number.
    #[must_use]
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

/// What a graph says of one of its inputs or outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub datatype: DataType,
    /// Its dimensions; `None` where any size will do.
    pub shape: Vec<Option<usize>>,
}

impl TensorSpec {
    /// Whether a tensor of this shape fits.
    #[must_use]
    pub fn takes(&self, shape: &[usize]) -> bool {
        let fits = |(said, given): (&Option<usize>, &usize)| said.is_none_or(|size| size == *given);
        self.shape.len() == shape.len() && self.shape.iter().zip(shape).all(fits)
    }

    /// The dimensions as the protocol writes them: −1 where any size will do.
    #[must_use]
    pub fn dimensions(&self) -> Vec<i64> {
        self.shape.iter().map(|size| size.map_or(-1, |size| size as i64)).collect()
    }
}

/// Elements in row order.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Elements of a fixed size, little endian, side by side; a boolean is a byte, 0 or 1.
    Fixed {
        /// Their type; never [`DataType::Bytes`].
        datatype: DataType,
        /// The elements.
        bytes: Bytes,
    },
    /// Strings.
    Strings(Vec<String>),
}

impl Values {
    /// The type of the elements.
    #[must_use]
    pub fn datatype(&self) -> DataType {
        match self {
            Self::Fixed { datatype, .. } => *datatype,
            Self::Strings(_) => DataType::Bytes,
        }
    }

    /// How many bytes they take, without what a list of strings takes itself.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Fixed { bytes, .. } => bytes.len(),
            Self::Strings(strings) => strings.iter().map(|string| string.len()).sum(),
        }
    }

    /// How many elements there are.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Fixed { datatype, bytes } => bytes.len() / datatype.size().unwrap_or(1),
            Self::Strings(strings) => strings.len(),
        }
    }

    /// `count` elements from `start` on; those of a fixed size are shared, not copied. Beyond the end there are none.
    #[must_use]
    pub fn part(&self, start: usize, count: usize) -> Self {
        let end = (start + count).min(self.count());
        let start = start.min(end);
        match self {
            Self::Fixed { datatype, bytes } => {
                let size = datatype.size().unwrap_or(1);
                Self::Fixed { datatype: *datatype, bytes: bytes.slice(start * size..end * size) }
            }
            Self::Strings(strings) => Self::Strings(strings[start..end].to_vec()),
        }
    }

    /// All parts, one behind the other; `None` when they are not of one type, or there is none.
    #[must_use]
    pub fn join(parts: Vec<Self>) -> Option<Self> {
        if parts.len() == 1 {
            return parts.into_iter().next();
        }
        let datatype = parts.first()?.datatype();
        if parts.iter().any(|part| part.datatype() != datatype) {
            return None;
        }
        let (mut all, mut strings) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                Self::Fixed { bytes, .. } => all.extend_from_slice(&bytes),
                Self::Strings(more) => strings.extend(more),
            }
        }
        Some(if datatype == DataType::Bytes {
            Self::Strings(strings)
        } else {
            Self::Fixed { datatype, bytes: all.into() }
        })
    }
}

/// A tensor: its values fill its shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its elements.
    pub values: Values,
}

impl Tensor {
    /// Rows `start..start + count` along the first dimension.
    #[must_use]
    pub fn rows(&self, start: usize, count: usize) -> Self {
        let Some((&all, rest)) = self.shape.split_first() else { return self.clone() };
        let count = count.min(all.saturating_sub(start));
        let row: usize = rest.iter().product();
        let mut shape = self.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first = count;
        }
        Self { shape, values: self.values.part(start * row, count * row) }
    }
}

/// How many elements a shape has; `None` beyond what a number holds.
#[must_use]
pub fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))
}

impl fmt::Display for DataType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(values: &[u16], shape: &[usize]) -> Tensor {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor {
            shape: shape.to_vec(),
            values: Values::Fixed { datatype: DataType::Uint16, bytes: bytes.into() },
        }
    }

    #[test]
    fn rows_that_were_parted_and_joined_are_the_tensor_they_came_from() {
        let all = numbers(&[1, 2, 3, 4, 5, 6], &[3, 2]);
        let (first, rest) = (all.rows(0, 1), all.rows(1, 2));
        assert_eq!((&first, &rest), (&numbers(&[1, 2], &[1, 2]), &numbers(&[3, 4, 5, 6], &[2, 2])));
        assert_eq!(Values::join(vec![first.values, rest.values]), Some(all.values));
        assert_eq!(numbers(&[1, 2], &[2]).rows(1, 9), numbers(&[2], &[1]));
    }

    #[test]
    fn a_shape_fits_where_the_graph_names_no_size() {
        let spec = TensorSpec { name: "x".into(), datatype: DataType::Fp32, shape: vec![None, Some(3)] };
        assert!(spec.takes(&[7, 3]) && !spec.takes(&[7, 4]) && !spec.takes(&[3]));
        assert_eq!(spec.dimensions(), [-1, 3]);
        assert_eq!(elements(&[usize::MAX, 2]), None);
    }
}
