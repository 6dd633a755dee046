"""Overload, clients that leave, deadlines, and a stop in the middle of work."""

import base64
import concurrent.futures
import json
import socket
import threading
import time

import httpx
import pytest
from errors import assert_error
from load import LONG_TEXT, loaded
from pictures import cat
from service import IMAGE, PATIENCE_SECONDS, TEXT, wait_until


def long_texts(count, mark):
    """Texts that no cache has seen."""
    return [f"{mark} {number} {LONG_TEXT}" for number in range(count)]


def test_overload_is_refused_with_a_time_to_come_back_and_passes(start):
    service = start("--queue-items", 4, "--max-items", 4, "--lanes", 1, "--cache-bytes", 0)
    with loaded(service, connections=4) as load:
        wait_until(lambda: {200, 429} <= load.statuses(), "answers and refusals")
    for answer in load.answers:
        if answer.status_code != 200:
            assert_error(answer, 429, "overloaded")
            assert 1 <= int(answer.headers["retry-after"]) <= 120
    assert service.metric("rejections_total", reason="queue_full") > 0
    assert service.metric("queue_items") == 0
    assert len(service.embed(TEXT, ["a", "b", "c", "d"])) == 4


def test_a_single_text_and_a_list_meet_the_same_full_queue(start):
    service = start("--queue-items", 4, "--max-items", 4, "--lanes", 1, "--cache-bytes", 0)
    refused = set()
    with loaded(service):

        def both_refused():
            for given in ("a", ["a", "b"]):
                if service.post("/v1/embeddings", {"model": TEXT, "input": given}).status_code == 429:
                    refused.add(type(given))
            return len(refused) == 2

        wait_until(both_refused, "both are refused")


def test_other_models_are_answered_while_one_is_overloaded(start):
    service = start("--queue-items", 4, "--max-items", 4, "--lanes", 1, "--cache-bytes", 0)
    picture = {"model": IMAGE, "input": {"image": base64.b64encode(cat()).decode()}}
    with loaded(service) as load:
        wait_until(lambda: 429 in load.statuses(), "a refusal")
        for _ in range(5):
            response = service.post("/v1/embeddings", picture)
            assert response.status_code == 200, response.text


def send_and_keep(service, body):
    """Sends a request on a socket of its own and does not read the answer."""
    content = json.dumps(body).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", service.port))
    connection.sendall(head.encode() + content)
    return connection


@pytest.mark.parametrize("notice", [300_000, 0], ids=["notice", "drain"])
def test_a_second_stop_signal_ends_a_server_whatever_it_waits_for(start, notice):
    service = start("--drain-notice-ms", notice, "--drain-seconds", 300)
    with socket.create_connection(("127.0.0.1", service.port)) as unfinished:
        # A request whose body never comes: a drain waits for it.
        unfinished.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        wait_until(lambda: service.metric("requests_in_flight") == 2, "the request is there")
        service.terminate()
        wait_until(lambda: "stopping: no longer ready" in service.log(), "the first is seen")
        begun = time.monotonic()
        service.terminate()
        assert service.wait() == 0, service.log()
        assert time.monotonic() - begun < 15 and "stopped a second time" in service.log()


def test_a_drain_ends_at_its_deadline_whatever_is_unanswered(start):
    service = start("--drain-notice-ms", 0, "--drain-seconds", 1)
    with socket.create_connection(("127.0.0.1", service.port)) as unfinished:
        unfinished.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        wait_until(lambda: service.metric("requests_in_flight") == 2, "the request is there")
        service.terminate()
        assert service.wait() == 0, service.log()
        assert unfinished.recv(1) == b"", "no answer came"
    (line,) = [line for line in service.log().splitlines() if "the drain deadline passed with requests unanswered" in line]
    assert "seconds=1" in line


def test_a_client_that_leaves_frees_its_work(start):
    service = start("--cache-bytes", 0)
    count = 600
    with send_and_keep(service, {"model": TEXT, "input": long_texts(count, "left")}):
        wait_until(lambda: service.metric("queue_items", model=TEXT) == count, "the items are admitted")
        wait_until(lambda: service.metric("items_total", model=TEXT, outcome="answered") > 0, "work begins")

    def left(outcome):
        return service.metric("items_total", model=TEXT, outcome=outcome)

    wait_until(lambda: service.metric("queue_items", model=TEXT) == 0, "the queue is empty")
    wait_until(lambda: service.metric("lanes_busy") == 0, "the lanes are idle")
    wait_until(lambda: left("cancelled") + left("answered") == count, "every item is accounted for")
    assert left("cancelled") > count / 2
    assert service.metric("requests_in_flight") == 1
    assert service.metric("requests_cancelled_total") == service.metric("requests_cancelled_total", route="/v1/embeddings") == 1
    assert len(service.embed(TEXT, "next")) == 1


