"""What is so of one customer by the contract, and which samples that makes at an instant. Immutable.

Written from the contract's words, as facts that were put down (what was answered about which day, what the lookback
named) and questions to them (which pairs are known, is anything shown now): not as the exporter keeps it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Final

from tools.soak.accounts import STATISTICS, Pair, Values
from tools.soak.calendar import begin, due_in_hour, end, next_due, on_the_wall
from tools.soak.fleet import Settings
from tools.soak.page import Key, Samples, one_key

RESULTS: Final = (
    "success",
    "unauthorized",
    "forbidden",
    "rejected",
    "rate_limited",
    "server_error",
    "timeout",
    "unreachable",
    "invalid_response",
)
DATA: Final = tuple(f"vcc_inbound_{name}_{unit}" for name, _, unit in STATISTICS)
NEXT: Final = "vcc_poll_next_timestamp_seconds"
_ZEROS: Final[Values] = (0.0,) * len(STATISTICS)
_SOON: Final = timedelta(seconds=15)
_HOUR: Final = timedelta(hours=1)
_TICK: Final = timedelta(microseconds=1)
_FAR: Final = timedelta(days=9)


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment on both clocks."""

    wall: datetime
    seconds: float
    """On the clock that never jumps."""


@dataclass(frozen=True)
class Whole:
    """A whole good answer."""

    day: date
    received: Instant
    usable: Mapping[Pair, Values]
    rejected: frozenset[Pair]


@dataclass(frozen=True)
class Next:
    """When the next poll may be due, by the contract; the page then says which of these instants it is."""

    earliest: datetime
    latest: datetime
    why: str
    on_grid: bool = False
    """Whether it is one of the interval's own instants."""
    after: tuple[datetime, ...] = ()
    """With a schedule: it is the first due time after one of these."""

    def or_latest(self, instant: datetime) -> "Next":
        """Return the same with a later end."""
        return replace(self, latest=max(self.latest, instant))


