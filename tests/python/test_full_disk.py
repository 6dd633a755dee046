"""A data folder without room: uploads are refused in words, requests are answered, jobs wait and then end well."""

import io
import json
import random
import subprocess

import openai
import pytest
import small_encoders
from service import BINARY, TEXT, Service, environment, wait_until

MEGABYTE = 1 << 20
DISK_MEGABYTES = 24
# What a worker logs depends on what still fits: a row and no blob, or not even a row.
MET_BY_A_WORKER = ("the disk is full: the job waits", "end could not be written", "no job could be claimed")
ENDED = {"succeeded", "failed", "cancelled"}


@pytest.fixture
def disk(tmp_path):
    """A file system of its own for the data folder; skips where none may be mounted."""
    data = tmp_path / "data"
    data.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "headstart-test", str(data)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield data
    subprocess.run(["umount", "--lazy", str(data)], check=True)


@pytest.fixture
def served(disk):
    running = Service(disk.parent, "--lease-seconds", 2)
    yield running
    running.stop()


def rows(count):
    chance = random.Random(5)
    for number in range(count):
        label = ("rain", "sun")[number % 2]
        yield {"text": f"{label} {chance.random()} {number}", "label": label}


def lines(count):
    return "\n".join(json.dumps(row) for row in rows(count)).encode()


def upload(service, name, content):
    return service.http.post("/v1/files", files={"file": (name, content)}, data={"purpose": "fine-tune"})


