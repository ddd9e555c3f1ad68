"""The config file's shape: every key with its type, its words and what it expects.

The models are also the JSON Schema that editors use. A new key is one line here and its one user.
"""

import difflib
import re
import struct
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Annotated, Any, Final, Self, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from vcc_exporter import times

T = TypeVar("T")

LONGEST_LOOKBACK: Final = timedelta(days=30)

# Scalars. Each reads a string as it stands in the file and says what it expects.


class UnexpectedError(PydanticCustomError):
    """Something else was expected."""

    def __new__(cls, expected: str, detail: str = "") -> Self:
        """Say what was expected, and perhaps what is wrong with what was found; no secret."""
        return super().__new__(cls, "expected", "{expected}", {"expected": expected, "detail": detail})


def scalar(read: Callable[[str], T], expected: str) -> BeforeValidator:
    """Read a string as it stands in the file. `read` raises ValueError for what it cannot read."""

    def validate(value: Any) -> T:
        if not isinstance(value, str):
            raise UnexpectedError(expected)
        try:
            return read(value)
        except ValueError as error:
            raise UnexpectedError(expected, str(error) if read in _EXPLAIN else "") from None

    return BeforeValidator(validate)


WHOLE_NUMBER: Final = re.compile("-?[0-9]{1,18}", re.ASCII)
_RATIO: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]+)?)\s*(%?)", re.ASCII)
_LABEL_NAME: Final = re.compile(r"(?!__)[a-zA-Z_]\w*", re.ASCII)


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not WHOLE_NUMBER.fullmatch(text) or not least <= int(text) <= most:
            raise ValueError(text)
        return int(text)

    return read


def _duration(
    least: timedelta, most: timedelta, unit: timedelta = timedelta(milliseconds=1)
) -> Callable[[str], timedelta]:
    def read(text: str) -> timedelta:
        duration = times.parse_duration(text)
        if not least <= duration <= most or duration % unit:
            raise ValueError(text)
        return duration

    return read


def printable(text: str) -> str:
    """Return one line of text. Raises ValueError."""
    if not text.strip() or not text.isprintable():
        raise ValueError(text)
    return text


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text] if text in {"true", "false"} else _fail(text)


def _fail(text: str) -> bool:
    raise ValueError(text)


def _ratio(text: str) -> float:
    match = _RATIO.fullmatch(text)
    ratio = float(match[1]) / (100 if match[2] else 1) if match else 2.0
    if ratio > 1:
        raise ValueError(text)
    return ratio


def _zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (OSError, ValueError, LookupError, struct.error):
        known = available_timezones()
        if not known:
            raise ValueError("there are no time zone data here: install tzdata") from None
        if text in known:
            raise ValueError("its time zone data here cannot be read: install tzdata anew") from None
        near = difflib.get_close_matches(text, known, 1)
        raise ValueError(f"did you mean {near[0]!r}?" if near else "") from None


def _url(text: str) -> str:
    checked = _endpoint(text, "https://")
    if "@" in urlsplit(text).netloc:
        raise ValueError("credentials in it are refused: the key goes into api_key, api_key_file or api_key_env")
    if "?" in text or "#" in text:
        raise ValueError("a query or a fragment in it is refused")
    return checked


def _proxy_url(text: str) -> str:
    return _endpoint(text, "http://")


def _endpoint(text: str, scheme: str) -> str:
    if "://" not in text:
        raise ValueError(f"it has no {scheme}")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError from None  # the library's words may quote a password
    if parts.scheme not in {"http", "https"} or not parts.hostname or not text.isprintable() or " " in text:
        raise ValueError
    if port == 0:
        raise ValueError
    return text.rstrip("/")


def _holiday(text: str) -> str | date:
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        return date.fromisoformat(text)
    if not times.known_country(text):
        raise ValueError
    return text


# Readers whose ValueErrors are written for the reader of the config.
_EXPLAIN: Final[frozenset[Callable[[str], Any]]] = frozenset({times.parse_crontab, _zone, _url, _proxy_url})

_STRING: Final = {"type": ["string", "number", "boolean"]}
_DURATION_SCHEMA: Final = {
    "type": ["string", "integer"],
    "pattern": r"^(0|([0-9]+(y|w|d|h|ms|m|s))+)$",
    "minimum": 0,
    "maximum": 0,
}
_RATIO_SCHEMA: Final = {
    "type": ["string", "number"],
    "pattern": r"^[0-9]{1,3}(\.[0-9]+)?\s*%?$",
    "minimum": 0,
    "maximum": 1,
}
_DAY: Final = timedelta(days=1)
_FOREVER: Final = timedelta(days=3650)

