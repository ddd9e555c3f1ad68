"""Polls against the simulator over HTTP: which requests are made, when, and what becomes of their answers."""

import base64
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from garbage import left_by
from hypothesis import given
from hypothesis import strategies as st
from running import Samples, eventually, names_with, one, parse_page
from support import SetClock, http_response, make_customer, raw_server, read_request, statistics_body

from vcc_exporter import config_file, poll
from vcc_exporter.answer import Answer, Rejection, Scope, read_statistics
from vcc_exporter.client import Question, Session
from vcc_exporter.config import Customer
from vcc_exporter.exposition import Exporter, Format
from vcc_exporter.network import Network
from vcc_exporter.poll import Poller, _Work, months, questions, requests_a_day, requests_a_poll, together
from vcc_exporter.schedule import LOOKUPS_AT_ONCE, Pool, Timetable, next_poll
from vcc_exporter.simulator import Simulator
from vcc_exporter.simulator.faults import Reply
from vcc_exporter.snapshot import CustomerState
from vcc_exporter.store import Store
from vcc_exporter.times import Clock
from vcc_exporter.vocabulary import STATISTICS, Result

DAY: Final = date(2026, 3, 11)
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
SOON: Final = timedelta(seconds=15)
"""Within which the contract wants a first poll, and the first one of a day."""
VALUES: Final = STATISTICS[0].metric
Row = dict[str, Any]

# Which requests.


def asked_for(customer: Customer) -> list[tuple[Question, Scope]]:
    """Return what is asked about one day."""
    return questions(customer, DAY, DAY)


def test_without_projects_one_request_names_none() -> None:
    """It asks for everything with the customer's threshold and teams, and leaves no row out."""
    customer = make_customer(sla=20, teams=[4, 3])
    assert asked_for(customer) == [(Question(DAY, DAY, 20, (3, 4)), Scope())]


def test_projects_with_one_threshold_share_a_request() -> None:
    """There is one request for each threshold, with ascending ids, and only rows of those are expected."""
    customer = make_customer(projects=[{"id": 9}, {"id": 370, "sla": 20}, {"id": 7}, {"id": 40, "sla": 20}])
    targets = {question.target().partition("projects=")[2]: scope for question, scope in asked_for(customer)}
    assert targets == {
        "7,9&manual_sla=30": Scope(asked=frozenset({7, 9})),
        "40,370&manual_sla=20": Scope(asked=frozenset({40, 370})),
    }


def test_other_projects_add_one_request_without_names() -> None:
    """It comes last, has the customer's threshold, and the listed projects' rows are left out of its answer."""
    customer = make_customer(sla=25, projects=[{"id": 9, "sla": 10}, {"id": 7}], other_projects=True)
    *named, (question, scope) = asked_for(customer)
    assert len(named) == 2
    assert (question.projects, question.sla_s) == ((), 25)
    assert scope == Scope(left_out=frozenset({7, 9}))


def test_every_request_has_the_teams() -> None:
    """The teams stand in the requests with and without names of projects."""
    customer = make_customer(teams=[4, 3], projects=[{"id": 9, "sla": 10}, {"id": 7}], other_projects=True)
    assert [question.teams for question, _ in asked_for(customer)] == [(3, 4)] * 3


@pytest.mark.parametrize(
    ("first", "last", "parts"),
    [
        ("2026-03-10", "2026-03-10", [("2026-03-10", "2026-03-10")]),
        ("2026-03-01", "2026-03-31", [("2026-03-01", "2026-03-31")]),
        ("2026-02-24", "2026-03-02", [("2026-02-24", "2026-02-28"), ("2026-03-01", "2026-03-02")]),
        ("2028-02-24", "2028-03-02", [("2028-02-24", "2028-02-29"), ("2028-03-01", "2028-03-02")]),
        ("2026-12-31", "2027-01-01", [("2026-12-31", "2026-12-31"), ("2027-01-01", "2027-01-01")]),
        (
            "2026-01-31",
            "2026-03-01",
            [("2026-01-31", "2026-01-31"), ("2026-02-01", "2026-02-28"), ("2026-03-01", "2026-03-01")],
        ),
        ("2026-03-11", "2026-03-10", []),
    ],
)
def test_a_range_of_days_is_cut_where_months_meet(first: str, last: str, parts: list[tuple[str, str]]) -> None:
    """Months of any length, leap years and the turn of the year; nothing comes of no days."""
    cut = months(date.fromisoformat(first), date.fromisoformat(last))
    assert [(str(a), str(b)) for a, b in cut] == parts


@given(st.dates(date(1970, 1, 1), date(2199, 12, 31)), st.integers(0, 100))
def test_parts_of_months_cover_each_day_once(first: date, days: int) -> None:
    """No day is lost or comes twice, no part spans two months, and none could be joined with its neighbour."""
    last = first + timedelta(days=days)
    parts = list(months(first, last))
    covered = [a + timedelta(days=i) for a, b in parts for i in range((b - a).days + 1)]
    assert covered == [first + timedelta(days=i) for i in range(days + 1)]
    assert all((a.year, a.month) == (b.year, b.month) for a, b in parts)
    assert len({(a.year, a.month) for a, _ in parts}) == len(parts)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 1440 + 1 + 1),
        ({"poll": {"interval": "7m", "lookback": "30d"}}, 206 + 2 + 1),
        ({"poll": {"lookback": "0"}}, 1440 + 0 + 1),
        ({"projects": [{"id": 1, "sla": 20}, {"id": 2}], "other_projects": True}, 3 * (1440 + 1) + 1),
        ({"schedule": "*/5 8-17 * * mon-fri"}, 120 + 1 + 1),
        ({"schedule": "0 12 * * sun"}, 1 + 1 + 1),
    ],
)
def test_requests_a_day_are_polls_lookback_and_names(settings: dict[str, Any], expected: int) -> None:
    """Every request is counted, with a schedule those of the busiest day of seven."""
    customer = make_customer(timezone="Europe/Budapest", **settings)
    assert requests_a_day(customer, datetime(2026, 3, 17, 10, 0, tzinfo=UTC)) == expected


def test_requests_a_poll_are_one_for_each_sla_and_one_for_the_rest() -> None:
    """Projects with the same threshold share a request."""
    projects = [{"id": 1, "sla": 20}, {"id": 2}, {"id": 3, "sla": 20}]
    assert requests_a_poll(make_customer()) == 1
    assert requests_a_poll(make_customer(projects=projects)) == 2
    assert requests_a_poll(make_customer(projects=projects, other_projects=True)) == 3


