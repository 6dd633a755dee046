"""Many clients of every kind for a while: each is answered in time, those that leave are forgotten, nothing piles up."""

import collections
import os
import random
import subprocess
import sys
import threading
import time

import httpx
from pictures import cat
from service import FAST_TEXT, IMAGE, ROOT, TEXT, wait_until

SECONDS = float(os.environ.get("HEADSTART_SOAK_SECONDS", "60"))
CLIENTS = 32
WORDS = "the quick brown fox jumps over a lazy dog and then it runs away from here".split()

# Far above what a request may take here, far below the server's own limit of a minute.
ANSWERED_WITHIN = 30


def text(chance):
    return " ".join(chance.choices(WORDS, k=chance.choice((1, 5, 20, 300))))


def ask(http, chance, picture):
    """One request of a kind by chance; what came back, as a word or a status."""
    kind = chance.random()
    try:
        if kind < 0.1:
            # Too short for the work, so the client hangs up while it waits or runs.
            http.post("/v1/embeddings", json={"model": TEXT, "input": [text(chance)] * 16}, timeout=0.01)
            return "in time after all"
        if kind < 0.2:
            headers = {"x-request-timeout-ms": "5"}
            body = {"model": TEXT, "input": [text(chance)] * 16}
            return http.post("/v1/embeddings", json=body, headers=headers).status_code
        if kind < 0.3:
            query = {"model": IMAGE}
            return http.post("/v1/embeddings", params=query, content=picture, headers={"content-type": "image/jpeg"}).status_code
        body = {"model": chance.choice((TEXT, FAST_TEXT)), "input": [text(chance) for _ in range(chance.choice((1, 1, 1, 8)))]}
        return http.post("/v1/embeddings", json=body).status_code
    except httpx.TimeoutException as late:
        return "left" if kind < 0.1 else f"no answer: {late!r}"


def test_every_request_of_a_crowd_is_answered(service):
    outcomes, slowest, stop = collections.Counter(), [0.0], time.monotonic() + SECONDS

    def client(number):
        chance, picture = random.Random(number), cat()
        with httpx.Client(base_url=service.url, timeout=ANSWERED_WITHIN, trust_env=False) as http:
            while time.monotonic() < stop:
                started = time.monotonic()
                outcomes[ask(http, chance, picture)] += 1
                slowest[0] = max(slowest[0], time.monotonic() - started)
                # Pauses of many lengths let lanes fall asleep and be woken in every order.
                time.sleep(chance.choice((0, 0, 0.001, 0.02, 0.3)))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"\n{dict(outcomes)}, slowest {slowest[0]:.2f} s")
    assert set(outcomes) <= {200, 504, "left", "in time after all"}, outcomes
    assert outcomes[200] > CLIENTS
    wait_until(lambda: service.metric("queue_items") == 0, "nothing waits any more")
    assert service.metric("panics_total") == 0


def test_everything_that_a_crowd_of_every_kind_did_adds_up():
    minutes = str(max(1, round(SECONDS / 60)))
    done = subprocess.run([sys.executable, str(ROOT / "benches/soak/soak.py"), "--minutes", minutes], check=False, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
