"""The tables of words, held against the vendor's page and the documented metrics, and against Prometheus's habits."""

import re
from typing import Final

import pytest

from vcc_exporter.vocabulary import (
    CUSTOMER_FAMILIES,
    DATA_FAMILIES,
    EXPORTER_FAMILIES,
    FAMILIES,
    NO_QUEUE,
    PAIR_LABELS,
    RESULT_MEANINGS,
    STATISTICS,
    Family,
    Kind,
    Result,
    Statistic,
)

# documented name: key in the JSON, unit
DOCUMENTED: Final = {
    "abort_before_queue": ("abort_before_queue", "calls"),
    "abort_in_queue_before": ("abort_in_queue_before", "calls"),
    "abort_in_queue_after": ("abort_in_queue_after", "calls"),
    "abort_in_queue_early": ("aiqe", "calls"),
    "answered_before": ("answered_before", "calls"),
    "answered_after": ("answered_after", "calls"),
    "before_queue_redirected": ("bqr", "calls"),
    "after_queue_redirected": ("aqr", "calls"),
    "last_answered_before": ("lab", "calls"),
    "last_answered_after": ("laa", "calls"),
    "last_abort_in_queue_before": ("laiqb", "calls"),
    "last_abort_in_queue_after": ("laiqa", "calls"),
    "last_abort_in_queue_early": ("laiqe", "calls"),
    "talk_time": ("talk_time", "seconds"),
    "queue_time": ("queue_time", "seconds"),
    "queue_time_without_talktime": ("queue_time_without_talktime", "seconds"),
    "abort_case_queue_time": ("abort_case_queue_time", "seconds"),
    "time_before_queue": ("time_before_queue", "seconds"),
    "last_queue_time": ("lqt", "seconds"),
}
AVERAGES: Final = {"queue_time_without_talktime", "abort_case_queue_time", "time_before_queue"}
"""What the vendor's page calls an average."""

CUSTOMER: Final = ("customer",)
PROJECT: Final = ("customer", "project")
# metric: type, labels
ABOUT_THE_EXPORTER: Final = {
    "vcc_up": ("gauge", CUSTOMER),
    "vcc_customer_info": ("gauge", ("customer", "timezone")),
    "vcc_customer_active": ("gauge", CUSTOMER),
    "vcc_inbound_day_start_timestamp_seconds": ("gauge", CUSTOMER),
    "vcc_inbound_sla_threshold_seconds": ("gauge", PROJECT),
    "vcc_inbound_service_level_target_ratio": ("gauge", PROJECT),
    "vcc_inbound_abandonment_target_ratio": ("gauge", PROJECT),
    "vcc_inbound_target_min_calls": ("gauge", PROJECT),
    "vcc_inbound_open": ("gauge", PROJECT),
    "vcc_inbound_rows": ("gauge", CUSTOMER),
    "vcc_inbound_rejected_rows": ("gauge", CUSTOMER),
    "vcc_polls_total": ("counter", ("customer", "result")),
    "vcc_poll_duration_seconds": ("summary", CUSTOMER),
    "vcc_poll_last_success_timestamp_seconds": ("gauge", CUSTOMER),
    "vcc_poll_next_timestamp_seconds": ("gauge", CUSTOMER),
    "vcc_exporter_build_info": ("gauge", ("version",)),
    "vcc_exporter_config_last_reload_successful": ("gauge", ()),
    "vcc_exporter_config_last_reload_success_timestamp_seconds": ("gauge", ()),
    "vcc_exporter_web_config_last_reload_successful": ("gauge", ()),
}
OTHER_UNITS: Final = {"milliseconds", "ms", "minutes", "hours", "days", "percent", "percentage", "bytes"}


def by_name(family: Family) -> str:
    """Name a test's family."""
    return family.name


def test_the_statistics_are_those_of_the_vendors_page() -> None:
    """Nineteen documented names, each with the key that the API sends and its unit."""
    assert {s.name: (s.key, s.unit) for s in STATISTICS} == DOCUMENTED
    assert len(STATISTICS) == 19


def test_nine_statistics_come_under_short_keys() -> None:
    """Nine keys are shorter than the documented name, and no spelling stands for two statistics."""
    assert len([s for s in STATISTICS if s.key != s.name]) == 9
    spellings = [spelling for s in STATISTICS for spelling in {s.name, s.key}]
    assert len(spellings) == len(set(spellings)) == 28


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda s: s.name)
def test_what_a_statistic_is(statistic: Statistic) -> None:
    """A number of calls is a count; of the times, those that the page calls averages are averages, others sums."""
    if statistic.unit == "calls":
        assert statistic.kind is Kind.COUNT
    else:
        assert statistic.kind is (Kind.AVERAGE if statistic.name in AVERAGES else Kind.SUM)


