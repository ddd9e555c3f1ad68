"""Add to a Prometheus's data what the rules would have recorded of its past: `python -m tools.recorded --help`.

A real Prometheus on that data is asked for each rule's expression at many instants, and its answers are loaded as if
they had been scraped. So it goes layer by layer, those rules first that need no other, the alerts last.

promtool's own backfill of rules is of no use here. It sees nothing of what it has just recorded; it makes a block for
each rule and two hours, some thirty-five thousand of four weeks; and where one side of an `or` keeps the name of its
metric and the other has none, it writes both under one name and loses what comes out of order.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from tools import history
from tools.rules import NAME, Alert, Rule, alerts, recording_rules
from vcc_exporter.times import format_duration, parse_duration

LOOKBACK: Final = timedelta(minutes=5)
"""How far a query looks back where nobody says otherwise."""
EVERY: Final = LOOKBACK
"""How often the rules were evaluated. Less often, and lines would have gaps."""
AT_ONCE: Final = 2
"""How many pieces are worked on side by side."""

Span = tuple[datetime, datetime]
Series = Mapping[str, Sequence[tuple[float, str]]]
"""By labels as OpenMetrics has them, instants in seconds since 1970 and values as Prometheus writes them."""


# What is evaluated, and when.


def layers() -> Iterator[Sequence[Rule | Alert]]:
    """Yield the rules so that each needs only what is recorded by those before; the alerts come last."""
    waiting = recording_rules()
    while waiting:
        names = {rule.record for rule in waiting}
        ready = [rule for rule in waiting if names.isdisjoint(NAME.findall(rule.expr))]
        yield ready
        waiting = [rule for rule in waiting if rule not in ready]
    yield alerts()


@dataclass(frozen=True, slots=True)
class Piece:
    """Instants at which rules are evaluated, as many of a span as go into one block."""

    first: datetime
    last: datetime
    begin: datetime
    """The span's first instant; there was nothing before."""


def pieces(spans: Iterable[Span], step: timedelta) -> list[Piece]:
    """Cut spans where Prometheus cuts its blocks; a span's instants are its end, and whole steps before that."""
    cut = []
    for begin, end in spans:
        first = end - (end - begin) // step * step
        for since, until in history.stretches(first, end):
            after = (end - until) // step + (until < end)
            cut.append(Piece(end - (end - since) // step * step, end - after * step, first))
    return cut


def states(held: Iterable[float], wait_s: float, step_s: float) -> Iterator[tuple[float, str]]:
    """Yield, for each instant at which an alert's expression held, whether the alert was pending or firing then."""
    since = before = float("-inf")
    for at in held:
        since = since if at - before <= step_s else at
        before = at
        yield at, "firing" if at - since >= wait_s else "pending"


# A Prometheus.


@contextmanager
def serving(data: Path, lookback: timedelta = LOOKBACK) -> Iterator[str]:
    """Run a Prometheus that scrapes nothing and keeps all; yields its address. Raises RuntimeError if it ends.

    What was imported has no marks of where series end. It stays visible for as long as a query looks back.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
    config, log = data.with_suffix(".config.json"), data.with_suffix(".log")
    config.write_text("{}")
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=100y",
        f"--query.lookback-delta={format_duration(lookback)}",
        "--query.timeout=1d",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603
    try:
        while not _is_ready(f"http://{address}"):
            if process.poll() is not None:
                raise RuntimeError(f"Prometheus has ended: {log.read_text(errors='replace')}")
            time.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _is_ready(url: str) -> bool:
    try:
        with _OPENER.open(f"{url}/-/ready", timeout=5):
            return True
    except OSError:
        return False


def ask(url: str, expression: str, first: datetime, last: datetime, step: timedelta) -> list[dict[str, Any]]:
    """Return an expression's series from one instant to another; raises RuntimeError with Prometheus's words."""
    span = {"start": first.timestamp(), "end": last.timestamp(), "step": step.total_seconds()}
    asked = urllib.parse.urlencode({"query": expression, **span}).encode()
    try:
        with _OPENER.open(f"{url}/api/v1/query_range", asked) as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return result
    except urllib.error.HTTPError as error:
        with error:
            raise RuntimeError(f"Prometheus answers {error.read().decode()}") from error


# What was recorded.


def record(
    data: Path, spans: Iterable[Span], step: timedelta, lookback: timedelta, tell: Callable[[], None] = lambda: None
) -> None:
    """Add what the rules would have recorded in some spans, and tell after each rule and piece that was evaluated.

    Nothing outlives its series where `lookback` is the time between two scrapes. Raises RuntimeError where Prometheus
    has no answer and CalledProcessError where promtool fails; what was added by then stays.
    """
    cut = pieces(spans, step)
    for layer in layers():
        with serving(data, lookback) as url, ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(partial(_record, data=data, url=url, layer=layer, step=step, tell=tell), cut))


def _record(
    piece: Piece, *, data: Path, url: str, layer: Sequence[Rule | Alert], step: timedelta, tell: Callable[[], None]
) -> None:
    path = data.with_name(f"{data.name}-{piece.first.timestamp():.0f}.om")
    with path.open("w") as file:
        for rule in layer:
            file.writelines(_lines(url, rule, piece, step))
            tell()
        file.write("# EOF\n")
    history.load(path, data)


def _lines(url: str, rule: Rule | Alert, piece: Piece, step: timedelta) -> Iterator[str]:
    if isinstance(rule, Rule):
        for labels, values in _series(ask(url, rule.expr, piece.first, piece.last, step), {}).items():
            yield from (f"{rule.record}{{{labels}}} {value} {at}\n" for at, value in values)
        return
    # Whether it fires at the first instant depends on those before.
    wait = parse_duration(rule.wait)
    found = ask(url, rule.expr, max(piece.begin, piece.first - -(-wait // step) * step), piece.last, step)
    for labels, values in _series(found, {"alertname": rule.name, "severity": rule.severity}).items():
        for at, state in states((at for at, _ in values), wait.total_seconds(), step.total_seconds()):
            if at >= piece.first.timestamp():
                yield f'ALERTS{{alertstate="{state}",{labels}}} 1 {at}\n'


def _series(found: Iterable[Mapping[str, Any]], added: Mapping[str, str]) -> Series:
    """Return values by labels without a metric's name, by which alone two sides of an `or` may differ."""
    values: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for series in found:
        labels = {name: value for name, value in {**series["metric"], **added}.items() if name != "__name__"}
        text = ",".join(f"{name}={json.dumps(labels[name], ensure_ascii=False)}" for name in sorted(labels))
        values[text] += series["values"]
    return {labels: sorted(of_series) for labels, of_series in values.items()}


# For the stack.


def amount(spans: Iterable[Span]) -> int:
    """Return how many lines `main` writes about its work."""
    return len(pieces(spans, EVERY)) * sum(map(len, layers()))


def main() -> None:
    """Read the flags and record."""
    parser = argparse.ArgumentParser(description="Add what the rules would have recorded of a past of the demo.")
    parser.add_argument("data", type=Path, help="Prometheus's data; other files are written beside it")
    parser.add_argument(
        "--span",
        type=float,
        nargs=2,
        metavar=("FIRST", "LAST"),
        action="append",
        default=[],
        help="from when to when there is a past, in seconds since 1970; repeatable",
    )
    flags = parser.parse_args()
    os.nice(5)  # the demo itself has both cores to share with this
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # only once Prometheus has ended, too
    spans = [(datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC)) for first, last in flags.span]
    record(flags.data, spans, EVERY, history.STEP, lambda: history.tell(1))


if __name__ == "__main__":
    main()
