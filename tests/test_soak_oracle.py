"""What the soak's oracle allows where threads decide what is known first."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tools.soak.accounts import STATISTICS, Question, Reply, Row
from tools.soak.api import Event, Exchange
from tools.soak.fleet import Settings
from tools.soak.model import NEXT, Instant, Model
from tools.soak.oracle import Around, Oracle, See, WrongError
from tools.soak.page import Page, Scrape, one_key


def test_a_poll_and_names_of_one_instant_may_be_known_in_either_order(tmp_path: Path) -> None:
    """What the API saw end first need not be said first; a moment later both are said."""
    settings = Settings("acme", "acme", "http://127.0.0.1:1", tmp_path / "key", ZoneInfo("UTC"))
    began, now = (Instant(datetime(2026, 3, 11, 10, 0, second, tzinfo=UTC), float(second)) for second in (0, 5))
    day = now.wall.date()
    target = "/v2/statistics/inbound?from=20260311&to=20260311&dimensions=project,queue,date&manual_sla=30"
    names = Reply("well", "success", b"x", names={101: "Sales"})
    rows = Reply("well", "success", b"x", rows=(Row(101, 908, tuple(float(n) for n in range(len(STATISTICS)))),))
    asked = (("/v2/projects", None, names), (target, Question(day, day, frozenset()), rows))
    ended = [
        Exchange("acme", path, "acme", "k", question, now.wall, now.seconds, number, True, reply, "answered")
        for number, (path, question, reply) in enumerate(asked)
    ]
    oracle = Oracle()
    oracle.reloaded(began, [settings])
    oracle.looked()
    before = oracle.models["acme"]
    oracle.settle(now, [Event(arrived, e) for e in ended for arrived in (True, False)], lambda _: Around("k", True))
    both = oracle.models["acme"]

    def check(model: Model, see: See) -> None:
        due = now.wall + timedelta(minutes=1 if model.last else 0)
        next_poll = {one_key(NEXT, frozenset({("customer", "acme")})): due.timestamp()}
        oracle.check(Scrape(("acme",), False, ""), Page({"acme": {**model.samples(now), **next_poll}}), now, see)

    for known in (before, replace(both, names={}), replace(before, names=both.names), both):
        check(known, See.RECENTLY)
    for late in (before, replace(both, names={})):
        with pytest.raises(WrongError):
            check(late, See.NOW)
    check(both, See.NOW)
