"""The one place where state lives: whole swaps, reloads, and a page that ends by itself."""

import gzip
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Final

import pytest
from isal import isal_zlib
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from support import SetClock, make_customer

from vcc_exporter import exposition
from vcc_exporter.answer import Answer
from vcc_exporter.config import Customer
from vcc_exporter.exposition import CUSTOMERS_A_BLOCK, Exporter, Format, Page, render_process
from vcc_exporter.schedule import first_poll, place
from vcc_exporter.snapshot import CustomerState, with_answer, with_failure, with_lookback
from vcc_exporter.store import Store
from vcc_exporter.vocabulary import DATA_FAMILIES, STATISTICS, Result

TODAY: Final = date(2026, 3, 11)
MIDNIGHT: Final = datetime(2026, 3, 11, 23, 0, tzinfo=UTC)
"""The end of that day in Budapest."""
LOADED: Final = Exporter("1.2.3", datetime(2026, 3, 11, 9, 0, tzinfo=UTC))
_LINE: Final = re.compile(r'(\w+)\{(?:.*,)?customer="([^"]*)".*\} (\S+)$')
_DATA: Final = {family.name for family in DATA_FAMILIES}

Change = Callable[[CustomerState], CustomerState]


def make_store(clock: SetClock, *customers: Customer) -> Store:
    """Return a store that has taken over a config."""
    store = Store(clock, "1.2.3")
    store.configure(customers, LOADED)
    return store


def answered(clock: SetClock, value: float) -> Change:
    """Return the change that a good poll makes, all of whose numbers are the same."""
    values = (value,) * len(STATISTICS)
    found = Answer({(1, -1): values, (1, 5): values, (2, 7): values}, frozenset(), ())
    moment = clock.moment()
    return lambda state: with_answer(state, TODAY, found, moment, 1.0)


def failed(state: CustomerState) -> CustomerState:
    """Return the state after a poll that failed."""
    return with_failure(state, Result.TIMEOUT, "no answer", 1.0)


def text_of(page: Page) -> str:
    """Return a page as it is sent."""
    return b"".join(page.body(Format.TEXT, gzip=False).parts).decode()


def lines_of(text: str, customer: str) -> list[tuple[str, float]]:
    """Return the names and values of a customer's lines."""
    found = (_LINE.match(line) for line in text.splitlines())
    return [(match[1], float(match[3])) for match in found if match and match[2] == customer]


def data_of(text: str, customer: str) -> list[float]:
    """Return the values of a customer's data lines."""
    return [value for name, value in lines_of(text, customer) if name in _DATA]


def one(text: str, name: str, customer: str) -> float:
    """Return the value of a customer's only line of a name."""
    (value,) = [value for found, value in lines_of(text, customer) if found == name]
    return value


