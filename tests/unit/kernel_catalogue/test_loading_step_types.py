"""Steps that are no plain python: types that plugins contribute, and jobs that call jobs."""

from __future__ import annotations

import pytest
from job_texts import GOOD, load, load_one, the_problem

from nomaflow_project.jobs.definitions import StepDefinition
from nomaflow_project.jobs.step_types import StepType
from nomaflow_project.reading.environment import STEP_KEYS, resolve_environment
from nomaflow_project.reading.validation import keys_of

HTTP = StepType(
    name="http",
    callable="plug.http:call",
    schema={
        "type": "object",
        "required": ["url"],
        "additionalProperties": False,
        "properties": {
            "url": {"type": "string"},
            "method": {"enum": ["GET", "POST"]},
            "tries": {"type": "integer"},
        },
    },
)


def test_a_contributed_type_becomes_a_call_with_its_keys() -> None:
    """The type is kept, its callable is called with the keys of the step."""
    job = load_one(
        '[[jobs]]\nid = "x"\nsteps = [{ type = "http", url = "u", timeout_seconds = 5 }]\n', step_types=[HTTP]
    )
    assert job.valid
    assert job.definition is not None
    step = job.definition.steps[0]
    assert (step.type, step.callable, step.op_kwargs, step.name) == ("http", "plug.http:call", {"url": "u"}, "http")


@pytest.mark.parametrize(
    ("keys", "code", "path"),
    [
        ("", "missing_key", "url"),
        ('url = "u", mehtod = "GET"', "unknown_key", "mehtod"),
        ("url = 5", "wrong_type", "url"),
        ('url = "u", method = "PUT"', "bad_choice", "method"),
        ('url = "u", tries = true', "wrong_type", "tries"),
    ],
)
def test_the_keys_of_a_contributed_type_are_checked(keys: str, code: str, path: str) -> None:
    """The schema that the plugin gives holds for the step."""
    step = 'type = "http"' + (f", {keys}" if keys else "")
    problem = the_problem(load_one(f'[[jobs]]\nid = "x"\nsteps = [{{ {step} }}]\n', step_types=[HTTP]))
    assert (problem.code, problem.path) == (code, f"jobs[0].steps[0].{path}")


def test_a_key_of_a_type_without_keys_is_to_be_removed() -> None:
    """No other name would do either."""
    bare = StepType(name="http", callable="plug.http:call", schema={"additionalProperties": False})
    text = '[[jobs]]\nid = "x"\nsteps = [{ type = "http", url = "u" }]\n'
    assert the_problem(load_one(text, step_types=[bare])).fix == "remove it"


FIELDS = {"properties": {"source": {}, "own": {}}}
CLOSED = StepType(name="copy", callable="plug.copy:copy", schema=FIELDS, checked=True)
_CALL = '{ type = "call_job", target_job_id = "good" }'
_PYTHON = '{ callable = "m:f", op_kwargs = { a = 1 } }'


@pytest.mark.parametrize(
    ("defaults", "taken"),
    [
        ("source = 1, timeout_seconds = 5", [({"source": 1, "own": 1}, 5.0), ({"a": 1}, 5.0), ({}, 5.0)]),
        (
            "op_kwargs = { a = 2, b = 3, source = 4 }",
            [({"own": 1, "source": 4}, None), ({"a": 1, "b": 3, "source": 4}, None), ({}, None)],
        ),
    ],
)
def test_step_defaults_go_to_the_steps_that_take_them(defaults: str, taken: list[object]) -> None:
    """A type with a model takes its fields, a python step its own keys, a call_job step neither."""
    steps = f'[{{ type = "copy", own = 1 }}, {_PYTHON}, {_CALL}]'
    job = load_one(f'[[jobs]]\nid = "x"\nstep_defaults = {{ {defaults} }}\nsteps = {steps}\n', step_types=[CLOSED])
    assert job.problems == ()
    assert job.definition is not None
    assert [(step.op_kwargs, step.timeout_seconds) for step in job.definition.steps] == taken


def test_resources_by_default_are_of_the_steps_that_a_host_runs() -> None:
    """A call_job step runs in the kernel and gets none."""
    steps = f'[{{ type = "copy", source = 1 }}, {_PYTHON}, {_CALL}]'
    text = f'[[jobs]]\nid = "x"\nstep_defaults = {{ resources = {{ gpus = 1 }} }}\nsteps = {steps}\n'
    job = load_one(text, step_types=[CLOSED])
    assert job.definition is not None
    assert [step.resources and step.resources.gpus for step in job.definition.steps] == [1, 1, None]


@pytest.mark.parametrize(
    ("key", "steps", "fix"),
    [
        ("sorce", f'[{{ type = "copy", source = 1 }}, {_PYTHON}]', "did you mean 'source'?"),
        ("xyz", f"[{_PYTHON}, {_CALL}]", "the known keys are "),
    ],
)
def test_a_default_that_no_step_takes_is_an_error(key: str, steps: str, fix: str) -> None:
    """The error is reported once, at step_defaults, with the near match among the keys of the job's types."""
    text = f'[[jobs]]\nid = "x"\nstep_defaults = {{ {key} = 1 }}\nsteps = {steps}\n'
    problem = the_problem(load_one(text, step_types=[CLOSED]))
    assert (problem.code, problem.path) == ("unknown_key", f"jobs[0].step_defaults.{key}")
    assert fix in problem.fix


