"""Ends of jobs told to a receiver, which reads them with the official client: signed, told again, never redirected or lost."""

import json
import shutil
import subprocess

import openai
import pytest
from receiver import Certificate, receiving
from service import BINARY, MODELS, PATIENCE_SECONDS, ROOT, TEXT, environment, wait_until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
ENDED = {"succeeded", "failed", "cancelled"}


def unwrapped(received, secret=SECRET):
    """The event as the official client reads it, after it has checked the signature and its age."""
    _, headers, body = received
    return openai.OpenAI(api_key="none", webhook_secret=secret).webhooks.unwrap(body, headers)


class Jobs:
    """Jobs of a server."""

    def __init__(self, service):
        self.service = service
        rows = (json.dumps({"text": f"{label} number {n}", "label": label}) for n in range(10) for label in ("rain", "sun"))
        file = {"file": ("weather.jsonl", "\n".join(rows).encode())}
        self.file = service.http.post("/v1/files", files=file, data={"purpose": "fine-tune"}).json()["id"]

    def ask(self, url=None, headers=None):
        """Asks for a short job; the answer."""
        body = {"model": TEXT, "training_file": self.file, "method": {"type": "prototype"}, "report": {"budget_seconds": 0}}
        return self.service.post("/v1/fine_tuning/jobs", body | ({"webhook": {"url": url}} if url else {}), headers=headers)

    def queued(self, url=None):
        reply = self.ask(url)
        assert reply.status_code == 200, reply.text
        return reply.json()["id"]

    def ended(self, url=None):
        """A job that has come to its end."""
        id = self.queued(url)
        wait_until(lambda: self.state(id) in ENDED, f"{id} ends")
        return id

    def state(self, id):
        return self.service.http.get(f"/v1/fine_tuning/jobs/{id}").json()["status"]

    def told(self, id):
        """The messages among the job's events that are about its webhook."""
        events = self.service.http.get(f"/v1/fine_tuning/jobs/{id}/events", params={"limit": 100}).json()["data"]
        return [event["message"] for event in events if "webhook" in event["message"]]


@pytest.fixture
def telling(start):
    """Starts servers that may tell receivers."""

    def start_telling(*receivers, flags=(), secret=SECRET, **options):
        hosts = ",".join(receiver.host for receiver in receivers)
        return start(*flags, HEADSTART_WEBHOOK_HOSTS=hosts, HEADSTART_WEBHOOK_SECRET=secret, **options)

    return start_telling


def arrived(receiver, count=1):
    return wait_until(lambda: len(receiver.received) >= count and receiver.received, f"{count} webhooks arrive")


def test_the_official_client_reads_what_an_end_sends(telling):
    with receiving() as receiver:
        service = telling(receiver, flags=["--webhook-url", receiver.url("/all?from=headstart")])
        jobs = Jobs(service)
        succeeded = jobs.ended()
        [told] = arrived(receiver)
        event = unwrapped(told)
        assert (event.type, event.object, event.data.id) == ("fine_tuning.job.succeeded", "event", succeeded)
        job = service.http.get(f"/v1/fine_tuning/jobs/{succeeded}").json()
        assert event.created_at == job["finished_at"] and job["webhook"] is None, "the operator's receiver is not shown"
        path, headers, body = told
        assert path == "/all?from=headstart" and headers["content-type"] == "application/json"
        assert headers["host"] == receiver.host and headers["webhook-id"] == event.id == json.loads(body)["id"]
        assert wait_until(lambda: jobs.told(succeeded), "the job's events say so") == [f"webhook delivered to {receiver.host} at attempt 1"]

        with pytest.raises(openai.InvalidWebhookSignatureError):
            unwrapped((path, headers, body.replace(b"succeeded", b"cancelled")))
        with pytest.raises(openai.InvalidWebhookSignatureError):
            unwrapped(told, OTHER_SECRET)

        wait_until(lambda: service.metric("webhooks_waiting") == 0, "nothing is left to tell")
        assert service.metric("webhook_attempts_total", outcome="put_off") == 0


def test_the_trace_of_the_request_that_made_a_job_goes_with_what_is_told(telling):
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with receiving() as receiver, receiving() as collector:
        for flags, span in (((), "b7ad6b7169203331"), (("--otlp-endpoint", f"http://{collector.host}", "--otlp-share", 0), None)):
            service = telling(receiver, flags=flags)
            jobs = Jobs(service)
            receiver.received.clear()
            for headers in ({"traceparent": caller}, {"traceparent": "00-nonsense-01"}, None):
                assert jobs.ask(receiver.url(), headers).status_code == 200
            told = [headers.get("traceparent") for _, headers, _ in arrived(receiver, 3)]
            assert sorted(map(bool, told)) == [False, False, True], told
            version, trace, parent, sampled = next(filter(None, told)).split("-")
            assert (version, trace, sampled) == ("00", caller.split("-")[1], "01")
            # Where requests are traced, what is told is part of the request; else of what its caller was at.
            assert (parent == span) if span else (parent != caller.split("-")[2] and len(parent) == 16)


