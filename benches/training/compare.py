"""Runs both sides of each case in turns and prints the table; called by run.py in its environment. Fails where a ratio is below its
case's bar."""

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BINARY = ROOT / "target" / "release" / "headstart-bench-training"
RATE = 2e-5


class Side:
    """A process that takes steps when it is told to."""

    def __init__(self, *command):
        environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
        self.process = subprocess.Popen(
            [str(part) for part in command], cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.seconds, self.told = [], {}

    def run(self, steps, counted=True):
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} ended with {self.process.wait()}")
        self.told = json.loads(line)
        self.seconds += self.told["seconds"] if counted else []
        return statistics.median(self.told["seconds"])

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def write(case, folder, threads):
    """The case for headstart-bench-training: a graph, and batches as raw tensors."""
    import networks
    import torch

    torch.manual_seed(0)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        made = case.make(True)
    onnx.save(made.graph, folder / "graph.onnx")
    known, batches = {given.name for given in made.graph.graph.input}, []
    for at, batch in enumerate(made.inputs(*case.batch)):
        *inputs, labels = batch.values()
        given = made.cached(made.module, *inputs) if made.cached else {name: value.numpy() for name, value in batch.items()}
        if "token_type_ids" in known:
            given["token_type_ids"] = np.zeros_like(given["input_ids"])
        given["labels"] = labels.numpy()
        given["sample_weight"] = np.full(len(labels), 1 / len(labels), np.float32)
        told = []
        for name, value in given.items():
            file = f"{at}-{name}.raw"
            (folder / file).write_bytes(np.ascontiguousarray(value).tobytes())
            datatype = {"float32": "FP32", "int64": "INT64"}[value.dtype.name]
            told.append({"name": name, "shape": value.shape, "datatype": datatype, "file": file})
        batches.append(told)
    told = {
        "graph": "graph.onnx", "logits": "logits", "trained": list(made.renamed.values()), "batches": batches,
        "learning_rate": RATE, "threads": threads,
    }
    (folder / "case.json").write_text(json.dumps(told))


def compare(case, options):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        subprocess.run([sys.executable, __file__, "--write", case, folder, "--threads", str(options.threads)], check=True)
        case = next(one for one in cases() if one.name == case)
        ours = Side(BINARY, folder / "case.json", *options.ours)
        theirs = [Side(sys.executable, HERE / "pytorch.py", case.name, layout, options.threads, RATE) for layout in case.layouts]
        sides = [ours, *theirs]
        for side in sides:
            side.run(3, counted=False)
        first = [side.told["loss"] for side in sides]
        ratios = [[] for _ in theirs]
        for turn in range(options.rounds):
            order = sides if turn % 2 == 0 else sides[::-1]
            took = {id(side): side.run(options.steps) for side in order}
            for at, side in enumerate(theirs):
                ratios[at].append(took[id(side)] / took[id(ours)])
        for side in sides:
            side.end()
    return report(case, ours, theirs, ratios, first)


def report(case, ours, theirs, ratios, first):
    best = min(range(len(theirs)), key=lambda at: statistics.median(theirs[at].seconds))
    other, ratio = theirs[best], ratios[best]
    off = max(abs(loss - first[0]) / abs(first[0]) for loss in first[1:])
    grown = lambda side: side.told["peak"] - side.told["start"]
    mebibytes = lambda size: f"{size / 2**20:,.0f}"
    met = statistics.median(ratio) >= case.least
    row = [
        case.title, case.layouts[best], *[f"{1e3 * statistics.median(side.seconds):,.0f}" for side in (other, ours)],
        f"**{statistics.median(ratio):.2f}** ({min(ratio):.2f}–{max(ratio):.2f})", f"{case.least:.2f}" + ("" if met else " missed"),
        f"{mebibytes(other.told['peak'])} / {mebibytes(ours.told['peak'])} = {ours.told['peak'] / other.told['peak']:.2f}",
        f"{mebibytes(grown(other))} / {mebibytes(grown(ours))} = {grown(ours) / grown(other):.2f}",
        f"{off:.0e}",
    ]
    print("| " + " | ".join(row) + " |", flush=True)
    return met


def cases():
    import networks

    return networks.CASES


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", help="a case by name; all of them where none is named")
    parser.add_argument("--rounds", type=int, default=5, help="turns of both sides")
    parser.add_argument("--steps", type=int, default=5, help="steps a turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ours", action="append", default=[], help="a further argument for headstart-bench-training")
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        name, folder = options.write
        write(next(case for case in cases() if case.name == name), Path(folder), options.threads)
        return
    heads = ["case", "PyTorch's best", "PyTorch, ms", "ours, ms", "ratio (least–most)", "bar", "peak MiB", "peak above start, MiB", "losses differ by"]
    print("| " + " | ".join(heads) + " |\n|" + " --- |" * len(heads))
    met = {name: compare(name, options) for name in options.case or [case.name for case in cases()]}
    if not all(met.values()):
        sys.exit(f"missed: {', '.join(name for name, good in met.items() if not good)}")


if __name__ == "__main__":
    main()
