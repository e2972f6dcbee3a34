"""Forms without scripts, on a real kernel and host: run, replay, cancel, pause, many at once."""

from __future__ import annotations

import html
import re

import httpx
from console_system import FORMS_PROJECT, ConsoleSystem
from page_forms import PageForm, form_of, text_of

from nomaflow.client import TriggerOrder
from nomaflow.client.values import RunView
from real_system import eventually

PROJECT = FORMS_PROJECT
RUN = "/jobs/report/run"


def _form(client: httpx.Client, address: str) -> PageForm:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    return form_of(answer, address.partition("?")[0])


def _ended(console: ConsoleSystem, answer: httpx.Response) -> RunView:
    assert answer.status_code == 303, text_of(answer)
    return console.system.api.wait(answer.headers["location"].removeprefix("/runs/"))


def _runs(console: ConsoleSystem, job: str = "report") -> list[RunView]:
    return list(console.system.api.list_runs(job_id=job))


def test_a_form_that_nobody_touched_runs_the_job_as_its_file_says(console: ConsoleSystem, client: httpx.Client) -> None:
    """An untouched form sends no value: no default, no false of an untouched box."""
    run = _ended(console, _form(client, RUN).send(client, do="run"))
    assert run.state == "SUCCEEDED"
    asked = console.system.api.get_run(run.run_id).request
    assert asked is not None
    assert (asked.params, asked.step_values, asked.step_switches) == ({}, (), ())
    assert run.steps[1].last.extras == {"batch": 100, "since": "None", "dry_run": False}
    assert run.trigger.kind == "manual"
    assert "(for " in run.trigger.by, "the session's name is told"


def test_only_what_was_touched_is_sent(console: ConsoleSystem, client: httpx.Client) -> None:
    """With its type from the signature."""
    form = _form(client, RUN).fill(p__tenant="12", s__score__dry_run="true", s__score__since="2026-11-01")
    run = _ended(console, form.send(client, do="run"))
    asked = console.system.api.get_run(run.run_id).request
    assert asked is not None
    assert asked.params == {"tenant": 12}
    assert {each.step: sorted(each.op_kwargs) for each in asked.step_values} == {"score": ["dry_run", "since"]}
    assert run.steps[0].last.extras["tenant"] == 12
    assert run.steps[1].last.extras == {"batch": 100, "since": "2026-11-01", "dry_run": True}


def test_a_step_that_is_switched_off_does_not_run(console: ConsoleSystem, client: httpx.Client) -> None:
    """The box beside its name."""
    run = _ended(console, _form(client, RUN).fill(on__score=None).send(client, do="run"))
    assert run.steps[1].last.state == "SKIPPED"


def test_a_wrong_type_is_told_beside_its_field_and_every_value_is_kept(
    console: ConsoleSystem, client: httpx.Client
) -> None:
    """The page comes back with each value and a message beside the field, and no run starts."""
    before = len(_runs(console))
    answer = _form(client, RUN).fill(p__tenant="twelve", s__score__batch="7").send(client, do="run")
    assert answer.status_code == 400
    page = text_of(answer)
    assert "'twelve' is not a whole number, such as 10" in page
    assert "1 value is wrong: tenant score.batch 100 → 7" in page
    assert "Nothing." not in page
    assert "nomaflow run" not in page, "a command would leave the wrong value out"
    again = form_of(answer, RUN)
    assert (again.value("p.tenant"), again.value("s.score.batch")) == ("twelve", "7")
    assert len(_runs(console)) == before
    run = _ended(console, again.fill(p__tenant="12").send(client, do="run"))
    assert run.steps[1].last.extras["batch"] == 7


def test_hidden_fields_of_ones_own_making_are_passed_over(console: ConsoleSystem, client: httpx.Client) -> None:
    """A17: JSON that is nested 50,000 levels deep, or of another form, where the page keeps what it showed."""
    for hidden in ("[" * 50_000, "5", "null", '{"op_kwargs": 5}'):
        run = _ended(console, _form(client, RUN).fill(base=hidden, seen=hidden).send(client, do="run"))
        assert run.state == "SUCCEEDED"


