"""The daemon: makes the parts, connects them, and takes them down again."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import uvloop
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from vcc_exporter import __version__
from vcc_exporter.config import Config, Customer
from vcc_exporter.exposition import Exporter, render_process
from vcc_exporter.network import Network
from vcc_exporter.poll import Poller
from vcc_exporter.schedule import Timetable
from vcc_exporter.server import Address, listen, raise_descriptor_limit, serve
from vcc_exporter.shards import shard_of
from vcc_exporter.store import Store
from vcc_exporter.times import Clock
from vcc_exporter.web import application
from vcc_exporter.yaml_lines import ConfigError

log = logging.getLogger(__name__)

_PROCESS_EVERY_S: Final = 10  # the contract allows process metrics an age of 15 s
_M_ARENA_MAX: Final = -8  # in malloc.h
_SWITCH_S: Final = 0.0005
"""How long a thread may compute while others wait; Python's own 5 ms make a scrape wait for every poll's turn."""
_FREEZE_EVERY_S: Final = 30
_FREEZES_A_COLLECTION: Final = 120
"""One hour."""
_CLOCK_EVERY_S: Final = 1
_JUMP_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class Options:
    """How the daemon is to run."""

    load: Callable[[], Config]
    """Reads the config. Raises ConfigError."""
    addresses: tuple[Address, ...]
    telemetry_path: str
    lifecycle: bool
    """Whether a reload by HTTP is allowed."""
    shard: int = 0
    """Which of the shards this is: of the config's customers, only its own are polled and served."""
    total_shards: int = 1
    notice: str = ""
    """What the page for people says above all else."""
    greet: Callable[[str], None] = lambda _page: None
    """Called with the address of the page for people as soon as it is served."""


def _page_url(host: str, port: int) -> str:
    """Return what to type into a browser on this machine."""
    return f"http://{'localhost' if host in {'0.0.0.0', '::'} else _spell(host, port).rpartition(':')[0]}:{port}/"  # noqa: S104 - compared


class StartError(Exception):
    """A daemon that cannot start; the message says why, for whoever started it."""


def run(options: Options) -> None:
    """Run until SIGTERM or SIGINT. Raises StartError."""
    _fill_standard_streams()
    raise_descriptor_limit()
    _keep_memory_together()
    sys.setswitchinterval(_SWITCH_S)
    # Its writes take a page's parts as they are, where the standard library's loop would copy them.
    uvloop.run(_Daemon(options, Clock()).run())


