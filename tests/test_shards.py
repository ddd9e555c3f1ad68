"""A customer's shard: one for each, few moves, even shares, and the same for ever."""

from collections import Counter
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcc_exporter.schedule import place
from vcc_exporter.shards import shard_of

MANY: Final = [f"customer-{number:05}" for number in range(20_000)]
NAMES: Final = st.text(st.characters(exclude_categories=["Cs"]))


@given(NAMES, st.integers(1, 10**9))
def test_a_customer_belongs_to_exactly_one_of_the_shards(name: str, shards: int) -> None:
    """Whatever its name and their number, asked twice it is the same one, and one that there is."""
    shard = shard_of(name, shards)
    assert 0 <= shard < shards
    assert shard_of(name, shards) == shard


@given(NAMES, st.integers(1, 10**6))
def test_where_a_shard_is_added_a_customer_stays_or_goes_to_it(name: str, shards: int) -> None:
    """Nobody moves between the shards that there were."""
    assert shard_of(name, shards + 1) in {shard_of(name, shards), shards}


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 8, 20, 99])
def test_where_a_shard_is_added_few_customers_move(shards: int) -> None:
    """About one in n + 1 moves from n shards to n + 1."""
    moved = sum(shard_of(name, shards) != shard_of(name, shards + 1) for name in MANY)
    assert moved == pytest.approx(len(MANY) / (shards + 1), rel=0.15)


@pytest.mark.parametrize("shards", [2, 3, 8, 20])
def test_shards_have_about_as_many_customers_each(shards: int) -> None:
    """No shard of twenty thousand customers is far above or below its share."""
    counts = Counter(shard_of(name, shards) for name in MANY)
    assert len(counts) == shards
    for count in counts.values():
        assert count == pytest.approx(len(MANY) / shards, rel=0.15)


def test_the_customers_of_each_shard_are_spread_over_the_interval() -> None:
    """The hash by which polls are spread says nothing of the shard: each tenth of an interval has its part of each."""
    shards = 8
    counts = Counter((shard_of(name, shards), int(10 * place(name))) for name in MANY)
    assert len(counts) == 10 * shards
    for count in counts.values():
        assert count == pytest.approx(len(MANY) / shards / 10, rel=0.3)


@pytest.mark.parametrize(
    ("name", "by_shards"),
    [
        ("acme", {1: 0, 2: 0, 3: 0, 8: 4, 100: 62, 10**6: 76578}),
        ("globex", {1: 0, 2: 0, 3: 2, 8: 2, 100: 91, 10**6: 734447}),
        ("bank", {1: 0, 2: 1, 3: 1, 8: 1, 100: 58, 10**6: 982417}),
        ("webshop", {1: 0, 2: 0, 3: 2, 8: 4, 100: 76, 10**6: 540404}),
        ("Kávéház", {1: 0, 2: 0, 3: 0, 8: 3, 100: 21, 10**6: 697254}),
    ],
)
def test_a_customers_shard_is_the_same_for_ever(name: str, by_shards: dict[int, int]) -> None:
    """Shards of two versions, which run side by side in an upgrade, must agree."""
    assert {shards: shard_of(name, shards) for shards in by_shards} == by_shards