def test_requests_received_are_those_answered_cancelled_and_in_flight(start):
    service = start()
    service.embed(TEXT, "good")
    assert service.post("/v1/embeddings", {"model": TEXT}).status_code == 400
    assert service.http.get("/nowhere").status_code == 404
    with send_and_keep(service, {"model": TEXT, "input": long_texts(400, "left")}):
        wait_until(lambda: service.metric("queue_items", model=TEXT) > 0, "the items are admitted")
    wait_until(lambda: service.metric("requests_cancelled_total") == 1, "the client's leaving is seen")

    def summed(scrape, name):
        return sum(float(line.rsplit(" ", 1)[1]) for line in scrape.splitlines() if line.startswith(f"headstart_{name}"))

    # One scrape, which is itself the request in flight.
    scrape = service.http.get("/metrics").text
    received, answered, cancelled, in_flight = (
        summed(scrape, name) for name in ("requests_received_total", "requests_total", "requests_cancelled_total", "requests_in_flight")
    )
    assert received == answered + cancelled + in_flight
    assert (cancelled, in_flight) == (1, 1)


def test_a_deadline_answers_504_and_frees_its_work(start):
    service = start("--cache-bytes", 0)
    body = {"model": TEXT, "input": long_texts(400, "late")}
    response = service.post("/v1/embeddings", body, headers={"X-Request-Timeout-Ms": "300"})
    assert_error(response, 504, "deadline_exceeded")
    wait_until(lambda: service.metric("queue_items", model=TEXT) == 0, "the queue is empty")
    wait_until(lambda: service.metric("lanes_busy") == 0, "the lanes are idle")
    assert service.metric("items_total", model=TEXT, outcome="answered") < 400
    assert len(service.embed(TEXT, "next")) == 1


def test_the_servers_own_limit_on_time_holds_without_a_header(start):
    service = start("--request-timeout-ms", 1)
    body = {"model": TEXT, "input": long_texts(64, "slow")}
    for headers in ({}, {"X-Request-Timeout-Ms": "60000"}):
        assert_error(service.post("/v1/embeddings", body, headers=headers), 504, "deadline_exceeded")


def test_bulk_work_does_not_hold_up_those_who_wait(start):
    service = start("--cache-bytes", 0, "--lanes", 1)
    bulk = {"model": TEXT, "input": long_texts(300, "bulk")}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        later = pool.submit(service.post, "/v1/embeddings", bulk, headers={"X-Priority": "bulk"})
        wait_until(lambda: service.metric("queue_items", model=TEXT) == 300, "the bulk work is admitted")
        for number in range(5):
            service.embed(TEXT, f"short {number}")
            assert not later.done()
        assert later.result().status_code == 200


def test_a_stop_answers_what_was_accepted_and_then_ends(start):
    service = start("--cache-bytes", 0)
    count, items = 6, 24
    seen = []

    def ask(number):
        body = {"model": TEXT, "input": long_texts(items, f"drain {number}")}
        with httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS, trust_env=False) as http:
            return http.post("/v1/embeddings", json=body)

    def watch():
        """Asks for readiness on new connections until there is nobody to ask."""
        while True:
            try:
                with httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS, trust_env=False) as http:
                    seen.append(http.get("/readyz").status_code)
            except httpx.TransportError:
                return

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(ask, number) for number in range(count)]
        wait_until(lambda: service.metric("queue_items", model=TEXT) == count * items, "all are admitted")
        watcher = threading.Thread(target=watch)
        watcher.start()
        wait_until(lambda: seen, "the watcher watches")
        service.terminate()
        answers = [future.result() for future in asked]
        watcher.join()
    assert service.wait() == 0
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["data"]) == items
    # Balancers are told before the door closes.
    assert seen == sorted(seen) and set(seen) == {200, 503}


def test_a_stop_while_starting_ends_at_once(start):
    service = start(wait=False)
    service.terminate()
    assert service.wait() == 0


def test_a_stop_with_idle_connections_open_ends(start):
    service = start()
    with socket.create_connection(("127.0.0.1", service.port)):
        service.embed(TEXT, "a")
        service.terminate()
        assert service.wait() == 0


def test_every_series_is_there_before_the_first_request(start):
    service = start()
    for outcome in ("answered", "failed", "cancelled", "expired"):
        assert service.metric("items_total", model=TEXT, outcome=outcome) >= 0
    for route in ("/v1/embeddings", "/v1/zero-shot", "/v1/similarity", "/v1/decisions", "/hf/{model}"):
        assert service.metric("requests_total", route=route, method="POST") == 0
    assert service.metric("rejections_total") == 0
    assert service.metric("model_loaded", model=IMAGE) == 1
    assert service.metric("ready") == 1


def test_the_interface_for_people_needs_no_internet(service):
    page = service.http.get("/docs/", follow_redirects=True)
    assert page.status_code == 200
    assert "http://" not in page.text and "https://" not in page.text
