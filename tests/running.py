"""Real processes under test: the daemon and Prometheus, and ways to wait for what they do."""

import asyncio
import json
import selectors
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path
from typing import Any, Final, TypeVar

from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from vcc_exporter.guard import Guard
from vcc_exporter.store import Store
from vcc_exporter.web import Reload, application

ROOT: Final = Path(__file__).parent.parent
T = TypeVar("T")

Labels = frozenset[tuple[str, str]]
Samples = Mapping[tuple[str, Labels], float]


def eventually(look: Callable[[], T | None], what: str, timeout_s: float = 60) -> T:
    """Return what `look` returns once that is true; the limit only ends a test that has failed."""
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.05)):
        found = look()
        if found:
            return found
        pause.wait(0.05)
    raise AssertionError(f"waited in vain for {what}")


def fetch(url: str, method: str = "GET", **headers: str) -> tuple[int, bytes, Message]:
    """Return status, body and headers of an HTTP answer, whatever the status."""
    request = urllib.request.Request(url, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()})  # noqa: S310 - loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def parse_page(text: str) -> Samples:
    """Return a text page's samples by name and labels. Fails where one comes twice."""
    samples: dict[tuple[str, Labels], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in samples, f"twice: {key}"
            samples[key] = sample.value
    return samples


def one(samples: Samples, name: str, **labels: str) -> float | None:
    """Return the one sample that has these labels, perhaps among others; None where there is none."""
    found = [value for (n, having), value in samples.items() if n == name and labels.items() <= dict(having).items()]
    assert len(found) <= 1, f"{name} {labels} is {len(found)} samples"
    return found[0] if found else None


def names_with(samples: Samples, **labels: str) -> set[str]:
    """Return the names of all samples with these labels."""
    return {name for name, having in samples if labels.items() <= dict(having).items()}


@dataclass
class Daemon:
    """One running exporter."""

    process: subprocess.Popen[bytes]
    output: Path
    """Everything that it has written."""
    addresses: list[str] = field(default_factory=list)

    @property
    def log(self) -> str:
        """Return everything that it has written so far."""
        return self.output.read_text(errors="replace")

    @property
    def url(self) -> str:
        """Return the address of the first listener."""
        return f"http://{self.addresses[0]}"

    def wait_until_listening(self, addresses: int) -> None:
        """Wait until it serves on so many addresses."""

        def look() -> bool:
            found = [line.rpartition("address=")[2] for line in self.log.splitlines() if "msg=listening" in line]
            self.addresses = [address.replace("[::]", "[::1]") for address in found]
            return (len(found) >= addresses and "started" in self.log) or self.process.poll() is not None

        eventually(look, "the daemon to listen")
        assert self.process.poll() is None, self.log

    def page(self) -> Samples:
        """Scrape it."""
        status, body, _ = fetch(f"{self.url}/metrics")
        assert status == 200
        return parse_page(body.decode())

    def wait_for(self, condition: Callable[[Samples], T | None], what: str, timeout_s: float = 60) -> T:
        """Scrape it until a condition holds."""
        return eventually(lambda: condition(self.page()), what, timeout_s)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 20) -> int:
        """End it with a signal and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)


LOOPBACK: Final = "--web.listen-address=127.0.0.1:0"


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that a test started, kindly at first."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def noon_zone() -> str:
    """Return a zone in which it is about noon, so that no midnight comes between."""
    hours = (datetime.now(UTC).hour - 12) % 24  # noqa: TID251 - the daemon under test uses the real clock
    hours = hours - 24 if hours > 12 else hours
    # The sign is the other way round in these names.
    return f"Etc/GMT{hours:+d}" if hours else "Etc/GMT"


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> Any:
        """Return the data of an answer of its API."""
        status, body, _ = fetch(f"{self.url}{path}")
        assert status == 200, body
        return json.loads(body)["data"]

    def query(self, expression: str) -> dict[Labels, float]:
        """Return an instant query's values by labels, the metric's name among them."""
        found = self.get("/api/v1/query?query=" + urllib.parse.quote(expression))["result"]
        return {frozenset(item["metric"].items()): float(item["value"][1]) for item in found}

    def wait_until_scraped(self, targets: int) -> None:
        """Wait until so many targets are scraped well."""

        def look() -> bool:
            active = self.get("/api/v1/targets")["activeTargets"]
            return len(active) == targets and all(target["health"] == "up" for target in active)

        eventually(look, "Prometheus to scrape")


def answers(url: str) -> bool:
    """Tell whether somebody answers there, and well."""
    try:
        return fetch(url)[0] == 200
    except OSError:
        return False


def free_port() -> int:
    """Return a port of loopback that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def serving(
    store: Store, path: str = "/metrics", reload: Reload | None = None, notice: str = "", guard: Guard | None = None
) -> Iterator[str]:
    """Serve the application from a thread of its own, behind a guard if there is one; yields its address."""
    selector = selectors.DefaultSelector()
    loop = asyncio.SelectorEventLoop(selector)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def begin() -> tuple[web.AppRunner, int]:
        app = application(store, path, reload, lambda: notice)
        if guard:
            app.middlewares.append(guard.admit)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port: int = runner.addresses[0][1]
        return runner, port

    try:
        runner, port = asyncio.run_coroutine_threadsafe(begin(), loop).result(30)
        yield f"http://127.0.0.1:{port}"
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result(30)
        # The loop's own waker is all that stays.
        eventually(lambda: len(selector.get_map()) == 1, "all connections to be closed")
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
