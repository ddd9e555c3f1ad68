"""The dashboards: their files, and each of their queries on a real Prometheus that holds the simulator's days."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations
from typing import Any, Final
from urllib.parse import urlencode

import pytest
import recorded
import yaml
from history import (
    FIRST,
    HOUR,
    KEY_LOST,
    LAGGING,
    LOST_BY,
    MIDNIGHT,
    NOW,
    POLL_BEFORE,
    STEP,
    WEEK,
    Past,
    customers,
    write,
)
from prometheus_client import CollectorRegistry, ProcessCollector
from running import ROOT, Prometheus, fetch

from tools.dashboards import colours
from tools.dashboards.__main__ import FOLDER, files
from tools.dashboards.panels import NO_JUDGEMENT
from tools.dashboards.wallboard import FRESH, GONE, NEW_DAY, NOTHING, OFF
from tools.history import STEP as SCRAPED_EVERY
from tools.history import Run, load, make
from tools.recorded import EVERY, LOOKBACK, record
from tools.rules import alerts, recording_rules
from tools.stack import LONGEST, weekly
from vcc_exporter.vocabulary import FAMILIES, STATISTICS

Board = dict[str, Any]

BOARDS: Final[dict[str, Board]] = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
UIDS: Final = ("vcc-customer", "vcc-exporter", "vcc-fleet", "vcc-wallboard")
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
UNITS: Final = {"none", "short", "percentunit", "s", "suffix: s", "dtdurations", "bytes", "cpm"}
OURS: Final = {colours.GOOD, colours.WARN, colours.BAD, colours.GREY}

EMPTY: Final = {
    ("vcc-exporter", "Is the web config good?"): "the history's exporter has no --web.config.file",
}
"""Queries that find nothing in the simulator's days, each with its reason."""
EMPTY_IN_THE_DEMO: Final = {
    ("vcc-exporter", "Processor"): "nobody knows how much work a process would have had",
}
"""Further ones that find nothing in what is made of the demo's past."""
NOT_BY_RATE_INTERVAL: Final = {
    ("vcc-exporter", "Customers, by exporter"): "a column counts the failures of the last hour, whatever the range",
}
"""Panels that ask for a fixed time of a counter, each with its reason."""
ELSEWHERE: Final = {
    "up": "Prometheus",
    "ALERTS": "Prometheus",
    "scrape_duration_seconds": "Prometheus",
    "scrape_samples_scraped": "Prometheus",
}
"""Metrics that neither the vocabulary nor a rule file names, and who publishes them."""


@dataclass(frozen=True)
class Query:
    """One query of a dashboard."""

    board: str
    title: str
    expression: str
    instant: bool


def panels(board: Board) -> list[dict[str, Any]]:
    """Return a dashboard's panels without the headings of rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board: Board) -> Iterator[Query]:
    """Yield the queries of panels and annotations."""
    uid = board["uid"]
    for panel in panels(board):
        for target in panel["targets"]:
            yield Query(uid, panel["title"], target["expr"], target.get("instant", False))
    for annotation in board["annotations"]["list"]:
        yield Query(uid, annotation["name"], annotation["expr"], instant=False)


def variables(board: Board) -> list[dict[str, Any]]:
    """Return a dashboard's variables but the data source."""
    return [variable for variable in board["templating"]["list"] if variable["type"] == "query"]


every_board = pytest.mark.parametrize("uid", UIDS)

# The files.


def test_the_files_are_what_the_code_builds() -> None:
    """`python -m tools.dashboards` would change nothing, and there is no other file."""
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == files()
    assert tuple(BOARDS) == UIDS


@every_board
def test_a_dashboard_can_be_imported_and_provisioned_as_it_is(uid: str) -> None:
    """The classic schema with a fixed uid and tag, nobody's own id, and no inputs that only one way would fill in."""
    board = BOARDS[uid]
    assert (board["uid"], board["schemaVersion"], board["tags"], board["editable"]) == (uid, 42, ["vcc"], False)
    assert board["title"].startswith("VCC / ")
    assert board["refresh"] == "30s"
    assert board.keys().isdisjoint({"id", "version", "__inputs", "__requires"})


