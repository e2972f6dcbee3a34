"""Inspecting a running attempt shows its processes and the stacks of its code, whatever that code does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Host, StartHost

from nomaflow_api.v1.attempt_inspection_pb2 import InspectAttemptResponse
from nomaflow_api.v1.letter_words import Isolation
from waiting import eventually

CODE = """
import asyncio, os, subprocess, time

def _mark(marker):
    with open(marker + ".part", "w") as file:
        file.write(str(os.getpid()))
    os.rename(marker + ".part", marker)

async def waits(*, marker, **_):
    async def inner():
        await asyncio.sleep(600)
    helper = asyncio.create_task(inner(), name="helper of s3cret-token")
    _mark(marker)
    await helper

async def threads(*, marker, **_):
    _mark(marker)
    await asyncio.to_thread(time.sleep, 600)

def sleeps(*, marker, token="", **_):
    child = subprocess.Popen(["sleep", "600", token] if not token else ["sh", "-c", "sleep 600", token])
    _mark(marker)
    deep(3)

def deep(n):
    if n:
        return deep(n - 1)
    time.sleep(600)

async def blocks(*, marker, **_):
    _mark(marker)
    while True:
        pass

def native(*, marker, **_):
    import ctypes
    libc = ctypes.PyDLL(None)
    _mark(marker)
    libc.sleep(600)
"""


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A project whose steps do what one would want to look at."""
    plugins = tmp_path / "team" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "busy.py").write_text(CODE)
    return plugins.parent


async def look(host: Host, key: str, shows: Callable[[InspectAttemptResponse, float], bool]) -> InspectAttemptResponse:
    """Look until what is seen, and how long it took, is so: code runs shortly before it does what is to be seen."""

    async def looked() -> InspectAttemptResponse | None:
        began = time.monotonic()
        seen = await host.supervisor.inspect(key)
        assert seen is not None
        return seen if shows(seen, time.monotonic() - began) else None

    found: InspectAttemptResponse = await eventually(looked)
    return found


def deepest(seen: InspectAttemptResponse) -> str:
    """Return the innermost frame of the attempt's first stack that it has, if it has any."""
    return next((stack.frames[-1] for stack in seen.stacks if stack.of_attempt and stack.frames), "")


async def test_a_thread_that_sleeps_is_seen_with_its_child(start_host: StartHost, team: Path, marker: Path) -> None:
    """The worker is first, its child's command line is told without the credential, the deepest frame is last."""
    host = await start_host(team)
    key = host.run("busy:sleeps", {"marker": str(marker), "token": "s3cret-token"}, secret_keys=("token",))
    pid = await host.started_in(marker)
    seen = await look(host, key, lambda seen, _: deepest(seen).endswith(" deep") and seen.note == "")
    assert [process.pid == pid for process in seen.processes] == [True, False, False][: len(seen.processes)]
    assert seen.processes[1].ppid == pid
    assert "sleep 600" in seen.processes[1].command
    assert "s3cret-token" not in "".join(process.command for process in seen.processes)
    assert seen.processes[0].rss_bytes > 1 << 20
    assert abs(seen.processes[0].started_at.ToMicroseconds() / 1e6 - time.time()) < 60
    mine = [stack for stack in seen.stacks if stack.of_attempt]
    assert [frame.partition(":")[0] for frame in mine[0].frames[-4:]] == ["plugins/busy.py"] * 4


async def test_tasks_are_seen_with_what_they_wait_for(start_host: StartHost, team: Path, marker: Path) -> None:
    """Tasks that the step made are its own; nothing of a neighbour in the same worker is shown."""
    host = await start_host(team, shared_workers=1)
    key = host.run("busy:waits", {"marker": str(marker)})
    await host.started_in(marker)
    seen = await look(host, key, lambda seen, _: seen.note == "")
    mine = {stack.name: stack.frames for stack in seen.stacks if stack.of_attempt}
    assert any(frame.endswith("waits.<locals>.inner") for frame in mine["helper of s3cret-token"])
    other = host.run("busy:threads", {"marker": f"{marker}-2"})
    await host.started_in(Path(f"{marker}-2"))
    seen = await look(host, key, lambda seen, _: seen.note.startswith("other attempts run in its worker"))
    assert all(stack.of_attempt for stack in seen.stacks)
    assert sum(stack.name == "helper of s3cret-token" for stack in seen.stacks) == 1
    assert await host.supervisor.inspect(other) is not None


@pytest.mark.parametrize(("step", "isolation"), [("blocks", Isolation.BY_KIND), ("native", Isolation.BY_KIND)])
async def test_code_that_lets_nothing_answer_is_seen_from_outside(
    start_host: StartHost, team: Path, marker: Path, step: str, isolation: Isolation
) -> None:
    """A blocked loop and native code that holds the interpreter: its Python frames, in three seconds, and a note."""
    host = await start_host(team)
    key = host.run(f"busy:{step}", {"marker": str(marker)}, isolation=isolation)
    pid = await host.started_in(marker)

    def from_outside(seen: InspectAttemptResponse, seconds: float) -> bool:
        told = "the worker did not answer within 1 s" in seen.note
        return told and deepest(seen).endswith(f" {step}") and seconds < 4

    seen = await look(host, key, from_outside)
    assert seen.processes[0].pid == pid
    assert deepest(seen).startswith("plugins/busy.py:")


async def test_what_does_not_run_here_is_not_found(start_host: StartHost, team: Path) -> None:
    """An unknown key, and an attempt that has ended."""
    host = await start_host(team)
    assert await host.supervisor.inspect("run_x/a/1") is None
