"""Small image graphs of the shapes that exporters give, with random weights, as folders that the service loads."""

import dataclasses
import hashlib

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 32
CHANNELS = 12
PATCH = 8


@dataclasses.dataclass(frozen=True)
class Shape:
    """What an exporter decided."""

    name: str
    # `map`: channels first; `map_last`: channels last; `patches`: a sequence; `vector`: pooled in the graph.
    output: str = "vector"
    pooling: str = "none"
    layout: str = "nchw"
    order: str = "rgb"
    element: int = TensorProto.FLOAT
    batch: int | str = "n"
    external: bool = False
    scale: float = 1.0
    mean: tuple = (123.675, 116.28, 103.53)
    std: tuple = (58.395, 57.12, 57.375)

    def __str__(self):
        return self.name


SHAPES = [
    Shape("map, mean", output="map", pooling="mean"),
    Shape("map, max", output="map", pooling="max"),
    Shape("map, channels last", output="map_last", pooling="mean", layout="nhwc"),
    Shape("patches, first", output="patches", pooling="cls"),
    Shape("patches, mean", output="patches", pooling="mean"),
    Shape("caffe's order and means", order="bgr", mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0)),
    Shape("minus one to one, channels last", layout="nhwc", scale=1 / 127.5, mean=(1.0,) * 3, std=(1.0,) * 3),
    Shape("half precision", element=TensorProto.FLOAT16),
    Shape("half precision map", output="map", pooling="mean", element=TensorProto.FLOAT16),
    Shape("bytes", element=TensorProto.UINT8, layout="nhwc", mean=(0.0,) * 3, std=(1.0,) * 3),
    Shape("one at a time", batch=1),
    Shape("three at a time", batch=3, output="map", pooling="mean"),
    Shape("weights beside it", external=True),
]


def folder_of(shape, root, index):
    """Writes graph and manifest below `root`; returns the backbone's id."""
    identity = f"small-{index}"
    folder = root / identity
    folder.mkdir(parents=True)
    external = ""
    path = folder / "model.onnx"
    if shape.external:
        onnx.save(graph(shape), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        external = f'[backbone.external]\n"weights.bin" = "{_sha256(folder / "weights.bin")}"\n'
    else:
        onnx.save(graph(shape), path)
    (folder / "headstart.toml").write_text(f"""version = 1
[backbone]
id = "{identity}"
modality = "image"
file = "model.onnx"
sha256 = "{_sha256(path)}"
licence = "CC0-1.0"
source_task = "none: random weights"
{external}
[image]
size = {SIDE}
resize = 40
filter = "bilinear"
scale = {shape.scale!r}
mean = {list(shape.mean)}
std = {list(shape.std)}
channel_order = "{shape.order}"
layout = "{shape.layout}"
[output.features]
tensor = "features"
pooling = "{shape.pooling}"
normalise = true
dimension = {CHANNELS}
""")
    return identity


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def graph(shape):
    """One convolution over patches, and what the output's form needs behind it."""
    random = numpy.random.default_rng(5)
    kind = TensorProto.FLOAT16 if shape.element == TensorProto.FLOAT16 else TensorProto.FLOAT
    number = helper.tensor_dtype_to_np_dtype(kind)
    # Small weights: pixels of Caffe's scale must not leave half precision's range.
    weights = (random.standard_normal((CHANNELS, 3, PATCH, PATCH)) / 64).astype(number)
    nodes, value = [], "image"

    def add(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    if shape.element == TensorProto.UINT8:
        value = add("Cast", [value], "numbers", to=TensorProto.FLOAT)
    if shape.layout == "nhwc":
        value = add("Transpose", [value], "planes", perm=[0, 3, 1, 2])
    value = add("Conv", [value, "weights"], "map", strides=[PATCH, PATCH], kernel_shape=[PATCH, PATCH])
    places = SIDE // PATCH
    constants = [numpy_helper.from_array(weights, "weights")]
    match shape.output:
        case "map":
            value, dims = add("Tanh", [value], "features"), [CHANNELS, places, places]
        case "map_last":
            value = add("Tanh", [value], "curved")
            value, dims = add("Transpose", [value], "features", perm=[0, 2, 3, 1]), [places, places, CHANNELS]
        case "patches":
            value = add("Transpose", [value], "last", perm=[0, 2, 3, 1])
            constants.append(numpy_helper.from_array(numpy.array([0, -1, CHANNELS]), "sequence"))
            value, dims = add("Reshape", [value, "sequence"], "features"), [places * places, CHANNELS]
        case _:
            value = add("Tanh", [value], "curved")
            value = add("GlobalAveragePool", [value], "pooled")
            value, dims = add("Flatten", [value], "features"), [CHANNELS]
    item = [3, SIDE, SIDE] if shape.layout == "nchw" else [SIDE, SIDE, 3]
    made = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", shape.element, [shape.batch, *item])],
        [helper.make_tensor_value_info("features", kind, [shape.batch, *dims])],
        constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model
