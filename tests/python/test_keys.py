"""Keys made and revoked by command while a server runs, their limits, and what the official client makes of them."""

import json
import re

import openai
import pytest
from service import FAST_TEXT, wait_until
from test_command_line import refuse, succeed


@pytest.fixture
def running(start):
    """A server with a data folder of its own, which logs as JSON."""
    return start("--log-format", "json")


def add(service, *arguments):
    """Makes a key; its secret and what is said of it."""
    done = succeed("keys", "add", *arguments, "--data", service.data)
    assert re.fullmatch(r"hs-[A-Za-z0-9_-]{43}\n", done.stdout), done.stdout
    return done.stdout.strip(), done.stderr


def models(service, secret):
    return service.http.get("/v1/models", headers={"authorization": f"Bearer {secret}"})


def wait_for_keys(service):
    """Until a server that was open asks for keys: within about a second; more on crowded machines alone."""
    wait_until(lambda: service.http.get("/v1/models").status_code == 401, "the key is read", seconds=10)


def acts(service, secret):
    answer = service.http.get("/v1/audit", headers={"authorization": f"Bearer {secret}"})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_a_key_is_taken_by_a_running_server_until_it_is_revoked_and_its_secret_is_nowhere(running):
    assert running.http.get("/v1/models").status_code == 200
    secret, said = add(running, "ops", "--scope", "infer+admin", "--expires", "90d")
    assert secret not in said and "ops  infer+admin" in said
    wait_for_keys(running)
    assert models(running, secret).status_code == 200
    listed = succeed("keys", "list", "--data", running.data).stdout
    assert re.search(r"key-\w+  ops  infer\+admin  made \S+Z  until \S+Z\n", listed) and secret not in listed
    told = acts(running, secret)
    assert [(act["who"], act["action"], act["subject"]) for act in told] == [("headstart keys", "key.add", "ops")]
    assert "revoked" in succeed("keys", "revoke", "ops", "--data", running.data).stdout
    wait_until(lambda: models(running, secret).status_code == 401, "the key is not taken", seconds=10)
    assert running.http.get("/v1/models").status_code == 401
    wait_until(lambda: "key.revoke" in running.log(), "the audit's line", seconds=10)
    lines = [json.loads(line) for line in running.log().splitlines()]
    assert [line["action"] for line in lines if line["target"] == "audit"] == ["key.add", "key.revoke"]
    kept = b"".join(path.read_bytes() for path in running.data.glob("store.db*"))
    assert secret.encode() not in kept and secret not in running.log()


def test_what_was_done_while_no_server_ran_has_its_line_in_the_audit_once(start, tmp_path):
    data = tmp_path / "data"
    command = lambda *arguments: succeed("keys", *arguments, "--data", data)  # noqa: E731
    command("add", "first", "--scope", "infer")
    told = []
    for key in ("second", "third"):
        service = start("--log-format", "json", data=data)
        wait_until(lambda server=service: '"target":"audit"' in server.log(), "the audit's line", seconds=10)
        service.stop()
        lines = [json.loads(line) for line in service.log().splitlines()]
        told.append([line["subject"] for line in lines if line["target"] == "audit"])
        command("add", key, "--scope", "infer")
    assert told == [["first"], ["second"]]


def test_what_cannot_be_a_key_is_refused(running):
    data = ("--data", running.data)
    add(running, "app", "--scope", "infer")
    refuse("keys", "add", "app", "--scope", "infer", *data, names=["app", "--reuse"])
    refuse("keys", "add", "app", "--scope", "admin", "--reuse", *data, names=["scopes infer"])
    refuse("keys", "add", "b", "--scope", "read", *data, names=["`read` is no scope"])
    refuse("keys", "add", "a b", "--scope", "infer", *data, names=["letters"])
    refuse("keys", "add", "b", "--scope", "infer", "--expires", "2001-01-01", *data, names=["not to come"])
    refuse("keys", "add", "b", "--scope", "infer", "--expires", "99999999d", *data, names=["after the year 9999"])
    refuse("keys", "revoke", "nobody", *data, names=["nobody"])
    configured = {"HEADSTART_API_KEYS": "env:infer:a-configured-key"}
    refuse("keys", "add", "env", "--scope", "infer", *data, names=["`api-keys`"], **configured)
    add(running, "app", "--scope", "infer", "--reuse")


def test_the_keys_of_a_folder_that_is_not_there_are_not_listed_as_none(tmp_path):
    nowhere = tmp_path / "nowhere"
    done = refuse("keys", "list", "--data", nowhere, names=["there is no store in", "nowhere"])
    assert not done.stdout and not nowhere.exists()
    done = refuse("keys", "list", "--data", nowhere, names=["there is no store in"], HEADSTART_API_KEYS="env:infer:a-configured-key")
    assert done.stdout == "env  infer  from api-keys\n"


def test_a_folder_with_keys_may_be_served_to_other_machines(tmp_path, start):
    data = tmp_path / "data"
    refuse("serve", "--listen", "0.0.0.0:0", "--data", data, names=["`listen`", "keys add"])
    assert not data.exists()
    secret = succeed("keys", "add", "app", "--scope", "infer", "--data", data).stdout.strip()
    service = start(listen="0.0.0.0:0", data=data)
    assert service.http.get("/v1/models").status_code == 401
    assert models(service, secret).status_code == 200


def test_the_official_client_waits_as_it_is_told_and_goes_on(running):
    secret, _ = add(running, "app", "--scope", "infer", "--rate", "20", "--concurrency", "4")
    wait_for_keys(running)
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=secret, max_retries=0)
    raw = client.embeddings.with_raw_response.create(model=FAST_TEXT, input="a")
    assert raw.headers["x-ratelimit-limit-requests"] == "20"
    with pytest.raises(openai.RateLimitError) as refused:
        for _ in range(100):
            client.embeddings.create(model=FAST_TEXT, input="a")
    assert refused.value.code == "rate_limit_exceeded"
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 3
    assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    patient = openai.OpenAI(base_url=f"{running.url}/v1", api_key=secret, max_retries=5)
    assert patient.embeddings.create(model=FAST_TEXT, input="a").data
    assert running.metric("rejections_total", reason="key_rate") >= 1
