"""The image, the systemd unit and the document on operating: made, started and carried out as far as a machine can."""

import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from image import ANYBODY, Image, build, copy_context, last, moved, steps
from running import LOOPBACK, ROOT, Daemon, end, eventually, fetch, noon_zone, one
from sandbox import settings

from vcc_exporter import __version__
from vcc_exporter.simulator import Simulator

# The fixtures install every dependency anew.
pytestmark = pytest.mark.timeout(600)

DOCKERFILE = (ROOT / "Dockerfile").read_text()
UNIT = ROOT / "deploy" / "systemd" / "vcc-exporter.service"
OPERATING = (ROOT / "docs" / "operating.md").read_text()

Start = Callable[..., Daemon]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start an installed exporter by a command. Its log goes through a pipe, so that it needs no file."""
    with ExitStack() as stack:

        def start(command: list[str], **options: Any) -> Daemon:
            output = tmp_path / f"output-{len(list(tmp_path.glob('output-*')))}"
            process = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
            )
            assert process.stdout
            stack.enter_context(process.stdout)
            stack.callback(end, process)
            with output.open("wb") as file:
                stack.callback(end, subprocess.Popen(["cat"], stdin=process.stdout, stdout=file))  # noqa: S607
            daemon = Daemon(process, output)
            daemon.wait_until_listening(1)
            return daemon

        yield start


@pytest.fixture(scope="module")
def context(open_folder: Path) -> Path:
    """Copy what the .dockerignore lets through."""
    copied = open_folder / "context"
    copy_context(ROOT, copied)
    return copied


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """Make a folder that every user may enter and nobody but this one may write to."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def image(open_folder: Path, context: Path) -> Image:
    """Carry out the Dockerfile."""
    root = open_folder / "root"
    root.mkdir()
    return build(DOCKERFILE, context, root)


def writes_no_file() -> None:
    """Forbid this process to put a byte into any file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def found(image: Image, command: list[str]) -> list[str]:
    """Return a command with its program as the image's PATH finds it."""
    program = shutil.which(command[0], path=image.env["PATH"])
    assert program
    return [program, *command[1:]]


# The image.


