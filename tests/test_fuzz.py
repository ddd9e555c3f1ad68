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
INPUTS: Final = {"api": 1500, "config": 500, "web": 200}
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


METHODS: Final = st.sampled_from(["GET"] * 4 + ["HEAD", "POST", "PUT", "OPTIONS", "G\0T", "CONNECT"])
PATHS: Final = st.sampled_from(
    ["/metrics"] * 3 + ["/", "/-/reload", "/-/ready", "/-/", "http://x/metrics", "*", "\xe9"]
)
QUERIES: Final = st.lists(st.sampled_from(["customer[]=", "acme", "&", "?", "%", "%5b]", "\xe9", "+"]), max_size=4)
OFFERED: Final = st.sampled_from(
    ["text/plain", "application/openmetrics-text", "*/*", "gzip", "*", "identity", "", '"']
)
PARAMETERS: Final = st.lists(
    st.tuples(
        st.sampled_from(["q", "q", "version", "Q", "", "x"]),
        st.sampled_from(["0", "1", "0.5", "x", "1.0.0", '"', "-1"]),
    ).map("=".join),
    max_size=3,
)
OFFERS: Final = st.lists(st.tuples(OFFERED, PARAMETERS).map(lambda offer: ";".join([offer[0], *offer[1]])), max_size=4)
HEADERS: Final = st.lists(
    st.tuples(st.sampled_from(["Accept", "Accept-Encoding"]), OFFERS.map(",".join))
    | st.tuples(
        st.sampled_from(
            ["Connection", "Content-Length", "Upgrade", "Transfer-Encoding", "Expect", "X" * 9000, "", "Host"]
        ),
        st.sampled_from(
            ["close", "upgrade", "chunked", "websocket", "100-continue", "3", "-1", "", "\xe9", "\n", "\0"]
        ),
    ),
    max_size=3,
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw a request of which any part may be odd."""
    query = "".join(draw(QUERIES))
    version = draw(st.sampled_from(["HTTP/1.1"] * 4 + ["HTTP/1.0", "HTTP/9.9", "HTTP/x"]))
    lines = [f"{draw(METHODS)} {draw(PATHS)}{'?' if query else ''}{query} {version}", "Host: x"]
    lines += [f"{name}: {value}" for name, value in draw(HEADERS)]
    body = draw(st.sampled_from(["", "", "abc", "3\r\nabc\r\n0\r\n\r\n"]))
    return "\r\n".join([*lines, "", body]).encode("latin-1")


@settings(ANY_SPEED, max_examples=300)
@given(requests() | st.binary())
def test_any_request_is_answered_or_closed(web: Door, data: bytes) -> None:
    """Whatever a client says, the answer is fit, the connection ends, and the next scrape is as it was."""
    web(data)
