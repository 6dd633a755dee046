"""A backbone that no gradient passes: jobs that train it are refused for what is in the way, before anything is computed."""

import json
import random

import pytest
from onnx import helper
from service import Service, wait_until
from small_models import BACKBONE, ROWS, WIDTH, Builder, bert_tokenizer, digest

MODEL, LARGEST = "small-largest", 8
TRAINING = ["full", "partial", "lora", "setfit"]
FREE = ["prototype", "linear_probe", "mlp"]

TEXT = """
[text]
tokenizer = "tokenizer.json"
max_tokens = 16
[output.features]
tensor = "features"
pooling = "none"
normalise = true
dimension = {dimension}
"""


def largest_numbers(path):
    """Words' vectors through a layer, their means, and the largest numbers of those: what `TopK` takes has no derivative here."""
    built = Builder(12)
    words = built.node("Tanh", built.dense(built.node("Gather", built.weight(ROWS, WIDTH), "input_ids"), WIDTH, 0.3))
    mean = built.node("ReduceMean", words, axes=[1], keepdims=0)
    built.nodes.append(helper.make_node("TopK", [mean, built.indices(LARGEST)], ["features", "places"], name="largest/TopK", axis=1))
    built.save(path, ["input_ids"], {"features": LARGEST})


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / MODEL
    folder.mkdir()
    largest_numbers(folder / "model.onnx")
    bert_tokenizer(folder / "tokenizer.json")
    about = BACKBONE.format(id=MODEL, modality="text", file="model.onnx", sha256=digest(folder / "model.onnx"))
    (folder / "headstart.toml").write_text(about + TEXT.format(dimension=LARGEST))
    running = Service(tmp_path_factory.mktemp("service"), models=folder.parent)
    running.file = uploaded(running, ["ab"[number % 2] for number in range(40)])
    yield running
    running.stop()


def uploaded(served, labels):
    """Short texts of two kinds in turns, with these labels."""
    rows = ({"text": f"{'cat' if number % 2 else 'money'} {number}", "label": label} for number, label in enumerate(labels))
    content = "\n".join(map(json.dumps, rows)).encode()
    reply = served.http.post("/v1/files", files={"file": ("rows.jsonl", content)}, data={"purpose": "fine-tune"})
    return reply.json()["id"]


def ended(served, method, file=None, **hyperparameters):
    """A job by that method, and what its events said."""
    given = {"type": method, method: {"hyperparameters": hyperparameters}}
    body = {"model": MODEL, "training_file": file or served.file, "suffix": "largest", "method": given}
    reply = served.post("/v1/fine_tuning/jobs", body)
    assert reply.status_code == 200, reply.text
    path = f"/v1/fine_tuning/jobs/{reply.json()['id']}"
    job = wait_until(lambda: (job := served.http.get(path).json())["status"] in {"succeeded", "failed"} and job, "the job ends")
    return job, [event["message"] for event in served.http.get(f"{path}/events", params={"limit": 100}).json()["data"]]


@pytest.mark.parametrize("method", TRAINING)
def test_an_operator_without_a_derivative_fails_a_training_with_its_name_and_the_methods_that_need_none(served, method):
    job, events = ended(served, method)
    assert job["status"] == "failed", job
    error = job["error"]
    assert (error["code"], error["param"]) == ("unsuitable_model", "model"), error
    assert "`TopK` (node `largest/TopK`, operator set 17)" in error["message"], error
    _, free = error["message"].split("methods that need no gradient: ")
    assert all(f"`{name}`" in free for name in FREE) and not any(f"`{name}`" in free for name in TRAINING), error
    assert not any("features of the examples" in event for event in events), events


def test_a_method_that_the_refusal_names_learns_from_the_same_backbone(served):
    job, _ = ended(served, "linear_probe")
    assert job["status"] == "succeeded", job


def test_auto_keeps_frozen_features_and_says_which_operator_has_no_derivative(served):
    # Labels drawn by lot: rows are left wrong that a training could put right.
    lot = random.Random(5)
    file = uploaded(served, [lot.choice("ab") for _ in range(400)])
    job, events = ended(served, "auto", file, tune_seconds=3600)
    assert job["status"] == "succeeded", job
    report = served.http.get(f"/v1/fine_tuning/jobs/{job['id']}/report").json()
    for said in ("the backbone was not trained: lora cannot: ", "`TopK` (node `largest/TopK`, operator set 17)"):
        assert said in report["run"]["method_reason"], report["run"]
        assert any(said in event for event in events), events
    assert report.get("tuning") is None, report["tuning"]
