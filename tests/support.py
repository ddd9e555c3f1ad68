"""What several tests need: a clock that is set, customers in one line, servers of raw bytes."""

import json
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from vcc_exporter import config_file, loading, web_config, web_config_file
from vcc_exporter.config import Config, Customer
from vcc_exporter.snapshot import Moment
from vcc_exporter.times import Clock

DATA: Final = Path(__file__).parent / "data"


NOW: Final = datetime(2026, 3, 11, 10, 0, tzinfo=UTC)
"""A Wednesday; 11:00 in the simulator's bank, three weeks before the summer time."""


class SetClock(Clock):
    """A clock that stands still until it is moved."""

    def __init__(self, wall: datetime = NOW) -> None:
        self.wall = wall
        self.seconds = 1000.0

    def now(self) -> datetime:
        """Return the time that was set."""
        return self.wall

    def monotonic(self) -> float:
        """Return the seconds that were let pass."""
        return self.seconds

    def moment(self) -> Moment:
        """Return both clocks' time."""
        return Moment(self.wall, self.seconds)

    def advance(self, by: timedelta) -> None:
        """Let time pass on both clocks."""
        self.wall += by
        self.seconds += by.total_seconds()

    def jump(self, by: timedelta) -> None:
        """Set the wall clock forward or back."""
        self.wall += by


def make_customer(**keys: Any) -> Customer:
    """Return a customer as the config would make it from these keys; name, api_key and timezone have defaults."""
    section = {"name": "acme", "api_key": "k3y-of-acme", "timezone": "Europe/Budapest", **keys}
    # JSON is YAML.
    return config_file.parse(json.dumps({"customers": [section]}), "test", Path()).customers[0]


def load_config(path: Path) -> Config:
    """Read a config as the program does, but in this process."""
    found: Config = pickle.loads(pickle.dumps(config_file.parse(loading.read_text(path), str(path), path.parent)))  # noqa: S301
    return found


def load_web_config(path: Path) -> web_config.Reading:
    """Read a web config as the program does, but in this process."""
    text = loading.read_text(path)
    parsed = pickle.loads(pickle.dumps(web_config_file.parse(text, str(path), path.parent)))  # noqa: S301
    return web_config.complete(path, text, parsed)


def statistics_body(rows: list[dict[str, Any]], day: date | None = None) -> bytes:
    """Return a statistics response; rows without a date get `day`."""
    dated = [{"date": int(f"{day:%Y%m%d}"), **row} if day else row for row in rows]
    return json.dumps({"response": dated, "errors": []}).encode()


@contextmanager
def raw_server(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve connections on loopback, each by `handle` in a thread; yields the port.

    `handle` need not close its socket, and errors of a connection that the client ended are expected.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        try:
            handle(connection)
        except OSError:
            return
        finally:
            connection.close()

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            connections.append(connection)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield listening.getsockname()[1]
    finally:
        for open_socket in (listening, *connections):
            with suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
            open_socket.close()
        accepting.join()


def read_request(connection: socket.socket) -> bytes:
    """Read one request's head; empty where the client has closed the connection."""
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(65536)
        if not part:
            return b""
        head += part
    return head


def http_response(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Return a whole HTTP response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
