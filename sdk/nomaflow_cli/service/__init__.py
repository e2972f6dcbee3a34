"""``nomaflow service``: systemd units for a project's kernel and hosts, written, looked at and removed."""

from __future__ import annotations

from nomaflow_cli.service.files import Outcome, Written, remove, write
from nomaflow_cli.service.places import Places, require_systemd
from nomaflow_cli.service.systemctl import UnitState, unit_states
from nomaflow_cli.service.units import KERNEL_UNIT, Installation, UnitFile, installed_units

__all__ = [
    "KERNEL_UNIT",
    "Installation",
    "Outcome",
    "Places",
    "UnitFile",
    "UnitState",
    "Written",
    "installed_units",
    "remove",
    "require_systemd",
    "unit_states",
    "write",
]
