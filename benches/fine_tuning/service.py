"""The release server for one measurement, and the data that is sent to it."""

import contextlib
import csv
import os
import platform
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("HEADSTART_TEST_DATA", "")) / "datasets"
TEXT, IMAGE = "all-minilm-l6-v2", "efficientnet-lite0"


@contextlib.contextmanager
def server(*more_models):
    """The address of a fresh server with all defaults, and more folders of models; it ends with the block."""
    with tempfile.TemporaryDirectory() as data:
        command = [ROOT / "target/release/headstart", "serve", "--listen", "127.0.0.1:0", "--log", "error"]
        command += ["--data", data, "--models", ROOT / "models"]
        command += [part for folder in more_models for part in ("--models", folder)]
        settings = {name: value for name, value in os.environ.items() if not name.startswith("HEADSTART_")}
        process = subprocess.Popen(command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True)
        try:
            address = process.stdout.readline().strip().removeprefix("listening on ")
            while True:
                with contextlib.suppress(urllib.error.HTTPError):
                    urllib.request.urlopen(f"{address}/readyz", timeout=10).close()
                    break
            yield address
        finally:
            if (ended := process.poll()) is not None:
                print(f"the server had ended by itself: {ended}", file=sys.stderr)
            process.kill()
            process.wait()


def rows(name, split):
    """Texts and labels of a split of a public data set."""
    with open(DATA / "text" / f"{name}_{split}.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    return [row["text"] for row in found], [row["label"] for row in found]


def machine():
    """What the figures were measured on."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return f"CPU: {models[0] if models else platform.processor()}, {len(os.sched_getaffinity(0))} cores for this process."
