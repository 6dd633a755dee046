"""Backbones that come and go while the server runs: by request, and for want of memory."""

import base64
import concurrent.futures
import hashlib
import json
import shutil

import graphs
import numpy
import onnxruntime
import pytest
import tritonclient.http as triton
from errors import assert_error
from load import LONG_TEXT
from reference import cosine, text_features
from service import MODELS, TEXT, Service, wait_until
from tritonclient.utils import InferenceServerException

ROW = [1.0, 2.0, 3.0, 4.0]
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": ROW}]}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A models folder that the tests change."""
    folder = tmp_path_factory.mktemp("models")
    graphs.write(folder, "affine", graphs.affine(seed=0))
    shutil.copytree(MODELS / TEXT, folder / TEXT)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory, models):
    running = Service(tmp_path_factory.mktemp("server"), models=models)
    yield running
    running.stop()


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as made:
        yield made


def expected(seed):
    """What the graph of a seed makes of the row."""
    session = onnxruntime.InferenceSession(graphs.affine(seed).SerializeToString())
    return session.run(["y"], {"x": numpy.array([ROW], dtype="float32")})[0][0]


def given(server, model="affine"):
    answer = server.post(f"/v2/models/{model}/infer", BODY)
    assert answer.status_code == 200, answer.text
    return numpy.array(answer.json()["outputs"][0]["data"], dtype="float32")


def state(server, model):
    """A backbone's state, which is told the same everywhere."""
    listed = next(one for one in server.http.get("/v1/models").json()["data"] if one["id"] == model)
    entry = next(one for one in server.post("/v2/repository/index", {}).json() if one["name"] == model)
    assert entry["state"] == {"ready": "READY", "loading": "LOADING"}.get(listed["status"], "UNAVAILABLE")
    assert entry["reason"] == listed.get("error", "")
    states = {name: server.metric("model_state", model=model, state=name) for name in ("unloaded", "loading", "ready", "broken")}
    assert states == {name: float(name == listed["status"]) for name in states}
    assert server.metric("model_loaded", model=model) == float(listed["status"] == "ready")
    return listed["status"]


def test_the_client_unloads_and_loads(client, server):
    assert state(server, "affine") == "ready"
    client.unload_model("affine")
    assert state(server, "affine") == "unloaded"
    assert not client.is_model_ready("affine")
    assert "affine" not in [one["name"] for one in server.post("/v2/repository/index", {"ready": True}).json()]
    answer = server.post("/v2/models/affine/infer", BODY)
    assert answer.status_code == 503 and "affine" in answer.json()["error"] and "unloaded" in answer.json()["error"]
    client.load_model("affine")
    assert client.is_model_ready("affine") and state(server, "affine") == "ready"
    numpy.testing.assert_allclose(given(server), expected(0), rtol=1e-6)
    assert [one["name"] for one in client.get_model_repository_index()] == ["affine", TEXT]


def test_statistics_count_what_was_computed(client, server):
    before = client.get_inference_statistics("affine")["model_stats"][0]
    inputs = [triton.InferInput("x", [5, 4], "FP32")]
    inputs[0].set_data_from_numpy(numpy.ones((5, 4), dtype="float32"))
    client.infer("affine", inputs)
    after = client.get_inference_statistics("affine", "1")["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 5
    waited = [stats["inference_stats"]["queue"]["count"] for stats in (before, after)]
    assert waited[1] - waited[0] == 5, "each row waited"
    assert after["execution_count"] > before["execution_count"]
    assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]
    assert [one["name"] for one in client.get_inference_statistics()["model_stats"]] == ["affine", TEXT]


def test_a_new_folder_is_found_and_an_unknown_one_is_not(client, server, models):
    with pytest.raises(InferenceServerException, match="newcomer"):
        client.load_model("newcomer")
    graphs.write(models, "newcomer", graphs.affine(seed=5))
    index = {one["name"]: one["state"] for one in client.get_model_repository_index()}
    assert index["newcomer"] == "UNAVAILABLE"
    client.load_model("newcomer")
    numpy.testing.assert_allclose(given(server, "newcomer"), expected(5), rtol=1e-6)
    client.unload_model("newcomer")
    for path in ("/v1/models/none/load", "/v1/models/none/unload", "/v1/models/..%2Faffine/load", "/v1/models/affine+0123456789abcdef/load"):
        answer = server.post(path, {})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found"), answer.text
    assert {one["name"] for one in client.get_model_repository_index()} == set(index), "asking makes no entry"


