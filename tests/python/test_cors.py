"""Pages of other origins, as browsers ask for them."""

import pytest
from service import FAST_TEXT
from test_command_line import refuse

APP = "https://app.example.com"
ALLOWED = "access-control-allow-origin"


def preflight(service, origin, path="/v1/embeddings", headers="authorization,content-type,x-stainless-lang"):
    asked = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": headers}
    return service.http.options(path, headers=asked)


def test_a_listed_origin_may_ask_and_sees_the_headers_that_clients_read(start):
    service = start("--cors-origins", f"{APP},http://localhost:3000", HEADSTART_API_KEYS="app:infer:key-of-app")
    allowed = preflight(service, APP)
    assert allowed.status_code == 200 and allowed.headers[ALLOWED] == APP
    assert "POST" in allowed.headers["access-control-allow-methods"]
    for header in ("authorization", "content-type", "x-stainless-lang"):
        assert header in allowed.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in allowed.headers
    assert preflight(service, "http://localhost:3000").headers[ALLOWED] == "http://localhost:3000"
    for other in ("https://other.example.com", "https://app.example.com.evil.com", "http://app.example.com", "null"):
        assert ALLOWED not in preflight(service, other).headers, other
    headers = {"origin": APP, "authorization": "Bearer key-of-app"}
    answer = service.post("/v1/embeddings", {"model": FAST_TEXT, "input": "a"}, headers=headers)
    assert answer.status_code == 200 and answer.headers[ALLOWED] == APP
    assert "origin" in answer.headers["vary"].lower()
    shown = answer.headers["access-control-expose-headers"]
    assert "x-request-id" in shown and "retry-after" in shown and "x-ratelimit-remaining-requests" in shown
    assert "inference-header-content-length" in shown, "without it a page cannot part an answer of raw tensors"
    # An error must be readable too, or the page could not tell why.
    refused = service.post("/v1/embeddings", {}, headers={"origin": APP})
    assert refused.status_code == 401 and refused.headers[ALLOWED] == APP
    assert service.metric("requests_total", method="OPTIONS") >= 6


def test_any_origin_may_be_allowed_but_never_with_credentials(start):
    service = start("--cors-origins", "*")
    answer = preflight(service, APP)
    assert answer.headers[ALLOWED] == "*" and "access-control-allow-credentials" not in answer.headers


def test_without_the_option_no_other_origin_may_ask(service):
    answer = preflight(service, APP)
    assert ALLOWED not in answer.headers and answer.status_code == 405


@pytest.mark.parametrize("origins", ["*,https://a.example.com", "app.example.com", "https://a.example.com/", "https://A.example.com"])
def test_what_is_no_origin_is_refused(origins):
    refuse("serve", "--cors-origins", origins, names=["`cors-origins`"])
