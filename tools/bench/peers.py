"""The API, the exporter that polls it, and what people would use instead: unmodified packages with the same series."""

import json
import re
import socket
import ssl
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trustme

from tools.bench import machine
from tools.bench.machine import ROOT, ROWS, BenchError, Part, Run
from tools.bench.scrape import ENCODINGS, Scraper, body
from vcc_exporter.config import Customer
from vcc_exporter.loading import load_config
from vcc_exporter.schedule import due_after
from vcc_exporter.vocabulary import STATISTICS

_PAGE_WITHIN_S: Final = 3
"""After a poll. To make the page of all that were overdue is no part of what is measured then."""
ONCE: Final = "12h"
"""An interval by which customers are polled at the start and not again in a run."""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def _serving(run: Run, name: str, port: int, ready: str, *command: str | Path) -> Iterator[Scraper]:
    with machine.running(run, name, run.server_core, *command) as part:
        machine.until(lambda: machine.answers(f"http://127.0.0.1:{port}{ready}"), "readiness", part)
        scraper = Scraper(part, port)
        yield scraper
        scraper.close()
        part.check()


# The API.


@dataclass(frozen=True, slots=True)
class Api:
    """A running `tools.bench.api`."""

    part: Part
    url: str
    ca_file: Path | None

    def polls(self) -> list[tuple[str, datetime]]:
        """Return who was polled when since the last time."""
        return [(name, datetime.fromtimestamp(at, UTC)) for name, at in self._told()[0]]

    def named(self) -> int:
        """Return how many requests for names have come. Forgets the polls."""
        return self._told()[1]

    def _told(self) -> tuple[list[tuple[str, float]], int]:
        context = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None
        with urllib.request.urlopen(f"{self.url}/bench", context=context) as answer:  # noqa: S310 - loopback
            polls, names = json.load(answer)
        return polls, names


@contextmanager
def _api(run: Run, name: str, rows: int, latency_ms: int, tls: bool) -> Iterator[Api]:
    certificate, ca_file = run.folder / f"{name}-api.pem", run.folder / f"{name}-ca.pem"
    if tls:
        authority = trustme.CA()
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        authority.cert_pem.write_to_path(str(ca_file))
    served = [str(certificate)] if tls else []
    command = [sys.executable, "-m", "tools.bench.api", str(rows), str(latency_ms), *served]
    with machine.running(run, f"API of {name}", run.client_core, *command) as part:
        port = part.process.stdout.readline() if part.process.stdout else b""
        if not port:
            part.process.wait()
            part.check()
        yield Api(part, f"http{'s' if tls else ''}://127.0.0.1:{int(port)}", ca_file if tls else None)


# The exporter.


@dataclass(frozen=True, slots=True)
class Polled:
    """A running exporter, and whom it polls where."""

    scraper: Scraper
    api: Api
    customers: dict[str, Customer]
    start_s: float
    """From the start of the process until it had answered a scrape."""

    def settle(self) -> None:
        """Wait until everybody was polled once, all names are known and no poll is overdue."""
        part, ready = self.scraper.part, f"http://127.0.0.1:{self.scraper.port}/-/ready"
        machine.until(lambda: machine.answers(ready), "a poll of each customer", part, 0.1)
        machine.until(lambda: self.api.named() >= len(self.customers), "names of all projects", part, 0.1)
        self.catch_up()

    def catch_up(self) -> None:
        """Wait until no poll is overdue, and what many made at once have changed is on the page."""

        def look() -> bool:
            self.api.polls()
            time.sleep(0.5)
            return max(self.lateness(), default=0) < 0.5  # noqa: PLR2004 - a sign that none waits for others

        machine.until(look, "the end of overdue polls", self.scraper.part)
        time.sleep(_PAGE_WITHIN_S)

    def lateness(self) -> list[float]:
        """Return by how many seconds each poll came after it was due, since the last time that anybody asked."""
        return [_late(self.customers[name], at, len(self.customers)) for name, at in self.api.polls()]

    def next_lateness(self) -> list[float]:
        """Return the same, of at least one poll. Raises BenchError where none comes."""
        found: list[float] = []

        def look() -> bool:
            found.extend(self.lateness())
            return bool(found)

        machine.until(look, "a poll", self.scraper.part, 0.1)
        return found

    def check(self) -> None:
        """Raise BenchError where a poll has failed."""
        failed = rb'(?m)^vcc_polls_total\{customer="[^"]+",result="(?!success)\w+"\} (?!0).*$'
        found = re.search(failed, body(self.scraper.port, "identity"))
        if found:
            raise BenchError(f"a poll failed: {found[0].decode()}")


def _late(customer: Customer, at: datetime, customers: int) -> float:
    rhythm = timedelta(minutes=1) if customer.schedule else customer.interval
    due = due_after(customer, at - rhythm, customers)
    return (at - due).total_seconds() if due else 0


@contextmanager
def exporter(
    run: Run,
    customers: int,
    interval: str = ONCE,
    schedule: str = "",
    *,
    name: str = "exporter",
    rows: int = ROWS,
    latency_ms: int = 0,
    tls: bool = False,
    program: Sequence[str | Path] = (ROOT / "exporter.py",),
) -> Iterator[Polled]:
    """Run the exporter, and an API for it. It has answered a scrape by then, and perhaps polled nobody yet."""
    path, port = run.folder / f"{name}.yaml", _free_port()
    flags = [f"--config.file={path}", f"--web.listen-address=127.0.0.1:{port}", "--web.enable-lifecycle"]
    with _api(run, name, rows, latency_ms, tls) as api:
        path.write_text(config_text(api, customers, interval, schedule))
        began = machine.clock.monotonic()
        with _serving(run, name, port, "/metrics", sys.executable, *program, *flags) as scraper:
            start_s = machine.clock.monotonic() - began
            yield Polled(scraper, api, {c.name: c for c in load_config(path).customers}, start_s)


