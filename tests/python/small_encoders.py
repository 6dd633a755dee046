"""Small encoders of BERT's family with random weights, as Hugging Face keeps them, and what they compute, in numpy and double precision.

Sources: Devlin et al. 2019 (BERT), Liu et al. 2019 (RoBERTa), Sanh et al. 2019 (DistilBERT), Song et al. 2020 (MPNet), and the names
that transformers gives their weights.
"""

import dataclasses
import json
import math

import numpy
from small_models import ROWS, bert_tokenizer, write_json

WIDTH, HEADS, INNER, LAYERS, PLACES = 24, 3, 40, 2, 40
BUCKETS = 32


@dataclasses.dataclass(frozen=True)
class Kind:
    """An encoder: its family and what its configuration decides."""

    name: str
    model_type: str
    activation: str = "gelu"
    epsilon: float = 1e-12
    # What stands before every name, and classes of a head.
    prefix: str = ""
    classes: int = 0
    # How values are stored: F32, F16 or BF16; in how many files.
    stored: str = "F32"
    files: int = 1
    # Norms by the names of TensorFlow.
    old_norms: bool = False
    segments: int = 2

    def __str__(self):
        return self.name


KINDS = [
    Kind("bert", "bert"),
    Kind("bert-old", "bert", activation="gelu_new", prefix="bert.", old_norms=True, files=2),
    Kind("bert-half", "bert", activation="silu", stored="F16"),
    Kind("distilbert", "distilbert", prefix="distilbert."),
    Kind("distilbert-relu", "distilbert", activation="relu", stored="BF16"),
    Kind("roberta", "roberta", epsilon=1e-5, prefix="roberta.", segments=1),
    Kind("xlm", "xlm-roberta", epsilon=1e-5, segments=1),
    Kind("mpnet", "mpnet", epsilon=1e-5),
    Kind("bert-ranks", "bert", prefix="bert.", classes=1),
    Kind("distilbert-ranks", "distilbert", prefix="distilbert.", classes=1),
    Kind("roberta-ranks", "roberta", epsilon=1e-5, prefix="roberta.", classes=1, segments=1),
    Kind("mpnet-ranks", "mpnet", prefix="mpnet.", classes=1),
]

LAYER = {
    "bert": ("encoder.layer.{}.", "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
             "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"),
    "distilbert": ("transformer.layer.{}.", "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
                   "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"),
    "mpnet": ("encoder.layer.{}.", "attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o",
              "attention.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"),
}
HEAD = {
    "bert": ("pooler.dense", "classifier"),
    "distilbert": ("pre_classifier", "classifier"),
    "roberta": ("classifier.dense", "classifier.out_proj"),
    "mpnet": ("classifier.dense", "classifier.out_proj"),
}


def _names(kind):
    return LAYER.get(kind.model_type, LAYER["bert"])


def _head(kind):
    dense, classes = HEAD["roberta" if "roberta" in kind.model_type else kind.model_type]
    return (kind.prefix + dense if kind.model_type == "bert" else dense), classes


def _counts_from_padding(kind):
    return "roberta" in kind.model_type or kind.model_type == "mpnet"


def _padding(kind):
    return 1 if _counts_from_padding(kind) else 0


