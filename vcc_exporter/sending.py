"""Answers of any size, on their way to clients that read them in time; and those that are sent again.

A Prometheus sends a request in the same bytes, on the same connection, for years. To read it, find its handler
and write the answer's head takes longer than to send a compressed page of a hundred thousand series. So whoever
made an answer may say how it is made again, and a connection sends that where the bytes of the next request are
those of the last one, without reading them. All that can change meanwhile is asked for anew: the body, and the
rules by which the request was let in. Of the bytes a keyed hash is kept, since a password may be among them.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.helpers import rfc822_formatted_time

from vcc_exporter.exposition import Body

log = logging.getLogger(__name__)

WRITE_TIMEOUT_S: Final = 30
"""How long a client may take to read an answer. No scraper waits as long for a page of any size."""
_MOST_ENCRYPTED: Final = 2 * 2**20
"""How much is encrypted at once, which a client that does not read holds up in this process."""


async def send(request: web.Request, body: Body, headers: Mapping[str, str]) -> web.StreamResponse:
    """Send an answer of any size, to a client that reads it in time."""
    response = web.StreamResponse(headers=headers)
    response.content_length = body.size
    try:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await response.prepare(request)
            if request.method != "HEAD":
                await _write(request, body.parts)
            await response.write_eof()
    except TimeoutError:
        if request.transport:
            request.transport.abort()
    except ConnectionError:
        log.debug("a client left before it had its answer", extra={"path": request.path})
    return response


async def _write(request: web.Request, parts: Sequence[bytes]) -> None:
    """Send the head and these parts as they are: the framework's own way copies them, or takes longer than to do so."""
    request.writer.send_headers()
    is_cut = request.transport is not None and _is_encrypted(request.transport)
    for some in _gathered(parts) if is_cut else (parts,):
        if request.transport is None:
            return
        request.transport.writelines(some)
        await request.writer.drain()


def _gathered(parts: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Take as many parts together as one client may hold up in this process where they have to be encrypted."""
    some: list[bytes] = []
    size = 0
    for part in parts:
        some.append(part)
        size += len(part)
        if size >= _MOST_ENCRYPTED:
            yield some
            some, size = [], 0
    if some:
        yield some


def _is_encrypted(transport: asyncio.BaseTransport) -> bool:
    return transport.get_extra_info("ssl_object") is not None


# Answers that are sent again.

Again = Callable[[], Body | None]
"""Returns the body that is to be sent now; None where the request has to be read after all."""
AGAIN: Final = web.RequestKey[Again]("again")
"""With a request whose answer can be made again: an answer 200 that depends on nothing but the request's bytes, the
rules of the house, and what this returns."""

_CHANGING: Final = frozenset({hdrs.CONTENT_LENGTH.lower(), hdrs.DATE.lower()})
_SECRET: Final = secrets.token_bytes(32)


def fingerprint(data: bytes) -> bytes:
    """Return what tells the bytes of a request from any others, and nothing of what they are."""
    return blake2b(data, key=_SECRET, digest_size=32).digest()


def is_whole(data: bytes) -> bool:
    """Tell whether bytes that begin a request can be this request and no more."""
    return data.endswith(b"\r\n\r\n") and data.find(b"\r\n\r\n") == len(data) - 4


@dataclass(frozen=True, slots=True)
class Repeat:
    """How a connection's last request is answered when it comes again."""

    fingerprint: bytes
    """The request's."""
    rules: object
    """Those by which it was let in. Under others it has to be judged again."""
    head: bytes
    """The answer's, as far as it stays the same."""
    again: Again

    def send(self, transport: asyncio.Transport) -> bool:
        """Send it. Returns whether that could be done."""
        body = self.again()
        if body is None or (body.size > _MOST_ENCRYPTED and _is_encrypted(transport)):
            return False
        changing = f"Content-Length: {body.size}\r\nDate: {rfc822_formatted_time()}\r\n\r\n"
        transport.writelines([self.head + changing.encode(), *body.parts])
        return True


def repeat(of: bytes, request: web.Request, response: web.StreamResponse, rules: object) -> Repeat | None:
    """Return how a request of this fingerprint, now answered, is answered when it comes again.

    None where it has to be read each time.
    """
    again = request.get(AGAIN)
    is_plain = request.method == hdrs.METH_GET and request.version == HttpVersion11 and not request.body_exists
    if again is None or not is_plain or not response.keep_alive or response.status != 200:  # noqa: PLR2004
        return None
    fields = [f"{name}: {value}\r\n" for name, value in response.headers.items() if name.lower() not in _CHANGING]
    return Repeat(of, rules, f"HTTP/1.1 200 OK\r\n{''.join(fields)}".encode(), again)
