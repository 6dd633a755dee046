"""Writes crates/onnx-grad/tests/golden/networks/: graphs of image and sound networks, and their gradients by PyTorch in float64.

    python3 tools/golden/network_gradients.py [NAME…]
    python3 tools/golden/network_gradients.py --older [NAME…]

The second writes the graphs of `OLDER` alone, by PyTorch's older exporter; their references are the first one's.
Needs numpy==2.4.6, onnx==1.23.2, onnxscript==0.7.2, torch==2.15.0 and torchvision==0.29.2. Weights are not stored: both sides
draw them from their names, as gradients.py draws; what is kept of a gradient is said there.

ReLU, its like and MaxPool decide by signs and by which of two is larger. Where a decision hangs on the last bit any two
libraries differ, and gradients with them; so the batch is the first of many whose decisions all stand clear (see CLEAR).
Batch normalisation stands in front of a convolution in `preactivation`, else it is folded before the export, as exporters do.
"""

import io
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
import torchvision
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode

from gradients import numbers, summary
from networks import Preactivation, Unet, Waves, vgg

OUT = Path(__file__).resolve().parents[2] / "crates" / "onnx-grad" / "tests" / "golden" / "networks"
BATCH, CLASSES, BATCHES_MOST = 2, 10, 400
# How far from its kink each decision stands, as a share of the root mean square of the values it is about.
CLEAR = 4e-6
INCEPTION = {"aux_logits": False, "init_weights": False, "transform_input": False}
MODELS = torchvision.models
NETS = {
    "resnet18": (lambda: MODELS.resnet18(num_classes=CLASSES), (3, 64, 64)),
    "vgg11": (lambda: vgg(CLASSES), (3, 64, 64)),
    "mobilenet_v2": (lambda: MODELS.mobilenet_v2(num_classes=CLASSES), (3, 64, 64)),
    "inception_v3": (lambda: MODELS.inception_v3(num_classes=CLASSES, **INCEPTION), (3, 75, 75)),
    "squeezenet1_1": (lambda: MODELS.squeezenet1_1(num_classes=CLASSES), (3, 65, 65)),
    "efficientnet_b0": (lambda: MODELS.efficientnet_b0(num_classes=CLASSES), (3, 64, 64)),
    "preactivation": (lambda: Preactivation(CLASSES), (3, 33, 30)),
    "unet": (Unet, (3, 20, 22)),
    "waves": (lambda: Waves(CLASSES), (1, 400)),
}
# In which older operator set, as files of earlier years are.
OLDER = {
    "resnet18": 9, "mobilenet_v2": 11, "inception_v3": 11, "squeezenet1_1": 12, "efficientnet_b0": 13, "vgg11": 14,
}


def tensor(words, shape, offset=0.0, scale=1.0):
    """Numbers of 32 bits, in 64."""
    return (offset + scale * numbers(words, tuple(shape))).float().double()


def spread(name, shape):
    """From where to where a weight's numbers go: variances stay near 1, lists differ from 0 and from each other."""
    if len(shape) > 1:
        return 0.0, float(np.sqrt(6.0 / np.prod(shape[1:])))
    return (1.0, 0.3) if name.endswith(("running_var", "norm.weight")) else (0.0, 0.2)


def fill(net):
    fills = {}
    for name, value in [*net.named_parameters(), *net.named_buffers()]:
        if value.dtype.is_floating_point:
            fills[name] = spread(name, value.shape)
            with torch.no_grad():
                value.copy_(tensor(name, value.shape, *fills[name]))
    return fills


