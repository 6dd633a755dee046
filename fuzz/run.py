"""Runs the fuzz targets, each for a while, one after another or a few at a time, and tells what each did.

    make fuzz                                    # every target, ten minutes each
    make fuzz SECONDS=60 FUZZ_TARGET=images      # one of them, for a minute
    make fuzz FUZZ_JOBS=2                        # two at a time

Needs Rust's nightly toolchain and cargo-fuzz (`cargo install cargo-fuzz --locked`). A target starts from the files under
fuzz/corpus/, from files that tests have anyway, and from what earlier runs found, which stays under target/fuzz/. It is stopped by
any panic of our own code, a wrong access to memory, an answer that is the server's fault, more memory than it may have, and an
input that takes too long; the input lies under target/fuzz/found/ then.
"""

import argparse
import concurrent.futures
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FUZZ, KEPT = ROOT / "fuzz", ROOT / "target" / "fuzz"

# An input must not take longer, nor the process hold more; both are far above what sanitisers and one slow core make of good ones.
TIMEOUT_SECONDS, MEMORY_MB = 25, 2560


@dataclasses.dataclass(frozen=True)
class Target:
    """A target, the longest input it tries, and where files of its kind lie in the repository."""

    name: str
    longest: int
    seeds: tuple = ()
    dictionary: str | None = None
    # Whether what it prints itself is thrown away.
    quiet: bool = False


TARGETS = [
    Target("images", 16_384, ("tests/golden/images",)),
    Target("sounds", 20_480, ("tests/golden/sounds",)),
    Target("tokenizers", 8_192, dictionary="tokenizers"),
    Target("manifests", 8_192, dictionary="manifests"),
    Target("graphs", 8_192),
    Target("archives", 49_152, ("crates/datasets/tests/data",)),
    Target("tables", 16_384, ("crates/datasets/tests/data",), dictionary="json"),
    Target("word_tables", 8_192),
    Target("imports", 8_192, quiet=True),
    Target("safetensors", 8_192, dictionary="safetensors"),
    Target("hub", 4_096, dictionary="hub"),
    Target("arrays", 2_048),
    Target("settings", 2_048),
    Target("json_bodies", 4_096, dictionary="json"),
    Target("forms", 16_384, dictionary="json"),
    Target("raw_tensors", 4_096, dictionary="json"),
]


def build(chosen):
    """Compiles the targets; the folder of their programs."""
    # cargo-fuzz cannot be told --locked: a lock file that is behind ends here.
    subprocess.run(["cargo", "metadata", "--locked", "--format-version", "1"], cwd=FUZZ, check=True, stdout=subprocess.DEVNULL)
    for target in chosen:
        command = ["cargo", "+nightly", "fuzz", "build", "--codegen-units", "16", target.name]
        subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"CARGO_INCREMENTAL": "0"})
    host = re.search(r"host: (\S+)", subprocess.check_output(["rustc", "+nightly", "-vV"], text=True))[1]
    return FUZZ / "target" / host / "release"


def run(target, programs, seconds):
    """Runs one; whether it ended well, and its row of the table."""
    corpus, found, log = KEPT / "corpus" / target.name, KEPT / "found", KEPT / f"{target.name}.log"
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    seeds = [path for path in (FUZZ / "corpus" / target.name, *(ROOT / seed for seed in target.seeds)) if path.is_dir()]
    options = {
        "max_total_time": seconds, "timeout": TIMEOUT_SECONDS, "rss_limit_mb": MEMORY_MB, "max_len": target.longest,
        "print_final_stats": 1, "artifact_prefix": f"{found}/{target.name}-", "close_fd_mask": 2 if target.quiet else 0,
    }
    if target.dictionary:
        options["dict"] = FUZZ / "dictionaries" / f"{target.dictionary}.dict"
    flags = [f"-{name}={value}" for name, value in options.items()]
    # Threads and tables that live as long as the process are no leaks; memory that grows meets the limit above.
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0", "ORT_DISABLE_TELEMETRY": "1"}
    with log.open("wb") as out:
        command = [programs / target.name, corpus, *seeds, *flags]
        done = subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT, check=False)
    said = log.read_text(errors="replace")
    executed = re.search(r"number_of_executed_units: (\d+)", said)
    state = re.findall(r"cov: (\d+) ft: \d+ corp: (\d+)/", said) or [("0", "0")]
    row = [target.name, int(executed[1]) if executed else 0, int(state[-1][0]), int(state[-1][1]), "clean" if done.returncode == 0 else "FOUND"]
    if done.returncode != 0:
        print("\n".join(said.splitlines()[-60:]), file=sys.stderr)
    return done.returncode == 0, row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600, metavar="S", help="how long each runs [default: 600]")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many run at a time [default: 1]")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="which; all when none is named")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - {target.name for target in TARGETS}
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(target.name for target in TARGETS)}")
    chosen = [target for target in TARGETS if not arguments.targets or target.name in arguments.targets]
    programs, all_well = build(chosen), True
    print("| target | inputs tried | edges covered | corpus | |\n|---|---:|---:|---:|---|", flush=True)
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for well, row in pool.map(lambda target: run(target, programs, arguments.seconds), chosen):
            all_well &= well
            print("| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else cell for cell in row) + " |", flush=True)
    if not all_well:
        sys.exit(f"inputs that must not do this are in {(KEPT / 'found').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
