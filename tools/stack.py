"""Run the demo with a real Prometheus and Alertmanager, on loopback, with four weeks behind it: `make stack`.

Everything runs on the files that are shipped in `prometheus/`, as they are; what they call by an address listens
there, a receiver of alerts included, which prints each as it would reach somebody. All of it ends with this process,
and its files with it.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from errno import EADDRINUSE
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import yaml

from tools import history, recorded
from vcc_exporter.simulator import DEMO_CENTRES, Simulator
from vcc_exporter.simulator.calls import Centre
from vcc_exporter.times import Clock, parse_duration

ROOT: Final = Path(__file__).parent.parent
SHIPPED: Final = ROOT / "prometheus"
RETENTION: Final = "5w"
"""More than the past, or Prometheus would drop it; and no more than ten times its blocks, or it would join them."""
PARTS: Final = 2
"""How many processes make the past."""
LOOK_S: Final = 0.1
"""How often what was started is looked at."""
WEEK: Final = timedelta(weeks=1)
PATIENCE_S: Final = 60
"""For a part to be ready."""
GRACE_S: Final = 4
"""For all parts to end, before they are killed."""


class StackError(Exception):
    """Why the stack cannot run, in words for whoever started it."""


class StoppedError(Exception):
    """Somebody wants it to end."""


class Wish:
    """Whether somebody wants it to end. A plain attribute, since a handler of signals must take no lock."""

    ended = False

    def heed(self) -> None:
        """Take the usual signals for that wish, that of a closed terminal included."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: setattr(self, "ended", True))


# Where everything listens.


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of loopback that the shipped files name, or those so far above."""

    exporter: int
    prometheus: int
    alertmanager: int
    receiver: int

    @classmethod
    def shipped(cls, offset: int) -> "Ports":
        """Read them from the files."""
        prometheus = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
        jobs = {job["job_name"]: job for job in prometheus["scrape_configs"]}
        receivers = re.findall(r"127\.0\.0\.1:(\d+)", (SHIPPED / "alertmanager.yml").read_text())
        found = [_target(jobs["vcc"]), _target(jobs["prometheus"]), _target(prometheus["alerting"]["alertmanagers"][0])]
        return cls(*(port + offset for port in (*found, int(receivers[-1]))))

    def check(self) -> None:
        """Raise StackError where one is taken, by whomever."""
        named = {
            "the exporter": self.exporter,
            "Prometheus": self.prometheus,
            "Alertmanager": self.alertmanager,
            "the receiver of alerts": self.receiver,
        }
        taken = [f"port {port}, for {name}" for name, port in named.items() if _is_taken(port)]
        if taken:
            raise StackError(f"something listens already on {'; '.join(taken)}. Nothing was started.")


def _target(section: Any) -> int:
    return int(section["static_configs"][0]["targets"][0].rpartition(":")[2])


def _is_taken(port: int) -> bool:
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            socket.create_server((host, port), family=family).close()
        except OSError as error:
            if error.errno == EADDRINUSE:
                return True
    return False


# The files, as shipped or with other ports.


def configs(folder: Path, offset: int, *, hurry: bool) -> Path:
    """Return the folder with the shipped files; a copy with other ports or times where they are wanted."""
    if not offset and not hurry:
        return SHIPPED
    copied = folder / "prometheus"
    shutil.copytree(SHIPPED / "rules", copied / "rules")
    for name in ("prometheus.yml", "alertmanager.yml"):
        text = (SHIPPED / name).read_text()
        text = re.sub(r"(localhost|127\.0\.0\.1):(\d+)", lambda at: f"{at[1]}:{int(at[2]) + offset}", text)
        (copied / name).write_text(_hurried(text) if hurry else text)
    if hurry:
        alerts = copied / "rules" / "vcc.alerts.yml"
        alerts.write_text(re.sub(r"\bfor: (\d+)m\b", _hurried_wait, alerts.read_text()))
    return copied


def _hurried_wait(wait: re.Match[str]) -> str:
    # A second would be too short: after a start there is nothing for five of them, and no exporter for five minutes.
    return f"for: {2 * int(wait[1])}s"


def _hurried(text: str) -> str:
    return re.sub(r"\b((?:scrape|evaluation|group)_(?:interval|wait)): \w+", r"\1: 1s", text)


# What was started.


@dataclass(slots=True)
class Part:
    """A process of ours, the leader of its own group, so that Ctrl-C reaches us alone."""

    name: str
    process: subprocess.Popen[bytes]
    output: Path

    def signal(self, number: signal.Signals) -> None:
        """Signal it, and what it has started."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def last_words(self) -> str:
        """Return the end of what it has written."""
        lines = self.output.read_text(errors="replace").splitlines()
        return "".join(f"\n  {line}" for line in lines[-5:])


