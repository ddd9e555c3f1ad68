"""The API's side: a call centre for each customer, which answers after a while and notes when it was asked.

`python -m tools.bench.api ROWS LATENCY_MS [CERTIFICATE]` prints its port. Each customer is the simulator's four call
centres together: twenty rows of a day, with each answer a minute's calls more than with the one before. One customer
in sixteen has the same ids as another, and hardly two at once have the same values.
"""

import asyncio
import base64
import json
import os
import re
import resource
import ssl
import sys
import zlib
from collections import Counter
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any, Final

from tools.bench.machine import ROWS, clock
from vcc_exporter.simulator import CENTRES, Simulator
from vcc_exporter.simulator.calls import Call
from vcc_exporter.simulator.inbound import DEFAULT_SLA_S, DIMENSIONS, rows
from vcc_exporter.vocabulary import NO_QUEUE

_DAY: Final = date(2026, 3, 11)
_STEPS: Final = 64
_SHARE_A_STEP: Final = 0.002
"""Of a day's calls, what comes in a minute of its busy hours: four of two thousand."""
_ID_SETS: Final = 16
_STATISTICS: Final = re.compile(rb"GET /v2/statistics/inbound\?from=(\d{8})&to=\1&")
_AUTHORIZATION: Final = re.compile(rb"(?i)\r\nauthorization: basic (\S+)")


class Answers:
    """What each customer is told, and when each asked."""

    def __init__(self, count: int) -> None:
        """Prepare answers of so many rows, a multiple of `ROWS`."""
        self._repeats = count // ROWS
        simulator = Simulator(now=lambda: datetime.combine(_DAY + timedelta(days=1), datetime.min.time(), UTC))
        days = [sorted(simulator.calls(centre.customer, _DAY, _DAY), key=_ended) for centre in CENTRES]
        self._rows = [
            [row for day in days for row in rows(day[: round(len(day) * share)], DIMENSIONS.keys(), DEFAULT_SLA_S)]
            for share in (0.5 + step * _SHARE_A_STEP for step in range(_STEPS))
        ]
        self._prepared: dict[tuple[int, ...], bytes] = {}
        self._polls: Counter[str] = Counter()
        self._arrivals: list[tuple[str, float]] = []
        self._names = 0

    def answer(self, head: bytes) -> tuple[bytes, bool]:
        """Return the body for a request, and whether it is one that takes a while."""
        asked = _STATISTICS.match(head)
        if asked:
            return self._statistics(_customer(head), int(asked[1])), True
        if head.startswith(b"GET /bench "):
            return self._taken(), False
        self._names += 1
        return self._projects(_customer(head)), False

    def _statistics(self, customer: str, day: int) -> bytes:
        self._arrivals.append((customer, clock.now().timestamp()))
        place = zlib.crc32(customer.encode())
        key = place % _ID_SETS, (place + self._polls[customer]) % _STEPS, day
        self._polls[customer] += 1
        if key not in self._prepared:
            self._prepared[key] = self._written(*key)
        return self._prepared[key]

    def _written(self, id_set: int, step: int, day: int) -> bytes:
        return _document(
            {**row, "projectid": row["projectid"] + shift, "queueid": _shifted(row["queueid"], shift), "date": day}
            for shift in self._shifts(id_set)
            for row in self._rows[step]
        )

    def _projects(self, customer: str) -> bytes:
        shifts = self._shifts(zlib.crc32(customer.encode()) % _ID_SETS)
        projects = [project for centre in CENTRES for project in centre.projects]
        return _document({"projectid": str(p.id + shift), "name": p.name} for shift in shifts for p in projects)

    def _shifts(self, id_set: int) -> list[int]:
        """Return what is added to the ids, for each time that the call centres are repeated."""
        return [10_000 * repeat + 7 * id_set for repeat in range(self._repeats)]

    def _taken(self) -> bytes:
        """Return who was answered when since the last time, and how many asked for names so far."""
        told, self._arrivals = self._arrivals, []
        return json.dumps([told, self._names]).encode()


def _ended(call: Call) -> float:
    return call.ended


def _shifted(queue: int, shift: int) -> int:
    return queue if queue == NO_QUEUE else queue + shift


def _document(response: Any) -> bytes:
    return json.dumps({"response": list(response), "errors": []}).encode()


def _customer(head: bytes) -> str:
    return _user(_AUTHORIZATION.findall(head)[0])


@cache
def _user(basic: bytes) -> str:
    return base64.b64decode(basic).partition(b":")[0].decode()


class _Connection(asyncio.Protocol):
    """One connection, which is kept until the other side closes it."""

    def __init__(self, answers: Answers, latency_s: float) -> None:
        self._answers = answers
        self._latency_s = latency_s
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        while b"\r\n\r\n" in self._got:
            head, _, self._got = self._got.partition(b"\r\n\r\n")
            body, slow = self._answers.answer(head)
            whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            if slow and self._latency_s:
                asyncio.get_running_loop().call_later(self._latency_s, self._transport.write, whole)
            else:
                self._transport.write(whole)


async def _serve(answers: Answers, latency_s: float, context: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Connection(answers, latency_s), "127.0.0.1", 0, ssl=context, backlog=4096
    )
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


def main(count: str, latency_ms: str, *certificate: str) -> None:
    """Serve until ended; `certificate` is a PEM file that also holds the key."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # The client may keep the core that both share busy, and a poll is not late because of that. Not everybody may; and
    # a priority of real time, with which thousands of TLS handshakes take a core whole, would lock the machine up.
    with suppress(PermissionError):
        os.nice(-20)
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate[0])
    asyncio.run(_serve(Answers(int(count)), int(latency_ms) / 1000, context))


if __name__ == "__main__":
    main(*sys.argv[1:])