Text = Annotated[str, scalar(printable, "one line of printable text"), WithJsonSchema(_STRING)]
_Interval = Annotated[
    timedelta,
    scalar(_duration(timedelta(milliseconds=100), _FOREVER), "a duration from 100ms to 10y, such as 30s, 1m or 1h30m"),
    WithJsonSchema(_DURATION_SCHEMA),
]
_Lookback = Annotated[
    timedelta,
    scalar(_duration(timedelta(), LONGEST_LOOKBACK, _DAY), "whole days from 0 to 30d"),
    WithJsonSchema(_DURATION_SCHEMA),
]
_Sla = Annotated[
    int,
    scalar(_whole(1, 86_400), "whole seconds, from 1 to 86400"),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 86_400}),
]
_Count = Annotated[
    int, scalar(_whole(0, 10**9), "a whole number, 0 or more"), WithJsonSchema({"type": "integer", "minimum": 0})
]
_Id = Annotated[
    int,
    scalar(_whole(0, 2**53 - 1), "an id, a whole number, 0 or more"),
    WithJsonSchema({"type": "integer", "minimum": 0}),
]
_QueueId = Annotated[int, scalar(_whole(-1, 2**53 - 1), "a queue's id, a whole number, -1 or more")]
_Ratio = Annotated[
    float, scalar(_ratio, "a percentage such as 80%, or a part from 0 to 1"), WithJsonSchema(_RATIO_SCHEMA)
]
Bool = Annotated[bool, scalar(_boolean, "true or false"), WithJsonSchema({"type": "boolean"})]
_Zone = Annotated[
    ZoneInfo, scalar(_zone, "a timezone's name such as Europe/Budapest"), WithJsonSchema({"type": "string"})
]
_Cron = Annotated[
    str,
    scalar(times.parse_crontab, "a crontab schedule of five fields such as '* 7-20 * * mon-fri'"),
    WithJsonSchema({"type": "string"}),
]
_Url = Annotated[
    str, scalar(_url, "an address such as https://acme.asp.virtual-call-center.eu"), WithJsonSchema({"type": "string"})
]
_ProxyUrl = Annotated[
    str, scalar(_proxy_url, "a proxy's address such as http://proxy:3128"), WithJsonSchema({"type": "string"})
]
_Holiday = Annotated[
    str | date,
    scalar(_holiday, "a country code such as HU, or a date such as 2026-12-24"),
    WithJsonSchema({"type": "string"}),
]
_LabelName = Annotated[
    str,
    scalar(
        lambda text: text if _LABEL_NAME.fullmatch(text) and text not in _OWN_LABELS else str(_fail(text)),
        "a label name of letters, digits and underscores, other than customer and timezone",
    ),
]
_OWN_LABELS: Final = {"customer", "timezone"}
_Span = tuple[int, int]


def _spans(value: Any) -> Any:
    spans = []
    for text in value if isinstance(value, list) else [value]:
        try:
            spans.append(times.parse_span(text))
        except (ValueError, TypeError, AttributeError):
            detail = f"{text!r} in it is none" if isinstance(value, list) and isinstance(text, str) else ""
            raise UnexpectedError("hours such as 08:00-18:00, or a list of them", detail) from None
    return tuple(spans)


_Weekdays = Annotated[
    tuple[int, ...],
    scalar(lambda text: tuple(times.parse_weekdays(text)), "weekdays such as mon-fri or sat,sun"),
]


def _hours(value: Any) -> Any:
    if not isinstance(value, dict) or not value:
        raise UnexpectedError(
            "opening hours by weekday, such as {mon-fri: 08:00-18:00, sat: [09:00-12:00, 13:00-15:00]}"
        )
    return value


_Hours = Annotated[
    dict[_Weekdays, Annotated[tuple[_Span, ...], BeforeValidator(_spans)]],
    BeforeValidator(_hours),
    WithJsonSchema(
        {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": ["string", "array"], "items": {"type": "string"}},
        }
    ),
]


# The file. Field names are the keys; descriptions go into the JSON Schema and into messages.


# Mappings of which every key may be missing.
_MAY_BE_EMPTY: Final = frozenset({"poll", "targets", "labels"})


class Section(BaseModel):
    """One mapping of the file. An unknown key is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_given(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a key without a value where that could mean something else than no key, such as `projects:`."""
        name = str(info.field_name)
        if value is None and name not in _MAY_BE_EMPTY:
            raise PydanticCustomError("empty", "no value")
        return value


