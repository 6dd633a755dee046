"""Two workers beside a server on one data folder: each job is done once, also when one worker dies and when clocks differ."""

import json
import os
import random
import re
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from service import BINARY, MODELS, PATIENCE_SECONDS, ROOT, TEXT, environment, wait_until

JOBS = 12
ENDED = {"succeeded", "failed", "cancelled"}
LEASE_SECONDS = 2


class Worker:
    """`headstart worker` on a data folder."""

    def __init__(self, folder, data, name, **variables):
        self.log_file = folder / f"{name}.txt"
        command = [BINARY, "worker", "--models", MODELS, "--data", data, "--lanes", 1, "--lease-seconds", LEASE_SECONDS]
        command += ["--worker-listen", "127.0.0.1:0", "--drain-seconds", 300]
        with self.log_file.open("wb") as log:
            parts = [str(part) for part in command]
            self.process = subprocess.Popen(parts, cwd=ROOT, env=environment(**variables), stdin=subprocess.DEVNULL, stderr=log)
        wait_until(lambda: "looking for jobs" in self.log() or self.process.poll() is not None, f"{name} looks for jobs")
        assert self.process.poll() is None, self.log()

    def log(self):
        return self.log_file.read_text(errors="replace")

    def ask(self, path):
        """What it answers a monitor."""
        address = re.search(r"metrics are shown address=(\S+)", re.sub(r"\x1b\[[0-9;]*m", "", self.log()))[1]
        return httpx.get(f"http://{address}{path}", trust_env=False)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(PATIENCE_SECONDS) == 0, self.log()
        assert "panicked" not in self.log(), self.log()

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)


def rows(count):
    chance = random.Random(4)
    lines = (json.dumps({"text": f"{('rain', 'sun')[n % 2]} {chance.random()} {n}", "label": ("rain", "sun")[n % 2]}) for n in range(count))
    return "\n".join(lines).encode()


class Queue:
    """Jobs of a server that does none itself."""

    def __init__(self, service):
        self.service = service
        reply = service.http.post("/v1/files", files={"file": ("weather.jsonl", rows(120))}, data={"purpose": "fine-tune"})
        self.file = reply.json()["id"]
        self.jobs = []

    def ask(self, count, method="linear_probe"):
        for number in range(len(self.jobs), len(self.jobs) + count):
            body = {"model": TEXT, "training_file": self.file, "suffix": f"weather-{number}", "seed": number, "method": {"type": method}}
            reply = self.service.post("/v1/fine_tuning/jobs", body)
            assert reply.status_code == 200, reply.text
            self.jobs.append(reply.json()["id"])

    def state(self, id):
        return self.service.http.get(f"/v1/fine_tuning/jobs/{id}").json()

    def events(self, id):
        """Oldest first."""
        reply = self.service.http.get(f"/v1/fine_tuning/jobs/{id}/events", params={"limit": 100}).json()
        assert not reply["has_more"]
        return reply["data"][::-1]

    def all_ended(self):
        states = [self.state(id)["status"] for id in self.jobs]
        return all(state in ENDED for state in states) and states

    def times_of(self, id, words):
        return sum(words in event["message"] for event in self.events(id))


@pytest.fixture
def queue(start):
    return Queue(start("--workers", 0))


@pytest.fixture
def worker(tmp_path):
    """Starts workers on a data folder; those still there are stopped at the end."""
    running = []

    def start_worker(data, **variables):
        running.append(Worker(tmp_path, data, f"worker-{len(running)}", **variables))
        return running[-1]

    yield start_worker
    for started in running:
        if started.process.poll() is None:
            started.stop()


def check_done_once(queue, lost=frozenset()):
    for id in queue.jobs:
        job = queue.state(id)
        assert job["status"] == "succeeded", job
        versions = queue.service.http.get(f"/v1/classifiers/{job['fine_tuned_model'].split('@')[0]}").json()["versions"]
        assert len(versions) == 1, "one job, one version"
        numbers = [event["id"] for event in queue.events(id)]
        assert len(set(numbers)) == len(numbers)
        assert queue.times_of(id, "rows to learn from") == 1 or id in lost, queue.events(id)


