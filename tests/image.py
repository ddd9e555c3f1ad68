"""A small stand-in for a container engine: carries out a Dockerfile's steps under a folder instead of a root.

What it cannot stand in for: the base image (this machine's Python is used), layers, and a real root file system.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ANYBODY: Final = 65534
_LEAVE_NOTHING: Final = {"ARG", "CMD", "ENTRYPOINT", "EXPOSE", "HEALTHCHECK", "LABEL", "USER"}
_MAPPED: Final = re.compile(r"(?<![\w/.}])/(?:build|opt|etc|usr/local)\b")


def steps(dockerfile: str) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions and what stands behind each, with continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.MULTILINE).replace("\\\n", "")
    pairs = (line.strip().partition(" ") for line in text.splitlines() if line.strip())
    return [(instruction, arguments.strip()) for instruction, _, arguments in pairs]


def last(dockerfile: str, instruction: str) -> str:
    """Return what stands behind an instruction's last use."""
    return [arguments for found, arguments in steps(dockerfile) if found == instruction][-1]


def copy_context(source: Path, target: Path) -> None:
    """Copy what a .dockerignore that begins with `*` lets through."""
    rules = [line for line in (source / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*", "everything is left out that is not named"
    names = [rule[1:] for rule in rules[1:] if rule.startswith("!")]
    left_out = shutil.ignore_patterns(*(rule.removeprefix("**/") for rule in rules[1:] if not rule.startswith("!")))
    target.mkdir()
    for name in names:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=left_out)
        else:
            shutil.copy(source / name, target / name)


@dataclass(frozen=True)
class Image:
    """What a Dockerfile made."""

    root: Path
    """Stands in for the root folder of every stage."""
    env: Mapping[str, str]

    def path(self, name: str) -> Path:
        """Return where a path of the image lies."""
        return self.root / name.lstrip("/")


def moved(text: str, root: Path) -> str:
    """Return a text in which the image's paths lead to the stand-in's."""
    return _MAPPED.sub(lambda match: f"{root}{match[0]}", text)


def build(dockerfile: str, context: Path, root: Path) -> Image:
    """Carry out a Dockerfile's steps. Its stages share the root, so that what one copies from another is there."""
    _make_base(root)
    folder, env = root, dict[str, str]()
    for instruction, arguments in steps(dockerfile):
        match instruction:
            case "FROM":
                folder, env = root, {"PATH": f"{root}/usr/local/bin:{os.defpath}"}
                env["LD_LIBRARY_PATH"] = f"{root}/python/lib"  # where a copied Python has its own
            case "ENV":
                env |= {name: moved(value, root).replace("${PATH}", env["PATH"]) for name, value in _words(arguments)}
            case "WORKDIR":
                folder = root / arguments.lstrip("/")
                folder.mkdir(parents=True)
            case "COPY" if not arguments.startswith("--from="):
                *sources, target = arguments.split()
                for source in sources:
                    _copy(context / source, folder / target)
            case "RUN":
                # pip's cache stays, and so do settings that say where packages come from.
                own = {name: value for name, value in env.items() if name != "PIP_NO_CACHE_DIR"}
                _run(moved(arguments, root), folder, {**os.environ, **own})
            case _:
                assert instruction in _LEAVE_NOTHING | {"COPY"}, instruction
    return Image(root, env)


def _words(arguments: str) -> Iterator[tuple[str, str]]:
    for word in arguments.split():
        name, _, value = word.partition("=")
        yield name, value


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def _run(command: str, folder: Path, env: Mapping[str, str]) -> None:
    done = subprocess.run(["/bin/sh", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def _make_base(root: Path) -> None:
    """Put a Python with pip where the base image has one, good for every user."""
    # A virtual environment's own Python is no base for another.
    python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    if os.geteuid() == 0 and not _open_to_all(python):
        # It lies in root's home, say: such a Python works from another place, too.
        left_out = shutil.ignore_patterns("site-packages", "test", "tests", "*.a")
        library = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        theirs, base = Path(sys.base_prefix), root / "python"
        shutil.copytree(theirs / "lib" / library, base / "lib" / library, ignore=left_out)
        for shared in theirs.glob("lib/libpython*.so*"):
            shutil.copy(shared, base / "lib")
        (base / "bin").mkdir()
        python = Path(shutil.copy(python, base / "bin" / "python3"))
    _run(f"{python} -m venv {root}/usr/local", root, os.environ)


def _open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))
