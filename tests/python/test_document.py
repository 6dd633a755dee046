"""The OpenAPI document against what it describes: its own examples, bodies that people send, answers that they get."""

import json
import urllib.parse

import jsonschema
import numpy
import openai
import pytest
import referencing
import tritonclient.http as triton
from referencing.jsonschema import DRAFT202012
from service import TEXT
from test_fine_tuning import finished, upload

CLASSIFIER = "documented"
REFUNDS = ["I want my money back", "Refund this order", "Pay me back", "Return my payment", "Undo the charge", "Give me a refund"]
PARCELS = ["Where is my parcel", "It has not arrived", "When will you deliver", "The package is late", "Track my order", "Delivery took weeks"]
LINES = [{"text": text, "label": label} for label, texts in (("refund", REFUNDS), ("delivery", PARCELS)) for text in texts]


class Document:
    """The document, and whether a value fits a schema in it."""

    def __init__(self, content):
        self.content = content
        resource = referencing.Resource(contents=content, specification=DRAFT202012)
        self.registry = referencing.Registry().with_resource("urn:document", resource)

    def problems(self, pointer, value):
        """What is wrong with a value by the schema at a pointer: a list of keys."""
        steps = "/".join(urllib.parse.quote(str(step).replace("~", "~0").replace("/", "~1"), safe="~") for step in pointer)
        schema = {"$ref": f"urn:document#/{steps}"}
        found = jsonschema.Draft202012Validator(schema, registry=self.registry).iter_errors(value)
        return [f"{'/'.join(map(str, pointer))}: {error.json_path} {error.message[:300]}" for error in found]

    def of_answer(self, method, path, response):
        """What is wrong with an answer by the operation that it is of."""
        kind = response.headers["content-type"].split(";")[0]
        pointer = ["paths", path, method, "responses", str(response.status_code), "content", kind, "schema"]
        return self.problems(pointer, response.json() if kind == "application/json" else response.text)

    def of_body(self, path, body):
        """What is wrong with a JSON body by the operation that it is sent to."""
        return self.problems(["paths", path, "post", "requestBody", "content", "application/json", "schema"], body)


@pytest.fixture(scope="module")
def document(service):
    return Document(service.http.get("/openapi.json").json())


def examples(node, pointer=()):
    """Every example with the pointer of the schema that it is of: beside a schema, or within one."""
    if isinstance(node, list):
        for place, item in enumerate(node):
            yield from examples(item, (*pointer, place))
    if not isinstance(node, dict):
        return
    beside = isinstance(node.get("schema"), dict)
    # Names of fields are no keywords.
    keyword = not pointer or pointer[-1] not in ("properties", "schemas", "patternProperties")
    if keyword and (beside or "type" in node or "oneOf" in node or "$ref" in node):
        schema = (*pointer, "schema") if beside else pointer
        if "example" in node:
            yield schema, node["example"]
        several = node.get("examples", [])
        for one in several.values() if isinstance(several, dict) else several:
            yield schema, one["value"] if beside else one
    for key, value in node.items():
        if not (keyword and key in ("example", "examples", "default", "enum")):
            yield from examples(value, (*pointer, key))


def test_every_example_fits_its_own_schema(document):
    found = list(examples(document.content))
    assert len(found) > 200, len(found)
    wrong = [problem for pointer, example in found for problem in document.problems(pointer, example)]
    assert not wrong, "\n".join(wrong)


BODIES = {
    "/v1/purges": [
        {"group": "person-17", "dry_run": True},
        {"file": "file-0199b6a3c0a11f2e3d4c5b6a79880123", "rows": [3]},
        {"file": "file-0199b6a3c0a11f2e3d4c5b6a79880123", "rows": [3, "train/ants/7.jpg"], "dry_run": False},
        {"text": "my number is 0175 2240"},
    ],
    "/v2/models/{model}/infer": [
        {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[0.5, 1]]}], "outputs": [{"name": "y"}]},
        {"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["a"]}]},
        {"inputs": [{"name": "x", "shape": [1], "datatype": "BOOL", "data": [True]}]},
        {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}]},
    ],
    "/v1/rerank": [{"model": TEXT, "query": "a", "texts": ["b"], "truncate": True, "truncation_direction": "Left"}],
    "/hf/{model}": [
        {"inputs": "my card has not arrived", "parameters": {"top_k": 2}},
        {"inputs": {"source_sentence": "a", "sentences": ["b", "c"]}},
        {"inputs": ["a", "b"], "truncate": True, "truncation_direction": "Right"},
    ],
}


@pytest.mark.parametrize(("path", "body"), [(path, body) for path, bodies in BODIES.items() for body in bodies])
def test_bodies_that_people_send_fit(document, path, body):
    assert not document.of_body(path, body)


