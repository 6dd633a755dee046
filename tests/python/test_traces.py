"""Traces at a collector that reads OTLP over HTTP, and lines of the log for answers."""

import contextlib
import json
import re
import statistics
import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from pictures import cat
from receiver import receiving
from service import FAST_TEXT, IMAGE, wait_until

STAGES = ["decode", "preprocess", "queue", "inference", "post"]
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


def attributes(owner):
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in owner.attributes}


class Collector:
    """What a receiver got, as spans."""

    def __init__(self, receiver):
        self._receiver = receiver

    def spans(self):
        found = []
        for path, headers, body in list(self._receiver.received):
            assert path == "/v1/traces"
            assert {name.lower(): value for name, value in headers.items()}["content-type"] == "application/x-protobuf"
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                assert attributes(resource.resource)["service.name"] == "headstart"
                found.extend(span for scope in resource.scope_spans for span in scope.spans)
        return found

    def request(self, request_id):
        """The span of a request, and its stages."""
        spans = self.spans()
        roots = [span for span in spans if attributes(span).get("headstart.request_id") == request_id]
        if not roots:
            return None
        (root,) = roots
        return root, [span for span in spans if span.parent_span_id == root.span_id]


@contextlib.contextmanager
def traced(start, *flags):
    with receiving() as receiver:
        yield start("--otlp-endpoint", f"http://{receiver.host}", *flags), Collector(receiver)


def embed(service, headers=None, **body):
    return service.post("/v1/embeddings", {"model": FAST_TEXT, "input": "a", **body}, headers=headers)


def test_a_request_is_a_span_of_its_callers_trace_with_its_stages_in_order(start):
    with traced(start, "--cache-bytes", 0) as (service, collector):
        headers = {"traceparent": f"{CALLER}-01", "tracestate": "vendor=1", "x-request-id": "traced-1"}
        answer = embed(service, headers)
        root, stages = wait_until(lambda: collector.request("traced-1"), "the trace")
        assert (root.trace_id.hex(), root.parent_span_id.hex()) == tuple(CALLER.split("-")[1:])
        assert root.name == "POST /v1/embeddings" and root.kind == Span.SPAN_KIND_SERVER and root.trace_state == "vendor=1"
        told = attributes(root)
        assert told["http.route"] == "/v1/embeddings" and told["http.response.status_code"] == 200
        assert [span.name for span in stages] == STAGES
        assert all(span.trace_id == root.trace_id for span in stages)
        assert root.start_time_unix_nano <= stages[0].start_time_unix_nano
        for earlier, later in zip(stages, stages[1:]):
            assert earlier.end_time_unix_nano <= later.start_time_unix_nano + 1000
        assert stages[-1].end_time_unix_nano <= root.end_time_unix_nano + 1_000_000
        timing = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.headers["server-timing"]))
        assert list(timing) == STAGES
        for span in stages:
            length = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
            assert abs(length - float(timing[span.name])) < 0.002, span.name
        assert float(timing["inference"]) > 0


def test_who_is_traced_is_as_the_caller_says_else_a_share(start):
    with traced(start, "--otlp-share", 0) as (service, collector):
        embed(service, {"traceparent": f"{CALLER}-00", "x-request-id": "not-sampled"})
        embed(service, {"x-request-id": "not-drawn"})
        embed(service, {"traceparent": "00-nonsense-01", "x-request-id": "nonsense"})
        embed(service, {"traceparent": f"{CALLER}-01", "x-request-id": "sampled"})
        wait_until(lambda: collector.request("sampled"), "the trace")
        assert len([span for span in collector.spans() if attributes(span)]) == 1


def test_what_a_stopping_server_still_has_is_sent(start):
    with traced(start) as (service, collector):
        missing = service.http.get("/v1/models/none", headers={"x-request-id": "last"})
        assert missing.status_code == 404
        service.stop()
        root, stages = collector.request("last")
        assert not stages and root.status.code == Status.STATUS_CODE_UNSET and not root.parent_span_id
        assert attributes(root)["http.response.status_code"] == 404
        assert len(root.trace_id) == 16 and any(root.trace_id)


