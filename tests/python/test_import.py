"""`headstart import` of graphs and weights: converted, guessed, tried, and served with the numbers of a reference."""

import json
import re
import shutil
import tomllib

import numpy
import onnx
import onnxruntime
import pytest
import small_encoders
import small_graphs
from onnx import TensorProto, helper, numpy_helper
from pictures import cat
from PIL import Image, ImageOps
from reference import text_features
from service import EXAMPLES, IMAGE, MODELS, TEXT, Service
from small_encoders import KINDS
from small_models import digest, write_json
from sounds import tone, wav
from test_words import imported, importing
from tokenizers import Tokenizer

TEXTS = ["the cat is about money ?", "dog", "this example is about sport . " * 9, "zebra ☃ politics"]
ENCODERS = [kind for kind in KINDS if not kind.classes]
RANKERS = [kind for kind in KINDS if kind.classes]


def manifest(models, name):
    return tomllib.loads((models / name / "headstart.toml").read_text())


def unit(vectors):
    vectors = numpy.asarray(vectors, dtype=float)
    return vectors / numpy.linalg.norm(vectors, axis=-1, keepdims=True)


def refused(models, source, *flags):
    """What the command said; it must have failed and left nothing."""
    done = importing(models, source, "bad", *flags)
    assert done.returncode != 0, done.stderr
    assert "panicked" not in done.stderr
    assert not list(models.glob("*bad*")) and not list(models.glob(".*"))
    return done.stderr


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The small encoders' folders."""
    root = tmp_path_factory.mktemp("sources")
    for kind in KINDS:
        small_encoders.write(kind, root / kind.name, longest=30)
    return root


