"""Counts to what a shift leader asks for: service level, abandonment, mean waiting and talking. Pure.

The readings, which are the recording rules' too: offered is answered and given up in a queue; a mean is a sum
of seconds over answered calls. Where nothing was offered there is no ratio, and where nothing was answered no
mean. A number that the API did not send is unknown, and so is all that needs it; as is what no number can hold.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from vcc_exporter.answer import Values
from vcc_exporter.config import Targets
from vcc_exporter.vocabulary import STATISTICS

_INDEX: Final = {statistic.name: i for i, statistic in enumerate(STATISTICS)}
_NEAR: Final = 0.1 + 1e-9  # points of service level; 0.8 - 0.1 is a little more than 0.7 in binary fractions
_TWICE: Final = 2  # times the abandonment that was promised


class Verdict(Enum):
    """How a ratio stands to its target: a sign, and the words for it."""

    REACHED = "✓", "target reached"
    NEAR = "▽", "target missed by a little"
    MISSED = "✕", "target missed"
    FEW = "·", "too few calls to judge"

    @property
    def sign(self) -> str:
        """One character, which no colour has to explain."""
        return self.value[0]

    @property
    def words(self) -> str:
        """What the sign says."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Figures:
    """What some queues' calls came to, taken together; None where the API left out what is needed."""

    in_time: float | None
    """Answered before the threshold, in calls."""
    late: float | None
    """Answered after it."""
    gave_up: float | None
    """In a queue, the early ones included."""
    early: float | None
    """Of those, within 5 seconds."""
    waited_s: float | None
    """All callers who were answered, together."""
    talked_s: float | None

    @property
    def answered(self) -> float | None:
        """Calls answered by an agent."""
        return _sum(self.in_time, self.late)

    @property
    def offered(self) -> float | None:
        """Calls answered or given up in a queue."""
        return _sum(self.answered, self.gave_up)

    @property
    def service_level(self) -> float | None:
        """Part of the offered calls that was answered before the threshold, 0 to 1."""
        return _over(self.in_time, self.offered)

    @property
    def abandonment(self) -> float | None:
        """Part of the offered calls that was given up, 0 to 1."""
        return _over(self.gave_up, self.offered)

    @property
    def wait_s(self) -> float | None:
        """Mean time in a queue of an answered call."""
        return _over(self.waited_s, self.answered)

    @property
    def talk_s(self) -> float | None:
        """Mean time of talking in an answered call."""
        return _over(self.talked_s, self.answered)


def total(rows: Iterable[Values], statistic: str) -> float | None:
    """Add a statistic up over rows; None where one of them lacks it."""
    return _sum(*(row[_INDEX[statistic]] for row in rows))


def figures(rows: Iterable[Values]) -> Figures:
    """Return what rows of the API's answer come to together."""
    rows = tuple(rows)
    return Figures(
        in_time=total(rows, "answered_before"),
        late=total(rows, "answered_after"),
        gave_up=_sum(total(rows, "abort_in_queue_before"), total(rows, "abort_in_queue_after")),
        early=total(rows, "abort_in_queue_early"),
        waited_s=total(rows, "queue_time"),
        talked_s=total(rows, "talk_time"),
    )


def judge_service_level(found: Figures, targets: Targets) -> Verdict | None:
    """Hold the service level against its target; None where there is none."""
    ratio = found.service_level
    if ratio is None or ratio >= targets.service_level:
        return _unless_few(found, targets, ratio, Verdict.REACHED)
    near = ratio >= targets.service_level - _NEAR
    return _unless_few(found, targets, ratio, Verdict.NEAR if near else Verdict.MISSED)


def judge_abandonment(found: Figures, targets: Targets) -> Verdict | None:
    """Hold the abandonment against its target; None where there is none."""
    ratio = found.abandonment
    if ratio is None or ratio <= targets.abandonment:
        return _unless_few(found, targets, ratio, Verdict.REACHED)
    near = ratio <= _TWICE * targets.abandonment
    return _unless_few(found, targets, ratio, Verdict.NEAR if near else Verdict.MISSED)


def _unless_few(found: Figures, targets: Targets, ratio: float | None, verdict: Verdict) -> Verdict | None:
    if ratio is None:
        return None
    return Verdict.FEW if (found.offered or 0) < targets.min_calls else verdict


def _sum(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return _finite(sum(known)) if len(known) == len(values) else None


def _over(part: float | None, whole: float | None) -> float | None:
    return _finite(part / whole) if part is not None and whole else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
