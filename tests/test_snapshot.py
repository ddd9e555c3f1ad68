"""What may be said of a customer's day, sentence by sentence of the contract's section 6, and a walk through years."""
# ruff: noqa: S311 - reproducible dice, no secrets

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import SetClock, make_customer, statistics_body

from vcc_exporter.answer import Answer, Pair, Rejection, Scope, read_statistics
from vcc_exporter.config import Customer
from vcc_exporter.schedule import place
from vcc_exporter.snapshot import (
    CustomerState,
    Known,
    Moment,
    Snapshot,
    View,
    view,
    wants_lookback,
    wants_names,
    with_answer,
    with_failure,
    with_lookback,
    with_names,
    with_settings,
)
from vcc_exporter.vocabulary import STATISTICS, Result

BUDAPEST: Final = ZoneInfo("Europe/Budapest")
UNHURRIED: Final = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""No test depends on the machine's speed."""
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
NOON: Final = datetime(2026, 3, 11, 11, 0, tzinfo=UTC)
"""In Budapest, a Wednesday."""
MIDNIGHT: Final = datetime(2026, 3, 11, 23, 0, tzinfo=UTC)
"""The end of that day there."""


def today(customer: Customer, clock: SetClock) -> date:
    """Return the date that the customer's calendar shows."""
    return clock.wall.astimezone(customer.zone).date()


def same_values(value: float) -> tuple[float, ...]:
    """Return a row in which every statistic has one value."""
    return (value,) * len(STATISTICS)


def answer(values: Mapping[Pair, float], rejected: Iterable[Pair] = ()) -> Answer:
    """Return an answer in which all statistics of a pair have one value."""
    return Answer(
        {pair: same_values(value) for pair, value in values.items()},
        frozenset(rejected),
        tuple(Rejection("a cause", "an example") for _ in rejected),
    )


def polled(state: CustomerState, clock: SetClock, found: Answer) -> CustomerState:
    """Return the state after a good poll that took no time."""
    return with_answer(state, today(state.customer, clock), found, clock.moment(), 0.0)


def shown(state: CustomerState, clock: SetClock) -> dict[Pair, float | None]:
    """Return what is shown for each pair, of which all statistics are the same."""
    rows = view(state, clock.moment()).rows
    assert all(len(set(row.values)) == 1 for row in rows)
    return {(int(row.project), int(row.queue)): row.values[0] for row in rows}


def instant(text: str) -> datetime:
    """Read an instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- 6.1 Today -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "day", "start", "hours"),
    [
        ("Europe/Budapest", "2026-03-11", "2026-03-10 23:00", 24),
        ("Europe/Budapest", "2026-03-29", "2026-03-28 23:00", 23),
        ("Europe/Budapest", "2026-10-25", "2026-10-24 22:00", 25),
        ("Asia/Kolkata", "2026-03-11", "2026-03-10 18:30", 24),
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04 03:00", 23),  # 00:00 does not exist
        ("America/Sao_Paulo", "2018-02-17", "2018-02-17 02:00", 25),  # 23:00 to 24:00 comes twice
        ("Africa/Cairo", "2026-04-24", "2026-04-23 22:00", 23),  # 00:00 does not exist
        ("America/Havana", "2026-03-08", "2026-03-08 05:00", 23),  # 00:00 does not exist
        ("America/Havana", "2026-11-01", "2026-11-01 04:00", 25),  # 00:00 comes twice, the first counts
        ("Pacific/Apia", "2011-12-29", "2011-12-29 10:00", 24),
        ("Pacific/Apia", "2011-12-31", "2011-12-30 10:00", 24),  # the 30th was left out
    ],
)
def test_a_day_begins_at_the_first_instant_of_its_date_and_lasts_until_the_next_one(
    zone: str, day: str, start: str, hours: int
) -> None:
    """Values show from a date's first to its last instant, which begin at day_start, however long that is."""
    customer, clock = make_customer(timezone=zone, poll={"stale_after": "30h"}), SetClock(instant(start))
    assert today(customer, clock) == date.fromisoformat(day)
    state = polled(CustomerState(customer), clock, answer({(1, 2): 5.0}))
    assert view(state, clock.moment()).day_start == instant(start)
    clock.advance(hours * HOUR - SECOND)
    last = view(state, clock.moment())
    assert (last.day_start, len(last.rows)) == (instant(start), 1)
    clock.advance(SECOND)
    assert view(state, clock.moment()).rows == ()
    clock.wall = instant(start) - SECOND
    assert view(state, clock.moment()).rows == ()


def test_today_is_found_anew_at_each_poll() -> None:
    """Two polls around a midnight belong to two days, each with its own start."""
    clock, state = SetClock(MIDNIGHT - SECOND), CustomerState(make_customer())
    for day_start in (MIDNIGHT - DAY, MIDNIGHT):
        state = polled(state, clock, answer({(1, 2): 5.0}))
        assert view(state, clock.moment()).day_start == day_start
        clock.advance(SECOND)


# --- 6.2 No lie about the day ----------------------------------------------------------------------------------------


def test_from_midnight_to_the_first_good_poll_there_are_no_data() -> None:
    """At midnight all values go, failed polls bring none back, and the first good one shows the new day's."""
    clock, state = SetClock(MIDNIGHT - SECOND), CustomerState(make_customer())
    state = polled(state, clock, answer({(1, 2): 500.0}))
    assert shown(state, clock) == {(1, 2): 500.0}
    clock.advance(SECOND)
    gone = view(state, clock.moment())
    assert (gone.rows, gone.day_start, gone.up) == ((), None, False)
    clock.advance(SECOND)
    state = with_failure(state, Result.SERVER_ERROR, "HTTP 500", 0.1)
    assert shown(state, clock) == {}
    clock.advance(SECOND)
    state = polled(state, clock, answer({}))
    assert shown(state, clock) == {(1, 2): 0.0}


def test_an_answer_that_arrives_after_its_day_counts_and_shows_nothing() -> None:
    """A poll asked before midnight and answered after it is a success in the counters and no value on the page."""
    clock, state = SetClock(MIDNIGHT - SECOND), CustomerState(make_customer())
    asked = today(state.customer, clock)
    clock.advance(2 * SECOND)
    late = Answer({(1, 2): same_values(500.0)}, frozenset({(1, 3)}), (Rejection("a cause", "an example"),))
    state = with_answer(state, asked, late, clock.moment(), 2.0)
    said = view(state, clock.moment())
    assert (said.rows, said.day_start, said.up, said.projects) == ((), None, False, ())
    assert (state.polls[Result.SUCCESS], state.poll_seconds, state.last_result) == (1, 2.0, Result.SUCCESS)
    assert (state.last_success, state.rows, state.rejected_rows) == (clock.wall, 2, 1)


def test_an_answer_about_tomorrow_shows_nothing() -> None:
    """An answer asked while the clock was a day ahead is dropped where the clock is right again."""
    clock, state = SetClock(NOON), CustomerState(make_customer())
    state = with_answer(state, today(state.customer, clock) + DAY, answer({(1, 2): 1.0}), clock.moment(), 0.1)
    assert shown(state, clock) == {}
    assert state.polls[Result.SUCCESS] == 1


def test_values_asked_while_the_clock_was_ahead_are_not_the_present_days() -> None:
    """Values of tomorrow, stored while the clock was ahead, are hidden today, and no view outlasts that."""
    clock, state = SetClock(MIDNIGHT + SECOND), CustomerState(make_customer())
    state = polled(state, clock, answer({(1, 2): 1.0}))
    clock.jump(-MINUTE)
    said = view(state, clock.moment())
    assert said.rows == ()
    clock.advance(MINUTE)
    assert said.holds(clock.moment()) == (view(state, clock.moment()).rows == said.rows)


