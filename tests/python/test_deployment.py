"""What is deployed agrees with what is built: image, compose file, systemd unit, scrapes, alerts, dashboard, operator's guide.

No container engine is needed.
"""

import contextlib
import fnmatch
import functools
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import tomllib

import pytest
from project import DASHBOARD, GUIDE, ROOT, alerts, families, metrics_in, options, panels, parsed, text
from service import PATIENCE_SECONDS, environment


@functools.cache
def stages():
    """The Dockerfile as one list of `(instruction, arguments)` a stage."""
    lines = [line for line in text("Dockerfile").splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = []
    for line in joined.splitlines():
        instruction, arguments = line.split(maxsplit=1)
        if instruction == "FROM":
            found.append([])
        found[-1].append((instruction, arguments.strip()))
    return found


def arguments(stage, instruction):
    """What an instruction is given, each time it stands in a stage."""
    return [given for name, given in stage if name == instruction]


def copied(stage):
    """`(sources, target)` of each copy from the build context."""
    copies = [given.split() for given in arguments(stage, "COPY") if not given.startswith("--from")]
    return [(words[:-1], words[-1]) for words in copies]


def sources():
    """Every path of the project that enters the build."""
    return [source for stage in stages() for paths, _ in copied(stage) for source in paths]


def image_command():
    """The arguments the image starts with."""
    return json.loads(arguments(stages()[-1], "CMD")[0])


def port():
    """Where the server listens in its container."""
    settings = dict(pair.split("=", 1) for given in arguments(stages()[-1], "ENV") for pair in given.split())
    return int(settings["HEADSTART_LISTEN"].rsplit(":", 1)[1])


def health_check():
    """The command that says whether the container is healthy."""
    return json.loads(arguments(stages()[-1], "HEALTHCHECK")[0].split("CMD", 1)[1])


# The set-up


def test_a_second_set_up_asks_nobody(tmp_path):
    nobody = environment(PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_CONFIG_FILE=os.devnull, PIP_RETRIES="0", PIP_NO_INPUT="1")
    nobody = {name: value for name, value in nobody.items() if name not in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")}

    def set_up(root):
        command = [sys.executable, root / "tools/setup/onnxruntime.py"]
        return subprocess.run(command, env=nobody, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)

    done = set_up(ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # Where nothing is there yet it would have asked, and nobody answers.
    shutil.copytree(ROOT / "tools/setup", tmp_path / "tools/setup")
    done = set_up(tmp_path)
    assert done.returncode != 0 and "fetching ONNX Runtime" in done.stdout and "No matching distribution" in done.stderr


# The image


def test_what_the_image_copies_exists_and_is_not_ignored():
    rules = [line for line in text(".dockerignore").splitlines() if line and not line.startswith("#")]
    for source in sources():
        assert (ROOT / source).exists(), source
        kept = [rule[1:] for rule in rules if rule.startswith("!")]
        assert any(source == rule or source.startswith(f"{rule}/") for rule in kept), f"{source} is ignored"
    assert rules[0] == "*", "what the image does not need must not reach its build"
    for secret in ("data/key", ".git/config", ".env", "target/release/headstart", "vendor/x"):
        assert not any(fnmatch.fnmatch(secret, f"{rule[1:]}*") for rule in rules if rule.startswith("!")), secret


def test_every_member_of_the_workspace_reaches_the_build():
    members = tomllib.loads(text("Cargo.toml"))["workspace"]["members"]
    for member in (folder for pattern in members if pattern != "." for folder in ROOT.glob(pattern) if folder.is_dir()):
        name = member.relative_to(ROOT).as_posix()
        assert any(name == source or name.startswith(f"{source}/") for source in sources()), name


def test_the_build_takes_the_same_steps_as_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    steps = " && ".join(arguments(stages()[0], "RUN"))
    made = re.findall(r"\bmake (\w+)", steps.replace("recommends make", ""))
    assert set(made) <= targets
    assert made == ["setup", "build"]
    assert not re.search(r"\b(cargo build|pip3? (install|download)|curl|wget)\b", steps), "a step the Makefile does not have"
    assert "cargo" not in " ".join(arguments(stages()[-1], "RUN"))


def test_the_image_takes_what_the_build_makes():
    server = re.search(r"^SERVER\s*=\s*(\S+)", text("Makefile"), re.MULTILINE)[1]
    kept = next(step for step in arguments(stages()[0], "RUN") if "install -D" in step)
    assert server in kept
    library = next(word for word in kept.split() if word.startswith("vendor/"))
    lock = json.loads(text("tools/setup/onnxruntime.json"))
    for target, pinned in lock["targets"].items():
        if target.startswith("linux"):
            path = f"vendor/onnxruntime/{lock['version']}/{target}/{pinned['name']}"
            assert fnmatch.fnmatch(path, library), path
    folder = re.search(r"--target-directory=(\S+)", kept)[1]
    assert any(given.split()[:2] == ["--from=build", folder] for given in arguments(stages()[-1], "COPY"))


def test_the_image_has_the_licences_of_what_it_passes_on():
    kept = next(step for step in arguments(stages()[0], "RUN") if "/licences" in step)
    setup = text("tools/setup/onnxruntime.py")
    for licence in re.search(r"^LICENCES = \((.*)\)$", setup, re.MULTILINE)[1].split(", "):
        assert f"vendor/onnxruntime/*/*/{licence.strip(chr(34))}" in kept, licence
    assert "--from=build /licences /usr/local/share/doc/onnxruntime" in arguments(stages()[-1], "COPY")
    assert any("LICENSE" in paths for paths, _ in copied(stages()[-1]))


def test_the_image_compiles_with_a_compiler_the_workspace_takes():
    image = re.search(r"rust:(\d+)\.(\d+)", arguments(stages()[0], "FROM")[0])
    needed = tomllib.loads(text("Cargo.toml"))["workspace"]["package"]["rust-version"].split(".")
    assert tuple(map(int, image.groups())) >= tuple(map(int, needed[:2]))


def test_the_image_runs_as_a_user_without_rights():
    user = arguments(stages()[-1], "USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "Kubernetes can only check a number"
    owner = user.split(":")[0]
    assert f"--owner={owner}" in " ".join(arguments(stages()[-1], "RUN")), "the data folder is not the user's"


def test_the_image_sends_nothing_home():
    assert "ORT_DISABLE_TELEMETRY=1" in arguments(stages()[-1], "ENV")


def test_defaults_of_the_options_lead_to_the_folders_of_the_image():
    home = arguments(stages()[-1], "WORKDIR")[-1]
    targets = [target for _, target in copied(stages()[-1])]
    assert f"{home}/{options()['HEADSTART_MODELS']}" in targets
    assert f"{home}/{options()['HEADSTART_DATA']}" in " ".join(arguments(stages()[-1], "RUN"))


def test_the_image_starts_the_server_where_other_machines_reach_it():
    assert json.loads(arguments(stages()[-1], "ENTRYPOINT")[0]) == ["headstart"]
    assert image_command() == ["serve"]
    assert f"HEADSTART_LISTEN=0.0.0.0:{port()}" in arguments(stages()[-1], "ENV")
    assert arguments(stages()[-1], "EXPOSE") == [str(port())]


@contextlib.contextmanager
def probed(status):
    """The port of a server that answers `/readyz` with `status`, or of nothing for None."""

    class Probe(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Probe) as server:
        if status is not None:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            yield server.server_port
            server.shutdown()
            return
        address = server.server_port
    yield address


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_health_check_tells_a_ready_server_from_another(status, healthy):
    assert f"/127.0.0.1/{port()} " in health_check()[-1], "it asks another port than the server's"
    with probed(status) as address:
        command = [word.replace(f"/127.0.0.1/{port()} ", f"/127.0.0.1/{address} ") for word in health_check()]
        result = subprocess.run(command, capture_output=True, timeout=10)
    assert (result.returncode == 0) == healthy, result.stderr


# The compose file


def services():
    """The services of the compose file."""
    return parsed("docker-compose.yml")["services"]


def published(service):
    """`(host address, host port, container port)` of a service."""
    return [tuple(entry.rsplit(":", 2)) for entry in services()[service].get("ports", [])]


def test_every_published_port_is_on_the_loopback_alone():
    for name in services():
        assert published(name), name
        assert all(address == "127.0.0.1" for address, _, _ in published(name)), name
    assert published("server")[0][2] == str(port())


def test_every_image_is_built_here_or_pinned():
    for name, service in services().items():
        if "build" not in service:
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name
    for stage in stages():
        assert re.search(r":\S*(\d|bookworm)", arguments(stage, "FROM")[0])


def test_every_service_has_a_health_check():
    assert arguments(stages()[-1], "HEALTHCHECK")
    for name, service in services().items():
        if "build" not in service:
            address = f"http://127.0.0.1:{published(name)[0][2]}/"
            assert any(word.startswith(address) for word in service["healthcheck"]["test"]), name


def test_mounted_files_exist_and_volumes_are_declared():
    declared = parsed("docker-compose.yml")["volumes"]
    for name, service in services().items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in declared, f"{name}: {mount}"
    home = arguments(stages()[-1], "WORKDIR")[-1]
    assert services()["server"]["volumes"] == [f"server-data:{home}/{options()['HEADSTART_DATA']}"]


def test_the_compose_file_sets_options_that_exist():
    for variable in re.findall(r"\bHEADSTART_\w+", text("docker-compose.yml")):
        assert variable in options(), variable


def longest_stop():
    """Seconds a stop takes at most: the notice, the drain of requests, as long again for jobs and webhooks, one for threads."""
    return int(options()["HEADSTART_DRAIN_NOTICE_MS"]) / 1000 + 2 * int(options()["HEADSTART_DRAIN_SECONDS"]) + 1


def test_the_server_is_given_the_time_and_files_its_options_promise():
    server = services()["server"]
    assert int(server["stop_grace_period"].removesuffix("s")) > longest_stop()
    assert server["ulimits"]["nofile"] > int(options()["HEADSTART_MAX_CONNECTIONS"])


# The unit of systemd

UNIT = "deploy/systemd/headstart.service"


def settings():
    """Every setting of the unit, in order, as `(name, value)`."""
    lines = [line for line in text(UNIT).splitlines() if line and line[0] not in "#["]
    return [tuple(line.split("=", 1)) for line in lines]


def test_the_unit_gives_the_service_its_time_its_files_and_one_folder_to_write():
    given = dict(settings())
    assert int(given["TimeoutStopSec"].removesuffix("s")) > longest_stop()
    assert int(given["LimitNOFILE"]) > int(options()["HEADSTART_MAX_CONNECTIONS"])
    assert f"HEADSTART_DATA=%S/{given['StateDirectory']}" in given["Environment"].split()
    assert given["ProtectSystem"] == "strict" and "ReadWritePaths" not in given


def test_the_unit_and_its_environment_set_options_that_exist():
    for variable in re.findall(r"\b(HEADSTART_[A-Z_]+)=", text(UNIT) + text("deploy/systemd/headstart.env")):
        assert variable in options(), variable


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit_and_finds_it_well_confined(tmp_path):
    # The program is looked for, and lies elsewhere on the machine that the unit is for.
    unit = tmp_path / "headstart.service"
    unit.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={shutil.which('true')}", text(UNIT)))
    for command in (["verify", unit], ["security", "--offline=true", "--threshold=15", "--no-pager", unit]):
        result = subprocess.run(["systemd-analyze", *map(str, command)], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        # An unknown setting is only warned of.
        assert "headstart.service" not in result.stderr, result.stderr


# Prometheus and Grafana


def test_prometheus_scrapes_the_server_of_the_compose_file():
    config = parsed("deploy/prometheus/prometheus.yml")
    [job] = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"server:{port()}"]}]
    assert job.get("metrics_path", "/metrics") in text("src/http/router.rs")
    assert all((ROOT / "deploy/prometheus" / name).exists() for name in config["rule_files"])
    assert any(f'up{{job="{job["job_name"]}"}}' in rule["expr"] for rule in alerts())


def test_grafana_finds_its_data_source_and_dashboard():
    [source] = parsed("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert source["url"] == f"http://prometheus:{published('prometheus')[0][2]}"
    [provider] = parsed("deploy/grafana/provisioning/dashboards/headstart.yml")["providers"]
    grafana = services()["grafana"]
    mounts = dict(mount.split(":")[:2][::-1] for mount in grafana["volumes"])
    assert mounts[provider["options"]["path"]] == "./deploy/grafana/dashboards"
    assert mounts["/etc/grafana/provisioning"] == "./deploy/grafana/provisioning"
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/{pathlib.Path(DASHBOARD).name}"


def test_every_metric_that_is_shown_or_alerts_exists():
    known = {series for names in families().values() for series in names}
    assert len(families()) > 25, "the metrics could not be read from their source"
    shown = {panel["title"]: target["expr"] for panel in panels() for target in panel["targets"]}
    variables = {entry["name"]: entry.get("definition", "") for entry in json.loads(text(DASHBOARD))["templating"]["list"]}
    for place, expression in {**shown, **variables, **{rule["alert"]: rule["expr"] for rule in alerts()}}.items():
        assert metrics_in(expression) <= known, f"{place}: {sorted(metrics_in(expression) - known)}"


def test_every_metric_is_shown():
    shown = set().union(*(metrics_in(target["expr"]) for panel in panels() for target in panel["targets"]))
    shown |= metrics_in(json.dumps(json.loads(text(DASHBOARD))["templating"]))
    for name, series in families().items():
        assert shown & set(series), f"no panel shows {name}"


def test_a_running_server_has_every_label_that_queries_name(service):
    # There once a version scores along, as one does in the proof of the dashboard.
    shadow = "headstart_shadow_items_total"
    labels, values = {shadow: {"instance", "classifier", "outcome"}}, {(shadow, "outcome", "differed")}
    for line in service.http.get("/metrics").text.splitlines():
        if series := re.match(r"(headstart_\w+)(?:\{(.*)\})? ", line):
            pairs = re.findall(r'(\w+)="([^"]*)"', series[2] or "")
            labels.setdefault(series[1], set()).update(["instance", *(name for name, _ in pairs)])
            values.update((series[1], name, value) for name, value in pairs)
    queries = [target["expr"] for panel in panels() for target in panel["targets"]] + [rule["expr"] for rule in alerts()]
    for query in queries:
        for metric, matchers in re.findall(r"(headstart_\w+)(?:\{(.*?)\}(?=[\[\s)]|$))?", query):
            assert metric in labels, f"{metric} is not there before the first request"
            for name, operator, value in re.findall(r'(\w+)(=~?)"([^"]*)"', matchers):
                assert name in labels[metric], f"{metric} has no label {name}"
                assert operator == "=~" or (metric, name, value) in values, f"{metric} has no {name}={value}"
        grouped = {name for names in re.findall(r"by \((.*?)\)", query) for name in re.split(r",\s*", names)}
        known = set().union(*(labels[metric] for metric in metrics_in(query) if metric in labels))
        assert grouped <= known, f"{query}: no label {sorted(grouped - known)}"


def test_every_panel_says_what_it_shows_and_in_which_unit():
    seen = set()
    for panel in panels():
        assert panel["title"] and panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"] and all(target["expr"] for target in panel["targets"]), panel["title"]
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & seen, f"{panel['title']} lies on another"
        seen |= cells
    ids = [panel["id"] for panel in json.loads(text(DASHBOARD))["panels"]]
    assert len(ids) == len(set(ids))


def test_every_alert_is_explained_and_has_a_case():
    cases = text("deploy/prometheus/alerts_test.yml")
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"]
        assert f"`{rule['alert']}`" in text(GUIDE), rule["alert"]
        assert f'alertname="{rule["alert"]}"' in cases, rule["alert"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("command", [["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]])
def test_promtool_takes_the_configuration_and_the_alerts_pass_their_cases(command):
    result = subprocess.run(["promtool", *command], cwd=ROOT / "deploy/prometheus", capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


# The operator's guide


def rows():
    """The rows of the guide's tables as lists of cells."""
    lines = (line for line in text(GUIDE).splitlines() if line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_guide_states_each_option_with_its_default():
    for variable, default in options().items():
        [row] = [row for row in rows() if row[1] == f"`{variable}`"] or [None]
        assert row, f"{variable} has no row in {GUIDE}"
        assert row[0] == f"`{variable.removeprefix('HEADSTART_').lower().replace('_', '-')}`"
        # Defaults that are computed are described in words.
        assert row[2] == ("none" if default is None else default if " " in default else f"`{default}`"), variable


def test_the_guide_names_every_metric_and_none_that_is_gone():
    listed = {row[0] for row in rows() if row[0].startswith("`headstart_")}
    assert listed == {f"`{name}`" for name in families()}
