"""Durations, a zone's days, crontab schedules and opening hours, as values in and values out."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from vcc_exporter import times
from vcc_exporter.times import Clock, Hours

BUDAPEST: Final = ZoneInfo("Europe/Budapest")
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
INSTANT: Final = timedelta(microseconds=1)

ZONES: Final = [
    ZoneInfo(name)
    for name in (
        "UTC",
        "Africa/Cairo",
        "Africa/Casablanca",
        "America/Havana",
        "America/New_York",
        "America/Sao_Paulo",
        "America/St_Johns",
        "Asia/Beirut",
        "Asia/Kathmandu",
        "Asia/Kolkata",
        "Atlantic/Azores",
        "Australia/Lord_Howe",
        "Europe/Budapest",
        "Europe/London",
        "Pacific/Apia",
        "Pacific/Chatham",
    )
]
"""Zones whose clocks are put on at midnight or at other hours, by 30, 60 or 120 minutes, or never."""

# Not from earlier on: until 2011 clocks in Newfoundland were put back at 00:01 into the day before.
instants: Final = st.datetimes(datetime(2012, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
MOVED: Final = [
    (zone, day)
    for zone in ZONES
    for day in (datetime(2026, 1, 1, tzinfo=UTC) + i * DAY for i in range(365))
    if day.astimezone(zone).utcoffset() != (day + DAY).astimezone(zone).utcoffset()
]
"""The days of a year within which a zone's clocks are moved."""
moments: Final = st.one_of(
    st.tuples(st.sampled_from(ZONES), instants),
    st.builds(
        lambda moved, s: (moved[0], moved[1] + timedelta(seconds=s)), st.sampled_from(MOVED), st.integers(0, 172_800)
    ),
)
"""Zones with an instant, half of them about the time when clocks are moved."""
bounded: Final = settings(
    derandomize=True, database=None, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow]
)


def wall(zone: ZoneInfo, instant: datetime | None) -> str:
    """Write what a clock on the wall reads, with its offset."""
    return instant.astimezone(zone).strftime("%m-%d %H:%M%z") if instant else "never"


def at(zone: ZoneInfo, text: str, fold: int = 0) -> datetime:
    """Return the instant at which a clock in `zone` reads this, in UTC; `fold` 1 is the second time."""
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).astimezone(UTC)


# The clock.


def test_the_clock_tells_the_time_in_utc() -> None:
    """The wall clock is aware and in UTC, and the monotonic one never goes back."""
    clock = Clock()
    readings = [clock.monotonic() for _ in range(100)]
    assert clock.now().tzinfo is UTC
    assert readings == sorted(readings)


