"""The one-shot commands against the simulator and real sockets: each verdict word for word, and what there is."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
import yaml
from running import free_port
from support import NOW, SetClock, http_response, make_customer, raw_server, read_request, statistics_body

from vcc_exporter import config_file
from vcc_exporter.answer import NOT_FINITE
from vcc_exporter.client import PROJECTS, Question
from vcc_exporter.config import Customer, KeySource
from vcc_exporter.discover import Found, discover, fragment, table
from vcc_exporter.oneshot import Verdict, counted, load_words, verdicts
from vcc_exporter.simulator import Reply, Simulator
from vcc_exporter.times import Clock

pytestmark = pytest.mark.usefixtures("no_environment")

KEY: Final = "demo-key-of-the-bank"
LIMIT_S: Final = 30
"""How long a test waits for what must happen."""
NEVER: Final = {"timeout": "10m"}
"""For requests that must not end by their time."""


def bank(api: Simulator, **keys: Any) -> Customer:
    """Return the simulator's bank as a customer."""
    return make_customer(**{"name": "bank", "api_key": KEY, "url": api.url, "poll": NEVER, **keys})


def ignore(_: str) -> None:
    """Show no progress."""


def line(customer: Customer, clock: Clock) -> str:
    """Return a customer's verdict, once it is sure that it is one line and holds no key."""
    (verdict,) = verdicts([customer], clock, ignore)
    assert str(verdict).isprintable()
    assert KEY not in str(verdict)
    return str(verdict)


def answering(*rows: dict[str, Any]) -> Callable[[Mapping[str, str]], Reply]:
    """Answer each statistics request with these rows, of the first day that it asks for."""

    def answer(options: Mapping[str, str]) -> Reply:
        return Reply(200, statistics_body(list(rows), datetime.strptime(options["from"], "%Y%m%d").date()))  # noqa: DTZ007

    return answer


# Verdicts: good.


def test_rows_of_today_are_good(api: Simulator, clock: SetClock) -> None:
    """The line tells how many rows came and how long it took, and that the zone fits."""
    assert line(bank(api), clock) == "bank: good: 6 rows, the zone seems right (0.0 s)"


def test_one_poll_is_asked_for_and_projects_only_where_some_are_listed(api: Simulator, clock: SetClock) -> None:
    """The requests are those of a poll, to the letter, and one for the list that listed projects are held against."""
    today = NOW.date()
    line(bank(api, sla=20, teams=[1, 2]), clock)
    assert [seen.path for seen in api.requests] == [Question(today, today, 20, (1, 2)).target()]
    line(bank(api, projects=[{"id": 101}, {"id": 102, "sla": 20}]), clock)
    assert [seen.path for seen in api.requests[1:]] == [
        Question(today, today, 30, projects=(101,)).target(),
        Question(today, today, 20, projects=(102,)).target(),
        PROJECTS,
    ]


def test_listed_projects_that_exist_are_good(api: Simulator, clock: SetClock) -> None:
    """Rows of several requests are counted together."""
    projects = [{"id": 101}, {"id": 102, "sla": 20}]
    assert line(bank(api, projects=projects), clock) == "bank: good: 5 rows, the zone seems right (0.0 s)"


def test_no_row_is_good_and_tells_nothing_of_the_zone(api: Simulator, clock: SetClock) -> None:
    """Before the first call of a day the numbers are right, and the zone may be wrong."""
    clock.wall = datetime(2026, 3, 11, 0, 30, tzinfo=UTC)
    assert line(bank(api), clock) == (
        "bank: good: no calls yet today, so that nothing tells whether the zone is right (0.0 s)"
    )


def test_teams_without_a_row_may_not_exist(api: Simulator, clock: SetClock) -> None:
    """The API has no list of teams and says nothing of one that it does not know, so that no more can be said."""
    assert line(bank(api, teams=[98, 7]), clock) == (
        "bank: good: no calls yet today, so that nothing tells whether the zone is right (0.0 s); "
        "perhaps the account has no teams 7, 98, which the API does not tell"
    )
    assert "teams" not in line(bank(api, teams=[1, 98]), clock)


