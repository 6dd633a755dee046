"""Writes crates/onnx-grad/tests/golden/transformers/: small transformers as both of PyTorch's exporters write them, and gradients.

    python3 tools/golden/gradients_transformers.py [NAME.EXPORTER…]

Needs what gradients_transformers.txt beside it lists. For each encoder of `ENCODERS`, with random weights, and each exporter
there is `NAME.EXPORTER.onnx`, the graph, and `NAME.EXPORTER.gradients.onnx`, whose constants are

- `input/NAME`: what the graph is given,
- `cotangent/NAME`: what each output is multiplied with; the loss is the sum of all products,
- `loss`: the loss, of 64 bits,
- `gradient/NAME`: the loss's gradient by each weight of the graph, computed by PyTorch's autograd in 64 bits and rounded to 32.

Weights start out random, all of them: exporters merge those that are equal, and biases of zeros hide mistakes.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
import transformers
from onnx import helper, numpy_helper

OUT = Path(__file__).resolve().parents[2] / "crates" / "onnx-grad" / "tests" / "golden" / "transformers"
WIDTH = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}


@dataclass
class Encoder:
    """A model, how it is called, and what it is given; `dynamic` names the free dimensions of each input."""

    model: torch.nn.Module
    call: Callable[..., tuple[torch.Tensor, ...]]
    inputs: dict[str, torch.Tensor]
    dynamic: list[dict[int, str]]
    outputs: list[str]


class Called(torch.nn.Module):
    """A model behind the function that calls it."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.model, self.call = encoder.model, encoder.call

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.call(self.model, *inputs)


def texts(vocabulary: int, first: int = 1) -> dict[str, torch.Tensor]:
    """Two texts of eight and five tokens. Token 0 is padding, whose row PyTorch does not train."""
    mask = torch.ones(2, 8, dtype=torch.long)
    mask[1, 5:] = 0
    return {"input_ids": torch.randint(first, vocabulary, (2, 8)), "attention_mask": mask}


def bert() -> Encoder:
    config = transformers.BertConfig(**WIDTH, vocab_size=150, num_hidden_layers=6, max_position_embeddings=20)

    def call(model, ids, mask, types):
        found = model(input_ids=ids, attention_mask=mask, token_type_ids=types)
        return found.last_hidden_state, found.pooler_output

    types = torch.zeros(2, 8, dtype=torch.long)
    types[:, 3:] = 1
    inputs = {**texts(150), "token_type_ids": types}
    outputs = ["last_hidden_state", "pooler_output"]
    return Encoder(transformers.BertModel(config), call, inputs, [{0: "n", 1: "s"}] * 3, outputs)


def distilbert() -> Encoder:
    config = transformers.DistilBertConfig(
        vocab_size=40, dim=16, n_layers=3, n_heads=2, hidden_dim=24, max_position_embeddings=20
    )

    def call(model, ids, mask):
        return (model(input_ids=ids, attention_mask=mask).last_hidden_state,)

    model = transformers.DistilBertModel(config)
    return Encoder(model, call, texts(40), [{0: "n", 1: "s"}] * 2, ["last_hidden_state"])


def vit() -> Encoder:
    config = transformers.ViTConfig(**WIDTH, num_hidden_layers=3, image_size=16, patch_size=4)

    def call(model, pixels):
        found = model(pixel_values=pixels)
        return found.last_hidden_state, found.pooler_output

    inputs = {"pixel_values": torch.randn(2, 3, 16, 16)}
    return Encoder(transformers.ViTModel(config), call, inputs, [{0: "n"}], ["last_hidden_state", "pooler_output"])


def clip_vision() -> Encoder:
    config = transformers.CLIPVisionConfig(
        **WIDTH, num_hidden_layers=2, image_size=12, patch_size=4, projection_dim=10
    )

    def call(model, pixels):
        return (model(pixel_values=pixels).image_embeds,)

    model = transformers.CLIPVisionModelWithProjection(config)
    return Encoder(model, call, {"pixel_values": torch.randn(2, 3, 12, 12)}, [{0: "n"}], ["image_embeds"])


