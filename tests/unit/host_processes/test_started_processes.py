"""The record of the processes that a step has started."""

from __future__ import annotations

import subprocess
import threading

from nomaflow_host.reaper.proc import ProcessIdentity
from nomaflow_host.worker.scope import StartedProcesses


def alive_of(started: StartedProcesses) -> set[ProcessIdentity]:
    """Return the living ones."""
    return {each for each in started if each.alive}


def test_a_later_process_of_the_same_pid_is_another() -> None:
    """A step is not blamed for the process that got the pid of its own one, and does not end it."""
    started = StartedProcesses()
    with subprocess.Popen(["sleep", "600"]) as child:
        now = ProcessIdentity.of(child.pid)
        started.add(now._replace(start_ticks=now.start_ticks - 1))
        assert alive_of(started) == set()
        started.add(now)
        assert alive_of(started) == {now}
        child.kill()


def test_ended_processes_are_forgotten_and_living_ones_are_not() -> None:
    started = StartedProcesses()
    with subprocess.Popen(["sleep", "600"]) as child:
        living = ProcessIdentity.of(child.pid)
        started.add(living)
        for number in range(1, 10_000):
            started.add(ProcessIdentity(pid=number + (1 << 22), start_ticks=1))
        assert alive_of(started) == {living}
        assert len(list(started)) < 200
        child.kill()


def test_threads_may_add_at_once() -> None:
    started = StartedProcesses()
    with subprocess.Popen(["sleep", "600"]) as child:
        living = ProcessIdentity.of(child.pid)

        def add(first: int) -> None:
            for number in range(first, first + 1000):
                started.add(ProcessIdentity(pid=number + (1 << 22), start_ticks=1))
                list(started)
            started.add(living)

        threads = [threading.Thread(target=add, args=(first * 1000,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert alive_of(started) == {living}
        child.kill()
