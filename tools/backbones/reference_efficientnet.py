"""An independent EfficientNet-Lite0 forward pass in numpy with the batch norms left unfolded: what the ONNX file is compared with."""

import numpy as np

# (blocks, stride of the first) of each stage; Tan & Le 2019, table 1.
STAGES = [(1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1)]


def features_and_logits(state: dict[str, np.ndarray], image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`image` `[3, 224, 224]` → features `[1280]` and logits `[1000]`, in float64."""

    def layer(x: np.ndarray, name: str, norm: str, stride: int = 1, activated: bool = True) -> np.ndarray:
        x = _convolved(x, state[f"{name}.weight"].astype(np.float64), stride)
        gamma, beta, mean, variance = (
            state[f"{norm}.{part}"].astype(np.float64)[:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
        )
        x = (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta
        return np.clip(x, 0, 6) if activated else x

    x = layer(image.astype(np.float64), "_conv_stem", "_bn0", 2)
    number = 0
    for blocks, first_stride in STAGES:
        for block in range(blocks):
            name, stride, source = f"_blocks.{number}", first_stride if block == 0 else 1, x
            if f"{name}._expand_conv.weight" in state:
                x = layer(x, f"{name}._expand_conv", f"{name}._bn0")
            x = layer(x, f"{name}._depthwise_conv", f"{name}._bn1", stride)
            x = layer(x, f"{name}._project_conv", f"{name}._bn2", activated=False)
            if block > 0:
                x = x + source
            number += 1
    features = layer(x, "_conv_head", "_bn1").mean((1, 2))
    return features, state["_fc.weight"] @ features + state["_fc.bias"]


def _convolved(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Convolution with TensorFlow's "same" padding, tap by tap; depthwise when the kernel has one input channel."""
    size = kernel.shape[-1]
    sides = [-(-side // stride) for side in x.shape[1:]]
    totals = [max((after - 1) * stride + size - before, 0) for before, after in zip(x.shape[1:], sides)]
    x = np.pad(x, [(0, 0)] + [(total // 2, total - total // 2) for total in totals])
    result = np.zeros((len(kernel), *sides))
    for row in range(size):
        for column in range(size):
            seen = x[:, row : row + stride * sides[0] : stride, column : column + stride * sides[1] : stride]
            tap = kernel[:, :, row, column]
            result += tap[:, :, None] * seen if kernel.shape[1] == 1 else np.tensordot(tap, seen, 1)
    return result
