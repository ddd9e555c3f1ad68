"""The exporter's parts as the daemon has them, with a clock that stands still until it is moved."""

import asyncio
import itertools
import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Final

import apscheduler.schedulers.base
import uvloop
from aiohttp import web

from tools.soak.api import PATIENCE_S
from tools.soak.fleet import Settings
from tools.soak.model import Instant
from vcc_exporter import process
from vcc_exporter.exposition import Exporter, render_process
from vcc_exporter.faults import ConfigError
from vcc_exporter.loading import load_config
from vcc_exporter.network import Network, Wire
from vcc_exporter.poll import Poller
from vcc_exporter.schedule import Pool, Timetable
from vcc_exporter.server import Address, listen, serve
from vcc_exporter.store import Store
from vcc_exporter.times import Clock
from vcc_exporter.web import application

_AT_ONCE: Final = -1e12


class SetClock(Clock):
    """A clock that one thread sets, while no other looks."""

    def __init__(self, wall: datetime) -> None:
        self._wall = wall
        self._passed = timedelta()

    def now(self) -> datetime:
        """Return the time that was set."""
        return self._wall

    def monotonic(self) -> float:
        """Return the seconds that were let pass."""
        return self._passed / timedelta(seconds=1)

    def instant(self) -> Instant:
        """Return both."""
        return Instant(self.now(), self.monotonic())

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        # In this order: nothing is due yet for whoever looks in between.
        self._passed += by
        self._wall += by

    def jump(self, by: timedelta) -> None:
        """Set the wall clock."""
        self._wall += by


class _LibraryTime:
    """What the scheduling library takes for the time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self, zone: tzinfo) -> datetime:
        """Return the clock's time."""
        return self._clock.now().astimezone(zone)


@contextmanager
def scheduling_by(clock: Clock) -> Iterator[None]:
    """Let the scheduling library go by a clock."""
    own = apscheduler.schedulers.base.datetime
    apscheduler.schedulers.base.datetime = _LibraryTime(clock)
    try:
        yield
    finally:
        apscheduler.schedulers.base.datetime = own


class WatchedTimetable(Timetable):
    """A timetable of which one can tell what is due next, and when all that was due has come to rest."""

    def __init__(self, clock: Clock, changed: threading.Condition, held: Callable[[], int]) -> None:
        """`held` tells how many jobs wait for an answer that only the clock's mover can give."""
        self._clock = clock
        self._changed = changed
        self._held = held
        self._serial = itertools.count()
        self._waiting: dict[int, datetime] = {}
        """When each run that has not begun is due."""
        self._latest: dict[str, int] = {}
        """Each name's last run."""
        self._running = 0
        super().__init__()
        self.start()

    def at(self, name: str, when: datetime, pool: Pool, job: Callable[[], None]) -> None:
        """Do as the base does, and take note of it."""
        with self._scheduling(), self._changed:
            self._forget(name)
            number = self._wait(name, when)
            super().at(name, when, pool, lambda: self._run(number, job))

    def again_at(
        self,
        name: str,
        when: datetime,
        pool: Pool,
        job: Callable[[], None],
        then: Callable[[datetime], datetime | None],
    ) -> None:
        """Do as the base does, and take note of it."""
        given = deque[int]()

        def noted(now: datetime) -> datetime | None:
            due = then(now)
            with self._changed:
                given.append(self._latest.pop(name))
                if due:
                    self._wait(name, due)
            return due

        with self._scheduling(), self._changed:
            rhythm = self._rhythms.get(name)
            if rhythm is None or rhythm.due != when:
                self._forget(name)
                self._wait(name, when)
            super().again_at(name, when, pool, lambda: self._run(given.popleft(), job), noted)

    def _wait(self, name: str, due: datetime) -> int:
        number = self._latest[name] = next(self._serial)
        self._waiting[number] = due
        return number

    def _run(self, number: int, job: Callable[[], None]) -> None:
        with self._changed:
            self._running += 1
            del self._waiting[number]
            self._changed.notify_all()
        try:
            job()
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def drop(self, name: str) -> None:
        """Do as the base does, and take note of it."""
        with self._scheduling(), self._changed:
            self._forget(name)
            super().drop(name)

    def _scheduling(self) -> Any:
        """Return the library's lock: what it holds is no job that has just been given to a thread."""
        return self._scheduler._jobstores_lock  # noqa: SLF001 - nothing public tells whether a job was taken

    def _forget(self, name: str) -> None:
        """Forget the run that another takes the place of; one that a thread has been given still begins."""
        latest = self._latest.pop(name, None)
        if latest is not None and self._scheduler.get_job(name):
            self._waiting.pop(latest, None)

    def next(self) -> datetime | None:
        """Return when something is due next."""
        with self._changed:
            return min(self._waiting.values(), default=None)

    def settle(self) -> bool:
        """Wait until what is due has begun, and whatever runs waits for an answer that is held."""

        def at_rest() -> bool:
            return self._running == self._held() and not any(due <= self._clock.now() for due in self._waiting.values())

        with self._changed:
            return self._changed.wait_for(at_rest, PATIENCE_S)


