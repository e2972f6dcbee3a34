"""The tests' own short cut: a reaper that is forked is a child of its supervisor's process, as a fresh one is."""

from __future__ import annotations

import os

import psutil
from harness import StartHost

from nomaflow_api.v1.letter_words import FinishedState
from waiting import eventually


async def test_a_forked_reaper_is_a_child_of_its_host(start_host: StartHost) -> None:
    """It is adopted, leads a session of its own, as what it starts does, and is replaced once it is killed."""
    host = await start_host()
    assert (await host.result("polite:noop")).state is FinishedState.SUCCEEDED
    reaper = psutil.Process(host.supervisor.reaper_identity.pid)
    assert "forked_templates.py" in " ".join(reaper.cmdline())
    assert reaper.ppid() == os.getpid()
    below = [each.pid for each in reaper.children()]
    assert len(below) > 1, "a template and a worker"
    # The spare worker may have been forked just now.
    await eventually(lambda: [os.getsid(pid) for pid in (reaper.pid, *below)] == [reaper.pid, *below])
    reaper.kill()
    await eventually(lambda: host.supervisor.reaper_identity.pid not in (0, reaper.pid))
    assert (await host.result("polite:noop")).state is FinishedState.SUCCEEDED
