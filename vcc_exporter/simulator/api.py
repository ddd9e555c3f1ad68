"""The simulated API: an HTTP server that does what the vendor's documents say, and misbehaves on command.

From the documents: paths, options, messages of a 417, keys of the JSON, Basic credentials, the content type. Chosen
here, because no page says it: `errors` is a list of strings with an empty `response` beside it; `of=tab` and
`of=cvs` give a line of keys and a line for each row; `/v2/projects` has its ids in strings ("the API mixes types").
What the options and the statistics mean is in `inbound`.

Beside the API there is `/simulator/faults`, for loopback only and without credentials, where GET lists the faults,
`PUT /simulator/faults/bank?fault=slow&seconds=5` begins one and `DELETE /simulator/faults/bank` heals it.
"""

import base64
import binascii
import hmac
import ipaddress
import itertools
import math
import socket
import ssl
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import attrgetter
from socketserver import TCPServer
from typing import Any, Final, Self, Unpack, cast
from urllib.parse import parse_qsl, urlsplit

from vcc_exporter.simulator.calls import Call, Centre, Incident, calls_of_day, day_start
from vcc_exporter.simulator.centres import CENTRES
from vcc_exporter.simulator.faults import (
    FAULTS,
    INCIDENTS,
    UNAUTHORIZED,
    Exchange,
    Options,
    Reply,
    described,
    document,
    refusal,
)
from vcc_exporter.simulator.inbound import ArgumentError, Query, parse_query, rows

STATISTICS: Final = "/v2/statistics/inbound"
PROJECTS: Final = "/v2/projects"
CONTROL: Final = "/simulator/faults"

SEPARATORS: Final = {"tab": "\t", "cvs": ","}
CACHED_DAYS: Final = 160
"""A month of the four centres and some more; a day of 700 calls takes some 200 kB."""
REMEMBERED_REQUESTS: Final = 10_000
FIRST_YEAR: Final = 1970
"""Earlier dates have no calls."""
MOST: Final = 1_000_000
"""The largest number that the control endpoint takes."""
TWO_DAYS_S: Final = 2 * 86_400
STOP_POLL_S: Final = 0.05
"""How long the accepting thread may take to notice that it shall stop."""
BACKLOG: Final = 512
"""Connections that may wait to be accepted: benchmarks open hundreds at once."""

Answer = Sequence[object] | Reply
"""Rows as they are to be sent, or a whole reply."""


def system_now() -> datetime:
    """Read the system's clock: the default where no other one is injected."""
    return datetime.fromtimestamp(time.time_ns() / 1e9, UTC)


@dataclass(slots=True)
class Seen:
    """A request to the API as it was received."""

    at: datetime
    customer: str
    """The user of its credentials, known or not."""
    path: str
    """With the query."""
    status: int | None = None
    """As answered; None until then, and for ever where no reply was sent as a whole."""


@dataclass(slots=True)
class _Active:
    """A fault under way; `left` counts down the requests that it may still spoil."""

    fault: str
    options: Options
    left: float


