"""The README's commands, run as a new user would run them, in a copy of what is checked in."""

import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from kustomize import build, needs_kustomize, of_kind
from running import LOOPBACK, ROOT, Daemon, end, eventually, fetch, names_with

from vcc_exporter.simulator import CENTRES, Simulator

README: Final = (ROOT / "README.md").read_text()
PYTHON: Final = ".venv/bin/python"


def blocks(language: str) -> list[str]:
    """Return the README's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Return the README's commands, without what is said of them."""
    lines = (line.partition(" #")[0].strip() for block in blocks("sh") for line in block.splitlines())
    return [line for line in lines if line]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Give a copy of what is checked in, or is about to be, with the environment that `make` has made."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    return tmp_path


@pytest.fixture
def acme(clone: Path) -> Iterator[Path]:
    """Give a clone with the README's first config, its call centre being simulated."""
    with Simulator([replace(CENTRES[0], customer="acme")]) as simulator:
        config = next(block for block in blocks("yaml") if "api_key_file" in block)
        (clone / "config.yaml").write_text(config + f"    url: {simulator.url}\n")
        (clone / "acme.key").write_text(simulator.centres["acme"].key + "\n")
        yield clone


def run(command: str, folder: Path) -> str:
    """Run a command as it stands in the README and return what it printed; it must succeed."""
    done = subprocess.run(  # noqa: S602 - as a user's shell would
        command, shell=True, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def start(command: str, folder: Path) -> Daemon:
    """Start a command that goes on until it is ended."""
    output = folder / "output"
    with output.open("wb") as file:
        return Daemon(subprocess.Popen(command.split(), cwd=folder, stdout=file, stderr=file), output)  # noqa: S603


def runs_the_daemon(command: str, acme: Path) -> None:
    """Poll the README's config and be ended by Ctrl-C."""
    daemon = start(f"{command} {LOOPBACK}", acme)
    try:
        daemon.wait_until_listening(1)
        daemon.wait_for(lambda page: "vcc_inbound_talk_time_seconds" in names_with(page, customer="acme"), "numbers")
        assert daemon.stop(signal.SIGINT) == 0
    finally:
        end(daemon.process)


def rehearses(command: str, clone: Path) -> None:
    """Start the simulator and give it the README's faults."""
    simulator = start(command, clone)
    url = f"http://{command.rpartition(' ')[2]}"
    try:
        eventually(lambda: "faults:" in simulator.output.read_text(), "the simulator")
        for rehearsal in (line for line in commands() if f"--at {url}" in line):
            assert "bank: " in run(rehearsal, clone)
        assert fetch(f"{url}/simulator/faults/bank")[1] == b"bank: all is well\n"
    finally:
        end(simulator.process)


RUN_BY: Final[dict[str, str]] = {
    "make demo": "test_the_readmes_make_commands_exist",
    "make stack": "test_the_readmes_make_commands_exist",
    "make test": "test_the_readmes_make_commands_exist",
    "install": "test_the_readmes_way_to_rules_and_dashboards_works",
    f"{PYTHON} exporter.py check-config --online": "test_the_readmes_way_to_ones_own_call_centre_works",
    f"{PYTHON} exporter.py discover": "test_the_readmes_way_to_ones_own_call_centre_works",
    f"{PYTHON} exporter.py": "test_the_readmes_way_to_ones_own_call_centre_works",
    "kubectl create secret generic vcc-exporter-keys": "test_the_readmes_way_to_kubernetes_works",
    "kubectl apply": "test_the_readmes_way_to_kubernetes_works",
    f"{PYTHON} exporter.py backfill": "test_the_readmes_way_to_past_days_works",
    "promtool tsdb create-blocks-from openmetrics past.om data": "test_the_readmes_way_to_past_days_works",
    f"{PYTHON} -m vcc_exporter.simulator": "test_the_readmes_rehearsal_works",
}


def test_every_command_of_the_readme_is_run_here() -> None:
    """No command has been added that nothing runs, nor is one run that the README does not have."""
    found = {command: [c for c in RUN_BY if command == c or command.startswith(f"{c} -")] for command in commands()}
    assert {command for command, by in found.items() if not by} == set()
    assert {c for by in found.values() for c in by} == RUN_BY.keys()
    tests: dict[str, Callable[..., None]] = globals()
    assert all(test in tests for test in RUN_BY.values())


def test_the_readmes_make_commands_exist(clone: Path) -> None:
    """They end in the demo, the stack and the tests, which are run elsewhere, the last one right now."""
    assert "exporter.py --demo" in run("make --dry-run demo", clone)
    assert "-m tools.stack" in run("make --dry-run stack", clone)
    assert "-m pytest" in run("make --dry-run test", clone)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_readmes_way_to_rules_and_dashboards_works(clone: Path) -> None:
    """Both rule files, all dashboards and what tells Grafana of them are put where Debian's packages look."""
    for command in (command for command in commands() if command.startswith("install ")):
        target = clone / "etc" / "grafana" / "provisioning" / "dashboards"
        target.mkdir(parents=True, exist_ok=True)
        run(command.replace(" /etc/", f" {clone}/etc/"), clone)
    found = {str(path.relative_to(clone / "etc")) for path in (clone / "etc").rglob("*.*")}
    assert {name for name in found if name.startswith("prometheus/rules/")} == {
        f"prometheus/rules/{path.name}" for path in (ROOT / "prometheus" / "rules").iterdir()
    }
    assert len([name for name in found if name.startswith("grafana/dashboards/")]) == 4
    assert "grafana/provisioning/dashboards/vcc.yaml" in found


def test_the_readmes_way_to_ones_own_call_centre_works(acme: Path) -> None:
    """Its three commands, in their order, on its own config."""
    check, discover, daemon, _ = (command for command in commands() if command.startswith(f"{PYTHON} exporter.py"))
    assert "acme: good" in run(check, acme)
    assert "Retail banking" in run(discover, acme)
    runs_the_daemon(daemon, acme)


@needs_kustomize
def test_the_readmes_way_to_kubernetes_works(acme: Path) -> None:
    """Without a cluster: the Secret is made and the folder is built, as both would be sent."""
    create, apply = (command for command in commands() if command.startswith("kubectl "))
    assert "acme: " in run(f"{create} --dry-run=client --output=yaml", acme)
    folder = apply.partition("--kustomize=")[2]
    assert of_kind(build(acme / folder), "StatefulSet")["spec"]["replicas"] == 1


def test_the_readmes_way_to_past_days_works(acme: Path) -> None:
    """What is written can be loaded by the command that follows, which the program prints, too."""
    fill = next(command for command in commands() if "backfill" in command)
    load = next(command for command in commands() if command.startswith("promtool"))
    assert load.replace(" data", " DATA_DIR") in run(fill, acme)
    blocks_made = run(load, acme).splitlines()[1:]
    assert len(blocks_made) == len(list((acme / "data").iterdir())) == 59


def test_the_readmes_rehearsal_works(clone: Path) -> None:
    """The simulator alone, with the faults that the README gives it."""
    rehearses(next(command for command in commands() if "--listen" in command), clone)
