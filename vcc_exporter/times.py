"""Time as values: durations, a zone's days, crontab schedules, opening hours; and the one clock.

All but `Clock` are pure functions of their arguments. Instants are aware datetimes in UTC; a zone is
only used to find out what a clock on the wall there reads.
"""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
_MINUTES_A_DAY: Final = 24 * 60
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """The only place where the program asks what time it is."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware and in UTC. It may jump either way."""
        return datetime.now(UTC)  # noqa: TID251 - the one clock

    def monotonic(self) -> float:
        """Return seconds on a clock that never jumps; only differences mean something."""
        return time.monotonic()


# Durations, as Prometheus writes them.

_DURATION: Final = re.compile(
    r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII
)
_UNIT_MS: Final = (365 * 86_400_000, 7 * 86_400_000, 86_400_000, 3_600_000, 60_000, 1000, 1)
_LONGEST: Final = timedelta(days=100 * 365)


def parse_duration(text: str) -> timedelta:
    """Read a Prometheus duration such as `30s` or `1h30m`, or a plain `0`.

    Raises ValueError for anything else and for more than a hundred years.
    """
    if text == "0":
        return timedelta()
    match = _DURATION.fullmatch(text)
    if not match or not text:
        raise ValueError(text)
    total_ms = sum(int(count or 0) * unit for count, unit in zip(match.groups(), _UNIT_MS, strict=True))
    if total_ms > _LONGEST // timedelta(milliseconds=1):
        raise ValueError(text)
    return timedelta(milliseconds=total_ms)


def format_duration(duration: timedelta) -> str:
    """Write a duration as Prometheus does, the largest units first: `1h30m`."""
    rest = duration // timedelta(milliseconds=1)
    words = ""
    for unit, size in zip(("d", "h", "m", "s", "ms"), _UNIT_MS[2:], strict=True):
        count, rest = divmod(rest, size)
        words += f"{count}{unit}" if count else ""
    return words or "0s"


# A zone's days. Midnight does not exist everywhere on every date, and a date may not exist either.


def local_date(zone: ZoneInfo, now: datetime) -> date:
    """Return the date that a calendar on the wall shows in `zone`."""
    return now.astimezone(zone).date()


def first_instant(zone: ZoneInfo, wall: datetime) -> datetime:
    """Return the first instant, in UTC, at which a clock in `zone` reads `wall` (naive) or later.

    Where the clock is put forward over `wall` that is the jump itself; where it is put back, the first
    of the two.
    """
    guess = wall.replace(tzinfo=zone).astimezone(UTC)
    if _reads(zone, guess) == wall:
        return guess
    before, after = guess - 2 * _DAY, guess + 2 * _DAY
    while after - before > _SECOND:
        middle = before + ((after - before) / 2 // _SECOND) * _SECOND
        if _reads(zone, middle) >= wall:
            after = middle
        else:
            before = middle
    return after


def _reads(zone: ZoneInfo, instant: datetime) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)


@lru_cache(maxsize=4096)
def day_start(zone: ZoneInfo, day: date) -> datetime:
    """Return the first instant of a date, in UTC. For a date that a zone left out: of the next one."""
    return first_instant(zone, datetime(day.year, day.month, day.day))  # noqa: DTZ001 - a wall clock's reading


def day_end(zone: ZoneInfo, now: datetime) -> datetime:
    """Return the instant after `now` at which the date in `zone` changes, in UTC."""
    return day_start(zone, local_date(zone, now) + _DAY)


# Schedules, as crontab(5) has them.

_CRON_TERM: Final = re.compile(r"(?:\*|(?:[0-9]+|[a-z]{3})(?:-(?:[0-9]+|[a-z]{3}))?)(?:/[0-9]+)?", re.ASCII)
_CRON_FIELDS: Final = 5


def parse_crontab(text: str) -> str:
    """Check a crontab(5) expression and return it in the one spelling that `cron_after` takes.

    Raises ValueError, with what is wrong in words, for one that crontab(5) does not know or that is
    never due.
    """
    fields = text.lower().split()
    if len(fields) != _CRON_FIELDS:
        raise ValueError(f"it has {len(fields)} fields instead of 5")
    for field in fields:
        for term in field.split(","):
            if not _CRON_TERM.fullmatch(term):
                raise ValueError(f"{term!r} in it is no value, range or step")
    # Sunday is 0 by name, so that a range that ends with it would run backwards.
    fields[4] = fields[4].replace("sun-sun", "sun").replace("-sun", "-7")
    _crontab_error(fields, "bad %s")
    return " ".join(fields)


def _crontab_error(fields: list[str], words: str) -> None:
    try:
        CronSim(" ".join(fields), _EPOCH)
    except CronSimError as error:
        every_month = [*fields[:3], "*", fields[4]]
        if fields != every_month and "day-of-month" in str(error):
            _crontab_error(every_month, words)
            raise ValueError("it is never due: its months do not have that day") from None
        raise ValueError(words % str(error).removeprefix("Bad ")) from None


