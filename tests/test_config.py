"""The config: every fault with its line, every key with its value, and the files made for editors."""

import json
import re
import runpy
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import DATA, load_config, make_customer

from vcc_exporter import config_file, yaml_lines
from vcc_exporter.config import Config, Customer, KeySource, Project, Targets
from vcc_exporter.config_schema import (
    SECRET_KEYS,
    SECTIONS,
    ConfigFile,
    CustomerSection,
    PollSection,
    ProjectSection,
    Section,
    TargetsSection,
    json_schema,
)
from vcc_exporter.faults import ConfigError, Fault
from vcc_exporter.times import Hours

ROOT: Final = Path(__file__).parent.parent
BAD: Final = sorted((DATA / "config" / "bad").glob("*.yaml"))
GOOD: Final = DATA / "config" / "good"
EXAMPLE: Final = ROOT / "config.example.yaml"
MODELS: Final[Mapping[str, type[Section]]] = {
    "": ConfigFile,
    "poll.": PollSection,
    "customers.": CustomerSection,
    "customers.poll.": PollSection,
    "customers.targets.": TargetsSection,
    "customers.projects.": ProjectSection,
    "customers.projects.targets.": TargetsSection,
}
"""Every mapping of the file, by the path that leads to its keys."""
KEYS: Final = sorted(prefix + name for prefix, model in MODELS.items() for name in model.model_fields)
MINIMAL: Final = "customers: [{name: acme, api_key: k3y, timezone: Europe/Budapest}]"

bounded: Final = settings(
    derandomize=True, database=None, deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow]
)


def parse(text: str) -> Config:
    """Read a config's text as if it were the file c.yaml in /etc/vcc."""
    return config_file.parse(text, "c.yaml", Path("/etc/vcc"))


def faults_of(text: str) -> list[str]:
    """Return what is wrong with a config's text, a line for each fault."""
    with pytest.raises(ConfigError) as error:
        parse(text)
    return str(error.value).splitlines()


def fault_of(**keys: Any) -> str:
    """Return what is wrong with a customer with these keys, which is one thing; without file and line."""
    with pytest.raises(ConfigError) as error:
        make_customer(**keys)
    (fault,) = error.value.faults
    return f"{fault.path}: {fault.message}"


# Bad files.


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_config_is_refused_in_these_words(path: Path) -> None:
    """Each file has one fault, and the text beside it is the line that tells of it."""
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value).replace(f"{path}:", f"{path.name}:") + "\n" == path.with_suffix(".txt").read_text()
    assert len(error.value.faults) == 1


def test_every_key_has_a_bad_file() -> None:
    """No key of the config is left whose faults nobody has looked at, and no message without its file."""
    texts = [path.read_text() for path in (DATA / "config" / "bad").glob("*.txt")]
    paths = [re.sub(r"\[\d+\]", "", found[1]) for text in texts if (found := re.match(r"\S+:\d+: (\S+?): ", text))]
    assert [key for key in KEYS if not any(f"{path}.".startswith(f"{key}.") for path in paths)] == []
    assert len(texts) == len(BAD)


def test_all_faults_of_a_file_are_told_at_once_in_its_order() -> None:
    """File, line, path, what was found, what was expected and the nearest key, for every fault from top to bottom."""
    path = DATA / "config" / "several.yaml"
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value).replace(f"{path}:", f"{path.name}:") + "\n" == path.with_suffix(".txt").read_text()
    lines = [fault.line for fault in error.value.faults]
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("name: a, timezone: UTC, api_kee: x, zebra: y", ["api_kee", "zebra"]),
        ("name: a, api_kee: x", ["timezone", "api_kee"]),
        ("name: a, timezone: UTC, api_key: x, api_key_file: y, api_kee: z", ["api_kee", "api_key_file"]),
        ("name: a, timezone: UTC, zebra: x", ["api_key", "zebra"]),
    ],
)
def test_an_unknown_key_stands_for_nothing_but_its_nearest(keys: str, told: list[str]) -> None:
    """What is missing or given twice beside it is told all the same."""
    faults = faults_of(f"customers: [{{{keys}}}]")
    assert sorted(fault.split(": ")[1].removeprefix("customers[0].") for fault in faults) == sorted(told)


