"""The four call centres of the model and of the demo, as a table.

Parameters are those of the project's call-centre model: bank, webshop, roadside assistance, utility. Ours are the
names, the split into projects, queues and teams, and the zones, chosen so that at any hour of a week one of them
is busy: Sunday's quiet hours in Helsinki lie between the webshop's Saturday and the utility's Monday.
"""

import math
from dataclasses import replace
from datetime import date, timedelta
from hashlib import sha256
from typing import Final

from vcc_exporter.simulator.calls import HALF_HOUR_S, RING_S, Centre, Lognormal, Patience, Project, Queue


def _half_hours(hourly: str) -> str:
    """Values by the hour as values by the half hour."""
    return " ".join(f"{value} {value}" for value in hourly.split())


def _weights(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split()))


def _agents(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))


AFTER_HOLIDAYS: Final = {(1, 2), (3, 16), (5, 2), (8, 21), (10, 24), (11, 2), (12, 27)}
"""Month and day after Hungary's fixed holidays."""
PAYDAY: Final = 10
MORNING: Final = range(6, 10)


def _payday(day: date, _hour: int) -> float:
    """More calls on the tenth and after holidays."""
    return 1.15 if day.day == PAYDAY or (day.month, day.day) in AFTER_HOLIDAYS else 1.0


def _christmas(day: date, _hour: int) -> float:
    """More calls from Black Friday to 20 December."""
    earliest = date(day.year, 11, 23)
    black_friday = earliest + timedelta(days=(4 - earliest.weekday()) % 7)
    return 1.6 if black_friday <= day <= date(day.year, 12, 20) else 1.0


def _frost(day: date, hour: int) -> float:
    """Cars that do not start: one winter morning in six, the same ones for every seed."""
    cold = day.month in {12, 1, 2} and sha256(f"frost {day}".encode()).digest()[0] % 6 == 0
    return 2.5 if cold and hour in MORNING else 1.0


def _yearly_bills(day: date, _hour: int) -> float:
    """Bills go out in the first half of July, after the end of Australia's financial year."""
    return 1.2 if date(day.year, 7, 1) <= day <= date(day.year, 7, 15) else 1.0


BANK: Final = Centre(
    customer="bank",
    key="demo-key-of-the-bank",
    zone="Europe/Budapest",
    sla_s=30,
    opens=9,
    base=620,
    weekdays=(1.25, 1.05, 0.95, 0.95, 0.8, 0, 0),
    day_cv=0.10,
    slot_cv=0.08,
    talk=Lognormal(195, 1.1),
    wrap_up_s=30,
    patience=Patience(0.03, 420, 600),
    ivr=Lognormal(35, 0.5),
    dropped=0.05,
    redirected=0.02,
    weights=_weights(".75 .95 1.2 1.3 1.25 1.15 1 .9 .85 .95 1.05 1.1 1.1 1.05 1 .9 .8 .7"),
    agents=_agents("5 6 7 8 8 7 6 6 6 6 7 7 7 7 6 6 6 5"),
    season=_payday,
    projects=(
        Project(101, "Retail banking", (1, 2), (Queue(1101, "Accounts", 0.55), Queue(1102, "Loans", 0.35))),
        Project(102, "Lost cards", (3,), (Queue(1201, "Card blocking", 0.1, priority=0),)),
        Project(103, "Personal bankers", (4,), (), direct=0.06),
    ),
)

