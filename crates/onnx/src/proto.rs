//! The messages of an ONNX file, by the field numbers of the ONNX IR specification (IR version 13).
//!
//! Optional fields keep whether they were there, and messages that nobody looks into (functions, training, placement on
//! devices) are carried as their bytes, so a decoded model is written back as it was.

use bytes::Bytes;

/// Types of tensor elements, as `TensorProto.DataType` numbers them.
pub mod element {
    /// 32-bit floating point.
    pub const FLOAT: i32 = 1;
    /// Unsigned 8-bit integers.
    pub const UINT8: i32 = 2;
    /// Signed 8-bit integers.
    pub const INT8: i32 = 3;
    /// Signed 32-bit integers.
    pub const INT32: i32 = 6;
    /// Signed 64-bit integers.
    pub const INT64: i32 = 7;
    /// Truth values.
    pub const BOOL: i32 = 9;
    /// 16-bit floating point.
    pub const HALF: i32 = 10;
    /// 64-bit floating point.
    pub const DOUBLE: i32 = 11;
    /// 16-bit floating point with the exponents of 32 bits.
    pub const BFLOAT16: i32 = 16;
}

/// Which field of an [`Attribute`] holds its value, as `AttributeProto.AttributeType` numbers them.
pub mod attribute {
    /// `f`.
    pub const FLOAT: i32 = 1;
    /// `i`.
    pub const INT: i32 = 2;
    /// `s`.
    pub const STRING: i32 = 3;
    /// `t`.
    pub const TENSOR: i32 = 4;
    /// `floats`.
    pub const FLOATS: i32 = 6;
    /// `ints`.
    pub const INTS: i32 = 7;
}

/// A file: its graph and what the graph is written for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Model {
    /// Version of the file format.
    #[prost(int64, optional, tag = "1")]
    pub ir_version: Option<i64>,
    /// The program that wrote it.
    #[prost(string, optional, tag = "2")]
    pub producer_name: Option<String>,
    /// The program's version.
    #[prost(string, optional, tag = "3")]
    pub producer_version: Option<String>,
    /// Namespace of the model's name.
    #[prost(string, optional, tag = "4")]
    pub domain: Option<String>,
    /// Version of the model.
    #[prost(int64, optional, tag = "5")]
    pub model_version: Option<i64>,
    /// For people.
    #[prost(string, optional, tag = "6")]
    pub doc_string: Option<String>,
    /// What is computed.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    /// The operator sets that nodes refer to.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
    /// Named notes; keys are distinct.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<Entry>,
    /// Training graphs, undecoded.
    #[prost(bytes = "bytes", repeated, tag = "20")]
    pub training_info: Vec<Bytes>,
    /// Functions that nodes may call, undecoded.
    #[prost(bytes = "bytes", repeated, tag = "25")]
    pub functions: Vec<Bytes>,
    /// Devices, undecoded.
    #[prost(bytes = "bytes", repeated, tag = "26")]
    pub configuration: Vec<Bytes>,
}

/// An operator set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OperatorSet {
    /// Whose operators; empty for ONNX's own.
    #[prost(string, optional, tag = "1")]
    pub domain: Option<String>,
    /// Which version of them.
    #[prost(int64, optional, tag = "2")]
    pub version: Option<i64>,
}

/// A key and its value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    /// The key.
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    /// The value.
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// Nodes in an order in which they can be computed, and the tensors they start from.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Graph {
    /// The operations.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    /// Its name.
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
    /// Constants.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    /// For people.
    #[prost(string, optional, tag = "10")]
    pub doc_string: Option<String>,
    /// What callers give.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    /// What callers get.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
    /// Types of values in between.
    #[prost(message, repeated, tag = "13")]
    pub value_info: Vec<ValueInfo>,
    /// Quantisation parameters of values, undecoded.
    #[prost(bytes = "bytes", repeated, tag = "14")]
    pub quantization_annotation: Vec<Bytes>,
    /// Constants that are mostly zeros.
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<SparseTensor>,
    /// Named notes.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<Entry>,
}

