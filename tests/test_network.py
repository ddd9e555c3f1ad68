"""What all requests share: the watch over deadlines, name look-ups that may hang, TLS contexts; and one wire."""

import errno
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
from running import eventually
from support import SetClock, make_customer, raw_server
from urllib3.util.ssl_ import create_urllib3_context

from vcc_exporter.client import PROJECTS, AbandonedError, Session
from vcc_exporter.network import Deadline, Network, Wire
from vcc_exporter.times import Clock

LIMIT_S: Final = 30
"""How long a test waits for what must happen."""
STEP_S: Final = 0.02
"""Between deadlines; also how often the watch looks at a clock that is set."""

Address = tuple[Any, ...]
AddressInfo = list[Address]


@pytest.fixture
def network(clock: SetClock) -> Network:
    """Give a network that goes by that clock."""
    return Network(clock)


class Line:
    """A wire with a connection, and the other end of it."""

    def __init__(self, network: Network, stack: ExitStack) -> None:
        near, self.far = socket.socketpair()
        stack.enter_context(near)
        stack.enter_context(self.far)
        self.far.settimeout(LIMIT_S)
        self.wire = Wire(network)
        self.wire.connected(near)

    def wait_until_shut(self) -> None:
        """Wait for the end of the connection."""
        assert self.far.recv(1) == b""

    def is_open(self) -> bool:
        """Tell whether the connection has not been ended."""
        self.far.setblocking(False)
        try:
            return self.far.recv(1) != b""
        except BlockingIOError:
            return True
        finally:
            self.far.settimeout(LIMIT_S)


@pytest.fixture
def new_line(network: Network) -> Iterator[Callable[[], Line]]:
    """Make lines, which are closed with the test."""
    with ExitStack() as stack:
        yield lambda: Line(network, stack)


def begin(network: Network, line: Line, timeout_s: float) -> Deadline:
    """Begin a request on a line."""
    line.wire.deadline = network.watch(line.wire, timeout_s)
    return line.wire.deadline


# Deadlines.


def test_many_deadlines_pass_in_their_order(network: Network, clock: SetClock, new_line: Callable[[], Line]) -> None:
    """However they were begun, each connection is shut when its own time is up and not before."""
    order = [i * 7 % 31 for i in range(1, 31)]
    lines = {step: new_line() for step in order}
    deadlines = {step: begin(network, lines[step], step * STEP_S) for step in order}
    for step in sorted(order):
        assert all(line.is_open() for later, line in lines.items() if later >= step)
        clock.advance(timedelta(seconds=STEP_S * 1.0001))
        lines[step].wait_until_shut()
        assert deadlines[step].passed


def test_deadlines_of_the_same_instant_all_pass(
    network: Network, clock: SetClock, new_line: Callable[[], Line]
) -> None:
    """Requests that began together end together."""
    lines = [new_line() for _ in range(20)]
    for line in lines:
        begin(network, line, STEP_S)
    clock.advance(timedelta(seconds=1))
    for line in lines:
        line.wait_until_shut()