# Durations.


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("1ms", 0.001),
        ("30s", 30),
        ("1m", 60),
        ("1m5ms", 60.005),
        ("90m", 5400),
        ("1h30m", 5400),
        ("1h30m15s250ms", 5415.25),
        ("007s", 7),
        ("1d", 86_400),
        ("1w", 7 * 86_400),
        ("1y", 365 * 86_400),
        ("1y2w3d4h5m6s7ms", ((365 + 14 + 3) * 24 + 4) * 3600 + 306.007),
        ("100y", 100 * 365 * 86_400),
    ],
)
def test_a_duration_is_what_prometheus_takes_it_for(text: str, seconds: float) -> None:
    """Units from years to milliseconds, the largest first; a plain 0 needs none."""
    assert times.parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "30",
            "1",
            "00",
            "s",
            "1.5h",
            "-1m",
            "+1m",
            "1M",
            "1 m",
            " 1m",
            "1m ",
            "1m\n",
            "1h30",
            "1min",
            "1us",
        ),
        *("1m1h", "1m1m", "1ms1s", "१m", "101y", "99999999999999d", "9" * 5000 + "s"),
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Missing, foreign, repeated or disordered units, signs, fractions, blanks, and more than a hundred years."""
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the caller's
        times.parse_duration(text)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(milliseconds=1), "1ms"),
        (timedelta(seconds=60), "1m"),
        (timedelta(minutes=90), "1h30m"),
        (timedelta(days=8, seconds=1), "8d1s"),
        (timedelta(microseconds=1999), "1ms"),
    ],
)
def test_a_duration_is_written_with_its_largest_units_first(duration: timedelta, text: str) -> None:
    """Days to milliseconds; what is less than a millisecond is left out."""
    assert times.format_duration(duration) == text


@given(st.integers(0, 100 * 365 * 86_400_000))
@bounded
def test_a_written_duration_is_read_as_the_same(milliseconds: int) -> None:
    """Every duration of whole milliseconds survives being written and read."""
    duration = timedelta(milliseconds=milliseconds)
    assert times.parse_duration(times.format_duration(duration)) == duration


@given(st.text(alphabet="0123456789ywdhms .-", max_size=12))
@bounded
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    """Nothing but ValueError comes of a text, and nothing below zero."""
    try:
        assert times.parse_duration(text) >= timedelta()
    except ValueError:
        return


# Days.


def days_of(zone: ZoneInfo, year: int) -> Iterator[tuple[datetime, datetime]]:
    """Walk through a year from midnight to midnight, by `day_end` alone."""
    start, end = times.day_start(zone, date(year, 1, 1)), times.day_start(zone, date(year + 1, 1, 1))
    while start < end:
        next_start = times.day_end(zone, start)
        yield start, next_start
        start = next_start


@pytest.mark.parametrize(
    ("name", "year", "days", "hours", "starts"),
    [
        ("UTC", 2024, 366, {}, {}),
        ("Asia/Kolkata", 2026, 365, {}, {}),
        ("Europe/Budapest", 2026, 365, {"03-29": 23, "10-25": 25}, {}),
        ("America/Sao_Paulo", 2018, 365, {"02-17": 25, "11-04": 23}, {"11-04": "01:00"}),
        ("Africa/Cairo", 2026, 365, {"04-24": 23, "10-29": 25}, {"04-24": "01:00"}),
        ("America/Havana", 2026, 365, {"03-08": 23, "11-01": 25}, {"03-08": "01:00"}),
        ("Australia/Lord_Howe", 2026, 365, {"04-05": 24.5, "10-04": 23.5}, {}),
        ("Pacific/Apia", 2011, 364, {"04-02": 25, "09-24": 23}, {}),
    ],
)
def test_a_year_of_midnights(name: str, year: int, days: int, hours: dict[str, float], starts: dict[str, str]) -> None:
    """Every date comes once and in order; only the days named are not of 24 hours or do not begin at 00:00."""
    zone = ZoneInfo(name)
    found = list(days_of(zone, year))
    dates = [times.local_date(zone, start) for start, _ in found]
    assert dates == sorted(set(dates))
    assert len(dates) == days
    assert {f"{day:%m-%d}": (end - start) / HOUR for day, (start, end) in zip(dates, found, strict=True)} == {
        f"{day:%m-%d}": hours.get(f"{day:%m-%d}", 24) for day in dates
    }
    assert {f"{start.astimezone(zone):%m-%d %H:%M:%S.%f}" for start, _ in found} == {
        f"{day:%m-%d} {starts.get(f'{day:%m-%d}', '00:00')}:00.000000" for day in dates
    }


def test_a_date_that_a_zone_left_out_begins_with_the_next_one() -> None:
    """Samoa went from 29 to 31 December 2011: the 30th has no instant of its own."""
    apia = ZoneInfo("Pacific/Apia")
    midnight = datetime(2011, 12, 30, 10, tzinfo=UTC)
    assert times.day_start(apia, date(2011, 12, 30)) == midnight
    assert times.day_start(apia, date(2011, 12, 31)) == midnight
    assert times.day_end(apia, midnight - INSTANT) == midnight
    assert times.local_date(apia, midnight - INSTANT) == date(2011, 12, 29)
    assert times.local_date(apia, midnight) == date(2011, 12, 31)


def test_a_repeated_midnight_begins_the_day_the_first_time() -> None:
    """In Havana 00:00 to 01:00 comes twice on 1 November 2026; the day begins with the first."""
    havana = ZoneInfo("America/Havana")
    start = times.day_start(havana, date(2026, 11, 1))
    assert wall(havana, start) == "11-01 00:00-0400"
    assert wall(havana, times.day_end(havana, at(havana, "2026-11-01 00:30", fold=1))) == "11-02 00:00-0500"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-29 01:59", "03-29 01:59+0100"),
        ("2026-03-29 02:00", "03-29 03:00+0200"),
        ("2026-03-29 02:59", "03-29 03:00+0200"),
        ("2026-03-29 03:00", "03-29 03:00+0200"),
        ("2026-10-25 02:00", "10-25 02:00+0200"),
        ("2026-10-25 02:59", "10-25 02:59+0200"),
        ("2026-10-25 03:00", "10-25 03:00+0100"),
    ],
)
def test_a_clock_on_the_wall_first_reads_a_time(text: str, expected: str) -> None:
    """What is left out begins with the jump; what is repeated is the first of the two."""
    assert wall(BUDAPEST, times.first_instant(BUDAPEST, datetime.fromisoformat(text))) == expected


@given(moments)
@bounded
def test_a_day_holds_the_instants_with_its_date(moment: tuple[ZoneInfo, datetime]) -> None:
    """A date's start is its first instant, its end comes after now and is the first instant of the next."""
    zone, now = moment
    today = times.local_date(zone, now)
    start, end = times.day_start(zone, today), times.day_end(zone, now)
    assert start <= now < end
    assert times.local_date(zone, start) == times.local_date(zone, end - INSTANT) == today
    assert times.local_date(zone, start - INSTANT) == today - DAY
    assert times.local_date(zone, end) == today + DAY


