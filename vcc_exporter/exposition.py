"""Views to bytes, bytes to a page. A scrape sends what stands ready, and renders nothing.

The parts, each immutable and replaced whole:

* `Rendered`: one customer's lines, a piece of text for each family;
* `Piece`: one family's lines of several customers, joined, and compressed once;
* `Block`: several customers' pieces, of which a new one takes over those that did not change;
* `Run`: several blocks, whose pieces were put one after the other once, since most pages change few of them;
* `Page`: all runs, with the families' heads before them, in either format, as it is or as one gzip member.

Lines stand in memory once: of one customer's, what did not change is cut from the block.

Heads (HELP, TYPE, UNIT) and the process's own metrics are written by the client library, lines of samples
here, since it cannot write one without the others; they are the same in both formats.
"""

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from functools import cache, cached_property
from itertools import accumulate, chain, pairwise
from typing import Any, Final, NamedTuple

from isal import isal_zlib
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from vcc_exporter.snapshot import CustomerState, Moment, Row, View
from vcc_exporter.vocabulary import CUSTOMER_FAMILIES, DATA_FAMILIES, EXPORTER_FAMILIES, FAMILIES, PAIR_LABELS, Family

CUSTOMERS_A_BLOCK: Final = 16
"""Large enough to compress well, small enough to compress anew when one customer changes."""
_BLOCKS_A_RUN: Final = 16
"""Near the square root of how many there are with thousands of customers."""
_JOINED: Final = 2 * 2**20
"""Bytes. So much of a compressed page is put together beforehand, since each part takes its time at the scrape. Of a
larger one each run is, once: to do that with all of it, for each page, would hold up polls."""
_PER_CUSTOMER: Final = len(DATA_FAMILIES) + len(CUSTOMER_FAMILIES)
_COMPRESSION: Final = 1  # a tenth of the client library's work for a quarter more bytes


class Format(Enum):
    """The exposition formats."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

    def generate(self, registry: Any) -> bytes:
        """Let the client library write a registry in this format."""
        return generate_latest(registry) if self is Format.TEXT else generate_openmetrics(registry)

    @property
    def end(self) -> bytes:
        """What stands after the last line."""
        return b"" if self is Format.TEXT else b"# EOF\n"


# Lines of one customer.


@dataclass(frozen=True, slots=True)
class Rendered:
    """One customer's view and its lines, in the order of `DATA_FAMILIES` and `CUSTOMER_FAMILIES`."""

    view: View
    data: tuple[bytes, ...]
    about: tuple[bytes, ...]
    labels: tuple[str, ...]
    """Those of each of the view's rows as they are written, for the next rendering."""

    @property
    def lines(self) -> tuple[bytes, ...]:
        """All of them."""
        return self.data + self.about


def render(view: View, previous: Rendered | None) -> Rendered:
    """Write a customer's lines. What `previous` says already is taken from there."""
    same = previous if previous and previous.view.state.customer.name == view.state.customer.name else None
    about = tuple(_about(view, same))
    if same and _same_labels(same.view.rows, view.rows):
        changed = _changed(same.view.rows, view.rows)
        if not changed:
            return Rendered(view, same.data, about, same.labels)
        labels, before = same.labels, same.data
    else:
        labels, before, changed = _labels(view, same), (), range(len(DATA_FAMILIES))
    data = tuple(
        _data(DATA_FAMILIES[i].name, labels, column) if i in changed else before[i]
        for i, column in enumerate(_columns(view.rows))
    )
    return Rendered(view, data, about, labels)


def _same_labels(old: Sequence[Row], new: Sequence[Row]) -> bool:
    """Tell whether two views have rows of the same pairs, called the same."""
    return len(old) == len(new) and all(a is b or a[:-1] == b[:-1] for a, b in zip(old, new, strict=True))


def _changed(old: Sequence[Row], new: Sequence[Row]) -> Collection[int]:
    """Return which families have other values in one of the rows."""
    rows = [(a.values, b.values) for a, b in zip(old, new, strict=True) if a is not b]
    return {i for a, b in rows if a is not b for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y}


def _columns(rows: Sequence[Row]) -> Sequence[Sequence[float | None]]:
    """Return the rows' values family by family."""
    return tuple(zip(*(row.values for row in rows), strict=True)) or ((),) * len(DATA_FAMILIES)


