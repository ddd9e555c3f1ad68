"""The page for people in a real browser: what it shows, how it refreshes, and who can read it."""

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from browsing import LAUNCH, chromium, opened
from conftest import StartDaemon
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect
from running import LOOPBACK, eventually, free_port, noon_zone, one, serving
from scene import LONG, Day, scene
from support import make_customer

from vcc_exporter.answer import Answer
from vcc_exporter.simulator import CENTRES, Simulator
from vcc_exporter.status_page import REFRESH_S, Health, health
from vcc_exporter.vocabulary import STATISTICS

DESK: Final = ViewportSize(width=1280, height=900)
PHONE: Final = ViewportSize(width=390, height=844)
WALL: Final = ViewportSize(width=1920, height=1080)
CHOSEN: Final = "?customer[]=bank"
ROADSIDE: Final = next(centre for centre in CENTRES if centre.customer == "roadside")

TOO_WIDE: Final = """
() => [document.documentElement, document.body, ...document.querySelectorAll("section, .card, table, td, th, p, dl")]
    .filter((e) => !e.closest(".scroll") && !e.closest("thead") && !e.classList.contains("unseen"))
    .filter((e) => e.scrollWidth > e.clientWidth + 1)
    .map((e) => `${e.tagName}.${e.className}: ${e.scrollWidth} in ${e.clientWidth}: ${e.textContent.slice(0, 60)}`)
"""
"""Which elements hold more than they are wide, apart from the region that scrolls and the headings of narrow tables."""


BROKEN: Final = r"""
() => [...document.querySelectorAll(".figures td, .list td")].flatMap((cell) => [...cell.childNodes])
    .filter((node) => node.nodeType === Node.TEXT_NODE && /^[\d,]+( %)?\s*$/.test(node.data))
    .filter((node) => {
        const range = document.createRange();
        range.selectNodeContents(node);
        return new Set([...range.getClientRects()].map((line) => line.top)).size > 1;
    }).map((node) => node.data)
"""
"""Which numbers are broken over two lines, where they read as two."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run the browser for the tests of this module, since its loop would be in the way of others."""
    with chromium() as running:
        yield running


@pytest.fixture
def day() -> Day:
    """Return the scene: seven customers, one in each state."""
    return scene()


@pytest.fixture
def url(day: Day) -> Iterator[str]:
    """Serve the scene by the real application."""
    with serving(day.store, notice="A demo: these call centres are simulated.") as address:
        yield f"{address}/"


def refresh(page: Page) -> None:
    """Let the page believe that somebody has come back to it, so that it asks for itself anew at once."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def as_of(page: Page, words: str) -> None:
    """Wait until the page says that time."""
    expect(page.locator(".as-of")).to_contain_text(words)


# What is seen.


def test_the_scene_has_every_state(day: Day) -> None:
    """What the other tests look at: each health, and of those that are up one with calls, one without, one odd."""
    found = Counter(map(health, day.store.views().values()))
    assert found == {**dict.fromkeys(Health, 1), Health.UP: 3}


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("screen", [PHONE, DESK, WALL], ids=["phone", "desk", "wall"])
def test_every_state_is_shown_on_every_screen(browser: Browser, url: str, screen: ViewportSize, colours: str) -> None:
    """Nothing is wider than its place, the browser has nothing to complain of, and nothing comes from elsewhere."""
    for query in ("", CHOSEN, f"?customer[]={LONG}.{LONG}", "?customer[]=nobody"):
        with opened(browser, url + query, viewport=screen, color_scheme=colours) as seen:
            assert seen.page.evaluate(TOO_WIDE) == []
            assert seen.page.evaluate(BROKEN) == []
            assert seen.complaints == []
            assert {request for request in seen.requests if not request.startswith(("data:", url))} == set()
            assert seen.page.locator(".card").count() == {"": 7, "?customer[]=nobody": 0}.get(query, 1)
            background = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (background == "rgb(255, 255, 255)") == (colours == "light")


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("screen", [PHONE, DESK], ids=["phone", "desk"])
def test_an_accessibility_checker_finds_nothing(
    browser: Browser, url: str, day: Day, screen: ViewportSize, colours: str
) -> None:
    """Contrast, names, roles, headings, tables: axe-core's rules hold, with the banner, too."""
    day.store.reload_failed()
    for query in ("", CHOSEN):
        with opened(browser, url + query, viewport=screen, color_scheme=colours, bypass_csp=True) as seen:
            assert findings(seen.page) == []
            seen.page.route("**", lambda route: route.abort())
            refresh(seen.page)
            expect(seen.page.get_by_role("alert")).to_be_visible()
            assert findings(seen.page) == []


