"""The schedule and the times of a page in three zones, over the nights on which clocks change."""

from __future__ import annotations

import re

import pytest
from browser_tabs import Tabs, axe_findings
from console_system import ConsoleSystem
from playwright.async_api import expect

from nomaflow_console.assets import STATIC
from real_system import eventually

NIGHTS = [
    ("Europe/Paris", "2027-03-28", "clocks go forward by 1 h"),
    ("America/New_York", "2027-03-14", "clocks go forward by 1 h"),
    ("Asia/Tokyo", "2027-03-28", ""),
]


@pytest.mark.parametrize(("zone", "day", "change"), NIGHTS)
async def test_the_schedule_marks_the_night_of_a_change_in_each_zone(
    tabs: Tabs, zone: str, day: str, change: str
) -> None:
    """The day says what clocks do in the reader's zone, and the job's fire keeps its own clock."""
    page = await tabs.open(f"/schedule?from={day}&days=1", zone=zone)
    section = page.locator(f"#day-{day}")
    await expect(section).to_be_visible()
    text = await section.inner_text()
    assert (change in text) if change else ("clocks" not in text.split("On its own clock")[0])
    assert await axe_findings(page) == []


async def test_a_fire_in_the_hour_that_is_skipped_is_marked(tabs: Tabs) -> None:
    """The cleanup at 02:30 in Paris fires when the clock goes on, and says that its time was skipped."""
    page = await tabs.open("/schedule?from=2027-03-28&days=1&job=nightly-cleanup")
    row = page.locator("#day-2027-03-28 tbody tr")
    await expect(row).to_contain_text("skipped hour")
    assert await row.locator("time[data-at]").inner_text() == "28 Mar 2027 03:00"


@pytest.mark.parametrize(
    ("zone", "chosen", "shown"),
    [
        ("Europe/Paris", "", "02:30"),
        ("America/New_York", "", "20:30"),
        ("Asia/Tokyo", "", "10:30"),
        ("Asia/Tokyo", "UTC:Asia/Tokyo", "01:30"),
        ("Asia/Tokyo", "job:Asia/Tokyo", "02:30 Paris"),
    ],
)
async def test_all_times_of_a_page_are_in_the_zone_of_its_header(
    tabs: Tabs, zone: str, chosen: str, shown: str
) -> None:
    """One instant reads differently in each zone, and the header names the zone."""
    page = await tabs.open("/schedule?from=2027-01-11&days=2&job=nightly-cleanup", zone=zone, chosen=chosen)
    first = page.locator("tbody tr time[data-at]").first
    assert re.search(rf"\b{shown}$", await first.inner_text())
    name = await page.locator("summary[aria-label^='Time zone']").inner_text()
    place = zone.rsplit("/", 1)[1].replace("_", " ")
    assert name.strip() == {"UTC": "UTC", "job": "each job's zone"}.get(chosen.partition(":")[0], place)


@pytest.mark.parametrize("before", ["Europe/Paris", "100%"])
async def test_a_browser_that_moved_tells_its_new_zone(tabs: Tabs, before: str) -> None:
    """A machine that was in Paris and is in Tokyo now sees Tokyo's times, after the page has loaded itself again.

    So does one whose cookie another program at the same host has written: cookies know no ports.
    """
    page = await tabs.open("/kernel", zone="Asia/Tokyo", chosen=before)
    await expect(page.locator("summary[aria-label^='Time zone']")).to_contain_text("Tokyo")
    await expect(page.locator("time[data-at]").first).to_have_attribute("data-at", re.compile("JST"))


async def test_the_zone_can_be_chosen_with_and_without_a_script(tabs: Tabs) -> None:
    """The menu changes the zone of the page that is open, and of the next."""
    for scripts in (True, False):
        page = await tabs.open("/kernel", scripts=scripts)
        await page.locator("summary[aria-label^='Time zone']").click()
        await page.get_by_role("button", name="UTC").click()
        await expect(page.locator("summary[aria-label^='Time zone']")).to_contain_text("UTC")
        await page.goto(tabs.console.url + "/hosts")
        await expect(page.locator("summary[aria-label^='Time zone']")).to_contain_text("UTC")