/// One operation.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    /// Names of values read; an empty name is an optional input left out.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of values made.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Its own name.
    #[prost(string, optional, tag = "3")]
    pub name: Option<String>,
    /// The operator.
    #[prost(string, optional, tag = "4")]
    pub op_type: Option<String>,
    /// What the operator is told.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    /// For people.
    #[prost(string, optional, tag = "6")]
    pub doc_string: Option<String>,
    /// The operator set the operator is from; ONNX's own where empty.
    #[prost(string, optional, tag = "7")]
    pub domain: Option<String>,
    /// Which of several functions of one name.
    #[prost(string, optional, tag = "8")]
    pub overload: Option<String>,
    /// Named notes.
    #[prost(message, repeated, tag = "9")]
    pub metadata_props: Vec<Entry>,
    /// Placement on devices, undecoded.
    #[prost(bytes = "bytes", repeated, tag = "10")]
    pub device_configurations: Vec<Bytes>,
}

/// Something an operator is told: a name, and a value in the field that `r#type` says.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Attribute {
    /// The name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// A number.
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// An integer.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// Text.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub s: Option<Bytes>,
    /// A tensor.
    #[prost(message, optional, tag = "5")]
    pub t: Option<Tensor>,
    /// A graph, such as the body of a loop; it may read the values around it.
    #[prost(message, optional, tag = "6")]
    pub g: Option<Graph>,
    /// Numbers.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// Integers.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// Texts.
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub strings: Vec<Bytes>,
    /// Tensors.
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<Tensor>,
    /// Graphs.
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<Graph>,
    /// For people.
    #[prost(string, optional, tag = "13")]
    pub doc_string: Option<String>,
    /// A type, undecoded.
    #[prost(bytes = "bytes", optional, tag = "14")]
    pub tp: Option<Bytes>,
    /// Types, undecoded.
    #[prost(bytes = "bytes", repeated, tag = "15")]
    pub type_protos: Vec<Bytes>,
    /// Which field holds the value, see [`attribute`].
    #[prost(int32, optional, tag = "20")]
    pub r#type: Option<i32>,
    /// Inside a function: the function's attribute it stands for.
    #[prost(string, optional, tag = "21")]
    pub ref_attr_name: Option<String>,
    /// A tensor that is mostly zeros.
    #[prost(message, optional, tag = "22")]
    pub sparse_tensor: Option<SparseTensor>,
    /// Such tensors.
    #[prost(message, repeated, tag = "23")]
    pub sparse_tensors: Vec<SparseTensor>,
}

/// Numbers with a shape. The values stand in the field of their type or, more often, in `raw_data`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Tensor {
    /// The shape; none for a scalar.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// Type of the elements, see [`element`].
    #[prost(int32, optional, tag = "2")]
    pub data_type: Option<i32>,
    /// Which part of a larger tensor it is, undecoded.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub segment: Option<Bytes>,
    /// Floats, and pairs of them for complex numbers.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// All types of 32 bits and less but floats.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// Texts.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub string_data: Vec<Bytes>,
    /// 64-bit integers.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// Its name.
    #[prost(string, optional, tag = "8")]
    pub name: Option<String>,
    /// Elements in row order, little-endian.
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub raw_data: Option<Bytes>,
    /// Doubles, and pairs of them for complex numbers.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// Unsigned integers of 32 and 64 bits.
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    /// For people.
    #[prost(string, optional, tag = "12")]
    pub doc_string: Option<String>,
    /// Where in another file the values are.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<Entry>,
    /// 1 where the values are in another file.
    #[prost(int32, optional, tag = "14")]
    pub data_location: Option<i32>,
    /// Named notes.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<Entry>,
}

/// A tensor of which only the values that are not zero are listed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SparseTensor {
    /// The values; the tensor's name is the whole's.
    #[prost(message, optional, tag = "1")]
    pub values: Option<Tensor>,
    /// Their places.
    #[prost(message, optional, tag = "2")]
    pub indices: Option<Tensor>,
    /// The shape of the whole.
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub dims: Vec<i64>,
}

/// A value's name and type.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ValueInfo {
    /// The name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// The type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<Type>,
    /// For people.
    #[prost(string, optional, tag = "3")]
    pub doc_string: Option<String>,
    /// Named notes.
    #[prost(message, repeated, tag = "4")]
    pub metadata_props: Vec<Entry>,
}

