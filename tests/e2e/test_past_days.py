"""Past days as a user loads them: the process, promtool, and a real Prometheus that answers with the day's totals."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from running import ROOT, Labels, Prometheus, eventually

from vcc_exporter.client import PROJECTS, Question
from vcc_exporter.simulator import Simulator
from vcc_exporter.vocabulary import STATISTICS

pytestmark = pytest.mark.usefixtures("no_environment")

WEEK: Final = ("--from=2025-10-20", "--to=2025-10-26", "--output=past.om")
"""It ends with a day of 25 hours in Budapest."""
ASKED: Final = Question(date(2025, 10, 13), date(2025, 10, 26), 30).target()
"""What one customer is asked for that week."""
SUMMARY: Final = "    promtool tsdb create-blocks-from openmetrics past.om DATA_DIR\n"


def configure(folder: Path, simulator: Simulator, *names: str, **keys: Any) -> None:
    """Write a config of these customers of the simulator."""
    customers = [
        {
            "name": centre.customer,
            "url": simulator.url,
            "api_key": centre.key,
            "timezone": centre.zone,
            "poll": {"timeout": "10m"},
            **keys,
        }
        for centre in map(simulator.centres.__getitem__, names)
    ]
    (folder / "config.yaml").write_text(json.dumps({"customers": customers}))


COMMAND: Final = [sys.executable, str(ROOT / "exporter.py"), "backfill"]


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the command in a folder and return its status and what it wrote."""
    ended = subprocess.run([*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=100, check=False)  # noqa: S603
    return ended.returncode, ended.stdout, ended.stderr


# What Prometheus makes of it.


def rows_of_day(simulator: Simulator, customer: str, day: date) -> dict[tuple[str, str], dict[str, float]]:
    """Ask the simulator about one day, as any client would."""
    centre = simulator.centres[customer]
    reply = simulator.reply("GET", Question(day, day, 30).target(), (customer, centre.key))
    return {
        (str(row["projectid"]), str(row["queueid"])): {s.metric: float(row[s.key]) for s in STATISTICS}
        for row in json.loads(reply.body)["response"]
    }


def totals(simulator: Simulator, customer: str, days: list[date]) -> dict[tuple[str, str, str], dict[int, float]]:
    """Return what must be known of a customer: by metric, project and queue, by each day's last second there."""
    zone = ZoneInfo(simulator.centres[customer].zone)
    learnt = (days[0] + timedelta(days=number) for number in range(-7, len(days)))
    by_day = {day: rows_of_day(simulator, customer, day) for day in learnt}
    expected: dict[tuple[str, str, str], dict[int, float]] = {}
    for day in days:
        end = int(datetime(day.year, day.month, day.day, 23, 59, 59, tzinfo=zone).timestamp())
        for pair in {pair for back in range(8) for pair in by_day[day - timedelta(days=back)]}:
            for statistic in STATISTICS:
                value = by_day[day].get(pair, {}).get(statistic.metric, 0.0)
                expected.setdefault((statistic.metric, *pair), {})[end] = value
    return expected


def stored(prometheus: Prometheus, customer: str, until: date) -> dict[tuple[str, str, str], dict[int, float]]:
    """Return every sample that Prometheus has of a customer's calls."""
    time = int(datetime(until.year, until.month, until.day, tzinfo=ZoneInfo("UTC")).timestamp()) + 2 * 86_400
    query = f'%7B__name__=~"vcc_inbound_.*",customer="{customer}"%7D[30d]&time={time}'
    return {
        (found["metric"]["__name__"], found["metric"]["project"], found["metric"]["queue"]): {
            int(at): float(value) for at, value in found["values"]
        }
        for found in prometheus.get(f"/api/v1/query?query={query}")["result"]
    }


@pytest.mark.parametrize(("last", "hours"), [(date(2025, 3, 30), 23), (date(2025, 10, 26), 25)])
def test_prometheus_answers_with_the_totals_of_each_day(
    simulator: Simulator,
    tmp_path: Path,
    start_prometheus: Callable[..., Prometheus],
    last: date,
    hours: int,
) -> None:
    """Every number, zeros included, at each day's last second, through a week with a day of 23 or 25 hours."""
    days = [last - timedelta(days=number) for number in range(6, -1, -1)]
    configure(tmp_path, simulator, *simulator.centres)
    status, out, err = run(tmp_path, f"--from={days[0]}", f"--to={last}", "--output=past.om")
    assert (status, err) == (0, "")
    assert SUMMARY in out
    assert list(text_string_to_metric_families((tmp_path / "past.om").read_text()))
    load = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "past.om", "tsdb"]
    subprocess.run(load, cwd=tmp_path, check=True, capture_output=True)  # noqa: S603
    prometheus = start_prometheus([], "--storage.tsdb.retention.time=50y")
    for customer in simulator.centres:
        assert stored(prometheus, customer, last) == totals(simulator, customer, days)
    ends = sorted({at for series in stored(prometheus, "bank", last).values() for at in series})
    assert ends[-1] - ends[-2] == hours * 3600

    noon = int(datetime(last.year, last.month, last.day, 12, tzinfo=ZoneInfo("Europe/Budapest")).timestamp())
    calls = 'vcc_inbound_answered_before_calls{customer="bank"}'
    assert prometheus.query(f"{calls} @ {noon}") == {}  # as the README says
    assert by_pair(prometheus.query(f"last_over_time({calls}[1d] @ {noon})")) == {
        (project, queue): series[ends[-2]]
        for (name, project, queue), series in totals(simulator, "bank", days).items()
        if name == "vcc_inbound_answered_before_calls" and ends[-2] in series
    }


