"""What the one-shot commands share, asking several customers at a time, and the first of them: verdicts.

They ask with the requests of polls. What they tell comes in the config's order, each customer's as soon as it
and those before it are done. A verdict is one of these:

    good   rows of today came, or none: then nothing tells whether the zone is right. Remarks may follow: slow (a
           request took more than half of poll.timeout), rows that cannot be used, projects that could not be
           compared, teams that may not exist. A remark makes no verdict bad.
    bad    one of the results of a poll in the client's words and what to do about it, the vocabulary's where those do
           not say it; rows of another day than today in the customer's zone; a project that the API does not list.
"""

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from vcc_exporter import times
from vcc_exporter.answer import (
    Answer,
    AnswerError,
    ProjectEntry,
    Rejection,
    read_project_list,
    read_statistics,
)
from vcc_exporter.client import PROJECTS, PollError, Session
from vcc_exporter.config import Customer
from vcc_exporter.network import Network
from vcc_exporter.poll import questions, requests_a_day, requests_a_poll, together, unusable
from vcc_exporter.times import Clock
from vcc_exporter.vocabulary import RESULT_MEANINGS, Result

log = logging.getLogger(__name__)
T = TypeVar("T")

AT_ONCE: Final = 16
"""Customers asked at the same time: hundreds take little longer than the slowest, and the vendor sees no crowd."""
MOST_NAMED: Final = 10
"""Projects that one line names."""

_ADVISED: Final = frozenset(Result) - {Result.UNAUTHORIZED, Result.FORBIDDEN, Result.RATE_LIMITED}
"""Results of which the client's words do not always say what to do."""
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
    return each(customers, clock, _judge, progress)


def load_words(customers: Sequence[Customer], now: datetime) -> str:
    """Say how many requests the customers cost their APIs."""
    a_round = sum(map(requests_a_poll, customers))
    a_day = sum(requests_a_day(customer, now) for customer in customers)
    return f"{counted(a_round, 'request')} in a round of polls, {a_day} a day"


def counted(number: int, noun: str) -> str:
    """Write a number of things."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# Customers side by side.


def each(
    customers: Sequence[Customer],
    clock: Clock,
    work: Callable[[Customer, Session, Clock], T | Verdict],
    progress: Callable[[str], None],
) -> Iterator[T | Verdict]:
    """Do some work for each customer, and give what comes of it in the config's order; a bad verdict where it fails."""
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
        return Verdict(customer.name, False, why(customer, session, clock, error))
    took_s = clock.monotonic() - began
    unknown, remark = _compare_projects(customer, session, clock, {project for project, _ in answer.values})
    if unknown:
        return Verdict(customer.name, False, unknown)
    remarks = [
        f"{_rows(answer)} ({took_s:.1f} s)",
        _slow(customer, slowest_s),
        session.redact(rejected_words(answer.rejections)),
        teams_words(customer) if customer.teams and not answer.rows else "",
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
            raise unusable(customer, session, error) from None
    return together(answers), slowest_s


def _rows(answer: Answer) -> str:
    if answer.rows:
        return f"{counted(answer.rows, 'row')}, the zone seems right"
    return "no calls yet today, so that nothing tells whether the zone is right"


def _slow(customer: Customer, slowest_s: float) -> str:
    limit_s = customer.timeout.total_seconds()
    if slowest_s <= limit_s / 2:
        return ""
    return f"slow: a request took {slowest_s:.1f} s of the {limit_s:g} s of poll.timeout, raise it before polls fail"


def rejected_words(rejections: Sequence[Rejection]) -> str:
    """Say that rows cannot be used; nothing where there are none."""
    if not rejections:
        return ""
    rows = counted(len(rejections), "row")
    return f"{rows} cannot be used, the first for {rejections[0].cause} ({rejections[0].example})"


def teams_words(customer: Customer) -> str:
    """Say what can be said of teams: no page of the vendor's tells how the API answers for one that does not exist."""
    return f"perhaps the account has no {_ids('team', customer.teams)}, which the API does not tell"


# What is wrong, in words.


def why(customer: Customer, session: Session, clock: Clock, error: PollError) -> str:
    """Say what is wrong and what to do about it."""
    said = f"{error.result}: {error.message}"
    if error.retry_after:
        said += f"; it asks for a pause of {math.ceil(error.retry_after.total_seconds())} s"
    if error.result is Result.FORBIDDEN:
        return said + _whose_fault(session, clock)
    if error.result in _ADVISED and not _TOLD.search(said):
        said += f"; {RESULT_MEANINGS[error.result][1]}"
    unknown = _compare_projects(customer, session, clock)[0] if error.result is Result.REJECTED else ""
    return f"{said}; {unknown}" if unknown else said


def _whose_fault(session: Session, clock: Clock) -> str:
    """Tell by another resource what a 403 is about."""
    try:
        ask_projects(session, clock)
    except PollError as error:
        if error.result is not Result.FORBIDDEN:
            return ""
        return f"; {PROJECTS} is refused, too: register this machine's address first, then allow the key the resource"
    return f"; {PROJECTS} is answered, so allow the key the resource /v2/statistics/inbound"


def ask_projects(session: Session, clock: Clock) -> dict[int, ProjectEntry]:
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
        known = ask_projects(session, clock)
    except PollError as error:
        return "", f"its projects could not be compared: {no_list_words(error)}"
    unknown = sorted(customer.listed.keys() - known.keys() - seen)  # what has rows exists, listed or not
    if not unknown:
        return "", ""
    return f"the API knows no {_ids('project', unknown)}, but {_named(known)}; check projects", ""


def _ids(noun: str, ids: Sequence[int]) -> str:
    return f"{noun}{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"


def no_list_words(error: PollError) -> str:
    """Say why there is no list of projects."""
    refused = error.result is Result.FORBIDDEN
    return f"the key is not allowed {PROJECTS}" if refused else f"{PROJECTS}: {error.message}"


def _named(projects: Mapping[int, ProjectEntry]) -> str:
    names = [f"{id_} ({projects[id_].name})" if projects[id_].name else str(id_) for id_ in sorted(projects)]
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join(names[:MOST_NAMED] + more) or "none at all"
