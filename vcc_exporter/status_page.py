"""The page for people: what it says of each customer, as values, and the template that shows them. Pure.

The words for a poll's result and what to do about it are the vocabulary's; what may be shown at all is the
snapshot's to decide. Here it is only laid out, worst first where there is much of it.
"""

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import cache, partial
from importlib import resources
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from markupsafe import Markup

from vcc_exporter import __version__, times
from vcc_exporter.answer import Values
from vcc_exporter.config import Customer
from vcc_exporter.figures import Figures, Verdict, figures, judge_abandonment, judge_service_level, total
from vcc_exporter.poll import requests_a_day
from vcc_exporter.snapshot import HALF_HOUR, Course, Mark, Row, View
from vcc_exporter.vocabulary import NO_QUEUE, RESULT_MEANINGS, STATISTICS, Result

if TYPE_CHECKING:
    from jinja2 import Template

REFRESH_S: Final = 15
"""How often the page asks for itself anew."""
MOST_IN_FULL: Final = 12
"""More customers than this stand on one line each, with a link to the rest."""
MOST_LINES: Final = 500
"""The worst of so many customers are listed: nobody reads more, and a browser should not have to."""

_NO_QUEUE: Final = str(NO_QUEUE)


class Health(Enum):
    """How a customer's numbers stand, the worst first: a name for the style, a sign, and words."""

    FAILING = "failing", "✕", "no numbers"
    OLD = "old", "▽", "old numbers"
    WAITING = "waiting", "…", "not polled yet"
    UP = "up", "✓", "up to date"
    CLOSED = "closed", "–", "closed"

    @property
    def style(self) -> str:
        """The name of its class in the style sheet."""
        return self.value[0]

    @property
    def sign(self) -> str:
        """One character, which no colour has to explain."""
        return self.value[1]

    @property
    def words(self) -> str:
        """What the sign says."""
        return self.value[2]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of figures: a queue, or all of a project's."""

    name: str
    id: str
    """Empty where the name is the id."""
    figures: Figures


@dataclass(frozen=True, slots=True)
class Project:
    """One project's part of a customer's table."""

    total: Line
    service_level: Verdict | None
    abandonment: Verdict | None
    sla_s: int
    target_service_level: float
    target_abandonment: float
    open: bool | None
    queues: tuple[Line, ...]
    queued: Figures | None
    """Without the calls that were answered without a queue; None where there are none."""
    left_before_queue: float | None
    sent_before_queue: float | None
    sent_from_queue: float | None


@dataclass(frozen=True, slots=True)
class Bar:
    """What came in some half hours of a day, for the picture of its course."""

    first: int
    """The half hour with which it begins, counted from the day's begin."""
    width: int
    """How many half hours: more than one where no answer came in between."""
    mark: Mark
    """The calls; `half_hour` is that of the bar's end."""
    words: str

    @property
    def height(self) -> float:
        """Calls a half hour."""
        return (self.mark.in_time + self.mark.late + self.mark.gave_up) / self.width


@dataclass(frozen=True, slots=True)
class Entry:
    """What the page says of one customer on one line."""

    view: View
    health: Health
    everything: Figures
    """All projects together."""

    @property
    def name(self) -> str:
        """The customer's."""
        return self.view.state.customer.name


@dataclass(frozen=True, slots=True)
class Card(Entry):
    """What the page says of one customer in full."""

    why: str
    """Why there are no numbers; empty where there are."""
    advice: str
    """What to do about the last poll's failure; empty after a good one."""
    asked: str
    """Which teams and projects the numbers are of."""
    requests_a_day: int
    projects: tuple[Project, ...]
    bars: tuple[Bar, ...]
    half_hours: int
    """How many the day has."""
    hours: tuple[str, ...]
    """What the customer's clock shows at each quarter of the day."""


def health(view: View) -> Health:
    """Say how a customer's numbers stand."""
    state = view.state
    if not state.polled:
        return Health.WAITING
    if view.day_start:
        return Health.UP if view.up else Health.OLD
    return Health.CLOSED if state.last_result is Result.SUCCESS and not view.active else Health.FAILING


