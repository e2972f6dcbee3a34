"""``[alerts]`` of a project's nomaflow.toml, with its secrets resolved."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from nomaflow_project.models.alerts_section import AlertsSection

_FILE = "nomaflow.toml"


class CannotServe(Exception):
    """Raised when the alerts cannot start, or not go on; the text is for a terminal, and has the way out.

    :param exit_code: of the process
    """

    def __init__(self, text: str, *, exit_code: int = os.EX_CONFIG) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def checked_alerts(project: Path, environ: Mapping[str, str]) -> AlertsSection:
    """Return the section as a child process reads it: what it takes to check a file would stay in this one for ever.

    Call it before there are threads.

    :raises CannotServe: as `read_alerts`
    :raises ModuleNotFoundError: if what it needs is not installed
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        _answer(project, environ, writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        raise CannotServe(f"{_FILE} could not be read; the reason is above")
    section: AlertsSection | Exception = pickle.loads(answer)  # noqa: S301  # of our own child
    if isinstance(section, Exception):
        raise section
    return section


def _answer(project: Path, environ: Mapping[str, str], writer: int) -> NoReturn:
    code = 1
    try:
        try:
            answer: AlertsSection | Exception = read_alerts(project, environ)
        except (CannotServe, ModuleNotFoundError) as error:
            answer = error
        with open(writer, "wb") as pipe:
            pickle.dump(answer, pipe)
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)  # whatever happens: the rest of the process is its parent's


def read_alerts(project: Path, environ: Mapping[str, str]) -> AlertsSection:
    """Return the section.

    :raises CannotServe: if the file or the section cannot be used, or there is no channel
    """
    from nomaflow_project.reading.problems import Place
    from nomaflow_project.reading.project_files import ProjectFiles
    from nomaflow_project.reading.validation import validate

    files = ProjectFiles(project, environ)
    if files.error is not None:
        raise CannotServe(str(files.error))
    # No URL, password or token of it is ever shown: a text that lacks a variable is.
    section, problems = validate(AlertsSection, files.table("alerts"), Place(_FILE, "alerts"), hide_values=True)
    if section is None or problems:
        raise CannotServe("\n".join(map(str, problems)))
    if not section.channels:
        raise CannotServe(
            f"{_FILE} has no channel in [alerts], so nobody would be told; add one, such as "
            'channels.ops = { url = "${OPS_URL}" } (docs/alerts.md has recipes)'
        )
    return section
