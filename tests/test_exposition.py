"""Views to bytes: what the client library would write, in both formats, plain and as one gzip member."""

import os
import shutil
import subprocess
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import cycle, islice
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from support import DATA, SetClock, make_customer

from vcc_exporter import exposition
from vcc_exporter.answer import Answer, Pair, Scope, Values, read_statistics
from vcc_exporter.config import Customer, Targets
from vcc_exporter.exposition import (
    Block,
    Exporter,
    Format,
    Page,
    Piece,
    Rendered,
    empty_page,
    in_runs,
    make_block,
    metric_family,
    render,
    render_exporter,
    render_process,
)
from vcc_exporter.snapshot import (
    CustomerState,
    View,
    view,
    with_answer,
    with_failure,
    with_lookback,
    with_names,
)
from vcc_exporter.vocabulary import (
    CUSTOMER_FAMILIES,
    DATA_FAMILIES,
    EXPORTER_FAMILIES,
    FAMILIES,
    STATISTICS,
    Family,
    Result,
)

UNHURRIED: Final = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
"""No test depends on the machine's speed."""
CLOCK: Final = SetClock()
TODAY: Final = date(2026, 3, 11)
EXPORTER: Final = Exporter("1.2.3", datetime(2026, 3, 11, 9, 0, tzinfo=UTC))
ABOUT_ITSELF: Final = [f.name for f in EXPORTER_FAMILIES if "web_config" not in f.name]
"""What an exporter without a web config says of itself."""

Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels, float]
"""Name, labels, value."""


# --- The page, as the client library would write it ------------------------------------------------------------------


def data_samples(family: Family, said: View) -> Iterator[Sample]:
    """Yield what a view says in one of the data families, in the contract's words."""
    index = [s.metric for s in STATISTICS].index(family.name)
    for row in said.rows:
        value = row.values[index]
        if value is not None:
            labels = {
                "customer": said.state.customer.name,
                "project": row.project,
                "project_name": row.project_name,
                "queue": row.queue,
                "queue_name": row.queue_name,
            }
            yield family.name, tuple(labels.items()), value


def customer_samples(family: Family, said: View) -> Iterator[Sample]:  # noqa: C901, PLR0912 - the contract's list
    """Yield what a view says in one of the families about a customer, in the contract's words."""
    state, name = said.state, family.name
    customer: Labels = (("customer", state.customer.name),)
    by_project = {
        "vcc_inbound_sla_threshold_seconds": lambda p: p.sla_s,
        "vcc_inbound_service_level_target_ratio": lambda p: p.targets.service_level,
        "vcc_inbound_abandonment_target_ratio": lambda p: p.targets.abandonment,
        "vcc_inbound_target_min_calls": lambda p: p.targets.min_calls,
        "vcc_inbound_open": lambda p: p.open,
    }
    if name in by_project:
        for project in said.projects:
            value = by_project[name](project)
            if value is not None:
                yield name, (*customer, ("project", project.project)), value
    elif name == "vcc_up":
        if sum(state.polls.values()):
            yield name, customer, said.up
    elif name == "vcc_customer_info":
        yield name, (*customer, ("timezone", str(state.customer.zone)), *state.customer.labels), 1
    elif name == "vcc_customer_active":
        yield name, customer, said.active
    elif name == "vcc_polls_total":
        for result in Result:
            yield name, (*customer, ("result", result.value)), state.polls[result]
    elif name == "vcc_poll_duration_seconds":
        yield f"{name}_count", customer, sum(state.polls.values())
        yield f"{name}_sum", customer, state.poll_seconds
    elif name in {"vcc_inbound_rows", "vcc_inbound_rejected_rows"}:
        if state.last_success:
            yield name, customer, state.rejected_rows if "rejected" in name else state.rows
    else:
        instant = {
            "vcc_inbound_day_start_timestamp_seconds": said.day_start,
            "vcc_poll_last_success_timestamp_seconds": state.last_success,
            "vcc_poll_next_timestamp_seconds": state.next_poll,
        }[name]
        if instant:
            yield name, customer, instant.timestamp()