def test_answers_are_put_together() -> None:
    """Values, pairs without a usable row, and rejections of all of them are in the whole."""
    numbers = (1.0,) * len(STATISTICS)
    first = Answer({(1, 2): numbers}, frozenset({(1, 3)}), (Rejection("a", "x"),))
    second = Answer({(4, 5): numbers}, frozenset({(4, 6)}), (Rejection("b", "y"), Rejection("a", "z")))
    whole = together([first, second])
    assert whole.values == {(1, 2): numbers, (4, 5): numbers}
    assert whole.rejected_pairs == {(1, 3), (4, 6)}
    assert [r.example for r in whole.rejections] == ["x", "y", "z"]
    assert together([first]) == first


# A poller with everything around it. Its clock stands until a test moves it.


class _LibraryTime:
    """What the scheduling library takes for the time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self, zone: tzinfo) -> datetime:
        """Return the time of the test's clock."""
        return self._clock.now().astimezone(zone)


NEVER: Final = datetime.max.replace(tzinfo=UTC)


class WatchedTimetable(Timetable):
    """A timetable that can tell when everything that was due is over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._due: dict[str, datetime] = {}
        self._running = {"polls": 0, "lookups": 0}
        super().__init__()
        self.start()

    def at(self, name: str, when: datetime, pool: Pool, job: Callable[[], None]) -> None:
        """Do as the base does, and take note of it."""
        with self._changed:
            self._due[name] = when

        def run() -> None:
            self._fire(name, pool, None)
            self._run(pool, job)

        super().at(name, when, pool, run)

    def again_at(
        self,
        name: str,
        when: datetime,
        pool: Pool,
        job: Callable[[], None],
        then: Callable[[datetime], datetime | None],
    ) -> None:
        """Do as the base does, and take note of it."""
        with self._changed:
            self._due[name] = when

        def noted(now: datetime) -> datetime | None:
            due = then(now)
            self._fire(name, pool, due)
            return due

        super().again_at(name, when, pool, lambda: self._run(pool, job), noted)

    def _fire(self, name: str, pool: Pool, due: datetime | None) -> None:
        with self._changed:
            self._running[pool] += 1
            if self._due.get(name, NEVER) <= self._clock.now():
                del self._due[name]
            if due:
                self._due[name] = due

    def _run(self, pool: Pool, job: Callable[[], None]) -> None:
        with self._changed:
            self._changed.notify_all()
        try:
            job()
        finally:
            with self._changed:
                self._running[pool] -= 1
                self._changed.notify_all()

    def drop(self, name: str) -> None:
        """Do as the base does, and take note of it."""
        super().drop(name)
        with self._changed:
            self._due.pop(name, None)

    def settle(self, *pools: str) -> None:
        """Wait until what is due has begun, and what runs in these pools is over."""

        def over() -> bool:
            waiting = any(when <= self._clock.now() for when in self._due.values())
            return not waiting and not any(self._running[pool] for pool in pools)

        with self._changed:
            assert self._changed.wait_for(over, 30), (self._due, self._running)


class World:
    """A store and a poller, the simulator's call centres, and a time that a test moves on."""

    def __init__(self, clock: SetClock, simulator: Simulator) -> None:
        self.clock = clock
        self.simulator = simulator
        self.store = Store(clock, "1.2.3")
        self.timetable = WatchedTimetable(clock)
        self.poller = Poller(self.store, Network(Clock()), self.timetable)
        self.today: list[Row] | Reply = [row(101, 1101)]
        """What the bank answers about the current day."""
        self.earlier: list[Row] | Reply = []
        """What the bank answers about days before."""
        self._stopped = False
        simulator.answer("bank", self._answer)
        simulator.answer("bank", [{"projectid": "101", "name": "Accounts"}], "/v2/projects")

    def _answer(self, options: Mapping[str, str]) -> list[Row] | Reply:
        now = self.clock.now().astimezone(ZoneInfo("Europe/Budapest"))
        return self.today if options["to"] == f"{now:%Y%m%d}" else self.earlier

    def bank(self, **keys: Any) -> Customer:
        """Return the bank as a customer, without a lookback where none is given."""
        key = {} if "api_key_file" in keys else {"api_key": self.simulator.centres["bank"].key}
        section = {"name": "bank", "timezone": "Europe/Budapest", "url": self.simulator.url, **key}
        section |= {"poll": {"lookback": 0}} | keys
        return config_file.parse(json.dumps({"customers": [section]}), "test", Path()).customers[0]

    def shop(self, **keys: Any) -> Customer:
        """Return the webshop as a customer, with a row of its own in each answer."""
        self.simulator.answer("webshop", [row(201, 2101)])
        key = self.simulator.centres["webshop"].key
        return make_customer(name="webshop", url=self.simulator.url, api_key=key, poll={"lookback": 0}, **keys)

    def configure(self, *customers: Customer) -> None:
        """Load a config with these customers."""
        self.store.configure(customers, Exporter("1.2.3", self.clock.now()))
        self.poller.follow()

    def begin(self, *customers: Customer) -> None:
        """Load a config with these customers, and let their first polls pass."""
        self.configure(*customers)
        self.advance(SOON)

    def advance(self, by: timedelta, *pools: str) -> None:
        """Let time pass, and wait for what became due: all of it, or that in these pools."""
        self.clock.advance(by)
        self.timetable.wake()
        self.timetable.settle(*(pools or ("polls", "lookups")))

    def state(self, name: str = "bank") -> CustomerState:
        """Return what is known of a customer."""
        state = self.store.state(name)
        assert state is not None
        return state

    def due(self, name: str = "bank") -> datetime:
        """Return when a customer's next poll is due."""
        due = self.state(name).next_poll
        assert due is not None
        return due

    def polls(self, name: str = "bank") -> dict[str, int]:
        """Return a customer's polls by result, without the results that never came."""
        return {result.value: count for result, count in self.state(name).polls.items() if count}

    def page(self) -> Samples:
        """Return what a scrape would see."""
        return parse_page(b"".join(self.store.page().body(Format.TEXT, gzip=False).parts).decode())

    def shown(self, name: str = "bank") -> dict[tuple[str, str], float]:
        """Return a customer's shown values of the first statistic by project and queue."""
        labelled = [(dict(labels), value) for (metric, labels), value in self.page().items() if metric == VALUES]
        return {(has["project"], has["queue"]): v for has, v in labelled if has["customer"] == name}

    def asked(self, customer: str = "bank") -> list[str]:
        """Return what a customer's centre was asked, oldest first: `first-last` of days, or a path."""
        paths = [seen.path for seen in self.simulator.requests if seen.customer == customer]
        return [short(path) for path in paths]

    def stop(self) -> None:
        """End it; once is enough."""
        if not self._stopped:
            self._stopped = True
            self.poller.stop()


