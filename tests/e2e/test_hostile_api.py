"""One daemon, and an API that is hostile in forty ways at once, each at a customer of its own, beside healthy ones."""

import base64
import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

import psutil
import pytest
import trustme
from conftest import StartDaemon
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
    reset,
    status,
    then,
    tunnel,
    zeros,
)
from leaks import leaks
from reading import read_html
from running import Daemon, Samples, eventually, fetch, noon_zone, one
from support import http_response, raw_server, read_request

from vcc_exporter.client import MOST_BYTES
from vcc_exporter.schedule import LOOKUPS_AT_ONCE
from vcc_exporter.vocabulary import STATISTICS, Result

pytestmark = pytest.mark.usefixtures("no_environment")

HEALTHY: Final = 4
INTERVAL_S: Final = 3
SHORT_S: Final = 2
"""The time of requests that are to meet their deadline; all others have `LONG_S`, on the busiest machine."""
LONG_S: Final = 60
SLACK_S: Final = 20
"""How much later than its deadline a poll may be over on a busy machine."""
GROWTH: Final = 400 * 2**20
"""How much memory all of it may take: what one large answer becomes while it is read, and a dozen others' bytes."""
MOST_OTHER_THREADS: Final = 20
"""Beside those that poll and look back: of the web server, the scheduler, the page, the deadlines, look-ups."""
PROXY_PASSWORD: Final = 'pr0xy/"of all&é+1'


def rows_body(*rows: Mapping[str, Any] | str) -> bytes:
    """Return a statistics response; a row that is a text is JSON already."""
    texts = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    return f'{{"response": [{", ".join(texts)}], "errors": []}}'.encode()