def why_no_numbers(view: View, now: datetime) -> str:
    """Say in words why a customer has no numbers at the moment; nothing where it has some."""
    state, customer = view.state, view.state.customer
    if view.day_start:
        return ""
    if state.snapshot is None:
        if not state.polled:
            return "The first poll has not ended yet."
        if not state.last_success:
            return "No poll has succeeded."
        return "No poll of today has succeeded with the settings as they are now."
    if state.snapshot.day != times.local_date(customer.zone, now):
        return "A new day has begun, and no poll has succeeded since."
    stale_after = times.format_duration(customer.stale_after)
    return f"The last good poll is longer ago than {stale_after} (stale_after), so that its numbers are not shown."


def asked(customer: Customer) -> str:
    """Say which teams and projects a customer's numbers are of."""
    teams = f"teams {', '.join(map(str, customer.teams))}" if customer.teams else "all teams"
    projects = f"projects {', '.join(map(str, customer.listed))}" if customer.listed else "all projects"
    return f"{teams}, {projects}{' and all others' if customer.listed and customer.other_projects else ''}"


def entry(view: View) -> Entry:
    """Return what the page says of a customer on one line."""
    return Entry(view, health(view), figures(row.values for row in view.rows))


def card(view: View, now: datetime) -> Card:
    """Return what the page says of a customer in full."""
    state, zone = view.state, view.state.customer.zone
    result = state.last_result
    start, end = times.day_start(zone, times.local_date(zone, now)), times.day_end(zone, now)
    return Card(
        view=view,
        health=health(view),
        why=why_no_numbers(view, now),
        advice=RESULT_MEANINGS[result][1] if result and result is not Result.SUCCESS else "",
        asked=asked(state.customer),
        requests_a_day=requests_a_day(state.customer, now),
        projects=_projects(view),
        everything=figures(row.values for row in view.rows),
        bars=bars(state.course, view.day_start, zone) if view.day_start else (),
        half_hours=math.ceil((end - start) / HALF_HOUR),  # not always 48
        hours=(*(f"{(start + i * (end - start) / 4).astimezone(zone):%-H:%M}" for i in range(4)), "24:00"),
    )


def _projects(view: View) -> tuple[Project, ...]:
    settings = {project.project: project for project in view.projects}
    by_project = groupby(view.rows, key=lambda row: row.project)
    return tuple(_project(settings[project].sla_s, view, project, tuple(rows)) for project, rows in by_project)


def _project(sla_s: int, view: View, project: str, rows: tuple[Row, ...]) -> Project:
    values = [row.values for row in rows]
    found, targets = figures(values), view.state.customer.project(int(project)).targets
    unqueued = figures(row.values for row in rows if row.queue == _NO_QUEUE)
    return Project(
        total=_line(rows[0].project_name, project, values),
        service_level=judge_service_level(found, targets),
        abandonment=judge_abandonment(found, targets),
        sla_s=sla_s,
        target_service_level=targets.service_level,
        target_abandonment=targets.abandonment,
        open=next(p.open for p in view.projects if p.project == project),
        queues=tuple(_line(row.queue_name, row.queue, [row.values]) for row in rows),
        queued=figures(row.values for row in rows if row.queue != _NO_QUEUE) if unqueued.answered else None,
        left_before_queue=total(values, "abort_before_queue"),
        sent_before_queue=total(values, "before_queue_redirected"),
        sent_from_queue=total(values, "after_queue_redirected"),
    )


def _line(name: str, identifier: str, values: Sequence[Values]) -> Line:
    return Line(name, "" if name == identifier else identifier, figures(values))


def bars(course: Course, day_start: datetime, zone: ZoneInfo) -> tuple[Bar, ...]:
    """Return a day's calls by half hour. What one answer told of several half hours is one wide bar."""
    found, before = [], Mark(-1, 0, 0, 0)
    for mark in course.marks:
        # A correction downwards is no call that came back.
        in_time, late = max(mark.in_time - before.in_time, 0), max(mark.late - before.late, 0)
        came = Mark(mark.half_hour, in_time, late, max(mark.gave_up - before.gave_up, 0))
        first = before.half_hour + 1
        start, end = (
            (day_start + half_hours * HALF_HOUR).astimezone(zone) for half_hours in (first, mark.half_hour + 1)
        )
        words = f"{start:%H:%M} to {end:%H:%M}: {in_time:g} in time, {late:g} late, {came.gave_up:g} gave up"
        found.append(Bar(first, mark.half_hour + 1 - first, came, words))
        before = mark
    return tuple(found)