def test_faults_of_one_line_come_in_the_same_order_in_every_process() -> None:
    """What is told does not hang on how Python hashes text."""
    program = """
import sys
from pathlib import Path
from vcc_exporter import config_file, faults
try:
    config_file.parse("{a: 1, b: 2, customers: [{sla: x, teams: y, hours: z, labels: w}]}", "c.yaml", Path())
except faults.ConfigError as error:
    sys.stdout.write(str(error))
"""
    command = [sys.executable, "-c", program]
    outputs = {
        subprocess.run(command, env={"PYTHONHASHSEED": seed}, cwd=ROOT, capture_output=True, check=True).stdout  # noqa: S603
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1
    assert len(outputs.pop().splitlines()) == 9


def test_a_fault_of_the_defaults_is_told_once() -> None:
    """However many customers the common poll settings are wrong for, they stand in one place."""
    customers = ", ".join(f"{{name: c{i}, api_key: k, timezone: UTC}}" for i in range(5))
    assert faults_of(f"poll: {{stale_after: 30s}}\ncustomers: [{customers}]") == [
        "c.yaml:1: poll.stale_after: expected more than the interval of 1m, found '30s'"
    ]


def test_a_fault_in_a_merged_mapping_has_the_line_where_it_stands() -> None:
    """A wrong value that several customers take from one place is told for each, with that place's line."""
    text = """
customers:
  - &first
    name: acme
    api_key: k3y
    timezone: Europe/Budapest
    sla: 0
  - <<: *first
    name: globex
"""
    assert faults_of(text) == [
        "c.yaml:7: customers[0].sla: expected whole seconds, from 1 to 86400, found '0'",
        "c.yaml:7: customers[1].sla: expected whole seconds, from 1 to 86400, found '0'",
    ]


@pytest.mark.parametrize(
    "name", ["Europe", "America/Indiana", "Europe/Budapest ", "europe budapest", "zone.tab", "A" * 300]
)
def test_what_is_in_the_folders_of_timezones_is_not_a_timezone_by_that(name: str) -> None:
    """Folders, other files and what no file can be called are told like any name that does not exist."""
    assert fault_of(timezone=name).startswith(
        f"customers[0].timezone: expected a timezone's name such as Europe/Budapest, found {name[:60]!r}"[:-1]
    )


@pytest.mark.parametrize("key", ["[key]", "<<", "", "~", "0", "\u00a0", "customers"])
def test_any_unknown_key_anywhere_is_told(key: str) -> None:
    """No key is so odd that it passes, or that the message about it fails."""
    odd = json.dumps(key)
    assert any("unknown key" in fault for fault in faults_of(f"{{{odd}: 1, a: {MINIMAL.partition(' ')[2]}}}"))
    assert any("unknown key" in fault for fault in faults_of(MINIMAL.replace("}]", f", ? {odd} : 1}}]")))


def test_a_list_with_both_a_wrong_and_a_repeated_item_has_both_told() -> None:
    """Rules that span several values speak even where one of them is wrong."""
    assert faults_of(MINIMAL.replace("}]", ", teams: [3, x, 3]}]")) == [
        "c.yaml:1: customers[0].teams[2]: expected each team once, found '3' again",
        "c.yaml:1: customers[0].teams[1]: expected an id, a whole number, 0 or more, found 'x'",
    ]


# Files that are no text, and texts that are too much.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "1: expected customers, found nothing"),
        (b"customers:\n  - name: acme\n    sla: \0\n", "3: no YAML: unacceptable character #x0000: control characters"),
        (b"poll:\n\n  interval: \x07\n", "3: no YAML: unacceptable character #x0007: control characters"),
        (b"customers:\n  - name: Caf\xe9\n", "2: expected UTF-8 text"),
        (b"\xef\xbb\xbfcustomers:\n\n  - name: Caf\xe9\n", "3: expected UTF-8 text"),
        ("customers: []".encode("utf-16"), "1: expected UTF-8 text"),
        (b"\x1f\x8b\x08\x00" + bytes(range(128, 256)), "1: expected UTF-8 text"),
        (b"[" * 100_000, "1: "),
        (b"- " * 100_000, "1: "),
        (b"{a: " * 21 + b"}" * 21, "1: nested too deeply"),
        (b"&a [*a]", "1: an alias leads to too many values"),
        (b"a: &a\n  b:\n    c: [*a]\n", "3: an alias leads to too many values"),
        (b"\n".join([b"- &a0 x", *(b"- &a%d [[*a%d]]" % (i, i - 1) for i in range(1, 2000))]), "11: an alias leads to"),
    ],
)
def test_a_file_that_is_no_config_is_refused_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    """Control characters, other encodings, depth without end, aliases that lead back to themselves."""
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value).startswith(f"{path}:{message}")


def test_aliases_that_stand_for_too_much_are_refused_unread() -> None:
    """A few hundred bytes that stand for billions of values cost nothing, wherever they stand."""
    levels = [f"  - &b{i} {{name: {{{', '.join(f'k{j}: *b{i - 1}' for j in range(60))}}}}}" for i in range(1, 9)]
    assert faults_of("\n".join(["customers:", "  - &b0 {name: x}", *levels])) == [
        "c.yaml:6: an alias leads to too many values"
    ]


def test_merges_count_among_what_aliases_stand_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many mappings that each take over all keys of a large one are as many values as if they were written out."""
    monkeypatch.setattr(yaml_lines, "_MOST_VALUES", 1000)
    keys = ", ".join(f"k{i}: x" for i in range(50))  # a hundred values
    text = "\n".join([f"- &a {{{keys}}}", *["- {<<: *a}"] * 20])
    _, faults = yaml_lines.read(text, "c.yaml")
    assert [str(fault) for fault in faults] == ["c.yaml:10: an alias leads to too many values"]


def test_the_text_is_gone_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many customers there are, the parser tells of each value once."""
    text = (GOOD / "every_key.yaml").read_text()
    events, told = list(yaml.parse(text)), list[yaml.Event]()

    def loader(text: str) -> yaml.SafeLoader:
        made = yaml.SafeLoader(text)
        get: Callable[[], yaml.Event] = made.get_event

        def tell() -> yaml.Event:
            told.append(get())
            return told[-1]

        monkeypatch.setattr(made, "get_event", tell)
        return made

    monkeypatch.setattr(yaml_lines, "_LOADER", loader)
    yaml_lines.read(text, "c.yaml")
    assert [type(event) for event in told] == [type(event) for event in events]


