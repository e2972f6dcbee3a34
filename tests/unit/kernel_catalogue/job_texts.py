"""Loading the text of a jobs.toml, for the tests of this folder."""

from __future__ import annotations

import tomllib
from typing import Any

from nomaflow_project.jobs.load import load_job_files
from nomaflow_project.jobs.loaded import CatalogueLoad, LoadedJob
from nomaflow_project.reading.environment import resolve_environment
from nomaflow_project.reading.files import JobFile, encode_file
from nomaflow_project.reading.problems import Problem

GOOD = """
[[jobs]]
id = "good"
[[jobs.steps]]
callable = "app.work:run"
"""


def load(text: str, **more: Any) -> CatalogueLoad:
    """Return what one file of that text holds."""
    file = JobFile(path="jobs.toml", tree=resolve_environment(encode_file(tomllib.loads(text)), {}))
    return load_job_files([file], host="team", **more)


def load_one(text: str, **more: Any) -> LoadedJob:
    """Return the first job of a text to which a good one is added, which must load."""
    loaded = load(text + GOOD, **more)
    assert loaded.jobs[-1].job_id == "good"
    assert loaded.jobs[-1].valid
    return loaded.jobs[0]


def the_problem(job: LoadedJob) -> Problem:
    """Return the only problem of a job."""
    assert len(job.problems) == 1, [str(problem) for problem in job.problems]
    return job.problems[0]
