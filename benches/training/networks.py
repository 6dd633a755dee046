"""The networks that are trained: each as a PyTorch module and as an ONNX graph with the same weights, and batches for both.

Batch normalisation is folded into the convolutions before it on both sides, and its statistics stay as they are: both train the
same weights and take the same steps.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
import torchvision
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import BertConfig, BertModel

ROOT = Path(__file__).resolve().parents[2]
WIDTH, LAYERS, TABLES = 384, 6, ("word", "position", "token_type")
KEPT = 4


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison; `make` gives a `Made`, with the graph where that is wanted; `least` is the ratio it has to reach."""

    name: str
    title: str
    make: Callable
    batch: tuple
    least: float
    layouts: tuple = ("contiguous",)


@dataclasses.dataclass
class Made:
    """Both sides of a case: `module(*inputs)` gives logits; `renamed` has the graph's names of weights by the module's."""

    module: nn.Module
    graph: onnx.ModelProto | None
    renamed: dict
    inputs: Callable
    # What the graph reads instead, of the module's inputs: the cached part of a network.
    cached: Callable | None = None


def clean(model):
    """Weights in single precision, without the casts."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in stored]:
        tensor = numpy_helper.from_array(numpy_helper.to_array(stored[node.input[0]]).astype(np.float32), node.output[0])
        model.graph.initializer.append(tensor)
        model.graph.node.remove(node)
    return model


class Classifier(nn.Module):
    """MiniLM, the mean over its tokens, and a linear head."""

    def __init__(self, weights, rank=0):
        super().__init__()
        config = BertConfig(
            hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=12, intermediate_size=1536, vocab_size=30522,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
        self.bert = BertModel(config, add_pooling_layer=False)
        held = self.bert.state_dict()
        self.bert.load_state_dict({name: oriented(name, weights) if name in weights else held[name] for name in held})
        self.head = nn.Linear(WIDTH, 2)
        for layer in self.bert.encoder.layer:
            attention = layer.attention.self
            # The file's queries are scaled already.
            attention.scaling = 1.0
            if rank:
                attention.query, attention.value = Factors(attention.query, rank), Factors(attention.value, rank)

    def forward(self, ids, mask):
        hidden = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        kept = mask.unsqueeze(-1).to(hidden.dtype)
        return self.head((hidden * kept).sum(1) / kept.sum(1))


class Factors(nn.Module):
    """A frozen layer with two narrow ones beside it."""

    def __init__(self, base, rank):
        super().__init__()
        self.base = base
        self.a = nn.Parameter(torch.randn(base.in_features, rank) / base.in_features**0.5)
        self.b = nn.Parameter(torch.randn(rank, base.out_features) / 100)

    def forward(self, x):
        return self.base(x) + (x @ self.a) @ self.b


def oriented(name, weights):
    """The file's `Gemm` reads weights as `[in, out]`, PyTorch keeps them as `[out, in]`."""
    value = torch.from_numpy(weights[name].copy())
    return value.T.contiguous() if value.ndim == 2 and "embeddings" not in name else value


def minilm(frozen, rank=0, first=0):
    """All of MiniLM but what `frozen` names; with a `rank`, narrow layers; from layer `first` on, with what is before cached."""

    def make(_wanted):
        model = clean(onnx.load(ROOT / "models" / "all-minilm-l6-v2" / "model.onnx"))
        weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        word = "embeddings.word_embeddings.rows"
        table = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name.startswith("embeddings.word_embeddings")))
        weights["embeddings.word_embeddings.weight"] = table.astype(np.float32)
        assert any(word in node.output for node in model.graph.node)
        module = Classifier(weights, rank)
        for name, value in module.named_parameters():
            value.requires_grad_(not frozen(name))
        if rank:
            add_factors(model, module)
        add_head(model, module)
        if first:
            cut(model, f"encoder.layer.{first - 1}.output.LayerNorm.output")
        renamed = {name: name.removeprefix("bert.") for name, value in module.named_parameters() if value.requires_grad}
        return Made(module, model, renamed, tokens, (lambda module, ids, mask: hidden(module, first, ids, mask)) if first else None)

    return make


