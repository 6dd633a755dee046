"""Uploads, jobs, classifications and embeddings all at once: whoever is refused is told when to return, what was accepted is there."""

import collections
import json
import os
import random
import threading
import time

import httpx
from service import TEXT, wait_until

SECONDS = float(os.environ.get("HEADSTART_OVERLOAD_SECONDS", "6"))
CLIENTS_OF_A_KIND = 6
KEYS = {"left": "secret-of-left", "right": "secret-of-right"}
# Below what the clients ask for, so that every limit is met.
LIMITS = ("--key-queued-jobs", 3, "--key-file-bytes", 20_000, "--queue-items", 64, "--max-items", 32, "--workers", 1)
WORDS = "the quick brown fox jumps over a lazy dog and then it runs away from here".split()
REFUSED = {429, 413}
ROOM_MEGABYTES = 250


def rows(chance):
    lines = (json.dumps({"text": " ".join(chance.choices(WORDS, k=6)) + f" {n} {chance.random()}", "label": f"l{n % 2}"}) for n in range(40))
    return "\n".join(lines).encode()


class Crowd:
    """Clients that ask without a pause; what they got, and what they were promised."""

    def __init__(self, service, classifier, file):
        self.service, self.classifier, self.file = service, classifier, file
        self.outcomes, self.refusals = collections.Counter(), []
        self.files, self.jobs = {name: [] for name in KEYS}, {name: [] for name in KEYS}

    def asked(self, kind, answer):
        self.outcomes[kind, answer.status_code] += 1
        if answer.status_code in REFUSED:
            self.refusals.append((kind, answer))
        return answer.status_code == 200

    def ask(self, http, kind, key, chance):
        if kind == "upload":
            answer = http.post("/v1/files", files={"file": ("rows.jsonl", rows(chance))}, data={"purpose": "fine-tune"})
            if self.asked(kind, answer):
                self.files[key].append(answer.json()["id"])
        elif kind == "job":
            body = {"model": TEXT, "training_file": self.file[key], "suffix": "many", "method": {"type": "prototype"}}
            answer = http.post("/v1/fine_tuning/jobs", json=body)
            if self.asked(kind, answer):
                self.jobs[key].append(answer.json()["id"])
        elif kind == "classify":
            body = {"model": self.classifier[key], "input": [" ".join(chance.choices(WORDS, k=8)) for _ in range(4)]}
            self.asked(kind, http.post("/v1/classify", json=body))
        else:
            body = {"model": TEXT, "input": [" ".join(chance.choices(WORDS, k=60)) for _ in range(32)]}
            self.asked(kind, http.post("/v1/embeddings", json=body))

    def run(self):
        until = time.monotonic() + SECONDS

        def client(number, kind):
            name = sorted(KEYS)[number % len(KEYS)]
            chance = random.Random(f"{kind} {number}")
            with connection(self.service, name) as http:
                while time.monotonic() < until:
                    try:
                        self.ask(http, kind, name, chance)
                    except Exception as error:
                        self.outcomes[kind, repr(error)] += 1

        kinds = ("upload", "job", "classify", "embed")
        threads = [threading.Thread(target=client, args=(number, kind)) for number in range(CLIENTS_OF_A_KIND) for kind in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def connection(service, name):
    headers = {"authorization": f"Bearer {KEYS[name]}"}
    return httpx.Client(base_url=service.url, timeout=60, trust_env=False, headers=headers)


def state(http, job):
    return http.get(f"/v1/fine_tuning/jobs/{job}").json()


def first_classifier(service, name):
    """A file of the key's and a classifier that was trained on it."""
    with connection(service, name) as http:
        file = http.post("/v1/files", files={"file": ("rows.jsonl", rows(random.Random(name)))}, data={"purpose": "fine-tune"}).json()["id"]
        body = {"model": TEXT, "training_file": file, "suffix": "first", "method": {"type": "prototype"}}
        job = http.post("/v1/fine_tuning/jobs", json=body).json()["id"]
        wait_until(lambda: state(http, job)["status"] == "succeeded", "a first classifier")
        wait_until(lambda: http.post("/v1/classify", json={"model": "first", "input": "fox"}).status_code == 200, "it answers")
    return file


def listed(http, path):
    """Ids of all pages of a list."""
    ids, after = [], {}
    while True:
        page = http.get(path, params={"limit": 100, **after}).json()
        ids += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            return ids
        after = {"after": ids[-1]}


def test_a_crowd_meets_limits_and_loses_nothing(start):
    keys = ",".join(f"{name}:infer+train:{key}" for name, key in KEYS.items())
    service = start(*LIMITS, HEADSTART_API_KEYS=keys)
    files = {name: first_classifier(service, name) for name in KEYS}
    before = service.resident_megabytes()
    crowd = Crowd(service, dict.fromkeys(KEYS, "first"), files)
    crowd.run()
    grown = service.metric("process_peak_resident_memory_bytes") / 1e6 - before

    outcomes = crowd.outcomes
    assert {status for _, status in outcomes} <= {200, *REFUSED}, outcomes
    assert all(outcomes[kind, 200] for kind in ("upload", "job", "classify", "embed")), outcomes
    assert outcomes["job", 429] and outcomes["upload", 413] and outcomes["embed", 429], outcomes
    for kind, refused in crowd.refusals:
        error = refused.json()["error"]
        if refused.status_code == 429:
            assert 1 <= int(refused.headers["retry-after"]) <= 120
            assert error["type"] == "rate_limit_error"
            assert error["code"] == ("rate_limit_exceeded" if kind == "job" else "overloaded"), error
        else:
            assert kind == "upload" and "quota" in error["message"], error
    assert grown < ROOM_MEGABYTES, f"{grown:.0f} MB more"

    for name in KEYS:
        with connection(service, name) as http:
            assert sorted(listed(http, "/v1/files")) == sorted([files[name], *crowd.files[name]])
            assert set(crowd.jobs[name]) <= set(listed(http, "/v1/fine_tuning/jobs"))
            for job in crowd.jobs[name]:
                done = wait_until(lambda job=job: (found := state(http, job))["status"] not in ("queued", "running") and found, f"{job} ends")
                assert done["status"] == "succeeded", done
            versions = http.get("/v1/classifiers/many").json()["versions"]
            assert len(versions) == len(crowd.jobs[name]), "each accepted job made one version"
    assert service.metric("panics_total") == 0
