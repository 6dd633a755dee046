"""A version as one ONNX file: run by ONNX Runtime alone it gives the scores that the service gives."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile

import numpy
import onnx
import pytest
from exported import Exported
from pictures import photos, saved
from service import BINARY, EXAMPLES, FAST_TEXT, IMAGE, MODELS, ROOT, TEXT, environment, wait_until
from texts import labelled_examples, made_texts

TOLERANCE = 1e-5

METHODS = ("linear_probe", "mlp", "prototype", "auto")
FITTED = METHODS[:3]
# Those that train the backbone itself: their files hold other weights than its own.
TUNED = {(TEXT, "full"), (TEXT, "lora"), (IMAGE, "partial")}
BRIEFLY = {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "share": 1.0}

TEXT_KINDS = [(TEXT, method) for method in FITTED] + [(FAST_TEXT, method) for method in METHODS]
TEXT_KINDS += [(FAST_TEXT, f"{method}, several labels") for method in FITTED]
TEXT_KINDS += sorted(kind for kind in TUNED if kind[0] == TEXT)
IMAGE_KINDS = [*FITTED, "partial"]
KINDS = TEXT_KINDS + [(IMAGE, method) for method in IMAGE_KINDS]


def doubtful(label, number, names):
    """Every sixth label is the next one's: scores of classifiers that are always right would compare only noughts and ones."""
    return names[(names.index(label) + (number % 6 == 0)) % len(names)]


def text_rows():
    """The example texts with labels."""
    rows = labelled_examples()
    names = sorted({label for _, label in rows})
    return [{"text": text, "label": doubtful(label, number, names)} for number, (text, label) in enumerate(rows)]


def many_label_rows():
    """Each text with its own label and, every third, a second one."""
    rows = labelled_examples()
    names = sorted({label for _, label in rows})
    for number, (text, label) in enumerate(rows):
        second = names[(names.index(label) + 1) % len(names)]
        yield {"text": text, "labels": [label, second] if number % 3 == 0 else [label]}


def archive():
    """Each example photo, turned a little this way and that, nearly always under a class of its own."""
    file, names = io.BytesIO(), ("cat", "coffee", "rocket")
    with zipfile.ZipFile(file, "w") as bundle:
        for label, photo in zip(names, photos(), strict=True):
            for number in range(12):
                folder = doubtful(label, number, names)
                bundle.writestr(f"{folder}/{label}-{number}.png", saved(photo.rotate(number * 7).resize((96, 96)), "PNG"))
    return file.getvalue()


def started(service, model, method, name, file):
    """A job's id."""
    # Stated, so that the cache of examples has its say beside the means; what folds choose may be none.
    given = {"alpha": 2.5, "beta": 5.5} if method == "prototype" else BRIEFLY if (model, method) in TUNED else {}
    method = {"type": method, method: {"hyperparameters": given}}
    body = {"model": model, "training_file": file, "suffix": name, "seed": 5, "method": method}
    answer = service.post("/v1/fine_tuning/jobs", body)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def uploaded(service, name, content):
    answer = service.http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": (name, content)})
    assert answer.json()["status"] == "processed", answer.text
    return answer.json()["id"]


def lines(rows):
    return "\n".join(json.dumps(row) for row in rows).encode()


@pytest.fixture(scope="module")
def classifiers(service):
    """Names of trained classifiers by backbone and kind; all are queued at once."""
    single, several = uploaded(service, "single.jsonl", lines(text_rows())), uploaded(service, "several.jsonl", lines(many_label_rows()))
    pictures = uploaded(service, "pictures.zip", archive())
    files = {TEXT: single, FAST_TEXT: single, IMAGE: pictures}
    jobs = {(model, kind): started(service, model, kind, f"{kind}-on-{model}", files[model]) for model, kind in KINDS if kind in METHODS or (model, kind) in TUNED}
    for method in FITTED:
        jobs[FAST_TEXT, f"{method}, several labels"] = started(service, FAST_TEXT, method, f"several-{method}", several)
    made = {}
    for key, job in jobs.items():
        path = f"/v1/fine_tuning/jobs/{job}"
        ended = wait_until(lambda path=path: (found := service.http.get(path).json())["status"] in {"succeeded", "failed"} and found, f"{key} ends")
        assert ended["status"] == "succeeded", ended
        made[key] = ended["fine_tuned_model"]
    return made


