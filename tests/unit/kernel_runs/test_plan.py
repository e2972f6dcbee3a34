"""The plan of a run: the layers of its values, as text that every part can read."""

from __future__ import annotations

import json

from nomaflow_kernel.engine.plan import plan_run
from nomaflow_kernel.history.records import RunRequest
from nomaflow_project.jobs.definitions import JobDefinition, StepDefinition


def test_values_that_are_no_utf8_reach_the_host() -> None:
    """A lone surrogate, as of an argument that is no UTF-8, travels as JSON's escape: the host decodes UTF-8."""
    job = JobDefinition(id="a", host="demo", steps=(StepDefinition(name="one", callable="m:one"),))
    values = {"name": "\udcff東"}
    plan = plan_run(job, RunRequest(params=values, op_kwargs={"one": values}))
    for text in (plan.params_json, plan.steps[0].kwargs_json):
        assert text.encode().isascii()
        assert json.loads(text) == values
