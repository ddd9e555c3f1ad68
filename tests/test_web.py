"""The web application behind aiohttp's own server on loopback: negotiation, routes, and what they answer."""

import asyncio
import gzip
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from running import fetch, parse_page, serving
from support import SetClock, make_customer

from vcc_exporter.answer import Answer
from vcc_exporter.exposition import CUSTOMERS_A_BLOCK, Exporter, Format
from vcc_exporter.snapshot import with_answer, with_failure
from vcc_exporter.store import Store
from vcc_exporter.vocabulary import STATISTICS, Result
from vcc_exporter.web import accepts_gzip, check_telemetry_path, choose_format

OM: Final = Format.OPENMETRICS
TEXT: Final = Format.TEXT

# What Prometheus sends, by version.
PROMETHEUS: Final = {
    "2.42": "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "2.53": "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "3.0": "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;escaping=allow-utf-8;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;escaping=allow-utf-8;q=0.3,*/*;q=0.2",
    "3.14": "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "protobuf first": "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;"
    "q=0.6,"
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
}
CHROMIUM: Final = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7"
)
FIREFOX: Final = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

# Negotiation.


@pytest.mark.parametrize("accept", PROMETHEUS.values(), ids=PROMETHEUS.keys())
def test_every_prometheus_gets_openmetrics(accept: str) -> None:
    """All of them want it most; versions that are not served are passed over."""
    assert choose_format([accept]) is OM


@pytest.mark.parametrize("accept", PROMETHEUS.values(), ids=PROMETHEUS.keys())
def test_a_prometheus_that_wants_text_gets_it(accept: str) -> None:
    """Without its offer of OpenMetrics 1.0 the same header gets text."""
    offers = [offer for offer in accept.split(",") if "openmetrics-text;version=1.0.0" not in offer]
    assert choose_format([",".join(offers)]) is TEXT


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("application/openmetrics-text; version=1.0.0", OM),
        ("application/openmetrics-text;version=1.0.1", OM),
        ("application/openmetrics-text", OM),
        ('application/openmetrics-text; version="1.0.0"', OM),
        ("APPLICATION/OpenMetrics-Text;Version=1.0.0;Q=0.5", OM),
        (" application/openmetrics-text ; version = 1.0.0 ; q = 0.1 ", OM),
        ('application/openmetrics-text;x=",";version=1.0.0', OM),
        ("application/openmetrics-text;version=1.0.0;q=0", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0.000", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0,*/*", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0.001", OM),
        ("application/openmetrics-text;version=1.0.0;q=2", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=abc", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=-1", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=", TEXT),
        ("text/plain;q=0.9,application/openmetrics-text;version=1.0.0;q=0.1", TEXT),
        ("text/plain;version=0.0.4;q=0.1,application/openmetrics-text;version=1.0.0;q=0.9", OM),
        ("text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0;q=0.5", OM),
        ("text/plain;version=1.0.0,application/openmetrics-text;version=1.0.0;q=0.5", OM),
        ("text/*,application/openmetrics-text;version=1.0.0;q=0.5", TEXT),
        ("application/openmetrics-text;version=9.9.9", TEXT),
        ("application/openmetrics-text;version=2.0.0", TEXT),
        ("application/openmetrics-text;version=1.1.0", TEXT),
        ("application/openmetrics-text;version=0.0.1", TEXT),
        ("application/openmetrics-text;version=abc", TEXT),
        ("application/openmetrics-text;version=1.0.0.0", TEXT),
        ("application/openmetrics-text;version=1", TEXT),
        ("application/openmetrics-text;version=", TEXT),
        ('application/openmetrics-text;version=""', TEXT),
        ('application/openmetrics-text;version="1.0.0', TEXT),
        ("application/openmetrics-text;version=9.9.9,application/openmetrics-text;version=1.0.0;q=0.1", OM),
        ('text/html;x="y, application/openmetrics-text;version=1.0.0', TEXT),
        ("application/*", TEXT),
        ("*/*", TEXT),
        ("text/plain", TEXT),
        (CHROMIUM, TEXT),
        (FIREFOX, TEXT),
        ("", TEXT),
        (",,;;==", TEXT),
        ('"', TEXT),
        ("\udcff\x00", TEXT),
        ("openmetrics", TEXT),
    ],
)
def test_the_format_is_chosen_by_what_the_client_wants_most(accept: str, chosen: Format) -> None:
    """OpenMetrics 1.0 by its name, its version and its weight; text 0.0.4 for whatever is odd."""
    assert choose_format([accept]) is chosen


