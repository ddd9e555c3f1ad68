"""The daemon behind a web config: real TLS, real clients, files that change under it, and crowds at the door."""

import http.client
import resource
import signal
import socket
import ssl
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
import trustme
from conftest import StartDaemon
from running import LOOPBACK, ROOT, Daemon, Prometheus, eventually, fetch, one, parse_page
from webfiles import PASSWORD, authority, hashed, write_certificate, write_files

from vcc_exporter.process import raise_descriptor_limit
from vcc_exporter.server import MOST_CONNECTIONS

GAUGE: Final = "vcc_exporter_web_config_last_reload_successful"
TLS: Final = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"
HEADERS: Final = "http_server_config:\n  headers: {Strict-Transport-Security: max-age=60, X-Frame-Options: deny}\n"
USERS: Final = f"basic_auth_users:\n  admin: {hashed()}\n"
OK: Final = HTTPStatus.OK
CUSTOMERS: Final = "customers:\n" + "".join(
    f"  - {{name: {name}, url: 'http://127.0.0.1:9', api_key: k3y, timezone: UTC}}\n" for name in ("acme", "globex")
)
"""Nobody answers for them; what is looked at here are their names."""


class Client:
    """Asks a daemon with TLS or without."""

    def __init__(self, daemon: Daemon, user: str = "admin", password: str = PASSWORD, name: str = "") -> None:
        self.daemon = daemon
        self.user = user
        self.password = password
        self.name = name
        """Which certificate it shows: the files' prefix; none for the empty name."""

    def connection(self) -> http.client.HTTPSConnection:
        """Open a connection."""
        context = ssl.create_default_context()
        authority().configure_trust(context)
        if self.name:
            folder = self.daemon.output.parent
            context.load_cert_chain(folder / f"{self.name}cert.pem", folder / f"{self.name}key.pem")
        host, _, port = self.daemon.addresses[0].rpartition(":")
        made = http.client.HTTPSConnection(host, int(port), timeout=30, context=context)
        try:
            made.connect()
        except BaseException:
            made.close()
            raise
        return made

    def ask(
        self, connection: http.client.HTTPConnection, path: str = "/metrics", method: str = "GET"
    ) -> tuple[int, str, http.client.HTTPMessage]:
        """Ask on an open connection."""
        head = {"Authorization": "Basic " + b64encode(f"{self.user}:{self.password}".encode()).decode()}
        connection.request(method, path, headers=head if self.user else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers

    def get(self, path: str = "/metrics", method: str = "GET") -> tuple[int, str, http.client.HTTPMessage]:
        """Ask on a connection of its own."""
        connection = self.connection()
        try:
            return self.ask(connection, path, method)
        finally:
            connection.close()

    def status(self, path: str = "/metrics", method: str = "GET") -> int:
        """Return the status of an answer; 0 for none."""
        try:
            return self.get(path, method)[0]
        except (OSError, http.client.HTTPException):
            return 0

    def gauge(self) -> float | None:
        """Return what the page says of the web config."""
        return one(parse_page(self.get()[1]), GAUGE)


StartGuarded = Callable[..., Daemon]


@pytest.fixture
def start(start_daemon: StartDaemon, tmp_path: Path) -> StartGuarded:
    """Start the daemon with a web config beside its config."""
    write_files(tmp_path)

    def guarded(web: str, text: str = CUSTOMERS, *flags: str) -> Daemon:
        (tmp_path / "web.yml").write_text(web)
        return start_daemon(text, f"--web.config.file={tmp_path / 'web.yml'}", "--log.level=debug", *flags)

    return guarded


def replace(path: Path, text: str) -> None:
    """Write a file as careful programs do: whole, or not at all."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def serial(connection: http.client.HTTPSConnection) -> bytes:
    """Return the certificate that the server has shown."""
    certificate = connection.sock.getpeercert(binary_form=True)
    assert certificate
    return bytes(certificate)


def test_everything_is_encrypted_guarded_and_has_its_headers(start: StartGuarded) -> None:
    """Good and bad answers of every path; nonsense too; and no password stands in the log."""
    daemon = start(TLS + HEADERS + USERS, CUSTOMERS, "--web.enable-lifecycle")
    admin, stranger, wrong = Client(daemon), Client(daemon, user=""), Client(daemon, password="wr0ng")
    expected = {"/metrics": 200, "/": 200, "/-/healthy": 200, "/-/reload": 405, "/nowhere": 404}
    for path, status in expected.items():
        for client, wanted in ((admin, status), (stranger, 401), (wrong, 401)):
            found, _, head = client.get(path)
            assert found == wanted, path
            assert (head["Strict-Transport-Security"], head["X-Frame-Options"]) == ("max-age=60", "deny")
            assert (head["WWW-Authenticate"] == "Basic") == (wanted == 401)
    with admin.connection().sock as raw:
        raw.sendall(b"\x00\x01 nonsense\r\n\r\n")
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert b"Strict-Transport-Security: max-age=60" in answer
    assert "page=https://127.0.0.1:" in daemon.log
    assert admin.gauge() == 1
    assert daemon.stop() == 0
    for secret in (PASSWORD, "wr0ng", hashed(), b64encode(f"admin:{PASSWORD}".encode()).decode()):
        assert secret not in daemon.log
    assert "Traceback" not in daemon.log


def test_prometheus_scrapes_it(
    start: StartGuarded, start_prometheus: Callable[..., Prometheus], tmp_path: Path
) -> None:
    """With TLS, a certificate of its own and a password, as in the document's example."""
    write_certificate(tmp_path, "prometheus-", ("prometheus",))
    client = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"
    daemon = start(TLS + client + "  client_allowed_sans: [prometheus]\n" + USERS)
    job: dict[str, Any] = {
        "job_name": "vcc",
        "honor_labels": True,
        "scheme": "https",
        "tls_config": {
            "ca_file": str(tmp_path / "ca.pem"),
            "cert_file": str(tmp_path / "prometheus-cert.pem"),
            "key_file": str(tmp_path / "prometheus-key.pem"),
        },
        "basic_auth": {"username": "admin", "password": PASSWORD},
        "static_configs": [{"targets": daemon.addresses}],
    }
    prometheus = start_prometheus([job])
    prometheus.wait_until_scraped(1)
    assert list(prometheus.query(GAUGE).values()) == [1]


def test_plain_http_is_told_so_and_a_slow_handshake_ends(start: StartGuarded) -> None:
    """On a port with TLS: a 400 in the clear, silence and half a handshake cut off, and no fault in the log."""
    daemon = start(TLS)
    status, body, _ = fetch(f"{daemon.url}/metrics")
    assert status == HTTPStatus.BAD_REQUEST
    assert b"HTTP request to an HTTPS server" in body
    host, _, port = daemon.addresses[0].rpartition(":")
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection((host, int(port)), 60)) for _ in range(30)]
        for i, client in enumerate(slow):
            client.sendall((b"", b"\x16", b"\x16\x03\x01\x02\x00\x01")[i % 3])
        assert Client(daemon).status() == OK
        for client in slow:
            ends(client)
        assert Client(daemon).status() == OK
    with socket.create_connection((host, int(port)), 60) as client:
        client.sendall(b"\x16\x03\x01\x00\x05nonsense that is no handshake")
        ends(client)
    assert daemon.stop() == 0
    assert "level=error" not in daemon.log


