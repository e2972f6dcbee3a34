"""Each page's ``.json`` is what the command prints with ``-o json``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import unescape
from typing import Any

import httpx
import pytest
from console_system import ConsoleSystem, running_console, written_project

from nomaflow.client import TriggerOrder
from real_system import PATIENCE, eventually

JOBS = """
[[jobs]]
id = "works"
description = "does it"
tags = ["nightly"]
schedule = "0 5 1 1 *"
timezone = "Europe/Paris"
steps = [{ name = "one", callable = "work:works", op_kwargs = { rows = 3 } }]
[[jobs]]
id = "feed.json"
description = "of partners"
steps = [{ name = "one", callable = "work:works" }]
[[jobs]]
id = "fails"
steps = [{ name = "one", callable = "work:fails" }]
"""
WORK = """
def works(rows: int = 1, **_):
    print("working")
    return {"rows_affected": rows, "of": "us"}

def fails(**_):
    raise LookupError("no rows in invoices_2026_10")
"""
MOVING = {"last_heartbeat_at", "clock_offset_us", "now", "rss_bytes", "cpu_seconds"}
"""What differs from one moment to the next."""


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleSystem]:
    """A console on a project where nothing happens by itself, with two runs."""
    project = written_project(tmp_path_factory.mktemp("source"), jobs=JOBS, work=WORK)
    with running_console(tmp_path_factory.mktemp("console"), project=project) as made:
        for job in ("works", "fails"):
            made.system.end(made.system.api.trigger(job).run_id)
        yield made


def still(value: Any) -> Any:
    """Return a value without what differs from one moment to the next."""
    if isinstance(value, dict):
        return {name: still(each) for name, each in value.items() if name not in MOVING}
    return [still(each) for each in value] if isinstance(value, list) else value


PAGES = {"newer", "older"}
"""Addresses of the pages before and after, where a page is one of several."""
CASES = [
    ("/jobs.json", ["jobs"]),
    ("/.json", ["jobs"]),
    ("/jobs.json?tag=nightly", ["jobs", "--tag", "nightly"]),
    ("/jobs/works.json", ["job", "works"]),
    ("/runs.json", ["runs"]),
    ("/runs.json?state=FAILED", ["runs", "--state", "FAILED"]),
    ("/runs.json?job=works", ["runs", "works"]),
    ("/runs/{run}.json", ["show", "{run}"]),
    ("/hosts.json", ["hosts"]),
    ("/schedule.json?from=2027-01-01&days=7", ["schedule", "--live", "--from", "2027-01-01T00:00Z", "--days", "7"]),
    (
        "/schedule.json?from=2027-01-01&days=1&job=works",
        ["schedule", "--live", "--from", "2027-01-01T00:00Z", "--days", "1", "--job", "works"],
    ),
]


@pytest.mark.parametrize(("path", "command"), CASES, ids=[path for path, _ in CASES])
def test_a_page_as_json_is_what_the_command_prints(
    console: ConsoleSystem, client: httpx.Client, path: str, command: list[str]
) -> None:
    """The same shape with the same values."""
    [run] = [each.run_id for each in console.system.api.list_runs(job_id="works")]
    words = [word.replace("{run}", run) for word in command]

    def is_the_same() -> bool:
        answer = client.get(path.replace("{run}", run))
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        page = still(answer.json())
        printed = still(console.system.cli(*words, "-o", "json").json)
        return {name: page[name] for name in page if name not in PAGES} == printed

    eventually(is_the_same)  # a host's workers come and go between the two


def test_a_job_whose_id_ends_like_an_address_of_json_has_its_page(client: httpx.Client) -> None:
    """Each link to it leads there; its own JSON is where that of any other job would be."""
    page = client.get("/jobs/feed.json")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "of partners" in page.text
    assert "job_id=feed.json" in page.text, "its live view is that of the job"
    assert client.get("/jobs/feed.json.json").json()["job_id"] == "feed.json"
    assert client.get("/jobs/feed.json/run").status_code == 200


def test_runs_are_a_table_of_commas_too(client: httpx.Client) -> None:
    """One line a run, below the names of its columns."""
    lines = client.get("/runs.csv?since=ever").text.splitlines()
    assert lines[0].startswith("run_id,job_id,state")
    assert len(lines) == 3


def test_a_person_is_found_by_the_name_that_pages_show(console: ConsoleSystem, client: httpx.Client) -> None:
    """The owner's note names the person: the links of both pages hold that name, and it finds what they did."""
    [run] = console.system.api.list_runs(job_id="works")
    name = run.trigger.by.removeprefix("owner (for ").removesuffix(")")
    assert run.trigger.by == f"owner (for {name})"
    found = client.get(f"/runs.json?by={name}").json()["runs"]
    assert run.run_id in [each["run_id"] for each in found]
    assert found == console.system.cli("runs", "--by", name, "-o", "json").json["runs"]
    runs, activity = (client.get(f"/{page}?by={name}").text for page in ("runs", "activity"))
    assert run.run_id in runs
    assert run.run_id in activity
    assert f'href="/runs?by={name}"' in client.get("/runs").text
    assert f'href="/activity?by={name}"' in client.get("/activity").text


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("/activity.json", ["events", "--acts", "-n", "100"]),
        ("/activity.json?all=1", ["events", "-n", "100"]),
        ("/activity.json?all=1&kind=run.finished&job=fails", ["events", "--kind", "run.finished", "--job", "fails"]),
    ],
)
def test_activity_as_json_is_what_the_command_prints_line_by_line(
    console: ConsoleSystem, client: httpx.Client, path: str, command: list[str]
) -> None:
    """One object a line, oldest first."""
    answer = client.get(path)
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = answer.text.splitlines()
    assert lines
    printed = console.system.cli(*command, "-o", "json").out.splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(line) for line in printed]


