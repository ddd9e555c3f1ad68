"""The oracle: told of every request and answer, of reloads and of the clock, it says what a scrape may show.

It is told facts alone, of which none comes from the exporter but what it asked the API and, on the page, when it is to
ask next; that instant is held against the contract and then taken as a promise.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from functools import partial
from typing import Final

from tools.soak.accounts import Pair, Reply, Row, Values
from tools.soak.api import Event, Exchange
from tools.soak.calendar import end, on_the_wall
from tools.soak.fleet import Settings
from tools.soak.model import DATA, NEXT, Instant, Model, Whole
from tools.soak.page import Key, Page, Samples, Scrape, one_key

_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_LONGEST_HOLD: Final = _HOUR
_LOOKBACK_WITHIN_S: Final = 2 * 3600
"""After a first good poll of a day: soon, or an hour after a failure, and a little more."""
_MOST_LINES: Final = 60
_GAUGES: Final = (
    "vcc_up",
    "vcc_customer_info",
    "vcc_customer_active",
    "vcc_inbound_day_start_timestamp_seconds",
    "vcc_inbound_sla_threshold_seconds",
    "vcc_inbound_service_level_target_ratio",
    "vcc_inbound_abandonment_target_ratio",
    "vcc_inbound_target_min_calls",
    "vcc_inbound_open",
    "vcc_inbound_rows",
    "vcc_inbound_rejected_rows",
    "vcc_poll_last_success_timestamp_seconds",
    NEXT,
    "vcc_exporter_build_info",
    "vcc_exporter_config_last_reload_successful",
    "vcc_exporter_config_last_reload_success_timestamp_seconds",
    *DATA,
)
_TYPES: Final[Mapping[str, str]] = {
    **dict.fromkeys(_GAUGES, "gauge"),
    "vcc_polls": "counter",
    "vcc_poll_duration_seconds": "summary",
}
_OF_THE_PROCESS: Final = ("process_", "python_")


class WrongError(Exception):
    """Something that the contract does not allow, in words."""


class See(Enum):
    """What a scrape may have seen."""

    NOW = "all that has happened"
    RECENTLY = "of each customer any state of the last second, but nothing that is not true any more"
    RELOADED = "of each customer any state since the reload, and perhaps not yet when a poll is due"


@dataclass
class _Poll:
    """A poll under way."""

    began: Instant
    day: date
    left: set[tuple[frozenset[int], int]]
    connection: int
    rows: int = 0
    rejected: int = 0
    usable: dict[Pair, Values] = field(default_factory=dict)
    rejected_pairs: set[Pair] = field(default_factory=set)


@dataclass
class _Lookback:
    """A lookback under way."""

    day: date
    left: set[tuple[date, date, frozenset[int], int]]
    pairs: set[Pair] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Around:
    """What the oracle is told of a customer's surroundings."""

    key: str | None
    """What its key file holds; None: it is not there."""
    listening: bool
    """Whether its API listens."""