# Numbers and instants in words.


def count(value: float | None) -> str:
    """Write a number of calls; a question mark for one that the API did not send."""
    if value is None or not math.isfinite(value):
        return "?"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def percent(value: float | None, upwards: bool = False) -> str:
    """Write a ratio, rounded to the side that flatters nobody; a dash where there is none."""
    if value is None:
        return "–"
    tenths = 1000 * value
    return f"{(math.ceil(tenths - 1e-9) if upwards else math.floor(tenths + 1e-9)) / 10:.1f} %"


def clock_face(seconds: float | None) -> str:
    """Write a mean time as minutes and seconds; a dash where there is none."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02}"


def ago(instant: datetime, now: datetime) -> str:
    """Write how long ago something was, or until when it is, in the largest unit that says enough."""
    away = now - instant
    words = _apart(abs(away))
    if not words:
        return "now"
    return f"{words} ago" if away > timedelta() else f"in {words}"


def until(due: datetime, now: datetime) -> str:
    """Write when a poll is due; one that should have begun has, or waits for its turn."""
    return ago(due, now) if due > now else "due now"


def _apart(time: timedelta) -> str:
    seconds = time // timedelta(seconds=1)
    for unit, length, most in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < most:
            return f"{seconds // length} {unit}" if seconds else ""
    return f"{seconds // 86400} days"


def local(instant: datetime, customer: Customer, layout: str) -> str:
    """Write an instant as the customer's clock shows it."""
    return instant.astimezone(customer.zone).strftime(layout)


# The page.


@cache
def _template() -> "Template":
    """Return the template, made when somebody first looks at the page: many an exporter is only ever scraped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - as above

    environment = Environment(
        loader=PackageLoader("vcc_exporter"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ago": ago,
        "clock_face": clock_face,
        "count": count,
        "local": local,
        "until": until,
        "up": lambda value: math.ceil(value) if math.isfinite(value) else value,
        "percent": percent,
        "percent_up": partial(percent, upwards=True),
    }
    return environment.get_template("page.html")


def _part(name: str) -> Markup:
    return Markup(resources.files("vcc_exporter").joinpath("templates", name).read_text("utf-8"))  # noqa: S704 - ours


_STYLE: Final = _part("page.css")
_SCRIPT: Final = _part("page.js")


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


HEADERS: Final[Mapping[str, str]] = {
    # Nothing but what the page itself brings, and itself again.
    "Content-Security-Policy": f"default-src 'none'; style-src {_source(_STYLE)}; script-src {_source(_SCRIPT)}; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""What the browser is told with the page."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the page says of the exporter itself."""

    telemetry_path: str
    config_is_good: bool
    """False: the config on disk has faults, and the one before it is in use."""
    notice: str
    """A line above all, such as that the call centres are simulated; may be empty."""
    web_config_is_good: bool = True
    """Likewise of the web config."""
    to_all: bool = True
    """False: for readers who are to learn nothing of the exporter itself."""


def _name(view: View) -> str:
    return view.state.customer.name


def status_page(views: Iterable[View], chosen: Sequence[str], now: datetime, around: Surroundings) -> str:
    """Write the page. `chosen` are the names that were asked for, none for all customers."""
    known = list(views)
    shown = [view for view in known if not chosen or _name(view) in chosen]
    ranks = {rank: i for i, rank in enumerate(Health)}
    shown.sort(key=lambda view: (ranks[health(view)], _name(view)))
    counts = Counter(health(view) for view in shown)
    lines = [entry(view) for view in shown[:MOST_LINES]]
    cards = [card(view, now) for view in sorted(shown, key=_name)] if len(shown) <= MOST_IN_FULL else []
    context: dict[str, Any] = {
        "lines": lines,
        "cards": cards,
        "counts": [(rank, counts[rank]) for rank in Health if counts[rank]],
        "troubled": counts[Health.FAILING] + counts[Health.OLD],
        "total": len(shown),
        "all": len(known),
        "chosen": chosen,
        "statistics": STATISTICS,
        "now": now,
        "around": around,
        "refresh_s": REFRESH_S,
        "style": _STYLE,
        "script": _SCRIPT,
        "version": __version__,
    }
    text = _template().render(context)
    # The template's macros leave garbage, which is seldom collected, and would keep what was shown.
    lines.clear()
    cards.clear()
    return text
