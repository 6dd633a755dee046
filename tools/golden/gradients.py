"""Writes crates/onnx-grad/tests/golden/gradients.json: gradients of the bundled backbones by PyTorch's autograd in float64.

    python3 tools/golden/gradients.py

Needs numpy==2.4.6, onnx==1.23.2 and torch==2.15.0. A gradient is kept as its length and its products with eight lists of
signs, drawn by SplitMix64 from the weight's name: two gradients are as far from each other as these products differ by, in
root mean square. The graphs are run by the few lines below, not by ONNX Runtime.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "crates" / "onnx-grad" / "tests" / "golden" / "gradients.json"
SIGNS = 8
torch.manual_seed(0)
torch.set_num_threads(1)


def seed(words):
    state = 0x9E3779B9
    for byte in words.encode():
        state = ((state ^ byte) * 0x01000000_01B3) & (1 << 64) - 1
    return np.uint64(state)


def bits(words, count):
    with np.errstate(over="ignore"):
        state = seed(words) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))


def numbers(words, shape):
    """Numbers from -1 to 1, as tests/it/support/data.rs draws them."""
    drawn = (bits(words, int(np.prod(shape))) >> np.uint64(11)).astype(np.float64) / 2.0**52 - 1.0
    return torch.from_numpy(drawn.reshape(shape))


def summary(name, gradient):
    flat = gradient.numpy().reshape(-1)
    products = []
    for at in range(SIGNS):
        signs = np.where(bits(f"{name}/{at}", flat.size) >> np.uint64(63), -1.0, 1.0)
        products.append(float(signs @ flat))
    return {"length": float(np.linalg.norm(flat)), "products": products}


def pads(told):
    top, left, bottom, right = told.get("pads", [0, 0, 0, 0])
    return left, right, top, bottom


def convolve(x, w, b=None, **told):
    x = functional.pad(x, pads(told))
    return functional.conv2d(
        x, w, b, stride=told.get("strides", 1), dilation=told.get("dilations", 1), groups=told.get("group", 1)
    )


def gemm(a, b, c=None, **told):
    a = a.T if told.get("transA") else a
    b = b.T if told.get("transB") else b
    y = told.get("alpha", 1.0) * (a @ b)
    return y if c is None else y + told.get("beta", 1.0) * c


def reshape(x, shape):
    return x.reshape([x.shape[at] if size == 0 else int(size) for at, size in enumerate(shape.tolist())])


def cut(x, starts, ends, axes):
    for start, end, axis in zip(starts.tolist(), ends.tolist(), axes.tolist()):
        x = x.narrow(axis, start, min(end, x.shape[axis]) - start)
    return x


def unsqueeze(x, axes):
    for axis in sorted(axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def gather(x, index, axis=0):
    return functional.embedding(index, x) if axis == 0 and x.ndim == 2 else x[index]


def cast(x, to):
    return x.double() if to in (1, 10, 11) else x.long()


OPS = {
    "Add": lambda x, y: x + y,
    "Cast": cast,
    "Clip": lambda x, low, high: functional.hardtanh(x, float(low), float(high)),
    "Concat": lambda *xs, axis: torch.cat(xs, axis),
    "Conv": convolve,
    "Flatten": lambda x, axis=1: x.flatten(axis),
    "Gather": gather,
    "Gelu": lambda x: functional.gelu(x),
    "Gemm": gemm,
    "GlobalAveragePool": lambda x: x.mean((2, 3), keepdim=True),
    "LayerNormalization": lambda x, g, b, axis, epsilon: functional.layer_norm(x, x.shape[-1:], g, b, epsilon),
    "MatMul": lambda x, y: x @ y,
    "Mul": lambda x, y: x * y,
    "Reshape": reshape,
    "Shape": lambda x: torch.tensor(x.shape),
    "Slice": cut,
    "Softmax": lambda x, axis: x.softmax(axis),
    "Sub": lambda x, y: x - y,
    "Transpose": lambda x, perm: x.permute(*perm),
    "Unsqueeze": unsqueeze,
}


def trained(model):
    """The weights by the names they have once casts of constants are done."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    casts = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Cast" and node.input[0] in stored}
    leaf = lambda array: torch.from_numpy(array.astype(np.float64)).requires_grad_()
    return {casts.get(name, name): leaf(array) for name, array in stored.items() if array.dtype.kind == "f" and array.ndim}


def run(model, given, ops=OPS):
    weights = trained(model)
    values = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in model.graph.initializer}
    values = {name: value.double() if value.is_floating_point() else value for name, value in values.items()}
    values.update(given)
    for node in model.graph.node:
        if node.op_type == "Cast" and node.output[0] in weights:
            continue
        values.update(weights)
        told = {told.name: helper.get_attribute_value(told) for told in node.attribute}
        values[node.output[0]] = ops[node.op_type](*[values[name] for name in node.input], **told)
    return values, weights


def minilm():
    model = onnx.load(ROOT / "models" / "all-minilm-l6-v2" / "model.onnx")
    rows, places, classes = 3, 9, 4
    ids = torch.tensor([[1000 + 37 * row + 11 * place for place in range(places)] for row in range(rows)])
    mask = torch.tensor([[int(place < places - 2 * row) for place in range(places)] for row in range(rows)])
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    values, weights = run(model, given)
    kept = mask.double()[:, :, None]
    pooled = (values["last_hidden_state"] * kept).sum(1) / kept.sum(1)
    head = {"head.weight": numbers("head.weight", (384, classes)), "head.bias": numbers("head.bias", (classes,))}
    weights.update({name: (0.5 * value).requires_grad_() for name, value in head.items()})
    logits = pooled @ weights["head.weight"] + weights["head.bias"]
    return logits, weights


def efficientnet(ops=OPS):
    model = onnx.load(ROOT / "models" / "efficientnet-lite0" / "model.onnx")
    values, weights = run(model, {"image": numbers("image", (2, 3, 224, 224)).float().double()}, ops)
    return values["logits"], weights


def smooth_efficientnet():
    """The same without kinks: two float libraries never agree on which side of a bound the last bit lies."""
    return efficientnet({**OPS, "Clip": lambda x, low, high: 6 * torch.sigmoid(x - 3)})


def gradients(build):
    logits, weights = build()
    labels = torch.tensor([(7 * row + 1) % logits.shape[1] for row in range(len(logits))])
    loss = functional.cross_entropy(logits, labels)
    loss.backward()
    reached = {name: weight.grad for name, weight in sorted(weights.items()) if weight.grad is not None}
    return {
        "loss": float(loss.detach()), "logits": logits.detach().reshape(-1)[:16].tolist(),
        "gradients": {name: summary(name, gradient) for name, gradient in reached.items()},
    }


def main():
    models = {"all-minilm-l6-v2": minilm, "efficientnet-lite0": efficientnet, "smooth": smooth_efficientnet}
    found = {name: gradients(build) for name, build in models.items()}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
