"""What polls cost, and when they come: against the usual way, and of ten thousand customers."""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from tools.bench import peers
from tools.bench.contexts import MADE
from tools.bench.machine import Part, Run, clock
from tools.bench.peers import Polled
from tools.bench.report import Goal, Result, median, ms, number, percentile
from tools.bench.scrape import Scraper

_SCRAPES_A_MINUTE: Final = 8
"""Of two Prometheus, one each 15 s."""
_LATENCY_MS: Final = 250
_USUAL_LATENCY_MS: Final = 50
"""One loop over a thousand customers leaves 60 ms for each in a minute."""
_LATE_S: Final = 0.1


def against_the_usual_way(run: Run) -> Iterator[Result]:
    """Measure figure 3."""
    count = run.customers(1000)
    spent: dict[str, list[float]] = defaultdict(list)
    polls = 0
    with peers.exporter(run, count, "1m", latency_ms=_USUAL_LATENCY_MS) as polled:
        with peers.client_library(run, "polls", polled.api.url, str(count)) as usual:
            _poll_in_turn(usual.part, count)
            polled.settle()
            prometheus = [polled.scraper, Scraper(polled.scraper.part, polled.scraper.port)]
            for _ in range(run.rounds):
                polled.catch_up()
                for name, scrapers in (("exporter, polls alone", []), ("exporter", prometheus)):
                    minute_s, made = _minute(run, polled, scrapers)
                    spent[name].append(minute_s)
                    polls += made
                with polled.scraper.part.paused():
                    some = max(1, round(count * run.seconds / 60))
                    polls_s, scrape_s = _poll_in_turn(usual.part, some) * count / some, usual.cost("gzip").cpu_s
                spent["the usual way, polls alone"].append(polls_s)
                spent["the usual way"].append(polls_s + _SCRAPES_A_MINUTE * scrape_s)
        polled.check()
    yield _figure_3(run, count, polls, {name: median(seconds) for name, seconds in spent.items()})


def _poll_in_turn(part: Part, customers: int) -> float:
    """Let the usual way poll the next so many. Returns the seconds of CPU."""
    before_s = part.cpu_s()
    if part.process.stdin and part.process.stdout:
        part.process.stdin.write(b"%d\n" % customers)
        part.process.stdin.flush()
        part.process.stdout.readline()
    part.check()
    return part.cpu_s() - before_s


def _minute(run: Run, polled: Polled, scrapers: list[Scraper]) -> tuple[float, int]:
    """Watch the exporter, each scraper scraping once.

    Returns the seconds of CPU that are a minute's, in which everybody is polled once, and how many polls were seen.
    """
    polled.api.polls()
    began, before_s = clock.monotonic(), polled.scraper.part.cpu_s()
    for turn, scraper in enumerate(scrapers, 1):
        scraper.scrape("gzip")
        time.sleep(max(0, began + turn * run.seconds / len(scrapers) - clock.monotonic()))
    time.sleep(max(0, began + run.seconds - clock.monotonic()))
    used_s, made = polled.scraper.part.cpu_s() - before_s, len(polled.api.polls())
    return used_s * len(polled.customers) / max(1, made), made


def _figure_3(run: Run, customers: int, polls: int, spent: dict[str, float]) -> Result:
    all_of_it, alone = (
        spent[name] / spent[f"the usual way{kind}"]
        for name, kind in (("exporter", ""), ("exporter, polls alone", ", polls alone"))
    )
    rows = [(name, number(spent[name]), f"{100 * spent[name] / 60:.1f} %") for name in sorted(spent)]
    text = (
        f"{customers:,} customers polled once a minute over plain HTTP, an API that answers in {_USUAL_LATENCY_MS} ms, "
        "two Prometheus at 15 s with gzip. The exporter "
        f"was watched for {2 * run.rounds} times {run.seconds:.0f} s, in which it made {polls:,} polls; "
        f"the usual way polled one after the other as many as are due in {run.seconds:.0f} s, {run.rounds} times, and "
        f"was scraped {run.rounds} times, of which a minute is added up: it cannot do in a minute what takes more of a "
        "core than there is."
    )
    goals = [
        Goal("CPU of polls and scrapes to the usual way", all_of_it, 1 / 50),
        Goal("CPU of polls alone to the usual way", alone, 1 / 2),
    ]
    return Result("3", text, ("", "CPU s in a minute", "of a core"), rows, goals)


def of_ten_thousand(run: Run) -> Iterator[Result]:
    """Measure figure 4."""
    count, program = run.customers(10_000), ("-m", "tools.bench.contexts")
    rows, goals = [], []
    for kind, schedule in (("interval: 1m", ""), ('schedule: "* * * * *"', "* * * * *")):
        with peers.exporter(run, count, "1m", schedule, latency_ms=_LATENCY_MS, tls=True, program=program) as polled:
            polled.settle()
            part = polled.scraper.part
            polled.lateness()
            began, before_s = clock.monotonic(), part.cpu_s()
            time.sleep(4 * run.seconds)
            late, took_s = polled.next_lateness(), clock.monotonic() - began
            share = (part.cpu_s() - before_s) / took_s
            memory_mb = part.memory_mb("VmRSS")
            contexts = part.log.read_text().count(MADE)
            polled.check()
        p50, p99, longest = (percentile(late, under) for under in (0.5, 0.99, 1))
        rows.append(
            (
                f"`{kind}`",
                f"{len(late):,}",
                ms(p50),
                ms(p99),
                ms(longest),
                f"{share:.2f}",
                number(memory_mb),
                f"{contexts}",
            )
        )
        goals += [
            Goal(f"p99 of a poll's lateness to 100 ms, `{kind}`", p99 / _LATE_S, 1),
            Goal(f"polls that were due to those that came, `{kind}`", count * took_s / 60 / len(late), 1.05),
            Goal(f"TLS contexts that were made, `{kind}`", contexts, 1),
        ]
    text = (
        f"{count:,} customers, one process, TLS, an API that answers in {_LATENCY_MS} ms; watched for "
        f"{4 * run.seconds:.0f} s after everybody had been polled once."
    )
    head = ("", "polls", "late p50 ms", "p99 ms", "most ms", "of a core", "MB", "TLS contexts")
    yield Result("4", text, head, rows, goals)
