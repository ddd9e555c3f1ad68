"""The documents against the code."""

import re
import runpy
import tomllib
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from running import ROOT

from vcc_exporter import __version__
from vcc_exporter.cli import COMMANDS, FLAGS
from vcc_exporter.vocabulary import CUSTOMER_FAMILIES, FAMILIES, STATISTICS, Result

README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_readmes_tables_are_the_codes() -> None:
    """`python tools/tables.py` would change nothing."""
    filled = runpy.run_path(str(ROOT / "tools" / "tables.py"))["filled"]
    assert filled(README) == README


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_metric_and_flag_that_a_document_names_exists(path: object) -> None:
    """Names of metrics and flags are the code's, whole or as a pattern with a star."""
    text = path.read_text()  # type: ignore[attr-defined]
    text = re.sub(r"\b[a-z]+:[a-z0-9_]+:[a-z0-9_]+", "", text)  # recorded series, which test_rules looks after
    metrics = {family.name for family in FAMILIES}
    for name in re.findall(r"\bvcc_(?!exporter/)(?!exporter\.)[a-z0-9_]+(?!\w*\.py)\b", text):
        if name != "vcc_exporter":
            assert name in metrics or any(metric.startswith(name) for metric in metrics), name
    flags = {flag.name for flag in FLAGS} | {"--version", "--help"}
    for name in re.findall(r"(?<![\w-])--(?:web|log|config)\.[a-z.-]+", text):
        assert name in flags, name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_links_to_is_there(path: Path) -> None:
    """Links within the project lead somewhere."""
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_the_readme_names_every_command_and_dependency() -> None:
    """Each command, and each runtime dependency with its reason, has its line."""
    for command in COMMANDS:
        assert re.search(rf"exporter\.py \[?{command}\]?", README), command
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for dependency in project["dependencies"]:
        name = re.split(r"[<>=]", dependency)[0]
        assert f"| {name} |" in README, name


def test_what_a_customer_is_in_series_is_what_the_code_makes() -> None:
    """The numbers that all arithmetic on scaling begins with are counted in the tables of metrics and of rules."""
    samples = {"vcc_polls_total": len(Result), "vcc_poll_duration_seconds": 2}
    of_project = {f.name for f in CUSTOMER_FAMILIES if f.labels == ("customer", "project")}
    always = len(of_project - {"vcc_inbound_open"})
    of_customer = sum(samples.get(f.name, 1) for f in CUSTOMER_FAMILIES if f.name not in of_project)
    rules = runpy.run_path(str(ROOT / "tools" / "rules.py"))["recording_rules"]()
    recorded = Counter(rule.record.partition(":")[0] for rule in rules)
    text = (ROOT / "docs" / "scaling.md").read_text()
    assert f"| a row | {len(STATISTICS)} | {recorded['queue']} |" in text
    assert f"| a project | {always}, with `hours` {len(of_project)} | {recorded['project']} |" in text
    assert f"| a customer | {of_customer} | {recorded['customer'] + recorded['replica']} |" in text
    assert recorded.keys() == {"queue", "project", "customer", "replica"}
    assert f"are {20 * len(STATISTICS) + 4 * always + of_customer} series" in text


def test_the_changelog_begins_with_this_version() -> None:
    """What is released is what the changelog tells of."""
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first
    assert first[1] == __version__


def test_the_readmes_pictures_are_there_and_small() -> None:
    """Each is a PNG of less than 150 kB, with words for those who do not see it."""
    pictures = re.findall(r"!\[(.*?)\]\((.*?)\)", README)
    assert pictures
    for words, path in pictures:
        assert words
        picture = (ROOT / path).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 150_000, path


PINNED: Final = ("", "-test", "-audit", "-build")


@pytest.mark.parametrize("kind", PINNED)
def test_each_pin_has_its_hashes(kind: str) -> None:
    """Every line of a file of requirements is one version of a package, and the hashes of its files."""
    text = re.sub(r"#.*", "", (ROOT / f"requirements{kind}.txt").read_text()).replace("\\\n", " ")
    pins = [line for line in text.splitlines() if line.strip()]
    assert pins
    for pin in pins:
        assert re.fullmatch(r"[\w.\[\]-]+==\S+( ; .+?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*", pin), pin[:80]


def test_what_builds_the_package_is_what_is_pinned() -> None:
    """The build's own requirement is the one that has hashes."""
    (wanted,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert f"\n{wanted} " in (ROOT / "requirements-build.txt").read_text()


def test_no_tracked_file_names_a_registry() -> None:
    """Installs use whatever registry the user has set up."""
    for name in (*(f"requirements{kind}.txt" for kind in PINNED), "Makefile", "pyproject.toml", "Dockerfile"):
        assert not re.search(
            r"--index-url|--extra-index-url|--find-links|https?://[^ ]*(pypi|pythonhosted)", (ROOT / name).read_text()
        )


def test_every_proof_that_the_security_document_names_is_a_test() -> None:
    """Each promise has at least one, and a test that is renamed takes its mention along."""
    promises = re.findall(r"^\| (.+) \| (.+) \|$", (ROOT / "docs" / "security.md").read_text(), re.MULTILINE)
    proofs = [proof for _, words in promises for proof in re.findall(r"`(tests/\S+)::(\w+)`", words)]
    for path, name in proofs:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{name}"
    assert len(proofs) > 40
    without = [promise for promise, words in promises if words.startswith("`") and "::" not in words]
    assert without == []
