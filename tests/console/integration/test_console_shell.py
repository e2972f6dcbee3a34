"""The console's shell over real sockets."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

import httpx
import pytest
from console_system import ConsoleSystem
from page_forms import form_of, text_of

from nomaflow_console.pages import ALL_ROUTES
from real_system import eventually

HOSTILE_IDS = ["../../etc/passwd", "x" * 6_000, "\x00", "'; DROP TABLE runs; --", "%", "${HOME}", "run_" + "0" * 26]
PAGES = ["/", "/runs", "/schedule", "/hosts", "/activity", "/kernel", "/search"]


@pytest.mark.parametrize("path", PAGES)
def test_each_page_opens_after_a_login(client: httpx.Client, path: str) -> None:
    """Every page of the header opens."""
    answer = client.get(path)
    assert answer.status_code == 200, answer.text


def test_an_instance_shows_what_it_has(client: httpx.Client) -> None:
    """The page of a host has the cores and the memory that steps may ask for."""
    assert re.search(r">\d+ cores?, [\d,]+ MiB", client.get("/hosts/demo").text)


def test_the_next_fire_of_a_job_is_in_the_zone_of_the_header(client: httpx.Client) -> None:
    """As its last run beside it: on another clock it looked past. The tooltip has the schedule's own."""
    row = re.search(r'id="job-nightly-cleanup">.*?</tr>', client.get("/").text, re.DOTALL)
    assert row is not None
    assert re.search(r"data-at=[^>]*job, Paris[^>]*>[^<P]*</time>", row[0])
    assert "Paris</time>" not in row[0]


def test_a_schedule_that_fires_often_says_what_it_runs_into(client: httpx.Client) -> None:
    """The heartbeat is one line with what it meets in a day; the fires that it meets count it in their minute."""
    days = client.get("/schedule?from=2027-01-11&days=1").text
    often, _, listed = days.partition('<section class="card fire-day"')
    assert re.search(r"runs into</span>.*/jobs/nightly-cleanup", often)
    assert "13 in this minute" in listed
    wrong = client.get("/schedule?from=2026-02-30&days=1").text
    assert "“2026-02-30” is no day: today is shown" in wrong
    assert "is no day" not in days + client.get("/schedule?from=").text
    alone = client.get("/schedule?from=2027-01-11&days=1&job=heartbeat&show=collisions").text
    assert 'id="frequent"' not in alone


def test_a_page_shows_what_its_reader_has_just_done(console: ConsoleSystem, client: httpx.Client) -> None:
    """The page is the same for all until something happens; whatever was answered has happened."""
    api = console.system.api
    api.pause(job_id="nightly-cleanup", why="so that it waits")
    for _ in range(10):
        before = client.get("/").text
        run = api.trigger("nightly-cleanup")
        assert run.run_id not in before
        assert f'href="/runs/{run.run_id}"' in client.get("/").text
        api.cancel(run.run_id)
        row = re.search(r'id="job-nightly-cleanup">.*?</tr>', client.get("/").text, re.DOTALL)
        assert row is not None
        assert "canceled" in row[0]
    api.resume(job_id="nightly-cleanup")


def test_half_an_id_of_a_run_leads_to_the_run(console: ConsoleSystem, client: httpx.Client) -> None:
    """As when it was copied badly: the answer is that there is no such run, with those that were probably meant."""
    run_id = console.system.api.trigger("nightly-cleanup").run_id
    answer = client.get(f"/runs/{run_id[:-3]}")
    assert answer.status_code == 404
    assert f'href="/runs/{run_id}"' in answer.text
    assert client.get("/runs/nothing").status_code == 404


def test_without_a_session_a_page_leads_to_the_login(console: ConsoleSystem) -> None:
    """A page without a session leads to the login, which leads back."""
    with console.visitor() as visitor:
        answer = visitor.get("/runs?state=failed")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/runs%3Fstate%3Dfailed")


def test_everything_can_be_paused_from_every_page(console: ConsoleSystem, client: httpx.Client) -> None:
    """The line about the kernel leads to the form, which pauses all, and to what ends that, with its command."""
    for path in PAGES:
        assert '<a class="end" href="/pause">' in client.get(path).text, path
    assert "Pause everything" in client.get("/pause").text
    api = console.system.api
    api.pause(why="vendor freeze")
    try:
        eventually(lambda: "everything is paused" in text_of(client.get("/runs")))
        shown = client.get("/pause")
        assert "everything is paused by" in text_of(shown)
        assert "“vendor freeze”" in text_of(shown)
        assert 'data-copy="nomaflow resume"' in shown.text
        assert form_of(shown, "/resume").send(client).status_code == 303
        eventually(lambda: "everything is paused" not in text_of(client.get("/pause")))
        assert not api.get_job("nightly-cleanup").pause
    finally:
        api.resume()


