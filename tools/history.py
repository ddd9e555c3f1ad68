"""Make a past of the demo's call centres and load it into a Prometheus's data: `python -m tools.history --help`.

What Prometheus would have had of the demo, had it run all that time. The calls are the simulator's, the same that the
running demo goes on with; what of them is shown at an instant, and how, the exporter's own code says: a clock that
moves takes the place of ours. Each poll is answered; the polls are as often as the demo's, but a scrape is every
`STEP`, since four weeks of one every 15 s would take minutes to make.

Two things differ from what was scraped. Imported series have no marks of where they end, so a value stays visible for
Prometheus's five minutes. And of the exporter's process there is only what can be said without having run it: how much
memory, but not how much work it was. What the rules would have recorded of it, `tools/recorded.py` adds.
"""

import argparse
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest

from vcc_exporter import __version__, config_file, times
from vcc_exporter.answer import Answer, Pair, Values
from vcc_exporter.config import Customer
from vcc_exporter.exposition import Exporter, Rendered, render, render_exporter
from vcc_exporter.schedule import place
from vcc_exporter.simulator import DEMO_CENTRES, Simulator, demo_config
from vcc_exporter.simulator.calls import Call, Centre
from vcc_exporter.simulator.inbound import DIMENSIONS, MEASURES
from vcc_exporter.snapshot import CustomerState, Moment, view, with_answer, with_lookback, with_names
from vcc_exporter.vocabulary import NO_QUEUE, STATISTICS, Kind, Result

STEP: Final = timedelta(minutes=3)
"""Between two scrapes. The windows of the rules, half an hour and an hour, are whole multiples; the five minutes that a
query looks back always hold one; and four weeks are made in less than a minute on two cores."""
PHASE: Final = timedelta(minutes=1)
"""When after the full `STEP` a scrape is: days begin there, and what is shown at one is of no use."""
BLOCK: Final = timedelta(hours=54)
"""One of the lengths to which Prometheus compacts its blocks, so that it has nothing to do with these."""
TOOK_S: Final = 0.01
"""How long a poll takes on loopback."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FAR: Final = datetime(9999, 1, 1, tzinfo=UTC)
_IS_AVERAGE: Final = tuple(statistic.kind is Kind.AVERAGE for statistic in STATISTICS)
_MEASURES: Final = tuple(MEASURES[statistic.name] for statistic in STATISTICS)


# What the API would have answered.


class Tally:
    """A customer's answers at instants that ascend, each call counted once.

    The same as of `Simulator.reply`, for a customer that is asked about every project and team.
    """

    def __init__(self, simulator: Simulator, customer: Customer) -> None:
        self._simulator = simulator
        """Its clock is ahead of every instant."""
        self._customer = customer
        self._day: date | None = None
        self._calls: Iterator[Call] = iter(())
        self._next: Call | None = None
        self._sums: dict[Pair, list[int]] = {}
        self._counted: dict[Pair, list[int]] = {}
        self._values: dict[Pair, Values] = {}

    def answer(self, now: datetime) -> Answer:
        """Return what a poll was answered that asked about the day of `now` then."""
        day = times.local_date(self._customer.zone, now)
        if day != self._day:
            self._day = day
            self._calls = self._simulator.calls(self._customer.name, day, day)
            self._next = next(self._calls, None)
            self._sums, self._counted, self._values = {}, {}, {}
        changed = set()
        while self._next and self._next.ended <= now.timestamp():
            changed.add(self._count(self._next))
            self._next = next(self._calls, None)
        self._values = self._values | {pair: self._row(pair) for pair in changed}
        return Answer(self._values, frozenset(), ())

    def _count(self, call: Call) -> Pair:
        pair = DIMENSIONS["project"][1](call), DIMENSIONS["queue"][1](call)
        sums = self._sums.setdefault(pair, [0] * len(STATISTICS))
        counted = self._counted.setdefault(pair, [0] * len(STATISTICS))
        sla_s = self._customer.project(call.project).sla_s
        for i, measure in enumerate(_MEASURES):
            value = measure(call, sla_s)
            if value is not None:
                sums[i] += value
                counted[i] += 1
        return pair

    def _row(self, pair: Pair) -> Values:
        columns = zip(self._sums[pair], self._counted[pair], _IS_AVERAGE, strict=True)
        return tuple(float(round(total / max(1, n)) if average else total) for total, n, average in columns)


# What the exporter would have shown.


def begun(customer: Customer, centre: Centre, at: datetime) -> CustomerState:
    """Return the state of a customer of which the API has given the names, and a lookback all queues."""
    pairs = {(p.id, queue) for p in centre.projects for queue in (NO_QUEUE, *(q.id for q in p.queues))}
    state = with_lookback(CustomerState(customer), times.local_date(customer.zone, at), frozenset(pairs), at)
    return with_names(state, {project.id: project.name for project in centre.projects}, at)


def moment(at: datetime) -> Moment:
    """Return an instant of which both clocks know."""
    return Moment(at, at.timestamp())


def _polled(state: CustomerState, tally: Tally, begin: datetime, at: datetime) -> CustomerState:
    """Return the state after the last poll before a scrape, with those since the one before it counted."""
    customer = state.customer
    polled = at - customer.interval * place(customer.name)
    after = with_answer(state, times.local_date(customer.zone, polled), tally.answer(polled), moment(polled), TOOK_S)
    polls = (at - begin) // customer.interval + 1
    return replace(
        after,
        polls={**state.polls, Result.SUCCESS: polls},
        poll_seconds=round(polls * TOOK_S, 3),
        next_poll=polled + customer.interval,
    )


def targeted(lines: str, instance: str) -> bytes:
    """Add what Prometheus adds to the labels of each sample; no label's value may have a brace in it."""
    target = f'instance="{instance}",job="vcc"'
    return "".join(
        f"{line.replace('}', f',{target}}}')}\n" if "}" in line else f"{line.replace(' ', f'{{{target}}} ', 1)}\n"
        for line in lines.splitlines()
    ).encode()


