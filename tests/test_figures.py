"""What a shift leader asks for, from counts: the vendor's own example by hand, and what holds for any counts."""

from dataclasses import fields
from datetime import date
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import DATA

from vcc_exporter.answer import Pair, Scope, Values, read_statistics
from vcc_exporter.config import Targets
from vcc_exporter.figures import Figures, Verdict, figures, judge_abandonment, judge_service_level, total
from vcc_exporter.vocabulary import STATISTICS

NAMES: Final = [statistic.name for statistic in STATISTICS]
NONE: Final = Figures(0, 0, 0, 0, 0, 0)


def row(**statistics: float | None) -> Values:
    """Return a row of the API with these statistics, and 0 for the others."""
    assert statistics.keys() <= set(NAMES)
    return tuple(statistics.get(name, 0.0) for name in NAMES)


def counts(in_time: float, late: float, gave_up: float) -> Figures:
    """Return figures of so many calls."""
    return Figures(in_time, late, gave_up, 0, 0, 0)


@pytest.fixture(scope="module")
def example() -> dict[Pair, Values]:
    """Return the rows of the example on the vendor's page."""
    body = (DATA / "answers" / "example.json").read_bytes()
    return dict(read_statistics(body, date(2019, 10, 22), Scope()).values)


# The vendor's example, by hand.


def test_queue_908_of_the_vendors_example(example: dict[Pair, Values]) -> None:
    """Three of four callers were answered in time, after 18 s each, and one gave up early."""
    found = figures([example[370, 908]])
    assert found == Figures(in_time=3, late=0, gave_up=1, early=1, waited_s=54, talked_s=193)
    assert (found.answered, found.offered) == (3, 4)
    assert (found.service_level, found.abandonment) == (0.75, 0.25)
    assert found.wait_s == 18
    assert found.talk_s == pytest.approx(64.333, abs=0.001)


def test_the_calls_before_a_queue_are_in_no_ratio(example: dict[Pair, Values]) -> None:
    """Two callers of project 370 hung up before a queue: they were not offered, and are counted apart."""
    both = [example[370, -1], example[370, 908]]
    assert figures(both) == figures([example[370, 908]])
    assert total(both, "abort_before_queue") == 2
    alone = figures([example[370, -1]])
    assert (alone.offered, alone.service_level, alone.abandonment, alone.wait_s) == (0, None, None, None)


def test_the_vendors_example_as_a_whole(example: dict[Pair, Values]) -> None:
    """Sixty-two answered and one given up: 98.4 % in time, and a mean wait of 0.9 s."""
    found = figures(example.values())
    assert (found.answered, found.offered) == (62, 63)
    assert found.service_level == pytest.approx(62 / 63)
    assert found.abandonment == pytest.approx(1 / 63)
    assert found.wait_s == pytest.approx(0.871, abs=0.001)
    assert found.talk_s == pytest.approx((112 + 8785 + 186 + 1201 + 193) / 62)


def test_a_ratio_of_several_queues_is_one_of_sums() -> None:
    """Ninety of a hundred and none of ten are 90 of 110, and not the mean of 90 % and 0 %."""
    large = row(answered_before=90, answered_after=6, abort_in_queue_after=4, queue_time=960, talk_time=9600)
    small = row(answered_after=4, abort_in_queue_before=5, abort_in_queue_after=1, abort_in_queue_early=3)
    found = figures([large, small])
    assert found == Figures(in_time=90, late=10, gave_up=10, early=3, waited_s=960, talked_s=9600)
    assert found.service_level == pytest.approx(90 / 110)
    assert found.abandonment == pytest.approx(10 / 110)
    assert (found.wait_s, found.talk_s) == (9.6, 96)


def test_no_row_is_no_call() -> None:
    """It is 0 and not unknown, and there is no ratio of it."""
    assert figures([]) == NONE
    assert total([], "talk_time") == 0
    assert [NONE.service_level, NONE.abandonment, NONE.wait_s, NONE.talk_s] == [None] * 4