async def test_run_now_stands_beside_each_fire(tabs: Tabs) -> None:
    """A coming fire can be started now: its button leads to the job's form."""
    page = await tabs.open("/schedule?from=2027-03-28&days=1&job=nightly-cleanup")
    await page.get_by_role("link", name="Run nightly-cleanup now").click()
    await page.wait_for_url(re.compile(r"/jobs/nightly-cleanup/run"))


async def test_the_list_of_fires_stays_under_the_pointer(tabs: Tabs, console: ConsoleSystem) -> None:
    """Fires that a reload of their host takes away wait behind a button; elsewhere they go by themselves."""
    page = await tabs.open("/schedule?days=2&job=nightly-cleanup")
    await page.wait_for_function("() => document.querySelector('#live > div') !== null")
    rows = page.locator("#schedule-days tr[id^=fire-]")
    await expect(rows.first).to_be_visible()
    before = await rows.count()
    await rows.first.hover()
    place = await rows.first.bounding_box()
    api, jobs = console.system.api, console.project / "jobs.toml"
    api.pause(job_id="nightly-cleanup", why="x")
    await expect(rows.first).to_contain_text("paused")
    assert await rows.first.bounding_box() == place
    scheduled = jobs.read_text()
    try:
        jobs.write_text(scheduled.replace('schedule = "30 2 * * *"\n', ""))
        api.reload_host("demo")
        button = page.get_by_role("button", name="fewer")
        await expect(button).to_have_text(re.compile(rf"↑ {before} fires? fewer"))
        await expect(rows).to_have_count(before)
        await button.click()
        await expect(rows).to_have_count(0)
    finally:
        jobs.write_text(scheduled)
        api.reload_host("demo")
        api.resume(job_id="nightly-cleanup")


async def test_a_list_of_thousands_of_fires_waits_without_a_search_for_each(tabs: Tabs) -> None:
    """A day may have ten thousand: to look through the page for each row of a fresh list froze it for seconds."""
    page = await tabs.browser.new_page()
    await page.set_content("<main></main>")
    await page.add_script_tag(content=f"{(STATIC / 'js' / 'held.js').read_text()}\nwindow.Held = HeldWhole;")
    script = """() => {
      const list = (count, word) => `<div id="list"><div id="new-rows"></div>${
        Array.from({ length: count }, (_, at) => `<p data-row id="row-${at}">${word}</p>`).join("")}</div>`;
      document.body.innerHTML = list(500, "old");
      const fresh = document.createElement("template"), held = new Held("list", "row");
      const search = Element.prototype.querySelector;
      fresh.innerHTML = list(499, "new");
      let searches = 0;
      Element.prototype.querySelector = function (text) { searches++; return search.call(this, text); };
      held.hold(fresh.content);
      const shown = fresh.content.querySelectorAll("p");
      return [searches, held.count, shown.length, shown[0].textContent, shown[499].textContent];
    }"""
    searches, *told = await page.evaluate(script)
    assert told == [-1, 500, "new", "old"]
    assert searches < 5
    await page.close()


async def test_a_schedule_that_fires_often_is_one_line(tabs: Tabs) -> None:
    """The heartbeat of the demo, every five seconds, is one line with its number of fires."""
    page = await tabs.open("/schedule?days=1")
    await expect(page.locator("#frequent")).to_contain_text("heartbeat")
    assert await page.locator("tbody tr", has_text="heartbeat").count() == 1


async def test_runs_of_a_schedule_that_fires_often_are_counted_and_leave_room_for_the_others(
    tabs: Tabs, console: ConsoleSystem
) -> None:
    """Thousands of heartbeats are a number in their line, which leads to them, and no marks on the axis."""
    eventually(lambda: any(run.state == "SUCCEEDED" for run in console.system.api.list_runs(job_id="heartbeat")))
    page = await tabs.open("/schedule?days=1")
    line = page.locator("#frequent tr", has_text="heartbeat")
    ran = line.get_by_role("link", name=re.compile(r"^[\d,]+ ok$"))
    await expect(ran).to_be_visible()
    assert await page.locator(".strip a[aria-label*=heartbeat]").count() == 0
    await ran.click()
    await expect(page.locator("#runs-rows tr").first).to_contain_text("heartbeat")
    yesterday = await tabs.open("/schedule?days=1&from=2026-01-01")
    await expect(yesterday.locator("#frequent tr", has_text="heartbeat")).to_contain_text("none")