def findings(page: Page) -> list[str]:
    """Return what axe-core finds fault with."""
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {node['html'][:200]} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


def test_no_state_is_told_by_colour_alone(browser: Browser, url: str) -> None:
    """Badges have words, verdicts have a sign and words for those who do not see it, and so has the picture."""
    with opened(browser, url, viewport=DESK) as seen:
        page = seen.page
        badges = page.locator(".badge").all_inner_texts()
        assert {badge for badge in badges if not re.fullmatch(r"(\W )?[a-z ]{4,}", badge)} == set()
        assert len({badge.split(" ", 1)[0] for badge in badges}) == 6
        verdicts = page.locator(".verdict").all_inner_texts()
        assert verdicts
        assert {verdict for verdict in verdicts if not re.fullmatch(r"[✓▽✕·]\s*\(t[a-z ]+\)", verdict)} == set()
        pictures = page.get_by_role("img")
        for number in range(pictures.count()):
            assert "in time" in (pictures.nth(number).get_attribute("aria-label") or "")


@pytest.mark.parametrize(
    "options",
    [
        {"forced_colors": "active", "color_scheme": "dark"},
        {"reduced_motion": "reduce"},
        {"contrast": "more"},
        {"viewport": {"width": 640, "height": 450}, "device_scale_factor": 2},
        {"viewport": {"width": 320, "height": 600}},
        {"locale": "hu-HU", "timezone_id": "Asia/Tokyo"},
    ],
    ids=["forced-colours", "reduced-motion", "more-contrast", "zoomed-to-200-per-cent", "watch", "abroad"],
)
def test_what_people_set_their_browsers_to_breaks_nothing(browser: Browser, url: str, options: dict[str, Any]) -> None:
    """Colours of their own, more contrast, a zoomed page: all of it is there and nothing too wide."""
    for query in ("", CHOSEN):
        with opened(browser, url + query, **{"viewport": DESK, **options}) as seen:
            assert seen.page.evaluate(TOO_WIDE) == []
            assert seen.complaints == []
            expect(seen.page.locator(".card").first).to_be_visible()
            # Bars and their key have their colours also where the browser takes those of boxes away.
            for selector, colour in (("rect", "fill"), (".key", "backgroundColor")):
                found = seen.page.eval_on_selector_all(selector, f"all => all.map((e) => getComputedStyle(e).{colour})")
                assert len(set(found)) == 3


def test_a_text_of_twice_the_size_fits(browser: Browser, url: str, tmp_path: Path) -> None:
    """Who has set larger letters in the browser gets larger letters here, and nothing is cut off."""
    preferences = tmp_path / "Default" / "Preferences"
    preferences.parent.mkdir()
    preferences.write_text(json.dumps({"webkit": {"webprefs": {"default_font_size": 32}}}))
    size = "parseFloat(getComputedStyle(document.querySelector('dd')).fontSize)"
    with opened(browser, url, viewport=DESK) as seen:
        usual = seen.page.evaluate(size)
    context = browser.browser_type.launch_persistent_context(tmp_path, viewport=DESK, **LAUNCH)
    try:
        page = context.new_page()
        for query in ("", CHOSEN):
            page.goto(url + query)
            assert page.evaluate(size) > 1.6 * usual
            assert page.evaluate(TOO_WIDE) == []
    finally:
        context.close()


@pytest.mark.parametrize("screen", [PHONE, DESK, WALL], ids=["phone", "desk", "wall"])
def test_many_customers_fit(browser: Browser, screen: ViewportSize) -> None:
    """Forty are a list of lines, of which each leads to the customer's own page."""
    customers = [make_customer(name=f"call-centre-{number:02}", subdomain="acme") for number in range(40)]
    lived = Day(make_customer(name="bank", timezone="Europe/Budapest"), *customers)
    for customer in customers[3:]:
        lived.answer(customer.name, Answer({(1, 2): (5.0,) * len(STATISTICS)}, frozenset(), ()))
    with serving(lived.store) as address, opened(browser, address, viewport=screen) as seen:
        assert seen.page.evaluate(TOO_WIDE) == []
        assert seen.page.locator(".card").count() == 0
        assert seen.page.locator(".list tbody tr").count() == 41
        seen.page.get_by_role("link", name="call-centre-07").click()
        expect(seen.page.locator(".card h2")).to_contain_text("call-centre-07")
        assert seen.page.locator(".card").count() == 1
        seen.page.get_by_role("link", name="all 41 customers").click()
        expect(seen.page.locator(".list tbody tr")).to_have_count(41)
        assert seen.complaints == []


