"""The gate before production: refused and let through by counts that are made again here from what /v1/classify says."""

import itertools
import json
import math
import random
from fractions import Fraction

import pytest
from service import FAST_TEXT, TEXT, wait_until

WORDS = {
    "refund": (["Please", "Could you", "I want you to", "When will you"], ["refund", "reimburse", "pay back", "return the money for"]),
    "delivery": (["When will you", "Did you already", "Please tell me who will", "Why did you not"], ["ship", "deliver", "send", "dispatch"]),
}
THINGS = ["the shoes", "my ticket", "this lamp", "both chairs", "the blue coat", "my phone", "the old radio", "that book"]

_names = itertools.count()


@pytest.fixture
def name():
    return f"gated-{next(_names)}"


def sentences(label):
    """A hundred and twenty-eight texts, in an order that says nothing."""
    openings, verbs = WORDS[label]
    made = [f"{opening} {verb} {thing}?" for opening in openings for verb in verbs for thing in THINGS]
    random.Random(label).shuffle(made)
    return made


def rows(part, split, labels=None):
    """Rows `part` of each label; with `labels` what they are said to be instead."""
    made = [{"text": text, "label": label, "split": split} for label in WORDS for text in sentences(label)[part]]
    for row, label in zip(made, labels or [], strict=False):
        row["label"] = label
    return made


TRAIN, TEST = rows(slice(0, 30), "train"), rows(slice(30, 70), "test")


def shuffled():
    """The training rows with labels that were drawn by lot."""
    labels = [row["label"] for row in TRAIN]
    random.Random(5).shuffle(labels)
    return rows(slice(0, 30), "train", labels)


def started(service, name, examples, seed=1, **fields):
    """The path of a job on these examples."""
    lines = "\n".join(json.dumps(row) for row in examples).encode()
    file = service.http.post("/v1/files", files={"file": ("asked.jsonl", lines)}, data={"purpose": "fine-tune"}).json()
    body = {"model": TEXT, "training_file": file["id"], "suffix": name, "seed": seed, "method": {"type": "linear_probe"}}
    answer = service.post("/v1/fine_tuning/jobs", body | {"report": {"budget_seconds": 0}} | fields)
    assert answer.status_code == 200, answer.text
    return f"/v1/fine_tuning/jobs/{answer.json()['id']}"


def trained(service, name, examples, seed=1, **fields):
    """The job that made a version of these examples, once it has ended."""
    path = started(service, name, examples, seed, **fields)
    wait_until(lambda: service.http.get(path).json()["status"] in ("succeeded", "failed"), "the job ends")
    job = service.http.get(path).json()
    assert job["status"] == "succeeded", job
    return job


def promoted(service, name, version, **fields):
    return service.post(f"/v1/classifiers/{name}/versions/{version}/promote", fields)


def classifier(service, name):
    return service.http.get(f"/v1/classifiers/{name}").json()


def right(service, model, examples):
    data = service.post("/v1/classify", {"model": model, "input": [row["text"] for row in examples]}).json()["data"]
    is_right = lambda datum, row: set(datum["labels"]) == set(row["labels"]) if "labels" in row else datum["label"] == row["label"]
    return [is_right(datum, row) for datum, row in zip(data, examples, strict=True)]


def counted(service, name, candidate, production, examples):
    """The table as it should be, and its p: the chance of winning so few of the rows that differ, by exact fractions."""
    first, second = right(service, f"{name}@{production}", examples), right(service, f"{name}@{candidate}", examples)
    pairs = list(zip(first, second, strict=True))
    lost, won = pairs.count((True, False)), pairs.count((False, True))
    chance = [Fraction(math.comb(lost + won, k), 2 ** (lost + won)) for k in range(won + 1)]
    return {
        "candidate": candidate,
        "production": production,
        "rows": len(pairs),
        "both_right": pairs.count((True, True)),
        "only_production_right": lost,
        "only_candidate_right": won,
        "both_wrong": pairs.count((False, False)),
        "p": pytest.approx(float(sum(chance) - chance[-1] / 2)) if lost + won else 1.0,
    }


