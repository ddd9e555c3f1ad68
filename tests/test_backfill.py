"""Past days against the simulator and a clock that is set: which days, which zeros, and where a run goes on."""

import itertools
import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support import DATA, SetClock, make_customer, statistics_body

from vcc_exporter import backfill
from vcc_exporter.answer import NOT_FINITE, OTHER_DATE, Pair
from vcc_exporter.backfill import Asked, BackfillError, Wanted, Written
from vcc_exporter.client import PROJECTS, Question
from vcc_exporter.config import Customer
from vcc_exporter.oneshot import Verdict
from vcc_exporter.simulator import Reply, Simulator
from vcc_exporter.vocabulary import RESULT_MEANINGS, STATISTICS, Result

pytestmark = pytest.mark.usefixtures("no_environment")

NOW: Final = datetime(2026, 4, 8, 10, 0, tzinfo=UTC)
"""Noon in Budapest, ten days after its summer time began."""
BUDAPEST: Final = ZoneInfo("Europe/Budapest")
KEY: Final = "demo-key-of-the-bank"
FIRST: Final = date(2026, 3, 27)
LAST: Final = date(2026, 4, 2)
"""A week with a day of 23 hours, and with the end of a month."""
Series = Mapping[int, float]
"""Values by timestamp."""


@pytest.fixture
def clock() -> SetClock:
    """Give a clock that stands still after the days that are asked about."""
    return SetClock(NOW)


@pytest.fixture
def wanted(tmp_path: Path) -> Wanted:
    """Want that week."""
    return Wanted(FIRST, LAST, tmp_path / "past.om")


def bank(api: Simulator, **keys: Any) -> Customer:
    """Return the simulator's bank as a customer."""
    return make_customer(**{"name": "bank", "api_key": KEY, "url": api.url, "poll": {"timeout": "10m"}, **keys})


def webshop(api: Simulator) -> Customer:
    """Return the simulator's webshop as a customer in the bank's zone."""
    return bank(api, name="webshop", api_key=api.centres["webshop"].key)


def ask(wanted: Wanted, clock: SetClock, *customers: Customer) -> list[Asked | Verdict]:
    """Ask what is missing."""
    return list(backfill.ask(customers, wanted, clock, lambda _, __: None))


def fill(wanted: Wanted, clock: SetClock, *customers: Customer) -> tuple[list[Asked], Written]:
    """Ask and write; no customer may fail."""
    asked = [found for found in ask(wanted, clock, *customers) if isinstance(found, Asked)]
    assert len(asked) == len(customers)
    return asked, backfill.write(asked, wanted)


def failure(wanted: Wanted, clock: SetClock, customer: Customer) -> str:
    """Ask for a customer that fails, and return what is said of it."""
    (verdict,) = ask(wanted, clock, customer)
    assert isinstance(verdict, Verdict)
    return verdict.words


def remarks(wanted: Wanted, clock: SetClock, customer: Customer) -> tuple[str, ...]:
    """Ask and return what is not as it should be."""
    (asked,) = ask(wanted, clock, customer)
    assert isinstance(asked, Asked), asked
    return asked.remarks


def read(output: Path) -> dict[tuple[str, str, Pair], Series]:
    """Read an output strictly, by metric, customer and pair; lines of one series must be together and ascend."""
    found: dict[tuple[str, str, Pair], dict[int, float]] = {}
    for family in text_string_to_metric_families(output.read_text()):
        for sample in family.samples:
            pair = int(sample.labels["project"]), int(sample.labels["queue"])
            series = found.setdefault((sample.name, sample.labels["customer"], pair), {})
            series[int(float(str(sample.timestamp)))] = sample.value
    return dict(found.items())


def ends(first: date, last: date, zone: ZoneInfo = BUDAPEST) -> list[int]:
    """Return the last second of each day."""
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [int(datetime(d.year, d.month, d.day, 23, 59, 59, tzinfo=zone).timestamp()) for d in days]