def _data(name: str, labels: Sequence[str], column: Sequence[float | None]) -> bytes:
    return "".join(
        [f"{name}{text}{_number(v)}\n" for text, v in zip(labels, column, strict=True) if v is not None]
    ).encode()


def _labels(view: View, before: Rendered | None) -> tuple[str, ...]:
    known = {row[:-1]: text for row, text in zip(before.view.rows, before.labels, strict=True)} if before else {}
    customer = view.state.customer.name
    keys = [row[:-1] for row in view.rows]
    return tuple(known.get(key) or _label_text(zip(PAIR_LABELS, (customer, *key), strict=True)) for key in keys)


def _label_text(labels: Iterable[tuple[str, str]]) -> str:
    """Write labels with the blank after them."""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "} "


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    # The library's function, but for the usual numbers, for which it comes to this.
    return repr(value) if -1e6 < value < 1e6 else floatToGoString(value)  # noqa: PLR2004


Sample = tuple[str, str, float]
"""What follows the family's name, labels as they are written with the blank after them, value."""


def _lines(family: Family, samples: Iterable[Sample]) -> bytes:
    name = family.name
    return "".join([f"{name}{suffix}{labels}{_number(float(value))}\n" for suffix, labels, value in samples]).encode()


def _about(view: View, before: Rendered | None) -> Iterator[bytes]:
    """Yield the lines of each of `CUSTOMER_FAMILIES`; most say the same until the settings, or the projects, change."""
    mine = f'{{customer="{_escape(view.state.customer.name)}"}} '
    samples, said = _of_polls(view, mine), before and before.view
    if not (said and said.state.customer is view.state.customer and said.projects == view.projects):
        samples |= _of_settings(view, mine)
    for place, family in enumerate(CUSTOMER_FAMILIES):
        if before and family.name not in samples:
            yield before.about[place]
        else:
            yield _lines(family, samples[family.name])


def _of_polls(view: View, mine: str) -> dict[str, list[Sample]]:
    """Return the samples of families that may be others with each poll."""
    state, success = view.state, view.state.last_success
    return {
        "vcc_up": [("", mine, view.up)] if state.polled else [],
        "vcc_customer_active": [("", mine, view.active)],
        "vcc_inbound_day_start_timestamp_seconds": _at(mine, view.day_start),
        "vcc_inbound_rows": [("", mine, state.rows)] if success else [],
        "vcc_inbound_rejected_rows": [("", mine, state.rejected_rows)] if success else [],
        "vcc_polls_total": [
            ("", f'{mine[:-2]},result="{result.value}"}} ', count) for result, count in state.polls.items()
        ],
        "vcc_poll_duration_seconds": [
            ("_count", mine, sum(state.polls.values())),
            ("_sum", mine, state.poll_seconds),
        ],
        "vcc_poll_last_success_timestamp_seconds": _at(mine, success),
        "vcc_poll_next_timestamp_seconds": _at(mine, state.next_poll),
    }


def _of_settings(view: View, mine: str) -> dict[str, list[Sample]]:
    """Return the samples of those that say what is configured for the projects that there are, and what is open."""
    projects = [(f'{mine[:-2]},project="{p.project}"}} ', p) for p in view.projects]
    return {
        "vcc_customer_info": [("", _label_text(_info(view.state)), 1)],
        "vcc_inbound_sla_threshold_seconds": [("", labels, p.sla_s) for labels, p in projects],
        "vcc_inbound_service_level_target_ratio": [("", labels, p.targets.service_level) for labels, p in projects],
        "vcc_inbound_abandonment_target_ratio": [("", labels, p.targets.abandonment) for labels, p in projects],
        "vcc_inbound_target_min_calls": [("", labels, p.targets.min_calls) for labels, p in projects],
        "vcc_inbound_open": [("", labels, p.open) for labels, p in projects if p.open is not None],
    }


def _at(labels: str, instant: datetime | None) -> list[Sample]:
    return [("", labels, instant.timestamp())] if instant else []


def _info(state: CustomerState) -> list[tuple[str, str]]:
    customer = state.customer
    return sorted((("customer", customer.name), ("timezone", customer.zone.key), *customer.labels))


# Several customers together.