@pytest.mark.parametrize(
    ("path", "above"),
    [
        ("/logout", "/"),
        ("/hosts/demo/reload", "/hosts/demo"),
        ("/jobs/a%20b/resume", "/jobs/a%20b"),
        ("/resume", "/"),
        ("/runs/bulk", "/runs"),
        ("/runs/bulk/do", "/runs"),
    ],
)
def test_the_address_of_a_form_leads_to_the_page_above_it(client: httpx.Client, path: str, above: str) -> None:
    """Whoever opens it again, from the history or a link, has not sent the form."""
    answer = client.get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, above)


def test_a_pause_asks_why_and_until_when(console: ConsoleSystem, client: httpx.Client) -> None:
    """Without a reason nothing is paused; with one the job's row says so, and Resume ends it."""
    form = form_of(client.get("/jobs/nightly-cleanup/pause"), "/jobs/nightly-cleanup/pause")
    assert "nomaflow pause nightly-cleanup --for 4h --why" in text_of(form.send(client, do="check"))
    for values, command in (
        ({"until": "open", "why": "vendor freeze"}, "--why 'vendor freeze'"),
        ({"until": "at", "at": "2100-01-01T18:00"}, "--until 2100-01-01T18:00:00+00:00 --why"),
    ):
        told = text_of(form.fill(**values).send(client, do="check"))
        assert f"nomaflow pause nightly-cleanup {command}" in told
    assert "nomaflow pause" not in text_of(form.fill(until="at", at="yesterday").send(client, do="check"))
    assert console.system.api.get_job("nightly-cleanup").pause is None
    assert form.send(client).status_code == 400
    wrong = form.fill(why="vendor freeze", until="at", at="yesterday").send(client)
    assert wrong.status_code == 400
    assert "is not a date and time" in text_of(wrong)
    assert form_of(wrong, "/jobs/nightly-cleanup/pause").value("why") == "vendor freeze"
    answer = form.fill(why="vendor freeze", until="1h").send(client)
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/nightly-cleanup")
    assert "“vendor freeze”" in text_of(client.get("/"))
    paused = client.get("/jobs/nightly-cleanup")
    assert "$ nomaflow resume nightly-cleanup" in text_of(paused)
    resumes = form_of(paused, "/jobs/nightly-cleanup/resume")
    assert resumes.send(client).status_code == 303
    assert console.system.api.get_job("nightly-cleanup").pause is None


def test_a_paused_host_names_the_person_and_the_command_that_resumes_it(
    console: ConsoleSystem, client: httpx.Client
) -> None:
    """As the page of jobs does: the person, not the principal in whose name the call came."""
    form = form_of(client.get("/hosts/demo/pause"), "/hosts/demo/pause")
    assert form.fill(why="vendor freeze", until="1h").send(client).status_code == 303
    [host] = console.system.api.list_hosts()
    assert host.pause is not None
    assert " (for " in host.pause.by
    for path in ("/hosts", "/hosts/demo"):
        told = text_of(client.get(path))
        assert re.search("paused by ann until .*: “vendor freeze”", told), path
        assert "$ nomaflow resume --host demo" in told
    assert form_of(client.get("/hosts"), "/hosts/demo/resume").send(client).status_code == 303


def addresses(named: Callable[[str], str], *, parts: bool = False) -> set[str]:
    """Return the addresses of all pages, or of those that have an id in them, with the ids that are given by name."""
    paths = {route.path.replace(":int", "") for route in ALL_ROUTES if "{" in route.path or not parts}
    return {re.sub(r"\{(\w+)\}", lambda found: named(found[1]), path) for path in paths}


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_no_address_takes_a_change_from_elsewhere(console: ConsoleSystem, client: httpx.Client, method: str) -> None:
    """A15: a good cookie and token, but from another page, for another host, or without an origin: 403, no change."""
    api, port = console.system.api, console.base.rpartition(":")[2]
    token = re.search(r'name="csrf" value="([0-9a-f]{32})"', client.get("/kernel").text)
    assert token is not None
    names = {"job_id": "month-end", "run_id": "run_" + "0" * 26, "name": "demo"}
    form = {"csrf": token[1], "why": "x"}
    origin = client.headers.pop("origin")
    acts = [event.seq for event in api.list_events(acts=True).events]
    for headers in ({"origin": "http://evil.example"}, {}, {"origin": origin, "host": f"evil.example:{port}"}):
        for path in addresses(lambda name: names.get(name, "1")):
            answer = client.request(method, path, data=form, headers=headers)
            assert answer.status_code == 403, (path, headers)
    assert [event.seq for event in api.list_events(acts=True).events] == acts
    assert client.get("/kernel").status_code == 200, "the session goes on"


def test_a_hostile_id_in_an_address_is_refused_by_each_page(client: httpx.Client) -> None:
    """A16: a hostile text in the place of an id is answered as malformed or as not found."""
    for hostile in HOSTILE_IDS:
        for path in addresses(lambda name, id=hostile: "1" if name == "attempt" else quote(id, safe=""), parts=True):
            answer = client.get(path)
            assert answer.status_code in (303, 400, 404), (path, answer.status_code)
            assert "root:" not in answer.text
