//! Stored heads come back as they were or not at all; stacked heads say what they say alone.
#![allow(clippy::unwrap_used, reason = "a test may fail here")]

mod support;

use std::{sync::Arc, time::Instant};

use headstart_methods::{
    FitData, MethodError, Unattended,
    artifact::{self, Graft},
    head::{Ask, Head, HeadId, HeadParts, Stack, Tail},
    method,
    rng::Rng,
};
use ndarray::{Array2, Axis};
use serde_json::json;
use support::{BACKBONE, blobs, two_labels};

fn heads() -> Vec<Head> {
    let mut heads = Vec::new();
    for name in ["prototype", "linear_probe", "mlp"] {
        for train in [blobs(60, 6, 3, 0.3, 1), blobs(40, 6, 2, 0.3, 2), two_labels(60, 3)] {
            let method = method(name).unwrap();
            let given = if name == "mlp" { json!({"hidden": 8, "epochs": 3}) } else { json!({}) };
            let params = method.check(given.as_object().unwrap()).unwrap();
            let data = FitData { train: &train, validation: None, backbone: BACKBONE(), threads: 1 };
            heads.push(method.fit(&data, &params, 1, &mut Unattended).unwrap().head);
        }
    }
    heads
}

fn linear(dim: usize, classes: usize, rng: &mut Rng) -> Head {
    let rows = Array2::from_shape_fn((classes, dim), |_| rng.unit() as f32 - 0.5);
    Head::new(HeadParts {
        method: "linear_probe".to_owned(),
        hyperparameters: serde_json::Map::new(),
        backbone: BACKBONE(),
        classes: (0..classes).map(|class| class.to_string()).collect(),
        multi_label: false,
        normalise: false,
        rows: rows.into_shared(),
        bias: vec![0.1; classes].into(),
        tail: Tail::Identity,
        temperature: 1.5,
        thresholds: None,
    })
    .unwrap()
}

#[test]
fn a_stored_head_comes_back_as_it_was() {
    for head in heads() {
        let bytes = artifact::save(&head).unwrap();
        let back = artifact::load(&bytes).unwrap();
        assert_eq!(back, head);
        assert_eq!(artifact::save(&back).unwrap(), bytes);
        assert_eq!(artifact::address(&bytes).len(), 64);
    }
    // The digest of "abc" from FIPS 180-2.
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(artifact::address(b"abc"), expected);
}

#[test]
fn what_was_tuned_names_an_original_only_where_the_head_reads_another_backbone() {
    let head = linear(4, 2, &mut Rng::new(1));
    for original in [None, Some(BACKBONE())] {
        let graft = Graft { delta: vec![1, 2, 3], original };
        let bytes = artifact::save_tuned(&head, &graft).unwrap();
        // As versions were stored before there was an original to name.
        let ends = br#"tuned_classifier\":1}"#;
        let alone = bytes.windows(ends.len()).any(|part| part == ends);
        assert_eq!(alone, graft.original.is_none());
        assert_eq!(artifact::load_tuned(&bytes).unwrap(), Some((head.clone(), graft)));
    }
    assert_eq!(artifact::load_tuned(&artifact::save(&head).unwrap()).unwrap(), None);
}

#[test]
fn mangled_bytes_are_refused_or_give_a_whole_head_and_never_panic() {
    let mut rng = Rng::new(8);
    let x = Array2::from_elem((2, 6), 0.5f32);
    let (mut refused, mut loaded) = (0, 0);
    for head in heads() {
        let bytes = artifact::save(&head).unwrap();
        for round in 0..400 {
            let mut bad = bytes.clone();
            match round % 4 {
                0 => bad.truncate(rng.below(bytes.len())),
                1 => bad.extend((0..1 + rng.below(9)).map(|i| i as u8)),
                // The header, where names, shapes and offsets stand.
                2 => (0..1 + rng.below(4))
                    .for_each(|_| bad[rng.below(1200.min(bytes.len()))] = rng.next_u64() as u8),
                _ => (0..1 + rng.below(4)).for_each(|_| bad[rng.below(bytes.len())] ^= 1 << rng.below(8)),
            }
            match artifact::load(&bad) {
                Err(_) => refused += 1,
                Ok(head) => {
                    let _ = head.probabilities(x.view());
                    loaded += 1;
                }
            }
        }
    }
    assert!(refused > 1800 && loaded > 0, "{refused} refused, {loaded} loaded");
    assert!(artifact::load(b"").is_err() && artifact::load(&[0xff; 64]).is_err());
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let parts = linear(4, 3, &mut Rng::new(1)).into_parts();
    let bad = [
        HeadParts { temperature: 0.0, ..parts.clone() },
        HeadParts { temperature: f32::NAN, ..parts.clone() },
        HeadParts { bias: vec![0.0; 2].into(), ..parts.clone() },
        HeadParts { thresholds: Some(vec![0.5; 2]), ..parts.clone() },
        HeadParts { classes: vec!["a".to_owned(); 4].into(), ..parts.clone() },
        HeadParts { rows: Array2::from_elem((3, 4), f32::INFINITY).into_shared(), ..parts.clone() },
        HeadParts { tail: Tail::Layer { weights: Array2::zeros((3, 2)), bias: vec![0.0; 3] }, ..parts },
    ];
    for parts in bad {
        assert!(matches!(Head::new(parts), Err(MethodError::Head { .. })));
    }
}

