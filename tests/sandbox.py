"""Run a command under a systemd unit's restrictions on system calls: sandbox.py UNIT COMMAND...

It stands in for these settings: SystemCallFilter, SystemCallErrorNumber=EPERM, RestrictAddressFamilies,
MemoryDenyWriteExecute and NoNewPrivileges. Like systemd's own, it is made of libseccomp and systemd's groups of calls.
"""

import ctypes
import errno
import mmap
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

_ALLOW: Final = 0x7FFF0000
_EQUAL: Final = 4
_MASKED_EQUAL: Final = 7
_FAMILIES: Final = {"AF_INET": 2, "AF_INET6": 10}


def _errno(number: int) -> int:
    return 0x00050000 | number


class _Compare(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class _Filter:
    """One seccomp filter; several that are loaded all apply."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2")
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._filter = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))

    def rule(self, action: int, call: str, *compares: _Compare) -> None:
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return  # not one of this processor's
        array = (_Compare * len(compares))(*compares)
        self._done(
            self._library.seccomp_rule_add_array(
                self._filter, ctypes.c_uint32(action), number, ctypes.c_uint(len(compares)), array
            )
        )

    def load(self) -> None:
        self._done(self._library.seccomp_load(self._filter))

    @staticmethod
    def _done(result: int) -> None:
        if result:
            raise OSError(-result, os.strerror(-result))


def settings(unit: str, name: str) -> list[str]:
    """Return the values of a setting, in order."""
    return re.findall(rf"^{name}=(.*)", unit, re.MULTILINE)


def _calls(group: str) -> set[str]:
    """Return the system calls of a group."""
    command = ["systemd-analyze", "syscall-filter", "--no-pager", group]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
    words = {line.strip() for line in text.splitlines()[1:]} - {""}
    found = set()
    for word in words:
        if word.startswith("@"):
            found |= _calls(word)
        elif not word.startswith("#"):
            found.add(word)
    return found


def _allowed(unit: str) -> set[str]:
    found = _calls("@default")
    for value in settings(unit, "SystemCallFilter"):
        for word in value.lstrip("~").split():
            if value.startswith("~"):
                # What always works is not taken away.
                found -= _calls(word) - _calls("@default")
            else:
                found |= _calls(word)
    return found


def confine(unit: str) -> None:
    """Restrict this process, and those that come of it, as the unit says."""
    memory = _Filter(_ALLOW)
    write_and_execute = mmap.PROT_WRITE | mmap.PROT_EXEC
    refused = _errno(errno.EPERM)
    memory.rule(refused, "mmap", _Compare(2, _MASKED_EQUAL, write_and_execute, write_and_execute))
    for call in ("mprotect", "pkey_mprotect"):
        memory.rule(refused, call, _Compare(2, _MASKED_EQUAL, mmap.PROT_EXEC, mmap.PROT_EXEC))
    families = _Filter(_ALLOW)
    (allowed,) = settings(unit, "RestrictAddressFamilies")
    for family in set(range(64)) - {_FAMILIES[name] for name in allowed.split()}:
        families.rule(_errno(errno.EAFNOSUPPORT), "socket", _Compare(0, _EQUAL, family, 0))
    calls = _Filter(refused)
    for call in _allowed(unit):
        calls.rule(_ALLOW, call)
    memory.load()
    families.load()
    calls.load()  # the last, as it refuses to load more


if __name__ == "__main__":
    confine(Path(sys.argv[1]).read_text())
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606
