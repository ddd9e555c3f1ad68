"""The page for people, read as a browser reads it: its words, its numbers, and nobody else's markup."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from garbage import left_by
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import Element, read_html
from running import fetch, serving
from support import SetClock, make_customer

from vcc_exporter import __version__, times
from vcc_exporter.answer import Answer, Pair, Rejection, Values
from vcc_exporter.config import Customer
from vcc_exporter.exposition import Exporter
from vcc_exporter.figures import Verdict
from vcc_exporter.snapshot import (
    Course,
    CustomerState,
    Mark,
    Moment,
    view,
    with_answer,
    with_failure,
    with_lookback,
    with_names,
    with_settings,
)
from vcc_exporter.status_page import (
    HEADERS,
    MOST_IN_FULL,
    MOST_LINES,
    REFRESH_S,
    Bar,
    Health,
    Surroundings,
    ago,
    bars,
    card,
    clock_face,
    count,
    health,
    percent,
    status_page,
    why_no_numbers,
)
from vcc_exporter.store import Store
from vcc_exporter.vocabulary import RESULT_MEANINGS, STATISTICS, Result

BUDAPEST: Final = ZoneInfo("Europe/Budapest")
SECOND, MINUTE, HOUR = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours"))
NOON: Final = datetime(2026, 3, 11, 11, 0, tzinfo=UTC)
"""In Budapest, a Wednesday."""
NAMES: Final = [statistic.name for statistic in STATISTICS]
AROUND: Final = Surroundings("/metrics", config_is_good=True, notice="")


def moment(at: datetime) -> Moment:
    """Return an instant on both clocks, which have run together."""
    return Moment(at, at.timestamp())


def row(**statistics: float | None) -> Values:
    """Return a row of the API with these statistics, and 0 for the others."""
    assert statistics.keys() <= set(NAMES)
    return tuple(statistics.get(name, 0.0) for name in NAMES)


BUSY: Final = row(
    answered_before=75.0,
    answered_after=15.0,
    abort_in_queue_before=4.0,
    abort_in_queue_after=6.0,
    abort_in_queue_early=3.0,
    abort_before_queue=7.0,
    before_queue_redirected=2.0,
    after_queue_redirected=1.0,
    queue_time=1800.0,
    talk_time=16200.0,
)
"""Of a hundred offered, 75 in time and 10 given up; a mean wait of 20 s and talk of 3 min."""


def polled(
    state: CustomerState, at: datetime, values: Mapping[Pair, Values], rejections: tuple[Rejection, ...] = ()
) -> CustomerState:
    """Return the state after a good poll."""
    day = times.local_date(state.customer.zone, at)
    return with_answer(state, day, Answer(values, frozenset(), rejections), moment(at), 0.1)


def failed(state: CustomerState, result: Result = Result.TIMEOUT, message: str = "no answer") -> CustomerState:
    """Return the state after a poll that failed."""
    return with_failure(state, result, message, 0.1)


def shown(
    *states: CustomerState,
    at: datetime = NOON,
    chosen: tuple[str, ...] = (),
    around: Surroundings = AROUND,
) -> Element:
    """Return the page about these customers, read."""
    return read_html(text_of(*states, at=at, chosen=chosen, around=around))


def text_of(
    *states: CustomerState, at: datetime = NOON, chosen: tuple[str, ...] = (), around: Surroundings = AROUND
) -> str:
    """Return the page about these customers as it is sent."""
    return status_page([view(state, moment(at)) for state in states], chosen, at, around)


def card_of(page: Element, name: str) -> Element:
    """Return the part of a page about one customer."""
    found = [section for section in page.all("section", "card") if section.one("h2").all("a")[0].text == name]
    assert len(found) == 1
    return found[0]


def lines_of(section: Element) -> list[list[str]]:
    """Return the cells of a table of figures, those with counts, line by line."""
    lines = section.one("table", "figures").all("tbody")
    cells = [[cell for cell in line.all() if cell.tag in {"th", "td"}] for body in lines for line in body.all("tr")]
    return [[without_label(cell) for cell in line] for line in cells if len(line) > 1]


def without_label(cell: Element) -> str:
    """Return a cell's text without the label that only a narrow screen shows."""
    kept = [child for child in cell.children if isinstance(child, str) or "label" not in child.classes]
    return Element("", {}, kept).text


def named(name: str, state: CustomerState) -> CustomerState:
    """Return the same state of a customer of another name."""
    return replace(state, customer=make_customer(name=name, subdomain="acme"))


NEW: Final = CustomerState(make_customer())
GOOD: Final = polled(NEW, NOON, {(370, 908): BUSY})
CLOSED: Final = CustomerState(make_customer(hours={"mon-fri": "08:00-11:00"}))


# How a customer stands.


