"""Kustomize, as the kubectl that is here has it, and what a machine without one leaves out."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

Manifest = dict[str, Any]


def _version() -> int:
    """Return kustomize's major version; 0 where there is none."""
    if not shutil.which("kubectl"):
        return 0
    told = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True, check=False)  # noqa: S607
    found = re.search(r"Kustomize Version: v(\d+)", told.stdout)
    return int(found[1]) if found else 0


needs_kustomize = pytest.mark.skipif(_version() < 5, reason="needs a kubectl with kustomize 5")


def build(folder: Path) -> list[Manifest]:
    """Let kustomize make the manifests that would be applied."""
    built = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)  # noqa: S603, S607
    assert built.returncode == 0, built.stderr
    assert built.stderr == "", "a warning, such as of a field that is deprecated"
    return list(yaml.safe_load_all(built.stdout))


def of_kind(manifests: list[Manifest], kind: str) -> Manifest:
    """Return the one manifest of a kind."""
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found
