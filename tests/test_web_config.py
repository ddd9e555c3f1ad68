"""The web config: every key works, as a handshake shows, or is refused with its line."""

import re
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Final

import pytest
import trustme
from running import ROOT
from support import DATA, load_web_config
from webfiles import authority, hashed, write_certificate, write_files

from vcc_exporter import loading
from vcc_exporter.renewal import Watch
from vcc_exporter.web_config import WebConfig
from vcc_exporter.web_config_file import HIGHEST_COST, SECTIONS

BAD: Final = sorted((DATA / "web_config" / "bad").glob("*.yaml"))
KEYS: Final = [f"{section}.{key}".lstrip(".") for section, model in SECTIONS.items() for key in model.model_fields]
TLS: Final = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"
REQUIRED: Final = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with certificates and keys."""
    write_files(tmp_path)
    return tmp_path


def good(folder: Path, text: str) -> WebConfig:
    """Return what a web config's text means."""
    (folder / "web.yml").write_text(text)
    reading = load_web_config(folder / "web.yml")
    assert reading.faults == ()
    assert reading.config
    return reading.config


# What is refused.


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_web_config_is_refused_in_these_words(path: Path, folder: Path) -> None:
    """Each file has one fault, the text beside it is the line that tells of it, and no secret is in it."""
    shutil.copy(path, folder)
    reading = load_web_config(folder / path.name)
    assert reading.config is None
    assert (
        "".join(f"{fault}\n" for fault in reading.faults).replace(f"{folder}/", "").replace(str(folder), ".")
        == path.with_suffix(".txt").read_text()
    )
    assert len(reading.faults) == 1
    assert not re.search(r"s3cr3t|QOauhQ", str(reading.faults))


def test_every_key_has_a_bad_file() -> None:
    """No key is left whose faults nobody has looked at."""
    texts = [path.with_suffix(".txt").read_text() for path in BAD]
    paths = [found[1] for text in texts if (found := re.match(r"\S+:\d+: (\S+?)(?:\[\d+\])?: ", text))]
    assert [key for key in KEYS if not any(f"{path}.".startswith(f"{key}.") for path in paths)] == []


def test_every_key_has_its_line_in_the_document() -> None:
    """Docs say of each whether it works."""
    document = (ROOT / "docs" / "web-config.md").read_text()
    assert [key for key in KEYS if f"| `{key.rpartition('.')[2]}` |" not in document] == []
    assert f"cost from 04 to {HIGHEST_COST}" in document


def test_all_faults_are_told_at_once(folder: Path) -> None:
    """In the file's order, each with its line."""
    path = folder / "web.yml"
    path.write_text(TLS + "  min_version: TLS10\n  zebra: 1\nbasic_auth_users: {a: b}\nrate_limit: {burst: 1}\n")
    assert [fault.line for fault in load_web_config(path).faults] == [4, 5, 6, 7]


@pytest.mark.parametrize("make", ["missing", "folder", "binary"])
def test_a_file_that_cannot_be_read_is_a_fault(make: str, tmp_path: Path) -> None:
    """The words say why, without a traceback."""
    path = tmp_path / "web.yml"
    if make == "folder":
        path.mkdir()
    elif make == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    reading = loading.load_web_config(path)
    (fault,) = reading.faults
    assert str(fault).startswith(str(path))
    assert reading.sources == (path,)


# What is good.


def test_an_empty_file_guards_nothing(tmp_path: Path) -> None:
    """As in the format: no TLS, no users, no headers."""
    config = good(tmp_path, "# nothing\n")
    assert (config.users, config.headers, config.context, config.allowed_names) == ({}, {}, None, None)


def test_users_and_headers_are_taken_as_they_are(tmp_path: Path) -> None:
    """A blank header is not set; hashes may be of htpasswd or of Python."""
    text = "http_server_config: {http2: false, headers: {X-Frame-Options: deny, X-XSS-Protection: '',\n"
    text += "  Content-Security-Policy: , Strict-Transport-Security: max-age=1}}\n"
    text += f"basic_auth_users:\n  'jürgen': {hashed()}\n  b: {hashed().replace('$2y$', '$2b$')}\n"
    config = good(tmp_path, text)
    assert config.headers == {"X-Frame-Options": "deny", "Strict-Transport-Security": "max-age=1"}
    assert config.users == {"jürgen": hashed().encode(), "b": hashed().replace("$2y$", "$2b$").encode()}
    assert hashed() not in repr(config)


EVERY_KEY: Final = (
    REQUIRED
    + """\
  client_allowed_sans: [prometheus, 10.0.0.1]
  min_version: TLS12
  max_version: TLS12
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]
  prefer_server_cipher_suites: false
  curve_preferences: [CurveP384]
http_server_config:
  http2: false
  headers: {Strict-Transport-Security: max-age=1}
"""
)


