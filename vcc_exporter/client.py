"""One request to the VCC Live API: the bytes of a good response, or a `PollError` with words for people.

Whatever goes wrong between here and the API becomes one of the nine results, in this module and from the
tables below alone.
"""

import base64
import http.client
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from io import BytesIO
from typing import Final, Literal
from urllib.parse import quote, quote_plus, unquote, urlsplit

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from vcc_exporter import __version__
from vcc_exporter.answer import error_words, shorten
from vcc_exporter.config import Customer, KeySource
from vcc_exporter.network import Network, Wire, as_response, open_session, proxies
from vcc_exporter.vocabulary import Result

MOST_BYTES: Final = 8 * 2**20
"""A response's size, unpacked: some 18,000 rows, which is 600 queues on each day of a month."""
_MOST_BYTES_OF_AN_ERROR: Final = 64 * 2**10
_MOST_BYTES_OF_A_KEY: Final = 4096
_CHUNK: Final = 64 * 2**10
_MOST_PREPARED: Final = 8
_SHORTEST_ANYWHERE: Final = 8  # a secret's characters; a shorter one may be a part of ordinary words
_SHORTEST_PART: Final = 4  # of a secret; fewer characters may be an ordinary word's, and tell nothing


class PollError(Exception):
    """A request that failed, in one of the nine ways."""

    def __init__(self, result: Result, message: str, retry_after: timedelta = timedelta()) -> None:
        self.result = result
        self.message = message
        """For the person who must act; holds no secret."""
        self.retry_after = retry_after
        """How long the API wants to be left alone; zero where it does not say."""
        super().__init__(f"{result}: {message}")


class AbandonedError(Exception):
    """A request that this program itself gave up, because nobody wants its answer any more."""


@dataclass(frozen=True, slots=True)
class Question:
    """The options of a statistics request, as the vendor's page documents them."""

    first: date
    last: date
    sla_s: int
    teams: tuple[int, ...] = ()
    projects: tuple[int, ...] = ()
    dimensions: tuple[str, ...] = ("project", "queue", "date")
    output: Literal["tab", "cvs", "json"] | None = None
    """The option `of`; None leaves it out, which means JSON."""

    def target(self) -> str:
        """Return path and query. The order is the page's, since a key's resource may be a pattern of the whole."""
        options = {
            "from": f"{self.first:%Y%m%d}",
            "to": f"{self.last:%Y%m%d}",
            "dimensions": ",".join(self.dimensions),
            "teams": ",".join(map(str, sorted(self.teams))),
            "projects": ",".join(map(str, sorted(self.projects))),
            "manual_sla": str(self.sla_s),
            "of": self.output or "",
        }
        return "/v2/statistics/inbound?" + "&".join(f"{name}={value}" for name, value in options.items() if value)


PROJECTS: Final = "/v2/projects"


class KeyUnreadableError(Exception):
    """An API key that cannot be had; the message says why and holds no part of it."""


def read_key(source: KeySource) -> str:
    """Read an API key from where the config says it is. Raises KeyUnreadableError."""
    if source.inline is not None:
        return source.inline
    if source.env is not None:
        key, place = os.environ.get(source.env, ""), f"the environment variable {source.env}"
    else:
        key, place = _read_key_file(source), f"the file {source.file}"
    if not key:
        raise KeyUnreadableError(f"{place} is empty or not set")
    if not key.isprintable():
        raise KeyUnreadableError(f"{place} holds more than one line, or characters that no key has")
    return key


def _open_at_once(path: str, flags: int) -> int:
    """Open a file. A pipe that nobody writes to would hold the poll for ever otherwise."""
    return os.open(path, flags | os.O_NONBLOCK)


