"""A small week of chaos: the exporter stands it, and an exporter that is broken in one place does not."""

import ast
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, Final

import pytest
from running import ROOT

from tools.soak.__main__ import main
from tools.soak.model import RESULTS
from tools.soak.week import Plan, soak
from vcc_exporter import answer, client, exposition, poll, schedule, snapshot, store, times
from vcc_exporter.answer import Answer, Pair
from vcc_exporter.client import PollError, Session
from vcc_exporter.config import Customer
from vcc_exporter.exposition import Page
from vcc_exporter.poll import Poller
from vcc_exporter.snapshot import CustomerState, Known, Moment, Row, Snapshot, View
from vcc_exporter.store import Store
from vcc_exporter.vocabulary import Result

SMALL: Final = Plan(seed=25, customers=8, days=1, quickest_s=900, turmoil=10)
"""Around the October night in which Europe's clocks go back."""


def test_a_small_week_of_chaos_shows_nothing_wrong() -> None:
    """Every scrape shows what it may, while all nine results, reloads and jumps of the clock come about."""
    outcome = soak(SMALL)
    assert outcome.wrong == ""
    assert sum(outcome.scrapes.values()) > 1000
    assert set(outcome.polls) == set(RESULTS) == {result.value for result in Result}
    kinds = " ".join(outcome.faults)
    for kind in ("reload: question", "broken config", "clock set back", "key rotated", "never", "nobody listens"):
        assert kind in kinds, kind


def test_the_oracle_knows_nothing_of_the_exporters_code() -> None:
    """Of the soak's modules only those that run the exporter import it."""
    folder = ROOT / "tools" / "soak"
    importing = {path.stem for path in folder.glob("*.py") if "vcc_exporter" in _imported(path.read_text())}
    assert importing == {"rig"}


def _imported(text: str) -> set[str]:
    """Return the packages that a module imports from."""
    nodes = [*ast.walk(ast.parse(text))]
    whole = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    parts = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.partition(".")[0] for name in whole | parts}


