"""The command line and the log: the contract's flags, lines that can be read back, streams that may be gone."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import LOOPBACK, ROOT, answers, eventually, free_port

from vcc_exporter import cli

# The flags.

CONTRACT: dict[str, Any] = {
    "--config.file": "config.yaml",
    "--online": False,
    "--format": "table",
    "--from": None,
    "--to": None,
    "--customer": None,
    "--output": None,
    "--demo": False,
    "--web.listen-address": ":10742",
    "--web.telemetry-path": "/metrics",
    "--web.config.file": None,
    "--web.enable-lifecycle": False,
    "--shard": "0",
    "--total-shards": "1",
    "--log.level": "info",
    "--log.format": "logfmt",
}


def help_text(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what `--help` prints, with single blanks."""
    with pytest.raises(SystemExit) as ended:
        cli.run(["--help"])
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_the_flags_are_those_of_the_contract() -> None:
    """Names and defaults are exactly these."""
    assert {flag.name: flag.default for flag in cli.FLAGS} == CONTRACT


def test_help_mentions_each_flag_with_its_default_and_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    """What a flag does and what it is without being given stand in one place."""
    told = help_text(capsys)
    for flag in cli.FLAGS:
        assert f" {flag.name} " in told.replace("[", " ").replace("]", " ")
        assert flag.help in told
        assert flag.default in (False, None) or f"; default {flag.default}" in told
        assert not flag.required or f"{flag.help}; required" in told
    for command, words in cli.COMMANDS.items():
        assert f"{command}: {words}" in told


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
@pytest.mark.parametrize("layout", ["logfmt", "json"])
def test_each_log_level_and_format_is_taken(tmp_path: Path, level: str, layout: str) -> None:
    """The level is that of our own loggers."""
    with kept_logging():
        assert cli.run(["check-config", f"--log.level={level}", f"--log.format={layout}", missing(tmp_path)]) == 1
        assert logging.getLogger("vcc_exporter").getEffectiveLevel() == getattr(logging, level.upper())
        assert logging.root.level == logging.WARNING


