"""Jobs, runs and forms in a real browser: what changes by itself, what waits, and what an edit shows at once."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urljoin

import pytest
from browser_tabs import PHONE, Tabs, axe_findings
from console_system import FORMS_PROJECT, ConsoleSystem
from playwright.async_api import Page, expect

from nomaflow.client import TriggerOrder

PROJECT = FORMS_PROJECT


@pytest.fixture(scope="module")
def console(console: ConsoleSystem) -> ConsoleSystem:
    """The console with a few runs."""
    for _ in range(3):
        console.system.api.wait(console.system.api.trigger("report").run_id)
    return console


async def _live(page: Page) -> None:
    await page.wait_for_function("() => document.querySelector('#live > div') !== null")


async def test_a_new_run_appears_by_itself_and_waits_while_one_works_with_the_rows(
    tabs: Tabs, console: ConsoleSystem
) -> None:
    """Rows stay in place under a pointer or a selection; a button says how many wait."""
    page = await tabs.open("/runs?job=report")
    await _live(page)
    rows = page.locator("#runs-rows tr")
    before = await rows.count()
    await page.mouse.move(5, 5)
    first = console.system.api.trigger("report").run_id
    await expect(rows).to_have_count(before + 1)
    await expect(page.locator(f"#row-{first}")).to_contain_text("ok")
    more = page.locator(f"#row-{first} details.menu").last
    await more.locator("summary").click()
    await expect(more.get_by_role("button", name="Copy the command")).to_be_visible()
    await page.keyboard.press("Escape")
    box = page.locator(f"#row-{first} input[name=run]")
    await box.check()
    second = console.system.api.wait(console.system.api.trigger("report").run_id).run_id
    await expect(page.get_by_role("button", name="↑ 1 new run")).to_be_visible()
    await expect(rows).to_have_count(before + 1)
    await expect(box).to_be_checked()
    await page.get_by_role("button", name="↑ 1 new run").click()
    await expect(rows.first).to_have_id(f"row-{second}")
    await expect(box).to_be_checked()


async def test_the_state_of_a_run_and_the_sign_of_its_warnings_stay_on_one_line(tabs: Tabs) -> None:
    """The state and its sign stay together, however narrow the column becomes."""
    page = await tabs.open("/runs?job=report")
    await expect(page.locator("#runs-rows tr td:nth-child(2)").first).to_have_css("white-space", "nowrap")


async def test_on_a_phone_the_line_about_the_kernel_is_whole_and_cards_name_the_next_fire(tabs: Tabs) -> None:
    """The line is not cut at the edge: the way to pause everything can be read. No number stands without its word."""
    page = await tabs.open("/schedule", size=PHONE)
    assert re.search(
        r"\d to come\s+next (tomorrow )?[0-9:]+", await page.locator("#frequent tbody tr").first.inner_text()
    )
    await page.goto(tabs.console.url + "/")
    assert re.search(r"next (tomorrow )?[0-9:]+", await page.locator("#job-half-hourly").inner_text())
    line = page.locator("#kernel-line")
    await expect(line).to_contain_text("Pause all…")
    assert await line.evaluate("line => line.scrollWidth - line.clientWidth") <= 0


async def test_a_skipped_run_shows_why_and_its_actions_cover_no_name(tabs: Tabs, console: ConsoleSystem) -> None:
    """The cause is not cut off on a laptop, and a long name wraps in its own cell on a phone."""
    api = console.system.api
    walk = api.trigger("walk").run_id
    api.trigger("walk")
    page = await tabs.open("/runs?job=walk&state=SKIPPED")
    why = page.locator("#runs-rows .why .clamp").first
    await expect(why).to_contain_text('was still running (overlap = "skip")')
    cut = """clamp => { const all = document.createRange(); all.selectNodeContents(clamp.firstChild);
      return all.getBoundingClientRect().bottom - clamp.getBoundingClientRect().bottom; }"""
    name = page.locator("#runs-rows .name").first
    await name.evaluate("name => { name.textContent = 'invoice-load-of-the-nightly-batch'; }")
    await page.set_viewport_size({"width": 1100, "height": 800})
    assert await why.evaluate(cut) <= 1
    await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    box, acts = await name.bounding_box(), await page.locator("#runs-rows .acts > *").first.bounding_box()
    assert box is not None
    assert acts is not None
    assert box["x"] + box["width"] <= acts["x"]
    api.cancel(walk)
    api.wait(walk)


async def test_a_paused_job_promises_no_fire(tabs: Tabs, console: ConsoleSystem) -> None:
    """Its page names none that the pause holds back; those after the end of a pause are named."""
    console.system.api.pause(job_id="half-hourly", why="vendor freeze")
    page = await tabs.open("/jobs/half-hourly")
    await expect(page.locator("main")).to_contain_text("no fire is due while it is paused")
    await expect(page.get_by_role("region", name="Next fires")).to_contain_text(
        "Nothing is due while the job is paused."
    )
    console.system.api.pause(job_id="half-hourly", why="vendor freeze", until=datetime.now(UTC) + timedelta(hours=1))
    page = await tabs.open("/jobs/half-hourly")
    await expect(page.get_by_role("region", name="Next fires").locator("li")).to_have_count(8)
    await page.goto(tabs.console.url + "/")
    await expect(page.locator("#job-half-hourly time")).not_to_have_count(0)


async def test_on_a_phone_the_axis_of_today_opens_at_now(tabs: Tabs, console: ConsoleSystem) -> None:
    """It is wider than the page, and begins at midnight; the line of now is in sight. It is noon in the page's zone."""
    console.system.api.pause(job_id="half-hourly", why="nothing of it has to run")
    ahead = 12 - datetime.now(UTC).hour
    page = await tabs.open("/schedule?days=1", size=PHONE, zone=f"Etc/GMT{-ahead:+}" if ahead else "UTC")
    left, right, hidden = await page.evaluate(
        """() => {
          const axis = document.querySelector(".strip-wrap"), frame = axis.getBoundingClientRect();
          const now = axis.querySelector(".now").getBoundingClientRect();
          return [now.left - frame.left, frame.right - now.left, axis.scrollWidth - axis.clientWidth];
        }"""
    )
    assert hidden > 0
    assert 0 < left < right


