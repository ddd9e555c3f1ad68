"""Reads config files in a process of its own, which ends with it.

What checks a config takes several megabytes as soon as it is loaded, and holds a processor for seconds where there are
thousands of customers. The daemon is neither to carry the one nor to be held up by the other.
"""

import gc
import pickle
import subprocess
import sys
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any, Final

from vcc_exporter import __version__, config, faults, times, web_config
from vcc_exporter.config import Config
from vcc_exporter.faults import ConfigError, Fault

_CHILD: Final = (
    "import sys\nif sys.argv[1] not in sys.path: sys.path.insert(0, sys.argv[1])\n"
    "from vcc_exporter import loading\nloading.be_asked()"
)


def load_config(path: Path) -> Config:
    """Read a config. Paths in it are relative to its folder. Raises ConfigError with every fault."""
    return parse_config(read_text(path), str(path), path.parent)


def parse_config(text: str, file: str, folder: Path) -> Config:
    """Read a config's text. `file` names it in messages; paths in it are relative to `folder`.

    Raises ConfigError with every fault.
    """
    found: Config = _parse("config_file", text, file, folder)
    return found


def load_web_config(path: Path) -> web_config.Reading:
    """Read a web config and what it names. Paths in it are relative to its folder."""
    try:
        text = read_text(path)
        parsed: web_config.Parsed = _parse("web_config_file", text, str(path), path.parent)
    except ConfigError as error:
        return web_config.Reading(None, error.faults, (path,))
    return web_config.complete(path, text, parsed)


def read_text(path: Path) -> str:
    """Read a config file. Raises ConfigError."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError([Fault(str(path), 0, "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError([Fault(str(path), line, "", "expected UTF-8 text")]) from None


def _parse(module: str, text: str, file: str, folder: Path) -> Any:
    """Call the `parse` of a module, in this process only where the system gives no other. Raises ConfigError."""
    question = module, text, file, folder
    command = [sys.executable, "-P", "-c", _CHILD, str(Path(__file__).parent.parent)]
    # Through a pipe, since it may hold secrets; and in a session of its own, which no Ctrl-C of ours reaches.
    pipes: dict[str, Any] = {"input": pickle.dumps((_shape(), question)), "stdout": PIPE, "stderr": DEVNULL}
    try:
        ended = subprocess.run(command, **pipes, start_new_session=True, check=False)  # noqa: S603 - ourselves
    except OSError:
        found, told = _answer(*question)
    else:
        if ended.returncode:
            how = f"signal {-ended.returncode}" if ended.returncode < 0 else f"status {ended.returncode}"
            raise ConfigError([_unread(file, f"the process for it ended with {how}")])
        found, told = pickle.loads(ended.stdout)  # noqa: S301 - from ourselves
    if told:
        raise ConfigError(told)
    return found


def be_asked() -> None:
    """Be that other process."""
    gc.disable()  # it ends before any would be worth while
    shape, question = pickle.load(sys.stdin.buffer)  # noqa: S301 - as above
    if shape == _shape():
        answer = _answer(*question)
    else:
        answer = None, (_unread(question[2], "the program's files are another version's by now: restart it"),)
    sys.stdout.buffer.write(pickle.dumps(answer))


def _answer(module: str, text: str, file: str, folder: Path) -> tuple[Any, tuple[Fault, ...]]:
    """Return what the `parse` of a module returns, and what it finds wrong."""
    try:
        return import_module(f"vcc_exporter.{module}").parse(text, file, folder), ()
    except ConfigError as error:
        return None, error.faults
    except Exception as error:  # noqa: BLE001 - whose text may quote a secret
        return None, (_unread(file, f"unexpected fault: {type(error).__name__}"),)


def _unread(file: str, why: str) -> Fault:
    return Fault(file, 0, "", f"cannot be checked: {why}")


def _shape() -> object:
    """Return what is the same in both processes, unless files were replaced since the first one began.

    Values go from one to the other by the order of their fields.
    """
    kinds = [kind for module in (config, faults, times, web_config) for kind in vars(module).values()]
    return __version__, [[field.name for field in fields(kind)] for kind in kinds if is_dataclass(kind)]
