//! Quality on the held-out rows, as the report states it.

use headstart_types::report::{
    ClassMetrics, Confused, Confusion, Estimate, LabelMetrics, Metrics, MultiLabelMetrics,
    SingleLabelMetrics, ThresholdPoint,
};
use ndarray::ArrayView2;

use super::curves::Ranking;
use super::intervals::{Units, beyond_doubt, bootstrap, of_classes};
use super::metrics::{ClassScores, Tally, best_classes, item_f1, log_loss, mean, ratio};
use crate::data::Targets;

/// Most classes whose whole confusion matrix a report has.
const MATRIX: usize = 100;

/// Kinds of confusion that a report lists.
const TOP: usize = 20;

/// Metrics of probabilities `[n, classes]` where each row has one class.
pub(crate) fn single_label(
    probabilities: ArrayView2<'_, f64>,
    labels: &[u32],
    classes: &[String],
    (units, seed): (&Units, u64),
) -> Metrics {
    let predicted = best_classes(probabilities);
    let mut tally = Tally::new(classes.len());
    let [accuracy, balanced_accuracy, macro_f1] = bootstrap(units, seed, |rows| {
        tally.clear();
        for &row in rows {
            if let (Some(&label), Some(&said)) = (labels.get(row), predicted.get(row)) {
                tally.add(label, said);
            }
        }
        [tally.accuracy(), tally.balanced_accuracy(), tally.macro_f1()]
    });
    let whole = Tally::of(labels, &predicted, classes.len()).classes();
    let class = |(label, scores): (&String, ClassScores)| ClassMetrics {
        label: label.clone(),
        support: scores.support,
        precision: scores.precision,
        recall: scores.recall,
        f1: scores.f1,
    };
    Metrics::SingleLabel(SingleLabelMetrics {
        items: labels.len(),
        accuracy: beyond_doubt(accuracy, units.count()),
        balanced_accuracy: over_classes(balanced_accuracy, &whole, units),
        macro_f1: over_classes(macro_f1, &whole, units),
        log_loss: log_loss(probabilities, labels),
        classes: classes.iter().zip(whole).map(class).collect(),
    })
}

/// Widens the interval of a mean over classes that is exactly 0 or 1.
fn over_classes(estimate: Estimate, classes: &[ClassScores], units: &Units) -> Estimate {
    let supports: Vec<usize> = classes.iter().map(|scores| scores.support).collect();
    of_classes(estimate, &supports, units.count())
}

/// Metrics of probabilities `[n, labels]` where each row has any number of labels.
pub(crate) fn multi_label(
    probabilities: ArrayView2<'_, f64>,
    rows: &[Vec<u32>],
    labels: &[String],
    thresholds: &[f64],
    (units, seed): (&Units, u64),
) -> Metrics {
    let said = decisions(probabilities, thresholds);
    let count = |tally: &mut Tally, row: usize| {
        let (Some(has), Some(said)) = (rows.get(row), said.get(row)) else { return false };
        for label in 0..labels.len() as u32 {
            tally.add_decision(label, has.binary_search(&label).is_ok(), said.binary_search(&label).is_ok());
        }
        has == said
    };
    let mut tally = Tally::new(labels.len());
    let [micro_f1, macro_f1, exact_match]: [Estimate; 3] = bootstrap(units, seed, |chosen| {
        tally.clear();
        let exact = chosen.iter().filter(|row| count(&mut tally, **row)).count();
        [tally.micro_f1(), tally.macro_f1(), ratio(exact, chosen.len())]
    });
    let mut whole = Tally::new(labels.len());
    for row in 0..rows.len() {
        count(&mut whole, row);
    }
    let whole = whole.classes();
    // Rows with no label that are given none are in neither.
    let counted = rows.iter().zip(&said).filter(|(has, said)| !has.is_empty() || !said.is_empty()).count();
    let precisions: Vec<Option<f64>> = (0u32..)
        .zip(probabilities.columns())
        .map(|(label, scores)| {
            let has = rows.iter().map(|has| has.binary_search(&label).is_ok());
            Ranking::new(scores.to_vec(), has.collect()).average_precision()
        })
        .collect();
    let known: Vec<f64> = precisions.iter().copied().flatten().collect();
    let parts = labels.iter().zip(&whole).zip(thresholds).zip(&precisions);
    Metrics::MultiLabel(MultiLabelMetrics {
        items: rows.len(),
        micro_f1: beyond_doubt(micro_f1, counted.min(units.count())),
        macro_f1: over_classes(macro_f1, &whole, units),
        exact_match: beyond_doubt(exact_match, units.count()),
        mean_average_precision: (!known.is_empty()).then(|| mean(known.iter().copied())),
        labels: parts
            .map(|(((label, scores), threshold), average_precision)| LabelMetrics {
                label: label.clone(),
                support: scores.support,
                threshold: *threshold,
                precision: scores.precision,
                recall: scores.recall,
                f1: scores.f1,
                average_precision: *average_precision,
            })
            .collect(),
    })
}