class Simulator:
    """The API of several call centres on one port; the user of the credentials says which of them is asked.

    A context manager, or `start` and `stop`. `now` is called for each request and must give aware times; what has
    ended by then is in the answers. Every method may be called from any thread; those that take a customer raise
    LookupError, in words for the user, for one that is not among `centres`.
    """

    def __init__(
        self,
        centres: Sequence[Centre] = CENTRES,
        *,
        now: Callable[[], datetime] = system_now,
        seed: int = 1,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.centres: Final = {centre.customer: centre for centre in centres}
        self.host: Final = host
        self.port = port
        """As asked for; once started the true one."""
        self.now: Final = now
        self.ssl_context: Final = ssl_context
        self._seed = seed
        self._keys = {centre.customer: centre.key for centre in centres}
        self._answers: dict[tuple[str, str], Answer | Callable[[Mapping[str, str]], Answer]] = {}
        self._faults: dict[str, _Active] = {}
        self._incidents: dict[str, tuple[tuple[str, Incident], ...]] = dict.fromkeys(self.centres, ())
        self._lock = threading.Lock()
        self._seen: deque[Seen] = deque(maxlen=REMEMBERED_REQUESTS)
        self._day = lru_cache(maxsize=CACHED_DAYS)(calls_of_day)
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Bind and serve in the background; raises OSError where the port cannot be had."""
        self._server = _Server(self)
        self.port = self._server.server_address[1]
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(STOP_POLL_S,), name="simulator", daemon=True).start()

    def stop(self) -> None:
        """Close the port and every connection at once, whatever is under way there."""
        if self._server:
            self._server.stop()
            self._server = None

    @property
    def url(self) -> str:
        """The address of the API, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.ssl_context else 'http'}://{host}:{self.port}"

    @property
    def requests(self) -> tuple[Seen, ...]:
        """The latest requests to the API, oldest first, without those to the control endpoint."""
        with self._lock:
            return tuple(self._seen)

    def misbehave(self, customer: str, fault: str, **options: Unpack[Options]) -> None:
        """Begin a fault or an incident; raises LookupError, in words, also for an unknown fault.

        A fault takes the place of the customer's last one. Incidents begin now and add up.
        """
        self._known(customer)
        if fault in FAULTS:
            with self._lock:
                self._faults[customer] = _Active(fault, options, options.get("first", math.inf))
        elif fault in INCIDENTS:
            incident = INCIDENTS[fault](self.now().timestamp(), options)
            with self._lock:
                self._incidents[customer] += ((fault, incident),)
        else:
            raise LookupError(f"no fault {fault!r}, but: {', '.join([*FAULTS, *INCIDENTS])}")

    def heal(self, customer: str) -> None:
        """End the customer's fault and incidents; calls that an incident spoilt stay as they were."""
        self._known(customer)
        now = self.now().timestamp()
        with self._lock:
            self._faults.pop(customer, None)
            self._incidents[customer] = tuple(
                (name, replace(incident, until=min(incident.until, now)))
                for name, incident in self._incidents[customer]
            )

    def answer(
        self, customer: str, answer: Answer | Callable[[Mapping[str, str]], Answer], path: str = STATISTICS
    ) -> None:
        """Serve this instead of simulated calls, to well-formed requests for the path with the right key.

        A function is called with the options of each request. Rows are sent as they are, whatever was asked.
        """
        self._known(customer)
        self._answers[customer, path] = answer

    def rekey(self, customer: str, key: str) -> None:
        """Change the customer's key."""
        self._known(customer)
        self._keys[customer] = key

    def active(self, customer: str) -> list[str]:
        """Name what goes wrong for the customer now."""
        self._known(customer)
        now = self.now().timestamp()
        active = self._faults.get(customer)
        return ([active.fault] if active else []) + [
            name for name, incident in self._incidents[customer] if incident.covers(now)
        ]

    def calls(self, customer: str, first: date, last: date) -> Iterator[Call]:
        """Give the calls of those local dates that have ended by now, day by day as they ended."""
        centre, now = self._known(customer), self.now().timestamp()
        incidents = tuple(incident for _, incident in self._incidents[customer])
        for ordinal in range(first.toordinal(), last.toordinal() + 1):
            day = date.fromordinal(ordinal)
            if day.year < FIRST_YEAR or (start := day_start(day, centre.zone)) > now:
                continue
            those = tuple(i for i in incidents if i.since < start + TWO_DAYS_S and i.until > start)
            calls = self._day(centre, day, self._seed, those)
            yield from calls[: bisect_right(calls, now, key=attrgetter("ended"))]

    def receive(self, customer: str, path: str) -> Seen:
        """Write down a request."""
        seen = Seen(self.now(), customer, path)
        with self._lock:
            self._seen.append(seen)
        return seen

    def reply(self, method: str, target: str, credentials: tuple[str, str]) -> Reply:
        """Answer a request to the API as if no fault were under way."""
        _, _, path, text, _ = urlsplit(target)
        customer, key = credentials
        if path not in {STATISTICS, PROJECTS}:
            return refusal(404, "error.not_found")
        if method != "GET":
            return refusal(405, "error.method_not_allowed", Allow="GET")
        if customer not in self._keys or not hmac.compare_digest(self._keys[customer].encode(), key.encode()):
            return UNAUTHORIZED
        try:
            query = parse_query(text) if path == STATISTICS else None
        except ArgumentError as error:
            return refusal(417, str(error))
        answer = self._answers.get((customer, path))
        if callable(answer):
            answer = answer(dict(parse_qsl(text)))
        if answer is None:
            answer = self._rows(customer, query) if query else self._projects(customer)
        return answer if isinstance(answer, Reply) else Reply(200, _written(answer, query.of if query else "json"))

    def take_fault(self, customer: str, target: str) -> tuple[str, Options] | None:
        """Tell what shall go wrong with this request, and count it where a fault is only for the first few."""
        with self._lock:
            active = self._faults.get(customer)
            if active is None or active.options.get("path", "") not in target.partition("?")[0]:
                return None
            active.left -= 1
            if active.left <= 0:
                del self._faults[customer]
            return active.fault, active.options

    def _known(self, customer: str) -> Centre:
        if customer not in self.centres:
            raise LookupError(f"no customer {customer!r}, but: {', '.join(self.centres)}")
        return self.centres[customer]

    def _rows(self, customer: str, query: Query) -> Sequence[object]:
        asked = (
            call
            for call in self.calls(customer, query.first, query.last)
            if (query.projects is None or call.project in query.projects)
            and (query.teams is None or call.team in query.teams)
        )
        return rows(asked, query.dimensions, query.sla_s)

    def _projects(self, customer: str) -> Sequence[object]:
        common = {"status": "active", "folderid": "1", "container": "0", "folder": "Inbound"}
        return [{"projectid": str(p.id), "name": p.name} | common for p in self.centres[customer].projects]


