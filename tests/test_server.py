"""Sockets on loopback and clients of every kind: addresses, limits, deadlines, and an end that comes."""

import asyncio
import errno
import logging
import os
import re
import resource
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import pytest
from aiohttp import web
from running import eventually, fetch

from vcc_exporter import server
from vcc_exporter.exposition import Body
from vcc_exporter.process import raise_descriptor_limit
from vcc_exporter.sending import AGAIN, send
from vcc_exporter.server import (
    MOST_CONNECTIONS,
    Address,
    Terms,
    listen,
    parse_address,
    serve,
)

BIG = b"x" * 8_000_000
"""More than any socket's buffers take."""


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":10742", "", 10742),
        (":0", "", 0),
        ("0.0.0.0:80", "0.0.0.0", 80),  # noqa: S104 - only read
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("localhost:8080", "localhost", 8080),
        ("exporter.example.com:1", "exporter.example.com", 1),
        ("[::1]:10742", "::1", 10742),
        ("[::]:0", "::", 0),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
        ("[::ffff:127.0.0.1]:80", "::ffff:127.0.0.1", 80),
        ("host:00080", "host", 80),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int) -> None:
    """Host and port, where an empty host stands for all interfaces and IPv6 stands in brackets."""
    assert parse_address(text) == Address(host, port)


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "10742", "localhost", "localhost:", "[::1]", "[::1]:", "::1:10742", "::1", "[]:80", "[host]:80"),
        *(":65536", ":99999", ":100000", ":-1", ":+1", ":1.5", ": 80", ":80 ", "a b:80", ":http", "host:٣"),
        *(
            "http://host:80",
            "host:80/",
            "host/x:80",
            "[::1:80",
            "::1]:80",
            "[::1]]:80",
            "host:80:80",
            ":80\n",
            "[::1%]:80",
        ),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Without a port, with one that does not exist, with IPv6 out of brackets, or with more around it."""
    with pytest.raises(ValueError, match=r"(?s).*"):
        parse_address(text)


def reached(host: str, port: int) -> bool:
    """Tell whether somebody listens there."""
    try:
        with socket.create_connection((host, port), 10):
            return True
    except OSError:
        return False


def test_an_empty_host_is_all_interfaces() -> None:
    """One socket takes connections over IPv4 and IPv6."""
    with listen(Address("", 0)) as listening:
        port = listening.getsockname()[1]
        assert reached("127.0.0.1", port)
        assert reached("::1", port)


@pytest.mark.parametrize(("host", "other"), [("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
def test_a_host_is_only_that_one(host: str, other: str) -> None:
    """The other family is not served."""
    with listen(Address(host, 0)) as listening:
        port = listening.getsockname()[1]
        assert reached(host, port)
        assert not reached(other, port)


def test_a_name_is_looked_up() -> None:
    """`localhost` is loopback."""
    with listen(Address("localhost", 0)) as listening:
        assert listening.getsockname()[0] in {"127.0.0.1", "::1"}


@pytest.mark.parametrize("host", ["", "127.0.0.1", "::1"])
def test_a_taken_port_is_an_error(host: str) -> None:
    """For all interfaces and for one."""
    with listen(Address(host, 0)) as taken, pytest.raises(OSError, match="in use") as caught:
        listen(Address(host, taken.getsockname()[1]))
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_taken_in_one_family_is_taken_for_all_interfaces(host: str) -> None:
    """It is an error, and not a server that half of the clients do not reach."""
    with listen(Address(host, 0)) as taken, pytest.raises(OSError, match="in use") as caught:
        listen(Address("", taken.getsockname()[1]))
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64, ".example", "a..b", "192.0.2.1", "::::"])
def test_an_address_that_is_not_here_is_an_error_with_words(host: str) -> None:
    """Names that do not exist or cannot, and addresses of others."""
    with pytest.raises(OSError, match=r".") as caught:
        listen(Address(host, 0))
    assert caught.value.strerror


# A server with a few paths, in a loop of its own.


class Held:
    """A handler that answers when it is told to."""

    def __init__(self) -> None:
        self.count = 0
        self.go = asyncio.Event()

    async def answer(self, _request: web.Request) -> web.Response:
        """Wait for that."""
        self.count += 1
        await self.go.wait()
        return web.Response(text="held")


class Repeated:
    """A handler whose answers can be made again, for as long as there is a body."""

    def __init__(self) -> None:
        self.handled = 0
        self.body: bytes | None = b"first"
        self.rules: object = None
        self.go = asyncio.Event()
        self.go.set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer what is there, and say how that is done again."""
        self.handled += 1
        await self.go.wait()
        request[AGAIN] = self._again
        body = Body([self.body or b"nothing"], len(self.body or b"nothing"))
        return await send(request, body, {"X-Kind": "repeated"})

    def _again(self) -> Body | None:
        return Body([self.body], len(self.body)) if self.body else None


