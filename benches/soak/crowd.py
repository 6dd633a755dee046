"""The crowd: clients that ask what people ask, clients that leave, clients that send what hurts, and an operator.

A client is a thread with a connection, a seed and a ledger. Each kind of request is a function of a client; what a kind may be
answered with stands beside it, and everything else is counted as wrong.
"""

import base64
import json
import random
import socket
import threading
import time

import backbones
import httpx
import numpy
from pictures import bombs, photos, saved, truncated
from service import FAST_TEXT, IMAGE, ROOT, TEXT
from sums import Ledger

KEYS = {"user": "key-of-the-user", "keeper": "key-of-the-keeper"}
WORDS = "the quick brown fox jumps over a lazy dog and then it runs away from here to be somewhere else".split()
LABELS = ["animals", "money", "weather"]
# Far above what a request takes on a crowded machine, and below what the server is given.
PATIENCE_SECONDS = 280
CLASSIFIER = "topics"

PHOTO_SIZE = (160, 120)
PHOTO, PHOTO_PIXELS = saved(photos()[0].resize(PHOTO_SIZE), "JPEG"), PHOTO_SIZE[0] * PHOTO_SIZE[1]
SOUNDS = [path.read_bytes() for path in sorted((ROOT / "tests/golden/sounds").iterdir()) if path.suffix != ".json"]
BOMBS, CUT = bombs(), truncated(photos()[0].resize((64, 48)))


def url(file, media_type):
    return f"data:{media_type};base64,{base64.b64encode(file).decode()}"


class Client:
    """A thread of requests until `stop`."""

    def __init__(self, address, number, key):
        self.chance, self.ledger, self.key = random.Random(number), Ledger(), key
        self.address = address
        self.http = httpx.Client(
            base_url=address, timeout=PATIENCE_SECONDS, trust_env=False, headers={"authorization": f"Bearer {key}"}
        )

    def text(self):
        """A text that nobody sent before, short or long."""
        words = self.chance.choices(WORDS, k=self.chance.choice((1, 5, 20, 200)))
        return " ".join([*words, str(self.chance.randrange(10**9))])

    def send(self, method, path, wanted=(200,), items=0, **options):
        """A request that is waited for; its answer."""
        started = time.monotonic()
        try:
            answer = self.http.request(method, path, **options)
        except httpx.TransportError as error:
            self.ledger.wrong[f"{method} {path.split('?')[0]}: {type(error).__name__}"] += 1
            self.ledger.left += 1
            return None
        self.ledger.slowest = max(self.ledger.slowest, time.monotonic() - started)
        self.note(answer, wanted, f"{method} {path}")
        if answer.status_code == 200:
            self.ledger.items += items
        return answer

    def note(self, answer, wanted, what):
        self.ledger.statuses[answer.status_code] += 1
        if answer.status_code >= 400 and answer.headers.get("content-type") == "application/json":
            error = answer.json()["error"]
            # The open inference protocol's errors are a text alone.
            self.ledger.codes[error["code"] if isinstance(error, dict) else answer.status_code] += 1
        if answer.status_code not in wanted:
            self.ledger.wrong[f"{what.split('?')[0]} answered {answer.status_code}: {answer.text[:200]}"] += 1

    def post(self, path, body, wanted=(200,), items=0, **options):
        return self.send("POST", path, wanted, items, json=body, **options)

    def run(self, kinds, stop, pause):
        """Kinds by their weights, one after another."""
        names, weights = zip(*kinds, strict=True)
        while not stop.is_set():
            self.chance.choices(names, weights)[0](self)
            # Pauses of many lengths let lanes fall asleep and be woken in every order.
            stop.wait(self.chance.choice(pause))
        self.http.close()


def texts(client):
    count = client.chance.choice((1, 1, 1, 8))
    body = {"model": client.chance.choice((TEXT, FAST_TEXT)), "input": [client.text() for _ in range(count)]}
    client.post("/v1/embeddings", body, items=count)