def _written(records: Sequence[object], of: str) -> bytes:
    """Write rows in an output format of the API; what is no object can be in JSON only."""
    if of == "json":
        return document(records)
    lines = [record for record in records if isinstance(record, Mapping)]
    cells = itertools.chain(lines[:1], (line.values() for line in lines))
    return "".join(SEPARATORS[of].join(map(str, line)) + "\n" for line in cells).encode()


# --- The control endpoint ------------------------------------------------------------------------------------


def _amount(text: str) -> float:
    amount = float(text)
    if not 0 <= amount <= MOST:
        raise ValueError(f"{text} is not between 0 and {MOST}")
    return amount


def _whole(text: str) -> int:
    return int(_amount(text))


def _path(text: str) -> str:
    if text not in {"statistics", "projects"}:
        raise ValueError(f"no path {text!r}, but: statistics, projects")
    return text


PARAMETERS: Final[dict[str, Callable[[str], Any]]] = {
    "path": _path,
    "first": _whole,
    "seconds": _amount,
    "message": str,
    "agents": _whole,
    "factor": _amount,
}
"""How each of `Options` is read from a query; ValueError, in words, where it cannot be."""


def _options(given: Mapping[str, str]) -> Options:
    if unknown := given.keys() - PARAMETERS.keys():
        raise ValueError(f"no option {min(unknown)!r}, but: {', '.join(PARAMETERS)}")
    return cast("Options", {name: PARAMETERS[name](value) for name, value in given.items()})


