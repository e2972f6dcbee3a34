"""The end of a store's holder: certain for a process of this machine, unknown for any other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from nomaflow_kernel.store.holders import certainly_ended, own_process

PROGRAM = (
    "import sys; from nomaflow_kernel.store.holders import own_process; print(own_process(), flush=True);"
    " sys.stdin.read()"
)


def test_this_process_lives() -> None:
    """A process that asks of itself has not ended."""
    assert own_process()
    assert not certainly_ended(own_process())


def test_a_stopped_process_lives_and_a_killed_one_does_not() -> None:
    """SIGSTOP ends nothing; after a SIGKILL the end is certain, before its parent has collected it too."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = process.stdout.readline().decode().strip()
        assert not certainly_ended(told)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        assert not certainly_ended(told)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert certainly_ended(told)
    assert certainly_ended(told)


def test_a_pid_in_use_again_is_another_process() -> None:
    """The time at which a process began tells it from a later one of the same number."""
    place, pid, started = own_process().split(" ")
    assert certainly_ended(f"{place} {pid} {int(started) - 1}")


@pytest.mark.parametrize("told", ["", "nonsense", "another-boot/pid:[4026531836] 1 1", "/ 1 1"])
def test_of_other_places_nothing_is_certain(told: str) -> None:
    """Another boot, another pid namespace, or a text of no meaning: the process may live."""
    assert not certainly_ended(told)


def test_a_text_without_a_pid_is_nothing_certain() -> None:
    """A malformed text in the store gives no certainty."""
    place = own_process().split(" ")[0]
    assert not certainly_ended(place)
    assert not certainly_ended(f"{place} x 1")
