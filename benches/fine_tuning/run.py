"""Fine-tuning measured over REST: accuracy on public test splits, and the linear probe beside scikit-learn's.

    make bench BENCH=fine-tuning
    make bench BENCH=image-backbones
    python3 benches/fine_tuning/run.py scikit-learn

Needs the release build, for `scikit-learn` also `cargo build --release -p headstart-methods --example fit`. Pinned packages
are installed once into a virtual environment under target/. Data comes from the folder that HEADSTART_TEST_DATA names;
without it there is nothing to measure.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "python"))

from run import Suite  # noqa: E402

SCRIPTS = {"fine-tuning": "accuracy.py", "image-backbones": "image_backbones.py", "scikit-learn": "scikit_learn.py"}


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in SCRIPTS:
        sys.exit(__doc__)
    if not os.environ.get("HEADSTART_TEST_DATA"):
        print("HEADSTART_TEST_DATA is not set: nothing to measure")
        return
    interpreter = str(Suite("fine-tuning", HERE, HERE / "requirements.txt").python())
    os.execv(interpreter, [interpreter, str(HERE / SCRIPTS[sys.argv[1]]), *sys.argv[2:]])


if __name__ == "__main__":
    main()