/// Quality of each row: 1 or 0 for right or wrong; of several labels a row, their F1.
pub(crate) fn by_row(
    probabilities: ArrayView2<'_, f64>,
    targets: &Targets,
    thresholds: Option<&[f64]>,
) -> Vec<f64> {
    match targets {
        Targets::Single(labels) => {
            let right = |(said, label)| f64::from(u8::from(said == label));
            best_classes(probabilities).iter().zip(labels).map(right).collect()
        }
        Targets::Multi(rows) => {
            let half = vec![0.5; probabilities.ncols()];
            let said = decisions(probabilities, thresholds.unwrap_or(&half));
            rows.iter().zip(&said).map(|(has, said)| item_f1(has, said)).collect()
        }
    }
}

/// What a threshold of 0.05, 0.1, … for all labels does, as far as anything is given.
pub(crate) fn thresholds(probabilities: ArrayView2<'_, f64>, rows: &[Vec<u32>]) -> Vec<ThresholdPoint> {
    let labels = probabilities.ncols();
    let has: usize = rows.iter().map(Vec::len).sum();
    let point = |step: usize| {
        let threshold = ratio(step, 20);
        let said = decisions(probabilities, &vec![threshold; labels]);
        let given: usize = said.iter().map(Vec::len).sum();
        let both =
            |(said, has): (&Vec<u32>, &Vec<u32>)| said.iter().filter(|label| has.contains(label)).count();
        let right: usize = said.iter().zip(rows).map(both).sum();
        (given > 0).then(|| ThresholdPoint {
            threshold,
            precision: ratio(right, given),
            recall: ratio(right, has),
            f1: ratio(2 * right, given + has),
            coverage: ratio(said.iter().filter(|said| !said.is_empty()).count(), said.len()),
        })
    };
    (1..20).map_while(point).collect()
}

/// The labels each row is given.
fn decisions(probabilities: ArrayView2<'_, f64>, thresholds: &[f64]) -> Vec<Vec<u32>> {
    let said = |row: ndarray::ArrayView1<'_, f64>| {
        let from = row.iter().zip(thresholds).map(|(score, threshold)| score >= threshold);
        (0u32..).zip(from).filter(|(_, said)| *said).map(|(label, _)| label).collect()
    };
    probabilities.outer_iter().map(said).collect()
}

/// What is taken for what: the matrix where it is small enough, and the commonest confusions.
pub(crate) fn confusion(labels: &[u32], predicted: &[u32], classes: &[String]) -> Confusion {
    let mut counts = std::collections::BTreeMap::new();
    let mut support = vec![0usize; classes.len()];
    for (&label, &said) in labels.iter().zip(predicted) {
        *counts.entry((label, said)).or_insert(0usize) += 1;
        if let Some(support) = support.get_mut(label as usize) {
            *support += 1;
        }
    }
    let mut wrong: Vec<((u32, u32), usize)> =
        counts.iter().filter(|((label, said), _)| label != said).map(|(pair, n)| (*pair, *n)).collect();
    wrong.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let confused = |((label, said), items): &((u32, u32), usize)| {
        Some(Confused {
            label: classes.get(*label as usize)?.clone(),
            predicted: classes.get(*said as usize)?.clone(),
            items: *items,
            share: ratio(*items, *support.get(*label as usize)?),
        })
    };
    let all = 0..classes.len() as u32;
    let line =
        |label: u32| all.clone().map(|said| counts.get(&(label, said)).copied().unwrap_or(0)).collect();
    Confusion {
        matrix: (classes.len() <= MATRIX).then(|| all.clone().map(line).collect()),
        top: wrong.iter().take(TOP).filter_map(confused).collect(),
        kinds: wrong.len(),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[test]
    fn ten_rows_that_are_all_right_leave_doubt_in_every_figure() {
        let names = ["a", "b"].map(str::to_owned);
        let units = Units::rows(10);
        let rows: Vec<Vec<u32>> = (0..10).map(|row| vec![row % 2]).collect();
        let scores = Array2::from_shape_fn((10, 2), |(row, class)| if row % 2 == class { 0.9 } else { 0.1 });
        let Metrics::MultiLabel(found) = multi_label(scores.view(), &rows, &names, &[0.5; 2], (&units, 1))
        else {
            panic!("not of several labels")
        };
        let Metrics::SingleLabel(one) = single_label(scores.view(), &rows.concat(), &names, (&units, 1))
        else {
            panic!("of several labels")
        };
        let all = [found.micro_f1, found.macro_f1, found.exact_match];
        for figure in all.into_iter().chain([one.accuracy, one.balanced_accuracy, one.macro_f1]) {
            assert!(figure.value == 1.0 && figure.low < 0.8 && figure.high == 1.0, "{figure:?}");
        }
        // Five of either class: the mean over classes is the mean over rows, and as doubtful.
        for figure in [one.balanced_accuracy, one.macro_f1, found.macro_f1] {
            assert!((figure.low - one.accuracy.low).abs() < 1e-9, "{figure:?} {:?}", one.accuracy);
        }
        let none = multi_label(scores.view(), &vec![vec![]; 10], &names, &[0.95; 2], (&units, 1));
        let Metrics::MultiLabel(none) = none else { panic!("not of several labels") };
        assert!(
            none.micro_f1.value == 0.0 && none.micro_f1.high > 0.9,
            "of no label nothing is known: {none:?}"
        );
    }
}
