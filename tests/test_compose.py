"""The compose file, which no engine runs here: what it mounts and what it passes, by other means."""

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml
from running import ROOT, Prometheus, answers, end, eventually, free_port

from vcc_exporter import __version__
from vcc_exporter.cli import FLAGS

DEPLOY: Final = ROOT / "deploy"
TEXT: Final = (DEPLOY / "compose.yaml").read_text()
COMPOSE: Final[dict[str, Any]] = yaml.safe_load(TEXT)
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
PROMETHEUS: Final = (DEPLOY / "compose" / "prometheus.yml").read_text()
PROGRAMS: Final = {"prometheus": "prometheus", "alertmanager": "prometheus-alertmanager"}
"""The services whose programs are here."""
NAMES: Final = {"alertmanager:9093", "exporter:10742", "prometheus:9090"}
"""The addresses by which services ask each other."""


def mounts(service: str) -> dict[str, str]:
    """Return what a service sees of the machine and of named volumes, by the path inside."""
    found = (volume.split(":") for volume in SERVICES[service].get("volumes", []))
    return {inside: outside for outside, inside, *_ in found}


def outside(service: str, path: str, folder: Path) -> Path:
    """Return what a path inside a container is outside, named volumes in a folder."""
    for inside, source in mounts(service).items():
        if path == inside or path.startswith(f"{inside}/"):
            base = (DEPLOY / source).resolve() if source.startswith(".") else folder / source
            return base / path.removeprefix(inside).lstrip("/")
    raise AssertionError(f"{service} has no {path}")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Run a service's own program with the service's flags, the paths in them as they are outside."""
    with ExitStack() as stack:

        def run(service: str) -> str:
            address = f"127.0.0.1:{free_port()}"
            folder = laid_out(service, tmp_path)
            flags = [
                re.sub(r"=(/.*)", lambda path: f"={folder}{path[1]}", flag) for flag in SERVICES[service]["command"]
            ]
            output = tmp_path / f"{service}.log"
            with output.open("wb") as file:
                command = [PROGRAMS[service], *flags, f"--web.listen-address={address}"]
                process = subprocess.Popen(command, stdout=file, stderr=file)  # noqa: S603
            stack.callback(end, process)
            ready = f"http://{address}/-/ready"
            eventually(lambda: answers(ready) or process.poll() is not None, service)
            assert process.poll() is None, output.read_text()
            return f"http://{address}"

        yield run


def laid_out(service: str, folder: Path) -> Path:
    """Make a folder that looks as the container's root does, as far as it is mounted."""
    for inside, source in mounts(service).items():
        place = folder / inside.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.startswith("."):
            place.symlink_to((DEPLOY / source).resolve())
        else:
            place.mkdir()
    return folder


@pytest.mark.parametrize("service", SERVICES)
def test_everything_that_a_service_mounts_is_there(service: str) -> None:
    """Each path of the machine exists and is mounted to be read only, and each volume is declared."""
    for volume in SERVICES[service].get("volumes", []):
        source, _, *how = volume.split(":")
        if source.startswith("."):
            assert (DEPLOY / source).exists(), source
            assert how == ["ro"], volume
        else:
            assert source in COMPOSE["volumes"], volume


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_can_write_to_its_volumes_only_and_is_seen_by_this_machine_only(service: str) -> None:
    """The root is read only, no capability is left, and every port that is published is one of loopback."""
    settings = SERVICES[service]
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in settings["ports"])


def test_every_image_has_one_version_and_no_value_is_a_secret() -> None:
    """Tags are whole versions, ours the program's, and nothing in the file is a password or a key."""
    tags = {name: settings["image"].rpartition(":")[2] for name, settings in SERVICES.items()}
    assert all(re.fullmatch(r"v?\d+\.\d+\.\d+", tag) for tag in tags.values()), tags
    assert tags["exporter"] == __version__
    assert (DEPLOY / SERVICES["exporter"]["build"] / "Dockerfile").is_file()
    for settings in SERVICES.values():
        assert not [name for name in settings.get("environment", {}) if re.search("PASSWORD|SECRET|TOKEN|KEY", name)]


