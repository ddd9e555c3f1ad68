"""Views to bytes, bytes to a page. A scrape strings together what stands ready, and renders nothing.

The parts, each immutable and replaced whole:

* `Rendered`: one customer's lines, a piece of text for each family;
* `Block`: several customers' lines, joined and compressed once for each family that changed;
* `Page`: all blocks, with the families' heads before them, in either format, as it is or as one gzip member.

Heads (HELP, TYPE, UNIT) and the process's own metrics are written by the client library, lines of samples
here, since it cannot write one without the others; they are the same in both formats.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final

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


_PER_CUSTOMER: Final = len(DATA_FAMILIES) + len(CUSTOMER_FAMILIES)


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
    labels: Mapping[tuple[str, ...], str]
    """The rows' labels as they are written, for the next rendering."""


def render(view: View, previous: Rendered | None) -> Rendered:
    """Write a customer's lines. What `previous` says already is taken from there."""
    about = tuple("".join(_line(f.name, *sample) for sample in samples).encode() for f, samples in _about(view))
    same = previous if previous and previous.view.state.customer.name == view.state.customer.name else None
    if same and same.view.rows == view.rows:
        return Rendered(view, same.data, about, same.labels)
    labels = _labels(view, same.labels if same else {})
    return Rendered(view, tuple(_data(view.rows, labels)), about, labels)


def _data(rows: Sequence[Row], labels: Mapping[tuple[str, ...], str]) -> Iterator[bytes]:
    texts = [(labels[_pair_values(row)], row.values) for row in rows]
    for i, family in enumerate(DATA_FAMILIES):
        name = family.name
        yield "".join([f"{name}{text}{_number(v[i])}\n" for text, v in texts if v[i] is not None]).encode()  # type: ignore[arg-type]


def _labels(view: View, known: Mapping[tuple[str, ...], str]) -> dict[tuple[str, ...], str]:
    customer = view.state.customer.name
    keys = [_pair_values(row) for row in view.rows]
    return {key: known.get(key) or _label_text(zip(PAIR_LABELS, (customer, *key), strict=True)) for key in keys}


def _pair_values(row: Row) -> tuple[str, ...]:
    return row.project, row.project_name, row.queue, row.queue_name


def _label_text(labels: Iterable[tuple[str, str]]) -> str:
    """Write labels with the blank after them."""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "} "


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    # The library's function, but for the usual numbers, for which it comes to this.
    return repr(value) if -1e6 < value < 1e6 else floatToGoString(value)  # noqa: PLR2004


Sample = tuple[str, tuple[tuple[str, str], ...], float]
"""What follows the family's name, labels in the alphabet's order, value."""


def _line(name: str, suffix: str, labels: tuple[tuple[str, str], ...], value: float) -> str:
    return f"{name}{suffix}{_label_text(labels) if labels else ' '}{_number(float(value))}\n"


def _about(view: View) -> Iterator[tuple[Family, list[Sample]]]:
    """Yield the samples of the families about a customer. The keys are all of `CUSTOMER_FAMILIES`."""
    state = view.state
    mine = (("customer", state.customer.name),)
    projects = [((*mine, ("project", p.project)), p) for p in view.projects]
    success = state.last_success
    samples: dict[str, list[Sample]] = {
        "vcc_up": [("", mine, view.up)] if state.polled else [],
        "vcc_customer_info": [("", _info(state), 1)],
        "vcc_customer_active": [("", mine, view.active)],
        "vcc_inbound_day_start_timestamp_seconds": _at(mine, view.day_start),
        "vcc_inbound_sla_threshold_seconds": [("", labels, p.sla_s) for labels, p in projects],
        "vcc_inbound_service_level_target_ratio": [("", labels, p.targets.service_level) for labels, p in projects],
        "vcc_inbound_abandonment_target_ratio": [("", labels, p.targets.abandonment) for labels, p in projects],
        "vcc_inbound_target_min_calls": [("", labels, p.targets.min_calls) for labels, p in projects],
        "vcc_inbound_open": [("", labels, p.open) for labels, p in projects if p.open is not None],
        "vcc_inbound_rows": [("", mine, state.rows)] if success else [],
        "vcc_inbound_rejected_rows": [("", mine, state.rejected_rows)] if success else [],
        "vcc_polls_total": [("", (*mine, ("result", result)), count) for result, count in state.polls.items()],
        "vcc_poll_duration_seconds": [
            ("_count", mine, sum(state.polls.values())),
            ("_sum", mine, state.poll_seconds),
        ],
        "vcc_poll_last_success_timestamp_seconds": _at(mine, success),
        "vcc_poll_next_timestamp_seconds": _at(mine, state.next_poll),
    }
    for family in CUSTOMER_FAMILIES:
        yield family, samples[family.name]


def _at(labels: tuple[tuple[str, str], ...], instant: datetime | None) -> list[Sample]:
    return [("", labels, instant.timestamp())] if instant else []


def _info(state: CustomerState) -> tuple[tuple[str, str], ...]:
    customer = state.customer
    return tuple(sorted((("customer", customer.name), ("timezone", customer.zone.key), *customer.labels)))


# Several customers together.


