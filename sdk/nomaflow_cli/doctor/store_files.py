"""Findings of the kernel's own tool: the store with its damage, schema and holder, and the certificate."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nomaflow_cli.doctor.findings import Finding, fine, problem, warning
from nomaflow_cli.errors import CliError
from nomaflow_cli.store_tool import run_store_tool
from nomaflow_cli.wording import amount, count

__all__ = ["examine_certificate", "examine_store"]

_LARGE_WAL = 1 << 30


def examine_store(project: Path, *, store: str, deep: bool, answers: bool) -> Iterator[Finding]:
    """Yield the findings about the store, and about leftovers of a kernel that is gone.

    :param answers: True if the project's kernel answers
    """
    try:
        seen = run_store_tool("inspect", *(["--deep"] if deep else []), project=project, store=store)
    except CliError as error:
        yield problem("store.settings", " ".join(error.message.split()), error.fix)
        return
    if seen["kind"] != "sqlite":
        yield fine("store.history", "the store is a PostgreSQL database; see the kernel's health")
        return
    yield from _left_behind(project, seen, answers=answers)
    path = Path(seen["path"])
    if seen["trouble"]:
        yield problem(
            "store.history",
            f"the history {seen['path']!r} cannot be read: {seen['trouble']}",
            f"check the type, the permissions and the free disk space of {shlex.quote(seen['path'])}",
        )
        return
    if path.parent.exists() and not path.parent.is_dir():
        yield problem(
            "store.history",
            f"the history cannot be created: {str(path.parent)!r} is not a directory",
            f"mv {shlex.quote(str(path.parent))} elsewhere",
        )
        return
    if not seen["exists"] and seen["held_by"] > 0:
        yield problem(
            "store.history",
            f"the history {seen['path']!r} was removed under process {seen['held_by']}, which is still running",
            f"kill {seen['held_by']}; then: nomaflow restore BACKUP {shlex.quote(str(project))}",
        )
        return
    if not seen["exists"] or seen["empty"]:
        yield fine("store.history", "there is no history yet; the kernel creates it when it first starts")
        return
    yield from _content(project, seen)


def _content(project: Path, seen: dict[str, Any]) -> Iterator[Finding]:
    if seen["damage"]:
        yield problem(
            "store.damage",
            f"the history {seen['path']!r} is damaged: {seen['damage']}",
            f"stop the kernel, then: nomaflow restore BACKUP {shlex.quote(str(project))} --force",
        )
        return
    size = f"{amount(seen['bytes'] >> 20)} MiB" if seen["bytes"] >> 20 else f"{amount(seen['bytes'] >> 10)} KiB"
    text = f"{count(seen['runs'], 'run')}, {amount(seen['open_runs'])} open, {size}, schema {seen['revision']}"
    yield fine("store.history", text)
    if seen["checked"]:
        yield fine("store.damage", "the history file is not damaged")
    else:
        yield fine("store.damage", f"{size} were not checked for damage; to check them: nomaflow doctor --deep")
    if seen["mark"]:
        what = "was moved to another store" if seen["mark"] == "moved" else "is an incomplete copy"
        yield problem("store.moved", f"the history {seen['path']!r} {what}", "see `nomaflow store` of docs/backup.md")
    elif not seen["usable"]:
        yield problem(
            "store.schema",
            f"schema {seen['revision']} is from a later version; this one knows up to {seen['newest_revision']}",
            "install the version that wrote it, or restore a backup",
        )
    elif seen["revision"] > seen["newest_revision"]:
        yield warning(
            "store.schema",
            f"schema {seen['revision']} was written by a later version; this version can still use it",
            "install the later version again when you can",
        )
    if seen["wal_bytes"] > _LARGE_WAL:
        yield warning(
            "store.wal",
            f"{amount(seen['wal_bytes'] >> 20)} MiB are in the write-ahead log: a process keeps a read open",
            "stop the process that has the history open besides the kernel",
        )


def _left_behind(project: Path, seen: dict[str, Any], *, answers: bool) -> Iterator[Finding]:
    """Yield the leftovers of a kernel that does not answer: its address, its lock."""
    if answers:
        return
    if seen["held_for"]:
        yield warning(
            "store.lock",
            f"a {seen['held_for']}, process {seen['held_by']}, is using the store",
            "wait until it has finished, then run doctor again",
        )
    elif seen["held_by"] > 0:
        yield problem(
            "store.lock",
            f"process {seen['held_by']} holds the store, and no kernel answers",
            f"read {shlex.quote(str(project / '.nomaflow' / 'kernel.log'))}, then: kill {seen['held_by']}",
        )
    elif (project / ".nomaflow" / "address").exists():
        yield warning(
            "store.address",
            "a kernel that was killed has left its address behind; the next start replaces it",
            f"nomaflow up {shlex.quote(str(project))}",
        )


def examine_certificate(project: Path) -> Iterator[Finding]:
    """Yield the findings about the certificate; none if the settings name no certificate."""
    try:
        seen = run_store_tool("certificate", project=project)
    except CliError:
        return  # the check of the store reports unreadable settings
    if seen["refused"]:
        message, _, fix = seen["refused"].rpartition("; ")
        yield problem("kernel.certificate", message or fix, fix if message else "name two PEM files of one pair")
    elif seen["path"]:
        until = datetime.fromtimestamp(seen["expires_at"], UTC)
        days = (until - datetime.now(UTC)).days
        text = (
            f"the certificate for {', '.join(seen['names']) or 'no name'} is valid until {until:%Y-%m-%d}, {days} days"
        )
        if seen["expires_soon"]:
            yield warning(
                "kernel.certificate", text, f"renew {seen['path']!r}; a running kernel loads the new one by itself"
            )
        else:
            yield fine("kernel.certificate", text)