def ends(connection: socket.socket) -> None:
    """Wait until the other side closes a connection, kindly or not."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        return


# Files that change.


def test_a_renewed_certificate_is_shown_without_a_restart(start: StartGuarded, tmp_path: Path) -> None:
    """Through links as Kubernetes swaps them; open connections go on, and half of a pair changes nothing."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_certificate(tmp_path / name)
    (tmp_path / "..data").symlink_to("first")
    daemon = start(TLS.replace("cert.pem", "..data/cert.pem").replace("key.pem", "..data/key.pem"))
    client = Client(daemon)
    before = client.connection()
    (tmp_path / "..new").symlink_to("second")
    (tmp_path / "..new").rename(tmp_path / "..data")

    def shown() -> bytes:
        made = client.connection()
        try:
            return serial(made)
        finally:
            made.close()

    old = serial(before)
    new = eventually(lambda: found if (found := shown()) != old else None, "the new certificate")
    assert client.ask(before)[0] == OK
    assert serial(before) == old

    write_certificate(tmp_path, "third-")
    replace(tmp_path / "second" / "cert.pem", (tmp_path / "third-cert.pem").read_text())
    eventually(lambda: client.gauge() == 0, "the bad pair to be told")
    assert shown() == new
    assert client.ask(before)[0] == OK
    assert "The web config could not be loaded again" in client.get("/")[1]
    replace(tmp_path / "second" / "key.pem", (tmp_path / "third-key.pem").read_text())
    eventually(lambda: client.gauge() == 1, "the good pair to be taken")
    assert shown() not in (old, new)
    assert "could not be loaded" not in client.get("/")[1]
    lines = [line for line in daemon.log.splitlines() if "web config not reloaded" in line]
    assert len(lines) == 1
    assert "web.yml:3: tls_server_config.key_file: expected the key of" in lines[0]
    before.close()


