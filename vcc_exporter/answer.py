"""The bytes of an API response to values. Pure; whatever the bytes are, it is a value or an AnswerError.

Source of the shapes: the vendor's page "Get inbound statistics" and what is known of `GET /v2/projects`.
Rules for rows: one that cannot be used hides no other. It is set aside with its cause, and its pair is
remembered, so that nobody takes the pair for one without calls.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from operator import itemgetter
from typing import Any, Final

from jiter import from_json

from vcc_exporter.vocabulary import NO_QUEUE, STATISTICS

Pair = tuple[int, int]
"""A project's id and a queue's id."""
Values = tuple[float | None, ...]
"""One number for each of `STATISTICS`, in that order; None where the row lacks it."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a row could not be used."""

    cause: str
    """One of a few fixed sentences."""
    example: str
    """What was found in this row, shortened."""


class AnswerError(Exception):
    """Bytes that are not the documented answer; the message says in what way."""

    def __init__(self, message: str, rejections: tuple[Rejection, ...] = ()) -> None:
        self.rejections = rejections
        """One for each row, where rows came and none could be used."""
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one statistics response says about one day."""

    values: Mapping[Pair, Values]
    """The usable rows."""
    rejected_pairs: frozenset[Pair]
    """Pairs of which rows came, none of them usable."""
    rejections: tuple[Rejection, ...]
    """One for each row that was rejected."""

    @property
    def rows(self) -> int:
        """Rows that came, the rejected ones included."""
        return len(self.values) + len(self.rejections)

    @property
    def usable(self) -> bool:
        """Whether it says anything: a usable row came, or none at all."""
        return bool(self.values) or not self.rejections


@dataclass(frozen=True, slots=True)
class Days:
    """What one statistics response says about several days."""

    answers: Mapping[date, Answer]
    """One for each day, as if it had been asked for alone."""
    pairs: Mapping[date, frozenset[Pair]]
    """For each day those that have a row, as `read_pairs` finds them."""
    unplaced: tuple[Rejection, ...]
    """One for each row that is of none of the days."""

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """One for each row that was rejected."""
        return self.unplaced + tuple(r for answer in self.answers.values() for r in answer.rejections)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which projects a request was about, to tell what does not belong into its answer."""

    asked: frozenset[int] = frozenset()
    """The projects that it named; empty: it named none."""
    left_out: frozenset[int] = frozenset()
    """Projects whose rows are skipped and counted nowhere, since another request asked for them."""


NO_IDS: Final = "no usable projectid and queueid"
NOT_ASKED: Final = "a project that was not asked for"
OTHER_DATE: Final = "another date than the one asked for"
NO_DATE: Final = "no date, in an answer about several days"
DUPLICATE: Final = "a duplicate of an earlier row"
NOT_FINITE: Final = "a value that is no finite number"
AMBIGUOUS: Final = "a key twice in one row"

_LARGEST_ID: Final = 2.0**53 - 1  # every number is read as a float; larger ones may stand for a neighbour
_PLAIN_DECIMAL: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII)
_KEYS: Final = tuple((s.name, s.key if s.key != s.name else None) for s in STATISTICS)
_AS_SENT: Final = itemgetter(*(s.key for s in STATISTICS))
_LONG_NAMES: Final = frozenset(s.name for s in STATISTICS if s.key != s.name)
_Span = tuple[int, int]
"""The first and the last of some days, as the API's rows have them."""

_NUMBERS: Final = {int, float}  # of which a bool, which is an int, is none


class _Shared(dict[float, float]):
    """One float for each usual number: half of all are 0, and each would take more memory than its text."""

    def __missing__(self, number: float) -> float:
        return float(number)


_SHARED: Final = _Shared({float(number): float(number) for number in range(1024)})
_MEANT: Final = {"response", "errors", "projectid", "queueid", "date", *(key for keys in _KEYS for key in keys)}
_LONGEST_NAME: Final = 200  # a name stands on every series of its project
# The largest response has room for at most 24,000 rows as the API writes them, which is 560,000 values. What is made of
# smaller ones may take seventy times its size in memory, and hold a processor for half a minute.
_MOST_ROWS: Final = 50_000
_MOST_VALUES: Final = 600_000
_LONGEST_STATUS: Final = 20