def in_threads(*jobs: Callable[[], None], meanwhile: Callable[[], None] = lambda: None) -> None:
    """Run jobs at the same time, and something else again and again until they are over, and once then."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads take turns in the middle of things
    try:
        with ThreadPoolExecutor(len(jobs)) as pool:
            running = [pool.submit(job) for job in jobs]
            while not all(job.done() for job in running):
                meanwhile()
            for job in running:
                job.result()
    finally:
        sys.setswitchinterval(usual)
    meanwhile()


# --- Update ----------------------------------------------------------------------------------------------------------


def test_an_update_is_on_the_page_at_once() -> None:
    """The state that a change made is returned, and the next page says it."""
    clock, customer = SetClock(), make_customer()
    store = make_store(clock, customer)
    state = store.update(customer, answered(clock, 7.0))
    assert state is store.state("acme")
    assert state
    assert state.polls[Result.SUCCESS] == 1
    assert data_of(text_of(store.page()), "acme") == [7.0] * 3 * len(STATISTICS)


def test_what_publishes_tidies_up_after_each_page() -> None:
    """By then the page says what has changed."""
    clock, customer = SetClock(), make_customer()
    store, stop, pages = make_store(clock, customer), threading.Event(), list[Page | None]()
    store.update(customer, answered(clock, 7.0))

    def tidy() -> None:
        pages.append(store.published())
        stop.set()

    store.keep_publishing(stop, tidy)
    (page,) = pages
    assert page
    assert data_of(text_of(page), "acme") == [7.0] * 3 * len(STATISTICS)


def test_a_page_that_was_taken_does_not_change() -> None:
    """A reader that holds a page reads what it was, whatever is written meanwhile."""
    clock, customer = SetClock(), make_customer()
    store = make_store(clock, customer)
    store.update(customer, answered(clock, 7.0))
    page = store.page()
    before = text_of(page)
    store.update(customer, answered(clock, 8.0))
    store.configure([], LOADED)
    assert text_of(page) == before


def test_while_nothing_changes_the_page_is_the_same_object() -> None:
    """A scrape renders nothing anew."""
    clock, customer = SetClock(), make_customer()
    store = make_store(clock, customer)
    store.update(customer, answered(clock, 7.0))
    page = store.page()
    clock.advance(timedelta(minutes=4))
    assert store.page() is page


def test_an_update_with_other_settings_changes_nothing() -> None:
    """A poll that began under settings that are no more leaves no trace, nor does one of a customer that is gone."""
    clock, old = SetClock(), make_customer(teams=[3])
    store = make_store(clock, old)
    store.configure([make_customer(teams=[4])], LOADED)
    page = store.page()
    assert store.update(old, answered(clock, 7.0)) is None
    assert store.page() is page
    store.configure([], LOADED)
    assert store.update(old, answered(clock, 7.0)) is None
    assert store.state("acme") is None


def test_no_update_is_lost_where_several_write() -> None:
    """A change that another writer overtook is made again from the newer state."""
    clock, customer = SetClock(), make_customer()
    store = make_store(clock, customer)

    def write() -> None:
        for _ in range(200):
            assert store.update(customer, failed)

    in_threads(write, write, write)
    state = store.state("acme")
    assert state
    assert (state.polls[Result.TIMEOUT], state.poll_seconds) == (600, 600.0)
    assert one(text_of(store.page()), "vcc_poll_duration_seconds_count", "acme") == 600


def test_a_change_that_is_overtaken_starts_from_the_newer_state() -> None:
    """A change sees what a faster one wrote while it was being made."""
    clock, customer = SetClock(), make_customer()
    store = make_store(clock, customer)
    seen: list[int] = []

    def slow(state: CustomerState) -> CustomerState:
        seen.append(state.polls[Result.TIMEOUT])
        if len(seen) == 1:
            store.update(customer, failed)
        return failed(state)

    store.update(customer, slow)
    assert seen == [0, 1]
    state = store.state("acme")
    assert state
    assert state.polls[Result.TIMEOUT] == 2


def test_a_reader_never_sees_half_an_answer() -> None:
    """Under writers and reloads every page has one whole answer of each customer, and never an older one."""
    clock = SetClock()
    customers = [make_customer(name=f"customer-{n}") for n in range(CUSTOMERS_A_BLOCK + 4)]
    customers.sort(key=lambda c: place(c.name))
    store = make_store(clock, *customers)
    # Two of one block and one of another.
    written = [customers[0], customers[1], customers[-1]]
    last = {c.name: 0.0 for c in written}
    for customer in written:
        store.update(customer, answered(clock, 0.0))

    def write(customer: Customer) -> None:
        for generation in range(1, 501):
            assert store.update(customer, answered(clock, float(generation)))

    def reload() -> None:
        for n in range(40):
            store.configure(customers if n % 2 else [*customers[:2], *customers[3:]], LOADED)

    def read() -> None:
        page = store.page()
        for text in (text_of(page), gzip.decompress(b"".join(page.body(Format.OPENMETRICS, gzip=True).parts)).decode()):
            for name, before in last.items():
                values = data_of(text, name)
                assert len(values) == 3 * len(STATISTICS)
                assert len(set(values)) == 1
                assert values[0] >= before
                last[name] = values[0]

    in_threads(*(partial(write, customer) for customer in written), reload, meanwhile=read)
    assert set(last.values()) == {500.0}


# --- Many customers --------------------------------------------------------------------------------------------------


def order_of(store: Store) -> list[str]:
    """Return the customers in the page's order."""
    return re.findall(r'vcc_customer_active\{customer="([^"]*)"', text_of(store.page()))


