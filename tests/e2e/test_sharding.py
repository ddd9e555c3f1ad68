"""Shards as real processes: one config for all, keys for each alone, and one Prometheus that joins them."""

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import pytest
from conftest import StartDaemon
from reading import read_html
from running import Daemon, Labels, Prometheus, eventually, fetch, noon_zone, one

from vcc_exporter.shards import shard_of
from vcc_exporter.simulator import CENTRES, Simulator
from vcc_exporter.vocabulary import PAIR_LABELS, STATISTICS

SHARDS: Final = 3
NAMES: Final = [f"{centre.customer}-{number}" for centre in CENTRES for number in range(3)]
OF_PROMETHEUS: Final = {"instance", "job"}


@pytest.fixture
def centres() -> Iterator[Simulator]:
    """Run twelve call centres at which it is about noon, and stays so."""
    zone, now = noon_zone(), datetime.now(UTC)  # noqa: TID251 - the daemon uses the real clock
    several = [
        replace(centre, customer=name, zone=zone)
        for centre in CENTRES
        for name in NAMES
        if name.startswith(centre.customer)
    ]
    with Simulator(several, now=lambda: now) as running:
        yield running


def config_of(centres: Simulator, names: Sequence[str] = NAMES) -> str:
    """Write the config of these call centres, whose keys lie in files beside it."""
    zone = centres.centres[NAMES[0]].zone
    return "poll: {interval: 1s}\ncustomers:\n" + "".join(
        f"  - {{name: {name}, url: '{centres.url}', api_key_file: {name}.key, timezone: {zone}}}\n" for name in names
    )


def own(shard: int, names: Sequence[str] = NAMES) -> set[str]:
    """Return a shard's customers."""
    return {name for name in names if shard_of(name, SHARDS) == shard}


def start(
    start_daemon: StartDaemon,
    folder: Path,
    centres: Simulator,
    keys: set[str],
    *flags: str,
    names: Sequence[str] = NAMES,
) -> Daemon:
    """Start the exporter on a config in a folder of its own, in which these customers' keys lie and no other."""
    folder.mkdir()
    (folder / "config.yaml").write_text(config_of(centres, names))
    for name in keys:
        path = folder / f"{name}.key"
        path.touch(0o600)
        path.write_text(centres.centres[name].key)
    return start_daemon("", f"--config.file={folder / 'config.yaml'}", *flags)


def up(daemon: Daemon) -> set[str]:
    """Return the customers that it shows as up."""
    return {dict(labels)["customer"] for (name, labels), value in daemon.page().items() if name == "vcc_up" and value}


def of_job(prometheus: Prometheus, job: str) -> dict[Labels, float]:
    """Return the calls and seconds of a job by all that is not Prometheus' own."""
    found = prometheus.query(f'{{job="{job}", __name__=~"{"|".join(s.metric for s in STATISTICS)}"}}')
    series = {frozenset(pair for pair in labels if pair[0] not in OF_PROMETHEUS): v for labels, v in found.items()}
    assert len(series) == len(found), "a customer is on two shards"
    return series


def test_three_shards_together_say_what_one_process_says(
    start_daemon: StartDaemon,
    start_prometheus: Callable[[list[dict[str, Any]]], Prometheus],
    centres: Simulator,
    tmp_path: Path,
) -> None:
    """Under one Prometheus each series and each sum is the same, though no shard has the keys of another."""
    whole = start(start_daemon, tmp_path / "whole", centres, set(NAMES))
    assert all(own(shard) for shard in range(SHARDS))
    shards = [
        start(start_daemon, tmp_path / str(n), centres, own(n), f"--shard={n}", f"--total-shards={SHARDS}")
        for n in range(SHARDS)
    ]
    eventually(lambda: up(whole) == set(NAMES), "the one process to be up")
    for n, shard in enumerate(shards):
        eventually(lambda n=n, shard=shard: up(shard) == own(n), f"shard {n} to be up")  # type: ignore[misc]
        assert fetch(f"{shard.url}/-/ready")[0] == HTTPStatus.OK
        assert "cannot be read" not in shard.log
        assert "level=warning" not in shard.log
        assert f"customers={len(own(n))} in_config={len(NAMES)} shard={n} total_shards={SHARDS}" in shard.log

    jobs = {"one": [whole], "shards": shards}
    prometheus = start_prometheus(
        [
            {"job_name": job, "honor_labels": True, "static_configs": [{"targets": [d.addresses[0] for d in daemons]}]}
            for job, daemons in jobs.items()
        ]
    )
    prometheus.wait_until_scraped(1 + SHARDS)
    eventually(
        # The lookbacks, too, are in: a queue without a call today is known by them alone.
        lambda: of_job(prometheus, "one") and of_job(prometheus, "one") == of_job(prometheus, "shards"),
        "the same series of both",
    )
    assert {dict(labels)["customer"] for labels in of_job(prometheus, "shards")} == set(NAMES)
    for levels in ("", "customer", ", ".join(PAIR_LABELS)):
        for statistic in ("vcc_inbound_answered_before_calls", "vcc_inbound_talk_time_seconds"):
            one_sum, of_shards = (prometheus.query(f'sum by ({levels}) ({statistic}{{job="{job}"}})') for job in jobs)
            assert one_sum == of_shards
            assert sum(one_sum.values()) > 0
    assert len(prometheus.query('vcc_exporter_build_info{job="shards"}')) == SHARDS