def config_text(api: Api, customers: int, interval: str, schedule: str = "", first_key: str = "key") -> str:
    """Return the exporter's config; `first_key` is the first customer's."""
    # About noon there, so that no midnight comes into a run; the sign is the other way round in these names.
    zone = f"Etc/GMT{(machine.clock.now().hour + 12) % 24 - 12:+d}"
    lines = ["poll:", f"  interval: {interval}", "  timeout: 5m", "  lookback: 0", "customers:"]
    for number in range(customers):
        lines += [f"  - name: c{number:05}", f"    url: {api.url}", f"    timezone: {zone}"]
        lines += [f"    api_key: {'key' if number else first_key}"]
        lines += [f"    ca_file: {api.ca_file}"] if api.ca_file else []
        lines += [f'    schedule: "{schedule}"'] if schedule else []
    return "\n".join(lines) + "\n"


def interval_for(customers: int, polls_a_second: int) -> str:
    """Return the interval that makes so many polls a second, or the shortest that a config may have."""
    return f"{max(100, round(1000 * customers / polls_a_second))}ms"


# What people would use instead.


@contextmanager
def nginx(run: Run, plain: bytes, packed: bytes) -> Iterator[Scraper]:
    """Run nginx with a file and its compressed twin."""
    root, path, port = run.folder / "nginx", run.folder / "nginx.conf", _free_port()
    root.mkdir()
    (root / "metrics").write_bytes(plain)
    (root / "metrics.gz").write_bytes(packed)
    spare = "".join(f"{kind}_temp_path {root}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    path.write_text(
        f"daemon off; worker_processes 1; pid {root}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; gzip_static on; keepalive_requests 1000000; {spare}\n"
        f"server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n"
    )
    with _serving(run, "nginx", port, "/metrics", "nginx", "-c", path) as scraper:
        yield scraper


@contextmanager
def node_exporter(run: Run, page: bytes) -> Iterator[Scraper]:
    """Run node_exporter with a file for its textfile collector, and with no other collector."""
    folder, port = run.folder / "textfile", _free_port()
    folder.mkdir()
    (folder / "vcc.prom").write_bytes(page)
    flags = ["--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={folder}"]
    flags += ["--web.disable-exporter-metrics", f"--web.listen-address=127.0.0.1:{port}"]
    with _serving(run, "node_exporter", port, "/metrics", "prometheus-node-exporter", *flags) as scraper:
        yield scraper


@contextmanager
def pushgateway(run: Run, page: bytes) -> Iterator[Scraper]:
    """Run the Pushgateway, to which a page is pushed."""
    port = _free_port()
    flag = f"--web.listen-address=127.0.0.1:{port}"
    with _serving(run, "Pushgateway", port, "/-/ready", "prometheus-pushgateway", flag) as scraper:
        push = urllib.request.Request(f"http://127.0.0.1:{port}/metrics/job/vcc", page, method="PUT")
        urllib.request.urlopen(push).close()  # noqa: S310 - loopback
        yield scraper


@contextmanager
def client_library(run: Run, *source: str | Path) -> Iterator[Scraper]:
    """Run `tools.bench.usual` on a page or on polls: the client library's own server."""
    port = _free_port()
    command = [sys.executable, "-m", "tools.bench.usual", str(port), *source]
    with _serving(run, "prometheus_client", port, "/metrics", *command) as scraper:
        yield scraper


@contextmanager
def all_peers(run: Run, shown: Polled) -> Iterator[dict[str, Scraper]]:
    """Run all on what an exporter shows. Raises BenchError where one has not the same series of calls."""
    port = shown.scraper.port
    families = re.split(rb"(?m)^(?=# HELP )", body(port, "identity", Accept="text/plain"))
    # Without those of the process, which the peers have of their own.
    page = b"".join(family for family in families if family.startswith(b"# HELP vcc_"))
    path = run.folder / "page.txt"
    path.write_bytes(page)
    with ExitStack() as stack:
        found = {
            "nginx": stack.enter_context(nginx(run, *(body(port, encoding) for encoding in ENCODINGS))),
            "exporter": shown.scraper,
            "Pushgateway": stack.enter_context(pushgateway(run, page)),
            "node_exporter": stack.enter_context(node_exporter(run, page)),
            "prometheus_client": stack.enter_context(client_library(run, "page", path)),
        }
        expected = len(shown.customers) * ROWS * len(STATISTICS)
        for name, scraper in found.items():
            series = scraper.series()
            if series != expected:
                raise BenchError(f"expected {expected} series of {name}, found {series}")
        yield found


@contextmanager
def prometheus(run: Run, target: Scraper, interval: str) -> Iterator[tuple[Part, str]]:
    """Run a Prometheus on the clients' core that scrapes one target; yields its address, too."""
    path, port = run.folder / "prometheus.yml", _free_port()
    jobs = [{"job_name": "vcc", "static_configs": [{"targets": [f"127.0.0.1:{target.port}"]}]}]
    path.write_text(json.dumps({"global": {"scrape_interval": interval}, "scrape_configs": jobs}))
    flags = [f"--config.file={path}", f"--storage.tsdb.path={run.folder / 'tsdb'}", "--log.level=warn"]
    url = f"http://127.0.0.1:{port}"
    flags += [f"--web.listen-address=127.0.0.1:{port}"]
    with machine.running(run, "prometheus", run.client_core, "prometheus", *flags) as part:
        machine.until(lambda: machine.answers(f"{url}/-/ready"), "readiness", part)
        yield part, url