@every_board
def test_everything_asks_the_chosen_data_source(uid: str) -> None:
    """There is one variable of the kind, and no panel, query, variable or annotation has another source."""
    board = BOARDS[uid]
    sources = [v for v in board["templating"]["list"] if v["type"] == "datasource"]
    assert [(v["name"], v["query"]) for v in sources] == [("datasource", "prometheus")]
    targets = [target for panel in panels(board) for target in panel["targets"]]
    for asking in (*panels(board), *targets, *variables(board), *board["annotations"]["list"]):
        assert asking["datasource"] == DATASOURCE, asking


@every_board
def test_every_panel_says_what_it_is(uid: str) -> None:
    """Each has a title, a description in a whole sentence, a unit, words for where nothing is, and an id of its own."""
    board = BOARDS[uid]
    for panel in panels(board):
        defaults = panel["fieldConfig"]["defaults"]
        given = [p["value"] for o in panel["fieldConfig"]["overrides"] for p in o["properties"] if p["id"] == "unit"]
        assert panel["title"], panel
        assert re.fullmatch(r"[A-Z“].{15,}[.]", panel["description"]), panel["title"]
        assert {defaults["unit"], *given} <= UNITS, panel["title"]
        assert defaults["noValue"], panel["title"]
        letters = [target["refId"] for target in panel["targets"]]
        assert len(letters) == len(set(letters)) >= 1, panel["title"]
    ids = [panel["id"] for panel in board["panels"]]
    assert ids == list(range(1, len(ids) + 1))


@every_board
def test_no_panel_covers_another(uid: str) -> None:
    """Panels keep to the 24 columns and apart."""
    for a, b in combinations([panel["gridPos"] for panel in BOARDS[uid]["panels"]], 2):
        assert a["x"] + a["w"] <= 24
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (a, b)


def test_the_wallboard_is_one_screen_of_at_most_nine_big_numbers() -> None:
    """It ends above the lower edge of 1080 pixels; a row of the grid takes 38 of them."""
    shown = panels(BOARDS["vcc-wallboard"])
    assert max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in shown) * 38 <= 1080 - 60
    assert 4 <= len([panel for panel in shown if panel["gridPos"]["h"] > 4]) <= 9


@every_board
def test_colours_are_told_apart_by_everybody_and_never_alone(uid: str) -> None:
    """No colour but ours is named, and a panel that colours by thresholds or values has words for what they mean."""
    board = BOARDS[uid]
    assert set(re.findall(r"#[0-9A-Fa-f]{6}\b", json.dumps(board))) <= OURS
    for panel in panels(board):
        defaults = panel["fieldConfig"]["defaults"]
        if len(defaults.get("thresholds", {}).get("steps", [])) > 1:
            assert defaults["color"] == {"mode": "thresholds"}, panel["title"]
            assert defaults["mappings"], panel["title"]


@every_board
def test_links_keep_what_was_chosen(uid: str) -> None:
    """The menu of dashboards passes variables and time on, and every other link leads to a dashboard that exists."""
    board = BOARDS[uid]
    (menu,) = board["links"]
    assert (menu["type"], menu["tags"], menu["asDropdown"]) == ("dashboards", ["vcc"], True)
    assert menu["includeVars"]
    assert menu["keepTime"]
    for linked in re.findall(r'"/d/([a-z-]+)\?([^"]*)"', json.dumps(board["panels"])):
        assert linked[0] in UIDS
        assert {"${__url_time_range}", "var-datasource=${datasource}"} <= set(linked[1].split("&"))


@every_board
def test_counters_are_only_asked_for_their_growth(uid: str) -> None:
    """A counter stands within rate or increase, over the interval that fits the range, and a gauge never does."""
    for query in queries(BOARDS[uid]):
        counted = re.findall(r"\b(\w+(?:_total|_seconds_sum|_seconds_count))\{", query.expression)
        grown = re.findall(r"\b(?:rate|increase)\((\w+)\{[^}]*\}\[([^]]+)\]\)", query.expression)
        assert [name for name, _ in grown] == counted, query
        if (query.board, query.title) not in NOT_BY_RATE_INTERVAL:
            assert {over for _, over in grown} <= {"$__rate_interval"}, query


