"""The official OpenAI client's error classes, retries and waits."""

import time

import openai
import pytest
from load import LONG_TEXT, loaded
from service import IMAGE, TEXT, wait_until

KEYS = "reader:infer:key-of-reader,trainer:train:key-of-trainer,chief:admin:key-of-chief"


def connect(service, key="none", **options):
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key=key, **options)


def assert_told(error, status, kind, code, param=None):
    """Checks what programs switch on, and that the answer's id is the header's."""
    assert (error.status_code, error.type, error.code, error.param) == (status, kind, code, param)
    assert error.request_id and error.body["request_id"] == error.request_id


BAD = [
    ({"input": "a", "dimensions": 385}, "invalid_value", "dimensions"),
    ({"input": "a", "dimensions": 0}, "invalid_value", "dimensions"),
    ({"input": ""}, "invalid_value", "input"),
    ({"input": []}, "invalid_value", "input"),
    ({"input": ["a", ""]}, "invalid_value", "input[1]"),
    ({"input": [101, 30522, 102]}, "invalid_value", "input"),
    ({"input": "a", "encoding_format": "hex"}, "invalid_value", "encoding_format"),
    ({"input": "word " * 300, "extra_body": {"truncate": "none"}}, "context_length_exceeded", "input"),
    ({"input": "a", "extra_body": {"prompt": "no such prompt"}}, "invalid_value", "prompt"),
    ({"input": ["a"] * 2049}, "too_many_items", None),
    ({"model": IMAGE, "input": "a picture"}, "invalid_value", "input"),
    ({"model": IMAGE, "input": "data:image/png;base64,AAAA"}, None, "input"),
]


@pytest.mark.parametrize("fields, code, param", BAD, ids=[f"{code} {param} {place}" for place, (_, code, param) in enumerate(BAD)])
def test_what_the_caller_got_wrong_is_a_bad_request_that_names_the_field(service, fields, code, param):
    with connect(service) as client, pytest.raises((openai.BadRequestError, openai.APIStatusError)) as raised:
        client.embeddings.create(**({"model": TEXT} | fields))
    if code is None:
        # Bytes of no known format.
        assert_told(raised.value, 415, "invalid_request_error", "unsupported_media_type", param)
    else:
        assert isinstance(raised.value, openai.BadRequestError)
        assert_told(raised.value, 400, "invalid_request_error", code, param)


def test_the_message_about_a_long_text_holds_both_counts(service):
    with connect(service) as client, pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(model=TEXT, input="word " * 300, extra_body={"truncate": "none"})
    assert "302" in raised.value.message and "256" in raised.value.message


def test_unknown_models_and_routes_are_not_found(service):
    with connect(service) as client:
        with pytest.raises(openai.NotFoundError) as raised:
            client.embeddings.create(model="no-such-model", input="a")
        assert_told(raised.value, 404, "invalid_request_error", "model_not_found", "model")
        assert "no-such-model" in raised.value.message
        with pytest.raises(openai.NotFoundError) as raised:
            client.models.retrieve("no-such-model")
        assert_told(raised.value, 404, "invalid_request_error", "model_not_found", "model")
        with pytest.raises(openai.NotFoundError) as raised:
            client.chat.completions.create(model=TEXT, messages=[{"role": "user", "content": "Hello"}])
        assert_told(raised.value, 404, "invalid_request_error", "not_found")


def test_keys_decide_who_may_ask(start):
    service = start(HEADSTART_API_KEYS=KEYS)
    for key in ("key-of-reader", "key-of-chief"):
        with connect(service, key) as client:
            assert client.embeddings.create(model=TEXT, input="a").data
            assert client.models.retrieve(TEXT).id == TEXT
    with connect(service, "key-of-nobody") as client:
        for call in (lambda: client.embeddings.create(model=TEXT, input="a"), client.models.list):
            with pytest.raises(openai.AuthenticationError) as raised:
                call()
            assert_told(raised.value, 401, "authentication_error", "invalid_api_key")
            assert raised.value.response.headers["www-authenticate"] == "Bearer"
    with connect(service, "key-of-trainer") as client:
        with pytest.raises(openai.PermissionDeniedError) as raised:
            client.embeddings.create(model=TEXT, input="a")
        assert_told(raised.value, 403, "permission_error", "insufficient_scope")
        assert "infer" in raised.value.message
    # Balancers and monitors have no key.
    assert service.http.get("/livez").status_code == 200
    assert service.metric("rejections_total", reason="unauthorised") >= 3
    assert "key-of" not in service.log()


def test_a_deadline_that_passes_is_a_server_error_of_504(service):
    texts = [f"{number} {LONG_TEXT}" for number in range(64)]
    with connect(service, max_retries=0) as client, pytest.raises(openai.InternalServerError) as raised:
        client.embeddings.create(model=TEXT, input=texts, extra_headers={"X-Request-Timeout-Ms": "1"})
    assert_told(raised.value, 504, "server_error", "deadline_exceeded")


def test_a_server_that_starts_says_503_until_it_is_ready(start):
    service = start(wait=False)
    statuses = []

    def answered():
        with connect(service, max_retries=0) as client:
            try:
                client.embeddings.create(model=TEXT, input="a")
                statuses.append(200)
            except openai.InternalServerError as error:
                assert_told(error, 503, "server_error", "not_ready")
                assert int(error.response.headers["retry-after"]) >= 1
                statuses.append(503)
        return statuses[-1] == 200

    wait_until(answered, "the first answer")
    assert statuses == [503] * (len(statuses) - 1) + [200]


def small(start):
    """A server that four items fill."""
    return start("--queue-items", 4, "--max-items", 4, "--lanes", 1, "--cache-bytes", 0)


def test_a_full_queue_is_a_rate_limit_error_that_says_when_to_come_back(start):
    service = small(start)
    refused = []
    with loaded(service), connect(service, max_retries=0) as client:

        def refusal():
            try:
                client.embeddings.create(model=TEXT, input=["a"] * 4)
            except openai.RateLimitError as error:
                refused.append(error)
            return refused

        wait_until(refusal, "a refusal")
    assert_told(refused[0], 429, "rate_limit_error", "overloaded")
    assert 1 <= int(refused[0].response.headers["retry-after"]) <= 120


def test_the_client_waits_as_told_and_its_retry_succeeds(start):
    service = small(start)
    refusals, retries = [], []

    with loaded(service) as load:

        def seen(response):
            if response.status_code == 429:
                refusals.append((time.monotonic(), float(response.headers["retry-after"])))
                load.stop.set()

        def asked(request):
            if request.headers["x-stainless-retry-count"] != "0":
                retries.append(time.monotonic())

        hooks = {"response": [seen], "request": [asked]}
        http = openai.DefaultHttpxClient(event_hooks=hooks)
        with connect(service, http_client=http, max_retries=5) as client:

            def answered_after_a_refusal():
                assert len(client.embeddings.create(model=TEXT, input=["a"] * 4).data) == 4
                return refusals

            wait_until(answered_after_a_refusal, "a refusal")
    assert retries
    refused_at, wait = refusals[0]
    assert retries[0] - refused_at >= wait


def test_a_list_as_large_as_the_queue_is_answered_by_an_idle_server(start):
    service = small(start)
    with connect(service, max_retries=0) as client:
        assert len(client.embeddings.create(model=TEXT, input=["a", "b", "c", "d"]).data) == 4
        with pytest.raises(openai.BadRequestError) as raised:
            client.embeddings.create(model=TEXT, input=["a"] * 5)
        assert_told(raised.value, 400, "invalid_request_error", "too_many_items")