def test_a_worse_version_is_refused_with_the_counts_and_one_that_is_not_goes_through(service, name):
    trained(service, name, TRAIN + TEST)
    trained(service, name, shuffled() + TEST)
    trained(service, name, TRAIN[::2] + TEST, seed=2)
    refused = promoted(service, name, 2, gate=True, reason="a try")
    assert refused.status_code == 409 and refused.headers["x-should-retry"] == "false"
    error = refused.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("conflict_error", "gate_refused", "gate")
    table = error["gate"]
    assert table | counted(service, name, 2, 1, TEST) == table
    assert (table["kind"], table["verdict"], table["alpha"]) == ("mcnemar", "worse", 0.05)
    assert (table["basis"], table["rows_needed"], set(table["not_compared"].values())) == ("asked", 40, {0})
    assert error["message"] == table["message"] and table["only_production_right"] > table["only_candidate_right"]
    after = classifier(service, name)
    assert (after["production"], after["audit"][0]["action"], after["audit"][0]["reason"]) == (1, "refuse", "a try")
    assert after["audit"][0]["gate"] == table and after["audit"][0]["from"] == after["audit"][0]["to"] == 1
    moved = promoted(service, name, 3, gate={"kind": "mcnemar", "alpha": 0.01})
    assert moved.status_code == 200, moved.text
    table = moved.json()["gate"]
    assert table | counted(service, name, 3, 1, TEST) == table
    assert (table["verdict"], table["alpha"], table["rows_needed"], moved.json()["production"]) == ("not_worse", 0.01, 60, 3)
    last = classifier(service, name)["audit"][0]
    assert (last["action"], last["from"], last["to"], last["gate"]) == ("promote", 1, 3, table)
    # Production is another now than the one that was asked as version 2 was made: what both noted is compared.
    table = promoted(service, name, 2, gate=True).json()["error"]["gate"]
    assert table | counted(service, name, 2, 3, TEST) == table
    assert table["basis"] == "both_held_out"
    assert promoted(service, name, 2).json()["production"] == 2, "without a gate it is as before"


def test_a_job_promotes_its_version_where_it_is_not_worse(service, name):
    first = trained(service, name, TRAIN + TEST, promote="if_not_worse")
    assert (first["promote"], classifier(service, name)["production"]) == ("if_not_worse", 1)
    worse = trained(service, name, shuffled() + TEST, promote="if_not_worse")
    after = classifier(service, name)
    assert (worse["fine_tuned_model"], after["production"]) == (f"{name}@2", 1)
    table = after["audit"][0]["gate"]
    assert after["audit"][0]["action"] == "refuse" and worse["id"] in after["audit"][0]["reason"]
    assert table | counted(service, name, 2, 1, TEST) == table
    path = f"/v1/fine_tuning/jobs/{worse['id']}"
    assert service.http.get(f"{path}/report").json()["gate"] == table
    page = service.http.get(f"{path}/report", headers={"accept": "text/html"}).text
    assert table["message"] in page
    warned = [event for event in service.http.get(f"{path}/events").json()["data"] if event["level"] == "warn" and "data" in event]
    assert [event["data"] for event in warned] == [table] and "waits" in warned[0]["message"]
    trained(service, name, TRAIN + TEST, seed=3, promote="if_not_worse")
    after = classifier(service, name)
    assert (after["production"], after["history"]) == (3, [1])
    assert (after["audit"][0]["action"], after["audit"][0]["from"], after["audit"][0]["to"]) == ("publish", 1, 3)
    assert after["audit"][0]["gate"]["verdict"] == "not_worse"
    trained(service, name, TRAIN + TEST, seed=4)
    assert classifier(service, name)["production"] == 3, "it waits unless it is asked for"
    trained(service, name, shuffled() + TEST, promote="always")
    assert classifier(service, name)["production"] == 5
    refused = service.post("/v1/fine_tuning/jobs", {"model": TEXT, "training_file": "file-x", "promote": "perhaps"})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "promote"