def test_hostile_texts_run_nothing(browser: Browser) -> None:
    """Names with markup are read as written, and nothing of them is executed or fetched."""
    text = "</title></style></script><img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
    projects = [{"id": 1, "name": text, "queues": {2: text}}]
    hostile = make_customer(name=text, subdomain="acme", projects=projects)
    lived = Day(make_customer(name="bank"), hostile)
    lived.answer(text, Answer({(1, 2): (5.0,) * len(STATISTICS)}, frozenset(), ()))
    with serving(lived.store) as address, opened(browser, address, viewport=DESK) as seen:
        link = seen.page.locator(".card h2 a").nth(1)
        expect(seen.page.locator(".card h2 a").first).to_have_text(text)
        refresh(seen.page)
        seen.page.locator(".card h2 a").first.click()
        expect(link).to_have_count(0)
        expect(seen.page.locator(".card h2 a")).to_have_text(text)
        expect(seen.page.locator(".figures .project th")).to_contain_text(text)
        assert "owned" not in seen.page.title()
        assert seen.complaints == []
        assert {request for request in seen.requests if not request.startswith(("data:", address))} == set()


def test_without_scripts_the_page_is_whole_and_loads_itself_anew(browser: Browser, url: str, day: Day) -> None:
    """All figures are there as they are with scripts, and the browser itself asks again."""
    with opened(browser, url, viewport=DESK) as seen:
        with_scripts = seen.page.locator("main").inner_text()
    with opened(browser, "", viewport=DESK, java_script_enabled=False) as seen:

        def hurry(route: Route) -> None:
            answer = route.fetch()
            assert f'content="{REFRESH_S}"' in answer.text()
            route.fulfill(response=answer, body=answer.text().replace(f'content="{REFRESH_S}"', 'content="1"'))

        seen.page.goto(url)
        assert seen.page.locator("main").inner_text() == with_scripts
        seen.page.route("**", hurry)
        seen.page.goto(url)
        day.clock.advance(timedelta(seconds=7))
        as_of(seen.page, "10:40:07")


# Figures.


def test_the_figures_are_those_of_the_call_centre(browser: Browser, start_daemon: StartDaemon) -> None:
    """Each count of each queue and project is what the API answers with the project's own threshold."""
    zone, frozen = noon_zone(), datetime.now(UTC)  # noqa: TID251 - the daemon uses the real clock
    centre = dataclasses.replace(ROADSIDE, zone=zone)
    with Simulator([centre], now=lambda: frozen) as simulator:
        daemon = start_daemon(
            f"customers:\n  - name: roadside\n    url: {simulator.url}\n    api_key: {centre.key}\n"
            f"    timezone: {zone}\n    sla: 15\n    other_projects: true\n    projects: [{{id: 302, sla: 60}}]\n"
        )
        daemon.wait_for(lambda page: one(page, "vcc_up", customer="roadside"), "a good poll")
        rows = [row for row in asked(simulator, frozen, zone, 15) if row["projectid"] != 302]
        rows += [row for row in asked(simulator, frozen, zone, 60) if row["projectid"] == 302]
        assert len({row["projectid"] for row in rows}) == 2
        with opened(browser, daemon.url, viewport=DESK) as seen:
            shown = table(seen.page)
            assert seen.complaints == []
    wanted = expected(rows)
    assert wanted.keys() <= shown.keys()
    for key, cells in shown.items():
        assert cells == wanted.get(key, ["0"] * 4 + ["–"] * 4), key  # a queue known from the days before has no row


def asked(simulator: Simulator, now: datetime, zone: str, sla_s: int) -> list[dict[str, Any]]:
    """Return the rows that the API has for that moment's day."""
    day = f"{now.astimezone(ZoneInfo(zone)):%Y%m%d}"
    query = urlencode({"from": day, "to": day, "dimensions": "project,queue,date", "manual_sla": sla_s}, safe=",")
    centre = simulator.centres["roadside"]
    answer = requests.get(f"{simulator.url}/v2/statistics/inbound?{query}", auth=("roadside", centre.key), timeout=60)
    found: list[dict[str, Any]] = json.loads(answer.text)["response"]
    return found