def add_head(model, module):
    """Mean and head behind the last layer."""
    graph, head = model.graph, module.head
    graph.initializer.append(numpy_helper.from_array(head.weight.detach().numpy(), "head.weight"))
    graph.initializer.append(numpy_helper.from_array(head.bias.detach().numpy(), "head.bias"))
    graph.initializer.append(numpy_helper.from_array(np.array([2]), "axis.last"))
    graph.initializer.append(numpy_helper.from_array(np.array([1]), "axis.tokens"))
    graph.node.extend([
        helper.make_node("Cast", ["attention_mask"], ["pooling.mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["pooling.mask", "axis.last"], ["pooling.kept"]),
        helper.make_node("Mul", ["last_hidden_state", "pooling.kept"], ["pooling.masked"]),
        helper.make_node("ReduceSum", ["pooling.masked", "axis.tokens"], ["pooling.sum"], keepdims=0),
        helper.make_node("ReduceSum", ["pooling.kept", "axis.tokens"], ["pooling.count"], keepdims=0),
        helper.make_node("Div", ["pooling.sum", "pooling.count"], ["pooling.mean"]),
        helper.make_node("Gemm", ["pooling.mean", "head.weight", "head.bias"], ["logits"], transB=1),
    ])
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2]))


def add_factors(model, module):
    """The narrow layers beside queries and values."""
    for at, layer in enumerate(module.bert.encoder.layer):
        for part in ("query", "value"):
            name = f"encoder.layer.{at}.attention.self.{part}"
            place, node = next((p, n) for p, n in enumerate(model.graph.node) if f"{name}.output" in n.output)
            node.output[0] = f"{name}.base"
            factors = getattr(layer.attention.self, part)
            for letter in "ab":
                value = getattr(factors, letter).detach().numpy()
                model.graph.initializer.append(numpy_helper.from_array(value, f"{name}.{letter}"))
            nodes = [
                helper.make_node("MatMul", [node.input[0], f"{name}.a"], [f"{name}.narrow"]),
                helper.make_node("MatMul", [f"{name}.narrow", f"{name}.b"], [f"{name}.wide"]),
                helper.make_node("Add", [f"{name}.base", f"{name}.wide"], [f"{name}.output"]),
            ]
            for node in reversed(nodes):
                model.graph.node.insert(place + 1, node)


def cut(model, value):
    """Only what comes after a value, which becomes an input."""
    nodes, needed = [], {"logits"}
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            nodes.insert(0, node)
            needed |= set(node.input) - {value}
    del model.graph.node[:]
    # The graph takes its sizes from what it reads: tokens are gone.
    for node in nodes:
        for at, name in enumerate(node.input):
            if name == "input_ids":
                node.input[at] = "attention_mask"
    flat = helper.make_node("Reshape", ["hidden_states", f"integers_-1_{WIDTH}"], [value])
    model.graph.node.extend([flat, *nodes])
    needed.add(f"integers_-1_{WIDTH}")
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in needed]:
        model.graph.initializer.remove(tensor)
    for given in [given for given in model.graph.input if given.name != "attention_mask"]:
        model.graph.input.remove(given)
    sizes = [size.dim_param for size in model.graph.input[0].type.tensor_type.shape.dim]
    model.graph.input.append(helper.make_tensor_value_info("hidden_states", TensorProto.FLOAT, [*sizes, WIDTH]))


def hidden(module, first, ids, mask):
    """What the first layers make of a batch, as the cached graph reads it."""
    with torch.no_grad():
        states = module.bert(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    return {"hidden_states": states[first].numpy(), "attention_mask": mask.numpy()}


def tokens(rows, length):
    chance = np.random.default_rng(rows * length)
    batches = []
    for _ in range(KEPT):
        ids = torch.from_numpy(chance.integers(1000, 30000, (rows, length)))
        lengths = torch.from_numpy(chance.integers(length // 2, length + 1, (rows, 1)))
        mask = (torch.arange(length) < lengths).long()
        batches.append({"input_ids": ids, "attention_mask": mask, "labels": torch.from_numpy(chance.integers(0, 2, rows))})
    return batches


def pictures(rows, size, classes=1000):
    chance = np.random.default_rng(rows)
    image = lambda: torch.from_numpy(chance.standard_normal((rows, 3, size, size), dtype=np.float32))
    return [{"image": image(), "labels": torch.from_numpy(chance.integers(0, classes, rows))} for _ in range(KEPT)]


class Lite(nn.Module):
    """EfficientNet-Lite0 as its file has it."""

    def __init__(self, model):
        super().__init__()
        stored = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in model.graph.initializer}
        self.steps, self.layers = [], nn.ModuleDict()
        for node in model.graph.node:
            told = {told.name: helper.get_attribute_value(told) for told in node.attribute}
            if node.op_type in ("Conv", "Gemm"):
                self.layers[node.output[0].replace(".", "/")] = layer(node, told, stored)
            self.steps.append((node.op_type, list(node.input), node.output[0]))

    def forward(self, image):
        values = {"image": image}
        for kind, read, made in self.steps:
            x = values[read[0]]
            if kind in ("Conv", "Gemm"):
                values[made] = self.layers[made.replace(".", "/")](x)
            elif kind == "Clip":
                values[made] = functional.relu6(x)
            elif kind == "Add":
                values[made] = x + values[read[1]]
            elif kind == "GlobalAveragePool":
                values[made] = functional.adaptive_avg_pool2d(x, 1)
            elif kind == "Flatten":
                values[made] = x.flatten(1)
            else:
                raise NotImplementedError(kind)
        return values["logits"]


def layer(node, told, stored):
    weight, bias = stored[node.input[1]], stored[node.input[2]]
    if node.op_type == "Gemm":
        made = nn.Linear(weight.shape[1], weight.shape[0])
    else:
        top, left, bottom, right = told["pads"]
        even = (top, left) == (bottom, right)
        made = nn.Conv2d(
            weight.shape[1] * told["group"], weight.shape[0], weight.shape[2:], told["strides"], (top, left) if even else 0,
            groups=told["group"],
        )
    made.load_state_dict({"weight": weight, "bias": bias})
    if node.op_type == "Conv" and not even:
        return nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), made)
    return made


