"""Real Prometheus against the daemon: both formats, and its answers against the simulator's numbers."""

import dataclasses
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from conftest import StartDaemon
from running import Prometheus, eventually, fetch, noon_zone, one

from vcc_exporter.exposition import Format
from vcc_exporter.simulator import CENTRES, Simulator
from vcc_exporter.vocabulary import STATISTICS


@contextmanager
def text_only(daemon_url: str) -> Iterator[str]:
    """Stand before the daemon as a client that knows only the text format; yields host and port."""

    class Relay(BaseHTTPRequestHandler):
        formats: ClassVar[set[str]] = set()

        def do_GET(self) -> None:
            status, body, headers = fetch(daemon_url + self.path, Accept="text/plain;version=0.0.4")
            Relay.formats.add(str(headers["Content-Type"]))
            self.send_response(status)
            self.send_header("Content-Type", str(headers["Content-Type"]))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Relay)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
        assert Relay.formats == {Format.TEXT.value}
    finally:
        server.shutdown()
        server.server_close()


def test_prometheus_gives_the_simulators_numbers_in_both_formats(
    start_daemon: StartDaemon, start_prometheus: Callable[[list[dict[str, Any]]], Prometheus]
) -> None:
    """What the simulator counts is what Prometheus's query API returns, whichever format it scraped."""
    zone, now = noon_zone(), datetime.now(UTC)  # noqa: TID251 - the daemon uses the real clock
    centres = [dataclasses.replace(centre, zone=zone) for centre in CENTRES]
    with Simulator(centres, now=lambda: now) as simulator:
        config = "poll: {interval: 1s}\ncustomers:\n" + "".join(
            f"  - {{name: {c.customer}, url: '{simulator.url}', api_key: {c.key}, timezone: {zone}, sla: {c.sla_s}}}\n"
            for c in centres
        )
        daemon = start_daemon(config)
        daemon.wait_for(lambda page: all(one(page, "vcc_up", customer=c.customer) for c in centres), "good polls")
        with text_only(daemon.url) as relay:
            jobs = [
                {"job_name": job, "honor_labels": True, "static_configs": [{"targets": [target]}]}
                for job, target in (("openmetrics", daemon.addresses[0]), ("text", relay))
            ]
            prometheus = start_prometheus(jobs)
            prometheus.wait_until_scraped(2)
            eventually(lambda: len(prometheus.query("vcc_up == 1")) == 2 * len(centres), "the samples")
            today = now.astimezone(ZoneInfo(zone)).strftime("%Y%m%d")
            for centre in centres:
                rows = answer_of(simulator, centre.customer, centre.key, centre.sla_s, today)
                assert rows or centre.customer in {"bank", "utility", "webshop"}
                for row in rows:
                    check_row(prometheus, centre.customer, row)
            assert set(prometheus.query("vcc_polls_total")) == set(
                prometheus.query('vcc_polls_total{job=~"openmetrics|text"}')
            )
    assert promtool_findings(fetch(f"{daemon.url}/metrics")[1]) == ""


def check_row(prometheus: Prometheus, customer: str, row: dict[str, int]) -> None:
    """Hold one row of the simulator against both jobs."""
    selector = f'customer="{customer}",project="{row["projectid"]}",queue="{row["queueid"]}"'
    found = prometheus.query(f'{{__name__=~"vcc_inbound_.*",{selector}}}')
    values = {(dict(labels)["__name__"], dict(labels)["job"]): value for labels, value in found.items()}
    for statistic in STATISTICS:
        for job in ("openmetrics", "text"):
            assert values[statistic.metric, job] == row[statistic.key]


def answer_of(simulator: Simulator, customer: str, key: str, sla_s: int, day: str) -> list[dict[str, int]]:
    """Ask the simulator as any client would."""
    target = f"/v2/statistics/inbound?from={day}&to={day}&dimensions=project,queue,date&manual_sla={sla_s}"
    reply = simulator.reply("GET", target, (customer, key))
    rows: list[dict[str, int]] = json.loads(reply.body)["response"]
    return rows


def promtool_findings(page: bytes) -> str:
    """Return what promtool has to say of a page."""
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)  # noqa: S607
    return (checked.stdout + checked.stderr).decode()
