//! Files read, pruned, extended and written, judged by decoding what came out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Cursor;
use std::path::Path;

use bytes::Bytes;
use headstart_onnx::proto::{
    Attribute, Dimension, Entry, Graph, Model, Node, OperatorSet, Tensor, ValueInfo, element,
};
use headstart_onnx::{Extension, Header, OnnxError, Outline, Part};
use prost::Message as _;

fn node(op: &str, inputs: &[&str], output: &str) -> Node {
    Node {
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        op_type: Some(op.to_owned()),
        ..Node::default()
    }
}

fn value(name: &str, columns: usize) -> ValueInfo {
    ValueInfo::tensor(name, element::FLOAT, vec![Dimension::named("batch"), Dimension::of(columns)])
}

/// `x` times `table` is `features`; `features` times `other` is `logits`.
fn model() -> Model {
    let graph = Graph {
        node: vec![
            node("MatMul", &["x", "table"], "features"),
            node("MatMul", &["features", "other"], "logits"),
        ],
        name: Some("both".to_owned()),
        initializer: vec![
            Tensor::floats("other", &[2, 3], [1.0; 6]),
            Tensor::floats("table", &[2, 2], [1.0, 2.0, 3.0, 4.0]),
        ],
        input: vec![value("x", 2)],
        output: vec![value("features", 2), value("logits", 3)],
        value_info: vec![value("features", 2), value("logits", 3)],
        ..Graph::default()
    };
    let note = |key: &str, value: &str| Entry { key: Some(key.to_owned()), value: Some(value.to_owned()) };
    Model {
        ir_version: Some(9),
        producer_name: Some("somebody".to_owned()),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: None, version: Some(17) }],
        metadata_props: vec![note("licence", "theirs"), note("classes", "theirs")],
        ..Model::default()
    }
}

fn outline(file: &[u8]) -> Result<Outline, OnnxError> {
    Outline::read(Cursor::new(file))
}

fn extension(file: &[u8], wanted: &str) -> Extension {
    Extension::new(outline(file).unwrap().up_to(&[wanted]).unwrap(), "head/", 11).unwrap()
}

fn finished(file: &[u8], extension: Extension) -> Vec<u8> {
    let header = Header {
        producer_name: "us".to_owned(),
        model_version: 3,
        doc_string: "twice".to_owned(),
        metadata: vec![("classes".to_owned(), "ours".to_owned())],
        ..Header::default()
    };
    let assembly = extension.finish(header).unwrap();
    let mut written = Vec::new();
    assembly.write(&mut Cursor::new(file), &mut written).unwrap();
    assert_eq!(assembly.bytes(), written.len() as u64);
    written
}