# --- 6.3 Zero is data ------------------------------------------------------------------------------------------------


def test_a_known_pair_is_zero_where_the_answer_has_no_row_of_it() -> None:
    """Pairs of the lookback, of an earlier answer of the day and of `queues` have all statistics at 0."""
    customer = make_customer(projects=[{"id": 3, "queues": {"7": "Hotline"}}], other_projects=True)
    clock, state = SetClock(NOON), CustomerState(customer)
    state = with_lookback(state, today(customer, clock), frozenset({(1, 1)}), clock.wall)
    state = polled(state, clock, answer({(2, 2): 5.0}))
    assert shown(state, clock) == {(1, 1): 0.0, (2, 2): 5.0, (3, 7): 0.0}
    state = polled(state, clock, answer({}))
    assert shown(state, clock) == {(1, 1): 0.0, (2, 2): 0.0, (3, 7): 0.0}


def test_zeros_show_only_with_a_good_answer() -> None:
    """A known pair has no false 0 before the day's first good answer."""
    customer = make_customer(projects=[{"id": 3, "queues": {"7": "Hotline"}}])
    clock, state = SetClock(NOON), CustomerState(customer)
    assert shown(with_failure(state, Result.TIMEOUT, "", 0.1), clock) == {}


def test_a_row_of_the_same_day_makes_a_pair_known_across_the_midnight() -> None:
    """What was seen yesterday is 0 today until a lookback answers."""
    clock, state = SetClock(NOON), CustomerState(make_customer())
    state = polled(state, clock, answer({(1, 1): 4.0}))
    clock.advance(DAY)
    state = polled(state, clock, answer({(2, 2): 5.0}))
    assert shown(state, clock) == {(1, 1): 0.0, (2, 2): 5.0}


def test_a_new_lookback_replaces_what_was_known_before_at_once() -> None:
    """A lookback counts with its answer, not with the next poll: pairs without a row in it go, new ones are 0."""
    clock, state = SetClock(NOON), CustomerState(make_customer())
    state = polled(state, clock, answer({(1, 1): 4.0}))
    clock.advance(DAY)
    state = polled(state, clock, answer({(2, 2): 5.0}))
    state = with_lookback(state, today(state.customer, clock), frozenset({(3, 3)}), clock.wall)
    assert shown(state, clock) == {(2, 2): 5.0, (3, 3): 0.0}


@pytest.mark.parametrize("order", ["lookback first", "poll first"])
def test_it_does_not_matter_whether_the_lookback_or_the_poll_is_first_after_midnight(order: str) -> None:
    """In either order the known pairs are those of the lookback and of today."""
    clock, state = SetClock(NOON), CustomerState(make_customer())
    state = polled(state, clock, answer({(1, 1): 4.0}))
    clock.advance(DAY)
    day, learnt = today(state.customer, clock), frozenset({(3, 3)})
    if order == "lookback first":
        state = with_lookback(state, day, learnt, clock.wall)
    state = polled(state, clock, answer({(2, 2): 5.0}))
    if order == "poll first":
        state = with_lookback(state, day, learnt, clock.wall)
    assert shown(state, clock) == {(2, 2): 5.0, (3, 3): 0.0}


@pytest.mark.parametrize("outcome", ["failed", "late"])
def test_the_set_known_before_stays_until_a_new_lookback_has_answered(outcome: str) -> None:
    """A lookback that fails, or that answers when its day is over, takes nothing away and adds nothing."""
    clock, state = SetClock(NOON), CustomerState(make_customer())
    day = today(state.customer, clock)
    state = with_lookback(state, day, frozenset({(9, 9)}), clock.wall)
    state = polled(state, clock, answer({(1, 1): 4.0}))
    clock.advance(DAY)
    pairs = None if outcome == "failed" else frozenset({(3, 3)})
    state = with_lookback(state, day + DAY if outcome == "failed" else day, pairs, clock.wall)
    state = polled(state, clock, answer({(2, 2): 5.0}))
    assert shown(state, clock) == {(1, 1): 0.0, (2, 2): 5.0, (9, 9): 0.0}


def test_without_lookback_what_was_seen_stays_known() -> None:
    """With lookback 0 a pair seen once is 0 on every later day."""
    clock, state = SetClock(NOON), CustomerState(make_customer(poll={"lookback": "0"}))
    for queue in range(40):
        state = polled(state, clock, answer({(1, queue): 4.0}))
        clock.advance(DAY)
    assert not wants_lookback(state, clock.wall)
    state = polled(state, clock, answer({}))
    assert shown(state, clock) == {(1, queue): 0.0 for queue in range(40)}


_PAIRS: Final = st.frozensets(st.sampled_from([(1, -1), (1, 5), (2, 5), (3, 7)]))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["poll", "lookback", "late lookback"]), _PAIRS),
            st.tuples(st.sampled_from(["midnight", "failed poll", "failed lookback"]), st.just(frozenset[Pair]())),
        ),
        max_size=25,
    )
)
@UNHURRIED
def test_known_is_what_the_contract_says_after_any_history(events: list[tuple[str, frozenset[Pair]]]) -> None:
    """Known are today's rows, `queues`, and the pairs of today's lookback or else what was known before."""
    customer = make_customer_with_queue()
    clock, state = SetClock(NOON), CustomerState(customer)
    before, rows, looked = frozenset[Pair](), frozenset[Pair](), None
    for kind, pairs in events:
        day = today(customer, clock)
        if kind == "midnight":
            clock.advance(DAY)
            before, rows, looked = (before if looked is None else looked) | rows, frozenset(), None
        elif kind == "poll":
            state = polled(state, clock, answer(dict.fromkeys(pairs, 8.0)))
            rows |= pairs
        elif kind == "failed poll":
            state = with_failure(state, Result.TIMEOUT, "", 0.1)
        elif kind == "lookback":
            state = with_lookback(state, day, pairs, clock.wall)
            looked = pairs
        else:
            late = day - DAY if kind == "late lookback" else day
            state = with_lookback(state, late, pairs if kind == "late lookback" else None, clock.wall)
        known = (before if looked is None else looked) | rows | {(3, 9)}
        said = view(state, clock.moment())
        assert [p.project for p in said.projects] == [str(p) for p in sorted({p for p, _ in known})]
        if kind == "poll":
            assert shown(state, clock) == {pair: 8.0 if pair in pairs else 0.0 for pair in known}


@cache
def make_customer_with_queue() -> Customer:
    """Return a customer whose config names the pair (3, 9)."""
    return make_customer(projects=[{"id": 3, "queues": {"9": "Hotline"}}], other_projects=True)


# --- 6.4 Old is not new ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("poll", "lifetime"),
    [
        ({}, 5 * MINUTE),
        ({"interval": "30s"}, 5 * MINUTE),
        ({"interval": "10m"}, 30 * MINUTE),
        ({"interval": "1m", "stale_after": "90s"}, 90 * SECOND),
    ],
)
def test_values_live_until_stale_after_the_last_good_answer(poll: dict[str, str], lifetime: timedelta) -> None:
    """At stale_after past the last good answer the data are gone and vcc_up is 0; the rest stays."""
    clock, state = SetClock(NOON), CustomerState(make_customer(poll=poll))
    state = polled(state, clock, answer({(1, 1): 4.0}))
    assert state.last_success == clock.wall
    clock.advance(lifetime - SECOND)
    assert shown(state, clock) == {(1, 1): 4.0}
    clock.advance(SECOND)
    said = view(state, clock.moment())
    assert (said.rows, said.day_start, said.up) == ((), None, False)
    assert [p.project for p in said.projects] == ["1"]
    assert said.state is state


