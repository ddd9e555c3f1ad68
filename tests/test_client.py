"""The client against real sockets: what goes out, what comes back, and every way to fail as one of nine results."""

import base64
import errno
import gc
import gzip
import json
import os
import socket
import ssl
import threading
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from http.client import parse_headers
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psutil
import pytest
import trustme
from garbage import left_by, left_lying
from hostile import (
    CHUNKED,
    HEAD,
    Handle,
    close,
    crowded,
    drip,
    flood,
    hang,
    nobody,
    over_tls,
    relay,
    reset,
    status,
    then,
    tunnel,
    zeros,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from leaks import leaks
from requests import RequestException
from requests.adapters import HTTPAdapter
from running import eventually
from support import SetClock, http_response, make_customer, raw_server, read_request
from urllib3.exceptions import HTTPError

from vcc_exporter import __version__
from vcc_exporter.answer import AnswerError, Scope, read_statistics
from vcc_exporter.client import (
    MOST_BYTES,
    PROJECTS,
    AbandonedError,
    KeyUnreadableError,
    PollError,
    Question,
    Session,
    read_key,
)
from vcc_exporter.config import KeySource
from vcc_exporter.network import Network
from vcc_exporter.times import Clock
from vcc_exporter.vocabulary import Result

pytestmark = pytest.mark.usefixtures("no_environment")

NOW: Final = datetime(2026, 3, 11, 10, 0, tzinfo=UTC)
DAY: Final = date(2026, 3, 11)
TARGET: Final = Question(DAY, DAY, 30).target()
KEY: Final = "k3y-of-acme"
CREDENTIALS: Final = base64.b64encode(f"acme:{KEY}".encode()).decode()
GOOD: Final = b'{"response": [], "errors": []}'
GOOD_RESPONSE: Final = http_response(GOOD)
SOON: Final = {"timeout": "300ms"}
"""For requests that must meet their deadline."""
NEVER: Final = {"timeout": "10m"}
"""For requests that must end in another way."""
LIMIT_S: Final = 30
"""How long a test waits for what must happen."""

Reply = bytes | Handle
OpenSession = Callable[..., Session]


class Api:
    """Answers one request after the other with its replies, the last of them for ever, and remembers what came."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = replies
        self.heads: list[str] = []
        self.connections = 0

    def __call__(self, connection: socket.socket) -> None:
        """Serve one connection."""
        self.connections += 1
        while head := read_request(connection):
            self.heads.append(head.decode())
            reply = self.replies[min(len(self.heads), len(self.replies)) - 1]
            if isinstance(reply, bytes):
                connection.sendall(reply)
            else:
                reply(connection)
                return

    def headers(self, name: str) -> list[str | None]:
        """Return a header of each request, None where it had none."""
        parsed = (parse_headers(BytesIO(head.partition("\r\n")[2].encode())) for head in self.heads)
        return [found[name] for found in parsed]

    @property
    def request_lines(self) -> list[str]:
        """The first line of each request."""
        return [head.split("\r\n")[0] for head in self.heads]


# What the tests share.


@pytest.fixture(scope="module")
def network() -> Network:
    """Give the one network that all sessions share, as in the program."""
    return Network(Clock())


@pytest.fixture
def open_session(network: Network) -> Iterator[OpenSession]:
    """Open sessions for a port of loopback or a url, with more keys of the customer; closed with the test."""
    opened: list[Session] = []

    def open_one(port: int | None = None, key: KeySource | None = None, **keys: Any) -> Session:
        customer = make_customer(**{"url": f"http://127.0.0.1:{port}", **keys})
        opened.append(Session(replace(customer, key=key) if key else customer, network))
        return opened[-1]

    yield open_one
    for session in opened:
        session.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Give an authority that issues certificates."""
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA) -> trustme.LeafCert:
    """Give a certificate for loopback."""
    return authority.issue_cert("127.0.0.1", "localhost")


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    """Give a file that holds the authority's certificate."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def failure(session: Session, target: str = TARGET) -> PollError:
    """Return how a request fails, once it is sure that nothing of it tells a secret."""
    with pytest.raises(PollError) as caught:
        session.ask(target, NOW)
    assert_no_secret(caught.value)
    assert caught.value.message.isprintable()
    return caught.value


def outcome(session: Session) -> bytes | PollError:
    """Return what comes of a request, whichever it is."""
    try:
        return session.ask(TARGET, NOW)
    except PollError as error:
        return error


def assert_no_secret(error: BaseException) -> None:
    """Assert that neither an error nor what it came of holds the key or the credentials."""
    told = "".join(traceback.format_exception(error)) + repr(error) + str(error) + repr(vars(error))
    assert KEY not in told
    assert CREDENTIALS not in told
    assert CREDENTIALS[:12] not in told


# What goes out.

FULL: Final = Question(date(2026, 3, 1), DAY, 20, teams=(4, 3, 11), projects=(370, 4, 53), output="tab")

TARGETS: Final = {
    "from=20260311&to=20260311&dimensions=project,queue,date&manual_sla=30": Question(DAY, DAY, 30),
    "from=20260311&to=20260311&dimensions=project,queue,date&projects=4&manual_sla=20": Question(
        DAY, DAY, 20, projects=(4,)
    ),
    "from=20260301&to=20260311&dimensions=project,queue,date&teams=3,4,11&projects=4,53,370&manual_sla=20&of=tab": FULL,
    "from=20000101&to=99991231&dimensions=date&teams=0&manual_sla=86400&of=cvs": Question(
        date(2000, 1, 1), date(9999, 12, 31), 86400, teams=(0,), dimensions=("date",), output="cvs"
    ),
}


@pytest.mark.parametrize("query", TARGETS)
def test_the_request_line_is_in_the_vendors_order(query: str, open_session: OpenSession) -> None:
    """The options stand in the page's order, ids ascending, commas as they are, what is not set left out."""
    api = Api(GOOD_RESPONSE)
    with raw_server(api) as port:
        assert open_session(port).ask(TARGETS[query].target(), NOW) == GOOD
    assert api.request_lines == [f"GET /v2/statistics/inbound?{query} HTTP/1.1"]


def test_no_output_format_is_asked_for() -> None:
    """The option `of` exists and is left out unless it is set, since JSON is the default."""
    assert "&of=" not in TARGET
    assert Question(DAY, DAY, 30, output="tab").target() == f"{TARGET}&of=tab"


def test_projects_are_asked_for_by_path_alone(open_session: OpenSession) -> None:
    """The list of projects has no options."""
    api = Api(GOOD_RESPONSE)
    with raw_server(api) as port:
        open_session(port).ask(PROJECTS, NOW)
    assert api.request_lines == ["GET /v2/projects HTTP/1.1"]


def test_a_path_in_the_url_comes_first(open_session: OpenSession) -> None:
    """An API that lives below a path, as behind a gateway, is asked there."""
    api = Api(GOOD_RESPONSE)
    with raw_server(api) as port:
        open_session(url=f"http://127.0.0.1:{port}/gateway/vcc/").ask(PROJECTS, NOW)
    assert api.request_lines == ["GET /gateway/vcc/v2/projects HTTP/1.1"]


