"""The one-shot commands as processes: what a person or a script gets on which stream, and when."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT

from vcc_exporter.simulator import Simulator

pytestmark = pytest.mark.usefixtures("no_environment")


@pytest.fixture(autouse=True)
def _users_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the processes the buffers that a user's Python has."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def entry(simulator: Simulator, name: str, key: str | None = None, account: str | None = None) -> str:
    """Return a config's entry of a customer with name, key and timezone, and where the simulator is."""
    account = account or name
    centre = simulator.centres[account]
    return (
        f"  - name: {name}\n    subdomain: {account}\n    url: {simulator.url}\n"
        f"    api_key: {key or centre.key}\n    timezone: {centre.zone}\n    poll: {{timeout: 10m, lookback: 0}}\n"
    )


def write(folder: Path, *entries: str) -> Path:
    """Write a config file."""
    file = folder / "config.yaml"
    file.write_text("customers:\n" + "".join(entries))
    return file


def command(file: Path, *arguments: str) -> list[str]:
    """Return the command line."""
    return [sys.executable, str(ROOT / "exporter.py"), *arguments, f"--config.file={file}"]


def run(file: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command and return its status and what it wrote."""
    ended = subprocess.run(command(file, *arguments), capture_output=True, text=True, timeout=100, check=False)  # noqa: S603
    return ended.returncode, ended.stdout, ended.stderr


def test_a_check_online_has_a_line_for_each_customer_and_one_for_all(simulator: Simulator, tmp_path: Path) -> None:
    """It ends with 0 where all are good; nothing is on stderr where nobody watches."""
    file = write(tmp_path, entry(simulator, "bank"), entry(simulator, "webshop"))
    status, out, err = run(file, "check-config", "--online")
    assert (status, err) == (0, "")
    *lines, last = out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["bank", "webshop"]
    assert all(re.match(r"\w+: good: (\d+ rows?, the zone seems right|no calls yet today)", line) for line in lines)
    assert last == f"{file}: good: 2 customers; 2 requests in a round of polls, 2882 a day"


def test_a_check_online_ends_with_1_where_one_is_bad(simulator: Simulator, tmp_path: Path) -> None:
    """The bad one stands among the others, in the config's order."""
    file = write(tmp_path, entry(simulator, "bank", "wr0ng-key"), entry(simulator, "webshop"))
    status, out, err = run(file, "check-config", "--online")
    assert (status, err) == (1, "")
    first, second, last = out.splitlines()
    assert first == "bank: bad: unauthorized: HTTP 401: the subdomain or the API key is wrong (error.unauthorized)"
    assert second.startswith("webshop: good: ")
    assert last == f"{file}: bad: 1 of 2 customers; 2 requests in a round of polls, 2882 a day"


def test_a_bad_config_asks_nobody(simulator: Simulator, tmp_path: Path) -> None:
    """Its faults are told as without the flag."""
    file = write(tmp_path, entry(simulator, "bank"), "  - {name: other, api_kee: x, timezone: UTC}\n")
    told = f"{file}:8: customers[1].api_kee: unknown key; did you mean 'api_key'?\n"
    for arguments in (["check-config", "--online"], ["discover"]):
        assert run(file, *arguments) == (1, "", told)
    assert simulator.requests == ()


def test_a_line_comes_while_another_customer_hangs_and_ctrl_c_ends_it(simulator: Simulator, tmp_path: Path) -> None:
    """What is known is written at once, also into a pipe; the interrupt waits for no request."""
    simulator.misbehave("webshop", "silent")
    file = write(tmp_path, entry(simulator, "bank"), entry(simulator, "webshop"))
    for arguments, first in ((["check-config", "--online"], "bank: good"), (["discover"], "bank: 3 projects")):
        with subprocess.Popen(command(file, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # noqa: S603
            try:
                assert process.stdout
                assert next(line for line in process.stdout if line.startswith(first.encode()))
                process.send_signal(signal.SIGINT)
                assert process.wait(20) == 130
                assert process.stderr
                assert process.stderr.read() == b""
            finally:
                process.kill()


@pytest.mark.parametrize("arguments", [["check-config", "--online"], ["discover"]])
def test_who_watches_sees_how_far_it_is(arguments: list[str], simulator: Simulator, tmp_path: Path) -> None:
    """On a terminal a line counts the customers that are done, and the next output overwrites it."""
    simulator.misbehave("webshop", "silent")
    file = write(tmp_path, entry(simulator, "bank"), entry(simulator, "webshop"))
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(command(file, *arguments), stdout=subprocess.DEVNULL, stderr=theirs) as process:  # noqa: S603
            shown = b""
            try:
                while b"1 of 2" not in shown:
                    shown += os.read(ours, 1000)
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(20)
    finally:
        os.close(ours)
        os.close(theirs)
    assert shown == b"\r" + b" " * 16 + b"\r" + b"\r1 of 2" + b" " * 10 + b"\r"


def test_one_customer_alone_has_no_progress(simulator: Simulator, tmp_path: Path) -> None:
    """Nothing is written to the terminal but what there is to say."""
    file = write(tmp_path, entry(simulator, "bank", "wr0ng-key"))
    ours, theirs = pty.openpty()
    try:
        subprocess.run(command(file, "discover"), stdout=subprocess.DEVNULL, stderr=theirs, timeout=100, check=False)  # noqa: S603
        shown = os.read(ours, 10_000)
    finally:
        os.close(ours)
        os.close(theirs)
    assert shown == b"bank: unauthorized: HTTP 401: the subdomain or the API key is wrong (error.unauthorized)\r\n"


def test_discover_tells_failures_on_stderr_and_goes_on(simulator: Simulator, tmp_path: Path) -> None:
    """The table has the others; the status is 1."""
    file = write(tmp_path, entry(simulator, "bank", "wr0ng-key"), entry(simulator, "webshop"))
    status, out, err = run(file, "discover")
    assert status == 1
    assert err == "bank: unauthorized: HTTP 401: the subdomain or the API key is wrong (error.unauthorized)\n"
    assert out.startswith("Calls in a queue are those answered or given up in it; ")
    assert re.search(r"^webshop: 2 projects, 3 queues with calls from ", out, re.MULTILINE)
    assert "bank" not in out


def test_what_discover_writes_as_yaml_is_good_where_it_says_to_paste_it(simulator: Simulator, tmp_path: Path) -> None:
    """Each block below its customer's keys is a config that check-config takes, with and without asking."""
    entries = {name: entry(simulator, name) for name in ("bank", "webshop", "roadside")}
    status, out, err = run(write(tmp_path, *entries.values()), "discover", "--format=yaml")
    assert (status, err) == (0, "")
    head, *blocks = out.split("\n\n")
    assert all(line.startswith("# ") for line in head.splitlines())
    assert [block.split(":")[0] for block in blocks] == [f"# {name}" for name in entries]
    pasted = [text + block.rstrip("\n") + "\n" for text, block in zip(entries.values(), blocks, strict=True)]
    file = write(tmp_path, *pasted)
    assert run(file, "check-config") == (0, f"{file}: good: 3 customers, 7 projects listed\n", "")
    status, out, err = run(file, "check-config", "--online")
    assert (status, err) == (0, "")
    assert "good: 3 customers; 3 requests in a round of polls" in out