def test_the_exporters_dashboard_asks_for_the_chosen_job_and_instance() -> None:
    """Each selector of its panels has both; the other dashboards know neither."""
    for uid in UIDS:
        selectors = [s for panel in panels(BOARDS[uid]) for t in panel["targets"] for s in _selectors(t["expr"])]
        both = ['job=~"$job",instance=~"$instance"' in selector for selector in selectors]
        assert all(both) if uid == "vcc-exporter" else not any(both)


def _selectors(expression: str) -> list[str]:
    return re.findall(r"\b[a-z_:]+\{([^}]*)\}", expression)


def test_variables_depend_on_those_before() -> None:
    """A project is one of the customer's, a queue one of the project's, an instance one of the job's."""
    chains = {
        "vcc-wallboard": [("customer", ""), ("project", "$customer")],
        "vcc-fleet": [("customer", "")],
        "vcc-customer": [("customer", ""), ("project", "$customer"), ("queue", "$customer $project")],
        "vcc-exporter": [("job", ""), ("instance", "$job"), ("customer", "$job $instance")],
    }
    for uid, chain in chains.items():
        assert [(v["name"], " ".join(re.findall(r"\$\w+", v["query"]))) for v in variables(BOARDS[uid])] == chain


def test_every_metric_that_a_dashboard_names_exists() -> None:
    """It is a family of the vocabulary, a recorded rule, or somebody's who is named here."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    known = {rule.record for rule in recording_rules()} | ELSEWHERE.keys()
    known |= {sample.name for family in registry.collect() for sample in family.samples}
    for family in FAMILIES:
        known |= {f"{family.name}_sum", f"{family.name}_count"} if family.type == "summary" else {family.name}
    asked = " ".join(
        [query.expression for board in BOARDS.values() for query in queries(board)]
        + [variable["query"] for board in BOARDS.values() for variable in variables(board)]
    )
    named = set(re.findall(r"\b((?:vcc|process|scrape)_\w+|[a-z]+:\w+:\w+|up|ALERTS)\b(?!_)", asked))
    named -= {"vcc_inbound_"}
    assert named - known == set()


def test_each_of_the_nineteen_statistics_is_on_the_customers_dashboard() -> None:
    """Each is asked for by its name, and the table has the vendor's name with our words."""
    text = json.dumps(BOARDS["vcc-customer"], ensure_ascii=False)
    for statistic in STATISTICS:
        assert statistic.metric in text
        assert f"{statistic.words} ({statistic.name})" in text


def test_provisioning_loads_the_dashboards_and_a_data_source() -> None:
    """The provider reads a folder without changes by hand, and the data source is a Prometheus."""
    folder = ROOT / "grafana" / "provisioning"
    providers = yaml.safe_load((folder / "dashboards" / "vcc.yaml").read_text())
    (provider,) = providers["providers"]
    assert (providers["apiVersion"], provider["type"], provider["allowUiUpdates"]) == (1, "file", False)
    assert provider["options"]["path"].endswith("/dashboards")
    sources = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())
    (source,) = sources["datasources"]
    assert (sources["apiVersion"], source["type"], source["access"]) == (1, "prometheus", "proxy")


def test_the_document_explains_every_dashboard_and_every_word_of_the_wall() -> None:
    """Each uid and title has its place in it, and so has each tile, and what the tiles say."""
    document = (ROOT / "docs" / "dashboards.md").read_text()
    for uid, board in BOARDS.items():
        assert uid in document
        assert board["title"] in document
    for word in [*NO_JUDGEMENT.values(), NOTHING]:
        assert word.lstrip("◦ ") in document, word
    for panel in panels(BOARDS["vcc-wallboard"]):
        if panel["gridPos"]["h"] > 4:
            assert panel["title"].partition(",")[0] in document, panel["title"]


