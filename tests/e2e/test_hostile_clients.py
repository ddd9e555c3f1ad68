"""Clients that mean no good, by the hundred: scrapes and polls go on, and all is as before when they have gone."""

import itertools
import re
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final

import psutil
import pytest
from conftest import StartDaemon
from running import Daemon, Samples, eventually, noon_zone, one

from vcc_exporter.process import raise_descriptor_limit
from vcc_exporter.simulator import Simulator

GET: Final = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Let this process have as many open files as it may."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_descriptor_limit()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def daemon(start_daemon: StartDaemon, simulator: Simulator) -> Daemon:
    """Run the exporter on thirty customers that are polled each second."""
    return begin(start_daemon, simulator)


def begin(start_daemon: StartDaemon, simulator: Simulator, under: tuple[str, ...] = ()) -> Daemon:
    """Start the exporter on thirty customers, and wait until all is as it stays."""
    account = f"subdomain: bank, url: '{simulator.url}', timezone: {noon_zone()}"
    key = simulator.centres["bank"].key
    lines = "".join(f"  - {{name: c{i}, {account}, api_key: {key}}}\n" for i in range(30))
    daemon = start_daemon(f"poll: {{interval: 1s, timeout: 10s, lookback: 0}}\ncustomers:\n{lines}", under=under)
    daemon.wait_for(lambda page: polls(page) > 30, "polls")
    return daemon


def polls(page: Samples) -> float:
    """Return how many polls succeeded."""
    return sum(v for (name, labels), v in page.items() if name == "vcc_polls_total" and ("result", "success") in labels)


@dataclass(frozen=True)
class Carried:
    """What a process carries."""

    memory: int
    threads: int
    descriptors: int


def carried(daemon: Daemon) -> Carried:
    """Return what the daemon carries now."""
    process = psutil.Process(daemon.process.pid)
    with process.oneshot():
        return Carried(process.memory_info().rss, process.num_threads(), process.num_fds())


@contextmanager
def nothing_is_left(daemon: Daemon, most_mib: int) -> Iterator[None]:
    """Check that memory and threads stay bounded while the block runs, and that all is as before soon after it."""
    before = carried(daemon)
    yield
    assert carried(daemon).memory < before.memory + most_mib * 2**20
    eventually(lambda: carried(daemon).descriptors <= before.descriptors + 10, "connections to be closed")
    after = carried(daemon)
    # Threads of a pool are made when needed and kept: here one for each of thirty customers at most.
    assert after.threads <= before.threads + 30
    assert after.memory < before.memory + most_mib * 2**20
    go_on(daemon)
    assert daemon.stop() == 0
    assert "unexpected fault" not in daemon.log
    assert "Traceback" not in daemon.log


def go_on(daemon: Daemon) -> None:
    """Check that fresh connections are answered with whole pages, and that polls go on with right numbers."""
    before = polls(daemon.page())
    page = daemon.wait_for(lambda page: page if polls(page) > before + 30 else None, "polls")
    assert all(one(page, "vcc_up", customer=f"c{i}") == 1 for i in range(30))


def connect(daemon: Daemon, stack: ExitStack, said: bytes = b"", buffer: int = 0) -> socket.socket:
    """Open a connection that the stack closes, and say something on it."""
    host, _, port = daemon.addresses[0].rpartition(":")
    client = stack.enter_context(socket.socket())
    if buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.settimeout(30)
    client.connect((host, int(port)))
    if said:
        with suppress(OSError):
            client.sendall(said)
    return client


def say(clients: list[socket.socket], word: Callable[[int], bytes], stop: threading.Event, every_s: float) -> None:
    """Say a word on all connections again and again, whatever comes of it."""
    for count in itertools.count():
        if stop.wait(every_s):
            return
        for client in clients:
            with suppress(OSError):
                client.send(word(count), socket.MSG_DONTWAIT)


def test_hundreds_that_drip_or_never_read(daemon: Daemon) -> None:
    """A byte a second, headers without end, requests without end whose answers nobody reads, halves of requests."""
    stop = threading.Event()
    with nothing_is_left(daemon, most_mib=64), ExitStack() as stack:
        dripping = [connect(daemon, stack, b"GET /metrics HTTP/1.1\r\nX: ") for _ in range(100)]
        endless = [connect(daemon, stack, b"GET / HTTP/1.1\r\n") for _ in range(50)]
        silent = [connect(daemon, stack, said) for said in (b"", GET[:9], b"\x16\x03\x01\x02") for _ in range(30)]
        deaf = [connect(daemon, stack, GET * 50, buffer=4096) for _ in range(100)]
        speakers = [
            threading.Thread(target=say, args=(dripping, lambda _: b".", stop, 1)),
            threading.Thread(target=say, args=(endless, lambda n: b"X-%d: %s\r\n" % (n, b"y" * 200), stop, 0.2)),
            threading.Thread(target=say, args=(deaf, lambda _: GET, stop, 0.2)),
        ]
        for speaker in speakers:
            speaker.start()
        try:
            go_on(daemon)
            assert len(silent) == 90
        finally:
            stop.set()
            for speaker in speakers:
                speaker.join()