def exporter_samples(family: Family, exporter: Exporter) -> Iterator[Sample]:
    """Yield what the exporter says of itself."""
    if family.name == "vcc_exporter_build_info":
        yield family.name, (("version", exporter.version),), 1
    elif family.name == "vcc_exporter_config_last_reload_successful":
        yield family.name, (), exporter.config_is_good
    elif family.name == "vcc_exporter_web_config_last_reload_successful":
        if exporter.web_config_is_good is not None:
            yield family.name, (), exporter.web_config_is_good
    else:
        yield family.name, (), exporter.config_loaded.timestamp()


def samples_of(family: Family, views: Sequence[View], exporter: Exporter) -> list[Sample]:
    """Return all samples of a family, customer by customer."""
    if family in EXPORTER_FAMILIES:
        return list(exporter_samples(family, exporter))
    of_view = data_samples if family in DATA_FAMILIES else customer_samples
    return [sample for said in views for sample in of_view(family, said)]


class Reference(Collector):
    """The same families, samples and metadata for the client library to write."""

    def __init__(self, views: Sequence[View], exporter: Exporter) -> None:
        self._views = views
        self._exporter = exporter

    def collect(self) -> Iterable[Metric]:
        """Yield the families that have a sample."""
        for family in FAMILIES:
            metric: Metric = metric_family(family)
            for name, labels, value in samples_of(family, self._views, self._exporter):
                metric.add_sample(name, dict(labels), float(value))
            if metric.samples:
                yield metric


class OfTheProcess(Collector):
    """What stands for the metrics of the process, which change while one looks."""

    def collect(self) -> Iterable[Metric]:
        """Yield two families of awkward content."""
        gauge = GaugeMetricFamily("process_things", 'Things of "the" process, \\ and\nmore.', labels=["kind"])
        gauge.add_metric(['a "kind"'], 1e9)
        yield gauge
        yield GaugeMetricFamily("python_info", "About the interpreter.", value=1)


def reference(chosen: Format, views: Sequence[View], exporter: Exporter, *further: Collector) -> bytes:
    """Return the page as the client library writes it."""
    registry = CollectorRegistry()
    for collector in (Reference(views, exporter), *further):
        registry.register(collector)
    return generate_latest(registry) if chosen is Format.TEXT else generate_openmetrics(registry)


def process_registry(*collectors: Collector) -> CollectorRegistry:
    """Return a registry of collectors."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return registry


@cache
def nobodys_page() -> Page:
    """Return a page from which others are made."""
    return empty_page(EXPORTER)


def page_of(blocks: Iterable[Block], exporter: Exporter = EXPORTER, *further: Collector) -> Page:
    """Return our page."""
    page = replace(nobodys_page(), runs=in_runs(list(blocks)), exporter=render_exporter(exporter))
    return replace(page, process=render_process(process_registry(*further))) if further else page


def plain(page: Page, chosen: Format) -> bytes:
    """Return a page as it is sent without compression."""
    return b"".join(page.body(chosen, gzip=False).parts)


def unpacked(page: Page, chosen: Format) -> bytes:
    """Return what a reader that stops after the first gzip member gets, and assert that nothing is left."""
    reader = zlib.decompressobj(31)
    found = reader.decompress(b"".join(page.body(chosen, gzip=True).parts)) + reader.flush()
    assert reader.eof
    assert (reader.unused_data, reader.unconsumed_tail) == (b"", b"")
    return found


def parsed(chosen: Format, text: bytes) -> list[Sample]:
    """Return all samples that the client library's parser finds."""
    parse = (
        text_string_to_metric_families if chosen is Format.TEXT else openmetrics_parser.text_string_to_metric_families
    )
    families = list(parse(text.decode()))
    assert max(Counter(family.name for family in families).values()) == 1
    return [(s.name, tuple(sorted(s.labels.items())), s.value) for family in families for s in family.samples]


# --- Any customers ---------------------------------------------------------------------------------------------------

