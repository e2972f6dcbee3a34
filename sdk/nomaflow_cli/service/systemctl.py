"""The states of units, from systemd's own command."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from nomaflow_cli.errors import CliError, ExitCode
from nomaflow_cli.service.places import Places

__all__ = ["UnitState", "unit_states"]

_PROPERTIES = ("Id", "ActiveState", "SubState", "UnitFileState", "MainPID", "NRestarts", "StatusText")


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitState:
    """One unit, in systemd's own words.

    :param active: ``active``, ``activating``, ``failed``, ``inactive`` …
    :param enabled: ``enabled``, ``disabled`` …
    :param pid: 0 if it is not running
    :param text: the status text that the process last reported
    """

    unit: str
    active: str
    sub: str
    enabled: str
    pid: int
    restarts: int
    text: str

    @property
    def runs(self) -> bool:
        """True if a process of it runs, or is about to."""
        return self.active not in ("inactive", "failed")


def unit_states(units: Sequence[str], places: Places) -> list[UnitState]:
    """Return the state of units.

    :raises CliError: if systemd cannot be asked
    """
    if not units:
        return []
    command = [*places.systemctl, "show", "--property", ",".join(_PROPERTIES), "--", *units]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise _cannot_ask("systemctl is not installed") from None
    if answer.returncode:
        raise _cannot_ask(answer.stderr.strip() or f"exit code {answer.returncode}")
    return [_state(block) for block in answer.stdout.strip().split("\n\n")]


def _state(block: str) -> UnitState:
    found = dict(line.split("=", 1) for line in block.splitlines())
    return UnitState(
        unit=found["Id"],
        active=found["ActiveState"],
        sub=found["SubState"],
        enabled=found["UnitFileState"] or "disabled",
        pid=int(found.get("MainPID") or 0),
        restarts=int(found.get("NRestarts") or 0),
        text=found.get("StatusText", ""),
    )


def _cannot_ask(why: str) -> CliError:
    return CliError(
        f"systemd cannot be asked: {why}",
        reason="NO_SYSTEMD",
        fix="look with: systemctl status 'nomaflow-*'",
        exit_code=ExitCode.FAILED,
    )