def test_a_changed_folder_is_loaded_anew_without_a_failed_request(server, models):
    either = [expected(0), expected(1)]
    stop = False

    def ask():
        seen = []
        while not stop:
            seen.append(given(server))
        return seen

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        for change in range(6):
            graphs.write(models, "affine", graphs.affine(seed=(change + 1) % 2))
            answer = server.post("/v1/models/affine/load", {})
            assert answer.status_code == 200 and answer.json()["status"] == "ready", answer.text
            numpy.testing.assert_allclose(given(server), either[(change + 1) % 2], rtol=1e-6)
        stop = True
        seen = [answer for asked in asking for answer in asked.result()]
    assert all(any(numpy.allclose(answer, one, rtol=1e-6) for one in either) for answer in seen)


def test_requests_in_flight_finish_on_a_backbone_that_is_unloaded(start):
    service = start("--cache-bytes", 0, "--lanes", 1)
    texts = [f"{number} {LONG_TEXT}" for number in range(120)]
    ask = {"model": TEXT, "input": texts}
    with concurrent.futures.ThreadPoolExecutor(1) as pool, triton.InferenceServerClient(service.url.removeprefix("http://")) as client:
        asked = pool.submit(service.post, "/v1/embeddings", ask)
        wait_until(lambda: service.metric("queue_items", model=TEXT) == len(texts), "the texts are admitted")
        client.unload_model(TEXT)
        assert not asked.done(), "the unloading waits for nobody"
        refused = assert_error(service.post("/v1/embeddings", ask | {"input": "a"}), 503, "not_ready", "model", f"`{TEXT}` is unloaded")
        assert refused["type"] == "server_error"
        answer = asked.result()
    assert answer.status_code == 200, answer.text
    vectors = [datum["embedding"] for datum in answer.json()["data"]]
    assert len(vectors) == len(texts)
    for text, vector in list(zip(texts, vectors, strict=True))[:: len(texts) // 6]:
        assert cosine(vector, text_features(TEXT, text)) > 0.99999
    assert state(service, TEXT) == "unloaded"


def refused_load(server, body):
    answer = server.http.post("/v2/repository/models/affine/load", content=body)
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]


def test_what_a_client_would_load_in_place_of_the_folder_is_refused_by_name(client, server):
    before = given(server)
    other = graphs.affine(seed=9).SerializeToString()
    for options in ({"config": "{}"}, {"config": "{}", "files": {"file:1/model.onnx": other}}):
        with pytest.raises(InferenceServerException, match="`parameters.config` is not taken") as raised:
            client.load_model("affine", **options)
        assert raised.value.status() == "400"
    files = {"parameters": {"file:1/model.onnx": base64.b64encode(other * 4_000).decode()}}
    assert "`parameters.file:1/model.onnx` is not taken" in refused_load(server, json.dumps(files))
    for body, says in (("{", "not JSON"), ("[]", "must be a JSON object"), ('{"parameters": []}', "`parameters`")):
        assert says in refused_load(server, body)
    assert state(server, "affine") == "ready"
    numpy.testing.assert_array_equal(given(server), before)
    # There need be no body at all.
    for body in ("", "null", "{}", '{"parameters": null}', '{"parameters": {}}', '{"other": 1}'):
        assert server.http.post("/v2/repository/models/affine/load", content=body).status_code == 200, body


def test_a_folder_that_is_wrong_leaves_what_answers(server, models):
    before = given(server)
    manifest = models / "affine" / "headstart.toml"
    good = manifest.read_text()
    manifest.write_text("nonsense = 1\n")
    answer = server.post("/v1/models/affine/load", {})
    assert answer.status_code == 409 and "headstart.toml" in answer.json()["error"]["message"], answer.text
    assert state(server, "affine") == "ready"
    numpy.testing.assert_array_equal(given(server), before)
    server.post("/v1/models/affine/unload", {})
    assert server.post("/v1/models/affine/load", {}).status_code == 409
    assert state(server, "affine") == "broken"
    manifest.write_text(good)
    assert server.post("/v1/models/affine/load", {}).status_code == 200
    assert state(server, "affine") == "ready"


