"""The demo, as a newcomer meets it."""

import subprocess
import sys
from pathlib import Path

from running import LOOPBACK, ROOT, Daemon, Samples, end, names_with, one

from vcc_exporter.vocabulary import STATISTICS

CENTRES = ("bank", "webshop", "roadside", "utility")


def test_the_demo_needs_no_config_and_its_numbers_move(tmp_path: Path) -> None:
    """Four call centres are polled, each with all nineteen statistics, and within a minute some number grows."""
    output = tmp_path / "output"
    with output.open("wb") as file:
        command = [sys.executable, str(ROOT / "exporter.py"), "--demo", "--log.level=info", LOOPBACK]
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=tmp_path)  # noqa: S603
    try:
        daemon = Daemon(process, output)
        daemon.wait_until_listening(1)

        def calls(page: Samples) -> float:
            return sum(value for (name, _), value in page.items() if name.endswith("_calls") and "target" not in name)

        def learnt(page: Samples) -> Samples | None:
            # Queues are known from the lookback, also of a call centre that is closed now.
            whole = all({s.metric for s in STATISTICS} <= names_with(page, customer=name) for name in CENTRES)
            return page if whole and all(one(page, "vcc_up", customer=name) for name in CENTRES) else None

        before = calls(daemon.wait_for(learnt, "all four call centres"))
        daemon.wait_for(lambda page: calls(page) != before, "a number that moves", 120)
        assert daemon.stop() == 0
    finally:
        end(process)
