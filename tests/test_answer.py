"""The bytes of a response to values: the vendor's example, all that may come instead, and what becomes of it."""

import json
import math
import re
import tracemalloc
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import DATA, statistics_body

from vcc_exporter import answer as answer_module
from vcc_exporter.answer import (
    AMBIGUOUS,
    DUPLICATE,
    NO_DATE,
    NO_IDS,
    NOT_ASKED,
    NOT_FINITE,
    OTHER_DATE,
    Answer,
    AnswerError,
    Days,
    Pair,
    ProjectEntry,
    Rejection,
    Scope,
    Values,
    error_words,
    read_days,
    read_pairs,
    read_project_list,
    read_projects,
    read_statistics,
    shorten,
)
from vcc_exporter.client import MOST_BYTES
from vcc_exporter.vocabulary import STATISTICS

DAY: Final = date(2026, 3, 11)
FIRST: Final = date(2026, 3, 1)
"""Of several days, of which the last is `DAY`."""
EVERYTHING: Final = Scope()
KEYS: Final = {key for statistic in STATISTICS for key in (statistic.name, statistic.key)}
ANY_SPEED: Final = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
LARGEST_ID: Final = 2**53 - 1
"""From the next one on, a float may stand for several whole numbers."""


def named(values: Values) -> dict[str, float]:
    """Return the statistics that a row has, by documented name."""
    found = zip(STATISTICS, values, strict=True)
    return {statistic.name: value for statistic, value in found if value is not None}


def body_of(*rows: str) -> bytes:
    """Return a response made of rows as they stand in JSON."""
    return f'{{"response": [{", ".join(rows)}], "errors": []}}'.encode()


def response_of(rows: Any) -> bytes:
    """Return a response with any value for its rows."""
    return json.dumps({"response": rows, "errors": []}).encode()


# The vendor's page.

SAME_IN_MOST_ROWS: Final = {statistic.name: 0 for statistic in STATISTICS}
EXAMPLE: Final[dict[Pair, dict[str, float]]] = {
    (4, -1): {"answered_before": 1, "talk_time": 112, "last_answered_before": 1},
    (214, -1): {"answered_before": 51, "talk_time": 8785, "last_answered_before": 51},
    (221, -1): {"answered_before": 1, "talk_time": 186, "last_answered_before": 1},
    (237, -1): {"answered_before": 6, "talk_time": 1201, "last_answered_before": 6},
    (370, -1): {"abort_before_queue": 2, "time_before_queue": 17},
    (370, 908): {
        "answered_before": 3,
        "abort_in_queue_before": 1,
        "time_before_queue": 69,
        "queue_time": 54,
        "queue_time_without_talktime": 3,
        "talk_time": 193,
        "abort_case_queue_time": 3,
        "abort_in_queue_early": 1,
        "last_queue_time": 54,
        "last_answered_before": 3,
        "last_abort_in_queue_before": 1,
        "last_abort_in_queue_early": 1,
    },
}


def test_the_vendors_example_is_read_number_for_number() -> None:
    """Six rows of nineteen statistics come out as the page shows them, short keys under their documented names."""
    body = (DATA / "answers" / "example.json").read_bytes()
    answer = read_statistics(body, date(2019, 10, 22), EVERYTHING)
    assert {pair: named(values) for pair, values in answer.values.items()} == {
        pair: SAME_IN_MOST_ROWS | numbers for pair, numbers in EXAMPLE.items()
    }
    assert (answer.rows, answer.rejections, answer.rejected_pairs) == (6, (), frozenset())


def test_the_slip_of_the_vendors_page_is_refused() -> None:
    """The comma before the last brace, as the page prints it, is no JSON."""
    body = (DATA / "answers" / "example.json").read_bytes()
    with pytest.raises(AnswerError, match="no JSON"):
        read_statistics(body.rstrip()[:-1] + b",\n}", date(2019, 10, 22), EVERYTHING)


# How much there may be of it.


def test_a_response_full_of_documented_rows_is_read() -> None:
    """What fits into the largest response is no more than may be in it, with the shortest numbers that there are."""
    row = json.dumps(
        {"projectid": 1, "queueid": 1, "date": 20260311, **{s.key: 0 for s in STATISTICS}}, separators=(",", ":")
    )
    body = f'{{"response":[{",".join([row] * (MOST_BYTES // (len(row) + 1) - 1))}],"errors":[]}}'.encode()
    assert MOST_BYTES - 1000 < len(body) <= MOST_BYTES
    answer = read_statistics(body, DAY, EVERYTHING)
    assert (len(answer.values), {rejection.cause for rejection in answer.rejections}) == (1, {DUPLICATE})


SMALL: Final = {
    "nothing": "{}",
    "lists": "[]",
    "numbers": "0",
    "texts": '""',
    "keys": '{"":0}',
    "ids": '{"projectid":1,"queueid":1}',
}


@pytest.mark.parametrize("small", SMALL)
def test_millions_of_small_rows_are_refused_before_they_take_memory(small: str) -> None:
    """Rows much smaller than documented ones would be millions, and take many times the memory of their text."""
    unit = SMALL[small]
    body = f'{{"errors":[],"response":[{",".join([unit] * (MOST_BYTES // (len(unit) + 1) - 20))}]}}'.encode()
    tracemalloc.start()
    try:
        for read in (
            lambda: read_statistics(body, DAY, EVERYTHING),
            lambda: read_pairs(body, FIRST, DAY, EVERYTHING),
            lambda: read_days(body, FIRST, DAY, EVERYTHING),
            lambda: read_project_list(body),
        ):
            with pytest.raises(AnswerError, match="more than 600000 values"):
                read()
        assert error_words(body) == ""
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(body)


