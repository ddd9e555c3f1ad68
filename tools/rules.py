"""Write the rules that Prometheus loads: `python tools/rules.py` rewrites them in place.

They stand in `prometheus/rules/`, and as one object for the Prometheus Operator in `deploy/kubernetes/`.

What "lately" means, and why it is written like this, stands in `docs/decisions/0006-lately.md`; how the alerts came
to their thresholds in `0007-alerts.md`. No expression here looks back at a recorded series: every offset is on what
the exporter published, so the rules are right from their first evaluation on, and `flat` can be asked of the past.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, indent
from typing import Final

ROOT: Final = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from vcc_exporter.vocabulary import PAIR_LABELS, STATISTICS  # noqa: E402 - after the path

RUNBOOKS: Final = "docs/runbooks/"
DASHBOARDS: Final = ""
"""What links begin with; relative to this project's page and to Grafana's until somebody says where those are."""

METRIC: Final = {statistic.name: statistic.metric for statistic in STATISTICS}

LEVELS: Final[Mapping[str, tuple[str, ...]]] = {
    "queue": PAIR_LABELS,
    "project": PAIR_LABELS[:3],
    "customer": PAIR_LABELS[:1],
}
"""What each level keeps."""
KEYS: Final = {"queue": "customer, project, queue", "project": "customer, project", "customer": "customer"}
"""What says which one it is, whatever its name is just now."""
NAME: Final = re.compile(r"\b[a-z]+:[a-z0-9_]+:[a-z0-9_]+\b")
"""The name of a recorded series in an expression."""
TARGET: Final = "customer, job, instance"
"""One customer on one exporter."""
WINDOWS: Final = {"30m": 1800, "1h": 3600}
"""In seconds."""
FIRST_MINUTES_S: Final = 120
"""A window that begins this soon after midnight begins at midnight: the day's first poll was not in yet."""

# Of what holds at one instant, in the names of recorded series; the window is appended for where one begins.
OLDER: Final = "replica:vcc_poll:older"
NEWEST_DAY: Final = "customer:vcc_inbound_day_start:newest"
SAME_DAY: Final = "customer:vcc_inbound_day_start:same"
REJECTED: Final = "customer:vcc_inbound_rejected_rows:newest"
READ: Final = "customer:vcc_exporter_config:read"
SHOWN: Final = "queue:vcc_inbound_pairs:shown"
DOUBTFUL: Final = "queue:vcc_inbound_pairs:doubtful"

DAY: Final = "vcc_inbound_day_start_timestamp_seconds"
THRESHOLD: Final = "vcc_inbound_sla_threshold_seconds"
SUCCESS: Final = "vcc_poll_last_success_timestamp_seconds"
RELOAD: Final = "vcc_exporter_config_last_reload_success_timestamp_seconds"


@dataclass(frozen=True, slots=True)
class Sum:
    """Something countable: statistics that are added up, and perhaps some that are taken out."""

    name: str
    """The middle of the recorded names."""
    plus: tuple[str, ...]
    minus: tuple[str, ...] = ()
    lately: bool = False
    uses_threshold: bool = False
    """Whether its value depends on the threshold with which it was asked."""

    def of(self, offset: str = "") -> str:
        """Write the sum for one pair, with every selector at that offset."""
        text = " + ".join(f"{METRIC[name]}{offset}" for name in self.plus)
        text += "".join(f" - {METRIC[name]}{offset}" for name in self.minus)
        return f"({text})" if len(self.plus) + len(self.minus) > 1 else text


_ANSWERED: Final = ("answered_before", "answered_after")
_ABANDONED: Final = ("abort_in_queue_before", "abort_in_queue_after")
_EARLY: Final = ("abort_in_queue_early",)

SUMS: Final = (
    Sum("vcc_inbound_answered_calls", _ANSWERED, lately=True),
    Sum("vcc_inbound_abandoned_calls", _ABANDONED, lately=True),
    Sum("vcc_inbound_offered_calls", _ANSWERED + _ABANDONED, lately=True),
    Sum("vcc_inbound_answered_in_time_calls", _ANSWERED[:1], lately=True, uses_threshold=True),
    Sum("vcc_inbound_abandoned_without_early_calls", _ABANDONED, _EARLY),
    Sum("vcc_inbound_offered_without_early_calls", _ANSWERED + _ABANDONED, _EARLY),
    Sum("vcc_inbound_answer_wait_seconds", ("queue_time",)),
    Sum("vcc_inbound_talk_seconds", ("talk_time",)),
)

