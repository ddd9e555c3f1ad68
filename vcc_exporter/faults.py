"""What is wrong with a config file, in lines that editors can jump from."""

from collections.abc import Iterable
from dataclasses import dataclass


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

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(dict.fromkeys(faults), key=lambda fault: fault.line))
        super().__init__("\n".join(map(str, self.faults)))