def row(project: int, queue: int, number: float = 1) -> Row:
    """Return a row in which the first statistic has this value."""
    return {"projectid": project, "queueid": queue, STATISTICS[0].key: number}


def short(path: str) -> str:
    """Return the days that a statistics request asks about, of any other request the path."""
    if "from=" not in path:
        return path
    options = dict(part.split("=") for part in path.partition("?")[2].split("&"))
    return f"{options['from']}-{options['to']}"


TODAY: Final = "20260311-20260311"
NAMES: Final = "/v2/projects"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Make a world at ten o'clock UTC of 11 March 2026, eleven in Budapest."""
    clock = SetClock()
    monkeypatch.setattr("apscheduler.schedulers.base.datetime", _LibraryTime(clock))
    with Simulator(now=clock.now) as simulator, ExitStack() as stack:
        made = World(clock, simulator)
        stack.callback(made.stop)
        yield made


class Held:
    """An answer that is held back until it is released."""

    def __init__(self, answer: list[Row] | None = None) -> None:
        self.asked = threading.Event()
        self.release = threading.Event()
        self.most = 0
        """How many requests were held at once, at most."""
        self._count = 0
        self._lock = threading.Lock()
        self._answer = [row(101, 1101, 7)] if answer is None else answer

    def __call__(self, _: Mapping[str, str]) -> list[Row]:
        """Answer, but late."""
        with self._lock:
            self._count += 1
            self.most = max(self.most, self._count)
        self.asked.set()
        self.release.wait(30)
        with self._lock:
            self._count -= 1
        return self._answer

    def wait(self) -> None:
        """Wait until it was asked."""
        assert self.asked.wait(30)


def silence() -> tuple[Callable[[socket.socket], None], threading.Event, threading.Event]:
    """Return how to serve without an answer, and what is set when a request has come and when its client left."""
    asked, left = threading.Event(), threading.Event()

    def handle(connection: socket.socket) -> None:
        if read_request(connection):
            asked.set()
            if not connection.recv(1):
                left.set()

    return handle, asked, left


# The requests of a poll.


def test_a_poll_is_one_request_with_exactly_the_documented_query(world: World) -> None:
    """The options stand in the vendor's order, and each minute brings one more of them."""
    world.begin(world.bank(teams=[3, 2]))
    world.advance(MINUTE)
    statistics = [seen.path for seen in world.simulator.requests if seen.path != NAMES]
    query = "from=20260311&to=20260311&dimensions=project,queue,date&teams=2,3&manual_sla=30"
    assert statistics == [f"/v2/statistics/inbound?{query}"] * 2
    assert world.shown() == {("101", "1101"): 1}
    assert world.polls() == {"success": 2}


def test_a_first_poll_begins_within_15_seconds_whatever_the_interval(world: World) -> None:
    """A long interval and a schedule for the night do not put it off; the next one is when they say."""
    world.begin(world.bank(poll={"interval": "12h", "lookback": 0}), world.shop(schedule="0 3 * * *"))
    assert world.polls("bank") == world.polls("webshop") == {"success": 1}
    night = datetime(2026, 3, 12, 2, 0, tzinfo=UTC)  # three o'clock in Budapest
    assert night <= world.due("webshop") < night + MINUTE
    assert world.due("bank") <= world.clock.now() + timedelta(hours=12)


def test_a_start_and_a_reload_make_pages_once(world: World) -> None:
    """When each customer is polled first is known before its page is made, so that to set the polls changes none."""
    for customers in ([world.bank(), world.shop()], [world.bank(api_key="an0ther"), world.shop()]):
        world.store.configure(customers, Exporter("1.2.3", world.clock.now()))
        page = world.store.page()
        world.poller.follow()
        assert world.store.page() is page
        assert world.clock.now() < world.due("bank") <= world.clock.now() + SOON


def test_the_next_poll_is_an_interval_after_the_last(world: World) -> None:
    """Due times stand on a grid, are published, and nothing is asked before."""
    world.begin(world.bank())
    first = world.due()
    assert world.clock.now() < first <= world.clock.now() + MINUTE
    assert one(world.page(), "vcc_poll_next_timestamp_seconds", customer="bank") == first.timestamp()
    world.advance(first - world.clock.now() - timedelta(milliseconds=1))
    assert world.polls() == {"success": 1}
    world.advance(timedelta(milliseconds=1))
    assert world.polls() == {"success": 2}
    assert world.due() == first + MINUTE


def test_a_failed_poll_is_made_again_when_the_next_is_due(world: World) -> None:
    """Not sooner: a failure leaves the due times as they are."""
    world.begin(world.bank())
    world.simulator.misbehave("bank", "server_error")
    due = world.due()
    world.advance(due - world.clock.now())
    assert world.due() == due + MINUTE
    world.advance(MINUTE - timedelta(milliseconds=1))
    assert world.polls() == {"success": 1, "server_error": 1}


def two_thresholds(world: World, broken: Mapping[str, Reply]) -> Customer:
    """Return the bank with a request for each of two projects, which answer so, or else with 5 for one queue."""

    def answer(options: Mapping[str, str]) -> list[Row] | Reply:
        project = options["projects"]
        return broken.get(project, [row(int(project), 1, 5)])

    world.simulator.answer("bank", answer)
    return world.bank(projects=[{"id": 101}, {"id": 102, "sla": 20}])


def test_of_several_requests_all_must_succeed(world: World) -> None:
    """Where the second fails, the values stay the old ones, of the first as well."""
    broken: dict[str, Reply] = {}
    world.begin(two_thresholds(world, broken))
    assert world.shown() == {("101", "1"): 5, ("102", "1"): 5}
    world.simulator.answer("bank", lambda o: [row(101, 1, 6)] if o["projects"] == "101" else Reply(500))
    world.advance(MINUTE)
    assert world.shown() == {("101", "1"): 5, ("102", "1"): 5}
    assert world.polls() == {"success": 1, "server_error": 1}
    assert one(world.page(), "vcc_up", customer="bank") == 0


