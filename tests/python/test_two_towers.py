"""Pictures and texts in one space: vectors, labels and comparisons equal ONNX Runtime, tokenizers, Pillow and numpy on the same files."""

import base64
import io
import json
import shutil
import tomllib
import zipfile

import numpy
import onnx
import onnxruntime
import openai
import pytest
from errors import assert_error
from pictures import photos, saved
from PIL import Image
from service import Service
from small_models import BIAS, CLIP, CLIP_MANIFEST, CLIP_TOKENS, SCALE, SIGLIP, SIGLIP_TOKENS, write_joint, write_json
from test_fine_tuning import finished
from test_words import imported
from tokenizers import Tokenizer

CLOSE = 2e-5
LABELS = ["cat", "red car", "dog", "blue house on the cat"]
TEXTS = ["a photo of the cat.", "dog", "this is a red car in the blue house , on a cat . " * 3]

# What each preprocessor and manifest says: shorter side, whether the shape is kept, filter, mean, deviation.
PICTURES = {
    CLIP: (32, True, Image.Resampling.BICUBIC, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)),
    CLIP_MANIFEST: (40, True, Image.Resampling.BILINEAR, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
    SIGLIP: (32, False, Image.Resampling.BICUBIC, (0.5,) * 3, (0.5,) * 3),
}
TEMPLATES = {
    CLIP: ["This is a photo of {}."], SIGLIP: ["This is a photo of {}."],
    CLIP_MANIFEST: ["a photo of a {}.", "the {} in the house"],
}
SCALES = {CLIP: 100.0, CLIP_MANIFEST: SCALE, SIGLIP: SCALE}
ALL = list(PICTURES)


class Towers:
    """Both graphs of a folder, used as transformers would."""

    def __init__(self, root, model):
        self.model, folder = model, root / model
        session = lambda name: onnxruntime.InferenceSession(str(folder / "onnx" / name), providers=["CPUExecutionProvider"])
        self.texts, self.pictures = session("text_model.onnx"), session("vision_model.onnx")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        if model == SIGLIP:
            self.tokenizer.enable_truncation(SIGLIP_TOKENS)
            self.tokenizer.enable_padding(length=SIGLIP_TOKENS, pad_id=1, pad_token="<pad>")
        else:
            self.tokenizer.enable_truncation(CLIP_TOKENS)

    def text(self, text):
        return unit(self.texts.run(None, {"input_ids": numpy.array([self.tokenizer.encode(text).ids])})[0][0])

    def picture(self, photo):
        shorter, crops, filter, mean, deviation = PICTURES[self.model]
        width, height = photo.size
        if crops:
            scale = shorter / min(width, height)
            size = (shorter, int(shorter * height / width)) if width <= height else (int(shorter * width / height), shorter)
            photo = photo.resize(size, filter)
            left, top = (round((length - 32) / 2) for length in photo.size)
            photo = photo.crop((left, top, left + 32, top + 32))
            assert scale < 1
        else:
            photo = photo.resize((32, 32), filter)
        values = (numpy.asarray(photo, numpy.float32) / numpy.float32(255) - numpy.float32(mean)) / numpy.float32(deviation)
        return unit(self.pictures.run(None, {"pixel_values": values.transpose(2, 0, 1)[None].astype(numpy.float32)})[0][0])

    def label(self, label):
        return unit(numpy.mean([self.text(template.replace("{}", label)) for template in TEMPLATES[self.model]], axis=0))


def unit(vector):
    vector = numpy.asarray(vector, dtype=numpy.float64)
    return vector / numpy.linalg.norm(vector)


def softmax(values):
    powers = numpy.exp(values - numpy.max(values))
    return powers / powers.sum()


@pytest.fixture(scope="module", params=ALL)
def towers(request, small):
    return Towers(small.models, request.param)


def data_url(photo):
    return "data:image/png;base64," + base64.b64encode(saved(photo, "PNG")).decode()


def seen():
    """The example photos; one much wider than high, where stretching and cropping differ."""
    return [photo.resize((300, 120)) if place == 0 else photo for place, photo in enumerate(photos())]


