"""The whole cycle by the official client: upload, job, events, classifier, answer; and the clients' helpers around it."""

import fcntl
import io
import json
import sqlite3
import zipfile

import openai
import pytest
from pictures import photos
from service import EXAMPLES, IMAGE, TEXT, wait_until
from texts import data_set, labelled_examples

ENDED = {"succeeded", "failed", "cancelled"}


@pytest.fixture
def client(service):
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)


def finished(client, job):
    """Polls a job to its end, as a user of the client would."""
    return wait_until(lambda: (found := client.fine_tuning.jobs.retrieve(job.id)).status in ENDED and found, f"{job.id} ends")


def upload(client, name, content):
    return client.files.create(file=(name, content), purpose="fine-tune")


def test_the_examples_become_a_classifier_that_answers(client, service):
    file = upload(client, "banking77.csv", (EXAMPLES / "banking77.csv").read_bytes())
    assert file.status == "processed" and file.purpose == "fine-tune"
    assert client.files.retrieve(file.id).id == file.id
    assert client.files.content(file.id).read() == (EXAMPLES / "banking77.csv").read_bytes()
    assert file.id in [one.id for one in client.files.list()]

    job = client.fine_tuning.jobs.create(model=TEXT, training_file=file.id, suffix="intents", seed=7)
    assert job.status in {"queued", "running"} and job.error is None
    job = finished(client, job)
    assert job.status == "succeeded", job
    assert job.fine_tuned_model.startswith("intents@") and job.seed == 7

    events = list(client.fine_tuning.jobs.list_events(job.id, limit=2))
    assert len(events) > 2, "pages follow one another"
    assert len({event.id for event in events}) == len(events)
    assert events[0].created_at >= events[-1].created_at
    assert job.id in [one.id for one in client.fine_tuning.jobs.list(limit=1)]

    examples = labelled_examples()
    body = {"model": job.fine_tuned_model, "input": [text for text, _ in examples]}
    answer = service.post("/v1/classify", body).json()
    right = sum(datum["label"] == label for datum, (_, label) in zip(answer["data"], examples, strict=True))
    assert right >= 0.95 * len(examples), "it should know again nearly all it has learned"
    assert {score["label"] for score in answer["data"][0]["scores"]} == {label for _, label in examples}
    assert abs(sum(score["score"] for score in answer["data"][0]["scores"]) - 1) < 1e-4

    report = service.http.get(f"/v1/fine_tuning/jobs/{job.id}/report").json()
    assert 0 < report["metrics"]["accuracy"]["low"] <= report["metrics"]["accuracy"]["value"] <= 1
    assert report["transfer"]["verdict"] in {"helped", "no_difference", "hurt"} and report["transfer"]["sentence"]
    assert report["transfer"]["points"][0]["examples_a_class"] == 1
    page = service.http.get(f"/v1/fine_tuning/jobs/{job.id}/report", headers={"accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert "<svg" in page.text and "<script" not in page.text and "http://" not in page.text.replace("http://www.w3.org", "")
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    # What was learned stays.
    assert service.post("/v1/classify", {"model": job.fine_tuned_model, "input": "hello"}).status_code == 200


def test_photos_in_a_zip_become_a_classifier(client, service):
    """Each example photo against its mirror-turned copies: enough to tell three things apart."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as bundle:
        for label, photo in zip(("first", "second"), photos()[:2], strict=True):
            for number in range(8):
                data = io.BytesIO()
                photo.convert("RGB").rotate(number * 5).resize((160, 160)).save(data, "JPEG")
                bundle.writestr(f"things/{label}/{number}.jpg", data.getvalue())
    file = upload(client, "things.zip", archive.getvalue())
    assert file.status == "processed", file
    method = {"type": "prototype", "prototype": {"hyperparameters": {}}}
    job = client.fine_tuning.jobs.create(model=IMAGE, training_file=file.id, suffix="things", extra_body={"method": method})
    job = finished(client, job)
    assert job.status == "succeeded", job
    data = io.BytesIO()
    photos()[1].convert("RGB").save(data, "JPEG")
    answer = service.http.post("/v1/classify", params={"model": "things"}, content=data.getvalue(), headers={"content-type": "image/jpeg"})
    assert answer.json()["data"][0]["label"] == "second"


def test_a_dirty_file_lists_all_that_is_wrong_and_no_job_takes_it(client):
    lines = ['{"text": "fine", "label": "a"}', "not json", '{"text": "", "label": "a"}', '{"text": "no label"}', '{"text": "other", "label": "b"}']
    file = upload(client, "dirty.jsonl", "\n".join(lines).encode())
    assert file.status == "error" and file.status_details
    found = {problem.get("line"): problem["code"] for problem in file.model_extra["problems"]}
    assert {2, 3, 4} <= set(found), found
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(model=TEXT, training_file=file.id)
    assert refused.value.param == "training_file"


def test_a_cancelled_job_makes_nothing_and_a_paused_one_goes_on(client):
    rows = "\n".join(json.dumps({"text": f"sentence {number} about {label}", "label": label}) for number in range(400) for label in ("rain", "sun"))
    file = upload(client, "weather.jsonl", rows.encode())
    cancelled = client.fine_tuning.jobs.create(model=TEXT, training_file=file.id, suffix="weather-a")
    assert client.fine_tuning.jobs.cancel(cancelled.id).status == "cancelled"
    with pytest.raises(openai.ConflictError):
        client.fine_tuning.jobs.cancel(cancelled.id)
    paused = client.fine_tuning.jobs.create(model=TEXT, training_file=file.id, suffix="weather-b")
    client.fine_tuning.jobs.pause(paused.id)
    with pytest.raises(openai.ConflictError):
        client.files.delete(file.id)
    client.fine_tuning.jobs.resume(paused.id)
    assert finished(client, paused).status == "succeeded"
    assert client.fine_tuning.jobs.retrieve(cancelled.id).fine_tuned_model is None


@pytest.mark.parametrize(("name", "least"), [("trec6", 0.89)])
def test_public_data_reach_their_figures(client, service, name, least):
    content, test = data_set(name)
    if content is None:
        pytest.skip("HEADSTART_TEST_DATA is not set")
    file = upload(client, f"{name}.jsonl", content)
    job = finished(client, client.fine_tuning.jobs.create(model=TEXT, training_file=file.id, suffix=name, seed=7))
    assert job.status == "succeeded", job
    model, right = job.fine_tuned_model, 0
    for start in range(0, len(test), 256):
        part = test[start : start + 256]
        answer = service.post("/v1/classify", {"model": model, "input": [text for text, _ in part]}).json()
        right += sum(datum["label"] == label for datum, (_, label) in zip(answer["data"], part, strict=True))
    assert right / len(test) >= least, right / len(test)


def test_a_job_outlives_progress_that_cannot_be_written(start):
    """The database refuses it until the job has told three things of itself."""
    running = start()
    with sqlite3.connect(running.data / "store.db", timeout=30) as database:
        database.execute(
            "CREATE TRIGGER refused BEFORE UPDATE OF progress ON jobs WHEN (SELECT COUNT(*) FROM events WHERE job = NEW.id) < 3 "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    database.close()
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)
    rows = "\n".join(json.dumps({"text": f"sentence {number} about {label}", "label": label}) for number in range(40) for label in ("rain", "sun"))
    file = upload(client, "weather.jsonl", rows.encode())
    job = finished(client, client.fine_tuning.jobs.create(model=TEXT, training_file=file.id, suffix="weather"))
    assert job.status == "succeeded", job
    assert "how far a job is could not be written" in running.log()
    messages = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=100).data]
    assert not [message for message in messages if "tried again" in message], messages


def test_a_write_that_gets_no_turn_is_answered_as_busy_and_reading_goes_on(start):
    running = start()
    form = {"files": {"file": ("weather.jsonl", b'{"text": "it rains", "label": "rain"}')}, "data": {"purpose": "fine-tune"}}
    with (running.data / "store.turn").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        refused = running.http.post("/v1/files", **form)
        assert running.http.get("/v1/files").json()["data"] == []
    assert (refused.status_code, refused.json()["error"]["code"], refused.headers["retry-after"]) == (503, "not_ready", "60"), refused.text
    assert running.http.post("/v1/files", **form).status_code == 200


def test_progress_covers_the_whole_job_and_is_never_taken_back(client):
    rows = "\n".join(json.dumps({"text": f"sentence {number} about {label}", "label": label}) for number in range(300) for label in ("rain", "sun"))
    file = upload(client, "weather.jsonl", rows.encode())
    job = client.fine_tuning.jobs.create(model=TEXT, training_file=file.id, suffix="weather-c", seed=7)
    told = []

    def over():
        found = client.fine_tuning.jobs.retrieve(job.id)
        if found.model_extra["progress"] and found.status == "running":
            told.append(found.model_extra["progress"])
        return found if found.status in ENDED else None

    done = wait_until(over, "the job ends")
    assert done.status == "succeeded" and done.model_extra["progress"] == {"step": 1000, "total": 1000, "eta_seconds": 0}
    assert told and all(0 <= progress["step"] < progress["total"] == 1000 for progress in told)
    assert all(before["step"] <= after["step"] for before, after in zip(told, told[1:], strict=False))
    assert all(progress["eta_seconds"] >= 0 for progress in told)