def _read_key_file(source: KeySource) -> str:
    try:
        with open(source.file or "", "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise KeyUnreadableError(f"the file {source.file} is no regular file")
            content = file.read(_MOST_BYTES_OF_A_KEY + 1)
        if len(content) > _MOST_BYTES_OF_A_KEY:
            raise KeyUnreadableError(f"the file {source.file} is too large for a key")
        return content.decode().strip()
    except OSError as error:
        raise KeyUnreadableError(f"the file {source.file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeyUnreadableError(f"the file {source.file} is no UTF-8 text") from None


def readable_by_all(source: KeySource) -> bool:
    """Tell whether every user of the machine may read a key file, by its mode alone.

    A group may: it is how a service, or a pod that runs as nobody, gets at a key of root's.
    """
    try:
        return source.file is not None and bool(source.file.stat().st_mode & stat.S_IROTH)
    except (OSError, ValueError):
        return False  # what is wrong with it is told where it is read


class Session:
    """One customer's connection to the API, and the key as it was last read.

    One request at a time; `abandon` and `forget_key` may be called from any thread.
    """

    def __init__(self, customer: Customer, network: Network) -> None:
        self._customer = customer
        self._network = network
        self._wire = Wire(network)
        self._http: requests.Session | None = None
        self._prepared: dict[str, _Prepared] = {}
        """By URL; to make one costs as much as to send it, and polls ask the same all day."""
        self._key = ""
        self._secrets: tuple[str, ...] | None = None
        """In every form in which they are cut out of texts, the longest first; made when the first text comes."""
        self._key_is_good = False
        self._abandoned = False
        self._answered = False

    def ask(self, target: str, now: datetime) -> bytes:
        """Send one request and return the body of a response with status 200.

        `target` is path and query. Raises PollError, or AbandonedError after `abandon`.
        """
        try:
            return self._ask(target, now)
        except PollError as error:
            if error.result in (Result.UNAUTHORIZED, Result.FORBIDDEN):
                self.forget_key()
            raise

    def forget_key(self) -> None:
        """Read the key anew before the next request."""
        self._key_is_good = False

    def abandon(self) -> None:
        """End the request under way, and all that come after it."""
        self._abandoned = True
        self._wire.end()

    def close(self) -> None:
        """Close the connection. Not while a request is under way."""
        if self._http:
            self._http.close()
            self._http = None
        self._prepared.clear()  # since it may be a day until the next request

    def redact(self, text: str) -> str:
        """Return text from outside, made one short line or not, without the secrets of this session."""
        if self._secrets is None:
            self._secrets = _all_forms([(self._customer.subdomain, self._key), *_proxy_credentials(self._customer)])
        for secret in self._secrets:
            if len(secret) >= _SHORTEST_ANYWHERE:
                text = text.replace(secret, "[redacted]")
            else:
                text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "[redacted]", text)
            # One that echoes where a text was cut stands there in part.
            if "…" in text and secret[:_SHORTEST_PART] in text:
                for length in range(len(secret) - 1, _SHORTEST_PART - 1, -1):
                    text = text.replace(f"{secret[:length]}…", "[redacted]…")
        return text

    def _ask(self, target: str, now: datetime) -> bytes:
        session = self._open()
        with self._in_time():
            prepared = self._prepare(session, self._customer.url + target)
            answer = self._send_again(prepared)
            if answer is not None and _is_usual(answer):
                self._answered = True
                with answer:
                    return _body(_whole(answer), MOST_BYTES)
            if answer is None:
                response = self._send(session, prepared)
            else:
                response = as_response(session, prepared.request, answer)
            self._answered = True
            with response:
                return self._read(response, now)

    def _prepare(self, session: requests.Session, url: str) -> "_Prepared":
        prepared = self._prepared.get(url)
        if prepared is None:
            if len(self._prepared) >= _MOST_PREPARED:
                self._prepared.clear()
            # As bytes, since the library reads a str as Latin-1.
            key = requests.auth.HTTPBasicAuth(self._customer.subdomain.encode(), self._key.encode())
            request = session.prepare_request(requests.Request("GET", url, auth=key))
            prepared = self._prepared[url] = _Prepared(request)
        return prepared

    def _send_again(self, prepared: "_Prepared") -> http.client.HTTPResponse | None:
        """Send a request in the bytes in which it was sent before. None where it has to be sent by the libraries."""
        if not prepared.sent:
            return None
        try:
            return self._wire.send_again(prepared.sent, self._timeout_s)
        except (requests.RequestException, OSError) as error:
            if not self._tells_nothing(error):
                raise
        return None

    def _send(self, session: requests.Session, prepared: "_Prepared") -> requests.Response:
        """Send a request by the libraries, and once more where that met a kept connection just as it was closed."""
        response = self._send_on_kept(session, prepared.request)
        if response is None:
            response = self._send_once(session, prepared.request)
        if not session.proxies:  # to which something else is sent before, or with it
            prepared.sent = self._wire.sent
        return response

    def _send_on_kept(self, session: requests.Session, request: requests.PreparedRequest) -> requests.Response | None:
        try:
            return self._send_once(session, request)
        except requests.ConnectionError as error:
            if not self._tells_nothing(error):
                raise
        return None

    def _tells_nothing(self, error: Exception) -> bool:
        """Tell whether an error says nothing of the request: the other side closed a kept connection meanwhile."""
        return not self._wire.fresh and _is_cut(error) and not self._over()

    def _send_once(self, session: requests.Session, request: requests.PreparedRequest) -> requests.Response:
        # By the session's adapter itself: what the session does beside it, for redirects and cookies, is not wanted.
        adapter = session.get_adapter(request.url or "")
        return adapter.send(request, stream=True, timeout=self._timeout_s, proxies=session.proxies)

    @property
    def _timeout_s(self) -> float:
        return self._customer.timeout.total_seconds()

    def _over(self) -> bool:
        return self._abandoned or bool(self._wire.deadline and self._wire.deadline.passed)

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Turn whatever happens to a request into the errors of this module, and end it at its deadline."""
        deadline = self._wire.deadline = self._network.watch(self._wire, self._timeout_s)
        self._wire.fresh = self._answered = False
        problem: PollError | None = None
        try:
            yield
            self._network.left(deadline)  # by the clock, since who watches it may be late, too
        except PollError as error:
            problem = error
        except (requests.RequestException, HTTPError, OSError, http.client.HTTPException, ValueError) as error:
            result, message = _explain(error, self._answered)
            problem = PollError(result, self.redact(message))
            _let_go(error)
        finally:
            self._network.forget(deadline)
            self._wire.deadline = None
            if problem or deadline.passed:
                self.close()
        try:
            # From None: what the libraries raised may quote what came, and what came may quote the key.
            if self._abandoned:
                raise AbandonedError from None
            if deadline.passed or (problem and problem.result is Result.TIMEOUT):
                raise PollError(Result.TIMEOUT, f"no whole answer within {self._timeout_s:g} s") from None
            if problem:
                raise problem from None
        finally:
            problem = None  # which holds where it was raised, and would be held by that

    def _open(self) -> requests.Session:
        if self._abandoned:
            raise AbandonedError
        if not self._key_is_good:
            self._read_key()
        if self._http is None:
            self._http = self._connectionless()
        return self._http

    def _read_key(self) -> None:
        try:
            key = read_key(self._customer.key)
        except KeyUnreadableError as error:
            raise PollError(Result.UNAUTHORIZED, f"the API key cannot be read: {error}") from None
        self._key = key
        self._secrets = None
        self._key_is_good = True
        self._prepared.clear()

    def _connectionless(self) -> requests.Session:
        customer = self._customer
        try:
            context = self._network.tls(customer.ca_file) if customer.url.startswith("https:") else None
        except OSError as error:
            what = error.strerror or "it holds no certificate"
            raise PollError(Result.UNREACHABLE, f"the trusted certificates (ca_file) cannot be read: {what}") from None
        headers = {"User-Agent": f"vcc-exporter/{__version__}", "Accept": "application/json, text/plain"}
        return open_session(self._wire, customer.url, customer.proxy_url, context, headers)

    def _read(self, response: requests.Response, now: datetime) -> bytes:
        if response.status_code == HTTPStatus.OK:
            return _body(response.iter_content(_CHUNK), MOST_BYTES)
        try:
            words = self.redact(error_words(_body(response.iter_content(_CHUNK), _MOST_BYTES_OF_AN_ERROR)))
        except (PollError, requests.RequestException, HTTPError):
            words = ""  # the status says enough
        result, message = _judge(response.status_code, words)
        raise PollError(result, message, _retry_after(response.headers.get("Retry-After", ""), now))


def _proxy_credentials(customer: Customer) -> Iterator[tuple[str, str]]:
    """Yield user and password of each proxy that a customer's requests may go through."""
    for url in set(proxies(customer.url, customer.proxy_url).values()):
        with suppress(ValueError):  # an address that cannot be one leads nowhere
            parts = urlsplit(url)
            if parts.password:
                yield unquote(parts.username or ""), unquote(parts.password)


def _all_forms(credentials: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the forms in which others write users' passwords, the longest first."""
    found = set[str]()
    for user, password in credentials:
        # The third is how it stands in a text that was made one line.
        plain = {password, json.dumps(password)[1:-1], " ".join(password.split())}
        quoted = {write(password) for write in (quote, quote_plus, partial(quote, safe=""))}
        # A proxy gets Latin-1 where that is possible, the API UTF-8.
        packed = {
            text.encode(charset, "ignore")
            for text in (password, f"{user}:{password}")
            for charset in ("utf-8", "latin-1")
        }
        found |= plain | quoted | {re.sub("%..", lambda octet: octet[0].lower(), text) for text in quoted}
        for pack in (base64.b64encode, base64.urlsafe_b64encode):
            # What fills up the end is left out by some.
            found |= {form for text in packed for form in (pack(text).decode(), pack(text).decode().rstrip("="))}
        found |= {number for octets in packed for number in (octets.hex(), octets.hex().upper())}
    return tuple(sorted(filter(None, found), key=lambda form: (-len(form), form)))


@dataclass(slots=True)
class _Prepared:
    """A request that may be sent again and again."""

    request: requests.PreparedRequest
    sent: bytes = field(default=b"", repr=False)
    """What it is on the wire, the key included; empty where that is not known."""


def _is_usual(answer: http.client.HTTPResponse) -> bool:
    """Tell whether an answer is good, and its body what it says and as long: any other the libraries read with care."""
    lengths = answer.headers.get_all("Content-Length", [])
    is_plain = lengths == [str(answer.length)] and "Content-Encoding" not in answer.headers
    return is_plain and answer.status == HTTPStatus.OK


def _body(parts: Iterable[bytes], most: int) -> bytes:
    """Read a body, unpacked, within a size."""
    body = BytesIO()  # from which it is taken without a copy
    for part in parts:
        if body.tell() + len(part) > most:
            raise PollError(Result.INVALID_RESPONSE, f"the answer is larger than {most // 2**20} MiB")
        body.write(part)
    return body.getvalue()


def _whole(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the parts of a body. Raises HTTPException where it ends too soon, which the library does not tell."""
    yield from iter(partial(answer.read, _CHUNK), b"")
    if answer.length:
        raise http.client.IncompleteRead(b"", answer.length)


# Statuses to results.

_BY_STATUS: Final[dict[int, tuple[Result, str]]] = {
    401: (Result.UNAUTHORIZED, "the subdomain or the API key is wrong"),
    403: (
        Result.FORBIDDEN,
        "the key does not allow this resource or query, or this machine's address is not registered with the vendor",
    ),
    404: (Result.REJECTED, "nothing is at this address: check url"),
    407: (Result.UNREACHABLE, "the proxy wants other credentials (proxy_url)"),
    429: (Result.RATE_LIMITED, "asked too often: make poll.interval longer"),
}
_BY_CLASS: Final[dict[int, tuple[Result, str]]] = {
    3: (Result.INVALID_RESPONSE, "it leads elsewhere (a redirect): check url"),
    4: (Result.REJECTED, "the API does not accept the question"),
    5: (Result.SERVER_ERROR, "the API has a fault of its own"),
}
# The vendor's page documents three messages of status 417.
_DOCUMENTED: Final = (
    ("error.argument_format_error", "it cannot read an option: check teams, the ids of projects and sla in the config"),
    ("error.argument_missing_or_empty", "it misses an option: does a proxy or the url in the config change the query?"),
    ("error.maximum_date_interval_reached", "too many days were asked for at once: make poll.lookback shorter"),
)


def _judge(status: int, words: str) -> tuple[Result, str]:
    default = Result.INVALID_RESPONSE, "the status is none that the API documents"
    result, message = _BY_STATUS.get(status) or _BY_CLASS.get(status // 100) or default
    if result is Result.REJECTED:
        message = next((told for name, told in _DOCUMENTED if name in words), message)
    said = f" ({words})" if words else ""
    return result, f"HTTP {status}: {message}{said}"


def _retry_after(value: str, now: datetime) -> timedelta:
    """Read the header Retry-After, seconds or a date; zero for anything else."""
    try:
        if re.fullmatch(r"[0-9]{1,9}", value.strip(), re.ASCII):
            return timedelta(seconds=int(value))
        until = parsedate_to_datetime(value)
        return max((until if until.tzinfo else until.replace(tzinfo=UTC)) - now, timedelta())
    except (ValueError, TypeError, OverflowError):
        return timedelta()


# Exceptions to results. The libraries wrap them in one another, so that the whole chain counts.


_CUT: Final = (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)
_IN_TIME: Final = (requests.Timeout, TimeoutError, ReadTimeoutError)
_ADDRESS: Final = (requests.exceptions.InvalidSchema, requests.exceptions.InvalidProxyURL)
_UNREADABLE: Final = (http.client.HTTPException, requests.exceptions.InvalidHeader)
_UNPACKING: Final = (requests.exceptions.ContentDecodingError,)
# The first row counts of which the chain holds one; until a status has come, and after.
_BEFORE_AN_ANSWER: Final[tuple[tuple[tuple[type[BaseException], ...], Result, str], ...]] = (
    (_IN_TIME, Result.TIMEOUT, "no whole answer in time"),
    ((requests.exceptions.ProxyError,), Result.UNREACHABLE, "the proxy does not lead to the API: {reason}"),
    (
        (requests.exceptions.SSLError,),
        Result.UNREACHABLE,
        "no safe connection to the API (TLS): {reason}; check url and ca_file",
    ),
    (_CUT, Result.UNREACHABLE, "the connection was closed before any answer"),
    (_ADDRESS, Result.UNREACHABLE, "the proxy's address cannot be used (proxy_url, or the environment's)"),
    (_UNREADABLE, Result.INVALID_RESPONSE, "the answer is no HTTP that can be read"),
    ((BaseException,), Result.UNREACHABLE, "no connection to the API: {reason}"),
)
_IN_AN_ANSWER: Final[tuple[tuple[tuple[type[BaseException], ...], Result, str], ...]] = (
    (_IN_TIME, Result.TIMEOUT, "no whole answer in time"),
    (_UNPACKING, Result.INVALID_RESPONSE, "the answer cannot be unpacked"),
    ((BaseException,), Result.INVALID_RESPONSE, "the answer was cut short"),
)


def _explain(error: Exception, answered: bool) -> tuple[Result, str]:
    """Return the result and the words for an exception; `answered` tells whether a status had come."""
    causes = list(_causes(error))
    rows = _IN_AN_ANSWER if answered else _BEFORE_AN_ANSWER
    _, result, words = next(row for row in rows if any(isinstance(cause, row[0]) for cause in causes))
    return result, words.format(reason=_reason(causes))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        found = pending.pop()
        if isinstance(found, BaseException) and id(found) not in seen:
            seen.add(id(found))
            yield found
            pending += [found.__context__, found.__cause__, getattr(found, "reason", None), *found.args]


def _let_go(error: BaseException) -> None:
    """Part exceptions from where they were raised, which holds them in turn, and all that was known there with them.

    Only a collection of garbage would free that, 13 kB for each poll that fails.
    """
    for cause in _causes(error):
        cause.__traceback__ = None


def _is_cut(error: BaseException) -> bool:
    """Tell a connection that ended before any answer."""
    return any(isinstance(cause, _CUT) for cause in _causes(error))


def _reason(causes: list[BaseException]) -> str:
    """Return the system's own words for why there was no connection; the libraries' would quote addresses."""
    for cause in reversed(causes):
        if isinstance(cause, OSError) and not isinstance(cause, requests.RequestException):
            words = getattr(cause, "verify_message", "") or cause.strerror or str(cause)
            return shorten(re.sub(r" \(_ssl\.c:\d+\)", "", words)).rstrip(".")
    return "the host's name cannot be used" if any(isinstance(c, ValueError) for c in causes) else "no reason is known"