class Stack:
    """The parts that run, and what to wait for while they do."""

    def __init__(self, folder: Path, wish: Wish) -> None:
        self.folder = folder
        self._wish = wish
        self._parts: list[Part] = []

    def start(self, name: str, *command: str | Path) -> Part:
        """Start a part that is to run until the end."""
        part = self._begin(name, *command)
        self._parts.append(part)
        return part

    def _begin(self, name: str, *command: str | Path) -> Part:
        output = self.folder / f"{name.replace(' ', '-')}.log"
        # What promtool leaves in the folder for temporary files when it is ended goes with ours.
        environment = {**os.environ, "TMPDIR": str(self.folder)}
        with output.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        return Part(name, process, output)

    def attend(self, done: Callable[[], bool], what: str = "", limit_s: float = float("inf")) -> None:
        """Wait; raises StoppedError when it is to end, StackError when a part did, or after the limit."""
        clock = Clock()
        until = clock.monotonic() + limit_s
        while not done():
            time.sleep(LOOK_S)  # a signal cuts it short for its handler only
            if self._wish.ended:
                raise StoppedError
            for part in self._parts:
                if part.process.poll() is not None:
                    raise StackError(
                        f"{part.name} has ended ({_status(part)}), and so has the rest.{part.last_words()}"
                    )
            if clock.monotonic() > until:
                raise StackError(f"{what} did not come in {limit_s:.0f} s.")

    def run(self, tell: Callable[[int], None], *commands: list[str | Path]) -> None:
        """Run commands to their end, side by side, and tell how many lines they have written so far."""
        parts = []
        try:
            for number, command in enumerate(commands):
                parts.append(self._begin(f"history {number}", *command))

            def look() -> bool:
                tell(sum(part.output.read_bytes().count(b"one\n") for part in parts))
                failed = next((part for part in parts if part.process.poll() not in {None, 0}), None)
                if failed:
                    raise StackError(f"the past could not be made ({_status(failed)}).{failed.last_words()}")
                return all(part.process.poll() == 0 for part in parts)

            self.attend(look)
        finally:
            end(parts)

    def stop(self) -> None:
        """End all parts, the youngest first."""
        end(self._parts[::-1])


def _status(part: Part) -> str:
    code = part.process.returncode
    return f"exit status {code}" if code >= 0 else signal.Signals(-code).name


def end(parts: list[Part]) -> None:
    """End processes, kindly at first."""
    for number, grace_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        for part in parts:
            part.signal(number)
        until = Clock().monotonic() + grace_s
        for part in parts:
            with suppress(subprocess.TimeoutExpired):
                part.process.wait(max(0.0, until - Clock().monotonic()))


# The receiver of alerts.


