//! Published weights to ONNX graphs: encoders of BERT's family, as Hugging Face keeps them in safetensors files.
//!
//! [`convert`] reads a folder's `config.json`, compares every weight it needs with it, and writes a graph that takes
//! `input_ids`, `attention_mask` and, where the model has segments, `token_type_ids`, all `[N, L]` of any N and L. Nothing is
//! run here, and weights pass through piece by piece: a file of any size takes little memory.
#![deny(missing_docs)]

mod builder;
mod config;
mod encoder;
mod error;
mod names;
mod relative;
mod weights;
mod write;

use std::path::Path;

pub use error::ConvertError;

use config::Config;
use encoder::Encoder;
use weights::Weights;

/// The files that hold weights, or say which files do; one of them must be there.
pub const WEIGHTS: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];

/// The graph's file.
pub const GRAPH: &str = "model.onnx";

/// The file beside it that holds weights, where they do not fit.
pub const EXTERNAL: &str = "model.onnx_data";

/// How matrices are stored. Either way the graph computes in single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits a value.
    Single,
    /// 16 bits a value; vectors (biases, norms) keep 32.
    Half,
}

/// How a folder is converted.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How matrices are stored.
    pub precision: Precision,
    /// Most bytes of weights in the graph's own file; the others go to [`EXTERNAL`]. The format allows less than 2 GiB.
    pub most_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        // A mebibyte is left for nodes and names.
        Self { precision: Precision::Single, most_bytes: (2 << 30) - (1 << 20) }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The model's kind as `config.json` names it.
    pub model_type: String,
    /// Transformer layers.
    pub layers: usize,
    /// Length of a token's vector.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Weights of the graph.
    pub parameters: u64,
    /// Its output: `last_hidden_state` `[N, L, width]`, or `logits` `[N, classes]`.
    pub output: &'static str,
    /// Whether weights are in [`EXTERNAL`].
    pub external: bool,
}

/// Converts the folder `from`, and writes [`GRAPH`], and [`EXTERNAL`] where needed, into the folder `into`.
///
/// # Errors
/// [`ConvertError`] naming the file, the field of `config.json` or the weight that is wrong or missing.
pub fn convert(from: &Path, into: &Path, options: Options) -> Result<Converted, ConvertError> {
    let config = Config::read(from)?;
    let weights = Weights::open(from)?;
    let plan = Encoder::new(&config, &weights, options.precision)?.plan()?;
    let external = write::write(&plan, &weights, into, options.most_bytes)?;
    Ok(Converted {
        model_type: config.model_type.clone(),
        layers: config.layers,
        width: config.width,
        heads: config.heads,
        parameters: plan.parameters(),
        output: plan.output(),
        external,
    })
}
