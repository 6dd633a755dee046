"""Jobs on a quantised backbone that train its original: the bytes that answer are those that the script which made the bundled
file makes of the trained weights, and ONNX Runtime gives for them what the service gives."""

import json
import sqlite3
import struct
import sys

import numpy
import onnx
import onnxruntime
import pytest
from exported import Exported
from onnx import numpy_helper
from service import FAST_TEXT, MODELS, ROOT, TEXT, wait_until
from test_export import BRIEFLY, assert_agree, download, lines, served_scores, text_rows, uploaded
from texts import labelled_examples, made_texts
from tokenizers import Tokenizer

sys.path.insert(0, str(ROOT / "tools" / "backbones"))
from int8_rounding import PAIR_LARGEST, largest_pair, quantise_columns  # noqa: E402

HALF = ".float16"


def constants(file):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(file).graph.initializer}


def bundled(model):
    return (MODELS / model / "model.onnx").read_bytes()


def safetensors(data):
    """The arrays of a safetensors file by name, and its JSON description."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    (about,) = header.pop("__metadata__").values()
    kinds = {"F32": numpy.float32, "F16": numpy.float16, "U8": numpy.uint8}

    def array(entry):
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        return numpy.frombuffer(data[start:end], kinds[entry["dtype"]]).reshape(entry["shape"])

    return {name: array(entry) for name, entry in header.items()}, json.loads(about)


def trained_weights(artifact):
    """Weight → what training made of the original's, float32."""
    original = constants(bundled(TEXT))
    arrays, about = safetensors(artifact)
    assert about["original"]["id"] == TEXT
    arrays, about = safetensors(arrays["delta"].tobytes())
    made = {}
    for number, entry in enumerate(about["weights"]):
        name = entry["name"]
        if entry["kind"] == "difference":
            added = arrays[str(number)].astype(numpy.float32).reshape(entry["shape"])
        else:
            added = arrays[f"{number}.down"] @ arrays[f"{number}.up"] * numpy.float32(entry["scale"])
        first = original.get(name, original.get(name + HALF)).astype(numpy.float32)
        made[name] = first + (added.T if entry.get("transposed") else added)
    return made


@pytest.fixture(scope="module", params=["full", "lora"])
def tuned(request, service):
    """The version that a job made: its name, its file, and the weights that it trained."""
    name = f"rounded-{request.param}"
    file = uploaded(service, "single.jsonl", lines(text_rows()))
    method = {"type": request.param, request.param: {"hyperparameters": BRIEFLY}}
    asked = service.post("/v1/fine_tuning/jobs", {"model": FAST_TEXT, "training_file": file, "suffix": name, "seed": 5, "method": method})
    job = asked.json()["id"]
    path = f"/v1/fine_tuning/jobs/{job}"
    ended = wait_until(lambda: (found := service.http.get(path).json())["status"] in {"succeeded", "failed"} and found, "the job ends")
    assert ended["status"] == "succeeded", ended
    with sqlite3.connect(service.data / "store.db", timeout=30) as database:
        ((digest,),) = database.execute("SELECT artifact FROM versions WHERE name = ?", [name])
    (blob,) = service.data.rglob(digest[2:])
    return ended["fine_tuned_model"], download(service, ended["fine_tuned_model"]).content, trained_weights(blob.read_bytes())


def test_trained_weights_are_rounded_as_the_script_rounds_them_and_all_else_is_the_bundled_files(tuned):
    _, file, trained = tuned
    before, after = constants(bundled(FAST_TEXT)), constants(file)
    same = count = 0
    for name, weight in trained.items():
        if name in before:
            assert numpy.array_equal(after[name], weight), name
            continue
        site = name.removesuffix(".weight")
        site = site.rpartition(".")[0] if ".self." in site else site
        factors = before.get(f"{site}.factors", numpy.ones(len(weight), numpy.float32))
        values, steps = quantise_columns(weight / factors[:, None])
        assert largest_pair(after[f"{name}.int8"]) <= PAIR_LARGEST
        assert numpy.allclose(after[f"{name}.step"], steps, rtol=1e-6)
        apart = numpy.abs(values.astype(int) - after[f"{name}.int8"])
        assert apart.max() <= 1
        same, count = same + int((apart == 0).sum()), count + apart.size
    # Products of two factors end with other last bits here, by which a value may come to lie beyond the middle of two bytes.
    assert count > 10_000_000 and count - same <= count / 100_000, f"{same} of {count} bytes"
    touched = {part for name in trained for part in (name, f"{name}.int8", f"{name}.step")}
    kept = before.keys() - touched
    assert len(kept) > 40 and all(numpy.array_equal(after[name], before[name]) for name in kept)


def test_the_file_gives_the_services_scores_and_vectors_near_those_of_the_trained_original(service, tuned):
    name, file, trained = tuned
    exported = Exported(file)
    texts = [*[text for text, _ in labelled_examples()[::9]], *made_texts([1, 300]), " "]
    served = served_scores(service, name, texts, exported.classes)
    outputs = exported.texts(texts)
    assert_agree(outputs, served, several=False)
    # A text's vector does not depend on what shares its batch, but for the order in which its mean is summed up.
    for index in (0, 5):
        alone = exported.texts(texts[index : index + 1])["embedding"][0]
        assert numpy.abs(alone - outputs["embedding"][index]).max() < 1e-6
    cosines = (vectors(trained, texts) * outputs["embedding"]).sum(axis=1)
    assert cosines.mean() > 0.99, cosines
    assert (numpy.array(service.embed(FAST_TEXT, texts)) * outputs["embedding"]).sum(axis=1).mean() < cosines.mean()


def vectors(weights, texts):
    """What the original gives with other weights, in single precision."""
    model = onnx.load_from_string(bundled(TEXT))
    graph = model.graph
    kept = [tensor for tensor in graph.initializer if tensor.name.removesuffix(HALF) not in weights and tensor.name not in weights]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *(numpy_helper.from_array(value, name) for name, value in weights.items())])
    nodes = [node for node in graph.node if node.output[0] not in weights]
    del graph.node[:]
    graph.node.extend(nodes)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    reader = Tokenizer.from_str((MODELS / TEXT / "tokenizer.json").read_text())
    reader.enable_truncation(256)
    pooled = []
    for text in texts:
        ids = numpy.array([reader.encode(text).ids])
        (hidden,) = session.run(None, {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "token_type_ids": numpy.zeros_like(ids)})
        mean = hidden[0].mean(axis=0)
        pooled.append(mean / numpy.linalg.norm(mean))
    return numpy.array(pooled)
