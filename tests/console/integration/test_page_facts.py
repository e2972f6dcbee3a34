"""Facts that pages owe their readers: zones of schedules, why a run waits, counts beside filters, what needs them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import httpx
import pytest
from console_system import ConsoleSystem, running_console, written_project
from page_forms import PageForm, form_of, text_of

from nomaflow.client import TriggerOrder
from real_system import eventually

JOBS = """
[[jobs]]
id = "tokyo"
schedule = "* * * * * */2"
timezone = "Asia/Tokyo"
steps = [{ name = "one", callable = "work:works" }]
[[jobs.presets]]
name = "weekly"
schedule = "0 4 * * 0"
[[jobs.presets]]
name = "here"
schedule = "0 5 * * 0"
timezone = "Europe/Paris"
[[jobs]]
id = "retrier"
steps = [{ name = "boom", callable = "work:breaks", retry = { attempts = 3, base_seconds = 600 } }]
[[jobs]]
id = "works"
tags = ["<b>odd</b>"]
steps = [{ name = "one", callable = "work:works" }]
[[jobs]]
id = "sleeper"
steps = [{ name = "sleep", callable = "work:sleeps" }]
[[jobs]]
id = "quiet"
steps = [{ name = "boom", callable = "work:breaks" }]
[[jobs]]
id = "loud"
overlap = "allow"
steps = [{ name = "boom", callable = "work:breaks" }]
"""
WORK = """
import time

def works():
    print("working")

def sleeps():
    while True:
        time.sleep(0.05)

async def breaks():
    raise LookupError("no rows in invoices_2026_10")

for number in range(501):
    exec(f"def made_{number}(): pass")
"""


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleSystem]:
    """A console on a project with a job in Tokyo, and one that waits for its next try."""
    project = written_project(tmp_path_factory.mktemp("source"), jobs=JOBS, work=WORK)
    with running_console(tmp_path_factory.mktemp("console"), project=project) as made:
        yield made


def test_a_schedule_names_its_own_zone(console: ConsoleSystem, client: httpx.Client) -> None:
    """On the page of a run that it started, and beside each preset."""
    api = console.system.api
    eventually(lambda: any(api.list_runs(job_id="tokyo")))
    run = next(api.list_runs(job_id="tokyo"))
    assert "cron * * * * * */2 Tokyo, " in text_of(client.get(f"/runs/{run.run_id}"))
    presets = text_of(client.get("/jobs/tokyo"))
    assert "0 4 * * 0 Asia/Tokyo" in presets
    assert "0 5 * * 0 Europe/Paris" in presets


def test_bars_tell_their_times_in_the_zone_of_the_page(client: httpx.Client) -> None:
    """As all times of a page: no other zone is named."""
    eventually(lambda: "<title>✓ ok" in client.get("/").text)
    client.cookies.set("zone", "Asia/Tokyo")
    page = client.get("/").text
    bar = re.search("<title>✓ ok · [^·]* · ([0-9:]{5})</title>", page)
    assert bar is not None
    row = re.search(r'id="job-tokyo">.*?</tr>', page, re.DOTALL)
    assert row is not None
    last = re.search("<time[^>]*>([0-9:]{5})</time>", row[0])
    assert last is not None
    assert abs(_minutes(bar[1]) - _minutes(last[1])) % 1438 <= 2
    assert "UTC</title>" not in page


def _minutes(clock: str) -> int:
    hours, minutes = clock.split(":")
    return 60 * int(hours) + int(minutes)


def test_a_run_in_back_off_says_why_it_waits(console: ConsoleSystem, client: httpx.Client) -> None:
    """The kernel's sentence, the number of the try, and what the last one failed with."""
    run = console.system.api.trigger("retrier")
    told = "the next attempt of step 'boom' starts in"
    eventually(lambda: told in text_of(client.get("/")))
    page = text_of(client.get("/"))
    assert "try 2 of 3; before: LookupError: no rows in invoices_2026_10" in page
    console.system.api.cancel(run.run_id)
    console.system.end(run.run_id)


def test_filters_of_runs_have_the_number_of_runs_beside_each_value(
    console: ConsoleSystem, client: httpx.Client
) -> None:
    """Of triggers, hosts and tags, as of states; each value is a link that filters by it."""
    run = console.system.api.trigger("works")
    console.system.end(run.run_id)

    def numbers() -> dict[str, int]:
        page = client.get("/runs").text
        found = re.findall(r'<a class="item" href="([^"]*)"[^>]*>(?:[^<]|&lt;|&gt;)* <small>([\d,]+)</small></a>', page)
        return {target: int(number.replace(",", "")) for target, number in found}

    tagged, manual = "/runs?tag=%3Cb%3Eodd%3C%2Fb%3E", "/runs?trigger=api"
    eventually(lambda: numbers().get(tagged) == 1)
    found = numbers()
    assert (found[manual] >= 1, found["/runs?trigger=replay"]) == (True, 0)
    assert found["/runs?host=team"] >= found["/runs?trigger=cron"] + found[manual]
    assert 'aria-current="true">&lt;b&gt;odd&lt;/b&gt;' in client.get(tagged).text