class Oracle:
    """What is so of all customers."""

    def __init__(self) -> None:
        self.models: dict[str, Model] = {}
        self.results = Counter[str]()
        """All polls of the run."""
        self._trail: dict[str, list[Model | None]] = {}
        """What was so of customers since the last whole look, oldest first, where it has changed."""
        self._grids: dict[str, list[list[Model]]] = {}
        """The same, by how many polls and lookbacks are taken in."""
        self._polls: dict[str, _Poll] = {}
        self._lookbacks: dict[str, _Lookback] = {}
        self._keys: dict[str, str] = {}
        """The keys that were read and not refused since."""
        self._begun: set[str] = set()
        """Whose polls began since the last look for those that did not."""
        self._abandoned: set[Exchange] = set()
        self._of: dict[Exchange, str] = {}
        """The kind of each request under way."""
        self._unsure: dict[str, Model] = {}
        """What may be so as well, of customers whose polls cannot be seen when the clock was set."""
        self._no_lookback_since: dict[str, tuple[date, float]] = {}
        self._reloaded: dict[str, int] = {}
        """Which of a customer's states since the last look was the first after a reload."""
        self._named: dict[str, datetime] = {}
        """When names of projects were given last."""
        self._config = (True, datetime.fromtimestamp(0, UTC))
        self._configs = [self._config]

    # What it is told.

    def settle(self, now: Instant, events: Iterable[Event], around: Callable[[str], Around]) -> None:
        """Take in what has happened until an instant at which nothing is under way but what is held.

        Raises WrongError.
        """
        for event in events:
            name = event.exchange.customer
            if event.arrived:
                self._arrived(now, event.exchange, around(name))
            elif event.exchange in self._abandoned:
                self._abandoned.discard(event.exchange)
            else:
                self._ended(now, event.exchange)
        self._end_unseen(now, around)
        self._find_unseen(now, around)
        self._begun.clear()
        self._find_missing_lookbacks(now)

    def looked(self) -> None:
        """Forget what was so before: the page says what is so now."""
        self._trail.clear()
        self._grids.clear()
        self._reloaded.clear()
        self._configs = [self._config]

    def reloaded(self, now: Instant, customers: Iterable[Settings]) -> None:
        """Take over a config that was loaded."""
        wanted = {settings.name: settings for settings in customers}
        for name in [*self.models]:
            if name not in wanted:
                self._abandon(name)
                self._change(name, None)
                self._reloaded[name] = len(self._trail[name]) - 1
        for name, settings in wanted.items():
            before = self.models.get(name)
            if before and before.settings.means() == settings.means():
                self.models[name] = replace(before, settings=settings)
            else:
                self._abandon(name)
                after = before.reconfigured(settings) if before else Model(settings)
                self._change(name, after.first_poll(now.wall))
                self._reloaded[name] = len(self._trail[name]) - 1
        self._keys.clear()
        self._set_config(True, now.wall)

    def refused_to_load(self) -> None:
        """Note that a config was not loaded."""
        self._set_config(False, self._config[1])

    def clock_jumps(self) -> None:
        """Forget since when something has been waited for: the wall clock is about to read another time."""
        self._named.clear()
        self._no_lookback_since.clear()

    def clock_was_set(self, now: Instant, around: Callable[[str], Around]) -> None:
        """Note that the exporter is told that the wall clock reads another time."""
        for name, model in list(self.models.items()):
            if name in self._polls or (model.due and model.due <= now.wall):
                continue
            after = replace(model, due=None, rule=model.after_jump(now))
            self._change(name, after)
            unseen = self._unseen(name, around(name))
            if unseen and name not in self._begun:
                self._unsure[name] = self._after(after, None, unseen, began=now, ended=now)

    # Requests.

    def _arrived(self, now: Instant, exchange: Exchange, around: Around) -> None:
        name = exchange.customer
        model = self.models.get(name)
        if model is None:
            raise WrongError(f"{name} is asked though the config does not have it: {exchange.target}")
        if exchange.user != model.settings.subdomain:
            raise WrongError(f"{name} is asked as user {exchange.user!r}")
        if exchange.question is None:
            self._of[exchange] = "names"
            named = self._named.get(name)
            today = on_the_wall(model.settings.zone, now.wall)
            if named and on_the_wall(model.settings.zone, named) == today and named <= now.wall < named + _HOUR:
                raise WrongError(f"{name} is asked for names that it gave at {named}")
            if exchange.target != "/v2/projects":
                raise WrongError(f"{name} is asked for {exchange.target}")
        elif self._is_poll(exchange, model):
            self._of[exchange] = "poll"
            self._poll_arrived(now, exchange, model, around)
        else:
            self._of[exchange] = "lookback"
            self._lookback_arrived(now, exchange, model)

    def _is_poll(self, exchange: Exchange, model: Model) -> bool:
        question, poll = exchange.question, self._polls.get(exchange.customer)
        if question is None or question.first != question.last:
            return False
        if poll and question.last == poll.day and exchange.connection == poll.connection:
            return True
        return question.last == on_the_wall(model.settings.zone, exchange.at)

    def _poll_arrived(self, now: Instant, exchange: Exchange, model: Model, around: Around) -> None:
        name, settings = exchange.customer, model.settings
        poll = self._polls.get(name)
        if poll is None:
            words = "" if model.due and model.due <= now.wall else model.fits(now.wall)
            if words:
                raise WrongError(f"{name} is polled at {now.wall}, which is {words}")
            if name not in self._keys and around.key is not None:
                self._keys[name] = around.key
            if self._keys.get(name) != exchange.key:
                raise WrongError(f"{name} is polled with another key than the one that was to be read last")
            poll = _Poll(now, on_the_wall(settings.zone, now.wall), set(settings.asks()), exchange.connection)
            self._polls[name] = poll
            self._begun.add(name)
            self._unsure.pop(name, None)
        poll.connection = exchange.connection
        if not any(exchange.target == _target(settings, poll.day, poll.day, *asked) for asked in poll.left):
            raise WrongError(f"{name} is asked {exchange.target} in a poll of {poll.day}; left: {poll.left}")

    def _lookback_arrived(self, now: Instant, exchange: Exchange, model: Model) -> None:
        name, settings = exchange.customer, model.settings
        lookback = self._lookbacks.get(name)
        if lookback is None:
            day = on_the_wall(settings.zone, now.wall)
            left = {(*months, *asked) for months in _months(settings, day) for asked in settings.asks()}
            lookback = self._lookbacks[name] = _Lookback(day, left)
            self._no_lookback_since.pop(name, None)
        if not any(exchange.target == _target(settings, *asked) for asked in lookback.left):
            raise WrongError(f"{name} is asked {exchange.target} in a lookback on {lookback.day}: {lookback.left}")

    def _ended(self, now: Instant, exchange: Exchange) -> None:
        kind, model = self._of.pop(exchange), self.models[exchange.customer]
        reply, result = exchange.reply, exchange.reply.result
        if exchange.outcome == "closed" and not exchange.fresh:
            return  # it says nothing of the request, which is sent again on a new connection
        if exchange.outcome == "dropped":
            if now.seconds < exchange.at_s + model.settings.timeout_s:
                since_s = now.seconds - exchange.at_s
                words = f"a {kind} ({reply.kind}) was given up after {since_s} s: {exchange.target}"
                raise WrongError(f"{exchange.customer}: {words}")
            result = "timeout"
        if kind == "names":
            if result == "success" and reply.names is not None:
                names = reply.names
                self._learnt(exchange.customer, lambda model: replace(model, names=names))
                self._named[exchange.customer] = now.wall
        elif kind == "lookback":
            self._lookback_ended(now, exchange, model, result)
        else:
            self._poll_ended(now, exchange, model, result)

    def _lookback_ended(self, now: Instant, exchange: Exchange, model: Model, result: str) -> None:
        name, settings = exchange.customer, model.settings
        lookback = self._lookbacks[name]
        if result != "success":
            del self._lookbacks[name]
            return
        asked = next(a for a in lookback.left if exchange.target == _target(settings, *a))
        lookback.left.remove(asked)
        rows = _counting(settings, asked[2], exchange.reply)
        lookback.pairs |= {row.pair for row in rows if row.pair and row.placed and _was_asked(row, asked[2])}
        if not lookback.left:
            del self._lookbacks[name]
            if lookback.day == on_the_wall(settings.zone, now.wall):
                pairs = frozenset(lookback.pairs)
                self._learnt(name, lambda model: model.with_lookback(lookback.day, pairs))

    def _poll_ended(self, now: Instant, exchange: Exchange, model: Model, result: str) -> None:
        name, settings = exchange.customer, model.settings
        poll = self._polls[name]
        if result == "success":
            asked = next(a for a in poll.left if exchange.target == _target(settings, poll.day, poll.day, *a))
            poll.left.remove(asked)
            if not _take(poll, _counting(settings, asked[0], exchange.reply), asked[0]):
                result = "invalid_response"
            elif poll.left:
                return
        del self._polls[name]
        hold = _hold(exchange.reply, poll.began, now) if exchange.outcome == "answered" else None
        whole = Whole(poll.day, now, poll.usable, frozenset(poll.rejected_pairs - poll.usable.keys()))

        def after(model: Model) -> Model:
            counted = self._after(model, poll.day, result, began=poll.began, ended=now, hold=hold)
            return counted.answered(whole, poll.rows, poll.rejected) if result == "success" else counted

        if result == "success":
            since = self._no_lookback_since.get(name, (None, 0.0))
            if settings.lookback_days and model.looked_back != poll.day != since[0] and name not in self._lookbacks:
                self._no_lookback_since[name] = poll.day, now.seconds
        self._polled(name, after, result)

    def _after(
        self,
        model: Model,
        day: date | None,
        result: str,
        *,
        began: Instant,
        ended: Instant,
        hold: tuple[datetime, datetime] | None = None,
    ) -> Model:
        """Return what is so after a poll that asked about a day, that of its end where none is given, was counted."""
        if result in {"unauthorized", "forbidden"}:
            self._keys.pop(model.settings.name, None)
        after = model.counted(result, ended.seconds - began.seconds)
        return replace(after, rule=model.after_poll(ended, day or on_the_wall(model.settings.zone, ended.wall), hold))

    # What happens without a request.

    def _unseen(self, name: str, around: Around) -> str:
        """Return what a poll comes to that no API sees; empty where it would be seen."""
        if name not in self._keys and around.key is None:
            return "unauthorized"
        return "" if around.listening else "unreachable"

    def _end_unseen(self, now: Instant, around: Callable[[str], Around]) -> None:
        """End what has no request under way: its next one was never made, as its key or its API was gone."""
        at_work = {(exchange.customer, kind) for exchange, kind in self._of.items()}
        for name in [name for name in self._lookbacks if (name, "lookback") not in at_work]:
            del self._lookbacks[name]
        for name in [name for name in self._polls if (name, "poll") not in at_work]:
            poll, result = self._polls.pop(name), self._unseen(name, around(name))
            if not result:
                raise WrongError(f"{name}: a poll asks no further, though there is more to ask: {poll.left}")
            unseen = partial(self._after, day=poll.day, result=result, began=poll.began, ended=now)
            self._polled(name, unseen, result)

    def _find_unseen(self, now: Instant, around: Callable[[str], Around]) -> None:
        """Count polls that were due and could not be seen."""
        for name, model in list(self.models.items()):
            if model.due is None or model.due > now.wall or name in self._polls or name in self._begun:
                continue
            result = self._unseen(name, around(name))
            if not result:
                raise WrongError(f"{name} is not polled at {now.wall}, though it said it would be at {model.due}")
            if around(name).key is not None:
                self._keys.setdefault(name, around(name).key or "")
            self._polled(name, partial(self._after, day=None, result=result, began=now, ended=now), result)

    def _find_missing_lookbacks(self, now: Instant) -> None:
        for name, (day, since) in list(self._no_lookback_since.items()):
            model = self.models.get(name)
            if model is None or on_the_wall(model.settings.zone, now.wall) != day or model.last != "success":
                del self._no_lookback_since[name]
            elif now.seconds > since + _LOOKBACK_WITHIN_S:
                raise WrongError(f"{name}: nobody has looked back on {day}, for {_LOOKBACK_WITHIN_S} s of good polls")

    def _abandon(self, name: str) -> None:
        self._polls.pop(name, None)
        self._lookbacks.pop(name, None)
        self._unsure.pop(name, None)
        self._no_lookback_since.pop(name, None)
        self._named.pop(name, None)
        for exchange in [e for e in self._of if e.customer == name]:
            del self._of[exchange]
            self._abandoned.add(exchange)

    def under_way(self) -> int:
        """Return how many requests are held of customers that still want them."""
        return len(self._of)

    def is_polled(self, name: str) -> bool:
        """Tell whether a poll of a customer is under way."""
        return name in self._polls

    # Polls and lookbacks run beside one another: of those that end at the same instant, what the API saw end first need
    # not be what is known first.

    def _polled(self, name: str, change: Callable[[Model], Model], result: str) -> None:
        """Take in a poll, as it changes what is so with any of the lookbacks of this instant, or none."""
        self.results[result] += 1
        grid = self._beside(name)
        grid.append([change(model) for model in grid[-1]])
        self._say(name, grid[-1])

    def _learnt(self, name: str, change: Callable[[Model], Model]) -> None:
        """Take in a lookback or names, as they change what is so with any of the polls of this instant, or none."""
        grid = self._beside(name)
        for models in grid:
            models.append(change(models[-1]))
        self._say(name, [models[-1] for models in grid])

    def _beside(self, name: str) -> list[list[Model]]:
        """Return what may be so of a customer: a row for each poll since the last look, a column for each lookback."""
        return self._grids.setdefault(name, [[self.models[name]]])

    def _say(self, name: str, models: list[Model]) -> None:
        self._trail.setdefault(name, [self.models.get(name)]).extend(models)
        self.models[name] = models[-1]

    def _change(self, name: str, model: Model | None) -> None:
        self._grids.pop(name, None)
        self._trail.setdefault(name, [self.models.get(name)]).append(model)
        if model is None:
            del self.models[name]
        else:
            self.models[name] = model

    def _set_config(self, good: bool, loaded: datetime) -> None:
        self._config = good, loaded
        self._configs.append(self._config)

    @property
    def changed(self) -> list[str]:
        """Those of whom something else is so than at the last look."""
        return [*{**self._trail, **self._unsure}]

    def edges(self, now: Instant) -> Iterable[tuple[datetime, str]]:
        """Yield the instants at which values are to go, of each customer the next one."""
        for name, model in self.models.items():
            if model.shown(now) and model.stale:
                seconds_left = min(model.stale.seconds - now.seconds, (model.stale.wall - now.wall).total_seconds())
                stale = now.wall + timedelta(seconds=seconds_left)
                yield min(stale, end(model.settings.zone, now.wall)), name

    # What a scrape may show.

    def check(self, scrape: Scrape, page: Page, now: Instant, see: See) -> None:
        """Hold a page against what is so. Raises WrongError."""
        wanted = set(scrape.customers) or {*self.models, *self._trail}
        for name in sorted(wanted | page.customers.keys()):
            if name not in wanted:
                raise WrongError(f"nobody has asked for {name!r}")
            self._check_customer(name, page.customers.get(name, {}), now, see)
        if scrape.customers and page.exporter:
            raise WrongError(f"nobody has asked for {sorted(page.exporter)[:3]}")
        if not scrape.customers:
            self._check_exporter(page.exporter, see)
        for family, kind in page.types.items():
            if not family.startswith(_OF_THE_PROCESS) and _TYPES.get(family) != kind:
                raise WrongError(f"{family} is of type {kind}, expected {_TYPES.get(family)}")

    def _check_customer(self, name: str, samples: Samples, now: Instant, see: See) -> None:
        last = [self.models.get(name)]
        trail = last if see is See.NOW else self._trail.get(name, last)
        since = self._reloaded.get(name, 0 if see is See.RELOADED else len(trail))
        # What a reload has changed is told at once, when the next poll is due within a second.
        allowed = [(model, number < since or see is See.NOW) for number, model in enumerate(trail)]
        if see is See.RELOADED:
            allowed = allowed[since:]
        if name in self._unsure:
            allowed.append((self._unsure[name], True))
        for model, with_due in reversed(allowed):
            if not _differences(model, samples, now, with_due):
                if see is See.NOW and model:
                    self._learn(name, model, samples)
                return
        differences = "\n".join(_differences(allowed[-1][0], samples, now, allowed[-1][1])[:_MOST_LINES])
        raise WrongError(f"{name} (allowed: {see.value}; of {len(allowed)} states, the last):\n{differences}")

    def _learn(self, name: str, model: Model, samples: Samples) -> None:
        """Take down when the next poll is due, and which of two it was."""
        if self._unsure.pop(name, None) is model:
            self.results[model.last or ""] += 1
        if model.rule:
            due = _moment(samples[one_key(NEXT, frozenset({("customer", name)}))])
            model = model.told(due)
        self.models[name] = model

    def _check_exporter(self, samples: Samples, see: See) -> None:
        found = {key: value for key, value in samples.items() if not key[0].startswith(_OF_THE_PROCESS)}
        about = [key for key in found if key[0] == "vcc_exporter_build_info"]
        if len(about) != 1 or found.pop(about[0]) != 1 or not {name for name, _ in samples if name[:8] == "process_"}:
            raise WrongError(f"of the exporter itself there is {sorted(samples)}")
        none: frozenset[tuple[str, str]] = frozenset()
        for good, loaded in self._configs if see is See.RECENTLY else [self._config]:
            expected: Samples = {
                ("vcc_exporter_config_last_reload_successful", none): float(good),
                ("vcc_exporter_config_last_reload_success_timestamp_seconds", none): loaded.timestamp(),
            }
            if found == expected:
                return
        raise WrongError(f"of the exporter itself there is {found}, expected {expected}")


