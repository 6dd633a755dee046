"""Linear probe against scikit-learn's LogisticRegressionCV on the same features, in one run.

    cargo build --release -p headstart-methods --example fit
    python3 crates/methods/benches/linear_probe.py TRAIN.npy TEST.npy [ROUNDS]

Features are float32 `.npy` files such as `headstart embed` writes, each with uint32 classes in `.labels.npy` beside it.
Both get two threads. Rounds alternate, and the ratio is of the medians. Needs scikit-learn and numpy.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")
os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np  # noqa: E402
import sklearn  # noqa: E402
from sklearn.linear_model import LogisticRegressionCV  # noqa: E402
from sklearn.model_selection import StratifiedKFold  # noqa: E402

FIT = Path(__file__).resolve().parents[3] / "target" / "release" / "examples" / "fit"


def load(path):
    return np.load(path), np.load(path.replace(".npy", ".labels.npy"))


def cpu(who):
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def main():
    train, test = sys.argv[1:3]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    (x, y), (xt, yt) = load(train), load(test)
    ours, theirs = [], []
    for _ in range(rounds):
        before = cpu(resource.RUSAGE_CHILDREN)
        result = json.loads(subprocess.run([FIT, "linear_probe", train, test], check=True, capture_output=True).stdout)
        ours.append((result["seconds"], cpu(resource.RUSAGE_CHILDREN) - before))
        before, started = cpu(resource.RUSAGE_SELF), time.perf_counter()
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        reference = LogisticRegressionCV(Cs=10, cv=folds, max_iter=100, use_legacy_attributes=False, scoring="accuracy")
        reference.fit(x, y)
        theirs.append((time.perf_counter() - started, cpu(resource.RUSAGE_SELF) - before))
    wall = [statistics.median(times[0] for times in side) for side in (ours, theirs)]
    used = [statistics.median(times[1] for times in side) for side in (ours, theirs)]
    print(f"{Path(train).name} {x.shape}, {len(set(y))} classes, scikit-learn {sklearn.__version__}, {rounds} rounds")
    print(f"accuracy  {result['accuracy']:.4f}  scikit-learn {reference.score(xt, yt):.4f}")
    print(f"seconds   {wall[0]:.2f}  scikit-learn {wall[1]:.2f}  ratio {wall[0] / wall[1]:.2f}")
    print(f"cpu       {used[0]:.2f}  scikit-learn {used[1]:.2f}  ratio {used[0] / used[1]:.2f}")
    print(result["summary"])


if __name__ == "__main__":
    main()
