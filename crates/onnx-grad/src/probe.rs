//! What is known of each value of a graph: it is run with different sizes, by someone who can.
//!
//! Several runs tell what one cannot: a size that is the same in all does not depend on the batch, and an integer that is
//! the same in all may be written into the graph. Sizes are odd and distinct, so that a size that two values share in
//! all runs is the same size; none is 1, so that a 1 that is found stands for a broadcast axis. The last run's are larger:
//! behind strides small sizes all become 1.

use std::collections::{BTreeMap, HashMap};

use headstart_onnx::OnnxError;
use headstart_onnx::proto::{Dimension, Model, Node, Tensor, ValueInfo, element};

use crate::error::GradError;
use crate::graph::Graph;
use crate::ops::OWN_SET;
use crate::ops::windows::LEAD;
use crate::site::Site;

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
    /// Loads `model` without rewriting it and runs it once with each of `runs`; tells for each of them of each of `values`, in
    /// their order, nothing of those that are no tensors. All of them are outputs of the model, which states no types for them.
    ///
    /// # Errors
    /// The runtime's.
    fn run(
        &self,
        model: &Model,
        runs: &[Vec<Sample>],
        values: &[String],
    ) -> Result<Vec<Vec<Option<Observed>>>, ProbeError>;
}

/// Operators whose windows slide over an image.
const SLIDING: [&str; 4] = ["AveragePool", "Conv", "LpPool", "MaxPool"];

/// How often a graph is run.
pub const RUNS: usize = 3;

/// The size of an axis in each run.
pub type Tried = [usize; RUNS];

/// The sizes of an axis of one element.
pub(crate) const ONE: Tried = [1; RUNS];

/// What the graph's inputs are given when it is probed. Whatever is not named here is chosen: odd sizes, and integers 0
/// in the first run and 1 in the others.
#[derive(Debug, Clone, Default)]
pub struct Sizes {
    /// The sizes of a dimension by its name in the file, or `input/axis` where it has none, none of them 1; the same ones
    /// where the graph stands no other.
    pub dimensions: BTreeMap<String, Tried>,
    /// The values of an input of integers in the first run and in the others, by the input's name.
    pub integers: BTreeMap<String, [i64; 2]>,
}

/// Sizes for dimensions that nobody chose, in the first run, the second, and the last where it is to be larger: distinct
/// primes.
const PRIMES: [Tried; 16] = [
    [3, 5, 227],
    [11, 7, 229],
    [13, 17, 233],
    [19, 23, 239],
    [29, 31, 241],
    [37, 41, 251],
    [43, 47, 257],
    [53, 59, 263],
    [61, 67, 269],
    [71, 73, 271],
    [79, 83, 277],
    [89, 97, 281],
    [101, 103, 283],
    [107, 109, 293],
    [113, 127, 307],
    [131, 137, 311],
];

/// So many axes of an input are larger in the last run, the last ones: it is to fit into memory.
const WIDE: usize = 2;

/// How large a dimension that nobody chose is in the last run.
#[derive(Clone, Copy)]
enum Last {
    /// As in the first.
    Same,
    /// Larger, but not beyond what tables of positions have.
    Longer,
    /// Larger than most strides together.
    Wide,
}

/// The sizes of the dimension of that number among those that nobody chose.
fn chosen(at: usize, last: Last) -> Option<Tried> {
    let [first, second, wide] = *PRIMES.get(at)?;
    let last = match last {
        Last::Same => first,
        // No other dimension has it in the last run.
        Last::Longer => PRIMES[(at + PRIMES.len() / 2) % PRIMES.len()][1],
        Last::Wide => wide,
    };
    Some([first, second, last])
}

/// The size where it is the same in all runs.
pub(crate) fn fixed(tried: Tried) -> Option<usize> {
    tried.iter().all(|size| *size == tried[0]).then_some(tried[0])
}

/// What is known of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The type of its elements, of [`element`].
    pub elements: i32,
    shapes: [Vec<usize>; RUNS],
    integers: Option<Vec<Option<i64>>>,
}

impl Fact {
    fn of_constant(tensor: &Tensor) -> Result<Self, OnnxError> {
        let shape = tensor.shape()?;
        let small = tensor.len()? <= INTEGERS_MOST;
        let integers = if small { tensor.to_integers().ok() } else { None };
        let integers = integers.map(|values| values.into_iter().map(Some).collect());
        Ok(Self { elements: tensor.elements(), shapes: std::array::from_fn(|_| shape.clone()), integers })
    }

