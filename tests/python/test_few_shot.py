"""Classifiers without a job: by labels alone, by a few examples, and by enough of them, against numpy's own sums."""

import base64
import io
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
from PIL import Image
from service import IMAGE, TEXT, wait_until

LABELS = ["refund", "delivery", "praise"]
EXAMPLES = {
    "refund": ["I want my money back.", "Please return what I paid.", "Can I get a refund?", "Give me my cash back", "I would like to be reimbursed", "The charge must be reversed", "Refund this order please", "I was billed twice, pay it back"],
    "delivery": ["Where is my parcel?", "The package has not arrived.", "When will it be shipped?", "My order is late", "The courier never came", "Track my shipment", "It was sent to the wrong address", "The box is still in transit"],
    "praise": ["You are wonderful!", "Thanks, great service.", "I love this shop", "Best purchase ever", "Everything was perfect", "Such friendly people", "Five stars from me", "I am so happy with it"],
}
ASKED = ["Send the money back to my account", "Has the postman been here yet?", "What a lovely team", "My card was charged and I want it undone"]

_names = itertools.count()


@pytest.fixture
def name():
    return f"few-{next(_names)}"


def created(service, name, model=TEXT, **fields):
    answer = service.post("/v1/classifiers", {"name": name, "model": model, "labels": LABELS, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def some(count):
    return [{"text": text, "label": label} for label in LABELS for text in EXAMPLES[label][:count]]


def added(service, name, examples):
    answer = service.post(f"/v1/classifiers/{name}/examples", {"examples": examples})
    assert answer.status_code == 200, answer.text
    return answer.json()


def scores(service, path, **body):
    """`items × labels` and the answers."""
    data = service.post(path, {"input": ASKED, **body}).json()["data"]
    rows = [{score["label"]: score["score"] for score in datum["scores"]} for datum in data]
    return numpy.array([[row[label] for label in LABELS] for row in rows]), data


def features(service, texts):
    data = service.post("/v1/embeddings", {"model": TEXT, "input": texts}).json()["data"]
    found = numpy.array([datum["embedding"] for datum in data])
    return found / numpy.linalg.norm(found, axis=1, keepdims=True)


def softmax(logits):
    powers = numpy.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def pooled(service, examples, weight, scale):
    """What names and means say together of what is asked."""
    names, _ = scores(service, "/v1/zero-shot", model=TEXT, labels=LABELS)
    rows = features(service, [example["text"] for example in examples])
    means = numpy.array([sum(row for row, example in zip(rows, examples, strict=True) if example["label"] == label) for label in LABELS])
    means /= numpy.linalg.norm(means, axis=1, keepdims=True)
    said = softmax(scale * features(service, ASKED) @ means.T)
    return softmax((1 - weight) * numpy.log(names) + weight * numpy.log(said))


def test_labels_alone_answer_as_zero_shot_does(service, name):
    made = created(service, name)
    assert made["production"] == 1 and made["versions"][0]["origin"] == "examples"
    found, data = scores(service, "/v1/classify", model=name)
    expected, _ = scores(service, "/v1/zero-shot", model=TEXT, labels=LABELS)
    assert found == pytest.approx(expected, abs=1e-6)
    assert {datum["rung"] for datum in data} == {"zero_shot"}
    several, _ = scores(service, "/v1/classify", model=[name])
    assert several == pytest.approx(expected, abs=1e-6)


def test_one_example_a_label_is_pooled_with_the_names(service, name):
    created(service, name)
    examples = some(1)
    answer = added(service, name, examples)
    assert (answer["version"], answer["rung"], answer["added"]) == (2, "few_shot", 3)
    found, data = scores(service, "/v1/classify", model=name)
    assert {datum["rung"] for datum in data} == {"few_shot"}
    assert found == pytest.approx(pooled(service, examples, weight=0.25, scale=20), abs=1e-4)


def test_weight_and_scale_of_more_examples_are_those_that_cost_least_left_out(service, name):
    created(service, name)
    examples = some(3)
    added(service, name, examples)
    rows = features(service, [example["text"] for example in examples])
    places = numpy.array([LABELS.index(example["label"]) for example in examples])
    answer = service.post("/v1/zero-shot", {"model": TEXT, "input": [example["text"] for example in examples], "labels": LABELS})
    names = numpy.array([[next(s["score"] for s in datum["scores"] if s["label"] == label) for label in LABELS] for datum in answer.json()["data"]])
    cosines = numpy.zeros((len(examples), len(LABELS)))
    for row, label in itertools.product(range(len(examples)), range(len(LABELS))):
        others = rows[[other for other in range(len(examples)) if places[other] == label and other != row]].sum(axis=0)
        cosines[row, label] = rows[row] @ others / numpy.linalg.norm(others)

    def cost(weight, scale):
        both = softmax((1 - weight) * numpy.log(names) + weight * numpy.log(softmax(scale * cosines)))
        loss = -numpy.log(both[numpy.arange(len(places)), places]).sum()
        return loss + 4 * (weight - 0.5) ** 2 + 4 / 16 * numpy.log2(scale / 20) ** 2

    weight, scale = min(itertools.product(numpy.arange(1, 10) / 10, (10, 20, 40)), key=lambda pair: cost(*pair))
    found, _ = scores(service, "/v1/classify", model=name)
    assert found == pytest.approx(pooled(service, examples, weight, scale), abs=1e-3)


def test_enough_examples_make_a_tuned_head_and_earlier_versions_stay(service, name):
    created(service, name)
    added(service, name, some(2))
    answer = added(service, name, some(8))
    assert (answer["version"], answer["rung"], answer["added"], answer["unchanged"]) == (3, "prototype", 18, 6)
    assert answer["labels"] == [{"label": label, "examples": 8} for label in LABELS]
    _, data = scores(service, "/v1/classify", model=name)
    assert [datum["label"] for datum in data] == ["refund", "delivery", "praise", "refund"]
    rungs = [scores(service, "/v1/classify", model=f"{name}@{version}")[1][0]["rung"] for version in (1, 2, 3)]
    assert rungs == ["zero_shot", "few_shot", "prototype"]
    service.post(f"/v1/classifiers/{name}/rollback", {})
    assert scores(service, "/v1/classify", model=name)[1][0]["rung"] == "few_shot"
    assert service.http.get(f"/v1/classifiers/{name}/versions/3/onnx").status_code == 409


def test_an_example_sent_again_changes_nothing_unless_its_label_does(service, name):
    created(service, name)
    first = added(service, name, some(2))
    again = added(service, name, some(2))
    assert (again["version"], again["added"], again["unchanged"]) == (first["version"], 0, 6)
    moved = added(service, name, [{"text": EXAMPLES["refund"][0], "label": "praise"}])
    assert (moved["version"], moved["replaced"]) == (3, 1)
    assert [label["examples"] for label in moved["labels"]] == [1, 2, 3]


def test_examples_that_are_to_be_forgotten_leave_the_version_that_answers(service, name):
    created(service, name)
    added(service, name, some(1))
    found, _ = scores(service, "/v1/classify", model=name)
    extra = {"text": "reimburse me", "label": "refund"}
    added(service, name, [extra])
    answer = service.post(f"/v1/classifiers/{name}/examples/forget", {"examples": [{"text": "reimburse me"}]}).json()
    assert (answer["forgotten"], answer["version"], answer["still_in"]) == (1, 4, [f"{name}@3"])
    assert scores(service, "/v1/classify", model=name)[0] == pytest.approx(found)
    none = service.post(f"/v1/classifiers/{name}/examples/forget", {"examples": [{"text": "never seen"}]}).json()
    assert (none["forgotten"], none["version"]) == (0, 4)


def test_pictures_are_examples_too(service, name):
    def picture(colour, shade):
        written = io.BytesIO()
        Image.new("RGB", (64, 64), tuple(shade if place == colour else 10 for place in range(3))).save(written, "PNG")
        return base64.b64encode(written.getvalue()).decode()

    answer = service.post("/v1/classifiers", {"name": name, "model": IMAGE, "labels": ["red thing", "blue thing"]})
    assert answer.status_code == 200, answer.text
    examples = [{"image": picture(colour, shade), "label": label} for colour, label in ((0, "red thing"), (2, "blue thing")) for shade in range(120, 250, 14)]
    assert added(service, name, examples)["rung"] == "prototype"
    asked = [{"image": picture(0, 199)}, {"image": picture(2, 199)}]
    data = service.post("/v1/classify", {"model": name, "input": asked}).json()["data"]
    assert [datum["label"] for datum in data] == ["red thing", "blue thing"]


def test_several_labels_an_item_are_independent(service, name):
    created(service, name, multi_label=True)
    expected, _ = scores(service, "/v1/zero-shot", model=TEXT, labels=LABELS, multi_label=True)
    found, _ = scores(service, "/v1/classify", model=name)
    assert found == pytest.approx(expected, abs=1e-6)
    both = {"text": "Great shop, but where is my parcel?", "labels": ["praise", "delivery"]}
    answer = added(service, name, [both, *({"text": text, "labels": [label]} for label in LABELS for text in EXAMPLES[label])])
    assert answer["rung"] == "prototype"
    _, data = scores(service, "/v1/classify", model=name)
    assert data[0]["labels"] == ["refund"]


def test_a_prototype_that_a_job_fitted_takes_examples_in_and_other_heads_do_not(service, name):
    rows = "\n".join(["text,label", *(f'"{text}",{label}' for label in LABELS for text in EXAMPLES[label])])
    file = service.http.post("/v1/files", files={"file": ("rows.csv", rows.encode())}, data={"purpose": "fine-tune"}).json()
    for method, status in (("prototype", 200), ("linear_probe", 409)):
        suffix = f"{name}-{method.replace('_', '-')}"
        body = {"model": TEXT, "training_file": file["id"], "suffix": suffix, "seed": 1, "method": {"type": method, method: {"hyperparameters": {}}}}
        job = service.post("/v1/fine_tuning/jobs", body).json()
        finished(service, job["id"])
        shown = {"examples": [{"text": "refund me", "label": "refund"}]}
        answer = service.post(f"/v1/classifiers/{suffix}/examples", shown, headers={"Idempotency-Key": suffix})
        assert answer.status_code == status, answer.text
        if status == 200:
            assert (answer.json()["version"], answer.json()["added"], answer.json()["rung"]) == (2, 1, "prototype")
            assert service.post("/v1/classify", {"model": suffix, "input": "refund me"}).json()["data"][0]["label"] == "refund"
            again = service.post(f"/v1/classifiers/{suffix}/examples", shown, headers={"Idempotency-Key": suffix})
            assert again.json() == answer.json(), "sent again under its key it is counted once"
            kept = service.post(f"/v1/classifiers/{suffix}/examples/forget", shown)
            assert kept.status_code == 409 and "the means of its examples" in kept.json()["error"]["message"], kept.text


def finished(service, job):
    def over():
        found = service.http.get(f"/v1/fine_tuning/jobs/{job}").json()
        return found if found["status"] not in {"queued", "running", "validating_files"} else None

    found = wait_until(over, "the job's end")
    assert found["status"] == "succeeded", found


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"model": TEXT, "labels": LABELS}, "name", "is missing"),
        ({"name": "Shop 1", "model": TEXT, "labels": LABELS}, "name", "such as `shop-1`"),
        ({"name": TEXT, "model": TEXT, "labels": LABELS}, "name", "backbone"),
        ({"name": "x", "model": "no-such", "labels": LABELS}, "model", "does not exist"),
        ({"name": "x", "model": TEXT, "labels": ["one"]}, "labels", "one label"),
        ({"name": "x", "model": TEXT, "labels": ["a", "a"]}, "labels[1]", "once more"),
        ({"name": "x", "model": TEXT, "labels": LABELS, "template": "no place"}, "template", "{}"),
    ],
)
def test_a_classifier_that_cannot_be_made_names_the_field(service, body, param, words):
    answer = service.post("/v1/classifiers", body)
    error = answer.json()["error"]
    assert answer.status_code in {400, 404} and error["param"] == param and words in error["message"], error