# Whatever the counts are.

USED: Final = [
    *("answered_before", "answered_after", "abort_in_queue_before", "abort_in_queue_after", "abort_in_queue_early"),
    *("queue_time", "talk_time"),
]
ROWS: Final = st.lists(st.fixed_dictionaries(dict.fromkeys(USED, st.integers(0, 10**6))).map(lambda d: row(**d)))


@given(ROWS)
def test_ratios_are_ratios(rows: list[Values]) -> None:
    """Service level and abandonment are from 0 to 1 and together no more than 1; without a call there is none."""
    found = figures(rows)
    ratios = [found.service_level, found.abandonment]
    assert (ratios == [None, None]) == (found.offered == 0)
    if None not in ratios:
        level, abandonment = ratios
        assert level is not None
        assert abandonment is not None
        assert 0 <= level <= 1
        assert 0 <= abandonment <= 1
        assert level + abandonment <= 1 + 1e-12
    assert (found.wait_s is None) == (found.talk_s is None) == (found.answered == 0)


@given(ROWS, ROWS)
def test_figures_of_all_are_the_sum_of_their_parts(some: list[Values], others: list[Values]) -> None:
    """A project is what its queues are together, in whatever order they come."""
    parts, whole = [figures(some), figures(others)], figures(some + others)
    assert whole == figures(others + some)
    for field in fields(Figures):
        assert getattr(whole, field.name) == sum(getattr(part, field.name) for part in parts)


NEEDED_BY: Final = {
    "answered_before": {"in_time", "answered", "offered", "service_level", "abandonment", "wait_s", "talk_s"},
    "answered_after": {"late", "answered", "offered", "service_level", "abandonment", "wait_s", "talk_s"},
    "abort_in_queue_before": {"gave_up", "offered", "service_level", "abandonment"},
    "abort_in_queue_after": {"gave_up", "offered", "service_level", "abandonment"},
    "abort_in_queue_early": {"early"},
    "queue_time": {"waited_s", "wait_s"},
    "talk_time": {"talked_s", "talk_s"},
}
ALL: Final = [field.name for field in fields(Figures)] + [
    name for name, member in vars(Figures).items() if isinstance(member, property)
]


@pytest.mark.parametrize("lacking", NAMES)
def test_a_statistic_that_was_not_sent_makes_unknown_what_needs_it_and_nothing_else(lacking: str) -> None:
    """One queue without it is enough, for its project too; the statistics of no figure change nothing."""
    whole = row(**dict.fromkeys(NAMES, 5.0))
    found = figures([whole, row(**{**dict.fromkeys(NAMES, 5.0), lacking: None})])
    assert {name for name in ALL if getattr(found, name) is None} == NEEDED_BY.get(lacking, set())
    known = figures([whole, whole])
    unaffected = set(ALL) - NEEDED_BY.get(lacking, set())
    assert {name: getattr(found, name) for name in unaffected} == {name: getattr(known, name) for name in unaffected}


ANY_NUMBER: Final = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(USED, ANY_NUMBER)).map(lambda d: row(**d)), max_size=3))
def test_numbers_that_no_call_centre_has_are_figures_or_unknown(rows: list[Values]) -> None:
    """Any number that an answer can hold gives finite figures, or none where a sum or a ratio is out of range."""
    found = figures(rows)
    for name in ALL:
        value = getattr(found, name)
        assert value is None or abs(value) < float("inf")


# Held against the targets.

PROMISE: Final = Targets(service_level=0.8, abandonment=0.05, min_calls=20)


@pytest.mark.parametrize(
    ("in_time", "late", "verdict"),
    [
        (100, 0, Verdict.REACHED),
        (81, 19, Verdict.REACHED),
        (80, 20, Verdict.REACHED),
        (7999, 2001, Verdict.NEAR),
        (79, 21, Verdict.NEAR),
        (70, 30, Verdict.NEAR),
        (6999, 3001, Verdict.MISSED),
        (69, 31, Verdict.MISSED),
        (0, 100, Verdict.MISSED),
    ],
)
def test_a_service_level_is_held_against_its_target(in_time: int, late: int, verdict: Verdict) -> None:
    """Reached at the target itself, missed by a little within ten points below it, border included."""
    assert judge_service_level(counts(in_time, late, 0), PROMISE) is verdict
    assert judge_service_level(counts(in_time, 0, late), PROMISE) is verdict


