"""The page of a run over HTTP: what it says of a run that waits, and of what its steps are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pytest
from console_system import RUN_PAGE_PROJECT, ConsoleSystem
from page_forms import form_of

from nomaflow.client import TriggerOrder
from nomaflow_console.access.links import make_code
from nomaflow_console.access.secret import ConsoleSecret
from real_system import PATIENCE, eventually, launch

PROJECT = RUN_PAGE_PROJECT
_COUNTS = re.compile(r"starts in <span class=\"ticks\" data-until=\"[0-9T:.Z-]+\">1[0-9] min(?: [0-9]{2} s)?</span>")


@pytest.fixture(scope="module")
def waiting(console: ConsoleSystem) -> Iterator[str]:
    """The id of a run whose second try starts in a quarter of an hour."""
    api = console.system.api
    run_id = api.trigger("patient").run_id

    def waits() -> bool:
        run = api.get_run(run_id)
        return run.reason is not None and run.reason.code == "waiting_for_retry"

    eventually(waits)
    yield run_id
    api.cancel(run_id)
    api.wait(run_id)


def test_the_time_to_the_next_try_is_counted_wherever_it_is_told(client: httpx.Client, waiting: str) -> None:
    """The header of the run, its try, its log, the lists of runs and jobs and what runs now have a time that counts."""
    html = client.get(f"/runs/{waiting}").text
    head = re.search(r'<span class="run-sentence">(.*?)</h1>', html)
    assert head is not None
    assert _COUNTS.search(head[1])
    tries = html.partition('id="run-tries"')[2].partition('id="log"')[0]
    assert _COUNTS.search(tries)
    assert not re.search(r"starts in [0-9]", html)
    rows = (("/runs?job=patient&since=ever", f"row-{waiting}", "</tr>"), ("/", "job-patient", "</tr>"))
    for address, row, end in (*rows, ("/", f"now-{waiting}", "</li>")):
        cells = client.get(address).text.partition(f'id="{row}"')[2].partition(end)[0]
        assert _COUNTS.search(cells), row
        assert not re.search(r"starts in [0-9]", cells), row


def test_a_job_whose_run_waits_is_not_called_running(client: httpx.Client, waiting: str) -> None:
    """Its row and its page say of the last run what the list of runs says."""
    row = client.get("/?q=patient").text.partition('id="job-patient"')[2].partition("</tr>")[0]
    head = client.get("/jobs/patient").text.partition('id="job-head"')[2].partition("</div>")[0]
    for shown in (row, head):
        assert "state state-waits" in shown
        assert "state state-running" not in shown


def test_a_job_with_an_open_run_offers_its_end(client: httpx.Client, waiting: str) -> None:
    """The menu of the job's row leads to the question whether to cancel the run, and back to the list."""
    row = client.get("/?q=patient").text.partition('id="job-patient"')[2].partition("</tr>")[0]
    link = re.search(r'href="([^"]+/cancel[^"]*)"', row)
    assert link is not None
    asked = client.get(unescape(link[1]))
    assert f"/runs/{waiting}/cancel" in asked.text
    assert 'name="next" value="/?q=patient"' in asked.text
    idle = client.get("/?q=month-end").text.partition('id="job-month-end"')[2].partition("</tr>")[0]
    assert "/cancel" not in idle


def test_the_log_of_a_run_that_waits_says_for_what(console: ConsoleSystem, client: httpx.Client) -> None:
    """A run of a paused job has logged nothing: the reason stands where its lines will be, and goes once it is over.

    Its steps have no tries yet: there is no heading over nothing.
    """
    api = console.system.api
    api.pause(job_id="month-end", why="vendor freeze")
    run_id = api.trigger("month-end").run_id
    reason = api.get_run(run_id).reason
    assert reason is not None
    assert reason.message
    place = re.compile(r'<p id="run-waits"([^>]*)>(.*?)</p>')
    html = client.get(f"/runs/{run_id}").text
    shown = place.search(html)
    assert shown is not None
    assert re.search(r'<section id="run-tries"[^>]* hidden>', html)
    assert "not started yet" in html.partition('id="run-timeline"')[2].partition('id="run-tries"')[0]
    assert "hidden" not in shown[1]
    assert unescape(shown[2]).startswith(f"Nothing has been logged yet: {reason.message}")
    api.resume(job_id="month-end")
    api.wait(run_id)
    html = client.get(f"/runs/{run_id}").text
    over = place.search(html)
    assert over is not None
    assert not re.search(r'<section id="run-tries"[^>]* hidden>', html)
    assert "hidden" in over[1]


def test_a_try_says_what_kind_of_step_it_is_and_leads_to_the_events_of_its_run(
    console: ConsoleSystem, client: httpx.Client
) -> None:
    """Python or the call of a job; the events are there for a run that a run has started, too."""
    api = console.system.api
    caller = api.wait(api.trigger("caller").run_id)
    child = caller.steps[0].last.child_run_id
    assert child
    html = client.get(f"/runs/{caller.run_id}").text
    assert '<code class="quiet">call_job</code>' in html
    assert f'<dt>job</dt><dd><a href="/jobs/{caller.steps[0].last.child_job_id}">' in html
    html = client.get(f"/runs/{child}").text
    assert '<code class="quiet">python</code>' in html
    link = re.search(r'href="(/activity[^"]+)"[^>]*>events of this run', html)
    assert link is not None
    events = client.get(unescape(link[1])).text
    assert "No event matches" not in events
    assert 'id="event-' in events