def test_a_classifier_says_that_its_backbone_is_unloaded(server):
    made = server.post("/v1/classifiers", {"name": "mood", "model": TEXT, "labels": ["good", "bad"]})
    assert made.status_code == 200, made.text
    ask = {"model": "mood", "input": "fine"}
    assert server.post("/v1/classify", ask).status_code == 200
    assert server.post(f"/v1/models/{TEXT}/unload", {}).json()["status"] == "unloaded"
    for path, body in [("/v1/classify", ask), ("/v1/embeddings", {"model": TEXT, "input": "a"})]:
        answer = server.post(path, body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (503, "not_ready", "model")
        assert f"`{TEXT}` is unloaded" in error["message"], error
    assert server.post(f"/v1/models/{TEXT}/load", {}).status_code == 200
    assert server.post("/v1/classify", ask).status_code == 200


def test_a_classifier_refuses_other_weights_under_its_backbones_name(server, models):
    for name in ("learnt", "named"):
        assert server.post("/v1/classifiers", {"name": name, "model": TEXT, "labels": ["good", "bad"]}).status_code == 200
    examples = [{"text": f"{word} {number}", "label": label} for label, word in [("good", "fine"), ("bad", "awful")] for number in range(12)]
    assert server.post("/v1/classifiers/learnt/examples", {"examples": examples}).status_code == 200
    ask = {"model": "learnt", "input": "fine"}
    assert server.post("/v1/classify", ask).json()["data"][0]["label"] == "good"

    manifest, graph = models / TEXT / "headstart.toml", models / TEXT / "model.onnx"
    kept = manifest.read_text(), graph.read_bytes()
    # Another file of the same graph: a note more among the model's metadata.
    changed = kept[1] + b"\x72\x06\x0a\x01k\x12\x01v"
    graph.write_bytes(changed)
    manifest.write_text(kept[0].replace(hashlib.sha256(kept[1]).hexdigest(), hashlib.sha256(changed).hexdigest()))
    assert server.post(f"/v1/models/{TEXT}/load", {}).status_code == 200
    for path, body in [("/v1/classify", ask), ("/hf/learnt", {"inputs": "fine"})]:
        answer = server.post(path, body)
        assert answer.status_code == 503 and "another backbone has its name" in answer.json()["error"]["message"], answer.text
    # One that knows nothing but its labels' names has learnt nothing of features.
    assert server.post("/v1/classify", {"model": "named", "input": "good"}).json()["data"][0]["label"] == "good"
    manifest.write_text(kept[0])
    graph.write_bytes(kept[1])
    assert server.post(f"/v1/models/{TEXT}/load", {}).status_code == 200
    assert server.post("/v1/classify", ask).status_code == 200


def test_only_an_administrators_key_loads_and_unloads(start, models):
    keys = "app:infer:secret-of-app,lab:train+infer:secret-of-lab,ops:admin:secret-of-ops"
    server = start(models=models, HEADSTART_API_KEYS=keys)
    paths = ["/v1/models/affine/unload", "/v1/models/affine/load", "/v2/repository/models/affine/unload", "/v2/repository/models/affine/load"]
    for path in [*paths, "/v2/repository/index"]:
        for key, status in [(None, 401), ("secret-of-app", 403), ("secret-of-lab", 403), ("secret-of-ops", 200)]:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            assert server.post(path, {}, headers=headers).status_code == status, (path, key)
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        chief = {"authorization": "Bearer secret-of-ops"}
        assert {one["name"] for one in client.get_model_repository_index(headers=chief)} == {one.name for one in models.iterdir()}
        with pytest.raises(InferenceServerException, match="scope `admin`"):
            client.get_model_repository_index(headers={"authorization": "Bearer secret-of-app"})
    assert server.http.get("/v2/health/ready").status_code == 200
    for path in ("/v2", "/v2/models/affine", "/v2/models/stats"):
        assert server.http.get(path).status_code == 401
        assert server.http.get(path, headers={"authorization": "Bearer secret-of-app"}).status_code == 200


SIZE = 1024
# What a graph of that many numbers is counted with, and a bit.
COUNTED = int(SIZE * SIZE * 4 * 1.1) + 10_000


@pytest.fixture
def crowded(start, tmp_path):
    """A server with memory for two of three backbones."""
    for seed, name in enumerate(["a", "b", "c"]):
        graphs.write(tmp_path, name, graphs.heavy(SIZE, seed))
    return start("--model-memory", 2 * COUNTED, models=tmp_path)


def ask_heavy(server, name):
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, SIZE], "data": [1.0] * SIZE}]}
    answer = server.post(f"/v2/models/{name}/infer", body)
    assert answer.status_code == 200, answer.text
    return answer.json()["outputs"][0]["data"]