# On a real Prometheus.


@dataclass(frozen=True)
class Both:
    """The same days, scraped from one exporter, and from that one and another that lags behind it."""

    one: Prometheus
    two: Prometheus


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Run two Prometheuses with everything recorded."""
    folder = tmp_path_factory.mktemp("past")
    past = Past()
    for name, replica in (("one", FIRST), ("lagging", LAGGING)):
        scraped = folder / f"{name}.openmetrics"
        write(scraped, past, replica)
        load(scraped, folder / name)
    recorded.copy([folder / "one", folder / "lagging"], folder / "two")
    with ThreadPoolExecutor() as pool:
        list(pool.map(recorded.record, [folder / "one", folder / "two"]))
    with ExitStack() as stack:
        yield Both(*(stack.enter_context(recorded.serving(folder / name)) for name in ("one", "two")))


BANK: Final = {"customer": "bank", "project": "101"}
CHOSEN: Final[dict[str, dict[str, str]]] = {
    "vcc-wallboard": BANK,
    "vcc-customer": {"customer": "bank"},
    "vcc-fleet": {},
    "vcc-exporter": {"instance": FIRST.instance},
}
"""What is chosen on each dashboard; where nothing is, all."""
MORNING: Final = NOW - timedelta(hours=16, minutes=40)


def written_out(text: str, chosen: Mapping[str, str]) -> str:
    """Put values into a query as Grafana does."""
    all_of = dict.fromkeys(("customer", "project", "queue", "job", "instance"), ".+")
    known = {"__rate_interval": "40m", "__range": "1d", "__interval": "10m", **all_of, **chosen}
    result = re.sub(r"\$(\w*[a-z]\w*)", lambda name: known[name[1]], text)
    assert "$" not in result.replace('"$1', ""), result
    return result


def ask(
    prometheus: Prometheus, query: Query, chosen: Mapping[str, str], at: datetime = NOW, since: datetime = MORNING
) -> Any:
    """Ask as a panel would; the error's words where it is one."""
    asked: dict[str, object] = {"query": written_out(query.expression, chosen)}
    if query.instant:
        path = "/api/v1/query?" + urlencode({**asked, "time": at.timestamp()})
    else:
        span = {"start": since.timestamp(), "end": at.timestamp(), "step": STEP.seconds}
        path = "/api/v1/query_range?" + urlencode({**asked, **span})
    status, body, _ = fetch(prometheus.url + path)
    answer = json.loads(body)
    return answer["data"]["result"] if status == 200 else answer["error"]


def comparable(result: list[dict[str, Any]]) -> dict[frozenset[tuple[str, str]], list[tuple[float, float]]]:
    """Return an answer's values by labels, without the last binary digits, which depend on the order of sums."""
    return {
        frozenset(series["metric"].items()): [
            (at, float(f"{float(value):.9g}")) for at, value in series.get("values", [series.get("value")])
        ]
        for series in result
    }


@every_board
def test_every_query_finds_something(both: Both, uid: str) -> None:
    """Each query of each panel and annotation is valid and finds something, but for those listed with a reason."""
    found = {query: ask(both.one, query, CHOSEN[uid]) for query in queries(BOARDS[uid])}
    assert {query: answer for query, answer in found.items() if isinstance(answer, str)} == {}
    empty = {(query.board, query.title) for query, answer in found.items() if not answer}
    assert empty == {listed for listed in EMPTY if listed[0] == uid}


@every_board
def test_no_choice_makes_a_query_fail(both: Both, uid: str) -> None:
    """Whichever customer is chosen, and with all exporters at once, each query has an answer, if an empty one."""
    for query in queries(BOARDS[uid]):
        for customer, projects in PROJECTS.items():
            answer = ask(both.two, query, {"customer": customer, "project": projects[-1]})
            assert not isinstance(answer, str), (query, customer, answer)


