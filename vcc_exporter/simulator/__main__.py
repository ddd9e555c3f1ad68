"""`python -m vcc_exporter.simulator`: the simulated API alone, or a fault rehearsed on one that runs."""

import argparse
import http.client
import signal
import sys
import threading
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from vcc_exporter.simulator import DEMO_PORT
from vcc_exporter.simulator.api import CONTROL, Simulator

WELL: Final = "well"
"""What stands in a fault's place to end one."""


def address(text: str) -> tuple[str, int]:
    """Read host:port, an IPv6 host in brackets."""
    host, _, port = text.rpartition(":")
    if not 0 <= int(port) <= 65535:  # noqa: PLR2004 - the largest port
        raise ValueError(port)
    return host.strip("[]") or "127.0.0.1", int(port)


def main() -> int:
    """Serve until SIGINT or SIGTERM, or rehearse a fault; gives 1 where the port or the simulator cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m vcc_exporter.simulator", description=__doc__)
    parser.add_argument("customer", nargs="?", help="rehearse a fault of this call centre's API, such as bank")
    parser.add_argument("fault", nargs="?", default="", help=f"which one; {WELL} ends it; without it all are listed")
    parser.add_argument("option", nargs="*", help="seconds=20, first=3 and the like")
    parser.add_argument(
        "--at", default=f"http://127.0.0.1:{DEMO_PORT}", help="the simulator to rehearse on (default: the demo's)"
    )
    parser.add_argument("--listen", type=address, default=("127.0.0.1", 0), metavar="HOST:PORT", help="where to serve")
    parser.add_argument("--seed", type=int, default=1, help="another seed is another history (default: 1)")
    arguments = parser.parse_args()
    if arguments.customer:
        return rehearse(arguments.at, arguments.customer, arguments.fault, arguments.option)
    host, port = arguments.listen
    return serve(host, port, arguments.seed)


def rehearse(url: str, customer: str, fault: str, options: list[str]) -> int:
    """Begin or end a fault of a simulator that runs, and print what it says to that."""
    asked = urlencode([("fault", fault), *(option.partition("=")[::2] for option in options)])
    method = "GET" if not fault else "DELETE" if fault == WELL else "PUT"
    path = f"{CONTROL}/{quote(customer)}?{asked}" if fault else CONTROL
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        text = answer.read().decode()
    except OSError as error:
        sys.stderr.write(f"no simulator answers at {url}: {error.strerror or error}; does the demo run?\n")
        return 1
    finally:
        connection.close()
    (sys.stdout if answer.status < 400 else sys.stderr).write(text if text.endswith("\n") else f"{text}\n")  # noqa: PLR2004
    return 0 if answer.status < 400 else 1  # noqa: PLR2004


def serve(host: str, port: int, seed: int) -> int:
    """Serve the simulated API until SIGINT or SIGTERM."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    simulator = Simulator(host=host, port=port, seed=seed)
    try:
        simulator.start()
    except OSError as error:
        sys.stderr.write(f"cannot listen on {host}:{port}: {error.strerror}\n")
        return 1
    keys = "".join(f"  user {centre.customer}, key {centre.key}\n" for centre in simulator.centres.values())
    sys.stdout.write(f"{simulator.url}\n{keys}faults: {simulator.url}{CONTROL}\n")
    sys.stdout.flush()
    stopped.wait()
    simulator.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