def test_a_file_that_cannot_be_read_is_told_with_the_systems_reason(tmp_path: Path) -> None:
    """One that does not exist, a folder, and a path through a file; none of them has a line."""
    (tmp_path / "file").touch()
    for name, reason in (("none", "No such file or directory"), ("", "Is a directory"), ("file/x", "Not a directory")):
        path = tmp_path / name
        with pytest.raises(ConfigError) as error:
            load_config(path)
        assert str(error.value) == f"{path}: cannot be read: {reason}"


def test_a_byte_order_mark_is_no_part_of_the_config(tmp_path: Path) -> None:
    """Editors on Windows begin files with one."""
    path = tmp_path / "c.yaml"
    path.write_text(MINIMAL.replace(", ", ",\r\n"), "utf-8-sig")
    assert load_config(path).customers[0].name == "acme"


# Secrets.

SECRET: Final = "s3cr3t"


def test_no_message_of_a_bad_file_shows_a_secret() -> None:
    """The API key of the bad files, also where it stands in an address, is in none of their messages."""
    assert sum(SECRET in path.read_text() for path in BAD) > 100
    assert [path for path in (DATA / "config" / "bad").glob("*.txt") if SECRET in path.read_text()] == []


@pytest.mark.parametrize("key", sorted(SECRET_KEYS))
@pytest.mark.parametrize(
    "value",
    [
        f"https://acme:{SECRET}@vcc.example.com",
        f"https://{SECRET}@vcc.example.com",
        f"https://acme:{SECRET}/{SECRET}@vcc.example.com",
        f"https://acme:{SECRET}?@vcc.example.com",
        f"https://acme:{SECRET}@vcc.example.com:port",
        f"https://acme:{SECRET}@[vcc",
        f"https://acme:{SECRET}@vcc.example.com/ \n",
        f"https://acme:{SECRET}@\N{ACCOUNT OF}",
        f"https://vcc.example.com?key={SECRET}",
        f"https://vcc.example.com#{SECRET}",
        f"acme:{SECRET}",
        f"//{SECRET}@",
        f"{SECRET}\t{SECRET}",
        [f"{SECRET}"],
        {f"x{SECRET}"[:1]: f"{SECRET}"},
    ],
    ids=str,
)
def test_no_message_shows_a_key_or_credentials(key: str, value: Any) -> None:
    """Whatever is wrong with them, keys and addresses stand in no message, no traceback and no repr."""
    keys = {"api_key": "k3y", key: value, "zebra": 1}
    with pytest.raises(ConfigError) as error:
        make_customer(**keys)
    assert SECRET not in str(error.value)
    assert SECRET not in "".join(traceback.format_exception(error.value))


def test_a_config_shows_no_secret() -> None:
    """The inline key and the proxy, whose address may hold credentials, are not part of a config's repr."""
    customer = make_customer(api_key=SECRET, proxy_url=f"http://acme:{SECRET}@proxy:3128")
    assert customer.key.inline == SECRET
    assert customer.proxy_url == f"http://acme:{SECRET}@proxy:3128"
    assert SECRET not in repr(Config((customer,)))


# Good configs.


def test_what_is_not_given_has_its_default() -> None:
    """A customer needs a name, a key and a timezone; this is everything else."""
    (customer,) = parse(MINIMAL).customers
    assert customer == Customer(
        name="acme",
        subdomain="acme",
        url="https://acme.asp.virtual-call-center.eu",
        proxy_url=None,
        ca_file=None,
        key=KeySource(inline="k3y"),
        zone=ZoneInfo("Europe/Budapest"),
        sla_s=30,
        targets=Targets(service_level=0.8, abandonment=0.05, min_calls=20),
        teams=(),
        schedule=None,
        hours=None,
        labels=(),
        interval=timedelta(minutes=1),
        timeout=timedelta(seconds=10),
        stale_after=timedelta(minutes=5),
        lookback_days=7,
        listed={},
        other_projects=False,
    )
    assert customer.project(370) == Project(370, None, 30, customer.targets, None, {})


def test_every_key_has_its_meaning() -> None:
    """The contract's example, value by value."""
    acme, globex, initech = load_config(GOOD / "every_key.yaml").customers
    office = (((480, 1080),),) * 5 + (((540, 720), (780, 900)), ())
    night = ((),) * 6 + (((1320, 1800),),)
    off = ("HU",), frozenset({date(2026, 12, 24)})
    assert acme == Customer(
        name="acme",
        subdomain="acme-hu",
        url="https://vcc.example.com/acme",
        proxy_url="http://proxy.example.com:3128",
        ca_file=GOOD / "tls/ca.pem",
        key=KeySource(file=Path("/run/secrets/acme")),
        zone=ZoneInfo("Europe/Budapest"),
        sla_s=30,
        targets=Targets(0.8, 0.05, 20),
        teams=(3, 4),
        schedule="* 7-20 * * mon-fri",
        hours=Hours(office, *off),
        labels=(("Region", "0036"), ("tier", "gold")),
        interval=timedelta(minutes=1),
        timeout=timedelta(seconds=10),
        stale_after=timedelta(minutes=5),
        lookback_days=7,
        listed={
            370: Project(
                id=370,
                name="Customer support",
                sla_s=20,
                targets=Targets(0.9, 0.05, 20),
                hours=Hours(night, *off),
                queues={908: "Hotline", -1: "none at all"},
            ),
            371: Project(371, None, 30, Targets(0.8, 0.05, 20), Hours(office, *off), {}),
        },
        other_projects=True,
    )
    assert list(acme.listed) == [370, 371]
    assert globex.key == KeySource(env="GLOBEX_KEY")
    assert (globex.interval, globex.timeout, globex.lookback_days) == (timedelta(seconds=30), timedelta(seconds=10), 7)
    assert initech.key == KeySource(inline="0123")
    assert (initech.timeout, initech.stale_after) == (timedelta(seconds=2.5), timedelta(hours=1.5))
    assert (initech.interval, initech.lookback_days) == (timedelta(minutes=1), 0)


