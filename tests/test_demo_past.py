"""The demo's past: what is made in seconds is what would have been scraped, and recorded of it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from recorded import serving
from running import Labels, Prometheus, parse_page

from tools.history import BLOCK, PHASE, STEP, Run, Tally, instants, make, scrapes, stretches
from tools.recorded import EVERY, Piece, pieces, record, states
from tools.rules import alerts, flat, recording_rules
from vcc_exporter import config_file, times
from vcc_exporter.answer import read_statistics
from vcc_exporter.config import Customer
from vcc_exporter.poll import questions, together
from vcc_exporter.simulator import DEMO_CENTRES, Simulator, demo_config
from vcc_exporter.times import parse_duration
from vcc_exporter.vocabulary import FAMILIES

CUSTOMERS = config_file.parse(demo_config("http://simulator.test"), "demo", Path()).customers
BEGIN = datetime(2026, 10, 24, 9, 1, tzinfo=UTC)
"""A Saturday, before the night in which Europe changes its clocks."""


@pytest.mark.parametrize("customer", CUSTOMERS, ids=lambda customer: customer.name)
def test_calls_counted_one_by_one_are_what_the_api_answers(customer: Customer) -> None:
    """At instants of three days, the day with 25 hours among them, the tally is what a poll would have read."""
    now = BEGIN
    simulator = Simulator(DEMO_CENTRES, now=lambda: now)
    tally = Tally(Simulator(DEMO_CENTRES, now=lambda: BEGIN + timedelta(weeks=1)), customer)
    credentials = customer.name, simulator.centres[customer.name].key
    answered = 0
    for minutes in range(0, 3 * 24 * 60, 97):
        now = BEGIN + timedelta(minutes=minutes)
        day = times.local_date(customer.zone, now)
        asked = [
            read_statistics(simulator.reply("GET", question.target(), credentials).body, day, scope)
            for question, scope in questions(customer, day, day)
        ]
        assert tally.answer(now) == together(asked)
        answered += bool(tally.answer(now).values)
    assert answered >= 10


def test_the_past_has_every_family_of_the_page() -> None:
    """What was scraped of a good day are all families but those of one process's work, and of a web config."""
    ((_, lines),) = scrapes(Run(BEGIN, "exporter:10742", "self"), BEGIN, BEGIN + STEP)
    samples = parse_page(lines.decode())
    elsewhere = {"vcc_poll_duration_seconds", "vcc_exporter_web_config_last_reload_successful"}
    families = {f.name for f in FAMILIES} - elsewhere
    names = {name for name, _ in samples}
    assert families <= names, families - names
    assert {n for n in names if n.startswith(("scrape_", "process_"))} == {
        "process_max_fds",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
        "scrape_duration_seconds",
        "scrape_samples_post_metric_relabeling",
        "scrape_samples_scraped",
        "scrape_series_added",
    }
    assert all({("instance", "exporter:10742"), ("job", "vcc")} <= labels for _, labels in samples)
    (scraped,) = (value for (name, _), value in samples.items() if name == "scrape_samples_scraped")
    assert scraped == len(samples) - len({n for n in names if n.startswith(("scrape_", "up"))})