def test_the_header_may_be_absent_or_come_in_parts() -> None:
    """Without one it is text; several lines are one list."""
    assert choose_format([]) is TEXT
    assert choose_format(["text/plain;version=0.0.4;q=0.5", "application/openmetrics-text;version=1.0.0"]) is OM


@given(
    st.lists(
        st.text()
        | st.text(alphabet='aq=;,"\\ \t*/.01')
        | st.from_regex(r"\A(application/openmetrics-text|text/plain|gzip|\*)[;,= \"q0-9.a-z]*\Z"),
        max_size=4,
    )
)
def test_any_header_gives_an_answer(values: list[str]) -> None:
    """Whatever a client sends, it is a format and a yes or no, and no exception."""
    assert choose_format(values) in Format
    assert accepts_gzip(values) in {True, False}


@pytest.mark.parametrize(
    "value", ["x" * 100_000, "a," * 50_000, ";" * 100_000, '"' + '\\"' * 50_000, "*/*;q=" + "1" * 100_000]
)
def test_a_very_long_header_gives_text(value: str) -> None:
    """Nothing is tried again and again, so that it takes no longer than reading it once."""
    assert choose_format([value]) is TEXT
    assert not accepts_gzip([value])


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("deflate, gzip;q=0.5", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("*", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("gzip;q=0", False),
        ("gzip;q=0.0", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("gzip, *;q=0", True),
        ("identity", False),
        ("identity;q=1, *;q=0", False),
        ("br", False),
        ("deflate", False),
        ("gzipped", False),
        ("gzip;q=abc", False),
        ("", False),
    ],
)
def test_gzip_is_sent_to_those_that_take_it(value: str, accepted: bool) -> None:
    """By name, by its old name or by the star, unless a weight of 0 says no."""
    assert accepts_gzip([value]) is accepted


def test_without_the_header_nothing_is_compressed() -> None:
    """A client that says nothing may not be able to unpack."""
    assert not accepts_gzip([])


@pytest.mark.parametrize("path", ["/", "/metrics", "/vcc/metrics", "/a.b_c~d-e"])
def test_a_telemetry_path_may_be_any_plain_path(path: str) -> None:
    """It is returned as it is."""
    assert check_telemetry_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "metrics", "/-/healthy", "/-/ready", "/-/reload", "/{name}", "/a b", "/a?b", "/a#b", "/%41", "/é", "/a\n"],
)
def test_a_telemetry_path_that_cannot_be_served_is_refused(path: str) -> None:
    """Patterns, queries, escapes, and the paths that mean something else."""
    with pytest.raises(ValueError, match=f"^{re.escape(path)}$"):
        check_telemetry_path(path)


# The application.

NOON: Final = datetime(2026, 3, 11, 10, 0, tzinfo=UTC)


def make_store(*names: str) -> Store:
    """Return a store of these customers, none of which was polled yet."""
    store = Store(SetClock(NOON), "1.2.3")
    store.configure([make_customer(name=name, subdomain="x") for name in names], Exporter("1.2.3", NOON))
    return store


def answer(store: Store, name: str) -> None:
    """Let a customer's poll succeed."""
    state = store.state(name)
    assert state is not None
    values = {(370, 908): tuple(map(float, range(len(STATISTICS))))}
    good = Answer(values, frozenset(), ())
    store.update(state.customer, lambda state: with_answer(state, NOON.date(), good, store.moment(), 0.1))


def fail(store: Store, name: str) -> None:
    """Let a customer's poll fail."""
    state = store.state(name)
    assert state is not None
    store.update(state.customer, lambda state: with_failure(state, Result.TIMEOUT, "no answer", 0.1))