def test_each_job_runs_once_and_none_is_lost(queue, worker):
    queue.ask(JOBS)
    data = queue.service.folder / "data"
    workers = [worker(data), worker(data)]
    wait_until(queue.all_ended, "all jobs end")
    check_done_once(queue)
    shares = [one.log().count("job started") for one in workers]
    for one, share in zip(workers, shares, strict=True):
        assert one.ask("/readyz").status_code == one.ask("/livez").status_code == 200 and one.ask("/v1/models").status_code == 404
        ended = f'headstart_jobs_ended_total{{outcome="succeeded"}} {share}\n'
        wait_until(lambda shown=one, line=ended: line in shown.ask("/metrics").text, "it counts what it did")
    assert sum(shares) == JOBS and all(shares), f"both take part: {shares}"


def test_the_job_of_a_killed_worker_is_taken_over(queue, worker):
    queue.ask(4)
    data = queue.service.folder / "data"
    victim = worker(data)
    wait_until(lambda: "job started" in victim.log(), "it has a job")
    victim.kill()
    left = {id for id in queue.jobs if queue.state(id)["status"] == "running"}
    heir = worker(data)
    wait_until(queue.all_ended, "all jobs end")
    check_done_once(queue, lost=left)
    assert heir.log().count("job started") >= len(queue.jobs) - 1
    assert "attempt=2" in heir.log() or not left


def faketime():
    """The library that gives a process another clock; looked for in the system's folders and in `LIBFAKETIME`."""
    named = os.environ.get("LIBFAKETIME")
    found = [Path(named)] if named else [path for folder in ("/usr/lib", "/usr/local/lib") for path in Path(folder).glob("**/faketime/libfaketimeMT.so.1")]
    return str(found[0]) if found else None


class Clock:
    """The clock of several processes, which jumps for all of them at once."""

    def __init__(self, file):
        library = faketime() or pytest.skip("libfaketime is not on this machine")
        self.file = file
        self.set("+0")
        self.variables = {
            "LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1",
            # Waits go by the monotonic clock, which no administrator sets.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset):
        new = self.file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.replace(self.file)


@pytest.mark.parametrize("offset", ["+1d", "-1d"])
def test_a_clock_that_jumps_by_a_day_while_jobs_run_costs_no_job(start, worker, tmp_path, offset):
    clock = Clock(tmp_path / "clock")
    service = start("--workers", 0, **clock.variables)
    queue = Queue(service)
    queue.ask(4)
    workers = [worker(service.folder / "data", **clock.variables) for _ in range(2)]
    wait_until(lambda: any("job started" in one.log() for one in workers), "a job is being done")
    clock.set(offset)
    queue.ask(2)
    moved = queue.state(queue.jobs[-1])["created_at"] - time.time()
    assert abs(abs(moved) - 86_400) < PATIENCE_SECONDS, "the clock has jumped"
    wait_until(queue.all_ended, "all jobs end")
    for id in queue.jobs:
        job = queue.state(id)
        assert job["status"] == "succeeded", job
        versions = service.http.get(f"/v1/classifiers/{job['fine_tuned_model'].split('@')[0]}").json()["versions"]
        assert len(versions) == 1, "whoever lost a job published nothing"
        events = queue.events(id)
        assert [event["id"] for event in events] == sorted(event["id"] for event in events), "ids grow whatever the clock says"
        assert "created" in events[0]["message"] and len(events) > 3
    # Each loss is one claim more; a jump costs a job its worker at most once.
    assert sum(one.log().count("job started") for one in workers) <= len(queue.jobs) + len(workers)
    clock.set("+0")
    queue.ask(1)
    wait_until(queue.all_ended, "a job after the clock was put right ends")
    assert queue.state(queue.jobs[-1])["status"] == "succeeded"


def test_a_dead_workers_job_is_free_soon_though_the_clock_went_back(start, worker, tmp_path):
    clock = Clock(tmp_path / "clock")
    service = start("--workers", 0, **clock.variables)
    queue = Queue(service)
    queue.ask(1)
    victim = worker(service.folder / "data", **clock.variables)
    wait_until(lambda: "job started" in victim.log(), "it has a job")
    victim.kill()
    if queue.state(queue.jobs[0])["status"] in ENDED:
        pytest.skip("the job was done before its worker could be killed")
    clock.set("-1d")
    started = time.monotonic()
    worker(service.folder / "data", **clock.variables)
    wait_until(queue.all_ended, "the job ends")
    assert queue.state(queue.jobs[0])["status"] == "succeeded"
    assert time.monotonic() - started < PATIENCE_SECONDS