def test_nobody_is_woken_for_a_deadline_that_comes_after_the_one_that_is_waited_for(
    network: Network, new_line: Callable[[], Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polls that come one after another in time cost no wake-up each, also when nothing is watched in between."""
    wake, wakes = network._lock.notify, []  # noqa: SLF001 - what is counted

    def notify() -> None:
        wakes.append(1)
        wake()

    monkeypatch.setattr(network._lock, "notify", notify)  # noqa: SLF001
    for timeout_s in (60, 61, 62):
        deadline = begin(network, new_line(), timeout_s)
        eventually(lambda: network._looks_at < inf, "the watch to wait for it")  # noqa: SLF001
        network.forget(deadline)
    assert len(wakes) == 1


def test_a_sooner_deadline_is_not_held_up_by_a_later_one(new_line: Callable[[], Line]) -> None:
    """The watch wakes for a deadline that comes before the one that it waits for, on the real clock."""
    network = Network(Clock())
    patient, hasty = new_line(), new_line()
    later = begin(network, patient, 3600)
    begin(network, hasty, STEP_S)
    hasty.wait_until_shut()
    assert patient.is_open()
    network.forget(later)


def test_forgotten_deadlines_do_nothing(network: Network, clock: SetClock, new_line: Callable[[], Line]) -> None:
    """Of many requests, those that were over in time go on to use their connections; the others are ended."""
    lines = [new_line() for _ in range(40)]
    deadlines = [begin(network, line, (1 + i % 7) * STEP_S) for i, line in enumerate(lines)]
    over = sorted((i for i in range(40) if i % 3), key=lambda i: i * 7 % 41)
    for i in over:
        network.forget(deadlines[i])
    last = begin(network, new_line(), 8 * STEP_S)
    clock.advance(timedelta(seconds=1))
    for i in range(0, 40, 3):
        lines[i].wait_until_shut()
    assert [i for i in range(40) if deadlines[i].passed] == list(range(0, 40, 3))
    assert all(lines[i].is_open() for i in over)
    network.forget(last)


def test_a_deadline_may_be_forgotten_twice_or_late(
    network: Network, clock: SetClock, new_line: Callable[[], Line]
) -> None:
    """Forgetting is no fault at any time, and what comes after is watched as before."""
    line = new_line()
    first = begin(network, line, STEP_S)
    clock.advance(timedelta(seconds=1))
    line.wait_until_shut()
    network.forget(first)
    network.forget(first)
    another = new_line()
    begin(network, another, STEP_S)
    clock.advance(timedelta(seconds=1))
    another.wait_until_shut()


def test_an_old_requests_expiry_does_not_harm_the_next(network: Network, new_line: Callable[[], Line]) -> None:
    """A deadline that passes late shuts nothing where another request uses the connection by now."""
    line = new_line()
    old = begin(network, line, 3600)
    network.forget(old)
    new = begin(network, line, 3600)
    old.expire()
    assert old.passed
    assert not new.passed
    assert line.is_open()
    line.wire.deadline = None
    new.expire()
    assert line.is_open()


def test_the_time_that_is_left(network: Network, clock: SetClock, new_line: Callable[[], Line]) -> None:
    """It shrinks with the clock; where none is left, and after the end, it is a TimeoutError."""
    line = new_line()
    deadline = begin(network, line, 10)
    assert network.left(deadline) == pytest.approx(10)
    clock.advance(timedelta(seconds=4))
    assert network.left(deadline) == pytest.approx(6)
    clock.jump(timedelta(days=1))
    assert network.left(deadline) == pytest.approx(6)
    clock.advance(timedelta(seconds=6))
    with pytest.raises(TimeoutError):
        network.left(deadline)
    early = begin(network, line, 10)
    early.expire()
    with pytest.raises(TimeoutError):
        network.left(early)
    network.forget(early)


def test_requests_of_many_threads_are_watched(new_line: Callable[[], Line]) -> None:
    """Threads begin and end requests at once, and exactly those that last too long are ended."""
    network = Network(Clock())
    lines = [new_line() for _ in range(8)]

    def work(line: Line) -> bool:
        for _ in range(200):
            network.forget(begin(network, line, 3600))
        still_open = line.is_open()
        begin(network, line, STEP_S)
        line.wait_until_shut()
        return still_open

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, lines)) == [True] * 8


# A wire.


def test_a_wire_without_a_request_connects_nowhere(network: Network) -> None:
    """A connection is made within a deadline or not at all."""
    with pytest.raises(TimeoutError):
        Wire(network).connect("127.0.0.1", 9, None)


def test_an_ended_wire_shuts_what_comes_later(network: Network, new_line: Callable[[], Line]) -> None:
    """A connection that is ready only after the end is shut at once, and none is begun."""
    line = new_line()
    begin(network, line, 3600)
    line.wire.end()
    line.wait_until_shut()
    near, far = socket.socketpair()
    with near, far:
        line.wire.connected(near)
        assert far.recv(1) == b""
    with pytest.raises(TimeoutError):
        line.wire.connect("127.0.0.1", 9, None)
    line.wire.shut()


def test_a_connection_that_is_ready_after_the_deadline_is_shut(network: Network, new_line: Callable[[], Line]) -> None:
    """A deadline that passes while a connection is being made counts for it, too."""
    line = new_line()
    begin(network, line, 3600).expire()
    near, far = socket.socketpair()
    with near, far:
        line.wire.connected(near)
        assert far.recv(1) == b""


# Looking names up.


class Resolver:
    """Stands for the system's resolver, with names that answer when they are told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.was_asked = threading.Event()
        self.may_answer = threading.Event()
        self.answer: AddressInfo | Exception = []
        self._real = socket.getaddrinfo

    def __call__(self, host: str, port: int | None, *args: int) -> AddressInfo:
        """Answer numbers as the system does, and names as the test wants."""
        if len(args) > 3 and args[3] & socket.AI_NUMERICHOST:
            return list(self._real(host, port, *args))
        self.asked.append(host)
        self.was_asked.set()
        assert self.may_answer.wait(LIMIT_S)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def addresses(*hosts: str) -> AddressInfo:
    """Return the resolver's form of IPv4 addresses."""
    return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, 0)) for host in hosts]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    """Replace the system's resolver, since no dead name server can be had."""
    resolving = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolving)
    yield resolving
    resolving.may_answer.set()


