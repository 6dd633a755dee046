"""The soak: a crowd of every kind of client for half an hour, and sums that must come out even.

    make bench BENCH=soak
    make bench BENCH="soak --minutes 3"

Needs the release build. Runs in the virtual environment of the Python tests, made where it is not there yet; the clients know
nothing of the server's own code.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "python"))

from run import TESTS  # noqa: E402


def main():
    interpreter = str(TESTS.python())
    os.execv(interpreter, [interpreter, str(HERE / "soak.py"), *sys.argv[1:]])


if __name__ == "__main__":
    main()