@pytest.fixture
def store() -> Store:
    """Return a store whose one customer has values."""
    made = make_store("acme")
    answer(made, "acme")
    made.page()
    return made


@pytest.fixture
def url(store: Store) -> Iterator[str]:
    """Serve that store."""
    with serving(store) as address:
        yield address


def test_the_metrics_come_in_the_format_that_was_asked_for(url: str) -> None:
    """Content types are exact, and either body can be parsed and has the values."""
    status, body, headers = fetch(f"{url}/metrics")
    assert (status, headers["Content-Type"]) == (HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8")
    text = parse_page(body.decode())
    status, body, headers = fetch(f"{url}/metrics", Accept=PROMETHEUS["2.42"])
    wanted = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert (status, headers["Content-Type"]) == (HTTPStatus.OK, wanted)
    assert body.endswith(b"# EOF\n")
    samples = [sample for family in text_string_to_metric_families(body.decode()) for sample in family.samples]
    assert {(s.name, frozenset(s.labels.items())): s.value for s in samples} == text
    assert text[STATISTICS[1].metric, frozenset(labels("370", "908").items())] == 1


def labels(project: str, queue: str) -> dict[str, str]:
    """Return the labels of a pair without names of its own."""
    return {"customer": "acme", "project": project, "project_name": project, "queue": queue, "queue_name": queue}


@pytest.mark.parametrize("accept", ["*/*", PROMETHEUS["3.14"]])
def test_a_compressed_page_is_the_same_page(url: str, accept: str) -> None:
    """Both have their length, and say what the answer depends on."""
    _, plain, headers = fetch(f"{url}/metrics", Accept=accept)
    assert headers["Content-Encoding"] is None
    assert int(headers["Content-Length"]) == len(plain)
    assert headers["Vary"] == "Accept, Accept-Encoding"
    status, packed, headers = fetch(f"{url}/metrics", Accept=accept, Accept_Encoding="gzip")
    assert status == HTTPStatus.OK
    assert headers["Content-Encoding"] == "gzip"
    assert int(headers["Content-Length"]) == len(packed) < len(plain)
    assert headers["Vary"] == "Accept, Accept-Encoding"
    assert gzip.decompress(packed) == plain


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("path", ["/metrics", "/", "/-/healthy", "/-/ready"])
def test_head_answers_like_get_without_a_body(url: str, path: str, encoding: str) -> None:
    """Status, type and length are those of the GET."""
    get_status, _, get_headers = fetch(url + path, Accept_Encoding=encoding)
    status, body, headers = fetch(url + path, "HEAD", Accept_Encoding=encoding)
    assert (status, body) == (get_status, b"")
    for name in ("Content-Type", "Content-Length", "Content-Encoding", "Vary"):
        assert headers[name] == get_headers[name]


def test_metrics_are_served_where_every_customer_fails() -> None:
    """The status is 200 and the failure is in the page."""
    store = make_store("acme", "other")
    fail(store, "acme")
    fail(store, "other")
    store.page()
    with serving(store) as url:
        status, body, _ = fetch(f"{url}/metrics")
    assert status == HTTPStatus.OK
    samples = parse_page(body.decode())
    assert samples["vcc_up", frozenset({("customer", "acme")})] == 0
    assert samples["vcc_polls_total", frozenset({("customer", "acme"), ("result", "timeout")})] == 1


@pytest.mark.parametrize("path", ["/nowhere", "/metrics/", "/metrics/x", "/-/", "/-/quit", "/%00", "/..%2fmetrics"])
def test_an_unknown_path_is_not_found(url: str, path: str) -> None:
    """It is 404, whatever the method."""
    assert fetch(url + path)[0] == HTTPStatus.NOT_FOUND
    assert fetch(url + path, "POST")[0] == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/metrics", {"GET", "HEAD"}),
        ("/", {"GET", "HEAD"}),
        ("/-/healthy", {"GET", "HEAD"}),
        ("/-/ready", {"GET", "HEAD"}),
        ("/-/reload", {"POST", "PUT"}),
    ],
)
def test_another_method_is_refused_with_those_that_are_allowed(url: str, path: str, allowed: set[str]) -> None:
    """It is 405, and `Allow` names the path's methods."""
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - allowed:
        status, _, headers = fetch(url + path, method)
        assert status == HTTPStatus.METHOD_NOT_ALLOWED
        assert set(headers["Allow"].split(",")) == allowed