def test_texts_and_pictures_of_one_list_get_their_own_towers_vectors(small, towers):
    photo, other = seen()[:2]
    given = [TEXTS[0], data_url(photo), {"text": TEXTS[1]}, {"image": data_url(other)}, TEXTS[2]]
    expected = [towers.text(TEXTS[0]), towers.picture(photo), towers.text(TEXTS[1]), towers.picture(other), towers.text(TEXTS[2])]
    answer = small.post("/v1/embeddings", {"model": towers.model, "input": given}).json()
    for datum, vector in zip(answer["data"], expected, strict=True):
        assert numpy.abs(numpy.array(datum["embedding"]) - vector).max() < CLOSE
    assert [datum.get("truncated_tokens", 0) > 0 for datum in answer["data"]] == [False] * 4 + [True]
    used = sum(sum(encoded.attention_mask) for encoded in towers.tokenizer.encode_batch(TEXTS))
    assert answer["usage"]["prompt_tokens"] == used, "what only fills a text up is not counted"


def test_labels_of_pictures_are_scored_as_the_towers_were_trained(small, towers):
    labels = numpy.array([towers.label(label) for label in LABELS])
    body = {"model": towers.model, "input": [data_url(photo) for photo in seen()], "labels": LABELS}
    for photo, datum in zip(seen(), small.post("/v1/zero-shot", body).json()["data"], strict=True):
        expected = softmax(SCALES[towers.model] * labels @ towers.picture(photo))
        scores = {score["label"]: score["score"] for score in datum["scores"]}
        assert all(abs(scores[label] - score) < 1e-4 for label, score in zip(LABELS, expected, strict=True))
    own = small.post("/v1/zero-shot", body | {"template": "red {}", "input": body["input"][0]}).json()["data"][0]
    expected = softmax(SCALES[towers.model] * numpy.array([towers.text(f"red {label}") @ towers.picture(seen()[0]) for label in LABELS]))
    assert abs(own["score"] - max(expected)) < 1e-4 and own["label"] == LABELS[int(numpy.argmax(expected))]
    independent = small.post("/v1/zero-shot", body | {"multi_label": True})
    if towers.model != SIGLIP:
        assert_error(independent, 400, "invalid_value", "model", says="logit_bias")
        return
    for photo, datum in zip(seen(), independent.json()["data"], strict=True):
        expected = 1 / (1 + numpy.exp(-(SCALE * labels @ towers.picture(photo) + BIAS)))
        scores = {score["label"]: score["score"] for score in datum["scores"]}
        assert all(abs(scores[label] - score) < CLOSE for label, score in zip(LABELS, expected, strict=True))


def test_pictures_and_texts_are_compared_with_each_other(small, towers):
    photo = seen()[0]
    candidates = [TEXTS[0], data_url(seen()[1]), TEXTS[1]]
    vectors = [towers.text(TEXTS[0]), towers.picture(seen()[1]), towers.text(TEXTS[1])]
    expected = [towers.picture(photo) @ vector for vector in vectors]
    answer = small.post("/v1/similarity", {"model": towers.model, "input": data_url(photo), "candidates": candidates}).json()
    assert all(abs(datum["score"] - score) < CLOSE for datum, score in zip(answer["data"], expected, strict=True))
    ranked = small.post("/v1/rerank", {"model": towers.model, "query": TEXTS[0], "documents": [{"image": data_url(photo)}, TEXTS[1]]}).json()
    scores = {result["index"]: result["relevance_score"] for result in ranked["results"]}
    assert abs(scores[0] - towers.text(TEXTS[0]) @ towers.picture(photo)) < CLOSE
    assert abs(scores[1] - towers.text(TEXTS[0]) @ towers.text(TEXTS[1])) < CLOSE


