"""Make a virtual environment, where this Python is new enough."""

import sys
import venv
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - that is the question
    sys.exit(f"vcc-exporter needs Python 3.11 or later, this is {sys.version.split()[0]}: try make PYTHON=python3.12")
if Path(sys.argv[1]).is_symlink():
    sys.exit(f"{sys.argv[1]} is a link, and what it leads to would be emptied: renew it there")
venv.create(sys.argv[1], with_pip=True, clear=True)
