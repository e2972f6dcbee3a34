"""ctx, settings and connectors, as a step in a real worker sees them."""

from __future__ import annotations

import contextlib
import os

import pytest
from contract_stage import PASSWORD, Stage

from real_system import eventually

pytestmark = pytest.mark.e2e


def test_the_whole_surface(stage: Stage) -> None:
    """Each field of ctx says what the run's record says."""
    ran = stage.run_job("looked-at", by="auditor", params={"extra": [1]})
    home = os.environ["HOME"]
    assert ran.extras == {
        "run_id": ran.run.run_id,
        "job_id": "looked-at",
        "trigger": "api",
        "is_api": True,
        "by": "owner (for auditor)",
        "at_age": True,
        "prev_rows_affected": None,
        "parent_chain": [],
        "step_name": "look",
        "attempt": 1,
        "attempt_key": f"{ran.run.run_id}/look/1",
        "params": {"tenant": 10, "url": f"{home}/x", "extra": [1]},
        "log_level": "DEBUG",
        "deadline": 50,
        "cancelled": False,
    }
    plain = stage.run("contexts.looking:surface").extras
    assert (plain["deadline"], plain["log_level"], plain["params"]) == (None, "INFO", {})


def test_previous_steps(stage: Stage) -> None:
    """A step sees how those before it ended; the count is of the last one that ran, None if it reported none."""
    ran = stage.run_job("chain")
    extras = ran.run.steps[-1].last.extras
    assert extras["prev"] is None
    assert extras["seen"]["first"] == ["SUCCEEDED", 4, {"note": "made 4"}]
    assert extras["seen"]["silent"] == ["SUCCEEDED", None, {"note": "none"}]
    assert extras["unknown"] is None
    assert ran.run.rows_affected == 4


def test_extras_that_are_too_large_to_pass_on_are_not_taken_for_none(stage: Stage) -> None:
    """A step that reads the extras of 600 KB of an earlier step fails, and is told why."""
    ran = stage.run_job("heavy")
    assert ran.run.error.startswith("the extras of step 'much' are not passed on"), ran.run.state


def test_parent_chain(stage: Stage) -> None:
    """A run that call_job started knows its ancestors, root first."""
    root = stage.run_job("root")
    assert root.state == "SUCCEEDED", root.error
    middle = stage.client.get_run(root.it.child_run_id)
    child = stage.ended(middle.steps[0].last.child_run_id)
    assert child.extras["parent_chain"] == [["root", root.run.run_id], ["middle", middle.run_id]]
    assert (child.extras["trigger"], child.extras["is_api"]) == ("call_job", False)


def test_ctx_is_frozen(stage: Stage) -> None:
    """ctx cannot be changed."""
    assert stage.run("contexts.looking:frozen").extras == {"frozen": "FrozenInstanceError"}


def test_progress_is_seen_live(stage: Stage) -> None:
    """A watcher sees progress while the step runs; the last one stays with the attempt."""
    gate = stage.project / "gate"
    run_id = stage.start("contexts.looking:progresses", {"path": str(gate)})
    seen = []
    for item in stage.client.watch_run(run_id):
        progress = item.data["progress"]["done"] if getattr(item, "kind", "") == "attempt.progress" else None
        if progress is not None:
            seen.append(progress)
            gate.touch()
    assert seen[0] == 1, "it came while the step waited for the gate"
    ran = stage.ended(run_id)
    assert ran.state == "SUCCEEDED"
    progress = ran.it.progress
    assert progress is not None
    assert (progress.done, progress.total, progress.message) == (4, 4, "done")
    assert "could not convert" in stage.run("contexts.looking:bad_progress").error
    last = stage.run("contexts.looking:sync_progress").it.progress
    assert last is not None
    assert (last.done, last.message) == (1000, "end")


