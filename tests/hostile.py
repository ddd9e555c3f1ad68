"""Ways of a server to behave badly. Each gets a connection whose request is read, and ends with it."""

import json
import select
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import trustme
from support import http_response, read_request

Handle = Callable[[socket.socket], None]

HEAD: Final = b"HTTP/1.1 200 OK\r\n"
CHUNKED: Final = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def hang(connection: socket.socket) -> None:
    """Say nothing more."""
    while connection.recv(65536):
        pass


def then(first: bytes, behave: Handle) -> Handle:
    """Send something before behaving in another way."""

    def handle(connection: socket.socket) -> None:
        connection.sendall(first)
        behave(connection)

    return handle


def drip(piece: bytes) -> Handle:
    """Send a piece again and again, with pauses."""

    def handle(connection: socket.socket) -> None:
        pause = threading.Event()
        while not pause.wait(0.02):
            connection.sendall(piece)

    return handle


def flood(piece: bytes) -> Handle:
    """Send a piece again and again, as fast as it goes."""

    def handle(connection: socket.socket) -> None:
        while True:
            connection.sendall(piece)

    return handle


def close(connection: socket.socket) -> None:
    """End the connection in order."""
    connection.shutdown(socket.SHUT_WR)


def reset(connection: socket.socket) -> None:
    """Break the connection off."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def over_tls(certificate: trustme.LeafCert, handle: Handle) -> Handle:
    """Serve a connection over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    def safely(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as safe:
            handle(safe)

    return safely


def tunnel(handle: Handle, heads: list[str], reply: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> Handle:
    """Be a proxy that answers CONNECT, and at whose far end `handle` is."""

    def accept(connection: socket.socket) -> None:
        heads.append(read_request(connection).decode())
        connection.sendall(reply)
        handle(connection)

    return accept


def relay(port: int) -> Handle:
    """Pass on everything, both ways, to a server on loopback."""

    def handle(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as far:
            others = {connection: far, far: connection}
            while True:
                pending = isinstance(connection, ssl.SSLSocket) and connection.pending()
                for ready in [connection] if pending else select.select(list(others), [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    others[ready].sendall(data)

    return handle


def status(code: int, *errors: Any, headers: tuple[str, ...] = ()) -> bytes:
    """Return a response as the API refuses something."""
    body = json.dumps({"response": None, "errors": errors}).encode()
    return http_response(body, f"{code} Whatever", *headers)


def zeros(mebibytes: int) -> bytes:
    """Return so many zeros, packed."""
    packing = zlib.compressobj(1, wbits=31)
    return b"".join(packing.compress(bytes(2**20)) for _ in range(mebibytes)) + packing.flush()


@contextmanager
def nobody() -> Iterator[int]:
    """Hold a port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def crowded() -> Iterator[int]:
    """Hold a port at which connections wait to be accepted, as many as the system lets, so that the next hangs."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
        for one in waiting:
            one.close()
