"""Texts to embed: real questions from the examples, and made ones of every length and script."""

import csv
import json
import os
import pathlib
import random

from service import EXAMPLES

WORDS = (
    "account balance card cash cheque currency customer deposit exchange fee fraud interest loan money payment pin "
    "refund transfer withdrawal yesterday tomorrow suddenly nevertheless antidisestablishmentarianism I we they of the "
    "a in on co-operate don't e-mail 3.14 1,000 €50 100% naïve café Zürich Ærø straße ПРИВЕТ мир 你好 世界 こんにちは "
    "مرحبا नमस्ते 😀 👩‍👩‍👧 ﬁsh ① … — “quoted” (brackets) <tag> a_b C++ HTTP/1.1 \u00e9 e\u0301 \u200b ~ ` \\ /"
).split(" ")


def banking_questions():
    """The questions of the example file."""
    with (EXAMPLES / "banking77.csv").open(newline="", encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)]


def made_texts(lengths, seed=7):
    """One text of each length in words, the same on every run."""
    chance = random.Random(seed)
    separators = [" "] * 12 + ["  ", ", ", ". ", "\n", "\t"]
    return ["".join(chance.choice(WORDS) + chance.choice(separators) for _ in range(length)) for length in lengths]


def labelled_examples():
    """The rows of the example file: text and label."""
    with (EXAMPLES / "banking77.csv").open(newline="", encoding="utf-8") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


def data_set(name):
    """A public data set as JSON lines with its own splits, and its test rows; `None` twice where no data are at hand."""
    root = os.environ.get("HEADSTART_TEST_DATA")
    if not root:
        return None, None
    lines, rows = [], {}
    for split in ("train", "test"):
        with (pathlib.Path(root) / "datasets" / "text" / f"{name}_{split}.csv").open(newline="", encoding="utf-8") as file:
            rows[split] = [(row["text"], row["label"]) for row in csv.DictReader(file)]
        lines += [json.dumps({"text": text, "label": label, "split": split}) for text, label in rows[split]]
    return "\n".join(lines).encode(), rows["test"]
