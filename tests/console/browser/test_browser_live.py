"""Live pages in a real browser: login by a link, changes as they happen, restarts of kernel and console."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from browser_tabs import Tabs
from console_system import ConsoleSystem
from playwright.async_api import Page, expect

from nomaflow_console.kernel.status import KernelStatus
from nomaflow_console.rendering import environment
from real_system import eventually

_GONE = ["ERR_CONNECTION_REFUSED", "Failed to fetch", "ERR_INCOMPLETE_CHUNKED", "ERR_EMPTY_RESPONSE", "network error"]


@pytest_asyncio.fixture(loop_scope="module")
async def page(tabs: Tabs) -> AsyncIterator[Page]:
    """The page of the kernel, live."""
    made = await tabs.open("/kernel")
    await live(made)
    yield made


async def live(page: Page) -> None:
    """Wait until a page has its stream, or asks now and then."""
    await expect(page.locator("#kernel-line .pulse")).to_be_visible()
    await expect(page.locator("#live > div")).to_have_count(1)


async def test_a_link_logs_in_and_its_code_is_in_no_address(tabs: Tabs, console: ConsoleSystem) -> None:
    """The code after the hash is posted by the page; no request's address has it, nor the browser's history."""
    context = await tabs.context(login=False)
    page = await context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    link = console.link()
    await page.goto(link)
    await expect(page.locator("#kernel-line")).to_be_visible()
    code = link.partition("#")[2]
    assert not [url for url in asked if code in url]
    assert "#" not in page.url
    await page.go_back()
    assert code not in page.url


async def test_a_link_to_a_line_leads_to_the_line_after_a_login(console: ConsoleSystem, tabs: Tabs) -> None:
    """A link to line 2 leads through the login page to that line; the login page ignores the #L2."""
    run_id = console.system.api.wait(console.system.api.trigger("nightly-cleanup").run_id).run_id
    page = await (await tabs.context(login=False)).new_page()
    await page.goto(f"{console.url}/runs/{run_id}?level=20#L2")
    await expect(page).to_have_url(re.compile("/login"))
    await expect(page.locator(".problem")).to_have_count(0)
    await page.locator("#code").fill(console.code())
    await page.get_by_role("button", name="Log in").click()
    await expect(page).to_have_url(f"{console.url}/runs/{run_id}?level=20#L2")


async def test_without_a_script_the_code_is_pasted(tabs: Tabs, console: ConsoleSystem) -> None:
    """The page of the link has a field for the code, a plain form."""
    context = await tabs.context(login=False, scripts=False)
    page = await context.new_page()
    await page.goto(console.url + "/runs")
    await page.get_by_label("Or paste its code").fill(console.code())
    await page.get_by_role("button", name="Log in").click()
    assert page.url == f"{console.url}/runs"


async def test_the_line_about_the_kernel_follows_it(page: Page, console: ConsoleSystem) -> None:
    """A host that is not there any more is on every open page, without a reload."""
    line = page.locator("#kernel-line")
    await expect(line).to_contain_text(re.compile(r"1\s+of\s+1\s+host"))
    console.system.stop("host")
    await expect(line).to_contain_text(re.compile(r"0\s+of\s+1\s+host"))
    console.system.launch_host("host", console.project)
    await expect(line).to_contain_text(re.compile(r"1\s+of\s+1\s+host"))


async def test_a_page_stays_readable_while_the_kernel_is_away_and_goes_on_after(
    tabs: Tabs, console: ConsoleSystem, page: Page
) -> None:
    """It says since when, what would change something is off with the reason, and all of that ends by itself."""
    await page.evaluate(
        """() => { document.getElementById("main").insertAdjacentHTML("beforeend",
        '<form method="post" action="/pause"><button id="act">Pause</button></form>') }"""
    )
    console.system.kernel.kill()
    away = page.locator("#kernel-line .is-away")
    await expect(away).to_be_visible()
    await expect(page.locator("#kernel-line")).to_contain_text("the page is as of")
    await expect(page.locator("#act")).to_be_disabled()
    await expect(page.locator("#act")).to_have_attribute("title", "the kernel does not answer")
    assert "0.1.0" in await page.inner_text("main")
    tabs.allowed.append("status of 503")
    fresh = await page.context.new_page()
    await fresh.goto(console.url + "/runs/compare")
    await expect(fresh.get_by_role("heading", name="The kernel does not answer")).to_be_visible()
    console.system.start_kernel()
    await expect(away).to_have_count(0)
    await expect(page.locator("#act")).to_be_enabled()
    # The page that could not be shown opens by itself.
    await expect(fresh.get_by_role("heading", name="The kernel does not answer")).to_have_count(0)
    eventually(lambda: console.system.instance("demo") is not None)


