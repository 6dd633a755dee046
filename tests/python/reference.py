"""Features computed independently of the service: ONNX Runtime, tokenizers and Pillow on the same files."""

import functools
import tomllib

import numpy
import onnxruntime
from PIL import Image, ImageOps
from service import MODELS
from tokenizers import Tokenizer

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@functools.cache
def manifest(model):
    """The manifest of a bundled backbone."""
    return tomllib.loads((MODELS / model / "headstart.toml").read_text())


@functools.cache
def session(model):
    """The backbone's graph on two threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    # The service's sessions must not be the only ones that idle quietly while others measure.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = MODELS / model / manifest(model)["backbone"]["file"]
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@functools.cache
def tokenizer(model, truncate):
    """The backbone's tokenizer; what is too long loses its `start` or `end`, or nothing where that is None."""
    spec = manifest(model)["text"]
    made = Tokenizer.from_file(str(MODELS / model / spec["tokenizer"]))
    made.no_padding()
    made.no_truncation()
    if truncate is not None:
        made.enable_truncation(spec["max_tokens"], direction={"end": "right", "start": "left"}[truncate])
    return made


def token_ids(model, text, truncate=None):
    """Token ids of `text`, special tokens included; all of them unless `truncate` is `start` or `end`."""
    return tokenizer(model, truncate).encode(text).ids


def text_features(model, text, truncate="end"):
    """The feature vector of one text, alone in its call."""
    return token_features(model, token_ids(model, text, truncate))


def token_features(model, ids):
    """The feature vector of one list of token ids, alone in its call."""
    ids = numpy.array([ids], dtype=numpy.int64)
    known = {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "token_type_ids": numpy.zeros_like(ids)}
    runner, features = session(model), manifest(model)["output"]["features"]
    feeds = {given.name: known[given.name] for given in runner.get_inputs()}
    (tokens,) = runner.run([features["tensor"]], feeds)
    pooled = {"mean": lambda: tokens[0].mean(axis=0), "cls": lambda: tokens[0, 0], "none": lambda: tokens[0]}
    return _finished(pooled[features["pooling"]](), features)


def image_features(model, file):
    """The feature vector of the picture in `file`, decoded by Pillow."""
    upright = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    return pixel_features(model, upright)


def pixel_features(model, image):
    """The feature vector of an RGB picture."""
    spec = manifest(model)["image"]
    image = _resized(image, spec["resize"], FILTERS[spec["filter"]])
    image = _cropped(image, spec["size"])
    pixels = numpy.asarray(image, dtype=numpy.float32)
    if spec["channel_order"] == "bgr":
        pixels = pixels[:, :, ::-1]
    values = (pixels * numpy.float32(spec["scale"]) - numpy.float32(spec["mean"])) / numpy.float32(spec["std"])
    if spec["layout"] == "nchw":
        values = values.transpose(2, 0, 1)
    runner, features = session(model), manifest(model)["output"]["features"]
    feeds = {runner.get_inputs()[0].name: numpy.ascontiguousarray(values[None], dtype=numpy.float32)}
    (rows,) = runner.run([features["tensor"]], feeds)
    return _finished(rows[0], features)


def _resized(image, shorter, resampling):
    width, height = image.size
    if width <= height:
        size = (shorter, int(shorter * height / width))
    else:
        size = (int(shorter * width / height), shorter)
    return image.resize(size, resampling)


def _cropped(image, side):
    left, top = (round((length - side) / 2) for length in image.size)
    return image.crop((left, top, left + side, top + side))


def _finished(vector, features):
    vector = numpy.asarray(vector, dtype=numpy.float64)
    assert vector.shape == (features["dimension"],)
    return vector / numpy.linalg.norm(vector) if features["normalise"] else vector


def cosine(left, right):
    """Cosine of two vectors, computed in double precision."""
    left, right = numpy.asarray(left, dtype=numpy.float64), numpy.asarray(right, dtype=numpy.float64)
    return float(left @ right / (numpy.linalg.norm(left) * numpy.linalg.norm(right)))