def fold(net):
    """Batch normalisations folded into the convolutions before them."""
    before = None
    for name, child in list(net.named_children()):
        fold(child)
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and isinstance(before and before[1], nn.modules.conv._ConvNd):
            setattr(net, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(net, name, nn.Identity())
        before = name, child
    return net


class Decisions(TorchDispatchMode):
    """How near the nearest decision stands to its kink."""

    def __init__(self):
        super().__init__()
        self.nearest = np.inf

    def see(self, distances, values):
        if distances.numel():
            self.nearest = min(self.nearest, float(distances.abs().min() / values.square().mean().sqrt()))

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in ("relu", "relu_"):
            self.see(args[0], args[0])
        elif name in ("hardtanh", "hardtanh_"):
            for bound in args[1:3]:
                self.see(args[0] - bound, args[0])
        elif name == "max_pool2d_with_indices":
            self.pool(*args)
        return function(*args, **(kwargs or {}))

    def pool(self, image, kernel, strides, pads=(0, 0), dilations=(1, 1), up=False):
        # The margin is wide enough for windows that reach beyond.
        margin = max(kernel)
        padded = nn.functional.pad(image, (pads[-1], margin, pads[0], margin), value=-np.inf)
        windows = padded.unfold(2, kernel[0], strides[0]).unfold(3, kernel[-1], strides[-1])
        best = windows.flatten(4).topk(2).values
        # Of what ReLU made 0, nothing passes whoever is taken.
        best = best[(best[..., 0] > 0) & best[..., 1].isfinite()]
        self.see(best[..., 0] - best[..., 1], image)


def clear_batch(net, shape):
    """The first of many batches whose decisions all stand clear: its words, and it."""
    for at in range(BATCHES_MOST):
        words = f"batch {at}"
        batch = tensor(words, (BATCH, *shape))
        with torch.no_grad(), Decisions() as decisions:
            net(batch)
        if decisions.nearest >= CLEAR:
            return words, batch
    raise SystemExit("no batch stands clear")


def gradients(net, batch, weights):
    """Of the sum of the outputs, weighted."""
    net.zero_grad()
    loss = (net(batch) * weights).sum()
    loss.backward()
    return loss.item(), {name: value.grad.double().clone() for name, value in net.named_parameters()}


def export(net, batch):
    """The graph with its weights' shapes alone."""
    dynamic = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(net, (batch,), dynamo=True, optimize=True, dynamic_shapes=dynamic, verbose=False)
    model = onnx.ModelProto()
    model.ParseFromString(program.model_proto.SerializeToString())
    return bare(model)


def export_older(net, batch, opset):
    file, dynamic = io.BytesIO(), {"input": {0: "batch"}, "output": {0: "batch"}}
    told = {"input_names": ["input"], "output_names": ["output"], "dynamic_axes": dynamic}
    torch.onnx.export(net, (batch,), file, dynamo=False, opset_version=opset, **told)
    return bare(onnx.ModelProto.FromString(file.getvalue()))


def bare(model):
    """Without what is only for people."""
    del model.metadata_props[:], model.graph.value_info[:], model.graph.metadata_props[:]
    for part in [*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del part.metadata_props[:]
        part.doc_string = ""
    model.graph.doc_string = ""
    return model


def strip(model, net):
    """Takes the weights' values away; their names in the graph by those in the network, as exporters fold reshapes away."""
    names, held = {}, {name: value.detach().float().numpy() for name, value in net.state_dict().items()}
    for constant in model.graph.initializer:
        value = onnx.numpy_helper.to_array(constant)
        for name in [constant.name] if constant.name in held else held:
            if name not in names and value.size == held[name].size and np.array_equal(value.ravel(), held[name].ravel()):
                names[name] = constant.name
                constant.ClearField("raw_data")
                break
    missing = dict(net.named_parameters()).keys() - names.keys()
    assert not missing, missing
    return names


def made(name):
    torch.manual_seed(0)
    net = fold(NETS[name][0]().eval()).double().requires_grad_(True)
    return net, fill(net)


def write_older(name):
    net, _ = made(name)
    model = export_older(net.float(), tensor("batch", (BATCH, *NETS[name][1])).float(), OLDER[name])
    names, told = strip(model, net), json.loads((OUT / f"{name}.json").read_text())
    assert {names[weight]: weight for weight in names} == {known: fill[0] for known, fill in told["fills"].items()}
    (OUT / f"{name}.set{OLDER[name]}.onnx").write_bytes(model.SerializeToString())
    print(f"{name}: {len(model.graph.node)} nodes of set {OLDER[name]}")


def write(name):
    shape = NETS[name][1]
    net, fills = made(name)
    words, batch = clear_batch(net, shape)
    weights = tensor("cotangent", net(batch).shape)
    loss, exact = gradients(net, batch, weights)
    _, single = gradients(net.float(), batch.float(), weights.float())
    model = export(net, batch.float())
    names = strip(model, net)
    found = {names[weight]: summary(names[weight], gradient) for weight, gradient in exact.items()}
    least = 1e-6 * max(one["length"] for one in found.values())
    off = [float((single[weight] - value).norm() / max(value.norm(), least)) for weight, value in exact.items()]
    fills = {names[weight]: [weight, *fills[weight]] for weight in names}
    told = {"batch": {"words": words, "shape": [BATCH, *shape]}, "weights": list(weights.shape), "loss": loss, "fills": fills}
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.onnx").write_bytes(model.SerializeToString())
    (OUT / f"{name}.json").write_text(json.dumps({**told, "gradients": found}, indent=0) + "\n")
    print(f"{name}: {words}, {len(found)} gradients; PyTorch float32 is {np.median(off):.1e} off, at most {max(off):.1e}")


def main():
    warnings.simplefilter("ignore")
    if sys.argv[1:2] == ["--older"]:
        for name in sys.argv[2:] or OLDER:
            write_older(name)
        return
    for name in sys.argv[1:] or NETS:
        write(name)


if __name__ == "__main__":
    main()
