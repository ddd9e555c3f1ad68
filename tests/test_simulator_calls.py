"""The simulated calls against the figures and identities of the project's call-centre model."""
# ruff: noqa: S311 - reproducible dice, no secrets

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vcc_exporter
from vcc_exporter.simulator.calls import (
    Call,
    Caller,
    Centre,
    Incident,
    Lognormal,
    Outcome,
    calls_of_day,
    day_start,
    erlang_a,
    serve,
)
from vcc_exporter.simulator.centres import BANK, CENTRES, ROADSIDE, UTILITY, WEBSHOP
from vcc_exporter.simulator.inbound import DIMENSIONS, MEASURES, rows
from vcc_exporter.vocabulary import NO_QUEUE, STATISTICS, Kind

MONDAY = date(2025, 3, 3)
ADDITIVE = [statistic.key for statistic in STATISTICS if statistic.kind is not Kind.AVERAGE]
WARM_UP, MEASURED = 1_000, 100_000


# --- Figures of the model ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("per_hour", "talk_s", "patience_s", "agents", "p_wait", "p_ab", "mean_wait", "asa", "sl20", "sl30", "early"),
    [
        (20, 240, 300, 2, 0.3963, 0.1468, 44.03, 33.70, 0.6397, 0.6561, 0.0065),
        (60, 240, 240, 5, 0.3712, 0.1026, 24.62, 20.58, 0.6886, 0.7145, 0.0075),
        (120, 240, 240, 8, 0.5470, 0.1396, 33.50, 30.42, 0.5415, 0.5817, 0.0110),
        (120, 240, 240, 10, 0.2834, 0.0532, 12.78, 11.23, 0.7892, 0.8182, 0.0056),
        (360, 300, 180, 33, 0.2814, 0.0410, 7.39, 6.73, 0.8336, 0.8734, 0.0072),
        (600, 240, 300, 30, 0.9725, 0.2519, 75.58, 83.33, 0.0698, 0.1021, 0.0160),
    ],
)
def test_the_queue_meets_the_fixed_points_of_erlang_a(  # noqa: PLR0917 - the columns of the table
    per_hour: float,
    talk_s: float,
    patience_s: float,
    agents: int,
    p_wait: float,
    p_ab: float,
    mean_wait: float,
    asa: float,
    sl20: float,
    sl30: float,
    early: float,
) -> None:
    """The queue gives what theory gives for it, within four standard deviations of 100,000 calls."""
    drawn = erlang_a(
        Random(5), WARM_UP + MEASURED, per_hour=per_hour, talk_s=talk_s, patience_s=patience_s, agents=agents
    )
    measured = drawn[WARM_UP:]
    answered = [wait for _, wait in measured if wait is not None]
    left = [caller.stays_s for caller, wait in measured if wait is None]
    ab, waited = len(left) / MEASURED, (sum(answered) + sum(left)) / MEASURED
    assert 1 - sum(wait == 0 for wait in answered) / MEASURED == pytest.approx(p_wait, abs=4 * 0.006)
    assert ab == pytest.approx(p_ab, abs=4 * 0.0015)
    assert waited == pytest.approx(mean_wait, abs=4 * 0.4)
    assert sum(answered) / len(answered) == pytest.approx(asa, abs=4 * 0.4)
    assert sum(wait < 20 for wait in answered) / MEASURED == pytest.approx(sl20, abs=4 * 0.006)
    assert sum(wait < 30 for wait in answered) / MEASURED == pytest.approx(sl30, abs=4 * 0.006)
    assert sum(wait < 5 for wait in left) / MEASURED == pytest.approx(early, abs=4 * 0.0004)
    assert ab == pytest.approx(waited / patience_s, abs=4 * (ab / MEASURED) ** 0.5)


