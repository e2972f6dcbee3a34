"""systemd on this machine: the directories of its units, for the system or for one user, and the states of units."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nomaflow.client.profiles import configuration_directory
from nomaflow_cli.errors import CliError
from nomaflow_cli.exit_codes import ExitCode

_BOOTED = Path("/run/systemd/system")
_PROPERTIES = ("Id", "ActiveState", "SubState", "UnitFileState", "MainPID", "StatusText")


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """The directories of one variant. Paths in units are these; files are written below ``root``.

    :param user: True for a user's own manager, False for the system's
    :param root: another file system to write to, for example of an image; ``/`` for this one
    """

    units: Path
    config: Path
    user: bool
    root: Path

    @classmethod
    def of(cls, environ: Mapping[str, str], *, user: bool, root: Path = Path("/")) -> Places:
        """Return the places of this user's manager or of the system's."""
        if not user:
            return cls(units=Path("/etc/systemd/system"), config=Path("/etc/nomaflow"), user=False, root=root)
        config = configuration_directory(environ)
        return cls(units=config / "systemd" / "user", config=config / "nomaflow", user=True, root=root)

    def on_disk(self, path: Path) -> Path:
        """Return the path at which a file is written."""
        return self.root / path.relative_to("/")

    @property
    def elsewhere(self) -> bool:
        """True if the files are written to another file system, which this machine's systemd does not see."""
        return self.root != Path("/")

    @property
    def systemctl(self) -> tuple[str, ...]:
        """The command for this manager."""
        return ("systemctl", "--user") if self.user else ("systemctl",)


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitState:
    """One unit, in systemd's own words.

    :param active: ``active``, ``activating``, ``failed``, ``inactive`` …
    :param enabled: ``enabled``, ``disabled`` …
    :param pid: None if it is not running
    :param text: the status text that the process last reported; None if there is none
    """

    unit: str
    active: str
    sub: str
    enabled: str
    pid: int | None
    text: str | None

    @property
    def runs(self) -> bool:
        """True if a process of it runs, or is about to."""
        return self.active not in ("inactive", "failed")


def require_systemd() -> None:
    """Check that systemd runs this machine, see ``sd_booted(3)``.

    :raises CliError: if it does not
    """
    if not _BOOTED.is_dir():
        raise CliError(
            "systemd does not run this machine, so nothing would start the units",
            reason="NO_SYSTEMD",
            fix="run the project with: nomaflow up DIR\n"
            "see the units with --print, or write them for another machine with --root DIR",
            exit_code=ExitCode.FAILED,
        )


def unit_states(units: Sequence[str], places: Places) -> list[UnitState]:
    """Return the state of units; a template, which only other units use, has none.

    :raises CliError: if systemd cannot be asked
    """
    units = [unit for unit in units if not unit.endswith("@.service")]
    if not units:
        return []
    command = [*places.systemctl, "show", "--property", ",".join(_PROPERTIES), "--", *units]
    try:
        reply = subprocess.run(command, capture_output=True, text=True, check=False)
        trouble = (reply.stderr.strip() or f"exit code {reply.returncode}") if reply.returncode else ""
    except FileNotFoundError:
        trouble = "systemctl is not installed"
    if trouble:
        raise CliError(
            f"systemd cannot be asked: {trouble}",
            reason="NO_SYSTEMD",
            fix="look with: systemctl status 'nomaflow-*'",
            exit_code=ExitCode.FAILED,
        )
    return [_state(block) for block in reply.stdout.strip().split("\n\n")]


def _state(block: str) -> UnitState:
    found = dict(line.split("=", 1) for line in block.splitlines())
    return UnitState(
        unit=found["Id"],
        active=found["ActiveState"],
        sub=found["SubState"],
        enabled=found["UnitFileState"] or "disabled",
        pid=int(found.get("MainPID") or 0) or None,
        text=found.get("StatusText") or None,
    )
