"""Individual calls of simulated call centres: pure functions of a seed and a date.

A day of a centre is drawn in two steps: what each caller brings along (when, patience, talk), then who waits
how long for an agent (`serve`, the one queueing discipline here). The same seed gives the same day in any
process; all instants are seconds since 1970 in UTC.

Chosen where no document says how it is: a call belongs to the local date on which it was set up, and is known
once it has ended, so that a day may grow shortly after its midnight. Every call, answered or not, counts for the
team that it was routed to, so that teams add up. Agents stay after closing until their queue is empty. Redials
are left out.
"""
# ruff: noqa: S311 - reproducible dice are the purpose, nothing here is a secret

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import Enum
from hashlib import sha256
from operator import attrgetter
from random import Random
from typing import Final
from zoneinfo import ZoneInfo

from vcc_exporter.vocabulary import NO_QUEUE

HALF_HOUR_S: Final = 1800
EARLY_S: Final = 5
"""Who gives up sooner than this many seconds after entering a queue left early; fixed by the vendor."""
RING_S: Final = (1.0, 5.0)
"""How long a free agent's telephone rings, uniform; part of the wait."""


class Outcome(Enum):
    """How a call ended; each call has exactly one."""

    DROPPED = "given up before a queue"
    SENT_ELSEWHERE = "redirected before a queue"
    ANSWERED = "answered by an agent"
    ABANDONED = "given up in a queue"
    REDIRECTED = "redirected after a queue"


@dataclass(frozen=True, slots=True)
class Call:
    """One call that has ended. Durations are whole seconds, cut off rather than rounded."""

    day: date
    """The centre's local date when the call was set up."""
    project: int
    queues: tuple[int, ...]
    """None, one, or two where the call was moved to a second queue while it waited."""
    team: int
    outcome: Outcome
    set_up: float
    """The instant of the call's set-up: where it enters a queue is this plus `before_s`."""
    before_s: int
    """Menu and announcement, up to the queue or to the end of the call."""
    wait_s: int
    """The whole wait, in all queues; 0 without a queue."""
    last_wait_s: int
    """The wait in the last queue alone."""
    talk_s: int
    ended: float
    """The instant from which on the call is in the statistics."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue, and which part of its centre's calls it gets."""

    id: int
    name: str
    share: float
    priority: int = 1
    """Lower goes first, and interrupts nobody."""
    overflow_s: float = math.inf
    overflow_to: int = NO_QUEUE
    """After `overflow_s` in this queue a caller waits in that one, keeping the place in the line."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project with its queues; `direct` are calls straight to a desk, as a part of the centre's others."""

    id: int
    name: str
    teams: tuple[int, ...]
    queues: tuple[Queue, ...]
    direct: float = 0.0


def _no_season(_day: date, _hour: int) -> float:
    return 1.0


@dataclass(frozen=True, slots=True)
class Lognormal:
    """A duration with that mean and that standard deviation in parts of the mean."""

    mean_s: float
    cv: float

    def draw(self, dice: Random) -> float:
        """Draw a duration in seconds."""
        variance = math.log1p(self.cv**2)
        return dice.lognormvariate(math.log(self.mean_s) - variance / 2, math.sqrt(variance))


@dataclass(frozen=True, slots=True)
class Patience:
    """How long callers wait: a part of them for some of the first five seconds only, the others Weibull."""

    impatient: float
    mean_s: float
    max_s: float
    """After this the system sends a caller on."""
    shape: float = 1.0
    """1 is the exponential distribution."""

    def draw(self, dice: Random) -> float:
        """Draw a patience in seconds, not above `max_s`."""
        if dice.random() < self.impatient:
            return dice.uniform(0, EARLY_S)
        return min(self.max_s, dice.weibullvariate(self.mean_s / math.gamma(1 + 1 / self.shape), self.shape))


