"""Writes deploy/kubernetes/ from the Helm chart, so that both say the same: `make manifests`.

Each manifest is a template of the chart, rendered with `VALUES` and without the labels that only Helm's releases have.
With `--check` nothing is written, and files that differ are named.
"""

import pathlib
import re
import subprocess
import sys

from fetch import HELM, ROOT

CHART = ROOT / "deploy/helm/headstart"
TARGET = ROOT / "deploy/kubernetes"
# Everything that can be switched on, but for the dashboard, which is a file to import.
VALUES = ["features.autoscaling.enabled=true", "monitoring.podMonitor=true", "monitoring.prometheusRule=true"]
# What needs the Prometheus operator or prometheus-adapter.
WITH_PROMETHEUS = ("hpa", "podmonitor", "prometheusrule")
PLAIN = ("statefulset", "deployment", "service", "pdb", "networkpolicy")
HEADER = "# Made from the Helm chart by `make manifests`.\n"
OF_HELM = re.compile(r"^ *(app\.kubernetes\.io/managed-by|helm\.sh/chart): .*\n", re.MULTILINE)
MARKS = re.compile(r"^(---|# Source: .*)\n", re.MULTILINE)


def render(*flags, name="headstart", namespace="headstart"):
    """What Helm makes of the chart.

    Raises `subprocess.CalledProcessError`, whose `stderr` has the reason, where it refuses.
    """
    command = [HELM, "template", name, CHART, "--namespace", namespace, *flags]
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


def manifests():
    """The text of each file to be, by its path under deploy/kubernetes/."""
    values = [word for value in VALUES for word in ("--set", value)]
    made = {}
    for folder, templates in (("base", PLAIN), ("with-prometheus", WITH_PROMETHEUS)):
        for template in templates:
            rendered = render(*values, "--show-only", f"templates/{template}.yaml")
            documents = [MARKS.sub("", part) for part in re.split(r"(?m)^(?=---\n)", rendered) if part.strip()]
            made[f"{folder}/{template}.yaml"] = HEADER + OF_HELM.sub("", "---\n".join(documents))
    return made


def main():
    stale = []
    for name, text in manifests().items():
        file = TARGET / name
        if not file.exists() or file.read_text() != text:
            stale.append(name)
            if "--check" not in sys.argv:
                file.write_text(text)
    if "--check" in sys.argv and stale:
        sys.exit(f"not what the chart says: {', '.join(stale)}; `make manifests` writes them")


if __name__ == "__main__":
    main()
