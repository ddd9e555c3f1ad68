"""From a web config's text to what it says: the format is that of Prometheus's exporter-toolkit.

A key of the format that cannot be honoured here is a fault, never ignored; docs/web-config.md has each of them.
"""

import re
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from vcc_exporter.config_schema import Bool, Section, Text, UnexpectedError, printable, scalar
from vcc_exporter.faults import Fault
from vcc_exporter.schema_faults import Shape, schema_faults, spell
from vcc_exporter.web_config import Parsed, Settings, Tls, same_name
from vcc_exporter.yaml_lines import LinedMap, line_of, read

HIGHEST_COST: Final = 15
"""Of a bcrypt hash: it takes some 2 s to check a password against, and twice that with each step up."""

# The shape. Field names are the keys.


def _refused(why: str) -> BeforeValidator:
    def validate(_value: Any) -> Any:
        raise PydanticCustomError("refused", "{why}", {"why": why})

    return BeforeValidator(validate)


def _one_of(known: Mapping[str, Any], refused: Mapping[str, str] | None = None) -> BeforeValidator:
    """Read one of the format's own words. Those that cannot be honoured are refused with the reason."""
    reasons = refused or {}

    def validate(value: Any) -> Any:
        if isinstance(value, str) and value in reasons:
            raise PydanticCustomError("refused", "{why}", {"why": f"{value}: {reasons[value]}"})
        if not isinstance(value, str) or value not in known:
            raise UnexpectedError(f"one of {', '.join(known)}")
        return known[value]

    return BeforeValidator(validate)


_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_OLD: Final = "it is broken, and OpenSSL does not speak it any more; expected TLS12 or TLS13"
_CLIENTS: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED: Final = (
    "a certificate that is asked for is verified here, always; expected VerifyClientCertIfGiven or "
    "RequireAndVerifyClientCert"
)
# Go's names to OpenSSL's.
_SUITES: Final = {
    f"TLS_ECDHE_{key}_WITH_{go}": f"ECDHE-{key}-{openssl}"
    for key in ("ECDSA", "RSA")
    for go, openssl in {
        "AES_128_GCM_SHA256": "AES128-GCM-SHA256",
        "AES_256_GCM_SHA384": "AES256-GCM-SHA384",
        "CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
        "AES_128_CBC_SHA": "AES128-SHA",
        "AES_256_CBC_SHA": "AES256-SHA",
    }.items()
}
_OF_TLS13: Final = dict.fromkeys(
    ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"),
    "the suites of TLS 1.3 are all on, and cannot be chosen",
)
_CURVES: Final = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "Content-Security-Policy": (),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-Content-Type-Options": ("nosniff",),
    "X-XSS-Protection": (),
    "Strict-Transport-Security": (),
}
"""The headers that the format knows, each with its values; none: any."""


def _user(text: str) -> str:
    if ":" in text:
        raise ValueError
    return printable(text)


def _bcrypt(text: str) -> bytes:
    found = re.fullmatch(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}", text, re.ASCII)
    if not found or not 4 <= int(found[1]) <= HIGHEST_COST:  # noqa: PLR2004 - bcrypt's own least
        raise ValueError
    return text.encode()


def _certificates(text: str) -> str:
    if "-----BEGIN CERTIFICATE-----" not in text or not text.isascii():
        raise ValueError
    return text


def _header(text: str) -> str:
    if not text.isascii():
        raise ValueError
    return printable(text) if text else text


_Version = Annotated[ssl.TLSVersion, _one_of(_VERSIONS, dict.fromkeys(("TLS10", "TLS11"), _OLD))]
_Suite = Annotated[str, _one_of(_SUITES, _OF_TLS13)]
_Curve = Annotated[str, _one_of(_CURVES)]
_ClientAuth = Annotated[
    ssl.VerifyMode,
    _one_of(
        _CLIENTS,
        dict.fromkeys(("RequestClientCert", "RequireAnyClientCert", "RequireClientCert"), _UNVERIFIED),
    ),
]
_NotInline = Annotated[str, _refused("give the name of a file that holds it, as cert_file or key_file")]


