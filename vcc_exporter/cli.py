"""The command line: flags to calls, faults to exit status, log lines to stderr."""

import argparse
import io
import json
import logging
import logging.handlers
import os
import queue
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from vcc_exporter import __version__, backfill, daemon, oneshot
from vcc_exporter.client import KeyUnreadableError, read_key, readable_by_all
from vcc_exporter.config import Customer
from vcc_exporter.faults import ConfigError
from vcc_exporter.guard import read_pair
from vcc_exporter.loading import load_config, parse_config
from vcc_exporter.oneshot import counted
from vcc_exporter.server import parse_address
from vcc_exporter.times import Clock
from vcc_exporter.web import check_telemetry_path

log = logging.getLogger(__name__)

COMMANDS: Final[dict[str, str]] = {
    "run": "poll and publish (the default)",
    "check-config": "read the config, report every fault with file:line, exit 0 or 1",
    "discover": "ask each customer's API which projects and queues there are, with their calls in 30 days",
    "backfill": "write past days as OpenMetrics for promtool, each day's totals at its last second",
}


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag; the parser, the README's table and the checks derive from it."""

    name: str
    default: Any
    """None: not given."""
    help: str
    commands: tuple[str, ...] = ("run",)
    read: Callable[[str], Any] = str
    """Raises ValueError for a value that the flag cannot have."""
    values: tuple[str, ...] = ()
    repeatable: bool = False
    required: bool = False

    @property
    def otherwise(self) -> str:
        """What holds where the flag is not given, in words; empty for one that may be left out."""
        if self.required:
            return "required"
        return "" if self.default in (None, False) else f"default {self.default}"


_ANY: Final = tuple(COMMANDS)


def _whole_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        raise ValueError(text)
    return int(text)


FLAGS: Final = (
    Flag("--config.file", "config.yaml", "the YAML config", _ANY),
    Flag(
        "--online",
        False,
        "check-config: ask each customer's API, too, and give a verdict in words on each",
        ("check-config",),
    ),
    Flag(
        "--format",
        "table",
        "discover: table, or yaml for blocks to paste into the config",
        ("discover",),
        values=("table", "yaml"),
    ),
    Flag(
        "--from",
        None,
        "a date such as 2026-01-31; backfill: the first day",
        ("backfill",),
        read=backfill.read_date,
        required=True,
    ),
    Flag(
        "--to",
        None,
        "a date such as 2026-01-31; backfill: the last day, which must be over",
        ("backfill",),
        read=backfill.read_date,
        required=True,
    ),
    Flag("--customer", None, "backfill: this customer instead of all; repeatable", ("backfill",), repeatable=True),
    Flag("--output", None, "backfill: the file to write, which must not exist yet", ("backfill",), required=True),
    Flag("--demo", False, "no config needed: start the built-in simulator on a loopback port and poll it"),
    Flag(
        "--web.listen-address",
        ":10742",
        "host:port to serve on; an empty host is all interfaces, IPv6 in brackets; repeatable",
        read=parse_address,
        repeatable=True,
    ),
    Flag("--web.telemetry-path", "/metrics", "the path of the metrics", read=check_telemetry_path),
    Flag(
        "--web.config.file",
        None,
        "a file with TLS, users and headers in the format of Prometheus's exporter-toolkit; docs/web-config.md",
        ("run", "check-config"),
    ),
    Flag("--web.enable-lifecycle", False, "allow POST /-/reload"),
    Flag("--shard", "0", "the number of a shard, from 0; poll and serve only its customers", read=_whole_number),
    Flag("--total-shards", "1", "a number of shards, the same for each of them", read=_whole_number),
    Flag(
        "--log.level",
        "info",
        "debug, info, warning or error; with --demo warning, if not given",
        _ANY,
        values=("debug", "info", "warning", "error"),
    ),
    Flag("--log.format", "logfmt", "logfmt or json, to stderr", _ANY, values=("logfmt", "json")),
)


def main() -> None:
    """Run the program and end the process, whatever still hangs in a thread."""
    command, flags = _parse(sys.argv[1:])
    if command != "run":
        # Some of its work is not done then; the daemon was to run until then.
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    status = _obey(command, flags)
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)
    # The interpreter would wait for threads of the pools, of which one may hang in a look-up of a name.
    os._exit(status)