def test_what_a_try_does_now_and_a_comparison_are_json_too(console: ConsoleSystem, client: httpx.Client) -> None:
    """In the shapes of ``nomaflow inspect`` and ``show``; and a cancel of many leads to the list of these runs."""
    api = console.system.api
    runs = [api.trigger(TriggerOrder(job_id="sleeper", overlap="allow")).run_id for _ in range(2)]
    address = f"/runs/{runs[0]}/inspect/sleep/1.json"
    eventually(lambda: client.get(address).status_code == 200)
    seen, printed = client.get(address).json(), console.system.cli("inspect", runs[0], "-o", "json").json
    assert seen.keys() == printed.keys()
    assert [each["pid"] for each in seen["processes"]] == [each["pid"] for each in printed["processes"]]

    bulk = form_of(client.get("/runs"), "/runs/bulk")
    chosen = PageForm(action=bulk.action, method=bulk.method, fields=[*bulk.fields, *(("run", each) for each in runs)])
    done = form_of(chosen.send(client, do="cancel"), "/runs/bulk/do").send(client, do="cancel")
    listed = re.search(r'href="(/runs\?[^"]*run=[^"]*)"[^>]*>.*?Watch them stop', done.text)
    assert listed is not None
    target = html.unescape(listed[1])
    assert "only 2 runs" in text_of(client.get(target))
    found = client.get(target.replace("/runs?", "/runs.json?")).json()["runs"]
    assert {each["run_id"] for each in found} == set(runs)
    for run in runs:
        console.system.end(run)

    compared = client.get("/runs/compare.json", params={"run": runs}).json()
    assert compared["runs"] == [console.system.cli("show", run, "-o", "json").json for run in runs]
    assert all(each["one"] != each["other"] for each in compared["differences"])
    assert client.get("/runs/compare.json").json() == {"runs": [], "differences": []}


def test_a_day_with_many_fires_of_one_schedule_is_not_called_empty(client: httpx.Client) -> None:
    """The lines above tell the fires of frequent schedules: the days below say that there is nothing else."""
    page = text_of(client.get("/schedule?from=2027-01-11&days=1&job=tokyo"))
    assert "Many a day" in page
    assert "nothing else is scheduled" in page
    assert "0 fires to come" not in page
    idle = text_of(client.get("/schedule?from=2027-01-11&days=1&job=works"))
    assert "nothing is scheduled" in idle
    assert "0 fires to come" in idle


def test_what_came_of_frequent_fires_is_told_in_words(console: ConsoleSystem, client: httpx.Client) -> None:
    """A sign and a number alone say what they count only to those who know the sign."""
    eventually(lambda: list(console.system.api.list_runs(job_id="tokyo", states=["SUCCEEDED"])), seconds=60)
    page = text_of(client.get("/schedule?days=1&job=tokyo"))
    assert re.search(r"✓ [0-9,]+ ok", page), page


@pytest.mark.parametrize("page", ["/runs?since=ever&", "/schedule?", "/activity?"])
def test_a_list_that_is_empty_for_a_misspelt_name_says_so(client: httpx.Client, page: str) -> None:
    """A filter by a job, host or tag that does not exist, with the name that was probably meant; others say nothing."""
    told = {
        "job=wroks": "no job has the id 'wroks'; did you mean 'works'?",
        "host=tema": "no host has the name 'tema'; did you mean 'team'?",
        "tag=<b>od</b>": "no job has the tag '<b>od</b>'; did you mean '<b>odd</b>'?",
    }
    for name, problem in told.items():
        if not (name.startswith("tag") and page == "/activity?"):
            assert problem in text_of(client.get(page + name)), name
    assert "no job has" not in text_of(client.get(page + "job=works&host=team"))


def test_a_hosts_page_shows_some_of_many_callables(client: httpx.Client) -> None:
    """A page of thousands would hold up everybody's; what is found by its name is there all the same."""
    listed = re.compile(r'<li id="(work:\w+)"')
    answer = client.get("/hosts/team")
    assert len(listed.findall(answer.text)) == 500
    assert "500 of 504; find another by any part of its name" in text_of(answer)
    target = "/hosts/team?callable=work%3Aworks#work:works"
    assert f'href="{target}"' in client.get("/search?q=works").text
    answer = client.get(target)
    assert listed.findall(answer.text) == ["work:works"]
    assert "1 of 504: show the others" in text_of(answer)


def test_a_hosts_page_tells_who_its_instances_are(console: ConsoleSystem, client: httpx.Client) -> None:
    """The principal, when it attached, and the digest of what it brings."""
    [host] = console.system.api.list_hosts()
    [instance] = host.instances
    page = client.get("/hosts/team")
    assert f'title="{instance.manifest_digest}"' in page.text
    section = page.text.partition('id="identities"')[2].partition("</section>")[0]
    assert instance.principal in section
    assert instance.attached_at is not None
    assert f'datetime="{instance.attached_at:%Y-%m-%dT%H:%M:%S}Z"' in section


def test_a_job_that_fails_often_does_not_hide_the_others(console: ConsoleSystem, client: httpx.Client) -> None:
    """One failure of a job stays listed on the page of jobs behind hundreds of another one."""
    api = console.system.api
    api.wait(api.trigger("quiet").run_id)
    api.trigger_many([TriggerOrder(job_id="loud") for _ in range(150)])
    eventually(lambda: len(list(api.list_runs(job_id="loud", states=["FAILED"]))) == 150, seconds=120)
    needs = client.get("/").text.partition('id="needs"')[2].partition("</section>")[0]
    assert '<a class="name" href="/runs/run_' in needs
    assert re.findall(r">(quiet|loud)</a>", needs) == ["loud", "quiet"]
    assert "(and at least 59 times before)" in text_of(client.get("/"))
