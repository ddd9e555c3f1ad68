"""The API's sockets: a port for each customer, requests that are held, and what became of each.

One thread serves all. Whatever happens is put down as events, in order, for the oracle. A request that is to take a
while is held until `release`: no time passes here by itself.
"""

import asyncio
import base64
import re
import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast
from urllib.parse import parse_qsl

from tools.soak.accounts import Account, Question, Reply

T = TypeVar("T")

PATIENCE_S: Final = 60
"""Of real time: what takes longer has hung."""
_MOST_HELD_LOOKUPS: Final = 8
"""The exporter has threads for twice as many."""


class HungError(Exception):
    """Something that does not come to rest."""


@dataclass(eq=False, slots=True)
class Exchange:
    """One request, and what became of it."""

    customer: str
    target: str
    user: str
    key: str
    question: Question | None
    at: datetime
    """When it came."""
    at_s: float
    """The same on the clock that never jumps."""
    connection: int
    fresh: bool
    """Whether it is the first on its connection."""
    reply: Reply
    outcome: str = "held"
    """Then `answered`, or `closed` by us, or `dropped` by the asker."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a request."""

    arrived: bool
    """Else it ended."""
    exchange: Exchange


@dataclass
class Site:
    """Where one customer's API is."""

    account: Account
    port: int
    reserved: socket.socket
    """Keeps the port while nobody listens."""
    server: asyncio.Server | None = None
    connections: set["_Connection"] = field(default_factory=set)


class Api:
    """All customers' sites. Public methods are called by the thread that moves the clock."""

    def __init__(self, now: Callable[[], tuple[datetime, float]], changed: threading.Condition) -> None:
        """Make the API; `changed` is told of every event."""
        self.sites: dict[str, Site] = {}
        self.now = now
        self._changed = changed
        self._events: list[Event] = []
        self.held: list[Exchange] = []
        """Those under way, oldest first."""
        self._waiting: dict[Exchange, _Connection] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self.sites:
            self.close(name)
        self._call(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()
        for site in self.sites.values():
            site.reserved.close()

    def add(self, account: Account) -> str:
        """Give an account a place and listen there. Returns its address."""
        reserved = _bound(0)
        self.sites[account.name] = Site(account, reserved.getsockname()[1], reserved)
        self.open(account.name)
        return f"http://127.0.0.1:{self.sites[account.name].port}"

    def open(self, name: str) -> None:
        """Listen."""
        site = self.sites[name]
        if site.server is None:
            site.server = self._call(self._listen(site))

    def close(self, name: str) -> None:
        """Listen no more, and end all connections: who comes now is refused."""
        site = self.sites[name]
        if site.server:
            self._call(self._leave(site))

    def events(self) -> list[Event]:
        """Return what has happened since the last time."""
        with self._changed:
            events, self._events = self._events, []
            return events

    def busy(self, name: str) -> bool:
        """Tell whether a request of a customer is under way."""
        return any(exchange.customer == name for exchange in self.held)

    def release(self, exchange: Exchange) -> None:
        """Answer a request that was held."""
        self._call(self._release(exchange))

    def wait_for_drops(self, doomed: list[Exchange]) -> None:
        """Wait until the askers have given these requests up."""
        with self._changed:
            gone = self._changed.wait_for(lambda: not any(e in self._waiting for e in doomed), PATIENCE_S)
        if not gone:
            raise HungError(f"requests are not given up: {[e.target for e in doomed]}")

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    # What follows runs in the API's own thread.

    async def _listen(self, site: Site) -> asyncio.Server:
        return await self._loop.create_server(lambda: _Connection(self, site), sock=_bound(site.port), backlog=64)

    async def _leave(self, site: Site) -> None:
        if site.server:
            site.server.close()
            site.server = None
        while site.connections:
            for connection in site.connections:
                connection.transport.abort()
            await asyncio.sleep(0)

    async def _release(self, exchange: Exchange) -> None:
        connection = self._waiting.get(exchange)
        if connection:
            self._end(exchange, "answered")
            connection.send(exchange.reply)

    def received(self, connection: "_Connection", head: bytes) -> None:
        """Answer a request, or hold it."""
        exchange = self._exchange(connection, head)
        waits = exchange.reply.wait_s is not None
        with self._changed:
            self._events.append(Event(arrived=True, exchange=exchange))
            if waits:
                self.held.append(exchange)
                self._waiting[exchange] = connection
            else:
                exchange.outcome = "answered" if exchange.reply.payload else "closed"
                self._events.append(Event(arrived=False, exchange=exchange))
            self._changed.notify_all()
        if not waits:
            connection.send(exchange.reply)
        elif exchange.reply.kind == "never":
            connection.transport.write(exchange.reply.payload)

    def lost(self, connection: "_Connection") -> None:
        """Put down what the end of a connection has ended."""
        for exchange in [e for e, c in self._waiting.items() if c is connection]:
            self._end(exchange, "dropped")

    def _end(self, exchange: Exchange, outcome: str) -> None:
        with self._changed:
            exchange.outcome = outcome
            self.held.remove(exchange)
            del self._waiting[exchange]
            self._events.append(Event(arrived=False, exchange=exchange))
            self._changed.notify_all()

    def _exchange(self, connection: "_Connection", head: bytes) -> Exchange:
        lines = head.decode("latin-1").split("\r\n")
        target = lines[0].split(" ")[1]
        credentials = re.search("(?i)\r\nauthorization: basic (\\S+)", head.decode("latin-1"))
        user, _, key = base64.b64decode(credentials[1] if credentials else "").decode().partition(":")
        question, (now, now_s) = _question(target), self.now()
        account = connection.site.account
        lookup = question is None or question.first < question.last
        patient = not lookup or len(self.held) < _MOST_HELD_LOOKUPS
        reply = account.reply(target.partition("?")[0], question, key, now, patient)
        fresh, connection.used = not connection.used, True
        return Exchange(account.name, target, user, key, question, now, now_s, id(connection), fresh, reply)


def _bound(port: int) -> socket.socket:
    """Return a socket on a port of loopback, which several may share but only one listens on."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    return made


def _question(target: str) -> Question | None:
    """Read what a statistics request asks; None for any other."""
    path, _, query = target.partition("?")
    if path != "/v2/statistics/inbound":
        return None
    given = dict(parse_qsl(query))
    first, last = (datetime.strptime(given[key], "%Y%m%d").replace(tzinfo=UTC).date() for key in ("from", "to"))
    return Question(first, last, frozenset(map(int, filter(None, given.get("projects", "").split(",")))))


class _Connection(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self, api: Api, site: Site) -> None:
        self.site = site
        self.used = False
        self._api = api
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.site.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base's
        self.site.connections.discard(self)
        self._api.lost(self)

    def data_received(self, data: bytes) -> None:
        self._got += data
        while b"\r\n\r\n" in self._got:
            head, _, self._got = self._got.partition(b"\r\n\r\n")
            self._api.received(self, head)

    def send(self, reply: Reply) -> None:
        """Send an answer, and end the connection where the answer is to end so."""
        if reply.payload:
            self.transport.write(reply.payload)
        if reply.close:
            self.transport.close()
