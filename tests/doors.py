"""The three doors by which bytes come in from outside, and what must hold whatever the bytes are.

Each is a context that gives a function of one input. It raises AssertionError, or what the program should have caught.
Hypothesis and the coverage-guided fuzzer (`tools/fuzz.py`) open the same doors; what they found lies in `tests/fuzz`.
"""

import asyncio
import json
import logging
import math
import re
import socket
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import date, timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar

import uvloop
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from running import parse_page
from support import NOW, SetClock, load_config, make_customer

from vcc_exporter.answer import (
    Answer,
    AnswerError,
    Scope,
    error_words,
    read_days,
    read_pairs,
    read_project_list,
    read_projects,
    read_statistics,
)
from vcc_exporter.exposition import Exporter, Format
from vcc_exporter.faults import ConfigError
from vcc_exporter.poll import lookback_months, questions, requests_a_day
from vcc_exporter.schedule import first_poll, next_poll
from vcc_exporter.server import serve
from vcc_exporter.snapshot import with_answer, with_names
from vcc_exporter.status_page import Surroundings, status_page
from vcc_exporter.store import Store
from vcc_exporter.times import local_date
from vcc_exporter.vocabulary import STATISTICS
from vcc_exporter.web import application

Door = Callable[[bytes], None]
T = TypeVar("T")

FOUND: Final = Path(__file__).parent / "fuzz"
"""Inputs by door: those with which a search begins, and those that once were a fault."""
DAY: Final = date(2026, 3, 11)
SCOPES: Final = Scope(), Scope(asked=frozenset({1, 2})), Scope(left_out=frozenset({1}))
LONGEST_MESSAGE: Final = 1000
PAGES_IN: Final = 20
"""Of so many good answers one is made a page of."""
LIMIT_S: Final = 60
"""How long a connection may stay open, on the busiest machine, once the client has said all it has to say."""
ANSWERS_S: Final = 0.05
"""How long the client waits for an answer before it says so: to a request that is never whole there is none."""


# Bodies of the API.

RECIPE: Final = b"\0"
"""With which a body begins whose bytes choose keys and values, since no fuzzer puts rows together by itself."""
KEYS: Final = ("projectid", "queueid", "date", *(s.key for s in STATISTICS), *(s.name for s in STATISTICS), "name", "x")
VALUES: Final = (
    *("0", "1", "2", "-1", "0.5", "-0", "1e999", "-1e999", "NaN", "Infinity", "9007199254740991", "9007199254740992"),
    *(
        "9" * 400,
        "20260311",
        "20260310",
        '"20260311"',
        '"1"',
        '"-1"',
        '"1.0"',
        '"01"',
        '"1e1"',
        '" 1"',
        '"\u0661"',
        '""',
    ),
    *(
        "null",
        "true",
        "false",
        "[]",
        "{}",
        "[[1]]",
        '{"projectid": 1}',
        '"\\ud800"',
        '"\\u0000\\n"',
        '"\\"\\\\"',
        "1.5e300",
    ),
)


def cooked(data: bytes) -> bytes:
    """Return a body: of the rows that a recipe asks for, or the bytes themselves."""
    if not data.startswith(RECIPE):
        return data
    rows: list[list[str]] = [[]]
    for key, value in zip(data[1::2], data[2::2], strict=False):
        if key == 0xFF:
            rows.append([])
        else:
            rows[-1].append(f'"{KEYS[key % len(KEYS)]}": {VALUES[value % len(VALUES)]}')
    objects = ", ".join("{" + ", ".join(row) + "}" for row in rows)
    return f'{{"response": [{objects}], "errors": []}}'.encode()