def minutes(seconds: float) -> str:
    """Write a time as m:ss."""
    return f"{round(seconds) // 60}:{round(seconds) % 60:02}"


def expected(rows: list[dict[str, Any]]) -> dict[tuple[int, int | None], list[str]]:
    """Return what the page has to show of the API's rows: by queue, and by project under None; computed anew here."""
    found: dict[tuple[int, int | None], list[str]] = {}
    for project in {row["projectid"] for row in rows}:
        own = [row for row in rows if row["projectid"] == project]
        for queue, some in [(None, own), *((row["queueid"], [row]) for row in own)]:
            in_time, late, before, after, early, wait, talk = (
                sum(row.get(name, 0) for row in some)
                for name in (
                    *("answered_before", "answered_after", "abort_in_queue_before", "abort_in_queue_after", "aiqe"),
                    *("queue_time", "talk_time"),
                )
            )
            answered, gave_up = in_time + late, before + after
            offered = answered + gave_up
            found[project, queue] = [
                *(f"{number:,}" for number in (in_time, late, gave_up, early)),
                f"{1000 * in_time // offered / 10:.1f} %" if offered else "–",
                f"{-(-1000 * gave_up // offered) / 10:.1f} %" if offered else "–",
                *(minutes(seconds / answered) if answered else "–" for seconds in (wait, talk)),
            ]
    return found


def table(page: Page) -> dict[tuple[int, int | None], list[str]]:
    """Return the table of figures as it is shown: by queue, and by project under None."""
    found: dict[tuple[int, int | None], list[str]] = {}
    project = 0
    for line in page.locator(".figures tbody tr:not(.note)").all():
        cells = [re.sub(r"\s*[✓▽✕·][\s\S]*|\s*of \d[\s\S]*", "", cell) for cell in line.locator("td").all_inner_texts()]
        identifier = re.search(r"(-?\d+)(\s*in time: under \d+ s)?$", line.locator("th").inner_text())
        assert identifier
        if identifier[2]:
            project = int(identifier[1])
        found[project, None if identifier[2] else int(identifier[1])] = cells
    return found


# Keys.


@pytest.mark.parametrize("query", ["", CHOSEN])
def test_everything_is_reached_by_keyboard_and_the_focus_is_seen(browser: Browser, url: str, query: str) -> None:
    """Tab visits each link and the region that scrolls, in the page's order, and each has an outline."""
    with opened(browser, url + query, viewport=DESK) as seen:
        page = seen.page
        wanted = page.eval_on_selector_all("main a, main .scroll", "all => all.map((e) => e.id)")
        assert len(wanted) > 3
        for identifier in wanted:
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.id") == identifier
            style, width = page.evaluate(
                "(({outlineStyle, outlineWidth}) => [outlineStyle, parseFloat(outlineWidth)])"
                "(getComputedStyle(document.activeElement))"
            )
            assert style != "none"
            assert width >= 2


def test_a_refresh_keeps_the_focus_and_the_place(browser: Browser, url: str, day: Day) -> None:
    """Who reads with a keyboard or has scrolled goes on where they were."""
    with opened(browser, url + CHOSEN, viewport=PHONE) as seen:
        page = seen.page
        page.locator("#scroll").focus()
        page.evaluate("document.getElementById('scroll').scrollLeft = 77; window.scrollTo(0, 333)")
        day.clock.advance(timedelta(seconds=5))
        refresh(page)
        as_of(page, "10:40:05")
        assert page.evaluate("[document.activeElement.id, scrollY]") == ["scroll", 333]
        assert page.evaluate("document.getElementById('scroll').scrollLeft") == 77
        page.keyboard.press("ArrowRight")
        eventually(lambda: page.evaluate("document.getElementById('scroll').scrollLeft > 77"), "a step to the right")
        page.locator("#metrics").focus()
        day.clock.advance(timedelta(seconds=5))
        refresh(page)
        as_of(page, "10:40:10")
        assert page.evaluate("document.activeElement.id") == "metrics"


# Refreshes.


def cell(page: Page, queue: str) -> Any:
    """Return the first number of a queue's line."""
    return page.locator(".figures tr", has=page.locator("th", has_text=queue)).locator("td").first