def test_a_failed_poll_leaves_the_values_until_they_are_stale() -> None:
    """While values are shown after a failed poll vcc_up is 0; the failure does not lengthen their life."""
    clock, state = SetClock(NOON), CustomerState(make_customer())
    state = polled(state, clock, answer({(1, 1): 4.0}))
    assert view(state, clock.moment()).up
    clock.advance(5 * MINUTE - SECOND)
    state = with_failure(state, Result.RATE_LIMITED, "HTTP 429", 0.5)
    said = view(state, clock.moment())
    assert (len(said.rows), said.up) == (1, False)
    assert (state.last_error, state.last_result, state.poll_seconds) == ("HTTP 429", Result.RATE_LIMITED, 0.5)
    clock.advance(SECOND)
    assert shown(state, clock) == {}


@pytest.mark.parametrize(
    ("schedule", "at", "due"),
    [
        ("* * * * *", "2026-03-11 11:00:55", "2026-03-11 11:01"),
        ("0 8-20 * * *", "2026-03-11 11:00:55", "2026-03-11 12:00"),  # Budapest is at UTC+1
        ("0 8,18 * * *", "2026-03-11 07:00:55", "2026-03-11 17:00"),
    ],
)
def test_with_a_schedule_values_live_past_the_next_due_time(schedule: str, at: str, due: str) -> None:
    """With a schedule the time to staleness begins at the first due time after the last good poll."""
    customer = make_customer(schedule=schedule, poll={"stale_after": "2m"})
    clock = SetClock(instant(at))
    state = polled(CustomerState(customer), clock, answer({(1, 1): 4.0}))
    shift = 50 * SECOND * place(customer.name)
    clock.advance(instant(due) + shift + 2 * MINUTE - SECOND - clock.wall)
    assert shown(state, clock) == {(1, 1): 4.0}
    clock.advance(SECOND)
    assert shown(state, clock) == {}


@pytest.mark.parametrize("schedule", ["0 8,18 * * *", "0 8 * * mon"])
def test_with_a_schedule_values_live_until_midnight_at_most(schedule: str) -> None:
    """However far the next due time is, at midnight the day's values are gone."""
    clock, state = SetClock(MIDNIGHT - HOUR), CustomerState(make_customer(schedule=schedule))
    state = polled(state, clock, answer({(1, 1): 4.0}))
    clock.advance(HOUR - SECOND)
    assert shown(state, clock) == {(1, 1): 4.0}
    clock.advance(SECOND)
    assert shown(state, clock) == {}


@pytest.mark.parametrize("keys", [{}, {"schedule": "* * * * *", "poll": {"stale_after": "5m"}}])
def test_a_wall_clock_that_is_put_back_does_not_lengthen_the_life_of_values(keys: dict[str, Any]) -> None:
    """Staleness counts on the clock that never jumps, too."""
    clock, state = SetClock(NOON), CustomerState(make_customer(**keys))
    state = polled(state, clock, answer({(1, 1): 4.0}))
    clock.jump(-HOUR)
    assert shown(state, clock) == {(1, 1): 4.0}
    said = view(state, clock.moment())
    clock.advance(7 * MINUTE)
    assert clock.wall < NOON
    assert not said.holds(clock.moment())
    assert shown(state, clock) == {}


def test_a_wall_clock_that_is_put_forward_ends_the_values() -> None:
    """Where the wall clock says that values are too old, they are not shown."""
    clock, state = SetClock(NOON), CustomerState(make_customer())
    state = polled(state, clock, answer({(1, 1): 4.0}))
    clock.jump(5 * MINUTE)
    assert shown(state, clock) == {}


# --- 6.5 All or nothing ----------------------------------------------------------------------------------------------


def test_a_good_answer_replaces_the_one_before_whole() -> None:
    """Nothing of an earlier answer is left beside a later one, not a value and not a rejection."""
    clock, state = SetClock(NOON), CustomerState(make_customer())
    state = polled(state, clock, answer({(1, 1): 4.0, (1, 2): 4.0}, rejected=[(1, 3)]))
    before = view(state, clock.moment())
    state = polled(state, clock, answer({(1, 1): 3.0, (1, 3): 3.0}, rejected=[(1, 2)]))
    assert shown(state, clock) == {(1, 1): 3.0, (1, 3): 3.0}
    assert {row.values for row in before.rows} == {same_values(4.0)}


def test_what_is_the_same_in_the_next_answer_stands_in_memory_once() -> None:
    """Pairs and values of an answer that says the same are those from before; and so are the texts of rows' ids."""
    clock, pairs = SetClock(NOON), [(1234, 5678), (1234, 6789)]
    states = [CustomerState(make_customer())]
    for last in (4.0, 4.0, 5.0):
        # As of another answer: none of its tuples is there already.
        states.append(polled(states[-1], clock, answer({(int(f"{p}"), int(f"{q}")): last for p, q in pairs})))
    first, same, other = (state.snapshot.values for state in states[1:] if state.snapshot)
    assert (list(first), list(same), list(other)) == (pairs, pairs, pairs)
    assert all(a is b is c for a, b, c in zip(first, same, other, strict=True))
    assert all(same[pair] is first[pair] for pair in pairs)
    assert set(other.values()) == {same_values(5.0)}
    one, two = view(states[-1], clock.moment()).rows
    assert one.project is two.project is one.project_name
    assert one.queue is one.queue_name


def test_a_transition_leaves_the_state_before_as_it_was() -> None:
    """A state is immutable: a reader that holds one sees no change of it."""
    clock, state = SetClock(NOON), CustomerState(make_customer())
    with_failure(state, Result.TIMEOUT, "no answer", 3.0)
    polled(state, clock, answer({(1, 1): 4.0}))
    assert state == CustomerState(state.customer)
    assert set(state.polls.values()) == {0}


# --- 6.6 Bad rows do not hide good ones ------------------------------------------------------------------------------


def row(queue: int, **values: Any) -> dict[str, Any]:
    """Return a row of project 1 as the API sends it, with no statistic but those given."""
    return {"projectid": 1, "queueid": queue, **values}


def read(state: CustomerState, clock: SetClock, rows: list[dict[str, Any]], asked: frozenset[int]) -> CustomerState:
    """Return the state after a poll whose answer came as bytes."""
    day = today(state.customer, clock)
    return polled(state, clock, read_statistics(statistics_body(rows, day), day, Scope(asked)))


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(row(2, answered_before="many"), id="no number"),
        pytest.param(row(2, answered_before=True), id="true"),
        pytest.param(row(2, talk_time=math.inf), id="infinite"),
        pytest.param(row(2, date=20250101), id="another date"),
        pytest.param({"projectid": 9, "queueid": 2}, id="a project that was not asked for"),
    ],
)
def test_a_rejected_row_hides_no_good_one_and_shows_no_zero(bad: dict[str, Any]) -> None:
    """A pair of which only a rejected row came has no series although it is known and named; the others have."""
    projects = [{"id": project, "queues": {"2": "Two", "3": "Three"}} for project in (1, 9)]
    clock, state = SetClock(NOON), CustomerState(make_customer(projects=projects))
    state = read(state, clock, [row(5, answered_before=7), bad], frozenset({1}))
    hidden = (bad["projectid"], bad["queueid"])
    pairs = {(int(r.project), int(r.queue)) for r in view(state, clock.moment()).rows}
    assert pairs == {(1, 5), (1, 2), (1, 3), (9, 2), (9, 3)} - {hidden}
    assert (state.rows, state.rejected_rows) == (2, 1)
    assert view(state, clock.moment()).up
    state = polled(state, clock, answer({(1, 5): 8.0}))
    assert shown(state, clock)[hidden] == 0.0