def test_a_step_of_the_timeline_leads_to_its_try(console: ConsoleSystem, client: httpx.Client) -> None:
    """A step of a run that was called leads to the page of that run; a step that has no try leads nowhere."""
    api = console.system.api
    caller = api.wait(api.trigger("caller").run_id)
    child = caller.steps[0].last.child_run_id
    led = []
    for run_id in (caller.run_id, child):
        html = client.get(f"/runs/{run_id}").text
        for place, id in re.findall(r'href="([^"#]*)#(try-[^"]+)" class="name"', html):
            assert f'id="{id}"' in (client.get(place).text if place else html)
            led.append((place, id))
        assert html.count('<span class="name">summary</span>') == 1
    of_child = ["try-purge-1", "try-score-1"]
    there = [(f"/runs/{child}", each) for each in of_child]
    assert led == [("", "try-call-1"), *there, *(("", each) for each in of_child)]


def test_a_try_names_those_that_share_its_worker(console: ConsoleSystem, client: httpx.Client, tmp_path: Path) -> None:
    """A neighbour may be why a step is slow: the page of its run and the look into it name it."""
    api, go = console.system.api, tmp_path / "go"
    talk = {"lines": 1, "pause_at": 1, "until": str(go)}
    order = TriggerOrder(job_id="talker", op_kwargs={"talk": talk}, overlap="allow")
    one, two = (api.trigger(order).run_id for _ in range(2))
    link = f'href="/runs/{two}?step=talk&amp;try=1"'
    try:
        eventually(lambda: link in client.get(f"/runs/{one}").text, seconds=60)
        assert f'href="/runs/{one}?' not in client.get(f"/runs/{one}").text.partition("a shared worker")[2][:500]
        seen = client.get(f"/runs/{one}/inspect/talk/1").text
        assert "It shares its worker with" in seen
        assert link in seen
    finally:
        go.touch()
        api.wait(one)
        api.wait(two)
    assert "beside" not in client.get(f"/runs/{one}").text.partition('id="run-tries"')[2].partition('id="log"')[0]


def test_the_progress_of_a_step_does_not_hide_what_else_happens(console: ConsoleSystem, client: httpx.Client) -> None:
    """A step that runs may tell its progress each second: the list of all events has it for who asks for it."""
    api = console.system.api
    run = api.wait(api.trigger(TriggerOrder(job_id="talker", op_kwargs={"talk": {"lines": 1, "pause_at": 0}})).run_id)
    about = f"run={run.run_id}&all=1"
    kinds = [json.loads(line)["kind"] for line in client.get(f"/activity.json?{about}").text.splitlines()]
    assert "attempt.progress" in kinds

    def shown(query: str) -> list[str]:
        html = client.get(f"/activity?{about}{query}").text
        return re.findall(r'<span class="quiet wide">([a-z._]+)</span>', html)[::-1]

    assert shown("") == [kind for kind in kinds if kind != "attempt.progress"]
    tries = [kind for kind in kinds if kind.startswith("attempt.")]
    assert shown("&kind=attempt") == [kind for kind in tries if kind != "attempt.progress"]
    assert shown("&kind=attempt.progress") == [kind for kind in tries if kind == "attempt.progress"]


def test_a_cancel_that_is_refused_keeps_the_reason_and_the_way_back(client: httpx.Client, waiting: str) -> None:
    """The form is shown again as it was sent."""
    form = form_of(client.get(f"/runs/{waiting}/cancel?next=/activity"), f"/runs/{waiting}/cancel")
    refused = form.fill(why="x" * 5000).send(client)
    assert refused.status_code == 409
    again = form_of(refused, f"/runs/{waiting}/cancel")
    assert (again.value("why"), again.value("next")) == ("x" * 5000, "/activity")


def test_a_report_has_the_address_at_which_a_proxy_shows_the_run(
    console: ConsoleSystem, failed_run: str, tmp_path: Path
) -> None:
    """The proxy has TLS, and the console behind it has none."""
    origin, listen = "https://ops.example.org", ("--listen", "unix:c.sock")
    address = ("--address", console.system.kernel_address)
    other = launch("nomaflow_console", tmp_path, *listen, *address, "--origin", origin, log_file=tmp_path / "log")
    try:
        eventually(lambda: (tmp_path / ".nomaflow" / "console").exists() or other.ended)
        socket = httpx.HTTPTransport(uds=str(tmp_path / "c.sock"))
        host, headers = "http://ops.example.org", {"origin": origin}
        with httpx.Client(transport=socket, base_url=host, headers=headers, timeout=PATIENCE) as client:
            code = make_code(ConsoleSecret.of(tmp_path / ".nomaflow"), "ann")
            cookie = client.post("/login", data={"code": code}).headers["set-cookie"].partition(";")[0]
            report = client.get(f"/runs/{failed_run}/report.txt", headers={"cookie": cookie}).text
    finally:
        other.stop()
    assert f"page     {origin}/runs/{failed_run}\n" in report