def picture(client):
    way = client.chance.randrange(3)
    if way == 0:
        client.send("POST", f"/v1/embeddings?model={IMAGE}", content=PHOTO, headers={"content-type": "image/jpeg"})
    elif way == 1:
        client.send("POST", "/v1/embeddings", data={"model": IMAGE}, files={"file": ("a.jpg", PHOTO, "image/jpeg")})
    else:
        client.post("/v1/embeddings", {"model": IMAGE, "input": [url(PHOTO, "image/jpeg")]})


def sound(client):
    file = client.chance.choice(SOUNDS)
    client.send("POST", f"/v1/embeddings?model={backbones.SOUND}", content=file, headers={"content-type": "application/octet-stream"})


def word_vectors(client):
    client.post("/v1/embeddings", {"model": backbones.WORDS, "input": [client.text() for _ in range(16)]})


def zero_shot(client):
    model = client.chance.choice((TEXT, IMAGE, backbones.ENTAILING, backbones.TOWERS))
    given = client.text()[:60] if model in (TEXT, backbones.ENTAILING) else url(PHOTO, "image/jpeg")
    client.post("/v1/zero-shot", {"model": model, "input": given, "labels": LABELS})


def comparing(client):
    body = {"model": FAST_TEXT, "input": client.text(), "candidates": [client.text() for _ in range(4)]}
    client.post("/v1/similarity", body)
    body = {"model": backbones.RERANKER, "query": client.text()[:30], "documents": [client.text()[:60] for _ in range(4)]}
    client.post("/v1/rerank", body)


def deciding(client):
    question = {"type": "predicate", "instructions": "Is it about animals?"}
    client.post("/v1/decisions", {"model": FAST_TEXT, "input": client.text(), "questions": [question]})
    client.post("/v1/classify", {"model": CLASSIFIER, "input": client.text()})


def hugging_face(client):
    client.post(f"/hf/{FAST_TEXT}", {"inputs": client.text()})
    body = {"inputs": client.text(), "parameters": {"candidate_labels": LABELS}}
    client.post(f"/hf/{FAST_TEXT}", body)


def tensors(client):
    rows = client.chance.randrange(1, 9)
    values = numpy.array([[client.chance.random() for _ in range(4)] for _ in range(rows)], dtype="<f4")
    given = {"name": "x", "datatype": "FP32", "shape": [rows, 4]}
    path = f"/v2/models/{backbones.TENSOR}/infer"
    if client.chance.random() < 0.5:
        client.post(path, {"inputs": [given | {"data": values.ravel().tolist()}]}, items=rows)
        return
    head = json.dumps({"inputs": [given | {"parameters": {"binary_data_size": values.nbytes}}]}).encode()
    headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    client.send("POST", path, items=rows, content=head + values.tobytes(), headers=headers)


def looking(client):
    client.send("GET", client.chance.choice(("/v1/models", "/readyz", "/v2/models/stats", "/v2", "/openapi.json", "/v1/classifiers", "/metrics")))


def reloaded(client):
    """Asks a backbone that is loaded anew from time to time and never away."""
    client.post("/v1/embeddings", {"model": backbones.RELOADED, "input": client.text()}, items=1)


GOOD = [(texts, 30), (picture, 8), (sound, 8), (word_vectors, 8), (zero_shot, 8), (comparing, 6), (deciding, 6), (hugging_face, 6),
        (tensors, 10), (looking, 4), (reloaded, 6)]


def raw_request(client, content, length=None):
    head = f"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {client.key}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content) if length is None else length}\r\n\r\n".encode() + content