class Faults(logging.Handler):
    """Keeps what no log of the exporter may hold: faults of its own, and keys."""

    def __init__(self, secret: str) -> None:
        """Look for keys, which all begin with `secret`."""
        super().__init__(logging.DEBUG)
        self.lines = 0
        self.found: list[str] = []
        self._secret = secret

    def emit(self, record: logging.LogRecord) -> None:
        """Look at a line."""
        self.lines += 1
        said = f"{record.getMessage()} {vars(record)}"
        if record.levelno >= logging.ERROR and record.msg != "config not reloaded":
            self.found.append(f"the log has a fault: {said}")
        if self._secret in said:
            self.found.append(f"the log has a key: {record.getMessage()}")


def set_up_process() -> None:
    """Do as the daemon does as it starts, without which the memory of many threads is another."""
    process.set_up()


class Rig:
    """One running exporter."""

    def __init__(self, file: Path, clock: SetClock, changed: threading.Condition, held: Callable[[], int]) -> None:
        self.store = Store(clock, "0.0.0")
        self._file = file
        self._clock = clock
        self._network = Network(clock)
        self.timetable = WatchedTimetable(clock, changed, held)
        self._poller = Poller(self.store, self._network, self.timetable)
        self._registry = process.registry()

    def write(self, customers: Iterable[Settings]) -> None:
        """Write the config."""
        self._file.write_text(json.dumps({"customers": [settings.section() for settings in customers]}))

    def spoil(self) -> None:
        """Write a config that cannot be loaded."""
        self._file.write_text(self._file.read_text().replace('"timezone"', '"timzone"', 1))

    def begin(self) -> None:
        """Load the config for the first time."""
        self._load()

    def renew_process(self) -> None:
        """Do as the daemon does every few seconds."""
        self.store.set_process(render_process(self._registry))

    def clock_jumped(self) -> None:
        """Do as the daemon does a second after the clock was set."""
        self._poller.clock_jumped()

    def look_at_the_clock(self) -> None:
        """Let whoever waits for a time see which it is: the timetable, and the watch over deadlines."""
        # A deadline that is long over is the next of all, so that the watch wakes up for it.
        self._network.watch(Wire(self._network), _AT_ONCE)
        self.timetable.wake()

    def stop(self) -> None:
        """End all polls."""
        self._poller.stop()

    def _load(self) -> None:
        customers = load_config(self._file).customers
        self.store.configure(customers, Exporter("0.0.0", self._clock.now()))
        self._poller.follow()

    async def _reload(self) -> tuple[str, ...]:
        """Do as the daemon does."""
        try:
            await asyncio.to_thread(self._load)
        except ConfigError as error:
            await asyncio.to_thread(self.store.reload_failed)
            return tuple(map(str, error.faults))
        return ()

    @contextmanager
    def serving(self) -> Iterator[int]:
        """Serve the application as the daemon does, from a thread; yields the port."""
        loop = uvloop.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="web", daemon=True)
        thread.start()
        socket = listen(Address("127.0.0.1", 0))

        async def begin() -> web.AppRunner:
            return await serve(application(self.store, "/metrics", self._reload), [socket])

        runner = asyncio.run_coroutine_threadsafe(begin(), loop).result(PATIENCE_S)
        try:
            yield socket.getsockname()[1]
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(PATIENCE_S)
            asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result(PATIENCE_S)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(PATIENCE_S)
            loop.close()
