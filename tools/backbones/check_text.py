"""The claims of the card of all-minilm-l6-v2, measured again."""

import random
from pathlib import Path

import numpy as np
import onnx
from safetensors.numpy import load
from tokenizers import Tokenizer

import datasets
import probes
import reference_bert
from all_minilm_l6_v2 import HEADS, TOKENIZER, WEIGHTS
from claims import Claims
from inference import TextBackbone, unit
from packages import Packages

BYTES_MAX = 46_000_000
COSINE_MIN = 0.99999
PROBE_C = 10.0
# Accuracy in percent on the test split, as the card states it.
PROBE_ACCURACIES = {"TREC-6": 89.6, "Banking77": 93.0, "SST-2": 81.3}
PROBE_TOLERANCE = 0.3


def check(folder: Path, packages: Packages, data: Path, claims: Claims) -> None:
    """Judge every claim of the text backbone in `folder`."""
    backbone = TextBackbone(folder)
    _check_files(backbone, claims)
    texts = ["", "a"] + datasets.mixed_texts(data, 380)
    texts += [" ".join(texts[first : first + 12]) for first in range(2, 38, 12)]
    ids = [backbone.token_ids(text) for text in texts]
    _check_tokenizer(backbone, packages, texts, claims)
    _check_against_checkpoint(backbone, packages, ids, claims)
    _check_independence(backbone, ids, claims)
    for name, stated in PROBE_ACCURACIES.items():
        claims.near(_probe(backbone, data, name), stated, PROBE_TOLERANCE, f"text: linear probe on {name}, %")


def _check_files(backbone: TextBackbone, claims: Claims) -> None:
    size = backbone.model.stat().st_size
    claims.judge(size <= BYTES_MAX, f"text: model file is at most {BYTES_MAX} bytes", str(size))
    claims.judge(backbone.hash_holds(), "text: the manifest names the model's sha256", "equal" if backbone.hash_holds() else "differs")
    model = onnx.load(str(backbone.model))
    domains = {node.domain for node in model.graph.node}
    operators = sorted({node.op_type for node in model.graph.node})
    claims.judge(domains == {""}, f"text: standard operators only, opset {model.opset_import[0].version}", " ".join(operators))


def _check_tokenizer(backbone: TextBackbone, packages: Packages, texts: list[str], claims: Claims) -> None:
    """The cleaned tokenizer gives the ids of the original one."""
    original = Tokenizer.from_str(packages.read(*TOKENIZER).decode())
    original.no_padding()
    original.enable_truncation(backbone.manifest["text"]["max_tokens"])
    equal = sum(original.encode(text).ids == backbone.token_ids(text) for text in texts)
    claims.judge(equal == len(texts), "text: token ids equal those of the original tokenizer", f"{equal} of {len(texts)} texts")


def _check_against_checkpoint(backbone: TextBackbone, packages: Packages, ids: list[list[int]], claims: Claims) -> None:
    weights = load(packages.read(*WEIGHTS))
    expected = unit(np.stack([reference_bert.pooled(weights, one, HEADS) for one in ids]))
    found = unit(np.stack([backbone.hidden([one], len(one))[0].mean(0, dtype=np.float64) for one in ids]))
    cosines = (expected * found).sum(-1)
    lengths = sorted(len(one) for one in ids)
    claims.judge(
        cosines.min() >= COSINE_MIN,
        f"text: cosine to the checkpoint in float64 is at least {COSINE_MIN}, {len(ids)} texts of {lengths[0]} to {lengths[-1]} tokens",
        f"min {cosines.min():.8f}, mean {cosines.mean():.8f}",
    )


def _check_independence(backbone: TextBackbone, ids: list[list[int]], claims: Claims) -> None:
    """A text's hidden states are the same bits alone, padded and in random batches, whatever the padding holds."""
    chance = random.Random(1234)
    alone = [backbone.hidden([one], len(one))[0] for one in ids]
    compared = different = 0

    def compare(members: list[int]) -> None:
        nonlocal compared, different
        tokens = max(len(ids[index]) for index in members) + chance.choice((0, 1, 2, 3, 5, 8, 17, 31))
        hidden = backbone.hidden([ids[index] for index in members], tokens, filler=chance.randrange(30000))
        for row, index in enumerate(members):
            compared += 1
            different += not np.array_equal(hidden[row, : len(ids[index])], alone[index])

    for index in range(len(ids)):
        compare([index])
    by_length = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    while compared < 1200:
        size = chance.choice((2, 3, 4, 5, 8, 13, 16))
        if chance.random() < 0.6:
            first = chance.randrange(len(ids) - size)
            compare(chance.sample(by_length[first : first + size], size))
        else:
            compare(chance.sample(range(len(ids)), size))
    claims.judge(different == 0, "text: the same bits alone, padded and batched", f"{different} of {compared} comparisons differ")
    empty = backbone.session.run(None, {name: np.zeros((2, 4), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")})[0]
    claims.judge(bool(np.isfinite(empty).all()), "text: a row whose mask is all zero stays finite", f"largest {np.abs(empty).max():.2f}")


def _probe(backbone: TextBackbone, data: Path, name: str) -> float:
    train, train_labels = datasets.text_split(data, name, "train")
    test, test_labels = datasets.text_split(data, name, "test")
    return probes.accuracy(backbone.vectors(train), np.array(train_labels), backbone.vectors(test), np.array(test_labels), PROBE_C)