TODAY_RATIOS: Final = (
    ("vcc_inbound_service_level:ratio_today", "vcc_inbound_answered_in_time_calls", "vcc_inbound_offered_calls"),
    ("vcc_inbound_abandonment:ratio_today", "vcc_inbound_abandoned_calls", "vcc_inbound_offered_calls"),
    (
        "vcc_inbound_service_level_without_early:ratio_today",
        "vcc_inbound_answered_in_time_calls",
        "vcc_inbound_offered_without_early_calls",
    ),
    (
        "vcc_inbound_abandonment_without_early:ratio_today",
        "vcc_inbound_abandoned_without_early_calls",
        "vcc_inbound_offered_without_early_calls",
    ),
    ("vcc_inbound_answer_wait_seconds:mean_today", "vcc_inbound_answer_wait_seconds", "vcc_inbound_answered_calls"),
    ("vcc_inbound_talk_seconds:mean_today", "vcc_inbound_talk_seconds", "vcc_inbound_answered_calls"),
)
"""Recorded name, what is divided, by what."""

USED: Final = "|".join(dict.fromkeys(METRIC[name] for total in SUMS for name in total.plus + total.minus))
"""Every family that a rule reads, as a pattern."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One recording rule, with a word on why where it needs one."""

    record: str
    expr: str
    why: str = ""


def recording_rules() -> list[Rule]:
    """Return all recording rules, each after those that it needs."""
    rules = [*_ends("")]
    for window in WINDOWS:
        rules += [*_ends(window)]
    rules += [rule for total in SUMS for rule in _today(total)]
    for name, over, under in TODAY_RATIOS:
        rules += [Rule(f"{level}:{name}", _ratio(level, over, under, "today")) for level in LEVELS]
    for window, seconds in WINDOWS.items():
        rules += [*_window(window, seconds)]
        rules += [rule for total in SUMS if total.lately for rule in _lately(total, window, seconds)]
        rules += [*_lately_ratios(window)]
    return [*rules, *_past_weeks()]


# What is known at one instant: now, or where a window begins.


def _newest(selector: str, window: str = "") -> str:
    """Write a selector without the replicas that others have outdone."""
    return f"{selector} unless on ({TARGET}) {OLDER}{window}"


def _ends(window: str) -> Iterator[Rule]:
    offset = f" offset {window}" if window else ""
    success, day = SUCCESS + offset, DAY + offset
    yield Rule(
        f"{OLDER}{window}",
        f"""\
        {success}
        unless on ({TARGET}) topk by (customer) (1,
          {success} and on ({TARGET}) {day}
          or {success} unless on (customer) {day}
        )
        """,
        "Of the exporters that show a customer, all but the one with the newest good poll.",
    )
    yield Rule(
        f"{NEWEST_DAY}{window}",
        f"max by (customer) ({_newest(day, window)})",
        "When the day began that the values count; there only while values are shown.",
    )
    rejected = _newest(f"vcc_inbound_rejected_rows{offset}", window)
    yield Rule(f"{REJECTED}{window}", f"max by (customer) ({rejected})")
    yield Rule(
        f"{SHOWN}{window}",
        f"""\
        group by ({KEYS["queue"]}) (
          {{__name__=~"{USED}"}}{offset}
          unless on ({TARGET}) {OLDER}{window}
        )
        """,
        "Pairs of project and queue of which something is shown, perhaps not every statistic.",
    )


# Today so far.


def _today(total: Sum) -> Iterator[Rule]:
    queue = f"queue:{total.name}:today"
    yield Rule(queue, f"max by ({', '.join(LEVELS['queue'])}) ({_newest(total.of())})")
    for level in ("project", "customer"):
        why = f"Not where a row lacks one of the statistics: then nobody knows the {level}'s sum."
        yield Rule(
            f"{level}:{total.name}:today",
            f"""\
            sum by ({", ".join(LEVELS[level])}) ({queue})
            unless on ({KEYS[level]}) ({SHOWN} unless on ({KEYS["queue"]}) {queue})
            """,
            why if total is SUMS[0] else "",
        )