def cron_after(expression: str, zone: ZoneInfo, after: datetime) -> datetime | None:
    """Return the first instant strictly after `after` at which a crontab schedule is due in `zone`.

    None where it is never due.
    """
    return next(cron_dues(expression, zone, after), None)


def cron_dues(expression: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Yield all instants strictly after `after` at which a crontab schedule is due in `zone`, in UTC.

    As Debian's cron does, a job that names its hour runs once on the day whose hour is repeated, and after
    the gap on the day whose hour is left out; one for every hour runs in each hour that passes.
    """
    for due in CronSim(expression, after.astimezone(zone)):
        # In a repeated hour the library may begin with the first of the two, which can be over.
        if due > after:
            yield due.astimezone(UTC)


def due_hour(expression: str, zone: ZoneInfo, now: datetime) -> tuple[bool, datetime]:
    """Tell whether a schedule is due at any time in the current hour of `zone`, and when that hour ends."""
    local = now.astimezone(zone)
    start = now - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    end = start + timedelta(hours=1)
    due = cron_after(expression, zone, start - _SECOND)
    return due is not None and due < end, end


# Opening hours.


@dataclass(frozen=True, slots=True)
class Hours:
    """When callers are expected: spans by weekday, and the days that have none."""

    spans: tuple[tuple[tuple[int, int], ...], ...]
    """For Monday to Sunday, the spans as minutes after midnight; an end may lie on the next day."""
    countries: tuple[str, ...] = ()
    """Country codes whose public holidays have no hours."""
    dates: frozenset[date] = frozenset()
    """Further days without hours."""


def parse_weekdays(text: str) -> list[int]:
    """Read `mon`, `mon-fri`, `sat,sun` as weekday numbers, Monday 0. Raises ValueError otherwise."""
    days: list[int] = []
    for term in text.lower().replace(" ", "").split(","):
        first, dash, last = term.partition("-")
        start = WEEKDAYS.index(first)
        end = WEEKDAYS.index(last) if dash else start
        days += [day % 7 for day in range(start, end + 1 if end >= start else end + 8)]
    return days


_SPAN: Final = re.compile(r"(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d)", re.ASCII)


def parse_span(text: str) -> tuple[int, int]:
    """Read `08:00-18:00` as minutes after midnight; `22:00-06:00` ends on the next day.

    Raises ValueError for anything else, and where both ends are the same.
    """
    match = _SPAN.fullmatch(text.strip())
    if not match:
        raise ValueError(text)
    start, end = (60 * int(match[i]) + int(match[i + 1]) for i in (1, 3))
    if max(int(match[2]), int(match[4])) > 59 or start >= _MINUTES_A_DAY or end > _MINUTES_A_DAY or start == end:  # noqa: PLR2004
        raise ValueError(text)
    return start, end if end > start else end + _MINUTES_A_DAY


def known_country(code: str) -> bool:
    """Tell whether the holidays of a country are known."""
    import holidays  # noqa: PLC0415 - some megabytes, for those who name a country

    return code in holidays.list_supported_countries(include_aliases=False)


def is_holiday(hours: Hours, day: date) -> bool:
    """Tell whether a day has no hours, whatever its weekday."""
    return day in hours.dates or any(day in _public_holidays(code, day.year) for code in hours.countries)


@lru_cache(maxsize=1024)
def _public_holidays(country: str, year: int) -> frozenset[date]:
    import holidays  # noqa: PLC0415 - as above

    return frozenset(holidays.country_holidays(country, years=year))


def open_at(hours: Hours, zone: ZoneInfo, now: datetime) -> tuple[bool, datetime]:
    """Tell whether callers are expected at `now`, and the instant until which that answer surely holds."""
    today = local_date(zone, now)
    spans = [span for day in (today - _DAY, today) for span in _spans(hours, zone, day)]
    is_open = any(start <= now < end for start, end in spans)
    changes = [instant for span in spans for instant in span if instant > now]
    return is_open, min([*changes, day_end(zone, now)])


def _spans(hours: Hours, zone: ZoneInfo, day: date) -> Iterator[tuple[datetime, datetime]]:
    spans = hours.spans[day.weekday()]
    if not spans or is_holiday(hours, day):
        return
    midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - a wall clock's reading
    for start, end in spans:
        yield (
            first_instant(zone, midnight + timedelta(minutes=start)),
            first_instant(zone, midnight + timedelta(minutes=end)),
        )


def week(by_day: Mapping[int, tuple[tuple[int, int], ...]]) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Lay spans by weekday number out as `Hours.spans` wants them."""
    return tuple(by_day.get(day, ()) for day in range(7))
