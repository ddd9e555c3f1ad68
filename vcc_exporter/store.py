"""The one place where state lives: what is known of each customer, and the page that says it.

A writer makes its change ready without the lock and swaps it in whole; where another was faster it makes
it again from the newer state. A reader takes a reference and waits for nobody, except for the moment in
which something on the page has just ceased to be true.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from vcc_exporter.config import Customer
from vcc_exporter.exposition import (
    CUSTOMERS_A_BLOCK,
    Exporter,
    Format,
    Page,
    Piece,
    Rendered,
    empty_page,
    make_block,
    render,
    render_exporter,
)
from vcc_exporter.schedule import place
from vcc_exporter.snapshot import CustomerState, Moment, view, with_settings
from vcc_exporter.times import Clock


class Store:
    """State of all customers, and of the exporter itself. Every method may be called from any thread."""

    def __init__(self, clock: Clock, version: str) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rendered: dict[str, Rendered] = {}
        """In the page's order: by place, so that customers that are polled one after another share a block."""
        self._seat: dict[str, int] = {}
        self._exporter = Exporter(version, clock.now())
        self._page = empty_page(self._exporter)
        self._ready = False

    def moment(self) -> Moment:
        """Return the present."""
        return Moment(self._clock.now(), self._clock.monotonic())

    # What readers ask for.

    def page(self) -> Page:
        """Return the page as it is true now."""
        page = self._page
        moment = self.moment()
        return page if page.holds(moment) else self._refresh(moment)

    def customers(self) -> Mapping[str, Rendered]:
        """Return what is said of each customer now. The mapping is a copy; what it holds never changes."""
        self.page()
        with self._lock:
            return dict(self._rendered)

    def state(self, name: str) -> CustomerState | None:
        """Return what is known of a customer; None for one that is not, or no longer, in the config."""
        rendered = self._rendered.get(name)
        return rendered.view.state if rendered else None

    @property
    def exporter(self) -> Exporter:
        """What is said of the exporter itself."""
        return self._exporter

    @property
    def ready(self) -> bool:
        """Whether every customer has been polled once; once true, it stays so."""
        return self._ready

    # What writers change.

    def update(self, customer: Customer, change: Callable[[CustomerState], CustomerState]) -> CustomerState | None:
        """Change a customer's state, and the page with it.

        `change` must be pure, since it is made again where another writer was faster. Nothing happens, and
        None is returned, where the customer has other settings by now or is gone.
        """
        while True:
            old = self._rendered.get(customer.name)
            if old is None or old.view.state.customer is not customer:
                return None
            state = change(old.view.state)
            new = render(view(state, self.moment()), old)
            with self._lock:
                if self._rendered.get(customer.name) is old:
                    self._rendered[customer.name] = new
                    self._replace_blocks({self._seat[customer.name]})
                    self._check_ready()
                    return state

    def configure(self, customers: Iterable[Customer], loaded: Exporter) -> None:
        """Take over the customers of a config. State of those that stay is kept as far as their settings allow.

        A customer whose settings are the same keeps its `Customer`, so that polls under way stay welcome.
        """
        moment = self.moment()
        with self._lock:
            rendered: dict[str, Rendered] = {}
            for customer in sorted(customers, key=lambda c: place(c.name)):
                old = self._rendered.get(customer.name)
                if old and old.view.state.customer == customer:
                    rendered[customer.name] = old
                else:
                    state = with_settings(old.view.state, customer) if old else CustomerState(customer)
                    rendered[customer.name] = render(view(state, moment), old)
            self._rendered = rendered
            self._seat = {name: i // CUSTOMERS_A_BLOCK for i, name in enumerate(rendered)}
            self._replace_blocks(set(self._seat.values()))
            self._set_exporter(loaded)
            self._check_ready()

    def reload_failed(self) -> None:
        """Note that a config could not be loaded."""
        with self._lock:
            self._set_exporter(replace(self._exporter, config_is_good=False))

    def set_process(self, lines: Mapping[Format, Piece]) -> None:
        """Take over the metrics of the process."""
        with self._lock:
            self._page = replace(self._page, process=lines)

    def _set_exporter(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._page = replace(self._page, exporter=render_exporter(exporter))

    def _check_ready(self) -> None:
        self._ready = self._ready or all(rendered.view.state.polled for rendered in self._rendered.values())

    def _replace_blocks(self, seats: set[int]) -> None:
        """Make blocks anew from what is rendered. Under the lock, without which readers see each page set here."""
        blocks = dict(enumerate(self._page.blocks))
        everyone = list(self._rendered.values())
        for seat in seats:
            first = seat * CUSTOMERS_A_BLOCK
            blocks[seat] = make_block(everyone[first : first + CUSTOMERS_A_BLOCK], blocks.get(seat))
        taken = range(-(-len(everyone) // CUSTOMERS_A_BLOCK))
        self._page = replace(self._page, blocks=tuple(blocks[seat] for seat in taken))

    def _refresh(self, moment: Moment) -> Page:
        """Say anew what is no longer true."""
        with self._lock:
            outdated = [name for name, rendered in self._rendered.items() if not rendered.view.holds(moment)]
            for name in outdated:
                old = self._rendered[name]
                self._rendered[name] = render(view(old.view.state, moment), old)
            self._replace_blocks({self._seat[name] for name in outdated})
            return self._page
