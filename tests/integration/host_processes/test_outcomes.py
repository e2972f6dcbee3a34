"""Outcomes of attempts: results, errors, refusals, room."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from harness import Host, StartHost, descriptors_left, shared

from nomaflow_api.v1.letter_words import FinishedState, Isolation
from nomaflow_host.channel.ring.page import MAX_SLOTS
from nomaflow_host.supervisor.values import Refused
from nomaflow_project.reading.worker_environment import WorkerVariables
from processes import open_files
from waiting import eventually

FAILED, CANCELED = FinishedState.FAILED, FinishedState.CANCELED
RAISED = [
    ("value", FAILED, "step_failed", "ValueError: a bad value"),
    ("failed", FAILED, "step_failed", "said so"),
    ("cancelled", CANCELED, "step_cancelled", "enough"),
    ("asyncio", CANCELED, "raised_by_code", "CancelledError"),
    ("exit", FAILED, "step_failed", "SystemExit: 3"),
    ("keyboard", FAILED, "step_failed", "KeyboardInterrupt"),
    ("group", FAILED, "step_failed", "ValueError: one; KeyError: 'two'"),
    ("told_group", FAILED, "step_failed", "no rows; no feed"),
    ("cancelled_group", CANCELED, "step_cancelled", "a holiday"),
    ("mixed_group", FAILED, "step_failed", "ExceptionGroup: half (2 sub-exceptions): a holiday; ValueError: one"),
    ("hostile", FAILED, "step_failed", "cannot be shown"),
    ("leaving", FAILED, "step_failed", "cannot be shown"),
    ("texting", FAILED, "step_failed", "Texting: said in a text of its own kind"),
    ("base", FAILED, "step_failed", "BaseException: bare"),
]


async def test_every_exception_is_told(start_host: StartHost) -> None:
    """Each exception of a sync and of an async step becomes its state, reason and short text; workers live on."""
    host = await start_host()
    for prefix in ("", "a"):
        for what, state, code, text in RAISED:
            key = host.run(f"polite:{prefix}raises", {"what": what})
            end = await host.sink.end_of(key)
            assert (end.state, end.reason_code) == (state, code), what
            assert text in end.error
            assert "unread" not in end.error
            if state is FAILED or code == "raised_by_code":
                assert 'polite.py", line' in host.sink.text(key)
                assert "running.py" not in host.sink.text(key)
            if state is CANCELED:
                assert end.reason in host.sink.text(key)
    assert len({start.worker_pid for start in host.sink.starts.values()}) == 2


@shared
async def test_an_exception_that_cannot_be_looked_at_ends_its_step(host: Host) -> None:
    """Whatever the class of an exception does when it is asked, its attempt ends, with the place in its log."""
    key = host.run("polite:raises_the_unspeakable")
    end = await host.sink.end_of(key)
    assert (end.state, end.reason_code) == (FAILED, "step_failed")
    assert end.error == "the code raised or returned something that cannot be looked at"
    assert "in __name__" in host.sink.text(key)
    assert (await host.result("polite:noop")).state is FinishedState.SUCCEEDED


async def test_a_worker_that_a_step_has_broken_fails_no_more_than_one_step(
    start_host: StartHost, tmp_path: Path
) -> None:
    """A step that has broken a module of its worker may fail the next one, and not all that come after it."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "breaking.py").write_text(
        "import threading\ndef breaks(**_):\n    threading.Thread.start = None\ndef step(**_):\n    return 1\n"
    )
    host = await start_host(tmp_path)
    ends = [(await host.result(f"breaking:{name}")).state for name in ("breaks", "step", "step", "step")]
    assert ends.count(FAILED) <= 1


async def test_a_step_without_a_thread_fails(start_host: StartHost, tmp_path: Path) -> None:
    """A sync step fails by name if the system gives its worker no thread, as at a limit of processes."""
    (tmp_path / "plugins").mkdir()
    # No process has room for such a stack.
    (tmp_path / "plugins" / "greedy.py").write_text(
        "import threading\nthreading.stack_size(1 << 46)\ndef step(**_):\n    return 1\n"
    )
    host = await start_host(tmp_path)
    end = await host.result("greedy:step")
    assert (end.state, end.reason_code, end.error) == (
        FAILED, "step_failed", "RuntimeError: can't start new thread",
    )  # fmt: skip