def test_users_of_the_web_config_have_their_customers_and_their_line() -> None:
    """Whether the web config has such users is for whoever reads both."""
    users = load_config(GOOD / "every_key.yaml").web_users
    assert [(user.name, sorted(user.customers)) for user in users] == [
        ("acme-prom", ["acme"]),
        ("office", ["acme", "globex"]),
    ]
    assert {(user.file, user.line) for user in users} == {
        (str(GOOD / "every_key.yaml"), line)
        for line in line_numbers(GOOD / "every_key.yaml", "  acme-prom:", "  office:")
    }


def line_numbers(path: Path, *begins: str) -> list[int]:
    """Return the numbers of the lines that begin so."""
    return [i for i, line in enumerate(path.read_text().splitlines(), 1) if line.startswith(begins)]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("NO", "NO"),
        ("yes", "yes"),
        ("0123", "0123"),
        ("1e3", "1e3"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2026-12-24", "2026-12-24"),
        ("null", "null"),
        (".nan", ".nan"),
        ("!!int 7", "7"),
        ("'it''s'", "it's"),
        ('"caf\\u00e9"', "café"),
        ("k3y # a comment", "k3y"),
        ("k3y#no-comment", "k3y#no-comment"),
        ("two\n        lines", "two lines"),
        (">-\n        two\n        lines", "two lines"),
    ],
)
def test_a_value_is_read_as_it_is_written(written: str, read: str) -> None:
    """What other readers take for a truth, a number, a date or sixtieths is text here."""
    text = f"customers:\n  - name: acme\n    timezone: UTC\n    api_key: {written}\n    labels:\n      x: {written}\n"
    (customer,) = parse(text).customers
    assert customer.key.inline == read
    assert customer.labels == (("x", read),)


def test_no_is_norway() -> None:
    """In a list of holidays NO is a country, and so is every other two-letter word."""
    (customer,) = parse(
        MINIMAL.replace("}]", ", hours: {mon: 08:00-09:00}, holidays: [NO, HU, 2026-12-24, NO]}]")
    ).customers
    assert customer.hours
    assert customer.hours.countries == ("HU", "NO")
    assert customer.hours.dates == {date(2026, 12, 24)}


@pytest.mark.parametrize(
    ("written", "spans"),
    [
        ("{mon: 08:00-18:00}", {0: [(480, 1080)]}),
        ("{mon: '08:00-18:00', tue: [10:00-12:00]}", {0: [(480, 1080)], 1: [(600, 720)]}),
        ("{mon-tue: 8:00-18:00, sun: 00:00-24:00}", {0: [(480, 1080)], 1: [(480, 1080)], 6: [(0, 1440)]}),
        ("{'sat,sun': 22:00-06:00}", {5: [(1320, 1800)], 6: [(1320, 1800)]}),
        ("{fri-mon: 08:00-09:00, wed: []}", {day: [(480, 540)] for day in (4, 5, 6, 0)}),
        ("{MON: 22:00 - 24:00}", {0: [(1320, 1440)]}),
    ],
)
def test_hours_are_times_of_the_day(written: str, spans: dict[int, list[tuple[int, int]]]) -> None:
    """Spans that look like sixtieths are none; ranges and lists of days; over midnight; up to 24:00."""
    (customer,) = parse(MINIMAL.replace("}]", f", hours: {written}}}]")).customers
    assert customer.hours
    assert customer.hours.spans == tuple(tuple(spans.get(day, ())) for day in range(7))


@pytest.mark.parametrize(
    ("written", "ratio"),
    [("80%", 0.8), ("80 %", 0.8), ("99.5%", 0.995), ("0.8", 0.8), ("1", 1.0), ("0", 0.0), ("100%", 1.0)],
)
def test_a_target_is_a_percentage_or_a_part(written: str, ratio: float) -> None:
    """Both spellings mean the same."""
    assert make_customer(targets={"service_level": written}).targets.service_level == ratio


def test_a_customers_poll_settings_stand_for_the_common_ones_key_by_key() -> None:
    """What a customer does not give is the common value, and what neither gives the default."""
    text = """
poll: {interval: 2m, timeout: 20s}
customers:
  - {name: a, api_key: k, timezone: UTC}
  - {name: b, api_key: k, timezone: UTC, poll: {interval: 10s, lookback: 30d}}
  - {name: c, api_key: k, timezone: UTC, poll: {timeout: 1s, stale_after: 3m}}
  - {name: d, api_key: k, timezone: UTC, poll: {}}
"""
    found = [(c.interval, c.timeout, c.stale_after, c.lookback_days) for c in parse(text).customers]
    m, s = timedelta(minutes=1), timedelta(seconds=1)
    assert found == [
        (2 * m, 20 * s, 6 * m, 7),
        (10 * s, 20 * s, 5 * m, 30),
        (2 * m, s, 3 * m, 7),
        (2 * m, 20 * s, 6 * m, 7),
    ]