@pytest.mark.parametrize(
    ("state", "at", "expected"),
    [
        (NEW, NOON, Health.WAITING),
        (GOOD, NOON, Health.UP),
        (GOOD, NOON + 4 * MINUTE, Health.UP),
        (failed(GOOD), NOON + MINUTE, Health.OLD),
        (failed(GOOD), NOON + 5 * MINUTE, Health.FAILING),
        (GOOD, NOON + 5 * MINUTE, Health.FAILING),
        (GOOD, NOON + 12 * HOUR, Health.FAILING),
        (failed(NEW), NOON, Health.FAILING),
        (failed(CLOSED), NOON, Health.FAILING),
        (polled(CLOSED, NOON, {}), NOON, Health.UP),
        (polled(CLOSED, NOON, {}), NOON + HOUR, Health.CLOSED),
        (polled(failed(NEW), NOON, {}), NOON, Health.UP),
    ],
)
def test_a_customers_health_has_a_sign_and_words(state: CustomerState, at: datetime, expected: Health) -> None:
    """It stands on the customer's card and in the title's count of those in trouble."""
    assert health(view(state, moment(at))) is expected
    page = shown(state, at=at)
    badge = page.one("section", "card").all("span", "badge")[0]
    assert badge.text == f"{expected.sign} {expected.words}"
    assert badge.classes == {"badge", expected.style}
    troubled = expected in {Health.FAILING, Health.OLD}
    assert page.one("head").one("title").text == f"{'1 of 1 in trouble' if troubled else '1 customer'} · vcc-exporter"


def test_the_page_counts_customers_by_health_the_worst_first() -> None:
    """At the top and in the list, in which nobody has to search for trouble."""
    closed = replace(polled(CLOSED, NOON - HOUR, {}), customer=make_customer(name="e", hours={"mon": "8:00-9:00"}))
    a, b, c, d = (
        named(name, state) for name, state in zip("abcd", (GOOD, failed(GOOD), NEW, failed(NEW)), strict=True)
    )
    states = [a, b, c, d, closed]
    page = shown(*states)
    assert page.one("p", "counts").text == "1 ✕ no numbers 1 ▽ old numbers 1 … not polled yet 1 ✓ up to date 1 – closed"
    assert [line.one("a").text for line in page.one("table", "list").all("tr")[1:]] == ["d", "b", "c", "a", "e"]
    assert page.one("head").one("title").text == "2 of 5 in trouble · vcc-exporter"
    assert [section.all("a")[0].text for section in page.all("section", "card")] == ["a", "b", "c", "d", "e"]


# Why there are no numbers.

SINCE_RELOAD: Final = with_settings(GOOD, make_customer(sla=20))


@pytest.mark.parametrize(
    ("state", "at", "words"),
    [
        (GOOD, NOON, ""),
        (failed(GOOD), NOON, ""),
        (NEW, NOON, "The first poll has not ended yet."),
        (failed(NEW), NOON, "No poll has succeeded."),
        (SINCE_RELOAD, NOON, "No poll of today has succeeded with the settings as they are now."),
        (
            with_answer(NEW, (NOON - 24 * HOUR).date(), Answer({}, frozenset(), ()), moment(NOON), 0.1),
            NOON,
            "No poll of today has succeeded with the settings as they are now.",
        ),
        (GOOD, NOON + 12 * HOUR, "A new day has begun, and no poll has succeeded since."),
        (
            GOOD,
            NOON + 5 * MINUTE,
            "The last good poll is longer ago than 5m (stale_after), so that its numbers are not shown.",
        ),
        (
            polled(CustomerState(make_customer(poll={"stale_after": "1h30m"})), NOON, {}),
            NOON + 90 * MINUTE,
            "The last good poll is longer ago than 1h30m (stale_after), so that its numbers are not shown.",
        ),
    ],
)
def test_a_customer_without_numbers_says_why(state: CustomerState, at: datetime, words: str) -> None:
    """It is one sentence, and there is neither a table nor a picture; with numbers there is no such sentence."""
    assert why_no_numbers(view(state, moment(at)), at) == words
    section = shown(state, at=at).one("section", "card")
    assert [p.text for p in section.all("p", "why")] == ([f"No numbers. {words}"] if words else [])
    assert len(section.all("table", "figures")) == len(section.all("svg")) == (0 if words else 1)


@pytest.mark.parametrize("result", [result for result in Result if result is not Result.SUCCESS])
def test_a_failure_is_told_with_what_to_do_about_it(result: Result) -> None:
    """The result, the last error in its own words, and the vocabulary's advice."""
    section = shown(failed(NEW, result, "HTTP 999: so it was.")).one("section", "card")
    said = section.one("p", "error").text
    assert said == f"✕ The last poll failed ({result}): HTTP 999: so it was. What to do: {RESULT_MEANINGS[result][1]}."


def test_a_poll_that_succeeds_takes_the_failure_away() -> None:
    """Nothing of the last error is left."""
    assert shown(polled(failed(NEW), NOON, {})).all("p", "error") == []


def test_old_numbers_say_that_they_are_old_and_until_when_they_are_shown() -> None:
    """The instant of their answer, how long ago it was, and when they go; the card is marked for the style sheet."""
    at = NOON + 3 * MINUTE
    section = shown(failed(GOOD), at=at).one("section", "card")
    assert section.classes == {"card", "old"}
    assert section.all("p", "error")[1].text == (
        "▽ Old numbers: they are those of 12:00:00, 3 min ago; unless a poll succeeds, they are shown until 12:05:00."
    )
    assert lines_of(section)[0][1] == "75"