@pytest.mark.parametrize("clean", [True, False])
def test_the_command_says_what_came_of_it(clean: bool, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """It ends with a table, and with 1 and the first wrong scrape where there is one."""
    if not clean:
        no_zeros(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["soak", "--seed=5", "--customers=3", "--days=0.05", "--quickest=300"])
    if clean:
        main()
    else:
        with pytest.raises(SystemExit, match=r"soak: seed 5, at 2026-10-2.* after .*\n- vcc_inbound_"):
            main()
    written = capsys.readouterr().out
    assert f"| **wrong ones** | **{0 if clean else 1}** |" in written
    assert clean == ("| memory, descriptors, threads at 100 % |" in written)


# What an exporter would do that is broken in one place.

Patch = Callable[[pytest.MonkeyPatch], None]


def no_staleness(patch: pytest.MonkeyPatch) -> None:
    """Show values until midnight, however old."""

    def until_midnight(state: CustomerState, moment: Moment) -> tuple[datetime, float]:
        now, zone = moment.wall, state.customer.zone
        if state.snapshot is None or state.snapshot.day != times.local_date(zone, now):
            return now, moment.monotonic_s
        return times.day_end(zone, now), float("inf")

    patch.setattr(snapshot, "_fresh_until", until_midnight)


def a_little_too_fresh(patch: pytest.MonkeyPatch) -> None:
    """Count the age of values from a second after they came."""
    fresh_until = snapshot._fresh_until  # noqa: SLF001 - what is broken

    def later(state: CustomerState, moment: Moment) -> tuple[datetime, float]:
        until, until_s = fresh_until(state, moment)
        shift = timedelta(seconds=until > moment.wall)
        return until + shift, until_s + shift.total_seconds()

    patch.setattr(snapshot, "_fresh_until", later)


def no_midnight(patch: pytest.MonkeyPatch) -> None:
    """Show values past midnight, until they are stale."""
    fresh_until = snapshot._fresh_until  # noqa: SLF001 - what is broken

    def until_stale(state: CustomerState, moment: Moment) -> tuple[datetime, float]:
        if state.snapshot is None or state.customer.schedule:
            return fresh_until(state, moment)
        received, lives = state.snapshot.received, state.customer.stale_after
        return received.wall + lives, received.monotonic_s + lives.total_seconds()

    patch.setattr(snapshot, "_fresh_until", until_stale)


def no_zeros(patch: pytest.MonkeyPatch) -> None:
    """Leave pairs out of which no row came."""
    rows = snapshot._rows  # noqa: SLF001 - what is broken

    def only_answered(state: CustomerState, _pairs: frozenset[Pair], before: View | None) -> Mapping[Pair, Row]:
        return rows(state, frozenset(), before)

    patch.setattr(snapshot, "_rows", only_answered)


def false_zeros(patch: pytest.MonkeyPatch) -> None:
    """Take a pair of which only rejected rows came for one without calls."""

    def taking(day: date, received: Moment, values: Any, _rejected: frozenset[Pair]) -> Snapshot:
        return Snapshot(day, received, values, frozenset())

    patch.setattr(snapshot, "Snapshot", taking)


def half_answers(patch: pytest.MonkeyPatch) -> None:
    """Show what the first requests of a poll were answered where a later one fails."""

    def ask(_self: Poller, work: Any, day: date, now: datetime) -> Answer:
        answers: list[Answer] = []
        for question, scope in poll.questions(work.customer, day, day):
            try:
                answers.append(answer.read_statistics(work.session.ask(question.target(), now), day, scope))
            except answer.AnswerError as error:
                raise poll.unusable(work.customer, work.session, error) from None
            except PollError:
                if not answers:
                    raise
                break
        return poll.together(answers)

    patch.setattr(Poller, "_ask", ask)


def counted_twice(patch: pytest.MonkeyPatch) -> None:
    """Count a timeout twice."""
    counted = snapshot._counted  # noqa: SLF001 - what is broken

    def twice(state: CustomerState, result: Result, took_s: float) -> CustomerState:
        once = counted(state, result, took_s)
        return replace(once, polls=counted(once, result, 0).polls) if result is Result.TIMEOUT else once

    patch.setattr(snapshot, "_counted", twice)


def late_answers(patch: pytest.MonkeyPatch) -> None:
    """Keep values over a reload that changes what is asked."""

    def kept(state: CustomerState, customer: Customer) -> CustomerState:
        return replace(state, customer=customer)

    patch.setattr(store, "with_settings", kept)


def forgotten_queues(patch: pytest.MonkeyPatch) -> None:
    """Forget at midnight which queues are known, before a new lookback has answered."""
    with_rows = Known.with_rows

    def anew(self: Known, day: date, pairs: Iterable[Pair]) -> Known:
        return with_rows(self if day == self.day else Known(), day, pairs)

    patch.setattr(Known, "with_rows", anew)


def impatience(patch: pytest.MonkeyPatch) -> None:
    """Take no heed of Retry-After."""
    patch.setattr(client, "_retry_after", lambda _value, _now: timedelta())


def old_key(patch: pytest.MonkeyPatch) -> None:
    """Never read a key again."""
    patch.setattr(Session, "forget_key", lambda _self: None)


def untrue_pages(patch: pytest.MonkeyPatch) -> None:
    """Send the page that was made last, though it is not true any more."""
    patch.setattr(Page, "holds", lambda _self, _moment: True)


def unwanted_answers(patch: pytest.MonkeyPatch) -> None:
    """Count the poll in flight of a customer whose settings have changed as one that failed."""
    update = Store.update

    def whatever(own: Store, customer: Customer, change: Any) -> CustomerState | None:
        state = own.state(customer.name)
        return update(own, state.customer if state else customer, change)

    patch.setattr(Store, "update", whatever)
    patch.setattr(Session, "abandon", lambda session: session._wire.end())  # noqa: SLF001 - what is left


def one_format(patch: pytest.MonkeyPatch) -> None:
    """End the compressed page in OpenMetrics as the other format ends."""
    gzipped = Page._gzipped  # noqa: SLF001 - what is broken

    def other(page: Page, _chosen: exposition.Format) -> Any:
        return gzipped(page, exposition.Format.TEXT)

    patch.setattr(Page, "_gzipped", other)


def sleepiness(patch: pytest.MonkeyPatch) -> None:
    """Leave a midnight to the next poll that is due anyway."""

    def on_the_grid(customer: Customer, now: datetime, _asked: date, customers: int) -> datetime:
        return schedule._grid(customer, now, customers)  # noqa: SLF001 - what is left

    patch.setattr(schedule, "_interval_due", on_the_grid)


def no_reaction_to_the_clock(patch: pytest.MonkeyPatch) -> None:
    """Take no note of a clock that was put back."""
    patch.setattr(Poller, "_bring_forward", lambda _self, _work: None)


NEXT: Final = "vcc_poll_next_timestamp_seconds"
BROKEN: Final[tuple[tuple[Patch, str], ...]] = (
    (no_staleness, "+ vcc_inbound_"),
    (a_little_too_fresh, "+ vcc_inbound_"),
    (no_midnight, "+ vcc_inbound_"),
    (no_zeros, "- vcc_inbound_"),
    (false_zeros, "+ vcc_inbound_"),
    (half_answers, "vcc_inbound_"),
    (counted_twice, "vcc_polls_total"),
    (late_answers, "any state since the reload"),
    (forgotten_queues, "- vcc_inbound_"),
    (impatience, "Retry-After"),
    (old_key, "with another key than the one that was to be read last"),
    (untrue_pages, "nothing that is not true any more"),
    (unwanted_answers, "vcc_polls_total"),
    (one_format, "its end is"),
    (sleepiness, "midnight comes before the interval is over"),
    (no_reaction_to_the_clock, "the clock was set"),
)


@pytest.mark.parametrize(("broken", "found"), BROKEN, ids=lambda broken: getattr(broken, "__name__", None))
def test_the_oracle_finds_an_exporter_that_is_broken(
    broken: Patch, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one rule of the contract forbids is found in the same small week, and told with seed and instant."""
    broken(monkeypatch)
    wrong = soak(SMALL).wrong
    assert wrong.startswith("seed 25, at 2026-10-2")
    assert found in wrong
