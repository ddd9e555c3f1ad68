"""From a config's text to its values, every fault at once with its line.

The text becomes a tree that knows its lines (`yaml_lines`), the tree is held against the models
(`config_schema`) and against the rules that span several keys, and defaults are filled in.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from vcc_exporter import times
from vcc_exporter.config import Config, Customer, KeySource, Project, Targets, WebUser
from vcc_exporter.config_schema import (
    SECRET_KEYS,
    SECTIONS,
    WHOLE_NUMBER,
    ConfigFile,
    CustomerSection,
    PollSection,
    TargetsSection,
)
from vcc_exporter.faults import ConfigError, Fault
from vcc_exporter.schema_faults import Shape, nearest, schema_faults, spell
from vcc_exporter.yaml_lines import LinedMap, line_of, read

VENDOR_URL: Final = "https://{subdomain}.asp.virtual-call-center.eu"
SHORTEST_STALE_AFTER: Final = timedelta(minutes=5)
_DAY: Final = timedelta(days=1)
_SHAPE: Final = Shape(SECTIONS, SECRET_KEYS)

# Rules that span several keys. They look at the tree, so that they speak even where a value is wrong.


def _mappings(tree: Any, key: str) -> list[tuple[int, LinedMap]]:
    items = tree.get(key) if isinstance(tree, LinedMap) else None
    return [(i, item) for i, item in enumerate(items) if isinstance(item, LinedMap)] if isinstance(items, list) else []


def _rule_faults(file: str, tree: Any) -> Iterator[Fault]:
    def fault(path: tuple[str | int, ...], message: str) -> Fault:
        return Fault(file, line_of(tree, path), spell(path), message)

    yield from (fault(*twice) for twice in _twice(tree, "customers", "name"))
    defaults = tree.get("poll") if isinstance(tree, LinedMap) else None
    for i, customer in _mappings(tree, "customers"):
        path: tuple[str | int, ...] = ("customers", i)
        for key, rule in _RULES:
            if key is None or key in customer:
                yield from (fault((*path, *where), message) for where, message in rule(customer))
        yield from (fault(*broken) for broken in _stale(defaults, customer, path))
    yield from (fault(*broken) for broken in _shares(tree))


_Broken = Iterator[tuple[tuple[str | int, ...], str]]
"""Where below the section a rule is broken, and what was expected there."""


def _twice(tree: Any, section: str, key: str) -> _Broken:
    first: dict[str, LinedMap] = {}
    for i, item in _mappings(tree, section):
        value = item.get(key)
        if isinstance(value, str):
            value = _id(value) if key == "id" else value
            if value in first:
                line = line_of(first[value], (key,))
                yield (section, i, key), f"expected a unique {key}, found {value!r} again, first on line {line}"
            else:
                first[value] = item


def _id(text: Any) -> Any:
    """Return an id as it is usually written, since 7 and 07 are one; and what is no id as it stands."""
    return str(int(text)) if isinstance(text, str) and WHOLE_NUMBER.fullmatch(text) else text


_KEY_SOURCES: Final = ("api_key", "api_key_file", "api_key_env")


def _one_key(customer: LinedMap) -> _Broken:
    given = [key for key in _KEY_SOURCES if key in customer]
    if len(given) == 1:
        return
    unknown = [key for key in customer if key not in CustomerSection.model_fields]
    if not given and any(nearest(key, CustomerSection) in _KEY_SOURCES for key in unknown):
        return  # told already, as an unknown key
    found = " and ".join(given) or "none"
    yield ((given or ["api_key"])[-1],), f"expected exactly one of {', '.join(_KEY_SOURCES)}, found {found}"


def _one_rhythm(customer: LinedMap) -> _Broken:
    poll = customer.get("poll")
    if isinstance(poll, LinedMap) and "interval" in poll:
        yield ("schedule",), "expected either schedule or poll.interval, found both"


_OF_A_NAME: Final = re.compile("[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII | re.IGNORECASE)
_NO_COLON: Final = re.compile("[^:]*")


def _account(customer: LinedMap) -> _Broken:
    """Find a subdomain that cannot stand in the vendor's address, which is made from it, or in credentials."""
    key = "subdomain" if "subdomain" in customer else "name"
    subdomain = customer.get(key)
    possible = _NO_COLON if "url" in customer else _OF_A_NAME
    if isinstance(subdomain, str) and not possible.fullmatch(subdomain):
        words = "without a colon" if "url" in customer else "(letters, digits and dashes)"
        hint = "" if key == "subdomain" else "; or give subdomain"
        yield (key,), f"expected a subdomain {words}, found {subdomain!r}{hint}"


