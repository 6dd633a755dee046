//! Values read from whichever field they stand in, and files that are larger than they may be.

use headstart_onnx::proto::{Attribute, Graph, Model, Node, Tensor, attribute, element};
use headstart_onnx::{Limits, OnnxError};
use prost::Message as _;

fn raw(elements: i32, dims: &[i64], bytes: &[u8]) -> Tensor {
    Tensor {
        dims: dims.to_vec(),
        data_type: Some(elements),
        name: Some("t".to_owned()),
        raw_data: Some(bytes.to_vec().into()),
        ..Tensor::default()
    }
}

#[test]
fn floats_of_every_length_are_read_from_raw_bytes_and_from_their_fields() {
    assert_eq!(Tensor::floats("t", &[2], [1.5, -2.0]).to_numbers().unwrap(), [1.5, -2.0]);
    assert_eq!(Tensor::doubles("t", &[2], [1.5, -2.0]).to_numbers().unwrap(), [1.5, -2.0]);
    assert_eq!(raw(element::HALF, &[2], &[0x00, 0x3c, 0x00, 0xc0]).to_numbers().unwrap(), [1.0, -2.0]);
    assert_eq!(raw(element::BFLOAT16, &[1], &[0x80, 0x3f]).to_numbers().unwrap(), [1.0]);
    let field = |elements: i32| Tensor { dims: vec![1], data_type: Some(elements), ..Tensor::default() };
    let float = Tensor { float_data: vec![0.5], ..field(element::FLOAT) };
    let double = Tensor { double_data: vec![0.5], ..field(element::DOUBLE) };
    let half = Tensor { int32_data: vec![0x3800], ..field(element::HALF) };
    for tensor in [float, double, half] {
        assert_eq!(tensor.to_numbers().unwrap(), [0.5]);
    }
}

#[test]
fn integers_and_truth_values_are_read_from_raw_bytes_and_from_their_fields() {
    assert_eq!(Tensor::integers("t", &[2], [3, -4]).to_integers().unwrap(), [3, -4]);
    assert_eq!(raw(element::INT32, &[1], &(-7i32).to_le_bytes()).to_integers().unwrap(), [-7]);
    assert_eq!(raw(element::BOOL, &[2], &[1, 0]).to_integers().unwrap(), [1, 0]);
    assert_eq!(raw(element::INT8, &[1], &[0xff]).to_integers().unwrap(), [-1]);
    assert_eq!(raw(element::UINT8, &[1], &[0xff]).to_integers().unwrap(), [255]);
    let field = |elements: i32| Tensor { dims: vec![1], data_type: Some(elements), ..Tensor::default() };
    assert_eq!(Tensor { int64_data: vec![9], ..field(element::INT64) }.to_integers().unwrap(), [9]);
    assert_eq!(Tensor { int32_data: vec![9], ..field(element::INT32) }.to_integers().unwrap(), [9]);
}

#[test]
fn tensors_that_do_not_hold_what_they_say_are_refused() {
    assert!(matches!(raw(element::FLOAT, &[3], &[0; 8]).to_numbers(), Err(OnnxError::Malformed(_))));
    assert!(matches!(raw(element::FLOAT, &[2], &[0; 8]).to_integers(), Err(OnnxError::Malformed(_))));
    assert!(matches!(raw(element::FLOAT, &[-1], &[]).len(), Err(OnnxError::Malformed(_))));
    assert!(matches!(raw(element::FLOAT, &[i64::MAX, i64::MAX], &[]).shape(), Err(OnnxError::Malformed(_))));
    let outside = Tensor { data_location: Some(1), ..raw(element::FLOAT, &[1], &[]) };
    assert!(matches!(outside.to_numbers(), Err(OnnxError::External(_))));
}

/// A graph whose node holds a graph, and so on.
fn nested(depth: usize) -> Graph {
    let inner = (depth > 1).then(|| Attribute {
        name: Some("body".to_owned()),
        g: Some(nested(depth - 1)),
        ..Attribute::default()
    });
    Graph { node: vec![Node::new("If", &[], &[], inner.into_iter().collect())], ..Graph::default() }
}

fn read(graph: Graph, limits: &Limits) -> Result<Model, OnnxError> {
    let model = Model { graph: Some(graph), ..Model::default() };
    Model::read(model.encode_to_vec().into(), limits)
}

#[test]
fn files_larger_or_deeper_than_allowed_are_refused() {
    let limits = Limits { bytes: 1000, nodes: 3, depth: 2 };
    assert!(read(nested(2), &limits).is_ok());
    assert!(matches!(read(nested(3), &limits), Err(OnnxError::TooLarge { what: "levels of graphs", .. })));
    let many = Graph { node: vec![Node::default(); 4], ..Graph::default() };
    assert!(matches!(read(many, &limits), Err(OnnxError::TooLarge { what: "nodes", found: 4, most: 3 })));
    let long = Graph { name: Some("n".repeat(2000)), ..Graph::default() };
    assert!(matches!(read(long, &limits), Err(OnnxError::TooLarge { what: "bytes", .. })));
    let huge = Graph { initializer: vec![raw(element::FLOAT, &[i64::MAX, 3], &[])], ..Graph::default() };
    assert!(matches!(read(huge, &limits), Err(OnnxError::Malformed(_))));
    // Deeper than any reader of protocol buffers goes.
    assert!(matches!(read(nested(200), &Limits::default()), Err(OnnxError::Malformed(_))));
}

#[test]
fn attributes_are_found_by_name_and_type() {
    let told = vec![
        Attribute::int("axis", -1),
        Attribute::ints("perm", vec![1, 0]),
        Attribute::number("alpha", 0.5),
        Attribute::string("mode", "linear"),
    ];
    let node = Node::new("Some", &["a", "", "c"], &["y"], told);
    assert_eq!((node.int("axis"), node.ints("perm")), (Some(-1), Some([1, 0].as_slice())));
    assert_eq!((node.float("alpha"), node.text("mode"), node.int("none")), (Some(0.5), Some("linear"), None));
    assert_eq!(
        (node.reads(0), node.reads(1), node.reads(3), node.makes(0)),
        (Some("a"), None, None, Some("y"))
    );
    assert_eq!(node.told("mode").unwrap().r#type, Some(attribute::STRING));
    assert!(node.is("Some") && !node.from_set("elsewhere").is("Some"));
}

#[test]
fn a_node_reads_what_its_inner_graphs_read() {
    let body =
        Graph { node: vec![Node::new("Add", &["outer", "own"], &["sum"], Vec::new())], ..Graph::default() };
    let told = Attribute { name: Some("then_branch".to_owned()), g: Some(body), ..Attribute::default() };
    let node = Node::new("If", &["condition"], &["y"], vec![told]);
    assert!(node.has_graphs());
    assert_eq!(node.reads_all().into_iter().collect::<Vec<_>>(), ["condition", "outer", "own"]);
}
