//! The operators through which gradients flow, one file each, and the table of them. [`Op`] says how one is added.

mod abs;
mod add;
mod average_pool;
mod batch_normalization;
mod cast;
mod ceil;
mod clip;
mod concat;
pub(crate) mod conv;
mod conv_transpose;
mod cum_sum;
mod depth_to_space;
mod div;
mod dropout;
mod einsum;
mod elu;
mod erf;
mod exp;
mod expand;
mod extremum;
mod flatten;
mod floor;
mod gather;
mod gather_elements;
mod gather_nd;
mod gelu;
mod gemm;
mod global_average_pool;
mod global_max_pool;
mod group_normalization;
mod group_statistics;
mod hard_sigmoid;
mod hard_swish;
mod identity;
mod instance_normalization;
pub(crate) mod layer_normalization;
mod leaky_relu;
mod linear;
mod log;
mod log_softmax;
mod mat_mul;
mod max;
mod max_pool;
mod mean;
mod min;
mod mul;
mod neg;
mod op;
mod pad;
mod placing;
mod pow;
mod prelu;
mod reciprocal;
mod reduce_l1;
mod reduce_l2;
mod reduce_log_sum;
mod reduce_log_sum_exp;
mod reduce_max;
mod reduce_mean;
mod reduce_min;
mod reduce_prod;
mod reduce_sum;
mod reduce_sum_square;
mod reduction;
mod relu;
mod reshape;
mod resize;
mod reverse_gradient;
mod round;
pub(crate) mod rows;
mod scatter_elements;
mod scatter_nd;
mod sigmoid;
mod sign;
mod slice;
mod softmax;
mod softplus;
mod space_to_depth;
mod split;
mod sqrt;
mod squeeze;
mod sub;
mod sum;
mod tanh;
mod tile;
mod transpose;
mod trilu;
mod unsqueeze;
mod weight_gradient;
mod r#where;
pub(crate) mod windows;

pub use op::Op;

/// The oldest version of ONNX's own operators that graphs are differentiated in.
pub const OLDEST_OPSET: i64 = 18;

/// The newest version of ONNX's own operators whose meanings are known here.
pub const NEWEST_OPSET: i64 = 25;

/// The domain of this crate's own operators, which stand for several of ONNX's and are in no file.
pub(crate) const OWN_SET: &str = "headstart.grad";

/// Every operator with a derivative, by name.
pub static OPS: &[&dyn Op] = &[
    &abs::Abs,
    &add::Add,
    &average_pool::AveragePool,
    &batch_normalization::BatchNormalization,
    &cast::Cast,
    &ceil::Ceil,
    &clip::Clip,
    &concat::Concat,
    &conv::Conv,
    &conv_transpose::ConvTranspose,
    &cum_sum::CumSum,
    &depth_to_space::DepthToSpace,
    &div::Div,
    &dropout::Dropout,
    &einsum::Einsum,
    &elu::Elu,
    &erf::Erf,
    &exp::Exp,
    &expand::Expand,
    &flatten::Flatten,
    &floor::Floor,
    &gather::Gather,
    &gather_elements::GatherElements,
    &gather_nd::GatherND,
    &gelu::Gelu { set: "" },
    &gelu::Gelu { set: "com.microsoft" },
    &gemm::Gemm,
    &global_average_pool::GlobalAveragePool,
    &global_max_pool::GlobalMaxPool,
    &group_normalization::GroupNormalization,
    &hard_sigmoid::HardSigmoid,
    &hard_swish::HardSwish,
    &identity::Identity,
    &instance_normalization::InstanceNormalization,
    &layer_normalization::LayerNormalization,
    &leaky_relu::LeakyRelu,
    &linear::Linear,
    &log::Log,
    &log_softmax::LogSoftmax,
    &mat_mul::MatMul,
    &max::Max,
    &max_pool::MaxPool,
    &mean::Mean,
    &min::Min,
    &mul::Mul,
    &neg::Neg,
    &pad::Pad,
    &pow::Pow,
    &prelu::PRelu,
    &reciprocal::Reciprocal,
    &reduce_l1::ReduceL1,
    &reduce_l2::ReduceL2,
    &reduce_log_sum::ReduceLogSum,
    &reduce_log_sum_exp::ReduceLogSumExp,
    &reduce_max::ReduceMax,
    &reduce_mean::ReduceMean,
    &reduce_min::ReduceMin,
    &reduce_prod::ReduceProd,
    &reduce_sum::ReduceSum,
    &reduce_sum_square::ReduceSumSquare,
    &relu::Relu,
    &reshape::Reshape,
    &resize::Resize,
    &reverse_gradient::ReverseGradient,
    &round::Round,
    &scatter_elements::ScatterElements,
    &scatter_nd::ScatterND,
    &sigmoid::Sigmoid,
    &sign::Sign,
    &slice::Slice,
    &softmax::Softmax,
    &softplus::Softplus,
    &space_to_depth::SpaceToDepth,
    &split::Split,
    &sqrt::Sqrt,
    &squeeze::Squeeze,
    &sub::Sub,
    &sum::Sum,
    &tanh::Tanh,
    &tile::Tile,
    &transpose::Transpose,
    &trilu::Trilu,
    &unsqueeze::Unsqueeze,
    &r#where::Where,
];
