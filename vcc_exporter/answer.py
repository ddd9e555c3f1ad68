"""The bytes of an API response to values. Pure; whatever the bytes are, it is a value or an AnswerError.

Source of the shapes: the vendor's page "Get inbound statistics" and what is known of `GET /v2/projects`.
Rules for rows: one that cannot be used hides no other. It is set aside with its cause, and its pair is
remembered, so that nobody takes the pair for one without calls.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

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
DUPLICATE: Final = "a duplicate of an earlier row"
NOT_FINITE: Final = "a value that is no finite number"
AMBIGUOUS: Final = "a key twice in one row"

_LARGEST_ID: Final = 2.0**53 - 1  # every number is read as a float; larger ones may stand for a neighbour
_PLAIN_DECIMAL: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII)
_KEYS: Final = tuple((s.name, s.key if s.key != s.name else None) for s in STATISTICS)
_MEANT: Final = {"response", "errors", "projectid", "queueid", "date", *(key for keys in _KEYS for key in keys)}
_LONGEST_NAME: Final = 200  # a name stands on every series of its project
_LONGEST_STATUS: Final = 20


def read_statistics(body: bytes, day: date, scope: Scope) -> Answer:
    """Read the answer to a question about one day.

    Raises AnswerError for anything but the documented shape with empty `errors`, and where rows came but
    none of them can be used.
    """
    values: dict[Pair, Values] = {}
    rejected: set[Pair] = set()
    rejections: list[Rejection] = []
    for row in _rows(body, scope):
        pair = _pair(row)
        problem = _misplaced(row, pair, day, day, scope)
        if problem is None and pair in values:
            problem = Rejection(DUPLICATE, f"project {pair[0]}, queue {pair[1]}")
        found = problem or _values(row)
        if isinstance(found, Rejection):
            rejections.append(found)
            rejected.update([pair] if pair else [])
        elif pair:
            values[pair] = found
    if rejections and not values:
        raise AnswerError(
            f"none of {len(rejections)} rows can be used: {rejections[0].cause} ({rejections[0].example})",
            tuple(rejections),
        )
    return Answer(values, frozenset(rejected - values.keys()), tuple(rejections))


def read_pairs(body: bytes, first: date, last: date, scope: Scope) -> frozenset[Pair]:
    """Read which pairs have rows in the answer to a question about several days. Raises AnswerError."""
    rows = ((row, _pair(row)) for row in _rows(body, scope))
    return frozenset(pair for row, pair in rows if pair and _misplaced(row, pair, first, last, scope) is None)


def read_days(
    body: bytes, first: date, last: date, scope: Scope
) -> tuple[Sequence[tuple[Pair, Values]], Sequence[Rejection]]:
    """Read the usable rows of the answer to a question about several days, and why others are not usable.

    A pair has a row for each of its days. Raises AnswerError for anything but the documented shape.
    """
    usable: dict[tuple[Pair, int | None], Values] = {}
    rejections: list[Rejection] = []
    for row in _rows(body, scope):
        pair = _pair(row)
        found = _misplaced(row, pair, first, last, scope) or _values(row)
        if isinstance(found, Rejection):
            rejections.append(found)
        elif pair and (place := (pair, _id(row.get("date"), 0))) in usable:
            rejections.append(Rejection(DUPLICATE, f"project {pair[0]}, queue {pair[1]}, {place[1]}"))
        elif pair:
            usable[place] = found
    return [(pair, values) for (pair, _), values in usable.items()], rejections


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
    try:
        # Integers of any length become floats, infinite where they are beyond one: a row's fault then, not
        # the whole answer's.
        return json.loads(body, object_pairs_hook=_object, parse_int=float)
    except RecursionError:
        raise AnswerError("it is nested too deeply") from None
    except ValueError:
        raise AnswerError("it is no JSON") from None


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
    return rows


def _rows(body: bytes, scope: Scope) -> Iterable[Any]:
    rows = _response(body)
    if not scope.left_out:
        return rows
    return [row for row in rows if _id(_fields(row).get("projectid"), 0) not in scope.left_out]


def _id(value: Any, least: int) -> int | None:
    if isinstance(value, str) and _PLAIN_DECIMAL.fullmatch(value):
        value = float(value)
    if isinstance(value, float) and least <= value <= _LARGEST_ID and value.is_integer():
        return int(value)
    return None


def _pair(row: Any) -> Pair | None:
    fields = _fields(row)
    project, queue = _id(fields.get("projectid"), 0), _id(fields.get("queueid"), NO_QUEUE)
    return None if project is None or queue is None else (project, queue)


def _misplaced(row: Any, pair: Pair | None, first: date, last: date, scope: Scope) -> Rejection | None:
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
    if day is not None and not int(f"{first:%Y%m%d}") <= (_id(day, 0) or 0) <= int(f"{last:%Y%m%d}"):
        return Rejection(OTHER_DATE, f"{_show(day)} for {first:%Y%m%d}")
    return None


def _values(row: Mapping[str, Any]) -> Values | Rejection:
    values: list[float | None] = []
    for name, key in _KEYS:
        value = row.get(name)
        if value is None and key:
            value = row.get(key)
        if isinstance(value, str) and _PLAIN_DECIMAL.fullmatch(value):
            value = float(value)
        if value is not None and not (isinstance(value, float) and math.isfinite(value)):
            return Rejection(NOT_FINITE, f"{name}: {_show(value)}")
        values.append(value)
    return tuple(values)


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.15g}"
    return shorten(str(value) if isinstance(value, str | bool) or value is None else type(value).__name__, 40)
