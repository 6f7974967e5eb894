"""Prometheus itself reads our metrics, our rules and our dashboard, and every picture gets something to show."""

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from consumers.local.serving import free_port

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "dashboards"
PROMETHEUS = DASHBOARDS / "prometheus"

# Every metric of ours with a value that grows, on a real socket: what a process in service shows after a while.
A_BUSY_PROCESS = """
import sys, time
from prometheus_client import Histogram, start_http_server
from alerting import metrics
from alerting.api import status
from alerting.domain.delivery import Channel
from alerting.domain.lanes import Lane

OTHERS = {"outcome": ["accepted", "deferred", "refused"], "result": ["granted", "returned"], "action": ["issue"],
          "link": ["relay", "fanout consumes"]}

def rows(names):
    choices = {"lane": [str(lane) for lane in Lane], "channel": [str(channel) for channel in Channel]} | OTHERS
    found = [()]
    for name in names:
        found = [(*row, value) for row in found for value in choices.get(name, ["Fornacette"])]
    return found

measured = [m for module in (metrics, status) for m in vars(module).values()
            if hasattr(m, "_labelnames") and hasattr(m, "describe")]
start_http_server(int(sys.argv[1]), "127.0.0.1")
while True:
    for metric in measured:
        for row in rows(metric._labelnames):
            one = metric.labels(*row) if row else metric
            one.observe(0.2) if isinstance(metric, Histogram) else one.inc()
    time.sleep(0.1)
"""

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool here; Debian has it in the package prometheus"
)
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="no Prometheus here; Debian: apt-get install prometheus"
)


def _drawn() -> list[str]:
    """Every expression of the dashboard, as Grafana would send it with everything chosen."""
    dashboard = json.loads((DASHBOARDS / "grafana/allerta.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    asked += [note["expr"] for note in dashboard["annotations"]["list"]]
    return [re.sub(r"\$\w+", ".*", expr.replace("$__rate_interval", "10s")) for expr in asked]


def _promtool(*arguments: str, given: bytes = b"") -> None:
    run = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, input=given, capture_output=True, check=False)
    assert run.returncode == 0, (run.stdout + run.stderr).decode()


@needs_promtool
def test_promtool_finds_no_fault_in_the_configuration_and_the_rules() -> None:
    _promtool("check", "config", "prometheus.yml")
    _promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yml")


@needs_promtool
def test_the_rules_call_when_they_should_and_not_otherwise() -> None:
    _promtool("test", "rules", "rules_test.yml")


@needs_promtool
def test_promtool_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"drawn:{number}", "expr": expr} for number, expr in enumerate(_drawn())]
    file = tmp_path / "drawn.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "drawn", "rules": rules}]}))
    _promtool("check", "rules", str(file))


@needs_promtool
def test_promtool_finds_our_metrics_well_named(busy_process: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{busy_process}/metrics", timeout=5) as answer:
        shown = answer.read()
    assert b"alerting_issued_to_accepted_seconds_bucket" in shown
    ours = b"".join(line for line in shown.splitlines(True) if b"alerting_" in line)
    _promtool("check", "metrics", given=ours)


@needs_prometheus
def test_every_picture_of_ours_has_something_to_show(prometheus: str) -> None:
    ours = [expr for expr in _drawn() if "rabbitmq_" not in expr and "ALERTS" not in expr]
    assert len(ours) > 30
    _until(lambda: all(_asked(prometheus, expr) for expr in ours), 30)
    assert [expr for expr in ours if not _asked(prometheus, expr)] == []


@needs_prometheus
def test_prometheus_evaluates_every_rule_and_the_watchdog_barks(prometheus: str) -> None:
    def unhealthy() -> list[str]:
        groups = _get(f"{prometheus}/api/v1/rules")["data"]["groups"]
        assert groups
        return [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"]

    _until(lambda: not unhealthy(), 30)
    assert unhealthy() == []
    assert _until(lambda: bool(_asked(prometheus, 'ALERTS{alertname="Watchdog", alertstate="firing"}')), 15)
    # Nothing here is called rabbitmq, and silence about it would be the worst answer.
    assert _asked(prometheus, 'service:up:sum{service="rabbitmq"} == 0')
    assert _until(lambda: bool(_asked(prometheus, 'service:up:sum{service="deliver-whatsapp"} == 1')), 15)


@pytest.fixture(scope="module")
def busy_process() -> Iterator[int]:
    """The port on which a process shows every metric there is."""
    port = free_port()
    with _running(sys.executable, "-c", A_BUSY_PROCESS, str(port)):
        assert _until(lambda: _answers(f"http://127.0.0.1:{port}/metrics"), 20)
        yield port


@pytest.fixture(scope="module")
def prometheus(busy_process: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus with our rules, which asks the busy process every second."""
    port = free_port()
    folder = tmp_path_factory.mktemp("prometheus")
    asked = {"targets": [f"127.0.0.1:{busy_process}"], "labels": {"service": "deliver-whatsapp"}}
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(PROMETHEUS / "rules.yml")],
        "scrape_configs": [{"job_name": "processes", "static_configs": [asked]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with _running(
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ):
        assert _until(lambda: _answers(f"http://127.0.0.1:{port}/-/ready"), 30)
        yield f"http://127.0.0.1:{port}"


class _running:
    """A program, for as long as it is needed; it must still run at the end."""

    def __init__(self, *command: str) -> None:
        self._command = command

    def __enter__(self) -> None:
        self._process = subprocess.Popen(self._command, cwd=ROOT)

    def __exit__(self, *_: object) -> None:
        died = self._process.poll()
        self._process.terminate()
        self._process.wait(timeout=20)
        assert died is None, f"{self._command[0]} ended by itself with {died}"


def _until(true: Callable[[], bool], patience: float) -> bool:
    """Whether it became true in `patience` seconds."""
    end = time.monotonic() + patience
    while not (now := true()) and time.monotonic() < end:
        time.sleep(0.25)
    return now


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False  # not yet


def _get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=5) as answer:
        read: dict[str, Any] = json.loads(answer.read())
        return read


def _asked(prometheus: str, expr: str) -> list[Any]:
    found: list[Any] = _get(f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expr})}")["data"]["result"]
    return found
