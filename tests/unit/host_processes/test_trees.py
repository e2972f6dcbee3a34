"""Process trees, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from nomaflow_host.reaper.proc import ProcessIdentity, children_of, descendants, kill_trees, processes, read_process
from nomaflow_host.reaper.tree_limits import Limits, over_limits
from processes import still_alive


@pytest.fixture
def family() -> Iterator[tuple[ProcessIdentity, list[int]]]:
    """A shell with two children and a grandchild."""
    script = "sleep 600 & (sleep 600 & echo; wait) & echo; wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        shell.stdout.readline()
        below = [info.pid for info in descendants([shell.pid], processes())]
        yield ProcessIdentity.of(shell.pid), below
        for each in [*below, shell.pid]:
            ProcessIdentity.of(each).signal(signal.SIGKILL)


def _state(pid: int) -> str:
    info = read_process(pid)
    return "" if info is None else info.state


def test_a_whole_tree_is_killed(family: tuple[ProcessIdentity, list[int]]) -> None:
    """The root and everything below it die, and are counted."""
    tree, below = family
    assert len(below) == 3
    assert kill_trees([tree]) == 4
    assert still_alive(below, seconds=30) == []
    assert os.waitpid(tree.pid, 0)[1] == signal.SIGKILL


def test_a_stranger_with_the_same_pid_is_not_signalled(family: tuple[ProcessIdentity, list[int]]) -> None:
    """A process of another start time is left alone."""
    tree, below = family
    stranger = ProcessIdentity(tree.pid, tree.start_ticks + 1)
    assert not stranger.signal(signal.SIGKILL)
    assert kill_trees([stranger]) == 0
    assert {_state(pid) for pid in [tree.pid, *below]} <= {"S", "R", "D"}


def test_limits_see_the_whole_tree(family: tuple[ProcessIdentity, list[int]]) -> None:
    """Processes and memory are those of root and descendants together."""
    tree, _ = family
    assert over_limits(Limits(max_processes=4, memory_bytes=10**12), [tree.pid]) == {}
    assert over_limits(Limits(max_processes=3), [tree.pid]) == {tree.pid: "process_limit"}
    assert over_limits(Limits(memory_bytes=1), [tree.pid]) == {tree.pid: "memory_limit"}
    assert over_limits(Limits(max_processes=1), [2**22 + 1]) == {}


def test_threads_that_a_list_lacks_are_found_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux leaves a living thread out of a list, once in ten thousand, if another one ends before it meanwhile."""
    whole, asked = os.listdir, []

    def lacking(path: str) -> list[str]:
        asked.append(path)
        return whole(path) if len(asked) > 1 else []

    with subprocess.Popen(["sleep", "600"]) as child:
        monkeypatch.setattr(os, "listdir", lacking)
        try:
            assert child.pid in [each.pid for each in children_of(os.getpid())]
        finally:
            child.kill()
    assert len(asked) == 2
