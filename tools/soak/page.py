"""Scrapes, and what they say: samples by customer, read by the client library's own parsers."""

import gzip
import http.client
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tools.soak.dice import Dice

Labels = frozenset[tuple[str, str]]
Key = tuple[str, Labels]
Samples = dict[Key, float]

_OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
_ACCEPTS: Final[Mapping[str, str]] = {
    "": _TEXT,
    "text/plain": _TEXT,
    "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1": _OPENMETRICS,
}
_MOST_REMEMBERED: Final = 100_000


@lru_cache(maxsize=_MOST_REMEMBERED)
def one_key(name: str, labels: Labels) -> Key:
    """Return the one key for a series, so that equal ones are the same and compared at once."""
    return name, labels


class WrongPageError(Exception):
    """A page that no Prometheus should be given, whatever it says."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """One answer."""

    customers: tuple[str, ...]
    """Those that were asked for; none: all."""
    openmetrics: bool
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """What one answer says."""

    customers: Mapping[str, Samples]
    exporter: Samples = field(default_factory=dict)
    """Of the exporter itself."""
    types: Mapping[str, str] = field(default_factory=dict)
    """Of each family."""


class Scraper:
    """A client that keeps its connection, and asks in all forms."""

    def __init__(self, port: int, dice: Dice) -> None:
        self._port = port
        self._dice = dice
        self._http: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """End the connection."""
        if self._http:
            self._http.close()
            self._http = None

    def scrape(self, customers: Iterable[str] = ()) -> Scrape:
        """Ask for some customers' series, or for all."""
        chosen = tuple(customers)
        accept, packed = self._dice.choice([*_ACCEPTS]), self._dice.happens(0.5)
        headers = {"Accept-Encoding": "gzip" if packed else "identity", **({"Accept": accept} if accept else {})}
        query = "&".join(f"customer[]={quote(name)}" for name in chosen)
        status, got, body = self.ask("GET", f"/metrics?{query}" if chosen else "/metrics", headers)
        if status != http.HTTPStatus.OK or got.get("Content-Type") != _ACCEPTS[accept]:
            raise WrongPageError(
                f"status {status}, content type {got.get('Content-Type')}, expected {_ACCEPTS[accept]}"
            )
        if (got.get("Content-Encoding") == "gzip") != packed:
            raise WrongPageError(f"content encoding {got.get('Content-Encoding')}")
        return Scrape(chosen, accept.startswith("app"), (gzip.decompress(body) if packed else body).decode())

    def ask(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        """Send a request, again on a new connection where the kept one has been closed meanwhile."""
        for last in (False, True):
            try:
                if self._http is None:
                    self._http = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
                self._http.request(method, path, headers=dict(headers))
                answer = self._http.getresponse()
                return answer.status, dict(answer.getheaders()), answer.read()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self.close()
                if last:
                    raise
        raise AssertionError


class Reader:
    """Reads pages with the client library's parsers.

    Most series of a page stood on the page before, too, so that what the parser made of a series' name and labels,
    and of a page's heads, is remembered; a number is then what Python reads. One page in some is parsed as a whole
    all the same.
    """

    def __init__(self, dice: Dice, whole_share: float) -> None:
        self._dice = dice
        self._whole_share = whole_share
        self._series: dict[str, tuple[str | None, Key]] = {}
        """By text, without the number: whose it is, and how it is kept."""
        self._heads: dict[tuple[str, ...], Mapping[str, str]] = {}

    @property
    def remembered(self) -> int:
        """Return how many series and heads are remembered, which takes memory until the bound is met."""
        return len(self._series) + len(self._heads)

    def read(self, scrape: Scrape) -> Page:
        """Read a page. Raises WrongPageError."""
        if self.remembered > _MOST_REMEMBERED:
            self._series.clear()
            self._heads.clear()
        lines = _lines(scrape)
        heads = tuple(line for line in lines if line.startswith("#"))
        whole = self._dice.happens(self._whole_share)
        if whole:
            self._heads[heads] = self._learn(lines, scrape.openmetrics)
        customers, new = self._known(lines)
        if new or heads not in self._heads:
            unread = {*new, *heads}
            self._heads[heads] = self._learn([line for line in lines if line in unread], scrape.openmetrics)
            customers, new = self._known(lines)
        if len(lines) - len(heads) != sum(map(len, customers.values())):
            twice = [line for line, count in Counter(line.rpartition(" ")[0] for line in lines).items() if count > 1]
            raise WrongPageError(f"twice: {twice}")
        exporter = customers.pop(None, {})
        return Page({name: samples for name, samples in customers.items() if name}, exporter, self._heads[heads])

    def _known(self, lines: list[str]) -> tuple[dict[str | None, Samples], list[str]]:
        """Return what is known of a page's samples, and the lines of which nothing is."""
        customers, new = defaultdict[str | None, Samples](dict), []
        for line in lines:
            if not line.startswith("#"):
                text, _, value = line.rpartition(" ")
                series = self._series.get(text)
                if series is None:
                    new.append(line)
                else:
                    customers[series[0]][series[1]] = _number(value)
        return customers, new

    def _learn(self, lines: list[str], openmetrics_format: bool) -> Mapping[str, str]:
        """Parse lines, remember their series, and return the families' types."""
        families = _parse("".join(f"{line}\n" for line in lines), openmetrics_format)
        samples = [sample for family in families for sample in family.samples]
        unread = [line for line in lines if not line.startswith("#")]
        if len(samples) != len(unread):
            raise WrongPageError(f"{len(unread)} lines of samples are {len(samples)} samples to the parser")
        for line, sample in zip(unread, samples, strict=True):
            text, _, value = line.rpartition(" ")
            if sample.timestamp is not None or sample.exemplar is not None or sample.value != _number(value):
                raise WrongPageError(f"more or less than a value: {line}")
            self._series[text] = sample.labels.get("customer"), one_key(sample.name, frozenset(sample.labels.items()))
        return {family.name: family.type for family in families if family.documentation}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise WrongPageError(f"no number: {text}") from None


def _lines(scrape: Scrape) -> list[str]:
    """Return a page's lines. Raises WrongPageError where they are not in the order of the format."""
    if not scrape.text.endswith("# EOF\n" if scrape.openmetrics else "\n") and scrape.text:
        raise WrongPageError(f"its end is {scrape.text[-40:]!r}")
    lines = scrape.text.removesuffix("\n").split("\n") if scrape.text else []
    headed, seen = "", set[str]()
    for line in lines:
        if line.startswith("# HELP "):
            headed = line.split(" ")[2]
            if headed in seen:
                raise WrongPageError(f"a second {line}")
            seen.add(headed)
        elif not line.startswith("#") and not (headed and line.startswith(headed)):
            raise WrongPageError(f"not below its family's head: {line}")
    return lines


def _parse(text: str, openmetrics_format: bool) -> list[Any]:
    try:
        if openmetrics_format:
            return list(openmetrics.text_string_to_metric_families(text))
        return list(text_string_to_metric_families(text))
    except ValueError as error:
        raise WrongPageError(f"the parser refuses it: {error}") from error
