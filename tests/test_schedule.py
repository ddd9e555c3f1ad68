"""When polls are due, as functions of values and `now`; and jobs at their instants, with the real scheduler."""
# ruff: noqa: S311 - reproducible dice, no secrets

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

import apscheduler.schedulers.base
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import eventually
from support import make_customer

from vcc_exporter.config import Customer
from vcc_exporter.schedule import (
    LOOKUPS_AT_ONCE,
    POLLS_AT_ONCE,
    Timetable,
    due_after,
    first_poll,
    next_poll,
    place,
)
from vcc_exporter.times import Clock

ROOT: Final = Path(__file__).parent.parent
UNHURRIED: Final = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""No test depends on the machine's speed."""
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
SOON: Final = 15 * SECOND
"""The contract's word for soon after the start, a reload or a midnight."""
LONG_S: Final = 60
"""How long a test waits for what must come, in seconds; what comes is not waited for."""
NOON: Final = datetime(2026, 3, 11, 11, 0, tzinfo=UTC)
"""In Budapest, a Wednesday."""
MIDNIGHT: Final = datetime(2026, 3, 11, 23, 0, tzinfo=UTC)
"""The end of that day there."""
NAMES: Final = [f"customer-{n}" for n in range(8)]


@cache
def by_interval(name: str, interval: str, zone: str = "Europe/Budapest") -> Customer:
    """Return a customer that is polled by interval."""
    return make_customer(name=name, timezone=zone, poll={"interval": interval, "stale_after": "31d"})


@cache
def by_schedule(name: str, schedule: str, zone: str = "Europe/Budapest") -> Customer:
    """Return a customer that is polled by a crontab schedule."""
    return make_customer(name=name, timezone=zone, schedule=schedule)


def local_date(customer: Customer, at: datetime) -> date:
    """Return the date that the customer's calendar shows."""
    return at.astimezone(customer.zone).date()


def following(customer: Customer, now: datetime, hold_until: datetime | None = None) -> datetime:
    """Return when a customer is due after a poll that began and ended at `now`."""
    due = next_poll(customer, now, local_date(customer, now), hold_until)
    assert due is not None
    return due


def second_of(name: str) -> timedelta:
    """Return when in its minute a customer with a schedule is due among few: in one of 64 slots of fifty seconds."""
    return 50 * SECOND * (int(place(name) * 64) / 64)


def instant(text: str) -> datetime:
    """Read an instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@cache
def midnights(zone: str, year: int) -> list[datetime]:
    """Return the instants of a year at which the date changes, found by halving the hours in which it does."""
    info, found = ZoneInfo(zone), []
    at = datetime(year, 1, 1, tzinfo=UTC)
    while at.year == year:
        after = at + HOUR
        if after.astimezone(info).date() != at.astimezone(info).date():
            before, changed = at, after
            while changed - before > SECOND:
                middle = before + (changed - before) // (2 * SECOND) * SECOND
                is_before = middle.astimezone(info).date() == at.astimezone(info).date()
                before, changed = (middle, changed) if is_before else (before, middle)
            found.append(changed)
        at = after
    return found


ZONES: Final = [
    ("Europe/Budapest", 2026),
    ("America/Sao_Paulo", 2018),
    ("Asia/Kolkata", 2026),
    ("Africa/Cairo", 2026),
    ("Pacific/Apia", 2011),
    ("America/Havana", 2026),
]


# --- By interval -----------------------------------------------------------------------------------------------------


def test_a_customers_place_is_the_same_on_every_start() -> None:
    """The place comes from the name alone: another interpreter with other hash seeds finds the same."""
    script = "from vcc_exporter.schedule import place; print([place(n) for n in ('acme', 'other', '')])"
    command = [sys.executable, "-c", script]
    found = {
        subprocess.run(  # noqa: S603
            command, cwd=ROOT, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, encoding="utf-8"
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {f"{[place('acme'), place('other'), place('')]}\n"}
    assert place("acme") == 0.5084717081697399


def test_a_place_is_at_least_0_and_less_than_1_and_places_are_spread_evenly() -> None:
    """Of ten thousand customers about a tenth stands in each tenth."""
    tenths = [0] * 10
    for n in range(10_000):
        tenths[int(10 * place(f"customer-{n}"))] += 1
    assert all(850 < count < 1150 for count in tenths)


@given(
    st.sampled_from(NAMES),
    st.sampled_from(["100ms", "7s", "30s", "1m", "17m", "1h", "1d"]),
    st.datetimes(datetime(2011, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - given a zone
)
@settings(UNHURRIED, max_examples=300)
def test_the_next_poll_is_strictly_later_and_on_the_customers_grid(name: str, interval: str, now: datetime) -> None:
    """Within a day the next poll is the first instant after now that has the slot of the customer's place."""
    customer = by_interval(name, interval)
    due = following(customer, now)
    assert now < due <= now + customer.interval
    if local_date(customer, now) == local_date(customer, due):
        phase = (due - datetime(1970, 1, 1, tzinfo=UTC)) % customer.interval
        slot = min(SECOND, customer.interval / 64) + timedelta(microseconds=1)
        assert timedelta(0) <= customer.interval * place(name) - phase < slot
        assert due == due_after(customer, now)


