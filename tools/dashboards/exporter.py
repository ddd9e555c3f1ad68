"""The exporter itself: does it poll, what does it cost, is its config good. By replica, since each one polls."""

from typing import Final

from grafana_foundation_sdk.builders import dashboard, prometheus, statetimeline, table, timeseries
from grafana_foundation_sdk.models import dashboard as models

from tools.dashboards.board import alerts, empty, finished, midnights, several
from tools.dashboards.colours import BAD, GOOD, GREY
from tools.dashboards.panels import Column, curves, exactly, query, rows, stacked, steps, timeline
from tools.dashboards.queries import ACTIVE, NEXT, SUCCESS, UP, published

TARGETS: Final = 'job=~"$job",instance=~"$instance"'
CUSTOMERS: Final = f'{TARGETS},customer=~"$customer"'
BY_TARGET: Final = "job, instance"
BY_CUSTOMER: Final = "job, instance, customer"

INFO: Final = published("vcc_exporter_build_info")
RELOADED: Final = published("vcc_exporter_config_last_reload_successful")
RELOAD: Final = published("vcc_exporter_config_last_reload_success_timestamp_seconds")
WEB_RELOADED: Final = "vcc_exporter_web_config_last_reload_successful"
"""Published with `--web.config.file` alone."""
POLLS: Final = published("vcc_polls_total")
DURATION: Final = published("vcc_poll_duration_seconds")
ROWS: Final = published("vcc_inbound_rows")
REJECTED: Final = published("vcc_inbound_rejected_rows")


def board() -> models.Dashboard:
    """Return the dashboard."""
    board = (
        empty(
            "vcc-exporter",
            "Exporter",
            "Is each customer polled, what goes wrong, and what does the exporter cost? For whoever runs it.",
        )
        .with_variable(several("job", "Job", f"label_values({INFO}, job)"))
        .with_variable(several("instance", "Exporter", f'label_values({INFO}{{job=~"$job"}}, instance)'))
        .with_variable(several("customer", "Customer", f"label_values({ACTIVE}{{{TARGETS}}}, customer)"))
        .annotation(alerts("$customer"))
        .annotation(midnights("$customer"))
    )
    for title, panels in (
        ("Customers", [_customers().span(24).height(10)]),
        ("Polls", [panel.span(12).height(8) for panel in (*_polls(), *_ages())]),
        ("States", [panel.span(12).height(8) for panel in _states()]),
        ("The process", [_exporters().span(24).height(5), *(p.span(8).height(8) for p in _process())]),
    ):
        board.with_row(dashboard.Row(title))
        for panel in panels:
            board.with_panel(panel)
    return finished(board)


def _max(family: str, by: str = BY_CUSTOMER) -> str:
    return f"max by ({by}) ({family}{{{CUSTOMERS if 'customer' in by else TARGETS}}})"


# Polls.


def _customers() -> table.Panel:
    failed = f'sum by ({BY_CUSTOMER}) (increase({POLLS}{{{CUSTOMERS},result!="success"}}[1h]))'
    up = exactly({0: "✕ no", 1: "▲ yes"}, {0: BAD, 1: GOOD})
    coloured = (
        models.DynamicConfigValue(id_val="mappings", value=[up]),
        models.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-background", "mode": "basic"}),
    )
    return rows(
        "Customers, by exporter",
        "For each customer on each exporter: whether the last poll was good and its numbers are shown, how old they"
        " are, and how long the next poll is overdue.",
        [
            Column("Last poll good", _max(UP), "none", *coloured),
            Column("Age of the numbers", f"time() - {_max(SUCCESS)}", "dtdurations"),
            Column("Next poll in", f"{_max(NEXT)} - time()", "s"),
            Column("Overdue by", _late(), "s"),
            Column("Failed polls, last hour", failed, "none"),
            Column("Rows", _max(ROWS), "none"),
            Column("Rows rejected", _max(REJECTED), "none"),
        ],
        {"customer": "Customer", "instance": "Exporter"},
        sort_by="Last poll good",
        no_value="no exporter is scraped",
        hidden=("job",),
    )


def _late() -> str:
    return f"clamp_min(time() - {_max(NEXT)}, 0)"


def _polls() -> list[timeseries.Panel]:
    by_result = f"sum by (instance, result) (rate({POLLS}{{{CUSTOMERS}}}[$__rate_interval])) > 0"
    taken, made = (
        f"sum by ({BY_CUSTOMER}) (rate({DURATION}_{part}{{{CUSTOMERS}}}[$__rate_interval]))"
        for part in ("sum", "count")
    )
    return [
        stacked(
            curves(
                "Polls by how they ended",
                "Polls a minute, by result. Anything but success has its line in the log, and its cure in the README.",
                [query(f"60 * ({by_result})", "{{result}} on {{instance}}")],
                "cpm",
                "no polls at this time",
            )
        ),
        curves(
            "How long polls take",
            "The mean time from a poll's first request to its last answer. Close to poll.timeout, polls will fail.",
            [query(f"{taken} / ({made} > 0)", "{{customer}} on {{instance}}")],
            "s",
            "no polls at this time",
        ),
    ]