@pytest.mark.parametrize(("user", "key"), [("acme", KEY), ("ácme", "kéy-ß-鍵:with colons")])
def test_credentials_are_basic_and_utf8(user: str, key: str, open_session: OpenSession) -> None:
    """The user is the subdomain, the password the key, whatever letters they have."""
    api = Api(GOOD_RESPONSE)
    with raw_server(api) as port:
        open_session(port, subdomain=user, api_key=key).ask(TARGET, NOW)
    assert api.headers("Authorization") == ["Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()]


def test_headers_tell_who_asks_and_for_what(open_session: OpenSession) -> None:
    """The API is told the exporter's version, and that the answer may be packed."""
    api = Api(GOOD_RESPONSE)
    with raw_server(api) as port:
        open_session(port).ask(TARGET, NOW)
        assert api.headers("Host") == [f"127.0.0.1:{port}"]
    assert api.headers("User-Agent") == [f"vcc-exporter/{__version__}"]
    assert api.headers("Accept") == ["application/json, text/plain"]
    assert "gzip" in str(api.headers("Accept-Encoding"))


def test_a_netrc_file_is_ignored(open_session: OpenSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of the user who runs the exporter never replace the customer's."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login evil password evil\ndefault login evil password evil\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    api = Api(GOOD_RESPONSE)
    with raw_server(api) as port:
        open_session(port).ask(TARGET, NOW)
    assert api.headers("Authorization") == [f"Basic {CREDENTIALS}"]


def test_cookies_are_not_sent_back(open_session: OpenSession) -> None:
    """No request depends on an earlier one."""
    cookies = ("Set-Cookie: session=1; Path=/", "Set-Cookie: odd", "Set-Cookie: =;;=; expires=never; version=x")
    # On which the library prints a traceback when it reads them.
    odd = f"Set-Cookie: a=b; expires=1 1 {'1' * 5000}"
    api = Api(http_response(GOOD, "200 OK", *cookies, odd))
    with raw_server(api) as port:
        session = open_session(port)
        session.ask(TARGET, NOW)
        session.ask(TARGET, NOW)
    assert api.headers("Cookie") == [None, None]


# What comes back.

PACKED: Final = gzip.compress(GOOD)

GOOD_RESPONSES: Final[dict[str, Reply]] = {
    "text/plain": http_response(GOOD, "200 OK", "Content-Type: text/plain; charset=utf-8"),
    "an unknown charset": http_response(GOOD, "200 OK", "Content-Type: text/plain; charset=klingon"),
    "gzip": http_response(PACKED, "200 OK", "Content-Encoding: gzip"),
    "chunked": CHUNKED + b"8\r\n" + GOOD[:8] + b"\r\n16\r\n" + GOOD[8:] + b"\r\n0\r\n\r\n",
    "until the end": then(b"HTTP/1.1 200 OK\r\n\r\n" + GOOD, close),
    "HTTP/1.0": then(b"HTTP/1.0 200 OK\r\n\r\n" + GOOD, close),
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 30\r\n\r\n" + GOOD,
    "after 100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD_RESPONSE,
    "more than it announced": GOOD_RESPONSE + b"and more",
}


ON_KEPT: Final = pytest.mark.parametrize("on_kept", [False, True], ids=["on a new connection", "on a kept one"])
"""For tests whose first reply is to come to a request that the libraries send, or to one that is sent again."""


def after_others(on_kept: bool, *replies: Reply) -> Api:
    """Return an API with these replies, after a good one where they are to come on a kept connection."""
    return Api(*[GOOD_RESPONSE] * on_kept, *replies)


@ON_KEPT
@pytest.mark.parametrize("name", GOOD_RESPONSES)
def test_a_good_response_is_its_body(name: str, on_kept: bool, open_session: OpenSession) -> None:
    """However HTTP carries it, status 200 gives the body's bytes, and the next request works, too."""
    with raw_server(after_others(on_kept, GOOD_RESPONSES[name], GOOD_RESPONSE)) as port:
        session = open_session(port)
        for _ in range(2 + on_kept):
            assert session.ask(TARGET, NOW) == GOOD


def test_a_response_of_the_largest_size(open_session: OpenSession) -> None:
    """The limit itself is allowed."""
    with raw_server(Api(http_response(bytes(MOST_BYTES)))) as port:
        assert len(open_session(port).ask(TARGET, NOW)) == MOST_BYTES


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_common_http_server_is_understood(host: str, open_session: OpenSession) -> None:
    """The client works with a server that others have written, over IPv4, IPv6 and by name."""
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # the base's name
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(GOOD)))
            self.end_headers()
            self.wfile.write(GOOD)

        def log_message(self, *_: Any) -> None:
            """Be silent."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    try:
        server = Server((host, 0), Handler)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            session = open_session(url=f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}")
            assert session.ask(TARGET, NOW) == GOOD
            session.close()
        finally:
            server.shutdown()
            serving.join()
    assert asked == [(TARGET, f"Basic {CREDENTIALS}")]


# One connection.


def test_a_connection_is_kept(open_session: OpenSession) -> None:
    """Several requests share one connection."""
    api = Api(GOOD_RESPONSE)
    with raw_server(api) as port:
        session = open_session(port)
        for _ in range(3):
            session.ask(TARGET, NOW)
    assert (api.connections, len(api.heads)) == (1, 3)


def test_a_connection_is_kept_over_tls(open_session: OpenSession, certificate: trustme.LeafCert, ca_file: str) -> None:
    """A TLS handshake is made once for several requests."""
    api = Api(GOOD_RESPONSE)
    with raw_server(over_tls(certificate, api)) as port:
        session = open_session(url=f"https://127.0.0.1:{port}", ca_file=ca_file)
        for _ in range(3):
            session.ask(TARGET, NOW)
        session.close()
    assert (api.connections, len(api.heads)) == (1, 3)


@pytest.mark.parametrize("end", [close, reset])
def test_a_kept_connection_that_ends_under_a_request_is_replaced(end: Handle, open_session: OpenSession) -> None:
    """The server had closed what it kept just when it was used: the request is sent once more, on a new connection."""
    api = Api(GOOD_RESPONSE, end, GOOD_RESPONSE)
    with raw_server(api) as port:
        session = open_session(port)
        assert session.ask(TARGET, NOW) == GOOD
        assert session.ask(TARGET, NOW) == GOOD
    assert (api.connections, len(api.heads)) == (2, 3)


def test_a_kept_tls_connection_that_ends_under_a_request_is_replaced(
    open_session: OpenSession, certificate: trustme.LeafCert, ca_file: str
) -> None:
    """The same over TLS."""
    api = Api(GOOD_RESPONSE, close, GOOD_RESPONSE)
    with raw_server(over_tls(certificate, api)) as port:
        session = open_session(url=f"https://127.0.0.1:{port}", ca_file=ca_file)
        assert session.ask(TARGET, NOW) == GOOD
        assert session.ask(TARGET, NOW) == GOOD
        session.close()
    assert (api.connections, len(api.heads)) == (2, 3)


@pytest.mark.parametrize("end", [close, reset])
def test_a_kept_connection_that_has_ended_is_replaced(end: Handle, open_session: OpenSession) -> None:
    """A server that closes each connection after its answer, without saying so, is asked on new ones."""
    api = Api(then(GOOD_RESPONSE, end))
    with raw_server(api) as port:
        session = open_session(port)
        for _ in range(3):
            assert session.ask(TARGET, NOW) == GOOD
    assert (api.connections, len(api.heads)) == (3, 3)


@pytest.mark.parametrize("end", [close, reset])
def test_a_fresh_connection_that_ends_is_not_tried_again(end: Handle, open_session: OpenSession) -> None:
    """A request that has broken a connection made for it is not sent twice."""
    api = Api(end, GOOD_RESPONSE)
    with raw_server(api) as port:
        error = failure(open_session(port))
    assert (error.result, len(api.heads)) == (Result.UNREACHABLE, 1)
    assert "closed before any answer" in error.message


def test_a_request_is_sent_at_most_twice(open_session: OpenSession) -> None:
    """Where the new connection ends like the kept one, that is the result."""
    api = Api(GOOD_RESPONSE, close, close, GOOD_RESPONSE)
    with raw_server(api) as port:
        session = open_session(port)
        session.ask(TARGET, NOW)
        assert failure(session).result is Result.UNREACHABLE
        assert (api.connections, len(api.heads)) == (2, 3)
        assert session.ask(TARGET, NOW) == GOOD


def test_what_the_second_try_met_is_the_result(open_session: OpenSession) -> None:
    """That the kept connection had ended does not colour what the new one brings."""
    with raw_server(Api(GOOD_RESPONSE, close, then(b"no HTTP\r\n\r\n", close))) as port:
        session = open_session(port)
        session.ask(TARGET, NOW)
        assert failure(session).result is Result.INVALID_RESPONSE


def test_a_server_that_went_away_is_unreachable(open_session: OpenSession) -> None:
    """Where nobody listens any more the words are those of the new connection, not of the kept one."""
    with raw_server(Api(GOOD_RESPONSE)) as port:
        session = open_session(port)
        session.ask(TARGET, NOW)
    error = failure(session)
    assert error.result is Result.UNREACHABLE
    assert os.strerror(errno.ECONNREFUSED) in error.message


# Responses that are a failure: what the server sends once it has the request, the result, and words in the message.

ELSEWHERE: Final = "it leads elsewhere (a redirect): check url"

FAILURES: Final[dict[str, tuple[Reply, Result, tuple[str, ...]]]] = {
    # statuses
    "401": (status(401), Result.UNAUTHORIZED, ("HTTP 401", "subdomain or the API key is wrong")),
    "401 with words": (status(401, "no such key"), Result.UNAUTHORIZED, ("API key is wrong", "(no such key)")),
    "403": (
        status(403, "error.not_allowed"),
        Result.FORBIDDEN,
        ("HTTP 403", "key does not allow this resource", "address is not registered", "(error.not_allowed)"),
    ),
    "407": (status(407), Result.UNREACHABLE, ("HTTP 407", "proxy_url")),
    "429": (status(429), Result.RATE_LIMITED, ("HTTP 429", "poll.interval longer")),
    "417, an option": (
        status(417, "error.argument_format_error"),
        Result.REJECTED,
        ("check teams, the ids of projects and sla in the config", "(error.argument_format_error)"),
    ),
    "417, no option": (
        status(417, {"message": "error.argument_missing_or_empty: from"}),
        Result.REJECTED,
        ("the url in the config", "(error.argument_missing_or_empty: from)"),
    ),
    "417, too long": (
        status(417, ["x", "error.maximum_date_interval_reached"]),
        Result.REJECTED,
        ("make poll.lookback shorter", "error.maximum_date_interval_reached)"),
    ),
    "417, another": (status(417, "error.new"), Result.REJECTED, ("does not accept the question", "(error.new)")),
    "417, no words": (http_response(b"", "417 X"), Result.REJECTED, ("HTTP 417: the API does not accept",)),
    "400": (status(400), Result.REJECTED, ("HTTP 400",)),
    "404, a page": (http_response(b"<html>", "404 Not Found"), Result.REJECTED, ("HTTP 404",)),
    "418": (status(418), Result.REJECTED, ("HTTP 418",)),
    "499": (status(499), Result.REJECTED, ("HTTP 499",)),
    "500": (status(500, "a fault\r\n of ours"), Result.SERVER_ERROR, ("HTTP 500", "(a fault of ours)")),
    "503": (status(503), Result.SERVER_ERROR, ("HTTP 503", "fault of its own")),
    "599": (status(599), Result.SERVER_ERROR, ("HTTP 599",)),
    "301": (status(301, headers=("Location: /elsewhere",)), Result.INVALID_RESPONSE, (ELSEWHERE,)),
    "302": (status(302, headers=("Location: http://127.0.0.1:1/",)), Result.INVALID_RESPONSE, (ELSEWHERE,)),
    "302 to nowhere": (status(302, headers=("Location: http://[",)), Result.INVALID_RESPONSE, (ELSEWHERE,)),
    "302 to another kind": (status(302, headers=("Location: ftp://x/",)), Result.INVALID_RESPONSE, (ELSEWHERE,)),
    "302 to bytes": (
        HEAD[:9] + b"302 X\r\nLocation: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
        Result.INVALID_RESPONSE,
        (ELSEWHERE,),
    ),
    "302 without an end": (
        then(HEAD[:9] + b"302 X\r\nLocation: /\r\n\r\n", flood(bytes(65536))),
        Result.INVALID_RESPONSE,
        (ELSEWHERE,),
    ),
    "304": (b"HTTP/1.1 304 Not Modified\r\n\r\n", Result.INVALID_RESPONSE, ("HTTP 304",)),
    "308": (status(308, headers=("Location: /",)), Result.INVALID_RESPONSE, (ELSEWHERE,)),
    "201": (status(201), Result.INVALID_RESPONSE, ("HTTP 201", "none that the API documents")),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", Result.INVALID_RESPONSE, ("HTTP 204",)),
    "101": (b"HTTP/1.1 101 Switching\r\n\r\n", Result.INVALID_RESPONSE, ("HTTP 101",)),
    "600": (status(600), Result.INVALID_RESPONSE, ("HTTP 600",)),
    "999": (status(999), Result.INVALID_RESPONSE, ("HTTP 999",)),
    # statuses whose body is a failure of its own: the status counts
    "500, too large": (http_response(bytes(2**20), "500 X"), Result.SERVER_ERROR, ("HTTP 500",)),
    "500, endless": (then(b"HTTP/1.1 500 X\r\n\r\n", flood(bytes(65536))), Result.SERVER_ERROR, ("HTTP 500",)),
    "500, cut short": (
        then(b"HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\n{", close),
        Result.SERVER_ERROR,
        ("HTTP 500",),
    ),
    "403, broken gzip": (http_response(b"x", "403 X", "Content-Encoding: gzip"), Result.FORBIDDEN, ("HTTP 403",)),
    "417, nested": (http_response(b'{"errors":' + b"[" * 60_000, "417 X"), Result.REJECTED, ("HTTP 417",)),
    "401, no text": (http_response(bytes(range(256)), "401 X"), Result.UNAUTHORIZED, ("HTTP 401",)),
    # a connection that ends
    "closed": (close, Result.UNREACHABLE, ("closed before any answer",)),
    "reset": (reset, Result.UNREACHABLE, ("closed before any answer",)),
    "closed in the body": (then(HEAD + b"Content-Length: 9\r\n\r\n{}", close), Result.INVALID_RESPONSE, ("cut short",)),
    "reset in the body": (then(HEAD + b"Content-Length: 9\r\n\r\n{}", reset), Result.INVALID_RESPONSE, ("cut short",)),
    "closed in a chunk": (then(CHUNKED + b"8\r\n{}", close), Result.INVALID_RESPONSE, ("cut short",)),
    "closed between chunks": (then(CHUNKED + b"2\r\n{}\r\n", close), Result.INVALID_RESPONSE, ("cut short",)),
    "no size of a chunk": (then(CHUNKED + b"zz\r\n{}", close), Result.INVALID_RESPONSE, ("cut short",)),
    "negative size of a chunk": (then(CHUNKED + b"-2\r\n{}", close), Result.INVALID_RESPONSE, ("cut short",)),
    # sizes
    "too large": (http_response(bytes(MOST_BYTES + 1)), Result.INVALID_RESPONSE, ("larger than 8 MiB",)),
    "endless": (then(HEAD + b"\r\n", flood(bytes(65536))), Result.INVALID_RESPONSE, ("larger than 8 MiB",)),
    "endless chunks": (
        then(CHUNKED, flood(b"10000\r\n" + bytes(65536) + b"\r\n")),
        Result.INVALID_RESPONSE,
        ("larger than 8 MiB",),
    ),
    # packing
    "broken gzip": (http_response(b"{}", "200 OK", "Content-Encoding: gzip"), Result.INVALID_RESPONSE, ("unpacked",)),
    "gzip that breaks": (
        http_response(PACKED[:-8] + bytes(8), "200 OK", "Content-Encoding: gzip"),
        Result.INVALID_RESPONSE,
        ("unpacked",),
    ),
    "broken deflate": (
        http_response(b"\xff" * 9, "200 OK", "Content-Encoding: deflate"),
        Result.INVALID_RESPONSE,
        ("unpack",),
    ),
    "packed many times": (
        http_response(PACKED, "200 OK", "Content-Encoding: " + ", ".join(["gzip"] * 50)),
        Result.INVALID_RESPONSE,
        ("unpacked",),
    ),
    # no HTTP
    "garbage": (then(bytes(range(256)), close), Result.INVALID_RESPONSE, ("no HTTP that can be read",)),
    "HTTP/0.9": (then(b"<html>Hello</html>\n", close), Result.INVALID_RESPONSE, ("no HTTP that can be read",)),
    "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n", Result.INVALID_RESPONSE, ("no HTTP that can be read",)),
    "no number for a status": (b"HTTP/1.1 OK 200\r\n\r\n", Result.INVALID_RESPONSE, ("no HTTP that can be read",)),
    "status of two digits": (b"HTTP/1.1 20 OK\r\n\r\n", Result.INVALID_RESPONSE, ("no HTTP that can be read",)),
    "300 headers": (
        HEAD + b"".join(b"X-%d: 1\r\n" % i for i in range(300)) + b"\r\n",
        Result.INVALID_RESPONSE,
        ("no HTTP that can be read",),
    ),
    "a header of 100 kB": (
        HEAD + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
        Result.INVALID_RESPONSE,
        ("no HTTP that can be read",),
    ),
    "a status of 100 kB": (
        HEAD[:-2] + b"x" * 100_000 + b"\r\n\r\n",
        Result.INVALID_RESPONSE,
        ("no HTTP that can be read",),
    ),
    "an endless header": (then(HEAD + b"X: ", flood(b"x" * 65536)), Result.INVALID_RESPONSE, ("no HTTP that can",)),
    "endless headers": (then(HEAD, flood(b"X: 1\r\n" * 999)), Result.INVALID_RESPONSE, ("no HTTP that can be read",)),
}


def failures() -> Iterator[Any]:
    """Yield what may fail on a new connection, and on a kept one, where one that is cut is tried again."""
    for name, (reply, _, _) in FAILURES.items():
        yield pytest.param(name, False, id=name)
        if reply not in (close, reset):
            yield pytest.param(name, True, id=f"{name}, on a kept connection")


@pytest.mark.parametrize(("name", "on_kept"), list(failures()))
def test_a_response_that_is_a_failure(name: str, on_kept: bool, open_session: OpenSession) -> None:
    """Each has its result and words that help, is asked for once, and does not harm the next request."""
    reply, result, words = FAILURES[name]
    api = after_others(on_kept, reply, GOOD_RESPONSE)
    with raw_server(api) as port:
        session = open_session(port)
        if on_kept:
            assert session.ask(TARGET, NOW) == GOOD
        error = failure(session)
        assert (error.result, [part for part in words if part not in error.message]) == (result, [])
        assert (error.retry_after, len(api.heads)) == (timedelta(), 1 + on_kept)
        assert session.ask(TARGET, NOW) == GOOD
    assert str(error) == f"{result}: {error.message}"


@pytest.mark.parametrize("name", FAILURES)
def test_no_connection_waits_for_a_collection_of_garbage(name: str, open_session: OpenSession) -> None:
    """Whatever an API has done on it, it is closed with the failure: collections may be long in coming."""
    reply, result, _ = FAILURES[name]

    def open_to(port: int) -> list[Any]:
        found = psutil.Process().net_connections("tcp")
        return [c for c in found if c.raddr and c.raddr.port == port]

    with left_lying(), raw_server(Api(reply)) as port:
        assert failure(open_session(port)).result is result
        # One that may go on is kept for the next poll.
        most = 0 if result is Result.INVALID_RESPONSE else 1
        eventually(lambda: len(open_to(port)) <= most, "its connection to be closed", timeout_s=5)


def test_the_tables_cover_all_nine_results() -> None:
    """Eight ways to fail stand in the table of responses and in the tests of deadlines; the ninth is success."""
    assert {result for _, result, _ in FAILURES.values()} == set(Result) - {Result.SUCCESS, Result.TIMEOUT}


# Below, a body that is cut short without HTTP telling so is no failure here: what reads it finds it is no JSON.
CUT_UNSEEN: Final[dict[str, Reply]] = {
    "announced too short": http_response(GOOD).replace(b"Content-Length: 30", b"Content-Length: 7"),
    "closed in the headers": then(HEAD + b"Content-Le", close),
    "half of a gzip": http_response(PACKED[:-20], "200 OK", "Content-Encoding: gzip"),
}


@ON_KEPT
@pytest.mark.parametrize("name", CUT_UNSEEN)
def test_a_body_that_is_cut_unseen_is_never_a_whole_one(name: str, on_kept: bool, open_session: OpenSession) -> None:
    """Whether or not HTTP can tell that something is missing, what comes out is not taken for the answer."""
    with raw_server(after_others(on_kept, CUT_UNSEEN[name], GOOD_RESPONSE)) as port:
        session = open_session(port)
        if on_kept:
            assert session.ask(TARGET, NOW) == GOOD
        found = outcome(session)
        if isinstance(found, PollError):
            assert found.result is Result.INVALID_RESPONSE
        else:
            with pytest.raises(AnswerError, match="no JSON"):
                read_statistics(found, DAY, Scope())
        assert session.ask(TARGET, NOW) == GOOD


# urllib3 leaves the response open that it refuses for its lengths; collecting it here keeps the warning here.
LEFT_OPEN: Final = pytest.mark.filterwarnings("ignore::ResourceWarning")


@LEFT_OPEN
@ON_KEPT
@pytest.mark.parametrize("lengths", [b"Content-Length: 4, 5\r\n", b"Content-Length: 4\r\nContent-Length: 5\r\n"])
def test_contradicting_lengths_are_no_http(lengths: bytes, on_kept: bool, open_session: OpenSession) -> None:
    """A response of two lengths is refused as one that cannot be read."""
    with raw_server(after_others(on_kept, HEAD + lengths + b"\r\nabcde")) as port:
        session = open_session(port)
        if on_kept:
            assert session.ask(TARGET, NOW) == GOOD
        error = failure(session)
    gc.collect()
    assert (error.result, error.message) == (Result.INVALID_RESPONSE, "the answer is no HTTP that can be read")


@pytest.mark.parametrize("code", ["200 OK", "302 Found", "401 X", "500 X"])
def test_a_packed_body_takes_no_more_memory_than_the_limit(code: str, open_session: OpenSession) -> None:
    """What unpacks to many times the limit is read no further than that, whatever the status."""
    bomb = http_response(zeros(128), code, "Content-Encoding: gzip", "Location: /elsewhere")
    with raw_server(Api(bomb)) as port:
        session = open_session(port)
        tracemalloc.start()
        try:
            failure(session)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 4 * MOST_BYTES


def test_no_redirect_is_followed(open_session: OpenSession) -> None:
    """The key goes to the address in the config and to no other."""
    api = Api(status(302, headers=("Location: /elsewhere",)))
    with raw_server(api) as port:
        failure(open_session(port))
    assert len(api.heads) == 1


ANY_SPEED: Final = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
HEADER_NAMES: Final = st.sampled_from(
    ["Content-Length", "Transfer-Encoding", "Content-Encoding", "Location", "Retry-After", "Set-Cookie", "Connection"]
)
HEADER_VALUES: Final = st.sampled_from(["0", "2", "-1", "gzip", "chunked", "identity", "close", "/", "a=b"]) | st.text(
    st.characters(codec="latin-1"), max_size=30
)


@st.composite
def nearly_http(draw: st.DrawFn) -> bytes:
    """Draw a response of which any part may be odd."""
    line = f"HTTP/1.1 {draw(st.sampled_from([200, 204, 301, 401, 417, 503]) | st.integers(0, 1100))} X"
    headers = draw(st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=4))
    head = "\r\n".join([line, *(f"{name}: {value}" for name, value in headers)])
    return (
        head.encode("latin-1")
        + b"\r\n\r\n"
        + draw(st.binary(max_size=40) | st.just(GOOD) | st.just(b"2\r\n{}\r\n0\r\n\r\n"))
    )


@LEFT_OPEN
def test_any_bytes_are_a_body_or_a_result(open_session: OpenSession) -> None:
    """Whatever a server sends before it closes, the request ends with bytes or with one of the results."""
    replies = [b""]

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(replies[0])
        close(connection)

    with raw_server(serve) as port:
        session = open_session(port)

        @ANY_SPEED
        @given(st.binary() | nearly_http())
        def check(reply: bytes) -> None:
            replies[0] = reply
            found = outcome(session)
            if isinstance(found, PollError):
                assert found.result not in {Result.SUCCESS, Result.TIMEOUT}
                assert found.retry_after >= timedelta()
                assert_no_secret(found)

        check()
        gc.collect()


@LEFT_OPEN
def test_a_request_that_is_sent_again_ends_like_one_of_the_libraries(open_session: OpenSession) -> None:
    """Whatever a server sends, it makes no difference whether it is on a new connection or on a kept one.

    But for a kept one that ends before any answer, which is tried again.
    """
    replies = [b""]

    def fresh(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(replies[0])
        close(connection)

    def kept(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(GOOD_RESPONSE)
        if read_request(connection):
            connection.sendall(replies[0])
        close(connection)

    def told(session: Session) -> object:
        found = outcome(session)
        return (found.result, found.message, found.retry_after) if isinstance(found, PollError) else found

    with raw_server(fresh) as port, raw_server(kept) as port_of_kept:

        @ANY_SPEED
        @given(st.binary() | nearly_http())
        def check(reply: bytes) -> None:
            replies[0] = reply
            new, old = open_session(port), open_session(port_of_kept)
            assert told(old) == GOOD
            by_libraries, again = told(new), told(old)
            new.close()
            old.close()
            was_cut = by_libraries == (Result.UNREACHABLE, "the connection was closed before any answer", timedelta())
            assert again == (GOOD if was_cut else by_libraries)

        check()
        gc.collect()


def test_what_is_sent_again_is_what_the_libraries_sent(open_session: OpenSession) -> None:
    """Each request of a session is the same to the byte; those of another question are another."""
    api = Api(GOOD_RESPONSE)
    with raw_server(api) as port:
        session = open_session(port)
        for target in (TARGET, TARGET, PROJECTS, TARGET, PROJECTS):
            session.ask(target, NOW)
        assert CREDENTIALS not in repr(vars(session))
    first, second = api.heads[0], api.heads[2]
    assert CREDENTIALS in first
    assert first.startswith(f"GET {TARGET} HTTP/1.1\r\n")
    assert second.startswith(f"GET {PROJECTS} HTTP/1.1\r\n")
    assert api.heads == [first, first, second, first, second]


def test_the_libraries_send_a_request_once(open_session: OpenSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """To find the connection and to write the request took them half of a poll; on a kept one neither is done again."""
    sent, send = [], HTTPAdapter.send

    def counted(*args: Any, **options: Any) -> Any:
        sent.append(args)
        return send(*args, **options)

    monkeypatch.setattr(HTTPAdapter, "send", counted)
    with raw_server(Api(GOOD_RESPONSE)) as port:
        session = open_session(port)
        for _ in range(5):
            session.ask(TARGET, NOW)
    assert len(sent) == 1


# No connection.


def test_a_refused_connection_is_unreachable(open_session: OpenSession) -> None:
    """The system's own words say why."""
    with nobody() as port:
        error = failure(open_session(port))
    assert error.result is Result.UNREACHABLE
    assert error.message == f"no connection to the API: {os.strerror(errno.ECONNREFUSED)}"