class Served:
    """A running server."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        runner: web.AppRunner,
        sockets: list[socket.socket],
        handler: Held,
        repeated: Repeated,
    ) -> None:
        self.repeated = repeated
        self._sockets = sockets
        self._loop = loop
        self.runner = runner
        self._ended = False
        self._handler = handler

    @property
    def held(self) -> int:
        """Return how many requests were not answered at once."""
        return self._handler.count

    def release(self) -> None:
        """Have them answered."""
        self._loop.call_soon_threadsafe(self._handler.go.set)

    def narrow(self) -> None:
        """Let the kernel hold little of what is sent to clients that come from now on."""
        for listening in self._sockets:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    def hold_repeated(self) -> None:
        """Have those that can be made again wait."""
        self._loop.call_soon_threadsafe(self.repeated.go.clear)

    def release_repeated(self) -> None:
        """Have them wait no more."""
        self._loop.call_soon_threadsafe(self.repeated.go.set)

    @property
    def port(self) -> int:
        """Return the port of its first address."""
        port: int = self.runner.addresses[0][1]
        return port

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """Return how many connections it has open."""
        server = self.runner.server
        return len(server.connections) if server else 0

    def connect(self) -> socket.socket:
        """Open a connection that ends the test where nothing comes for long."""
        return socket.create_connection(("127.0.0.1", self.port), 30)

    def get(self, path: str) -> int:
        """Return the status of an answer."""
        return fetch(self.url + path)[0]

    def end(self, timeout_s: float = 30) -> None:
        """Shut it down; once is enough."""
        if not self._ended:
            self._ended = True
            asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self._loop).result(timeout_s)


async def hello(_request: web.Request) -> web.Response:
    """Answer a few bytes."""
    return web.Response(text="hello")


async def big(_request: web.Request) -> web.Response:
    """Answer more than buffers take."""
    return web.Response(body=BIG)


async def late(request: web.Request) -> web.StreamResponse:
    """Begin to answer when the client has gone."""
    response = web.StreamResponse()
    while request.transport is not None:  # noqa: ASYNC110 - the library tells nobody
        await asyncio.sleep(0.01)
    try:
        await response.prepare(request)
    finally:
        logging.getLogger("late").warning("begun")
    return response


async def broken(_request: web.Request) -> web.StreamResponse:
    """Have a fault."""
    raise KeyError


@contextmanager
def loop_in_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread of its own, and end it when nothing is open in it any more."""
    selector = selectors.DefaultSelector()
    loop = asyncio.SelectorEventLoop(selector)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
        # The loop's own waker is all that stays.
        eventually(lambda: len(selector.get_map()) == 1, "all connections to be closed")
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def served() -> Iterator[Served]:
    """Serve on a port of loopback."""
    app = web.Application()
    app.router.add_get("/", hello)
    app.router.add_get("/big", big)
    held = Held()
    app.router.add_get("/held", held.answer)
    app.router.add_get("/late", late)
    app.router.add_get("/broken", broken)
    repeated = Repeated()
    app.router.add_route("*", "/again", repeated.answer)
    with loop_in_thread() as loop, ExitStack() as stack:
        sockets = [listen(Address("127.0.0.1", 0))]
        terms = Terms(rules=lambda: repeated.rules)
        runner = asyncio.run_coroutine_threadsafe(serve(app, sockets, terms), loop).result(30)
        made = Served(loop, runner, sockets, held, repeated)
        stack.callback(made.end)
        yield made


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes the connection, kindly or not."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        parts.append(b"")
    return b"".join(parts)


