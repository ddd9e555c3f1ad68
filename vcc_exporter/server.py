"""Sockets for an application: addresses, limits and deadlines. It knows nothing of what is served."""

import asyncio
import contextlib
import errno
import logging
import re
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final, cast

from aiohttp import hdrs, web

from vcc_exporter.sending import WRITE_TIMEOUT_S, Repeat, fingerprint, is_whole, repeat

log = logging.getLogger(__name__)

MOST_CONNECTIONS: Final = 512
"""Beyond it, or half of the descriptors, the connection that is without a request for the longest time is dropped for
the next one, so that clients that only hold connections lock nobody out."""
_SILENCE_S: Final = 20
"""How long a connection may be without a whole request: longer than the usual 15 s from one scrape to the next, since a
large answer costs twice as much on a new one, and more with TLS."""
_ROUND_S: Final = 0.5
"""How often those are looked for that were silent for too long."""
_FOREVER_S: Final = 10 * 365 * 86400
_SHUTDOWN_S: Final = 1
"""What answers under way get; the library may take twice that, and the contract gives 5 s in all."""
_BACKLOG: Final = 1024
_MOST_AT_ONCE: Final = 64
"""Connections that are accepted before those that are there are looked after: far fewer than MOST_CONNECTIONS, so that
a request that came with one of them has begun before it could be dropped."""
_BETTER_TIMES_S: Final = 0.2
_HANDSHAKE_S: Final = 5
_GOODBYE_S: Final = 1
"""How long the end of TLS may take on a connection of which nobody wants anything any more."""
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_TLS_BEGINS: Final = b"\x16"  # the type of a handshake's record
_PLAIN_TO_TLS: Final = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"Client sent an HTTP request to an HTTPS server.\n"
)

_SERVER: Final = "vcc-exporter"
"""What clients are told of what serves them; the library would tell its version and Python's to whoever asks."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. An empty host stands for all interfaces."""

    host: str
    port: int


def parse_address(text: str) -> Address:
    """Read `host:port`, `:port` or `[::1]:port`. Raises ValueError for anything else."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+(?:%\w+)?)\]|([^\[\]:/\s]*)):([0-9]{1,5})", text, re.ASCII)
    if not match or int(match[3]) > 65535:  # noqa: PLR2004
        raise ValueError(text)
    return Address(match[1] or match[2], int(match[3]))


def listen(address: Address) -> socket.socket:
    """Open a listening socket. Raises OSError."""
    if address.host:
        try:
            found = socket.getaddrinfo(address.host, address.port, 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
        except UnicodeError:
            raise OSError(errno.EINVAL, "this can be no host's name") from None
        family, _, _, _, where = found[0]
        return socket.create_server(where, family=family, backlog=_BACKLOG)
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("::", address.port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
            )
        except OSError as error:
            # IPv6 may be there but switched off; then the other family is tried.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return socket.create_server(("0.0.0.0", address.port), backlog=_BACKLOG)  # noqa: S104 - that is what was asked for


# Connections. The library's own way to listen takes one TLS context for ever and as many connections as come.


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms connections are met. Both are asked anew: a new connection, an answer, has those of its time."""

    context: Callable[[], ssl.SSLContext | None] = lambda: None
    """TLS for the next connection; None for none."""
    headers: Callable[[], Mapping[str, str]] = dict
    """What stands in the head of each answer."""
    rules: Callable[[], object] = lambda: None
    """Who is let in, and on which terms: another object whenever a request that comes again may fare otherwise."""


async def serve(app: web.Application, sockets: Sequence[socket.socket], terms: Terms | None = None) -> web.AppRunner:
    """Serve an application on listening sockets, until the returned runner is cleaned up."""
    house = _House(terms or Terms())
    app.middlewares.insert(0, house.attend)
    app.on_response_prepare.append(house.add_headers)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    await _Site(runner, house, sockets).start()
    return runner