def test_a_duplicate_of_a_usable_row_is_rejected_and_the_pair_is_shown() -> None:
    """Of two rows of a pair the first one that can be used counts."""
    clock, state = SetClock(NOON), CustomerState(make_customer())
    bad, good, further = row(2, answered_before="?"), row(2, answered_before=7), row(2, answered_before=9)
    state = read(state, clock, [bad, good, further], frozenset())
    (only,) = view(state, clock.moment()).rows
    assert sum(value or 0 for value in only.values) == 7
    assert (state.rows, state.rejected_rows) == (3, 2)


def test_a_statistic_that_a_row_lacks_has_no_value() -> None:
    """Lacking and null are no 0; a number in a string, under either key, is a number."""
    clock, state = SetClock(NOON), CustomerState(make_customer())
    state = read(state, clock, [row(2, answered_before="7", aiqe=2, talk_time=None, unheard_of=1)], frozenset())
    (only,) = view(state, clock.moment()).rows
    found = {s.name: value for s, value in zip(STATISTICS, only.values, strict=True) if value is not None}
    assert found == {"answered_before": 7.0, "abort_in_queue_early": 2.0}


# --- What else a view says -------------------------------------------------------------------------------------------


def test_up_is_said_of_the_last_poll_alone() -> None:
    """vcc_up is 1 exactly while the last poll's own values are shown."""
    clock, state = SetClock(NOON), CustomerState(make_customer())
    assert not state.polled
    assert not view(state, clock.moment()).up
    state = with_failure(state, Result.UNREACHABLE, "refused", 0.1)
    assert state.polled
    assert not view(state, clock.moment()).up
    state = polled(state, clock, answer({}))
    assert view(state, clock.moment()).up
    assert state.last_error == ""


def test_up_is_0_where_the_last_good_polls_values_are_not_those_shown() -> None:
    """An answer about another day leaves the earlier values on the page, with vcc_up at 0."""
    clock, state = SetClock(NOON), CustomerState(make_customer())
    state = polled(state, clock, answer({(1, 1): 4.0}))
    asked = today(state.customer, clock) + DAY
    clock.advance(MINUTE)
    state = with_answer(state, asked, answer({(1, 1): 5.0}), clock.moment(), 0.1)
    assert shown(state, clock) == {(1, 1): 4.0}
    assert not view(state, clock.moment()).up


def test_an_answer_without_rows_is_shown_as_such() -> None:
    """The day's start is said also where the answer had no row and no pair is known."""
    clock, state = SetClock(NOON), CustomerState(make_customer())
    said = view(polled(state, clock, answer({})), clock.moment())
    assert (said.rows, said.day_start, said.up) == ((), MIDNIGHT - DAY, True)


def test_rows_stand_in_the_order_of_their_ids() -> None:
    """The order is that of the numbers, whatever the order of the answer, so that a page does not shuffle."""
    clock, state = SetClock(NOON), CustomerState(make_customer())
    state = polled(state, clock, answer({(10, 2): 1.0, (2, 11): 1.0, (2, -1): 1.0, (2, 3): 1.0}))
    assert list(shown(state, clock)) == [(2, -1), (2, 3), (2, 11), (10, 2)]


def test_names_come_from_the_config_then_the_api_then_the_id() -> None:
    """A project's name is the config's, the API's or its id, a queue's the config's, `no queue` or its id."""
    projects = [{"id": 1, "name": "Ours", "queues": {"5": "Hotline", "-1": "Nowhere"}}, {"id": 2}, {"id": 3}]
    clock, state = SetClock(NOON), CustomerState(make_customer(projects=projects, other_projects=True))
    state = with_names(state, {1: "Theirs", 2: "Two", 4: "Four"}, clock.wall)
    state = polled(state, clock, answer(dict.fromkeys([(1, 5), (1, 6), (1, -1), (2, -1), (3, 5), (4, 5)], 1.0)))
    assert [(r.project, r.project_name, r.queue, r.queue_name) for r in view(state, clock.moment()).rows] == [
        ("1", "Ours", "-1", "Nowhere"),
        ("1", "Ours", "5", "Hotline"),
        ("1", "Ours", "6", "6"),
        ("2", "Two", "-1", "no queue"),
        ("3", "3", "5", "5"),
        ("4", "Four", "5", "5"),
    ]


def test_names_that_could_not_be_had_leave_those_from_before() -> None:
    """A question for names that fails takes no name away."""
    clock, state = SetClock(NOON), CustomerState(make_customer())
    state = with_names(state, {1: "One"}, clock.wall)
    assert with_names(state, None, clock.wall + HOUR).project_names == {1: "One"}


def test_each_listed_or_known_project_has_its_threshold_and_targets() -> None:
    """A listed project has its own settings, another the customer's, also while no values are shown."""
    projects = [{"id": 1, "sla": 20, "targets": {"service_level": "90%"}}]
    targets = {"abandonment": "3%", "min_calls": 7}
    customer = make_customer(projects=projects, other_projects=True, sla=45, targets=targets)
    clock, state = SetClock(NOON), CustomerState(customer)
    assert [(p.project, p.sla_s) for p in view(state, clock.moment()).projects] == [("1", 20)]
    state = polled(state, clock, answer({(8, 1): 1.0}))
    clock.advance(HOUR)
    said = view(state, clock.moment())
    assert said.rows == ()
    assert [
        (p.project, p.sla_s, p.targets.service_level, p.targets.abandonment, p.targets.min_calls) for p in said.projects
    ] == [("1", 20, 0.9, 0.03, 7), ("8", 45, 0.8, 0.03, 7)]


@pytest.mark.parametrize(
    ("keys", "at", "active"),
    [
        ({}, "2026-03-15 02:00", True),
        ({"schedule": "30 7-20 * * mon-fri"}, "2026-03-11 06:00", True),  # 07:00 there, due at 07:30
        ({"schedule": "30 7-20 * * mon-fri"}, "2026-03-11 19:59:59", True),  # due at 20:30, which is over
        ({"schedule": "30 7-20 * * mon-fri"}, "2026-03-11 05:59:59", False),
        ({"schedule": "30 7-20 * * mon-fri"}, "2026-03-11 20:00", False),
        ({"schedule": "30 7-20 * * mon-fri"}, "2026-03-15 09:00", False),  # a Sunday
        ({"hours": {"mon-fri": "08:00-18:00"}}, "2026-03-11 07:00", True),
        ({"hours": {"mon-fri": "08:00-18:00"}}, "2026-03-11 06:59:59", False),
        ({"hours": {"mon-fri": "08:00-18:00"}}, "2026-03-11 17:00", False),
        ({"hours": {"tue": "22:00-06:00"}}, "2026-03-11 04:59:59", True),  # Tuesday's night ends on Wednesday
        ({"hours": {"tue": "22:00-06:00"}}, "2026-03-11 05:00", False),
        ({"hours": {"sun": "08:00-18:00"}, "holidays": ["HU"]}, "2026-03-15 09:00", False),  # a national day
        ({"hours": {"mon-fri": "08:00-18:00"}, "holidays": ["2026-03-11"]}, "2026-03-11 09:00", False),
        ({"hours": {"mon-fri": "08:00-18:00"}, "holidays": ["2026-03-12"]}, "2026-03-11 09:00", True),
        ({"projects": [{"id": 1, "hours": {"wed": "08:00-18:00"}}, {"id": 2}]}, "2026-03-11 09:00", True),
        ({"projects": [{"id": 1, "hours": {"wed": "08:00-18:00"}}, {"id": 2}]}, "2026-03-12 09:00", False),
        (
            {"hours": {"mon": "08:00-18:00"}, "projects": [{"id": 1, "hours": {"wed": "08:00-18:00"}}]},
            "2026-03-11 09:00",
            True,
        ),
        ({"schedule": "0 8 * * *", "hours": {"mon-fri": "08:00-18:00"}}, "2026-03-11 09:00", False),
        ({"schedule": "0 8 * * *", "hours": {"mon-fri": "08:00-18:00"}}, "2026-03-11 07:00", True),
        ({"schedule": "0 8 * * *", "hours": {"mon-fri": "09:00-18:00"}}, "2026-03-11 07:00", False),
    ],
)
def test_a_customer_is_active_within_its_schedule_and_any_of_its_hours(
    keys: dict[str, Any], at: str, active: bool
) -> None:
    """Active is the hour that has a due time and the time within any hours; what is not configured does not count."""
    assert view(CustomerState(make_customer(**keys)), SetClock(instant(at)).moment()).active is active


