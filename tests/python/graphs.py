"""Small ONNX graphs as backbones without preprocessing: what raw tensors are sent to."""

import hashlib

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

# The protocol's name, ONNX' number, numpy's name.
TYPES = [
    ("BOOL", TensorProto.BOOL, "bool"),
    ("UINT8", TensorProto.UINT8, "uint8"),
    ("UINT16", TensorProto.UINT16, "uint16"),
    ("UINT32", TensorProto.UINT32, "uint32"),
    ("UINT64", TensorProto.UINT64, "uint64"),
    ("INT8", TensorProto.INT8, "int8"),
    ("INT16", TensorProto.INT16, "int16"),
    ("INT32", TensorProto.INT32, "int32"),
    ("INT64", TensorProto.INT64, "int64"),
    ("FP16", TensorProto.FLOAT16, "float16"),
    ("FP32", TensorProto.FLOAT, "float32"),
    ("FP64", TensorProto.DOUBLE, "float64"),
    ("BYTES", TensorProto.STRING, "object"),
]

MANIFEST = """version = 1

[backbone]
id = "{id}"
modality = "tensor"
file = "model.onnx"
sha256 = "{sha256}"
licence = "CC0-1.0"
source_task = "none: made for a test"
{more}"""


def _value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def _graph(nodes, inputs, outputs, constants=()):
    made = [numpy_helper.from_array(array, name) for name, array in constants]
    graph = helper.make_graph(nodes, "test", inputs, outputs, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def echo():
    """Every type there is, in rows of three: each output is its input."""
    names = [(kind.lower(), number) for kind, number, _ in TYPES]
    return _graph(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name, _ in names],
        [_value(name, number, ["n", 3]) for name, number in names],
        [_value(f"{name}_out", number, ["n", 3]) for name, number in names],
    )


def affine(seed=0, rows="n"):
    """`y = x·w + b`, four numbers to three, and the place of the largest."""
    chance = numpy.random.default_rng(seed)
    w, b = chance.normal(size=(4, 3)).astype("float32"), chance.normal(size=3).astype("float32")
    return _graph(
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["y"]),
            helper.make_node("ArgMax", ["y"], ["best"], axis=1, keepdims=0),
        ],
        [_value("x", TensorProto.FLOAT, [rows, 4])],
        [_value("y", TensorProto.FLOAT, [rows, 3]), _value("best", TensorProto.INT64, [rows])],
        [("w", w), ("b", b)],
    )


def centred():
    """Each row without the mean of all rows: what a row becomes depends on the others."""
    return _graph(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ],
        [_value("x", TensorProto.FLOAT, ["n", 4])],
        [_value("y", TensorProto.FLOAT, ["n", 4])],
    )


def lookup():
    """Rows of a table of ten by their numbers, any of them together."""
    table = numpy.arange(20, dtype="float32").reshape(10, 2)
    return _graph(
        [helper.make_node("Gather", ["table", "ids"], ["vectors"])],
        [_value("ids", TensorProto.INT64, ["n", "k"])],
        [_value("vectors", TensorProto.FLOAT, ["n", "k", 2])],
        [("table", table)],
    )


def heavy(size=4096, seed=0):
    """A matrix of `size`² numbers behind a sum: much memory, little work."""
    matrix = numpy.random.default_rng(seed).normal(size=(size, size)).astype("float32")
    return _graph(
        [helper.make_node("MatMul", ["x", "m"], ["y"])],
        [_value("x", TensorProto.FLOAT, ["n", size])],
        [_value("y", TensorProto.FLOAT, ["n", size])],
        [("m", matrix)],
    )


def slow(size=1024, times=40, seed=0):
    """A number times a matrix, times that matrix over and over: a few bytes in, seconds of work."""
    matrix = numpy.random.default_rng(seed).normal(size=(size, size)).astype("float32") / numpy.float32(numpy.sqrt(size))
    steps = [helper.make_node("MatMul", [f"s{place}", "m"], [f"s{place + 1}"]) for place in range(times)]
    return _graph(
        [
            helper.make_node("Mul", ["m", "x"], ["s0"]),
            *steps,
            helper.make_node("ReduceMax", [f"s{times}"], ["y"], keepdims=1),
        ],
        [_value("x", TensorProto.FLOAT, [1, 1])],
        [_value("y", TensorProto.FLOAT, [1, 1])],
        [("m", matrix)],
    )


def wide(times=65_536):
    """Each row so many times over: a few bytes in, many out."""
    return _graph(
        [helper.make_node("Tile", ["x", "times"], ["y"])],
        [_value("x", TensorProto.FLOAT, ["n", 1])],
        [_value("y", TensorProto.FLOAT, ["n", times])],
        [("times", numpy.array([1, times], dtype="int64"))],
    )


def write(models, name, model, more=""):
    """Writes a backbone's folder; `more` are further lines of its manifest."""
    folder = models / name
    folder.mkdir(parents=True, exist_ok=True)
    data = model.SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    manifest = MANIFEST.format(id=name, sha256=hashlib.sha256(data).hexdigest(), more=more)
    (folder / "headstart.toml").write_text(manifest)
    return folder
