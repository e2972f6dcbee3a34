"""Jobs against what a host offers: callables, op_kwargs, params, before the first run."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from nomaflow_project.jobs.callables import check_keys, kind_of, misspelt_params, refuse_params
from nomaflow_project.jobs.load import load_manifest
from nomaflow_project.jobs.loaded import LoadedJob
from nomaflow_project.reading.files import encode_file


def _parameter(name: str, *, required: bool = True, annotation: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "keyword", "required": required, "annotation": annotation, "default": ""} | more


def _callable(*parameters: dict[str, Any], catch_all: str = "", **more: Any) -> dict[str, Any]:
    base = {"kind": "async", "doc": "", "file": "a.py", "line": 1, "error": None}
    return base | {"parameters": list(parameters), "catch_all": catch_all} | more


CALLABLES = {
    "app.clean:purge": _callable(
        _parameter("connectors"),
        _parameter("apps_id", annotation="int"),
        _parameter("max_age_days", required=False, annotation="int", default="30"),
        catch_all="kwargs",
    ),
    "app.clean:strict": _callable(_parameter("table", annotation="str"), _parameter("ctx"), kind="sync"),
    "app.clean:ignoring": _callable(
        _parameter("apps_id", annotation="int"), _parameter("min_rows", required=False, default="5"), catch_all="_"
    ),
    "app.clean:plain": _callable(),
    "app.clean:all": _callable(catch_all="_"),
    "app.clean:gone": _callable(error="app.clean has no function 'gone'"),
    "app.broken:run": _callable(error="ImportError: no module named 'nope'"),
}


def _load(text: str) -> list[LoadedJob]:
    manifest = {
        "manifest_version": 1,
        "host": "team",
        "callables": CALLABLES,
        "modules": {"app.clean": {"error": None}, "app.broken": {"error": "no module named 'nope'"}},
        "step_types": [
            {"name": "plain", "callable": "app.clean:plain", "schema": {}, "doc": ""},
            {"name": "near", "callable": "app.clean:purge", "schema": {"properties": {"max_age_day": {}}}, "doc": ""},
        ],
        "job_files": [{"path": "jobs.toml", "tree": encode_file(tomllib.loads(text)), "error": None}],
        "problems": [],
    }
    return list(load_manifest(manifest).jobs)


def _job(step: str, more: str = "") -> LoadedJob:
    return _load(f'[[jobs]]\nid = "x"\n{more}\n[[jobs.steps]]\n{step}\n')[0]


def test_a_step_that_fits_has_no_problem() -> None:
    """Injected parameters are given, op_kwargs and params are counted, ``**`` takes anything."""
    assert _job('callable = "app.clean:purge"\nop_kwargs = { apps_id = 1, else = 2 }').problems == ()
    assert _job('callable = "app.clean:strict"', 'params = { table = "t" }').problems == ()
    assert _job('type = "plain"').problems == ()


def test_a_declared_field_is_no_misspelling() -> None:
    """A field that the step's type declares may be near a parameter's name; another key may not."""
    assert _job('type = "near"\napps_id = 1\nmax_age_day = 2').problems == ()
    (problem,) = _job('type = "near"\napps_id = 1\nmax_age_dayz = 2').problems
    assert problem.code == "misspelt_op_kwarg"


@pytest.mark.parametrize(
    ("step", "code", "path", "says", "fix"),
    [
        (
            'callable = "app.clean:purg"',
            "unknown_callable",
            "callable",
            "no callable 'app.clean:purg'",
            "app.clean:purge",
        ),
        ('callable = "app.clean:gone"', "callable_error", "callable", "app.clean has no function 'gone'", ""),
        ('callable = "app.broken:run"', "callable_error", "callable", "no module named 'nope'", ""),
        ('callable = "app.broken:other"', "callable_error", "callable", "'app.broken:other' cannot be loaded", ""),
        (
            'callable = "app.clean:strict"\nop_kwargs = { table = "t", tabel = "t" }',
            "unknown_op_kwarg",
            "op_kwargs.tabel",
            "strict(table: str, ctx) takes no 'tabel'",
            "did you mean 'table'?",
        ),
        ('type = "plain"\nextra = 1', "unknown_op_kwarg", "op_kwargs.extra", "plain() takes no 'extra'", ""),
    ],
)
def test_a_step_that_cannot_work_disables_its_job(step: str, code: str, path: str, says: str, fix: str) -> None:
    """The problem names the callable, its signature and the near match."""
    job = _job(step)
    assert not job.valid
    problem = job.problems[0]
    assert (problem.code, problem.path) == (code, f"jobs[0].steps[0].{path}")
    assert says in problem.message
    assert fix in problem.fix


def test_a_missing_parameter_disables_a_job_that_fires_by_itself() -> None:
    """A schedule would run into it; the signature is shown."""
    job = _job('callable = "app.clean:purge"', 'schedule = "@daily"')
    assert not job.valid
    assert job.problems[0].code == "missing_op_kwarg"
    assert job.problems[0].message == (
        "purge(connectors, apps_id: int, max_age_days: int = 30, **kwargs) needs 'apps_id' and nothing gives it when "
        "the job's schedule fires"
    )


def test_a_missing_parameter_of_a_job_without_schedule_is_a_warning() -> None:
    """A person can give it with ``run --param``."""
    job = _job('callable = "app.clean:purge"')
    assert job.valid
    assert (job.problems[0].severity, job.problems[0].code) == ("warning", "missing_op_kwarg")
    assert "--param apps_id=" in job.problems[0].fix


def test_a_preset_can_give_what_its_schedule_needs() -> None:
    """A missing parameter is an error only for a preset that fires and lacks it."""
    presets = 'presets = [{ name = "a", schedule = "@daily", params = { apps_id = 1 } }%s]'
    assert _job('callable = "app.clean:purge"', presets % "").valid
    lacking = _job('callable = "app.clean:purge"', presets % ', { name = "b", schedule = "@daily" }')
    assert not lacking.valid
    assert "the preset 'b'" in lacking.problems[0].message
    off = ', { name = "b", schedule = "@daily", steps = { purge = false } }'
    assert _job('callable = "app.clean:purge"', presets % off).valid


def test_op_kwargs_of_a_preset_are_checked_too() -> None:
    """A preset's op_kwargs are checked by the rules of the step's own."""
    job = _job(
        'callable = "app.clean:strict"\nop_kwargs = { table = "t" }',
        'presets = [{ name = "a", op_kwargs = { strict = { tabel = "u" } } }]',
    )
    assert [problem.path for problem in job.problems] == ["jobs[0].presets[0].op_kwargs.strict.tabel"]


@pytest.mark.parametrize(
    ("kwargs", "more", "problems"),
    [
        ("apps_id = 1, min_rows = 2", "", []),
        ("apps_id = 1, min_row = 2", "", [("error", "misspelt_op_kwarg", "did you mean 'min_rows'?")]),
        ("apps_di = 1", "", [("error", "misspelt_op_kwarg", "did you mean 'apps_id'?")]),
        ("apps_id = 1, min_row = 2", "params = { min_rows = 3 }", [("warning", "ignored_op_kwarg", "min_rows")]),
        ("apps_id = 1, more = 2", "", [("warning", "ignored_op_kwarg", "apps_id, min_rows")]),
        ("apps_id = 1, ctx = 2", "", []),
        (
            "my_apps_id = 1",
            "",
            [
                ("warning", "ignored_op_kwarg", "apps_id"),
                ("warning", "missing_op_kwarg", "rename 'my_apps_id' to 'apps_id'"),
            ],
        ),
        (
            "apps_id = 1",
            'presets = [{ name = "a", op_kwargs = { ignoring = { min_row = 1 } } }]',
            [("error", "misspelt_op_kwarg", "did you mean 'min_rows'?")],
        ),
    ],
)
def test_keys_that_a_catch_all_swallows(kwargs: str, more: str, problems: list[tuple[str, str, str]]) -> None:
    """A misspelt key is an error, one that a ``**_`` ignores a warning, and a missing parameter names the key."""
    found = _job(f'callable = "app.clean:ignoring"\nop_kwargs = {{ {kwargs} }}', more).problems
    assert [(each.severity, each.code) for each in found] == [(severity, code) for severity, code, _ in problems]
    assert all(fix in each.fix for each, (_, _, fix) in zip(found, problems, strict=True))


@pytest.mark.parametrize(("name", "code"), [("plain", "unknown_op_kwarg"), ("all", "ignored_op_kwarg")])
def test_a_key_for_a_function_without_parameters_has_a_way_out(name: str, code: str) -> None:
    """There is no name to propose."""
    (problem,) = _job(f'callable = "app.clean:{name}"\nop_kwargs = {{ days = 1 }}').problems
    assert (problem.code, problem.fix) == (code, "remove the key, or add a parameter of that name to the function")


def test_run_keys_that_a_catch_all_swallows() -> None:
    """A misspelt key is refused and an ignored one is a warning, as at trigger; a ``**`` of another name reads them."""
    manifest = {"callables": CALLABLES}
    shown = "ignoring(apps_id: int, min_rows = 5, **_)"
    refusal = f"{shown} does not name 'min_row', and nothing gives 'min_rows'; did you mean 'min_rows'?"
    assert check_keys("app.clean:ignoring", manifest, ["min_row"], {"min_row"}) == (refusal, [])
    warning = f"{shown} does not name 'min_row', so the key is ignored"
    assert check_keys("app.clean:ignoring", manifest, ["min_row"], {"min_row", "min_rows"}) == (None, [warning])
    assert check_keys("app.clean:purge", manifest, ["else"], {"else"}) == (None, [])
    assert check_keys("app.clean:purge", {}, ["else"], {"else"}) == (None, [])


def test_what_is_wrong_with_a_disabled_step_is_a_warning() -> None:
    """A mistake in a disabled step harms nothing until a run switches the step on."""
    job = _job('callable = "app.clean:gone"\nenabled = false')
    assert job.valid
    assert job.problems[0].severity == "warning"


def test_a_param_that_no_step_takes_is_a_warning() -> None:
    """A param that no step takes is a warning with the near match, unless a step takes any."""
    job = _job('callable = "app.clean:strict"\nop_kwargs = { table = "t" }', "params = { tabel = 1 }")
    assert job.valid
    assert (job.problems[0].code, job.problems[0].path) == ("unused_param", "jobs[0].params.tabel")
    assert _job('callable = "app.clean:purge"\nop_kwargs = { apps_id = 1 }', "params = { whatever = 1 }").problems == ()


def test_a_misspelt_secret_param_is_a_warning() -> None:
    """The param that was meant would be stored and shown in the clear."""
    strict = _job('callable = "app.clean:strict"\nop_kwargs = { table = "t" }', 'secret_params = ["tabel"]')
    assert (strict.problems[0].code, strict.problems[0].path) == ("unused_param", "jobs[0].secret_params[0]")
    assert strict.problems[0].fix == "did you mean 'table'?"
    step = 'callable = "app.clean:purge"\nop_kwargs = { apps_id = 1 }'
    lenient = _job(step, 'secret_params = ["max_age_day"]')
    assert [(each.code, each.fix) for each in lenient.problems] == [("unused_param", "did you mean 'max_age_days'?")]
    assert _job(step, 'secret_params = ["password", "max_age_days"]').problems == ()


def test_jobs_for_another_host_are_not_checked_against_this_one() -> None:
    """A job for another host is skipped, since its callables are not in this manifest."""
    assert _job('callable = "elsewhere:run"', 'host = "other"').problems == ()


def test_one_broken_callable_leaves_the_other_jobs_alone() -> None:
    """The job that names it is disabled, its neighbour is not."""
    jobs = _load(
        '[[jobs]]\nid = "a"\nsteps = [{ callable = "app.broken:run" }]\n'
        '[[jobs]]\nid = "b"\nsteps = [{ callable = "app.clean:plain" }]\n'
    )
    assert [job.valid for job in jobs] == [False, True]


def test_run_params_that_no_enabled_step_takes_are_refused() -> None:
    """Run params are checked, as at trigger, only against the callables of the enabled steps."""
    job = _job('callable = "app.clean:strict"\nop_kwargs = { table = "t" }')
    assert job.definition is not None
    manifest = {"callables": CALLABLES}
    assert refuse_params(job.definition, manifest, ["table"], ["strict"]) is None
    refused = refuse_params(job.definition, manifest, ["tabel"], ["strict"])
    assert refused == "no enabled step takes the param 'tabel'; did you mean 'table'?"
    refused = refuse_params(job.definition, manifest, ["table"], [])
    assert refused == "no enabled step takes the param 'table'; leave it out"  # no other name would do either
    assert refuse_params(job.definition, {}, ["tabel"], ["strict"]) is None


def test_a_misspelt_run_param_that_a_catch_all_swallows_is_warned_of() -> None:
    """It names the parameter, or the job's param, that is meant and not given; other params are for ctx.params."""
    job = _job('callable = "app.clean:ignoring"', 'params = { region = "eu" }')
    assert job.definition is not None
    manifest = {"callables": CALLABLES}

    def warned(*params: str) -> list[str]:
        assert job.definition is not None
        return misspelt_params(job.definition, manifest, params, ["ignoring"])

    assert warned("min_row") == ["nothing names the param 'min_row'; did you mean 'min_rows'?"]
    assert warned("regoin") == ["nothing names the param 'regoin'; did you mean 'region'?"]
    assert warned("min_row", "min_rows") == []
    assert warned("for_ctx", "min_rows", "region") == []
    assert misspelt_params(job.definition, manifest, ["min_row"], []) == []


