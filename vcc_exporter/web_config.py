"""The web config as the program meets it, and the TLS context that comes of what it says."""

import hashlib
import ipaddress
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vcc_exporter.faults import Fault

# What a text says, before the files that it names are read.


@dataclass(frozen=True, slots=True)
class Tls:
    """How connections are encrypted, and which clients are let in."""

    cert_file: Path
    key_file: Path
    clients: ssl.VerifyMode
    client_ca_file: Path | None
    client_ca: str
    """As PEM; empty where there is a file, or where no client shows a certificate."""
    min_version: ssl.TLSVersion
    max_version: ssl.TLSVersion
    cipher_suites: tuple[str, ...]
    """Of TLS 1.2, by OpenSSL's names; empty: its own choice."""
    prefer_server_cipher_suites: bool
    curve: str | None
    """None: OpenSSL's choice."""
    lines: Mapping[str, int]
    """Where each of the keys stands in the file."""


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole text, checked."""

    users: Mapping[str, bytes] = field(repr=False)
    """Name to bcrypt hash; empty: nobody is asked for a password."""
    headers: Mapping[str, str]
    """What stands in the head of each answer."""
    allowed_names: frozenset[str] | None
    """Of which a client's certificate must have one; None: it may have any."""
    tls: Tls | None


@dataclass(frozen=True, slots=True)
class Parsed:
    """What came of reading a text."""

    settings: Settings | None
    """None where there are faults."""
    faults: tuple[Fault, ...]
    sources: tuple[Path, ...]
    """The file itself, and those that it names, whether they can be read or not."""


# What the rest of the program sees.


class Context(ssl.SSLContext):
    """TLS, with what it demands of clients."""

    clients: str
    """The same for two contexts that take the same clients."""


@dataclass(frozen=True, slots=True)
class WebConfig:
    """A whole web config, checked."""

    file: str
    users: Mapping[str, bytes] = field(repr=False)
    """Name to bcrypt hash; empty: nobody is asked for a password."""
    headers: Mapping[str, str]
    """What stands in the head of each answer."""
    context: Context | None
    """None: no TLS."""
    allowed_names: frozenset[str] | None
    """Of which a client's certificate must have one; None: it may have any."""
    digest: bytes
    """The same for two that were read from files of the same content."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of reading a web config."""

    config: WebConfig | None
    """None where there are faults."""
    faults: tuple[Fault, ...]
    sources: tuple[Path, ...]
    """The file itself, and those that it names, whether they could be read or not."""


def complete(path: Path, text: str, parsed: Parsed) -> Reading:
    """Read the files that a web config's text names, and make its TLS context."""
    settings = parsed.settings
    if settings is None:
        return Reading(None, parsed.faults, parsed.sources)
    contents, tls = {"": text.encode()}, settings.tls
    try:
        context = _context(tls, contents) if tls else None
    except _Unusable as error:
        key, message = error.args
        fault = Fault(str(path), tls.lines[key] if tls else 0, f"tls_server_config.{key}", message)
        return Reading(None, (fault,), parsed.sources)
    digest = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for _, content in sorted(contents.items())))
    config = WebConfig(str(path), settings.users, settings.headers, context, settings.allowed_names, digest.digest())
    return Reading(config, (), parsed.sources)


class _Unusable(Exception):  # noqa: N818 - it is about a file
    """A file that a key names, and which does not serve; holds the key and what was expected."""


def _content(key: str, path: Path, contents: dict[str, bytes]) -> bytes:
    """Read a file that the key names. Raises _Unusable."""
    try:
        content = contents[key] = path.read_bytes()
    except OSError as error:
        raise _Unusable(key, f"the file {path} cannot be read: {error.strerror}") from None
    return content


def _context(tls: Tls, contents: dict[str, bytes]) -> Context:
    """Make the context; what was read is put into `contents`. Raises _Unusable."""
    context = Context(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = tls.min_version, tls.max_version
    context.set_alpn_protocols(["http/1.1"])
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if tls.cipher_suites:
        context.set_ciphers(":".join(tls.cipher_suites))
    if tls.curve:
        context.set_ecdh_curve(tls.curve)
    _load_certificate(context, tls, contents)
    _load_authorities(context, tls, contents)
    return context


def _load_certificate(context: Context, tls: Tls, contents: dict[str, bytes]) -> None:
    for name, path, what, begin in (
        ("cert_file", tls.cert_file, "a certificate", rb"-----BEGIN (TRUSTED )?CERTIFICATE-----"),
        ("key_file", tls.key_file, "a key", rb"-----BEGIN ([A-Z]+ )*PRIVATE KEY-----"),
    ):
        if not re.search(begin, _content(name, path, contents)):
            raise _Unusable(name, f"expected {what} as PEM in {path}, found none")
    if b"ENCRYPTED" in contents["key_file"]:
        raise _Unusable("key_file", "expected a key without a passphrase, which nobody could type")
    try:
        # Without the last one OpenSSL might ask at the terminal all the same.
        context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: b"")
    except (OSError, ValueError) as error:  # that of TLS is such
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            raise _Unusable("key_file", "expected the key of the certificate in cert_file, found another one") from None
        words = f": OpenSSL says {reason.replace('_', ' ').lower()}" if reason else ""
        raise _Unusable(
            "key_file", f"{tls.cert_file} and {tls.key_file} are no certificate and its key{words}"
        ) from None


def _load_authorities(context: Context, tls: Tls, contents: dict[str, bytes]) -> None:
    context.clients = tls.clients.name
    if tls.clients is ssl.CERT_NONE:
        return
    path, authorities = tls.client_ca_file, tls.client_ca
    if path:
        authorities = _content("client_ca_file", path, contents).decode("ascii", "ignore")
    context.verify_mode = tls.clients
    # Whatever is in the file is trusted, as in Go, also an authority below another one.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=authorities)
    except (ssl.SSLError, ValueError):
        key = "client_ca_file" if path else "client_ca"
        raise _Unusable(key, f"expected certificates as PEM{f' in {path}' if path else ''}, found none") from None
    context.clients += hashlib.sha256(authorities.encode()).hexdigest()


def same_name(name: str) -> str:
    """Return a name of a certificate as it is compared: an IP address has several spellings."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name
