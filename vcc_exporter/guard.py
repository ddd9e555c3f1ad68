"""Who may ask: passwords, clients' certificates, and whose series a user may see.

`Rules` are what the config and the web config say of it together, judged as a pair: either may name what
only the other can have. The `Guard` stands before the application and holds each request against them.
"""

import asyncio
import base64
import binascii
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import bcrypt
from aiohttp import web

from vcc_exporter.config import Config, WebUser
from vcc_exporter.faults import ConfigError, Fault
from vcc_exporter.loading import load_web_config
from vcc_exporter.web_config import Context, Reading, WebConfig, same_name

SHARE: Final = web.RequestKey("share", frozenset[str])
"""With a request: the customers that whoever asks may see. Without it they may see everything."""
MOST_WAITING: Final = 32
"""Requests that wait for a password to be checked, one after the other. Beyond it they get a 503: with hashes of cost
10 the last of them waits for two seconds or three."""
_MOST_REMEMBERED: Final = 1024
"""Right passwords; a user has one, spelled in one way, so that it is a bound on the number of users that ask often."""
_LONGEST_PASSWORD: Final = 72  # bytes: bcrypt reads no more, and the library refuses longer ones

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Rules:
    """Who may ask, and for what."""

    web: WebConfig
    web_users: tuple[WebUser, ...]
    shares: Mapping[str, frozenset[str]]
    """User to customers. A user of the web config who is not in it sees everything."""
    waiting: frozenset[str] = frozenset()
    """Users that are new in the web config and see nothing until the config is reloaded, too: it may be about to say
    that they are not to see everything."""


def rules(config: Config, web_config: WebConfig | None) -> Rules | None:
    """Judge a config and a web config together; None where there is no web config. Raises ConfigError."""
    if web_config:
        return _rules(web_config, config.web_users)
    if config.web_users:
        raise ConfigError(
            [_fault(user, "expected --web.config.file, which has the users") for user in config.web_users]
        )
    return None


@dataclass(frozen=True, slots=True)
class Pair:
    """What came of reading the config and, where there is one, the web config."""

    config: Config | None
    reading: Reading | None
    rules: Rules | None
    faults: tuple[Fault, ...]
    """Of both files; where there are any, neither is to be used."""


def read_pair(read_config: Callable[[], Config], web_config: Path | None) -> Pair:
    """Read both and judge them together. `read_config` raises ConfigError."""
    reading = load_web_config(web_config) if web_config else None
    faults = reading.faults if reading else ()
    try:
        config = read_config()
        found = None if faults else rules(config, reading.config if reading else None)
    except ConfigError as error:
        return Pair(None, reading, None, (*error.faults, *faults))
    return Pair(config, reading, found, faults)


def renewed(old: Rules, web_config: WebConfig, new_may_see_all: bool) -> Rules:
    """Return the rules where the web config alone has changed. Raises ConfigError.

    Unless `new_may_see_all`, a user who has come has to wait where no share is known of them.
    """
    new = {} if new_may_see_all else web_config.users.keys() - old.web.users.keys()
    waiting = (old.waiting | frozenset(new)) & web_config.users.keys()
    return _rules(web_config, old.web_users, waiting)


def _rules(web_config: WebConfig, users: tuple[WebUser, ...], waiting: Iterable[str] = ()) -> Rules:
    missing = [user for user in users if user.name not in web_config.users]
    if missing:
        raise ConfigError(
            [_fault(user, f"expected a user of {web_config.file}, which has none of this name") for user in missing]
        )
    shares = {user.name: user.customers for user in users}
    return Rules(web_config, users, shares, frozenset(waiting) - shares.keys())


def _fault(user: WebUser, message: str) -> Fault:
    path = f"web_users.{user.name}"
    return Fault(user.file, user.line, path if path.isprintable() else repr(path), message)