@given(st.integers(10, 100), st.integers(1, 1000))
def test_ten_points_are_ten_points_at_every_target(target: int, hundreds: int) -> None:
    """Binary fractions move no border, whatever whole per cent were promised and however many calls there were."""
    targets = Targets(target / 100, 0.05, 1)

    def judge(per_cent: int, calls_more: int) -> Verdict | None:
        in_time = hundreds * per_cent + calls_more
        return judge_service_level(counts(in_time, 100 * hundreds - in_time, 0), targets)

    assert judge(target, 0) is Verdict.REACHED
    assert judge(target, -1) is Verdict.NEAR
    assert judge(target - 10, 0) is Verdict.NEAR
    assert target == 10 or judge(target - 10, -1) is Verdict.MISSED


@pytest.mark.parametrize(
    ("gave_up", "verdict"),
    [
        (0, Verdict.REACHED),
        (50, Verdict.REACHED),
        (51, Verdict.NEAR),
        (100, Verdict.NEAR),
        (101, Verdict.MISSED),
        (1000, Verdict.MISSED),
    ],
)
def test_an_abandonment_is_held_against_its_target(gave_up: int, verdict: Verdict) -> None:
    """Reached up to the target itself, missed by a little up to twice of it."""
    assert judge_abandonment(counts(1000 - gave_up, 0, gave_up), PROMISE) is verdict


@given(st.integers(0, 50), st.integers(1, 1000))
def test_twice_is_twice_at_every_target(target: int, hundreds: int) -> None:
    """Binary fractions move no border of an abandonment either; a promise of none has none that is near."""
    targets = Targets(0.8, target / 100, 1)

    def judge(gave_up: int) -> Verdict | None:
        return judge_abandonment(counts(100 * hundreds - gave_up, 0, gave_up), targets)

    assert judge(hundreds * target) is Verdict.REACHED
    assert judge(hundreds * target + 1) is (Verdict.NEAR if target else Verdict.MISSED)
    assert judge(hundreds * 2 * target) is (Verdict.NEAR if target else Verdict.REACHED)
    assert target == 50 or judge(hundreds * 2 * target + 1) is Verdict.MISSED


@pytest.mark.parametrize(("offered", "judged"), [(1, False), (19, False), (20, True)])
def test_few_calls_are_not_judged(offered: int, judged: bool) -> None:
    """Below min_calls neither the best nor the worst ratio says anything."""
    for found, level, abandonment in (
        (counts(offered, 0, 0), Verdict.REACHED, Verdict.REACHED),
        (counts(0, 0, offered), Verdict.MISSED, Verdict.MISSED),
    ):
        assert judge_service_level(found, PROMISE) is (level if judged else Verdict.FEW)
        assert judge_abandonment(found, PROMISE) is (abandonment if judged else Verdict.FEW)


def test_what_has_no_ratio_has_no_verdict() -> None:
    """Neither without a call, even where no least number of calls is asked for, nor where one is not known."""
    unknown = Figures(None, 5, 5, 0, 0, 0)
    for found in (NONE, unknown):
        for targets in (PROMISE, Targets(0.8, 0.05, 0)):
            assert judge_service_level(found, targets) is None
            assert judge_abandonment(found, targets) is None


def test_each_verdict_has_a_sign_and_words_of_its_own() -> None:
    """None is told by its colour alone."""
    assert len({verdict.sign for verdict in Verdict}) == len(Verdict) == len({verdict.words for verdict in Verdict})
    assert all(len(verdict.sign) == 1 and verdict.words for verdict in Verdict)
