"""What people look at agrees with what is measured: no picture of a metric nobody counts, no rule without advice."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from alerting import metrics
from alerting.domain.delivery import Channel, Progress, Reason
from alerting.domain.lanes import Lane
from alerting.feeds.rounds import Outcome
from dashboards.grafana import build

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "dashboards"

OURS = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]

ASKED_OF_THE_API = {
    "alerting_outbox_messages": {"lane"},
    "alerting_outbox_oldest_seconds": {"lane"},
    "alerting_dead_letters_open": {"lane"},
    "alerting_workers_alive": {"role"},
    "alerting_pages_open": {"authority"},
    "alerting_pages_oldest_seconds": {"authority"},
    "alerting_intake_quarantined": {"source"},
    "alerting_intake_quarantined_oldest_seconds": {"source"},
}

# Read off the endpoints /metrics and /metrics/detailed of RabbitMQ 3.10.8.
OF_RABBITMQ: dict[str, set[str]] = {
    "rabbitmq_detailed_queue_messages_ready": {"vhost", "queue"},
    "rabbitmq_detailed_queue_messages_unacked": {"vhost", "queue"},
    "rabbitmq_detailed_queue_consumers": {"vhost", "queue"},
    "rabbitmq_alarms_memory_used_watermark": set(),
    "rabbitmq_alarms_free_disk_space_watermark": set(),
}

OF_PROMETHEUS: dict[str, set[str]] = {
    "up": {"service"},
    "ALERTS": {"alertname", "alertstate", "severity", "service", "lane", "channel", "queue", "link"},
}

VALUES = {
    "lane": {str(lane) for lane in Lane},
    "channel": {str(channel) for channel in Channel},
    "reason": {str(reason) for reason in Reason} | {""},
    "outcome": {"accepted", "deferred", "refused", "uncertain", "rejected"} | {str(outcome) for outcome in Outcome},
    "progress": {progress.name.lower() for progress in Progress} | {"unknown"},
    "result": {"confirmed", "unconfirmed", "returned", "granted", "denied"},
    "action": {"draft", "approve", "issue", "cancel"},
}

WORDS = {"by", "without", "on", "ignoring", "and", "or", "unless", "offset", "bool", "group_left", "group_right"}


def _family(metric: MetricWrapperBase) -> Metric:
    (family,) = metric.describe()
    return family


def _exposed(metric: MetricWrapperBase) -> Iterator[str]:
    family = _family(metric)
    match family.type:
        case "counter":
            yield f"{family.name}_total"
        case "histogram":
            yield from (f"{family.name}_{part}" for part in ("bucket", "sum", "count"))
        case "gauge":
            yield family.name
        case unknown:
            raise ValueError(f"{family.name} is a {unknown}: say here how Prometheus shows it")


KNOWN: dict[str, set[str]] = {
    **{name: {*metric._labelnames, "le"} for metric in OURS for name in _exposed(metric)},
    **ASKED_OF_THE_API,
    **OF_RABBITMQ,
    **OF_PROMETHEUS,
}
COUNTERS = {name for metric in OURS if _family(metric).type != "gauge" for name in _exposed(metric)}


def _dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((DASHBOARDS / "grafana/allerta.json").read_text())
    return read


def _panels() -> list[dict[str, Any]]:
    return [panel for panel in _dashboard()["panels"] if panel["type"] != "row"]


def _drawn() -> list[str]:
    """Every expression Grafana asks for."""
    asked = [target["expr"] for panel in _panels() for target in panel["targets"]]
    return asked + [note["expr"] for note in _dashboard()["annotations"]["list"]]


def _groups() -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load((DASHBOARDS / "prometheus/rules.yml").read_text())["groups"]
    return groups


def _rules(kind: str) -> list[dict[str, Any]]:
    return [rule for group in _groups() for rule in group["rules"] if kind in rule]


def _ruled() -> list[str]:
    return [rule["expr"] for group in _groups() for rule in group["rules"]]


def _selectors(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each metric an expression reads, with its matchers: name, and label to the value it is matched with."""
    without_groupings = re.sub(r"\b(by|without|on|ignoring|group_\w+)\s*\([^)]*\)", " ", expression)
    bare = re.sub(r"\[[^]]*\]", " ", without_groupings)
    for name, braces in re.findall(
        r"(?<![\w:\"$.\[])([a-zA-Z_][\w:]*)(?![\w:])(?!\s*\()(\{[^}]*\})?", _kept_whole(bare)
    ):
        if name not in WORDS and not re.fullmatch(r"\d+[smhd]|[smhd]", name):
            yield name, dict(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', braces))


def _kept_whole(expression: str) -> str:
    """Without what stands in strings outside of matchers; there is none in ours, and a new one must be seen."""
    assert '"' not in re.sub(r"\{[^}]*\}", "", expression), f"a string outside of a matcher: {expression}"
    return expression


def _recorded() -> dict[str, set[str]]:
    """Recorded series, with the labels their level names: `lane_channel:metric:ops` has lane and channel."""
    levels = ("lane", "channel", "service", "job")
    return {
        rule["record"]: {level for level in levels if level in rule["record"].split(":")[0].split("_")}
        for rule in _rules("record")
    }


@pytest.fixture(params=[*_drawn(), *_ruled()], ids=lambda expression: expression[:60])
def expression(request: pytest.FixtureRequest) -> str:
    asked: str = request.param
    return asked


def test_the_lint_reads_names_and_matchers_out_of_an_expression() -> None:
    read = _selectors(
        'sum by (le, lane) (rate(a_bucket{lane=~"flash", x!="y"}[5m])) / (b:c:d unless e_total offset 5m > 0)'
    )
    assert list(read) == [("a_bucket", {"lane": "flash", "x": "y"}), ("b:c:d", {}), ("e_total", {})]


def test_what_is_drawn_or_ruled_is_measured(expression: str) -> None:
    known = KNOWN | _recorded()
    for name, matchers in _selectors(expression):
        assert name in known, f"{name} is measured nowhere"
        assert set(matchers) <= known[name], f"{name} has no label {set(matchers) - known[name]}"


def test_what_is_matched_can_occur(expression: str) -> None:
    for name, matchers in _selectors(expression):
        for label in matchers.keys() & VALUES.keys():
            asked = matchers[label]
            if not asked.startswith("$"):
                assert set(asked.split("|")) <= VALUES[label], f"{name} never has {label} {asked!r}"


def test_counters_are_read_as_rates(expression: str) -> None:
    """Or compared with their own absence, which is how the first event of a counter's life is seen."""
    for name, _ in _selectors(expression):
        if name in COUNTERS:
            braces = r"(\{[^}]*\})?"
            rest = re.sub(rf"(rate|increase)\({name}{braces}\[[^]]+\]\)", "", expression)
            rest = re.sub(rf"{name}({braces})\s+unless\s+{name}\1\s+offset\s+\w+", "", rest)
            assert name not in rest, f"{name} only ever grows: draw its rate"


def test_everything_that_is_measured_is_shown() -> None:
    shown = {name for expression in _drawn() for name, _ in _selectors(expression)}
    unseen = [_family(metric).name for metric in OURS if not shown & set(_exposed(metric))]
    assert unseen == []
    assert ASKED_OF_THE_API.keys() <= shown


# ── the dashboard ───────────────────────────────────────────────────────────────────────────────────


def test_the_committed_dashboard_is_the_built_one() -> None:
    assert build.FILE.read_text() == build.text(), "run: python -m dashboards.grafana.build"


def test_the_dashboard_can_be_found_and_not_edited() -> None:
    dashboard = _dashboard()
    assert dashboard["uid"] == "allerta"
    assert dashboard["title"]
    assert dashboard["editable"] is False
    assert dashboard["schemaVersion"] >= 39


def test_every_query_goes_to_the_chosen_datasource() -> None:
    variables = {variable["name"]: variable for variable in _dashboard()["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    asking = [*_panels(), *(t for p in _panels() for t in p["targets"]), *_dashboard()["annotations"]["list"]]
    asking += [variable for name, variable in variables.items() if name != "datasource"]
    assert {one["datasource"]["uid"] for one in asking} == {"${datasource}"}


def test_every_variable_that_is_used_exists_and_matches_everything_at_first() -> None:
    variables = {variable["name"]: variable for variable in _dashboard()["templating"]["list"]}
    used = set(re.findall(r"\$(\w+)", " ".join(_drawn()))) - {"__rate_interval"}
    assert used == variables.keys() - {"datasource"}
    assert {variables[name]["allValue"] for name in used} == {".*"}
    for name in used:
        metric, label = re.findall(r"[\w]+", variables[name]["query"]["query"].removeprefix("label_values"))
        assert label in KNOWN[metric]


@pytest.mark.parametrize("panel", _panels(), ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    letters = [target["refId"] for target in panel["targets"]]
    assert letters and all(letters)
    assert len(set(letters)) == len(letters)


@pytest.mark.parametrize("panel", _panels(), ids=lambda panel: panel["title"])
def test_a_rate_is_taken_over_what_grafana_thinks_right(panel: dict[str, Any]) -> None:
    windows = re.findall(r"\[([^]]+)\]", " ".join(re.sub(r"\{[^}]*\}", "", t["expr"]) for t in panel["targets"]))
    assert set(windows) <= {"$__rate_interval"}


@pytest.mark.parametrize("panel", _panels(), ids=lambda panel: panel["title"])
def test_a_legend_names_labels_the_expression_keeps(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        kept = {
            label.strip() for labels in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in labels.split(",")
        }
        assert named <= kept


def test_titles_and_numbers_are_unique() -> None:
    panels = _dashboard()["panels"]
    for key in ("id", "title"):
        values = [panel[key] for panel in panels]
        assert len(set(values)) == len(values), key


def test_no_panel_lies_on_another_or_over_the_edge() -> None:
    places = [(panel["title"], panel["gridPos"]) for panel in _dashboard()["panels"]]
    assert [title for title, place in places if place["x"] + place["w"] > build.WIDTH] == []
    overlapping = [
        (one, other)
        for (one, a), (other, b) in combinations(places, 2)
        if a["x"] < b["x"] + b["w"]
        and b["x"] < a["x"] + a["w"]
        and a["y"] < b["y"] + b["h"]
        and b["y"] < a["y"] + a["h"]
    ]
    assert overlapping == []


def test_lanes_have_a_colour_each() -> None:
    assert build.LANES.keys() == VALUES["lane"]


# ── rules ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rule", _rules("alert"), ids=lambda rule: rule["alert"])
def test_a_rule_says_how_grave_it_is_what_happens_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket", "none"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]
    runbook = ROOT / rule["annotations"]["runbook_url"]
    assert runbook.is_relative_to(DASHBOARDS / "runbooks")
    assert runbook.is_file(), f"nobody would know what to do: write {runbook}"


def test_every_runbook_belongs_to_a_rule_and_links_to_what_exists() -> None:
    written = set((DASHBOARDS / "runbooks").glob("*.md"))
    assert written == {ROOT / rule["annotations"]["runbook_url"] for rule in _rules("alert")}
    links = {file.parent / link for file in written for link in re.findall(r"\]\(([^)]+\.md)\)", file.read_text())}
    assert links <= written


def test_a_runbook_names_services_that_exist() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].keys() | {"NOME"}
    for file in (DASHBOARDS / "runbooks").glob("*.md"):
        commands = re.findall(r"docker compose (?:ps|up|logs|restart)([^`|]*)", file.read_text())
        named = {word for command in commands for word in re.findall(r"(?<![\w-])[a-zA-Z][\w-]+", command)}
        named -= {"h"}  # of --since 1h
        assert named <= services, file.name


def test_rules_have_names_of_their_own_and_a_case_in_the_rule_tests() -> None:
    names = [rule["alert"] for rule in _rules("alert")]
    assert len(set(names)) == len(names)
    cases = yaml.safe_load((DASHBOARDS / "prometheus/rules_test.yml").read_text())["tests"]
    fired = {one["alertname"] for case in cases for one in case["alert_rule_test"] if one["exp_alerts"]}
    assert fired == set(names)


def test_a_recorded_series_is_named_level_metric_operation() -> None:
    assert [name for name in _recorded() if not re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", name)] == []


def test_the_watchdog_always_barks() -> None:
    (watchdog,) = [rule for rule in _rules("alert") if rule["alert"] == "Watchdog"]
    assert (watchdog["expr"], watchdog["labels"]["severity"]) == ("vector(1)", "none")


# ── what is asked of whom ───────────────────────────────────────────────────────────────────────────


def _jobs() -> dict[str, dict[str, Any]]:
    config = yaml.safe_load((DASHBOARDS / "prometheus/prometheus.yml").read_text())
    return {job["job_name"]: job for job in config["scrape_configs"]}


def test_prometheus_asks_every_process_where_it_listens() -> None:
    processes = {line.partition(":")[0] for line in (ROOT / "Procfile").read_text().splitlines() if line}
    (by_name,) = _jobs()["processes"]["dns_sd_configs"]
    (api,) = _jobs()["api"]["dns_sd_configs"]
    assert {*by_name["names"], *api["names"]} == processes
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert {compose[name]["environment"]["METRICS_PORT"] for name in by_name["names"]} == {str(by_name["port"])}
    assert f":{api['port']}" in compose["api"]["ports"][0]


def test_a_process_that_is_missing_is_missed() -> None:
    counted = {rule["labels"]["service"] for rule in _rules("record") if rule["record"] == "service:up:sum"}
    processes = {line.partition(":")[0] for line in (ROOT / "Procfile").read_text().splitlines() if line}
    assert counted == processes | {"rabbitmq"}
    missed = [
        re.search(r'service=~"([^"]+)"', rule["expr"]) for rule in _rules("alert") if rule["alert"].endswith("Missing")
    ]
    watched = "|".join(found[1] for found in missed if found)
    assert [name for name in counted if not re.fullmatch(watched, name)] == []


def test_grafana_is_given_what_the_compose_file_mounts() -> None:
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    mounted = {target: source for source, target, *_ in (v.split(":") for v in grafana["volumes"])}
    provisioning = ROOT / mounted["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load((provisioning / "dashboards/allerta.yml").read_text())["providers"]
    assert (ROOT / mounted[provider["options"]["path"]] / "allerta.json").is_file()
    assert provider["allowUiUpdates"] is False
