"""The suite's own manners: what a red test leaves behind, and what becomes of the tests after it."""

from __future__ import annotations

from pathlib import Path

from pytest_below import suite_of

BEGIN = '''
import asyncio
import gc
import os
import socket
import subprocess
import sys
import threading

import grpc
import pytest

from processes import still_alive

pids = []
PARENT = """
import subprocess
orphan = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(orphan.pid, flush=True)
"""


@pytest.fixture(scope="module")
def shared():
    yield []


@pytest.fixture
def opened():
    yield socket.socketpair()
'''

RED = (
    BEGIN
    + '''
async def test_red(shared, opened, tmp_path):
    """Hold everything that can be held, and fail."""
    channel = grpc.aio.insecure_channel("unix:/nowhere")
    call = channel.unary_unary("/any/Call")(b"", wait_for_ready=True)
    file = open(__file__)
    streams = await asyncio.open_connection(sock=opened[0])
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    pids.append(int(parent.stdout.readline()))
    child = subprocess.Popen(["sleep", "600"], env={})
    other = await asyncio.create_subprocess_exec("sleep", "600", stdout=subprocess.PIPE)
    pids.extend([parent.pid, child.pid, other.pid])
    never_awaited = asyncio.sleep(0)
    shared.append("broken")
    circle = [file, streams, socket.socket()]
    circle.append(circle)
    os.environ["LEFT"] = "1"
    os.environ.pop("HOME", None)
    os.chdir("/")
    asyncio.get_running_loop().create_task(asyncio.sleep(600))
    raise RuntimeError("red")


def test_innocent(shared):
    """Find nothing of it."""
    gc.collect()
    assert still_alive(pids, seconds=30) == []
    assert len(pids) == 4
    assert shared == []
    assert ("LEFT" in os.environ, "HOME" in os.environ, os.getcwd() == "/") == (False, True, False)


async def test_innocent_too(shared):
    """Find nothing of it in an event loop, either, and what is shared with the last one."""
    gc.collect()
    assert shared == []
'''
)

RED_AT_ITS_END = (
    BEGIN
    + '''
@pytest.fixture(scope="module")
def child():
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.fixture
def checked(child):
    yield child
    assert child.args == [], "red at its end"


def test_red(checked):
    """Pass, and fail at the end."""


def test_innocent(child):
    """Find a child that lives."""
    assert child.poll() is None
'''
)

CHANGES = (
    BEGIN
    + '''
def test_environment():
    """Change it."""
    os.environ["LEFT"] = "1"


def test_directory(tmp_path):
    """Change it."""
    os.chdir(tmp_path)


def test_own_way(monkeypatch, tmp_path):
    """Change both, and have them changed back."""
    assert ("LEFT" in os.environ, os.getcwd() == str(tmp_path)) == (False, False)
    monkeypatch.setenv("LEFT", "1")
    monkeypatch.chdir(tmp_path)
'''
)


def test_a_red_test_reddens_no_other(tmp_path: Path) -> None:
    """The first test alone is red, though its frames hold channels, sockets, processes and shared objects."""
    printed = suite_of(tmp_path, RED)
    assert "1 failed, 2 passed in" in printed, printed
    assert "FAILED test_it.py::test_red - RuntimeError: red" in printed


def test_what_a_test_shares_ends_when_its_teardown_is_red(tmp_path: Path) -> None:
    """The next test gets a process of its own, not the one that was killed with what the red test has left."""
    printed = suite_of(tmp_path, RED_AT_ITS_END)
    assert "2 passed, 1 error in" in printed, printed


def test_a_test_that_leaves_its_surroundings_changed_is_red(tmp_path: Path) -> None:
    """The one that changes directory or environment for good is named, and the next finds them as they were."""
    printed = suite_of(tmp_path, CHANGES)
    assert "3 passed, 2 errors in" in printed, printed
    assert printed.count("has left the directory or environment changed") >= 2
