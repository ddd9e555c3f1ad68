"""The guard before the real application, and the rules that two files make together."""

import base64
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final

import pytest
from running import eventually, fetch, parse_page, serving
from support import SetClock
from webfiles import PASSWORD, hashed

from vcc_exporter import __version__, config_file
from vcc_exporter.config import Config
from vcc_exporter.exposition import Exporter
from vcc_exporter.faults import ConfigError
from vcc_exporter.guard import MOST_WAITING, Guard, Rules, read_pair, renewed, rules
from vcc_exporter.loading import load_config
from vcc_exporter.store import Store
from vcc_exporter.web import open_paths
from vcc_exporter.web_config import WebConfig

NAMES: Final = ("acme", "globex", "initech")
SHARES: Final = "web_users: {acme-prom: [acme], two: [acme, globex]}\n"
FORBIDDEN: Final = HTTPStatus.FORBIDDEN
OK: Final = HTTPStatus.OK
UNAUTHORIZED: Final = HTTPStatus.UNAUTHORIZED


def config_of(web_users: str = "", names: tuple[str, ...] = NAMES) -> Config:
    """Return a config with these customers."""
    customers = "".join(f"  - {{name: {name}, api_key: k3y, timezone: UTC}}\n" for name in names)
    return config_file.parse(f"customers:\n{customers}{web_users}", "c.yaml", Path())


def web_config_of(users: dict[str, str] | None = None, digest: bytes = b"1") -> WebConfig:
    """Return a web config with these users, by default four with the same password and no TLS."""
    users = dict.fromkeys(("admin", "acme-prom", "two", "jürgen"), hashed()) if users is None else users
    return WebConfig("web.yml", {name: h.encode() for name, h in users.items()}, {}, None, None, digest)


def rules_of(web_users: str = SHARES, users: dict[str, str] | None = None) -> Rules:
    """Return what both say together."""
    found = rules(config_of(web_users), web_config_of(users))
    assert found
    return found


@pytest.fixture
def store(clock: SetClock) -> Store:
    """Give a store with three customers of whom nothing is known yet."""
    made = Store(clock, "9.8.7")
    made.configure(config_of().customers, Exporter("9.8.7", datetime(2026, 3, 11, tzinfo=UTC)))
    return made


class Guarded:
    """A guarded application that is served."""

    def __init__(self, guard: Guard, url: str) -> None:
        self.guard = guard
        self.url = url

    def get(self, path: str, user: str = "", password: str = PASSWORD, method: str = "GET") -> tuple[int, str]:
        """Return status and text of an answer."""
        head = {"Authorization": basic(user, password)} if user else {}
        status, body, _ = fetch(self.url + path, method, **head)
        return status, body.decode()

    def status(self, path: str, user: str = "", password: str = PASSWORD, method: str = "GET") -> int:
        """Return the status of an answer."""
        return self.get(path, user, password, method)[0]