@pytest.mark.parametrize("host", ["name.invalid", "a" * 64 + ".invalid", "a..invalid", "\u2024.invalid", "*.invalid"])
def test_a_name_without_an_address_is_unreachable(host: str, open_session: OpenSession) -> None:
    """A name that nobody knows, or that cannot be one, is a matter of url."""
    error = failure(open_session(url=f"http://{host}"))
    assert error.result is Result.UNREACHABLE
    assert error.message.startswith("no connection to the API: ")


# TLS.


def test_a_file_of_certificates_is_trusted(
    open_session: OpenSession, certificate: trustme.LeafCert, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The customer's own ca_file counts, also where the environment names another."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with raw_server(over_tls(certificate, Api(GOOD_RESPONSE))) as port:
        session = open_session(url=f"https://127.0.0.1:{port}", ca_file=ca_file)
        assert session.ask(TARGET, NOW) == GOOD
        session.close()


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_the_environments_certificates_are_trusted(
    variable: str,
    open_session: OpenSession,
    certificate: trustme.LeafCert,
    ca_file: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without ca_file, what the usual variables name is trusted."""
    monkeypatch.setenv(variable, ca_file)
    with raw_server(over_tls(certificate, Api(GOOD_RESPONSE))) as port:
        session = open_session(url=f"https://127.0.0.1:{port}")
        assert session.ask(TARGET, NOW) == GOOD
        session.close()


def bad_certificate(kind: str, authority: trustme.CA) -> trustme.LeafCert:
    """Return a certificate with something wrong."""
    if kind == "name":
        return authority.issue_cert("other.example")
    if kind == "time":
        return authority.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    return trustme.CA().issue_cert("127.0.0.1")


UNSAFE: Final = {
    "name": "not valid for '127.0.0.1'; check url",
    "time": "certificate has expired",
    "authority": "unable to get local issuer certificate",
}


@pytest.mark.parametrize("kind", UNSAFE)
def test_a_certificate_that_is_not_to_be_trusted_is_unreachable(
    kind: str, open_session: OpenSession, authority: trustme.CA, ca_file: str
) -> None:
    """No request is made, and the words say what is wrong and which keys to check."""
    api = Api(GOOD_RESPONSE)
    with raw_server(over_tls(bad_certificate(kind, authority), api)) as port:
        error = failure(open_session(url=f"https://127.0.0.1:{port}", ca_file=ca_file))
    assert error.result is Result.UNREACHABLE
    assert UNSAFE[kind] in error.message
    assert error.message.startswith("no safe connection to the API (TLS): ")
    assert error.message.endswith("; check url and ca_file")
    assert api.heads == []


def test_a_self_signed_certificate_is_unreachable(open_session: OpenSession, ca_file: str, tmp_path: Path) -> None:
    """A certificate that vouches for itself is none."""
    own = trustme.CA()
    files = tmp_path / "own.pem", tmp_path / "own.key"
    own.cert_pem.write_to_path(str(files[0]))
    own.private_key_pem.write_to_path(str(files[1]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as safe:
            hang(safe)

    with raw_server(serve) as port:
        error = failure(open_session(url=f"https://127.0.0.1:{port}", ca_file=ca_file))
    assert error.result is Result.UNREACHABLE
    assert "self-signed certificate" in error.message


def test_a_connection_whose_handshake_failed_is_closed(
    open_session: OpenSession, authority: trustme.CA, ca_file: str
) -> None:
    """The server learns at once that nobody will use the connection."""
    ended = threading.Event()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)

    def serve(connection: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = context.wrap_bio(incoming, outgoing, server_side=True)
        try:
            while data := connection.recv(65536):
                incoming.write(data)
                with suppress(ssl.SSLError):
                    server.do_handshake()
                connection.sendall(outgoing.read())
        finally:
            ended.set()

    with raw_server(serve) as port:
        failure(open_session(url=f"https://127.0.0.1:{port}", ca_file=ca_file))
        assert ended.wait(LIMIT_S)


def test_a_server_without_tls_is_unreachable(open_session: OpenSession, ca_file: str) -> None:
    """What does not speak TLS gets no request."""
    with raw_server(then(b"HTTP/1.1 400 Bad Request\r\n\r\n", hang)) as port:
        error = failure(open_session(url=f"https://127.0.0.1:{port}", ca_file=ca_file))
    assert error.result is Result.UNREACHABLE
    assert "(TLS)" in error.message


def test_a_mended_file_of_certificates_counts_at_once(
    open_session: OpenSession, authority: trustme.CA, certificate: trustme.LeafCert, tmp_path: Path
) -> None:
    """After a failure the session looks at ca_file again, so that no reload is needed."""
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    with raw_server(over_tls(certificate, Api(GOOD_RESPONSE))) as port:
        session = open_session(url=f"https://127.0.0.1:{port}", ca_file=str(path))
        assert failure(session).result is Result.UNREACHABLE
        authority.cert_pem.write_to_path(str(path))
        os.utime(path, (1, 1))
        assert session.ask(TARGET, NOW) == GOOD
        session.close()


@pytest.mark.parametrize("content", [None, "", "no certificate", "-----BEGIN CERTIFICATE-----\nx\n"])
def test_certificates_that_cannot_be_read_are_unreachable(
    content: str | None, open_session: OpenSession, tmp_path: Path
) -> None:
    """Without trusted certificates no connection is made."""
    path = tmp_path / "broken.pem"
    if content is not None:
        path.write_text(content)
    accepted: list[socket.socket] = []
    with raw_server(accepted.append) as port:
        error = failure(open_session(url=f"https://127.0.0.1:{port}", ca_file=str(path)))
    assert (error.result, accepted) == (Result.UNREACHABLE, [])
    assert error.message.startswith("the trusted certificates (ca_file) cannot be read: ")


# Proxies.


def test_a_proxy_of_the_config_is_used(open_session: OpenSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """The config's proxy counts, whatever the environment says of this host, and looks up the API's name itself."""
    monkeypatch.setenv("NO_PROXY", "*")
    api = Api(GOOD_RESPONSE)
    with raw_server(api) as port:
        session = open_session(url="http://api.invalid", proxy_url=f"http://scrape:p%40ss@127.0.0.1:{port}")
        assert session.ask(TARGET, NOW) == GOOD
        assert session.ask(TARGET, NOW) == GOOD
    assert api.request_lines == [f"GET http://api.invalid{TARGET} HTTP/1.1"] * 2
    assert api.connections == 1
    assert api.headers("Authorization") == [f"Basic {CREDENTIALS}"] * 2
    assert api.headers("Proxy-Authorization") == ["Basic " + base64.b64encode(b"scrape:p@ss").decode()] * 2


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_used(
    variable: str, open_session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without proxy_url, the usual variables name the proxy."""
    api = Api(GOOD_RESPONSE)
    with raw_server(api) as port:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{port}")
        assert open_session(url="http://api.invalid").ask(TARGET, NOW) == GOOD
    assert api.request_lines == [f"GET http://api.invalid{TARGET} HTTP/1.1"]


@pytest.mark.parametrize("exempt", ["127.0.0.1", "127.0.0.0/8", "*"])
def test_no_proxy_is_obeyed(exempt: str, open_session: OpenSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that NO_PROXY names is asked directly."""
    api = Api(GOOD_RESPONSE)
    with raw_server(api) as port, nobody() as proxy_port:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy_port}")
        monkeypatch.setenv("NO_PROXY", exempt)
        assert open_session(port).ask(TARGET, NOW) == GOOD
    assert api.request_lines == [f"GET {TARGET} HTTP/1.1"]


def test_a_tunnel_through_a_proxy(
    open_session: OpenSession, certificate: trustme.LeafCert, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To an API over TLS a proxy only passes on bytes, and gets no credentials of the API."""
    api = Api(GOOD_RESPONSE)
    heads: list[str] = []
    with raw_server(tunnel(over_tls(certificate, api), heads)) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        session = open_session(url="https://localhost:9", ca_file=ca_file)
        assert session.ask(TARGET, NOW) == GOOD
        assert session.ask(TARGET, NOW) == GOOD
        session.close()
    assert [head.split("\r\n")[0].rpartition(" ")[0] for head in heads] == ["CONNECT localhost:9"]
    assert "uthorization: Basic" not in heads[0]
    assert api.headers("Authorization") == [f"Basic {CREDENTIALS}"] * 2


def test_a_tunnel_through_a_proxy_over_tls(
    open_session: OpenSession, certificate: trustme.LeafCert, ca_file: str
) -> None:
    """The way to the proxy may be TLS as well; deadlines hold there, too, and for everybody afterwards."""
    heads: list[str] = []
    with (
        raw_server(over_tls(certificate, Api(GOOD_RESPONSE, hang))) as far,
        raw_server(over_tls(certificate, tunnel(relay(far), heads))) as port,
        raw_server(Api(drip(b"H"))) as another,
    ):
        keys: dict[str, Any] = {"ca_file": ca_file, "proxy_url": f"https://127.0.0.1:{port}"}
        assert open_session(url="https://localhost:9", **keys).ask(TARGET, NOW) == GOOD
        assert heads[0].startswith("CONNECT localhost:9 ")
        assert failure(open_session(url="https://localhost:9", poll={"timeout": "1s"}, **keys)).result is Result.TIMEOUT
        assert failure(open_session(another, poll=SOON)).result is Result.TIMEOUT


PROXY_FAULTS: Final[dict[str, tuple[Handle, str]]] = {
    "password, by CONNECT": (tunnel(hang, [], b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), "407"),
    "not allowed": (tunnel(hang, [], b"HTTP/1.1 403 Forbidden\r\n\r\n"), "403"),
    "no way": (tunnel(hang, [], b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), "502"),
    "closes": (tunnel(close, [], b""), ""),
    "resets": (tunnel(reset, [], b""), ""),
    "echoes the key": (tunnel(hang, [], f"HTTP/1.1 403 {KEY} {CREDENTIALS}\r\n\r\n".encode()), "[redacted]"),
}


@pytest.mark.parametrize("name", PROXY_FAULTS)
def test_a_proxy_that_makes_no_tunnel_is_unreachable(name: str, open_session: OpenSession, ca_file: str) -> None:
    """Whatever the proxy answers to CONNECT is no answer of the API."""
    handle, words = PROXY_FAULTS[name]
    with raw_server(handle) as port:
        proxy_url = f"http://scrape:s3cret@127.0.0.1:{port}"
        error = failure(open_session(url="https://api.invalid", ca_file=ca_file, proxy_url=proxy_url))
    assert error.result is Result.UNREACHABLE
    assert words in error.message
    assert "s3cret" not in str(error)


def test_a_proxy_that_wants_a_password_is_unreachable(open_session: OpenSession) -> None:
    """Status 407 to a plain request is the proxy's, and says which key to look at."""
    with raw_server(Api(status(407))) as port:
        error = failure(open_session(url="http://api.invalid", proxy_url=f"http://127.0.0.1:{port}"))
    assert error.result is Result.UNREACHABLE
    assert "the proxy wants other credentials (proxy_url)" in error.message


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there_is_unreachable(scheme: str, open_session: OpenSession, ca_file: str) -> None:
    """The words tell that it is the proxy, and not its password."""
    with nobody() as port:
        proxy_url = f"http://scrape:s3cret@127.0.0.1:{port}"
        error = failure(open_session(url=f"{scheme}://api.invalid", ca_file=ca_file, proxy_url=proxy_url))
    assert error.result is Result.UNREACHABLE
    assert error.message == f"the proxy does not lead to the API: {os.strerror(errno.ECONNREFUSED)}"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "gopher://127.0.0.1:9", "http://", "http://[s3cret"])
def test_a_proxy_that_cannot_be_one_is_unreachable(
    proxy: str, open_session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address in the environment that no proxy has is a matter of the proxy, and is not shown."""
    monkeypatch.setenv("HTTP_PROXY", proxy)
    error = failure(open_session(url="http://api.invalid"))
    assert error.result is Result.UNREACHABLE
    assert "s3cret" not in str(error)


# Deadlines.

ENDLESS: Final[dict[str, Handle]] = {
    "silence": hang,
    "a status that drips": drip(b"H"),
    "headers that drip": then(HEAD, drip(b"X: 1\r\n")),
    "a header that drips": then(HEAD + b"X: ", drip(b"x")),
    "no body": then(HEAD + b"Content-Length: 30\r\n\r\n", hang),
    "a body that drips": then(HEAD + b"Content-Length: 1000000\r\n\r\n", drip(b"{")),
    "a body without an end": then(HEAD + b"\r\n", drip(b" ")),
    "chunks that drip": then(CHUNKED, drip(b"1\r\n{\r\n")),
    "a size of a chunk that drips": then(CHUNKED, drip(b"0")),
    "trailers that drip": then(CHUNKED + b"0\r\n", drip(b"X: 1\r\n")),
    "gzip that drips": then(HEAD + b"Content-Encoding: gzip\r\n\r\n" + PACKED[:10], drip(b"\x00\x00\x00\xff\xff")),
    "an error that drips": then(b"HTTP/1.1 401 X\r\n\r\n", drip(b"{")),
    "a redirect that drips": then(b"HTTP/1.1 302 X\r\nLocation: /\r\n\r\n", drip(b"{")),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_response_that_does_not_end_is_a_timeout(name: str, open_session: OpenSession) -> None:
    """The deadline is one for the whole request, however often something comes; the next request is a new start."""
    api = Api(ENDLESS[name], GOOD_RESPONSE)
    with raw_server(api) as port:
        session = open_session(port, poll=SOON)
        error = failure(session)
        assert (error.result, error.message) == (Result.TIMEOUT, "no whole answer within 0.3 s")
        while isinstance(found := outcome(session), PollError):
            assert found.result is Result.TIMEOUT  # on a machine that is very busy
        assert found == GOOD
        assert api.connections > 1


def endless_and_failing() -> Iterator[Any]:
    """Yield the replies of both tables."""
    yield from (pytest.param(reply, id=name) for name, (reply, _, _) in FAILURES.items())
    yield from (pytest.param(handle, id=name) for name, handle in ENDLESS.items())


def fail(session: Session) -> None:
    """Fail once. Nothing of it is kept, as by what pytest has for it."""
    with suppress(PollError):
        session.ask(TARGET, NOW)


@pytest.mark.parametrize("reply", list(endless_and_failing()))
def test_a_failure_leaves_no_garbage(reply: Reply, open_session: OpenSession) -> None:
    """What was raised is freed at once: with thousands of customers it would be much, and collections are rare."""
    with raw_server(Api(reply)) as port:
        session = open_session(port, poll=SOON)
        assert left_by(lambda: fail(session), PollError, RequestException, HTTPError) == []


UNREACHED: Final[dict[str, dict[str, Any]]] = {
    "nobody there": {"url": "http://127.0.0.1:NOBODY"},
    "no such name": {"url": "http://name.invalid"},
    "no TLS": {"url": "https://127.0.0.1:HANGS"},
    "no certificates": {"url": "https://127.0.0.1:HANGS", "ca_file": "/nowhere"},
    "no proxy": {"url": "http://api.invalid", "proxy_url": "http://127.0.0.1:NOBODY"},
    "no proxy for TLS": {"url": "https://api.invalid", "proxy_url": "http://127.0.0.1:NOBODY"},
    "a proxy that hangs": {"url": "https://api.invalid", "proxy_url": "http://127.0.0.1:HANGS"},
}


@pytest.mark.parametrize("name", UNREACHED)
def test_a_connection_that_fails_leaves_no_garbage(name: str, open_session: OpenSession) -> None:
    """The same of what fails before a request can be sent."""
    with nobody() as closed, raw_server(hang) as hangs:
        keys = {k: v.replace("NOBODY", str(closed)).replace("HANGS", str(hangs)) for k, v in UNREACHED[name].items()}
        session = open_session(poll=SOON, **keys)
        assert left_by(lambda: fail(session), PollError, RequestException, HTTPError) == []


def after_its_time(reply: bytes, clock: SetClock) -> Handle:
    """Answer a request when its time is up, of which a clock that is set wakes nobody."""

    def handle(connection: socket.socket) -> None:
        if read_request(connection):
            clock.advance(timedelta(hours=1))
            connection.sendall(reply)

    return handle


def test_an_answer_after_its_time_is_a_timeout() -> None:
    """The clock counts, and not when who watches it gets to run: so it is with a process that was stopped."""
    clock = SetClock()
    with raw_server(after_its_time(GOOD_RESPONSE, clock)) as port:
        session = Session(make_customer(url=f"http://127.0.0.1:{port}"), Network(clock))
        assert failure(session).result is Result.TIMEOUT
        session.close()


def test_interim_responses_without_end_are_no_answer(open_session: OpenSession) -> None:
    """A flood of 100 Continue ends at the deadline, or before it where the library has had enough."""
    with raw_server(Api(flood(b"HTTP/1.1 100 Continue\r\n\r\n" * 99))) as port:
        assert failure(open_session(port, poll=SOON)).result in {Result.TIMEOUT, Result.INVALID_RESPONSE}


def test_a_kept_connection_that_falls_silent_is_a_timeout(open_session: OpenSession) -> None:
    """The deadline is as good for the second request of a connection as for the first."""
    api = Api(GOOD_RESPONSE, hang, GOOD_RESPONSE)
    with raw_server(api) as port:
        session = open_session(port, poll={"timeout": "1s"})
        assert session.ask(TARGET, NOW) == GOOD
        assert failure(session).result is Result.TIMEOUT
        assert session.ask(TARGET, NOW) == GOOD
    assert api.connections == 2


HANDSHAKES: Final[dict[str, Handle]] = {
    "silence": hang,
    "a record that drips": then(b"\x16\x03\x03\x3f\xff", drip(b"\x00")),
}


@pytest.mark.parametrize("name", HANDSHAKES)
def test_a_handshake_that_does_not_end_is_a_timeout(name: str, open_session: OpenSession, ca_file: str) -> None:
    """A server that takes the connection and never finishes TLS holds nobody up."""
    with raw_server(HANDSHAKES[name]) as port:
        error = failure(open_session(url=f"https://127.0.0.1:{port}", ca_file=ca_file, poll=SOON))
    assert error.result is Result.TIMEOUT


TUNNELS: Final[dict[str, Handle]] = {
    "silence": hang,
    "headers that drip": then(b"HTTP/1.1 200 OK\r\n", drip(b"X: 1\r\n")),
    "no handshake behind it": tunnel(hang, []),
}


@pytest.mark.parametrize("name", TUNNELS)
def test_a_tunnel_that_is_not_made_is_a_timeout(name: str, open_session: OpenSession, ca_file: str) -> None:
    """A proxy's time is part of the request's."""
    with raw_server(TUNNELS[name]) as port:
        keys: dict[str, Any] = {"ca_file": ca_file, "proxy_url": f"http://127.0.0.1:{port}", "poll": SOON}
        error = failure(open_session(url="https://api.invalid", **keys))
    assert error.result is Result.TIMEOUT


def test_a_connection_that_is_not_accepted_is_a_timeout(open_session: OpenSession) -> None:
    """A host that does not answer to a connection at all holds nobody up."""
    with crowded() as port:
        assert failure(open_session(port, poll=SOON)).result is Result.TIMEOUT


def test_deadlines_of_many_requests_at_once(open_session: OpenSession) -> None:
    """Each request meets its own deadline; those without a fault are not ended with the others."""
    go_on = threading.Event()

    def late(connection: socket.socket) -> None:
        go_on.wait(LIMIT_S)
        connection.sendall(GOOD_RESPONSE)

    with raw_server(late) as good, raw_server(hang) as bad, ThreadPoolExecutor(7) as pool:
        patient = [pool.submit(open_session(good, poll=NEVER).ask, TARGET, NOW) for _ in range(3)]
        hasty = [pool.submit(failure, open_session(bad, poll=SOON)) for _ in range(4)]
        assert {future.result(LIMIT_S).result for future in hasty} == {Result.TIMEOUT}
        go_on.set()
        assert [future.result(LIMIT_S) for future in patient] == [GOOD] * 3


# Giving up.


def abandoned(session: Session, arrived: threading.Event) -> None:
    """Abandon a request that has got as far as the event tells, and wait until it has ended."""
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(session.ask, TARGET, NOW)
        assert arrived.wait(LIMIT_S)
        session.abandon()
        with pytest.raises(AbandonedError) as caught:
            asking.result(LIMIT_S)
    assert_no_secret(caught.value)


@pytest.mark.parametrize("name", ENDLESS)
def test_a_request_under_way_can_be_abandoned(name: str, open_session: OpenSession) -> None:
    """Another thread ends a request wherever it hangs, and no later one is made."""
    arrived = threading.Event()

    def behave(connection: socket.socket) -> None:
        arrived.set()
        ENDLESS[name](connection)

    api = Api(behave)
    with raw_server(api) as port:
        session = open_session(port, poll=NEVER)
        abandoned(session, arrived)
        with pytest.raises(AbandonedError):
            session.ask(TARGET, NOW)
    assert len(api.heads) == 1


@pytest.mark.parametrize("name", HANDSHAKES)
def test_a_handshake_can_be_abandoned(name: str, open_session: OpenSession, ca_file: str) -> None:
    """The same before there is a request."""
    arrived = threading.Event()

    def behave(connection: socket.socket) -> None:
        arrived.set()
        HANDSHAKES[name](connection)

    with raw_server(behave) as port:
        abandoned(open_session(url=f"https://127.0.0.1:{port}", ca_file=ca_file, poll=NEVER), arrived)


def test_connecting_can_be_abandoned(open_session: OpenSession) -> None:
    """The same before there is a connection, whether the attempt has begun or not."""
    begun = threading.Event()
    begun.set()
    with crowded() as port:
        abandoned(open_session(port, poll=NEVER), begun)


def test_an_abandoned_session_asks_nothing(open_session: OpenSession) -> None:
    """What is abandoned between two requests makes no further one, not even on a kept connection."""
    api = Api(GOOD_RESPONSE)
    with raw_server(api) as port:
        session = open_session(port)
        session.ask(TARGET, NOW)
        session.abandon()
        with pytest.raises(AbandonedError):
            session.ask(TARGET, NOW)
    assert len(api.heads) == 1


def test_a_closed_session_can_be_used_again(open_session: OpenSession) -> None:
    """Closing only gives up the connection, of which the server is told."""
    ended = threading.Event()
    api = Api(GOOD_RESPONSE)

    def serve(connection: socket.socket) -> None:
        api(connection)
        ended.set()

    with raw_server(serve) as port:
        session = open_session(port)
        session.close()
        session.ask(TARGET, NOW)
        session.close()
        session.close()
        assert ended.wait(LIMIT_S)
        assert session.ask(TARGET, NOW) == GOOD
    assert api.connections == 2


# Retry-After.

RETRY_AFTER: Final[dict[str, timedelta]] = {
    "120": timedelta(minutes=2),
    " 7 ": timedelta(seconds=7),
    "0": timedelta(),
    "007": timedelta(seconds=7),
    "999999999": timedelta(seconds=999_999_999),
    "Wed, 11 Mar 2026 10:01:30 GMT": timedelta(seconds=90),
    "Wed, 11 Mar 2026 12:01:30 +0200": timedelta(seconds=90),
    "Wed, 11 Mar 2026 10:01:30 -0000": timedelta(seconds=90),
    "Wednesday, 11-Mar-26 10:01:30 GMT": timedelta(seconds=90),
    "Wed Mar 11 10:01:30 2026": timedelta(seconds=90),
    "Wed, 11 Mar 2026 10:00:00 GMT": timedelta(),
    "Sun, 06 Nov 1994 08:49:37 GMT": timedelta(),
    "": timedelta(),
    "-5": timedelta(),
    "1.5": timedelta(),
    "1e3": timedelta(),
    "120, 60": timedelta(),
    "9999999999999": timedelta(),
    "soon": timedelta(),
    "Wed, 99 Mar 2026 99:99:99 GMT": timedelta(),
    "Wed, 11 Mar 0000 10:00:00 GMT": timedelta(),
    "Fri, 31 Dec 9999 23:59:59 GMT": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - NOW,
    "Mon, 01 Jan 0001 00:00:00 +2359": timedelta(),
    "\xb2": timedelta(),
}


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("value", RETRY_AFTER)
def test_retry_after_is_seconds_or_a_date(value: str, code: int, open_session: OpenSession) -> None:
    """Seconds count as they are, a date from now; what is neither, or over, is no wish at all."""
    reply = status(code).replace(b"\r\n\r\n", f"\r\nRetry-After: {value}\r\n\r\n".encode("latin-1"))
    with raw_server(Api(reply)) as port:
        error = failure(open_session(port))
    assert error.retry_after == RETRY_AFTER[value]


# The key.


def password(api: Api) -> list[str]:
    """Return the key of each request."""
    sent = [str(header).removeprefix("Basic ") for header in api.headers("Authorization")]
    return [base64.b64decode(credentials).decode().partition(":")[2] for credentials in sent]


def test_a_key_file_is_read_once(open_session: OpenSession, tmp_path: Path) -> None:
    """It is read before the first request, without the line feed at its end, and kept while it works."""
    path = tmp_path / "key"
    api = Api(GOOD_RESPONSE, status(500), status(429), GOOD_RESPONSE)
    with raw_server(api) as port:
        session = open_session(port, KeySource(file=path))
        path.write_text("first\n")
        session.ask(TARGET, NOW)
        path.write_text("second\n")
        failure(session)
        failure(session)
        session.ask(TARGET, NOW)
    assert password(api) == ["first"] * 4


@pytest.mark.parametrize("code", [401, 403])
def test_a_key_that_was_refused_is_read_again(code: int, open_session: OpenSession, tmp_path: Path) -> None:
    """A changed key file is noticed after 401 and 403, without a reload."""
    path = tmp_path / "key"
    path.write_text("old")
    api = Api(status(code), status(code), GOOD_RESPONSE)
    with raw_server(api) as port:
        session = open_session(port, KeySource(file=path))
        failure(session)
        failure(session)
        path.write_text("new")
        session.ask(TARGET, NOW)
    assert password(api) == ["old", "old", "new"]


def test_a_key_is_read_again_when_it_is_to_be_forgotten(
    open_session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload has the key read anew, from the environment, too."""
    api = Api(GOOD_RESPONSE)
    with raw_server(api) as port:
        monkeypatch.setenv("ACME_KEY", "old")
        session = open_session(port, KeySource(env="ACME_KEY"))
        session.ask(TARGET, NOW)
        monkeypatch.setenv("ACME_KEY", "new")
        session.ask(TARGET, NOW)
        session.forget_key()
        session.ask(TARGET, NOW)
    assert password(api) == ["old", "old", "new"]


def key_source(content: bytes | None, folder: Path) -> KeySource:
    """Return a key file with this content; None: there is none."""
    path = folder / "key"
    if content is not None:
        path.write_bytes(content)
    return KeySource(file=path)


UNREADABLE: Final[dict[str, tuple[bytes | None, str]]] = {
    "missing": (None, f"cannot be read: {os.strerror(errno.ENOENT)}"),
    "empty": (b"", "is empty or not set"),
    "blank": (b" \r\n\t\n", "is empty or not set"),
    "several lines": (f"{KEY}\n{KEY}\n".encode(), "holds more than one line"),
    "control characters": (f"{KEY}\0".encode(), "or characters that no key has"),
    "byte order mark": (f"\ufeff{KEY}".encode(), "or characters that no key has"),
    "no text": (f"{KEY}\xff".encode("latin-1"), "is no UTF-8 text"),
    "too large": (KEY.encode() * 1000, "is too large for a key"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_key_that_cannot_be_read_makes_no_request(name: str, open_session: OpenSession, tmp_path: Path) -> None:
    """The result is unauthorized, the words name the file and hold nothing of it, and a repaired file works at once."""
    content, words = UNREADABLE[name]
    source = key_source(content, tmp_path)
    api = Api(GOOD_RESPONSE)
    with raw_server(api) as port:
        session = open_session(port, source)
        error = failure(session)
        assert (error.result, api.heads) == (Result.UNAUTHORIZED, [])
        assert error.message.startswith("the API key cannot be read: ")
        assert str(source.file) in error.message
        assert words in error.message
        key_source(b"good", tmp_path)
        session.ask(TARGET, NOW)
    assert password(api) == ["good"]


def test_a_pipe_is_no_key_file(open_session: OpenSession, tmp_path: Path) -> None:
    """A pipe that nobody writes to makes no request, and holds nobody up."""
    path = tmp_path / "key"
    os.mkfifo(path)
    api = Api(GOOD_RESPONSE)
    with raw_server(api) as port:
        error = failure(open_session(port, KeySource(file=path)))
    assert (error.result, api.heads) == (Result.UNAUTHORIZED, [])
    assert "is no regular file" in error.message


def test_key_files_are_closed(tmp_path: Path) -> None:
    """Whether or not there is a key to read, no file stays open."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def next_descriptor() -> int:
        descriptor = os.open(os.devnull, os.O_RDONLY)
        os.close(descriptor)
        return descriptor

    before = next_descriptor()
    for _ in range(100):
        assert read_key(key_source(b"good", tmp_path)) == "good"
        for path in (tmp_path, pipe, tmp_path / "missing"):
            with pytest.raises(KeyUnreadableError):
                read_key(KeySource(file=path))
    assert next_descriptor() < before + 50


def test_a_folder_is_no_key_file(open_session: OpenSession, tmp_path: Path) -> None:
    """A path to something else than a file makes no request."""
    api = Api(GOOD_RESPONSE)
    with raw_server(api) as port:
        error = failure(open_session(port, KeySource(file=tmp_path)))
    assert (error.result, api.heads) == (Result.UNAUTHORIZED, [])
    assert os.strerror(errno.EISDIR) in error.message


@pytest.mark.parametrize("value", [None, "", f"{KEY}\n{KEY}", f"{KEY}\udcff"])
def test_a_variable_without_a_key_makes_no_request(
    value: str | None, open_session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that is not set, empty, or holds what no key is, is unauthorized and named."""
    if value is not None:
        monkeypatch.setenv("ACME_KEY", value)
    api = Api(GOOD_RESPONSE)
    with raw_server(api) as port:
        error = failure(open_session(port, KeySource(env="ACME_KEY")))
    assert (error.result, api.heads) == (Result.UNAUTHORIZED, [])
    assert "the environment variable ACME_KEY" in error.message


def test_a_key_that_became_unreadable_stops_requests(open_session: OpenSession, tmp_path: Path) -> None:
    """After a 401 a key file that has gone is not replaced by the key that was refused."""
    source = key_source(b"old", tmp_path)
    api = Api(status(401), GOOD_RESPONSE)
    with raw_server(api) as port:
        session = open_session(port, source)
        failure(session)
        (tmp_path / "key").unlink()
        assert failure(session).result is Result.UNAUTHORIZED
    assert len(api.heads) == 1


def test_where_a_key_is_read_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inline, from a file, or from a variable; blanks around it count nowhere but inline."""
    monkeypatch.setenv("ACME_KEY", "of the environment")
    assert read_key(KeySource(inline=" inline")) == " inline"
    assert read_key(KeySource(env="ACME_KEY")) == "of the environment"
    assert read_key(key_source(b" of a file \r\n", tmp_path)) == "of a file"
    assert read_key(key_source(b"k" * 4096, tmp_path)) == "k" * 4096
    with pytest.raises(KeyUnreadableError, match="too large"):
        read_key(key_source(b"k" * 4097, tmp_path))


# No secret is told.

ODD_KEY: Final = 'k3y/of+acme "\u00e9"'

ECHOES: Final[dict[str, bytes]] = {
    "the key": status(401, f"no such key: {KEY}"),
    "the key twice": status(403, KEY, [{"key": KEY}]),
    "the credentials": status(417, f"Authorization: Basic {CREDENTIALS}"),
    "both in a fault": status(500, f"acme:{KEY} is {CREDENTIALS}"),
    "a documented message beside it": status(417, f"error.argument_format_error {KEY}"),
    "within a word": status(400, f"<{KEY}>x{KEY}y"),
    "the key as a URL has it": status(401, f"/login?key={quote(ODD_KEY, safe='')}&next={quote(ODD_KEY).lower()}"),
    "the key in base64": status(403, base64.b64encode(KEY.encode()).decode().rstrip("=")),
    "the key as a number": status(403, KEY.encode().hex().upper()),
    "the key as JSON within JSON": status(400, json.dumps({"key": ODD_KEY})),
    "escaped": http_response(
        json.dumps({"errors": [KEY]}).replace("k", "\\u006b").encode(), "401 X", "Content-Type: application/json"
    ),
}


@pytest.mark.parametrize("name", ECHOES)
def test_an_echo_of_the_key_is_redacted(name: str, open_session: OpenSession) -> None:
    """An API that repeats key or credentials in its errors puts them into no message."""
    key = ODD_KEY if "has it" in name or "within JSON" in name else KEY
    with raw_server(Api(ECHOES[name])) as port:
        error = failure(open_session(port, api_key=key))
    assert "[redacted]" in error.message
    assert leaks([key], error.message.encode()) == []


ODD_PASSWORD: Final = "p@ss/w\u00f6rd+1"


@pytest.mark.parametrize("variable", [None, "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_echoes_its_own_password_is_redacted(
    scheme: str, variable: str | None, open_session: OpenSession, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent to a proxy of the config or of the environment is as secret as the key."""

    def echo(connection: socket.socket) -> None:
        sent = parse_headers(BytesIO(read_request(connection).partition(b"\r\n")[2]))["Proxy-Authorization"] or ""
        password = base64.b64decode(sent.removeprefix("Basic ")).decode("latin-1").partition(":")[2]
        connection.sendall(status(407, f"{sent} is {quote(password)}").replace(b"Whatever", sent.encode()))

    with raw_server(echo) as port:
        proxy_url = f"http://scrape:{quote(ODD_PASSWORD, safe='')}@127.0.0.1:{port}"
        if variable:
            monkeypatch.setenv(variable, proxy_url)
        keys = {"url": f"{scheme}://api.invalid", "ca_file": ca_file, **({} if variable else {"proxy_url": proxy_url})}
        error = failure(open_session(**keys))
    assert "[redacted]" in error.message
    assert leaks([ODD_PASSWORD], error.message.encode()) == []


@pytest.mark.parametrize("secret", [KEY, CREDENTIALS])
@pytest.mark.parametrize("shown", [4, 5, 10])
def test_an_echo_that_is_cut_is_redacted(secret: str, shown: int, open_session: OpenSession) -> None:
    """Where the API's words are cut in the middle of a secret, its first half is not told either."""
    padding = "x " * 100
    words = padding[: 199 - shown] + secret + " and more words"
    with raw_server(Api(status(401, words))) as port:
        error = failure(open_session(port))
    assert secret[:shown] not in error.message
    assert error.message.endswith("[redacted]…)")


@pytest.mark.parametrize("key", ["k3y  of   acme", "kéy-ß-鍵", "k3y", "Basic", 'k"\\/y', "k3y…"])
def test_an_echo_of_any_key_is_redacted(key: str, open_session: OpenSession) -> None:
    """Blanks, letters of any language, short keys and characters that JSON escapes make no difference."""
    with raw_server(Api(status(401, f"key={key};"))) as port:
        error = failure(open_session(port, api_key=key))
    assert error.message.endswith("(key=[redacted];)")


def test_what_others_read_can_be_redacted(open_session: OpenSession) -> None:
    """Texts out of a good response go through the session that asked for it."""
    with raw_server(Api(GOOD_RESPONSE)) as port:
        session = open_session(port)
        session.ask(TARGET, NOW)
    assert session.redact(f"{KEY} {CREDENTIALS} {KEY[:5]}… {KEY[:3]}… {CREDENTIALS[:9]}…") == (
        f"[redacted] [redacted] [redacted]… {KEY[:3]}… [redacted]…"
    )
    assert session.redact("a word… and no secret") == "a word… and no secret"


def test_errors_tell_what_they_are() -> None:
    """A failure is its result and its words, and without a wish to be left alone."""
    error = PollError(Result.TIMEOUT, "too late")
    assert (str(error), error.retry_after) == ("timeout: too late", timedelta())
