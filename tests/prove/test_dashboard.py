"""Every query of dashboard, alerts and autoscaler, asked of a real Prometheus that scrapes servers. Needs prometheus."""

import json
import math
import shutil
import socket
import subprocess
import threading

import httpx
import pytest
import yaml
from project import DASHBOARD, ROOT, alerts, panels, parsed, text
from service import EXAMPLES, FAST_TEXT, IMAGE, TEXT, wait_until

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")

# Long enough for four scrapes, which a rate wants.
RATE_INTERVAL = "12s"
VARIABLES = {"$__rate_interval": RATE_INTERVAL, "$instance": ".*", "$model": ".*", "$route": "/(v1|hf)/.*"}
LABELS = {"sunny day": "good", "broken cup": "bad"}
ROWS = [{"text": f"{words} {number}", "label": label} for number in range(12) for words, label in LABELS.items()]


class Prometheus:
    """A Prometheus that scrapes servers every second and evaluates the alerts. `servers` by the name of their pod."""

    def __init__(self, folder, servers):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        targets = [{"targets": [f"127.0.0.1:{server.port}"], "labels": {"namespace": "headstart", "pod": pod}}
                   for pod, server in servers.items()]
        config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                  "rule_files": [str(ROOT / "deploy/prometheus/alerts.yml")],
                  "scrape_configs": [{"job_name": "headstart", "static_configs": targets}]}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address={self.url.removeprefix('http://')}"], stdout=self._log, stderr=subprocess.STDOUT)
        self.http = httpx.Client(base_url=f"{self.url}/api/v1", trust_env=False, timeout=30)
        wait_until(self._answers, "Prometheus is ready")

    def _answers(self):
        assert self._process.poll() is None, "Prometheus ended"
        try:
            return self.http.get(f"{self.url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, query):
        """The series that a query answers now, as `(labels, value)`; an error where it is none."""
        answer = self.http.post("/query", data={"query": query}).json()
        assert answer["status"] == "success", f"{query}: {answer.get('error')}"
        return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]

    def stop(self):
        self._process.terminate()
        self._process.wait(30)
        self.http.close()
        self._log.close()


def fit(server, file, method):
    """Trains one more version of the classifier `mood`."""
    body = {"model": FAST_TEXT, "training_file": file, "suffix": "mood", "seed": 1, "promote": "always",
            "method": {"type": method, method: {}}}
    job = server.post("/v1/fine_tuning/jobs", body)
    assert job.status_code == 200, job.text
    path = f"/v1/fine_tuning/jobs/{job.json()['id']}"
    ended = wait_until(lambda: (found := server.http.get(path).json())["finished_at"] and found, "the job ends")
    assert ended["status"] == "succeeded", ended


def leave(server, number):
    """Asks for much, and goes before the answer."""
    body = json.dumps({"model": TEXT, "input": [f"text {number} of {other}" for other in range(64)]}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + body)


def work(server, stop):
    """One request of each kind after another, until `stop` is set."""
    rows = "\n".join(map(json.dumps, ROWS)).encode()
    file = server.http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", rows)}).json()["id"]
    fit(server, file, "prototype")
    fit(server, file, "linear_probe")
    # The first version scores along with those that answer.
    assert server.http.put("/v1/classifiers/mood/shadow", json={"version": 1}).status_code == 200
    picture = (EXAMPLES / "cat.jpg").read_bytes()
    count = 0
    while not stop.is_set():
        count += 1
        if count % 20 == 0:
            fit(server, file, "linear_probe")
        server.embed(TEXT, [f"text {count}", "the same text"])
        server.embed(FAST_TEXT, [f"text {count}"])
        for answer in (
            server.http.post(f"/hf/{IMAGE}", content=picture, headers={"content-type": "image/jpeg"}),
            server.post("/v1/zero-shot", {"model": TEXT, "input": [f"text {count}"], "labels": ["news", "sport"]}),
            server.post("/v1/classify", {"model": "mood", "input": [f"text {count}"]}),
        ):
            assert answer.status_code == 200, answer.text
        server.post("/v1/embeddings", {"model": "no-such-model", "input": "a"})
        leave(server, count)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """A Prometheus that has scraped a busy and an idle server for some intervals, and still does."""
    from service import Service

    servers = {pod: Service(tmp_path_factory.mktemp(pod)) for pod in ("busy", "idle")}
    running = Prometheus(tmp_path_factory.mktemp("prometheus"), servers)
    stop = threading.Event()
    failed = []

    def worker():
        try:
            work(servers["busy"], stop)
        except BaseException as error:  # shown by the first test, not lost with the thread
            failed.append(error)

    thread = threading.Thread(target=worker)
    thread.start()
    try:
        scraped = f'min(count_over_time(headstart_shadow_items_total{{pod="busy"}}[{RATE_INTERVAL}])) > 8'
        wait_until(lambda: failed or running.ask(scraped), "some scrapes with every kind of request")
        assert not failed, failed
        yield running
    finally:
        stop.set()
        thread.join()
        running.stop()
        for server in servers.values():
            server.stop()
    assert not failed, failed


def filled_in(query):
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


def test_every_panel_shows_something(prometheus):
    empty = []
    for panel in panels():
        for target in panel["targets"]:
            series = prometheus.ask(filled_in(target["expr"]))
            if not any(math.isfinite(value) for _, value in series):
                empty.append(f"{panel['title']}: {target['expr']}")
            legend = target.get("legendFormat", "")
            for label in (part.split("}}")[0].strip() for part in legend.split("{{")[1:]):
                assert all(label in labels for labels, _ in series), f"{panel['title']}: no label {label}"
    assert not empty, "\n".join(empty)


def test_every_variable_of_the_dashboard_has_values(prometheus):
    for variable in json.loads(text(DASHBOARD))["templating"]["list"]:
        if variable["type"] == "query":
            series, label = variable["definition"].removeprefix("label_values(").removesuffix(")").rsplit(",", 1)
            found = prometheus.http.get("/series", params={"match[]": filled_in(series)}).json()["data"]
            assert {entry[label.strip()] for entry in found}, variable["name"]


def test_prometheus_evaluates_every_alert_and_none_fires_on_servers_that_work(prometheus):
    def evaluated():
        groups = prometheus.http.get("/rules").json()["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return all(rule["lastEvaluation"] > "0002" for rule in rules) and rules

    rules = wait_until(evaluated, "every alert is evaluated once")
    assert {rule["name"] for rule in rules} == {alert["alert"] for alert in alerts()}
    assert {rule["name"]: rule.get("lastError", "") for rule in rules if rule["health"] != "ok"} == {}
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


def test_the_autoscalers_metrics_have_a_value_for_a_busy_and_for_an_idle_pod(prometheus):
    # As the adapter fills its templates in.
    for rule in parsed("deploy/prometheus/adapter.yml")["rules"]["custom"]:
        found = prometheus.http.get("/series", params={"match[]": rule["seriesQuery"]}).json()["data"]
        [series] = {entry["__name__"] for entry in found}
        query = rule["metricsQuery"].replace("<<.Series>>", series).replace("<<.GroupBy>>", "pod")
        query = query.replace("<<.LabelMatchers>>", 'namespace="headstart",pod=~"busy|idle"')
        values = {labels["pod"]: value for labels, value in prometheus.ask(query)}
        assert set(values) == {"busy", "idle"} and values["idle"] == 0 <= values["busy"] < math.inf, rule["name"]
        assert values["busy"] > 0, rule["name"]
