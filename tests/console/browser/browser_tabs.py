"""Tabs of a real Chromium that is logged in to a console, and what went wrong in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from console_system import ConsoleSystem
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect

__all__ = ["CHROMIUM", "DESK", "PHONE", "Tabs", "axe_findings"]

CHROMIUM = "/usr/bin/chromium"
DESK = (1280, 800)
PHONE = (360, 740)
PATIENCE = 90_000
"""Milliseconds that a test waits for what a page should show."""
expect.set_options(timeout=PATIENCE)
_FASTER_THAN_THE_PAGE = "Autofocus processing was blocked because a document already has a focused element"
"""Said by Chromium when a test types into a field before the page is drawn for the first time."""

_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_COLOURS = ["color-contrast", "link-in-text-block"]


@dataclass(kw_only=True)
class Tabs:
    """Opens tabs; keeps what the browser complained about.

    :param allowed: parts of messages that a test expects, such as ``status of 404``
    :ivar complaints: messages of the console, errors of scripts, and requests to elsewhere
    """

    browser: Browser
    console: ConsoleSystem
    allowed: list[str] = field(default_factory=lambda: [_FASTER_THAN_THE_PAGE])
    complaints: list[str] = field(default_factory=list)
    _contexts: list[BrowserContext] = field(default_factory=list)
    _places: set[str] = field(default_factory=set)

    async def context(
        self,
        *,
        size: tuple[int, int] = DESK,
        theme: Literal["light", "dark"] = "light",
        zone: str = "Europe/Paris",
        chosen: str = "",
        scripts: bool = True,
        login: bool = True,
        still: bool = False,
    ) -> BrowserContext:
        """Return a new browser with a jar of cookies of its own.

        :param zone: the zone of the machine
        :param chosen: the zone that was chosen, as its cookie has it; empty for that of the machine
        :param login: False for one without a session
        :param still: True for a person who wants no motion
        """
        context = await self.browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=theme,
            timezone_id=zone,
            locale="en-GB",
            java_script_enabled=scripts,
            has_touch=size[0] < 500,
            is_mobile=size[0] < 500,
            reduced_motion="reduce" if still else "no-preference",
        )
        context.set_default_timeout(PATIENCE)
        self._contexts.append(context)
        url = self.console.url
        self._places.add(urlsplit(url).netloc)
        await context.add_cookies([{"name": "zone", "value": chosen or zone, "url": url}])
        if login:
            cookie = self.console.cookie()
            await context.add_cookies([{"name": cookie["name"], "value": cookie["value"], "url": url}])
        context.on("console", self._said)
        context.on("weberror", lambda error: self._complain(f"script: {error.error}"))
        context.on("request", self._asked)
        return context

    async def open(
        self,
        path: str,
        *,
        size: tuple[int, int] = DESK,
        theme: Literal["light", "dark"] = "light",
        zone: str = "Europe/Paris",
        chosen: str = "",
        scripts: bool = True,
        login: bool = True,
        still: bool = False,
    ) -> Page:
        """Open an address of the console in a new browser; see :meth:`context`."""
        context = await self.context(
            size=size, theme=theme, zone=zone, chosen=chosen, scripts=scripts, login=login, still=still
        )
        page = await context.new_page()
        await page.goto(self.console.url + path)
        return page

    async def close(self) -> None:
        """Close every tab."""
        for context in self._contexts:
            await context.close()
        self._contexts.clear()

    def _said(self, message: ConsoleMessage) -> None:
        self._complain(f"console: {message.type} {message.text} ({message.location.get('url', '')})")

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("blob", "data") and parts.netloc not in self._places:
            self._complain(f"request to elsewhere: {request.url}")

    def _complain(self, text: str) -> None:
        if not any(part in text for part in self.allowed):
            self.complaints.append(text)


async def axe_findings(page: Page, *, colours: bool = False) -> list[str]:
    """Return what axe finds wrong with a page, one line for each element.

    It is scrolled to its top: of a target that the header covers in part, axe says that it is too small.

    :param colours: True for the rules about colours only, which are what another theme can break
    """
    options = {
        "runOnly": {"type": "rule", "values": _COLOURS} if colours else {"type": "tag", "values": _RULES},
        "resultTypes": ["violations"],
    }
    await page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
    results = await Axe().run(page, options=options)
    return [
        f"{found['id']}: {found['help']}: {node['html'][:200]} ({node.get('failureSummary', '')[:300]})"
        for found in results.response["violations"]
        for node in found["nodes"]
    ]