def test_a_poll_has_the_result_of_its_first_request_that_failed(world: World) -> None:
    """What a later request would have said is not counted."""
    world.begin(two_thresholds(world, {"101": Reply(429), "102": Reply(500)}))
    assert world.polls() == {"rate_limited": 1}
    assert world.shown() == {}


def test_listed_projects_are_left_out_of_the_others_answer(world: World) -> None:
    """The request without names brings the others only: a listed project's rows count nowhere."""

    def answer(options: Mapping[str, str]) -> list[Row]:
        return [row(101, 1, 5)] if "projects" in options else [row(101, 1, 9), row(101, 2, 9), row(102, 1, 6)]

    world.simulator.answer("bank", answer)
    world.begin(world.bank(projects=[{"id": 101, "sla": 20}], other_projects=True))
    assert world.shown() == {("101", "1"): 5, ("102", "1"): 6}
    assert one(world.page(), "vcc_inbound_rows", customer="bank") == 2
    assert one(world.page(), "vcc_inbound_rejected_rows", customer="bank") == 0
    assert one(world.page(), "vcc_inbound_sla_threshold_seconds", project="101") == 20
    assert one(world.page(), "vcc_inbound_sla_threshold_seconds", project="102") == 30


# Lookbacks and names.


def test_todays_numbers_come_first_then_the_lookback_by_month_then_the_names(world: World) -> None:
    """A week that touches two months is asked in two, after the first poll and once a day only."""
    world.clock.wall = datetime(2026, 3, 3, 10, 0, tzinfo=UTC)
    world.begin(world.bank(poll={"lookback": "7d"}))
    assert world.asked() == ["20260303-20260303", "20260224-20260228", "20260301-20260302", NAMES]
    world.advance(HOUR)
    assert world.asked()[4:] == ["20260303-20260303"]


def test_a_lookback_is_the_same_request_with_other_dates(world: World) -> None:
    """It has the same options, and one request for each threshold and month."""
    world.clock.wall = datetime(2026, 3, 3, 10, 0, tzinfo=UTC)
    world.begin(two_thresholds(world, {}))
    world.configure(world.bank(projects=[{"id": 101}, {"id": 102, "sla": 20}], poll={"lookback": "7d"}))
    world.advance(SOON)
    paths = {seen.path.partition("?")[2] for seen in world.simulator.requests if seen.path != NAMES}
    days = ["from=20260224&to=20260228", "from=20260301&to=20260302", "from=20260303&to=20260303"]
    rests = ["projects=101&manual_sla=30", "projects=102&manual_sla=20"]
    assert paths == {f"{day}&dimensions=project,queue,date&{rest}" for day in days for rest in rests}


def test_a_lookback_is_asked_again_after_midnight(world: World) -> None:
    """A new day brings a poll within 15 seconds, and soon after it one lookback and the names."""
    world.begin(world.bank(poll={"lookback": "2d", "interval": "3h"}))
    before = len(world.asked())
    midnight = datetime(2026, 3, 11, 23, 0, tzinfo=UTC)
    world.advance(midnight - world.clock.now() - timedelta(seconds=1))
    assert world.asked()[before:] == [TODAY]
    world.advance(timedelta(seconds=1) + SOON)
    assert world.asked()[before + 1] == "20260312-20260312"
    world.advance(10 * MINUTE)
    assert sorted(world.asked()[before + 1 :]) == sorted(["20260312-20260312", "20260310-20260311", NAMES])


def test_a_lookback_of_0_asks_nothing_and_what_was_seen_stays_known(world: World) -> None:
    """On the next day a pair that the API does not mention has zeros."""
    world.begin(world.bank())
    assert world.asked() == [TODAY, NAMES]
    world.today = []
    world.advance(timedelta(days=1))
    assert sorted(world.asked()[2:]) == sorted(["20260312-20260312", NAMES])
    assert world.shown() == {("101", "1101"): 0}


def test_a_known_pair_without_a_row_has_zeros_as_soon_as_the_lookback_has_answered(world: World) -> None:
    """The answer counts at once and not with the next poll."""
    held = Held([row(101, 1102)])
    world.simulator.answer("bank", lambda o: [row(101, 1101)] if o["to"] == f"{DAY:%Y%m%d}" else held(o))
    world.configure(world.bank(poll={"lookback": "7d"}))
    world.advance(SOON, "polls")
    held.wait()
    assert world.shown() == {("101", "1101"): 1}
    held.release.set()
    world.timetable.settle("lookups")
    assert world.shown() == {("101", "1101"): 1, ("101", "1102"): 0}
    assert world.polls() == {"success": 1}


def test_a_lookback_that_hangs_holds_up_no_poll(world: World) -> None:
    """Polls go on beside it, on a connection of their own."""
    held = Held()
    world.simulator.answer("bank", lambda o: world.today if o["to"] == f"{DAY:%Y%m%d}" else held(o))
    world.configure(world.bank(poll={"lookback": "7d", "timeout": "60s"}))
    world.advance(SOON, "polls")
    held.wait()
    for _ in range(3):
        world.advance(MINUTE, "polls")
    assert world.polls() == {"success": 4}
    assert held.most == 1
    held.release.set()
    world.timetable.settle("lookups")


def test_a_lookback_that_waits_for_its_turn_is_not_wanted_once_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With thousands of customers it may wait while several polls pass, and the wish of each would take a turn."""
    release, at = threading.Event(), world.timetable.at
    wishes: list[str] = []

    def take_a_turn() -> None:
        assert release.wait(30)

    def noted(name: str, when: datetime, pool: Pool, job: Callable[[], None]) -> None:
        wishes.append(name)
        at(name, when, pool, job)

    for number in range(LOOKUPS_AT_ONCE):
        at(f"other {number}", world.clock.now(), "lookups", take_a_turn)
    monkeypatch.setattr(world.timetable, "at", noted)
    world.configure(world.bank())
    for polls in range(1, 4):
        world.clock.advance(MINUTE)
        world.timetable.wake()
        eventually(lambda polls=polls: world.polls() == {"success": polls}, "a poll")  # type: ignore[misc]
    release.set()
    world.timetable.settle("polls", "lookups")
    assert world.asked() == [TODAY] * 3 + [NAMES]
    assert len(wishes) == 2, "the one that waited, and tomorrow's"


def test_a_wish_that_meets_the_end_of_a_lookback_is_not_the_last(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the place of tomorrow's and finds the one before still busy; there is a tomorrow all the same."""
    close, met = Session.close, list[_Work]()

    def meet(session: Session) -> None:
        work = world.poller._works["bank"]  # noqa: SLF001
        if session is work.lookup and not met:
            met.append(work)
            work.is_to_learn = True
            world.timetable.drop(f"{work.job} lookback")
            world.poller._learn(work)  # noqa: SLF001
        close(session)

    monkeypatch.setattr(Session, "close", meet)
    world.begin(world.bank())
    assert met
    assert world.asked().count(NAMES) == 1
    world.advance(timedelta(days=1))
    world.advance(MINUTE)
    assert world.asked().count(NAMES) == 2


