"""The three doors against what was found, what is drawn at random, and a bounded search that coverage guides."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from doors import DOORS, FOUND, RECIPE, Door
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import ROOT

ANY_SPEED: Final = settings(deadline=None, suppress_health_check=list(HealthCheck))
INPUTS: Final = {"api": 3000, "config": 800, "web": 250}
"""How many a bounded search tries: a few seconds each."""
KEPT: Final = sorted(path.relative_to(FOUND) for path in FOUND.glob("*/*"))


@pytest.fixture(scope="module")
def web() -> Iterator[Door]:
    """Give the door of HTTP, behind it one server for all."""
    with DOORS["web"]() as send:
        yield send


@pytest.mark.parametrize("path", KEPT, ids=str)
def test_what_was_found_is_mended(path: Path) -> None:
    """Every input that once broke a door, or with which a search begins, goes through."""
    with DOORS[path.parts[0]]() as send:
        send((FOUND / path).read_bytes())


def test_every_door_has_inputs() -> None:
    """A search begins with something, and folders of no door are a mistake."""
    assert {path.parts[0] for path in KEPT} == set(DOORS)


@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="no fuzzer for this machine")
@pytest.mark.parametrize("door", DOORS)
def test_a_bounded_search_finds_nothing(door: str, tmp_path: Path) -> None:
    """The fuzzer of `make fuzz` runs, sees coverage, and some thousand inputs that it makes break nothing."""
    command = [sys.executable, str(ROOT / "tools" / "fuzz.py"), door, f"--runs={INPUTS[door]}", f"--kept={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)  # noqa: S603 - our own
    assert done.returncode == 0, done.stdout + done.stderr
    name, inputs, _, places = done.stdout.split()[:4]
    assert name == f"{door}:"
    assert int(inputs) >= INPUTS[door]
    assert int(places) > 100


@ANY_SPEED
@given(st.binary(max_size=400).map(RECIPE.__add__))
def test_any_rows_are_an_answer_or_an_error(body: bytes) -> None:
    """Rows of the API's keys with odd values are read whole, on one day as on many, and some are made pages of."""
    with DOORS["api"]() as send:
        send(body)


TOKENS: Final = st.sampled_from(
    [
        *(
            "GET ",
            "POST ",
            "HEAD ",
            "OPTIONS ",
            "G\0T ",
            "/metrics",
            "/",
            "/-/reload",
            "/-/ready",
            "?customer[]=acme",
            "%",
        ),
        *(" HTTP/1.1\r\n", " HTTP/1.0\r\n", " HTTP/9.9\r\n", "\r\n", "\n", "\r\n\r\n", "Host: x\r\n", ": ", ";q=", ","),
        *("Accept: ", "Accept-Encoding: gzip\r\n", "text/plain", "application/openmetrics-text;version=1.0.0", "*/*"),
        *("Content-Length: 3\r\n", "Content-Length: -1\r\n", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n", "abc", "é"),
        *(
            "Connection: close\r\n",
            "Connection: upgrade\r\nUpgrade: websocket\r\n",
            "Expect: 100-continue\r\n",
            "X" * 9000,
        ),
    ]
)


@settings(ANY_SPEED, max_examples=40)
@given(st.lists(TOKENS, max_size=14).map(lambda tokens: "".join(tokens).encode()) | st.binary())
def test_any_request_is_answered_or_closed(web: Door, data: bytes) -> None:
    """Whatever a client says, the answer is fit, the connection ends, and the next scrape is as it was."""
    web(data)