def _ratio(level: str, over: str, under: str, operation: str) -> str:
    return f"{level}:{over}:{operation} / ({level}:{under}:{operation} > 0)"


# Lately.


def _window(window: str, seconds: int) -> Iterator[Rule]:
    queue = KEYS["queue"]
    yield Rule(
        f"{SAME_DAY}{window}",
        f"{NEWEST_DAY} == {NEWEST_DAY}{window}",
        "Values are shown at both ends of the window, and are of one day.",
    )
    yield from (_start(total, window) for total in SUMS if total.lately)
    yield Rule(
        f"{READ}{window}",
        f"""\
        max by (customer) (
          {_newest(SUCCESS)}
          and on (job, instance) ({RELOAD} > time() - {seconds + FIRST_MINUTES_S})
        )
        """,
        "The exporter has read its config within the window, and may ask for more or fewer projects since.",
    )
    offered = "queue:vcc_inbound_offered_calls"
    yield Rule(
        f"{DOUBTFUL}{window}",
        f"""\
        max by ({queue}) (
          ({offered}:today > 0) unless on ({queue}) {SHOWN}{window}
          or ({offered}:start{window} > 0) unless on ({queue}) {SHOWN}
        )
        and on (customer) {READ}{window}
        """,
        "Pairs that came or went with calls where it has: those calls need not be of this window.",
    )


def _start(total: Sum, window: str) -> Rule:
    changed = f"""\
        unless on (customer, project) (
          max by (customer, project) ({_newest(THRESHOLD)})
          != max by (customer, project) ({_newest(f"{THRESHOLD} offset {window}", window)})
        )
        """
    why = " Not where that was asked with another threshold." if total.uses_threshold else ""
    return Rule(
        f"queue:{total.name}:start{window}",
        f"""\
        max by ({KEYS["queue"]}) ({_newest(total.of(f" offset {window}"), window)})
        and on (customer) {SAME_DAY}{window}
        """
        + (changed if total.uses_threshold else ""),
        f"What the day had counted where the window begins.{why}",
    )


def _lately(total: Sum, window: str, seconds: int) -> Iterator[Rule]:
    queue, start = KEYS["queue"], f"queue:{total.name}:start{window}"
    begins = f"({NEWEST_DAY} > time() - {seconds + FIRST_MINUTES_S})"
    unknown = f"({SHOWN}{window} or {DOUBTFUL}{window})"
    today = f"queue:{total.name}:today"
    yield Rule(
        f"queue:{total.name}:increase{window}",
        f"""\
        {today} and on (customer) {begins}
        or {today} - on ({queue}) group_left () {start}
        or {today} and on (customer) {SAME_DAY}{window}
          unless on (customer) ({REJECTED}{window} > 0)
          unless on ({queue}) {unknown}
        """,
        "Since midnight; or the difference; or all of a pair of which nothing was there while everything was shown."
        if total is SUMS[0]
        else "",
    )
    for level in ("project", "customer"):
        key, today = KEYS[level], f"{level}:{total.name}:today"
        yield Rule(
            f"{level}:{total.name}:increase{window}",
            f"""\
            (
              {today} and on (customer) {begins}
              or {today} - on ({key}) group_left () (
                sum by ({key}) ({start})
                unless on (customer) ({REJECTED}{window} > 0)
                unless on ({key}) ({SHOWN}{window} unless on ({queue}) {start})
                unless on ({key}) {DOUBTFUL}{window}
              )
              or {today} and on (customer) {SAME_DAY}{window}
                unless on (customer) ({REJECTED}{window} > 0)
                unless on ({key}) {unknown}
            )
            unless on (customer) ({REJECTED} > 0)
            """,
            "Likewise of the sums, where both are whole: no row rejected, none that lacks a statistic."
            if total is SUMS[0]
            else "",
        )


def _lately_ratios(window: str) -> Iterator[Rule]:
    for name, over in (("service_level", "answered_in_time_calls"), ("abandonment", "abandoned_calls")):
        for level in LEVELS:
            ratio = _ratio(level, f"vcc_inbound_{over}", "vcc_inbound_offered_calls", f"increase{window}")
            why = "The API may correct the two at different times, and no part is below none or above all."
            first = name == "service_level" and level == "queue"
            yield Rule(f"{level}:vcc_inbound_{name}:ratio_{window}", f"clamp({ratio}, 0, 1)", why if first else "")