def test_a_shard_has_a_page_of_its_own_customers(start_daemon: StartDaemon, centres: Simulator, tmp_path: Path) -> None:
    """The page for people says which shard it is, of how many customers, and shows its own; so do the metrics."""
    daemon = start(start_daemon, tmp_path / "0", centres, own(0), "--shard=0", f"--total-shards={SHARDS}")
    eventually(lambda: up(daemon) == own(0), "its customers to be up")
    page = read_html(fetch(f"{daemon.url}/")[1].decode())
    (notice,) = page.all("p", "notice")
    assert notice.text == f"Shard 0 of {SHARDS}, counted from 0: {len(own(0))} of {len(NAMES)} customers."
    assert {section.all("a")[0].text for section in page.all("section", "card")} == own(0)
    other = min(own(1))
    assert "No customer of that name is polled here" in fetch(f"{daemon.url}/?customer[]={other}")[1].decode()
    assert {dict(labels)["customer"] for name, labels in daemon.page() if name == "vcc_polls_total"} == own(0)
    assert one(daemon.page(), "vcc_exporter_config_last_reload_successful") == 1


def test_a_reload_gives_a_shard_its_own_of_the_new_customers(
    start_daemon: StartDaemon, centres: Simulator, tmp_path: Path
) -> None:
    """Customers come and go by the config, and those of other shards are left to them."""
    few = NAMES[:4]
    daemon = start(start_daemon, tmp_path / "1", centres, own(1), "--shard=1", f"--total-shards={SHARDS}")
    eventually(lambda: up(daemon) == own(1), "its customers to be up")
    for names in (few, NAMES):
        (tmp_path / "1" / "config.yaml").write_text(config_of(centres, names))
        daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda names=names: up(daemon) == own(1, names), "the config's customers")  # type: ignore[misc]
        share = f"Shard 1 of {SHARDS}, counted from 0: {len(own(1, names))} of {len(names)} customers."
        assert share in fetch(f"{daemon.url}/")[1].decode()
    assert "cannot be read" not in daemon.log


def test_a_shard_without_a_customer_is_ready_at_once(
    start_daemon: StartDaemon, centres: Simulator, tmp_path: Path
) -> None:
    """There is nothing to wait for, and a customer that comes with a reload is polled."""
    others = sorted(own(0) | own(1))
    flags = "--shard=2", f"--total-shards={SHARDS}"
    daemon = start(start_daemon, tmp_path / "2", centres, own(2), *flags, names=others)
    assert fetch(f"{daemon.url}/-/ready")[0] == HTTPStatus.OK
    assert "No customer is polled here." in fetch(f"{daemon.url}/")[1].decode()
    (tmp_path / "2" / "config.yaml").write_text(config_of(centres))
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: up(daemon) == own(2), "the new customers")


def test_a_shard_refuses_a_config_that_is_bad_for_another(
    start_daemon: StartDaemon, centres: Simulator, tmp_path: Path
) -> None:
    """The whole config is checked, so that all shards take it or none does."""
    daemon = start(start_daemon, tmp_path / "0", centres, own(0), "--shard=0", f"--total-shards={SHARDS}")
    eventually(lambda: up(daemon) == own(0), "its customers to be up")
    path = tmp_path / "0" / "config.yaml"
    other = min(own(1))
    path.write_text(path.read_text().replace(f"name: {other},", f"name: {other}, slla: 3,"))
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: "config not reloaded" in daemon.log, "the refusal")
    assert "slla" in daemon.log
    assert up(daemon) == own(0)
