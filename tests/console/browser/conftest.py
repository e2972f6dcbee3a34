"""Fixtures of the tests in a real browser.

They are our own: those of pytest-playwright are synchronous, and leave later asynchronous tests unawaited. All tests of
a module share one event loop, one Chromium and one system.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from browser_tabs import CHROMIUM, Tabs
from console_system import ConsoleSystem
from playwright.async_api import Browser, async_playwright

from machine_parts import need

_HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of a module one event loop: that of its browser."""
    for item in items:
        if item.path.parent == _HERE:
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium."""
    need("chromium")
    async with async_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def tabs(chromium: Browser, console: ConsoleSystem) -> AsyncIterator[Tabs]:
    """Tabs of a console; the test fails if a browser had anything to complain about."""
    made = Tabs(browser=chromium, console=console)
    yield made
    await made.close()
    assert not made.complaints, "\n".join(made.complaints)