@pytest.mark.parametrize("failure", [Reply(403), Reply(200, b"no JSON"), Reply(417)])
def test_a_lookback_that_fails_hides_no_number_and_is_asked_again_an_hour_later(world: World, failure: Reply) -> None:
    """It is no poll, and is left alone for the hour, however many polls there are."""
    world.earlier = failure
    world.begin(world.bank(poll={"lookback": "7d"}))
    began = world.clock.now()

    def lookbacks() -> int:
        return sum(day != TODAY for day in world.asked() if day != NAMES)

    assert world.shown() == {("101", "1101"): 1}
    assert world.polls() == {"success": 1}
    assert one(world.page(), "vcc_up", customer="bank") == 1
    for _ in range(3):
        world.advance(19 * MINUTE)
    world.advance(began + HOUR - world.clock.now() - timedelta(milliseconds=1))
    assert lookbacks() == 1
    world.earlier = [row(101, 1102)]
    world.advance(timedelta(milliseconds=1))
    assert lookbacks() == 2
    assert world.shown() == {("101", "1101"): 1, ("101", "1102"): 0}
    assert world.polls().keys() == {"success"}


def test_the_names_of_projects_are_shown_as_soon_as_they_are_known(world: World) -> None:
    """A key in a name is not shown."""
    name = f"Accounts of {world.simulator.centres['bank'].key}"
    world.simulator.answer("bank", [{"projectid": "101", "name": name}], NAMES)
    world.begin(world.bank())
    assert one(world.page(), VALUES, project_name="Accounts of [redacted]") == 1


def test_names_that_cannot_be_had_hide_no_number_and_are_asked_again_an_hour_later(world: World) -> None:
    """A key may be good for the statistics alone; the id stands for the name."""
    world.simulator.answer("bank", Reply(403), NAMES)
    world.begin(world.bank())
    assert one(world.page(), VALUES, project_name="101") == 1
    world.advance(HOUR - timedelta(milliseconds=1))
    assert world.asked().count(NAMES) == 1
    world.advance(timedelta(milliseconds=1))
    assert world.asked().count(NAMES) == 2
    assert world.polls().keys() == {"success"}


def test_an_unknown_project_has_the_names_asked_again_once_an_hour_at_most(world: World) -> None:
    """One that comes soon after the last question waits; one whose name nobody has is not asked for each minute."""
    world.begin(world.bank())
    began = world.clock.now()
    world.today = [row(101, 1101), row(999, 1)]
    world.advance(30 * MINUTE)
    assert world.asked().count(NAMES) == 1
    world.advance(31 * MINUTE)
    assert world.asked().count(NAMES) == 2
    for _ in range(5):
        world.advance(11 * MINUTE)
    assert world.asked().count(NAMES) == 2
    world.simulator.answer("bank", [{"projectid": "999", "name": "New"}, {"projectid": 101, "name": "Old"}], NAMES)
    world.advance(6 * MINUTE)
    assert world.asked().count(NAMES) == 3
    assert names_with(world.page(), project_name="New")
    for _ in range(3):
        world.advance(HOUR)
    assert world.asked().count(NAMES) == 3
    assert world.clock.now() - began < timedelta(hours=12)


# Keys.


def test_a_changed_key_file_works_after_a_401_without_a_reload(world: World, tmp_path: Path) -> None:
    """The refused poll makes it read the file again, for the lookbacks as well as for the polls."""
    file = tmp_path / "key"
    file.write_text(world.simulator.centres["bank"].key + "\n")
    world.begin(world.bank(api_key_file=str(file), poll={"lookback": "7d"}))
    world.simulator.rekey("bank", "the-next-key")
    file.write_text("the-next-key\n")
    world.advance(MINUTE)
    assert world.polls() == {"success": 1, "unauthorized": 1}
    world.advance(MINUTE)
    assert world.polls() == {"success": 2, "unauthorized": 1}
    world.advance(timedelta(days=1))
    world.advance(10 * MINUTE)
    later = [seen.status for seen in world.simulator.requests if short(seen.path) != TODAY]
    assert later == [200] * 6
    assert world.polls().get("unauthorized") == 1


def test_a_changed_key_is_read_at_a_reload(world: World, tmp_path: Path) -> None:
    """A reload needs no refused request, also where the config is the same."""
    file = tmp_path / "key"
    file.write_text(world.simulator.centres["bank"].key)
    customer = world.bank(api_key_file=str(file))
    world.begin(customer)
    world.simulator.rekey("bank", "the-next-key")
    file.write_text("the-next-key")
    world.configure(customer)
    world.advance(MINUTE)
    assert world.polls() == {"success": 2}


def test_with_an_unreadable_key_no_request_is_made(world: World, tmp_path: Path) -> None:
    """The poll counts as unauthorized, other customers are polled, and the key works once it is there."""
    file = tmp_path / "key"
    world.begin(world.bank(api_key_file=str(file)), world.shop())
    assert world.asked("bank") == []
    assert world.polls("bank") == {"unauthorized": 1}
    assert str(file) in world.state().last_error
    assert one(world.page(), "vcc_up", customer="bank") == 0
    assert world.polls("webshop") == {"success": 1}
    file.write_text(world.simulator.centres["bank"].key)
    world.advance(MINUTE)
    assert world.polls("bank") == {"unauthorized": 1, "success": 1}


# Retry-After.