def test_numbers_by_a_schedule_are_shown_until_after_the_poll_that_was_due() -> None:
    """Not stale_after from when they came, since nobody meant to ask again so soon."""
    customer = make_customer(schedule="0 * * * *", poll={"stale_after": "10m"})
    state = failed(polled(CustomerState(customer), NOON + MINUTE, {(1, 2): BUSY}))
    at = NOON + 65 * MINUTE
    (_, old) = shown(state, at=at).one("section", "card").all("p", "error")
    until = re.search(r"shown until (13:\d\d:\d\d)", old.text)
    assert until
    assert "13:10:00" <= until[1] <= "13:11:00"
    assert view(state, moment(at)).rows
    assert not view(state, moment(NOON + 71 * MINUTE)).rows


def test_polls_are_told_with_their_instants() -> None:
    """By the customer's own clock and as a distance, in the past and to come; never and none where there is none."""
    page = shown(GOOD, at=NOON + MINUTE)
    assert [dt.text for dt in page.all("dt")] == ["Last good poll", "Next poll", "Requests a day"]
    assert [dd.text for dd in page.all("dd")][:2] == ["12:00:00 (60 s ago)", "not set yet"]
    due = replace(polled(NEW, NOON, {}), next_poll=NOON + 90 * SECOND)
    assert [dd.text for dd in shown(due).all("dd")][:2] == ["12:00:00 (now)", "12:01:30 (in 90 s)"]
    assert shown(NEW).all("dd")[0].text == "never"
    over = polled(CustomerState(make_customer(schedule="* * * * *")), NOON, {})
    assert shown(over).all("dd")[1].text == "none: its schedule is never due again"


def test_requests_a_day_are_told() -> None:
    """One a minute, the lookback in one or two months, and the names of projects."""
    (_, _, requests) = shown(NEW).all("dd")
    assert requests.text == f"{1440 + 2 + 1:,}" or requests.text == f"{1440 + 1 + 1:,}"


def test_what_is_closed_says_so_beside_its_health() -> None:
    """A customer outside its hours, and each project where hours are known."""
    page = shown(polled(CLOSED, NOON, {(370, 908): BUSY}))
    assert [badge.text for badge in page.one("section", "card").all("span", "badge")] == ["✓ up to date", "closed now"]
    assert "closed now" in lines_of(page)[0][0]
    state = CustomerState(make_customer(hours={"mon-fri": "08:00-18:00"}))
    page = shown(polled(state, NOON, {(370, 908): BUSY}))
    assert len(page.one("section", "card").all("span", "badge")) == 1
    assert lines_of(page)[0][0].endswith("; open")
    assert lines_of(shown(GOOD))[0][0] == "370 in time: under 30 s"


# Figures.


def test_the_figures_of_a_project_and_its_queues() -> None:
    """Counts, ratios with the targets and verdicts, and mean times, as computed by hand."""
    customer = make_customer(
        projects=[{"id": 370, "name": "Support", "sla": 20, "queues": {908: "Hotline", 909: "Desk"}}],
        targets={"service_level": "72.5%", "abandonment": "4%"},
    )
    section = shown(polled(CustomerState(customer), NOON, {(370, 908): BUSY})).one("section", "card")
    project, hotline, desk = lines_of(section)
    numbers = ["75", "15", "10", "3"]
    means = ["0:20", "3:00"]
    assert project == [
        "Support 370 in time: under 20 s",
        *numbers,
        "75.0 % ✓(target reached)min. 72.5 %",
        "10.0 % ✕(target missed)max. 4 %",
        *means,
    ]
    assert hotline == ["Hotline 908", *numbers, "75.0 %", "10.0 %", *means]
    assert desk == ["Desk 909", "0", "0", "0", "0", "–", "–", "–", "–"]
    note = section.one("tr", "note").text
    assert note == "Before a queue 7 gave up and 2 were sent elsewhere; 1 were sent on from a queue."


def test_no_ratio_on_the_page_is_flattered() -> None:
    """A service level of 79.96 % and an abandonment of 5.04 % look missed wherever they stand."""
    missed = row(answered_before=7996.0, answered_after=1500.0, abort_in_queue_after=504.0)
    page = shown(polled(NEW, NOON, {(1, -1): row(answered_before=1.0), (1, 2): missed}), named("other", GOOD))
    project, _, queue = lines_of(card_of(page, "acme"))
    assert project[5].startswith("79.9 % ▽")
    assert project[6].startswith("5.1 % ▽")
    assert queue[5:7] == ["79.9 %", "5.1 %"]
    assert [without_label(cell) for cell in page.one("table", "list").all("tr")[1].all("td")][2:4] == [
        "79.9 %",
        "5.1 %",
    ]
    assert card_of(page, "acme").one("tr", "note").text.endswith("service level 79.9 %, abandoned 5.1 %.")


def test_what_the_numbers_are_of_is_told() -> None:
    """From which instant they count, by which clock, and of which teams and projects."""
    assert shown(GOOD).one("p", "basis").text == (
        "Counts from 00:00 on Wednesday, 11 March 2026, Europe/Budapest; all teams, all projects."
    )
    customer = make_customer(teams=[3, 4], projects=[{"id": 9}, {"id": 7}])
    basis = shown(polled(CustomerState(customer), NOON, {})).one("p", "basis").text
    assert basis.endswith("; teams 3, 4, projects 7, 9.")
    customer = make_customer(projects=[{"id": 9}], other_projects=True)
    assert (
        shown(polled(CustomerState(customer), NOON, {}))
        .one("p", "basis")
        .text.endswith("; all teams, projects 9 and all others.")
    )
    # The first instant of a day is not always 00:00.
    at = datetime(2018, 11, 4, 15, 0, tzinfo=UTC)
    state = polled(CustomerState(make_customer(timezone="America/Sao_Paulo")), at, {})
    assert "Counts from 01:00 on Sunday, 4 November 2018" in shown(state, at=at).one("p", "basis").text


