"""The daemon's process from outside: its numbers, its ways to end, its reload."""

import json
import signal
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from zoneinfo import ZoneInfo

import psutil
import pytest
from conftest import StartDaemon
from running import LOOPBACK, ROOT, Samples, eventually, fetch, names_with, noon_zone, one
from support import DATA, http_response, raw_server, read_request

from vcc_exporter.simulator import Simulator
from vcc_exporter.vocabulary import STATISTICS, Result

EXAMPLE = DATA / "answers" / "example.json"


def config(url: str, name: str = "bank", extra: str = "", zone: str = "UTC", key: str = "api_key: demo-bank") -> str:
    """Return a config of one customer of the simulator, polled each second."""
    return (
        "poll: {interval: 1s, timeout: 2s}\ncustomers:\n"
        f"  - name: {name}\n    subdomain: bank\n    url: {url}\n    {key}\n    timezone: {zone}\n{extra}"
    )


def bank_key(simulator: Simulator) -> str:
    """Return the config's line with the key of the simulator's bank."""
    return f"api_key: {simulator.centres['bank'].key}"


def test_the_vendors_example_stands_on_the_page_number_for_number(start_daemon: StartDaemon) -> None:
    """All six rows and nineteen statistics of the vendor's page come out as they went in."""
    zone = noon_zone()
    today = datetime.now(ZoneInfo(zone)).strftime("%Y%m%d")  # noqa: TID251 - the daemon uses the real clock
    body = EXAMPLE.read_text().replace("20191022", today)

    def handle(connection: socket.socket) -> None:
        while read_request(connection):
            connection.sendall(http_response(body.encode()))

    with raw_server(handle) as port:
        daemon = start_daemon(config(f"http://127.0.0.1:{port}", "acme", zone=zone))
        page = daemon.wait_for(lambda page: page if one(page, "vcc_up", customer="acme") else None, "a good poll")
    rows = json.loads(body)["response"]
    shown = {key for key in page if key[0] in {s.metric for s in STATISTICS}}
    assert len(shown) == len(rows) * len(STATISTICS)
    for row in rows:
        for statistic in STATISTICS:
            pair = {"project": str(row["projectid"]), "queue": str(row["queueid"])}
            assert one(page, statistic.metric, customer="acme", **pair) == row[statistic.key]


def test_ready_comes_after_each_customers_first_poll(start_daemon: StartDaemon) -> None:
    """Readiness waits for the slowest customer, healthiness for none."""
    release = threading.Event()

    def handle(connection: socket.socket) -> None:
        while read_request(connection):
            release.wait(30)
            connection.sendall(http_response(b"", "500 Oops"))

    with raw_server(handle) as port:
        text = config(f"http://127.0.0.1:{port}").replace("timeout: 2s", "timeout: 60s")
        daemon = start_daemon(text)
        assert fetch(f"{daemon.url}/-/healthy")[0] == HTTPStatus.OK
        assert fetch(f"{daemon.url}/-/ready")[0] == HTTPStatus.SERVICE_UNAVAILABLE
        release.set()
        eventually(lambda: fetch(f"{daemon.url}/-/ready")[0] == HTTPStatus.OK, "readiness")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well_while_a_poll_and_a_scrape_hang(
    start_daemon: StartDaemon, number: signal.Signals
) -> None:
    """With an API that never answers and a client that never reads, the exit is 0 within five seconds."""
    asked = threading.Event()

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        asked.set()
        connection.recv(1)

    with raw_server(handle) as port:
        daemon = start_daemon(config(f"http://127.0.0.1:{port}").replace("timeout: 2s", "timeout: 60s"))
        assert asked.wait(30)
        host, _, own_port = daemon.addresses[0].rpartition(":")
        with socket.create_connection((host, int(own_port))) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
            assert daemon.stop(number, timeout_s=5) == 0
    assert "Traceback" not in daemon.log


HANGING_LOOK_UP = """
import socket, time
found = socket.getaddrinfo
def hang(host, *rest, **more):
    if host == "hang.invalid" and not (more.get("flags") or rest[4:5] == (socket.AI_NUMERICHOST,)):
        __import__("threading").Event().wait(60)
    return found(host, *rest, **more)
socket.getaddrinfo = hang
"""


