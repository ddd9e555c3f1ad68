"""`python -m vcc_exporter.simulator NAME FAULT`: rehearsing a fault on a simulator that runs."""

import socket
import subprocess
import sys

import pytest
import requests
from running import ROOT, free_port
from support import http_response, raw_server, read_request

from vcc_exporter.simulator import Simulator
from vcc_exporter.simulator.faults import FAULTS, INCIDENTS


def rehearse(*arguments: str) -> tuple[int, str, str]:
    """Run the command; returns its exit status and what it wrote."""
    command = [sys.executable, "-m", "vcc_exporter.simulator", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def at(simulator: Simulator) -> str:
    """Return the flag that names the running simulator."""
    return f"--at={simulator.url}"


def told(words: str, at: str) -> str:
    """Return what a rehearsal prints: how it stands now, and with which simulator."""
    return f"{words}\n(the simulator at {at.removeprefix('--at=')})\n"


def status(simulator: Simulator) -> int:
    """Return how the bank's API answers."""
    url = f"{simulator.url}/v2/projects"
    return requests.get(url, auth=("bank", simulator.centres["bank"].key), timeout=60).status_code


def test_a_fault_begins_and_ends(simulator: Simulator, at: str) -> None:
    """The API of the one call centre misbehaves until all is well again, and each time the command says so."""
    assert rehearse("bank", "unauthorized", at) == (0, told("bank: unauthorized", at), "")
    assert status(simulator) == 401
    assert simulator.active("webshop") == []
    assert rehearse("bank", "server_error", at) == (0, told("bank: server_error", at), "")
    assert status(simulator) == 500
    assert rehearse("bank", "surge", at) == (0, told("bank: server_error, surge", at), "")
    assert rehearse("bank", "well", at) == (0, told("bank: all is well", at), "")
    assert status(simulator) == 200
    assert rehearse("bank", "well", at) == (0, told("bank: all is well", at), "")


def test_a_fault_has_options(simulator: Simulator, at: str) -> None:
    """For so many requests, for one path, and the like."""
    assert rehearse("bank", "unauthorized", "first=2", "path=projects", at) == (0, told("bank: unauthorized", at), "")
    assert [status(simulator) for _ in range(3)] == [401, 401, 200]


def test_a_name_alone_lists_what_goes_on_and_what_can(simulator: Simulator, at: str) -> None:
    """Each call centre's state, and every fault with its words."""
    simulator.misbehave("webshop", "half")
    code, text, _ = rehearse("bank", at)
    lines = text.splitlines()
    assert code == 0
    assert lines[:2] == ["bank: all is well", "webshop: half"]
    assert {line.partition(": ")[0] for line in lines[5:]} == {*FAULTS, *INCIDENTS}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bakn", "slow"], "no customer 'bakn', but: bank, webshop, roadside, utility\n"),
        (["bakn", "well"], "no customer 'bakn', but: bank, webshop, roadside, utility\n"),
        (["../bank", "slow"], "no customer '..%2Fbank', but: bank, webshop, roadside, utility\n"),
        (["bank", "tired"], f"no fault 'tired', but: {', '.join([*FAULTS, *INCIDENTS])}\n"),
        (["bank", "slow", "second=3"], "no option 'second', but: path, first, seconds, message, agents, factor\n"),
        (["bank", "slow", "seconds=x"], "could not convert string to float: 'x'\n"),
        (["bank", "slow", "seconds=-1"], "-1 is not between 0 and 1000000\n"),
    ],
)
def test_what_cannot_be_rehearsed_is_told(simulator: Simulator, at: str, arguments: list[str], words: str) -> None:
    """The exit status is 1, standard error says what there is instead, and nothing has begun."""
    code, text, error = rehearse(*arguments, at)
    assert (code, text) == (1, "")
    assert error.startswith(words)
    assert [simulator.active(name) for name in simulator.centres] == [[]] * 4


@pytest.mark.parametrize("url", ["127.0.0.1:10743", "https://127.0.0.1:10743", "http://", "http://127.0.0.1:x", ""])
def test_an_address_that_is_none_is_told(url: str) -> None:
    """The exit status is 1, with the address and no traceback."""
    code, text, error = rehearse("bank", "slow", f"--at={url}")
    assert (code, text) == (1, "")
    assert error.startswith(f"no simulator answers at {url}: ")


def test_without_a_simulator_it_is_told() -> None:
    """Where nobody listens the exit status is 1, and the words ask for the demo."""
    url = f"http://127.0.0.1:{free_port()}"
    code, _, error = rehearse("bank", "slow", f"--at={url}")
    assert code == 1
    assert error == f"no simulator answers at {url}: Connection refused; does the demo run?\n"


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n", b"", http_response(b"\xff\n", "404 Not Found")])
def test_another_service_is_no_simulator(answer: bytes) -> None:
    """Whatever somebody else answers, or does not, the exit status is 1."""

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(answer)

    with raw_server(handle) as port:
        code, text, error = rehearse("bank", "slow", f"--at=http://127.0.0.1:{port}")
    assert (code, text) == (1, "")
    assert error
