"""``nomaflow init``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

import nomaflow_cli
from nomaflow_cli.errors import CliError
from nomaflow_cli.invocation import Invocation, local_command
from nomaflow_cli.output import print_json

__all__ = ["register"]

_SCAFFOLD = Path(nomaflow_cli.__file__).parent / "scaffold"
_RENAMED = {"gitignore": ".gitignore"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(local_command(init))


def init(
    invocation: Invocation,
    directory: Annotated[Path, typer.Argument(help="Project directory; created if it does not exist.")],
) -> None:
    """Create a small working project with a job, a callable and a database pool."""
    files = _files()
    existing = [name for name in files if (directory / name).exists()]
    if existing:
        raise CliError(
            f"{str(directory)!r} already has {', '.join(existing)}; nothing was written",
            reason="ALREADY_THERE",
            fix="name another directory, or move these away",
        )
    try:
        for name, body in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(body, encoding="utf-8")
    except OSError as error:
        raise CliError(
            f"cannot write to {str(directory)!r}: {error.strerror}", reason="UNWRITABLE", fix="name another directory"
        ) from None
    if invocation.as_json:
        print_json({"project": str(directory.absolute()), "files": sorted(files)})
        return
    for name in sorted(files):
        print(f"  {directory / name}")
    name = shlex.quote(str(directory))
    print(f"\nnow: nomaflow up {name}\nand in another terminal: cd {name} && nomaflow run cleanup --follow")


def _files() -> dict[str, str]:
    """Return the files of a new project by relative path."""
    found = {}
    for path in sorted(_SCAFFOLD.rglob("*")):
        name = str(path.relative_to(_SCAFFOLD))
        if path.is_file() and "__pycache__" not in path.parts:
            found[_RENAMED.get(name, name)] = path.read_text(encoding="utf-8")
    return found
