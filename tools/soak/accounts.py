"""What the API knows of one customer, and how it misbehaves: every answer with what it is worth.

An answer is drawn when a request arrives, by the account's own dice, so that one seed gives one week. What it is worth
is noted as it is made, row by row; nobody reads it back from the bytes.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from tools.soak.calendar import on_the_wall
from tools.soak.dice import Dice
from tools.soak.fleet import QUEUES

Pair = tuple[int, int]
Values = tuple[float | None, ...]

STATISTICS: Final = (
    ("abort_before_queue", "abort_before_queue", "calls"),
    ("abort_in_queue_before", "abort_in_queue_before", "calls"),
    ("abort_in_queue_after", "abort_in_queue_after", "calls"),
    ("abort_in_queue_early", "aiqe", "calls"),
    ("answered_before", "answered_before", "calls"),
    ("answered_after", "answered_after", "calls"),
    ("before_queue_redirected", "bqr", "calls"),
    ("after_queue_redirected", "aqr", "calls"),
    ("last_answered_before", "lab", "calls"),
    ("last_answered_after", "laa", "calls"),
    ("last_abort_in_queue_before", "laiqb", "calls"),
    ("last_abort_in_queue_after", "laiqa", "calls"),
    ("last_abort_in_queue_early", "laiqe", "calls"),
    ("talk_time", "talk_time", "seconds"),
    ("queue_time", "queue_time", "seconds"),
    ("queue_time_without_talktime", "queue_time_without_talktime", "seconds"),
    ("abort_case_queue_time", "abort_case_queue_time", "seconds"),
    ("time_before_queue", "time_before_queue", "seconds"),
    ("last_queue_time", "lqt", "seconds"),
)
"""The contract's table: the documented name, the key in the JSON, the unit."""
_COUNT: Final = len(STATISTICS)
_ONE_SECOND: Final[Values] = tuple(1.0 if name == "talk_time" else None for name, _, _ in STATISTICS)
_DAY: Final = timedelta(days=1)
_SHORTENED: Final = tuple(n for n, (name, key, _) in enumerate(STATISTICS) if name != key)
_STYLES: Final = (
    *["plain"] * 7,
    "strings",
    "a statistic lacking",
    "a statistic null",
    "both names",
    "no date, unknown keys",
)
_NO_NUMBERS: Final[tuple[Any, ...]] = (True, "1e3", "", "twelve", float("nan"), float("inf"), [], {}, "\uff11")
_TALK_TIME: Final = [name for name, _, _ in STATISTICS].index("talk_time")
_MOST_DAYS: Final = 40  # more than any lookback
_MOST_PROJECTS: Final = 6


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was sent, and what it is worth by itself."""

    project: int | None
    queue: int | None
    values: Values | None
    """None: it cannot be used."""
    placed: bool = True
    """Whether its date is one that was asked for."""

    @property
    def pair(self) -> Pair | None:
        """Whose it is, where that can be told."""
        return None if self.project is None or self.queue is None else (self.project, self.queue)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request is answered."""

    kind: str
    """What went wrong, for the count; `well` where nothing did."""
    result: str
    """What a poll that got this has come to, the rows' own fate apart."""
    payload: bytes = b""
    """What is sent."""
    close: bool = False
    """Whether the connection ends with it."""
    wait_s: float | None = None
    """How long it takes; None: no time at all."""
    rows: tuple[Row, ...] = ()
    names: Mapping[int, str] | None = None
    retry: timedelta | datetime | None = None
    """What `Retry-After` says."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request's options, as they came."""

    first: date
    last: date
    projects: frozenset[int]


