"""Image graphs of every shape that exporters give: the features equal ONNX Runtime's, pooled by numpy, alone and among others."""

import base64
import json
import shutil

import numpy
import onnxruntime
import pytest
from exported import Exported
from onnx import TensorProto
from pictures import photos, saved
from PIL import Image
from service import Service, wait_until
from small_graphs import SHAPES, SIDE, folder_of

NEAR = 2e-6
# Half precision has 11 bits; the graph's sums differ in the last ones from call to call.
NEAR_HALF = 2e-3


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for index, shape in enumerate(SHAPES):
        folder_of(shape, root, index)
    return root


@pytest.fixture(scope="module")
def served(tmp_path_factory, models):
    running = Service(tmp_path_factory.mktemp("served"), "--cache-bytes", 0, models=models)
    yield running
    running.stop()


def given():
    """Seven parts of the example photos, all of other sizes."""
    first = photos()[0]
    return [first.crop((10 * i, 5 * i, 10 * i + 60 + 7 * i, 5 * i + 90 - 3 * i)) for i in range(7)]


def as_url(picture):
    return "data:image/png;base64," + base64.b64encode(saved(picture, "PNG")).decode()


def expected(shape, path, picture):
    """Pillow, ONNX Runtime and numpy on one picture; as many copies as the graph insists on."""
    width, height = picture.size
    shorter = min(width, height)
    resized = picture.resize((int(40 * width / shorter), int(40 * height / shorter)), Image.Resampling.BILINEAR)
    left, top = (round((length - SIDE) / 2) for length in resized.size)
    pixels = numpy.asarray(resized.crop((left, top, left + SIDE, top + SIDE)), dtype=numpy.float32)
    if shape.order == "bgr":
        pixels = pixels[:, :, ::-1]
    values = (pixels * numpy.float32(shape.scale) - numpy.float32(shape.mean)) / numpy.float32(shape.std)
    if shape.layout == "nchw":
        values = values.transpose(2, 0, 1)
    kind = {TensorProto.FLOAT16: numpy.float16, TensorProto.UINT8: numpy.uint8}.get(shape.element, numpy.float32)
    copies = shape.batch if isinstance(shape.batch, int) else 1
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    row = session.run(["features"], {"image": numpy.stack([values] * copies).astype(kind)})[0][0].astype(numpy.float64)
    if shape.output == "map":
        row = row.reshape(len(row), -1).T
    elif shape.output == "map_last":
        row = row.reshape(-1, row.shape[-1])
    row = {"none": lambda: row, "mean": lambda: row.mean(axis=0), "max": lambda: row.max(axis=0), "cls": lambda: row[0]}[shape.pooling]()
    return row / numpy.linalg.norm(row)


@pytest.mark.parametrize("index", range(len(SHAPES)), ids=[str(shape) for shape in SHAPES])
def test_features_equal_the_runtimes_alone_and_among_others(served, models, index):
    shape, pictures = SHAPES[index], given()
    near = NEAR_HALF if shape.element == TensorProto.FLOAT16 else NEAR
    together = served.embed(f"small-{index}", [as_url(picture) for picture in pictures])
    for picture, vector in zip(pictures, together, strict=True):
        wanted = expected(shape, models / f"small-{index}" / "model.onnx", picture)
        assert numpy.abs(numpy.array(vector) - wanted).max() < near
    (alone,) = served.embed(f"small-{index}", as_url(pictures[2]))
    assert numpy.abs(numpy.array(alone) - together[2]).max() < near


@pytest.mark.parametrize("name", ["map, mean", "map, max", "map, channels last", "patches, first", "half precision map"])
def test_an_export_pools_as_the_service_does(served, name):
    index = [shape.name for shape in SHAPES].index(name)
    pictures = given()
    near = NEAR_HALF if SHAPES[index].element == TensorProto.FLOAT16 else 1e-5
    exported = Exported(exported_file(served, f"small-{index}"))
    kind = {"tensor(float16)": "float16", "tensor(float)": "float32"}[exported.session.get_inputs()[0].type]
    assert f"Reads pictures as {kind} [" in exported.session.get_modelmeta().description
    embeddings = exported.pictures(pictures)["embedding"]
    served_ones = served.embed(f"small-{index}", [as_url(picture) for picture in pictures])
    assert numpy.abs(embeddings - numpy.array(served_ones)).max() < near


def exported_file(served, model):
    """The file of a classifier that was fitted on pictures of two kinds."""
    rows = [
        {"label": str(number % 2), "image": base64.b64encode(saved(photos()[number % 2].rotate(7 * number).resize((48, 48)), "PNG")).decode()}
        for number in range(16)
    ]
    content = "\n".join(json.dumps(row) for row in rows)
    file = served.http.post("/v1/files", files={"file": ("rows.jsonl", content)}, data={"purpose": "fine-tune"}).json()
    assert file["status"] == "processed", file
    body = {"model": model, "training_file": file["id"], "suffix": f"of-{model}", "method": {"type": "prototype"}}
    job = served.post("/v1/fine_tuning/jobs", body).json()
    job = wait_until(lambda: finished(served, job["id"]), "the job ends")
    assert job["status"] == "succeeded", job
    response = served.http.get(f"/v1/classifiers/of-{model}/versions/1/onnx")
    assert response.status_code == 200, response.text
    return response.content


def finished(served, identity):
    job = served.http.get(f"/v1/fine_tuning/jobs/{identity}").json()
    return job if job["status"] in {"succeeded", "failed", "cancelled"} else None


def test_weights_in_a_file_that_the_manifest_does_not_vouch_for_are_not_loaded(tmp_path, models):
    index = [shape.external for shape in SHAPES].index(True)
    root, name = tmp_path / "models", f"small-{index}"
    shutil.copytree(models / "small-0", root / "small-0")
    for other in ("changed", "unlisted"):
        shutil.copytree(models / name, root / other)
        manifest = root / other / "headstart.toml"
        manifest.write_text(manifest.read_text().replace(f'id = "{name}"', f'id = "{other}"'))
    weights = bytearray((root / "changed" / "weights.bin").read_bytes())
    weights[0] ^= 1
    (root / "changed" / "weights.bin").write_bytes(weights)
    manifest = root / "unlisted" / "headstart.toml"
    manifest.write_text("\n".join(line for line in manifest.read_text().splitlines() if "weights.bin" not in line))
    running = Service(tmp_path, models=root)
    try:
        errors = {model["id"]: model.get("error") for model in running.http.get("/v1/models").json()["data"]}
    finally:
        running.stop()
    assert errors["small-0"] is None
    assert "the sha-256 of weights.bin is not the manifest's" in errors["changed"]
    assert "has weights in `weights.bin`, which `backbone.external` does not list" in errors["unlisted"]