@contextmanager
def receiving(port: int, tell: Callable[[str], None]) -> Iterator[None]:
    """Listen for what Alertmanager sends, and tell of each alert in a line."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()
            for alert in message["alerts"]:
                tell(line(self.path.strip("/"), alert))

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(LOOK_S,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def line(receiver: str, alert: dict[str, Any]) -> str:
    """Write an alert as it would reach somebody, in a line."""
    labels, at = alert["labels"], Clock().now().astimezone()
    where = " ".join(filter(None, (labels.get("customer"), labels.get("project"))))
    first = f"{at:%H:%M:%S}  to {receiver:<5}  {alert['status']:<8}  {labels['alertname']:<21}"
    return f"{first}  {where:<12}  {labels['severity']:<8}  {alert['annotations']['summary']}"


# The past.


def make_past(stack: Stack, exporter: Part, instance: str, length: timedelta, only: timedelta | None) -> None:
    """Make a past up to now, what the rules would have recorded of it, and then what passed meanwhile."""
    clock = Clock()
    now = clock.now()
    begin = now - length
    data = stack.folder / "data"
    made: list[str | Path] = [sys.executable, "-m", "tools.history", data, f"--run-since={begin.timestamp()}"]
    made += [f"--instance={instance}", f"--pid={exporter.process.pid}"]

    def commands(first: datetime, last: datetime, parts: int = 1) -> list[list[str | Path]]:
        asked = [*made, f"--first={first.timestamp()}", f"--last={last.timestamp()}", f"--parts={parts}"]
        return [[*asked, f"--part={part}"] for part in range(parts)]

    words = f"{length.days} days of history" if length.days else "some hours of history"
    quarters = 2 * sum(-((first - last) // history.QUARTER) for first, last in history.stretches(begin, now))
    pieces = weekly(begin, now, only) if only else []
    with _progress(f"Making {words}", quarters) as shown:
        stack.run(
            shown, *(c for piece in pieces for c in commands(*piece)), *([] if pieces else commands(begin, now, PARTS))
        )
    # The first scrape may be a step after the beginning.
    spans = [(first + history.STEP, last) for first, last in pieces or [(begin, now)]]
    record: list[str | Path] = [sys.executable, "-m", "tools.recorded", data]
    for first, last in spans:
        record += ["--span", str(int(first.timestamp())), str(int(last.timestamp()))]
    with _progress(f"Recording what the rules make of {words}", recorded.amount(spans)) as shown:
        stack.run(shown, record)
    stack.run(lambda _: None, *commands(now, clock.now()))


def weekly(begin: datetime, now: datetime, only: timedelta) -> list[tuple[datetime, datetime]]:
    """Return so long a piece of each week up to this time of it, and of past weeks an hour more, which is to come."""
    weeks = range((now - begin) // WEEK + 1)
    return [(now - n * WEEK - only, now - n * WEEK + (timedelta(hours=1) if n else timedelta())) for n in weeks]


@contextmanager
def _progress(words: str, whole: int) -> Iterator[Callable[[int], None]]:
    """Yield what shows how much is done; in the end it is wiped off a terminal."""
    if not sys.stderr.isatty():
        _write(sys.stderr, f"{words}\n")
        yield lambda _: None
        return

    def show(text: str) -> None:
        _write(sys.stderr, f"\r{text:<60}\r{text}")

    try:
        yield lambda done: show(f"{words}: {100 * done // max(1, whole)} %")
    finally:
        show("")


# What it says.


def screen(ports: Ports, simulator: str, length: timedelta | None) -> str:
    """Return where to look and what to try, with the simulator's address where that is not the usual one."""
    python = Path(sys.executable)
    program = shlex.quote(os.path.relpath(python, ROOT) if ROOT in python.parents else str(python))
    command = f"{program} -m vcc_exporter.simulator{f' --at={simulator}' if simulator else ''}"
    # Of a customer that is closed nobody is told.
    centre = busiest(Clock().now())
    tries = {
        "unauthorized": "its key is refused: VccCredentialsRefused, in two to three minutes",
        "well": "... and is good again",
        f"understaffed agents={max(centre.agents) // 3}": "agents go home: VccServiceLevelLow, in about half an hour",
        "calls_stopped": "no call comes in: VccCallsStopped, in 40 to 50 minutes",
    }
    prometheus = f"http://localhost:{ports.prometheus}"
    # Prometheus 2 as Debian builds it has only the pages that 3 has no more.
    pages = f"{prometheus}/classic" if _answers(f"{prometheus}/classic/alerts") else prometheus
    places = {
        f"http://localhost:{ports.exporter}/": "today's calls, for people",
        f"{pages}/alerts": "what Prometheus watches for",
        f"{pages}/graph": f"what it knows{f' of {length.days} days' if length and length.days else ''}",
        f"http://localhost:{ports.alertmanager}/": "Alertmanager's page; Debian's has none",
    }
    return _SCREEN.format(
        places=_table(places, max(map(len, places))),
        alertmanager=ports.alertmanager,
        tries=_table({f"{command} {centre.customer} {what}": f"\n      {words}" for what, words in tries.items()}, 0),
    )


def _table(lines: Mapping[str, str], width: int) -> str:
    return "".join(f"  {line:{width}}   {words}\n" if width else f"  {line}{words}\n" for line, words in lines.items())


_SCREEN: Final = """\
vcc-exporter with Prometheus and Alertmanager, a demo: all on this machine, every caller simulated

{places}
Ask Prometheus, and Alertmanager:
  sum by (customer) (vcc_inbound_answered_before_calls)
  amtool --alertmanager.url=http://localhost:{alertmanager} alert

Rehearse from a second terminal, in this folder:
{tries}
What would reach somebody comes below. Ctrl-C ends all of this and leaves nothing behind.

"""