def test_activity_as_json_goes_on_before_its_first_line(client: httpx.Client) -> None:
    """Older events are those before the sequence of the first line."""
    lines = [json.loads(line) for line in client.get("/activity.json?all=1").text.splitlines()]
    older = client.get(f"/activity.json?all=1&before={lines[3]['seq']}").text.splitlines()
    assert [json.loads(line)["seq"] for line in older] == [each["seq"] for each in lines[:3]]


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/jobs/wroks.json", 404, "JOB_NOT_FOUND"),
        ("/runs/run_00000000000000000000000000.json", 404, "RUN_NOT_FOUND"),
        ("/hosts/taem.json", 404, "UNKNOWN_HOST"),
        ("/nowhere.json", 404, "UNKNOWN_PAGE"),
    ],
)
def test_a_refusal_as_json_has_the_reason_of_the_kernel(
    client: httpx.Client, path: str, status: int, reason: str
) -> None:
    """Programs read the reason, people the message."""
    answer = client.get(path)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (status, reason)
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(("path", "near"), [("/jobs/wroks", "/jobs/works"), ("/hosts/taem", "/hosts/team")])
def test_an_unknown_name_says_which_was_probably_meant(client: httpx.Client, path: str, near: str) -> None:
    """The 404 has a link to the near name."""
    answer = client.get(path)
    assert answer.status_code == 404
    assert f'Did you mean <a href="{near}">' in answer.text
    assert answer.text.casefold().count("did you mean") == 1


def _shared(one: str, other: str) -> int:
    """Return how many characters two ids begin with in common."""
    return next(place for place, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])


def test_a_run_is_found_by_any_beginning_of_its_id(console: ConsoleSystem, client: httpx.Client) -> None:
    """Case does not matter, nor whether ``run_`` stands before it; runs that share a beginning are listed."""
    one, other = (run.run_id for run in console.system.api.list_runs())
    common = _shared(one, other)
    for text in (*(one[:length] for length in range(common + 1, len(one) + 1)), one.upper(), one[4:-1]):
        answer = client.get("/search", params={"q": text})
        assert (answer.status_code, answer.headers.get("location")) == (303, f"/runs/{one}"), text
    for text in (one[:common], one[:common].upper(), "run_", one[4:common]):
        answer = client.get("/search", params={"q": text})
        assert answer.status_code == 200, text
        assert {f'href="/runs/{run}"' in answer.text for run in (one, other)} == {True}, text
        assert set(client.get("/search.json", params={"q": text}).json()["runs"]) == {one, other}
    assert "Nothing is called" in client.get("/search", params={"q": f"{one[:-1]}_"}).text


