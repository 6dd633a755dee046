"""Bodies made to hurt: each is refused with a message that names what is wrong, and costs no memory for good."""

import base64
import json
import random
import re
import socket

import pytest
from errors import assert_error
from pictures import bombs, cat, photos, truncated
from service import IMAGE, TEXT, wait_until

JSON = {"content-type": "application/json"}


def post(service, path, content, headers=JSON):
    return service.http.post(path, content=content, headers=headers)


@pytest.fixture(scope="module", autouse=True)
def still_alive_and_no_larger(service):
    """After all of these bodies the server answers, nothing panicked, and its memory is what it was."""
    service.embed(TEXT, ["word " * 300] * 8)
    url = "data:image/jpeg;base64," + base64.b64encode(cat()).decode()
    service.embed(IMAGE, [url])
    before = service.resident_megabytes()
    yield
    assert service.is_ready()
    assert len(service.embed(TEXT, "still here")[0]) == 384
    assert service.metric("panics_total") == 0
    assert service.metric("queue_items") == 0
    # Idle lanes hand memory back after a while.
    wait_until(lambda: service.resident_megabytes() < before + 48, f"memory falls back to {before:.0f} MB", 20)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/zero-shot", "/v1/similarity", "/v1/decisions", f"/hf/{TEXT}"])
def test_random_bytes_are_no_json(service, path):
    chance = random.Random(5)
    for length in (0, 1, 7, 100, 10_000):
        assert_error(post(service, path, chance.randbytes(length)), 400, "invalid_json")


def test_broken_json_is_refused(service):
    bodies = ['{"model": "a"', '{"model" "a"}', "[1, 2", "nul", '{"model": NaN}', '"', "{} {}", '{"a": "\ud800"}', "[]", "1"]
    for body in bodies:
        assert_error(post(service, "/v1/embeddings", body.encode(errors="surrogatepass")), 400)


@pytest.mark.parametrize("fragment", ['{"a":', "["], ids=["objects", "lists"])
@pytest.mark.parametrize("field", ["input", "labels", "anything"])
def test_json_nested_ten_thousand_deep_is_refused(service, fragment, field):
    closing = "}" if fragment == '{"a":' else "]"
    depth = 10_000
    nested = fragment * depth + ("1" if closing == "}" else "") + closing * depth
    body = f'{{"model": "{TEXT}", "input": "a", "labels": ["x"], "{field}": {nested}}}'
    error = assert_error(post(service, "/v1/zero-shot", body), 400)
    assert error["code"] in ("invalid_json", "invalid_value")