def test_a_collector_that_hangs_costs_traces_but_no_time(start):
    """Its queue is filled; what does not fit is counted, and answers are as quick as without."""

    def hang():
        time.sleep(8)
        return 503

    with receiving(*[hang] * 50) as receiver:
        service = start("--otlp-endpoint", f"http://{receiver.host}")
        plain = start()
        for running in (service, plain):
            embed(running)
        # More than wait, and more than are given up meanwhile.
        def full():
            for _ in range(500):
                assert service.http.get("/livez").status_code == 200
            return service.metric("traces_total", outcome="queue_full") > 0

        wait_until(full, "the queue is full", 300)

        def milliseconds(running):
            begun = time.perf_counter()
            assert embed(running).status_code == 200
            return (time.perf_counter() - begun) * 1e3

        slowed, quick = ([milliseconds(running) for _ in range(50)] for running in (service, plain))
        # A hanging collector takes seconds: any wait for it would show.
        assert statistics.median(slowed) < statistics.median(quick) + 100
        wait_until(lambda: service.metric("traces_total", outcome="failed") > 0, "traces fail")
        assert service.log().count("traces are not taken") == 1


def test_a_collector_that_is_gone_is_told_of_once_and_used_again(start):
    # Its port stays taken meanwhile, so that nobody else answers on it.
    with receiving(held=True) as receiver:
        service = start("--otlp-endpoint", f"http://{receiver.host}")
        for _ in range(2):
            before = service.metric("traces_total", outcome="failed")
            embed(service)
            wait_until(lambda before=before: service.metric("traces_total", outcome="failed") > before, "traces fail")
        receiver.listen()
        embed(service, {"x-request-id": "again"})
        wait_until(lambda: Collector(receiver).request("again"), "the trace")
        wait_until(lambda: "taken by their collector again" in service.log(), "the log tells of it")
        assert service.log().count("traces are not taken") == 1
        assert service.log().count("taken by their collector again") == 1


def lines(service):
    return [line for line in map(json.loads, service.log().splitlines()) if line.get("message") == "answered"]


def test_a_share_of_answers_is_logged_and_all_errors(start):
    service = start("--access-log", 0.2, "--log-format", "json")
    for number in range(300):
        assert service.http.get("/livez", headers={"x-request-id": f"good-{number}"}).status_code == 200
    for number in range(20):
        assert service.http.get("/none", headers={"x-request-id": f"bad-{number}"}).status_code == 404
    wait_until(lambda: "bad-19" in service.log(), "the last line")
    told = [(line["span"]["id"], line["status"]) for line in lines(service)]
    assert [name for name, status in told if status == 404] == [f"bad-{number}" for number in range(20)]
    good = [name for name, _ in told if name.startswith("good-")]
    # 300 draws at 0.2; the ids are fixed, so this is the same each time.
    assert 40 <= len(good) <= 80


def test_slow_answers_are_all_logged_with_key_and_trace(start, tmp_path):
    with receiving() as receiver:
        keys = {"HEADSTART_API_KEYS": "app:infer:key-of-app"}
        flags = ("--access-log", 1e-9, "--slow-ms", 1, "--log-format", "json", "--otlp-endpoint", f"http://{receiver.host}")
        service = start(*flags, "--cache-bytes", 0, **keys)
        headers = {"authorization": "Bearer key-of-app", "x-request-id": "slow", "traceparent": f"{CALLER}-01"}
        answer = service.http.post(f"/v1/embeddings?model={IMAGE}", content=cat(), headers={**headers, "content-type": "image/jpeg"})
        assert answer.status_code == 200, answer.text
        line = wait_until(lambda: next((line for line in lines(service) if line["span"]["id"] == "slow"), None), "the line")
        assert line["span"]["key"] == "app" and line["span"]["trace_id"] == CALLER.split("-")[1]
        assert line["milliseconds"] >= 1 and "key-of-app" not in service.log()