def test_a_cancelled_job_tells_the_receiver_that_it_names_and_no_other(telling):
    with receiving() as receiver, receiving() as own:
        service = telling(receiver, own, flags=["--workers", 0, "--webhook-url", receiver.url()])
        job = Jobs(service).queued(own.url())
        cancelled = service.http.post(f"/v1/fine_tuning/jobs/{job}/cancel").json()
        assert (cancelled["status"], cancelled["webhook"]) == ("cancelled", {"url": own.url()})
        event = unwrapped(arrived(own)[0])
        assert (event.type, event.data.id) == ("fine_tuning.job.cancelled", job)
        wait_until(lambda: service.metric("webhooks_waiting") == 0, "nothing is left to tell")
        assert len(own.received) == 1 and not receiver.received


def test_an_end_is_told_again_until_it_is_taken_and_goes_where_it_was_sent_alone(telling):
    with receiving(500, 307, 302) as receiver:
        service = telling(receiver)
        jobs = Jobs(service)
        job = jobs.ended(receiver.url())
        told = arrived(receiver, 4)
        assert {path for path, _, _ in told} == {"/hook"}, "redirects are not followed"
        assert len({body for _, _, body in told}) == len({headers["webhook-id"] for _, headers, _ in told}) == 1
        times = [int(headers["webhook-timestamp"]) for _, headers, _ in told]
        assert times == sorted(times) and times[-1] > times[0], "each attempt is signed at its own time"
        assert all(unwrapped(one).data.id == job for one in told)
        wait_until(lambda: jobs.told(job), "the job's events say so")
        assert jobs.told(job) == [f"webhook delivered to {receiver.host} at attempt 4"]
        assert service.metric("webhook_attempts_total", outcome="put_off") == 3
        assert service.metric("webhook_attempts_total", outcome="delivered") == 1
        assert len(receiver.received) == 4


def test_a_receiver_that_is_gone_for_good_is_told_once(telling):
    with receiving(410) as receiver:
        service = telling(receiver)
        jobs = Jobs(service)
        job = jobs.ended(receiver.url())
        wait_until(lambda: jobs.told(job), "the job's events say so")
        assert jobs.told(job) == ["webhook given up at attempt 1: answered 410"]
        wait_until(lambda: service.metric("webhooks_given_up") == 1, "it is counted")
        assert service.metric("webhook_attempts_total", outcome="given_up") == 1
        assert jobs.state(job) == "succeeded" and len(receiver.received) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook", "http://127.0.0.1:1/hook", "http://localhost:{port}/hook", "http://user:pass@127.0.0.1:{port}/", "http://127.0.0.1:{port}@example.com/",
        "http://127.0.0.1:{port}.example.com/", "ftp://127.0.0.1:{port}/", "http://169.254.169.254/latest", "127.0.0.1:{port}", "", "http://allowed.example.com/", "http://127.0.0.1:{port}/\r\nx-a: b",
    ],
)
def test_a_job_that_would_tell_another_host_is_refused(hosts_service, url):
    jobs, receiver = hosts_service
    reply = jobs.service.post("/v1/fine_tuning/jobs", {"model": TEXT, "training_file": jobs.file, "webhook": {"url": url.format(port=receiver.port)}})
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["param"] == "webhook.url" and "`webhook.url`" in error["message"], error
    assert not receiver.received


@pytest.fixture(scope="module")
def hosts_service(tmp_path_factory):
    from service import Service

    with receiving() as receiver:
        variables = {"HEADSTART_WEBHOOK_HOSTS": f"{receiver.host},allowed.example.com", "HEADSTART_WEBHOOK_SECRET": SECRET}
        service = Service(tmp_path_factory.mktemp("hosts"), "--workers", 0, **variables)
        yield Jobs(service), receiver
        service.stop()


def test_a_server_without_a_list_of_hosts_tells_nobody(service):
    with receiving() as receiver:
        jobs = Jobs(service)
        refused = jobs.ask(receiver.url())
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "webhook.url")
        missing = service.post("/v1/fine_tuning/jobs", {"model": TEXT, "training_file": jobs.file, "webhook": {}})
        assert (missing.status_code, missing.json()["error"]["param"]) == (400, "webhook.url")
        jobs.ended()
        assert not receiver.received


def killed(process):
    process.kill()
    process.wait(PATIENCE_SECONDS)


def test_an_end_is_told_though_whoever_wrote_it_was_killed_before_it_could(telling, tmp_path):
    """The server that took the job is killed; so is the worker that ended it and tells nobody; the next server tells."""
    with receiving() as receiver:
        data = tmp_path / "data"
        first = telling(receiver, flags=["--workers", 0], data=data)
        job = Jobs(first).queued(receiver.url())
        first._process.kill()
        first.wait()

        command = [BINARY, "worker", "--models", MODELS, "--data", data, "--lanes", 1]
        with (tmp_path / "worker.txt").open("wb") as log:
            worker = subprocess.Popen([str(part) for part in command], cwd=ROOT, env=environment(), stderr=log, stdin=subprocess.DEVNULL)
        try:
            reader = telling(flags=["--workers", 0], data=data)
            wait_until(lambda: reader.http.get(f"/v1/fine_tuning/jobs/{job}").json()["status"] == "succeeded", "the job ends")
            wait_until(lambda: reader.metric("webhooks_waiting") == 1, "it is still to be told")
        finally:
            killed(worker)
        assert not receiver.received

        last = telling(receiver, flags=["--workers", 0], data=data)
        assert unwrapped(arrived(receiver)[0]).data.id == job
        wait_until(lambda: last.metric("webhooks_waiting") == 0, "it is noted")
        assert len(receiver.received) == 1


