"""The project's own files as tests read them: options and metrics of the code, alerts, dashboard."""

import functools
import json
import pathlib
import re

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUIDE = "docs/OPERATIONS.md"
DASHBOARD = "deploy/grafana/dashboards/headstart.json"


@functools.cache
def text(name):
    """A file of the project."""
    return (ROOT / name).read_text(encoding="utf-8")


def parsed(name):
    """A YAML file of the project."""
    return yaml.safe_load(text(name))


@functools.cache
def options():
    """Default, or None where it is computed or absent, of each variable that an option reads."""
    code = text("src/config.rs")
    found = {}
    for doc, variable in re.findall(r'((?:    ///[^\n]*\n)+)    #\[arg\([^]]*?env = "(HEADSTART_\w+)"', code):
        default = re.search(r"\[default: ([^]]+)\]", doc)
        found[variable] = default[1] if default else None
    return found | {"HEADSTART_CONFIG": None}


@functools.cache
def families():
    """Every metric family of the code, with the series a histogram has."""
    declared = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "crates/telemetry/src").glob("*.rs")))
    calls = re.findall(r'(\.counters?|\.gauges?|\.histograms|\boptions)\(\s*"(\w+)"', declared)
    endings = {".histograms": ("_bucket", "_sum", "_count")}
    return {f"headstart_{name}": [f"headstart_{name}{e}" for e in endings.get(call, ("",))] for call, name in calls}


def metrics_in(expression):
    """Names of ours in a query."""
    return set(re.findall(r"\bheadstart_\w+", expression))


def alerts():
    """Every alert rule."""
    return [rule for group in parsed("deploy/prometheus/alerts.yml")["groups"] for rule in group["rules"]]


def panels():
    """Every panel of the dashboard that shows something."""
    return [panel for panel in json.loads(text(DASHBOARD))["panels"] if panel["type"] != "row"]
