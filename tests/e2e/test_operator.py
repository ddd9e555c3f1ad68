"""What operators do, all at once: signals, large configs, configs that change while they are read, taken ports."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil
import pytest
from conftest import StartDaemon
from running import ROOT, Daemon, Samples, eventually, fetch, free_port, noon_zone, one, parse_page

from vcc_exporter.schedule import POLLS_AT_ONCE
from vcc_exporter.simulator import Simulator
from vcc_exporter.vocabulary import STATISTICS

LOADED: Final = "vcc_exporter_config_last_reload_success_timestamp_seconds"
MANY: Final = 5_000


def real(simulator: Simulator, name: str = "bank") -> str:
    """Return the config's lines of a customer that is polled."""
    account = f"subdomain: bank, url: '{simulator.url}', api_key: {simulator.centres['bank'].key}"
    # The queue has a name, so that it is known from the first poll on.
    project = "projects: [{id: 101, queues: {1101: Hotline}}]"
    return f"  - {{name: {name}, {account}, timezone: {noon_zone()}, poll: {{interval: 1s}}, {project}}}\n"


def keyless(count: int) -> str:
    """Return the config's lines of customers that have no key, so that nobody is asked for them."""
    line = "  - {{name: n{}, api_key_file: nowhere, timezone: Europe/Budapest, poll: {{interval: 1h}}}}\n"
    return "".join(line.format(number) for number in range(count))


def hanging(mute: socket.socket, count: int) -> str:
    """Return the config's lines of customers whose API takes connections and never answers."""
    url = f"http://127.0.0.1:{mute.getsockname()[1]}"
    line = "  - {{name: h{}, url: '{}', api_key: k3y, timezone: UTC, poll: {{interval: 1s, timeout: 1m}}}}\n"
    return "".join(line.format(number, url) for number in range(count))


def config(*customers: str) -> str:
    """Return a config of these customers."""
    return "poll: {timeout: 5s, lookback: 0}\ncustomers:\n" + "".join(customers)


def polls(page: Samples, customer: str = "bank") -> float:
    """Return how many polls of a customer succeeded."""
    return one(page, "vcc_polls_total", customer=customer, result="success") or 0


def more_polls(daemon: Daemon) -> None:
    """Wait for two more polls of the real customer; of thousands only its own lines are read."""

    def seen() -> float:
        return polls(parse_page(fetch(f"{daemon.url}/metrics?customer[]=bank")[1].decode()))

    before = seen()
    eventually(lambda: seen() > before + 1, "polls")


@contextmanager
def scraped(daemon: Daemon) -> Iterator[list[bytes]]:
    """Scrape all the time while the block runs; every page is whole and has the real customer's numbers."""
    stop, pages, faults = threading.Event(), list[bytes](), list[str]()

    def scrape() -> None:
        while not stop.wait(0.1):
            try:
                status, page, _ = fetch(f"{daemon.url}/metrics?customer[]=bank")
            except OSError as error:
                faults.append(repr(error))
                continue
            metrics = {s.metric for s in STATISTICS}
            whole = all(f'{name}{{customer="bank"'.encode() in page for name in metrics)
            if status != 200 or not whole or b'vcc_up{customer="bank"} 1' not in page:
                faults.append(page.decode())
            pages.append(page)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield pages
    finally:
        stop.set()
        thread.join()
    assert pages
    assert not faults, faults[0]


def reloads(daemon: Daemon) -> int:
    """Return how often the config was loaded again."""
    return daemon.log.count("config reloaded")


def test_fifty_hangups_in_a_second_with_five_thousand_customers(
    start_daemon: StartDaemon, simulator: Simulator, tmp_path: Path
) -> None:
    """They are obeyed as a few, the last one's config counts, scrapes go on, and nothing is left of them."""
    path = tmp_path / "config.yaml"
    with socket.create_server(("127.0.0.1", 0), backlog=2 * POLLS_AT_ONCE) as mute:
        # Else the threads that come later may be the pool's, which makes one more whenever all that it has are busy.
        daemon = start_daemon(config(real(simulator), hanging(mute, POLLS_AT_ONCE)))
        process = psutil.Process(daemon.process.pid)
        eventually(lambda: process.num_threads() >= POLLS_AT_ONCE, "all threads that the pool may have")
    path.write_text(config(real(simulator), keyless(MANY)))
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: f"customers={MANY + 1}" in daemon.log, "the many customers")
    more_polls(daemon)

    def storm(customers: int) -> tuple[int, int, int]:
        """Change the config amid hangups, wait until it counts, and return memory, threads and descriptors."""
        before, seen = reloads(daemon), len(daemon.log)
        for number in range(50):
            if number == 25:
                path.write_text(config(real(simulator), keyless(customers)))
            daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: f"customers={customers + 1}" in daemon.log[seen:], "the last config to count")
        more_polls(daemon)
        assert 1 <= reloads(daemon) - before <= 10
        return process.memory_info().rss, process.num_threads(), process.num_fds()

    with scraped(daemon):
        memory, threads, descriptors = storm(MANY)
        later = storm(MANY - 1)
    assert later[0] < memory * 1.25 + 32 * 2**20
    assert later[1] <= threads + 20
    assert later[2] <= descriptors + 10
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log


