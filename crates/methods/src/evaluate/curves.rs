//! Curves over thresholds: ROC, precision–recall, and accuracy against coverage.

use headstart_types::report::{
    BinaryCurves, Coverage, CoveragePoint, CoverageTarget, PrecisionRecallPoint, RocPoint,
};

use super::intervals::{Units, beyond_doubt, bootstrap};

/// Most points of a curve in a report: more cannot be told apart in a drawing.
const POINTS: usize = 200;

/// Accuracies people ask for.
const WANTED: [f64; 4] = [0.9, 0.95, 0.98, 0.99];

/// Fewest items answered for an accuracy to count as reached: with fewer one error moves it by five points.
const ANSWERED: usize = 20;

/// Scores of one class, highest first, with what is true.
#[derive(Debug, Clone)]
pub struct Ranking {
    /// Row indices, highest score first.
    order: Vec<usize>,
    scores: Vec<f64>,
    positive: Vec<bool>,
}

impl Ranking {
    /// Ranks the rows by score; `scores` and `positive` are one entry a row.
    pub fn new(scores: Vec<f64>, positive: Vec<bool>) -> Self {
        let mut order: Vec<usize> = (0..scores.len().min(positive.len())).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        Self { order, scores, positive }
    }

    /// Area under the ROC curve, ties counted half. `None` where only one kind of row exists.
    pub fn roc_auc(&self) -> Option<f64> {
        finite(self.areas(None).0)
    }

    /// Average precision: the area under the precision–recall steps, without interpolation. `None` without positives.
    pub fn average_precision(&self) -> Option<f64> {
        finite(self.areas(None).1)
    }

    /// Both areas with rows counted `weights` times; not finite where undefined.
    fn areas(&self, weights: Option<&[u32]>) -> (f64, f64) {
        let (mut area, mut precision) = (0.0, 0.0);
        let (mut tp_before, mut fp_before) = (0.0, 0.0);
        self.sweep(weights, |_, tp, fp| {
            area += (fp - fp_before) * (tp + tp_before) / 2.0;
            if tp > tp_before {
                precision += (tp - tp_before) * tp / (tp + fp);
            }
            (tp_before, fp_before) = (tp, fp);
        });
        (area / (tp_before * fp_before), precision / tp_before)
    }

    /// Walks the distinct scores downwards: the score, the positives and the negatives at or above it.
    fn sweep(&self, weights: Option<&[u32]>, mut step: impl FnMut(f64, f64, f64)) {
        let (mut tp, mut fp) = (0.0, 0.0);
        for (place, &row) in self.order.iter().enumerate() {
            let weight = weights.map_or(1.0, |all| all.get(row).copied().map_or(0.0, f64::from));
            if self.positive[row] {
                tp += weight
            } else {
                fp += weight
            }
            let next = self.order.get(place + 1).map(|&row| self.scores[row]);
            if next != Some(self.scores[row]) {
                step(self.scores[row], tp, fp);
            }
        }
    }

    /// The ROC curve, from nothing counted as positive to everything; every distinct score is a point.
    pub fn roc(&self) -> Vec<RocPoint> {
        let (positives, negatives) = self.kinds();
        let mut points =
            vec![RocPoint { threshold: None, false_positive_rate: 0.0, true_positive_rate: 0.0 }];
        self.sweep(None, |score, tp, fp| {
            points.push(RocPoint {
                threshold: Some(score),
                false_positive_rate: fp / negatives.max(1.0),
                true_positive_rate: tp / positives.max(1.0),
            });
        });
        points
    }

    /// The precision–recall curve, threshold falling; every distinct score is a point.
    pub fn precision_recall(&self) -> Vec<PrecisionRecallPoint> {
        let (positives, _) = self.kinds();
        let mut points = Vec::new();
        self.sweep(None, |threshold, tp, fp| {
            points.push(PrecisionRecallPoint {
                threshold,
                precision: tp / (tp + fp),
                recall: tp / positives.max(1.0),
            });
        });
        points
    }

