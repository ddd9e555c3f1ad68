"""Count how often each form of the alerts on calls fires in healthy weeks of the simulator's four call centres.

`python tools/false_alarms.py FOLDER` takes some minutes, and a new FOLDER. It writes what the exporter would have shown
minute by minute, loads it into a real Prometheus, asks that for the recorded values, and counts. The figures are in
`docs/decisions/0007-alerts.md`.
"""

import argparse
import itertools
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tools import recorded  # noqa: E402 - after the path
from tools.history import load  # noqa: E402
from tools.rules import flat  # noqa: E402
from vcc_exporter import config_file, times  # noqa: E402
from vcc_exporter.config import Customer, Targets  # noqa: E402
from vcc_exporter.simulator import CENTRES, Simulator, demo_config  # noqa: E402
from vcc_exporter.simulator.inbound import DIMENSIONS, MEASURES  # noqa: E402

COUNTED: Final = ("answered_before", "answered_after", "abort_in_queue_before", "abort_in_queue_after")
STEP_S: Final = 60
ASKED_STEP_S: Final = 120
HISTORY_DAYS: Final = 15
FIRST: Final = date(2026, 9, 7)
"""A Monday; the weeks from here on have no changed clock in Europe and America until the seventh."""
DAYS: Final = 28

Sample = tuple[str, str, float, int]
"""Name, labels, value, seconds since 1970."""
Series = Mapping[tuple[str, str], Mapping[int, float]]
"""By customer and project, values by instant."""


# What the exporter would have shown.


def shown(simulator: Simulator, customer: Customer, day: date) -> Iterator[Sample]:
    """Yield the samples of one customer's day, minute by minute, from a minute after its midnight on."""
    start = times.day_start(customer.zone, day)
    end = times.day_start(customer.zone, day + timedelta(days=1))
    first, last = (int(moment.timestamp()) for moment in (start, end))
    mine = f'customer="{customer.name}",instance="simulated",job="vcc"'
    counts: dict[tuple[int, int, str], int] = dict.fromkeys(pairs(customer.name), 0)
    calls = iter(simulator.calls(customer.name, day, day))
    call = next(calls, None)
    for at in range(first + STEP_S, last, STEP_S):
        while call and call.ended <= at:
            project, queue = DIMENSIONS["project"][1](call), DIMENSIONS["queue"][1](call)
            for name in COUNTED:
                counts[project, queue, name] += int(MEASURES[name](call, customer.project(project).sla_s) or 0)
            call = next(calls, None)
        yield "vcc_inbound_day_start_timestamp_seconds", mine, first, at
        yield "vcc_poll_last_success_timestamp_seconds", mine, at, at
        for (project, queue, name), count in counts.items():
            labels = f'{mine},project="{project}",project_name="{project}",queue="{queue}",queue_name="{queue}"'
            yield f"vcc_inbound_{name}_calls", labels, count, at


def pairs(customer: str) -> list[tuple[int, int, str]]:
    """Return all that is counted of a centre: each queue of each project, those without one among them."""
    centre = next(centre for centre in CENTRES if centre.customer == customer)
    queues = [(project.id, queue) for project in centre.projects for queue in (-1, *(q.id for q in project.queues))]
    return [(*pair, name) for pair in queues for name in COUNTED]