def test_the_page_refreshes_itself_and_changes_its_numbers(browser: Browser, url: str, day: Day) -> None:
    """Each period, by itself and without being loaded anew; the title tells of trouble in a tab that is not seen."""
    with opened(browser, "", viewport=DESK) as seen:
        page = seen.page
        page.clock.install()
        page.goto(url + CHOSEN)
        page.evaluate("window.mark = 'the same document'")
        assert page.title().startswith("1 customer ")
        before = cell(page, "1101").inner_text()
        for minutes in (20, 40):
            day.clock.advance(timedelta(minutes=20))
            day.poll("bank")
            now = f"{10 + (40 + minutes) // 60}:{(40 + minutes) % 60:02}:00"
            page.clock.fast_forward(1000 * (REFRESH_S - 1))
            assert now not in page.locator(".as-of").inner_text()
            page.clock.fast_forward(1000)
            as_of(page, now)
            number = cell(page, "1101").inner_text()
            assert int(number.split()[-1]) > int(before.split()[-1])
            before = number
        day.clock.advance(timedelta(hours=1))
        page.clock.fast_forward(1000 * REFRESH_S)
        as_of(page, "12:20:00")
        assert page.title().startswith("1 of 1 in trouble")
        expect(page.locator(".card")).to_contain_text("No numbers.")
        assert page.evaluate("window.mark") == "the same document"
        assert seen.complaints == []


def test_a_page_that_lost_the_exporter_says_so(
    browser: Browser, start_daemon: StartDaemon, simulator: Simulator
) -> None:
    """A banner tells since when, above numbers that stay; it goes once a daemon is back on the port."""
    config = f"customers:\n  - {{name: bank, url: '{simulator.url}', api_key: {ROADSIDE.key}, timezone: UTC}}\n"
    address = LOOPBACK.replace(":0", f":{free_port()}")
    daemon = start_daemon(config, address)
    with opened(browser, "", viewport=PHONE) as seen:
        page = seen.page
        page.clock.install()
        page.goto(daemon.url)
        banner = page.locator("#lost")
        expect(banner).to_be_hidden()
        assert daemon.stop() == 0
        page.clock.fast_forward(1000 * REFRESH_S)
        expect(banner).to_be_visible()
        assert banner.get_attribute("role") == "alert"
        words = banner.inner_text()
        assert re.fullmatch(r"The exporter has not answered since \d+:\d\d:\d\d.*: what stands below is old\.", words)
        page.evaluate(
            "new MutationObserver(() => { window.again = true; }).observe(document.querySelector('#lost'), "
            "{childList: true, characterData: true, subtree: true})"
        )
        for _ in range(3):
            with page.expect_event("requestfailed"):
                refresh(page)
        assert (banner.inner_text(), page.evaluate("window.again")) == (words, None), "said again to who listens"
        expect(page.locator(".card")).to_be_visible()
        assert page.evaluate(TOO_WIDE) == []

        start_daemon(config, address)
        page.clock.fast_forward(1000 * REFRESH_S)
        expect(banner).to_be_hidden()
        expect(page.locator("body")).not_to_have_class("lost")


@pytest.mark.parametrize(
    "answer",
    [{"status": 500, "body": "no"}, {"status": 200, "content_type": "text/html", "body": "<h1>Sign in</h1>"}],
    ids=["500", "a-page-of-a-proxy"],
)
def test_another_answer_than_the_page_takes_nothing_away(
    browser: Browser, url: str, day: Day, answer: dict[str, Any]
) -> None:
    """An error, or a page that somebody else sent, counts as no answer; and the next true one is shown."""
    with opened(browser, url, viewport=DESK) as seen:
        page = seen.page
        page.route("**", lambda route: route.fulfill(**answer))
        refresh(page)
        expect(page.get_by_role("alert")).to_be_visible()
        assert page.locator(".card").count() == 7
        page.unroute_all()
        day.clock.advance(timedelta(seconds=5))
        refresh(page)
        as_of(page, "10:40:05")
        expect(page.locator("#lost")).to_be_hidden()


def test_the_policy_stops_what_is_not_the_pages_own(browser: Browser, url: str) -> None:
    """A script and a style that somebody brought in do nothing, and nothing goes out."""
    with opened(browser, url) as seen:
        page = seen.page
        page.evaluate(
            """
            () => {
              const script = document.createElement("script");
              script.textContent = "window.owned = true";
              const image = document.createElement("img");
              image.src = "http://127.0.0.1:9/x.png";
              document.body.append(script, image);
            }
            """
        )
        eventually(lambda: page.evaluate("document.querySelector('body > img').complete"), "the end of the image")
        assert page.evaluate("window.owned") is None
        assert len([complaint for complaint in seen.complaints if "Content Security Policy" in complaint]) == 2