def test_a_hundred_customers_stand_in_blocks_in_an_order_that_stays() -> None:
    """Each customer is on the page once, in the order of their places, whatever the config's order and updates."""
    clock = SetClock()
    customers = [make_customer(name=f"customer-{n}") for n in range(100)]
    store = make_store(clock, *customers)
    assert len(store.page().blocks) == -(-100 // CUSTOMERS_A_BLOCK)
    order = [c.name for c in sorted(customers, key=lambda c: place(c.name))]
    assert order_of(store) == order == list(store.views())
    for customer in customers[::7]:
        store.update(customer, answered(clock, 7.0))
    assert order_of(store) == order
    store.configure(reversed(customers), LOADED)
    assert order_of(store) == order == list(store.views())
    assert [len(data_of(text_of(store.page()), c.name)) > 0 for c in customers] == [n % 7 == 0 for n in range(100)]


def test_an_update_leaves_other_customers_blocks_alone() -> None:
    """Of a hundred customers one update makes one block anew, and in it the data of no other customer."""
    clock = SetClock()
    customers = sorted((make_customer(name=f"customer-{n}") for n in range(100)), key=lambda c: place(c.name))
    store = make_store(clock, *customers)
    for customer in customers:
        store.update(customer, answered(clock, 7.0))
    before = store.page()
    store.update(customers[40], answered(clock, 7.0))
    after = store.page()
    changed = [i for i, (a, b) in enumerate(zip(before.blocks, after.blocks, strict=True)) if a is not b]
    assert changed == [40 // CUSTOMERS_A_BLOCK]
    pieces = zip(before.blocks[changed[0]].pieces, after.blocks[changed[0]].pieces, strict=True)
    assert [a is b for a, b in pieces][: len(DATA_FAMILIES)] == [True] * len(DATA_FAMILIES)


def test_of_a_large_page_what_did_not_change_is_put_together_once() -> None:
    """Runs of blocks are taken over, with what was made of them; blocks are found in their places all the same."""
    clock = SetClock()
    customers = sorted((make_customer(name=f"customer-{n}") for n in range(1200)), key=lambda c: place(c.name))
    store = make_store(clock, *customers)
    before = store.page()
    before.body(Format.TEXT, gzip=True)
    for seat in (0, 1199):
        store.update(customers[seat], answered(clock, 7.0))
    after = store.page()
    first, *between, last = (a is b for a, b in zip(before.runs, after.runs, strict=True))
    assert (first, last) == (False, False)
    assert between
    assert all(between)
    changed = [number for number, (a, b) in enumerate(zip(before.blocks, after.blocks, strict=True)) if a is not b]
    assert changed == [0, 1199 // CUSTOMERS_A_BLOCK]
    assert [after.block(number) for number in range(len(after.blocks))] == list(after.blocks)
    for page in (before, after):
        assert gzip.decompress(b"".join(page.body(Format.TEXT, gzip=True).parts)).decode() == text_of(page)


def test_the_customers_a_caller_gets_are_a_copy_that_is_true_now() -> None:
    """What is returned can be changed without harm, and says what the page says at that moment."""
    clock, customer = SetClock(), make_customer()
    store = make_store(clock, customer)
    store.update(customer, answered(clock, 7.0))
    found = dict(store.views())
    assert found["acme"].rows
    found.clear()
    clock.advance(timedelta(minutes=5))
    assert store.views()["acme"].rows == ()


# --- Reload ----------------------------------------------------------------------------------------------------------


def test_a_customer_whose_settings_are_the_same_stays_as_it_is() -> None:
    """After a reload of an equal config a poll under way is still welcome, and nothing on the page has changed."""
    clock, customer = SetClock(), make_customer()
    store = make_store(clock, customer, make_customer(name="beta"))
    store.update(customer, answered(clock, 7.0))
    before = store.page()
    store.configure([make_customer(name="beta"), make_customer()], LOADED)
    state = store.state("acme")
    assert state
    assert state.customer is customer
    assert text_of(store.page()) == text_of(before)
    assert store.update(customer, answered(clock, 8.0))


def test_a_reload_compresses_nothing_again_that_stays() -> None:
    """Where a reload changes no line of a block its pieces are the same objects, with what they hold ready."""
    clock, customer = SetClock(), make_customer()
    store = make_store(clock, customer)
    store.update(customer, answered(clock, 7.0))
    before = [piece for block in store.page().blocks for piece in block.pieces]
    store.configure([make_customer()], LOADED)
    after = [piece for block in store.page().blocks for piece in block.pieces]
    assert all(a is b for a, b in zip(before, after, strict=True))


def test_new_names_and_targets_are_on_the_page_at_once() -> None:
    """A reload that asks the same question puts the new words beside the old values."""
    clock = SetClock()
    store = make_store(clock, make_customer(projects=[{"id": 1}], other_projects=True))
    state = store.state("acme")
    assert state
    store.update(state.customer, answered(clock, 7.0))
    projects = [{"id": 1, "name": "Support", "targets": {"min_calls": 3}}]
    store.configure([make_customer(projects=projects, other_projects=True, labels={"tier": "gold"})], LOADED)
    text = text_of(store.page())
    assert set(data_of(text, "acme")) == {7.0}
    assert text.count('project="1",project_name="Support"') == 2 * len(STATISTICS)
    assert 'vcc_inbound_target_min_calls{customer="acme",project="1"} 3.0\n' in text
    assert 'vcc_customer_info{customer="acme",tier="gold",timezone="Europe/Budapest"} 1.0\n' in text


@pytest.mark.parametrize("changed", [{"timezone": "Asia/Kolkata"}, {"sla": 20}, {"teams": [3]}])
def test_another_question_takes_the_values_and_keeps_the_counters(changed: dict[str, Any]) -> None:
    """Values that were asked with other settings are gone with the reload; counters and the last success stay."""
    clock, customer = SetClock(), make_customer()
    store = make_store(clock, customer)
    store.update(customer, failed)
    store.update(customer, answered(clock, 7.0))
    store.configure([make_customer(**changed)], LOADED)
    text = text_of(store.page())
    assert data_of(text, "acme") == []
    assert one(text, "vcc_up", "acme") == 0.0
    assert one(text, "vcc_poll_duration_seconds_count", "acme") == 2.0
    assert one(text, "vcc_poll_last_success_timestamp_seconds", "acme") == clock.wall.timestamp()


def test_a_removed_customer_goes_at_once_and_one_that_returns_starts_at_0() -> None:
    """No line of a removed customer is left, those beside it stay, and it comes back as a new one."""
    clock, acme, beta = SetClock(), make_customer(), make_customer(name="beta")
    store = make_store(clock, acme, beta)
    for customer in (acme, beta):
        store.update(customer, answered(clock, 7.0))
    store.configure([beta], LOADED)
    text = text_of(store.page())
    assert lines_of(text, "acme") == []
    assert set(data_of(text, "beta")) == {7.0}
    assert (store.state("acme"), list(store.views())) == (None, ["beta"])
    store.configure([acme, beta], LOADED)
    assert {value for name, value in lines_of(text_of(store.page()), "acme") if name == "vcc_polls_total"} == {0.0}
    assert store.state("acme") == CustomerState(acme, next_poll=first_poll(acme, 2, clock.wall))


def test_a_reload_that_failed_changes_nothing_but_what_it_says() -> None:
    """After a failed reload customers are as before, the gauge is 0 and the time that of the last good one."""
    clock, customer = SetClock(), make_customer()
    store = make_store(clock, customer)
    store.update(customer, answered(clock, 7.0))
    good = text_of(store.page())
    store.reload_failed()
    assert text_of(store.page()) == good.replace("reload_successful 1.0", "reload_successful 0.0")
    later = replace(LOADED, config_loaded=LOADED.config_loaded + timedelta(hours=1))
    store.configure([customer], later)
    text = text_of(store.page())
    assert "vcc_exporter_config_last_reload_successful 1.0\n" in text
    assert (
        f"success_timestamp_seconds {later.config_loaded.timestamp()}".replace("1773223200.0", "1.7732232e+09") in text
    )


# --- Ready -----------------------------------------------------------------------------------------------------------


def is_ready(store: Store) -> bool:
    """Return whether a store is ready; a function, since its answer changes between two asserts."""
    return store.ready


def test_ready_is_when_every_customer_was_polled_once_well_or_badly() -> None:
    """A lookback makes nobody ready, a failed poll does, and the last customer decides."""
    clock, acme, beta = SetClock(), make_customer(), make_customer(name="beta")
    store = Store(clock, "1.2.3")
    assert not is_ready(store)
    store.configure([acme, beta], LOADED)
    store.update(acme, lambda state: with_lookback(state, TODAY, frozenset(), clock.wall))
    store.update(acme, failed)
    assert not is_ready(store)
    store.update(beta, answered(clock, 7.0))
    assert is_ready(store)


def test_a_reload_does_not_take_readiness_back() -> None:
    """Once ready, a new customer or none at all changes nothing."""
    clock, acme = SetClock(), make_customer()
    store = make_store(clock, acme)
    store.update(acme, failed)
    for customers in ([acme, make_customer(name="beta")], [], [make_customer(sla=9)]):
        store.configure(customers, LOADED)
        assert is_ready(store)


def test_ready_needs_no_customer_that_is_gone_or_another_shards() -> None:
    """Where the only customer that was not yet polled is removed, or there is none, nothing is left to wait for."""
    clock, acme, beta = SetClock(), make_customer(), make_customer(name="beta")
    store = make_store(clock, acme, beta)
    store.update(acme, failed)
    assert not is_ready(store)
    store.configure([acme], LOADED)
    assert is_ready(store)
    assert is_ready(make_store(clock))


# --- A page that ends by itself --------------------------------------------------------------------------------------


def test_at_midnight_the_page_has_no_data_without_any_write() -> None:
    """The page of the first instant of a day is without the values of the day before, and the day's start."""
    clock, customer = SetClock(MIDNIGHT - timedelta(seconds=1)), make_customer()
    store = make_store(clock, customer)
    store.update(customer, answered(clock, 7.0))
    assert set(data_of(text_of(store.page()), "acme")) == {7.0}
    clock.advance(timedelta(seconds=1))
    text = text_of(store.page())
    assert data_of(text, "acme") == []
    assert "day_start" not in text
    assert one(text, "vcc_up", "acme") == 0.0
    assert store.page() is store.page()


@pytest.mark.parametrize("which", ["both clocks", "wall clock", "monotonic clock"])
def test_stale_values_leave_the_page_without_any_write(which: str) -> None:
    """Five minutes after the last good answer, on either clock, the data are gone."""
    clock, customer = SetClock(), make_customer()
    store = make_store(clock, customer)
    store.update(customer, answered(clock, 7.0))
    clock.advance(timedelta(minutes=5) - timedelta(seconds=1))
    assert data_of(text_of(store.page()), "acme")
    if which != "monotonic clock":
        clock.wall += timedelta(seconds=1)
    if which != "wall clock":
        clock.seconds += 1
    assert data_of(text_of(store.page()), "acme") == []


def test_the_page_follows_the_hours_and_the_clock_wherever_it_goes() -> None:
    """Open and active are those of the present moment, also where the clock was put back, without any write."""
    clock = SetClock(datetime(2026, 3, 11, 6, 59, 59, tzinfo=UTC))
    store = make_store(clock, make_customer(hours={"mon-fri": "08:00-18:00"}, projects=[{"id": 1}]))

    def said() -> tuple[float, float]:
        text = text_of(store.page())
        return one(text, "vcc_inbound_open", "acme"), one(text, "vcc_customer_active", "acme")

    assert said() == (0.0, 0.0)
    clock.advance(timedelta(seconds=1))
    assert said() == (1.0, 1.0)
    clock.jump(timedelta(hours=-1))
    assert said() == (0.0, 0.0)
    clock.jump(timedelta(hours=1))
    assert said() == (1.0, 1.0)
    clock.advance(timedelta(hours=10))
    assert said() == (0.0, 0.0)


def test_values_come_back_with_a_clock_that_was_only_wrong_for_a_moment() -> None:
    """Where the wall clock jumps into tomorrow and back, today's values are there again, with their own day."""
    clock, customer = SetClock(), make_customer()
    store = make_store(clock, customer)
    store.update(customer, answered(clock, 7.0))
    before = text_of(store.page())
    clock.jump(timedelta(days=1))
    assert data_of(text_of(store.page()), "acme") == []
    clock.jump(timedelta(days=-1))
    assert text_of(store.page()) == before


def test_only_the_blocks_that_ended_are_made_anew() -> None:
    """Where one customer's values become stale, the blocks of the others stay as they are."""
    clock = SetClock()
    customers = sorted((make_customer(name=f"customer-{n}") for n in range(40)), key=lambda c: place(c.name))
    store = make_store(clock, *customers)
    store.update(customers[0], answered(clock, 7.0))
    clock.advance(timedelta(minutes=1))
    for customer in customers[1:]:
        store.update(customer, answered(clock, 8.0))
    before = store.page()
    clock.advance(timedelta(minutes=4))
    after = store.page()
    assert [a is b for a, b in zip(before.blocks, after.blocks, strict=True)] == [False, True, True]
    text = text_of(after)
    assert [len(data_of(text, c.name)) for c in customers[:2]] == [0, 3 * len(STATISTICS)]


def test_readers_at_a_midnight_all_see_the_new_day() -> None:
    """Many readers that find the page at its end at the same time get one that is true."""
    clock = SetClock(MIDNIGHT - timedelta(seconds=1))
    customers = [make_customer(name=f"customer-{n}") for n in range(20)]
    store = make_store(clock, *customers)
    for customer in customers:
        store.update(customer, answered(clock, 7.0))
    clock.advance(timedelta(seconds=1))

    def read() -> None:
        assert not _DATA & {name for c in customers for name, _ in lines_of(text_of(store.page()), c.name)}

    in_threads(*[read] * 8)


# --- What it costs, counted ------------------------------------------------------------------------------------------


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what costs time: families rendered, pieces joined and compressed, pages the library writes."""
    counted: Counter[str] = Counter()

    def count(where: Any, name: str, what: str) -> None:
        real = getattr(where, name)

        def counting(*args: Any) -> Any:
            counted[what] += 1
            return real(*args)

        monkeypatch.setattr(where, name, counting)

    count(exposition, "_data", "rendered")
    count(exposition, "_about", "customers")
    count(exposition.Piece, "__init__", "joined")
    count(isal_zlib, "compressobj", "compressed")
    count(exposition, "generate_latest", "encoded")
    count(exposition, "generate_openmetrics", "encoded")
    return counted


def full_store(clock: SetClock) -> tuple[Store, list[Customer]]:
    """Return a store of three blocks whose page has been scraped, and its customers in the page's order."""
    customers = sorted((make_customer(name=f"customer-{n}") for n in range(48)), key=lambda c: place(c.name))
    store = make_store(clock, *customers)
    for customer in customers:
        store.update(customer, answered(clock, 7.0))
    store.page().body(Format.TEXT, gzip=True)
    return store, customers


OF_A_POLL: Final = 2
"""Families that each good poll changes while the clock stands still: how many polls there were, and how long."""


def test_a_scrape_renders_and_compresses_nothing(work: Counter[str]) -> None:
    """Where nothing has changed an answer is what was sent before, the same object."""
    store, _ = full_store(SetClock())
    before = store.page().body(Format.TEXT, gzip=True)
    work.clear()
    assert store.page().body(Format.TEXT, gzip=True) is before
    assert work == Counter()


def test_a_poll_by_itself_renders_nothing(work: Counter[str]) -> None:
    """A poll stores what it learnt; what follows from it is made once for all that share a page."""
    clock = SetClock()
    store, customers = full_store(clock)
    work.clear()
    for _ in range(3):
        store.update(customers[0], answered(clock, 8.0))
    assert work == Counter()
    store.page()
    assert work["customers"] == 1


def test_an_answer_that_says_the_same_renders_no_data_family(work: Counter[str]) -> None:
    """What is made anew is the two families that count polls, and nothing else is compressed."""
    clock = SetClock()
    store, customers = full_store(clock)
    work.clear()
    store.update(customers[5], answered(clock, 7.0))
    store.page().body(Format.TEXT, gzip=True)
    assert work["rendered"] == 0
    assert work["joined"] == OF_A_POLL
    assert work["compressed"] == OF_A_POLL


def test_one_statistic_that_changed_is_one_family(work: Counter[str]) -> None:
    """Of nineteen families that of the statistic is rendered and compressed, for the customer's block alone."""
    clock = SetClock()
    store, customers = full_store(clock)
    values = dict.fromkeys(((1, -1), (1, 5), (2, 7)), (7.0,) * 18 + (8.0,))
    work.clear()
    found = Answer(values, frozenset(), ())
    store.update(customers[5], lambda state: with_answer(state, TODAY, found, clock.moment(), 1.0))
    store.page().body(Format.TEXT, gzip=True)
    assert work["rendered"] == 1
    assert work["compressed"] == 1 + OF_A_POLL


def test_neighbours_share_the_work_on_their_block(work: Counter[str]) -> None:
    """A block whose sixteen customers were polled is compressed once, as for one of them."""
    clock = SetClock()
    store, customers = full_store(clock)
    compressed = []
    for several, value in ((customers[:1], 8.0), (customers[:16], 9.0), (customers[:17], 10.0)):
        work.clear()
        for customer in several:
            store.update(customer, answered(clock, value))
        store.page().body(Format.TEXT, gzip=True)
        assert work["customers"] == len(several)
        compressed.append(work["compressed"])
    assert compressed == [len(STATISTICS) + OF_A_POLL, len(STATISTICS) + OF_A_POLL, 2 * (len(STATISTICS) + OF_A_POLL)]


def test_what_a_scraper_asks_for_stands_ready_before_it_asks_again(work: Counter[str]) -> None:
    """The new page is put together in the form that the last one was asked for, and in no other."""
    clock = SetClock()
    store, customers = full_store(clock)
    store.update(customers[0], answered(clock, 8.0))
    page = store.page()
    assert set(page.bodies) == {(Format.TEXT, True)}
    work.clear()
    page.body(Format.TEXT, gzip=True)
    assert work == Counter()


def test_the_library_writes_the_process_alone(work: Counter[str]) -> None:
    """Its writer, which takes a second for a hundred thousand series, sees the process's few, once a format."""
    store, _ = full_store(SetClock())
    work.clear()
    store.set_process(render_process(CollectorRegistry()))
    assert work["encoded"] == len(Format)
    assert work["rendered"] == work["customers"] == 0


def test_lines_stand_in_memory_once() -> None:
    """Of a page that is sent as it is, all parts but heads are the blocks' own bytes."""
    store, _ = full_store(SetClock())
    page = store.page()
    own = {id(piece.plain) for block in page.blocks for piece in block.pieces}
    parts = page.body(Format.TEXT, gzip=False).parts
    assert sum(len(part) for part in parts if id(part) not in own) < 10_000 < sum(map(len, parts))


# --- The process -----------------------------------------------------------------------------------------------------


class _OfTheProcess(Collector):
    """What stands for the metrics of the process."""

    def collect(self) -> Iterable[Metric]:
        """Yield one family."""
        yield GaugeMetricFamily("process_things", "Things.", value=3)


def test_the_metrics_of_the_process_are_taken_over() -> None:
    """The lines of the process stand at the page's end and stay there when customers change."""
    clock, customer = SetClock(), make_customer()
    store = make_store(clock, customer)
    registry = CollectorRegistry()
    registry.register(_OfTheProcess())
    store.set_process(render_process(registry))
    lines = "# TYPE process_things gauge\nprocess_things 3.0\n"
    assert text_of(store.page()).endswith(lines)
    store.update(customer, answered(clock, 7.0))
    assert text_of(store.page()).endswith(lines)
    store.configure([], LOADED)
    assert text_of(store.page()).endswith(lines)


def test_a_store_without_a_config_has_a_page_about_the_exporter_alone() -> None:
    """Before the first config there is a page, and nobody on it."""
    text = text_of(Store(SetClock(), "1.2.3").page())
    assert 'vcc_exporter_build_info{version="1.2.3"} 1.0\n' in text
    assert "customer" not in text
