"""Folders as Hugging Face's exporters write them, without a manifest."""

import numpy
import onnxruntime
from pictures import cat
from PIL import Image, ImageOps
from reference import text_features
from service import EXAMPLES, TEXT
from small_models import CLASSIFIER, CLIP, ENCODER, ENTAILING_FOLDER, RERANKER, SIGLIP

QUESTIONS = ["How do I get my money back?", "my card has not arrived " * 60]


def test_a_sentence_encoders_folder_gives_the_vectors_of_the_bundled_model(small):
    vectors = small.embed(ENCODER, QUESTIONS)
    for text, vector in zip(QUESTIONS, vectors, strict=True):
        assert numpy.abs(numpy.array(vector) - text_features(TEXT, text)).max() < 2e-5


def test_a_classifiers_folder_gives_its_logits_as_features(small):
    answer = small.http.post("/v1/embeddings", params={"model": CLASSIFIER}, content=cat(), headers={"content-type": "image/jpeg"}).json()
    photo = ImageOps.exif_transpose(Image.open(EXAMPLES / "cat.jpg")).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
    values = (numpy.asarray(photo, numpy.float32) / numpy.float32(255) - numpy.float32(0.5)) / numpy.float32(0.5)
    session = onnxruntime.InferenceSession(str(small.models / CLASSIFIER / "model.onnx"), providers=["CPUExecutionProvider"])
    logits = session.run(None, {"pixel_values": values.transpose(2, 0, 1)[None]})[0][0].astype(float)
    # Decoders of JPEG may differ by a grey level.
    assert numpy.array(answer["data"][0]["embedding"]) @ (logits / numpy.linalg.norm(logits)) > 0.999


def test_what_a_folder_leaves_open_is_logged_and_what_it_is_is_listed(small):
    models = {model["id"]: model for model in small.http.get("/v1/models").json()["data"]}
    for name in (ENCODER, CLASSIFIER, CLIP, SIGLIP, RERANKER, ENTAILING_FOLDER):
        assert models[name]["status"] == "ready", models[name]
    assert "dimension" not in models[RERANKER] and models[ENCODER]["dimension"] == 384
    assert models[ENTAILING_FOLDER]["zero_shot"] and not models[RERANKER]["zero_shot"]
    assert "config.json states no logit_scale: 100" in small.log()
    assert "logits: they are its features" in small.log()


def test_a_folder_that_is_not_understood_is_listed_with_the_reason(small, start, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    (models / RERANKER).symlink_to(small.models / RERANKER)
    broken = models / "broken"
    broken.mkdir()
    (broken / "model.onnx").symlink_to(small.models / CLASSIFIER / "model.onnx")
    (broken / "config.json").write_text('{"model_type": "bert"}')
    bare = models / "bare"
    bare.mkdir()
    (bare / "model.onnx").symlink_to(small.models / CLASSIFIER / "model.onnx")
    (models / "notes").mkdir()
    (models / "notes" / "README.md").write_text("Not a backbone.")
    service = start(models=models)
    listed = {model["id"]: model for model in service.http.get("/v1/models").json()["data"]}
    assert listed["broken"]["status"] == "broken" and "last_hidden_state" in listed["broken"]["error"], listed
    assert listed[RERANKER]["status"] == "ready"
    assert set(listed) == {"broken", "bare", RERANKER}
    said = "no headstart.toml and no config.json; `headstart import`"
    assert listed["bare"]["status"] == "broken" and said in listed["bare"]["error"], listed
    assert said in service.log()
    load = service.http.post("/v1/models/bare/load")
    assert load.status_code != 404 and said in load.text, load.text