def test_kinds_are_read_from_the_manifest() -> None:
    """Unknown ones count as asynchronous."""
    manifest = {"callables": CALLABLES}
    assert kind_of(manifest, "app.clean:strict") == "sync"
    assert kind_of(manifest, "app.clean:purge") == kind_of(manifest, "no.such:thing") == "async"


def test_a_problem_that_host_and_kernel_both_found_is_told_once() -> None:
    """An unset variable is with its job, and not with the files as well."""
    told = {"severity": "error", "code": "unset_variable", "file": "jobs.toml", "path": "jobs[0].timezone"}
    told["job_id"] = "x"
    other = {"severity": "error", "code": "bad_toml", "file": "connectors.toml", "path": ""}
    tree = {"jobs": [{"id": "x", "timezone": "${NO}", "steps": [{"callable": "app.clean:plain"}]}]}
    manifest = {
        "host": "team",
        "callables": CALLABLES,
        "job_files": [{"path": "jobs.toml", "tree": tree, "error": None}],
        "problems": [told, other],
    }
    load = load_manifest(manifest)
    assert [problem.code for problem in load.problems] == ["bad_toml"]
    assert [problem.code for problem in load.jobs[0].problems] == ["unset_variable"]


def test_injections_that_plugins_contribute_count_as_given() -> None:
    """The manifest names them."""
    tree = {"jobs": [{"id": "x", "schedule": "@daily", "steps": [{"callable": "a:b"}]}]}
    manifest: dict[str, Any] = {
        "host": "team",
        "callables": {"a:b": _callable(_parameter("mailer"))},
        "job_files": [{"path": "jobs.toml", "tree": tree, "error": None}],
    }
    assert not load_manifest(manifest).jobs[0].valid
    assert load_manifest(manifest | {"injections": ["mailer"]}).jobs[0].valid


