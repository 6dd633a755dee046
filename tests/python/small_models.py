"""Small models of random weights in the forms that exporters write: cross-encoders, two towers, an encoder and a classifier of pictures.

No weights of these families need to be had: what is proved is that requests, batches and answers do the same arithmetic as
ONNX Runtime and numpy on the same files.
"""

import hashlib
import json
import math
import os
import shutil
import string

import numpy
import onnx
from onnx import TensorProto, helper
from service import MODELS, TEXT
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WIDTH, SPACE, ROWS = 32, 16, 512
PAIR_TOKENS, CLIP_TOKENS, SIGLIP_TOKENS = 24, 20, 12
NLI = ["contradiction", "entailment", "neutral"]
SCALE, BIAS = 10.0, -2.0

RERANKER, ENTAILING, ENTAILING_FOLDER = "small-reranker", "small-nli", "small-nli-folder"
CLIP, CLIP_MANIFEST, SIGLIP = "small-clip", "small-clip-manifest", "small-siglip"
ENCODER, CLASSIFIER = "minilm-folder", "small-classifier"
DYNAMIC = "small-dynamic"
# Rows of a table that are far larger than the others: the word "money", and the last of the tokens that a start tries.
LARGE_ROWS, LARGE = [64, 177], 200.0


class Builder:
    """A graph of named nodes and seeded weights."""

    def __init__(self, seed):
        self.chance, self.nodes, self.weights = numpy.random.default_rng(seed), [], []

    def constant(self, values, dtype=numpy.float32):
        name = f"w{len(self.weights)}"
        self.weights.append(onnx.numpy_helper.from_array(numpy.asarray(values, dtype=dtype), name))
        return name

    def weight(self, *shape, scale=1.0):
        return self.constant(self.chance.normal(0, scale, shape))

    def node(self, operator, *inputs, output=None, **attributes):
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def indices(self, *values):
        return self.constant(values, numpy.int64)

    def dense(self, x, to, scale, output=None):
        bias = self.weight(to, scale=0.1)
        return self.node("Add", self.node("MatMul", x, self.weight(WIDTH, to, scale=scale)), bias, output=output)

    def normal(self, x):
        return self.node("LayerNormalization", x, self.constant(numpy.ones(WIDTH)), self.constant(numpy.zeros(WIDTH)), axis=-1)

    def positions(self, ids):
        """0, 1, … of the sequence's length."""
        length = self.node("Gather", self.node("Shape", ids), self.constant(1, numpy.int64))
        return self.node("Range", self.constant(0, numpy.int64), length, self.constant(1, numpy.int64))

    def attention(self, x, bias):
        query, key, value = (self.dense(x, WIDTH, 0.4) for _ in range(3))
        scores = self.node("MatMul", query, self.node("Transpose", key, perm=[0, 2, 1]))
        scores = self.node("Mul", scores, self.constant(1 / math.sqrt(WIDTH)))
        if bias:
            scores = self.node("Add", scores, bias)
        return self.normal(self.node("Add", x, self.node("MatMul", self.node("Softmax", scores, axis=-1), value)))

    def embedded(self, ids, longest, *others):
        places = self.positions(ids)
        x = self.node("Add", self.node("Gather", self.weight(ROWS, WIDTH), ids), self.node("Gather", self.weight(longest, WIDTH), places))
        for other in others:
            x = self.node("Add", x, other)
        return self.normal(x), places

    def save(self, path, inputs, outputs):
        def info(name, kind, shape):
            return helper.make_tensor_value_info(name, kind, shape)

        ids = [info(name, TensorProto.INT64, ["batch", "tokens"]) for name in inputs if name != "pixel_values"]
        pictures = [info(name, TensorProto.FLOAT, ["batch", 3, 32, 32]) for name in inputs if name == "pixel_values"]
        given = [info(name, TensorProto.FLOAT, ["batch", *(size if isinstance(size, tuple) else (size,))]) for name, size in outputs.items()]
        graph = helper.make_graph(self.nodes, "small", ids + pictures, given, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model.SerializeToString())


def cross_encoder(path, classes, seed):
    """BERT's form: words, positions and segments; attention under the mask; the first token's vector; a head."""
    built = Builder(seed)
    segments = built.node("Gather", built.weight(2, WIDTH), "token_type_ids")
    x, _ = built.embedded("input_ids", PAIR_TOKENS, segments)
    hidden = built.node("Sub", built.constant(1.0), built.node("Cast", "attention_mask", to=TensorProto.FLOAT))
    bias = built.node("Unsqueeze", built.node("Mul", hidden, built.constant(-1e4)), built.indices(1))
    first = built.node("Gather", built.attention(x, bias), built.constant(0, numpy.int64), axis=1)
    built.dense(built.node("Tanh", built.dense(first, WIDTH, 0.3)), classes, 0.4, output="logits")
    built.save(path, ["input_ids", "attention_mask", "token_type_ids"], {"logits": classes})


