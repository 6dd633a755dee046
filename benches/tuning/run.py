"""What training the backbone itself gains over a linear probe on it, by `headstart train`. Standard library only.

    python3 benches/tuning/run.py [--draws N] [NAME…]

Data comes from the folder that HEADSTART_TEST_DATA names; without it there is nothing to measure. Names are those of CASES. Fails where a
mean is below the least that its case names.
"""

import argparse
import csv
import gzip
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = ROOT / "target/release/headstart"
TEXT, IMAGE = "all-minilm-l6-v2", "efficientnet-lite0"
DRAWS = 5
# Eight hundred rows make few steps a pass, forty-eight two.
REVIEWS, FEW = {"epochs": 8}, {"epochs": 40}
# Rows of each of TREC's six labels that curves are read on where eight are learned from: a tenth of those would be five.
JUDGING = 80

# What is trained on what, how often with other draws or seeds, and the least mean accuracy that was to be reached.
CASES = {
    "sst2-full": ("sst2", TEXT, "full", {}, 1, 0.875),
    "sst2-lora": ("sst2", TEXT, "lora", {}, 1, 0.86),
    "sst2-random": ("sst2", TEXT, "full", {"from_random": True}, 1, None),
    # One domain's reviews alone; the least is what word counts reach (TF-IDF of one and two words, logistic regression).
    "amazon-books": ("amazon books", TEXT, "full", REVIEWS, 3, 0.76),
    "amazon-dvd": ("amazon dvd", TEXT, "full", REVIEWS, 3, 0.795),
    "amazon-electronics": ("amazon electronics", TEXT, "full", REVIEWS, 3, 0.845),
    "amazon-kitchen": ("amazon kitchen", TEXT, "full", REVIEWS, 3, 0.83),
    "amazon-books-random": ("amazon books", TEXT, "full", REVIEWS | {"from_random": True}, 1, None),
    "trec8-setfit": ("trec8", TEXT, "setfit", {}, DRAWS, 0.65),
    "trec8-random": ("trec8 judged", TEXT, "full", FEW | {"from_random": True}, 1, None),
    "sst2-8-setfit": ("sst2_8", TEXT, "setfit", {}, DRAWS, None),
    "sketch-partial": ("sketch", IMAGE, "partial", {}, 3, 0.75),
    "sketch-full": ("sketch", IMAGE, "full", {}, 3, 0.75),
    "sketch-random": ("sketch", IMAGE, "full", {"from_random": True}, 1, None),
    "ants-full": ("hymenoptera", IMAGE, "full", {}, 1, None),
}


def rows(path):
    opened = gzip.open(path, "rt", newline="", encoding="utf-8") if path.suffix == ".gz" else open(path, newline="", encoding="utf-8")
    with opened as file:
        return list(csv.DictReader(file))


def written(path, parts):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "split"])
        writer.writerows((row["text"], row["label"], split) for split, some in parts for row in some)
    return path


def few(all_rows, count, draw):
    """So many rows of each label."""
    chance, by_label = random.Random(draw), {}
    for row in all_rows:
        by_label.setdefault(row["label"], []).append(row)
    return [row for label in sorted(by_label) for row in chance.sample(by_label[label], count)]


def judged(all_rows, count, draw):
    """So many rows of each label to learn from, as `few` draws them, and others to stop by."""
    learned = few(all_rows, count, draw)
    known = {row["text"] for row in learned}
    left = [row for row in all_rows if row["text"] not in known]
    most = Counter(row["label"] for row in left)
    some = [few([row for row in left if row["label"] == label], min(JUDGING, most[label]), draw) for label in sorted(most)]
    return [("train", learned), ("val", [row for drawn in some for row in drawn])]


