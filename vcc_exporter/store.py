"""The one place where state lives: what is known of each customer, and the page that says it.

A writer makes its change ready without the lock and swaps it in whole; where another was faster it makes
it again from the newer state. The page follows a moment later: one thread makes it anew from all that has
changed meanwhile, so that what a poll costs does not depend on how many share a block with it, and a
scrape takes a reference and waits for nobody. Only where something on the page has just ceased to be true
is it made anew before anyone sees it.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from vcc_exporter.config import Customer
from vcc_exporter.exposition import (
    CUSTOMERS_A_BLOCK,
    Block,
    Exporter,
    Format,
    Page,
    Piece,
    Rendered,
    empty_page,
    in_runs,
    make_block,
    render,
    render_exporter,
)
from vcc_exporter.schedule import first_poll, place
from vcc_exporter.snapshot import CustomerState, Moment, View, view, with_settings
from vcc_exporter.times import Clock

log = logging.getLogger(__name__)

_PUBLISH_EVERY_S: Final = 2
"""Changes within it share one new page, but for the first that comes after as long without any.

Where it is half as long, polls cost a tenth more.
"""
_SHARES: Final = 8
"""In so many a page is shown on which all has changed."""
_LOOK_EVERY_S: Final = 1
"""How often to look whether something has ceased to be true."""


class Store:
    """State of all customers, and of the exporter itself. Every method may be called from any thread."""

    def __init__(self, clock: Clock, version: str) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        """Held for a swap of views, by whoever makes pages after the other."""
        self._views: dict[str, View] = {}
        """In the page's order: by place, so that customers that are polled one after another share a block."""
        self._unpolled: set[str] = set()
        self._all_polled = False
        """Whether every customer has been polled once; once true, it stays so."""
        self._changed: set[str] = set()
        """Customers of which the page does not yet say what is known."""
        self._change = threading.Event()
        self._publishing = threading.Lock()
        """Held while a page is made."""
        self._exporter = Exporter(version, clock.now())
        self._page = empty_page(self._exporter)
        self._ready = False

    def moment(self) -> Moment:
        """Return the present."""
        return Moment(self._clock.now(), self._clock.monotonic())

    # What readers ask for.

    def published(self) -> Page | None:
        """Return the page as it was made last, without waiting; None where it is not true any more."""
        page = self._page
        return page if page.holds(self.moment()) else None

    def page(self) -> Page:
        """Return the page as it is true now, with all that has changed; made anew where it must be."""
        with self._publishing:
            moment, all_polled = self.moment(), self._all_polled
            self._review(list(self._changed) if self._page.holds(moment) else list(self._views), moment)
            with self._lock:
                changed, self._changed = self._changed, set()
                self._change.clear()
            if changed:
                self._renew(changed)
            self._ready = all_polled
            return self._page

    def views(self) -> Mapping[str, View]:
        """Return what may be said of each customer now. The mapping is a copy; what it holds never changes."""
        self._review(list(self._views), self.moment())
        with self._lock:
            return dict(self._views)

    def state(self, name: str) -> CustomerState | None:
        """Return what is known of a customer; None for one that is not, or no longer, in the config."""
        found = self._views.get(name)
        return found.state if found else None

    @property
    def exporter(self) -> Exporter:
        """What is said of the exporter itself."""
        return self._exporter

    @property
    def ready(self) -> bool:
        """Whether the page says of every customer what a poll has brought; once true, it stays so."""
        if self._all_polled and not self._ready:
            self.page()
        return self._ready

    # What writers change.

    def update(self, customer: Customer, change: Callable[[CustomerState], CustomerState]) -> CustomerState | None:
        """Change a customer's state, and soon the page with it.

        `change` must be pure, since it is made again where another writer was faster. Nothing happens, and
        None is returned, where the customer has other settings by now or is gone.
        """
        while True:
            old = self._views.get(customer.name)
            if old is None or old.state.customer is not customer:
                return None
            state = change(old.state)
            if self._swap(old, view(state, self.moment(), old)):
                return state

    def configure(self, customers: Iterable[Customer], loaded: Exporter) -> None:
        """Take over the customers of a config. State of those that stay is kept as far as their settings allow.

        A customer whose settings are the same keeps its `Customer`, so that polls under way stay welcome. Any other
        is due anew, which is known before its page is made: to be told later would be to make all pages twice.
        """
        ordered = sorted(customers, key=lambda c: place(c.name))
        with self._publishing:
            moment = self.moment()
            with self._lock:
                views: dict[str, View] = {}
                for customer in ordered:
                    old = self._views.get(customer.name)
                    if old and old.state.customer == customer:
                        views[customer.name] = old
                    else:
                        state = with_settings(old.state, customer) if old else CustomerState(customer)
                        due = first_poll(customer, len(ordered), moment.wall)
                        views[customer.name] = view(replace(state, next_poll=due), moment)
                self._views = views
                self._changed.clear()  # all is looked at below
                self._unpolled = {name for name, said in views.items() if not said.state.polled}
                self._all_polled = self._all_polled or not self._unpolled
            self._exporter = loaded
            self._rearrange(loaded)

    def reload_failed(self, web_config_is_bad: bool = False) -> None:
        """Note that a config could not be loaded, and whether the web config had a fault."""
        self._tell(lambda e: replace(e, config_is_good=False))
        if web_config_is_bad:
            self.web_config_judged(good=False)

    def web_config_judged(self, good: bool) -> None:
        """Note whether the last attempt to load the web config succeeded."""
        self._tell(lambda e: replace(e, web_config_is_good=good))

    def _tell(self, change: Callable[[Exporter], Exporter]) -> None:
        with self._publishing:
            self._exporter = change(self._exporter)
            self._show(replace(self._page, exporter=render_exporter(self._exporter)))

    def set_process(self, lines: Mapping[Format, Piece]) -> None:
        """Take over the metrics of the process."""
        with self._publishing:
            self._show(replace(self._page, process=lines))

    def _swap(self, old: View, new: View) -> bool:
        """Put a customer's new view in the place of the one that it was made from, unless that is gone."""
        name = new.state.customer.name
        with self._lock:
            if self._views.get(name) is not old:
                return False
            self._views[name] = new
            self._changed.add(name)
            if new.state.polled:
                self._unpolled.discard(name)
                self._all_polled = self._all_polled or not self._unpolled
        self._change.set()
        return True

    def _review(self, names: Iterable[str], moment: Moment) -> None:
        """Say anew what is no longer true of some customers."""
        for name in names:
            said = self._views.get(name)
            if said and not said.holds(moment):
                # Where another is faster it says what is true.
                self._swap(said, view(said.state, moment, said))

    # The page.

    def keep_publishing(self, stop: threading.Event, tidy: Callable[[], None]) -> None:
        """Make the page anew whenever something has changed or has ceased to be true, until told to stop.

        `tidy` is called after each, when what was replaced is free.
        """
        while not stop.wait(_PUBLISH_EVERY_S):
            try:
                if self._change.wait(_LOOK_EVERY_S) or not self.published():
                    self.page()
                    tidy()
            except Exception:
                log.exception("unexpected fault")

    def _renew(self, changed: Iterable[str]) -> None:
        """Show the page on which some customers' lines are anew.

        It is shown in shares: what is no longer shown is freed before the next share is made, so that where all has
        changed there is not a second page in memory.
        """
        by_block = defaultdict[int, list[tuple[int, str]]](list)
        for name in changed:
            number, seat = divmod(self._page.seats[name], CUSTOMERS_A_BLOCK)
            by_block[number].append((seat, name))
        numbers, most = sorted(by_block), max(1, len(self._page.seats) // CUSTOMERS_A_BLOCK // _SHARES)
        for first in range(0, len(numbers), most):
            some = numbers[first : first + most]
            self._show(self._page.with_blocks({number: self._block(number, by_block[number]) for number in some}))

    def _block(self, number: int, seats: Iterable[tuple[int, str]]) -> Block:
        """Return a block in which what is said of those on some seats is what is known now."""
        return self._page.block(number).with_views({seat: self._views[name] for seat, name in seats})

    def _rearrange(self, exporter: Exporter) -> None:
        """Show the page of the customers that there are now."""
        names, old = list(self._views), self._page
        befores = iter(old.blocks)
        blocks: list[Block] = []
        for first in range(0, len(names), CUSTOMERS_A_BLOCK):
            some = names[first : first + CUSTOMERS_A_BLOCK]
            before = next(befores, None)
            if before and [said.state.customer.name for said in before.views] == some:
                new = {seat: self._views[n] for seat, n in enumerate(some) if self._views[n] is not before.views[seat]}
                blocks.append(before.with_views(new) if new else before)
            else:
                blocks.append(make_block([self._lines(name) for name in some]))
        seats = {name: seat for seat, name in enumerate(names)}
        self._show(replace(old, runs=in_runs(blocks), seats=seats, exporter=render_exporter(exporter)))

    def _lines(self, name: str) -> Rendered:
        said, shown = self._views[name], self._page.rendered(name)
        return shown if shown and shown.view is said else render(said, shown)

    def _show(self, page: Page) -> None:
        """Put a page in the place of the one before, with everything ready that readers asked of that."""
        for wanted in list(self._page.bodies):  # a copy, since a reader may ask for another form meanwhile
            page.body(*wanted)
        self._page = page
