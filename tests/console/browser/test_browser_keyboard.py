"""Everything by keyboard, and seven tabs at once."""

from __future__ import annotations

import re

from browser_tabs import Tabs
from playwright.async_api import expect


async def test_a_run_is_found_read_and_done_again_by_keyboard_alone(tabs: Tabs) -> None:
    """The keyboard leads from the list to a run, and to the form of its replay."""
    run_id = tabs.console.system.api.trigger("seed-data").run_id
    tabs.console.system.end(run_id)
    page = await tabs.open("/runs?job=seed-data")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Skip to the page"
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "main"
    await page.keyboard.press("j")
    assert await page.evaluate("document.activeElement.id") == f"row-{run_id}"
    assert await page.get_by_role("tooltip").count() == 0  # it would cover the next row
    await page.keyboard.press("x")
    await expect(page.locator(f"#row-{run_id} input[type=checkbox]")).to_be_checked()
    await page.keyboard.press("x")
    await page.keyboard.press("Enter")
    await page.wait_for_url(re.compile(f"/runs/{run_id}"))
    await page.go_back()
    await page.wait_for_function(f"() => document.activeElement.id === 'row-{run_id}'")  # where one was
    await page.keyboard.press("r")
    await page.wait_for_url(re.compile(f"/runs/{run_id}/replay"))


async def test_a_row_keeps_the_focus_while_the_list_is_renewed(tabs: Tabs) -> None:
    """Enter opens the run that was walked to, though others have come meanwhile."""
    api = tabs.console.system.api
    run_id = api.trigger("seed-data").run_id
    tabs.console.system.end(run_id)
    page = await tabs.open("/runs?job=seed-data")
    await page.keyboard.press("j")
    assert await page.evaluate("document.activeElement.id") == f"row-{run_id}"
    tabs.console.system.end(api.trigger("seed-data").run_id)
    await expect(page.get_by_role("button", name="1 new run")).to_be_visible()
    await page.keyboard.press("Enter")
    await page.wait_for_url(re.compile(f"/runs/{run_id}"))


async def test_the_focus_can_be_seen_on_everything_that_tab_reaches(tabs: Tabs) -> None:
    """Tab stops at controls in the order of the page, each with an outline."""
    page = await tabs.open("/hosts/demo")
    for _ in range(25):
        await page.keyboard.press("Tab")
        width = await page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        name = await page.evaluate("document.activeElement.outerHTML.slice(0, 120)")
        assert width in ("2px", "1.5px"), name


async def test_a_menu_opens_and_closes_by_keyboard(tabs: Tabs) -> None:
    """Enter opens a menu, Escape closes it and gives the focus back."""
    page = await tabs.open("/hosts")
    summary = page.locator("summary[aria-label^='Time zone']")
    await summary.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="UTC")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="UTC")).to_be_hidden()
    assert await page.evaluate("document.activeElement.tagName") == "SUMMARY"


async def test_seven_tabs_are_all_live(tabs: Tabs) -> None:
    """Seven tabs of one browser show a new event; no more than four hold a connection."""
    context = await tabs.context()
    pages = [await context.new_page() for _ in range(7)]
    for page in pages:
        await page.goto(tabs.console.url + "/activity?all=1")
    run_id = tabs.console.system.api.trigger("seed-data").run_id
    for page in pages:
        await expect(page.locator(f"#activity-list a[href='/runs/{run_id}']").first).to_be_visible()
