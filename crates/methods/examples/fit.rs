//! Fits a head on `.npy` features and prints one line of JSON: `fit METHOD TRAIN TEST`, each file with `.labels.npy`
//! beside it. For the benchmark in `benches/`.

use std::{fs, path::Path, sync::Arc, time::Instant};

use headstart_methods::{
    FitData, Unattended,
    data::{Examples, Targets},
    head::Backbone,
    method,
};
use ndarray::Array2;

type Error = Box<dyn std::error::Error>;

/// The body and the shape of a C-ordered file of four-byte items.
fn npy(path: &Path) -> Result<(Vec<usize>, Vec<[u8; 4]>), Error> {
    let bytes = fs::read(path)?;
    let wide = bytes.get(6) == Some(&1);
    let (skip, length) = if wide {
        (10, usize::from(u16::from_le_bytes([bytes[8], bytes[9]])))
    } else {
        (12, u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize)
    };
    let header = std::str::from_utf8(&bytes[skip..skip + length])?;
    let shape =
        header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')')).ok_or("no shape")?.0;
    let shape = shape.split(',').filter_map(|part| part.trim().parse().ok()).collect();
    Ok((shape, bytes[skip + length..].as_chunks::<4>().0.to_vec()))
}

fn read(path: &str) -> Result<Examples, Error> {
    let (shape, body) = npy(Path::new(path))?;
    let features =
        Array2::from_shape_vec((shape[0], shape[1]), body.iter().map(|b| f32::from_le_bytes(*b)).collect())?;
    let (_, labels) = npy(Path::new(&path.replace(".npy", ".labels.npy")))?;
    let labels: Vec<u32> = labels.iter().map(|b| u32::from_le_bytes(*b)).collect();
    let classes: Arc<[String]> =
        (0..=labels.iter().copied().max().unwrap_or(0)).map(|c| c.to_string()).collect();
    Ok(Examples::new(features, Targets::Single(labels), classes, None)?)
}

#[allow(clippy::print_stdout, reason = "a program for the terminal")]
fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, train, test] = args.as_slice() else {
        return Err("usage: fit METHOD TRAIN.npy TEST.npy".into());
    };
    let (train, test) = (read(train)?, read(test)?);
    let method = method(name).ok_or("no such method")?;
    let backbone = Backbone { id: "bench".to_owned(), sha256: String::new() };
    let data = FitData { train: &train, validation: None, backbone, threads: 2 };
    let started = Instant::now();
    let fitted = method.fit(&data, &method.check(&serde_json::Map::new())?, 0, &mut Unattended)?;
    let seconds = started.elapsed().as_secs_f64();
    let logits = fitted.head.logits(test.features())?;
    let right = logits.outer_iter().enumerate().filter(|(row, z)| {
        let best =
            z.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(class, _)| class as u32);
        test.targets().of(*row).contains(&best)
    });
    let accuracy = right.count() as f64 / test.len() as f64;
    println!("{}", serde_json::json!({"seconds": seconds, "accuracy": accuracy, "summary": fitted.summary}));
    Ok(())
}
