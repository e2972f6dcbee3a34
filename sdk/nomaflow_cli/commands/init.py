"""``nomaflow init``."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import nomaflow_cli
from nomaflow_cli.errors import CliError
from nomaflow_cli.invocation import Invocation, local_command
from nomaflow_cli.options import argument
from nomaflow_cli.output import answer

_SCAFFOLD = Path(nomaflow_cli.__file__).parent / "scaffold"


@local_command("init")
def init(
    invocation: Invocation,
    directory: Path = argument("Project directory; created if it does not exist.", metavar="DIR", parser=Path),
) -> None:
    """Create a small working project: a job, callables and a pool."""
    files = {
        str(path.relative_to(_SCAFFOLD)).replace("gitignore", ".gitignore"): path.read_text(encoding="utf-8")
        for path in _SCAFFOLD.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    begun: list[Path] = []
    try:
        existing = sorted(name for name in files if (directory / name).exists())
        if existing:
            raise CliError(
                f"{str(directory)!r} already has {', '.join(existing)}; nothing was written",
                reason="ALREADY_THERE",
                fix="name another directory, or move these away",
            )
        for name, body in files.items():
            begun.append(directory / name)
            begun[-1].parent.mkdir(parents=True, exist_ok=True)
            begun[-1].write_text(body, encoding="utf-8")
    except OSError as error:
        for path in begun:
            with contextlib.suppress(OSError):  # which could not be written either
                path.unlink()
        raise CliError(
            f"cannot write to {str(directory)!r}: {error.strerror}", reason="UNWRITABLE", fix="name another directory"
        ) from None
    name = shlex.quote(str(directory))
    written = "\n".join(f"  {directory / each}" for each in sorted(files))
    up, there = ("nomaflow up", ", here:") if name == "." else (f"nomaflow up {name}", f": cd {name} &&")
    now = f"now: {up}\nand in another terminal{there} nomaflow run cleanup --follow"
    answer(invocation, {"project": str(directory.absolute()), "files": sorted(files)}, f"{written}\n\n{now}")
