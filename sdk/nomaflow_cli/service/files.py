"""Unit files on disk: written whole, recognised by a digest, never overwritten if somebody edited them."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from nomaflow_api.private_file import draft_of
from nomaflow_cli.errors import CliError
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.service.systemd import Places
from nomaflow_cli.service.units import UnitFile

_MARK = "# Written by nomaflow service install; own settings go to a drop-in. sha256="
_PROJECT = re.compile(r"^ExecStart=.* --project (\"[^\"]*\"|\S+)", re.MULTILINE)


def write(files: Sequence[UnitFile], places: Places, *, force: bool) -> dict[Path, str]:
    """Write all files, or none if one was edited. Files that belong to the operator are written only once.

    :param force: replace edited files and those of another project
    :returns: what became of each file: ``written``, ``updated``, ``unchanged`` or ``kept``
    :raises CliError: if a file was edited by hand, is another project's, or cannot be written
    """
    found = {file.path: _read(places.on_disk(file.path)) for file in files}
    if not force:
        _refuse_edited(files, found)
        _refuse_another_project(files, found)
    done = {}
    for file in files:
        before, text = found[file.path], file.text if file.theirs else _marked(file.text)
        if file.theirs and before is not None:
            done[file.path] = "kept"
        elif before == text:
            done[file.path] = "unchanged"
        else:
            _put(places.on_disk(file.path), text, mode=0o600 if file.theirs else 0o644)
            done[file.path] = "written" if before is None else "updated"
    return done


def remove(paths: Sequence[Path], places: Places, *, force: bool) -> None:
    """Remove units, and directories of drop-ins that are then empty.

    :param force: remove edited files too
    :raises CliError: if one was edited by hand, or cannot be removed
    """
    edited = [path for path in paths if _is_edited(_read(places.on_disk(path)))]
    if edited and not force:
        text = f"edited by hand: {', '.join(map(str, edited))}; nothing was removed"
        raise _refusal("EDITED", text, "keep a copy, then repeat it with --force")
    for path in map(places.on_disk, paths):
        try:
            path.unlink()
        except OSError as error:
            raise _unwritable(path, error) from None
        if path.parent.name.endswith(".d"):
            with contextlib.suppress(OSError):  # it holds another drop-in
                path.parent.rmdir()


def _marked(text: str) -> str:
    """Return a unit's text below a line with its digest, by which it is recognised later."""
    return f"{_MARK}{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()}\n{text}"


def _is_edited(found: str | None) -> bool:
    """Return True if a file was changed since this or another version wrote it."""
    return found is not None and _marked(found.partition("\n")[2]) != found


def _refuse_edited(files: Sequence[UnitFile], found: Mapping[Path, str | None]) -> None:
    edited = [file for file in files if not file.theirs and _is_edited(found[file.path])]
    if not edited:
        return
    lines = [f"edited by hand: {', '.join(str(file.path) for file in edited)}; nothing was written"]
    for file in edited:
        before, after = (found[file.path] or "").splitlines(), _marked(file.text).splitlines()
        lines += difflib.unified_diff(before, after, str(file.path), "new", lineterm="", n=0)
    units = shlex.join(file.unit for file in edited)
    fix = f"move your lines to a drop-in with: systemctl edit {units}\nthen repeat it with --force"
    raise _refusal("EDITED", "\n".join(lines), fix)


def _refuse_another_project(files: Sequence[UnitFile], found: Mapping[Path, str | None]) -> None:
    """Refuse to replace another project's kernel unit: a machine has only one, and it must not change silently."""
    for file in files:
        before, after = (_PROJECT.search(text or "") for text in (found[file.path], file.text))
        if before is not None and after is not None and before[1] != after[1]:
            text = f"{file.unit} is there, for another project: {before[1]}; nothing was written"
            fix = "install this team's host alone with --only host; or, to have the unit for this project, --force"
            raise _refusal("ANOTHER_PROJECT", text, fix)


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unwritable(path, error) from None


def _put(path: Path, text: str, *, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft_of(path, text.encode("utf-8", "surrogateescape")) as draft:
            draft.chmod(mode)
            draft.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> CliError:
    text = f"cannot write {str(path)!r}: {(error.strerror or type(error).__name__).lower()}"
    return _refusal("UNWRITABLE", text, "run it as root, as with sudo; or with --user, for services of your own")


def _refusal(reason: str, message: str, fix: str) -> CliError:
    return CliError(message, reason=reason, fix=fix, exit_code=ExitCode.FAILED)
