"""The one-shot commands that ask the APIs: a verdict on each customer, and what there is to poll.

Both ask several customers at a time, each with the requests of polls, and keep nothing. What they tell comes in
the config's order, each customer's as soon as it and those before it are done. A verdict is one of these:

    good   rows of today came, or none: then nothing tells whether the zone is right. Remarks may follow: slow (a
           request took more than half of poll.timeout), rows that cannot be used, projects that could not be
           compared, teams that may not exist. A remark makes no verdict bad.
    bad    one of the results of a poll in the client's words and what to do about it, `TO_DO` where those do not
           say it; rows of another day than today in the customer's zone; a project that the API does not list.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Final, TypeVar

import yaml

from vcc_exporter import times
from vcc_exporter.answer import (
    OTHER_DATE,
    Answer,
    AnswerError,
    Pair,
    ProjectEntry,
    Rejection,
    Values,
    read_days,
    read_project_list,
    read_statistics,
)
from vcc_exporter.client import PROJECTS, PollError, Session
from vcc_exporter.config import Customer
from vcc_exporter.network import Network
from vcc_exporter.poll import months, questions, requests_a_day, requests_a_poll, together
from vcc_exporter.times import Clock
from vcc_exporter.vocabulary import NO_QUEUE, STATISTICS, Result

log = logging.getLogger(__name__)
T = TypeVar("T")

AT_ONCE: Final = 16
"""Customers asked at the same time: hundreds take little longer than the slowest, and the vendor sees no crowd."""
DAYS: Final = 30
"""How far `discover` looks back, today included."""
MOST_NAMED: Final = 10
"""Projects that one line names."""

TO_DO: Final[Mapping[Result, str]] = {
    Result.REJECTED: "compare teams, projects and sla in the config with the account",
    Result.SERVER_ERROR: "wait; where it lasts, ask the vendor",
    Result.TIMEOUT: "raise poll.timeout, or look at the network and the vendor's state",
    Result.UNREACHABLE: "check url, proxy_url, ca_file, the name's resolution and the firewall",
    Result.INVALID_RESPONSE: "check url: a login page or another service may answer there",
}
"""What to do, by results of which the client's words do not always tell it."""
_TOLD: Final = re.compile("[:;] check ")
"""Stands in those words of the client that tell it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of asking one customer's API; the words hold no secret."""

    customer: str
    good: bool
    words: str

    def __str__(self) -> str:
        """Write it as one line."""
        return f"{self.customer}: {'good' if self.good else 'bad'}: {self.words}"


def verdicts(customers: Sequence[Customer], clock: Clock, progress: Callable[[str], None]) -> Iterator[Verdict]:
    """Ask each customer's API what one poll would ask.

    `progress` is given what to show meanwhile, and an empty text before anything else is shown.
    """
    return _each(customers, clock, _judge, progress)


def load_words(customers: Sequence[Customer], now: datetime) -> str:
    """Say how many requests the customers cost their APIs."""
    a_round = sum(map(requests_a_poll, customers))
    a_day = sum(requests_a_day(customer, now) for customer in customers)
    return f"{counted(a_round, 'request')} in a round of polls, {a_day} a day"


