//! Heads applied from a stack of 1,000 against a stack of one, each request asking for one head. Prints both rates.

use std::{hint::black_box, sync::Arc, time::Instant};

use headstart_methods::{
    MethodError,
    head::{Ask, Backbone, Head, HeadId, HeadParts, Stack, Tail},
    rng::Rng,
};
use ndarray::Array2;

const DIM: usize = 384;
const CLASSES: usize = 6;
const HEADS: usize = 1000;
const ROUNDS: usize = 20_000;

fn head(rng: &mut Rng) -> Result<Arc<Head>, MethodError> {
    let rows = Array2::from_shape_fn((CLASSES, DIM), |_| rng.unit() as f32 - 0.5);
    Head::new(HeadParts {
        method: "linear_probe".to_owned(),
        hyperparameters: serde_json::Map::new(),
        backbone: Backbone { id: "bench".to_owned(), sha256: String::new() },
        classes: (0..CLASSES).map(|class| class.to_string()).collect(),
        multi_label: false,
        normalise: false,
        rows: rows.into_shared(),
        bias: vec![0.0; CLASSES].into(),
        tail: Tail::Identity,
        temperature: 1.0,
        thresholds: None,
    })
    .map(Arc::new)
}

/// Seconds a row, the median of seven runs.
fn seconds(stack: &Stack, ids: &[HeadId], batch: usize, rng: &mut Rng) -> Result<f64, MethodError> {
    let x = Array2::from_shape_fn((batch, DIM), |_| rng.unit() as f32 - 0.5);
    let rounds = ROUNDS / batch;
    let asks: Vec<Vec<Ask>> = (0..rounds)
        .map(|_| (0..batch).map(|row| Ask { row, head: ids[rng.below(ids.len())] }).collect())
        .collect();
    let mut times = Vec::new();
    for _ in 0..7 {
        let started = Instant::now();
        for asks in &asks {
            black_box(stack.probabilities(x.view(), asks)?);
        }
        times.push(started.elapsed().as_secs_f64() / (rounds * batch) as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[3])
}

#[allow(clippy::print_stdout, reason = "a program for the terminal")]
fn main() -> Result<(), MethodError> {
    let mut rng = Rng::new(1);
    let heads = (0..HEADS).map(|_| head(&mut rng)).collect::<Result<Vec<_>, _>>()?;
    let (one, one_id) = Stack::build(DIM, &heads[..1])?;
    let (all, all_ids) = Stack::build(DIM, &heads)?;
    for batch in [1, 8, 32] {
        let single = seconds(&one, &one_id, batch, &mut rng)?;
        let many = seconds(&all, &all_ids, batch, &mut rng)?;
        println!(
            "batch {batch:2}: one head {:.2} us a row, {HEADS} heads {:.2} us a row",
            single * 1e6,
            many * 1e6
        );
    }
    let started = Instant::now();
    let mut next = all.clone();
    next.add(&heads[0])?;
    println!("a head more after {:.2} ms", started.elapsed().as_secs_f64() * 1e3);
    Ok(())
}