async def test_a_page_that_was_shown_before_is_read_from_memory_while_the_kernel_is_away(
    tabs: Tabs, console: ConsoleSystem
) -> None:
    """Anybody of the same access reads it as it was, with its time; what has happened since comes by itself."""
    tabs.allowed.append("status of 503")
    address = "/runs?job=seed-data&since=ever"
    opened = await tabs.open(address)
    await expect(opened.locator("#runs")).to_contain_text("runs match")
    await live(opened)
    run_id = console.system.api.trigger("seed-data").run_id
    await expect(opened.locator(f"#row-{run_id}")).to_contain_text("ok")
    await opened.close()
    console.system.kernel.kill()
    page = await tabs.open(address)  # of another session, which has never seen it
    plain = await tabs.open(address, scripts=False)
    for each in (page, plain):
        await expect(each.locator("#kernel-line .is-away")).to_be_visible()
        await expect(each.locator("#kernel-line")).to_contain_text(re.compile(r"the page is as of .*\d\d:\d\d:\d\d"))
        await expect(each.locator(f"#row-{run_id}")).to_contain_text("ok")
    await expect(page.get_by_role("button", name="Compare two")).to_be_disabled()
    with console.logged_in() as client:
        assert client.get("/runs.json").status_code == 503
        assert client.get("/jobs/seed-data/run").status_code == 503
    console.system.start_kernel()
    await expect(page.locator("#kernel-line .is-away")).to_have_count(0)
    await expect(page.get_by_role("button", name="Compare two")).to_be_enabled()
    eventually(lambda: console.system.instance("demo") is not None)
    later = console.system.api.trigger("seed-data").run_id
    await expect(page.locator(f"#row-{later}")).to_contain_text("ok")


async def test_a_console_that_stops_is_said_and_the_page_goes_on_with_the_next_one(
    tabs: Tabs, console: ConsoleSystem, page: Page
) -> None:
    """The page says that nobody answers, keeps what it shows, and is live again without a reload."""
    tabs.allowed += ["status of 503", *_GONE]  # while it stops it opens no stream
    port = console.base.rpartition(":")[2]
    assert console.console.stop() == 0
    bar = page.locator("#live-bar")
    await expect(bar).to_contain_text("The console does not answer")
    await expect(bar).to_be_in_viewport()
    before, console.flags = console.flags, ("--listen", f"127.0.0.1:{port}")
    console.start()
    console.flags = before
    await expect(bar).to_be_hidden()


async def test_a_console_that_hangs_is_said_in_the_header_and_the_page_goes_on(
    tabs: Tabs, console: ConsoleSystem
) -> None:
    """The heartbeats keep a page; without them it says, in place of "live", how old it is, and connects again."""
    tabs.allowed += _GONE
    assert console.console.stop() == 0
    console.module, console.environ = "quick_console", {"PYTHONPATH": str(Path(__file__).parent)}
    console.start()
    try:
        page = await tabs.open("/kernel")
        await live(page)
        # Without heartbeats a connection would last for five at most. A busy machine may cost one.
        await page.evaluate(
            """() => new Promise((done) => { let count = 0;
            const place = document.getElementById("live");
            place.addEventListener("htmx:sse:after:connection", () => (count = 0));
            place.addEventListener("heartbeat", () => ++count === 8 && done()); })"""
        )
        line, bar = page.locator("#kernel-line"), page.locator("#live-bar")
        console.console.process.send_signal(signal.SIGSTOP)
        await expect(bar).to_contain_text(re.compile(r"The console does not answer.*as it was \d+ s ago"))
        await expect(bar).to_be_in_viewport()
        await expect(line).to_be_hidden()
        console.console.process.send_signal(signal.SIGCONT)
        await expect(bar).to_be_hidden()
        await expect(line).to_contain_text("live")
    finally:
        console.console.process.send_signal(signal.SIGCONT)
        console.console.stop()
        console.module, console.environ = "nomaflow_console", {}
        console.start()


