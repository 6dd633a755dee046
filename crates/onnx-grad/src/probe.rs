//! What is known of each value of a graph: it is run twice, with different sizes, by someone who can.
//!
//! Two runs tell what one cannot: a size that is the same in both does not depend on the batch, and an integer that is
//! the same in both may be written into the graph. Sizes are odd and distinct, so that a size that two values share in
//! both runs is the same size; none is 1, so that a 1 that is found stands for a broadcast axis.

use std::collections::{BTreeMap, HashMap};

use headstart_onnx::OnnxError;
use headstart_onnx::proto::{Model, Node, Tensor, ValueInfo, element};

use crate::error::GradError;
use crate::graph::Graph;
use crate::ops::OWN_SET;

/// What someone who runs a graph is told to give for one of its inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The input's name.
    pub name: String,
    /// The type of its elements, of [`element`].
    pub elements: i32,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The value of each element.
    pub value: f64,
}

/// What one run showed of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The type of its elements, of [`element`].
    pub elements: i32,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements, where they are integers or truth values and at most [`INTEGERS_MOST`].
    pub integers: Option<Vec<i64>>,
}

/// How many elements a tensor of integers may have whose values a [`Probe`] is to tell.
pub const INTEGERS_MOST: usize = 64;

/// Why a graph could not be run.
pub type ProbeError = Box<dyn std::error::Error + Send + Sync>;

/// Someone who can run a graph.
pub trait Probe {
    /// Loads `model` without rewriting it and runs it once with each of `runs`; tells for each of `values`, in their order,
    /// nothing of those that are no tensors. All of them are outputs of the model, which states no types for them.
    ///
    /// # Errors
    /// The runtime's.
    fn run(
        &self,
        model: &Model,
        runs: &[Vec<Sample>; 2],
        values: &[String],
    ) -> Result<[Vec<Option<Observed>>; 2], ProbeError>;
}

/// What the graph's inputs are given when it is probed. Whatever is not named here is chosen: odd sizes, and integers 0
/// in the first run and 1 in the second.
#[derive(Debug, Clone, Default)]
pub struct Sizes {
    /// The two sizes of a dimension by its name in the file, neither of them 1; the same twice where the graph stands
    /// no other.
    pub dimensions: BTreeMap<String, [usize; 2]>,
    /// The two values of an input of integers, by the input's name.
    pub integers: BTreeMap<String, [i64; 2]>,
}

/// Sizes for dimensions that nobody chose: pairs of distinct primes.
const PRIMES: [[usize; 2]; 8] = [[3, 5], [11, 7], [13, 17], [19, 23], [29, 31], [37, 41], [43, 47], [53, 59]];

/// What is known of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The type of its elements, of [`element`].
    pub elements: i32,
    shapes: [Vec<usize>; 2],
    integers: Option<Vec<Option<i64>>>,
}

impl Fact {
    fn of_constant(tensor: &Tensor) -> Result<Self, OnnxError> {
        let shape = tensor.shape()?;
        let small = tensor.len()? <= INTEGERS_MOST;
        let integers = if small { tensor.to_integers().ok() } else { None };
        let integers = integers.map(|values| values.into_iter().map(Some).collect());
        Ok(Self { elements: tensor.elements(), shapes: [shape.clone(), shape], integers })
    }

    fn of_runs(first: Observed, second: Observed) -> Result<Self, ProbeError> {
        if (first.elements, first.shape.len()) != (second.elements, second.shape.len()) {
            return Err("the type of a value depends on the sizes of the inputs".into());
        }
        let same = |(a, b): (i64, i64)| (a == b).then_some(a);
        let integers = match (first.integers, second.integers) {
            (Some(a), Some(b)) if first.shape == second.shape => {
                Some(a.into_iter().zip(b).map(same).collect())
            }
            _ => None,
        };
        Ok(Self { elements: first.elements, shapes: [first.shape, second.shape], integers })
    }

    /// The number of axes.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.shapes[0].len()
    }

    /// The size of an axis, where it does not depend on the inputs.
    #[must_use]
    pub fn size(&self, axis: usize) -> Option<usize> {
        let [first, second] = self.pair(axis)?;
        (first == second).then_some(first)
    }

    /// The shape, where no size depends on the inputs.
    #[must_use]
    pub fn sizes(&self) -> Option<Vec<usize>> {
        (0..self.rank()).map(|axis| self.size(axis)).collect()
    }

    /// The size of an axis in both runs.
    #[must_use]
    pub fn pair(&self, axis: usize) -> Option<[usize; 2]> {
        Some([*self.shapes[0].get(axis)?, *self.shapes[1].get(axis)?])
    }

    /// The sizes of all axes in both runs.
    #[must_use]
    pub fn pairs(&self) -> Vec<[usize; 2]> {
        self.shapes[0].iter().zip(&self.shapes[1]).map(|(&first, &second)| [first, second]).collect()
    }

    /// Whether values have the same shape, whatever the inputs.
    #[must_use]
    pub fn same_shape(&self, other: &Self) -> bool {
        self.shapes == other.shapes
    }

    /// Whether it is of floats that are too short for gradients.
    pub(crate) fn is_short_float(&self) -> bool {
        matches!(self.elements, element::HALF | element::BFLOAT16)
    }

    /// Whether it is of floats through which gradients flow.
    #[must_use]
    pub fn is_float(&self) -> bool {
        matches!(self.elements, element::FLOAT | element::DOUBLE)
    }

    /// The values of a tensor of integers, where none depends on the inputs.
    #[must_use]
    pub fn integers(&self) -> Option<Vec<i64>> {
        self.integers.as_ref()?.iter().copied().collect()
    }
}

