"""What may be said about a customer's day, and until when. Pure: time is an argument.

The rules, which stand here and nowhere else:

1. Today is the current date in the customer's timezone; it begins at the first instant of that date.
2. Values of a day that is over are never shown as today's; an answer that arrives after the day it was
   asked for shows nothing.
3. Zero is data: a known pair of project and queue has all statistics at 0 while the day's answer has no
   row of it. Known is a pair with a row in the lookback or a usable row today, or named in the config.
   Until a new lookback has answered, what was known before stays known.
4. Old is not new: `stale_after` after the last good answer was in, the values are gone; with a schedule,
   `stale_after` past the first due time after it, at most until midnight.
5. All or nothing: a snapshot is one whole answer, replaced whole.
6. A pair of which only rows came that cannot be used is not shown, known or not: it has no false 0.

Every state here is immutable; a transition returns a new one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from sys import intern
from typing import Final, NamedTuple

from vcc_exporter import times
from vcc_exporter.answer import Answer, Pair, Values
from vcc_exporter.config import Customer, Targets
from vcc_exporter.schedule import due_after
from vcc_exporter.vocabulary import NO_QUEUE, NO_QUEUE_NAME, STATISTICS, Result

HALF_HOUR: Final = timedelta(minutes=30)
"""What call centres plan and review by."""
_COURSE: Final = [
    [s.name for s in STATISTICS].index(name)
    for name in ("answered_before", "answered_after", "abort_in_queue_before", "abort_in_queue_after")
]
_ZEROS: Final[Values] = (0.0,) * len(STATISTICS)
ASK_AGAIN_AFTER: Final = timedelta(hours=1)
"""How long a lookback or a question for names that failed is left alone."""
# Threads read the clock a moment apart; a view made a moment later is no view of the future.
_CLOCK_TOLERANCE: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant on both clocks."""

    wall: datetime
    """Aware, in UTC; may jump between two moments."""
    monotonic_s: float
    """Never jumps; only differences mean something."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one customer's last whole good answer says about one day."""

    day: date
    received: Moment
    values: Mapping[Pair, Values]
    rejected_pairs: frozenset[Pair]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a customer's day had come to, all queues together, when a half hour of it was last heard of."""

    half_hour: int
    """Counted from the day's begin, 0 for the first."""
    in_time: float
    late: float
    gave_up: float


