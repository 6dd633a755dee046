"""A data folder copied while it serves and works, and brought back elsewhere."""

import json
import random
import shutil
import subprocess

import openai
import pytest
from service import BINARY, MODELS, PATIENCE_SECONDS, ROOT, TEXT, Service, environment, wait_until

ENDED = {"succeeded", "failed", "cancelled"}
QUESTIONS = ["will it pour today", "a bright and warm afternoon", "clouds and a little drizzle"]


def headstart(*words):
    """Runs a command to its end."""
    command = [str(word) for word in (BINARY, *words)]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS)


def weather(count):
    chance = random.Random(3)
    words = {"rain": "wet grey drizzle cloud pour umbrella storm".split(), "sun": "bright warm blue sky shine clear hot".split()}
    for number in range(count):
        label = ("rain", "sun")[number % 2]
        yield json.dumps({"text": " ".join(chance.choices(words[label], k=6)) + f" {number}", "label": label})


def client_of(service):
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)


def upload(client, count):
    content = "\n".join(weather(count)).encode()
    return client.files.create(file=("weather.jsonl", content), purpose="fine-tune"), content


def ended(client, id):
    return wait_until(lambda: (job := client.fine_tuning.jobs.retrieve(id)).status in ENDED and job, f"{id} ends")


def scores(service, model):
    def asked():
        reply = service.post("/v1/classify", {"model": model, "input": QUESTIONS})
        return reply.status_code == 200 and reply.json()["data"]

    return [datum["scores"] for datum in wait_until(asked, f"{model} answers")]


def test_a_backup_of_a_working_server_brings_back_files_classifiers_and_the_job_at_hand(start, tmp_path):
    # The copy holds the lease of the server it was taken from: a short one, so that the other server need not wait long.
    first = start("--lease-seconds", 3)
    with client_of(first) as client:
        small, content = upload(client, 60)
        done = ended(client, client.fine_tuning.jobs.create(model=TEXT, training_file=small.id, suffix="weather", seed=9).id)
        assert done.status == "succeeded", done
        expected = scores(first, done.fine_tuned_model)
        large, _ = upload(client, 4000)
        job = client.fine_tuning.jobs.create(model=TEXT, training_file=large.id, suffix="later", seed=9).id
        wait_until(lambda: client.fine_tuning.jobs.retrieve(job).status == "running", "the job runs")

        backed_up = headstart("backup", tmp_path / "backup", "--data", first.data)
        assert backed_up.returncode == 0, backed_up.stderr
        assert "backed up 2 files, 2 jobs and 1 classifier versions to" in backed_up.stdout
        assert client.fine_tuning.jobs.retrieve(job).status == "running", "the backup was of a job at work"
        client.fine_tuning.jobs.cancel(job)
    first.stop()
    shutil.rmtree(first.data)

    restored = headstart("restore", tmp_path / "backup", "--data", tmp_path / "again" / "data")
    assert restored.returncode == 0, restored.stderr
    assert restored.stdout.startswith("restored 2 files, 2 jobs and 1 classifier versions to")
    second = Service(tmp_path / "again", "--lease-seconds", 1)
    with client_of(second) as client:
        assert client.files.content(small.id).content == content
        assert scores(second, "weather") == expected
        assert ended(client, job).status == "succeeded"
        assert len(scores(second, "later@1")) == len(QUESTIONS)
    wait_until(lambda: second.metric("jobs_ended_total", outcome="succeeded") == 1, "the job is counted once it has ended")
    second.stop()


@pytest.fixture(scope="module")
def backup(tmp_path_factory):
    """A backup of a small store."""
    folder = tmp_path_factory.mktemp("backup")
    file = folder / "weather.jsonl"
    file.write_text("\n".join(weather(40)))
    trained = headstart("train", file, "--models", MODELS, "--data", folder / "data")
    assert trained.returncode == 0, trained.stderr
    made = headstart("backup", folder / "backup", "--data", folder / "data")
    assert made.returncode == 0, made.stderr
    return folder / "backup"


def refused(*words):
    """What a command that must fail says."""
    done = headstart(*words)
    assert done.returncode == 1 and not done.stdout, done
    assert done.stderr.startswith("headstart: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_whatever_is_in_the_way_is_named_and_nothing_is_overwritten(backup, tmp_path):
    assert "there is no store in" in refused("backup", tmp_path / "new", "--data", tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter.txt").write_text("kept")
    assert "is not empty" in refused("restore", backup, "--data", full)
    assert [file.name for file in full.iterdir()] == ["letter.txt"]
    assert headstart("restore", backup, "--data", tmp_path / "data").returncode == 0
    assert "has a store already" in refused("restore", backup, "--data", tmp_path / "data")
    assert "backup `" in refused("restore", tmp_path / "nowhere", "--data", tmp_path / "new")


def test_a_folder_that_a_server_has_is_not_restored_to(backup, start):
    running = start()
    assert "is in use: a server or worker has it open" in refused("restore", backup, "--data", running.data)
    assert "a data folder in use, not a backup" in refused("restore", running.data, "--data", running.data.with_name("new"))


def test_a_damaged_backup_is_refused_before_anything_stands_in_the_data_folder(backup, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(backup, copy)
    blob = next(path for path in copy.glob("blobs/??/*"))
    blob.unlink()
    assert "is corrupt: it is missing" in refused("restore", copy, "--data", tmp_path / "data")
    blob.write_bytes(b"other bytes")
    assert "is corrupt: its bytes have changed" in refused("restore", copy, "--data", tmp_path / "data")
    assert not (tmp_path / "data").exists()
