"""Fine-tuning measured over REST: accuracy on public test splits, and the linear probe beside scikit-learn's.

    make bench BENCH=fine-tuning
    make bench BENCH=image-backbones
    python3 benches/fine_tuning/run.py scikit-learn

Needs the release build, for `scikit-learn` also `cargo build --release -p headstart-methods --example fit`. Pinned packages
are installed once into a virtual environment under target/. Data comes from the folder that HEADSTART_TEST_DATA names;
without it there is nothing to measure.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE.parents[1] / "target" / "fine-tuning-venv"
REQUIREMENTS = HERE / "requirements.txt"
SCRIPTS = {"fine-tuning": "accuracy.py", "image-backbones": "image_backbones.py", "scikit-learn": "scikit_learn.py"}


def python():
    """The environment's interpreter; made anew unless it was made from the same requirements."""
    interpreter, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "requirements.sha256"
    wanted = hashlib.sha256(sys.version.encode() + REQUIREMENTS.read_bytes()).hexdigest()
    if interpreter.exists() and stamp.exists() and stamp.read_text() == wanted:
        return interpreter
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    install = ["install", "--quiet", "--no-compile", "--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"]
    subprocess.run([str(interpreter), "-m", "pip", *install, "--requirement", str(REQUIREMENTS)], check=True)
    stamp.write_text(wanted)
    return interpreter


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in SCRIPTS:
        sys.exit(__doc__)
    if not os.environ.get("HEADSTART_TEST_DATA"):
        print("HEADSTART_TEST_DATA is not set: nothing to measure")
        return
    interpreter = str(python())
    os.execv(interpreter, [interpreter, str(HERE / SCRIPTS[sys.argv[1]]), *sys.argv[2:]])


if __name__ == "__main__":
    main()
