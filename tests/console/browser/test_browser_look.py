"""Every page can be read, reached and used, light and dark and at each size."""

from __future__ import annotations

from typing import Literal

import pytest
from browser_tabs import DESK, PHONE, Tabs, axe_findings
from playwright.async_api import expect

from nomaflow_api.time_spans import time_span

PAGES = ["/", "/runs", "/schedule", "/hosts", "/hosts/demo", "/activity", "/kernel"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
async def test_axe_finds_nothing_wrong(tabs: Tabs, path: str, theme: Literal["light", "dark"]) -> None:
    """No page has what axe calls a fault, in light and in dark, wide and narrow."""
    page = await tabs.open(path, theme=theme)
    assert await axe_findings(page, colours=theme == "dark") == []
    await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert await axe_findings(page, colours=theme == "dark") == []


STICKS_OUT = """() => [document.documentElement, ...document.querySelectorAll(".card, .top-row, .find")]
  .filter((each) => each.scrollWidth > each.clientWidth + 1)
  .concat([...document.querySelectorAll(".nav a")].filter((each) => {
    const range = new Range(), words = [...each.childNodes].find((node) => node.data?.trim());
    range.selectNode(words);
    return new Set([...range.getClientRects()].map((box) => box.top)).size > 1; // broken into lines
  }))
  .concat([...document.querySelectorAll(".tabs")].filter((each) => each.scrollHeight > each.clientHeight))
  .map((each) => each.id || each.className || each.tagName)"""


@pytest.mark.parametrize("path", PAGES)
async def test_nothing_sticks_out_at_any_width(tabs: Tabs, path: str) -> None:
    """On a phone, a narrow window, a laptop and a desk nothing sticks out to the side, and no word below its row."""
    page = await tabs.open(path, size=PHONE)
    assert await page.evaluate(STICKS_OUT) == []
    page = await tabs.open(path)
    for width in (756, 800, 1024, 1280, 1600):
        await page.set_viewport_size({"width": width, "height": 800})
        assert await page.evaluate(STICKS_OUT) == [], width


OUT_OF_SIGHT = """() => [...document.querySelectorAll("details.menu")].filter((menu) => {
    menu.open = menu.checkVisibility();
    const box = menu.lastElementChild.getBoundingClientRect(), wide = document.documentElement.scrollWidth;
    const out = menu.open && (box.left < 0 || box.right > innerWidth || wide > innerWidth);
    menu.open = false;
    return out;
  }).map((menu) => menu.querySelector("summary").innerText)"""


@pytest.mark.parametrize("path", PAGES)
async def test_a_menu_that_opens_is_in_sight_at_any_width(tabs: Tabs, path: str) -> None:
    """A menu is in sight, wherever its button is: nobody can scroll to what is beyond the left edge of a phone."""
    page = await tabs.open(path, size=PHONE)
    assert await page.evaluate(OUT_OF_SIGHT) == []
    page = await tabs.open(path)
    for width in (640, 756, 820, 900, 1024, 1280):
        await page.set_viewport_size({"width": width, "height": 800})
        assert await page.evaluate(OUT_OF_SIGHT) == [], width


async def test_the_keys_lead_to_the_pages_and_the_help(tabs: Tabs) -> None:
    """g and a letter open a page, ? the help, / the search; while one types they are letters."""
    page = await tabs.open("/hosts", size=DESK)
    for letter, path in [("s", "/schedule"), ("a", "/activity"), ("r", "/runs"), ("j", "/"), ("h", "/hosts")]:
        await page.keyboard.press("g")
        await page.keyboard.press(letter)
        await page.wait_for_url(tabs.console.url + path)
    await page.keyboard.press("?")
    assert await page.locator("dialog#help").is_visible()
    await page.keyboard.press("Escape")
    assert not await page.locator("dialog#help").is_visible()
    await page.keyboard.press("/")
    await page.keyboard.type("g h?")
    assert await page.locator("#find").input_value() == "g h?"
    assert not await page.locator("dialog#help").is_visible()


async def test_the_choice_of_light_and_dark_stays(tabs: Tabs) -> None:
    """Dark stays dark on the next page, whatever the system says, with a script and without."""
    for scripts in (True, False):
        page = await tabs.open("/kernel", scripts=scripts)
        await page.locator("summary[aria-label='Light or dark']").click()
        await page.get_by_role("button", name="Dark").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await page.goto(tabs.console.url + "/hosts")
        body = await page.evaluate("getComputedStyle(document.body).backgroundColor") if scripts else ""
        assert await page.locator("html").get_attribute("data-theme") == "dark"
        assert not scripts or body == "rgb(14, 17, 22)"


async def test_a_time_says_the_other_zones_and_its_age(tabs: Tabs) -> None:
    """Pointing at a time shows it in three zones, with its age; so does reaching it by Tab."""
    page = await tabs.open("/kernel", zone="Asia/Tokyo")
    time = page.locator("time[tabindex]").first
    await time.hover()
    tip = page.get_by_role("tooltip")
    assert "JST" in await tip.inner_text()
    assert "UTC" in await tip.inner_text()
    assert "age" in await tip.inner_text()
    await page.mouse.move(0, 0)
    await time.focus()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Shift+Tab")
    assert await page.get_by_role("tooltip").is_visible()


TOOK = """async (seconds) => {
  const { took } = await import(document.querySelector("script[src*=page-bundle]").src);
  return seconds.map(took);
}"""


async def test_the_script_writes_time_spans_as_the_server_does(tabs: Tabs) -> None:
    """It counts on what the server has written, so the text must not change its form with the first second."""
    page = await tabs.open("/kernel")
    whole = [0, 1, 59, 60, 61, 119, 120, 600, 3599, 3600, 3659, 3660, 7620, 36_000, 86_399, 86_400, 90_000, 864_000]
    assert await page.evaluate(TOOK, whole) == ["0 s", *map(time_span, whole[1:])]


async def test_running_runs_stand_in_columns(tabs: Tabs) -> None:
    """Whatever the word of each state is: all begin at the same place, on a wide page."""
    page = await tabs.open("/")
    lefts = """() => {
      const list = document.createElement("ul");
      list.className = "list runs-now";
      list.innerHTML = ["running", "host silent"].map((word) =>
        `<li><span class="state">${word}</span><a class="name">job</a><span class="now-facts">x</span><i>x</i></li>`);
      document.querySelector("#running").append(list);
      return [1, 2, 3].map((column) => new Set([...list.children].map((row) =>
        row.children[column].getBoundingClientRect().left)).size);
    }"""
    assert await page.evaluate(lefts) == [1, 1, 1]