def leaves(client):
    """Sends a request and goes away at once, soon, in the middle of its body, or in the middle of the answer."""
    body = {"model": client.chance.choice((TEXT, FAST_TEXT)), "input": [client.text() for _ in range(client.chance.choice((1, 16)))]}
    content, way = json.dumps(body).encode(), client.chance.randrange(4)
    client.ledger.left += 1
    host, port = client.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS) as connection:
        if way == 0:
            connection.sendall(raw_request(client, content))
        elif way == 1:
            connection.sendall(raw_request(client, content))
            time.sleep(client.chance.choice((0.001, 0.01, 0.05)))
        elif way == 2:
            connection.sendall(raw_request(client, content[: len(content) // 2], len(content)))
        else:
            connection.sendall(raw_request(client, content))
            connection.recv(64)


def leaves_an_upload(client):
    """Sends a part of a file and goes away."""
    head = "POST /v1/files HTTP/1.1\r\nhost: a\r\ncontent-type: multipart/form-data; boundary=x\r\ncontent-length: 1000000\r\n"
    part = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.csv"\r\n\r\ntext,label\r\n'
    client.ledger.left += 1
    host, port = client.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(f"{head}authorization: Bearer {client.key}\r\n\r\n".encode() + part + b"a,b\r\n" * 5000)


LEAVING = [(leaves, 8), (leaves_an_upload, 1)]


def wrong_json(client):
    broken = client.chance.choice((client.chance.randbytes(500), b'{"model": "a"', b'{"a":' * 5000, b"[1, 2", b"{} {}"))
    path = client.chance.choice(("/v1/embeddings", "/v1/zero-shot", "/v1/rerank", f"/hf/{TEXT}", f"/v2/models/{backbones.TENSOR}/infer"))
    client.send("POST", path, (400,), content=broken, headers={"content-type": "application/json"})


def wrong_fields(client):
    for body in ({"model": TEXT, "input": []}, {"model": TEXT}, {"model": 1, "input": "a"}, {"model": TEXT, "input": "a", "dimensions": 0}):
        client.post("/v1/embeddings", body, (400,))
    client.post("/v1/embeddings", {"model": "nobody", "input": "a"}, (404,))
    client.post("/v1/embeddings", {"model": TEXT, "input": ["a"] * 3000}, (400,))
    given = {"name": "x", "datatype": "FP32", "shape": [2, 4], "data": [1, 2]}
    client.post(f"/v2/models/{backbones.TENSOR}/infer", {"inputs": [given]}, (400,))


def wrong_pictures(client):
    for bad, wanted in ((client.chance.choice(BOMBS), (413,)), (client.chance.choice(CUT), (400,))):
        path = f"/v1/embeddings?model={IMAGE}"
        client.send("POST", path, wanted, content=bad.data, headers={"content-type": bad.media_type})
        client.post("/v1/embeddings", {"model": IMAGE, "input": url(bad.data, bad.media_type)}, wanted)


def wrong_sounds(client):
    file = bytearray(client.chance.choice(SOUNDS))
    for _ in range(8):
        file[client.chance.randrange(len(file))] = client.chance.randrange(256)
    path, headers = f"/v1/embeddings?model={backbones.SOUND}", {"content-type": "audio/wav"}
    client.send("POST", path, (200, 400, 413, 415), content=bytes(file), headers=headers)


def wrong_forms(client):
    body = client.chance.choice((b"", b"--x", b"--x\r\n\r\n", b"--x\r\ncontent-disposition: form-data\r\n\r\na\r\n--x--\r\n"))
    headers = {"content-type": "multipart/form-data; boundary=x"}
    client.send("POST", "/v1/embeddings", (400,), content=body, headers=headers)
    client.send("POST", "/v1/files", (400,), content=body, headers=headers)


def too_large(client):
    client.send("POST", "/v1/embeddings", (413,), content=b" " * 5_000_000, headers={"content-type": "application/json"})


def nobody(client):
    client.send("GET", "/v1/models", (401,), headers={"authorization": "Bearer wrong"})
    client.send("POST", f"/v2/repository/models/{backbones.TENSOR}/unload", (403,), json={})
    client.send("GET", "/no/such/route", (404,))
    client.send("GET", "/v1/embeddings", (405,))


def no_http(client):
    """Bytes that are no request: the connection is closed, and nothing is counted."""
    host, port = client.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(client.chance.choice((b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"NONSENSE / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nhost")))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def wrong_uploads(client):
    content, name = client.chance.choice(((b"PK\x03\x04" + client.chance.randbytes(300), "a.zip"), (b'{"text": 1}\n', "a.jsonl"), (b"\xff\xfe,\n", "a.csv")))
    form = {"purpose": "fine-tune", "validate_only": "true"}
    client.send("POST", "/v1/files", (200, 400), data=form, files={"file": (name, content)})


HOSTILE = [(wrong_json, 8), (wrong_fields, 4), (wrong_pictures, 4), (wrong_sounds, 6), (wrong_forms, 4), (too_large, 1), (nobody, 4), (no_http, 4),
           (wrong_uploads, 2)]


def greedy(client):
    """Asks more than its key may."""
    client.send("GET", "/v1/models", (200, 429))


def comes_and_goes(client):
    """Loads a backbone, asks it while another client would not know of it, and unloads it."""
    client.post(f"/v2/repository/models/{backbones.COMES_AND_GOES}/load", {})
    for _ in range(3):
        client.post("/v1/embeddings", {"model": backbones.COMES_AND_GOES, "input": [client.text(), client.text()]}, items=2)
    client.post(f"/v2/repository/models/{backbones.COMES_AND_GOES}/unload", {})


def loads_anew(client):
    client.post(f"/v2/repository/models/{backbones.RELOADED}/load", {})


def trains(client):
    """A file, a job on it, an answer of its classifier; and all of it taken away again."""
    rows = [{"text": f"{client.text()[:40]} {label}", "label": label} for _ in range(8) for label in LABELS]
    content = "\n".join(map(json.dumps, rows)).encode()
    sent = client.send("POST", "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", content)})
    if sent is None or sent.status_code != 200:
        return
    file, name = sent.json()["id"], f"trained-{client.chance.randrange(10**9)}"
    made = client.post("/v1/fine_tuning/jobs", {"model": FAST_TEXT, "training_file": file, "suffix": name})
    job = made.json()
    deadline = time.monotonic() + 120
    while job["status"] not in ("succeeded", "failed", "cancelled") and time.monotonic() < deadline:
        time.sleep(0.5)
        job = client.send("GET", f"/v1/fine_tuning/jobs/{job['id']}").json()
    if job["status"] != "succeeded":
        client.ledger.wrong[f"a job is {job['status']}: {job.get('error')}"] += 1
        return
    client.post("/v1/classify", {"model": name, "input": client.text()})
    client.send("DELETE", f"/v1/classifiers/{name}")
    client.send("DELETE", f"/v1/fine_tuning/jobs/{job['id']}")
    client.send("DELETE", f"/v1/files/{file}")


KEEPING = [(comes_and_goes, 4), (loads_anew, 2), (trains, 1)]


def start(address, limited, stop):
    """Starts the crowd; its clients and their threads."""
    brisk, calm = (0, 0, 0.001, 0.02, 0.3), (0.05, 0.2, 1.0)
    plan = [(20, GOOD, KEYS["user"], brisk), (4, LEAVING, KEYS["user"], calm), (4, HOSTILE, KEYS["user"], calm),
            (1, [(greedy, 1)], limited, (1.0,)), (1, KEEPING, KEYS["keeper"], (0.5, 2.0))]
    clients, threads = [], []
    for count, kinds, key, pause in plan:
        for _ in range(count):
            client = Client(address, len(clients), key)
            clients.append(client)
            threads.append(threading.Thread(target=client.run, args=(kinds, stop, pause)))
    keeper = clients[-1]
    examples = [{"text": f"{word} {label}", "label": label} for label in LABELS for word in WORDS[:4]]
    keeper.post("/v1/classifiers", {"name": CLASSIFIER, "model": FAST_TEXT, "labels": LABELS}, headers={"authorization": f"Bearer {KEYS['user']}"})
    keeper.post(f"/v1/classifiers/{CLASSIFIER}/examples", {"examples": examples}, headers={"authorization": f"Bearer {KEYS['user']}"})
    for thread in threads:
        thread.start()
    return clients, threads