def basic(user: str, password: str) -> str:
    """Return what a client sends."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def guarded(store: Store) -> Iterator[Guarded]:
    """Serve behind a guard."""
    guard = Guard(rules_of(), open_paths("/metrics"))

    async def reload() -> tuple[str, ...]:
        return ()

    with serving(store, reload=reload, notice="Shard 0 of 2", guard=guard) as url:
        yield Guarded(guard, url)


# Passwords.

PATHS: Final = ("/metrics", "/", "/-/healthy", "/-/ready", "/-/reload", "/nowhere", "/metrics/", "//metrics")


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_guarded(guarded: Guarded, path: str) -> None:
    """Without a password each of them gets a 401 that says how to send one, whatever the method."""
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
        status, _, head = fetch(guarded.url + path, method)
        assert status == UNAUTHORIZED
        assert head["WWW-Authenticate"] == "Basic"


def test_a_right_password_opens_every_path(guarded: Guarded) -> None:
    """What the application says then is its own business."""
    assert guarded.status("/metrics", "admin") == OK
    assert guarded.status("/", "admin") == OK
    assert guarded.status("/-/healthy", "admin") == OK
    assert guarded.status("/-/ready", "admin") == HTTPStatus.SERVICE_UNAVAILABLE
    assert guarded.status("/-/reload", "admin", method="POST") == OK
    assert guarded.status("/nowhere", "admin") == HTTPStatus.NOT_FOUND
    assert guarded.status("/metrics", "jürgen") == OK


WRONG: Final = (
    basic("admin", "wrong"),
    basic("admin", ""),
    basic("admin", PASSWORD + "x"),
    basic("admin", PASSWORD[:-1]),
    basic("Admin", PASSWORD),
    basic("nobody", PASSWORD),
    basic("", PASSWORD),
    basic("admin", "x" * 73),
    basic("admin", "x" * 5000),
    basic("admin", "a\0b"),
    basic("admin", hashed()),
    "Basic",
    "Basic ",
    "Basic !!!!",
    "Basic " + base64.b64encode(b"admin").decode(),
    "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(),
    "Bearer " + basic("admin", PASSWORD)[6:],
    basic("admin", PASSWORD)[6:],
    basic("admin", PASSWORD) + "=",
)


@pytest.mark.parametrize("said", WRONG, ids=range(len(WRONG)))
def test_what_is_no_right_password_is_refused(guarded: Guarded, said: str) -> None:
    """Wrong, cut, too long, of nobody, in another scheme or none at all: a 401, before and after a good one."""
    assert fetch(guarded.url + "/metrics", Authorization=said)[0] == UNAUTHORIZED
    assert guarded.status("/metrics", "admin") == OK
    assert fetch(guarded.url + "/metrics", Authorization=said)[0] == UNAUTHORIZED


def test_without_users_nobody_is_asked(store: Store) -> None:
    """As in the format."""
    with serving(store, guard=Guard(rules_of("", {}), open_paths("/metrics"))) as url:
        assert fetch(url + "/metrics")[0] == OK


COSTLY: Final = 10
"""A hash of this cost takes long enough to be told from everything else, on whatever machine."""
LESS_COSTLY: Final = 9
"""Of this cost several dozen are checked well before a client gives up."""


def seconds(guarded: Guarded, user: str, password: str) -> float:
    """Return how much work an answer takes, in all threads: what else the machine does is no part of it."""
    begun = time.process_time()
    guarded.status("/-/healthy", user, password)
    return time.process_time() - begun


def test_a_right_password_is_hashed_once_and_an_unknown_user_takes_as_long_as_a_wrong_one(guarded: Guarded) -> None:
    """What is right costs next to nothing when it comes again, and how long a refusal takes tells nothing."""
    guarded.guard.follow(rules_of("", {"admin": hashed(cost=COSTLY)}))
    wrong = min(seconds(guarded, "admin", f"wrong {i}") for i in range(3))
    unknown = min(seconds(guarded, f"nobody {i}", "wrong") for i in range(3))
    assert wrong / 2 < unknown < wrong * 2
    assert guarded.status("/-/healthy", "admin") == OK
    assert min(seconds(guarded, "admin", PASSWORD) for _ in range(20)) < wrong / 4


def test_many_wrong_passwords_hold_up_nobody_who_is_known(guarded: Guarded) -> None:
    """They wait for each other, those that are too many get a 503, and a known user is answered meanwhile."""
    guarded.guard.follow(rules_of("", {"admin": hashed(cost=LESS_COSTLY)}))
    assert guarded.status("/metrics", "admin") == OK
    count = MOST_WAITING + 32
    begun = threading.Barrier(count + 1)

    def attack(number: int) -> int:
        begun.wait()
        return guarded.status("/metrics", "admin", f"wrong {number}")

    with ThreadPoolExecutor(count) as pool:
        attacks = [pool.submit(attack, number) for number in range(count)]
        begun.wait()
        answered = 0
        while not all(attack.done() for attack in attacks):
            answered += guarded.status("/metrics", "admin") == OK
        found = Counter(attack.result() for attack in attacks)
    assert answered > 10
    assert found.keys() == {UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE}
    assert MOST_WAITING <= found[UNAUTHORIZED] < count
    assert guarded.status("/metrics", "admin", "wrong") == UNAUTHORIZED


def test_passwords_and_users_count_as_soon_as_they_change(guarded: Guarded) -> None:
    """Also for who has been right before, and also while a password is being checked."""
    assert guarded.status("/metrics", "admin") == OK
    guarded.guard.follow(rules_of("", {"admin": hashed("another")}))
    assert guarded.status("/metrics", "admin") == UNAUTHORIZED
    assert guarded.status("/metrics", "admin", "another") == OK
    guarded.guard.follow(rules_of("", {"admin": hashed(cost=12)}))
    with ThreadPoolExecutor(1) as pool:
        status = pool.submit(guarded.status, "/metrics", "admin")
        eventually(guarded.guard._one_check.locked, "the check to begin")  # noqa: SLF001 - nothing else shows it
        guarded.guard.follow(rules_of("", {"other": hashed()}))
        assert status.result() == UNAUTHORIZED


def test_no_password_is_kept(guarded: Guarded) -> None:
    """What is remembered of a right one is neither it nor what was sent."""
    assert guarded.status("/metrics", "admin") == OK
    kept = repr(vars(guarded.guard))
    assert "admin" in kept
    assert PASSWORD not in kept
    assert basic("admin", PASSWORD)[6:] not in kept
    assert hashed() not in kept


# Shares.


def customers_on(text: str) -> set[str]:
    """Return the customers of a page's series."""
    return {dict(labels).get("customer", "") for _, labels in parse_page(text)}


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("", {"acme", "globex"}),
        ("?customer[]=acme", {"acme"}),
        ("?customer%5B%5D=globex&customer[]=initech", {"globex"}),
        ("?customer[]=initech", set()),
        ("?customer[]=nobody", set()),
        ("?customer[]=", set()),
        ("?customer[]=acme&customer[]=acme", {"acme"}),
        ("?customer=initech", {"acme", "globex"}),
    ],
)
def test_a_user_sees_the_series_of_the_share_alone(guarded: Guarded, query: str, seen: set[str]) -> None:
    """Whatever is asked for, and nothing of the exporter itself."""
    for accept in ("text/plain", "application/openmetrics-text;version=1.0.0"):
        status, body, _ = fetch(f"{guarded.url}/metrics{query}", Authorization=basic("two", PASSWORD), Accept=accept)
        assert status == OK
        assert customers_on(body.decode().replace("# EOF\n", "")) == seen
        for word in (b"initech", b"vcc_exporter", b"process_", b"python_"):
            assert word not in body
    assert customers_on(guarded.get("/metrics", "admin")[1]) == {*NAMES, ""}


