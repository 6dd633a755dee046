"""Backbones whose frames the service makes: vectors equal those of frames by numpy, ONNX Runtime and a mean, in both orders of axes."""

import base64
import hashlib
import json
import math

import mel
import numpy
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from reference import cosine
from service import ROOT, Service
from sounds import RATE, wav

VALUES = 12
EXACT = 0.99999

HTK = {
    "n_fft": 512, "window": 400, "hop": 160, "bands": 20, "fmin": 125.0, "fmax": 7500.0, "scale": "htk", "norm": "none", "power": 1,
    "edges": "none", "log": {"kind": "natural", "floor": 1e-10, "offset": 0.001},
}
WHISPER = {
    "n_fft": 400, "hop": 160, "bands": 80, "fmin": 0.0, "fmax": 8000.0, "scale": "slaney", "norm": "slaney", "power": 2,
    "edges": "reflect", "log": {"kind": "whisper"},
}

# Order of the axes, the front end, and how a sound is cut.
BACKBONES = {
    "whole": ("frames", HTK, None),
    "windows-of-frames": ("frames", HTK, {"of": "frames", "length": 30, "hop": 10, "tail": "drop"}),
    "windows-of-samples": ("bands", WHISPER, {"of": "samples", "length": 8000, "hop": 4000, "tail": "pad"}),
    "half-precision": ("bands", HTK, None),
}
# What the graph takes where that is not float32.
ELEMENTS = {"half-precision": TensorProto.FLOAT16}


def graph(layout, bands, rows, element=TensorProto.FLOAT):
    """What neighbouring frames say together, every other one of them: `[n, frames, bands]` or `[n, bands, frames]` to `[n, places, values]`."""
    chance = numpy.random.default_rng(bands)
    weights = chance.normal(0, 1 / math.sqrt(3 * bands), (VALUES, bands, 3)).astype(numpy.float32)
    order = [0, 2, 1] if layout == "frames" else [0, 1, 2]
    nodes = [
        helper.make_node("Cast", ["sound"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["numbers"], ["planes"], perm=order),
        helper.make_node("Conv", ["planes", "weights"], ["map"], strides=[2], pads=[1, 1]),
        helper.make_node("Tanh", ["map"], ["curved"]),
        helper.make_node("Transpose", ["curved"], ["features"], perm=[0, 2, 1]),
    ]
    shape = ["n", rows, bands] if layout == "frames" else ["n", bands, rows]
    made = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("sound", element, shape)],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", "places", VALUES])], [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def rows_of(name):
    """Frames of a window; none where a sound is read whole."""
    _, spec, windows = BACKBONES[name]
    if windows is None:
        return "rows"
    return windows["length"] if windows["of"] == "frames" else windows["length"] // spec["hop"]


def toml(fields):
    """Fields as lines; a table in a table stands in its line."""
    inline = lambda value: "{ " + ", ".join(f"{key} = {json.dumps(one)}" for key, one in value.items()) + " }"
    return "".join(f"{key} = {inline(value) if isinstance(value, dict) else json.dumps(value)}\n" for key, value in fields.items())


def write(models, name):
    layout, spec, windows = BACKBONES[name]
    folder, file = models / name, graph(layout, spec["bands"], rows_of(name), ELEMENTS.get(name, TensorProto.FLOAT))
    folder.mkdir()
    (folder / "model.onnx").write_bytes(file)
    sections = {
        "backbone": {
            "id": name, "modality": "audio", "file": "model.onnx", "sha256": hashlib.sha256(file).hexdigest(), "licence": "CC0-1.0",
            "source_task": "none: random weights",
        },
        "audio": {"rate": RATE, "layout": layout}, "audio.mel": spec, **({"audio.windows": windows} if windows else {}),
        "output.features": {"tensor": "features", "pooling": "mean", "normalise": True, "dimension": VALUES},
    }
    manifest = "".join(f"[{section}]\n{toml(fields)}" for section, fields in sections.items())
    (folder / "headstart.toml").write_text(f"version = 1\n{manifest}")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name in BACKBONES:
        write(root, name)
    return root


