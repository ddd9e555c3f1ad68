"""The fleet: every customer on one line, the worst first."""

from typing import Final

from grafana_foundation_sdk.builders import stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import dashboard as models

from tools.dashboards import queries
from tools.dashboards.board import CUSTOMERS, alerts, empty, finished, midnights, several
from tools.dashboards.panels import (
    NEAR,
    NO_JUDGEMENT,
    Column,
    curves,
    exactly,
    figure,
    instant,
    judged_cell,
    linked_cell,
    query,
    ranges,
    rows,
    timeline,
)

CUSTOMER: Final = 'customer=~"$customer"'
_GO: Final = "?var-customer=${__value.raw:percentencode}&var-datasource=${datasource}&${__url_time_range}"

WORDS: Final[list[models.ValueMapping]] = [
    exactly({queries.NOT_POLLED_FIRST: "✕ not polled", **NO_JUDGEMENT}),
    *ranges((0, 1, "▲ on target"), (-NEAR, 0, "▼ just missed"), (-1, -NEAR, "▼▼ far off")),
]


def board() -> models.Dashboard:
    """Return the dashboard."""
    return finished(
        empty("vcc-fleet", "Fleet", "Which customer needs help first? Every customer on one line, the worst on top.")
        .with_variable(several("customer", "Customer", CUSTOMERS))
        .annotation(alerts("$customer"))
        .annotation(midnights("$customer"))
        .with_panel(_count("Customers", "Customers in the exporter's config.", "", "0"))
        .with_panel(_count("Off target", "Customers with a project that misses a target in the last hour.", "< 0", "0"))
        .with_panel(
            _count(
                "Not polled", "Customers of which no recent poll was good, in their hours.", f"== {_NOT_POLLED}", "0"
            )
        )
        .with_panel(
            _count(
                "On target", "Customers all of whose projects that can be judged keep their targets.", "<= 1 >= 0", "0"
            )
        )
        .with_panel(_table().span(24).height(12))
        .with_panel(_states().span(24).height(9))
        .with_panel(_levels().span(12).height(9))
        .with_panel(_calls().span(12).height(9))
    )


_NOT_POLLED: Final = str(queries.NOT_POLLED_FIRST)


def _count(title: str, description: str, condition: str, no_value: str) -> stat.Panel:
    wanted = f"({queries.state(CUSTOMER)}) {condition}"
    if condition == "< 0":
        wanted += f" > {_NOT_POLLED}"
    return (
        figure(title, description, instant(f"count({wanted.strip()}) or vector(0)", "customers"), no_value, "none")
        .span(6)
        .height(4)
    )


def _table() -> table.Panel:
    seconds, part = "s", "percentunit"
    columns = [
        Column("State", queries.state(CUSTOMER), "short", *judged_cell(WORDS)),
        Column("In time, last hour", _recorded("customer:vcc_inbound_service_level:ratio_1h"), part),
        Column("In time, today", _recorded("customer:vcc_inbound_service_level:ratio_today"), part),
        Column("Given up, last hour", _recorded("customer:vcc_inbound_abandonment:ratio_1h"), part),
        Column("Given up, today", _recorded("customer:vcc_inbound_abandonment:ratio_today"), part),
        Column("Mean wait, today", _recorded("customer:vcc_inbound_answer_wait_seconds:mean_today"), seconds),
        Column("Calls, last hour", _recorded("customer:vcc_inbound_offered_calls:increase1h"), "none"),
        Column("Calls, today", _recorded("customer:vcc_inbound_offered_calls:today"), "none"),
        Column("Last week by now", f"max by (customer) ({queries.last_week(_today, CUSTOMER)})", "none"),
        Column("Age of the numbers", queries.age(CUSTOMER), "dtdurations"),
    ]
    return rows(
        "Customers, the worst first",
        "How each customer's callers are served. The state is that of the project that is furthest from its target for"
        " being answered in time or for giving up, in the last hour. A customer that is not polled stands on top:"
        " nobody knows how it is doing. Click on a name for its own dashboard.",
        columns,
        {"customer": "Customer"},
        sort_by="State",
        no_value="no customers: is the exporter up?",
    ).override_by_name(
        "Customer",
        linked_cell(
            ("This customer's day", f"/d/vcc-customer{_GO}"),
            ("Its wallboard", f"/d/vcc-wallboard{_GO}"),
            ("Its polls", f"/d/vcc-exporter{_GO}"),
        ),
    )


def _recorded(name: str) -> str:
    """Write a recorded series without its name."""
    return f"max by (customer) ({name}{{{CUSTOMER}}})"


def _today(offset: str = "") -> str:
    return f"customer:vcc_inbound_offered_calls:today{{{CUSTOMER}}}{offset}"


def _states() -> statetimeline.Panel:
    return timeline(
        "How it went",
        "Each customer's state over the day, as in the table.",
        query(queries.state(CUSTOMER), "{{customer}}"),
        WORDS,
        "nothing is known of this time",
    )


def _levels() -> timeseries.Panel:
    return curves(
        "Answered in time, last hour",
        "The part of each customer's calls that was answered in time, of the hour before each moment.",
        [query(f"customer:vcc_inbound_service_level:ratio_1h{{{CUSTOMER}}}", "{{customer}}")],
        "percentunit",
    ).max(1)


def _calls() -> timeseries.Panel:
    return curves(
        "Calls in the last hour",
        "Calls that were answered or given up within the hour before each moment.",
        [query(f"customer:vcc_inbound_offered_calls:increase1h{{{CUSTOMER}}}", "{{customer}}")],
        "none",
    )