def test_calls_that_needed_no_queue_are_told_apart() -> None:
    """They flatter the project's service level, so that it is there without them, too."""
    direct = row(answered_before=100.0, talk_time=100.0)
    section = shown(polled(NEW, NOON, {(370, -1): direct, (370, 908): BUSY})).one("section", "card")
    assert lines_of(section)[0][5].startswith("87.5 %")
    assert lines_of(section)[1][0] == "no queue -1"
    assert section.one("tr", "note").text.endswith(
        "Without the calls that needed no queue: service level 75.0 %, abandoned 10.0 %."
    )
    only = shown(polled(NEW, NOON, {(370, -1): direct})).one("tr", "note").text
    assert "Without" not in only
    without = shown(polled(NEW, NOON, {(370, -1): row(abort_before_queue=5.0), (370, 908): BUSY}))
    assert "Without" not in without.one("tr", "note").text


def test_a_queue_without_calls_is_zeros_and_dashes() -> None:
    """A 0 and no hole, no service level of nothing, no verdict, and no picture of a day without a call."""
    state = polled(with_lookback(NEW, NOON.date(), frozenset({(370, 908)}), NOON), NOON, {})
    section = shown(state).one("section", "card")
    project, queue = lines_of(section)
    assert queue == ["908", "0", "0", "0", "0", "–", "–", "–", "–"]
    assert project[1:] == ["0", "0", "0", "0", "–min. 80 %", "–max. 5 %", "–", "–"]
    assert section.all("svg") == section.all("span", "verdict") == []


def test_a_customer_without_a_queue_says_so() -> None:
    """An answer without rows, and nothing known from before."""
    section = shown(polled(NEW, NOON, {})).one("section", "card")
    assert [p.text for p in section.all("p", "why")] == [
        "The API knows of no call today, and no queue is known from the days before."
    ]
    assert section.all("table") == []


def test_a_statistic_that_the_api_left_out_is_a_question_mark() -> None:
    """No false 0, neither in the table nor in the project's sum nor in a ratio; the rest stands."""
    lacking = tuple(None if name == "answered_after" else value for name, value in zip(NAMES, BUSY, strict=True))
    page = shown(polled(NEW, NOON, {(370, 908): lacking, (370, 909): BUSY}), chosen=("acme",))
    project, queue, other = lines_of(page)
    assert project[1:] == ["150", "?", "20", "6", "–min. 80 %", "–max. 5 %", "–", "–"]
    assert queue[1:] == ["75", "?", "10", "3", "–", "–", "–", "–"]
    assert other[5] == "75.0 %"
    raw = {
        line.one("code").text: [cell.text for cell in line.all("td")] for line in page.one("table", "raw").all("tr")[1:]
    }
    assert raw["answered_after"] == ["?", "15"]
    assert raw["talk_time"] == ["16,200", "16,200"]


@pytest.mark.parametrize(
    ("in_time", "late", "verdict"),
    [(80, 20, Verdict.REACHED), (75, 25, Verdict.NEAR), (1, 99, Verdict.MISSED), (1, 0, Verdict.FEW)],
)
def test_each_verdict_has_its_sign_and_its_words(in_time: float, late: float, verdict: Verdict) -> None:
    """For the eye, for the pointer and for a screen reader."""
    page = shown(polled(NEW, NOON, {(370, 908): row(answered_before=in_time, answered_after=late)}))
    found = page.all("span", "verdict")[0]
    assert found.text == f"{verdict.sign}({verdict.words})"
    assert found.attributes["title"] == verdict.words
    assert found.children[0].attributes == {"aria-hidden": "true"}  # type: ignore[union-attr]
    assert found.classes == {"verdict", verdict.name.lower()}


def test_rows_that_could_not_be_used_are_told() -> None:
    """How many of how many are missing in the figures."""
    state = polled(NEW, NOON, {(370, 908): BUSY}, (Rejection("a cause", "an example"),) * 2)
    assert shown(state).one("p", "basis").one("strong").text == (
        "2 of 3 rows of the answer could not be used and are missing here: the log says why."
    )
    assert shown(GOOD).one("p", "basis").all("strong") == []


def test_all_statistics_of_one_customer_stand_as_they_were_sent() -> None:
    """Only where one customer is chosen: nineteen lines, a column a queue, seconds marked."""
    values = tuple(float(number) for number in range(len(NAMES)))
    state = polled(NEW, NOON, {(370, 908): values, (370, -1): BUSY})
    assert shown(state).all("table", "raw") == []
    page = shown(state, chosen=("acme",))
    lines = page.one("table", "raw").all("tr")
    assert [cell.text for cell in lines[0].all("th")] == ["Statistic", "370no queue", "370908"]
    for line, statistic, number, busy in zip(lines[1:], STATISTICS, values, BUSY, strict=True):
        assert line.one("code").text == statistic.name
        assert [cell.text for cell in line.all("td")] == [count(busy), count(number)]
        assert (" s" in line.one("th").text.removeprefix(statistic.name)[:2]) == (statistic.unit == "seconds")
    assert page.one("div", "scroll").attributes["tabindex"] == "0"


