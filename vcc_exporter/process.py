"""The process that the daemon is: what it asks of the system and of Python, its garbage, and its own metrics."""

import contextlib
import gc
import os
import resource
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

# In malloc.h.
_M_ARENA_MAX: Final = -8
_M_MMAP_THRESHOLD: Final = -3
_YOUNG: Final = 50_000
"""Objects; those of some hundred polls."""
_LARGE: Final = 512 * 2**10
"""Bytes; most compressed pages have more, most answers less."""


def set_up() -> None:
    """Make a process that was just started one that a daemon can live in for long."""
    _fill_standard_streams()
    raise_descriptor_limit()
    _keep_memory_together()
    _put_off_whole_collections()


def _fill_standard_streams() -> None:
    """Open those that whoever started this left closed: libuv ends the process where a socket takes their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def raise_descriptor_limit() -> None:
    """Allow as many open files as the system lets this process have: each customer keeps a connection."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _keep_memory_together() -> None:
    """Let all threads share one heap where the C library is glibc.

    It gives many threads heaps of their own, so that none waits for another's, which in Python wait for one another
    anyhow; what one poll's thread has freed, the next one's then cannot use. And it takes what is large from the heap
    once such a thing was freed: then every page leaves a hole that small things fill, so that the next finds no room.
    """
    _tell_heap("mallopt", _M_ARENA_MAX, 1)
    _tell_heap("mallopt", _M_MMAP_THRESHOLD, _LARGE)


def give_memory_back() -> None:
    """Give the system what is free between what is not, where the C library is glibc.

    A page leaves holes that the next one does not fit into: a twentieth of all memory. To look for them takes a
    millisecond or three.
    """
    _tell_heap("malloc_trim", 0)


def _tell_heap(function: str, *arguments: int) -> None:
    # Where there is no such library, or it may not be called like this, memory is a little larger.
    with contextlib.suppress(ImportError, OSError, AttributeError, MemoryError):
        import ctypes  # noqa: PLC0415 - not every Python has it

        getattr(ctypes.CDLL(None), function)(*arguments)


def _put_off_whole_collections() -> None:
    """Let Python collect no garbage of any age by itself, but only what has died young, and of that much at a time.

    It looks through all that lives each time that a quarter has come to it: with ten thousand customers, every few
    seconds, and for half a second in which no poll begins and no scrape is answered. Nearly all here is freed
    without that: a poll leaves no cycles, whatever becomes of it.
    """
    _, middle, _ = gc.get_threshold()
    gc.set_threshold(_YOUNG, middle, 2**31 - 1)


def registry() -> CollectorRegistry:
    """Return the client library's metrics of this process."""
    found = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=found)
    return found