def _http(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: text/plain; charset=utf-8", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _document(response: Any, errors: Any = ()) -> bytes:
    return json.dumps({"response": response, "errors": list(errors)}).encode()


_REFUSED: Final = _document([], ["error.refused"])
_OK: Final = _http("200 OK", _document([]))

# How whole answers go wrong: the result that a poll has come to, and the bytes. `Retry-After` comes further below.
_STATUSES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "unauthorized": ("unauthorized", ("401 Unauthorized",)),
    "forbidden": ("forbidden", ("403 Forbidden",)),
    "rejected": ("rejected", ("417 Expectation Failed", "404 Not Found", "400 Bad Request", "422 Unprocessable")),
    "rate limited": ("rate_limited", ("429 Too Many Requests",)),
    "server error": ("server_error", ("500 Internal Server Error", "502 Bad Gateway", "503 Unavailable", "599 Odd")),
    "redirect": ("invalid_response", ("302 Found", "301 Moved Permanently")),
    "odd status": ("invalid_response", ("204 No Content", "299 Odd")),
}
_BODIES: Final[Mapping[str, tuple[bytes, ...]]] = {
    "no JSON": (b"<html>Log in</html>", b'{"response": [{"projectid": 1', b"", b"\xff\xfe\x00", b'{"response": [],}'),
    "other shape": (b"[]", b'{"response": {}, "errors": []}', b'{"errors": []}'),
    "errors in it": (_document([{"projectid": 101, "queueid": 908}], ["error.internal"]), _document([], [{"a": "b"}])),
}
_RETRY_STATUSES: Final = frozenset({"rate limited", "server error"})
FAULTS: Final = (*_STATUSES, *_BODIES, "cut short", "no HTTP", "garbled gzip", "too large", "reset", "slow", "never")
"""What one request may meet; `refused` and lost keys last longer and are made elsewhere."""
_TOO_LARGE: Final = _http("200 OK", b" " * (9 * 2**20))


@dataclass(frozen=True, slots=True)
class Weather:
    """What an account's requests meet for a while."""

    name: str
    fault_share: float = 0.01
    fault: str | None = None
    """The one fault there is; None: any."""
    bad_rows: float = 0.02
    """The part of answers with rows that cannot be used."""
    other_date: float = 0.0
    """The part of rows that are of another day."""
    silent: bool = False
    """Whether there are no rows at all."""
    refused: bool = False
    """Whether nobody listens."""


CALM: Final = Weather("calm")
_SPELLS: Final = (
    CALM,
    Weather("storm", fault_share=0.5),
    Weather("storm", fault_share=0.5),
    Weather("slow", fault_share=0.6, fault="slow"),
    Weather("hanging", fault_share=0.7, fault="never"),
    Weather("bad rows", bad_rows=0.8),
    Weather("the API's date is another", other_date=0.6),
    Weather("the API's date is another", other_date=1.0),
    Weather("no calls", silent=True),
    Weather("nobody listens", refused=True),
    *(Weather(f"outage: {fault}", fault_share=1.0, fault=fault) for fault in FAULTS if fault != "too large"),
)


def draw_weather(dice: Dice, before: Weather) -> tuple[Weather, float]:
    """Draw what comes next, and for how many seconds: calm for hours, then anything, at times for more than a day."""
    if before is not CALM:
        return CALM, dice.uniform(1800, 10 * 3600)
    spell = dice.choice(_SPELLS)
    longest = dice.choice((600, 3600, 3600, 4 * 3600, 40 * 3600))
    return spell, dice.uniform(60, longest)