def several(part, split, seed=None):
    """Rows with one label or both; with a seed their labels are drawn by lot."""
    refund, delivery = sentences("refund")[part], sentences("delivery")[part]
    made = [{"text": f"{first} {second}", "labels": list(WORDS)} for first, second in zip(refund, delivery, strict=True)]
    made += [{"text": text, "labels": [label]} for label in WORDS for text in sentences(label)[part]]
    if seed is not None:
        labels = [row["labels"] for row in made]
        random.Random(seed).shuffle(labels)
        made = [{"text": row["text"], "labels": drawn} for row, drawn in zip(made, labels, strict=True)]
    return [row | {"split": split} for row in made]


def test_with_several_labels_a_row_is_right_when_all_are(service, name):
    verdicts = lambda: {verdict: service.metric("gate_verdicts_total", verdict=verdict) for verdict in ("not_worse", "worse", "not_enough_evidence")}
    train, test = several(slice(0, 30), "train"), several(slice(30, 60), "test")
    before = verdicts()
    trained(service, name, train + test, promote="if_not_worse")
    assert verdicts() == before, "the first has nobody to be compared with"
    trained(service, name, several(slice(0, 30), "train", seed=5) + test, promote="if_not_worse")
    table = classifier(service, name)["audit"][0]["gate"]
    assert table | counted(service, name, 2, 1, test) == table
    assert (table["verdict"], table["rows"], classifier(service, name)["production"]) == ("worse", 90, 1)
    data = service.post("/v1/classify", {"model": f"{name}@2", "input": [row["text"] for row in test]}).json()["data"]
    both = [(set(datum["labels"]), set(row["labels"])) for datum, row in zip(data, test, strict=True)]
    assert any(given & wanted and given != wanted for given, wanted in both), "some rows are half right"
    trained(service, name, train + test, seed=3)
    moved = promoted(service, name, 3, gate=True)
    table = moved.json()["gate"]
    assert table | counted(service, name, 3, 1, test) == table and moved.json()["production"] == 3
    assert verdicts() == before | {"worse": before["worse"] + 1, "not_worse": before["not_worse"] + 1}


def test_of_two_first_jobs_that_end_together_the_later_is_compared(start):
    service = start("--workers", 2)
    paths = [started(service, "together", TRAIN + TEST, seed, promote="if_not_worse") for seed in (1, 2)]
    for path in paths:
        wait_until(lambda path=path: service.http.get(path).json()["status"] == "succeeded", "the job ends")
    after = classifier(service, "together")
    later, first = after["audit"]
    assert (first["action"], first["to"], first.get("gate")) == ("publish", 1, None)
    assert (later["from"], later["gate"]["candidate"], later["gate"]["verdict"], after["production"]) == (1, 2, "not_worse", 2)
    names = {service.http.get(f"{path}/report").json()["run"]["fine_tuned_model"] for path in paths}
    assert names == {"together@1", "together@2"}
    report = service.http.get("/v1/classifiers/together/versions/2/report", headers={"accept": "text/html"}).text
    assert "<h1>Report: together@2, linear_probe" in report


def test_rows_that_production_learned_from_do_not_count(service, name):
    trained(service, name, TRAIN + TEST)
    # Of its held-out rows 20 are production's training rows, 50 are as new to the one as to the other.
    fresh = rows(slice(70, 95), "test")
    known = [row | {"split": "test"} for row in TRAIN[:10] + TRAIN[30:40]]
    trained(service, name, TRAIN[10:30] + TRAIN[40:] + known + fresh, seed=2)
    moved = promoted(service, name, 2, gate=True)
    assert moved.status_code == 200, moved.text
    table = moved.json()["gate"]
    assert table["not_compared"]["learned_by_production"] == 20
    assert table | counted(service, name, 2, 1, fresh) == table