def test_a_project_is_open_within_its_own_hours_or_the_customers() -> None:
    """Open is said of every project that has hours, of its own or the customer's, and of no other."""
    projects = [{"id": 1, "hours": {"wed": "08:00-10:00"}}, {"id": 2}]
    clock = SetClock(NOON)  # 12:00 on a Wednesday

    def opened(**keys: Any) -> list[tuple[str, bool | None]]:
        state = CustomerState(make_customer(projects=projects, other_projects=True, **keys))
        state = polled(state, clock, answer({(8, 1): 1.0}))
        return [(p.project, p.open) for p in view(state, clock.moment()).projects]

    assert opened() == [("1", False), ("2", None), ("8", None)]
    assert opened(hours={"mon-fri": "11:00-13:00"}) == [("1", False), ("2", True), ("8", True)]
    assert opened(hours={"mon-fri": "11:00-13:00"}, holidays=["2026-03-11"]) == [
        ("1", False),
        ("2", False),
        ("8", False),
    ]


def test_all_nine_results_are_counted_apart() -> None:
    """Every result has its own count, 0 from the start, and durations add up over all of them."""
    clock, state = SetClock(NOON), CustomerState(make_customer())
    assert state.polls == dict.fromkeys(Result, 0)
    for times_, result in enumerate(Result):
        for _ in range(times_):
            state = with_failure(state, result, "", 0.5)
    state = with_answer(state, today(state.customer, clock), answer({}), clock.moment(), 0.25)
    expected = {result: times_ + (result is Result.SUCCESS) for times_, result in enumerate(Result)}
    assert state.polls == expected
    assert state.poll_seconds == sum(range(9)) * 0.5 + 0.25


# --- The course of a day ---------------------------------------------------------------------------------------------


def course(state: CustomerState) -> list[tuple[int, float, float, float]]:
    """Return the marks of a customer's day."""
    return [(mark.half_hour, mark.in_time, mark.late, mark.gave_up) for mark in state.course.marks]


def test_a_day_has_a_mark_for_each_half_hour_in_which_an_answer_came() -> None:
    """The last answer's sums over all queues; calls given up are those before and after the threshold."""
    state = CustomerState(make_customer())
    for minutes, value in ((0, 1.0), (29, 2.0), (30, 3.0), (89, 5.0)):
        state = polled(state, SetClock(NOON + minutes * MINUTE), answer({(1, 2): value, (1, 3): value}))
    assert course(state) == [(24, 4, 4, 8), (25, 6, 6, 12), (26, 10, 10, 20)]


def test_a_failed_poll_leaves_the_course_and_a_new_day_begins_another() -> None:
    """So that the picture never shows yesterday's calls; an answer for yesterday leaves today's alone."""
    state = polled(CustomerState(make_customer()), SetClock(MIDNIGHT - MINUTE), answer({(1, 2): 5.0}))
    assert course(with_failure(state, Result.TIMEOUT, "no answer", 1.0)) == course(state) == [(47, 5, 5, 10)]
    state = polled(state, SetClock(MIDNIGHT + MINUTE), answer({(1, 2): 1.0}))
    assert course(state) == [(0, 1, 1, 2)]
    late = SetClock(MIDNIGHT + 2 * MINUTE).moment()
    assert course(with_answer(state, (MIDNIGHT - DAY).date(), answer({(1, 2): 6.0}), late, 1.0)) == course(state)
    later_the_next_day = polled(state, SetClock(MIDNIGHT + DAY + HOUR), answer({(1, 2): 2.0}))
    assert course(later_the_next_day) == [(2, 2, 2, 4)]


def test_a_clock_that_is_put_back_takes_later_marks_back() -> None:
    """They are of a time that has not come; the ones before it stay."""
    state = CustomerState(make_customer())
    for hours, value in ((0, 1.0), (1, 2.0), (3, 3.0), (1, 4.0)):
        state = polled(state, SetClock(NOON + hours * HOUR), answer({(1, 2): value}))
    assert course(state) == [(24, 1, 1, 2), (26, 4, 4, 8)]


def test_other_questions_begin_another_course() -> None:
    """A reload that changes what is asked for drops the day so far; one that renames keeps it."""
    state = polled(CustomerState(make_customer()), SetClock(NOON), answer({(1, 2): 5.0}))
    assert course(with_settings(state, make_customer(sla=20))) == []
    assert course(with_settings(state, make_customer(labels={"tier": "gold"}))) == course(state)


@pytest.mark.parametrize(("day", "half_hours"), [("2026-03-29", 46), ("2026-03-11", 48), ("2026-10-25", 50)])
def test_half_hours_are_counted_as_they_pass(day: str, half_hours: int) -> None:
    """On days on which clocks are moved, too, on which the last is not the 48th."""
    customer = make_customer()
    last = datetime.fromisoformat(day).replace(tzinfo=BUDAPEST) + DAY - SECOND
    state = polled(CustomerState(customer), SetClock(last.astimezone(UTC)), answer({(1, 2): 5.0}))
    assert course(state) == [(half_hours - 1, 5, 5, 10)]


# --- When to ask what the polls do not tell --------------------------------------------------------------------------


@pytest.mark.parametrize("wants", [wants_lookback, wants_names])
def test_what_failed_is_asked_again_an_hour_later_and_what_answered_after_midnight(
    wants: Callable[[CustomerState, datetime], bool],
) -> None:
    """A lookback and the names are wanted once a day, and an hour after a failure, or earlier on a new day."""

    def tried(state: CustomerState, clock: SetClock, *, well: bool) -> CustomerState:
        if wants is wants_names:
            return with_names(state, {} if well else None, clock.wall)
        return with_lookback(state, today(state.customer, clock), frozenset() if well else None, clock.wall)

    clock, state = SetClock(NOON), CustomerState(make_customer())
    assert wants(state, clock.wall)
    failed = tried(state, clock, well=False)
    assert [wants(failed, NOON + later) for later in (0 * HOUR, HOUR - SECOND, HOUR)] == [False, False, True]
    answered = tried(state, clock, well=True)
    assert [wants(answered, NOON + later) for later in (HOUR, 12 * HOUR - SECOND, 12 * HOUR)] == [False, False, True]
    clock.wall = MIDNIGHT - MINUTE
    failed = tried(state, clock, well=False)
    assert [wants(failed, t) for t in (MIDNIGHT - SECOND, MIDNIGHT, MIDNIGHT - HOUR)] == [False, True, True]


