"""HTTP over `requests` with one deadline for a whole request, and a way to end it from another thread.

The library's own timeouts bound a single read of a socket, so that headers or a body that drip would hold
a request for hours; and neither looking up a name nor a TLS handshake has a bound that covers the whole.
Here one thread watches the deadlines of all requests and shuts the socket of one whose time is up, names
are looked up in threads of their own, and addresses are tried with the time that is left.
"""

import contextlib
import functools
import heapq
import http.client
import itertools
import os
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies
from urllib3 import HTTPHeaderDict, HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, InvalidHeader, NewConnectionError
from urllib3.util.ssl_ import create_urllib3_context
from urllib3.util.ssltransport import SSLTransport

from vcc_exporter.times import Clock

_Address = tuple[Any, ...]
# What requests itself looks at, then what OpenSSL does.
_CA_VARIABLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


class Deadline:
    """The end of one request's time."""

    def __init__(self, at: float, wire: "Wire") -> None:
        self.at = at
        """On the clock's monotonic time."""
        self.passed = False
        self._wire = wire

    def expire(self) -> None:
        """End the request, because its time is up; another one on the same wire goes on."""
        self.passed = True
        if self._wire.deadline is self:
            self._wire.shut()


class Network:
    """What all requests share: the watch over deadlines, name look-ups under way, TLS contexts.

    Every method may be called from any thread.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Condition()
        self._watched: list[tuple[float, int, Deadline]] = []
        self._serial = itertools.count()
        self._looks_at = float("inf")
        """When whoever watches the deadlines looks at them next. Nobody is woken for one that comes later."""
        self._lookups: dict[str, Future[list[_Address]]] = {}
        self._contexts: dict[Path, tuple[object, ssl.SSLContext]] = {}
        self._making: dict[Path, threading.Lock] = {}
        """Held by who makes the context of a file, while others who want the same one wait for it."""
        # At once: later the system may have no thread to give, and no request could be made.
        threading.Thread(target=self._watch, name="deadlines", daemon=True).start()

    def left(self, deadline: Deadline) -> float:
        """Return the seconds that are left. Raises TimeoutError where none is."""
        left = deadline.at - self._clock.monotonic()
        if left <= 0 or deadline.passed:
            raise TimeoutError
        return left

    def watch(self, wire: "Wire", timeout_s: float) -> Deadline:
        """Begin a request's time; it is ended unless `forget` comes first."""
        deadline = Deadline(self._clock.monotonic() + timeout_s, wire)
        with self._lock:
            heapq.heappush(self._watched, (deadline.at, next(self._serial), deadline))
            if deadline.at < self._looks_at:
                self._lock.notify()
        return deadline

    def forget(self, deadline: Deadline) -> None:
        """End the watch over a request that is over."""
        with self._lock:
            # Only the first is taken out; the others leave when they come to be the first.
            deadline.at = float("-inf")
            while self._watched and self._watched[0][2].at == float("-inf"):
                heapq.heappop(self._watched)

    def _watch(self) -> None:
        while True:
            with self._lock:
                while not self._watched or self._watched[0][0] > self._clock.monotonic():
                    self._looks_at = self._watched[0][0] if self._watched else float("inf")
                    self._lock.wait(self._looks_at - self._clock.monotonic() if self._watched else None)
                deadline = heapq.heappop(self._watched)[2]
                forgotten = deadline.at == float("-inf")
            if not forgotten:
                deadline.expire()

    def look_up(self, host: str, port: int, timeout_s: float) -> list[_Address]:
        """Return a host's addresses. Raises OSError, a TimeoutError among them.

        A look-up that hangs goes on in a thread of its own; who asks for the same name meanwhile waits for
        the same answer, so that a dead name server costs one thread a name.
        """
        with contextlib.suppress(socket.gaierror):
            return list(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST))
        with self._lock:
            found = self._lookups.get(host)
            if found is None:
                found = Future()
                try:
                    threading.Thread(target=self._resolve, args=(host, found), name="look-up", daemon=True).start()
                except RuntimeError:
                    raise OSError("the system gives no thread to look up the name") from None
                self._lookups[host] = found  # the thread takes it out again, which has to wait for the lock
        addresses = found.result(timeout_s)
        return [(*address[:4], (address[4][0], port, *address[4][2:])) for address in addresses]

    def _resolve(self, host: str, found: Future[list[_Address]]) -> None:
        try:
            found.set_result(list(socket.getaddrinfo(host, None, 0, socket.SOCK_STREAM)))
        except (OSError, UnicodeError, MemoryError) as error:
            found.set_exception(error if isinstance(error, OSError) else OSError("the name cannot be looked up"))
        finally:
            with self._lock:
                del self._lookups[host]

    def tls(self, ca_file: Path | None) -> ssl.SSLContext:
        """Return the context that trusts a file's certificates, made once and again when the file changes.

        None stands for what the environment names, else for the certificates that `requests` brings.
        Raises OSError where the file cannot be read or holds no certificate.
        """
        given = next(filter(None, map(os.environ.get, _CA_VARIABLES)), None)
        path = Path(ca_file or given or DEFAULT_CA_BUNDLE_PATH)
        status = path.stat()
        version = (status.st_mtime_ns, status.st_size, status.st_ino)
        with self._lock:
            making = self._making.setdefault(path, threading.Lock())
        with making:
            known, context = self._contexts.get(path, (None, None))
            if context is None or known != version:
                context = create_urllib3_context()
                if path.is_dir():
                    context.load_verify_locations(capath=path)
                else:
                    context.load_verify_locations(path)
                self._contexts[path] = (version, context)
        return context