def busiest(now: datetime) -> Centre:
    """Return the call centre with the most calls in the half hour before."""
    simulator, since, day = Simulator(DEMO_CENTRES, now=lambda: now), now.timestamp() - 1800, timedelta(days=1)

    def calls(centre: Centre) -> int:
        known = simulator.calls(centre.customer, (now - day).date(), (now + day).date())
        return sum(call.ended > since for call in known)

    return max(DEMO_CENTRES, key=calls)


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


def _tell(text: str) -> None:
    _write(sys.stdout, f"{text}\n")


def _write(stream: Any, text: str) -> None:
    with suppress(OSError, ValueError):  # a terminal that is gone ends this by its signal
        stream.write(text)
        stream.flush()


# All of it.


def run(flags: argparse.Namespace, wish: Wish) -> None:
    """Start everything and attend to it; raises StackError and StoppedError."""
    ports = Ports.shipped(flags.port_offset)
    ports.check()
    programs = _programs()
    with ExitStack() as last:
        folder = Path(last.enter_context(tempfile.TemporaryDirectory(prefix="vcc-stack-")))
        last.enter_context(receiving(ports.receiver, _tell))
        stack = Stack(folder, wish)
        last.callback(stack.stop)
        files = configs(folder, flags.port_offset, hurry=flags.hurry)
        listen = "--web.listen-address=127.0.0.1"
        exporter = stack.start(
            "the exporter", sys.executable, ROOT / "exporter.py", "--demo", f"{listen}:{ports.exporter}"
        )
        stack.start(
            "Alertmanager",
            programs["Alertmanager"],
            f"--config.file={files / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alerts'}",
            f"{listen}:{ports.alertmanager}",
            "--cluster.listen-address=",
        )
        _until_ready(stack, "The exporter", ports.exporter)
        _until_ready(stack, "Alertmanager", ports.alertmanager)
        if flags.history:
            make_past(stack, exporter, f"localhost:{ports.exporter}", flags.history, flags.only)
        stack.start(
            "Prometheus",
            programs["Prometheus"],
            f"--config.file={files / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--storage.tsdb.retention.time={RETENTION}",
            f"{listen}:{ports.prometheus}",
            "--log.level=warn",
        )
        _until_ready(stack, "Prometheus", ports.prometheus)
        at = re.search(r"--at=(\S+)", exporter.output.read_text(errors="replace"))
        _write(sys.stdout, screen(ports, at[1] if at else "", flags.history))
        stack.attend(lambda: False)


def _until_ready(stack: Stack, name: str, port: int) -> None:
    stack.attend(lambda: _answers(f"http://127.0.0.1:{port}/-/ready"), f"{name}'s readiness", PATIENCE_S)


def _programs() -> dict[str, str]:
    """Find them; Debian gives Alertmanager another name."""
    wanted = {"Prometheus": ("prometheus",), "promtool": ("promtool",), "Alertmanager": _ALERTMANAGERS}
    found = {name: next(filter(None, map(shutil.which, names)), "") for name, names in wanted.items()}
    lacking = [name for name, path in found.items() if not path]
    if lacking:
        raise StackError(f"no {' and no '.join(lacking)} in PATH. `tools/install-parts stack` installs them.")
    return found


_ALERTMANAGERS: Final = ("prometheus-alertmanager", "alertmanager")


def _length(text: str) -> timedelta:
    length = parse_duration(text)
    if not timedelta(hours=1) <= length <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text} is not between 1h and 4w")
    return length


LONGEST: Final = 4 * WEEK


def main() -> int:
    """Run until a signal, with status 0, or until something is wrong, with 1."""
    parser = argparse.ArgumentParser(prog="tools/stack.py", description=(__doc__ or "").partition(":")[0] + ".")
    past = parser.add_mutually_exclusive_group()
    past.add_argument("--no-history", dest="history", action="store_const", const=None, help="no past")
    past.add_argument("--history", type=_length, help="how long a past, such as 6h; default 4w")
    parser.add_argument("--only", type=_length, help="of each week so much before this time of it, such as 2h")
    parser.add_argument("--hurry", action="store_true", help="an alert waits 2 s for each minute of its rule")
    parser.add_argument("--port-offset", type=int, default=0, help="add this to every port of the shipped files")
    parser.set_defaults(history=LONGEST)
    flags = parser.parse_args()
    wish = Wish()
    wish.heed()
    try:
        run(flags, wish)
    except StoppedError:
        return 0
    except StackError as error:
        _write(sys.stderr, f"stack: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
