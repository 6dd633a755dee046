//! Exported graphs against the engine's own pooling and the heads' own arithmetic, on a made-up backbone.

use std::io::Cursor;
use std::path::Path;

use headstart_engine::{Backbone, Class, Engine, Folder, Input, Request, Want};
use headstart_export::{Subject, compose};
use headstart_methods::head::{self, Head, HeadParts, Tail};
use headstart_onnx::proto::{Dimension, Graph, Model, Node, OperatorSet, Tensor, ValueInfo, element};
use headstart_types::{Manifest, hex};
use ndarray::{Array2, ArrayView2};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::support::TestApp;

const DIMENSION: usize = 6;
const WORDS: usize = 600;
const CLASSES: usize = 3;

/// Numbers between −1 and 1 without a pattern.
fn number(index: usize) -> f32 {
    (index * 7919 % 1009) as f32 / 504.0 - 1.0
}

/// A graph that looks token vectors up. Id 0, which fills rows up, has no vector at all.
fn backbone(opset: i64, with_mask: bool) -> Vec<u8> {
    let table = (0..WORDS * DIMENSION).map(|n| if n < DIMENSION { f32::NAN } else { number(n) });
    let tokens = |name| {
        ValueInfo::tensor(name, element::INT64, vec![Dimension::named("items"), Dimension::named("tokens")])
    };
    let shape = vec![Dimension::named("items"), Dimension::named("tokens"), Dimension::of(DIMENSION)];
    let graph = Graph {
        name: Some("lookup".to_owned()),
        node: vec![Node {
            input: vec!["table".to_owned(), "input_ids".to_owned()],
            output: vec!["vectors".to_owned()],
            op_type: Some("Gather".to_owned()),
            ..Node::default()
        }],
        initializer: vec![Tensor::floats("table", &[WORDS, DIMENSION], table)],
        input: if with_mask {
            vec![tokens("input_ids"), tokens("attention_mask")]
        } else {
            vec![tokens("input_ids")]
        },
        output: vec![ValueInfo::tensor("vectors", element::FLOAT, shape)],
        ..Graph::default()
    };
    let model = Model {
        ir_version: Some(7),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: None, version: Some(opset) }],
        ..Model::default()
    };
    model.encode_to_vec()
}

/// Writes a backbone's folder and loads it.
fn load(engine: &Engine, root: &Path, id: &str, graph: &[u8], output: (&str, &str, bool, usize)) -> Backbone {
    let folder = root.join(id);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("model.onnx"), graph).unwrap();
    std::fs::write(folder.join("headstart.toml"), manifest(id, graph, output)).unwrap();
    engine.load(Folder::open(&folder).unwrap()).unwrap()
}

fn manifest(
    id: &str,
    graph: &[u8],
    (tensor, pooling, normalise, dimension): (&str, &str, bool, usize),
) -> String {
    let sha256 = hex(&Sha256::digest(graph));
    format!(
        "version = 1\n[backbone]\nid = \"{id}\"\nmodality = \"text\"\nfile = \"model.onnx\"\nsha256 = \"{sha256}\"\n\
         licence = \"CC0-1.0\"\nsource_task = \"none\"\n[text]\ntokenizer = \"tokenizer.json\"\nmax_tokens = 64\n\
         [output.features]\ntensor = \"{tensor}\"\npooling = \"{pooling}\"\nnormalise = {normalise}\n\
         dimension = {dimension}\n"
    )
}

/// One row for each of three texts, near enough in length to be computed in one batch.
async fn rows(backbone: &Backbone) -> Vec<Vec<f32>> {
    let texts =
        [9usize, 10, 8].map(|length| (0..length as u32).map(move |place| 11 + place * 37 + length as u32));
    let inputs: Vec<Input> = texts.map(|ids| Input::Tokens { ids: ids.collect(), type_ids: None }).into();
    let want = Want { features: true, logits: false };
    // A lane that is free may take the first text before the others have come; then they are asked for again.
    for _ in 0..200 {
        let request = Request { want, class: Class::Bulk, deadline: None };
        let tickets = backbone.submit(inputs.clone(), &mut backbone.admit(3).unwrap(), request).unwrap();
        let (mut rows, mut together) = (Vec::new(), true);
        for ticket in tickets {
            let row = ticket.row().await.unwrap();
            together &= row.timing.batch_items == 3;
            rows.push(row.features);
        }
        if together {
            return rows;
        }
    }
    panic!("shorter texts are never filled up");
}