def look_ups() -> list[threading.Thread]:
    """Return the threads in which look-ups are under way."""
    return [thread for thread in threading.enumerate() if thread.name == "look-up"]


def test_a_look_up_that_hangs_is_shared(network: Network, resolver: Resolver) -> None:
    """Whoever asks for a name meanwhile waits for the same answer, in one thread a name, and gets its own port."""
    resolver.answer = addresses("192.0.2.1", "192.0.2.2")
    for _ in range(5):
        with pytest.raises(TimeoutError):
            network.look_up("acme.example", 443, 0.001)
    with pytest.raises(TimeoutError):
        network.look_up("other.example", 443, 0.001)
    assert resolver.asked == ["acme.example", "other.example"]
    assert len(look_ups()) == 2
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(network.look_up, "acme.example", port, LIMIT_S) for port in (80, 443, 8443)]
        resolver.may_answer.set()
        found = [[address[4] for address in future.result(LIMIT_S)] for future in waiting]
    assert found == [[("192.0.2.1", port), ("192.0.2.2", port)] for port in (80, 443, 8443)]


def test_a_look_up_that_is_over_is_made_again(network: Network, resolver: Resolver) -> None:
    """An answer is not kept, so that a name may move."""
    resolver.may_answer.set()
    for host in ("192.0.2.1", "192.0.2.2"):
        resolver.answer = addresses(host)
        assert network.look_up("acme.example", 443, LIMIT_S)[0][4] == (host, 443)
        for thread in look_ups():
            thread.join(LIMIT_S)
    assert resolver.asked == ["acme.example"] * 2


@pytest.mark.parametrize(
    "problem",
    [socket.gaierror(socket.EAI_NONAME, "no such name"), OSError(errno.EMFILE, "too many"), UnicodeError("x")],
)
def test_a_look_up_that_fails_is_an_oserror(problem: Exception, network: Network, resolver: Resolver) -> None:
    """Whatever the resolver raises is an OSError that is no TimeoutError, for all that waited."""
    resolver.answer = problem
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(network.look_up, "acme.example", 443, LIMIT_S) for _ in range(2)]
        resolver.may_answer.set()
        for future in waiting:
            error = future.exception(LIMIT_S)
            assert isinstance(error, OSError)
            assert not isinstance(error, TimeoutError)


def test_a_request_whose_look_up_hangs_can_be_abandoned(resolver: Resolver) -> None:
    """What is abandoned before there is a connection makes none afterwards."""
    resolver.answer = addresses("127.0.0.1")
    accepted: list[socket.socket] = []
    with raw_server(accepted.append) as port, ThreadPoolExecutor(1) as pool:
        customer = make_customer(url=f"http://acme.example:{port}", poll={"timeout": "10m"})
        session = Session(customer, Network(Clock()))
        asking = pool.submit(session.ask, PROJECTS, Clock().now())
        assert resolver.was_asked.wait(LIMIT_S)
        session.abandon()
        resolver.may_answer.set()
        with pytest.raises(AbandonedError):
            asking.result(LIMIT_S)
    assert accepted == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "192.0.2.7", "2001:db8::1"])
def test_a_numeric_host_needs_no_thread(host: str, network: Network, resolver: Resolver) -> None:
    """An address is its own look-up, however dead the name server is."""
    assert {address[4][:2] for address in network.look_up(host, 8443, 0.001)} == {(host, 8443)}
    assert resolver.asked == []
    assert look_ups() == []