def test_what_is_good_here_is_good_for_prometheus(folder: Path) -> None:
    """The format is the toolkit's: promtool takes what we take."""
    good(folder, f"{EVERY_KEY}basic_auth_users: {{admin: {hashed()}}}\n")
    newer = "  client_allowed_sans: [prometheus, 10.0.0.1]\n"
    (folder / "web.yml").write_text((folder / "web.yml").read_text().replace(newer, ""))
    command = ["promtool", "check", "web-config", "web.yml"]
    checked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_paths_are_relative_to_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the process runs; what the file names is watched with it."""
    monkeypatch.chdir("/")
    good(folder, REQUIRED)
    names = ("web.yml", "cert.pem", "key.pem", "ca.pem")
    assert load_web_config(folder / "web.yml").sources == tuple(folder / name for name in names)


def test_the_digest_is_that_of_all_contents(folder: Path) -> None:
    """Another certificate under the same name is another web config; a touched file is not."""
    first = good(folder, REQUIRED).digest
    assert good(folder, REQUIRED).digest == first
    digests = {first}
    for change in ("cert.pem", "ca.pem"):
        if change == "cert.pem":
            write_certificate(folder)
        else:
            trustme.CA().cert_pem.write_to_path(folder / change)
        digests.add(good(folder, REQUIRED).digest)
    digests.add(good(folder, REQUIRED + "# a comment\n").digest)
    assert len(digests) == 4


# Handshakes, without a network.


def shake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Return the server's side of a whole handshake. Raises ssl.SSLError where either side gives up."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    done = {ours: False, theirs: False}
    for _ in range(10):
        for side in (theirs, ours):
            if not done[side]:
                try:
                    side.do_handshake()
                    done[side] = True
                except ssl.SSLWantReadError:
                    pass
    assert all(done.values())
    return ours


def client(
    version: ssl.TLSVersion | None = None, suites: str = "", certificate: Path | None = None, name: str = ""
) -> ssl.SSLContext:
    """Return what a client brings."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    if version:
        context.minimum_version = context.maximum_version = version
    if suites:
        context.set_ciphers(suites)
    if certificate:
        context.load_cert_chain(certificate / f"{name}cert.pem", certificate / f"{name}key.pem")
    return context


def server(folder: Path, text: str) -> ssl.SSLContext:
    """Return what a web config makes of a server."""
    context = good(folder, text).context
    assert context
    return context


@pytest.mark.parametrize(
    ("keys", "spoken"),
    [
        ("", {"TLSv1.2", "TLSv1.3"}),
        ("  min_version: TLS13\n", {"TLSv1.3"}),
        ("  max_version: TLS12\n", {"TLSv1.2"}),
        ("  min_version: TLS12\n  max_version: TLS12\n", {"TLSv1.2"}),
    ],
)
def test_versions_are_those_that_are_wanted(folder: Path, keys: str, spoken: set[str]) -> None:
    """A client of another version is not served."""
    context = server(folder, TLS + keys)
    found = set()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        try:
            found.add(shake(context, client(version)).version())
        except ssl.SSLError:
            continue
    assert found == spoken


SUITES: Final = {
    "AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
    "AES_128_CBC_SHA": "AES128-SHA",
    "AES_256_CBC_SHA": "AES256-SHA",
}


@pytest.mark.parametrize("key_type", list(trustme.KeyType))
@pytest.mark.parametrize("suite", SUITES)
def test_each_suite_is_the_one_that_is_spoken(tmp_path: Path, key_type: trustme.KeyType, suite: str) -> None:
    """Go's name chooses OpenSSL's suite, for certificates of either kind, and no other of TLS 1.2."""
    kind = "ECDSA" if key_type is trustme.KeyType.ECDSA else "RSA"
    issued = authority().issue_cert("localhost", key_type=key_type)
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    context = server(tmp_path, f"{TLS}  cipher_suites: [TLS_ECDHE_{kind}_WITH_{suite}]\n")
    spoken = shake(context, client(ssl.TLSVersion.TLSv1_2, "ALL")).cipher()
    assert spoken
    assert spoken[0] == f"ECDHE-{kind}-{SUITES[suite]}"
    other = next(name for name in SUITES.values() if name != SUITES[suite])
    with pytest.raises(ssl.SSLError):
        shake(context, client(ssl.TLSVersion.TLSv1_2, f"ECDHE-{kind}-{other}"))


