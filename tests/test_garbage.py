"""What the daemon does for the collections of garbage."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from vcc_exporter.process import collect_garbage


class Node:
    """One end of a cycle."""

    other: "Node"


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    """Leave Python's collector as it was."""
    yield
    gc.unfreeze()


def test_what_lives_is_left_out_of_collections_but_for_whole_ones() -> None:
    """A cycle that dies old outlives what Python collects, and not the next whole collection."""
    first, second = Node(), Node()
    first.other, second.other = second, first
    dead = weakref.ref(first)
    collect_garbage(whole=False)
    del first, second
    gc.collect()
    collect_garbage(whole=False)
    assert dead()
    collect_garbage(whole=True)
    assert not dead()
    assert gc.get_freeze_count()


def test_what_died_young_is_collected_before_the_rest_is_left_out() -> None:
    """A cycle that is dead when the living are left out is not left out with them."""
    first, second = Node(), Node()
    first.other, second.other = second, first
    dead = weakref.ref(first)
    del first, second
    collect_garbage(whole=False)
    assert not dead()