def test_what_a_receiver_that_was_down_has_missed_is_told_after_a_restart(telling, tmp_path):
    # Its port stays taken meanwhile, so that nobody else answers on it.
    with receiving(held=True) as receiver:
        data, flags = tmp_path / "data", ["--webhook-url", receiver.url()]
        first = telling(receiver, flags=flags, data=data)
        job = Jobs(first).ended()
        wait_until(lambda: first.metric("webhook_attempts_total", outcome="put_off") >= 1, "it cannot be told")
        first._process.kill()
        first.wait()
        receiver.listen()
        last = telling(receiver, flags=flags, data=data)
        assert unwrapped(arrived(receiver)[0]).data.id == job
        wait_until(lambda: last.metric("webhooks_waiting") == 0, "it is noted")


def test_two_servers_on_one_data_folder_tell_each_end_once(telling, tmp_path):
    with receiving() as receiver:
        flags = ["--webhook-url", receiver.url(), "--lanes", 1]
        servers = [telling(receiver, flags=flags, data=tmp_path / "data") for _ in range(2)]
        jobs = Jobs(servers[0])
        ids = [jobs.queued() for _ in range(8)]
        wait_until(lambda: all(jobs.told(id) for id in ids), "all are told")
        assert sorted(unwrapped(one).data.id for one in receiver.received) == sorted(ids)
        assert sum(server.metric("webhook_attempts_total", outcome="delivered") for server in servers) == len(ids)


def test_nothing_shows_the_secret(telling):
    with receiving(500) as receiver:
        service = telling(receiver, secret=f"{OTHER_SECRET},{SECRET}", flags=["--webhook-url", receiver.url("/hook?token=of-the-operator"), "--log", "trace"])
        jobs = Jobs(service)
        job = jobs.ended()
        told = arrived(receiver, 2)
        assert all(unwrapped(one, secret).data.id == job for one in told for secret in (SECRET, OTHER_SECRET)), "either secret reads it"
        wait_until(lambda: jobs.told(job), "it is noted")
        shown = [service.log(), service.http.get("/metrics").text, service.http.get(f"/v1/fine_tuning/jobs/{job}").text]
        shown.append(service.http.get(f"/v1/fine_tuning/jobs/{job}/events").text)
        assert "webhook delivered" in shown[0], "the log is on"
        for text in shown:
            for secret in (SECRET, OTHER_SECRET):
                assert secret not in text and secret.removeprefix("whsec_") not in text
            assert "of-the-operator" not in text


def ran(*flags, **variables):
    command = [str(BINARY), "serve", "--print-config", *flags]
    return subprocess.run(command, cwd=ROOT, env=environment(**variables), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)


def test_the_printed_options_hide_the_secret_and_a_wrong_one_is_not_repeated():
    printed = ran(HEADSTART_WEBHOOK_HOSTS="a.example.com,b.example.com:8443", HEADSTART_WEBHOOK_SECRET=SECRET)
    assert printed.returncode == 0 and "# webhook_secret is set and not shown" in printed.stdout
    assert SECRET.removeprefix("whsec_") not in printed.stdout + printed.stderr
    assert 'webhook_hosts = ["a.example.com", "b.example.com:8443"]' in printed.stdout
    wrong = ran(HEADSTART_WEBHOOK_HOSTS="a.example.com", HEADSTART_WEBHOOK_SECRET=SECRET.removeprefix("whsec_"))
    assert wrong.returncode != 0 and "`webhook-secret`" in wrong.stderr and "MfKQ" not in wrong.stderr
    for flags, name in [(["--webhook-hosts", "https://a.example.com"], "webhook-hosts"), (["--webhook-hosts", "a.example.com"], "webhook-secret"), (["--webhook-url", "https://a.example.com"], "webhook-url")]:
        refused = ran(*flags)
        assert refused.returncode != 0 and name in refused.stderr, refused.stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls_trusts_what_the_system_trusts(telling, tmp_path):
    certificate = Certificate(tmp_path)
    with receiving(certificate=certificate) as receiver:
        flags = ["--webhook-url", receiver.url()]
        doubting = telling(receiver, flags=flags)
        jobs = Jobs(doubting)
        jobs.ended()
        wait_until(lambda: doubting.metric("webhook_attempts_total", outcome="put_off") >= 1, "the certificate is refused")
        assert "no TLS" in doubting.log() and not receiver.received
        trusting = telling(receiver, flags=flags, SSL_CERT_FILE=str(certificate.file))
        job = Jobs(trusting).ended()
        assert unwrapped(arrived(receiver)[0]).data.id == job
