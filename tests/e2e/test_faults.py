"""Many customers with a fault each beside one that works: results, isolation, healing, secrets."""

import base64
import dataclasses
import itertools
import re
from typing import Any, Final

from conftest import StartDaemon
from running import fetch, noon_zone, one

from vcc_exporter.simulator import CENTRES, Simulator
from vcc_exporter.vocabulary import Result

FAULTS: Final[tuple[tuple[str, Result, dict[str, Any]], ...]] = (
    ("unauthorized", Result.UNAUTHORIZED, {}),
    ("forbidden", Result.FORBIDDEN, {}),
    ("rejected", Result.REJECTED, {}),
    ("echo_key", Result.REJECTED, {}),
    ("rate_limited", Result.RATE_LIMITED, {"seconds": 1}),
    ("server_error", Result.SERVER_ERROR, {}),
    ("unavailable", Result.SERVER_ERROR, {"seconds": 1}),
    ("silent", Result.TIMEOUT, {}),
    ("slow", Result.TIMEOUT, {}),
    ("drip_headers", Result.TIMEOUT, {}),
    ("drip_body", Result.TIMEOUT, {}),
    ("reset", Result.UNREACHABLE, {}),
    ("proxy_auth", Result.UNREACHABLE, {}),
    ("reset_body", Result.INVALID_RESPONSE, {}),
    ("short_body", Result.INVALID_RESPONSE, {}),
    ("half", Result.INVALID_RESPONSE, {}),
    ("huge", Result.INVALID_RESPONSE, {}),
    ("endless_body", Result.INVALID_RESPONSE, {}),
    ("gzip_bomb", Result.INVALID_RESPONSE, {}),
    ("many_headers", Result.INVALID_RESPONSE, {}),
    ("deep_json", Result.INVALID_RESPONSE, {}),
    ("redirect", Result.INVALID_RESPONSE, {}),
    ("html", Result.INVALID_RESPONSE, {}),
    ("not_json", Result.INVALID_RESPONSE, {}),
    ("wrong_shape", Result.INVALID_RESPONSE, {}),
    ("errors_in_200", Result.INVALID_RESPONSE, {}),
    ("other_day", Result.INVALID_RESPONSE, {}),
)
TODAY: Final = re.compile(r"from=(\d+)&to=\1&")
ROADSIDE: Final = next(centre for centre in CENTRES if centre.customer == "roadside")


def test_each_fault_is_told_touches_no_neighbour_and_heals(start_daemon: StartDaemon) -> None:
    """Twenty-seven faults at once: each has its result, the healthy customer misses no poll, and all heal."""
    zone = noon_zone()
    # Enough that hang to show any bound on polls under way that is too tight.
    hanging = [f"hanging-{i}" for i in range(24)]
    names = ["good", *(fault.replace("_", "-") for fault, _, _ in FAULTS), *hanging]
    centres = [dataclasses.replace(ROADSIDE, customer=name, key=f"s3cr3t-of-{name}", zone=zone) for name in names]
    with Simulator(centres) as simulator:
        for fault, _, options in FAULTS:
            simulator.misbehave(fault.replace("_", "-"), fault, **options)
        for name in hanging:
            simulator.misbehave(name, "silent")
        # What is to end in another way must not end like this on a slow machine.
        late = {*hanging, *(fault.replace("_", "-") for fault, result, _ in FAULTS if result is Result.TIMEOUT)}
        config = "poll: {interval: 4s, timeout: 60s}\ncustomers:\n" + "".join(
            f"  - {{name: {c.customer}, url: '{simulator.url}', api_key: {c.key}, timezone: {zone}"
            f"{', poll: {timeout: 3s}' if c.customer in late else ''}}}\n"
            for c in centres
        )
        daemon = start_daemon(config, "--log.level=debug")
        for fault, result, _ in FAULTS:
            customer = fault.replace("_", "-")
            page = daemon.wait_for(
                lambda page, c=customer, r=result: page if one(page, "vcc_polls_total", customer=c, result=r) else None,  # type: ignore[misc]
                f"{fault} to be told as {result}",
            )
            assert one(page, "vcc_up", customer=customer) == 0
        page = daemon.wait_for(
            lambda page: page if (one(page, "vcc_polls_total", customer="good", result="success") or 0) > 4 else None,
            "polls of the healthy customer",
        )
        assert one(page, "vcc_up", customer="good") == 1
        polls = [seen.at for seen in simulator.requests if seen.customer == "good" and TODAY.search(seen.path)]
        gaps = [later - earlier for earlier, later in itertools.pairwise(polls)]
        assert max(gap.total_seconds() for gap in gaps[1:]) < 12, "a poll of the healthy customer was left out"

        for fault, result, _ in FAULTS:
            others = set(Result) - {result, Result.SUCCESS}
            counts = {r: one(page, "vcc_polls_total", customer=fault.replace("_", "-"), result=r) for r in others}
            assert not any(counts.values()), (fault, counts)

        for name in names:
            simulator.heal(name)
        healed = daemon.wait_for(
            lambda page: page if all(one(page, "vcc_up", customer=name) for name in names) else None, "all to heal"
        )
        assert all(one(healed, "vcc_polls_total", customer=name, result="success") for name in names)
        written = daemon.log + fetch(f"{daemon.url}/metrics")[1].decode() + fetch(f"{daemon.url}/")[1].decode()
        assert daemon.stop() == 0
    assert "Traceback" not in written
    for centre in centres:
        both = f"{centre.customer}:{centre.key}".encode()
        assert centre.key not in written
        assert base64.b64encode(both).decode() not in written


def test_bad_rows_hide_no_good_ones(start_daemon: StartDaemon) -> None:
    """Rows that cannot be used are counted and logged once a cause, and the others stand."""
    zone = noon_zone()
    centre = dataclasses.replace(ROADSIDE, zone=zone)
    with Simulator([centre]) as simulator:
        simulator.misbehave("roadside", "bad_rows")
        account = f"name: roadside, url: '{simulator.url}', api_key: {centre.key}, timezone: {zone}"
        text = f"poll: {{interval: 1s}}\ncustomers:\n  - {{{account}}}\n"
        daemon = start_daemon(text)
        page = daemon.wait_for(
            lambda page: (
                page if (one(page, "vcc_polls_total", customer="roadside", result="success") or 0) > 3 else None
            ),
            "several good polls",
        )
        assert one(page, "vcc_up", customer="roadside") == 1
        assert (one(page, "vcc_inbound_rejected_rows", customer="roadside") or 0) >= 5
        assert one(page, "vcc_inbound_answered_before_calls", customer="roadside", queue="3101")
        causes = [
            line.partition("cause=")[2].partition(" example")[0]
            for line in daemon.log.splitlines()
            if "row rejected" in line
        ]
        assert len(causes) == len(set(causes)) > 3
