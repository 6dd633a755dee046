"""Writes crates/methods/tests/golden/evaluate.json: what scikit-learn and others make of small made-up answers.

    python -m venv .venv && .venv/bin/pip install scikit-learn==1.9.1 scikit-image==0.26.0 cleanlab==2.9.0
    .venv/bin/python tools/golden/evaluate.py

numpy 2.4.6 and scipy 1.17.1 came with these. The expected calibration error is computed here, from its definition.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy
from cleanlab.filter import find_label_issues
from scipy.stats import binom
from skimage.feature import hog
from sklearn import metrics
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

FILE = Path(__file__).resolve().parents[2] / "crates" / "methods" / "tests" / "golden" / "evaluate.json"

TEXTS = [
    "The cat sat on the mat; the CAT slept.",
    "A dog, a dog and one more dog!",
    "Où est la gare de l'Est? C'est là-bas.",
    "snake_case words and 42 numbers, x y z",
    "the mat sat",
    "naïve cafés on the mat",
]
HELD_OUT = ["the dog sat on the mat", "nothing known", "one cat and 42 dogs"]


def leaning_logits(chance: numpy.random.Generator, rows: int, classes: int, labels: numpy.ndarray) -> numpy.ndarray:
    """Noise that leans to the label, coarse enough for ties."""
    logits = chance.normal(0, 1.2, (rows, classes))
    logits[numpy.arange(rows), labels] += 1.5
    return logits.round(1).astype(numpy.float32)


def softmax(logits: numpy.ndarray) -> numpy.ndarray:
    scores = numpy.exp(logits.astype(numpy.float64) - logits.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def calibration_error(scores: numpy.ndarray, labels: numpy.ndarray, bins: int = 15) -> float:
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    edges = numpy.linspace(0, 1, bins + 1)
    error = 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return error


def chance_error(scores: numpy.ndarray, draws: int = 20_000) -> float:
    """The 95th percentile of the calibration error where each answer is right as often as its score says."""
    chance = numpy.random.default_rng(21)
    bins = numpy.ceil(scores * 15).astype(int).clip(1, 15) - 1
    errors = []
    for _ in range(draws):
        gaps = numpy.bincount(bins, weights=scores - (chance.random(len(scores)) < scores), minlength=15)
        errors.append(numpy.abs(gaps).sum() / len(scores))
    return float(numpy.quantile(errors, 0.95))


def single_label(chance: numpy.random.Generator) -> dict:
    labels = chance.choice(5, 120, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    logits = leaning_logits(chance, 120, 5, labels)
    scores = softmax(logits)
    said = scores.argmax(axis=1)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, said, zero_division=0)
    return {
        "labels": labels.tolist(),
        "logits": logits.tolist(),
        "accuracy": metrics.accuracy_score(labels, said),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, said),
        "macro_f1": metrics.f1_score(labels, said, average="macro"),
        "log_loss": metrics.log_loss(labels, scores),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "support": support.tolist(),
        "confusion": metrics.confusion_matrix(labels, said).tolist(),
        "calibration_error": calibration_error(scores, labels),
        "calibration_error_halved": calibration_error(softmax(logits * numpy.float32(2)), labels),
        "calibration_error_by_chance": chance_error(scores.max(axis=1)),
    }


def binary(chance: numpy.random.Generator) -> dict:
    positive = chance.random(90) < 0.4
    scores = (chance.normal(0, 1, 90) + positive).round(1)
    false_positive, true_positive, thresholds = metrics.roc_curve(positive, scores, drop_intermediate=False)
    precision, recall, from_scores = metrics.precision_recall_curve(positive, scores)
    return {
        "positive": positive.tolist(),
        "scores": scores.tolist(),
        "roc_auc": metrics.roc_auc_score(positive, scores),
        "average_precision": metrics.average_precision_score(positive, scores),
        "roc": numpy.stack([thresholds[1:], false_positive[1:], true_positive[1:]], axis=1).tolist(),
        "precision_recall": numpy.stack([from_scores, precision[:-1], recall[:-1]], axis=1)[::-1].tolist(),
    }


def pooled(scores: numpy.ndarray, has: numpy.ndarray) -> dict:
    """Every label of every item at one threshold, and whether scores are shares."""
    edges = numpy.linspace(0, 1, 16)
    error = 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (scores > low) & (scores <= high)
        if inside.any():
            error += inside.mean() * abs(scores[inside].mean() - has[inside].mean())
    table = []
    for threshold in (0.05, 0.3, 0.5, 0.75):
        said = scores >= threshold
        precision, recall, f1, _ = metrics.precision_recall_fscore_support(has, said, average="micro", zero_division=0)
        table.append([threshold, precision, recall, f1, said.any(axis=1).mean()])
    best = has[numpy.arange(len(has)), scores.argmax(axis=1)]
    sure = scores.max(axis=1)
    # Equal scores are answered together.
    half = sure >= numpy.sort(sure)[-(len(has) // 2)]
    return {
        "calibration_error": error,
        "pooled_log_loss": metrics.log_loss(has.ravel(), scores.ravel()),
        "one_threshold": table,
        "best_right": best.mean(),
        "half": [half.mean(), best[half].mean()],
    }


def multi_label(chance: numpy.random.Generator) -> dict:
    has = chance.random((60, 4)) < [0.5, 0.3, 0.2, 0.1]
    logits = (chance.normal(-0.5, 1, has.shape) + 1.5 * has).round(2).astype(numpy.float32)
    scores = 1 / (1 + numpy.exp(-logits.astype(numpy.float64)))
    thresholds = [0.5, 0.4, 0.35, 0.3]
    said = scores >= thresholds
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(has, said, zero_division=0)
    return {
        "has": [numpy.flatnonzero(row).tolist() for row in has],
        "logits": logits.tolist(),
        "thresholds": thresholds,
        "micro_f1": metrics.f1_score(has, said, average="micro"),
        "macro_f1": metrics.f1_score(has, said, average="macro"),
        "items_f1": metrics.f1_score(has, said, average="samples", zero_division=1.0),
        "exact_match": metrics.accuracy_score(has, said),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "average_precision": metrics.average_precision_score(has, scores, average=None).tolist(),
        **pooled(scores, has),
    }


def mcnemar_tests() -> list[dict]:
    cases = []
    for first, second in [(0, 0), (1, 0), (4, 0), (5, 5), (3, 11), (30, 12), (900, 1000)]:
        n, k = first + second, min(first, second)
        mid = min(1.0, float(2 * binom.cdf(k, n, 0.5) - binom.pmf(k, n, 0.5)))
        worse = float(binom.cdf(second, n, 0.5) - 0.5 * binom.pmf(second, n, 0.5))
        cases.append({"first": first, "second": second, "mid": mid, "worse": worse})
    return cases


def suspicious(chance: numpy.random.Generator) -> dict:
    truth = chance.integers(0, 3, 150)
    scores = softmax(leaning_logits(chance, 150, 3, truth) * numpy.float32(1.5))
    scores = scores.astype(numpy.float32).astype(numpy.float64)
    labels = truth.copy()
    flipped = chance.choice(150, 15, replace=False)
    labels[flipped] = (labels[flipped] + 1) % 3
    rows = find_label_issues(
        labels, scores, filter_by="confident_learning", return_indices_ranked_by="normalized_margin", n_jobs=1
    )
    return {"labels": labels.tolist(), "scores": scores.tolist(), "rows": sorted(int(row) for row in rows)}


def tf_idf() -> dict:
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    train = vectorizer.fit_transform(TEXTS)
    held_out = vectorizer.transform(HELD_OUT)
    terms = vectorizer.get_feature_names_out()
    labels = [0, 1, 2, 1, 0, 2]
    # The intercept is shrunk as the weights are.
    with_ones = [numpy.hstack([rows.toarray(), numpy.ones((rows.shape[0], 1))]) for rows in (train, held_out)]
    model = LogisticRegression(C=10.0, tol=1e-8, max_iter=10_000, fit_intercept=False).fit(with_ones[0], labels)

    def row(values: numpy.ndarray) -> dict:
        return {terms[column]: float(values[column]) for column in numpy.flatnonzero(values)}

    return {
        "texts": TEXTS,
        "held_out": HELD_OUT,
        "labels": labels,
        "train_rows": [row(values) for values in train.toarray()],
        "held_out_rows": [row(values) for values in held_out.toarray()],
        "probabilities": model.predict_proba(with_ones[1]).tolist(),
    }


def gradients(chance: numpy.random.Generator) -> dict:
    y, x = numpy.mgrid[0:50, 0:70]
    picture = 0.5 + 0.3 * numpy.sin(x / 5 + y / 9) + 0.1 * chance.random((50, 70))
    picture = (picture * 255).round().astype(numpy.uint8)
    descriptor = hog(picture / 255, orientations=9, pixels_per_cell=(16, 16), cells_per_block=(2, 2))
    return {"grey": picture.tolist(), "descriptor": descriptor.tolist()}


def main() -> None:
    chance = numpy.random.default_rng(20)
    golden = {
        "single_label": single_label(chance),
        "binary": binary(chance),
        "multi_label": multi_label(chance),
        "mcnemar": mcnemar_tests(),
        "suspicious": suspicious(chance),
        "tf_idf": tf_idf(),
        "hog": gradients(chance),
    }
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(golden, separators=(",", ":"), ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