def test_ready_once_every_customer_was_polled_well_or_badly() -> None:
    """503 before, 200 after, and a customer that a reload brings does not take it back."""
    store = make_store("acme", "other")
    with serving(store) as url:
        assert fetch(f"{url}/-/ready")[0] == HTTPStatus.SERVICE_UNAVAILABLE
        assert fetch(f"{url}/-/healthy")[0] == HTTPStatus.OK
        answer(store, "acme")
        assert fetch(f"{url}/-/ready")[0] == HTTPStatus.SERVICE_UNAVAILABLE
        fail(store, "other")
        assert fetch(f"{url}/-/ready")[0] == HTTPStatus.OK
        store.configure([make_customer(name="third")], Exporter("1.2.3", NOON))
        assert fetch(f"{url}/-/ready")[0] == HTTPStatus.OK


def reloading(faults: tuple[str, ...], calls: list[int]) -> Callable[[], "asyncio.Future[tuple[str, ...]]"]:
    """Return a reload that finds these faults, and notes that it was asked for."""

    def reload() -> "asyncio.Future[tuple[str, ...]]":
        calls.append(1)
        found: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
        found.set_result(faults)
        return found

    return reload


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_reload_says_how_it_went(store: Store, method: str) -> None:
    """200 where all is well, 500 with every reason where the config is bad."""
    calls: list[int] = []
    with serving(store, reload=reloading((), calls)) as url:
        assert fetch(f"{url}/-/reload", method)[0] == HTTPStatus.OK
        assert fetch(f"{url}/-/reload")[0] == HTTPStatus.METHOD_NOT_ALLOWED
    assert calls == [1]
    with serving(store, reload=reloading(("c.yaml:3: one <b>", "c.yaml:4: two"), calls)) as url:
        status, body, headers = fetch(f"{url}/-/reload", method)
    assert status == HTTPStatus.INTERNAL_SERVER_ERROR
    assert body.decode().splitlines()[1:] == ["c.yaml:3: one <b>", "c.yaml:4: two"]
    assert headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_without_its_flag_a_reload_is_forbidden(url: str, method: str) -> None:
    """It is 403 and names the flag."""
    status, body, _ = fetch(f"{url}/-/reload", method)
    assert status == HTTPStatus.FORBIDDEN
    assert b"--web.enable-lifecycle" in body


def test_a_telemetry_path_of_ones_own_takes_the_place_of_the_default(store: Store) -> None:
    """The default path is gone, and the home page links the other."""
    with serving(store, "/vcc/metrics") as url:
        assert b"vcc_up" in fetch(f"{url}/vcc/metrics")[1]
        assert fetch(f"{url}/metrics")[0] == HTTPStatus.NOT_FOUND
        status, body, headers = fetch(url + "/")
    assert status == HTTPStatus.OK
    assert b'href="/vcc/metrics"' in body
    assert headers["Content-Type"] == "text/html; charset=utf-8"


def test_metrics_may_be_served_at_the_root(store: Store) -> None:
    """Then there is no home page."""
    with serving(store, "/") as url:
        assert b"vcc_up" in fetch(f"{url}/")[1]
        assert fetch(f"{url}/-/healthy")[0] == HTTPStatus.OK


def test_an_odd_accept_header_makes_no_server_error(url: str) -> None:
    """Versions and weights that are no numbers get text."""
    for accept in (
        'application/openmetrics-text;version="1.0',
        "application/openmetrics-text;version=abc",
        "\xff;q=\xff",
    ):
        status, _, headers = fetch(f"{url}/metrics", Accept=accept)
        assert (status, headers["Content-Type"]) == (HTTPStatus.OK, TEXT.value)