def test_a_bad_web_config_changes_nothing_and_is_told_once(start: StartGuarded, tmp_path: Path) -> None:
    """Neither does an emptied one open the door that users with a share have; a good one heals it."""
    shares = CUSTOMERS + "web_users: {acme-prom: [acme]}\n"
    users = f"{USERS}  acme-prom: {hashed()}\n"
    daemon = start(TLS + users, shares, "--web.enable-lifecycle")
    admin = Client(daemon)
    for bad in (TLS + users + "rate_limit: {burst: 1}\n", ""):
        replace(tmp_path / "web.yml", bad)
        eventually(lambda: admin.gauge() == 0, "the bad one to be told")
        assert Client(daemon, user="").status() == HTTPStatus.UNAUTHORIZED
        status, body, _ = admin.get("/-/reload", "POST")
        assert status == HTTPStatus.INTERNAL_SERVER_ERROR
        assert "web_users.acme-prom" in body or "web.yml:" in body
        replace(tmp_path / "web.yml", TLS + users)
        eventually(lambda: admin.gauge() == 1, "the good one to be taken")
    told = [line for line in daemon.log.splitlines() if "rate_limit" in line]
    assert len(told) == 2, told  # when it was seen, and when somebody asked for a reload
    # What the reload refused was the pair; the config alone was good all the time.
    assert admin.status("/-/reload", "POST") == OK


def test_users_and_passwords_change_without_a_reload(start: StartGuarded, tmp_path: Path) -> None:
    """Where no user has a share, a new one is let in; one who is gone is not, and TLS comes and goes."""
    daemon = start(TLS + USERS)
    other = Client(daemon, user="other", password="another")
    assert other.status() == HTTPStatus.UNAUTHORIZED
    admin = Client(daemon)
    kept = admin.connection()
    assert [admin.ask(kept)[0] for _ in range(3)] == [OK] * 3
    replace(tmp_path / "web.yml", f"{TLS}basic_auth_users:\n  other: {hashed('another')}\n")
    eventually(lambda: other.status() == OK, "the new user to be let in")
    assert admin.status() == HTTPStatus.UNAUTHORIZED
    assert admin.ask(kept)[0] == HTTPStatus.UNAUTHORIZED  # in the same bytes as before
    kept.close()
    kept = other.connection()
    replace(tmp_path / "web.yml", "")
    eventually(lambda: answered(daemon) == OK, "plain HTTP without a password")
    assert other.ask(kept)[0] == OK
    kept.close()
    plain = http.client.HTTPConnection(daemon.addresses[0], timeout=30)
    plain.request("GET", "/-/healthy")
    assert plain.getresponse().read()
    replace(tmp_path / "web.yml", TLS)
    eventually(lambda: other.status() == OK, "TLS")
    with pytest.raises((OSError, http.client.HTTPException)):
        other.ask(plain)
    plain.close()
    assert one(parse_page(other.get()[1]), GAUGE) == 1


def answered(daemon: Daemon) -> int:
    """Return the status of an answer in the clear; 0 for none."""
    try:
        return fetch(f"{daemon.url}/metrics")[0]
    except OSError:
        return 0


