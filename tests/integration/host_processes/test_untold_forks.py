"""A template that has forked and not told of it: its worker may be at work, or dead, or may never have begun."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from harness import Host, StartHost, is_alive, pids_below

from nomaflow_api.v1.letters import Finished
from waiting import eventually

STALLED = '''
import asyncio, os, signal

plain = os.waitpid

def waitpid(*which):
    """Leave the template where it has forked and not told of it yet."""
    told = plain(*which)
    signal.pause()
    return told

os.waitpid = waitpid

async def holds(**_):
    await asyncio.sleep(600)
'''

DELAYED = """
import os
from nomaflow_host.channel.frames import Frame

plain, template = Frame.close, os.getpid()

def close(frame):
    plain(frame)
    if os.getpid() == template:
        open(__file__ + ".told").close()

Frame.close = close

async def exits(**_):
    os._exit(3)
"""
"""Its template lets go of a worker's descriptors, and tells of the worker once somebody writes."""


@pytest.fixture
def stalled(tmp_path: Path) -> Path:
    """Return a project whose templates tell of no fork."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "stalled.py").write_text(STALLED)
    return tmp_path


async def begin(host: Host) -> str:
    """Start a step and wait until it is at work, though its template has not told of its worker."""
    key = host.run("stalled:holds")
    await host.sink.until(lambda: key in host.sink.starts)
    return key


async def template_of(host: Host, *others: int) -> int:
    """Return the template that stands still, once it has collected the process between it and its worker."""

    def found() -> set[int]:
        workers = {started.worker_pid for started in host.sink.starts.values()}
        return set(pids_below(host.supervisor.reaper_identity.pid)) - workers - {*others}

    await eventually(lambda: len(found()) == 1)
    return found().pop()


@pytest.mark.parametrize(("drains", "code"), [(False, "worker_died"), (True, "host_draining")])
async def test_a_step_that_has_started_is_not_given_back(
    start_host: StartHost, stalled: Path, drains: bool, code: str
) -> None:
    """It would run twice. A SIGTERM to the whole group in this moment is the host's end, as in any other."""
    host = await start_host(stalled, spare_exclusive=0)
    key = await begin(host)
    template = await template_of(host)
    os.kill(template, signal.SIGTERM)
    draining = asyncio.create_task(host.supervisor.drain(60)) if drains else None
    end = await host.sink.end_of(key)
    assert (end.reason_code, end.not_started) == (code, False)
    assert "its template ended while it was forking" in host.sink.text(key) + host.sink.finishes[key].exit_text
    if draining is not None:
        await draining


async def test_a_worker_whose_template_tells_of_it_after_its_death_has_died_by_itself(
    start_host: StartHost, tmp_path: Path
) -> None:
    """Its host has it killed as its connection ends, when nothing tells yet which process to kill."""
    told = tmp_path / "plugins" / "delayed.py.told"
    told.parent.mkdir()
    (tmp_path / "plugins" / "delayed.py").write_text(DELAYED)
    os.mkfifo(told)
    host = await start_host(tmp_path, spare_exclusive=0)
    key = host.run("delayed:exits")
    await host.sink.until(lambda: key in host.sink.starts)
    await eventually(lambda: not is_alive(host.sink.starts[key].worker_pid))
    told.write_text("")
    end = await host.sink.end_of(key)
    assert (end.reason_code, "exit code 3" in end.reason) == ("worker_died", True)


async def test_an_end_is_told_once_nothing_of_the_worker_lives(
    start_host: StartHost, stalled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even while another template is forking, and the reaper does not look for what is left."""
    host = await start_host(stalled, spare_exclusive=0)
    first = await begin(host)
    old = await template_of(host)
    await host.supervisor.load(force=True)
    await begin(host)
    new = await template_of(host, old)
    lived, finished = [], host.sink.finished

    def look(key: str, event: Finished) -> None:
        lived.append(is_alive(host.sink.starts[key].worker_pid))
        finished(key, event)

    monkeypatch.setattr(host.sink, "finished", look)
    os.kill(old, signal.SIGTERM)
    await eventually(lambda: not is_alive(old))
    os.kill(new, signal.SIGTERM)
    await host.sink.end_of(first)
    assert lived[0] is False
