"""Word vectors measured: how long a table takes to open, how many texts a second it serves, what a linear probe gets right.

    make bench BENCH=words

Needs the release build and the network for the weights once. Pinned packages are installed once into a virtual
environment under target/. Texts come from the folder that HEADSTART_TEST_DATA names; without it there is nothing to measure.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE.parents[1] / "target" / "words-venv"
REQUIREMENTS = HERE / "requirements.txt"


def python():
    """The environment's interpreter; made anew unless it was made from the same requirements."""
    interpreter, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "requirements.sha256"
    wanted = hashlib.sha256(sys.version.encode() + REQUIREMENTS.read_bytes()).hexdigest()
    if interpreter.exists() and stamp.exists() and stamp.read_text() == wanted:
        return interpreter
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    install = ["install", "--quiet", "--no-compile", "--disable-pip-version-check", "--only-binary=:all:"]
    subprocess.run([str(interpreter), "-m", "pip", *install, "--requirement", str(REQUIREMENTS)], check=True)
    stamp.write_text(wanted)
    return interpreter


def main():
    if not os.environ.get("HEADSTART_TEST_DATA"):
        print("HEADSTART_TEST_DATA is not set: nothing to measure")
        return
    interpreter = str(python())
    os.execv(interpreter, [interpreter, str(HERE / "measure.py"), *sys.argv[1:]])


if __name__ == "__main__":
    main()
