"""Steps see what they need of their host's environment; the rest is withheld, and its absence explained."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from harness import StartHost, fresh

from nomaflow_api.v1.letter_words import FinishedState
from nomaflow_api.v1.letters import AttemptOrder
from nomaflow_host.injection.credentials_to_mask import references_of
from nomaflow_project.connectors.connector_set import ConnectorSet
from nomaflow_project.reading.sources import Reference

CODE = """
import os
from pathlib import Path

def told(*, value, **_):
    own = Path("/proc/self/environ").read_text()
    return {"length": len(value), "in_environ": "REGION" in os.environ, "in_proc": "REGION" in own, "value": value}

async def atold(*, value, **_):
    return told(value=value)

def looks_up(*, name, **_):
    return {"value": os.environ[name]}
"""
TOP_LEVEL = 'import os\nREGION = os.environ["REGION"]\n\ndef anything(**_):\n    return None\n'


def order(**fields: Any) -> AttemptOrder:
    """Return an order with these fields."""
    named = dict.fromkeys(("attempt_key", "run_id", "job_id", "step", "callable"), "x")
    return AttemptOrder(**{**named, "attempt": 1, **fields})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with plugins that look at their environment."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "looking.py").write_text(CODE)
    return tmp_path


@fresh
async def test_values_refer_to_what_the_environment_lacks(
    start_host: StartHost, project: Path, spawn_only: bool
) -> None:
    """``${NAME}`` gives a step the value, also from a file, and no other step finds the variable in its environment."""
    (project / "pin").write_text("from-a-file\n")
    environ = {**os.environ, "REGION": "eu-central", "PIN_FILE": str(project / "pin")}
    host = await start_host(project, spawn_only=spawn_only, environ=environ)
    for kind in ("told", "atold"):
        for text, value in (("in ${REGION}", "in eu-central"), ("${PIN}", "from-a-file"), ("${NONE:-x}", "x")):
            end = await host.result(f"looking:{kind}", {"value": text})
            seen = json.loads(end.extras_json)
            assert (seen["value"], seen["in_environ"], seen["in_proc"]) == (value, False, False)


async def test_a_missing_file_of_a_variable_is_named(start_host: StartHost, project: Path) -> None:
    """If NAME_FILE names a file that is not there, the step fails and names it, whether there is a default or not."""
    host = await start_host(project, environ={**os.environ, "PIN_FILE": str(project / "none")})
    for text in ("${PIN}", "${PIN:-1234}"):
        end = await host.result("looking:told", {"value": text})
        assert (end.state, end.reason_code) == (FinishedState.FAILED, "secret_unreadable")
        assert f"{project}/none" in end.reason


async def test_values_of_clients_give_a_step_no_variable(start_host: StartHost, project: Path) -> None:
    """A value that a client gave stays as it is, and the variable that it names does not even reach the worker."""
    host = await start_host(project, environ={**os.environ, "REGION": "eu-central"})
    end = await host.result(
        "looking:told", {"value": "${REGION}"}, literal_kwargs=("value",), params_json=b'{"a": "${REGION}"}',
        literal_params=("a",),
    )  # fmt: skip
    assert json.loads(end.extras_json)["value"] == "${REGION}"
    own = order(kwargs_json=b'{"value": "${REGION}", "own": "${ZONE}"}', literal_kwargs=("value",))
    assert references_of(own) == {Reference("", "ZONE")}


async def test_code_that_misses_a_variable_is_told_how_to_get_it(start_host: StartHost, project: Path) -> None:
    """A step that reads a withheld variable fails with the way out; one that reads an unknown variable just fails."""
    host = await start_host(project, environ={**os.environ, "REGION": "eu"})
    end = await host.result("looking:looks_up", {"name": "REGION"})
    hint = "(the host has REGION, and does not pass it on: list it in [host] pass_env)"
    assert end.error == f"KeyError: 'REGION' {hint}"
    assert end.reason == end.error
    assert (await host.result("looking:looks_up", {"name": "NOBODY_HAS_IT"})).error == "KeyError: 'NOBODY_HAS_IT'"


async def test_a_variable_whose_name_is_no_text_is_withheld(start_host: StartHost, project: Path) -> None:
    """The system takes any bytes as a name; they are written down for ``doctor`` with the others."""
    (project / "state").mkdir()
    environ = {**os.environ, "NAM\udcff": "x"}
    host = await start_host(project, environ=environ, state_dir=str(project / "state"))
    assert (await host.result("looking:told", {"value": "x"})).state is FinishedState.SUCCEEDED
    assert b"NAM\xff" in (project / "state" / "withheld").read_bytes().split()


async def test_a_module_that_misses_a_variable_is_told_how_to_get_it(start_host: StartHost, project: Path) -> None:
    """A module that reads a withheld variable when it is imported fails with the way out; pass_env is that way."""
    (project / "plugins" / "early.py").write_text(TOP_LEVEL)
    host = await start_host(project, environ={**os.environ, "REGION": "eu"})
    end = await host.result("early:anything")
    assert end.reason_code == "import_failed"
    assert "list it in [host] pass_env" in end.reason
    host = await start_host(project, environ={**os.environ, "REGION": "eu"}, pass_env=("REG*",))
    assert (await host.result("early:anything")).state is FinishedState.SUCCEEDED


async def test_a_credential_in_the_environment_of_steps_is_masked(start_host: StartHost, project: Path) -> None:
    """A variable that is passed on and named like a credential is masked in results."""
    environ = {**os.environ, "API_TOKEN": "t0ken-of-the-api"}
    host = await start_host(project, environ=environ, pass_env=("API_TOKEN",))
    end = await host.result("looking:looks_up", {"name": "API_TOKEN"})
    assert json.loads(end.extras_json) == {"value": "***"}


async def test_what_an_import_says_of_a_credential_is_masked(start_host: StartHost, project: Path) -> None:
    """Errors, tracebacks and defaults that quote a credential reach the kernel, and the log of a load, without it."""
    secret = "t0ken-of-the-api"
    (project / "plugins" / "early.py").write_text('import os\nraise RuntimeError("bad " + os.environ["API_TOKEN"])\n')
    (project / "plugins" / "given.py").write_text(
        'import os\ndef step(*, token=os.environ["API_TOKEN"]):\n    return len(token)\n'
    )
    host = await start_host(project, environ={**os.environ, "API_TOKEN": secret}, pass_env=("API_TOKEN",))
    manifest = host.supervisor.loader.serving.manifest  # type: ignore[union-attr]  # it serves
    assert secret not in json.dumps(manifest)
    assert "bad ***" in manifest["modules"]["early"]["error"]
    assert manifest["callables"]["given:step"]["parameters"][0]["default"] == "'***'"
    assert (await host.result("given:step")).rows_affected == len(secret)
    (project / "plugins" / "early.py").write_text(
        'import os\nprint(os.environ["API_TOKEN"], flush=True)\nos._exit(3)\n'
    )
    outcome = await host.supervisor.load()
    assert not outcome.accepted
    assert (secret in outcome.message, "***" in outcome.output_tail) == (False, True)


@fresh
async def test_a_load_decides_what_its_processes_inherit(start_host: StartHost, spawn_only: bool) -> None:
    """Workers do not inherit variables named in connectors.toml from the next load on; the reaper never has them."""
    environ = {**os.environ, "DB_PASSWORD": "hunter2"}
    host = await start_host(spawn_only=spawn_only, environ=environ, pass_env=("DB_*",))

    async def seen() -> bytes:
        return (await host.result("polite:environment", {"name": "DB_PASSWORD"})).extras_json

    assert await seen() == b'{"value":"***"}'
    host.connectors = ConnectorSet(variables=frozenset({"DB_PASSWORD"}))
    assert (await host.supervisor.load()).accepted
    assert await seen() == b'{"value":null}'
    reaper = host.supervisor.reaper_identity.pid
    assert b"hunter2" not in Path(f"/proc/{reaper}/environ").read_bytes()
