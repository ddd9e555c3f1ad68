"""PromQL that several panels share, and the codes in which a judgement is told to a panel.

Recorded series know no replica. What the exporter publishes itself comes once for each replica; of what was polled, the
one with the newest good poll is right, as in the rules, of settings any.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from vcc_exporter.vocabulary import FAMILIES, PAIR_LABELS, STATISTICS

METRIC: Final = {statistic.name: statistic.metric for statistic in STATISTICS}
_PUBLISHED: Final = {family.name for family in FAMILIES}

TARGET: Final = "customer, job, instance"
"""One customer on one exporter."""
OLDER: Final = "replica:vcc_poll:older"
DAY: Final = "customer:vcc_inbound_day_start:newest"
SHOWN: Final = "queue:vcc_inbound_pairs:shown"
PAIR: Final = ", ".join(PAIR_LABELS)

# Beyond every distance to a target, which is from -1 to 1.
NOT_POLLED_FIRST: Final = -2
TOO_FEW: Final = 2
CLOSED: Final = 3
NOT_POLLED: Final = 4
UNKNOWN: Final = 5

# Beyond every change in calls.
NO_COMPARISON: Final = 1000
NOT_POLLED_NOW: Final = 1001


def published(name: str) -> str:
    """Return the name of a family of the exporter. Raises KeyError for one that it has not."""
    if name not in _PUBLISHED:
        raise KeyError(name)
    return name


UP: Final = published("vcc_up")
ACTIVE: Final = published("vcc_customer_active")
INFO: Final = published("vcc_customer_info")
OPEN: Final = published("vcc_inbound_open")
THRESHOLD: Final = published("vcc_inbound_sla_threshold_seconds")
MIN_CALLS: Final = published("vcc_inbound_target_min_calls")
SUCCESS: Final = published("vcc_poll_last_success_timestamp_seconds")
NEXT: Final = published("vcc_poll_next_timestamp_seconds")


@dataclass(frozen=True, slots=True)
class Promise:
    """A ratio of calls for which the config has a target."""

    ratio: str
    """The middle of the recorded names."""
    target: str
    sign: int
    """1 where more is better."""

    def distance(self, window: str, project: str) -> str:
        """Write by how much the target is kept (above 0) or missed, by project."""
        ratio = f"project:{self.ratio}:ratio_{window}{{{project}}}"
        target = setting(self.target, project)
        points = f"{ratio} - on (customer, project) group_left () {target}"
        minus = "" if self.sign > 0 else "-1 * "
        # Rounded, or in binary 80 % is not ten points below 90 %.
        return f"round({minus}max by (customer, project) ({points}), 0.0001)"


SERVICE_LEVEL: Final = Promise("vcc_inbound_service_level", published("vcc_inbound_service_level_target_ratio"), 1)
ABANDONMENT: Final = Promise("vcc_inbound_abandonment", published("vcc_inbound_abandonment_target_ratio"), -1)


# What the exporter publishes, once whatever the number of replicas.


def setting(family: str, project: str) -> str:
    """Write a setting of the config by project."""
    return f"max by (customer, project) ({family}{{{project}}})"


def newest(expression: str) -> str:
    """Write what the replica with the newest good poll says of each pair of project and queue."""
    return f"max by ({PAIR}) ({expression} unless on ({TARGET}) {OLDER})"


def statistic(name: str, pairs: str) -> str:
    """Write one of the nineteen statistics for each pair."""
    return newest(f"{METRIC[name]}{{{pairs}}}")


def total(names: Iterable[str], by: str, pairs: str) -> str:
    """Write the sum of statistics over pairs; nothing where a row lacks one, for then nobody knows the sum."""
    each = newest(" + ".join(f"{METRIC[name]}{{{pairs}}}" for name in names))
    lacking = f"{SHOWN}{{{pairs}}} unless on (customer, project, queue) {each}"
    return f"sum by ({by}) ({each}) unless on ({by}) ({lacking})"


def age(customer: str) -> str:
    """Write how many seconds ago the last good poll was, by customer."""
    return f"time() - max by (customer) ({SUCCESS}{{{customer}}})"


def not_polled(customer: str) -> str:
    """Write a condition by customer: no poll of the last minutes was good, on any replica."""
    return f"max by (customer) (max_over_time({UP}{{{customer}}}[5m])) == 0"


def overdue(customer: str) -> str:
    """Write a condition by customer: nobody asks again although it is time."""
    return f"time() - max by (customer) ({NEXT}{{{customer}}}) > 120"


def closed(project: str) -> str:
    """Write a condition by project: no callers are expected now."""
    return f"{setting(OPEN, project)} == 0"


def inactive(customer: str) -> str:
    """Write a condition by customer: nothing is expected now."""
    return f"max by (customer) ({ACTIVE}{{{customer}}}) == 0"


def too_few(window: str, project: str) -> str:
    """Write a condition by project: fewer calls than the targets judge."""
    calls = f"project:vcc_inbound_offered_calls:{'today' if window == 'today' else 'increase' + window}{{{project}}}"
    return f"max by (customer, project) ({calls}) < {setting(MIN_CALLS, project)}"


# Judgements.


def first_of(*branches: str) -> str:
    """Write what the first branch that has something says, for each series."""
    return "\nor ".join(branches)


def verdict(promise: Promise, window: str, customer: str, project: str) -> str:
    """Write the distance to a target, or a code for why there is no judgement, by project."""
    base = f"0 * {setting(promise.target, project)}"
    return first_of(
        f"{CLOSED} + {base} and on (customer, project) ({closed(project)})",
        f"{CLOSED} + {base} and on (customer) ({inactive(customer)})",
        f"{NOT_POLLED} + {base} and on (customer) ({not_polled(customer)})",
        f"{TOO_FEW} + {base} and on (customer, project) ({too_few(window, project)})",
        promise.distance(window, project),
        f"{UNKNOWN} + {base}",
    )


def judged(promise: Promise, window: str, project: str) -> str:
    """Write the distance to a target of those projects only that can be judged."""
    return (
        f"{promise.distance(window, project)}\n"
        f"unless on (customer, project) ({closed(project)})\n"
        f"unless on (customer, project) ({too_few(window, project)})"
    )


def worst(window: str, project: str) -> str:
    """Write the smallest distance to any target of any project that can be judged, by customer."""
    level, given_up = judged(SERVICE_LEVEL, window, project), judged(ABANDONMENT, window, project)
    return (
        f'min by (customer) (\nlabel_replace({level}, "of", "service level", "", "")\n'
        f'or label_replace({given_up}, "of", "abandonment", "", "")\n)'
    )


def state(customer: str) -> str:
    """Write how a customer is served, by customer, so that the smallest number is the worst."""
    base = f"0 * max by (customer) ({INFO}{{{customer}}})"
    known = f"customer:vcc_inbound_offered_calls:increase1h{{{customer}}}"
    return first_of(
        f"{CLOSED} + {base} and on (customer) ({inactive(customer)})",
        f"{NOT_POLLED_FIRST} + {base} and on (customer) ({not_polled(customer)})",
        worst("1h", customer),
        f"{TOO_FEW} + {base} and on (customer) {known}",
        f"{UNKNOWN} + {base}",
    )


# Text beside a judgement. A panel colours by one number only, so the number that people read is a label of it.


def spelt(value: str, label: str, text: str, by: str) -> str:
    """Write 1 with the value in a label; `$1` in `text` stands for it."""
    counted = f'count_values by ({by}) ("{label}", {value})'
    return f'label_replace({counted}, "{label}", "{text}", "{label}", "(.+)")'


def with_text(judgement: str, shown: str, otherwise: str, by: str) -> str:
    """Write a judgement with the label `shown`; a dash where there is nothing to show."""
    dash = f'label_replace(1 + 0 * {otherwise}, "shown", "-", "", "")'
    return f"(\n{judgement}\n)\n* on ({by}) group_left (shown) (\n{shown}\nor on ({by}) {dash}\n)"


# Time.

_DAYS_APART: Final = {"168h": 604800, "167h": 601200, "169h": 608400}
"""How far a day begins from the same weekday's a week before: an hour off where clocks were changed between."""


def last_week(series: Callable[[str], str], customer: str) -> str:
    """Write what was at the same time by the clock one week before. `series` takes the offset."""
    day = f"{DAY}{{{customer}}}"
    return first_of(
        *(
            f"{series(f' offset {offset}')} and on (customer) ({day} - {day} offset {offset} == {seconds})"
            for offset, seconds in _DAYS_APART.items()
        )
    )


def lately(series: Callable[[str], str], customer: str) -> str:
    """Write what a sum that counts the day grew by within the last hour, or since midnight.

    For what the rules do not record. `series` takes the offset and keeps the customer.
    """
    begins = f"({DAY}{{{customer}}} > time() - 3720)"
    same = f"customer:vcc_inbound_day_start:same1h{{{customer}}}"
    now, before = series(""), series(" offset 1h")
    return f"({now} and on (customer) {begins}\nor {now} - ({before} and on (customer) {same}))"
