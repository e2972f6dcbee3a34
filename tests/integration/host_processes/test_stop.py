"""Stops: the code of a stopped attempt has stopped, whatever it was doing; the system is the witness."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from harness import Host, StartHost, is_alive, shared

from nomaflow_api.v1.letter_words import FinishedState, Isolation, TimeoutKind
from nomaflow_api.v1.letters import CancelOrder
from waiting import eventually

BUDGET_SECONDS = 30.0
"""Grace, the two rungs after it, and room for a slow machine."""

LONG_MS = 600_000
"""A grace that no test waits for the end of."""

STUBBORN = [
    "tight_loop",
    "swallows_everything",
    "runs_sleep",
    "holds_the_gil",
    "daemonises_and_stays",
    "deaf_to_sigterm",
]
STUBBORN_ASYNC = [
    "async_tight_loop",
    "sleeps_in_async",
    "swallows_cancel",
    "holds_the_gil_async",
    "to_thread_outlives",
    "deaf_worker",
]


def cancel(key: str, by: str = "ann") -> CancelOrder:
    return CancelOrder(attempt_key=key, reason_code="canceled_by_user", by=by, why="enough")


async def test_cancel_stops_sync_code(start_host: StartHost, tmp_path: Path, spawn_only: bool) -> None:
    """A sync step that refuses to stop is dead, with all it started, before CANCELED is reported."""
    host = await start_host(spawn_only=spawn_only)

    async def stops(name: str) -> None:
        marker = tmp_path / name
        key = host.run(f"hostile.stubborn:{name}", {"marker": str(marker)})
        pid = await host.started_in(marker)
        host.supervisor.cancel(cancel(key))
        end = await host.sink.end_of(key)
        child = Path(f"{marker}.child")
        assert not is_alive(pid), name
        assert not child.exists() or not is_alive(int(child.read_text())), name
        assert (end.state, end.reason_code) == (FinishedState.CANCELED, "canceled_by_user"), name
        assert "ann" in end.reason
        assert "enough" in end.reason

    await asyncio.gather(*map(stops, STUBBORN))


async def test_cancel_stops_async_code_in_workers_of_its_own(start_host: StartHost, tmp_path: Path) -> None:
    """An async step that refuses to stop is dead before CANCELED is reported; the e2e tests have shared workers."""
    host = await start_host()

    async def stops(name: str) -> None:
        marker = tmp_path / name
        key = host.run(f"hostile.stubborn:{name}", {"marker": str(marker)}, isolation=Isolation.EXCLUSIVE)
        pid = await host.started_in(marker)
        began = time.monotonic()
        host.supervisor.cancel(cancel(key))
        end = await host.sink.end_of(key)
        assert end.state is FinishedState.CANCELED, name
        assert not is_alive(pid), name
        assert time.monotonic() - began < BUDGET_SECONDS, name
        assert "(stage 1 of 4)" in host.sink.text(key), name

    await asyncio.gather(*map(stops, STUBBORN_ASYNC))


@shared
async def test_a_worker_that_speaks_nonsense_is_killed(host: Host, marker: Path) -> None:
    """A step that writes rubbish to every descriptor it finds loses its worker, and harms nothing else."""
    end = await host.result("hostile.stubborn:poisons_its_own_socket", {"marker": str(marker)})
    assert (end.state, end.reason_code) == (FinishedState.FAILED, "worker_killed")
    assert "an invalid message" in end.reason
    assert not is_alive(int(marker.read_text()))
    assert (await host.result("polite:noop")).state is FinishedState.SUCCEEDED


@shared
async def test_cooperative_async_stops_at_once(host: Host, tmp_path: Path) -> None:
    """A step waiting in an await, behind a plain wrapper too, ends at the first request, and its worker lives on."""
    for name in ("waits", "waits_behind_a_wrapper"):
        key = host.run(f"polite:{name}", {"marker": str(tmp_path / name)}, cancel_grace_ms=LONG_MS)
        pid = await host.started_in(tmp_path / name)
        host.supervisor.cancel(cancel(key))
        end = await host.sink.end_of(key)
        assert end.state is FinishedState.CANCELED
        assert is_alive(pid)


@shared
async def test_polling_sync_step_keeps_its_result(host: Host, marker: Path) -> None:
    """A sync step that asks is_cancelled() and returns is CANCELED, with its result kept."""
    key = host.run("polite:polls", {"marker": str(marker)}, cancel_grace_ms=LONG_MS)
    pid = await host.started_in(marker)
    host.supervisor.cancel(cancel(key))
    end = await host.sink.end_of(key)
    assert (end.state, end.rows_affected, end.has_result) == (FinishedState.CANCELED, 42, True)
    assert is_alive(pid)


@shared
async def test_timeouts_use_the_same_ladder(host: Host, marker: Path) -> None:
    """A timed-out step is FAILED with the reason of whose time it was, and dead."""

    async def times_out(kind: TimeoutKind, code: str) -> None:
        mine = marker.with_name(code)
        callable_ = "hostile.stubborn:swallows_everything"
        key = host.run(callable_, {"marker": str(mine)}, timeout_ms=3000, timeout_kind=kind)
        end = await host.sink.end_of(key)
        assert (end.state, end.reason_code) == (FinishedState.FAILED, code)
        assert not is_alive(int(mine.read_text()))
        assert "(stage 1 of 4)" in host.sink.text(key)
        assert "(stage 2 of 4)" in host.sink.text(key)

    await asyncio.gather(times_out(TimeoutKind.STEP, "timed_out"), times_out(TimeoutKind.JOB, "job_timed_out"))


@shared
async def test_code_that_cannot_be_asked_gets_no_grace(host: Host, tmp_path: Path) -> None:
    """A sync step that is given no ctx is stopped from the second rung on, at once, and the log says why."""
    for by, timeout_ms, expected in (
        ("cancel", 0, (FinishedState.CANCELED, "canceled_by_user")),
        ("timeout", 3000, (FinishedState.FAILED, "timed_out")),
    ):
        order = {"timeout_ms": timeout_ms, "cancel_grace_ms": LONG_MS}
        key = host.run("hostile.stubborn:unaware", {"marker": str(tmp_path / by)}, **order)
        pid = await host.started_in(tmp_path / by)
        if not timeout_ms:
            host.supervisor.cancel(cancel(key))
        end = await host.sink.end_of(key)
        assert not is_alive(pid)
        assert (end.state, end.reason_code) == expected
        assert "(stage 1 of 4)" not in host.sink.text(key)
        assert "it takes no ctx and cannot be asked" in host.sink.text(key)


@shared
async def test_timeout_keeps_a_normal_return(host: Host, marker: Path) -> None:
    """A step that returns after its timeout reached it is FAILED timed_out with its result."""
    order = {"timeout_ms": 100, "timeout_kind": TimeoutKind.STEP, "cancel_grace_ms": LONG_MS}
    key = host.run("polite:polls", {"marker": str(marker)}, **order)
    end = await host.sink.end_of(key)
    assert (end.state, end.reason_code, end.rows_affected) == (FinishedState.FAILED, "timed_out", 42)


@shared
@pytest.mark.parametrize("name", ["leaves_a_thread", "leaves_executor_work"])
@pytest.mark.parametrize("isolation", [Isolation.SHARED, Isolation.EXCLUSIVE])
async def test_what_outlives_a_return_is_stopped(host: Host, marker: Path, name: str, isolation: Isolation) -> None:
    """A thread or work that a step leaves behind is its code: SUCCEEDED is reported after its end, with a note."""
    end = await host.result(f"hostile.stubborn:{name}", {"marker": str(marker)}, isolation=isolation)
    assert end.state is FinishedState.SUCCEEDED
    assert end.rows_affected in (3, 7)
    assert any("running when it returned" in warning for warning in end.warnings)
    if isolation is Isolation.SHARED:
        assert not is_alive(int(marker.read_text()))


@shared
async def test_a_step_that_returned_in_time_is_not_timed_out(host: Host, marker: Path) -> None:
    """Its timeout is over while what it left behind has its grace: the result stands."""
    order = {"timeout_ms": 3000, "cancel_grace_ms": 4000}
    key = host.run("hostile.stubborn:leaves_a_thread", {"marker": str(marker)}, **order)
    end = await host.sink.end_of(key)
    assert (end.state, end.reason_code, end.rows_affected) == (FinishedState.SUCCEEDED, "", 7)


@shared
async def test_polite_leftovers_keep_their_worker(host: Host, marker: Path) -> None:
    """A left thread that asks is_cancelled(), and a left task, are ended without killing their worker."""
    for name in ("leaves_polite_thread", "leaves_a_task"):
        file = marker.with_name(name)
        end = await host.result(f"hostile.stubborn:{name}", {"marker": str(file)}, cancel_grace_ms=LONG_MS)
        assert end.state is FinishedState.SUCCEEDED
        assert Path(f"{file}.end").exists()
        assert is_alive(int(file.read_text()))


@shared
async def test_daemon_left_by_a_return_is_killed(host: Host, marker: Path) -> None:
    """A double-forked daemon with an empty environment is dead before its step is reported as succeeded."""
    end = await host.result("hostile.stubborn:daemonises", {"marker": str(marker)})
    assert end.state is FinishedState.SUCCEEDED
    assert not is_alive(int(Path(f"{marker}.child").read_text()))


@shared
async def test_daemon_of_an_async_step_among_neighbours(host: Host, marker: Path) -> None:
    """A daemon in a shared worker is dead before its step is reported as succeeded, and its neighbours run on."""
    neighbour = host.run("polite:waits", {"marker": str(marker.with_name("neighbour"))})
    pid = await host.started_in(marker.with_name("neighbour"))
    end = await host.result("hostile.stubborn:daemonises_async", {"marker": str(marker)})
    assert end.state is FinishedState.SUCCEEDED
    assert not is_alive(int(Path(f"{marker}.child").read_text()))
    assert is_alive(pid)
    assert neighbour not in host.sink.ends


@shared
async def test_children_of_neighbours_are_let_be(host: Host, marker: Path) -> None:
    """A step that ends is not blamed for the child processes of those that run on beside it."""
    other = host.run("polite:has_children_until", {"marker": str(marker)})
    await host.started_in(Path(f"{marker}.running"))
    assert (await host.result("polite:anoop")).warnings == ()
    marker.touch()
    assert (await host.sink.end_of(other)).rows_affected == 2


async def test_shared_kill_names_the_culprit(start_host: StartHost, marker: Path) -> None:
    """Killing a shared worker fails its neighbours by name of the culprit, which runs exclusively from then on."""
    host = await start_host(shared_workers=1)
    neighbour = host.run("polite:waits", {"marker": str(marker.with_name("neighbour"))})
    culprit = host.run("hostile.stubborn:swallows_cancel", {"marker": str(marker)})
    pid = await host.started_in(marker)
    host.supervisor.cancel(cancel(culprit))
    end = await host.sink.end_of(neighbour)
    assert (end.state, end.reason_code) == (FinishedState.FAILED, "worker_killed")
    assert "hostile.stubborn:swallows_cancel" in end.reason
    assert (await host.sink.end_of(culprit)).state is FinishedState.CANCELED
    assert not is_alive(pid)
    second = marker.with_name("second")
    again = host.run("hostile.stubborn:swallows_cancel", {"marker": str(second)})
    await host.started_in(second)
    await host.sink.until(lambda: again in host.sink.starts)
    assert host.sink.starts[again].exclusive


@shared
async def test_exclusive_kill_has_no_collateral(host: Host, marker: Path) -> None:
    """Killing an exclusive worker touches no other step."""
    others = [marker.with_name(f"other{n}") for n in range(3)]
    keys = [host.run("polite:waits_for", {"marker": str(each)}) for each in others]
    keys += [host.run("polite:polls", {"marker": str(marker.with_name("sync"))})]
    culprit = host.run("hostile.stubborn:tight_loop", {"marker": str(marker)})
    await host.started_in(marker)
    host.supervisor.cancel(cancel(culprit))
    await host.sink.end_of(culprit)
    assert not any(key in host.sink.ends for key in keys)
    for each in others:
        each.touch()
    for key in keys[:3]:
        assert (await host.sink.end_of(key)).rows_affected == 11


@shared
async def test_second_cancel_and_unknown_key_are_no_ops(host: Host, marker: Path) -> None:
    """The first cancel's reason stays; cancelling what is not there, or has ended, does nothing."""
    key = host.run("hostile.stubborn:tight_loop", {"marker": str(marker)})
    await host.started_in(marker)
    host.supervisor.cancel(cancel(key))
    host.supervisor.cancel(cancel(key, by="bob"))
    host.supervisor.cancel(cancel("run_x/nothing/1"))
    end = await host.sink.end_of(key)
    host.supervisor.cancel(cancel(key, by="carol"))
    assert "ann" in end.reason
    assert "bob" not in end.reason


