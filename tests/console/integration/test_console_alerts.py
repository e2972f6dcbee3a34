"""Incidents of real alerts on the page of jobs, and a mute from there."""

from __future__ import annotations

import shutil
from pathlib import Path

from console_system import FORMS_PROJECT, running_console
from page_forms import form_of, text_of

from real_system import eventually, launch


def test_an_open_incident_is_muted_from_the_page_of_jobs(tmp_path: Path) -> None:
    """It is offered where the failure is listed, asks for a reason, and is shown then."""
    project = tmp_path / "source"
    shutil.copytree(FORMS_PROJECT, project)
    with (project / "jobs.toml").open("a") as jobs:
        jobs.write('\n[[jobs]]\nid = "breaks"\n[[jobs.steps]]\ncallable = "desk:breaks"\n')
    with (project / "plugins" / "desk.py").open("a") as code:
        code.write('\n\ndef breaks():\n    raise RuntimeError("it broke")\n')
    with (project / "nomaflow.toml").open("a") as settings:
        settings.write('\n[alerts]\nchannels.ops = { url = "json://127.0.0.1:1/" }\n')
    with running_console(tmp_path / "run", project=project) as console:
        console.system.parts["alerts"] = launch(
            "nomaflow_alerts", console.project, log_file=console.system.root / "alerts.log"
        )
        run = console.system.api.wait(console.system.api.trigger("breaks").run_id)
        assert run.state == "FAILED"
        with console.logged_in() as client:
            address = "/alerts/mute?job=breaks"
            eventually(lambda: address in client.get("/").text, seconds=60)
            form = form_of(client.get(address), "/alerts/mute")
            longer = form.fill(until="1d", why="it moves").send(client, do="check")
            assert "nomaflow alerts mute breaks --for 1d --why 'it moves'" in text_of(longer)
            refused = form.send(client)
            assert (refused.status_code, "say why" in refused.text) == (400, True)
            assert form.fill(why="moving").send(client).status_code == 303
            eventually(lambda: "muted until" in text_of(client.get("/")))
