"""What was measured, in Markdown: tables, and whether the goals are reached."""

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio that is to be at most so much."""

    what: str
    value: float
    most: float

    def line(self) -> str:
        """Return what came out."""
        verdict = f"missed by {self.value / self.most:.1f}x" if self.value > self.most else "reached"
        return f"- {self.what}: {ratio(self.value)}, goal {ratio(self.most)}: **{verdict}**\n"


@dataclass(frozen=True, slots=True)
class Result:
    """One figure's outcome."""

    key: str
    """Names the figure, on the command line and in the document."""
    text: str
    """What was counted."""
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    goals: Sequence[Goal] = ()
    chart: str = ""

    def markdown(self) -> str:
        """Return it as a part of a document."""
        lines = [self.head, ("---", *["--:"] * (len(self.head) - 1)), *self.rows]
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        goals = "".join(goal.line() for goal in self.goals)
        return "\n".join(filter(None, (f"{self.text}\n", table, goals, self.chart)))


def written(document: str, parts: Mapping[str, str]) -> str:
    """Return a document with these parts in their places, and all else as it is."""
    place = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
    return place.sub(
        lambda found: f"{found[1]}\n{parts[found[2]]}\n{found[3]}" if found[2] in parts else found[0], document
    )


median: Final = statistics.median


def percentile(values: Iterable[float], part: float) -> float:
    """Return the smallest value that so large a part of all does not exceed."""
    ordered = sorted(values)
    return ordered[math.ceil(part * len(ordered)) - 1]


def number(value: float) -> str:
    """Write a number with three digits."""
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:,.{digits}f}"


def ms(seconds: float) -> str:
    """Write seconds as milliseconds."""
    return number(seconds * 1000)


def ratio(value: float) -> str:
    """Write a ratio, as a fraction where it is small."""
    if value >= 10:  # noqa: PLR2004
        return f"{value:,.0f}x"
    return f"{value:.2f}x" if value > 0.3 else f"1/{1 / value:,.1f}".removesuffix(".0")  # noqa: PLR2004