async def test_cancel_before_the_start(start_host: StartHost, marker: Path) -> None:
    """An attempt cancelled in the moment of its dispatch is CANCELED, and its code never ran."""
    host = await start_host(spawn_only=True, spare_exclusive=0)
    key = host.run("hostile.stubborn:tight_loop", {"marker": str(marker)}, cancel_grace_ms=10_000)
    host.supervisor.cancel(cancel(key))
    end = await host.sink.end_of(key)
    assert (end.state, end.not_started) == (FinishedState.CANCELED, True)
    assert not marker.exists()


@shared
async def test_kill_has_no_grace(host: Host, marker: Path) -> None:
    """kill() ends an attempt at once with the reason given."""
    key = host.run("hostile.stubborn:tight_loop", {"marker": str(marker)}, cancel_grace_ms=LONG_MS)
    pid = await host.started_in(marker)
    host.supervisor.kill(key, "kernel_silent", "the kernel was silent for too long")
    end = await host.sink.end_of(key)
    assert (end.state, end.reason_code) == (FinishedState.FAILED, "kernel_silent")
    assert not is_alive(pid)


async def test_watchdog_names_the_step_that_blocks(start_host: StartHost, marker: Path) -> None:
    """A blocked loop is found: which step, since when, with its stack; and that step is the culprit of a kill."""
    host = await start_host(shared_workers=1, blocked_seconds=2)  # the import of the victim blocks for a moment too
    victim = host.run("polite:waits", {"marker": str(marker.with_name("victim"))})
    await host.started_in(marker.with_name("victim"))
    culprit = host.run("hostile.stubborn:sleeps_in_async", {"marker": str(marker)})
    await host.started_in(marker)
    await host.sink.until(lambda: "sleeps_in_async" in host.sink.text(culprit).partition("has blocked the event")[2])
    assert "stubborn.py" in host.sink.text(culprit)
    assert "the event loop" not in host.sink.text(victim)
    host.supervisor.cancel(cancel(victim))
    end = await host.sink.end_of(culprit)
    assert (end.state, end.reason_code) == (FinishedState.FAILED, "worker_killed")
    assert (await host.sink.end_of(victim)).state is FinishedState.CANCELED