/// What is known of each value of a graph.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    known: HashMap<String, Fact>,
    /// The inputs' axes whose sizes are not fixed: input, axis, sizes in both runs.
    free: Vec<(String, usize, [usize; 2])>,
}

impl Facts {
    /// Has a graph run, and learns of each of its values.
    ///
    /// # Errors
    /// [`GradError::Probe`] with the runtime's reason, [`GradError::Onnx`].
    pub fn learn(graph: &Graph, probe: &dyn Probe, sizes: &Sizes) -> Result<Self, GradError> {
        let mut facts = Self::default();
        for (name, tensor) in graph.constants() {
            facts.known.insert(name.to_owned(), Fact::of_constant(tensor)?);
        }
        let samples = samples(graph, sizes);
        for (first, second) in samples[0].iter().zip(&samples[1]) {
            let observed = |sample: &Sample| Observed {
                elements: sample.elements,
                shape: sample.shape.clone(),
                integers: None,
            };
            for (axis, (&a, &b)) in first.shape.iter().zip(&second.shape).enumerate() {
                if a != b {
                    facts.free.push((first.name.clone(), axis, [a, b]));
                }
            }
            let fact = Fact::of_runs(observed(first), observed(second)).map_err(GradError::Probe)?;
            facts.known.insert(first.name.clone(), fact);
        }
        let made = graph.nodes().iter().flat_map(|node| &node.output);
        let values: Vec<String> = made.filter(|name| !name.is_empty()).cloned().collect();
        let mut watched = graph.clone();
        let output = |name: &String| ValueInfo { name: Some(name.clone()), ..ValueInfo::default() };
        for node in watched.nodes.iter_mut().filter(|node| node.set() == OWN_SET) {
            let (from, to) = (node.reads(0).unwrap_or_default(), node.makes(0).unwrap_or_default());
            *node = Node::new("Identity", &[from], &[to], Vec::new());
        }
        watched.set_outputs(values.iter().map(output).collect());
        let model = watched.into_model();
        let [first, second] = probe.run(&model, &samples, &values).map_err(GradError::Probe)?;
        for (name, runs) in values.into_iter().zip(first.into_iter().zip(second)) {
            if let (Some(first), Some(second)) = runs {
                facts.known.insert(name, Fact::of_runs(first, second).map_err(GradError::Probe)?);
            }
        }
        Ok(facts)
    }

    /// What is known of a value.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub fn of(&self, name: &str) -> Result<&Fact, GradError> {
        self.known.get(name).ok_or_else(|| GradError::Unknown(name.to_owned()))
    }

    /// An input and its axis whose size has these values in the two runs.
    pub(crate) fn source(&self, pair: [usize; 2]) -> Option<(&str, usize)> {
        let found = self.free.iter().find(|(_, _, sizes)| *sizes == pair)?;
        Some((&found.0, found.1))
    }
}

/// What the inputs are given in the two runs.
fn samples(graph: &Graph, sizes: &Sizes) -> [Vec<Sample>; 2] {
    let mut chosen = sizes.dimensions.clone();
    let mut primes = PRIMES.iter().cycle();
    let mut runs = [Vec::new(), Vec::new()];
    for input in graph.inputs() {
        let name = input.name.clone().unwrap_or_default();
        let elements = input.elements().unwrap_or(element::FLOAT);
        let mut shapes = [Vec::new(), Vec::new()];
        for (axis, dimension) in input.dimensions().unwrap_or_default().iter().enumerate() {
            let pair = match dimension.dim_value.and_then(|size| usize::try_from(size).ok()) {
                Some(size) => [size, size],
                None => {
                    let stated = dimension.dim_param.clone().filter(|stated| !stated.is_empty());
                    let stated = stated.unwrap_or_else(|| format!("{name}/{axis}"));
                    *chosen.entry(stated).or_insert_with(|| *primes.next().unwrap_or(&PRIMES[0]))
                }
            };
            shapes[0].push(pair[0]);
            shapes[1].push(pair[1]);
        }
        let floats = matches!(elements, element::FLOAT | element::DOUBLE | element::HALF | element::BFLOAT16);
        let integers = sizes.integers.get(&name).map_or([0.0, 1.0], |pair| pair.map(|value| value as f64));
        let values = if floats { [0.5, 0.25] } else { integers };
        for ((run, shape), value) in runs.iter_mut().zip(shapes).zip(values) {
            run.push(Sample { name: name.clone(), elements, shape, value });
        }
    }
    runs
}
