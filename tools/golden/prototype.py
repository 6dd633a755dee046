"""Writes crates/methods/tests/golden/prototype.json: for each of several labels, the nearer of two means, in plain numpy.

    python3 tools/golden/prototype.py

Needs numpy==2.4.6 and scikit-learn==1.9.1, whose nearest centroid must decide alike. All in f64, from the definition: no plane,
no sums that grow.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.neighbors import NearestCentroid

OUT = Path(__file__).resolve().parents[2] / "crates" / "methods" / "tests" / "golden" / "prototype.json"
ROWS, DIM, LABELS, SCALE = 60, 7, 4, 12.0


def squared_distances(x, rows):
    return ((x - rows.mean(0)) ** 2).sum(1)


def main():
    rng = np.random.default_rng(5)
    y = rng.random((ROWS, LABELS)) < [0.5, 0.3, 0.15, 0.6]
    # What all rows share is large: a mean alone would say little.
    x = np.round(2.0 + rng.normal(size=(ROWS, DIM)) * 0.6 + y @ rng.normal(size=(LABELS, DIM)), 3)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    logits = np.empty((ROWS, LABELS))
    for label in range(LABELS):
        has = y[:, label]
        logits[:, label] = SCALE / 2 * (squared_distances(unit, unit[~has]) - squared_distances(unit, unit[has]))
        assert (NearestCentroid().fit(unit, has).predict(unit) == (logits[:, label] > 0)).all()
    case = {"scale": SCALE, "features": x.tolist(), "targets": [np.flatnonzero(row).tolist() for row in y], "logits": logits.round(6).tolist()}
    OUT.write_text(json.dumps(case, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