_AWKWARD_TEXT: Final = st.text(
    st.sampled_from("\"\\{}=,# 'aZ0_-/äőß€日本語😀") | st.characters(exclude_categories=["C"]), min_size=1, max_size=12
)
_CONFIG_TEXT: Final = _AWKWARD_TEXT.filter(lambda text: bool(text.strip()) and text.isprintable())
_API_TEXT: Final = (
    st.text(st.sampled_from('a\n"\\\r\t {}') | st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
    .map(str.strip)
    .filter(bool)
)
_NUMBERS: Final = st.one_of(
    st.integers(0, 10_000).map(float),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1e6, 999999.0, 999999.5, 1e15, 1e16, 1e22, 5e-324, 1.7e308, -1e6, -1e21, 0.1, 1e-5]),
)
_RATIOS: Final = st.floats(0, 1)
_INSTANTS: Final = st.integers(0, 10**15).map(lambda us: datetime(2019, 1, 1, tzinfo=UTC) + timedelta(microseconds=us))
_LABEL_NAMES: Final = st.sampled_from(
    ["tier", "Tier", "_", "a", "Z9", "customer_", "project", "timezone2", "queue_name"]
)
_PAIRS: Final = st.tuples(st.integers(0, 3) | st.integers(0, 2**53), st.integers(-1, 3) | st.integers(-1, 2**53))


@cache
def base_customer() -> Customer:
    """Return a customer from which others are made."""
    return make_customer(projects=[{"id": 1}], other_projects=True, hours={"wed": "08:00-10:00"})


@st.composite
def customers(draw: st.DrawFn, name: str) -> Customer:
    """Return a customer with awkward words in every place that has some."""
    base = base_customer()
    targets = Targets(draw(_RATIOS), draw(_RATIOS), draw(st.integers(0, 10**9)))
    queues = draw(st.dictionaries(st.integers(-1, 3), _CONFIG_TEXT, max_size=2))
    project = replace(
        base.listed[1],
        name=draw(_CONFIG_TEXT | st.none()),
        targets=targets,
        sla_s=draw(st.integers(1, 86_400)),
        queues=queues,
        hours=draw(st.sampled_from([None, base.hours])),
    )
    labels = draw(st.dictionaries(_LABEL_NAMES, _CONFIG_TEXT, max_size=3))
    return replace(
        base,
        name=name,
        labels=tuple(sorted(labels.items())),
        hours=draw(st.sampled_from([None, base.hours])),
        listed=draw(st.sampled_from([{}, {1: project}])),
    )


def _row(numbers: Sequence[float | None]) -> Values:
    """Return a row in which some numbers come again and again."""
    return tuple(islice(cycle(numbers), len(STATISTICS)))


@st.composite
def states(draw: st.DrawFn, name: str, numbers: st.SearchStrategy[float] = _NUMBERS) -> CustomerState:
    """Return any state of a customer, polled or not, with values or without."""
    state = CustomerState(
        draw(customers(name)),
        project_names=draw(st.dictionaries(st.integers(0, 3), _API_TEXT, max_size=3)),
        next_poll=draw(_INSTANTS | st.none()),
    )
    if draw(st.booleans()):
        state = with_failure(state, draw(st.sampled_from(Result)), "", draw(st.floats(0, 1e7)))
    if draw(st.booleans()):
        rows = st.lists(st.none() | numbers, min_size=1, max_size=6).map(_row)
        values: dict[Pair, Values] = draw(st.dictionaries(_PAIRS, rows, max_size=3))
        found = Answer(values, frozenset(), ())
        state = with_answer(state, TODAY, found, CLOCK.moment(), draw(st.floats(0, 1e7)))
    if draw(st.booleans()):
        most = draw(st.integers(1, 10**12))
        polls = {result: n * most for n, result in enumerate(Result, 1)}
        state = replace(state, polls=polls, last_result=Result.SUCCESS, rows=draw(st.integers(0, 10**9)))
    return state


@st.composite
def several_views(draw: st.DrawFn) -> list[list[View]]:
    """Return the views of some customers, block by block."""
    names = iter(draw(st.lists(_CONFIG_TEXT, min_size=1, max_size=5, unique=True)))
    views = [view(draw(states(name)), CLOCK.moment()) for name in names]
    cut = draw(st.integers(1, 5))
    return [views[first : first + cut] for first in range(0, len(views), cut)]


@given(several_views(), st.booleans(), st.sampled_from((None, True, False)), _INSTANTS)
@settings(UNHURRIED, max_examples=100)
def test_the_page_is_what_the_client_library_would_write(
    by_block: list[list[View]], config_is_good: bool, web_config_is_good: bool | None, config_loaded: datetime
) -> None:
    """The page holds the same families, samples and metadata in the same order as the client library would write."""
    exporter = Exporter("1.2.3", config_loaded, config_is_good, web_config_is_good)
    blocks = [make_block([render(said, None) for said in views]) for views in by_block]
    views = [said for views in by_block for said in views]
    page = page_of(blocks, exporter, OfTheProcess())
    for chosen in Format:
        expected = reference(chosen, views, exporter, OfTheProcess())
        assert plain(page, chosen) == expected
        assert unpacked(page, chosen) == expected


