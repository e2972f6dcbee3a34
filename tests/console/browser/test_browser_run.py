"""The page of a run in a real browser: what it says, what it shows live, and what nobody can do to it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from browser_tabs import DESK, PHONE, Tabs, axe_findings
from console_system import RUN_PAGE_PROJECT, ConsoleSystem
from playwright.async_api import Page, expect

from nomaflow.client import TriggerOrder
from processes import is_alive
from real_system import eventually

PROJECT = RUN_PAGE_PROJECT


@pytest.fixture(scope="module")
def hostile_run(console: ConsoleSystem) -> str:
    """The id of a run that has printed what should not be able to hurt a page."""
    api = console.system.api
    return api.wait(api.trigger("hostile").run_id).run_id


CUT_OFF = """() => {
  const row = document.querySelector("#run-timeline .track"), progress = row.querySelector("progress").parentElement;
  const word = row.querySelector(".state").lastChild, said = word.textContent;
  word.textContent = " stopping, stage 2 of 4, of code that is deaf";
  const name = row.querySelector(".name");
  const parts = [[name, name.closest(".track-step")], [progress, progress.closest(".track-told")]];
  const cut = parts.filter(([part, cell]) => part.scrollWidth > part.clientWidth
    || part.getBoundingClientRect().right > cell.getBoundingClientRect().right + 1
    || part.getBoundingClientRect().bottom > cell.getBoundingClientRect().bottom + 1);
  word.textContent = said;
  return cut.map(([part]) => part.textContent);
}"""
"""The parts of a try's row that cannot be read whole while its state has a long word."""


async def _log(page: Page) -> None:
    await page.wait_for_selector(".is-windowed .log-line")


async def test_a_failed_run_opens_at_its_error(tabs: Tabs, failed_run: str) -> None:
    """One click from a list: the sentence, the failed try opened, and the log at the traceback, which is open."""
    page = await tabs.open(f"/runs/{failed_run}#log")
    await _log(page)
    assert (await page.title()).startswith("✕ month-end")
    await expect(page.locator("#run-head h1")).to_contain_text("LookupError: no rows in invoices_2026_10 of tenant 10")
    await expect(page.locator("details.try[open] summary")).to_contain_text("try 2 of 2")
    error = page.locator(".log-line.k-error").last
    await expect(error).to_be_in_viewport()
    await expect(error.locator(".folded")).to_contain_text("raise LookupError")
    await expect(page.get_by_role("link", name="Replay from score…")).to_be_visible()
    rows = page.locator("#run-timeline .track")
    assert [await row.get_attribute("class") for row in await rows.all()]
    await expect(rows.nth(0)).to_contain_text("182,044 rows")
    assert await rows.nth(2).locator("rect.bar-backoff").count() == 1
    await expect(rows.nth(3)).to_contain_text("an earlier step")
    await expect(page.locator("#run-seal")).to_contain_text("complete: 31 lines, none missing")


async def test_the_address_has_the_picked_line_and_the_opened_try(tabs: Tabs, failed_run: str) -> None:
    """Neither loses the other, by click or by link; a try that is closed is not in it; links of one part still work."""
    address = f"{tabs.console.url}/runs/{failed_run}"
    page = await tabs.open(f"/runs/{failed_run}")
    await _log(page)
    await page.locator(".n:text-is('5')").click()
    await expect(page).to_have_url(f"{address}#L5")
    await page.locator("#details-purge-1 > summary").click()
    await expect(page).to_have_url(f"{address}#L5&try-purge-1")
    await page.locator(".n:text-is('7')").click(modifiers=["Shift"])
    await expect(page).to_have_url(f"{address}#L5-L7&try-purge-1")
    await page.reload()
    await expect(page.locator(".is-picked .n")).to_have_text(["5", "6", "7"])
    await expect(page.locator("#details-purge-1")).to_have_attribute("open", "")
    await page.locator("#run-timeline a[href='#try-score-1']").first.click()
    await expect(page).to_have_url(f"{address}#L5-L7&try-score-1")
    await expect(page.locator("#details-score-1")).to_have_attribute("open", "")
    await page.locator("#details-score-1 > summary").click()
    await expect(page).to_have_url(f"{address}#L5-L7")
    for fragment, lines in (("#try-purge-1", []), ("#L1-L3", ["1", "2", "3"])):
        other = await tabs.open(f"/runs/{failed_run}{fragment}")
        await _log(other)
        await expect(other.locator(".is-picked .n")).to_have_text(lines)
        await expect(other.locator("#details-purge-1[open]")).to_have_count(0 if lines else 1)
        await expect(other).to_have_url(f"{address}{fragment}")


