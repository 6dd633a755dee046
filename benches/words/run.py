"""Word vectors measured: how long a table takes to open, how many texts a second it serves, what a linear probe gets right.

    make bench BENCH=words

Needs the release build, and the network for the weights once; `probes` also npm, which has word2vec. Pinned packages are installed
once into a virtual environment under target/. Texts come from the folder that HEADSTART_TEST_DATA names; without it there is nothing
to measure.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "python"))

from run import Suite  # noqa: E402


def main():
    if not os.environ.get("HEADSTART_TEST_DATA"):
        print("HEADSTART_TEST_DATA is not set: nothing to measure")
        return
    interpreter = str(Suite("words", HERE, HERE / "requirements.txt").python())
    os.execv(interpreter, [interpreter, str(HERE / "measure.py"), *sys.argv[1:]])


if __name__ == "__main__":
    main()
