//! Small folders of random weights to graphs: what the files hold, where weights lie, and what is refused by name.
//! What the graphs compute is compared with a reference in `tests/python/test_import.py`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::HashMap;
use std::path::Path;

use headstart_convert::{ConvertError, Converted, EXTERNAL, GRAPH, Options, Precision, convert};
use headstart_onnx::Outline;
use headstart_onnx::proto::{Model, Tensor, element};
use prost::Message as _;
use safetensors::tensor::{Dtype, TensorView};

/// Name, shape and values.
type Weight = (String, Vec<usize>, Vec<f32>);

const WIDTH: usize = 8;
const INNER: usize = 12;

/// Name, shape and values of each weight of a BERT of one layer.
fn weights() -> Vec<Weight> {
    let layer = "encoder.layer.0";
    let matrices = [
        ("embeddings.word_embeddings".to_owned(), 20, WIDTH),
        ("embeddings.position_embeddings".to_owned(), 6, WIDTH),
        ("embeddings.token_type_embeddings".to_owned(), 2, WIDTH),
        (format!("{layer}.attention.self.query"), WIDTH, WIDTH),
        (format!("{layer}.attention.self.key"), WIDTH, WIDTH),
        (format!("{layer}.attention.self.value"), WIDTH, WIDTH),
        (format!("{layer}.attention.output.dense"), WIDTH, WIDTH),
        (format!("{layer}.intermediate.dense"), INNER, WIDTH),
        (format!("{layer}.output.dense"), WIDTH, INNER),
    ];
    let norms = [
        "embeddings.LayerNorm".to_owned(),
        format!("{layer}.attention.output.LayerNorm"),
        format!("{layer}.output.LayerNorm"),
    ];
    let mut all = Vec::new();
    let mut add = |name: String, shape: Vec<usize>| {
        let begin = all.len() as f32;
        let count: usize = shape.iter().product();
        let values = (0..count).map(|place| begin + place as f32 / 64.0).collect();
        all.push((name, shape, values));
    };
    for (name, rows, columns) in matrices {
        add(format!("{name}.weight"), vec![rows, columns]);
        if !name.ends_with("embeddings") {
            add(format!("{name}.bias"), vec![rows]);
        }
    }
    for name in norms {
        add(format!("{name}.weight"), vec![WIDTH]);
        add(format!("{name}.bias"), vec![WIDTH]);
    }
    all
}

fn folder(at: &Path, weights: &[Weight]) {
    let bytes: Vec<Vec<u8>> = weights
        .iter()
        .map(|(.., values)| values.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let views = weights.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &at.join("model.safetensors")).unwrap();
    let config =
        r#"{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}"#;
    std::fs::write(at.join("config.json"), config).unwrap();
}

fn converted(weights: &[Weight], options: Options) -> Result<(Converted, tempfile::TempDir), ConvertError> {
    let from = tempfile::tempdir().unwrap();
    folder(from.path(), weights);
    let into = tempfile::tempdir().unwrap();
    Ok((convert(from.path(), into.path(), options)?, into))
}

fn constants(into: &Path) -> HashMap<String, Tensor> {
    let model = Model::decode(std::fs::read(into.join(GRAPH)).unwrap().as_slice()).unwrap();
    model
        .graph
        .unwrap()
        .initializer
        .into_iter()
        .map(|tensor| (tensor.name.clone().unwrap(), tensor))
        .collect()
}

#[test]
fn every_weight_is_in_the_graph_as_it_was() {
    let all = weights();
    let (found, into) = converted(&all, Options::default()).unwrap();
    let total: usize = all.iter().map(|(_, _, values)| values.len()).sum();
    assert_eq!(
        (found.layers, found.heads, found.parameters, found.output),
        (1, 2, total as u64, "last_hidden_state")
    );
    let constants = constants(into.path());
    // A head has four values: the scale of its scores is exactly a half.
    for (name, shape, values) in &all {
        let scale = if name.contains("self.query") { 0.5 } else { 1.0 };
        let expected = Tensor::floats(name, shape, values.iter().map(|value| value * scale));
        assert_eq!(constants.get(name), Some(&expected), "{name}");
    }
    assert!(!into.path().join(EXTERNAL).exists());
}

