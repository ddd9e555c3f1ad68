"""The demo, as a newcomer meets it."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from reading import read_html
from running import LOOPBACK, ROOT, Daemon, Samples, end, eventually, fetch, names_with, one

from vcc_exporter.simulator import DEMO_PORT, Simulator
from vcc_exporter.vocabulary import STATISTICS, Result

CENTRES = ("bank", "webshop", "roadside", "utility")


@contextmanager
def demo(output: Path, folder: Path = ROOT) -> Iterator[Daemon]:
    """Run the demo from a folder, once its screen is there; what it writes goes to a file."""
    with output.open("wb") as file:
        command = [sys.executable, str(ROOT / "exporter.py"), "--demo", "--log.level=info", LOOPBACK]
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=folder)  # noqa: S603
    try:
        daemon = Daemon(process, output)
        daemon.wait_until_listening(1)
        eventually(lambda: "Ctrl-C ends this." in daemon.log, "the screen")
        yield daemon
    finally:
        end(process)


def screen(daemon: Daemon) -> list[str]:
    """Return the lines of the demo's screen, without those of the log."""
    return [line for line in daemon.log.splitlines() if not line.startswith("ts=")]


def commands(daemon: Daemon) -> list[list[str]]:
    """Return the commands on the screen, each in its words."""
    lines = [line.strip() for line in screen(daemon) if "vcc_exporter.simulator" in line]
    return [shlex.split(re.split(r" {2,}", line)[0]) for line in lines]


def run(command: list[str], folder: Path = ROOT) -> str:
    """Run a command of the screen, which must succeed, and return what it says."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_demo_needs_no_config_and_its_numbers_move(tmp_path: Path) -> None:
    """Four call centres are polled, each with all nineteen statistics, and within a minute some number grows."""
    with demo(tmp_path / "output", tmp_path) as daemon:

        def calls(page: Samples) -> float:
            return sum(value for (name, _), value in page.items() if name.endswith("_calls") and "target" not in name)

        def learnt(page: Samples) -> Samples | None:
            # Queues are known from the lookback, also of a call centre that is closed now.
            whole = all({s.metric for s in STATISTICS} <= names_with(page, customer=name) for name in CENTRES)
            return page if whole and all(one(page, "vcc_up", customer=name) for name in CENTRES) else None

        before = calls(daemon.wait_for(learnt, "all four call centres"))
        daemon.wait_for(lambda page: calls(page) != before, "a number that moves", 120)
        assert daemon.stop() == 0


def test_the_screen_is_short_and_leads_to_the_page(tmp_path: Path) -> None:
    """It fits a terminal of 100 columns and 22 lines, and its addresses are the page's and the metrics'."""
    with demo(tmp_path / "output") as daemon:
        lines = screen(daemon)
        assert len(lines) <= 22
        assert {line for line in lines if len(line) > 100} == set()
        page, metrics = (line.split()[0] for line in lines if "http://" in line and "--at" not in line)
        assert (page, metrics) == (f"{daemon.url}/", f"{daemon.url}/metrics")
        assert "these call centres, their callers and their agents are simulated" in fetch(page)[1].decode()
        assert fetch(metrics)[0] == 200
        assert {name for name in CENTRES if any(name in line for line in lines)} == set(CENTRES)


@pytest.mark.timeout(300)
def test_each_command_on_the_screen_does_what_it_says(tmp_path: Path) -> None:
    """The faults are told by the metrics and on the page, the cure heals, and the surge is one."""
    with demo(tmp_path / "output") as daemon:
        tries = {tuple(command[-2:]): command for command in commands(daemon)}
        wanted = {
            ("bank", "unauthorized"): Result.UNAUTHORIZED,
            ("roadside", "slow"): Result.TIMEOUT,
            ("utility", "half"): Result.INVALID_RESPONSE,
        }
        assert set(tries) == {*wanted, ("bank", "well"), ("webshop", "surge")}
        daemon.wait_for(lambda page: all(one(page, "vcc_up", customer=name) for name in CENTRES), "four good polls")
        for centre, fault in wanted:
            assert run(tries[centre, fault]).startswith(f"{centre}: {fault}\n")
        for (centre, _), result in wanted.items():
            daemon.wait_for(
                lambda page, c=centre, r=result: one(page, "vcc_polls_total", customer=c, result=r),  # type: ignore[misc]
                f"{centre} to be told as {result}",
            )
            page = read_html(fetch(f"{daemon.url}/?customer%5B%5D={centre}")[1].decode())
            assert f"The last poll failed ({result})" in page.one("section", "card").text
        assert run(tries["bank", "well"]).startswith("bank: all is well\n")
        daemon.wait_for(lambda page: one(page, "vcc_up", customer="bank"), "the bank to be well again")
        assert "last poll failed" not in fetch(f"{daemon.url}/?customer%5B%5D=bank")[1].decode()
        assert run(tries["webshop", "surge"]).startswith("webshop: surge\n")
        assert daemon.stop() == 0


def take_demo_port(stack: ExitStack) -> bool:
    """Put a simulator where a demo would have its own. Returns whether that could be done."""
    try:
        stack.enter_context(Simulator(port=DEMO_PORT))
    except OSError:
        return False
    return True


def test_a_second_demo_has_a_simulator_of_its_own(tmp_path: Path) -> None:
    """Where the port is taken, the commands on the screen name the other, and reach this demo's."""
    with ExitStack() as stack:
        with suppress(AssertionError):  # as where somebody's own demo has it, which is as good
            eventually(lambda: take_demo_port(stack), "a demo of another test to be over", timeout_s=40)
        daemon = stack.enter_context(demo(tmp_path / "output"))
        command = commands(daemon)[0]
        assert any(word.startswith("--at=http://127.0.0.1:") for word in command)
        assert f"--at=http://127.0.0.1:{DEMO_PORT}" not in command
        assert {line for line in screen(daemon) if len(line) > 100} == set()
        daemon.wait_for(lambda page: one(page, "vcc_up", customer="bank"), "a good poll")
        run(command)
        daemon.wait_for(
            lambda page: one(page, "vcc_polls_total", customer="bank", result=Result.UNAUTHORIZED), "the refusal"
        )


def test_started_from_elsewhere_the_screen_says_where_its_commands_run(tmp_path: Path) -> None:
    """From another folder, the program's own is named, and there the commands run."""
    with demo(tmp_path / "output", tmp_path) as daemon:
        (line,) = [line for line in screen(daemon) if line.startswith("Rehearse")]
        folder = Path(line.partition(", in ")[2].partition(", and watch")[0])
        assert folder == ROOT
        assert run(commands(daemon)[0], folder).startswith("bank: unauthorized\n")