def test_what_the_host_refuses_is_told_beside_its_field(console: ConsoleSystem, client: httpx.Client) -> None:
    """A value that the form let through as JSON, and the callable's annotation does not take."""
    json = '{"op_kwargs": {"score": {"batch": ["a"]}}}'
    answer = _form(client, RUN).fill(json=json, p__tenant="twelve").send(client, do="run")
    assert answer.status_code == 400
    assert "2 values are wrong: score.batch, tenant" in text_of(answer), "what the form cannot read is told with it"
    assert answer.text.count('aria-invalid="true"') == 2
    assert form_of(answer, RUN).value("s.score.batch") == '["a"]'


def test_fields_and_json_are_the_same_values(console: ConsoleSystem, client: httpx.Client) -> None:
    """An edit of either is in both once the server has seen it."""
    answer = _form(client, RUN).fill(p__tenant="12").send(client, do="check")
    form = form_of(answer, RUN)
    assert '"tenant": 12' in str(form.value("json"))
    answer = form.fill(json='{"params": {"tenant": 13}, "op_kwargs": {"score": {"batch": 5}}}').send(client, do="check")
    form = form_of(answer, RUN)
    assert (form.value("p.tenant"), form.value("s.score.batch")) == ("13", "5")
    run = _ended(console, form.fill(s__score__batch="").send(client, do="run"))
    assert run.steps[0].last.extras["tenant"] == 13
    assert run.steps[1].last.extras["batch"] == 100


def test_the_difference_is_shown_before_anything_is_sent(console: ConsoleSystem, client: httpx.Client) -> None:
    """With the value of the job, the values that each step gets, and the command line."""
    before = len(_runs(console))
    answer = _form(client, RUN).fill(p__tenant="12", s__score__since="2026-11-01").send(client, do="check")
    page = text_of(answer)
    assert "tenant 10 → 12 score.since null → 2026-11-01" in page
    assert "nomaflow run report --param tenant=12" in page
    assert "checked" in page
    assert '"batch": 100' in page
    assert len(_runs(console)) == before


def test_an_address_fills_the_form(console: ConsoleSystem, client: httpx.Client) -> None:
    """It can be kept, and sent to somebody."""
    form = _form(client, f"{RUN}?preset=full&p.tenant=7&s.score.batch=3&on.score=on&log_level=debug")
    assert (form.value("p.tenant"), form.value("s.score.batch"), form.value("preset")) == ("7", "3", "full")
    run = _ended(console, form.send(client, do="run"))
    assert (run.preset, run.log_level, run.steps[0].last.extras["tenant"]) == ("full", "DEBUG", 7)


def test_what_an_address_asks_for_and_the_job_has_not_is_told_and_kept(
    console: ConsoleSystem, client: httpx.Client
) -> None:
    """An unknown preset starts no run, an unknown param has a field, and other names are listed."""
    before = len(_runs(console))
    answer = client.get(f"{RUN}?preset=zzz&p.tenannt=12&s.score.fail=maybe&on.score=no&tenant=3&overlap=yes")
    page = text_of(answer)
    assert "job 'report' has no preset 'zzz'; it has 'full'" in page
    assert "on.score is 'no' in the address, expected on or off" in page
    assert "overlap is 'yes' in the address, expected allow" in page
    assert "the address gives tenant, which this form does not take" in page
    assert "tenannt not given → 12" in page
    form = form_of(answer, RUN)
    assert (form.value("preset"), form.value("p.tenannt"), form.value("s.score.fail")) == ("zzz", "12", "maybe")
    refused = form.fill(s__score__fail="").send(client, do="run")
    assert (refused.status_code, len(_runs(console))) == (400, before)
    assert form_of(refused, RUN).value("preset") == "zzz"
    for address, told in (
        ("/jobs/walk/run?preset=zzz", "job 'walk' has no preset 'zzz'; it has none"),
        (f"{RUN}?log_level=loud", "log_level is 'LOUD', expected one of DEBUG"),
    ):
        assert told in text_of(client.get(address))


def test_warnings_are_told_before_the_start_after_a_refusal_too(console: ConsoleSystem, client: httpx.Client) -> None:
    """Whoever has read them beside the button goes straight to the run."""
    refused = _form(client, f"{RUN}?s.score.zzz=1").fill(p__tenant="twelve").send(client, do="run")
    assert "does not name 'zzz', so the key is ignored" in text_of(refused)
    run = _ended(console, form_of(refused, RUN).fill(p__tenant="12").send(client, do="run"))
    assert run.state == "SUCCEEDED"