SLOTS: Final = {1: 64, 8 * 64: 64, 8 * 65: 128, 1000: 128, 10_000: 2048}
"""Of a minute, by the number of customers."""


@pytest.mark.parametrize("customers", SLOTS)
@pytest.mark.parametrize("make", [by_interval, by_schedule])
def test_a_few_customers_are_due_at_one_instant(customers: int, make: Callable[[str, str], Customer]) -> None:
    """They share slots of at most a second, and so few a slot that the last does not wait for long."""
    rhythm = "1m" if make is by_interval else "* * * * *"
    known = [make(f"customer-{n}", rhythm) for n in range(customers)]
    dues = Counter(due_after(customer, NOON, customers) for customer in known)
    assert len({int(place(customer.name) * SLOTS[customers]) for customer in known}) == len(dues)
    assert sum(dues.values()) / SLOTS[customers] <= 8
    assert max(dues.values()) < 24  # chance has it that some slots are fuller than others


@pytest.mark.parametrize("make", [by_interval, by_schedule])
def test_more_customers_make_nobody_due_earlier_or_much_later(make: Callable[[str, str], Customer]) -> None:
    """Whoever does not know how many there are expects no poll after it is due, and at most a second before."""
    customer = make("acme", "1m" if make is by_interval else "* * * * *")
    dues = [due_after(customer, NOON, customers) for customers in (1, 100, 1000, 10_000, 100_000)]
    known = [due for due in dues if due]
    assert known == sorted(known)
    assert known[-1] - known[0] < SECOND
    assert next_poll(customer, NOON, local_date(customer, NOON), customers=10_000) == dues[3]


def test_the_grid_does_not_depend_on_when_the_last_poll_was_over() -> None:
    """However long polls take, their due times stay an interval apart: nothing drifts."""
    customer, dice = by_interval("acme", "1m"), Random(1)
    dues = [following(customer, NOON)]
    for _ in range(200):
        dues.append(following(customer, dues[-1] + dice.uniform(0, 59) * SECOND))
    assert {after - before for before, after in pairwise(dues)} == {MINUTE}


