"""What waits for a collection of garbage of any age, which is seldom made: see `vcc_exporter.process`."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def left_lying() -> Iterator[None]:
    """Leave garbage where it is, as it is between two collections of Python's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def left_by(do: Callable[[], object], *kinds: type) -> list[str]:
    """Return the garbage of some kinds, or of all that the exporter's own classes make, that something leaves."""
    with left_lying():
        do()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            gc.collect()
            return [repr(found) for found in gc.garbage if isinstance(found, kinds) or (not kinds and _is_ours(found))]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()


def _is_ours(found: object) -> bool:
    return type(found).__module__.startswith("vcc_exporter.") and ".simulator" not in type(found).__module__
