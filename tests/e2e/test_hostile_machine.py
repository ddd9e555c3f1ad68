"""A machine that gives too little or something else: logs, descriptors, memory, threads, time, files, users."""

import array
import fcntl
import importlib.resources
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import psutil
import pytest
from conftest import StartDaemon
from dated import BUDAPEST, dated_api, dated_config, faketime, shown_day
from running import ROOT, Daemon, Samples, eventually, fetch, free_port, noon_zone, one, parse_page
from support import http_response, raw_server, read_request

from vcc_exporter.shards import shard_of
from vcc_exporter.simulator import Simulator
from vcc_exporter.times import day_start

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
LINE: Final = re.compile(r"ts=\S+Z level=\w+ msg=.+")


def config(simulator: Simulator, *names: str, interval: str = "200ms", zone: str = "", extra: str = "") -> str:
    """Return a config of customers that all are the simulator's bank."""
    account = f"subdomain: bank, url: '{simulator.url}', timezone: {zone or noon_zone()}"
    key = simulator.centres["bank"].key
    lines = "".join(f"  - {{name: {name}, {account}, api_key: {key}}}\n" for name in names)
    return f"poll: {{interval: {interval}, timeout: 5s, lookback: 0}}\ncustomers:\n{lines}{extra}"


def polls(page: Samples, customer: str, result: str = "success") -> float:
    """Return how many polls of a customer had a result."""
    return one(page, "vcc_polls_total", customer=customer, result=result) or 0


def more_polls(daemon: Daemon, customer: str, result: str = "success") -> Samples:
    """Wait for three more polls of a customer with a result, and return the page that tells of them."""
    before = polls(daemon.page(), customer, result)
    return daemon.wait_for(
        lambda page: page if polls(page, customer, result) > before + 2 else None, f"polls of {customer}: {result}"
    )