@pytest.mark.parametrize(
    "name", ['"', "\\", "a\nb", "\\n", '\\"\n\\', "a\rb", "a\tb", "a\x00b", "{}=,# }", "é😀\u2028"]
)
def test_names_may_hold_any_character(name: str) -> None:
    """What the API calls a project and the config a queue is escaped as the client library does it, and read back."""
    state = CustomerState(replace(base_customer(), name=name, labels=(("tier", name),)), project_names={2: name})
    values = (1.0,) * len(STATISTICS)
    state = with_answer(state, TODAY, Answer({(2, 1): values}, frozenset(), ()), CLOCK.moment(), 0.1)
    said = view(state, CLOCK.moment())
    for chosen in Format:
        text = plain(page_of([make_block([render(said, None)])]), chosen)
        assert text == reference(chosen, [said], EXPORTER)
        assert parsed(chosen, text)[0][1][:3] == (("customer", name), ("project", "2"), ("project_name", name))


@given(several_views())
@settings(UNHURRIED, max_examples=40)
def test_the_page_can_be_read_and_has_no_sample_twice(by_block: list[list[View]]) -> None:
    """The library's parsers find in either format every sample that the views say, once, and no other."""
    page = page_of([make_block([render(said, None) for said in views]) for views in by_block])
    views = [said for views in by_block for said in views]
    expected = [
        (name, tuple(sorted(labels)), float(value))
        for family in FAMILIES
        for name, labels, value in samples_of(family, views, EXPORTER)
    ]
    assert len({sample[:2] for sample in expected}) == len(expected)
    for chosen in Format:
        assert parsed(chosen, plain(page, chosen)) == expected


@given(st.data())
@settings(UNHURRIED, max_examples=40)
def test_a_page_made_from_an_earlier_one_is_the_page_made_anew(data: st.DataObject) -> None:
    """Whatever is taken over from what was rendered before, the page says what it would say without."""
    names = ["alpha", "bravo", "charlie"]
    # 0.0 and -0.0 are equal, so that one may be left standing for the other.
    numbers = _NUMBERS.map(lambda number: number + 0.0)
    before = [render(view(data.draw(states(name, numbers)), CLOCK.moment()), None) for name in names]
    block = make_block(before)
    changing = data.draw(st.sets(st.sampled_from([0, 1, 2]), min_size=1))
    views = [
        view(data.draw(states(name, numbers)) if i in changing else before[i].view.state, CLOCK.moment())
        for i, name in enumerate(names)
    ]
    after = block.with_views({seat: views[seat] for seat in changing})
    for chosen in Format:
        # Packed first, so that what it left is there to be mistaken for the present.
        assert unpacked(page_of([block]), chosen) == plain(page_of([block]), chosen)
        expected = reference(chosen, views, EXPORTER)
        assert plain(page_of([after]), chosen) == expected
        assert unpacked(page_of([after]), chosen) == expected


# --- Compression -----------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=2000).map(lambda text: text * 5), min_size=1, max_size=6))
@settings(UNHURRIED, max_examples=100)
def test_what_is_compressed_depends_on_nothing_before_it(texts: list[bytes]) -> None:
    """Each piece can be read by itself, in whatever order pieces are packed and put together."""
    pieces = [Piece([text]) for text in (*texts, *texts)]
    for piece, text in zip(pieces, (*texts, *texts), strict=True):
        reader = zlib.decompressobj(-15)
        assert reader.decompress(b"".join(piece.deflated.parts) + b"\x03\x00") == text
        assert reader.eof