@pytest.mark.parametrize(
    ("fault", "seconds", "hold"),
    [
        ("rate_limited", 600, timedelta(seconds=600)),
        ("rate_limited", 7200, HOUR),
        ("unavailable", 600, timedelta(seconds=600)),
        ("unavailable", 86_400, HOUR),
    ],
)
def test_retry_after_is_obeyed_for_at_most_an_hour(world: World, fault: str, seconds: float, hold: timedelta) -> None:
    """In seconds or as a date, it puts the next poll off, and nothing is asked before."""
    world.simulator.misbehave("bank", fault, seconds=seconds, path="statistics", first=1)
    world.begin(world.bank())
    until = world.clock.now() + hold
    assert until <= world.due() < until + timedelta(seconds=1)
    for _ in range(4):
        world.advance(hold / 5)
    assert len(world.asked()) == 1
    world.advance(hold / 5)
    assert world.polls()["success"] == 1


def test_a_retry_after_that_is_shorter_changes_nothing(world: World) -> None:
    """The next poll is made when it is due anyway."""
    world.begin(world.bank())
    due = world.due()
    world.simulator.misbehave("bank", "rate_limited", seconds=1, first=1)
    world.advance(due - world.clock.now())
    assert world.due() == due + MINUTE


def test_retry_after_outlives_a_clock_that_jumps(world: World) -> None:
    """A small step brings nothing forward; one far back leaves no more than the hour."""
    world.begin(world.bank())
    world.simulator.misbehave("bank", "rate_limited", seconds=1800, first=1)
    world.advance(world.due() - world.clock.now())
    due = world.due()
    assert due >= world.clock.now() + timedelta(seconds=1800)
    world.clock.jump(timedelta(seconds=2))
    world.poller.clock_jumped()
    assert world.due() == due
    world.clock.jump(-6 * HOUR)
    world.poller.clock_jumped()
    assert world.due() == world.clock.now() + HOUR
    world.advance(HOUR)
    assert world.polls() == {"success": 2, "rate_limited": 1}


# Rejected rows.


def told(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, Any]]:
    """Return the facts of the log lines with this message."""
    return [vars(record) for record in caplog.records if record.getMessage() == message]


