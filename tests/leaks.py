"""Whether anything that was written tells a secret, plainly or in a form from which anybody could read it."""

import base64
import gzip
import html
import json
import zlib
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

_TELLING = 10
"""So many characters of a secret, from either end, tell too much of it."""


def leaks(secrets: Iterable[str], *written: bytes) -> list[str]:
    """Return where secrets stand in what was written: which, in which form, and what is around it.

    Looked for are the secrets as they are, as UTF-8 and as Latin-1, their first and last characters, and what URLs,
    HTML, JSON, hexadecimal numbers and base64 make of them. Bytes that are packed by gzip are unpacked.
    """
    texts = [_unpacked(text) for text in written]
    return [
        f"{secret!r} as {name}: {_around(text, text.index(form), len(form))!r}"
        for secret in secrets
        for name, form in _forms(secret)
        for text in texts
        if form in text
    ]


def _unpacked(text: bytes) -> bytes:
    if not text.startswith(b"\x1f\x8b"):
        return text
    try:
        return gzip.decompress(text)
    except (OSError, EOFError, zlib.error):
        return text


def _around(text: bytes, place: int, length: int) -> bytes:
    return text[max(place - 60, 0) : place + length + 20]


def _forms(secret: str) -> Iterator[tuple[str, bytes]]:
    if not secret:
        raise ValueError("an empty secret is everywhere")
    for charset in ("utf-8", "latin-1"):
        raw = secret.encode(charset, errors="ignore")
        yield f"it is, in {charset}", raw
        for name, quoted in (("a URL", quote(raw, safe="")), ("a path", quote(raw)), ("a form", quote_plus(raw))):
            yield name, quoted.encode()
            yield name, _lower_octets(quoted).encode()
        yield "a number", raw.hex().encode()
        yield "a number", raw.hex().upper().encode()
        for shift in range(3):
            yield "base64", _inner_base64(raw, shift)
            yield "base64", _inner_base64(raw, shift).translate(bytes.maketrans(b"+/", b"-_"))
    for part in (secret[:_TELLING], secret[-_TELLING:]):
        if len(secret) > _TELLING:
            yield "a part", part.encode()
    yield "JSON", json.dumps(secret)[1:-1].encode()
    yield "JSON", json.dumps(secret, ensure_ascii=False)[1:-1].encode()
    yield "HTML", html.escape(secret).encode()
    yield "HTML", html.escape(secret).replace("&quot;", "&#34;").replace("&#x27;", "&#39;").encode()


def _lower_octets(quoted: str) -> str:
    first, *others = quoted.split("%")
    return "%".join([first, *(other[:2].lower() + other[2:] for other in others)])


def _inner_base64(raw: bytes, shift: int) -> bytes:
    """Return what stands in base64 for a secret within a text, wherever it begins: not the ends, which depend on it."""
    encoded = base64.b64encode(bytes(shift) + raw)
    whole = (shift + len(raw)) // 3 * 4
    inner = encoded[-(-shift * 4 // 3) : whole]
    return inner or encoded