#[test]
fn weights_that_do_not_fit_lie_beside_the_graph() {
    let all = weights();
    let (whole, within) = converted(&all, Options::default()).unwrap();
    let (apart, beside) = converted(&all, Options { most_bytes: 1000, ..Options::default() }).unwrap();
    assert_eq!((whole.external, apart.external), (false, true));
    let file = std::fs::read(beside.path().join(EXTERNAL)).unwrap();
    let outline = Outline::read(std::fs::File::open(beside.path().join(GRAPH)).unwrap()).unwrap();
    assert_eq!(outline.external_files().into_iter().collect::<Vec<_>>(), [EXTERNAL]);
    let inside = constants(within.path());
    for (name, tensor) in constants(beside.path()).into_iter().filter(|(_, tensor)| tensor.is_external()) {
        let entry = |key: &str| -> usize {
            let found = tensor.external_data.iter().find(|entry| entry.key.as_deref() == Some(key)).unwrap();
            found.value.as_deref().unwrap().parse().unwrap()
        };
        let (offset, length) = (entry("offset"), entry("length"));
        assert_eq!(offset % 4096, 0, "{name}");
        assert_eq!(&file[offset..offset + length], inside[&name].raw_data.as_deref().unwrap(), "{name}");
    }
}

#[test]
fn half_precision_keeps_vectors_whole_and_refuses_what_it_cannot_hold() {
    let half = Options { precision: Precision::Half, ..Options::default() };
    let (_, into) = converted(&weights(), half).unwrap();
    for (name, tensor) in constants(into.path()) {
        let expected = match tensor.data_type {
            Some(element::HALF) => tensor.dims.len() == 2,
            Some(element::FLOAT) => tensor.dims.len() < 2,
            _ => true,
        };
        assert!(expected, "{name} {:?}", tensor.dims);
    }
    let mut large = weights();
    let key = large.iter_mut().find(|(name, ..)| name.ends_with("self.key.weight")).unwrap();
    key.2[1] = 70_000.0;
    let refused = converted(&large, half).unwrap_err();
    assert!(refused.to_string().contains("holds 70000"), "{refused}");
    assert!(converted(&large, Options::default()).is_ok());
}

#[test]
fn what_is_wrong_with_weights_is_named() {
    let said = |change: &dyn Fn(&mut Vec<Weight>)| {
        let mut all = weights();
        change(&mut all);
        converted(&all, Options::default()).unwrap_err().to_string()
    };
    let lacks = said(&|all| all.retain(|(name, ..)| !name.ends_with("attention.self.key.bias")));
    assert_eq!(lacks, "the weights lack `encoder.layer.0.attention.self.key.bias`");
    let wide = said(&|all| {
        let found = all.iter_mut().find(|(name, ..)| name.ends_with("output.dense.bias")).unwrap();
        (found.1, found.2) = (vec![9], vec![0.0; 9]);
    });
    assert!(wide.contains("has the shape [9], config.json says [8]"), "{wide}");
    let no_number = said(&|all| all[3].2[5] = f32::INFINITY);
    assert!(no_number.contains("is no number"), "{no_number}");
}

#[test]
fn files_that_are_no_safetensors_are_refused_without_a_panic() {
    let from = tempfile::tempdir().unwrap();
    folder(from.path(), &weights());
    let path = from.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let into = tempfile::tempdir().unwrap();
    for end in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..end]).unwrap();
        assert!(convert(from.path(), into.path(), Options::default()).is_err(), "{end}");
    }
    let mut long = whole.clone();
    long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&path, &long).unwrap();
    assert!(convert(from.path(), into.path(), Options::default()).is_err());
    std::fs::remove_file(&path).unwrap();
    let index = r#"{"weight_map": {"a": "../model.safetensors"}}"#;
    std::fs::write(from.path().join("model.safetensors.index.json"), index).unwrap();
    let outside = convert(from.path(), into.path(), Options::default()).unwrap_err();
    assert!(outside.to_string().contains("is no file of the folder"), "{outside}");
}