# Which customers.


def test_customers_can_be_chosen() -> None:
    """One or several by name, with a way back to all."""
    states = [named(name, GOOD) for name in ("a", "b", "c")]
    everyone = shown(*states)
    assert [section.all("a")[0].text for section in everyone.all("section", "card")] == ["a", "b", "c"]
    assert everyone.one("p", "counts").all("a") == []
    two = shown(*states, chosen=("c", "a", "a", "nobody"))
    assert [section.all("a")[0].text for section in two.all("section", "card")] == ["a", "c"]
    assert two.one("p", "counts").one("a").text == "all 3 customers"
    assert two.one("head").one("title").text == "2 customers · vcc-exporter"
    none = shown(*states, chosen=("nobody",))
    assert none.all("section") == []
    assert none.one("p", "why").text == "No customer of that name is polled here."
    assert none.one("p", "counts").one("a").attributes["href"] == "./"


def test_without_a_customer_the_page_says_so() -> None:
    """A shard may have none."""
    page = shown()
    assert page.one("p", "why").text == "No customer is polled here."
    assert page.one("head").one("title").text == "0 customers · vcc-exporter"


def test_many_customers_are_a_list_of_links() -> None:
    """Up to a dozen stand in full below it; more are lines with their sums, each a way to the customer's page."""
    states = [named(f"c{number:02}", GOOD) for number in range(MOST_IN_FULL)]
    assert len(shown(*states).all("section", "card")) == MOST_IN_FULL
    page = shown(*states, failed(named("a & b", NEW)))
    assert page.all("section", "card") == []
    first, second, *_ = page.one("table", "list").all("tr")[1:]
    assert [without_label(cell) for cell in (first.one("th"), *first.all("td"))] == [
        *("a & b", "✕ no numbers timeout", "–not known", "–not known", "–not known", "never", "not set"),
    ]
    assert first.one("a").attributes["href"] == "?customer%5B%5D=a%20%26%20b"
    assert [without_label(cell) for cell in second.all("td")] == [
        "✓ up to date",
        "100",
        "75.0 %",
        "10.0 %",
        "now",
        "not set",
    ]


def test_very_many_customers_are_the_worst_of_them() -> None:
    """Five hundred lines with all that is in trouble, and how many were left out."""
    # The order in which they come says nothing about them.
    states = [named(f"c{number:03}", GOOD if number % 7 else failed(NEW)) for number in range(MOST_LINES + 60)]
    page = shown(*states)
    lines = page.one("table", "list").all("tr")[1:]
    assert len(lines) == MOST_LINES
    failing = [f"c{number:03}" for number in range(0, MOST_LINES + 60, 7)]
    assert [line.one("a").text for line in lines[: len(failing)]] == failing
    assert {line.one("a").text for line in lines[len(failing) :]}.isdisjoint(failing)
    assert "60 more, none of them worse than these." in page.one("section").text
    assert page.one("head").one("title").text == f"{len(failing)} of {MOST_LINES + 60} in trouble · vcc-exporter"


# The exporter itself.


def test_the_page_says_its_time_its_version_and_where_metrics_are() -> None:
    """The rest of what it says of the exporter."""
    page = shown(GOOD, around=Surroundings("/vcc/metrics", config_is_good=True, notice=""))
    assert page.one("p", "as-of").text == "as of 11:00:00 UTC"
    assert __version__ in page.one("footer").text
    assert [a.attributes["href"] for a in page.one("footer").all("a")] == ["/vcc/metrics", "/-/healthy", "/-/ready"]
    assert page.all("p", "notice") == []


def test_a_config_that_could_not_be_loaded_again_is_told() -> None:
    """The numbers are those of the config before it."""
    page = shown(GOOD, around=Surroundings("/metrics", config_is_good=False, notice="A demo."))
    first, second = page.all("p", "notice")
    assert first.text == "A demo."
    assert second.text.startswith("✕ The config could not be loaded again")


def test_the_browser_may_use_nothing_but_what_the_page_brings() -> None:
    """The policy names the style and the script that are in the page by their hashes, and nothing is inline."""
    page = shown(GOOD)
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.one(kind).raw_text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in HEADERS["Content-Security-Policy"]
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    attributes = {name for element in page.walk() for name in element.attributes}
    assert not {name for name in attributes if name.startswith("on") or name in {"style", "src", "srcset"}}
    links = {element.attributes["href"] for element in page.walk() if "href" in element.attributes}
    assert all(link.startswith(("?customer", "/", "./", "data:image/svg+xml,")) for link in links)


def test_the_page_refreshes_itself_with_a_script_or_without() -> None:
    """The script reads the period from the page; where there is none, the browser loads it anew."""
    page = shown(GOOD)
    assert page.one("body").attributes["data-refresh-s"] == str(REFRESH_S)
    (refresh,) = page.one("noscript").all("meta")
    assert refresh.attributes == {"http-equiv": "refresh", "content": str(REFRESH_S)}
    assert page.one("p", role="alert").attributes == {"id": "lost", "role": "alert", "hidden": ""}


