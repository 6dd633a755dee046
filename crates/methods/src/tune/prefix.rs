//! A graph in two: the part before the blocks that are trained, which gives every row the same in every pass, and the rest.

use std::collections::HashSet;

use headstart_onnx::proto::{Dimension, Model, ValueInfo, element};
use headstart_onnx_grad::{Facts, Graph, RUNS, Sizes, Tried};
use headstart_types::runner::Runners;
use prost::Message as _;

use super::blocks;
use super::graph::refused;
use super::probe::Asking;
use crate::error::MethodError;

/// What is not trained of a graph, and what the rest reads of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Prefix {
    /// An ONNX file that takes the classifier's inputs.
    pub model: Vec<u8>,
    /// What it gives, and the rest takes in its place: 32-bit floats, row after row.
    pub value: String,
    /// Whether its first axis is that of the rows and another in one.
    pub joined: bool,
    /// The classifier's inputs that the rest takes as well.
    pub rest: Vec<String>,
}

impl Prefix {
    /// The shape of one row's part of a value of so many rows; nothing for a value that has not so many.
    pub fn of_a_row(&self, shape: &[usize], rows: usize) -> Option<Vec<usize>> {
        let (first, rest) = shape.split_first()?;
        let each = first.checked_div(rows).filter(|each| each * rows == *first && *each > 0)?;
        let own = if self.joined { Some(each) } else { None };
        (self.joined || each == 1).then(|| own.into_iter().chain(rest.iter().copied()).collect())
    }

    /// The shape of a value of so many rows, of which each has that shape.
    pub fn of_rows(&self, mut row: Vec<usize>, rows: usize) -> Vec<usize> {
        match row.first_mut() {
            Some(first) if self.joined => *first *= rows,
            Some(_) | None => row.insert(0, rows),
        }
        row
    }
}

/// A graph before its last blocks, and the rest.
pub(super) struct Split {
    /// What stands before; nothing where the graph is as it was.
    pub(super) prefix: Option<Prefix>,
    /// The rest.
    pub(super) graph: Graph,
    /// The sizes that stand for each other in the rest.
    pub(super) sizes: Sizes,
    /// Constants that what stands before reads: trained, they would change there too.
    pub(super) before: HashSet<String>,
}

/// Parts a graph before its last `count` blocks; it stays as it is where these are all blocks there are, or what carries on
/// between them does not lie row after row.
pub(super) fn split(
    graph: Graph,
    features: &str,
    count: usize,
    (runners, sizes): (&dyn Runners, Sizes),
) -> Result<Split, MethodError> {
    let given = sizes.clone();
    let whole = |graph| Ok(Split { prefix: None, graph, sizes: given, before: HashSet::new() });
    let Some(value) = blocks::cut(&graph, features, count)? else { return whole(graph) };
    let facts = Facts::learn(&graph, &Asking(runners), &sizes).map_err(refused)?;
    let fact = facts.of(&value).map_err(refused)?;
    let free = free(&graph, &facts);
    let (Some((_, batch)), Some(first)) = (free.first(), fact.tried(0)) else { return whole(graph) };
    let times = |other: &Tried| std::array::from_fn::<_, RUNS, _>(|run| batch[run] * other[run]);
    let joined = free.iter().skip(1).any(|(_, other)| times(other) == first);
    if fact.elements != element::FLOAT || !(joined || first == *batch) {
        return whole(graph);
    }
    let mut sizes = sizes;
    sizes.dimensions.extend(free.iter().cloned());
    let mut dimensions = Vec::with_capacity(fact.rank());
    for (axis, tried) in fact.all_tried().into_iter().enumerate() {
        let known = free.iter().find(|(_, known)| *known == tried);
        dimensions.push(match (fact.size(axis), known) {
            (Some(size), _) => Dimension::of(size),
            (None, Some((name, _))) => Dimension::named(name),
            (None, None) => {
                let name = format!("{value}/{axis}");
                sizes.dimensions.insert(name.clone(), tried);
                Dimension::named(&name)
            }
        });
    }
    let mut front = graph.clone();
    front.set_outputs(vec![ValueInfo { name: Some(value.clone()), ..ValueInfo::default() }]);
    front.prune();
    let before = front.constants().map(|(name, _)| name.to_owned()).collect();
    let front = with_inputs_read(front.into_model()).encode_to_vec();
    let empty = graph.again(Model::default()).map_err(refused)?;
    let mut model = graph.into_model();
    if let Some(graph) = &mut model.graph {
        graph.node.retain(|node| !node.output.contains(&value));
        graph.input.push(ValueInfo::tensor(&value, element::FLOAT, dimensions));
    }
    let mut back = empty.again(model).map_err(refused)?;
    back.prune();
    let back = empty.again(with_inputs_read(back.into_model())).map_err(refused)?;
    let names = back.inputs().iter().filter_map(|input| input.name.clone());
    let rest = names.filter(|name| *name != value).collect();
    let prefix = Some(Prefix { model: front, value, joined, rest });
    Ok(Split { prefix, graph: back, sizes, before })
}

/// The sizes of inputs that are not fixed, by their names, the rows' first.
fn free(graph: &Graph, facts: &Facts) -> Vec<(String, Tried)> {
    let mut free: Vec<(String, Tried)> = Vec::new();
    for input in graph.inputs() {
        let fact = input.name.as_deref().and_then(|name| facts.of(name).ok());
        for (axis, dimension) in input.dimensions().unwrap_or_default().iter().enumerate() {
            let (name, tried) = (dimension.dim_param.clone(), fact.and_then(|fact| fact.tried(axis)));
            if let (Some(name), Some(tried)) = (name, tried)
                && tried != [tried[0]; RUNS]
                && free.iter().all(|(known, _)| *known != name)
            {
                free.push((name, tried));
            }
        }
    }
    free
}

/// A model without the inputs that nothing reads.
fn with_inputs_read(mut model: Model) -> Model {
    if let Some(graph) = &mut model.graph {
        let read: HashSet<String> =
            graph.node.iter().flat_map(|node| node.reads_all()).map(str::to_owned).collect();
        graph.input.retain(|input| input.name.as_deref().is_some_and(|name| read.contains(name)));
    }
    model
}