@every_board
def test_two_exporters_give_the_answers_of_one(both: Both, uid: str) -> None:
    """A second exporter, which lags and has other numbers, changes no answer about calls, nor any of the first one."""
    for query in queries(BOARDS[uid]):
        first, second = (ask(each, query, CHOSEN[uid]) for each in (both.one, both.two))
        assert comparable(first) == comparable(second), query


def test_the_lagging_exporter_does_say_something_else(both: Both) -> None:
    """The test before would otherwise prove nothing."""
    raw = Query("", "", "max by (customer) (vcc_inbound_answered_before_calls)", instant=True)
    assert comparable(ask(both.one, raw, {})) != comparable(ask(both.two, raw, {}))


@every_board
def test_every_variable_offers_something(both: Both, uid: str) -> None:
    """Each variable's query has values, by name where ids have names."""
    for variable in variables(BOARDS[uid]):
        assert offered(both.one, variable, {**CHOSEN[uid], "instance": ".+"}), variable["name"]


def test_projects_and_queues_are_offered_by_name(both: Both) -> None:
    """What people read is the name, what links and queries pass on is the id, also while a customer shows nothing."""
    _, project, queue = variables(BOARDS["vcc-customer"])
    assert offered(both.one, project, {"customer": "bank"}) == {
        ("Retail banking", "101"),
        ("Lost cards", "102"),
        ("Personal bankers", "103"),
    }
    assert offered(both.one, project, {"customer": LOST_BY}) == {
        ("Retail banking", "101"),
        ("Lost cards", "102"),
        ("Personal bankers", "103"),
    }
    assert offered(both.one, queue, BANK) == {("no queue", "-1"), ("Accounts", "1101"), ("Loans", "1102")}


def offered(prometheus: Prometheus, variable: Mapping[str, Any], chosen: Mapping[str, str]) -> set[tuple[str, str]]:
    """Return texts and values that a variable offers, found as Grafana finds them."""
    query = written_out(variable["query"], chosen)
    labels = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
    if labels:
        span = {"match[]": labels[1], "start": MORNING.timestamp(), "end": NOW.timestamp()}
        return {(value, value) for value in prometheus.get(f"/api/v1/label/{labels[2]}/values?{urlencode(span)}")}
    asked = re.fullmatch(r"query_result\((.+)\)", query)
    assert asked, query
    pattern = re.fullmatch(r"/(.+)/g", variable["regex"])
    assert pattern, variable
    found = set()
    for series in ask(prometheus, Query("", "", asked[1], instant=True), {}):
        text = "{" + ",".join(f'{name}="{value}"' for name, value in sorted(series["metric"].items())) + "} 1"
        groups = [match.groupdict() for match in re.finditer(pattern[1].replace("(?<", "(?P<"), text)]
        value, shown = ("".join(g[name] or "" for g in groups) for name in ("value", "text"))
        found.add((shown or value, value))
    return found


# What the wall says.


def panel_of(uid: str, title: str) -> dict[str, Any]:
    """Return a panel by its title."""
    (panel,) = [panel for panel in panels(BOARDS[uid]) if panel["title"] == title]
    return panel


def tile(prometheus: Prometheus, title: str, chosen: Mapping[str, str], at: datetime = NOW) -> tuple[str, str, str]:
    """Return the text, the words and the colour that a tile of the wall would show."""
    panel = panel_of("vcc-wallboard", title)
    defaults = panel["fieldConfig"]["defaults"]
    found = ask(prometheus, Query("", "", panel["targets"][0]["expr"], instant=True), chosen, at)
    if not found:
        return "", defaults["noValue"], defaults["thresholds"]["steps"][0]["color"]
    (series,) = found
    value = float(series["value"][1])
    return series["metric"].get("shown", ""), words(defaults["mappings"], value), colour(defaults["thresholds"], value)


def words(mappings: list[dict[str, Any]], value: float) -> str:
    """Return what Grafana would write instead of a value: the first mapping that fits."""
    for mapping in mappings:
        options = mapping["options"]
        if mapping["type"] == "value" and f"{value:g}" in options:
            return str(options[f"{value:g}"]["text"])
        if mapping["type"] == "range" and options["from"] <= value <= options["to"]:
            return str(options["result"]["text"])
    raise AssertionError(f"no words for {value}")


