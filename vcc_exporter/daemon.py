"""The daemon: makes the parts, connects them, and takes them down again."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import uvloop
from aiohttp.web import AppRunner

from vcc_exporter import __version__, process
from vcc_exporter.client import readable_by_all
from vcc_exporter.config import Config, Customer
from vcc_exporter.exposition import Exporter, render_process
from vcc_exporter.guard import Guard, Pair, Rules, read_pair
from vcc_exporter.network import Network
from vcc_exporter.poll import Poller
from vcc_exporter.renewal import Renewal
from vcc_exporter.schedule import Timetable
from vcc_exporter.server import Address, Terms, listen, serve
from vcc_exporter.shards import shard_of
from vcc_exporter.store import Store
from vcc_exporter.times import Clock
from vcc_exporter.web import application, open_paths

log = logging.getLogger(__name__)

_PROCESS_EVERY_S: Final = 10  # the contract allows process metrics an age of 15 s
_COLLECT_YOUNG_EVERY_S: Final = 1
_COLLECT_EVERY_S: Final = 3600
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
    web_config: Path | None = None
    """The web config; without one everybody may ask for everything, in the clear."""
    shard: int = 0
    """Which of the shards this is: of the config's customers, only its own are polled and served."""
    total_shards: int = 1
    notice: str = ""
    """What the page for people says above all else."""
    greet: Callable[[str], None] = lambda _page: None
    """Called with the address of the page for people as soon as it is served."""


def _page_url(scheme: str, host: str, port: int) -> str:
    """Return what to type into a browser on this machine."""
    return f"{scheme}://{'localhost' if host in {'0.0.0.0', '::'} else _spell(host, port).rpartition(':')[0]}:{port}/"  # noqa: S104 - compared


class StartError(Exception):
    """A daemon that cannot start; the message says why, for whoever started it."""


class BrokenError(Exception):
    """A daemon that cannot go on; the message says why, for whoever started it."""


def run(options: Options) -> None:
    """Run until SIGTERM or SIGINT. Raises StartError, and BrokenError where a part of it has ended by a fault."""
    process.set_up()
    # Its writes take a page's parts as they are, where the standard library's loop would copy them.
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        runner.get_loop()  # or there would be a coroutine that nothing runs, which Python tells on stderr
        runner.run(_Daemon(options, Clock()).run())
    except (OSError, MemoryError, RuntimeError) as error:
        # Descriptors, memory and threads, of which Python says the last by a RuntimeError.
        log.critical("unexpected fault", exc_info=True)
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise BrokenError(f"the system does not give what it takes to run: {why or 'no memory'}") from None
    finally:
        with contextlib.suppress(RuntimeError):  # as where there is no thread for it: the process ends all the same
            runner.close()