def test_a_double_click_is_one_run(console: ConsoleSystem, client: httpx.Client) -> None:
    """Both answers lead to it."""
    form = _form(client, RUN)
    before = len(_runs(console))
    first, second = form.send(client, do="run"), form.send(client, do="run")
    assert second.headers["location"] == f"{first.headers['location']}?same=1"
    assert "this is the same run, not a second one" in text_of(client.get(second.headers["location"]))
    assert len(_runs(console)) == before + 1


def test_the_same_form_with_other_values_starts_no_run_behind_ones_back(
    console: ConsoleSystem, client: httpx.Client
) -> None:
    """After Back: the kernel refuses, and the form is new and keeps its values."""
    form = _form(client, RUN)
    _ended(console, form.send(client, do="run"))
    answer = form.fill(p__tenant="5").send(client, do="run")
    assert answer.status_code in (400, 409), text_of(answer)
    again = form_of(answer, RUN)
    assert again.value("p.tenant") == "5"
    assert _ended(console, again.send(client, do="run")).steps[0].last.extras["tenant"] == 5


def test_a_failed_run_is_replayed_from_its_failed_step_with_one_value_changed(
    console: ConsoleSystem, client: httpx.Client
) -> None:
    """Its values are in the form; the output of the step before is kept."""
    failed = _ended(console, _form(client, RUN).fill(p__tenant="12", s__score__fail="true").send(client, do="run"))
    assert failed.state == "FAILED"
    address = f"/runs/{failed.run_id}/replay"
    form = _form(client, address)
    assert (form.value("from"), form.value("p.tenant"), form.value("s.score.fail")) == ("failed", "12", "true")
    assert _form(client, f"{address}?from=score").value("from") == "failed"
    answer = form.fill(s__score__fail="false").send(client, do="check")
    assert "score.fail true → false" in text_of(answer)
    run = _ended(console, form.fill(s__score__fail="false").send(client, do="run"))
    assert (run.state, run.replay_of) == ("SUCCEEDED", failed.run_id)
    assert [step.last.reason.code if step.last.reason else "" for step in run.steps] == ["reused", ""]
    told = text_of(client.get(f"/runs/{run.run_id}"))
    assert told.count("kept, not run again") == 2
    assert f"the output was taken from run {failed.run_id}" in told
    asked = console.system.api.get_run(run.run_id).request
    assert asked is not None


def test_a_replay_from_the_start_does_everything_again(console: ConsoleSystem, client: httpx.Client) -> None:
    """The choice is in the form, and its address."""
    first = _ended(console, _form(client, RUN).send(client, do="run"))
    form = _form(client, f"/runs/{first.run_id}/replay")
    assert form.value("from") == ""
    run = _ended(console, form.send(client, do="run"))
    assert all(step.last.reason is None for step in run.steps)


def test_the_button_of_a_failed_run_leads_to_a_form_that_begins_at_the_failed_step(
    console: ConsoleSystem, client: httpx.Client
) -> None:
    """The choice is made where the address names the step, too."""
    order = TriggerOrder(job_id="report", op_kwargs={"score": {"fail": True}})
    failed = console.system.api.wait(console.system.api.trigger(order).run_id)
    [address] = re.findall(r'href="(/runs/\w+/replay\?from=score)"', client.get(f"/runs/{failed.run_id}").text)
    for page in (client.get(address).text, client.get(address.partition("?")[0]).text):
        assert re.findall(r'name="from" value="(\w*)" checked', page) == ["failed"]


def test_a_replay_that_nobody_touched_sends_nothing(console: ConsoleSystem, client: httpx.Client) -> None:
    """Its fields show what the run had; what they show is no wish of whoever replays it."""
    api = console.system.api
    first = api.wait(api.trigger(TriggerOrder(job_id="report", params={"tenant": 12})).run_id)
    again = _ended(console, _form(client, f"/runs/{first.run_id}/replay").send(client, do="run"))
    asked, was = api.get_run(again.run_id).request, api.get_run(first.run_id).request
    assert asked is not None
    assert was is not None
    assert (asked.params, asked.step_values, asked.step_switches) == (was.params, was.step_values, was.step_switches)


