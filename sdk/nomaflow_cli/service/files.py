"""Unit files on disk: written whole, recognised by a digest, never overwritten if somebody edited them."""

from __future__ import annotations

import contextlib
import difflib
import enum
import hashlib
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nomaflow_cli.errors import CliError, ExitCode
from nomaflow_cli.service.places import Places
from nomaflow_cli.service.units import UnitFile

__all__ = ["Outcome", "Written", "is_ours", "remove", "write"]

_MARK = "# Written by nomaflow service install; own settings go to a drop-in. sha256="
_PROJECT = re.compile(r"^ExecStart=.* --project (\"[^\"]*\"|\S+)", re.MULTILINE)
_MARKED = re.compile(re.escape(_MARK) + r"([0-9a-f]{64})\n")


class Outcome(enum.StrEnum):
    """The result for a file."""

    WRITTEN = "written"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    REMOVED = "removed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """One file, and the result for it."""

    path: Path
    outcome: Outcome


def marked(text: str) -> str:
    """Return a unit's text below a line with its digest, by which it is recognised later."""
    return f"{_MARK}{_digest(text)}\n{text}"


def is_ours(found: str) -> bool:
    """Return True if a file is unchanged since this or another version wrote it."""
    mark = _MARKED.match(found)
    return mark is not None and mark[1] == _digest(found[mark.end() :])


def write(files: Sequence[UnitFile], places: Places, *, force: bool) -> list[Written]:
    """Write all files, or none if one was edited. Files that belong to the operator are written only once.

    :param force: replace edited files and those of another project
    :raises CliError: if a file was edited by hand, is another project's, or cannot be written
    """
    found = {file.path: _read(places.on_disk(file.path)) for file in files}
    edited = [file for file in files if not file.theirs and _is_edited(found[file.path])]
    if edited and not force:
        raise _edited(edited, found)
    if not force:
        _refuse_another_project(files, found)
    done = []
    for file in files:
        text, before = file.text if file.theirs else marked(file.text), found[file.path]
        if before is not None and (file.theirs or before == text):
            done.append(Written(path=file.path, outcome=Outcome.KEPT if file.theirs else Outcome.UNCHANGED))
            continue
        _put(places.on_disk(file.path), text, mode=0o600 if file.theirs else 0o644)
        done.append(Written(path=file.path, outcome=Outcome.WRITTEN if before is None else Outcome.UPDATED))
    return done


def remove(paths: Sequence[Path], places: Places, *, force: bool) -> list[Written]:
    """Remove units, and directories of drop-ins that are then empty.

    :param force: remove edited files too
    :raises CliError: if one was edited by hand, or cannot be removed
    """
    edited = [path for path in paths if _is_edited(_read(places.on_disk(path)))]
    if edited and not force:
        raise CliError(
            f"edited by hand: {', '.join(map(str, edited))}; nothing was removed",
            reason="EDITED",
            fix="keep a copy, then repeat it with --force",
            exit_code=ExitCode.FAILED,
        )
    for path in paths:
        on_disk = places.on_disk(path)
        try:
            on_disk.unlink()
        except OSError as error:
            raise _unwritable(on_disk, error) from None
        if on_disk.parent.name.endswith(".d"):
            with contextlib.suppress(OSError):  # it holds another drop-in
                on_disk.parent.rmdir()
    return [Written(path=path, outcome=Outcome.REMOVED) for path in paths]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _is_edited(found: str | None) -> bool:
    return found is not None and not is_ours(found)


def _refuse_another_project(files: Sequence[UnitFile], found: dict[Path, str | None]) -> None:
    """Refuse to replace another project's kernel unit: a machine has only one, and it must not change silently."""
    for file in files:
        before, after = (_PROJECT.search(text or "") for text in (found[file.path], file.text))
        if before is not None and after is not None and before[1] != after[1]:
            raise CliError(
                f"{file.unit} is there, for another project: {before[1]}; nothing was written",
                reason="ANOTHER_PROJECT",
                fix="install this team's host alone with --only host; or, to have the unit for this project, --force",
                exit_code=ExitCode.FAILED,
            )


def _edited(files: Sequence[UnitFile], found: dict[Path, str | None]) -> CliError:
    lines = [f"edited by hand: {', '.join(str(file.path) for file in files)}; nothing was written"]
    for file in files:
        before = (found[file.path] or "").splitlines()
        lines += difflib.unified_diff(before, marked(file.text).splitlines(), str(file.path), "new", lineterm="", n=0)
    units = " ".join(shlex.quote(file.unit) for file in files)
    return CliError(
        "\n".join(lines),
        reason="EDITED",
        fix=f"move your lines to a drop-in with: systemctl edit {units}\nthen repeat it with --force",
        exit_code=ExitCode.FAILED,
    )


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unwritable(path, error) from None


def _put(path: Path, text: str, *, mode: int) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text)
        draft.chmod(mode)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> CliError:
    return CliError(
        f"cannot write {str(path)!r}: {(error.strerror or type(error).__name__).lower()}",
        reason="UNWRITABLE",
        fix="run it as root, as with sudo; or with --user, for services of your own",
        exit_code=ExitCode.FAILED,
    )