def data_file(name, draw, data, folder):
    """The file that is trained on: its test split is the set's own."""
    text, path = data / "text", folder / f"{name}-{draw}.csv"
    match name:
        case "sst2":
            parts = [("train", rows(text / "sst2_train.csv")), ("val", rows(text / "sst2_dev.csv")), ("test", rows(text / "sst2_test.csv"))]
            return written(path, parts)
        case "sst2_8":
            return written(path, [("train", few(rows(text / "sst2_train.csv"), 8, draw)), ("test", rows(text / "sst2_test.csv"))])
        case "trec8":
            return written(path, [("train", few(rows(text / "trec6_train.csv"), 8, draw)), ("test", rows(text / "trec6_test.csv"))])
        case "trec8 judged":
            return written(path, [*judged(rows(text / "trec6_train.csv"), 8, draw), ("test", rows(text / "trec6_test.csv"))])
        case "amazon books" | "amazon dvd" | "amazon electronics" | "amazon kitchen":
            found = [row for row in rows(text / "amazon_reviews_4_domains.csv.gz") if row["domain"] == name.split()[1]]
            return written(path, [(split, [row for row in found if row["split"] == split]) for split in ("train", "test")])
        case "hymenoptera":
            return data / "images/hymenoptera.zip"
        case "sketch":
            return sketches(data / "images/pacs_sample.zip", folder / "sketch.zip")
    raise ValueError(name)


def sketches(source, target):
    """The sketches of PACS alone, parted as the sample parts them."""
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(target, "w") as made:
        listed = csv.DictReader(given.read("pacs/manifest.csv").decode().splitlines())
        for row in (row for row in listed if row["domain"] == "sketch"):
            place = f"sketch/{row['split']}/{row['class']}/{Path(row['path']).name}"
            made.writestr(place, given.read(f"pacs/{row['path']}"))
    return target


def trained(file, backbone, method, hyperparameters, seed):
    """The report of a job on a data folder of its own, and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        command = [BINARY, "train", file, "--backbone", backbone, "--method", method, "--json", "--seed", str(seed)]
        command += ["--hyperparameters", json.dumps(hyperparameters), "--data", folder, "--log", "error", "--budget-seconds", "20"]
        started = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        return json.loads(done.stdout), time.monotonic() - started


def main():
    data = os.environ.get("HEADSTART_TEST_DATA")
    if not data:
        raise SystemExit("HEADSTART_TEST_DATA names no folder: there is nothing to measure")
    parser = argparse.ArgumentParser(description="Trains backbones on public data and prints what came of it.")
    parser.add_argument("--draws", type=int, metavar="N", help="at most so many draws or seeds of a case, for a shorter run")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"one of {', '.join(CASES)}; all when none is named")
    arguments = parser.parse_args()
    unknown = set(arguments.cases) - set(CASES)
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    print("| case | method | accuracy | linear probe | gain, points (95 % interval) | at least | seconds | stored |")
    print("|---|---|---:|---:|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        measured = {name: case(name, Path(data) / "datasets", Path(folder), arguments.draws) for name in arguments.cases or CASES}
    missed = [f"{name}: {accuracy:.3f}, not {CASES[name][-1]}" for name, accuracy in measured.items() if not reached(name, accuracy)]
    if missed:
        raise SystemExit("\n".join(["missed:", *missed]))


def reached(name, accuracy):
    """Whether a mean accuracy is what its case asks for at least."""
    return accuracy >= (CASES[name][-1] or 0)


def case(name, data, folder, most_draws=None):
    """Prints a case's line; its mean accuracy."""
    which, backbone, method, hyperparameters, draws, least = CASES[name]
    draws = min(draws, most_draws or draws)
    runs = []
    for draw in range(draws):
        file = data_file(which, draw, data, folder)
        runs.append(trained(file, backbone, method, hyperparameters, draw))
    reports = [report for report, _ in runs]
    right = [report["metrics"]["accuracy"]["value"] for report in reports]
    probe = [report["tuning"]["frozen"]["value"] for report in reports]
    first = reports[0]["tuning"]
    gain = first["gain"]["estimate"]
    interval = f"{100 * gain['value']:+.1f} ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"
    if draws > 1:
        gains = [100 * (after - before) for after, before in zip(right, probe, strict=True)]
        interval = f"{statistics.mean(gains):+.1f}, {min(gains):+.1f} to {max(gains):+.1f} over {draws} draws"
    seconds = statistics.mean(seconds for _, seconds in runs)
    figures = [f"{statistics.mean(right):.3f}", f"{statistics.mean(probe):.3f}", interval, least or "", f"{seconds:.0f}"]
    print(f"| {name} | `{method}` | {' | '.join(map(str, figures))} | {first['stored_bytes'] / 1e6:.1f} MB |", flush=True)
    if random_run := first.get("from_random"):
        print(f"\n{random_run['sentence']}\n{random_run['pretrained']}\n{random_run['random']}", flush=True)
    return statistics.mean(right)


if __name__ == "__main__":
    main()
