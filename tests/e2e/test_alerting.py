"""From a broken key to a telephone: the daemon, Prometheus, Alertmanager and a receiver, on shipped files."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from conftest import StartDaemon
from running import ROOT, Prometheus, answers, end, eventually, free_port, one

from vcc_exporter.simulator import CENTRES, Simulator

EXAMPLES = ROOT / "prometheus"


class Receiver:
    """An HTTP server that keeps what Alertmanager sends it."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, Any]]] = []
        """Path and alert, as they came."""
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                received.extend((self.path, alert) for alert in message["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.server.server_address[1]}"

    def has(self, path: str, status: str, **labels: str) -> dict[str, Any] | None:
        """Return an alert of that status with these labels, if it came by that path."""
        found = (a for p, a in list(self.received) if p == path and a["status"] == status)
        return next((alert for alert in found if labels.items() <= alert["labels"].items()), None)

    def names(self, customer: str) -> set[str]:
        """Return the names of all alerts about a customer that ever came."""
        return {a["labels"]["alertname"] for _, a in list(self.received) if a["labels"].get("customer") == customer}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver."""
    running = Receiver()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture
def start_alerting(tmp_path: Path, receiver: Receiver) -> Iterator[Callable[[str], Prometheus]]:
    """Start Alertmanager and Prometheus on the shipped files, a minute in them made a second, for a target."""
    with ExitStack() as stack:

        def start(target: str) -> Prometheus:
            manager = f"127.0.0.1:{free_port()}"
            flags = [f"--storage.path={tmp_path / 'alerts'}", "--cluster.listen-address="]
            _run(stack, tmp_path, "prometheus-alertmanager", _alertmanager(tmp_path, receiver.address), manager, *flags)
            prometheus = f"127.0.0.1:{free_port()}"
            flags = [f"--storage.tsdb.path={tmp_path / 'data'}", "--log.level=warn"]
            _run(stack, tmp_path, "prometheus", _prometheus(tmp_path, target, manager), prometheus, *flags)
            return Prometheus(f"http://{prometheus}")

        yield start


def _run(stack: ExitStack, folder: Path, program: str, config: Path, address: str, *flags: str) -> None:
    output = stack.enter_context((folder / f"{program}.log").open("wb"))
    command = [program, f"--config.file={config}", f"--web.listen-address={address}", *flags]
    process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603
    stack.callback(end, process)
    eventually(lambda: answers(f"http://{address}/-/ready"), f"{program} to be ready")


def _alertmanager(folder: Path, receiver: str) -> Path:
    text = (EXAMPLES / "alertmanager.yml").read_text().replace("127.0.0.1:9199", receiver)
    path = folder / "alertmanager.yml"
    path.write_text(re.sub(r"group_(wait|interval): \w+", r"group_\1: 1s", text))
    return path


def _prometheus(folder: Path, target: str, manager: str) -> Path:
    config = yaml.safe_load((EXAMPLES / "prometheus.yml").read_text())
    # A scrape may take three seconds, so that a machine with other work to do loses no exporter.
    config["global"] = {"scrape_interval": "3s", "scrape_timeout": "3s", "evaluation_interval": "1s"}
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [manager]
    config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] == "vcc"]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    (folder / "rules").mkdir()
    for name in config["rule_files"]:
        text = (EXAMPLES / name).read_text()
        (folder / name).write_text(re.sub(r"for: (\d+)m", r"for: \1s", text))
    path = folder / "prometheus.yml"
    path.write_text(json.dumps(config))
    return path


def firing(prometheus: Prometheus) -> set[tuple[str, str]]:
    """Return the name and the customer of all alerts that fire."""
    alerts = prometheus.get("/api/v1/alerts")["alerts"]
    return {(a["labels"]["alertname"], a["labels"].get("customer", "")) for a in alerts if a["state"] == "firing"}


@pytest.mark.timeout(300)
def test_a_refused_key_reaches_who_is_on_call_and_what_follows_from_it_does_not(
    start_daemon: StartDaemon, start_alerting: Callable[[str], Prometheus], simulator: Simulator, receiver: Receiver
) -> None:
    """The webhook hears of the one customer's key, in words, of nothing that it causes, and that it is mended."""
    customers = "".join(
        f"  - {{name: {c.customer}, url: '{simulator.url}', api_key: {c.key}, timezone: {c.zone}}}\n" for c in CENTRES
    )
    daemon = start_daemon(f"poll: {{interval: 1s, timeout: 1s}}\ncustomers:\n{customers}")
    daemon.wait_for(lambda page: all(one(page, "vcc_up", customer=c.customer) for c in CENTRES), "good polls")
    prometheus = start_alerting(daemon.addresses[0])
    prometheus.wait_until_scraped(1)
    eventually(lambda: len(prometheus.query("vcc_up == 1")) == len(CENTRES), "the samples")

    simulator.rekey("bank", "another")
    alert = eventually(lambda: receiver.has("/call", "firing", alertname="VccCredentialsRefused"), "the alert")
    assert alert["labels"]["customer"] == "bank"
    assert alert["labels"]["severity"] == "critical"
    assert alert["labels"]["result"] == "unauthorized"
    assert "bank" in alert["annotations"]["description"]
    assert alert["annotations"]["runbook_url"] == "docs/runbooks/VccCredentialsRefused.md"
    eventually(lambda: ("VccPollFailing", "bank") in firing(prometheus), "what follows from it")
    assert {customer for _, customer in firing(prometheus) if customer} == {"bank"}

    simulator.rekey("bank", next(c.key for c in CENTRES if c.customer == "bank"))
    eventually(lambda: receiver.has("/call", "resolved", alertname="VccCredentialsRefused", customer="bank"), "its end")
    eventually(lambda: not firing(prometheus), "silence")
    assert receiver.names("bank") == {"VccCredentialsRefused"}
    assert {a["labels"]["customer"] for _, a in receiver.received if "customer" in a["labels"]} == {"bank"}


@pytest.mark.timeout(300)
def test_an_exporter_that_is_gone_is_told_and_taken_back(
    start_daemon: StartDaemon, start_alerting: Callable[[str], Prometheus], simulator: Simulator, receiver: Receiver
) -> None:
    """When the process ends the webhook hears of the exporter alone, and again when another runs in its place."""
    address = f"127.0.0.1:{free_port()}"
    customer = CENTRES[0]
    config = (
        "poll: {interval: 1s, timeout: 1s}\ncustomers:\n"
        f"  - {{name: bank, url: '{simulator.url}', api_key: {customer.key}, timezone: {customer.zone}}}\n"
    )
    daemon = start_daemon(config, f"--web.listen-address={address}")
    prometheus = start_alerting(address)
    prometheus.wait_until_scraped(1)
    eventually(lambda: prometheus.query("customer:vcc_inbound_day_start:newest"), "a recorded series")

    daemon.stop()
    # Without an instance it is that of a Prometheus that has not scraped for the first time yet.
    down = {"alertname": "VccExporterDown", "instance": address}
    eventually(lambda: receiver.has("/call", "firing", **down), "the alert")
    assert not prometheus.query("customer:vcc_inbound_day_start:newest")

    start_daemon(config, f"--web.listen-address={address}")
    eventually(lambda: receiver.has("/call", "resolved", **down), "its end")
    assert {a["labels"]["alertname"] for _, a in receiver.received} == {"VccExporterDown"}
