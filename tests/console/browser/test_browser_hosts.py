"""Hosts in a real browser: reloads that serve and that are refused, and a host that falls silent."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from browser_tabs import Tabs, axe_findings
from playwright.async_api import Page, expect

from real_system import eventually


async def _reload(page: Page) -> None:
    await page.locator("summary", has_text="Reload…").click()
    await page.get_by_role("button", name="Reload demo").click()


async def test_a_reload_says_what_came_of_it_and_who_asked(tabs: Tabs) -> None:
    """A refused load names file and line and what stays in use; after the repair the reload is accepted."""
    plugin = Path(tabs.console.project) / "plugins" / "demo" / "heartbeat.py"
    good = plugin.read_text()
    page = await tabs.open("/hosts/demo")
    plugin.write_text(good + "\nimport a_module_that_is_not_there\n")
    try:
        await _reload(page)
        await expect(page.locator("main")).to_contain_text("Load refused")
        await expect(page.locator("main")).to_contain_text("stays in use")
        await expect(page.locator("#loads")).to_contain_text("a_module_that_is_not_there")
        told = await page.locator("#host-top").inner_text()
        assert (told.count("a_module_that_is_not_there"), told.count("refused the load above")) == (1, 1), told
        assert await axe_findings(page) == []
        await expect(page).to_have_url(tabs.console.url + "/hosts/demo#loads")
    finally:
        plugin.write_text(good)
    await page.set_viewport_size({"width": 1280, "height": 300})
    await _reload(page)
    await expect(page.locator("#loads")).to_contain_text("Reloaded")
    await expect(page.locator("#loads")).to_contain_text("by ")
    top = "Math.round(document.getElementById('loads').getBoundingClientRect().top)"
    header = "document.querySelector('header.top').getBoundingClientRect().bottom"
    await page.wait_for_function(f"() => {top} >= {header} && {top} < innerHeight")


async def test_a_reload_works_without_a_script(tabs: Tabs) -> None:
    """The form of a reload is a form."""
    page = await tabs.open("/hosts", scripts=False)
    await _reload(page)
    await expect(page.locator("#loads")).to_contain_text("Reloaded")


async def test_the_callables_of_a_host_have_their_signatures(tabs: Tabs) -> None:
    """Each function is there with its parameters, types and defaults, and the jobs that call it."""
    page = await tabs.open("/hosts/demo")
    purge = page.locator("[id='myapp.cleanup:purge_old_sessions']")
    await expect(purge).to_contain_text("max_age_days: int = 30")
    await purge.locator("summary").click()
    await expect(purge).to_contain_text("nightly-cleanup")


async def test_a_silent_host_counts_down_and_comes_back_by_itself(tabs: Tabs) -> None:
    """A host that falls silent says so on a page that was open, with its clocks; once it is back, so does the page."""
    page = await tabs.open("/hosts")
    await expect(page.locator("#hosts-list")).to_contain_text("attached")
    run_id = tabs.console.system.api.trigger("seed-data").run_id
    tabs.console.system.end(run_id)
    long = tabs.console.system.api.trigger("month-end").run_id
    eventually(lambda: tabs.console.system.run(long).current_step == "score")
    pid = tabs.console.system.parts["host"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        await expect(page.locator("#hosts-list")).to_contain_text("silent")
        await expect(page.locator("#hosts-list")).to_contain_text("no new work")
        assert await axe_findings(page) == []
    finally:
        os.kill(pid, signal.SIGCONT)
    await expect(page.locator("#hosts-list")).to_contain_text("heard")
    await expect(page.locator("#hosts-list")).not_to_contain_text("silent")
    tabs.console.system.api.cancel(long)


async def test_an_open_worker_list_stays_open_when_the_page_lives(tabs: Tabs) -> None:
    """A list that a person has opened stays open when the page renders it again."""
    page = await tabs.open("/hosts")
    await page.locator(".instance-load summary").click()
    workers = page.locator(".workers").first
    await expect(workers).to_be_visible()
    heard = page.locator(".instance .ticks").first
    since = await heard.get_attribute("data-since")
    await expect(heard).not_to_have_attribute("data-since", since or "")
    await expect(workers).to_be_visible()
