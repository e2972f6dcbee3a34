"""The units of a project: templates in this package, filled in and escaped for systemd."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from nomaflow_cli.errors import CliError
from nomaflow_cli.service.systemd import Places

_HOST_TEMPLATE = "nomaflow-host@.service"
_DROP_IN = "10-project.conf"  # before the override.conf of `systemctl edit`
_SYSTEM = {"alerts": "console.system.conf"}
"""Templates of another part that serve this one too."""
_TEMPLATES = Path(__file__).parent / "templates"
_PLACEHOLDER = re.compile(r"@([A-Z_]+)@")
_PLAIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OWN_TMP = ("/tmp", "/var/tmp")  # noqa: S108  # only compared, never written to


class Part(enum.StrEnum):
    """The processes that have a unit."""

    KERNEL = "kernel"
    HOST = "host"
    CONSOLE = "console"
    ALERTS = "alerts"


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
    :param parts: the wanted ones
    :param host: the host's name; empty for no host
    """

    places: Places
    project: Path
    python: Path
    user: str
    parts: Collection[Part]
    host: str

    @property
    def units(self) -> tuple[str, ...]:
        """The units to enable."""
        return tuple(self._unit(part) for part in Part if part in self.parts)

    def files(self) -> list[UnitFile]:
        """Return every file of the installation.

        :raises CliError: if a service could not see the project
        """
        _require_visible(self.project, self.places)
        return [file for part in Part if part in self.parts for file in self._files_of(part)]

    def _unit(self, part: Part) -> str:
        return host_unit(self.host) if part is Part.HOST else _unit_of(part)

    def _files_of(self, part: Part) -> list[UnitFile]:
        unit, units, config = self._unit(part), self.places.units, self.places.config
        text = self._filled(f"{part}.service", system=_SYSTEM.get(part, f"{part}.system.conf"))
        if part is Part.HOST:
            return [
                UnitFile(unit, units / _HOST_TEMPLATE, text),
                UnitFile(unit, units / f"{unit}.d" / _DROP_IN, self._filled("project.conf", system="user.conf")),
                UnitFile(unit, config / "hosts" / f"{self.host}.env", self._filled("host.env"), theirs=True),
            ]
        return [
            UnitFile(unit, units / unit, text),
            UnitFile(unit, config / f"{part}.env", self._filled(f"{part}.env"), theirs=True),
        ]

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


def _unit_of(part: Part) -> str:
    return f"nomaflow-{part}.service"


def host_unit(name: str) -> str:
    """Return the unit of a host."""
    return _HOST_TEMPLATE.replace("@", f"@{name}")


def installed_units(places: Places) -> dict[str, list[Path]]:
    """Return the installed units, each with its own files; the hosts' common template is under its own name."""
    folder = places.on_disk(places.units)
    fixed = (*(_unit_of(part) for part in Part if part is not Part.HOST), _HOST_TEMPLATE)
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