def download(service, model, **options):
    name, version = model.split("@")
    return service.http.get(f"/v1/classifiers/{name}/versions/{version}/onnx", **options)


def served_scores(service, model, given, classes, **fields):
    """The service's scores, `[items, classes]`."""
    body = {"model": model, "input": given, "top_k": len(classes), **fields}
    answer = wait_until(lambda: (found := service.post("/v1/classify", body)).status_code != 404 and found, f"{model} answers", 10)
    assert answer.status_code == 200, answer.text
    rows = [{score["label"]: score["score"] for score in datum["scores"]} for datum in answer.json()["data"]]
    return numpy.array([[row[name] for name in classes] for row in rows])


def assert_agree(outputs, served, several):
    probabilities, logits = outputs["probabilities"], outputs["logits"]
    assert probabilities.shape == served.shape
    assert len(served) == 1 or ((served > 0.01) & (served < 0.99)).any(), "scores of 0 and 1 would compare nothing"
    assert numpy.abs(probabilities - served).max() <= TOLERANCE
    if several:
        expected = 1 / (1 + numpy.exp(-logits.astype(numpy.float64)))
    else:
        expected = numpy.exp(logits.astype(numpy.float64) - logits.max(axis=1, keepdims=True))
        expected /= expected.sum(axis=1, keepdims=True)
    assert numpy.abs(probabilities - expected).max() <= TOLERANCE


@pytest.mark.parametrize(("model", "kind"), TEXT_KINDS)
def test_a_text_classifiers_file_gives_the_services_scores(service, classifiers, model, kind):
    name = classifiers[model, kind]
    exported = Exported(download(service, name).content)
    several = "several" in kind
    # Short and long ones in one batch, one beyond the most tokens, one empty but for its special tokens.
    texts = [*[text for text, _ in labelled_examples()[::27]], *made_texts([1, 300]), " "]
    served = served_scores(service, name, texts, exported.classes)
    assert_agree(exported.texts(texts), served, several)
    for index in (0, len(texts) - 2, len(texts) - 1):
        assert_agree(exported.texts(texts[index : index + 1]), served[index : index + 1], several)
    apart = numpy.abs(exported.texts(texts)["embedding"] - numpy.array(service.embed(model, texts))).max()
    assert apart > 0.01 if (model, kind) in TUNED else apart <= TOLERANCE


@pytest.mark.parametrize("method", IMAGE_KINDS)
def test_an_image_classifiers_file_gives_the_services_scores(service, classifiers, method):
    name = classifiers[IMAGE, method]
    exported = Exported(download(service, name).content)
    pictures = [*photos(), photos()[0].rotate(90, expand=True), photos()[1].resize((300, 90)), photos()[2].crop((0, 0, 60, 80))]
    given = ["data:image/png;base64," + base64.b64encode(saved(picture, "PNG")).decode() for picture in pictures]
    served = served_scores(service, name, given, exported.classes)
    outputs = exported.pictures(pictures)
    assert_agree(outputs, served, several=False)
    assert_agree(exported.pictures(pictures[4:5]), served[4:5], several=False)
    apart = numpy.abs(outputs["embedding"] - numpy.array(service.embed(IMAGE, given))).max()
    assert apart > 0.001 if (IMAGE, method) in TUNED else apart <= TOLERANCE