def write_blocks(samples: Iterable[Sample], folder: Path, data: Path) -> None:
    """Load samples into Prometheus's database, those of one UTC day at a time since promtool reads a file often."""
    days: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, labels, value, at in samples:
        days[at // 86_400][name].append(f"{name}{{{labels}}} {value} {at}\n")
    for day, families in sorted(days.items()):
        path = folder / f"{day}.om"
        path.write_text(
            "".join(f"# TYPE {name} gauge\n{''.join(lines)}" for name, lines in families.items()) + "# EOF\n"
        )
        load(path, data)


# What Prometheus makes of it.


def ask(url: str, expression: str, first: datetime, days: int, step: timedelta) -> Series:
    """Return an expression's values by project over so many days, a day at a time."""
    found: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for number in range(days):
        begins = first + timedelta(days=number)
        result = recorded.ask(url, expression, begins, begins + timedelta(days=1) - step, step)
        for series in result:
            key = series["metric"]["customer"], series["metric"]["project"]
            found[key] |= {int(at): float(value) for at, value in series["values"]}
    return found


# The forms, and how often each fires.

Values = Mapping[str, float]
"""The recorded values of one project at one instant, by short name; what is absent is not a number."""
Form = Callable[[Values, Targets], bool]

FORMS: Final[Mapping[str, tuple[int, Form]]] = {
    "service level, last hour under target": (600, lambda v, t: v["sl1h"] < t.service_level and _enough(v, t)),
    "… and today under target": (
        600,
        lambda v, t: v["sl1h"] < t.service_level and v["sl_today"] < t.service_level and _enough(v, t),
    ),
    "… and last half hour under target: VccServiceLevelLow, warning": (
        600,
        lambda v, t: max(v["sl1h"], v["sl30m"]) < t.service_level and _enough(v, t),
    ),
    "last hour beyond twice the budget": (600, lambda v, t: v["sl1h"] < 2 * t.service_level - 1 and _enough(v, t)),
    "… and last half hour": (
        600,
        lambda v, t: max(v["sl1h"], v["sl30m"]) < 2 * t.service_level - 1 and _enough(v, t),
    ),
    "… and last half hour, for 20m: VccServiceLevelLow, critical": (
        1200,
        lambda v, t: max(v["sl1h"], v["sl30m"]) < 2 * t.service_level - 1 and _enough(v, t),
    ),
    "abandonment, last hour above target": (600, lambda v, t: v["ab1h"] > t.abandonment and _enough(v, t)),
    "… and last half hour: VccAbandonmentHigh, warning": (
        600,
        lambda v, t: min(v["ab1h"], v["ab30m"]) > t.abandonment and _enough(v, t),
    ),
    "… and both above twice the target, for 20m: VccAbandonmentHigh, critical": (
        1200,
        lambda v, t: min(v["ab1h"], v["ab30m"]) > 2 * t.abandonment and _enough(v, t),
    ),
    "no calls, 5 in both past weeks": (0, lambda v, _: v["calls30m"] <= 0 and min(v["1w"], v["2w"]) >= 5),  # noqa: PLR2004
    "no calls, 5 in both past weeks, for 5m": (300, lambda v, _: v["calls30m"] <= 0 and min(v["1w"], v["2w"]) >= 5),  # noqa: PLR2004
    "no calls, 10 in both past weeks, for 5m: VccCallsStopped": (
        300,
        lambda v, _: v["calls30m"] <= 0 and min(v["1w"], v["2w"]) >= 10,  # noqa: PLR2004
    ),
}
"""By name: for how long it must hold, in seconds, and what."""

RECORDED: Final = {
    "sl1h": "project:vcc_inbound_service_level:ratio_1h",
    "sl30m": "project:vcc_inbound_service_level:ratio_30m",
    "sl_today": "project:vcc_inbound_service_level:ratio_today",
    "ab1h": "project:vcc_inbound_abandonment:ratio_1h",
    "ab30m": "project:vcc_inbound_abandonment:ratio_30m",
    "calls1h": "project:vcc_inbound_offered_calls:increase1h",
    "calls30m": "project:vcc_inbound_offered_calls:increase30m",
    "1w": "project:vcc_inbound_offered_calls:increase30m_1w",
    "2w": "project:vcc_inbound_offered_calls:increase30m_2w",
}


def _enough(values: Values, targets: Targets) -> bool:
    return values["calls1h"] >= targets.min_calls


def episodes(holds: Iterable[bool], wait_s: int) -> tuple[int, int]:
    """Count how often something held for longer than that, and at how many instants it then did."""
    runs = [len(list(run)) for held, run in itertools.groupby(holds) if held]
    silent = wait_s // ASKED_STEP_S
    firing = [run - silent for run in runs if run > silent]
    return len(firing), sum(firing)


def count(
    customer: Customer, project: int, found: Mapping[str, Series], instants: Sequence[int]
) -> dict[str, tuple[int, int]]:
    """Return how often each form fires for a project, and for how many instants, while it has been open for a while."""
    settings, key = customer.project(project), (customer.name, str(project))
    values = [{name: found[name].get(key, {}).get(at, math.nan) for name in RECORDED} for at in instants]
    rested = [_rested(settings.hours, customer, at) for at in instants]
    return {
        name: episodes((r and form(v, settings.targets) for r, v in zip(rested, values, strict=True)), wait_s)
        for name, (wait_s, form) in FORMS.items()
    }


def _rested(hours: times.Hours | None, customer: Customer, at: int) -> bool:
    """Tell whether a project has been open for half an hour."""
    ends = (datetime.fromtimestamp(at - back_s, UTC) for back_s in (0, 900, 1800))
    return hours is None or all(times.open_at(hours, customer.zone, end)[0] for end in ends)


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    data = folder / "data"
    data.mkdir(parents=True)
    simulator = Simulator(now=lambda: datetime.combine(FIRST + timedelta(days=DAYS + 2), datetime.min.time(), UTC))
    customers = config_file.parse(demo_config("http://127.0.0.1:1"), "demo", folder).customers
    days = [FIRST + timedelta(days=number) for number in range(-HISTORY_DAYS - 1, DAYS + 1)]
    write_blocks((s for c in customers for day in days for s in shown(simulator, c, day)), folder, data)
    start = datetime.combine(FIRST, datetime.min.time(), UTC)
    with recorded.serving(data) as url:
        found = {
            name: ask(url, flat(record), start, DAYS, timedelta(seconds=ASKED_STEP_S))
            for name, record in RECORDED.items()
        }
    instants = range(int(start.timestamp()), int(start.timestamp()) + DAYS * 86_400, ASKED_STEP_S)
    for customer in customers:
        for project in sorted({project for project, _, _ in pairs(customer.name)}):
            for form, (times_fired, held) in count(customer, project, found, instants).items():
                sys.stdout.write(f"{customer.name}\t{project}\t{form}\t{times_fired}\t{held * ASKED_STEP_S // 60}\n")


if __name__ == "__main__":
    main()