def test_defaults_of_a_job_with_an_unknown_type_are_not_judged() -> None:
    """The unknown type alone is reported, since its keys are unknown."""
    steps = f'[{{ type = "copi" }}, {_PYTHON}]'
    text = f'[[jobs]]\nid = "x"\nstep_defaults = {{ sorce = 1 }}\nsteps = {steps}\n'
    assert the_problem(load_one(text, step_types=[CLOSED])).code == "unknown_step_type"


def test_an_unknown_type_names_the_known_ones() -> None:
    """A misspelt contributed type is answered with the near match."""
    problem = the_problem(load_one('[[jobs]]\nid = "x"\nsteps = [{ type = "htp" }]\n', step_types=[HTTP]))
    assert problem.message == "unknown step type 'htp', expected one of call_job, http, python"
    assert "did you mean 'http'?" in problem.fix


def _calls(job_id: str, *targets: str, enabled: bool = True) -> str:
    switch = "" if enabled else ", enabled = false"
    steps = ", ".join(f'{{ type = "call_job", target_job_id = "{each}"{switch} }}' for each in targets)
    return f'[[jobs]]\nid = "{job_id}"\nsteps = [{steps}]\n'


def test_jobs_that_call_each_other_in_a_circle_are_disabled_with_the_chain() -> None:
    """Jobs in the circle are disabled, each with its own chain; one that only calls into it is not."""
    loaded = load(_calls("a", "b") + _calls("b", "good", "c") + _calls("c", "a") + _calls("outside", "a") + GOOD)
    jobs = {job.job_id: job for job in loaded.jobs}
    assert the_problem(jobs["a"]).message == "the job calls itself: a → b → c → a"
    assert the_problem(jobs["c"]).message == "the job calls itself: c → a → b → c"
    assert jobs["outside"].valid
    assert jobs["good"].valid


def test_a_job_that_calls_itself_is_disabled() -> None:
    """The shortest circle there is."""
    assert the_problem(load_one(_calls("a", "a"))).message == "the job calls itself: a → a"


def test_a_circle_through_a_disabled_step_is_none() -> None:
    """A circle through a disabled step closes only if a run switches the step on; the run then detects it."""
    assert load_one(_calls("a", "a", enabled=False)).valid


def test_a_call_of_an_unknown_job_is_a_warning() -> None:
    """Another host may bring it; a misspelt id gets the near match."""
    job = load_one(_calls("a", "goood"))
    assert job.valid
    assert (the_problem(job).severity, the_problem(job).code) == ("warning", "unknown_target")
    assert the_problem(job).fix == "did you mean 'good'?"
    assert the_problem(load_one(_calls("dinners", "dinner"))).fix == "the known jobs are good"  # no call of itself


def test_the_place_of_a_job_without_a_good_id_is_not_offered_as_a_target() -> None:
    """No step could call it by that."""
    nameless = GOOD.replace('"good"', '"not an id"', 1)
    caller = next(each for each in load(_calls("a", "goood") + GOOD + nameless).jobs if each.job_id == "a")
    assert the_problem(caller).fix == "did you mean 'good'?"
    caller = next(each for each in load(_calls("a", "dinner") + GOOD + nameless).jobs if each.job_id == "a")
    assert the_problem(caller).fix == "the known jobs are good"


def test_a_call_of_a_job_with_errors_is_no_call_of_an_unknown_job() -> None:
    """The error of the called job is told; the files have that job."""
    broken = GOOD.replace("[[jobs]]", "[[jobs]]\ntimout_seconds = 5", 1)
    caller = next(each for each in load(_calls("a", "good") + broken).jobs if each.job_id == "a")
    assert caller.problems == ()


def test_a_long_chain_of_calls_is_checked_quickly() -> None:
    """More jobs than Python calls functions deep, each calling the next, hold no circle."""
    text = "".join(_calls(f"j{number}", f"j{number + 1}") for number in range(1500)) + _calls("j1500", "good") + GOOD
    assert all(job.valid for job in load(text).jobs)


def test_keys_of_a_step_that_are_ours() -> None:
    """All others are fields of contributed types, whose references the host resolves at each attempt."""
    assert set(keys_of(StepDefinition)) == STEP_KEYS


def test_fields_of_contributed_types_keep_their_references() -> None:
    """References in the step's own keys are resolved, also in step_defaults; a preset's switches are no steps."""
    step = {"type": "${A}", "url": "${A}", "retry": {"attempts": "${A}"}, "op_kwargs": {"a": "${A}"}}
    preset = {"name": "${A}", "steps": {"x": "${A}"}}
    tree = {"jobs": [{"id": "${A}", "steps": [step], "step_defaults": step, "presets": [preset]}]}
    resolved = {**step, "type": "v", "retry": {"attempts": "v"}}
    expected = {
        "id": "v",
        "steps": [resolved],
        "step_defaults": resolved,
        "presets": [{"name": "v", "steps": {"x": "v"}}],
    }
    assert resolve_environment(tree, {"A": "v"}) == {"jobs": [expected]}
    unset = '[[jobs]]\nid = "x"\nstep_defaults = { url = "${A}" }\nsteps = [{ type = "http", method = "${B}" }]\n'
    assert load_one(unset, step_types=[HTTP]).problems == ()