def _fill_standard_streams() -> None:
    """Open those that whoever started this left closed: libuv ends the process where a socket takes their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def collect_garbage(*, whole: bool) -> None:
    """Collect what has died young, or of any age, and leave what lives out of the collections that Python makes.

    Those look through all that lives each time that a quarter has come to it: with ten thousand customers, every
    minute, and for a second or two in which no poll begins and no scrape is answered. Nearly all here is freed
    without them; cycles that die old wait for the next whole collection.
    """
    if whole:
        gc.unfreeze()
    gc.collect(2 if whole else 1)
    gc.freeze()


def _keep_memory_together() -> None:
    """Let all threads share one heap where the C library is glibc.

    It gives many threads heaps of their own, so that none waits for another's, which in Python wait for one another
    anyhow; what one poll's thread has freed, the next one's then cannot use.
    """
    # Where there is no such library, or it may not be called like this, memory is a little larger.
    with contextlib.suppress(ImportError, OSError, AttributeError, MemoryError):
        import ctypes  # noqa: PLC0415 - not every Python has it

        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


class _Daemon:
    """The parts of one running daemon."""

    def __init__(self, options: Options, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._stop = asyncio.Event()
        self._hangup = asyncio.Event()
        self._unpublished = threading.Event()
        """Set when nobody is to be served any more."""
        self._one_reload = asyncio.Lock()
        self._counts = 0, 0
        """How many customers are the shard's, and how many the config has."""
        self._store = Store(clock, __version__)
        self._process = _process_registry()
        self._last_skew = self._skew()
        self._freezes = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hangup.set)

        own = await self._begin()
        sockets = self._listen()
        timetable = Timetable()
        self._poller = Poller(self._store, Network(self._clock), timetable)
        await asyncio.to_thread(self._apply, own)
        await self._renew_process()
        threading.Thread(
            target=self._store.keep_publishing, args=(self._unpublished,), name="page", daemon=True
        ).start()
        reload = self._reload if self._options.lifecycle else None
        app = application(self._store, self._options.telemetry_path, reload, self._notice)
        runner = await serve(app, sockets)
        # Not before: with thousands of customers, first polls would hold up what they are entered by.
        await asyncio.to_thread(timetable.start)
        turns = (self._obey_hangup, self._watch_clock, self._keep_process_new, self._spare_collections)
        duties = [asyncio.create_task(_again_and_again(turn)) for turn in turns]
        page = _page_url(*sockets[0].getsockname()[:2])
        log.info("started", extra={"version": __version__, **self._share(), "page": page})
        self._options.greet(page)

        await self._stop.wait()
        log.info("stopping")
        for duty in duties:
            duty.cancel()
        self._unpublished.set()
        await asyncio.to_thread(self._poller.stop)
        await runner.cleanup()

    async def _begin(self) -> list[Customer]:
        try:
            return await asyncio.to_thread(self._load)
        except ConfigError as error:
            raise StartError(str(error)) from None

    def _load(self) -> list[Customer]:
        """Read the config and return the shard's customers; those of others are not kept. Raises ConfigError."""
        customers = self._options.load().customers
        shard, shards = self._options.shard, self._options.total_shards
        own = [customer for customer in customers if shard_of(customer.name, shards) == shard]
        self._counts = len(own), len(customers)
        return own

    def _listen(self) -> list[socket.socket]:
        sockets = []
        for address in self._options.addresses:
            try:
                sockets.append(listen(address))
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
                where = _spell(address.host, address.port)
                raise StartError(f"cannot listen on {where} (--web.listen-address): {reason}") from None
            log.info("listening", extra={"address": _spell(*sockets[-1].getsockname()[:2])})
        return sockets

    def _apply(self, own: list[Customer]) -> None:
        self._store.configure(own, Exporter(__version__, self._clock.now()))
        self._poller.follow()
        collect_garbage(whole=False)

    def _share(self) -> dict[str, int]:
        """Return what the log says of the customers that were taken over."""
        own, whole = self._counts
        if self._options.total_shards == 1:
            return {"customers": own}
        shard, shards = self._options.shard, self._options.total_shards
        return {"customers": own, "in_config": whole, "shard": shard, "total_shards": shards}

    def _notice(self) -> str:
        """Return what heads the page for people."""
        notice, shards = self._options.notice, self._options.total_shards
        if shards == 1:
            return notice
        own, whole = self._counts
        share = f"Shard {self._options.shard} of {shards}, counted from 0: {own} of {whole} customers."
        return f"{notice} {share}".strip()

    # What goes on while the daemon runs.

    async def _obey_hangup(self) -> None:
        await self._hangup.wait()
        self._hangup.clear()
        await self._reload()

    async def _reload(self) -> tuple[str, ...]:
        """Load the config again, one reload after the other. Returns what is wrong with it."""
        async with self._one_reload:
            try:
                own = await asyncio.to_thread(self._load)
            except ConfigError as error:
                faults = tuple(map(str, error.faults))
            else:
                await asyncio.to_thread(self._apply, own)
                log.info("config reloaded", extra=self._share())
                return ()
        await asyncio.to_thread(self._store.reload_failed)
        for fault in faults:
            log.error("config not reloaded", extra={"problem": fault})
        return faults

    async def _watch_clock(self) -> None:
        """Notice when the wall clock jumps, which moves every due time."""
        await asyncio.sleep(_CLOCK_EVERY_S)
        jump, self._last_skew = self._skew() - self._last_skew, self._skew()
        if abs(jump) > _JUMP_S:
            log.warning("the clock jumped", extra={"seconds": round(jump, 3)})
            await asyncio.to_thread(self._poller.clock_jumped)

    def _skew(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()

    async def _spare_collections(self) -> None:
        await asyncio.sleep(_FREEZE_EVERY_S)
        self._freezes += 1
        await asyncio.to_thread(collect_garbage, whole=self._freezes % _FREEZES_A_COLLECTION == 0)

    async def _keep_process_new(self) -> None:
        await asyncio.sleep(_PROCESS_EVERY_S)
        await self._renew_process()

    async def _renew_process(self) -> None:
        await asyncio.to_thread(lambda: self._store.set_process(render_process(self._process)))


async def _again_and_again(turn: Callable[[], Awaitable[None]]) -> None:
    """Do one thing for ever: a turn that fails is told, and the next is done all the same."""
    while True:
        try:
            await turn()
        except Exception:
            log.exception("unexpected fault")
            await asyncio.sleep(_CLOCK_EVERY_S)


def _spell(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _process_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry
