"""`make stack` with everything real: the past, the rules, an alert on its way, and the end of it all."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import psutil
import pytest
from running import ROOT, Prometheus, end, eventually

from tools.history import STEP, instants
from tools.stack import Ports, configs
from vcc_exporter import config_file, times
from vcc_exporter.answer import read_statistics
from vcc_exporter.poll import questions
from vcc_exporter.schedule import place
from vcc_exporter.simulator import DEMO_CENTRES, Simulator, demo_config
from vcc_exporter.vocabulary import STATISTICS

SHIPPED = Ports.shipped(0)
CUSTOMERS = config_file.parse(demo_config("http://simulator.test"), "demo", ROOT).customers


@dataclass
class Running:
    """The stack, as `make` runs it."""

    process: subprocess.Popen[bytes]
    output: Path
    folder: Path
    """Where its temporary files are."""
    ports: Ports

    @property
    def said(self) -> str:
        """Return everything that it has written so far."""
        return self.output.read_text(errors="replace")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until it has written something that fits a pattern, and return that."""
        eventually(lambda: re.search(pattern, self.said) or self.process.poll() is not None, pattern, 110)
        found = re.search(pattern, self.said)
        assert found, self.said
        return found

    def parts(self) -> list[psutil.Process]:
        """Return every process that it has started, and those started by them."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def interrupt(self) -> list[psutil.Process]:
        """Press Ctrl-C, which goes to all that run in the foreground; returns what ran."""
        ran = self.parts()
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(20)
        return ran


def numbers(ports: Ports) -> tuple[int, ...]:
    """Return all of them."""
    return ports.exporter, ports.prometheus, ports.alertmanager, ports.receiver


def are_free(ports: Ports) -> bool:
    """Tell whether nobody listens on any of them."""
    try:
        for port in numbers(ports):
            socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def free_offset() -> int:
    """Return an offset with which every port of the shipped files is free, and none is one that a client may get."""
    offsets = (random.randint(1_000, 20_000) for _ in range(100))  # noqa: S311 - no secret
    return next(offset for offset in offsets if are_free(Ports.shipped(offset)))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start the stack by `make`, on ports that are free."""
    with ExitStack() as stack:

        def begin(*flags: str) -> Running:
            offset = free_offset()
            folder = tmp_path / "temporary"
            folder.mkdir(exist_ok=True)
            output = tmp_path / "said"
            arguments = " ".join([f"--port-offset={offset}", *flags])
            command = ["make", "--assume-old=.venv/run", f"BIN={Path(sys.executable).parent}", "stack"]
            with output.open("wb") as file:
                process = subprocess.Popen(  # noqa: S603
                    [*command, f"ARGS={arguments}"],
                    cwd=ROOT,
                    stdout=file,
                    stderr=file,
                    env={**os.environ, "TMPDIR": str(folder)},
                    start_new_session=True,
                )
            stack.callback(end, process)
            return Running(process, output, folder, Ports.shipped(offset))

        yield begin


def assert_nothing_is_left(running: Running, ran: list[psutil.Process]) -> None:
    """Nothing that it started runs, no file of it is there, and its ports are free."""
    assert ran
    _, alive = psutil.wait_procs(ran, timeout=10)
    assert not alive, alive
    assert list(running.folder.iterdir()) == []
    assert are_free(running.ports)
    assert "Traceback" not in running.said


OFFERED = "answered_before", "answered_after", "abort_in_queue_before", "abort_in_queue_after"

Shown = dict[tuple[str, str, str, str], float]
"""By metric, customer, project and queue."""


def answered(at: datetime) -> Shown:
    """Return the simulator's answers to the last polls before an instant."""
    shown: Shown = {}
    for customer in CUSTOMERS:
        polled = at - customer.interval * place(customer.name)
        simulator = Simulator(DEMO_CENTRES, now=lambda polled=polled: polled)  # type: ignore[misc]
        day, key = times.local_date(customer.zone, polled), simulator.centres[customer.name].key
        for question, scope in questions(customer, day, day):
            answer = read_statistics(simulator.reply("GET", question.target(), (customer.name, key)).body, day, scope)
            for (project, queue), values in answer.values.items():
                for statistic, value in zip(STATISTICS, values, strict=True):
                    shown[statistic.metric, customer.name, str(project), str(queue)] = value or 0.0
    return shown


def stored(prometheus: Prometheus, at: datetime) -> Shown:
    """Return what Prometheus knows of an instant, but for queues without calls."""
    names = "|".join(statistic.metric for statistic in STATISTICS)
    asked = urlencode({"query": f'{{__name__=~"{names}"}}', "time": at.timestamp()})
    found = prometheus.get(f"/api/v1/query?{asked}")["result"]
    labels = "__name__", "customer", "project", "queue"
    values = {tuple(s["metric"][label] for label in labels): float(s["value"][1]) for s in found}
    counted = {key[1:] for key, value in values.items() if value}
    return {(a, b, c, d): value for (a, b, c, d), value in values.items() if (b, c, d) in counted}


def offered(prometheus: Prometheus, until: datetime) -> dict[datetime, dict[str, float]]:
    """Return by instant what was recorded in the twenty minutes before of each customer's offered calls of the day."""
    asked = urlencode({"query": "customer:vcc_inbound_offered_calls:today[20m]", "time": until.timestamp()})
    found: dict[datetime, dict[str, float]] = defaultdict(dict)
    for series in prometheus.get(f"/api/v1/query?{asked}")["result"]:
        for at, value in series["values"]:
            found[datetime.fromtimestamp(at, UTC)][series["metric"]["customer"]] = float(value)
    assert len(found) >= 3
    return found


def offered_by_customer(shown: Shown) -> dict[str, float]:
    """Return the sums that are recorded as offered."""
    names = {f"vcc_inbound_{name}_calls" for name in OFFERED}
    return {
        customer.name: sum(v for (metric, name, *_), v in shown.items() if metric in names and name == customer.name)
        for customer in CUSTOMERS
    }


@pytest.mark.timeout(300)
def test_the_stack_knows_the_past_hears_of_a_fault_and_goes_without_a_trace(start: Callable[..., Running]) -> None:
    """Past numbers are the simulator's, the rules see past weeks, an alert is printed, and Ctrl-C ends it all."""
    running = start("--history=15d", "--only=1h", "--hurry")
    command = running.wait_for(r"\n  (.+ \S+) unauthorized\n")[1]
    customer = command.split()[-1]
    prometheus = Prometheus(f"http://127.0.0.1:{running.ports.prometheus}")
    now = datetime.now(UTC)  # noqa: TID251 - the stack uses the real clock
    for weeks in (1, 2):
        last_weeks = now - timedelta(weeks=weeks)
        sample = list(instants(last_weeks - timedelta(minutes=50), last_weeks))[::5]
        assert len(sample) > 2
        for at in sample:
            assert stored(prometheus, at) == answered(at)
        for at, recorded in offered(prometheus, last_weeks).items():
            assert recorded == offered_by_customer(answered([*instants(at - STEP, at + timedelta(seconds=1))][-1]))

    for series in ("increase30m", "increase30m_1w", "increase30m_2w"):
        query = f'project:vcc_inbound_offered_calls:{series}{{customer="{customer}"}}'
        found = eventually(lambda query=query: prometheus.query(query), query)  # type: ignore[misc]
        assert sum(found.values()) > 0
    groups = prometheus.get("/api/v1/rules")["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"] if rule.get("lastError")] == []

    for what, status in (("unauthorized", "firing"), ("well", "resolved")):
        subprocess.run(["sh", "-c", f"{command} {what}"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603, S607
        running.wait_for(rf"to call +{status} +VccCredentialsRefused +{customer} +critical +\w+")
    assert_nothing_is_left(running, running.interrupt())


@pytest.mark.timeout(300)
def test_the_stack_can_be_ended_while_it_makes_history(start: Callable[..., Running]) -> None:
    """SIGTERM in the middle of four weeks ends what makes them, too, with status 0."""
    running = start()
    eventually(lambda: list(running.folder.glob("*/*.om")), "the first lines of history")
    ran = running.parts()
    assert sum("tools.history" in " ".join(part.cmdline()) for part in ran) == 2
    next(part for part in ran if "tools.stack" in part.cmdline()).terminate()
    assert running.process.wait(20) == 0
    assert_nothing_is_left(running, ran)


@pytest.mark.timeout(300)
def test_the_stack_can_be_ended_while_it_records_what_the_rules_make_of_history(start: Callable[..., Running]) -> None:
    """Ctrl-C waits for the Prometheus that is asked about the past, and for what promtool leaves half done."""
    running = start("--only=1h")

    def recording() -> bool:
        with suppress(psutil.NoSuchProcess):  # promtool never runs for long
            return {"prometheus", "promtool"} <= {part.name() for part in running.parts()}
        return False

    eventually(recording, "the rules to be evaluated")
    assert_nothing_is_left(running, running.interrupt())


@pytest.mark.timeout(300)
def test_when_a_part_of_the_stack_ends_so_do_all_others(start: Callable[..., Running]) -> None:
    """It says which part, with that part's last words, and exits with status 1."""
    running = start("--no-history")
    running.wait_for("Ctrl-C ends all of this")
    ran = running.parts()
    next(part for part in ran if "alertmanager" in part.name()).kill()
    assert running.process.wait(20) == 2  # what make makes of 1
    assert "stack: Alertmanager has ended (SIGKILL), and so has the rest." in running.said
    assert "Error 1" in running.said
    assert_nothing_is_left(running, ran)


@pytest.mark.parametrize("name", ["exporter", "prometheus", "alertmanager", "receiver"])
def test_the_stack_starts_nothing_where_a_port_is_taken(name: str) -> None:
    """It names the port, and whose it is to be, and exits with status 1."""
    offset = free_offset()
    port = getattr(Ports.shipped(offset), name)
    with socket.create_server(("127.0.0.1", port)):
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "tools.stack", f"--port-offset={offset}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"stack: something listens already on port {port}, for " in done.stderr
    assert "Nothing was started." in done.stderr


def test_the_stack_runs_on_the_files_that_are_shipped(tmp_path: Path) -> None:
    """Without an offset and without hurry they are used where they are, with the ports that the documents name."""
    assert configs(tmp_path, 0, hurry=False) == ROOT / "prometheus"
    assert numbers(SHIPPED) == (10742, 9090, 9093, 9199)