async def test_what_happens_while_one_reads_the_activity_waits_behind_a_button(
    tabs: Tabs, console: ConsoleSystem
) -> None:
    """A row stays under the pointer that is on it; elsewhere new ones come by themselves."""
    page = await tabs.open("/activity?job=report")
    await _live(page)
    rows = page.locator("#activity-list li[id]")
    await page.mouse.move(5, 5)
    before = await rows.count()
    console.system.api.wait(console.system.api.trigger("report").run_id)
    await expect(rows).to_have_count(before + 1)
    first = await rows.first.get_attribute("id")
    await rows.first.hover()
    place = await rows.first.bounding_box()
    for number in (1, 2):
        console.system.api.wait(console.system.api.trigger("report").run_id)
        name = "↑ 1 new event" if number == 1 else "↑ 2 new events"
        await expect(page.get_by_role("button", name=name)).to_be_visible()
    await expect(rows).to_have_count(before + 1)
    await expect(rows.first).to_have_id(first or "")
    assert await rows.first.bounding_box() == place
    await page.get_by_role("button", name="↑ 2 new events").click()
    await expect(rows).to_have_count(before + 3)
    await expect(rows.nth(2)).to_have_id(first or "")
    await expect(page.locator("#new-rows")).to_be_hidden()


async def test_a_new_run_of_a_job_waits_while_one_works_with_its_runs(tabs: Tabs, console: ConsoleSystem) -> None:
    """The page of a job holds its list as the page of runs does; what is known of the old rows comes all the same."""
    page = await tabs.open("/jobs/walk")
    await _live(page)
    rows = page.locator("#job-runs tr[id]")
    await page.mouse.move(5, 5)
    api = console.system.api
    first = api.trigger("walk").run_id
    await expect(page.locator(f"#row-{first}")).to_contain_text("running")
    before = await rows.count()
    await page.locator("#job-runs").scroll_into_view_if_needed()
    await page.locator(f"#row-{first}").hover()
    place = await page.locator(f"#row-{first}").bounding_box()
    second = api.trigger(TriggerOrder(job_id="walk", overlap="allow")).run_id
    button = page.get_by_role("button", name="↑ 1 new run")
    await expect(button).to_be_visible()
    api.cancel(first)
    await expect(page.locator(f"#row-{first}")).to_contain_text("canceled")
    await expect(rows).to_have_count(before)
    assert await page.locator(f"#row-{first}").bounding_box() == place
    await button.click()
    await expect(rows.first).to_have_id(f"row-{second}")
    await expect(button).to_have_count(0)
    api.cancel(second)
    api.wait(second)