@shared
async def test_exception_types_are_the_mro(host: Host) -> None:
    """The classes of an exception are named, most derived first, and those of a group's members for ``retry_on``."""
    end = await host.result("polite:raises", {"what": "value"})
    assert end.exception_types == ("builtins.ValueError", "builtins.Exception", "builtins.BaseException")
    end = await host.result("polite:raises", {"what": "group"})
    assert end.exception_types[0] == "builtins.ExceptionGroup"
    assert {"builtins.ValueError", "builtins.KeyError"} <= set(end.exception_types)
    assert len(set(end.exception_types)) == len(end.exception_types)
    end = await host.result("polite:raises", {"what": "failed"})  # whose class has two names for those who import it
    assert end.exception_types[:2] == ("nomaflow.errors.StepFailed", "nomaflow.StepFailed")


@shared
async def test_tracebacks_of_threads_are_the_author_s(host: Host) -> None:
    """An exception in a thread, or in work of an executor, is told without a frame of the worker's."""
    key = host.run("polite:raises_in_threads")
    end = await host.sink.end_of(key)
    assert end.error == "ValueError: a bad value"
    text = host.sink.text(key)
    assert text.count("ValueError: a bad value") == 2
    assert "Exception in thread" in text
    assert "nomaflow_host" not in text


@shared
async def test_system_exit_in_a_task_ends_no_worker(host: Host) -> None:
    """A task of the author's that raises SystemExit leaves the worker's loop running."""
    assert (await host.result("polite:exit_in_a_task")).rows_affected == 2
    assert (await host.result("polite:anoop")).state is FinishedState.SUCCEEDED


@shared
async def test_a_step_may_give_an_executor_very_many_pieces_of_work(host: Host) -> None:
    """The time to record one does not grow with the number of those that wait."""
    end = await host.result("polite:gives_work", {"pieces": 50_000})
    assert (end.state, end.rows_affected) == (FinishedState.SUCCEEDED, 50_000), end.error


@shared
async def test_ctx_can_be_copied(host: Host) -> None:
    """A copy of ctx, a pickled one and its dict have the values of ctx."""
    end = await host.result("polite:copies_ctx")
    assert (end.state, end.error) == (FinishedState.SUCCEEDED, "")
    assert json.loads(end.extras_json)["attempt"] == 1


async def test_files_of_a_step_are_private(start_host: StartHost, marker: Path, spawn_only: bool) -> None:
    """A file that a step creates can be read by the host's user only."""
    host = await start_host(spawn_only=spawn_only)
    await host.result("polite:makes_a_file", {"marker": str(marker)})
    assert marker.stat().st_mode & 0o777 == 0o600


@shared
async def test_a_refused_return_fails(host: Host) -> None:
    """A value that cannot be kept fails the step, with the reason of the normaliser, which its log has too."""
    key = host.run("polite:returns_nonsense")
    end = await host.sink.end_of(key)
    assert (end.state, end.reason_code, end.not_started) == (FAILED, "return_invalid", False)
    assert end.error in host.sink.text(key)


@shared
async def test_what_cannot_start_fails_before_the_call(host: Host) -> None:
    """A failed preparation is reported with its reason code: nothing started, and the log has only the error."""
    for callable_, code in (
        ("polite:nobody", "callable_not_found"),
        ("nowhere:nobody", "callable_not_found"),
        ("polite:waits", "argument_missing"),
    ):
        key = host.run(callable_)
        end = await host.sink.end_of(key)
        assert (end.state, end.reason_code, end.not_started) == (FAILED, code, True), callable_
        assert key not in host.sink.starts
        assert [(line.level, line.message) for line in host.sink.lines(key)] == [(logging.ERROR, end.error)]


async def test_room_is_refused_not_queued(start_host: StartHost, marker: Path) -> None:
    """An order over max_async or max_sync is refused with the limit's name, and its key is free for another try."""
    host = await start_host(max_async=1, max_sync=1)
    host.run("polite:waits", {"marker": str(marker)})
    with pytest.raises(Refused, match="max_async is 1") as refused:
        host.run("polite:anoop", attempt_key="again")
    assert refused.value.reason_code == "host_full"
    host.run("polite:polls", {"marker": str(marker)})
    with pytest.raises(Refused, match="max_sync is 1"):
        host.run("polite:noop")
    await host.supervisor.drain(0)
    with pytest.raises(Refused, match="stopping"):
        host.run("polite:noop")