def test_every_id_is_one_elements_and_every_reference_finds_its_element() -> None:
    """Focus comes back to what has an id, and names of parts are those of their headings."""
    for page in (shown(*(named(name, GOOD) for name in ("a", "b", "c"))), shown(GOOD, chosen=("acme",))):
        ids = [element.attributes["id"] for element in page.walk() if "id" in element.attributes]
        assert len(set(ids)) == len(ids)
        references = {e.attributes["aria-labelledby"] for e in page.walk() if "aria-labelledby" in e.attributes}
        assert references <= set(ids)
        assert all("id" in link.attributes for link in page.one("main").all("a")), "a link that loses the focus"


# Nobody else's markup.

HOSTILE: Final = [
    "<script>alert(1)</script>",
    "</title></style></script><img src=x onerror=alert(1)>",
    "\" onmouseover=\"alert(1)' onfocus='alert(2)",
    "javascript:alert(1)",
    "&lt;b&gt; &amp; &#60;",
    "{{ 7 * 7 }} {% raw %}",
    "]]><!-- -->",
    "éś字 ✓",
]


def everywhere(text: str, customer: str) -> tuple[CustomerState, ...]:
    """Return customers in which a text from outside stands wherever one can."""
    projects = [{"id": 1, "name": text}, {"id": 2, "queues": {9: text}}]
    settings = {"name": customer, "subdomain": "acme", "projects": projects, "other_projects": True}
    state = with_names(CustomerState(make_customer(**settings)), {3: text}, NOON)
    state = polled(state, NOON, {(1, 5): BUSY, (2, 9): BUSY, (3, 5): BUSY})
    return failed(state, Result.REJECTED, text), failed(named(f"{customer}-2", NEW), message=text)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("many", [False, True])
def test_texts_from_outside_are_texts(text: str, many: bool) -> None:
    """Names and errors make no element and no attribute, and are read as they were written."""
    rest = [named(f"z{number}", GOOD) for number in range(MOST_IN_FULL)] if many else []

    def page(outside: str, chosen: tuple[str, ...] = ()) -> Element:
        around = Surroundings("/metrics", config_is_good=True, notice=outside)
        return shown(*everywhere(outside, outside), *rest, chosen=chosen, around=around)

    harmless = "z" if text > "z" else "a"  # the order of names stays
    found = page(text)
    assert found.shape() == page(harmless).shape()
    assert page(text, (text,)).shape() == page(harmless, (harmless,)).shape()
    wanted = " ".join(text.split())
    for part in [found.one("p", "notice"), found.one("table", "list"), *found.all("section", "card")]:
        assert wanted in part.text
    links = [link.attributes["href"] for link in found.all("a")]
    assert {link for link in links if link.startswith("javascript")} == set()


WORDS: Final = st.text(st.characters(max_codepoint=0xFFFF), min_size=1, max_size=30).filter(
    lambda text: text.isprintable() and not text.isspace() and not text.isdecimal()
)


@settings(deadline=None)
@given(WORDS)
def test_whatever_the_texts_are_the_page_has_its_shape(text: str) -> None:
    """Any name of a project or a queue, and any error."""
    found = shown(*everywhere(text, "acme"))
    assert found.shape() == shown(*everywhere("x", "acme")).shape()
    names = [line.all("th")[0].raw_text for line in found.all("table", "figures")[0].all("tr", "project")]
    assert [name.startswith(text) for name in names] == [True, False, True]


def test_numbers_that_no_call_centre_has_end_no_page() -> None:
    """The largest and the least that an answer can hold are shown or unknown, and no other customer suffers."""
    for value in (1.7e308, -1.7e308, 5e-324, -3.0, 0.5, 1e18):
        odd = row(**dict.fromkeys(NAMES, value))
        before = polled(NEW, NOON - HOUR, {(1, 2): odd, (1, 3): odd})
        for state in (before, polled(before, NOON, {(1, 2): BUSY}), polled(before, NOON, {(1, 2): odd, (1, 3): BUSY})):
            page = shown(state, named("other", GOOD), at=NOON)
            assert lines_of(card_of(page, "other"))[0][1] == "75"
            assert shown(state, chosen=("acme",)).one("section", "card")


# The course of a day.


def marked(*marks: tuple[int, float, float, float]) -> Course:
    """Return the course of 11 March with these marks."""
    return Course(NOON.date(), tuple(Mark(*mark) for mark in marks))


MIDNIGHT: Final = datetime(2026, 3, 10, 23, 0, tzinfo=UTC)


def drawn(course: Course) -> list[tuple[int, int, float, float, float]]:
    """Return each bar's first half hour and width, and the calls in it."""
    return [
        (bar.first, bar.width, bar.mark.in_time, bar.mark.late, bar.mark.gave_up)
        for bar in bars(course, MIDNIGHT, BUDAPEST)
    ]


def test_a_bar_is_what_came_since_the_one_before_it() -> None:
    """One for each half hour of which an answer told alone."""
    assert drawn(marked((0, 1, 0, 0), (1, 4, 2, 1), (2, 4, 2, 1))) == [
        (0, 1, 1, 0, 0),
        (1, 1, 3, 2, 1),
        (2, 1, 0, 0, 0),
    ]


