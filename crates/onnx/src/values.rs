//! Values of tensors as numbers, whichever field of the message they stand in.

use half::{bf16, f16};

use crate::error::OnnxError;
use crate::proto::{Tensor, element};

impl Tensor {
    /// A tensor of 64-bit floats in row order.
    #[must_use]
    pub fn doubles(name: &str, dims: &[usize], values: impl IntoIterator<Item = f64>) -> Self {
        let raw: Vec<u8> = values.into_iter().flat_map(f64::to_le_bytes).collect();
        Self::raw(name, element::DOUBLE, dims, raw)
    }

    /// A tensor of signed bytes in row order.
    #[must_use]
    pub fn signed_bytes(name: &str, dims: &[usize], values: impl IntoIterator<Item = i8>) -> Self {
        let raw: Vec<u8> = values.into_iter().map(i8::cast_unsigned).collect();
        Self::raw(name, element::INT8, dims, raw)
    }

    /// The type of its elements, of [`element`]; 0 where it is not stated.
    #[must_use]
    pub fn elements(&self) -> i32 {
        self.data_type.unwrap_or_default()
    }

    /// The number of elements that the shape states.
    ///
    /// # Errors
    /// [`OnnxError::Malformed`] for a negative size and for more elements than this machine can address.
    pub fn len(&self) -> Result<usize, OnnxError> {
        let product = |all: usize, &size: &i64| all.checked_mul(usize::try_from(size).ok()?);
        let len = self.dims.iter().try_fold(1, product);
        len.ok_or_else(|| self.malformed(&format!("has the impossible shape {:?}", self.dims)))
    }

    /// Whether it has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dims.contains(&0)
    }

    /// The shape.
    ///
    /// # Errors
    /// As [`Tensor::len`].
    pub fn shape(&self) -> Result<Vec<usize>, OnnxError> {
        self.len()?;
        Ok(self.dims.iter().map(|&size| usize::try_from(size).unwrap_or_default()).collect())
    }

    /// The values of a floating-point tensor, of 16, 32 or 64 bits.
    ///
    /// # Errors
    /// [`OnnxError::External`]; [`OnnxError::Malformed`] for another type, and for more or fewer values than the shape
    /// has.
    pub fn to_numbers(&self) -> Result<Vec<f64>, OnnxError> {
        let values = match self.elements() {
            element::FLOAT => match self.bytes()? {
                Some(raw) => wide(raw, |bytes| f64::from(f32::from_le_bytes(bytes))),
                None => self.float_data.iter().map(|&value| f64::from(value)).collect(),
            },
            element::DOUBLE => match self.bytes()? {
                Some(raw) => wide(raw, f64::from_le_bytes),
                None => self.double_data.clone(),
            },
            element::HALF => match self.bytes()? {
                Some(raw) => wide(raw, |bytes| f16::from_le_bytes(bytes).to_f64()),
                None => self.int32_data.iter().map(|&bits| f16::from_bits(bits as u16).to_f64()).collect(),
            },
            element::BFLOAT16 => match self.bytes()? {
                Some(raw) => wide(raw, |bytes| bf16::from_le_bytes(bytes).to_f64()),
                None => self.int32_data.iter().map(|&bits| bf16::from_bits(bits as u16).to_f64()).collect(),
            },
            other => return Err(self.malformed(&format!("has elements of type {other} and no floats"))),
        };
        self.counted(values)
    }

    /// The values of a tensor of integers or truth values.
    ///
    /// # Errors
    /// As [`Tensor::to_numbers`].
    pub fn to_integers(&self) -> Result<Vec<i64>, OnnxError> {
        let small = || self.int32_data.iter().map(|&value| i64::from(value)).collect();
        let values = match (self.elements(), self.bytes()?) {
            (element::INT64, Some(raw)) => wide(raw, i64::from_le_bytes),
            (element::INT64, None) => self.int64_data.clone(),
            (element::INT32, Some(raw)) => wide(raw, |bytes| i64::from(i32::from_le_bytes(bytes))),
            (element::BOOL | element::UINT8, Some(raw)) => raw.iter().map(|&byte| i64::from(byte)).collect(),
            (element::INT8, Some(raw)) => raw.iter().map(|&byte| i64::from(byte as i8)).collect(),
            (element::INT32 | element::BOOL | element::UINT8 | element::INT8, None) => small(),
            (other, _) => {
                return Err(self.malformed(&format!("has elements of type {other} and no integers")));
            }
        };
        self.counted(values)
    }

    fn bytes(&self) -> Result<Option<&[u8]>, OnnxError> {
        match self.is_external() {
            true => Err(OnnxError::External(self.name.clone().unwrap_or_default())),
            false => Ok(self.raw_data.as_deref()),
        }
    }

    fn counted<T>(&self, values: Vec<T>) -> Result<Vec<T>, OnnxError> {
        match values.len() == self.len()? {
            true => Ok(values),
            false => {
                Err(self.malformed(&format!("has {} values, {:?} is its shape", values.len(), self.dims)))
            }
        }
    }

    fn malformed(&self, problem: &str) -> OnnxError {
        OnnxError::Malformed(format!("the tensor `{}` {problem}", self.name.as_deref().unwrap_or_default()))
    }
}

fn wide<const N: usize, T>(raw: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|&bytes| read(bytes)).collect()
}
