"""Failures of a step: its entry in the record, and its lines in the log."""

from __future__ import annotations

import pytest
from contract_stage import Ran, Stage

pytestmark = pytest.mark.e2e

RAISED = {
    "step_failed": ("step_failed", "no invoices to aggregate — check the upstream job"),
    "step_failed_mute": ("step_failed", "StepFailed"),
    "own_step_failed": ("step_failed", "our own words"),
    "any_error": ("step_failed", "LookupError: no rows returned — upstream issue"),
    "chained": ("step_failed", "RuntimeError: could not refresh"),
    "group": ("step_failed", "first"),
    "system_exit": ("step_failed", "SystemExit: 3"),
    "system_exit_sync": ("step_failed", "SystemExit: enough"),
    "keyboard_interrupt": ("step_failed", "KeyboardInterrupt"),
    "stop_iteration": ("step_failed", "StopIteration"),
    "stop_async_iteration": ("step_failed", "StopAsyncIteration: odd"),
    "generator_exit": ("step_failed", "GeneratorExit"),
    "mute": ("step_failed", "Mute"),
    "unpicklable": ("step_failed", "Locked: holds a lock"),
    "endless_text": ("step_failed", "ValueError: xxx"),
    "odd_text": ("step_failed", "line one"),
    "recursion": ("step_failed", "RecursionError"),
    "base_exception": ("step_failed", "BaseException: of the barest kind"),
    "syntax": ("step_failed", "SyntaxError"),
    "deep_group": ("step_failed", "ExceptionGroup: level 39"),
    "timeout_error": ("step_failed", "TimeoutError"),
    "noted": ("step_failed", "ValueError: bad row"),
}
CANCELED = {
    "step_cancelled": ("step_cancelled", "nothing to do on a holiday"),
    "cancelled_error": ("raised_by_code", "CancelledError"),
    "cancelled_error_sync": ("raised_by_code", "CancelledError: by hand"),
}
DEATHS = {
    "exits": ("worker_exited", "exit code 3"),
    "exits_async": ("worker_exited", "exit code 0"),
    "segfaults": ("worker_crashed", "SIGSEGV"),
    "killed": ("worker_killed", "probably out of memory"),
    "terminated": ("worker_crashed", "SIGTERM"),
    "aborted": ("worker_crashed", "SIGABRT"),
}


@pytest.fixture(scope="module")
def raised(stage: Stage) -> dict[str, Ran]:
    """Fail in every way at once."""
    return stage.run_all({name: (f"failures.raising:{name}", None) for name in (*RAISED, *CANCELED)})


def test_whatever_is_raised(raised: dict[str, Ran]) -> None:
    """Each exception FAILs the step with a short error of one's own words; the log has the traceback."""
    for name, (code, words) in RAISED.items():
        each = raised[name]
        assert (each.state, each.reason) == ("FAILED", code), (name, each.state, each.error)
        assert words in each.error, (name, each.error)
        assert len(each.error) < 2100, name
        assert "Traceback" not in each.error, name
        assert any("raising.py" in line.message and line.level >= 40 for line in each.lines), name


def test_tracebacks_begin_with_the_author(raised: dict[str, Ran]) -> None:
    """A traceback begins with the author's frames, without host, asyncio or threading; causes and notes are kept."""
    for name in RAISED:
        assert "nomaflow_host" not in raised[name].log, name
        assert "asyncio/base_events" not in raised[name].log, name
        assert "threading.py" not in raised[name].log, name
    log = raised["any_error"].log
    assert log.count("_deeper(n - 1)") == 2
    assert log.index("before it fails") < log.index("Traceback")
    assert "The above exception was the direct cause" in raised["chained"].log
    assert "row 17 of invoices.csv" in raised["noted"].log
    assert "second" in raised["group"].error


def test_cancelled_by_code(raised: dict[str, Ran]) -> None:
    """StepCancelled, or a CancelledError without a request, makes attempt and run CANCELED."""
    for name, (code, words) in CANCELED.items():
        each = raised[name]
        assert (each.state, each.it.state, each.reason) == ("CANCELED", "CANCELED", code), (name, each.error)
        assert words in each.error


@pytest.mark.parametrize("name", DEATHS)
def test_a_worker_dies(stage: Stage, name: str) -> None:
    """A dead worker FAILs its attempt with the cause in plain words; its last lines are kept."""
    code, words = DEATHS[name]
    ran = stage.run(f"failures.raising:{name}")
    assert ran.state == "FAILED"
    assert ran.it.reason is not None
    assert words in ran.it.reason.message, ran.it.reason
    assert "the last line before the end" in ran.messages
    assert name != "exits" or "printed before the end" in ran.messages
    assert ran.reason, code


def test_out_of_memory(stage: Stage) -> None:
    """A step that runs out of memory fails, with MemoryError or killed by the system, and its log is kept."""
    ran = stage.run("failures.raising:out_of_memory")
    assert ran.state == "FAILED"
    assert "MemoryError" in ran.error
    assert "the last line before the end" in ran.messages


@pytest.mark.parametrize("name", ["rebinds_builtins", "rebinds_json"])
def test_a_vandal_spoils_nothing_for_others(stage: Stage, name: str) -> None:
    """A step that rebinds what everybody uses ends somehow; the steps after it are as before."""
    spoilt = stage.run(f"failures.raising:{name}")
    assert spoilt.run.terminal
    for _ in range(3):
        assert stage.run("failures.raising:survivor").it.rows_affected == 4


def test_retries(stage: Stage) -> None:
    """StepFailed is retried as the job says, StepCancelled never, and the author sees which try it is."""
    failing = stage.run_job("failing")
    assert [one.state for one in failing.run.steps[0].attempts] == ["FAILED", "FAILED"]
    cancelling = stage.run_job("cancelling")
    assert cancelling.state == "CANCELED"
    assert [[one.state for one in step.attempts] for step in cancelling.run.steps] == [["CANCELED"], ["SKIPPED"]]
    flaky = stage.run_job("stubborn")
    assert [one.state for one in flaky.run.steps[0].attempts] == ["FAILED", "FAILED", "SUCCEEDED"]
    assert flaky.run.steps[0].last.extras == {"key": f"{flaky.run.run_id}/flaky/3", "attempt": 3}
    assert [one.error for one in flaky.run.steps[0].attempts[:2]] == ["RuntimeError: try 1", "RuntimeError: try 2"]
