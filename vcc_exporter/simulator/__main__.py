"""`python -m vcc_exporter.simulator`: the simulated API alone, or a fault rehearsed on one that runs."""

import argparse
import http.client
import signal
import sys
import threading
from contextlib import closing
from http import HTTPStatus
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
    words = f"no simulator answers at {url}"
    method = "GET" if not fault else "DELETE" if fault == WELL else "PUT"
    path = f"{CONTROL}/{quote(customer, safe='')}?{asked}" if fault else CONTROL
    place = urlsplit(url)
    if place.scheme != "http" or not place.netloc:
        sys.stderr.write(f"{words}: expected an address such as http://127.0.0.1:{DEMO_PORT}\n")
        return 1
    try:
        with closing(http.client.HTTPConnection(place.netloc, timeout=10)) as connection:
            connection.request(method, path)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        sys.stderr.write(f"{words}: {reason}; does the demo run?\n")
        return 1
    good = answer.status == HTTPStatus.OK
    (sys.stdout if good else sys.stderr).write(text if text.endswith("\n") else f"{text}\n")
    if good and fault:
        sys.stdout.write(f"(the simulator at {url})\n")
    return 0 if good else 1


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
    sys.stdout.write(f"{simulator.url}\n{keys}faults: {simulator.url}{CONTROL}\nCtrl-C ends this.\n")
    sys.stdout.flush()
    stopped.wait()
    simulator.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
