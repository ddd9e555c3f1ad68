"""Processes that are kept to one core each, and what they use."""

import math
import os
import platform
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vcc_exporter.times import Clock
from vcc_exporter.vocabulary import STATISTICS

ROOT: Final = Path(__file__).parent.parent.parent
ROWS: Final = 20
"""Of each customer, where nothing else is said."""
PATIENCE_S: Final = 600
_GRACE_S: Final = 10
clock: Final = Clock()


class BenchError(Exception):
    """Why the bench cannot go on, in words for whoever started it."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: where, and how much is measured."""

    folder: Path
    server_core: int
    client_core: int
    share: float
    """Of the customers that the goals name."""
    rounds: int
    seconds: float
    """How long one thing is watched in one round."""

    def customers(self, count: int) -> int:
        """Return how many stand for so many."""
        return max(1, round(count * self.share))

    def customers_for(self, series: int) -> int:
        """Return how many stand for those with so many series of calls."""
        return self.customers(math.ceil(series / (ROWS * len(STATISTICS))))


def two_cores() -> tuple[int, int]:
    """Return the core of what is measured and that of all else. Raises BenchError where there is but one."""
    found = sorted(os.sched_getaffinity(0))
    if len(found) < 2:  # noqa: PLR2004 - as the name says
        raise BenchError("expected two cores, one for what is measured and one for its clients, found one")
    return found[0], found[1]


@dataclass(frozen=True, slots=True)
class Part:
    """A process that the bench has started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise BenchError, with its last words, where it has ended."""
        if self.process.poll() is not None:
            words = self.log.read_text(errors="replace").splitlines()[-3:]
            raise BenchError(f"{self.name} has ended (status {self.process.returncode}): {' | '.join(words)}")

    def _pids(self) -> list[int]:
        # A child is where nginx works.
        pid = self.process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def cpu_s(self) -> float:
        """Return the seconds of CPU that it has used, in all its threads, those that ended included."""
        # What clock_getcpuclockid(3) returns, which Python lacks: exact, where /proc/PID/stat counts in 10 ms.
        return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in self._pids()) / 1e9

    def first_thread_cpu_s(self) -> float:
        """Return those of its first thread alone."""
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9

    def memory_mb(self, which: str = "VmHWM") -> float:
        """Return the resident memory that it has used at most or, with `VmRSS`, uses now, in MB."""
        return sum(1024 * self._status(pid, which) for pid in self._pids()) / 1e6

    def threads(self) -> int:
        """Return how many threads it has."""
        return self._status(self.process.pid, "Threads")

    def descriptors(self) -> int:
        """Return how many files and sockets it has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def _status(self, pid: int, key: str) -> int:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the core that it shares to what is measured meanwhile."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """End it, kindly at first."""
        self.process.terminate()
        try:
            self.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def running(run: Run, name: str, core: int, *command: str | Path) -> Iterator[Part]:
    """Run a command on one core until the end of the context. What it prints, `stdout` apart, is in its log."""
    log = run.folder / f"{name.replace(' ', '-')}-{clock.monotonic()}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603
            ["taskset", "-c", str(core), *command],  # noqa: S607
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            env={**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
        )
    part = Part(name, process, log)
    try:
        yield part
    finally:
        part.end()


def until(done: Callable[[], bool], what: str, part: Part, pause_s: float = 0.01) -> None:
    """Wait for what a process is to bring about. Raises BenchError where it ends, or takes too long."""
    limit = clock.monotonic() + PATIENCE_S
    while not done():
        part.check()
        if clock.monotonic() > limit:
            raise BenchError(f"{what} of {part.name} did not come within {PATIENCE_S} s")
        time.sleep(pause_s)


def answers(url: str) -> bool:
    """Tell whether an address answers well."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:  # noqa: S310 - loopback
            return bool(answer.status == 200)  # noqa: PLR2004
    except OSError:
        return False


_PEERS: Final = {
    "nginx": ("nginx", "-v"),
    "node_exporter": ("prometheus-node-exporter", "--version"),
    "Pushgateway": ("prometheus-pushgateway", "--version"),
    "Prometheus": ("prometheus", "--version"),
}


def words() -> str:
    """Return what is to be known of this machine. Raises BenchError where a peer is not installed."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {_version(*command)}" for name, command in _PEERS.items())
    return (
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}, {versions}. "
        f"Load when the run began: {os.getloadavg()[0]:.1f}. "
        "One core is the servers', one the clients' and the API's.\n"
    )


def _version(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        raise BenchError(f"expected {command[0]} to be installed: `tools/install-parts bench` does it") from None
    return next(word for word in (done.stdout + done.stderr).replace("/", " ").split() if word[0].isdigit())