def by_pair(found: dict[Labels, float]) -> dict[tuple[str, str], float]:
    """Return values by project and queue."""
    return {(dict(labels)["project"], dict(labels)["queue"]): value for labels, value in found.items()}


# Stopping and going on.


def test_a_refused_key_stops_one_customer_and_the_same_command_goes_on(simulator: Simulator, tmp_path: Path) -> None:
    """Nothing is written until all are there; what was answered is not asked for again."""
    configure(tmp_path, simulator, "bank", "webshop", "utility")
    simulator.misbehave("webshop", "unauthorized", path="statistics")
    status, out, err = run(tmp_path, *WEEK)
    assert (status, out) == (1, "")
    assert err == (
        "webshop: unauthorized: HTTP 401: the subdomain or the API key is wrong (error.unauthorized)\n"
        "vcc-exporter: 1 of 3 customers failed, so that past.om is not written; answers are kept in past.om.parts: "
        "run the same command again to go on from there\n"
    )
    assert {file.name for file in tmp_path.iterdir()} == {"config.yaml", "past.om.parts"}

    simulator.heal("webshop")
    before = len(simulator.requests)
    status, out, err = run(tmp_path, *WEEK)
    assert (status, err) == (0, "")
    assert out.startswith("past.om: 7 days of 3 customers, ")
    assert "; 1 request made\n" in out
    asked = [(seen.customer, seen.path) for seen in simulator.requests[before:] if seen.path != PROJECTS]
    assert asked == [("webshop", ASKED)]
    assert {file.name for file in tmp_path.iterdir()} == {"config.yaml", "past.om"}


def test_ctrl_c_leaves_what_was_answered(simulator: Simulator, tmp_path: Path) -> None:
    """It waits for no request, says nothing, and the next run asks only for the rest."""
    configure(tmp_path, simulator, "bank", "webshop")
    simulator.misbehave("webshop", "silent", path="statistics")
    parts = tmp_path / "past.om.parts"
    with subprocess.Popen([*COMMAND, *WEEK], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:  # noqa: S603
        try:
            eventually(lambda: list(parts.glob("*.json")), "an answer")
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
            assert process.stdout
            assert process.stdout.read() == b""
        finally:
            process.kill()
    simulator.heal("webshop")
    before = len(simulator.requests)
    assert run(tmp_path, *WEEK)[0] == 0
    asked = [(seen.customer, seen.path) for seen in simulator.requests[before:] if seen.path != PROJECTS]
    assert asked == [("webshop", ASKED)]


def test_who_watches_sees_the_months_go_by(simulator: Simulator, tmp_path: Path) -> None:
    """One line on a terminal is overwritten; nothing of it stays."""
    configure(tmp_path, simulator, "bank", poll={"lookback": 0})
    ours, theirs = pty.openpty()
    try:
        arguments = ["--from=2025-09-30", "--to=2025-10-01", "--output=past.om"]
        subprocess.run([*COMMAND, *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=theirs, check=True)  # noqa: S603
        shown = os.read(ours, 10_000)
    finally:
        os.close(ours)
        os.close(theirs)
    lines = [f"[{'#' * 15:<30}] 1 of 2 months", f"[{'#' * 30}] 2 of 2 months", ""]
    assert shown.decode() == "".join(f"\r{line:<56}\r" for line in lines)


def test_remarks_are_told_and_are_no_failure(simulator: Simulator, tmp_path: Path) -> None:
    """Names that are missing make other series of the same queues, so that nobody shall find out too late."""
    configure(tmp_path, simulator, "bank")
    simulator.misbehave("bank", "forbidden", path="projects")
    status, out, err = run(tmp_path, *WEEK)
    assert status == 0
    assert SUMMARY in out
    assert err == (
        "bank: projects that the config does not name are called by their ids: the key is not allowed /v2/projects\n"
    )


def test_only_the_customers_that_are_named_are_asked(simulator: Simulator, tmp_path: Path) -> None:
    """And what cannot be done is refused in one line, before anybody is asked."""
    configure(tmp_path, simulator, "bank", "webshop", "utility")
    assert run(tmp_path, *WEEK, "--customer=bonk") == (
        1,
        "",
        "vcc-exporter: the config has no customer 'bonk'; did you mean 'bank'?\n",
    )
    assert not [seen.path for seen in simulator.requests]
    assert run(tmp_path, *WEEK, "--customer=utility", "--customer=bank")[0] == 0
    assert {seen.customer for seen in simulator.requests} == {"bank", "utility"}
    before = len(simulator.requests)
    assert run(tmp_path, *WEEK) == (1, "", "vcc-exporter: past.om exists already, and is not overwritten\n")
    assert len(simulator.requests) == before