class Deflated(NamedTuple):
    """A part of a deflate stream that depends on no other part."""

    parts: tuple[bytes, ...]
    crc: int
    """Of what was compressed, as `size`."""
    size: int

    @classmethod
    def together(cls, several: Iterable["Deflated"]) -> "Deflated":
        """Put parts of a stream one after the other."""
        parts: list[tuple[bytes, ...]] = []
        crc, size = 0, 0
        for one in several:
            parts.append(one.parts)
            crc = isal_zlib.crc32_combine(crc, one.crc, one.size)
            size += one.size
        return cls(tuple(chain.from_iterable(parts)), crc, size)

    def joined(self) -> "Deflated":
        """Return the same in one part."""
        return self._replace(parts=(b"".join(self.parts),))


class Piece:
    """One family's lines of several customers, compressed when that is first asked for."""

    __slots__ = ("_deflated", "ends", "plain")

    def __init__(self, parts: Sequence[bytes | memoryview]) -> None:
        self.plain = b"".join(parts)
        self.ends = tuple(accumulate(map(len, parts)))
        """Where each customer's lines end."""
        self._deflated: Deflated | None = None

    def part(self, seat: int) -> bytes:
        """Return one customer's lines."""
        return self.plain[self.ends[seat - 1] if seat else 0 : self.ends[seat]]

    def with_parts(self, new: Mapping[int, bytes]) -> "Piece":
        """Return the piece in which some customers' lines are others; this one where they are the same."""
        if all(self.part(seat) == lines for seat, lines in new.items()):
            return self
        uncopied = memoryview(self.plain)
        old = (uncopied[begin:end] for begin, end in pairwise((0, *self.ends)))
        return Piece([new.get(seat, lines) for seat, lines in enumerate(old)])

    @property
    def deflated(self) -> Deflated:
        """The lines, compressed."""
        if self._deflated is None:
            packer = isal_zlib.compressobj(_COMPRESSION, isal_zlib.DEFLATED, -15)
            packed = packer.compress(self.plain) + packer.flush(isal_zlib.Z_FULL_FLUSH)
            self._deflated = Deflated((packed,), isal_zlib.crc32(self.plain), len(self.plain))
        return self._deflated


@dataclass(frozen=True, slots=True)
class Block:
    """Several customers' lines."""

    views: tuple[View, ...]
    labels: tuple[tuple[str, ...], ...]
    pieces: tuple[Piece, ...]
    valid_from: datetime
    valid_until: datetime
    valid_until_s: float

    def rendered(self, seat: int) -> Rendered:
        """Return one customer's lines, cut from the pieces."""
        lines = tuple(piece.part(seat) for piece in self.pieces)
        first = len(DATA_FAMILIES)
        return Rendered(self.views[seat], lines[:first], lines[first:], self.labels[seat])

    def with_views(self, new: Mapping[int, View]) -> "Block":
        """Return the block in which some customers' views are others; pieces that did not change are the same."""
        rendered: dict[int, Rendered] = {}
        changed: list[dict[int, bytes]] = [{} for _ in self.pieces]
        for seat, said in new.items():
            before = self.rendered(seat)
            rendered[seat] = render(said, before)
            for parts, line, old in zip(changed, rendered[seat].lines, before.lines, strict=True):
                if line is not old:
                    parts[seat] = line
        return _block(
            [new.get(seat, said) for seat, said in enumerate(self.views)],
            [rendered[seat].labels if seat in new else labels for seat, labels in enumerate(self.labels)],
            [p.with_parts(parts) if parts else p for p, parts in zip(self.pieces, changed, strict=True)],
        )


def make_block(rendered: Sequence[Rendered]) -> Block:
    """Put customers together."""
    lines = zip(*(r.lines for r in rendered), strict=True)
    return _block([r.view for r in rendered], [r.labels for r in rendered], list(map(Piece, lines)))


def _block(views: Sequence[View], labels: Sequence[tuple[str, ...]], pieces: Sequence[Piece]) -> Block:
    return Block(
        views=tuple(views),
        labels=tuple(labels),
        pieces=tuple(pieces),
        valid_from=max(v.valid_from for v in views),
        valid_until=min(v.valid_until for v in views),
        valid_until_s=min(v.valid_until_s for v in views),
    )


