"""What there is to poll: a customer's projects and queues, with their calls in the last days.

Whatever projects the config lists: it is what one looks at before writing them down.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

import yaml

from vcc_exporter import times
from vcc_exporter.answer import AnswerError, Pair, ProjectEntry, Rejection, Values, read_days
from vcc_exporter.client import PollError, Session
from vcc_exporter.config import Customer
from vcc_exporter.oneshot import (
    Verdict,
    ask_projects,
    counted,
    each,
    no_list_words,
    rejected_words,
    teams_words,
    unusable,
    why,
)
from vcc_exporter.poll import months, questions
from vcc_exporter.times import Clock
from vcc_exporter.vocabulary import NO_QUEUE, STATISTICS

DAYS: Final = 30
"""How far back it looks, today included."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one customer has."""

    customer: str
    first: date
    last: date
    """The days that were looked at."""
    projects: Mapping[int, ProjectEntry]
    """Those that the API lists, and those that had calls; ascending."""
    calls: Mapping[Pair, int]
    """Calls of those days by project and queue; ascending."""
    remarks: tuple[str, ...]

    def queues(self, project: int) -> dict[int, int]:
        """Return the calls of a project's queues, of which `NO_QUEUE` may be one."""
        return {queue: calls for (owner, queue), calls in self.calls.items() if owner == project}


def discover(customers: Sequence[Customer], clock: Clock, progress: Callable[[str], None]) -> Iterator[Found | Verdict]:
    """Ask each customer's API what there is, whatever projects the config lists; a bad verdict where it fails.

    `progress` is used as in `verdicts`.
    """
    return each([replace(customer, listed={}) for customer in customers], clock, _find, progress)


def _find(customer: Customer, session: Session, clock: Clock) -> Found | Verdict:
    last = times.local_date(customer.zone, clock.now())
    first = last - timedelta(days=DAYS - 1)
    try:
        calls, rejections = _count_calls(customer, session, clock, (first, last))
    except PollError as error:
        return Verdict(customer.name, False, why(customer, session, clock, error))
    remarks = [
        session.redact(rejected_words(rejections)),
        teams_words(customer) if customer.teams and not calls else "",
    ]
    projects = {project: ProjectEntry() for project, _ in calls}
    try:
        projects |= ask_projects(session, clock)
    except PollError as error:
        remarks.append(f"no names, and no projects without calls: {no_list_words(error)}")
    return Found(customer.name, first, last, dict(sorted(projects.items())), calls, tuple(filter(None, remarks)))


def _count_calls(
    customer: Customer, session: Session, clock: Clock, days: tuple[date, date]
) -> tuple[dict[Pair, int], list[Rejection]]:
    """Ask for the calls of some days, as a lookback would. Raises PollError."""
    calls: dict[Pair, int] = {}
    rejections: list[Rejection] = []
    for first, last in months(*days):
        for question, scope in questions(customer, first, last):
            body = session.ask(question.target(), clock.now())
            try:
                found = read_days(body, first, last, scope)
            except AnswerError as error:
                raise unusable(customer, session, error) from None
            rejections += found.rejections
            for pair, values in (row for answer in found.answers.values() for row in answer.values.items()):
                calls[pair] = calls.get(pair, 0) + _calls(pair, values)
    return dict(sorted(calls.items())), rejections


_ANSWERED: Final = ("answered_before", "answered_after")
_IN_QUEUE: Final = (*_ANSWERED, "abort_in_queue_before", "abort_in_queue_after")
_WITHOUT_QUEUE: Final = (*_ANSWERED, "abort_before_queue", "before_queue_redirected")
_NAMES: Final = tuple(statistic.name for statistic in STATISTICS)


def _calls(pair: Pair, values: Values) -> int:
    """Count the calls of a row: in a queue those offered to agents, without one those that never came to a queue."""
    counted_ones = _WITHOUT_QUEUE if pair[1] == NO_QUEUE else _IN_QUEUE
    return int(sum(value or 0 for name, value in zip(_NAMES, values, strict=True) if name in counted_ones))


_LATELY: Final = f"in {DAYS} days"
_NO_CALLS: Final = f"no calls {_LATELY}"
_PUT: Final = (str.rjust, str.ljust, str.ljust, str.rjust, str.rjust)
_HEAD: Final = ("PROJECT", "NAME", "STATUS", "QUEUE", f"CALLS {_LATELY.upper()}")
TABLE_HEAD: Final = (
    "Calls in a queue are those answered or given up in it; in queue -1 (no queue) those answered, given up or\n"
    "redirected without one."
)


def table(found: Found) -> str:
    """Write what one customer has as a table for a terminal."""
    head = "\n  ".join([_title(found), *found.remarks]) + "\n"
    if not found.projects:
        return head
    rows = [_HEAD]
    for project, entry in found.projects.items():
        what = str(project), entry.name or "-", entry.status or "-"
        queues = found.queues(project)
        rows += [(*what, str(queue), str(calls)) for queue, calls in queues.items()] or [(*what, "-", _NO_CALLS)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(put(cell, width) for put, cell, width in zip(_PUT, row, widths, strict=True)) for row in rows)
    return head + "".join(f"  {line}\n" for line in lines)


def _title(found: Found) -> str:
    projects, queues = len(found.projects), sum(1 for _, queue in found.calls if queue != NO_QUEUE)
    what = f"{counted(projects, 'project')}, {counted(queues, 'queue')} with calls"
    return f"{found.customer}: {what} from {found.first} to {found.last}"


YAML_HEAD: Final = (
    "# Paste a customer's block, as it is indented here, below the keys of its entry in the config, in place of the\n"
    "# projects that it may have. A queue's name is its id until you write a better one; what is not listed is not\n"
    "# shown, unless the entry has other_projects: true."
)
_UNFOLDED: Final = 10_000  # characters of a line, more than any name has


def fragment(found: Found) -> str:
    """Write what one customer has as the `projects:` of its entry in the config."""
    lines = [f"# {line}" for line in (_title(found), *found.remarks)]
    lines += ["    projects:"] if found.projects else []
    for project, entry in found.projects.items():
        queues = found.queues(project)
        lines.append(f"      - id: {project}" + ("" if queues else f"  # {_NO_CALLS}"))
        lines += [f"        {_pair('name', entry.name)}"] if entry.name else []
        if NO_QUEUE in queues:
            lines.append(f"        # {counted(queues.pop(NO_QUEUE), 'call')} {_LATELY} without a queue")
        lines += ["        queues:"] if queues else []
        lines += [f"          {_pair(id_, str(id_))}  # {counted(n, 'call')} {_LATELY}" for id_, n in queues.items()]
    return "".join(f"{line}\n" for line in lines)


def _pair(key: str | int, value: str) -> str:
    """Write one key and its value, which may be any text, on one line of YAML."""
    return str(yaml.safe_dump({key: value}, allow_unicode=True, width=_UNFOLDED)).rstrip("\n")
