"""Small graphs of random weights with the inputs and outputs of every entry of the catalogue, in repositories laid out as the hub's."""

import json
import tomllib

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper
from service import ROOT
from small_models import bert_tokenizer, tower_tokenizer

CATALOGUE = {path.stem: tomllib.loads(path.read_text()) for path in sorted((ROOT / "catalogue").glob("*.toml"))}

PAIR_CLASSES = {"ms-marco-minilm": ["LABEL_0"], "bge-reranker-base": ["LABEL_0"]}
NLI_CLASSES = {"nli-deberta-v3-small": ["contradiction", "entailment", "neutral"], "nli-distilbert": ["ENTAILMENT", "NEUTRAL", "CONTRADICTION"]}
SIDES = {"inception-v3": 299}
# Axes are named where they are free, as exporters name them.
PICTURES = ["batch", 3, 224, 224]
SOUNDS = {
    "whisper-tiny": ("input_features", ["batch", 80, 3000], 2, "last_hidden_state", 384),
    "wav2vec2-base": ("input_values", ["batch", "samples"], 320, "last_hidden_state", 768),
    "hubert-base": ("input_values", ["batch", "samples"], 320, "last_hidden_state", 768),
    "yamnet": ("waveform", ["samples"], 7680, "output_1", 1024),
    "clap-htsat": ("input_features", ["batch", 1, 1001, 64], None, "audio_embeds", 512),
}


def graph(path, inputs, outputs, stride=None, seed=1):
    """A graph that reads its first input. Each output is that, averaged over all but its batch, times a row of weights; with `stride`,
    every so manieth step of its last axis is a vector of its own."""
    chance = numpy.random.default_rng(seed)
    name, (kind, shape) = next(iter(inputs.items()))
    nodes, weights = [helper.make_node("Cast", [name], ["values"], to=TensorProto.FLOAT)], []

    def constant(label, values):
        weights.append(numpy_helper.from_array(values, label))
        return label

    at = "values"
    over = [axis for axis in range(1, len(shape)) if not (stride and axis == len(shape) - 1)]
    if over:
        nodes.append(helper.make_node("ReduceMean", [at], ["mean"], axes=over, keepdims=0 if stride else 1))
        at = "mean"
    if stride:
        last = 0 if len(shape) == 1 else 1
        numbers = [constant(f"slice{i}", numpy.array([value], numpy.int64)) for i, value in enumerate((0, 2**31 - 1, last, stride))]
        nodes.append(helper.make_node("Slice", [at, *numbers], ["steps"]))
        nodes.append(helper.make_node("Unsqueeze", ["steps", constant("axis", numpy.array([-1], numpy.int64))], ["rows"]))
    else:
        nodes.append(helper.make_node("Reshape", [at, constant("shape", numpy.array([-1, 1], numpy.int64))], ["rows"]))
    given = []
    for output, size in outputs.items():
        nodes.append(helper.make_node("MatMul", ["rows", constant(f"of_{output}", chance.normal(size=(1, size)).astype(numpy.float32))], [output]))
        batch = [] if len(shape) == 1 else [shape[0]]
        given.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, [*batch, *(["steps"] if stride else []), size]))
    taken = [helper.make_tensor_value_info(label, kind, shape) for label, (kind, shape) in inputs.items()]
    model = helper.make_model(helper.make_graph(nodes, "small", taken, given, weights), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def texts(path, output, size, stride=1):
    inputs = {name: (TensorProto.INT64, ["batch", "tokens"]) for name in ("input_ids", "attention_mask", "token_type_ids")}
    graph(path, inputs, {output: size}, stride)


def pictures(path, outputs, shape=PICTURES, name="pixel_values"):
    graph(path, {name: (TensorProto.FLOAT, shape)}, outputs)


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def preprocessor(folder):
    write_json(folder / "preprocessor_config.json", {
        "do_resize": True, "size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True, "resample": 3,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    })


def write_text(name, folder):
    classes = PAIR_CLASSES.get(name) or NLI_CLASSES.get(name)
    config = {"model_type": "bert", "hidden_size": 32, "max_position_embeddings": 512}
    bert_tokenizer(folder / "tokenizer.json")
    if classes:
        texts(folder / "onnx/model.onnx", "logits", len(classes), None)
        config |= {"architectures": ["BertForSequenceClassification"], "id2label": {str(n): label for n, label in enumerate(classes)}}
    else:
        texts(folder / "onnx/model.onnx", "last_hidden_state", 32)
        write_json(folder / "1_Pooling/config.json", {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True})
        write_json(folder / "modules.json", [{"type": "sentence_transformers.models.Normalize"}])
    write_json(folder / "config.json", config)


def write_picture(name, folder):
    entry = CATALOGUE[name]
    preprocessor(folder)
    write_json(folder / "config.json", {"model_type": "vit", "hidden_size": 48, "id2label": {str(n): f"class {n}" for n in range(1000)}})
    if entry["reading"] == "entry":
        side, [file] = SIDES.get(name, 224), entry["files"]
        spec = entry["manifest"]
        shape = [1, side, side, 3] if spec["image"]["layout"] == "nhwc" else [1, 3, side, side]
        features = spec["output"]["features"]
        pictures(folder / file, {features.get("tensor", "875"): features["dimension"]}, shape, "x")
    elif name in ("vit-base", "dinov2-small"):
        graph(folder / "onnx/model.onnx", {"pixel_values": (TensorProto.FLOAT, PICTURES)}, {"last_hidden_state": 48}, stride=16)
        (folder / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 48}))
    else:
        pictures(folder / "onnx/model.onnx", {"logits": 1000})


def write_towers(name, folder):
    siglip = name.startswith("siglip")
    outputs = ["pooler_output"] * 2 if siglip else ["text_embeds", "image_embeds"]
    graph(folder / "onnx/text_model.onnx", {"input_ids": (TensorProto.INT64, ["batch", "tokens"])}, {outputs[0]: 16})
    pictures(folder / "onnx/vision_model.onnx", {outputs[1]: 16})
    tower_tokenizer(folder / "tokenizer.json", siglip)
    preprocessor(folder)
    write_json(folder / "config.json", {
        "model_type": "siglip" if siglip else "clip", "projection_dim": 16, "vision_config": {"image_size": 224, "hidden_size": 16},
        "text_config": {"max_position_embeddings": 12, "hidden_size": 16},
    })


def write_sound(name, folder):
    given, shape, stride, output, size = SOUNDS[name]
    others = {"output_0": 521, "output_2": 64} if name == "yamnet" else {}
    graph(folder / CATALOGUE[name]["files"][0], {given: (TensorProto.FLOAT, shape)}, {output: size} | others, stride)


WRITERS = {"text": write_text, "image": write_picture, "image, text": write_towers, "audio": write_sound}


def files(name, folder):
    """The files of an entry's repository, by path."""
    folder.mkdir(parents=True, exist_ok=True)
    WRITERS[CATALOGUE[name]["reads"]](name, folder)
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return found | {"README.md": f"---\nlicense: mit\n---\n{name}\n".encode(), ".gitattributes": b"*.onnx filter=lfs\n"}
