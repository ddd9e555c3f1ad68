"""The web application: routes, negotiation, and what they answer. It knows no socket."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Final

from aiohttp import web

from vcc_exporter.exposition import Body, Format
from vcc_exporter.guard import SHARE
from vcc_exporter.sending import AGAIN, send
from vcc_exporter.status_page import HEADERS, Surroundings, status_page
from vcc_exporter.store import Store

log = logging.getLogger(__name__)

Reload = Callable[[], Awaitable[tuple[str, ...]]]
"""Loads the config again and returns what is wrong with it, nothing where all went well."""

_OWN_PATHS: Final = frozenset({"/-/healthy", "/-/ready", "/-/reload"})


def application(
    store: Store, telemetry_path: str, reload: Reload | None, notice: Callable[[], str] = lambda: ""
) -> web.Application:
    """Make the application. `reload` is None where reloads by HTTP are not allowed; `notice` heads the page."""
    app = web.Application(client_max_size=1024)
    app.router.add_get(telemetry_path, partial(_metrics, store))
    if telemetry_path != "/":
        app.router.add_get("/", partial(_home, store, telemetry_path, notice))
    app.router.add_get("/-/healthy", _healthy)
    app.router.add_get("/-/ready", partial(_ready, store))
    for method in ("POST", "PUT"):
        app.router.add_route(method, "/-/reload", partial(_reload, reload))
    return app


def open_paths(telemetry_path: str) -> frozenset[str]:
    """Return what a user may ask for who sees some customers alone: nothing that tells of all of them."""
    return frozenset({telemetry_path, "/", "/-/healthy"})


def check_telemetry_path(path: str) -> str:
    """Return a path that metrics can be served on. Raises ValueError for any other."""
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", path) or path in _OWN_PATHS:
        raise ValueError(path)
    return path


async def _home(
    store: Store, telemetry_path: str, notice: Callable[[], str], request: web.Request
) -> web.StreamResponse:
    chosen, share = request.query.getall("customer[]", []), request.get(SHARE)
    text = await asyncio.to_thread(_page_for_people, store, chosen, share, telemetry_path, notice())
    content = text.encode()
    return await send(request, Body([content], len(content)), {**HEADERS, "Content-Type": "text/html; charset=utf-8"})


def _page_for_people(
    store: Store, chosen: list[str], share: frozenset[str] | None, telemetry_path: str, notice: str
) -> str:
    """Write the page, for users with a share without a word of the exporter and of other customers."""
    exporter, views = store.exporter, store.views()
    if share is None:
        around = Surroundings(telemetry_path, exporter.config_is_good, notice, exporter.web_config_is_good is not False)
        return status_page(views.values(), chosen, store.moment().wall, around)
    around = Surroundings(telemetry_path, config_is_good=True, notice="", to_all=False)
    return status_page((v for name, v in views.items() if name in share), chosen, store.moment().wall, around)


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="vcc-exporter is healthy.\n")


async def _ready(store: Store, _request: web.Request) -> web.Response:
    if store.ready:
        return web.Response(text="vcc-exporter is ready.\n")
    return web.Response(status=503, text="vcc-exporter is not ready: not every customer has been polled yet.\n")


async def _reload(reload: Reload | None, _request: web.Request) -> web.Response:
    if reload is None:
        return web.Response(status=403, text="Reloading by HTTP is not enabled: start with --web.enable-lifecycle.\n")
    faults = await reload()
    if faults:
        return web.Response(status=500, text="The config was not reloaded:\n" + "".join(f"{f}\n" for f in faults))
    return web.Response(text="The config was reloaded.\n")


async def _metrics(store: Store, request: web.Request) -> web.StreamResponse:
    said = request.headers
    chosen, gzip = _negotiated(tuple(said.getall("Accept", ())), tuple(said.getall("Accept-Encoding", ())))
    share = request.get(SHARE)
    if share is not None or "customer[]" in request.query:
        wanted = request.query.getall("customer[]", sorted(share or ()))
        seen = [name for name in wanted if share is None or name in share]
        body = await asyncio.to_thread(_body_of, store, seen, chosen, gzip)
    else:
        body = await _body(store, chosen, gzip)
        request[AGAIN] = lambda: _ready_body(store, chosen, gzip)
    headers = {"Content-Type": chosen.value, "Vary": "Accept, Accept-Encoding"}
    return await send(request, body, headers | ({"Content-Encoding": "gzip"} if gzip else {}))


def _ready_body(store: Store, chosen: Format, gzip: bool) -> Body | None:
    """Return the page in this form where it is true and was put together already."""
    page = store.published()
    return page.bodies.get((chosen, gzip)) if page else None


async def _body(store: Store, chosen: Format, gzip: bool) -> Body:
    ready = _ready_body(store, chosen, gzip)
    return await asyncio.to_thread(_body_made_anew, store, chosen, gzip) if ready is None else ready


def _body_made_anew(store: Store, chosen: Format, gzip: bool) -> Body:
    return (store.published() or store.page()).body(chosen, gzip)


def _body_of(store: Store, customers: list[str], chosen: Format, gzip: bool) -> Body:
    return (store.published() or store.page()).body_of(customers, chosen, gzip)


# Negotiation, by RFC 9110. The client library's own ignores q and fails on versions that are no number.

_PARAMETER: Final = re.compile(r';\s*([!#$%&\'*+.^_`|~0-9a-z-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]*)\s*', re.IGNORECASE)
_QUALITY: Final = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def _offers(values: Sequence[str]) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield what a header accepts: the name, its parameters, and how much it is wanted, 0 to 1."""
    # A quote that is never closed takes the rest: to try again behind it would take time that grows as its square.
    for offer in re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+', ",".join(values)[:4096]):
        name, _, rest = offer.partition(";")
        parameters = {k.lower(): v.strip('"') for k, v in _PARAMETER.findall(";" + rest)}
        quality = parameters.pop("q", "1")
        if _QUALITY.fullmatch(quality):
            yield name.strip().lower(), parameters, float(quality)


@lru_cache(maxsize=64)
def _negotiated(accept: tuple[str, ...], accept_encoding: tuple[str, ...]) -> tuple[Format, bool]:
    return choose_format(accept), accepts_gzip(accept_encoding)


def choose_format(accept: Sequence[str]) -> Format:
    """Return the format that a client wants most: OpenMetrics 1.0 where it says so, else text 0.0.4."""
    wanted = {Format.TEXT: 0.0, Format.OPENMETRICS: 0.0}
    for name, parameters, quality in _offers(accept):
        version = parameters.get("version")
        if name == "application/openmetrics-text" and (version is None or re.fullmatch(r"1\.0\.[0-9]+", version)):
            wanted[Format.OPENMETRICS] = max(wanted[Format.OPENMETRICS], quality)
        elif name in {"text/plain", "text/*", "*/*"} and version in {None, "0.0.4"}:
            wanted[Format.TEXT] = max(wanted[Format.TEXT], quality)
    best = wanted[Format.OPENMETRICS]
    return Format.OPENMETRICS if best and best >= wanted[Format.TEXT] else Format.TEXT


def accepts_gzip(accept_encoding: Sequence[str]) -> bool:
    """Tell whether a client takes gzip."""
    offers = {name: quality for name, _, quality in _offers(accept_encoding)}
    return offers.get("gzip", offers.get("x-gzip", offers.get("*", 0.0))) > 0
