"""Writes crates/methods/tests/golden/rounding.json: what tools/backbones/int8_rounding.py makes of a few small matrices.

    python3 tools/golden/rounding.py

Needs numpy==2.4.6. The matrices are those of `matrix` in crates/methods/src/tune/rounding.rs, number by number.
"""

import json
import sys
from pathlib import Path

import numpy as np
from splitmix import units

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "crates" / "methods" / "tests" / "golden" / "rounding.json"
SHAPES = ((16, 6), (64, 5), (2, 8), (40, 3))

sys.path.insert(0, str(ROOT / "tools" / "backbones"))
from int8_rounding import quantise_columns, quantise_rows  # noqa: E402


def matrix(seed, rows, columns):
    """Most numbers small, some large, a column and a row of zeros: `[rows, columns]` float32."""
    drawn = units(seed, rows * columns) * 2.0 - 1.0
    values = (drawn * drawn * drawn).astype(np.float32).reshape(rows, columns)
    values[1] = values[:, 1] = 0
    return values


def rounded(values, steps):
    return {"bytes": values.ravel().tolist(), "steps": steps.ravel().tolist()}


def case(seed, rows, columns):
    values = matrix(seed, rows, columns)
    by_column, by_row = rounded(*quantise_columns(values)), rounded(*quantise_rows(values))
    return {"seed": seed, "rows": rows, "columns": columns, "by_column": by_column, "by_row": by_row}


def main():
    cases = [case(seed, *shape) for seed, shape in enumerate(SHAPES)]
    OUT.write_text("[\n" + ",\n".join(json.dumps(one) for one in cases) + "\n]\n")


if __name__ == "__main__":
    main()