def clip_text() -> Encoder:
    config = transformers.CLIPTextConfig(
        **WIDTH, vocab_size=50, num_hidden_layers=2, max_position_embeddings=20, projection_dim=10,
        bos_token_id=48, eos_token_id=49, pad_token_id=1,
    )

    def call(model, ids, mask):
        return (model(input_ids=ids, attention_mask=mask).text_embeds,)

    inputs = texts(48, 2)
    inputs["input_ids"][0, 7] = inputs["input_ids"][1, 4] = 49
    model = transformers.CLIPTextModelWithProjection(config)
    return Encoder(model, call, inputs, [{0: "n", 1: "s"}] * 2, ["text_embeds"])


def whisper() -> Encoder:
    config = transformers.WhisperConfig(
        vocab_size=20, num_mel_bins=8, d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=16, max_source_positions=12,
        max_target_positions=8, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3,
    )

    def call(model, features):
        return (model(input_features=features).last_hidden_state,)

    model = transformers.WhisperModel(config).encoder
    # Its table of positions is made of sines and not trained; here it is, too.
    model.embed_positions.weight.requires_grad_(True)
    inputs = {"input_features": torch.randn(2, 8, 24)}
    return Encoder(model, call, inputs, [{0: "n"}], ["last_hidden_state"])


def wav2vec2(norm: str) -> Encoder:
    stable = norm == "layer"
    config = transformers.Wav2Vec2Config(
        **WIDTH, vocab_size=20, num_hidden_layers=2, conv_dim=(8, 8, 8), conv_stride=(5, 2, 2),
        conv_kernel=(10, 3, 2), num_feat_extract_layers=3, num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, feat_extract_norm=norm, do_stable_layer_norm=stable, conv_bias=stable,
        layerdrop=0, apply_spec_augment=False,
    )

    def call(model, samples):
        return (model(input_values=samples).last_hidden_state,)

    model = transformers.Wav2Vec2Model(config)
    # The factors of this weight are multiplied by the exporters: what the graph has is the product.
    torch.nn.utils.parametrize.remove_parametrizations(model.encoder.pos_conv_embed.conv, "weight")
    return Encoder(model, call, {"input_values": torch.randn(2, 230)}, [{0: "n", 1: "t"}], ["last_hidden_state"])