# The same half hour of past weeks.


def _past_weeks() -> Iterator[Rule]:
    offered = next(total for total in SUMS if total.name == "vcc_inbound_offered_calls")
    for weeks in (1, 2):
        branches = (_half_hour(offered, weeks * 168 + shift) for shift in (0, -1, 1))
        yield Rule(
            f"project:{offered.name}:increase30m_{weeks}w",
            "\nor ".join(branches),
            "At the same time since midnight, which is an hour off the week's length where clocks were changed between."
            if weeks == 1
            else "",
        )


def _half_hour(total: Sum, hours: int) -> str:
    """Write the calls of half an hour, so many hours ago; from the fuller replica, which is near enough."""
    at, before = f" offset {hours}h", f" offset {hours}h30m"
    by_pair = f"max by ({KEYS['queue']}) "
    return dedent(f"""\
        (
          sum by (customer, project) ({by_pair}({total.of(at)}))
          - sum by (customer, project) ({by_pair}({total.of(before)}))
        )
        and on (customer) ({NEWEST_DAY} - max by (customer) ({DAY}{at}) == {hours * 3600})
        and on (customer) (max by (customer) ({DAY}{at}) == max by (customer) ({DAY}{before}))""")


def flat(record: str) -> str:
    """Return a rule's expression with every recorded name in it written out, to be asked of any instant."""
    rules = {rule.record: dedent(rule.expr).strip() for rule in recording_rules()}

    def written_out(text: str) -> str:
        return NAME.sub(lambda name: f"({written_out(rules[name[0]])})", text)

    return written_out(rules[record])


# Alerts.


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule. Several may share a name and differ in severity."""

    name: str
    severity: str
    """`critical` wakes somebody, `warning` waits for the next working hour."""
    wait: str
    """How long the expression must hold."""
    expr: str
    summary: str
    description: str
    dashboard: str
    why: str = ""


INACTIVE: Final = "unless on (customer) (max by (customer) (vcc_customer_active) == 0)"
NOT_UP: Final = "max by (customer) (vcc_up) == 0"
NOTHING_FAILED: Final = 'sum by (customer) (increase(vcc_polls_total{result!="success"}[1h])) == 0'
"""Where this holds and nothing is shown, the day's first poll is not due yet."""
BUSINESS: Final = f"""\
{INACTIVE}
unless on (customer, project) (max by (customer, project) (min_over_time(vcc_inbound_open[30m])) == 0)
unless on (customer) (max by (customer) (max_over_time(vcc_up[5m])) == 0)"""
"""Nobody judges a project that is closed or has just opened, nor one whose customer cannot be polled."""
SERVICE_LEVEL: Final = "vcc_inbound_service_level"
ABANDONMENT: Final = "vcc_inbound_abandonment"
PROJECT: Final = "{{ $labels.project_name }} ({{ $labels.customer }})"
CUSTOMERS_POLLS: Final = "/d/vcc-exporter?var-customer={{ $labels.customer | urlquery }}"
PERCENT: Final = "{{ $value | humanizePercentage }}"


def alerts() -> list[Alert]:
    """Return all alerts, those about the exporter first."""
    return [*_about_the_exporter(), *_about_polls(), *_about_answers(), *_about_calls()]


def _about_the_exporter() -> Iterator[Alert]:
    yield Alert(
        "VccExporterDown",
        "critical",
        "5m",
        'up{job="vcc"} == 0 or absent(up{job="vcc"})',
        "The exporter for VCC Live cannot be scraped",
        "Prometheus has had no answer for five minutes from"
        " {{ with $labels.instance }}{{ . }}{{ else }}any target of the job vcc{{ end }}."
        " Nothing is known of its customers, and none of their alerts can fire.",
        "/d/vcc-exporter",
    )
    yield Alert(
        "VccConfigReloadFailed",
        "warning",
        "5m",
        """\
        vcc_exporter_config_last_reload_successful == 0
        or vcc_exporter_web_config_last_reload_successful == 0
        """,
        "The exporter runs on an old config",
        "{{ $labels.instance }} could not read its config and goes on with the last good one."
        " Its next start would fail.",
        "/d/vcc-exporter",
    )


