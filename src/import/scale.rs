//! What one graph with both towers makes of their cosines: the factor and the bias of its logits, where they are constants.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use headstart_engine::{Runtime, Workbench};
use headstart_onnx::proto::{Attribute, Dimension, Node, element};
use headstart_onnx::{Extension, Header, Outline};
use headstart_types::hugging_face::{CONFIG, Contents};
use headstart_types::runner::{Form, Runners as _};
use headstart_types::tensor::{DataType, Tensor, Values};
use serde_json::{Map, Value};

use super::draft::Draft;

/// Outputs that are such logits.
const LOGITS: [&str; 2] = ["logits_per_text", "logits_per_image"];

/// Operators that leave numbers as they are.
const PLAIN: [&str; 3] = ["Cast", "Identity", "Transpose"];
/// Most of them in a row that are looked through.
const STEPS: usize = 8;

/// The first operator set whose `Reshape` and `Cast` are read as they are written here.
const LEAST_OPSET: i64 = 6;

/// Where `config.json` may say the same.
const SCALE: &str = "logit_scale";
const BIAS: &str = "logit_bias";

/// What logits are made of cosines with.
struct Scale {
    factor: f64,
    bias: Option<f64>,
}

/// Has the `config.json` that is understood say what the graph's logits are made with, where it does not say so itself; what the
/// graph does not tell stays to be guessed.
pub(super) fn state(path: &Path, contents: &mut Contents, draft: &mut Draft<'_>) -> anyhow::Result<()> {
    let Some(config) = contents.files.get(CONFIG) else { return Ok(()) };
    let mut config: Map<String, Value> = serde_json::from_str(config).context(CONFIG)?;
    let silent = |config: &Map<String, Value>, field: &str| config.get(field).is_none_or(Value::is_null);
    if !silent(&config, SCALE) {
        return Ok(());
    }
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bench = Workbench::new(Runtime::load(draft.config().onnxruntime.as_deref())?, 1);
    let Scale { factor, bias } = match read(path, &bench) {
        Ok(scale) => scale,
        Err(problem) => {
            draft.note(format!("the scale of its logits is not read from {file}: {problem:#}"));
            return Ok(());
        }
    };
    let facts = draft.facts();
    let factor =
        facts.decide("zero_shot.logit_scale", factor, format!("{file} multiplies cosines with it"))?;
    config.insert(SCALE.to_owned(), factor.into());
    if let (Some(bias), true) = (bias, silent(&config, BIAS)) {
        let bias = facts.decide("zero_shot.logit_bias", bias, format!("{file} adds it to them"))?;
        config.insert(BIAS.to_owned(), bias.into());
    }
    contents.files.insert(CONFIG, serde_json::to_string(&config)?);
    Ok(())
}

fn read(path: &Path, bench: &Workbench) -> anyhow::Result<Scale> {
    let mut file = File::open(path)?;
    let outline = Outline::read(&file)?;
    let (factor, bias) = parts(&outline).context("they are no similarities times a number")?;
    let wanted: Vec<String> = std::iter::once(factor).chain(bias).map(str::to_owned).collect();
    let numbers = numbers(&mut file, outline, &wanted, bench)?;
    let Some((&factor, rest)) = numbers.split_first() else { bail!("it has no value") };
    let bias = rest.first().copied();
    ensure!(factor.is_finite() && factor > 0.0, "it is {factor}");
    ensure!(bias.is_none_or(f64::is_finite), "what is added is no number");
    Ok(Scale { factor, bias })
}

/// The names of the factor and of the bias, if there is one: logits are the products of both towers' vectors times the one, plus
/// the other.
fn parts(outline: &Outline) -> Option<(&str, Option<&str>)> {
    let logits = LOGITS.into_iter().find_map(|name| maker(outline, name))?;
    let (product, bias) = if logits.is("Add") {
        let (product, bias) = beside(outline, logits, "Mul")?;
        (product, Some(bias))
    } else {
        (logits, None)
    };
    let (_, factor) = beside(outline, product, "MatMul").filter(|_| product.is("Mul"))?;
    Some((factor, bias))
}

/// The node of an operator that one of a node's two values comes of, and the other value's name.
fn beside<'a>(outline: &'a Outline, node: &'a Node, op: &str) -> Option<(&'a Node, &'a str)> {
    let (one, other) = (node.reads(0)?, node.reads(1)?);
    let made = |value: &'a str| maker(outline, value).filter(|node| node.is(op));
    made(one).map(|node| (node, other)).or_else(|| Some((made(other)?, one)))
}

/// The node that a value's numbers come of.
fn maker<'a>(outline: &'a Outline, mut value: &'a str) -> Option<&'a Node> {
    for _ in 0..STEPS {
        let node = outline.nodes().find(|node| node.makes(0) == Some(value))?;
        if !PLAIN.iter().any(|op| node.is(op)) {
            return Some(node);
        }
        value = node.reads(0)?;
    }
    None
}

/// Values of which each is one number and comes of no input. What computes them is cut out and run: exporters keep a logarithm
/// and its `Exp`, optimisers the number.
fn numbers(
    file: &mut File,
    outline: Outline,
    wanted: &[String],
    bench: &Workbench,
) -> anyhow::Result<Vec<f64>> {
    // Old files list their weights among the inputs.
    let given: Vec<String> = outline.inputs().filter_map(|input| input.name.clone()).collect();
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let trunk = outline.only(&wanted)?;
    let mut inputs = trunk.inputs.iter().filter_map(|input| input.name.as_ref());
    if let Some(input) = inputs.find(|name| given.contains(name)) {
        bail!("it depends on the input `{input}`");
    }
    let mut graph = Extension::new(trunk, "number/", LEAST_OPSET)?;
    let shape = graph.integers("shape", &[1], [1]);
    let mut outputs = Vec::with_capacity(wanted.len());
    for value in wanted {
        let float = graph.add("Cast", &[value], vec![Attribute::int("to", i64::from(element::FLOAT))]);
        let form = ("number", element::FLOAT, vec![Dimension::of(1)]);
        outputs.push(graph.add_output("Reshape", &[&float, &shape], vec![], form));
    }
    let mut model = Vec::new();
    graph.finish(Header::default())?.write(file, &mut model)?;
    let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let tensors = bench.runner(&model, Form::AsWritten)?.run(&[], &names)?;
    tensors.iter().map(|tensor| number(tensor).context("it is not one number")).collect()
}

fn number(tensor: &Tensor) -> Option<f64> {
    let Values::Fixed { datatype: DataType::Fp32, bytes } = &tensor.values else { return None };
    let bytes = <[u8; 4]>::try_from(&**bytes).ok()?;
    Some(f64::from(f32::from_le_bytes(bytes)))
}