@pytest.mark.parametrize(("model", "kind"), [(TEXT, "mlp"), (FAST_TEXT, "prototype"), (IMAGE, "linear_probe"), (TEXT, "full")])
def test_a_file_is_valid_and_says_what_it_is(service, classifiers, model, kind):
    name = classifiers[model, kind]
    data = download(service, name).content
    read = onnx.load_from_string(data)
    onnx.checker.check_model(read, full_check=model != FAST_TEXT)
    notes = {entry.key: entry.value for entry in read.metadata_props}
    assert len(notes) == len(read.metadata_props), "keys are distinct"
    assert notes["headstart.classifier"] == name and notes["headstart.method"] == kind
    assert notes["headstart.backbone"] == model
    weights = (MODELS / model / "model.onnx").read_bytes()
    assert notes["headstart.backbone_sha256"] == hashlib.sha256(weights).hexdigest()
    for key in ("classes", "modality", "normalise", "outputs"):
        assert notes[f"headstart.{key}"] in read.doc_string
    if model != IMAGE:
        tokenizer = (MODELS / model / "tokenizer.json").read_bytes()
        assert notes["headstart.text_tokenizer"].encode() == tokenizer
        assert notes["headstart.text_tokenizer_sha256"] == hashlib.sha256(tokenizer).hexdigest()
        assert notes["headstart.text_max_tokens"] == "256"
    assert any(node.op_type == "OneHot" for node in read.graph.node) == (kind == "prototype"), "the cache is there"
    # What the backbone says of itself stays, and its weights are there as stored; the source task's own head is not.
    backbone = onnx.load_from_string(weights)
    assert {(entry.key, entry.value) for entry in backbone.metadata_props} <= set(notes.items())
    stored = {tensor.name: tensor for tensor in backbone.graph.initializer}
    kept = [tensor for tensor in read.graph.initializer if tensor.name in stored]
    # Of a backbone that was trained other weights are there.
    assert all(tensor == stored[tensor.name] for tensor in kept) == ((model, kind) not in TUNED)
    assert (model, kind) in TUNED or set(stored) - {tensor.name for tensor in kept} == ({"_fc.weight.float16", "_fc.bias"} if model == IMAGE else set())
    assert [output.name for output in read.graph.output] == ["logits", "probabilities", "embedding"]


def readme_classifier(service):
    """The name of the version that README's commands make, whose file the page's first program reads."""
    file = uploaded(service, "banking77.csv", (EXAMPLES / "banking77.csv").read_bytes())
    answer = service.post("/v1/fine_tuning/jobs", {"model": TEXT, "training_file": file, "suffix": "intents", "seed": 1})
    assert answer.status_code == 200, answer.text
    path = f"/v1/fine_tuning/jobs/{answer.json()['id']}"
    ended = wait_until(lambda: (found := service.http.get(path).json())["status"] in {"succeeded", "failed"} and found, "README's job ends")
    assert ended["status"] == "succeeded", ended
    return ended["fine_tuned_model"]


def test_the_pages_recipes_run(service, classifiers, tmp_path):
    """The programs of docs/EXPORT.md, as a reader copies them, give the scores that the service gives and the page shows."""
    text, image = readme_classifier(service), classifiers[IMAGE, "linear_probe"]
    for name, model in (("intents", text), ("things", image)):
        (tmp_path / f"{name}-1.onnx").write_bytes(download(service, model).content)
    shutil.copy(EXAMPLES / "cat.jpg", tmp_path)
    page = (ROOT / "docs" / "EXPORT.md").read_text()
    programs = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    printed = [subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True).stdout for program in programs]
    shown = re.search(r"```python\n.*?```\n```console\n(.*?)```", page, re.DOTALL)[1]
    for found, expected in zip(printed[0].splitlines(), shown.splitlines(), strict=True):
        (label, score), (shown_label, shown_score) = found.rsplit(" ", 1), expected.rsplit(" ", 1)
        assert label == shown_label and abs(float(score) - float(shown_score)) < 1e-3, (found, expected)
    question = re.search(r'encode_batch\(\["(.*?)"', programs[0])[1]
    photo = "data:image/jpeg;base64," + base64.b64encode((EXAMPLES / "cat.jpg").read_bytes()).decode()
    for output, model, given in zip(printed, (text, image), (question, photo), strict=True):
        (answer,) = service.post("/v1/classify", {"model": model, "input": [given]}).json()["data"]
        label, score = output.splitlines()[0].rsplit(" ", 1)
        assert label == answer["label"]
        # The two decoders of JPEG differ by a grey level here and there.
        assert abs(float(score) - answer["score"]) <= (TOLERANCE if model == text else 0.02)


def test_the_same_version_is_the_same_file_and_is_not_sent_twice(service, classifiers):
    name = classifiers[IMAGE, "prototype"]
    first, second = download(service, name), download(service, name)
    assert first.content == second.content and first.headers["etag"] == second.headers["etag"]
    assert int(first.headers["content-length"]) == len(first.content)
    assert first.headers["content-disposition"] == f'attachment; filename="{name.replace("@", "-")}.onnx"'
    again = download(service, name, headers={"if-none-match": f'"other", {first.headers["etag"]}'})
    assert again.status_code == 304 and again.content == b"" and again.headers["etag"] == first.headers["etag"]
    other = download(service, classifiers[IMAGE, "mlp"], headers={"if-none-match": first.headers["etag"]})
    assert other.status_code == 200 and other.headers["etag"] != first.headers["etag"]