def full_of(unit: str) -> bytes:
    """Return a response of the largest size, full of small rows."""
    return rows_body(*[unit] * ((MOST_BYTES - 100) // (len(unit) + 2)))


def always(reply: bytes) -> Handle:
    """Answer every request with the same bytes."""

    def handle(connection: socket.socket) -> None:
        while read_request(connection):
            connection.sendall(reply)

    return handle


def asked(behave: Handle) -> Handle:
    """Read a request and behave."""

    def handle(connection: socket.socket) -> None:
        if read_request(connection):
            behave(connection)

    return handle


def echo(write: Callable[[str, str], bytes], header: str = "authorization") -> Handle:
    """Answer each request with something that is made of the credentials that came: the header, and the password."""

    def handle(connection: socket.socket) -> None:
        while head := read_request(connection):
            lines = head.decode("latin-1").split("\r\n")[1:]
            sent = next((line.partition(": ")[2] for line in lines if line.lower().startswith(f"{header}:")), "")
            password = base64.b64decode(sent.removeprefix("Basic ")).partition(b":")[2]
            text = password.decode("latin-1" if header.startswith("proxy") else "utf-8")
            connection.sendall(write(sent, text))

    return handle


def in_all_forms(sent: str, key: str) -> str:
    """Write credentials in every form in which an API might."""
    octets = key.encode()
    quoted = f"{quote(key)} {quote(key, safe='').lower()}"
    return f"{key} {sent} {quoted} {base64.b64encode(octets).decode()} {octets.hex()} {json.dumps(key)}"


def response_text(code: str, *errors: Any) -> bytes:
    """Return a refusal in words."""
    return http_response(json.dumps({"response": [], "errors": errors}, ensure_ascii=False).encode(), code)


@dataclass
class Scenery:
    """What the hostile servers need."""

    today: int
    authority: trustme.CA
    wrong: trustme.LeafCert
    """A certificate of another name."""
    old: trustme.LeafCert
    elsewhere: list[bytes]
    """What came where a redirect leads."""
    elsewhere_port: int

    def row(self, **more: Any) -> dict[str, Any]:
        """Return a good row of today, with something else in it."""
        return {"projectid": 1, "queueid": 1, "date": self.today, "answered_before": 7, **more}


@dataclass(frozen=True)
class Fault:
    """How a server behaves, and what is to be told of it."""

    handle: Handle
    result: Result
    words: str
    """On the page."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    """Of the customer's config; in texts PORT stands for the server's."""
    timeout_s: int = LONG_S


def timeouts() -> dict[str, Fault]:
    """Return what never ends."""
    behaviour: dict[str, Handle] = {
        "silence": asked(hang),
        "dripping-status": asked(drip(b"H")),
        "dripping-headers": asked(then(HEAD + b"X: ", drip(b"1"))),
        "dripping-body": asked(then(HEAD + b"Content-Length: 1000000\r\n\r\n", drip(b"{"))),
        "dripping-chunks": asked(then(CHUNKED, drip(b"1\r\n{\r\n"))),
        "dripping-error": asked(then(b"HTTP/1.1 500 X\r\n\r\n", drip(b"{"))),
        "promised-body": asked(then(HEAD + b"Content-Length: 30\r\n\r\n", hang)),
        "flood-of-interim-answers": asked(drip(b"HTTP/1.1 100 Continue\r\n\r\n")),
    }
    words = f"no whole answer within {SHORT_S} s"
    found = {name: Fault(handle, Result.TIMEOUT, words, timeout_s=SHORT_S) for name, handle in behaviour.items()}
    others: dict[str, tuple[Handle, dict[str, str]]] = {
        "handshake-that-hangs": (hang, {"url": "https://127.0.0.1:PORT"}),
        "proxy-that-hangs": (hang, {"url": "https://api.invalid", "proxy_url": "http://127.0.0.1:PORT"}),
        "dns-that-hangs": (hang, {"url": "http://hang.invalid:PORT"}),
    }
    return found | {
        name: Fault(handle, Result.TIMEOUT, words, keys, SHORT_S) for name, (handle, keys) in others.items()
    }


def unreachable(scenery: Scenery) -> dict[str, Fault]:
    """Return what keeps a request from the API."""
    tls = {"url": "https://127.0.0.1:PORT"}
    user = f"http://scrape:{quote(PROXY_PASSWORD, safe='')}@127.0.0.1:PORT"
    echoed = echo(
        lambda sent, key: response_text(f"407 {sent}", f"{in_all_forms(sent, key)}"), header="proxy-authorization"
    )
    return {
        name: Fault(handle, Result.UNREACHABLE, words, keys)
        for name, (handle, words, keys) in {
            "closed": (asked(close), "closed before any answer", {}),
            "reset": (asked(reset), "closed before any answer", {}),
            "another-name": (over_tls(scenery.wrong, hang), "not valid for '127.0.0.1'", tls),
            "old-certificate": (over_tls(scenery.old, hang), "certificate has expired", tls),
            "no-tls": (then(b"HTTP/1.1 400 X\r\n\r\n", hang), "no safe connection", tls),
            "proxy-password": (
                asked(then(b"HTTP/1.1 407 X\r\n\r\n", hang)),
                "407",
                {"url": "https://api.invalid", "proxy_url": user},
            ),
            "proxy-that-echoes": (echoed, "[redacted]", {"url": "http://api.invalid", "proxy_url": user}),
            "tunnel-that-echoes": (echoed, "[redacted]", {"url": "https://api.invalid", "proxy_url": user}),
            "proxy-without-a-way": (
                tunnel(hang, [], b"HTTP/1.1 502 Bad Gateway\r\n\r\n"),
                "502",
                {"url": "https://api.invalid", "proxy_url": user},
            ),
        }.items()
    }


def large(scenery: Scenery) -> dict[str, tuple[Handle, str]]:
    """Return what would fill the memory."""
    distinct = rows_body(
        *("{" + ",".join(f'"{500 * i + j:x}":0' for j in range(500)) + "}" for i in range(1100)), scenery.row()
    )
    return {
        "endless-body": (asked(then(HEAD + b"\r\n", flood(bytes(65536)))), "larger than 8 MiB"),
        "endless-chunks": (asked(then(CHUNKED, flood(b"10000\r\n" + bytes(65536) + b"\r\n"))), "larger than 8 MiB"),
        "endless-size-of-a-chunk": (asked(then(CHUNKED, flood(b"0" * 65536))), "cut short"),
        "gzip-bomb": (always(http_response(zeros(512), "200 OK", "Content-Encoding: gzip")), "larger than 8 MiB"),
        "million-headers": (asked(then(HEAD, flood(b"X-Header: 1\r\n" * 999))), "no HTTP that can be read"),
        "endless-header": (asked(then(HEAD + b"X: ", flood(b"x" * 65536))), "no HTTP that can be read"),
        "million-rows": (always(http_response(full_of("{}"))), "more than 600000 values"),
        "million-numbers": (always(http_response(full_of("0"))), "more than 600000 values"),
        "rows-of-a-century": (always(http_response(rows_body(*["0"] * 50_001))), "more than 50000 rows"),
        # Each becomes ten times as large while it is read.
        **{f"distinct-keys-{i}": (always(http_response(distinct)), "SUCCESS") for i in range(6)},
    }


def invalid(scenery: Scenery) -> dict[str, tuple[Handle, str]]:
    """Return what is no answer."""
    day = datetime.strptime(str(scenery.today), "%Y%m%d") - timedelta(days=1)  # noqa: DTZ007 - a date alone
    yesterday = f"{day:%Y%m%d}"
    digits, good = "9" * 1000, scenery.row()
    wrong_ids = [f'{{"projectid": {n}, "queueid": 1}}' for n in (2**64, 2**53, digits, "1e999", '"1e3"', "-1", "true")]
    twice = f'{{"response": [{json.dumps(good)}], "errors": ["x"], "errors": []}}'.encode()
    return {
        "too-long-length": (asked(then(HEAD + b"Content-Length: 999\r\n\r\n" + rows_body(good), close)), "cut short"),
        "too-short-length": (
            asked(then(HEAD + b"Content-Length: 9\r\n\r\n" + rows_body(good), close)),
            "no JSON: it breaks off",
        ),
        "two-lengths": (always(HEAD + b"Content-Length: 4, 5\r\n\r\n{}"), "no HTTP that can be read"),
        "redirect": (
            always(status(302, headers=(f"Location: http://127.0.0.1:{scenery.elsewhere_port}/",))),
            "it leads elsewhere",
        ),
        "login-page": (always(http_response(b"<!DOCTYPE html><form>")), "a web page, such as a login"),
        "deep": (always(http_response(b'{"errors": [], "response": ' + b"[" * 100_000)), "nested too deeply"),
        "deep-errors": (always(http_response(b'{"errors": ' + b'{"a":' * 100_000)), "nested too deeply"),
        "wrong-ids": (always(http_response(rows_body(*wrong_ids))), "none of 7 rows can be used"),
        "wrong-numbers": (
            always(http_response(rows_body(json.dumps(good).replace("7}", f"{digits}}}")))),
            "a value that is no finite number",
        ),
        "another-day": (always(http_response(rows_body({**good, "date": int(yesterday)}))), "check timezone"),
        "errors-twice": (always(http_response(twice)), "it is JSON, but no object with response and errors"),
        "rows-twice": (
            always(http_response(rows_body(json.dumps(good)[:-1] + ', "projectid": 2}'))),
            "a key twice in one row",
        ),
        "garbage": (asked(then(bytes(range(256)), close)), "no HTTP that can be read"),
        "cookie": (
            always(http_response(b"{}", "200 OK", "Set-Cookie: a=b; expires=1 1 " + "1" * 5000)),
            "no empty list of errors",
        ),
    }


def echoes(scenery: Scenery) -> dict[str, Fault]:
    """Return what repeats the key."""

    def header(sent: str, key: str) -> bytes:
        lines = "Content-Length: 0", f"X-Key: {in_all_forms(sent, key)}", f"Set-Cookie: key={sent}", key
        return HEAD[:9] + f"500 {key} {sent}\r\n".encode() + "\r\n".join(lines).encode() + b"\r\n\r\n"

    def location(sent: str, key: str) -> bytes:
        where = f"Location: http://acme:{quote(key)}@127.0.0.1:1/{sent}?key={quote(key, safe='')}"
        return status(302, in_all_forms(sent, key), headers=(where,))

    def names(sent: str, key: str) -> bytes:
        # Of a row and of a project at once: each reader takes what it knows.
        said = in_all_forms(sent, key)
        odd = (scenery.row(date=said), scenery.row(projectid=key), scenery.row(queueid=2, talk_time=said))
        return http_response(rows_body(scenery.row(name=f"Sales {said}"), *odd))

    found: dict[str, tuple[Callable[[str, str], bytes], Result, str]] = {
        "in-words": (
            lambda sent, key: response_text("401 X", {"message": in_all_forms(sent, key)}),
            Result.UNAUTHORIZED,
            "[redacted]",
        ),
        "in-words-cut": (
            lambda _, key: response_text("403 X", "x" * 180 + key + "and more" * 9),
            Result.FORBIDDEN,
            "[redacted]…",
        ),
        "in-words-of-success": (
            lambda sent, key: http_response(json.dumps({"response": [], "errors": [sent, key]}).encode()),
            Result.INVALID_RESPONSE,
            "it reports errors: Basic [redacted]",
        ),
        "in-headers": (header, Result.SERVER_ERROR, "HTTP 500: the API has a fault of its own"),
        "in-a-redirect": (location, Result.INVALID_RESPONSE, "it leads elsewhere (a redirect): check url ([redacted]"),
        "in-a-date": (
            lambda sent, key: http_response(rows_body(scenery.row(date=f"{key} {sent}"))),
            Result.INVALID_RESPONSE,
            "rows came dated [redacted]",
        ),
        "in-no-http": (lambda sent, key: f"{key} {sent}\r\n\r\n".encode(), Result.INVALID_RESPONSE, "no HTTP"),
        "in-names": (names, Result.SUCCESS, "Sales [redacted] Basic [redacted]"),
    }
    return {f"key-{name}": Fault(echo(write), result, words) for name, (write, result, words) in found.items()}


def all_faults(scenery: Scenery) -> dict[str, Fault]:
    """Return every way to be hostile by the customer's name."""
    bad = {
        name: Fault(handle, Result.SUCCESS if words == "SUCCESS" else Result.INVALID_RESPONSE, words)
        for name, (handle, words) in {**large(scenery), **invalid(scenery)}.items()
    }
    return {**timeouts(), **unreachable(scenery), **bad, **echoes(scenery)}


class Healthy:
    """An API that is well, and remembers when it was asked for today's numbers."""

    def __init__(self, number: int, today: int) -> None:
        self.number = number
        self.polls: list[float] = []
        self._today = today

    def __call__(self, connection: socket.socket) -> None:
        """Serve one connection."""
        while head := read_request(connection):
            query = head.split(b" ")[1].decode()
            if f"from={self._today}&" in query:
                self.polls.append(time.monotonic())
            rows = [{"projectid": 1, "name": f"Desk {self.number}"}]
            if "/inbound" in query:
                day = int(query.partition("to=")[2][:8])
                rows = [{"projectid": 1, "queueid": q, "date": day, "answered_before": self.number + q} for q in (1, 2)]
            connection.sendall(http_response(rows_body(*rows)))


SLOW_NAME_SERVER: Final = """
import os, socket, threading
found = socket.getaddrinfo
def hang(host, *rest, **more):
    if host == "hang.invalid" and rest[4:5] != (socket.AI_NUMERICHOST,):
        while not os.path.exists({answers!r}):
            threading.Event().wait(0.1)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")
    return found(host, *rest, **more)
socket.getaddrinfo = hang
"""


@dataclass(frozen=True)
class Use:
    """What a process has taken."""

    memory: int
    """The most that it ever had, in bytes."""
    threads: int
    descriptors: int

    @classmethod
    def of(cls, daemon: Daemon) -> "Use":
        """Look at a daemon's process."""
        process = psutil.Process(daemon.process.pid)
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        most = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        return cls(most * 1024, process.num_threads(), process.num_fds())


def key_of(name: str) -> str:
    """Return a customer's key, with all that has to be escaped somewhere."""
    return f'k/{name}+s3cr3t of "é&{name}='


def page_of(daemon: Daemon, name: str) -> str:
    """Return the text of a customer's page."""
    code, body, _ = fetch(f"{daemon.url}/?customer[]={name}")
    assert code == HTTPStatus.OK
    return read_html(body.decode()).text


def everything_written(daemon: Daemon, names: list[str]) -> list[bytes]:
    """Return all bytes that a daemon gives to anybody."""
    asked_for = [
        fetch(f"{daemon.url}/metrics"),
        fetch(f"{daemon.url}/metrics", Accept="application/openmetrics-text; version=1.0.0"),
        fetch(f"{daemon.url}/metrics", Accept_Encoding="gzip"),
        fetch(f"{daemon.url}/"),
        *(fetch(f"{daemon.url}/?customer[]={name}") for name in names),
    ]
    assert all(code == HTTPStatus.OK for code, _, _ in asked_for)
    return [part for _, body, headers in asked_for for part in (body, str(headers).encode())]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Hold servers until the test is over."""
    with ExitStack() as held:
        yield held


@pytest.fixture
def scenery(stack: ExitStack) -> Scenery:
    """Give what the hostile servers need."""
    authority = trustme.CA()
    came: list[bytes] = []
    return Scenery(
        today=int(datetime.now(ZoneInfo(noon_zone())).strftime("%Y%m%d")),  # noqa: TID251 - the daemon uses the real clock
        authority=authority,
        wrong=authority.issue_cert("other.example"),
        old=authority.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1)),  # noqa: DTZ001 - long ago
        elsewhere=came,
        elsewhere_port=stack.enter_context(raw_server(lambda connection: came.append(read_request(connection)))),
    )


def customer(name: str, fault: Fault | None, port: int, ca_file: Path) -> dict[str, Any]:
    """Return a customer's section of the config."""
    keys = {"url": "http://127.0.0.1:PORT", **(fault.keys if fault else {})}
    return {
        "name": name,
        "api_key": key_of(name),
        "timezone": noon_zone(),
        "ca_file": str(ca_file),
        "poll": {"timeout": f"{fault.timeout_s if fault else LONG_S}s"},
        **{key: text.replace("PORT", str(port)) for key, text in keys.items()},
    }


def polls(page: Samples) -> Mapping[str, Mapping[str, float]]:
    """Return the polls of each customer by result, those that were any."""
    found: dict[str, dict[str, float]] = {}
    for (name, having), value in page.items():
        if name == "vcc_polls_total" and value:
            labels = dict(having)
            found.setdefault(labels["customer"], {})[labels["result"]] = value
    return found


def assert_told(daemon: Daemon, name: str, fault: Fault, page: Samples) -> None:
    """Assert that a fault has its one result, its words, and an end in time."""
    found = polls(page)[name]
    assert found.keys() == {fault.result}, (name, found)
    assert one(page, "vcc_up", customer=name) == (fault.result is Result.SUCCESS), name
    took = one(page, "vcc_poll_duration_seconds_sum", customer=name) or 0
    count = one(page, "vcc_poll_duration_seconds_count", customer=name) or 1
    assert took / count < fault.timeout_s + SLACK_S, name
    if fault.words != "SUCCESS":
        said = page_of(daemon, name)
        assert fault.words in said, (name, said)


def assert_healthy(page: Samples, healthy: Mapping[str, Healthy]) -> None:
    """Assert that the numbers of the healthy customers are their own and that they never failed."""
    families = {statistic.name: statistic.metric for statistic in STATISTICS}
    for name, api in healthy.items():
        assert one(page, "vcc_up", customer=name) == 1
        assert polls(page)[name].keys() == {Result.SUCCESS}
        for queue in (1, 2):
            labels = {"customer": name, "project": "1", "queue": str(queue), "project_name": f"Desk {api.number}"}
            assert one(page, families["answered_before"], **labels) == api.number + queue


class Attack:
    """The servers of healthy and hostile customers, and the one daemon that polls them."""

    def __init__(self, folder: Path, scenery: Scenery, stack: ExitStack) -> None:
        self.healthy = {f"healthy-{i}": Healthy(100 * i, scenery.today) for i in range(HEALTHY)}
        self.faults = all_faults(scenery)
        self.written: list[bytes] = []
        self.daemon: Daemon
        self._path = folder / "config.yaml"
        ca_file = folder / "ca.pem"
        scenery.authority.cert_pem.write_to_path(str(ca_file))
        ports = {name: stack.enter_context(raw_server(fault.handle)) for name, fault in self.faults.items()}
        self.faults["refused"] = Fault(hang, Result.UNREACHABLE, "Connection refused")
        ports["refused"] = stack.enter_context(nobody())
        late = f"no whole answer within {SHORT_S} s"
        self.faults["not-accepted"] = Fault(hang, Result.TIMEOUT, late, timeout_s=SHORT_S)
        ports["not-accepted"] = stack.enter_context(crowded())
        ports |= {name: stack.enter_context(raw_server(api)) for name, api in self.healthy.items()}
        self.well = [customer(name, None, ports[name], ca_file) for name in self.healthy]
        self.hostile = [customer(name, fault, ports[name], ca_file) for name, fault in self.faults.items()]

    def config(self, *customers: dict[str, Any]) -> str:
        """Return the text of a config."""
        return json.dumps({"poll": {"interval": f"{INTERVAL_S}s"}, "customers": customers})

    def reload(self, *customers: dict[str, Any], expected: int = HTTPStatus.OK) -> None:
        """Give the daemon another config."""
        self._path.write_text(self.config(*customers))
        code, body, _ = fetch(f"{self.daemon.url}/-/reload", "POST")
        assert code == expected, body
        self.written.append(body)

    def after(self, count: int, *who: str) -> Samples:
        """Wait for so many more polls of each."""
        before = polls(self.daemon.page())

        def enough(page: Samples) -> Samples | None:
            now = polls(page)
            done = (sum(now.get(name, {}).values()) - sum(before.get(name, {}).values()) for name in who)
            return page if min(done) >= count else None

        return self.daemon.wait_for(enough, f"{count} polls of each", 240)


def assert_untouched(healthy: Mapping[str, Healthy]) -> None:
    """Assert that no poll of the healthy customers was left out."""
    for api in healthy.values():
        gaps = [later - earlier for earlier, later in itertools.pairwise(api.polls)]
        assert max(gaps[1:]) < INTERVAL_S + SLACK_S / 2


@pytest.mark.timeout(300)
def test_a_hostile_api_harms_its_own_customer_alone(
    start_daemon: StartDaemon, tmp_path: Path, scenery: Scenery, stack: ExitStack
) -> None:
    """Each fault ends in time as its result, memory stays bounded, neighbours are untouched, and no key is told."""
    attack = Attack(tmp_path, scenery, stack)
    names_answer = tmp_path / "names-answer"
    (tmp_path / "sitecustomize.py").write_text(SLOW_NAME_SERVER.format(answers=str(names_answer)))
    flags = "--log.level=debug", "--web.enable-lifecycle"
    daemon = attack.daemon = start_daemon(attack.config(*attack.well), *flags, env={"PYTHONPATH": str(tmp_path)})
    assert_healthy(attack.after(2, *attack.healthy), attack.healthy)
    alone = Use.of(daemon)

    attack.reload(*attack.well, *attack.hostile)
    page = attack.after(2, *attack.healthy, *attack.faults)
    for name, fault in attack.faults.items():
        assert_told(daemon, name, fault, page)
    assert_healthy(page, attack.healthy)
    attacked = Use.of(daemon)
    attack.written += everything_written(daemon, list(attack.faults))
    first, second, *_ = attack.hostile
    faulty = {**first, "api_key_env": "X"}, {**second, "url": f"http://x:{key_of('x')}@h/"}
    attack.reload(*attack.well, *faulty, expected=HTTPStatus.INTERNAL_SERVER_ERROR)

    names_answer.touch()
    attack.reload(*attack.well)
    assert_healthy(attack.after(2, *attack.healthy), attack.healthy)
    eventually(lambda: Use.of(daemon).descriptors <= alone.descriptors + 2, "connections to be closed")
    attack.written += everything_written(daemon, list(attack.healthy))
    assert daemon.stop() == 0

    assert_untouched(attack.healthy)
    assert scenery.elsewhere == []
    # The pools keep their threads, and may make a new one while another is just about to be idle.
    assert attacked.threads <= MOST_OTHER_THREADS + 2 * (HEALTHY + len(attack.faults)) + LOOKUPS_AT_ONCE
    assert attacked.descriptors <= alone.descriptors + 4 * len(attack.faults)
    assert attacked.memory - alone.memory < GROWTH, f"{(attacked.memory - alone.memory) / 2**20:.0f} MiB"
    written = [*attack.written, daemon.output.read_bytes()]
    assert b"Traceback" not in b"".join(written)
    assert b"unexpected fault" not in b"".join(written)
    secrets = [key_of(name) for name in (*attack.healthy, *attack.faults, "x")]
    assert leaks([*secrets, PROXY_PASSWORD], *written) == []
