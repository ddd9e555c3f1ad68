"""One customer's day, by project and queue, down to each of the nineteen statistics."""

from typing import Final

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import dashboard as models

from tools.dashboards import queries
from tools.dashboards.board import CUSTOMERS, alerts, empty, finished, midnights, named, one, several
from tools.dashboards.colours import BAD, GOOD, GREY, WARN
from tools.dashboards.panels import Column, curves, exactly, figure, instant, line, query, rows, stacked
from vcc_exporter.vocabulary import STATISTICS, Kind

CUSTOMER: Final = 'customer="$customer"'
PROJECTS: Final = f'{CUSTOMER},project=~"$project"'
QUEUES: Final = f'{PROJECTS},queue=~"$queue"'


def board() -> models.Dashboard:
    """Return the dashboard."""
    board = (
        empty(
            "vcc-customer",
            "Customer and queue",
            "How does one customer's day go, and which queue is it? Each of the vendor's nineteen statistics is here.",
        )
        .with_variable(one("customer", "Customer", CUSTOMERS))
        .with_variable(several("project", "Project", *named("project", CUSTOMER)))
        .with_variable(several("queue", "Queue", *named("queue", PROJECTS)))
        .annotation(alerts("$customer"))
        .annotation(midnights("$customer"))
    )
    for title, panels in (
        ("Today so far, of the queues chosen above", _today()),
        ("The day against the same weekday last week", _day()),
        ("Waiting", _waiting()),
        ("Answered and given up, before and after the threshold", _thresholds()),
        ("Talking", _talking()),
        ("Redirected, and gone before any queue", _elsewhere()),
        ("By the wait in the last queue alone", _last_queue()),
        ("By queue", [_by_queue().span(24).height(10)]),
        ("All nineteen statistics", _statistics()),
    ):
        board.with_row(dashboard.Row(title))
        for panel in panels:
            board.with_panel(panel)
    return finished(board)


def _sum(name: str, operation: str = "today", offset: str = "") -> str:
    """Write the sum of something recorded over the chosen queues."""
    return f"sum(queue:vcc_inbound_{name}:{operation}{{{QUEUES}}}{offset})"


def _part(over: str, under: str, operation: str = "today") -> str:
    return f"{_sum(over, operation)} / ({_sum(under, operation)} > 0)"


def _all(name: str) -> str:
    """Write one statistic's sum over the chosen queues."""
    return f"sum({queries.statistic(name, QUEUES)})"


# Today.


_FIGURES: Final = (
    ("Calls", "Calls that were answered or given up in a queue since midnight.", _sum("offered_calls"), "none"),
    ("Answered", "Calls that an agent answered.", _sum("answered_calls"), "none"),
    ("Given up", "Calls whose callers hung up in a queue, early ones included.", _sum("abandoned_calls"), "none"),
    (
        "Answered in time",
        "The part of the calls that was answered before the threshold.",
        _part("answered_in_time_calls", "offered_calls"),
        "percentunit",
    ),
    (
        "Given up, part",
        "The part of the calls that was given up in a queue.",
        _part("abandoned_calls", "offered_calls"),
        "percentunit",
    ),
    (
        "Given up, without early ones",
        "The same without those who hung up within five seconds, on both sides.",
        _part("abandoned_without_early_calls", "offered_without_early_calls"),
        "percentunit",
    ),
    (
        "In time, without early ones",
        "The part answered before the threshold, with those who hung up within five seconds taken out.",
        _part("answered_in_time_calls", "offered_without_early_calls"),
        "percentunit",
    ),
    (
        "Mean wait",
        "How long those who were answered had waited in a queue, on average.",
        _part("answer_wait_seconds", "answered_calls"),
        "s",
    ),
    (
        "Mean talk",
        "How long the talks of the answered calls took, on average.",
        _part("talk_seconds", "answered_calls"),
        "s",
    ),
    (
        "Too late",
        "Calls that waited for the threshold or longer, answered then or given up.",
        f"{_all('answered_after')} + {_all('abort_in_queue_after')}",
        "none",
    ),
    ("Calls, last hour", "Calls of the last hour.", _sum("offered_calls", "increase1h"), "none"),
    (
        "Age of the numbers",
        "How long ago the vendor last answered: all numbers are as of then.",
        queries.age(CUSTOMER),
        "dtdurations",
    ),
)
"""Title, description, query and unit of each number of the day."""