class Piece:
    """One family's lines of one block, joined when first asked for, and compressed likewise."""

    __slots__ = ("_deflated", "_plain", "parts")

    def __init__(self, parts: tuple[bytes, ...]) -> None:
        self.parts = parts
        self._plain: bytes | None = None
        self._deflated: tuple[bytes, int] | None = None

    @property
    def plain(self) -> bytes:
        """The lines as they are."""
        if self._plain is None:
            self._plain = b"".join(self.parts)
        return self._plain

    @property
    def deflated(self) -> tuple[bytes, int]:
        """The lines as a part of a deflate stream that depends on no other part, and their CRC."""
        if self._deflated is None:
            packer = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15)
            packed = packer.compress(self.plain) + packer.flush(isal_zlib.Z_FULL_FLUSH)
            self._deflated = packed, isal_zlib.crc32(self.plain)
        return self._deflated


@dataclass(frozen=True, slots=True)
class Block:
    """Several customers' lines."""

    rendered: tuple[Rendered, ...]
    pieces: tuple[Piece, ...]
    valid_from: datetime
    valid_until: datetime
    valid_until_s: float


def make_block(rendered: Sequence[Rendered], previous: Block | None) -> Block:
    """Put customers together; pieces in which nothing changed are those of `previous`."""
    lines = zip(*((*r.data, *r.about) for r in rendered), strict=True)
    old = previous.pieces if previous else ()
    pieces = [Piece(parts) for parts in lines]
    views = [r.view for r in rendered]
    return Block(
        rendered=tuple(rendered),
        pieces=tuple(old[i] if old and old[i].parts == p.parts else p for i, p in enumerate(pieces)),
        valid_from=max(v.valid_from for v in views),
        valid_until=min(v.valid_until for v in views),
        valid_until_s=min(v.valid_until_s for v in views),
    )


# The page.


@dataclass(frozen=True, slots=True)
class Exporter:
    """What the exporter says about itself."""

    version: str
    config_loaded: datetime
    """When a config was last loaded successfully."""
    config_is_good: bool = True
    """Whether the last attempt to load it succeeded."""


def render_exporter(exporter: Exporter) -> tuple[Piece, ...]:
    """Write the lines about the exporter itself, in the order of `EXPORTER_FAMILIES`."""
    samples: dict[str, Sample] = {
        "vcc_exporter_build_info": ("", (("version", exporter.version),), 1),
        "vcc_exporter_config_last_reload_successful": ("", (), exporter.config_is_good),
        "vcc_exporter_config_last_reload_success_timestamp_seconds": ("", (), exporter.config_loaded.timestamp()),
    }
    return tuple(Piece((_line(f.name, *samples[f.name]).encode(),)) for f in EXPORTER_FAMILIES)


def render_process(registry: CollectorRegistry) -> Mapping[Format, Piece]:
    """Let the client library write its metrics of the process, without the end of a page."""
    return {f: Piece((f.generate(registry).removesuffix(f.end),)) for f in Format}


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that a scrape shows."""

    blocks: tuple[Block, ...]
    exporter: tuple[Piece, ...]
    process: Mapping[Format, Piece]
    _heads: Mapping[Format, tuple[Piece, ...]] = field(repr=False)

    def holds(self, moment: Moment) -> bool:
        """Tell whether all of it is still true."""
        return all(
            b.valid_from <= moment.wall < b.valid_until and moment.monotonic_s < b.valid_until_s for b in self.blocks
        )

    def pieces(self, chosen: Format) -> Iterator[Piece]:
        """Yield the page's pieces in order. A family without a sample has no head."""
        of_customers = (
            zip(*(block.pieces for block in self.blocks), strict=True) if self.blocks else ((),) * _PER_CUSTOMER
        )
        families = (*of_customers, *((piece,) for piece in self.exporter))
        for head, pieces in zip(self._heads[chosen], families, strict=True):
            filled = [piece for piece in pieces if piece.plain]
            if filled:
                yield head
                yield from filled
        yield self.process[chosen]

    def plain(self, chosen: Format) -> Iterator[bytes]:
        """Yield the page in parts."""
        for piece in self.pieces(chosen):
            yield piece.plain
        yield chosen.end

    def gzipped(self, chosen: Format) -> Iterator[bytes]:
        """Yield the page in parts as one gzip member, since some readers stop after the first of several."""
        crc, size = 0, 0
        yield b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
        for piece in (*self.pieces(chosen), Piece((chosen.end,))):
            packed, piece_crc = piece.deflated
            crc = isal_zlib.crc32_combine(crc, piece_crc, len(piece.plain))
            size += len(piece.plain)
            yield packed
        yield b"\x03\x00" + struct.pack("<II", crc, size & 0xFFFFFFFF)


def empty_page(exporter: Exporter) -> Page:
    """Return a page without customers and process metrics, which others are made from by replacing parts."""
    process = dict.fromkeys(Format, Piece((b"",)))
    return Page((), render_exporter(exporter), process, {f: tuple(_heads(f)) for f in Format})


def _heads(chosen: Format) -> Iterator[Piece]:
    return (Piece((head(family, chosen),)) for family in FAMILIES)


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
