"""Polls: which requests a customer needs, and one poll from the request to the stored snapshot.

Beside the polls run the lookbacks, which ask once a day which pairs of project and queue exist and how
projects are called. They are not polls: nothing here counts them, and their failure hides no number.
"""

import itertools
import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Final

from vcc_exporter import times
from vcc_exporter.answer import (
    OTHER_DATE,
    Answer,
    AnswerError,
    Pair,
    Rejection,
    Scope,
    read_pairs,
    read_projects,
    read_statistics,
)
from vcc_exporter.client import PROJECTS, AbandonedError, PollError, Question, Session
from vcc_exporter.config import Customer
from vcc_exporter.network import Network
from vcc_exporter.schedule import LONGEST_RETRY_AFTER, Timetable, due_after, next_poll, place, polls_a_day
from vcc_exporter.snapshot import (
    ASK_AGAIN_AFTER,
    CustomerState,
    Moment,
    wants_lookback,
    wants_names,
    with_answer,
    with_failure,
    with_lookback,
    with_names,
)
from vcc_exporter.store import Store
from vcc_exporter.vocabulary import Result

log = logging.getLogger(__name__)

_DAY: Final = timedelta(days=1)
_LARGE: Final = 256 * 2**10  # bytes of an answer; some 600 rows
_LOOKBACK_WITHIN: Final = timedelta(minutes=1)  # after the poll that follows a midnight, spread like it

# After a poll that ended so, a lookback would end no better.
_USELESS_TO_ASK: Final = frozenset({Result.UNAUTHORIZED, Result.FORBIDDEN, Result.RATE_LIMITED})

# Which requests. Pure.


def questions(customer: Customer, first: date, last: date) -> list[tuple[Question, Scope]]:
    """Return the requests that together tell of all a customer's projects from `first` to `last`."""
    by_sla: dict[int, list[int]] = {}
    for project in customer.listed.values():
        by_sla.setdefault(project.sla_s, []).append(project.id)
    asked = [
        (Question(first, last, sla_s, customer.teams, tuple(ids)), Scope(asked=frozenset(ids)))
        for sla_s, ids in by_sla.items()
    ]
    if not customer.listed or customer.other_projects:
        left_out = Scope(left_out=frozenset(customer.listed))
        asked.append((Question(first, last, customer.sla_s, customer.teams), left_out))
    return asked


def months(first: date, last: date) -> Iterator[tuple[date, date]]:
    """Cut a range of days where calendar months meet, since the API may refuse one that spans two."""
    while first <= last:
        end = (first.replace(day=1) + timedelta(days=31)).replace(day=1) - timedelta(days=1)
        yield first, min(end, last)
        first = end + timedelta(days=1)


def lookback_months(customer: Customer, today: date) -> Iterator[tuple[date, date]]:
    """Return the days of a customer's lookback, cut where calendar months meet."""
    return months(today - customer.lookback_days * _DAY, today - _DAY)


def requests_a_poll(customer: Customer) -> int:
    """Return how many requests one poll of a customer is."""
    return len(questions(customer, date.min, date.min))


def requests_a_day(customer: Customer, now: datetime) -> int:
    """Return how many requests a customer costs the API on one day, the lookback and the names included."""
    a_lookback = sum(1 for _ in lookback_months(customer, times.local_date(customer.zone, now)))
    return requests_a_poll(customer) * (polls_a_day(customer, now) + a_lookback) + 1


def together(answers: list[Answer]) -> Answer:
    """Put the answers to one poll's requests together; no project is in two of them."""
    return Answer(
        values={pair: values for answer in answers for pair, values in answer.values.items()},
        rejected_pairs=frozenset().union(*(answer.rejected_pairs for answer in answers)),
        rejections=tuple(rejection for answer in answers for rejection in answer.rejections),
    )


def unusable(customer: Customer, session: Session, error: AnswerError) -> PollError:
    """Return the error for an answer that is none, in words for whoever wrote the config."""
    other = next((rejection for rejection in error.rejections if rejection.cause == OTHER_DATE), None)
    words = f"not a usable answer: {error}"
    if other:
        words = f"rows came dated {other.example}, which is today in {customer.zone.key}: check timezone"
    return PollError(Result.INVALID_RESPONSE, session.redact(words))


# One customer's polls.