def _about_polls() -> Iterator[Alert]:
    yield Alert(
        "VccPollFailing",
        "warning",
        "10m",
        f"""\
        ({NOT_UP})
        unless on (customer) ({NOTHING_FAILED})
        {INACTIVE}
        """,
        "Polls of a customer fail",
        "For ten minutes no poll of {{ $labels.customer }} has succeeded on any exporter.",
        CUSTOMERS_POLLS,
    )
    yield Alert(
        "VccCredentialsRefused",
        "critical",
        "2m",
        f"""\
        max by (customer, result) (
          increase(vcc_polls_total{{result=~"unauthorized|forbidden"}}[15m]) > 0
          unless on ({TARGET}) vcc_up == 1
        )
        {INACTIVE}
        """,
        "VCC Live refuses a customer's key",
        "The last polls of {{ $labels.customer }} ended as {{ $labels.result }}."
        " The key was changed, cannot be read, lacks a right, or this address is not registered.",
        CUSTOMERS_POLLS,
        "By exporter: where one of two is refused, the other one's numbers hide it until that one fails, too.",
    )


def _about_answers() -> Iterator[Alert]:
    yield Alert(
        "VccDataStale",
        "critical",
        "10m",
        f"""\
        (
          ({NOT_UP})
          unless on (customer) {DAY}
          unless on (customer) ({NOTHING_FAILED})
          or (time() - max by (customer) ({SUCCESS}) > 900)
          unless on (customer) (max by (customer) (vcc_poll_next_timestamp_seconds) > time() - 300)
        )
        {INACTIVE}
        """,
        "There are no current numbers of a customer",
        "{{ $labels.customer }} has had no values for ten minutes, or no poll although one was due."
        " Its walls are empty and its alerts on calls are blind.",
        CUSTOMERS_POLLS,
        "Nothing shown since polls fail; or an old answer and nobody who asks again.",
    )
    yield Alert(
        "VccRowsRejected",
        "warning",
        "15m",
        f"""\
        (max by (customer) (vcc_inbound_rejected_rows) > 0)
        {INACTIVE}
        """,
        "Rows of the API cannot be used",
        "{{ $value }} rows of the last answer about {{ $labels.customer }} could not be used."
        " Their queues are not shown, today's sums lack them, and what the projects did lately is not known.",
        CUSTOMERS_POLLS,
    )


def _about_calls() -> Iterator[Alert]:
    # A hair lower: in binary, twice 80 % less one is above 60 %.
    level = f"max by (customer, project) (last_over_time({SERVICE_LEVEL}_target_ratio[5m]))"
    given_up = f"max by (customer, project) (last_over_time({ABANDONMENT}_target_ratio[5m]))"
    yield _promise("VccServiceLevelLow", "warning", SERVICE_LEVEL, f"< on (customer, project) group_left () {level}")
    yield _promise(
        "VccServiceLevelLow",
        "critical",
        SERVICE_LEVEL,
        f"< on (customer, project) group_left () (2 * {level} - 1.000000001)",
    )
    yield _promise("VccAbandonmentHigh", "warning", ABANDONMENT, f"> on (customer, project) group_left () {given_up}")
    yield _promise(
        "VccAbandonmentHigh", "critical", ABANDONMENT, f"> on (customer, project) group_left () (2 * {given_up})"
    )
    offered = "project:vcc_inbound_offered_calls:increase30m"
    yield Alert(
        "VccCallsStopped",
        "critical",
        "5m",
        f"""\
        (last_over_time({offered}[5m]) <= 0)
        and on (customer, project) (last_over_time({offered}_1w[5m]) >= 10)
        and on (customer, project) (last_over_time({offered}_2w[5m]) >= 10)
        unless on (customer) (time() - max by (customer) ({SUCCESS}) > 600)
        {indent(BUSINESS, " " * 8).strip()}
        """,
        "A project gets no calls any more",
        f"{PROJECT} has had no call for half an hour, where the same half hour of each of the last two weeks had at"
        " least ten.",
        _customer_dashboard(),
        "An answer older than ten minutes says nothing about the last half hour.",
    )


