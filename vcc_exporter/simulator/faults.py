"""Misbehaviour on command: what can go wrong between the exporter and the API, one function each.

A fault is a function of an `Exchange`. It returns the reply to send instead of the true one, or writes to the
connection by itself and returns None, after which the connection is closed. The first line of its docstring is
what a user reads in the list of faults. Whoever waits here waits in `Exchange.pause`, which ends at once when the
client leaves or the simulator stops.

An incident is a fault of the call centre, not of the API: the answers stay correct, the calls get worse.
"""

import json
import selectors
import socket
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from http import HTTPStatus
from http.client import responses
from typing import Any, Final, TypedDict

from vcc_exporter.simulator.calls import Incident
from vcc_exporter.simulator.inbound import FORMAT_ERROR

BLOCK: Final = b" " * 65536
HUGE_BYTES: Final = 500_000_000
BOMB_BYTES: Final = 200_000_000
NESTED: Final = 100_000
HEADERS: Final = 10_000
DIGITS: Final = 5000
"""More than CPython converts to a number by default (4,300)."""


class Options(TypedDict, total=False):
    """What can be said about a fault; one that has no use for an option ignores it."""

    path: str
    """Only requests for `statistics` or for `projects`; default: both."""
    first: int
    """Only that many requests, then all is well; default: until healed."""
    seconds: float
    """How long `slow` waits, between two bytes of a drip, or until `Retry-After`."""
    message: str
    """Which message `rejected` gives."""
    agents: int
    """How many agents are missing, for `understaffed`."""
    factor: float
    """How many times as many calls come, for `surge`."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer. Content type and length are added where `headers` lack them."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    def head(self) -> bytes:
        """Write the status line and the headers, up to the empty line."""
        defaults = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(self.body))}
        given = {name for name, _ in self.headers}
        pairs = [pair for pair in defaults.items() if pair[0] not in given] + list(self.headers)
        lines = [f"HTTP/1.1 {self.status} {responses.get(self.status, 'Other')}", *(f"{k}: {v}" for k, v in pairs)]
        return "\r\n".join([*lines, "", ""]).encode()


def document(response: object, errors: Iterable[str] = ()) -> bytes:
    """Write the API's JSON."""
    return json.dumps({"response": response, "errors": list(errors)}).encode()


def refusal(status: int, message: str, **headers: str) -> Reply:
    """Make an error as the API gives it; `Retry_After` among the keywords is the header Retry-After."""
    return Reply(status, document([], [message]), tuple((k.replace("_", "-"), v) for k, v in headers.items()))


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request whose answer is to go wrong."""

    connection: socket.socket
    authorization: str
    """The header as received."""
    credentials: tuple[str, str]
    """User and key as received."""
    reply: Reply
    """What would be answered if all were well."""
    now: datetime
    options: Options

    def rows(self) -> list[dict[str, Any]]:
        """Give the rows of the true answer, none where it is an error or no JSON."""
        if self.reply.status != HTTPStatus.OK or not self.reply.body.startswith(b"{"):
            return []
        rows: list[dict[str, Any]] = json.loads(self.reply.body)["response"]
        return rows

    def pause(self, seconds: float | None) -> None:
        """Wait that long, None for ever; raises ConnectionAbortedError when the client or the simulator goes.

        A client that waits for an answer sends nothing, so anything to be read is the end of the connection.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            if selector.select(seconds):
                raise ConnectionAbortedError

    def drip(self, pieces: Iterable[bytes]) -> None:
        """Send the pieces with a pause after each."""
        for piece in pieces:
            self.connection.sendall(piece)
            self.pause(self.options.get("seconds", 0.2))


