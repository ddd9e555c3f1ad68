"""Let a week pass and say what came of it: `python -m tools.soak --help`."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tools.soak.rig import set_up_process
from tools.soak.week import Outcome, Plan, soak


def main() -> None:
    """Run the command line; exits with 1 at the first wrong scrape."""
    usual = Plan()
    parser = argparse.ArgumentParser(prog="make soak", description="Let simulated days of chaos pass, with an oracle.")
    parser.add_argument("--seed", type=int, default=usual.seed, help=f"of all that is drawn; {usual.seed}")
    parser.add_argument("--customers", type=int, default=usual.customers, help=f"how many; {usual.customers}")
    parser.add_argument("--days", type=float, default=usual.days, help=f"how many; {usual.days}")
    parser.add_argument("--quickest", type=int, default=usual.quickest_s, help="the shortest interval in seconds")
    given = parser.parse_args()
    plan = Plan(given.seed, given.customers, given.days, given.quickest)
    began = time.monotonic()
    outcome = soak(plan, _tell)
    _tell("\n".join(_table(plan, outcome, time.monotonic() - began)))
    if outcome.wrong:
        sys.exit(f"soak: {outcome.wrong}")


def _table(plan: Plan, outcome: Outcome, took_s: float) -> Iterator[str]:
    yield "| | |\n| --- | --: |"
    yield f"| seed, customers | {plan.seed}, {plan.customers} |"
    yield f"| simulated days, from {outcome.start:%d %B %Y} | {plan.days:g} |"
    yield f"| took | {took_s / 60:.1f} min |"
    yield f"| **scrapes checked** | **{sum(outcome.scrapes.values()):,}** |"
    yield f"| **wrong ones** | **{1 if outcome.wrong else 0}** |"
    yield f"| samples on them | {outcome.samples:,} |"
    yield f"| lines of the log | {outcome.lines:,} |"
    for percent, vitals in outcome.vitals.items():
        words = f"{vitals.memory / 2**20:.0f} MiB, {vitals.descriptors}, {vitals.threads}"
        yield f"| memory, descriptors, threads at {percent} % | {words} |"
        yield f"| series that the oracle remembers at {percent} % | {vitals.remembered:,} |"
    yield from _counted("polls", outcome.polls)
    yield from _counted("faults drawn", outcome.faults)


def _counted(what: str, counts: Counter[str]) -> Iterator[str]:
    yield f"| {what} | {sum(counts.values()):,} |"
    for name, count in counts.most_common():
        yield f"| — {name} | {count:,} |"


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    set_up_process()
    main()
