"""YAML text to a tree of strings that knows on which line everything stands.

Scalars are read as they are written, so that `NO` is Norway and `0123` keeps its zero; what they mean is
for the reader of the tree to say. A key given twice is a fault, where YAML libraries keep the last.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml.composer import ComposerError


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a config file."""

    file: str
    line: int
    """0: the file as a whole."""
    path: str
    message: str

    def __str__(self) -> str:
        """Write the fault as one line that editors can jump from."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.path}{': ' if self.path else ''}{self.message}"


class ConfigError(Exception):
    """A config that cannot be used, with every fault that was found, in the file's order."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = tuple(sorted(dict.fromkeys(faults), key=lambda fault: fault.line))
        super().__init__("\n".join(map(str, self.faults)))


class LinedMap(dict[str, Any]):
    """A mapping of the file: where it begins, and where each key stands."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.lines: dict[str, int] = {}
        super().__init__()


class LinedList(list[Any]):
    """A list of the file: where it begins, and where each item stands."""

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


class _Reader:
    """One reading of one text."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []
        self.has_aliases = False

    def read(self, text: str) -> Any:
        try:
            self._check_depth(text)
            node = yaml.compose(text, Loader=_LOADER)
            if node and self.has_aliases:
                self._weigh(node, {})
            return self._value(node) if node else None
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

    def _check_depth(self, text: str) -> None:
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            self.has_aliases |= isinstance(event, yaml.AliasEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise _TooMuchError(event.start_mark.line + 1 if event.start_mark else 1, "nested too deeply")

    def _fault(self, line: int, message: str) -> None:
        self.faults.append(Fault(self.file, line, "", message))

    def _weigh(self, node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
        """Return how many values a node stands for, aliases followed, and how deep; each node is looked at once."""
        if id(node) in known:
            return known[id(node)]
        known[id(node)] = _MOST_VALUES, _DEEPEST + 1  # for an alias to a node that it is part of
        inner = [self._weigh(each, known) for each in _children(node)]
        size, depth = 1 + sum(each[0] for each in inner), 1 + max((each[1] for each in inner), default=0)
        if size > _MOST_VALUES or depth > _DEEPEST + 1:
            raise _TooMuchError(node.start_mark.line + 1, "an alias leads to too many values")
        known[id(node)] = size, depth
        return size, depth

    def _value(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode):
            items = LinedList(node.start_mark.line + 1)
            for item in node.value:
                items.append(self._value(item))
                items.lines.append(item.start_mark.line + 1)
            return items
        return node.value if node.value or getattr(node, "style", None) else None

    def _mapping(self, node: yaml.MappingNode) -> LinedMap:
        found = LinedMap(node.start_mark.line + 1)
        merged: list[yaml.Node] = []
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._fault(line, "expected a plain key, found a mapping or a list")
            elif key.value == "<<" and not key.style:
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
            elif key.value in found:
                self._fault(line, f"the key {key.value!r} is given twice, first on line {found.lines[key.value]}")
            else:
                found[key.value] = self._value(value)
                found.lines[key.value] = line
        for other in merged:
            self._merge(found, self._value(other), other.start_mark.line + 1)
        return found

    def _merge(self, found: LinedMap, other: Any, line: int) -> None:
        if not isinstance(other, LinedMap):
            self._fault(line, "expected a mapping to merge with <<")
            return
        for key in other:
            if key not in found:
                found[key], found.lines[key] = other[key], other.lines[key]


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


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