def answered_by(series: Mapping[tuple[str, str, Pair], Series]) -> dict[Pair, Series]:
    """Return one metric of one customer."""
    return {pair: values for (name, _, pair), values in series.items() if name == ANSWERED}


ANSWERED: Final = "vcc_inbound_answered_before_calls"


def answering(rows: Mapping[date, list[dict[str, Any]]]) -> Callable[[Mapping[str, str]], Reply]:
    """Answer each statistics request with the rows of its days."""

    def answer(options: Mapping[str, str]) -> Reply:
        those = {f"{day:%Y%m%d}": found for day, found in rows.items()}
        asked = [
            {"date": day, **row}
            for day, found in those.items()
            if options["from"] <= day <= options["to"]
            for row in found
        ]
        return Reply(200, statistics_body(asked))

    return answer


def row(queue: int, answered: Any, **more: Any) -> dict[str, Any]:
    """Return a row of project 101 with one statistic."""
    return {"projectid": 101, "queueid": queue, "answered_before": answered, **more}


def march(day: int) -> date:
    """Return a day of March."""
    return date(2026, 3, day)


# What is written.


def rows_of_day(api: Simulator, day: date) -> dict[Pair, list[float]]:
    """Ask the simulator about one day, as a poll would."""
    reply = api.reply("GET", Question(day, day, 30).target(), ("bank", KEY))
    return {
        (found["projectid"], found["queueid"]): [float(found[statistic.key]) for statistic in STATISTICS]
        for found in json.loads(reply.body)["response"]
    }


def test_each_day_has_at_its_last_second_what_a_poll_would_have_told(
    api: Simulator, clock: SetClock, wanted: Wanted
) -> None:
    """Every statistic of every queue that is known on the day; 0 where the day had no row; over the summer time."""
    _, written = fill(wanted, clock, bank(api))
    expected: dict[tuple[str, str, Pair], dict[int, float]] = {}
    by_day = {day: rows_of_day(api, day) for n in range(-7, 7) for day in [FIRST + timedelta(days=n)]}
    for number, end in enumerate(ends(FIRST, LAST)):
        day = FIRST + timedelta(days=number)
        known = {pair for back in range(8) for pair in by_day[day - timedelta(days=back)]}
        for pair in known:
            for statistic, value in zip(STATISTICS, by_day[day].get(pair, [0.0] * len(STATISTICS)), strict=True):
                expected.setdefault((statistic.metric, "bank", pair), {})[end] = value
    assert read(wanted.output) == expected
    assert any(pair not in rows for rows in by_day.values() for pair in by_day[FIRST])  # zeros were needed
    assert written == Written(len(expected), sum(map(len, expected.values())))