def of_process(pid: str) -> str:
    """Return what the client library says of a process and its platform, without comments."""
    registry = CollectorRegistry()
    ProcessCollector(pid=lambda: pid, registry=registry)
    PlatformCollector(registry=registry)
    lines = generate_latest(registry).decode().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))


@dataclass(frozen=True, slots=True)
class Run:
    """The exporter whose past is made."""

    begin: datetime
    """Since when it has run."""
    instance: str
    """How Prometheus calls it."""
    pid: str
    """The process whose memory stands for its own."""

    def page(self) -> str:
        """Return what it says beyond the customers."""
        exporter = "".join(piece.plain.decode() for piece in render_exporter(Exporter(__version__, self.begin)))
        known = of_process(self.pid).splitlines(keepends=True)
        process = "".join(line for line in known if not line.startswith(_OF_ONE_PROCESS))
        return f"{exporter}{process}process_start_time_seconds {self.begin.timestamp():.2f}\n"


_OF_ONE_PROCESS: Final = ("process_cpu_seconds_total", "process_start_time_seconds")


def scrapes(run: Run, first: datetime, last: datetime) -> Iterator[tuple[datetime, bytes]]:
    """Yield when, from `first` on and before `last`, there was a scrape, and what it left, without the time."""
    simulator = Simulator(DEMO_CENTRES, now=lambda: _FAR)
    customers = config_file.parse(demo_config("http://127.0.0.1"), "demo", Path()).customers
    states = {c.name: begun(c, simulator.centres[c.name], first) for c in customers}
    tallies = {c.name: Tally(simulator, c) for c in customers}
    rendered: dict[str, Rendered] = {}
    page = run.page()
    added = f'",instance="{run.instance}",job="vcc"}} '.encode()
    for at in instants(first, last):
        for name, tally in tallies.items():
            states[name] = _polled(states[name], tally, run.begin, at)
            rendered[name] = render(view(states[name], moment(at)), rendered.get(name))
        parts = [part for r in rendered.values() for part in (*r.data, *r.about)]
        # No label's value ends a line's labels but the last, and all lines at once are a tenth of the work.
        of_customers = b"".join(parts).replace(b'"} ', added)
        yield at, of_customers + targeted(page + _of_scrape(of_customers.count(b"\n") + page.count("\n")), run.instance)


