"""Describes a worker's death."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

__all__ = ["death_of", "said_of_exit"]

_LIMITS = {
    "memory_limit": "the step's processes used more memory than memory_mb allows, and were killed",
    "process_limit": "the step had more processes than max_processes allows, and they were killed",
}
_NAMES = {
    signal.SIGSEGV: "a segmentation fault",
    signal.SIGABRT: "an abort",
    signal.SIGBUS: "a bus error",
    signal.SIGFPE: "an arithmetic fault",
    signal.SIGILL: "an illegal instruction",
}


def death_of(exited: Mapping[str, Any]) -> tuple[str, str]:
    """Return reason code and reason for a worker that ended unasked.

    :param exited: the reaper's message: ``code``, ``signal``, ``cause``
    """
    cause = exited.get("cause")
    if cause in _LIMITS:
        return str(cause), _LIMITS[str(cause)]
    if "error" in exited:
        return "worker_died", f"the worker could not be started: {exited['error']}"
    return "worker_died", f"the worker died: {said_of_exit(exited.get('signal'), exited.get('code'))}"


def said_of_exit(signum: int | None, code: int | None) -> str:
    """Return in plain words how a process ended: by a signal, or with an exit code."""
    if signum is None:
        return f"its code ended the process with exit code {code}"
    if signum == signal.SIGKILL:
        return "killed by the system, probably out of memory (signal 9, SIGKILL)"
    try:
        name = signal.Signals(signum).name
    except ValueError:
        name = "a real-time signal"
    words = _NAMES.get(signal.Signals(signum)) if signum in _NAMES else None
    return f"{words} (signal {signum}, {name})" if words else f"ended by signal {signum} ({name})"