def test_the_backbone_asked_longest_ago_makes_room_and_comes_back(crowded):
    def ready():
        return [name for name in "abc" if state(crowded, name) == "ready"]

    assert ready() == ["a", "b"]
    first = ask_heavy(crowded, "a")
    ask_heavy(crowded, "c")
    assert ready() == ["a", "c"]
    assert ask_heavy(crowded, "b") != first
    assert ready() == ["b", "c"]
    assert ask_heavy(crowded, "a") == first
    assert ready() == ["a", "b"]
    assert [crowded.metric("model_evictions_total", model=name) for name in "abc"] == [1, 1, 1]
    assert crowded.metric("model_memory_bytes") <= 2 * COUNTED
    crowded.post("/v1/models/c/unload", {})
    assert crowded.post("/v2/models/c/infer", BODY).status_code == 503, "unloaded by request, it stays so"


def test_a_backbone_loaded_anew_takes_no_memory_from_itself_or_others(crowded, tmp_path):
    """The one that answers stays, beyond the limit, until the new one is there; also where that cannot be loaded."""
    said = [ask_heavy(crowded, name) for name in "ab"]
    graph = tmp_path / "a" / "model.onnx"
    good = graph.read_bytes()
    # Another digest than the manifest's.
    graph.write_bytes(good + b"\x72\x06\x0a\x01k\x12\x01v")
    for path in ("/v1/models/a/load", "/v2/repository/models/a/load"):
        answer = crowded.post(path, {})
        assert answer.status_code == 409 and "sha-256" in answer.text, answer.text
        assert state(crowded, "a") == state(crowded, "b") == "ready"
        assert [ask_heavy(crowded, name) for name in "ab"] == said
    graph.write_bytes(good)
    assert crowded.post("/v1/models/a/load", {}).status_code == 200
    assert [ask_heavy(crowded, name) for name in "ab"] == said
    assert [crowded.metric("model_evictions_total", model=name) for name in "abc"] == [0, 0, 0]


def test_the_only_backbone_that_fits_can_be_loaded_anew_while_it_is_in_use(start, tmp_path):
    graphs.write(tmp_path, "a", graphs.heavy(SIZE))
    server = start("--model-memory", COUNTED, models=tmp_path)
    said = ask_heavy(server, "a")
    stop = False

    def ask():
        while not stop:
            assert ask_heavy(server, "a") == said

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        for _ in range(3):
            assert server.post("/v1/models/a/load", {}).status_code == 200
        stop = True
        for asked in asking:
            asked.result()
    assert server.metric("model_evictions_total", model="a") == 0


def test_requests_that_wait_for_a_backbone_share_its_load(crowded):
    assert state(crowded, "c") == "unloaded"
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ask_heavy(crowded, "c"), range(16)))
    assert all(answer == answers[0] for answer in answers)
    loads = [line for line in crowded.log().splitlines() if "backbone loaded" in line and 'model=c' in line]
    assert len(loads) == 1, crowded.log()


def test_a_backbone_larger_than_all_memory_is_refused(start, tmp_path):
    graphs.write(tmp_path, "small", graphs.affine())
    graphs.write(tmp_path, "vast", graphs.heavy(SIZE))
    server = start("--model-memory", COUNTED // 2, models=tmp_path)
    assert given(server, "small").shape == (3,)
    answer = server.post("/v2/models/vast/infer", BODY)
    assert answer.status_code == 503 and "bytes of memory" in answer.json()["error"], answer.text
    assert server.metric("rejections_total", reason="model_memory") == 1
    assert given(server, "small").shape == (3,), "nobody went for one that would not fit"


def test_loading_and_unloading_again_and_again_keeps_no_memory(start, tmp_path):
    graphs.write(tmp_path, "affine", graphs.affine())
    graphs.write(tmp_path, "heavy", graphs.heavy(2048))
    server = start(models=tmp_path)
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2048], "data": [1.0] * 2048}]}

    def cycle():
        assert server.post("/v1/models/heavy/load", {}).status_code == 200
        assert server.post("/v2/models/heavy/infer", body).status_code == 200
        assert server.post("/v1/models/heavy/unload", {}).status_code == 200

    for _ in range(3):
        cycle()
    before = server.resident_megabytes()
    for _ in range(20):
        cycle()
    wait_until(lambda: abs(server.resident_megabytes() - before) < 20, f"resident memory stays near {before} MB")
