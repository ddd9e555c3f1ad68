"""The rules for Prometheus: against their generator, against numbers computed by hand, and against simulated weeks."""

import itertools
import os
import re
import runpy
import subprocess
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from recorded import serving
from running import ROOT, Prometheus

from tools.recorded import LOOKBACK
from vcc_exporter import config_file
from vcc_exporter.simulator import Simulator, demo_config
from vcc_exporter.simulator.calls import Outcome
from vcc_exporter.vocabulary import FAMILIES

PROMETHEUS = ROOT / "prometheus"
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
generator = runpy.run_path(str(ROOT / "tools" / "rules.py"))
history = runpy.run_path(str(ROOT / "tools" / "false_alarms.py"))


def rules(name: str) -> list[dict[str, Any]]:
    """Return the rules of a file."""
    found: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "rules" / name).read_text())["groups"][0]["rules"]
    return found


RECORDED = [rule["record"] for rule in rules("vcc-inbound.rules.yml")]
ALERTS = rules("vcc.alerts.yml")
OF_CONTRACT = [
    *(
        f"vcc_inbound_{what}_calls:{when}"
        for what in ("answered", "abandoned", "offered")
        for when in ("today", "increase30m", "increase1h")
    ),
    *(
        f"vcc_inbound_{what}:ratio_{when}"
        for what in ("service_level", "abandonment")
        for when in ("today", "30m", "1h")
    ),
    *(f"vcc_inbound_{what}_without_early:ratio_today" for what in ("service_level", "abandonment")),
    "vcc_inbound_answer_wait_seconds:mean_today",
    "vcc_inbound_talk_seconds:mean_today",
]
ALERT_NAMES = {
    "VccExporterDown",
    "VccPollFailing",
    "VccCredentialsRefused",
    "VccDataStale",
    "VccRowsRejected",
    "VccConfigReloadFailed",
    "VccServiceLevelLow",
    "VccAbandonmentHigh",
    "VccCallsStopped",
}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of the tools that come with Prometheus."""
    # Memory is not short here; to be frugal with it takes promtool a quarter of its time.
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"GOGC": "1000"})  # noqa: S603


# The files.


def test_the_rules_are_those_of_the_generator(tmp_path: Path) -> None:
    """`python tools/rules.py` would change nothing."""
    generator["main"]([f"--output={tmp_path}"])
    written = [path.relative_to(tmp_path) for path in tmp_path.rglob("*.y*ml")]
    assert len(written) == 3
    for name in written:
        assert (tmp_path / name).read_text() == (ROOT / name).read_text(), name


def test_links_of_alerts_begin_where_the_user_says(tmp_path: Path) -> None:
    """The generator puts the given addresses before every page and dashboard."""
    generator["main"]([f"--output={tmp_path}", "--runbooks=https://wiki.test/", "--dashboards=https://grafana.test"])
    alerts = yaml.safe_load((tmp_path / "prometheus" / "rules" / "vcc.alerts.yml").read_text())["groups"]
    manifest = yaml.safe_load((tmp_path / "deploy" / "kubernetes" / "prometheusrule.yaml").read_text())
    assert manifest["spec"]["groups"][1:] == alerts
    for rule in alerts[0]["rules"]:
        assert rule["annotations"]["runbook_url"] == f"https://wiki.test/{rule['alert']}.md"
        assert rule["annotations"]["dashboard_url"].startswith("https://grafana.test/d/")


def test_every_promised_series_is_recorded_once() -> None:
    """The names that users build on exist at each level, and no name is recorded twice."""
    assert {f"{level}:{name}" for level in ("queue", "project", "customer") for name in OF_CONTRACT} <= set(RECORDED)
    assert [name for name, count in Counter(RECORDED).items() if count > 1] == []


def test_every_metric_that_a_rule_names_exists() -> None:
    """Rules read what the exporter publishes, what was recorded before them in the same file, and `up`."""
    published = {family.name for family in FAMILIES}
    seen: set[str] = set()
    for rule in [*rules("vcc-inbound.rules.yml"), *ALERTS]:
        recorded = set(re.findall(r"\b[a-z]+:[a-z0-9_]+:[a-z0-9_]+\b", rule["expr"]))
        assert recorded <= seen, rule
        plain = set(re.findall(r"(?<![:\w])vcc_[a-z0-9_]+\b(?!:)", rule["expr"]))
        assert plain <= published, rule
        seen.add(rule.get("record", ""))


def test_rules_look_back_only_at_what_the_exporter_published() -> None:
    """No offset and no range is on a recorded series of a recording rule, so they hold from the first evaluation on."""
    for rule in rules("vcc-inbound.rules.yml"):
        assert not re.search(r":[a-z0-9_]+:[a-z0-9_]+(\{[^}]*\})?( offset|\[)", rule["expr"]), rule


@pytest.mark.parametrize("path", ["rules/vcc-inbound.rules.yml", "rules/vcc.alerts.yml"])
def test_promtool_finds_no_fault_in_the_rules(path: str) -> None:
    """The files are valid, and promtool has nothing to remark."""
    checked = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", str(PROMETHEUS / path))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_example_configs_are_valid() -> None:
    """Prometheus's and Alertmanager's own checkers accept the examples, with the rule files that they name."""
    checked = run("promtool", "check", "config", str(PROMETHEUS / "prometheus.yml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "2 rule files found" in checked.stdout
    checked = run("amtool", "check-config", str(PROMETHEUS / "alertmanager.yml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("alert", "severity", "receivers"),
    [
        ("VccExporterDown", "critical", "call"),
        ("VccRowsRejected", "warning", "day"),
        ("VccServiceLevelLow", "warning", "shift,none"),
        ("VccServiceLevelLow", "critical", "shift,call"),
        ("VccCallsStopped", "critical", "shift,call"),
    ],
)
def test_alerts_go_to_whom_they_concern(alert: str, severity: str, receivers: str) -> None:
    """What is about callers goes to the shift leader; what is critical to who is on call; the rest can wait."""
    example = str(PROMETHEUS / "alertmanager.yml")
    found = run(
        "amtool", "config", "routes", "test", f"--config.file={example}", f"alertname={alert}", f"severity={severity}"
    )
    assert found.stdout.strip() == receivers


@pytest.mark.timeout(600)  # some seconds each, on a machine that does nothing else
@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.name)
def test_rules_say_what_was_computed_by_hand(path: Path) -> None:
    """`promtool test rules` agrees with every value in the file."""
    tested = run("promtool", "test", "rules", str(path))
    assert tested.returncode == 0, tested.stdout + tested.stderr


# Alerts and what is written about them.


def test_the_alerts_are_the_promised_ones() -> None:
    """No alert is lacking and none has another name."""
    assert {rule["alert"] for rule in ALERTS} == ALERT_NAMES


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_every_alert_says_what_to_do(rule: Mapping[str, Any]) -> None:
    """It has a severity, words without numbers, words with names, and a page with the four parts of a runbook."""
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert not re.search(r"\d|\{\{", rule["annotations"]["summary"])
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
    page = (ROOT / rule["annotations"]["runbook_url"]).read_text()
    assert re.findall(r"^#+ (.+)$", page, re.MULTILINE) == [
        rule["alert"],
        "Meaning",
        "Impact",
        "Diagnosis",
        "Mitigation",
    ]


@pytest.mark.parametrize(
    "rule",
    [r for r in ALERTS if r["alert"] not in {"VccExporterDown", "VccConfigReloadFailed"}],
    ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}",
)
def test_no_alert_about_a_customer_fires_while_nothing_is_expected_of_it(rule: Mapping[str, Any]) -> None:
    """Each ends with the same condition, so that a new one cannot forget it."""
    assert "unless on (customer) (max by (customer) (vcc_customer_active) == 0)" in rule["expr"]


def test_every_page_is_some_alerts() -> None:
    """A runbook whose alert is gone is gone, too."""
    assert {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")} == ALERT_NAMES


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_rule_and_alert_that_a_document_names_exists(path: Path) -> None:
    """Names of recorded series and of alerts are those of the files."""
    text = path.read_text()
    for name in re.findall(r"\b(?:queue|project|customer|replica):[a-z0-9_]+:[a-z0-9_]+\b", text):
        assert name in RECORDED, name
    for name in re.findall(r"\bVcc[A-Z]\w+\b", text):
        assert name in ALERT_NAMES, name


# Simulated weeks.


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, list[datetime], Simulator]]:
    """Run Prometheus on the roadside's week with a day of 25 hours, scraped from two replicas of which one lags.

    Yields it, the days' starts and that of the next day, and the simulator.
    """
    folder = tmp_path_factory.mktemp("week")
    data = folder / "data"
    customers = {c.name: c for c in config_file.parse(demo_config("http://127.0.0.1:1"), "demo", folder).customers}
    days = [date(2026, 10, 20) + timedelta(days=number) for number in range(7)]
    zone = ZoneInfo(customers["roadside"].zone.key)
    simulator = Simulator(now=lambda: datetime(2026, 11, 1, tzinfo=UTC))
    samples = [s for day in days for s in history["shown"](simulator, customers["roadside"], day)]
    late = [(name, labels.replace("simulated", "another"), value, at + 60) for name, labels, value, at in samples]
    history["write_blocks"]([*samples, *late], folder, data)
    starts = [datetime(d.year, d.month, d.day, tzinfo=zone) for d in (*days, days[-1] + timedelta(days=1))]
    with serving(data, LOOKBACK) as running:
        yield running, starts, simulator


def values_at(prometheus: Prometheus, expression: str, first: int, last: int, step: int) -> list[float]:
    """Return the one series that an expression gives, from one instant to another."""
    asked = urllib.parse.urlencode({"query": expression, "start": first, "end": last, "step": step})
    result = prometheus.get(f"/api/v1/query_range?{asked}")["result"]
    assert len(result) == 1
    return [float(value) for _, value in result[0]["values"]]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("level", ["queue", "project", "customer"])
@pytest.mark.parametrize(("window", "seconds"), [("30m", 1800), ("1h", 3600)])
def test_what_was_lately_adds_up_to_the_day(
    week: tuple[Prometheus, list[datetime], Simulator], level: str, window: str, seconds: int
) -> None:
    """On days of 24 and 25 hours, all windows together have each call of the day's last poll once, and no other."""
    prometheus, starts, simulator = week
    expression = f"sum({generator['flat'](f'{level}:vcc_inbound_offered_calls:increase{window}')})"
    hours = []
    for start, end in itertools.pairwise(starts):
        first, last = int(start.timestamp()), int(end.timestamp())
        hours.append((last - first) // 3600)
        # Half a minute before each full window: the last poll of the day is a minute before its end.
        found = values_at(prometheus, expression, first + seconds - 30, last - 30, seconds)
        assert len(found) == (last - first) // seconds
        in_queue = {Outcome.ANSWERED, Outcome.ABANDONED}
        calls = simulator.calls("roadside", start.date(), start.date())
        assert sum(found) == sum(c.outcome in in_queue and c.ended <= last - 60 for c in calls)
    assert hours == [24, 24, 24, 24, 24, 25, 24]