def colour(thresholds: Mapping[str, Any], value: float) -> str:
    """Return the colour of the last threshold that a value reaches."""
    return str([step["color"] for step in thresholds["steps"] if step["value"] is None or step["value"] <= value][-1])


JUDGED: Final = {
    "Answered in time, last hour": ("service_level", "1h"),
    "Answered in time, today": ("service_level", "today"),
    "Given up, last hour": ("abandonment", "1h"),
}
PROJECTS: Final = {
    "bank": ("101", "102", "103"),
    "webshop": ("201", "202"),
    "roadside": ("301", "302"),
    "utility": ("401", "402"),
    LOST_BY: ("101", "102", "103"),
}


@pytest.mark.parametrize("title", JUDGED)
def test_a_number_is_judged_by_its_own_projects_target(both: Both, title: str) -> None:
    """All day, words and colour of every project are those of a person who knows its numbers, target and hours."""
    seen = set()
    for at in (NOW - timedelta(hours=hours) for hours in range(0, 16, 2)):
        for customer, project in [(c, p) for c, projects in PROJECTS.items() for p in projects]:
            shown = tile(both.one, title, {"customer": customer, "project": project}, at)
            assert shown == expectation(both.one, at, {"customer": customer, "project": project}, *JUDGED[title]), (
                at,
                customer,
                project,
            )
            seen.add(shown[2])
    assert {colours.GOOD, colours.WARN, colours.GREY} <= seen


def expectation(
    prometheus: Prometheus, at: datetime, mine: Mapping[str, str], ratio: str, window: str
) -> tuple[str, str, str]:
    """Judge a project from single numbers and the config."""

    def number(name: str, **labels: str) -> float | None:
        selector = ",".join(f'{label}="{value}"' for label, value in labels.items())
        found = ask(prometheus, Query("", "", f"{name}{{{selector}}}", instant=True), {}, at)
        return float(found[0]["value"][1]) if found else None

    customer = mine["customer"]
    value = number(f"project:vcc_inbound_{ratio}:ratio_{window}", **mine)
    calls = number(
        "project:vcc_inbound_offered_calls:" + ("today" if window == "today" else f"increase{window}"), **mine
    )
    text = "-" if value is None else f"{math.floor(1000 * value + 0.5) / 10:g} %"
    targets = next(c for c in customers() if c.name == customer).project(int(mine["project"])).targets
    why = None
    if 0 in (number("vcc_inbound_open", **mine), number("vcc_customer_active", customer=customer)):
        why = "◦ closed"
    elif number("vcc_up", customer=customer) == 0:
        why = "✕ not polled"
    elif calls is not None and calls < targets.min_calls:
        why = "◦ too few calls"
    elif value is None:
        why = "◦ not known yet"
    if why or value is None:
        return text, str(why), colours.GREY
    level = ratio == "service_level"
    points = round(value - targets.service_level if level else targets.abandonment - value, 4)
    side = "below" if level else "above"
    if points >= 0:
        return text, "▲ on target", colours.GOOD
    return (
        (text, f"▼ just {side} target", colours.WARN)
        if points >= -0.1
        else (text, f"▼▼ far {side} target", colours.BAD)
    )


def test_the_age_of_the_numbers_cannot_be_missed(both: Both) -> None:
    """It is in view for every customer, and red with words once nothing may be shown or no exporter answers."""
    title = "Age of these numbers"
    mappings = panel_of("vcc-wallboard", title)["fieldConfig"]["defaults"]["mappings"]
    for customer, expected in {
        "bank": ("under 1 min", words(mappings, FRESH), colours.GOOD),
        "utility": ("under 1 min", words(mappings, OFF), colours.GREY),
        LOST_BY: ("180 min", words(mappings, GONE), colours.BAD),
    }.items():
        assert tile(both.one, title, {"customer": customer, "project": PROJECTS[customer][0]}) == expected
    half_an_hour_later = NOW + timedelta(minutes=30)
    assert tile(both.one, title, BANK, half_an_hour_later) == ("", "✕ NO ANSWER AT ALL", colours.BAD)