def fill(disk, leave=0):
    """Takes all room but `leave` bytes and returns the file that holds it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(64 * 1024))
        except OSError:
            pass
        file.truncate(max(file.tell() - leave, 0))
    return ballast


def parts(disk):
    return list((disk / "blobs" / "staging").rglob("*.part"))


def test_an_upload_beyond_the_room_is_refused_and_leaves_nothing(served, disk):
    kept = upload(served, "weather.jsonl", lines(200))
    assert kept.status_code == 200, kept.text
    before = sorted(path for path in (disk / "blobs").rglob("*") if path.is_file())
    refused = upload(served, "large.jsonl", lines(10) + b"\n" * (DISK_MEGABYTES * MEGABYTE))
    assert refused.status_code == 503, refused.text
    error = refused.json()["error"]
    assert error["type"] == "server_error" and "disk is full" in error["message"], error
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert sorted(path for path in (disk / "blobs").rglob("*") if path.is_file()) == before
    assert served.metric("rejections_total", reason="disk_full") == 1
    assert [one["id"] for one in served.http.get("/v1/files").json()["data"]] == [kept.json()["id"]]
    assert upload(served, "again.jsonl", lines(300)).status_code == 200, "the room came back"


def test_while_the_disk_is_full_requests_are_answered_and_jobs_wait(served, disk):
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
    file = client.files.create(file=("weather.jsonl", io.BytesIO(lines(400))), purpose="fine-tune")

    def ask(suffix):
        return client.fine_tuning.jobs.create(model=TEXT, training_file=file.id, suffix=suffix, seed=3)

    def state(id):
        return client.fine_tuning.jobs.retrieve(id)

    def finished(id):
        return wait_until(lambda: (job := state(id)).status in ENDED and job, f"{id} ends")

    first = finished(ask("before").id)
    assert first.status == "succeeded", first
    wait_until(lambda: served.post("/v1/classify", {"model": "before", "input": "rain"}).status_code == 200, "it answers")

    # More than the job at hand may give back of what it had written when there was no room for the rest.
    more = lines(40_000)
    waiting = ask("during")
    ballast = fill(disk)
    try:
        for _ in range(3):
            assert len(served.embed(TEXT, ["all is well", "it is"])) == 2
            assert served.post("/v1/classify", {"model": "before", "input": "rain again"}).status_code == 200
            assert served.http.get("/v1/fine_tuning/jobs").status_code == 200
            refused = upload(served, "more.jsonl", more)
            assert refused.status_code == 503, refused.text
        created = served.post("/v1/fine_tuning/jobs", {"model": TEXT, "training_file": file.id})
        assert created.status_code in (200, 503), created.text
        wait_until(lambda: any(line in served.log() for line in MET_BY_A_WORKER), "the worker meets the full disk")
        assert state(waiting.id).status in {"queued", "running"}, "nothing has gone wrong with the job itself"
    finally:
        ballast.unlink()
    done = finished(waiting.id)
    assert done.status == "succeeded", done
    client.close()
    assert parts(disk) == []
    wait_until(lambda: served.post("/v1/classify", {"model": "during", "input": "rain"}).status_code == 200, "it answers")


def test_a_start_on_a_full_disk_says_so(disk):
    service = Service(disk.parent)
    service.stop()
    ballast = fill(disk)
    with pytest.raises(AssertionError, match="the disk is full"):
        Service(disk.parent)
    ballast.unlink()
    Service(disk.parent).stop()


SMALL = "small-bert"
# Some seconds of many steps; a state of the training now and then, or none.
LONG = {"epochs": 40, "batch_size": 8, "patience": 1000, "learning_rate": 1e-3}
STATES, NO_STATES = LONG | {"checkpoint_steps": 20}, LONG | {"checkpoint_steps": 1_000_000}
# More than rows and delta of that training take, less than the graph that is made of the delta.
BELOW_A_GRAPH = 96 * 1024


@pytest.fixture(scope="module")
def small_bert(tmp_path_factory):
    """A folder with one small encoder, which leaves room on a small disk."""
    root = tmp_path_factory.mktemp("small-bert")
    source = small_encoders.write(small_encoders.KINDS[0], root / "source", longest=30)
    command = [BINARY, "import", source, "--id", SMALL, "--models", root / "models"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    return root / "models"


class Tuning:
    """Jobs on a small encoder, and the numbers that undisturbed ones end with."""

    def __init__(self, service, count=300):
        self.service = service
        words = "the cat is about money ?".split()
        chance = random.Random(8)
        rows = (" ".join(chance.choices(words, k=20)) for _ in range(count))
        content = "\n".join(json.dumps({"text": text, "label": ("a", "b")[text.count("cat") > 3]}) for text in rows).encode()
        self.file = upload(service, "cats.jsonl", content).json()["id"]

    def ask(self, method, given):
        body = {"model": SMALL, "training_file": self.file, "suffix": "cats", "seed": 3, "method": {"type": method, method: {"hyperparameters": given}}}
        reply = self.service.post("/v1/fine_tuning/jobs", body)
        assert reply.status_code == 200, reply.text
        return reply.json()["id"]

    def state(self, id):
        return self.service.http.get(f"/v1/fine_tuning/jobs/{id}").json()

    def finished(self, id):
        done = wait_until(lambda: (job := self.state(id))["status"] in ENDED and job, f"{id} ends")
        assert done["status"] == "succeeded", done
        return self.answers(done["fine_tuned_model"])

    def answers(self, model):
        asked = {"model": model, "input": ["the cat", "cat cat cat cat ?", "money is about the cat"]}
        reply = wait_until(lambda: (reply := self.service.post("/v1/classify", asked)).status_code == 200 and reply, f"{model} answers")
        return [datum["scores"] for datum in reply.json()["data"]]

    def is_tuned(self, id):
        """The head is fitted: what comes next is the training."""
        events = self.service.http.get(f"/v1/fine_tuning/jobs/{id}/events", params={"limit": 100}).json()["data"]
        return any("logistic regression" in event["message"] for event in events)

    def met(self):
        return sum(self.service.log().count(line) for line in MET_BY_A_WORKER)

    def waits(self, id, before):
        wait_until(lambda: self.met() > before, "the worker meets the full disk")
        assert self.state(id)["status"] in {"queued", "running"}, "nothing has gone wrong with the job itself"


@pytest.fixture
def tuning(disk, small_bert):
    running = Service(disk.parent, "--lease-seconds", 2, models=small_bert)
    yield Tuning(running)
    assert "a job broke" not in running.log(), running.log()
    running.stop()
    assert not list((disk / "variants").glob(".*")), "nothing half written stays"


@pytest.mark.parametrize(
    ("method", "given", "leave"),
    [
        ("full", STATES, 0), ("partial", STATES, 0), ("lora", STATES, 0), ("setfit", STATES, 0),
        ("full", NO_STATES, 0), ("lora", NO_STATES, BELOW_A_GRAPH),
    ],
)
def test_a_training_that_meets_a_full_disk_waits_and_ends_with_the_numbers_of_an_undisturbed_one(tuning, disk, method, given, leave):
    expected = tuning.finished(tuning.ask(method, given))
    before = tuning.met()
    job = tuning.ask(method, given)
    wait_until(lambda: tuning.is_tuned(job), "it is trained")
    ballast = fill(disk, leave)
    try:
        tuning.waits(job, before)
        assert tuning.answers("cats") == expected, "what was there before goes on answering"
    finally:
        ballast.unlink()
    assert tuning.finished(job) == expected
    assert parts(disk) == []


def test_what_is_not_trained_is_computed_in_each_pass_where_what_it_gives_would_fill_the_disk(disk, small_bert):
    service = Service(disk.parent, "--lease-seconds", 2, models=small_bert)
    tuning = Tuning(service, count=2500)
    given, anew = {"epochs": 1, "blocks": 1}, "computed anew in each pass"
    expected = tuning.finished(tuning.ask("partial", given))
    assert anew not in service.log()
    # Of each row 22 tokens of 24 numbers: five megabytes. All that a job keeps is smaller.
    ballast = fill(disk, 4 * MEGABYTE)
    try:
        answers = tuning.finished(tuning.ask("partial", given))
    finally:
        ballast.unlink()
    assert anew in service.log()
    for scores, others in zip(answers, expected, strict=True):
        assert {one["label"]: one["score"] for one in scores} == pytest.approx({one["label"]: one["score"] for one in others}, abs=1e-3)
    service.stop()
