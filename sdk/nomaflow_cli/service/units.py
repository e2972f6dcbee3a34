"""The units of a project: templates in this package, filled in and escaped for systemd."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from nomaflow_cli.errors import CliError
from nomaflow_cli.service.systemd import Places

__all__ = ["ALERTS_UNIT", "CONSOLE_UNIT", "KERNEL_UNIT", "Installation", "UnitFile", "host_unit", "installed_units"]

KERNEL_UNIT = "nomaflow-kernel.service"
CONSOLE_UNIT = "nomaflow-console.service"
ALERTS_UNIT = "nomaflow-alerts.service"

_HOST_TEMPLATE = "nomaflow-host@.service"
_DROP_IN = "10-project.conf"  # before the override.conf of `systemctl edit`
_TEMPLATES = Path(__file__).parent / "templates"
_PLACEHOLDER = re.compile(r"@([A-Z_]+)@")
_PLAIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OWN_TMP = ("/tmp", "/var/tmp")  # noqa: S108  # only compared, never written to


@dataclass(frozen=True, slots=True)
class UnitFile:
    """A file to write.

    :param unit: the unit that it is part of
    :param theirs: True if it belongs to the operator afterwards: it is never written a second time
    """

    unit: str
    path: Path
    text: str
    theirs: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Installation:
    """The requested installation.

    :param project: absolute
    :param python: the interpreter with this product and the plugins' dependencies
    :param user: the user of the processes, if the system's manager starts them
    :param host: the host's name; empty for no host
    :param kernel: True if the project's kernel is wanted; ``console`` and ``alerts`` the same of these
    """

    places: Places
    project: Path
    python: Path
    user: str
    host: str
    kernel: bool
    console: bool
    alerts: bool

    @property
    def units(self) -> tuple[str, ...]:
        """The units to enable."""
        named = (
            (KERNEL_UNIT, self.kernel),
            (host_unit(self.host), self.host),
            (CONSOLE_UNIT, self.console),
            (ALERTS_UNIT, self.alerts),
        )
        return tuple(unit for unit, wanted in named if wanted)

    def files(self) -> list[UnitFile]:
        """Return every file of the installation.

        :raises CliError: if a service could not see the project
        """
        _require_visible(self.project, self.places)
        units, config = self.places.units, self.places.config
        files = []
        if self.kernel:
            files += [
                UnitFile(KERNEL_UNIT, units / KERNEL_UNIT, self._filled("kernel.service", system="kernel.system.conf")),
                UnitFile(KERNEL_UNIT, config / "kernel.env", self._filled("kernel.env"), theirs=True),
            ]
        if self.host:
            unit, settings = host_unit(self.host), config / "hosts" / f"{self.host}.env"
            text = self._filled("host.service", system="host.system.conf")
            files += [
                UnitFile(unit, units / _HOST_TEMPLATE, text),
                UnitFile(unit, units / f"{unit}.d" / _DROP_IN, self._filled("project.conf", system="user.conf")),
                UnitFile(unit, settings, self._filled("host.env"), theirs=True),
            ]
        if self.console:
            text = self._filled("console.service", system="console.system.conf")
            files += [
                UnitFile(CONSOLE_UNIT, units / CONSOLE_UNIT, text),
                UnitFile(CONSOLE_UNIT, config / "console.env", self._filled("console.env"), theirs=True),
            ]
        if self.alerts:
            text = self._filled("alerts.service", system="console.system.conf")
            files += [
                UnitFile(ALERTS_UNIT, units / ALERTS_UNIT, text),
                UnitFile(ALERTS_UNIT, config / "alerts.env", self._filled("alerts.env"), theirs=True),
            ]
        return files

    def _filled(self, template: str, *, system: str = "") -> str:
        """Return the text of a template.

        :param system: the template of what only the system's manager can hold; empty for none
        """
        project, path = str(self.project), f"{self.python.parent}:{_PLAIN_PATH}"
        values = {
            "PROJECT": _escaped(project),
            "PROJECT_WORD": _quoted(project),
            "PROJECT_ARGUMENT": _quoted(project).replace("$", "$$"),
            "PYTHON": _quoted(str(self.python)),
            "PATH_WORD": _quoted(f"PATH={path}"),
            "CONFIG": _escaped(str(self.places.config)),
            "USER": _escaped(self.user),
            "NAME": self.host,
            "WANTED_BY": "default.target" if self.places.user else "multi-user.target",
            "SYSTEM": self._filled(system) if system and not self.places.user else "",
        }
        text = (_TEMPLATES / template).read_text(encoding="utf-8")
        return _PLACEHOLDER.sub(lambda found: values[found[1]], text)


def host_unit(name: str) -> str:
    """Return the unit of a host."""
    return _HOST_TEMPLATE.replace("@", f"@{name}")


def installed_units(places: Places) -> dict[str, list[Path]]:
    """Return the installed units, each with its own files; the hosts' common template is under its own name."""
    folder = places.on_disk(places.units)
    fixed = (KERNEL_UNIT, CONSOLE_UNIT, ALERTS_UNIT, _HOST_TEMPLATE)
    found = {name: [places.units / name] for name in fixed if os.path.lexists(folder / name)}
    for drop_in in sorted(folder.glob(f"nomaflow-host@*.service.d/{_DROP_IN}")):
        unit = drop_in.parent.name.removesuffix(".d")
        found[unit] = [places.units / drop_in.relative_to(folder)]
    return found


def _require_visible(project: Path, places: Places) -> None:
    if any(character in str(project) for character in "\n\r\0"):
        raise CliError(f"the path {str(project)!r} has a line break, and units cannot name it", fix="rename it")
    if not places.user and any(project.is_relative_to(each) for each in _OWN_TMP):
        raise CliError(
            f"the project {str(project)!r} is in a temporary directory, and services have one of their own",
            fix="move it, for example to /srv",
        )


def _escaped(text: str) -> str:
    """Return a value in which systemd finds none of its specifiers."""
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """Return a value as one word of a blank-separated list. A command line also needs ``$`` doubled."""
    return '"' + _escaped(text).replace("\\", "\\\\").replace('"', '\\"') + '"'
