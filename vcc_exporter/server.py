"""Sockets for an application: addresses, limits and deadlines. It knows nothing of what is served."""

import contextlib
import errno
import logging
import re
import resource
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

log = logging.getLogger(__name__)

MOST_CONNECTIONS: Final = 512
"""Beyond it a request is told to come back, so that clients that only hold connections lock nobody out."""
_SILENCE_S: Final = 20
"""How long a connection may be without a whole request: longer than the usual 15 s from one scrape to the next, since a
large answer costs twice as much on a new one, and more with TLS."""
_SHUTDOWN_S: Final = 1
"""What answers under way get; the library may take twice that, and the contract gives 5 s in all."""
_BACKLOG: Final = 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. An empty host stands for all interfaces."""

    host: str
    port: int


def parse_address(text: str) -> Address:
    """Read `host:port`, `:port` or `[::1]:port`. Raises ValueError for anything else."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+(?:%\w+)?)\]|([^\[\]:/\s]*)):([0-9]{1,5})", text, re.ASCII)
    if not match or int(match[3]) > 65535:  # noqa: PLR2004
        raise ValueError(text)
    return Address(match[1] or match[2], int(match[3]))


def listen(address: Address) -> socket.socket:
    """Open a listening socket. Raises OSError."""
    if address.host:
        try:
            found = socket.getaddrinfo(address.host, address.port, 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
        except UnicodeError:
            raise OSError(errno.EINVAL, "this can be no host's name") from None
        family, _, _, _, where = found[0]
        return socket.create_server(where, family=family, backlog=_BACKLOG)
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("::", address.port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
            )
        except OSError as error:
            # IPv6 may be there but switched off; then the other family is tried.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return socket.create_server(("0.0.0.0", address.port), backlog=_BACKLOG)  # noqa: S104 - that is what was asked for


def raise_descriptor_limit() -> None:
    """Allow as many open files as the system lets this process have: each customer keeps a connection."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def serve(app: web.Application, sockets: list[socket.socket]) -> web.AppRunner:
    """Serve an application on listening sockets, until the returned runner is cleaned up."""
    app.middlewares.extend((_limit_connections, _survive))
    runner = web.AppRunner(
        app, handle_signals=False, access_log=None, keepalive_timeout=_SILENCE_S, shutdown_timeout=_SHUTDOWN_S
    )
    app[_RUNNER] = runner
    await runner.setup()
    for listening in sockets:
        await web.SockSite(runner, listening, backlog=_BACKLOG).start()
    return runner


_RUNNER: Final = web.AppKey("runner", web.AppRunner)


@web.middleware
async def _limit_connections(request: web.Request, handler: Handler) -> web.StreamResponse:
    server = request.app[_RUNNER].server
    if server and len(server.connections) > MOST_CONNECTIONS:
        response = web.Response(status=503, text="Too many connections.\n")
        response.force_close()
        return response
    return await handler(request)


@web.middleware
async def _survive(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (web.HTTPException, ConnectionError):
        raise  # the latter is a client that has left, of which the library thinks nothing
    except Exception:
        log.exception("unexpected fault", extra={"path": request.path})
        return web.Response(status=500, text="An unexpected fault of the exporter; its log says where.\n")
