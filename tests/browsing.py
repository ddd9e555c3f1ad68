"""The installed Chromium, driven as a person would."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright

# Containers give no sandbox to root.
LAUNCH: Final[dict[str, Any]] = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]}
"""How the browser is started."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**LAUNCH)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator["Watched"]:
    """Open a page in a context of its own with these options, and watch what it does; empty url: a page of nothing."""
    context = browser.new_context(**options)
    context.set_default_timeout(60_000)
    try:
        watched = Watched(context.new_page())
        if url:
            watched.page.goto(url)
        yield watched
    finally:
        context.close()


class Watched:
    """A page with all that it complained of and asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))
