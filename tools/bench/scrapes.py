"""What a scrape costs: at rest, while polls change everything, beside polls, and by a real Prometheus."""

import itertools
import json
import time
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from tools.bench import peers
from tools.bench.machine import BenchError, Run, clock, until
from tools.bench.peers import Polled, interval_for
from tools.bench.report import Goal, Result, median, ms, number, percentile, ratio
from tools.bench.scrape import ENCODINGS, Cost, Scraper, told

_POLLS_A_SECOND: Final = 150
_OFTEN: Final = {"nginx": 100, "exporter": 100}
"""How many scrapes make a round at rest; of the others, which may take seconds, one."""
_TIMEOUT_S: Final = 10
"""A Prometheus's default."""
_OF_A_MILLION: Final = 4
_PACE_S: Final = 1.3
"""Between scrapes under polls, of one encoding and the other: in twice that everybody is polled anew, as in 15 s they
would be several times. No page is made in the same rhythm, so that scrapes meet it as often as chance has it."""
_POLLED_GOALS: Final = {"nginx": (3, 2), "Pushgateway": (1 / 18, 1 / 400), "prometheus_client": (1 / 125, 1 / 3000)}
"""By peer, for each of `ENCODINGS`."""

Costs = Mapping[tuple[str, str], list[Cost]]
"""By peer and encoding."""


def against_peers(run: Run) -> Iterator[Result]:
    """Measure figures 1, 2 and 6."""
    count = run.customers_for(100_000)
    busy = peers.exporter(run, count, interval_for(count, _POLLS_A_SECOND), name="polled exporter")
    with peers.exporter(run, count) as resting, busy as polled:
        resting.settle()
        polled.settle()
        with peers.all_peers(run, resting) as found:
            _notice_who_closes(run, [*found.values(), polled.scraper])
            at_rest: dict[tuple[str, str], list[Cost]] = defaultdict(list)
            under_polls: dict[tuple[str, str], list[Cost]] = defaultdict(list)
            shares, polls = [], []
            _paced(run, polled, found["nginx"], defaultdict(list))
            # Before it is stopped for the first time: afterwards all overdue polls are made at once, which no day has.
            polled_mb = polled.scraper.part.memory_mb()
            for _ in range(run.rounds):
                with polled.scraper.part.paused():
                    for encoding in ENCODINGS:
                        for name, scraper in found.items():
                            at_rest[name, encoding] += _back_to_back(scraper, encoding, _OFTEN.get(name, 1))
                polled.catch_up()
                share, rate = _paced(run, polled, found["nginx"], under_polls)
                shares.append(share)
                polls.append(rate)
            polled.check()
            yield _figure_1(at_rest, found, count)
            yield _figure_2({**at_rest, **under_polls}, median(polls), median(shares))
            used = {name: scraper.part.memory_mb() for name, scraper in found.items()}
            yield _figure_6(used | {"exporter, polled": polled_mb})


def _notice_who_closes(run: Run, scrapers: list[Scraper]) -> None:
    """Learn whose connection is closed when the next scrape of a Prometheus comes."""
    due = []
    for scraper in scrapers:
        scraper.scrape("gzip")
        due.append(clock.monotonic() + run.seconds)  # of each by itself: some take seconds to answer
    for scraper, at in zip(scrapers, due, strict=True):
        time.sleep(max(0, at - clock.monotonic()))
        scraper.reconnects = scraper.closed()


def _back_to_back(scraper: Scraper, encoding: str, times: int) -> list[Cost]:
    """Scrape so often. What a server does after an answer counts, too: each has its share of the CPU of all."""
    before_s = scraper.part.cpu_s()
    costs = [scraper.cost(encoding) for _ in range(times)]
    share_s = told(scraper.part.cpu_s() - before_s) / times
    return [replace(cost, cpu_s=share_s) for cost in costs]


def _every(pause_s: float, for_s: float) -> Iterator[int]:
    """Count, with this pause from one to the next where time allows it, for so many seconds; at least to two."""
    began = clock.monotonic()
    for count in itertools.count():
        time.sleep(max(0, began + count * pause_s - clock.monotonic()))
        if count > 1 and clock.monotonic() - began > for_s:
            return
        yield count


def _paced(run: Run, polled: Polled, nginx: Scraper, costs: dict[tuple[str, str], list[Cost]]) -> tuple[float, float]:
    """Scrape under polls. Returns the share of a core that went elsewhere, and the polls in a second."""
    polled.api.polls()
    began, cpu_s, scraped_s = clock.monotonic(), polled.scraper.part.cpu_s(), 0.0
    with polled.scraper.of_each_encoding() as mine, nginx.of_each_encoding() as limit:
        for count in _every(_PACE_S, 3 * run.seconds):
            encoding = ENCODINGS[count % 2]
            # Who comes after the other finds the way paved: the kernel's and the client's part takes a fifth less.
            both = [("exporter", mine[encoding]), ("nginx", limit[encoding])]
            for name, scraper in both if count % 4 < 2 else reversed(both):  # noqa: PLR2004 - each, in each encoding
                costs[name, encoding].append(scraper.cost(encoding))
            scraped_s += costs["exporter", encoding][-1].cpu_s
    took_s = clock.monotonic() - began
    return (polled.scraper.part.cpu_s() - cpu_s - scraped_s) / took_s, len(polled.api.polls()) / took_s