class Wire:
    """The one connection of a session, as another thread may have to end it."""

    def __init__(self, network: Network) -> None:
        self.deadline: Deadline | None = None
        """Of the request under way."""
        self.fresh = False
        """Whether the request under way made the connection, and did not find one."""
        self.connection: Callable[[], _Plain | None] = lambda: None
        """Returns it as long as the libraries hold it; it may be closed by then."""
        self.sent = b""
        """What the libraries sent last, such as a whole request."""
        self._ended = False
        self._network = network
        self._socket: socket.socket | None = None

    def connect(self, host: str, port: int, options: Any) -> socket.socket:
        """Connect within the deadline, one address after the other. Raises OSError."""
        self.fresh = True
        addresses = self._network.look_up(host, port, self._left())
        problem: OSError = OSError("the name has no address")
        for count, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                return self._connect(address, self._left() / count, options)
            except OSError as error:
                problem = error
        raise problem

    def _connect(self, address: _Address, timeout_s: float, options: Any) -> socket.socket:
        made = socket.socket(*address[:3])
        # A TLS handshake takes the socket over, so that only a copy can end it.
        copy = socket.socket(fileno=os.dup(made.fileno()))
        try:
            for option in options or ():
                made.setsockopt(*option)
            made.settimeout(timeout_s)
            self._hold(copy)
            made.connect(address[4])
            self._hold(copy)  # again, since what is not under way cannot be ended
        except BaseException:
            made.close()
            copy.close()
            raise
        return made

    def connected(self, made: Any) -> None:
        """Take note of the connection as it is when everything before the request is done, or has failed."""
        copy = self._socket
        self._hold(made.socket if isinstance(made, SSLTransport) else made)
        if copy:
            copy.close()

    def send_again(self, request: bytes, timeout_s: float) -> http.client.HTTPResponse | None:
        """Send on the kept connection what the libraries have sent before, and read the head of the answer.

        Returns None where no connection was kept. Raises what the libraries would, or OSError or HTTPException. They
        take twice as long for that, mostly to find the connection, and to write the same request again.
        """
        kept = self.connection()
        if kept is None or not kept.is_connected:
            return None
        answer = _Response(kept.sock, method="GET")
        try:
            kept.sock.settimeout(timeout_s)
            kept.sock.sendall(request)
            answer.begin()
        except BaseException as error:
            kept.close()
            answer.close()
            if isinstance(error, ssl.SSLError):
                raise requests.exceptions.SSLError(error) from error
            raise
        if answer.will_close:
            kept.close()
        return answer

    def _hold(self, made: socket.socket | None) -> None:
        self._socket = made
        if self._ended or (self.deadline and self.deadline.passed):
            self.shut()

    def _left(self) -> float:
        if self.deadline is None or self._ended:
            raise TimeoutError
        return self._network.left(self.deadline)

    def end(self) -> None:
        """End what is under way, and whatever connection would be made after it."""
        self._ended = True
        self.shut()

    def shut(self) -> None:
        """End what is under way: whoever reads or writes the connection is told that it is over."""
        held = self._socket
        if held:
            with contextlib.suppress(OSError):
                # Not the method of a TLS socket, which is not made for a second thread.
                socket.socket.shutdown(held, socket.SHUT_RDWR)


