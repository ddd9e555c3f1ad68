"""The threads that run the scheduler's jobs: as few as do, and no job lost between them."""

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import Any

import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from running import eventually

from vcc_exporter.threads import Threads

LONG_S = 30


Job = Callable[[], Any]


@contextmanager
def running(most: int, **times_s: float) -> Iterator[BackgroundScheduler]:
    """Give a scheduler with so many threads at most."""
    scheduler = BackgroundScheduler(
        timezone=UTC,
        executors={"mine": Threads(most, **times_s)},
        job_defaults={"misfire_grace_time": None, "max_instances": 10_000},
    )
    scheduler.start()
    try:
        yield scheduler
    finally:
        scheduler.pause()  # or its thread might find the jobs gone
        scheduler.remove_all_jobs()
        scheduler.shutdown(wait=False)


def hand_over(scheduler: BackgroundScheduler, *jobs: Job) -> None:
    """Have jobs run, and wait until they begin or wait for a thread."""
    for job in jobs:
        scheduler.add_job(job, executor="mine")
    eventually(lambda: not scheduler.get_jobs(), "the scheduler to hand the jobs over")


def count() -> int:
    """Return how many of the threads there are."""
    return sum(1 for thread in threading.enumerate() if thread.name == "mine")


def together(scheduler: BackgroundScheduler, jobs: int) -> list[threading.Thread]:
    """Run so many jobs beside each other, and return their threads once all have ended."""
    all_there, threads = threading.Barrier(jobs + 1), list[threading.Thread]()

    def job() -> None:
        threads.append(threading.current_thread())
        all_there.wait(LONG_S)

    for _ in range(jobs):
        scheduler.add_job(job, executor="mine")
    all_there.wait(LONG_S)
    return threads


def alone(scheduler: BackgroundScheduler) -> threading.Thread:
    """Run one job, and return its thread."""
    return together(scheduler, 1)[0]


def test_the_thread_that_worked_last_works_first() -> None:
    """Jobs that come one after another are run by one thread, however many there are."""
    with running(8) as scheduler:
        together(scheduler, 8)
        eventually(lambda: len({alone(scheduler) for _ in range(20)}) == 1, "one thread to do it all")
        assert count() == 8


def test_work_that_others_take_in_time_makes_no_thread_each() -> None:
    """Of many jobs that come while all are busy, those that others get to in time have no thread of their own."""
    go_on, ran = threading.Event(), list[threading.Thread]()
    with running(100, patience_s=LONG_S) as scheduler:
        first = alone(scheduler)
        hand_over(scheduler, lambda: go_on.wait(LONG_S), *[lambda: ran.append(threading.current_thread())] * 50)
        assert count() == 2
        go_on.set()
        eventually(lambda: len(ran) == 50, "all to run")
        assert set(ran) == {first}


def test_threads_without_work_end_and_one_stays() -> None:
    """After the busiest moment all but one go, and that runs the jobs that come later."""
    with running(8, idle_s=0.05) as scheduler:
        together(scheduler, 8)
        eventually(lambda: count() == 1, "all threads but one to end")
        assert alone(scheduler) is alone(scheduler)
        together(scheduler, 8)


def test_no_job_is_lost_to_a_thread_that_ends() -> None:
    """Threads that hardly wait for work take each job that comes just as they are about to end."""
    ran, done = threading.Semaphore(0), 0
    with running(4, idle_s=0.0002) as scheduler:
        for _ in range(500):
            for _ in range(3):
                scheduler.add_job(ran.release, executor="mine")
            for _ in range(3):
                assert ran.acquire(timeout=LONG_S)
                done += 1
    assert done == 1500


def test_where_the_system_gives_no_thread_jobs_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job for which there is no thread runs when another one is over; later ones have threads again."""
    go_on, ran = threading.Event(), threading.Event()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with running(8) as scheduler:
        hand_over(scheduler, lambda: go_on.wait(LONG_S))
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            hand_over(scheduler, ran.set)
        assert count() == 1
        assert not ran.is_set()
        go_on.set()
        assert ran.wait(LONG_S)
        together(scheduler, 8)


def test_threads_end_with_the_scheduler() -> None:
    """Those without work end at once, one that works when it is done, and what waits for it still runs."""
    go_on, ran = threading.Event(), threading.Event()
    with running(1) as scheduler:
        hand_over(scheduler, lambda: go_on.wait(LONG_S), ran.set)
    assert count() == 1
    go_on.set()
    assert ran.wait(LONG_S)
    with running(8) as scheduler:
        together(scheduler, 8)
    eventually(lambda: count() == 0, "all threads to end")


def test_a_thread_that_waits_holds_nothing_of_its_last_job() -> None:
    """What a job knew is free once it is over, and not when the thread's next job comes."""

    class Known:
        """Something that a job knows."""

        def use(self) -> None:
            """Do nothing."""

    with running(1) as scheduler:
        known = Known()
        gone = weakref.ref(known)
        hand_over(scheduler, known.use)
        del known
        eventually(lambda: gone() is None, "what the job knew to be free")
