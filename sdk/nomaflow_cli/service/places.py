"""The directories of systemd's units and of this product's settings: for the system, or for one user."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nomaflow_cli.errors import CliError, ExitCode

__all__ = ["Places", "require_systemd"]

_BOOTED = Path("/run/systemd/system")


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """The directories of one variant. Paths in units are these; files are written below ``root``.

    :param user: True for a user's own manager, False for the system's
    :param root: another file system to write to, for example of an image; ``/`` for this one
    """

    units: Path
    config: Path
    user: bool
    root: Path = Path("/")

    @classmethod
    def of_system(cls, *, root: Path = Path("/")) -> Places:
        """Return the places of the system's manager."""
        return cls(units=Path("/etc/systemd/system"), config=Path("/etc/nomaflow"), user=False, root=root)

    @classmethod
    def of_user(cls, environ: Mapping[str, str], *, root: Path = Path("/")) -> Places:
        """Return the places of this user's manager."""
        config = Path(environ.get("XDG_CONFIG_HOME") or Path(os.path.expanduser("~")) / ".config")
        return cls(units=config / "systemd" / "user", config=config / "nomaflow", user=True, root=root)

    def on_disk(self, path: Path) -> Path:
        """Return the path at which a file is written."""
        return self.root / path.relative_to("/")

    @property
    def systemctl(self) -> tuple[str, ...]:
        """The command for this manager."""
        return ("systemctl", "--user") if self.user else ("systemctl",)


def require_systemd(booted: Path = _BOOTED) -> None:
    """Raise an error unless systemd runs this machine.

    :param booted: a directory that only systemd makes, see ``sd_booted(3)``
    :raises CliError: if it does not
    """
    if not booted.is_dir():
        raise CliError(
            "systemd does not run this machine, so nothing would start the units",
            reason="NO_SYSTEMD",
            fix="run the project with: nomaflow up DIR\n"
            "see the units with --print, or write them for another machine with --root DIR",
            exit_code=ExitCode.FAILED,
        )
