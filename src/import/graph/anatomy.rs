//! What a file says of its graph: inputs, what is done to them first, who wrote it, and what it is called.

use headstart_onnx::Outline;
use headstart_onnx::proto::{ValueInfo, element};
use headstart_types::payload::Modality;
use headstart_types::tensor::DataType;

/// Nodes that a walk from the input follows to see what is done to it first.
const STEPS: usize = 8;

/// Shortest length by which an input without a telling name is taken for samples of a sound.
const SAMPLES: usize = 4000;

/// Bands that mel front ends usually have.
const BANDS: [usize; 6] = [32, 40, 64, 80, 96, 128];

const OF_SOUNDS: [&str; 8] = ["wav", "audio", "input_values", "samples", "speech", "signal", "pcm", "sound"];
const OF_FRAMES: [&str; 4] = ["mel", "input_features", "fbank", "spectr"];
const OF_PICTURES: [&str; 2] = ["image", "pixel"];

/// An input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) name: String,
    /// `None` where it is of a type that no preprocessing makes.
    pub(super) datatype: Option<DataType>,
    /// Its sizes, `None` where any will do.
    pub(super) dims: Vec<Option<usize>>,
}

/// A graph as far as its file tells.
#[derive(Debug)]
pub(super) struct Anatomy {
    pub(super) inputs: Vec<Given>,
    /// Whether arithmetic with constants is the first thing done to the first input.
    pub(super) normalises: bool,
    pub(super) producer: String,
    /// The file's and the backbone's names in small letters, `-` between and around words.
    clue: String,
    nodes: usize,
}

impl Anatomy {
    pub(super) fn of(outline: &Outline, name: &str) -> Self {
        let inputs: Vec<Given> = outline.inputs().map(given).collect();
        let first = inputs.first().map_or("", |input| input.name.as_str());
        let small = name.to_lowercase();
        let clue = small.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        Self {
            normalises: normalises(outline, first),
            producer: outline.producer().to_lowercase(),
            clue: clue.fold("-".to_owned(), |clue, word| clue + word + "-"),
            nodes: outline.nodes().count(),
            inputs,
        }
    }

    /// Whether a word of its names begins so.
    pub(super) fn is_called(&self, family: &str) -> bool {
        self.clue.contains(&format!("-{family}"))
    }

    /// Whether it comes from TensorFlow or Keras.
    pub(super) fn is_of_keras(&self) -> bool {
        ["tf2onnx", "keras", "tensorflow"].iter().any(|name| self.producer.contains(name))
    }

    pub(super) fn summary(&self) -> String {
        let inputs: Vec<String> = self.inputs.iter().map(Given::shown).collect();
        let producer = if self.producer.is_empty() { "nobody named" } else { &self.producer };
        format!("{} nodes, written by {producer}; takes {}", self.nodes, inputs.join(", "))
    }

    /// What it reads, and why that is thought.
    pub(super) fn modality(&self) -> (Modality, String) {
        if let Some(ids) = self.inputs.iter().find(|input| input.name == "input_ids") {
            return (Modality::Text, format!("it takes {}", ids.shown()));
        }
        let [input] = self.inputs.as_slice() else {
            let several = format!("it takes {} inputs, none of them `input_ids`", self.inputs.len());
            return (Modality::Tensor, several);
        };
        let shown = format!("its input is {}", input.shown());
        let called = |names: &[&str]| names.iter().any(|name| input.name.to_lowercase().contains(name));
        let numbers = matches!(input.datatype, Some(DataType::Fp32 | DataType::Fp16));
        let pixels = numbers || input.datatype == Some(DataType::Uint8);
        let size = |place: usize| input.dims.get(place).copied().flatten();
        let colours = size(1) == Some(3) || size(3) == Some(3);
        match input.dims.len() {
            4 if pixels && (colours || called(&OF_PICTURES)) => (Modality::Image, shown),
            1..=3 if numbers && called(&OF_SOUNDS) && !called(&OF_FRAMES) => (Modality::Audio, shown),
            1 | 2 if numbers && input.dims.last().copied().flatten().is_some_and(|last| last >= SAMPLES) => {
                (Modality::Audio, shown)
            }
            3 | 4 if numbers && called(&OF_FRAMES) && input.bands().is_some() => (Modality::Audio, shown),
            _ => (Modality::Tensor, format!("{shown}, which is neither a picture's nor a sound's form")),
        }
    }
}

impl Given {
    /// Name, type and sizes as messages write them.
    pub(super) fn shown(&self) -> String {
        let dims: Vec<String> =
            self.dims.iter().map(|size| size.map_or("?".to_owned(), |size| size.to_string())).collect();
        let datatype = self.datatype.map_or("another type", DataType::as_str);
        format!("`{}`, {datatype} [{}]", self.name, dims.join(", "))
    }