@dataclass(frozen=True)
class Run:
    """Blocks that stand one after the other. By family there is nothing for pieces that are empty."""

    blocks: tuple[Block, ...]

    @cached_property
    def valid(self) -> tuple[datetime, datetime, float]:
        """From when, until when, and until when on the monotonic clock all of it is true."""
        return (
            max(b.valid_from for b in self.blocks),
            min(b.valid_until for b in self.blocks),
            min(b.valid_until_s for b in self.blocks),
        )

    @cached_property
    def plain(self) -> tuple[tuple[bytes, ...], ...]:
        """The lines of each family."""
        return tuple(tuple(piece.plain for piece in pieces if piece.plain) for pieces in self._by_family())

    @cached_property
    def deflated(self) -> tuple[Deflated, ...]:
        """The same, compressed."""
        return tuple(Deflated.together(p.deflated for p in pieces if p.plain) for pieces in self._by_family())

    @cached_property
    def deflated_bytes(self) -> int:
        """How large that is."""
        return sum(len(part) for lines in self.deflated for part in lines.parts)

    @cached_property
    def joined(self) -> tuple[Deflated, ...]:
        """The same, each family's in one part."""
        return tuple(lines.joined() for lines in self.deflated)

    def _by_family(self) -> Iterable[Sequence[Piece]]:
        return zip(*(block.pieces for block in self.blocks), strict=True)


def in_runs(blocks: Sequence[Block]) -> tuple[Run, ...]:
    """Put a page's blocks into runs."""
    return tuple(Run(tuple(blocks[i : i + _BLOCKS_A_RUN])) for i in range(0, len(blocks), _BLOCKS_A_RUN))


# The page.


@dataclass(frozen=True, slots=True)
class Exporter:
    """What the exporter says about itself."""

    version: str
    config_loaded: datetime
    """When a config was last loaded successfully."""
    config_is_good: bool = True
    """Whether the last attempt to load it succeeded."""
    web_config_is_good: bool | None = None
    """Likewise of the web config; None where there is none."""


def render_exporter(exporter: Exporter) -> tuple[Piece, ...]:
    """Write the lines about the exporter itself, in the order of `EXPORTER_FAMILIES`."""
    samples: dict[str, list[Sample]] = {
        "vcc_exporter_build_info": [("", _label_text([("version", exporter.version)]), 1)],
        "vcc_exporter_config_last_reload_successful": [("", " ", exporter.config_is_good)],
        "vcc_exporter_config_last_reload_success_timestamp_seconds": _at(" ", exporter.config_loaded),
        "vcc_exporter_web_config_last_reload_successful": (
            [] if exporter.web_config_is_good is None else [("", " ", exporter.web_config_is_good)]
        ),
    }
    return tuple(Piece([_lines(f, samples[f.name])]) for f in EXPORTER_FAMILIES)


def render_process(registry: CollectorRegistry) -> Mapping[Format, Piece]:
    """Let the client library write its metrics of the process, without the end of a page."""
    return {f: Piece([f.generate(registry).removesuffix(f.end)]) for f in Format}


@dataclass(frozen=True, slots=True)
class Body:
    """What an answer to a scrape holds."""

    parts: Sequence[bytes]
    size: int
    """Bytes of all parts."""