    fn kinds(&self) -> (f64, f64) {
        let positives = self.order.iter().filter(|&&row| self.positive[row]).count();
        (positives as f64, (self.order.len() - positives) as f64)
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// Everything about two classes: areas with intervals and both curves. `None` where only one class occurs.
pub fn binary_curves(
    positive: &str,
    ranking: &Ranking,
    (units, seed): (&Units, u64),
) -> Option<BinaryCurves> {
    ranking.roc_auc()?;
    let rows = ranking.order.len();
    let mut weights = vec![0u32; rows];
    let [roc_auc, average_precision] = bootstrap(units, seed, |chosen| {
        weights.fill(0);
        for &row in chosen {
            weights[row] += 1;
        }
        let (auc, precision) = ranking.areas(Some(&weights));
        [auc, precision]
    });
    // As sure as the kind is that has fewer rows.
    let (positives, negatives) = ranking.kinds();
    let items = (positives.min(negatives) as usize).min(units.count());
    Some(BinaryCurves {
        positive: positive.to_owned(),
        roc_auc: beyond_doubt(roc_auc, items),
        average_precision: beyond_doubt(average_precision, items),
        roc: thinned(ranking.roc()),
        precision_recall: thinned(ranking.precision_recall()),
    })
}

/// At most [`POINTS`] of the points, evenly spaced, the ends kept.
fn thinned<T: Copy>(points: Vec<T>) -> Vec<T> {
    if points.len() <= POINTS {
        return points;
    }
    let last = points.len() - 1;
    (0..POINTS).filter_map(|place| points.get(place * last / (POINTS - 1)).copied()).collect()
}

/// Accuracy against coverage: `confidences` and `right` are one entry a row. Points at 100 %, 95 %, … of the items
/// answered; ties are answered together. Thresholds read off the items they are judged on look a little better than
/// they are.
pub fn coverage(confidences: &[f64], right: &[bool]) -> Coverage {
    let ranking = Ranking::new(confidences.to_vec(), right.to_vec());
    let items = ranking.order.len();
    let mut steps: Vec<(usize, CoveragePoint)> = Vec::new();
    ranking.sweep(None, |threshold, right, wrong| {
        let answered = right + wrong;
        let coverage = answered / items as f64;
        steps.push((answered as usize, CoveragePoint { threshold, coverage, accuracy: right / answered }));
    });
    let mut points: Vec<CoveragePoint> = (1..=20)
        .rev()
        .filter_map(|level| {
            let wanted = (items * level).div_ceil(20);
            steps.iter().find(|(answered, _)| *answered >= wanted).map(|(_, point)| *point)
        })
        .collect();
    points.dedup();
    let targets = WANTED.map(|wanted| {
        let reaches = |(answered, point): &&(usize, CoveragePoint)| {
            point.accuracy >= wanted && *answered >= ANSWERED.min(items)
        };
        CoverageTarget { wanted, reached: steps.iter().rev().find(reaches).map(|(_, point)| *point) }
    });
    Coverage { points, targets: targets.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_ranking_has_all_the_area_and_ties_have_half() {
        let ranking = |scores: &[f64]| Ranking::new(scores.to_vec(), vec![false, false, true, true]);
        assert_eq!(ranking(&[0.1, 0.2, 0.8, 0.9]).roc_auc(), Some(1.0));
        assert_eq!(ranking(&[0.9, 0.8, 0.2, 0.1]).roc_auc(), Some(0.0));
        assert_eq!(ranking(&[0.5; 4]).roc_auc(), Some(0.5));
        assert_eq!(Ranking::new(vec![0.5], vec![true]).roc_auc(), None);
        assert_eq!(Ranking::new(vec![0.5], vec![false]).average_precision(), None);
    }

    #[test]
    fn four_rows_in_order_are_no_proof_of_a_perfect_ranking() {
        let ranking = Ranking::new(vec![0.1, 0.2, 0.8, 0.9], vec![false, false, true, true]);
        let found = binary_curves("yes", &ranking, (&Units::rows(4), 1)).unwrap();
        for area in [found.roc_auc, found.average_precision] {
            assert!(area.value == 1.0 && area.low < 0.2 && area.high == 1.0, "{area:?}");
        }
    }

    #[test]
    fn answering_fewer_items_raises_accuracy_where_scores_are_good() {
        let confidences: Vec<f64> = (0..100).map(|row| f64::from(row) / 100.0).collect();
        let right: Vec<bool> = (0..100).map(|row| row >= 20).collect();
        let table = coverage(&confidences, &right);
        assert_eq!(table.points.len(), 20);
        assert_eq!(table.points[0], CoveragePoint { threshold: 0.0, coverage: 1.0, accuracy: 0.8 });
        assert_eq!(table.targets[3].reached.unwrap().coverage, 0.8);
    }

    #[test]
    fn no_threshold_parts_equal_scores() {
        let table = coverage(&[0.5; 40], &[[true; 30].as_slice(), &[false; 10]].concat());
        assert_eq!(table.points, [CoveragePoint { threshold: 0.5, coverage: 1.0, accuracy: 0.75 }]);
        assert!(table.targets.iter().all(|target| target.reached.is_none()));
    }
}