def test_ten_megabytes_of_one_character_are_refused(service):
    for character in ("a", " ", "[", "{", '"', "\0", "é"):
        content = (character * (10_000_000 // len(character.encode()))).encode()
        assert_error(post(service, "/v1/embeddings", content), 400, "invalid_json")
        if character not in '"\0':
            body = json.dumps({"model": TEXT, "input": content.decode()}, ensure_ascii=False).encode()
            assert_error(post(service, "/v1/embeddings", body), 400, "invalid_value", "input")


@pytest.mark.parametrize("text", ["a" * 1_000_000, "a " * 500_000, "é" * 500_000, "." * 1_000_000, "你" * 330_000])
def test_a_megabyte_of_one_character_is_cut_and_answered(service, text):
    assert len(service.embed(TEXT, text)[0]) == 384


ZERO_SHOT = {"model": TEXT, "input": "a", "labels": ["x", "y"]}
SIMILARITY = {"model": TEXT, "input": "a", "candidates": ["b"]}
RERANK = {"model": TEXT, "query": "a", "documents": ["b"]}
DECISIONS = {"model": TEXT, "input": "a", "questions": [{"type": "predicate", "instructions": "a"}]}
EMBEDDINGS = {"model": TEXT, "input": "a"}
HUGGING_FACE = {"inputs": "a"}

# Names of types that mean nothing to who sent the body.
RUST_NAMES = re.compile(r"\b(usize|u32|u64|i64|f32|f64|Option|struct|enum|sequence|map)\b")

# Values of a wrong type by the kind of the field. Null means absent and is tried elsewhere.
NO_STRING = [1, 1.5, True, [], {}]
NO_INTEGER = ["x", 1.5, -1, True, [], {}, 10**30]
NO_BOOLEAN = [1, "x", [], {}]
NO_NUMBER = ["x", True, [], {}]
NO_CHOICE = ["no such value", 1, True, [], {}]
NO_INPUT = [1, True, {}, {"text": 1}, {"image": []}, [1, "a"], ["a", 1], [[1], "a", None], [None], [1.5], [-1], [2**40]]
NO_LIST = [1, True, {}, "x"]

# Objects whose fields stand in a list, in the order of their declaration; and more of them than are taken.
LISTED_CHOICES = [
    [{"type": "choice", "instructions": "Which?", "choices": [["a"], ["b"]]}],
    [{"type": "score", "instructions": "Which?", "levels": [["a", None], ["b", None]]}],
    [{"type": "choice", "instructions": "Which?", "choices": [{"value": str(n)} for n in range(256)]}],
    [{"type": "predicate", "instructions": "a"}] * 401,
]

WRONG = [
    ("/v1/embeddings", EMBEDDINGS, "model", NO_STRING),
    ("/v1/embeddings", EMBEDDINGS, "input", NO_INPUT),
    ("/v1/embeddings", EMBEDDINGS, "encoding_format", NO_CHOICE),
    ("/v1/embeddings", EMBEDDINGS, "dimensions", [*NO_INTEGER, 0, 385]),
    ("/v1/embeddings", EMBEDDINGS, "modality", [*NO_CHOICE, "image"]),
    ("/v1/embeddings", EMBEDDINGS, "truncate", NO_CHOICE),
    ("/v1/embeddings", EMBEDDINGS, "prompt", ["no such prompt", *NO_STRING]),
    ("/v1/zero-shot", ZERO_SHOT, "model", NO_STRING),
    ("/v1/zero-shot", ZERO_SHOT, "input", NO_INPUT),
    ("/v1/zero-shot", ZERO_SHOT, "labels", [1, True, {}, [], [1], [None], [""], [" "], [{}], [{"label": 1}], [["a"]], [["a", "b", ["c"]]]]),
    ("/v1/zero-shot", ZERO_SHOT, "template", [*NO_STRING, "a template without a place"]),
    ("/v1/zero-shot", ZERO_SHOT, "multi_label", NO_BOOLEAN),
    ("/v1/zero-shot", ZERO_SHOT, "top_k", [*NO_INTEGER, 0]),
    ("/v1/zero-shot", ZERO_SHOT, "threshold", [*NO_NUMBER, -0.1, 1.1]),
    ("/v1/zero-shot", ZERO_SHOT, "modality", NO_CHOICE),
    ("/v1/zero-shot", ZERO_SHOT, "truncate", NO_CHOICE),
    ("/v1/rerank", RERANK, "model", NO_STRING),
    ("/v1/rerank", RERANK, "query", [*NO_INPUT, ["a", "b"]]),
    ("/v1/rerank", RERANK, "documents", [*NO_INPUT, [], [""], [{"title": "a"}]]),
    ("/v1/rerank", RERANK, "top_n", [*NO_INTEGER, 0]),
    ("/v1/rerank", RERANK, "return_documents", NO_BOOLEAN),
    ("/v1/rerank", RERANK, "truncate", ["no such value", 1, [], {}]),
    ("/v1/rerank", RERANK, "texts", [["c"]]),
    (f"/hf/{TEXT}/rerank", {"query": "a", "texts": ["b"]}, "texts", [*NO_INPUT, []]),
    ("/v1/similarity", SIMILARITY, "model", NO_STRING),
    ("/v1/similarity", SIMILARITY, "input", [*NO_INPUT, ["a", "b"]]),
    ("/v1/similarity", SIMILARITY, "candidates", [*NO_INPUT, [], [""]]),
    ("/v1/decisions", DECISIONS, "model", NO_STRING),
    ("/v1/decisions", DECISIONS, "input", [1, True, {}, [1], [{}], [{"role": "user"}], [{"role": "user", "content": 1}], [["message", "user", "a"]], [{"role": "user", "content": [["input_text", "a"]]}]]),
    ("/v1/decisions", DECISIONS, "questions", [*NO_LIST, [], [1], [{}], [{"type": "riddle"}], [{"type": "predicate"}], [["predicate", None, "a"]], *LISTED_CHOICES]),
    (f"/hf/{TEXT}", HUGGING_FACE, "inputs", NO_INPUT),
    (f"/hf/{TEXT}", HUGGING_FACE, "parameters", [1, "x", True, [], [["a", "b"]]]),
    (f"/hf/{TEXT}", HUGGING_FACE, "dimensions", NO_INTEGER),
    (f"/hf/{TEXT}", HUGGING_FACE, "truncate", NO_BOOLEAN),
    (f"/hf/{TEXT}", HUGGING_FACE, "truncation_direction", NO_CHOICE),
    (f"/hf/{TEXT}", HUGGING_FACE, "prompt_name", [1, True, [], {}]),
]


@pytest.mark.parametrize("path, good, field, values", WRONG, ids=[f"{path} {field}" for path, _, field, _ in WRONG])
def test_a_field_of_a_wrong_type_is_named(service, path, good, field, values):
    assert service.post(path, good).status_code == 200
    for value in values:
        response = service.post(path, good | {field: value})
        error = assert_error(response, 400, "invalid_value")
        named = (error["param"] or "").split("[")[0].split(".")[0]
        assert named == field, (value, error)
        assert field in error["message"], (value, error)
        assert not RUST_NAMES.search(error["message"]), error


@pytest.mark.parametrize("path, good", [
    ("/v1/embeddings", EMBEDDINGS), ("/v1/zero-shot", ZERO_SHOT), ("/v1/similarity", SIMILARITY),
    ("/v1/rerank", RERANK), (f"/hf/{TEXT}/rerank", {"query": "a", "texts": ["b"]}),
    ("/v1/decisions", DECISIONS), (f"/hf/{TEXT}", HUGGING_FACE),
])
def test_missing_and_null_fields_are_named_and_unknown_ones_ignored(service, path, good):
    for field in good:
        without = {key: value for key, value in good.items() if key != field}
        for body in (without, good | {field: None}):
            assert_error(service.post(path, body), 400, "invalid_value", field)
    assert service.post(path, good | {"user": "somebody", "no_such_field": [1, {"a": None}]}).status_code == 200


def test_null_means_absent_for_every_optional_field(service):
    optional = {
        "/v1/embeddings": ["encoding_format", "dimensions", "modality", "truncate", "prompt"],
        "/v1/zero-shot": ["template", "multi_label", "top_k", "threshold", "modality", "truncate"],
        "/v1/similarity": ["modality", "truncate"],
        f"/hf/{TEXT}": ["parameters", "dimensions", "truncate", "truncation_direction", "prompt_name"],
    }
    good = {"/v1/embeddings": EMBEDDINGS, "/v1/zero-shot": ZERO_SHOT, "/v1/similarity": SIMILARITY}
    for path, fields in optional.items():
        body = good.get(path, HUGGING_FACE) | dict.fromkeys(fields)
        assert service.post(path, body).status_code == 200, path


def test_labels_that_cannot_be_told_apart_are_refused(service):
    error = assert_error(service.post("/v1/zero-shot", ZERO_SHOT | {"labels": ["a", "b", "a"]}), 400, "invalid_value")
    assert error["param"] == "labels[2]"
    many = [f"label {number}" for number in range(1001)]
    assert_error(service.post("/v1/zero-shot", ZERO_SHOT | {"labels": many}), 400, "invalid_value", "labels")


# Repeated to the size of a body: what stands before and behind them, and what is said.
MANY = {
    "labels": ("/v1/zero-shot", '{"input": "a", "labels": [', '"",', '"b"]', "labels; at most 1000"),
    "labels of Hugging Face": (f"/hf/{TEXT}", '{"inputs": "a", "parameters": {"candidate_labels": [', '"",', '"b"]}', "labels; at most 1000"),
    "examples of a label": ("/v1/zero-shot", '{"input": "a", "labels": [{"label": "b", "examples": [', '"",', '"c"]}]', "examples; at most 64"),
    "an unknown field of a label": ("/v1/zero-shot", '{"input": "a", "labels": [{"label": "b", "x": [', "1,", "1]}]", None),
    "inputs": ("/v1/embeddings", '{"input": [', '"",', '"b"]', "items; at most 2048"),
    "inputs of one token": ("/v1/embeddings", '{"input": [', "[1],", "[1]]", "items; at most 2048"),
    "a picture's address": ("/v1/embeddings", '{"input": [{"image_url": [', "1,", "1]}]", "image_url"),
}


@pytest.mark.parametrize("what", MANY)
def test_millions_of_small_values_take_little_more_memory_than_their_body(start, what):
    # A server of its own: after another body its peak would hide what this one takes.
    service = start()
    service.embed(TEXT, "word " * 300)
    path, head, part, tail, says = MANY[what]
    body = f'{head}{part * (60_000_000 // len(part))}{tail}, "model": "{TEXT}"}}'
    before = service.metric("process_resident_memory_bytes")
    response = post(service, path, body)
    if says is None:
        assert response.status_code == 200, response.text
    else:
        assert response.status_code == 400 and says in response.json()["error"]["message"], response.text
    grown = (service.metric("process_peak_resident_memory_bytes") - before) / 1e6
    # It was read at all, and not made into values.
    assert 20 < grown < 200, f"{grown:.0f} MB more for a body of {len(body) / 1e6:.0f} MB"


@pytest.mark.parametrize("ids, says", [
    ([101, 30522, 102], "30522"), ([2**32 - 1], "4294967295"), ([[101, 102], [101, 99999, 102]], "99999"),
])
def test_token_ids_outside_the_vocabulary_are_refused_with_index_and_size(service, ids, says):
    error = assert_error(service.post("/v1/embeddings", {"model": TEXT, "input": ids}), 400, "invalid_value", says=says)
    assert error["param"].startswith("input") and "30522" in error["message"]


def test_no_address_is_fetched(service):
    for url in ("http://127.0.0.1/cat.jpg", "https://127.0.0.1/cat.jpg", "file:///etc/hostname", "ftp://127.0.0.1/a"):
        for given in (url, [url]):
            assert_error(service.post("/v1/embeddings", {"model": IMAGE, "input": given}), 400, "invalid_value", "input")
        response = service.post("/v1/embeddings", {"model": IMAGE, "input": {"image": url}})
        assert_error(response, 400, "invalid_value", "input")
    message = [{"role": "user", "content": [{"type": "input_image", "image_url": "http://127.0.0.1/cat.jpg"}]}]
    body = DECISIONS | {"model": IMAGE, "input": message}
    assert_error(service.post("/v1/decisions", body), 400, "invalid_value", "input")


def every_way(service, picture):
    """Answers to a picture as raw body, as multipart and as data URL."""
    encoded = base64.b64encode(picture.data).decode()
    part = {"file": ("picture", picture.data, picture.media_type)}
    url = f"data:{picture.media_type};base64,{encoded}"
    return [
        service.http.post(
            "/v1/embeddings", params={"model": IMAGE}, content=picture.data, headers={"content-type": picture.media_type}
        ),
        service.http.post("/v1/embeddings", data={"model": IMAGE}, files=part),
        service.post("/v1/embeddings", {"model": IMAGE, "input": url}),
        service.post("/v1/zero-shot", {"model": IMAGE, "input": [url], "labels": ["a", "b"]}),
    ]


@pytest.mark.parametrize("picture", truncated(photos()[0]), ids=str)
def test_a_picture_that_ends_in_the_middle_is_refused(service, picture):
    for response in every_way(service, picture):
        assert_error(response, 400, "invalid_value", "input")


@pytest.mark.parametrize("picture", bombs(), ids=str)
def test_a_header_that_claims_a_hundred_megapixels_is_refused(service, picture):
    for response in every_way(service, picture):
        assert_error(response, 413, "image_too_large", "input", says="10000")


def test_bytes_of_no_known_format_are_refused(service):
    for content in (b"", b"hello", b"%PDF-1.7", bytes(1000), b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\xff\xd8\xff"):
        headers = {"content-type": "image/png"}
        response = service.http.post("/v1/embeddings", params={"model": IMAGE}, content=content, headers=headers)
        error = assert_error(response, response.status_code, param="input")
        assert (response.status_code, error["code"]) in {(415, "unsupported_media_type"), (400, "invalid_value")}


def test_damaged_pictures_never_break_the_server(service):
    chance = random.Random(9)
    for picture in truncated(photos()[0].resize((64, 48)))[2::3]:
        for _ in range(40):
            data = bytearray(picture.data)
            for _ in range(chance.randint(1, 8)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            response = service.http.post(
                "/v1/embeddings", params={"model": IMAGE}, content=bytes(data), headers={"content-type": picture.media_type}
            )
            assert response.status_code in (200, 400, 413, 415), response.text


def test_base64_that_is_none_is_refused(service):
    for text in ("data:image/png;base64,####", "data:image/png;base64,AAA\u00e9", "data:image/png,AAAA", "data:"):
        response = service.post("/v1/embeddings", {"model": IMAGE, "input": text})
        assert_error(response, 400, "invalid_value", "input")


def test_content_types_that_are_not_taken_are_named(service):
    for content_type in ("application/xml", "text/html", "application/pdf"):
        response = post(service, "/v1/embeddings", b"<a/>", {"content-type": content_type})
        assert_error(response, 415, "unsupported_media_type", says=content_type)


@pytest.mark.parametrize("body", [b"", b"--x", b"--x\r\n\r\n", b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n"])
def test_broken_multipart_bodies_are_refused(service, body):
    response = post(service, "/v1/embeddings", body, {"content-type": "multipart/form-data; boundary=x"})
    assert_error(response, 400)
    assert_error(post(service, "/v1/embeddings", body, {"content-type": "multipart/form-data"}), 400)


def test_a_body_over_its_limit_is_refused_by_its_stated_and_by_its_real_length(start):
    service = start("--max-body-bytes", 1000)
    large = json.dumps({"model": TEXT, "input": "a" * 2000}).encode()
    assert_error(post(service, "/v1/embeddings", large), 413, "body_too_large", says="1000")
    chunks = (large[first : first + 100] for first in range(0, len(large), 100))
    assert_error(post(service, "/v1/embeddings", chunks), 413, "body_too_large", says="1000")
    part = {"file": ("a.png", bytes(2000), "image/png")}
    assert_error(service.http.post("/v1/embeddings", data={"model": IMAGE}, files=part), 413, "body_too_large")
    headers = {"content-type": "image/png"}
    response = service.http.post("/v1/embeddings", params={"model": IMAGE}, content=bytes(2000), headers=headers)
    assert_error(response, 413, "body_too_large")
    assert service.metric("rejections_total", reason="body_too_large") == 4


def answered(client):
    """Status line of the next answer; its body is left out."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = client.recv(65536)
        assert piece, "closed without an answer"
        head += piece
    return head.split(b"\r\n", 1)[0]


def upload_head(length):
    return (
        "POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=x\r\n"
        f"content-length: {length}\r\n\r\n"
    ).encode()


PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'


def test_a_body_that_is_refused_early_is_read_on_so_that_its_answer_arrives(start):
    service = start("--key-file-bytes", 1000)
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as client:
            client.sendall(upload_head(len(PART) + (8 << 20)) + PART)
            for _ in range(8):
                client.sendall(b"a" * (1 << 20))
            assert answered(client) == b"HTTP/1.1 413 Payload Too Large"


def test_a_body_that_was_asked_for_and_is_refused_midway_is_read_on_as_well(start):
    service = start("--key-file-bytes", 1000)
    head = upload_head(len(PART) + (8 << 20)).replace(b"host: localhost", b"host: localhost\r\nexpect: 100-continue")
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as client:
            client.sendall(head)
            assert answered(client) == b"HTTP/1.1 100 Continue"
            client.sendall(PART)
            for _ in range(8):
                client.sendall(b"a" * (1 << 20))
            assert answered(client) == b"HTTP/1.1 413 Payload Too Large"


def test_a_form_of_more_fields_than_any_route_has_is_refused(service):
    many = {f"field{number}": (None, "a") for number in range(101)}
    assert_error(service.http.post("/v1/embeddings", files=many), 400, says="more than 100 fields")
    query = "&".join(f"field{number}=a" for number in range(101))
    assert_error(post(service, f"/v1/embeddings?{query}", cat(), {"content-type": "image/jpeg"}), 400, says="more than 100 fields")


def test_a_connection_goes_on_after_a_body_whose_last_bytes_come_late(service):
    body = PART + b"text,label\r\n--x--"
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as client:
        client.sendall(upload_head(len(body) + 2) + body)
        assert answered(client).startswith(b"HTTP/1.1 400"), "`purpose` is missing"
        client.sendall(b"\r\n")
        # What is left of the first answer's body may come before the second answer.
        client.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        said = b""
        while piece := client.recv(65536):
            said += piece
        assert b"HTTP/1.1 200 OK" in said


def test_unknown_routes_methods_and_header_values_are_told(service):
    assert_error(service.http.get("/no/such/route"), 404, "not_found", says="/no/such/route")
    response = service.http.get("/v1/embeddings")
    assert_error(response, 405, "method_not_allowed", says="GET")
    assert response.headers["allow"] == "POST"
    for value in ("0", "-1", "soon", "1.5", "9" * 40):
        response = service.post("/v1/embeddings", EMBEDDINGS, headers={"X-Request-Timeout-Ms": value})
        assert_error(response, 400, "invalid_value", "X-Request-Timeout-Ms")
    response = service.post("/v1/embeddings", EMBEDDINGS, headers={"X-Priority": "urgent"})
    assert_error(response, 400, "invalid_value", "X-Priority")


def test_a_request_id_that_could_forge_a_log_line_is_replaced(service):
    for given in ("a" * 129, "a b", 'a"b', "a\\b"):
        response = service.http.get("/livez", headers={"x-request-id": given})
        assert response.headers["x-request-id"] != given
    assert service.http.get("/livez", headers={"x-request-id": "mine"}).headers["x-request-id"] == "mine"
