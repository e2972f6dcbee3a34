"""The implementation of ``nomaflow service``: writes, shows and removes systemd units for a project."""

from __future__ import annotations

from nomaflow_cli.service.files import remove, write
from nomaflow_cli.service.systemd import Places, UnitState, require_systemd, unit_states
from nomaflow_cli.service.units import (
    CONSOLE_UNIT,
    KERNEL_UNIT,
    Installation,
    host_unit,
    installed_units,
)

__all__ = [
    "CONSOLE_UNIT",
    "KERNEL_UNIT",
    "Installation",
    "Places",
    "UnitState",
    "host_unit",
    "installed_units",
    "remove",
    "require_systemd",
    "unit_states",
    "write",
]