#[test]
fn stacked_heads_say_what_they_say_alone() {
    let heads: Vec<Arc<Head>> = heads().into_iter().map(Arc::new).collect();
    let (stack, ids) = Stack::build(6, &heads).unwrap();
    let mut rng = Rng::new(4);
    let x = Array2::from_shape_fn((7, 6), |_| rng.unit() as f32 - 0.3);
    let close =
        |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
    // Every row asks for some heads, in no order, some of them twice.
    let asks: Vec<Ask> =
        (0..200).map(|_| Ask { row: rng.below(7), head: ids[rng.below(ids.len())] }).collect();
    let everyone: Vec<Ask> = ids.iter().flat_map(|&head| (0..7).map(move |row| Ask { row, head })).collect();
    for asks in [asks, everyone] {
        let logits = stack.logits(x.view(), &asks).unwrap();
        let probabilities = stack.probabilities(x.view(), &asks).unwrap();
        for ((ask, logits), probabilities) in asks.iter().zip(&logits).zip(&probabilities) {
            let alone = stack.get(ask.head).unwrap();
            let row = x.row(ask.row).insert_axis(Axis(0));
            assert!(close(logits, alone.logits(row).unwrap().as_slice().unwrap()));
            assert!(close(probabilities, alone.probabilities(row).unwrap().as_slice().unwrap()));
        }
    }
    let all = stack.all(x.view()).unwrap();
    assert_eq!(all.len(), heads.len());
    for (id, logits) in all {
        let alone = stack.get(id).unwrap().logits(x.view()).unwrap();
        assert!(close(logits.as_slice().unwrap(), alone.as_slice().unwrap()));
    }
}

#[test]
fn heads_come_and_go_while_places_and_clones_stay() {
    let mut rng = Rng::new(5);
    let heads: Vec<Arc<Head>> = (0..1000).map(|_| Arc::new(linear(8, 5, &mut rng))).collect();
    let (mut stack, ids) = Stack::build(8, &heads).unwrap();
    let before = stack.clone();
    let x = Array2::from_elem((1, 8), 0.3f32);
    let answer = |stack: &Stack, head: HeadId| stack.logits(x.view(), &[Ask { row: 0, head }]);
    let expected = answer(&stack, ids[999]).unwrap();
    assert!(stack.remove(ids[500]).is_some());
    assert!(stack.remove(ids[500]).is_none());
    let new = stack.add(&heads[3]).unwrap();
    assert_eq!(stack.len(), 1000);
    assert_eq!(answer(&stack, new).unwrap(), answer(&stack, ids[3]).unwrap());
    assert_eq!(answer(&stack, ids[999]).unwrap(), expected);
    assert!(matches!(answer(&stack, ids[500]), Err(MethodError::Unknown { what: "head", .. })));
    assert!(answer(&before, ids[500]).is_ok());
    assert!(matches!(answer(&before, new), Err(MethodError::Unknown { .. })));
    let (wide, far) = (Array2::zeros((1, 9)), Ask { row: 1, head: new });
    assert!(matches!(stack.logits(wide.view(), &[]), Err(MethodError::Width { expected: 8, given: 9 })));
    assert!(matches!(stack.logits(x.view(), &[far]), Err(MethodError::Unknown { what: "row", index: 1 })));
    assert!(stack.add(&Arc::new(linear(9, 5, &mut rng))).is_err());
}

#[test]
fn a_head_joins_a_thousand_others_well_within_a_tenth_of_a_second() {
    let mut rng = Rng::new(6);
    let heads: Vec<Arc<Head>> = (0..1000).map(|_| Arc::new(linear(384, 6, &mut rng))).collect();
    let (stack, _) = Stack::build(384, &heads).unwrap();
    // The least of several tries: the tests beside this one take their share of the processor.
    let join = |_| {
        let started = Instant::now();
        let mut next = stack.clone();
        next.add(&heads[0]).unwrap();
        assert_eq!(next.len(), 1001);
        started.elapsed()
    };
    let least = (0..5).map(join).min().unwrap();
    assert!(least.as_millis() < 100, "{least:?}");
}