def _flush(stream: Any) -> None:
    try:
        stream.flush()
    except (OSError, ValueError, AttributeError):
        # Closed, or its disk is full: nobody is left to tell. What is still to be written goes nowhere, or the
        # interpreter would try again at its end and turn the exit status into 120.
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


_INTERRUPTED: Final = 128 + signal.SIGINT
"""The exit status that shells know for it."""


def run(arguments: list[str]) -> int:
    """Run one command. Returns the exit status; raises SystemExit for wrong usage and for --help."""
    return _obey(*_parse(arguments))


def _obey(command: str, flags: Mapping[str, Any]) -> int:
    _set_up_log(flags["log.level"], flags["log.format"])
    try:
        return _RUN[command](flags)
    except KeyboardInterrupt:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vcc-exporter",
        description="Prometheus exporter for the inbound call statistics of VCC Live.",
        epilog=f"commands: {'; '.join(f'{name}: {words}' for name, words in COMMANDS.items())}. {backfill.SHOWS}",
        allow_abbrev=False,
    )
    parser.add_argument("command", nargs="?", choices=COMMANDS, default="run", help="what to do; default run")
    parser.add_argument("--version", action="version", version=f"vcc-exporter {__version__}")
    for flag in FLAGS:
        options: dict[str, Any] = {"dest": flag.name.lstrip("-"), "default": argparse.SUPPRESS}
        if flag.default is False:
            parser.add_argument(flag.name, action="store_true", help=flag.help, **options)
        else:
            word = re.split(r"[.-]", flag.name)[-1].upper()
            options |= {"type": _reader(flag), "choices": flag.values or None, "metavar": None if flag.values else word}
            action = "append" if flag.repeatable else "store"
            words = "; ".join(filter(None, (flag.help, flag.otherwise)))
            parser.add_argument(flag.name, action=action, help=words, **options)
    return parser