def _teams_once(customer: LinedMap) -> _Broken:
    teams, seen = customer.get("teams"), set[str]()
    for i, team in enumerate(map(_id, teams) if isinstance(teams, list) else ()):
        if isinstance(team, str):
            if team in seen:
                yield ("teams", i), f"expected each team once, found {team!r} again"
            seen.add(team)


def _queues_once(customer: LinedMap) -> _Broken:
    for i, project in _mappings(customer, "projects"):
        queues, seen = project.get("queues"), set[str]()
        for key in queues if isinstance(queues, LinedMap) else ():
            if _id(key) in seen:
                yield ("projects", i, "queues", key), f"expected each queue once, found {_id(key)!r} again"
            seen.add(_id(key))


def _projects_days_once(customer: LinedMap) -> _Broken:
    for i, project in _mappings(customer, "projects"):
        yield from ((("projects", i, *where), message) for where, message in _days_once(project))


def _days_once(section: LinedMap) -> _Broken:
    hours, seen = section.get("hours"), set[int]()
    for key in hours if isinstance(hours, LinedMap) else ():
        try:
            days = set(times.parse_weekdays(key))
        except ValueError:
            continue
        for day in sorted(days & seen)[:1]:
            yield ("hours", key), f"expected each weekday once, found {times.WEEKDAYS[day]} again"
        seen |= days


def _holidays_need_hours(customer: LinedMap) -> _Broken:
    anywhere = "hours" in customer or any("hours" in project for _, project in _mappings(customer, "projects"))
    if not anywhere:
        yield ("holidays",), "expected hours beside holidays, found none"