# Schedules.


def walk(expression: str, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """Return every due time from one instant to before another, each found from the one before."""
    found = [times.cron_after(expression, zone, start - INSTANT)]
    while (last := found[-1]) and last < end:
        found.append(times.cron_after(expression, zone, last))
    return [due for due in found[:-1] if due]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # From Saturday, 28 February 2026, 12:00 on.
        ("* * * * *", ["02-28 12:01", "02-28 12:02", "02-28 12:03"]),
        ("5,10 12 * * *", ["02-28 12:05", "02-28 12:10", "03-01 12:05"]),
        ("*/20 * * * *", ["02-28 12:20", "02-28 12:40", "02-28 13:00"]),
        ("10-30/10 * * * *", ["02-28 12:10", "02-28 12:20", "02-28 12:30"]),
        ("50/5 * * * *", ["02-28 12:50", "02-28 12:55", "02-28 13:50"]),
        ("0 7-9 * * *", ["03-01 07:00", "03-01 08:00", "03-01 09:00"]),
        ("  0   7 *\t* *  ", ["03-01 07:00", "03-02 07:00", "03-03 07:00"]),
        ("0 7 * * 0", ["03-01 07:00", "03-08 07:00", "03-15 07:00"]),
        ("0 7 * * 7", ["03-01 07:00", "03-08 07:00", "03-15 07:00"]),
        ("0 7 * * SUN", ["03-01 07:00", "03-08 07:00", "03-15 07:00"]),
        ("0 7 * * sun-sun", ["03-01 07:00", "03-08 07:00", "03-15 07:00"]),
        ("0 7 * * 1", ["03-02 07:00", "03-09 07:00", "03-16 07:00"]),
        ("0 7 * * mon-fri", ["03-02 07:00", "03-03 07:00", "03-04 07:00"]),
        ("0 7 * * fri-sun", ["03-01 07:00", "03-06 07:00", "03-07 07:00"]),
        ("0 7 * * sun-mon", ["03-01 07:00", "03-02 07:00", "03-08 07:00"]),
        ("0 7 * * 6,0", ["03-01 07:00", "03-07 07:00", "03-08 07:00"]),
        ("0 7 * * 5-7", ["03-01 07:00", "03-06 07:00", "03-07 07:00"]),
        ("0 7 1 * *", ["03-01 07:00", "04-01 07:00", "05-01 07:00"]),
        ("0 7 1 apr,JUN *", ["04-01 07:00", "06-01 07:00", "04-01 07:00"]),
        ("0 7 31 * *", ["03-31 07:00", "05-31 07:00", "07-31 07:00"]),
        ("0 7 29 2 *", ["02-29 07:00", "02-29 07:00", "02-29 07:00"]),
        # Both day fields given: either is enough. One that begins with a star: both must hold.
        ("0 7 3 * mon", ["03-02 07:00", "03-03 07:00", "03-09 07:00"]),
        ("0 7 30 2 mon", ["02-01 07:00", "02-08 07:00", "02-15 07:00"]),
        ("0 7 */2 * mon", ["03-09 07:00", "03-23 07:00", "04-13 07:00"]),
        ("0 7 1-10 * */2", ["03-01 07:00", "03-03 07:00", "03-05 07:00"]),
    ],
)
def test_a_schedule_is_due_as_crontab_has_it(expression: str, expected: list[str]) -> None:
    """Lists, ranges, steps, names, 0 and 7 for Sunday, and the two day fields."""
    due, found = datetime(2026, 2, 28, 12, 0, tzinfo=UTC), []
    parsed = times.parse_crontab(expression)
    for _ in expected:
        due = times.cron_after(parsed, ZoneInfo("UTC"), due) or due
        found.append(f"{due:%m-%d %H:%M}")
    assert found == expected


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "it has 0 fields instead of 5"),
        ("@daily", "it has 1 fields instead of 5"),
        ("* * * *", "it has 4 fields instead of 5"),
        ("0 * * * * *", "it has 6 fields instead of 5"),
        ("60 * * * *", "bad minute"),
        ("* 24 * * *", "bad hour"),
        ("* * 0 * *", "bad day-of-month"),
        ("* * 32 * *", "bad day-of-month"),
        ("* * 32 2 *", "bad day-of-month"),
        ("* * * 13 *", "bad month"),
        ("* * * 0 *", "bad month"),
        ("* * * * 8", "bad day-of-week"),
        ("mon * * * *", "bad minute"),
        ("* * * mon *", "bad month"),
        ("* * * * jan", "bad day-of-week"),
        ("*/0 * * * *", "bad minute"),
        ("9-7 * * * *", "bad minute"),
        ("* * * * sat-mon", "bad day-of-week"),
        ("-5 * * * *", "'-5' in it is no value, range or step"),
        ("1,,2 * * * *", "'' in it is no value, range or step"),
        ("1-2-3 * * * *", "'1-2-3' in it is no value, range or step"),
        ("*/5/5 * * * *", "'*/5/5' in it is no value, range or step"),
        ("* * L * *", "'l' in it is no value, range or step"),
        ("* * ? * *", "'?' in it is no value, range or step"),
        ("* * * * 5#3", "'5#3' in it is no value, range or step"),
        ("* * * * monday", "'monday' in it is no value, range or step"),
        ("٣ * * * *", "'٣' in it is no value, range or step"),
        ("0 0 30 2 *", "it is never due: its months do not have that day"),
        ("0 0 30,31 feb *", "it is never due: its months do not have that day"),
        ("0 0 31 2,4,6,9,11 *", "it is never due: its months do not have that day"),
        ("0 0 31 4 */2", "it is never due: its months do not have that day"),
    ],
)
def test_what_crontab_does_not_know_is_refused_in_words(expression: str, words: str) -> None:
    """Wrong fields, other dialects' signs, and a schedule that is never due."""
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        times.parse_crontab(expression)


