"""A real Prometheus that holds a past and all that its rules would have recorded of it."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import history
from running import Prometheus

from tools import recorded

SHORT: Final = timedelta(minutes=1)
"""Less than between two scrapes: what was imported has no marks of where series end."""


def record(data: Path) -> None:
    """Add to a Prometheus's data what its rules would have recorded."""
    recorded.record(data, history.STRETCHES, history.STEP, SHORT)


@contextmanager
def serving(data: Path, lookback: timedelta = SHORT) -> Iterator[Prometheus]:
    """Run a Prometheus on data; it scrapes nothing."""
    with recorded.serving(data, lookback) as url:
        yield Prometheus(url)


def copy(sources: Sequence[Path], data: Path) -> None:
    """Put the blocks of several Prometheuses' data together."""
    for source in sources:
        shutil.copytree(source, data, dirs_exist_ok=True)