def test_hadolint_has_nothing_to_say_about_the_dockerfile() -> None:
    """The linter of Dockerfiles accepts ours without exceptions."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stdout) == (0, "")
    assert "hadolint ignore" not in DOCKERFILE


def test_the_dockerfile_says_what_the_program_says() -> None:
    """Version, port and user are numbers that stand elsewhere, too."""
    assert f'image.version="{__version__}"' in last(DOCKERFILE, "LABEL")
    assert last(DOCKERFILE, "EXPOSE") == "10742"
    assert "10742" in last(DOCKERFILE, "HEALTHCHECK")
    assert last(DOCKERFILE, "USER") == f"{ANYBODY}:{ANYBODY}"


def test_no_layer_of_the_image_can_hold_a_secret(context: Path) -> None:
    """No config and no key is in the context, and nothing is passed in by ARG or ENV but what is named here."""
    assert {path.name for path in context.iterdir()} == {
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "requirements-build.txt",
        "requirements.txt",
        "vcc_exporter",
    }
    named = {
        word.partition("=")[0] for kind, text in steps(DOCKERFILE) if kind in {"ARG", "ENV"} for word in text.split()
    }
    assert named == {
        "PATH",
        "PIP_DISABLE_PIP_VERSION_CHECK",
        "PIP_NO_CACHE_DIR",
        "PIP_ROOT_USER_ACTION",
        "PYTHON",
        "PYTHONDONTWRITEBYTECODE",
    }


def test_the_image_has_every_file_of_the_package_and_its_byte_code(image: Image, context: Path) -> None:
    """Templates and styles are installed like code, and nothing has to be compiled at the start."""
    (site,) = image.path("/opt/vcc-exporter/lib").glob("python3*/site-packages")
    source = {path.relative_to(context) for path in (context / "vcc_exporter").rglob("*") if path.is_file()}
    installed = {path.relative_to(site) for path in (site / "vcc_exporter").rglob("*") if path.is_file()}
    compiled = {path for path in installed if path.suffix == ".pyc"}
    assert installed - compiled == source
    assert {path.suffix[1:] for path in source} >= {"py", "html", "css", "js"}
    assert len(compiled) == sum(path.suffix == ".py" for path in source)
    code = (site / next(iter(compiled))).read_bytes()
    assert int.from_bytes(code[4:8], "little") == 1, "good whatever the source's time (PEP 552: hash-based, unchecked)"


def test_the_image_cannot_install_packages(image: Image) -> None:
    """Neither the environment nor its Python has pip."""
    assert not list(image.root.glob("opt/vcc-exporter/**/pip")), "pip in the environment"
    assert not list(image.root.glob("usr/local/**/pip")), "pip in the base image"


@pytest.mark.parametrize(("user", "group"), [(ANYBODY, ANYBODY), (1000660000, 0)], ids=["nobody", "any-user"])
def test_the_image_runs_as_any_user_without_home_and_writes_no_file(
    image: Image, simulator: Simulator, start: Start, user: int, group: int
) -> None:
    """With a config and a key that are mounted, its values come; its health check tells whether it runs."""
    bank = simulator.centres["bank"]
    folder = image.path("/etc/vcc-exporter")
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath("key").write_text(bank.key)
    folder.joinpath("config.yaml").write_text(
        f"customers: [{{name: bank, url: '{simulator.url}', api_key_file: key, timezone: {noon_zone()}}}]"
    )
    options: dict[str, Any] = {"env": image.env, "cwd": "/", "preexec_fn": writes_no_file}
    if os.geteuid() == 0:
        options |= {"user": user, "group": group, "extra_groups": []}
    entry, command = (json.loads(last(DOCKERFILE, instruction)) for instruction in ("ENTRYPOINT", "CMD"))
    daemon = start([*found(image, entry), *(moved(word, image.root) for word in command), LOOPBACK], **options)
    if os.geteuid() == 0:
        assert Path(f"/proc/{daemon.process.pid}").stat().st_uid == user
    daemon.wait_for(lambda page: one(page, "vcc_up", customer="bank"), "values")
    assert fetch(daemon.url + "/-/ready")[0] == 200

    port = daemon.addresses[0].rpartition(":")[2]
    words = json.loads(last(DOCKERFILE, "HEALTHCHECK").partition("CMD ")[2])
    check = [word.replace("10742", port) for word in found(image, words)]

    def healthy() -> bool:
        return not subprocess.run(check, capture_output=True, check=False, **options).returncode  # noqa: S603

    assert healthy()
    assert daemon.stop() == 0
    assert not healthy()


# The unit.


def test_systemd_accepts_the_unit_and_finds_little_exposed(tmp_path: Path) -> None:
    """`systemd-analyze verify` is silent, and the exposure is at most 1.4 of 10."""
    unit = tmp_path / UNIT.name
    # Without the program at its place, that is all that there would be to say.
    unit.write_text(re.sub(r"^(ExecStart)=\S+", r"\1=/bin/true", UNIT.read_text(), flags=re.MULTILINE))
    for command in (
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        ["systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=14", str(unit)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        assert done.returncode == 0, done.stdout + done.stderr
        assert not done.stderr


def test_the_units_config_passes_check_config_and_finds_the_key_where_the_unit_puts_it(image: Image) -> None:
    """The example has only the fault that it cannot have elsewhere: the credential of a running service."""
    path = ROOT / "deploy" / "systemd" / "config.yaml"
    done = subprocess.run(  # noqa: S603
        [f"{image.root}/opt/vcc-exporter/bin/vcc-exporter", "check-config", f"--config.file={path}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 1
    credentials = {value.partition(":")[0] for value in settings(UNIT.read_text(), "LoadCredential")}
    found = re.findall(r"api_key_file: /run/credentials/vcc-exporter\.service/(\w+)", path.read_text())
    assert set(found) == credentials


def test_the_daemon_works_under_the_units_restrictions(image: Image, start: Start) -> None:
    """With its system calls filtered and no memory that is both writable and executable, the demo's numbers come."""
    program = f"{image.root}/opt/vcc-exporter/bin/vcc-exporter"
    daemon = start(
        [sys.executable, str(ROOT / "tests" / "sandbox.py"), str(UNIT), program, "--demo", "--log.level=info", LOOPBACK]
    )
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    assert re.search(r"^NoNewPrivs:\s1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\s2$", status, re.MULTILINE)
    page = daemon.wait_for(lambda page: page if one(page, "vcc_up", customer="bank") else None, "values")
    assert one(page, "process_max_fds") == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: "config reloaded" in daemon.log, "the reload")
    assert daemon.stop() == 0


@pytest.mark.parametrize(
    "attempt",
    [
        "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)",
        "import socket; socket.socket(socket.AF_UNIX)",
        "import os; os.chroot('/')",
        "import os; os.sched_setaffinity(0, os.sched_getaffinity(0))",
    ],
)
def test_the_units_restrictions_refuse_what_the_daemon_does_not_need(attempt: str) -> None:
    """What stands in for systemd in these tests really refuses."""
    command = [sys.executable, str(ROOT / "tests" / "sandbox.py"), str(UNIT), sys.executable, "-c", attempt]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert re.search(r"Operation not permitted|Address family not supported", done.stderr), done.stderr