def test_a_config_that_is_written_while_it_is_read_loses_no_customer(
    start_daemon: StartDaemon, simulator: Simulator, tmp_path: Path
) -> None:
    """A file replaced by rename is one config or the other, however often it is read meanwhile."""
    path = tmp_path / "config.yaml"
    texts = [config(real(simulator), keyless(count)) for count in (300, 301)]
    daemon = start_daemon(texts[0])
    more_polls(daemon)
    with scraped(daemon) as pages:
        number = 0
        while number < 100 or (len(pages) < 3 and number < 100_000):
            number += 1
            path.with_suffix(".new").write_text(texts[number % 2])
            path.with_suffix(".new").rename(path)
            daemon.process.send_signal(signal.SIGHUP)
            assert daemon.process.poll() is None
        eventually(
            lambda: daemon.log.rpartition("config reloaded")[2].startswith(f'" customers={301 + number % 2}\n'),
            "the last config",
        )
    assert "config not reloaded" not in daemon.log
    assert daemon.stop() == 0


@pytest.mark.parametrize("again", [False, True])
def test_the_same_port_twice_is_told_in_a_line(
    again: bool, start_daemon: StartDaemon, simulator: Simulator, tmp_path: Path
) -> None:
    """By one process or by two: the status is 1, the line names the flag, and who was first serves on."""
    path, port = tmp_path / "second.yaml", free_port()
    path.write_text(config(real(simulator)))
    flag = f"--web.listen-address=127.0.0.1:{port}"
    first = None if again else start_daemon(config(real(simulator)), flag)
    command = [sys.executable, str(ROOT / "exporter.py"), f"--config.file={path}", flag, *([flag] if again else [])]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        f"vcc-exporter: cannot listen on 127.0.0.1:{port} (--web.listen-address): Address already in use"
    )
    if first:
        more_polls(first)
        assert first.stop() == 0


@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGINT, signal.SIGHUP),
        (signal.SIGHUP, signal.SIGTERM),
        (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP, signal.SIGINT),
    ],
    ids=lambda numbers: "-".join(number.name for number in numbers),
)
def test_signals_at_once_end_it_well(
    numbers: tuple[signal.Signals, ...], start_daemon: StartDaemon, simulator: Simulator
) -> None:
    """Whatever comes with it, an end is an end: the status is 0, without a traceback, a reload under way or not."""
    daemon = start_daemon(config(real(simulator), keyless(500)))
    # Stopped, it finds them all at once.
    daemon.process.send_signal(signal.SIGSTOP)
    for number in numbers:
        daemon.process.send_signal(number)
    daemon.process.send_signal(signal.SIGCONT)
    assert daemon.process.wait(20) == 0
    assert "Traceback" not in daemon.log
    assert "unexpected fault" not in daemon.log


def test_hangups_before_it_is_up_do_not_end_it(simulator: Simulator, tmp_path: Path) -> None:
    """From the first module on they are of no harm, and it serves."""
    path, port = tmp_path / "config.yaml", free_port()
    path.write_text(config(real(simulator)))
    flags = [f"--config.file={path}", f"--web.listen-address=127.0.0.1:{port}"]
    command = [sys.executable, "-X", "importtime", str(ROOT / "exporter.py"), *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        try:
            assert process.stderr
            for line in process.stderr:
                if line.endswith("vcc_exporter\n"):
                    break
            # The door's module is next; what it loads comes after the signals are set.
            begun = False
            for line in process.stderr:
                begun = begun or "asyncio" in line
                if begun:
                    process.send_signal(signal.SIGHUP)
                if "msg=started" in line:
                    break
            assert fetch(f"http://127.0.0.1:{port}/-/healthy")[0] == 200
            process.send_signal(signal.SIGTERM)
            process.stderr.read()
            assert process.wait(20) == 0
        finally:
            process.kill()