def weights(kind):
    """Name → array, seeded by the kind's own name."""
    chance = numpy.random.default_rng(list(kind.name.encode()))
    made = {}

    def matrix(name, rows, columns, scale=0.3):
        made[name] = chance.normal(0, scale, (rows, columns))

    def dense(name, to, given):
        matrix(f"{name}.weight", to, given)
        made[f"{name}.bias"] = chance.normal(0, 0.1, to)

    def norm(name):
        scale, shift = ("gamma", "beta") if kind.old_norms else ("weight", "bias")
        made[f"{name}.{scale}"] = chance.normal(1, 0.1, WIDTH)
        made[f"{name}.{shift}"] = chance.normal(0, 0.1, WIDTH)

    within, query, key, value, attended, attention_norm, inner, outer, last_norm = _names(kind)
    own = kind.prefix
    matrix(f"{own}embeddings.word_embeddings.weight", ROWS, WIDTH, 1.0)
    matrix(f"{own}embeddings.position_embeddings.weight", PLACES + (_padding(kind) + 1 if _counts_from_padding(kind) else 0), WIDTH, 0.5)
    if kind.model_type not in {"distilbert", "mpnet"}:
        matrix(f"{own}embeddings.token_type_embeddings.weight", kind.segments, WIDTH, 0.5)
    norm(f"{own}embeddings.LayerNorm")
    if kind.model_type == "mpnet":
        matrix(f"{own}encoder.relative_attention_bias.weight", BUCKETS, HEADS, 1.0)
    for number in range(LAYERS):
        at = own + within.format(number)
        for part in (query, key, value, attended):
            dense(at + part, WIDTH, WIDTH)
        dense(at + inner, INNER, WIDTH)
        dense(at + outer, WIDTH, INNER)
        norm(at + attention_norm)
        norm(at + last_norm)
    if kind.classes:
        first, second = _head(kind)
        dense(first, WIDTH, WIDTH)
        dense(second, kind.classes, WIDTH)
    return {name: _rounded(values, kind.stored) for name, values in made.items()}


def _rounded(values, stored):
    """Values that the stored form holds exactly."""
    single = values.astype(numpy.float32)
    if stored == "F16":
        return single.astype(numpy.float16).astype(numpy.float32)
    if stored == "BF16":
        return (single.view(numpy.uint32) & 0xFFFF0000).view(numpy.float32)
    return single


def _bytes(values, stored):
    if stored == "F16":
        return values.astype("<f2").tobytes()
    if stored == "BF16":
        return (values.view(numpy.uint32) >> 16).astype("<u2").tobytes()
    return values.astype("<f4").tobytes()


def safetensors(path, tensors, stored="F32"):
    """Writes a file of that format: the header's length, the header, the values."""
    header, at, parts = {"__metadata__": {"format": "pt"}}, 0, []
    for name, values in tensors.items():
        parts.append(_bytes(values, stored))
        header[name] = {"dtype": stored, "shape": list(values.shape), "data_offsets": [at, at + len(parts[-1])]}
        at += len(parts[-1])
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def config(kind):
    """`config.json`."""
    named = {"": "Model", "1": "ForSequenceClassification"}["1" if kind.classes else ""]
    if kind.model_type == "distilbert":
        sizes = {"dim": WIDTH, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER, "activation": kind.activation}
    else:
        sizes = {
            "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": INNER,
            "hidden_act": kind.activation, "layer_norm_eps": kind.epsilon, "type_vocab_size": kind.segments,
        }
    places = PLACES + (2 if _counts_from_padding(kind) else 0)
    labels = {"id2label": {"0": "LABEL_0"}} if kind.classes else {}
    return {
        "model_type": kind.model_type, "architectures": [f"Some{named}"], "vocab_size": ROWS, "max_position_embeddings": places,
        "pad_token_id": _padding(kind), "attention_probs_dropout_prob": 0.1, **sizes, **labels,
    }


def write(kind, folder, pooling="mean", normalise=True, longest=None):
    """Writes the folder as sentence-transformers would."""
    folder.mkdir(parents=True)
    tensors = weights(kind)
    if kind.files == 1:
        safetensors(folder / "model.safetensors", tensors, kind.stored)
    else:
        placed = {name: f"model-0000{1 + place % kind.files}-of-0000{kind.files}.safetensors" for place, name in enumerate(tensors)}
        for file in set(placed.values()):
            safetensors(folder / file, {name: values for name, values in tensors.items() if placed[name] == file}, kind.stored)
        write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": placed})
    write_json(folder / "config.json", config(kind))
    bert_tokenizer(folder / "tokenizer.json")
    if not kind.classes:
        modes = {f"pooling_mode_{mode}": mode == f"{pooling}_token{'s' if pooling != 'cls' else ''}" for mode in ("cls_token", "mean_tokens", "max_tokens")}
        write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": WIDTH, **modes})
        kinds = ["Transformer", "Pooling", *(["Normalize"] if normalise else [])]
        write_json(folder / "modules.json", [{"idx": place, "type": f"sentence_transformers.models.{name}"} for place, name in enumerate(kinds)])
        if longest:
            write_json(folder / "sentence_bert_config.json", {"max_seq_length": longest})
    return folder


