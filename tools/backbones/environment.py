"""Run a script of this folder in a virtual environment of its own that holds exactly `requirements.txt`."""

import os
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
ENVIRONMENT = Path(__file__).resolve().parents[2] / "target" / "backbones-venv"


def enter() -> None:
    """Return inside the environment; outside it, make it where it is missing or outdated and start the same script again in it.

    Raises subprocess.CalledProcessError when a requirement cannot be installed.
    """
    if Path(sys.prefix).resolve() == ENVIRONMENT:
        return
    python = ENVIRONMENT / "bin" / "python"
    installed = ENVIRONMENT / REQUIREMENTS.name
    if not installed.exists() or installed.read_bytes() != REQUIREMENTS.read_bytes():
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--requirement", str(REQUIREMENTS)], check=True)
        installed.write_bytes(REQUIREMENTS.read_bytes())
    os.execv(python, [str(python), *sys.argv])