def _bytes(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def _reset(connection: socket.socket) -> None:
    """Have the connection end with RST instead of FIN once its last user lets go."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# --- Refusals ------------------------------------------------------------------------------------------------


UNAUTHORIZED: Final = refusal(401, "error.unauthorized", WWW_Authenticate='Basic realm="VCC"')


def unauthorized(_: Exchange) -> Reply:
    """Answer 401, as for a wrong key."""
    return UNAUTHORIZED


def forbidden(_: Exchange) -> Reply:
    """Answer 403, as for an address that is not registered or a key without the resource."""
    return refusal(403, "error.forbidden")


def rejected(exchange: Exchange) -> Reply:
    """Answer 417 with a documented message (message=, default error.argument_format_error)."""
    return refusal(417, exchange.options.get("message", FORMAT_ERROR))


def rate_limited(exchange: Exchange) -> Reply:
    """Answer 429 with Retry-After in seconds (seconds=, default 30)."""
    return refusal(429, "error.too_many_requests", Retry_After=f"{exchange.options.get('seconds', 30):.0f}")


def server_error(_: Exchange) -> Reply:
    """Answer 500."""
    return refusal(500, "error.internal")


def unavailable(exchange: Exchange) -> Reply:
    """Answer 503 with Retry-After as a date (seconds= from now, default 30)."""
    then = exchange.now.astimezone(UTC) + timedelta(seconds=exchange.options.get("seconds", 30))
    return refusal(503, "error.unavailable", Retry_After=format_datetime(then, usegmt=True))


def proxy_auth(_: Exchange) -> Reply:
    """Answer 407, as from a proxy on the way."""
    return refusal(407, "error.proxy", Proxy_Authenticate='Basic realm="proxy"')


def echo_key(exchange: Exchange) -> Reply:
    """Answer 417 with a message that repeats the credentials that came with the request."""
    user, key = exchange.credentials
    return refusal(417, f"{FORMAT_ERROR}: user {user}, key {key}, Authorization: {exchange.authorization}")


def redirect(_: Exchange) -> Reply:
    """Answer 302 to /elsewhere on this server."""
    return Reply(302, b"", (("Location", "/elsewhere"),))


# --- Time and connection -------------------------------------------------------------------------------------


def slow(exchange: Exchange) -> Reply:
    """Give the true answer, but late (seconds=, default 30)."""
    exchange.pause(exchange.options.get("seconds", 30))
    return exchange.reply


def silent(exchange: Exchange) -> None:
    """Never answer."""
    exchange.pause(None)


def drip_headers(exchange: Exchange) -> None:
    """Send a header that goes on for ever, one byte at a time (seconds= between bytes, default 0.2)."""
    exchange.connection.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    exchange.drip(iter(lambda: b".", b""))


def drip_body(exchange: Exchange) -> None:
    """Give the true answer, its body one byte at a time (seconds= between bytes, default 0.2)."""
    exchange.connection.sendall(exchange.reply.head())
    exchange.drip(_bytes(exchange.reply.body))


def reset(exchange: Exchange) -> None:
    """Reset the connection before an answer."""
    _reset(exchange.connection)


def reset_body(exchange: Exchange) -> None:
    """Reset the connection in the middle of the body."""
    exchange.connection.sendall(exchange.reply.head() + exchange.reply.body[: len(exchange.reply.body) // 2])
    _reset(exchange.connection)


def short_body(exchange: Exchange) -> None:
    """Close the connection one byte before the announced end of the body."""
    exchange.connection.sendall(exchange.reply.head() + exchange.reply.body[:-1])


# --- Sizes ---------------------------------------------------------------------------------------------------


def huge(exchange: Exchange) -> None:
    """Send a body of 500 MB."""
    head = Reply(200, b"", (("Content-Length", str(HUGE_BYTES)),)).head()
    exchange.connection.sendall(head)
    for start in range(0, HUGE_BYTES, len(BLOCK)):
        exchange.connection.sendall(BLOCK[: HUGE_BYTES - start])


def endless_body(exchange: Exchange) -> None:
    """Send a chunked body without end."""
    exchange.connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK)
    while True:
        exchange.connection.sendall(chunk)


@cache
def _bomb() -> bytes:
    squeeze = zlib.compressobj(1, wbits=31)
    return b"".join([*(squeeze.compress(BLOCK) for _ in range(BOMB_BYTES // len(BLOCK))), squeeze.flush()])


def gzip_bomb(_: Exchange) -> Reply:
    """Send a gzip body of a few hundred kB that unpacks to 200 MB."""
    return Reply(200, _bomb(), (("Content-Encoding", "gzip"),))


def many_headers(exchange: Exchange) -> Reply:
    """Give the true answer under 10,000 headers."""
    extra = tuple((f"X-Extra-{number}", "x") for number in range(HEADERS))
    return Reply(exchange.reply.status, exchange.reply.body, exchange.reply.headers + extra)


def deep_json(_: Exchange) -> Reply:
    """Send JSON nested 100,000 deep."""
    return Reply(200, b'{"response": %b%b, "errors": []}' % (b"[" * NESTED, b"]" * NESTED))


def big_numbers(exchange: Exchange) -> Reply:
    """Send the true rows, the first one with a number of 5,000 digits."""
    first, *others = exchange.rows() or [{"projectid": 1, "queueid": 1}]
    body = document([first | {"talk_time": "BIG"}, *others])
    return Reply(200, body.replace(b'"BIG"', b"9" * DIGITS))


# --- Content -------------------------------------------------------------------------------------------------


def html(_: Exchange) -> Reply:
    """Answer 200 with a login page."""
    page = b"<!DOCTYPE html><title>Sign in</title><form method=post><input name=user></form>"
    return Reply(200, page, (("Content-Type", "text/html; charset=utf-8"),))


def not_json(exchange: Exchange) -> Reply:
    """Send the true rows with a comma before the last brace, as in the example on the vendor's page."""
    return Reply(200, document(exchange.rows())[:-1] + b",}")


def wrong_shape(exchange: Exchange) -> Reply:
    """Send JSON whose response is an object where a list of rows is documented."""
    return Reply(200, document({"rows": exchange.rows()}))


def errors_in_200(exchange: Exchange) -> Reply:
    """Answer 200 with the true rows and an error beside them."""
    return Reply(200, document(exchange.rows(), ["error.internal"]))


def half(exchange: Exchange) -> Reply:
    """Send the first half of the true body, announced as if it were whole."""
    body = exchange.reply.body
    return Reply(200, body[: len(body) // 2])


def other_day(exchange: Exchange) -> Reply:
    """Send the true rows, each dated one day early."""
    return Reply(200, document([row | {"date": _eve(row.get("date"), exchange.now)} for row in exchange.rows()]))


def _eve(yyyymmdd: int | None, now: datetime) -> int:
    day = date.fromisoformat(str(yyyymmdd)) if yyyymmdd else now.date()
    return int(f"{day - timedelta(days=1):%Y%m%d}")


def bad_rows(exchange: Exchange) -> Reply:
    """Send the true rows, and others of which each is unusable in another way."""
    rows = exchange.rows()
    good = rows[0] if rows else {"projectid": 1, "queueid": 1, "date": int(f"{exchange.now:%Y%m%d}")}
    spoilt: tuple[dict[str, Any], ...] = (
        {"projectid": None},
        {"projectid": "none"},
        {"queueid": 3.5},
        {"queueid": True},
        {"date": 19991231},
        {"queueid": 990001, "talk_time": "n/a"},
        {"queueid": 990002, "talk_time": False},
        {"queueid": 990003, "talk_time": [7]},
        {"queueid": 990004, "talk_time": "INFINITE"},
        {},
    )
    lacking = {key: value for key, value in good.items() if key != "queueid"}
    body = document([*rows, None, "row", [], lacking, *(good | change for change in spoilt)])
    return Reply(200, body.replace(b'"INFINITE"', b"1e999"))


FAULTS: Final[dict[str, Callable[[Exchange], Reply | None]]] = {
    fault.__name__: fault
    for fault in (
        *(unauthorized, forbidden, rejected, rate_limited, server_error, unavailable, proxy_auth, echo_key, redirect),
        *(slow, silent, drip_headers, drip_body, reset, reset_body, short_body),
        *(huge, endless_body, gzip_bomb, many_headers, deep_json, big_numbers),
        *(html, not_json, wrong_shape, errors_in_200, half, other_day, bad_rows),
    )
}
"""What can go wrong with the API, by name."""


# --- Incidents -----------------------------------------------------------------------------------------------


def calls_stopped(since: float, _: Options) -> Incident:
    """Let no call come in any more, as with a dead trunk."""
    return Incident(since, arrivals=0)


def surge(since: float, options: Options) -> Incident:
    """Let many times as many calls come in (factor=, default 3)."""
    return Incident(since, arrivals=options.get("factor", 3))


def understaffed(since: float, options: Options) -> Incident:
    """Take some of the agents away (agents=, default 2)."""
    return Incident(since, agents=-options.get("agents", 2))


INCIDENTS: Final[dict[str, Callable[[float, Options], Incident]]] = {
    incident.__name__: incident for incident in (calls_stopped, surge, understaffed)
}
"""What can go wrong in a call centre, by name."""


def described(name: str) -> str:
    """Give the words for a fault or an incident."""
    return str(({**FAULTS, **INCIDENTS}[name].__doc__ or "").splitlines()[0])
