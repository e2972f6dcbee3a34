"""Names in a real browser: very long ones stay inside their pages, and of very many each can be found."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_tabs import PHONE, Tabs
from console_system import ConsoleSystem, running_console
from playwright.async_api import expect

LONG = "a-job-whose-name-says-all-of-it-" + "and.then.some-" * 6 + "more"
STEP = "a_step_whose_name_is_as_long_as_the_name_of_its_job_and_then_some"
DESCRIPTION = "What was sold, and what was returned"
STICKS_OUT = """() => [document.documentElement, ...document.querySelectorAll(".card")]
  .filter((each) => each.scrollWidth > each.clientWidth + 1).map((each) => each.id || each.className || each.tagName)"""


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleSystem]:
    """A kernel, a host and a console on a project with a long name and with more jobs than a page of them has."""
    project = tmp_path_factory.mktemp("names")
    shutil.copytree(Path(__file__).parents[1] / "desk" / "plugins", project / "plugins")
    step = '[[jobs]]\nid = "{}"\nparams = {{ tenant = 1 }}\nsteps = [{{ name = "{}", callable = "desk:extract" }}]\n'
    many = [(f"job-{number:03}", "extract") for number in range(500)]
    all_of_them = [(LONG, STEP), *many, ("the-last-of-them", "extract")]
    fails = (
        f'[[jobs]]\nid = "fails"\ndescription = "{DESCRIPTION}"\n[[jobs.steps]]\nname = "{STEP}"\n'
        'callable = "desk:score"\nop_kwargs = { batch = 1, fail = true }\n'
    )
    (project / "jobs.toml").write_text("".join([*(step.format(*each) for each in all_of_them), fails]))
    with running_console(tmp_path_factory.mktemp("system"), project=project) as made:
        yield made


async def test_long_names_stick_out_nowhere(tabs: Tabs, console: ConsoleSystem) -> None:
    """Lists, the job, its form and its run, wide and narrow; the name is there in full."""
    run = console.system.api.wait(console.system.api.trigger(LONG).run_id)
    for path in ("/?q=a-job", "/runs", f"/jobs/{LONG}", f"/jobs/{LONG}/run", f"/runs/{run.run_id}"):
        page = await tabs.open(path, size=PHONE)
        assert await page.evaluate(STICKS_OUT) == [], path
        await expect(page.locator("main")).to_contain_text(LONG)
        for width in (1024, 1280, 1600):
            await page.set_viewport_size({"width": width, "height": 800})
            assert await page.evaluate(STICKS_OUT) == [], (path, width)


async def test_a_failed_step_with_a_long_name_can_be_replayed_from_a_phone(tabs: Tabs, console: ConsoleSystem) -> None:
    """The button that names the step is whole, and as wide as the page at most."""
    run = console.system.api.wait(console.system.api.trigger("fails").run_id)
    page = await tabs.open(f"/runs/{run.run_id}", size=PHONE)
    assert await page.evaluate(STICKS_OUT) == []
    button = await page.get_by_role("link", name=f"Replay from {STEP}…").bounding_box()
    assert button is not None
    assert button["x"] + button["width"] <= PHONE[0]


async def test_a_description_is_as_wide_as_its_place(tabs: Tabs) -> None:
    """A description stands beside the name as far as there is room, in a table and on a card."""
    for width in (1600, 900):
        page = await tabs.open("/?q=fails", size=(width, 800))
        about = page.locator("#job-fails .about")
        await expect(about).to_have_text(DESCRIPTION)
        assert await about.evaluate("each => each.scrollWidth <= each.clientWidth"), width


async def test_the_filter_of_runs_finds_a_job_that_its_first_list_lacks(tabs: Tabs) -> None:
    """The field looks for the typed text among all jobs."""
    page = await tabs.open("/runs")
    offered = page.locator("#jobs-known option[value='the-last-of-them']")
    assert await offered.count() == 0
    await page.get_by_text("Job, host, person…").click()
    await page.locator("#runs-filters input[name=job]").press_sequentially("last-of")
    await expect(offered).to_have_count(1)