def _ages() -> list[timeseries.Panel]:
    return [
        curves(
            "Age of the numbers",
            "How long ago each customer's last good poll was. A saw whose teeth are as high as the interval is"
            " healthy.",
            [query(f"time() - {_max(SUCCESS)}", "{{customer}} on {{instance}}")],
            "s",
        ),
        curves(
            "Overdue polls",
            "How long the next poll has been due and has not been made. Above a minute, the exporter is overloaded.",
            [query(_late(), "{{customer}} on {{instance}}")],
            "s",
        ),
        curves(
            "Rows",
            "Rows in the last good answer, and those of them that could not be used: the log says why.",
            [
                query(_max(ROWS), "{{customer}} on {{instance}}"),
                query(_max(REJECTED), "{{customer}} on {{instance}}, rejected"),
            ],
            "none",
        ),
    ]


# States.


def _states() -> list[statetimeline.Panel]:
    return [
        _timeline(
            "Are the numbers shown?",
            "Whether each customer's last poll was good and its numbers are shown.",
            query(_max(UP), "{{customer}} on {{instance}}"),
            {0: "✕ no", 1: "▲ yes"},
            {0: BAD, 1: GOOD},
        ),
        _timeline(
            "Is anything expected?",
            "Whether it is within the customer's schedule and hours. Outside them no alert about it fires.",
            query(_max(ACTIVE), "{{customer}} on {{instance}}"),
            {0: "◦ no", 1: "▲ yes"},
            {0: GREY, 1: GOOD},
        ),
        _timeline(
            "Is the config good?",
            "Whether the last attempt to load the config succeeded. After a bad one the exporter runs on with the old"
            " one, and its next start would fail.",
            query(_max(RELOADED, BY_TARGET), "config of {{instance}}"),
            {0: "✕ bad", 1: "▲ good"},
            {0: BAD, 1: GOOD},
        ),
        _timeline(
            "Is the web config good?",
            "The same of the web config and the files that it names. After a bad one the old one stays in force.",
            query(_max(WEB_RELOADED, BY_TARGET), "web config of {{instance}}"),
            {0: "✕ bad", 1: "▲ good"},
            {0: BAD, 1: GOOD},
            no_value="no exporter has a web config",
        ),
    ]


def _timeline(
    title: str,
    description: str,
    target: prometheus.Dataquery,
    words: dict[int, str],
    colours: dict[int, str],
    *,
    no_value: str = "nothing is known of this time",
) -> statetimeline.Panel:
    panel = timeline(title, description, target, [exactly(words, colours)], no_value)
    return panel.thresholds(steps((None, GREY)))


# The process.


def _exporters() -> table.Panel:
    return rows(
        "Exporters",
        "Each exporter that is scraped: whether it answers, its version, and how long ago it started and read its"
        " config.",
        [
            Column("Answers", f"max by ({BY_TARGET}) (up{{{TARGETS}}})", "none"),
            Column("", f"max by ({BY_TARGET}, version) ({INFO}{{{TARGETS}}})", "none"),
            Column("Up for", f"time() - {_max('process_start_time_seconds', BY_TARGET)}", "dtdurations"),
            Column("Config read", f"time() - {_max(RELOAD, BY_TARGET)}", "dtdurations"),
            Column("Customers", f"count by ({BY_TARGET}) ({ACTIVE}{{{TARGETS}}})", "none"),
        ],
        {"instance": "Exporter", "version": "Version"},
        sort_by="Exporter",
        no_value="no exporter is scraped",
        hidden=("job",),
    )


def _process() -> list[timeseries.Panel]:
    used = f"sum by ({BY_TARGET}) (rate(process_cpu_seconds_total{{{TARGETS}}}[$__rate_interval]))"
    memory = curves(
        "Memory",
        "Memory that the process holds.",
        [query(_max("process_resident_memory_bytes", BY_TARGET), "{{instance}}")],
        "bytes",
    )
    return [
        memory,
        curves("Processor", "Part of one core that the process uses.", [query(used, "{{instance}}")], "percentunit"),
        curves(
            "Open files",
            "Files and sockets that the process has open, and how many it may have.",
            [
                query(_max("process_open_fds", BY_TARGET), "{{instance}}"),
                query(_max("process_max_fds", BY_TARGET), "{{instance}}, at most"),
            ],
            "none",
        ),
        curves(
            "Time of a scrape",
            "How long Prometheus waits for the exporter's page. A scrape reads memory and waits for no poll.",
            [query(_max("scrape_duration_seconds", BY_TARGET), "{{instance}}")],
            "s",
        ),
        curves(
            "Samples of a scrape",
            "Numbers on the exporter's page: nineteen for each queue, and some more for each customer.",
            [query(_max("scrape_samples_scraped", BY_TARGET), "{{instance}}")],
            "none",
        ),
    ]