class _Connection(web.RequestHandler):
    """One connection, from the moment it was accepted."""

    def __init__(self, house: "_House", server: web.Server, accepted: socket.socket) -> None:
        # How long it may be idle the house knows, which sees all its requests.
        options: dict[str, Any] = {"access_log": None, "keepalive_timeout": _FOREVER_S}
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._house = house
        self._accepted = accepted
        self._link: asyncio.BaseTransport | None = None
        self._request = b""
        """The fingerprint of what is under way, where all that came so far was whole requests, one after the other."""
        self._is_orderly = True
        """Whether that is so."""
        self._repeat: Repeat | None = None
        self._deadline: asyncio.TimerHandle | None = None
        """Of an answer that was sent again, while the client reads it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._link = transport
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._house.forget(self)
        self._link = None  # which leads back here: nothing but a search for garbage would find the two
        if self._deadline:
            self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        again = self._repeat
        request = fingerprint(data) if is_whole(data) else b""
        if again and request == again.fingerprint and not self.writing_paused and self._send_again(again):
            return
        self._repeat = None
        self._is_orderly = self._is_orderly and not self._request and request != b""
        self._request = request if self._is_orderly else b""
        super().data_received(data)

    def answered(self, request: web.Request, response: web.StreamResponse, rules: object) -> None:
        """Note that a request was answered, which these rules have let in."""
        self._repeat = repeat(self._request, request, response, rules) if self._request else None
        self._request = b""

    def _send_again(self, again: Repeat) -> bool:
        """Send an answer without reading its request. Returns whether that could be done."""
        transport, rules = self.transport, self._house.terms.rules()
        if transport is None or transport.is_closing() or rules is not again.rules:
            return False
        self._house.busy(self)
        is_sent = again.send(transport)
        if self.writing_paused:
            self._deadline = self._loop.call_later(WRITE_TIMEOUT_S, transport.abort)
        else:
            self._house.idle(self)
        return is_sent

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None
            self._house.idle(self)

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        # The framework's own answer to what is no HTTP passes by all that an application can set up.
        answer = super().handle_error(request, status, exc, message)
        self._house.complete(answer)
        return answer

    def hang_up(self) -> None:
        """End it kindly, unless the client has not even read what it was sent."""
        transport = self.transport
        if transport and transport.get_write_buffer_size():
            transport.abort()
        else:
            self.force_close()

    def drop(self) -> None:
        """End it at once, whatever it waits for."""
        if isinstance(self._link, asyncio.Transport):
            self._link.abort()
        else:  # the handshake, or what comes before it, finds the connection ended
            with contextlib.suppress(OSError):
                self._accepted.shutdown(socket.SHUT_RDWR)


def _most_connections() -> int:
    """Return how many connections there may be: half of the descriptors at most, since polls need theirs."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_CONNECTIONS if descriptors == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, descriptors // 2)