def test_what_takes_more_than_half_of_the_timeout_is_good_and_slow(clock: SetClock) -> None:
    """Slowness makes no verdict bad, and is told before polls begin to fail."""

    def later(connection: socket.socket) -> None:
        while read_request(connection):
            clock.advance(timedelta(seconds=6))
            connection.sendall(http_response(statistics_body([])))

    with raw_server(later) as port:
        url = f"http://127.0.0.1:{port}"
        slow = line(make_customer(url=url), clock)
        quick = line(make_customer(url=url, poll={"timeout": "12s"}), clock)
    assert quick == "acme: good: no calls yet today, so that nothing tells whether the zone is right (6.0 s)"
    assert slow == f"{quick}; slow: a request took 6.0 s of the 10 s of poll.timeout, raise it before polls fail"


def test_rows_that_cannot_be_used_are_told_beside_good_ones(api: Simulator, clock: SetClock) -> None:
    """The first of them says why."""
    row = {"projectid": 101, "queueid": 1101}
    api.answer("bank", answering(row, row | {"queueid": 2, "talk_time": KEY}))
    assert line(bank(api), clock) == (
        "bank: good: 2 rows, the zone seems right (0.0 s); "
        "1 row cannot be used, the first for a value that is no finite number (talk_time: [redacted])"
    )


def test_projects_that_cannot_be_compared_are_no_fault(api: Simulator, clock: SetClock) -> None:
    """A key that is good for the statistics alone is good; the remark says what was not looked at."""
    listed = bank(api, projects=[{"id": 101}, {"id": 999}])
    good = "bank: good: 3 rows, the zone seems right (0.0 s); its projects could not be compared: "
    api.misbehave("bank", "forbidden", path="projects")
    assert line(listed, clock) == f"{good}the key is not allowed /v2/projects"
    api.misbehave("bank", "server_error", path="projects")
    assert line(listed, clock) == f"{good}/v2/projects: HTTP 500: the API has a fault of its own (error.internal)"
    api.misbehave("bank", "html", path="projects")
    assert (
        line(listed, clock)
        == f"{good}/v2/projects: not a usable answer: it is no JSON but a web page, such as a login's"
    )


# Verdicts: bad.