fn head(parts: impl FnOnce(&mut HeadParts)) -> Head {
    let mut made = HeadParts {
        method: "made_up".to_owned(),
        hyperparameters: Default::default(),
        backbone: head::Backbone { id: "lookup".to_owned(), sha256: String::new() },
        classes: ["first", "second", "third"].map(str::to_owned).to_vec().into(),
        multi_label: false,
        normalise: false,
        rows: matrix(CLASSES, DIMENSION, 50).into_shared(),
        bias: vec![0.3, -0.2, 0.1].into(),
        tail: Tail::Identity,
        temperature: 0.6,
        thresholds: None,
    };
    parts(&mut made);
    Head::new(made).unwrap()
}

fn matrix(rows: usize, columns: usize, from: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |(row, column)| number(from + 31 * row + column))
}

fn exported(graph: &[u8], manifest: &str, head: &Head) -> Vec<u8> {
    let manifest = Manifest::parse(manifest).unwrap();
    let subject = Subject {
        name: "made-up",
        version: 1,
        head,
        manifest: &manifest,
        tokenizer: Some(b"{}"),
        producer_version: "0",
    };
    let mut written = Vec::new();
    let composed = compose(Cursor::new(graph), &subject).unwrap();
    composed.assembly.write(&mut Cursor::new(graph), &mut written).unwrap();
    written
}

fn assert_close(found: &[Vec<f32>], expected: &[Vec<f32>], what: &str) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-6, "{what}: {found} is not {expected}");
        }
    }
}

#[tokio::test]
async fn every_pooling_gives_the_vectors_that_the_engine_gives() {
    let engine = TestApp::unready("lanes = 1").app.start_engine().unwrap();
    let root = tempfile::tempdir().unwrap();
    // Operator sets before and after axes became inputs.
    for (opset, with_mask) in [(11, true), (13, true), (18, true), (20, false)] {
        for (pooling, normalise) in
            [("cls", false), ("last", true), ("mean", false), ("mean", true), ("max", true)]
        {
            let what = format!("{pooling}-{normalise}-{opset}");
            let graph = backbone(opset, with_mask);
            let source = ("vectors", pooling, normalise, DIMENSION);
            let expected = rows(&load(&engine, root.path(), &format!("{what}-source"), &graph, source)).await;
            let file = exported(&graph, &manifest("source", &graph, source), &head(|_| {}));
            let found =
                rows(&load(&engine, root.path(), &what, &file, ("embedding", "none", false, DIMENSION)))
                    .await;
            assert_close(&found, &expected, &what);
        }
    }
}

#[tokio::test]
async fn every_kind_of_head_gives_its_own_probabilities() {
    let engine = TestApp::unready("lanes = 1").app.start_engine().unwrap();
    let root = tempfile::tempdir().unwrap();
    let graph = backbone(20, true);
    let source = ("vectors", "mean", true, DIMENSION);
    let features: Vec<f32> = rows(&load(&engine, root.path(), "source", &graph, source)).await.concat();
    let features = ArrayView2::from_shape((3, DIMENSION), &features).unwrap();
    let cache = |alpha: f32| {
        move |parts: &mut HeadParts| {
            parts.normalise = true;
            parts.rows = matrix(CLASSES + 5, DIMENSION, 9).into_shared();
            parts.bias = vec![0.0; CLASSES + 5].into();
            let classes = vec![2, 0, 0, 1, 2];
            parts.tail = Tail::Cache { classes, scale: 4.0, alpha, beta: 1.5, mass: vec![1.0; CLASSES] };
        }
    };
    let layer = |parts: &mut HeadParts| {
        parts.rows = matrix(7, DIMENSION, 70).into_shared();
        parts.bias = (0..7).map(number).collect();
        parts.tail = Tail::Layer { weights: matrix(CLASSES, 7, 300), bias: vec![0.5, 0.0, -0.5] };
    };
    let contrast = |parts: &mut HeadParts| {
        parts.normalise = true;
        parts.multi_label = true;
        parts.tail = Tail::Contrast { means: matrix(CLASSES + 1, DIMENSION, 400), counts: vec![3, 1, 2, 5] };
    };
    let heads = [
        ("identity", head(|_| {})),
        ("length-one", head(|parts| parts.normalise = true)),
        ("several-labels", head(|parts| parts.multi_label = true)),
        ("layer", head(layer)),
        ("cache", head(cache(0.8))),
        ("means", head(cache(0.0))),
        ("contrast", head(contrast)),
    ];
    for (id, head) in heads {
        let file = exported(&graph, &manifest("source", &graph, source), &head);
        let output = ("probabilities", "none", false, CLASSES);
        let found = rows(&load(&engine, root.path(), id, &file, output)).await;
        let expected = head.probabilities(features).unwrap();
        let expected: Vec<Vec<f32>> = expected.outer_iter().map(|row| row.to_vec()).collect();
        assert_close(&found, &expected, id);
    }
}