def api(data: bytes) -> None:
    """Read a body as the answer to every question: what comes is sound and whole, or an AnswerError with fit words."""
    body = cooked(data)
    for scope in SCOPES:
        answer = _or_error(partial(read_statistics, body, DAY, scope))
        if answer:
            _assert_sound(answer, scope)
            if not scope.left_out:
                assert answer.rows == len(_rows(body)), "rows were lost"
            _assert_same_day(answer, body, scope)
        _or_error(partial(read_pairs, body, DAY - timedelta(days=9), DAY, scope))
    names = _or_error(partial(read_projects, body)) or {}
    for entry in (_or_error(partial(read_project_list, body)) or {}).values():
        _assert_words(entry.name)
        _assert_words(entry.status)
    _assert_words(error_words(body))
    everything = _or_error(partial(read_statistics, body, DAY, Scope()))
    # A page takes longer than all the rest; which inputs have one depends on nothing but themselves.
    if everything and (everything.values or names) and zlib.crc32(data) % PAGES_IN == 0:
        _assert_page(everything, names)


def _or_error(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except AnswerError as error:
        _assert_words(str(error))
        for rejection in error.rejections[:10]:
            _assert_words(rejection.example)
    return None


def _assert_words(text: str) -> None:
    assert text.isprintable(), text
    assert len(text) <= LONGEST_MESSAGE, text


def _rows(body: bytes) -> list[Any]:
    """Return the rows as a reader has them that knows nothing of ours."""
    decoded = json.loads(body, parse_int=float)
    assert decoded["errors"] in ([], {})
    rows: list[Any] = decoded["response"]
    return rows


def _assert_sound(answer: Answer, scope: Scope) -> None:
    assert answer.usable
    assert not answer.rejected_pairs & answer.values.keys()
    for (project, queue), values in answer.values.items():
        assert 0 <= project < 2**53
        assert -1 <= queue < 2**53
        assert not scope.asked or project in scope.asked
        assert project not in scope.left_out
        assert len(values) == len(STATISTICS)
        assert all(value is None or (isinstance(value, float) and math.isfinite(value)) for value in values)
    for rejection in answer.rejections:
        _assert_words(rejection.cause)
        _assert_words(rejection.example)


def _assert_same_day(answer: Answer, body: bytes, scope: Scope) -> None:
    """Assert that a day asked for among others reads as it does alone; without a date a row is of none of several."""
    alone = read_days(body, DAY, DAY, scope)
    assert alone.answers[DAY].values == answer.values
    assert len(alone.rejections) == len(answer.rejections)


def _assert_page(answer: Answer, names: Mapping[int, str]) -> None:
    """Assert that what was read makes pages that a reader of such pages can read."""
    customer, clock = make_customer(), SetClock()
    store = Store(clock, "1.2.3")
    store.configure([customer], Exporter("1.2.3", NOW))
    store.update(customer, lambda state: with_answer(state, DAY, answer, clock.moment(), 0.1))
    store.update(customer, lambda state: with_names(state, names, NOW))
    shown = _pages_of(store)
    known = {pair for pair, values in answer.values.items() if any(value is not None for value in values)}
    assert {(int(project), int(queue)) for project, queue in shown if project and queue} == known


def _pages_of(store: Store) -> set[tuple[str, str]]:
    """Read all pages of a store, and return of which pairs of project and queue they have data."""
    texts = {chosen: b"".join(store.page().body(chosen, gzip=False).parts).decode() for chosen in Format}
    list(read_openmetrics(texts[Format.OPENMETRICS]))
    samples = parse_page(texts[Format.TEXT])
    status_page(store.views().values(), [], NOW, Surroundings("/metrics", config_is_good=True, notice=""))
    found = (dict(labels) for name, labels in samples if name in _DATA)
    return {(labels["project"], labels["queue"]) for labels in found}


_DATA: Final = {statistic.metric for statistic in STATISTICS}


# Config files.


@contextmanager
def config() -> Iterator[Door]:
    """Give what reads a config file: all that it accepts can be applied, all that it refuses it says where and why."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"

        def read(data: bytes) -> None:
            path.write_bytes(data)
            try:
                _apply(load_config(path).customers)
            except ConfigError as error:
                _assert_faults(error, path, data)

        yield read


_ENDS: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


def _assert_faults(error: ConfigError, path: Path, data: bytes) -> None:
    lines = len(_ENDS.findall(data.decode(errors="replace"))) + 1
    assert error.faults
    for text in map(str, error.faults):
        assert text.isprintable(), text
        found = re.fullmatch(rf"{re.escape(str(path))}:([0-9]+): .+", text)
        assert found, text
        assert 1 <= int(found[1]) <= lines, text


def _apply(customers: tuple[Any, ...]) -> None:
    """Do with customers what the daemon does, but for asking their APIs."""
    assert customers
    store = Store(SetClock(), "1.2.3")
    store.configure(customers, Exporter("1.2.3", NOW))
    for customer in customers[:5]:
        today = local_date(customer.zone, NOW)
        assert first_poll(customer, len(customers), NOW) >= NOW
        due = next_poll(customer, NOW, today)
        assert due is not None
        assert due > NOW
        assert all(question.target().isascii() for question, _ in questions(customer, today, today))
        assert requests_a_day(customer, NOW) > 0
        assert (
            sum((last - first).days + 1 for first, last in lookback_months(customer, today)) == customer.lookback_days
        )
    _pages_of(store)


# Requests over HTTP.

STATUSES: Final = frozenset({200, 400, 403, 404, 405, 408, 411, 413, 414, 417, 431, 501, 503})
"""What the exporter may answer where its config is good; 500 would be a fault of its own."""
GO_ON: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


@contextmanager
def web() -> Iterator[Door]:
    """Give what sends bytes to the real server: it answers in time, fitly, and the next scrape is as it was."""
    clock, customer = SetClock(), make_customer(name="acme")
    store = Store(clock, "1.2.3")
    store.configure([customer], Exporter("1.2.3", NOW))
    values = tuple(float(number) for number in range(len(STATISTICS)))
    answer = Answer({(1, 2): values}, frozenset(), ())
    store.update(customer, lambda state: with_answer(state, DAY, answer, clock.moment(), 0.1))
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # as good as in the daemon, whose log has nothing of it
    store.page()  # which is the one that is served from now on, since nothing changes
    with _server(store) as port:
        expected = _scrape(port)
        assert b"vcc_inbound_answered_before_calls" in expected

        def send(data: bytes) -> None:
            reply = _exchange(port, data)
            if reply:
                reply = reply.removeprefix(GO_ON)
                # The library repeats whatever version it was asked in.
                status = re.match(rb"HTTP/[0-9]\.[0-9] ([0-9]{3}) ", reply)
                assert status, reply[:200]
                assert int(status[1]) in STATUSES or _is_the_librarys_fault(int(status[1]), data), reply[:200]
            assert b"unexpected fault" not in reply
            assert b"Traceback" not in reply
            assert _scrape(port) == expected

        yield send


def _is_the_librarys_fault(status: int, data: bytes) -> bool:
    """Tell the one 500 of aiohttp 3.14: it repeats what a request expects, and fails where that is no UTF-8."""
    return status == HTTPStatus.INTERNAL_SERVER_ERROR and b"expect" in data.lower()


@contextmanager
def _server(store: Store) -> Iterator[int]:
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def reload() -> tuple[str, ...]:
        return ()

    try:
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
            starting = serve(application(store, "/metrics", reload), [listening])
            runner = asyncio.run_coroutine_threadsafe(starting, loop).result(LIMIT_S)
            yield listening.getsockname()[1]
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(LIMIT_S)
            asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result(LIMIT_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _exchange(port: int, data: bytes) -> bytes:
    """Send bytes, and return all that is answered until the server closes the connection."""
    reply = b""
    # A server that has had enough may break off.
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection, suppress(ConnectionError):
        connection.sendall(data)
        connection.settimeout(ANSWERS_S)
        with suppress(TimeoutError):
            reply = connection.recv(65536)
        connection.settimeout(LIMIT_S)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(65536):
            reply += part
    return reply


def _scrape(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        reply = b""
        while part := connection.recv(65536):
            reply += part
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    return body


DOORS: Final[Mapping[str, Callable[[], AbstractContextManager[Door]]]] = {
    "api": lambda: nullcontext(api),
    "config": config,
    "web": web,
}
