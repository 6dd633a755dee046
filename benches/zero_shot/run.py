"""Zero-shot accuracy of the bundled backbones on public test splits, over REST, and bars that it must reach.

    make bench BENCH=zero-shot
    python3 benches/zero_shot/run.py --url http://127.0.0.1:8080

Standard library only. Starts the release build unless the address of a running server is given. Data comes from the folder that
HEADSTART_TEST_DATA names; without it there is nothing to measure.
"""

import argparse
import base64
import contextlib
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = ROOT / "target" / "release" / "headstart"
TEXT, IMAGE = "all-minilm-l6-v2", "efficientnet-lite0"
TREC = {"ABBR": "abbreviation", "DESC": "description", "ENTY": "entity", "HUM": "person", "LOC": "location", "NUM": "number"}
TREC_DESCRIPTIONS = {
    "ABBR": "what a short form stands for",
    "DESC": "a definition, a reason or a manner",
    "ENTY": "a thing such as an animal, a food, a work or a word",
    "HUM": "who somebody is",
    "LOC": "a city, a country or another place",
    "NUM": "a count, a date, a price or another quantity",
}
LIST = 64
# Accuracy below which a change has broken something: three decimals of it, as the table has them.
BARS = {"PACS photo": 0.78, "PACS art painting": 0.44, "SST-2": 0.69, "TREC-6": 0.52, "Banking77": 0.60}


class Client:
    """Asks for labels, a list of items at a time."""

    def __init__(self, url):
        self.url = url

    def label(self, model, items, labels, **fields):
        """The data entries for the items, in their order."""
        chunks = [items[start : start + LIST] for start in range(0, len(items), LIST)]
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda chunk: self._ask(model, chunk, labels, fields), chunks))
        return [entry for answer in answers for entry in answer]

    def _ask(self, model, items, labels, fields):
        body = {"model": model, "input": items, "labels": labels, **fields}
        request = urllib.request.Request(
            f"{self.url}/v1/zero-shot", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)["data"]


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def spelt(label):
    return label.replace("_", " ").replace("?", "").strip()


def scored(entries, truths):
    """Accuracy, and mean log loss of the true label's probability."""
    right = sum(entry["label"] == truth for entry, truth in zip(entries, truths, strict=True))
    losses = []
    for entry, truth in zip(entries, truths, strict=True):
        score = next((s["score"] for s in entry["scores"] if s["label"] == truth), 0.0)
        losses.append(-math.log(max(score, 1e-9)))
    return right / len(truths), sum(losses) / len(losses)


REACHED = {}


def report(name, entries, truths, labels):
    accuracy, loss = scored(entries, truths)
    REACHED[name] = round(accuracy, 3)
    print(f"| {name} | {len(truths)} | {labels} | {accuracy:.3f} | {1 / labels:.3f} | {loss:.3f} | {math.log(labels):.3f} |", flush=True)


def texts(client, folder):
    plain = {"template": "{}"}
    for name, file, names in [
        ("SST-2", "sst2_test.csv", None),
        ("TREC-6", "trec6_test.csv", TREC),
        ("Banking77", "banking77_test.csv", None),
    ]:
        data = rows(folder / file)
        items = [row["text"] for row in data]
        names = names or {row["label"]: spelt(row["label"]) for row in data}
        truths = [names[row["label"]] for row in data]
        labels = sorted(set(names.values()))
        report(f"{name}, labels alone, template `{{}}`", client.label(TEXT, items, labels, **plain), truths, len(labels))
        report(name, client.label(TEXT, items, labels), truths, len(labels))
        if names is TREC:
            described = [{"label": TREC[key], "description": TREC_DESCRIPTIONS[key]} for key in TREC]
            report(f"{name}, with descriptions", client.label(TEXT, items, described), truths, len(labels))
        train = rows(folder / file.replace("test", "train"))
        for count in (1, 3):
            examples = {}
            for row in train:
                examples.setdefault(names.get(row["label"]), []).append(row["text"])
            shown = [{"label": label, "examples": examples[label][:count]} for label in labels]
            report(f"{name}, with {count} example{'s'[: count - 1]} a label", client.label(TEXT, items, shown), truths, len(labels))


def images(client, folder):
    with zipfile.ZipFile(folder / "pacs_sample.zip") as archive:
        data = list(csv.DictReader(archive.read("pacs/manifest.csv").decode().splitlines()))
        for domain in ("photo", "art_painting", "cartoon", "sketch"):
            chosen = [row for row in data if row["domain"] == domain and row["split"] == "test"]
            items = [picture(archive, row["path"] if row["path"].startswith("pacs/") else f"pacs/{row['path']}") for row in chosen]
            truths = [row["class"] for row in chosen]
            labels = sorted(set(truths))
            report(f"PACS {domain.replace('_', ' ')}", client.label(IMAGE, items, labels), truths, len(labels))
    with zipfile.ZipFile(folder / "hymenoptera.zip") as archive:
        paths = [path for path in archive.namelist() if "/val/" in path and path.endswith(".jpg")]
        truths = [{"ants": "ant", "bees": "bee"}[path.split("/")[-2]] for path in paths]
        entries = client.label(IMAGE, [picture(archive, path) for path in paths], ["ant", "bee"])
        report("ants and bees", entries, truths, 2)


def picture(archive, path):
    return {"image": base64.b64encode(archive.read(path)).decode()}


@contextlib.contextmanager
def server():
    """The address of the release build with the bundled backbones, ready to answer."""
    with tempfile.TemporaryDirectory() as data:
        command = [BINARY, "serve", "--listen", "127.0.0.1:0", "--log", "error", "--models", ROOT / "models", "--data", data]
        settings = {name: value for name, value in os.environ.items() if not name.startswith("HEADSTART_")}
        process = subprocess.Popen([str(part) for part in command], cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True)
        try:
            url = process.stdout.readline().strip().removeprefix("listening on ")
            while not ready(url):
                if process.poll() is not None:
                    sys.exit(f"the server ended with {process.returncode}")
                time.sleep(0.05)
            yield url
        finally:
            process.terminate()
            process.wait()


def ready(url):
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=60) as answer:
            return answer.status == 200
    except urllib.error.URLError:
        return False


def judged():
    """What is wrong with what was reached."""
    return [f"{name} has {REACHED[name]:.3f}, its bar is {bar:.2f}" for name, bar in BARS.items() if REACHED[name] < bar]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a server that runs [default: one is started]")
    arguments = parser.parse_args()
    data = os.environ.get("HEADSTART_TEST_DATA")
    if not data:
        print("HEADSTART_TEST_DATA is not set: nothing to measure")
        return 0
    with contextlib.nullcontext(arguments.url) if arguments.url else server() as url:
        client = Client(url)
        print("| test split | items | labels | accuracy | chance | log loss | of chance |\n|---|---:|---:|---:|---:|---:|---:|")
        texts(client, Path(data) / "datasets" / "text")
        images(client, Path(data) / "datasets" / "images")
    below = judged()
    for line in below:
        print(line, file=sys.stderr)
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main())
