//! Signals: sequences of any length, cut in windows that the graph reads, and the graph before it where there is one.
//!
//! The windows of all items of a call go to the graph together, a few at a time: their vectors are pooled over the item. A
//! graph before it takes one item a call. It may look at a whole call at once: the one of `openwakeword` takes the largest
//! value of all as its reference, so that a quiet sound beside a loud one would come out changed.

use half::f16;
use headstart_types::manifest::{AudioSpec, FrameLayout, Pooling, StageSpec, WindowSpec};
use ort::session::SessionInputValue;
use ort::value::{Outlet, Tensor, TensorElementType, TensorRef, ValueType};

use crate::call::{Input, Readout, Row, Scratch, Want};
use crate::noise::noise;
use crate::outputs::numbers;
use crate::pool::{normalise, pool};
use crate::session::{Ask, Graph, Provider, Shared};

/// How a graph reads signals.
pub(crate) struct Signals {
    input: Port,
    /// How a signal is cut; `None` where the graph reads one whole.
    windows: Option<WindowSpec>,
    /// Values of a row.
    width: usize,
    /// Most windows of one run.
    windows_at_once: usize,
    /// Rows that a graph is sure to take: those of the shortest sound, or of a second.
    shortest: usize,
    stage: Option<Stage>,
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let axes = &self.input.axes;
        formatter.debug_struct("Signals").field("axes", axes).field("windows", &self.windows).finish()
    }
}

/// A graph's one input.
struct Port {
    name: String,
    /// Whether it takes numbers in half precision.
    half: bool,
    axes: Axes,
}

/// What the axes of an input are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Axes {
    /// Whether several windows fit into one run.
    batch: Batch,
    rest: Vec<Axis>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batch {
    /// There is no such axis.
    Missing,
    /// It is always so long.
    Fixed(usize),
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    One,
    Rows,
    Width,
}

/// A graph between the samples and the backbone's.
struct Stage {
    session: Shared,
    input: Port,
    spec: StageSpec,
}

/// Windows of one run on the CPU: of a sound of many windows eight take 5 % more time each, 32 a quarter, and more memory.
const WINDOWS_ON_CPU: usize = 4;
/// Windows of one run on a GPU.
const WINDOWS_ON_GPU: usize = 64;

impl Signals {
    /// What the manifest says, compared with the graphs' inputs. `stage` is the graph before it, loaded.
    ///
    /// # Errors
    /// What does not fit.
    pub(crate) fn new(
        inputs: &[Outlet],
        audio: &AudioSpec,
        stage: Option<Shared>,
        provider: Provider,
    ) -> Result<Self, String> {
        let windows = audio.row_windows();
        let wants = match (audio.mel.is_some() || audio.stage.is_some(), audio.layout) {
            (false, _) => vec![Axis::Rows],
            (true, FrameLayout::Frames) => vec![Axis::Rows, Axis::Width],
            (true, FrameLayout::Bands) => vec![Axis::Width, Axis::Rows],
        };
        let (width, length) = (audio.width(), windows.as_ref().map(|windows| windows.length));
        let input = Port::of(inputs, &wants, width, length)?;
        let stage = match (stage, &audio.stage) {
            (Some(session), Some(spec)) => {
                let input = Port::of(session.inputs(), &[Axis::Rows], 1, None)?;
                Some(Stage { session, input, spec: spec.clone() })
            }
            _ => None,
        };
        let windows_at_once = match (input.axes.batch, provider) {
            (Batch::Missing, _) => 1,
            (Batch::Fixed(windows), _) => windows,
            (Batch::Any, Provider::Cpu) => WINDOWS_ON_CPU,
            (Batch::Any, Provider::Cuda) => WINDOWS_ON_GPU,
        };
        let shortest = match (&audio.stage, &audio.mel) {
            (None, Some(mel)) => mel.frames(audio.shortest.max(audio.rate as usize)),
            _ => audio.shortest.max(audio.rate as usize),
        };
        Ok(Self { input, windows, width, windows_at_once, shortest, stage })
    }

    /// A signal to try the graph with: noise of one window and some more, of that largest value.
    pub(crate) fn sample(&self, loudness: f32) -> Input {
        let rows = match (&self.stage, &self.windows) {
            (None, Some(windows)) => windows.length + windows.hop,
            (Some(_), _) | (None, None) => self.shortest,
        };
        let width = if self.stage.is_some() { 1 } else { self.width };
        Input::Signal { values: noise(rows * width).map(|value| loudness * value).collect(), width }
    }
}

