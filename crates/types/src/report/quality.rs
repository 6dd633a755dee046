//! How good the classifier is on the held-out items.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A figure with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Estimate {
    /// The figure itself.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// Quality, by the kind of problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "problem", rename_all = "snake_case")]
pub enum Metrics {
    /// Every item has exactly one class.
    SingleLabel(SingleLabelMetrics),
    /// Every item has any number of labels.
    MultiLabel(MultiLabelMetrics),
}

/// Quality where every item has exactly one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SingleLabelMetrics {
    /// Held-out items.
    pub items: usize,
    /// Share of items named right.
    pub accuracy: Estimate,
    /// Mean recall of the classes that occur.
    pub balanced_accuracy: Estimate,
    /// Mean F1 of the classes that occur or are predicted.
    pub macro_f1: Estimate,
    /// Mean negative logarithm of the right class's score, in nats.
    pub log_loss: f64,
    /// One entry a class, in the classifier's order.
    pub classes: Vec<ClassMetrics>,
}

/// One class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClassMetrics {
    /// The class.
    pub label: String,
    /// Held-out items of the class.
    pub support: usize,
    /// Share of the predictions of the class that are right; 0 where it is never predicted.
    pub precision: f64,
    /// Share of the items of the class that are found; 0 where there are none.
    pub recall: f64,
    /// Harmonic mean of the two; 0 where both are.
    pub f1: f64,
}

/// Quality where every item has any number of labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MultiLabelMetrics {
    /// Held-out items.
    pub items: usize,
    /// F1 over all decisions pooled.
    pub micro_f1: Estimate,
    /// Mean F1 of the labels.
    pub macro_f1: Estimate,
    /// Share of items with exactly the right labels.
    pub exact_match: Estimate,
    /// Mean average precision of the labels that occur; absent where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_average_precision: Option<f64>,
    /// One entry a label, in the classifier's order.
    pub labels: Vec<LabelMetrics>,
}

/// One label of many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LabelMetrics {
    /// The label.
    pub label: String,
    /// Held-out items that have the label.
    pub support: usize,
    /// Scores from here on count as yes.
    pub threshold: f64,
    /// Share of the items given the label that have it.
    pub precision: f64,
    /// Share of the items that have the label that are given it.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Area under the precision–recall steps, over all thresholds; absent where no item has the label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average_precision: Option<f64>,
}

/// What is taken for what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Confusion {
    /// Counts, one row a true class, one column a predicted class; absent above 100 classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix: Option<Vec<Vec<usize>>>,
    /// The commonest confusions, most frequent first.
    pub top: Vec<Confused>,
    /// Kinds of confusion that occur, those not listed included.
    pub kinds: usize,
}

/// One kind of confusion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Confused {
    /// The true class.
    pub label: String,
    /// The class named instead.
    pub predicted: String,
    /// Items.
    pub items: usize,
    /// Share of the true class's items.
    pub share: f64,
}

/// Curves of a problem with two classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BinaryCurves {
    /// The class whose score is followed.
    pub positive: String,
    /// Area under the ROC curve.
    pub roc_auc: Estimate,
    /// Area under the precision–recall steps.
    pub average_precision: Estimate,
    /// The ROC curve, threshold falling; thinned where long.
    pub roc: Vec<RocPoint>,
    /// The precision–recall curve, threshold falling; thinned where long.
    pub precision_recall: Vec<PrecisionRecallPoint>,
}

/// A point of the ROC curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RocPoint {
    /// Scores from here on count as positive; absent at the first point, where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Share of the negatives counted as positive.
    pub false_positive_rate: f64,
    /// Share of the positives counted as positive.
    pub true_positive_rate: f64,
}

/// A point of the precision–recall curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PrecisionRecallPoint {
    /// Scores from here on count as positive.
    pub threshold: f64,
    /// Share of those counted as positive that are.
    pub precision: f64,
    /// Share of the positives that are counted as such.
    pub recall: f64,
}

/// Whether scores mean what they say. With several labels an item, all scores of all labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Calibration {
    /// What the logits are divided by; absent where the scores are used as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Scores without the temperature.
    pub before: Reliability,
    /// Scores with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Reliability>,
}

/// Confidence against accuracy. With several labels an item, each label's score against whether the item has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Reliability {
    /// Expected calibration error: the mean gap of confidence and accuracy, by bin.
    pub expected_calibration_error: f64,
    /// What chance makes of it: of 100 sets of as many items whose answers are right just as often as these scores say, 95
    /// have a smaller error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
    /// Mean negative logarithm of the right class's score, in nats.
    pub log_loss: f64,
    /// 15 bins of equal width.
    pub bins: Vec<ReliabilityBin>,
}

/// Items whose best score lies in one range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReliabilityBin {
    /// Scores above this…
    pub low: f64,
    /// …up to this.
    pub high: f64,
    /// Items in the range.
    pub items: usize,
    /// Their mean best score; absent without items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Share of them named right; absent without items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
}

/// What abstaining buys. With several labels an item, its best label counts as its answer, as it does for `threshold` of a
/// classification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Coverage {
    /// From all items answered to few.
    pub points: Vec<CoveragePoint>,
    /// The least abstention that reaches a wanted accuracy, on these items.
    pub targets: Vec<CoverageTarget>,
}

/// A threshold, and what answering from it on does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CoveragePoint {
    /// Items whose best score is at least this are answered.
    pub threshold: f64,
    /// Share of items answered.
    pub coverage: f64,
    /// Share of those named right.
    pub accuracy: f64,
}

/// What one threshold for all labels does, whatever the label's own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ThresholdPoint {
    /// Labels with at least this score are given.
    pub threshold: f64,
    /// Share of the given labels that are right.
    pub precision: f64,
    /// Share of the right labels that are given.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
    /// Share of items that are given a label.
    pub coverage: f64,
}

/// A wanted accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CoverageTarget {
    /// The accuracy wanted.
    pub wanted: f64,
    /// Where it is reached; absent where no threshold reaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<CoveragePoint>,
}