def _reader(flag: Flag) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return flag.read(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {flag.help.partition(';')[0]}") from None

    return read


def _parse(arguments: list[str]) -> tuple[str, Mapping[str, Any]]:
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    command = given.pop("command")
    for flag in FLAGS:
        if command not in flag.commands and flag.name.lstrip("-") in given:
            parser.error(f"{flag.name} is not for {command}")
    missing = [f.name for f in FLAGS if f.required and command in f.commands and f.name.lstrip("-") not in given]
    if missing:
        parser.error(f"{command} needs {', '.join(missing)}")
    if "demo" in given and "config.file" in given:
        parser.error("--demo needs no --config.file")
    if "demo" in given:
        given.setdefault("log.level", "warning")  # the demo's screen says what matters
    flags = {flag.name.lstrip("-"): _default(flag) for flag in FLAGS} | given
    if flags["shard"] >= flags["total-shards"]:
        parser.error(f"--shard={flags['shard']} must be less than --total-shards={flags['total-shards']}")
    return command, flags


def _default(flag: Flag) -> Any:
    if flag.default is None:
        return [] if flag.repeatable else None
    if isinstance(flag.default, bool):
        return flag.default
    return [flag.read(flag.default)] if flag.repeatable else flag.read(flag.default)


def _run(flags: Mapping[str, Any]) -> int:
    with ExitStack() as stack:
        demo = _demo(stack) if flags["demo"] else {}
        options = daemon.Options(
            **{"load": lambda: load_config(Path(flags["config.file"])), **demo},
            addresses=tuple(flags["web.listen-address"]),
            telemetry_path=flags["web.telemetry-path"],
            lifecycle=flags["web.enable-lifecycle"],
            web_config=_web_config(flags),
            shard=flags["shard"],
            total_shards=flags["total-shards"],
        )
        try:
            with _log_in_background():
                daemon.run(options)
        except (daemon.StartError, daemon.BrokenError) as error:
            _say(f"vcc-exporter: {error}" if "\n" not in str(error) else str(error))
            return 1
    return 0


def _demo(stack: ExitStack) -> dict[str, Any]:
    """Start the simulator, which ends with the stack, and return what is different about the daemon's options."""
    from vcc_exporter.simulator import DEMO_CENTRES, DEMO_PORT, Simulator, demo_config  # noqa: PLC0415 - only the demo pays for it

    try:
        simulator = stack.enter_context(Simulator(DEMO_CENTRES, port=DEMO_PORT))
    except OSError:
        simulator = stack.enter_context(Simulator(DEMO_CENTRES))
    at = "" if simulator.port == DEMO_PORT else f" --at={simulator.url}"
    centres = ", ".join(
        f"{centre.customer} ({centre.zone.rpartition('/')[2].replace('_', ' ')})" for centre in DEMO_CENTRES
    )
    text = demo_config(simulator.url)
    return {
        "load": lambda: parse_config(text, "demo", Path()),
        "notice": "A demo: these call centres, their callers and their agents are simulated.",
        "greet": lambda page: _greet(_demo_screen(page, centres, at)),
    }


def _greet(screen: str) -> None:
    _write(sys.stdout, screen)
    _flush(sys.stdout)


def _demo_screen(page: str, centres: str, at: str) -> str:
    source = Path(__file__).parent.parent
    # What is not installed runs only in its own folder.
    folder = source if (source / "exporter.py").is_file() else Path.cwd()
    python = sys.executable
    with suppress(ValueError):  # as from another drive
        python = min(python, os.path.relpath(python, folder), key=len)
    commands = {f"{shlex.quote(python)} -m vcc_exporter.simulator{at} {what}": words for what, words in _TRIES.items()}
    longest = max(map(len, commands))
    fits = 2 + longest + 3 + max(map(len, _TRIES.values())) <= _SCREEN_WIDTH
    tries = "".join(f"  {c:{longest}}   {words}\n" if fits else f"  {c}\n" for c, words in commands.items())
    where = "this folder" if folder == Path.cwd() else folder
    return _DEMO_SCREEN.format(version=__version__, page=page, centres=centres, where=where, tries=tries)


_SCREEN_WIDTH: Final = 100
_TRIES: Final = {
    "bank unauthorized": "its API refuses the key",
    "roadside slow": "... answers too late",
    "utility half": "... sends half an answer",
    "bank well": "all is well again",
    "webshop surge": "three times as many callers",
}
_DEMO_SCREEN: Final = """\
vcc-exporter {version}, a demo

  {page}                today's calls, for people
  {page}metrics         the same, for Prometheus

Simulated: the vendor's API, and four call centres behind it with callers, agents and patience:
  {centres}.
Polled every 15 s; whatever the time, one of them is open.

Rehearse a fault from a second terminal, in {where}, and watch the page:
{tries}
Your own call centre: README.md. Ctrl-C ends this.
"""


def _check_config(flags: Mapping[str, Any]) -> int:
    pair = read_pair(lambda: load_config(Path(flags["config.file"])), _web_config(flags))
    if pair.config is None or pair.faults:
        _say("\n".join(map(str, pair.faults)))
        return 1
    customers = pair.config.customers
    if flags["online"]:
        return _check_online(flags["config.file"], customers)
    file, warnings = flags["config.file"], list(_warnings(customers))
    for warning in warnings:
        _say(f"{file}: warning: {warning}")
    good = f"good, with {counted(len(warnings), 'warning')}" if warnings else "good"
    projects = sum(len(customer.listed) for customer in customers)
    _tell(f"{file}: {good}: {counted(len(customers), 'customer')}, {counted(projects, 'project')} listed\n")
    return 0


def _web_config(flags: Mapping[str, Any]) -> Path | None:
    return Path(flags["web.config.file"]) if flags["web.config.file"] else None


def _customers(flags: Mapping[str, Any]) -> tuple[Customer, ...]:
    """Read the config; where it is bad, say so and return no customers."""
    try:
        return load_config(Path(flags["config.file"])).customers
    except ConfigError as error:
        _say(str(error))
        return ()


def _warnings(customers: tuple[Customer, ...]) -> Iterator[str]:
    for customer in customers:
        try:
            read_key(customer.key)
        except KeyUnreadableError as error:
            yield f"customer {customer.name!r} would not be polled: {error}"
        if readable_by_all(customer.key):
            yield f"customer {customer.name!r}: every user of this machine can read the file {customer.key.file}"
        if customer.ca_file and not customer.ca_file.is_file():
            yield f"customer {customer.name!r} would not be polled: no file {customer.ca_file}"


def _check_online(file: str, customers: tuple[Customer, ...]) -> int:
    clock, bad = Clock(), 0
    for verdict in oneshot.verdicts(customers, clock, _progress(customers)):
        _tell(f"{verdict}\n")
        bad += not verdict.good
    whole = counted(len(customers), "customer")
    judged = f"bad: {bad} of {whole}" if bad else f"good: {whole}"
    _tell(f"{file}: {judged}; {oneshot.load_words(customers, clock.now())}\n")
    return 1 if bad else 0


def _discover(flags: Mapping[str, Any]) -> int:
    from vcc_exporter import discover  # noqa: PLC0415 - the daemon is to carry no YAML

    customers, failed = _customers(flags), False
    if not customers:
        return 1
    is_yaml = flags["format"] == "yaml"
    _tell(f"{discover.YAML_HEAD if is_yaml else discover.TABLE_HEAD}\n")
    for found in discover.discover(customers, Clock(), _progress(customers)):
        if isinstance(found, oneshot.Verdict):
            failed = True
            _say(f"{found.customer}: {found.words}")
        else:
            _tell("\n" + (discover.fragment(found) if is_yaml else discover.table(found)))
    return 1 if failed else 0


def _backfill(flags: Mapping[str, Any]) -> int:
    customers = _customers(flags)
    if not customers:
        return 1
    wanted = backfill.Wanted(flags["from"], flags["to"], Path(flags["output"]))
    try:
        return _fill(backfill.chosen(customers, flags["customer"]), wanted)
    except backfill.BackfillError as error:
        _say(f"vcc-exporter: {error}")
        return 1


def _fill(customers: list[Customer], wanted: backfill.Wanted) -> int:
    clock, show = Clock(), _overwritten(_WIDEST_BAR)
    backfill.check(wanted, customers, clock.now())
    found = list(backfill.ask(customers, wanted, clock, lambda done, whole: show(_bar(done, whole))))
    show("")
    asked = [customer for customer in found if isinstance(customer, backfill.Asked)]
    failed = [verdict for verdict in found if isinstance(verdict, oneshot.Verdict)]
    for customer in asked:
        for remark in customer.remarks:
            _say(f"{customer.customer.name}: {remark}")
    for verdict in failed:
        _say(f"{verdict.customer}: {verdict.words}")
    if failed:
        _say(
            f"vcc-exporter: {len(failed)} of {counted(len(found), 'customer')} failed, so that {wanted.output} is not "
            f"written; answers are kept in {wanted.parts}: run the same command again to go on from there"
        )
        return 1
    _tell(backfill.summary(asked, wanted, backfill.write(asked, wanted)))
    return 0


def _bar(done: int, whole: int) -> str:
    return f"[{'#' * (_BAR * done // whole):<{_BAR}}] {done} of {whole} months"


_BAR: Final = 30
_WIDEST_BAR: Final = _BAR + len("[] 100000 of 100000 months")


_RUN: Final[Mapping[str, Callable[[Mapping[str, Any]], int]]] = {
    "run": _run,
    "check-config": _check_config,
    "discover": _discover,
    "backfill": _backfill,
}


def _progress(customers: tuple[Customer, ...]) -> Callable[[str], None]:
    """Return what shows how far it is with several customers."""
    return _overwritten(_WIDEST_PROGRESS) if len(customers) > 1 else lambda _: None


def _overwritten(width: int) -> Callable[[str], None]:
    """Return what shows a line that the next output overwrites, where somebody watches."""
    with suppress(OSError, ValueError, AttributeError):  # as in `_flush`
        if sys.stderr.isatty():
            return lambda text: _show(f"\r{text:<{width}}\r")
    return lambda _: None


_WIDEST_PROGRESS: Final = len("100000 of 100000")


def _show(text: str) -> None:
    _write(sys.stderr, text)
    _flush(sys.stderr)


def _tell(text: str) -> None:
    """Write a result at once, also where it is piped."""
    _write(sys.stdout, text)
    _flush(sys.stdout)


def _say(text: str) -> None:
    _write(sys.stderr, text + "\n")


def _write(stream: Any, text: str) -> None:
    with suppress(OSError, ValueError, AttributeError):  # as in `_flush`
        stream.write(text)


# The log.


def _set_up_log(level: str, layout: str) -> None:
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if layout == "json" else _Logfmt())
    # Libraries quote what the other side sent, which can be an echo of the key: what matters of it we say ourselves.
    handler.addFilter(lambda record: record.name.partition(".")[0] in {"vcc_exporter", "apscheduler"})
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.WARNING)
    logging.getLogger("vcc_exporter").setLevel(level.upper())


