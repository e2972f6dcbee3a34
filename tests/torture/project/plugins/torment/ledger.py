"""The ledger that steps write themselves, one JSON object a line by O_APPEND, so that our own records need no trust."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any


def note(ledger: str, key: str, what: str, **more: Any) -> None:
    """Append one entry, in one write."""
    entry = {"key": key, "pid": os.getpid(), "what": what, "at": time.monotonic_ns(), **more}
    fd = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, json.dumps(entry).encode() + b"\n")
    finally:
        os.close(fd)


@contextlib.contextmanager
def attempt(ledger: str, key: str) -> Iterator[dict[str, Any]]:
    """Note start and end of an attempt, what it yields with the end, and whether an earlier one still runs."""
    before = _unfinished(ledger, key.rpartition("/")[0])
    note(ledger, key, "start")
    for other, pid in before.items():
        if _runs(pid):
            note(ledger, key, "overlap", other=other, other_pid=pid)
    said: dict[str, Any] = {}
    outcome = "ok"
    try:
        yield said
    except BaseException as error:
        outcome = type(error).__name__
        raise
    finally:
        note(ledger, key, "end", outcome=outcome, **said)


def _unfinished(ledger: str, step: str) -> dict[str, int]:
    """Return key and process of the attempts at a step that have not noted their end."""
    found: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError), open(ledger, encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            if entry["key"].rpartition("/")[0] == step:
                if entry["what"] == "start":
                    found[entry["key"]] = entry["pid"]
                elif entry["what"] == "end":
                    found.pop(entry["key"], None)
    return found


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            stat = file.read()
    except OSError:
        return False
    return stat[stat.rindex(")") + 2] not in "ZX"
