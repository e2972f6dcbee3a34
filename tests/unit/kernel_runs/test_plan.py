"""The plan of a run: the layers of its values, as text that every part can read."""

from __future__ import annotations

import json
import tracemalloc

from msgspec.structs import replace

from nomaflow_kernel.engine.run_plan import plan_run
from nomaflow_kernel.history.records import RunRequest
from nomaflow_project.jobs.definitions import JobDefinition, PresetDefinition, StepDefinition


def test_values_that_are_no_utf8_reach_the_host() -> None:
    """A lone surrogate, as in an argument that is not UTF-8, reaches the host as JSON's escape."""
    job = JobDefinition(id="a", host="demo", steps=(StepDefinition(name="one", callable="m:one"),))
    values = {"name": "\udcff東"}
    plan = plan_run(job, RunRequest(params=values, op_kwargs={"one": values}))
    for text in (plan.params_json, plan.steps[0].kwargs_json):
        assert text.encode().isascii()
        assert json.loads(text) == values


def test_a_plan_has_no_copy_of_the_params_for_each_step() -> None:
    """Else one trigger of 250 KB for a job of 1,000 steps would keep 250 MB in the kernel, and 20,000 keys a GB."""
    steps = tuple(StepDefinition(name=f"s{n}", callable="m:one") for n in range(1000))
    request = RunRequest(params={f"key{n}": "x" * 200 for n in range(1000)})
    tracemalloc.start()
    try:
        plan = plan_run(JobDefinition(id="a", host="demo", steps=steps), request)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 4 * 1024 * 1024
    assert plan.steps[999].values[0] == request.params


def _literal(request: RunRequest, preset: str = "p") -> tuple[set[str], set[str]]:
    """Return the literal keys of the step's values and of the params, of a job with a value in every layer."""
    job = JobDefinition(
        id="a",
        host="demo",
        params={"job": "${X}", "again": "${X}"},
        presets=(PresetDefinition(name="p", params={"preset": "${X}"}, op_kwargs={"one": {"of_preset": "${X}"}}),),
        steps=(StepDefinition(name="one", callable="m:one", op_kwargs={"own": "${X}"}),),
    )
    plan = plan_run(job, replace(request, preset=preset))
    return set(plan.steps[0].values[1]), set(plan.literal_params)


def test_a_value_is_literal_if_its_last_layer_is_a_clients() -> None:
    """V6: what a trigger or a replay sends is literal; the values of the job's file and its presets are not."""
    assert _literal(RunRequest()) == (set(), set())
    sent = RunRequest(params={"again": "${X}", "preset": "${X}", "new": 1}, op_kwargs={"one": {"own": "${X}"}})
    assert _literal(sent) == ({"again", "preset", "new", "own"}, {"again", "preset", "new"})
    assert _literal(RunRequest(op_kwargs={"one": {"of_preset": "${X}"}})) == ({"of_preset"}, set())


def test_what_a_parent_gives_is_of_a_file_only_where_it_says_so() -> None:
    """Values of a call_job step are literal, but those of files of the host that runs the child."""
    given = RunRequest(inherited={"a": 1, "b": 1, "job": 1}, params={"b": 2, "c": 2, "again": 2})
    assert _literal(given, "") == ({"a", "b", "c", "job", "again"},) * 2
    of_files = replace(given, inherited_of_files=("a", "b", "job"), params_of_files=("c",))
    assert _literal(of_files, "") == ({"b", "again"},) * 2
    assert RunRequest.from_json(json.loads(json.dumps(of_files.to_json()))) == replace(
        of_files, inherited_of_files=["a", "b", "job"], params_of_files=["c"]
    )


def test_all_values_of_a_job_that_another_host_brought_are_literal() -> None:
    """Its file is not the file of the host that runs it."""
    keys = {"job", "again", "preset", "of_preset", "own"}
    assert _literal(RunRequest(brought_by="other")) == (keys, {"job", "again", "preset"})
