"""Findings of the kernel's own tool: the store with its damage, schema and holder, and the certificate."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nomaflow.client.silent_kernel import is_stopped
from nomaflow_api.byte_sizes import byte_size
from nomaflow_cli.doctor.findings import Finding, fine, problem, warning
from nomaflow_cli.doctor.machine import free_space
from nomaflow_cli.errors import CliError
from nomaflow_cli.formatting import amount, count
from nomaflow_cli.store_tool import run_store_tool

_LARGE_WAL = 1 << 30
_MARKS = {
    "moved": (
        "was moved to another store",
        "name that store in [kernel] store of nomaflow.toml; to come back to this one: nomaflow store reclaim STORE",
    ),
    "copying": ("is an incomplete copy", "make the copy again: nomaflow store copy FROM TO"),
}


def examine_store(
    project: Path, *, store: str, deep: bool, serves: str | None, elsewhere: bool = False
) -> Iterator[Finding]:
    """Yield the findings about the store, about leftovers of a kernel that is gone, and about the certificate.

    :param serves: the kind of store that the project's kernel answers from; None if it does not answer
    :param elsewhere: True if the kernel is not this project's, which then need not have a history
    """
    try:
        seen = run_store_tool("inspect", *(["--deep"] if deep else []), project=project, store=store)
    except CliError as error:
        yield problem("store.settings", " ".join(error.message.split()), error.fix)
        with contextlib.suppress(CliError):  # of unreadable settings, which is said above
            yield from _certificate(run_store_tool("certificate", project=project))
        return
    yield from _store(project, seen, serves=serves, elsewhere=elsewhere)
    yield from _certificate(seen["certificate"])


def _store(project: Path, seen: dict[str, Any], *, serves: str | None, elsewhere: bool) -> Iterator[Finding]:
    # The kernel's own variables or options may name another store than those that this command sees.
    if "postgresql" in (seen["kind"], serves):
        yield fine("store.history", "the store is a PostgreSQL database; see the kernel's health")
        return
    if serves is None:
        yield from _left_behind(project, seen)
    path, name = Path(seen["path"]), repr(seen["path"])
    if seen["trouble"]:
        fix = f"check the type, the permissions and the free disk space of {shlex.quote(seen['path'])}"
        yield problem("store.history", f"the history {name} cannot be read: {seen['trouble']}", fix)
    elif path.parent.exists() and not path.parent.is_dir():
        text = f"the history cannot be created: {str(path.parent)!r} is not a directory"
        yield problem("store.history", text, f"mv {shlex.quote(str(path.parent))} elsewhere")
    elif not seen["exists"] and seen["held_by"] > 0:
        holder = seen["held_by"]
        text = f"the history {name} was removed under process {holder}, which is still running"
        yield problem("store.history", text, f"kill {holder}; then: nomaflow restore BACKUP {_quoted(project)}")
    elif not seen["exists"] or seen["empty"]:
        if not elsewhere:
            yield fine("store.history", "there is no history yet; the kernel creates it when it first starts")
    elif seen["damage"]:
        fix = f"stop the kernel, then: nomaflow restore BACKUP {_quoted(project)} --force"
        yield problem("store.damage", f"the history {name} is damaged: {seen['damage']}", fix)
    else:
        yield from _content(seen)
        if path.parent.stat().st_dev != project.stat().st_dev:
            yield free_space("store.disk", path.parent, "the history's disk")


def _content(seen: dict[str, Any]) -> Iterator[Finding]:
    size = byte_size(seen["bytes"] + seen["wal_bytes"])
    schema, newest = seen["revision"], seen["newest_revision"]
    text = f"{count(seen['runs'], 'run')}, {amount(seen['open_runs'])} open, {size}, schema {schema}"
    yield fine("store.history", text)
    unchecked = f"{size} were not checked for damage; to check them: nomaflow doctor --deep"
    yield fine("store.damage", "the history file is not damaged" if seen["checked"] else unchecked)
    if seen["mark"]:
        what, fix = _MARKS[seen["mark"]]
        yield problem("store.moved", f"the history {seen['path']!r} {what}", fix)
    elif not seen["usable"]:
        whose = "a later" if schema > newest else "a development"
        text = f"schema {schema} is from {whose} version; this one knows up to {newest}"
        yield problem("store.schema", text, "install the version that wrote it, or restore a backup")
    elif schema > newest:
        text = f"schema {schema} was written by a later version; this version can still use it"
        yield warning("store.schema", text, "install the later version again when you can")
    if seen["wal_bytes"] > _LARGE_WAL:
        text = f"{byte_size(seen['wal_bytes'])} are in the write-ahead log: a process keeps a read open"
        yield warning("store.wal", text, "stop the process that has the history open besides the kernel")


def _left_behind(project: Path, seen: dict[str, Any]) -> Iterator[Finding]:
    """Yield the leftovers of a kernel that does not answer: its address, its lock."""
    holder = seen["held_by"]
    if seen["held_for"]:
        text = f"a {seen['held_for']}, process {holder}, is using the store"
        yield warning("store.lock", text, "wait until it has finished, then run doctor again")
    elif holder > 0 and is_stopped(holder):
        text = f"process {holder} holds the store, and is stopped (SIGSTOP)"
        yield problem("store.lock", text, f"kill -CONT {holder}")
    elif holder > 0:
        log = _quoted(project / ".nomaflow" / "kernel.log")
        text = f"process {holder} holds the store, and no kernel answers"
        yield problem("store.lock", text, f"read {log}, then: kill {holder}")
    elif (project / ".nomaflow" / "address").exists():
        text = "a kernel that was killed has left its address behind; the next start replaces it"
        yield warning("store.address", text, f"nomaflow up {_quoted(project)}")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _certificate(seen: dict[str, Any]) -> Iterator[Finding]:
    """Yield the findings about the certificate; none if the settings name no certificate."""
    if seen["refused"]:
        message, _, fix = seen["refused"].rpartition("; ")
        yield problem("kernel.certificate", message or fix, fix if message else "name two PEM files of one pair")
    elif seen["path"]:
        until = datetime.fromtimestamp(seen["expires_at"], UTC)
        names, days = ", ".join(seen["names"]) or "no name", (until - datetime.now(UTC)).days
        text = f"the certificate for {names} is valid until {until:%Y-%m-%d}, {days} days"
        renew = f"renew {seen['path']!r}; a running kernel loads the new one by itself"
        soon = seen["expires_soon"]
        yield warning("kernel.certificate", text, renew) if soon else fine("kernel.certificate", text)
