"""The simulated API over real sockets: what the vendor's documents say, and each fault as a client meets it."""

import base64
import gzip
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
import requests
import trustme
import yaml

import vcc_exporter
from vcc_exporter.simulator import CENTRES, Reply, Simulator, demo_config
from vcc_exporter.simulator.calls import calls_of_day, day_start
from vcc_exporter.simulator.centres import BANK, ROADSIDE, WEBSHOP
from vcc_exporter.simulator.faults import FAULTS, INCIDENTS
from vcc_exporter.simulator.inbound import FORMAT_ERROR, MISSING, TOO_LONG
from vcc_exporter.vocabulary import STATISTICS, Kind

ROOT: Final = Path(vcc_exporter.__file__).parents[1]
STATISTICS_PATH: Final = "/v2/statistics/inbound"
MONDAY: Final = date(2025, 3, 3)
ADDITIVE: Final = [statistic.key for statistic in STATISTICS if statistic.kind is not Kind.AVERAGE]
LIMIT_S: Final = 20
"""How long a test waits for what must happen."""

Row = dict[str, Any]


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.at

    def set(self, day: date, hour: float, zone: str = BANK.zone) -> None:
        """Set it to so many hours of the wall clock of a zone."""
        self.at = datetime.fromtimestamp(day_start(day, zone) + hour * 3600, UTC)


@pytest.fixture
def clock() -> Clock:
    """Give a clock that shows noon of a Tuesday in Budapest."""
    return Clock(datetime(2025, 3, 4, 11, tzinfo=UTC))


@pytest.fixture
def simulator(clock: Clock) -> Iterator[Simulator]:
    """Run a simulator by that clock."""
    with Simulator(now=clock) as running:
        yield running


def get(simulator: Simulator, path: str, customer: str = "bank", key: str | None = None) -> requests.Response:
    """Ask the API with the customer's key, or another."""
    secret = simulator.centres[customer].key if key is None else key
    return requests.get(simulator.url + path, auth=(customer, secret), timeout=LIMIT_S, allow_redirects=False)


def question(
    first: date = MONDAY, last: date | None = None, dimensions: str = "project,queue,date", **more: str
) -> str:
    """Write a request for statistics."""
    options = {"from": f"{first:%Y%m%d}", "to": f"{last or first:%Y%m%d}", "dimensions": dimensions} | more
    return f"{STATISTICS_PATH}?" + "&".join(f"{name}={value}" for name, value in options.items())


def ask(simulator: Simulator, path: str, customer: str = "bank") -> list[Row]:
    """Ask for rows, and insist on a good answer."""
    response = get(simulator, path, customer)
    document = response.json()
    assert (response.status_code, document["errors"], list(document)) == (200, [], ["response", "errors"])
    rows: list[Row] = document["response"]
    return rows


def totals(rows: list[Row]) -> dict[str, int]:
    """Add up what can be added up."""
    return {key: sum(row[key] for row in rows) for key in ADDITIVE}


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(0.005)


# --- What the documents say ----------------------------------------------------------------------------------


def test_an_answer_has_the_keys_of_the_page_s_example(simulator: Simulator) -> None:
    """A row has the three ids and nineteen statistics in the short keys, all of them integers."""
    row, *_ = ask(simulator, question())
    assert list(row) == ["projectid", "queueid", "date", *(statistic.key for statistic in STATISTICS)]
    assert {type(value) for value in row.values()} == {int}
    assert row["date"] == 20250303


def test_the_content_type_is_text_also_for_json(simulator: Simulator) -> None:
    """The content type is the one the vendor sends."""
    assert get(simulator, question()).headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("to=20250303&dimensions=date", MISSING),
        ("from=20250303&dimensions=date", MISSING),
        ("from=20250303&to=20250303", MISSING),
        ("", MISSING),
        ("from=&to=20250303&dimensions=date", MISSING),
        ("from=20250303&to=20250303&dimensions=", MISSING),
        ("from=20250303&to=20250303&dimensions=date&teams=", MISSING),
        ("from=2025-03-03&to=20250303&dimensions=date", FORMAT_ERROR),
        ("from=20250230&to=20250303&dimensions=date", FORMAT_ERROR),
        ("from=20250303&to=20251301&dimensions=date", FORMAT_ERROR),
        ("from=2025W101&to=20250303&dimensions=date", FORMAT_ERROR),
        ("from=20250304&to=20250303&dimensions=date", FORMAT_ERROR),
        ("from=20250303&from=20250303&to=20250303&dimensions=date", FORMAT_ERROR),
        ("from=20250303&to=20250303&dimensions=team", FORMAT_ERROR),
        ("from=20250303&to=20250303&dimensions=date,", FORMAT_ERROR),
        ("from=20250303&to=20250303&dimensions=date&dimensions=queue", FORMAT_ERROR),
        ("from=20250303&to=20250303&dimensions=date&teams=a", FORMAT_ERROR),
        ("from=20250303&to=20250303&dimensions=date&teams=1&teams=2", FORMAT_ERROR),
        ("from=20250303&to=20250303&dimensions=date&projects=1,,2", FORMAT_ERROR),
        ("from=20250303&to=20250303&dimensions=date&projects=-1", FORMAT_ERROR),
        ("from=20250303&to=20250303&dimensions=date&manual_sla=30s", FORMAT_ERROR),
        ("from=20250303&to=20250303&dimensions=date&manual_sla=%D9%A3", FORMAT_ERROR),
        ("from=20250303&to=20250303&dimensions=date&of=csv", FORMAT_ERROR),
        ("from=20250303&to=20250404&dimensions=date", TOO_LONG),
        ("from=20250331&to=20250401&dimensions=date", TOO_LONG),
        ("from=20240301&to=20250301&dimensions=date", TOO_LONG),
    ],
)
def test_what_is_missing_malformed_or_too_long_is_refused(simulator: Simulator, query: str, message: str) -> None:
    """Each documented 417 comes with its documented message."""
    response = get(simulator, f"{STATISTICS_PATH}?{query}")
    assert (response.status_code, response.json()) == (417, {"response": [], "errors": [message]})