def test_a_large_compressed_page_is_handed_over_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """To join it would take long; its parts are one gzip member all the same, and of the size that is told."""
    page = page_of([make_block([render(view(s, CLOCK.moment()), None) for s in first_states()]) for _ in range(40)])
    small = page.body(Format.TEXT, gzip=True)
    monkeypatch.setattr(exposition, "_JOINED", small.size // 2)
    in_parts = replace(page).body(Format.TEXT, gzip=True)
    assert (len(small.parts), len(in_parts.parts) > 1) == (1, True)
    assert b"".join(in_parts.parts) == b"".join(small.parts)
    assert small.size == in_parts.size == len(b"".join(in_parts.parts))


# --- What is taken over ----------------------------------------------------------------------------------------------


def good(state: CustomerState, **values: float) -> CustomerState:
    """Return the state after a good poll, a minute of it, with some statistics of one pair."""
    row = tuple(values.get(s.name, 1.0) for s in STATISTICS)
    return with_answer(state, TODAY, Answer({(1, 5): row}, frozenset(), ()), CLOCK.moment(), 60.0)


def first_states() -> list[CustomerState]:
    """Return the states of three customers that were polled once."""
    return [good(CustomerState(make_customer(name=name))) for name in ("alpha", "bravo", "charlie")]


def rendered(states_: Iterable[CustomerState], before: Sequence[Rendered] = ()) -> list[Rendered]:
    """Render states after what was rendered before."""
    previous: Sequence[Rendered | None] = before or [None] * 3
    return [render(view(s, CLOCK.moment()), old) for s, old in zip(states_, previous, strict=True)]


def test_an_answer_that_says_the_same_renders_no_data_again() -> None:
    """Where no value changed the data are the same objects, and so is every piece of them in the block."""
    states_ = first_states()
    before = rendered(states_)
    block = make_block(before)
    after = rendered([good(states_[0]), *states_[1:]], before)
    assert after[0].data is before[0].data
    assert after[0].about != before[0].about
    new = block.with_views({seat: said.view for seat, said in enumerate(after)})
    same = [family.name for family, a, b in zip(FAMILIES, block.pieces, new.pieces, strict=False) if a is b]
    changed = {family.name for family in DATA_FAMILIES + CUSTOMER_FAMILIES} - set(same)
    assert changed == {"vcc_polls_total", "vcc_poll_duration_seconds"}


def test_a_block_has_new_pieces_only_where_a_customer_says_something_new() -> None:
    """One statistic of one customer changes one piece of the data; all others keep their compressed form."""
    states_ = first_states()
    before = rendered(states_)
    block = make_block(before)
    packed = [piece.deflated for piece in block.pieces]
    new = block.with_views({2: view(good(states_[2], talk_time=7.0), CLOCK.moment())})
    changed = {f.name for f, a, b in zip(FAMILIES, block.pieces, new.pieces, strict=False) if a is not b}
    assert changed == {"vcc_inbound_talk_time_seconds", "vcc_polls_total", "vcc_poll_duration_seconds"}
    kept = [i for i, (a, b) in enumerate(zip(block.pieces, new.pieces, strict=True)) if a is b]
    assert all(new.pieces[i].deflated is packed[i] for i in kept)


def test_what_another_customers_lines_say_is_not_taken_over() -> None:
    """A rendering after that of a customer with another name has its own labels, also for the same pair."""
    (one, two, _), clock = first_states(), CLOCK.moment()
    after_one = render(view(two, clock), render(view(one, clock), None))
    assert (after_one.data, after_one.about) == (
        render(view(two, clock), None).data,
        render(view(two, clock), None).about,
    )


def test_new_names_are_written_though_the_values_stay() -> None:
    """A project's new name is on all its series at once, beside the old values."""
    state = first_states()[0]
    before = render(view(state, CLOCK.moment()), None)
    after = render(view(with_names(state, {1: 'The "new"'}, CLOCK.wall), CLOCK.moment()), before)
    assert all(rb'project_name="The \"new\""' in lines for lines in after.data)


def test_a_piece_is_packed_once_and_can_be_cut() -> None:
    """A second reader gets the compressed form that the first one had made, and each customer's lines are found."""
    parts = [b"a 1\n", b"", b"b 2\n"]
    piece = Piece(parts)
    assert piece.deflated is piece.deflated
    assert piece.plain == b"a 1\nb 2\n"
    assert [piece.part(seat) for seat in range(3)] == parts


def test_a_block_is_true_for_as_long_as_each_of_its_customers() -> None:
    """A block ends with the first of its views, on either clock, and a page with the first of its blocks."""
    short = make_customer(name="short", poll={"interval": "20s", "stale_after": "30s"})
    states_ = [good(CustomerState(customer)) for customer in (make_customer(name="long"), short)]
    clock = SetClock()
    block = make_block([render(view(state, clock.moment()), None) for state in states_])
    assert (block.valid_until, block.valid_until_s) == (clock.wall + timedelta(seconds=30), clock.seconds + 30)
    page = page_of([make_block([block.rendered(0)]), block])
    assert page.holds(clock.moment())
    clock.seconds += 30
    assert not page.holds(clock.moment())
    clock.seconds -= 30
    clock.jump(timedelta(seconds=30))
    assert not page.holds(clock.moment())
    clock.jump(timedelta(hours=-1))
    assert not page.holds(clock.moment())


# --- Pages with little on them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", Format)
def test_a_page_without_customers_is_about_the_exporter_alone(chosen: Format) -> None:
    """Without customers or process metrics the page is whole all the same, plain and packed."""
    page = empty_page(EXPORTER)
    assert plain(page, chosen) == unpacked(page, chosen) == reference(chosen, [], EXPORTER)
    assert [name for name, _, _ in parsed(chosen, plain(page, chosen))] == ABOUT_ITSELF


@pytest.mark.parametrize("chosen", Format)
def test_a_customer_that_was_never_polled_has_no_data_and_no_vcc_up(chosen: Format) -> None:
    """Before the first poll counters are at 0, and what a poll would tell is absent, heads included."""
    state = CustomerState(make_customer(projects=[{"id": 370, "queues": {"908": "Hotline"}}]))
    page = page_of([make_block([render(view(state, CLOCK.moment()), None)])])
    text = plain(page, chosen)
    assert unpacked(page, chosen) == text
    names = {name for name, _, _ in parsed(chosen, text)}
    assert names == {
        "vcc_customer_info",
        "vcc_customer_active",
        "vcc_inbound_sla_threshold_seconds",
        "vcc_inbound_service_level_target_ratio",
        "vcc_inbound_abandonment_target_ratio",
        "vcc_inbound_target_min_calls",
        "vcc_polls_total",
        "vcc_poll_duration_seconds_count",
        "vcc_poll_duration_seconds_sum",
        *ABOUT_ITSELF,
    }
    assert b"vcc_up" not in text
    polls = [
        (dict(labels)["result"], value) for name, labels, value in parsed(chosen, text) if name == "vcc_polls_total"
    ]
    assert polls == [(result.value, 0.0) for result in Result]


@pytest.mark.parametrize("chosen", Format)
def test_a_customer_whose_values_are_gone_keeps_all_else(chosen: Format) -> None:
    """With values that are stale vcc_up is 0, no data family and no day is there, and the last success still is."""
    state, late = first_states()[0], SetClock()
    late.advance(timedelta(hours=1))
    page = page_of([make_block([render(view(state, late.moment()), None)])])
    found = {name: value for name, _, value in parsed(chosen, plain(page, chosen))}
    assert not found.keys() & {family.name for family in DATA_FAMILIES}
    assert "vcc_inbound_day_start_timestamp_seconds" not in found
    assert found["vcc_up"] == 0.0
    assert found["vcc_poll_last_success_timestamp_seconds"] == CLOCK.wall.timestamp()
    assert found["vcc_inbound_rows"] == 1.0
    assert found["vcc_inbound_target_min_calls"] == 20.0


@pytest.mark.parametrize("chosen", Format)
def test_the_process_stands_at_the_end(chosen: Format) -> None:
    """The client library's metrics of the process follow ours, and the page with them can be read."""
    blocks = [make_block(rendered(first_states()))]
    page = page_of(
        blocks,
        EXPORTER,
        ProcessCollector(registry=None),
        PlatformCollector(registry=None),
        GCCollector(CollectorRegistry()),
    )
    text = plain(page, chosen)
    ours = plain(page_of(blocks), chosen).removesuffix(chosen.end)
    assert text.startswith(ours)
    further = {name for name, _, _ in parsed(chosen, text)} - {name for name, _, _ in parsed(chosen, ours + chosen.end)}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "python_info"} <= further
    assert unpacked(page, chosen) == text