def test_a_gap_is_one_wide_bar() -> None:
    """What was told of several half hours at once is drawn over all of them, as high as their mean."""
    course = marked((17, 90, 5, 5), (18, 100, 5, 5), (21, 130, 5, 5))
    assert drawn(course) == [(0, 18, 90, 5, 5), (18, 1, 10, 0, 0), (19, 3, 30, 0, 0)]
    first, _, last = bars(course, MIDNIGHT, BUDAPEST)
    assert (first.height, last.height) == (100 / 18, 10)
    assert last.words == "09:30 to 11:00: 30 in time, 0 late, 0 gave up"
    svg = shown(GOOD).one("svg")
    assert svg.one("g").classes == {"before"}
    assert [rect.attributes["width"] for rect in svg.all("rect")] == [str(10 * 25 - 2)] * 3


def test_a_correction_downwards_is_no_bar_below_the_line() -> None:
    """The API took two calls back, and then three came: the first bar after it has none, the next its three."""
    assert drawn(marked((0, 10, 4, 2), (1, 8, 4, 3), (2, 11, 4, 3)))[1:] == [(1, 1, 0, 0, 1), (2, 1, 3, 0, 0)]


@given(st.lists(st.tuples(st.integers(0, 49), *[st.integers(0, 500)] * 3), unique_by=lambda mark: mark[0], min_size=1))
def test_bars_cover_the_day_so_far_without_gap_and_lose_no_call(found: list[tuple[int, int, int, int]]) -> None:
    """Side by side from the day's begin on; with counts that only grow they add up to the last answer's."""
    found.sort()
    grown: list[tuple[int, float, float, float]] = []
    sums = (0, 0, 0)
    for half_hour, *came in found:
        sums = (sums[0] + came[0], sums[1] + came[1], sums[2] + came[2])
        grown.append((half_hour, *sums))
    made = drawn(marked(*grown))
    assert [first for first, *_ in made] == [0, *(first + width for first, width, *_ in made[:-1])]
    assert made[-1][0] + made[-1][1] == found[-1][0] + 1
    assert tuple(sum(bar[2 + i] for bar in made) for i in range(3)) == sums


@pytest.mark.parametrize(
    ("day", "half_hours", "hours"),
    [
        ("2026-03-11", 48, "0:00 6:00 12:00 18:00 24:00"),
        ("2026-03-29", 46, "0:00 6:45 12:30 18:15 24:00"),
        ("2026-10-25", 50, "0:00 5:15 11:30 17:45 24:00"),
    ],
)
def test_the_picture_is_as_wide_as_the_day(day: str, half_hours: int, hours: str) -> None:
    """Days on which clocks are moved have 46 or 50 half hours, and each quarter says what the clock shows there."""
    zone = make_customer().zone
    start = times.day_start(zone, datetime.fromisoformat(day).date())
    state = NEW
    for number in range(half_hours):
        at = start + number * 30 * MINUTE + MINUTE
        state = polled(state, at, {(1, 2): row(answered_before=number + 1.0)})
    page = shown(state, at=at)
    assert page.one("svg").attributes["viewbox"] == f"0 0 {10 * half_hours} 60"
    assert len(page.one("svg").all("g")) == half_hours
    last = page.one("svg").all("rect")[-1].attributes
    assert int(last["x"]) + int(last["width"]) + 1 == 10 * half_hours
    assert " ".join(span.text for span in page.one("div", "hours").all("span")) == hours
    first, *_, final = page.one("svg").all("title")
    assert first.text.startswith("00:00 to 00:30: 1 in time")
    assert final.text.startswith("23:30 to 00:00: 1 in time")


def test_a_new_day_begins_a_new_course() -> None:
    """Nothing of yesterday is in today's picture."""
    state = polled(polled(NEW, NOON, {(1, 2): BUSY}), NOON + HOUR, {(1, 2): BUSY})
    assert len(shown(state, at=NOON + HOUR).one("svg").all("g")) == 2
    next_day = NOON + 13 * HOUR
    state = polled(state, next_day, {(1, 2): row(answered_before=3.0)})
    page = shown(state, at=next_day)
    (bar,) = page.one("svg").all("g")
    assert bar.one("title").text == "00:00 to 01:30: 3 in time, 0 late, 0 gave up"


def test_the_picture_is_to_scale() -> None:
    """The highest bar fills it, the parts of each stand one upon the other, and its words say the scale."""
    state = polled(NEW, MIDNIGHT + MINUTE, {(1, 2): row(answered_before=10.0, answered_after=5.0)})
    more = row(answered_before=30.0, answered_after=10.0, abort_in_queue_before=3.0, abort_in_queue_after=2.0)
    page = shown(polled(state, MIDNIGHT + 31 * MINUTE, {(1, 2): more}), at=MIDNIGHT + 32 * MINUTE)
    rects = [(r.attributes["class"], float(r.attributes["y"]), float(r.attributes["height"])) for r in page.all("rect")]
    assert rects == [
        *(("in-time", 40.0, 20.0), ("late", 30.0, 10.0), ("gave-up", 30.0, 0.0)),
        *(("in-time", 20.0, 40.0), ("late", 10.0, 10.0), ("gave-up", 0.0, 10.0)),
    ]
    assert page.one("figcaption").text.startswith(
        "Calls by half hour, up to 30: in time, above them late, on top gave up"
    )
    assert page.one("svg").attributes["aria-label"] == (
        "Calls by half hour of today, as the polls saw them: 00:00 to 00:30: 10 in time, 5 late, 0 gave up; "
        "00:30 to 01:00: 20 in time, 5 late, 5 gave up."
    )


# Numbers and instants in words.


