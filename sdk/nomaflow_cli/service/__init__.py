"""The implementation of ``nomaflow service``: writes, shows and removes systemd units for a project."""

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