@pytest.fixture(scope="module")
def models(sources, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        imported(root, sources / kind.name, kind.name)
    imported(root, sources / "bert", "bert-in-half", "--precision", "fp16")
    for index, shape in enumerate(small_graphs.SHAPES):
        folder = sources / f"graph-{index}"
        small_graphs.folder_of(shape, folder, index)
        imported(root, folder / f"small-{index}" / "model.onnx", f"graph-{index}", *settings(shape))
    return root


def settings(shape):
    """What no graph of random weights tells, as `--set`."""
    given = {"image.resize": 40, "image.filter": "bilinear", "image.scale": shape.scale, "image.mean": list(shape.mean)}
    given |= {"image.std": list(shape.std), "image.channel_order": shape.order}
    return [part for field, value in given.items() for part in ("--set", f"{field}={json.dumps(value) if isinstance(value, list) else value}")]


@pytest.fixture(scope="module")
def served(models, tmp_path_factory):
    running = Service(tmp_path_factory.mktemp("imported"), models=models)
    yield running
    running.stop()


def tokens(folder, text, longest=30):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(longest)
    return tokenizer.encode(text).ids


@pytest.mark.parametrize("kind", ENCODERS, ids=str)
def test_a_converted_encoder_gives_the_vectors_of_the_reference(kind, sources, served):
    expected = [unit(small_encoders.hidden(kind, tokens(sources / kind.name, text)).mean(0)) for text in TEXTS]
    together = numpy.array(served.embed(kind.name, TEXTS))
    assert numpy.abs(together - expected).max() < 1e-5
    alone = numpy.array([served.embed(kind.name, text)[0] for text in TEXTS])
    assert numpy.abs(alone - together).max() < 2e-6


@pytest.mark.parametrize("kind", RANKERS, ids=str)
def test_a_converted_reranker_gives_the_logits_of_the_reference(kind, sources, served):
    query, documents = "the cat", ["a dog", "money . money"]
    answer = served.post("/v1/rerank", {"model": kind.name, "query": query, "documents": documents, "raw_scores": True}).json()
    scores = {result["index"]: result["relevance_score"] for result in answer["results"]}
    tokenizer = Tokenizer.from_file(str(sources / kind.name / "tokenizer.json"))
    for index, document in enumerate(documents):
        pair = tokenizer.encode(query, document)
        segments = pair.type_ids if kind.segments > 1 else None
        assert scores[index] == pytest.approx(small_encoders.logit(kind, pair.ids, segments), abs=1e-5)


def test_half_precision_halves_the_file_and_rounds_matrices_only(models, served):
    whole, half = (onnx.load(models / name / "model.onnx") for name in ("bert", "bert-in-half"))
    kinds = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    for tensor in whole.graph.initializer:
        rounded = len(tensor.dims) == 2 and tensor.data_type == TensorProto.FLOAT
        assert (kinds.get(f"{tensor.name}.half", kinds.get(tensor.name)) == TensorProto.FLOAT16) == rounded, tensor.name
    assert (models / "bert-in-half" / "model.onnx").stat().st_size < 0.7 * (models / "bert" / "model.onnx").stat().st_size
    vectors = [numpy.array(served.embed(name, TEXTS)) for name in ("bert", "bert-in-half")]
    assert 1e-6 < numpy.abs(vectors[0] - vectors[1]).max() < 5e-3


def test_a_converted_graph_is_valid_and_takes_masks_and_segments(models):
    kind = KINDS[0]
    onnx.checker.check_model(models / kind.name / "model.onnx", full_check=True)
    session = onnxruntime.InferenceSession(str(models / kind.name / "model.onnx"), providers=["CPUExecutionProvider"])
    ids, segments = [2, 40, 41, 42, 3], [0, 0, 1, 1, 1]
    padded = {"input_ids": [[*ids, 99, 98]], "attention_mask": [[1] * 5 + [0] * 2], "token_type_ids": [[*segments, 1, 0]]}
    (found,) = session.run(None, {name: numpy.array(values, dtype=numpy.int64) for name, values in padded.items()})
    assert numpy.abs(found[0, :5] - small_encoders.hidden(kind, ids, segments)).max() < 1e-5
    takes = {value.name for value in onnx.load(models / "roberta" / "model.onnx").graph.input}
    assert takes == {"input_ids", "attention_mask"}


def test_pooling_length_and_normalisation_are_the_folders(sources, tmp_path):
    kind = KINDS[0]
    folder = small_encoders.write(kind, tmp_path / "cls", pooling="cls", normalise=False, longest=12)
    said = imported(tmp_path / "models", folder, "cls")
    assert "output.features.pooling: cls (because 1_Pooling/config.json says so)" in said
    assert "text.max_tokens: 12 (because" in said
    assert "values, all finite" in said
    text = manifest(tmp_path / "models", "cls")
    assert (text["output"]["features"]["pooling"], text["output"]["features"]["normalise"]) == ("cls", False)
    shutil.rmtree(folder / "1_Pooling")
    (folder / "modules.json").unlink()
    said = imported(tmp_path / "models", folder, "open", "--set", "output.features.pooling=max", "--licence", "MIT", "--source-task", "none at all")
    assert "output.features.pooling: max (because it was given)" in said
    assert manifest(tmp_path / "models", "open")["backbone"]["licence"] == "MIT"


def test_the_reason_that_is_told_is_the_one_that_holds(tmp_path):
    folder = small_encoders.write(KINDS[0], tmp_path / "source")
    said = imported(tmp_path / "models", folder, "silent")
    assert "backbone.licence: NOASSERTION (because there is no README.md)" in said
    assert "text.max_tokens: 40 (because it is the shortest length that the files state)" in said
    (folder / "README.md").write_text("# A model\n")
    config = json.loads((folder / "config.json").read_text())
    del config["max_position_embeddings"]
    write_json(folder / "config.json", config)
    write_json(folder / "tokenizer_config.json", {"model_max_length": 1e30})
    said = imported(tmp_path / "models", folder, "usual")
    assert "backbone.licence: NOASSERTION (because README.md states none)" in said
    assert "text.max_tokens: 512 (because it is usual, and no file states one)" in said
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    said = imported(tmp_path / "models", folder, "stated")
    assert "backbone.licence: apache-2.0 (because README.md says so)" in said
    (folder / "modules.json").unlink()
    shutil.rmtree(folder / "1_Pooling")
    said = imported(tmp_path / "models", folder, "given", "--licence", "MIT", "--set", 'text.prompts={query = "q: "}')
    assert "backbone.licence: MIT (because it was given)" in said
    assert "text.prompts.query: q:  (because it was given)" in said
    assert "output.features.pooling: mean (because no 1_Pooling/config.json says otherwise)" in said
    said = imported(tmp_path / "models", small_encoders.write(RANKERS[0], tmp_path / "ranks"), "ranks")
    assert "output.features.normalise: false (because scores of pairs stay as they are)" in said


def test_what_a_folder_lacks_or_has_wrong_is_named(sources, tmp_path):
    def changed(name, **changes):
        folder = shutil.copytree(sources / "bert", tmp_path / name)
        write_json(folder / "config.json", json.loads((folder / "config.json").read_text()) | changes)
        return folder

    models = tmp_path / "models"
    models.mkdir()
    assert "`model_type` is `deberta-v2`" in refused(models, changed("kind", model_type="deberta-v2"))
    assert "`num_attention_heads`" in refused(models, changed("heads", num_attention_heads=5))
    assert "the weights lack `encoder.layer.2." in refused(models, changed("layers", num_hidden_layers=3))
    assert "`embeddings.word_embeddings.weight` has the shape" in refused(models, changed("width", hidden_size=48))
    assert "`hidden_act`" in refused(models, changed("act", hidden_act="gelu_10"))
    (changed("cut") / "tokenizer.json").unlink()
    assert "tokenizer.json" in refused(models, tmp_path / "cut")
    weights = changed("short") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    assert "cut short" in refused(models, tmp_path / "short")
    tensors = small_encoders.weights(KINDS[0])
    tensors["encoder.layer.1.output.dense.bias"][3] = numpy.nan
    small_encoders.safetensors(changed("nan") / "model.safetensors", tensors)
    assert "`encoder.layer.1.output.dense.bias` holds a value that is no number" in refused(models, tmp_path / "nan")
    dense = [{"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling", "Dense")]
    write_json(changed("dense") / "modules.json", dense)
    assert "modules.json" in refused(models, tmp_path / "dense")
    assert "--labels" in refused(models, sources / "bert", "--labels", EXAMPLES / "banking77.csv")


def test_a_folder_with_a_graph_is_copied_with_what_its_files_say(small, tmp_path):
    said = imported(tmp_path / "models", small.models / "minilm-folder", "copied")
    assert "the cosine to" in said
    folder = tmp_path / "models" / "copied"
    assert digest(folder / "onnx" / "model.onnx") == manifest(tmp_path / "models", "copied")["backbone"]["sha256"]
    running = Service(tmp_path, models=tmp_path / "models")
    vector = numpy.array(running.embed("copied", "How do I get my money back?")[0])
    assert numpy.abs(vector - text_features(TEXT, "How do I get my money back?")).max() < 2e-5
    running.stop()


@pytest.mark.parametrize("name", ["small-reranker", "small-nli-folder", "small-clip", "small-siglip", "small-classifier"])
def test_every_kind_of_folder_is_tried_by_what_it_does(name, small, tmp_path):
    said = imported(tmp_path / "models", small.models / name, name)
    assert "tried on" in said and "ms" in said
    expected = {"small-reranker": "the logit of", "small-nli-folder": "by labels", "small-clip": "the cosine to", "small-classifier": "photo of a cat"}
    assert expected.get(name, "values") in said


@pytest.mark.parametrize("index", range(len(small_graphs.SHAPES)), ids=[str(shape) for shape in small_graphs.SHAPES])
def test_a_picture_graph_is_understood_by_its_form(index, models, sources, served):
    shape = small_graphs.SHAPES[index]
    image, features = (manifest(models, f"graph-{index}")[part] for part in ("image", "output"))
    features = features["features"]
    assert (image["size"], image["layout"]) == (small_graphs.SIDE, shape.layout)
    # Which of several patches is the picture's no form tells.
    pooling = {"map": "mean", "map_last": "mean", "patches": "mean", "vector": "none"}[shape.output]
    assert (features["pooling"], features["dimension"]) == (pooling, small_graphs.CHANNELS)
    photo = {"headers": {"content-type": "image/jpeg"}, "content": cat()}
    (vector,) = (datum["embedding"] for datum in served.http.post(f"/v1/embeddings?model=graph-{index}", **photo).json()["data"])
    assert numpy.abs(numpy.array(vector) - picture_reference(shape, sources / f"graph-{index}" / f"small-{index}", pooling)).max() < 5e-3


def picture_reference(shape, folder, pooling):
    """The unit vector of the cat by Pillow and ONNX Runtime."""
    photo = ImageOps.exif_transpose(Image.open(EXAMPLES / "cat.jpg")).convert("RGB")
    short = 40 / min(photo.size)
    photo = photo.resize([40 if side == min(photo.size) else int(side * short) for side in photo.size], Image.Resampling.BILINEAR)
    left, top = (round((side - small_graphs.SIDE) / 2) for side in photo.size)
    photo = photo.crop((left, top, left + small_graphs.SIDE, top + small_graphs.SIDE))
    pixels = numpy.asarray(photo, numpy.float32)[:, :, :: -1 if shape.order == "bgr" else 1]
    values = (pixels * numpy.float32(shape.scale) - numpy.float32(shape.mean)) / numpy.float32(shape.std)
    values = values if shape.layout == "nhwc" else values.transpose(2, 0, 1)
    batch = shape.batch if isinstance(shape.batch, int) else 1
    kind = helper.tensor_dtype_to_np_dtype(shape.element)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    output = session.run(None, {"image": numpy.repeat(values[None], batch, 0).astype(kind)})[0][0].astype(float)
    if pooling == "mean":
        axes = {"map": (1, 2), "map_last": (0, 1), "patches": (0,)}[shape.output]
        output = output.mean(axes)
    return unit(output)


def graph(path, nodes, inputs, outputs, constants=(), producer="pytorch"):
    made = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(numpy.asarray(v, dtype=k), n) for n, v, k in constants])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name=producer)
    path.write_bytes(model.SerializeToString())
    return path