@dataclass(slots=True, eq=False)
class _Work:
    """What runs for one customer while its settings stay the same."""

    customer: Customer
    session: Session
    lookup: Session
    """A connection of its own, so that a lookback that hangs holds up no poll."""
    job: str
    """The name of its jobs in the timetable, which no other work has."""
    busy: threading.Lock = field(default_factory=threading.Lock)
    learning: threading.Lock = field(default_factory=threading.Lock)
    told: set[str] = field(default_factory=set)
    """Causes of rejected rows that the log has."""
    is_to_learn: bool = False
    """Whether a lookback waits for its turn, which with thousands of customers may take as long as several polls."""
    open_questions: bool = False
    """Whether something is to be asked beside the polls, now or within the hour; to look at each poll costs much."""
    hold: datetime | None = None
    """Until when the API wants to be left alone, if the last poll was told so."""
    asked: date | None = None
    """The day that the last poll asked about, well or badly."""


class Poller:
    """Runs the polls of the store's customers. Every method may be called from any thread."""

    def __init__(self, store: Store, network: Network, timetable: Timetable) -> None:
        self._store = store
        self._network = network
        self._timetable = timetable
        self._lock = threading.Lock()
        self._works: dict[str, _Work] = {}
        self._serial = itertools.count()
        self._customers = 0
        """How many there are, on which it depends how many are due at one instant."""
        self._jumps = 0
        """How often the wall clock was seen to jump."""
        self._reading = threading.Lock()
        """Held while a large answer is read."""

    def follow(self) -> None:
        """Poll those customers that the store has now: new ones soon, changed ones anew, others as before.

        Keys are read again before the next request of each.
        """
        customers = {name: said.state.customer for name, said in self._store.views().items()}
        with self._lock:
            self._customers = len(customers)
            for name, work in list(self._works.items()):
                if customers.get(name) is work.customer:
                    work.session.forget_key()
                    work.lookup.forget_key()
                else:
                    self._end(self._works.pop(name))
            for name in customers.keys() - self._works.keys():
                self._works[name] = self._begin(customers[name])

    def clock_jumped(self) -> None:
        """Bring forward what a clock that was put back has moved too far away, and run what is late."""
        self._jumps += 1
        for work in list(self._works.values()):
            if not work.busy.locked():  # one that is busy looks for itself when it is done
                self._bring_forward(work)
        self._timetable.wake()

    def _bring_forward(self, work: _Work) -> None:
        now = self._store.moment().wall
        state = self._store.state(work.customer.name)
        asked = work.asked or times.local_date(work.customer.zone, now)
        hold = min(work.hold, now + LONGEST_RETRY_AFTER) if work.hold else None
        due = next_poll(work.customer, now, asked, hold, self._customers)
        if state and due and state.next_poll and state.next_poll > due:
            self._schedule(work, due)

    def stop(self) -> None:
        """End all polls, those under way included."""
        with self._lock:
            self._timetable.stop()
            for work in self._works.values():
                work.session.abandon()
                work.lookup.abandon()

    def _begin(self, customer: Customer) -> _Work:
        sessions = Session(customer, self._network), Session(customer, self._network)
        work = _Work(customer, *sessions, f"customer {next(self._serial)}")
        state = self._store.state(customer.name)
        if state is None or state.customer is not customer:
            return work  # the next config is there already, and about to be followed
        if state.next_poll:
            self._poll_at(work, state.next_poll)
        if state.lookback_tried or state.names_tried:
            # A reload that changed no question ended the work that had this to do.
            self._learn_again(work)
        return work

    def _end(self, work: _Work) -> None:
        self._timetable.drop(work.job)
        self._timetable.drop(f"{work.job} lookback")
        work.session.abandon()
        work.lookup.abandon()
        if work.busy.acquire(blocking=False):
            work.session.close()
            work.busy.release()

    def _schedule(self, work: _Work, due: datetime) -> None:
        if self._store.update(work.customer, lambda state: replace(state, next_poll=due)):
            self._poll_at(work, due)

    def _poll_at(self, work: _Work, due: datetime) -> None:
        def then(now: datetime) -> datetime | None:
            if work.busy.locked():
                return None  # that poll sets the next when it is done; runs that find it busy would only take threads
            # But for a midnight, which costs more to look for: the poll, which knows more, sets another if need be.
            return due_after(work.customer, now, self._customers)

        self._timetable.again_at(work.job, due, "polls", lambda: self._poll(work), then)

    # A poll.

    def _poll(self, work: _Work) -> None:
        state: CustomerState | None
        if not work.busy.acquire(blocking=False):
            return  # that one sees to the next when it is done
        try:
            jumps, began = self._jumps, self._store.moment()
            before = self._store.state(work.customer.name)
            is_mine = before is not None and before.customer is work.customer
            if before and is_mine and before.next_poll and before.next_poll > began.wall:
                state = before  # the run of an instant that passed while a poll was under way, which has set the next
            else:
                day = work.asked = times.local_date(work.customer.zone, began.wall)
                state = self._poll_once(work, day, began)
        finally:
            work.busy.release()
        if state is None:
            # The customer has other settings by now, or none, and whoever found out found the work busy.
            work.session.close()
            self._timetable.drop(work.job)
        elif state.next_poll:
            # Only now, and always: a run that found the work busy has left its instant, which is then set anew.
            self._poll_at(work, state.next_poll)
            if self._jumps != jumps:
                self._bring_forward(work)
            work.open_questions |= _brought_news(before, state)
            if work.open_questions and state.last_result not in _USELESS_TO_ASK and work.hold is None:
                self._learn_soon(work, state)

    def _poll_once(self, work: _Work, day: date, began: Moment) -> CustomerState | None:
        """Poll and store what came of it. Returns None where nobody wants it any more."""
        try:
            return self._succeeded(work, day, began, self._ask(work, day, began.wall))
        except AbandonedError:
            return None
        except PollError as error:
            return self._failed(work, day, began, error)
        except Exception as error:
            # One customer's job ends here: it takes no other with it, and comes back.
            log.exception("unexpected fault", extra={"customer": work.customer.name})
            self._poll_at(work, began.wall + work.customer.interval)
            problem = PollError(Result.INVALID_RESPONSE, f"a fault of the exporter itself ({type(error).__name__})")
            return self._failed(work, day, began, problem)

    def _ask(self, work: _Work, day: date, now: datetime) -> Answer:
        answers = []
        for question, scope in questions(work.customer, day, day):
            body = work.session.ask(question.target(), now)
            try:
                with self._turn(body):
                    answers.append(read_statistics(body, day, scope))
            except AnswerError as error:
                raise unusable(work.customer, work.session, error) from None
        return together(answers)

    def _turn(self, body: bytes) -> AbstractContextManager[object]:
        """Let large answers be read one after the other: each may take twenty times its size in memory meanwhile.

        That it takes longer where many come at once is no loss, since the interpreter reads but one at a time.
        """
        return self._reading if len(body) > _LARGE else nullcontext()

    def _succeeded(self, work: _Work, day: date, began: Moment, answer: Answer) -> CustomerState | None:
        before = self._store.state(work.customer.name)
        ended = self._store.moment()
        due = next_poll(work.customer, ended.wall, day, customers=self._customers)
        work.hold = None

        def change(state: CustomerState) -> CustomerState:
            return replace(with_answer(state, day, answer, ended, _seconds(began, ended)), next_poll=due)

        state = self._store.update(work.customer, change)
        if state:
            if before and before.last_result is not Result.SUCCESS:
                log.info("polls succeed", extra={"customer": work.customer.name, "rows": answer.rows})
            self._tell_rejected(work, answer.rejections)
        return state

    def _failed(self, work: _Work, day: date, began: Moment, error: PollError) -> CustomerState | None:
        if error.result in (Result.UNAUTHORIZED, Result.FORBIDDEN):
            work.lookup.forget_key()  # as the session does with its own
        before = self._store.state(work.customer.name)
        ended = self._store.moment()
        work.hold = ended.wall + min(error.retry_after, LONGEST_RETRY_AFTER) if error.retry_after else None
        due = next_poll(work.customer, ended.wall, day, work.hold, self._customers)

        def change(state: CustomerState) -> CustomerState:
            failed = with_failure(state, error.result, error.message, _seconds(began, ended))
            return replace(failed, next_poll=due)

        state = self._store.update(work.customer, change)
        if state:
            news = not before or (before.last_result, before.last_error) != (error.result, error.message)
            facts = {"customer": work.customer.name, "result": error.result.value, "problem": error.message}
            log.log(logging.WARNING if news else logging.DEBUG, "poll failed", extra=facts)
        return state

    def _tell_rejected(self, work: _Work, rejections: tuple[Rejection, ...]) -> None:
        """Log each cause once, until an answer has no rejected row at all."""
        for rejection in rejections:
            if rejection.cause not in work.told:
                work.told.add(rejection.cause)
                example = work.session.redact(rejection.example)
                facts = {"customer": work.customer.name, "cause": rejection.cause, "example": example}
                log.warning("row rejected", extra=facts)
        if not rejections:
            work.told.clear()

    # A lookback, and the names of projects.

    def _learn_soon(self, work: _Work, state: CustomerState) -> None:
        now = self._store.moment().wall
        wanted_at = [at for at in (now, now + ASK_AGAIN_AFTER) if wants_lookback(state, at) or wants_names(state, at)]
        work.open_questions = bool(wanted_at)
        if now in wanted_at and not work.learning.locked() and not work.is_to_learn:
            work.is_to_learn = True
            self._timetable.at(f"{work.job} lookback", now, "lookups", lambda: self._learn(work))

    def _learn(self, work: _Work) -> None:
        if not work.learning.acquire(blocking=False):
            work.is_to_learn = False  # else nobody might ask again, where that one has looked for the next already
            return
        try:
            self._look_back(work)
            self._learn_names(work)
            self._learn_again(work)
        except AbandonedError:
            log.debug("lookback abandoned", extra={"customer": work.customer.name})
        except Exception:
            # One customer's job ends here, as in a poll, and comes back like one that failed.
            log.exception("unexpected fault", extra={"customer": work.customer.name})
            now = self._store.moment().wall
            self._store.update(work.customer, lambda state: replace(state, lookback_tried=now, names_tried=now))
            self._learn_again(work)
        finally:
            # Until tomorrow: a connection is not kept for that long.
            work.lookup.close()
            work.learning.release()

    def _look_back(self, work: _Work) -> None:
        state, now = self._store.state(work.customer.name), self._store.moment().wall
        if state is None or not wants_lookback(state, now):
            return
        today = times.local_date(work.customer.zone, now)
        pairs: frozenset[Pair] | None = None
        try:
            pairs = self._ask_pairs(work, today, now)
        except (PollError, AnswerError) as error:
            self._tell(work, "lookback failed", error)
        ended = self._store.moment().wall
        self._store.update(work.customer, lambda state: with_lookback(state, today, pairs, ended))

    def _ask_pairs(self, work: _Work, today: date, now: datetime) -> frozenset[Pair]:
        pairs: frozenset[Pair] = frozenset()
        for first, last in lookback_months(work.customer, today):
            for question, scope in questions(work.customer, first, last):
                body = work.lookup.ask(question.target(), now)
                with self._turn(body):
                    pairs |= read_pairs(body, first, last, scope)
        return pairs

    def _learn_names(self, work: _Work) -> None:
        state, now = self._store.state(work.customer.name), self._store.moment().wall
        if state is None or not wants_names(state, now):
            return
        names: dict[int, str] | None = None
        try:
            body = work.lookup.ask(PROJECTS, now)
            with self._turn(body):
                found = read_projects(body)
            names = {project: work.lookup.redact(name) for project, name in found.items()}
        except (PollError, AnswerError) as error:
            self._tell(work, "names of projects not known", error)
        ended = self._store.moment().wall
        self._store.update(work.customer, lambda state: with_names(state, names, ended))

    def _learn_again(self, work: _Work) -> None:
        """Come back an hour after a failure, else soon after midnight."""
        state, now = self._store.state(work.customer.name), self._store.moment().wall
        if state is None or state.customer is not work.customer:
            return
        later = now + ASK_AGAIN_AFTER
        due = times.day_end(work.customer.zone, now) + _LOOKBACK_WITHIN * (1 + place(work.customer.name))
        if wants_lookback(state, now):
            due = now  # midnight came in between
        elif wants_lookback(state, later) or wants_names(state, later):
            due = min(due, later)
        self._timetable.at(f"{work.job} lookback", due, "lookups", lambda: self._learn(work))
        work.is_to_learn = False  # not before, since that took the place of what waited

    def _tell(self, work: _Work, what: str, error: Exception) -> None:
        words = error.message if isinstance(error, PollError) else str(error)
        log.warning(what, extra={"customer": work.customer.name, "problem": work.lookup.redact(words)})


def _brought_news(before: CustomerState | None, after: CustomerState) -> bool:
    """Tell whether a poll may have changed what is to be asked beside it; most polls say what the last one did."""
    results = {before.last_result if before else None, after.last_result}
    return before is None or results != {Result.SUCCESS} or before.known is not after.known


def _seconds(began: Moment, ended: Moment) -> float:
    return ended.monotonic_s - began.monotonic_s
