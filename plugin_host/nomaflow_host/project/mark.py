"""The mark that every process below a host bears, whatever it does to its environment, session or descriptors.

It is the hard limit RLIMIT_LOCKS, which Linux has not enforced since 2.4 (setrlimit(2)) but keeps. Children inherit it,
even across exec; /proc shows it to everybody; anyone may lower it and only CAP_SYS_RESOURCE raises it.
"""

from __future__ import annotations

import resource
import secrets
from collections.abc import Iterator

from nomaflow_host.reaper.proc import ProcessIdentity, processes

_RLIMIT_LOCKS = 10  # include/uapi/asm-generic/resource.h; the resource module does not name it
_MOST = 1 << 62
_LEAST = 1 << 32
_LINE = b"Max file locks"


def new_mark() -> int:
    """Return a random mark that this process may put on its children; 0 if its own limit leaves no choice."""
    _, hard = resource.getrlimit(_RLIMIT_LOCKS)
    most = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    return most - 1 - secrets.randbelow(most // 2) if most >= _LEAST else 0


def put_mark(pid: int, mark: int) -> bool:
    """Put a mark on a child of this process that has no children yet; return False if the system refuses."""
    if not mark:
        return False
    try:
        resource.prlimit(pid, _RLIMIT_LOCKS, (mark, mark))
    except (OSError, ValueError):
        return False
    return True


def marked(mark: int) -> Iterator[ProcessIdentity]:
    """Yield the living processes that bear a mark."""
    hard = str(mark).encode()
    for info in processes().values():
        if info.alive and _hard_limit(info.pid) == hard:
            yield info.identity


def _hard_limit(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:
            line = next((line for line in file if line.startswith(_LINE)), b"")
    except OSError:
        return b""
    return line[len(_LINE) :].split()[1] if line else b""