@pytest.mark.parametrize(
    ("value", "words"),
    [
        *((None, "?"), (0.0, "0"), (7.0, "7"), (1234567.0, "1,234,567"), (0.5, "0.5"), (1234.56, "1,234.6")),
        *((float("inf"), "?"), (float("-inf"), "?"), (float("nan"), "?"), (-3.0, "-3")),
    ],
)
def test_a_count_in_words(value: float | None, words: str) -> None:
    """Thousands apart, no false digits, and a question mark for what is not known."""
    assert count(value) == words


@pytest.mark.parametrize(
    ("value", "down", "up"),
    [
        (None, "–", "–"),
        (0.0, "0.0 %", "0.0 %"),
        (1.0, "100.0 %", "100.0 %"),
        (0.8, "80.0 %", "80.0 %"),
        (0.7996, "79.9 %", "80.0 %"),
        (0.79999, "79.9 %", "80.0 %"),
        (0.9999, "99.9 %", "100.0 %"),
        (0.05, "5.0 %", "5.0 %"),
        (0.0501, "5.0 %", "5.1 %"),
        (0.0001, "0.0 %", "0.1 %"),
        (2 / 3, "66.6 %", "66.7 %"),
        (0.29, "29.0 %", "29.0 %"),
        (0.57, "57.0 %", "57.0 %"),
    ],
)
def test_a_ratio_in_per_cent(value: float | None, down: str, up: str) -> None:
    """Rounded to the side that flatters nobody, and exact where it is exact."""
    assert percent(value) == down
    assert percent(value, upwards=True) == up


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(0, 1000))
def test_a_ratio_never_looks_as_good_as_a_target_that_it_missed(part: int, more: int, target: int) -> None:
    """Held against any target of tenths of a per cent, what is shown says the same as the true ratio."""
    ratio = part / (part + more)
    level, abandonment = (float(percent(ratio, upwards).removesuffix(" %")) for upwards in (False, True))
    # In whole numbers, which no rounding touches.
    assert (round(10 * level) >= target) == (1000 * part >= target * (part + more))
    assert (round(10 * abandonment) <= target) == (1000 * part <= target * (part + more))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((None, "–"), (0.0, "0:00"), (0.4, "0:00"), (0.6, "0:01"), (59.4, "0:59"), (59.6, "1:00")),
        *((61.0, "1:01"), (600.0, "10:00"), (3600.0, "60:00"), (5999.9, "100:00")),
    ],
)
def test_a_mean_time_as_a_clock_shows_it(seconds: float | None, words: str) -> None:
    """Minutes and seconds, rounded."""
    assert clock_face(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0.0, "now"), (0.9, "now"), (1, "1 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h")),
        *((172799, "47 h"), (172800, "2 days"), (400 * 86400, "400 days")),
    ],
)
def test_a_distance_in_time(seconds: float, words: str) -> None:
    """The largest unit that says enough, of the past and of what is to come."""
    away = timedelta(seconds=seconds)
    assert ago(NOON - away, NOON) == (f"{words} ago" if words != "now" else "now")
    assert ago(NOON + away, NOON) == (f"in {words}" if words != "now" else "now")


# As it is served.


def stored(*customers: Customer) -> tuple[Store, SetClock]:
    """Return a store of these customers and its clock."""
    clock = SetClock(NOON)
    store = Store(clock, "1.2.3")
    store.configure(customers, Exporter("1.2.3", NOON))
    return store, clock


def test_the_page_is_served_with_what_the_browser_may_do() -> None:
    """HTML that is kept nowhere, with its policy, chosen by the query, and anew at each request."""
    acme, other = make_customer(), make_customer(name="other")
    store, clock = stored(acme, other)
    store.update(acme, lambda state: polled(state, NOON, {(370, 908): BUSY}))
    with serving(store) as url:
        status, body, headers = fetch(url + "/")
        assert status == 200
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert {name: headers[name] for name in HEADERS} == dict(HEADERS)
        assert len(read_html(body.decode()).all("section", "card")) == 2
        one = read_html(fetch(f"{url}/?customer%5B%5D=acme&customer[]=nobody")[1].decode())
        assert [section.all("a")[0].text for section in one.all("section", "card")] == ["acme"]
        clock.advance(5 * MINUTE)
        later = read_html(fetch(url + "/")[1].decode())
        assert card_of(later, "acme").classes == {"card", "failing"}
        store.reload_failed()
        assert b"could not be loaded again" in fetch(url + "/")[1]


def test_with_metrics_at_the_root_there_is_no_page() -> None:
    """What is served there is metrics, whoever asks."""
    store, _ = stored(make_customer())
    with serving(store, "/") as url:
        status, body, headers = fetch(url + "/", Accept="text/html")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"<html" not in body


def test_the_cards_are_values() -> None:
    """What the template is given is plain: the card of a customer, of which tests and tools can ask."""
    found = card(view(GOOD, moment(NOON)), NOON)
    assert found.name == "acme"
    assert json.dumps([project.total.name for project in found.projects]) == '["370"]'
    assert found.bars == (Bar(0, 25, Mark(24, 75, 15, 10), "00:00 to 12:30: 75 in time, 15 late, 10 gave up"),)


def test_the_page_keeps_nothing_that_it_has_shown() -> None:
    """Only what the template's language makes is left as garbage, and none of it is a customer's."""
    assert left_by(lambda: text_of(GOOD)) == []