class _Daemon:
    """The parts of one running daemon."""

    def __init__(self, options: Options, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._stop = asyncio.Event()
        self._hangup = asyncio.Event()
        self._broken = ""
        """What has ended by a fault, if anything."""
        self._unpublished = threading.Event()
        """Set when nobody is to be served any more."""
        self._one_reload = asyncio.Lock()
        self._counts = 0, 0
        """How many customers are the shard's, and how many the config has."""
        self._guard: Guard | None = None
        self._renewal: Renewal | None = None
        """Both None where there is no web config."""
        self._open_keys = frozenset[Path]()
        """Key files that were warned of."""
        self._store = Store(clock, __version__)
        self._process = process.registry()
        self._last_skew = self._skew()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
        threading.excepthook = partial(self._end_broken, loop)

        pair = await self._begin()
        sockets = self._listen()
        timetable = Timetable()
        self._poller = Poller(self._store, Network(self._clock), timetable)
        await asyncio.to_thread(self._apply, pair)
        await self._renew_process()
        threading.Thread(
            target=self._store.keep_publishing,
            args=(self._unpublished, process.give_memory_back),
            name="page",
            daemon=True,
        ).start()
        rules = pair.rules
        del pair  # with the customers of all other shards
        runner = await self._serve(sockets, rules)
        # Not before: with thousands of customers, first polls would hold up what they are entered by.
        await asyncio.to_thread(timetable.start)
        turns = (
            self._obey_hangup,
            self._watch_clock,
            self._keep_process_new,
            self._collect_young_garbage,
            self._collect_garbage,
            self._watch_web_config,
        )
        duties = [asyncio.create_task(_again_and_again(turn)) for turn in turns]
        try:
            scheme = "https" if rules and rules.web.context else "http"
            page = _page_url(scheme, *sockets[0].getsockname()[:2])
            log.info("started", extra={"version": __version__, **self._share(), "page": page})
            self._options.greet(page)
            await self._stop.wait()
            log.info("stopping")
        finally:  # always, since the threads of polls would keep the process alive
            for duty in duties:
                duty.cancel()
            self._unpublished.set()
            await asyncio.to_thread(self._poller.stop)
            await runner.cleanup()
        if self._broken:
            raise BrokenError(self._broken)

    def _end_broken(self, loop: asyncio.AbstractEventLoop, ended: threading.ExceptHookArgs) -> None:
        """End where a thread has ended by a fault: what goes on without its deadlines or its polls only looks alive."""
        part = ended.thread.name if ended.thread else "a thread"
        self._broken = f"a part of it ({part}) has ended by an unexpected fault: {ended.exc_type.__name__}"
        loop.call_soon_threadsafe(self._stop.set)
        if ended.exc_value:
            log.critical("unexpected fault", exc_info=ended.exc_value, extra={"part": part})

    async def _serve(self, sockets: list[socket.socket], rules: Rules | None) -> AppRunner:
        """Serve, guarded where there are rules."""
        reload = self._reload if self._options.lifecycle else None
        app = application(self._store, self._options.telemetry_path, reload, self._notice)
        path = self._options.web_config
        if rules is None or path is None:
            return await serve(app, sockets)
        self._guard = guard = Guard(rules, open_paths(self._options.telemetry_path))
        self._renewal = Renewal(guard, path, self._options.load, self._store.web_config_judged)
        app.middlewares.append(guard.admit)
        terms = Terms(lambda: guard.rules.web.context, lambda: guard.rules.web.headers, lambda: guard.rules)
        return await serve(app, sockets, terms)

    async def _begin(self) -> Pair:
        pair = await asyncio.to_thread(self._load)
        if pair.faults:
            raise StartError("\n".join(map(str, pair.faults)))
        return pair

    def _load(self) -> Pair:
        return read_pair(self._options.load, self._options.web_config)

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

    def _apply(self, pair: Pair) -> None:
        """Take over a config. Of its customers only the shard's are kept."""
        customers = pair.config.customers if pair.config else ()
        shard, shards = self._options.shard, self._options.total_shards
        own = [customer for customer in customers if shard_of(customer.name, shards) == shard]
        self._counts = len(own), len(customers)
        good = True if pair.reading else None
        self._store.configure(own, Exporter(__version__, self._clock.now(), web_config_is_good=good))
        self._poller.follow()
        self._warn_of_open_keys(own)

    def _warn_of_open_keys(self, own: list[Customer]) -> None:
        found = {customer.key.file: customer.name for customer in own if readable_by_all(customer.key)}
        files = frozenset(file for file in found if file)
        if files - self._open_keys:
            file = min(files - self._open_keys)
            log.warning(
                "every user of this machine can read key files",
                extra={"files": len(files), "customer": found[file], "file": file},
            )
        self._open_keys = files

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
            pair = await asyncio.to_thread(self._load)
            if self._renewal and pair.reading:
                self._renewal.note(pair.reading, taken=not pair.faults)
            if not pair.faults:
                # First who may see what: what comes with the config is not for those who are to see less from now on.
                if self._guard and pair.rules:
                    self._guard.follow(pair.rules)
                await asyncio.to_thread(self._apply, pair)
                log.info("config reloaded", extra=self._share())
                return ()
            await asyncio.to_thread(self._store.reload_failed, bool(pair.reading and pair.reading.faults))
        faults = tuple(map(str, pair.faults))
        for fault in faults:
            log.error("config not reloaded", extra={"problem": fault})
        return faults

    async def _watch_web_config(self) -> None:
        """Read the web config again when one of its files has changed. The config is left as it is."""
        await asyncio.sleep(_CLOCK_EVERY_S)
        if self._renewal is None:
            return
        is_due = await asyncio.to_thread(self._renewal.is_due)
        if is_due:
            async with self._one_reload:
                await self._renewal.renew()

    async def _watch_clock(self) -> None:
        """Notice when the wall clock jumps, which moves every due time."""
        await asyncio.sleep(_CLOCK_EVERY_S)
        jump, self._last_skew = self._skew() - self._last_skew, self._skew()
        if abs(jump) > _JUMP_S:
            log.warning("the clock jumped", extra={"seconds": round(jump, 3)})
            await asyncio.to_thread(self._poller.clock_jumped)

    def _skew(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()

    async def _collect_young_garbage(self) -> None:
        """Look through what came of late, before it is much.

        Python does so by itself once more objects have come than have gone. Polls put new ones in the places of old
        ones: with ten thousand customers nearly all that lives would be to look through by then, for up to 0.7 s in
        which no poll begins and no scrape is answered.
        """
        await asyncio.sleep(_COLLECT_YOUNG_EVERY_S)
        gc.collect(1)

    async def _collect_garbage(self) -> None:
        """Collect garbage of any age, which takes a second or two with ten thousand customers."""
        await asyncio.sleep(_COLLECT_EVERY_S)
        await asyncio.to_thread(gc.collect)

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