def value(name, dims, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, dims)


def test_a_photo_rules_out_a_scaling_that_is_far_off(tmp_path):
    """The bundled network behind arithmetic that wants 0…1, which looks as if it wanted pixels. A photo cannot tell 0…1 from −1…1."""
    model = onnx.load(MODELS / IMAGE / "model.onnx")
    (source,) = model.graph.input
    for node in model.graph.node:
        node.input[:] = ["scaled" if name == source.name else name for name in node.input]
    steps = [("Mul", source.name, 255.0, "wide"), ("Sub", "wide", 127.0, "centred"), ("Div", "centred", 128.0, "scaled")]
    for place, (operator, given, number, made) in enumerate(steps):
        model.graph.initializer.append(numpy_helper.from_array(numpy.float32(number), f"number{place}"))
        model.graph.node.insert(place, helper.make_node(operator, [given, f"number{place}"], [made]))
    onnx.save(model, tmp_path / "net.onnx")
    labels = MODELS / IMAGE / "labels.txt"
    said = imported(tmp_path / "models", tmp_path / "net.onnx", "unnamed", "--labels", labels)
    image, output = (manifest(tmp_path / "models", "unnamed")[part] for part in ("image", "output"))
    assert image["scale"] < 0.01, said
    assert "takes a photo of a cat for one with 0.9" in said and "with pixels as they are with 0.0" in said
    assert (output["features"]["tensor"], output["features"]["dimension"], output["logits"]["labels"]) == ("features", 1280, "labels.txt")
    said = imported(tmp_path / "models", MODELS / IMAGE / "model.onnx", "efficientnet-lite0", "--labels", labels)
    image = manifest(tmp_path / "models", "efficientnet-lite0")["image"]
    bundled = manifest(MODELS, IMAGE)["image"]
    assert {field: image[field] for field in bundled} == bundled, said


def test_names_makers_and_first_nodes_decide_where_no_class_is_known(tmp_path):
    def scaled(name, nodes=(), producer="pytorch", dims=("n", 3, 32, 32)):
        last = nodes[-1].output[0] if nodes else "x"
        pool = helper.make_node("ReduceMean", [last], ["y"], axes=[2, 3] if dims[1] == 3 else [1, 2], keepdims=0)
        source = graph(tmp_path / f"{name}.onnx", [*nodes, pool], [value("x", dims)], [value("y", ["n", 3])], [("c", 127.5, numpy.float32)], producer)
        said = imported(tmp_path / "models", source, f"{name}-{producer}")
        return manifest(tmp_path / "models", f"{name}-{producer}")["image"], said

    image, said = scaled("plain")
    assert image["mean"] == pytest.approx([0.485, 0.456, 0.406]) and "most graphs want ImageNet's" in said
    image, said = scaled("vgg16", producer="tf2onnx", dims=("n", 32, 32, 3))
    assert (image["channel_order"], image["layout"], image["scale"]) == ("bgr", "nhwc", 1.0) and "Keras's vgg" in said
    image, _ = scaled("mobilenet-v1", producer="tf2onnx", dims=("n", 32, 32, 3))
    assert image["mean"] == [1.0] * 3 and image["scale"] == pytest.approx(1 / 127.5)
    image, _ = scaled("squeezenet", producer="onnx-caffe2")
    assert (image["channel_order"], image["std"]) == ("bgr", [1.0] * 3)
    image, said = scaled("inside", [helper.make_node("Cast", ["x"], ["a"], to=1), helper.make_node("Div", ["a", "c"], ["b"])])
    assert (image["scale"], image["mean"], image["std"]) == (1.0, [0.0] * 3, [1.0] * 3) and "arithmetic of its own" in said


