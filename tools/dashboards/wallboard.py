"""The wallboard: one project, one screen, legible from ten metres. Who sees it cannot click."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from grafana_foundation_sdk.builders import common, stat
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from tools.dashboards import queries
from tools.dashboards.board import CUSTOMERS, alerts, empty, finished, midnights, named, one
from tools.dashboards.colours import BAD, GOOD, GREY, WARN
from tools.dashboards.panels import (
    JUDGED,
    NO_JUDGEMENT,
    coloured,
    exactly,
    figure,
    instant,
    judgement_words,
    ranges,
    steps,
)
from tools.dashboards.queries import ABANDONMENT, SERVICE_LEVEL, Promise

CUSTOMER: Final = 'customer="$customer"'
PROJECT: Final = 'customer="$customer",project="$project"'
BY_PROJECT: Final = "customer, project"

NOTHING: Final = "no numbers at all"

FRESH, LATE, GONE, OFF, NEW_DAY = range(5)
"""Codes for how old the numbers are."""


def board() -> models.Dashboard:
    """Return the dashboard."""
    top, below = (list(row) for row in (_promised(), _calls()))
    result = (
        empty(
            "vcc-wallboard",
            "Wallboard",
            "Is one project's promise to its callers kept, in the last hour and today? For a screen on the wall.",
        )
        .with_variable(one("customer", "Customer", CUSTOMERS))
        .with_variable(one("project", "Project", *named("project", CUSTOMER)))
        .annotation(alerts("$customer"))
        .annotation(midnights("$customer"))
    )
    for big, small in (*_halves(top), *_halves(below)):
        for panel in (big, small):
            for each in panel:
                result.with_panel(each)
    return finished(result)


def _halves(row: list[tuple[stat.Panel, stat.Panel]]) -> Iterator[tuple[list[stat.Panel], list[stat.Panel]]]:
    """Yield a row's big numbers and, for below them, the small print."""
    width = 24 // len(row)
    yield [big.span(width).height(9) for big, _ in row], [small.span(width).height(4) for _, small in row]


def _promised() -> Iterator[tuple[stat.Panel, stat.Panel]]:
    yield (
        _judged(
            "Answered in time, last hour",
            "Of the calls that ended within the last hour, the part that an agent answered before the threshold. The"
            " colour and the words say how far that is from this project's own target.",
            SERVICE_LEVEL,
            "1h",
            "below",
        ),
        _level_target("in time, last hour"),
    )
    yield (
        _judged(
            "Answered in time, today",
            "The same of all calls since midnight in the customer's time zone. Late in the day it hardly moves: look at"
            " the last hour first.",
            SERVICE_LEVEL,
            "today",
            "below",
        ),
        _level_target("in time, today"),
    )
    yield _as_of(), _whose()


def _calls() -> Iterator[tuple[stat.Panel, stat.Panel]]:
    yield (
        _judged(
            "Given up, last hour",
            "Of the calls that ended within the last hour, the part whose callers hung up while they waited in a"
            " queue.",
            ABANDONMENT,
            "1h",
            "above",
        ),
        _small(
            "given up, last hour",
            "At most this part of the callers may give up; the config says so.",
            queries.spelt(
                f"round(100 * {queries.setting(ABANDONMENT.target, PROJECT)}, 0.1)", "shown", "$1 %", BY_PROJECT
            ),
            "target: at most {{shown}}",
        ),
    )
    yield _wait(), _late_from()
    yield _against_last_week(), _last_week()
    yield _late(), _late_words()


def _judged(title: str, description: str, promise: Promise, window: str, missed: str) -> stat.Panel:
    ratio = f"project:{promise.ratio}:ratio_{window}{{{PROJECT}}}"
    shown = queries.spelt(f"round(100 * max by ({BY_PROJECT}) ({ratio}), 0.1)", "shown", "$1 %", BY_PROJECT)
    judgement = queries.verdict(promise, window, CUSTOMER, PROJECT)
    text = queries.with_text(judgement, shown, queries.setting(promise.target, PROJECT), BY_PROJECT)
    panel = _worded(figure(title, description, instant(text, "{{shown}}"), NOTHING))
    return coloured(panel.mappings(judgement_words(missed)), JUDGED)


