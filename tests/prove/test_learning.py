"""Backbones that are trained learn what they are said to: cases of `make bench BENCH=tuning` on public data, beside their bars."""

import importlib.util
import os
import pathlib

import pytest
from service import ROOT

# Those of the bars that a quarter of an hour shows: factors on all of a set, and pairs of few rows.
PROVEN = ["trec8-setfit", "sst2-lora"]


@pytest.fixture(scope="module")
def bench():
    about = importlib.util.spec_from_file_location("tuning_bench", ROOT / "benches" / "tuning" / "run.py")
    module = importlib.util.module_from_spec(about)
    about.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", PROVEN)
def test_a_trained_backbone_is_right_as_often_as_its_case_asks_for(bench, tmp_path, capsys, name):
    data = os.environ.get("HEADSTART_TEST_DATA")
    if not data:
        pytest.skip("HEADSTART_TEST_DATA is not set")
    accuracy = bench.case(name, pathlib.Path(data) / "datasets", tmp_path)
    told = capsys.readouterr().out
    with capsys.disabled():
        print(f"\n{told}", end="")
    assert bench.CASES[name][-1] is not None and bench.reached(name, accuracy), accuracy


def report(accuracy):
    """As much of a job's report as a line of the bench reads."""
    gain = {"value": 0.01, "low": 0.0, "high": 0.02}
    tuning = {"frozen": {"value": 0.5}, "gain": {"estimate": gain}, "stored_bytes": 1_000_000}
    return {"metrics": {"accuracy": {"value": accuracy}}, "tuning": tuning}


@pytest.mark.parametrize(("accuracy", "good"), [(0.86, True), (0.85, False)])
def test_the_bench_fails_where_a_mean_is_below_its_bar(bench, monkeypatch, capsys, accuracy, good):
    monkeypatch.setenv("HEADSTART_TEST_DATA", "nowhere")
    monkeypatch.setattr(bench, "data_file", lambda *_: None)
    monkeypatch.setattr(bench, "trained", lambda *_: (report(accuracy), 1.0))
    monkeypatch.setattr("sys.argv", ["run.py", "sst2-lora", "sst2-random"])
    if good:
        bench.main()
    else:
        with pytest.raises(SystemExit, match=r"missed:\nsst2-lora: 0.850, not 0.86"):
            bench.main()
    assert "| sst2-lora | `lora` | 0.8" in capsys.readouterr().out