def test_rejected_rows_are_logged_once_per_cause_without_secrets(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A second cause is told when it comes, and all of them anew after an answer without any."""
    caplog.set_level(logging.INFO, "vcc_exporter")
    key = world.simulator.centres["bank"].key
    token = base64.b64encode(f"bank:{key}".encode()).decode()
    good, no_queue, no_number = row(101, 1101), row(101, 0) | {"queueid": key}, row(101, 1102) | {"talk_time": token}
    world.today = [good, no_queue, no_queue]
    world.begin(world.bank())
    world.advance(MINUTE)
    assert [line["cause"] for line in told(caplog, "row rejected")] == ["no usable projectid and queueid"]
    world.today = [good, no_queue, no_number]
    world.advance(MINUTE)
    world.advance(MINUTE)
    causes = ["no usable projectid and queueid", "a value that is no finite number"]
    assert [line["cause"] for line in told(caplog, "row rejected")] == causes
    assert world.polls() == {"success": 4}
    assert one(world.page(), "vcc_inbound_rejected_rows", customer="bank") == 2
    assert world.shown() == {("101", "1101"): 1}
    world.today = [good]
    world.advance(MINUTE)
    world.today = [good, no_queue]
    world.advance(MINUTE)
    assert [line["cause"] for line in told(caplog, "row rejected")] == [*causes, causes[0]]
    said = " ".join(str(vars(record)) for record in caplog.records)
    assert "[redacted]" in said
    assert key not in said
    assert token not in said


def test_a_failure_is_logged_when_it_begins_and_when_it_ends(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The same failure again is no news."""
    caplog.set_level(logging.INFO, "vcc_exporter")
    world.begin(world.bank())
    world.simulator.misbehave("bank", "server_error", first=3)
    for _ in range(5):
        world.advance(MINUTE)
    assert [line["result"] for line in told(caplog, "poll failed")] == ["server_error"]
    assert len(told(caplog, "polls succeed")) == 2
    assert world.polls() == {"success": 3, "server_error": 3}


# Midnight.


def test_an_answer_after_midnight_counts_as_success_and_shows_nothing(world: World) -> None:
    """Yesterday's values go at midnight, the late answer brings none, and the new day is asked for within 15 s."""
    world.clock.wall = datetime(2026, 3, 11, 22, 58, 30, tzinfo=UTC)
    world.begin(world.bank())
    assert world.shown()
    held = Held()
    world.simulator.answer("bank", held)
    world.clock.jump(MINUTE)
    world.timetable.wake()
    held.wait()
    midnight = datetime(2026, 3, 11, 23, 0, tzinfo=UTC)
    world.clock.wall = midnight + timedelta(seconds=1)
    assert world.shown() == {}
    held.release.set()
    world.timetable.settle("polls")
    assert world.polls() == {"success": 2}
    assert world.shown() == {}
    assert one(world.page(), "vcc_up", customer="bank") == 0
    assert one(world.page(), "vcc_inbound_day_start_timestamp_seconds", customer="bank") is None
    assert world.due() <= midnight + SOON
    world.simulator.answer("bank", lambda _: [row(101, 1101, 2)])
    world.advance(world.due() - world.clock.now())
    assert world.shown() == {("101", "1101"): 2}
    assert one(world.page(), "vcc_inbound_day_start_timestamp_seconds", customer="bank") == midnight.timestamp()
    assert world.asked()[-1] in {"20260312-20260312", NAMES}


# Reloads.


def statistics_server(connections: list[list[str]]) -> Callable[[socket.socket], None]:
    """Return how to serve a row of any day, and note for each connection that asks for one what it asked."""

    def handle(connection: socket.socket) -> None:
        mine: list[str] = []
        while head := read_request(connection):
            path = head.split(b" ")[1].decode()
            if path != NAMES:
                if not mine:
                    connections.append(mine)
                mine.append(path)
            connection.sendall(http_response(statistics_body([row(101, 1101)])))

    return handle


def test_a_reload_without_a_change_keeps_connection_and_due_time(world: World) -> None:
    """Also where the config was read anew, so that it is equal and not the same object."""
    connections: list[list[str]] = []
    with raw_server(statistics_server(connections)) as port:
        url = f"http://127.0.0.1:{port}"
        world.begin(world.bank(url=url))
        due = world.due()
        world.configure(world.bank(url=url))
        assert world.due() == due
        world.advance(MINUTE)
        assert [len(connection) for connection in connections] == [2]
    assert world.polls() == {"success": 2}


def test_a_changed_customer_is_polled_again_soon_and_its_poll_in_flight_is_dropped(world: World) -> None:
    """What is under way is neither shown nor counted, and the other threshold is asked for within 15 seconds."""
    world.begin(world.bank(poll={"interval": "12h", "lookback": 0}))
    held = Held()
    world.simulator.answer("bank", held)
    world.advance(timedelta(hours=12), "lookups")
    held.wait()
    world.configure(world.bank(sla=20, poll={"interval": "12h", "lookback": 0}))
    world.timetable.settle("polls")
    assert world.polls() == {"success": 1}
    assert world.shown() == {}
    assert world.clock.now() <= world.due() <= world.clock.now() + SOON
    held.release.set()
    world.advance(SOON)
    assert world.polls() == {"success": 2}
    assert world.shown() == {("101", "1101"): 7}
    assert one(world.page(), "vcc_inbound_sla_threshold_seconds", customer="bank") == 20


def test_a_renamed_project_applies_at_once_and_is_polled_again_soon(world: World) -> None:
    """Where the question stays the same, so do the values."""
    projects = [{"id": 101, "name": "One"}]
    world.begin(world.bank(poll={"interval": "12h", "lookback": 0}, projects=projects))
    world.configure(world.bank(poll={"interval": "12h", "lookback": 0}, projects=[{"id": 101, "name": "Two"}]))
    assert one(world.page(), VALUES, project_name="Two") == 1
    assert one(world.page(), "vcc_up", customer="bank") == 1
    assert world.due() <= world.clock.now() + SOON
    world.advance(SOON)
    assert world.polls() == {"success": 2}


def test_a_removed_customers_poll_is_ended(world: World) -> None:
    """Its connection is closed, its series are gone, and the others go on."""
    handle, asked, left = silence()
    with raw_server(handle) as port:
        silent = world.bank(url=f"http://127.0.0.1:{port}", poll={"timeout": "60s", "lookback": 0})
        world.configure(silent, world.shop())
        world.advance(SOON, "lookups")
        assert asked.wait(30)
        world.configure(world.shop())
        assert left.wait(30)
        world.timetable.settle("polls")
    assert not names_with(world.page(), customer="bank")
    world.advance(MINUTE)
    assert world.polls("webshop") == {"success": 2}


def test_a_removed_customer_is_asked_nothing_more_and_starts_at_0_when_it_returns(world: World) -> None:
    """Neither a poll nor a lookback is made in between."""
    world.begin(world.bank())
    world.configure()
    asked = len(world.asked())
    world.advance(timedelta(days=1))
    assert len(world.asked()) == asked
    world.configure(world.bank())
    assert world.polls() == {}
    world.advance(SOON)
    assert world.polls() == {"success": 1}


# The end.


def test_stop_ends_polls_and_lookbacks_that_hang(world: World) -> None:
    """Both connections are closed, long before the timeout, and nothing is counted."""
    first, first_left = threading.Event(), threading.Event()
    second, second_left = threading.Event(), threading.Event()
    answered = threading.Event()

    def handle(connection: socket.socket) -> None:
        while head := read_request(connection):
            if not answered.is_set():
                answered.set()
                connection.sendall(http_response(statistics_body([row(101, 1101)], DAY)))
                continue
            lookback = f"{DAY:%Y%m%d}".encode() not in head
            (first if lookback else second).set()
            if not connection.recv(1):
                (first_left if lookback else second_left).set()
                return

    with raw_server(handle) as port:
        world.configure(world.bank(url=f"http://127.0.0.1:{port}", poll={"timeout": "60s", "lookback": "2d"}))
        world.advance(SOON, "polls")
        assert first.wait(30)
        world.clock.advance(MINUTE)
        world.timetable.wake()
        assert second.wait(30)
        world.stop()
        assert first_left.wait(30)
        assert second_left.wait(30)
        world.timetable.settle("polls", "lookups")
    assert world.polls() == {"success": 1}


# A clock that jumps.


@pytest.mark.parametrize("fault", [None, "server_error"])
def test_a_clock_that_was_put_back_brings_the_next_poll_forward(world: World, fault: str | None) -> None:
    """A customer is not left alone for the time that comes twice, whether the last poll was good or not."""
    if fault:
        world.simulator.misbehave("bank", fault, first=1)
    world.begin(world.bank())
    world.clock.jump(-HOUR)
    world.poller.clock_jumped()
    assert world.clock.now() < world.due() <= world.clock.now() + MINUTE
    world.advance(MINUTE)
    assert sum(world.polls().values()) == 2
    assert world.state().last_result is Result.SUCCESS


def test_a_poll_that_ends_while_the_clock_jumps_is_followed_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the clock is put back just after a poll has found when the next is due, that is not a day away."""
    jumped: list[datetime] = []

    def due_before_the_jump(*args: Any) -> datetime | None:
        due: datetime | None = next_poll(*args)
        if not jumped and threading.current_thread().name != "APScheduler":
            jumped.append(world.clock.now())
            world.clock.jump(-24 * HOUR)
            world.poller.clock_jumped()
        return due

    monkeypatch.setattr(poll, "next_poll", due_before_the_jump)
    world.begin(world.bank())
    assert jumped
    assert world.clock.now() < world.due() <= world.clock.now() + MINUTE
    world.advance(MINUTE)
    assert sum(world.polls().values()) > 1


def test_a_poll_in_its_rhythm_sets_no_job_and_asks_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls that say what the one before has said cost neither a job nor a look at what is to be learnt."""
    world.begin(world.bank())
    world.advance(MINUTE)
    polls = world.polls()["success"]
    done: list[str] = []
    for name in ("wants_lookback", "wants_names"):
        monkeypatch.setattr(poll, name, lambda *_, name=name: done.append(name))
    monkeypatch.setattr(world.timetable._scheduler, "add_job", lambda *_, **__: done.append("add_job"))  # noqa: SLF001
    for _ in range(5):
        world.advance(MINUTE)
    assert world.polls() == {"success": polls + 5}
    assert done == []


def test_a_clock_that_was_set_forward_runs_what_is_late_once(world: World) -> None:
    """Polls that were skipped are not made up for."""
    world.begin(world.bank(poll={"interval": "2h", "lookback": 0}))
    world.clock.jump(6 * HOUR)
    world.poller.clock_jumped()
    world.timetable.settle("polls", "lookups")
    assert world.polls() == {"success": 2}
    assert world.clock.now() < world.due() <= world.clock.now() + 2 * HOUR


def test_a_poll_that_failed_is_not_made_again_sooner_because_the_clock_jumps(world: World) -> None:
    """Also where the last good answer is of a day that is over, as with any that has failed since yesterday."""
    world.begin(world.bank(poll={"interval": "2h", "lookback": 0}))
    world.simulator.misbehave("bank", "unauthorized")
    world.clock.jump(24 * HOUR)
    world.timetable.wake()  # as the library does in less than the second that the daemon needs
    world.timetable.settle("polls", "lookups")
    world.poller.clock_jumped()
    world.timetable.settle("polls", "lookups")
    assert world.polls() == {"success": 1, "unauthorized": 1}
    due = world.due()
    world.clock.jump(timedelta(seconds=-2))
    world.poller.clock_jumped()
    assert world.due() == due > world.clock.now()


def test_at_most_one_poll_of_a_customer_is_under_way(world: World) -> None:
    """Neither due times that pass nor a clock that jumps nor a reload begin a second one beside one that hangs."""
    held = Held()
    customer, other = world.bank(poll={"timeout": "60s", "lookback": 0}), world.shop()
    world.simulator.answer("bank", held)

    def polled(polls: int) -> bool:
        return world.polls("webshop") == {"success": polls}

    world.configure(customer, other)
    world.advance(SOON, "lookups")
    held.wait()
    eventually(partial(polled, 1), "the other one's first poll")
    world.clock.jump(-HOUR)
    world.poller.clock_jumped()
    world.configure(customer, other)
    for polls in (2, 3, 4):
        world.advance(10 * MINUTE, "lookups")
        eventually(partial(polled, polls), "the other one's poll")
    assert world.asked("bank") == [TODAY]
    held.release.set()
    world.timetable.settle("polls", "lookups")
    assert held.most == 1


def test_a_poll_that_hangs_takes_no_thread_at_each_due_time_and_is_followed_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it hangs its customer has left the timetable; when it is done the next one comes as due."""
    held, runs = Held(), [0]
    begin = world.poller._poll  # noqa: SLF001

    def counted(work: Any) -> None:
        runs[0] += 1
        begin(work)

    monkeypatch.setattr(world.poller, "_poll", counted)
    world.simulator.answer("bank", held)
    world.configure(world.bank(poll={"timeout": "60s", "lookback": 0}))
    world.advance(SOON, "lookups")
    held.wait()
    for _ in range(10):
        world.advance(MINUTE, "lookups")
    assert runs[0] <= 2
    held.release.set()
    world.timetable.settle("polls", "lookups")
    for polls in (2, 3):
        world.advance(MINUTE)
        assert world.polls() == {"success": polls}


def test_a_run_that_begins_when_the_next_poll_is_set_already_makes_none(world: World) -> None:
    """As that of an instant at which another poll was about to end: polls never come sooner than they are due."""
    world.begin(world.bank())
    polls, due = world.polls(), world.due()
    work = world.poller._works["bank"]  # noqa: SLF001
    world.timetable.drop(work.job)  # as a due time does that finds the work busy with this run
    world.poller._poll(work)  # noqa: SLF001 - what a thread that was late would do
    assert (world.polls(), world.due()) == (polls, due)
    world.advance(MINUTE)
    assert world.polls() == {"success": polls["success"] + 1}


# Faults of our own.


def test_an_unexpected_fault_in_a_poll_is_survived(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It counts as invalid_response, is logged, takes no other customer with it, and the next poll is made."""

    def broken(body: bytes, day: date, scope: Scope) -> Answer:
        if b"1101" in body:
            raise RuntimeError("k3y in the text")
        return read_statistics(body, day, scope)

    monkeypatch.setattr("vcc_exporter.poll.read_statistics", broken)
    world.begin(world.bank(), world.shop())
    assert world.polls("bank") == {Result.INVALID_RESPONSE: 1}
    assert world.polls("webshop") == {"success": 1}
    assert "RuntimeError" in world.state().last_error
    assert "k3y" not in world.state().last_error
    assert [line["customer"] for line in told(caplog, "unexpected fault")] == ["bank"]
    assert world.due() <= world.clock.now() + MINUTE
    monkeypatch.undo()
    monkeypatch.setattr("apscheduler.schedulers.base.datetime", _LibraryTime(world.clock))
    world.advance(MINUTE)
    assert world.polls("bank") == {"invalid_response": 1, "success": 1}
    assert world.shown() == {("101", "1101"): 1}


def test_a_poll_whose_outcome_cannot_be_stored_comes_back(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where there is no memory for the result, nor for the failure to store it, the next poll is made all the same."""

    def broken(*_: object) -> CustomerState:
        raise MemoryError

    for name in ("with_answer", "with_failure"):
        monkeypatch.setattr(f"vcc_exporter.poll.{name}", broken)
    world.begin(world.bank())
    assert world.polls() == {}
    assert told(caplog, "unexpected fault")
    monkeypatch.undo()
    monkeypatch.setattr("apscheduler.schedulers.base.datetime", _LibraryTime(world.clock))
    world.advance(MINUTE)
    assert world.polls() == {"success": 1}
    assert world.shown() == {("101", "1101"): 1}


def test_an_unexpected_fault_in_a_lookback_is_survived(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It hides no number, and the lookback is asked again an hour later like one that failed."""

    def broken(*_: object) -> frozenset[tuple[int, int]]:
        raise RuntimeError

    monkeypatch.setattr("vcc_exporter.poll.read_pairs", broken)
    world.begin(world.bank(poll={"lookback": "7d"}))
    for _ in range(3):
        world.advance(MINUTE)
    assert world.shown() == {("101", "1101"): 1}
    assert world.polls() == {"success": 4}
    assert len(told(caplog, "unexpected fault")) == 1
    world.advance(HOUR)
    assert len(told(caplog, "unexpected fault")) == 2


LEFT: Final[dict[str, list[Row] | Reply]] = {
    "success": [row(101, 1101)],
    "server_error": Reply(500),
    "invalid_response": Reply(200, b"{"),
}


@pytest.mark.parametrize("result", LEFT)
def test_polls_leave_no_garbage(result: str, world: World) -> None:
    """What a poll leaves behind, well or badly, is freed at once, and so is what a reload has taken away."""
    world.today = LEFT[result]
    world.begin(world.bank())

    def poll_and_reload() -> None:
        for _ in range(3):
            world.advance(timedelta(minutes=1))
            world.store.page()
        world.configure(world.bank(sla=30))
        world.advance(timedelta(minutes=1))

    assert left_by(poll_and_reload) == []
    assert set(world.polls()) == {result}
