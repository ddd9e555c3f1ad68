"""Write the dashboards' JSON: `python -m tools.dashboards` rewrites `grafana/dashboards/` in place."""

from pathlib import Path
from typing import Final

from tools.dashboards import customer, exporter, fleet, wallboard
from tools.dashboards.board import text

FOLDER: Final = Path(__file__).parent.parent.parent / "grafana" / "dashboards"


def files() -> dict[str, str]:
    """Return the text of each file by its name."""
    boards = (wallboard.board(), fleet.board(), customer.board(), exporter.board())
    return {f"{board.uid}.json": text(board) for board in boards}


def main() -> None:
    """Write all of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, written in files().items():
        (FOLDER / name).write_text(written)


if __name__ == "__main__":
    main()