#[test]
fn a_bundled_backbone_is_written_back_byte_for_byte() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let mut seen = 0;
    for folder in std::fs::read_dir(models).unwrap().flatten() {
        let bytes = Bytes::from(std::fs::read(folder.path().join("model.onnx")).unwrap());
        let model = Model::decode(bytes.clone()).unwrap();
        assert!(model.encode_to_vec() == bytes, "{}", folder.path().display());
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn an_extension_keeps_what_its_values_need_and_no_more() {
    let file = model().encode_to_vec();
    let mut extension = extension(&file, "features");
    let two = extension.floats("two", &[], [2.0]);
    let shape = vec![extension.batch(), Dimension::of(2)];
    let name = extension.add_output("Mul", &["features", &two], vec![], ("twice", element::FLOAT, shape));
    assert_eq!(name, "twice");
    let made = Model::decode(finished(&file, extension).as_slice()).unwrap();
    let graph = made.graph.unwrap();
    let ops: Vec<_> = graph.node.iter().map(|node| node.op_type.clone().unwrap()).collect();
    assert_eq!(ops, ["MatMul", "Mul"]);
    assert_eq!(graph.initializer[0], Tensor::floats("table", &[2, 2], [1.0, 2.0, 3.0, 4.0]));
    assert_eq!(graph.initializer.len(), 2);
    assert_eq!(graph.output, [value("twice", 2)]);
    assert_eq!(graph.value_info, [value("features", 2)]);
    assert_eq!(graph.input, [value("x", 2)]);
    assert_eq!(graph.name.as_deref(), Some("both"));
    assert_eq!(made.opset_import, model().opset_import);
    assert_eq!((made.ir_version, made.model_version), (Some(9), Some(3)));
    assert_eq!(made.producer_name.as_deref(), Some("us"));
    let notes: Vec<_> = made.metadata_props.iter().map(|note| note.value.as_deref().unwrap()).collect();
    assert_eq!(notes, ["ours", "theirs"], "a key of ours takes the place of the old one");
}

#[test]
fn weights_are_ranges_of_the_old_file_and_not_read() {
    let mut big = model();
    let graph = big.graph.as_mut().unwrap();
    graph.initializer[1] = Tensor::floats("table", &[2, 100_000], (0..200_000).map(|n| n as f32));
    let file = big.encode_to_vec();
    let mut extension = extension(&file, "features");
    extension.add_output("Relu", &["features"], vec![], ("y", element::FLOAT, vec![]));
    let parts = extension.finish(Header::default()).unwrap().into_parts();
    let new: usize = parts.iter().map(|part| if let Part::New(bytes) = part { bytes.len() } else { 0 }).sum();
    assert!(new < 300, "{new} new bytes");
}

#[test]
fn fields_that_no_message_here_has_come_through() {
    let mut file = model().encode_to_vec();
    // Field 99 of the model, a text.
    file.extend([0x9a, 0x06, 3, b'n', b'e', b'w']);
    let mut extension = extension(&file, "features");
    extension.add_output("Relu", &["features"], vec![], ("y", element::FLOAT, vec![]));
    let made = finished(&file, extension);
    assert!(made.ends_with(&[0x9a, 0x06, 3, b'n', b'e', b'w']));
}

#[test]
fn new_names_never_meet_old_ones() {
    let mut model = model();
    let graph = model.graph.as_mut().unwrap();
    graph.node[0] = node("MatMul", &["x", "table"], "head/features");
    graph.node[1] = node("Relu", &["head/features"], "logits");
    graph.node.push(node("Relu", &["logits"], "end"));
    let file = model.encode_to_vec();
    let mut extension = extension(&file, "end");
    let added = extension.add("Relu", &["end"], vec![]);
    assert!(added.starts_with("head/_"), "{added}");
    let shape = vec![extension.batch()];
    let name = extension.add_output("Relu", &[&added], vec![], ("logits", element::FLOAT, shape.clone()));
    assert_eq!(name, "logits_");
    let name = extension.add_output("Relu", &[&added], vec![], ("logits", element::FLOAT, shape));
    assert_eq!(name, "logits__");
}

#[test]
fn inner_graphs_keep_the_outer_values_they_read() {
    let branch = |output: &str| Graph {
        node: vec![node("Identity", &["other"], output)],
        output: vec![value(output, 3)],
        ..Graph::default()
    };
    let attribute = |name: &str, graph| Attribute {
        name: Some(name.to_owned()),
        g: Some(graph),
        r#type: Some(5),
        ..Attribute::default()
    };
    let mut model = model();
    let graph = model.graph.as_mut().unwrap();
    graph.node[1] = Node {
        attribute: vec![attribute("then_branch", branch("yes")), attribute("else_branch", branch("no"))],
        ..node("If", &["x"], "logits")
    };
    let file = model.encode_to_vec();
    let mut extension = extension(&file, "logits");
    let name = extension.add_output("Relu", &["logits"], vec![], ("yes", element::FLOAT, vec![]));
    assert_eq!(name, "yes_", "names inside count as taken");
    let made = Model::decode(finished(&file, extension).as_slice()).unwrap().graph.unwrap();
    let kept: Vec<_> = made.initializer.iter().map(|tensor| tensor.name.as_deref().unwrap()).collect();
    assert_eq!(kept, ["other"]);
    assert_eq!(made.node[0], graph_node(&model, 1));
}

fn graph_node(model: &Model, index: usize) -> Node {
    model.graph.as_ref().unwrap().node[index].clone()
}

#[test]
fn an_old_files_constants_among_the_inputs_go_with_the_constants() {
    let mut model = model();
    model.ir_version = Some(3);
    let graph = model.graph.as_mut().unwrap();
    graph.input.extend([value("table", 2), value("other", 3)]);
    let file = model.encode_to_vec();
    let mut extension = extension(&file, "features");
    extension.add_output("Relu", &["features"], vec![], ("y", element::FLOAT, vec![]));
    let made = Model::decode(finished(&file, extension).as_slice()).unwrap();
    assert_eq!(made.ir_version, Some(4), "the first version in which constants stand alone");
    assert_eq!(made.graph.unwrap().input, [value("x", 2), value("table", 2)]);
}

#[test]
fn one_output_alone_has_its_inputs_and_constants_alone() {
    let mut two = model();
    let graph = two.graph.as_mut().unwrap();
    graph.node.push(node("Mul", &["z", "third"], "apart"));
    graph.input.push(value("z", 5));
    graph.initializer.push(Tensor::floats("third", &[5], [1.0; 5]));
    graph.output.push(value("apart", 5));
    let file = two.encode_to_vec();
    for (wanted, columns, inputs, constants) in [
        ("apart", 5, vec![value("z", 5)], vec!["third"]),
        ("logits", 3, vec![value("x", 2)], vec!["other", "table"]),
    ] {
        let mut alone = Extension::new(outline(&file).unwrap().only(&[wanted]).unwrap(), "a/", 11).unwrap();
        alone.keep_output(value(wanted, columns)).unwrap();
        let made = Model::decode(finished(&file, alone).as_slice()).unwrap().graph.unwrap();
        assert_eq!((made.output, made.input), (vec![value(wanted, columns)], inputs));
        let names: Vec<_> = made.initializer.iter().map(|tensor| tensor.name.clone().unwrap()).collect();
        assert_eq!(names, constants);
    }
    let mut alone = Extension::new(outline(&file).unwrap().only(&["apart"]).unwrap(), "a/", 11).unwrap();
    let refused = alone.keep_output(value("logits", 3)).err().unwrap();
    assert!(matches!(refused, OnnxError::Missing(name) if name == "logits"));
}

#[test]
fn what_cannot_be_extended_is_refused_with_the_reason() {
    let file = model().encode_to_vec();
    let missing = outline(&file).unwrap().up_to(&["nothing"]).err().unwrap();
    assert!(matches!(missing, OnnxError::Missing(name) if name == "nothing"));

    let mut cut = model();
    cut.graph.as_mut().unwrap().initializer.clear();
    let missing = outline(&cut.encode_to_vec()).unwrap().up_to(&["features"]).err().unwrap();
    assert!(matches!(missing, OnnxError::Missing(name) if name == "table"));

    let mut reader = extension(&file, "features");
    reader.add("Relu", &["logits"], vec![]);
    let pruned = reader.finish(Header::default()).err().unwrap();
    assert!(matches!(pruned, OnnxError::Missing(name) if name == "logits"));

    let mut elsewhere = model();
    elsewhere.graph.as_mut().unwrap().initializer[1].data_location = Some(1);
    let file = elsewhere.encode_to_vec();
    let external = outline(&file).unwrap().up_to(&["features"]).err().unwrap();
    assert!(matches!(external, OnnxError::External(name) if name == "table"));

    let mut old = model();
    old.opset_import[0].version = Some(9);
    let trunk = outline(&old.encode_to_vec()).unwrap().up_to(&["features"]).unwrap();
    let refused = Extension::new(trunk, "head/", 11).err().unwrap();
    assert!(matches!(refused, OnnxError::Opset { found: 9, least: 11 }));
}

#[test]
fn what_is_no_model_is_refused() {
    let file = model().encode_to_vec();
    let twice = [file.clone(), file.clone()].concat();
    for bytes in [&b"not a model"[..], &[], &twice, &file[..file.len() / 2], &[0xff; 64]] {
        let refused = outline(bytes).err();
        assert!(matches!(refused, Some(OnnxError::Malformed(_) | OnnxError::Read(_))), "{refused:?}");
    }
    for end in 0..file.len() {
        // Whatever is cut off: an error or a smaller model, never a panic.
        let _ = outline(&file[..end]).and_then(|outline| outline.up_to(&["features"]));
    }
}

#[test]
fn an_old_file_that_became_shorter_is_noticed() {
    let file = model().encode_to_vec();
    let mut extension = extension(&file, "features");
    extension.add_output("Relu", &["features"], vec![], ("y", element::FLOAT, vec![]));
    let assembly = extension.finish(Header::default()).unwrap();
    let refused = assembly.write(&mut Cursor::new(&file[..40]), &mut Vec::new());
    assert!(matches!(refused, Err(OnnxError::Read(_))), "{refused:?}");
}

#[test]
fn a_zero_that_a_writer_left_out_of_the_file_is_read() {
    let told = |name: &str, kind: i32| Attribute {
        name: Some(name.to_owned()),
        r#type: Some(kind),
        ..Attribute::default()
    };
    let told = vec![told("axis", 2), told("alpha", 1), Attribute::int("beta", 3), told("mode", 3)];
    let written = Node { attribute: told, ..node("Gemm", &["x"], "y") };
    let read = Node::decode(written.encode_to_vec().as_slice()).unwrap();
    assert_eq!((read.int("axis"), read.float("axis")), (Some(0), None));
    assert_eq!((read.float("alpha"), read.int("alpha")), (Some(0.0), None));
    assert_eq!((read.int("beta"), read.int("mode"), read.int("none")), (Some(3), None, None));
}