async def test_the_table_of_jobs_stays_under_the_pointer_and_the_focus(tabs: Tabs, console: ConsoleSystem) -> None:
    """Rows of needs and of what runs come in above it only when nobody works with a part of the page."""
    api = console.system.api
    failing = TriggerOrder(job_id="report", op_kwargs={"score": {"fail": True}})
    page = await tabs.open("/")
    await _live(page)
    row = page.locator("#job-report")
    for holds in (lambda: row.hover(), lambda: row.locator("a.name").focus()):
        api.wait(api.trigger("report").run_id)
        await page.mouse.move(5, 5)
        await page.evaluate("document.activeElement.blur()")
        await expect(page.locator("#needs li", has_text="report")).to_have_count(0)
        await holds()
        place = await row.bounding_box()
        api.wait(api.trigger(failing).run_id)
        button = page.locator("#needs").get_by_role("button", name="↑ 1 new row")
        await expect(button).to_be_visible()
        assert await row.bounding_box() == place
        await button.click()
        await expect(page.locator("#needs li", has_text="report")).to_have_count(1)
        await expect(button).to_have_count(0)
    api.wait(api.trigger("report").run_id)


async def test_a_run_is_started_watched_and_canceled_from_the_first_page(tabs: Tabs, console: ConsoleSystem) -> None:
    """Its question stays open while the page changes around it; CANCELED comes by itself."""
    page = await tabs.open("/", size=(1280, 300))
    await _live(page)
    run_id = console.system.api.trigger("walk").run_id
    line = page.locator(f"#now-{run_id}")
    await expect(line).to_be_visible()
    await line.locator("summary").click()
    await expect(line.get_by_label(re.compile("Why"))).to_be_focused()
    await expect(line.get_by_role("button", name="Cancel the run")).to_be_in_viewport(ratio=1)
    await page.keyboard.type("wrong tenant")
    console.system.api.wait(console.system.api.trigger("report").run_id)
    await expect(page.locator("#job-report .last-run")).to_contain_text("ok")
    await expect(line.get_by_label(re.compile("Why"))).to_have_value("wrong tenant")
    await line.get_by_role("button", name="Cancel the run").click()
    await expect(page.locator("#job-walk .last-run")).to_contain_text("canceled")
    assert console.system.api.wait(run_id).state == "CANCELED"


async def test_an_edit_of_the_form_shows_the_difference_and_the_json_at_once(tabs: Tabs) -> None:
    """A wrong text stays in its field, with its message beside it."""
    page = await tabs.open("/jobs/report/run")
    await page.get_by_label("tenant int").first.fill("12")
    await page.get_by_label("batch int").fill("7")
    await page.get_by_label("batch int").press("Tab")
    differs = page.get_by_role("region", name="What will differ")
    await expect(differs).to_contain_text(re.compile(r"tenant\s*10\s*→\s*12"))
    await expect(differs).to_contain_text(re.compile(r"score\.batch\s*100\s*→\s*7"))
    await expect(page.locator("#json")).to_have_value(re.compile(r'"tenant": 12'))
    await page.get_by_label("batch int").fill("seven")
    await expect(differs).to_contain_text("1 value is wrong: score.batch")
    await page.get_by_label("batch int").press("Tab")
    await expect(page.get_by_text("'seven' is not a whole number, such as 10")).to_be_visible()
    await expect(page.get_by_label("batch int")).to_have_value("seven")
    await page.get_by_label("batch int").fill("8")
    await page.get_by_role("button", name="Run", exact=True).click()
    await expect(page).to_have_url(re.compile("/runs/run_"))


async def test_who_comes_back_to_a_refused_form_gets_the_form_and_sends_nothing_again(tabs: Tabs) -> None:
    """The browser would ask to send the form once more, or show its own error page."""
    tabs.allowed.append("status of 400")
    page = await tabs.open("/jobs/report/run")
    await page.get_by_label("batch int").fill("seven")
    await page.get_by_role("button", name="Run", exact=True).click()
    await expect(page.get_by_text("'seven' is not a whole number, such as 10")).to_be_visible()
    await page.get_by_role("link", name="Runs", exact=True).click()
    await expect(page).to_have_url(re.compile("/runs$"))
    await page.go_back()
    await expect(page.get_by_label("batch int")).to_be_visible()


