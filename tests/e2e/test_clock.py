"""The real process under a clock that is not today's: a midnight of a 25-hour day, and jumps."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from conftest import StartDaemon
from dated import BUDAPEST, dated_api, dated_config, faketime, shown_day
from running import Daemon, Samples, eventually, one
from support import raw_server


def test_a_midnight_after_a_day_of_25_hours_is_passed_without_a_false_number(start_daemon: StartDaemon) -> None:
    """Budapest's 25 October 2026 has 25 hours; no scrape shows its value after its end, and the next day's follows."""
    asked: list[tuple[str, str]] = []
    with raw_server(dated_api(asked)) as port:
        # 22:59:52 UTC is 23:59:52 by a clock that was put back 21 hours before.
        daemon = start_daemon(dated_config(port), env=faketime(FAKETIME="@2026-10-25 22:59:52"))
        daemon.wait_for(lambda page: shown_day(page) == 20261025, "the value of the 25th")
        assert (
            one(daemon.page(), "vcc_inbound_day_start_timestamp_seconds")
            == datetime(2026, 10, 24, 22, tzinfo=UTC).timestamp()
        )
        midnight = datetime(2026, 10, 25, 23, tzinfo=UTC).timestamp()
        seen: list[int | None] = []

        def next_day(page: Samples) -> bool:
            seen.append(shown_day(page))
            return seen[-1] == 20261026

        daemon.wait_for(next_day, "the value of the 26th")
        page = daemon.page()
        assert set(seen) <= {20261025, None, 20261026}
        assert seen == sorted(seen, key=lambda day: day or 20261025.5)
        success = one(page, "vcc_poll_last_success_timestamp_seconds", customer="acme")
        assert success is not None
        assert midnight <= success < midnight + 40
        eventually(lambda: ("20261019", "20261025") in asked, "the lookback of the new day", 90)
        assert asked.count(("20261018", "20261024")) == 1
        assert daemon.stop() == 0


def test_a_clock_that_jumps_does_no_harm(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A day forward and two days back: at once no value of another day, and polls go on in either case."""
    offset = tmp_path / "offset"
    offset.write_text("+0d")
    asked: list[tuple[str, str]] = []
    settings = {"FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1"}
    today = datetime.now(BUDAPEST).date()  # noqa: TID251 - the daemon's clock is this one, moved
    with raw_server(dated_api(asked)) as port:
        daemon = start_daemon(dated_config(port), env=faketime(**settings))
        for days in (0, 1, -1):
            offset.with_suffix(".new").write_text(f"{days:+d}d")
            offset.with_suffix(".new").rename(offset)
            # The test may itself run across a midnight.
            wanted = [int(f"{today + timedelta(days=days + more):%Y%m%d}") for more in (0, 1)]
            wait_for_day(daemon, wanted)
        assert daemon.stop() == 0


def wait_for_day(daemon: Daemon, wanted: list[int]) -> None:
    """Wait until a day's value is shown, and polls go on after that."""
    daemon.wait_for(lambda page: shown_day(page) in wanted, f"the value of {wanted[0]}")
    polls = one(daemon.page(), "vcc_polls_total", result="success") or 0
    daemon.wait_for(lambda page: (one(page, "vcc_polls_total", result="success") or 0) > polls + 1, "polls")
