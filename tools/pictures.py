"""Take the README's pictures of the page anew (`make pictures`): the demo on a weekday at 11:40 in Budapest."""

import struct
import zlib
from datetime import timedelta
from pathlib import Path
from typing import Final

from browsing import chromium, opened
from running import ROOT, serving
from scene import NOW, Day

from vcc_exporter import config_file
from vcc_exporter.simulator import DEMO_CENTRES, demo_config
from vcc_exporter.vocabulary import Result

FOLDER: Final = ROOT / "docs" / "pictures"
NOTICE: Final = "A demo: these call centres, their callers and their agents are simulated."
EVERY: Final = timedelta(seconds=15)


def smaller(picture: bytes) -> bytes:
    """Return a PNG that shows the same, but is packed as closely as can be."""
    head, place, chunks, packed = picture[:8], 8, b"", b""
    while place < len(picture):
        (length,) = struct.unpack(">I", picture[place : place + 4])
        kind, data = picture[place + 4 : place + 8], picture[place + 8 : place + 8 + length]
        if kind == b"IDAT":
            packed += data
        elif kind == b"IEND":
            chunks += _chunk(b"IDAT", zlib.compress(zlib.decompress(packed), 9)) + _chunk(kind, data)
        else:
            chunks += _chunk(kind, data)
        place += length + 12
    return head + chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def demo(refused: str, since: timedelta) -> Day:
    """Live through a day of the demo in which one call centre's key is refused at the end."""
    customers = config_file.parse(demo_config("http://127.0.0.1:10743"), "demo", Path()).customers
    day = Day(*customers, start=NOW - timedelta(days=1), centres=DEMO_CENTRES)
    others = [name for name in day.customers if name != refused]
    for name in day.customers:
        day.name_projects(name)
    day.live(NOW - since, day.customers)
    day.live(NOW - 4 * EVERY, others)
    while day.clock.wall < NOW:
        day.clock.advance(EVERY)
        day.poll(*others)
        day.fail(refused, Result.UNAUTHORIZED, "HTTP 401")
    return day


def main() -> None:
    """Look at the page as a call centre's key is refused: on a desk since midnight, on a phone just now."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for name, day, query, colours, width, height in (
            ("page-desk-light", demo("webshop", timedelta(hours=5)), "", "light", 1280, 752),
            ("page-phone-dark", demo("bank", timedelta(minutes=2)), "?customer[]=bank", "dark", 390, 806),
        ):
            size = {"width": width, "height": height}
            with (
                serving(day.store, notice=NOTICE) as url,
                opened(browser, f"{url}/{query}", viewport=size, color_scheme=colours) as seen,
            ):
                (FOLDER / f"{name}.png").write_bytes(smaller(seen.page.screenshot()))


if __name__ == "__main__":
    main()
