"""Thousands of polls leave nothing behind."""

import psutil
from conftest import StartDaemon
from running import Samples, noon_zone

from vcc_exporter.simulator import Simulator


def test_memory_after_3000_polls_is_what_it_was_after_500(start_daemon: StartDaemon, simulator: Simulator) -> None:
    """Memory, threads and descriptors do not grow with the number of polls."""
    bank = simulator.centres["bank"]
    customers = "".join(
        f"  - {{name: c{i}, subdomain: bank, url: '{simulator.url}', api_key: {bank.key}, timezone: {noon_zone()}}}\n"
        for i in range(25)
    )
    daemon = start_daemon("poll: {interval: 100ms, lookback: 0}\ncustomers:\n" + customers)
    process = psutil.Process(daemon.process.pid)

    def polls(page: Samples) -> float:
        return sum(value for (name, _), value in page.items() if name == "vcc_polls_total")

    def after(count: int) -> tuple[int, int, int]:
        daemon.wait_for(lambda page: polls(page) >= count, f"{count} polls", 300)
        return process.memory_info().rss, process.num_threads(), process.num_fds()

    memory, threads, descriptors = after(500)
    memory_later, threads_later, descriptors_later = after(3000)
    # On a slow machine two for each customer may be wanted at once.
    assert threads_later <= threads + 2 * 25
    assert descriptors_later <= descriptors + 10
    assert memory_later < memory * 1.1 + 4 * 2**20
    assert daemon.stop() == 0
