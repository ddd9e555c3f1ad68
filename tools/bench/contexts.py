"""Run the exporter with a line in its log for each TLS context: `python -m tools.bench.contexts FLAGS`."""

import ssl
import sys
from typing import Any, Final

from vcc_exporter import cli

MADE: Final = "TLS context made\n"
# `requests` has made one for itself by now, when it was imported.
_new = ssl.SSLContext.__new__


def _telling(kind: type[ssl.SSLContext], *arguments: Any, **options: Any) -> ssl.SSLContext:
    sys.stderr.write(MADE)
    return _new(kind, *arguments, **options)


if __name__ == "__main__":
    ssl.SSLContext.__new__ = _telling  # type: ignore[method-assign,assignment]
    cli.main()