def test_several_sockets_serve_one_application() -> None:
    """The same answers come over IPv4 and IPv6."""
    app = web.Application()
    app.router.add_get("/", hello)
    with loop_in_thread() as loop:
        sockets = [listen(Address("127.0.0.1", 0)), listen(Address("::1", 0))]
        runner = asyncio.run_coroutine_threadsafe(serve(app, sockets), loop).result(30)
        for host, listening in zip(("127.0.0.1", "[::1]"), sockets, strict=True):
            assert fetch(f"http://{host}:{listening.getsockname()[1]}/")[1] == b"hello"
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)


def test_the_descriptor_limit_is_raised_as_far_as_it_goes() -> None:
    """The soft limit becomes the hard one."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def many_descriptors() -> Iterator[None]:
    """Allow as many open files as may be for as long as a test wants them."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_descriptor_limit()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def is_open(connection: socket.socket) -> bool:
    """Tell whether the other side holds a connection, on which nothing was sent, still open."""
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def test_beyond_the_limit_the_longest_idle_make_room(served: Served) -> None:
    """The first that came are closed for the next, but for one that has asked for something since."""
    with many_descriptors(), ExitStack() as stack:
        clients = [stack.enter_context(served.connect()) for _ in range(MOST_CONNECTIONS)]
        eventually(lambda: served.connections == MOST_CONNECTIONS, "the connections to be open")
        clients[0].sendall(GET)
        assert b"hello" in clients[0].recv(65536)
        assert served.get("/") == HTTPStatus.OK
        more = [stack.enter_context(served.connect()) for _ in range(9)]
        eventually(lambda: not is_open(clients[9]), "the oldest to be closed")
        assert not any(map(is_open, clients[1:9]))
        assert all(map(is_open, [clients[0], *clients[20:], *more]))
        for _ in range(MOST_CONNECTIONS):
            stack.enter_context(served.connect())
        # Well before it would be closed for its silence.
        eventually(lambda: not is_open(clients[0]), "its turn to come as well", timeout_s=12)
        # A moment later: the loop has to see the end of each that was dropped.
        eventually(lambda: served.connections <= MOST_CONNECTIONS, "no more of them than may be")