def test_more_rows_than_any_account_has_are_refused() -> None:
    """To set so many rows aside would take a processor for longer than the answer took to come."""
    assert (
        len(read_statistics(response_of([{"projectid": 1, "queueid": 1}, *[0] * 49_999]), DAY, EVERYTHING).rejections)
        == 49_999
    )
    with pytest.raises(AnswerError, match="more than 50000 rows"):
        read_statistics(response_of([{"projectid": 1, "queueid": 1}, *[0] * 50_000]), DAY, EVERYTHING)


# What goes in comes out.


def spelled(number: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[Any, float | None]]:
    """Spell numbers as an API might, each with what it means."""
    whole = st.integers(-LARGEST_ID, LARGEST_ID)
    decimals = st.decimals(-(10**9), 10**9, places=3)
    return st.one_of(
        number.map(lambda n: (n, n)),
        whole.map(lambda n: (n, float(n))),
        whole.map(lambda n: (str(n), float(n))),
        decimals.map(lambda n: (f"{n:f}", float(n))),
        st.just((None, None)),
    )


def spellings(*texts: int) -> st.SearchStrategy[Any]:
    """Spell whole numbers in the ways in which ids and dates come."""
    return st.sampled_from([spelling(n) for n in texts for spelling in (int, str, float)])


NUMBERS: Final = spelled(st.floats(allow_nan=False, allow_infinity=False))
JUNK: Final = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(), lambda j: st.lists(j, max_size=3), max_leaves=4
)
UNKNOWN: Final = st.dictionaries(
    st.text().filter(lambda key: key not in KEYS | {"projectid", "queueid", "date"}), JUNK, max_size=3
)
PAIRS: Final = st.tuples(st.integers(0, LARGEST_ID), st.integers(-1, LARGEST_ID))


@st.composite
def rows_with_meaning(draw: st.DrawFn) -> tuple[dict[str, Any], Pair, Values]:
    """Draw a usable row, whose keys stand in one order or the other, and what must come of it."""
    project, queue = draw(PAIRS)
    row = draw(UNKNOWN) | {"projectid": draw(spellings(project)), "queueid": draw(spellings(queue))}
    row |= draw(st.sampled_from([{}, {"date": None}, {"date": 20260311}, {"date": "20260311"}, {"date": 20260311.0}]))
    values: list[float | None] = []
    for statistic in STATISTICS:
        told, value = draw(NUMBERS)
        key = draw(st.sampled_from([statistic.name, statistic.key, None]))
        if key:
            row[key] = told
        if key == statistic.name != statistic.key and told is not None:
            row |= draw(st.sampled_from([{}, {statistic.key: 77}, {statistic.key: None}, {statistic.key: "no number"}]))
        values.append(value if key else None)
    keys = sorted(row, reverse=draw(st.booleans()))
    return {key: row[key] for key in keys}, (project, queue), tuple(values)


@ANY_SPEED
@given(st.lists(rows_with_meaning(), max_size=3, unique_by=lambda drawn: drawn[1]))
def test_what_goes_in_comes_out(drawn: list[tuple[dict[str, Any], Pair, Values]]) -> None:
    """Whatever the spelling of keys and numbers and the order of rows, each pair has exactly its numbers."""
    answer = read_statistics(response_of([row for row, _, _ in drawn]), DAY, EVERYTHING)
    assert answer == Answer({pair: values for _, pair, values in drawn}, frozenset(), ())


def test_both_names_of_a_statistic() -> None:
    """Where both names come the documented one counts, and null is as if it had not come."""
    rows: list[dict[str, Any]] = [
        {"projectid": 1, "queueid": 1, "aiqe": 3, "abort_in_queue_early": 4},
        {"projectid": 1, "queueid": 2, "aiqe": 3, "abort_in_queue_early": None},
        {"projectid": 1, "queueid": 3, "aiqe": None, "abort_in_queue_early": 0},
        {"projectid": 1, "queueid": 4, "aiqe": None, "abort_in_queue_early": None},
        {"projectid": 1, "queueid": 5},
    ]
    answer = read_statistics(statistics_body(rows, DAY), DAY, EVERYTHING)
    name = "abort_in_queue_early"
    assert [named(values) for values in answer.values.values()] == [{name: 4}, {name: 3}, {name: 0}, {}, {}]


# Rows that cannot be used.

GOOD: Final = '{"projectid": 1, "queueid": 5, "date": 20260311, "answered_before": 3, "aiqe": 1}'
THOUSAND: Final = "9" * 1000
ASKED: Final = Scope(asked=frozenset({1, 2}))


def bad(more: str = "", ids: str = '"projectid": 2, "queueid": 7', day: str = ', "date": 20260311') -> str:
    """Return a row as it stands in JSON, with one thing wrong."""
    return f"{{{ids}{day}{more}}}"