@pytest.mark.parametrize(
    ("examples", "param", "words"),
    [
        ([], "examples", "is empty"),
        ([{"text": "a", "label": "refund"}, {"text": "b", "label": "other"}], "examples[1]", "`refund`, `delivery`, `praise`"),
        ([{"text": "a"}], "examples[0]", "no label"),
        ([{"text": "a", "labels": ["refund", "praise"]}], "examples[0]", "several labels"),
        ([{"image": "aGk=", "label": "refund"}], "examples[0]", "reads text"),
        ([{"text": "a", "label": "refund", "labels": []}], "examples[0]", "both"),
        ([{"text": "", "label": "refund"}], "examples[0].text", "is empty"),
        ([{"text": "a", "label": "refund"}, {"text": "", "label": "refund"}], "examples[1].text", "is empty"),
    ],
)
def test_examples_that_cannot_be_learned_from_name_the_field(service, name, examples, param, words):
    created(service, name)
    answer = service.post(f"/v1/classifiers/{name}/examples", {"examples": examples})
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["param"] == param and words in error["message"], error
    assert service.http.get(f"/v1/classifiers/{name}").json()["last_version"] == 1


def test_a_name_is_made_once_and_a_repeated_request_is_answered_alike(service, name):
    body = {"name": name, "model": TEXT, "labels": LABELS}
    key = {"Idempotency-Key": name}
    first = service.post("/v1/classifiers", body, headers=key)
    assert service.post("/v1/classifiers", body, headers=key).json() == first.json()
    other = service.post("/v1/classifiers", body)
    assert other.status_code == 409 and other.headers["x-should-retry"] == "false"
    assert service.post("/v1/classifiers/no-such/examples", {"examples": some(1)}).status_code == 404


def test_examples_added_side_by_side_are_all_kept(service, name):
    created(service, name)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda example: added(service, name, [example]), some(2)))
    again = added(service, name, some(2))
    assert (again["added"], again["unchanged"]) == (0, 6)
