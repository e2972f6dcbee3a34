"""Values of jobs against annotations, and names of injections, both known before the first run."""

from __future__ import annotations

from typing import Any

import pytest

from nomaflow import Settings, hookimpl
from nomaflow_host.generation.checking import JobChecker
from nomaflow_host.generation.contributions import injection_names
from nomaflow_host.hooks.manager import build_hooks
from nomaflow_host.injection.call_plan import plan_for
from nomaflow_project.reading.problems import Problem


def work(*, apps_id: int = 1, day: Any = None, settings: int = 3, **_: Any) -> None:
    """Take some values."""


PLANS = {"app.clean:work": plan_for(work, reference="app.clean:work")}


def found(job: Any) -> list[Problem]:
    """Return the problems of one job."""
    tree = {"jobs": [{"id": "x", **job}]}
    checker = JobChecker(plans=PLANS, types={}, as_given=("ctx", "settings"))
    return list(checker.problems([{"path": "jobs.toml", "tree": tree, "error": None}], host="h"))


def step(**more: Any) -> dict[str, Any]:
    """Return a step that calls it."""
    return {"callable": "app.clean:work", **more}


@pytest.mark.parametrize(
    ("job", "path", "severity"),
    [
        ({"steps": [step(op_kwargs={"apps_id": "ten"})]}, "jobs[0].steps[0].op_kwargs.apps_id", "error"),
        ({"steps": [step(op_kwargs={"apps_id": 1.5}, enabled=False)]}, "jobs[0].steps[0].op_kwargs.apps_id", "warning"),
        ({"params": {"apps_id": []}, "steps": [step()]}, "jobs[0].params.apps_id", "error"),
        ({"params": {"apps_id": "9" * 4301}, "steps": [step()]}, "jobs[0].params.apps_id", "error"),
        (
            {"steps": [step()], "presets": [{"name": "p", "op_kwargs": {"work": {"apps_id": True}}}]},
            "jobs[0].presets[0].op_kwargs.work.apps_id",
            "error",
        ),
    ],
)
def test_a_misfit_is_a_problem_of_its_job(job: Any, path: str, severity: str) -> None:
    """Whichever layer gives a value that cannot be taken, the problem names job, place, value and type."""
    [problem] = found(job)
    assert (problem.job_id, problem.file, problem.path) == ("x", "jobs.toml", path)
    assert (problem.severity, problem.code) == (severity, "value_invalid")
    assert "as int" in problem.message


@pytest.mark.parametrize(
    "job",
    [
        {"host": "other", "steps": [step(op_kwargs={"apps_id": "ten"})]},
        {"steps": [step(op_kwargs={"apps_id": "10", "day": {"$date": "2026-01-31"}, "other": "x"})]},
        {"steps": [step(op_kwargs={"apps_id": "${APPS_ID}", "settings": "as given"})]},
        {"params": {"apps_id": "ten"}, "steps": [step(op_kwargs={"apps_id": 5})]},
        {"steps": [step(type="other", op_kwargs={"apps_id": "ten"}), {"callable": "unknown:f"}, 5, {"op_kwargs": 3}]},
        {"steps": [step(op_kwargs={"apps_id": {"$odd": 1}})]},
        {"steps": 5, "params": "no", "presets": [3]},
    ],
)
def test_no_false_alarm(job: Any) -> None:
    """Fitting, environment, overridden and otherwise reported values are no problems."""
    assert found(job) == []


def test_a_file_that_is_no_jobs_file() -> None:
    """Trees of any shape are looked at without an error."""
    files = [{"path": "a", "tree": tree, "error": None} for tree in (None, [], {"jobs": 5}, {"jobs": [3, {}]})]
    assert list(JobChecker(plans=PLANS, types={}).problems(files, host="h")) == []


class Contributes:
    """A plugin with an injection."""

    @hookimpl
    def nomaflow_contribute_injections(self, call: Any) -> Any:
        """Give one name."""
        return {"tenant": call.ctx.params.get("tenant")}


class Raises:
    """A plugin that cannot say what it injects."""

    @hookimpl
    def nomaflow_contribute_injections(self, call: Any) -> Any:
        """Need a real run."""
        return {"first": call.ctx.previous_steps[0]}


class Nothing:
    """A plugin that injects nothing."""

    @hookimpl
    def nomaflow_contribute_injections(self) -> Any:
        """Give nothing."""


def test_names_of_injections() -> None:
    """Each plugin is asked alone; one that raises hides only its own names, with a warning that names it."""
    hooks = build_hooks(environ={}, trace_stream=None, entry_points=())  # type: ignore[arg-type]  # nothing is traced
    for plugin in (Contributes(), Raises(), Nothing()):
        hooks.add(plugin, name=type(plugin).__name__)
    names, problems = injection_names(hooks, Settings())
    assert names == ("connectors", "ctx", "settings", "tenant")
    [problem] = problems
    assert (problem.severity, problem.code) == ("warning", "hook_failed")
    assert "the plugin 'Raises'" in problem.message
    assert "IndexError" in problem.message