def test_midnight_is_no_alarm(both: Both) -> None:
    """Until the new day's first answer there are no numbers, which the wall explains without a colour that alarms."""
    mappings = panel_of("vcc-wallboard", "Age of these numbers")["fieldConfig"]["defaults"]["mappings"]
    shown = tile(both.one, "Age of these numbers", {"customer": "roadside", "project": "301"}, MIDNIGHT)
    assert shown == ("under 1 min", words(mappings, NEW_DAY), colours.GREY)


def test_old_numbers_are_told_apart_from_none(both: Both) -> None:
    """Between the last good poll and the end of its values the wall says that they are old, and judges nothing."""
    soon_after = KEY_LOST + 2 * STEP
    chosen = {"customer": LOST_BY, "project": "101"}
    age = tile(both.one, "Age of these numbers", chosen, soon_after)
    assert age == ("20 min", "▼ OLD: no new answer", colours.WARN)
    text, said, shade = tile(both.one, "Answered in time, today", chosen, soon_after)
    assert (said, shade) == ("✕ not polled", colours.GREY)
    assert text.endswith(" %")


@pytest.mark.parametrize("title", JUDGED)
def test_a_wall_without_an_exporter_judges_nothing(both: Both, title: str) -> None:
    """Where no number comes any more the tile is grey and says so."""
    said = tile(both.one, title, BANK, NOW + timedelta(minutes=30))
    assert said == ("", NOTHING, colours.GREY)


def test_last_week_is_the_same_time_by_the_clock(both: Both) -> None:
    """Los Angeles changed its clocks within the week: there, last week by now was 167 hours ago; elsewhere 168."""
    panel = panel_of("vcc-wallboard", "calls today: what it means")
    for customer, hours in {"webshop": 167, "roadside": 168}.items():
        chosen = {"customer": customer, "project": PROJECTS[customer][0]}
        (shown,) = ask(both.one, Query("", "", panel["targets"][1]["expr"], instant=True), chosen)
        selector = f'customer="{customer}",project="{chosen["project"]}"'
        then = f"project:vcc_inbound_offered_calls:today{{{selector}}} offset {hours}h"
        (expected,) = ask(both.one, Query("", "", then, instant=True), {})
        assert shown["metric"]["shown"] == expected["value"][1]


def test_the_walls_mean_wait_is_the_simulators(both: Both) -> None:
    """It is the difference of the sums of waits over the difference of answered calls, an hour apart."""
    bank = next(customer for customer in customers() if customer.name == "bank")
    past, index = Past(), {statistic.name: number for number, statistic in enumerate(STATISTICS)}
    sums = []
    for at in (NOW - POLL_BEFORE, NOW - POLL_BEFORE - timedelta(hours=1)):
        rows = [row for (project, _), row in past.answer(bank, at).values.items() if project == 101]
        wait, *answered = (
            sum(row[index[name]] or 0 for row in rows) for name in ("queue_time", "answered_before", "answered_after")
        )
        sums.append((wait, sum(answered)))
    (now_waited, now_answered), (then_waited, then_answered) = sums
    mean = (now_waited - then_waited) / (now_answered - then_answered)
    text, said, _ = tile(both.one, "Mean wait, last hour", BANK)
    assert (text, said) == (f"{math.floor(mean + 0.5)} s", "of those answered")


def test_no_tile_of_a_customer_that_is_not_polled_is_good(both: Both) -> None:
    """Each tile says that nobody knows, whatever its last numbers were."""
    big = [panel["title"] for panel in panels(BOARDS["vcc-wallboard"]) if panel["gridPos"]["h"] > 4]
    for title in big:
        for at in (NOW, KEY_LOST + 2 * STEP):
            _, said, shade = tile(both.one, title, {"customer": LOST_BY, "project": "102"}, at)
            assert shade != colours.GOOD
            assert said in {"✕ not polled", "✕ TOO OLD TO SHOW", "▼ OLD: no new answer"}, title