async def test_it_reads_well_without_scripts(tabs: Tabs, console: ConsoleSystem, failed_run: str) -> None:
    """Without scripts the page is whole: lines, filters, older and newer ones by links."""
    page = await tabs.open(f"/runs/{failed_run}", scripts=False)
    await expect(page.locator(".log-line.k-error").last).to_contain_text("Traceback (most recent call last):")
    await page.select_option("#log-level", "30")
    await page.get_by_role("button", name="Show").first.click()
    await expect(page.locator(".log-line")).to_have_count(4)
    api = console.system.api
    order = TriggerOrder(job_id="big-log", op_kwargs={"scan": {"lines": 500, "needle_at": 400}})
    long = api.wait(api.trigger(order).run_id).run_id
    await page.goto(f"{console.url}/runs/{long}")
    first = page.locator(".log-line .n").first
    for seq in ("101", "201", "301", "401"):
        await page.get_by_role("link", name="newer lines").first.click()
        await expect(first).to_have_text(seq)
    await expect(page.get_by_role("link", name="newer lines")).to_have_count(0)
    await page.fill(".log-find input", "NEEDLE")
    await page.press(".log-find input", "Enter")
    await expect(page.locator(".log-line .n")).to_have_text(["400"])


async def test_a_hostile_line_hurts_nothing(tabs: Tabs, hostile_run: str) -> None:
    """Whatever a program prints is text: no script, no markup, no hidden link, in the log and beside it."""
    page = await tabs.open(f"/runs/{hostile_run}")
    await _log(page)
    await page.locator("details.try summary").first.click()
    for button in await page.locator(".fold", has_not_text="characters").all():
        await button.click()
    assert await page.evaluate("window.hurt") is None
    links = await page.eval_on_selector_all(".log-line .m a", "links => links.map(link => [link.href, link.rel])")
    assert links == [
        ["http://evil.example/", "noreferrer"],
        ["https://example.org/a?b=c&d=%3Cscript%3E", "noreferrer"],
        ["http://example.org/(x)", "noreferrer"],
    ]
    assert await page.locator("#log img, #log script, #log .m b").count() == 0
    assert "\u202e" not in await page.locator("main").inner_text()
    await expect(page.locator(".log-line .f1.b")).to_have_text("red and bold")
    await expect(page.locator(".tree").first).to_be_visible()
    await expect(page.locator("#log .tree").first).to_contain_text('\\u202ertl: "\\u202eabc"')


async def test_a_fifth_tab_without_a_stream_follows_the_log_as_well(
    tabs: Tabs, console: ConsoleSystem, tmp_path: Path
) -> None:
    """It asks now and then: the last line comes into sight without a reload, and no line comes twice or is missing."""
    talk = {"lines": 240, "per_second": 40.0, "pause_at": 100, "until": str(tmp_path / "on")}
    order = TriggerOrder(job_id="talker", op_kwargs={"talk": talk})
    run_id = console.system.api.trigger(order).run_id
    context = await tabs.context()
    for _ in range(4):
        other = await context.new_page()
        await other.goto(f"{console.url}/runs")
        await other.wait_for_selector("#live > [hx-sse\\:connect]", state="attached")
    page = await context.new_page()
    await page.goto(f"{console.url}/runs/{run_id}")
    await page.wait_for_selector("#live > div", state="attached")
    assert await page.locator("#live > [hx-sse\\:connect]").count() == 0
    (tmp_path / "on").touch()
    await page.wait_for_selector("#run-head .state-ok")
    await expect(page.locator(".log-line").last).to_contain_text("line 240 of 240")
    assert await page.evaluate("document.getElementById('log').log.atEnd")
    seqs = await page.evaluate("[...document.getElementById('log').log.known.values()].map((line) => line.seq)")
    assert sorted(seqs)[-100:] == list(range(141, 241))
    assert await page.evaluate("document.getElementById('log').log.rows") == 240