WEBSHOP: Final = Centre(
    customer="webshop",
    key="demo-key-of-the-webshop",
    zone="America/Los_Angeles",
    sla_s=20,
    opens=8,
    base=420,
    weekdays=(1.25, 1.1, 1, 1, 0.95, 0.7, 0),
    day_cv=0.15,
    slot_cv=0.10,
    talk=Lognormal(165, 0.9),
    wrap_up_s=25,
    patience=Patience(0.05, 240, 480),
    ivr=Lognormal(20, 0.5),
    dropped=0.04,
    redirected=0.01,
    weights=_weights(".5 .65 .85 1 1.15 1.25 1.25 1.2 1.1 1.05 1.05 1.05 1.05 1.1 1.1 1.1 1.1 1.05 1 1 .95 .9 .8 .7"),
    agents=_agents("2 2 3 3 3 4 4 4" + " 3" * 16),
    season=_christmas,
    projects=(
        Project(
            201,
            "Orders",
            (1, 2),
            (Queue(2101, "Orders", 0.6, overflow_s=45, overflow_to=2102), Queue(2102, "Orders, overflow", 0)),
        ),
        Project(202, "Returns", (2,), (Queue(2201, "Returns", 0.4),)),
    ),
)

ROADSIDE: Final = Centre(
    customer="roadside",
    key="demo-key-of-the-roadside",
    zone="Europe/Helsinki",
    sla_s=20,
    opens=0,
    base=330,
    weekdays=(1.1, 0.95, 0.95, 0.98, 1.12, 1, 0.9),
    day_cv=0.18,
    slot_cv=0.12,
    talk=Lognormal(240, 0.7),
    wrap_up_s=60,
    patience=Patience(0.02, 600, 1200),
    ivr=Lognormal(10, 0.3),
    dropped=0.02,
    redirected=0,
    weights=_weights(
        _half_hours(".45 .35 .3 .27 .25 .35 .65 1.2 1.6 1.6 1.45 1.4 1.35 1.35 1.35 1.4 1.55 1.7 1.5 1.25 1 .8 .65 .53")
    ),
    agents=_agents(_half_hours("2 2 2 2 2 2 3" + " 4" * 10 + " 5 4 4 3 3 3 3")),
    season=_frost,
    projects=(
        Project(301, "Breakdowns", (1, 2), (Queue(3101, "Breakdown", 0.7), Queue(3102, "Accident", 0.15, priority=0))),
        Project(302, "Membership", (2,), (Queue(3201, "Members", 0.15),)),
    ),
)

UTILITY: Final = Centre(
    customer="utility",
    key="demo-key-of-the-utility",
    zone="Australia/Sydney",
    sla_s=30,
    opens=7,
    base=900,
    weekdays=(1.3, 1.1, 1, 0.95, 0.85, 0, 0),
    day_cv=0.12,
    slot_cv=0.08,
    talk=Lognormal(225, 1.0),
    wrap_up_s=40,
    patience=Patience(0.03, 540, 900, shape=0.9),
    ivr=Lognormal(50, 0.6),
    dropped=0.08,
    redirected=0.04,
    weights=_weights(".5 .7 1.1 1.35 1.5 1.5 1.4 1.3 1.2 1.1 1.05 1 1 1 1 1.05 1.05 1 .9 .8 .7 .65 .55 .5 .45 .4"),
    agents=_agents("4 5 7 9 9 9 9 8 8" + " 7" * 9 + " 6 6 5 5 4 4 4 4"),
    season=_yearly_bills,
    projects=(
        Project(401, "Billing", (1, 2), (Queue(4101, "Bills", 0.55), Queue(4102, "Moving house", 0.25))),
        Project(402, "Supply", (2, 3), (Queue(4201, "Power failure", 0.2, priority=0),)),
    ),
)

CENTRES: Final = (BANK, WEBSHOP, ROADSIDE, UTILITY)


def larger(centre: Centre, times: float) -> Centre:
    """Return a centre with so many times the calls, and agents for about the same service.

    The safety above the load grows with the root of the load (square-root staffing), not with the load.
    """
    busy_s = centre.talk.mean_s + centre.wrap_up_s + sum(RING_S) / 2
    queued = centre.base * (1 - centre.dropped - centre.redirected) / sum(centre.weights) / HALF_HOUR_S
    agents = []
    for weight, number in zip(centre.weights, centre.agents, strict=True):
        load = queued * weight * busy_s
        agents.append(math.ceil(times * load + math.sqrt(times) * (number - load)))
    return replace(centre, base=centre.base * times, agents=tuple(agents))
