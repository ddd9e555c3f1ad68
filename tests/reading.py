"""A page of HTML as a tree, as far as tests have to read one."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final

VOID: Final = {"meta", "link", "br", "rect", "img", "input", "hr"}
"""Elements without an end."""


@dataclass
class Element:
    """One element; its children are elements and texts in the order of the page."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text in it, with single spaces between words, as a browser shows it."""
        return " ".join(self.raw_text.split())

    @property
    def raw_text(self) -> str:
        """All text in it, as it is."""
        return "".join(child if isinstance(child, str) else child.raw_text for child in self.children)

    @property
    def classes(self) -> set[str]:
        """The names of its classes."""
        return set(self.attributes.get("class", "").split())

    def walk(self) -> Iterator["Element"]:
        """Yield it and every element in it."""
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def all(self, tag: str = "", class_: str = "", **attributes: str) -> list["Element"]:
        """Return every element in it of that kind."""
        return [
            found
            for found in self.walk()
            if tag in {"", found.tag}
            and (not class_ or class_ in found.classes)
            and attributes.items() <= found.attributes.items()
        ]

    def one(self, tag: str = "", class_: str = "", **attributes: str) -> "Element":
        """Return the only element in it of that kind."""
        found = self.all(tag, class_, **attributes)
        assert len(found) == 1, f"{len(found)} of {tag} {class_} {attributes}"
        return found[0]

    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return the kinds of all elements with the names of their attributes: all that is not text."""
        return [(found.tag, tuple(found.attributes)) for found in self.walk()]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {attrs}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            closed = self.open.pop()
            assert closed.tag == tag, f"{tag} ends {closed.tag}"

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read_html(text: str) -> Element:
    """Read a page; fails where an element is not closed in its turn."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert len(reader.open) == 1, f"not closed: {[element.tag for element in reader.open]}"
    return reader.open[0]