def _differences(model: Model | None, samples: Samples, now: Instant, with_due: bool) -> list[str]:
    """Tell in what a customer's samples are not what they should be: `-` is missing, `+` too much."""
    if model is None:
        return [f"+ {_line(key, value)}" for key, value in sorted(samples.items(), key=str)]
    expected, words = model.samples(now), []
    key = one_key(NEXT, frozenset({("customer", model.settings.name)}))
    due = samples.get(key)
    if due is not None:
        expected[key] = due
    if with_due:
        if due is None:
            words.append(f"- {NEXT}")
        elif wrong := model.fits(_moment(due)):
            words.append(f"+ {NEXT} {_moment(due)}: {wrong}")
    if samples == expected:
        return words
    missing = [f"- {_line(*item)}" for item in expected.items() if samples.get(item[0]) != item[1]]
    extra = [f"+ {_line(*item)}" for item in samples.items() if expected.get(item[0]) != item[1]]
    return [*words, *sorted(missing + extra, key=lambda line: (line[2:], line))]


def _line(key: Key, value: float) -> str:
    name, labels = key
    return f"{name}{{{', '.join(f'{label}={text!r}' for label, text in sorted(labels))}}} {value!r}"


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# What the contract says of requests and rows.


def _months(settings: Settings, today: date) -> Iterable[tuple[date, date]]:
    """Yield the days before today that the lookback is about, a calendar month at a time."""
    days = [today - number * _DAY for number in range(settings.lookback_days, 0, -1)]
    for month in dict.fromkeys((day.year, day.month) for day in days):
        part = [day for day in days if (day.year, day.month) == month]
        yield part[0], part[-1]


