"""Write the README's tables from the code: `python tools/tables.py` rewrites them in place."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from vcc_exporter.cli import FLAGS, Flag  # noqa: E402 - after the path
from vcc_exporter.config_schema import SECTIONS, ConfigFile, CustomerSection, ProjectSection, Section  # noqa: E402
from vcc_exporter.vocabulary import (  # noqa: E402
    CUSTOMER_FAMILIES,
    EXPORTER_FAMILIES,
    RESULT_MEANINGS,
    STATISTICS,
    Family,
)

_LISTS: Final = {CustomerSection, ProjectSection}


def tables() -> dict[str, str]:
    """Return the tables by name, as Markdown."""
    return {
        "flags": _table(
            ("flag", "default", "meaning"),
            ((f"`{f.name}`", _default(f), f.help) for f in FLAGS),
        ),
        "config": _table(("key", "meaning"), _keys("", ConfigFile, set())),
        "statistics": _table(
            ("metric", "what", "the API's key"),
            ((f"`{s.metric}`", f"{s.words} ({s.kind.value})", f"`{s.key}`") for s in STATISTICS),
        ),
        "customers": _families(CUSTOMER_FAMILIES),
        "exporter": _families(EXPORTER_FAMILIES),
        "results": _table(
            ("result", "when", "what to do"), ((f"`{r}`", when, what) for r, (when, what) in RESULT_MEANINGS.items())
        ),
    }


def _default(flag: Flag) -> str:
    if flag.default is None:
        return "required" if flag.required else "none"
    return f"`{flag.default}`" if flag.default is not False else "off"


def _keys(path: str, section: type[Section], told: set[type[Section]]) -> Iterator[tuple[str, str]]:
    """Walk the config's keys; what stands under one is told where it comes first."""
    for name, key in section.model_fields.items():
        yield f"`{path}{name}`", key.description or ""
        inner = SECTIONS.get(name)
        if inner and inner not in told:
            told.add(inner)
            yield from _keys(f"{path}{name}{'[]' if inner in _LISTS else ''}.", inner, told)


def _families(families: tuple[Family, ...]) -> str:
    rows = ((f"`{f.name}`", f"{f.type} by {', '.join(f.labels)}" if f.labels else f.type, f.help) for f in families)
    return _table(("metric", "type, labels", "what"), rows)


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def filled(text: str) -> str:
    """Return a document with its tables as the code has them."""
    found = tables()
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)",
        lambda place: f"{place[1]}{found[place[2]]}{place[3]}",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text()))
