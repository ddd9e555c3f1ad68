"""The demo's past: what is made in seconds is what would have been scraped."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from running import parse_page

from tools.history import BLOCK, PHASE, STEP, Run, Tally, instants, scrapes, stretches
from vcc_exporter import config, times
from vcc_exporter.answer import read_statistics
from vcc_exporter.config import Customer
from vcc_exporter.poll import questions, together
from vcc_exporter.simulator import DEMO_CENTRES, Simulator, demo_config
from vcc_exporter.vocabulary import FAMILIES

CUSTOMERS = config.parse(demo_config("http://simulator.test"), "demo", Path()).customers
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
    """What was scraped of a good day are all families but those of what was rejected, and of one process's work."""
    ((_, lines),) = scrapes(Run(BEGIN, "exporter:10742", "self"), BEGIN, BEGIN + STEP)
    samples = parse_page(lines.decode())
    families = {f.name for f in FAMILIES if f.name != "vcc_poll_duration_seconds"}
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
