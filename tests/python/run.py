"""Runs the Python end-to-end tests in a virtual environment of pinned packages.

Needs Python 3.11 or newer with pip and venv, and the release binary. The environment is made once and kept under
target/ until requirements.txt changes. Arguments are passed on to pytest.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
REQUIREMENTS = HERE / "requirements.txt"
ENVIRONMENT = ROOT / "target" / "python-venv"
STAMP = ENVIRONMENT / "requirements.sha256"


def fingerprint():
    """Names what the environment is made from: the interpreter's version and the pinned packages."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes())
    digest.update(sys.version.encode())
    return digest.hexdigest()


def python():
    """The environment's interpreter; made anew unless it was made from the same requirements."""
    interpreter = ENVIRONMENT / "bin" / "python"
    wanted = fingerprint()
    if interpreter.exists() and STAMP.exists() and STAMP.read_text() == wanted:
        return interpreter
    print("making target/python-venv for the Python tests: some 130 MB of packages, once", flush=True)
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    # Byte code of twenty thousand files that no test imports would take longer than the download.
    install = ["install", "--quiet", "--no-compile", "--disable-pip-version-check", "--only-binary=:all:"]
    pins = ["--require-hashes", "--requirement", str(REQUIREMENTS)]
    subprocess.run([str(interpreter), "-m", "pip", *install, *pins], check=True)
    # Written last: an installation that was cut off is made anew.
    STAMP.write_text(wanted)
    return interpreter


def main():
    if sys.version_info < (3, 11):
        sys.exit("the Python tests need Python 3.11 or newer")
    interpreter = python()
    arguments = sys.argv[1:]
    named = any(not argument.startswith("-") and pathlib.Path(argument.split("::")[0]).exists() for argument in arguments)
    command = [str(interpreter), "-m", "pytest", "-c", str(HERE / "pytest.ini"), *arguments]
    if not named:
        command.append(str(HERE))
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
