"""A past of the simulator's call centres, as Prometheus would have scraped it, made in seconds.

The numbers come from the exporter's own parts: the simulator answers, the answer is read, kept, and rendered as a
scrape would have shown it at that instant. Only the clock is ours. There are two stretches: the day up to `NOW`, and
the same day one week earlier; nothing is shown between them.

`NOW` is a Wednesday at which the bank and the breakdown service are open, the webshop has been for two hours and the
utility sleeps. Los Angeles has changed its clocks within the week. A fifth centre, the dentist, has lost its key.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final

from tools.history import begun, moment, of_process, targeted
from vcc_exporter import config_file, times
from vcc_exporter.answer import Answer, read_statistics
from vcc_exporter.config import Customer
from vcc_exporter.exposition import Exporter, Rendered, render, render_exporter
from vcc_exporter.poll import questions, together
from vcc_exporter.simulator import CENTRES, Simulator, demo_config
from vcc_exporter.snapshot import (
    CustomerState,
    view,
    with_answer,
    with_failure,
)
from vcc_exporter.vocabulary import STATISTICS, Kind, Result

NOW: Final = datetime(2026, 3, 11, 16, 45, tzinfo=UTC)
STEP: Final = timedelta(minutes=10)
WEEK: Final = timedelta(weeks=1)
HOUR: Final = timedelta(hours=1)
STRETCHES: Final = ((NOW - WEEK - 18 * HOUR, NOW - WEEK + HOUR), (NOW - 19 * HOUR, NOW))
MIDNIGHT: Final = datetime(2026, 3, 10, 22, 0, tzinfo=UTC)
"""The breakdown service's day has just begun, and its last poll was of the day before."""
KEY_LOST: Final = NOW - 3 * HOUR
LOST_BY: Final = "dentist"
POLL_BEFORE: Final = timedelta(seconds=20)
"""How long before a scrape the last poll was."""

_CENTRES: Final = (*CENTRES, replace(CENTRES[0], customer=LOST_BY, key="key-of-the-dentist"))
_CONFIG: Final = demo_config("http://simulator.test").replace("interval: 15s", "interval: 10m") + (
    f"  - name: {LOST_BY}\n    url: http://simulator.test\n    api_key: key-of-the-dentist\n"
    '    timezone: Europe/Budapest\n    hours: {mon-fri: "09:00-18:00"}\n'
)


@dataclass(frozen=True, slots=True)
class Replica:
    """One exporter that was scraped."""

    instance: str
    behind: timedelta = timedelta()
    """How much older its answers are than those of the first one."""
    more: int = 0
    """Calls that it has in each count and the first one has not: the API has corrected them since."""


FIRST: Final = Replica("exporter-0:10742")
LAGGING: Final = Replica("exporter-1:10742", timedelta(minutes=2), 7)


@cache
def customers() -> tuple[Customer, ...]:
    """Return the customers as the exporter's config has them."""
    return config_file.parse(_CONFIG, "history", Path()).customers


def instants() -> Iterator[datetime]:
    """Yield when the exporter was scraped."""
    for start, end in STRETCHES:
        at = start
        while at <= end:
            yield at
            if at < MIDNIGHT < at + STEP:
                yield MIDNIGHT
            at += STEP


class Past:
    """What the simulated API has answered at any instant, each answer made once."""

    def __init__(self) -> None:
        self._at = NOW
        self._simulator = Simulator(_CENTRES, now=lambda: self._at)
        self._keys = {centre.customer: centre.key for centre in _CENTRES}
        self._answer = cache(self._ask)

    def answer(self, customer: Customer, at: datetime) -> Answer:
        """Return what a poll at that instant was answered."""
        self._at = at
        day = times.local_date(customer.zone, at)
        # An answer changes only when a call ends.
        return self._answer(customer.name, day, sum(1 for _ in self._simulator.calls(customer.name, day, day)))

    def _ask(self, name: str, day: date, _ended: int) -> Answer:
        customer = next(c for c in customers() if c.name == name)
        return together(
            [
                read_statistics(self._body(name, question.target()), day, scope)
                for question, scope in questions(customer, day, day)
            ]
        )

    def _body(self, name: str, target: str) -> bytes:
        return self._simulator.reply("GET", target, (name, self._keys[name])).body


def write(path: Path, past: Past, *replicas: Replica) -> None:
    """Write everything that Prometheus would have scraped, as OpenMetrics with timestamps."""
    with path.open("wb") as file:
        for replica in replicas:
            for at, lines in _scrapes(past, replica):
                file.write(targeted(lines, replica.instance).replace(b"\n", f" {at.timestamp():.0f}\n".encode()))
        file.write(b"# EOF\n")


def _scrapes(past: Past, replica: Replica) -> Iterator[tuple[datetime, str]]:
    states = {customer.name: _begun(customer) for customer in customers()}
    previous: dict[str, Rendered] = {}
    process = of_process("self")
    exporter = b"".join(piece.plain for piece in render_exporter(Exporter("1.0", NOW - 3 * WEEK))).decode()
    for number, at in enumerate(instants()):
        page = [exporter, process]
        for name, state in states.items():
            polled = at - POLL_BEFORE - replica.behind
            states[name] = _polled(state, past, polled, replica.more, number)
            previous[name] = render(view(states[name], moment(at)), previous.get(name))
            page += [part.decode() for part in (*previous[name].data, *previous[name].about)]
        text = "".join(page)
        yield at, f"{text}up 1\nscrape_duration_seconds 0.004\nscrape_samples_scraped {text.count(chr(10))}\n"


def _begun(customer: Customer) -> CustomerState:
    return begun(customer, next(centre for centre in _CENTRES if centre.customer == customer.name), STRETCHES[0][0])


def _polled(state: CustomerState, past: Past, at: datetime, more: int, number: int) -> CustomerState:
    customer, day = state.customer, times.local_date(state.customer.zone, at)
    if customer.name == LOST_BY and at > KEY_LOST:
        after = with_failure(state, Result.UNAUTHORIZED, "HTTP 401", 0.1)
    elif number % 40 == 20:  # now and then the API is slow
        after = with_failure(state, Result.TIMEOUT, "no answer", 10.0)
    else:
        after = with_answer(state, day, _with_more(past.answer(customer, at), more), moment(at), 0.3)
    return replace(after, next_poll=at + STEP)


def _with_more(answer: Answer, more: int) -> Answer:
    counts = [statistic.kind is not Kind.AVERAGE for statistic in STATISTICS]
    values = {
        pair: tuple(v + more if v is not None and counted else v for v, counted in zip(row, counts, strict=True))
        for pair, row in answer.values.items()
    }
    return replace(answer, values=values)
