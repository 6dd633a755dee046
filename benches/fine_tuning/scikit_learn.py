"""The linear probe and scikit-learn's LogisticRegressionCV on the same features, penalties, folds' number and threads."""

import argparse
import base64
import json
import os
import statistics
import subprocess
import tempfile
import time
import urllib.request
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import sklearn
from service import ROOT, TEXT, machine, rows, server
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

OURS = "headstart `linear_probe`"
THREADS = 2
LIST = 256
DATA_SETS = {"TREC-6": "trec6", "SST-2": "sst2", "Banking77": "banking77"}
TICK = os.sysconf("SC_CLK_TCK")


def features(address, texts):
    """Vectors as the server gives them, `n × 384`."""

    def some(start):
        body = {"model": TEXT, "input": texts[start : start + LIST], "encoding_format": "base64"}
        request = urllib.request.Request(f"{address}/v1/embeddings", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return [np.frombuffer(base64.b64decode(datum["embedding"]), "<f4") for datum in json.load(answer)["data"]]

    with ThreadPoolExecutor(THREADS) as pool:
        return np.stack([vector for chunk in pool.map(some, range(0, len(texts), LIST)) for vector in chunk])


def cpu_of(process):
    """CPU seconds of a process so far."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICK


def cpu_seconds():
    """Of this process and its children, which scikit-learn keeps between fits."""
    me = os.getpid()
    children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
    return cpu_of(me) + sum(cpu_of(child) for child in children)


def ours(folder):
    """Accuracy, seconds of the fit, and CPU seconds of the whole process, reading the features included."""
    command = [ROOT / "target/release/examples/fit", "linear_probe", folder / "train.npy", folder / "test.npy"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    printed = json.loads(process.stdout.read())
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0
    return printed["accuracy"], printed["seconds"], used.ru_utime + used.ru_stime


def theirs(data, scaled):
    """The same of scikit-learn; its worker processes are there already."""
    (x, y), (held_x, held_y) = data
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    model = LogisticRegressionCV(
        Cs=np.logspace(-4, 4, 10), cv=folds, solver="lbfgs", max_iter=1000, scoring="accuracy", n_jobs=THREADS
    )
    model = make_pipeline(StandardScaler(), model) if scaled else model
    cpu, started = cpu_seconds(), time.monotonic()
    model.fit(x, y)
    seconds, cpu = time.monotonic() - started, cpu_seconds() - cpu
    return model.score(held_x, held_y), seconds, cpu


def warm_up():
    """Starts scikit-learn's worker processes, as somebody who fits more than once has them."""
    chance = np.random.default_rng(0)
    x, y = chance.normal(size=(200, 8)).astype("f4"), np.arange(200) % 2
    theirs(((x, y), (x, y)), False)


def prepare(address, title, folder):
    """Features and class numbers of both splits; also left in `folder` as the other side reads them."""
    splits, names = [], None
    for split in ("train", "test"):
        texts, labels = rows(DATA_SETS[title], split)
        names = names or sorted(set(labels))
        x, y = features(address, texts), np.array([names.index(label) for label in labels], "<u4")
        np.save(folder / f"{split}.npy", x)
        np.save(folder / f"{split}.labels.npy", y)
        splits.append((x, y))
    return splits


def measure(title, rounds):
    """Prints the rows of a data set."""
    with tempfile.TemporaryDirectory() as folder:
        with server() as address:
            splits = prepare(address, title, Path(folder))
        sides = {
            OURS: lambda: ours(Path(folder)),
            "scikit-learn": lambda: theirs(splits, False),
            "scikit-learn, standardised": lambda: theirs(splits, True),
        }
        # In turns, without the server: a machine that drifts drifts for all.
        found = [{label: fit() for label, fit in sides.items()} for _ in range(rounds)]
    own = statistics.median(turn[OURS][1] for turn in found)
    shape = f"{title}, {len(splits[0][0]):,} × {len(set(splits[0][1].tolist()))}"
    for label in sides:
        accuracy, seconds, cpu = (statistics.median(turn[label][part] for turn in found) for part in range(3))
        print(f"| {shape} | {label} | {accuracy:.4f} | {seconds:.2f} | {cpu:.2f} | {seconds / own:.1f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=DATA_SETS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    warm_up()
    print("| data, rows × classes | by | accuracy | wall s | CPU s | wall against ours |\n|---|---|---:|---:|---:|---:|", flush=True)
    for title in [arguments.only] if arguments.only else DATA_SETS:
        measure(title, arguments.rounds)
    print(f"\n{machine()} scikit-learn {sklearn.__version__}, {THREADS} threads or processes each, medians of {arguments.rounds} rounds.")


if __name__ == "__main__":
    main()
