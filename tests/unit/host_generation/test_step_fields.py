"""Steps of contributed types against the models of their types, and the types themselves."""

from __future__ import annotations

from typing import Any

import pytest
from generation_orders import Project
from pydantic import BaseModel, ConfigDict, field_validator

from nomaflow.calls import StepType
from nomaflow_host.generation.checking import JobChecker
from nomaflow_project.reading.problems import Problem


class Fields(BaseModel):
    """The fields of a step."""

    model_config = ConfigDict(extra="forbid")

    url: str
    size: int = 1
    pin: int = 0
    kind: str = "a"

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        if value == "crash":
            raise KeyError(value)
        if value not in ("a", "b"):
            raise ValueError(f"there is no kind {value}")
        return value


TYPE = StepType(name="typed", callable="m:f", model=Fields, schema=Fields.model_json_schema(), secret=("pin",))
CHECKER = JobChecker(plans={}, types={"typed": TYPE})


def found(*steps: Any, **job: Any) -> list[Problem]:
    """Return the problems of one job."""
    tree = {"jobs": [{"id": "x", "steps": list(steps), **job}]}
    return list(CHECKER.problems([{"path": "jobs.toml", "tree": tree, "error": None}], host="h"))


@pytest.mark.parametrize(
    ("step", "path", "code", "words"),
    [
        ({"urll": "u", "url": "u"}, "urll", "unknown_key", "did you mean 'url'?"),
        ({"size": 2}, "url", "missing_key", "add it"),
        ({"url": "u", "size": "many"}, "size", "wrong_type", "expected a whole number, got 'many'"),
        ({"url": "u", "kind": "c"}, "kind", "bad_value", "there is no kind c, got 'c'"),
        ({"url": "u", "kind": "crash"}, "", "hook_failed", "the model of step type 'typed' raised KeyError"),
        ({"url": "u", "pin": "my-pin"}, "pin", "wrong_type", "expected a whole number, got a text"),
        ({"url": "u", "op_kwargs": {"size": []}}, "size", "wrong_type", "expected a whole number"),
    ],
)
def test_a_misfit_is_a_problem_of_its_job(step: Any, path: str, code: str, words: str) -> None:
    """The problem names job, file and place; the value of a secret field is hidden."""
    [problem] = found({"callable": "m:f"}, {"type": "typed", **step})
    assert (problem.job_id, problem.file, problem.severity, problem.code) == ("x", "jobs.toml", "error", code)
    assert problem.path == "jobs[0].steps[1]" + (f".{path}" if path else "")
    assert words in f"{problem.message} {problem.fix}"
    assert "my-pin" not in problem.message


def test_a_misfit_of_step_defaults_is_told_there() -> None:
    """A default goes to the step whose type takes it; one for a disabled step is a warning."""
    defaults = {"size": "many", "timeout_seconds": 5}
    step = {"type": "typed", "url": "u", "enabled": False}
    [problem] = found(step, {"callable": "m:f"}, step_defaults=defaults)
    assert (problem.severity, problem.path) == ("warning", "jobs[0].step_defaults.size")


def test_no_false_alarm() -> None:
    """Fitting fields, values from the environment, tables of other types and files of any shape are no problems."""
    assert found({"type": "typed", "url": "https://${HOST}/", "size": "${SIZE}", "kind": "${KIND}"}) == []
    assert found({"type": "other", "size": "many"}, 5, {"type": ["typed"]}) == []
    assert found({"type": "typed", "url": {"$odd": 1}}) == []
    files = [{"path": "a", "tree": tree, "error": None} for tree in (None, [], {"jobs": 5}, {"jobs": [3, {"id": 5}]})]
    assert list(CHECKER.problems(files, host="h")) == []


MODELS = """
from nomaflow import hookimpl
from nomaflow.calls import StepType
from pydantic import BaseModel, ConfigDict
class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: str
class Plain(BaseModel):
    url: str
class Odd(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    when: object = None
    odd: type(lambda: 1) = None
def f(*, url): ...
@hookimpl
def nomaflow_step_types():
    return [StepType(name="t", callable="models:f", {parts})]
"""


def test_the_schema_is_made_of_the_model(project: Project) -> None:
    """The manifest has the model's JSON Schema, what runs may set, what is secret, and that the host checks."""
    text = MODELS.replace("{parts}", "model=Closed, overridable=['url'], secret=('url',)")
    [told] = project({"models.py": text}).manifest()["step_types"]
    assert told["schema"]["properties"] == {"url": {"title": "Url", "type": "string"}}
    assert (told["overridable"], told["secret"], told["checked"]) == (["url"], ["url"], True)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ("model=dict", "its model is <class 'dict'>, expected a pydantic model"),
        ("model=Odd", "cannot be used"),
        ("secret='url'", "its secret is 'url', expected a tuple of names"),
        ("model=Closed, secret=('urll',)", "it has no field 'urll'"),
        ("model=Plain, overridable=('urll',)", "it has no field 'urll'"),
        ("schema={'properties': {'a': {}}, 'additionalProperties': False}, secret=('b',)", "it has no field 'b'"),
    ],
)
def test_types_that_cannot_be_used_are_problems(project: Project, parts: str, words: str) -> None:
    """A secret that is misspelt would not be masked, so the type is refused, and nothing else."""
    manifest = project({"models.py": MODELS.replace("{parts}", parts)}).manifest()
    assert manifest["step_types"] == []
    [problem] = manifest["problems"]
    assert problem["code"] == "hook_failed"
    assert words in problem["message"]