async def test_a_button_is_off_for_the_reason_that_the_header_gives(tabs: Tabs) -> None:
    """A kernel whose store takes nothing answers, and cannot work."""
    context = await tabs.context()
    await context.route("**/live?*", lambda _: None)  # the header says what it is made to say
    page = await context.new_page()
    await page.goto(tabs.console.url + "/pause")
    send = page.get_by_role("button", name="Pause", exact=True)
    await expect(send).to_be_enabled()
    line = environment().get_template("parts/kernel_line.html").render(kernel=KernelStatus(serving=False))
    await page.evaluate("(line) => document.getElementById('kernel-line').innerHTML = line", line)
    await expect(send).to_be_disabled()
    await expect(send).to_have_attribute("title", "the kernel cannot work")


async def test_the_next_fires_of_a_job_are_live(tabs: Tabs, console: ConsoleSystem) -> None:
    """A fire that is over would be counted at 0 s for as long as the page is open."""
    page = await tabs.open("/jobs/nightly-cleanup")
    await live(page)
    fires = page.locator("#job-fires")
    await expect(fires.locator("li").first).to_be_visible()
    console.system.api.pause(job_id="nightly-cleanup", why="x")
    try:
        await expect(fires).to_contain_text("Nothing is due while the job is paused.")
    finally:
        console.system.api.resume(job_id="nightly-cleanup")
    await expect(fires.locator("li").first).to_be_visible()


async def test_a_form_survives_the_end_of_its_session(tabs: Tabs, console: ConsoleSystem) -> None:
    """The page says that the session is over; after a login in another tab the same button works, values kept."""
    tabs.allowed += ["status of 401", *_GONE]
    context = await tabs.context()
    page = await context.new_page()
    await page.goto(console.url + "/kernel")
    await live(page)
    await page.evaluate(
        """() => { const csrf = document.querySelector("input[name=csrf]").value;
        document.getElementById("main").insertAdjacentHTML("beforeend",
        '<form method="post" action="/preferences"><input type="hidden" name="csrf" value="' + csrf + '">' +
        '<input id="kept" name="next"><button id="act">Go on</button></form>') }"""
    )
    await page.locator("#kept").fill("/schedule")
    other = await context.new_page()
    await other.goto(console.url + "/kernel")
    await other.get_by_label("Session").click()
    await other.get_by_role("button", name="Log out").click()
    await expect(page.locator("#live-bar")).to_contain_text("Your session is over")
    await expect(page.locator("#live-bar")).to_be_in_viewport()
    await expect(page.locator("#kernel-line")).to_be_hidden()
    await other.wait_for_url("**/login**")
    await other.goto(console.url + "/login#" + console.code())  # only the part after the # changes in this tab
    await expect(other.locator("#kernel-line")).to_be_visible()
    await expect(page.locator("#live-bar")).to_be_hidden()
    assert await page.input_value("#kept") == "/schedule"
    await page.locator("#act").click()
    assert page.url == f"{console.url}/schedule"


async def test_seven_tabs_are_all_live_and_none_hangs(tabs: Tabs, console: ConsoleSystem) -> None:
    """Four tabs have a stream and the others ask now and then, so that an eighth page still opens at once."""
    context = await tabs.context()
    pages = [await context.new_page() for _ in range(7)]
    for page in pages:
        await page.goto(console.url + "/kernel")
        await live(page)
    console.system.stop("host")
    for page in pages:
        await expect(page.locator("#kernel-line")).to_contain_text(re.compile(r"0\s+of\s+1\s+host"))
    eighth = await context.new_page()
    await eighth.goto(console.url + "/kernel")
    console.system.launch_host("host", console.project)
    for page in pages:
        await expect(page.locator("#kernel-line")).to_contain_text(re.compile(r"1\s+of\s+1\s+host"))


async def test_a_tab_takes_one_of_the_four_places_however_often_it_is_shown(tabs: Tabs, console: ConsoleSystem) -> None:
    """A place that it took twice would be lost for the other tabs until it is closed."""
    tabs.allowed += ["ERR_FAILED", *_GONE]
    page = await (await tabs.context()).new_page()
    await page.route("**/live?**", lambda route: route.abort())
    await page.goto(console.url + "/kernel")
    taken = await page.evaluate(
        """async () => { dispatchEvent(new Event("pagehide"));
            for (let each = 0; each < 3; each++) document.dispatchEvent(new Event("visibilitychange"));
            let places; for (let each = 0; each < 50; each++) places = await navigator.locks.query();
            return places.held.length; }"""
    )
    assert taken == 1
