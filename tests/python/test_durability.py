"""Jobs outlive the process: killed at random moments, they end as if nothing had happened."""

import contextlib
import json
import os
import random
import sqlite3
import time

import openai
import pytest
from service import PATIENCE_SECONDS, TEXT, Service, wait_until

# Of one job: below the number of lost workers after which a job is given up.
KILLS_A_JOB = 3
KILLS = int(os.environ.get("HEADSTART_KILLS", "6"))

ENDED = {"succeeded", "failed", "cancelled"}
QUESTIONS = ["will it pour today", "a bright and warm afternoon", "clouds and a little drizzle"]


def weather():
    chance = random.Random(3)
    words = {"rain": "wet grey drizzle cloud pour umbrella storm".split(), "sun": "bright warm blue sky shine clear hot".split()}
    for number in range(300):
        label = ("rain", "sun")[number % 2]
        yield {"text": " ".join(chance.choices(words[label], k=6)) + f" {number}", "label": label}


def roles():
    """Of a sentence's two animals the first counts: what features have of that leaves `auto` reason to train the backbone."""
    animals = "cat dog horse cow sheep goat duck goose".split()
    verbs = "followed watched called found passed met saw".split()
    for number, first in enumerate(animals):
        others = [animals[(number + 1 + at) % len(animals)] for at in range(len(animals) - 1)]
        for at in range(15):
            yield {"text": f"the {first} {verbs[(at + at // 7) % len(verbs)]} the {others[at % len(others)]}", "label": first}


class Life:
    """A service on one data folder, through several processes."""

    def __init__(self, folder):
        self.folder = folder
        self.begin()

    def begin(self):
        self.service = Service(self.folder, "--lease-seconds", 1)
        self.client = openai.OpenAI(base_url=f"{self.service.url}/v1", api_key="none", max_retries=0)

    def kill(self):
        self.client.close()
        self.service.http.close()
        self.service._process.kill()
        self.service._process.wait(PATIENCE_SECONDS)

    def job(self, id):
        return self.client.fine_tuning.jobs.retrieve(id)

    def finished(self, id):
        return wait_until(lambda: (job := self.job(id)).status in ENDED and job, f"{id} ends")

    def chosen(self, classifier):
        """Which method the classifier's first version was fitted by."""
        return self.service.http.get(f"/v1/classifiers/{classifier}/versions/1/report").json()["run"]["method"]

    def attempts(self):
        """How often the job was begun that was begun most often."""
        with contextlib.closing(sqlite3.connect(self.service.data / "store.db", timeout=PATIENCE_SECONDS)) as database:
            return database.execute("SELECT max(attempt) FROM jobs").fetchone()[0]

    def answers(self, model):
        reply = wait_until(
            lambda: (reply := self.service.post("/v1/classify", {"model": model, "input": QUESTIONS})).status_code == 200 and reply,
            f"{model} answers",
        )
        return [datum["scores"] for datum in reply.json()["data"]]


# Trains the backbone itself, and keeps where it stands every other step.
BRIEFLY = {"epochs": 1, "batch_size": 24, "checkpoint_steps": 2, "learning_rate": 1e-3}
# What is kept of all weights is large.
ALL = BRIEFLY | {"checkpoint_steps": 5}
# Of pairs of few rows.
PAIRS = {"epochs": 1, "batch_size": 24, "checkpoint_steps": 5, "learning_rate": 1e-4}


FEWER = max(KILLS // 2, KILLS_A_JOB)
CASES = {
    "mlp": (weather, {}, KILLS),
    "lora": (weather, BRIEFLY, FEWER),
    "partial": (weather, BRIEFLY, FEWER),
    "setfit": (weather, PAIRS, FEWER),
    "full": (weather, ALL, KILLS_A_JOB),
}
# Trains twice as long as the others together: where there is time.
if "HEADSTART_KILLS" in os.environ:
    CASES["auto"] = (roles, {"tune_seconds": 3600}, max(KILLS // 8, KILLS_A_JOB))


@pytest.mark.parametrize("name", CASES)
def test_jobs_killed_at_random_moments_end_with_the_numbers_of_an_undisturbed_one(tmp_path, name):
    rows, given, kills = CASES[name]
    chance, life = random.Random(11), Life(tmp_path)
    content = "\n".join(json.dumps(row) for row in rows()).encode()
    file = life.client.files.create(file=("rows.jsonl", content), purpose="fine-tune")
    method = {"type": name, name: {"hyperparameters": given}}

    def ask():
        body = {"method": method}
        return life.client.fine_tuning.jobs.create(model=TEXT, training_file=file.id, suffix="killed", seed=9, extra_body=body).id

    undisturbed = life.finished(ask())
    assert undisturbed.status == "succeeded", undisturbed
    assert life.chosen("killed") == {"auto": "setfit"}.get(name, name)
    expected = life.answers(undisturbed.fine_tuned_model)
    took = max(undisturbed.finished_at - undisturbed.created_at, 1)
    killed = 0
    # Whatever the machine has to do beside it, at least one kill meets a job that runs.
    while killed < kills or (life.attempts() == 1 and killed < 10 * KILLS_A_JOB):
        job = ask()
        for _ in range(KILLS_A_JOB):
            time.sleep(chance.uniform(0, 1.2 * took))
            life.kill()
            killed += 1
            life.begin()
        done = life.finished(job)
        assert done.status == "succeeded", done
        # Bit for bit: the report has its times, the classifier has none.
        assert life.answers(done.fine_tuned_model) == expected
    assert life.attempts() > 1, "no kill met a job that ran"
    versions = life.service.http.get("/v1/classifiers/killed").json()["versions"]
    assert len(versions) == 1 + killed // KILLS_A_JOB, "each job made one version, and none a half one"
    assert life.answers("killed") == expected
    life.service.stop()
