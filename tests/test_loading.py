"""The process that reads config files: what it tells, what it spares the daemon, and what happens without it."""

import os
import shutil
import signal
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Final

import psutil
import pytest
from conftest import StartDaemon
from running import LOOPBACK, ROOT, Daemon, end, eventually, fetch
from webfiles import hashed, write_files

from vcc_exporter import loading
from vcc_exporter.faults import ConfigError

KEY: Final = "s3cr3t-k3y"
GOOD: Final = f"customers: [{{name: acme, api_key: {KEY}, timezone: UTC, url: 'http://127.0.0.1:1'}}]\n"
BAD: Final = GOOD.replace("timezone", "timezon")


def told(text: str) -> str:
    """Return what is said of a text that cannot be used."""
    with pytest.raises(ConfigError) as error:
        loading.parse_config(text, "c.yaml", Path("/etc/vcc"))
    return str(error.value)


def loaded(daemon: Daemon) -> set[str]:
    """Return the names of the shared libraries in a process."""
    return {Path(part.path).name.partition(".")[0] for part in psutil.Process(daemon.process.pid).memory_maps()}


def test_the_daemon_carries_nothing_of_what_checks_a_config(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Neither from its start nor from a reload, also where it has a web config, which is checked likewise."""
    write_files(tmp_path)
    tls = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
    (tmp_path / "web.yml").write_text(f"{tls}basic_auth_users: {{admin: {hashed()}}}\n")
    daemon = start_daemon(GOOD, f"--web.config.file={tmp_path}/web.yml")
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: "config reloaded" in daemon.log, "the reload")
    libraries = loaded(daemon)
    assert "jiter" in libraries
    assert libraries.isdisjoint({"_pydantic_core", "_yaml"})
    eventually(lambda: not psutil.Process(daemon.process.pid).children(), "its child to be gone")


def test_where_no_process_is_to_be_had_it_is_read_in_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """All the same, faults and values."""
    there = loading.parse_config(GOOD, "c.yaml", Path("/etc/vcc")), told(BAD)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert (loading.parse_config(GOOD, "c.yaml", Path("/etc/vcc")), told(BAD)) == there
    assert "timezon: unknown key; did you mean 'timezone'?" in there[1]
    assert KEY not in there[1]


@pytest.mark.parametrize(
    ("child", "how"),
    [
        ("import os; os.kill(os.getpid(), 9)", "the process for it ended with signal 9"),
        (f"raise RuntimeError({KEY!r})", "the process for it ended with status 1"),
        (
            "from vcc_exporter import config_file, loading; config_file.parse = int; loading.be_asked()",
            "unexpected fault: TypeError",
        ),
    ],
)
def test_a_process_that_ends_otherwise_is_a_fault(
    child: str, how: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Such as one that the kernel takes the memory of; nothing of the text is told, and no traceback."""
    monkeypatch.setattr(loading, "_CHILD", f"import sys; sys.path.insert(0, sys.argv[1])\n{child}")
    assert told(BAD) == f"c.yaml: cannot be checked: {how}"
    assert capfd.readouterr() == ("", "")


def test_files_that_were_replaced_under_a_running_daemon_change_nothing(tmp_path: Path) -> None:
    """An update in place waits for the restart: values of another version might stand in each other's places."""
    shutil.copytree(ROOT / "vcc_exporter", tmp_path / "vcc_exporter", ignore=shutil.ignore_patterns("__pycache__"))
    config, output = tmp_path / "c.yaml", tmp_path / "output"
    config.write_text(GOOD)
    command = [sys.executable, "-m", "vcc_exporter", f"--config.file={config}", LOOPBACK, "--web.enable-lifecycle"]
    with output.open("wb") as file:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=file, stderr=file)  # noqa: S603
    daemon = Daemon(process, output)
    try:
        daemon.wait_until_listening(1)
        values = tmp_path / "vcc_exporter" / "config.py"
        values.write_text(
            values.read_text().replace("    subdomain: str\n    url: str\n", "    url: str\n    subdomain: str\n")
        )
        status, body, _ = fetch(f"{daemon.url}/-/reload", "POST")
        assert status == HTTPStatus.INTERNAL_SERVER_ERROR
        assert b"the program's files are another version's by now: restart it" in body
        assert daemon.stop() == 0
    finally:
        end(process)


def test_who_reads_a_config_shows_no_key_and_hears_no_ctrl_c(tmp_path: Path) -> None:
    """Everybody sees commands, and a terminal's Ctrl-C reaches all processes of its group at once."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, pathlib, threading\n"
        "if sys.orig_argv[1:2] == ['-P']:\n"
        f"    pathlib.Path({str(tmp_path / 'reading')!r}).touch()\n"
        f"    while not pathlib.Path({str(tmp_path / 'go')!r}).exists():\n"
        "        threading.Event().wait(0.02)\n"
    )
    config, output = tmp_path / "c.yaml", tmp_path / "output"
    config.write_text(GOOD)
    command = [sys.executable, str(ROOT / "exporter.py"), f"--config.file={config}", LOOPBACK]
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603
            command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, stdout=file, stderr=file, process_group=0
        )
    try:
        eventually((tmp_path / "reading").exists, "the config to be read")
        (reader,) = psutil.Process(process.pid).children()
        assert "-P" in reader.cmdline()
        assert KEY not in f"{reader.cmdline()} {reader.environ()}"
        os.killpg(process.pid, signal.SIGINT)
        (tmp_path / "go").touch()
        assert process.wait(60) == 0
    finally:
        end(process)
    assert "cannot be checked" not in output.read_text()