def control(simulator: Simulator, method: str, target: str) -> Reply:
    """Answer a request to `/simulator/faults` or `/simulator/faults/<customer>`, in plain text."""
    _, _, path, text, _ = urlsplit(target)
    customer, options = path.removeprefix(CONTROL).strip("/"), dict(parse_qsl(text))
    try:
        if method == "PUT":
            fault = options.pop("fault", "")
            simulator.misbehave(customer, fault, **_options(options))
        elif method == "DELETE":
            simulator.heal(customer)
        elif method != "GET":
            return Reply(405, b"GET, PUT or DELETE\n", (("Allow", "GET, PUT, DELETE"),))
        customers = [customer] if customer else list(simulator.centres)
        state = [f"{name}: {', '.join(simulator.active(name)) or 'all is well'}" for name in customers]
    except LookupError as error:
        return Reply(404, f"{error}\n".encode())
    except ValueError as error:
        return Reply(400, f"{error}\n".encode())
    words = [] if customer else ["", *(f"{name}: {described(name)}" for name in (*FAULTS, *INCIDENTS))]
    return Reply(200, "".join(f"{line}\n" for line in state + words).encode())


# --- HTTP ----------------------------------------------------------------------------------------------------


def _credentials(header: str) -> tuple[str, str]:
    """Read user and key from an Authorization header; empty where it is none for Basic."""
    scheme, _, coded = header.partition(" ")
    try:
        text = base64.b64decode(coded, validate=True).decode() if scheme.lower() == "basic" else ""
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    user, _, key = text.partition(":")
    return user, key


class _Server(ThreadingHTTPServer):
    """A thread for each connection, and a list of them, so that none can hold up the end."""

    request_queue_size = BACKLOG
    allow_reuse_port = False

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.address_family = socket.AF_INET6 if ":" in simulator.host else socket.AF_INET
        self._connections: set[socket.socket] = set()
        self._stopping = False
        super().__init__((simulator.host, simulator.port), _Handler)
        if simulator.ssl_context:
            # The handshake is left to the connection's thread: a client that stalls in it stops nobody else.
            self.socket = simulator.ssl_context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    def server_bind(self) -> None:
        """Bind without the base class's look-up of the host's name, which can take seconds."""
        TCPServer.server_bind(self)

    def opened(self, connection: socket.socket) -> None:
        """Remember a connection; one that comes while the server stops is cut at once."""
        self._connections.add(connection)
        if self._stopping:
            self._cut(connection)

    def closed(self, connection: socket.socket) -> None:
        """Forget a connection."""
        self._connections.discard(connection)

    def stop(self) -> None:
        """End all threads."""
        self._stopping = True
        for connection in list(self._connections):
            self._cut(connection)
        self.shutdown()
        self.server_close()

    @staticmethod
    def _cut(connection: socket.socket) -> None:
        # The plain socket's method: that of TLS takes the state away under a thread that reads from it.
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        """Begin."""
        super().setup()
        self.server.opened(self.connection)

    def handle(self) -> None:
        """Answer requests until the client goes, which may be at any point."""
        with suppress(OSError):
            super().handle()

    def finish(self) -> None:
        """End."""
        self.server.closed(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def respond(self) -> None:
        """Answer one request."""
        simulator = self.server.simulator
        if urlsplit(self.path).path.startswith(CONTROL):
            local = ipaddress.ip_address(self.client_address[0]).is_loopback
            self._send(control(simulator, self.command, self.path) if local else Reply(403, b"loopback only\n"))
            return
        authorization = self.headers.get("Authorization", "")
        user, key = _credentials(authorization)
        seen = simulator.receive(user, self.path)
        reply: Reply | None = simulator.reply(self.command, self.path, (user, key))
        if reply and (fault := simulator.take_fault(user, self.path)):
            name, options = fault
            exchange = Exchange(self.connection, authorization, (user, key), reply, seen.at, options)
            reply = FAULTS[name](exchange)
        if reply is None:
            self.close_connection = True
        else:
            seen.status = reply.status
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        """Send head and body in one write: apart, Nagle's algorithm would hold the second back."""
        if self.command != "GET":  # its body, if it has one, is not read
            self.close_connection = True
            reply = replace(reply, headers=(*reply.headers, ("Connection", "close")))
        self.wfile.write(reply.head() + (b"" if self.command == "HEAD" else reply.body))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = respond  # noqa: N815 - the base's names
