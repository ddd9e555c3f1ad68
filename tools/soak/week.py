"""What happens in a simulated week, and when.

The clock is set from instant to instant, and every scrape is held against the oracle.
"""

import gc
import heapq
import itertools
import logging
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final

import psutil

from tools.soak import fleet
from tools.soak.accounts import CALM, Account, draw_weather
from tools.soak.api import Api, Exchange, HungError
from tools.soak.dice import Dice
from tools.soak.fleet import Settings
from tools.soak.model import Instant
from tools.soak.oracle import Around, Oracle, See, WrongError
from tools.soak.page import Reader, Scrape, Scraper, WrongPageError
from tools.soak.rig import Faults, Rig, SetClock, scheduling_by

CHANGES: Final = (
    date(2026, 10, 25),  # Budapest has 25 hours, Beirut and the Azores their midnight twice
    date(2026, 3, 29),  # Budapest has 23 hours, Beirut no midnight
    date(2026, 4, 24),  # Cairo has no midnight
    date(2026, 9, 6),  # Santiago neither
    date(2026, 11, 1),  # New York has 25 hours, Havana its midnight twice; a month begins
)
"""Days on which clocks are changed: one in the middle of each week, by the seed."""
_SECRET: Final = "s0ak-key-"  # noqa: S105 - what a key begins with, to find it again
_JUST_BEFORE: Final = timedelta(milliseconds=1)
_TICK: Final = timedelta(microseconds=1)
_QUARTER: Final = timedelta(minutes=15)
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_DAY_S: Final = 86_400
_AT_A_QUARTER: Final = 12
"""How many are looked at when a quarter of an hour begins; when an hour begins, all."""
_RELOADS_BESIDE: Final = 0.03
"""The part of the instants with a request under way that have a reload, too."""
_LATEST: Final = timedelta(seconds=45)
"""How much later than due the machine may get to a poll."""
_FURTHEST_OFF: Final = timedelta(days=1, hours=6)
"""How far the wall clock may come to be from the true time."""
_JUMPS: Final = tuple(
    timedelta(seconds=sign * size) for sign in (-1, 1) for size in (2, 40, 600, 3600, 6 * 3600, 23 * 3600, 86_400)
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of what."""

    seed: int = 1
    customers: int = 100
    days: float = 7
    quickest_s: int = 60
    """No customer is polled more often."""
    turmoil: int = 1
    """How many times as fast everything changes: weather, config, keys, clock."""
    whole_share: float = 0.02
    """The part of the scrapes that is parsed without remembering any line."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the process has at an instant."""

    memory: int
    """Bytes."""
    descriptors: int
    threads: int
    remembered: int
    """Series that the oracle's reader has read before: what of the memory grows is theirs."""


@dataclass
class Outcome:
    """What came of it."""

    start: datetime
    scrapes: Counter[str] = field(default_factory=Counter)
    """Checked, by what they may have seen."""
    samples: int = 0
    polls: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    vitals: dict[int, Vitals] = field(default_factory=dict)
    """By the percent of the time that was over."""
    lines: int = 0
    """Of the log."""
    wrong: str = ""
    """The first wrong scrape, in words."""


def soak(plan: Plan, tell: Callable[[str], None] = lambda _: None) -> Outcome:
    """Let a week pass. `tell` is told now and then how far it is."""
    with tempfile.TemporaryDirectory(prefix="vcc-soak-") as folder, ExitStack() as stack:
        week = _Week(plan, Path(folder), stack)
        try:
            week.run(tell)
        except (WrongError, WrongPageError, HungError) as error:
            now = week.clock.instant()
            week.outcome.wrong = f"seed {plan.seed}, at {now.wall} after {now.seconds:.6f} s: {error}"
        week.finish()
        return week.outcome


class _Week:
    """One run."""

    def __init__(self, plan: Plan, folder: Path, stack: ExitStack) -> None:
        self._plan = plan
        self._folder = folder
        self._dice = Dice(plan.seed)
        middle = CHANGES[plan.seed % len(CHANGES)]
        start = datetime(middle.year, middle.month, middle.day, 2, tzinfo=UTC) - timedelta(days=plan.days / 2)
        self.outcome = Outcome(start)
        self.clock = SetClock(start + timedelta(seconds=self._dice.uniform(0, 3600)))
        stack.enter_context(scheduling_by(self.clock))
        changed = threading.Condition()
        self._api = stack.enter_context(Api(lambda: (self.clock.now(), self.clock.monotonic()), changed))
        self._keys: dict[str, str | None] = {}
        """What each customer's key file holds."""
        self._serial = itertools.count()
        self._customers = {s.name: s for s in map(self._draw, range(plan.customers))}
        """As the config has them."""
        self._removed: dict[str, Settings] = {}
        self._oracle = Oracle()
        self._log = stack.enter_context(_log_kept(_SECRET))
        self._rig = Rig(folder / "config.yaml", self.clock, changed, lambda: len(self._api.held))
        stack.callback(self._rig.stop)
        port = stack.enter_context(self._rig.serving())
        self._scraper, self._other = (Scraper(port, Dice(plan.seed, n)) for n in range(2))
        stack.callback(self._scraper.close)
        stack.callback(self._other.close)
        self._reader = Reader(Dice(plan.seed, "reader"), plan.whole_share)
        self._taken: list[tuple[Scrape, Instant, See]] = []
        """Scrapes that are to be checked once it is known what had happened."""
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._was_ready = False
        self._off = timedelta()
        """How far the wall clock is from the true time."""

    def _draw(self, number: int) -> Settings:
        settings = fleet.draw(self._dice, number, "", self._folder, self._plan.quickest_s)
        account = Account(
            name=settings.name,
            user=settings.subdomain,
            key=self._new_key(),
            zone=settings.zone,
            seed=self._plan.seed,
            counts=self.outcome.faults,
        )
        settings = replace(settings, url=self._api.add(account))
        self._put_key(settings, account.key)
        return settings

    # The run.

    def run(self, tell: Callable[[str], None]) -> None:
        """Let the time pass. Raises WrongError or WrongPageError."""
        self._rig.write(self._customers.values())
        self._rig.begin()
        self._oracle.reloaded(self.clock.instant(), self._customers.values())
        self._rig.renew_process()
        self._rest()
        self._plan_ahead()
        whole_s = self._plan.days * _DAY_S
        percents = iter([(10, 0.1), (50, 0.5), (100, 1.0), (0, 9.9)])
        percent, part = next(percents)
        while self.clock.monotonic() < whole_s:
            self._step()
            if self.clock.monotonic() >= part * whole_s:
                self.outcome.vitals[percent] = self._vitals()
                tell(f"{percent} %: {self.clock.now():%d %b %H:%M}, {sum(self.outcome.scrapes.values())} scrapes")
                percent, part = next(percents)

    def _vitals(self) -> Vitals:
        process = psutil.Process()
        gc.collect()
        memory, remembered = process.memory_info().rss, self._reader.remembered
        return Vitals(memory, process.num_fds(), process.num_threads(), remembered)

    def finish(self) -> None:
        """Put down what came of it."""
        self.outcome.polls = self._oracle.results
        self.outcome.lines = self._log.lines

    def _plan_ahead(self) -> None:
        for name in self._customers:
            self._later(self._dice.uniform(0, 6 * 3600) / self._plan.turmoil, partial(self._change_weather, name))
        self._again(900, self._look_at_some)
        self._again(600, self._rig.renew_process)
        for often_s, act in (
            (3 * 3600, self._reload),
            (20 * 3600, self._set_clock),
            (_DAY_S * 5 / self._plan.customers, self._rotate_key),
        ):
            self._again(often_s / self._plan.turmoil, act)

    def _later(self, in_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.clock.monotonic() + in_s, next(self._serial), act))

    def _again(self, often_s: float, act: Callable[[], None]) -> None:
        def turn() -> None:
            act()
            self._again(often_s, act)

        self._later(self._dice.expovariate(1 / often_s), turn)

    # One step.

    def _step(self) -> None:
        """Set the clock to the next instant, and let happen what is due then."""
        by, look_at = self._way()
        self.clock.advance(by)
        if look_at is not None:
            self._take(look_at, See.RECENTLY)
        self._answer_held()
        self._rest(look_at)
        polled = sorted(filter(self._oracle.is_polled, self._customers))
        if polled and self._dice.happens(_RELOADS_BESIDE * self._plan.turmoil):
            self._reload(polled)
            self._rest()
        while self._agenda and self._agenda[0][0] <= self.clock.monotonic():
            heapq.heappop(self._agenda)[2]()
            self._rest()

    def _way(self) -> tuple[timedelta, list[str] | None]:
        """Return how long it is to the next instant, and whom to look at then: nobody, some, or all."""
        now = self.clock.instant()
        due = self._rig.timetable.next()
        late = self._dice.random() * _LATEST if self._dice.happens(0.7) else timedelta()
        way = max(due - now.wall + late, _TICK) if due else timedelta(hours=1)
        for exchange in self._api.held:
            left_s = min(exchange.reply.wait_s or 0, self._timeout_s(exchange)) + exchange.at_s - now.seconds
            way = min(way, max(timedelta(seconds=left_s), _TICK))
        if self._agenda:
            way = min(way, max(timedelta(seconds=self._agenda[0][0] - now.seconds), _TICK))
        quarter = now.wall + _QUARTER - (now.wall - _EPOCH) % _QUARTER
        # Hours begin and end at quarters, somewhere.
        until, whom = quarter - now.wall, [] if quarter.minute == 0 else self._some(_AT_A_QUARTER)
        for edge, name in self._oracle.edges(now):
            left = edge - now.wall
            left = left - _JUST_BEFORE if left > _JUST_BEFORE else left
            if left < until or (left == until and whom):
                until, whom = left, [*whom, name] if left == until else [name]
        return (way, None) if way < until else (max(until, _TICK), whom)

    def _some(self, most: int) -> list[str]:
        return self._dice.sample(sorted(self._customers), min(most, len(self._customers)))

    def _timeout_s(self, exchange: Exchange) -> float:
        # One whose customer is gone is about to be given up.
        model = self._oracle.models.get(exchange.customer)
        return model.settings.timeout_s if model else 0

    def _answer_held(self) -> None:
        """Answer those whose time has come, and let those be given up whose time is over."""
        seconds, doomed = self.clock.monotonic(), []
        for exchange in list(self._api.held):
            timeout_s, wait_s = self._timeout_s(exchange), exchange.reply.wait_s or 0
            if seconds >= exchange.at_s + timeout_s - 1e-6:
                doomed.append(exchange)
            elif seconds >= exchange.at_s + wait_s - 1e-6:
                self._api.release(exchange)
        if doomed:
            self._rig.look_at_the_clock()
            self._api.wait_for_drops(doomed)

    def _rest(self, look_at: list[str] | None = None) -> None:
        """Let everything come to rest, then look: at whom it concerns, or at whom one wants to."""
        self._rig.look_at_the_clock()
        in_between = self._in_between() if self._dice.happens(0.1) else None
        if not self._rig.timetable.settle():
            raise WrongError("polls that are due hang")
        if in_between:
            in_between.join()
        now = self.clock.instant()
        self._oracle.settle(now, self._api.events(), self._around)
        if self._log.found:
            raise WrongError(self._log.found[0])
        if self._oracle.changed and self._dice.happens(0.2):
            self._take(self._oracle.changed, See.RECENTLY)
        self._check_taken()
        self._rig.store.page()  # as the thread that makes the page does before long
        changed = self._oracle.changed
        if changed or look_at is not None:
            many = look_at == [] or len(changed) > max(10, len(self._customers) // 4)
            self._take([] if many else [*changed, *(look_at or [])], See.NOW)
            self._check_taken()
        self._check_ready()
        self._oracle.looked()

    def _in_between(self) -> threading.Thread:
        """Scrape while polls go on."""
        now, names = self.clock.instant(), self._some(3)

        def scrape() -> None:
            for _ in range(2):
                self._taken.append((self._other.scrape(names), now, See.RECENTLY))

        thread = threading.Thread(target=scrape, name="scraper")
        thread.start()
        return thread

    def _take(self, customers: Iterable[str], see: See) -> None:
        """Scrape, and leave the judgement for later."""
        self._taken.append((self._scraper.scrape(dict.fromkeys(customers)), self.clock.instant(), see))

    def _check_taken(self) -> None:
        taken, self._taken = self._taken, []
        for scrape, now, see in taken:
            if _SECRET in scrape.text:
                raise WrongError("a key stands on the page")
            page = self._reader.read(scrape)
            self._oracle.check(scrape, page, now, see)
            self.outcome.scrapes[see.name] += 1
            self.outcome.samples += len(page.exporter) + sum(map(len, page.customers.values()))

    def _check_ready(self) -> None:
        if self._was_ready:
            return
        status, _, _ = self._scraper.ask("GET", "/-/ready", {})
        all_polled = all(model.last for model in self._oracle.models.values())
        if (status == HTTPStatus.OK) != all_polled:
            raise WrongError(f"/-/ready answers {status}, though all polled is {all_polled}")
        self._was_ready = all_polled

    def _around(self, name: str) -> Around:
        return Around(self._keys[name], self._api.sites[name].server is not None)

    # What comes over the customers.

    def _look_at_some(self) -> None:
        """Look at a few, one of them unknown."""
        self._take([*self._some(4), *self._removed, "nobody"], See.NOW)

    def _change_weather(self, name: str) -> None:
        account = self._api.sites[name].account
        if self._api.busy(name):  # what is under way shall end as it began
            self._later(self._dice.uniform(1, 60), partial(self._change_weather, name))
            return
        account.weather, lasts_s = draw_weather(account.dice_of_weather, account.weather)
        if account.weather is not CALM:
            self.outcome.faults[f"weather: {account.weather.name}"] += 1
        if account.weather.refused:
            self._api.close(name)
        else:
            self._api.open(name)
        self._later(lasts_s / self._plan.turmoil, partial(self._change_weather, name))

    def _new_key(self) -> str:
        return f"{_SECRET}{self._dice.randrange(16**12):x}"

    def _put_key(self, settings: Settings, key: str | None) -> None:
        self._keys[settings.name] = key
        if key is None:
            settings.key_file.unlink(missing_ok=True)
        else:
            settings.key_file.write_text(key + "\n")

    def _rotate_key(self) -> None:
        """Change a customer's key; its file follows soon, or later, and may be away for a while."""
        settings = self._dice.choice([*self._customers.values()])
        self.outcome.faults["key rotated"] += 1
        account = self._api.sites[settings.name].account
        account.key = self._new_key()
        if self._dice.happens(0.4):
            self.outcome.faults["key file away"] += 1
            self._put_key(settings, None)
        self._later(self._dice.choice((0, 300, 7200)), lambda: self._put_key(settings, account.key))

    # Reloads.

    def _reload(self, polled: list[str] | None = None) -> None:
        """Change the config, or spoil it, and reload it while polls and scrapes are under way."""
        before, removed = dict(self._customers), dict(self._removed)
        self.outcome.faults[f"reload: {self._edit(polled or [])}"] += 1
        self._rig.write(self._customers.values())
        broken = self._dice.happens(0.15)
        if broken:
            self._rig.spoil()
            self._customers, self._removed = before, removed
            self.outcome.faults["reload of a broken config"] += 1
        beside = self._in_between() if self._dice.happens(0.5) else None
        held = list(self._api.held)
        status, _, words = self._scraper.ask("POST", "/-/reload", {})
        now = self.clock.instant()
        self._take([], See.RECENTLY if broken else See.RELOADED)
        if beside:
            beside.join()
        if status != (HTTPStatus.INTERNAL_SERVER_ERROR if broken else HTTPStatus.OK):
            raise WrongError(f"the reload is answered {status}: {words.decode()}")
        if broken:
            self._oracle.refused_to_load()
            return
        self._oracle.reloaded(now, self._customers.values())
        same = {n for n, s in self._customers.items() if n in before and s.means() == before[n].means()}
        self._api.wait_for_drops([exchange for exchange in held if exchange.customer not in same])

    def _edit(self, polled: list[str]) -> str:
        """Change one thing of the config, of some customers or of one that is polled just now. Returns what."""
        dice = self._dice
        names = self._some(dice.choice((1, 1, 3)))
        kind = dice.choice(("nothing", "names", "rhythm", "question", "question", "removal", "return", "return"))
        if polled:
            names, kind = [dice.choice(polled)], dice.choice(("names", "rhythm", "question", "removal"))
        for name in names:
            settings = self._customers[name]
            if kind == "names":
                self._customers[name] = fleet.other_words(dice, settings)
            elif kind == "rhythm":
                self._customers[name] = fleet.another_rhythm(dice, settings, self._plan.quickest_s)
            elif kind == "question":
                self._customers[name] = fleet.other_words(dice, fleet.another_question(dice, settings))
            elif kind == "removal" and len(self._customers) > 1:
                self._removed[name] = self._customers.pop(name)
        if kind == "return":
            self._customers |= self._removed
            self._removed.clear()
        return kind

    # The clock.

    def _set_clock(self) -> None:
        """Set the wall clock, at times right back; the exporter notices within a second."""
        fitting = [jump for jump in _JUMPS if abs(self._off + jump) <= _FURTHEST_OFF]
        jump = -self._off if self._off and self._dice.happens(0.6) else self._dice.choice(fitting)
        self.outcome.faults[f"clock set {'forward' if jump > timedelta() else 'back'}"] += 1
        self._off += jump
        self._oracle.clock_jumps()
        self.clock.jump(jump)
        self._take([], See.RECENTLY)
        if self._dice.happens(0.5):  # what is late may run before the exporter notices
            self._rest()
            self.clock.advance(timedelta(seconds=self._dice.random()))
            self._take([], See.RECENTLY)
            self._answer_held()
        self._oracle.clock_was_set(self.clock.instant(), self._around)
        self._rig.clock_jumped()


@contextmanager
def _log_kept(secret: str) -> Iterator[Faults]:
    """Keep the exporter's log from the terminal, and look through it."""
    faults = Faults(secret)
    logs = {name: logging.getLogger(name) for name in ("vcc_exporter", "apscheduler", "urllib3")}
    before = {name: (log.level, log.propagate) for name, log in logs.items()}
    for name, log in logs.items():
        # What libraries other than the scheduler say does not come into the exporter's log.
        log.addHandler(logging.NullHandler() if name == "urllib3" else faults)
        log.setLevel(logging.INFO if name == "vcc_exporter" else logging.WARNING)
        log.propagate = False
    try:
        yield faults
    finally:
        for name, log in logs.items():
            log.handlers.clear()
            log.level, log.propagate = before[name]
