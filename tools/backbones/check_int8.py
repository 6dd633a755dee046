"""Measure again what the card of all-minilm-l6-v2-int8 states; one line a claim, exit status 1 when one does not hold."""

import sys
from pathlib import Path

import environment

MODELS = Path(__file__).resolve().parents[2] / "models"

BYTES_MAX = 25_000_000
COSINE_MEAN_MIN = 0.995
BATCH_COSINE_MIN = 0.9999
PROBE_LOSS_MAX = 0.7
PROBE_C = 10.0
PROBE_TOKENS = {"TREC-6": 128, "Banking77": 64, "SST-2": 128}
# Without VNNI, products of bytes take three instructions each. The card's 1.69 was measured so, with other work on the cores; the
# smaller bound leaves room for more of it.
SPEED_MIN = {True: 2.0, False: 1.4}


def main() -> int:
    """Judge the quantised backbone against the original beside it."""
    import datasets
    from claims import Claims
    from inference import TextBackbone

    data = datasets.folder()
    if data is None:
        print("skipped: HEADSTART_TEST_DATA is not set")
        return 0
    import int8_calibration
    import int8_exactness
    import int8_speed

    claims = Claims()
    original, quantised = (TextBackbone(MODELS / name) for name in ("all-minilm-l6-v2", "all-minilm-l6-v2-int8"))
    size = quantised.model.stat().st_size
    claims.judge(size <= BYTES_MAX, f"int8: model file is at most {BYTES_MAX} bytes", str(size))
    named = quantised.hash_holds() and quantised.manifest["backbone"]["original"] == original.manifest["backbone"]["id"]
    claims.judge(named, "int8: the manifest names the model's sha256 and the original", "equal" if named else "differs")
    int8_exactness.check(quantised.model, claims)
    calibrated = set(int8_calibration.texts(data / "text"))
    texts = [text for text in datasets.mixed_texts(data, 400) if text not in calibrated]
    _check_cosine(original, quantised, texts, claims)
    _check_independence(quantised, texts, claims)
    int8_speed.check(original, quantised, texts, SPEED_MIN[_has_vnni()], claims)
    for name, tokens in PROBE_TOKENS.items():
        _check_probe(original, quantised, data, name, tokens, claims)
    print(f"{claims.broken} claims broken")
    return 1 if claims.broken else 0


def _has_vnni() -> bool:
    """Whether the processor multiplies and adds bytes in one instruction."""
    cores = Path("/proc/cpuinfo")
    flags = set(cores.read_text(encoding="utf-8").split()) if cores.exists() else set()
    return bool(flags & {"avx512_vnni", "avx_vnni"})


def _check_cosine(original, quantised, texts: list[str], claims) -> None:
    cosines = (original.vectors(texts) * quantised.vectors(texts)).sum(axis=-1)
    measured = f"mean {cosines.mean():.5f}, min {cosines.min():.4f}"
    claim = f"int8: mean cosine to the original is at least {COSINE_MEAN_MIN}, {len(texts)} texts"
    claims.judge(cosines.mean() >= COSINE_MEAN_MIN, claim, measured)


def _check_independence(quantised, texts: list[str], claims) -> None:
    """A text alone, with padding of its own, and in random batches whose padding holds arbitrary tokens."""
    import random

    import numpy as np

    from inference import unit

    chance = random.Random(1234)
    ids = [quantised.token_ids(text) for text in texts]
    alone = [quantised.hidden([one], len(one))[0] for one in ids]
    batches = [[index] for index in range(0, len(ids), 4)]
    batches += [chance.sample(range(len(ids)), chance.choice((2, 4, 8, 16))) for _batch in range(40)]
    compared = equal = 0
    least = 1.0
    for members in batches:
        tokens = max(len(ids[index]) for index in members) + chance.choice((0, 1, 3, 8, 17, 31))
        hidden = quantised.hidden([ids[index] for index in members], tokens, filler=chance.randrange(30000))
        for row, index in enumerate(members):
            here = hidden[row, : len(ids[index])]
            compared += 1
            equal += np.array_equal(here, alone[index])
            pooled = [unit(values.mean(axis=0, dtype=np.float64)) for values in (here, alone[index])]
            least = min(least, float(pooled[0] @ pooled[1]))
    measured = f"min {least:.8f}; the same bits in {equal} of {compared} comparisons"
    claims.judge(least >= BATCH_COSINE_MIN, f"int8: cosine alone to batched is at least {BATCH_COSINE_MIN}", measured)


def _check_probe(original, quantised, data: Path, name: str, tokens: int, claims) -> None:
    import numpy as np

    import datasets
    import probes

    (train, train_labels), (test, test_labels) = (datasets.text_split(data, name, split) for split in ("train", "test"))
    accuracies = []
    for backbone in (original, quantised):
        backbone.tokenizer.enable_truncation(tokens)
        vectors = (backbone.vectors(train), np.array(train_labels), backbone.vectors(test), np.array(test_labels))
        accuracies.append(probes.accuracy(*vectors, PROBE_C))
    measured = f"{accuracies[0]:.2f} → {accuracies[1]:.2f}"
    holds = accuracies[0] - accuracies[1] <= PROBE_LOSS_MAX
    claims.judge(holds, f"int8: linear probe on {name} loses at most {PROBE_LOSS_MAX} points", measured)


if __name__ == "__main__":
    environment.enter()
    sys.exit(main())