async def test_a_link_to_a_line_leads_to_it_however_far_down(tabs: Tabs, failed_run: str) -> None:
    """On a phone the log is below tries and timeline; a link to one of its lines, and the keys of the log, show it."""
    page = await tabs.open(f"/runs/{failed_run}#L5", size=PHONE)
    await _log(page)
    await expect(page.locator(".is-picked .n")).to_have_text(["5"])
    await expect(page.locator(".is-picked")).to_be_in_viewport()
    await page.evaluate("scrollTo(0, 0)")
    await expect(page.locator(".log-view")).not_to_be_in_viewport()
    await page.keyboard.press("Shift+G")
    await expect(page.locator(".log-line").last).to_be_in_viewport()


async def test_a_run_is_watched_live(tabs: Tabs, console: ConsoleSystem, tmp_path: Path) -> None:
    """Its state, its progress and its log change without a reload, and what somebody has opened stays open."""
    api = console.system.api
    talk = {"lines": 120, "per_second": 30.0, "pause_at": 60, "until": str(tmp_path / "seen")}
    order = TriggerOrder(job_id="talker", op_kwargs={"talk": talk})
    page = await tabs.open(f"/runs/{api.trigger(order).run_id}")
    await page.wait_for_selector("#run-tries details.try")
    await page.locator("#run-tries details.try summary").click()
    await page.wait_for_selector("#run-timeline progress")
    for size in (DESK, PHONE):
        await page.set_viewport_size({"width": size[0], "height": size[1]})
        assert await page.evaluate(CUT_OFF) == [], size
    await page.set_viewport_size({"width": DESK[0], "height": DESK[1]})
    (tmp_path / "seen").touch()
    await page.wait_for_selector("#run-head .state-ok")
    assert (await page.title()).startswith("✓ talker")
    await expect(page.locator("#run-tries details.try")).to_have_attribute("open", "")
    await expect(page.locator("#run-seal")).to_contain_text("complete: 120 lines")
    await expect(page.get_by_role("link", name="Replay…")).to_be_visible()


async def test_a_stop_is_shown_rung_by_rung_until_it_is_proven(tabs: Tabs, console: ConsoleSystem) -> None:
    """While a tight loop is stopped each rung appears; canceled is said only when its process is gone."""
    api = console.system.api
    run_id = api.trigger("spinner").run_id
    pid = eventually(lambda: console.system.run(run_id).steps[0].last.worker_pid)
    page = await tabs.open(f"/runs/{run_id}")
    await page.locator("details.try summary").click()
    await page.get_by_role("link", name="What is it doing?").click()
    await expect(page.locator("main pre").first).to_contain_text("lab/steps.py")
    await expect(page.locator("main table")).to_contain_text(str(pid))
    await page.go_back()
    await expect(page.get_by_text("follows while at the end")).to_be_visible()
    axis = page.locator("#run-timeline .axis")
    drawn = await axis.inner_text()
    await expect(axis).not_to_have_text(drawn, use_inner_text=True)  # it grows with the run, which says nothing
    api.cancel(run_id, why="wrong month")
    await page.wait_for_selector("#run-head .state-stopping")
    await expect(page.locator(".ladder")).to_contain_text("wrong month")
    await page.wait_for_selector(".ladder .rungs >> text=①")
    await page.wait_for_selector("#run-head .state-stopping >> text=stage")
    assert is_alive(pid)
    await page.wait_for_selector("#run-head .state-canceled")
    assert not is_alive(pid)
    await expect(page.locator(".ladder .is-stopped")).to_contain_text("proven stopped")
    await expect(page.get_by_text("follows while at the end")).to_be_hidden()  # nothing comes any more
    assert await page.locator("#run-timeline .mark-rung").count() >= 2


async def test_a_called_run_is_part_of_the_timeline(tabs: Tabs, console: ConsoleSystem) -> None:
    """A call_job step shows the steps of the run that it started below it, and links to it."""
    api = console.system.api
    run = api.wait(api.trigger("caller").run_id)
    page = await tabs.open(f"/runs/{run.run_id}")
    await expect(page.locator(".track.depth-1 .name")).to_have_text(["purge", "score", "summary"])
    child = run.steps[0].last.child_run_id
    await page.locator(f"#run-head a[href='/runs/{child}']").click()
    await expect(page.locator("#run-head")).to_contain_text("called by caller")


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_axe_finds_nothing_wrong(
    tabs: Tabs, failed_run: str, hostile_run: str, theme: Literal["light", "dark"]
) -> None:
    """The page of a failed run and a colourful log are accessible, wide and narrow."""
    for run_id in (failed_run, hostile_run):
        page = await tabs.open(f"/runs/{run_id}", theme=theme)
        await _log(page)
        assert await axe_findings(page, colours=theme == "dark") == []
        await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        assert await axe_findings(page, colours=theme == "dark") == []
        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]


