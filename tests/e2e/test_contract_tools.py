"""The author's tools on the same project: ``nomaflow check``, ``nomaflow call`` and ``nomaflow.testing``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract_stage import PASSWORD, Stage

from cli_command import Answer, run_command

pytestmark = pytest.mark.e2e

AUTHORS_TEST = '''
"""Tests as an author writes them."""

import asyncio
import logging

import pytest

from nomaflow import RunContext, StepResult
from nomaflow.testing import FakeConnectors, connectors_from, run_callable, run_callable_sync


async def work(*, ctx, connectors, n: int, **_):
    logging.getLogger("work").info("n is %d", n)
    ctx.progress(1, 2)
    return StepResult(n, {"engine": connectors.pools.engine("default")})


def test_sync():
    outcome = run_callable_sync(
        work, op_kwargs={"n": "3"}, connectors=FakeConnectors(engines={"default": "fake"}), ctx=RunContext(run_id="r")
    )
    assert (outcome.state, outcome.rows_affected, outcome.extras) == ("SUCCEEDED", 3, {"engine": "fake"})
    assert "n is 3" in outcome.logs
    assert outcome.progress == ((1, 2, ""),)


def test_by_reference_with_real_connectors(tmp_path):
    (tmp_path / "connectors.toml").write_text('[pools.default]\\nurl = "sqlite://"')

    async def run():
        registry = connectors_from(tmp_path / "connectors.toml")
        try:
            return await run_callable(work, op_kwargs={"n": 1}, connectors=registry)
        finally:
            await registry.aclose()

    outcome = asyncio.run(run())
    assert outcome.state == "FAILED" and "extras.engine" in outcome.error


def test_mistakes():
    assert "did you mean 'n'" not in run_callable_sync(work, op_kwargs={"n": 1}).error
    missing = run_callable_sync(work)
    assert (missing.state, missing.reason_code) == ("FAILED", "argument_missing")


def test_cancel():
    async def forever(*, ctx):
        await asyncio.sleep(60)

    assert run_callable_sync(forever, cancel_after=0.01).state == "CANCELED"
    assert run_callable_sync(forever, timeout=0.01).reason_code == "timed_out"
'''


@pytest.fixture(scope="module")
def stage(stages: Callable[[bool], Stage]) -> Stage:
    """Give the project that starts a thread on import; no host's worker has a part in these tools, made as it may be."""
    return stages(True)


def nomaflow(stage: Stage, *arguments: str, site: bool = False) -> Answer:
    """Run the command line in the project.

    :param site: whether the installed plugin is found: a command that reads PYTHONPATH is not forked
    """
    environ = {**stage.environ, "NOMAFLOW_TRACE_HOOKS": ""}
    if not site:
        del environ["PYTHONPATH"]
    return run_command(*arguments, folder=stage.project, environ=environ)


def called(stage: Stage, *arguments: str, code: int = 0, site: bool = False) -> dict[str, Any]:
    """Run ``nomaflow call -o json`` and return its object."""
    done = nomaflow(stage, "call", *arguments, "-o", "json", site=site)
    assert done.code == code, done.err
    outcome: dict[str, Any] = done.json
    return outcome


def test_check_says_what_the_kernel_says(stage: Stage) -> None:
    """``nomaflow check`` disables the same jobs as the kernel, for the same reasons, before anything runs."""
    done = nomaflow(stage, "check", "-o", "json", site=True)
    assert done.code == 1, done.err
    checked = {each["job_id"]: each for each in done.json["jobs"]}
    known = {each.job_id: each for each in stage.client.list_jobs().jobs}
    flawed = {name for name, each in checked.items() if not each["valid"]}
    assert flawed == {name for name, each in known.items() if not each.valid}
    assert {name for name in flawed if name.startswith("flawed-")} == flawed
    for name in flawed:
        told = {each["message"] for each in checked[name]["problems"]}
        assert {each.message for each in stage.client.get_job(name).problems} == told


def test_call_from_a_terminal(stage: Stage) -> None:
    """``nomaflow call`` runs a callable with its coercion, its connectors, the project's hooks and no kernel."""
    assert called(stage, "kinds.zoo:plain_async", "-p", "n=4")["extras"] == {"n": 4, "loop": True, "main": True}
    assert called(stage, "contexts.looking:pools")["rows_affected"] == 1
    assert called(stage, "contexts.looking:added")["extras"]["greeting"] == "hello from test"
    assert called(stage, "packaged_plugin:pay", "-p", 'cents="7"', site=True)["extras"] == {"cents": 7}
    assert called(stage, "contexts.looking:original")["rows_affected"] == 2


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("kinds.zoo:plain_asink", "did you mean 'plain_async'?"),
        ("failures.on_import_exits:work", "it called sys.exit('go away')"),
        ("failures.raising:step_failed", "no invoices to aggregate"),
        ("contexts.looking:wrong_pool", "did you mean 'main'?"),
    ],
)
def test_call_tells_mistakes(stage: Stage, reference: str, words: str) -> None:
    """A mistake is reported as a host would report it, with exit code 1."""
    outcome = called(stage, reference, code=1)
    assert (outcome["state"], words in outcome["error"]) == ("FAILED", True), outcome


def test_a_mistake_in_words(stage: Stage) -> None:
    """A person reads neither a traceback nor what the connectors of the project hold."""
    done = nomaflow(stage, "call", "contexts.looking:wrong_pool")
    assert (done.code, "did you mean 'main'?" in done.out) == (1, True), done
    assert PASSWORD not in done.out + done.err
    assert "Traceback" not in done.out


def test_testing_in_a_real_pytest(tmp_path: Path) -> None:
    """An author's tests with nomaflow.testing run in a plain pytest, warnings as errors, without any plugin of pytest."""
    (tmp_path / "test_authors.py").write_text(AUTHORS_TEST)
    flags = ("-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *flags, str(tmp_path)],
        check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
