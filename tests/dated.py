"""A process under a clock that is not today's, and an API whose numbers are dates."""

import json
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from running import Samples, one
from support import http_response, read_request

from vcc_exporter.times import day_start

BUDAPEST = ZoneInfo("Europe/Budapest")
VALUE = "vcc_inbound_answered_before_calls"


def faketime(**settings: str) -> dict[str, str]:
    """Return the environment in which a process sees another wall clock, and the true monotonic one."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1", "TZ": "UTC", **settings}


def dated_api(asked: list[tuple[str, str]]) -> Callable[[socket.socket], None]:
    """Return an API whose number of calls on a day is the day's date, and which takes note of what it is asked."""

    def handle(connection: socket.socket) -> None:
        while head := read_request(connection):
            days = re.search(rb"from=(\d+)&to=(\d+)", head)
            rows = []
            if days:
                first, last = (day.decode() for day in days.groups())
                asked.append((first, last))
                rows = [{"projectid": 7, "queueid": 8, "date": int(last), "answered_before": int(last)}]
            connection.sendall(http_response(json.dumps({"response": rows, "errors": []}).encode()))

    return handle


def dated_config(port: int, stale_after: str = "5m") -> str:
    """Return a config of one customer in Budapest."""
    return (
        f"poll: {{interval: 1s, stale_after: {stale_after}}}\ncustomers:\n"
        f"  - {{name: acme, url: 'http://127.0.0.1:{port}', api_key: k, timezone: Europe/Budapest}}\n"
    )


def shown_day(page: Samples) -> int | None:
    """Return the date that the page's value belongs to, after checking that it says so itself."""
    value, start = (
        one(page, VALUE, customer="acme"),
        one(page, "vcc_inbound_day_start_timestamp_seconds", customer="acme"),
    )
    assert (value is None) == (start is None)
    if value is None or start is None:
        return None
    day = datetime.strptime(f"{value:.0f}", "%Y%m%d").replace(tzinfo=UTC).date()
    assert day_start(BUDAPEST, day).timestamp() == start
    return int(value)
