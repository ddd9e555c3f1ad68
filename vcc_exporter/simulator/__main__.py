"""`python -m vcc_exporter.simulator`: the simulated API alone, until interrupted."""

import argparse
import signal
import sys
import threading

from vcc_exporter.simulator.api import CONTROL, Simulator


def address(text: str) -> tuple[str, int]:
    """Read host:port, an IPv6 host in brackets."""
    host, _, port = text.rpartition(":")
    if not 0 <= int(port) <= 65535:  # noqa: PLR2004 - the largest port
        raise ValueError(port)
    return host.strip("[]") or "127.0.0.1", int(port)


def main() -> int:
    """Serve until SIGINT or SIGTERM; gives 1 where the port cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m vcc_exporter.simulator", description=__doc__)
    parser.add_argument("--listen", type=address, default=("127.0.0.1", 0), metavar="HOST:PORT")
    parser.add_argument("--seed", type=int, default=1, help="another seed is another history (default: 1)")
    arguments = parser.parse_args()
    host, port = arguments.listen
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    simulator = Simulator(host=host, port=port, seed=arguments.seed)
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
