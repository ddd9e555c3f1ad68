"""Web configs as files: certificates, keys and passwords, some of them of no use."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

import bcrypt
import trustme
from cryptography.hazmat.primitives import serialization

PASSWORD: Final = "s3cr3t-of-the-admin"


@cache
def hashed(password: str = PASSWORD, cost: int = 4) -> str:
    """Return a password's bcrypt hash as htpasswd writes it; of the lowest cost, since tests need many."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode().replace("$2b$", "$2y$")


@cache
def authority() -> trustme.CA:
    """Return the authority of all that is good."""
    return trustme.CA()


def write_certificate(
    folder: Path, name: str = "", names: Iterable[str] = ("127.0.0.1", "localhost"), ca: trustme.CA | None = None
) -> None:
    """Write a certificate and its key as `<name>cert.pem` and `<name>key.pem`."""
    issued = (ca or authority()).issue_cert(*names)
    issued.private_key_pem.write_to_path(folder / f"{name}key.pem")
    (folder / f"{name}cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))


def write_files(folder: Path) -> None:
    """Write what web configs name: a good certificate, its key and its authority, and others that serve nobody."""
    write_certificate(folder)
    write_certificate(folder, "other-")
    authority().cert_pem.write_to_path(folder / "ca.pem")
    key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
    (folder / "locked-key.pem").write_bytes(locked)
    (folder / "damaged.pem").write_text("-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n")