class _House:
    """All connections of one application, and the doors by which they come."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.sockets: tuple[socket.socket, ...] = ()
        self._open: set[_Connection] = set()
        self._idle: dict[_Connection, float] = {}
        """Since when those are without a request that have none under way, for the longest time first."""
        self._round: asyncio.TimerHandle | None = None
        self._welcomes: set[asyncio.Task[None]] = set()
        self._is_short = False
        """Whether the system has nothing left to accept a connection with, which is told once."""
        self._most = _most_connections()

    def open(self, server: web.Server, sockets: Sequence[socket.socket]) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = server
        self.sockets = tuple(sockets)
        for listening in sockets:
            listening.setblocking(False)
            self._loop.add_reader(listening, self._accept, listening)
        self._close_silent()

    def close(self) -> None:
        if self._round:
            self._round.cancel()
        for listening in self.sockets:
            self._loop.remove_reader(listening)
            listening.close()
        self.sockets = ()
        for welcome in self._welcomes:
            welcome.cancel()

    def forget(self, connection: _Connection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def busy(self, connection: _Connection) -> None:
        """Note that a request is under way."""
        self._idle.pop(connection, None)

    def idle(self, connection: _Connection) -> None:
        """Note that it was answered."""
        if connection in self._open:
            self._idle[connection] = self._loop.time()

    def _close_silent(self) -> None:
        """Close those that have been without a request for too long, now and for ever."""
        longest_ago = self._loop.time() - _SILENCE_S
        for connection in list(takewhile(lambda c: self._idle[c] < longest_ago, self._idle)):
            self.forget(connection)
            connection.hang_up()
        self._round = self._loop.call_later(_ROUND_S, self._close_silent)

    # Requests.

    @web.middleware
    async def attend(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Keep account of whose request is under way, and let no fault end more than its own request."""
        connection = cast("_Connection", request.protocol)
        self.busy(connection)
        rules = self.terms.rules()
        try:
            response = await handler(request)
        except (web.HTTPException, ConnectionError):
            raise  # the latter is a client that has left, of which the library thinks nothing
        except Exception:
            log.exception("unexpected fault", extra={"path": request.path})
            return web.Response(status=500, text="An unexpected fault of the exporter; its log says where.\n")
        else:
            connection.answered(request, response, rules)
            return response
        finally:
            self.idle(connection)

    async def add_headers(self, _request: web.Request, response: web.StreamResponse) -> None:
        self.complete(response)

    def complete(self, response: web.StreamResponse) -> None:
        """Add what stands in the head of each answer."""
        response.headers[hdrs.SERVER] = _SERVER
        response.headers.update(self.terms.headers())

    # Clients that come.

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_MOST_AT_ONCE):
            try:
                accepted, _ = listening.accept()
            except BlockingIOError:
                self._is_short = False
                return
            except OSError as error:
                if error.errno in _SHORTAGES:
                    self._wait_for_better_times(listening, error)
                    return
                continue  # that client is gone already; accept(2) has more than one word for it
            self._take(accepted)

    def _wait_for_better_times(self, listening: socket.socket, error: OSError) -> None:
        """Leave a door alone for a moment, which would be reported as ready all the while."""
        if not self._is_short:
            self._is_short = True
            log.error("cannot accept connections for now", extra={"reason": error.strerror})
        for _ in range(_MOST_AT_ONCE):
            self._drop_one()
        self._loop.remove_reader(listening)
        self._loop.call_later(_BETTER_TIMES_S, self._open_again, listening)

    def _open_again(self, listening: socket.socket) -> None:
        if listening in self.sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def _take(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        connection = _Connection(self, self._server, accepted)
        self._open.add(connection)
        self._idle[connection] = self._loop.time()
        if len(self._open) > self._most:
            self._drop_one()
        welcome = self._loop.create_task(self._welcome(accepted, connection))
        self._welcomes.add(welcome)
        welcome.add_done_callback(self._welcomes.discard)

    def _drop_one(self) -> None:
        """Drop who is without a request for the longest time: nobody, where each has one under way."""
        longest = next(iter(self._idle), None)
        if longest:
            self.forget(longest)
            longest.drop()

    async def _welcome(self, accepted: socket.socket, connection: _Connection) -> None:
        is_in = False
        try:
            is_in = await self._meet(accepted, connection)
        except OSError as error:  # those of TLS and of time are such
            reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
            log.debug("a connection came to nothing", extra={"reason": reason})
        finally:
            if not is_in:
                self.forget(connection)
                accepted.close()

    async def _meet(self, accepted: socket.socket, connection: _Connection) -> bool:
        """Make a connection ready for requests. Returns whether it is; raises OSError."""
        if self.terms.context() is None:
            await self._loop.connect_accepted_socket(lambda: connection, accepted)
            return True
        begun = self._loop.time()
        async with asyncio.timeout(_HANDSHAKE_S):
            await self._readable(accepted)
        first = accepted.recv(1, socket.MSG_PEEK)
        if first and first != _TLS_BEGINS:
            _say_that_it_is_tls(accepted)
        if first != _TLS_BEGINS:
            return False
        await self._loop.connect_accepted_socket(
            lambda: connection,
            accepted,
            ssl=self.terms.context(),
            ssl_handshake_timeout=max(_HANDSHAKE_S - (self._loop.time() - begun), 0.1),
            ssl_shutdown_timeout=_GOODBYE_S,
        )
        return True

    async def _readable(self, accepted: socket.socket) -> None:
        readable = asyncio.Event()
        self._loop.add_reader(accepted, readable.set)
        try:
            await readable.wait()
        finally:
            self._loop.remove_reader(accepted)


def _say_that_it_is_tls(accepted: socket.socket) -> None:
    """Answer a client that speaks plain HTTP where TLS is spoken, as others do whose scrapes Prometheus makes."""
    accepted.recv(65536)  # unread, it would make the end a reset, which may overtake the answer
    accepted.send(_PLAIN_TO_TLS)
    accepted.shutdown(socket.SHUT_WR)


class _Site(web.BaseSite):
    """What the library's runner knows of the house."""

    def __init__(self, runner: web.AppRunner, house: _House, sockets: Sequence[socket.socket]) -> None:
        super().__init__(runner)
        self._house = house
        self._listening = sockets

    @property
    def name(self) -> str:
        return "house"

    async def start(self) -> None:
        await super().start()
        server = self._runner.server
        if server:
            # All that the runner wants of a server: `close` and `sockets`.
            self._server = cast("asyncio.AbstractServer", self._house)
            self._house.open(server, self._listening)
