"""Whether the integer products of a quantised model are exact on this CPU, against 64-bit sums in numpy."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from claims import Claims
from int8_rounding import ACTIVATION_LARGEST, PAIR_LARGEST, largest_pair

# Relative, for a float32 result of an exact integer sum: a few roundings.
FLOAT_TOLERANCE = 1e-6


def check(path: Path, claims: Claims) -> None:
    """Judge every integer product of the model at `path`."""
    model = onnx.load(str(path))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMulIntegerToFloat"]
    weights = [constants[node.input[1]] for node in products]
    largest = max(largest_pair(weight) for weight in weights)
    claims.judge(
        largest <= PAIR_LARGEST,
        f"int8: two neighbouring weights times {ACTIVATION_LARGEST} fit 16 bits, {len(weights)} products",
        f"largest {largest * ACTIVATION_LARGEST}",
    )
    exact = compared = 0
    for weight in weights:
        inputs = probing_inputs(weight)
        found = _integer_product(weight).run(None, {"x": inputs})[0]
        compared += found.size
        exact += int((found == inputs.astype(np.int64) @ weight.astype(np.int64)).sum())
    claims.judge(exact == compared, "int8: integer products equal 64-bit sums", f"{exact} of {compared}")
    worst = max(_float_difference(node, constants) for node in products)
    claim = f"int8: scaled products are within {FLOAT_TOLERANCE} of the exact ones"
    claims.judge(worst <= FLOAT_TOLERANCE, claim, f"largest {worst:.1e}")


def probing_inputs(weight: np.ndarray) -> np.ndarray:
    """Unsigned bytes `[rows, in]`: random ones, all 255, and for some columns the inputs that push a sum furthest up or down."""
    chance = np.random.default_rng(1234)
    rows = [chance.integers(0, 256, (32, len(weight))), np.full((1, len(weight)), ACTIVATION_LARGEST)]
    columns = weight[:, chance.integers(0, weight.shape[1], 16)].T
    rows += [np.where(columns > 0, ACTIVATION_LARGEST, 0), np.where(columns < 0, ACTIVATION_LARGEST, 0)]
    return np.concatenate(rows).astype(np.uint8)


def _integer_product(weight: np.ndarray) -> onnxruntime.InferenceSession:
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    return _session(node, [numpy_helper.from_array(weight, "w")], TensorProto.INT32, weight.shape)


def _float_difference(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> float:
    """The largest difference between the node's result and that of exact sums, as a share of the largest result."""
    weight, step, steps, zero, bias = (constants[node.input[index]] for index in (1, 2, 3, 4, 6))
    alone = onnx.NodeProto()
    alone.CopyFrom(node)
    alone.input[0], alone.output[0] = "x", "y"
    tensors = [numpy_helper.from_array(constants[name], name) for name in alone.input[1:] if name]
    inputs = probing_inputs(weight)
    found = _session(alone, tensors, TensorProto.FLOAT, weight.shape).run(None, {"x": inputs})[0]
    sums = (inputs.astype(np.int64) - int(zero)) @ weight.astype(np.int64)
    expected = sums * (np.float64(step) * steps.astype(np.float64)) + bias
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _session(node: onnx.NodeProto, tensors: list, kind: int, shape: tuple[int, int]) -> onnxruntime.InferenceSession:
    inputs = [helper.make_tensor_value_info("x", TensorProto.UINT8, ["rows", shape[0]])]
    outputs = [helper.make_tensor_value_info("y", kind, ["rows", shape[1]])]
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([node], "product", inputs, outputs, tensors), opset_imports=imports)
    model.ir_version = 9
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