# One customer's series, or some.


def series_of(body: bytes, *names: str) -> list[str]:
    """Return those lines of a page that a filter leaves: with a customer's label, and the heads of their families."""
    wanted = tuple(f'customer="{name}"' for name in names)
    lines = body.decode().splitlines()
    kept = [line for line in lines if line.startswith("#") or any(label in line for label in wanted)]
    families = {line.split("{")[0] for line in kept if not line.startswith("#")}
    families |= {re.sub("_(total|count|sum)$", "", name) for name in families}
    return [line for line in kept if not line.startswith("#") or line == "# EOF" or line.split(" ")[2] in families]


@pytest.fixture
def many() -> Store:
    """Return a store whose customers fill more than one block, some of them with values."""
    names = [f"customer-{n}" for n in range(CUSTOMERS_A_BLOCK + 4)]
    store = make_store(*names, 'o"neil \\ söhne')
    for name in [*names[::2], 'o"neil \\ söhne']:
        answer(store, name)
    fail(store, names[1])
    store.page()
    return store


@pytest.mark.parametrize("accept", ["*/*", PROMETHEUS["3.14"]])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("names", [["customer-0"], ["customer-3"], ["customer-19", "customer-2", "customer-1"]])
def test_a_filter_leaves_the_series_of_its_customers(many: Store, names: list[str], encoding: str, accept: str) -> None:
    """What is left of the page is what it says of them, line by line, with their families' heads and no other."""
    query = "&".join(f"customer[]={name}" for name in names)
    with serving(many) as url:
        _, whole, _ = fetch(f"{url}/metrics", Accept=accept)
        status, body, headers = fetch(f"{url}/metrics?{query}", Accept=accept, Accept_Encoding=encoding)
    assert (status, int(headers["Content-Length"])) == (HTTPStatus.OK, len(body))
    assert headers["Content-Encoding"] == ("gzip" if encoding == "gzip" else None)
    lines = (gzip.decompress(body) if encoding == "gzip" else body).decode().splitlines()
    assert sorted(lines) == sorted(series_of(whole, *names))
    assert [line for line in lines if line.startswith("#")] == [
        line for line in series_of(whole, *names) if line.startswith("#")
    ]


def test_a_filter_reads_names_as_a_browser_sends_them(many: Store) -> None:
    """Brackets and names may be escaped, a name may come twice, and any character may be in one."""
    with serving(many) as url:
        _, whole, _ = fetch(f"{url}/metrics")
        _, once, _ = fetch(f"{url}/metrics?customer[]=customer-2")
        _, again, _ = fetch(f"{url}/metrics?customer%5B%5D=customer-2&customer%5b%5d=customer%2D2")
        _, odd, _ = fetch(f"{url}/metrics?customer[]=o%22neil+%5C+s%C3%B6hne")
    assert once == again
    assert once.decode().splitlines() == series_of(whole, "customer-2")
    assert odd.decode().splitlines() == series_of(whole, r"o\"neil \\ söhne")


def test_a_filter_without_a_customer_of_that_name_leaves_nothing(many: Store) -> None:
    """An unknown name has no series, an empty one neither, and both formats are whole all the same."""
    with serving(many) as url:
        for query in ("customer[]=nobody", "customer[]=", "customer[]"):
            assert fetch(f"{url}/metrics?{query}")[:2] == (HTTPStatus.OK, b"")
            assert fetch(f"{url}/metrics?{query}", Accept=PROMETHEUS["3.14"])[:2] == (HTTPStatus.OK, b"# EOF\n")
        assert (
            fetch(f"{url}/metrics?customer[]=nobody&customer[]=customer-2")[1]
            == (fetch(f"{url}/metrics?customer[]=customer-2")[1])
        )


def test_other_parameters_leave_the_page_whole(many: Store) -> None:
    """The filter's name has its brackets."""
    with serving(many) as url:
        assert fetch(f"{url}/metrics?customer=customer-2&x=1")[1] == fetch(f"{url}/metrics")[1]
