"""The page of jobs tells of each need, however much else happens, and while nothing happens."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import httpx
from console_system import FORMS_PROJECT, ConsoleSystem, running_console
from page_forms import form_of, text_of

from nomaflow.client import TriggerOrder
from real_system import eventually


def _needs(client: httpx.Client) -> str:
    return client.get("/").text.partition('id="needs"')[2].partition("</section>")[0]


def test_a_job_that_fails_often_does_not_hide_the_others(tmp_path: Path) -> None:
    """One failure of a job stays listed behind hundreds of another one."""
    project = tmp_path / "source"
    shutil.copytree(FORMS_PROJECT, project)
    with (project / "jobs.toml").open("a") as jobs:
        for name in ("quiet", "loud"):
            jobs.write(f'\n[[jobs]]\nid = "{name}"\noverlap = "allow"\n[[jobs.steps]]\ncallable = "desk:breaks"\n')
    with (project / "plugins" / "desk.py").open("a") as code:
        code.write('\n\nasync def breaks():\n    raise RuntimeError("it broke")\n')
    with running_console(tmp_path / "run", project=project) as console:
        api = console.system.api
        api.wait(api.trigger("quiet").run_id)
        api.trigger_many([TriggerOrder(job_id="loud") for _ in range(150)])
        eventually(lambda: len(list(api.list_runs(job_id="loud", states=["FAILED"]))) == 150, seconds=120)
        with console.logged_in() as client:
            needs = _needs(client)
            assert '<a class="name" href="/runs/run_' in needs
            assert re.findall(r">(quiet|loud)</a>", needs) == ["loud", "quiet"]
            assert "(and at least 59 times before)" in text_of(client.get("/"))


def test_a_pause_of_everything_is_seen_and_ended_on_every_page(
    console: ConsoleSystem, browser_client: httpx.Client
) -> None:
    """The line about the kernel says so and leads to what ends it, with its command."""
    api = console.system.api
    api.pause(why="vendor freeze")
    try:
        eventually(lambda: "everything is paused" in text_of(browser_client.get("/runs")))
        shown = browser_client.get("/pause")
        assert "everything is paused by" in text_of(shown)
        assert "“vendor freeze”" in text_of(shown)
        assert 'data-copy="nomaflow resume"' in shown.text
        form = form_of(shown, "/resume")
        assert form.send(browser_client).status_code == 303
        eventually(lambda: "everything is paused" not in text_of(browser_client.get("/pause")))
        assert not api.get_job("nightly-cleanup").pause
    finally:
        api.resume()
