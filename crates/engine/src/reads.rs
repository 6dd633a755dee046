//! What a graph's inputs mean: read from the graph, held against the manifest.

use headstart_types::manifest::{ImageSpec, Layout, Manifest};
use headstart_types::payload::Modality;
use ort::value::{Outlet, TensorElementType, ValueType};

use crate::call::Input;
use crate::noise::noise;
use crate::signal::Signals;

/// What the graph's inputs mean.
#[derive(Debug)]
pub(crate) enum Reads {
    /// Token ids and whatever else a transformer's exporter adds.
    Tokens(TokenInputs),
    /// One tensor of numbers.
    Dense(DenseInput),
    /// Windows of sequences of any length.
    Signals(Box<Signals>),
    /// Whatever the graph says; nothing is made for it.
    Raw,
}

/// Inputs of shape `[n, tokens]`.
#[derive(Debug, Clone)]
pub(crate) struct TokenInputs {
    pub(crate) ids: TokenInput,
    pub(crate) mask: Option<TokenInput>,
    pub(crate) type_ids: Option<TokenInput>,
    pub(crate) positions: Option<TokenInput>,
    /// Tokens of every call, where the exporter fixed them; shorter texts are padded to it.
    pub(crate) length: Option<usize>,
}

/// One of the inputs that hold an integer a token.
#[derive(Debug, Clone)]
pub(crate) struct TokenInput {
    pub(crate) name: String,
    /// 32 bits instead of 64.
    pub(crate) narrow: bool,
}

/// An input of shape `[n, …item_shape]`.
#[derive(Debug, Clone)]
pub(crate) struct DenseInput {
    pub(crate) name: String,
    pub(crate) item_shape: Vec<usize>,
    pub(crate) element: Element,
}

impl DenseInput {
    /// Noise to try the graph with, of that largest value; bytes spread around the middle of their range.
    pub(crate) fn sample(&self, loudness: f32) -> Input {
        let values = noise(self.item_shape.iter().product()).map(|value| match self.element {
            Element::Single | Element::Half => loudness * value,
            Element::Byte => 127.5 + 127.5 * loudness * value,
        });
        Input::Dense(values.collect())
    }
}

/// What numbers a dense input is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    Single,
    Half,
    Byte,
}

impl Reads {
    /// Understands the inputs, and how many items every call takes where the exporter fixed that.
    ///
    /// # Errors
    /// What does not fit, naming the input.
    pub(crate) fn of(inputs: &[Outlet], manifest: &Manifest) -> Result<(Self, Option<usize>), String> {
        match (manifest.backbone.modality, &manifest.image) {
            (Modality::Text, _) => {
                let max_tokens = manifest.text.as_ref().map_or(0, |text| text.max_tokens);
                tokens(inputs, max_tokens)
            }
            (Modality::Image, Some(image)) => dense(inputs, image),
            (Modality::Image, None) => Err("the manifest has no [image]".into()),
            (Modality::Audio, _) => Err("the manifest has no [audio]".into()),
            (Modality::Tensor, _) => Ok((Self::Raw, None)),
        }
    }
}

fn tokens(inputs: &[Outlet], max_tokens: usize) -> Result<(Reads, Option<usize>), String> {
    let (mut ids, mut mask, mut type_ids, mut positions) = (None, None, None, None);
    let (mut batch, mut length) = (None, None);
    for input in inputs {
        let refused = || format!("input `{}` is not a tensor of int64 or int32", input.name());
        let ValueType::Tensor { ty, shape, .. } = input.dtype() else { return Err(refused()) };
        let narrow = *ty == TensorElementType::Int32;
        if !narrow && *ty != TensorElementType::Int64 {
            return Err(refused());
        }
        let &[items, tokens] = &shape[..] else {
            return Err(format!("input `{}` has {} dimensions instead of 2", input.name(), shape.len()));
        };
        fixed(input.name(), items, &mut batch)?;
        fixed(input.name(), tokens, &mut length)?;
        let place = match input.name() {
            "input_ids" => &mut ids,
            "attention_mask" => &mut mask,
            "token_type_ids" => &mut type_ids,
            "position_ids" => &mut positions,
            other => {
                return Err(format!(
                    "input `{other}` is unknown; a text graph takes input_ids, attention_mask, token_type_ids, position_ids"
                ));
            }
        };
        *place = Some(TokenInput { name: input.name().to_owned(), narrow });
    }
    let ids = ids.ok_or("the graph has no input `input_ids`")?;
    if let Some(length) = length.filter(|&length| max_tokens > length) {
        return Err(format!("the graph takes {length} tokens but text.max_tokens is {max_tokens}"));
    }
    if length.is_some() && mask.is_none() {
        return Err("the graph takes texts of one length only and no `attention_mask`".into());
    }
    Ok((Reads::Tokens(TokenInputs { ids, mask, type_ids, positions, length }), batch))
}

/// Notes a dimension that the exporter fixed; those of several inputs must agree.
fn fixed(input: &str, dimension: i64, seen: &mut Option<usize>) -> Result<(), String> {
    // Negative is dynamic.
    let Ok(dimension) = usize::try_from(dimension) else { return Ok(()) };
    match *seen {
        Some(other) if other != dimension => {
            Err(format!("input `{input}` has a dimension of {dimension} where another has {other}"))
        }
        _ if dimension == 0 => Err(format!("input `{input}` has a dimension of 0")),
        _ => {
            *seen = Some(dimension);
            Ok(())
        }
    }
}

fn dense(inputs: &[Outlet], image: &ImageSpec) -> Result<(Reads, Option<usize>), String> {
    let [input] = inputs else {
        return Err(format!("an image graph takes one input, this one has {}", inputs.len()));
    };
    let name = input.name();
    let ValueType::Tensor { ty, shape, .. } = input.dtype() else {
        return Err(format!("input `{name}` is not a tensor"));
    };
    let known = [
        (TensorElementType::Float32, Element::Single),
        (TensorElementType::Float16, Element::Half),
        (TensorElementType::Uint8, Element::Byte),
    ];
    let Some((_, element)) = known.into_iter().find(|(known, _)| known == ty) else {
        return Err(format!("input `{name}` is of {ty}; float32, float16 and uint8 are taken"));
    };
    let side = image.size as usize;
    let item_shape = match image.layout {
        Layout::Nchw => vec![3, side, side],
        Layout::Nhwc => vec![side, side, 3],
    };
    let fits = shape.len() == 4
        && shape.iter().skip(1).zip(&item_shape).all(|(&dim, &want)| dim < 0 || dim == want as i64);
    if !fits {
        return Err(format!(
            "input `{name}` has shape {shape:?}; image.size and image.layout say [n, {item_shape:?}]"
        ));
    }
    let mut batch = None;
    fixed(name, shape[0], &mut batch)?;
    Ok((Reads::Dense(DenseInput { name: name.to_owned(), item_shape, element }), batch))
}
