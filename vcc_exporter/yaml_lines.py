"""YAML text to a tree of strings that knows on which line everything stands.

Scalars are read as they are written, so that `NO` is Norway and `0123` keeps its zero; what they mean is
for the reader of the tree to say. A key given twice is a fault, where YAML libraries keep the last.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml.composer import ComposerError

from vcc_exporter.faults import Fault


class LinedMap(dict[str, Any]):
    """A mapping of the file: where it begins, and where each key stands."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        self.line = line
        self.lines: dict[str, int] = {}
        super().__init__()


class LinedList(list[Any]):
    """A list of the file: where it begins, and where each item stands."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        self.line = line
        self.lines: list[int] = []
        super().__init__()


_DEEPEST: Final = 20  # the config's own depth is 6
_MOST_VALUES: Final = 5_000_000  # 100,000 customers with 50 values each; aliases could name far more
_NOT_ALLOWED: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _TooMuchError(Exception):
    """More than a config can mean; holds the line and the words."""


_Node = yaml.ScalarEvent | LinedMap | LinedList
"""What stands at one place of the file. A scalar is left as the parser tells of it, until it is known for what."""


@dataclass(frozen=True, slots=True)
class _Anchored:
    """What an alias stands for."""

    node: _Node
    size: int
    """How many values are in it, aliases followed."""
    height: int
    """How many levels are below it, likewise."""


class _Reader:
    """One reading of one text.

    The tree is made while the parser tells of the text, once and without the library's own tree between: a config of
    ten thousand customers has a hundred thousand nodes.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []
        self._next: Callable[[], Any]
        """Returns the parser's next event."""
        self._anchors: dict[str, _Anchored | None] = {}
        """None for what is not read to its end yet."""
        self._size = 0
        """How many values were read in mappings and lists that have ended, aliases followed."""
        self._bottom = 0
        """The deepest level that was reached, likewise."""

    def read(self, text: str) -> Any:
        try:
            loader = _LOADER(text)
            self._next = loader.get_event
            try:
                return self._document()
            finally:
                loader.dispose()
        except _TooMuchError as error:
            self._fault(*error.args)
        except yaml.MarkedYAMLError as error:
            # A composer's context says what is wrong; a parser's, what it was doing.
            words = (error.context if isinstance(error, ComposerError) else None) or error.problem or "unreadable"
            # An alias or a tag may be a secret that begins with * or !, where quotes are missing.
            words = re.sub(r" '[^']{2,}'", "", words.partition(";")[0])
            hint = next((f": {meant}" for said, meant in _MEANT if said in words), "")
            self._fault(_marked_line(text, error), f"no YAML: {words}{hint}")
        except yaml.YAMLError as error:
            self._fault(_unusable_line(text), f"no YAML: {str(error).splitlines()[0]}")
        return None

    def _fault(self, line: int, message: str) -> None:
        self.faults.append(Fault(self.file, line, "", message))

    def _document(self) -> Any:
        self._next()  # the stream's begin
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        value = _value(self._node(self._next(), 0))
        self._next()  # the document's end
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            raise ComposerError("expected a single document in the stream", problem_mark=event.start_mark)
        return value

    def _node(self, event: Any, level: int) -> _Node:
        """Return what begins with an event, so many levels below the root."""
        if event.anchor is not None:
            return self._anchored(event, level)
        return event if isinstance(event, yaml.ScalarEvent) else self._collection(event, level)

    def _anchored(self, event: Any, level: int) -> _Node:
        name, mark = event.anchor, event.start_mark
        if isinstance(event, yaml.AliasEvent):
            if name not in self._anchors:
                raise ComposerError(problem="found undefined alias", problem_mark=mark)
            return self._aliased(self._anchors[name], level, mark.line + 1)
        if name in self._anchors:
            raise ComposerError("found duplicate anchor", problem_mark=mark)
        self._anchors[name] = None
        size, bottom, self._bottom = self._size, self._bottom, level
        node: _Node = event if isinstance(event, yaml.ScalarEvent) else self._collection(event, level)
        self._anchors[name] = _Anchored(node, self._size - size, self._bottom - level)
        self._bottom = max(bottom, self._bottom)
        return node

    def _aliased(self, found: _Anchored | None, level: int, line: int) -> _Node:
        if found is None or self._size + found.size > _MOST_VALUES or level + found.height > _DEEPEST:
            raise _TooMuchError(line, "an alias leads to too many values")
        self._size += found.size
        self._bottom = max(self._bottom, level + found.height)
        return found.node

    def _collection(self, start: Any, level: int) -> LinedMap | LinedList:
        line = start.start_mark.line + 1
        if level >= _DEEPEST:
            raise _TooMuchError(line, "nested too deeply")
        self._bottom = max(self._bottom, level + 1)
        fill = self._mapping if isinstance(start, yaml.MappingStartEvent) else self._list
        return fill(line, level + 1)

    def _list(self, line: int, level: int) -> LinedList:
        items = LinedList(line)
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(_value(self._node(event, level)))
            items.lines.append(event.start_mark.line + 1)
        self._size += len(items)
        return items

    def _mapping(self, line: int, level: int) -> LinedMap:
        found, merged, pairs = LinedMap(line), list[tuple[Any, int]](), 0
        lines = found.lines
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            pairs += 1
            node, line = self._node(event, level), event.start_mark.line + 1
            value = _value(self._node(self._next(), level))
            if not isinstance(node, yaml.ScalarEvent):
                self._fault(line, "expected a plain key, found a mapping or a list")
                continue
            key = sys.intern(node.value)  # the same few in each of thousands of mappings
            if key == "<<" and not node.style:
                merged += zip(value, value.lines, strict=True) if isinstance(value, LinedList) else [(value, line)]
            elif key in found:
                self._fault(line, f"the key {key!r} is given twice, first on line {lines[key]}")
            else:
                found[key], lines[key] = value, line
        for other, line in merged:
            self._merge(found, other, line)
        self._size += 2 * pairs
        return found

    def _merge(self, found: LinedMap, other: Any, line: int) -> None:
        if not isinstance(other, LinedMap):
            self._fault(line, "expected a mapping to merge with <<")
            return
        for key in other:
            if key not in found:
                found[key], found.lines[key] = other[key], other.lines[key]


