"""Measure int8_calibration.json again from the train splits under HEADSTART_TEST_DATA: say how far it is off, or replace it."""

import argparse
import json
import sys
from pathlib import Path

import environment

ORIGINAL = Path(__file__).resolve().parents[2] / "models" / "all-minilm-l6-v2"
# As a share of a bound or a factor: what another machine's rounding may do, with room to spare.
DIFFERENCE_LARGEST = 0.01


def main() -> int:
    """1 when the committed file is further off than `DIFFERENCE_LARGEST` and `--write` was not given."""
    import datasets
    import int8_calibration as calibration

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"replace {calibration.COMMITTED.name}")
    arguments = parser.parse_args()
    data = datasets.folder()
    if data is None:
        print("skipped: HEADSTART_TEST_DATA is not set")
        return 0
    texts = calibration.texts(data / "text")
    tokenizer = (ORIGINAL / "tokenizer.json").read_text(encoding="utf-8")
    measured = calibration.measure((ORIGINAL / "model.onnx").read_bytes(), tokenizer, texts)
    if arguments.write:
        calibration.COMMITTED.write_text(calibration.as_text(measured), encoding="utf-8")
        print(f"wrote {calibration.COMMITTED.name}: {len(measured)} sites from {len(texts)} texts")
        return 0
    off = calibration.difference(measured, json.loads(calibration.COMMITTED.read_text(encoding="utf-8")))
    print(f"{calibration.COMMITTED.name}: largest difference {off:.2%} over {len(measured)} sites")
    return 0 if off <= DIFFERENCE_LARGEST else 1


if __name__ == "__main__":
    environment.enter()
    sys.exit(main())