def test_an_overflow_to_two_more_agents_meets_its_figures() -> None:
    """The bank's calls at 72 an hour, five agents, and two more for those who have waited 60 s."""
    dice, at, callers = Random(3), 0.0, []
    for _ in range(MEASURED):
        at += dice.expovariate(72 / 3600)
        talk_s, wrap_up_s = BANK.talk.draw(dice), dice.expovariate(1 / BANK.wrap_up_s)
        callers.append(Caller(at, BANK.patience.draw(dice), 0, talk_s, wrap_up_s))
    first = serve([replace(caller, stays_s=min(60, caller.stays_s)) for caller in callers], [(0, 5)])
    moved = [c for c, wait in zip(callers, first, strict=True) if wait is None and c.stays_s > 60]
    second = serve([replace(c, at=c.at + 60, stays_s=c.stays_s - 60) for c in moved], [(0, 2)])
    at_first, later = ([wait for wait in waits if wait is not None] for waits in (first, second))
    soon, answered = sum(wait < 30 for wait in at_first), len(at_first) + len(later)
    assert len(moved) / MEASURED == pytest.approx(0.12, abs=0.01)
    assert 1 - answered / MEASURED == pytest.approx(0.060, abs=0.006)
    assert soon / MEASURED == pytest.approx(0.724, abs=0.024)
    assert (soon + sum(wait < 30 for wait in later)) / MEASURED == pytest.approx(0.810, abs=0.024)
    assert (sum(at_first) + sum(wait + 60 for wait in later)) / answered == pytest.approx(17.6, abs=1.6)


@dataclass(frozen=True)
class Levels:
    """What is said of a centre: parts of the offered calls, and seconds."""

    service: float
    abandoned: float
    early: float
    asa_s: float


def levels(centre: Centre, days: int, incidents: tuple[Incident, ...] = ()) -> Levels:
    """Measure a centre without its seasons; the row of queue -1 is not counted."""
    centre = replace(centre, season=lambda _day, _hour: 1)
    queued = [
        call
        for number in range(days)
        for call in calls_of_day(centre, MONDAY + timedelta(days=number), 1, incidents)
        if call.queues
    ]
    answered = [call.wait_s for call in queued if call.outcome is Outcome.ANSWERED]
    left = [call.wait_s for call in queued if call.outcome is Outcome.ABANDONED]
    offered = len(answered) + len(left)
    in_time, early = sum(wait < centre.sla_s for wait in answered), sum(wait < 5 for wait in left)
    return Levels(in_time / offered, len(left) / offered, early / len(left), sum(answered) / len(answered))


@pytest.mark.parametrize(
    ("centre", "incidents", "expected"),
    [
        (BANK, (), Levels(0.84, 0.054, 0.5, 13)),
        (WEBSHOP, (), Levels(0.72, 0.119, 0.4, 18)),
        (ROADSIDE, (), Levels(0.90, 0.029, 0.6, 10)),
        (UTILITY, (), Levels(0.75, 0.078, 0.4, 23)),
        (BANK, (Incident(0, agents=-1),), Levels(0.70, 0.090, 0.34, 27)),
        (BANK, (Incident(0, agents=-2),), Levels(0.53, 0.150, 0.22, 51)),
    ],
    ids=["bank", "webshop", "roadside", "utility", "bank, one agent short", "bank, two agents short"],
)
def test_a_centre_keeps_the_levels_of_the_model(
    centre: Centre, incidents: tuple[Incident, ...], expected: Levels
) -> None:
    """Half a year comes near the table's service level, abandonment, early part and mean wait."""
    measured = levels(centre, 7 * 26, incidents)
    assert measured.service == pytest.approx(expected.service, abs=0.03)
    assert measured.abandoned == pytest.approx(expected.abandoned, abs=0.005 + 0.1 * expected.abandoned)
    assert measured.early == pytest.approx(expected.early, abs=0.08)
    assert measured.asa_s == pytest.approx(expected.asa_s, abs=0.1 * expected.asa_s + 1)