@pytest.fixture(scope="module")
def served(tmp_path_factory, models):
    running = Service(tmp_path_factory.mktemp("served"), "--cache-bytes", 0, models=models)
    yield running
    running.stop()


def sounds():
    """Tones that rise and fall in noise, 16-bit, of several lengths; the first is shorter than any window."""
    chance = numpy.random.default_rng(3)
    made = []
    for seconds, hertz in ((0.2, 300), (0.9, 500), (1.7, 900), (2.33, 200)):
        at = numpy.arange(round(seconds * RATE)) / RATE
        tone = numpy.sin(2 * numpy.pi * (hertz + 400 * at) * at) * numpy.sin(numpy.pi * at / seconds)
        made.append(numpy.round(9_000 * tone + chance.normal(0, 300, len(at))).astype(numpy.int16))
    return made


def windows_of(name, samples):
    """The frames of each window of a sound."""
    _, spec, windows = BACKBONES[name]
    if windows is None:
        return [mel.frames(samples, spec)]
    length, hop = windows["length"], windows["hop"]
    cut = samples if windows["of"] == "samples" else mel.frames(samples, spec)
    beyond = max(0, len(cut) - length)
    count = 1 + (beyond // hop if windows["tail"] == "drop" else -(-beyond // hop))
    missing = max(0, (count - 1) * hop + length - len(cut))
    cut = numpy.pad(cut, [(0, missing)] + [(0, 0)] * (cut.ndim - 1))
    parts = [cut[start : start + length] for start in range(0, count * hop, hop)]
    return [mel.frames(part, spec) for part in parts] if windows["of"] == "samples" else parts


def expected(name, models, sound):
    """The unit vector of a sound."""
    parts = windows_of(name, sound / 32_768)
    layout = BACKBONES[name][0]
    given = [part if layout == "frames" else part.T for part in parts]
    session = onnxruntime.InferenceSession(str(models / name / "model.onnx"), providers=["CPUExecutionProvider"])
    kind = helper.tensor_dtype_to_np_dtype(ELEMENTS.get(name, TensorProto.FLOAT))
    (features,) = session.run(None, {"sound": numpy.array(given, dtype=kind)})
    mean = features.reshape(-1, VALUES).astype(numpy.float64).mean(axis=0)
    return mean / numpy.linalg.norm(mean)


@pytest.mark.parametrize("name, spec", [("htk", HTK), ("whisper", WHISPER)])
def test_the_reference_makes_the_frames_that_librosa_makes(name, spec):
    index = json.loads((ROOT / "tests/golden/sounds/index.json").read_text())
    (golden,) = [case["frames"] for case in index["mel"] if case["name"] == name]
    at = numpy.arange(round(0.1 * RATE)) / RATE
    sound = 0.4 * numpy.sin(2 * numpy.pi * 440 * at) + 0.25 * numpy.sin(2 * numpy.pi * 1_234 * at + 1)
    found = mel.frames(numpy.sin(numpy.pi * at / 0.1) ** 2 * sound, spec)
    wanted = numpy.array(golden).reshape(-1, spec["bands"])
    assert found.shape == wanted.shape
    # The golden numbers are rounded.
    assert numpy.abs(found - wanted).max() < 1e-4 * max(1, numpy.abs(wanted).max())


@pytest.mark.parametrize("name", BACKBONES)
def test_vectors_equal_those_of_frames_made_elsewhere(served, models, name):
    files = ["data:audio/wav;base64," + base64.b64encode(wav(sound)).decode() for sound in sounds()]
    together = served.embed(name, files)
    for sound, file, vector in zip(sounds(), files, together, strict=True):
        assert cosine(vector, expected(name, models, sound)) > EXACT
        (alone,) = served.embed(name, file)
        assert numpy.abs(numpy.subtract(alone, vector)).max() < 1e-6
    # Another sound is another vector: what is compared says something.
    assert cosine(together[1], together[2]) < 0.999