@dataclass(frozen=True)
class Page:
    """Everything that a scrape shows."""

    runs: tuple[Run, ...]
    seats: Mapping[str, int]
    """Where each customer is, counted from the first of the first block."""
    exporter: tuple[Piece, ...]
    process: Mapping[Format, Piece]
    _heads: Mapping[Format, tuple[Piece, ...]] = field(repr=False)
    bodies: dict[tuple[Format, bool], Body] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What was put together so far: by format, compressed or not."""

    @property
    def blocks(self) -> Sequence[Block]:
        """Its blocks, in order."""
        return [block for run in self.runs for block in run.blocks]

    def block(self, number: int) -> Block:
        """Return one of its blocks."""
        return self.runs[number // _BLOCKS_A_RUN].blocks[number % _BLOCKS_A_RUN]

    def with_blocks(self, new: Mapping[int, Block]) -> "Page":
        """Return the page in which some blocks are others, by number; runs that did not change are the same."""
        runs = list(self.runs)
        for number in {number // _BLOCKS_A_RUN for number in new}:
            first = number * _BLOCKS_A_RUN
            runs[number] = Run(tuple(new.get(i, block) for i, block in enumerate(runs[number].blocks, first)))
        return replace(self, runs=tuple(runs))

    @cached_property
    def _valid(self) -> tuple[datetime, datetime, float]:
        """From when, until when, and until when on the monotonic clock."""
        since, until, until_s = zip(*(run.valid for run in self.runs), strict=True) if self.runs else ((), (), ())
        return (
            max(since, default=datetime.min.replace(tzinfo=UTC)),
            min(until, default=datetime.max.replace(tzinfo=UTC)),
            min(until_s, default=float("inf")),
        )

    def holds(self, moment: Moment) -> bool:
        """Tell whether all of it is still true."""
        since, until, until_s = self._valid
        return since <= moment.wall < until and moment.monotonic_s < until_s

    def body(self, chosen: Format, gzip: bool) -> Body:
        """Return the whole page, put together once."""
        found = self.bodies.get((chosen, gzip))
        if found is None:
            found = self.bodies[chosen, gzip] = self._gzipped(chosen) if gzip else self._plain(chosen)
        return found

    def body_of(self, customers: Collection[str], chosen: Format, gzip: bool) -> Body:
        """Return the series of some customers alone. A name that no customer has adds none."""
        cuts = [self._place(name) for name in dict.fromkeys(customers) if name in self.seats]
        parts: list[bytes] = []
        for i, head in enumerate(self._heads[chosen][:_PER_CUSTOMER]):
            lines = [block.pieces[i].part(seat) for block, seat in cuts]
            parts += [head.plain, *lines] if any(lines) else []
        parts.append(chosen.end)
        if gzip:
            packer = isal_zlib.compressobj(_COMPRESSION, isal_zlib.DEFLATED, 31)
            parts = [packer.compress(b"".join(parts)), packer.flush()]
        return Body(parts, sum(map(len, parts)))

    def rendered(self, name: str) -> Rendered | None:
        """Return a customer's lines; None where the page does not have it."""
        if name not in self.seats:
            return None
        block, seat = self._place(name)
        return block.rendered(seat)

    def _place(self, name: str) -> tuple[Block, int]:
        number, seat = divmod(self.seats[name], CUSTOMERS_A_BLOCK)
        return self.block(number), seat

    def _plain(self, chosen: Format) -> Body:
        parts: list[bytes] = []
        for i, head in enumerate(self._heads[chosen][:_PER_CUSTOMER]):
            lines = [run.plain[i] for run in self.runs]
            parts += (head.plain, *chain.from_iterable(lines)) if any(lines) else ()
        for piece in self._about_the_exporter(chosen):
            parts.append(piece.plain)
        parts.append(chosen.end)
        return Body(tuple(parts), sum(map(len, parts)))

    def _about_the_exporter(self, chosen: Format) -> Iterator[Piece]:
        """Yield what stands behind the families of customers, but for the end."""
        for head, piece in zip(self._heads[chosen][_PER_CUSTOMER:], self.exporter, strict=True):
            yield from (head, piece) if piece.plain else ()
        yield self.process[chosen]

    def _gzipped(self, chosen: Format) -> Body:
        """Return one gzip member, since some readers stop after the first of several."""
        pieces: list[Deflated] = []
        is_small = sum(run.deflated_bytes for run in self.runs) <= _JOINED
        for i, head in enumerate(self._heads[chosen][:_PER_CUSTOMER]):
            lines = [(run.deflated if is_small else run.joined)[i] for run in self.runs]
            pieces += (head.deflated, *lines) if any(line.size for line in lines) else ()
        pieces += (piece.deflated for piece in (*self._about_the_exporter(chosen), _end(chosen)))
        whole = Deflated.together(pieces)
        end = b"\x03\x00" + struct.pack("<II", whole.crc, whole.size & 0xFFFFFFFF)
        parts = (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", *whole.parts, end)
        return Body((b"".join(parts),) if is_small else parts, sum(map(len, parts)))


@cache
def _end(chosen: Format) -> Piece:
    return Piece([chosen.end])


def empty_page(exporter: Exporter) -> Page:
    """Return a page without customers and process metrics, which others are made from by replacing parts."""
    process = dict.fromkeys(Format, Piece([b""]))
    return Page((), {}, render_exporter(exporter), process, {f: tuple(_heads(f)) for f in Format})


def _heads(chosen: Format) -> Iterator[Piece]:
    return (Piece([head(family, chosen)]) for family in FAMILIES)


def head(family: Family, chosen: Format) -> bytes:
    """Let the client library write the lines before a family's samples."""
    registry = CollectorRegistry()
    registry.register(_Empty(family))
    return chosen.generate(registry).removesuffix(chosen.end)


class _Empty(Collector):
    """One family without samples."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        yield metric_family(self._family)


def metric_family(family: Family) -> Any:
    """Return a family as the client library knows it, without samples."""
    kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "summary": SummaryMetricFamily}
    return kinds[family.type](family.name, family.help, labels=family.labels, unit=family.unit)