def test_half_hours_vary_more_than_chance_alone() -> None:
    """The calls of the bank's busy half hours have 1.7 times the variance of Poisson ones."""
    per_slot = []
    flat = replace(BANK, weekdays=(1,) * 7, weights=(1.16,) * 18, base=40 * 18, season=lambda _day, _hour: 1)
    flat = replace(flat, projects=flat.projects[:2])
    for number in range(150):
        day = MONDAY + timedelta(days=number)
        opening = day_start(day, BANK.zone) + 9 * 3600
        counts = Counter(int((call.set_up - opening) // 1800) for call in calls_of_day(flat, day, 1))
        per_slot += [counts[slot] for slot in range(1, 17)]
    mean = sum(per_slot) / len(per_slot)
    variance = sum((count - mean) ** 2 for count in per_slot) / len(per_slot)
    assert mean == pytest.approx(40, abs=1.5)
    assert variance / mean == pytest.approx(1.7, abs=0.3)


def test_durations_have_the_mean_and_spread_they_are_given() -> None:
    """A lognormal duration of mean 195 s and cv 1.1 has both."""
    dice = Random(1)
    drawn = [Lognormal(195, 1.1).draw(dice) for _ in range(100_000)]
    mean = sum(drawn) / len(drawn)
    spread = (sum((value - mean) ** 2 for value in drawn) / len(drawn)) ** 0.5
    assert mean == pytest.approx(195, rel=0.02)
    assert spread / mean == pytest.approx(1.1, rel=0.05)


# --- The queue -----------------------------------------------------------------------------------------------


def caller(at: float, *, stays_s: float = 1e6, ring_s: float = 0, talk_s: float = 100, priority: int = 1) -> Caller:
    """Make a caller who lacks only what the test is not about."""
    return Caller(at, stays_s, ring_s, talk_s, 0, priority)


def test_first_come_first_served_and_priority_before_that() -> None:
    """A caller of a priority queue passes the line and interrupts nobody."""
    waiting = [caller(0), caller(1), caller(2), caller(3, priority=0)]
    assert serve(waiting, [(0, 1)]) == [0, 199, 298, 97]


def test_ringing_is_part_of_the_wait_and_holds_the_agent() -> None:
    """Who gives up while it rings is not answered, and frees the agent at that moment."""
    assert serve([caller(0, stays_s=3, ring_s=5), caller(1, ring_s=4)], [(0, 1)]) == [None, 6]


def test_agents_who_leave_finish_their_call_and_those_who_come_take_the_next() -> None:
    """The staff's size counts when a call is taken, not while it lasts."""
    assert serve([caller(0), caller(1), caller(2)], [(0, 2), (50, 0), (150, 1)]) == [0, 0, 148]


def test_who_waits_in_vain_takes_no_agent() -> None:
    """A caller who has given up is passed over."""
    assert serve([caller(0), caller(1, stays_s=10), caller(2)], [(0, 1)]) == [0, None, 98]


# --- Days ----------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_day_and_another_another() -> None:
    """A day is a function of centre, date and seed."""
    day = calls_of_day(BANK, MONDAY, 1)
    assert day == calls_of_day(BANK, MONDAY, 1)
    others = [calls_of_day(BANK, MONDAY, 2), calls_of_day(BANK, MONDAY + timedelta(days=7), 1)]
    assert all({call.set_up for call in other}.isdisjoint(call.set_up for call in day) for other in others)


def test_a_day_is_the_same_in_every_process() -> None:
    """No randomised hash gets into the dice."""
    code = (
        "from datetime import date; from vcc_exporter.simulator.calls import calls_of_day;"
        "from vcc_exporter.simulator.centres import BANK;"
        "print(sum(call.ended for call in calls_of_day(BANK, date(2025, 3, 3), 1)))"
    )
    root = Path(vcc_exporter.__file__).parents[1]
    printed = {
        subprocess.run(  # noqa: S603 - the code is above
            [sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONHASHSEED": seed}, check=True, stdout=-1
        ).stdout
        for seed in ("1", "2")
    }
    assert printed == {f"{sum(call.ended for call in calls_of_day(BANK, MONDAY, 1))}\n".encode()}


@pytest.mark.parametrize("centre", CENTRES, ids=lambda centre: centre.customer)
def test_the_moments_of_a_call_follow_one_another(centre: Centre) -> None:
    """A call's parts add up to its length, and a day's calls come in the order of their ends."""
    day = calls_of_day(centre, MONDAY, 1)
    parts = [call.ended - (call.set_up + call.before_s + call.wait_s + call.talk_s) for call in day]
    assert all(0 <= cut < 3 for cut in parts)
    assert all(earlier.ended <= later.ended for earlier, later in pairwise(day))
    assert all(0 <= call.last_wait_s <= call.wait_s for call in day)


@pytest.mark.parametrize("centre", CENTRES, ids=lambda centre: centre.customer)
def test_every_project_queue_team_and_outcome_has_calls(centre: Centre) -> None:
    """Nothing in the table of centres is there in vain."""
    calls = month(centre)
    queues = {queue.id for project in centre.projects for queue in project.queues}
    assert {call.project for call in calls} == {project.id for project in centre.projects}
    assert {queue for call in calls for queue in call.queues} == queues
    assert {(call.project, call.team) for call in calls} == {(p.id, team) for p in centre.projects for team in p.teams}
    never = {Outcome.REDIRECTED} | ({Outcome.SENT_ELSEWHERE} if centre is ROADSIDE else set())
    assert {call.outcome for call in calls} >= set(Outcome) - never
    assert not any(call.outcome in {Outcome.DROPPED, Outcome.SENT_ELSEWHERE} and call.queues for call in calls)


def test_the_system_sends_on_who_has_waited_as_long_as_one_may() -> None:
    """With hardly an agent there, calls are redirected after the longest wait."""
    calls = calls_of_day(BANK, MONDAY, 1, (Incident(0, agents=-5),))
    waits = {call.wait_s for call in calls if call.outcome is Outcome.REDIRECTED}
    assert waits == {600}


def test_closed_days_have_no_calls() -> None:
    """The bank rests at the weekend."""
    assert calls_of_day(BANK, MONDAY + timedelta(days=5), 1) == calls_of_day(BANK, MONDAY + timedelta(days=6), 1) == ()


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Helsinki", date(2025, 10, 26), 25),
        ("Europe/Helsinki", date(2025, 3, 30), 23),
        ("Africa/Cairo", date(2025, 4, 25), 23),
        ("America/Havana", date(2025, 11, 2), 25),
        ("Australia/Lord_Howe", date(2025, 4, 6), 24.5),
        ("Asia/Kathmandu", date(2025, 4, 6), 24),
    ],
)
def test_a_day_lasts_as_long_as_its_zone_says(zone: str, day: date, hours: float) -> None:
    """Calls fill a day of any length, also where midnight is missing or comes twice, and lie on its date."""
    busy = replace(ROADSIDE, zone=zone, base=10_000, weights=(1.0,) * 48)
    start = day_start(day, zone)
    moments = sorted(call.set_up for call in calls_of_day(busy, day, 1))
    assert {datetime.fromtimestamp(at, ZoneInfo(zone)).date() for at in moments} == {day}
    assert {int((at - start) // 1800) for at in moments} == set(range(int(hours * 2)))


@pytest.mark.parametrize("day", [date(2025, 3, 28), date(2025, 3, 31)])
def test_opening_hours_are_those_of_the_wall_clock(day: date) -> None:
    """The bank opens at nine in winter and in summer."""
    hours = {datetime.fromtimestamp(c.set_up, ZoneInfo(BANK.zone)).hour for c in calls_of_day(BANK, day, 1)}
    assert hours == set(range(9, 18))


@pytest.mark.parametrize(
    ("centre", "day", "hour", "factor"),
    [
        (BANK, date(2025, 3, 10), 9, 1.15),
        (BANK, date(2025, 3, 11), 9, 1),
        (BANK, date(2025, 5, 2), 9, 1.15),
        (WEBSHOP, date(2025, 11, 27), 9, 1),
        (WEBSHOP, date(2025, 11, 28), 9, 1.6),
        (WEBSHOP, date(2025, 12, 20), 9, 1.6),
        (WEBSHOP, date(2025, 12, 21), 9, 1),
        (ROADSIDE, date(2025, 7, 1), 7, 1),
        (UTILITY, date(2025, 7, 15), 9, 1.2),
        (UTILITY, date(2025, 7, 16), 9, 1),
    ],
)
def test_seasons(centre: Centre, day: date, hour: int, factor: float) -> None:
    """Each centre has its busy days."""
    assert centre.season(day, hour) == factor


def test_frost_makes_some_winter_mornings_busy() -> None:
    """Roadside assistance has about fifteen frosty days a winter, in the morning only."""
    winter = [date(2024, 12, 1) + timedelta(days=number) for number in range(90)]
    assert 5 <= sum(ROADSIDE.season(day, 7) == 2.5 for day in winter) <= 30
    assert {ROADSIDE.season(day, 12) for day in winter} == {1}


def test_one_of_the_demo_s_centres_is_busy_at_every_hour_of_a_week() -> None:
    """In each hour of a week calls end somewhere, also while only America has summer time."""
    first = date(2025, 3, 9)
    ends = Counter(
        int(call.ended // 3600)
        for centre in CENTRES
        for number in range(9)
        for call in calls_of_day(centre, first + timedelta(days=number), 1)
    )
    monday = int(datetime(2025, 3, 10, tzinfo=UTC).timestamp() // 3600)
    assert min(ends[hour] for hour in range(monday, monday + 7 * 24)) >= 2


# --- Incidents -----------------------------------------------------------------------------------------------

ELEVEN = day_start(MONDAY, BANK.zone) + 11 * 3600
NOON = ELEVEN + 3600


@pytest.mark.parametrize("what", [{"agents": -3}, {"arrivals": 0}, {"arrivals": 4}])
def test_an_incident_leaves_alone_what_had_ended(what: dict[str, int]) -> None:
    """Neither its beginning nor its end changes a call that was in the statistics by then."""
    normal = calls_of_day(BANK, MONDAY, 1)
    going_on = calls_of_day(BANK, MONDAY, 1, (Incident(ELEVEN, **what),))
    over = calls_of_day(BANK, MONDAY, 1, (Incident(ELEVEN, NOON, **what),))
    assert [c for c in going_on if c.ended < ELEVEN] == [c for c in normal if c.ended < ELEVEN]
    assert [c for c in over if c.ended < NOON] == [c for c in going_on if c.ended < NOON]
    assert going_on != normal
    assert over != going_on


@pytest.mark.parametrize(("factor", "least", "most"), [(0, 0, 0), (3, 2.5, 3.5), (0.5, 0.3, 0.7)])
def test_an_incident_changes_how_many_call(factor: float, least: float, most: float) -> None:
    """Between its moments that many times as many calls come in, afterwards as many as ever."""
    normal = calls_of_day(BANK, MONDAY, 1)
    incident = Incident(ELEVEN, NOON + 3600, arrivals=factor)
    changed = calls_of_day(BANK, MONDAY, 1, (incident,))
    usual = sum(incident.covers(call.set_up) for call in normal)
    assert least * usual <= sum(incident.covers(call.set_up) for call in changed) <= most * usual
    after = [sorted(c.set_up for c in calls if c.set_up >= incident.until) for calls in (normal, changed)]
    assert after[0] == after[1]


# --- Statistics ----------------------------------------------------------------------------------------------


def test_every_documented_statistic_is_measured() -> None:
    """The table of measures has the vocabulary's names, and no others."""
    assert list(MEASURES) == [statistic.name for statistic in STATISTICS]


@cache
def month(centre: Centre = WEBSHOP) -> tuple[Call, ...]:
    """Give the calls of March."""
    return tuple(call for number in range(31) for call in calls_of_day(centre, date(2025, 3, 1 + number), 1))


def queued_call(outcome: Outcome, wait_s: int, last_wait_s: int | None = None) -> Call:
    """Make a call in one queue, or in two where `last_wait_s` says how long it waited in the second."""
    last = wait_s if last_wait_s is None else last_wait_s
    queues = (1,) if last_wait_s is None else (1, 2)
    return Call(MONDAY, 9, queues, 1, outcome, 0.0, 0, wait_s, last, 100, 0.0)


queued_calls = st.builds(
    queued_call,
    st.sampled_from([Outcome.ANSWERED, Outcome.ABANDONED, Outcome.REDIRECTED]),
    st.integers(60, 1200) | st.integers(0, 60),
    st.none(),
)


@given(calls=st.lists(queued_calls, min_size=1), sla_s=st.integers(5, 600))
def test_the_readings_of_the_service_level_keep_their_order(calls: list[Call], sla_s: int) -> None:
    """V1 <= V2 <= V3 <= V4 and V3 <= V5, as long as the threshold is not under five seconds."""
    [row] = rows(calls, [], sla_s)
    good, answered = row["answered_before"], row["answered_before"] + row["answered_after"]
    before, left = row["abort_in_queue_before"], row["abort_in_queue_before"] + row["abort_in_queue_after"]
    offered = answered + left
    parts = [(good, offered), (good, offered - row["aiqe"]), (good, offered - before), (good + before, offered)]
    *levels_, v5 = [above / below for above, below in [*parts, (good, answered)] if answered] or [0]
    assert levels_ == sorted(levels_)
    assert not answered or levels_[2] <= v5


@given(calls=st.lists(queued_calls, min_size=1), sla_s=st.integers(0, 600), step=st.integers(1, 600))
def test_a_longer_threshold_moves_calls_from_after_to_before(calls: list[Call], sla_s: int, step: int) -> None:
    """A and B do not depend on the threshold; what is before it never falls as it grows."""
    [short], [long] = rows(calls, [], sla_s), rows(calls, [], sla_s + step)
    for before, after in (
        ("answered_before", "answered_after"),
        ("abort_in_queue_before", "abort_in_queue_after"),
        ("lab", "laa"),
        ("laiqb", "laiqa"),
    ):
        assert short[before] + short[after] == long[before] + long[after]
        assert short[before] <= long[before]
    split = {"answered_before", "answered_after", "abort_in_queue_before", "abort_in_queue_after"}
    split |= {"lab", "laa", "laiqb", "laiqa"}
    assert {k: v for k, v in short.items() if k not in split} == {k: v for k, v in long.items() if k not in split}


@given(calls=st.lists(queued_calls, min_size=1), sla_s=st.integers(5, 600))
def test_the_sum_of_waits_fits_the_split(calls: list[Call], sla_s: int) -> None:
    """Early is within before; late waits are at least the threshold each, the others less."""
    [row] = rows(calls, [], sla_s)
    assert row["aiqe"] <= row["abort_in_queue_before"]
    assert row["queue_time"] >= sla_s * row["answered_after"]
    if row["answered_before"] and not row["answered_after"]:
        assert row["queue_time"] < sla_s * row["answered_before"]


def test_at_five_seconds_before_is_early() -> None:
    """With a threshold of five seconds who gives up before it is who gives up early."""
    for row in rows(month(), ["queue", "date"], 5):
        assert row["abort_in_queue_before"] == row["aiqe"]


@pytest.mark.parametrize(("wait_s", "before", "after"), [(29, 1, 0), (30, 0, 1), (31, 0, 1)])
@pytest.mark.parametrize(
    ("outcome", "keys"),
    [
        (Outcome.ANSWERED, ("answered_before", "answered_after")),
        (Outcome.ABANDONED, ("abort_in_queue_before", "abort_in_queue_after")),
    ],
)
def test_exactly_the_threshold_is_late(
    outcome: Outcome, keys: tuple[str, str], wait_s: int, before: int, after: int
) -> None:
    """A wait of 30 s is not before a threshold of 30 s."""
    [row] = rows([queued_call(outcome, wait_s)], [], 30)
    assert (row[keys[0]], row[keys[1]]) == (before, after)


@pytest.mark.parametrize(("wait_s", "early"), [(4, 1), (5, 0)])
def test_early_is_under_five_seconds_whatever_the_threshold(wait_s: int, early: int) -> None:
    """Early does not move with the threshold."""
    for sla_s in (1, 5, 30):
        [row] = rows([queued_call(Outcome.ABANDONED, wait_s)], [], sla_s)
        assert (row["aiqe"], row["laiqe"]) == (early, early)


def test_a_call_of_two_queues_has_two_clocks() -> None:
    """60 s in one queue and 15 s in the next are late by the whole wait, and in time by the last."""
    [row] = rows([queued_call(Outcome.ANSWERED, 75, 15)], ["queue"], 30)
    assert row == {"queueid": 2} | dict.fromkeys((s.key for s in STATISTICS), 0) | {
        "answered_after": 1,
        "queue_time": 75,
        "lab": 1,
        "lqt": 15,
        "talk_time": 100,
    }


def test_only_an_overflow_makes_the_last_queue_differ() -> None:
    """With one queue a call every last_* equals its twin; in the row of an overflow queue it does not."""
    twins = {"lab": "answered_before", "laa": "answered_after", "laiqb": "abort_in_queue_before"}
    twins |= {"laiqa": "abort_in_queue_after", "laiqe": "aiqe", "lqt": "queue_time"}
    for row in rows(month(), ["queue"], 20):
        same = {key: row[key] == row[twin] for key, twin in twins.items()}
        assert all(same.values()) is (row["queueid"] != 2102)
        if row["queueid"] == 2102:
            assert row["lqt"] < row["queue_time"]
            assert row["answered_before"] == 0
            assert row["lab"] > 0


def test_over_a_project_the_last_answered_add_up_to_the_answered() -> None:
    """Every call counts in last_*, with one queue, two or none."""
    for centre in CENTRES:
        for row in rows(month(centre), ["project"], 20):
            assert row["lab"] + row["laa"] == row["answered_before"] + row["answered_after"]


@pytest.mark.parametrize("sla_s", [0, 30])
def test_the_row_without_a_queue_has_no_wait(sla_s: int) -> None:
    """Row -1 has no queue_time and no abort_in_queue_*, and its answered calls are all in time."""
    found = [row for row in rows(month(BANK), ["project", "queue"], sla_s) if row["queueid"] == NO_QUEUE]
    zeros = ["answered_after", "abort_in_queue_before", "abort_in_queue_after", "aiqe", "aqr", "queue_time", "lqt"]
    zeros += ["laa", "laiqb", "laiqa", "laiqe", "queue_time_without_talktime", "abort_case_queue_time"]
    assert [row["projectid"] for row in found] == [101, 102, 103]
    assert not any(row[key] for row in found for key in zeros)
    assert min(found[0]["abort_before_queue"], found[0]["bqr"], found[2]["answered_before"]) > 0
    assert found[2]["time_before_queue"] == 0


def test_dropped_and_redirected_calls_are_only_in_the_row_without_a_queue() -> None:
    """What ended before a queue is in none."""
    for row in rows(month(UTILITY), ["queue"], 30):
        assert row["queueid"] == NO_QUEUE or row["abort_before_queue"] == row["bqr"] == 0


@pytest.mark.parametrize(
    "dimensions", [["project"], ["queue"], ["date"], ["project", "queue"], ["queue", "date", "project"]]
)
def test_the_rows_of_any_dimensions_add_up_to_the_whole(dimensions: list[str]) -> None:
    """Counts and sums do not depend on how the calls are cut."""
    [whole] = rows(month(), [], 20)
    cut = rows(month(), dimensions, 20)
    assert {key: sum(row[key] for row in cut) for key in ADDITIVE} == {key: whole[key] for key in ADDITIVE}
    ids = [tuple(row[DIMENSIONS[name][0]] for name in dimensions) for row in cut]
    assert len(ids) == len(set(ids)) > 1


def test_averages_are_over_the_calls_they_are_about() -> None:
    """Both averages of waits in vain leave out the answered; only one has those whom the system sent on."""
    calls = [
        queued_call(Outcome.ANSWERED, 90),
        queued_call(Outcome.ABANDONED, 10),
        queued_call(Outcome.ABANDONED, 21),
        queued_call(Outcome.REDIRECTED, 600),
    ]
    calls = [replace(call, before_s=seconds) for call, seconds in zip(calls, (1, 2, 3, 8), strict=True)]
    desk = replace(calls[0], queues=(), wait_s=0, last_wait_s=0, before_s=0)
    [row] = rows([*calls, desk], [], 30)
    assert row["abort_case_queue_time"] == 16
    assert row["queue_time_without_talktime"] == 210
    assert row["time_before_queue"] == 4
    assert (row["queue_time"], row["talk_time"], row["aqr"]) == (90, 500, 1)


def test_no_calls_give_no_rows() -> None:
    """A row stands only for a combination that has calls."""
    assert rows([], ["project"], 30) == rows([], [], 30) == []


def test_ringing_takes_as_long_as_documented() -> None:
    """Where an agent is free nobody waits less than one second or more than five."""
    quiet = replace(BANK, base=5, agents=(50,) * 18)
    calls = [call for number in range(60) for call in calls_of_day(quiet, MONDAY + timedelta(days=number), 1)]
    assert {call.wait_s for call in calls if call.queues and call.outcome is Outcome.ANSWERED} == {1, 2, 3, 4}