def _shares(tree: Any) -> _Broken:
    """Find who is to see customers that are none, or one twice. Returns whole paths."""
    users = tree.get("web_users") if isinstance(tree, LinedMap) else None
    known = {name for _, item in _mappings(tree, "customers") if isinstance(name := item.get("name"), str)}
    for user, names in users.items() if isinstance(users, LinedMap) else ():
        seen = set[str]()
        for i, name in enumerate(names) if isinstance(names, list) else ():
            if not isinstance(name, str):
                continue  # told already, as a wrong type
            if name not in known:
                near = difflib.get_close_matches(name, sorted(known), 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                yield ("web_users", user, i), f"expected the name of a customer, found {name!r}{hint}"
            elif name in seen:
                yield ("web_users", user, i), f"expected each customer once, found {name!r} again"
            seen.add(name)


_RULES: Final[tuple[tuple[str | None, Callable[[LinedMap], _Broken]], ...]] = (
    ("projects", lambda customer: _twice(customer, "projects", "id")),
    (None, _one_key),
    ("schedule", _one_rhythm),
    (None, _account),
    ("teams", _teams_once),
    ("projects", _queues_once),
    ("hours", _days_once),
    ("projects", _projects_days_once),
    ("holidays", _holidays_need_hours),
)
"""Each for the customers that have a key, or for all."""


def _stale(defaults: Any, customer: LinedMap, path: tuple[str | int, ...]) -> _Broken:
    """Values must outlive the way to the next poll. Returns whole paths, since the fault may lie in the defaults."""
    own, common = (section if isinstance(section, LinedMap) else {} for section in (customer.get("poll"), defaults))
    stale_after = own.get("stale_after", common.get("stale_after"))
    interval = own.get("interval", common.get("interval", "1m"))
    if "schedule" in customer or not (isinstance(stale_after, str) and isinstance(interval, str)):
        return
    try:
        if times.parse_duration(stale_after) > times.parse_duration(interval):
            return
    except ValueError:
        return
    if "interval" in own and "stale_after" not in own:
        yield (*path, "poll", "interval"), f"expected less than the stale_after of {stale_after}, found {interval!r}"
    else:
        where = path if "stale_after" in own else ()
        yield (*where, "poll", "stale_after"), f"expected more than the interval of {interval}, found {stale_after!r}"


# Defaults filled in.


_PROMISED: Final = Targets()


def _targets(section: TargetsSection | None, default: Targets) -> Targets:
    if section is None:
        return default
    given = section.model_dump(exclude_none=True)
    return Targets(
        given.get("service_level", default.service_level),
        given.get("abandonment", default.abandonment),
        given.get("min_calls", default.min_calls),
    )


@dataclass(frozen=True, slots=True)
class _Rhythm:
    """When a customer is asked, and for how long an answer is good."""

    interval: timedelta
    timeout: timedelta
    stale_after: timedelta
    lookback_days: int


def _rhythm(*sections: PollSection | None) -> _Rhythm:
    """Return what sections say, each of them before those that precede it."""
    given: dict[str, timedelta] = {}
    for section in sections:
        given.update(section.model_dump(exclude_none=True) if section else {})
    interval = given.get("interval", timedelta(minutes=1))
    return _Rhythm(
        interval,
        given.get("timeout", timedelta(seconds=10)),
        given.get("stale_after", max(SHORTEST_STALE_AFTER, 3 * interval)),
        given.get("lookback", 7 * _DAY) // _DAY,
    )


def _hours(
    given: Mapping[tuple[int, ...], tuple[tuple[int, int], ...]] | None,
    holidays: Collection[str | date],
) -> times.Hours | None:
    if not given:
        return None
    countries = tuple(sorted({day for day in holidays if isinstance(day, str)}))
    dates = frozenset(day for day in holidays if isinstance(day, date))
    return times.Hours(times.week({day: spans for days, spans in given.items() for day in days}), countries, dates)


@dataclass(frozen=True, slots=True)
class _Common:
    """What holds for all customers, as far as they have nothing of their own."""

    poll: PollSection | None
    rhythm: _Rhythm
    folder: Path
    """To which paths are relative."""


def _customer(section: CustomerSection, common: _Common) -> Customer:
    folder = common.folder
    rhythm = _rhythm(common.poll, section.poll) if section.poll else common.rhythm
    subdomain = section.subdomain or section.name
    sla_s, targets = section.sla or 30, _targets(section.targets, _PROMISED)
    holidays = section.holidays or ()
    hours = _hours(section.hours, holidays)
    listed = {
        p.id: Project(
            id=p.id,
            name=p.name,
            sla_s=p.sla or sla_s,
            targets=_targets(p.targets, targets),
            hours=_hours(p.hours, holidays) or hours,
            queues=p.queues or {},
        )
        for p in sorted(section.projects or [], key=lambda p: p.id)
    }
    return Customer(
        name=section.name,
        subdomain=subdomain,
        url=section.url or VENDOR_URL.format(subdomain=subdomain),
        proxy_url=section.proxy_url,
        ca_file=folder / section.ca_file if section.ca_file else None,
        key=KeySource(
            section.api_key, folder / section.api_key_file if section.api_key_file else None, section.api_key_env
        ),
        zone=section.timezone,
        sla_s=sla_s,
        targets=targets,
        teams=tuple(sorted(set(section.teams or []))),
        schedule=section.schedule,
        hours=hours,
        labels=tuple(sorted((section.labels or {}).items())),
        interval=rhythm.interval,
        timeout=rhythm.timeout,
        stale_after=rhythm.stale_after,
        lookback_days=rhythm.lookback_days,
        listed=listed,
        other_projects=section.other_projects,
    )


def parse(text: str, file: str, folder: Path) -> Config:
    """Read a config's text. `file` names it in messages; paths in it are relative to `folder`.

    Raises ConfigError with every fault.
    """
    tree, faults = read(text, file)
    if tree is None:
        raise ConfigError(faults or [Fault(file, 1, "", "expected customers, found nothing")])
    faults += _rule_faults(file, tree)
    try:
        whole = ConfigFile.model_validate(tree)
    except ValidationError as error:
        raise ConfigError([*faults, *schema_faults(file, tree, error, _SHAPE)]) from None
    if faults:
        raise ConfigError(faults)
    users = tuple(
        WebUser(name, frozenset(names), file, line_of(tree, ("web_users", name)))
        for name, names in (whole.web_users or {}).items()
    )
    common = _Common(whole.poll, _rhythm(whole.poll), folder)
    return Config(tuple(_customer(section, common) for section in whole.customers), users)