def efficientnet(_wanted):
    model = clean(onnx.load(ROOT / "models" / "efficientnet-lite0" / "model.onnx"))
    module = Lite(model)
    renamed = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            held = module.layers[node.output[0].replace(".", "/")]
            inner = ".1" if isinstance(held, nn.Sequential) else ""
            for part, name in zip(("weight", "bias"), node.input[1:]):
                renamed[f"layers.{node.output[0].replace('.', '/')}{inner}.{part}"] = name
    return Made(module, model, renamed, pictures)


def of_torchvision(make, folds):
    """A network of torchvision with random weights."""

    def made(wanted):
        torch.manual_seed(0)
        module = make(weights=None).eval()
        folds(module)
        with torch.no_grad():
            # The exporter makes one of weights with equal values.
            for value in module.parameters():
                value += 0.01 * torch.randn_like(value) if value.ndim == 1 else 0
        renamed = {name: name for name, _ in module.named_parameters()}
        if not wanted:
            return Made(module, None, renamed, pictures)
        shown = torch.zeros(2, 3, 224, 224)
        dynamic = ({0: torch.export.Dim("batch")},)
        module.requires_grad_(False)
        program = torch.onnx.export(module, (shown,), dynamo=True, optimize=True, dynamic_shapes=dynamic, input_names=["image"],
                                    output_names=["logits"], verbose=False)
        module.requires_grad_(True)
        model = onnx.ModelProto()
        model.ParseFromString(program.model_proto.SerializeToString())
        names = {tensor.name for tensor in model.graph.initializer}
        missing = [name for name in renamed if name not in names]
        assert not missing, missing
        return Made(module, model, renamed, pictures)

    return made


def fold_pairs(module):
    """Folds each batch normalisation into the convolution right before it."""
    for parent in list(module.modules()):
        children = list(parent.named_children())
        for (before, convolution), (after, norm) in zip(children, children[1:]):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, before, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, after, nn.Identity())


def tables(name):
    return any(f"embeddings.{table}_embeddings" in name for table in TABLES)


def lower_layers(name):
    return not (name.startswith("head.") or any(f"layer.{at}." in name for at in (LAYERS - 2, LAYERS - 1)))


BOTH = ("contiguous", "channels-last")
CASES = [
    Case("minilm-16x32", "MiniLM, all layers, 16 × 32", minilm(tables), (16, 32), 0.95),
    Case("minilm-32x64", "MiniLM, all layers, 32 × 64", minilm(tables), (32, 64), 0.90),
    Case("minilm-lora", "MiniLM, LoRA of rank 8 at queries and values, 32 × 64", minilm(lambda name: not name.endswith((".a", ".b")) and not name.startswith("head."), rank=8), (32, 64), 0.90),
    Case("minilm-partial", "MiniLM, last two layers, the others cached, 32 × 64", minilm(lower_layers, first=LAYERS - 2), (32, 64), 1.2),
    Case("efficientnet-lite0", "EfficientNet-Lite0, 16 × 224²", efficientnet, (16, 224), 1.0, BOTH),
    Case("mobilenet-v2", "MobileNetV2, 16 × 224²", of_torchvision(torchvision.models.mobilenet_v2, fold_pairs), (16, 224), 1.0, BOTH),
    Case("resnet-18", "ResNet-18, 8 × 224²", of_torchvision(torchvision.models.resnet18, fold_pairs), (8, 224), 0.80, BOTH),
]