def test_names_are_asked_for_an_unknown_project_once_an_hour() -> None:
    """A project that neither the config nor the API names is asked about, at most hourly."""
    projects = [{"id": 1, "name": "One"}]
    clock, state = SetClock(NOON), CustomerState(make_customer(projects=projects, other_projects=True))
    state = with_names(polled(state, clock, answer({(1, 1): 1.0, (2, 1): 1.0})), {2: "Two"}, clock.wall)
    assert not wants_names(state, clock.wall + HOUR)
    state = polled(state, clock, answer({(3, 1): 1.0}))
    assert [wants_names(state, NOON + later) for later in (HOUR - SECOND, HOUR)] == [False, True]
    assert not wants_names(with_names(state, {2: "Two", 3: "Three"}, clock.wall), clock.wall + 2 * HOUR)


def test_polls_that_recover_ask_no_sooner_for_names_that_were_given() -> None:
    """They ask anew for what had failed, and not for a project of which the API has said that it has no name."""
    clock = SetClock()
    for names, again in ((None, True), ({2: "Two"}, False)):
        state = with_names(polled(CustomerState(make_customer()), clock, answer({(1, 1): 1.0})), names, clock.wall)
        state = with_failure(state, Result.TIMEOUT, "no answer", 10.0)
        state = polled(state, clock, answer({(1, 1): 2.0}))
        assert wants_names(state, clock.wall + SECOND) == again


# --- 2. Reload -------------------------------------------------------------------------------------------------------

SETTINGS: Final[dict[str, Any]] = {
    "projects": [{"id": 1, "sla": 20}, {"id": 2}],
    "poll": {"interval": "1m"},
    "teams": [3, 4],
    "url": "https://one.example",
}


def known_well(clock: SetClock) -> CustomerState:
    """Return a customer's state with something in every place."""
    state = CustomerState(make_customer(**SETTINGS))
    state = with_failure(state, Result.TIMEOUT, "no answer", 2.0)
    state = with_lookback(state, today(state.customer, clock), frozenset({(1, 1)}), clock.wall)
    state = with_names(state, {1: "One"}, clock.wall)
    return replace(polled(state, clock, answer({(1, 2): 5.0}, rejected=[(1, 3)])), next_poll=clock.wall + MINUTE)


@pytest.mark.parametrize(
    "changed",
    [
        {"projects": [{"id": 1, "sla": 20, "name": "Uno", "queues": {"2": "Two"}}, {"id": 2}]},
        {"projects": [{"id": 2}, {"id": 1, "sla": 20}]},
        {"projects": [{"id": 1, "sla": 20, "targets": {"service_level": "70%"}}, {"id": 2}]},
        {"targets": {"min_calls": 3}},
        {"hours": {"mon": "08:00-18:00"}, "holidays": ["HU"]},
        {"labels": {"tier": "gold"}},
        {"poll": {"interval": "30s", "timeout": "5s", "stale_after": "10m", "lookback": "3d"}},
        {"schedule": "* 7-20 * * *", "poll": {}},
        {"api_key": "an0ther-key"},
        {"proxy_url": "http://proxy.example:3128"},
        {"teams": [4, 3]},
        {"sla": 30},
    ],
)
def test_settings_that_ask_the_same_question_leave_values_and_known_queues(changed: dict[str, Any]) -> None:
    """Names, targets, hours, labels, rhythm and key apply at once to the values that are there."""
    clock = SetClock(NOON)
    before, customer = known_well(clock), make_customer(**{**SETTINGS, **changed})
    after = with_settings(before, customer)
    assert after == replace(before, customer=customer)
    assert shown(after, clock) == {(1, 1): 0.0, (1, 2): 5.0}
    assert view(after, clock.moment()).up


@pytest.mark.parametrize(
    "changed",
    [
        {"subdomain": "other"},
        {"url": "https://two.example"},
        {"timezone": "Europe/Vienna"},
        {"teams": [3]},
        {"sla": 31},
        {"projects": [{"id": 1, "sla": 21}, {"id": 2}]},
        {"projects": [{"id": 1, "sla": 20}]},
        {"projects": [{"id": 1, "sla": 20}, {"id": 2}, {"id": 3}]},
        {"other_projects": True},
    ],
)
def test_settings_that_ask_another_question_keep_the_counters_alone(changed: dict[str, Any]) -> None:
    """Where subdomain, url, timezone, teams, sla or the projects change, values and known queues go."""
    clock = SetClock(NOON)
    before, customer = known_well(clock), make_customer(**{**SETTINGS, **changed})
    after = with_settings(before, customer)
    said = view(after, clock.moment())
    assert (said.rows, said.day_start, said.up) == ((), None, False)
    assert (after.snapshot, after.known, after.customer) == (None, Known(), customer)
    assert wants_lookback(after, clock.wall)
    assert wants_names(after, clock.wall)
    assert (after.polls, after.poll_seconds) == (before.polls, before.poll_seconds)
    assert (after.last_success, after.last_result, after.polled) == (before.last_success, before.last_result, True)
    assert (after.rows, after.rejected_rows) == (2, 1)
    assert shown(polled(after, clock, answer({})), clock) == {}


def test_new_names_targets_hours_and_labels_are_said_at_once() -> None:
    """After a reload the next view has the new words beside the old values."""
    clock = SetClock(NOON)
    projects = [{"id": 1, "sla": 20, "name": "Uno", "queues": {"2": "Two"}, "targets": {"min_calls": 1}}, {"id": 2}]
    changed = {"projects": projects, "hours": {"sun": "08:00-18:00"}, "labels": {"tier": "gold"}}
    said = view(with_settings(known_well(clock), make_customer(**{**SETTINGS, **changed})), clock.moment())
    assert [(r.project_name, r.queue_name, r.values[0]) for r in said.rows] == [("Uno", "1", 0.0), ("Uno", "Two", 5.0)]
    assert [(p.targets.min_calls, p.open) for p in said.projects] == [(1, False), (20, False)]
    assert not said.active
    assert said.state.customer.labels == (("tier", "gold"),)


# --- How long a view is true -----------------------------------------------------------------------------------------

AWKWARD: Final = [
    ("Europe/Budapest", "2026-03-29 01:00"),
    ("Europe/Budapest", "2026-10-25 01:00"),
    ("Europe/Budapest", "2026-03-11 23:00"),
    ("America/Sao_Paulo", "2018-11-04 03:00"),
    ("America/Sao_Paulo", "2018-02-18 02:00"),
    ("Asia/Kolkata", "2026-08-14 18:30"),
    ("Africa/Cairo", "2026-04-23 22:00"),
    ("Africa/Cairo", "2026-10-29 21:00"),
    ("Pacific/Apia", "2011-12-30 10:00"),
    ("America/Havana", "2026-11-01 05:00"),
    ("America/Havana", "2026-03-08 05:00"),
    ("Australia/Lord_Howe", "2026-04-04 15:00"),
    ("Australia/Lord_Howe", "2026-10-03 15:30"),
]
NIGHTS: Final = {"mon-fri": ["00:00-06:30", "22:00-02:00"], "sat": "23:00-24:00", "sun": "01:30-02:45"}
RHYTHMS: Final[list[dict[str, Any]]] = [
    {},
    {"poll": {"stale_after": "30h"}},
    {"poll": {"interval": "20s", "stale_after": "21s"}},
    {"schedule": "*/20 * * * *"},
    {"schedule": "30 1-2 * * *", "hours": NIGHTS},
    {"hours": NIGHTS, "holidays": ["HU", "2026-03-12"]},
    {"projects": [{"id": 1, "hours": NIGHTS, "queues": {"1": "One"}}, {"id": 2, "hours": {"sun": "00:00-24:00"}}]},
]


@cache
def awkward_customer(zone: str, rhythm: int) -> Customer:
    """Return a customer of a zone with one of the rhythms above."""
    return make_customer(timezone=zone, **RHYTHMS[rhythm])