def test_the_run_whose_id_begins_as_an_unknown_one_is_meant_first(console: ConsoleSystem, client: httpx.Client) -> None:
    """Ids of runs of the same minutes are alike: one that begins so is nearer than any that is only alike."""
    runs = [run.run_id for run in console.system.api.list_runs()]
    common = _shared(*runs)
    for run in runs:
        for asked in (run[: common + 1], run[:-1], run.upper()):
            assert f'Did you mean <a href="/runs/{run}">' in client.get(f"/runs/{asked}").text, asked
    page = client.get(f"/runs/{runs[0][:11]}").text
    assert all(f'<a href="/runs/{run}">' in page for run in runs)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("state=NOPE", "there is no state 'NOPE'"),
        ("trigger=nope&state=FAILED", "there is no trigger 'nope'"),
        ("level=nope", "there is no level 'nope'"),
        ("since=nope", "since: 'nope' is no time"),
        ("until=nope", "until: 'nope' is no time"),
        ("off=nope", "there is no column 'nope'"),
    ],
)
def test_a_filter_that_the_page_warns_of_is_refused_to_programs(client: httpx.Client, query: str, message: str) -> None:
    """A program reads no warning: it would take all runs for those that it asked for."""
    assert message in unescape(client.get(f"/runs?{query}").text)
    answer = client.get(f"/runs.json?{query}")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (400, "BAD_REQUEST")
    assert answer.json()["error"]["message"].startswith(message)
    table = client.get(f"/runs.csv?{query}")
    assert (table.status_code, message in unescape(table.text)) == (400, True)


@pytest.mark.parametrize(
    ("page", "query", "shown", "message"),
    [
        ("runs", "job=my job&state=FAILED", 'value="my job"', "job_id is 'my job', expected 1 to 128 letters"),
        ("runs", "tag=%00", "state=", "tag is '\\x00', expected at most 128 printable characters"),
        ("activity", "run=k2f9&by=ann", 'value="k2f9"', "run_id is 'k2f9', expected 'run_' and 26 characters"),
        ("activity", "job=my job", 'value="my job"', "job_id is 'my job', expected 1 to 128 letters"),
    ],
)
def test_a_filter_that_the_kernel_refuses_stays_on_the_page(
    client: httpx.Client, page: str, query: str, shown: str, message: str
) -> None:
    """The other filters stay too: only the list is empty. A program is refused."""
    answer = client.get(f"/{page}?{query}")
    assert (answer.status_code, shown in answer.text) == (200, True)
    assert message in unescape(answer.text)
    assert client.get(f"/{page}.json?{query}").status_code in (400, 404)


def test_a_day_of_the_schedule_that_the_page_warns_of_is_refused_to_programs(client: httpx.Client) -> None:
    """As it is with the filters of runs."""
    assert "“2026-13-01” is no day" in client.get("/schedule?from=2026-13-01").text
    answer = client.get("/schedule.json?from=2026-13-01")
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "from: '2026-13-01' is no day")
    assert "write it as 20" in answer.json()["error"]["fix"]


def test_the_only_run_of_a_job_is_not_compared_with_itself(console: ConsoleSystem, client: httpx.Client) -> None:
    """Usual is what other runs took; and one run is counted as one."""
    [run] = console.system.api.list_runs(job_id="works")
    assert "usually" not in client.get(f"/runs/{run.run_id}").text.partition('id="run-head"')[2][:4000]
    job = client.get("/jobs/works").text
    assert "<span>usually 3 rows</span>" in job
    assert "<span>the last run that took place was ok</span>" in job


def test_without_a_session_json_is_a_401_and_no_login_page(console: ConsoleSystem) -> None:
    """A program gets an error that it can read."""
    answer = httpx.get(f"{console.base}/runs.json", timeout=PATIENCE)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (401, "SESSION_OVER")


def test_half_of_a_pair_of_surrogates_is_sent_as_its_escape(console: ConsoleSystem, client: httpx.Client) -> None:
    """JSON can write one as an escape, so that a value of a run can hold one. UTF-8 has none."""
    system = console.system
    run_id = system.api.trigger(TriggerOrder(job_id="works", params={"odd": "\ud800"})).run_id
    system.end(run_id)
    assert client.get(f"/runs/{run_id}").status_code == 200
    answer = client.get(f"/runs/{run_id}.json")
    assert (answer.status_code, answer.json()["params"]["odd"]) == (200, "\ud800")
