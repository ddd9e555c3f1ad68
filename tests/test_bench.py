"""The bench works end to end, at a hundredth of its size; what it measures is nobody's business here."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tools.bench.__main__ import FIGURES, main
from tools.bench.report import Goal, Result, ratio, written
from tools.bench.scrape import told

ROOT: Final = Path(__file__).parent.parent
DOCUMENT: Final = ROOT / "docs" / "performance.md"


def test_a_figure_is_measured_against_all_peers_and_written_down() -> None:
    """All servers have the same series, and the tables of one run are in their places, with a verdict on each goal."""
    command = [sys.executable, "-m", "tools.bench", "1", "--quick"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert (run.returncode, run.stderr) == (0, "")
    for figure in ("1", "2", "6"):
        assert f"Figure {figure}\n" in run.stdout
    for peer in ("nginx", "exporter", "Pushgateway", "node_exporter", "prometheus_client"):
        assert f"| {peer} |" in run.stdout
    assert re.search(r"to nginx: .* goal 1.30x: \*\*(reached|missed by [0-9.]+x)\*\*", run.stdout)


@pytest.mark.parametrize(
    ("value", "most", "verdict"), [(1.3, 1.3, "reached"), (1.4, 0.7, "missed by 2.0x"), (0.001, 1 / 400, "reached")]
)
def test_a_goal_is_reached_up_to_its_value(value: float, most: float, verdict: str) -> None:
    """What is more than the goal has missed it, and by how much is said."""
    assert Goal("it", value, most).line().endswith(f": **{verdict}**\n")


@pytest.mark.parametrize(("value", "said"), [(12.3, "12x"), (1.234, "1.23x"), (1 / 18, "1/18"), (1 / 2500, "1/2,500")])
def test_a_ratio_is_a_fraction_where_it_is_small(value: float, said: str) -> None:
    """As people say it."""
    assert ratio(value) == said


def test_a_scrape_of_which_no_cpu_is_told_is_no_fault() -> None:
    """On a busy machine the kernel may tell of none, and all figures of scrapes are ratios."""
    assert ratio(told(0.1) / told(0)) == "100,000x"
    assert ratio(told(0) / told(0.1)) == "1/100,000"


def test_the_document_has_a_place_for_each_figure() -> None:
    """A result goes into its place and nowhere else; what was not measured stays as it is."""
    document = DOCUMENT.read_text()
    places = set(re.findall("<!-- bench: (\\w+) -->", document))
    assert places == {*FIGURES, "machine"}
    result = Result("7", "Words.", ("", "a"), [("b", "1")])
    after = written(document, {"7": result.markdown()})
    assert written(after, {"7": result.markdown()}) == after
    assert "<!-- bench: 7 -->\n\nWords.\n\n|  | a |\n| --- | --: |\n| b | 1 |\n\n<!-- end -->" in after
    assert after.split("<!-- bench: 7 -->")[0] == document.split("<!-- bench: 7 -->")[0]


def test_an_unknown_figure_is_wrong_usage(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says which there are."""
    monkeypatch.setattr(sys, "argv", ["bench", "12"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "invalid choice: '12'" in capsys.readouterr().err