def multihead() -> Encoder:
    """Layers of PyTorch's own, whose queries, keys and values are one product that is cut up, as in torchvision's ViT."""
    layer = torch.nn.TransformerEncoderLayer(
        16, 2, 24, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    model = torch.nn.TransformerEncoder(layer, 2, norm=torch.nn.LayerNorm(16), enable_nested_tensor=False)

    def call(model, states):
        return (model(states),)

    return Encoder(model, call, {"states": torch.randn(2, 6, 16)}, [{0: "n"}], ["encoded"])


ENCODERS: dict[str, Callable[[], Encoder]] = {
    "bert": bert,
    "distilbert": distilbert,
    "vit": vit,
    "multihead": multihead,
    "clip-vision": clip_vision,
    "clip-text": clip_text,
    "whisper": whisper,
    "wav2vec2-group": lambda: wav2vec2("group"),
    "wav2vec2-layer": lambda: wav2vec2("layer"),
}


# In which older operator set each is written too, as files of earlier years are: no `LayerNormalization` below 17, no
# attention that the exporter knows as one below 14.
OLDER = {
    "distilbert": 11, "whisper": 11, "vit": 12, "clip-vision": 12,
    "bert": 13, "wav2vec2-layer": 13, "clip-text": 14, "multihead": 14,
}


def randomise(model: torch.nn.Module) -> None:
    """Draws every weight: scales around 1, all else around 0."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            scale = "norm" in name.lower() and name.endswith("weight")
            drawn = torch.randn(weight.shape) * (0.3 if weight.ndim > 1 else 0.1)
            weight.copy_(drawn + 1 if scale else drawn)


def export(called: Called, encoder: Encoder, exporter: str) -> onnx.ModelProto:
    """The graph as an exporter writes it, without what is only for people."""
    names, inputs = list(encoder.inputs), tuple(encoder.inputs.values())
    options: dict = {"input_names": names, "output_names": encoder.outputs}
    if exporter.startswith("legacy"):
        opset = int(exporter.removeprefix("legacy") or 17)
        if opset < 14 and hasattr(encoder.model, "set_attn_implementation"):
            encoder.model.set_attn_implementation("eager")
        options |= {"dynamic_axes": dict(zip(names, encoder.dynamic)), "opset_version": opset, "dynamo": False}
    else:
        free = torch.export.Dim.DYNAMIC
        shapes = tuple({axis: free for axis in dynamic} for dynamic in encoder.dynamic)
        options |= {"dynamic_shapes": (shapes,), "external_data": False, "verbose": False, "dynamo": True}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(called, inputs, str(path), **options)
        model = onnx.load(path)
    for part in [model, model.graph, *model.graph.node, *model.graph.initializer]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for node in model.graph.node:
        node.ClearField("name")
    for value in [*model.graph.input, *model.graph.output]:
        value.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    return model


def gradients(called: Called, encoder: Encoder, cotangents: list[torch.Tensor]) -> tuple[float, list]:
    """The loss, and each weight with its gradient, in 64 bits."""
    called.double()
    inputs = [given.double() if given.is_floating_point() else given for given in encoder.inputs.values()]
    found = called(*inputs)
    loss = sum((value * weights.double()).sum() for value, weights in zip(found, cotangents))
    loss.backward()
    weights = [(name, weight) for name, weight in called.named_parameters() if weight.grad is not None]
    pairs = [(name, weight.detach().float().numpy(), weight.grad.numpy()) for name, weight in weights]
    called.zero_grad()
    called.float()
    return float(loss), pairs


def of_constants(model: onnx.ModelProto, pairs: list) -> dict[str, np.ndarray]:
    """The gradients by the names that the graph has for the weights, which are the same numbers, some
    of them turned or with an axis more."""
    found, left = {}, {name for name, _, gradient in pairs if np.abs(gradient).max() > 0}
    for constant in model.graph.initializer:
        values = numpy_helper.to_array(constant)
        for name, weight, gradient in pairs:
            for turned in (weight, weight.T):
                if turned.size == values.size and np.array_equal(turned.reshape(values.shape), values):
                    ordered = gradient if turned is weight else gradient.T
                    found[constant.name] = ordered.reshape(values.shape)
                    left.discard(name)
    if left:
        raise SystemExit(f"the graph has no constant for {sorted(left)}")
    return found


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    # The graph is to be that of the layers, not of a fused form of them.
    torch.backends.mha.set_fastpath_enabled(False)
    OUT.mkdir(parents=True, exist_ok=True)
    for name, make in ENCODERS.items():
        older = [f"legacy{OLDER[name]}"] if name in OLDER else []
        exporters = ["legacy", "dynamo", *older]
        if sys.argv[1:]:
            exporters = [exporter for exporter in exporters if f"{name}.{exporter}" in sys.argv[1:]]
        if not exporters:
            continue
        torch.manual_seed(len(name))
        encoder = make()
        randomise(encoder.model)
        called = Called(encoder).eval()
        with torch.no_grad():
            cotangents = [torch.randn(value.shape) for value in called(*encoder.inputs.values())]
        loss, pairs = gradients(called, encoder, cotangents)
        for exporter in exporters:
            model = export(called, encoder, exporter)
            kept = {f"input/{given}": value.numpy() for given, value in encoder.inputs.items()}
            kept |= {f"cotangent/{out}": value.numpy() for out, value in zip(encoder.outputs, cotangents)}
            kept["loss"] = np.array(loss)
            for constant, gradient in of_constants(model, pairs).items():
                kept[f"gradient/{constant}"] = np.ascontiguousarray(gradient, dtype=np.float32)
            constants = [numpy_helper.from_array(value, key) for key, value in kept.items()]
            graph = helper.make_graph([], "gradients", [], [], constants)
            onnx.save(model, OUT / f"{name}.{exporter}.onnx")
            reference = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
            onnx.save(reference, OUT / f"{name}.{exporter}.gradients.onnx")
            print(name, exporter, len(model.graph.node), "nodes,", len(kept), "tensors")


if __name__ == "__main__":
    main()
