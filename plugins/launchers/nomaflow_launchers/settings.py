"""``[launcher]`` of a project's nomaflow.toml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nomaflow_project.models.launcher_section import LauncherSection
from nomaflow_project.reading.files import SETTINGS_FILE
from nomaflow_project.reading.project_files import ProjectFiles


class SettingsError(Exception):
    """Raised when the settings cannot be used; the text is for a terminal."""


def read_launcher(project: Path, environ: Mapping[str, str]) -> LauncherSection:
    """Return the section, with variables of the environment resolved.

    :raises SettingsError: if the file or the section cannot be used, or names no host
    """
    files = ProjectFiles(project, environ)
    if files.error is not None:
        raise SettingsError(str(files.error))
    section, problems = files.section(LauncherSection, "launcher")
    if section is None or problems:
        raise SettingsError("\n".join(map(str, problems)))
    if not section.hosts:
        raise SettingsError(
            f'{SETTINGS_FILE} names no host in [launcher], so nothing would be started; add hosts = ["NAME"]'
        )
    return section
