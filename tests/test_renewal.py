"""The renewal of a web config: what is told of it, and how often."""

import asyncio
import logging
from pathlib import Path

import pytest
from webfiles import hashed

from vcc_exporter import config_file
from vcc_exporter.guard import Guard, read_pair
from vcc_exporter.renewal import Renewal

CONFIG = "customers: [{name: acme, api_key: k3y, timezone: UTC}]\n"
USERS = f"basic_auth_users: {{admin: {hashed()}}}\n"


def renewal_of(web: Path, told: list[bool]) -> tuple[Renewal, Guard]:
    """Return the renewal of a file's rules, which notes whether they are good."""
    pair = read_pair(lambda: config_file.parse(CONFIG, "c.yaml", web.parent), web)
    assert pair.rules
    guard = Guard(pair.rules, frozenset())
    return Renewal(guard, web, lambda: config_file.parse(CONFIG, "c.yaml", web.parent), told.append), guard


def test_what_is_bad_is_told_once_and_what_is_good_again_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However often the file is written with the same fault; another fault is told, too."""
    web, told = tmp_path / "web.yml", list[bool]()
    web.write_text(USERS)
    renewal, guard = renewal_of(web, told)
    rules = guard.rules
    caplog.set_level(logging.INFO)
    asyncio.run(renewal.renew())
    assert (told, caplog.messages, guard.rules) == ([], [], rules)
    for text in ("zebra: 1\n", "zebra: 1\n", "lion: 1\n", USERS, USERS):
        web.write_text(text)
        asyncio.run(renewal.renew())
        assert guard.rules is rules
    assert caplog.messages == ["web config not reloaded"] * 2
    assert told == [False, False, True]


def test_what_is_new_is_taken_over_and_what_is_only_touched_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that says the same is no change, so that nobody has to show a password again."""
    web = tmp_path / "web.yml"
    web.write_text(USERS)
    renewal, guard = renewal_of(web, [])
    caplog.set_level(logging.INFO)
    web.touch()
    rules = guard.rules
    asyncio.run(renewal.renew())
    assert guard.rules is rules
    web.write_text(USERS.replace("admin", "other"))
    asyncio.run(renewal.renew())
    assert list(guard.rules.web.users) == ["other"]
    assert not guard.rules.waiting
    assert caplog.messages == ["web config reloaded"]
