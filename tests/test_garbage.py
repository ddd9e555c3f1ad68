"""What the daemon does for the collections of garbage."""

import subprocess
import sys
from typing import Final

from garbage import left_by

_PROGRAM = """
import gc, weakref
from vcc_exporter import process

class Node:
    pass

def cycle():
    node = Node()
    node.self = node
    return node, weakref.ref(node)

if {set_up}:
    process.set_up()
young, young_ref = cycle()
old, old_ref = cycle()
for _ in range(2):
    gc.collect(1)  # what lives is old by then
del old
kept = [[] for _ in range(2_000_000)]
del young
kept += [[] for _ in range(20_000)]
print(old_ref() is None)
"""


def collected_by_itself(set_up: bool) -> str:
    """Return whether Python has collected a cycle that died old, while much that lives was made."""
    done = subprocess.run(  # noqa: S603 - the test's own
        [sys.executable, "-c", _PROGRAM.format(set_up=set_up)], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_no_whole_collection_comes_by_itself() -> None:
    """Python would make many here; in the daemon it makes none, since all polls and scrapes would wait for it."""
    assert (collected_by_itself(set_up=False), collected_by_itself(set_up=True)) == ("True", "False")


_HOLES: Final = """
import re
from pathlib import Path
from vcc_exporter import process

def resident():
    return int(re.search(r"VmRSS:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1])

process.set_up()
parts = [bytearray(60_000) for _ in range(1000)]
last = parts.pop()  # above which nothing is given back by itself
del parts
before = resident()
process.give_memory_back()
print(before - resident())
"""


def test_memory_that_is_free_between_what_is_not_is_given_back() -> None:
    """Of sixty megabytes that are free below something that is not, most go to the system."""
    done = subprocess.run([sys.executable, "-c", _HOLES], check=True, capture_output=True, text=True)  # noqa: S603
    assert int(done.stdout) > 40_000


def test_garbage_of_ones_own_is_found() -> None:
    """The helper by which other tests look for garbage finds some."""

    class Exporter:
        def __init__(self) -> None:
            self.self = self

    assert len(left_by(Exporter, Exporter)) == 1