def test_a_signal_ends_it_well_while_a_name_is_looked_up(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A name server that never answers holds up neither the polls of others nor the end."""
    (tmp_path / "sitecustomize.py").write_text(HANGING_LOOK_UP)
    text = config("http://hang.invalid").replace("timeout: 2s", "timeout: 60s")
    daemon = start_daemon(text, env={"PYTHONPATH": str(tmp_path)})
    eventually(lambda: psutil.Process(daemon.process.pid).num_threads() > 4, "the look-up to begin")
    assert daemon.stop(timeout_s=5) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_modules_are_loaded_ends_it_well(number: signal.Signals) -> None:
    """However early it comes after the interpreter is up, there is no traceback and the status is 0."""
    command = [sys.executable, "-X", "importtime", str(ROOT / "exporter.py"), "--demo", LOOPBACK]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        assert process.stderr is not None
        for line in process.stderr:
            if line.endswith("vcc_exporter\n"):
                break
        # The door's module is next; what it loads takes far longer than it takes to set the signals.
        for line in process.stderr:
            if "asyncio" in line:
                process.send_signal(number)
                break
        rest = process.stderr.read()
        assert process.wait(20) == 0
    assert "Traceback" not in rest


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the exporter to its end."""
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, str(ROOT / "exporter.py"), *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_bad_config_ends_it_with_status_1_and_every_fault(tmp_path: Path) -> None:
    """The faults stand on stderr with file and line, without a traceback."""
    path = tmp_path / "c.yaml"
    path.write_text("customers:\n  - name: acme\n    timezone: Europe/Budapst\n    sla: soon\n    api_key: s3cr3t\n")
    for command in (["--web.listen-address=127.0.0.1:0"], ["check-config"]):
        ended = run(*command, f"--config.file={path}")
        assert ended.returncode == 1
        lines = ended.stderr.splitlines()
        assert [line.partition(": ")[0] for line in lines] == [f"{path}:3", f"{path}:4"]
        assert "Europe/Budapest" in lines[0]
        assert "s3cr3t" not in ended.stderr + ended.stdout


def test_a_taken_port_ends_it_with_status_1() -> None:
    """The message names the address and the flag."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run("--demo", f"--web.listen-address={address}")
    assert ended.returncode == 1
    assert address in ended.stderr
    assert "--web.listen-address" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-flag"],
        ["--log.level=loud"],
        ["--web.listen-address=10742"],
        ["--web.listen-address=:99999"],
        ["--web.telemetry-path=metrics"],
        ["--web.telemetry-path=/-/ready"],
        ["nonsense"],
        ["check-config", "--demo"],
        ["--demo", "--config.file=x"],
    ],
)
def test_wrong_usage_ends_it_with_status_2(arguments: list[str]) -> None:
    """Each wrong flag is told by name."""
    ended = run(*arguments)
    assert ended.returncode == 2
    assert "usage:" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_version_is_told() -> None:
    """`--version` prints one line."""
    ended = run("--version")
    assert ended.returncode == 0
    assert ended.stdout.startswith("vcc-exporter ")


def test_check_config_warns_of_a_key_that_cannot_be_read(tmp_path: Path) -> None:
    """Such a key stops only its customer, so the config is good."""
    path = tmp_path / "c.yaml"
    path.write_text("customers:\n  - {name: acme, timezone: UTC, api_key_file: nowhere}\n")
    ended = run("check-config", f"--config.file={path}")
    assert ended.returncode == 0
    assert "warning" in ended.stderr
    assert "nowhere" in ended.stderr


def test_it_serves_on_several_addresses_and_another_path(start_daemon: StartDaemon, simulator: Simulator) -> None:
    """IPv4 and IPv6 side by side, and a telemetry path of one's own."""
    flags = [LOOPBACK, "--web.listen-address=[::1]:0", "--web.telemetry-path=/vcc/metrics"]
    daemon = start_daemon(config(simulator.url, key=bank_key(simulator)), *flags, addresses=2)
    for address in daemon.addresses:
        assert fetch(f"http://{address}/vcc/metrics")[0] == HTTPStatus.OK
        assert fetch(f"http://{address}/metrics")[0] == HTTPStatus.NOT_FOUND
    assert b"/vcc/metrics" in fetch(f"{daemon.url}/")[1]


def test_the_log_can_be_json(start_daemon: StartDaemon, simulator: Simulator) -> None:
    """Each line is an object with time, level and message."""
    daemon = start_daemon(
        config(simulator.url, key=bank_key(simulator)), "--log.format=json", "--log.level=debug", addresses=0
    )
    eventually(lambda: "polls succeed" in daemon.log, "a poll")
    for line in daemon.log.splitlines():
        assert {"ts", "level", "msg"} <= json.loads(line).keys()


def test_reload_by_http_needs_its_flag(start_daemon: StartDaemon, simulator: Simulator) -> None:
    """403 without the flag, 405 for other methods, whatever the flag."""
    daemon = start_daemon(config(simulator.url, key=bank_key(simulator)))
    assert fetch(f"{daemon.url}/-/reload", "POST")[0] == HTTPStatus.FORBIDDEN
    assert fetch(f"{daemon.url}/-/reload")[0] == HTTPStatus.METHOD_NOT_ALLOWED


def test_a_bad_config_changes_nothing_at_reload(
    start_daemon: StartDaemon, simulator: Simulator, tmp_path: Path
) -> None:
    """Polls and values go on, the answer and a metric say so, and a good config heals it."""
    text = config(simulator.url, key=bank_key(simulator))
    daemon = start_daemon(text, "--web.enable-lifecycle")
    daemon.wait_for(lambda page: one(page, "vcc_up", customer="bank"), "a good poll")
    (tmp_path / "config.yaml").write_text(text + "    slla: 3\n")
    status, body, _ = fetch(f"{daemon.url}/-/reload", "POST")
    assert status == HTTPStatus.INTERNAL_SERVER_ERROR
    assert b"slla" in body
    assert b"sla" in body
    page = daemon.page()
    assert one(page, "vcc_exporter_config_last_reload_successful") == 0
    assert one(page, "vcc_up", customer="bank") == 1
    (tmp_path / "config.yaml").write_text(text)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(lambda page: one(page, "vcc_exporter_config_last_reload_successful"), "the reload")


def test_a_reload_keeps_what_did_not_change(start_daemon: StartDaemon, simulator: Simulator, tmp_path: Path) -> None:
    """A kept customer keeps its counters, a renamed project is renamed at once, a removed customer is gone."""
    key = bank_key(simulator)
    shop = simulator.centres["webshop"]
    second = f"  - {{name: shop, subdomain: webshop, url: '{simulator.url}', api_key: {shop.key}, timezone: UTC}}\n"
    text = config(simulator.url, key=key)
    daemon = start_daemon(text + second, "--web.enable-lifecycle")

    def polled(page: Samples) -> bool:
        return all((one(page, "vcc_polls_total", customer=c, result="success") or 0) > 2 for c in ("bank", "shop"))

    daemon.wait_for(polled, "some polls of both")
    before = daemon.page()
    named = "    projects: [{id: 101, name: Renamed}]\n    other_projects: true\n"
    (tmp_path / "config.yaml").write_text(text + named)
    assert fetch(f"{daemon.url}/-/reload", "POST")[0] == HTTPStatus.OK
    after = daemon.page()
    assert not names_with(after, customer="shop")
    polls = "vcc_polls_total"
    kept = one(after, polls, customer="bank", result="success")
    assert kept is not None
    assert kept >= (one(before, polls, customer="bank", result="success") or 0)
    (tmp_path / "config.yaml").write_text(text + named.replace("Renamed", "Other name"))
    # By night only the lookback tells of queues.
    daemon.wait_for(
        lambda page: names_with(page, customer="bank", project_name="Renamed"), "a good poll of the other question"
    )
    assert fetch(f"{daemon.url}/-/reload", "POST")[0] == HTTPStatus.OK
    page = daemon.page()
    assert one(page, "vcc_up", customer="bank") == 1
    assert names_with(page, customer="bank", project_name="Other name")
    assert not names_with(page, customer="bank", project_name="Renamed")
    (tmp_path / "config.yaml").write_text(text + second)
    assert fetch(f"{daemon.url}/-/reload", "POST")[0] == HTTPStatus.OK
    back = daemon.page()
    assert (one(back, polls, customer="shop", result="success") or 0) <= 1


def test_reloads_under_scrapes_lose_nothing(start_daemon: StartDaemon, simulator: Simulator) -> None:
    """Fifty hang-ups in a row, scraped all the while: every page is whole and the polls go on."""
    daemon = start_daemon(config(simulator.url, key=bank_key(simulator)))
    daemon.wait_for(lambda page: {s.metric for s in STATISTICS} <= names_with(page, customer="bank"), "known queues")
    for _ in range(50):
        daemon.process.send_signal(signal.SIGHUP)
        page = daemon.page()
        assert one(page, "vcc_up", customer="bank") == 1
        assert {s.metric for s in STATISTICS} <= names_with(page, customer="bank")
    done = one(daemon.page(), "vcc_polls_total", customer="bank", result="success") or 0
    daemon.wait_for(
        lambda page: (one(page, "vcc_polls_total", customer="bank", result="success") or 0) > done + 1, "more polls"
    )
    failed = [r for r in Result if r is not Result.SUCCESS]
    assert all(one(daemon.page(), "vcc_polls_total", customer="bank", result=r) == 0 for r in failed)
    assert daemon.stop() == 0


def test_young_garbage_is_collected_each_second(start_daemon: StartDaemon, simulator: Simulator) -> None:
    """Also where no more objects come than go, since Python would then look through all that polls have replaced."""
    daemon = start_daemon(config(simulator.url, key=bank_key(simulator)))

    def collections(page: Samples) -> float:
        return one(page, "python_gc_collections_total", generation="1") or 0

    before = daemon.wait_for(collections, "the first")
    daemon.wait_for(lambda page: collections(page) >= before + 5, "one each second")


def test_process_metrics_are_there(start_daemon: StartDaemon, simulator: Simulator) -> None:
    """The client library's metrics of the process are on the page, and no creation times."""
    daemon = start_daemon(config(simulator.url, key=bank_key(simulator)))
    page = daemon.wait_for(lambda page: page if one(page, "process_open_fds") else None, "process metrics")
    assert one(page, "process_start_time_seconds") == pytest.approx(datetime.now(UTC).timestamp(), abs=600)  # noqa: TID251
    assert not [name for name, _ in page if name.endswith("_created")]
