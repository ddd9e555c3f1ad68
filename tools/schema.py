"""Print the config's JSON Schema, for editors: `python tools/schema.py > config.schema.json`."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from vcc_exporter.config_schema import json_schema


def text() -> str:
    """Return the schema as the file's text."""
    return json.dumps(json_schema(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