def _worded(panel: stat.Panel, size: int = 120) -> stat.Panel:
    """Show the name of a number, which says how much, above the number, which is said in words."""
    sizes = common.VizTextDisplayOptions().title_size(size).value_size(36)
    return panel.text_mode(common_models.BigValueTextMode.VALUE_AND_NAME).wide_layout(False).text(sizes)


def _small(heading: str, description: str, expression: str, legend: str) -> stat.Panel:
    """Return two lines of text below a big number: what it is, and what it is held against.

    A panel's own title is too small for ten metres. The values of these queries are only there to be named.
    """
    panel = figure(f"{heading}: what it means", description, instant("vector(1)", heading), "-", "none")
    panel.with_target(instant(expression, legend).ref_id("B"))
    sizes = common.VizTextDisplayOptions().title_size(32).value_size(32)
    panel.text_mode(common_models.BigValueTextMode.NAME).orientation(common_models.VizOrientation.HORIZONTAL)
    return panel.text(sizes).transparent(True)


def _level_target(heading: str) -> stat.Panel:
    target = f"round(100 * {queries.setting(SERVICE_LEVEL.target, PROJECT)}, 0.1)"
    return _small(
        heading,
        "The promise: at least this part of the calls is answered before this many seconds; the config says so.",
        f"{queries.spelt(target, 'shown', '$1 %', BY_PROJECT)}\n"
        f"* on ({BY_PROJECT}) group_left (seconds) {_threshold()}",
        "target: at least {{shown}} within {{seconds}}",
    )


def _threshold() -> str:
    return queries.spelt(queries.setting(queries.THRESHOLD, PROJECT), "seconds", "$1 s", BY_PROJECT)


def _as_of() -> stat.Panel:
    age = queries.age(CUSTOMER)
    minutes = queries.spelt(f"floor(({age}) / 60)", "shown", "$1 min", "customer")
    shown = f'label_replace({minutes}, "shown", "under 1 min", "shown", "0 min")'
    code = queries.first_of(
        f"{OFF} + 0 * ({age}) and on (customer) ({queries.inactive(CUSTOMER)})",
        f"{NEW_DAY} + 0 * ({age} < 300) unless on (customer) {queries.DAY}{{{CUSTOMER}}}",
        f"{GONE} + 0 * ({age}) unless on (customer) {queries.DAY}{{{CUSTOMER}}}",
        f"{LATE} + 0 * ({age}) and on (customer) ({queries.not_polled(CUSTOMER)} or {queries.overdue(CUSTOMER)})",
        f"{FRESH} + 0 * ({age})",
    )
    text = queries.with_text(code, shown, f"({age})", "customer")
    panel = figure(
        "Age of these numbers",
        "How long ago the vendor last answered. The other numbers are as of then. Orange: no new answer comes. Red:"
        " there is none that still counts, and nothing here may be believed.",
        instant(text, "{{shown}}"),
        "✕ NO ANSWER AT ALL",
    )
    words = {
        FRESH: "▲ up to date",
        LATE: "▼ OLD: no new answer",
        GONE: "✕ TOO OLD TO SHOW",
        OFF: "◦ outside its hours",
        NEW_DAY: "◦ a new day begins",
    }
    thresholds = steps((None, BAD), (FRESH, GOOD), (LATE, WARN), (GONE, BAD), (OFF, GREY))
    return coloured(_worded(panel.mappings([exactly(words)]), 84), thresholds)


def _whose() -> stat.Panel:
    known = f"last_over_time(project:vcc_inbound_offered_calls:today{{{PROJECT}}}[1d])"
    return _small(
        "age of these numbers",
        "The customer and the project that this screen is about. All counts are since midnight in the customer's time"
        " zone.",
        f"max by (customer, project, project_name) ({known})",
        "{{customer}}: {{project_name}}",
    )