def said_by(made: View) -> tuple[object, ...]:
    """Return what a view says, without how long it says so."""
    return made.rows, made.day_start, made.projects, made.active, made.up


@st.composite
def states(draw: st.DrawFn) -> tuple[CustomerState, datetime]:
    """Return a customer's state, perhaps with an answer, and the awkward instant near which it came."""
    (zone, near), rhythm = draw(st.sampled_from(AWKWARD)), draw(st.integers(0, len(RHYTHMS) - 1))
    state = CustomerState(awkward_customer(zone, rhythm))
    if draw(st.booleans()):
        clock = SetClock(instant(near) + draw(_AROUND))
        state = polled(state, clock, answer({(1, 1): 4.0, (2, 2): 1.0}, rejected=[(1, 3)]))
    if draw(st.booleans()):
        state = with_failure(state, Result.TIMEOUT, "", 0.1)
    return state, instant(near)


_SECONDS: Final = st.one_of(st.integers(-90, 90), st.integers(-4000, 4000), st.integers(-200_000, 200_000))
_AROUND: Final = st.builds(lambda s, us: timedelta(seconds=s, microseconds=us), _SECONDS, st.sampled_from([0, 1, -1]))


@given(states(), _AROUND, st.integers(0, 100_000) | st.integers(0, 300), st.floats(0, 1) | st.none(), st.floats(0, 1))
@settings(UNHURRIED, max_examples=600)
def test_a_view_is_true_for_as_long_as_it_says(
    drawn: tuple[CustomerState, datetime], off: timedelta, age_s: int, part: float | None, part_s: float
) -> None:
    """At any moment from a view's making to its end on either clock, a view made then says the same."""
    state, near = drawn
    now = Moment(near + off, 1000.0 + age_s)
    made = view(state, now)
    assert made.holds(now)
    span = min(made.valid_until - now.wall, 3 * DAY)
    wall = now.wall + (span - timedelta(microseconds=1) if part is None else part * span)
    seconds = now.monotonic_s + part_s * min(made.valid_until_s - now.monotonic_s, 300_000.0)
    later = Moment(wall, seconds)
    if made.holds(later):
        assert said_by(view(state, later)) == said_by(made)


@given(states(), _AROUND, st.integers(0, 100_000), st.floats(0, 1))
@settings(UNHURRIED, max_examples=300)
def test_a_view_is_true_for_a_thread_that_read_the_clock_a_moment_before(
    drawn: tuple[CustomerState, datetime], off: timedelta, age_s: int, part: float
) -> None:
    """Also at the moments before its making at which it already holds, a view made then says the same."""
    state, near = drawn
    now = Moment(near + off, 1000.0 + age_s)
    made = view(state, now)
    before = Moment(made.valid_from + part * (now.wall - made.valid_from), now.monotonic_s)
    assert made.holds(before)
    assert said_by(view(state, before)) == said_by(made)


_NEWS: Final = st.tuples(
    st.dictionaries(st.sampled_from([(1, 1), (2, 2), (3, 1), (4, 9)]), st.sampled_from([1.0, 4.0])) | st.none(),
    st.frozensets(st.sampled_from([(1, 1), (5, 5)])) | st.none(),
    st.sampled_from(["One", "Other"]) | st.none(),
)
"""Of an answer, of a lookback, and the first project's name."""


@given(states(), _AROUND, _AROUND, _NEWS)
@settings(UNHURRIED, max_examples=300)
def test_a_view_says_the_same_after_whichever_view_it_is_made(
    drawn: tuple[CustomerState, datetime],
    off: timedelta,
    later: timedelta,
    news: tuple[dict[Pair, float] | None, frozenset[Pair] | None, str | None],
) -> None:
    """What it takes from the one before is what it would have made itself."""
    (state, near), (values, learnt, name) = drawn, news
    before = view(state, Moment(near + off, 1000.0))
    clock = SetClock(near + off + later)
    if values is not None:
        state = polled(state, clock, answer(values))
    if learnt is not None:
        state = with_lookback(state, today(state.customer, clock), learnt, clock.now())
    if name is not None:
        state = with_names(state, {1: name}, clock.now())
    assert view(state, clock.moment(), before) == view(state, clock.moment())


def test_a_view_ends_with_the_day_with_staleness_and_with_each_change_of_the_hours() -> None:
    """valid_until is the first of midnight, staleness, the end of the schedule's hour and of an opening span."""

    def until(at: datetime, **keys: Any) -> datetime:
        clock, customer = SetClock(at), make_customer(**keys)
        return view(polled(CustomerState(customer), clock, answer({})), clock.moment()).valid_until

    assert until(NOON) == NOON + 5 * MINUTE
    assert until(MIDNIGHT - MINUTE) == MIDNIGHT
    long = {"stale_after": "30h"}
    assert until(NOON, poll=long) == MIDNIGHT
    assert until(NOON, poll=long, hours={"wed": "08:00-18:00"}) == NOON + 6 * HOUR
    assert until(NOON, poll=long, hours={"wed": "18:30-19:00"}) == NOON + 6.5 * HOUR
    assert until(NOON + MINUTE, poll=long, schedule="0 8 * * *") == NOON + HOUR


# --- The walk --------------------------------------------------------------------------------------------------------


@cache
def changes(zone: ZoneInfo, year: int) -> tuple[dict[date, datetime], list[datetime]]:
    """Return each date's first instant, and the instants at which the date or the offset changes.

    Found by looking at the clock hour by hour and halving the hours in which it changed.
    """

    def reads(at: datetime) -> tuple[date, timedelta | None]:
        local = at.astimezone(zone)
        return local.date(), local.utcoffset()

    starts: dict[date, datetime] = {}
    found: list[datetime] = []
    at, end = datetime(year, 1, 1, tzinfo=UTC) - 5 * DAY, datetime(year + 1, 1, 1, tzinfo=UTC) + 5 * DAY
    while at < end:
        after = at + HOUR
        if reads(after) != reads(at):
            before = at
            while after - before > SECOND:
                middle = before + (after - before) // (2 * SECOND) * SECOND
                before, after = (before, middle) if reads(middle) != reads(at) else (middle, after)
            found.append(after)
            starts.setdefault(reads(after)[0], after)
        at = after
    return starts, found