def text_tower(path, output, siglip, seed):
    """CLIP's looks back only and gives the vector of its last token, SigLIP's that of its last position."""
    built = Builder(seed)
    x, places = built.embedded("input_ids", SIGLIP_TOKENS if siglip else CLIP_TOKENS)
    across, down = (built.node("Unsqueeze", places, built.indices(axis)) for axis in (0, 1))
    later = built.node("Cast", built.node("Greater", across, down), to=TensorProto.FLOAT)
    x = built.attention(x, None if siglip else built.node("Mul", later, built.constant(-1e4)))
    if siglip:
        taken = built.node("Gather", x, built.constant(-1, numpy.int64), axis=1)
    else:
        end = built.node("ArgMax", "input_ids", axis=1, keepdims=1)
        here = built.node("Cast", built.node("Equal", across, end), to=TensorProto.FLOAT)
        taken = built.node("MatMul", built.node("Unsqueeze", here, built.indices(1)), x)
        taken = built.node("Squeeze", taken, built.indices(1))
    built.dense(taken, SPACE, 0.3, output=output)
    built.save(path, ["input_ids"], {output: SPACE})


def picture_tower(path, output, seed, size=SPACE):
    """Patches, their mean, and a projection."""
    built = Builder(seed)
    patches = built.node("Conv", "pixel_values", built.weight(WIDTH, 3, 8, 8, scale=0.15), strides=[8, 8])
    pooled = built.node("Flatten", built.node("GlobalAveragePool", built.node("Tanh", patches)))
    built.dense(pooled, size, 0.8, output=output)
    built.save(path, ["pixel_values"], {output: size})


def dynamic_encoder(path, seed):
    """Word vectors in bytes whose step is taken over a whole call, as dynamic quantisation has it: a large one makes all others coarse."""
    built = Builder(seed)
    rows = built.chance.normal(0, 1, (ROWS, WIDTH))
    rows[LARGE_ROWS] *= LARGE
    built.nodes.append(helper.make_node("DynamicQuantizeLinear", [built.node("Gather", built.constant(rows), "input_ids")], ["bytes", "step", "zero"]))
    built.node("DequantizeLinear", "bytes", "step", "zero", output="last_hidden_state")
    built.save(path, ["input_ids"], {"last_hidden_state": ("tokens", WIDTH)})


