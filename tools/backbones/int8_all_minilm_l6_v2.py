"""all-MiniLM-L6-v2 in signed bytes: static activation scales, so that a text's vector does not depend on its batch.

Smoothing after Xiao et al. 2023 (SmoothQuant), restricted to outlier channels; the encoder is that of all_minilm_l6_v2.py.
"""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import load

import all_minilm_l6_v2 as original
import int8_calibration as calibration
from graph import IR_VERSION, OPSET, GraphBuilder
from int8_rounding import ACTIVATION_LARGEST, quantise_columns, quantise_rows
from packages import Packages

# ONNX Runtime's own operators: this graph is for serving by it, and for nothing else.
DOMAIN = "com.microsoft"
DOMAIN_VERSION = 1


class _ByteGraph(GraphBuilder):
    """A graph that may hold integer initialisers and ONNX Runtime's operators."""

    def constant(self, name: str, values: np.ndarray) -> str:
        """An initialiser of the array's own element type."""
        return self._initialiser(name, np.asarray(values))

    def model(self, inputs: dict[str, tuple], outputs: dict[str, tuple], metadata: dict[str, str]) -> bytes:
        """The serialised model, checked as far as operators outside the standard can be."""
        described = [
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in values.items()]
            for values in (inputs, outputs)
        ]
        graph = helper.make_graph(self.weights_stored + self.nodes, self.name, *described, list(self.initialisers.values()))
        imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
        model = helper.make_model(graph, opset_imports=imports, producer_name="headstart")
        model.ir_version = IR_VERSION
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model)
        return model.SerializeToString(deterministic=True)