@dataclass(frozen=True, slots=True)
class Centre:
    """A call centre of the model: who calls when, with how much patience, and who is there to answer.

    `weights` and `agents` have one entry for each half hour of wall-clock time from `opens` on.
    """

    customer: str
    """The name that is also the user of the API's basic authentication, with `key` as its password."""
    key: str
    zone: str
    sla_s: int
    opens: int
    base: float
    """Calls dialled on a mean day, without those straight to a desk; times `weekdays`, Monday first."""
    weekdays: tuple[float, ...]
    day_cv: float
    slot_cv: float
    """How much whole days and single half hours vary, as standard deviation in parts of the mean."""
    talk: Lognormal
    wrap_up_s: float
    patience: Patience
    ivr: Lognormal
    dropped: float
    redirected: float
    """The parts of the calls that end before a queue."""
    weights: tuple[float, ...]
    agents: tuple[int, ...]
    projects: tuple[Project, ...]
    season: Callable[[date, int], float] = _no_season
    """Factor of the arrival rate by local date and hour."""


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that goes wrong in a call centre from `since` until just before `until`."""

    since: float
    until: float = math.inf
    agents: int = 0
    """Added to the number of agents."""
    arrivals: float = 1.0
    """Factor of the arrival rate; 0 is a dead trunk."""

    def covers(self, instant: float) -> bool:
        """Whether the instant, in seconds since 1970, lies within."""
        return self.since <= instant < self.until


# --- The queue -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Caller:
    """What one caller brings to a queue."""

    at: float
    """When the queue is entered."""
    stays_s: float
    """How long the caller waits at most, ringing included."""
    ring_s: float
    talk_s: float
    wrap_up_s: float
    priority: int = 1


def serve(callers: Sequence[Caller], staff: Iterable[tuple[float, int]]) -> list[float | None]:
    """Tell how long each caller waits for an agent, in seconds; None for one who leaves first, after `stays_s`.

    `staff` gives numbers of agents, each from an instant on; where it shrinks, calls are finished first. Served
    by priority, then in order of entry, by whichever agent is free.
    """
    frees, shift, enters = range(3)  # at one instant in this order
    events = [(at, shift, agents) for at, agents in staff]
    events += [(caller.at, enters, index) for index, caller in enumerate(callers)]
    heapq.heapify(events)
    waits: list[float | None] = [None] * len(callers)
    line: list[tuple[int, float, int]] = []
    agents = busy = 0
    while events:
        now, kind, value = heapq.heappop(events)
        if kind == frees:
            busy -= 1
        elif kind == shift:
            agents = value
        else:
            heapq.heappush(line, (callers[value].priority, now, value))
        while busy < agents and line:
            *_, index = heapq.heappop(line)
            caller = callers[index]
            leaves, answered = caller.at + caller.stays_s, now + caller.ring_s
            if leaves <= now:
                continue
            if answered <= leaves:
                waits[index] = answered - caller.at
                leaves = answered + caller.talk_s + caller.wrap_up_s
            busy += 1
            heapq.heappush(events, (leaves, frees, 0))
    return waits


def erlang_a(
    dice: Random, calls: int, *, per_hour: float, talk_s: float, patience_s: float, agents: int
) -> list[tuple[Caller, float | None]]:
    """Send callers through the textbook's queue and pair each with what `serve` makes of them.

    Poisson arrivals, exponential talk and patience, a constant number of agents, no ringing, no wrap-up.
    """
    moments = itertools.accumulate(dice.expovariate(per_hour / 3600) for _ in range(calls))
    callers = [Caller(at, dice.expovariate(1 / patience_s), 0.0, dice.expovariate(1 / talk_s), 0.0) for at in moments]
    return list(zip(callers, serve(callers, [(0.0, agents)]), strict=True))


# --- A day ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Slot:
    """Half an hour of an opening day."""

    start: float
    per_s: float
    agents: int


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A call as it is dialled. Without a `caller` it never gets to a queue and `outcome` is decided."""

    set_up: float
    project: Project
    queue: Queue | None
    outcome: Outcome
    before_s: float
    talk_s: float
    team: int
    caller: Caller | None = None


def day_start(day: date, zone: str) -> float:
    """Find the first instant of a local date, in seconds since 1970, also where midnight is missing or repeated."""
    return datetime.combine(day, time(), ZoneInfo(zone)).timestamp()


def calls_of_day(centre: Centre, day: date, seed: int, incidents: tuple[Incident, ...] = ()) -> tuple[Call, ...]:
    """Every call that was set up on the local date, in the order in which they ended.

    An incident changes nothing that had ended when it began; nor does setting `until` to a later "now" then.
    """
    slots = _slots(centre, day, _dice(seed, centre.customer, day, "rates"))
    arrivals = list(_arrivals(centre, slots, _dice(seed, centre.customer, day, "callers"), incidents))
    for incident in incidents:
        dice = _dice(seed, centre.customer, day, incident.since)
        arrivals += _arrivals_during(centre, slots, dice, incident)
    queued = [(arrival, arrival.queue, arrival.caller) for arrival in arrivals if arrival.queue and arrival.caller]
    waits = serve([caller for *_, caller in queued], _staff(slots, incidents))
    calls = [_unqueued(day, arrival) for arrival in arrivals if not arrival.caller]
    calls += [_queued(day, *who, wait) for who, wait in zip(queued, waits, strict=True)]
    return tuple(sorted(calls, key=attrgetter("ended")))


def _dice(*parts: object) -> Random:
    """Make a generator seeded by what the parts say, in every process the same."""
    return Random(sha256("|".join(map(str, parts)).encode()).digest())


def _gamma(dice: Random, cv: float) -> float:
    """Draw a factor of mean 1."""
    return dice.gammavariate(cv**-2, cv**2)


def _slots(centre: Centre, day: date, dice: Random) -> tuple[_Slot, ...]:
    """Cut the opening hours, by the wall clock, into half hours; the repeated hour of autumn counts twice."""
    start, end = day_start(day, centre.zone), day_start(day + timedelta(days=1), centre.zone)
    desks = 1 + sum(project.direct for project in centre.projects)
    mean = centre.base * centre.weekdays[day.weekday()] * _gamma(dice, centre.day_cv) * desks / sum(centre.weights)
    zone = ZoneInfo(centre.zone)
    slots = []
    for number in range(round((end - start) / HALF_HOUR_S)):
        at = start + number * HALF_HOUR_S
        wall = datetime.fromtimestamp(at, zone)
        index = (wall.hour - centre.opens) * 2 + wall.minute // 30
        if 0 <= index < len(centre.weights):
            calls = mean * centre.weights[index] * _gamma(dice, centre.slot_cv) * centre.season(day, wall.hour)
            slots.append(_Slot(at, calls / HALF_HOUR_S, centre.agents[index]))
    return tuple(slots)