def _plain(
    title: str, description: str, value: str, unit: str, said: str, *, otherwise: Sequence[str] = ()
) -> stat.Panel:
    """Return a number by project for which there is no target; `otherwise` are codes for where it is not there."""
    base = queries.setting(SERVICE_LEVEL.target, PROJECT)
    code = queries.first_of(
        f"{queries.NOT_POLLED} + 0 * {base} and on (customer) ({queries.not_polled(CUSTOMER)})",
        f"0 * ({value})",
        *otherwise,
        f"{queries.UNKNOWN} + 0 * {base}",
    )
    shown = queries.spelt(f"round({value})", "shown", f"$1{unit}", BY_PROJECT)
    text = queries.with_text(code, shown, base, BY_PROJECT)
    words = {0: said, **NO_JUDGEMENT, queries.TOO_FEW: "◦ nobody answered"}
    return _worded(figure(title, description, instant(text, "{{shown}}"), NOTHING).mappings([exactly(words)]))


def _wait() -> stat.Panel:
    waited, answered = (
        queries.lately(partial(_counted, name), CUSTOMER)
        for name in ("vcc_inbound_answer_wait_seconds", "vcc_inbound_answered_calls")
    )
    known = f"project:vcc_inbound_answered_calls:increase1h{{{PROJECT}}}"
    mean = f"{waited}\n/ ({answered} > 0)\nand on ({BY_PROJECT}) {known}"
    return _plain(
        "Mean wait, last hour",
        "How long the callers who were answered within the last hour had waited in a queue, on average. Who gave up is"
        " not in it.",
        f"max by ({BY_PROJECT}) ({mean})",
        " s",
        "of those answered",
        otherwise=[f"{queries.TOO_FEW} + 0 * max by ({BY_PROJECT}) ({known} <= 0)"],
    )


def _counted(name: str, offset: str) -> str:
    return f"project:{name}:today{{{PROJECT}}}{offset}"


def _late_from() -> stat.Panel:
    return _small(
        "mean wait, last hour",
        "From this wait on a call counts as late. There is no target for the mean wait.",
        _threshold(),
        "late from {{seconds}} on",
    )


_offered: Final = partial(_counted, "vcc_inbound_offered_calls")


def _a_week_ago() -> str:
    return f"max by ({BY_PROJECT}) ({queries.last_week(_offered, CUSTOMER)})"


def _against_last_week() -> stat.Panel:
    now = f"max by ({BY_PROJECT}) ({_offered('')})"
    base = queries.setting(SERVICE_LEVEL.target, PROJECT)
    change = queries.first_of(
        f"{queries.NOT_POLLED_NOW} + 0 * {base} and on (customer) ({queries.not_polled(CUSTOMER)})",
        f"{now} / ({_a_week_ago()} > 0) - 1",
        f"{queries.NO_COMPARISON} + 0 * {base}",
    )
    shown = queries.spelt(f"round({now})", "shown", "$1", BY_PROJECT)
    panel = figure(
        "Calls today, against last week",
        "Calls that were answered or given up since midnight. The words compare with the same weekday of last week at"
        " the same time: a tenth more or less counts as the same.",
        instant(queries.with_text(change, shown, base, BY_PROJECT), "{{shown}}"),
        NOTHING,
    )
    codes = {
        queries.NO_COMPARISON: "◦ no comparison",
        queries.NOT_POLLED_NOW: NO_JUDGEMENT[queries.NOT_POLLED],
    }
    return _worded(
        panel.mappings(
            [
                exactly(codes),
                *ranges(
                    (0.1, 999, "▲ more than last week"),
                    (-0.1, 0.1, "► as last week"),
                    (-1, -0.1, "▼ fewer than last week"),
                ),
            ]
        )
    )


def _last_week() -> stat.Panel:
    return _small(
        "calls today",
        "Calls of the same weekday last week until this time.",
        queries.spelt(f"round({_a_week_ago()})", "shown", "$1", BY_PROJECT),
        "last week by now: {{shown}}",
    )


def _late() -> stat.Panel:
    return _plain(
        "Too late, today",
        "Callers who waited for the threshold or longer since midnight, whether they were answered then or gave up."
        " Laws that speak of each call are about this number.",
        queries.total(("answered_after", "abort_in_queue_after"), BY_PROJECT, PROJECT),
        "",
        "calls since midnight",
    )


def _late_words() -> stat.Panel:
    return _small(
        "too late, today",
        "What the number above counts.",
        _threshold(),
        "waited {{seconds}} or more",
    )