def _today() -> list[stat.Panel]:
    panels = [figure(title, words, instant(text, title), "not known", unit) for title, words, text, unit in _FIGURES]
    return [panel.span(4).height(4) for panel in panels]


# Curves.


def _day() -> list[timeseries.Panel]:
    so_far = curves(
        "Calls so far",
        "Calls since midnight, beside the same weekday of last week at the same time by the clock.",
        [
            query(_sum("offered_calls"), "this day"),
            query(
                queries.last_week(lambda offset: _by_customer("offered_calls", "today", offset), CUSTOMER), "last week"
            ),
        ],
        "none",
    )
    hourly = curves(
        "Calls in the last hour",
        "Calls of the hour before each moment, beside the same weekday of last week.",
        [
            query(_sum("offered_calls", "increase1h"), "this day"),
            query(
                queries.last_week(lambda offset: _by_customer("offered_calls", "increase1h", offset), CUSTOMER),
                "last week",
            ),
        ],
        "none",
    )
    both = [line(line(panel, "this day", GOOD), "last week", GREY, dashed=True) for panel in (so_far, hourly)]
    return [panel.span(12).height(9) for panel in (*both, _levels(), _abandonment())]


def _by_customer(name: str, operation: str, offset: str) -> str:
    return f"sum by (customer) (queue:vcc_inbound_{name}:{operation}{{{QUEUES}}}{offset})"


def _lines(over: str) -> list[prometheus.Dataquery]:
    """Return a part of the calls lately and today."""
    spans = (("increase30m", "last half hour"), ("increase1h", "last hour"), ("today", "today"))
    return [query(_part(over, "offered_calls", operation), legend) for operation, legend in spans]


def _target(promise: queries.Promise) -> str:
    """Write the chosen projects' targets, by name."""
    names = f"group by (customer, project, project_name) (project:vcc_inbound_offered_calls:today{{{PROJECTS}}})"
    target = queries.setting(promise.target, PROJECTS)
    return f"{target} * on (customer, project) group_right () {names}"


def _levels() -> timeseries.Panel:
    panel = curves(
        "Answered in time",
        "The part of the chosen queues' calls answered before the threshold: in the last half hour, in the last hour,"
        " and since midnight; and each chosen project's target. Today's line hardly moves in the evening.",
        [*_lines("answered_in_time_calls"), query(_target(queries.SERVICE_LEVEL), "target of {{project_name}}")],
        "percentunit",
    )
    panel = line(line(panel, "last half hour", WARN), "last hour", GOOD)
    return line(panel, "today", GREY, dashed=True).max(1)


def _abandonment() -> timeseries.Panel:
    panel = curves(
        "Given up",
        "The part of the chosen queues' calls that was given up: in the last half hour, in the last hour, and since"
        " midnight; and the most that each chosen project's target allows.",
        [*_lines("abandoned_calls"), query(_target(queries.ABANDONMENT), "target of {{project_name}}")],
        "percentunit",
    )
    return line(line(line(panel, "last half hour", WARN), "last hour", BAD), "today", GREY, dashed=True)


