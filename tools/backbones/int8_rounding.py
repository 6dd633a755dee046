"""Round weights to signed bytes that no x86-64 kernel saturates on: exact sums with and without VNNI, and on arm64.

Without VNNI a kernel multiplies bytes by PMADDUBSW, which adds the products of two neighbouring inputs in 16 bits and saturates:
an activation of up to 255 against two weights of the same sign has to stay within ±32,767. So it is not every weight that is
held to 64, but the sum of every such pair to 128; a lone large weight keeps its eight bits.
"""

import numpy as np

ACTIVATION_LARGEST = 255
WEIGHT_LARGEST = 127
PAIR_LARGEST = 128
assert PAIR_LARGEST * ACTIVATION_LARGEST <= 32767

# Step sizes tried for each column, as shares of largest weight / 127. At 2 a column keeps the seven bits that never need a cut.
STEP_SHARES = np.linspace(0.8, 2.0, 25)


def quantise_columns(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`[in, out]` → signed bytes `[in, out]` and the float32 step of each column `[out]`, that of the least squared error.

    Rows 2k and 2k + 1 are the pairs. Raises ValueError when the number of rows is odd.
    """
    if len(weight) % 2:
        raise ValueError(f"{len(weight)} rows do not pair up")
    weight = weight.astype(np.float64)
    widest = np.maximum(np.abs(weight).max(axis=0), 1e-12) / WEIGHT_LARGEST
    best = np.zeros(weight.shape, np.int8)
    steps = np.zeros(weight.shape[1], np.float32)
    least = np.full(weight.shape[1], np.inf)
    for share in STEP_SHARES:
        step = (widest * share).astype(np.float32)
        rounded = _within_pairs(np.round(weight / step))
        error = np.square(rounded * step - weight).sum(axis=0)
        better = error < least
        best[:, better] = rounded[:, better]
        steps[better] = step[better]
        least[better] = error[better]
    return best, steps


def quantise_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`[rows, width]` → signed bytes `[rows, width]` and float32 steps `[rows, 1]`; for tables, which meet no kernel."""
    step = (np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-12) / WEIGHT_LARGEST).astype(np.float32)
    return np.clip(np.round(table / step), -WEIGHT_LARGEST, WEIGHT_LARGEST).astype(np.int8), step


def largest_pair(weight: np.ndarray) -> int:
    """The largest sum, in magnitude, of two neighbouring rows' weights of the same sign; `[in, out]` of signed bytes."""
    wide = weight.astype(np.int32)
    sums = [np.maximum(sign * wide, 0).reshape(-1, 2, wide.shape[1]).sum(axis=1).max() for sign in (1, -1)]
    return int(max(sums))


def _within_pairs(rounded: np.ndarray) -> np.ndarray:
    """Clip to ±127, then take the excess of a pair of one sign from both of its halves alike."""
    pairs = np.clip(rounded, -WEIGHT_LARGEST, WEIGHT_LARGEST).reshape(-1, 2, rounded.shape[1])
    first, second = np.abs(pairs[:, 0]), np.abs(pairs[:, 1])
    same_sign = pairs[:, 0] * pairs[:, 1] > 0
    excess = np.where(same_sign, np.maximum(first + second - PAIR_LARGEST, 0), 0)
    # Neither half exceeds 127, so a pair over 128 loses at most half its excess from the smaller one, which stays above zero.
    from_first = np.ceil(excess / 2)
    kept = np.stack([first - from_first, second - (excess - from_first)], axis=1)
    return (np.sign(pairs) * kept).reshape(rounded.shape)