def counted(number: int, noun: str) -> str:
    """Write a number of things."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# Customers side by side.


def _each(
    customers: Sequence[Customer],
    clock: Clock,
    work: Callable[[Customer, Session, Clock], T | Verdict],
    progress: Callable[[str], None],
) -> Iterator[T | Verdict]:
    network = Network(clock)

    def ask(customer: Customer) -> T | Verdict:
        return _safely(customer, Session(customer, network), clock, work)

    pool = ThreadPoolExecutor(AT_ONCE)
    jobs = [pool.submit(ask, customer) for customer in customers]
    shown = 0
    try:
        for done, _ in enumerate(as_completed(jobs), 1):
            progress("")
            while shown < len(jobs) and jobs[shown].done():
                yield jobs[shown].result()
                shown += 1
            if done < len(jobs):
                progress(f"{done} of {len(jobs)}")
    finally:
        # After Ctrl-C nobody waits for what is under way.
        pool.shutdown(wait=False, cancel_futures=True)


def _safely(
    customer: Customer, session: Session, clock: Clock, work: Callable[[Customer, Session, Clock], T | Verdict]
) -> T | Verdict:
    try:
        return work(customer, session, clock)
    except Exception as error:
        # One customer's job ends here: it takes no other with it.
        log.exception("unexpected fault", extra={"customer": customer.name})
        return Verdict(customer.name, False, f"a fault of the exporter itself ({type(error).__name__})")
    finally:
        session.close()


# A verdict.


def _judge(customer: Customer, session: Session, clock: Clock) -> Verdict:
    began = clock.monotonic()
    try:
        answer, slowest_s = _ask_today(customer, session, clock)
    except PollError as error:
        return Verdict(customer.name, False, _why(customer, session, clock, error))
    took_s = clock.monotonic() - began
    unknown, remark = _compare_projects(customer, session, clock, {project for project, _ in answer.values})
    if unknown:
        return Verdict(customer.name, False, unknown)
    remarks = [
        f"{_rows(answer)} ({took_s:.1f} s)",
        _slow(customer, slowest_s),
        session.redact(_rejected(answer.rejections)),
        _teams(customer) if customer.teams and not answer.rows else "",
        remark,
    ]
    return Verdict(customer.name, True, "; ".join(filter(None, remarks)))


def _ask_today(customer: Customer, session: Session, clock: Clock) -> tuple[Answer, float]:
    """Ask what one poll would. Returns what came, and the seconds of the slowest request; raises PollError."""
    now = clock.now()
    today = times.local_date(customer.zone, now)
    answers, slowest_s = [], 0.0
    for question, scope in questions(customer, today, today):
        began = clock.monotonic()
        body = session.ask(question.target(), now)
        slowest_s = max(slowest_s, clock.monotonic() - began)
        try:
            answers.append(read_statistics(body, today, scope))
        except AnswerError as error:
            raise _unusable(customer, session, error) from None
    return together(answers), slowest_s


def _unusable(customer: Customer, session: Session, error: AnswerError) -> PollError:
    other = next((rejection for rejection in error.rejections if rejection.cause == OTHER_DATE), None)
    words = f"not a usable answer: {error}"
    if other:
        words = f"rows came dated {other.example}, which is today in {customer.zone.key}: check timezone"
    return PollError(Result.INVALID_RESPONSE, session.redact(words))


def _rows(answer: Answer) -> str:
    if answer.rows:
        return f"{counted(answer.rows, 'row')}, the zone seems right"
    return "no calls yet today, so that nothing tells whether the zone is right"


def _slow(customer: Customer, slowest_s: float) -> str:
    limit_s = customer.timeout.total_seconds()
    if slowest_s <= limit_s / 2:
        return ""
    return f"slow: a request took {slowest_s:.1f} s of the {limit_s:g} s of poll.timeout, raise it before polls fail"


def _rejected(rejections: Sequence[Rejection]) -> str:
    if not rejections:
        return ""
    rows = counted(len(rejections), "row")
    return f"{rows} cannot be used, the first for {rejections[0].cause} ({rejections[0].example})"


def _teams(customer: Customer) -> str:
    """Say what can be said of teams: no page of the vendor's tells how the API answers for one that does not exist."""
    return f"perhaps the account has no {_ids('team', customer.teams)}, which the API does not tell"


# What is wrong, in words.


def _why(customer: Customer, session: Session, clock: Clock, error: PollError) -> str:
    """Say what is wrong and what to do about it."""
    said = f"{error.result}: {error.message}"
    if error.retry_after:
        said += f"; it asks for a pause of {times.format_duration(error.retry_after)}"
    if error.result is Result.FORBIDDEN:
        return said + _whose_fault(session, clock)
    if error.result in TO_DO and not _TOLD.search(said):
        said += f"; {TO_DO[error.result]}"
    unknown = _compare_projects(customer, session, clock)[0] if error.result is Result.REJECTED else ""
    return f"{said}; {unknown}" if unknown else said


