"""An independent BERT forward pass in numpy, float64, straight from the checkpoint: what the ONNX file is compared with."""

import numpy as np
from scipy.special import erf


def pooled(weights: dict[str, np.ndarray], token_ids: list[int], heads: int) -> np.ndarray:
    """Mean of the last hidden states of one text without padding: `[width]`, not normalised. Source: Devlin et al. 2019."""

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].astype(np.float64).T + weights[f"{name}.bias"]

    def layer_norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return centred / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    tokens = len(token_ids)
    hidden = weights["embeddings.word_embeddings.weight"][token_ids].astype(np.float64)
    hidden = hidden + weights["embeddings.position_embeddings.weight"][:tokens] + weights["embeddings.token_type_embeddings.weight"][0]
    hidden = layer_norm(hidden, "embeddings.LayerNorm")
    number = 0
    while f"encoder.layer.{number}.output.dense.weight" in weights:
        layer = f"encoder.layer.{number}"
        query, key, value = (
            dense(hidden, f"{layer}.attention.self.{part}").reshape(tokens, heads, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(1, 2) / np.sqrt(query.shape[-1])
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        context = (shares / shares.sum(-1, keepdims=True)) @ value
        context = dense(context.swapaxes(0, 1).reshape(tokens, -1), f"{layer}.attention.output.dense")
        hidden = layer_norm(hidden + context, f"{layer}.attention.output.LayerNorm")
        inner = dense(hidden, f"{layer}.intermediate.dense")
        inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
        hidden = layer_norm(hidden + dense(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        number += 1
    return hidden.mean(0)