def _staff(slots: Sequence[_Slot], incidents: Sequence[Incident]) -> Iterator[tuple[float, int]]:
    """Tell from when on how many agents are there, the changes by incidents included."""
    moments = {slot.start for slot in slots}
    moments |= {at for incident in incidents for at in (incident.since, incident.until) if at < math.inf}
    for at in sorted(moments):
        planned = next((slot.agents for slot in reversed(slots) if slot.start <= at), 0)
        yield at, max(0, planned + sum(incident.agents for incident in incidents if incident.covers(at)))


def _arrivals(
    centre: Centre, slots: Sequence[_Slot], dice: Random, incidents: Sequence[Incident]
) -> Iterator[_Arrival]:
    """Draw the day's calls as dialled, but for the times of incidents that change how many there are."""
    changed = [incident for incident in incidents if incident.arrivals != 1]
    for slot in slots:
        for arrival in _dialled(centre, dice, slot.start, slot.start + HALF_HOUR_S, slot.per_s):
            if not any(incident.covers(arrival.set_up) for incident in changed):
                yield arrival


def _arrivals_during(centre: Centre, slots: Sequence[_Slot], dice: Random, incident: Incident) -> Iterator[_Arrival]:
    """Draw the calls dialled during an incident that changes how many there are."""
    if incident.arrivals == 1:
        return
    for slot in slots:
        start, end = max(slot.start, incident.since), min(slot.start + HALF_HOUR_S, incident.until)
        yield from _dialled(centre, dice, start, end, slot.per_s * incident.arrivals)


def _dialled(centre: Centre, dice: Random, start: float, end: float, per_s: float) -> Iterator[_Arrival]:
    """Draw a Poisson stream of calls from `start` until before `end`."""
    goals: list[tuple[float, Project, Queue | None]] = []
    for project in centre.projects:
        goals += [(queue.share, project, queue) for queue in project.queues]
        goals.append((project.direct, project, None))
    shares = [share for share, *_ in goals]
    at = start + dice.expovariate(per_s) if per_s else end
    while at < end:
        _, project, queue = dice.choices(goals, shares)[0]
        yield _arrival(centre, dice, at, project, queue)
        at += dice.expovariate(per_s)


def _arrival(centre: Centre, dice: Random, at: float, project: Project, queue: Queue | None) -> _Arrival:
    """Draw what becomes of one call up to the queue, and what its caller brings along."""
    team = dice.choice(project.teams)
    talk_s = centre.talk.draw(dice)
    if queue is None:
        return _Arrival(at, project, None, Outcome.ANSWERED, 0.0, talk_s, team)
    before_s = centre.ivr.draw(dice)
    fate = dice.random() - centre.dropped
    if fate < 0:
        return _Arrival(at, project, None, Outcome.DROPPED, before_s * dice.random(), 0.0, team)
    if fate < centre.redirected:
        return _Arrival(at, project, None, Outcome.SENT_ELSEWHERE, before_s, 0.0, team)
    stays_s = centre.patience.draw(dice)
    ring_s, wrap_up_s = dice.uniform(*RING_S), dice.expovariate(1 / centre.wrap_up_s)
    caller = Caller(at + before_s, stays_s, ring_s, talk_s, wrap_up_s, queue.priority)
    leaves = Outcome.ABANDONED if stays_s < centre.patience.max_s else Outcome.REDIRECTED
    return _Arrival(at, project, queue, leaves, before_s, talk_s, team, caller)


def _unqueued(day: date, arrival: _Arrival) -> Call:
    """Make the call of someone who never got to a queue."""
    ended = arrival.set_up + arrival.before_s + arrival.talk_s
    before_s, talk_s = int(arrival.before_s), int(arrival.talk_s)
    return Call(
        day, arrival.project.id, (), arrival.team, arrival.outcome, arrival.set_up, before_s, 0, 0, talk_s, ended
    )


def _queued(day: date, arrival: _Arrival, queue: Queue, caller: Caller, wait: float | None) -> Call:
    """Make the call of someone who waited, answered or not."""
    outcome, talk_s = (arrival.outcome, 0.0) if wait is None else (Outcome.ANSWERED, caller.talk_s)
    wait_s = caller.stays_s if wait is None else wait
    moved = wait_s >= queue.overflow_s
    return Call(
        day=day,
        project=arrival.project.id,
        queues=(queue.id, queue.overflow_to) if moved else (queue.id,),
        team=arrival.team,
        outcome=outcome,
        set_up=arrival.set_up,
        before_s=int(arrival.before_s),
        wait_s=int(wait_s),
        last_wait_s=int(wait_s - queue.overflow_s if moved else wait_s),
        talk_s=int(talk_s),
        ended=caller.at + wait_s + talk_s,
    )