def _waiting() -> list[timeseries.Panel]:
    waited = queries.lately(lambda offset: _by_customer("answer_wait_seconds", "today", offset), CUSTOMER)
    answered = queries.lately(lambda offset: _by_customer("answered_calls", "today", offset), CUSTOMER)
    panels = (
        curves(
            "Mean wait of the answered",
            "How long those who were answered had waited, since midnight: in all queues together, and in the last one"
            " alone. A gap between the two means that calls overflow.",
            [
                query(_part("answer_wait_seconds", "answered_calls"), "all queues"),
                query(f"{_all('last_queue_time')} / ({_sum('answered_calls')} > 0)", "last queue alone"),
            ],
            "s",
        ),
        curves(
            "Wait of those who gave up",
            "The vendor's averages of the day, by queue: how long callers waited before they gave up, and how long all"
            " waited who were not answered. Averages cannot be added over queues.",
            [
                query(queries.statistic("abort_case_queue_time", QUEUES), "{{queue_name}}: gave up"),
                query(queries.statistic("queue_time_without_talktime", QUEUES), "{{queue_name}}: not answered"),
            ],
            "s",
        ),
        curves(
            "Menu and announcement",
            "The vendor's average of the day, by queue: how long calls took before they entered it. Legal clocks often"
            " start with this time, the queue's clock after it.",
            [query(queries.statistic("time_before_queue", QUEUES), "{{queue_name}}")],
            "s",
        ),
        curves(
            "Mean wait of the answered, last hour",
            "How long those who were answered within the hour before each moment had waited.",
            [query(f"{waited} / ({answered} > 0)", "last hour")],
            "s",
        ),
    )
    return [panel.span(12).height(8) for panel in panels]


def _thresholds() -> list[timeseries.Panel]:
    answered = curves(
        "Answered",
        "Calls that an agent answered since midnight: before the threshold, and after it.",
        [query(_all("answered_before"), "in time"), query(_all("answered_after"), "late")],
        "none",
    )
    given_up = curves(
        "Given up",
        "Calls given up in a queue since midnight: within five seconds, later but before the threshold, and after it."
        " Early ones are part of those before.",
        [
            query(_all("abort_in_queue_early"), "within 5 s"),
            query(f"{_all('abort_in_queue_before')} - {_all('abort_in_queue_early')}", "before the threshold"),
            query(_all("abort_in_queue_after"), "after the threshold"),
        ],
        "none",
    )
    first = line(line(stacked(answered), "in time", GOOD), "late", BAD)
    second = line(line(stacked(given_up), "within 5 s", GREY), "before the threshold", WARN)
    return [panel.span(12).height(8) for panel in (first, line(second, "after the threshold", BAD))]


def _talking() -> list[timeseries.Panel]:
    panels = (
        curves(
            "Mean talk time",
            "How long the answered calls' talks took since midnight, on average. Wrap-up and hold are not in it.",
            [query(_part("talk_seconds", "answered_calls"), "all chosen queues")],
            "s",
        ),
        curves(
            "Talk time in all",
            "How long agents and callers talked since midnight, all together, by queue.",
            [query(queries.statistic("talk_time", QUEUES), "{{queue_name}}")],
            "s",
        ),
    )
    return [panel.span(12).height(8) for panel in panels]


def _elsewhere() -> list[timeseries.Panel]:
    panels = (
        curves(
            "Redirected",
            "Calls that the system sent elsewhere since midnight: by the menu before any queue, or after a wait in one."
            " They are neither answered nor given up.",
            [
                query(_all("before_queue_redirected"), "before a queue"),
                query(_all("after_queue_redirected"), "after a queue"),
            ],
            "none",
        ),
        curves(
            "Given up before any queue",
            "Callers who hung up in the menu or the announcement since midnight. They are in no service level.",
            [query(_all("abort_before_queue"), "in the menu")],
            "none",
        ),
    )
    return [panel.span(12).height(8) for panel in panels]


def _last_queue() -> list[timeseries.Panel]:
    panels = (
        curves(
            "Answered, by the last queue's wait",
            "As above, but measured by the wait in the last queue alone: who waited long in another one counts as in"
            " time here.",
            [query(_all("last_answered_before"), "in time"), query(_all("last_answered_after"), "late")],
            "none",
        ),
        curves(
            "Given up, by the last queue's wait",
            "As above, but measured by the wait in the last queue alone; those within five seconds are part of those"
            " before the threshold.",
            [
                query(_all("last_abort_in_queue_early"), "within 5 s"),
                query(_all("last_abort_in_queue_before"), "before the threshold"),
                query(_all("last_abort_in_queue_after"), "after the threshold"),
            ],
            "none",
        ),
    )
    return [panel.span(12).height(8) for panel in panels]