def test_pictures_come_by_every_way_in(small, towers):
    photo = seen()[1]
    data, vector = saved(photo, "PNG"), towers.picture(photo)
    raw = small.http.post("/v1/embeddings", params={"model": towers.model}, content=data, headers={"content-type": "image/png"})
    form = small.http.post("/v1/embeddings", data={"model": towers.model}, files={"file": ("a.png", io.BytesIO(data))})
    stated = small.post("/v1/embeddings", {"model": towers.model, "input": base64.b64encode(data).decode(), "modality": "image"})
    for response in (raw, form, stated):
        assert numpy.abs(numpy.array(response.json()["data"][0]["embedding"]) - vector).max() < CLOSE
    labels = {"candidate_labels": LABELS}
    bare = small.post(f"/hf/{towers.model}", {"inputs": base64.b64encode(data).decode(), "parameters": labels}).json()
    assert bare == small.post("/v1/zero-shot", {"model": towers.model, "input": data_url(photo), "labels": LABELS}).json()["data"][0]["scores"]
    text = small.post(f"/hf/{towers.model}", {"inputs": TEXTS[0]}).json()
    assert numpy.abs(numpy.array(text[0]) - towers.text(TEXTS[0])).max() < CLOSE


def test_an_error_names_the_item_among_those_of_both_kinds(small):
    given = ["a cat", {"image": "AAAA"}, data_url(seen()[0])]
    assert_error(small.post("/v1/embeddings", {"model": CLIP, "input": given}), 415, "unsupported_media_type", "input[1]")
    long = [data_url(seen()[0]), "cat", TEXTS[2]]
    refused = small.post("/v1/embeddings", {"model": CLIP, "input": long, "truncate": "none"})
    assert_error(refused, 400, "context_length_exceeded", "input[2]")


