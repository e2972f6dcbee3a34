"""The environment of workers is a list of what they need; all else stays with the host."""

from __future__ import annotations

import pytest
from docs.making.configuration_text import INTRODUCTION

from nomaflow_project.reading.worker_environment import PASSED_ON, WorkerVariables, credentials_in, worker_variables


def _of(environ: dict[str, str], **more: object) -> WorkerVariables:
    options: dict[str, object] = {"declared": {}, "secret": (), "pass_env": (), **more}
    return worker_variables(environ, **options)  # type: ignore[arg-type]  # the options of the function


@pytest.mark.parametrize(
    ("name", "passed"),
    [
        ("PATH", True),
        ("LC_TIME", True),
        ("PYTHONPATH", True),
        ("OMP_NUM_THREADS", True),
        ("SLURM_JOB_ID", True),
        ("SLURM_JWT", False),
        ("https_proxy", True),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", True),
        ("OTEL_EXPORTER_OTLP_HEADERS", False),
        ("PYTHON_TOKEN", False),
        ("AWS_SECRET_ACCESS_KEY", False),
        ("PGPASSWORD", False),
        ("DATABASE_URL", False),
        ("APP_REGION", False),
        ("LC_", True),
        ("XPATH", False),
        ("NOMAFLOW_TRACE_HOOKS", True),
        ("NOMAFLOW_TOKEN_FILE", False),
        ("NOMAFLOW_KERNEL_STORE", False),
    ],
)
def test_a_step_sees_only_the_variables_of_a_list(name: str, passed: bool) -> None:
    """Workers inherit what interpreters and libraries need; a variable that looks like a credential stays behind."""
    found = _of({name: "x"})
    assert (name in found.inherited) is passed
    assert (name in found.withheld) is not passed


def test_references_find_what_workers_do_not_inherit() -> None:
    """``${NAME}`` in the values of a step resolves as before, although code does not see the variable."""
    found = _of({"APP_REGION": "eu", "DB": "x", "NOMAFLOW_SECRET": "y"}, secret=("DB",))
    assert dict(found.references) == {"APP_REGION": "eu"}
    assert dict(found.inherited) == {}


def test_pass_env_names_variables_and_beginnings() -> None:
    """An exact name passes on even a secret and its file; a `NAME*` passes on only what is not secret."""
    environ = {"DB": "1", "APP_A": "2", "APP_PW": "3", "NOMAFLOW_TOKEN": "4", "DB_FILE": "5", "APPS": "6"}
    found = _of(environ, secret=("DB", "DB_FILE", "APP_PW"), pass_env=("APP_*", "DB", "NOMAFLOW_*"))
    assert set(found.inherited) == {"DB", "DB_FILE", "APP_A"}
    assert found.withheld == ("APPS", "APP_PW", "NOMAFLOW_TOKEN")


def test_the_variables_of_the_project_reach_its_code() -> None:
    """Variables of env_file and those that ``[app]`` refers to are passed on, with the host's value if it has one."""
    declared = {"MODE": "file", "LEVEL": "file", "DB": "file"}
    environ = {"LEVEL": "host", "REGION": "eu", "OTHER": "x"}
    found = _of(environ, declared=declared, secret=("DB",), wanted=("REGION", "DB"))
    assert dict(found.inherited) == {"MODE": "file", "LEVEL": "host", "REGION": "eu"}
    assert found.withheld == ("OTHER",)


def test_values_are_shown_nowhere() -> None:
    """The repr of the variables, which a log may hold, has no value."""
    assert "s3cret" not in repr(_of({"PATH": "s3cret", "X": "s3cret"}))


def test_credentials_of_an_environment() -> None:
    """Values of variables named like credentials are credentials, and so are the passwords of proxies."""
    environ = {"API_TOKEN": "abc123", "https_proxy": "http://u:pr0xy-pw@h:3128", "PATH": "/bin", "EMPTY_KEY": ""}
    assert credentials_in(environ) == {"abc123", "pr0xy-pw"}


def test_the_list_is_in_the_documents() -> None:
    """Every name of the list is in the introduction of configuration.md; those of proxies by their subject."""
    missing = [name for name in PASSED_ON if f"`{name}`" not in INTRODUCTION and "PROXY" not in name.upper()]
    assert missing == []
