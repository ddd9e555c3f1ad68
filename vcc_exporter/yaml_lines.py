"""YAML text to a tree of strings that knows on which line everything stands.

Scalars are read as they are written, so that `NO` is Norway and `0123` keeps its zero; what they mean is
for the reader of the tree to say. A key given twice is a fault, where YAML libraries keep the last.
"""

from dataclasses import dataclass
from typing import Any, Final

import yaml


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a config file."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        """Write the fault as one line that editors can jump from."""
        return f"{self.file}:{self.line}: {self.path}{': ' if self.path else ''}{self.message}"


class ConfigError(Exception):
    """A config that cannot be used, with every fault that was found, in the file's order."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = tuple(sorted(set(faults), key=lambda fault: fault.line))
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
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _TooMuchError(Exception):
    """More than a config can mean; holds the line and the words."""


class _Reader:
    """One reading of one text."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []
        self.values = 0

    def read(self, text: str) -> Any:
        try:
            self._check_depth(text)
            node = yaml.compose(text, Loader=_LOADER)
            return self._value(node, 0) if node else None
        except _TooMuchError as error:
            self._fault(*error.args)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._fault(mark.line + 1 if mark else 1, f"no YAML: {error.problem or error.context}")
        except yaml.YAMLError as error:
            self._fault(1, f"no YAML: {str(error).splitlines()[0]}")
        return None

    def _check_depth(self, text: str) -> None:
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise _TooMuchError(event.start_mark.line + 1 if event.start_mark else 1, "nested too deeply")

    def _fault(self, line: int, message: str) -> None:
        self.faults.append(Fault(self.file, line, "", message))

    def _value(self, node: yaml.Node, depth: int) -> Any:
        self.values += 1
        if depth > _DEEPEST or self.values > _MOST_VALUES:
            raise _TooMuchError(node.start_mark.line + 1, "an alias leads to too many values")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            items = LinedList(node.start_mark.line + 1)
            for item in node.value:
                items.append(self._value(item, depth + 1))
                items.lines.append(item.start_mark.line + 1)
            return items
        return node.value if node.value or getattr(node, "style", None) else None

    def _mapping(self, node: yaml.MappingNode, depth: int) -> LinedMap:
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
                found[key.value] = self._value(value, depth + 1)
                found.lines[key.value] = line
        for other in merged:
            self._merge(found, self._value(other, depth + 1), other.start_mark.line + 1)
        return found

    def _merge(self, found: LinedMap, other: Any, line: int) -> None:
        if not isinstance(other, LinedMap):
            self._fault(line, "expected a mapping to merge with <<")
            return
        for key in other.keys() - found.keys():
            found[key], found.lines[key] = other[key], other.lines[key]


def _drop_empty(tree: Any) -> Any:
    """Leave out keys without a value, as if they were not written."""
    if isinstance(tree, LinedMap):
        for key in [key for key, value in tree.items() if value is None]:
            del tree[key]
    if isinstance(tree, LinedMap | LinedList):
        for value in tree.values() if isinstance(tree, LinedMap) else tree:
            _drop_empty(value)
    return tree


def read(text: str, file: str) -> tuple[Any, list[Fault]]:
    """Read YAML text as mappings, lists, strings and None for what is empty, with every fault found.

    A key without a value is left out, as if it were not written. `file` names the text in faults.
    """
    reader = _Reader(file)
    return _drop_empty(reader.read(text)), reader.faults


def line_of(tree: Any, path: tuple[str | int, ...]) -> int:
    """Return the line of a path, or of the innermost mapping or list around it that exists."""
    line: int = getattr(tree, "line", 1)
    for step in path:
        try:
            line, tree = tree.lines[step], tree[step]
        except (AttributeError, LookupError, TypeError):
            break
    return line