def test_the_fleet_has_every_customer_and_the_worst_first(both: Both) -> None:
    """Who is not polled stands on top, then by distance to the target, and whoever cannot be judged below."""
    panel = panel_of("vcc-fleet", "Customers, the worst first")
    (order,) = panel["options"]["sortBy"]
    assert (order["displayName"], order["desc"]) == ("State", False)
    found = ask(both.one, Query("", "", panel["targets"][0]["expr"], instant=True), {})
    states = {series["metric"]["customer"]: float(series["value"][1]) for series in found}
    assert min(states, key=states.__getitem__) == LOST_BY
    assert states.keys() == PROJECTS.keys()
    assert states["utility"] == max(states.values())
    assert -1 <= states["bank"] <= 1


@every_board
def test_a_tables_queries_have_the_same_labels(both: Both, uid: str) -> None:
    """Grafana puts rows together by the labels that all queries share; a metric's name would keep them apart."""
    for panel in panels(BOARDS[uid]):
        if panel["type"] == "table":
            asked = [Query(uid, panel["title"], target["expr"], instant=True) for target in panel["targets"]]
            labels = [set(series["metric"]) for query in asked for series in ask(both.one, query, CHOSEN[uid])]
            assert labels
            assert "__name__" not in set.union(*labels), panel["title"]
            shared = set.intersection(*labels)
            for query in asked:
                rows = [
                    tuple(s["metric"][label] for label in sorted(shared)) for s in ask(both.one, query, CHOSEN[uid])
                ]
                assert len(rows) == len(set(rows)), panel["title"]


# On the first day of the demo's stack.


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Run a Prometheus on what the stack has of some hours of each week where it is started at `NOW`."""
    data = tmp_path_factory.mktemp("stack") / "data"
    begin = NOW - LONGEST
    spans = weekly(begin, NOW, timedelta(hours=2))
    for span in spans:
        make(data, Run(begin, FIRST.instance, "self"), *span)
    record(data, spans, EVERY, SCRAPED_EVERY)
    with recorded.serving(data, LOOKBACK) as prometheus:
        yield prometheus


@pytest.mark.parametrize("weeks", range(4))
@every_board
def test_every_query_finds_something_in_each_week_of_the_demo(stack: Prometheus, uid: str, weeks: int) -> None:
    """On the first day each panel has its last four weeks, and before each of them the week that it compares with."""
    at = NOW - weeks * WEEK
    found = {query: ask(stack, query, CHOSEN[uid], at, at - HOUR) for query in queries(BOARDS[uid])}
    assert {query: answer for query, answer in found.items() if isinstance(answer, str)} == {}
    empty = {(query.board, query.title) for query, answer in found.items() if not answer}
    assert empty - {(uid, "Alerts")} == {listed for listed in EMPTY | EMPTY_IN_THE_DEMO if listed[0] == uid}


def test_alerts_of_the_demos_past_are_marked(stack: Prometheus) -> None:
    """Now and then one fires in healthy weeks, too, though not in every hour: the fleet's curves have its mark."""
    (mark,) = [query for query in queries(BOARDS["vcc-fleet"]) if query.title == "Alerts"]
    fired = [ask(stack, mark, {}, NOW - weeks * WEEK, NOW - weeks * WEEK - HOUR) for weeks in range(4)]
    assert any(fired)


@pytest.mark.parametrize("weeks", range(3))
def test_the_alert_that_compares_with_past_weeks_has_them(stack: Prometheus, weeks: int) -> None:
    """If any calls were none, `VccCallsStopped` would fire on the first day, and in each week with two before it."""
    (stopped,) = [alert for alert in alerts() if alert.name == "VccCallsStopped"]
    assert stopped.expr.count("<= 0") == 1
    at = (NOW - weeks * WEEK).timestamp()
    asked = {"query": stopped.expr.replace("<= 0", "> 0"), "time": at}
    found = stack.get("/api/v1/query?" + urlencode(asked))["result"]
    assert {series["metric"]["customer"] for series in found} >= {"bank", "roadside"}