class _Encoder:
    """The graph while it grows. Hidden states are `[N * L, width]` float32; what enters a product is unsigned bytes."""

    def __init__(self, weights: dict[str, np.ndarray], activations: dict[str, dict]):
        self.weights, self.activations = weights, activations
        self.graph = _ByteGraph("all-minilm-l6-v2-int8")
        self.width = weights["embeddings.word_embeddings.weight"].shape[1]
        self.head_width = self.width // original.HEADS
        shape = self.graph.node("Shape", ["input_ids"], "input_shape")
        self.per_head_shape = self._concat([shape, self.graph.integers(original.HEADS, self.head_width)], "per_head_shape")
        self.output_shape = self._concat([shape, self.graph.integers(self.width)], "output_shape")
        self.rows_shape = self.graph.integers(-1, self.width)

    def embeddings(self) -> str:
        """Word, type and position vectors, summed and normalised: `[N * L, width]`. The word table is in bytes, a step a row."""
        graph = self.graph
        words, types, positions = (f"embeddings.{kind}_embeddings" for kind in ("word", "token_type", "position"))
        table, steps = quantise_rows(self.weights[f"{words}.weight"])
        rows = graph.node("Gather", [graph.constant(f"{words}.weight.int8", table), "input_ids"], f"{words}.rows.int8")
        rows = graph.node("Cast", [rows], f"{words}.rows.steps", to=TensorProto.FLOAT)
        steps = graph.node("Gather", [graph.constant(f"{words}.step", steps), "input_ids"], f"{words}.rows.step")
        rows = graph.node("Mul", [rows, steps], f"{words}.rows")
        table = graph.vector(f"{types}.weight", self.weights[f"{types}.weight"])
        rows = graph.node("Add", [rows, graph.node("Gather", [table, "token_type_ids"], f"{types}.rows")], "embeddings.typed")
        length = graph.node("Gather", ["input_shape", graph.integers(1)], "input_length", axis=0)
        table = graph.weight(f"{positions}.weight", self.weights[f"{positions}.weight"])
        placed = graph.node("Slice", [table, graph.integers(0), length, graph.integers(0)], f"{positions}.rows")
        rows = graph.node("Add", [rows, placed], "embeddings.sum")
        return self.layer_norm("embeddings.LayerNorm", graph.node("Reshape", [rows, self.rows_shape], "embeddings.flat"))

    def mask_bias(self) -> str:
        """What every attention score gets added: 0 where the mask is 1, far below any score where it is 0; `[N, 1, 1, L]`."""
        graph = self.graph
        kept = graph.node("Cast", ["attention_mask"], "attention_mask.float", to=TensorProto.FLOAT)
        kept = graph.node("Unsqueeze", [kept, graph.integers(1, 2)], "attention_mask.unsqueezed")
        dropped = graph.node("Sub", [graph.scalar(1.0), kept], "attention_mask.dropped")
        return graph.node("Mul", [dropped, graph.scalar(original.MASKED)], "attention_mask.bias")

    def layer(self, number: int, source: str, mask_bias: str) -> str:
        """One transformer layer: attention and feed-forward, each with its residual and norm."""
        graph, name = self.graph, f"encoder.layer.{number}"
        attended = self.attention(f"{name}.attention", source, mask_bias)
        attended = self.dense(f"{name}.attention.output.dense", attended)
        # Add and LayerNormalization apart: the fused operator is five times slower than the two on a CPU.
        attended = graph.node("Add", [attended, source], f"{name}.attention.residual")
        attended = self.layer_norm(f"{name}.attention.output.LayerNorm", attended)
        inner = self.dense(f"{name}.intermediate.dense", attended)
        inner = graph.node("FastGelu", [inner], f"{name}.intermediate.gelu", domain=DOMAIN)
        result = self.dense(f"{name}.output.dense", inner)
        result = graph.node("Add", [result, attended], f"{name}.residual")
        return self.layer_norm(f"{name}.output.LayerNorm", result)

    def attention(self, name: str, source: str, mask_bias: str) -> str:
        """Scaled dot-product attention in float32; its three projections share one rounded input."""
        graph, site = self.graph, f"{name}.self"
        rounded = self.rounded(site, source)
        query = self._heads(self.product(f"{site}.query", site, rounded, self.head_width**-0.5), [0, 2, 1, 3])
        key = self._heads(self.product(f"{site}.key", site, rounded), [0, 2, 3, 1])
        value = self._heads(self.product(f"{site}.value", site, rounded), [0, 2, 1, 3])
        scores = graph.node("MatMul", [query, key], f"{name}.scores")
        scores = graph.node("Add", [scores, mask_bias], f"{name}.scores.masked")
        shares = graph.node("Softmax", [scores], f"{name}.shares", axis=-1)
        context = graph.node("MatMul", [shares, value], f"{name}.context.heads")
        context = graph.node("Transpose", [context], f"{name}.context.transposed", perm=[0, 2, 1, 3])
        return graph.node("Reshape", [context, self.rows_shape], f"{name}.context")

    def dense(self, name: str, source: str) -> str:
        """A projection that is the only reader of its rounded input."""
        return self.product(name, name, self.rounded(name, source))

    def rounded(self, site: str, source: str) -> str:
        """`source` in unsigned bytes by the site's fixed step and zero point, outlier channels divided first."""
        graph, factors = self.graph, self._factors(site)
        if (factors != 1).any():
            source = graph.node("Mul", [source, graph.vector(f"{site}.factors", 1 / factors)], f"{site}.smoothed")
        return graph.node("QuantizeLinear", [source, *self._scale(site)], f"{site}.rounded")

    def product(self, name: str, site: str, rounded: str, scale: float = 1.0) -> str:
        """Bytes `[rows, in]` times signed bytes `[in, out]`, plus bias, times `scale`: float32 `[rows, out]`."""
        graph = self.graph
        weight = self.weights[f"{name}.weight"].T * self._factors(site)[:, None]
        values, steps = quantise_columns(weight)
        step, zero = self._scale(site)
        inputs = [rounded, graph.constant(f"{name}.weight.int8", values), step]
        inputs += [graph.vector(f"{name}.weight.step", steps * np.float32(scale)), zero, ""]
        inputs += [graph.vector(f"{name}.bias", self.weights[f"{name}.bias"] * np.float32(scale))]
        return graph.node("MatMulIntegerToFloat", inputs, f"{name}.output", domain=DOMAIN)

    def layer_norm(self, name: str, source: str) -> str:
        """Normalisation over the width, with the checkpoint's scale and shift."""
        parts = [self.graph.vector(f"{name}.{part}", self.weights[f"{name}.{part}"]) for part in ("weight", "bias")]
        return self.graph.node("LayerNormalization", [source, *parts], f"{name}.output", axis=-1, epsilon=original.LAYER_NORM_EPSILON)

    def _factors(self, site: str) -> np.ndarray:
        width = self.weights[f"{site}.weight" if f"{site}.weight" in self.weights else f"{site}.query.weight"].shape[1]
        return calibration.factors(self.activations[site], width)

    def _scale(self, site: str) -> list[str]:
        low, high = self.activations[site]["low"], self.activations[site]["high"]
        step = (high - low) / ACTIVATION_LARGEST
        zero = self.graph.constant(f"{site}.zero_point", np.uint8(round(-low / step)))
        return [self.graph.constant(f"{site}.step", np.float32(step)), zero]

    def _heads(self, source: str, order: list[int]) -> str:
        split = self.graph.node("Reshape", [source, self.per_head_shape], f"{source}.split")
        return self.graph.node("Transpose", [split], f"{source}.heads", perm=order)

    def _concat(self, parts: list[str], output: str) -> str:
        return self.graph.node("Concat", parts, output, axis=0)


def model(weights: dict[str, np.ndarray], activations: dict[str, dict]) -> bytes:
    """ONNX model `input_ids`, `attention_mask`, `token_type_ids` `[N, L]` → `last_hidden_state` `[N, L, 384]`.

    Raises KeyError when a weight, or the calibration of a product, is missing.
    """
    encoder = _Encoder(weights, activations)
    hidden, mask_bias = encoder.embeddings(), encoder.mask_bias()
    for number in range(calibration.LAYERS):
        hidden = encoder.layer(number, hidden, mask_bias)
    encoder.graph.node("Reshape", [hidden, encoder.output_shape], "last_hidden_state")
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    return encoder.graph.model(
        {name: (TensorProto.INT64, ["N", "L"]) for name in inputs},
        {"last_hidden_state": (TensorProto.FLOAT, ["N", "L", encoder.width])},
        {"origin": "sentence-transformers/all-MiniLM-L6-v2", "licence": "Apache-2.0"},
    )


def build(packages: Packages, _built: dict) -> dict[str, bytes]:
    """File name → content of the backbone's folder; the calibration is read from the committed file."""
    activations = json.loads(calibration.COMMITTED.read_text(encoding="utf-8"))
    return {
        "model.onnx": model(load(packages.read(*original.WEIGHTS)), activations),
        "tokenizer.json": original.tokenizer(packages.read(*original.TOKENIZER)),
    }