@pytest.mark.parametrize(
    ("interval", "stale_after"),
    [("1s", "5m"), ("1m", "5m"), ("1m40s", "5m"), ("1m41s", "5m3s"), ("5m", "15m"), ("1h", "3h")],
)
def test_values_outlive_five_minutes_and_three_intervals(interval: str, stale_after: str) -> None:
    """Without stale_after, the longer of the two."""
    customer = make_customer(poll={"interval": interval})
    assert customer.stale_after == make_customer(poll={"interval": "100ms", "stale_after": stale_after}).stale_after


def test_with_a_schedule_stale_after_need_not_pass_the_interval() -> None:
    """There is no interval then: values live past the next due time, however far off."""
    customer = make_customer(schedule="0 7 * * *", poll={"stale_after": "30s"})
    assert customer.stale_after == timedelta(seconds=30)


def test_a_projects_settings_stand_for_the_customers_key_by_key() -> None:
    """Targets one by one; threshold and hours; a project that is not listed has the customer's."""
    customer = make_customer(
        sla="40",
        targets={"service_level": "70%", "min_calls": "5"},
        hours={"mon": "08:00-09:00"},
        projects=[
            {"id": "2", "targets": {"abandonment": "1%"}},
            {"id": "1", "sla": "10", "hours": {"tue": "08:00-09:00"}, "targets": {}},
        ],
    )
    own, other = customer.listed[1], customer.listed[2]
    assert (own.sla_s, own.targets) == (10, Targets(0.7, 0.05, 5))
    assert own.hours == Hours(((), ((480, 540),), (), (), (), (), ()))
    assert (other.sla_s, other.targets, other.hours) == (40, Targets(0.7, 0.01, 5), customer.hours)
    assert customer.project(1) is own
    assert customer.project(3) == Project(3, None, 40, Targets(0.7, 0.05, 5), customer.hours, {})


def test_holidays_may_have_hours_in_a_project_alone() -> None:
    """Holidays belong to the customer, and hold for the hours of each of its projects."""
    customer = make_customer(holidays=["HU"], projects=[{"id": "1", "hours": {"mon": "08:00-09:00"}}, {"id": "2"}])
    assert customer.hours is None
    assert customer.listed[1].hours == Hours((((480, 540),), (), (), (), (), (), ()), countries=("HU",))
    assert customer.listed[2].hours is None


def test_ids_ascend_whatever_their_order_in_the_file() -> None:
    """As numbers, not as text; a leading zero means nothing."""
    customer = make_customer(teams=["10", "9", "007"], projects=[{"id": "100"}, {"id": "020"}, {"id": "3"}])
    assert customer.teams == (7, 9, 10)
    assert list(customer.listed) == [3, 20, 100]


def test_paths_are_relative_to_the_configs_folder(tmp_path: Path) -> None:
    """Of a key file and of certificates, wherever the program was started; absolute ones stay."""
    path = tmp_path / "c.yaml"
    path.write_text("customers: [{name: acme, timezone: UTC, api_key_file: keys/acme, ca_file: /etc/ca.pem}]")
    (customer,) = load_config(path).customers
    assert customer.key == KeySource(file=tmp_path / "keys/acme")
    assert customer.ca_file == Path("/etc/ca.pem")


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("https://vcc.example.com", "https://vcc.example.com"),
        ("https://vcc.example.com/", "https://vcc.example.com"),
        ("http://127.0.0.1:8080/api//", "http://127.0.0.1:8080/api"),
        ("https://[::1]:8443/a/b", "https://[::1]:8443/a/b"),
    ],
)
def test_an_address_ends_without_a_slash(written: str, url: str) -> None:
    """Port, path and IPv6 are kept."""
    assert make_customer(url=written).url == url


def test_with_an_address_of_its_own_a_customer_may_be_called_anything() -> None:
    """Name and subdomain only need to fit into an address where one is made from them."""
    customer = make_customer(name="Ács & Fia Kft.", url="https://vcc.example.com")
    assert customer.name == customer.subdomain == "Ács & Fia Kft."
    assert make_customer(name="Ács & Fia Kft.", subdomain="acs-fia").url == "https://acs-fia.asp.virtual-call-center.eu"


def test_anchors_and_merge_keys_share_settings() -> None:
    """Own keys come before merged ones, earlier mappings before later ones; an alias is a copy."""
    text = """
poll: &often {interval: 15s}
customers:
  - &acme
    name: acme
    api_key: k3y
    timezone: Europe/Budapest
    sla: 20
    hours: &office {mon-fri: 08:00-18:00}
    projects: [{id: 1, hours: *office}]
    poll: {<<: *often, timeout: 5s}
  - <<: *acme
    name: globex
    sla: 30
  - <<: [{sla: 40, teams: [1]}, *acme]
    name: initech
    projects: [{id: 2}]
"""
    acme, globex, initech = parse(text).customers
    assert (acme.interval, acme.timeout) == (timedelta(seconds=15), timedelta(seconds=5))
    assert acme.listed[1].hours == acme.hours
    assert (globex.name, globex.sla_s, globex.key, globex.hours) == ("globex", 30, acme.key, acme.hours)
    assert globex.url == "https://globex.asp.virtual-call-center.eu"
    assert (initech.sla_s, initech.teams, initech.zone, list(initech.listed)) == (40, (1,), acme.zone, [2])


