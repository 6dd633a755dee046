"""The release server as a child process: started, waited for, watched, stopped."""

import os
import pathlib
import re
import signal
import subprocess
import time

import httpx

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "target" / "release" / "headstart"
MODELS = ROOT / "models"
EXAMPLES = ROOT / "examples"

TEXT = "all-minilm-l6-v2"
FAST_TEXT = "all-minilm-l6-v2-int8"
IMAGE = "efficientnet-lite0"

# What a start, a stop or an answer may take on a crowded machine; no test waits for it to pass.
PATIENCE_SECONDS = 60

_ANNOUNCED = re.compile(r"listening on (https?://\S+)")
_SERIES = re.compile(r"^(?P<name>[a-z_]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")


def wait_until(condition, what, seconds=PATIENCE_SECONDS):
    """Polls until `condition()` is true and returns its value; fails with `what` otherwise."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.005)


def environment(**variables):
    """The caller's environment without its own options for the service, which must not decide a test."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADSTART_")}
    return inherited | variables


class Service:
    """A running server. `stop` ends it and checks that it ended well."""

    def __init__(self, folder, *flags, wait=True, verify=True, listen="127.0.0.1:0", models=MODELS, data=None, **variables):
        assert BINARY.exists(), f"{BINARY.relative_to(ROOT)} is missing; `make build` makes it"
        self.folder = folder
        self._out, self._log = folder / "stdout.txt", folder / "stderr.txt"
        self.data = data or folder / "data"
        command = [BINARY, "serve", "--listen", listen, "--models", models, "--data", self.data, *flags]
        with self._out.open("wb") as out, self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                cwd=ROOT,
                env=environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
            )
        self._stopped = False
        self.url = wait_until(self._announced, "the server announces its address")
        self.port = int(self.url.rsplit(":", 1)[1])
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE_SECONDS, trust_env=False, verify=verify)
        if wait:
            wait_until(self.is_ready, "the server is ready")

    def _announced(self):
        found = _ANNOUNCED.search(self._out.read_text())
        assert found or self._process.poll() is None, f"the server ended at its start:\n{self.log()}"
        return found and found[1].replace("0.0.0.0", "127.0.0.1")

    def is_ready(self):
        assert self._process.poll() is None, f"the server ended:\n{self.log()}"
        return self.http.get("/readyz").status_code == 200

    def log(self):
        return self._log.read_text(errors="replace")

    def post(self, path, body, **options):
        """Posts `body` as JSON."""
        return self.http.post(path, json=body, **options)

    def embed(self, model, given, **fields):
        """The embeddings of `given` as lists of floats."""
        response = self.post("/v1/embeddings", {"model": model, "input": given, **fields})
        assert response.status_code == 200, response.text
        return [datum["embedding"] for datum in response.json()["data"]]

    def metric(self, name, **labels):
        """The sum of all series of `headstart_<name>` that carry `labels`."""
        values = []
        for line in self.http.get("/metrics").text.splitlines():
            series = _SERIES.match(line)
            if series and series["name"] == f"headstart_{name}":
                carried = dict(re.findall(r'(\w+)="([^"]*)"', series["labels"] or ""))
                if labels.items() <= carried.items():
                    values.append(float(series["value"]))
        assert values, f"no series headstart_{name} {labels}"
        return sum(values)

    def resident_megabytes(self):
        return self.metric("process_resident_memory_bytes") / 1e6

    def terminate(self):
        """Asks the server to stop, without waiting."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self):
        """Waits for the end after `terminate` and returns the exit status."""
        self._stopped = True
        try:
            return self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the server did not stop:\n{self.log()}") from None
        finally:
            self.http.close()

    def stop(self):
        """Stops the server unless a test has, and checks that nothing panicked and that it left with 0."""
        if not self._stopped:
            try:
                assert self.metric("panics_total") == 0
            finally:
                self.terminate()
                status = self.wait()
            assert status == 0, f"exit status {status}:\n{self.log()}"
        assert "panicked" not in self.log(), self.log()