BAD_ROWS: Final[dict[str, tuple[str, str, Pair | None]]] = {
    # name: row, cause, pair that it is of
    "no ids": ('{"date": 20260311, "answered_before": 1}', NO_IDS, None),
    "no queueid": (bad(ids='"projectid": 2'), NO_IDS, None),
    "no projectid": (bad(ids='"queueid": 7'), NO_IDS, None),
    "null ids": (bad(ids='"projectid": null, "queueid": null'), NO_IDS, None),
    "bool ids": (bad(ids='"projectid": true, "queueid": false'), NO_IDS, None),
    "fraction": (bad(ids='"projectid": 2.5, "queueid": 7'), NO_IDS, None),
    "negative project": (bad(ids='"projectid": -1, "queueid": 7'), NO_IDS, None),
    "queue below no queue": (bad(ids='"projectid": 2, "queueid": -2'), NO_IDS, None),
    "first inexact id": (bad(ids=f'"projectid": 2, "queueid": {2**53}'), NO_IDS, None),
    "id beyond exactness": (bad(ids=f'"projectid": {2**53 + 1}, "queueid": 7'), NO_IDS, None),
    "id beyond exactness as text": (bad(ids=f'"projectid": "{2**53 + 1}", "queueid": 7'), NO_IDS, None),
    "endless id": (bad(ids=f'"projectid": {THOUSAND}, "queueid": 7'), NO_IDS, None),
    "infinite id": (bad(ids='"projectid": 2, "queueid": Infinity'), NO_IDS, None),
    "NaN id": (bad(ids='"projectid": NaN, "queueid": 7'), NO_IDS, None),
    "list for an id": (bad(ids='"projectid": [2], "queueid": 7'), NO_IDS, None),
    "object for an id": (bad(ids='"projectid": {"id": 2}, "queueid": 7'), NO_IDS, None),
    "name for an id": (bad(ids='"projectid": "Support", "queueid": 7'), NO_IDS, None),
    "padded id": (bad(ids='"projectid": " 2", "queueid": 7'), NO_IDS, None),
    "Arabic digits in an id": (bad(ids='"projectid": "٢", "queueid": 7'), NO_IDS, None),
    "empty row": ("{}", NO_IDS, None),
    "list for a row": ("[2, 7]", NO_IDS, None),
    "number for a row": ("2", NO_IDS, None),
    "text for a row": ('"2,7"', NO_IDS, None),
    "null for a row": ("null", NO_IDS, None),
    "true for a row": ("true", NO_IDS, None),
    "yesterday": (bad(day=', "date": 20260310'), OTHER_DATE, (2, 7)),
    "tomorrow as text": (bad(day=', "date": "20260312"'), OTHER_DATE, (2, 7)),
    "date with dashes": (bad(day=', "date": "2026-03-11"'), OTHER_DATE, (2, 7)),
    "date with a fraction": (bad(day=', "date": 20260311.5'), OTHER_DATE, (2, 7)),
    "empty date": (bad(day=', "date": ""'), OTHER_DATE, (2, 7)),
    "zero for a date": (bad(day=', "date": 0'), OTHER_DATE, (2, 7)),
    "false for a date": (bad(day=', "date": false'), OTHER_DATE, (2, 7)),
    "NaN for a date": (bad(day=', "date": NaN'), OTHER_DATE, (2, 7)),
    "list for a date": (bad(day=', "date": [20260311]'), OTHER_DATE, (2, 7)),
    "not asked for": (bad(ids='"projectid": 3, "queueid": 7'), NOT_ASKED, (3, 7)),
    "duplicate": (GOOD, DUPLICATE, None),
    "duplicate with other numbers": ('{"projectid": "1", "queueid": 5, "answered_before": 9}', DUPLICATE, None),
    "duplicate that is bad, too": ('{"projectid": 1, "queueid": 5, "answered_before": NaN}', DUPLICATE, None),
    "NaN": (bad(', "talk_time": NaN'), NOT_FINITE, (2, 7)),
    "Infinity": (bad(', "talk_time": Infinity'), NOT_FINITE, (2, 7)),
    "-Infinity": (bad(', "aiqe": -Infinity'), NOT_FINITE, (2, 7)),
    "1e999": (bad(', "talk_time": 1e999'), NOT_FINITE, (2, 7)),
    "thousand digits": (bad(f', "talk_time": {THOUSAND}'), NOT_FINITE, (2, 7)),
    "minus thousand digits": (bad(f', "talk_time": -{THOUSAND}'), NOT_FINITE, (2, 7)),
    "thousand digits as text": (bad(f', "talk_time": "{THOUSAND}"'), NOT_FINITE, (2, 7)),
    "five thousand digits": (bad(f', "talk_time": {THOUSAND * 5}'), NOT_FINITE, (2, 7)),
    "Arabic digits": (bad(', "talk_time": "١٢٣"'), NOT_FINITE, (2, 7)),
    "full-width digits": (bad(', "talk_time": "\\uff11\\uff12"'), NOT_FINITE, (2, 7)),
    "exponent as text": (bad(', "talk_time": "1e3"'), NOT_FINITE, (2, 7)),
    "NaN as text": (bad(', "talk_time": "NaN"'), NOT_FINITE, (2, 7)),
    "Infinity as text": (bad(', "talk_time": "inf"'), NOT_FINITE, (2, 7)),
    "plus sign": (bad(', "talk_time": "+5"'), NOT_FINITE, (2, 7)),
    "blank before": (bad(', "talk_time": " 5"'), NOT_FINITE, (2, 7)),
    "line feed after": (bad(', "talk_time": "5\\n"'), NOT_FINITE, (2, 7)),
    "comma": (bad(', "talk_time": "1,5"'), NOT_FINITE, (2, 7)),
    "underscore": (bad(', "talk_time": "1_000"'), NOT_FINITE, (2, 7)),
    "hexadecimal": (bad(', "talk_time": "0x10"'), NOT_FINITE, (2, 7)),
    "no digit before the point": (bad(', "talk_time": ".5"'), NOT_FINITE, (2, 7)),
    "no digit after the point": (bad(', "talk_time": "5."'), NOT_FINITE, (2, 7)),
    "empty text": (bad(', "talk_time": ""'), NOT_FINITE, (2, 7)),
    "words": (bad(', "talk_time": "n/a"'), NOT_FINITE, (2, 7)),
    "half a surrogate": (bad(', "talk_time": "\\ud800"'), NOT_FINITE, (2, 7)),
    "true": (bad(', "talk_time": true'), NOT_FINITE, (2, 7)),
    "false": (bad(', "aiqe": false'), NOT_FINITE, (2, 7)),
    "list": (bad(', "talk_time": [1]'), NOT_FINITE, (2, 7)),
    "object": (bad(', "talk_time": {}'), NOT_FINITE, (2, 7)),
    "object with a key twice": (bad(', "talk_time": {"a": 1, "a": 2}'), NOT_FINITE, (2, 7)),
    "documented name bad, short one good": (bad(', "aiqe": 1, "abort_in_queue_early": "x"'), NOT_FINITE, (2, 7)),
    "statistic twice": (bad(', "talk_time": 1, "talk_time": 2'), AMBIGUOUS, (2, 7)),
    "statistic twice, the same": (bad(', "talk_time": 1, "talk_time": 1'), AMBIGUOUS, (2, 7)),
    "date twice": (bad(', "date": 20260311'), AMBIGUOUS, (2, 7)),
    "project twice": (bad(', "projectid": 2'), AMBIGUOUS, None),
}