@dataclass(frozen=True, slots=True)
class Course:
    """A day so far, as its good polls saw it."""

    day: date | None = None
    marks: tuple[Mark, ...] = ()
    """Ascending, one for each half hour in which an answer came."""

    def with_answer(self, day: date, since: timedelta, values: Iterable[Values]) -> "Course":
        """Return the course after an answer that came `since` the day's begin."""
        rows = list(values)
        in_time, late, before, after = (sum(row[i] or 0.0 for row in rows) for i in _COURSE)
        mark = Mark(since // HALF_HOUR, in_time, late, before + after)
        earlier = self.marks if self.day == day else ()
        return Course(day, (*(m for m in earlier if m.half_hour < mark.half_hour), mark))


@dataclass(frozen=True, slots=True)
class Known:
    """The pairs that are known, and from where."""

    learnt: frozenset[Pair] = frozenset()
    """From the last lookback that answered, or from the days since an older one did."""
    seen: frozenset[Pair] = frozenset()
    """With a usable row on `day`."""
    day: date | None = None
    lookback_day: date | None = None
    """The day before which the last lookback that answered looked."""

    def with_rows(self, day: date, pairs: Iterable[Pair]) -> "Known":
        """Return what is known after a good answer about `day`; this where it tells nothing new."""
        if day == self.day:
            seen = self.seen.union(pairs)
            return self if seen == self.seen else replace(self, seen=seen)
        # A lookback that was asked after midnight has answered before the day's first poll, or has not yet.
        learnt = self.learnt if self.lookback_day == day else self.learnt | self.seen
        return replace(self, learnt=learnt, seen=frozenset(pairs), day=day)

    def with_lookback(self, day: date, pairs: frozenset[Pair]) -> "Known":
        """Return what is known after a lookback over the days before `day` has answered."""
        seen = self.seen if self.day == day else frozenset()
        return Known(pairs, seen, day, day)


@dataclass(frozen=True, slots=True)
class CustomerState:
    """Everything that is known of one customer."""

    customer: Customer
    snapshot: Snapshot | None = None
    course: Course = field(default_factory=Course)
    known: Known = field(default_factory=Known)
    project_names: Mapping[int, str] = field(default_factory=dict)
    """From the API."""
    polls: Mapping[Result, int] = field(default_factory=lambda: dict.fromkeys(Result, 0))
    poll_seconds: float = 0.0
    """How long all polls took together."""
    last_result: Result | None = None
    last_error: str = ""
    """In words, of the last poll that failed; empty after a good one."""
    last_success: datetime | None = None
    rows: int = 0
    """In the last good answer, as `rejected_rows`."""
    rejected_rows: int = 0
    next_poll: datetime | None = None
    lookback_tried: datetime | None = None
    names_tried: datetime | None = None
    names_day: date | None = None
    """The day on which the API last gave the names of projects."""

    @property
    def polled(self) -> bool:
        """Whether a poll has ended, well or badly."""
        return self.last_result is not None


def with_answer(state: CustomerState, day: date, answer: Answer, received: Moment, took_s: float) -> CustomerState:
    """Return the state after a good poll that asked about `day`."""
    if state.last_result not in (None, Result.SUCCESS):
        # What the lookback and the names failed of may be over, too; names that were given are none the newer for it.
        names_tried = state.names_tried if state.names_day == day else None
        state = replace(state, lookback_tried=None, names_tried=names_tried)
    state = replace(
        _counted(state, Result.SUCCESS, took_s),
        last_error="",
        last_success=received.wall,
        rows=answer.rows,
        rejected_rows=len(answer.rejections),
    )
    zone = state.customer.zone
    if day != times.local_date(zone, received.wall):
        return state
    return replace(
        state,
        snapshot=Snapshot(day, received, _as_before(answer.values, state.snapshot), answer.rejected_pairs),
        course=state.course.with_answer(day, received.wall - times.day_start(zone, day), answer.values.values()),
        known=state.known.with_rows(day, answer.values),
    )


def _as_before(values: Mapping[Pair, Values], before: Snapshot | None) -> Mapping[Pair, Values]:
    """Return values, of which those that are the same as before are the very objects: others look for what changed."""
    if before is None:
        return values
    known = before.values
    if known.keys() == values.keys():
        # Of its pairs, too, which are nearly as large.
        return {pair: old if old == (found := values[pair]) else found for pair, old in known.items()}
    return {pair: old if (old := known.get(pair)) == found else found for pair, found in values.items()}


def with_failure(state: CustomerState, result: Result, message: str, took_s: float) -> CustomerState:
    """Return the state after a poll that failed. Its values stay until they are stale."""
    return replace(_counted(state, result, took_s), last_error=message)


def with_lookback(state: CustomerState, day: date, pairs: frozenset[Pair] | None, now: datetime) -> CustomerState:
    """Return the state after a lookback over the days before `day`; None stands for one that failed.

    One that answers when the day is over says nothing.
    """
    if day != times.local_date(state.customer.zone, now):
        return replace(state, lookback_tried=None)  # that was not the new day's
    state = replace(state, lookback_tried=now)
    return state if pairs is None else replace(state, known=state.known.with_lookback(day, pairs))


def with_names(state: CustomerState, names: Mapping[int, str] | None, now: datetime) -> CustomerState:
    """Return the state after the names of projects were asked for; None stands for no answer."""
    state = replace(state, names_tried=now)
    if names is None:
        return state
    return replace(state, project_names=names, names_day=times.local_date(state.customer.zone, now))


def wants_lookback(state: CustomerState, now: datetime) -> bool:
    """Tell whether to ask which pairs exist: once a day, and an hour after it failed."""
    today = times.local_date(state.customer.zone, now)
    wanted = state.customer.lookback_days > 0 and state.known.lookback_day != today
    return wanted and _may_ask(state, state.lookback_tried, now)


def wants_names(state: CustomerState, now: datetime) -> bool:
    """Tell whether to ask for the names of projects: once a day, and for an unknown project, hourly at most."""
    named = state.project_names.keys() | {p.id for p in state.customer.listed.values() if p.name}
    unknown = any(project not in named for project, _ in _known_pairs(state))
    wanted = unknown or state.names_day != times.local_date(state.customer.zone, now)
    return wanted and _may_ask(state, state.names_tried, now)


def _may_ask(state: CustomerState, tried: datetime | None, now: datetime) -> bool:
    """Tell whether it is a new day since something was asked, or an hour later, or the clock was put back."""
    if tried is None or not tried <= now < tried + ASK_AGAIN_AFTER:
        return True
    zone = state.customer.zone
    return times.local_date(zone, tried) != times.local_date(zone, now)


def _counted(state: CustomerState, result: Result, took_s: float) -> CustomerState:
    polls = {**state.polls, result: state.polls[result] + 1}
    return replace(state, polls=polls, poll_seconds=state.poll_seconds + took_s, last_result=result)


def with_settings(state: CustomerState, customer: Customer) -> CustomerState:
    """Return the state after a reload that changed the customer's settings.

    Names, targets, hours and labels apply to the values that are there; values that were asked with other
    settings go, with what was known.
    """
    if customer.question() == state.customer.question():
        return replace(state, customer=customer)
    return CustomerState(
        customer,
        polls=state.polls,
        poll_seconds=state.poll_seconds,
        last_result=state.last_result,
        last_error=state.last_error,
        last_success=state.last_success,
        rows=state.rows,
        rejected_rows=state.rejected_rows,
    )


# What may be said at a moment.


class Row(NamedTuple):
    """One pair's values, with its labels."""

    project: str
    project_name: str
    queue: str
    queue_name: str
    values: Values


class ProjectView(NamedTuple):
    """What holds for one project."""

    project: str
    sla_s: int
    targets: Targets
    open: bool | None
    """None where no hours are given."""


@dataclass(frozen=True, slots=True)
class View:
    """All that may be said about one customer, from `valid_from` until `valid_until`."""

    state: CustomerState
    rows: tuple[Row, ...]
    """Empty while no values are shown."""
    pairs: tuple[Pair, ...]
    """Those of the rows."""
    day_start: datetime | None
    """None while no values are shown."""
    shown_until: datetime | None
    """When the values go unless a poll succeeds before; None while none are shown."""
    projects: tuple[ProjectView, ...]
    active: bool
    valid_from: datetime
    valid_until: datetime
    valid_until_s: float
    """The same on the monotonic clock, which a jump of the other does not touch."""

    @property
    def up(self) -> bool:
        """Whether the last poll succeeded and its values are shown, and not those of one before it."""
        state = self.state
        is_last = state.snapshot is not None and state.snapshot.received.wall == state.last_success
        return self.day_start is not None and is_last and state.last_result is Result.SUCCESS

    def holds(self, moment: Moment) -> bool:
        """Tell whether this view is still true."""
        return self.valid_from <= moment.wall < self.valid_until and moment.monotonic_s < self.valid_until_s


def view(state: CustomerState, moment: Moment, before: View | None = None) -> View:
    """Say what may be said about a customer at a moment, in the objects of the view before where that says the same."""
    customer, now = state.customer, moment.wall
    until, until_s = _fresh_until(state, moment)
    shown = until > now and until_s > moment.monotonic_s
    is_open = {hours: times.open_at(hours, customer.zone, now) for hours in _all_hours(customer)}
    active, changes = _activity(customer, now, list(is_open.values()))
    pairs = _known_pairs(state)
    rows = _rows(state, pairs, before) if shown else {}
    start = times.day_start(customer.zone, state.snapshot.day) if shown and state.snapshot else None
    return View(
        state=state,
        rows=tuple(rows.values()),
        pairs=tuple(rows),
        day_start=start,
        shown_until=until if shown else None,
        projects=_projects(state, pairs, is_open, before),
        active=active,
        valid_from=_true_since(state, moment),
        valid_until=min(
            [*changes, *([until] if shown else _day_to_come(state, now))],
            default=datetime.max.replace(tzinfo=now.tzinfo),
        ),
        valid_until_s=until_s if shown else float("inf"),
    )


def _fresh_until(state: CustomerState, moment: Moment) -> tuple[datetime, float]:
    """Return until when the values may be shown, on both clocks; the past where they may not."""
    snapshot, customer = state.snapshot, state.customer
    if snapshot is None or snapshot.day != times.local_date(customer.zone, moment.wall):
        return moment.wall, moment.monotonic_s
    received = snapshot.received
    due = due_after(customer, received.wall) if customer.schedule else received.wall
    stale = (due + customer.stale_after) if due else datetime.max.replace(tzinfo=moment.wall.tzinfo)
    lifetime_s = (stale - received.wall).total_seconds()
    return min(stale, times.day_end(customer.zone, moment.wall)), received.monotonic_s + lifetime_s


def _true_since(state: CustomerState, moment: Moment) -> datetime:
    """Return from when what holds at a moment has held; looks back no further than threads may be apart."""
    before = replace(moment, wall=moment.wall - _CLOCK_TOLERANCE)
    is_open = [times.open_at(hours, state.customer.zone, before.wall) for hours in _all_hours(state.customer)]
    _, changes = _activity(state.customer, before.wall, is_open)
    changes += [_fresh_until(state, before)[0], *_day_to_come(state, before.wall)]
    return max([before.wall, *(change for change in changes if change <= moment.wall)])


def _day_to_come(state: CustomerState, now: datetime) -> list[datetime]:
    """Return when the snapshot's day begins, where it was asked for by a clock that was ahead and is right again."""
    start = times.day_start(state.customer.zone, state.snapshot.day) if state.snapshot else now
    return [start] if start > now else []


def _all_hours(customer: Customer) -> set[times.Hours]:
    found = [customer.hours, *(project.hours for project in customer.listed.values())]
    return {hours for hours in found if hours}


def _activity(customer: Customer, now: datetime, is_open: list[tuple[bool, datetime]]) -> tuple[bool, list[datetime]]:
    """Tell whether anything is expected of the customer now, and when what was looked at may change."""
    active, changes = not is_open or any(now_open for now_open, _ in is_open), [until for _, until in is_open]
    if customer.schedule:
        due, hour_ends = times.due_hour(customer.schedule, customer.zone, now)
        active, changes = active and due, [*changes, hour_ends]
    return active, changes


def _known_pairs(state: CustomerState) -> frozenset[Pair]:
    named = {(project.id, queue) for project in state.customer.listed.values() for queue in project.queues}
    return state.known.learnt | state.known.seen | named


def _rows(state: CustomerState, pairs: frozenset[Pair], before: View | None) -> Mapping[Pair, Row]:
    """Return the rows by pair, in order. Those that say the same as before are the rows of that view."""
    snapshot = state.snapshot
    if snapshot is None:
        return {}
    old = dict(zip(before.pairs, before.rows, strict=True)) if before and _same_names(before.state, state) else {}
    rows: dict[Pair, Row] = {}
    for pair in sorted(pairs - snapshot.rejected_pairs | snapshot.values.keys()):
        values, known = snapshot.values.get(pair, _ZEROS), old.get(pair)
        if known is None:
            rows[pair] = Row(*_names(state, pair), values=values)
        else:
            rows[pair] = known if known.values is values else Row(*known[:-1], values=values)
    return rows


def _same_names(one: CustomerState, other: CustomerState) -> bool:
    """Tell whether projects and queues are surely called the same."""
    return one.customer is other.customer and one.project_names is other.project_names


def _names(state: CustomerState, pair: Pair) -> tuple[str, str, str, str]:
    number, queue = map(_id_text, pair)
    project = state.customer.listed.get(pair[0])
    project_name = (project and project.name) or state.project_names.get(pair[0]) or number
    own_name = project.queues.get(pair[1]) if project else None
    return number, project_name, queue, own_name or (NO_QUEUE_NAME if pair[1] == NO_QUEUE else queue)


def _id_text(number: int) -> str:
    return intern(str(number))  # so that it stands in memory once, however many rows have it


def _projects(
    state: CustomerState,
    pairs: Iterable[Pair],
    is_open: Mapping[times.Hours, tuple[bool, datetime]],
    before: View | None,
) -> tuple[ProjectView, ...]:
    """Return what holds for each project, in order; what that view has where it is surely the same."""
    customer = state.customer
    if before and not is_open and before.state.customer is customer and before.state.known is state.known:
        return before.projects
    projects = sorted(customer.listed.keys() | {project for project, _ in pairs})
    return tuple(_project(customer, project, is_open) for project in projects)


def _project(customer: Customer, project_id: int, is_open: Mapping[times.Hours, tuple[bool, datetime]]) -> ProjectView:
    project = customer.project(project_id)
    now_open = is_open[project.hours][0] if project.hours else None
    return ProjectView(_id_text(project_id), project.sla_s, project.targets, now_open)
