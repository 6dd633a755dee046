//! Tensors on the host, and chance that is the same every time.

use headstart_onnx::proto::element;

/// Elements of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    Float(Vec<f32>),
    Double(Vec<f64>),
    Integer(Vec<i64>),
    Int32(Vec<i32>),
    Bool(Vec<bool>),
    /// Elements of another type, which no test reads.
    Other(i32),
}

/// A tensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Data {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Values,
}

impl Data {
    /// Floats of 32 or of 64 bits.
    pub(crate) fn floats(shape: &[usize], values: &[f64], elements: i32) -> Self {
        let values = match elements {
            element::DOUBLE => Values::Double(values.to_vec()),
            _ => Values::Float(values.iter().map(|&value| value as f32).collect()),
        };
        Self { shape: shape.to_vec(), values }
    }

    pub(crate) fn integers(shape: &[usize], values: &[i64]) -> Self {
        Self { shape: shape.to_vec(), values: Values::Integer(values.to_vec()) }
    }

    /// The type of the elements, of [`element`].
    pub(crate) fn elements(&self) -> i32 {
        match &self.values {
            Values::Float(_) => element::FLOAT,
            Values::Double(_) => element::DOUBLE,
            Values::Integer(_) => element::INT64,
            Values::Int32(_) => element::INT32,
            Values::Bool(_) => element::BOOL,
            Values::Other(elements) => *elements,
        }
    }

    /// The elements of a tensor of floats.
    pub(crate) fn numbers(&self) -> Vec<f64> {
        match &self.values {
            Values::Float(values) => values.iter().map(|&value| f64::from(value)).collect(),
            Values::Double(values) => values.clone(),
            Values::Integer(_) | Values::Int32(_) | Values::Bool(_) | Values::Other(_) => {
                panic!("no floats: {self:?}")
            }
        }
    }
}

/// Numbers that look random, by `SplitMix64` (Steele et al. 2014).
pub(crate) struct Chance(u64);

impl Chance {
    /// The same numbers for the same words.
    pub(crate) fn of(words: &str) -> Self {
        Self(
            words
                .bytes()
                .fold(0x9e37_79b9, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)),
        )
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from -1 to 1.
    pub(crate) fn number(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// A truth value: the first bit.
    pub(crate) fn sign(&mut self) -> bool {
        self.bits() >> 63 == 1
    }

    /// An integer below `most`.
    pub(crate) fn below(&mut self, most: usize) -> i64 {
        (self.bits() % most.max(1) as u64) as i64
    }
}
