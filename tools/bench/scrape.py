"""A scraper with the headers of Prometheus 2.42, in which nothing but the kernel's copy takes time."""

import gzip
import math
import re
import select
import socket
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tools.bench.machine import PATIENCE_S, BenchError, Part, clock

ENCODINGS: Final = ("identity", "gzip")
_HEADERS: Final = {
    "Accept": "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "User-Agent": "Prometheus/2.42.0",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_LEAST_S: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Cost:
    """What one scrape took, in seconds."""

    wall_s: float
    cpu_s: float
    """Of the server: all that it did from the request until the answer was in."""
    first_thread_s: float
    """Of that, what its first thread did."""


def told(cpu_s: float) -> float:
    """Return the CPU that a scrape took by what the kernel tells of it, which may be nothing.

    It tells of a thread that runs what was true at its last tick.
    """
    return max(_LEAST_S, cpu_s)


def body(port: int, encoding: str, **headers: str) -> bytes:
    """Return a body as it is sent."""
    fields = {**_HEADERS, "Accept-Encoding": encoding, **headers}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=fields)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310 - loopback
        return bytes(answer.read())


class Scraper:
    """A client of one server."""

    def __init__(self, part: Part, port: int) -> None:
        self.part = part
        self.port = port
        self.reconnects = False
        """Whether each scrape finds the connection closed, as one would that comes much later."""
        self.sizes: dict[str, int] = {}
        """Of the first body in each encoding, in bytes, chunks' heads included."""
        self._buffer = memoryview(bytearray(2**20))
        self._socket: socket.socket | None = None

    def cost(self, encoding: str) -> Cost:
        """Scrape once and return what it took."""
        cpu_s, first_thread_s = self.part.cpu_s(), self.part.first_thread_cpu_s()
        wall_s = self.scrape(encoding)
        first_thread_s = self.part.first_thread_cpu_s() - first_thread_s
        return Cost(wall_s, told(self.part.cpu_s() - cpu_s), told(first_thread_s))

    def scrape(self, encoding: str) -> float:
        """Scrape once and return the seconds. Raises BenchError for a bad answer, or one much unlike the first."""
        if self.reconnects or self.closed():
            self.close()
        began = clock.monotonic()
        size = self._read(encoding)
        took_s = clock.monotonic() - began
        first = self.sizes.setdefault(encoding, size)
        if abs(size - first) > first / 10:
            raise BenchError(f"{self.part.name} answered {size} bytes after {first}")
        return took_s

    def closed(self) -> bool:
        """Tell whether the server has closed the connection."""
        return self._socket is None or bool(select.select([self._socket], [], [], 0)[0])

    def close(self) -> None:
        """Close the connection."""
        if self._socket:
            self._socket.close()
            self._socket = None

    @contextmanager
    def of_each_encoding(self) -> Iterator[Mapping[str, "Scraper"]]:
        """Open a client for each encoding, since a client asks for the same every time."""
        found = {encoding: Scraper(self.part, self.port) for encoding in ENCODINGS}
        for scraper in found.values():
            scraper.reconnects = self.reconnects
        try:
            yield found
        finally:
            for scraper in found.values():
                scraper.close()

    def series(self) -> int:
        """Count the series of calls. Raises BenchError where gzip has others than identity."""
        plain, packed = _series(body(self.port, "identity")), _series(gzip.decompress(body(self.port, "gzip")))
        if plain != packed:
            raise BenchError(f"{self.part.name} has {plain} series, and {packed} with gzip")
        return plain

    def _read(self, encoding: str) -> int:
        """Send a request and read the answer. Returns the body's size."""
        self._socket = self._socket or socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)
        fields = {"Host": f"127.0.0.1:{self.port}", **_HEADERS, "Accept-Encoding": encoding}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._socket.sendall(f"GET /metrics HTTP/1.1\r\n{lines}\r\n".encode())
        got = b""
        while b"\r\n\r\n" not in got:
            part = self._socket.recv(65536)
            if not part:
                raise BenchError(f"{self.part.name} closed the connection without an answer")
            got += part
        head, _, rest = got.partition(b"\r\n\r\n")
        head = head.lower() + b"\r\n"
        if head.split()[1] != b"200" or (b"content-encoding: gzip" in head) != (encoding == "gzip"):
            raise BenchError(f"{self.part.name} answered {head.decode(errors='replace')!r}")
        size = self._read_body(self._socket, head, rest)
        if head.startswith(b"http/1.0") or b"connection: close" in head:
            self.close()
        return size

    def _read_body(self, connection: socket.socket, head: bytes, rest: bytes) -> int:
        length = re.search(rb"content-length: (\d+)", head)
        whole = int(length[1]) if length else math.inf
        chunked = b"transfer-encoding: chunked" in head
        size, end = len(rest), rest[-len(_LAST_CHUNK) :]
        while size < whole and not (chunked and end == _LAST_CHUNK):
            count = connection.recv_into(self._buffer)
            if count == 0:
                break
            size += count
            end = (end + bytes(self._buffer[max(0, count - len(_LAST_CHUNK)) : count]))[-len(_LAST_CHUNK) :]
        if (length and size != whole) or (chunked and end != _LAST_CHUNK):
            raise BenchError(f"{self.part.name} cut its answer short")
        return size


def _series(text: bytes) -> int:
    return len(re.findall(rb"(?m)^vcc_inbound_\w+_(?:calls|seconds)\{[^\n]*queue=", text))