@pytest.mark.parametrize(
    ("expression", "day", "expected"),
    [
        ("30 2 * * *", "2026-03-29", ["03-29 03:00+0200"]),
        ("0,30 2 * * *", "2026-03-29", ["03-29 03:00+0200"]),
        ("0 2,3 * * *", "2026-03-29", ["03-29 03:00+0200"]),
        ("30 1,3 * * *", "2026-03-29", ["03-29 01:30+0100", "03-29 03:30+0200"]),
        ("*/30 1-3 * * *", "2026-03-29", ["01:00+0100", "01:30+0100", "03:00+0200", "03:30+0200"]),
        ("30 2 * * *", "2026-10-25", ["10-25 02:30+0200"]),
        ("0 2,3 * * *", "2026-10-25", ["10-25 02:00+0200", "10-25 03:00+0100"]),
        ("*/30 2 * * *", "2026-10-25", ["02:00+0200", "02:30+0200", "02:00+0100", "02:30+0100"]),
    ],
)
def test_a_schedule_on_the_days_when_clocks_are_put_on_or_back(expression: str, day: str, expected: list[str]) -> None:
    """One that names minute and hour runs once, after the gap or the first time; others in each hour that passes."""
    start = times.day_start(BUDAPEST, date.fromisoformat(day))
    found = walk(expression, BUDAPEST, start, times.day_end(BUDAPEST, start))
    assert [wall(BUDAPEST, due)[-len(text) :] for due, text in zip(found, expected, strict=True)] == expected