def test_a_key_without_a_value_is_a_fault_where_it_could_mean_something() -> None:
    """A list whose items were all commented out is not the same as no list, and a weekday without hours is none."""
    text = """
poll:
customers:
  - name: acme
    api_key: k3y
    timezone:
    projects:
    teams:
    labels:
    targets:
    hours: {mon,wed: 08:00-18:00}
"""
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert [(fault.line, fault.path, fault.message.partition(";")[0]) for fault in caught.value.faults] == [
        (6, "customers[0].timezone", "no value"),
        (7, "customers[0].projects", "no value"),
        (8, "customers[0].teams", "no value"),
        (11, "customers[0].hours.mon", "expected hours such as 08:00-18:00, or a list of them, found nothing"),
    ]


def test_what_holds_for_all_customers_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Customers without settings of their own share one object of each, however many they are."""
    made, dump = [], PollSection.model_dump

    def counted(section: PollSection, **options: Any) -> dict[str, Any]:
        made.append(section)
        return dump(section, **options)

    monkeypatch.setattr(PollSection, "model_dump", counted)
    customers = [f"{{name: c{i}, api_key: k3y, timezone: Europe/Budapest}}" for i in range(100)]
    own = "{name: own, api_key: k3y, timezone: Europe/Budapest, poll: {timeout: 2s}, targets: {min_calls: 7}}"
    *many, one = parse(f"poll: {{interval: 15s}}\ncustomers: [{', '.join([*customers, own])}]").customers
    assert len(made) == 3  # the defaults once for all, and with one's own once more
    assert len({id(customer.targets) for customer in many}) == len({id(customer.interval) for customer in many}) == 1
    assert (one.interval, one.timeout, one.targets.min_calls) == (timedelta(seconds=15), timedelta(seconds=2), 7)


def test_an_empty_mapping_of_settings_is_none() -> None:
    """Sections of which every key may be missing may have all of their keys commented out."""
    text = "poll:\n" + MINIMAL.replace("}]", ", poll: , targets: , labels: }]")
    assert parse(text) == parse(MINIMAL)


def test_two_readings_of_one_text_are_equal() -> None:
    """A reload compares customers: what did not change in the file did not change."""
    text = (GOOD / "every_key.yaml").read_text()
    first, second = parse(text), parse(text)
    assert first == second
    assert parse(text.replace("Hotline", "Helpline")) != first
    assert parse(text.replace("Hotline", "Helpline")).customers[1:] == first.customers[1:]


def test_the_order_of_what_has_no_order_means_nothing() -> None:
    """Teams, projects, queues, labels, days and holidays in another order are the same customer."""
    keys: dict[str, Any] = {
        "teams": ["1", "2"],
        "projects": [{"id": "1", "queues": {"3": "a", "4": "b"}}, {"id": "2"}],
        "labels": {"a": "1", "b": "2"},
        "hours": {"mon": "08:00-09:00", "tue-wed": "10:00-11:00"},
        "holidays": ["HU", "NO", "2026-12-24"],
    }

    def backwards(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: backwards(value[key]) for key in reversed(value)}
        return [backwards(item) for item in reversed(value)] if isinstance(value, list) else value

    assert make_customer(**backwards(keys)) == make_customer(**keys)


# What makes values mean something else.

BASE: Final[dict[str, Any]] = {"projects": [{"id": "1"}, {"id": "2", "sla": "20"}], "hours": {"mon": "08:00-18:00"}}
ABSENT: Final = ""
"""For a key to leave out."""
ANOTHER_QUESTION: Final[list[dict[str, Any]]] = [
    {"subdomain": "acme2"},
    {"name": "globex"},
    {"url": "https://vcc.example.com"},
    {"timezone": "Europe/Vienna"},
    {"teams": ["3"]},
    {"sla": "31"},
    {"other_projects": "true"},
    {"projects": [{"id": "1"}]},
    {"projects": [{"id": "1"}, {"id": "2", "sla": "20"}, {"id": "3"}]},
    {"projects": [{"id": "1"}, {"id": "2", "sla": "21"}]},
    {"projects": ABSENT},
]
THE_SAME_QUESTION: Final[list[dict[str, Any]]] = [
    {},
    {"name": "globex", "subdomain": "acme"},
    {"url": "https://acme.asp.virtual-call-center.eu/"},
    {"sla": "30"},
    {"proxy_url": "http://proxy:3128"},
    {"ca_file": "ca.pem"},
    {"api_key": "an0th3r"},
    {"api_key": ABSENT, "api_key_file": "acme.key"},
    {"api_key": ABSENT, "api_key_env": "ACME_KEY"},
    {"targets": {"service_level": "90%"}},
    {"schedule": "* * * * *"},
    {"hours": {"tue": "08:00-18:00"}},
    {"holidays": ["HU"]},
    {"labels": {"tier": "gold"}},
    {"poll": {"interval": "10s", "timeout": "1s", "stale_after": "1h", "lookback": "1d"}},
    {"projects": [{"id": "2", "sla": "20"}, {"id": "1"}]},
    {"projects": [{"id": "1", "sla": "30"}, {"id": "2", "sla": "20"}]},
    {
        "projects": [
            {
                "id": "1",
                "name": "One",
                "targets": {"min_calls": "1"},
                "hours": {"mon": "08:00-09:00"},
                "queues": {"3": "Q"},
            },
            {"id": "2", "sla": "20"},
        ]
    },
]


def question(change: dict[str, Any]) -> tuple[object, ...]:
    """Return what decides about the numbers of a customer that differs from the base by some keys."""
    keys = {"name": "acme", "api_key": "k3y", "timezone": "Europe/Budapest", **BASE, **change}
    given = {key: value for key, value in keys.items() if value != ABSENT}
    return parse(json.dumps({"customers": [given]})).customers[0].question()


@pytest.mark.parametrize("change", ANOTHER_QUESTION, ids=str)
def test_another_question_is_asked(change: dict[str, Any]) -> None:
    """Subdomain, address, timezone, teams, a threshold and the set of projects decide which numbers come."""
    assert question(change) != question({})


@pytest.mark.parametrize("change", THE_SAME_QUESTION, ids=str)
def test_the_same_question_is_asked(change: dict[str, Any]) -> None:
    """Nothing else does: keys, rhythm, names, targets, hours, labels and the way to the API."""
    assert question(change) == question({})


def test_it_is_decided_for_every_key_whether_it_changes_the_question() -> None:
    """A new key of a customer or project must be put into one of the two lists above."""
    decided = [*ANOTHER_QUESTION, *THE_SAME_QUESTION]
    assert {key for change in decided for key in change} == set(CustomerSection.model_fields)
    projects = [project for change in decided for project in change.get("projects") or []]
    assert {key for project in projects for key in project} == set(ProjectSection.model_fields)


# Anything at all.

ODD_KEYS: Final = ["[key]", "<<", "", "~", "a b", "0", "-1", "zebra"]
VALUES: Final = [
    *(
        "",
        "~",
        "0",
        "-1",
        "007",
        "9" * 30,
        "9" * 5000,
        "1m",
        "30s",
        "99y",
        "80%",
        "1.5",
        "true",
        "NO",
        "Europe/Budapest",
    ),
    *(
        "mon-fri",
        "08:00-18:00",
        "22:00-06:00",
        "* * * * *",
        "0 0 30 2 *",
        "HU",
        "2026-12-24",
        "2026-02-30",
        "\N{ACCOUNT OF}",
    ),
    *("https://vcc.example.com", "https://a:b@c", "http://[", "http://a:b", "*a", "&a", "\n", "\ud7ff", "\U0010ffff"),
]
yamlish: Final = st.lists(
    st.sampled_from(
        [
            *(
                "\n",
                "\n  ",
                "\n    ",
                "- ",
                ": ",
                "? ",
                ", ",
                "{",
                "}",
                "[",
                "]",
                "|\n",
                ">",
                "---\n",
                "...\n",
                "%YAML 1.1\n",
            ),
            *(
                "&a ",
                "*a",
                "<<: ",
                "!!str ",
                "!x!y ",
                "!<%ff>",
                "'",
                '"',
                "#",
                "\t",
                "\0",
                "\x85",
                "\u2028",
                "\ufeff",
                "\\",
            ),
            *('"\\ud800"', '"\\U00110000"', "\r", "@", "`", "%", "!", "x"),
            *(f"{key}: " for key in KEYS),
            *(key.rpartition(".")[2] + ": " for key in KEYS),
            *VALUES,
        ]
    ),
    max_size=40,
).map("".join)
trees: Final = st.recursive(
    st.sampled_from(VALUES) | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*ODD_KEYS, *(key.rpartition(".")[2] for key in KEYS)]) | st.sampled_from(VALUES),
            inner,
            max_size=8,
        )
    ),
    max_leaves=30,
)
customers: Final = st.fixed_dictionaries(
    {"name": st.just("acme"), "api_key": st.just("k"), "timezone": st.just("UTC")},
    optional=dict.fromkeys(sorted(CustomerSection.model_fields.keys() - {"name", "api_key", "timezone"}), trees),
)
LINE_ENDS: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


def check_that_only_config_errors_come_of(text: str) -> None:
    """Read a text, which gives a config, or faults with lines that the text has."""
    faults: tuple[Fault, ...] = ()
    try:
        assert parse(text).customers
    except ConfigError as error:
        faults = error.faults or (Fault("none", 0, "", ""),)
    for fault in faults:
        assert 1 <= fault.line <= len(LINE_ENDS.findall(text)) + 1
        assert str(fault).startswith(f"c.yaml:{fault.line}: ")
        assert str(fault).isprintable()


@given(st.text())
@bounded
def test_any_text_is_a_config_or_has_faults(text: str) -> None:
    """Nothing but ConfigError comes of a text, whatever it is."""
    check_that_only_config_errors_come_of(text)


@given(yamlish)
@bounded
def test_any_text_that_looks_like_yaml_is_a_config_or_has_faults(text: str) -> None:
    """Nor of one in YAML's own signs, with the config's keys and values."""
    check_that_only_config_errors_come_of(text)


@given(trees | st.fixed_dictionaries({"customers": st.lists(customers, max_size=3)}, optional={"poll": trees}))
@settings(bounded, max_examples=100)
def test_any_tree_is_a_config_or_has_faults(tree: Any) -> None:
    """Nor of one that is YAML, with anything under any key."""
    check_that_only_config_errors_come_of(json.dumps(tree, ensure_ascii=False))


def test_five_thousand_customers_load() -> None:
    """Each with its own settings, in the file's order."""
    one = """
  - name: customer-{i}
    api_key_file: /run/secrets/{i}
    timezone: Europe/Budapest
    teams: [{i}, 1000000]
    hours: {{mon-fri: 08:00-18:00}}
    holidays: [HU]
    projects: [{{id: {i}, queues: {{1: One, 2: Two}}}}, {{id: 1000000, sla: 10}}]"""
    text = "customers:" + "".join(one.format(i=i) for i in range(5000))
    found = parse(text).customers
    assert [customer.name for customer in found] == [f"customer-{i}" for i in range(5000)]
    assert found[4999].teams == (4999, 1_000_000)