async def test_a_step_for_whose_worker_there_is_no_descriptor_is_refused(start_host: StartHost) -> None:
    """At the limit of open files a host takes no step that needs a further worker, goes on, and leaves nothing open."""
    host = await start_host(spare_exclusive=0)
    await host.result("polite:anoop")
    before = len(open_files())
    for number in range(14):
        with descriptors_left(number), pytest.raises(Refused, match="another worker: too many open files") as refused:
            host.run("polite:noop")
        assert refused.value.reason_code == "host_full"
        assert len(open_files()) == before, number
    assert (await host.result("polite:anoop")).state is FinishedState.SUCCEEDED
    assert (await host.result("polite:noop")).state is FinishedState.SUCCEEDED


async def test_more_steps_than_a_shared_worker_takes_go_to_another(start_host: StartHost) -> None:
    """max_async may be larger than that number times shared_workers."""
    host = await start_host(max_async=MAX_SLOTS + 2, shared_workers=1)
    keys = [host.run("polite:waits_without_looking") for _ in range(MAX_SLOTS + 1)]
    await host.sink.until(lambda: len(host.sink.starts) == len(keys))
    assert sorted(Counter(start.worker_pid for start in host.sink.starts.values()).values()) == [1, MAX_SLOTS]


async def test_nothing_is_accepted_before_a_generation(start_host: StartHost) -> None:
    """An order is refused while there is no generation; the supervisor still answers questions about itself."""
    host = await start_host(load=False)
    with pytest.raises(Refused, match="not loaded"):
        host.run("polite:noop")
    assert host.supervisor.loader.serving is None
    assert host.supervisor.pool.statuses() == []


async def test_stop_before_start_is_legal() -> None:
    """A supervisor that never started can be stopped and asked."""
    from harness import HOSTILE

    host = Host(HOSTILE)
    assert host.supervisor.loader.serving is None
    assert host.supervisor.loader.newer_files() == ()
    await host.supervisor.stop()


async def test_a_stop_after_one_that_gave_up_waiting_is_legal(
    start_host: StartHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks nothing of workers that are gone, although the end of their attempts has not been heard."""
    host = await start_host()
    host.run("polite:waits_without_looking")
    await host.sink.until(lambda: bool(host.sink.starts))
    monkeypatch.setattr("nomaflow_host.supervisor.supervisor._SHUTDOWN_SECONDS", 0.0)
    await host.supervisor.stop()
    await host.supervisor.stop()


@shared
async def test_a_start_names_its_process_whoever_is_heard_first(host: Host, marker: Path) -> None:
    """A worker may say that a step has started before the reaper's word that the worker has is read."""
    key = host.run("polite:waits_for", {"marker": str(marker)}, isolation=Isolation.EXCLUSIVE)
    await asyncio.sleep(0)  # the order goes out, and then this loop stands still
    running, until = Path(f"{marker}.running"), time.monotonic() + 20
    while not (running.exists() and running.read_text()) or key not in host.sink.starts:
        assert time.monotonic() < until
        for worker in host.supervisor.pool:
            worker.link.read()
    assert host.sink.starts[key].worker_pid == int(running.read_text())
    marker.touch()
    assert (await host.sink.end_of(key)).state is FinishedState.SUCCEEDED


async def test_a_step_whose_worker_cannot_be_started_goes_back_to_the_queue(start_host: StartHost) -> None:
    """It uses up no try, since it has not begun, and its callable may share a worker later."""
    host = await start_host(spare_exclusive=0)
    serving = host.supervisor.loader.serving
    assert serving is not None
    serving.unforkable_reason = "its workers are spawned in this test"
    for worker in host.supervisor.pool.statuses():
        os.kill(worker.pid, signal.SIGKILL)
    await eventually(lambda: not host.supervisor.pool.statuses())
    possible, serving.variables = serving.variables, WorkerVariables(inherited={"GREETING": "he\0llo"})
    end = await host.result("polite:noop")
    assert (end.reason_code, end.not_started) == ("host_refused", True)
    assert "the worker could not be started: embedded null byte" in end.reason
    serving.variables = possible
    assert (await host.result("polite:noop")).state is FinishedState.SUCCEEDED
    assert not serving.demoted
