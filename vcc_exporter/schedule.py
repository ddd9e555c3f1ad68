"""When polls are due: pure functions, and APScheduler around them.

A customer polled by interval has a grid of due times, shifted by a stable hash of its name so that
customers spread over the interval. One with a crontab schedule is due within the minutes that it names,
spread over the minute likewise. A few neighbours are polled at one instant, because polls that come alone
take 1.4 times as much CPU: the machine's caches hold something else by then.
"""

import hashlib
import logging
import math
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import Final, Literal
from zoneinfo import ZoneInfo

from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.date import DateTrigger

from vcc_exporter import times
from vcc_exporter.config import Customer
from vcc_exporter.threads import Threads

log = logging.getLogger(__name__)

Pool = Literal["polls", "lookups"]

POLLS_AT_ONCE: Final = 256
"""Polls under way at most, so that many that hang leave room."""
LOOKUPS_AT_ONCE: Final = 16
"""Lookbacks under way at most, in threads of their own, since thousands may be wanted after a midnight."""
LONGEST_RETRY_AFTER: Final = timedelta(hours=1)

_TURN_S: Final = 0.0005
_FEW: Final = 16

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The contract gives a first poll, and the poll after a midnight, 15 s; the rest is for the poll to begin in.
_FIRST_WITHIN: Final = timedelta(seconds=10)
_FIRST_STEP: Final = timedelta(milliseconds=50)
_MIDNIGHT_WITHIN: Final = timedelta(seconds=10)
_TOGETHER: Final = 8
_SLOT: Final = timedelta(seconds=1)
_FEWEST_SLOTS: Final = 64
# Short of the whole minute, so that 23:59's answer is in before the day is over.
_SCHEDULE_WITHIN: Final = timedelta(seconds=50)


@lru_cache(maxsize=2**15)
def place(name: str) -> float:
    """Return a customer's place among all, from 0 up to 1, the same on every machine and at every start."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) / 2**48


def first_poll(customer: Customer, customers: int, now: datetime) -> datetime:
    """Return when a customer that is new among so many is first polled: soon, but not all at once."""
    return now + min(_FIRST_WITHIN, customers * _FIRST_STEP) * place(customer.name)


def next_poll(
    customer: Customer, now: datetime, asked: date, hold_until: datetime | None = None, customers: int = 1
) -> datetime | None:
    """Return when a customer, one of so many, is due next, after a poll that is over at `now` and was about `asked`.

    `hold_until` is the instant until which the API wants to be left alone; None is returned only where a
    schedule is never due again.
    """
    hold = hold_until or now
    if customer.schedule:
        return due_after(customer, max(now, hold), customers)
    return max(_interval_due(customer, now, asked, customers), hold)


def due_after(customer: Customer, after: datetime, customers: int = 1) -> datetime | None:
    """Return the first due time of a customer's rhythm strictly after an instant, midnights apart.

    It is one of so many customers. Among more it is due up to a second later and never earlier, so that whoever does
    not know how many there are expects nothing too late.
    """
    if not customer.schedule:
        return _grid(customer, after, customers)
    shift = _shift(customer, _SCHEDULE_WITHIN, customers)
    due = times.cron_after(customer.schedule, customer.zone, after - shift)
    return due + shift if due else None


def _shift(customer: Customer, within: timedelta, customers: int) -> timedelta:
    """Return how long after the beginning of a time a customer is due that all are spread over.

    The time has slots of a second, or more and shorter ones, in which some eight of all customers are due. A power of
    two of them, so that a customer more or less moves nobody but where it doubles them.
    """
    slots = 1 << (max(within // _SLOT, customers // _TOGETHER, _FEWEST_SLOTS) - 1).bit_length()
    return within * (int(place(customer.name) * slots) / slots)


def polls_a_day(customer: Customer, now: datetime) -> int:
    """Return how many polls are due on one day; with a schedule, on the busiest of the coming seven."""
    if not customer.schedule:
        return math.ceil(timedelta(days=1) / customer.interval)
    today = times.local_date(customer.zone, now)
    return max(_due_times(customer.schedule, customer.zone, today + timedelta(days=ahead)) for ahead in range(7))


@lru_cache(maxsize=1024)
def _due_times(schedule: str, zone: ZoneInfo, day: date) -> int:
    start, end = times.day_start(zone, day), times.day_start(zone, day + timedelta(days=1))
    dues = takewhile(lambda due: due < end, times.cron_dues(schedule, zone, start - timedelta(seconds=1)))
    return sum(1 for _ in dues)


def _interval_due(customer: Customer, now: datetime, asked: date, customers: int) -> datetime:
    """Return the next instant of the grid, or one soon after midnight where that comes first."""
    zone, shift = customer.zone, _MIDNIGHT_WITHIN * place(customer.name)
    today = times.local_date(zone, now)
    due = _grid(customer, now, customers)
    if asked != today:
        return min(due, max(times.day_start(zone, today) + shift, now))
    midnight = times.day_end(zone, now)
    if due < midnight:
        return due
    return min(_grid(customer, midnight, customers), midnight + shift)


def _grid(customer: Customer, after: datetime, customers: int) -> datetime:
    start = _EPOCH + _shift(customer, customer.interval, customers)
    return start + ((after - start) // customer.interval + 1) * customer.interval


class _Rhythm(BaseTrigger):  # type: ignore[misc]
    """When a job runs that stays in the timetable: the next time is found as it starts, in the scheduler's thread."""

    def __init__(self, due: datetime, then: Callable[[datetime], datetime | None]) -> None:
        self.due: datetime | None = due
        self._then = then

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Return the instant that the job stands at; None takes it out."""
        if previous_fire_time is not None and self.due and self.due <= now:
            self.due = self._after(now)
        return self.due

    def _after(self, now: datetime) -> datetime | None:
        try:
            due = self._then(now)
        except Exception:
            log.exception("unexpected fault")  # which would end the scheduler's thread
            return None
        return due if due and due > now else None  # the library asks again until it is past now


class _Turns:
    """How long a thread may compute while others wait: short, so that no scrape waits for a poll's whole turn.

    Whoever waits looks for its turn once in that time. Where hundreds do, such as when thousands of customers are
    polled for the first time, short turns would leave no time for anything else, and no poll would come in time again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._change(0)

    def __enter__(self) -> None:
        self._change(1)

    def __exit__(self, *_: object) -> None:
        self._change(-1)

    def _change(self, by: int) -> None:
        with self._lock:
            self._running += by
            sys.setswitchinterval(_TURN_S * max(1, self._running / _FEW))