def test_a_schedule_that_is_over_in_the_first_of_two_hours_is_not_due_in_the_second() -> None:
    """Asked in the repeated hour, a job that names its hour waits for the next day."""
    after = at(BUDAPEST, "2026-10-25 02:10", fold=1)
    assert wall(BUDAPEST, times.cron_after("30 2 * * *", BUDAPEST, after)) == "10-26 02:30+0100"


@pytest.mark.parametrize(
    ("name", "day", "minutes"),
    [
        ("Europe/Budapest", "2026-03-29", 23 * 60),
        ("Europe/Budapest", "2026-10-25", 25 * 60),
        ("America/Havana", "2026-11-01", 25 * 60),
        ("Africa/Cairo", "2026-04-24", 23 * 60),
        ("America/Sao_Paulo", "2018-02-17", 25 * 60),
        ("Antarctica/Troll", "2026-10-25", 26 * 60),
        ("Australia/Lord_Howe", "2026-04-05", 24 * 60 + 30),
        ("Asia/Kolkata", "2026-03-29", 24 * 60),
    ],
)
def test_each_minute_of_any_day_is_due_once(name: str, day: str, minutes: int) -> None:
    """A schedule for every minute is due in each minute that passes, however many a day has."""
    zone = ZoneInfo(name)
    start = times.day_start(zone, date.fromisoformat(day))
    found = walk("* * * * *", zone, start, times.day_end(zone, start))
    assert found == [start + i * MINUTE for i in range(minutes)]


FITS: Final[dict[str, Callable[[datetime], bool]]] = {
    "*/7 * * * *": lambda local: local.minute % 7 == 0,
    "0 * * * *": lambda local: local.minute == 0,
    "15,45 * * * *": lambda local: local.minute in {15, 45},
    "*/20 2 * * *": lambda local: local.hour == 2 and local.minute % 20 == 0,
    "0 */2 * * *": lambda local: local.hour % 2 == 0 and local.minute == 0,
}


# Not in Lord Howe: cronsim loses its place where a clock is moved by half an hour.
@pytest.mark.parametrize("expression", FITS)
@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("Europe/Budapest", "2026-03-29"),
        ("Europe/Budapest", "2026-10-25"),
        ("America/New_York", "2026-03-08"),
        ("America/New_York", "2026-11-01"),
        ("America/Havana", "2026-03-08"),
        ("America/Havana", "2026-11-01"),
        ("Africa/Cairo", "2026-04-24"),
        ("Africa/Cairo", "2026-10-29"),
        ("America/Sao_Paulo", "2018-11-04"),
        ("Atlantic/Azores", "2026-10-25"),
        ("Pacific/Apia", "2011-12-31"),
    ],
)
def test_a_schedule_with_a_star_is_due_whenever_the_wall_clock_says_so(expression: str, name: str, day: str) -> None:
    """Where minute or hour has a star, no reading of the wall clock that fits is left out and no other is due."""
    zone = ZoneInfo(name)
    start = times.day_start(zone, date.fromisoformat(day)) - 3 * HOUR
    expected = [due for i in range(30 * 60) if FITS[expression]((due := start + i * MINUTE).astimezone(zone))]
    assert walk(expression, zone, start, start + 30 * HOUR) == expected


def numbers(least: int, most: int) -> st.SearchStrategy[list[int]]:
    """Return some values of a field, ascending; none stands for a star."""
    return st.lists(st.integers(least, most), max_size=3, unique=True).map(sorted)


def spelled(field: list[int]) -> str:
    """Write a field's values."""
    return ",".join(map(str, field)) or "*"


Fields = tuple[list[int], list[int], list[int], list[int], list[int]]


def crontab_fields(last_day: int, months: st.SearchStrategy[list[int]]) -> st.SearchStrategy[Fields]:
    """Return the values of minute, hour, day, month and weekday."""
    return st.tuples(numbers(0, 59), numbers(0, 23), numbers(1, last_day), months, numbers(0, 7))


