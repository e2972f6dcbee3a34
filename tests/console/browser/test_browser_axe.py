"""Every state that a page can be in is accessible: light and dark, wide and on a phone."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from typing import Literal

import pytest
from browser_tabs import DESK, PHONE, Tabs, axe_findings
from console_system import RUN_PAGE_PROJECT, ConsoleSystem
from playwright.async_api import Page, expect

from nomaflow.client import TriggerOrder
from nomaflow.client.values import RunView
from real_system import eventually

_THEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
PROJECT = RUN_PAGE_PROJECT


async def check(page: Page) -> None:
    """Look at a page in light and dark, wide and narrow, and at whether it fits."""
    for size in (DESK, PHONE):
        await page.set_viewport_size({"width": size[0], "height": size[1]})
        for theme in _THEMES:
            await page.emulate_media(color_scheme=theme)
            found = await axe_findings(page, colours=theme == "dark")
            assert not found, "\n".join([f"{page.url}, {theme}, {size[0]} px wide", *found])
        assert await page.evaluate("document.documentElement.scrollWidth") <= size[0], page.url


def ended(console: ConsoleSystem, order: TriggerOrder) -> str:
    """Run a job; return the id of the run."""
    api = console.system.api
    run: RunView = api.wait(api.trigger(order).run_id)
    return run.run_id


def started(console: ConsoleSystem, job: str, **steps: Mapping[str, int]) -> str:
    """Start a run that goes on for as long as a test may take; return its id once its step runs."""
    order = TriggerOrder(job_id=job, op_kwargs=steps, overlap="allow")
    run_id: str = console.system.api.trigger(order).run_id
    eventually(lambda: console.system.run(run_id).steps[0].last.worker_pid)
    return run_id


async def test_a_run_with_a_log_and_one_without(tabs: Tabs, console: ConsoleSystem) -> None:
    """The seal, the filter and the empty log."""
    for lines, sign in ((30, "✓"), (0, "✓")):
        run_id = ended(console, TriggerOrder(job_id="big-log", op_kwargs={"scan": {"lines": lines}}))
        page = await tabs.open(f"/runs/{run_id}")
        assert (await page.title()).startswith(sign)
        await check(page)
    page = await tabs.open(f"/runs/{run_id}?step=scan&level=40&q=nothing")
    await check(page)


async def test_runs_on_more_than_one_page(tabs: Tabs, console: ConsoleSystem) -> None:
    """The links to newer and older ones, on the first page and on the second."""
    order = TriggerOrder(job_id="big-log", op_kwargs={"scan": {"lines": 0}}, overlap="allow")
    console.system.api.trigger_many([order] * 60)
    page = await tabs.open("/runs?since=ever")
    await check(page)
    await page.get_by_role("link", name="older ›").click()
    await expect(page.get_by_role("link", name="‹ newer")).to_be_visible()
    await check(page)


async def test_a_failed_run_with_everything_opened(tabs: Tabs, console: ConsoleSystem) -> None:
    """Tries, values, folds, a picked line, and the log in its full window."""
    run_id = ended(console, TriggerOrder(job_id="month-end"))
    page = await tabs.open(f"/runs/{run_id}")
    await page.wait_for_selector(".is-windowed .log-line")
    await page.evaluate("for (const each of document.querySelectorAll('main details')) each.open = true")
    await page.keyboard.press("E")
    await page.wait_for_selector(".is-picked")
    await check(page)
    await page.keyboard.press("f")
    await page.wait_for_selector(".is-full")
    await check(page)


async def test_a_run_that_runs_is_stopped_and_is_canceled(tabs: Tabs, console: ConsoleSystem) -> None:
    """The moving edge, progress, a look into the process, the question before a cancel, the ladder, and its end."""
    run_id = started(console, "talker", talk={"lines": 100_000})
    page = await tabs.open(f"/runs/{run_id}")
    await page.wait_for_selector("#run-timeline progress")
    await page.evaluate("for (const each of document.querySelectorAll('main details')) each.open = true")
    await check(page)
    await page.goto(f"{console.url}/runs/{run_id}/inspect/talk/1")
    await check(page)
    await page.goto(f"{console.url}/runs/{run_id}/cancel")
    await check(page)
    spins = started(console, "spinner")
    await page.goto(f"{console.url}/runs/{spins}")
    console.system.api.cancel(spins, why="a test")
    await page.wait_for_selector("#run-head .state-stopping")
    assert await axe_findings(page) == []
    await page.wait_for_selector("#run-head .state-canceled")
    await check(page)
    console.system.api.cancel(run_id, why="over")
    console.system.end(run_id)


async def test_a_run_that_waits(tabs: Tabs, console: ConsoleSystem) -> None:
    """Its sentence says for what, on its page and on the first one."""
    [host] = console.system.api.list_hosts()
    console.system.api.pause(host=host.name, why="a test")
    run_id = console.system.api.trigger("talker").run_id
    page = await tabs.open(f"/runs/{run_id}")
    await expect(page.locator("#run-head")).to_contain_text("waits")
    await check(page)
    for path in ("/", f"/hosts/{host.name}", "/jobs/talker"):
        await page.goto(console.url + path)
        await check(page)
    console.system.api.cancel(run_id, why="over")
    console.system.api.resume(host=host.name)


async def test_forms_with_what_is_wrong_in_them(tabs: Tabs, console: ConsoleSystem) -> None:
    """Messages stand beside their fields and are tied to them; questions about many runs, and comparisons."""
    tabs.allowed += ["status of 400", "status of 409"]
    runs = [ended(console, TriggerOrder(job_id="month-end")) for _ in range(2)]
    page = await tabs.open("/jobs/month-end/run")
    await page.get_by_label("tenant int").first.fill("ten")
    await page.get_by_role("button", name="Run", exact=True).click()
    await expect(page.get_by_text("'ten' is not a whole number").first).to_be_visible()
    await check(page)
    await page.goto(f"{console.url}/runs/{runs[0]}/replay?from=score")
    await check(page)
    await page.goto(console.url + "/pause")
    await page.get_by_label("until, date and time").fill("soon")
    await page.get_by_label("until", exact=True).check()
    await page.get_by_role("button", name="Pause").click()
    await expect(page.locator(".wrong").first).to_be_visible()
    await check(page)
    await page.goto(f"{console.url}/runs/compare?run={runs[0]}&run={runs[1]}")
    await check(page)
    await page.goto(console.url + "/runs")
    await check(page)
    for box in (await page.locator("#runs-rows input[name=run]").all())[:2]:
        await box.check()
    await page.locator(".bulk").get_by_role("button", name="Replay…").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("2 runs")
    await check(page)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nowhere", 404),
        ("/jobs/month-ned", 404),
        ("/runs/run_00000000000000000000000000", 404),
        ("/hosts/nobody", 404),
        ("/search?q=nothing-like-it", 0),
        ("/runs?state=LOST&since=yesterday&job=nobody", 0),
        ("/activity?by=nobody", 0),
        ("/schedule?from=2027-01-01&days=31&show=collisions", 0),
        ("/jobs?text=nobody", 404),
        ("/?text=nobody", 0),
    ],
)
async def test_what_is_not_there(tabs: Tabs, path: str, status: int) -> None:
    """Unknown addresses and names, and lists in which nothing matches."""
    tabs.allowed += [f"status of {status}"] if status else []
    await check(await tabs.open(path))


async def test_who_is_not_logged_in(tabs: Tabs, console: ConsoleSystem) -> None:
    """The login, a code that is wrong, a form of another session, and a session that ends under a page."""
    tabs.allowed += ["status of 403", "status of 401", "Failed to fetch", "network error", "ERR_INCOMPLETE_CHUNKED"]
    page = await tabs.open("/login", login=False)
    await check(page)
    await page.get_by_label("Or paste its code").fill("nonsense")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_be_visible()
    await check(page)
    page = await tabs.open("/pause")
    await page.evaluate("document.querySelector('main input[name=csrf]').value = 'of another'")
    await page.get_by_label("Why?").fill("a test")
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("button", name="Send again")).to_be_visible()
    await check(page)
    page = await tabs.open("/hosts")
    other = await page.context.new_page()
    await other.goto(console.url + "/kernel")
    await other.get_by_label("Session").click()
    await other.get_by_role("button", name="Log out").click()
    await expect(page.locator("#live-bar")).to_contain_text("Your session is over")
    await check(page)


async def test_a_host_is_lost_and_then_the_kernel_is_away(tabs: Tabs, console: ConsoleSystem) -> None:
    """Two clocks, a run whose outcome is not known, a page from memory, and one that was never shown."""
    tabs.allowed.append("status of 503")
    run_id = started(console, "talker", talk={"lines": 100_000})
    host = console.system.parts["host"]
    page = await tabs.open("/hosts")
    os.kill(host.pid, signal.SIGSTOP)
    try:
        await expect(page.locator("#hosts-list")).to_contain_text(re.compile("LOST in .*; it does not run again"))
        assert await axe_findings(page) == []
        await page.goto(f"{console.url}/runs/{run_id}")
        await page.wait_for_selector("#run-tries .state-lost")
        await check(page)
        console.system.kernel.kill()
        await expect(page.locator("#kernel-line .is-away")).to_be_visible()
        await page.evaluate("document.getElementById('log').classList.add('is-away')")  # as once it has asked in vain
        await check(page)
        await page.goto(f"{console.url}/runs/{run_id}")
        await expect(page.locator("#kernel-line")).to_contain_text("the page is as of")
        await check(page)
        await page.goto(console.url + "/search?q=never")
        await expect(page.get_by_role("heading", name="The kernel does not answer")).to_be_visible()
        await check(page)
    finally:
        host.kill()