def read_statistics(body: bytes, day: date, scope: Scope) -> Answer:
    """Read the answer to a question about one day.

    Raises AnswerError for anything but the documented shape with empty `errors`, and where rows came but
    none of them can be used.
    """
    answer = _about_day(_rows(body, scope), day, scope)
    if not answer.usable:
        first = answer.rejections[0]
        raise AnswerError(
            f"none of {answer.rows} rows can be used: {first.cause} ({first.example})",
            answer.rejections,
        )
    return answer


def _about_day(rows: Iterable[Any], day: date, scope: Scope) -> Answer:
    """Read rows that are to be about one day."""
    values: dict[Pair, Values] = {}
    rejected: set[Pair] = set()
    rejections: list[Rejection] = []
    days = _span(day, day)
    for row in rows:
        pair = _pair(row)
        problem = _misplaced(row, pair, days, scope)
        if problem is None and pair in values:
            problem = Rejection(DUPLICATE, f"project {pair[0]}, queue {pair[1]}")
        found = problem or _values(row)
        if isinstance(found, Rejection):
            rejections.append(found)
            rejected.update([pair] if pair else [])
        elif pair:
            values[pair] = found
    return Answer(values, frozenset(rejected - values.keys()), tuple(rejections))


def read_pairs(body: bytes, first: date, last: date, scope: Scope) -> frozenset[Pair]:
    """Read which pairs have rows in the answer to a question about several days. Raises AnswerError."""
    return _found_pairs(_rows(body, scope), first, last, scope)


def _found_pairs(rows: Iterable[Any], first: date, last: date, scope: Scope) -> frozenset[Pair]:
    found, days = ((row, _pair(row)) for row in rows), _span(first, last)
    return frozenset(pair for row, pair in found if pair and _misplaced(row, pair, days, scope) is None)


def read_days(body: bytes, first: date, last: date, scope: Scope) -> Days:
    """Read the answer to a question about several days.

    Raises AnswerError for anything but the documented shape; that no row can be used is told by what it returns.
    """
    by_day: dict[date, list[Any]] = {day: [] for day in _days(first, last)}
    by_number = {_written(day): day for day in by_day}
    unplaced: list[tuple[Pair | None, Rejection]] = []
    for row in _rows(body, scope):
        written = _fields(row).get("date")
        day = first if written is None and first == last else by_number.get(_id(written, 0) or 0)
        if day:
            by_day[day].append(row)
        else:
            unplaced.append((_pair(row), _unplaced(row, first, last, scope)))
    homeless = frozenset(pair for pair, _ in unplaced if pair)
    return Days(
        answers={day: _without(_about_day(rows, day, scope), homeless) for day, rows in by_day.items()},
        pairs={day: _found_pairs(rows, day, day, scope) for day, rows in by_day.items()},
        unplaced=tuple(rejection for _, rejection in unplaced),
    )


def _days(first: date, last: date) -> Iterator[date]:
    return (first + timedelta(days=number) for number in range((last - first).days + 1))


def _unplaced(row: Any, first: date, last: date, scope: Scope) -> Rejection:
    """Tell why a row is of none of the days that were asked for."""
    days = _span(first, last)
    problem = _misplaced(row, _pair(row), days, scope)
    if problem:
        return problem
    written = row.get("date")
    if written is not None:  # a number between two months
        return _other_date(written, days)
    return Rejection(NO_DATE, f"project {_show(row['projectid'])}, queue {_show(row['queueid'])}")


def _without(answer: Answer, homeless: frozenset[Pair]) -> Answer:
    """Take pairs for rejected on a day that a row may have been about which nobody can place."""
    return replace(answer, rejected_pairs=answer.rejected_pairs | homeless - answer.values.keys())


@dataclass(frozen=True, slots=True)
class ProjectEntry:
    """One project as the API lists it."""

    name: str = ""
    """One line; empty where the API gives none."""
    status: str = ""
    """Such as `active`; empty where the API gives none."""