def test_a_text_graph_takes_length_and_form_from_tokenizer_and_run(sources, models, tmp_path):
    source = shutil.copy(models / "bert" / "model.onnx", tmp_path / "encoder.onnx")
    message = refused(tmp_path, source)
    assert "--tokenizer" in message
    tokenizer = Tokenizer.from_file(str(sources / "bert" / "tokenizer.json"))
    tokenizer.enable_truncation(21)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    said = imported(tmp_path / "models", source, "text")
    text = manifest(tmp_path / "models", "text")
    assert text["text"]["max_tokens"] == 21 and "the tokenizer cuts there" in said
    assert text["output"]["features"] == {"tensor": "last_hidden_state", "pooling": "mean", "normalise": True, "dimension": small_encoders.WIDTH}
    imported(tmp_path / "models", source, "e5-text", "--tokenizer", sources / "bert" / "tokenizer.json", "--set", "text.max_tokens=16")
    text = manifest(tmp_path / "models", "e5-text")["text"]
    assert (text["max_tokens"], text["prompts"]) == (16, {"query": "query: ", "passage": "passage: "})
    imported(tmp_path / "models", models / "bert-ranks" / "model.onnx", "pairs", "--set", "text.max_tokens=30")
    assert manifest(tmp_path / "models", "pairs")["text"]["pairs"]
    (tmp_path / "note.txt").write_text("the cat is about money ?")
    said = imported(tmp_path / "models", source, "tried", "--example", tmp_path / "note.txt")
    states = small_encoders.hidden(KINDS[0], tokens(sources / "bert", "the cat is about money ?"))
    assert float(re.search(r"length ([\d.]+) before", said)[1]) == pytest.approx(numpy.linalg.norm(states.mean(0)), abs=1e-3)


def test_sounds_are_samples_or_frames_of_bands(tmp_path):
    loud = [helper.make_node("Abs", ["waveform"], ["a"]), helper.make_node("ReduceMean", ["a"], ["m"], axes=[-1], keepdims=1)]
    nodes = [*loud, helper.make_node("MatMul", ["m", "w"], ["y"])]
    weights = [("w", numpy.ones((1, 4)), numpy.float32)]
    made = graph(tmp_path / "wave.onnx", nodes, [value("waveform", ["n", 8000])], [value("y", ["n", 4])], weights)
    said = imported(tmp_path / "models", made, "wave")
    audio = manifest(tmp_path / "models", "wave")["audio"]
    assert (audio["rate"], audio["windows"]["length"], audio["windows"]["of"]) == (16000, 8000, "samples") and "a tone that rises" in said
    frames = [helper.make_node("ReduceMean", ["mel"], ["y"], axes=[2], keepdims=0)]
    made = graph(tmp_path / "frames.onnx", frames, [value("mel", ["n", 80, 3000])], [value("y", ["n", 80])])
    imported(tmp_path / "models", made, "frames", "--set", "audio.mel.bands=80")
    audio = manifest(tmp_path / "models", "frames")["audio"]
    assert (audio["mel"]["log"], audio["mel"]["hop"], audio["windows"]["length"]) == ({"kind": "whisper"}, 160, 480000)


def test_a_graph_of_sounds_in_half_precision_gives_what_the_runtime_gives(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["waveform", "w"], ["steps"]),
        helper.make_node("Tanh", ["steps"], ["y"]),
    ]
    matrix = numpy.random.default_rng(2).normal(0, 0.1, (4000, 6)).astype(numpy.float16)
    inputs, outputs = (value(name, dims, TensorProto.FLOAT16) for name, dims in (("waveform", ["n", 4000]), ("y", ["n", 6])))
    made = graph(tmp_path / "half.onnx", nodes, [inputs], [outputs], [("w", matrix, numpy.float16)])
    models = tmp_path / "models"
    imported(models, made, "half")
    service = Service(tmp_path, models=models)
    samples = tone(440, 0.6)
    answer = service.http.post("/v1/embeddings", params={"model": "half"}, content=wav(samples), headers={"content-type": "audio/wav"})
    assert answer.status_code == 200, answer.text
    windows = numpy.pad(samples / 32768, (0, -len(samples) % 4000)).reshape(-1, 4000).astype(numpy.float16)
    (vectors,) = onnxruntime.InferenceSession(str(made), providers=["CPUExecutionProvider"]).run(None, {"waveform": windows})
    expected = unit(vectors.astype(float).mean(0))
    assert numpy.abs(numpy.array(answer.json()["data"][0]["embedding"]) - expected).max() < 2e-3
    service.stop()