class PollSection(Section):
    """When to ask, and how long answers last."""

    interval: _Interval | None = Field(None, description="how often to ask; default 1m")
    timeout: _Interval | None = Field(None, description="how long one request may take as a whole; default 10s")
    stale_after: _Interval | None = Field(
        None, description="how long values outlive the last good poll; default the longer of 5m and 3 intervals"
    )
    lookback: _Lookback | None = Field(
        None, description="how far back to learn which queues exist, in whole days; default 7d, 0 turns it off"
    )


class TargetsSection(Section):
    """What was promised."""

    service_level: _Ratio | None = Field(None, description="least part answered before the threshold; default 80%")
    abandonment: _Ratio | None = Field(None, description="greatest part given up; default 5%")
    min_calls: _Count | None = Field(None, description="with fewer calls nothing is judged; default 20")


class ProjectSection(Section):
    """One project of a customer."""

    id: _Id = Field(description="the API's project id")
    name: Text | None = Field(None, description="the project's name on every series; default: the API's")
    sla: _Sla | None = Field(None, description="the threshold in seconds; default: the customer's")
    targets: TargetsSection | None = Field(None, description="what was promised; key by key, default: the customer's")
    hours: _Hours | None = Field(None, description="when callers are expected; default: the customer's")
    queues: (
        Annotated[dict[_QueueId, Text], WithJsonSchema({"type": "object", "additionalProperties": _STRING})] | None
    ) = Field(None, description="names for queue ids; default: the id")


class CustomerSection(Section):
    """One customer of VCC Live."""

    name: Text = Field(description="the customer's name on every series; must be unique")
    subdomain: Text | None = Field(
        None, description="the account, which is also the user of its credentials; default: name"
    )
    url: _Url | None = Field(None, description="the API's address; default: made from subdomain")
    proxy_url: _ProxyUrl | None = Field(None, description="a proxy; default: the environment's")
    ca_file: Text | None = Field(None, description="trusted certificates; default: the environment's")
    api_key: Text | None = Field(None, description="the API key; better in a file")
    api_key_file: Text | None = Field(None, description="a file that holds the API key")
    api_key_env: Text | None = Field(None, description="an environment variable that holds the API key")
    timezone: _Zone = Field(description="what 'today' means, a timezone's name such as Europe/Budapest")
    sla: _Sla | None = Field(None, description="the threshold in seconds; default 30, the API's own")
    targets: TargetsSection | None = Field(None, description="what was promised")
    teams: Annotated[list[_Id], Field(min_length=1)] | None = Field(None, description="team ids; default: all")
    schedule: _Cron | None = Field(None, description="a crontab schedule in timezone, instead of poll.interval")
    hours: _Hours | None = Field(None, description="when callers are expected; default: unknown")
    holidays: list[_Holiday] | None = Field(None, description="days without hours: country codes or dates")
    labels: (
        Annotated[dict[_LabelName, Text], WithJsonSchema({"type": "object", "additionalProperties": _STRING})] | None
    ) = Field(None, description="free labels of vcc_customer_info")
    poll: PollSection | None = Field(None, description="this customer's own poll settings")
    projects: Annotated[list[ProjectSection], Field(min_length=1)] | None = Field(
        None, description="these projects and no other; default: every project that the key can see"
    )
    other_projects: Bool = Field(False, description="with projects: show those that are not listed, too")


class ConfigFile(Section):
    """The config of vcc-exporter."""

    poll: PollSection | None = Field(None, description="defaults for all customers")
    customers: Annotated[list[CustomerSection], Field(min_length=1)] = Field(description="the customers to poll")
    web_users: (
        Annotated[
            dict[Text, Annotated[list[Text], Field(min_length=1)]],
            Field(min_length=1),
            WithJsonSchema(
                {
                    "type": "object",
                    "minProperties": 1,
                    "additionalProperties": {"type": "array", "items": _STRING, "minItems": 1},
                }
            ),
        ]
        | None
    ) = Field(None, description="users of the web config, each with the customers that they see; others see all")


SECTIONS: Final[Mapping[str, type[Section]]] = {
    "": ConfigFile,
    "poll": PollSection,
    "customers": CustomerSection,
    "projects": ProjectSection,
    "targets": TargetsSection,
}
"""The model of the mappings, or of the list's items, under each key."""
SECRET_KEYS: Final = frozenset({"api_key", "url", "proxy_url"})
"""Keys whose values stand in no message."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the config, for editors."""
    schema = ConfigFile.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "vcc-exporter config"
    return schema