def test_customers_are_spread_over_the_interval() -> None:
    """A thousand customers of one interval fall due evenly within it."""
    tenths = [0] * 10
    for n in range(1000):
        tenths[(following(by_interval(f"customer-{n}", "5m"), NOON) - NOON) // (30 * SECOND) % 10] += 1
    assert all(60 < count < 140 for count in tenths)


def test_a_late_poll_is_made_once() -> None:
    """Due times that passed while a poll was under way or the machine slept are skipped, not made up for."""
    customer = by_interval("acme", "1m")
    for late in (3 * HOUR, 100 * DAY):
        due = following(customer, NOON + late)
        assert NOON + late < due <= NOON + late + MINUTE


# --- The first poll --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("customers", [1, 2, 10, 300, 10_000, 1_000_000])
@pytest.mark.parametrize("interval", ["1s", "1h", "30d"])
def test_the_first_poll_is_soon_for_any_number_of_customers(customers: int, interval: str) -> None:
    """Whatever the interval, a new customer is due within 15 s, and not before it is there."""
    for name in NAMES:
        assert NOON <= first_poll(by_interval(name, interval), customers, NOON) < NOON + SOON


def test_the_first_poll_of_a_customer_with_a_schedule_does_not_wait_for_it() -> None:
    """A customer whose schedule is due in December is first polled within 15 s in March."""
    assert NOON <= first_poll(by_schedule("acme", "0 0 24 12 *"), 1, NOON) < NOON + SOON


def test_first_polls_of_many_customers_are_spread() -> None:
    """Ten thousand customers that start together are not all due at once, a single one hardly waits."""
    seconds = [0] * 10
    for n in range(1000):
        seconds[(first_poll(by_interval(f"customer-{n}", "5m"), 10_000, NOON) - NOON) // SECOND] += 1
    assert all(60 < count < 140 for count in seconds)
    assert first_poll(by_interval("acme", "5m"), 1, NOON) < NOON + SECOND


# --- Midnight --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", ["7s", "1m", "17m", "6h", "1d", "30d"])
@pytest.mark.parametrize(("zone", "year"), ZONES)
def test_every_local_midnight_of_a_year_is_followed_by_a_poll(zone: str, year: int, interval: str) -> None:
    """Within 15 s of the first instant of each date there is a poll, whatever the interval."""
    dice = Random(f"{zone} {interval}")
    assert len(midnights(zone, year)) in (364, 365)
    for midnight in midnights(zone, year):
        customer = by_interval(dice.choice(NAMES), interval, zone)
        before = midnight - min(customer.interval, 10 * HOUR)
        due = before + dice.random() * (midnight - before)
        while due < midnight:
            due = following(customer, due)
        assert due < midnight + SOON


def test_polls_go_on_across_a_midnight_as_before() -> None:
    """The poll after midnight is an extra one: the next is on the grid again."""
    customer = by_interval("acme", "1h")
    extra = following(customer, MIDNIGHT - SECOND)
    assert MIDNIGHT <= extra < MIDNIGHT + SOON
    assert following(customer, extra) == due_after(customer, MIDNIGHT)


def test_customers_are_spread_over_the_seconds_after_midnight() -> None:
    """Not all customers of a timezone ask in the same second after midnight."""
    seconds = [0] * 10
    for n in range(1000):
        seconds[(following(by_interval(f"customer-{n}", "1h"), MIDNIGHT - SECOND) - MIDNIGHT) // SECOND] += 1
    assert all(60 < count < 140 for count in seconds)


@pytest.mark.parametrize("interval", ["7s", "1m", "1h", "30d"])
@pytest.mark.parametrize(("zone", "year"), ZONES)
def test_a_poll_that_crossed_midnight_is_followed_by_one_soon_after_it(zone: str, year: int, interval: str) -> None:
    """A poll asked before midnight and over after it is followed within 15 s of midnight, or at once."""
    dice = Random(f"{zone} {interval}")
    for midnight in midnights(zone, year)[::5]:
        customer = by_interval(dice.choice(NAMES), interval, zone)
        for seconds in (0.0, 0.001, dice.uniform(0, 15), dice.uniform(15, 300)):
            ended = midnight + seconds * SECOND
            due = next_poll(customer, ended, local_date(customer, midnight - SECOND))
            assert due is not None
            assert ended <= due <= max(midnight + SOON, ended)


@pytest.mark.parametrize("schedule", ["30 8 * * *", "*/20 7-20 * * mon-fri"])
@pytest.mark.parametrize(("zone", "year"), ZONES)
def test_a_schedule_is_not_due_at_midnight(zone: str, year: int, schedule: str) -> None:
    """A customer with a schedule is not polled at midnight: what it names alone counts, also after a poll across it."""
    for midnight in midnights(zone, year)[::30]:
        customer = by_schedule("acme", schedule, zone)
        for due in (
            following(customer, midnight - SECOND),
            next_poll(customer, midnight + SECOND, local_date(customer, midnight - SECOND)),
        ):
            assert due is not None
            assert due.astimezone(customer.zone).hour in range(7, 21)


# --- By schedule -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "now", "minute"),
    [
        ("* * * * *", "2026-03-11 11:00", "2026-03-11 11:00"),
        ("0 8-20 * * *", "2026-03-11 07:01", "2026-03-11 08:00"),  # 09:00 in Budapest
        ("30 7 * * mon-fri", "2026-03-13 07:00", "2026-03-16 06:30"),  # from Friday to Monday
        ("30 7 * * 0", "2026-03-13 07:00", "2026-03-15 06:30"),  # 0 and 7 are Sunday
        ("30 7 * * 7", "2026-03-13 07:00", "2026-03-15 06:30"),
        ("0 0 29 2 *", "2026-03-13 07:00", "2028-02-28 23:00"),
        ("30 2 * * *", "2026-03-28 12:00", "2026-03-29 01:00"),  # the hour is left out: after the gap
    ],
)
def test_a_schedule_is_due_within_the_minute_that_it_names(schedule: str, now: str, minute: str) -> None:
    """Customers are spread over the named minute, each with the same second every time."""
    dues = [following(by_schedule(name, schedule), instant(now)) for name in NAMES]
    assert len(set(dues)) == len(NAMES)
    assert all(instant(minute) <= due < instant(minute) + MINUTE for due in dues)
    assert dues == [instant(minute) + second_of(name) for name in NAMES]


@given(st.sampled_from(NAMES), st.sampled_from(ZONES), st.floats(0, 1))
@UNHURRIED
def test_a_schedule_of_every_minute_is_due_once_in_each(name: str, zone: tuple[str, int], part: float) -> None:
    """Each due time is strictly later than the last and a minute from it, also where the clock changes."""
    customer = by_schedule(name, "* * * * *", zone[0])
    days = midnights(*zone)
    at = days[int(part * (len(days) - 1))] - 90 * SECOND
    dues = [following(customer, at)]
    for _ in range(4):
        dues.append(following(customer, dues[-1]))
    assert at < dues[0] <= at + MINUTE
    assert {after - before for before, after in pairwise(dues)} == {MINUTE}


def test_a_schedules_late_poll_is_made_once() -> None:
    """Due times that passed while a poll was under way are skipped."""
    customer = by_schedule("acme", "*/10 * * * *")
    assert following(customer, NOON + 35 * MINUTE) == NOON + 40 * MINUTE + second_of("acme")


def test_within_the_named_minute_the_due_time_is_still_to_come_or_over() -> None:
    """Before its second a customer is due in the present minute, from that second on in the next."""
    customer = by_schedule("acme", "* * * * *")
    second = NOON + second_of("acme")
    assert due_after(customer, second - SECOND) == second
    assert due_after(customer, second) == second + MINUTE


# --- Retry-After -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [("interval", "1m"), ("interval", "1h"), ("schedule", "*/5 * * * *")])
@pytest.mark.parametrize("hold", [timedelta(), SECOND, 90 * SECOND, 59 * MINUTE, HOUR])
@pytest.mark.parametrize("now", [NOON, MIDNIGHT - 5 * SECOND, MIDNIGHT - 30 * MINUTE])
def test_the_api_is_left_alone_for_as_long_as_it_wants(keys: tuple[str, str], hold: timedelta, now: datetime) -> None:
    """A hold is obeyed where it is longer than the way to the next poll, also across midnight, else it is nothing."""
    customer = {"interval": by_interval, "schedule": by_schedule}[keys[0]]("acme", keys[1])
    plain, held = following(customer, now), following(customer, now, now + hold)
    assert held >= now + hold
    if now + hold < plain:
        assert held == plain
    if customer.schedule:
        assert held == due_after(customer, now + hold)
    else:
        assert held == max(plain, now + hold)


def test_a_poll_across_midnight_that_was_told_to_wait_waits() -> None:
    """The poll that makes up for a crossed midnight obeys a hold, too."""
    customer = by_interval("acme", "1h")
    ended = MIDNIGHT + SECOND
    due = next_poll(customer, ended, local_date(customer, MIDNIGHT - SECOND), ended + 10 * MINUTE)
    assert due == ended + 10 * MINUTE


# --- Clocks that jump ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-400 * DAY, -DAY, -HOUR, -SECOND, SECOND, HOUR, DAY, 400 * DAY])
def test_after_a_jump_the_next_poll_is_on_the_same_grid_near_the_new_time(jump: timedelta) -> None:
    """Wherever the clock goes, the next poll is at most an interval from what it says then."""
    customer = by_interval("acme", "1m")
    now = NOON + jump
    due = next_poll(customer, now, local_date(customer, NOON))
    assert due is not None
    assert now <= due <= now + MINUTE
    assert now < following(customer, now) == due_after(customer, now)


def test_a_clock_that_was_ahead_is_followed_by_a_poll_at_once() -> None:
    """Where the last poll asked about tomorrow, today is asked about without waiting for the interval."""
    customer = by_interval("acme", "6h")
    assert next_poll(customer, NOON, local_date(customer, NOON) + DAY) == NOON


# --- The timetable ---------------------------------------------------------------------------------------------------


@pytest.fixture
def timetable() -> Iterator[Timetable]:
    """Give a timetable that is stopped with the test."""
    table = Timetable()
    table.start()
    yield table
    table.stop()


def now() -> datetime:
    """Return the time on the machine's clock, which the real scheduler follows."""
    return Clock().now()


def run_to_the_end(timetable: Timetable) -> None:
    """Wait until a poll has run that was due after all that came before, and no poll is under way any more."""
    done = threading.Event()
    timetable.at("the end", now(), "polls", done.set)
    assert done.wait(LONG_S)
    # A thread that began earlier can still be at its last step, such as the log line of a fault.
    under_way = timetable._scheduler._executors["polls"]._instances  # noqa: SLF001
    eventually(lambda: not any(tuple(under_way.values())), "the end of the polls under way")


@pytest.mark.parametrize("late", [timedelta(), SECOND, HOUR, 400 * DAY])
def test_a_job_whose_instant_is_past_runs_at_once_and_once(timetable: Timetable, late: timedelta) -> None:
    """A late job is not dropped, however late, and not made up for several times."""
    runs, ran = [0], threading.Event()

    def job() -> None:
        runs[0] += 1
        ran.set()

    timetable.at("acme", now() - late, "polls", job)
    assert ran.wait(LONG_S)
    run_to_the_end(timetable)
    assert runs == [1]


def test_a_job_does_not_run_before_its_instant(timetable: Timetable) -> None:
    """A job runs at its instant or later."""
    ran_at, ran, due = [NOON], threading.Event(), now() + 0.05 * SECOND

    def job() -> None:
        ran_at[0] = now()
        ran.set()

    timetable.at("acme", due, "polls", job)
    assert ran.wait(LONG_S)
    assert ran_at[0] >= due


def test_a_name_stands_for_one_job(timetable: Timetable) -> None:
    """A job set under a name that is taken replaces the one that was there."""
    ran: list[str] = []
    timetable.at("acme", now() + HOUR, "polls", lambda: ran.append("first"))
    timetable.at("acme", now() + 2 * HOUR, "polls", lambda: ran.append("second"))
    timetable.at("acme", now(), "polls", lambda: ran.append("third"))
    run_to_the_end(timetable)
    assert jobs_of(timetable) == set()
    assert ran == ["third"]


def jobs_of(timetable: Timetable) -> set[str]:
    """Return the names that stand for a job; what a timetable shows nobody else."""
    return {job.id for job in timetable._scheduler.get_jobs()}  # noqa: SLF001


def test_what_is_dropped_does_not_run(timetable: Timetable) -> None:
    """After a drop the name stands for nothing, and to drop it again is no error."""
    timetable.at("acme", now() + HOUR, "polls", lambda: None)
    timetable.at("other", now() + HOUR, "lookups", lambda: None)
    timetable.drop("acme")
    timetable.drop("acme")
    assert jobs_of(timetable) == {"other"}


def test_a_run_under_way_goes_on_when_its_name_is_dropped(timetable: Timetable) -> None:
    """A drop ends no run and waits for none."""
    began, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def job() -> None:
        began.set()
        go_on.wait(LONG_S)
        ended.set()

    timetable.at("acme", now(), "polls", job)
    assert began.wait(LONG_S)
    timetable.drop("acme")
    assert not ended.is_set()
    go_on.set()
    assert ended.wait(LONG_S)


@pytest.mark.parametrize("when", ["past", "now", "future"])
def test_a_job_that_sets_itself_again_is_never_lost(timetable: Timetable, when: str) -> None:
    """Three hundred runs that each ask for the next one, as polls do, all happen, one at a time."""
    off = {"past": -HOUR, "now": timedelta(), "future": 0.001 * SECOND}[when]
    runs, done, alone = [0], threading.Event(), threading.Lock()

    def job() -> None:
        with alone:
            runs[0] += 1
            if runs[0] == 300:
                done.set()
            else:
                timetable.at("acme", now() + off, "polls", job)

    timetable.at("acme", now(), "polls", job)
    assert done.wait(LONG_S)
    run_to_the_end(timetable)
    assert runs == [300]


def test_a_run_begins_while_the_last_one_of_its_name_is_still_counted(timetable: Timetable) -> None:
    """The next run that a job has set begins though that job is not yet over."""
    begun = threading.Event()

    def job() -> None:
        timetable.at("acme", now(), "polls", begun.set)
        begun.wait(LONG_S)

    timetable.at("acme", now(), "polls", job)
    assert begun.wait(LONG_S / 2)


def test_a_job_that_fails_takes_no_other_with_it(timetable: Timetable, caplog: pytest.LogCaptureFixture) -> None:
    """After a job that raised, jobs run as before."""

    def job() -> None:
        raise RuntimeError("on purpose")

    timetable.at("acme", now(), "polls", job)
    run_to_the_end(timetable)
    assert "on purpose" in caplog.text


def test_a_job_in_its_rhythm_is_set_once(timetable: Timetable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that asks for the instant at which it stands anyhow runs on, and the library is not told again."""
    told: list[str] = []
    add_job = timetable._scheduler.add_job  # noqa: SLF001

    def counted(*args: Any, **kwargs: Any) -> Any:
        told.append(kwargs["id"])
        return add_job(*args, **kwargs)

    monkeypatch.setattr(timetable._scheduler, "add_job", counted)  # noqa: SLF001
    dues, done = [now()], threading.Event()

    def then(_now: datetime) -> datetime:
        dues.append(now() + 0.05 * SECOND)
        return dues[-1]

    def job() -> None:
        timetable.again_at("acme", dues[-1], "polls", job, then)
        if len(dues) > 5:
            done.set()

    timetable.again_at("acme", dues[0], "polls", job, then)
    assert done.wait(LONG_S)
    assert told == ["acme"]


def test_a_rhythm_is_left_for_another_instant(timetable: Timetable) -> None:
    """A job that is set at another instant than the one it stands at runs at that, and only at that."""
    ran: list[str] = []
    timetable.again_at("acme", now() + HOUR, "polls", lambda: ran.append("old"), lambda _now: None)
    timetable.again_at("acme", now(), "polls", lambda: ran.append("new"), lambda _now: None)
    run_to_the_end(timetable)
    assert ran == ["new"]
    assert jobs_of(timetable) == set()


@pytest.mark.parametrize("kind", ["raises", "past", "none"])
def test_a_rhythm_that_has_no_next_instant_ends_no_other(
    timetable: Timetable, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Where the next instant cannot be told, or is over, the job leaves, and can be set again at the same one."""

    def then(at: datetime) -> datetime | None:
        if kind == "raises":
            raise RuntimeError("on purpose")
        return at - HOUR if kind == "past" else None

    runs, due = [0], now()

    def job() -> None:
        runs[0] += 1

    for _ in range(2):
        timetable.again_at("acme", due, "polls", job, then)
        run_to_the_end(timetable)
        assert jobs_of(timetable) == set()
    assert runs == [2]
    assert ("on purpose" in caplog.text) == (kind == "raises")


def test_nothing_runs_before_the_start() -> None:
    """What is due before the timetable is started runs then, and what was dropped meanwhile does not."""
    timetable = Timetable()
    ran = threading.Event()
    timetable.at("acme", now(), "polls", ran.set)
    timetable.at("other", now(), "polls", lambda: pytest.fail("was dropped"))
    timetable.drop("other")
    assert not ran.is_set()
    timetable.start()
    assert ran.wait(LONG_S)
    run_to_the_end(timetable)
    timetable.stop()


@pytest.mark.parametrize("given", range(3))
def test_a_start_for_which_there_are_too_few_threads_leaves_none(monkeypatch: pytest.MonkeyPatch, given: int) -> None:
    """Whichever thread it is that the system does not give, the start says so, and those before it end."""
    left, threads, start = given, list[threading.Thread](), threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        nonlocal left
        if left == 0:
            raise RuntimeError("can't start new thread")
        left -= 1
        threads.append(thread)
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", limited)
        with pytest.raises(RuntimeError):
            Timetable().start()
    for thread in threads:
        thread.join(LONG_S)
    assert [thread.is_alive() for thread in threads] == [False] * given


def test_lookbacks_that_hang_hold_up_no_poll(timetable: Timetable) -> None:
    """With more lookbacks under way than there are threads for them, a poll still runs at once."""
    go_on, began = threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        began.release()
        go_on.wait(LONG_S)

    for n in range(LOOKUPS_AT_ONCE + 1):
        timetable.at(f"lookback {n}", now(), "lookups", hang)
    try:
        assert all(began.acquire(timeout=LONG_S) for _ in range(LOOKUPS_AT_ONCE))
        run_to_the_end(timetable)
        assert not began.acquire(blocking=False)
    finally:
        go_on.set()
    assert began.acquire(timeout=LONG_S)


def test_many_polls_run_at_once_but_not_more_than_the_bound(timetable: Timetable) -> None:
    """As many polls are under way as the bound allows, and the next one waits for a place."""
    go_on, began = threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        began.release()
        go_on.wait(LONG_S)

    for n in range(POLLS_AT_ONCE + 1):
        timetable.at(f"poll {n}", now(), "polls", hang)
    try:
        assert all(began.acquire(timeout=LONG_S) for _ in range(POLLS_AT_ONCE))
        assert not began.acquire(blocking=False)
    finally:
        go_on.set()
    assert began.acquire(timeout=LONG_S)


def test_the_more_run_at_once_the_longer_is_a_turn(timetable: Timetable) -> None:
    """With the short turns of a few, hundreds would wake up so often that none got on; then they are short again."""
    eventually(lambda: sys.getswitchinterval() < 0.001, "jobs of other tests to end")
    short, go, running = sys.getswitchinterval(), threading.Event(), threading.Semaphore(0)

    def job() -> None:
        running.release()
        assert go.wait(LONG_S)

    for number in range(128):
        timetable.at(f"{number}", now(), "polls", job)
    try:
        assert all(running.acquire(timeout=LONG_S) for _ in range(128))
        assert sys.getswitchinterval() == pytest.approx(8 * short)
    finally:
        go.set()
    eventually(lambda: sys.getswitchinterval() == pytest.approx(short), "turns to be short again")


def test_after_a_jump_of_the_clock_wake_runs_what_is_late(
    timetable: Timetable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job an hour away runs without that hour where the machine's clock was put forward and wake was called."""
    done = threading.Event()
    timetable.at("acme", now() + HOUR, "polls", done.set)

    class Later(datetime):
        """The scheduler library's clock, put forward."""

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + 2 * HOUR  # noqa: TID251 - stands for the library's clock

    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", Later)
    assert not done.is_set()
    timetable.wake()
    assert done.wait(LONG_S)


def test_stop_does_not_wait_for_a_run_under_way() -> None:
    """Stop returns while a job hangs, and what that job still asks for never comes."""
    again: list[str] = []
    # Often, since a stop just when a job begins is the awkward one.
    for _ in range(50):
        timetable = Timetable()
        timetable.start()
        began, go_on, ended = threading.Event(), threading.Event(), threading.Event()

        def job(table: Timetable, began: threading.Event, go_on: threading.Event, ended: threading.Event) -> None:
            began.set()
            go_on.wait(LONG_S)
            table.at("acme", now(), "polls", lambda: again.append("a poll after the end"))
            ended.set()

        timetable.at("acme", now(), "polls", partial(job, timetable, began, go_on, ended))
        assert began.wait(LONG_S)
        timetable.stop()
        assert not ended.is_set()
        go_on.set()
        assert ended.wait(LONG_S)
    assert again == []


def test_stop_starts_no_job_that_was_still_to_come() -> None:
    """Jobs that were due later never run after a stop."""
    timetable = Timetable()
    timetable.start()
    ran = threading.Event()
    timetable.at("acme", now() + HOUR, "polls", ran.set)
    timetable.stop()
    timetable.at("other", now(), "polls", ran.set)
    assert not ran.is_set()
