"""A graph with more weights than a protobuf can hold: it loads, answers as numpy does, goes, and comes back."""

import hashlib
import shutil

import graphs
import numpy
import pytest
from onnx import TensorProto, helper
from service import Service, wait_until

WORDS, WIDTH, INNER = 300_000, 1024, 150_000
# Name and shape; one behind the other in one file, the last from 1.8 GB on.
WEIGHTS = [("table", (WORDS, WIDTH)), ("up", (WIDTH, INNER)), ("down", (INNER, WIDTH))]
BYTES = 4 * sum(rows * columns for _, (rows, columns) in WEIGHTS)


def write_weights(path):
    """Random weights, a piece at a time; gives their hash."""
    chance, digest = numpy.random.default_rng(0), hashlib.sha256()
    with path.open("wb") as file:
        for _, (rows, columns) in WEIGHTS:
            for start in range(0, rows, 10_000):
                part = chance.random((min(10_000, rows - start), columns), dtype="float32")
                part = ((part - 0.5) / rows**0.5).tobytes()
                digest.update(part)
                file.write(part)
    return digest.hexdigest()


def external(name, shape, offset):
    """A tensor whose numbers are in the file beside the graph."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "weights.bin", "offset": offset, "length": 4 * shape[0] * shape[1]}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def graph():
    """Numbers of words → the mean of their vectors → a layer of many units and back."""
    offsets, offset = {}, 0
    for name, (rows, columns) in WEIGHTS:
        offsets[name], offset = offset, offset + 4 * rows * columns
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["vectors"]),
        helper.make_node("ReduceMean", ["vectors"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "up"], ["many"]),
        helper.make_node("Relu", ["many"], ["some"]),
        helper.make_node("MatMul", ["some", "down"], ["y"]),
    ]
    made = helper.make_graph(
        nodes,
        "vast",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "k"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
        [external(name, shape, offsets[name]) for name, shape in WEIGHTS],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def by_numpy(path, ids):
    """What the graph gives, from the file itself."""
    flat, start, weights = numpy.memmap(path, dtype="<f4", mode="r"), 0, {}
    for name, (rows, columns) in WEIGHTS:
        weights[name] = flat[start : start + rows * columns].reshape(rows, columns)
        start += rows * columns
    mean = weights["table"][ids].mean(axis=1)
    return numpy.maximum(mean @ weights["up"], 0) @ weights["down"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    if shutil.disk_usage(folder).free < 2 * BYTES:
        pytest.skip(f"no room for {BYTES / 1e9:.1f} GB")
    made = graphs.write(folder, "vast", graph())
    digest = write_weights(made / "weights.bin")
    graphs.write(folder, "small", graphs.affine())
    with (made / "headstart.toml").open("a") as manifest:
        manifest.write(f'\n[backbone.external]\n"weights.bin" = "{digest}"\n')
    return folder


def test_a_graph_of_more_than_two_gigabytes_loads_answers_goes_and_comes_back(models, tmp_path):
    assert BYTES > 2**31
    weights = models / "vast" / "weights.bin"
    server = Service(tmp_path, wait=False, models=models)
    wait_until(server.is_ready, "the server is ready", 300)
    print(f"{BYTES / 1e9:.2f} GB load in {server.metric('model_load_seconds', model='vast'):.1f} s, {server.resident_megabytes():.0f} MB resident")

    def asked():
        ids = numpy.random.default_rng(1).integers(0, WORDS, (3, 7))
        body = {"inputs": [{"name": "ids", "datatype": "INT64", "shape": [3, 7], "data": ids.ravel().tolist()}]}
        answer = server.post("/v2/models/vast/infer", body)
        assert answer.status_code == 200, answer.text
        given = numpy.array(answer.json()["outputs"][0]["data"], dtype="float32").reshape(3, WIDTH)
        expected = by_numpy(weights, ids)
        numpy.testing.assert_allclose(given, expected, rtol=0, atol=1e-4 * numpy.abs(expected).max())

    asked()
    assert server.post("/v1/models/vast/unload", {}).status_code == 200
    wait_until(lambda: server.resident_megabytes() < 300, "its memory goes with it")
    assert server.post("/v2/models/vast/infer", {"inputs": []}).status_code == 503
    loaded = server.http.post("/v1/models/vast/load", json={}, timeout=300, headers={"X-Request-Timeout-Ms": "300000"})
    assert loaded.status_code == 200, loaded.text
    asked()
    server.stop()


def test_weights_cut_short_are_refused_with_the_file_named(models, tmp_path):
    weights = models / "vast" / "weights.bin"
    size = weights.stat().st_size
    with weights.open("r+b") as file:
        file.truncate(size - 1)
    server = Service(tmp_path, wait=False, models=models)
    listed = wait_until(lambda: [one for one in server.http.get("/v1/models").json()["data"] if one["status"] == "broken"], "it is refused", 300)
    assert "weights.bin" in listed[0]["error"]
    server.stop()
