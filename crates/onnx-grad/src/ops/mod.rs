//! The operators through which gradients flow, one file each, and the table of them. [`Op`] says how one is added.

mod abs;
mod add;
mod cast;
mod ceil;
mod clip;
mod div;
mod dropout;
mod elu;
mod erf;
mod exp;
mod extremum;
mod floor;
mod gelu;
mod gemm;
mod hard_sigmoid;
mod hard_swish;
mod identity;
mod layer_normalization;
mod leaky_relu;
mod linear;
mod log;
mod log_softmax;
mod mat_mul;
mod max;
mod mean;
mod min;
mod mul;
mod neg;
mod op;
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
mod reverse_gradient;
mod round;
mod sigmoid;
mod sign;
mod softmax;
mod softplus;
mod sqrt;
mod sub;
mod sum;
mod tanh;

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
    &cast::Cast,
    &ceil::Ceil,
    &clip::Clip,
    &div::Div,
    &dropout::Dropout,
    &elu::Elu,
    &erf::Erf,
    &exp::Exp,
    &floor::Floor,
    &gelu::Gelu { set: "" },
    &gelu::Gelu { set: "com.microsoft" },
    &gemm::Gemm,
    &hard_sigmoid::HardSigmoid,
    &hard_swish::HardSwish,
    &identity::Identity,
    &layer_normalization::LayerNormalization,
    &leaky_relu::LeakyRelu,
    &linear::Linear,
    &log::Log,
    &log_softmax::LogSoftmax,
    &mat_mul::MatMul,
    &max::Max,
    &mean::Mean,
    &min::Min,
    &mul::Mul,
    &neg::Neg,
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
    &reverse_gradient::ReverseGradient,
    &round::Round,
    &sigmoid::Sigmoid,
    &sign::Sign,
    &softmax::Softmax,
    &softplus::Softplus,
    &sqrt::Sqrt,
    &sub::Sub,
    &sum::Sum,
    &tanh::Tanh,
];
