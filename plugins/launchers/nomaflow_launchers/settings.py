"""``[launcher]`` of a project's nomaflow.toml."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from nomaflow_project.models.launcher_section import LauncherSection
from nomaflow_project.reading.files import SETTINGS_FILE
from nomaflow_project.reading.project_files import ProjectFiles


class CannotStart(Exception):
    """Raised when a launcher cannot start; the text is for a terminal.

    :param exit_code: of its process
    """

    def __init__(self, text: str, *, exit_code: int = os.EX_CONFIG) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def read_launcher(project: Path, environ: Mapping[str, str]) -> LauncherSection:
    """Return the section, with variables of the environment resolved.

    :raises CannotStart: if the file or the section cannot be used, or names no host
    """
    files = ProjectFiles(project, environ)
    if files.error is not None:
        raise CannotStart(str(files.error))
    section, problems = files.section(LauncherSection, "launcher")
    if section is None or problems:
        raise CannotStart("\n".join(map(str, problems)))
    if not section.hosts:
        raise CannotStart(
            f'{SETTINGS_FILE} names no host in [launcher], so nothing would be started; add hosts = ["NAME"]'
        )
    return section