def _promise(name: str, severity: str, ratio: str, missed: str) -> Alert:
    words = {
        SERVICE_LEVEL: ("answered in time", "Callers of a project wait too long", "its target"),
        ABANDONMENT: ("given up", "Too many callers of a project give up", "its target"),
    }[ratio]
    twice = " by twice as much as the target allows" if severity == "critical" else ""
    low = ratio == SERVICE_LEVEL
    least = "max by (customer, project) (last_over_time(vcc_inbound_target_min_calls[5m]))"
    return Alert(
        name,
        severity,
        "20m" if severity == "critical" else "10m",
        f"""\
        last_over_time(project:{ratio}:ratio_1h[5m])
          {missed}
        and on (customer, project) (
          last_over_time(project:{ratio}:ratio_30m[5m])
            {missed}
        )
        and on (customer, project) (
          last_over_time(project:vcc_inbound_offered_calls:increase1h[5m])
            >= on (customer, project) group_left () {least}
        )
        {indent(BUSINESS, " " * 8).strip()}
        """,
        words[1],
        f"In the last hour {PERCENT} of the calls of {PROJECT} were {words[0]},"
        f" {'below' if low else 'above'} {words[2]}{twice}; the last half hour misses it likewise.",
        _customer_dashboard(),
    )


def _customer_dashboard() -> str:
    return "/d/vcc-customer?var-customer={{ $labels.customer | urlquery }}&var-project={{ $labels.project | urlquery }}"


# The files.

HEAD: Final = "# Written by tools/rules.py; change it there.\n"


def recording_file() -> str:
    """Return the text of the file of recording rules."""
    rules = (
        _comment(rule.why) + f"      - record: {rule.record}\n" + _expression(rule.expr) for rule in recording_rules()
    )
    return f"{HEAD}groups:\n  - name: vcc-inbound.rules\n    rules:\n{''.join(rules)}"


def alert_file(runbooks: str, dashboards: str) -> str:
    """Return the text of the file of alerts, whose links begin with these."""
    rules = (_alert(alert, runbooks, dashboards) for alert in alerts())
    return f"{HEAD}groups:\n  - name: vcc.alerts\n    rules:\n{''.join(rules)}"


def rule_object(*files: str) -> str:
    """Return the text of one object for the Prometheus Operator that has the groups of these files."""
    groups = "".join(file.partition("groups:\n")[2] for file in files)
    return (
        f"{HEAD}apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: vcc-exporter\n"
        f"  labels:\n    app.kubernetes.io/name: vcc-exporter\nspec:\n  groups:\n{indent(groups, '  ')}"
    )


def _alert(alert: Alert, runbooks: str, dashboards: str) -> str:
    annotations = {
        "summary": alert.summary,
        "description": alert.description,
        "runbook_url": f"{runbooks}{alert.name}.md",
        "dashboard_url": f"{dashboards}{alert.dashboard}",
    }
    return (
        f"{_comment(alert.why)}      - alert: {alert.name}\n{_expression(alert.expr)}        for: {alert.wait}\n"
        f"        labels:\n          severity: {alert.severity}\n        annotations:\n"
        + "".join(f"          {key}: {json.dumps(text)}\n" for key, text in annotations.items())
    )


def _comment(text: str) -> str:
    return f"      # {text}\n" if text else ""


def _expression(expr: str) -> str:
    return f"        expr: |\n{indent(dedent(expr).strip(), ' ' * 10)}\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description="Write the rules that Prometheus loads.")
    parser.add_argument("--runbooks", default=RUNBOOKS, help="what runbook_url begins with (default: %(default)s)")
    parser.add_argument("--dashboards", default=DASHBOARDS, help="what dashboard_url begins with (default: nothing)")
    parser.add_argument("--output", type=Path, default=ROOT, help="below which folder (default: the project's)")
    options = parser.parse_args(arguments)
    recording, alerting = recording_file(), alert_file(options.runbooks, options.dashboards)
    for name, text in {
        "prometheus/rules/vcc-inbound.rules.yml": recording,
        "prometheus/rules/vcc.alerts.yml": alerting,
        "deploy/kubernetes/prometheusrule.yaml": rule_object(recording, alerting),
    }.items():
        path = options.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