@contextmanager
def limit(daemon: Daemon, what: int, most: int) -> Iterator[None]:
    """Let a running process have no more than that of something, until the block ends."""
    before = resource.prlimit(daemon.process.pid, what)
    resource.prlimit(daemon.process.pid, what, (most, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(daemon.process.pid, what, before)


def in_status(daemon: Daemon, field: str) -> int:
    """Return a size in bytes that the system gives of a process."""
    found = re.search(rf"^{field}:\s*(\d+) kB$", Path(f"/proc/{daemon.process.pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


# The log.


def test_a_log_that_nobody_reads_holds_up_nothing(simulator: Simulator, tmp_path: Path) -> None:
    """With its pipe full it polls, answers, reloads and ends; where the pipe is read again, lines are whole."""
    path, port = tmp_path / "config.yaml", free_port()
    names = [f"c{i}" for i in range(10)]
    broken = "".join(f"  - {{name: {n}, url: 'http://127.0.0.1:1', api_key: k, timezone: UTC}}\n" for n in names)
    path.write_text(config(simulator, "good", extra=broken))
    flags = [f"--config.file={path}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=debug"]
    process = subprocess.Popen([sys.executable, str(ROOT / "exporter.py"), *flags], stderr=subprocess.PIPE)  # noqa: S603
    assert process.stderr
    daemon = Daemon(process, path, [f"127.0.0.1:{port}"])
    try:
        pipe = process.stderr.fileno()
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
        eventually(lambda: full(pipe), "the pipe to be full")
        more_polls(daemon, "good")
        more_polls(daemon, "c9", "unreachable")
        loaded = "vcc_exporter_config_last_reload_success_timestamp_seconds"
        before = one(daemon.page(), loaded)
        process.send_signal(signal.SIGHUP)
        daemon.wait_for(lambda page: one(page, loaded) != before, "the reload")
        assert full(pipe)

        read = b""
        while b"config reloaded" not in read or not read.endswith(b"\n"):
            read += os.read(pipe, 4096)
        assert [line for line in read.decode().splitlines() if not LINE.fullmatch(line)] == []
        eventually(lambda: full(pipe), "the pipe to be full again")
        more_polls(daemon, "c9", "unreachable")  # of which there is a line that waits
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def full(pipe: int) -> bool:
    """Tell whether a pipe of one page takes no further line."""
    waiting = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, waiting)
    return waiting[0] > 4096 - 400


def test_a_disk_that_is_full_costs_lines_and_nothing_else(start_daemon: StartDaemon, simulator: Simulator) -> None:
    """While no byte of the log can be written all goes on, and what is written after that is whole lines."""
    simulator.misbehave("bank", "server_error")
    names = [f"c{i}" for i in range(10)]
    daemon = start_daemon(config(simulator, *names, interval="100ms"), "--log.level=debug")
    eventually(lambda: daemon.log.count("poll failed") > 10, "lines")
    with limit(daemon, resource.RLIMIT_FSIZE, daemon.output.stat().st_size):
        more_polls(daemon, "c0", "server_error")
        size = daemon.output.stat().st_size
        # So many lines that no buffer holds them.
        count = polls(daemon.page(), "c1", "server_error") + 15
        daemon.wait_for(lambda page: polls(page, "c1", "server_error") > count, "polls")
        assert daemon.output.stat().st_size == size
    simulator.heal("bank")
    eventually(lambda: "polls succeed" in daemon.log, "a line after that")
    assert daemon.stop() == 0
    assert [line for line in daemon.log.splitlines() if not LINE.fullmatch(line)] == []


# Descriptors, memory, threads.


def test_without_descriptors_what_is_open_goes_on_and_the_rest_heals(
    start_daemon: StartDaemon, simulator: Simulator
) -> None:
    """Kept connections poll and scrape; new ones and a reload fail in words, and come right by themselves."""

    def closing(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(http_response(b'{"response": [], "errors": []}', "200 OK", "Connection: close"))

    with raw_server(closing) as port:
        other = f"  - {{name: other, url: 'http://127.0.0.1:{port}', api_key: k, timezone: {noon_zone()}}}\n"
        daemon = start_daemon(config(simulator, "bank", extra=other))
        kept = HTTPConnection(daemon.addresses[0], timeout=30)

        def scrape() -> Samples:
            kept.request("GET", "/metrics")
            return parse_page(kept.getresponse().read().decode())

        eventually(lambda: polls(scrape(), "bank") and polls(scrape(), "other"), "the first polls")
        threads = psutil.Process(daemon.process.pid).num_threads()
        with limit(daemon, resource.RLIMIT_NOFILE, 3):
            before = polls(scrape(), "bank")
            eventually(lambda: polls(scrape(), "bank") > before + 2, "polls on a connection that is open")
            eventually(lambda: polls(scrape(), "other", "unreachable") > 2, "failures of the one without")
            daemon.process.send_signal(signal.SIGHUP)
            eventually(lambda: "config not reloaded" in daemon.log, "the reload to fail")
            page = scrape()
            assert one(page, "vcc_up", customer="bank") == 1
            assert one(page, "vcc_exporter_config_last_reload_successful") == 0
        kept.close()
        assert daemon.log.count("Too many open files") == 2, "one line for the polls, one for the reload"
        more_polls(daemon, "other")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for(lambda page: one(page, "vcc_exporter_config_last_reload_successful"), "the reload")
        assert psutil.Process(daemon.process.pid).num_threads() <= threads + 10
        assert daemon.stop() == 0
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize("descriptors", [8, 11])
def test_a_start_with_too_few_descriptors_is_told_in_a_line(
    descriptors: int, simulator: Simulator, tmp_path: Path
) -> None:
    """The status is 1, and there is no traceback."""
    path = tmp_path / "config.yaml"
    path.write_text(config(simulator, "bank"))
    command = [sys.executable, str(ROOT / "exporter.py"), f"--config.file={path}", "--web.listen-address=127.0.0.1:0"]
    ended = subprocess.run(  # noqa: S603
        ["prlimit", f"--nofile={descriptors}", *command],  # noqa: S607 - util-linux
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("vcc-exporter: ")
    assert "Too many open files" in last
    assert "Traceback" not in ended.stderr
    assert "Warning" not in ended.stderr


def test_a_limit_of_memory_fails_the_poll_that_needs_it_and_no_other(start_daemon: StartDaemon) -> None:
    """What an answer of megabytes takes is not to be had: that customer's polls fail in words until it is."""
    padding = [0]

    def handle(connection: socket.socket) -> None:
        while read_request(connection):
            # Small for the page, and several times its size while it is read.
            rows = [{"projectid": 7, "queueid": 8, "answered_before": 9, "padding": "x" * padding[0]}]
            connection.sendall(http_response(json.dumps({"response": rows, "errors": []}).encode()))

    with Simulator() as simulator, raw_server(handle) as port:
        other = f"  - {{name: large, url: 'http://127.0.0.1:{port}', api_key: k, timezone: {noon_zone()}}}\n"
        daemon = start_daemon(config(simulator, "bank", extra=other))
        more_polls(daemon, "bank")
        more_polls(daemon, "large")
        # Address space would be no limit, as a good part of it is set aside for each thread.
        with limit(daemon, resource.RLIMIT_DATA, in_status(daemon, "VmData") + 2**20):
            padding[0] = 7_500_000
            more_polls(daemon, "large", "invalid_response")
            page = more_polls(daemon, "bank")
            assert one(page, "vcc_up", customer="bank") == 1
            assert one(page, "vcc_up", customer="large") == 0
        more_polls(daemon, "large")
        assert daemon.stop() == 0
    assert "a fault of the exporter itself (MemoryError)" in daemon.log
    assert "Traceback" not in daemon.log


FEW_THREADS: Final = ("setpriv", "--reuid=1000660001", "--regid=0", "--clear-groups", "--no-new-privs")
"""Become a user of whom there is no other process; with no right but to read what is root's, if a Python lies there."""
READ_ALL: Final = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")


@AS_ROOT
def test_where_no_thread_is_to_be_had_polls_wait_for_their_turn(
    start_daemon: StartDaemon, simulator: Simulator, tmp_path: Path
) -> None:
    """With no thread more than at the start, customers that a reload brings are polled all the same.

    Only one whose API has a name that is to be looked up is not, and is told why.
    """
    named, *names = [name for name in (f"c{i}" for i in range(40)) if shard_of(name, 2) == 0][:4]
    stranger = next(name for name in (f"c{i}" for i in range(40)) if shard_of(name, 2) == 1)
    tmp_path.chmod(0o755)
    daemon = start_daemon(config(simulator, stranger), "--shard=0", "--total-shards=2", under=[*FEW_THREADS, *READ_ALL])
    assert psutil.Process(daemon.process.pid).uids().real == 1000660001
    # What answers and reloads has its threads by now; those of polls are none.
    daemon.page()
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: "config reloaded" in daemon.log, "a reload")
    own = ["prlimit", f"--pid={daemon.process.pid}", "--nproc=1"]
    subprocess.run([*FEW_THREADS, *own], check=True)  # noqa: S603
    account = f"url: 'http://localhost:{simulator.port}', api_key: k, timezone: UTC"
    text = config(simulator, *names, extra=f"  - {{name: {named}, {account}}}\n")
    (tmp_path / "config.yaml").write_text(text)
    daemon.process.send_signal(signal.SIGHUP)
    more_polls(daemon, named, "unreachable")
    for name in names:
        more_polls(daemon, name)
    assert daemon.stop() == 0
    assert "no thread to look up the name" in daemon.log


DYING: Final = """
import threading
from apscheduler.schedulers.base import BaseScheduler
process = BaseScheduler._process_jobs
def die(self):
    if threading.Event().wait({after}):
        return None
    raise MemoryError
BaseScheduler._process_jobs = die
"""


def test_a_part_that_dies_takes_the_process_with_it(
    start_daemon: StartDaemon, simulator: Simulator, tmp_path: Path
) -> None:
    """Polls that would never be made again look alive from outside: the status is 1, and a line says what died."""
    (tmp_path / "sitecustomize.py").write_text(DYING.format(after=1))
    daemon = start_daemon(config(simulator, "bank"), env={"PYTHONPATH": str(tmp_path)})
    assert daemon.process.wait(60) == 1
    last = daemon.log.splitlines()[-1]
    assert last.startswith("vcc-exporter: ")
    assert "APScheduler" in last
    assert "MemoryError" in last
    assert "Traceback" not in daemon.log


# Time.


def passed_s(seconds: float) -> None:
    """Let time pass, which is what the test is about."""
    threading.Event().wait(seconds)


def asked_while_stopped(daemon: Daemon, meanwhile: Callable[[], None]) -> Samples:
    """Stop a process, do something, let it go on, and return the page of a scrape that was under way all the time."""
    host, _, port = daemon.addresses[0].rpartition(":")
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: psutil.Process(daemon.process.pid).status() == psutil.STATUS_STOPPED, "it to stop")
        with socket.create_connection((host, int(port)), 60) as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            meanwhile()
            daemon.process.send_signal(signal.SIGCONT)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    return parse_page(answer.partition(b"\r\n\r\n")[2].decode())


def test_an_hour_asleep_over_midnight_shows_nothing_of_yesterday(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """The first scrape after it, sent while it slept, shows no value of the day that is over; the new day's follow."""
    now = datetime.now(UTC)  # noqa: TID251 - the daemon's clock is this one, moved
    tomorrow = now.astimezone(BUDAPEST).date() + timedelta(days=1)
    before_midnight = (day_start(BUDAPEST, tomorrow) - now).total_seconds() - 1800
    offset = tmp_path / "offset"

    def move(seconds: float) -> None:
        offset.with_suffix(".new").write_text(f"{seconds:+.0f}s")
        offset.with_suffix(".new").rename(offset)

    move(before_midnight)
    settings = faketime(FAKETIME_TIMESTAMP_FILE=str(offset), FAKETIME_NO_CACHE="1")
    today, next_day = (int(f"{day:%Y%m%d}") for day in (tomorrow - timedelta(days=1), tomorrow))
    with raw_server(dated_api([])) as port:
        daemon = start_daemon(dated_config(port), env=settings)
        daemon.wait_for(lambda page: shown_day(page) == today, "the day's value")
        page = asked_while_stopped(daemon, lambda: move(before_midnight + 3600))
        assert shown_day(page) in {None, next_day}
        daemon.wait_for(lambda page: shown_day(page) == next_day, "the next day's value")
        more_polls(daemon, "acme")
        assert daemon.stop() == 0


def test_what_got_old_while_it_slept_is_not_shown(start_daemon: StartDaemon, simulator: Simulator) -> None:
    """A scrape sent while it slept past stale_after sees no values, or those of a poll after that."""
    text = config(simulator, "bank", interval="1s").replace("timeout", "stale_after: 1500ms, timeout")
    daemon = start_daemon(text)
    page = daemon.wait_for(lambda page: page if one(page, "vcc_up", customer="bank") else None, "values")
    last = "vcc_poll_last_success_timestamp_seconds"
    before = one(page, last, customer="bank") or 0
    page = asked_while_stopped(daemon, lambda: passed_s(3))
    after = one(page, last, customer="bank") or 0
    assert one(page, "vcc_up", customer="bank") == (1 if after > before + 2 else 0)
    more_polls(daemon, "bank")
    assert daemon.stop() == 0


@pytest.mark.parametrize("zone", ["Nowhere/Bogus", "CET-1CEST,M3.5.0,M10.5.0/3", ":/etc/nowhere"])
def test_the_machines_own_timezone_means_nothing(start_daemon: StartDaemon, simulator: Simulator, zone: str) -> None:
    """One that does not exist, or has no name, as it may stand in a container's environment."""
    daemon = start_daemon(config(simulator, "bank"), env={"TZ": zone})
    page = more_polls(daemon, "bank")
    assert one(page, "vcc_up", customer="bank") == 1
    eventually(lambda: any("/v2/projects" in seen.path for seen in simulator.requests), "the names to be asked for")
    assert daemon.stop() == 0
    assert "fault" not in daemon.log


def test_time_zone_data_may_go_or_change_while_it_runs(
    start_daemon: StartDaemon, simulator: Simulator, tmp_path: Path
) -> None:
    """Each zone stays what it was at the start, also after a reload; a restart takes what there is, tzdata at worst."""
    zones = tmp_path / "zones"

    def put(data_of: str) -> None:
        (zones / "Europe").mkdir(parents=True, exist_ok=True)
        folder, _, name = data_of.partition("/")
        data = importlib.resources.files(f"tzdata.zoneinfo.{folder}").joinpath(name).read_bytes()
        (zones / "Europe" / "Budapest").write_bytes(data)

    def start_of_day(daemon: Daemon) -> float | None:
        return one(more_polls(daemon, "bank"), "vcc_inbound_day_start_timestamp_seconds", customer="bank")

    def expected(zone: str) -> set[float]:
        now = datetime.now(ZoneInfo(zone))  # noqa: TID251 - the daemon under test uses the real clock
        # A midnight may come in between.
        return {day_start(ZoneInfo(zone), (now - timedelta(hours=h)).date()).timestamp() for h in (0, 1)}

    # Two zones whose days never begin at the same instant.
    put("Asia/Tokyo")
    text = config(simulator, "bank", zone="Europe/Budapest")
    daemon = start_daemon(text, env={"PYTHONTZPATH": str(zones)})
    assert start_of_day(daemon) in expected("Asia/Tokyo")
    for reloads, change in enumerate([partial(put, "America/New_York"), partial(shutil.rmtree, zones)], 1):
        change()
        daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: daemon.log.count("config reloaded") == reloads, "the reload")  # noqa: B023 - at once
        assert start_of_day(daemon) in expected("Asia/Tokyo")
    assert daemon.stop() == 0
    again = start_daemon(text, env={"PYTHONTZPATH": str(zones)})
    assert start_of_day(again) in expected("Europe/Budapest")
    assert again.stop() == 0


@pytest.mark.parametrize(("damaged", "words"), [(True, "cannot be read"), (False, "no time zone data")])
def test_missing_time_zone_data_are_told_as_that(
    simulator: Simulator, tmp_path: Path, damaged: bool, words: str
) -> None:
    """Nobody looks for a slip in a name that is right: one line says what is the matter with the machine."""
    path = tmp_path / "config.yaml"
    path.write_text(config(simulator, "bank", zone="Europe/Budapest"))
    (tmp_path / "tzdata").mkdir()
    (tmp_path / "tzdata" / "__init__.py").touch()
    if damaged:
        (tmp_path / "zones" / "Europe").mkdir(parents=True)
        (tmp_path / "zones" / "Europe" / "Budapest").write_bytes(b"TZif2 cut o")
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONTZPATH": str(tmp_path / "zones")}
    command = [sys.executable, str(ROOT / "exporter.py"), f"--config.file={path}", "--web.listen-address=127.0.0.1:0"]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert words in line
    assert "install tzdata" in line
    assert "did you mean" not in line


# Files.


def test_a_read_only_root_is_enough(start_daemon: StartDaemon, simulator: Simulator) -> None:
    """Values come, a reload works, and nothing is said of a file that could not be written."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    script = 'mount -o remount,bind,ro / && exec "$@"'
    under = ["unshare", *user, "--mount", "sh", "-c", script, "sh"]
    if subprocess.run([*under, "true"], capture_output=True, check=False).returncode:  # noqa: S603
        pytest.skip("no mounts of one's own here")
    daemon = start_daemon(config(simulator, "bank"), under=under)
    mounts = Path(f"/proc/{daemon.process.pid}/mounts").read_text()
    assert re.search(r"^\S+ / \S+ ro\b", mounts, re.MULTILINE)
    more_polls(daemon, "bank")
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: "config reloaded" in daemon.log, "the reload")
    more_polls(daemon, "bank")
    assert fetch(f"{daemon.url}/")[0] == 200
    assert daemon.stop() == 0
    assert re.findall(r"level=(?!info)\w+", daemon.log) == []