# The example, and the schema for editors.


def keys_of(tree: Any, prefix: str = "") -> Iterator[str]:
    """Walk through the keys that belong to the config's own mappings, by their paths."""
    for item in tree if isinstance(tree, list) else [tree]:
        for key, value in item.items() if isinstance(item, dict) and prefix in MODELS else ():
            yield prefix + key
            yield from keys_of(value, f"{prefix}{key}.")


def uncommented(text: str) -> str:
    """Return the example with its alternatives, which are comments without a blank, among the rest."""
    return re.sub(r"^( *)#(?=\w)", r"\1", text, flags=re.MULTILINE)


def test_the_example_is_a_good_config() -> None:
    """It parses as it stands, with a customer that has everything and one that has what there must be."""
    acme, globex = load_config(EXAMPLE).customers
    assert acme.key == KeySource(file=ROOT / "secrets" / "acme")
    assert len(acme.listed) == 2
    assert globex.key == KeySource(env="GLOBEX_API_KEY")


def test_check_config_accepts_the_example() -> None:
    """Its key files do not exist, which is a warning and no fault."""
    command = [sys.executable, "exporter.py", "check-config", f"--config.file={EXAMPLE.name}"]
    result = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, check=False)  # noqa: S603
    assert result.returncode == 0
    assert "warning: customer 'acme'" in result.stderr


