"""Every fuzz target, each for a little while. Needs Rust's nightly toolchain and cargo-fuzz; `make fuzz` runs them for longer."""

import os
import shutil
import subprocess
import sys

import pytest
from service import ROOT

SECONDS = os.environ.get("HEADSTART_FUZZ_SECONDS", "20")


def has_nightly():
    if shutil.which("rustup") is None:
        return False
    listed = subprocess.run(["rustup", "toolchain", "list"], capture_output=True, text=True, check=False).stdout
    return any(line.startswith("nightly") for line in listed.splitlines())


@pytest.mark.skipif(not has_nightly(), reason="Rust's nightly toolchain is not installed")
@pytest.mark.skipif(shutil.which("cargo-fuzz") is None, reason="cargo-fuzz is not installed")
def test_no_target_finds_anything():
    done = subprocess.run([sys.executable, str(ROOT / "fuzz/run.py"), "--seconds", SECONDS], check=False, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-5000:]