def _active(x, name):
    match name:
        case "gelu":
            return x * (1 + numpy.vectorize(math.erf)(x / math.sqrt(2))) / 2
        case "gelu_new":
            return x * (1 + numpy.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
        case "relu":
            return numpy.maximum(x, 0)
        case "silu":
            return x / (1 + numpy.exp(-x))


def _bucket(distance):
    """The bucket of a key so far behind its query (Raffel et al. 2020)."""
    bucket, distance = (BUCKETS // 2 if distance > 0 else 0), abs(distance)
    exact = BUCKETS // 4
    if distance < exact:
        return bucket + distance
    beyond = int(numpy.float32(math.log(distance / exact) / math.log(128 / exact) * (BUCKETS // 2 - exact)))
    return bucket + min(exact + beyond, BUCKETS // 2 - 1)


def hidden(kind, ids, segments=None):
    """The last hidden states of one text without padding: `[tokens, WIDTH]`."""
    made = {name.replace("gamma", "weight").replace("beta", "bias"): values.astype(float) for name, values in weights(kind).items()}
    own, (within, query, key, value, attended, attention_norm, inner, outer, last_norm) = kind.prefix, _names(kind)

    def dense(x, name):
        return x @ made[f"{name}.weight"].T + made[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return centred / numpy.sqrt((centred**2).mean(-1, keepdims=True) + kind.epsilon) * made[f"{name}.weight"] + made[f"{name}.bias"]

    def heads(x):
        return x.reshape(len(ids), HEADS, -1).swapaxes(0, 1)

    ids = numpy.asarray(ids)
    places = numpy.arange(len(ids))
    if _counts_from_padding(kind):
        real = ids != _padding(kind)
        places = numpy.cumsum(real) * real + _padding(kind)
    x = made[f"{own}embeddings.word_embeddings.weight"][ids] + made[f"{own}embeddings.position_embeddings.weight"][places]
    if kind.model_type not in {"distilbert", "mpnet"}:
        x = x + made[f"{own}embeddings.token_type_embeddings.weight"][[0] * len(ids) if segments is None else segments]
    x = norm(x, f"{own}embeddings.LayerNorm")
    bias = 0
    if kind.model_type == "mpnet":
        buckets = [[_bucket(k - q) for k in range(len(ids))] for q in range(len(ids))]
        bias = made[f"{own}encoder.relative_attention_bias.weight"][buckets].transpose(2, 0, 1)
    for number in range(LAYERS):
        at = own + within.format(number)
        q, k, v = (heads(dense(x, at + part)) for part in (query, key, value))
        scores = q @ k.swapaxes(1, 2) / math.sqrt(WIDTH // HEADS) + bias
        shares = numpy.exp(scores - scores.max(-1, keepdims=True))
        context = (shares / shares.sum(-1, keepdims=True)) @ v
        context = context.swapaxes(0, 1).reshape(len(ids), WIDTH)
        x = norm(x + dense(context, at + attended), at + attention_norm)
        x = norm(x + dense(_active(dense(x, at + inner), kind.activation), at + outer), at + last_norm)
    return x


def logit(kind, ids, segments):
    """What the head says of a pair."""
    made = {name: values.astype(float) for name, values in weights(kind).items()}
    first, second = _head(kind)
    pooled = hidden(kind, ids, segments)[0] @ made[f"{first}.weight"].T + made[f"{first}.bias"]
    pooled = numpy.maximum(pooled, 0) if kind.model_type == "distilbert" else numpy.tanh(pooled)
    return float((pooled @ made[f"{second}.weight"].T + made[f"{second}.bias"])[0])