def test_cancel_of_both_kinds(stage: Stage) -> None:
    """A cancel reaches a coroutine as CancelledError and a loop through is_cancelled(); a step timeout FAILS."""
    waiting = stage.start("contexts.looking:waits_for_cancel")
    polling = stage.start("contexts.looking:polls_for_cancel")
    for run_id in (waiting, polling):
        eventually(lambda run_id=run_id: stage.client.get_run(run_id).steps[0].last.state == "RUNNING")
        stage.client.cancel(run_id, why="enough")
    stopped = stage.ended(waiting)
    assert (stopped.state, "cancelled: True" in stopped.messages) == ("CANCELED", True)
    polite = stage.ended(polling)
    assert (polite.state, polite.it.rows_affected, dict(polite.it.extras)) == ("CANCELED", 3, {"polite": True})
    late = stage.run_job("short")
    assert (late.state, late.reason, "cancelled: True" in late.messages) == ("FAILED", "timed_out", True)


def test_settings(stage: Stage) -> None:
    """settings has the project's values, absolute paths and what plugins add; it is read-only and hides secrets."""
    extras = stage.run("contexts.looking:settings_seen").extras
    assert (extras["region"], extras["contributed"]) == ("eu", "yes")
    assert extras["connectors"] == str(stage.project / "connectors.toml")
    assert extras["jobs"] == str(stage.project / "jobs.toml")
    assert "LEAK" not in extras["repr"]
    assert "read-only" in extras["read_only"]
    missing = stage.run("contexts.looking:settings_missing")
    assert missing.error == "AttributeError: settings.app has no 'regoin' (did you mean 'region'?)"
    assert stage.run("contexts.looking:pickled").extras == {"settings": True}


def test_settings_follow_the_file(stage: Stage) -> None:
    """An edit is seen by the next attempt; a malformed file leaves the last good ones, and says so."""
    file = stage.project / "nomaflow.toml"
    good = file.read_text()

    def region() -> object:
        return stage.run("contexts.looking:settings_seen").extras["region"]

    try:
        file.write_text(good.replace('"eu"', '"us"'))
        assert region() == "us"
        file.write_text("[app\nregion = 5")
        assert region() == "us"
        assert "nomaflow.toml" in stage.run("contexts.looking:settings_seen").log
    finally:
        file.write_text(good)
    assert region() == "eu"
    assert stage.client.reload_host("authors", force=False)[0].accepted  # else triggers tell of newer code from now on


def test_pools_and_connectors(stage: Stage) -> None:
    """Async and sync engines of one SQLite pool and a named query see the same rows, run after run."""
    for _ in range(3):
        ran = stage.run("contexts.looking:pools")
        assert ran.extras["same"] is True
    assert ran.extras["repr"] == "ConnectorRegistry(pools=[main, secretive], connectors=[reads])"
    for _ in range(3):
        assert stage.run("contexts.looking:two_loops").it.rows_affected == 3


def test_wrong_names(stage: Stage) -> None:
    """A wrong pool or connector fails with the near match and those that there are."""
    ran = stage.run("contexts.looking:wrong_pool")
    assert "there is no pool 'mian' (did you mean 'main'? known: 'main', 'secretive')" in ran.error
    assert "is of type 'sql', not 'api'" in stage.run("contexts.looking:wrong_connector").error


def test_the_original_imports(stage: Stage) -> None:
    """``liberty.connectors`` and ``liberty.jobs.steps.base`` are ours in a host."""
    ran = stage.run("contexts.looking:original")
    assert (ran.it.rows_affected, ran.extras) == (2, {"from": "nomaflow.results"})


def test_the_password_is_nowhere(stage: Stage) -> None:
    """The password is in no error, log, store or state, even if a step prints connectors, environment and settings."""
    ran = stage.run("contexts.looking:leaks_if_it_can")
    assert ran.state == "FAILED"
    assert PASSWORD not in ran.log + ran.error
    assert "secretive" in ran.log
    for path in stage.logs.rglob("*"):
        if path.is_file() and not path.is_socket():
            with contextlib.suppress(OSError):  # its owner has removed it meanwhile
                assert PASSWORD.encode() not in path.read_bytes(), path
