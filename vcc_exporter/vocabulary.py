"""The words of this project, as tables: statistics, metric families, results of a poll.

Nothing here computes anything about calls. Parsing, metrics, HELP lines, documentation, tests and the
simulator derive from these tables; a statistic or a metric that the project gains is one new row.

Source of the statistics: the vendor's page "Get inbound statistics". It documents nineteen names; the
JSON that it shows uses short keys for nine of them. Both spellings are accepted when reading.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, Literal


class Kind(Enum):
    """What a statistic is, and so which arithmetic on it means something."""

    COUNT = "number of calls"
    SUM = "sum of seconds over calls"
    AVERAGE = "average of seconds over calls"


@dataclass(frozen=True, slots=True)
class Statistic:
    """One documented field of an inbound statistics record."""

    name: str
    """The documented name, which also names the metric."""
    key: str
    """The key under which the API really sends it."""
    kind: Kind
    words: str
    """What the documentation says of it, in our words; the first half of HELP."""

    @property
    def unit(self) -> Literal["calls", "seconds"]:
        """The unit, which is also the suffix of the metric's name."""
        return "calls" if self.kind is Kind.COUNT else "seconds"

    @property
    def metric(self) -> str:
        """The name of the metric family."""
        return f"vcc_inbound_{self.name}_{self.unit}"

    @property
    def help(self) -> str:
        """The HELP text: the field, in words, which day it counts and how old it may be."""
        return f"{self.words} ({self.name}). Counts the customer's current day, as of the last poll."


_COUNT, _SUM, _AVERAGE = Kind.COUNT, Kind.SUM, Kind.AVERAGE
_NO_SUM = "do not sum or average it over queues without weighting"

STATISTICS: Final[tuple[Statistic, ...]] = (
    Statistic(
        "abort_before_queue", "abort_before_queue", _COUNT, "Calls given up by the caller before they entered a queue"
    ),
    Statistic(
        "abort_in_queue_before",
        "abort_in_queue_before",
        _COUNT,
        "Calls given up by the caller in a queue before the SLA threshold was reached, early ones included",
    ),
    Statistic(
        "abort_in_queue_after",
        "abort_in_queue_after",
        _COUNT,
        "Calls given up by the caller in a queue after the SLA threshold was reached",
    ),
    Statistic(
        "abort_in_queue_early",
        "aiqe",
        _COUNT,
        "Calls given up by the caller within 5 seconds of entering a queue, already part of abort_in_queue_before",
    ),
    Statistic(
        "answered_before", "answered_before", _COUNT, "Calls answered by an agent before the SLA threshold was reached"
    ),
    Statistic(
        "answered_after", "answered_after", _COUNT, "Calls answered by an agent after the SLA threshold was reached"
    ),
    Statistic("before_queue_redirected", "bqr", _COUNT, "Calls redirected before they entered a queue"),
    Statistic("after_queue_redirected", "aqr", _COUNT, "Calls redirected after they had left a queue"),
    Statistic(
        "last_answered_before",
        "lab",
        _COUNT,
        "Calls answered by an agent before the SLA threshold was reached, by the time in the last queue alone",
    ),
    Statistic(
        "last_answered_after",
        "laa",
        _COUNT,
        "Calls answered by an agent after the SLA threshold was reached, by the time in the last queue alone",
    ),
    Statistic(
        "last_abort_in_queue_before",
        "laiqb",
        _COUNT,
        "Calls given up by the caller before the SLA threshold was reached, by the time in the last queue alone",
    ),
    Statistic(
        "last_abort_in_queue_after",
        "laiqa",
        _COUNT,
        "Calls given up by the caller after the SLA threshold was reached, by the time in the last queue alone",
    ),
    Statistic(
        "last_abort_in_queue_early",
        "laiqe",
        _COUNT,
        "Calls given up by the caller within 5 seconds, by the time in the last queue alone",
    ),
    Statistic(
        "talk_time", "talk_time", _SUM, "Time that callers spent talking with agents, summed over answered calls"
    ),
    Statistic(
        "queue_time",
        "queue_time",
        _SUM,
        "Time that callers spent in a queue before an agent answered, summed over answered calls",
    ),
    Statistic(
        "queue_time_without_talktime",
        "queue_time_without_talktime",
        _AVERAGE,
        f"Average time in a queue of calls that were given up, without those answered; {_NO_SUM}",
    ),
    Statistic(
        "abort_case_queue_time",
        "abort_case_queue_time",
        _AVERAGE,
        f"Average time in a queue before the caller gave up; {_NO_SUM}",
    ),
    Statistic(
        "time_before_queue",
        "time_before_queue",
        _AVERAGE,
        f"Average time before calls entered a queue, such as a menu or an announcement; {_NO_SUM}",
    ),
    Statistic(
        "last_queue_time",
        "lqt",
        _SUM,
        "Time that callers spent in their last queue before an agent answered, summed over answered calls",
    ),
)

NO_QUEUE: Final = -1
"""The API's queue id for calls that entered no queue."""
NO_QUEUE_NAME: Final = "no queue"


class Result(StrEnum):
    """How a poll ended; the values of the label `result`. A closed set."""

    SUCCESS = "success"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    REJECTED = "rejected"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    INVALID_RESPONSE = "invalid_response"