def test_days_are_of_23_and_25_hours_where_clocks_are_put(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """Each day's last second is 23:59:59 there, whatever came before it."""
    (series,) = {tuple(series) for series in read_week(api, clock, wanted).values()}
    assert list(series) == ends(FIRST, LAST)
    gaps = [later - earlier for earlier, later in itertools.pairwise(series)]
    assert [gap // 3600 for gap in gaps] == [24, 23, 24, 24, 24, 24]


def read_week(api: Simulator, clock: SetClock, wanted: Wanted) -> dict[tuple[str, str, Pair], Series]:
    """Fill that week with one queue that has a call on each day."""
    days = [FIRST + timedelta(days=number) for number in range(7)]
    api.answer("bank", answering({day: [row(7, 1)] for day in days}))
    fill(wanted, clock, bank(api))
    return read(wanted.output)


def test_a_date_that_a_zone_left_out_has_no_sample(api: Simulator, clock: SetClock, tmp_path: Path) -> None:
    """Samoa went from 29 to 31 December 2011."""
    days = [date(2011, 12, 29), date(2011, 12, 30), date(2011, 12, 31)]
    api.answer("bank", answering({day: [row(7, day.day)] for day in days}))
    wanted = Wanted(days[0], days[-1], tmp_path / "past.om")
    assert fill(wanted, clock, bank(api, timezone="Pacific/Apia"))[1] == Written(1, 2)
    assert list(answered_by(read(wanted.output))[101, 7].values()) == [29, 31]


def test_a_queue_is_at_zero_while_it_is_known_and_absent_before_and_after(
    api: Simulator, clock: SetClock, wanted: Wanted
) -> None:
    """Known is a queue with a row in the lookback's days before the day, on it, or with a name in the config."""
    rows = {march(20): [row(1, 1), row(2, 1)], march(21): [row(2, 1)], march(28): [row(3, 5)], march(30): []}
    api.answer("bank", answering(rows))
    fill(wanted, clock, bank(api, projects=[{"id": 101, "queues": {9: "Named"}}], poll={"lookback": "7d"}))
    days = ends(FIRST, LAST)
    found = answered_by(read(wanted.output))
    assert {pair[1]: list(series) for pair, series in found.items()} == {
        1: days[:1],
        2: days[:2],
        3: days[1:],
        9: days,
    }
    assert list(found[101, 3].values()) == [5, 0, 0, 0, 0, 0]


def test_without_a_lookback_what_was_seen_stays_known(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """No day before the first one is asked for, and a queue is at zero from its first call on."""
    api.answer("bank", answering({march(26): [row(1, 1)], march(28): [row(2, 5)]}))
    fill(wanted, clock, bank(api, poll={"lookback": "0"}))
    assert {pair[1]: list(series) for pair, series in answered_by(read(wanted.output)).items()} == {
        2: ends(FIRST, LAST)[1:]
    }
    assert api.requests[1].path == Question(FIRST, march(31), 30).target()


def test_rows_that_cannot_be_used_give_no_sample_and_are_told(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """A pair of which only such rows came has none on that day, and where no row can be used nobody has one."""
    rows = {
        march(26): [row(4, "x"), row(2, 1)],  # before the days that are wanted: its queue is known all the same
        march(27): [row(1, 4), row(2, 4)],
        march(28): [row(1, 5), row(2, "x"), row(3, 5)],
        march(29): [row(1, "x")],
        march(30): [row(1, 6), row(1, 7)],
    }
    api.answer("bank", answering(rows))
    customer = bank(api)
    assert remarks(wanted, clock, customer) == (
        f"3 rows cannot be used, the first for {NOT_FINITE} on 2026-03-28",
        "no samples of 1 day of which no row can be used (2026-03-29)",
    )
    fill(wanted, clock, customer)
    days = ends(FIRST, LAST)
    found = answered_by(read(wanted.output))
    assert found == {
        (101, 1): {days[0]: 4, days[1]: 5, days[3]: 6, days[4]: 0, days[5]: 0, days[6]: 0},
        (101, 2): {days[0]: 4, days[3]: 0, days[4]: 0, days[5]: 0, days[6]: 0},
        (101, 3): {days[1]: 5, days[3]: 0, days[4]: 0, days[5]: 0, days[6]: 0},
        (101, 4): dict.fromkeys([*days[:2], *days[3:]], 0),
    }


def test_one_request_without_a_usable_row_costs_the_whole_day(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """A poll of two requests would have failed."""

    def answer(options: Mapping[str, str]) -> Reply:
        project = int(options["projects"])
        bad = {"projectid": 102, "queueid": 1, "date": "20260328", "lab": True}
        good = {"projectid": project, "queueid": 1, "date": "20260327", "lab": 1}
        return Reply(200, statistics_body([good, bad] if options["from"] == "20260320" and project == 102 else []))

    api.answer("bank", answer)
    customer = bank(api, projects=[{"id": 101, "queues": {5: "x"}}, {"id": 102, "sla": 20}])
    fill(wanted, clock, customer)
    days = ends(FIRST, LAST)
    assert list(answered_by(read(wanted.output))[101, 5]) == [days[0], *days[2:]]


def test_a_row_without_a_date_takes_its_queue_off_the_days_it_may_belong_to(
    api: Simulator, clock: SetClock, wanted: Wanted
) -> None:
    """Within its month, and no further: there is no false zero, and other queues are not touched."""

    def answer(options: Mapping[str, str]) -> Reply:
        rows = [row(1, 1, date="20260328"), row(2, 1, date="20260328"), row(1, 1)]
        return Reply(200, statistics_body(rows if options["from"] == "20260320" else []))

    api.answer("bank", answer)
    assert remarks(wanted, clock, bank(api)) == (
        "1 row cannot be used, the first for no date, in an answer about several days",
    )
    fill(wanted, clock, bank(api))
    days = ends(FIRST, LAST)
    found = answered_by(read(wanted.output))
    assert {pair[1]: list(series) for pair, series in found.items()} == {1: [days[1], *days[5:]], 2: days[1:]}


def test_neither_schedule_nor_hours_hide_a_past_day(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """A customer that is polled on Mondays, at eight, has its Sunday evening all the same."""
    customer = bank(
        api,
        schedule="0 8 * * mon",
        hours={"mon": "08:00-09:00"},
        holidays=["HU"],
        poll={"timeout": "10m", "stale_after": "1s"},
    )
    fill(wanted, clock, customer)
    assert {len(series) for series in read(wanted.output).values()} == {7}


def test_projects_with_thresholds_of_their_own_are_asked_for_as_in_a_poll(
    api: Simulator, clock: SetClock, wanted: Wanted
) -> None:
    """Month by month, the lookback's days included; the names are asked for first."""
    customer = bank(api, projects=[{"id": 101}, {"id": 102, "sla": 20}], other_projects=True)
    fill(wanted, clock, customer)
    parts = [(march(20), march(31)), (date(2026, 4, 1), LAST)]
    assert [seen.path for seen in api.requests] == [
        PROJECTS,
        *(
            question.target()
            for first, last in parts
            for question in (
                Question(first, last, 30, projects=(101,)),
                Question(first, last, 20, projects=(102,)),
                Question(first, last, 30),
            )
        ),
    ]
    found = {pair[0] for _, _, pair in read(wanted.output)}
    assert found == {101, 102, 103}


def test_customers_are_in_the_configs_order_family_by_family(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """Whichever was asked first; two entries may be the same account."""
    asked, _ = fill(wanted, clock, webshop(api), bank(api), bank(api, name="again", subdomain="bank"))
    lines = [line for line in wanted.output.read_text().splitlines() if line.startswith(ANSWERED)]
    order = list(dict.fromkeys(line.partition('customer="')[2].partition('"')[0] for line in lines))
    assert order == [found.customer.name for found in asked] == ["webshop", "bank", "again"]
    found = read(wanted.output)
    for (name, customer, pair), series in found.items():
        assert customer != "again" or found[name, "bank", pair] == series


def test_the_page_is_what_the_file_shows(api: Simulator, clock: SetClock, tmp_path: Path) -> None:
    """Names that would break a line are escaped, and a statistic that no row has is no family."""
    odd = 'a "b" \\ c\n # HELP d{e="f"} 1'
    api.answer("bank", [{"projectid": 102, "name": f"Z\r\n{odd}"}], PROJECTS)
    only = {"projectid": 101, "queueid": -1, "lqt": 1e21, "time_before_queue": -0.5}
    api.answer("bank", answering({march(30): [only], march(31): [only, {**only, "projectid": 102, "queueid": 3}]}))
    customer = bank(
        api, name=odd.replace("\n", " "), subdomain="bank", projects=[{"id": 101, "name": "1"}, {"id": 102}]
    )
    wanted = Wanted(march(30), march(31), tmp_path / "past.om")
    fill(wanted, clock, customer)
    assert wanted.output.read_bytes() == (DATA / "pages" / "past.om").read_bytes()


def test_no_call_and_no_known_queue_is_told(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """The file is whole, and there is nothing to load."""
    api.answer("bank", [])
    asked, written = fill(wanted, clock, bank(api))
    assert wanted.output.read_text() == "# EOF\n"
    told = backfill.summary(asked, wanted, written)
    assert told.endswith(
        "past.om: 7 days of 1 customer, 0 series, 0 samples; 2 requests made\n"
        "No queue is known on these days, so that there is nothing to load.\n"
    )


def test_the_summary_says_how_to_load_it(api: Simulator, clock: SetClock, tmp_path: Path) -> None:
    """The command can be pasted, whatever the file is called."""
    wanted = Wanted(FIRST, LAST, tmp_path / "my past.om")
    asked, written = fill(wanted, clock, bank(api), webshop(api))
    assert backfill.summary(asked, wanted, written) == (
        f"{wanted.output}: 7 days of 2 customers, {written.series} series, {written.samples} samples; "
        f"4 requests made\nLoad it with\n"
        f"    promtool tsdb create-blocks-from openmetrics '{wanted.output}' DATA_DIR\n"
        "into the folder of Prometheus' --storage.tsdb.path. Its --storage.tsdb.retention.time must reach back to\n"
        "2026-03-27, or it deletes these days again.\n"
    )


# Names.


def test_projects_have_the_names_that_the_api_gives_now(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """Without them the ids stand in, and that is told, since live series are called otherwise."""
    fill(wanted, clock, bank(api))
    assert 'project_name="Retail banking"' in wanted.output.read_text()
    wanted.output.unlink()
    api.misbehave("bank", "forbidden", path="projects")
    assert remarks(wanted, clock, bank(api)) == (
        "projects that the config does not name are called by their ids: the key is not allowed /v2/projects",
    )
    fill(wanted, clock, bank(api))
    assert 'project_name="101"' in wanted.output.read_text()


def test_the_key_stands_neither_in_the_output_nor_in_words(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """An API that echoes it in names, in rows that cannot be used and in errors is told without it."""
    api.answer("bank", [{"projectid": 101, "name": f"x {KEY}"}], PROJECTS)
    api.answer("bank", answering({march(28): [row(1, KEY), row(2, 1)]}))
    assert KEY not in "".join(remarks(wanted, clock, bank(api)))
    fill(wanted, clock, bank(api))
    assert KEY not in wanted.output.read_text()
    wanted.output.unlink()
    api.answer("bank", Reply(200, json.dumps({"response": [], "errors": [KEY]}).encode()))
    assert failure(wanted, clock, bank(api)).startswith(
        "invalid_response: not a usable answer: it reports errors: [redacted]; check url"
    )


# Going on.


def failing(api: Simulator, first: str) -> Callable[[Mapping[str, str]], Reply]:
    """Answer as the simulator does, but for requests that begin on this day."""
    other = Simulator(now=api.now)

    def answer(options: Mapping[str, str]) -> Reply:
        if options["from"] == first:
            return Reply(500)
        return other.reply("GET", f"/v2/statistics/inbound?{urlencode(options, safe=',')}", ("bank", KEY))

    return answer


def test_a_second_run_asks_only_for_what_is_missing(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """Answers are kept, for nobody else to read, until all are there; the output is as if nothing had happened."""
    undisturbed = Wanted(FIRST, LAST, wanted.output.with_name("other.om"))
    fill(undisturbed, clock, bank(api), webshop(api))
    before = len(api.requests)
    api.answer("bank", failing(api, "20260401"))
    failed, good = ask(wanted, clock, bank(api), webshop(api))
    assert isinstance(failed, Verdict)
    assert failed.words.startswith("server_error: HTTP 500")
    assert isinstance(good, Asked)
    kept = list(wanted.parts.iterdir())
    assert len(kept) == 3
    assert {file.stat().st_mode & 0o777 for file in kept} == {0o600}
    assert wanted.parts.stat().st_mode & 0o777 == 0o700
    assert not wanted.output.exists()

    again = len(api.requests)
    assert again - before == 6
    api.answer("bank", failing(api, ""))
    asked, _ = fill(wanted, clock, bank(api), webshop(api))
    assert sorted((seen.customer, seen.path) for seen in api.requests[again:]) == [
        ("bank", PROJECTS),
        ("bank", Question(date(2026, 4, 1), LAST, 30).target()),
        ("webshop", PROJECTS),
    ]
    assert [found.requests for found in asked] == [1, 0]
    assert read(wanted.output) == read(undisturbed.output)
    assert not wanted.parts.exists()


def test_half_an_answer_is_not_kept(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """Nor is one that is no documented answer; the next run asks again."""
    for fault in ("short_body", "html", "errors_in_200"):
        api.misbehave("bank", fault, path="statistics")
        assert failure(wanted, clock, bank(api)).startswith("invalid_response: ")
        assert list(wanted.parts.iterdir()) == []
    api.heal("bank")
    fill(wanted, clock, bank(api))


def test_an_answer_about_other_days_is_not_kept(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """What cannot be placed on any day would be a month of false zeros."""
    api.answer("bank", [row(1, 1, date="20260101")])
    assert failure(wanted, clock, bank(api)) == (
        "invalid_response: not a usable answer: none of 1 row is of a day that was asked for: "
        f"{OTHER_DATE} (20260101 for 20260320); {RESULT_MEANINGS[Result.INVALID_RESPONSE][1]}"
    )
    assert list(wanted.parts.iterdir()) == []


def test_what_was_kept_and_is_damaged_is_asked_for_again(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """A disk that was full, or a power cut, spoils one answer and not the history."""
    ask(wanted, clock, bank(api))
    damaged = min(wanted.parts.iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-20])
    asked, _ = fill(wanted, clock, bank(api))
    assert asked[0].requests == 1


def test_answers_are_kept_by_everything_that_decides_them(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """Another account, threshold, team or address is another question; another name or key is not."""
    for keys in ({}, {"sla": 20}, {"teams": [1]}, {"name": "webshop", "api_key": api.centres["webshop"].key}):
        (asked,) = ask(wanted, clock, bank(api, **keys))
        assert isinstance(asked, Asked)
        assert asked.requests == 2
    (asked,) = ask(wanted, clock, bank(api, name="same", subdomain="bank"))
    assert isinstance(asked, Asked)
    assert asked.requests == 0


def test_an_answer_that_vanishes_before_it_is_written_is_told(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """Nothing is written then."""
    asked = [found for found in ask(wanted, clock, bank(api)) if isinstance(found, Asked)]
    min(wanted.parts.iterdir()).unlink()
    with pytest.raises(BackfillError, match="is gone; run the same command again"):
        backfill.write(asked, wanted)
    assert not wanted.output.exists()


def test_what_somebody_else_put_beside_the_answers_stays(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """Only our own files are removed, those of a run that was ended in the middle included."""
    wanted.parts.mkdir()
    (wanted.parts / "notes.txt").touch()
    (wanted.parts / "half.tmp").touch()
    fill(wanted, clock, bank(api))
    assert [file.name for file in wanted.parts.iterdir()] == ["notes.txt"]


def test_an_output_that_appears_meanwhile_is_not_overwritten(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """The answers stay."""
    asked = [found for found in ask(wanted, clock, bank(api)) if isinstance(found, Asked)]
    wanted.output.write_text("mine")
    with pytest.raises(BackfillError, match="exists already"):
        backfill.write(asked, wanted)
    assert wanted.output.read_text() == "mine"
    assert len(list(wanted.parts.glob("*.json"))) == 2


def test_a_folder_that_cannot_be_made_is_told(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """Before anybody is asked."""
    wanted.parts.touch()
    with pytest.raises(BackfillError, match=r"past\.om\.parts cannot be written: File exists"):
        ask(wanted, clock, bank(api))
    assert api.requests == ()


def test_an_answer_that_cannot_be_kept_is_told(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """It is no fault of the API's and none of ours."""

    def answer(_: Mapping[str, str]) -> Reply:
        wanted.parts.rmdir()
        return Reply(200, statistics_body([]))

    api.answer("bank", answer)
    assert failure(wanted, clock, bank(api)) == f"{wanted.parts} cannot be written: No such file or directory"


def test_progress_counts_the_months_of_all_customers(api: Simulator, clock: SetClock, wanted: Wanted) -> None:
    """Each once, those that were kept included."""
    told: list[tuple[int, int]] = []
    for _ in range(2):
        list(backfill.ask([bank(api), webshop(api)], wanted, clock, lambda *months: told.append(months)))
    assert told == [(number, 4) for number in range(1, 5)] * 2


# What is refused.

HERE: Final = Path("here")
REFUSED: Final[dict[str, tuple[Wanted, str]]] = {
    "backwards": (Wanted(LAST, FIRST, HERE), "--from 2026-04-02 is after --to 2026-03-27"),
    "too many days": (
        Wanted(date(2021, 3, 1), date(2026, 3, 6), HERE),
        "from 2021-03-01 to 2026-03-06 is 1832 days; at most 1830 at a time",
    ),
    "today": (
        Wanted(FIRST, date(2026, 4, 8), HERE),
        "--to 2026-04-08 is not over yet for acme in Europe/Budapest; the last day that is over there is 2026-04-07",
    ),
    "not over everywhere": (
        Wanted(FIRST, date(2026, 4, 7), HERE),
        "--to 2026-04-07 is not over yet for west in Pacific/Pago_Pago; the last day that is over there is 2026-04-06",
    ),
    "no folder": (
        Wanted(FIRST, LAST, Path("nowhere/past.om")),
        "there is no folder nowhere for --output nowhere/past.om",
    ),
    "it exists": (Wanted(FIRST, LAST, Path("/dev/null")), "/dev/null exists already, and is not overwritten"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_done_is_refused_in_words(what: str) -> None:
    """Before anybody is asked."""
    wanted, words = REFUSED[what]
    customers = make_customer(), make_customer(name="west", timezone="Pacific/Pago_Pago")
    with pytest.raises(BackfillError) as caught:
        backfill.check(wanted, customers, NOW)
    assert str(caught.value) == words


def test_a_link_that_leads_nowhere_exists(tmp_path: Path) -> None:
    """Writing through it would make a file that nobody asked for."""
    (tmp_path / "past.om").symlink_to("nowhere")
    with pytest.raises(BackfillError, match="exists already"):
        backfill.check(Wanted(FIRST, LAST, tmp_path / "past.om"), [make_customer()], NOW)


def test_the_last_day_that_is_over_may_be_wanted(tmp_path: Path) -> None:
    """In each customer's zone, and up to five years of days."""
    yesterday = date(2026, 4, 6)
    customers = make_customer(), make_customer(name="west", timezone="Pacific/Pago_Pago")
    first = yesterday - timedelta(days=backfill.MOST_DAYS - 1)
    backfill.check(Wanted(first, yesterday, tmp_path / "past.om"), customers, NOW)


def test_customers_are_chosen_by_name() -> None:
    """In the config's order, each once; all where none is named."""
    customers = [make_customer(name=name) for name in ("a", "b", "c")]
    assert backfill.chosen(customers, []) == customers
    assert backfill.chosen(customers, ["c", "a", "c"]) == [customers[0], customers[2]]


def test_an_unknown_customer_is_told_with_the_nearest_or_with_all() -> None:
    """A slip is told apart from another config."""
    customers = [make_customer(name=name) for name in ("acme", "globex")]
    for name, hint in {"acne": "did you mean 'acme'?", "zzz": "there are acme, globex"}.items():
        with pytest.raises(BackfillError) as caught:
            backfill.chosen(customers, ["acme", name])
        assert str(caught.value) == f"the config has no customer {name!r}; {hint}"


def test_dates_have_one_spelling() -> None:
    """Others are refused, and years before there was anything to ask for."""
    assert backfill.read_date("2026-01-31") == date(2026, 1, 31)
    for text in (
        "20260131",
        "2026-W05-6",
        "2026-1-31",
        "1999-12-31",
        "2026-02-29",
        "",
        "yesterday",
        "\u0662\u0660\u0662\u0666-01-31",
    ):
        with pytest.raises(ValueError, match=r".*"):
            backfill.read_date(text)