def _target(settings: Settings, first: date, last: date, projects: frozenset[int], sla: int) -> str:
    """Return path and query of a request, in the vendor page's order."""
    teams = f"&teams={','.join(map(str, sorted(settings.teams)))}" if settings.teams else ""
    named = f"&projects={','.join(map(str, sorted(projects)))}" if projects else ""
    days = f"from={first:%Y%m%d}&to={last:%Y%m%d}"
    return f"/v2/statistics/inbound?{days}&dimensions=project,queue,date{teams}{named}&manual_sla={sla}"


def _counting(settings: Settings, projects: frozenset[int], reply: Reply) -> list[Row]:
    """Return the rows that count: a request without names has the listed projects' as well, which are left out."""
    left_out = frozenset[int]() if projects else {p.id for p in settings.projects}
    return [row for row in reply.rows if row.project not in left_out]


def _was_asked(row: Row, projects: frozenset[int]) -> bool:
    return not projects or row.project in projects


def _take(poll: _Poll, rows: list[Row], projects: frozenset[int]) -> bool:
    """Take one answer's rows in. Tells whether it is one: a row can be used, or none came."""
    good = 0
    for row in rows:
        poll.rows += 1
        if row.pair and row.values and _was_asked(row, projects) and row.pair not in poll.usable:
            poll.usable[row.pair] = row.values
            good += 1
        else:
            poll.rejected += 1
            poll.rejected_pairs |= {row.pair} if row.pair else set()
    return good > 0 or not rows


def _hold(reply: Reply, began: Instant, ended: Instant) -> tuple[datetime, datetime] | None:
    """Return until when the API wants to be left alone, by its earliest and its latest reading; at most an hour."""
    if reply.retry is None:
        return None
    if isinstance(reply.retry, timedelta):
        until = ended.wall + min(reply.retry, _LONGEST_HOLD)
        return until, until
    latest = ended.wall + _LONGEST_HOLD
    readings = sorted(min(until, latest) for until in (reply.retry, ended.wall + (reply.retry - began.wall)))
    return readings[0], readings[1]
