"""Real counterparts, started for a test and ended with it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from running import LOOPBACK, ROOT, Daemon, Prometheus, answers, end, eventually, free_port
from support import SetClock

from vcc_exporter.simulator import Simulator

StartDaemon = Callable[..., Daemon]


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[StartDaemon]:
    """Start the exporter on a config's text; further flags and environment as given. Ended with the test.

    `under` is a command that becomes the one behind it, such as `prlimit --nofile=64`.
    """
    with ExitStack() as stack:

        def start(
            config: str,
            *flags: str,
            env: Mapping[str, str] | None = None,
            addresses: int = 1,
            under: Sequence[str] = (),
        ) -> Daemon:
            path = tmp_path / "config.yaml"
            path.write_text(config)
            output = tmp_path / f"output-{len(list(tmp_path.glob('output-*')))}"
            default = [] if any(flag.startswith("--web.listen-address") for flag in flags) else [LOOPBACK]
            command = [*under, sys.executable, str(ROOT / "exporter.py"), f"--config.file={path}", *default, *flags]
            with output.open("wb") as file:
                process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, **(env or {})})  # noqa: S603
            daemon = Daemon(process, output)
            stack.callback(end, process)
            daemon.wait_until_listening(addresses)
            return daemon

        yield start


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the environment says of proxies and certificates."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """Run the simulator with its own call centres."""
    with Simulator() as running:
        yield running


@pytest.fixture
def clock() -> SetClock:
    """Give a clock that stands still until it is moved."""
    return SetClock()


@pytest.fixture
def api(clock: SetClock) -> Iterator[Simulator]:
    """Run the simulator at that clock's time."""
    with Simulator(now=clock.now) as running:
        yield running


@pytest.fixture
def start_prometheus(tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    """Start a real Prometheus with these scrape configs and further flags; its data are in `tsdb`."""
    with ExitStack() as stack:

        def start(jobs: list[dict[str, Any]], *flags: str) -> Prometheus:
            config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}
            path = tmp_path / "prometheus.yml"
            path.write_text(json.dumps(config))
            port = free_port()
            output = stack.enter_context((tmp_path / "prometheus.log").open("wb"))
            command = [
                "prometheus",
                f"--config.file={path}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
                *flags,
            ]
            process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603
            stack.callback(end, process)
            running = Prometheus(f"http://127.0.0.1:{port}")
            eventually(lambda: answers(running.url + "/-/ready"), "Prometheus to be ready")
            return running

        yield start