def _figure_1(costs: Costs, found: Mapping[str, Scraper], customers: int) -> Result:
    def value(peer: str, encoding: str, which: Callable[[list[Cost]], float]) -> tuple[float, float]:
        mine, limit = which(costs[peer, encoding]), which(costs["nginx", encoding])
        return mine, mine / limit

    kinds = {"CPU": _cpu, "p50": _p50, "p99": _p99}
    columns = [(encoding, kind) for encoding in ENCODINGS for kind in kinds]
    rows = []
    for peer in found:
        cells = (value(peer, encoding, kinds[kind]) for encoding, kind in columns)
        rows.append((peer, *(f"{ms(mine)} ({ratio(times)})" for mine, times in cells)))
    goals = [
        Goal(f"{kind} of a scrape, {encoding}, to nginx", value("exporter", encoding, kinds[kind])[1], most)
        for kind, most in (("CPU", 1.3), ("p99", 3))
        for encoding in ENCODINGS
    ]
    sizes = found["exporter"].sizes
    text = (
        f"{found['exporter'].series():,} series of calls of {customers:,} customers: "
        f"{sizes['identity'] / 1e6:.1f} MB, {sizes['gzip'] / 1e6:.2f} MB with gzip. Scrapes of each encoding: "
        f"{len(costs['exporter', 'gzip'])} of nginx and of the exporter, {len(costs['Pushgateway', 'gzip'])} of each "
        "other, whose p99 is their maximum. After a Prometheus's pause the connection is closed by: "
        f"{', '.join(n for n, s in found.items() if s.reconnects) or 'none'}."
    )
    return Result("1", text, ("ms (to nginx)", *(f"{kind}, {encoding}" for encoding, kind in columns)), rows, goals)


def _cpu(costs: list[Cost]) -> float:
    return median(cost.cpu_s for cost in costs)


def _p50(costs: list[Cost]) -> float:
    return median(cost.wall_s for cost in costs)


def _p99(costs: list[Cost]) -> float:
    return percentile((cost.wall_s for cost in costs), 0.99)


def _figure_2(costs: Costs, polls_a_second: float, share: float) -> Result:
    def beside(times: list[float]) -> tuple[str, ...]:
        return tuple(f"{ms(s)} ({ratio(mine / s)})" for s, mine in zip(times, answering, strict=True))

    answering = [median(cost.first_thread_s for cost in costs["exporter", encoding]) for encoding in ENCODINGS]
    meanwhile = [_cpu(costs["exporter", encoding]) for encoding in ENCODINGS]
    others = {peer: [_cpu(costs[peer, encoding]) for encoding in ENCODINGS] for peer in _POLLED_GOALS}
    limit = zip(meanwhile, others["nginx"], strict=True)
    rows = [
        ("exporter, the thread that answers", *map(ms, answering)),
        *((peer, *beside(times)) for peer, times in others.items()),
        ("all of the exporter meanwhile, polls included (to nginx)", *(f"{ms(s)} ({ratio(s / n)})" for s, n in limit)),
    ]
    goals = [
        Goal(f"CPU of a scrape under polls, {encoding}, to {peer}", ours / theirs, most)
        for peer, mosts in _POLLED_GOALS.items()
        for encoding, ours, theirs, most in zip(ENCODINGS, answering, others[peer], mosts, strict=True)
    ]
    text = (
        f"{polls_a_second:.0f} polls a second, {len(costs['exporter', 'gzip'])} scrapes of each encoding. "
        f"Beside the scrapes the exporter used {100 * share:.0f} % of a core."
    )
    return Result("2", text, ("CPU ms (exporter to it)", *ENCODINGS), rows, goals)


def _figure_6(used: Mapping[str, float]) -> Result:
    mine = max(used["exporter"], used["exporter, polled"])
    goals = [
        Goal(f"peak memory to {peer}", mine / used[peer], most)
        for peer, most in (("Pushgateway", 1 / 2), ("node_exporter", 1 / 4))
    ]
    rows = [(name, number(mb), ratio(mine / mb)) for name, mb in used.items()]
    text = "After all scrapes of figure 1, and after as many under polls as a round of figure 2 has."
    return Result("6", text, ("", "MB at most", "exporter to it"), rows, goals)


# Beside polls.