async def test_the_log_is_used_by_keys_alone(tabs: Tabs, failed_run: str) -> None:
    """Errors, matches, wrap, full window and the end have keys; none acts while one types."""
    page = await tabs.open(f"/runs/{failed_run}")
    await _log(page)
    await page.keyboard.press("E")
    await page.wait_for_selector(".is-picked:has-text('LookupError')")
    assert page.url.endswith("#L16")
    await page.keyboard.press("w")
    await expect(page.locator(".log-view.is-wrapped")).to_be_visible()
    await page.keyboard.press("f")
    await expect(page.locator("#log.is-full")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.keyboard.press("Control+f")
    await page.keyboard.type("few wrens")
    await expect(page.locator(".log-find input")).to_have_value("few wrens")
    await expect(page.locator("#log.is-full")).to_have_count(0)
    await page.keyboard.press("Escape")
    await page.keyboard.press("G")
    await expect(page.locator(".log-line").last).to_be_in_viewport()
    await page.keyboard.press("?")
    await page.keyboard.press("w")
    await page.keyboard.press("Escape")
    await expect(page.locator("#help")).to_be_hidden()
    await expect(page.locator(".log-view.is-wrapped")).to_be_visible()


async def test_the_map_has_the_warnings_that_come_while_one_looks(
    tabs: Tabs, console: ConsoleSystem, tmp_path: Path
) -> None:
    """They are marked soon after, at their place in the log as it is then."""
    talk = {"lines": 60, "per_second": 60.0, "pause_at": 10, "until": str(tmp_path / "on")}
    run_id = console.system.api.trigger(TriggerOrder(job_id="talker", op_kwargs={"talk": talk})).run_id
    page = await tabs.open(f"/runs/{run_id}")
    await page.wait_for_selector(".log-line:has-text('line 9 of')")
    await page.wait_for_selector(".log-map .sight", state="attached")
    assert await page.locator(".log-map .warning").count() == 0
    (tmp_path / "on").touch()
    await page.wait_for_selector("#run-head .state-ok")
    await page.wait_for_selector(".log-map .warning", state="attached")


async def test_a_report_is_copied_with_what_somebody_else_needs(tabs: Tabs, failed_run: str) -> None:
    """Error, step, values, traceback and the address of the page, as plain text."""
    page = await tabs.open(f"/runs/{failed_run}")
    await _log(page)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.get_by_role("link", name="copy for a report").click()
    await page.wait_for_function("() => document.querySelector('.log-say').textContent.startsWith('copied')")
    text = await page.evaluate("navigator.clipboard.readText()")
    for part in ("month-end failed: LookupError", failed_run, "score, try 2 of 2", '"tenant": 10', "raise LookupError"):
        assert part in text


async def test_the_page_of_an_error_is_not_copied_for_lines(tabs: Tabs, failed_run: str) -> None:
    """Without an answer of console or kernel, the clipboard keeps what it has, and the page says so."""
    tabs.allowed += ["Failed to load resource"]
    page = await tabs.open(f"/runs/{failed_run}")
    await _log(page)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.evaluate("navigator.clipboard.writeText('from before')")
    for kind in ("report", "log"):
        await page.route(f"**/{kind}.txt*", lambda route: route.fulfill(status=503, body="<html>no answer</html>"))
    await page.locator(".log-line .n").first.click()
    for name in ("copy for a report", "copy line"):
        await page.locator("[data-do^=copy]", has_text=name).click()
        await expect(page.locator(".log-say")).to_have_text("nothing was copied: no answer")
        assert await page.evaluate("navigator.clipboard.readText()") == "from before"
        await page.evaluate("document.querySelector('.log-say').textContent = ''")


async def test_whether_lines_wrap_follows_the_width_until_somebody_says(tabs: Tabs, failed_run: str) -> None:
    """A look at a wide window decides nothing for a narrow one; the button does, for both."""
    page, wrapped = await tabs.open(f"/runs/{failed_run}"), ".log-view.is-wrapped"
    await _log(page)
    await expect(page.locator(wrapped)).to_have_count(0)
    await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    await page.reload()
    await expect(page.locator(wrapped)).to_be_visible()
    await page.keyboard.press("w")
    await expect(page.locator(wrapped)).to_have_count(0)
    await page.reload()
    await _log(page)
    await expect(page.locator(wrapped)).to_have_count(0)