def test_a_whole_calendar_month_can_be_asked(simulator: Simulator, clock: Clock) -> None:
    """From the first to the thirty-first is not too long."""
    clock.set(date(2025, 4, 2), 12)
    rows = ask(simulator, question(date(2025, 3, 1), date(2025, 3, 31), "date"))
    assert [row["date"] for row in rows] == [20250300 + day for day in range(1, 32) if date(2025, 3, day).weekday() < 5]


@pytest.mark.parametrize("customer", ["bank", "webshop", "nobody", ""])
def test_a_wrong_key_or_user_is_refused(simulator: Simulator, customer: str) -> None:
    """401 comes for a key that is not the user's, with words in the body."""
    for key in ("wrong", "", BANK.key + " "):
        response = requests.get(simulator.url + question(), auth=(customer, key), timeout=LIMIT_S)
        assert (response.status_code, response.json()["errors"]) == (401, ["error.unauthorized"])
        assert response.headers["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize("header", ["", "Basic", "Basic !", "Basic //79", "Bearer x", "Basic YmFuaw=="])
def test_an_unusable_authorization_header_is_refused(simulator: Simulator, header: str) -> None:
    """What is no Basic header is a wrong key."""
    headers = {"Authorization": header} if header else {}
    assert requests.get(simulator.url + question(), headers=headers, timeout=LIMIT_S).status_code == 401


def test_the_wrong_key_is_refused_before_options_are_read(simulator: Simulator) -> None:
    """Who has no key learns nothing about options."""
    assert get(simulator, STATISTICS_PATH, key="wrong").status_code == 401


def test_a_changed_key_counts_at_once(simulator: Simulator) -> None:
    """After a change the new key is right and the old one wrong."""
    simulator.rekey("bank", "új kulcs")
    headers = {"Authorization": "Basic " + base64.b64encode("bank:új kulcs".encode()).decode()}
    assert requests.get(simulator.url + question(), headers=headers, timeout=LIMIT_S).status_code == 200
    assert get(simulator, question()).status_code == 401


def test_an_unknown_path_is_404_and_another_method_405(simulator: Simulator) -> None:
    """Only GET on the two documented resources is served."""
    assert get(simulator, "/v2/statistics/outbound").status_code == 404
    for method in ("POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"):
        response = requests.request(method, simulator.url + question(), auth=("bank", BANK.key), timeout=LIMIT_S)
        assert (response.status_code, response.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize(("of", "separator"), [("tab", "\t"), ("cvs", ",")])
def test_the_other_formats_hold_the_same_rows(simulator: Simulator, of: str, separator: str) -> None:
    """Tab and cvs have a line of keys and a line for each row."""
    header, *lines = get(simulator, question(of=of)).text.splitlines()
    rows = [dict(zip(header.split(separator), map(int, line.split(separator)), strict=True)) for line in lines]
    assert rows == ask(simulator, question(of="json"))


def test_no_calls_are_no_lines(simulator: Simulator) -> None:
    """A day without calls is an empty list, or no line at all."""
    sunday = date(2025, 3, 2)
    assert ask(simulator, question(sunday)) == []
    assert get(simulator, question(sunday, of="tab")).content == b""


@pytest.mark.parametrize("dimensions", ["project", "queue", "date", "queue,project", "project,queue,date"])
def test_dimensions_alone_and_together(simulator: Simulator, dimensions: str) -> None:
    """Rows have the ids of the dimensions asked for, and add up to the same."""
    rows = ask(simulator, question(dimensions=dimensions))
    ids = {"project": "projectid", "queue": "queueid", "date": "date"}
    assert {key for key in rows[0] if key in ids.values()} == {ids[name] for name in dimensions.split(",")}
    assert totals(rows) == totals(ask(simulator, question(dimensions="date")))


def test_projects_and_teams_are_parts_of_the_whole(simulator: Simulator) -> None:
    """Project by project, or team by team, the parts add up; what nobody knows has no rows."""
    whole = totals(ask(simulator, question()))
    for option, ids in (("projects", ("101", "102,103")), ("teams", ("1", "2,4", "3"))):
        assert totals([row for part in ids for row in ask(simulator, f"{question()}&{option}={part}")]) == whole
        assert ask(simulator, f"{question()}&{option}=999") == []
    both = ask(simulator, question(projects="101", teams="3,2"))
    assert both
    assert {row["projectid"] for row in both} == {101}


def test_manual_sla_sorts_the_calls_anew(simulator: Simulator) -> None:
    """A and B stay, before grows with the threshold, and 30 is the default."""
    found = {sla: totals(ask(simulator, question(manual_sla=str(sla)))) for sla in (5, 20, 30, 60, 600)}
    counts = [row["answered_before"] for row in found.values()]
    assert counts == sorted(set(counts))
    assert len({row["answered_before"] + row["answered_after"] for row in found.values()}) == 1
    assert len({row["abort_in_queue_before"] + row["abort_in_queue_after"] for row in found.values()}) == 1
    assert found[30] == totals(ask(simulator, question()))


def test_the_projects_have_names_and_ids_in_strings(simulator: Simulator) -> None:
    """`/v2/projects` lists the documented fields, and needs no options."""
    listed = ask(simulator, "/v2/projects")
    assert {tuple(project) for project in listed} == {
        ("projectid", "name", "status", "folderid", "container", "folder")
    }
    assert [(p["projectid"], p["name"]) for p in listed] == [(str(p.id), p.name) for p in BANK.projects]


def test_the_customers_are_told_apart_by_their_credentials(simulator: Simulator) -> None:
    """One address serves every centre, each with its own projects."""
    for centre in CENTRES:
        ids = {row["projectid"] for row in ask(simulator, question(), centre.customer)}
        assert ids == {project.id for project in centre.projects}


def test_connections_are_kept(simulator: Simulator) -> None:
    """Several requests go over one connection, an error among them."""
    basic = {"Authorization": "Basic " + base64.b64encode(f"bank:{BANK.key}".encode()).decode()}
    with closing(http.client.HTTPConnection("127.0.0.1", simulator.port, timeout=LIMIT_S)) as connection:
        connection.connect()
        before = connection.sock.getsockname()
        for path, status in ((question(), 200), ("/nothing", 404), (STATISTICS_PATH, 417), ("/v2/projects", 200)):
            connection.request("GET", path, headers=basic)
            response = connection.getresponse()
            response.read()
            assert response.status == status
            assert connection.sock.getsockname() == before


# --- Days ----------------------------------------------------------------------------------------------------


def test_today_grows_and_never_shrinks(simulator: Simulator, clock: Clock) -> None:
    """Through a day no count and no sum falls, and at its end it is the whole day."""
    seen = []
    for quarter in range(8 * 4, 20 * 4):
        clock.set(MONDAY, quarter / 4)
        seen.append(totals(ask(simulator, question())))
    for earlier, later in pairwise(seen):
        assert all(earlier[key] <= later[key] for key in ADDITIVE)
    assert len({row["answered_before"] for row in seen}) > 30
    clock.set(MONDAY + timedelta(days=30), 0)
    assert totals(ask(simulator, question())) == seen[-1]


def test_a_call_is_known_once_it_has_ended(simulator: Simulator, clock: Clock) -> None:
    """At the instant of its end a call is counted, just before it is not."""
    calls = calls_of_day(BANK, MONDAY, 1)
    middle = len(calls) // 2
    for offset, count in ((0.001, middle + 1), (-0.001, middle)):
        clock.at = datetime.fromtimestamp(calls[middle].ended + offset, UTC)
        assert sum(1 for _ in simulator.calls("bank", MONDAY, MONDAY)) == count


def test_a_day_may_grow_after_its_midnight(simulator: Simulator, clock: Clock) -> None:
    """A call from before midnight that ends after it counts for the day of its set-up."""
    days = [MONDAY + timedelta(days=number) for number in range(30)]
    midnight = {day: day_start(day + timedelta(days=1), ROADSIDE.zone) for day in days}
    late = next(day for day in days if calls_of_day(ROADSIDE, day, 1)[-1].ended > midnight[day] + 1)
    clock.set(late + timedelta(days=1), 0, ROADSIDE.zone)
    before = totals(ask(simulator, question(late), "roadside"))
    clock.set(late + timedelta(days=1), 3, ROADSIDE.zone)
    after = totals(ask(simulator, question(late), "roadside"))
    assert after["talk_time"] > before["talk_time"]


@pytest.mark.parametrize("day", [date(2025, 3, 5), date(9999, 12, 31), date(1, 1, 1), date(1969, 12, 31)])
def test_the_future_and_what_lies_before_1970_have_no_calls(simulator: Simulator, day: date) -> None:
    """Any date can be asked; those without calls have no rows."""
    path = f"{STATISTICS_PATH}?from={day.isoformat().replace('-', '')}&to={day.isoformat().replace('-', '')}"
    for centre in CENTRES:
        assert ask(simulator, f"{path}&dimensions=date", centre.customer) == []


def test_the_day_is_the_centre_s_own(simulator: Simulator, clock: Clock) -> None:
    """While Sydney's Tuesday goes by, Los Angeles still has its Monday."""
    clock.at = datetime(2025, 3, 4, 2, tzinfo=UTC)
    tuesday = MONDAY + timedelta(days=1)
    assert ask(simulator, question(tuesday), "utility")
    assert ask(simulator, question(tuesday), "webshop") == []
    assert ask(simulator, question(MONDAY), "webshop")


def test_another_seed_is_another_history(clock: Clock) -> None:
    """The seed decides the answers, and nothing else does."""
    answers = []
    for seed in (1, 1, 2):
        with Simulator(now=clock, seed=seed) as running:
            answers.append(get(running, question()).content)
    assert answers[0] == answers[1] != answers[2]


# --- For tests -----------------------------------------------------------------------------------------------


def test_fixed_rows_are_served_as_they_are(simulator: Simulator) -> None:
    """A test may say what a customer's rows are; key and options are still judged."""
    rows: list[object] = [{"projectid": 1, "queueid": "x"}, None]
    simulator.answer("bank", rows)
    assert get(simulator, question()).json() == {"response": rows, "errors": []}
    assert get(simulator, question(), key="wrong").status_code == 401
    assert get(simulator, STATISTICS_PATH).status_code == 417
    assert ask(simulator, "/v2/projects")
    assert ask(simulator, question(), "webshop")


def test_a_function_answers_by_the_options(simulator: Simulator) -> None:
    """A test's function sees the options and may give rows or a whole reply."""
    simulator.answer("bank", lambda options: [{"projectid": int(options["projects"])}])
    assert ask(simulator, question(projects="7")) == [{"projectid": 7}]
    simulator.answer("bank", lambda _: Reply(499, b"short", (("X-Pot", "tea"),)))
    response = get(simulator, question())
    assert (response.status_code, response.content, response.headers["X-Pot"]) == (499, b"short", "tea")


def test_projects_can_be_fixed_too(simulator: Simulator) -> None:
    """The other path has its own answer."""
    simulator.answer("bank", Reply(403, b""), "/v2/projects")
    assert get(simulator, "/v2/projects").status_code == 403
    assert ask(simulator, question())


def test_the_requests_are_remembered(simulator: Simulator, clock: Clock) -> None:
    """Time, customer, path with query and status of what came in."""
    get(simulator, question())
    get(simulator, "/v2/projects", "webshop", key="wrong")
    seen = [(r.at, r.customer, r.path, r.status) for r in simulator.requests]
    assert seen == [(clock.at, "bank", question(), 200), (clock.at, "webshop", "/v2/projects", 401)]


def test_other_centres_can_be_simulated(clock: Clock) -> None:
    """A test brings its own customers."""
    with Simulator([replace(BANK, customer="acme", key="k")], now=clock) as running:
        assert ask(running, question(), "acme")
        assert requests.get(running.url + question(), auth=("bank", BANK.key), timeout=LIMIT_S).status_code == 401


@pytest.mark.parametrize("call", ["misbehave", "heal", "answer", "rekey"])
def test_an_unknown_customer_is_an_error_that_names_the_known(simulator: Simulator, call: str) -> None:
    """Nothing is set up for a customer that does not exist."""
    arguments = {"misbehave": ("slow",), "heal": (), "answer": ([],), "rekey": ("k",)}[call]
    with pytest.raises(LookupError, match=re.escape("no customer 'acme', but: bank, webshop, roadside, utility")):
        getattr(simulator, call)("acme", *arguments)


# --- Faults --------------------------------------------------------------------------------------------------


def raw(simulator: Simulator, path: str | None = None, limit: int = 1 << 24, key: str = BANK.key) -> tuple[bytes, str]:
    """Ask as the bank and read what comes, up to a limit; tell how it ended: closed, reset or open."""
    basic = base64.b64encode(f"bank:{key}".encode()).decode()
    request = (
        f"GET {path or question()} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic {basic}\r\n\r\n"
    )
    received = bytearray()
    with socket.create_connection(("127.0.0.1", simulator.port), LIMIT_S) as connection:
        connection.sendall(request.encode())
        try:
            while len(received) < limit:
                if not (piece := connection.recv(65536)):
                    return bytes(received), "closed"
                received += piece
        except ConnectionResetError:
            return bytes(received), "reset"
    return bytes(received[:limit]), "open"


def parts(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Take status, headers and body from what came."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body


@pytest.mark.parametrize(
    ("fault", "status", "header"),
    [
        ("unauthorized", 401, ("WWW-Authenticate", 'Basic realm="VCC"')),
        ("forbidden", 403, None),
        ("rejected", 417, None),
        ("rate_limited", 429, ("Retry-After", "30")),
        ("server_error", 500, None),
        ("unavailable", 503, ("Retry-After", "Tue, 04 Mar 2025 11:00:30 GMT")),
        ("proxy_auth", 407, ("Proxy-Authenticate", 'Basic realm="proxy"')),
        ("echo_key", 417, None),
    ],
)
def test_faults_that_refuse(simulator: Simulator, fault: str, status: int, header: tuple[str, str] | None) -> None:
    """Each answers with its status, and with errors in the body."""
    simulator.misbehave("bank", fault)
    found, headers, body = parts(raw(simulator)[0])
    assert found == status == simulator.requests[-1].status
    assert json.loads(body)["errors"]
    assert header is None or headers[header[0]] == header[1]


@pytest.mark.parametrize("message", [FORMAT_ERROR, MISSING, TOO_LONG])
def test_a_rejection_has_the_message_asked_for(simulator: Simulator, message: str) -> None:
    """Each documented message can be rehearsed."""
    simulator.misbehave("bank", "rejected", message=message)
    assert get(simulator, question()).json()["errors"] == [message]


def test_retry_after_is_as_long_as_asked(simulator: Simulator, clock: Clock) -> None:
    """Seconds or a date, both from a parameter."""
    simulator.misbehave("bank", "rate_limited", seconds=7)
    assert get(simulator, question()).headers["Retry-After"] == "7"
    simulator.misbehave("bank", "unavailable", seconds=90)
    assert parsedate_to_datetime(get(simulator, question()).headers["Retry-After"]) == clock.at + timedelta(seconds=90)


def test_an_echo_repeats_the_credentials(simulator: Simulator) -> None:
    """The error's text holds the key, plain and coded."""
    simulator.misbehave("bank", "echo_key")
    [text] = get(simulator, question(), key="s3cret").json()["errors"]
    assert "s3cret" in text
    assert base64.b64encode(b"bank:s3cret").decode() in text


def test_a_redirect_leads_elsewhere(simulator: Simulator) -> None:
    """The place it names is on this server, and unknown there."""
    simulator.misbehave("bank", "redirect")
    response = get(simulator, question())
    assert (response.status_code, response.headers["Location"]) == (302, "/elsewhere")


def test_slow_is_right_but_late(simulator: Simulator) -> None:
    """The answer waits as long as asked, and is the true one."""
    true = raw(simulator)
    simulator.misbehave("bank", "slow", seconds=0.01)
    assert raw(simulator) == true
    simulator.misbehave("bank", "slow", seconds=3600)
    hanging = threading.Thread(target=raw, args=(simulator,))
    hanging.start()
    until(lambda: len(simulator.requests) == 3)
    assert simulator.requests[-1].status is None
    simulator.stop()
    hanging.join(LIMIT_S)
    assert not hanging.is_alive()


def test_silence_lasts_until_the_client_goes(simulator: Simulator) -> None:
    """Nothing is answered, and the thread ends with the connection."""
    simulator.misbehave("bank", "silent")
    handlers = threading.active_count()
    with suppress(TimeoutError), socket.create_connection(("127.0.0.1", simulator.port), 0.1) as connection:
        basic = base64.b64encode(b"bank:").decode()
        connection.sendall(f"GET / HTTP/1.1\r\nAuthorization: Basic {basic}\r\n\r\n".encode())
        assert connection.recv(1) == b"never"
    assert simulator.requests[-1].status is None
    until(lambda: threading.active_count() <= handlers)


def test_headers_drip_for_ever(simulator: Simulator) -> None:
    """A header grows byte by byte and never ends."""
    simulator.misbehave("bank", "drip_headers", seconds=0.001)
    data, end = raw(simulator, limit=200)
    assert end == "open"
    assert re.fullmatch(rb"HTTP/1.1 200 OK\r\nX-Drip: \.+", data)


def test_a_body_drips(simulator: Simulator) -> None:
    """The true answer comes, but byte by byte."""
    simulator.answer("bank", [])
    true = raw(simulator)
    simulator.misbehave("bank", "drip_body", seconds=0.001)
    assert raw(simulator) == true


def test_a_reset_comes_before_an_answer(simulator: Simulator) -> None:
    """The connection ends with RST and without a byte."""
    simulator.misbehave("bank", "reset")
    assert raw(simulator) == (b"", "reset")


def test_a_reset_comes_within_the_body(simulator: Simulator) -> None:
    """Half of the announced body comes, then RST."""
    simulator.misbehave("bank", "reset_body")
    data, end = raw(simulator)
    _, headers, body = parts(data)
    assert (end, len(body)) == ("reset", int(headers["Content-Length"]) // 2)


def test_a_short_body_ends_too_soon(simulator: Simulator) -> None:
    """The connection is closed properly, but a byte is lacking."""
    simulator.misbehave("bank", "short_body")
    data, end = raw(simulator)
    _, headers, body = parts(data)
    assert (end, len(body)) == ("closed", int(headers["Content-Length"]) - 1)


@pytest.mark.parametrize(
    ("fault", "header"), [("huge", ("Content-Length", "500000000")), ("endless_body", ("Transfer-Encoding", "chunked"))]
)
def test_bodies_without_measure(simulator: Simulator, fault: str, header: tuple[str, str]) -> None:
    """More comes than anybody wants, until the client goes."""
    simulator.misbehave("bank", fault)
    handlers = threading.active_count()
    data, end = raw(simulator, limit=20_000_000)
    assert (end, len(data)) == ("open", 20_000_000)
    assert parts(data)[1][header[0]] == header[1]
    until(lambda: threading.active_count() <= handlers)


def test_a_gzip_bomb_is_small_and_unpacks_to_much(simulator: Simulator) -> None:
    """Less than a megabyte becomes two hundred."""
    simulator.misbehave("bank", "gzip_bomb")
    _, headers, body = parts(raw(simulator)[0])
    assert headers["Content-Encoding"] == "gzip"
    assert len(body) < 1_000_000
    assert len(gzip.decompress(body)) > 190_000_000


def test_many_headers_stand_above_a_true_answer(simulator: Simulator) -> None:
    """Ten thousand headers do no harm to the body."""
    true = json.loads(get(simulator, question()).content)
    simulator.misbehave("bank", "many_headers")
    _, headers, body = parts(raw(simulator)[0])
    assert len(headers) > 10_000
    assert json.loads(body) == true


@pytest.mark.parametrize(
    ("fault", "error"),
    [("not_json", ValueError), ("half", ValueError), ("html", ValueError), ("deep_json", RecursionError)],
)
def test_bodies_that_no_parser_takes(simulator: Simulator, fault: str, error: type[Exception]) -> None:
    """The body is whole as far as HTTP goes, with status 200, and not to be parsed."""
    simulator.misbehave("bank", fault)
    data, end = raw(simulator)
    status, headers, body = parts(data)
    assert (status, end, int(headers["Content-Length"])) == (200, "closed", len(body))
    assert fault != "html" or headers["Content-Type"].startswith("text/html")
    with pytest.raises(error):
        json.loads(body)


def test_the_slip_of_the_page_is_a_comma_too_many(simulator: Simulator) -> None:
    """Without the comma before the last brace it would be the true answer."""
    true = json.loads(get(simulator, question()).content)
    simulator.misbehave("bank", "not_json")
    body = get(simulator, question()).content
    assert body.endswith(b",}")
    assert json.loads(body[:-2] + b"}") == true


def test_big_numbers_are_too_long_to_convert(simulator: Simulator) -> None:
    """One number has five thousand digits, beside rows that are good."""
    count = len(ask(simulator, question()))
    simulator.misbehave("bank", "big_numbers")
    rows = json.loads(get(simulator, question()).content, parse_int=str)["response"]
    assert [len(row["talk_time"]) > 4300 for row in rows] == [True] + [False] * (count - 1)


def test_wrong_shape_and_errors_beside_rows(simulator: Simulator) -> None:
    """Both are JSON and 200, and neither is a good answer."""
    rows = ask(simulator, question())
    simulator.misbehave("bank", "wrong_shape")
    assert get(simulator, question()).json() == {"response": {"rows": rows}, "errors": []}
    simulator.misbehave("bank", "errors_in_200")
    assert get(simulator, question()).json() == {"response": rows, "errors": ["error.internal"]}


def test_the_rows_of_another_day(simulator: Simulator) -> None:
    """Rows are right but for their date."""
    rows = ask(simulator, question())
    simulator.misbehave("bank", "other_day")
    assert ask(simulator, question()) == [row | {"date": 20250302} for row in rows]


@pytest.mark.parametrize("day", [MONDAY, date(2025, 3, 2)])
def test_bad_rows_come_beside_the_good_ones(simulator: Simulator, day: date) -> None:
    """The true rows come first, then some of which none is like the other, also on a day without calls."""
    rows = ask(simulator, question(day))
    simulator.misbehave("bank", "bad_rows")
    found = ask(simulator, question(day))
    assert found[: len(rows)] == rows
    assert len({json.dumps(row) for row in found[len(rows) :]}) == len(found) - len(rows) == 14
    assert float("inf") in [row.get("talk_time") for row in found if isinstance(row, dict)]


def test_every_fault_has_a_test_here_and_a_description() -> None:
    """The tables of faults and of incidents are covered."""
    source = Path(__file__).read_text()
    assert [name for name in (*FAULTS, *INCIDENTS) if f'"{name}"' not in source] == []
    assert all(function.__doc__ for function in (*FAULTS.values(), *INCIDENTS.values()))


def test_a_fault_may_be_for_the_first_few_requests(simulator: Simulator) -> None:
    """After that many all is well again."""
    simulator.misbehave("bank", "server_error", first=2)
    assert [get(simulator, question()).status_code for _ in range(4)] == [500, 500, 200, 200]
    assert simulator.active("bank") == []


def test_a_fault_may_be_for_one_path(simulator: Simulator) -> None:
    """The other path answers well, and is not counted."""
    simulator.misbehave("bank", "forbidden", path="projects", first=1)
    assert [get(simulator, path).status_code for path in (question(), "/v2/projects", "/v2/projects")] == [
        200,
        403,
        200,
    ]


def test_a_fault_is_one_customer_s_and_can_be_healed(simulator: Simulator) -> None:
    """Others are not touched, and healing ends it."""
    simulator.misbehave("bank", "unauthorized")
    assert [get(simulator, question(), customer).status_code for customer in ("bank", "webshop")] == [401, 200]
    simulator.heal("bank")
    assert get(simulator, question()).status_code == 200


def test_an_incident_changes_the_calls_from_now_on(simulator: Simulator, clock: Clock) -> None:
    """What had been counted stays, nothing is added while calls have stopped, and healing keeps the gap."""
    tuesday = MONDAY + timedelta(days=1)
    whole = list(simulator.calls("bank", MONDAY, MONDAY))
    before = ask(simulator, question(tuesday))
    simulator.misbehave("bank", "calls_stopped")
    assert ask(simulator, question(tuesday)) == before
    assert simulator.active("bank") == ["calls_stopped"]
    clock.set(tuesday, 14)
    stopped = totals(ask(simulator, question(tuesday)))
    clock.set(tuesday, 15)
    assert totals(ask(simulator, question(tuesday))) == stopped
    simulator.heal("bank")
    assert totals(ask(simulator, question(tuesday))) == stopped
    clock.set(tuesday, 18)
    after = totals(ask(simulator, question(tuesday)))
    assert after["answered_before"] > stopped["answered_before"]
    assert simulator.active("bank") == []
    assert list(simulator.calls("bank", MONDAY, MONDAY)) == whole


@pytest.mark.parametrize(("incident", "key"), [("surge", "abort_in_queue_after"), ("understaffed", "answered_after")])
def test_incidents_make_callers_wait(simulator: Simulator, clock: Clock, incident: str, key: str) -> None:
    """With many more calls, or fewer agents, more of them are late."""
    tuesday = MONDAY + timedelta(days=1)
    simulator.misbehave("bank", incident)
    clock.set(tuesday, 20)
    bad = totals(ask(simulator, question(tuesday)))
    with Simulator(now=clock) as other:
        usual = totals(ask(other, question(tuesday)))
    assert bad[key] > 1.5 * usual[key]


# --- The control endpoint ------------------------------------------------------------------------------------


def command(simulator: Simulator, method: str, path: str = "") -> requests.Response:
    """Send a command to the control endpoint, without credentials."""
    return requests.request(method, f"{simulator.url}/simulator/faults{path}", timeout=LIMIT_S)


def test_one_command_begins_a_fault_and_one_heals_it(simulator: Simulator) -> None:
    """PUT begins, GET lists, DELETE heals."""
    begun = command(simulator, "PUT", "/bank?fault=rate_limited&seconds=9&first=5&path=statistics")
    assert (begun.status_code, begun.text) == (200, "bank: rate_limited\n")
    assert get(simulator, question()).headers["Retry-After"] == "9"
    assert "bank: rate_limited\nwebshop: all is well\n" in command(simulator, "GET").text
    healed = command(simulator, "DELETE", "/bank")
    assert (healed.status_code, healed.text) == (200, "bank: all is well\n")
    assert get(simulator, question()).status_code == 200
    assert len(simulator.requests) == 2


def test_the_list_says_what_each_fault_does(simulator: Simulator) -> None:
    """Every fault has a line with its words."""
    listed = command(simulator, "GET").text.splitlines()
    assert [line.partition(": ")[0] for line in listed[len(CENTRES) + 1 :]] == [*FAULTS, *INCIDENTS]
    assert "silent: Never answer." in listed


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("PUT", "/bank?fault=none", 404, "no fault 'none', but: unauthorized, "),
        ("PUT", "/bank", 404, "no fault '', but: "),
        ("PUT", "/acme?fault=slow", 404, "no customer 'acme', but: bank, webshop, roadside, utility\n"),
        ("PUT", "?fault=slow", 404, "no customer '', but: bank"),
        ("DELETE", "/acme", 404, "no customer 'acme'"),
        ("GET", "/acme", 404, "no customer 'acme'"),
        ("PUT", "/bank?fault=slow&seconds=soon", 400, "could not convert"),
        ("PUT", "/bank?fault=slow&seconds=-1", 400, "-1 is not between"),
        ("PUT", "/bank?fault=slow&seconds=nan", 400, "nan is not between"),
        ("PUT", "/bank?fault=slow&second=1", 400, "no option 'second', but: path, first, seconds, "),
        ("PUT", "/bank?fault=slow&path=x", 400, "no path 'x', but: statistics, projects"),
        ("POST", "/bank?fault=slow", 405, "GET, PUT or DELETE"),
    ],
)
def test_a_wrong_command_is_explained(simulator: Simulator, method: str, path: str, status: int, words: str) -> None:
    """What is unknown is answered with what is known, and changes nothing."""
    response = command(simulator, method, path)
    assert response.status_code == status
    assert response.text.startswith(words)
    assert simulator.active("bank") == []


def test_commands_are_taken_from_this_machine_only(clock: Clock) -> None:
    """Another address is refused, even where the API listens for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("no address but loopback here")
        address = probe.getsockname()[0]
    with Simulator(now=clock, host=address) as running:
        assert command(running, "GET").status_code == 403
        assert ask(running, question())


# --- Start and stop ------------------------------------------------------------------------------------------


def test_stop_ends_every_connection_at_once(clock: Clock) -> None:
    """Clients that wait, idle, drip or do not read are cut off, and the port is free again."""
    simulator = Simulator(now=clock)
    simulator.start()
    basic = base64.b64encode(b"bank:").decode()
    clients = []
    for fault in ("silent", "slow", "drip_headers", "huge", "endless_body", ""):
        clients.append(socket.create_connection(("127.0.0.1", simulator.port), LIMIT_S))
        if fault:
            simulator.misbehave("bank", fault, seconds=3600)
            clients[-1].sendall(f"GET / HTTP/1.1\r\nAuthorization: Basic {basic}\r\n\r\n".encode())
            until(lambda: len(simulator.requests) == len(clients))
    simulator.stop()
    for client in clients:
        with closing(client), suppress(ConnectionResetError):
            while client.recv(1 << 20):
                pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", simulator.port), LIMIT_S)
    simulator.stop()


def test_it_can_be_started_again_on_the_same_port(simulator: Simulator) -> None:
    """An API that was away comes back where it was."""
    url = simulator.url
    simulator.stop()
    simulator.start()
    assert simulator.url == url
    assert ask(simulator, question())


def test_a_stalled_tls_handshake_holds_up_nobody(clock: Clock, tmp_path: Path) -> None:
    """With TLS a client that never shakes hands delays neither other clients nor the end."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Simulator(now=clock, ssl_context=context) as running:
        stalled = socket.create_connection(("127.0.0.1", running.port), LIMIT_S)
        for fault, status in (("", 200), ("slow", 200), ("forbidden", 403)):
            if fault:
                running.misbehave("bank", fault, seconds=0)
            response = requests.get(
                running.url + question(), auth=("bank", BANK.key), verify=str(tmp_path / "ca.pem"), timeout=LIMIT_S
            )
            assert (running.url[:5], response.status_code) == ("https", status)
    with closing(stalled):
        assert stalled.recv(1) == b""


def test_a_taken_port_is_an_error(simulator: Simulator) -> None:
    """Two simulators do not share a port."""
    with pytest.raises(OSError, match="in use"):
        Simulator(port=simulator.port).start()


def test_the_system_s_clock_is_the_default() -> None:
    """Without a clock of its own the simulator has an aware one."""
    before = datetime.fromtimestamp(time.time_ns() // 10**9, UTC)
    assert before <= Simulator().now() <= before + timedelta(seconds=LIMIT_S)


def test_an_ipv6_address_stands_in_brackets() -> None:
    """The url can be used as it is."""
    try:
        with Simulator(host="::1") as running:
            assert running.url == f"http://[::1]:{running.port}"
            assert requests.get(running.url, timeout=LIMIT_S).status_code == HTTPStatus.NOT_FOUND
    except OSError:
        pytest.skip("no IPv6 here")


# --- The demo ------------------------------------------------------------------------------------------------


def test_the_demo_s_config_names_the_demo_s_centres() -> None:
    """The YAML has every centre with its key, zone and threshold, at the address given."""
    config = yaml.safe_load(demo_config("http://127.0.0.1:8"))
    assert config["poll"] == {"interval": "15s"}
    customers = [(c["name"], c["url"], c["api_key"], c["timezone"], c["sla"]) for c in config["customers"]]
    assert customers == [(c.customer, "http://127.0.0.1:8", c.key, c.zone, c.sla_s) for c in CENTRES]
    assert all(ZoneInfo(customer["timezone"]) for customer in config["customers"])


def test_the_demo_s_config_fits_the_table_of_centres() -> None:
    """Projects, queues and hours in it are those of the centres."""
    bank, webshop, roadside, utility = yaml.safe_load(demo_config("http://x"))["customers"]
    listed = {p["id"]: (p["name"], p.get("queues", {})) for p in bank["projects"]}
    assert listed == {p.id: (p.name, {q.id: q.name for q in p.queues}) for p in BANK.projects}
    assert "hours" not in roadside
    assert (bank["hours"], utility["hours"]) == ({"mon-fri": "09:00-18:00"}, {"mon-fri": "07:00-20:00"})
    assert webshop["hours"] == {"mon-sat": "08:00-20:00"}
    for centre, customer in zip(CENTRES, (bank, webshop, roadside, utility), strict=True):
        hours = next(iter(customer.get("hours", {"": "00:00-24:00"}).values()))
        closes = centre.opens + len(centre.weights) // 2
        assert hours == f"{centre.opens:02}:00-{closes:02}:00"
        assert len(centre.weights) == len(centre.agents)
        assert sum(q.share for p in centre.projects for q in p.queues) == pytest.approx(1)
    assert WEBSHOP.weekdays[5] > 0


def test_it_runs_alone() -> None:
    """`python -m` prints the address and the keys, serves, and ends with 0 at SIGTERM, with 1 on a taken port."""
    line = [sys.executable, "-m", "vcc_exporter.simulator", "--seed", "3", "--listen"]
    with subprocess.Popen(  # noqa: S603 - our own program
        [*line, "127.0.0.1:0"], cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        assert f"key {BANK.key}" in process.stdout.readline()
        path = url + question()
        assert requests.get(path, auth=("bank", BANK.key), timeout=LIMIT_S).json()["response"]
        taken = subprocess.run(  # noqa: S603 - our own program
            [*line, url.removeprefix("http://")], cwd=ROOT, check=False, capture_output=True, text=True
        )
        assert (taken.returncode, "cannot listen on" in taken.stderr) == (1, True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