    fn of_runs(runs: [Observed; RUNS]) -> Result<Self, ProbeError> {
        let [first, others @ ..] = &runs;
        let (elements, mut integers) = (first.elements, first.integers.clone().map(known));
        for other in others {
            if (elements, first.shape.len()) != (other.elements, other.shape.len()) {
                return Err("the type of a value depends on the sizes of the inputs".into());
            }
            integers = match (integers, &other.integers) {
                (Some(all), Some(found)) if first.shape == other.shape => {
                    let same = |(known, found): (Option<i64>, &i64)| known.filter(|known| known == found);
                    Some(all.into_iter().zip(found).map(same).collect())
                }
                _ => None,
            };
        }
        Ok(Self { elements, shapes: runs.map(|run| run.shape), integers })
    }

    /// The number of axes.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.shapes[0].len()
    }

    /// The size of an axis, where it does not depend on the inputs.
    #[must_use]
    pub fn size(&self, axis: usize) -> Option<usize> {
        fixed(self.tried(axis)?)
    }

    /// The shape, where no size depends on the inputs.
    #[must_use]
    pub fn sizes(&self) -> Option<Vec<usize>> {
        (0..self.rank()).map(|axis| self.size(axis)).collect()
    }

    /// The size of an axis in each run.
    #[must_use]
    pub fn tried(&self, axis: usize) -> Option<Tried> {
        let [first, second, last] = &self.shapes;
        Some([*first.get(axis)?, *second.get(axis)?, *last.get(axis)?])
    }

    /// The sizes of all axes in each run.
    #[must_use]
    pub fn all_tried(&self) -> Vec<Tried> {
        (0..self.rank()).filter_map(|axis| self.tried(axis)).collect()
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
    /// The inputs' axes whose sizes are not fixed: input, axis, sizes in each run.
    free: Vec<(String, usize, Tried)>,
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
        let made = graph.nodes().iter().flat_map(|node| &node.output);
        let values: Vec<String> = made.filter(|name| !name.is_empty()).cloned().collect();
        let mut watched = graph.clone();
        let output = |name: &String| ValueInfo { name: Some(name.clone()), ..ValueInfo::default() };
        for node in watched.nodes.iter_mut().filter(|node| node.set() == OWN_SET) {
            let (from, to) = (node.reads(0).unwrap_or_default(), node.makes(0).unwrap_or_default());
            *node = Node::new("Identity", &[from], &[to], Vec::new());
        }
        watched.set_outputs(values.iter().map(output).collect());
        let (samples, observed) = run(&watched.into_model(), samples(graph, sizes)?, &values, probe)?;
        facts.of_inputs(&samples)?;
        for (at, name) in values.into_iter().enumerate() {
            let [first, second, last] = &observed;
            let of = |run: &Vec<Option<Observed>>| run.get(at).cloned().flatten();
            if let (Some(first), Some(second), Some(last)) = (of(first), of(second), of(last)) {
                facts.known.insert(name, Fact::of_runs([first, second, last]).map_err(GradError::Probe)?);
            }
        }
        facts.check_windows(graph)?;
        Ok(facts)
    }

    /// Of windows over an image there are as many as its size says: where it depends on the inputs and their number was always
    /// the same, the sizes that were tried are too small for what comes behind.
    fn check_windows(&self, graph: &Graph) -> Result<(), GradError> {
        let mut refused = Vec::new();
        for node in graph.nodes().iter().filter(|node| SLIDING.iter().any(|op| node.is(op))) {
            let fact = |name: Option<&str>| name.and_then(|name| self.known.get(name));
            let (Some(image), Some(windows)) = (fact(node.reads(0)), fact(node.makes(0))) else { continue };
            if (LEAD..image.rank()).any(|axis| image.size(axis).is_none() && windows.size(axis).is_some()) {
                let reason = "the graph was run with pictures too small to tell how many windows it has; larger sizes can be stated";
                refused.push(Site::new(node, graph, self).unsupported(reason));
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(GradError::Unsupported(refused)) }
    }

    /// Learns what the inputs are.
    fn of_inputs(&mut self, samples: &[Vec<Sample>; RUNS]) -> Result<(), GradError> {
        let [first, second, last] = samples;
        for ((first, second), last) in first.iter().zip(second).zip(last) {
            let observed = |sample: &Sample| Observed {
                elements: sample.elements,
                shape: sample.shape.clone(),
                integers: None,
            };
            let fact = Fact::of_runs([first, second, last].map(observed)).map_err(GradError::Probe)?;
            for (axis, tried) in fact.all_tried().into_iter().enumerate() {
                if fixed(tried).is_none() {
                    self.free.push((first.name.clone(), axis, tried));
                }
            }
            self.known.insert(first.name.clone(), fact);
        }
        Ok(())
    }

    /// What is known of a value.
    ///
    /// # Errors
    /// [`GradError::Unknown`].
    pub fn of(&self, name: &str) -> Result<&Fact, GradError> {
        self.known.get(name).ok_or_else(|| GradError::Unknown(name.to_owned()))
    }

    /// An input and its axis whose size has these values in the runs.
    pub(crate) fn source(&self, tried: Tried) -> Option<(&str, usize)> {
        let found = self.free.iter().find(|(_, _, sizes)| *sizes == tried)?;
        Some((&found.0, found.1))
    }
}