def read_project_list(body: bytes) -> Mapping[int, ProjectEntry]:
    """Read what `GET /v2/projects` lists, by id; what has no usable id is left out. Raises AnswerError."""
    entries: dict[int, ProjectEntry] = {}
    for row in _response(body):
        project = _id(row.get("projectid"), 0) if isinstance(row, dict) else None
        if project is not None:
            name, status = (row[key] if isinstance(row.get(key), str) else "" for key in ("name", "status"))
            entry = ProjectEntry(shorten(name, _LONGEST_NAME), shorten(status, _LONGEST_STATUS))
            if entry.name or project not in entries:
                entries[project] = entry
    return entries


def read_projects(body: bytes) -> Mapping[int, str]:
    """Read the names of projects by id; those without a usable id or name are left out. Raises AnswerError."""
    return {project: entry.name for project, entry in read_project_list(body).items() if entry.name}


def error_words(body: bytes) -> str:
    """Return the API's own words in `errors` of a response that failed, on one line; empty where it has none."""
    try:
        decoded = _decode(body)
    except AnswerError:
        return ""
    errors = decoded.get("errors") if isinstance(decoded, dict) else None
    return shorten("; ".join(_strings(errors)))


def shorten(text: str, limit: int = 200) -> str:
    """Return text from outside as one printable line of at most `limit` characters; `…` ends one that was cut."""
    most = 4 * limit
    line = "".join(c if c.isprintable() else " " for c in text[:most])
    line = " ".join(line.split())
    return line if len(line) <= limit and len(text) <= most else line[: limit - 1] + "…"


def _strings(value: Any) -> Iterator[str]:
    """Walk the strings of `errors`, whose shape is not documented: texts, or objects that hold them."""
    pending = [value]  # no recursion, since the parser lets through what is nested deeper than calls may be
    while pending:
        found = pending.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, list | dict):
            pending += reversed(found.values() if isinstance(found, dict) else found)