def test_an_unknown_key_may_come_twice() -> None:
    """What nobody reads makes nothing ambiguous."""
    body = b'{"response": [{"projectid": 2, "queueid": 7, "talk_time": 5, "x": 1, "x": 2}], "errors": []}'
    assert (2, 7) in read_statistics(body, DAY, Scope()).values


NO_DUPLICATES: Final = [name for name, (_, cause, _) in BAD_ROWS.items() if cause != DUPLICATE]


@pytest.mark.parametrize(
    ("place", "name"), [*(("before", name) for name in NO_DUPLICATES), *(("after", name) for name in BAD_ROWS)]
)
def test_a_bad_row_hides_no_good_one(place: str, name: str) -> None:
    """A row that cannot be used is counted with its cause and its pair remembered; the good row beside it counts."""
    row, cause, pair = BAD_ROWS[name]
    rows = [row, GOOD] if place == "before" else [GOOD, row]
    answer = read_statistics(body_of(*rows), DAY, ASKED)
    assert {pair: named(values) for pair, values in answer.values.items()} == {
        (1, 5): {"answered_before": 3, "abort_in_queue_early": 1}
    }
    assert answer.rows == 2
    assert [rejection.cause for rejection in answer.rejections] == [cause]
    assert answer.rejected_pairs == ({pair} if pair else set())
    assert_printable(answer.rejections[0])


@pytest.mark.parametrize("name", NO_DUPLICATES)
def test_rows_of_which_none_can_be_used_are_no_answer(name: str) -> None:
    """Where rows came and none is usable, the message says how many and why the first was not."""
    row, cause, _ = BAD_ROWS[name]
    with pytest.raises(AnswerError, match=f"^none of 2 rows can be used: {re.escape(cause)} ") as caught:
        read_statistics(body_of(row, row), DAY, ASKED)
    assert_printable(str(caught.value))


def assert_printable(told: Rejection | str) -> None:
    """Assert that what is told of an answer is one short line that any log can take."""
    text = told if isinstance(told, str) else told.example
    assert text.isprintable()
    assert len(text) <= 300
    text.encode()


def test_a_bad_row_before_a_good_one_of_the_same_pair() -> None:
    """A pair that has one usable row is shown, wherever the bad one stands, and is none of the rejected pairs."""
    broken, good = bad(', "talk_time": "x"'), bad(', "talk_time": 8')
    answer = read_statistics(body_of(broken, good, good, broken), DAY, EVERYTHING)
    assert {pair: named(values) for pair, values in answer.values.items()} == {(2, 7): {"talk_time": 8}}
    assert [rejection.cause for rejection in answer.rejections] == [NOT_FINITE, DUPLICATE, DUPLICATE]
    assert (answer.rows, answer.rejected_pairs) == (4, frozenset())


def test_the_first_of_several_rows_of_a_pair_counts() -> None:
    """A later row of a pair adds nothing to the first, and replaces nothing in it."""
    first, second = bad(', "talk_time": 8'), bad(', "talk_time": 9, "queue_time": 1')
    answer = read_statistics(body_of(first, second), DAY, EVERYTHING)
    assert named(answer.values[2, 7]) == {"talk_time": 8}


@pytest.mark.parametrize("day", ["", ', "date": null', ', "date": 20260311', ', "date": "20260311"'])
def test_a_date_may_be_missing_or_a_text(day: str) -> None:
    """A row without a date is of the one that was asked for, and a date in a string is a date."""
    answer = read_statistics(body_of(bad(', "talk_time": 8', day=day)), DAY, EVERYTHING)
    assert answer.values.keys() == {(2, 7)}


@pytest.mark.parametrize(("project", "queue"), [(0, -1), (0, 0), (LARGEST_ID, LARGEST_ID)])
def test_the_smallest_and_the_largest_ids_are_used(project: int, queue: int) -> None:
    """Every id is told apart from its neighbours, and those that could not be are refused."""
    answer = read_statistics(body_of(f'{{"projectid": {project}, "queueid": "{queue}"}}'), DAY, EVERYTHING)
    assert answer.values.keys() == {(project, queue)}


def test_no_rows_are_a_good_answer() -> None:
    """A day without calls has no rows, which is no fault."""
    assert read_statistics(b'{"response": [], "errors": []}', DAY, ASKED) == Answer({}, frozenset(), ())


def test_rows_that_are_left_out_are_counted_nowhere() -> None:
    """Rows of projects that another request asks for are as if they had not come, be they good or bad."""
    left_out = Scope(left_out=frozenset({2}))
    rows = (
        bad(', "talk_time": 8'),
        bad(', "talk_time": "x"'),
        bad(', "talk_time": 1, "talk_time": 1'),
        bad(day=', "date": 20200101'),
        bad(ids='"projectid": "2"'),
    )
    answer = read_statistics(body_of(*rows, GOOD), DAY, left_out)
    assert answer.values.keys() == {(1, 5)}
    assert (answer.rows, answer.rejections) == (1, ())
    assert read_statistics(body_of(*rows), DAY, left_out) == Answer({}, frozenset(), ())