@pytest.mark.parametrize("query", ["", "?customer[]=acme", "?customer[]=globex", "?customer[]=nobody"])
def test_a_user_sees_the_page_of_the_share_alone(guarded: Guarded, query: str) -> None:
    """No other customer, not even how many there are, and nothing of the exporter."""
    status, page = guarded.get("/" + query, "acme-prom")
    assert status == OK
    assert ("acme" in page.partition("<main")[2].partition("</main")[0]) == (query in ("", "?customer[]=acme"))
    for word in ("globex", "initech", "3 customers", "all 3", "Shard", __version__, "/-/ready"):
        assert word not in page
    if "globex" in query:
        assert page.replace("globex", "nobody") == guarded.get("/?customer[]=nobody", "acme-prom")[1]
    full = guarded.get("/", "admin")[1]
    assert all(word in full for word in ("globex", "initech", "Shard", __version__, "/-/ready"))


@pytest.mark.parametrize("path", PATHS)
def test_a_user_with_a_share_is_told_nothing_else(guarded: Guarded, path: str) -> None:
    """Everything but the two pages and the sign of life is forbidden, also what does not exist."""
    allowed = path in {"/metrics", "/", "/-/healthy"}
    for method in ("GET", "POST", "PUT"):
        status = guarded.status(path, "acme-prom", method=method)
        assert (status == FORBIDDEN) == (not allowed), (method, status)