_MOST_LINES: Final = 10_000
"""Lines that wait to be written, some megabytes at most: more than a config of thousands of faults has."""
_LAST_LINES_S: Final = 1
"""How long an end waits for lines still to be written; the contract gives 5 s in all."""


class _Background(logging.handlers.QueueHandler):
    """Leaves lines to another thread, and counts those that it can leave no more."""

    def __init__(self, lines: "queue.Queue[str | None]") -> None:
        super().__init__(lines)
        self._lines = lines
        self._dropped = 0

    def prepare(self, record: logging.LogRecord) -> str:
        return self.format(record)

    def enqueue(self, record: Any) -> None:
        """Add a line, behind one that says how many lack before it. The base class lets in one thread at a time."""
        try:
            if self._dropped:
                facts = {"levelno": logging.WARNING, "levelname": "WARNING", "lines": self._dropped}
                gap = logging.makeLogRecord({"name": __name__, "msg": "log lines were dropped", **facts})
                self._lines.put_nowait(self.format(gap))
                self._dropped = 0
            self._lines.put_nowait(record)
        except queue.Full:
            self._dropped += 1


@contextmanager
def _log_in_background() -> Iterator[None]:
    """Let another thread write the log, since a pipe that is full and that nobody reads must hold up nothing else."""
    lines: queue.Queue[str | None] = queue.Queue(_MOST_LINES)
    (direct,) = logging.root.handlers
    background = _Background(lines)
    background.setFormatter(direct.formatter)
    background.filters = direct.filters
    writer = threading.Thread(target=_write_lines, args=(lines,), name="log", daemon=True)
    writer.start()
    logging.root.handlers = [background]
    try:
        yield
    finally:
        logging.root.handlers = [direct]
        with suppress(queue.Full):
            lines.put(None, timeout=_LAST_LINES_S)
        writer.join(_LAST_LINES_S)
        if writer.is_alive():
            # Whoever wrote or flushed from now on would hang like the writer, the end of the process with it.
            logging.root.handlers = [logging.NullHandler()]
            sys.stderr = io.StringIO()


def _write_lines(lines: "queue.Queue[str | None]") -> None:
    while (line := lines.get()) is not None:
        _write(sys.stderr, line + "\n")


_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    """Return a log line's keys and values. An exception is named by its kind and place, never by its text."""
    facts = {
        "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "msg": record.getMessage(),
        **{key: value for key, value in vars(record).items() if key not in _STANDARD},
    }
    if record.exc_info and record.exc_info[0]:
        trace = record.exc_info[2]
        while trace and trace.tb_next:
            trace = trace.tb_next
        place = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
        facts["fault"] = f"{record.exc_info[0].__name__}{place}"
    return facts


class _Logfmt(logging.Formatter):
    """Lines of key=value."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quoted(str(value))}" for key, value in _facts(record).items())


class _Json(logging.Formatter):
    """Lines of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_facts(record), default=str, ensure_ascii=False)


def _quoted(value: str) -> str:
    if value and value.isprintable() and not set(' "=\\') & set(value):
        return value
    # JSON leaves some characters as they are that end a line or drive a terminal.
    return json.dumps(value, ensure_ascii=not value.replace("\n", "").replace("\t", "").isprintable())