class _Response(http.client.HTTPResponse):
    """A response without cookies, which the libraries would read also where none is kept.

    On a date whose year has too many digits the standard library then prints a traceback.
    """

    def begin(self) -> None:
        super().begin()
        for name in ("Set-Cookie", "Set-Cookie2"):
            del self.headers[name]


class _Plain(HTTPConnection):
    """A connection that tells its wire."""

    response_class = _Response

    def __init__(self, *args: Any, wire: Wire, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wire = wire

    def _new_conn(self) -> socket.socket:
        return _connect(self, self._wire)

    def connect(self) -> None:
        self._wire.connection = weakref.ref(self)
        try:
            super().connect()
        finally:
            self._wire.connected(self.sock)

    def send(self, data: Any) -> None:
        self._wire.sent = data
        super().send(data)


class _Secure(_Plain, HTTPSConnection):
    """The same over TLS: what `_Plain` calls is the TLS connection's."""


def _connect(connection: HTTPConnection, wire: Wire) -> socket.socket:
    try:
        return wire.connect(connection.host, connection.port, connection.socket_options)
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, "no connection in time") from error
    except OSError as error:
        raise NewConnectionError(connection, error.strerror or str(error)) from error


class _Adapter(HTTPAdapter):
    """Makes connections that tell their wire, with a TLS context that is made once for all."""

    def __init__(self, wire: Wire, context: ssl.SSLContext | None) -> None:
        self._tls: dict[str, Any] = {"ssl_context": context} if context else {}
        self._plain = functools.partial(_Plain, wire=wire)
        self._secure = functools.partial(_Secure, wire=wire)
        self._pool: Any = None
        super().__init__(pool_connections=1, pool_maxsize=1, pool_block=True)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **pool_kwargs, **self._tls)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()  # the base leaves that to a collection of garbage, which may be long in coming
        super().close()

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        context = {"proxy_ssl_context": self._tls["ssl_context"]} if self._tls else {}
        return super().proxy_manager_for(proxy, **kwargs, **self._tls, **context)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ARG002 - the base's
        """Leave the certificates to the context, where the base loads them for each connection."""
        conn.cert_reqs = "CERT_REQUIRED"

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        if self._pool is None:  # the session has but one host, and to find its pool anew takes an eighth of a request
            pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
            pool.ConnectionCls = self._secure if pool.scheme == "https" else self._plain
            self._pool = pool
        return self._pool


def as_response(
    session: requests.Session, request: requests.PreparedRequest, answer: http.client.HTTPResponse
) -> requests.Response:
    """Return an answer as the libraries would, which know how to unpack it. Raises what they would."""
    try:
        raw = HTTPResponse(
            answer,
            HTTPHeaderDict(answer.headers.items()),
            answer.status,
            reason=answer.reason,
            preload_content=False,
            original_response=answer,
            request_method=request.method,
        )
    except InvalidHeader as error:
        answer.close()
        raise requests.exceptions.InvalidHeader(error, request=request) from error
    adapter: Any = session.get_adapter(request.url or "")
    response: requests.Response = adapter.build_response(request, raw)
    return response


def proxies(url: str, proxy_url: str | None) -> Mapping[str, str]:
    """Return the proxies for a URL by scheme: a given one, else the environment's."""
    return {"http": proxy_url, "https": proxy_url} if proxy_url else dict(get_environ_proxies(url))


def open_session(
    wire: Wire, url: str, proxy_url: str | None, context: ssl.SSLContext | None, headers: dict[str, str]
) -> requests.Session:
    """Open a session for one host: one connection, kept alive, without cookies, `.netrc` and retries."""
    session = requests.Session()
    session.proxies = dict(proxies(url, proxy_url))
    session.trust_env = False
    session.headers.update(headers)
    adapter = _Adapter(wire, context)
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session