/// A value's type: one of its fields is there.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Type {
    /// A tensor.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
    /// A list, undecoded.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub sequence_type: Option<Bytes>,
    /// A map, undecoded.
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub map_type: Option<Bytes>,
    /// What the value stands for.
    #[prost(string, optional, tag = "6")]
    pub denotation: Option<String>,
    /// Something of another's making, undecoded.
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub opaque_type: Option<Bytes>,
    /// A sparse tensor.
    #[prost(message, optional, tag = "8")]
    pub sparse_tensor_type: Option<TensorType>,
    /// A value that may be absent, undecoded.
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub optional_type: Option<Bytes>,
}

/// Elements and shape of a tensor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorType {
    /// Type of the elements, see [`element`].
    #[prost(int32, optional, tag = "1")]
    pub elem_type: Option<i32>,
    /// The shape; of any rank where absent.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

/// A tensor's shape.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Shape {
    /// Its dimensions.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// One dimension: a number, a name for a number that is not fixed, or neither.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Dimension {
    /// The number.
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
    /// The name.
    #[prost(string, optional, tag = "2")]
    pub dim_param: Option<String>,
    /// What the dimension stands for.
    #[prost(string, optional, tag = "3")]
    pub denotation: Option<String>,
}

impl Dimension {
    /// A dimension of that many.
    #[must_use]
    pub fn of(size: usize) -> Self {
        Self { dim_value: i64::try_from(size).ok(), ..Self::default() }
    }

    /// A dimension that is not fixed.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { dim_param: Some(name.to_owned()), ..Self::default() }
    }
}

impl ValueInfo {
    /// A tensor's name, type of [`element`] and shape.
    #[must_use]
    pub fn tensor(name: &str, elements: i32, shape: Vec<Dimension>) -> Self {
        let tensor = TensorType { elem_type: Some(elements), shape: Some(Shape { dim: shape }) };
        Self {
            name: Some(name.to_owned()),
            r#type: Some(Type { tensor_type: Some(tensor), ..Type::default() }),
            ..Self::default()
        }
    }

    /// The dimensions, where it is a tensor that states them.
    #[must_use]
    pub fn dimensions(&self) -> Option<&[Dimension]> {
        Some(&self.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?.dim)
    }

    /// The type of its elements, of [`element`], where it is a tensor that states it.
    #[must_use]
    pub fn elements(&self) -> Option<i32> {
        self.r#type.as_ref()?.tensor_type.as_ref()?.elem_type
    }
}

impl Tensor {
    /// A tensor of 32-bit floats in row order.
    #[must_use]
    pub fn floats(name: &str, dims: &[usize], values: impl IntoIterator<Item = f32>) -> Self {
        let raw: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Self::raw(name, element::FLOAT, dims, raw)
    }

    /// A tensor of 64-bit integers in row order.
    #[must_use]
    pub fn integers(name: &str, dims: &[usize], values: impl IntoIterator<Item = i64>) -> Self {
        let raw: Vec<u8> = values.into_iter().flat_map(i64::to_le_bytes).collect();
        Self::raw(name, element::INT64, dims, raw)
    }

    pub(crate) fn raw(name: &str, elements: i32, dims: &[usize], raw: Vec<u8>) -> Self {
        Self {
            dims: dims.iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX)).collect(),
            data_type: Some(elements),
            name: Some(name.to_owned()),
            raw_data: Some(raw.into()),
            ..Self::default()
        }
    }

    /// Whether the values are in another file.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.data_location == Some(1)
    }
}

impl Attribute {
    /// An integer.
    #[must_use]
    pub fn int(name: &str, value: i64) -> Self {
        Self { name: Some(name.to_owned()), i: Some(value), r#type: Some(attribute::INT), ..Self::default() }
    }

    /// Integers.
    #[must_use]
    pub fn ints(name: &str, values: Vec<i64>) -> Self {
        Self { name: Some(name.to_owned()), ints: values, r#type: Some(attribute::INTS), ..Self::default() }
    }
}
