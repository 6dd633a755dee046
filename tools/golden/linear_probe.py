"""Writes crates/methods/tests/golden/linear_probe.json: scikit-learn's logistic regression on small problems.

    python3 tools/golden/linear_probe.py

Needs numpy==2.4.6 and scikit-learn==1.9.1. Solved to 1e-10 in f64, so that a difference is the other side's.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

OUT = Path(__file__).resolve().parents[2] / "crates" / "methods" / "tests" / "golden" / "linear_probe.json"
ROUND = 6


def problem(rows, dim, classes, seed, spread):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows)
    y[:classes] = range(classes)
    x = rng.normal(size=(rows, dim)) * np.linspace(0.2, 2.0, dim) + rng.normal(size=(classes, dim))[y] * spread + 0.7
    return np.round(x, 3), y


def model(c, weight):
    return LogisticRegression(C=c, class_weight=weight, tol=1e-10, max_iter=100_000)


def case(name, rows, dim, classes, c, weight=None):
    x, y = problem(rows, dim, classes, len(name), 0.6)
    fitted = model(c, {int(k): v for k, v in weight.items()} if isinstance(weight, dict) else weight).fit(x, y)
    return {
        "name": name, "features": x.tolist(), "targets": y.tolist(), "classes": classes, "c": c, "class_weight": weight,
        "coefficients": fitted.coef_.round(ROUND).tolist(), "intercepts": fitted.intercept_.round(ROUND).tolist(),
        "probabilities": fitted.predict_proba(x).round(ROUND).tolist(),
    }


def several(name, rows, dim, labels, c, weight=None):
    x, _ = problem(rows, dim, 2, 11, 0.6)
    rng = np.random.default_rng(12)
    y = (x @ rng.normal(size=(dim, labels)) + rng.normal(size=(rows, labels)) > 1).astype(int)
    # A weight that is given is that of the rows with the label.
    own = [{0: 1.0, 1: weight.get(str(label), 1.0)} if isinstance(weight, dict) else weight for label in range(labels)]
    fitted = [model(c, own[label]).fit(x, y[:, label]) for label in range(labels)]
    return {
        "name": name, "features": x.tolist(), "targets": [np.flatnonzero(row).tolist() for row in y], "classes": labels,
        "c": c, "class_weight": weight,
        "coefficients": [one.coef_[0].round(ROUND).tolist() for one in fitted],
        "intercepts": [float(one.intercept_[0].round(ROUND)) for one in fitted],
        "probabilities": np.stack([one.predict_proba(x)[:, 1] for one in fitted], 1).round(ROUND).tolist(),
    }


CASES = [
    case("three classes", 45, 5, 3, 0.5),
    case("three classes, balanced weights", 45, 5, 3, 2.0, "balanced"),
    case("three classes, given weights", 45, 5, 3, 1.0, {"0": 3.0, "2": 0.5}),
    case("two classes", 30, 4, 2, 1.0),
    case("two classes, balanced weights", 30, 4, 2, 1.0, "balanced"),
    case("fewer rows than columns", 12, 20, 3, 0.1),
    several("several labels", 40, 4, 3, 0.7),
    several("several labels, balanced weights", 40, 4, 3, 0.7, "balanced"),
    several("several labels, given weights", 40, 4, 3, 0.7, {"0": 3.0, "2": 0.25}),
]

OUT.write_text("[\n" + ",\n".join(json.dumps(one, separators=(",", ":")) for one in CASES) + "\n]\n")
