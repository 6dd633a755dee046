"""How much faster one backbone is than another: process CPU time, the two called in turn in one process, one thread each."""

import time

import numpy as np

from claims import Claims
from inference import TextBackbone

# Texts × tokens of one call.
SHAPES = ((1, 16), (4, 16), (8, 16), (8, 32))
ROUNDS = 40
WINDOW = 32
GROUPS = (4, 8)
# Of all repetitions: low enough to leave other work's share out, high enough not to be luck.
QUANTILE = 0.25


def check(slower: TextBackbone, faster: TextBackbone, texts: list[str], ratio_min: float, claims: Claims) -> None:
    """Judge the geometric mean of the ratios at every shape and at the mixes."""
    plans = {f"{count}×{tokens}": [_random_call(count, tokens)] for count, tokens in SHAPES}
    for group in GROUPS:
        plans[f"mixed by {group}"] = mixed_calls(slower, texts[:128], group)
    ratios = {name: ratio(slower, faster, calls) for name, calls in plans.items()}
    mean = float(np.exp(np.mean(np.log(list(ratios.values())))))
    measured = f"{mean:.2f} (" + ", ".join(f"{name} {value:.2f}" for name, value in ratios.items()) + ")"
    claims.judge(mean >= ratio_min, f"int8: at least {ratio_min} times the original's throughput, geometric mean", measured)


def ratio(slower: TextBackbone, faster: TextBackbone, calls: list) -> float:
    """CPU time of `calls` on the one over that on the other."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _round in range(max(3, ROUNDS // len(calls)) + 1):
        for backbone, spent in zip((slower, faster), seconds):
            start = time.process_time()
            for ids, tokens in calls:
                backbone.hidden(ids, tokens)
            spent.append(time.process_time() - start)
    # The first round allocates.
    return float(np.quantile(seconds[0][1:], QUANTILE) / np.quantile(seconds[1][1:], QUANTILE))


def mixed_calls(backbone: TextBackbone, texts: list[str], group: int) -> list:
    """Real texts as a server would batch them: windows in arrival order, sorted by length, cut into groups."""
    ids = [backbone.token_ids(text) for text in texts]
    calls = []
    for first in range(0, len(ids), WINDOW):
        window = sorted(ids[first : first + WINDOW], key=len)
        for start in range(0, len(window), group):
            calls.append((window[start : start + group], len(window[start : start + group][-1])))
    return calls


def _random_call(count: int, tokens: int) -> tuple:
    return np.random.default_rng(1234).integers(1000, 20000, (count, tokens)).tolist(), tokens