@dataclass(frozen=True)
class Model:
    """What is so of one customer."""

    settings: Settings
    polls: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(RESULTS, 0))
    seconds: float = 0.0
    """All polls together."""
    last: str | None = None
    """The last poll's result."""
    last_success: datetime | None = None
    rows: int = 0
    rejected: int = 0
    whole: Whole | None = None
    whole_is_last: bool = False
    """Whether the last poll brought it."""
    looked_back: date | None = None
    """The day on which the last lookback that was answered looked back."""
    from_lookback: frozenset[Pair] = frozenset()
    usable_by_day: Mapping[date, frozenset[Pair]] = field(default_factory=dict)
    """What good answers had, of that lookback's day and of what was polled after it."""
    names: Mapping[int, str] = field(default_factory=dict)
    due: datetime | None = None
    """When the next poll is due, as the page has said; None: it has not yet."""
    rule: Next | None = None
    """When it may be due."""
    grid: timedelta | None = None
    """The interval's instants, counted from their own number's begin; with a schedule how far behind the minute."""

    # What happens.

    def counted(self, result: str, took_s: float) -> "Model":
        """Return what is so after a poll that ended."""
        polls = {**self.polls, result: self.polls[result] + 1}
        return replace(self, polls=polls, seconds=self.seconds + took_s, last=result, whole_is_last=False, due=None)

    def answered(self, whole: Whole, rows: int, rejected: int) -> "Model":
        """Return what is so after a good poll was counted."""
        after = replace(self, last_success=whole.received.wall, rows=rows, rejected=rejected)
        if on_the_wall(self.settings.zone, whole.received.wall) != whole.day:
            return after
        seen = self.usable_by_day.get(whole.day, frozenset()) | whole.usable.keys()
        return replace(after, whole=whole, whole_is_last=True, usable_by_day={**self.usable_by_day, whole.day: seen})

    def with_lookback(self, day: date, pairs: frozenset[Pair]) -> "Model":
        """Return what is so after a lookback from a day was answered on it."""
        kept = {day: self.usable_by_day[day]} if day in self.usable_by_day else {}
        return replace(self, looked_back=day, from_lookback=pairs, usable_by_day=kept)

    def reconfigured(self, settings: Settings) -> "Model":
        """Return what is so after a reload that changed the settings."""
        same_rhythm = (settings.schedule, settings.interval_s) == (self.settings.schedule, self.settings.interval_s)
        grid = self.grid if same_rhythm else None
        if settings.same_numbers(self.settings):
            return replace(self, settings=settings, due=None, grid=grid)
        return Model(
            settings,
            grid=grid,
            polls=self.polls,
            seconds=self.seconds,
            last=self.last,
            last_success=self.last_success,
            rows=self.rows,
            rejected=self.rejected,
        )

    # What is so.

    @cached_property
    def known(self) -> frozenset[Pair]:
        """The known pairs."""
        named = {(project.id, queue) for project in self.settings.projects for queue in project.queues}
        return frozenset(named).union(self.from_lookback, *self.usable_by_day.values())

    @cached_property
    def stale(self) -> Instant | None:
        """When the values go; None where there are none."""
        if self.whole is None:
            return None
        received, settings = self.whole.received, self.settings
        lives = settings.stale_after
        if settings.schedule:
            shift = self.grid or timedelta()
            lives += next_due(settings.schedule, settings.zone, received.wall, shift) - received.wall
        return Instant(received.wall + lives, received.seconds + lives.total_seconds())

    def shown(self, now: Instant) -> Whole | None:
        """Return the answer that is shown."""
        whole, stale = self.whole, self.stale
        if whole is None or stale is None or whole.day != on_the_wall(self.settings.zone, now.wall):
            return None
        return whole if now.wall < stale.wall and now.seconds < stale.seconds else None

    def samples(self, now: Instant) -> Samples:
        """Return all samples but the one of the next poll."""
        shown = self.shown(now)
        return {**(self._data if shown else {}), **self._standing, **dict(self._fleeting(now, shown))}

    @cached_property
    def _data(self) -> Samples:
        whole, samples = self.whole, Samples()
        if whole is None:
            return samples
        for pair in (self.known - whole.rejected) | whole.usable.keys():
            labels = self._labels(pair)
            for name, value in zip(DATA, whole.usable.get(pair, _ZEROS), strict=True):
                if value is not None:
                    samples[one_key(name, labels)] = value
        return samples

    def _labels(self, pair: Pair) -> frozenset[tuple[str, str]]:
        project, queue = pair
        listed = self.settings.listed(project)
        queue_name = listed.queues.get(queue) or ("no queue" if queue == -1 else str(queue))
        return frozenset(
            {
                ("customer", self.settings.name),
                ("project", str(project)),
                ("project_name", listed.name or self.names.get(project) or str(project)),
                ("queue", str(queue)),
                ("queue_name", queue_name),
            }
        )

    def _key(self, name: str, **labels: str) -> Key:
        return one_key(name, frozenset({("customer", self.settings.name), *labels.items()}))

    @cached_property
    def projects(self) -> frozenset[int]:
        """Those that have samples of their own, whether values are shown or not."""
        return frozenset({p.id for p in self.settings.projects} | {project for project, _ in self.known})

    @cached_property
    def _standing(self) -> Samples:
        """What no passing time changes."""
        settings, key = self.settings, self._key
        samples = {key("vcc_customer_info", timezone=settings.zone.key, **settings.labels): 1.0}
        samples |= {key("vcc_polls_total", result=result): count for result, count in self.polls.items()}
        samples[key("vcc_poll_duration_seconds_count")] = sum(self.polls.values())
        samples[key("vcc_poll_duration_seconds_sum")] = self.seconds
        if self.last_success:
            samples[key("vcc_inbound_rows")] = self.rows
            samples[key("vcc_inbound_rejected_rows")] = self.rejected
            samples[key("vcc_poll_last_success_timestamp_seconds")] = self.last_success.timestamp()
        for project in self.projects:
            mine = {"project": str(project)}
            samples[key("vcc_inbound_sla_threshold_seconds", **mine)] = settings.project_sla(project)
            for name, target in _TARGETS:
                samples[key(name, **mine)] = settings.target(project, target)
        return samples

    def _fleeting(self, now: Instant, shown: Whole | None) -> Iterator[tuple[Key, float]]:
        settings, key = self.settings, self._key
        if self.last:
            yield key("vcc_up"), float(bool(shown) and self.whole_is_last)
        if shown:
            yield key("vcc_inbound_day_start_timestamp_seconds"), begin(settings.zone, shown.day).timestamp()
        is_open = {hours: hours.open(settings.zone, now.wall, settings.holidays) for hours in settings.all_hours()}
        expected = not is_open or any(is_open.values())
        due = not settings.schedule or due_in_hour(settings.schedule, settings.zone, now.wall)
        yield key("vcc_customer_active"), float(expected and due)
        for project in self.projects:
            hours = settings.project_hours(project)
            if hours:
                yield key("vcc_inbound_open", project=str(project)), float(is_open[hours])

    # When the next poll is due.

    def first_poll(self, now: datetime) -> "Model":
        """Return what is so when a customer is new, or has new settings."""
        return replace(self, due=None, rule=Next(now, now + _SOON, "first poll"))

    def after_poll(self, ended: Instant, asked: date, hold: tuple[datetime, datetime] | None) -> Next:
        """Return when the next poll may be due after one that ended, which asked about a day.

        `hold` is the instant until which the API wants to be left alone, as its earliest and latest reading.
        """
        now, settings = ended.wall, self.settings
        if settings.schedule:
            after = tuple(max(now, until) for until in hold) if hold else (now,)
            return Next(now, now + _FAR, "schedule", after=after)
        today = on_the_wall(settings.zone, now)
        midnight = end(settings.zone, now)
        if asked != today:
            rule = Next(now, max(begin(settings.zone, today) + _SOON, now), "the day asked for is over")
        elif midnight <= now + settings.interval:
            rule = Next(now + _TICK, midnight + _SOON, "midnight comes before the interval is over")
        else:
            rule = Next(now + _TICK, now + settings.interval, "interval", on_grid=True)
        if hold and hold[1] > now:
            rule = replace(rule, earliest=max(now, hold[0]), on_grid=False, why=f"{rule.why}, Retry-After")
            rule = rule.or_latest(hold[1])
        return rule

    def after_jump(self, now: Instant) -> Next:
        """Return when the next poll may be due after the clock was set, as long as none has been made."""
        furthest = max(_HOUR, self.settings.interval)
        if self.settings.schedule:
            return Next(now.wall, now.wall + _FAR, "the clock was set")
        return Next(now.wall, now.wall + furthest + _SOON, "the clock was set")

    def fits(self, due: datetime) -> str:
        """Tell what is wrong with the instant that the page gives for the next poll; empty: nothing."""
        rule, settings = self.rule, self.settings
        if rule is None:
            return "" if due == self.due else f"it has changed, without a reason, from {self.due}"
        if not rule.earliest <= due <= rule.latest:
            return f"not from {rule.earliest} to {rule.latest} ({rule.why})"
        if settings.schedule and rule.after:
            shift = timedelta(seconds=due.second, microseconds=due.microsecond) if self.grid is None else self.grid
            expected = [next_due(settings.schedule, settings.zone, after, shift) for after in rule.after]
            return "" if due in expected else f"not the schedule's {expected[0]}"
        if rule.on_grid and self.grid is not None and self._phase(due) != self.grid:
            return f"not on the interval's grid ({self._phase(due)}, else {self.grid})"
        return ""

    def told(self, due: datetime) -> "Model":
        """Return what is so after the page has said when the next poll is due."""
        rule, grid = self.rule, self.grid
        if rule and rule.on_grid:
            grid = self._phase(due)
        elif rule and rule.after:
            grid = timedelta(seconds=due.second, microseconds=due.microsecond)
        return replace(self, due=due, rule=None, grid=grid)

    def _phase(self, due: datetime) -> timedelta:
        return (due - datetime.fromtimestamp(0, due.tzinfo)) % self.settings.interval


_TARGETS: Final = (
    ("vcc_inbound_service_level_target_ratio", "service_level"),
    ("vcc_inbound_abandonment_target_ratio", "abandonment"),
    ("vcc_inbound_target_min_calls", "min_calls"),
)