async def test_the_difference_is_shown_while_one_types(tabs: Tabs) -> None:
    """Before the field is left, so that nobody starts a run beside the words that nothing differs."""
    page = await tabs.open("/jobs/report/run")
    field = page.get_by_label("tenant int").first
    await field.press_sequentially("12")
    differs = page.get_by_role("region", name="What will differ")
    await expect(differs).to_contain_text(re.compile(r"tenant\s*10\s*→\s*12"))
    await expect(field).to_be_focused()
    await field.press_sequentially("3")
    await expect(field).to_have_value("123")
    await expect(differs).to_contain_text(re.compile(r"tenant\s*10\s*→\s*123"))


async def test_the_command_of_a_pause_follows_the_choice(tabs: Tabs) -> None:
    """Whoever copies it pauses for as long as the form says."""
    page = await tabs.open("/jobs/report/pause")
    command = page.locator("#command")
    await expect(command).to_contain_text("nomaflow pause report --for 4h")
    await page.get_by_label("Why?").fill("vendor freeze")
    await page.get_by_label("for 1 hour").check()
    await expect(command).to_contain_text("nomaflow pause report --for 1h --why 'vendor freeze'")
    await expect(page.get_by_label("Why?")).to_have_value("vendor freeze")


async def test_views_and_the_last_filters_are_kept_in_this_browser(tabs: Tabs) -> None:
    """They are offered again, never forced."""
    page = await tabs.open("/runs?job=report&state=SUCCEEDED")
    await page.get_by_text("Views", exact=True).click()
    await page.get_by_label("Name of this view").fill("reports that went well")
    await page.get_by_role("button", name="Save view").click()
    for unknown in ("", "?page=-1&size=99999999", ""):
        await page.goto(page.url.partition("?")[0] + unknown)
        await expect(page.locator("#last-filters a")).to_have_text("again: succeeded, report")
    await page.get_by_text("Views", exact=True).click()
    await page.get_by_role("link", name="reports that went well").click()
    await expect(page).to_have_url(re.compile(r"job=report"))


async def test_columns_are_left_out_by_the_address(tabs: Tabs) -> None:
    """Headings and cells; the other columns stay under their headings, and the choice is no filter to take off."""
    page = await tabs.open("/runs?job=report")
    await page.get_by_text("Columns", exact=True).click()
    await page.get_by_role("link", name="Trigger", exact=True).click()
    await expect(page).to_have_url(re.compile(r"off=trigger"))
    await page.get_by_text("Columns", exact=True).click()
    await page.get_by_role("link", name="Started", exact=True).click()
    shown = page.locator("#runs-table th:visible")
    await expect(shown).to_contain_text(["State", "Job", "Took", "Rows touched", "Step, or why", "Run"])
    await expect(page.locator("#runs-table th:visible", has_text="Trigger")).to_have_count(0)
    row = page.locator("#runs-rows tr").first
    assert await row.locator("td:visible").count() == await shown.count()
    await expect(row.locator(".at")).to_be_hidden()
    await expect(page.locator("#runs-filters a.chip.on")).to_have_count(1)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("/?q=rep&state=ok", "again: rep, ok"),
        ("/schedule?from=2027-01-01&job=report&show=collisions", "again: report, collisions"),
        ("/activity?all=1&by=Ann&job=report", "again: Ann, report"),
        ("/runs?job=report&since=2026-11-27T18:00Z&until=1h", "again: report, since 27 Nov 2026 19:00, 1h"),
    ],
)
async def test_each_list_offers_its_own_last_filters_again(tabs: Tabs, address: str, said: str) -> None:
    """Those of one page are not offered on another, and the page itself is shown without them."""
    page = await tabs.open(address)
    path = address.partition("?")[0]
    for other in {"/", "/runs", "/schedule", "/activity"} - {path}:
        await page.goto(urljoin(page.url, other))
        await expect(page.locator("#last-filters")).to_be_hidden()
    await page.goto(urljoin(page.url, path))
    await expect(page.locator("#last-filters a")).to_have_text(said)
    await page.locator("#last-filters a").click()
    await expect(page).to_have_url(re.compile(r"job=report|q=rep"))


@pytest.mark.parametrize(
    "address", ["/", "/runs", "/jobs/report", "/jobs/report/run", "/jobs/report/pause", "/search?q=e"]
)
@pytest.mark.parametrize("size", [(1280, 800), PHONE])
async def test_each_page_is_accessible_and_fits(tabs: Tabs, address: str, size: tuple[int, int]) -> None:
    """Axe finds nothing wrong, and nothing sticks out at the side."""
    page = await tabs.open(address, size=size)
    assert await axe_findings(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