FAULTS: Final = {
    "unauthorized": "unauthorized: HTTP 401: the subdomain or the API key is wrong (error.unauthorized)",
    "forbidden": "forbidden: HTTP 403: the key does not allow this resource or query, or this machine's address is "
    "not registered with the vendor (error.forbidden); /v2/projects is refused, too: "
    "register this machine's address first, then allow the key the resource",
    "rejected": "rejected: HTTP 417: it cannot read an option: check teams, the ids of projects and sla in the config "
    "(error.argument_format_error)",
    "rate_limited": "rate_limited: HTTP 429: asked too often: make poll.interval longer (error.too_many_requests); "
    "it asks for a pause of 30 s",
    "server_error": "server_error: HTTP 500: the API has a fault of its own (error.internal); "
    "wait; where it lasts, ask the vendor",
    "proxy_auth": "unreachable: HTTP 407: the proxy wants other credentials (proxy_url) (error.proxy); "
    "check url, proxy_url, ca_file, the name's resolution and the firewall",
    "echo_key": "rejected: HTTP 417: it cannot read an option: check teams, the ids of projects and sla in the config "
    "(error.argument_format_error: user bank, key [redacted], Authorization: Basic [redacted])",
    "redirect": "invalid_response: HTTP 302: it leads elsewhere (a redirect): check url",
    "reset": "unreachable: the connection was closed before any answer; "
    "check url, proxy_url, ca_file, the name's resolution and the firewall",
    "short_body": "invalid_response: the answer was cut short; "
    "check url where a web page answers, timezone where rows are of another day; else wait, or ask the vendor",
    "html": "invalid_response: not a usable answer: it is no JSON but a web page, such as a login's; "
    "check url where a web page answers, timezone where rows are of another day; else wait, or ask the vendor",
    "errors_in_200": "invalid_response: not a usable answer: it reports errors: error.internal; "
    "check url where a web page answers, timezone where rows are of another day; else wait, or ask the vendor",
    "other_day": "invalid_response: rows came dated 20260310 for 20260311, which is today in Europe/Budapest: "
    "check timezone",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_told_with_what_to_do(fault: str, api: Simulator, clock: SetClock) -> None:
    """Each way in which a poll can fail has a line that tells the result, what happened and what to do."""
    api.misbehave("bank", fault)
    assert line(bank(api), clock) == f"bank: bad: {FAULTS[fault]}"


def test_another_message_of_a_rejection_is_told_in_the_apis_words(api: Simulator, clock: SetClock) -> None:
    """Words that no document knows come with what to compare."""
    api.misbehave("bank", "rejected", message="error.team_not_found")
    assert line(bank(api), clock) == (
        "bank: bad: rejected: HTTP 417: the API does not accept the question (error.team_not_found); "
        "compare teams, projects and sla in the config with the account"
    )


def test_a_forbidden_resource_is_told_from_an_address_that_is_not_registered(api: Simulator, clock: SetClock) -> None:
    """Where the same key gets an answer for another resource, the address is no matter."""
    api.misbehave("bank", "forbidden", path="statistics")
    assert line(bank(api), clock).endswith(
        "; /v2/projects is answered, so allow the key the resource /v2/statistics/inbound"
    )
    api.answer("bank", Reply(500), PROJECTS)
    assert line(bank(api), clock).endswith("(error.forbidden)")


def test_a_key_that_cannot_be_read_is_bad(api: Simulator, clock: SetClock, tmp_path: Path) -> None:
    """The line names the file, and the API is not asked."""
    file = tmp_path / "none"
    assert line(replace(bank(api), key=KeySource(file=file)), clock) == (
        f"bank: bad: unauthorized: the API key cannot be read: the file {file} cannot be read: "
        "No such file or directory"
    )
    assert api.requests == ()


def test_no_whole_answer_in_time_is_bad(api: Simulator) -> None:
    """A request that hangs ends with poll.timeout."""
    api.misbehave("bank", "silent")
    assert line(bank(api, poll={"timeout": "300ms"}), Clock()) == (
        "bank: bad: timeout: no whole answer within 0.3 s; "
        "raise poll.timeout, or look at the network and the vendor's state"
    )


def test_nobody_there_is_bad(clock: SetClock) -> None:
    """The system's words tell what became of the connection."""
    assert line(make_customer(url=f"http://127.0.0.1:{free_port()}"), clock) == (
        "acme: bad: unreachable: no connection to the API: Connection refused; "
        "check url, proxy_url, ca_file, the name's resolution and the firewall"
    )


def test_a_certificate_that_is_not_trusted_is_bad(clock: SetClock, tmp_path: Path) -> None:
    """The words are about TLS, and say once what to check."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    ca_file = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(ca_file))
    with Simulator(now=clock.now, ssl_context=context) as api:
        told = line(bank(api, ca_file=str(ca_file)), clock)
    assert told == (
        "bank: bad: unreachable: no safe connection to the API (TLS): unable to get local issuer certificate; "
        "check url and ca_file"
    )


def test_a_file_of_certificates_that_is_missing_is_bad(clock: SetClock, tmp_path: Path) -> None:
    """No connection is made without knowing whom to trust."""
    customer = make_customer(url="https://127.0.0.1:9", ca_file=str(tmp_path / "none.pem"))
    assert line(customer, clock).startswith(
        "acme: bad: unreachable: the trusted certificates (ca_file) cannot be read: No such file or directory"
    )


def test_a_proxy_that_refuses_is_bad(clock: SetClock) -> None:
    """What the proxy says is no answer of the API, and its password stays with us."""

    def refuse(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with raw_server(refuse) as port:
        proxy_url = f"http://scrape:s3cret@127.0.0.1:{port}"
        told = line(make_customer(url="https://api.invalid", proxy_url=proxy_url), clock)
    assert told == (
        "acme: bad: unreachable: the proxy does not lead to the API: Tunnel connection failed: 403 Forbidden; "
        "check url, proxy_url, ca_file, the name's resolution and the firewall"
    )


def test_an_answer_that_echoes_the_key_is_told_without_it(api: Simulator, clock: SetClock) -> None:
    """Whether in errors beside rows, in a date, or in the list of projects."""
    echo = Reply(200, json.dumps({"response": [], "errors": [KEY]}).encode())
    listed = bank(api, projects=[{"id": 101}])
    api.answer("bank", echo, PROJECTS)
    assert line(listed, clock).endswith("/v2/projects: not a usable answer: it reports errors: [redacted]")
    api.answer("bank", echo)
    assert line(listed, clock).startswith("bank: bad: invalid_response: not a usable answer: it reports errors: [red")
    api.answer("bank", [{"projectid": 101, "queueid": 1, "date": KEY}])
    assert line(listed, clock).startswith("bank: bad: invalid_response: rows came dated [redacted] for 20260311, ")


def test_a_listed_project_that_the_api_does_not_have_is_bad(api: Simulator, clock: SetClock) -> None:
    """The line names it and those that there are."""
    there = "but 101 (Retail banking), 102 (Lost cards), 103 (Personal bankers); check projects"
    assert line(bank(api, projects=[{"id": 101}, {"id": 999}]), clock) == (
        f"bank: bad: the API knows no project 999, {there}"
    )
    assert line(bank(api, projects=[{"id": 999}, {"id": 5}]), clock) == (
        f"bank: bad: the API knows no projects 5, 999, {there}"
    )


def test_many_projects_are_named_in_part(api: Simulator, clock: SetClock) -> None:
    """Ten of them, by id, with what they are called; the key stands in none."""
    entries = [{"projectid": id_, "name": f"P{id_} {KEY}" if id_ > 1 else None} for id_ in range(13, 0, -1)]
    api.answer("bank", entries, PROJECTS)
    names = ", ".join(f"{id_} (P{id_} [redacted])" for id_ in range(2, 11))
    assert line(bank(api, projects=[{"id": 999}]), clock) == (
        f"bank: bad: the API knows no project 999, but 1, {names}, 3 more; check projects"
    )
    api.answer("bank", [], PROJECTS)
    assert line(bank(api, projects=[{"id": 999}]), clock).endswith("no project 999, but none at all; check projects")


def test_a_project_with_rows_exists_whether_it_is_listed_or_not(api: Simulator, clock: SetClock) -> None:
    """The list may lack what is no longer active."""
    api.answer("bank", [], PROJECTS)
    assert line(bank(api, projects=[{"id": 101}]), clock) == "bank: good: 3 rows, the zone seems right (0.0 s)"


def test_a_rejected_question_is_explained_by_a_project_that_does_not_exist(api: Simulator, clock: SetClock) -> None:
    """No document says how the API takes an unknown id, so that the list is looked at then, too."""
    api.misbehave("bank", "rejected", path="statistics")
    assert line(bank(api, projects=[{"id": 101}, {"id": 999}]), clock) == (
        f"bank: bad: {FAULTS['rejected']}; the API knows no project 999, "
        "but 101 (Retail banking), 102 (Lost cards), 103 (Personal bankers); check projects"
    )
    assert line(bank(api, projects=[{"id": 101}]), clock) == f"bank: bad: {FAULTS['rejected']}"


# Several customers.


def test_sixteen_customers_are_asked_at_once_and_told_in_the_configs_order() -> None:
    """No answer comes before all sixteen requests are in."""
    together = threading.Barrier(16, timeout=LIMIT_S)

    def wait(connection: socket.socket) -> None:
        while read_request(connection):
            together.wait()
            connection.sendall(http_response(statistics_body([])))

    with raw_server(wait) as port:
        names = [f"c{i}" for i in range(32)]
        customers = [make_customer(name=name, url=f"http://127.0.0.1:{port}", poll=NEVER) for name in names]
        told = list(verdicts(customers, Clock(), ignore))
    assert [verdict.customer for verdict in told] == names
    assert all(verdict.good for verdict in told), told


def test_a_customer_is_told_while_a_later_one_still_hangs() -> None:
    """A hang holds up nothing that stands before it, and no customer that is asked beside it."""
    release = threading.Event()

    def hang(connection: socket.socket) -> None:
        while read_request(connection):
            assert release.wait(LIMIT_S)
            connection.sendall(http_response(statistics_body([])))

    with raw_server(hang) as hanging, Simulator() as api:
        stuck = make_customer(name="stuck", url=f"http://127.0.0.1:{hanging}", poll=NEVER)
        told = verdicts([bank(api), stuck, bank(api, name="again", subdomain="bank")], Clock(), ignore)
        assert next(told).customer == "bank"
        release.set()
        assert [(verdict.customer, verdict.good) for verdict in told] == [("stuck", True), ("again", True)]


def test_who_stops_waiting_waits_for_nobody() -> None:
    """As with Ctrl-C: requests under way are left alone, and others are not begun."""
    release, asked = threading.Event(), []

    def hang(connection: socket.socket) -> None:
        while head := read_request(connection):
            asked.append(head)
            assert release.wait(LIMIT_S)
            connection.sendall(http_response(statistics_body([])))

    before = set(threading.enumerate())
    with raw_server(hang) as port, Simulator() as api:
        hanging = [make_customer(name=f"c{i}", url=f"http://127.0.0.1:{port}", poll=NEVER) for i in range(40)]
        told = verdicts([bank(api), *hanging], Clock(), ignore)
        assert next(told).customer == "bank"
        workers = [thread for thread in set(threading.enumerate()) - before if "Executor" in thread.name]
        told.close()  # type: ignore[attr-defined]
        release.set()
        for worker in workers:
            worker.join(LIMIT_S)
    assert len(workers) == 16
    assert len(asked) <= 16


def test_progress_is_taken_away_before_each_line(api: Simulator, clock: SetClock) -> None:
    """What is shown meanwhile is told with each customer but the last, and emptied before lines are."""
    shown: list[str] = []
    for verdict in verdicts([bank(api, name=f"b{i}", subdomain="bank") for i in range(3)], clock, shown.append):
        assert shown[-1] == ""
        assert verdict.good
    assert shown == ["", "1 of 3", "", "2 of 3", ""]


def test_a_fault_of_our_own_ends_one_customers_line_only(api: Simulator) -> None:
    """What nobody foresaw, such as a year that no calendar has, is told by its kind."""
    clock = SetClock(datetime(1, 1, 5, tzinfo=UTC))
    words = "a fault of the exporter itself (OverflowError)"
    assert list(discover([bank(api)], clock, ignore)) == [Verdict("bank", False, words)]


def test_the_load_of_a_whole_config_is_the_sum_of_its_customers() -> None:
    """Requests of a round are those of one poll of each."""
    several = make_customer(projects=[{"id": 1, "sla": 20}, {"id": 2}], other_projects=True)
    assert load_words([make_customer()], NOW) == "1 request in a round of polls, 1442 a day"
    assert load_words([make_customer(), several], NOW) == "4 requests in a round of polls, 5766 a day"


def test_one_thing_is_counted_in_the_singular() -> None:
    """None and several are plural."""
    assert [counted(number, "row") for number in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]


# What there is.


def find(customer: Customer, clock: Clock) -> Found:
    """Return what a customer has."""
    (found,) = discover([customer], clock, ignore)
    assert isinstance(found, Found), found
    return found


BANKS_TABLE: Final = """\
bank: 3 projects, 3 queues with calls from 2026-02-10 to 2026-03-11
  PROJECT  NAME              STATUS  QUEUE  CALLS IN 30 DAYS
      101  Retail banking    active     -1               821
      101  Retail banking    active   1101              6760
      101  Retail banking    active   1102              4252
      102  Lost cards        active     -1               103
      102  Lost cards        active   1201              1229
      103  Personal bankers  active     -1               818
"""


def test_the_simulators_bank_is_found(api: Simulator, clock: SetClock) -> None:
    """Projects with name and status, queues with their calls, by id."""
    assert table(find(bank(api), clock)) == BANKS_TABLE


def test_calls_are_those_of_the_simulators_own_list(api: Simulator, clock: SetClock) -> None:
    """In a queue the calls that ended by an agent or the caller, without one all that came to none."""
    found = find(bank(api), clock)
    counts: dict[tuple[int, int], int] = {}
    for call in api.calls("bank", found.first, found.last):
        pair = call.project, call.queues[-1] if call.queues else -1
        counts[pair] = counts.get(pair, 0) + (call.outcome.name != "REDIRECTED")
    assert found.calls == counts


def test_thirty_days_are_asked_for_month_by_month_with_today(api: Simulator, clock: SetClock) -> None:
    """Each request is like a lookback's; which projects the config lists does not matter."""
    find(bank(api, sla=20, teams=[1], projects=[{"id": 999, "sla": 7}]), clock)
    today = NOW.date()
    parts = [(today.replace(month=2, day=10), today.replace(month=2, day=28)), (today.replace(day=1), today)]
    asked = [Question(first, last, 20, (1,)).target() for first, last in parts]
    assert [seen.path for seen in api.requests] == [*asked, PROJECTS]


def test_days_are_those_of_the_customers_zone(api: Simulator, clock: SetClock) -> None:
    """Where it is tomorrow already, tomorrow is today."""
    clock.wall = datetime(2026, 3, 11, 23, 30, tzinfo=UTC)
    assert str(find(bank(api), clock).last) == "2026-03-12"


SEVEN: Final = {
    "answered_before": 1,
    "answered_after": 10,
    "abort_in_queue_before": 100,
    "abort_in_queue_after": 1000,
    "aiqe": 100,
    "abort_before_queue": 10_000,
    "bqr": 100_000,
    "aqr": 1_000_000,
}


def test_offered_calls_are_counted_and_without_a_queue_all_that_came_to_none(api: Simulator, clock: SetClock) -> None:
    """Early ones are part of those given up; days and months are added up, and what lacks is none."""
    rows = [{"projectid": 1, "queueid": 7, **SEVEN}, {"projectid": 1, "queueid": -1, **SEVEN}]
    api.answer("bank", answering(*rows, {"projectid": 2, "queueid": 9}))
    assert find(bank(api), clock).calls == {(1, -1): 2 * 110_011, (1, 7): 2 * 1111, (2, 9): 0}


def test_projects_without_calls_are_listed(api: Simulator, clock: SetClock) -> None:
    """As are those that only the calls tell of, with what the API says of them."""
    entries = [{"projectid": 12, "name": "Új ügyfelek"}, {"projectid": 3, "status": "closed"}]
    api.answer("bank", entries, PROJECTS)
    api.answer("bank", answering({"projectid": 5, "queueid": 7, "answered_before": 2}))
    assert table(find(bank(api), clock)) == (
        "bank: 3 projects, 1 queue with calls from 2026-02-10 to 2026-03-11\n"
        "  PROJECT  NAME         STATUS  QUEUE     CALLS IN 30 DAYS\n"
        "        3  -            closed      -  no calls in 30 days\n"
        "        5  -            -           7                    4\n"
        "       12  Új ügyfelek  -           -  no calls in 30 days\n"
    )


def test_a_key_for_the_statistics_alone_finds_ids(api: Simulator, clock: SetClock) -> None:
    """A remark says why there are no names."""
    api.misbehave("bank", "forbidden", path="projects")
    found = find(bank(api), clock)
    head, remark, _, first, *_ = table(found).splitlines()
    assert head.startswith("bank: 3 projects, 3 queues")
    assert remark == "  no names, and no projects without calls: the key is not allowed /v2/projects"
    assert first.split() == ["101", "-", "-", "-1", "821"]
    assert f"# {remark.strip()}\n    projects:\n      - id: 101\n        # 821 calls" in fragment(found)


def test_an_account_with_nothing_is_told(api: Simulator, clock: SetClock) -> None:
    """Neither a table without rows nor a block without a value is written; teams that may not exist are told."""
    api.answer("bank", [], PROJECTS)
    found = find(bank(api, teams=[98]), clock)
    lines = [
        "bank: 0 projects, 0 queues with calls from 2026-02-10 to 2026-03-11",
        "perhaps the account has no team 98, which the API does not tell",
    ]
    assert table(found) == "\n  ".join(lines) + "\n"
    assert fragment(found) == "".join(f"# {line}\n" for line in lines)


def test_rows_that_cannot_be_counted_are_told(api: Simulator, clock: SetClock) -> None:
    """A number that is none is no call and no silence either; what echoes the key does not."""
    bad = {"projectid": 1, "queueid": 7, "talk_time": KEY}
    api.answer("bank", answering(bad, {"projectid": 1, "queueid": 8, "answered_before": 1}))
    found = find(bank(api), clock)
    assert found.calls == {(1, 8): 2}
    assert found.remarks == (f"2 rows cannot be used, the first for {NOT_FINITE} (talk_time: [redacted])",)


@pytest.mark.parametrize("fault", ["unauthorized", "forbidden", "html", "rate_limited", "errors_in_200"])
def test_a_customer_that_cannot_be_asked_has_the_words_of_the_check(
    fault: str, api: Simulator, clock: SetClock
) -> None:
    """What is wrong and what to do is the same; other customers are found."""
    api.misbehave("bank", fault)
    webshop = make_customer(name="webshop", api_key=api.centres["webshop"].key, url=api.url, poll=NEVER)
    failed, found = discover([bank(api), webshop], clock, ignore)
    assert failed == Verdict("bank", False, FAULTS[fault])
    assert isinstance(found, Found)


# As YAML.

BANKS_BLOCK: Final = """\
# bank: 3 projects, 3 queues with calls from 2026-02-10 to 2026-03-11
    projects:
      - id: 101
        name: Retail banking
        # 821 calls in 30 days without a queue
        queues:
          1101: '1101'  # 6760 calls in 30 days
          1102: '1102'  # 4252 calls in 30 days
      - id: 102
        name: Lost cards
        # 103 calls in 30 days without a queue
        queues:
          1201: '1201'  # 1229 calls in 30 days
      - id: 103
        name: Personal bankers
        # 818 calls in 30 days without a queue
"""


def test_the_simulators_bank_as_a_block_of_the_config(api: Simulator, clock: SetClock) -> None:
    """Queues have their ids for names, and calls without one are a comment, since they have a name already."""
    assert fragment(find(bank(api), clock)) == BANKS_BLOCK


ODD_NAMES: Final = [
    "NO",
    "0123",
    "1e3",
    "null",
    "~",
    "yes",
    "2026-03-11",
    "a: b",
    "a #b",
    "# c",
    "- d",
    "[e]",
    "{f}",
    "&g",
    "*h",
    "!i",
    "%j",
    "@k",
    "`l`",
    "'m",
    '"n" \\ o',
    "p's, q: [r]",
    "?",
    "|",
    ">-",
    "<<",
    "Ügyfélszolgálat",
    "客服 ☎ 🎧",
    "x y " * 50,
]


def test_any_name_survives_the_way_into_the_config(api: Simulator, clock: SetClock) -> None:
    """Pasted under the customer's entry, a block reads as what the API said, in our reader and in any other."""
    api.answer("bank", [{"projectid": id_, "name": name} for id_, name in enumerate(ODD_NAMES)], PROJECTS)
    rows = [{"projectid": id_, "queueid": queue, "lab": 1} for id_ in range(len(ODD_NAMES)) for queue in (-1, 7)]
    api.answer("bank", answering(*rows))
    entry = "customers:\n  - name: acme\n    api_key: k3y\n    timezone: Europe/Budapest\n"
    pasted = f"{entry}{fragment(find(bank(api), clock))}  - {{name: other, api_key: k3y, timezone: UTC}}\n"
    acme, other = config_file.parse(pasted, "pasted", Path()).customers
    names = [" ".join(name.split()) for name in ODD_NAMES]
    assert [project.name for project in acme.listed.values()] == names
    assert [project.queues for project in acme.listed.values()] == [{7: "7"}] * len(names)
    assert other.listed == {}
    assert [project["name"] for project in yaml.safe_load(pasted)["customers"][0]["projects"]] == names


def test_the_key_stands_in_nothing_that_is_found(api: Simulator, clock: SetClock) -> None:
    """An API that echoes it in names and states is written without it."""
    api.answer("bank", [{"projectid": 1, "name": f"x {KEY}", "status": KEY}], PROJECTS)
    found = find(bank(api), clock)
    assert KEY not in table(found) + fragment(found)
    assert found.projects[1].name == "x [redacted]"