impl Port {
    /// Finds rows and width among the axes of a graph's input; axes of length one may stand anywhere.
    fn of(inputs: &[Outlet], wants: &[Axis], width: usize, length: Option<usize>) -> Result<Self, String> {
        let [input] = inputs else {
            return Err(format!("a graph of sounds takes one input, this one has {}", inputs.len()));
        };
        let name = input.name().to_owned();
        let ValueType::Tensor { ty, shape, .. } = input.dtype() else {
            return Err(format!("input `{name}` is not a tensor"));
        };
        let half = *ty == TensorElementType::Float16;
        if !half && *ty != TensorElementType::Float32 {
            return Err(format!("input `{name}` is of {ty}; float32 and float16 are taken"));
        }
        let axes = places(shape, wants, width, length)
            .ok_or_else(|| format!("input `{name}` has shape {shape:?}, which [audio] does not fit"))?;
        Ok(Self { name, half, axes })
    }

    /// Values as the graph takes them; those in single precision stay where they are.
    fn tensor<'v>(&self, dims: Vec<usize>, values: &'v [f32]) -> Result<SessionInputValue<'v>, String> {
        let tensor = if self.half {
            let halves: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
            Tensor::from_array((dims, halves)).map(Into::into)
        } else {
            TensorRef::from_array_view((dims, values)).map(Into::into)
        };
        tensor.map_err(|error| error.to_string())
    }
}

fn places(dims: &[i64], wants: &[Axis], width: usize, length: Option<usize>) -> Option<Axes> {
    let (batch, rest) = match dims {
        [_] => (Batch::Missing, dims),
        [-1, rest @ ..] => (Batch::Any, rest),
        [windows, rest @ ..] => (Batch::Fixed(usize::try_from(*windows).ok().filter(|n| *n > 0)?), rest),
        [] => return None,
    };
    let (mut wanted, mut found) = (wants.iter().copied().peekable(), Vec::with_capacity(rest.len()));
    for &dim in rest {
        let fits = wanted.next_if(|axis| match axis {
            Axis::One => false,
            Axis::Rows => dim == -1 || length.is_some_and(|length| dim == length as i64),
            Axis::Width => dim == -1 || dim == width as i64,
        });
        match fits {
            Some(axis) => found.push(axis),
            None if dim == 1 => found.push(Axis::One),
            None => return None,
        }
    }
    wanted.peek().is_none().then_some(Axes { batch, rest: found })
}

impl Axes {
    /// The shape of so many windows of so many rows.
    fn dims(&self, windows: usize, rows: usize, width: usize) -> Vec<usize> {
        let batch = (self.batch != Batch::Missing).then_some(windows);
        let rest = self.rest.iter().map(|axis| match axis {
            Axis::One => 1,
            Axis::Rows => rows,
            Axis::Width => width,
        });
        batch.into_iter().chain(rest).collect()
    }

    /// Whether a row's values stand apart by the number of rows.
    fn width_first(&self) -> bool {
        let place = |axis| self.rest.iter().position(|found| *found == axis);
        place(Axis::Width).zip(place(Axis::Rows)).is_some_and(|(width, rows)| width < rows)
    }
}

/// A window of one of a call's items.
struct Window {
    item: usize,
    start: usize,
    rows: usize,
}

/// Runs a call's signals.
///
/// # Errors
/// ONNX Runtime's message, or what does not fit.
pub(crate) fn run_signals(
    graph: &Graph,
    signals: &Signals,
    readout: &Readout,
    items: &[(&Input, Want)],
    scratch: &mut Scratch,
) -> Result<Vec<Row>, String> {
    let mut staged = Vec::new();
    if let Some(stage) = &signals.stage {
        for (input, _) in items {
            staged.push(stage.run(values(input, 1)?, scratch.give_back)?);
        }
    }
    let mut sources: Vec<&[f32]> = staged.iter().map(Vec::as_slice).collect();
    if sources.is_empty() {
        sources = items.iter().map(|(input, _)| values(input, signals.width)).collect::<Result<_, _>>()?;
    }
    let windows: Vec<Window> =
        sources.iter().enumerate().flat_map(|(item, source)| signals.cut(item, source)).collect();
    let mut vectors = vec![Vec::new(); items.len()];
    for alike in windows.chunk_by(|left, right| left.rows == right.rows) {
        for windows in alike.chunks(signals.windows_at_once) {
            signals.run(graph, readout.dimension, windows, &sources, &mut vectors, scratch)?;
        }
    }
    let rows = vectors.iter().zip(items).map(|(vectors, (_, want))| {
        let count = vectors.len() / readout.dimension;
        if readout.pooling == Pooling::None && count != 1 {
            return Err(format!("{count} vectors of an item, and the manifest says that nothing is pooled"));
        }
        let mut row = Row::default();
        if want.features {
            row.features = pool(vectors, readout.dimension, count, readout.pooling);
            if readout.normalise {
                normalise(&mut row.features);
            }
        }
        Ok(row)
    });
    rows.collect()
}