def _value(node: _Node) -> Any:
    """Return what a node is in the tree."""
    if isinstance(node, yaml.ScalarEvent):
        return node.value if node.value or node.style else None
    return node


# What the parser's words mean to somebody who has written a config, not a parser.
_MEANT: Final = (
    ("cannot start any token", "indent with blanks, not with tabs, and put quotes around what begins with @ or `"),
    ("unexpected end of stream", "perhaps a quote that is opened and never closed"),
    (
        "mapping values are not allowed",
        "put quotes around a value with a colon in it, or check how the line is indented",
    ),
    ("expected alphabetic or numeric", "put quotes around a value that begins with * or &"),
    ("expected ',' or", "perhaps a bracket that is opened and never closed"),
    ("did not find expected", "perhaps the line, or the one before it, is indented otherwise than its neighbours"),
    ("expected <block end>", "perhaps the line is indented otherwise than its neighbours"),
)


def _marked_line(text: str, error: yaml.MarkedYAMLError) -> int:
    """Return where an error was noticed, or where what is not ended begins, if that was at the end of the file."""
    last = len(text.splitlines()) or 1
    lines = [mark.line + 1 for mark in (error.problem_mark, error.context_mark) if mark]
    return next((line for line in lines if line <= last), last)


def _unusable_line(text: str) -> int:
    """Return the line of the first character that YAML does not allow."""
    found = _NOT_ALLOWED.search(text)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def read(text: str, file: str) -> tuple[Any, list[Fault]]:
    """Read YAML text as mappings, lists, strings and None for what is empty, with every fault found.

    `file` names the text in faults.
    """
    reader = _Reader(file)
    return reader.read(text), reader.faults


def line_of(tree: Any, path: tuple[str | int, ...]) -> int:
    """Return the line of a path, or of the innermost mapping or list around it that exists."""
    line: int = getattr(tree, "line", 1)
    for step in path:
        try:
            line, tree = tree.lines[step], tree[step]
        except (AttributeError, LookupError, TypeError):
            break
    return line