@given(crontab_fields(28, numbers(1, 12)), instants)
@bounded
def test_the_next_due_time_is_the_first_that_fits(fields: Fields, after: datetime) -> None:
    """Where clocks are never moved, it is what trying day after day and minute after minute finds."""
    minutes, hours, days, months, weekdays = fields

    def day_fits(day: datetime) -> bool:
        if months and day.month not in months:
            return False
        in_month, in_week = day.day in days, bool({day.isoweekday(), day.isoweekday() % 7} & set(weekdays))
        return (in_month or in_week) if days and weekdays else (in_month or not days) and (in_week or not weekdays)

    midnight = after.replace(hour=0, minute=0, second=0, microsecond=0)
    expected = next(
        due
        for day in (midnight + i * DAY for i in range(2 * 366))
        if day_fits(day)
        for hour in hours or range(24)
        for minute in minutes or range(60)
        if (due := day.replace(hour=hour, minute=minute)) > after
    )
    expression = times.parse_crontab(" ".join(map(spelled, fields)))
    assert times.cron_after(expression, ZoneInfo("UTC"), after) == expected


@given(crontab_fields(31, st.just([])), moments, st.floats(0, 1))
@bounded
def test_due_times_are_strictly_later_and_none_is_passed_over(
    fields: Fields, moment: tuple[ZoneInfo, datetime], part: float
) -> None:
    """In every zone each due time is after the one before, on a whole minute, and the same from anywhere in between."""
    zone, after = moment
    assume(zone.key != "Australia/Lord_Howe")
    expression = times.parse_crontab(" ".join(map(spelled, fields)))
    found = [after]
    for _ in range(3):
        due = times.cron_after(expression, zone, found[-1])
        assert due
        assert due.tzinfo is UTC
        assert (due.second, due.microsecond) == (0, 0)
        assert times.cron_after(expression, zone, min(found[-1] + (due - found[-1]) * part, due - INSTANT)) == due
        found.append(due)
    assert all(first < second for first, second in pairwise(found))


@pytest.mark.parametrize(
    ("expression", "now", "due", "end"),
    [
        ("* 7-20 * * mon-fri", "2026-03-10 07:00", True, "08:00"),
        ("* 7-20 * * mon-fri", "2026-03-10 20:59:59.999999", True, "21:00"),
        ("* 7-20 * * mon-fri", "2026-03-10 21:00", False, "22:00"),
        ("* 7-20 * * mon-fri", "2026-03-10 06:59:59", False, "07:00"),
        ("* 7-20 * * mon-fri", "2026-03-14 12:00", False, "13:00"),
        ("0 7 * * *", "2026-03-10 07:59", True, "08:00"),
        ("59 7 * * *", "2026-03-10 07:00", True, "08:00"),
        ("* * * * *", "2026-03-10 23:30", True, "00:00"),
    ],
)
def test_a_schedule_is_due_in_the_current_hour(expression: str, now: str, due: bool, end: str) -> None:
    """Any due time of the hour counts, past or to come, and the answer holds until the hour ends."""
    kathmandu = ZoneInfo("Asia/Kathmandu")
    answer, until = times.due_hour(times.parse_crontab(expression), kathmandu, at(kathmandu, now))
    assert (answer, f"{until.astimezone(kathmandu):%H:%M}") == (due, end)


# Opening hours.


def hours_of(by_day: dict[str, str], *countries: str, dates: tuple[date, ...] = ()) -> Hours:
    """Return opening hours from what the config says; a day's spans are parted by blanks."""
    spans = {
        day: tuple(times.parse_span(span) for span in text.split())
        for days, text in by_day.items()
        for day in times.parse_weekdays(days)
    }
    return Hours(times.week(spans), countries, frozenset(dates))


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("mon", [0]),
        ("SUN", [6]),
        ("mon-fri", [0, 1, 2, 3, 4]),
        ("sat,sun", [5, 6]),
        ("mon, wed-thu", [0, 2, 3]),
        ("fri-mon", [4, 5, 6, 0]),
        ("mon-mon", [0]),
    ],
)
def test_weekdays_are_names_lists_and_ranges(text: str, days: list[int]) -> None:
    """A range may run over the end of the week."""
    assert times.parse_weekdays(text) == days