def test_what_is_not_there_is_404(service, classifiers):
    name = classifiers[TEXT, "mlp"].split("@")[0]
    for model in (f"{name}@7", f"{name}@one", "nobody@1"):
        answer = download(service, model)
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "not_found", answer.text
        assert model.split("@")[0] in answer.json()["error"]["message"]


def test_a_file_far_larger_than_the_head_is_not_held_in_memory(service, classifiers):
    name, version = classifiers[TEXT, "linear_probe"].split("@")
    download(service, f"{name}@{version}")
    before = service.resident_megabytes()
    for _ in range(3):
        with service.http.stream("GET", f"/v1/classifiers/{name}/versions/{version}/onnx") as answer:
            chunks = answer.iter_raw()
            next(chunks)
            assert service.resident_megabytes() - before < 15
    assert service.resident_megabytes() - before < 15


def test_the_terminal_writes_the_same_file_without_a_server(service, classifiers, tmp_path):
    sent = download(service, classifiers[TEXT, "linear_probe"])
    command = [BINARY, "export", "--models", MODELS, "--data", service.data, classifiers[TEXT, "linear_probe"], "--output", tmp_path / "it.onnx"]
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "it.onnx").read_bytes() == sent.content
    assert [path.name for path in tmp_path.iterdir()] == ["it.onnx"]


def test_a_tuned_versions_file_is_the_same_once_its_folder_was_removed(service, classifiers):
    sent = download(service, classifiers[TEXT, "lora"])
    assert sent.status_code == 200, sent.text
    shutil.rmtree(service.data / "variants")
    again = download(service, classifiers[TEXT, "lora"])
    assert again.status_code == 200, again.text
    assert again.content == sent.content


def test_a_version_whose_backbone_is_gone_or_another_is_409(start, tmp_path):
    """Served from a folder of links whose one backbone changes between two starts."""
    models = tmp_path / "models"
    (models / IMAGE).mkdir(parents=True)
    for file in (MODELS / IMAGE).iterdir():
        (models / IMAGE / file.name).symlink_to(file)
    (models / TEXT).symlink_to(MODELS / TEXT)
    data = tmp_path / "data"
    first = start(models=models, data=data)
    job = started(first, IMAGE, "prototype", "things", uploaded(first, "pictures.zip", archive()))
    wait_until(lambda: first.http.get(f"/v1/fine_tuning/jobs/{job}").json()["status"] == "succeeded", "the job ends")
    assert download(first, "things@1").status_code == 200

    # Other weights under the name: a note more at the end of the file.
    weights = (MODELS / IMAGE / "model.onnx").read_bytes() + b"\x72\x06\x0a\x01a\x12\x01b"
    (models / IMAGE / "model.onnx").unlink()
    (models / IMAGE / "model.onnx").write_bytes(weights)
    refused = download(first, "things@1")
    assert refused.status_code == 409 and "model.onnx" in refused.json()["error"]["message"]
    assert "/" not in refused.json()["error"]["message"], refused.text
    first.stop()

    manifest = (MODELS / IMAGE / "headstart.toml").read_text()
    digests = hashlib.sha256((MODELS / IMAGE / "model.onnx").read_bytes()).hexdigest(), hashlib.sha256(weights).hexdigest()
    for name, content in (("model.onnx", weights), ("headstart.toml", manifest.replace(*digests).encode())):
        (models / IMAGE / name).unlink()
        (models / IMAGE / name).write_bytes(content)
    second = start(models=models, data=data)
    refused = download(second, "things@1")
    assert refused.status_code == 409 and refused.headers["x-should-retry"] == "false"
    assert all(digest in refused.json()["error"]["message"] for digest in digests)
    second.stop()

    for file in (models / IMAGE).iterdir():
        file.unlink()
    third = start(models=models, data=data)
    refused = download(third, "things@1")
    assert refused.status_code == 409 and f"`{IMAGE}`" in refused.json()["error"]["message"]
