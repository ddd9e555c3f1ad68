"""The config as the program meets it: frozen values, in which nothing is left to look up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from vcc_exporter import times


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where a customer's API key comes from: exactly one is not None."""

    inline: str | None = field(default=None, repr=False)
    file: Path | None = None
    env: str | None = None


@dataclass(frozen=True, slots=True)
class Targets:
    """What was promised about a project's calls."""

    service_level: float = 0.8
    """At least this part answered before the threshold, 0 to 1."""
    abandonment: float = 0.05
    """At most this part given up, 0 to 1."""
    min_calls: int = 20
    """With fewer calls the ratios judge nothing."""


@dataclass(frozen=True, slots=True)
class Project:
    """One project, with the customer's settings filled in where it has none of its own."""

    id: int
    name: str | None
    """None: the name that the API gives, else the id."""
    sla_s: int
    targets: Targets
    hours: times.Hours | None
    queues: Mapping[int, str]
    """Names for queue ids."""


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer's effective settings."""

    name: str
    subdomain: str
    url: str
    """Scheme, host and perhaps a path; no slash at the end."""
    proxy_url: str | None = field(repr=False)
    ca_file: Path | None
    key: KeySource
    zone: ZoneInfo
    sla_s: int
    targets: Targets
    teams: tuple[int, ...]
    """Ascending; empty: all."""
    schedule: str | None
    """A crontab expression in `zone`, instead of `interval`."""
    hours: times.Hours | None
    labels: tuple[tuple[str, str], ...]
    interval: timedelta
    timeout: timedelta
    stale_after: timedelta
    lookback_days: int
    listed: Mapping[int, Project]
    """The config's projects by id; empty: every project that the key can see."""
    other_projects: bool
    """Whether projects that are not listed are shown, too."""

    def project(self, project_id: int) -> Project:
        """Return a project's settings, the customer's own for one that is not listed."""
        return self.listed.get(project_id) or Project(project_id, None, self.sla_s, self.targets, self.hours, {})

    def question(self) -> tuple[object, ...]:
        """Return what decides which numbers are asked for: values from before a change of it mean nothing after."""
        projects = tuple(sorted((p.id, p.sla_s) for p in self.listed.values()))
        return self.subdomain, self.url, self.zone.key, self.teams, self.sla_s, projects, self.other_projects


@dataclass(frozen=True, slots=True)
class WebUser:
    """One user of the web config who sees some customers and no other."""

    name: str
    customers: frozenset[str]
    file: str
    line: int
    """Where the config says so."""


@dataclass(frozen=True, slots=True)
class Config:
    """A whole config, checked."""

    customers: tuple[Customer, ...]
    web_users: tuple[WebUser, ...] = ()