class TlsSection(Section):
    """How connections are encrypted, and which clients are let in."""

    cert_file: Text = Field(description="a file with the certificate, and those between it and its authority")
    key_file: Text = Field(description="a file with the certificate's key")
    client_auth_type: _ClientAuth = Field(ssl.CERT_NONE, description="whether clients show a certificate")
    client_ca_file: Text | None = Field(None, description="a file with the authorities of clients' certificates")
    client_allowed_sans: Annotated[list[Text], Field(min_length=1)] | None = Field(
        None, description="names of which a client's certificate must have one"
    )
    min_version: _Version = Field(ssl.TLSVersion.TLSv1_2, description="the oldest TLS; default TLS12")
    max_version: _Version = Field(ssl.TLSVersion.TLSv1_3, description="the newest TLS; default TLS13")
    cipher_suites: Annotated[list[_Suite], Field(min_length=1)] | None = Field(
        None, description="the suites of TLS 1.2, by Go's names; default: OpenSSL's"
    )
    prefer_server_cipher_suites: Bool = Field(True, description="whether our order of suites counts; default true")
    curve_preferences: Annotated[list[_Curve], Field(min_length=1)] | None = Field(
        None, description="the curve for new keys; default: OpenSSL's"
    )
    client_ca: Annotated[str, scalar(_certificates, "certificates as PEM")] | None = Field(
        None, description="the authorities themselves, as PEM"
    )
    cert: _NotInline | None = Field(None, description="the certificate itself")
    key: _NotInline | None = Field(None, description="the key itself")


class HttpSection(Section):
    """How HTTP is spoken."""

    http2: Annotated[Bool, _one_of({"false": "false"}, {"true": "there is no HTTP/2 here; expected false"})] = Field(
        False, description="false: there is no HTTP/2 here"
    )
    headers: (
        dict[
            Annotated[str, _one_of({name: name for name in _HEADERS})],
            Annotated[str, scalar(_header, "one line of ASCII text")] | None,
        ]
        | None
    ) = Field(None, description="headers of each answer")


class WebConfigFile(Section):
    """The web config."""

    tls_server_config: TlsSection | None = Field(None, description="cert_file and key_file, and what else TLS needs")
    http_server_config: HttpSection | None = Field(None, description="headers")
    basic_auth_users: (
        Annotated[
            dict[
                Annotated[str, scalar(_user, "a user's name without a colon")],
                Annotated[
                    bytes, scalar(_bcrypt, f"a bcrypt hash such as $2y$10$…, of a cost from 04 to {HIGHEST_COST}")
                ],
            ],
            Field(min_length=1),
        ]
        | None
    ) = Field(None, description="users, each with the bcrypt hash of a password")
    rate_limit: Annotated[None, _refused("requests are bounded by what they cost; leave it out")] = Field(
        None, description="nothing: it is not supported"
    )


SECTIONS: Final[Mapping[str, type[Section]]] = {
    "": WebConfigFile,
    "tls_server_config": TlsSection,
    "http_server_config": HttpSection,
}
_SHAPE: Final = Shape(SECTIONS, frozenset({"basic_auth_users", "key"}))

# Rules that span several keys. They look at the tree, so that they speak even where a value is wrong.

_Broken = Iterator[tuple[tuple[str | int, ...], str]]


def _rules(tree: LinedMap) -> _Broken:
    tls = tree.get("tls_server_config")
    if isinstance(tls, LinedMap):
        for rule in (_client_rules, _version_rules, _curve_rules):
            yield from ((("tls_server_config", key), message) for key, message in rule(tls))
    http = tree.get("http_server_config")
    headers = http.get("headers") if isinstance(http, LinedMap) else None
    for name, value in headers.items() if isinstance(headers, LinedMap) else ():
        known = _HEADERS.get(name)
        if known and isinstance(value, str) and value not in ("", *known):
            yield ("http_server_config", "headers", name), f"expected {' or '.join(known)}, found {value!r}"