class Guard:
    """Lets requests pass, or answers them itself. All of it lives in the event loop's thread."""

    def __init__(self, rules: Rules, open_paths: frozenset[str]) -> None:
        """`open_paths` are those that also users with a share may ask for."""
        self._open_paths = open_paths
        self._secret = secrets.token_bytes(32)
        self._one_check = asyncio.Lock()
        self._waiting = 0
        self.follow(rules)

    @property
    def rules(self) -> Rules:
        """The rules in force."""
        return self._rules

    def follow(self, rules: Rules) -> None:
        """Hold requests against these rules from now on."""
        self._rules = rules
        self._remembered: dict[bytes, str] = {}
        """Users by what was right of them, as a keyed hash: no password is kept."""

    @web.middleware
    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Stand before the application's handlers."""
        refusal = self._judge_connection(request)
        if refusal:
            return refusal
        if self._rules.web.users:
            said = request.headers.get("Authorization", "")
            user = self._remembered.get(self._keyed(said)) or await self._check(said, request)
            if isinstance(user, web.Response):
                return user
            share = self._rules.shares.get(user)
            if user in self._rules.waiting or (share is not None and request.path not in self._open_paths):
                return _forbidden("This user may not see this.")
            if share is not None:
                request[SHARE] = share
        return await handler(request)

    # Certificates.

    def _judge_connection(self, request: web.Request) -> web.Response | None:
        """Return what is said to a client whose certificate, or lack of one, is not good enough now."""
        config, transport = self._rules.web, request.transport
        if config.context is None or transport is None:
            return None
        context = transport.get_extra_info("sslcontext")
        if not isinstance(context, Context) or context.clients != config.context.clients:
            # Let in when other certificates were good. Without an answer a client asks again, on a new connection.
            transport.abort()
            return _forbidden("This connection is from before a change of who may connect.")
        certificate = transport.get_extra_info("peercert")
        if config.allowed_names is None or not certificate:  # where it must be, the handshake has seen to it
            return None
        names = {same_name(name) for kind, name in certificate.get("subjectAltName", ()) if kind in _NAMES}
        if names & config.allowed_names:
            return None
        return _forbidden("This client's certificate has none of the names that are allowed here.")

    # Passwords.

    def _keyed(self, said: str) -> bytes:
        return hashlib.blake2b(said.encode(errors="surrogateescape"), key=self._secret, digest_size=32).digest()

    async def _check(self, said: str, request: web.Request) -> str | web.Response:
        """Return the user whose password was sent, or the answer to whoever has sent none that is right."""
        credentials = _credentials(said)
        if credentials is None:
            return _unauthorized()
        if self._waiting >= MOST_WAITING:
            text = "Too many passwords wait to be checked.\n"
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=text, headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            async with self._one_check:
                # Another request may have found it right meanwhile, and this client may be gone.
                user = self._remembered.get(self._keyed(said))
                if user is None and request.transport:
                    user = await self._compare(*credentials, said)
        finally:
            self._waiting -= 1
        return user or _unauthorized()

    async def _compare(self, name: str, password: bytes, said: str) -> str | None:
        rules = self._rules
        hashed = rules.web.users.get(name)
        is_right = await asyncio.to_thread(_is_right, password, hashed or self._decoy(name))
        if rules is not self._rules:
            return await self._compare(name, password, said)
        if hashed is None or not is_right:
            return None
        if len(self._remembered) >= _MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[self._keyed(said)] = name
        return name

    def _decoy(self, name: str) -> bytes:
        """Return the hash that an unknown user's password is compared with, in vain.

        It is always the same one of those that there are, so that it takes as long as for somebody who is known.
        """
        hashes = list(self._rules.web.users.values())
        return hashes[int.from_bytes(self._keyed(name)[:8]) % len(hashes)]


_NAMES: Final = frozenset({"DNS", "IP Address", "email", "URI"})


def _credentials(said: str) -> tuple[str, bytes] | None:
    """Read an Authorization header; None where it holds no name and password that could be right."""
    scheme, _, coded = said.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(coded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (name.decode(errors="replace"), password) if colon and len(password) <= _LONGEST_PASSWORD else None


def _is_right(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:  # one that no hash can be made of
        return False


def _forbidden(words: str) -> web.Response:
    return web.Response(status=HTTPStatus.FORBIDDEN, text=f"{words}\n")


def _unauthorized() -> web.Response:
    return web.Response(status=HTTPStatus.UNAUTHORIZED, text="Unauthorized\n", headers={"WWW-Authenticate": "Basic"})