def _whose_fault(session: Session, clock: Clock) -> str:
    """Tell by another resource what a 403 is about."""
    try:
        _ask_projects(session, clock)
    except PollError as error:
        if error.result is not Result.FORBIDDEN:
            return ""
        return f"; {PROJECTS} is refused, too: register this machine's address first, then allow the key the resource"
    return f"; {PROJECTS} is answered, so allow the key the resource /v2/statistics/inbound"


def _ask_projects(session: Session, clock: Clock) -> dict[int, ProjectEntry]:
    """Ask which projects there are. Raises PollError."""
    body = session.ask(PROJECTS, clock.now())
    try:
        entries = read_project_list(body)
    except AnswerError as error:
        words = session.redact(f"not a usable answer: {error}")
        raise PollError(Result.INVALID_RESPONSE, words) from None
    return {
        project: ProjectEntry(session.redact(entry.name), session.redact(entry.status))
        for project, entry in entries.items()
    }


def _compare_projects(
    customer: Customer, session: Session, clock: Clock, seen: AbstractSet[int] = frozenset()
) -> tuple[str, str]:
    """Look for the config's projects in the API's list. Returns what is wrong, and what could not be found out."""
    if not customer.listed:
        return "", ""
    try:
        known = _ask_projects(session, clock)
    except PollError as error:
        return "", f"its projects could not be compared: {_no_list(error)}"
    unknown = sorted(customer.listed.keys() - known.keys() - seen)  # what has rows exists, listed or not
    if not unknown:
        return "", ""
    return f"the API knows no {_ids('project', unknown)}, but {_named(known)}; check projects", ""


def _ids(noun: str, ids: Sequence[int]) -> str:
    return f"{noun}{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"


def _no_list(error: PollError) -> str:
    refused = error.result is Result.FORBIDDEN
    return f"the key is not allowed {PROJECTS}" if refused else f"{PROJECTS}: {error.message}"


def _named(projects: Mapping[int, ProjectEntry]) -> str:
    names = [f"{id_} ({projects[id_].name})" if projects[id_].name else str(id_) for id_ in sorted(projects)]
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join(names[:MOST_NAMED] + more) or "none at all"


# What there is to poll.


@dataclass(frozen=True, slots=True)
class Found:
    """What one customer has."""

    customer: str
    first: date
    last: date
    """The days that were looked at."""
    projects: Mapping[int, ProjectEntry]
    """Those that the API lists, and those that had calls; ascending."""
    calls: Mapping[Pair, int]
    """Calls of those days by project and queue; ascending."""
    remarks: tuple[str, ...]

    def queues(self, project: int) -> dict[int, int]:
        """Return the calls of a project's queues, of which `NO_QUEUE` may be one."""
        return {queue: calls for (owner, queue), calls in self.calls.items() if owner == project}


def discover(customers: Sequence[Customer], clock: Clock, progress: Callable[[str], None]) -> Iterator[Found | Verdict]:
    """Ask each customer's API what there is, whatever projects the config lists; a bad verdict where it fails.

    `progress` is used as in `verdicts`.
    """
    return _each([replace(customer, listed={}) for customer in customers], clock, _find, progress)


def _find(customer: Customer, session: Session, clock: Clock) -> Found | Verdict:
    last = times.local_date(customer.zone, clock.now())
    first = last - timedelta(days=DAYS - 1)
    try:
        calls, rejections = _count_calls(customer, session, clock, (first, last))
    except PollError as error:
        return Verdict(customer.name, False, _why(customer, session, clock, error))
    remarks = [session.redact(_rejected(rejections)), _teams(customer) if customer.teams and not calls else ""]
    projects = {project: ProjectEntry() for project, _ in calls}
    try:
        projects |= _ask_projects(session, clock)
    except PollError as error:
        remarks.append(f"no names, and no projects without calls: {_no_list(error)}")
    return Found(customer.name, first, last, dict(sorted(projects.items())), calls, tuple(filter(None, remarks)))


