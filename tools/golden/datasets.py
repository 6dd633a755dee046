"""Writes crates/datasets/tests/data: one small data set in every format, and what is expected of its pictures.

    pip install numpy==2.4.6 pandas==3.1.1 pillow==13.0.0 pyarrow==26.0.1
    python tools/golden/datasets.py

The files are those that Python's own libraries write: pandas for CSV, TSV and JSON Lines, pyarrow for Parquet, zipfile,
tarfile and gzip for the rest. `signatures.json` has the 128-bit difference hash of each picture by NumPy.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

DATA = Path(__file__).resolve().parents[2] / "crates" / "datasets" / "tests" / "data"
EPOCH = (2020, 1, 1, 0, 0, 0)

ROWS = [
    ("Where is my card?", "delivery", "anna", "train"),
    ("My card, \"the new one\", has not come", "delivery", "anna", "train"),
    ("The parcel is late\nand I am annoyed", "delivery", "bert", "train"),
    ("Please give me my money back", "refund", "bert", "train"),
    ("Grüße! Ich möchte mein Geld zurück", "refund", "carl", "train"),
    ("返金してください", "refund", "carl", "train"),
    ("When does the delivery come?", "delivery", "dora", "val"),
    ("I want a refund for this", "refund", "dora", "val"),
    ("The courier never rang; where is it?", "delivery", "emil", "test"),
    ("Refund me 😡", "refund", "emil", "test"),
]
COLUMNS = ["text", "label", "group", "split"]
LISTS = [["delivery"], ["delivery", "card"], ["delivery", "complaint"], ["refund"], ["refund"], ["refund"],
         ["delivery"], ["refund"], [], ["refund", "complaint"]]


def table() -> pd.DataFrame:
    """The texts with one label each."""
    return pd.DataFrame(ROWS, columns=COLUMNS)


def write(name: str, content: bytes) -> None:
    """Writes one file and says how large it is."""
    (DATA / name).write_bytes(content)
    print(f"{name}: {len(content)} bytes")


def pictures() -> dict[str, bytes]:
    """Twelve small pictures by path: waves are of class `waves`, blots of class `blots`."""
    random = np.random.default_rng(7)
    files = {}
    for split, count in [("train", 3), ("val", 2), ("test", 1)]:
        for index in range(count):
            y, x = np.mgrid[0:40, 0:48] / 40
            a, b, c = random.uniform(2, 9, 3)
            wave = 127 + 120 * np.sin(a * x + b * y * y + c)
            points = random.uniform(0, 1.2, (5, 2))
            blot = 20 + 230 * np.min([(x - p) ** 2 + (y - q) ** 2 for p, q in points], axis=0).clip(0, 0.2) * 5
            for name, grey in [("waves", wave), ("blots", blot)]:
                colour = np.stack([grey, grey[::-1], 255 - grey], axis=2).clip(0, 255).astype(np.uint8)
                image = Image.fromarray(colour)
                buffer = io.BytesIO()
                ending = "jpg" if index == 1 else "png"
                image.save(buffer, "JPEG" if ending == "jpg" else "PNG")
                files[f"{split}/{name}/{index}.{ending}"] = buffer.getvalue()
    return files


def signature(content: bytes) -> list[int]:
    """The eight parts of the difference hash: mean luma of equal areas, 9 × 8 to the right, 8 × 9 downwards."""
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(np.int64)
    luma = pixels @ np.array([299, 587, 114])
    height, width = luma.shape

    def means(columns: int, rows: int) -> np.ndarray:
        cell = lambda at, cells, side: slice(at * side // cells, max((at + 1) * side // cells, at * side // cells + 1))
        part = lambda y, x: luma[cell(y, rows, height), cell(x, columns, width)]
        return np.array([[part(y, x).sum() // part(y, x).size for x in range(columns)] for y in range(rows)])

    wide, tall = means(9, 8), means(8, 9)
    bits = np.concatenate([(wide[:, :-1] < wide[:, 1:]).ravel(), (tall[:-1] < tall[1:]).ravel()])
    return [int(sum(int(bit) << at for at, bit in enumerate(part))) for part in bits.reshape(8, 16)]


def zipped(files: dict[str, bytes], prefix: str = "") -> bytes:
    """A zip of these files with fixed times, and the litter that a Mac adds."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**files, "__MACOSX/._litter.png": b"x", ".DS_Store": b"x"}.items():
            archive.writestr(zipfile.ZipInfo(prefix + name, EPOCH), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], style: int) -> bytes:
    """A tar of these files, under a folder and with paths that begin with a dot as `tar -C` makes them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=style) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./a folder around everything/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def texts() -> None:
    """Every format of texts."""
    frame = table()
    write("texts.csv", frame.to_csv(index=False).encode())
    write("windows.csv", frame.to_csv(index=False, sep=";", lineterminator="\r\n").encode("utf-8-sig"))
    write("texts.tsv", frame.to_csv(index=False, sep="\t").encode())
    lines = frame.to_json(orient="records", lines=True, force_ascii=False).encode()
    write("texts.jsonl", lines)
    write("texts.csv.gz", gzip.compress(frame.to_csv(index=False).encode(), mtime=0))
    write("texts.jsonl.gz", gzip.compress(lines, mtime=0))
    write("utf16.csv", frame.to_csv(index=False).encode("utf-16"))
    write("latin1.csv", frame.iloc[:5].to_csv(index=False).encode("latin-1"))
    many = frame.drop(columns="label").assign(labels=LISTS)
    write("lists.jsonl", many.to_json(orient="records", lines=True, force_ascii=False).encode())
    write("lists.csv", many.assign(labels=["|".join(names) for names in LISTS]).to_csv(index=False).encode())
    pq.write_table(pa.Table.from_pandas(many, preserve_index=False), DATA / "lists.parquet")
    for codec in ["none", "snappy", "gzip", "zstd", "brotli"]:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), DATA / f"texts.{codec}.parquet",
                       compression=codec, row_group_size=4)
    named = pa.table({"text": frame.text.tolist(), "label": pa.array([int(n == "refund") for n in frame.label])})
    features = {"text": {"dtype": "string", "_type": "Value"},
                "label": {"names": ["delivery", "refund"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(named.replace_schema_metadata(metadata), DATA / "names.parquet")


def images() -> None:
    """Every format of pictures."""
    files = pictures()
    write("pictures.zip", zipped(files))
    write("wrapped.zip", zipped(files, "data set/"))
    write("pictures.tar", tarred(files, tarfile.USTAR_FORMAT))
    write("gnu.tar.gz", gzip.compress(tarred(files, tarfile.GNU_FORMAT), mtime=0))
    long = {name.replace("/", "/" + "long" * 40 + "/", 1): content for name, content in files.items()}
    write("pax.tar.gz", gzip.compress(tarred(long, tarfile.PAX_FORMAT), mtime=0))
    rows = [{"image": base64.b64encode(content).decode(), "label": name.split("/")[1], "split": name.split("/")[0]}
            for name, content in files.items()]
    rows[0]["image"] = "data:image/png;base64," + rows[0]["image"]
    write("pictures.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    write("pictures.csv", pd.DataFrame(rows).to_csv(index=False).encode())
    struct = [{"bytes": content, "path": name} for name, content in files.items()]
    columns = {"image": struct, "label": [row["label"] for row in rows], "split": [row["split"] for row in rows]}
    pq.write_table(pa.table(columns), DATA / "pictures.parquet")
    lines = [f'  "{name}": {json.dumps(signature(content))}' for name, content in files.items()]
    write("signatures.json", ("{\n" + ",\n".join(lines) + "\n}\n").encode())
    for name in ["train/waves/0.png", "train/waves/1.jpg"]:
        write(Path(name).name, files[name])


def main() -> None:
    """Writes all files."""
    DATA.mkdir(parents=True, exist_ok=True)
    texts()
    images()
    total = sum(path.stat().st_size for path in DATA.iterdir())
    print(f"{len(list(DATA.iterdir()))} files, {total / 1000:.0f} kB")


if __name__ == "__main__":
    main()
