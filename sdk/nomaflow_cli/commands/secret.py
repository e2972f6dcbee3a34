"""``nomaflow secret``: keys of encrypted values, the values themselves, and where a project uses them."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from nomaflow_cli.errors import CliError
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.invocation import Directory, Invocation, command_group, local_command
from nomaflow_cli.options import argument, option
from nomaflow_cli.output import answer
from nomaflow_cli.parsers import hidden_value
from nomaflow_cli.project import host_table, project_of
from nomaflow_telemetry.visible_text import printable

if TYPE_CHECKING:
    from nomaflow_project.reading.encryption import KeyRing

_FILES = "name a file of the project, and run the command as the user whom it belongs to"
_GROUP = command_group("secret", "Encrypt values of a project's files, and list them.")


@local_command("keygen", group=_GROUP, needs=("host",))
def keygen(
    *,
    invocation: Invocation,
    file: Path | None = argument(
        "Key file to make, or to add a newer key to; default: print the key.", default=None, show_default=False
    ),
) -> None:
    """Make a key. Name its file as \\[host] secret_key_file, and keep it out of version control."""
    from nomaflow_project.check.secrets import replace_file
    from nomaflow_project.reading.encryption import Undecipherable, new_key, ring_of
    from nomaflow_project.reading.regular_files import read_regular

    key = new_key()
    key_id = ring_of(key, "the new key").ids[0]
    if file is None:
        answer(invocation, {"key": key, "key_id": key_id}, key)
        return
    try:
        old = read_regular(file) if file.exists() else b""
        keys = key.encode("ascii") + b"\n" + old
        ring_of(keys.decode("ascii"), str(file))
        replace_file(file, keys)
    except (UnicodeDecodeError, Undecipherable):
        raise CliError(
            f"{str(file)!r} is no key file, so no key was added", reason="UNWRITABLE", fix="name a new file"
        ) from None
    except OSError as error:
        raise CliError(
            f"the key file {str(file)!r} cannot be written: {(error.strerror or '').lower()}",
            reason="UNWRITABLE",
            fix="name a file in a directory that you may write",
        ) from None
    then = "`nomaflow secret rotate` encrypts the values of the older keys again" if old else "keep it safe"
    answer(
        invocation,
        {"file": str(file), "key_id": key_id, "added": bool(old)},
        f"{'added' if old else 'made'} key {key_id} in {printable(str(file))}; {then}",
    )


@local_command("set", group=_GROUP, needs=("host",))
def set_value(
    *,
    invocation: Invocation,
    directory: Directory = None,
    place: str = option("Write it over the text of this key: 'connectors.toml:pools.default.password'.", "--in"),
) -> None:
    """Encrypt a value, from a prompt or from standard input; print the text for the project's files, or write it."""
    project = project_of(invocation, directory)
    ring = _keys(project)
    if not place:
        text = ring.encrypt(hidden_value("value"))
        answer(invocation, {"value": text, "key_id": ring.ids[0]}, text)
        return
    from nomaflow_project.check.secrets import encrypt_in_place

    name, _, key = place.partition(":")
    if not key:
        raise CliError(
            f"--in is {place!r}, expected FILE:KEY", fix="for example connectors.toml:pools.default.password"
        )
    file = project / name
    try:
        encrypt_in_place(file, key, ring.encrypt(hidden_value("value")))
    except ValueError as error:
        raise CliError(str(error), fix="name a key whose value is a text; see `nomaflow secret list`") from None
    except OSError as error:
        problem = f"the file {str(file)!r} cannot be read or replaced: {(error.strerror or '').lower()}"
        raise CliError(problem, reason="UNWRITABLE", fix=_FILES, exit_code=ExitCode.FAILED) from None
    answer(
        invocation,
        {"file": name, "path": key, "key_id": ring.ids[0]},
        f"{printable(name)}: {printable(key)} is encrypted with key {ring.ids[0]}",
    )


@local_command("list", group=_GROUP, needs=("host",))
def list_secrets(*, invocation: Invocation, directory: Directory = None) -> ExitCode:
    """List where the project's files refer to secrets, and whether each can be read. Exits with 1 if one cannot."""
    from nomaflow_project.check.secrets import secret_uses

    uses = secret_uses(project_of(invocation, directory), os.environ)
    lines = []
    for each in uses:
        key = f" (key {each.key_id})" if each.key_id else ""
        place = f"{each.file}:{each.line}" if each.line else each.file
        lines.append(printable(f"{each.state:<16}{place}  {each.path}  {each.source}{key}".rstrip()))
        if each.problem:
            lines.append(printable(f"{'':<16}{each.problem}"))
    answer(invocation, {"secrets": [asdict(each) for each in uses]}, "\n".join(lines) or "no file refers to a secret")
    return ExitCode.of(all(each.state != "unreadable" for each in uses))


@local_command("rotate", group=_GROUP, needs=("host",))
def rotate_secrets(*, invocation: Invocation, directory: Directory = None) -> None:
    """Encrypt every encrypted value of the project's files with the newest key. Hosts load it like any change."""
    from nomaflow_project.check.secrets import rotate
    from nomaflow_project.reading.encryption import Undecipherable

    project = project_of(invocation, directory)
    _keys(project)
    try:
        done = rotate(project, os.environ)
    except Undecipherable as error:
        raise CliError(error.problem, reason="SECRET_UNREADABLE", fix=error.fix, exit_code=ExitCode.FAILED) from None
    except OSError as error:
        problem = f"the file {error.filename!r} cannot be replaced: {(error.strerror or '').lower()}"
        raise CliError(problem, reason="UNWRITABLE", fix=_FILES, exit_code=ExitCode.FAILED) from None
    lines = [f"{printable(name)}: {count} encrypted again" for name, count in done.changed.items()]
    lines.append(f"{done.unchanged} had the newest key already")
    answer(invocation, {"changed": dict(done.changed), "unchanged": done.unchanged}, "\n".join(lines))


@local_command("show-key-id", group=_GROUP, needs=("host",))
def show_key_id(*, invocation: Invocation, directory: Directory = None) -> None:
    """Print the ids of the project's keys, newest first. An id names a key and reveals nothing of it."""
    ring = _keys(project_of(invocation, directory))
    page = "\n".join([f"from {printable(ring.source)}, newest first:", *(f"  {each}" for each in ring.ids)])
    answer(invocation, {"source": ring.source, "key_ids": list(ring.ids)}, page)


def _keys(project: Path) -> KeyRing:
    from nomaflow_project.reading.encryption import Undecipherable
    from nomaflow_project.reading.project_files import ProjectFiles

    try:
        return ProjectFiles(project, os.environ).sources.keys()
    except Undecipherable as error:
        host_table(project)  # a file that cannot be read may name a key
        raise CliError(error.problem, reason="SECRET_UNREADABLE", fix=error.fix) from None
