"""Load in the background that keeps a small queue full."""

import contextlib
import threading

import httpx
from service import PATIENCE_SECONDS, TEXT

# Some two hundred tokens: long enough that a queue of a few of them is hardly ever empty.
LONG_TEXT = "The quick brown fox jumps over the lazy dog and runs away. " * 16


class Load:
    """Connections that post lists without a pause and without heed of refusals, until `stop` is set."""

    def __init__(self, service, items, connections):
        self.stop = threading.Event()
        self.answers = []
        body = {"model": TEXT, "input": [LONG_TEXT] * items}
        self._threads = [threading.Thread(target=self._post, args=(service.url, body)) for _ in range(connections)]

    def _post(self, url, body):
        with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False) as http:
            while not self.stop.is_set():
                self.answers.append(http.post("/v1/embeddings", json=body))

    def statuses(self):
        return {answer.status_code for answer in list(self.answers)}


@contextlib.contextmanager
def loaded(service, items=4, connections=3):
    """Runs a [`Load`] for the time of the block."""
    load = Load(service, items, connections)
    for thread in load._threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop.set()
        for thread in load._threads:
            thread.join()
