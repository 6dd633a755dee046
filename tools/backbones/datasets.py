"""The labelled sets that the claims are measured on, read from the folder in HEADSTART_TEST_DATA."""

import csv
import gzip
import io
import os
import random
import zipfile
from pathlib import Path

from PIL import Image

TEXT_SETS = {"TREC-6": "trec6", "Banking77": "banking77", "SST-2": "sst2"}
DOMAINS = ("art_painting", "cartoon", "photo", "sketch")


def folder() -> Path | None:
    """The folder `datasets`, or None when the variable is not set.

    Raises FileNotFoundError when the variable is set and the folder is not there.
    """
    root = os.environ.get("HEADSTART_TEST_DATA")
    if not root:
        return None
    datasets = Path(root) / "datasets"
    if not datasets.is_dir():
        raise FileNotFoundError(f"HEADSTART_TEST_DATA has no folder {datasets}")
    return datasets


def text_split(datasets: Path, name: str, split: str) -> tuple[list[str], list[str]]:
    """Texts and labels of one split of a set of `TEXT_SETS`."""
    with open(datasets / "text" / f"{TEXT_SETS[name]}_{split}.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def mixed_texts(datasets: Path, count: int) -> list[str]:
    """`count` texts drawn with a fixed seed from the test splits and from the long-tailed product reviews."""
    texts = [text for name in TEXT_SETS for text in text_split(datasets, name, "test")[0]]
    with gzip.open(datasets / "text" / "amazon_reviews_4_domains.csv.gz", "rt", newline="", encoding="utf-8") as file:
        texts += [row["text"] for row in csv.DictReader(file)]
    return random.Random(1234).sample(texts, count)


def ants_and_bees(datasets: Path) -> list[tuple[Image.Image, str, str]]:
    """(photo, class, split) of the hymenoptera set."""
    with zipfile.ZipFile(datasets / "images" / "hymenoptera.zip") as archive:
        names = [name.split("/") for name in sorted(archive.namelist()) if name.endswith(".jpg")]
        return [(_image(archive, "/".join(name)), name[2], name[1]) for name in names]


def pacs(datasets: Path) -> list[tuple[Image.Image, str, str, str]]:
    """(picture, class, split, domain) of the PACS sample."""
    with zipfile.ZipFile(datasets / "images" / "pacs_sample.zip") as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("pacs/manifest.csv"), "utf-8")))
        return [(_image(archive, f"pacs/{row['path']}"), row["class"], row["split"], row["domain"]) for row in rows]


def _image(archive: zipfile.ZipFile, name: str) -> Image.Image:
    return Image.open(io.BytesIO(archive.read(name))).convert("RGB")