    /// Which axis is the bands of frames, and how many there are: the fixed size behind the first that usual front ends
    /// have. Where two might be, the smaller.
    pub(super) fn bands(&self) -> Option<(usize, usize)> {
        let sizes = self.dims.iter().copied().enumerate().skip(1);
        let known = sizes.filter_map(|(axis, size)| Some((axis, size.filter(|size| BANDS.contains(size))?)));
        known.min_by_key(|(_, size)| *size)
    }
}

fn given(input: &ValueInfo) -> Given {
    let fixed = |size: Option<i64>| size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
    Given {
        name: input.name.clone().unwrap_or_default(),
        datatype: input.elements().and_then(datatype),
        dims: input.dimensions().unwrap_or_default().iter().map(|dim| fixed(dim.dim_value)).collect(),
    }
}

fn datatype(elements: i32) -> Option<DataType> {
    match elements {
        element::FLOAT => Some(DataType::Fp32),
        element::UINT8 => Some(DataType::Uint8),
        element::INT32 => Some(DataType::Int32),
        element::INT64 => Some(DataType::Int64),
        element::HALF => Some(DataType::Fp16),
        _ => None,
    }
}

/// Whether arithmetic with a constant comes before anything else that changes values.
fn normalises(outline: &Outline, input: &str) -> bool {
    let mut value = input.to_owned();
    for _ in 0..STEPS {
        let Some(node) = outline.nodes().find(|node| node.input.contains(&value)) else { return false };
        match node.op_type.as_deref().unwrap_or_default() {
            "Sub" | "Add" | "Mul" | "Div" => {
                return node
                    .input
                    .iter()
                    .filter(|name| **name != value)
                    .all(|name| is_constant(outline, name));
            }
            "Cast" | "Transpose" | "Identity" | "Reshape" | "Squeeze" | "Unsqueeze" => {
                value = node.output.first().cloned().unwrap_or_default();
            }
            _ => return false,
        }
    }
    false
}

fn is_constant(outline: &Outline, name: &str) -> bool {
    let made = |node: &headstart_onnx::proto::Node| {
        node.op_type.as_deref() == Some("Constant") && node.output.iter().any(|output| output == name)
    };
    outline.constants().any(|constant| constant == name) || outline.nodes().any(made)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn with(name: &str, datatype: DataType, dims: &[Option<usize>]) -> Anatomy {
        let input = Given { name: name.into(), datatype: Some(datatype), dims: dims.to_vec() };
        Anatomy {
            inputs: vec![input],
            normalises: false,
            producer: "pytorch".into(),
            clue: "-some-net-".into(),
            nodes: 1,
        }
    }

    pub(crate) fn called(mut anatomy: Anatomy, clue: &str, producer: &str) -> Anatomy {
        anatomy.clue = format!("-{clue}-");
        anatomy.producer = producer.into();
        anatomy
    }

    #[test]
    fn what_a_graph_reads_is_told_by_its_input() {
        let of = |name: &str, datatype, dims: &[Option<usize>]| with(name, datatype, dims).modality().0;
        let any = None;
        assert_eq!(of("data", DataType::Fp32, &[any, Some(3), Some(224), Some(224)]), Modality::Image);
        assert_eq!(of("x", DataType::Uint8, &[Some(1), Some(96), Some(96), Some(3)]), Modality::Image);
        assert_eq!(of("pixel_values", DataType::Fp16, &[any; 4]), Modality::Image);
        assert_eq!(of("x", DataType::Fp32, &[any; 4]), Modality::Tensor);
        assert_eq!(of("x", DataType::Fp32, &[any, Some(1), Some(28), Some(28)]), Modality::Tensor);
        assert_eq!(of("input_ids", DataType::Int64, &[any, any]), Modality::Text);
        assert_eq!(of("waveform", DataType::Fp32, &[any, any]), Modality::Audio);
        assert_eq!(of("x", DataType::Fp32, &[Some(1), Some(16_000)]), Modality::Audio);
        assert_eq!(of("x", DataType::Fp32, &[any, Some(13)]), Modality::Tensor);
        assert_eq!(of("input_features", DataType::Fp32, &[any, Some(80), Some(3000)]), Modality::Audio);
        assert_eq!(of("audio", DataType::Int64, &[any, any]), Modality::Tensor);
    }

    #[test]
    fn families_are_found_at_the_beginnings_of_words() {
        let anatomy = called(with("x", DataType::Fp32, &[]), "efficientnet-lite1-activity", "");
        assert!(anatomy.is_called("efficientnet-lite") && anatomy.is_called("efficientnet"));
        assert!(!anatomy.is_called("vit") && !anatomy.is_called("lite-1"));
    }
}