def test_the_exporter_knows_the_services_flags() -> None:
    """What runs is the demo, by a flag that there is."""
    assert SERVICES["exporter"]["command"] == ["--demo"]
    assert "--demo" in {flag.name for flag in FLAGS}


def test_the_lines_for_an_own_config_fit_in_the_demos_place() -> None:
    """With the comment in the place of the demo's line, the file is as good, and the program takes the flags."""
    own = re.sub(r"^( +)command: \[--demo\]\n", "", TEXT, flags=re.MULTILINE)
    own = re.sub(r"^    # (command|volumes|  - )", r"    \1", own, flags=re.MULTILINE)
    exporter = yaml.safe_load(own)["services"]["exporter"]
    assert exporter["command"] == ["--config.file=/etc/vcc-exporter/config.yaml"]
    assert [volume.split(":")[1] for volume in exporter["volumes"]] == ["/etc/vcc-exporter", "/run/secrets"]
    assert f'CMD ["{exporter["command"][0]}"]' in (ROOT / "Dockerfile").read_text()


def test_prometheus_runs_with_the_services_flags_and_loads_the_rules(start: Callable[[str], str]) -> None:
    """Real Prometheus takes each flag, finds the rules where they are mounted, and asks the exporter by its name."""
    running = Prometheus(start("prometheus"))
    groups = running.get("/api/v1/rules")["groups"]
    assert {Path(group["file"]).name for group in groups} == {"vcc-inbound.rules.yml", "vcc.alerts.yml"}

    def targets() -> set[str]:
        return {target["scrapeUrl"] for target in running.get("/api/v1/targets")["activeTargets"]}

    asked = {"http://exporter:10742/metrics", "http://prometheus:9090/metrics"}
    eventually(lambda: targets() == asked, "the targets")
    assert running.get("/api/v1/status/flags")["storage.tsdb.retention.time"] == "30d"


def test_alertmanager_runs_with_the_services_flags(start: Callable[[str], str]) -> None:
    """Real Alertmanager takes each flag and the mounted config."""
    assert start("alertmanager")


def test_promtool_and_amtool_accept_the_mounted_configs(tmp_path: Path) -> None:
    """Both configs are good where the containers see them."""
    root = laid_out("prometheus", tmp_path / "p")
    for command in (
        ["promtool", "check", "config", f"{root}/etc/prometheus/prometheus.yml"],
        ["amtool", "check-config", str(outside("alertmanager", "/etc/alertmanager/alertmanager.yml", tmp_path))],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        assert done.returncode == 0, done.stderr


def test_prometheus_config_is_the_example_with_the_services_names() -> None:
    """But for the addresses it says what the example says, and each address is a service's, with a port of its own."""
    example = yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text())
    for name in NAMES:
        service, port = name.split(":")
        assert service in SERVICES
        assert f"127.0.0.1:{port}:{port}" in SERVICES[service]["ports"]
        example = yaml.safe_load(yaml.safe_dump(example).replace(f"localhost:{port}", name))
    assert yaml.safe_load(PROMETHEUS) == example


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    """The provisioned data source is the service's address; the provider's folder and the first page are mounted."""
    sources = ROOT / "grafana" / "provisioning" / "datasources" / "prometheus.yaml"
    (source,) = yaml.safe_load(sources.read_text())["datasources"]
    assert urlsplit(source["url"]).netloc in NAMES
    provider = yaml.safe_load((ROOT / "grafana" / "provisioning" / "dashboards" / "vcc.yaml").read_text())["providers"][
        0
    ]
    nowhere = Path("/nowhere")
    folder = outside("grafana", provider["options"]["path"], nowhere)
    assert len(list(folder.glob("*.json"))) == 4
    assert outside("grafana", "/etc/grafana/provisioning/datasources/prometheus.yaml", nowhere) == sources
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert outside("grafana", home, nowhere).is_file()
