"""Runs the end-to-end tests, or with `--prove` the long ones, in a virtual environment of pinned packages.

Needs Python 3.11 or newer with pip and venv, and the release binary. Each environment is made once and kept under
target/ until its requirements change. The whole suite runs two files at a time: most tests wait for a server more than they
compute. Other arguments are passed on to pytest.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Suite:
    """A folder of tests and the packages it needs."""

    def __init__(self, name, folder, *requirements):
        self.folder, self.requirements = folder, requirements
        self.environment = ROOT / "target" / f"{name}-venv"
        self.stamp = self.environment / "requirements.sha256"

    def fingerprint(self):
        """Names what the environment is made from: the interpreter's version and the pinned packages."""
        digest = hashlib.sha256(sys.version.encode())
        for file in self.requirements:
            digest.update(file.read_bytes())
        return digest.hexdigest()

    def python(self):
        """The environment's interpreter; made anew unless it was made from the same requirements."""
        interpreter = self.environment / "bin" / "python"
        wanted = self.fingerprint()
        if interpreter.exists() and self.stamp.exists() and self.stamp.read_text() == wanted:
            return interpreter
        print(f"making {self.environment.relative_to(ROOT)}: some 130 MB of packages, once", flush=True)
        shutil.rmtree(self.environment, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(self.environment)], check=True)
        # Byte code of twenty thousand files that no test imports would take longer than the download.
        install = ["install", "--quiet", "--no-compile", "--disable-pip-version-check", "--only-binary=:all:"]
        pins = ["--require-hashes", *(word for file in self.requirements for word in ("--requirement", str(file)))]
        subprocess.run([str(interpreter), "-m", "pip", *install, *pins], check=True)
        # Written last: an installation that was cut off is made anew.
        self.stamp.write_text(wanted)
        return interpreter


PROVE = ROOT / "tests" / "prove"
TESTS = Suite("python", HERE, HERE / "requirements.txt")
PROOFS = Suite("prove", PROVE, HERE / "requirements.txt", PROVE / "requirements.txt")


def main():
    if sys.version_info < (3, 11):
        sys.exit("the Python tests need Python 3.11 or newer")
    arguments = [argument for argument in sys.argv[1:] if argument != "--prove"]
    suite = PROOFS if len(arguments) < len(sys.argv) - 1 else TESTS
    interpreter = suite.python()
    # Helm and Kubernetes' schemas; where they cannot be had, what needs them skips itself.
    subprocess.run([str(interpreter), str(ROOT / "tools/deploy/fetch.py")], check=False)
    named = any(not argument.startswith("-") and pathlib.Path(argument.split("::")[0]).exists() for argument in arguments)
    command = [str(interpreter), "-m", "pytest", "-c", str(HERE / "pytest.ini"), *arguments]
    if not named:
        command.append(str(suite.folder))
        # Proofs watch clocks and memory, which others must not move. The order of files is that of conftest.py.
        command += [] if suite is PROOFS else ["--numprocesses", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