@pytest.mark.parametrize("text", ["", "monday", "mon-", "-mon", "mon,", "1", "mon-fri-sun", "mo", "mon/fri"])
def test_what_is_no_weekday_is_refused(text: str) -> None:
    """Only the first three letters of the English names are known."""
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the caller's
        times.parse_weekdays(text)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("08:00-18:00", 480, 1080),
        ("8:05-9:00", 485, 540),
        ("08:00 - 18:00", 480, 1080),
        ("00:00-24:00", 0, 1440),
        ("22:00-24:00", 1320, 1440),
        ("22:00-00:00", 1320, 1440),
        ("22:00-06:00", 1320, 1800),
        ("00:01-00:00", 1, 1440),
        ("23:59-23:58", 1439, 2878),
    ],
)
def test_a_span_is_minutes_after_midnight(text: str, start: int, end: int) -> None:
    """24:00 ends a day, and an end that is not after the start lies on the next."""
    assert times.parse_span(text) == (start, end)


@pytest.mark.parametrize(
    "text",
    [
        *("", "08:00", "08:00-", "8-18", "08:00-18", "8:0-9:00", "-1:00-02:00", "08:00 18:00", "08:00-18:00-20:00"),
        *("08:60-18:00", "08:00-18:60", "25:00-26:00", "24:00-06:00", "08:00-24:01", "08:00-08:00", "00:00-00:00"),
        "08:00\N{EN DASH}18:00",
    ],
)
def test_what_is_no_span_is_refused(text: str) -> None:
    """No such time, no end, another dash, or an end that is the start."""
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the caller's
        times.parse_span(text)


OFFICE: Final = hours_of({"mon-fri": "08:00-18:00", "sat": "09:00-12:00 13:00-15:00"})
NIGHT: Final = hours_of({"fri": "22:00-06:00"})
ALWAYS: Final = hours_of({"mon-sun": "00:00-24:00"})
CHRISTMAS: Final = hours_of({"mon-sun": "22:00-06:00"}, dates=(date(2026, 12, 24),))
HUNGARIAN: Final = hours_of({"mon-sun": "08:00-18:00"}, "HU", "NO")


@pytest.mark.parametrize(
    ("hours", "now", "is_open", "until"),
    [
        # Tuesday, 10 March 2026.
        (OFFICE, "2026-03-10 07:59", False, "03-10 08:00+0100"),
        (OFFICE, "2026-03-10 08:00", True, "03-10 18:00+0100"),
        (OFFICE, "2026-03-10 17:59", True, "03-10 18:00+0100"),
        (OFFICE, "2026-03-10 18:00", False, "03-11 00:00+0100"),
        (OFFICE, "2026-03-14 12:30", False, "03-14 13:00+0100"),
        (OFFICE, "2026-03-14 14:00", True, "03-14 15:00+0100"),
        (OFFICE, "2026-03-15 14:00", False, "03-16 00:00+0100"),
        # 24:00 and the whole day.
        (ALWAYS, "2026-03-10 00:00", True, "03-11 00:00+0100"),
        (ALWAYS, "2026-03-10 23:59", True, "03-11 00:00+0100"),
        # Over midnight: Friday's span holds on Saturday, and no other day's does.
        (NIGHT, "2026-03-13 05:00", False, "03-13 22:00+0100"),
        (NIGHT, "2026-03-13 22:00", True, "03-14 00:00+0100"),
        (NIGHT, "2026-03-14 05:59", True, "03-14 06:00+0100"),
        (NIGHT, "2026-03-14 06:00", False, "03-15 00:00+0100"),
        (NIGHT, "2026-03-14 22:00", False, "03-15 00:00+0100"),
        # A date without hours: the span of the evening before runs into it, its own does not begin.
        (CHRISTMAS, "2026-12-24 05:00", True, "12-24 06:00+0100"),
        (CHRISTMAS, "2026-12-24 23:00", False, "12-25 00:00+0100"),
        (CHRISTMAS, "2026-12-25 05:00", False, "12-25 22:00+0100"),
        # Holidays of two countries: 20 August is Hungary's, 17 May Norway's.
        (HUNGARIAN, "2026-08-20 12:00", False, "08-21 00:00+0200"),
        (HUNGARIAN, "2026-05-17 12:00", False, "05-18 00:00+0200"),
        (HUNGARIAN, "2026-08-19 12:00", True, "08-19 18:00+0200"),
        # 02:00 to 03:00 does not exist on 29 March, and comes twice on 25 October.
        (hours_of({"sun": "02:00-03:00"}), "2026-03-29 01:59", False, "03-29 03:00+0200"),
        (hours_of({"sun": "02:00-03:00"}), "2026-03-29 03:00", False, "03-30 00:00+0200"),
        (hours_of({"sun": "02:30-04:00"}), "2026-03-29 03:00", True, "03-29 04:00+0200"),
        (hours_of({"sun": "02:00-03:00"}), "2026-10-25 02:00", True, "10-25 03:00+0100"),
        (hours_of({"sat": "22:00-06:00"}), "2026-10-25 05:59", True, "10-25 06:00+0100"),
        (hours_of({"sat": "22:00-06:00"}), "2026-03-29 05:59", True, "03-29 06:00+0200"),
    ],
)
def test_callers_are_expected_within_the_hours(hours: Hours, now: str, is_open: bool, until: str) -> None:
    """The answer, and how long it surely holds, by the clock on the wall in Budapest."""
    answer, holds = times.open_at(hours, BUDAPEST, at(BUDAPEST, now))
    assert (answer, wall(BUDAPEST, holds)) == (is_open, until)