def test_the_example_has_every_key() -> None:
    """Each key of each section, as it stands or as an alternative."""
    tree, faults = yaml_lines.read(uncommented(EXAMPLE.read_text()), EXAMPLE.name)
    assert faults == []
    assert sorted(set(keys_of(tree))) == KEYS


def test_the_examples_alternatives_are_right_but_for_excluding_each_other() -> None:
    """Any of them may be put in by taking its # away."""
    sources = ("api_key", "api_key_file", "api_key_env")
    messages = [fault.partition("customers[0].")[2] for fault in faults_of(uncommented(EXAMPLE.read_text()))]
    assert messages == [
        f"api_key_env: expected exactly one of {', '.join(sources)}, found {' and '.join(sources)}",
        "schedule: expected either schedule or poll.interval, found both",
    ]


def test_the_example_shows_the_defaults_as_the_code_has_them() -> None:
    """What it calls a default is one."""
    tree, _ = yaml_lines.read(EXAMPLE.read_text(), EXAMPLE.name)
    acme, default = tree["customers"][0], make_customer()
    assert make_customer(poll=tree["poll"]) == default
    assert make_customer(targets=acme["targets"], sla=acme["sla"]) == default


def test_editors_are_told_of_the_schema() -> None:
    """The example names it in the line that editors look for."""
    assert "\n# yaml-language-server: $schema=config.schema.json\n" in EXAMPLE.read_text()


def test_the_schema_is_the_codes() -> None:
    """`python tools/schema.py > config.schema.json` would change nothing."""
    text: str = runpy.run_path(str(ROOT / "tools" / "schema.py"))["text"]()
    assert (ROOT / "config.schema.json").read_text() == text
    assert json.loads(text) == json_schema()


def test_every_section_and_key_is_described() -> None:
    """Editors show the words, and messages about a missing key quote them."""
    assert set(SECTIONS.values()) == set(MODELS.values())
    for model in SECTIONS.values():
        assert model.__doc__
        assert all(field.description for field in model.model_fields.values()), model


def as_an_editor_reads(text: str) -> Any:
    """Return YAML as JSON's values: dates are texts there, and keys too."""
    return json.loads(json.dumps(yaml.safe_load(text), default=str))


@pytest.mark.parametrize("path", [EXAMPLE, *GOOD.glob("*.yaml")], ids=lambda path: path.name)
def test_editors_find_no_fault_in_a_good_config(path: Path) -> None:
    """The schema accepts what the program accepts."""
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(json_schema())
    for text in (path.read_text(), uncommented(path.read_text())):
        assert [error.message for error in validator.iter_errors(as_an_editor_reads(text))] == []


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in BAD
        if path.stem.startswith(("unknown_key", "name_missing", "timezone_missing", "project_id_missing"))
    ],
    ids=lambda path: path.stem,
)
def test_editors_find_a_mistyped_or_a_missing_key(path: Path) -> None:
    """In every section of the file."""
    jsonschema = pytest.importorskip("jsonschema")
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(as_an_editor_reads(path.read_text()))


@pytest.mark.parametrize(
    "change",
    [
        "sla: 0",
        "sla: 30s",
        "teams: 3",
        "teams: []",
        "targets: {service_level: 80}",
        "targets: {min_calls: -1}",
        "poll: {interval: 60}",
        "poll: {interval: 1 minute}",
        "projects: [370]",
        "other_projects: sometimes",
        "hours: {}",
        "labels: gold",
    ],
)
def test_editors_find_what_the_program_refuses(change: str) -> None:
    """Common slips of type and unit are marked while they are typed."""
    jsonschema = pytest.importorskip("jsonschema")
    text = MINIMAL.replace("}]", f", {change}}}]")
    assert faults_of(text)
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(as_an_editor_reads(text))