def test_every_stretch_is_one_block_and_no_scrape_is_lost_between_two() -> None:
    """Stretches lie within Prometheus's blocks, and their scrapes are those of the whole time, each once."""
    end = BEGIN + timedelta(weeks=4)
    cut = stretches(BEGIN, end)
    assert cut[0][0] == BEGIN
    assert cut[-1][1] == end
    assert all(before[1] == after[0] for before, after in pairwise(cut))
    assert len({first.timestamp() // BLOCK.total_seconds() for first, _ in cut}) == len(cut)
    assert all(last - first <= BLOCK for first, last in cut)
    whole = list(instants(BEGIN, end))
    assert [at for stretch in cut for at in instants(*stretch)] == whole
    assert {after - before for before, after in pairwise(whole)} == {STEP}
    assert {at.timestamp() % STEP.total_seconds() for at in whole} == {PHASE.total_seconds()}


def test_the_rules_windows_are_whole_numbers_of_scrapes() -> None:
    """Half an hour before a scrape there is one, and within the five minutes that a query looks back always one."""
    assert timedelta(minutes=30) % STEP == timedelta()
    assert timedelta(minutes=5) > STEP


# What the rules would have recorded.


def test_rules_are_evaluated_in_even_steps_up_to_the_end() -> None:
    """Pieces of two spans have each instant once, whole steps before the span's end, and stay within a block each."""
    end = BEGIN + timedelta(weeks=1, seconds=7)
    later = end + timedelta(weeks=1)
    cut = pieces([(BEGIN, end), (later, later + timedelta(hours=1))], EVERY)
    assert cut[-1] == Piece(later, later + timedelta(hours=1), later)
    grid = [p.first + n * EVERY for p in cut[:-1] for n in range((p.last - p.first) // EVERY + 1)]
    assert BEGIN <= grid[0] < BEGIN + EVERY
    assert grid[-1] == end
    assert {after - before for before, after in pairwise(grid)} == {EVERY}
    assert {piece.begin for piece in cut[:-1]} == {grid[0]}
    blocks = [{at.timestamp() // BLOCK.total_seconds() for at in (piece.first, piece.last)} for piece in cut]
    assert [len(block) for block in blocks] == [1] * len(cut)
    assert len(set.union(*blocks[:-1])) == len(cut) - 1


@pytest.mark.parametrize(
    ("wait", "expected"),
    [(0, "FFF FF"), (10, "PFF PF"), (20, "PPF PP"), (30, "PPP PP")],
)
def test_an_alert_waits_as_long_as_its_rule_says_and_anew_after_each_gap(wait: int, expected: str) -> None:
    """It fires at an instant for which the expression has held for the whole wait."""
    held = [0.0, 10.0, 20.0, 40.0, 50.0]
    found = {at: state[0].upper() for at, state in states(held, wait, 10)}
    assert list(found) == held
    assert "".join(found.get(at, " ") for at in (0.0, 10.0, 20.0, 30.0, 40.0, 50.0)) == expected


HOURS = timedelta(hours=14)
NOW = datetime(2026, 5, 25, 20, 0, tzinfo=UTC)
"""A Monday at 13:00 in Los Angeles, where the day began within the hours before."""
BORDER = datetime(2026, 5, 25, 18, 0, tzinfo=UTC)
"""Where one of Prometheus's blocks ends; the webshop was served badly then."""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Run a Prometheus on some hours of the demo and what the rules would have recorded of them."""
    data = tmp_path_factory.mktemp("past") / "data"
    make(data, Run(NOW - HOURS, "exporter:10742", "self"), NOW - HOURS, NOW)
    record(data, [(NOW - HOURS + STEP, NOW)], EVERY, STEP)
    with serving(data, STEP) as running:
        yield running


def values(found: list[dict[str, Any]]) -> dict[Labels, str]:
    """Return an instant's values by labels without the metric's name."""
    return {
        frozenset((name, value) for name, value in series["metric"].items() if name != "__name__"): series["value"][1]
        for series in found
    }


@pytest.mark.parametrize("before_end", [timedelta(), timedelta(hours=12, minutes=45)])
def test_what_was_recorded_is_what_the_rules_say_of_the_scrapes(prometheus: Prometheus, before_end: timedelta) -> None:
    """At an instant each rule's series are what its expression says with every recorded name in it written out."""
    at = (NOW - before_end).timestamp()
    recorded = 0
    for rule in recording_rules():
        found = [
            values(prometheus.get("/api/v1/query?" + urlencode({"query": query, "time": at}))["result"])
            for query in (rule.record, flat(rule.record))
        ]
        assert found[0] == found[1], rule.record
        recorded += bool(found[0])
    assert recorded > 70


def test_alerts_are_recorded_as_firing_where_they_would_have_fired(prometheus: Prometheus) -> None:
    """An alert fires at an instant if its expression holds there and at all others within its wait."""
    span = {"start": (NOW - HOURS + timedelta(minutes=30)).timestamp(), "end": NOW.timestamp(), "step": EVERY.seconds}

    def asked(query: str) -> dict[Labels, list[float]]:
        found = prometheus.get("/api/v1/query_range?" + urlencode({"query": query, **span}))["result"]
        return {frozenset(series["metric"].items()): [at for at, _ in series["values"]] for series in found}

    at_the_border = 0
    for alert in alerts():
        wait = parse_duration(alert.wait)
        over = f"{(wait + timedelta(minutes=2)).seconds}s:{EVERY.seconds}s"
        holding = asked(f"count_over_time(({alert.expr})[{over}]) == {wait // EVERY + 1}")
        firing = asked(
            "max without (__name__, alertname, alertstate, severity)"
            f' (ALERTS{{alertname="{alert.name}",severity="{alert.severity}",alertstate="firing"}})'
        )
        assert firing == holding, alert
        at_the_border += any(BORDER.timestamp() in held for held in firing.values())
    assert BORDER.timestamp() % BLOCK.total_seconds() == 0
    assert at_the_border
