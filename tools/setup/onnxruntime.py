"""Brings the ONNX Runtime library and its licences into vendor/, once: the wheel and the library in it are pinned by hash.

Uses whatever index pip is set to, so mirrors work. When the library is there and its hash is right, no network is used.
"""

import hashlib
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOCK = json.loads((ROOT / "tools/setup/onnxruntime.json").read_text())
# Whoever passes the library on passes these on.
LICENCES = ("LICENSE", "ThirdPartyNotices.txt")


def target_name():
    """The name Rust gives to this machine's system and processor."""
    system = {"Linux": "linux", "Darwin": "macos"}.get(platform.system(), platform.system().lower())
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    return f"{system}-{machine}"


def sha256(path):
    """Hash of a file in lower-case hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def download(target, folder):
    """Fetches the wheel into `folder`; pip refuses one whose hash is not the pinned one."""
    requirement = folder / "requirements.txt"
    requirement.write_text(f"onnxruntime=={LOCK['version']} --hash=sha256:{target['wheel_sha256']}\n")
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
        "--only-binary=:all:", "--implementation", "cp", "--python-version", LOCK["python"],
        "--platform", target["platform"], "--dest", str(folder), "--requirement", str(requirement),
    ]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def main():
    name = target_name()
    target = LOCK["targets"].get(name)
    if target is None:
        sys.exit(f"no ONNX Runtime is pinned for {name}; name a library of your own with --onnxruntime FILE")
    folder = ROOT / "vendor" / "onnxruntime" / LOCK["version"] / name
    library = folder / pathlib.PurePosixPath(target["member"]).name
    link = folder / target["name"]
    licences = all((folder / licence).is_file() for licence in LICENCES)
    if licences and library.is_file() and link.exists() and sha256(library) == target["library_sha256"]:
        return
    print(f"fetching ONNX Runtime {LOCK['version']} for {name}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        scratch = pathlib.Path(scratch)
        wheel = download(target, scratch)
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(target["member"], scratch)
            for licence in LICENCES:
                (folder / licence).write_bytes(archive.read(f"onnxruntime/{licence}"))
        extracted = scratch / target["member"]
        if (found := sha256(extracted)) != target["library_sha256"]:
            sys.exit(f"{target['member']} hashes to {found}, not to the pinned {target['library_sha256']}")
        # Renamed whole: a run that was cut off leaves no half library behind.
        os.replace(extracted, library)
    link.unlink(missing_ok=True)
    link.symlink_to(library.name)


if __name__ == "__main__":
    main()
