"""What grows with customers, what with rows, and what not at all; and what a day of polls leaves behind."""

import math
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from tools.bench import peers
from tools.bench.machine import ROWS, Run, clock
from tools.bench.peers import Polled, config_text, interval_for
from tools.bench.report import Goal, Result, median, number, percentile, ratio
from tools.bench.scrape import ENCODINGS

_SIZES: Final = (1, 10, 100, 1000, 10_000)
"""Customers."""
_MANY_ROWS: Final = 10 * ROWS
_POLLS_A_SECOND: Final = 100
"""Of twenty rows; as many rows, whatever the size, as far as the shortest interval allows."""
_TIMES: Final = 3
_RELOADS: Final = 7
_STARTS: Final = ("start, s", "reload, s")
_LINEAR: Final = 12
"""How much longer ten times the customers may take, some noise included."""
_DAY: Final = 1440
"""A day's polls of one customer at one a minute."""
_LOOK_S: Final = 0.5
_DECADE: Final = 6
"""How many characters of the chart stand for a factor of ten."""

Size = tuple[int, int]
"""Customers, and rows of each."""
Measured = Mapping[Size, Mapping[str, float]]


def by_size(run: Run) -> Iterator[Result]:
    """Measure figures 8 and 9."""
    sizes = [*((customers, ROWS) for customers in _SIZES), (100, _MANY_ROWS)]
    measured = {size: _measure(run, run.customers(size[0]), size[1]) for size in sizes}
    goals = [
        Goal(f"{name.partition(',')[0]} with 10,000 customers to 1,000", _growth(measured, name), _LINEAR)
        for name in _STARTS
    ]
    polls = sum(measured[size]["polls"] for size in sizes)
    text = (
        "From the start of the process until the first scrape is answered, once; from the request for a reload until "
        f"it is done, one customer's key being new, the median of {_RELOADS}."
    )
    yield _table("8", text, measured, _STARTS, goals=goals)
    text = (
        f"Each size polled at the pace of {_POLLS_A_SECOND} customers of {ROWS} rows a second, or as often as can be: "
        f"{polls:,.0f} polls in all. Scrapes came while polls went on, {_TIMES} of each encoding."
    )
    names = [name for name in measured[sizes[0]] if name not in {*_STARTS, "polls"}]
    yield _table("9", text, measured, names, chart=_chart(measured, [*_STARTS, *names]))


def _measure(run: Run, customers: int, rows: int) -> dict[str, float]:
    interval = interval_for(customers * rows // ROWS, _POLLS_A_SECOND)
    with peers.exporter(run, customers, interval, rows=rows) as polled:
        polled.settle()
        scraper, part = polled.scraper, polled.scraper.part
        polled.lateness()
        before_s = part.cpu_s()
        time.sleep(run.seconds)
        spent_s, late = part.cpu_s() - before_s, polled.lateness()
        scrape_s = {e: median(scraper.cost(e).cpu_s for _ in range(_TIMES)) for e in ENCODINGS}
        memory_mb = part.memory_mb()
        polled.check()
        reload_s = median(_reload(run, polled, interval, f"key{turn}") for turn in range(_RELOADS))
    return {
        "start, s": polled.start_s,
        "reload, s": reload_s,
        "polls": len(late),
        "CPU of a poll, ms": 1000 * spent_s / len(late),
        "p99 of a poll's lateness, ms": 1000 * percentile(late, 0.99),
        **{f"CPU of a scrape, {e}, ms": 1000 * scrape_s[e] for e in ENCODINGS},
        **{f"page, {e}, MB": scraper.sizes[e] / 1e6 for e in ENCODINGS},
        "peak memory, MB": memory_mb,
    }


def _reload(run: Run, polled: Polled, interval: str, key: str) -> float:
    """Reload with another key of the first customer. Returns the seconds."""
    text = config_text(polled.api, len(polled.customers), interval, first_key=key)
    (run.folder / "exporter.yaml").write_text(text)
    request = urllib.request.Request(f"http://127.0.0.1:{polled.scraper.port}/-/reload", method="POST")
    began = clock.monotonic()
    urllib.request.urlopen(request).close()  # noqa: S310 - loopback
    return clock.monotonic() - began


def _growth(measured: Measured, name: str) -> float:
    return measured[_SIZES[-1], ROWS][name] / measured[_SIZES[-2], ROWS][name]


def _table(
    key: str, text: str, measured: Measured, names: Iterable[str], *, goals: Iterable[Goal] = (), chart: str = ""
) -> Result:
    head = ("", *(f"{customers:,} x {rows} rows" for customers, rows in measured), "10x customers", "10x rows")
    rows = [
        (
            name,
            *(number(found[name]) for found in measured.values()),
            ratio(_growth(measured, name)),
            ratio(measured[100, _MANY_ROWS][name] / measured[100, ROWS][name]),
        )
        for name in names
    ]
    return Result(key, text, head, rows, tuple(goals), chart)


def _chart(measured: Measured, names: Iterable[str]) -> str:
    """Draw how each value grows from one customer to ten thousand, on a scale of factors."""
    lines = [f"1 to {_SIZES[-1]:,} customers, {_DECADE} blocks a factor of ten"]
    for name in names:
        values = [measured[customers, ROWS][name] for customers in _SIZES]
        for customers, value in zip(_SIZES, values, strict=True):
            blocks = 1 + round(_DECADE * math.log10(max(1, value / min(values))))
            lines.append(f"{name if customers == 1 else '':<30}{customers:>7,} {'█' * blocks}")
    return "\n".join(["```text", *lines, "```", ""])


def a_days_polls(run: Run) -> Iterator[Result]:
    """Measure the long run."""
    count = run.customers(100)
    whole, done = round(count * _DAY * min(1, run.share * 10)), 0
    seen: list[tuple[float, ...]] = []
    """What it had after each look, which differs as more or fewer polls were under way."""
    # Not as fast as can be: a machine that does something else for a moment would leave all of them due at once.
    with peers.exporter(run, count, "300ms") as polled:
        polled.settle()
        began = clock.monotonic()
        while done < whole:
            polled.scraper.scrape("gzip")
            time.sleep(_LOOK_S)
            done += len(polled.next_lateness())
            part = polled.scraper.part
            seen.append((part.memory_mb("VmRSS"), part.descriptors(), part.threads()))
        took_s = clock.monotonic() - began
        polled.check()
    tenth = -(-len(seen) // 10)
    early, late = ([median(values) for values in zip(*some, strict=True)] for some in (seen[:tenth], seen[-tenth:]))
    names = ("memory, MB", "descriptors", "threads")
    rows = [(name, number(a), number(b), ratio(b / a)) for name, a, b in zip(names, early, late, strict=True)]
    goals = [
        Goal(f"{name.partition(',')[0]} at the end to early on", b / a, 1.1)
        for name, a, b in zip(names, early, late, strict=True)
    ]
    text = (
        f"{done:,} polls of {count} customers, {done / took_s:.0f} a second, with a scrape every half second. Of "
        "the first and of the last tenth, the medians."
    )
    yield Result("day", text, ("", "early on", "at the end", "ratio"), rows, goals)