@pytest.mark.parametrize(
    "arguments",
    [
        ["--log.level", "INFO"],
        ["--log.format=text"],
        ["--web.listen-address=::1:80"],
        ["--web.listen-address=:0", "--web.listen-address=nonsense"],
        ["--web.telemetry-path=/a b"],
        ["--web.enable-lifecycle=true"],
        ["--config"],
        ["--config.fil=x"],
        ["check-config", "--web.enable-lifecycle"],
        ["check-config", "run"],
        ["discover", "--web.config.file=web.yml"],
        ["--online"],
        ["discover", "--online"],
        ["check-config", "--format=yaml"],
        ["discover", "--format=json"],
        ["discover", "--demo"],
        ["run", "--demo", "--config.file=config.yaml"],
        ["--output=x"],
        ["discover", "--from=2026-02-01"],
        ["check-config", "--customer=acme"],
        ["backfill", "--to=2026-02-01", "--output=x"],
        ["backfill", "--from=2026-02-01", "--output=x", "--to=20260201"],
        ["backfill", "--from=2026-02-01", "--output=x", "--to=2026-02-30"],
        ["backfill", "--from=2026-02-01", "--output=x", "--to=2026-W10-1"],
        ["backfill", "--from=1999-12-31", "--output=x", "--to=2026-02-01"],
        ["--shard=1"],
        ["--shard=8", "--total-shards=8"],
        ["--total-shards=0"],
        ["--shard=-1"],
        ["--shard=", "--total-shards=2"],
        ["--shard=1.0", "--total-shards=2"],
        ["--shard=٣", "--total-shards=8"],
        ["--total-shards=eight"],
        ["--total-shards=10000000000"],
        ["check-config", "--shard=1", "--total-shards=2"],
    ],
)
def test_wrong_usage_names_what_is_wrong(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The status is 2; abbreviations are no flags."""
    with pytest.raises(SystemExit) as ended:
        cli.run(arguments)
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("vcc-exporter: error: ")
    assert any(argument.partition("=")[0] in last for argument in arguments)


def test_what_a_command_needs_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """All flags that lack are named in one line."""
    with pytest.raises(SystemExit) as ended:
        cli.run(["backfill", "--to=2026-02-01"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("error: backfill needs --from, --output\n")


def test_a_date_is_explained_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    """What a date looks like is told with what was found."""
    with pytest.raises(SystemExit):
        cli.run(["backfill", "--to=1 March"])
    assert capsys.readouterr().err.endswith("argument --to: '1 March' is not a date such as 2026-01-31\n")


def test_help_says_what_past_days_can_show_and_what_not(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody shall wait for a curve."""
    assert "each day's totals at the day's last second and nothing within the day" in help_text(capsys)


def missing(folder: Path) -> str:
    """Return the flag for a config that does not exist."""
    return f"--config.file={folder / 'nowhere.yaml'}"


def test_a_config_that_is_not_there_ends_it_with_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the file, for the daemon as for the check."""
    with kept_logging():
        backfill = ["backfill", "--from=2026-02-01", "--to=2026-02-01", "--output=x"]
        for command in ([], ["run"], ["check-config"], ["check-config", "--online"], ["discover"], backfill):
            assert cli.run([*command, *([LOOPBACK] if command in ([], ["run"]) else []), missing(tmp_path)]) == 1
            assert capsys.readouterr().err.endswith("nowhere.yaml: cannot be read: No such file or directory\n")


def test_a_good_config_is_told_with_what_it_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line counts customers and listed projects."""
    file = tmp_path / "c.yaml"
    file.write_text(
        "customers:\n"
        "  - {name: a, timezone: UTC, api_key: x, projects: [{id: 1}, {id: 2}]}\n"
        "  - {name: b, timezone: UTC, api_key: y}\n"
    )
    with kept_logging():
        assert cli.run(["check-config", f"--config.file={file}"]) == 0
    assert capsys.readouterr() == (f"{file}: good: 2 customers, 2 projects listed\n", "")


def test_warnings_are_counted_in_the_last_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Customers that would not be polled make no config bad, and nobody overlooks them."""
    file = tmp_path / "c.yaml"
    customer = "  - {name: a, timezone: UTC, api_key_file: none}\n"
    warning = f"{file}: warning: customer 'a' would not be polled: "
    no_key = f"{warning}the file {tmp_path / 'none'} cannot be read: No such file or directory\n"
    with kept_logging():
        file.write_text(f"customers:\n{customer}")
        assert cli.run(["check-config", f"--config.file={file}"]) == 0
        good = f"{file}: good, with 1 warning: 1 customer, 0 projects listed\n"
        assert capsys.readouterr() == (good, no_key)
        file.write_text(f"customers:\n{customer.replace('}', ', ca_file: ca.pem}')}")
        assert cli.run(["check-config", f"--config.file={file}"]) == 0
        good = f"{file}: good, with 2 warnings: 1 customer, 0 projects listed\n"
        assert capsys.readouterr() == (good, f"{no_key}{warning}no file {tmp_path / 'ca.pem'}\n")


class kept_logging:  # noqa: N801 - read like a function
    """Puts the logging that a test's program sets up back to what it was."""

    def __enter__(self) -> None:
        self._handlers, self._level = logging.root.handlers, logging.root.level
        self._own = logging.getLogger("vcc_exporter").level

    def __exit__(self, *_: object) -> None:
        logging.root.handlers = self._handlers
        logging.root.setLevel(self._level)
        logging.getLogger("vcc_exporter").setLevel(self._own)
        logging.raiseExceptions = True


# The log.


class Lines:
    """A stream that keeps what is written."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        """Keep it."""
        self.text += text

    def flush(self) -> None:
        """Do nothing."""


LAYOUTS = ["logfmt", "json"]


@pytest.fixture
def log() -> Iterator[Callable[[str], tuple[logging.Logger, Lines]]]:
    """Set up the log in a layout; returns a logger and what it writes."""
    before = sys.stderr

    def start(layout: str) -> tuple[logging.Logger, Lines]:
        lines = Lines()
        sys.stderr = lines
        cli._set_up_log("debug", layout)  # noqa: SLF001 - what the flags do, without a process
        sys.stderr = before
        return logging.getLogger("vcc_exporter.test"), lines

    with kept_logging():
        yield start
    sys.stderr = before


def read_logfmt(line: str) -> dict[str, str]:
    """Read a line of key=value, quoted values as JSON has strings."""
    found, decoder, at = {}, json.JSONDecoder(), 0
    while at < len(line):
        key, _, _ = line[at:].partition("=")
        at += len(key) + 1
        if line[at : at + 1] == '"':
            found[key], end = decoder.raw_decode(line, at)
        else:
            end = at + len(line[at:].partition(" ")[0])
            found[key] = line[at:end]
        assert line[end : end + 1] in {"", " "}
        at = end + 1
    return found


def read_line(layout: str, text: str) -> dict[str, Any]:
    """Read the one line that was written."""
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1, text
    line = text.removesuffix("\n")
    read: dict[str, Any] = json.loads(line) if layout == "json" else read_logfmt(line)
    return read


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_line_has_time_level_message_and_facts(
    log: Callable[[str], tuple[logging.Logger, Lines]], layout: str
) -> None:
    """In this order, the time in UTC with milliseconds."""
    logger, lines = log(layout)
    logger.warning("poll failed", extra={"customer": "acme", "problem": 'HTTP 401: "no"'})
    read = read_line(layout, lines.text)
    assert list(read) == ["ts", "level", "msg", "customer", "problem"]
    assert list(read.values())[1:] == ["warning", "poll failed", "acme", 'HTTP 401: "no"']
    assert len(read["ts"]) == len("2026-03-11T10:00:00.000Z")
    assert read["ts"].endswith("Z")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("a/b:c,d;e'f", "a/b:c,d;e'f"),
        ("Kávéház", "Kávéház"),
        (30, "30"),
        (0.5, "0.5"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "hi"', r'"say \"hi\""'),
        ("back\\slash", r'"back\\slash"'),
        ("two\nlines\r\t", r'"two\nlines\r\t"'),
        ("\x1b[31m", r'"\u001b[31m"'),
        ("\x7f\x9b", r'"\u007f\u009b"'),
        ("a\u2028b\x85c", r'"a\u2028b\u0085c"'),
        ("\udcff", r'"\udcff"'),
    ],
)
def test_a_logfmt_value_is_quoted_where_it_must_be(
    log: Callable[[str], tuple[logging.Logger, Lines]], value: object, written: str
) -> None:
    """Nothing that ends a line or drives a terminal is written as it is."""
    logger, lines = log("logfmt")
    logger.info("x", extra={"fact": value})
    assert lines.text.rstrip("\n").partition(" fact=")[2] == written


@given(st.text(), st.text())
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_text_can_be_read_back(layout: str, message: str, fact: str) -> None:
    """Message and facts come out as they went in, on one line."""
    formatter = cli._Json() if layout == "json" else cli._Logfmt()  # noqa: SLF001 - what the log is made of
    record = logging.makeLogRecord({"msg": message, "args": (), "levelname": "INFO", "fact": fact})
    line = formatter.format(record)
    assert "\n" not in line
    read = json.loads(line) if layout == "json" else read_logfmt(line)
    assert (read["msg"], read["fact"]) == (message, fact)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_exception_is_named_by_kind_and_place_only(
    log: Callable[[str], tuple[logging.Logger, Lines]], layout: str
) -> None:
    """Neither its text, which may hold a key, nor its causes', nor a traceback is written."""
    logger, lines = log(layout)

    def fail() -> None:
        raise KeyError("k3y-in-a-cause")

    def fail_again() -> None:
        try:
            fail()
        except KeyError as error:
            raise RuntimeError("k3y-in-the-text") from error

    try:
        fail_again()
    except RuntimeError:
        logger.exception("unexpected fault", extra={"customer": "acme"})
    read = read_line(layout, lines.text)
    kind, _, place = read["fault"].partition(" at ")
    file, _, line = place.partition(":")
    assert (kind, file) == ("RuntimeError", Path(__file__).name)
    assert line.isdigit()
    assert read["msg"] == "unexpected fault"
    for unwanted in ("k3y", "Traceback", "KeyError", str(Path(__file__).parent)):
        assert unwanted not in lines.text


@pytest.mark.parametrize("layout", LAYOUTS)
def test_only_the_schedulers_warnings_are_written_of_all_libraries(
    log: Callable[[str], tuple[logging.Logger, Lines]], layout: str
) -> None:
    """Others quote what came over the network, which may be an echo of the key."""
    _, lines = log(layout)
    logging.getLogger("urllib3.connection").warning("unparsed data: %s", "Basic YmFk")
    logging.getLogger("apscheduler.scheduler").info("mentioned")
    logging.getLogger("apscheduler.scheduler").warning("a %s of %d", "warning", 7)
    assert read_line(layout, lines.text)["msg"] == "a warning of 7"


# Streams that are gone. Real processes, since an interpreter's last flush is part of the story.


class Stuck(Lines):
    """A stream that takes nothing until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.released = threading.Event(), threading.Event()

    def write(self, text: str) -> None:
        """Keep it, but only later."""
        self.asked.set()
        self.released.wait(60)
        super().write(text)


def test_lines_that_a_stuck_stream_cannot_take_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it; a line in the place of those that lack says how many they are."""
    stuck = Stuck()
    monkeypatch.setattr(sys, "stderr", stuck)
    monkeypatch.setattr(cli, "_MOST_LINES", 10)
    with kept_logging():
        cli._set_up_log("info", "logfmt")  # noqa: SLF001 - as above
        log = logging.getLogger("vcc_exporter.test")
        with cli._log_in_background():  # noqa: SLF001 - as above
            log.info("line", extra={"number": 0})
            assert stuck.asked.wait(60)
            for number in range(1, 100):
                log.info("line", extra={"number": number})
            assert not stuck.text
            stuck.released.set()
            eventually(lambda: "number=10" in stuck.text, "the lines that waited")
            log.info("afterwards")
    lines = [read_logfmt(line) for line in stuck.text.splitlines()]
    *kept, gap, last = lines
    assert [int(line["number"]) for line in kept] == list(range(11)), "the one under way, and ten that waited"
    assert (gap["level"], gap["msg"], gap["lines"]) == ("warning", "log lines were dropped", "89")
    assert last["msg"] == "afterwards"


def test_the_last_words_do_not_wait_for_a_stuck_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process says at its end, and what threads still log, goes nowhere where the log is stuck."""
    stuck = Stuck()
    monkeypatch.setattr(sys, "stderr", stuck)
    monkeypatch.setattr(cli, "_LAST_LINES_S", 0.1)
    with kept_logging():
        cli._set_up_log("info", "logfmt")  # noqa: SLF001 - as above
        with cli._log_in_background():  # noqa: SLF001 - as above
            logging.getLogger("vcc_exporter.test").info("line")
            assert stuck.asked.wait(60)
        ended = threading.Thread(target=cli._say, args=["the end"], daemon=True)  # noqa: SLF001 - as above
        ended.start()
        logging.getLogger("vcc_exporter.test").info("another")
        ended.join(30)
        assert not ended.is_alive()
        stuck.released.set()


def without(*variables: str) -> dict[str, str]:
    """Return the environment without these variables."""
    return {key: value for key, value in os.environ.items() if key not in variables}


ENVIRONMENT = without("PYTHONUNBUFFERED")
"""With the buffers that a user's Python has."""


def start(arguments: list[str], redirection: str) -> "subprocess.Popen[bytes]":
    """Start the exporter with its streams as a shell's redirection says."""
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, str(ROOT / "exporter.py"), *arguments]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603