class Timetable:
    """Runs jobs at instants of the wall clock, in a bounded pool of threads, once it is started.

    A job whose instant is past runs at once, and once. Every method may be called from any thread.
    """

    def __init__(self) -> None:
        self._threads: Mapping[Pool, Threads] = {"polls": Threads(POLLS_AT_ONCE), "lookups": Threads(LOOKUPS_AT_ONCE)}
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors=self._threads,
            # A late job still runs. A name's next run may be due when the last one is not yet over, and the
            # library counts that one as running for a moment longer: a limit of 1 would lose the next.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1000},
        )
        self._rhythms: dict[str, _Rhythm] = {}
        self._turns = _Turns()

    def start(self) -> None:
        """Begin to run jobs. Those that were set before have cost nothing so far: nobody ran beside them.

        Raises RuntimeError where the system does not give the threads, and leaves none behind.
        """
        try:
            self._scheduler.start()
        except RuntimeError:
            for threads in self._threads.values():
                threads.shutdown()
            raise

    def at(self, name: str, when: datetime, pool: Pool, job: Callable[[], None]) -> None:
        """Run `job` at `when`, instead of what `name` stood for until now."""
        # Without a timezone the library would look for the machine's, and fail where it knows none of that name.
        self._set(name, pool, job, DateTrigger(when, UTC))

    def again_at(
        self,
        name: str,
        when: datetime,
        pool: Pool,
        job: Callable[[], None],
        then: Callable[[datetime], datetime | None],
    ) -> None:
        """Run `job` at `when`, then when `then` says, given the time at which it started, and so on.

        Where `name` stands at that instant anyhow nothing is done, which is why it exists: to set a job takes a
        tenth of a poll, most of it to wake the scheduler.
        """
        rhythm = self._rhythms.get(name)
        if rhythm is None or rhythm.due != when:
            rhythm = self._rhythms[name] = _Rhythm(when, then)
            self._set(name, pool, job, rhythm)

    def _set(self, name: str, pool: Pool, job: Callable[[], None], trigger: BaseTrigger) -> None:
        self._scheduler.add_job(
            self._in_turn, trigger, (job,), id=name, name=name, executor=pool, replace_existing=True
        )

    def _in_turn(self, job: Callable[[], None]) -> None:
        with self._turns:
            job()

    def drop(self, name: str) -> None:
        """Forget what `name` stands for; a run under way goes on."""
        self._rhythms.pop(name, None)
        try:
            self._scheduler.remove_job(name)
        except JobLookupError:
            return

    def wake(self) -> None:
        """Look at the clock again, for when it has jumped."""
        self._scheduler.wakeup()

    def stop(self) -> None:
        """Start no more jobs. Does not wait for those that run."""
        # The library's own end would pull the jobs away from a round under way, whose thread then dies with a
        # traceback: begin no further round, and empty the store once the present one is over.
        self._scheduler.pause()
        self._scheduler.remove_all_jobs()
        self._scheduler.shutdown(wait=False)
