"""What is wrong with a file's tree, held against its models: a library's findings as faults with file and line."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from vcc_exporter.config_schema import Section
from vcc_exporter.faults import Fault
from vcc_exporter.yaml_lines import line_of

Path = tuple[str | int, ...]
"""Keys and places in lists, from the top of the file to what is meant."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What one kind of file holds."""

    sections: Mapping[str, type[Section]]
    """The model of the mappings, or of the list's items, under each key; of the whole file under the empty one."""
    secret_keys: frozenset[str]
    """Keys whose values stand in no message, nor what is below them."""


def spell(path: Path) -> str:
    """Write a path as it stands in messages."""
    words = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
    return words if words.isprintable() else repr(words)


def nearest(key: str, section: type[Section]) -> str | None:
    """Return the key that an unknown one was probably to be."""
    return next(iter(difflib.get_close_matches(key, list(section.model_fields), 1)), None)


def schema_faults(file: str, tree: Any, error: ValidationError, shape: Shape) -> Iterator[Fault]:
    """Say what a model found wrong with a tree."""
    items = error.errors(include_url=False)
    unknown = [item["loc"] for item in items if item["type"] == "extra_forbidden"]
    # What an unknown key was to be is not missing as well.
    meant = {(*path[:-1], near) for path in unknown if (near := nearest(str(path[-1]), _section(path, shape)))}
    for item in items:
        if item["type"] == "missing" and item["loc"] in meant:
            continue
        # Behind the key of a dict that is itself at fault, the library says so.
        at_key = item["loc"][-1:] == ("[key]",) and item["type"] != "extra_forbidden"
        path = item["loc"][:-1] if at_key else item["loc"]
        context = item.get("ctx", {})
        if item["type"] == "extra_forbidden":
            message = _unknown_key(path, shape)
        elif item["type"] in {"missing", "empty"}:
            field_ = _section(path, shape).model_fields[str(path[-1])]
            message = f"{'missing' if item['type'] == 'missing' else 'no value'}; expected {field_.description}"
        elif item["type"] == "refused":
            message = f"not supported: {context['why']}"
        else:
            expected = context.get("expected") or _EXPECTED.get(item["type"], "a mapping")
            detail = f"; {context['detail']}" if context.get("detail") else ""
            secret = not shape.secret_keys.isdisjoint(map(str, path))
            found = "" if detail and secret else f", found {_found(item['input'], secret)}"
            message = f"expected {expected}{found}{detail}"
        yield Fault(file, line_of(tree, path), spell(path), message)


_EXPECTED: Final = {"list_type": "a list", "too_short": "at least one item"}


def _found(value: Any, secret: bool) -> str:
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if value is None:
        return "nothing"
    if secret:
        return "something else (not shown)"
    return repr(value if len(value) <= 60 else value[:60] + "…")  # noqa: PLR2004


def _section(path: Path, shape: Shape) -> type[Section]:
    names = [step for step in path[:-1] if isinstance(step, str)]
    return shape.sections[names[-1] if names else ""]


def _unknown_key(path: Path, shape: Shape) -> str:
    section = _section(path, shape)
    near = nearest(str(path[-1]), section)
    hint = f"did you mean {near!r}?" if near else f"expected one of {', '.join(section.model_fields)}"
    return f"unknown key; {hint}"
