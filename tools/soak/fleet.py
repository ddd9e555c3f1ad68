"""Customers as the config describes them, drawn at random: what is written, and what it means.

No default is left out of the meaning and none is asked of the exporter: what a key means where it is not written stands
here once more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

from tools.soak.calendar import HOURS, SCHEDULES, Hours
from tools.soak.dice import Dice

ZONES: Final = (
    "Europe/Budapest",
    "Asia/Beirut",
    "America/Santiago",
    "Africa/Cairo",
    "America/Havana",
    "Europe/London",
    "Asia/Kathmandu",
    "America/New_York",
    "Pacific/Chatham",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
    "Asia/Tehran",
    "Atlantic/Azores",
    "UTC",
)
"""Midnights that do not exist or come twice, odd offsets, and both ends of the world's date."""
INTERVALS_S: Final = (60, 180, *[300] * 2, *[600] * 8, *[900] * 8, *[1800] * 8)
_SLAS: Final = (10, 20, 30, 45)
_LOOKBACKS: Final = (0, 1, 3, 7, 14, 30)
_TARGETS: Final[Mapping[str, float]] = MappingProxyType({"service_level": 0.8, "abandonment": 0.05, "min_calls": 20})
_TARGET_WORDS: Final = ("80%", "75%", "90%", "85%")
_PROJECT_NAMES: Final = (None, "Sales", 'The "Hotline"', "Back\\office", "Ügyfélszolgálat", "{odd} = 1, #2")
QUEUES: Final = (-1, 908, 909, 1101, 2**40)


@dataclass(frozen=True)
class ListedProject:
    """A project that the config lists."""

    id: int
    name: str | None = None
    sla: int | None = None
    targets: Mapping[str, str] = field(default_factory=dict)
    hours: Hours | None = None
    queues: Mapping[int, str] = field(default_factory=dict)

    def section(self) -> dict[str, Any]:
        """Return it as it is written."""
        given = {
            "name": self.name,
            "sla": self.sla,
            "targets": dict(self.targets),
            "hours": dict(self.hours.written) if self.hours else None,
            "queues": {str(queue): name for queue, name in self.queues.items()},
        }
        return {"id": self.id, **{key: value for key, value in given.items() if value}}


@dataclass(frozen=True)
class Settings:
    """One customer's part of the config."""

    name: str
    subdomain: str
    url: str
    key_file: Path
    zone: ZoneInfo
    sla: int | None = None
    targets: Mapping[str, str] = field(default_factory=dict)
    teams: tuple[int, ...] = ()
    schedule: str | None = None
    hours: Hours | None = None
    holidays: frozenset[str | date] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    interval_s: int = 60
    timeout_s: int = 30
    stale_after_s: int | None = None
    lookback_days: int = 7
    projects: tuple[ListedProject, ...] = ()
    other_projects: bool = False

    def section(self) -> dict[str, Any]:
        """Return it as it is written."""
        poll = {"timeout": f"{self.timeout_s}s", "lookback": f"{self.lookback_days}d"}
        if not self.schedule:
            poll["interval"] = f"{self.interval_s}s"
        if self.stale_after_s:
            poll["stale_after"] = f"{self.stale_after_s}s"
        given = {
            "sla": self.sla,
            "targets": dict(self.targets),
            "teams": list(self.teams),
            "schedule": self.schedule,
            "hours": dict(self.hours.written) if self.hours else None,
            "holidays": [str(day) for day in sorted(self.holidays, key=str)] if self.has_hours else None,
            "labels": dict(self.labels),
            "projects": [project.section() for project in self.projects],
            "other_projects": self.other_projects,
        }
        return {
            "name": self.name,
            "subdomain": self.subdomain,
            "url": self.url,
            "api_key_file": str(self.key_file),
            "timezone": self.zone.key,
            "poll": poll,
            **{key: value for key, value in given.items() if value},
        }

    @property
    def has_hours(self) -> bool:
        """Whether hours are given anywhere."""
        return bool(self.all_hours())

    @property
    def interval(self) -> timedelta:
        """How long from one poll to the next."""
        return timedelta(seconds=self.interval_s)

    @property
    def stale_after(self) -> timedelta:
        """How long values live: where nothing is written, the longer of 5 minutes and three intervals."""
        interval_s = 60 if self.schedule else self.interval_s
        return timedelta(seconds=self.stale_after_s or max(300, 3 * interval_s))

    @property
    def own_sla(self) -> int:
        """The customer's threshold."""
        return self.sla or 30

    def listed(self, project: int) -> ListedProject:
        """Return what is written of a project, or that nothing is."""
        return next((p for p in self.projects if p.id == project), ListedProject(project))

    def project_sla(self, project: int) -> int:
        """Return a project's threshold."""
        return self.listed(project).sla or self.own_sla

    def target(self, project: int, key: str) -> float:
        """Return a target of a project: its own, the customer's, or the default."""
        words = self.listed(project).targets.get(key) or self.targets.get(key)
        if words is None:
            return _TARGETS[key]
        return float(words.removesuffix("%")) / 100 if words.endswith("%") else float(words)

    def project_hours(self, project: int) -> Hours | None:
        """Return a project's hours, which are the customer's where it has none."""
        return self.listed(project).hours or self.hours

    def all_hours(self) -> list[Hours]:
        """Return all hours that are written."""
        return [hours for hours in (self.hours, *(p.hours for p in self.projects)) if hours]

    def asks(self) -> frozenset[tuple[frozenset[int], int]]:
        """Return the projects that each request of a poll names, none for all of them, and its threshold."""
        slas = {self.project_sla(p.id) for p in self.projects}
        named = {(frozenset(p.id for p in self.projects if self.project_sla(p.id) == sla), sla) for sla in slas}
        rest = {(frozenset[int](), self.own_sla)} if self.other_projects or not self.projects else set()
        return frozenset(named | rest)

    def means(self) -> tuple[object, ...]:
        """Return what all that is written comes to: a reload that changes none of it has changed nothing."""
        projects = {
            p.id: (p.name, self._targets(p.id), self.project_hours(p.id), tuple(sorted(p.queues.items())))
            for p in self.projects
        }
        rhythm = self.schedule or self.interval_s, self.timeout_s, self.stale_after, self.lookback_days
        when = self.hours, self.holidays if self.has_hours else None
        words = tuple(sorted(self.labels.items())), tuple(sorted(projects.items())), self._targets(None)
        return self.name, self.key_file, self.what(), rhythm, when, words

    def _targets(self, project: int | None) -> tuple[float, ...]:
        return tuple(self.target(-1 if project is None else project, key) for key in _TARGETS)

    def same_numbers(self, other: "Settings") -> bool:
        """Tell whether other settings ask for the same numbers."""
        return self.what() == other.what()

    def what(self) -> tuple[object, ...]:
        """Return what is asked: a change of it makes an end of the values."""
        projects = frozenset((p.id, self.project_sla(p.id)) for p in self.projects)
        return self.subdomain, self.url, self.zone.key, self.teams, self.own_sla, projects, self.other_projects