def test_a_sound_is_refused_by_its_place(small, towers):
    answer = small.post("/v1/embeddings", {"model": towers.model, "input": [TEXTS[0], {"audio": "AAAA"}]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input[1]"), answer.text
    assert "audio but the model reads image and text" in answer.json()["error"]["message"]


def test_the_list_of_models_tells_what_two_towers_read(small):
    models = {model["id"]: model for model in small.http.get("/v1/models").json()["data"]}
    assert models[CLIP]["modality"] == "image" and models[CLIP]["modalities"] == ["image", "text"]
    assert models[CLIP]["max_tokens"] == CLIP_TOKENS and models[CLIP]["zero_shot"]


def weights(file):
    """Values of a graph's constants, whatever they are called."""
    return sorted(onnx.numpy_helper.to_array(tensor).tobytes() for tensor in onnx.load(file).graph.initializer)


def stating(folder, **fields):
    """The folder, whose `config.json` states more."""
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | fields)
    return folder


def scores_of(folder):
    """How the imported folder makes scores of cosines: the factor, and the bias if there is one."""
    spec = tomllib.loads((folder / "headstart.toml").read_text())["zero_shot"]
    return spec["logit_scale"], spec.get("logit_bias")


def test_one_graph_with_both_towers_is_parted_and_answers_as_two_do(small, tmp_path):
    source = write_joint(small.models / CLIP, tmp_path / "joint-clip")
    models = tmp_path / "models"
    said = imported(models, source, "joint")
    assert "text_model.onnx: what model.onnx needs for `text_embeds`; takes input_ids, attention_mask" in said
    assert "vision_model.onnx: what model.onnx needs for `image_embeds`; takes pixel_values" in said
    for tower in ("text", "vision"):
        assert weights(models / "joint" / f"{tower}_model.onnx") == weights(small.models / CLIP / "onnx" / f"{tower}_model.onnx")
    assert scores_of(models / "joint") == (SCALE, None)
    assert "zero_shot.logit_scale: 10.0 (because model.onnx multiplies cosines with it)" in said
    assert "states no logit_scale" not in said
    source.rename(models / "unparted")
    stating(shutil.copytree(small.models / CLIP, models / "split"), logit_scale=SCALE)
    running = Service(tmp_path, models=models)
    given = [TEXTS[0], data_url(seen()[0]), TEXTS[2], {"image": data_url(seen()[1])}]
    parted, split = (numpy.array(server.embed(model, given)) for server, model in ((running, "joint"), (small, CLIP)))
    assert numpy.abs(parted - split).max() < 2e-6
    body = {"input": data_url(seen()[0]), "labels": LABELS}
    parted, split = (running.post("/v1/zero-shot", body | {"model": model}).json() for model in ("joint", "split"))
    scores = [{score["label"]: score["score"] for score in answer["data"][0]["scores"]} for answer in (parted, split)]
    assert all(abs(scores[0][label] - scores[1][label]) < 1e-5 for label in LABELS)
    # In place it would be asked for texts and pictures at once.
    assert running.post("/v1/embeddings", {"model": "unparted", "input": "a"}).status_code != 200
    assert "`headstart import` of this folder parts it" in running.log()
    running.stop()


def test_a_scale_that_one_graph_computes_is_read_with_its_bias_unless_config_json_states_one(small, tmp_path):
    source, models = write_joint(small.models / CLIP, tmp_path / "joint", "exponential"), tmp_path / "models"
    imported(models, source, "computed")
    scale, bias = scores_of(models / "computed")
    assert abs(scale - SCALE) < 1e-5 and bias == BIAS
    imported(models, source, "given", "--set", "zero_shot.logit_scale=20.0")
    assert scores_of(models / "given") == (20.0, BIAS)
    said = imported(models, stating(source, logit_scale=3.0), "stated")
    assert scores_of(models / "stated") == (3.0, None) and "multiplies cosines" not in said


def test_a_scale_that_is_no_constant_of_one_graph_is_guessed_and_said_to_be(small, tmp_path):
    said = imported(tmp_path / "models", write_joint(small.models / CLIP, tmp_path / "joint", "mask"), "guessed")
    assert scores_of(tmp_path / "models" / "guessed") == (100.0, None)
    assert "the scale of its logits is not read from model.onnx: it depends on the input `attention_mask`" in said
    assert "guessed: config.json states no logit_scale: 100" in said


@pytest.fixture(scope="module")
def client(small):
    return openai.OpenAI(base_url=f"{small.url}/v1", api_key="none", max_retries=0)


def learned(client, model, name, content, suffix):
    """The answer of a job on either kind of examples."""
    file = client.files.create(file=(name, content), purpose="fine-tune")
    method = {"type": "linear_probe"}
    extra = {"report": {"budget_seconds": 0}}
    job = client.fine_tuning.jobs.create(model=model, training_file=file.id, suffix=suffix, seed=3, method=method, extra_body=extra)
    job = finished(client, job)
    assert job.status == "succeeded", job.error
    return job.fine_tuned_model


def test_classifiers_learn_from_pictures_and_from_texts_of_one_backbone(small, client):
    colours = {"red": (200, 30, 30), "blue": (30, 30, 200)}
    chance = numpy.random.default_rng(5)

    def patch(colour):
        noise = chance.integers(-25, 25, (40, 40, 3))
        return Image.fromarray((numpy.array(colours[colour]) + noise).clip(0, 255).astype(numpy.uint8))

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for colour in colours:
            for number in range(12):
                file.writestr(f"{colour}/{number}.png", saved(patch(colour), "PNG"))
    of_pictures = learned(client, CLIP, "colours.zip", archive.getvalue(), "colours")
    for colour in colours:
        answer = small.post("/v1/classify", {"model": of_pictures, "input": data_url(patch(colour))}).json()
        assert answer["data"][0]["label"] == colour

    lines = [json.dumps({"text": f"{start} {word}", "label": word}) for word in ("cat", "car") for start in
             ("a", "the", "this is a", "a photo of the", "red", "blue", "on the", "in a", "of the", "a red", "a blue", "the red")]
    of_texts = learned(client, CLIP, "words.jsonl", "\n".join(lines).encode(), "words")
    answer = small.post("/v1/classify", {"model": of_texts, "input": ["a photo of a cat", "the blue car"]}).json()
    assert [datum["label"] for datum in answer["data"]] == ["cat", "car"]