@pytest.mark.parametrize(("prefer", "first"), [("true", "AES256"), ("false", "AES128"), ("", "AES256")])
def test_whose_order_of_suites_counts_is_chosen(folder: Path, prefer: str, first: str) -> None:
    """Ours, unless the web config says otherwise."""
    names = [f"TLS_ECDHE_ECDSA_WITH_{name}" for name in ("AES_256_GCM_SHA384", "AES_128_GCM_SHA256")]
    text = f"{TLS}  cipher_suites: [{', '.join(names)}]\n"
    context = server(folder, text + (f"  prefer_server_cipher_suites: {prefer}\n" if prefer else ""))
    theirs = client(ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    spoken = shake(context, theirs).cipher()
    assert spoken
    assert f"-{first}-" in spoken[0]


@pytest.mark.parametrize(
    ("curve", "same", "other"),
    [
        ("CurveP256", "prime256v1", "secp384r1"),
        ("CurveP384", "secp384r1", "prime256v1"),
        ("CurveP521", "secp521r1", "prime256v1"),
        ("X25519", "X25519", "prime256v1"),
    ],
)
def test_the_curve_is_the_one_that_is_wanted(folder: Path, curve: str, same: str, other: str) -> None:
    """A client that has no other curve is not served."""
    context = server(folder, f"{TLS}  curve_preferences: [{curve}]\n")
    theirs = client()
    theirs.set_ecdh_curve(same)
    shake(context, theirs)
    theirs.set_ecdh_curve(other)
    with pytest.raises(ssl.SSLError):
        shake(context, theirs)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("kind", "let_in"),
    [
        ("NoClientCert", {"", "other-", "strange-"}),
        ("VerifyClientCertIfGiven", {"", "other-"}),
        ("RequireAndVerifyClientCert", {"other-"}),
    ],
)
def test_clients_show_what_is_demanded(folder: Path, kind: str, let_in: set[str], version: ssl.TLSVersion) -> None:
    """A certificate of our authority, one of another, and none."""
    write_certificate(folder, "strange-", ca=trustme.CA())
    text = f"{TLS}  client_auth_type: {kind}\n" + ("  client_ca_file: ca.pem\n" if kind != "NoClientCert" else "")
    context = server(folder, text)
    for name in ("", "other-", "strange-"):
        theirs = client(version, certificate=folder if name else None, name=name)
        if name in let_in:
            certificate = shake(context, theirs).getpeercert()
            assert bool(certificate) == (bool(name) and kind != "NoClientCert")
        else:
            with pytest.raises(ssl.SSLError):
                shake(context, theirs)


@pytest.mark.parametrize("inline", [False, True])
def test_an_authority_below_another_is_trusted_as_it_stands(folder: Path, inline: bool) -> None:
    """As in Go; and authorities may stand in the web config itself."""
    below = authority().create_child_ca()
    write_certificate(folder, "mine-", ("prometheus",), below)
    pem = below.cert_pem.bytes().decode()
    (folder / "below.pem").write_text("# Zertifikate für Prometheus\n" + pem, encoding="utf-8")
    block = "".join(f"    {line}\n" for line in pem.splitlines())
    authorities = f"  client_ca: |\n{block}" if inline else "  client_ca_file: below.pem\n"
    context = server(folder, f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n{authorities}")
    shake(context, client(certificate=folder, name="mine-"))
    with pytest.raises(ssl.SSLError):
        shake(context, client(certificate=folder, name="other-"))


def test_two_contexts_say_whether_they_take_the_same_clients(folder: Path) -> None:
    """A new certificate of ours changes nothing for clients; another authority, or demand, does."""

    def clients(text: str) -> str:
        context = good(folder, text).context
        assert context
        return context.clients

    required = clients(REQUIRED)
    write_certificate(folder)
    assert clients(REQUIRED) == required
    assert clients(REQUIRED.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven")) != required
    assert clients(TLS) != required
    trustme.CA().cert_pem.write_to_path(folder / "ca.pem")
    assert clients(REQUIRED) != required


# Watching.


def test_a_change_is_told_when_it_stands_still(tmp_path: Path) -> None:
    """Not while a file is still being written, and once for each change; the first look is a change."""
    path = tmp_path / "web.yml"
    path.write_text("a")
    watch = Watch((path,))
    assert [watch.has_changed() for _ in range(4)] == [False, True, False, False]
    for text in ("ab", "abc", "abcd"):
        path.write_text(text)
        assert not watch.has_changed()
    assert [watch.has_changed() for _ in range(3)] == [True, False, False]
    path.unlink()
    assert [watch.has_changed() for _ in range(3)] == [False, True, False]


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    """Kubernetes swaps a link to a folder in which all files of a Secret are."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "web.yml").write_text(name[:5])
    data, path = tmp_path / "..data", tmp_path / "web.yml"
    data.symlink_to("first")
    path.symlink_to("..data/web.yml")
    watch = Watch((path,))
    assert [watch.has_changed() for _ in range(3)] == [False, True, False]
    (tmp_path / "new").symlink_to("second")
    (tmp_path / "new").rename(data)
    assert [watch.has_changed() for _ in range(3)] == [False, True, False]


def test_further_files_are_looked_at_from_then_on(tmp_path: Path) -> None:
    """They count as changed, since nobody knows when they were read; the same ones again do not."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.touch()
    watch = Watch((one,))
    assert [watch.has_changed() for _ in range(3)] == [False, True, False]
    watch.follow((one, other))
    assert [watch.has_changed() for _ in range(3)] == [False, True, False]
    watch.follow((one, other))
    assert not watch.has_changed()
    other.touch()
    assert [watch.has_changed() for _ in range(3)] == [False, True, False]
