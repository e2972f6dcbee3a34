"""Forms that are checked while one types: nothing is lost and nothing stale is shown where a check has no answer."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import httpx
import pytest
from browser_tabs import Tabs
from console_system import ConsoleSystem, running_console, written_project
from page_forms import text_of
from playwright.async_api import Locator, Page, Route, expect

JOBS = """\
[[jobs]]
id = "load"
params = { tenant = 10 }

[[jobs.steps]]
name = "load"
callable = "work:load"
op_kwargs = { batch = 100 }

[[jobs]]
id = "needy"

[[jobs.steps]]
name = "load"
callable = "work:load"
"""
WORK = """\
async def load(*, tenant: int, batch: int = 5, **_) -> dict:
    return {"tenant": tenant, "batch": batch}
"""
_GONE = ["ERR_CONNECTION_REFUSED", "Failed to fetch", "ERR_INCOMPLETE_CHUNKED", "ERR_EMPTY_RESPONSE", "network error",
         "reconnect failed with status 401",
         "ERR_CONNECTION_RESET"]  # fmt: skip


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleSystem]:
    """A kernel, a host and a console, with a job that has every value and one that needs one."""
    project = written_project(tmp_path_factory.mktemp("source"), jobs=JOBS, work=WORK)
    with running_console(tmp_path_factory.mktemp("checks"), project=project) as made:
        yield made


async def _filled(tabs: Tabs) -> Page:
    """Open the form of a run and give it one value, which is checked."""
    page = await tabs.open("/jobs/load/run")
    await page.wait_for_function("() => document.querySelector('#live > div') !== null")
    await _give(page, "batch int", "7")
    await expect(page.locator("#differs .state-ok")).to_be_visible()
    await expect(page.locator("#differs")).to_contain_text(re.compile(r"load\.batch\s*100\s*→\s*7"))
    return page


async def _give(page: Page, label: str, text: str) -> None:
    await page.get_by_label(label).first.fill(text)
    await page.get_by_label(label).first.press("Tab")


def _told(page: Page) -> Locator:
    """Return what is said of a check that has no answer."""
    return page.locator("[data-unchecked] [data-why]:visible")


async def _kept(page: Page, tenant: str) -> None:
    """See that the form has its values, and does not say that they are checked."""
    await expect(page.get_by_label("batch int")).to_have_value("7")
    await expect(page.get_by_label("tenant int").first).to_have_value(tenant)
    await expect(page.locator("#differs .state-ok")).to_be_hidden()


async def _checked(page: Page, tenant: str) -> None:
    """See that both values are in the difference and in the command, and are checked."""
    differs = page.locator("#differs")
    await expect(differs).to_contain_text(re.compile(rf"tenant\s*10\s*→\s*{tenant}"))
    await expect(differs).to_contain_text(re.compile(r"load\.batch\s*100\s*→\s*7"))
    await expect(differs.locator(".state-ok")).to_be_visible()
    await expect(differs.locator("[data-unchecked]")).to_be_hidden()


async def test_a_form_keeps_its_values_while_the_kernel_is_away_and_is_checked_once_it_is_back(
    tabs: Tabs, console: ConsoleSystem
) -> None:
    """The check that the kernel did not answer is told where one looks, and made again by itself."""
    tabs.allowed.append("status of 503")
    page = await _filled(tabs)
    console.system.kernel.process.send_signal(signal.SIGSTOP)
    try:
        await _give(page, "tenant int", "12")
        await _kept(page, "12")
        await expect(_told(page)).to_contain_text("The kernel does not answer")
        await _kept(page, "12")
        # It says so within moments, and the button is off from then on: a click just there would be lost.
        await expect(page.locator("#kernel-line .is-away")).to_be_visible()
    finally:
        console.system.kernel.process.send_signal(signal.SIGCONT)
    await _checked(page, "12")
    await expect(page.locator("#kernel-line [data-live]")).to_be_visible()
    await page.get_by_role("button", name="Run", exact=True).click()
    await expect(page).to_have_url(re.compile("/runs/run_"))


async def test_a_form_keeps_its_values_without_a_session_and_goes_on_after_a_login_elsewhere(
    tabs: Tabs, console: ConsoleSystem
) -> None:
    """The cookie is gone; after a login in another tab the form is checked by itself, and its button works."""
    tabs.allowed.append("status of 401")
    page = await _filled(tabs)
    cookies = await page.context.cookies(console.url)
    name = next(each["name"] for each in cookies if "nomaflow" in each["name"])
    await page.context.clear_cookies(name=name)
    await _give(page, "tenant int", "13")
    told = _told(page)
    await expect(told).to_contain_text("Your session is over")
    await _kept(page, "13")
    async with page.context.expect_page() as opened:
        await told.get_by_role("link", name="Log in in another tab").click()
    other = await opened.value
    await other.goto(console.url + "/login#" + console.code())
    await expect(other.locator("#kernel-line")).to_be_visible()
    await page.bring_to_front()
    await _checked(page, "13")
    await page.get_by_role("button", name="Run", exact=True).click()
    await expect(page).to_have_url(re.compile("/runs/run_"))


async def test_a_form_that_is_too_large_to_be_sent_keeps_its_values(tabs: Tabs) -> None:
    """The form says that it is too large, sends nothing, and is checked again with the next change."""
    tabs.allowed.append("status of 413")
    page = await _filled(tabs)
    await _give(page, "tenant int", "14")
    await _checked(page, "14")
    json = page.locator("#json")
    before = await json.input_value()
    await json.fill('{"params": {"tenant": "' + 600_000 * "x" + '"}}')
    await json.press("Tab")
    await expect(_told(page)).to_contain_text("too large")
    await _kept(page, "14")
    assert len(await json.input_value()) > 600_000
    await json.fill('{"params": {"tenant": "' + 600_000 * "y" + '"}}')
    await page.get_by_role("button", name="Run", exact=True).click()  # no check has refused this one yet
    await expect(page).to_have_url(re.compile("/jobs/load/run$"))
    await _kept(page, "14")
    # A check may be so large, and a form that is sent may not: a browser sends the end of a line as two characters.
    await json.evaluate(
        """(area, text) => { area.focus(); area.value = text;
        area.dispatchEvent(new Event("input", { bubbles: true })); }""",
        before + 400_000 * " " + 30_000 * "\n",
    )
    await expect(page.locator("#differs .state-ok")).to_be_visible()
    await page.evaluate("document.querySelector('#differs button[value=run]').click()")
    await expect(_told(page)).to_contain_text("too large")
    await expect(page).to_have_url(re.compile("/jobs/load/run$"))
    await _kept(page, "14")
    await json.fill(before)
    await json.press("Tab")
    await _checked(page, "14")


async def test_what_is_shown_is_called_checked_only_while_it_is_of_the_values_of_the_form(
    tabs: Tabs, console: ConsoleSystem
) -> None:
    """The console is killed: a changed field is no longer checked, and is once there is a console again."""
    tabs.allowed += ["status of 503", *_GONE]
    page = await _filled(tabs)
    port = console.base.rpartition(":")[2]
    console.console.kill()
    await _give(page, "tenant int", "15")
    await expect(_told(page)).to_contain_text("The console does not answer")
    await _kept(page, "15")
    before, console.flags = console.flags, ("--listen", f"127.0.0.1:{port}")
    console.start()
    console.flags = before
    await _checked(page, "15")


async def test_values_whose_check_is_under_way_are_not_called_checked(tabs: Tabs) -> None:
    """The word "checked" is away while one types, until the answer for the newest values has come."""
    page = await _filled(tabs)
    held: list[str] = []

    async def late(route: Route) -> None:
        held.append(route.request.post_data or "")
        await page.wait_for_timeout(3000 if len(held) == 1 else 0)
        await route.continue_()

    await page.route("**/jobs/load/run", late)
    await page.get_by_label("tenant int").first.press_sequentially("1")
    await expect(page.locator("#differs .state-ok")).to_be_hidden(timeout=300)
    await expect(page.locator("#differs [data-checking]")).to_be_visible()
    await page.wait_for_timeout(600)  # the check of "1" is held up
    await page.get_by_label("tenant int").first.press_sequentially("6")
    await page.get_by_label("tenant int").first.press("Tab")
    await _checked(page, "16")
    await page.wait_for_timeout(3000)
    await _checked(page, "16")
    await page.unroute("**/jobs/load/run", late)


@pytest.mark.parametrize("answer", ["refused", "of another page"])
async def test_the_command_of_a_pause_stays_where_an_answer_has_none(tabs: Tabs, answer: str) -> None:
    """The shown command stays if a proxy answers instead of the console, with an error or with success."""
    tabs.allowed.append("status of 503")
    page = await tabs.open("/jobs/load/pause")
    command = page.locator("#command")
    await page.get_by_label("Why?").fill("vendor freeze")
    await expect(command).to_contain_text("--why 'vendor freeze'")

    async def elsewhere(route: Route) -> None:
        status = 503 if answer == "refused" else 200
        await route.fulfill(status=status, content_type="text/html", body="<h1>Log in to the proxy</h1>")

    await page.route("**/jobs/load/pause", elsewhere)
    await page.get_by_label("for 1 hour").check()
    await expect(page.locator("[data-unchecked]")).to_be_visible()
    await expect(command).to_contain_text("nomaflow pause load --for 4h --why 'vendor freeze'")
    await page.unroute("**/jobs/load/pause", elsewhere)
    await page.get_by_label("for 1 hour").focus()
    if answer != "refused":  # what cannot mend itself is asked again with the next change
        await page.get_by_label("Why?").fill("vendor freezes")
    await expect(command).to_contain_text("nomaflow pause load --for 1h --why 'vendor freeze")
    await expect(page.locator("[data-unchecked]")).to_be_hidden()


async def test_a_page_whose_session_is_gone_says_so_when_it_connects_again(tabs: Tabs, console: ConsoleSystem) -> None:
    """Its stream is not answered with the page of the login, which would look like a stream."""
    tabs.allowed += ["status of 401", *_GONE]
    page = await _filled(tabs)
    cookies = await page.context.cookies(console.url)
    name = next(each["name"] for each in cookies if "nomaflow" in each["name"])
    await page.context.clear_cookies(name=name)
    port = console.base.rpartition(":")[2]
    console.console.kill()
    before, console.flags = console.flags, ("--listen", f"127.0.0.1:{port}")
    console.start()
    console.flags = before
    await expect(page.locator("#live-bar [data-over]")).to_be_visible()


async def test_a_form_that_lacks_a_value_does_not_say_that_it_runs(console: ConsoleSystem) -> None:
    """Nobody has filled it in yet: it names what is needed, and blames nobody."""
    with console.logged_in() as client:
        page = _section(client.get("/jobs/needy/run"))
        assert "It runs as its file says" not in page
        assert "It does not run yet: load.tenant needs a value." in page
        page = _section(client.get("/jobs/needy/run?s.load.batch=3"))
        assert "load.tenant needs a value" in page
        assert re.search(r"load\.batch .*→ 3", page)
        assert "It runs as its file says" in _section(client.get("/jobs/load/run"))


def _section(answer: httpx.Response) -> str:
    return text_of(answer).partition("What differs")[2].partition("Options")[0]