def _client_rules(tls: LinedMap) -> Iterator[tuple[str, str]]:
    authorities = [key for key in ("client_ca_file", "client_ca") if key in tls]
    asks = (named := tls.get("client_auth_type", "NoClientCert")) != "NoClientCert"
    if len(authorities) > 1:
        yield "client_ca", "expected either client_ca_file or client_ca, found both"
    if asks and named in _CLIENTS and not authorities:
        # Go would take any certificate that some public authority has signed.
        yield "client_auth_type", "expected client_ca_file beside it, found none"
    for key in (*authorities, "client_allowed_sans"):
        if key in tls and not asks:
            yield key, "expected a client_auth_type beside it that asks for certificates"


def _version_rules(tls: LinedMap) -> Iterator[tuple[str, str]]:
    least, most = tls.get("min_version", "TLS12"), tls.get("max_version", "TLS13")
    if (least, most) == ("TLS13", "TLS12"):
        yield "min_version", "expected no more than the max_version of TLS12, found 'TLS13'"
    if least == "TLS13" and "cipher_suites" in tls:
        yield "cipher_suites", "it is for TLS 1.2 alone, which min_version leaves out"


def _curve_rules(tls: LinedMap) -> Iterator[tuple[str, str]]:
    curves = tls.get("curve_preferences")
    if isinstance(curves, list) and len(curves) > 1:
        yield "curve_preferences", "not supported: several; expected one curve"


# The whole.


def parse(text: str, file: str, folder: Path) -> Parsed:
    """Read a web config's text. `file` names it in messages; paths in it are relative to `folder`."""
    tree, faults = read(text, file)
    tree = LinedMap(1) if tree is None else tree
    sources = (Path(file), *_named(tree, folder))
    if isinstance(tree, LinedMap):
        faults += [Fault(file, line_of(tree, where), spell(where), message) for where, message in _rules(tree)]
    whole: WebConfigFile | None = None
    try:
        whole = WebConfigFile.model_validate(tree)
    except ValidationError as error:
        faults += schema_faults(file, tree, error, _SHAPE)
    if whole is None or faults:
        return Parsed(None, tuple(sorted(dict.fromkeys(faults), key=lambda fault: fault.line)), sources)
    tls = whole.tls_server_config
    names = tls.client_allowed_sans if tls else None
    headers = (whole.http_server_config.headers if whole.http_server_config else None) or {}
    settings = Settings(
        users=whole.basic_auth_users or {},
        headers={name: value for name, value in headers.items() if value},
        allowed_names=frozenset(map(same_name, names)) if names else None,
        tls=_tls(tls, tree, folder) if tls else None,
    )
    return Parsed(settings, (), sources)


def _tls(section: TlsSection, tree: Any, folder: Path) -> Tls:
    return Tls(
        cert_file=folder / section.cert_file,
        key_file=folder / section.key_file,
        clients=section.client_auth_type,
        client_ca_file=folder / section.client_ca_file if section.client_ca_file else None,
        client_ca=section.client_ca or "",
        min_version=section.min_version,
        max_version=section.max_version,
        cipher_suites=tuple(section.cipher_suites or ()),
        prefer_server_cipher_suites=section.prefer_server_cipher_suites,
        curve=section.curve_preferences[0] if section.curve_preferences else None,
        lines={key: line_of(tree, ("tls_server_config", key)) for key in TlsSection.model_fields},
    )


def _named(tree: Any, folder: Path) -> Iterator[Path]:
    """Yield the files that a web config names, however bad the rest of it is."""
    tls = tree.get("tls_server_config") if isinstance(tree, LinedMap) else None
    for key in ("cert_file", "key_file", "client_ca_file"):
        name = tls.get(key) if isinstance(tls, LinedMap) else None
        if isinstance(name, str):
            yield folder / name