@pytest.mark.parametrize("is_good", [True, False])
def test_the_exporter_tells_how_the_last_reload_went(is_good: bool) -> None:
    """A failed reload is a 0 beside the time of the last good one."""
    lines = b"".join(piece.plain for piece in render_exporter(replace(EXPORTER, config_is_good=is_good)))
    assert lines == (
        b'vcc_exporter_build_info{version="1.2.3"} 1.0\n'
        b"vcc_exporter_config_last_reload_successful %.1f\n"
        b"vcc_exporter_config_last_reload_success_timestamp_seconds 1.7732196e+09\n" % is_good
    )


def test_the_formats_are_named_as_the_client_library_names_them() -> None:
    """The content types are those of text 0.0.4 and OpenMetrics 1.0."""
    assert {f.value for f in Format} == {CONTENT_TYPE_PLAIN_0_0_4, CONTENT_TYPE_LATEST}


# --- Golden pages ----------------------------------------------------------------------------------------------------

PAGES: Final = DATA / "pages"
GOLDEN: Final = {Format.TEXT: PAGES / "example.txt", Format.OPENMETRICS: PAGES / "example.openmetrics.txt"}


def example_page() -> Page:
    """Return the page of two customers: one with the vendor's example answer, one that was never answered.

    On Tuesday 22 October 2019 at 16:00 in Budapest; a lookback has found queue 909 of project 370, and the
    API has told two projects' names.
    """
    clock = SetClock(datetime(2019, 10, 22, 14, 0, tzinfo=UTC))
    day = date(2019, 10, 22)
    acme = CustomerState(
        make_customer(
            name="acme",
            labels={"tier": "gold", "contact": 'O\'Neil "Joe" \\ night shift'},
            hours={"mon-fri": "08:00-18:00"},
            targets={"abandonment": "4%"},
            other_projects=True,
            projects=[
                {
                    "id": 370,
                    "name": "Customer support",
                    "sla": 20,
                    "targets": {"service_level": "90%"},
                    "hours": {"mon-fri": "08:00-16:00"},
                    "queues": {"908": "Hotline"},
                }
            ],
        )
    )
    acme = with_failure(acme, Result.TIMEOUT, "no whole answer within 10 s", 10.0)
    acme = with_names(acme, {4: "Outbound", 214: 'Sales "East"', 370: "Support"}, clock.wall)
    acme = with_lookback(acme, day, frozenset({(370, -1), (370, 908), (370, 909)}), clock.wall)
    clock.advance(timedelta(seconds=0.25))
    body = (DATA / "answers" / "example.json").read_bytes()
    acme = with_answer(acme, day, read_statistics(body, day, Scope()), clock.moment(), 0.25)
    acme = replace(acme, next_poll=clock.wall + timedelta(minutes=1))
    beta = CustomerState(make_customer(name="beta", timezone="Asia/Kolkata", schedule="* 7-18 * * *"))
    beta = with_failure(beta, Result.UNAUTHORIZED, "HTTP 401", 0.125)
    views: Mapping[str, View] = {s.customer.name: view(s, clock.moment()) for s in (acme, beta)}
    exporter = Exporter("1.2.3", datetime(2019, 10, 22, 5, 0, tzinfo=UTC))
    return page_of([make_block([render(said, None) for said in views.values()])], exporter)


@pytest.mark.parametrize("chosen", Format)
def test_the_page_of_the_vendors_example_is_the_golden_page(chosen: Format) -> None:
    """The page of the documentation's example answer is, byte for byte, the file that was read and found true.

    `REWRITE_PAGES=1 pytest tests/test_exposition.py` writes the files anew; read what changed before keeping it.
    """
    text = plain(example_page(), chosen)
    if os.environ.get("REWRITE_PAGES"):
        GOLDEN[chosen].write_bytes(text)
    assert text == GOLDEN[chosen].read_bytes()


def test_promtool_finds_nothing_to_say_of_the_golden_page() -> None:
    """`promtool check metrics`, Prometheus's own judge of names, types and units, is silent."""
    promtool = shutil.which("promtool")
    assert promtool, "promtool is not installed; it comes with Prometheus"
    text = GOLDEN[Format.TEXT].read_bytes()
    run = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)  # noqa: S603
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")


def test_the_golden_pages_say_the_same() -> None:
    """Both formats hold the same samples in the same order."""
    text, openmetrics = (parsed(chosen, GOLDEN[chosen].read_bytes()) for chosen in Format)
    assert text == openmetrics