def test_bodies_that_are_refused_do_not_fit(document):
    assert document.of_body("/v1/purges", {"rows": [1.5]})
    assert document.of_body("/v2/models/{model}/infer", {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": 1}]})
    assert document.of_body("/hf/{model}", {"inputs": {"sentences": 3}})


@pytest.fixture(scope="module")
def job(service):
    """A job of each of two versions; the second."""
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
    file = upload(client, "documented.jsonl", "\n".join(map(json.dumps, LINES)).encode())
    for seed in (1, 2):
        method = {"type": "linear_probe", "linear_probe": {"hyperparameters": {}}}
        made = client.fine_tuning.jobs.create(model=TEXT, training_file=file.id, suffix=CLASSIFIER, seed=seed, extra_body={"method": method})
        made = finished(client, made)
        assert made.status == "succeeded", made
    return made


def test_what_a_job_answers_fits(document, service, job):
    base, one = "/v1/fine_tuning/jobs", f"/v1/fine_tuning/jobs/{job.id}"
    for path, asked in {
        base: base,
        f"{base}/{{job}}": one,
        f"{base}/{{job}}/events": f"{one}/events?limit=100",
        f"{base}/{{job}}/checkpoints": f"{one}/checkpoints",
        f"{base}/{{job}}/report": f"{one}/report",
        "/v1/files": "/v1/files",
        "/v1/files/{file}": f"/v1/files/{job.training_file}",
    }.items():
        answer = service.http.get(asked)
        assert answer.status_code == 200, answer.text
        assert not document.of_answer("get", path, answer), path
    assert len(service.http.get(f"{one}/events?limit=100").json()["data"]) > 2
    page = service.http.get(f"{one}/report", headers={"accept": "text/html"})
    assert page.text.startswith("<!") and not document.of_answer("get", f"{base}/{{job}}/report", page)


def test_what_a_classifier_answers_fits(document, service, job):
    route, one = "/v1/classifiers/{name}", f"/v1/classifiers/{CLASSIFIER}"
    for tail, body in {"traffic": {"1": 90, "2": 10}, "shadow": {"version": 2}}.items():
        answer = service.http.put(f"{one}/{tail}", json=body)
        assert answer.status_code == 200, answer.text
        assert not document.of_answer("put", f"{route}/{tail}", answer)
    found = service.http.get(one)
    assert found.json()["traffic"] == {"1": 90, "2": 10} and found.json()["shadow"]["version"] == 2
    for path, asked in {
        route: one,
        "/v1/classifiers": "/v1/classifiers",
        f"{route}/versions/{{version}}/report": f"{one}/versions/1/report",
        "/v1/models": "/v1/models",
        "/v1/models/{id}": f"/v1/models/{CLASSIFIER}@2",
    }.items():
        answer = service.http.get(asked)
        assert answer.status_code == 200, answer.text
        assert not document.of_answer("get", path, answer), path
    answer = service.post("/v1/classify", {"model": CLASSIFIER, "input": ["Pay me back", "It is late"]})
    assert not document.of_answer("post", "/v1/classify", answer)
    gated = service.post(f"{one}/versions/2/promote", {"gate": True})
    assert gated.status_code in (200, 409), gated.text
    assert not document.of_answer("post", f"{route}/versions/{{version}}/promote", gated)


def test_what_graphs_and_other_clients_are_answered_fits(document, service):
    rows = {name: [[101, 7592, 102]] if name == "input_ids" else [[number] * 3] for name, number in (("input_ids", 0), ("attention_mask", 1), ("token_type_ids", 0))}
    inputs = [{"name": name, "shape": [1, 3], "datatype": "INT64", "data": data} for name, data in rows.items()]
    assert not document.of_body("/v2/models/{model}/infer", {"inputs": inputs})
    answer = service.post(f"/v2/models/{TEXT}/infer", {"inputs": inputs})
    assert answer.status_code == 200, answer.text
    assert not document.of_answer("post", "/v2/models/{model}/infer", answer)
    sentences = {"inputs": {"source_sentence": "a", "sentences": ["b", "c"]}}
    for body in ({"inputs": "a"}, sentences):
        answer = service.post(f"/hf/{TEXT}", body)
        assert answer.status_code == 200 and not document.of_answer("post", "/hf/{model}", answer)
    answer = service.post("/v1/rerank", {"model": TEXT, "query": "a", "texts": ["b"], "return_text": True})
    assert answer.status_code == 200 and not document.of_answer("post", "/v1/rerank", answer)
    question = {"type": "score", "instructions": "How urgent?", "levels": [{"label": "low"}, {"label": "high", "description": "now"}]}
    body = {"model": TEXT, "input": "Help!", "questions": [question]}
    answer = service.post("/v1/decisions", body)
    assert answer.status_code == 200 and not document.of_answer("post", "/v1/decisions", answer)
    assert not document.of_body("/v1/decisions", body)


def test_outputs_as_bytes_are_of_a_type_that_the_document_names(document, service):
    given = triton.InferInput("input_ids", [1, 3], "INT64")
    given.set_data_from_numpy(numpy.array([[101, 7592, 102]]), binary_data=True)
    others = [triton.InferInput(name, [1, 3], "INT64") for name in ("attention_mask", "token_type_ids")]
    for other in others:
        other.set_data_from_numpy(numpy.ones((1, 3), dtype=numpy.int64), binary_data=True)
    wanted = [triton.InferRequestedOutput("last_hidden_state", binary_data=True)]
    body, length = triton.InferenceServerClient.generate_request_body([given, *others], outputs=wanted)
    answer = service.http.post(f"/v2/models/{TEXT}/infer", content=body, headers={"inference-header-content-length": str(length)})
    assert answer.status_code == 200, answer.text
    content = document.content["paths"]["/v2/models/{model}/infer"]["post"]["responses"]["200"]["content"]
    assert answer.headers["content-type"] == "application/octet-stream" and "application/octet-stream" in content


def test_what_a_purge_answers_fits(document, service, job):
    for body in ({"file": job.training_file, "rows": [3], "dry_run": True}, {"file": job.training_file, "rows": [3]}):
        assert not document.of_body("/v1/purges", body)
        answer = service.post("/v1/purges", body)
        assert answer.status_code == 200, answer.text
        assert not document.of_answer("post", "/v1/purges", answer)
    assert not document.of_answer("get", "/v1/purges", service.http.get("/v1/purges"))