@dataclass(frozen=True, slots=True)
class _Twice:
    """Stands for an object in which a key came twice, so that nobody knows which value is meant."""

    once: Mapping[str, Any]
    """What came once, to tell at least whose row it is."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Twice:
    decoded = dict(pairs)
    if len(decoded) == len(pairs):
        return decoded
    twice = {key for key, count in Counter(key for key, _ in pairs).items() if count > 1}
    if twice.isdisjoint(_MEANT):
        return decoded
    return _Twice({key: value for key, value in pairs if key not in twice})


def _fields(row: Any) -> Mapping[str, Any]:
    """Return what is known of a row, whatever it is."""
    if isinstance(row, _Twice):
        return row.once
    return row if isinstance(row, dict) else {}


def _decode(body: bytes) -> Any:
    # Before anything is made of them. Those that stand within texts are counted, too: that harms no real answer.
    if sum(map(body.count, (b",", b"{", b"["))) > _MOST_VALUES:
        raise AnswerError(f"it has more than {_MOST_VALUES} values")
    quick = _decode_quickly(body)
    if quick is not None:
        return quick
    try:
        # Integers of any length become floats, infinite where they are beyond one: a row's fault then, not
        # the whole answer's.
        return json.loads(body, object_pairs_hook=_object, parse_int=float)
    except RecursionError:
        raise AnswerError("it is nested too deeply") from None
    except ValueError:
        raise AnswerError(f"it is no JSON{_what_else(body)}") from None


def _decode_quickly(body: bytes) -> dict[str, Any] | None:
    """Read the usual answer in a seventh of the time; None where more must be known of it.

    This parser keeps the last of two equal keys and does not tell. But each key has a colon behind it: where there
    are no more colons than keys that were kept, none came twice.
    """
    try:
        decoded = from_json(body, cache_mode="keys")
    except ValueError:
        return None
    if not isinstance(decoded, dict):
        return None
    rows = decoded.get("response")
    keys = len(decoded) + sum(len(row) for row in rows if isinstance(row, dict)) if isinstance(rows, list) else 0
    return decoded if keys == body.count(b":") else None


def _what_else(body: bytes) -> str:
    begin = body[:1000].lstrip()
    if begin.startswith(b"<"):
        return " but a web page, such as a login's"
    return ": it breaks off, or is garbled" if begin.startswith(b"{") else ""


def _response(body: bytes) -> list[Any]:
    decoded = _decode(body)
    if not isinstance(decoded, dict):
        raise AnswerError("it is JSON, but no object with response and errors")
    rows, errors = decoded.get("response"), decoded.get("errors")
    if errors not in ([], {}):
        words = shorten("; ".join(_strings(errors)))
        raise AnswerError(f"it reports errors: {words}" if words else "it has no empty list of errors")
    if not isinstance(rows, list):
        raise AnswerError("it has no list of rows in response")
    if len(rows) > _MOST_ROWS:
        raise AnswerError(f"it has more than {_MOST_ROWS} rows")
    return rows


def _rows(body: bytes, scope: Scope) -> Iterable[Any]:
    rows = _response(body)
    if not scope.left_out:
        return rows
    return [row for row in rows if _id(_fields(row).get("projectid"), 0) not in scope.left_out]


def _id(value: Any, least: int) -> int | None:
    if type(value) is int:
        return value if least <= value <= _LARGEST_ID else None
    if isinstance(value, str) and _PLAIN_DECIMAL.fullmatch(value):
        value = float(value)
    if isinstance(value, float) and least <= value <= _LARGEST_ID and value.is_integer():
        return int(value)
    return None


def _as_float(value: Any) -> Any:
    """Return an integer as a float, infinite where it is beyond one, and all else as it is."""
    try:
        return float(value) if type(value) is int else value
    except OverflowError:
        return math.inf


def _pair(row: Any) -> Pair | None:
    fields = _fields(row)
    project, queue = _id(fields.get("projectid"), 0), _id(fields.get("queueid"), NO_QUEUE)
    return None if project is None or queue is None else (project, queue)


def _misplaced(row: Any, pair: Pair | None, days: _Span, scope: Scope) -> Rejection | None:
    """Tell what of a row's ids and date does not fit the question."""
    if isinstance(row, _Twice):
        return Rejection(AMBIGUOUS, "not shown")
    if pair is None:
        if not isinstance(row, dict):
            return Rejection(NO_IDS, f"no object: {_show(row)}")
        return Rejection(NO_IDS, f"projectid {_show(row.get('projectid'))}, queueid {_show(row.get('queueid'))}")
    if scope.asked and pair[0] not in scope.asked:
        return Rejection(NOT_ASKED, f"project {pair[0]}")
    day = row.get("date")
    if day is not None and not days[0] <= (_id(day, 0) or 0) <= days[1]:
        return _other_date(day, days)
    return None


def _written(day: date) -> int:
    """Return a date as the API's rows have it, such as 20261031."""
    return (day.year * 100 + day.month) * 100 + day.day


def _span(first: date, last: date) -> _Span:
    return _written(first), _written(last)


def _other_date(written: Any, days: _Span) -> Rejection:
    return Rejection(OTHER_DATE, f"{_show(written)} for {days[0]}")


def _values(row: Mapping[str, Any]) -> Values | Rejection:
    try:
        sent: tuple[Any, ...] = _AS_SENT(row)
    except KeyError:
        return _values_with_care(row)
    # The usual row, in a fifth of the time; numbers whose sum is finite are all finite.
    if _NUMBERS.issuperset(map(type, sent)) and _LONG_NAMES.isdisjoint(row):
        try:
            values = tuple(map(_SHARED.__getitem__, sent))
        except OverflowError:
            return _values_with_care(row)
        if math.isfinite(sum(values)):
            return values
    return _values_with_care(row)


def _values_with_care(row: Mapping[str, Any]) -> Values | Rejection:
    values: list[float | None] = []
    for name, key in _KEYS:
        value = row.get(name)
        if value is None and key:
            value = row.get(key)
        if isinstance(value, str) and _PLAIN_DECIMAL.fullmatch(value):
            value = float(value)
        value = _as_float(value)
        if value is not None and not (isinstance(value, float) and math.isfinite(value)):
            return Rejection(NOT_FINITE, f"{name}: {_show(value)}")
        values.append(value)
    return tuple(values)


def _show(value: Any) -> str:
    value = _as_float(value)
    if isinstance(value, float):
        return f"{value:.15g}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return shorten(value if isinstance(value, str) else type(value).__name__, 40)
