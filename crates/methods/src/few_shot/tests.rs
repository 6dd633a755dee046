//! Few-shot classifiers on examples whose answer is known.

use super::*;
use crate::artifact::Artifact;
use crate::rng::Rng;

const DIM: usize = 6;

fn wording(labels: &[&str], multi_label: bool) -> Wording {
    Wording {
        labels: labels.iter().map(|label| Label::from(*label)).collect(),
        template: None,
        multi_label,
        backbone: Backbone { id: "b".into(), sha256: "0".into() },
    }
}

/// An example near the axis of its label, of which zero-shot knows nothing.
fn example(rng: &mut Rng, label: u32, labels: usize) -> Example {
    let features =
        (0..DIM).map(|axis| 0.4 * rng.unit() as f32 + f32::from(u8::from(axis == label as usize))).collect();
    let mut content = [0; 32];
    content[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
    Example { features, zero_shot: vec![1.0 / labels as f32; labels], labels: vec![label], content }
}

fn shown(each: usize, labels: &[u32], of: usize) -> Shown {
    let mut rng = Rng::new(7);
    let mut shown = Shown::none(of);
    let examples = (0..each).flat_map(|_| labels).map(|label| example(&mut rng, *label, of)).collect();
    shown.add(examples).unwrap();
    shown
}

fn answer(few_shot: &FewShot, zero_shot: &[f32], features: &[f32]) -> Vec<f32> {
    let features = Array2::from_shape_vec((1, DIM), features.to_vec()).unwrap();
    let said = few_shot.head().map(|head| head.probabilities(features.view()).unwrap().row(0).to_vec());
    few_shot.pool(zero_shot, &said.unwrap_or_default())
}

const AXIS: [f32; DIM] = [0.0, 1.0, 0.1, 0.0, 0.0, 0.0];

#[test]
fn without_examples_the_names_answer_alone() {
    let few_shot = FewShot::new(wording(&["a", "b", "c"], false));
    assert_eq!(few_shot.rung(), Rung::ZeroShot);
    assert_eq!(answer(&few_shot, &[0.5, 0.2, 0.3], &AXIS), [0.5, 0.2, 0.3]);
    let one = few_shot.fitted(&shown(3, &[1], 3)).unwrap();
    assert_eq!(one.rung(), Rung::ZeroShot, "one label's examples tell it from nothing");
}

#[test]
fn a_few_examples_move_what_the_names_say_between_labels_that_have_them() {
    let few_shot = FewShot::new(wording(&["a", "b", "c"], false)).fitted(&shown(3, &[0, 1], 3)).unwrap();
    assert_eq!(few_shot.rung(), Rung::FewShot);
    let pooled = answer(&few_shot, &[0.4, 0.35, 0.25], &AXIS);
    assert!((pooled[2] - 0.25).abs() < 1e-6, "no examples, no change: {pooled:?}");
    assert!((pooled.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{pooled:?}");
    assert!(pooled[1] > 0.5 && pooled[0] < 0.25, "{pooled:?}");
}

#[test]
fn one_example_a_label_weighs_what_is_believed_before_there_is_evidence() {
    let few_shot = FewShot::new(wording(&["a", "b"], false)).fitted(&shown(1, &[0, 1], 2)).unwrap();
    assert!((few_shot.weight() - 0.25).abs() < 1e-6, "{}", few_shot.weight());
}

#[test]
fn examples_that_contradict_the_names_come_to_outweigh_them() {
    let weight = |each| {
        let mut rng = Rng::new(3);
        let mut shown = Shown::none(2);
        // Zero-shot is sure, and wrong.
        let wrong = |label: u32| if label == 0 { vec![0.1, 0.9] } else { vec![0.9, 0.1] };
        let examples = (0..each).flat_map(|_| [0, 1]);
        let examples =
            examples.map(|label| Example { zero_shot: wrong(label), ..example(&mut rng, label, 2) });
        shown.add(examples.collect()).unwrap();
        FewShot::new(wording(&["a", "b"], false)).fitted(&shown).unwrap().weight()
    };
    let [one, three, seven] = [1, 3, 7].map(weight);
    assert!(one < 0.5 && 0.5 < three && three < seven, "{one} {three} {seven}");
}

#[test]
fn enough_examples_of_every_label_make_a_tuned_head() {
    let few_shot = FewShot::new(wording(&["a", "b"], false));
    assert_eq!(few_shot.fitted(&shown(7, &[0, 1], 2)).unwrap().rung(), Rung::FewShot);
    let tuned = few_shot.fitted(&shown(8, &[0, 1], 2)).unwrap();
    assert_eq!(tuned.rung(), Rung::Prototype);
    assert!(answer(&tuned, &[0.5, 0.5], &AXIS)[1] > 0.8);
}

#[test]
fn several_labels_an_item_are_answered_by_names_until_each_has_enough_of_both_kinds() {
    let few_shot = FewShot::new(wording(&["a", "b"], true));
    assert_eq!(few_shot.fitted(&shown(7, &[0, 1], 2)).unwrap().rung(), Rung::ZeroShot);
    let tuned = few_shot.fitted(&shown(8, &[0, 1], 2)).unwrap();
    assert_eq!(tuned.rung(), Rung::Prototype);
    let said = answer(&tuned, &[0.5, 0.5], &AXIS);
    assert!(said[1] > 0.5 && said[0] < 0.5, "{said:?}");
}

#[test]
fn an_example_is_counted_once_and_its_last_labels_hold() {
    let mut rng = Rng::new(1);
    let (one, two) = (example(&mut rng, 0, 2), example(&mut rng, 1, 2));
    let mut shown = Shown::none(2);
    let changes = shown.add(vec![one.clone(), one.clone(), two.clone()]).unwrap();
    assert_eq!(changes, Changes { added: 2, unchanged: 1, ..Changes::default() });
    assert_eq!(shown.counts(), [1, 1]);
    let changes = shown.add(vec![Example { labels: vec![1], ..one.clone() }]).unwrap();
    assert_eq!((changes.replaced, shown.counts()), (1, vec![0, 2]));
    assert!(shown.has(&two.content));
    assert_eq!(shown.forget(&[two.content, [9; 32]]).forgotten, 1);
    assert!(shown.forget(&[two.content]).is_empty());
    assert_eq!((shown.len(), shown.counts()), (1, vec![0, 1]));
}

#[test]
fn examples_that_do_not_fit_are_refused() {
    let mut rng = Rng::new(1);
    let good = example(&mut rng, 0, 2);
    let mut shown = Shown::none(2);
    shown.add(vec![good.clone()]).unwrap();
    let refused = [
        Example { features: vec![1.0], content: [1; 32], ..good.clone() },
        Example { zero_shot: vec![1.0], content: [2; 32], ..good.clone() },
        Example { labels: vec![2], content: [3; 32], ..good.clone() },
        Example { labels: vec![1, 0], content: [4; 32], ..good.clone() },
        Example { features: vec![f32::NAN; DIM], content: [5; 32], ..good },
    ];
    for example in refused {
        assert!(shown.clone().add(vec![example.clone()]).is_err(), "{example:?}");
    }
}

#[test]
fn a_classifier_comes_back_from_its_bytes_and_others_are_refused() {
    let new = FewShot::new(wording(&["a", "b"], false));
    for each in [0, 2, 9] {
        let shown = shown(each, &[0, 1], 2);
        let few_shot = new.fitted(&shown).unwrap();
        let bytes = save(&few_shot, &shown).unwrap();
        assert_eq!(load(&bytes).unwrap(), (few_shot.clone(), shown.clone()));
        assert_eq!(save(&few_shot, &shown).unwrap(), bytes);
        assert_eq!(Artifact::load(&bytes).unwrap(), Artifact::FewShot(Arc::new(few_shot)));
        for length in (0..bytes.len()).step_by(7) {
            assert!(load(&bytes[..length]).is_err(), "{length}");
        }
    }
    let head = new.fitted(&shown(9, &[0, 1], 2)).unwrap();
    let head = crate::artifact::save(head.head().unwrap()).unwrap();
    assert!(load(&head).is_err());
    assert!(matches!(Artifact::load(&head).unwrap(), Artifact::Head(_)));
}