METHODS: Final = (
    *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"),
    "BREW",
    "get",
    "G\x01T",
)
TARGETS: Final = (
    *("/", "/metrics", "/-/healthy", "/-/ready", "/-/reload", "/metrics/", "/nowhere", "*", "", "?", "#", "//metrics"),
    *(
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2f..%2fetc/passwd",
        "/metrics/../../etc/passwd",
    ),
    *(
        "/-/../../etc/passwd",
        "/..\\..\\etc\\passwd",
        "/static/../vcc_exporter/cli.py",
        "/%00",
        "/%ff",
        "/%",
        "/;/",
        "/\xe9",
    ),
    *(
        "http://127.0.0.1/metrics",
        "http://[::1",
        "file:///etc/passwd",
        "/?customer[]=%ff",
        "/metrics?customer[]=../../x",
    ),
)


def test_every_method_on_every_path_is_answered_and_shows_no_file(daemon: Daemon) -> None:
    """A known status, never a server's error, nothing of the disk, and nothing that ends the process."""
    with nothing_is_left(daemon, most_mib=64):
        for method, target in itertools.product(METHODS, TARGETS):
            with ExitStack() as stack:
                said = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                client = connect(daemon, stack, said.encode("latin-1"))
                answer = b""
                with suppress(ConnectionResetError):
                    answer = b"".join(iter(lambda c=client: c.recv(65536), b""))  # type: ignore[misc]
            status = re.match(rb"HTTP/\d\.\d (200|400|403|404|405|501|503) ", answer)
            assert status, (method, target, answer[:200])
            assert status[1] != b"503" or target == "/-/ready", (method, target)
            assert b"root:" not in answer
            assert b"import " not in answer


def test_floods_of_pipelined_rubbish(daemon: Daemon) -> None:
    """Good requests, bytes that are none and half-closed connections in one go, a thousand times."""
    rubbish = [
        GET * 20 + b"\x00\xff\xfe rubbish\r\n\r\n" + GET * 20,
        b"\r\n" * 5000,
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 2000,
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET",
        b"A" * 20_000,
        GET[:-2] + b"Expect: 100-continue\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n" * 10,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
    with nothing_is_left(daemon, most_mib=64):
        for count, said in enumerate(itertools.chain.from_iterable(itertools.repeat(rubbish, 125))):
            with ExitStack() as stack:
                client = connect(daemon, stack, said)
                if count % 3:
                    with suppress(OSError):
                        client.shutdown(socket.SHUT_WR)
            if count % 100 == 0:
                daemon.page()


def held_and_scraped(daemon: Daemon, clients: int) -> None:
    """Hold so many connections that say nothing, and check that a fresh one is served all the same."""
    with ExitStack() as stack:
        for _ in range(clients):
            with suppress(OSError):
                connect(daemon, stack)

        def scraped() -> Samples | None:
            try:
                return daemon.page()
            except (OSError, HTTPException, AssertionError):
                return None

        # Before those that are silent are closed for their silence; a slow machine gets some tries.
        assert eventually(scraped, "a scrape beside them", timeout_s=10)
        go_on(daemon)


@pytest.mark.usefixtures("many_descriptors")
def test_idle_connections_beyond_the_limit_lock_nobody_out(daemon: Daemon) -> None:
    """Of more connections than are allowed, a fresh one that asks for something is answered."""
    with nothing_is_left(daemon, most_mib=64):
        held_and_scraped(daemon, 1_000)


@pytest.mark.usefixtures("many_descriptors")
def test_idle_connections_beyond_the_limit_of_descriptors_lock_nobody_out(
    start_daemon: StartDaemon, simulator: Simulator
) -> None:
    """Of more connections than the process can have, a fresh one is answered, and polls keep theirs."""
    daemon = begin(start_daemon, simulator, under=("prlimit", "--nofile=256"))
    with nothing_is_left(daemon, most_mib=64):
        held_and_scraped(daemon, 10_000)


@pytest.mark.usefixtures("many_descriptors")
def test_ten_thousand_idle_connections_leave_nothing_behind(start_daemon: StartDaemon, simulator: Simulator) -> None:
    """Far beyond all limits polls go on, memory and threads stay bounded, and afterwards all is as before."""
    daemon = begin(start_daemon, simulator, under=("prlimit", "--nofile=256"))
    with nothing_is_left(daemon, most_mib=64), ExitStack() as stack:
        asked = len(simulator.requests)
        held = 0
        for _ in range(10_000):
            with suppress(OSError):
                connect(daemon, stack)
                held += 1
        assert held > 256
        eventually(lambda: len(simulator.requests) > asked + 90, "polls")
        assert carried(daemon).descriptors <= 256