RESULT_MEANINGS: Final[dict[Result, tuple[str, str]]] = {
    Result.SUCCESS: ("every request was answered with usable rows, or with none", "nothing"),
    Result.UNAUTHORIZED: (
        "HTTP 401, or the key could not be read",
        "check the subdomain and the API key; the key is read again at the next poll",
    ),
    Result.FORBIDDEN: (
        "HTTP 403",
        "allow the key the resource /v2/statistics/inbound, and register this machine's address with the vendor",
    ),
    Result.REJECTED: (
        "HTTP 417 or another 4xx",
        "compare teams, projects and sla in the config with the account",
    ),
    Result.RATE_LIMITED: ("HTTP 429", "poll less often (poll.interval); Retry-After is obeyed"),
    Result.SERVER_ERROR: ("HTTP 5xx", "wait; where it lasts, ask the vendor"),
    Result.TIMEOUT: (
        "no whole answer within poll.timeout",
        "raise poll.timeout, or look at the network and the vendor's state",
    ),
    Result.UNREACHABLE: (
        "no connection: name, route, TLS or proxy, or cut before any answer",
        "check url, proxy_url, ca_file, the name's resolution and the firewall",
    ),
    Result.INVALID_RESPONSE: (
        "not the documented answer: a redirect, no JSON, errors in it, cut short, too large, no usable row",
        "check url where a web page answers, timezone where rows are of another day; else wait, or ask the vendor",
    ),
}
"""What each result means and what to do about it, for logs, the page for people and the README."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family that the exporter publishes itself (not those of the client library)."""

    name: str
    """As in Prometheus's text format: a counter's ends in `_total`."""
    type: Literal["gauge", "counter", "summary"]
    labels: tuple[str, ...]
    help: str

    @property
    def unit(self) -> str:
        """The unit as OpenMetrics has it, the suffix of the name; empty where there is none."""
        suffix = self.name.rpartition("_")[2]
        return suffix if suffix in {"calls", "seconds", "ratio"} else ""


PAIR_LABELS: Final = ("customer", "project", "project_name", "queue", "queue_name")
_CUSTOMER: Final = ("customer",)
_PROJECT: Final = ("customer", "project")

DATA_FAMILIES: Final[tuple[Family, ...]] = tuple(Family(s.metric, "gauge", PAIR_LABELS, s.help) for s in STATISTICS)
"""One for each statistic, in the order of `STATISTICS`."""

CUSTOMER_FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        "vcc_up",
        "gauge",
        _CUSTOMER,
        "1 if the customer's last poll succeeded and its values are shown, else 0.",
    ),
    Family(
        "vcc_customer_info",
        "gauge",
        ("customer", "timezone"),
        "A constant 1, labelled with the customer's timezone and the free labels of the config.",
    ),
    Family(
        "vcc_customer_active",
        "gauge",
        _CUSTOMER,
        "0 outside the customer's schedule (no poll due in the current hour) or outside all its hours, else 1.",
    ),
    Family(
        "vcc_inbound_day_start_timestamp_seconds",
        "gauge",
        _CUSTOMER,
        "The instant from which the customer's values count; present exactly while values are shown.",
    ),
    Family(
        "vcc_inbound_sla_threshold_seconds",
        "gauge",
        _PROJECT,
        "The SLA threshold with which the values of the last good poll were asked.",
    ),
    Family(
        "vcc_inbound_service_level_target_ratio",
        "gauge",
        _PROJECT,
        "The config's target: at least this part of the offered calls answered before the threshold.",
    ),
    Family(
        "vcc_inbound_abandonment_target_ratio",
        "gauge",
        _PROJECT,
        "The config's target: at most this part of the offered calls given up.",
    ),
    Family(
        "vcc_inbound_target_min_calls",
        "gauge",
        _PROJECT,
        "The config's target: with fewer calls than this, the other targets judge nothing.",
    ),
    Family(
        "vcc_inbound_open",
        "gauge",
        _PROJECT,
        "1 within the hours in which callers are expected, else 0; only where hours are configured.",
    ),
    Family(
        "vcc_inbound_rows", "gauge", _CUSTOMER, "Rows in the last good answer, those that could not be used included."
    ),
    Family("vcc_inbound_rejected_rows", "gauge", _CUSTOMER, "Rows in the last good answer that could not be used."),
    Family("vcc_polls_total", "counter", ("customer", "result"), "Polls by how they ended."),
    Family("vcc_poll_duration_seconds", "summary", _CUSTOMER, "How long polls took, all requests of a poll together."),
    Family(
        "vcc_poll_last_success_timestamp_seconds",
        "gauge",
        _CUSTOMER,
        "When the last good poll's answer was in.",
    ),
    Family("vcc_poll_next_timestamp_seconds", "gauge", _CUSTOMER, "When the next poll is due."),
)
"""About a customer's data and polls."""

EXPORTER_FAMILIES: Final[tuple[Family, ...]] = (
    Family("vcc_exporter_build_info", "gauge", ("version",), "A constant 1, labelled with the exporter's version."),
    Family(
        "vcc_exporter_config_last_reload_successful",
        "gauge",
        (),
        "1 if the last attempt to load the config succeeded, else 0.",
    ),
    Family(
        "vcc_exporter_config_last_reload_success_timestamp_seconds",
        "gauge",
        (),
        "When the config was last loaded successfully.",
    ),
    Family(
        "vcc_exporter_web_config_last_reload_successful",
        "gauge",
        (),
        "1 if the last attempt to load the web config succeeded, else 0; present where there is one.",
    ),
)
"""About the exporter itself."""

FAMILIES: Final[tuple[Family, ...]] = DATA_FAMILIES + CUSTOMER_FAMILIES + EXPORTER_FAMILIES
"""Every family, in the order in which the page shows them."""