@dataclass
class Account:
    """One customer's side of the API. Used by the API's thread, and by whoever changes the weather meanwhile."""

    name: str
    user: str
    key: str
    zone: ZoneInfo
    seed: int
    counts: Counter[str]
    """What went wrong, by kind."""
    weather: Weather = CALM
    projects: dict[int, str] = field(default_factory=lambda: {101: "Sales", 102: 'A "b" \\c'})
    pairs: set[Pair] = field(default_factory=lambda: {(101, 908), (101, -1), (102, 909)})
    days: dict[date, dict[Pair, list[float]]] = field(default_factory=dict)
    """What was ever told of a day."""

    def __post_init__(self) -> None:
        words = self.seed, self.name
        self.dice_of_weather, self.dice_of_polls, self.dice_of_lookups = (Dice(*words, number) for number in range(3))
        self.dice = self.dice_of_polls

    def reply(self, path: str, question: Question | None, key: str, now: datetime, patient: bool) -> Reply:
        """Draw the answer to a request, which takes no time unless the asker is `patient`."""
        today = on_the_wall(self.zone, now)
        # Lookbacks come beside polls, in no certain order.
        self.dice = (
            self.dice_of_polls if question and question.first == question.last >= today else self.dice_of_lookups
        )
        if key != self.key:
            return self._status("unauthorized", now)
        fault = self._fault()
        if fault in {"slow", "never"} and not patient:
            fault = None
        if fault in {"reset", "never"}:
            return Reply(fault, "unreachable", close=True) if fault == "reset" else self._hanging(now, path, question)
        if fault and fault != "slow":
            return self._broken(fault, now)
        good = self._good(path, question, now)
        if fault != "slow":
            return good
        self.counts["slow"] += 1
        return replace(good, kind="slow", wait_s=self.dice.choice((0.5, 5, 20, 50, 200)))

    def _fault(self) -> str | None:
        if not self.dice.happens(self.weather.fault_share):
            return None
        return self.weather.fault or self.dice.choice(FAULTS)

    def _hanging(self, now: datetime, path: str, question: Question | None) -> Reply:
        """Answer never, perhaps after a part."""
        self.counts["never"] += 1
        payload = self._good(path, question, now).payload
        return Reply("never", "timeout", payload[: self.dice.choice((0, 20, len(payload) - 1))], wait_s=float("inf"))

    def _status(self, fault: str, now: datetime) -> Reply:
        self.counts[fault] += 1
        result, statuses = _STATUSES[fault]
        headers: list[str] = []
        retry: timedelta | datetime | None = None
        if fault in _RETRY_STATUSES and self.dice.happens(0.5):
            wait = timedelta(seconds=self.dice.choice((1, 90, 1200, 7200)))
            if self.dice.happens(0.3):
                until = (now + wait).replace(microsecond=0)
                headers, retry = [f"Retry-After: {format_datetime(until, usegmt=True)}"], until
            else:
                headers, retry = [f"Retry-After: {wait.total_seconds():.0f}"], wait
        if fault == "redirect":
            headers.append("Location: /login")
        status = self.dice.choice(statuses)
        body = b"" if status.startswith("204") else _REFUSED
        return Reply(fault, result, _http(status, body, *headers), retry=retry)

    def _broken(self, fault: str, now: datetime) -> Reply:
        if fault in _STATUSES:
            return self._status(fault, now)
        if fault == "too large" and self.dice.happens(0.9):
            fault = "no JSON"  # it costs too much to come often
        self.counts[fault] += 1
        if fault in _BODIES:
            return Reply(fault, "invalid_response", _http("200 OK", self.dice.choice(_BODIES[fault])))
        made: Mapping[str, Callable[[], bytes]] = {
            "cut short": lambda: _OK[: -self.dice.choice((1, 5, 20))],
            "no HTTP": lambda: b"SSH-2.0-OpenSSH_9.2\r\n",
            "garbled gzip": lambda: _http("200 OK", b"no gzip at all", "Content-Encoding: gzip"),
            "too large": lambda: _TOO_LARGE,
        }
        return Reply(fault, "invalid_response", made[fault](), close=True)

    # Good answers.

    def _good(self, path: str, question: Question | None, now: datetime) -> Reply:
        if question is None:
            return self._names() if path == "/v2/projects" else self._status("rejected", now)
        yesterday = on_the_wall(self.zone, now) - _DAY
        if question.first == question.last and (question.last > yesterday or question.last in self.days):
            return self._of_today(question)
        return self._of_past_days(question)

    def _names(self) -> Reply:
        names = {project: name for project, name in self.projects.items() if self.dice.happens(0.95)}
        listed = [{"projectid": str(project), "name": name, "status": "active"} for project, name in names.items()]
        return Reply(
            "well", "success", _http("200 OK", _document([*listed, {"projectid": "x", "name": "y"}])), names=names
        )

    def _of_past_days(self, question: Question) -> Reply:
        """Tell of each day what was told of it, or what may have been before anybody asked."""
        rows: list[Row] = []
        sent: list[dict[str, Any]] = []
        for number in range((question.last - question.first).days + 1):
            day = question.first + number * _DAY
            told = self.days.get(day)
            pairs = sorted(told) if told is not None else self._before(day)
            for project, queue in pairs:
                if not question.projects or project in question.projects:
                    rows.append(Row(project, queue, _ONE_SECOND))
                    sent.append({"projectid": project, "queueid": queue, "date": int(f"{day:%Y%m%d}"), "talk_time": 1})
        if self.dice.happens(0.3):
            odd = {"projectid": 101, "queueid": 777, "date": int(f"{question.last + 40 * _DAY:%Y%m%d}")}
            rows, sent = [*rows, Row(101, 777, None, placed=False)], [*sent, odd]
        return Reply("well", "success", _http("200 OK", _document(sent)), rows=tuple(rows))

    def _before(self, day: date) -> list[Pair]:
        dice = Dice(self.name, day)
        return [pair for pair in ((101, 908), (102, 909), (102, 910), (103, 911)) if dice.happens(0.3)]

    def _of_today(self, question: Question) -> Reply:
        counts = self.days.setdefault(question.first, {})
        while len(self.days) > _MOST_DAYS:
            del self.days[min(self.days)]
        if not self.weather.silent and self.dice is self.dice_of_polls:
            self._live_on(counts)
        asked = {p: v for p, v in counts.items() if not question.projects or p[0] in question.projects}
        if self.weather.silent:
            asked = {}
        rows: list[Row] = []
        sent: list[dict[str, Any]] = []
        kinds: list[str] = []
        for (project, queue), values in asked.items():
            row, written = self._row(project, queue, values, question.first)
            if self.dice.happens(self.weather.other_date):
                other = question.first + self.dice.choice((-1, 1)) * _DAY
                row, written = Row(project, queue, None, placed=False), {**written, "date": int(f"{other:%Y%m%d}")}
                kinds.append("another date")
            rows, sent = [*rows, row], [*sent, written]
        if self.dice.happens(self.weather.bad_rows):
            kinds += self._worsen(question, rows, sent)
        for kind in set(kinds):
            self.counts[f"row: {kind}"] += 1
        if not sent:
            self.counts["no rows"] += 1
        return Reply("well", "success", _http("200 OK", _document(sent)), rows=tuple(rows))

    def _worsen(self, question: Question, rows: list[Row], sent: list[dict[str, Any]]) -> list[str]:
        """Put rows among others that cannot be used, or spoil some. Returns the kinds."""
        kinds = []
        for _ in range(self.dice.choice((1, 1, 3))):
            if rows and self.dice.happens(0.4):
                kinds.append("one of a known queue")
                self._spoil(rows, sent)
                continue
            kind, row, written = self._bad_row(question, rows, sent)
            at = self.dice.randrange(len(rows) + 1) if kind != "a duplicate" else len(rows)
            rows.insert(at, row)
            sent.insert(at, written)
            kinds.append(kind)
        return kinds

    def _spoil(self, rows: list[Row], sent: list[dict[str, Any]]) -> None:
        """Make a row such that it cannot be used."""
        number = self.dice.randrange(len(rows))
        rows[number] = replace(rows[number], values=None)
        sent[number] = {**sent[number], "talk_time": self.dice.choice(_NO_NUMBERS)}

    def _live_on(self, counts: dict[Pair, list[float]]) -> None:
        """Let calls happen; at times take one back, and at times open a queue or a project."""
        dice = self.dice
        if dice.happens(0.004):
            self.pairs.add((dice.choice(sorted(self.projects)), dice.choice((*QUEUES, 910, 911))))
            self.counts["new queue"] += 1
        if dice.happens(0.001) and len(self.projects) < _MOST_PROJECTS:
            project = 101 + len(self.projects)
            self.projects[project] = f"New {project}"
            self.pairs.add((project, 908))
            self.counts["new project"] += 1
        for pair in sorted(self.pairs):
            if pair in counts or dice.happens(0.3):
                values = counts.setdefault(pair, [0.0] * _COUNT)
                for number in dice.sample(range(_COUNT), 3):
                    values[number] += dice.choice((1, 1, 2, 7, 0.25))
                if dice.happens(0.01):
                    values[dice.randrange(_COUNT)] -= 1
                    self.counts["corrected downwards"] += 1

    def _row(self, project: int, queue: int, values: list[float], day: date) -> tuple[Row, dict[str, Any]]:
        """Write a row in one of the ways that mean the same."""
        dice, worth = self.dice, [*values]
        written: dict[str, Any] = {"projectid": project, "queueid": queue, "date": int(f"{day:%Y%m%d}")}
        for (_, key, _), value in zip(STATISTICS, values, strict=True):
            written[key] = int(value) if value.is_integer() else value
        held: list[float | None] = [*worth]
        style, number = dice.choice(_STYLES), dice.choice(_SHORTENED)
        name, key, _ = STATISTICS[number]
        if style == "strings":
            written |= {key: str(written[key]) for _, key, _ in STATISTICS}
            written |= {"projectid": str(project), "queueid": str(queue), "date": str(written["date"])}
        elif style == "a statistic lacking":
            del written[key]
            held[number] = None
        elif style == "a statistic null":
            written[key] = None
            held[number] = None
        elif style == "both names":  # the documented one counts
            written[name] = held[number] = worth[number] + 4
        elif style == "no date, unknown keys":
            del written["date"]
            written["unheard_of"] = {"a": [1, None]}
        return Row(project, queue, tuple(held)), written

    def _bad_row(
        self, question: Question, rows: list[Row], sent: list[dict[str, Any]]
    ) -> tuple[str, Row, dict[str, Any]]:
        """Write a row that cannot be used."""
        odd: Any
        dice, (project, queue) = self.dice, (101, 900 + self.dice.randrange(12))
        project = min(question.projects) if question.projects else project
        good = {"projectid": project, "queueid": queue, "date": int(f"{question.first:%Y%m%d}"), "talk_time": 5}
        kind = dice.choice(("no ids", "no number", "another project", "a duplicate", "another date"))
        usable = [number for number, row in enumerate(rows) if row.values]
        if kind == "a duplicate" and usable:
            number = dice.choice(usable)
            values = list(rows[number].values or ())
            values[_TALK_TIME] = 123456.0  # shown where the first of the two is spoilt yet
            return kind, replace(rows[number], values=tuple(values)), {**sent[number], "talk_time": 123456}
        if kind == "no ids":
            odd = dice.choice((None, "x", -7, 1.5, True, [1]))
            if dice.happens(0.5):
                return kind, Row(None, queue, None), {**good, "projectid": odd}
            return kind, Row(project, None, None), {**good, "queueid": odd}
        if kind == "another project" and question.projects:
            return kind, Row(555, queue, (0.0,) * _COUNT), {**good, "projectid": 555}
        if kind == "another date":
            return kind, Row(project, queue, None, placed=False), {**good, "date": 19991231}
        bad = {dice.choice(STATISTICS)[1]: dice.choice(_NO_NUMBERS)}
        return "no number", Row(project, queue, None), {**good, **bad}