def _of_scrape(samples: int) -> str:
    return (
        f"up 1\nscrape_duration_seconds 0.004\nscrape_series_added 0\nscrape_samples_scraped {samples}\n"
        f"scrape_samples_post_metric_relabeling {samples}\n"
    )


# When, and into what.


def instants(first: datetime, last: datetime) -> Iterator[datetime]:
    """Yield when there was a scrape, from `first` on, before `last`."""
    at = _EPOCH + PHASE + -((_EPOCH + PHASE - first) // STEP) * STEP
    while at < last:
        yield at
        at += STEP


def stretches(begin: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Cut the time where Prometheus cuts its blocks."""
    number = (begin - _EPOCH) // BLOCK
    inner = itertools.takewhile(lambda cut: cut < end, (_EPOCH + n * BLOCK for n in itertools.count(number + 1)))
    return list(itertools.pairwise([begin, *inner, end]))


def load(path: Path, data: Path) -> None:
    """Make a block of a file, or one for each `BLOCK` that it reaches into, and remove the file.

    Left to its default, promtool would make a block for each two hours, and read the whole file for each of them.
    """
    longest = f"--max-block-duration={BLOCK // timedelta(hours=1)}h"
    command = ["promtool", "tsdb", "create-blocks-from", longest, "openmetrics", "--quiet", str(path), str(data)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    path.unlink()


def make(data: Path, run: Run, first: datetime, last: datetime) -> None:
    """Make a past, block by block, and print a line for each quarter of a day that is written, and that is loaded."""
    path = data.with_name(f"{first.timestamp():.0f}.om")
    for _, block in itertools.groupby(scrapes(run, first, last), lambda scrape: (scrape[0] - _EPOCH) // BLOCK):
        with path.open("wb") as file:
            for number, (at, lines) in enumerate(block):
                file.write(lines.replace(b"\n", f" {at.timestamp():.0f}\n".encode()))
                if number % (QUARTER // STEP) == 0:
                    tell(1)
            file.write(b"# EOF\n")
        load(path, data)
        tell(number // (QUARTER // STEP) + 1)


QUARTER: Final = timedelta(hours=6)


def tell(steps: int) -> None:
    """Write that so much more of the work is done."""
    sys.stdout.write("one\n" * steps)
    sys.stdout.flush()


def main() -> None:
    """Read the flags and make it."""
    parser = argparse.ArgumentParser(description="Make a past of the demo for a Prometheus.")
    parser.add_argument("data", type=Path, help="Prometheus's data; other files are written beside it")
    parser.add_argument("--run-since", type=float, required=True, help="when the exporter began, as all in seconds")
    parser.add_argument("--first", type=float, required=True, help="the first instant that is made")
    parser.add_argument("--last", type=float, required=True, help="the first one that is not")
    parser.add_argument("--part", type=int, default=0, help="which part of the blocks")
    parser.add_argument("--parts", type=int, default=1, help="of how many")
    parser.add_argument("--instance", default="localhost:10742", help="how Prometheus calls the exporter")
    parser.add_argument("--pid", default="self", help="a process, for the memory that it takes")
    flags = parser.parse_args()
    os.nice(5)  # the demo itself has both cores to share with this
    begin, first, last = (datetime.fromtimestamp(at, UTC) for at in (flags.run_since, flags.first, flags.last))
    blocks = stretches(first, last)
    mine = blocks[len(blocks) * flags.part // flags.parts : len(blocks) * (flags.part + 1) // flags.parts]
    if mine:
        make(flags.data, Run(begin, flags.instance, flags.pid), mine[0][0], mine[-1][1])


if __name__ == "__main__":
    main()