def test_a_problem_that_names_a_job_is_that_jobs() -> None:
    """A host's problem with one job disables that job and no other; a warning disables nothing."""
    tree = {"jobs": [{"id": name, "steps": [{"callable": "app.clean:plain"}]} for name in ("a", "b", "c")]}
    told = {"code": "value_invalid", "file": "jobs.toml", "message": "no int"}
    manifest = {
        "host": "team",
        "callables": CALLABLES,
        "job_files": [{"path": "jobs.toml", "tree": tree, "error": None}],
        "problems": [
            told | {"severity": "error", "path": "jobs[0].params.n", "job_id": "a"},
            told | {"severity": "warning", "path": "jobs[1].params.n", "job_id": "b"},
            told | {"severity": "error", "path": "", "job_id": "unknown"},
        ],
    }
    load = load_manifest(manifest)
    assert [job.valid for job in load.jobs] == [False, True, True]
    assert [len(job.problems) for job in load.jobs] == [1, 1, 0]
    assert [problem.job_id for problem in load.problems] == ["unknown"]


def test_a_problem_is_of_its_table_not_of_each_with_the_same_id() -> None:
    """The first table of an id is the job: a mistake in a later one does not disable it."""
    tables = [{"id": "x", "steps": [{"callable": "app.clean:plain"}]} for _ in range(2)]
    told = {"severity": "error", "code": "value_invalid", "file": "jobs.toml", "message": "no int", "job_id": "x"}
    manifest = {
        "host": "team",
        "callables": CALLABLES,
        "job_files": [{"path": "jobs.toml", "tree": {"jobs": tables}, "error": None}],
        "problems": [told | {"path": "jobs[1].params.n"}] * 2,
    }
    load = load_manifest(manifest)
    assert [(job.path, job.valid) for job in load.jobs] == [("jobs[0]", True), ("jobs[1]", False)]
    assert [each.code for each in load.jobs[1].problems] == ["duplicate_job_id", "value_invalid"]


@pytest.mark.parametrize(("code", "id_"), [("unset_variable", "x"), ("unreadable_secret", "${file:a}")])
def test_the_cause_stands_for_what_follows_from_it(code: str, id_: str) -> None:
    """A text whose reference has no value is of no form either, even where it is the job's id."""
    job = {"id": id_, "timezone": "${file:a}", "steps": [{"callable": "app.clean:plain"}]}
    tree = {"meta": {"version": "${file:a}"}, "jobs": [job]}
    told = {"severity": "error", "code": code, "file": "jobs.toml", "message": "no value", "job_id": id_}
    manifest = {
        "host": "team",
        "callables": CALLABLES,
        "job_files": [{"path": "jobs.toml", "tree": tree, "error": None}],
        "problems": [told | {"path": path} for path in ("jobs[0].id", "jobs[0].timezone", "meta.version")],
    }
    load = load_manifest(manifest)
    assert [(each.code, each.path) for each in load.all_problems()][-1] == (code, "jobs[0].timezone")
    assert {each.code for each in load.jobs[0].problems} == {code}
    assert [(each.code, each.path) for each in load.problems] == [(code, "meta.version")]
