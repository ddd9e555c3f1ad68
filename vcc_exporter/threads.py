"""Threads that run the scheduler's jobs.

The standard library's pool makes another thread whenever all are busy, lets them take turns, and keeps each for good:
the busiest moment decides how many there are from then on. Here one is made only for work that has waited for a
moment, the one that worked last works first, since what it uses is still in the machine's caches, and whoever is
without work for long ends.
"""

import threading
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import Any, Final

from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.job import Job

_PATIENCE_S: Final = 0.01
"""How long a new thread leaves work to those that are about to be done. One can be made in each such time, and where
all hang two seconds make as many as there may be."""
_IDLE_S: Final = 70
"""How long a thread waits for work before it ends. Most rhythms come back each minute."""

_Run = tuple[Job, Sequence[datetime]]


class Threads(BaseExecutor):  # type: ignore[misc] # the library has no types
    """As many threads as are needed up to a limit, and always one, from the start of the scheduler until its end.

    Where the system gives no more threads, those that there are run the jobs that wait.
    """

    def __init__(self, most: int, idle_s: float = _IDLE_S, patience_s: float = _PATIENCE_S) -> None:
        super().__init__()
        self._most = most
        self._idle_s = idle_s
        self._patience_s = patience_s
        self._ended = threading.Event()
        self._change = threading.Lock()
        """Held while one of the following is changed."""
        self._waiting = deque[_Run]()
        self._idle: list[SimpleQueue[_Run | None]] = []
        """Where to put work for threads that have none; the one that became so last is the last."""
        self._count = 0
        self._is_growing = False
        """Whether a thread was made that does not work yet."""

    def start(self, scheduler: Any, alias: str) -> None:
        """Begin, with one thread. Raises RuntimeError where the system gives none."""
        super().start(scheduler, alias)
        self._alias = alias
        self._count = 1
        threading.Thread(target=self._work, name=alias).start()

    def shutdown(self, wait: bool = True) -> None:  # noqa: ARG002 - whoever ends this never waits
        """End all threads, those that run jobs when there is none left."""
        with self._change:
            self._ended.set()
            while self._idle:
                self._idle.pop().put(None)

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        with self._change:
            if self._idle:
                self._idle.pop().put((job, run_times))
                return
            self._waiting.append((job, run_times))
        self._grow()

    def _grow(self) -> None:
        """Make one more thread where work waits, unless one was made just now."""
        with self._change:
            if not self._waiting or self._is_growing or self._count == self._most:
                return
            self._is_growing = True
            self._count += 1
        try:
            threading.Thread(target=self._begin, name=self._alias).start()
        except RuntimeError:
            with self._change:
                self._is_growing = False
                self._count -= 1

    # What each thread does.

    def _begin(self) -> None:
        self._ended.wait(self._patience_s)
        with self._change:
            self._is_growing = False
        self._work()

    def _work(self) -> None:
        mine = SimpleQueue[_Run | None]()
        while run := self._next(mine):
            self._grow()  # for what still waits, since this run may take long
            self._run(*run)
            del run  # with all that the job knows

    def _run(self, job: Job, run_times: Sequence[datetime]) -> None:
        try:
            events = run_job(job, job._jobstore_alias, run_times, self._logger.name)  # noqa: SLF001 - by its own rules
        except Exception as error:  # noqa: BLE001 - which the library tells
            self._run_job_error(job.id, error, error.__traceback__)
        else:
            self._run_job_success(job.id, events)

    def _next(self, mine: SimpleQueue[_Run | None]) -> _Run | None:
        """Wait for work. Returns None where the thread is to end."""
        with self._change:
            if self._waiting:
                return self._waiting.popleft()
            if self._ended.is_set():
                return None
            self._idle.append(mine)
        while True:
            try:
                return mine.get(timeout=self._idle_s)
            except Empty:
                with self._change:
                    # Otherwise there is work by now, or this is the last.
                    if mine in self._idle and self._count > 1:
                        self._idle.remove(mine)
                        self._count -= 1
                        return None
