"""Whole training steps beside PyTorch eager: forward, loss, backward and AdamW, on the same cores, in turns.

    make bench-train
    python3 benches/training/run.py --case minilm-16x32 --rounds 3

Needs the release build of `headstart-bench-training`. Pinned packages (PyTorch among them: some 5 GB with what its wheels bring) are
installed once into a virtual environment under target/.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE.parents[1] / "target" / "training-venv"
REQUIREMENTS = HERE / "requirements.txt"


def python():
    """The environment's interpreter; made anew unless it was made from the same requirements."""
    interpreter, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "requirements.sha256"
    wanted = hashlib.sha256(sys.version.encode() + REQUIREMENTS.read_bytes()).hexdigest()
    if interpreter.exists() and stamp.exists() and stamp.read_text() == wanted:
        return interpreter
    print(f"making {ENVIRONMENT}: some 5 GB of packages, once", flush=True)
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    install = ["install", "--quiet", "--no-compile", "--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"]
    subprocess.run([str(interpreter), "-m", "pip", *install, "--requirement", str(REQUIREMENTS)], check=True)
    stamp.write_text(wanted)
    return interpreter


if __name__ == "__main__":
    interpreter = str(python())
    os.execv(interpreter, [interpreter, str(HERE / "compare.py"), *sys.argv[1:]])
