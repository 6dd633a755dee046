"""Zero-shot scores equal those of a reference in Python, which `tools/golden/zero_shot.py` wrote down."""

import base64
import json

import pytest
from service import ROOT

GOLDEN = json.loads((ROOT / "tests" / "golden" / "zero_shot.json").read_text(encoding="utf-8"))


def items(case):
    if "files" not in case:
        return case["input"]
    return [{"image": base64.b64encode((ROOT / file).read_bytes()).decode()} for file in case["files"]]


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["model"])
def test_scores_equal_the_references(service, case):
    fields = {name: case[name] for name in ("template", "multi_label") if name in case}
    body = {"model": case["model"], "input": items(case), "labels": case["labels"], **fields}
    response = service.post("/v1/zero-shot", body)
    assert response.status_code == 200, response.text
    names = [label if isinstance(label, str) else label["label"] for label in case["labels"]]
    tolerance = GOLDEN["tolerance"][case["model"]]
    for datum, expected in zip(response.json()["data"], case["scores"], strict=True):
        scores = {entry["label"]: entry["score"] for entry in datum["scores"]}
        assert [scores[name] for name in names] == pytest.approx(expected, abs=tolerance)
