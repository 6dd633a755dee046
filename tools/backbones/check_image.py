"""The claims of the card of efficientnet-lite0, measured again."""

from pathlib import Path

import numpy as np
from PIL import Image

import datasets
import probes
import reference_efficientnet
from checkpoint import read_state_dict
from claims import Claims
from efficientnet_lite0 import CHECKPOINT
from inference import ImageBackbone, unit
from packages import Packages

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BYTES_MAX = 10_000_000
COSINE_MIN = 0.9999
PROBE_C = 20.0
PROBE_TOLERANCE = 0.3
# Accuracies in percent, as the card states them.
ANTS_AND_BEES = 92.8
NAMED_RIGHT = {"ants": ("ant", 83.9), "bees": ("bee", 86.8)}
PACS = np.array(
    [
        [73.2, 60.7, 91.1, 30.4],
        [62.5, 76.8, 67.9, 50.0],
        [64.3, 41.1, 94.6, 26.8],
        [28.6, 39.3, 33.9, 75.0],
        [66.1, 69.6, 85.7, 41.1],
    ]
)
# One of the 56 test pictures of a domain.
PACS_TOLERANCE = 100 / 56 + 0.1
NAMED_EXAMPLES = {"cat.jpg": {"tabby", "tiger cat", "Egyptian cat"}, "coffee.jpg": {"espresso"}, "rocket.jpg": {"missile"}}


def check(folder: Path, packages: Packages, data: Path, claims: Claims) -> None:
    """Judge every claim of the image backbone in `folder`."""
    backbone = ImageBackbone(folder)
    size = backbone.model.stat().st_size
    claims.judge(size <= BYTES_MAX, f"image: model file is at most {BYTES_MAX} bytes", str(size))
    claims.judge(backbone.hash_holds(), "image: the manifest names the model's sha256", "equal" if backbone.hash_holds() else "differs")
    distinct = len(set(backbone.labels))
    claims.judge(distinct == len(backbone.labels) == 1000, "image: 1000 labels, all different", f"{distinct} of {len(backbone.labels)}")
    ants_and_bees, pacs = datasets.ants_and_bees(data), datasets.pacs(data)
    pictures = [row[0] for row in ants_and_bees[::66] + pacs[::112]]
    _check_against_checkpoint(backbone, packages, pictures, claims)
    _check_batches(backbone, pictures, claims)
    _check_labels(backbone, claims)
    _check_ants_and_bees(backbone, ants_and_bees, claims)
    _check_pacs(backbone, pacs, claims)


def _check_against_checkpoint(backbone: ImageBackbone, packages: Packages, pictures: list[Image.Image], claims: Claims) -> None:
    state = read_state_dict(packages.read(*CHECKPOINT))
    tensors = [backbone.tensor(picture) for picture in pictures]
    expected = [reference_efficientnet.features_and_logits(state, tensor) for tensor in tensors]
    found = [backbone.run([tensor]) for tensor in tensors]
    cosines = [float(unit(want[0]) @ unit(have[0][0].astype(np.float64))) for want, have in zip(expected, found)]
    largest = max(float(np.abs(want[1] - have[1][0]).max()) for want, have in zip(expected, found))
    claims.judge(
        min(cosines) >= COSINE_MIN,
        f"image: cosine to the checkpoint in float64 is at least {COSINE_MIN}, {len(pictures)} pictures",
        f"min {min(cosines):.7f}, largest difference of a logit {largest:.4f}",
    )


def _check_batches(backbone: ImageBackbone, pictures: list[Image.Image], claims: Claims) -> None:
    tensors = [backbone.tensor(picture) for picture in pictures]
    features, logits = backbone.run(tensors)
    single = [backbone.run([tensor]) for tensor in tensors]
    equal = sum(np.array_equal(features[row], one[0][0]) for row, one in enumerate(single))
    largest = max(float(np.abs(logits[row] - one[1][0]).max()) for row, one in enumerate(single))
    measured = f"{equal} of {len(tensors)} equal; largest difference of a logit {largest:.1e}"
    claims.judge(equal == len(tensors) and largest < 1e-4, "image: the same bits of features alone and in a batch", measured)


def _check_labels(backbone: ImageBackbone, claims: Claims) -> None:
    for name, expected in NAMED_EXAMPLES.items():
        with Image.open(EXAMPLES / name) as picture:
            _, logits = backbone.features_and_logits([picture.convert("RGB")])
        best = backbone.labels[int(logits[0].argmax())]
        claims.judge(best in expected, f"image: the first label of {name} is one of {', '.join(sorted(expected))}", best)


def _check_ants_and_bees(backbone: ImageBackbone, rows: list[tuple], claims: Claims) -> None:
    vectors, logits = backbone.features_and_logits([row[0] for row in rows])
    labels, is_train = np.array([row[1] for row in rows]), np.array([row[2] == "train" for row in rows])
    found = probes.accuracy(vectors[is_train], labels[is_train], vectors[~is_train], labels[~is_train], PROBE_C)
    claims.near(found, ANTS_AND_BEES, PROBE_TOLERANCE, "image: linear probe on ants and bees, %")
    for name, (label, stated) in NAMED_RIGHT.items():
        named = logits[labels == name].argmax(-1) == backbone.labels.index(label)
        claims.near(100 * named.mean(), stated, PROBE_TOLERANCE, f"image: {name} whose first label is {label}, %")


def _check_pacs(backbone: ImageBackbone, rows: list[tuple], claims: Claims) -> None:
    vectors, _ = backbone.features_and_logits([row[0] for row in rows])
    labels, is_train, domains = (np.array([row[column] for row in rows]) for column in (1, 2, 3))
    table = probes.transfer_table(vectors, labels, is_train == "train", domains, datasets.DOMAINS, PROBE_C)
    for row, source in enumerate((*datasets.DOMAINS, "the three others")):
        measured = " ".join(f"{value:.1f}" for value in table[row])
        stated = " ".join(f"{value:.1f}" for value in PACS[row])
        holds = bool((table[row] >= PACS[row] - PACS_TOLERANCE).all())
        claims.judge(holds, f"image: linear probe on PACS from {source}, % on {', '.join(datasets.DOMAINS)} (card: {stated})", measured)
