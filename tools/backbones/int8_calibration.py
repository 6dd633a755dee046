"""What the quantised text backbone needs to know about activations: measured by int8_calibrate.py, kept in int8_calibration.json.

The build reads that file alone: it needs no texts, and no rounding of another machine reaches it.
"""

import csv
import gzip
import json
import random
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from tokenizers import Tokenizer

COMMITTED = Path(__file__).with_name("int8_calibration.json")

SEED = 20240607
TEXTS_PER_SET = 100
REVIEWS = 50
TOKENS_LARGEST = 128
TRAIN_SETS = {"trec6_train.csv": "text", "banking77_train.csv": "text", "sst2_train.csv": "text", "snli_train.csv": "premise"}
REVIEW_SET = "amazon_reviews_4_domains.csv.gz"

# A channel is an outlier when its largest value exceeds this many times the median channel's.
OUTLIER_RATIO = 2.0
LAYERS = 6


def activation_sites(layer: int) -> dict[str, str]:
    """Site → tensor of the original graph: what enters the matrix products of one layer."""
    name = f"encoder.layer.{layer}"
    source = "embeddings.LayerNorm.output" if layer == 0 else f"encoder.layer.{layer - 1}.output.LayerNorm.output"
    return {
        f"{name}.attention.self": source,
        f"{name}.attention.output.dense": f"{name}.attention.context",
        f"{name}.intermediate.dense": f"{name}.attention.output.LayerNorm.output",
        f"{name}.output.dense": f"{name}.intermediate.gelu",
    }


def texts(folder: Path) -> list[str]:
    """A few hundred texts drawn by seed from train splits; the same on every machine.

    Raises FileNotFoundError when a set is missing.
    """
    draw = random.Random(SEED)
    chosen: list[str] = []
    for name, column in TRAIN_SETS.items():
        with open(folder / name, encoding="utf-8", newline="") as file:
            chosen += draw.sample(sorted({row[column] for row in csv.DictReader(file)}), TEXTS_PER_SET)
    with gzip.open(folder / REVIEW_SET, "rt", encoding="utf-8", newline="") as file:
        reviews = sorted({row["text"] for row in csv.DictReader(file) if row["split"] == "train"})
    return chosen + draw.sample(reviews, REVIEWS)


def measure(model: bytes, tokenizer: str, samples: list[str]) -> dict[str, dict]:
    """Site → the range seen and the factors by which its outlier channels are divided first, all rounded."""
    graph = onnx.load_from_string(model)
    sites = {site: tensor for layer in range(LAYERS) for site, tensor in activation_sites(layer).items()}
    for tensor in sites.values():
        graph.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    reader = Tokenizer.from_str(tokenizer)
    reader.enable_truncation(TOKENS_LARGEST)
    lows, highs = {}, {}
    for encoding in reader.encode_batch(samples):
        ids = np.array([encoding.ids], np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        for site, values in zip(sites, session.run(list(sites.values()), feed)):
            values = values.reshape(-1, values.shape[-1])
            lows[site] = np.minimum(lows.get(site, 0), values.min(axis=0))
            highs[site] = np.maximum(highs.get(site, 0), values.max(axis=0))
    return {site: _summary(lows[site], highs[site], site) for site in sites}


def factors(summary: dict, width: int) -> np.ndarray:
    """What each channel is divided by before it is rounded, `[width]` float32; 1 where a channel is no outlier."""
    result = np.ones(width, np.float32)
    for channel, factor in summary["outliers"].items():
        result[int(channel)] = factor
    return result


def _summary(low: np.ndarray, high: np.ndarray, site: str) -> dict:
    largest = np.maximum(-low, high)
    # The context's channels are nearly alike: no factor pays for itself there.
    limit = np.inf if site.endswith("attention.output.dense") else OUTLIER_RATIO * float(np.median(largest))
    outliers = {int(channel): round(float(largest[channel]) / limit, 2) for channel in np.flatnonzero(largest > limit)}
    outliers = {channel: factor for channel, factor in outliers.items() if factor > 1}
    divided = factors({"outliers": outliers}, len(low))
    return {
        "low": round(float((low / divided).min()), 3),
        "high": round(float((high / divided).max()), 3),
        "outliers": {str(channel): factor for channel, factor in outliers.items()},
    }


def as_text(calibration: dict) -> str:
    """The content of the committed file, a line a site."""
    lines = [f"  {json.dumps(site)}: {json.dumps(summary)}" for site, summary in calibration.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def difference(one: dict, other: dict) -> float:
    """The largest difference between two calibrations, of a bound or a factor, as a share of the value."""
    shares = []
    for site in one.keys() | other.keys():
        here, there = one.get(site, {"outliers": {}}), other.get(site, {"outliers": {}})
        values = [(here.get(bound, 0), there.get(bound, 0)) for bound in ("low", "high")]
        channels = here["outliers"].keys() | there["outliers"].keys()
        values += [(here["outliers"].get(channel, 1), there["outliers"].get(channel, 1)) for channel in channels]
        shares += [abs(a - b) / max(abs(a), abs(b), 1e-3) for a, b in values]
    return max(shares)