STREAMS = [">&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"]


@pytest.mark.parametrize("streams", STREAMS)
def test_a_check_ends_with_its_status_where_nobody_can_be_told(tmp_path: Path, streams: str) -> None:
    """Streams that are closed, or whose disk is full, change nothing: 0 for a good config, 1 for a bad one."""
    file = tmp_path / "c.yaml"
    file.write_text("customers:\n  - {name: acme, timezone: UTC, api_key_file: nowhere}\n")
    checks = [start(["check-config", flag], streams) for flag in (f"--config.file={file}", missing(tmp_path))]
    assert [check.wait(60) for check in checks] == [0, 1]


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "2>/dev/full"])
def test_the_daemon_runs_and_ends_well_where_nobody_can_be_told(streams: str) -> None:
    """It serves, and exits with 0 at SIGTERM."""
    port = free_port()
    process = start(["--demo", "--log.level=debug", f"--web.listen-address=127.0.0.1:{port}"], streams)
    serves_and_ends_well(process, port)


def serves_and_ends_well(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Check that a daemon answers, lives on, and ends with 0 at SIGTERM."""
    try:
        eventually(lambda: answers(f"http://127.0.0.1:{port}/-/healthy"), "an answer")
        eventually(lambda: answers(f"http://127.0.0.1:{port}/-/ready"), "the first polls")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_the_daemon_outlives_the_reader_of_its_log() -> None:
    """A pipe whose other end was closed while it runs harms nobody."""
    port = free_port()
    command = [sys.executable, str(ROOT / "exporter.py"), "--demo", "--log.level=debug"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603
    assert process.stdout
    assert process.stderr
    first = process.stderr.readline()
    assert first.startswith(b"ts=")
    process.stderr.close()
    process.stdout.close()
    serves_and_ends_well(process, port)


def test_a_thread_that_hangs_does_not_hold_up_the_end() -> None:
    """The process ends with its status though a thread that is no daemon waits for ever."""
    program = (
        "import sys, threading\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from vcc_exporter import cli\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "sys.argv = ['x', 'check-config', '--config.file=nowhere.yaml']\n"
        "cli.main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert ended.returncode == 1
    assert "nowhere.yaml" in ended.stderr