def test_sounds_that_are_too_short_for_a_graph_of_any_length_are_filled_up(tmp_path):
    nodes = [
        helper.make_node("Unsqueeze", ["waveform", "axis"], ["channel"]),
        helper.make_node("Conv", ["channel", "w"], ["steps"], strides=[320]),
        helper.make_node("ReduceMean", ["steps"], ["y"], axes=[2], keepdims=0),
    ]
    weights = [("axis", [1], numpy.int64), ("w", numpy.random.default_rng(1).normal(size=(4, 1, 400)), numpy.float32)]
    made = graph(tmp_path / "wave.onnx", nodes, [value("waveform", ["n", "samples"])], [value("y", ["n", 4])], weights)
    models = tmp_path / "models"
    said = imported(models, made, "second")
    assert "audio.shortest: 16000 (because" in said
    imported(models, made, "told", "--set", "audio.shortest=500")
    assert [manifest(models, name)["audio"]["shortest"] for name in ("second", "told")] == [16000, 500]
    service = Service(tmp_path, models=models)
    try:
        for name in ("second", "told"):
            sound = wav(tone(440, 0.01))
            answer = service.http.post("/v1/embeddings", params={"model": name}, content=sound, headers={"content-type": "audio/wav"})
            assert answer.status_code == 200, answer.text
    finally:
        service.stop()


def test_anything_else_is_for_raw_tensors_and_tried_on_a_call(tmp_path):
    nodes = [helper.make_node("Log", ["x"], ["y"])]
    source = graph(tmp_path / "any.onnx", nodes, [value("x", ["n", 5])], [value("y", ["n", 5])])
    said = imported(tmp_path / "models", source, "any")
    assert "raw tensors only" in said and "5 of them not finite" in said
    call = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 5], "data": [1.0] * 10}]}
    write_json(tmp_path / "call.json", call)
    said = imported(tmp_path / "models", source, "tried", "--example", tmp_path / "call.json")
    assert "the output `y` is [2, 5], all finite" in said
    call["inputs"][0]["data"][3] = -1.0
    write_json(tmp_path / "call.json", call)
    (tmp_path / "none").mkdir()
    assert "the output `y` has 1 values that are not finite" in refused(tmp_path / "none", source, "--example", tmp_path / "call.json")
    service = Service(tmp_path, models=tmp_path / "models")
    answer = service.post("/v2/models/any/infer", {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 5], "data": [1.0] * 5}]}).json()
    assert answer["outputs"][0]["data"] == [0.0] * 5
    service.stop()


def test_vectors_that_are_no_numbers_and_settings_that_do_not_fit_are_refused(tmp_path):
    def source(name, nodes):
        return graph(tmp_path / f"{name}.onnx", nodes, [value("x", ["n", 3, 32, 32])], [value("y", ["n", 3])], [("zero", 0.0, numpy.float32)])

    models = tmp_path / "models"
    models.mkdir()
    pool = helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)
    broken = source("broken", [helper.make_node("Div", ["x", "zero"], ["a"]), helper.make_node("ReduceMean", ["a"], ["y"], axes=[2, 3], keepdims=0)])
    assert "are not finite numbers" in refused(models, broken)
    silent = source("silent", [helper.make_node("Mul", ["x", "zero"], ["a"]), helper.make_node("ReduceMean", ["a"], ["y"], axes=[2, 3], keepdims=0)])
    assert "are zero" in refused(models, silent)
    good = source("good", [pool])
    assert "`--set image.size`" in refused(models, good, "--set", "image.size=big")
    assert "image.size" in refused(models, good, "--set", "image.size=64")
    assert "nowhere" in refused(models, good, "--set", "image.nowhere=1")
    assert "output.features" in refused(models, good, "--set", "output.features.dimension=7")
    assert "it has y" in refused(models, good, "--set", "output.features.tensor=z")
    assert "--precision" in refused(models, good, "--precision", "f16")
    assert "--labels" in refused(models, good, "--labels", MODELS / IMAGE / "labels.txt")
    wide = graph(tmp_path / "wide.onnx", [pool], [value("x", ["n", 3, 32, 64])], [value("y", ["n", 3])])
    assert "32 × 64" in refused(models, wide)
    assert "no kind" in refused(models, EXAMPLES / "cat.jpg")
    assert "no kind" in refused(models, EXAMPLES)