def test_no_page_of_a_full_user_is_given_to_a_user_with_a_share(guarded: Guarded) -> None:
    """Nor the other way round, in whatever order they come, and packed or not."""
    for user in ("admin", "acme-prom", "admin", "two", "acme-prom"):
        seen = customers_on(guarded.get("/metrics", user)[1])
        assert seen == {"admin": {*NAMES, ""}, "acme-prom": {"acme"}, "two": {"acme", "globex"}}[user]


def test_customers_that_this_process_does_not_poll_are_none(store: Store) -> None:
    """A shard says nothing of other shards' customers, and their absence is no error."""
    store.configure(config_of(names=("globex",)).customers, Exporter("9.8.7", datetime(2026, 3, 11, tzinfo=UTC)))
    with serving(store, guard=Guard(rules_of(), open_paths("/metrics"))) as url:
        guarded = Guarded(Guard(rules_of(), frozenset()), url)
        assert guarded.get("/metrics", "acme-prom") == (OK, "")
        assert customers_on(guarded.get("/metrics", "two")[1]) == {"globex"}
        assert "globex" not in guarded.get("/", "acme-prom")[1]


# Two files, one pair.


def test_a_name_that_the_web_config_does_not_have_is_a_fault_of_the_config() -> None:
    """With file, line and both names."""
    with pytest.raises(ConfigError) as error:
        rules(config_of(SHARES), web_config_of({"admin": hashed(), "two": hashed()}))
    (fault,) = error.value.faults
    assert str(fault).startswith("c.yaml:5: web_users.acme-prom: expected a user of web.yml, which has none")


def test_shares_need_a_web_config() -> None:
    """Otherwise everybody would see everything."""
    with pytest.raises(ConfigError) as error:
        rules(config_of(SHARES), None)
    assert [str(fault).partition(": ")[0] for fault in error.value.faults] == ["c.yaml:5"] * 2
    assert "--web.config.file" in str(error.value)
    assert rules(config_of(), None) is None


def test_the_faults_of_both_files_are_told_at_once(tmp_path: Path) -> None:
    """Neither hides the other's."""
    web, text = tmp_path / "web.yml", tmp_path / "c.yaml"
    web.write_text("rate_limit: {burst: 1}\n")
    text.write_text("customers: []\n")
    pair = read_pair(lambda: load_config(text), web)
    assert {fault.file for fault in pair.faults} == {str(web), str(text)}
    assert pair.rules is None


def test_a_new_user_waits_for_the_config(guarded: Guarded) -> None:
    """One who comes with the web config alone sees nothing, known ones go on; then it is as the config says."""
    old = guarded.guard.rules
    web = web_config_of({**{name: hashed() for name in old.web.users}, "new": hashed()}, b"2")
    guarded.guard.follow(renewed(old, web, new_may_see_all=False))
    assert {guarded.status(path, "new") for path in PATHS} == {FORBIDDEN}
    assert guarded.status("/metrics", "admin") == OK
    assert customers_on(guarded.get("/metrics", "acme-prom")[1]) == {"acme"}
    newer = web_config_of({**dict.fromkeys(web.users, hashed()), "newer": hashed()})
    again = renewed(guarded.guard.rules, newer, new_may_see_all=False)
    assert again.waiting == {"new", "newer"}
    with_the_config = rules(config_of(SHARES + "  \n"), web)
    assert with_the_config
    guarded.guard.follow(with_the_config)
    assert guarded.status("/-/ready", "new") == HTTPStatus.SERVICE_UNAVAILABLE


def test_a_user_who_went_and_came_back_is_new() -> None:
    """What they were before is no promise."""
    gone = renewed(rules_of("", {"a": hashed(), "b": hashed()}), web_config_of({"a": hashed()}), new_may_see_all=False)
    back = renewed(gone, web_config_of({"a": hashed(), "b": hashed()}), new_may_see_all=False)
    assert back.waiting == {"b"}
    assert not renewed(gone, web_config_of({"a": hashed(), "b": hashed()}), new_may_see_all=True).waiting


def test_a_web_config_without_a_user_that_has_a_share_does_not_fit() -> None:
    """So an emptied file opens no door."""
    with pytest.raises(ConfigError, match="acme-prom"):
        renewed(rules_of(), web_config_of({}), new_may_see_all=False)
