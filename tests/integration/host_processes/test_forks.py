"""Steps that fork: the child is the step's own, and never a second worker."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from harness import Host, StartHost, is_alive, shared

from nomaflow_api.v1.letter_words import FinishedState
from waiting import eventually

CAME_BACK = "a process that the step forked came back"
BOTH = [
    "returns_in_both",
    "awaits_in_both",
    "raises_in_the_child",
    "forks_in_a_task",
    "forks_in_a_callback",
    "forks_in_to_thread",
    "forks_in_a_thread",
    "sync_returns_in_both",
    "sync_raises_in_the_child",
]


async def with_neighbour(host: Host, marker: Path) -> str:
    """Start a step in the shared worker that runs until the marker is there."""
    neighbour = host.run("polite:waits_for", {"marker": str(marker)})
    await eventually(Path(f"{marker}.running").exists)
    return neighbour


async def test_a_child_that_comes_back_is_ended(start_host: StartHost, marker: Path, spawn_only: bool) -> None:
    """The step's outcome is its parent's, neighbours and later steps run on, and what the child said is in the log."""
    host = await start_host(spawn_only=spawn_only, shared_workers=1)
    neighbour = await with_neighbour(host, marker)
    for name in BOTH:
        key = host.run(f"hostile.forking:{name}", {"marker": f"{marker}.{name}"})
        end = await host.sink.end_of(key)
        assert (end.state, end.rows_affected) == (FinishedState.SUCCEEDED, 1), name
        assert not is_alive(int(Path(f"{marker}.{name}.child").read_text())), name
        lines = host.sink.lines(key)
        messages = [line.message for line in lines]
        for said in ("printed by the child", "hostile.forking: logged by the child"):
            assert [line.level for line in lines if line.message == said] == [logging.INFO], name
        assert sum(CAME_BACK in message for message in messages) == 1, name
        assert ("ValueError: raised by the child" in messages) is ("raises" in name), name
        assert all("running.py" not in message for message in messages), name
    marker.touch()
    assert (await host.sink.end_of(neighbour)).rows_affected == 11
    for later in ("polite:anoop", "polite:noop"):
        assert (await host.result(later)).state is FinishedState.SUCCEEDED


@shared
async def test_a_child_that_stays_is_not_left_behind(host: Host, marker: Path) -> None:
    """A child that was forked beside neighbours and runs on is dead before the end of its step is reported."""
    await with_neighbour(host, marker)
    end = await host.result("hostile.forking:child_stays", {"marker": f"{marker}.fork"})
    assert end.state is FinishedState.SUCCEEDED
    assert "left 1 process running" in end.warnings[0]
    assert not is_alive(int(Path(f"{marker}.fork.child").read_text()))


@shared
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
async def test_multiprocessing_works_and_keeps_its_helpers(host: Host, method: str) -> None:
    """Pools and processes of each start method work, and what the library keeps for itself is no leftover."""
    for name in ("processes", "processes_on_the_loop") * 2:
        key = host.run(f"hostile.forking:{name}", {"method": method})
        end = await host.sink.end_of(key)
        assert (end.state, end.rows_affected, end.warnings) == (FinishedState.SUCCEEDED, 28, ()), name
        assert f"printed by a {method} child" in host.sink.text(key), name


@shared
async def test_children_that_end_themselves_are_let_be(host: Host, marker: Path) -> None:
    """os._exit, os.execv and subprocesses give their own exit codes and output, beside neighbours."""
    neighbour = await with_neighbour(host, marker)
    for name, codes in (("children", 18), ("children_async", 25)):
        key = host.run(f"hostile.forking:{name}")
        end = await host.sink.end_of(key)
        assert (end.rows_affected, end.warnings) == (codes, ()), name
        for said in ("printed before os._exit", "printed after exec", "from a program"):
            assert host.sink.text(key).count(said) == 1, name
        assert CAME_BACK not in host.sink.text(key), name
    marker.touch()
    assert (await host.sink.end_of(neighbour)).rows_affected == 11