async def test_watchdog_sees_through_a_held_gil(start_host: StartHost, marker: Path) -> None:
    """The stack comes from a handler in C, so code that holds the interpreter lock is named too."""
    host = await start_host(shared_workers=1, blocked_seconds=0.3)
    host.run("polite:waits", {"marker": str(marker.with_name("victim"))})
    culprit = host.run("hostile.stubborn:holds_the_gil_async", {"marker": str(marker)})
    await host.started_in(marker)
    await host.sink.until(lambda: "holds_the_gil_async" in host.sink.text(culprit))


async def test_drain_lets_finish_then_stops(start_host: StartHost, marker: Path) -> None:
    """A drain waits for what ends in time and stops the rest, with the reason host_draining."""
    host = await start_host()
    ends = host.run("polite:waits_for", {"marker": str(marker.with_name("go"))})
    stays = host.run("polite:waits", {"marker": str(marker)})
    await host.started_in(marker)
    marker.with_name("go").touch()
    await host.supervisor.drain(3)
    assert host.sink.ends[ends].state is FinishedState.SUCCEEDED
    assert host.sink.ends[stays].reason_code == "host_draining"
    assert len(host.supervisor.attempts) == 0


async def test_a_worker_that_ends_by_sigterm_just_before_its_host_drains_was_drained(
    start_host: StartHost, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal to the whole group reached the worker first: its attempt waits for its host's, and is not to blame."""
    monkeypatch.setattr("nomaflow_host.supervisor.attempt_table._GROUP_SECONDS", 600.0)
    host = await start_host()
    key = host.run("polite:waits", {"marker": str(marker)})
    os.kill(await host.started_in(marker), signal.SIGTERM)
    await eventually(lambda: host.supervisor.attempts._held[key].decided_at)
    assert key not in host.sink.ends
    await host.supervisor.drain(60)
    assert host.sink.ends[key].reason_code == "host_draining"


@shared
async def test_every_rung_is_logged_with_its_time(host: Host, marker: Path) -> None:
    """The attempt's log tells each rung from the logger nomaflow.host."""
    key = host.run("hostile.stubborn:deaf_worker", {"marker": str(marker)}, isolation=Isolation.EXCLUSIVE)
    await host.started_in(marker)
    host.supervisor.cancel(cancel(key))
    await host.sink.end_of(key)
    rungs = [line.message for line in host.sink.lines(key) if line.logger == "nomaflow.host"]
    assert [f"(stage {number} of 4)" in text for number, text in zip((1, 2, 3, 4), rungs, strict=False)] == [True] * 4


async def test_a_drain_ends_though_nothing_may_be_read(start_host: StartHost) -> None:
    """A drain with a full spill file takes its deadline and the ladder's time, and each written line arrives."""
    host = await start_host()
    host.sink.open = False
    ended, floods = host.run("polite:noop"), host.run("polite:floods", {"count": 60_000})
    blocked = host.run("polite:floods", {"count": 60_000}, isolation=Isolation.SHARED)
    await host.sink.until(lambda: {ended, floods, blocked} <= set(host.sink.starts))
    async with asyncio.timeout(60):
        await host.supervisor.drain(3)
    assert host.sink.ends[ended].state is FinishedState.SUCCEEDED
    for key in (floods, blocked):
        assert host.sink.ends[key].reason_code == "host_draining"
        numbers = [line.message.split()[1] for line in host.sink.lines(key) if line.message.startswith("line ")]
        assert len(numbers) > 1000
        assert numbers == [f"{number:07d}" for number in range(len(numbers))]