def bert_tokenizer(path):
    """BERT's tokenizer of single characters and a few words."""
    words = ["the", "a", "is", "about", "this", "example", "cat", "dog", "money", "refund", "sport", "politics", "?", "."]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase), *words]
    tokenizer = Tokenizer(models.WordPiece({piece: place for place, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(path))


def tower_tokenizer(path, siglip):
    """Words of a few letters as rows of their own, framed as CLIP or ended as SigLIP does."""
    words = ["<unk>", "<pad>", *"this is a photo of the cat dog car house red blue in on . ,".split(" ")]
    vocabulary = {word: place for place, word in enumerate(words)} | {"<s>": ROWS - 2, "</s>": ROWS - 1}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    single, special = ("$A </s>", [("</s>", ROWS - 1)]) if siglip else ("<s> $A </s>", [("<s>", ROWS - 2), ("</s>", ROWS - 1)])
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    tokenizer.save(str(path))


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


BACKBONE = """version = 1
[backbone]
id = "{id}"
modality = "{modality}"
file = "{file}"
sha256 = "{sha256}"
licence = "CC0-1.0"
source_task = "none: random weights"
"""

PAIRS = """
[text]
tokenizer = "tokenizer.json"
max_tokens = {tokens}
pairs = true
[output.features]
tensor = "logits"
pooling = "none"
normalise = false
dimension = 3
[output.logits]
tensor = "logits"
classes = {classes}
[zero_shot]
kind = "entailment"
templates = ["this is about {{}}.", "the example is {{}}."]
"""

TOWERS = """
[text]
tokenizer = "tokenizer.json"
max_tokens = {tokens}
[image]
size = 32
resize = 40
filter = "bilinear"
scale = 0.00392156862745098
mean = [0.5, 0.4, 0.3]
std = [0.2, 0.3, 0.4]
channel_order = "rgb"
layout = "nchw"
[output.features]
tensor = "image_embeds"
pooling = "none"
normalise = true
dimension = {space}
[text_tower]
file = "onnx/text_model.onnx"
sha256 = "{text_sha256}"
[text_tower.features]
tensor = "text_embeds"
pooling = "none"
normalise = true
dimension = {space}
[zero_shot]
kind = "towers"
logit_scale = {scale}
[zero_shot.labels]
templates = ["a photo of a {{}}.", "the {{}} in the house"]
description_weight = 0.5
example_prior = 5.0
"""


def write_cross_encoders(root):
    for name, classes, seed in ((RERANKER, ["LABEL_0"], 1), (ENTAILING_FOLDER, ["ENTAILMENT", "NEUTRAL", "CONTRADICTION"], 2)):
        cross_encoder(root / name / "onnx" / "model.onnx", len(classes), seed)
        bert_tokenizer(root / name / "tokenizer.json")
        named = {str(place): label for place, label in enumerate(classes)}
        write_json(root / name / "config.json", {
            "model_type": "bert", "architectures": ["BertForSequenceClassification"], "hidden_size": WIDTH,
            "max_position_embeddings": PAIR_TOKENS, "id2label": named,
        })
    folder = root / ENTAILING
    cross_encoder(folder / "model.onnx", 3, 3)
    bert_tokenizer(folder / "tokenizer.json")
    head = BACKBONE.format(id=ENTAILING, modality="text", file="model.onnx", sha256=digest(folder / "model.onnx"))
    (folder / "headstart.toml").write_text(head + PAIRS.format(tokens=PAIR_TOKENS, classes=json.dumps(NLI)))


ENCODING = """
[text]
tokenizer = "tokenizer.json"
max_tokens = {tokens}
[output.features]
tensor = "last_hidden_state"
pooling = "mean"
normalise = true
dimension = {width}
{more}"""


PICTURE = """
[image]
size = 32
resize = 32
filter = "bicubic"
scale = 0.00392156862745098
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
channel_order = "rgb"
layout = "nchw"
[output.features]
tensor = "features"
pooling = "none"
normalise = true
dimension = {width}
{more}"""


def write_dynamic(root, name=DYNAMIC, more=""):
    """A backbone of that encoder; `more` are further lines of its manifest."""
    folder = root / name
    dynamic_encoder(folder / "model.onnx", 12)
    bert_tokenizer(folder / "tokenizer.json")
    head = BACKBONE.format(id=name, modality="text", file="model.onnx", sha256=digest(folder / "model.onnx"))
    (folder / "headstart.toml").write_text(head + ENCODING.format(tokens=PAIR_TOKENS, width=WIDTH, more=more))


def byte_pictures(path, dynamic):
    """A picture in bytes, whose step is taken over a whole call or given, then the means of its channels and a projection."""
    built = Builder(21)
    if dynamic:
        built.nodes.append(helper.make_node("DynamicQuantizeLinear", ["pixel_values"], ["bytes", "step", "zero"]))
        given = ("bytes", "step", "zero")
    else:
        step = (built.constant(2e-4), built.constant(128, numpy.uint8))
        given = (built.node("QuantizeLinear", "pixel_values", *step), *step)
    pooled = built.node("Flatten", built.node("GlobalAveragePool", built.node("DequantizeLinear", *given)))
    built.node("MatMul", pooled, built.weight(3, SPACE), output="features")
    built.save(path, ["pixel_values"], {"features": SPACE})


def write_byte_pictures(root, name, dynamic, more=""):
    folder = root / name
    byte_pictures(folder / "model.onnx", dynamic)
    head = BACKBONE.format(id=name, modality="image", file="model.onnx", sha256=digest(folder / "model.onnx"))
    (folder / "headstart.toml").write_text(head + PICTURE.format(width=SPACE, more=more))


def write_towers(root):
    for name, siglip, seed in ((CLIP, False, 4), (SIGLIP, True, 6), (CLIP_MANIFEST, False, 8)):
        folder, outputs = root / name, ["pooler_output"] * 2 if siglip else ["text_embeds", "image_embeds"]
        text_tower(folder / "onnx" / "text_model.onnx", outputs[0], siglip, seed)
        picture_tower(folder / "onnx" / "vision_model.onnx", outputs[1], seed + 1)
        tower_tokenizer(folder / "tokenizer.json", siglip)
    write_json(root / CLIP / "config.json", {
        "model_type": "clip", "projection_dim": SPACE, "text_config": {"max_position_embeddings": CLIP_TOKENS},
        "vision_config": {"image_size": 32},
    })
    write_json(root / CLIP / "preprocessor_config.json", {
        "size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True, "do_resize": True,
        "resample": 3, "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28],
    })
    write_json(root / SIGLIP / "config.json", {
        "model_type": "siglip", "logit_scale": SCALE, "logit_bias": BIAS, "vision_config": {"image_size": 32},
        "text_config": {"max_position_embeddings": SIGLIP_TOKENS, "pad_token_id": 1},
    })
    write_json(root / SIGLIP / "preprocessor_config.json", {
        "size": {"height": 32, "width": 32}, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    })
    folder = root / CLIP_MANIFEST
    vision = "onnx/vision_model.onnx"
    head = BACKBONE.format(id=CLIP_MANIFEST, modality="image", file=vision, sha256=digest(folder / vision))
    text_sha256 = digest(folder / "onnx" / "text_model.onnx")
    manifest = head + TOWERS.format(tokens=CLIP_TOKENS, space=SPACE, text_sha256=text_sha256, scale=SCALE)
    (folder / "headstart.toml").write_text(manifest)


def write_joint(split, folder, factor="number"):
    """Both towers of a folder in one graph, with the scores of all pairs, as Optimum exports CLIP unless it is told otherwise.

    Cosines are multiplied with a number; with an "exponential", a bias behind it, as exporters write SigLIP's; or with what the
    "mask" says, as none does.
    """
    built, nodes, weights = Builder(0), [], []
    for tower in ("text", "vision"):
        graph = onnx.load(split / "onnx" / f"{tower}_model.onnx").graph
        given = {value.name for value in graph.input}
        for node in graph.node:
            node.input[:] = [name if name in given else f"{tower}/{name}" for name in node.input]
            node.output[:] = [f"{tower}/{name}" for name in node.output]
        for tensor in graph.initializer:
            tensor.name = f"{tower}/{tensor.name}"
        nodes += graph.node
        weights += graph.initializer
    # The mask is read, and changes nothing of a text alone.
    seen = built.node("ReduceMax", built.node("Cast", "attention_mask", to=TensorProto.FLOAT), axes=[1], keepdims=1)
    text = built.node("Mul", "text/text_embeds", seen, output="text_embeds")
    picture = built.node("Identity", "vision/image_embeds", output="image_embeds")
    scores = built.node("MatMul", text, built.node("Transpose", picture, perm=[1, 0]))
    if factor == "exponential":
        scores = built.node("Mul", scores, built.node("Exp", built.constant([math.log(SCALE)])))
        scores = built.node("Add", scores, built.constant([BIAS]), output="logits_per_text")
    else:
        factor = built.constant(SCALE) if factor == "number" else built.node("ReduceMax", seen, keepdims=0)
        scores = built.node("Mul", scores, factor, output="logits_per_text")
    built.node("Transpose", scores, perm=[1, 0], output="logits_per_image")

    info, number = helper.make_tensor_value_info, TensorProto.FLOAT
    inputs = [info("input_ids", TensorProto.INT64, ["texts", "tokens"]), info("pixel_values", number, ["images", 3, 32, 32]),
              info("attention_mask", TensorProto.INT64, ["texts", "tokens"])]
    outputs = [info("logits_per_image", number, ["images", "texts"]), info("logits_per_text", number, ["texts", "images"]),
               info("text_embeds", number, ["texts", SPACE]), info("image_embeds", number, ["images", SPACE])]
    graph = helper.make_graph([*nodes, *built.nodes], "joint", inputs, outputs, [*weights, *built.weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    for file in ("config.json", "preprocessor_config.json", "tokenizer.json"):
        shutil.copy(split / file, folder)
    return folder


def write_encoders(root):
    folder = root / ENCODER
    (folder / "onnx").mkdir(parents=True)
    os.symlink(MODELS / TEXT / "model.onnx", folder / "onnx" / "model.onnx")
    shutil.copy(MODELS / TEXT / "tokenizer.json", folder)
    write_json(folder / "config.json", {"model_type": "bert", "hidden_size": 384, "max_position_embeddings": 512})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 256})
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True})
    write_json(folder / "modules.json", [{"type": "sentence_transformers.models.Normalize"}])
    folder = root / CLASSIFIER
    picture_tower(folder / "model.onnx", "logits", 10, size=3)
    write_json(folder / "config.json", {"model_type": "vit", "id2label": {"0": "cat", "1": "dog", "2": "car"}})
    write_json(folder / "preprocessor_config.json", {"size": 32, "resample": 2, "do_normalize": True})


def write(root):
    """Writes all of them into folders of `root`."""
    write_cross_encoders(root)
    write_towers(root)
    write_encoders(root)
    return root