def test_a_row_without_ids_is_rejected_beside_left_out_ones() -> None:
    """A row of which nobody knows whether it is left out is counted as rejected."""
    answer = read_statistics(body_of(GOOD, '{"talk_time": 1}', "7"), DAY, Scope(left_out=frozenset({2})))
    assert [rejection.cause for rejection in answer.rejections] == [NO_IDS, NO_IDS]


# Other shapes.

SHAPES: Final[dict[str, tuple[bytes, str]]] = {
    "nothing": (b"", "it is no JSON"),
    "blanks": (b" \n", "it is no JSON"),
    "a page": (b"<html><body>Please log in</body></html>", "it is no JSON"),
    "half an answer": (b'{"response": [{"projectid": 1', "it is no JSON"),
    "two answers": (b'{"response": [], "errors": []}{"response": [], "errors": []}', "it is no JSON"),
    "a comma too many": (b'{"response": [], "errors": [],}', "it is no JSON"),
    "single quotes": (b"{'response': [], 'errors': []}", "it is no JSON"),
    "a line feed in a text": (b'{"response": [], "errors": ["a\nb"]}', "it is no JSON"),
    "no UTF-8": (b'{"response": [], "errors": ["\xff"]}', "it is no JSON"),
    "gzip": (b"\x1f\x8b\x08\x00", "it is no JSON"),
    "tab-separated": (b"projectid\tqueueid\n1\t5\n", "it is no JSON"),
    "null": (b"null", "it is JSON, but no object with response and errors"),
    "a list": (b"[]", "it is JSON, but no object with response and errors"),
    "a number": (b"12", "it is JSON, but no object with response and errors"),
    "a text": (b'"ok"', "it is JSON, but no object with response and errors"),
    "NaN": (b"NaN", "it is JSON, but no object with response and errors"),
    "errors twice": (b'{"response": [], "errors": [], "errors": ["x"]}', "no object with response and errors"),
    "nothing in it": (b"{}", "it has no empty list of errors"),
    "no errors": (b'{"response": []}', "it has no empty list of errors"),
    "null errors": (b'{"response": [], "errors": null}', "it has no empty list of errors"),
    "false errors": (b'{"response": [], "errors": false}', "it has no empty list of errors"),
    "zero errors": (b'{"response": [], "errors": 0}', "it has no empty list of errors"),
    "empty text for errors": (b'{"response": [], "errors": ""}', "it has no empty list of errors"),
    "errors without words": (b'{"response": [], "errors": [1, null]}', "it has no empty list of errors"),
    "errors with a key twice": (b'{"response": [], "errors": {"a": 1, "a": 1}}', "it has no empty list of errors"),
    "errors": (b'{"response": [], "errors": ["no such\\tteam", "x"]}', "it reports errors: no such team; x"),
    "errors beside rows": (f'{{"response": [{GOOD}], "errors": ["half"]}}'.encode(), "it reports errors: half"),
    "errors as a text": (b'{"response": [], "errors": "closed"}', "it reports errors: closed"),
    "errors as objects": (b'{"response": [], "errors": [{"code": 1, "text": "no"}]}', "it reports errors: no"),
    "no response": (b'{"errors": []}', "it has no list of rows in response"),
    "null response": (b'{"response": null, "errors": []}', "it has no list of rows in response"),
    "one row without a list": (f'{{"response": {GOOD}, "errors": []}}'.encode(), "it has no list of rows in response"),
    "text for response": (b'{"response": "ok", "errors": []}', "it has no list of rows in response"),
    "lists nested without end": (b"[" * 100_000, "it is nested too deeply"),
    "closed lists nested": (b'{"response": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "it is nested too deeply"),
    "objects nested without end": (b'{"response":' * 100_000, "it is nested too deeply"),
    "errors nested": (b'{"errors": ' + b"[" * 100_000 + b'"x"' + b"]" * 100_000 + b"}", "it is nested too deeply"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_any_other_shape_is_no_answer(name: str) -> None:
    """What is not the documented shape with empty errors is an AnswerError that says in what way."""
    body, words = SHAPES[name]
    for read in (
        lambda: read_statistics(body, DAY, EVERYTHING),
        lambda: read_pairs(body, DAY, DAY, EVERYTHING),
        lambda: read_days(body, FIRST, DAY, EVERYTHING),
        lambda: read_projects(body),
    ):
        with pytest.raises(AnswerError, match=re.escape(words)) as caught:
            read()
        assert_printable(str(caught.value))


@pytest.mark.parametrize("depth", [100, 900, 3000, 9000])
def test_errors_nested_less_deeply(depth: int) -> None:
    """Errors nested as deeply as the parser allows are read or refused, and nothing else happens."""
    body = b'{"response": [], "errors": ' + b"[" * depth + b'"deep"' + b"]" * depth + b"}"
    with pytest.raises(AnswerError, match=r"it reports errors: deep|it is nested too deeply"):
        read_statistics(body, DAY, EVERYTHING)
    assert error_words(body) in {"deep", ""}


@pytest.mark.parametrize("errors", ["[]", "{}"])
def test_empty_errors_are_a_list_or_an_object(errors: str) -> None:
    """An empty object, as some languages write an empty list, is no error."""
    body = f'{{"response": [{GOOD}], "errors": {errors}, "more": 1}}'.encode()
    assert read_statistics(body, DAY, EVERYTHING).rows == 1


def test_a_byte_order_mark_is_no_fault() -> None:
    """Text that begins with a byte order mark is read all the same."""
    assert read_statistics(b"\xef\xbb\xbf" + body_of(GOOD), DAY, EVERYTHING).rows == 1


SCALARS: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(),
    st.integers(0, 3),
    st.just(20260311),
    st.text(st.characters(codec=None)),
    st.sampled_from(["1", "2.0", "-1", "x", "9" * 400]),
)
ANY_KEY: Final = st.sampled_from([*sorted(KEYS), "projectid", "queueid", "date", "name", "response", "errors"])


def containers(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Put values into lists, and into objects under the keys of the API."""
    return st.lists(children, max_size=4) | st.dictionaries(ANY_KEY | st.text(max_size=3), children, max_size=5)


ANY_JSON: Final = st.recursive(SCALARS, containers, max_leaves=12)
ANY_ROW: Final = st.dictionaries(
    st.sampled_from(["projectid", "queueid", "date", "talk_time", "aiqe", "name"]), SCALARS
)
NEARLY: Final = st.fixed_dictionaries(
    {"response": st.lists(ANY_ROW | SCALARS, max_size=5), "errors": st.just([]) | ANY_JSON}
)


def assert_answer_or_error(body: bytes) -> None:
    """Assert what holds whatever was read."""
    try:
        answer = read_statistics(body, DAY, ASKED)
    except AnswerError as error:
        assert_printable(str(error))
    else:
        assert not answer.rejected_pairs & answer.values.keys()
        assert all(math.isfinite(value) for values in answer.values.values() for value in values if value is not None)
        assert all(len(values) == len(STATISTICS) for values in answer.values.values())
        assert answer.values.keys() <= {(1, queue) for _, queue in answer.values} | {(2, q) for _, q in answer.values}
        for rejection in answer.rejections:
            assert_printable(rejection)
    try:
        read_pairs(body, DAY, DAY, EVERYTHING)
        for rejection in read_days(body, FIRST, DAY, EVERYTHING).rejections:
            assert_printable(rejection)
        names = read_projects(body)
    except AnswerError as error:
        assert_printable(str(error))
    else:
        for name in names.values():
            assert_printable(name)
    assert_printable(error_words(body))


@ANY_SPEED
@given(st.binary())
def test_any_bytes_are_an_answer_or_an_error(body: bytes) -> None:
    """Whatever bytes come, nothing but AnswerError is raised."""
    assert_answer_or_error(body)


@ANY_SPEED
@given(ANY_JSON | NEARLY, st.booleans())
def test_any_json_is_an_answer_or_an_error(decoded: Any, escaped: bool) -> None:
    """Whatever JSON comes, nothing but AnswerError is raised, and what is read is sound."""
    assert_answer_or_error(json.dumps(decoded, ensure_ascii=escaped).encode(errors="surrogatepass"))


@ANY_SPEED
@given(st.lists(ANY_ROW | SCALARS, max_size=6))
def test_every_row_is_counted_once(rows: list[Any]) -> None:
    """Each row that came is either usable or rejected."""
    answer = read_statistics(response_of([json.loads(GOOD), *rows]), DAY, EVERYTHING)
    assert answer.rows == 1 + len(rows)


# Two parsers, of which the quick one is for the usual answer.


def written_object(pairs: list[tuple[str, Any]], colon: str) -> str:
    """Write an object in which keys may come twice."""
    return "{" + ", ".join(json.dumps(key) + colon + json.dumps(value) for key, value in pairs) + "}"


def read_whole(body: bytes) -> Answer | tuple[str, tuple[Rejection, ...]]:
    """Read an answer, or the error and what it tells of rows."""
    try:
        return read_statistics(body, DAY, EVERYTHING)
    except AnswerError as error:
        return str(error), error.rejections


ANY_NUMBER: Final = st.one_of(
    st.integers(-1, 3), st.integers(), st.integers(10**300, 10**320), st.floats(), st.just(2**53 + 1), st.just(20260311)
)
TEXTS: Final = st.sampled_from(["", ":", '":', "1", "2.0", "x"])
FIELDS: Final = st.lists(st.tuples(ANY_KEY, ANY_NUMBER | TEXTS | st.none() | st.booleans()), max_size=6)


@ANY_SPEED
@given(
    st.lists(st.tuples(FIELDS, st.sampled_from([":", " : ", "\n:\t"])), max_size=3),
    st.sampled_from(["[]", "{}", '["a:b"]']),
    st.sampled_from(["{%s}", '{"response": [], %s}', '{"more": {"a": 1}, %s}', "[%s]", "{%s, }"]),
)
def test_the_quick_parser_reads_what_the_careful_one_does(
    rows: list[tuple[list[tuple[str, Any]], str]], errors: str, shape: str
) -> None:
    """Where keys come twice, texts hold colons, and numbers are of any size."""
    good = [("projectid", 7), ("queueid", -1), *((s.key, 10 * i) for i, s in enumerate(STATISTICS))]
    texts = [written_object(pairs, colon) for pairs, colon in [*rows, (good, ":")]]
    body = (shape % f'"response": [{", ".join(texts)}], "errors": {errors}').encode()
    found = read_whole(body)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(answer_module, "_decode_quickly", lambda _: None)
        assert read_whole(body) == found


def test_the_usual_answer_is_read_by_the_quick_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that comes twice is for the careful one, wherever it is."""
    careful: list[bytes] = []

    def loads(body: bytes, **_: Any) -> Any:
        careful.append(body)
        return {}

    monkeypatch.setattr(json, "loads", loads)
    usual = body_of(GOOD)
    assert read_statistics(usual, DAY, EVERYTHING).rows == 1
    with pytest.raises(AnswerError):
        read_statistics(usual.replace(b'"errors"', b'"errors": [], "errors"'), DAY, EVERYTHING)
    assert len(careful) == 1
    assert careful[0].count(b'"errors"') == 2


# Several days.


def pairs(rows: list[Mapping[str, Any]], scope: Scope = EVERYTHING) -> set[Pair]:
    """Read which pairs have rows in the first eleven days of March."""
    return set(read_pairs(response_of(rows), date(2026, 3, 1), DAY, scope))


def test_pairs_of_several_days() -> None:
    """Every pair with a row within the days is known, the first and the last day included, and once."""
    days: list[Any] = [20260301, "20260305", 20260311, None, 20260228, 20260312, "2026-03-05", 0, True]
    rows: list[Mapping[str, Any]] = [{"projectid": 1, "queueid": queue, "date": day} for queue, day in enumerate(days)]
    assert pairs([*rows, *rows, {"projectid": 1, "queueid": 99}]) == {(1, 0), (1, 1), (1, 2), (1, 3), (1, 99)}


def test_pairs_are_of_the_projects_that_were_asked_for() -> None:
    """Rows of other projects make no pair known, nor do those that another request asks for."""
    rows: list[Mapping[str, Any]] = [{"projectid": project, "queueid": -1} for project in (1, 2, 3)]
    assert pairs(rows, ASKED) == {(1, -1), (2, -1)}
    assert pairs(rows, Scope(left_out=frozenset({1}))) == {(2, -1), (3, -1)}


def test_pairs_need_ids_and_no_numbers() -> None:
    """A row without ids tells of no pair, and one whose numbers cannot be read tells of its own."""
    rows: list[Any] = [{"queueid": 1}, 7, None, {"projectid": 1, "queueid": 2, "talk_time": "x"}]
    assert pairs(rows) == {(1, 2)}
    assert pairs([]) == set()


def dated(day: Any, queue: Any = 2, lab: Any = 1) -> dict[str, Any]:
    """Return a row of project 1."""
    return {"projectid": 1, "queueid": queue, "date": day, "lab": lab}


def days_of(*rows: Any, scope: Scope = EVERYTHING) -> Days:
    """Read rows as an answer about the first eleven days of March."""
    return read_days(response_of(list(rows)), FIRST, DAY, scope)


def test_an_answer_about_several_days_has_an_answer_for_each() -> None:
    """Each is the one that a question about the day alone would have had: rows, rejected rows and pairs."""
    bad = dated(20260302, lab="x")
    rows = [dated(20260301), bad, dated(20260311), dated("20260311", 3, "7"), dated(20260311, lab=9)]
    days = days_of(*rows, scope=Scope(asked=frozenset({1})))
    assert list(days.answers) == [date(2026, 3, number) for number in range(1, 12)]
    for day, those in {FIRST: rows[:1], DAY: rows[2:], date(2026, 3, 3): []}.items():
        assert days.answers[day] == read_statistics(response_of(those), day, Scope(asked=frozenset({1})))
        assert days.pairs[day] == read_pairs(response_of(those), day, day, EVERYTHING)
    second = days.answers[date(2026, 3, 2)]
    assert (second.rows, second.rejected_pairs, second.usable) == (1, frozenset({(1, 2)}), False)
    assert days.pairs[date(2026, 3, 2)] == {(1, 2)}
    assert [rejection.cause for rejection in days.rejections] == [NOT_FINITE, DUPLICATE]


UNPLACED: Final[dict[str, tuple[Any, Rejection]]] = {
    "no date": (dated(None), Rejection(NO_DATE, "project 1, queue 2")),
    "a day later": (dated(20260312), Rejection(OTHER_DATE, "20260312 for 20260301")),
    "no day": (dated(20260300), Rejection(OTHER_DATE, "20260300 for 20260301")),
    "words": (dated("today"), Rejection(OTHER_DATE, "today for 20260301")),
    "no ids and no date": (dated(None, "x"), Rejection(NO_IDS, "projectid 1, queueid x")),
    "no row": (7, Rejection(NO_IDS, "no object: 7")),
}


@pytest.mark.parametrize("what", UNPLACED)
def test_a_row_that_belongs_to_no_day_is_told_and_gives_no_false_zero(what: str) -> None:
    """Its pair is rejected on each day that it may have been about, that is where no usable row of it came."""
    row, rejection = UNPLACED[what]
    days = days_of(row, dated(20260305), dated(20260305, 8))
    assert days.unplaced == days.rejections == (rejection,)
    assert days.answers[date(2026, 3, 5)].rejected_pairs == set()
    others = {answer.rejected_pairs for day, answer in days.answers.items() if day.day != 5}
    assert others == {frozenset() if rejection.cause == NO_IDS else frozenset({(1, 2)})}
    assert [day.day for day, found in days.pairs.items() if found] == [5]


@ANY_SPEED
@given(st.lists(st.tuples(st.integers(1, 11), ANY_ROW), max_size=6))
def test_each_day_is_read_as_if_it_had_been_asked_for_alone(rows: list[tuple[int, dict[str, Any]]]) -> None:
    """Whatever rows a day has, usable or not, and in whatever order the days come."""
    placed = [(day, {**row, "date": 20260300 + day}) for day, row in rows]
    days = days_of(*(row for _, row in placed))
    assert days.unplaced == ()
    for day, answer in days.answers.items():
        body = response_of([row for number, row in placed if number == day.day])
        assert days.pairs[day] == read_pairs(body, day, day, EVERYTHING)
        if answer.usable:
            assert answer == read_statistics(body, day, EVERYTHING)
        else:
            with pytest.raises(AnswerError) as caught:
                read_statistics(body, day, EVERYTHING)
            assert caught.value.rejections == answer.rejections


def test_days_that_no_calendar_has_lie_in_no_month() -> None:
    """A number between two months is another date."""
    answer = read_days(response_of([dated(20260231)]), date(2026, 2, 1), DAY, EVERYTHING)
    assert answer.unplaced == (Rejection(OTHER_DATE, "20260231 for 20260201"),)


def test_an_answer_about_one_day_needs_no_dates() -> None:
    """What has none is of the one that was asked for."""
    days = read_days(response_of([dated(None)]), DAY, DAY, EVERYTHING)
    assert days.answers == {DAY: read_statistics(response_of([dated(None)]), DAY, EVERYTHING)}
    assert days.pairs == {DAY: {(1, 2)}}
    assert days.unplaced == ()


def test_rows_of_other_requests_are_left_out_of_each_day() -> None:
    """They are counted nowhere, with a date or without; rows of projects that nobody asked for are rejected."""
    days = days_of(dated(20260305), dated(None), scope=Scope(left_out=frozenset({1})))
    assert (days.rejections, {answer.rows for answer in days.answers.values()}) == ((), {0})
    days = days_of(dated(20260305), dated(None), scope=Scope(asked=frozenset({2})))
    assert [(rejection.cause, rejection.example) for rejection in days.rejections] == [(NOT_ASKED, "project 1")] * 2
    assert not any(days.pairs.values())


def test_an_answer_without_a_usable_row_tells_why_row_by_row() -> None:
    """The error has the causes, so that a wrong day can be told from rows of another shape."""
    rows = [{"projectid": 1, "queueid": 2, "date": 20260310}, {"projectid": 1}]
    with pytest.raises(AnswerError) as caught:
        read_statistics(response_of(rows), DAY, EVERYTHING)
    assert [rejection.cause for rejection in caught.value.rejections] == [OTHER_DATE, NO_IDS]


# Names of projects.

NAMES: Final[dict[str, tuple[Any, str | None]]] = {
    "plain": ("Customer support", "Customer support"),
    "letters of any language": ("Ügyfélszolgálat, 客服", "Ügyfélszolgálat, 客服"),
    "blanks around": ("  Sales \t", "Sales"),
    "line feeds": ("Sales\r\nEurope", "Sales Europe"),
    "control characters": ("Sales\x00\x07\x1b[31m\x7f", "Sales [31m"),
    "line separators": ("Sales\u2028Europe", "Sales Europe"),
    "half a surrogate": ("Sales \ud800!", "Sales !"),
    "quotes and backslashes": ('"Sales" \\ {x}', '"Sales" \\ {x}'),
    "very long": ("x" * 100_000, "x" * 199 + "…"),
    "as long as it may be": ("x" * 200, "x" * 200),
    "empty": ("", None),
    "blank": (" \t", None),
    "nothing that can be printed": ("\x00\ud800\n", None),
    "null": (None, None),
    "number": (12, None),
    "list": (["Sales"], None),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_projects_name_is_one_printable_line(case: str) -> None:
    """A name stands on every series of its project, so that it is made one line; one without words is left out."""
    given_name, name = NAMES[case]
    body = response_of([{"projectid": 4, "name": given_name, "status": "active"}])
    assert read_projects(body) == ({4: name} if name else {})


def test_projects_without_usable_ids_are_left_out() -> None:
    """Ids come as numbers and as strings; what has none hides no other."""
    ids: list[Any] = [1, "2", 3.0, None, True, -1, "x", 2**53, [5]]
    rows = [*({"projectid": project, "name": f"P{project}"} for project in ids), {"name": "none"}, 7, None]
    assert read_projects(response_of(rows)) == {1: "P1", 2: "P2", 3: "P3.0"}


def test_the_list_of_projects_has_those_without_a_name() -> None:
    """A project exists by its id; name and status are what the API gives of them, as one line each."""
    rows: list[Any] = [
        {"projectid": "1", "name": "One", "status": "active"},
        {"projectid": 1, "status": "again, without a name"},
        {"projectid": 2, "name": None, "status": 5},
        {"projectid": 3, "name": "Three", "status": "in\nactive " * 9},
    ]
    assert read_project_list(response_of(rows)) == {
        1: ProjectEntry("One", "active"),
        2: ProjectEntry(),
        3: ProjectEntry("Three", "in active in active…"),
    }


# The API's own words.

ERRORS: Final[dict[str, tuple[Any, str]]] = {
    "a list of texts": (["error.argument_format_error"], "error.argument_format_error"),
    "several, in order": (["a", "b", "c"], "a; b; c"),
    "a text": ("closed", "closed"),
    "an object": ({"from": "missing", "to": "missing, too"}, "missing; missing, too"),
    "objects in lists": ([{"message": "a", "code": 417}, [["b"], {"x": {"y": "c"}}], "d"], "a; b; c; d"),
    "numbers alone": ([417, 1.5, True, None], ""),
    "nothing": ([], ""),
    "null": (None, ""),
    "line feeds and control characters": (["a\r\nb\x1b[31m"], "a b [31m"),
    "half a surrogate": (["a\udfff"], "a"),
    "very long": (["x" * 100_000], "x" * 199 + "…"),
    "very many": (["no"] * 100_000, "no; " * 49 + "no;…"),
    "blanks beyond what is looked at": ([" " * 100_000 + "late"], "…"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_the_apis_own_words_are_one_short_line(case: str) -> None:
    """The texts in `errors` are found whatever its shape is, and become one printable line."""
    errors, words = ERRORS[case]
    assert error_words(json.dumps({"response": None, "errors": errors}).encode()) == words


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"3", b"{}", b'{"error": "x"}', b"[" * 100_000, b"\xff"])
def test_a_response_without_errors_has_no_words(body: bytes) -> None:
    """What is no object with errors has no words for anybody, and is no fault."""
    assert error_words(body) == ""


@ANY_SPEED
@given(st.text(st.characters(codec=None), max_size=2000), st.integers(1, 300))
def test_any_text_is_shortened_to_one_line(text: str, limit: int) -> None:
    """The line is printable and within the limit; a mark at its end tells where something was lost."""
    line = shorten(text, limit)
    assert line.isprintable()
    assert len(line) <= limit
    whole = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    assert line == whole or (line.endswith("…") and whole.startswith(line[:-1].rstrip()))