def _count_calls(
    customer: Customer, session: Session, clock: Clock, days: tuple[date, date]
) -> tuple[dict[Pair, int], list[Rejection]]:
    """Ask for the calls of some days, as a lookback would. Raises PollError."""
    calls: dict[Pair, int] = {}
    rejections: list[Rejection] = []
    for first, last in months(*days):
        for question, scope in questions(customer, first, last):
            body = session.ask(question.target(), clock.now())
            try:
                rows, unusable = read_days(body, first, last, scope)
            except AnswerError as error:
                raise _unusable(customer, session, error) from None
            rejections += unusable
            for pair, values in rows:
                calls[pair] = calls.get(pair, 0) + _calls(pair, values)
    return dict(sorted(calls.items())), rejections


_ANSWERED: Final = ("answered_before", "answered_after")
_IN_QUEUE: Final = (*_ANSWERED, "abort_in_queue_before", "abort_in_queue_after")
_WITHOUT_QUEUE: Final = (*_ANSWERED, "abort_before_queue", "before_queue_redirected")
_NAMES: Final = tuple(statistic.name for statistic in STATISTICS)


def _calls(pair: Pair, values: Values) -> int:
    """Count the calls of a row: in a queue those offered to agents, without one those that never came to a queue."""
    counted_ones = _WITHOUT_QUEUE if pair[1] == NO_QUEUE else _IN_QUEUE
    return int(sum(value or 0 for name, value in zip(_NAMES, values, strict=True) if name in counted_ones))


_LATELY: Final = f"in {DAYS} days"
_NO_CALLS: Final = f"no calls {_LATELY}"
_PUT: Final = (str.rjust, str.ljust, str.ljust, str.rjust, str.rjust)
_HEAD: Final = ("PROJECT", "NAME", "STATUS", "QUEUE", f"CALLS {_LATELY.upper()}")
TABLE_HEAD: Final = (
    "Calls in a queue are those answered or given up in it; in queue -1 (no queue) those answered, given up or\n"
    "redirected without one."
)


def table(found: Found) -> str:
    """Write what one customer has as a table for a terminal."""
    head = "\n  ".join([_title(found), *found.remarks]) + "\n"
    if not found.projects:
        return head
    rows = [_HEAD]
    for project, entry in found.projects.items():
        what = str(project), entry.name or "-", entry.status or "-"
        queues = found.queues(project)
        rows += [(*what, str(queue), str(calls)) for queue, calls in queues.items()] or [(*what, "-", _NO_CALLS)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(put(cell, width) for put, cell, width in zip(_PUT, row, widths, strict=True)) for row in rows)
    return head + "".join(f"  {line}\n" for line in lines)


def _title(found: Found) -> str:
    projects, queues = len(found.projects), sum(1 for _, queue in found.calls if queue != NO_QUEUE)
    what = f"{counted(projects, 'project')}, {counted(queues, 'queue')} with calls"
    return f"{found.customer}: {what} from {found.first} to {found.last}"


YAML_HEAD: Final = (
    "# Paste a customer's block, as it is indented here, below the keys of its entry in the config, in place of the\n"
    "# projects that it may have. A queue's name is its id until you write a better one; what is not listed is not\n"
    "# shown, unless the entry has other_projects: true."
)
_UNFOLDED: Final = 10_000  # characters of a line, more than any name has


def fragment(found: Found) -> str:
    """Write what one customer has as the `projects:` of its entry in the config."""
    lines = [f"# {line}" for line in (_title(found), *found.remarks)]
    lines += ["    projects:"] if found.projects else []
    for project, entry in found.projects.items():
        queues = found.queues(project)
        lines.append(f"      - id: {project}" + ("" if queues else f"  # {_NO_CALLS}"))
        lines += [f"        {_pair('name', entry.name)}"] if entry.name else []
        if NO_QUEUE in queues:
            lines.append(f"        # {counted(queues.pop(NO_QUEUE), 'call')} {_LATELY} without a queue")
        lines += ["        queues:"] if queues else []
        lines += [f"          {_pair(id_, str(id_))}  # {counted(n, 'call')} {_LATELY}" for id_, n in queues.items()]
    return "".join(f"{line}\n" for line in lines)


def _pair(key: str | int, value: str) -> str:
    """Write one key and its value, which may be any text, on one line of YAML."""
    return str(yaml.safe_dump({key: value}, allow_unicode=True, width=_UNFOLDED)).rstrip("\n")
