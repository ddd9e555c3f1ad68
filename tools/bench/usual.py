"""The usual way, as many would write it: requests, json, gauges that are set, the client library's own server.

`python -m tools.bench.usual PORT page FILE` serves the samples of a page. `… PORT polls URL CUSTOMERS` reads lines with
a number and polls as many customers, one after the other, then prints a line; with the next it goes on behind them.
"""

import itertools
import sys
import threading
from datetime import UTC
from pathlib import Path

import requests
from prometheus_client import Gauge, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from tools.bench.machine import clock
from vcc_exporter.vocabulary import DATA_FAMILIES, PAIR_LABELS, STATISTICS


def serve_page(file: str) -> None:
    """Set a gauge for each sample of a page."""
    gauges: dict[str, Gauge] = {}
    for family in text_string_to_metric_families(Path(file).read_text()):
        for sample in family.samples:
            if sample.name not in gauges:
                gauges[sample.name] = Gauge(sample.name, family.documentation, list(sample.labels))
            gauge = gauges[sample.name]
            (gauge.labels(**sample.labels) if sample.labels else gauge).set(sample.value)


def poll(url: str, customers: int) -> None:
    """Poll when told to, one customer after the other."""
    gauges = {s.key: Gauge(f.name, f.help, PAIR_LABELS) for s, f in zip(STATISTICS, DATA_FAMILIES, strict=True)}
    names = itertools.cycle([f"c{number:05}" for number in range(customers)])
    for line in sys.stdin:
        for customer in itertools.islice(names, int(line)):
            day = f"{clock.now().astimezone(UTC):%Y%m%d}"
            query = f"from={day}&to={day}&dimensions=project,queue,date&manual_sla=30"
            answer = requests.get(f"{url}/v2/statistics/inbound?{query}", auth=(customer, "key"), timeout=10)
            for row in answer.json()["response"]:
                project, queue = str(row["projectid"]), str(row["queueid"])
                for key, gauge in gauges.items():
                    gauge.labels(customer, project, project, queue, queue).set(row[key])
        sys.stdout.write("polled\n")
        sys.stdout.flush()


def main(port: str, mode: str, source: str, customers: str = "0") -> None:
    """Serve until ended."""
    if mode == "page":
        serve_page(source)
    start_http_server(int(port), "127.0.0.1")
    if mode == "polls":
        poll(source, int(customers))
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
