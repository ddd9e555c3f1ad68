"""Measure the figures, print them, and write them into a document: `python -m tools.bench --help`."""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tools.bench import growth, machine, polls, scrapes
from tools.bench.machine import BenchError, Run
from tools.bench.report import Result, written

GROUPS: Final[dict[tuple[str, ...], Callable[[Run], Iterator[Result]]]] = {
    ("1", "2", "6"): scrapes.against_peers,
    ("3",): polls.against_the_usual_way,
    ("4",): polls.of_ten_thousand,
    ("5",): scrapes.beside_polls,
    ("7",): scrapes.by_prometheus,
    ("8", "9"): growth.by_size,
    ("day",): growth.a_days_polls,
}
"""What measures which figures."""
FIGURES: Final = sorted(figure for figures in GROUPS for figure in figures)


def main() -> None:
    """Run the command line; exits with 1 and a line that says why where something cannot be measured."""
    parser = argparse.ArgumentParser(
        prog="make bench", description="Measure the exporter against what people use instead."
    )
    parser.add_argument("figures", nargs="*", choices=[*FIGURES, []], help="which, with those of the same runs; all")
    parser.add_argument("--quick", action="store_true", help="a hundredth of everything, to see that it works")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write each result into its place in this document")
    given = parser.parse_args()
    if given.write and given.quick:
        parser.error("--write takes no --quick")
    # So that what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended by SIGTERM"))
    try:
        for parts in _run(set(given.figures or FIGURES), given.quick):
            if given.write:
                given.write.write_text(written(given.write.read_text(), parts))
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit("bench: ended")


def _run(wanted: set[str], quick: bool) -> Iterator[dict[str, str]]:
    """Measure and print. Yields parts of the document by key."""
    server, client = machine.two_cores()
    words = machine.words()
    _tell(words)
    yield {"machine": words}
    os.sched_setaffinity(0, {client})
    share, rounds, seconds = (0.01, 1, 1) if quick else (1, 3, 15)
    for figures, measure in GROUPS.items():
        if wanted.isdisjoint(figures):
            continue
        with tempfile.TemporaryDirectory(prefix="vcc-bench-") as folder:
            Path(folder).chmod(0o755)  # nginx reads as somebody else
            for result in measure(Run(Path(folder), server, client, share, rounds, seconds)):
                text = result.markdown()
                _tell(f"Figure {result.key}\n\n{text}")
                yield {result.key: text}


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
