//! Inputs as the named tensors of a batch, for a graph that is trained and has the inputs of a backbone's.

use headstart_types::tensor::{DataType, Tensor, Values};

use crate::backbone::Backbone;
use crate::call::Input;
use crate::error::EngineError;
use crate::reads::{DenseInput, Element, Reads, TokenInput, TokenInputs};

/// The input that says which tokens are real. A graph that pools by it has it, also where its backbone does without.
const MASK: &str = "attention_mask";

/// The inputs of a backbone's graph. They hold no session: whoever feeds a training keeps nothing else in memory.
#[derive(Debug, Clone)]
pub struct GraphInputs {
    backbone: String,
    inputs: Inputs,
}

#[derive(Debug, Clone)]
enum Inputs {
    Tokens(TokenInputs),
    Dense(DenseInput),
}

impl Backbone {
    /// The inputs of its graph.
    ///
    /// # Errors
    /// [`EngineError::Graph`] for a graph of sounds or of raw tensors.
    pub fn graph_inputs(&self) -> Result<GraphInputs, EngineError> {
        let backbone = self.id().to_owned();
        let inputs = match self.reads() {
            Reads::Tokens(names) => Inputs::Tokens(names.clone()),
            Reads::Dense(input) => Inputs::Dense(input.clone()),
            Reads::Signals(_) | Reads::Raw => {
                return Err(refused(&backbone, "its graph reads neither texts nor pictures"));
            }
        };
        Ok(GraphInputs { backbone, inputs })
    }
}

impl GraphInputs {
    /// Inputs as one batch of the graph, padded to the longest.
    ///
    /// # Errors
    /// [`EngineError::Graph`] for inputs that the graph does not read.
    pub fn batch(&self, inputs: &[&Input]) -> Result<Vec<(String, Tensor)>, EngineError> {
        let made = match &self.inputs {
            Inputs::Tokens(names) => tokens(names, inputs),
            Inputs::Dense(input) => dense(input, inputs),
        };
        made.map_err(|problem| refused(&self.backbone, &problem))
    }
}

fn refused(backbone: &str, problem: &str) -> EngineError {
    EngineError::Graph(format!("`{backbone}`: {problem}"))
}

fn tokens(names: &TokenInputs, inputs: &[&Input]) -> Result<Vec<(String, Tensor)>, String> {
    let longest = inputs.iter().map(|input| input.length()).max().unwrap_or(0);
    let padded = names.length.unwrap_or(longest);
    if longest > padded {
        return Err(format!("{longest} tokens for a graph that takes {padded}"));
    }
    let mask = TokenInput { name: MASK.to_owned(), narrow: false };
    let mask = names.mask.as_ref().unwrap_or(&mask);
    let mut columns: [Vec<i64>; 4] = std::array::from_fn(|_| Vec::with_capacity(inputs.len() * padded));
    for (row, input) in inputs.iter().enumerate() {
        let Input::Tokens { ids, type_ids } = input else {
            return Err("a tensor for a graph that reads token ids".into());
        };
        let types = type_ids.iter().flatten().take(ids.len()).map(|id| i64::from(*id));
        let [all_ids, all_mask, all_types, positions] = &mut columns;
        all_ids.extend(ids.iter().map(|id| i64::from(*id)));
        all_mask.extend(std::iter::repeat_n(1, ids.len()));
        all_types.extend(types);
        positions.extend(0..padded as i64);
        for column in [all_ids, all_mask, all_types] {
            column.resize((row + 1) * padded, 0);
        }
    }
    let shape = [inputs.len(), padded];
    let inputs = [Some(&names.ids), Some(mask), names.type_ids.as_ref(), names.positions.as_ref()];
    let named = inputs.into_iter().zip(columns).filter_map(|(input, values)| Some((input?, values)));
    Ok(named.map(|(input, values)| (input.name.clone(), integers(input.narrow, &shape, &values))).collect())
}

fn dense(input: &DenseInput, inputs: &[&Input]) -> Result<Vec<(String, Tensor)>, String> {
    let DenseInput { name, item_shape, element } = input;
    let size: usize = item_shape.iter().product();
    let mut values: Vec<u8> = Vec::with_capacity(inputs.len() * size * size_of::<f32>());
    for input in inputs {
        match input {
            Input::Dense(data) if data.len() == size => match element {
                Element::Single => values.extend(data.iter().flat_map(|value| value.to_le_bytes())),
                Element::Half | Element::Byte => {
                    return Err(format!("input `{name}` is not of 32-bit floats"));
                }
            },
            Input::Dense(_) | Input::Tokens { .. } | Input::Signal { .. } | Input::Tensors(_) => {
                return Err("another input than the graph takes".into());
            }
        }
    }
    let shape = std::iter::once(inputs.len()).chain(item_shape.iter().copied()).collect();
    let values = Values::Fixed { datatype: DataType::Fp32, bytes: values.into() };
    Ok(vec![(name.clone(), Tensor { shape, values })])
}

fn integers(narrow: bool, shape: &[usize], values: &[i64]) -> Tensor {
    let (datatype, bytes): (DataType, Vec<u8>) = if narrow {
        // Ids come from a vocabulary, far below the limit.
        (DataType::Int32, values.iter().flat_map(|value| (*value as i32).to_le_bytes()).collect())
    } else {
        (DataType::Int64, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    };
    Tensor { shape: shape.to_vec(), values: Values::Fixed { datatype, bytes: bytes.into() } }
}