/// Samples of each run, and what each showed.
type Ran = ([Vec<Sample>; RUNS], [Vec<Option<Observed>>; RUNS]);

/// Has a graph run with samples. One that does not stand the last run's sizes is known by the others alone, whose second
/// then counts twice; so it is where the last would be as the first.
fn run(
    model: &Model,
    samples: [Vec<Sample>; RUNS],
    values: &[String],
    probe: &dyn Probe,
) -> Result<Ran, GradError> {
    let shapes = |run: &[Sample]| run.iter().map(|sample| sample.shape.clone()).collect::<Vec<_>>();
    let few = || -> Result<Ran, GradError> {
        let [first, second, _] = samples.clone();
        let pair = [first, second];
        let mut observed = probe.run(model, &pair, values).map_err(GradError::Probe)?.into_iter();
        let (seen, again) = (observed.next().unwrap_or_default(), observed.next().unwrap_or_default());
        let [first, second] = pair;
        Ok(([first, second.clone(), second], [seen, again.clone(), again]))
    };
    if shapes(&samples[0]) == shapes(&samples[2]) {
        return few();
    }
    match probe.run(model, &samples, values).map(<[Vec<Option<Observed>>; RUNS]>::try_from) {
        Ok(Ok(observed)) => Ok((samples, observed)),
        Ok(Err(_)) | Err(_) => few(),
    }
}

/// What the inputs are given in the runs.
fn samples(graph: &Graph, sizes: &Sizes) -> Result<[Vec<Sample>; RUNS], GradError> {
    let mut dimensions = sizes.dimensions.clone();
    let mut count = 0;
    let mut runs: [Vec<Sample>; RUNS] = Default::default();
    for input in graph.inputs() {
        let name = input.name.clone().unwrap_or_default();
        let elements = input.elements().unwrap_or(element::FLOAT);
        let floats = matches!(elements, element::FLOAT | element::DOUBLE | element::HALF | element::BFLOAT16);
        let mut shapes: [Vec<usize>; RUNS] = Default::default();
        let stated = input.dimensions().unwrap_or_default();
        let size = |dimension: &Dimension| dimension.dim_value.and_then(|size| usize::try_from(size).ok());
        for (axis, dimension) in stated.iter().enumerate() {
            let tried = match size(dimension) {
                Some(size) => [size; RUNS],
                None => {
                    let named = dimension.dim_param.clone().filter(|named| !named.is_empty());
                    let named = named.unwrap_or_else(|| format!("{name}/{axis}"));
                    let behind = stated.iter().skip(axis + 1).filter(|other| size(other).is_none()).count();
                    let last = match (axis > 0 && behind < WIDE, floats) {
                        (false, _) => Last::Same,
                        (true, false) => Last::Longer,
                        (true, true) => Last::Wide,
                    };
                    let known = dimensions.get(&named).copied();
                    let tried = known.or_else(|| chosen(count, last)).ok_or_else(too_many)?;
                    count += usize::from(known.is_none());
                    dimensions.insert(named, tried);
                    tried
                }
            };
            shapes.iter_mut().zip(tried).for_each(|(shape, size)| shape.push(size));
        }
        let [first, others] =
            sizes.integers.get(&name).map_or([0.0, 1.0], |values| values.map(|value| value as f64));
        let values = if floats { [0.5, 0.25, 0.25] } else { [first, others, others] };
        for ((run, shape), value) in runs.iter_mut().zip(shapes).zip(values) {
            run.push(Sample { name: name.clone(), elements, shape, value });
        }
    }
    Ok(runs)
}

fn too_many() -> GradError {
    let most = PRIMES.len();
    GradError::Probe(
        format!("more than {most} dimensions of the inputs are not fixed, and no sizes are stated").into(),
    )
}

fn known(values: Vec<i64>) -> Vec<Option<i64>> {
    values.into_iter().map(Some).collect()
}
