"""Writes crates/methods/tests/golden/penalty.json: the penalty that scikit-learn chooses on many small problems.

    python3 tools/golden/penalty.py

Needs numpy==2.4.6 and scikit-learn==1.9.1. The problems are those of `small_problem` in crates/methods/tests/penalty.rs,
number by number: a few columns that are loud and say nothing, many that are quiet and do, rows of length 1. As features of
a backbone do, they give a path that is flat where the penalty is strong.
"""

import json
import warnings
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from splitmix import units

OUT = Path(__file__).resolve().parents[2] / "crates" / "methods" / "tests" / "golden" / "penalty.json"
CLASSES, DIM, LOUD, HELD_OUT = 6, 48, 6, 600
SEEDS, SIZES = range(12), (10, 20, 32, 40)


def problem(rows, seed):
    """Features and classes; the centres are the same for every seed."""
    centres = units(7, CLASSES * DIM).reshape(CLASSES, DIM) - 0.5
    noise = units(seed, rows * DIM * 2).reshape(rows, DIM, 2).sum(axis=2) - 1.0
    y = np.arange(rows) % CLASSES
    loud = np.arange(DIM) < LOUD
    x = np.where(loud, 4.0 * noise, noise + 0.6 * centres[y])
    return (x / np.sqrt((x * x).sum(axis=1, keepdims=True))).astype(np.float32), y


def case(size, seed):
    x, y = problem(size * CLASSES, 1000 * size + seed)
    held_x, held_y = problem(HELD_OUT, 500_000 + seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    model = LogisticRegressionCV(
        Cs=np.logspace(-4, 4, 10), cv=folds, max_iter=1000, scoring="accuracy", use_legacy_attributes=False
    ).fit(x, y)
    return {"size": size, "seed": seed, "c": float(model.C_), "accuracy": model.score(held_x, held_y)}


def main():
    warnings.simplefilter("ignore")
    cases = [case(size, seed) for size in SIZES for seed in SEEDS]
    OUT.write_text("[\n" + ",\n".join(json.dumps(one) for one in cases) + "\n]\n")


if __name__ == "__main__":
    main()