def beside_polls(run: Run) -> Iterator[Result]:
    """Measure figure 5."""
    count = run.customers_for(100_000)
    busy = peers.exporter(run, count, interval_for(count, _POLLS_A_SECOND), name="polled exporter", latency_ms=20)
    walls: dict[tuple[str, str], list[float]] = defaultdict(list)
    late: dict[str, list[float]] = defaultdict(list)
    with peers.exporter(run, count) as resting, busy as polled:
        resting.settle()
        polled.settle()
        for _ in range(-(-run.rounds * 3 // 5)):
            with polled.scraper.part.paused():
                _scrape_paced(run, resting.scraper, "without polls", walls)
            polled.catch_up()
            _scrape_paced(run, polled.scraper, "with polls", walls)
            for pace, pause_s in (("one scrape a second", 1.0), ("scrapes back to back", 0.0)):
                polled.lateness()
                with polled.scraper.of_each_encoding() as scrapers:
                    for turn in _every(pause_s, run.seconds):
                        scrapers[ENCODINGS[turn % 2]].scrape(ENCODINGS[turn % 2])
                late[pace] += polled.lateness()
        polled.check()
    yield _figure_5(walls, late)


def _scrape_paced(run: Run, scraper: Scraper, how: str, walls: dict[tuple[str, str], list[float]]) -> None:
    with scraper.of_each_encoding() as scrapers:
        for turn in _every(0.1, 3 * run.seconds):  # or a p99 is what one or two happened to meet
            encoding = ENCODINGS[turn % 2]
            walls[how, encoding].append(scrapers[encoding].scrape(encoding))


def _figure_5(walls: Mapping[tuple[str, str], list[float]], late: Mapping[str, list[float]]) -> Result:
    rows, goals = [], []
    for encoding in ENCODINGS:
        for name, part in (("p50", 0.5), ("p99", 0.99)):
            without, beside = (percentile(walls[how, encoding], part) for how in ("without polls", "with polls"))
            rows.append((f"{name} of a scrape, {encoding}", ms(without), ms(beside), ratio(beside / without)))
            goals.append(Goal(f"{name} of a scrape with polls to without, {encoding}", beside / without, 2))
    slow, fast = (percentile(late[pace], 0.99) for pace in ("one scrape a second", "scrapes back to back"))
    rows.append(
        ("p99 of a poll's lateness, one scrape a second and back to back", ms(slow), ms(fast), ratio(fast / slow))
    )
    goals.append(Goal("p99 of a poll's lateness with scrapes back to back to one a second", fast / slow, 3))
    text = (
        f"{_POLLS_A_SECOND} polls a second, of an API that answers in 20 ms. Scrapes of each encoding, ten a second: "
        f"{len(walls['without polls', 'gzip'])} without polls, {len(walls['with polls', 'gzip'])} with them. "
        f"Polls: {len(late['one scrape a second'])} with one scrape a second, "
        f"{len(late['scrapes back to back'])} with scrapes back to back."
    )
    return Result("5", text, ("ms", "without", "with", "ratio"), rows, goals)


# A real Prometheus.


def by_prometheus(run: Run) -> Iterator[Result]:
    """Measure figure 7."""
    count, interval = run.customers_for(1_000_000), f"{run.seconds:.0f}s"
    with peers.exporter(run, count, "1m") as polled:
        polled.settle()
        answers = [polled.scraper.scrape("gzip") for _ in range(_OF_A_MILLION)]
        with peers.prometheus(run, polled.scraper, interval) as (part, url):
            until(lambda: len(_asked(url, "up")) >= _OF_A_MILLION, "scrapes", part, 0.5)
            ups, seconds, samples = (
                _asked(url, name) for name in ("up", "scrape_duration_seconds", "scrape_samples_scraped")
            )
        polled.check()
        memory_mb = polled.scraper.part.memory_mb()
    if not any(ups):
        raise BenchError("Prometheus could not scrape the exporter once")
    rows = [
        ("samples a scrape", f"{max(samples):,.0f}"),
        ("the longest answer, s", number(max(answers))),
        ("Prometheus's first scrape, in which it makes all series, s", number(seconds[0])),
        ("median of its next, s", number(median(seconds[1:]))),
        ("exporter's peak memory, MB", number(memory_mb)),
    ]
    text = (
        f"{count:,} customers, each polled once a minute; {len(answers)} scrapes by the bench and {len(ups)} by a "
        f"Prometheus on one core, one each {interval}, all with gzip. The seconds that a Prometheus tells include what "
        "it does with an answer once it is in; its timeout does not."
    )
    goals = [
        Goal("all scrapes of a Prometheus to those that were good", len(ups) / sum(ups), 1),
        Goal("longest answer to the default timeout of 10 s", max(answers) / _TIMEOUT_S, 1),
    ]
    yield Result("7", text, ("", "with a real Prometheus"), rows, goals)


def _asked(url: str, name: str) -> list[float]:
    """Return all values of a series that a Prometheus has of its one target."""
    query = urllib.parse.urlencode({"query": f"{name}[1h]"})
    with urllib.request.urlopen(f"{url}/api/v1/query?{query}") as answer:  # noqa: S310 - loopback
        found = json.load(answer)["data"]["result"]
    return [float(value) for series in found for _, value in series["values"]]
