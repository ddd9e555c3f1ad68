"""The oracle's own idea of time: a zone's days, when schedules are due, when callers are expected.

Nothing here is computed as the exporter does it: days are found by looking at every minute, schedules and hours by
what a clock on the wall reads.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)
_A_DAY: Final = 24 * 60
_WEEKEND: Final = 5
_FURTHEST: Final = 8 * _A_DAY


def on_the_wall(zone: ZoneInfo, now: datetime) -> date:
    """Return the date in a zone."""
    return now.astimezone(zone).date()


@lru_cache(maxsize=4096)
def begin(zone: ZoneInfo, day: date) -> datetime:
    """Return the first minute at which a calendar in a zone shows `day`, or a later one where it never does."""
    minute = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=15)
    while on_the_wall(zone, minute) < day:
        minute += MINUTE
    return minute


def end(zone: ZoneInfo, now: datetime) -> datetime:
    """Return the next midnight, whatever a clock reads there."""
    return begin(zone, on_the_wall(zone, now) + _DAY)


# None names an hour in which any zone changes its clocks: what cron makes of those is another test's.
SCHEDULES: Final[Mapping[str, Callable[[datetime], bool]]] = {
    "*/15 7-20 * * mon-fri": lambda t: t.minute % 15 == 0 and t.hour in range(7, 21) and t.weekday() < _WEEKEND,
    "5,35 8-17 * * *": lambda t: t.minute in {5, 35} and t.hour in range(8, 18),
    "*/20 * * * *": lambda t: t.minute % 20 == 0,
    "0 6-22/4 * * 0-6": lambda t: t.minute == 0 and t.hour in {6, 10, 14, 18, 22},
    "30 9 * * sat,sun,wed": lambda t: (t.hour, t.minute) == (9, 30) and t.weekday() in {2, 5, 6},
}
"""Schedules as the config has them, and whether one is due in a minute, by the clock on the wall."""


def due_minute(schedule: str, zone: ZoneInfo, minute: datetime) -> bool:
    """Tell whether a schedule is due in the minute that begins at an instant."""
    return minute.second == minute.microsecond == 0 and SCHEDULES[schedule](minute.astimezone(zone))


def whole_minute(instant: datetime) -> datetime:
    """Return the minute that an instant is in."""
    return instant.replace(second=0, microsecond=0)


def next_due(schedule: str, zone: ZoneInfo, after: datetime, shift: timedelta) -> datetime:
    """Return the first instant after another that lies `shift` behind the begin of a minute that is due."""
    minute = whole_minute(after - shift)
    for _ in range(_FURTHEST):
        if minute + shift > after and SCHEDULES[schedule](minute.astimezone(zone)):
            return minute + shift
        minute += MINUTE
    raise AssertionError(schedule)


def due_in_hour(schedule: str, zone: ZoneInfo, now: datetime) -> bool:
    """Tell whether a schedule is due at any minute of the hour that a clock in the zone reads."""
    first = whole_minute(now) - now.astimezone(zone).minute * MINUTE
    return any(SCHEDULES[schedule]((first + n * MINUTE).astimezone(zone)) for n in range(60))


HOLIDAYS: Final[Mapping[str, frozenset[date]]] = {
    "HU": frozenset({date(2026, 3, 15), date(2026, 4, 3), date(2026, 4, 6), date(2026, 10, 23), date(2026, 11, 1)}),
    "AT": frozenset({date(2026, 4, 6), date(2026, 10, 26), date(2026, 11, 1)}),
}
"""Those of the weeks that are simulated, from the countries' own calendars."""


@dataclass(frozen=True, slots=True)
class Hours:
    """When callers are expected."""

    written: tuple[tuple[str, str], ...]
    """As in the config: weekdays and a span."""
    spans: tuple[tuple[frozenset[int], int, int], ...]
    """The same: weekdays, Monday 0, and the minutes of the day from which and until when, which may be past 24:00."""

    def open(self, zone: ZoneInfo, now: datetime, holidays: frozenset[str | date]) -> bool:
        """Tell whether callers are expected, by a clock on the wall."""
        local = now.astimezone(zone)
        minute = 60 * local.hour + local.minute
        return any(
            local.date() - before * _DAY not in _free_days(holidays)
            and (local.weekday() - before) % 7 in days
            and first <= minute + before * _A_DAY < last
            for days, first, last in self.spans
            for before in (0, 1)
        )


@lru_cache(maxsize=64)
def _free_days(holidays: frozenset[str | date]) -> frozenset[date]:
    return frozenset[date]().union(*(HOLIDAYS[day] if isinstance(day, str) else {day} for day in holidays))


def _week(first: int, last: int) -> frozenset[int]:
    return frozenset(range(first, last + 1))


HOURS: Final = (
    Hours((("mon-fri", "08:00-18:00"),), ((_week(0, 4), 480, 1080),)),
    Hours(
        (("mon-fri", "07:30-20:00"), ("sat", "09:00-13:00")),
        ((_week(0, 4), 450, 1200), (frozenset({5}), 540, 780)),
    ),
    Hours((("mon-sun", "22:00-06:00"),), ((_week(0, 6), 1320, 1800),)),
    Hours(
        (("mon-sat", "10:00-24:00"), ("sun", "12:30-17:00")), ((_week(0, 5), 600, 1440), (frozenset({6}), 750, 1020))
    ),
)