def test_a_request_under_way_is_dropped_for_nobody(served: Served) -> None:
    """A client that reads slowly gets its answer to the end, however many come and say nothing."""
    with many_descriptors(), ExitStack() as stack:
        reader = stack.enter_context(served.connect())
        reader.sendall(b"GET /held HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        eventually(lambda: served.held, "the request to be under way")
        for _ in range(2 * MOST_CONNECTIONS):
            stack.enter_context(served.connect())
        assert served.get("/") == HTTPStatus.OK
        served.release()
        assert read_all(reader).endswith(b"held")


def test_where_all_are_busy_the_newest_is_closed(served: Served) -> None:
    """Nobody is cut off, and room is there again as soon as somebody has an answer."""
    with many_descriptors(), ExitStack() as stack:
        readers = [stack.enter_context(served.connect()) for _ in range(MOST_CONNECTIONS)]
        for reader in readers:
            reader.sendall(b"GET /held HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        eventually(lambda: served.held == MOST_CONNECTIONS, "all to be busy")
        late = stack.enter_context(served.connect())
        assert read_all(late) == b""
        served.release()
        assert all(read_all(reader).endswith(b"held") for reader in readers)
        eventually(lambda: served.get("/") == HTTPStatus.OK, "an answer")


def test_a_client_that_has_left_is_no_fault(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be answered any more is not told as what the exporter did wrong, as a real fault is."""

    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name in {"late", "vcc_exporter.server"}]

    assert served.get("/broken") == HTTPStatus.INTERNAL_SERVER_ERROR
    assert told() == ["unexpected fault"]
    with served.connect() as client:
        client.sendall(GET.replace(b"/", b"/late", 1))
        eventually(lambda: served.connections == 1, "the request")
    eventually(lambda: "begun" in told() and not served.connections, "the answer to be begun")
    assert told() == ["unexpected fault", "begun"]


def drip(connection: socket.socket, stop: threading.Event) -> None:
    """Send a header without end, a byte at a time, until the connection is closed."""
    try:
        connection.sendall(b"GET / HTTP/1.1\r\nX-Drip: ")
        while not stop.wait(0.1):
            connection.sendall(b".")
    except OSError:
        stop.set()


def test_clients_that_send_nothing_or_drip_are_closed_and_others_are_answered(served: Served) -> None:
    """Silent ones, half a request, drips, and those that keep a connection without a further request."""
    stop = threading.Event()
    with ExitStack() as stack:
        clients = [stack.enter_context(served.connect()) for _ in range(40)]
        for client in clients[10:20]:
            client.sendall(GET[:20])
        for client in clients[20:30]:
            client.sendall(GET)
        drips = [threading.Thread(target=drip, args=(client, stop)) for client in clients[30:]]
        for thread in drips:
            thread.start()
        eventually(lambda: served.connections == len(clients), "all to be connected")
        assert served.get("/") == HTTPStatus.OK
        answers = [read_all(client) for client in clients]
        assert served.get("/") == HTTPStatus.OK
        stop.set()
        for thread in drips:
            thread.join()
    assert all(answer.endswith(b"hello") for answer in answers[20:30])
    assert not any(b"hello" in answer for answer in answers[:20] + answers[30:])


def test_a_client_that_never_reads_holds_up_neither_others_nor_the_end(served: Served) -> None:
    """Its answer is cut off at the shutdown, which the contract gives five seconds in all."""
    with ExitStack() as stack:
        for _ in range(8):
            client = stack.enter_context(served.connect())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
            assert client.recv(9) == b"HTTP/1.1 "
        assert served.get("/") == HTTPStatus.OK
        port = served.port
        served.end(timeout_s=5)
        assert not reached("127.0.0.1", port)


NONSENSE = [
    b"\x00\xff\x16\x03\x01 not HTTP at all\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2,
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
    b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_gets_an_error_and_the_server_lives_on(served: Served, nonsense: bytes) -> None:
    """It is a status of 4xx, alone or behind a good request on the same connection, which is answered first."""
    for before in (b"", GET):
        with served.connect() as client:
            client.sendall(before)
            if before:
                # Its answer first: a reset by what follows could take it away.
                assert b"hello" in client.recv(65536)
            send_what_is_taken(client, nonsense)
            answer = read_all(client)
        # Nothing, where the connection was reset before it could be read.
        assert re.match(rb"HTTP/1\.[01] 4\d\d |\Z", answer), answer[:100]
        assert served.get("/") == HTTPStatus.OK


def send_what_is_taken(client: socket.socket, data: bytes) -> None:
    """Send bytes to a server that may close the connection before the last of them."""
    try:
        client.sendall(data)
    except OSError:
        return


@pytest.mark.parametrize(
    "request_", [GET, GET.replace(b"/", b"/nothing", 1), GET.replace(b"/", b"/broken", 1), b"x\r\n\r\n"]
)
def test_no_answer_tells_what_it_is_made_of(served: Served, request_: bytes) -> None:
    """Good, bad or to nonsense: the versions of Python and of libraries are for those who have the log."""
    with served.connect() as client:
        client.sendall(request_)
        head = client.recv(65536).partition(b"\r\n\r\n")[0].lower()
    assert b"server: vcc-exporter\r\n" in head + b"\r\n"
    assert b"python" not in head
    assert b"aiohttp" not in head


def test_pipelined_requests_are_answered_in_order_up_to_the_bad_one(served: Served) -> None:
    """Good ones before it have their answers, it has an error, and what follows is not served."""
    with served.connect() as client:
        client.sendall(GET * 50 + b"\x00\x01 rubbish\r\n\r\n" + GET * 50)
        answer = read_all(client)
    assert answer.count(b"HTTP/1.1 200 ") <= 50
    assert answer.count(b"hello") <= 50
    assert b"HTTP/1.0 400 " in answer
    assert served.get("/") == HTTPStatus.OK


# Requests that come again in the same bytes.

AGAIN_PLEASE = b"GET /again HTTP/1.1\r\nHost: x\r\n\r\n"
CHANGING = re.compile(rb"(Date|Content-Length): [^\r]+")


def answer_of(client: socket.socket) -> tuple[bytes, bytes]:
    """Read one answer: head and body."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += received(client)
    head, _, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    while length and len(body) < int(length[1]):
        body += received(client)
    return head, body


def received(client: socket.socket) -> bytes:
    """Return what comes next."""
    part = client.recv(65536)
    assert part, "the connection was closed"
    return part


def asked(client: socket.socket, data: bytes = AGAIN_PLEASE) -> tuple[bytes, bytes]:
    """Send a request, and read the answer."""
    client.sendall(data)
    return answer_of(client)


def date_of(head: bytes) -> datetime:
    """Return when an answer says that it was made."""
    (said,) = re.findall(rb"Date: ([A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9: ]+ GMT)\r\n", head + b"\r\n")
    return parsedate_to_datetime(said.decode())


def test_what_is_asked_again_is_answered_without_being_read(served: Served) -> None:
    """With the body of now and a head that says the same, for as long as there is a body and nothing else comes."""
    with served.connect() as client:
        head, body = asked(client)
        assert body == b"first"
        served.repeated.body = b"another"
        again, body = asked(client)
        assert body == b"another"
        assert b"Content-Length: 7\r\n" in again + b"\r\n"
        assert len(CHANGING.findall(again)) == 2
        assert timedelta() <= date_of(again) - date_of(head) < timedelta(minutes=1)
        assert sorted(CHANGING.sub(b"", again).split()) == sorted(CHANGING.sub(b"", head).split())
        assert b"X-Kind: repeated" in again
        assert served.repeated.handled == 1
        served.repeated.body = None
        assert asked(client)[1] == b"nothing"
        assert served.repeated.handled == 2
    with served.connect() as other:
        asked(other)
        assert served.repeated.handled == 3


def test_nothing_of_a_request_is_kept(served: Served) -> None:
    """A password may be in it."""
    with served.connect() as client:
        for _ in range(3):
            asked(client, AGAIN_PLEASE.replace(b"Host", b"Authorization: Basic c2VjcmV0\r\nHost", 1))
        assert served.repeated.handled == 1
        server = served.runner.server
        kept = [repr(vars(connection)) for connection in server.connections] if server else []
        assert len(kept) == 1
        assert "Repeat(" in kept[0]
        assert "c2VjcmV0" not in kept[0]


def test_what_is_asked_again_under_other_rules_is_judged_again(served: Served) -> None:
    """Whoever was let in before may not be any more."""
    with served.connect() as client:
        for rules in (object(), object()):
            served.repeated.rules = rules
            asked(client)
            asked(client)
    assert served.repeated.handled == 2


@pytest.mark.parametrize(
    "request_",
    [
        AGAIN_PLEASE.replace(b"\r\nHost", b"\r\nContent-Length: 2\r\nHost", 1) + b"{}",
        AGAIN_PLEASE.replace(b"GET", b"POST", 1),
        GET,
    ],
    ids=["with a body", "another method", "another answer"],
)
def test_what_is_not_plain_is_read_each_time(served: Served, request_: bytes) -> None:
    """Requests with bodies, those that change something, and answers of which nobody has said how they are made."""
    with served.connect() as client:
        for number in range(1, 4):
            assert asked(client, request_)[0].startswith(b"HTTP/1.1 200 ")
            assert served.repeated.handled == (0 if request_ == GET else number)


def test_other_requests_between_get_their_own_answers(served: Served) -> None:
    """One after another, several at once, and one that comes while another is under way."""
    with served.connect() as client:
        for _ in range(3):
            assert asked(client)[1] == b"first"
            assert asked(client, GET)[1] == b"hello"
        for _ in range(2):
            client.sendall(AGAIN_PLEASE * 2)
            assert read_bodies(client, 2) == [b"first"] * 2
        client.sendall(AGAIN_PLEASE + GET + AGAIN_PLEASE)
        assert read_bodies(client, 3) == [b"first", b"hello", b"first"]
    with served.connect() as client:
        served.hold_repeated()
        handled = served.repeated.handled
        client.sendall(AGAIN_PLEASE)
        eventually(lambda: served.repeated.handled > handled, "the first to be under way")
        other = GET.replace(b"/", b"/held", 1)
        client.sendall(other)
        assert served.get("/") == HTTPStatus.OK  # by when that was received
        served.release_repeated()
        eventually(lambda: served.held, "the other to be under way")
        client.sendall(other)
        served.release()
        assert read_bodies(client, 3) == [b"first", b"held", b"held"]


def test_parts_of_requests_are_no_requests(served: Served) -> None:
    """Such as a body that looks like the request before it, and the second part of one."""
    with served.connect() as client:
        fields = b"GET /again HTTP/1.1\r\nHost: x\r\nContent-Length: "
        ends = b"%d\r\n\r\n" % (len(fields) + 6)
        assert asked(client, fields + ends)[1] == b"first"
        client.sendall(fields + ends)
        assert asked(client, GET)[1] == b"hello"
    with served.connect() as client:
        handled = served.repeated.handled
        client.sendall(AGAIN_PLEASE[:9])
        assert served.get("/") == HTTPStatus.OK  # by when that was received
        client.sendall(AGAIN_PLEASE[9:])
        assert answer_of(client)[1] == b"first"
        assert served.repeated.handled == handled + 1
        assert b" 400 " in asked(client, AGAIN_PLEASE[9:])[0]


@pytest.mark.parametrize("size", [1, 40_000_000])
def test_an_answer_that_is_sent_again_comes_whole(served: Served, size: int) -> None:
    """Also one that the kernel does not take at once, to a client that does not read at first, and again after it."""
    with served.connect() as client:
        asked(client)
        served.repeated.body = os.urandom(size)
        for _ in range(2):
            client.sendall(AGAIN_PLEASE)
            assert served.get("/") == HTTPStatus.OK  # by when all was sent that the client has room for
            assert answer_of(client)[1] == served.repeated.body
    assert served.repeated.handled == 1


def test_a_client_that_leaves_under_an_answer_that_is_sent_again_harms_nobody(served: Served) -> None:
    """The server goes on."""
    with served.connect() as client:
        asked(client)
        served.repeated.body = os.urandom(40_000_000)
        client.sendall(AGAIN_PLEASE)
        received(client)
    assert served.get("/") == HTTPStatus.OK


def read_bodies(client: socket.socket, count: int) -> list[bytes]:
    """Read so many small answers."""
    got = b""
    while len(re.findall(rb"HTTP/1.1 200", got)) < count or not got.endswith((b"first", b"hello", b"held")):
        got += received(client)
    return re.findall(rb"\r\n\r\n(first|hello|held)", got)


def test_connections_on_which_the_same_is_asked_stay_open_until_it_is_not(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their silence counts from the last answer, not from the last that had to be read."""
    monkeypatch.setattr(server, "_SILENCE_S", 1.5)
    with served.connect() as client:
        asked(client)
        with served.connect() as silent:  # later than what was read, and closed no sooner
            eventually(lambda: asked(client) and not is_open(silent), "the silent one to be closed")
        asked(client)
        assert served.repeated.handled == 1
        assert client.recv(1) == b""


def test_a_client_that_has_not_read_its_last_answer_is_cut_off_when_it_is_silent(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of the answer is too little to hold up the handler, and would keep the connection for ever."""
    monkeypatch.setattr(server, "_SILENCE_S", 1.5)
    served.narrow()
    served.repeated.body = b"x" * 50_000
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", served.port))
        client.sendall(AGAIN_PLEASE)
        eventually(lambda: served.repeated.handled, "the request")
        eventually(lambda: not served.connections, "the connection to be gone")


def test_a_client_that_does_not_read_what_it_asks_for_again_is_cut_off(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In time, while one that reads slowly gets all of it; nothing piles up for either."""
    monkeypatch.setattr(server, "WRITE_TIMEOUT_S", 2)
    with served.connect() as client, served.connect() as slow:
        asked(client)
        asked(slow)
        served.repeated.body = BIG
        for _ in range(3):
            send_what_is_taken(client, AGAIN_PLEASE)
        slow.sendall(AGAIN_PLEASE)
        assert answer_of(slow)[1] == BIG
        assert served.get("/") == HTTPStatus.OK
        eventually(lambda: served.connections == 1, "the one that does not read to be cut off")
        assert asked(slow)[1] == BIG
        served.repeated.body = b"small"
        assert asked(slow)[1] == b"small"