/// A signal's values, of which each row has `width`.
fn values(input: &Input, width: usize) -> Result<&[f32], String> {
    match input {
        Input::Signal { values, width: found } if *found == width && !values.is_empty() => Ok(values),
        Input::Signal { width: found, .. } => {
            Err(format!("a signal of {found} values a row where the graph takes {width}"))
        }
        Input::Tokens { .. } | Input::Dense(_) | Input::Tensors(_) => {
            Err("no signal for a graph that reads signals".into())
        }
    }
}

impl Signals {
    fn cut(&self, item: usize, source: &[f32]) -> Vec<Window> {
        let rows = source.len() / self.width;
        match &self.windows {
            None => vec![Window { item, start: 0, rows }],
            Some(windows) => (0..windows.count(rows))
                .map(|index| Window { item, start: index * windows.hop, rows: windows.length })
                .collect(),
        }
    }

    /// Runs windows of equal length, and appends each one's vectors to its item's.
    fn run(
        &self,
        graph: &Graph,
        dimension: usize,
        windows: &[Window],
        sources: &[&[f32]],
        vectors: &mut [Vec<f32>],
        scratch: &mut Scratch,
    ) -> Result<(), String> {
        let Some(first) = windows.first() else { return Ok(()) };
        let size = first.rows * self.width;
        // A graph of a fixed number of windows gets silence for those that are missing.
        let count = match self.input.axes.batch {
            Batch::Fixed(count) => count,
            Batch::Missing | Batch::Any => windows.len(),
        };
        scratch.dense.clear();
        scratch.dense.resize(count * size, 0.0);
        for (window, out) in windows.iter().zip(scratch.dense.chunks_exact_mut(size)) {
            // What a window has beyond the signal's end stays zero.
            let source = &sources[window.item][window.start * self.width..];
            let source = &source[..source.len().min(size)];
            if self.input.axes.width_first() {
                for (row, values) in source.chunks_exact(self.width).enumerate() {
                    values
                        .iter()
                        .enumerate()
                        .for_each(|(band, value)| out[band * window.rows + row] = *value);
                }
            } else {
                out[..source.len()].copy_from_slice(source);
            }
        }
        let dims = self.input.axes.dims(count, first.rows, self.width);
        let tensor = self.input.tensor(dims, &scratch.dense)?;
        let inputs = vec![(self.input.name.as_str().into(), tensor)];
        let features = &graph.outputs().ok_or("the graph gives no features")?.features;
        graph.run(inputs, Ask { give_back: scratch.give_back, outputs: None }, |outputs| {
            let (_, values) = numbers(outputs, features)?;
            let each = values.len() / count;
            if each == 0 || !each.is_multiple_of(dimension) || each * count != values.len() {
                let found = values.len();
                return Err(format!("{found} values of {count} windows where vectors have {dimension}"));
            }
            for (window, values) in windows.iter().zip(values.chunks_exact(each)) {
                vectors[window.item].extend_from_slice(values);
            }
            Ok(())
        })
    }
}

impl Stage {
    /// Samples → frames in row order.
    fn run(&self, samples: &[f32], give_back: bool) -> Result<Vec<f32>, String> {
        let tensor = self.input.tensor(self.input.axes.dims(1, samples.len(), 1), samples)?;
        let inputs = vec![(self.input.name.as_str().into(), tensor)];
        self.session.run(inputs, Ask { give_back, outputs: None }, |outputs| {
            let (_, values) = numbers(outputs, &self.spec.tensor)?;
            if values.is_empty() || !values.len().is_multiple_of(self.spec.bands) {
                let (found, bands) = (values.len(), self.spec.bands);
                return Err(format!("the graph before it gave {found} values where frames have {bands}"));
            }
            Ok(values.iter().map(|value| value * self.spec.scale + self.spec.offset).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(shape: &[i64], wants: &[Axis], width: usize, length: Option<usize>) -> Option<Vec<usize>> {
        places(shape, wants, width, length).map(|axes| axes.dims(3, 76, width))
    }

    #[test]
    fn rows_and_bands_are_found_among_axes_of_one() {
        let frames = [Axis::Rows, Axis::Width];
        assert_eq!(found(&[-1, 76, 32, 1], &frames, 32, Some(76)), Some(vec![3, 76, 32, 1]));
        assert_eq!(found(&[-1, 1, -1, 32], &frames, 32, None), Some(vec![3, 1, 76, 32]));
        assert_eq!(found(&[4, 80, -1], &[Axis::Width, Axis::Rows], 80, Some(76)), Some(vec![3, 80, 76]));
        assert_eq!(found(&[-1], &[Axis::Rows], 1, None), Some(vec![76]));
        assert_eq!(found(&[-1, 75, 32], &frames, 32, Some(76)), None);
        assert_eq!(found(&[-1, 76], &frames, 32, Some(76)), None);
        assert_eq!(found(&[0, 76, 32], &frames, 32, Some(76)), None);
    }
}
