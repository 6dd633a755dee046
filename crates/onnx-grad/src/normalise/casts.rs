//! Casts of constants to floats, done once.

use headstart_onnx::proto::{Node, Tensor, element};

use crate::error::GradError;
use crate::graph::Graph;

/// Replaces casts of constants to floats of 32 or 64 bits by constants under the cast's name.
pub(super) fn fold(graph: &mut Graph) -> Result<(), GradError> {
    let mut nodes = Vec::new();
    for node in std::mem::take(&mut graph.nodes) {
        let to = node.int("to").and_then(|to| i32::try_from(to).ok()).unwrap_or_default();
        let source = node.reads(0).filter(|_| node.is("Cast")).and_then(|name| graph.constants.get(name));
        let folded = match (source, node.makes(0)) {
            (Some(source), Some(name)) => cast(source, to, name)?,
            _ => None,
        };
        match folded {
            Some(tensor) => drop(graph.constants.insert(tensor.name.clone().unwrap_or_default(), tensor)),
            None => nodes.push(node),
        }
    }
    graph.nodes = nodes;
    Ok(())
}

/// Makes a constant of 16-bit floats one of 32 bits, where every value that is gathered from it is cast to these at once: an
/// embedding that is stored so and to be trained. [`normalise`](super::normalise()) leaves it short, as most are not trained.
///
/// # Errors
/// [`GradError::Missing`] for no constant, [`GradError::NotFloat`] for one that is read otherwise.
pub fn widen(graph: &mut Graph, name: &str) -> Result<(), GradError> {
    let missing = || GradError::Missing { what: "constant", name: name.to_owned() };
    let source = graph.constant(name).ok_or_else(missing)?;
    let readers = graph.readers();
    let of = |value: &str| readers.get(value).into_iter().flatten().map(|&at| &graph.nodes()[at]);
    let long = i64::from(element::FLOAT);
    let is_cast = |value: &str| of(value).all(|node| node.is("Cast") && node.int("to") == Some(long));
    let gathered = |node: &Node| {
        node.is("Gather")
            && node.reads(0) == Some(name)
            && node.makes(0).is_some_and(|rows| is_cast(rows) && !graph.gives(rows))
    };
    if !of(name).all(gathered) || graph.gives(name) {
        return Err(GradError::NotFloat(name.to_owned()));
    }
    let widened = cast(source, element::FLOAT, name)?.ok_or_else(|| GradError::NotFloat(name.to_owned()))?;
    graph.constants.insert(name.to_owned(), widened);
    Ok(())
}

/// A constant in another type of floats; nothing for other types.
fn cast(source: &Tensor, to: i32, name: &str) -> Result<Option<Tensor>, GradError> {
    let short = matches!(source.elements(), element::HALF | element::BFLOAT16);
    if !short && !matches!(source.elements(), element::FLOAT | element::DOUBLE) {
        return Ok(None);
    }
    let shape = source.shape()?;
    Ok(match to {
        element::FLOAT => {
            let values = source.to_numbers()?;
            Some(Tensor::floats(name, &shape, values.into_iter().map(|value| value as f32)))
        }
        element::DOUBLE => Some(Tensor::doubles(name, &shape, source.to_numbers()?)),
        _ => None,
    })
}
