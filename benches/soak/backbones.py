"""The backbones that the crowd asks: the bundled ones, and a small one of every other family."""

import os
import subprocess

import graphs
import numpy
import small_models
from onnx import TensorProto, helper, numpy_helper
from service import BINARY, MODELS, ROOT, TEXT, environment

SOUND, WORDS, TENSOR, COMES_AND_GOES, RELOADED = "small-sound", "words", "affine", "comes-and-goes", "reloaded"
RERANKER, ENTAILING, TOWERS = small_models.RERANKER, small_models.ENTAILING, small_models.CLIP_MANIFEST
FRAMES, BANDS = 8, 16

SOUND_MANIFEST = """[audio]
rate = 8000
[audio.mel]
n_fft = 256
hop = 80
bands = {bands}
[audio.windows]
of = "frames"
length = {frames}
hop = 4
tail = "pad"
[output.features]
tensor = "vector"
pooling = "mean"
normalise = true
dimension = 12
"""


def sound(folder):
    """Frames of a window, flattened, times a matrix."""
    weights = numpy.random.default_rng(3).normal(size=(FRAMES * BANDS, 12)).astype("float32")
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["frames"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["vector"])],
        "sound",
        [helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["n", FRAMES, BANDS])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 12])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    head = small_models.BACKBONE.format(
        id=SOUND, modality="audio", file="model.onnx", sha256=small_models.digest(folder / "model.onnx")
    )
    (folder / "headstart.toml").write_text(head + SOUND_MANIFEST.format(bands=BANDS, frames=FRAMES))


def twin(folder, name):
    """The bundled text backbone under another name."""
    folder.mkdir(parents=True)
    for file in ("model.onnx", "tokenizer.json"):
        os.symlink(MODELS / TEXT / file, folder / file)
    manifest = (MODELS / TEXT / "headstart.toml").read_text()
    (folder / "headstart.toml").write_text(manifest.replace(f'id = "{TEXT}"', f'id = "{name}"'))


def write(root):
    """Makes the folder of models."""
    root.mkdir()
    small_models.write_cross_encoders(root)
    small_models.write_towers(root)
    sound(root / SOUND)
    graphs.write(root, TENSOR, graphs.affine())
    for name in (COMES_AND_GOES, RELOADED):
        twin(root / name, name)
    table = ROOT / "tests" / "golden" / "words" / "table.txt"
    command = [BINARY, "import", table, "--id", WORDS, "--models", root]
    subprocess.run([str(part) for part in command], env=environment(), check=True, capture_output=True)
    return root