def instants(zone: ZoneInfo, year: int) -> list[datetime]:
    """Return every hour of a year, and the minutes around each midnight and each change of the offset."""
    first = datetime(year, 1, 1, tzinfo=UTC)
    hours = {first + n * HOUR for n in range((datetime(year + 1, 1, 1, tzinfo=UTC) - first) // HOUR)}
    steps = [n * MINUTE for n in range(-3, 4)] + [-SECOND, SECOND]
    near = {change + step for change in changes(zone, year)[1] for step in steps}
    return sorted(hours | {at for at in near if at >= first and at.year == year})


@dataclass
class Walker:
    """One customer through a year: polls, lookbacks and clocks at random, and what must be said of it.

    The values of an answer are the number of the day that it was asked about. What must be shown is found
    from the answers alone, in the contract's words.
    """

    customer: Customer
    starts: dict[date, datetime]
    dice: Random

    def __post_init__(self) -> None:
        self.state = CustomerState(self.customer)
        self.cached: View | None = None
        self.off = timedelta()
        """How far the wall clock is wrong."""
        self.silent_until: datetime | None = None
        """Until when every poll fails."""
        self.open_poll: tuple[date, Answer] | None = None
        self.open_lookback: tuple[date, frozenset[Pair]] | None = None
        self.last: tuple[date, Moment, timedelta, Answer] | None = None
        """The last good answer that arrived on the day that it was asked about, and how long it lives."""
        self.last_was_good = False
        self.shown = 0
        self.judged: tuple[View | None, date] = None, date.min
        """The last view whose rows were judged, and on which day."""

    def on_the_wall(self, wall: datetime) -> date:
        """Return the date that the customer's calendar shows."""
        return wall.astimezone(self.customer.zone).date()

    def step(self, real: datetime, seconds: float, *, awkward: bool) -> None:
        """Let something happen, or nothing, and look."""
        if self.dice.random() < (0.2 if self.off else 0.003):
            self._jump()
        now = Moment(real + self.off, seconds)
        self._arrive(now)
        if self.open_poll is None and self.dice.random() < 0.7:
            self._poll(now, awkward=awkward)
        self._learn(now)
        self._look(now)

    def _jump(self) -> None:
        far = self.dice.choice([3 * SECOND, 90 * SECOND, HOUR, 2 * DAY])
        self.off = timedelta() if self.off else self.dice.uniform(-1, 1) * far

    def _arrive(self, now: Moment) -> None:
        if self.open_poll:
            self._answered(now, *self.open_poll)
            self.open_poll = None
        if self.open_lookback:
            self.state = with_lookback(self.state, *self.open_lookback, now.wall)
            self.open_lookback = self.cached = None

    def _poll(self, now: Moment, *, awkward: bool) -> None:
        if self.dice.random() < 0.01:
            self.silent_until = now.wall + self.dice.uniform(1, 30) * HOUR
        if (self.silent_until and now.wall < self.silent_until) or self.dice.random() < 0.1:
            self.state, self.cached = with_failure(self.state, Result.TIMEOUT, "no answer", 10.0), None
            self.last_was_good = False
            return
        asked = self.on_the_wall(now.wall)
        rows = [pair for pair in PAIRS if self.dice.random() < 0.5]
        rejected = [pair for pair in PAIRS if pair not in rows and self.dice.random() < 0.2]
        found = answer(dict.fromkeys(rows, float(asked.toordinal())), rejected)
        if self.dice.random() < (0.6 if awkward else 0.1):
            self.open_poll = asked, found
        else:
            self._answered(now, asked, found)

    def _answered(self, now: Moment, asked: date, found: Answer) -> None:
        self.state, self.cached = with_answer(self.state, asked, found, now, 1.0), None
        self.last_was_good = asked == self.on_the_wall(now.wall)
        if self.last_was_good:
            lifetime = self._due_after(now.wall) + self.customer.stale_after - now.wall
            self.last = asked, now, lifetime, found

    def _learn(self, now: Moment) -> None:
        if self.open_lookback or not wants_lookback(self.state, now.wall) or self.dice.random() < 0.5:
            return
        day, pairs = self.on_the_wall(now.wall), frozenset(pair for pair in PAIRS if self.dice.random() < 0.7)
        kind = self.dice.choice(["fails", "answers", "late"])
        if kind == "late":
            self.open_lookback = day, pairs
        else:
            self.state = with_lookback(self.state, day, pairs if kind == "answers" else None, now.wall)
            self.cached = None

    def _look(self, now: Moment) -> None:
        # As the store does it: what was made before is shown for as long as it claims to be true.
        if self.cached is None or not self.cached.holds(now):
            self.cached = view(self.state, now)
        said, fresh = self.cached, self._fresh(now)
        assert (said.day_start is not None) == (fresh is not None), now
        assert said.up == (fresh is not None and self.last_was_good), now
        if fresh is None:
            assert said.rows == (), now
            return
        self.shown += 1
        day = self.on_the_wall(now.wall)
        assert said.day_start == self.starts[day], now
        if self.judged[0] is said and self.judged[1] == day:
            return
        self.judged = said, day
        rows = {(int(r.project), int(r.queue)): r.values for r in said.rows}
        assert {v for values in rows.values() for v in values} <= {0.0, float(day.toordinal())}, now
        zeros = {pair for pair, values in rows.items() if 0.0 in values}
        assert {pair: rows[pair] for pair in rows.keys() - zeros} == fresh.values, now
        assert not rows.keys() & fresh.rejected_pairs, now

    def _fresh(self, now: Moment) -> Answer | None:
        """Return the answer that must be shown, by the contract."""
        if self.last is None:
            return None
        day, received, lifetime, found = self.last
        is_old = now.wall >= received.wall + lifetime or now.monotonic_s >= (
            received.monotonic_s + lifetime.total_seconds()
        )
        return None if is_old or day != self.on_the_wall(now.wall) else found

    def _due_after(self, wall: datetime) -> datetime:
        """Return from when staleness counts: the answer, or the next minute ten of an hour on the wall."""
        if not self.customer.schedule:
            return wall
        shift = 50 * SECOND * place(self.customer.name)
        minute = wall.replace(second=0, microsecond=0)
        while minute.astimezone(self.customer.zone).minute != 10 or minute + shift <= wall:
            minute += MINUTE
        return minute + shift


PAIRS: Final = [(1, -1), (1, 5), (2, 7)]


def walk(zone: str, year: int, **keys: Any) -> Walker:
    """Take a customer through a year."""
    customer = make_customer(timezone=zone, **keys)
    starts, awkward = changes(customer.zone, year)
    # A poll that is open at one of these is answered at the next.
    before = {change - step for change in awkward for step in (SECOND, MINUTE)}
    walker = Walker(customer, starts, Random(f"{zone} {year}"))
    # Each look at a schedule takes long: every other instant then.
    path = instants(customer.zone, year)[:: 2 if customer.schedule else 1]
    for at in path:
        walker.step(at, (at - path[0]).total_seconds(), awkward=at in before)
    return walker


@pytest.mark.parametrize(
    ("zone", "year"),
    [
        ("Europe/Budapest", 2026),
        ("America/Sao_Paulo", 2026),
        ("America/Sao_Paulo", 2018),  # midnights that do not exist, and hours before midnight that come twice
        ("Asia/Kolkata", 2026),
        ("Africa/Cairo", 2026),  # likewise
        ("Pacific/Apia", 2026),
        ("Pacific/Apia", 2011),  # a date that does not exist
        ("America/Havana", 2026),  # midnights that come twice
    ],
)
def test_at_no_instant_of_a_year_does_a_value_of_one_day_stand_as_anothers(zone: str, year: int) -> None:
    """Whatever polls, lookbacks and clocks do, only values of the day on the wall are shown, as long as they live."""
    assert walk(zone, year, poll={"interval": "1h"}).shown > 4000


@pytest.mark.parametrize(("zone", "year"), [("Europe/Budapest", 2026), ("Asia/Kolkata", 2026)])
def test_nor_with_a_schedule(zone: str, year: int) -> None:
    """With a schedule, too, only values of the day on the wall are shown, until shortly after the next due time."""
    assert walk(zone, year, schedule="10 * * * *", poll={"stale_after": "6m"}).shown > 2000


def test_the_walk_can_tell_a_lie() -> None:
    """A value of yesterday that is put under today's date is found by the walk's own judgement."""
    clock = SetClock(MIDNIGHT - MINUTE)
    customer = make_customer(poll={"stale_after": "1h"})
    walker = Walker(customer, changes(BUDAPEST, 2026)[0], Random(1))
    walker._answered(clock.moment(), today(customer, clock), answer({(1, 5): 1.0}))  # noqa: SLF001
    snapshot = walker.state.snapshot
    assert snapshot
    clock.advance(2 * MINUTE)
    lie = Snapshot(today(customer, clock), snapshot.received, snapshot.values, snapshot.rejected_pairs)
    walker.state = replace(walker.state, snapshot=lie)
    with pytest.raises(AssertionError):
        walker._look(clock.moment())  # noqa: SLF001