def test_addresses_are_tried_one_after_the_other(resolver: Resolver) -> None:
    """A host of several addresses is reached where the first does not answer, and refused with the last's words."""
    network = Network(Clock())
    wire = Wire(network)
    wire.deadline = network.watch(wire, LIMIT_S)
    resolver.may_answer.set()
    accepted: list[socket.socket] = []
    with raw_server(accepted.append) as port:
        resolver.answer = addresses("127.0.0.2", "127.0.0.1")
        made = wire.connect("acme.example", port, [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)])
        assert made.getpeername() == ("127.0.0.1", port)
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert wire.fresh
        wire.connected(made)
        made.close()
    with pytest.raises(OSError, match=os.strerror(errno.ECONNREFUSED)):
        wire.connect("closed.example", port, None)
    resolver.answer = []
    with pytest.raises(OSError, match="no address"):
        wire.connect("empty.example", port, None)
    network.forget(wire.deadline)


# TLS contexts.


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the environment says of certificates."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def authority_file(path: Path) -> Path:
    """Write a new authority's certificate to a file."""
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


def trusted(context: ssl.SSLContext) -> list[bytes]:
    """Return the certificates that a context trusts."""
    return context.get_ca_certs(binary_form=True)


def test_a_context_is_made_once_for_each_file(network: Network, tmp_path: Path) -> None:
    """Thousands of customers with one file of certificates share one context; it checks names and certificates."""
    first, second = authority_file(tmp_path / "first.pem"), authority_file(tmp_path / "second.pem")
    context = network.tls(first)
    assert network.tls(first) is context
    assert network.tls(second) is not context
    assert network.tls(first) is context
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(trusted(context)) == 1


def test_a_context_that_many_want_at_once_is_made_once(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start, when nobody has one yet, all but one wait for it; who wants another file's does not."""
    path, other = authority_file(tmp_path / "ca.pem"), authority_file(tmp_path / "other.pem")
    make, made, go_on = create_urllib3_context, threading.Semaphore(0), threading.Event()

    def make_slowly() -> ssl.SSLContext:
        made.release()
        go_on.wait(LIMIT_S)
        return make()

    with ThreadPoolExecutor(8) as pool:
        monkeypatch.setattr("vcc_exporter.network.create_urllib3_context", make_slowly)
        first = pool.submit(network.tls, path)
        assert made.acquire(timeout=LIMIT_S)
        monkeypatch.setattr("vcc_exporter.network.create_urllib3_context", make)
        assert len(trusted(network.tls(other))) == 1
        others = [pool.submit(network.tls, path) for _ in range(7)]
        done, _ = wait(others, timeout=0.2)
        go_on.set()
        assert not done
        assert {future.result(LIMIT_S) for future in others} == {first.result(LIMIT_S)}


def test_a_context_is_made_again_when_its_file_changes(network: Network, tmp_path: Path) -> None:
    """A renewed file of certificates counts from the next connection on, however it was put in place."""
    path = authority_file(tmp_path / "ca.pem")
    before = network.tls(path)
    authority_file(tmp_path / "new.pem").replace(path)
    replaced = network.tls(path)
    assert trusted(replaced) != trusted(before)
    os.utime(path, (1, 1))
    assert network.tls(path) is not replaced


def test_a_file_that_breaks_is_refused_and_may_be_mended(network: Network, tmp_path: Path) -> None:
    """Where the file cannot be read any more, the old certificates are not trusted in its place."""
    path = authority_file(tmp_path / "ca.pem")
    network.tls(path)
    path.write_text("no certificate")
    with pytest.raises(OSError):  # noqa: PT011 - OpenSSL's words differ by version
        network.tls(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        network.tls(path)
    authority_file(path)
    assert len(trusted(network.tls(path))) == 1


def test_the_environment_names_certificates(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual variables count in the order in which the HTTP library looks at them, and an empty one is none."""
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
    files = [authority_file(tmp_path / name) for name in names]
    for name, file in reversed(list(zip(names, files, strict=True))):
        monkeypatch.setenv(name, str(file))
        assert network.tls(None) is network.tls(file)
    monkeypatch.setenv(names[0], "")
    assert network.tls(None) is network.tls(files[1])


def test_without_any_the_librarys_certificates_are_trusted(network: Network) -> None:
    """Out of the box the public authorities are trusted."""
    assert len(trusted(network.tls(None))) > 50


def test_a_folder_of_certificates_is_trusted(network: Network, tmp_path: Path) -> None:
    """OpenSSL's folders of hashed names are looked at when a certificate is checked."""
    context = network.tls(tmp_path)
    assert network.tls(tmp_path) is context
    assert trusted(context) == []
