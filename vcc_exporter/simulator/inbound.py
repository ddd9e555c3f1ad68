"""The resource `/v2/statistics/inbound`: its options, and calls as rows of its answer. Pure.

Chosen here, because the vendor's page does not say it:

- "More than 1 month" is read strictly: `from` and `to` in different calendar months are refused.
- An option that is given twice, and `to` before `from`, are format errors; an empty option is a missing one; an
  unknown option is ignored.
- A call of two queues is in the row of its last queue, with two clocks: its whole wait, and that in the last queue.
- `queue_time_without_talktime` is an average over calls given up or sent on, `abort_case_queue_time` only over the
  former; `time_before_queue` is one over all calls but those straight to a desk. Averages of nothing are 0.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final
from urllib.parse import parse_qs

from vcc_exporter.simulator.calls import EARLY_S, Call, Outcome
from vcc_exporter.vocabulary import NO_QUEUE, STATISTICS, Kind

FORMAT_ERROR: Final = "error.argument_format_error"
MISSING: Final = "error.argument_missing_or_empty"
TOO_LONG: Final = "error.maximum_date_interval_reached"

DEFAULT_SLA_S: Final = 30
MANDATORY: Final = {"from", "to", "dimensions"}
OPTIONS: Final = {
    "from": r"\d{8}",
    "to": r"\d{8}",
    "dimensions": r"(project|queue|date)(,(project|queue|date))*",
    "teams": r"\d{1,9}(,\d{1,9})*",
    "projects": r"\d{1,9}(,\d{1,9})*",
    "manual_sla": r"\d{1,9}",
    "of": r"json|tab|cvs",
}
"""The documented options, each with what it may look like."""


class ArgumentError(Exception):
    """Options that the API refuses with 417; the text is the documented message."""


@dataclass(frozen=True, slots=True)
class Query:
    """The options of a request; None for all teams, all projects."""

    first: date
    last: date
    dimensions: tuple[str, ...]
    teams: frozenset[int] | None
    projects: frozenset[int] | None
    sla_s: int
    of: str


def parse_query(text: str) -> Query:
    """Read a query string; raises ArgumentError with the documented message."""
    given = {name: values for name, values in parse_qs(text, keep_blank_values=True).items() if name in OPTIONS}
    if not given.keys() >= MANDATORY or [""] in given.values():
        raise ArgumentError(MISSING)
    options = {name: ",,".join(values) for name, values in given.items()}  # given twice, it fits no pattern
    if not all(re.fullmatch(OPTIONS[name], value, re.ASCII) for name, value in options.items()):
        raise ArgumentError(FORMAT_ERROR)
    try:
        first, last = date.fromisoformat(options["from"]), date.fromisoformat(options["to"])
    except ValueError as error:
        raise ArgumentError(FORMAT_ERROR) from error
    if last < first:
        raise ArgumentError(FORMAT_ERROR)
    if (first.year, first.month) != (last.year, last.month):
        raise ArgumentError(TOO_LONG)
    return Query(
        first=first,
        last=last,
        dimensions=tuple(options["dimensions"].split(",")),
        teams=_ids(options.get("teams")),
        projects=_ids(options.get("projects")),
        sla_s=int(options.get("manual_sla", DEFAULT_SLA_S)),
        of=options.get("of", "json"),
    )


def _ids(text: str | None) -> frozenset[int] | None:
    return None if text is None else frozenset(map(int, text.split(",")))


DIMENSIONS: Final[dict[str, tuple[str, Callable[[Call], int]]]] = {
    "project": ("projectid", lambda call: call.project),
    "queue": ("queueid", lambda call: call.queues[-1] if call.queues else NO_QUEUE),
    "date": ("date", lambda call: call.day.year * 10000 + call.day.month * 100 + call.day.day),
}
"""The documented dimensions: the key in a row, and its value. A call of two queues is in the row of the last."""


def _answered(call: Call) -> bool:
    return call.outcome is Outcome.ANSWERED


def _abandoned(call: Call) -> bool:
    return call.outcome is Outcome.ABANDONED


def _late(call: Call, wait_s: int, sla_s: int) -> bool:
    """Exactly the threshold is late; a call without a queue never is, as in the page's example."""
    return wait_s >= sla_s and bool(call.queues)


MEASURES: Final[dict[str, Callable[[Call, int], int | None]]] = {
    "abort_before_queue": lambda c, _: c.outcome is Outcome.DROPPED,
    "abort_in_queue_before": lambda c, sla_s: _abandoned(c) and not _late(c, c.wait_s, sla_s),
    "abort_in_queue_after": lambda c, sla_s: _abandoned(c) and _late(c, c.wait_s, sla_s),
    "abort_in_queue_early": lambda c, _: _abandoned(c) and c.wait_s < EARLY_S,
    "answered_before": lambda c, sla_s: _answered(c) and not _late(c, c.wait_s, sla_s),
    "answered_after": lambda c, sla_s: _answered(c) and _late(c, c.wait_s, sla_s),
    "before_queue_redirected": lambda c, _: c.outcome is Outcome.SENT_ELSEWHERE,
    "after_queue_redirected": lambda c, _: c.outcome is Outcome.REDIRECTED,
    "last_answered_before": lambda c, sla_s: _answered(c) and not _late(c, c.last_wait_s, sla_s),
    "last_answered_after": lambda c, sla_s: _answered(c) and _late(c, c.last_wait_s, sla_s),
    "last_abort_in_queue_before": lambda c, sla_s: _abandoned(c) and not _late(c, c.last_wait_s, sla_s),
    "last_abort_in_queue_after": lambda c, sla_s: _abandoned(c) and _late(c, c.last_wait_s, sla_s),
    "last_abort_in_queue_early": lambda c, _: _abandoned(c) and c.last_wait_s < EARLY_S,
    "talk_time": lambda c, _: c.talk_s,
    "queue_time": lambda c, _: c.wait_s if _answered(c) else 0,
    "queue_time_without_talktime": lambda c, _: c.wait_s if c.queues and not _answered(c) else None,
    "abort_case_queue_time": lambda c, _: c.wait_s if _abandoned(c) else None,
    "time_before_queue": lambda c, _: None if _answered(c) and not c.queues else c.before_s,
    "last_queue_time": lambda c, _: c.last_wait_s if _answered(c) else 0,
}
"""What one call adds to each statistic, by documented name and threshold; None leaves it out of an average.

The two averages of waits in vain differ by the calls that the system sent on, which only the first includes.
"""


def rows(calls: Iterable[Call], dimensions: Iterable[str], sla_s: int) -> list[dict[str, int]]:
    """Compute the statistics of calls in the API's own keys, a row for each combination that has calls.

    Counts and sums are exact; averages are rounded, 0 where there is nothing to average. Dimensions are keys of
    `DIMENSIONS`, and no others.
    """
    asked = [column for name, column in DIMENSIONS.items() if name in set(dimensions)]
    groups: dict[tuple[int, ...], list[Call]] = defaultdict(list)
    for call in calls:
        groups[tuple(value(call) for _, value in asked)].append(call)
    keys = [key for key, _ in asked]
    return [dict(zip(keys, ids, strict=True)) | _totals(group, sla_s) for ids, group in sorted(groups.items())]


def _totals(calls: Sequence[Call], sla_s: int) -> dict[str, int]:
    totals = {}
    for statistic in STATISTICS:
        measure = MEASURES[statistic.name]
        values = [value for call in calls if (value := measure(call, sla_s)) is not None]
        average = statistic.kind is Kind.AVERAGE
        totals[statistic.key] = round(sum(values) / max(1, len(values))) if average else sum(values)
    return totals