def test_new_labels_are_counted_apart(service, name):
    trained(service, name, TRAIN + TEST)
    praise = [{"text": f"{how} {thing}!", "label": "praise"} for how in ("I love", "Wonderful,") for thing in THINGS]
    split = [row | {"split": "train" if place < 10 else "test"} for place, row in enumerate(praise)]
    trained(service, name, TRAIN + TEST + split, seed=2)
    table = promoted(service, name, 2, gate=True).json()["gate"]
    assert table | counted(service, name, 2, 1, TEST) == table
    assert (table["not_compared"]["new_labels"], table["labels_added"]) == (6, ["praise"])
    assert table["new_labels_right"] == sum(right(service, f"{name}@2", split[10:]))


def test_where_too_little_is_known_nothing_is_promoted_by_a_gate(service, name):
    trained(service, name, TRAIN + TEST[:12] + TEST[40:52])
    trained(service, name, TRAIN + TEST[:12] + TEST[40:52], seed=2)
    error = promoted(service, name, 2, gate=True).json()["error"]
    assert (error["code"], error["gate"]["verdict"], error["gate"]["rows"]) == ("gate_refused", "not_enough_evidence", 24)
    assert "24 rows can be compared, 40 are needed" in error["message"]
    # A head that took examples in knows no more of them than their means.
    grown = f"{name}-grown"
    trained(service, grown, TRAIN + TEST, method={"type": "prototype"})
    added = service.post(f"/v1/classifiers/{grown}/examples", {"examples": [{"text": "Give me my money", "label": "refund"}]})
    assert added.json()["version"] == 2
    trained(service, grown, TRAIN + TEST, promote="if_not_worse")
    after = classifier(service, grown)
    assert (after["production"], [version["evidence"] for version in after["versions"]]) == (2, [True, False, True])
    assert after["audit"][0]["gate"]["verdict"] == "not_enough_evidence"


@pytest.mark.parametrize("model", [TEXT, FAST_TEXT])
def test_a_version_of_another_kind_or_on_another_backbone_is_asked_as_it_answers(service, name, model):
    service.post("/v1/classifiers", {"name": name, "model": TEXT, "labels": list(WORDS)})
    shown = [{"text": row["text"], "label": row["label"]} for row in TEST[:2] + TEST[40:42]]
    service.post(f"/v1/classifiers/{name}/examples", {"examples": shown})
    trained(service, name, TRAIN + TEST, model=model, promote="if_not_worse")
    after = classifier(service, name)
    table = after["audit"][0]["gate"]
    assert (table["basis"], table["not_compared"]["learned_by_production"]) == ("asked", 4)
    assert table | counted(service, name, 3, 2, TEST[2:40] + TEST[42:]) == table
    assert (table["verdict"], after["production"]) == ("not_worse", 3)
    trained(service, name, TRAIN + TEST, model=FAST_TEXT, seed=2)
    table = promoted(service, name, 4, gate=True).json()["gate"]
    assert table | counted(service, name, 4, 3, TEST) == table


def test_what_is_no_gate_is_named(service, name):
    trained(service, name, TRAIN + TEST)
    trained(service, name, TRAIN + TEST, seed=2)
    cases = [("yes", "gate"), (1, "gate"), ({}, "gate.kind"), ({"kind": "t"}, "gate.kind")]
    cases += [({"kind": "mcnemar", "alpha": alpha}, "gate.alpha") for alpha in (0, 0.6, -1, "a")]
    for gate, param in cases:
        refused = promoted(service, name, 2, gate=gate)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), gate
    assert promoted(service, name, 1, gate=True).json()["production"] == 1, "it is production already"
    moved = promoted(service, name, 2, gate=True, if_production=7)
    assert (moved.status_code, moved.json()["error"]["code"]) == (409, "conflict")
    assert promoted(service, name, 2, gate=False).json()["production"] == 2