# Tables.


def _recorded(name: str) -> str:
    """Write a recorded series by queue, without its name."""
    return f"max by ({queries.PAIR}) ({name}{{{QUEUES}}})"


def _by_queue() -> table.Panel:
    part = "percentunit"
    columns = [
        Column("In time, last hour", _recorded("queue:vcc_inbound_service_level:ratio_1h"), part),
        Column("In time, today", _recorded("queue:vcc_inbound_service_level:ratio_today"), part),
        Column("Given up, last hour", _recorded("queue:vcc_inbound_abandonment:ratio_1h"), part),
        Column("Given up, today", _recorded("queue:vcc_inbound_abandonment:ratio_today"), part),
        Column("Mean wait", _recorded("queue:vcc_inbound_answer_wait_seconds:mean_today"), "s"),
        Column("Mean talk", _recorded("queue:vcc_inbound_talk_seconds:mean_today"), "s"),
        Column("Calls, last hour", _recorded("queue:vcc_inbound_offered_calls:increase1h"), "none"),
        Column("Calls", _recorded("queue:vcc_inbound_offered_calls:today"), "none"),
        Column("Answered", _recorded("queue:vcc_inbound_answered_calls:today"), "none"),
        Column("Given up", _recorded("queue:vcc_inbound_abandoned_calls:today"), "none"),
    ]
    return rows(
        "Queues",
        "Today and the last hour of each chosen queue, the lowest part answered in time first. “no queue” holds the"
        " calls that never entered one: they went straight to an agent, or ended in the menu.",
        columns,
        {"project_name": "Project", "queue_name": "Queue"},
        sort_by="In time, last hour",
        hidden=("customer", "project", "queue"),
    )


def _statistics() -> list[table.Panel]:
    return [
        _summed(Kind.COUNT, "Calls", "none").span(12).height(14),
        _summed(Kind.SUM, "Time", "s").span(12).height(7),
        _averages().span(12).height(7),
    ]


def _pattern(kind: Kind) -> str:
    return "|".join(statistic.metric for statistic in STATISTICS if statistic.kind is kind)


def _words() -> list[models.DynamicConfigValue]:
    """Return the vendor's names of the statistics with our words."""
    words = {statistic.name: f"{statistic.words} ({statistic.name})" for statistic in STATISTICS}
    return [models.DynamicConfigValue(id_val="mappings", value=[exactly(words)])]


def _by_name(kind: Kind) -> str:
    """Write all statistics of a kind by pair, with their documented names in a label."""
    pairs = f'{{__name__=~"{_pattern(kind)}",{QUEUES}}}'
    newest = f"max by (__name__, {queries.PAIR}) ({pairs} unless on ({queries.TARGET}) {queries.OLDER})"
    unit = "calls" if kind is Kind.COUNT else "seconds"
    return f'label_replace({newest}, "statistic", "$1", "__name__", "vcc_inbound_(.+)_{unit}")'


def _summed(kind: Kind, title: str, unit: str) -> table.Panel:
    return rows(
        f"{title}, in the vendor's words",
        "Each of the vendor's statistics that can be added up, over the chosen queues, since midnight. To hold"
        " against the vendor's own screen.",
        [Column("Today", f"sum by (statistic) ({_by_name(kind)})", unit)],
        {"statistic": "Statistic"},
        sort_by="Statistic",
    ).override_by_name("Statistic", _words())


def _averages() -> table.Panel:
    return rows(
        "Averages, in the vendor's words",
        "The vendor's averages, by queue, since midnight: they cannot be added up.",
        [Column("Today", f"max by (statistic, project_name, queue_name) ({_by_name(Kind.AVERAGE)})", "s")],
        {"statistic": "Statistic", "project_name": "Project", "queue_name": "Queue"},
        sort_by="Statistic",
    ).override_by_name("Statistic", _words())