def test_the_second_of_two_hours_is_within_the_hours_too() -> None:
    """On the day of 25 hours, 02:00 to 03:00 is open both times that the clock passes through it."""
    hours = hours_of({"sun": "02:00-03:00"})
    assert times.open_at(hours, BUDAPEST, at(BUDAPEST, "2026-10-25 02:30", fold=1))[0]


def test_the_holidays_of_a_country_are_days_without_hours() -> None:
    """Known countries are the two-letter codes in capitals, and a day off is one in any of them."""
    assert all(times.known_country(code) for code in ("HU", "NO", "DE", "US"))
    assert not any(times.known_country(code) for code in ("", "hu", "XX", "Hungary", "HUN"))
    assert times.is_holiday(HUNGARIAN, date(2026, 10, 23))
    assert times.is_holiday(HUNGARIAN, date(2026, 5, 17))
    assert not times.is_holiday(HUNGARIAN, date(2026, 10, 22))
    assert not times.is_holiday(OFFICE, date(2026, 10, 23))


Week = tuple[tuple[tuple[int, int], ...], ...]
spans: Final = st.lists(
    st.tuples(st.integers(0, 1439), st.integers(1, 1440)).map(lambda span: (span[0], span[0] + span[1])), max_size=3
).map(tuple)
weeks: Final = st.tuples(spans, spans, spans, spans, spans, spans, spans)


@given(weeks, moments, st.sets(st.integers(0, 2), max_size=2), st.floats(0, 1))
@bounded
def test_an_answer_about_the_hours_holds_until_it_says(
    week: Week, moment: tuple[ZoneInfo, datetime], off: set[int], part: float
) -> None:
    """From now to the instant that is returned, which is later and at most the day's end, nothing changes."""
    zone, now = moment
    today = times.local_date(zone, now)
    hours = Hours(week, dates=frozenset(today - i * DAY for i in off))
    is_open, until = times.open_at(hours, zone, now)
    assert now < until <= times.day_end(zone, now)
    for later in (now + (until - now) * part, until - INSTANT):
        assert times.open_at(hours, zone, min(later, until - INSTANT))[0] == is_open


@given(weeks, instants)
@bounded
def test_hours_are_spans_of_the_week(week: Week, now: datetime) -> None:
    """Where clocks are never moved, open is the minute of the week that a span covers, Sunday's in Monday too."""
    minute = now.weekday() * 1440 + now.hour * 60 + now.minute
    expected = any(
        day * 1440 + start <= minute + turn < day * 1440 + end
        for day, spans_of_day in enumerate(week)
        for start, end in spans_of_day
        for turn in (0, 7 * 1440)
    )
    assert times.open_at(Hours(week), ZoneInfo("UTC"), now)[0] == expected
