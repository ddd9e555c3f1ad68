"""A weekday's late morning with a customer in each state, for the browser to look at and for the pictures."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from support import SetClock, make_customer

from vcc_exporter.answer import Answer, Rejection, read_statistics
from vcc_exporter.config import Customer
from vcc_exporter.exposition import Exporter
from vcc_exporter.poll import questions, together
from vcc_exporter.schedule import next_poll
from vcc_exporter.simulator import CENTRES, Simulator
from vcc_exporter.simulator.calls import Centre
from vcc_exporter.simulator.centres import larger
from vcc_exporter.snapshot import CustomerState, with_answer, with_failure, with_names
from vcc_exporter.store import Store
from vcc_exporter.times import local_date
from vcc_exporter.vocabulary import STATISTICS, Result

ZONE: Final = "Europe/Budapest"
MIDNIGHT: Final = datetime(2026, 3, 10, 23, 0, tzinfo=UTC)
"""With which a Wednesday begins there."""
NOW: Final = MIDNIGHT + timedelta(hours=11, minutes=40)
EVERY: Final = timedelta(minutes=10)
"""How often the day so far was polled."""
AT_NIGHT: Final = timedelta(hours=9)

BANK: Final[dict[str, Any]] = {
    "name": "bank",
    "timezone": ZONE,
    "sla": 30,
    "targets": {"service_level": "80%", "abandonment": "8%"},
    "hours": {"mon-fri": "09:00-18:00"},
    "projects": [
        {"id": 101, "name": "Retail banking", "queues": {1101: "Accounts", 1102: "Loans"}},
        {
            "id": 102,
            "name": "Lost cards",
            "sla": 20,
            "targets": {"service_level": "90%"},
            "queues": {1201: "Card blocking"},
        },
        {"id": 103, "name": "Personal bankers"},
    ],
}
"""As in the demo."""
ROADSIDE: Final = {"name": "roadside", "timezone": ZONE, "sla": 20, "targets": {"service_level": "90%"}}


BUSY: Final = tuple(larger(dataclasses.replace(centre, zone=ZONE), 6) for centre in CENTRES)
"""The simulator's call centres, with the demo's many calls, all in one zone."""


class Day:
    """Customers whose day is lived through in an instant: a store, its clock, and call centres by that clock."""

    def __init__(self, *customers: Customer, start: datetime = MIDNIGHT, centres: Sequence[Centre] = BUSY) -> None:
        self.clock = SetClock(start)
        self.store = Store(self.clock, "1.2.3")
        self.store.configure(customers, Exporter("1.2.3", start))
        self.customers = {customer.name: customer for customer in customers}
        self._simulator = Simulator(centres, now=self.clock.now)

    def today(self, name: str) -> date:
        """Return the date in a customer's zone."""
        return local_date(self.customers[name].zone, self.clock.wall)

    def poll(self, *names: str) -> None:
        """Let polls of these customers, which are call centres of the simulator, succeed."""
        for name in names:
            centre, today = self._simulator.centres[name], self.today(name)
            answers = []
            for question, scope in questions(self.customers[name], today, today):
                reply = self._simulator.reply("GET", question.target(), (name, centre.key))
                answers.append(read_statistics(reply.body, today, scope))
            self.answer(name, together(answers))

    def name_projects(self, name: str) -> None:
        """Let the API tell the names of a customer's projects."""
        names = {project.id: project.name for project in self._simulator.centres[name].projects}
        self._update(name, lambda state: with_names(state, names, self.clock.wall))

    def answer(self, name: str, answer: Answer) -> None:
        """Let a poll succeed with this answer."""
        day, moment = self.today(name), self.store.moment()
        self._update(name, lambda state: self._due(with_answer(state, day, answer, moment, 0.1)))

    def fail(self, name: str, result: Result, message: str) -> None:
        """Let a poll fail."""
        self._update(name, lambda state: self._due(with_failure(state, result, message, 0.1)))

    def live(self, until: datetime, names: Iterable[str]) -> None:
        """Let time pass with polls of these customers, the last one at its end."""
        wanted = tuple(names)
        self.poll(*wanted)
        while self.clock.wall < until:
            self.clock.advance(min(EVERY, until - self.clock.wall))
            self.poll(*wanted)

    def _due(self, state: CustomerState) -> CustomerState:
        return dataclasses.replace(
            state, next_poll=next_poll(state.customer, self.clock.wall, self.today(state.customer.name))
        )

    def _update(self, name: str, change: Callable[[CustomerState], CustomerState]) -> None:
        self.store.update(self.customers[name], change)


LONG: Final = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"


def scene() -> Day:
    """Return eight customers at 11:40: healthy, old, failing, never polled, empty, closed, and one of long names."""
    long_names = {
        "name": f"{LONG}.{LONG}",
        "subdomain": "long",
        "timezone": ZONE,
        "projects": [
            {"id": 9007199254740991, "name": f"{LONG}, Hauptstelle", "queues": {9007199254740991: LONG, 2: "Süd " * 30}}
        ],
    }
    day = Day(
        make_customer(**BANK),
        make_customer(**ROADSIDE),
        make_customer(name="webshop", timezone=ZONE, sla=20),
        make_customer(name="utility", timezone=ZONE),
        make_customer(name="newcomer", timezone=ZONE),
        make_customer(name="evenings", timezone=ZONE, schedule="* 12-20 * * *"),
        make_customer(**long_names),
        start=MIDNIGHT - timedelta(hours=3),
    )
    day.answer("evenings", Answer({}, frozenset(), ()))
    day.clock.advance(timedelta(hours=3))
    day.name_projects("roadside")
    day.live(MIDNIGHT + AT_NIGHT, ["roadside"])
    day.live(NOW - timedelta(minutes=3), ["roadside", "bank"])
    rejected = (Rejection("a value that is no finite number", "talk_time n/a"),)
    latest = day.store.state("roadside")
    assert latest
    assert latest.snapshot
    day.answer("roadside", Answer(latest.snapshot.values, frozenset(), rejected))
    day.clock.advance(timedelta(minutes=3))
    day.poll("bank")
    day.fail("roadside", Result.TIMEOUT, "no whole answer within 10s")
    day.fail("webshop", Result.UNAUTHORIZED, "HTTP 401: " + "error.unauthorized_" * 8)
    day.answer("newcomer", Answer({}, frozenset(), ()))
    large = tuple(123456.0 if statistic.unit == "calls" else 123456789.0 for statistic in STATISTICS)
    lacking = tuple(None if statistic.name == "talk_time" else 0.5 for statistic in STATISTICS)
    values = {(9007199254740991, 9007199254740991): large, (9007199254740991, 2): lacking}
    day.answer(str(long_names["name"]), Answer(values, frozenset(), ()))
    return day