def test_who_may_connect_counts_for_open_connections_too(start: StartGuarded, tmp_path: Path) -> None:
    """Names at once; of an authority that is trusted no more no connection is left."""
    write_certificate(tmp_path, "mine-", ("prometheus", "2001:db8::1"))
    demand = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"
    daemon = start(demand)
    mine, other, nobody = Client(daemon, name="mine-"), Client(daemon, name="other-"), Client(daemon)
    assert (mine.status(), other.status(), nobody.status()) == (OK, OK, 0)
    kept = other.connection()
    assert other.ask(kept)[0] == OK
    replace(tmp_path / "web.yml", demand + "  client_allowed_sans: ['2001:DB8:0::1', somebody]\n")
    eventually(lambda: other.status() == HTTPStatus.FORBIDDEN, "the names to count")
    status, body, _ = other.ask(kept)
    assert status == HTTPStatus.FORBIDDEN
    assert "prometheus" not in body
    assert mine.status() == OK
    kept.close()

    kept = mine.connection()
    assert mine.ask(kept)[0] == OK
    strange = trustme.CA()
    replace(tmp_path / "ca.pem", strange.cert_pem.bytes().decode())
    eventually(lambda: mine.status() == 0, "the authority to be trusted no more")
    with pytest.raises((OSError, http.client.HTTPException)):
        mine.ask(kept)
    kept.close()


# Shares.

SHARES: Final = CUSTOMERS + "web_users: {acme-prom: [acme]}\n"


def test_a_new_user_never_sees_more_than_was_meant(start: StartGuarded, tmp_path: Path) -> None:
    """Written into the web config first, a user with a share to come waits for the config, in either order."""
    for loaded in (SHARES, CUSTOMERS):
        users = USERS + (f"  acme-prom: {hashed()}\n" if loaded is SHARES else "")
        daemon = start(TLS + users, loaded)
        new = Client(daemon, user="new")
        if loaded is CUSTOMERS:
            # The config on disk speaks already, but nobody has asked for a reload; nor has it the last word.
            (tmp_path / "config.yaml").write_text(CUSTOMERS + "web_users: {new: [glob")
        replace(tmp_path / "web.yml", f"{TLS}{users}  new: {hashed()}\n")
        seen = eventually(lambda: s if (s := new.status()) != HTTPStatus.UNAUTHORIZED else None, "the new user")  # noqa: B023
        assert seen == HTTPStatus.FORBIDDEN
        assert Client(daemon).status() == OK
        assert "new users of the web config see nothing until the config is reloaded" in daemon.log
        (tmp_path / "config.yaml").write_text(CUSTOMERS + "web_users: {new: [globex]}\n")
        assert new.status() == HTTPStatus.FORBIDDEN
        daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: new.status() == OK, "the share")  # noqa: B023
        for path in ("/metrics", "/"):
            page = new.get(path)[1]
            assert "globex" in page
            assert "acme" not in page
            assert "vcc_exporter_" not in page
        assert daemon.stop() == 0


def test_shares_of_a_shard_are_of_its_customers(start: StartGuarded) -> None:
    """A customer of another shard is not there, and that is no error."""
    users = f"{USERS}  acme-prom: {hashed()}\n"
    seen = set()
    for shard in (0, 1):
        daemon = start(TLS + users, SHARES, f"--shard={shard}", "--total-shards=2")
        page = Client(daemon, user="acme-prom").get()[1]
        assert "globex" not in page
        seen.add("acme" in page)
        assert "Shard" not in Client(daemon, user="acme-prom").get("/")[1]
        assert "Shard" in Client(daemon).get("/")[1]
        assert daemon.stop() == 0
    assert seen == {True, False}