def test_each_statistic_is_a_family_of_its_own() -> None:
    """A data family is a gauge by pair of project and queue, named after the documented name and the unit."""
    assert {f.name: (f.type, f.labels) for f in DATA_FAMILIES} == {
        f"vcc_inbound_{name}_{unit}": ("gauge", ("customer", "project", "project_name", "queue", "queue_name"))
        for name, (_, unit) in DOCUMENTED.items()
    }
    assert [f.name for f in DATA_FAMILIES] == [s.metric for s in STATISTICS]


def test_the_families_about_data_and_exporter_are_the_documented_ones() -> None:
    """Type and labels of each, and none that is not documented."""
    families = {f.name: (f.type, f.labels) for f in CUSTOMER_FAMILIES + EXPORTER_FAMILIES}
    assert families == ABOUT_THE_EXPORTER


def test_families_are_in_one_list_and_unique() -> None:
    """The page's order is that of the three tables, and no name stands twice."""
    assert FAMILIES == DATA_FAMILIES + CUSTOMER_FAMILIES + EXPORTER_FAMILIES
    assert len({f.name for f in FAMILIES}) == len(FAMILIES)
    assert PAIR_LABELS[: len(PROJECT)] == PROJECT


@pytest.mark.parametrize("family", FAMILIES, ids=by_name)
def test_a_familys_name_follows_the_habits(family: Family) -> None:
    """One prefix, lower case, base units as the suffix, `_total` for counters alone, no suffix of another type's."""
    assert re.fullmatch(r"vcc(_[a-z][a-z0-9]*)+", family.name)
    assert family.name.endswith("_total") == (family.type == "counter")
    assert not family.name.endswith(("_created", "_count", "_sum", "_bucket", "_gauge", "_counter"))
    assert not OTHER_UNITS & set(family.name.split("_"))
    if "timestamp" in family.name:
        assert family.name.endswith("_timestamp_seconds")
    if family.name.endswith("_info"):
        assert family.type == "gauge"


@pytest.mark.parametrize("family", FAMILIES, ids=by_name)
def test_a_familys_unit_is_its_suffix(family: Family) -> None:
    """OpenMetrics wants a unit to be the last word of the name; what has none says so."""
    last = family.name.rpartition("_")[2]
    assert family.unit == (last if last in {"calls", "seconds", "ratio"} else "")
    measures_time = {"duration", "threshold", "timestamp", "time"} & set(family.name.split("_"))
    assert not measures_time or family.unit == "seconds"


@pytest.mark.parametrize("family", FAMILIES, ids=by_name)
def test_a_familys_labels_follow_the_habits(family: Family) -> None:
    """Labels are lower case, come once, and are none that Prometheus or a scrape sets."""
    assert len(set(family.labels)) == len(family.labels)
    assert all(re.fullmatch(r"[a-z][a-z_]*", label) for label in family.labels)
    assert not {"job", "instance", "le", "quantile"} & set(family.labels)
    if family not in EXPORTER_FAMILIES:
        assert family.labels[0] == "customer"


@pytest.mark.parametrize("family", FAMILIES, ids=by_name)
def test_help_is_a_sentence_on_one_line(family: Family) -> None:
    """HELP begins like a sentence, ends with a full stop and is printable without escapes."""
    assert re.match(r"[A-Z01]", family.help)
    assert family.help.endswith(".")
    assert family.help.isprintable()
    assert "\\" not in family.help
    assert "  " not in family.help


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda s: s.name)
def test_help_of_a_statistic_names_the_vendors_field(statistic: Statistic) -> None:
    """HELP says which documented field it is, that it counts the customer's day, and that it may be a poll old."""
    assert f"({statistic.name})" in statistic.help
    assert "customer's current day" in statistic.help
    assert "as of the last poll" in statistic.help
    family = DATA_FAMILIES[STATISTICS.index(statistic)]
    assert (family.name, family.help, family.unit) == (statistic.metric, statistic.help, statistic.unit)


def test_help_of_an_average_warns_of_sums() -> None:
    """Whoever reads the HELP of an average learns that it is one, and that averages do not add up."""
    for statistic in STATISTICS:
        assert statistic.help.startswith("Average") == (statistic.kind is Kind.AVERAGE)
        assert ("do not sum" in statistic.help) == (statistic.kind is Kind.AVERAGE)
        assert ("summed over answered calls" in statistic.help) == (statistic.kind is Kind.SUM)


def test_the_nine_results() -> None:
    """The label's values are the documented nine, success first."""
    assert [str(result) for result in Result] == [
        "success",
        "unauthorized",
        "forbidden",
        "rejected",
        "rate_limited",
        "server_error",
        "timeout",
        "unreachable",
        "invalid_response",
    ]


def test_every_result_has_a_meaning_and_a_remedy() -> None:
    """Both are words for people on one line, different for each result."""
    assert list(RESULT_MEANINGS) == list(Result)
    assert all(words.isprintable() and words for meaning in RESULT_MEANINGS.values() for words in meaning)
    assert len({meaning for meaning, _ in RESULT_MEANINGS.values()}) == len(Result)


def test_no_queue_is_the_apis_own_id() -> None:
    """The vendor's example has -1 where a call entered no queue."""
    assert NO_QUEUE == -1
