"""Raw tensors by the open inference protocol: its official client, with ONNX Runtime in Python as the reference."""

import concurrent.futures
import time

import graphs
import httpx
import numpy
import onnxruntime
import pytest
import reference
import small_models
import tritonclient.http as triton
from service import IMAGE, TEXT, Service, wait_until
from small_models import DYNAMIC, PAIR_TOKENS
from tritonclient.utils import InferenceServerException

GRAPHS = {
    "echo": graphs.echo(),
    "affine": graphs.affine(),
    "centred": graphs.centred(),
    "lookup": graphs.lookup(),
    "fixed": graphs.affine(seed=1, rows=2),
    "wide": graphs.wide(),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of one lane with small graphs beside the bundled backbones."""
    models = tmp_path_factory.mktemp("models")
    for name, graph in GRAPHS.items():
        graphs.write(models, name, graph)
    small_models.write_dynamic(models)
    running = Service(tmp_path_factory.mktemp("server"), "--models", models, "--lanes", 1)
    running.dynamic = models / DYNAMIC / "model.onnx"
    yield running
    running.stop()


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(server.url.removeprefix("http://"), concurrency=2) as made:
        yield made


def direct(name, feed, outputs=None):
    """What ONNX Runtime in Python makes of it."""
    session = reference.session(name) if name in (TEXT, IMAGE) else onnxruntime.InferenceSession(GRAPHS[name].SerializeToString())
    names = outputs or [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def kind_of(array):
    return next(kind for kind, _, numpys in graphs.TYPES if numpys == array.dtype.name)


def asked(client, name, feed, binary_in=True, binary_out=True, outputs=None, **options):
    """What the server makes of it through the client."""
    inputs = []
    for key, array in feed.items():
        inputs.append(triton.InferInput(key, list(array.shape), kind_of(array)))
        inputs[-1].set_data_from_numpy(array, binary_data=binary_in)
    wanted = outputs or [output["name"] for output in client.get_model_metadata(name)["outputs"]]
    choice = [triton.InferRequestedOutput(output, binary_data=binary_out) for output in wanted]
    result = client.infer(name, inputs, outputs=choice, **options)
    return {output: result.as_numpy(output) for output in wanted}, result


def tokens(ids):
    ids = numpy.array(ids, dtype=numpy.int64)
    return {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "token_type_ids": numpy.zeros_like(ids)}


def everything(seed, rows):
    """Values of every type, their extremes among them."""
    chance = numpy.random.default_rng(seed)
    feed = {}
    for kind, _, name in graphs.TYPES:
        shape = (rows, 3)
        if name == "object":
            words = ["", "grüße", "a\nb", '"quoted"', "日本"]
            feed[kind.lower()] = numpy.array([[words[chance.integers(5)].encode() for _ in range(3)] for _ in range(rows)], dtype=object)
        elif name == "bool":
            feed[kind.lower()] = chance.random(shape) < 0.5
        elif name.startswith("float"):
            feed[kind.lower()] = chance.normal(size=shape).astype(name)
            feed[kind.lower()][0, 0] = numpy.finfo(name).max
        else:
            bounds = numpy.iinfo(name)
            feed[kind.lower()] = chance.integers(bounds.min, bounds.max, shape, dtype=name, endpoint=True)
            feed[kind.lower()][0, :2] = [bounds.min, bounds.max]
    return feed


def test_the_client_finds_the_server_alive_ready_and_named(client):
    assert client.is_server_live() and client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata["name"] == "headstart" and "binary_tensor_data" in metadata["extensions"]
    for name in [*GRAPHS, TEXT, IMAGE]:
        assert client.is_model_ready(name) and client.is_model_ready(name, "1")
    assert not client.is_model_ready("none") and not client.is_model_ready("affine", "2")


def test_metadata_is_what_the_graph_says(client):
    metadata = client.get_model_metadata("affine")
    assert metadata == {
        "name": "affine",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}, {"name": "best", "datatype": "INT64", "shape": [-1]}],
    }
    assert client.get_model_metadata("fixed", "1")["inputs"][0]["shape"] == [2, 4]
    kinds = {spec["name"]: spec["datatype"] for spec in client.get_model_metadata("echo")["inputs"]}
    assert kinds == {kind.lower(): kind for kind, _, _ in graphs.TYPES}
    for name in (TEXT, IMAGE):
        session = reference.session(name)
        assert [spec["name"] for spec in client.get_model_metadata(name)["inputs"]] == [spec.name for spec in session.get_inputs()]


def test_the_configuration_says_how_many_rows_a_request_may_have_and_what_a_row_is(client):
    config = client.get_model_config("affine")
    assert config["name"] == "affine" and config["backend"] == "onnxruntime" and config["default_model_filename"] == "model.onnx"
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]
    best = {"name": "best", "data_type": "TYPE_INT64", "dims": [1], "reshape": {"shape": []}}
    assert config["output"] == [{"name": "y", "data_type": "TYPE_FP32", "dims": [3]}, best]
    assert config["dynamic_batching"] == {"preferred_batch_size": [64], "max_queue_delay_microseconds": 0}
    assert config["instance_group"] == [{"name": "affine", "kind": "KIND_CPU", "count": 1}]
    most = config["max_batch_size"]
    rows = numpy.ones((most, 4), dtype=numpy.float32)
    assert len(asked(client, "affine", {"x": rows}, outputs=["y"])[0]["y"]) == most
    with pytest.raises(InferenceServerException, match=str(most)):
        asked(client, "affine", {"x": numpy.ones((most + 1, 4), dtype=numpy.float32)}, outputs=["y"])


def test_the_configuration_of_a_graph_whose_rows_are_one_whole_has_all_dimensions(client):
    for name, dims in [("fixed", [2, 4]), ("centred", [-1, 4])]:
        config = client.get_model_config(name, "1")
        assert config["max_batch_size"] == 0 and "dynamic_batching" not in config
        assert config["input"][0]["dims"] == dims
    kinds = {spec["name"]: spec["data_type"] for spec in client.get_model_config("echo")["input"]}
    assert kinds == {kind.lower(): "TYPE_STRING" if kind == "BYTES" else f"TYPE_{kind}" for kind, _, _ in graphs.TYPES}
    assert [spec["dims"] for spec in client.get_model_config(TEXT)["input"]] == [[-1]] * 3
    for name, version in [("none", ""), ("affine", "2")]:
        with pytest.raises(InferenceServerException, match=name):
            client.get_model_config(name, version)


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_every_type_goes_through_unchanged(client, binary_in, binary_out):
    feed = everything(7, rows=4)
    inputs = []
    for name, array in feed.items():
        inputs.append(triton.InferInput(name, [4, 3], name.upper()))
        inputs[-1].set_data_from_numpy(array, binary_data=binary_in)
    outputs = [triton.InferRequestedOutput(f"{name}_out", binary_data=binary_out) for name in feed]
    result = client.infer("echo", inputs, outputs=outputs)
    for name, array in feed.items():
        if name == "bytes" and not binary_out:
            array = numpy.vectorize(bytes.decode, otypes=[object])(array)
        numpy.testing.assert_array_equal(result.as_numpy(f"{name}_out"), array, err_msg=name, strict=True)


def test_every_type_goes_through_as_json(server):
    feed = everything(8, rows=2)
    inputs = []
    for kind, _, _ in graphs.TYPES:
        values = feed[kind.lower()].tolist()
        if kind == "BYTES":
            values = [[value.decode() for value in row] for row in values]
        inputs.append({"name": kind.lower(), "datatype": kind, "shape": [2, 3], "data": values})
    answer = server.post("/v2/models/echo/infer", {"inputs": inputs})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    for output, given in zip(answer.json()["outputs"], inputs, strict=True):
        assert (output["datatype"], output["shape"]) == (given["datatype"], [2, 3])
        flat = [value for row in given["data"] for value in row]
        if given["datatype"].startswith("FP"):
            kind = next(name for kind, _, name in graphs.TYPES if kind == given["datatype"])
            numpy.testing.assert_array_equal(numpy.array(output["data"]).astype(kind), numpy.array(flat).astype(kind))
        else:
            assert output["data"] == flat, given["datatype"]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 9, 200])
def test_graphs_give_what_they_give_in_python(client, binary, rows):
    chance = numpy.random.default_rng(rows)
    feed = {"x": chance.normal(size=(rows, 4)).astype("float32")}
    for name in ("affine", "centred"):
        answer, _ = asked(client, name, feed, binary, binary)
        for output, expected in direct(name, feed).items():
            numpy.testing.assert_allclose(answer[output], expected, rtol=1e-5, atol=1e-5)
    if rows == 2:
        answer, _ = asked(client, "fixed", feed, binary, binary)
        numpy.testing.assert_allclose(answer["y"], direct("fixed", feed)["y"], rtol=1e-5)


def test_backbones_of_texts_and_pictures_take_tensors_too(client):
    feed = tokens([[101, 7592, 2088, 102], [101, 2748, 999, 102]])
    answer, _ = asked(client, TEXT, feed)
    for output, expected in direct(TEXT, feed).items():
        numpy.testing.assert_allclose(answer[output], expected, rtol=1e-4, atol=1e-5)
    name = reference.session(IMAGE).get_inputs()[0].name
    size = reference.manifest(IMAGE)["image"]["size"]
    pixels = numpy.random.default_rng(0).normal(size=(3, 3, size, size)).astype("float32")
    answer, _ = asked(client, IMAGE, {name: pixels})
    for output, expected in direct(IMAGE, {name: pixels}).items():
        numpy.testing.assert_allclose(answer[output], expected, rtol=1e-3, atol=1e-4)


def test_only_requested_outputs_come_and_the_id_comes_back(client, server):
    feed = {"x": numpy.ones((1, 4), dtype="float32")}
    answer, result = asked(client, "affine", feed, outputs=["best"], request_id="seventeen")
    response = result.get_response()
    assert [output["name"] for output in response["outputs"]] == ["best"]
    assert (response["id"], response["model_name"], response["model_version"]) == ("seventeen", "affine", "1")
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]}
    bare = server.post("/v2/models/affine/versions/1/infer", body).json()
    assert "id" not in bare and [output["name"] for output in bare["outputs"]] == ["y", "best"]
    numpy.testing.assert_allclose(bare["outputs"][0]["data"], direct("affine", feed)["y"][0], rtol=1e-6)


def test_outputs_come_as_bytes_where_that_is_asked_for(server):
    row = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [[1, 2, 3, 4]]}
    body = {"parameters": {"binary_data_output": True}, "inputs": [row], "outputs": [{"name": "y"}, {"name": "best", "parameters": {"binary_data": False}}]}
    answer = server.post("/v2/models/affine/infer", body)
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    head = httpx.Response(200, content=answer.content[:length]).json()
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 12} and "data" not in head["outputs"][0]
    expected = direct("affine", {"x": numpy.array([[1, 2, 3, 4]], dtype="float32")})
    numpy.testing.assert_allclose(numpy.frombuffer(answer.content[length:], "<f4"), expected["y"][0], rtol=1e-6)
    assert head["outputs"][1]["data"] == expected["best"].tolist()


def test_more_outputs_than_memory_should_hold_are_refused_and_the_server_goes_on(server, client):
    def body(rows):
        row = {"name": "x", "datatype": "FP32", "shape": [rows, 1], "data": list(range(rows))}
        return {"inputs": [row], "outputs": [{"name": "y"}]}

    as_json = server.post("/v2/models/wide/infer", body(300))
    assert as_json.status_code == 400 and "`outputs` would be 19660800 numbers as JSON" in as_json.json()["error"], as_json.text[:300]
    few = server.post("/v2/models/wide/infer", body(8)).json()["outputs"][0]
    assert few["shape"] == [8, 65_536] and few["data"][3 * 65_536 : 4 * 65_536] == [3.0] * 65_536
    feed = {"x": numpy.arange(300, dtype="float32")[:, None]}
    assert (asked(client, "wide", feed, outputs=["y"])[0]["y"] == feed["x"]).all()
    many = server.post("/v2/models/wide/infer", body(1_500) | {"parameters": {"binary_data_output": True}})
    assert many.status_code == 400 and "outputs of more than 268435456 bytes" in many.json()["error"], many.text[:300]
    wait_until(lambda: server.metric("queue_items", model="wide") == 0, "places to be given back")
    assert server.post("/v2/models/wide/infer", body(1)).status_code == 200


def wrong(**changes):
    row = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]} | changes
    return {"inputs": [{key: value for key, value in row.items() if value is not None}]}


@pytest.mark.parametrize(
    ("model", "body", "status", "said"),
    [
        ("affine", wrong(shape=[1, 5]), 400, "`x` has the shape [1, 5]; the graph takes [-1, 4]"),
        ("affine", wrong(shape=[4]), 400, "`x` has the shape [4]; the graph takes [-1, 4]"),
        ("affine", wrong(shape=[0, 4], data=[]), 400, "which no data fills"),
        ("affine", wrong(shape=[-1, 4]), 400, "inputs[0].shape[0]"),
        ("fixed", wrong(), 400, "the graph takes [2, 4]"),
        ("affine", wrong(datatype="FP64"), 400, '`x` is "FP64"; the graph takes FP32'),
        ("affine", wrong(datatype="float"), 400, '`x` is "float"; the graph takes FP32'),
        ("affine", wrong(data=[1, 2, 3]), 400, "`x` has 3 values where its shape [1, 4] takes 4"),
        ("affine", wrong(data=[1, 2, 3, 4, 5]), 400, "`x` has more values"),
        ("affine", wrong(data=[1, 2, "3", 4]), 400, '`x` has "3" at place 2, which is no FP32'),
        ("affine", wrong(data=None), 400, "`x` has no `data`"),
        ("affine", wrong(name="z"), 400, "`z` is no input of `affine`, which takes `x`"),
        ("affine", {"inputs": []}, 400, "`x` is missing"),
        ("affine", {"inputs": wrong()["inputs"] * 2}, 400, "`x` is given twice"),
        ("affine", {}, 400, "inputs"),
        ("affine", wrong() | {"outputs": [{"name": "w"}]}, 400, "`w` is no output of `affine`, which gives `y`, `best`"),
        ("affine", wrong() | {"outputs": [{"name": "y", "parameters": {"classification": 2}}]}, 400, "classification"),
        ("affine", wrong(parameters={"shared_memory_region": "a"}), 400, "shared_memory_region"),
        ("affine", wrong(data=None, parameters={"binary_data_size": 16}), 400, "16 bytes of binary data where 0 are left"),
        ("affine", wrong(shape=[4000, 4], data=[0] * 16000), 400, "4000 items"),
        ("lookup", {"inputs": [{"name": "ids", "datatype": "INT64", "shape": [1, 1], "data": [10]}]}, 400, "do not suit the graph"),
        (TEXT, {"inputs": [{"name": name, "datatype": "INT64", "shape": [1, 600], "data": [1] * 600} for name in ("input_ids", "attention_mask", "token_type_ids")]}, 400, "600 tokens a row"),
        ("none", wrong(), 404, "none"),
        ("affine/versions/2", wrong(), 404, "affine/versions/2"),
    ],
)
def test_what_does_not_suit_the_graph_is_refused_by_name(server, model, body, status, said):
    answer = server.post(f"/v2/models/{model}/infer", body)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"] and said in answer.json()["error"], answer.text
    # What the runtime says of a request that fails is the client's to read; a log that any client could fill helps nobody.
    assert "Non-zero status code" not in server.log() and "ERROR" not in server.log(), server.log()


def test_every_error_under_v2_is_a_text(server):
    for method, path, status in [("GET", "/v2/nothing", 404), ("GET", "/v2/models/affine/infer", 405), ("POST", "/v2/models/affine/infer", 400)]:
        answer = server.http.request(method, path)
        assert answer.status_code == status and list(answer.json()) == ["error"], answer.text
        assert isinstance(answer.json()["error"], str)


def test_a_backbone_of_tensors_answers_nothing_else_and_says_so(server):
    answer = server.post("/v1/embeddings", {"model": "affine", "input": "a"})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "model", answer.text
    assert "/v2/models/affine/infer" in answer.json()["error"]["message"]
    listed = server.http.get("/v1/models/affine").json()
    assert (listed["status"], listed["modality"], listed["dimension"]) == ("ready", "tensor", 0)


def ids_of(rows, length=4, **changes):
    """A request of token ids for the bundled text backbone, or for one that takes ids alone."""
    inputs = []
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        count = changes.get(name, rows)
        if count:
            inputs.append({"name": name, "datatype": "INT64", "shape": [count, length], "data": [1] * (count * length)})
    return {"inputs": inputs}


def test_inputs_of_texts_have_a_row_for_each_text(server):
    for changes in ({"attention_mask": 1}, {"attention_mask": 2, "token_type_ids": 2}):
        answer = server.post(f"/v2/models/{TEXT}/infer", ids_of(3, **changes))
        assert answer.status_code == 400, answer.text
        assert f"`attention_mask` has {changes['attention_mask']} rows beside 3 of `input_ids`" in answer.json()["error"]
    assert server.post(f"/v2/models/{TEXT}/infer", ids_of(3)).status_code == 200


def test_rows_of_texts_are_items_also_where_they_depend_on_each_other(server):
    # A large one among the first eight alone.
    small, large = min(small_models.LARGE_ROWS) + 1, max(small_models.LARGE_ROWS)
    ids = numpy.random.default_rng(5).integers(small, large, (20, 4))
    ids[0, 0] = large
    only = {"attention_mask": 0, "token_type_ids": 0}
    body = ids_of(20, **only)
    body["inputs"][0]["data"] = ids.tolist()
    session = onnxruntime.InferenceSession(server.dynamic.read_bytes())
    before = calls(server, DYNAMIC)
    answer = server.post(f"/v2/models/{DYNAMIC}/infer", body)
    assert answer.status_code == 200, answer.text
    # Calls of eight texts, as texts have them, whatever their speed.
    expected = numpy.concatenate([session.run(None, {"input_ids": ids[start : start + 8]})[0] for start in (0, 8, 16)])
    given = numpy.array(answer.json()["outputs"][0]["data"]).reshape(expected.shape)
    numpy.testing.assert_allclose(given, expected, rtol=1e-6, atol=1e-6)
    assert numpy.abs(given - session.run(None, {"input_ids": ids})[0]).max() > 1e-3, "one call would have said something else"
    after = calls(server, DYNAMIC)
    assert (after[0] - before[0], after[1] - before[1]) == (3, 20)
    many = server.post(f"/v2/models/{DYNAMIC}/infer", ids_of(4000, PAIR_TOKENS, **only))
    assert many.status_code == 400 and "4000 items" in many.json()["error"], many.text


def test_texts_that_depend_on_each_other_share_no_call_with_other_requests(server):
    only = {"attention_mask": 0, "token_type_ids": 0}
    before = calls(server, DYNAMIC)
    for answer in at_once(server, [(DYNAMIC, ids_of(1, **only))] * 64):
        assert answer.status_code == 200, answer.text
    assert calls(server, DYNAMIC)[0] - before[0] == 64


def test_the_first_request_of_a_slow_graph_keeps_its_deadline(start, tmp_path):
    for name in ("slow", "as-slow"):
        graphs.write(tmp_path, name, graphs.slow())
    server = start("--lanes", 1, models=tmp_path)
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}

    def timed(model, **headers):
        started = time.monotonic()
        answer = server.post(f"/v2/models/{model}/infer", body, headers=headers)
        return answer, time.monotonic() - started

    answer, whole = timed("as-slow")
    assert answer.status_code == 200, answer.text
    assert whole > 0.4, "too quick to tell a deadline from it"
    answer, took = timed("slow", **{"x-request-timeout-ms": str(int(whole * 1000 / 8))})
    assert answer.status_code == 504 and took < whole / 2, (answer.text, took, whole)


def at_once(server, requests):
    """The answers to requests of bodies for models, all sent together."""
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        return list(pool.map(lambda request: server.post(f"/v2/models/{request[0]}/infer", request[1]), requests))


def calls(server, model):
    return server.metric("inference_seconds_count", model=model), server.metric("items_total", model=model, outcome="answered")


def test_requests_of_one_form_share_a_call_and_get_their_own_rows(server):
    chance = numpy.random.default_rng(3)
    session = onnxruntime.InferenceSession(GRAPHS["lookup"].SerializeToString())

    def shared():
        before = calls(server, "lookup")
        tables = [chance.integers(0, 10, (chance.integers(1, 4), chance.integers(1, 3))) for _ in range(64)]
        bodies = [{"inputs": [{"name": "ids", "datatype": "INT64", "shape": list(ids.shape), "data": ids.tolist()}]} for ids in tables]
        for answer, ids in zip(at_once(server, [("lookup", body) for body in bodies]), tables, strict=True):
            assert answer.status_code == 200, answer.text
            (output,) = answer.json()["outputs"]
            (expected,) = session.run(None, {"ids": ids})
            assert output["shape"] == list(expected.shape)
            numpy.testing.assert_array_equal(output["data"], expected.ravel())
        after = calls(server, "lookup")
        assert after[1] - before[1] == sum(len(ids) for ids in tables)
        return after[0] - before[0] < len(tables)

    wait_until(shared, "of 64 requests at once some share a call")


def test_who_sends_what_the_graph_cannot_use_fails_alone(server):
    good = {"inputs": [{"name": "ids", "datatype": "INT64", "shape": [1, 1], "data": [3]}]}
    bad = {"inputs": [{"name": "ids", "datatype": "INT64", "shape": [1, 1], "data": [99]}]}
    waits = server.metric("queue_wait_seconds_count", model="lookup")
    for _ in range(5):
        answers = at_once(server, [("lookup", bad if number % 8 == 5 else good) for number in range(64)])
        for number, answer in enumerate(answers):
            assert answer.status_code == (400 if number % 8 == 5 else 200), answer.text
            if number % 8 != 5:
                assert answer.json()["outputs"][0]["data"] == [6.0, 7.0]
    assert server.metric("queue_wait_seconds_count", model="lookup") - waits == 5 * 64, "each waited once, though calls were repeated"


def test_rows_that_depend_on_each_other_are_never_joined(server):
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 4], "data": [0, 2, 4, 6, 2, 4, 6, 8]}]}
    before = calls(server, "centred")
    for answer in at_once(server, [("centred", body)] * 64):
        assert answer.json()["outputs"][0]["data"] == [-1, -1, -1, -1, 1, 1, 1, 1], answer.text
    after = calls(server, "centred")
    assert after[0] - before[0] == 64
