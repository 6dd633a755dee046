"""The alert rules, judged by Prometheus's own tool. Needs promtool."""

import pathlib
import shutil
import subprocess

import pytest

RULES = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "prometheus"


@pytest.mark.parametrize("arguments", [
    ("check", "config", "--syntax-only", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml"),
], ids=" ".join)
def test_prometheus_takes_the_rules_and_they_fire_when_they_should(arguments):
    promtool = shutil.which("promtool") or pytest.skip("no promtool on this machine")
    result = subprocess.run([promtool, *arguments], cwd=RULES, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