def draw(dice: Dice, number: int, url: str, folder: Path, quickest_s: int) -> Settings:
    """Draw a customer. None is polled more often than every `quickest_s`."""
    name = f"centre-{number}" if number % 5 else f'Centre "{number}" \\ ö'
    key_file = folder / f"{number}.key"
    settings = Settings(name, f"user{number}", url, key_file, ZoneInfo(ZONES[number % len(ZONES)]))
    settings = replace(settings, lookback_days=dice.choice(_LOOKBACKS), timeout_s=dice.choice((20, 30, 45)))
    settings = another_rhythm(dice, settings, quickest_s)
    if dice.happens(0.15):
        settings = replace(settings, schedule=dice.choice(sorted(SCHEDULES)))
    if dice.happens(0.5):
        settings = replace(settings, hours=dice.choice(HOURS), holidays=_holidays(dice))
    settings = another_question(dice, settings)
    return other_words(dice, settings)


def another_rhythm(dice: Dice, settings: Settings, quickest_s: int) -> Settings:
    """Draw how often a customer is polled, and how long its values live."""
    interval_s = max(quickest_s, dice.choice(INTERVALS_S))
    least = 60 if settings.schedule else interval_s
    stale_after_s = dice.choice((None, None, least + 1, 2 * least, 7 * least))
    return replace(settings, interval_s=interval_s, stale_after_s=stale_after_s)


def another_question(dice: Dice, settings: Settings) -> Settings:
    """Draw for what a customer's API is asked."""
    ids = [] if dice.happens(0.5) else dice.sample(range(101, 105), dice.choice((1, 2, 3)))
    return replace(
        settings,
        sla=dice.choice((None, *_SLAS)),
        teams=tuple(sorted(dice.sample(range(1, 9), 2))) if dice.happens(0.2) else (),
        projects=tuple(ListedProject(number, sla=dice.choice((None, *_SLAS))) for number in ids),
        other_projects=bool(ids) and dice.happens(0.5),
    )


def other_words(dice: Dice, settings: Settings) -> Settings:
    """Draw what changes nothing of what is asked: names, targets, hours, labels."""
    projects = tuple(
        replace(
            project,
            name=dice.choice(_PROJECT_NAMES),
            targets=_targets(dice),
            hours=dice.choice((None, None, *HOURS)),
            queues={queue: f'q "{queue}"' for queue in dice.sample(QUEUES, dice.choice((0, 0, 1, 2)))},
        )
        for project in settings.projects
    )
    return replace(
        settings,
        projects=projects,
        targets=_targets(dice),
        labels={"tier": dice.choice(("gold", "silver", 'a "b" \\c'))} if dice.happens(0.5) else {},
    )


def _targets(dice: Dice) -> dict[str, str]:
    drawn = {
        "service_level": dice.choice(_TARGET_WORDS),
        "abandonment": dice.choice(("5%", "3%", "0.07")),
        "min_calls": dice.choice(("10", "50")),
    }
    return {key: words for key, words in drawn.items() if dice.happens(0.4)}


def _holidays(dice: Dice) -> frozenset[str | date]:
    drawn: list[str | date] = dice.choice([[], ["HU"], ["AT", date(2026, 10, 24)]])
    return frozenset(drawn)