def test_a_value_of_a_replay_that_is_emptied_is_not_dropped_in_silence(
    console: ConsoleSystem, client: httpx.Client
) -> None:
    """An empty number cannot undo the one that the run had."""
    first = _ended(console, _form(client, RUN).fill(p__tenant="12").send(client, do="run"))
    answer = _form(client, f"/runs/{first.run_id}/replay").fill(p__tenant="").send(client, do="run")
    assert answer.status_code == 400
    page = text_of(answer)
    assert "the run had 12" in page
    assert "1 value is wrong: tenant" in page
    assert "Nothing." not in page
    assert "nomaflow replay" not in page


def test_a_run_is_canceled_with_a_reason_that_its_row_shows(console: ConsoleSystem, client: httpx.Client) -> None:
    """Asked once, in place; CANCELED when its code has stopped."""
    run_id = console.system.api.trigger("walk").run_id
    eventually(lambda: console.system.api.get_run(run_id).state == "RUNNING")
    action = f"/runs/{run_id}/cancel"
    page = eventually(lambda: page if f'action="{action}"' in (page := client.get("/")).text else None)
    form = form_of(page, action)
    answer = form.fill(why="wrong tenant").send(client)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert console.system.api.wait(run_id).state == "CANCELED"
    assert "wrong tenant" in text_of(client.get("/runs?job=walk"))
    late = client.get(f"/runs/{run_id}/cancel")
    assert "This run is over" in text_of(late)
    assert f'action="/runs/{run_id}/cancel"' not in late.text


def test_runs_are_compared_and_replayed_by_selection(console: ConsoleSystem, client: httpx.Client) -> None:
    """The question names each; the answer tells what became of each."""
    runs = [_ended(console, _form(client, RUN).fill(p__tenant=str(n)).send(client, do="run")) for n in (1, 2)]
    bulk = form_of(client.get("/runs"), "/runs/bulk")
    chosen = PageForm(
        action=bulk.action, method=bulk.method, fields=[*bulk.fields, *(("run", run.run_id) for run in runs)]
    )
    compared = client.get(chosen.send(client, do="compare").headers["location"])
    assert "tenant (differs) 1 2" in text_of(compared)
    question = chosen.send(client, do="replay")
    assert "Replay 2 runs?" in text_of(question)
    assert re.search(r"\$ echo( run_[0-9a-z]{26}){2} \| xargs -n 1 nomaflow replay ", text_of(question))
    assert text_of(question).count("begins at extract") == 2
    failed = _ended(console, _form(client, RUN).fill(s__score__fail="true").send(client, do="run"))
    begins = PageForm(action=bulk.action, method=bulk.method, fields=[*bulk.fields, ("run", failed.run_id)])
    assert "begins at score · score: " in text_of(begins.send(client, do="replay"))
    before = len(_runs(console))
    done = form_of(question, "/runs/bulk/do").send(client, do="replay")
    assert "2 runs are replayed" in text_of(done)
    assert len(_runs(console)) == before + 2
    listed = re.search(r'href="(/runs\?trigger=replay[^"]*)"', done.text)
    assert listed is not None
    new = client.get(html.unescape(listed[1]).replace("/runs?", "/runs.json?")).json()["runs"]
    assert {run["replay_of"] for run in new} == {run.run_id for run in runs}


def test_more_than_two_hundred_runs_are_canceled_only_after_their_number_was_typed(
    console: ConsoleSystem, client: httpx.Client
) -> None:
    """All that match, exactly those of the question."""
    api = console.system.api
    api.pause(job_id="walk", why="so that they wait")
    api.trigger_many([TriggerOrder(job_id="walk", overlap="allow") for _ in range(210)])
    bulk = form_of(client.get("/runs?job=walk"), "/runs/bulk")
    question = bulk.send(client, do="cancel-all")
    assert "Cancel 210 runs?" in text_of(question)
    assert re.search(r"\$ echo( run_[0-9a-z]{26}){210} \| xargs -n 1 nomaflow cancel", text_of(question))
    form = form_of(question, "/runs/bulk/do")
    refused = form.fill(count="21").send(client, do="cancel")
    assert refused.status_code == 409
    assert "type the number of runs, 210" in text_of(refused)
    assert sum(run.state == "QUEUED" for run in _runs(console, "walk")) == 210
    done = form_of(refused, "/runs/bulk/do").fill(count="210").send(client, do="cancel")
    assert "210 runs are asked to stop" in text_of(done)
    eventually(lambda: not any(run.state == "QUEUED" for run in _runs(console, "walk")))
    api.resume(job_id="walk")


