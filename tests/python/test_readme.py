"""What README shows: its curl commands, run in order, print what stands below them."""

import re
import shlex
import shutil
import subprocess

import pytest
from service import ROOT, wait_until

IDS = re.compile(r"(?:file|ftjob)-[0-9a-f]{32}")


def shown():
    """Commands of README with the output below them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for block in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            # A command goes on while a quote is open or its line ends in a backslash.
            lines, command = part.splitlines(), ""
            while lines and (not command or command.endswith("\\") or command.count("'") % 2):
                command = command.removesuffix("\\") + ("\n" if command.count("'") % 2 else " ") + lines.pop(0)
            if command.strip().startswith("curl"):
                yield command.strip(), "\n".join(lines).strip()


def pattern(expected):
    """Output as a pattern: `…` stands for anything, ids and times are anybody's, figures agree to two decimals."""
    rounded = re.sub(r"-?\d+\.\d+(?:e-?\d+)?", lambda figure: f"{float(figure[0]):.2f}", IDS.sub("ID", expected))
    return re.sub(r'"created_at":\d+', '"created_at":0', rounded)


def matches(printed, expected):
    parts = [re.escape(part.strip()) for part in pattern(expected).split("…")]
    return re.fullmatch(r"\s*" + r".*?".join(parts) + r"\s*", pattern(printed), re.DOTALL)


def printed_as(words, expected, folder):
    """What a command prints, once it is what was expected; commands that make something are run once."""
    makes = any("/v1/files" in word or word.endswith(("/v1/fine_tuning/jobs", "/v1/classifiers", "/examples")) for word in words)
    printed = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True, timeout=60).stdout
    if makes:
        assert matches(printed, expected), printed
    # A job takes a moment, and its classifier another: the reader comes back a second later.
    return (printed,) if matches(printed, expected) else None


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_print_what_stands_below_them(start, tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    service = start()
    ids = {}
    commands = list(shown())
    assert len(commands) >= 9
    for command, expected in commands:
        words = shlex.split(IDS.sub(lambda shown: ids[shown[0]], command), comments=True)
        words = [word.replace("localhost:8080", service.url.removeprefix("http://")) for word in words]

        (printed,) = wait_until(lambda words=words, expected=expected: printed_as(words, expected, tmp_path), command)
        ids.update(zip(IDS.findall(expected), IDS.findall(printed), strict=False))