# What is no good at the start.


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    command = [sys.executable, str(ROOT / "exporter.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603


@pytest.mark.parametrize(
    ("text", "web", "told"),
    [
        (CUSTOMERS, "rate_limit: {burst: 1}\n", ["web.yml:1: rate_limit: "]),
        (CUSTOMERS, None, ["web.yml: cannot be read: No such file"]),
        (SHARES, USERS, ["config.yaml:4: web_users.acme-prom: "]),
        (SHARES + "x: 1\n", "basic_auth_users: {a: b}\n", ["config.yaml:5: x: ", "web.yml:1: basic_auth_users.a: "]),
    ],
    ids=["web", "no-file", "no-user", "both"],
)
def test_a_bad_one_is_an_error_at_the_start_and_for_check_config(
    text: str, web: str | None, told: list[str], tmp_path: Path
) -> None:
    """Each fault with file and line, of both files at once, exit status 1, and no traceback."""
    (tmp_path / "config.yaml").write_text(text)
    if web is not None:
        (tmp_path / "web.yml").write_text(web)
    flags = [f"--config.file={tmp_path / 'config.yaml'}", f"--web.config.file={tmp_path / 'web.yml'}"]
    for command in (["check-config"], [LOOPBACK]):
        ended = run(*command, *flags)
        assert ended.returncode == 1
        lines = ended.stderr.replace(f"{tmp_path}/", "").removeprefix("vcc-exporter: ").splitlines()
        assert len(lines) == len(told)
        for line, begin in zip(sorted(lines), sorted(told), strict=True):
            assert line.startswith(begin)


def test_shares_without_a_web_config_are_an_error(tmp_path: Path) -> None:
    """Otherwise they would mean nothing, and everybody would see everything."""
    (tmp_path / "config.yaml").write_text(SHARES)
    for command in (["check-config"], [LOOPBACK]):
        ended = run(*command, f"--config.file={tmp_path / 'config.yaml'}")
        assert ended.returncode == 1
        assert "config.yaml:4: web_users.acme-prom: expected --web.config.file" in ended.stderr


def test_a_key_that_everybody_can_read_is_warned_of(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """By check-config and once in the log; a key for the group alone is as usual."""
    text = "customers: [{name: acme, url: 'http://127.0.0.1:9', timezone: UTC, api_key_file: acme.key}]\n"
    (tmp_path / "config.yaml").write_text(text)
    key = tmp_path / "acme.key"
    key.write_text("k3y")
    for mode, warns in ((0o604, True), (0o440, False)):
        key.chmod(mode)
        ended = run("check-config", f"--config.file={tmp_path / 'config.yaml'}")
        assert ended.returncode == 0
        assert ("every user of this machine can read the file" in ended.stderr) == warns
    key.chmod(0o644)
    daemon = start_daemon(text)
    for _ in range(3):
        daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: "config reloaded" in daemon.log, "a reload")
    assert daemon.log.count("every user of this machine can read key files") == 1
    assert str(key) in daemon.log
    assert daemon.stop() == 0


# Crowds.


def wait_for_scrape(daemon: Daemon, web: bool) -> None:
    """Scrape once, within what Prometheus would wait."""
    if web:
        assert Client(daemon).status() == OK
    else:
        assert fetch(f"{daemon.url}/metrics")[0] == OK


@pytest.mark.parametrize(("web", "count"), [(False, 10_000), (True, 3_000)], ids=["plain", "tls"])
def test_thousands_of_idle_connections_keep_no_scrape_from_its_answer(
    start: StartGuarded, start_daemon: StartDaemon, web: bool, count: int
) -> None:
    """They make room for each other, and the process holds no more of them than it wants to."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    daemon = start(TLS + USERS) if web else start_daemon(CUSTOMERS)
    host, _, port = daemon.addresses[0].rpartition(":")
    process = psutil.Process(daemon.process.pid)
    raise_descriptor_limit()
    try:
        count = min(count, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)
        with ExitStack() as stack:
            for number in range(count):
                idle = stack.enter_context(socket.create_connection((host, int(port)), 30))
                if number % 3 == 1:
                    idle.sendall(b"\x16\x03\x01" if web else b"GET / HTTP/1.1\r\n")
                if number % 1000 == 0:
                    wait_for_scrape(daemon, web)
            wait_for_scrape(daemon, web)
            assert process.num_fds() < MOST_CONNECTIONS + 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    wait_for_scrape(daemon, web)
    assert daemon.stop() == 0


def test_without_descriptors_it_waits_and_goes_on(start_daemon: StartDaemon) -> None:
    """Where the system gives no more, that is told once, no core spins, the idle make room and scrapes are answered."""
    daemon = start_daemon(CUSTOMERS)
    wait_for_scrape(daemon, web=False)
    process = psutil.Process(daemon.process.pid)
    most = process.num_fds() + 12
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (most, most))
    host, _, port = daemon.addresses[0].rpartition(":")
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(socket.create_connection((host, int(port)), 30))
        eventually(lambda: "cannot accept connections for now" in daemon.log, "the shortage to be told")
        used = sum(process.cpu_times()[:2])
        wait_for_scrape(daemon, web=False)
        waited = [fetch(f"{daemon.url}/-/healthy")[0] for _ in range(3)]
        assert waited == [OK] * 3
        assert sum(process.cpu_times()[:2]) - used < 5
    wait_for_scrape(daemon, web=False)
    assert 1 <= daemon.log.count("cannot accept connections") <= 4
    assert daemon.stop() == 0