def test_nothing_of_a_project_becomes_markup(console: ConsoleSystem, client: httpx.Client) -> None:
    """Descriptions, tags, params, docs and errors are text on every page, and marks of direction are visible."""
    failed = _ended(console, _form(client, RUN).fill(s__score__fail="true").send(client, do="run"))
    pages = [
        "/",
        "/runs",
        "/jobs/report",
        RUN,
        f"/runs/{failed.run_id}/replay",
        "/search?q=e",
        "/search?q=%3Cscript%3Enothing",
    ]
    for address in pages:
        answer = client.get(address)
        assert answer.status_code == 200, address
        for hostile in ("<script>alert", "<img src=x", "<b>tag", "<i>everything", "<b>a tenant", "<script>"):
            assert hostile not in answer.text.replace('<script src="', "").replace('<script type="module"', ""), address
        assert "\u202e" not in answer.text, address


def test_a_run_id_leads_straight_to_its_run(console: ConsoleSystem, client: httpx.Client) -> None:
    """The whole id, or its beginning; a part of a name leads to a list."""
    run = console.system.api.wait(console.system.api.trigger("report").run_id)
    answer = client.get("/search", params={"q": run.run_id}, follow_redirects=False)
    assert answer.headers["location"] == f"/runs/{run.run_id}"
    page = text_of(client.get("/search", params={"q": "desk"}))
    assert "desk:extract" in page
    near = text_of(client.get("/search", params={"q": "reprot"}))
    assert "Did you mean report" in near


def test_the_filters_of_runs_are_in_the_address(console: ConsoleSystem, client: httpx.Client) -> None:
    """Paging, leaving a job out, and no match with the way back."""
    console.system.api.wait(console.system.api.trigger("report").run_id)
    page = client.get("/runs?not=report&state=FAILED")
    assert "not: report" in text_of(page)
    assert "/jobs/report" not in page.text.partition('id="runs"')[2].partition("</section>")[0]
    assert "0 of" in text_of(client.get("/runs?job=broken"))
    assert "there is no state 'WRONG'" in text_of(client.get("/runs?state=wrong"))
    assert client.get("/runs?since=nonsense&page=x&older_than=y").status_code in (200, 400)


def test_a_disabled_job_is_told_with_its_fix_and_cannot_be_run(console: ConsoleSystem, client: httpx.Client) -> None:
    """On the first page, and where one would start it."""
    page = text_of(client.get("/"))
    assert "25 is out of range" in page
    form_page = client.get("/jobs/broken/run")
    assert "disabled by a problem" in text_of(form_page)
    job_page = client.get("/jobs/broken")
    assert "jobs.toml, job broken, schedule" in text_of(job_page)
    assert "Nothing is due until its problem is solved" in text_of(job_page)
    assert "no schedule" not in text_of(job_page)
    assert '"/jobs/broken/run"' not in job_page.text


def test_a_job_without_a_good_id_is_told_on_the_page_of_its_host(client: httpx.Client) -> None:
    """The kernel knows it by no id: its links lead to its host, and nothing is offered that would be refused."""
    page = client.get("/")
    assert page.status_code == 200
    assert "'not an id' is not a job id" in text_of(page)
    assert "/jobs/plugins" not in page.text
    led = client.get("/search", params={"q": "jobs.toml:jobs[0]"}, follow_redirects=True)
    assert led.url.path.startswith("/hosts/")
    assert f'href="{led.url.path}#problems"' in page.text
    assert "'not an id' is not a job id" in text_of(led)


def test_fires_that_did_not_run_are_rows_from_which_the_job_is_run(
    console: ConsoleSystem, client: httpx.Client
) -> None:
    """With how many, why, and a way to make up for them."""
    api = console.system.api
    api.pause(job_id="often", why="vendor freeze")
    eventually(lambda: any(run.state == "MISSED" for run in api.list_runs(job_id="often")))
    page = client.get("/runs?state=MISSED&job=often")
    assert "vendor freeze" in text_of(page)
    assert 'href="/jobs/often/run"' in page.text
    api.resume(job_id="often")
    assert _ended(console, _form(client, "/jobs/often/run?overlap=allow").send(client, do="run")).state == "SUCCEEDED"
    assert "missed" in text_of(client.get("/jobs/often"))