# The document.


def blocks(kind: str) -> list[tuple[bool, str]]:
    """Return the document's fenced blocks of a kind, and whether each is marked as one that runs."""
    found = re.findall(rf"(<!-- run -->\n)?^( *)```{kind}\n(.*?)^ *```$", OPERATING, re.MULTILINE | re.DOTALL)
    return [(bool(mark), re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)) for mark, indent, text in found]


def commands(text: str) -> list[list[str]]:
    """Return a block's commands as words."""
    return [shlex.split(line) for line in text.replace("\\\n", "").splitlines()]


def test_the_documents_commands_do_what_it_says(image: Image, context: Path, open_folder: Path) -> None:
    """In order, they install, set up and check; afterwards the files are where the unit wants them."""
    checkout, root = open_folder / "checkout", open_folder / "installed"
    shutil.copytree(context, checkout)
    shutil.copytree(ROOT / "deploy", checkout / "deploy")
    (root / "etc" / "systemd" / "system").mkdir(parents=True)
    # So that pip finds its work done but for the package itself.
    shutil.copytree(image.path("/opt"), root / "opt", symlinks=True)
    env = {**os.environ, "PATH": f"{image.root}/usr/local/bin:{os.environ['PATH']}"}
    running = [text for mark, text in blocks("sh") if mark]
    assert len(running) == 4
    for text in running:
        script = moved(text, root)
        done = subprocess.run(  # noqa: S603
            ["/bin/sh", "-euc", script],
            cwd=checkout,
            env=env,
            input="the key\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, script + done.stdout + done.stderr

    unit = (root / "etc" / "systemd" / "system" / UNIT.name).read_text()
    (start_command,) = settings(unit, "ExecStart")
    program, config_flag = start_command.split()
    assert os.access(f"{root}{program}", os.X_OK)
    config = root / config_flag.partition("=")[2].lstrip("/")
    assert config.stat().st_mode & 0o777 == 0o644
    for credential in settings(unit, "LoadCredential"):
        key = root / credential.partition(":/")[2]
        assert key.read_text() == "the key\n"
        assert key.stat().st_mode & 0o777 == 0o600


def test_the_documents_other_commands_are_well_formed_and_name_what_exists() -> None:
    """What needs systemd or an engine is read by a shell without running it, and its paths, unit and ports are ours."""
    for _, text in blocks("sh"):
        subprocess.run(["/bin/sh", "-nc", text], check=True)  # noqa: S603
    others = [words for mark, text in blocks("sh") if not mark for words in commands(text)]
    tried = [words for mark, text in blocks("sh") if mark for words in commands(text)]
    online = next(words for words in tried if "check-config" in words)[:2]
    for words in others:
        # That of `--online` asks the vendor.
        asks = words[0] == "sed" or words[:3] == [*online, "--online"]
        assert asks or words in tried or words[0] in {"systemctl", "journalctl", "curl", "docker"}, words
        if words[0] == "systemctl":
            assert words[1:] == ["daemon-reload"] or words[-1] == UNIT.stem, words
        if words[0] == "curl":
            assert words[-1].startswith("http://localhost:10742/-/"), words
    (check, run) = (words for words in others if words[:2] == ["docker", "run"])
    mounts = [word for word in run if word.startswith("--volume=")]
    assert mounts == [word for word in check if word.startswith("--volume=")]
    assert f"--user={last(DOCKERFILE, 'USER')}" in run
    assert "--read-only" in run
    assert any(word.startswith("--publish=") and word.endswith(f":{last(DOCKERFILE, 'EXPOSE')}") for word in run)
    assert check[-1] in last(DOCKERFILE, "CMD")
    assert "/etc/vcc-exporter:ro" in mounts[0], "the folder of the config that CMD names"


def test_the_documents_drop_in_is_accepted(tmp_path: Path) -> None:
    """The unit with the document's settings on top is one that systemd takes without a word."""
    ((_, text),) = blocks("ini")
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"/opt/\S+", "/bin/true", UNIT.read_text() + text))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_link_of_the_document_leads_to_a_file() -> None:
    """Links are relative and good in a checkout."""
    for target in re.findall(r"\]\(([^)]+)\)", OPERATING):
        assert (ROOT / "docs" / target).exists(), target
